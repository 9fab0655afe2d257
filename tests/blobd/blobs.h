/*
 * The store: containers and blobs, in memory, in name order.
 *
 * What it is for.  What the service would hold.  The operations (ops.c and
 * its sisters) look things up here, decide, and change them.
 *
 * Threads and locks.  One read-write lock around everything.  content, props
 * and blocks are immutable and counted: take a reference under the lock, use
 * them after it.  A struct blobd_blob is only valid under the lock.
 *
 * Ownership: the store owns containers and blobs; see get/put for the rest.
 *
 * Errors: none here; conditions and leases are judged in cond.c.
 */
#ifndef BLOBD_BLOBS_H
#define BLOBD_BLOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "tests/blobd/data.h"
#include "tests/blobd/map.h"

#define BLOBD_ETAG_BYTES 24 /* "0x8D" and 13 digits, no quotes, and NUL */

enum blobd_type {
	BLOBD_BLOCK_BLOB,
	BLOBD_APPEND_BLOB,
	BLOBD_PAGE_BLOB,
};

struct blobd_kv {
	char *key;
	char *value;
};

struct blobd_kvs {
	struct blobd_kv *v;
	size_t nr;
};

/* Content headers, in the order of blobd_header_names. */
enum {
	BLOBD_CONTENT_TYPE,
	BLOBD_CONTENT_ENCODING,
	BLOBD_CONTENT_LANGUAGE,
	BLOBD_CONTENT_DISPOSITION,
	BLOBD_CACHE_CONTROL,
	BLOBD_HEADERS_NR,
};
extern const char *const blobd_header_names[BLOBD_HEADERS_NR];

/* What a Put Blob or Put Block List sets all at once. */
struct blobd_props {
	unsigned refs;
	char *headers[BLOBD_HEADERS_NR]; /* NULL: not set */
	bool has_md5;
	uint8_t md5[16];
	struct blobd_kvs meta;
	struct blobd_kvs tags;
};

/* The committed block list. */
struct blobd_block {
	char *id; /* base64 */
	uint64_t start, len;
};
struct blobd_blocks {
	unsigned refs;
	size_t nr;
	struct blobd_block v[];
};

struct blobd_lease {
	char id[64];
	int duration_s;	   /* -1: for ever */
	int64_t ends_ns;   /* of a finite one */
	bool broken;	   /* break was called */
	int64_t broken_ns; /* when the break is over */
};

struct blobd_copy {
	char id[40];
	char *source;
	const char *status; /* success, pending, failed, aborted */
	time_t completed;
	uint64_t total;
	struct blobd_content *content; /* what a pending one will bring */
	struct blobd_blocks *blocks;
};

struct blobd_blob {
	bool committed; /* false: only staged blocks yet */
	enum blobd_type type;
	const char *tier; /* NULL: Hot, inferred */
	bool rehydrating;
	bool immutable, customer_key, sealed;
	unsigned appends_nr;
	uint64_t etag;
	time_t modified, created;
	struct blobd_content *content;
	struct blobd_props *props;
	struct blobd_blocks *blocks; /* NULL: made by Put Blob */
	struct blobd_map *staged;    /* id -> struct blobd_content, or NULL */
	size_t staged_id_len;
	struct blobd_lease *lease; /* or NULL */
	struct blobd_copy *copy;   /* or NULL */
};

struct blobd_container {
	struct blobd_map *blobs;
	uint64_t etag;
	time_t modified;
	struct blobd_kvs meta;
};

void blobd_store_open(void);
void blobd_store_close(void);
void blobd_store_rdlock(void);
void blobd_store_wrlock(void);
void blobd_store_unlock(void);
/* All containers; under the lock. */
struct blobd_map *blobd_store_containers(void);
struct blobd_container *blobd_store_container(const char *name);
struct blobd_container *blobd_container_add(const char *name);
bool blobd_container_delete(const char *name);

/* Committed or not; NULL if there is nothing. */
struct blobd_blob *blobd_blob_find(struct blobd_container *c, const char *name);
/* Only a committed one. */
struct blobd_blob *blobd_blob_visible(
	struct blobd_container *c, const char *name);
struct blobd_blob *blobd_blob_add(struct blobd_container *c, const char *name);
void blobd_blob_delete(struct blobd_container *c, const char *name);
/* New ETag and Last-Modified. */
void blobd_blob_touch(struct blobd_blob *b);
/* Replaces what a commit replaces; takes over the references.  Staged blocks
 * are dropped, a copy's history too. */
void blobd_blob_replace(struct blobd_blob *b, struct blobd_content *content,
	struct blobd_props *props, struct blobd_blocks *blocks);
void blobd_blob_drop_staged(struct blobd_blob *b);
void blobd_blob_drop_copy(struct blobd_blob *b);

uint64_t blobd_etag_next(void);
void blobd_etag_text(uint64_t etag, char ret[BLOBD_ETAG_BYTES]);

struct blobd_props *blobd_props_new(void);
struct blobd_props *blobd_props_get(struct blobd_props *p);
/* A copy to change before it is shared. */
struct blobd_props *blobd_props_dup(const struct blobd_props *p);
void blobd_props_put(struct blobd_props *p);
void blobd_kvs_add(struct blobd_kvs *kvs, const char *key, const char *value);
void blobd_kvs_copy(struct blobd_kvs *to, const struct blobd_kvs *from);
void blobd_kvs_fini(struct blobd_kvs *kvs);

struct blobd_blocks *blobd_blocks_new(size_t nr);
struct blobd_blocks *blobd_blocks_get(struct blobd_blocks *b);
void blobd_blocks_put(struct blobd_blocks *b);

int64_t blobd_now_ns(void); /* CLOCK_MONOTONIC */

#endif
