/* Claims about metadata, content headers, markers and symlinks. */
#include "tests/store/contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KV(k, v)                         \
	{                                \
		(char *)(k), (char *)(v) \
	}

static void head(struct call *c, const char *name)
{
	call_init(c, BLOB_HEAD, name);
	call_run(c);
	call_must(c, BLOB_OK);
}

static const char *meta_of(const struct call *c, const char *key)
{
	return kv_get(c->req.props.meta, c->req.props.meta_nr, key);
}

static enum blob_result set_meta(const char *name, const char *etag,
	const struct blob_kv *meta, size_t nr, char ret_etag[BLOB_ETAG_MAX])
{
	enum blob_result result;
	struct call c;

	call_init(&c, BLOB_SET_META, name);
	c.req.cond.if_match = etag;
	c.req.meta = meta;
	c.req.meta_nr = nr;
	call_run(&c);
	result = c.req.result;
	if (result == BLOB_OK && ret_etag)
		memcpy(ret_etag, c.req.props.etag, BLOB_ETAG_MAX);
	call_fini(&c);
	return result;
}

START_TEST(put_stores_metadata)
{
	static const struct blob_kv meta[] = {
		KV("color", "blue"),
		KV("a1", "digits before"),
		KV("a_b", "underscore after"),
		KV("permissions", "33188"),
		KV("long", "0123456789012345678901234567890123456789"),
	};
	struct call c;

	ck_assert_int_eq(
		put_meta(path("f"), NULL, "x", 1, meta, 5, NULL), BLOB_OK);
	head(&c, path("f"));
	for (unsigned i = 0; i < 5; i++)
		ck_assert_str_eq(meta_of(&c, meta[i].key), meta[i].value);
	call_fini(&c);
}
END_TEST

START_TEST(put_replaces_all_metadata)
{
	static const struct blob_kv one[] = { KV("color", "blue"),
		KV("shape", "round") };
	static const struct blob_kv two[] = { KV("color", "red") };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	put_meta(path("f"), NULL, "x", 1, one, 2, etag);
	ck_assert_int_eq(
		put_meta(path("f"), etag, "x", 1, two, 1, NULL), BLOB_OK);
	head(&c, path("f"));
	ck_assert_str_eq(meta_of(&c, "color"), "red");
	ck_assert_ptr_null(meta_of(&c, "shape"));
	call_fini(&c);
}
END_TEST

START_TEST(set_meta_replaces_all_and_keeps_the_bytes)
{
	static const struct blob_kv one[] = { KV("color", "blue"),
		KV("shape", "round") };
	static const struct blob_kv two[] = { KV("color", "red") };
	char etag[BLOB_ETAG_MAX], moved[BLOB_ETAG_MAX];
	struct call c;

	put_meta(path("f"), NULL, "hello", 5, one, 2, etag);
	ck_assert_int_eq(set_meta(path("f"), etag, two, 1, moved), BLOB_OK);
	ck_assert_str_ne(etag, moved);
	head(&c, path("f"));
	ck_assert_str_eq(c.req.props.etag, moved);
	ck_assert_str_eq(meta_of(&c, "color"), "red");
	ck_assert_ptr_null(meta_of(&c, "shape"));
	ck_assert(c.req.props.has_md5);
	call_fini(&c);
	must_hold(path("f"), "hello", 5);
}
END_TEST

START_TEST(set_meta_twice_moves_the_etag_twice)
{
	static const struct blob_kv meta[] = { KV("color", "red") };
	char a[BLOB_ETAG_MAX], b[BLOB_ETAG_MAX], c[BLOB_ETAG_MAX];

	must_put(path("f"), "x", 1, a);
	ck_assert_int_eq(set_meta(path("f"), a, meta, 1, b), BLOB_OK);
	ck_assert_int_eq(set_meta(path("f"), b, meta, 1, c), BLOB_OK);
	ck_assert_str_ne(a, b);
	ck_assert_str_ne(b, c);
	ck_assert_int_eq(set_meta(path("f"), b, meta, 1, NULL), BLOB_CONDITION);
}
END_TEST

START_TEST(set_meta_of_a_missing_blob_is_no_success)
{
	static const struct blob_kv meta[] = { KV("color", "red") };

	must_be_missing(set_meta(
		path("nothing"), "\"0x8DD00000000000\"", meta, 1, NULL));
	must_be_gone(path("nothing"));
}
END_TEST

START_TEST(set_meta_keeps_headers_and_block_list)
{
	static const struct blob_kv meta[] = { KV("color", "red") };
	static const struct blob_kv headers[] = { KV(
		"content-type", "text/x-test") };
	static const unsigned seeds[] = { 1, 2 };
	struct blob_block blocks[2] = { { .size_bytes = 0 } };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_stage(path("f"), 1, 1000);
	must_stage(path("f"), 2, 2000);
	for (unsigned i = 0; i < 2; i++)
		block_id(seeds[i], blocks[i].id);
	call_init(&c, BLOB_COMMIT, path("f"));
	c.req.cond.if_none_match_any = true;
	c.req.in.commit.blocks = blocks;
	c.req.in.commit.blocks_nr = 2;
	c.req.headers = headers;
	c.req.headers_nr = 1;
	call_run(&c);
	call_must(&c, BLOB_OK);
	memcpy(etag, c.req.props.etag, sizeof(etag));
	call_fini(&c);
	ck_assert_int_eq(set_meta(path("f"), etag, meta, 1, etag), BLOB_OK);
	head(&c, path("f"));
	ck_assert_str_eq(kv_get(c.req.props.headers, c.req.props.headers_nr,
				 "content-type"),
		"text/x-test");
	call_fini(&c);
	call_init(&c, BLOB_GET_BLOCKS, path("f"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.req.blocks.blocks_nr, 2);
	ck_assert_str_eq(c.req.props.etag, etag);
	call_fini(&c);
}
END_TEST

START_TEST(content_headers_are_stored_and_replaced)
{
	static const struct blob_kv one[] = {
		KV("content-type", "text/x-test"),
		KV("content-encoding", "x-test"),
		KV("content-language", "de"),
		KV("content-disposition", "attachment"),
		KV("cache-control", "max-age=7"),
	};
	char etag[BLOB_ETAG_MAX];
	struct call c;

	call_init(&c, BLOB_PUT, path("f"));
	c.req.cond.if_none_match_any = true;
	call_body(&c, &c.req.in.put.body, "x", 1);
	c.req.headers = one;
	c.req.headers_nr = 5;
	call_run(&c);
	call_must(&c, BLOB_OK);
	memcpy(etag, c.req.props.etag, sizeof(etag));
	call_fini(&c);
	head(&c, path("f"));
	for (unsigned i = 0; i < 5; i++)
		ck_assert_str_eq(kv_get(c.req.props.headers,
					 c.req.props.headers_nr, one[i].key),
			one[i].value);
	call_fini(&c);
	ck_assert_int_eq(put(path("f"), etag, "x", 1, NULL), BLOB_OK);
	head(&c, path("f"));
	ck_assert_ptr_null(kv_get(
		c.req.props.headers, c.req.props.headers_nr, "cache-control"));
	call_fini(&c);
}
END_TEST

static struct blob_kv *many_keys(size_t nr, size_t value_len)
{
	struct blob_kv *kv = calloc(nr, sizeof(*kv));

	for (size_t i = 0; i < nr; i++) {
		kv[i].key = malloc(32);
		snprintf(kv[i].key, 32, "key%zu", i);
		kv[i].value = malloc(value_len + 1);
		memset(kv[i].value, 'v', value_len);
		kv[i].value[value_len] = '\0';
	}
	return kv;
}

START_TEST(seven_kib_of_metadata_are_held)
{
	struct blob_kv *kv = many_keys(14, 500);
	char etag[BLOB_ETAG_MAX];
	struct call c;

	ck_assert_int_eq(
		put_meta(path("f"), NULL, "x", 1, kv, 14, etag), BLOB_OK);
	ck_assert_int_eq(set_meta(path("f"), etag, kv, 14, etag), BLOB_OK);
	head(&c, path("f"));
	ck_assert_str_eq(c.req.props.etag, etag);
	for (unsigned i = 0; i < 14; i++)
		ck_assert_str_eq(meta_of(&c, kv[i].key), kv[i].value);
	call_fini(&c);
	/* And back to little. */
	ck_assert_int_eq(set_meta(path("f"), etag, kv, 1, etag), BLOB_OK);
	head(&c, path("f"));
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_ptr_null(meta_of(&c, "key13"));
	call_fini(&c);
	blob_kv_free(kv, 14);
}
END_TEST

START_TEST(metadata_over_the_limit_is_refused)
{
	struct blob_kv *kv = many_keys(20, 500);

	ck_assert_int_eq(put_meta(path("f"), NULL, "x", 1, kv, 20, NULL),
		BLOB_TOO_LARGE);
	must_be_gone(path("f"));
	blob_kv_free(kv, 20);
}
END_TEST

/* ---- kinds ---- */

static enum blob_kind kind_of(const struct call *c)
{
	struct blob_entry entry = { .name = (char *)"x",
		.props = c->req.props };
	struct blob_posix posix;
	struct blob_mark mark;

	blob_meta_decode(&entry, &posix, &mark);
	return posix.kind;
}

START_TEST(symlink_blob_holds_its_target)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true"),
		KV("permissions", "41471") };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	ck_assert_int_eq(put_meta(path("link"), NULL, "../some/where", 13, meta,
				 2, etag),
		BLOB_OK);
	head(&c, path("link"));
	ck_assert_int_eq(kind_of(&c), BLOB_KIND_SYMLINK);
	ck_assert_uint_eq(c.req.props.size_bytes, 13);
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_str_eq(meta_of(&c, "is_symlink"), "true");
	call_fini(&c);
	must_hold(path("link"), "../some/where", 13);
	/* It is a blob: replaced, by another kind too, and deleted. */
	ck_assert_int_eq(
		put_meta(path("link"), etag, "elsewhere", 9, meta, 2, etag),
		BLOB_OK);
	must_hold(path("link"), "elsewhere", 9);
	ck_assert_int_eq(put(path("link"), etag, "a file", 6, etag), BLOB_OK);
	head(&c, path("link"));
	ck_assert_int_eq(kind_of(&c), BLOB_KIND_FILE);
	call_fini(&c);
	must_hold(path("link"), "a file", 6);
}
END_TEST

START_TEST(symlink_metadata_change_in_place)
{
	static const struct blob_kv one[] = { KV("is_symlink", "true") };
	static const struct blob_kv two[] = { KV("is_symlink", "true"),
		KV("color", "red") };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	ck_assert_int_eq(put_meta(path("link"), NULL, "there", 5, one, 1, etag),
		BLOB_OK);
	ck_assert_int_eq(set_meta(path("link"), etag, two, 2, etag), BLOB_OK);
	head(&c, path("link"));
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_str_eq(meta_of(&c, "color"), "red");
	call_fini(&c);
	must_hold(path("link"), "there", 5);
}
END_TEST

START_TEST(marker_is_a_directory_blob)
{
	static const struct blob_kv meta[] = { KV("hdi_isfolder", "true"),
		KV("permissions", "16877"), KV("color", "blue") };
	static const struct blob_kv other[] = { KV("hdi_isfolder", "true"),
		KV("permissions", "16832") };
	char etag[BLOB_ETAG_MAX], child[BLOB_ETAG_MAX];
	struct call c;

	ck_assert_int_eq(
		put_meta(path("d"), NULL, "", 0, meta, 3, etag), BLOB_OK);
	head(&c, path("d"));
	ck_assert_int_eq(kind_of(&c), BLOB_KIND_DIR);
	ck_assert_uint_eq(c.req.props.size_bytes, 0);
	ck_assert_str_eq(meta_of(&c, "color"), "blue");
	call_fini(&c);
	ck_assert_int_eq(put_meta(path("d"), NULL, "", 0, meta, 3, NULL),
		BLOB_CONDITION);
	/* Children come and go, and the marker's ETag does not care. */
	must_put(path("d/f"), "x", 1, child);
	head(&c, path("d"));
	ck_assert_str_eq(c.req.props.etag, etag);
	call_fini(&c);
	ck_assert_int_eq(set_meta(path("d"), etag, other, 2, etag), BLOB_OK);
	ck_assert_int_eq(
		put_meta(path("d"), etag, "", 0, meta, 3, etag), BLOB_OK);
	call_init(&c, BLOB_DELETE, path("d/f"));
	c.req.cond.if_match = child;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	call_init(&c, BLOB_DELETE, path("d"));
	c.req.cond.if_match = etag;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	must_be_gone(path("d"));
}
END_TEST

START_TEST(marker_may_come_after_its_children)
{
	static const struct blob_kv meta[] = { KV("hdi_isfolder", "true"),
		KV("color", "blue") };
	struct call c;

	must_put(path("d/f"), "x", 1, NULL);
	ck_assert_int_eq(
		put_meta(path("d"), NULL, "", 0, meta, 2, NULL), BLOB_OK);
	head(&c, path("d"));
	ck_assert_str_eq(meta_of(&c, "color"), "blue");
	call_fini(&c);
	ck_assert_int_eq(put_meta(path("d"), NULL, "", 0, meta, 2, NULL),
		BLOB_CONDITION);
	must_hold(path("d/f"), "x", 1);
}
END_TEST

void add_meta(Suite *s)
{
	TCase *t = tcase_create("meta");

	tcase_add_test(t, put_stores_metadata);
	tcase_add_test(t, put_replaces_all_metadata);
	tcase_add_test(t, set_meta_replaces_all_and_keeps_the_bytes);
	tcase_add_test(t, set_meta_twice_moves_the_etag_twice);
	tcase_add_test(t, set_meta_of_a_missing_blob_is_no_success);
	tcase_add_test(t, set_meta_keeps_headers_and_block_list);
	tcase_add_test(t, content_headers_are_stored_and_replaced);
	tcase_add_test(t, seven_kib_of_metadata_are_held);
	tcase_add_test(t, metadata_over_the_limit_is_refused);
	tcase_add_test(t, symlink_blob_holds_its_target);
	tcase_add_test(t, symlink_metadata_change_in_place);
	tcase_add_test(t, marker_is_a_directory_blob);
	tcase_add_test(t, marker_may_come_after_its_children);
	case_add(s, t);
}
