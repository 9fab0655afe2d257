/* STORE of the command line: what is accepted has one canonical form, which
 * is its own, and holds no query (a SAS). */
#include "blob/store.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	char url[4096], again[4096], why[512] = "";

	if (blob_store_canonical(text, url, sizeof(url), why, sizeof(why)) ==
		0) {
		FUZZ_CHECK(blob_store_canonical(url, again, sizeof(again), why,
				   sizeof(why)) == 0);
		FUZZ_CHECK(strcmp(url, again) == 0);
		FUZZ_CHECK(strncmp(url, "http", 4) != 0 ||
			strchr(url, '?') == NULL);
	} else {
		FUZZ_CHECK(why[0] != '\0');
	}
	free(text);
	return 0;
}
