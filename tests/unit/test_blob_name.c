/* Names: the bijection between local paths and blob names. */
#include "blob/name.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blob/store.h"

#define Q "\xe2\x80\x9b"       /* the quote, U+201B */
#define PIC_BS "\xef\xbc\xbc"  /* U+FF3C */
#define PIC_DOT "\xef\xbc\x8e" /* U+FF0E */
#define PIC_SOH "\xe2\x90\x81" /* U+2401 */
#define PIC_DEL "\xe2\x90\xa1" /* U+2421 */
#define FUZZ_ROUNDS 100000

static int encode_len(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	int err = blob_name_encode(path, &s);

	base_str_fini(&s);
	return err;
}

static int decode_err(const char *blob)
{
	struct base_str s = BASE_STR_INIT;
	int err = blob_name_decode(blob, strlen(blob), &s);

	base_str_fini(&s);
	return err;
}

/* Both ways. */
static void check_pair(const char *path, const char *blob)
{
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(blob_name_encode(path, &s), 0);
	ck_assert_str_eq(s.data, blob);
	base_str_clear(&s);
	ck_assert_int_eq(blob_name_decode(blob, strlen(blob), &s), 0);
	ck_assert_str_eq(s.data, path);
	base_str_fini(&s);
}

START_TEST(ordinary_names_stay)
{
	static const char *const names[] = { "a", "a/b.bin", ".hidden", "a..b",
		"...x", "with space", "100%", "a+b#c?d",
		"\xc3\xa4\xf0\x9f\x98\x80", "x" PIC_DOT "y", Q, "it" Q "s",
		Q "raw" Q, Q "blob", "a" Q "8z", "a:b*c|d<e>\"", "~", " lead",
		"trail ", "\xe2\x90\x80" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check_pair(names[i], names[i]);
}
END_TEST

START_TEST(names_are_spelt_as_rclone_does)
{
	check_pair("a\\b", "a" PIC_BS "b");
	check_pair("a.", "a" PIC_DOT);
	check_pair("...", ".." PIC_DOT);
	check_pair("d./f.", "d" PIC_DOT "/f" PIC_DOT);
	check_pair("\x01\x7f", PIC_SOH PIC_DEL);
	check_pair("a\nb",
		"a\xe2\x90\x8a"
		"b");
	check_pair("\xff", Q "FF");
	check_pair("a\xc3", "a" Q "C3");
	check_pair("a" PIC_BS, "a" Q PIC_BS);
	check_pair("a" PIC_DOT, "a" Q PIC_DOT);
	check_pair("a" Q Q "b", "a" Q Q Q "b");
	check_pair(Q "FF", Q Q "FF");
	check_pair(Q ".", Q Q PIC_DOT);
}
END_TEST

START_TEST(refused_characters_are_spelt_in_hex)
{
	check_pair("\xc2\x81", Q "C2" Q "81");
	check_pair("\xef\xbf\xbe", Q "EF" Q "BF" Q "BE");
	check_pair("\xef\xb7\x90", Q "EF" Q "B7" Q "90");
	check_pair("\xf0\x9f\xbf\xbf", Q "F0" Q "9F" Q "BF" Q "BF");
	check_pair("\xed\xa0\x80", Q "ED" Q "A0" Q "80"); /* surrogate */
	check_pair("\xc0\xaf", Q "C0" Q "AF");		  /* long slash */
}
END_TEST

START_TEST(odd_blobs_are_shown_and_lead_back)
{
	check_pair("a/" Q "raw/b", "a//b");
	check_pair(Q "raw/lead", "/lead");
	check_pair("." Q "raw/x", "./x");
	check_pair(".." Q "raw/.." Q "raw/etc", "../../etc");
	check_pair("a." Q "raw", "a.");
	check_pair("a\\b" Q "raw", "a\\b");
	check_pair("\x01" Q "raw", "\x01");
	check_pair(Q Q Q "raw", Q Q);
	/* What looks raw is moved on. */
	check_pair("a." Q "raw" Q "raw", "a." Q "raw");
	check_pair("a." Q "raw" Q "raw" Q "raw", "a." Q "raw" Q "raw");
	/* What looks raw and is not stays. */
	check_pair("a" Q "raw", "a" Q "raw");
}
END_TEST

START_TEST(blob_that_looks_like_shadow_is_another)
{
	check_pair("x" Q "blob" Q "raw", "x" Q "blob");
	check_pair("x" Q "blob" Q "raw/y", "x" Q "blob/y");
}
END_TEST

START_TEST(shadow_encodes_to_plain_blob)
{
	char shadow[64];
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(blob_name_shadow("d/x", shadow, sizeof(shadow)), 0);
	ck_assert_str_eq(shadow, "d/x" Q "blob");
	ck_assert_int_eq(blob_name_encode(shadow, &s), 0);
	ck_assert_str_eq(s.data, "d/x");
	base_str_clear(&s);
	/* of an odd blob */
	ck_assert_int_eq(
		blob_name_shadow("a." Q "raw", shadow, sizeof(shadow)), 0);
	ck_assert_int_eq(blob_name_encode(shadow, &s), 0);
	ck_assert_str_eq(s.data, "a.");
	base_str_fini(&s);
}
END_TEST

START_TEST(shadow_is_no_directory)
{
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(encode_len("x" Q "blob/y"), -EINVAL);
	ck_assert_int_eq(encode_len("x" Q "blob" Q "blob"), -EINVAL);
	ck_assert_int_eq(blob_name_prefix("x" Q "blob", &s), -EINVAL);
	base_str_fini(&s);
}
END_TEST

START_TEST(shadow_too_long_is_refused)
{
	char path[260], shadow[300];

	memset(path, 'x', 248);
	path[248] = '\0';
	ck_assert_int_eq(blob_name_shadow(path, shadow, sizeof(shadow)), 0);
	path[248] = 'x';
	path[249] = '\0';
	ck_assert_int_eq(
		blob_name_shadow(path, shadow, sizeof(shadow)), -ENAMETOOLONG);
	ck_assert_int_eq(blob_name_shadow("abc", shadow, 10), -ENAMETOOLONG);
	ck_assert_int_eq(blob_name_shadow("abc", shadow, 11), 0);
}
END_TEST

START_TEST(reserved_names_are_known)
{
	ck_assert(blob_name_is_reserved("d/x" Q "blob"));
	ck_assert(blob_name_is_reserved("a." Q "raw"));
	ck_assert(blob_name_is_reserved("x/" Q "raw"));
	ck_assert(blob_name_is_reserved(".." Q "raw"));
	ck_assert(!blob_name_is_reserved("a" Q "raw"));
	ck_assert(!blob_name_is_reserved(Q "blob"));
	ck_assert(!blob_name_is_reserved("a."));
	ck_assert(!blob_name_is_reserved(Q "raw/new"));
	ck_assert(!blob_name_is_reserved(""));
}
END_TEST

START_TEST(prefix_of_directory)
{
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(blob_name_prefix("", &s), 0);
	ck_assert_uint_eq(s.len, 0);
	ck_assert_int_eq(blob_name_prefix("a./b", &s), 0);
	ck_assert_str_eq(s.data, "a" PIC_DOT "/b/");
	base_str_clear(&s);
	ck_assert_int_eq(blob_name_prefix(Q "raw", &s), 0);
	ck_assert_str_eq(s.data, "/");
	base_str_fini(&s);
}
END_TEST

START_TEST(blob_without_a_name_is_refused)
{
	ck_assert_int_eq(encode_len(Q "raw"), -EINVAL);
	ck_assert_int_eq(encode_len("x/" Q "raw"), -EINVAL);
}
END_TEST

START_TEST(nonsense_paths_are_refused)
{
	static const char *const paths[] = { "", "/", "/a", "a/", "a//b", ".",
		"..", "a/../b", "./a" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		ck_assert_int_eq(encode_len(paths[i]), -EINVAL);
}
END_TEST

START_TEST(invalid_utf8_and_nul_are_refused_from_the_store)
{
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(decode_err("a\xff"), -EINVAL);
	ck_assert_int_eq(decode_err("\xed\xa0\x80"), -EINVAL);
	ck_assert_int_eq(blob_name_decode("a\0b", 3, &s), -EINVAL);
	ck_assert_ptr_null(s.data);
}
END_TEST

/* n times `part`, in groups of `group` with a slash between. */
static char *repeat(const char *part, size_t n, size_t group)
{
	struct base_str s = BASE_STR_INIT;

	for (size_t i = 0; i < n; i++) {
		if (i > 0 && i % group == 0)
			base_str_putc(&s, '/');
		base_str_puts(&s, part);
	}
	return base_str_take(&s);
}

static int encode_repeated(const char *part, size_t n, size_t group)
{
	char *path = repeat(part, n, group);
	int err = encode_len(path);

	free(path);
	return err;
}

START_TEST(limits_are_held)
{
	/* 820 and 204 slashes are 1,024 units. */
	ck_assert_int_eq(encode_repeated("x", 820, 4), 0);
	ck_assert_int_eq(encode_repeated("x", 824, 4), -ENAMETOOLONG);
	ck_assert_int_eq(encode_repeated("x", 254, 1), 0);
	ck_assert_int_eq(encode_repeated("x", 255, 1), -ENAMETOOLONG);
	ck_assert_int_eq(encode_repeated("x", 255, 255), 0);
	ck_assert_int_eq(encode_repeated("x", 256, 256), -ENAMETOOLONG);
	/* Two units each: 505 faces and 8 slashes are 1,018. */
	ck_assert_int_eq(encode_repeated("\xf0\x9f\x98\x80", 505, 60), 0);
	ck_assert_int_eq(
		encode_repeated("\xf0\x9f\x98\x80", 510, 60), -ENAMETOOLONG);
	/* Escapes count as written: three units a byte. */
	ck_assert_int_eq(encode_repeated("\xff", 341, 200), 0);
	ck_assert_int_eq(encode_repeated("\xff", 342, 200), -ENAMETOOLONG);
}
END_TEST

START_TEST(long_components_of_the_store_are_refused)
{
	char *blob = repeat("x", 256, 256);

	ck_assert_int_eq(decode_err(blob), -ENAMETOOLONG);
	blob[255] = '\0';
	ck_assert_int_eq(decode_err(blob), 0);
	blob[254] = '.'; /* odd: the mark does not fit */
	ck_assert_int_eq(decode_err(blob), -ENAMETOOLONG);
	blob[248] = '.';
	blob[249] = '\0';
	ck_assert_int_eq(decode_err(blob), 0);
	free(blob);
	blob = repeat("x", 255, 1);
	ck_assert_int_eq(decode_err(blob), -ENAMETOOLONG);
	free(blob);
}
END_TEST

START_TEST(url_keeps_unreserved_and_slash)
{
	struct base_str s = BASE_STR_INIT;

	blob_name_url("a/b c+%#?~._-\xc3\xa4&=", &s);
	ck_assert_str_eq(s.data, "a/b%20c%2B%25%23%3F~._-%C3%A4%26%3D");
	base_str_fini(&s);
}
END_TEST

/* ---- the fuzz ---- */

static uint64_t seed;

static uint32_t roll(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 33) % n;
}

/* NOLINTBEGIN(bugprone-suspicious-missing-comma): quoted pieces */
static const char *const pieces[] = { "a", ".", "..", "\\", "\x01", "\x1f",
	"\x7f", "8", "F", "0", "FF", Q, Q, Q "raw", Q "raw", Q "blob", Q "FF",
	Q "C2" Q "81", "raw", PIC_BS, PIC_DOT, PIC_SOH, PIC_DEL, "\xe2\x90\x80",
	"\xc2\x81", "\xef\xbf\xbe", "\xef\xbf\xbd", "\xf0\x9f\x98\x80",
	"\xc3\xa4", " ", "/", "/", "//",
	/* not UTF-8: local only */
	"\xff", "\x80", "\xe2", "\xe2\x80", "\xc2", "\xed\xa0\x80", "\xf0" };
/* NOLINTEND(bugprone-suspicious-missing-comma) */
#define PIECES (sizeof(pieces) / sizeof(pieces[0]))
#define PIECES_UTF8 (PIECES - 7)

static char *random_name(size_t from)
{
	struct base_str s = BASE_STR_INIT;
	uint32_t n = 1 + roll(roll(50) == 0 ? 120 : 9);

	while (n-- > 0)
		base_str_puts(&s, pieces[roll((uint32_t)from)]);
	return base_str_take(&s);
}

static bool is_safe(const char *blob)
{
	size_t len = strlen(blob);

	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)blob[i] < 0x20 || blob[i] == 0x7f ||
			blob[i] == '\\')
			return false;
		if (blob[i] == '.' && (i + 1 == len || blob[i + 1] == '/'))
			return false;
	}
	return true;
}

/* Is some component a shadow, or raw? */
static bool any_reserved(const char *path)
{
	char *copy = base_strdup(path);
	bool found = false;

	for (char *p = copy, *c; !found && (c = strsep(&p, "/")) != NULL;)
		found = blob_name_is_reserved(c);
	free(copy);
	return found;
}

static void check_local_way(const char *path)
{
	struct base_str blob = BASE_STR_INIT, back = BASE_STR_INIT;

	if (blob_name_encode(path, &blob) == 0) {
		ck_assert_int_eq(
			blob_name_decode(blob.data, blob.len, &back), 0);
		if (strcmp(back.data, path) != 0) {
			struct base_str again = BASE_STR_INIT;
			size_t n = strlen(back.data);

			/* A shadow: the plain name and the mark. */
			ck_assert_int_eq(strncmp(path, back.data, n), 0);
			ck_assert_str_eq(path + n, Q "blob");
			ck_assert_int_eq(
				blob_name_encode(back.data, &again), 0);
			ck_assert_str_eq(again.data, blob.data);
			base_str_fini(&again);
		}
		if (!any_reserved(path))
			ck_assert_msg(is_safe(blob.data), "%s", path);
	}
	base_str_fini(&blob);
	base_str_fini(&back);
}

static void check_blob_way(const char *blob)
{
	struct base_str path = BASE_STR_INIT, back = BASE_STR_INIT;
	size_t len = strlen(blob);
	char shadow[8192];

	if (blob_name_decode(blob, len, &path) < 0)
		goto out;
	if (len > 0 && blob[len - 1] != '/') {
		ck_assert_int_eq(blob_name_encode(path.data, &back), 0);
		ck_assert_str_eq(back.data, blob);
		base_str_clear(&back);
		if (blob_name_shadow(path.data, shadow, sizeof(shadow)) == 0) {
			ck_assert_int_eq(blob_name_encode(shadow, &back), 0);
			ck_assert_str_eq(back.data, blob);
			ck_assert(blob_name_is_reserved(shadow));
			base_str_clear(&back);
		}
	}
	ck_assert_int_eq(blob_name_prefix(path.data, &back), 0);
	ck_assert_uint_eq(back.len, len + 1);
	ck_assert_int_eq(memcmp(back.data, blob, len), 0);
	ck_assert_int_eq(back.data[len], '/');
	/* A valid path: prefix() has checked its components. */
	ck_assert(path.len > 0);
out:
	base_str_fini(&path);
	base_str_fini(&back);
}

START_TEST(encoding_is_a_bijection)
{
	const char *given = getenv("SEED");

	seed = given ? strtoull(given, NULL, 0) : 0x9e3779b97f4a7c15;
	for (int i = 0; i < FUZZ_ROUNDS; i++) {
		char *path = random_name(PIECES);
		char *blob = random_name(PIECES_UTF8);

		check_local_way(path);
		check_local_way(blob);
		check_blob_way(blob);
		free(path);
		free(blob);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob_name");
	TCase *tc = tcase_create("name");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, ordinary_names_stay);
	tcase_add_test(tc, names_are_spelt_as_rclone_does);
	tcase_add_test(tc, refused_characters_are_spelt_in_hex);
	tcase_add_test(tc, odd_blobs_are_shown_and_lead_back);
	tcase_add_test(tc, blob_that_looks_like_shadow_is_another);
	tcase_add_test(tc, shadow_encodes_to_plain_blob);
	tcase_add_test(tc, shadow_is_no_directory);
	tcase_add_test(tc, shadow_too_long_is_refused);
	tcase_add_test(tc, reserved_names_are_known);
	tcase_add_test(tc, prefix_of_directory);
	tcase_add_test(tc, blob_without_a_name_is_refused);
	tcase_add_test(tc, nonsense_paths_are_refused);
	tcase_add_test(tc, invalid_utf8_and_nul_are_refused_from_the_store);
	tcase_add_test(tc, limits_are_held);
	tcase_add_test(tc, long_components_of_the_store_are_refused);
	tcase_add_test(tc, url_keeps_unreserved_and_slash);
	tcase_add_test(tc, encoding_is_a_bijection);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
