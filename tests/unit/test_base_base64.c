/* Base64, both alphabets. */
#include "base/base64.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

START_TEST(vectors_of_rfc_4648)
{
	static const char *const pairs[][2] = { { "f", "Zg==" },
		{ "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
	struct base_str s = BASE_STR_INIT;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		base_str_clear(&s);
		base_base64_encode(pairs[i][0], strlen(pairs[i][0]), &s);
		ck_assert_str_eq(s.data, pairs[i][1]);
		base_str_clear(&s);
		ck_assert_int_eq(base_base64_decode(
					 pairs[i][1], strlen(pairs[i][1]), &s),
			0);
		ck_assert_str_eq(s.data, pairs[i][0]);
	}
	base_str_fini(&s);
}
END_TEST

START_TEST(empty_is_empty)
{
	struct base_str s = BASE_STR_INIT;

	base_base64_encode("", 0, &s);
	ck_assert_uint_eq(s.len, 0);
	ck_assert_int_eq(base_base64_decode("", 0, &s), 0);
	ck_assert_int_eq(base_base64url_decode("", 0, &s), 0);
	ck_assert_uint_eq(s.len, 0);
	base_str_fini(&s);
}
END_TEST

START_TEST(alphabets_differ)
{
	struct base_str s = BASE_STR_INIT;

	base_base64_encode("\xfb\xff", 2, &s);
	ck_assert_str_eq(s.data, "+/8=");
	base_str_clear(&s);
	base_base64url_encode("\xfb\xff", 2, &s);
	ck_assert_str_eq(s.data, "-_8");
	base_str_clear(&s);
	ck_assert_int_eq(base_base64_decode("-_8=", 4, &s), -EINVAL);
	ck_assert_int_eq(base_base64url_decode("+/8", 3, &s), -EINVAL);
	base_str_fini(&s);
}
END_TEST

START_TEST(every_length_goes_round)
{
	uint8_t buf[256];
	struct base_str text = BASE_STR_INIT, back = BASE_STR_INIT;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 167 + 13);
	for (size_t n = 1; n <= sizeof(buf); n++) {
		base_str_clear(&text);
		base_str_clear(&back);
		base_base64_encode(buf, n, &text);
		ck_assert_uint_eq(text.len, (n + 2) / 3 * 4);
		ck_assert_int_eq(
			base_base64_decode(text.data, text.len, &back), 0);
		ck_assert_uint_eq(back.len, n);
		ck_assert_mem_eq(back.data, buf, n);
		base_str_clear(&text);
		base_str_clear(&back);
		base_base64url_encode(buf, n, &text);
		ck_assert_int_eq(
			base_base64url_decode(text.data, text.len, &back), 0);
		ck_assert_uint_eq(back.len, n);
		ck_assert_mem_eq(back.data, buf, n);
	}
	base_str_fini(&text);
	base_str_fini(&back);
}
END_TEST

START_TEST(other_spellings_are_refused)
{
	static const char *const bad[] = { "Z", "Zg",
		"Zg=", "Zg===", "====", "=",
		"Zh==", "Zm9=", "Zm9v=", "Z m8=", "Zm8=\n", "Zm=8",
		"Zg==Zg==", "\xc3\xa4==" };
	struct base_str s = BASE_STR_INIT;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(base_base64_decode(bad[i], strlen(bad[i]), &s) ==
				-EINVAL,
			"%s", bad[i]);
	ck_assert_int_eq(base_base64url_decode("Zg==", 4, &s), -EINVAL);
	ck_assert_int_eq(base_base64url_decode("Zh", 2, &s), -EINVAL);
	ck_assert_int_eq(base_base64_decode("Zm\0v", 4, &s), -EINVAL);
	ck_assert_ptr_null(s.data);
}
END_TEST

START_TEST(buffer_is_never_overrun)
{
	uint8_t buf[3];
	size_t len;

	ck_assert_int_eq(
		base_base64_decode_buf(BASE_BASE64, "Zm9v", 4, buf, 2, &len),
		-ENOSPC);
	ck_assert_int_eq(
		base_base64_decode_buf(BASE_BASE64, "Zm9v", 4, buf, 3, &len),
		0);
	ck_assert_uint_eq(len, 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base_base64");
	TCase *tc = tcase_create("base64");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, vectors_of_rfc_4648);
	tcase_add_test(tc, empty_is_empty);
	tcase_add_test(tc, alphabets_differ);
	tcase_add_test(tc, every_length_goes_round);
	tcase_add_test(tc, other_spellings_are_refused);
	tcase_add_test(tc, buffer_is_never_overrun);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
