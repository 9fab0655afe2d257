/* Claims about COPY. */
#include "tests/store/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KV(k, v)                         \
	{                                \
		(char *)(k), (char *)(v) \
	}

static void copy_init(struct call *c, const char *to, const char *to_etag,
	const char *from, const char *from_etag)
{
	call_init(c, BLOB_COPY, to);
	c->req.cond.if_match = to_etag;
	c->req.cond.if_none_match_any = to_etag == NULL;
	c->req.in.copy.source = from;
	c->req.in.copy.source_etag = from_etag;
}

static enum blob_result copy(const char *to, const char *to_etag,
	const char *from, const char *from_etag, char ret_etag[BLOB_ETAG_MAX])
{
	enum blob_result result;
	struct call c;

	copy_init(&c, to, to_etag, from, from_etag);
	call_run(&c);
	result = c.req.result;
	if (result == BLOB_OK && ret_etag)
		memcpy(ret_etag, c.req.props.etag, BLOB_ETAG_MAX);
	call_fini(&c);
	return result;
}

START_TEST(copy_to_a_new_name)
{
	char *buf = bytes_new(3 * MIB + 5, 1);
	char etag[BLOB_ETAG_MAX], made[BLOB_ETAG_MAX];

	must_put(path("a"), buf, 3 * MIB + 5, etag);
	ck_assert_int_eq(
		copy(path("d/b"), NULL, path("a"), etag, made), BLOB_OK);
	must_hold(path("d/b"), buf, 3 * MIB + 5);
	must_hold(path("a"), buf, 3 * MIB + 5);
	/* The answer's ETag is the copy's. */
	ck_assert_int_eq(put(path("d/b"), made, "x", 1, NULL), BLOB_OK);
	free(buf);
}
END_TEST

START_TEST(copy_over_what_it_saw)
{
	char a[BLOB_ETAG_MAX], b[BLOB_ETAG_MAX];

	must_put(path("a"), "source", 6, a);
	must_put(path("b"), "target", 6, b);
	ck_assert_int_eq(
		copy(path("b"), NULL, path("a"), a, NULL), BLOB_CONDITION);
	ck_assert_int_eq(
		copy(path("b"), a, path("a"), a, NULL), BLOB_CONDITION);
	must_hold(path("b"), "target", 6);
	ck_assert_int_eq(copy(path("b"), b, path("a"), a, NULL), BLOB_OK);
	must_hold(path("b"), "source", 6);
}
END_TEST

START_TEST(copy_of_a_source_that_changed_fails)
{
	char old[BLOB_ETAG_MAX], now[BLOB_ETAG_MAX];

	must_put(path("a"), "first", 5, old);
	ck_assert_int_eq(put(path("a"), old, "second", 6, now), BLOB_OK);
	ck_assert_int_eq(
		copy(path("b"), NULL, path("a"), old, NULL), BLOB_CONDITION);
	must_be_gone(path("b"));
}
END_TEST

START_TEST(copy_of_a_missing_source_is_not_found)
{
	struct call c;

	copy_init(&c, path("b"), NULL, path("nothing"), "\"0x8DD00000000000\"");
	call_run(&c);
	must_be_missing(c.req.result);
	call_fini(&c);
	must_be_gone(path("b"));
}
END_TEST

START_TEST(copy_replaces_metadata_and_keeps_headers)
{
	static const struct blob_kv one[] = { KV("color", "blue"),
		KV("shape", "round") };
	static const struct blob_kv two[] = { KV("color", "red") };
	static const struct blob_kv headers[] = { KV(
		"content-type", "text/x-test") };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	call_init(&c, BLOB_PUT, path("a"));
	c.req.cond.if_none_match_any = true;
	call_body(&c, &c.req.in.put.body, "x", 1);
	c.req.meta = one;
	c.req.meta_nr = 2;
	c.req.headers = headers;
	c.req.headers_nr = 1;
	call_run(&c);
	call_must(&c, BLOB_OK);
	memcpy(etag, c.req.props.etag, sizeof(etag));
	call_fini(&c);
	copy_init(&c, path("b"), NULL, path("a"), etag);
	c.req.meta = two;
	c.req.meta_nr = 1;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	call_init(&c, BLOB_HEAD, path("b"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_str_eq(
		kv_get(c.req.props.meta, c.req.props.meta_nr, "color"), "red");
	ck_assert_ptr_null(
		kv_get(c.req.props.meta, c.req.props.meta_nr, "shape"));
	ck_assert_str_eq(kv_get(c.req.props.headers, c.req.props.headers_nr,
				 "content-type"),
		"text/x-test");
	call_fini(&c);
}
END_TEST

START_TEST(copy_keeps_the_block_list)
{
	static const unsigned seeds[] = { 1, 2 };
	char etag[BLOB_ETAG_MAX], made[BLOB_ETAG_MAX];
	struct call c;

	must_stage(path("a"), 1, 1000);
	must_stage(path("a"), 2, 2000);
	ck_assert_int_eq(
		commit(path("a"), NULL, seeds, NULL, 2, etag), BLOB_OK);
	ck_assert_int_eq(copy(path("b"), NULL, path("a"), etag, made), BLOB_OK);
	call_init(&c, BLOB_GET_BLOCKS, path("b"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.req.blocks.blocks_nr, 2);
	ck_assert_str_eq(c.req.props.etag, made);
	ck_assert_uint_eq(c.req.blocks.blocks[1].size_bytes, 2000);
	call_fini(&c);
}
END_TEST

START_TEST(copy_of_a_symlink_is_a_symlink)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true") };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	ck_assert_int_eq(
		put_meta(path("a"), NULL, "target", 6, meta, 1, etag), BLOB_OK);
	copy_init(&c, path("b"), NULL, path("a"), etag);
	c.req.meta = meta;
	c.req.meta_nr = 1;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	must_hold(path("b"), "target", 6);
	call_init(&c, BLOB_HEAD, path("b"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_str_eq(
		kv_get(c.req.props.meta, c.req.props.meta_nr, "is_symlink"),
		"true");
	call_fini(&c);
}
END_TEST

void add_copy(Suite *s)
{
	TCase *t = tcase_create("copy");

	tcase_add_test(t, copy_to_a_new_name);
	tcase_add_test(t, copy_over_what_it_saw);
	tcase_add_test(t, copy_of_a_source_that_changed_fails);
	tcase_add_test(t, copy_of_a_missing_source_is_not_found);
	tcase_add_test(t, copy_replaces_metadata_and_keeps_headers);
	tcase_add_test(t, copy_keeps_the_block_list);
	tcase_add_test(t, copy_of_a_symlink_is_a_symlink);
	case_add(s, t);
}
