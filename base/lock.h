/*
 * Mutexes with ranks.
 *
 * A thread may take a mutex only if its rank is higher than that of every
 * mutex it holds.  Debug builds (DEVELOPER=1) check this at each lock and
 * abort; release builds cost nothing.  No lock is held across network, fsync,
 * ring wait, an upward callback or a FUSE notification.
 *
 * Errors: none; a failed pthread call is our bug and aborts.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdint.h>

/* The table of ranks, outermost first.  Every mutex of the program is here. */
enum base_rank {
	BASE_RANK_FS_SESSION = 10,
	BASE_RANK_FS_SIGNALS = 20,
	BASE_RANK_FS_CONTROL = 30,
	BASE_RANK_TIER_LIST = 40,
	BASE_RANK_TIER_JOB = 55,
	BASE_RANK_TIER_AHEAD = 57,
	BASE_RANK_TIER = 60,
	BASE_RANK_CACHE_WRITER = 70,
	/* asked by claims, which come inside a write transaction */
	BASE_RANK_TIER_FETCH = 72,
	BASE_RANK_TIER_GONE = 73, /* the same */
	BASE_RANK_TIER_DIRS = 74, /* the same */
	BASE_RANK_CACHE_EVICT = 75,
	BASE_RANK_CACHE_READERS = 80,
	BASE_RANK_CACHE_SYNC = 85,
	BASE_RANK_CACHE_SPACE = 88,
	BASE_RANK_FS_REPLIED = 89, /* taken inside a write transaction */
	BASE_RANK_FS_NOTIFY = 90,
	BASE_RANK_FS_HANDLE = 92, /* claims come inside a write transaction */
	BASE_RANK_BLOB_STORE = 100,
	BASE_RANK_BLOB_RETRY = 110,
	BASE_RANK_BLOB_TOKEN = 120,
	BASE_RANK_BLOB_LOOP = 130,
	BASE_RANK_STRAND = 138,
	BASE_RANK_TASK = 140,
	BASE_RANK_STAT = 150,
	BASE_RANK_LOG = 160,
};

struct base_mutex {
	pthread_mutex_t mutex;
	enum base_rank rank;
};

void base_mutex_init(struct base_mutex *m, enum base_rank rank);
void base_mutex_fini(struct base_mutex *m);
void base_lock(struct base_mutex *m);
void base_unlock(struct base_mutex *m);
/* Waits on cond, which must have been made by base_cond_init(). */
void base_cond_init(pthread_cond_t *cond); /* CLOCK_MONOTONIC */
void base_cond_wait(pthread_cond_t *cond, struct base_mutex *m);
/* Returns 0 or -ETIMEDOUT. */
int base_cond_wait_ns(
	pthread_cond_t *cond, struct base_mutex *m, int64_t timeout_ns);

#endif
