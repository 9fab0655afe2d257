/*
 * Private to cache/: the disk half: data files, space, eviction.
 *
 * What it is for.  data.c, prepare.c and clone.c know where data files are;
 * space.c keeps the account and decides whether there is room; evict.c and
 * use.c decide what goes; ballast.c keeps some disk back for the index.
 *
 * Threads and locks.  Any thread.  `space->mutex` (rank CACHE_SPACE) guards
 * the account and is held for arithmetic only.  The order of eviction
 * (`struct cache_use`) changes inside write transactions alone, so the
 * writer lock guards it; the table of recent uses in it has its own mutex
 * (rank CACHE_EVICT).  One eviction pass runs at a time (`passing`); it begins
 * write transactions, so no lock is held meanwhile.
 *
 * Ownership.  Everything belongs to struct cache.
 *
 * Errors.  -errno as in cache.h.
 */
#ifndef CACHE_DISK_H
#define CACHE_DISK_H

#include "cache/db.h"

/* ---- one background job (bg.c) ---- */

/* Runs fn(cache) once or more on the executor after a kick, never twice at a
 * time. */
struct cache_bg;
struct cache_bg *cache_bg_new(struct cache *cache, void (*fn)(struct cache *));
void cache_bg_kick(struct cache_bg *bg);
/* Waits for a run that is under way; none begins afterwards. */
void cache_bg_stop(struct cache_bg *bg);
/* Stops it, if it was not, and frees it. */
void cache_bg_close(struct cache_bg *bg);

/* ---- data files (data.c, prepare.c) ---- */

#define CACHE_HH_NR 256 /* DIR/data/HH: a million files, 4,000 in each */
/* Files that wait to be unlinked; beyond, whoever drops one does it. */
#define CACHE_UNLINKS_MAX 65536

struct cache_data_dir {
	int fd;	      /* DIR/data */
	bool same_fs; /* as one before it: syncfs of that one is enough */
	bool fresh;   /* made by this cache_data_prepare() */
	/* A sync of a new file makes its name durable, too. */
	bool syncs_names;
	_Atomic uint64_t made[CACHE_HH_NR], synced[CACHE_HH_NR];
};

struct cache_data_state {
	struct cache_data_dir *dirs;
	size_t dirs_nr;
	bool leases;
	bool stacked; /* one of them is an overlayfs or its like */
	struct cache_bg *bg;
	struct base_mutex mutex; /* the queue of unlinks: */
	struct cache_drop *drops;
	size_t drops_nr, drops_cap;
	bool draining; /* a thread has taken them */
	pthread_cond_t drained;
};

/* Which of the directories, and which HH in it. */
void cache_data_place(
	uint64_t ino, size_t dirs_nr, size_t *ret_dir, unsigned *ret_hh);
/* [sync] Unlinks what was queued, on this thread, or waits for the one that has
 * begun to. */
void cache_data_drain(struct cache *cache);
/* The same as cache_data_probe() for a descriptor of one's own. */
int cache_data_probe_fd(int fd, bool writers_only);

/* ---- the account (space.c) ---- */

/* Data files occupy whole blocks; so do reservations. */
#define CACHE_BLOCK_BYTES 4096
/* How long an answer of statvfs is trusted; in between our own reservations
 * are counted against it. */
#define CACHE_STATVFS_NS 1000000000

struct cache_space_fs {
	int fd; /* a data directory's, not ours */
	uint64_t total, free, reserve, files, files_free;
};

struct cache_space_state {
	struct cache *cache;
	uint64_t limit, dirty_limit; /* resolved */
	struct cache_bg *bg;
	_Atomic bool started;
	_Atomic int64_t used; /* as cache->totals.local_bytes */

	struct base_mutex mutex; /* all of these: */
	pthread_cond_t changed;	 /* a batch or a pass has ended */
	struct cache_space_fs fs[CACHE_DIRS_MAX];
	size_t fs_nr;
	int64_t fs_stamp_ns; /* when statvfs was asked */
	uint64_t spent;	     /* reservations accounted since then */
	uint64_t inflight;   /* reserved, not yet accounted */
	uint64_t wanted;     /* of those who wait in reserve */
	bool passing;
	uint64_t pass_nr;      /* passes that have ended */
	bool exhausted;	       /* the last one found nothing more */
	uint64_t leader_wants; /* bytes that the one who runs it needs */

	_Atomic int64_t pause_ns; /* the background rests until then */
	/* The pass that runs has these: evict.c. */
	bool swept;
	_Atomic int64_t parked_ns; /* not all of PARKED before then */
	_Atomic uint64_t ballast, ballast_want; /* bytes there now; in full */
	_Atomic bool ballast_released;

	struct cache_use *use;
};

/* What a pass is after: room for those who wait, or the low-water mark. */
enum cache_pass_goal {
	CACHE_PASS_FIT,
	CACHE_PASS_LOW,
};
/* Bytes that must still go for it; 0: reached. */
uint64_t cache_space_missing(struct cache *cache, enum cache_pass_goal goal);
/* Would that many bytes still leave the file systems their reserve? */
bool cache_space_has_free(struct cache *cache, uint64_t bytes);

/* ---- eviction (evict.c) ---- */

/* [sync] Evicts until the goal is reached or nothing more may go; that is what
 * `*ret_exhausted` says.  One at a time: see `passing`. */
int cache_evict_pass(
	struct cache *cache, enum cache_pass_goal goal, bool *ret_exhausted);

/* ---- the order of eviction (use.c) ---- */

enum cache_queue {
	CACHE_GHOST,  /* evicted; remembered for a while */
	CACHE_SMALL,  /* first use */
	CACHE_MAIN,   /* used again */
	CACHE_PARKED, /* dirty or pinned when its turn came */
	CACHE_QUEUES,
};

/* A candidate, oldest first. */
struct cache_candidate {
	uint64_t ino, place, uses;
};

/* Inodes evicted or looked at in one write transaction. */
#define CACHE_EVICT_BATCH 64

struct cache_use *cache_use_new(struct cache *cache);
/* Nothing runs in the background any more. */
void cache_use_stop(struct cache_use *use);
void cache_use_free(struct cache_use *use);
/* Loads the ends of the queues; before the first use of the others. */
int cache_use_load(struct cache_use *use, struct cache_txn *txn);
/* Local bytes of an inode begin to be: it will be a candidate, also if nobody
 * ever opens it.  Cheap, in memory. */
void cache_use_enter(struct cache *cache, uint64_t ino);
/* Uses noted in memory go to the table, in a transaction of their own. */
int cache_use_flush(struct cache *cache);
/* The end of a queue: all that is there now has a lower place. */
uint64_t cache_use_end(const struct cache_use *use, enum cache_queue queue);
/* How many there are, about. */
uint64_t cache_use_length(
	struct cache_use *use, struct cache_txn *txn, enum cache_queue queue);
/* The oldest of a queue with a place below `end`; how many. */
ssize_t cache_use_oldest(struct cache_txn *txn, enum cache_queue queue,
	uint64_t end, struct cache_candidate *ret, size_t max);
/* To the tail of a queue. */
int cache_use_move(struct cache_use *use, struct cache_txn *txn, uint64_t ino,
	enum cache_queue queue, uint64_t uses);
int cache_use_forget(struct cache_txn *txn, uint64_t ino);
/* Looks through the next `max` inodes after `*cursor` for local ones that are
 * in no queue (uses noted in memory are lost in a crash); `*cursor` becomes
 * UINT64_MAX at the end. */
int cache_use_sweep(struct cache_use *use, struct cache_txn *txn,
	uint64_t *cursor, size_t max);

/* ---- ballast (ballast.c) ---- */

void cache_ballast_open(struct cache *cache);
/* [sync] Gives it up.  False: there was none. */
bool cache_ballast_release(struct cache *cache);
/* Makes it again where there is room for it. */
void cache_ballast_renew(struct cache *cache);
/* Is some missing that should be there? */
bool cache_ballast_missing(struct cache *cache);

#endif
