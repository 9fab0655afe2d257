/*
 * What the tests of the `dir:` store share: a store on a fresh directory for
 * each test, requests that wait for their answer, and the directory's side of
 * it.  Included by one test program each; nothing here outlives it.
 *
 * Threads: the test's; completions only wake it.  Ownership: call_free() ends
 * what call_new(), put_new() and head() made.  Errors: a helper that fails
 * fails the test.
 */
#ifndef TESTS_UNIT_BLOB_DIR_CALL_H
#define TESTS_UNIT_BLOB_DIR_CALL_H

#include "blob/dir.h"
#include "blob/hash.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not every program uses every one. */
#define HELPER __attribute__((unused)) static

static char top[64], root[80];
static struct blob_store *store;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int state; /* under lock */

HELPER void on_state(void *arg, enum blob_state now, const char *why)
{
	(void)arg;
	ck_assert((now == BLOB_STATE_UP) == (why[0] == '\0'));
	pthread_mutex_lock(&lock);
	state = now;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

HELPER void wait_state(enum blob_state want)
{
	pthread_mutex_lock(&lock);
	while (state != (int)want)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

HELPER struct blob_store *open_dir(const char *path)
{
	struct blob_config config = { .state_changed = on_state };
	struct blob_store *s;
	char url[256], why[256];

	snprintf(url, sizeof(url), "dir:%s", path);
	config.url = url;
	ck_assert_msg(
		blob_dir_open(&config, &s, why, sizeof(why)) == 0, "%s", why);
	return s;
}

HELPER void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top), "%s/forebay-dir.XXXXXX",
		tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	ck_assert(mkdtemp(top) != NULL);
	snprintf(root, sizeof(root), "%s/r", top);
	ck_assert_int_eq(mkdir(root, 0755), 0);
	state = BLOB_STATE_UP;
	store = open_dir(root);
}

HELPER int remove_one(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

HELPER void teardown(void)
{
	blob_store_close(store);
	/* What a test mounted there, in its own namespace. */
	while (umount2(root, MNT_DETACH) == 0)
		;
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- requests ---- */

struct call {
	struct blob_req req;
	bool done;
	char data[65536];
	size_t len;
	uint8_t md5[16];
};

HELPER int on_data(struct blob_req *req, const void *buf, size_t len)
{
	struct call *c = req->arg;

	ck_assert_uint_le(c->len + len, sizeof(c->data));
	memcpy(c->data + c->len, buf, len);
	c->len += len;
	return 0;
}

HELPER void on_done(struct blob_req *req)
{
	struct call *c = req->arg;

	pthread_mutex_lock(&lock);
	c->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

HELPER struct call *call_new(enum blob_op op, const char *name)
{
	struct call *c = calloc(1, sizeof(*c));

	c->req.op = op;
	c->req.name = name;
	c->req.done = on_done;
	c->req.arg = c;
	if (op == BLOB_GET)
		c->req.in.get.data = on_data;
	return c;
}

HELPER enum blob_result finish(struct call *c)
{
	pthread_mutex_lock(&lock);
	while (!c->done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return c->req.result;
}

HELPER enum blob_result run(struct call *c)
{
	blob_submit(store, &c->req);
	return finish(c);
}

HELPER void call_free(struct call *c)
{
	blob_req_fini(&c->req);
	free(c);
}

HELPER struct call *put_new(
	const char *name, const char *etag, const char *bytes)
{
	struct call *c = call_new(BLOB_PUT, name);

	c->req.cond.if_match = etag;
	c->req.cond.if_none_match_any = etag == NULL;
	blob_md5(bytes, strlen(bytes), c->md5);
	c->req.in.put.body.mem = bytes;
	c->req.in.put.body.len_bytes = strlen(bytes);
	c->req.in.put.body.md5 = c->md5;
	return c;
}

HELPER enum blob_result put(const char *name, const char *etag,
	const char *bytes, const struct blob_kv *meta, size_t nr,
	char *ret_etag)
{
	struct call *c = put_new(name, etag, bytes);
	enum blob_result result;

	c->req.meta = meta;
	c->req.meta_nr = nr;
	result = run(c);
	if (result == BLOB_OK && ret_etag)
		memcpy(ret_etag, c->req.props.etag, BLOB_ETAG_MAX);
	call_free(c);
	return result;
}

HELPER struct call *head(const char *name)
{
	struct call *c = call_new(BLOB_HEAD, name);

	run(c);
	return c;
}

HELPER void etag_of(const char *name, char ret[BLOB_ETAG_MAX])
{
	struct call *c = head(name);

	ck_assert_int_eq(c->req.result, BLOB_OK);
	memcpy(ret, c->req.props.etag, BLOB_ETAG_MAX);
	call_free(c);
}

HELPER const char *meta_of(const struct call *c, const char *key)
{
	for (size_t i = 0; i < c->req.props.meta_nr; i++) {
		if (strcasecmp(c->req.props.meta[i].key, key) == 0)
			return c->req.props.meta[i].value;
	}
	return NULL;
}

HELPER struct blob_posix posix_of(const struct call *c)
{
	struct blob_entry entry = { .name = (char *)"x",
		.props = c->req.props };
	struct blob_posix posix;
	struct blob_mark mark;

	blob_meta_decode(&entry, &posix, &mark);
	return posix;
}

HELPER void must_hold(const char *name, const char *bytes)
{
	struct call *c = call_new(BLOB_GET, name);

	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->len, strlen(bytes));
	ck_assert(memcmp(c->data, bytes, c->len) == 0);
	call_free(c);
}

HELPER enum blob_result delete (const char *name, const char *etag) {
	struct call *c = call_new(BLOB_DELETE, name); enum blob_result result;

	c->req.cond.if_match = etag;
	result = run(c);
	call_free(c);
	return result;
}

/* ---- the reservoir's side ---- */

HELPER const char *at(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *p = ring[next++ % 4];

	snprintf(p, sizeof(ring[0]), "%s/%s", root, name);
	return p;
}

HELPER void write_file(const char *name, const char *bytes)
{
	FILE *f = fopen(at(name), "w");

	ck_assert(f != NULL);
	fputs(bytes, f);
	fclose(f);
}

HELPER void must_be_file(const char *name, const char *bytes)
{
	char buf[256];
	FILE *f = fopen(at(name), "r");
	size_t n;

	ck_assert(f != NULL);
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	ck_assert_uint_eq(n, strlen(bytes));
	ck_assert(memcmp(buf, bytes, n) == 0);
}

HELPER bool exists(const char *name)
{
	struct stat st;

	return lstat(at(name), &st) == 0;
}

HELPER unsigned count_in(const char *name)
{
	unsigned nr = 0;
	struct call *c = call_new(BLOB_LIST, "");
	char sub[32];

	/* The store hides these: look with a store of their own. */
	struct blob_store *was = store;

	snprintf(sub, sizeof(sub), "%s", name);
	store = open_dir(at(sub));
	ck_assert_int_eq(run(c), BLOB_OK);
	nr = (unsigned)c->req.page.entries_nr;
	call_free(c);
	blob_store_close(store);
	store = was;
	return nr;
}

#define KV(k, v)                         \
	{                                \
		(char *)(k), (char *)(v) \
	}

HELPER TCase *new_case(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	return t;
}

HELPER int run_cases(const char *name, TCase *const *cases, unsigned nr)
{
	Suite *s = suite_create(name);
	SRunner *runner;
	int failed;

	for (unsigned i = 0; i < nr; i++)
		suite_add_tcase(s, cases[i]);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}

#endif
