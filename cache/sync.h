/*
 * Private to sync.c and checkpoint.c: what is synced, and what must be.
 *
 * Threads: sync.c's, and those that commit.  `mutex` (rank CACHE_SYNC) guards
 * what stands below it; `working` lends the connection to one of them.
 */
#ifndef CACHE_SYNC_H
#define CACHE_SYNC_H

#include "cache/disk.h"

struct cache_sync {
	struct cache *cache;
	int fd;			  /* the WAL */
	struct base_mutex mutex;  /* all below */
	pthread_cond_t done_cond; /* an fdatasync has ended */
	uint64_t started, done;	  /* fdatasyncs */
	bool syncing;
	int err; /* of the last one: see sync.c */

	pthread_cond_t work_cond; /* the thread may have something to do */
	pthread_t thread;
	bool has_thread, stopping;
	bool awake;	     /* it looks by itself: no signal needed */
	bool urgent;	     /* ... before the tick */
	unsigned soon_pages; /* see checkpoint.c */
	unsigned most_pages; /* that the WAL may have; or UINT_MAX */
	unsigned look_pages; /* when the hook looks at the disk again */
	unsigned wal_pages, wal_seen; /* now; at the last checkpoint */
	bool grown;		      /* commits since then */
	_Atomic int64_t full_ns;      /* before then nothing helps */
	_Atomic bool must_wait;	      /* wal_pages >= most_pages */
	uint64_t flush_next;
	bool fresh;	  /* a row carries flush_next */
	bool working;	  /* a flush or checkpoint runs; it alone uses conn */
	pthread_t worker; /* whose, while `working` */
	pthread_cond_t idle_cond;
	struct cache_conn *conn;
};

/* Waits until nobody has the connection, and takes it. */
void cache_sync_work_begin(struct cache_sync *s);
void cache_sync_work_end(struct cache_sync *s);
/* Has this thread taken it?  (A flush commits its number itself.) */
bool cache_sync_is_working(struct cache_sync *s);
/* The thread has something to do.  With the mutex. */
void cache_sync_wake(struct cache_sync *s);

/* ---- checkpoint.c ---- */

/* The writer's commits are watched from here on. */
void cache_checkpoint_open(struct cache_sync *s);
/* [sync] full: the WAL must begin again, the writer waits for it.  *ret_all:
 * all frames are in the database file. */
int cache_checkpoint_now(struct cache *cache, bool full, bool *ret_all);

#endif
