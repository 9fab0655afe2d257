/*
 * The contract of blob/store.h, as claims that run on any store.
 *
 * What it is for.  contract.c opens STORE_URL before every test and closes it
 * afterwards; the claims are in contract_*.c, by topic.  Each test works below
 * a directory of its own (path()), so that nothing has to be cleaned up and a
 * store may hold other things.
 *
 * Threads: tests run on one thread; call_run() waits for the store's.
 * Ownership: a struct call is the test's, call_fini() frees what it holds.
 * Errors: a call that ends otherwise than claimed fails the test, with the
 * result's name and code.
 */
#ifndef TESTS_STORE_CONTRACT_H
#define TESTS_STORE_CONTRACT_H

#include "blob/store.h"

#include <check.h>
#include <pthread.h>

#define KIB 1024u
#define MIB (1024u * KIB)

extern struct blob_store *store;
extern const char *store_url;

/* One request, its answer, and what it needs. */
struct call {
	struct blob_req req;
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	unsigned done_nr;
	char *data; /* of a GET */
	size_t data_len, data_cap;
	int data_err; /* what the data callback returns */
	uint8_t md5[16];
};

/* "contract-RANDOM/name", in a ring of 16 buffers: call it once for a name
 * that requests under way point to. */
const char *path(const char *name);
/* Deterministic bytes, different for each seed; to be freed. */
char *bytes_new(size_t len, unsigned seed);

void call_init(struct call *c, enum blob_op op, const char *name);
void call_start(struct call *c);
void call_wait(struct call *c);
void call_run(struct call *c); /* both */
void call_fini(struct call *c);
void call_body(
	struct call *c, struct blob_body *body, const void *buf, size_t len);
#define call_must(c, want) call_must_at(c, want, __FILE__, __LINE__)
void call_must_at(
	struct call *c, enum blob_result want, const char *file, int line);

/* Whole conversations, for the claims that are about something else.  An etag
 * of NULL means If-None-Match: *.  The new ETag comes back in ret_etag, if it
 * is not NULL. */
enum blob_result put(const char *name, const char *etag, const void *buf,
	size_t len, char ret_etag[BLOB_ETAG_MAX]);
enum blob_result put_meta(const char *name, const char *etag, const void *buf,
	size_t len, const struct blob_kv *meta, size_t meta_nr,
	char ret_etag[BLOB_ETAG_MAX]);
void must_put(const char *name, const void *buf, size_t len,
	char ret_etag[BLOB_ETAG_MAX]);
void must_hold(const char *name, const void *buf, size_t len);
void must_be_gone(const char *name);
/* A condition on a missing blob: the service says 404, an emulator 412.  The
 * caller must treat them alike. */
void must_be_missing(enum blob_result result);
/* Block `seed` of this length: its id and staging it. */
void block_id(unsigned seed, uint8_t ret[BLOB_BLOCK_ID_BYTES]);
void must_stage(const char *name, unsigned seed, size_t len);
/* Commits blocks of these seeds; `committed` may be NULL. */
enum blob_result commit(const char *name, const char *etag,
	const unsigned *seeds, const bool *committed, size_t nr,
	char ret_etag[BLOB_ETAG_MAX]);

const char *kv_get(const struct blob_kv *kv, size_t nr, const char *key);

/* Adds a test case with a store opened around each of its tests. */
void case_add(Suite *s, TCase *t);

void add_read(Suite *s);
void add_write(Suite *s);
void add_meta(Suite *s);
void add_blocks(Suite *s);
void add_list(Suite *s);
void add_copy(Suite *s);
void add_race(Suite *s);

#endif
