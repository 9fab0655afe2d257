/*
 * What the store holds under each name, as far as it is known (remote.c).
 * Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_REMOTES_H
#define CACHE_REMOTES_H

#include "cache/inodes.h"

struct cache_attrs {
	uint32_t mode, uid, gid;
	uint64_t rdev;
	int64_t mtime_ns;
};

struct cache_remote {
	char *name; /* local path; allocated in results */
	char etag[CACHE_ETAG_MAX];
	uint64_t size_bytes;
	enum cache_kind kind;
	bool slash; /* the marker's blob name is "name/" */
	enum cache_access access;
	bool has_md5;
	uint8_t md5[16];
	/* Of what was committed from blocks of ours: a digest of their list,
	 * made by tier/; as good as an MD5. */
	bool has_list;
	uint8_t list[16];
	struct cache_id content;
	struct cache_id file;
	struct cache_id commit_host;
	uint64_t commit_number; /* 0: not one of ours */
	/* The last commits of ours and others that this one follows, packed by
	 * tier/; NULL/0: none.  Allocated in results. */
	void *parents;
	size_t parents_bytes;
	/* What the inode was given from it: want and have compare equal until
	 * somebody changes the inode. */
	struct cache_attrs attrs;
	/* Metadata keys and headers of others, packed by tier/.  Allocated in
	 * results. */
	void *foreign;
	size_t foreign_bytes;
	uint64_t known_seq; /* WRITEBACK section 6 */
};

int cache_remote_get(
	struct cache_txn *txn, const char *name, struct cache_remote *ret);
int cache_remote_put(struct cache_txn *txn, const struct cache_remote *remote);
int cache_remote_del(struct cache_txn *txn, const char *name);
void cache_remote_fini(struct cache_remote *remote);
/* A row that holds these bytes; `prefer` first if it does. */
int cache_remote_holding(struct cache_txn *txn, const struct cache_id *content,
	const char *prefer, struct cache_remote *ret);
/* Do two names or more hold them? */
bool cache_remote_held_twice(
	struct cache_txn *txn, const struct cache_id *content);
/* Rows below directory `dir` ("" for all), names after `after` (or NULL), in
 * order of name, at most `max`, one level or all of them. */
typedef int (*cache_remote_fn)(void *arg, const struct cache_remote *remote);
int cache_remote_each(struct cache_txn *txn, const char *dir, const char *after,
	bool recursive, size_t max, cache_remote_fn each, void *arg);
/* How many there are below a directory.  Counts: for once, not for each. */
int cache_remote_count(struct cache_txn *txn, const char *dir, uint64_t *ret);
/* Above every known_seq in the table. */
int cache_remote_max_seq(struct cache_txn *txn, uint64_t *ret);

#endif
