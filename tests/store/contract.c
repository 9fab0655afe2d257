/*
 * contract STORE_URL: runs the claims of contract.h on a store, which must
 * exist.  Credentials come from the environment.
 */
#include "tests/store/contract.h"
#include "blob/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

struct blob_store *store;
const char *store_url;
static char scope[64];

static void open_store(void)
{
	struct blob_config config = { .url = store_url, .timeout_ms = 30000 };
	struct timespec ts;
	char why[256] = "";

	clock_gettime(CLOCK_REALTIME, &ts);
	snprintf(scope, sizeof(scope), "contract-%lx-%lx", (long)getpid(),
		(long)(ts.tv_sec * 1000000 + ts.tv_nsec / 1000));
	ck_assert_msg(blob_store_open(&config, &store, why, sizeof(why)) == 0,
		"%s", why);
}

static void close_store(void)
{
	blob_store_close(store);
	store = NULL;
}

const char *path(const char *name)
{
	static char ring[16][2400];
	static unsigned next;
	char *p = ring[next++ % 16];

	snprintf(p, sizeof(ring[0]), "%s/%s", scope, name);
	return p;
}

char *bytes_new(size_t len, unsigned seed)
{
	char *buf = malloc(len + 1);
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		buf[i] = (char)(x >> 24);
	}
	return buf;
}

/* ---- calls ---- */

static int on_data(struct blob_req *req, const void *buf, size_t len)
{
	struct call *c = req->arg;

	if (c->data_err)
		return c->data_err;
	if (c->data_len + len > c->data_cap) {
		c->data_cap = 2 * (c->data_len + len);
		c->data = realloc(c->data, c->data_cap);
	}
	memcpy(c->data + c->data_len, buf, len);
	c->data_len += len;
	return 0;
}

static void on_done(struct blob_req *req)
{
	struct call *c = req->arg;

	pthread_mutex_lock(&c->lock);
	c->done_nr++;
	pthread_cond_signal(&c->done_cond);
	pthread_mutex_unlock(&c->lock);
}

void call_init(struct call *c, enum blob_op op, const char *name)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->done_cond, NULL);
	c->req.op = op;
	c->req.name = name;
	c->req.done = on_done;
	c->req.arg = c;
	if (op == BLOB_GET)
		c->req.in.get.data = on_data;
}

void call_start(struct call *c)
{
	blob_submit(store, &c->req);
}

void call_wait(struct call *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->done_nr == 0)
		pthread_cond_wait(&c->done_cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
	ck_assert_uint_eq(c->done_nr, 1);
}

void call_run(struct call *c)
{
	call_start(c);
	call_wait(c);
}

void call_fini(struct call *c)
{
	blob_req_fini(&c->req);
	free(c->data);
	c->data = NULL;
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->done_cond);
}

void call_body(
	struct call *c, struct blob_body *body, const void *buf, size_t len)
{
	blob_md5(buf, len, c->md5);
	body->mem = buf ? buf : "";
	body->fd = -1;
	body->len_bytes = len;
	body->md5 = c->md5;
}

void call_must_at(
	struct call *c, enum blob_result want, const char *file, int line)
{
	ck_assert_msg(c->req.result == want,
		"%s:%d: %s: %s (%s, http %d, err %d), not %s", file, line,
		c->req.name, blob_result_name(c->req.result), c->req.code,
		c->req.http_status, c->req.err, blob_result_name(want));
	ck_assert_msg((c->req.err == 0) == (want == BLOB_OK),
		"%s:%d: result %s with err %d", file, line,
		blob_result_name(want), c->req.err);
}

/* ---- conversations ---- */

static void set_cond(struct call *c, const char *etag)
{
	c->req.cond.if_match = etag;
	c->req.cond.if_none_match_any = etag == NULL;
}

static enum blob_result finish(struct call *c, char ret_etag[BLOB_ETAG_MAX])
{
	enum blob_result result;

	call_run(c);
	result = c->req.result;
	if (result == BLOB_OK) {
		ck_assert_str_ne(c->req.props.etag, "");
		if (ret_etag)
			memcpy(ret_etag, c->req.props.etag, BLOB_ETAG_MAX);
	}
	call_fini(c);
	return result;
}

enum blob_result put_meta(const char *name, const char *etag, const void *buf,
	size_t len, const struct blob_kv *meta, size_t meta_nr,
	char ret_etag[BLOB_ETAG_MAX])
{
	struct call c;

	call_init(&c, BLOB_PUT, name);
	set_cond(&c, etag);
	call_body(&c, &c.req.in.put.body, buf, len);
	c.req.meta = meta;
	c.req.meta_nr = meta_nr;
	return finish(&c, ret_etag);
}

enum blob_result put(const char *name, const char *etag, const void *buf,
	size_t len, char ret_etag[BLOB_ETAG_MAX])
{
	return put_meta(name, etag, buf, len, NULL, 0, ret_etag);
}

void must_put(const char *name, const void *buf, size_t len,
	char ret_etag[BLOB_ETAG_MAX])
{
	enum blob_result result = put(name, NULL, buf, len, ret_etag);

	ck_assert_msg(result == BLOB_OK, "put %s: %s", name,
		blob_result_name(result));
}

void must_hold(const char *name, const void *buf, size_t len)
{
	struct call c;

	call_init(&c, BLOB_GET, name);
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.data_len, len);
	if (len)
		ck_assert(memcmp(c.data, buf, len) == 0);
	call_fini(&c);
}

void must_be_gone(const char *name)
{
	struct call c;

	call_init(&c, BLOB_HEAD, name);
	call_run(&c);
	call_must(&c, BLOB_NOT_FOUND);
	ck_assert_int_eq(c.req.err, -ENOENT);
	call_fini(&c);
}

void must_be_missing(enum blob_result result)
{
	ck_assert_msg(result == BLOB_NOT_FOUND || result == BLOB_CONDITION,
		"missing blob: %s", blob_result_name(result));
}

void block_id(unsigned seed, uint8_t ret[BLOB_BLOCK_ID_BYTES])
{
	uint8_t sum[BLOB_SHA256_BYTES];

	blob_sha256(&seed, sizeof(seed), sum);
	memcpy(ret, "fb01", 4);
	memcpy(ret + 4, sum, sizeof(sum));
}

void must_stage(const char *name, unsigned seed, size_t len)
{
	char *buf = bytes_new(len, seed);
	struct call c;

	call_init(&c, BLOB_PUT_BLOCK, name);
	block_id(seed, c.req.in.block.id);
	call_body(&c, &c.req.in.block.body, buf, len);
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	free(buf);
}

enum blob_result commit(const char *name, const char *etag,
	const unsigned *seeds, const bool *committed, size_t nr,
	char ret_etag[BLOB_ETAG_MAX])
{
	struct blob_block *blocks = calloc(nr + 1, sizeof(*blocks));
	enum blob_result result;
	struct call c;

	for (size_t i = 0; i < nr; i++) {
		block_id(seeds[i], blocks[i].id);
		blocks[i].committed = committed && committed[i];
	}
	call_init(&c, BLOB_COMMIT, name);
	set_cond(&c, etag);
	c.req.in.commit.blocks = blocks;
	c.req.in.commit.blocks_nr = nr;
	result = finish(&c, ret_etag);
	free(blocks);
	return result;
}

const char *kv_get(const struct blob_kv *kv, size_t nr, const char *key)
{
	for (size_t i = 0; i < nr; i++) {
		if (strcasecmp(kv[i].key, key) == 0)
			return kv[i].value;
	}
	return NULL;
}

void case_add(Suite *s, TCase *t)
{
	tcase_add_checked_fixture(t, open_store, close_store);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
}

int main(int argc, char **argv)
{
	SRunner *runner;
	Suite *s = suite_create("store_contract");
	void (*const adds[])(Suite *) = { add_read, add_write, add_meta,
		add_blocks, add_list, add_copy, add_race };
	int failed;

	if (argc != 2) {
		fprintf(stderr, "usage: contract STORE_URL\n");
		return 2;
	}
	store_url = argv[1];
	for (size_t i = 0; i < sizeof(adds) / sizeof(adds[0]); i++)
		adds[i](s);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
