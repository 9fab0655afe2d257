/* Names: the two halves of the bijection, and URLs. */
#include "blob/name.h"

#include "blob/store.h"
#include "tests/fuzz/fuzz.h"

static void check_path(const char *path)
{
	struct base_str blob = BASE_STR_INIT, back = BASE_STR_INIT;
	char shadow[4096];

	blob_name_is_reserved(path);
	blob_name_shadow(path, shadow, sizeof(shadow));
	blob_name_prefix(path, &back);
	base_str_clear(&back);
	if (blob_name_encode(path, &blob) == 0) {
		FUZZ_CHECK(blob.len > 0);
		FUZZ_CHECK(blob_name_decode(blob.data, blob.len, &back) == 0);
		/* A shadow is another name of the plain blob. */
		FUZZ_CHECK(strcmp(back.data, path) == 0 ||
			blob_name_is_reserved(path));
	}
	base_str_fini(&blob);
	base_str_fini(&back);
}

static void check_blob(const char *blob, size_t len)
{
	struct base_str path = BASE_STR_INIT, back = BASE_STR_INIT;

	if (blob_name_decode(blob, len, &path) == 0) {
		FUZZ_CHECK(path.len == strlen(path.data) && path.len > 0);
		FUZZ_CHECK(path.data[0] != '/');
		FUZZ_CHECK(strstr(path.data, "//") == NULL);
		FUZZ_CHECK(strcmp(path.data, "..") != 0);
		FUZZ_CHECK(strncmp(path.data, "../", 3) != 0);
		FUZZ_CHECK(strstr(path.data, "/../") == NULL);
		if (len == 0 || blob[len - 1] == '/') {
			/* What is left of "x//": a directory, never a blob. */
			FUZZ_CHECK(blob_name_prefix(path.data, &back) == 0);
			FUZZ_CHECK(back.len == len + 1);
		} else {
			FUZZ_CHECK(blob_name_encode(path.data, &back) == 0);
			FUZZ_CHECK(back.len == len);
		}
		FUZZ_CHECK(memcmp(back.data, blob, len) == 0);
		base_str_clear(&path);
		blob_name_url(back.data, &path);
	}
	base_str_fini(&path);
	base_str_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);

	check_path(text);
	check_blob(text, size);
	free(text);
	return 0;
}
