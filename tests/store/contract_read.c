/* Claims about HEAD and GET. */
#include "tests/store/contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void get(struct call *c, const char *name, uint64_t offset, uint64_t len,
	const char *etag)
{
	call_init(c, BLOB_GET, name);
	c->req.in.get.offset = offset;
	c->req.in.get.len_bytes = len;
	c->req.cond.if_match = etag;
	call_run(c);
}

static void must_get(const char *name, uint64_t offset, uint64_t len,
	const char *want, size_t want_len)
{
	struct call c;

	get(&c, name, offset, len, NULL);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.data_len, want_len);
	if (want_len)
		ck_assert(memcmp(c.data, want, want_len) == 0);
	call_fini(&c);
}

static void must_be_after_end(const char *name, uint64_t offset, uint64_t len)
{
	struct call c;

	get(&c, name, offset, len, NULL);
	call_must(&c, BLOB_BAD_RANGE);
	ck_assert_int_eq(c.req.err, -ERANGE);
	ck_assert_uint_eq(c.data_len, 0);
	call_fini(&c);
}

START_TEST(head_of_missing_blob_is_not_found)
{
	must_be_gone(path("nothing"));
	must_be_gone(path("nothing/below/nothing"));
}
END_TEST

START_TEST(get_of_missing_blob_is_not_found)
{
	struct call c;

	get(&c, path("nothing"), 0, 0, NULL);
	call_must(&c, BLOB_NOT_FOUND);
	ck_assert_uint_eq(c.data_len, 0);
	call_fini(&c);
}
END_TEST

START_TEST(get_blocks_of_missing_blob_is_not_found)
{
	struct call c;

	call_init(&c, BLOB_GET_BLOCKS, path("nothing"));
	call_run(&c);
	call_must(&c, BLOB_NOT_FOUND);
	call_fini(&c);
}
END_TEST

START_TEST(get_of_missing_blob_with_condition_is_no_success)
{
	struct call c;

	get(&c, path("nothing"), 0, 0, "\"0x8DD00000000000\"");
	must_be_missing(c.req.result);
	ck_assert_uint_eq(c.data_len, 0);
	call_fini(&c);
}
END_TEST

START_TEST(name_below_a_blob_is_not_found)
{
	must_put(path("f"), "x", 1, NULL);
	must_be_gone(path("f/g"));
}
END_TEST

START_TEST(head_tells_size_etag_time_md5)
{
	char etag[BLOB_ETAG_MAX];
	struct call c;
	int64_t now = (int64_t)time(NULL);

	must_put(path("f"), "hello", 5, etag);
	call_init(&c, BLOB_HEAD, path("f"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.req.props.size_bytes, 5);
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_int_eq(etag[0], '"');
	ck_assert(llabs(c.req.props.mtime_ns / 1000000000 - now) < 3600);
	ck_assert_int_eq(c.req.props.type, BLOB_TYPE_BLOCK);
	ck_assert(c.req.props.has_md5);
	ck_assert(memcmp(c.req.props.md5,
			  "\x5d\x41\x40\x2a\xbc\x4b\x2a\x76"
			  "\xb9\x71\x9d\x91\x10\x17\xc5\x92",
			  16) == 0);
	ck_assert(!c.req.props.archived && !c.req.props.copy_pending);
	ck_assert(c.req.server_time_s == 0 ||
		llabs(c.req.server_time_s - now) < 3600);
	call_fini(&c);
}
END_TEST

START_TEST(head_twice_is_the_same_etag)
{
	char etag[BLOB_ETAG_MAX];

	must_put(path("f"), "hello", 5, etag);
	for (unsigned i = 0; i < 3; i++) {
		struct call c;

		call_init(&c, BLOB_HEAD, path("f"));
		call_run(&c);
		call_must(&c, BLOB_OK);
		ck_assert_str_eq(c.req.props.etag, etag);
		call_fini(&c);
	}
}
END_TEST

START_TEST(get_gives_ranges)
{
	char *buf = bytes_new(100000, 1);
	const char *f = path("f");

	must_put(f, buf, 100000, NULL);
	must_get(f, 0, 0, buf, 100000);
	must_get(f, 0, 1, buf, 1);
	must_get(f, 1, 99998, buf + 1, 99998);
	must_get(f, 50000, 0, buf + 50000, 50000);
	must_get(f, 99999, 1, buf + 99999, 1);
	free(buf);
}
END_TEST

START_TEST(get_range_over_the_end_is_cut)
{
	const char *f = path("f");

	must_put(f, "0123456789", 10, NULL);
	must_get(f, 0, 4096, "0123456789", 10);
	must_get(f, 9, 2, "9", 1);
}
END_TEST

START_TEST(get_range_at_or_after_the_end_is_bad)
{
	const char *f = path("f");

	must_put(f, "0123456789", 10, NULL);
	must_be_after_end(f, 10, 1);
	must_be_after_end(f, 10, 0);
	must_be_after_end(f, 11, 5);
	must_be_after_end(f, 1ull << 40, 0);
}
END_TEST

START_TEST(get_of_empty_blob_is_empty)
{
	const char *f = path("empty");

	must_put(f, "", 0, NULL);
	must_get(f, 0, 0, "", 0);
	must_be_after_end(f, 0, 1);
	must_be_after_end(f, 1, 0);
}
END_TEST

START_TEST(get_gives_props)
{
	char etag[BLOB_ETAG_MAX];
	struct call c;
	struct blob_kv meta[] = { { (char *)"color", (char *)"blue" } };

	ck_assert_int_eq(
		put_meta(path("f"), NULL, "hello", 5, meta, 1, etag), BLOB_OK);
	get(&c, path("f"), 1, 2, NULL);
	call_must(&c, BLOB_OK);
	/* Of the blob, not of the range. */
	ck_assert_uint_eq(c.req.props.size_bytes, 5);
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_str_eq(
		kv_get(c.req.props.meta, c.req.props.meta_nr, "color"), "blue");
	call_fini(&c);
}
END_TEST

START_TEST(get_with_the_right_etag)
{
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_put(path("f"), "hello", 5, etag);
	get(&c, path("f"), 0, 0, etag);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.data_len, 5);
	call_fini(&c);
}
END_TEST

START_TEST(get_with_another_etag_fails_without_data)
{
	char old[BLOB_ETAG_MAX], etag[BLOB_ETAG_MAX];
	struct call c;

	must_put(path("f"), "hello", 5, old);
	ck_assert_int_eq(put(path("f"), old, "world", 5, etag), BLOB_OK);
	get(&c, path("f"), 0, 0, old);
	call_must(&c, BLOB_CONDITION);
	ck_assert_int_eq(c.req.err, -EEXIST);
	ck_assert_uint_eq(c.data_len, 0);
	call_fini(&c);
}
END_TEST

START_TEST(large_get_is_right_and_in_order)
{
	size_t len = 9 * MIB + 7;
	char *buf = bytes_new(len, 2);
	const char *f = path("large");

	must_put(f, buf, len, NULL);
	must_get(f, 0, 0, buf, len);
	must_get(f, 3 * MIB + 1, 4 * MIB, buf + 3 * MIB + 1, 4 * MIB);
	free(buf);
}
END_TEST

START_TEST(data_that_refuses_stops_the_request)
{
	struct call c;

	must_put(path("f"), "hello", 5, NULL);
	call_init(&c, BLOB_GET, path("f"));
	c.data_err = -ENOSPC;
	call_run(&c);
	call_must(&c, BLOB_STOPPED);
	ck_assert_int_eq(c.req.err, -EINTR);
	call_fini(&c);
}
END_TEST

START_TEST(container_that_is_not_there_is_said_so)
{
	struct blob_store *was = store;
	struct blob_config config = { .timeout_ms = 10000 };
	char url[1024], why[256];
	struct call c;

	if (strncmp(store_url, "dir:", 4) == 0)
		return; /* it would not even open */
	snprintf(url, sizeof(url), "%sgone", store_url);
	config.url = url;
	ck_assert_int_eq(blob_store_open(&config, &store, why, sizeof(why)), 0);
	call_init(&c, BLOB_HEAD, "f");
	call_run(&c);
	call_must(&c, BLOB_NO_CONTAINER);
	call_fini(&c);
	call_init(&c, BLOB_LIST, "");
	call_run(&c);
	call_must(&c, BLOB_NO_CONTAINER);
	call_fini(&c);
	ck_assert_int_eq(put("f", NULL, "x", 1, NULL), BLOB_NO_CONTAINER);
	blob_store_close(store);
	store = was;
}
END_TEST

void add_read(Suite *s)
{
	TCase *t = tcase_create("read");

	tcase_add_test(t, head_of_missing_blob_is_not_found);
	tcase_add_test(t, get_of_missing_blob_is_not_found);
	tcase_add_test(t, get_blocks_of_missing_blob_is_not_found);
	tcase_add_test(t, get_of_missing_blob_with_condition_is_no_success);
	tcase_add_test(t, name_below_a_blob_is_not_found);
	tcase_add_test(t, head_tells_size_etag_time_md5);
	tcase_add_test(t, head_twice_is_the_same_etag);
	tcase_add_test(t, get_gives_ranges);
	tcase_add_test(t, get_range_over_the_end_is_cut);
	tcase_add_test(t, get_range_at_or_after_the_end_is_bad);
	tcase_add_test(t, get_of_empty_blob_is_empty);
	tcase_add_test(t, get_gives_props);
	tcase_add_test(t, get_with_the_right_etag);
	tcase_add_test(t, get_with_another_etag_fails_without_data);
	tcase_add_test(t, large_get_is_right_and_in_order);
	tcase_add_test(t, data_that_refuses_stops_the_request);
	tcase_add_test(t, container_that_is_not_there_is_said_so);
	case_add(s, t);
}
