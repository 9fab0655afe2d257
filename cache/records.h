/*
 * What is kept for others: conflicts, prefetch jobs, answers (misc.c).
 * Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_RECORDS_H
#define CACHE_RECORDS_H

#include "cache/open.h"

/* ---- conflicts ---- */

struct cache_conflict {
	uint64_t id;
	char *name, *copy; /* paths; allocated in results */
	char remote_etag[CACHE_ETAG_MAX];
	struct cache_id remote_host; /* whose commit it was; none: a tool's */
	uint64_t local_size_bytes, remote_size_bytes;
	int64_t local_mtime_ns, remote_mtime_ns, found_ns; /* wall clock */
};
int cache_conflict_add(
	struct cache_txn *txn, const struct cache_conflict *conflict);
int cache_conflict_del(struct cache_txn *txn, uint64_t id);
/* The copy has lost its name: whoever took it away has settled it. */
int cache_conflict_settled(struct cache_txn *txn, const char *copy);
/* A directory has another name, and all below it. */
int cache_conflict_rename(
	struct cache_txn *txn, const char *old_dir, const char *new_dir);
typedef int (*cache_conflict_fn)(
	void *arg, const struct cache_conflict *conflict);
int cache_conflict_each(
	struct cache_txn *txn, cache_conflict_fn each, void *arg);

/* ---- prefetch jobs that outlive their command ---- */

struct cache_job {
	uint64_t id;
	char *path; /* allocated in results */
	bool pin, meta_only;
};
int cache_job_add(struct cache_txn *txn, struct cache_job *job);
int cache_job_del(struct cache_txn *txn, uint64_t id);
typedef int (*cache_job_fn)(void *arg, const struct cache_job *job);
int cache_job_each(struct cache_txn *txn, cache_job_fn each, void *arg);

/* ---- answers ---- */

/* The last request whose changes went with it in one transaction, and the
 * inode that it was answered with (0: none): in `slot`, in the place of what
 * was there.  Whoever comes after a crash knows by it what was done. */
int cache_replied_put(
	struct cache_txn *txn, uint32_t slot, uint64_t request, uint64_t ino);
typedef int (*cache_replied_fn)(
	void *arg, uint32_t slot, uint64_t request, uint64_t ino);
int cache_replied_each(struct cache_txn *txn, cache_replied_fn each, void *arg);
/* At a fresh mount: its requests are numbered anew. */
int cache_replied_clear(struct cache_txn *txn);

#endif
