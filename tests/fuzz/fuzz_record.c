/* The record that a `dir:` store keeps beside a file, which anybody who may
 * write there can change: what is accepted has one form. */
#include "blob/dir_priv.h"

#include <endian.h>

#include "tests/fuzz/fuzz.h"

/* As in dir_record.c: the fuzzer would never guess it. */
static uint64_t checksum(const char *buf, size_t len)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (unsigned char)buf[i]) * UINT64_C(0x100000001b3);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = BASE_STR_INIT, out = BASE_STR_INIT;
	struct base_str again = BASE_STR_INIT;
	struct dir_record rec;
	uint64_t sum;

	base_str_add(&in, "fbd1", 4);
	base_str_add(&in, data, size);
	sum = htole64(checksum(in.data, in.len));
	base_str_add(&in, &sum, sizeof(sum));
	if (dir_record_decode(in.data, in.len, &rec) == 0) {
		dir_record_encode(&rec, &out);
		dir_record_fini(&rec);
		FUZZ_CHECK(out.len <= in.len);
		FUZZ_CHECK(dir_record_decode(out.data, out.len, &rec) == 0);
		dir_record_encode(&rec, &again);
		dir_record_fini(&rec);
		FUZZ_CHECK(again.len == out.len &&
			memcmp(again.data, out.data, out.len) == 0);
	}
	base_str_fini(&in);
	base_str_fini(&out);
	base_str_fini(&again);
	return 0;
}
