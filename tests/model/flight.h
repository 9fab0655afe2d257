/*
 * A request on its way to the store in memory: what store.c sends and answers,
 * apply.c applies and ask.c looks up.  Private to them.
 */
#ifndef TESTS_MODEL_FLIGHT_H
#define TESTS_MODEL_FLIGHT_H

#include "tests/model/blobs.h"

/* A request on its way, with copies of all that it needs. */
struct flight {
	struct flight *next, **prev;
	struct mstore *store; /* NULL: nobody waits any more */
	struct blob_req *req; /* NULL: the same */
	struct model *m;
	uint64_t life;
	enum blob_op op;
	char *name, *if_match, *source, *source_etag;
	bool none_match, applied, no_apply;
	bool twice; /* it is going to be applied again */
	char *body;
	uint64_t body_len;
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	struct blob_block *blocks;
	size_t blocks_nr;
	struct blob_kv *meta, *headers;
	size_t meta_nr, headers_nr;
	/* the answer */
	enum blob_result result;
	const char *code;
	uint64_t etag;
	int64_t mtime_ns;
	unsigned refs;
};

/* apply.c */
const char *flight_op_name(enum blob_op op);
/* Put Block is not one: it changes no blob. */
bool flight_mutates(enum blob_op op);
/* Sets its result, ETag and time. */
void flight_mutate(struct flight *f);
enum blob_result flight_put_block(struct flight *f);

/* ask.c: with what is there now; f->req is set.  Sets its result. */
void flight_ask(struct flight *f);

#endif
