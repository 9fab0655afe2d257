/* Claims about PUT, DELETE and names. */
#include "tests/store/contract.h"
#include "blob/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum blob_result del(const char *name, const char *etag)
{
	enum blob_result result;
	struct call c;

	call_init(&c, BLOB_DELETE, name);
	c.req.cond.if_match = etag;
	call_run(&c);
	result = c.req.result;
	call_fini(&c);
	return result;
}

START_TEST(put_creates_where_nothing_is)
{
	must_put(path("f"), "hello", 5, NULL);
	must_hold(path("f"), "hello", 5);
	must_put(path("empty"), "", 0, NULL);
	must_hold(path("empty"), "", 0);
	must_put(path("a/b/c/d"), "deep", 4, NULL);
	must_hold(path("a/b/c/d"), "deep", 4);
}
END_TEST

START_TEST(put_that_creates_fails_where_something_is)
{
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_put(path("f"), "first", 5, etag);
	call_init(&c, BLOB_PUT, path("f"));
	c.req.cond.if_none_match_any = true;
	call_body(&c, &c.req.in.put.body, "second", 6);
	call_run(&c);
	call_must(&c, BLOB_CONDITION);
	ck_assert_int_eq(c.req.err, -EEXIST);
	ck_assert_str_ne(c.req.code, "");
	call_fini(&c);
	must_hold(path("f"), "first", 5);
}
END_TEST

START_TEST(put_replaces_what_it_saw)
{
	char one[BLOB_ETAG_MAX], two[BLOB_ETAG_MAX], three[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, one);
	ck_assert_int_eq(put(path("f"), one, "second", 6, two), BLOB_OK);
	must_hold(path("f"), "second", 6);
	ck_assert_str_ne(one, two);
	/* The same bytes are a new state all the same. */
	ck_assert_int_eq(put(path("f"), two, "second", 6, three), BLOB_OK);
	ck_assert_str_ne(two, three);
}
END_TEST

START_TEST(put_over_what_it_did_not_see_fails)
{
	char one[BLOB_ETAG_MAX], two[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, one);
	ck_assert_int_eq(put(path("f"), one, "second", 6, two), BLOB_OK);
	ck_assert_int_eq(put(path("f"), one, "third", 5, NULL), BLOB_CONDITION);
	must_hold(path("f"), "second", 6);
}
END_TEST

START_TEST(put_over_what_is_gone_fails)
{
	char etag[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, etag);
	ck_assert_int_eq(del(path("f"), etag), BLOB_OK);
	ck_assert_int_eq(
		put(path("f"), etag, "second", 6, NULL), BLOB_CONDITION);
	must_be_gone(path("f"));
}
END_TEST

START_TEST(etags_of_quick_puts_differ)
{
	char etags[20][BLOB_ETAG_MAX];

	must_put(path("f"), "same", 4, etags[0]);
	for (unsigned i = 1; i < 20; i++) {
		ck_assert_int_eq(
			put(path("f"), etags[i - 1], "same", 4, etags[i]),
			BLOB_OK);
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(etags[i], etags[k]);
	}
}
END_TEST

START_TEST(put_with_wrong_md5_is_corrupt_and_changes_nothing)
{
	static const uint8_t wrong[16] = { 1, 2, 3 };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_put(path("f"), "first", 5, etag);
	for (unsigned i = 0; i < 2; i++) {
		call_init(&c, BLOB_PUT, i ? path("g") : path("f"));
		c.req.cond.if_match = i ? NULL : etag;
		c.req.cond.if_none_match_any = i;
		call_body(&c, &c.req.in.put.body, "second", 6);
		c.req.in.put.body.md5 = wrong;
		call_run(&c);
		call_must(&c, BLOB_CORRUPT);
		ck_assert_int_eq(c.req.err, -EIO);
		call_fini(&c);
	}
	must_hold(path("f"), "first", 5);
	must_be_gone(path("g"));
}
END_TEST

START_TEST(put_reads_a_range_of_a_file)
{
	char *buf = bytes_new(3 * MIB, 3);
	FILE *f = tmpfile();
	struct call c;

	ck_assert_uint_eq(fwrite(buf, 1, 3 * MIB, f), 3 * MIB);
	fflush(f);
	call_init(&c, BLOB_PUT, path("f"));
	c.req.cond.if_none_match_any = true;
	c.req.in.put.body.fd = fileno(f);
	c.req.in.put.body.offset = 12345;
	c.req.in.put.body.len_bytes = 2 * MIB;
	blob_md5(buf + 12345, 2 * MIB, c.md5);
	c.req.in.put.body.md5 = c.md5;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	must_hold(path("f"), buf + 12345, 2 * MIB);
	fclose(f);
	free(buf);
}
END_TEST

START_TEST(put_of_a_file_cut_meanwhile_is_corrupt)
{
	FILE *f = tmpfile();
	struct call c;

	ck_assert_uint_eq(fwrite("short", 1, 5, f), 5);
	fflush(f);
	call_init(&c, BLOB_PUT, path("f"));
	c.req.cond.if_none_match_any = true;
	c.req.in.put.body.fd = fileno(f);
	c.req.in.put.body.len_bytes = 100;
	c.req.in.put.body.md5 = c.md5;
	call_run(&c);
	call_must(&c, BLOB_CORRUPT);
	call_fini(&c);
	must_be_gone(path("f"));
	fclose(f);
}
END_TEST

START_TEST(delete_removes_what_it_saw)
{
	char etag[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, etag);
	ck_assert_int_eq(del(path("f"), etag), BLOB_OK);
	must_be_gone(path("f"));
}
END_TEST

START_TEST(delete_of_what_it_did_not_see_fails)
{
	char one[BLOB_ETAG_MAX], two[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, one);
	ck_assert_int_eq(put(path("f"), one, "second", 6, two), BLOB_OK);
	ck_assert_int_eq(del(path("f"), one), BLOB_CONDITION);
	must_hold(path("f"), "second", 6);
}
END_TEST

START_TEST(delete_of_a_missing_blob_is_no_success)
{
	must_be_missing(del(path("nothing"), "\"0x8DD00000000000\""));
}
END_TEST

START_TEST(name_can_be_created_again_after_delete)
{
	char one[BLOB_ETAG_MAX], two[BLOB_ETAG_MAX];

	must_put(path("f"), "same", 4, one);
	ck_assert_int_eq(del(path("f"), one), BLOB_OK);
	must_put(path("f"), "same", 4, two);
	ck_assert_str_ne(one, two);
	ck_assert_int_eq(del(path("f"), one), BLOB_CONDITION);
}
END_TEST

/* ---- names ---- */

static const char *const odd_names[] = {
	"with space",
	" leading and trailing ",
	"per%cent",
	"%41",
	"plus+plus",
	"hash#tag",
	"what?",
	"a&b=c;d,e:f@g!h$i'(j)*~k",
	"\"quoted\"<xml>&amp;",
	"caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x8c\x8a",
	"trailing.",
	"trailing..",
	"...",
	".hidden",
	"back\\slash",
	"new\nline",
	"tab\tcr\r",
	"ctl\x01\x1f\x7f",
	"c1\xc2\x85",
	"nonchar\xef\xbf\xbe",
	"invalid\xff\xfe",
	"\xe2\x80\x9bquoted",
	"con",
	"a~b^c`d{e|f}g[h]",
};

START_TEST(odd_names_hold_their_bytes)
{
	const char *name = odd_names[_i];
	char etag[BLOB_ETAG_MAX], again[BLOB_ETAG_MAX];

	must_put(path(name), name, strlen(name), etag);
	must_hold(path(name), name, strlen(name));
	ck_assert_int_eq(put(path(name), etag, "x", 1, again), BLOB_OK);
	ck_assert_int_eq(del(path(name), again), BLOB_OK);
	must_be_gone(path(name));
}
END_TEST

START_TEST(odd_directories_hold_their_bytes)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/file", odd_names[_i]);
	must_put(path(name), "x", 1, NULL);
	must_hold(path(name), "x", 1);
}
END_TEST

START_TEST(names_that_differ_little_are_different_blobs)
{
	static const char *const names[] = { "a", "A", "a ", "a.", "a%2E",
		"a%20", "\xc3\xa9", "e\xcc\x81" };
	enum { NR = sizeof(names) / sizeof(names[0]) };

	for (unsigned i = 0; i < NR; i++)
		must_put(path(names[i]), names[i], strlen(names[i]), NULL);
	for (unsigned i = 0; i < NR; i++)
		must_hold(path(names[i]), names[i], strlen(names[i]));
}
END_TEST

START_TEST(name_of_255_bytes_is_held)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	must_put(path(name), "x", 1, NULL);
	must_hold(path(name), "x", 1);
}
END_TEST

START_TEST(name_too_long_is_refused)
{
	char name[2001];
	struct call c;

	memset(name, 'n', 2000);
	name[2000] = '\0';
	call_init(&c, BLOB_PUT, path(name));
	c.req.cond.if_none_match_any = true;
	call_body(&c, &c.req.in.put.body, "x", 1);
	call_run(&c);
	call_must(&c, BLOB_NAME);
	ck_assert_int_eq(c.req.err, -ENAMETOOLONG);
	call_fini(&c);
	ck_assert_int_eq(blob_name_check(store, name), -ENAMETOOLONG);
	ck_assert_int_eq(blob_name_check(store, "n"), 0);
}
END_TEST

START_TEST(nonsense_names_are_refused)
{
	static const char *const names[] = { "..", "../up", "a/../b", "a//b",
		"a/./b", "/a", "a/" };
	struct call c;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		call_init(&c, BLOB_PUT, names[i]);
		c.req.cond.if_none_match_any = true;
		call_body(&c, &c.req.in.put.body, "x", 1);
		call_run(&c);
		call_must(&c, BLOB_NAME);
		ck_assert_int_eq(c.req.err, -EINVAL);
		call_fini(&c);
	}
}
END_TEST

void add_write(Suite *s)
{
	TCase *t = tcase_create("write");
	int odd = sizeof(odd_names) / sizeof(odd_names[0]);

	tcase_add_test(t, put_creates_where_nothing_is);
	tcase_add_test(t, put_that_creates_fails_where_something_is);
	tcase_add_test(t, put_replaces_what_it_saw);
	tcase_add_test(t, put_over_what_it_did_not_see_fails);
	tcase_add_test(t, put_over_what_is_gone_fails);
	tcase_add_test(t, etags_of_quick_puts_differ);
	tcase_add_test(t, put_with_wrong_md5_is_corrupt_and_changes_nothing);
	tcase_add_test(t, put_reads_a_range_of_a_file);
	tcase_add_test(t, put_of_a_file_cut_meanwhile_is_corrupt);
	tcase_add_test(t, delete_removes_what_it_saw);
	tcase_add_test(t, delete_of_what_it_did_not_see_fails);
	tcase_add_test(t, delete_of_a_missing_blob_is_no_success);
	tcase_add_test(t, name_can_be_created_again_after_delete);
	tcase_add_loop_test(t, odd_names_hold_their_bytes, 0, odd);
	tcase_add_loop_test(t, odd_directories_hold_their_bytes, 0, odd);
	tcase_add_test(t, names_that_differ_little_are_different_blobs);
	tcase_add_test(t, name_of_255_bytes_is_held);
	tcase_add_test(t, name_too_long_is_refused);
	tcase_add_test(t, nonsense_names_are_refused);
	case_add(s, t);
}
