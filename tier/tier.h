/*
 * Moves data between the cache and the store, in both directions.
 *
 * What it is for.  Downwards it makes names and bytes local ("is it still
 * current", "make these bytes local").  Upwards it is a reconciler: the index
 * says what each name should hold, `remote` what it holds, and this makes the
 * second equal to the first, in the order of WRITEBACK section 5.
 *
 * Threads and locks.  Any function may be called from any thread.  Functions
 * with a `struct cache_txn` run inside the caller's transaction and wait for
 * nothing.  Functions with a `struct tier_call` return at once; its `done`
 * runs exactly once, later, on a thread of the executor, with no lock held
 * (never inside the call that was given it).  Callbacks of the config are
 * called with no lock held unless they say otherwise.
 *
 * Ownership.  A struct tier_call is the caller's and stays until `done`.
 *
 * Errors.  -ENOENT, -EIO (the store does not answer in time, or the bytes are
 * gone), -EINTR (cancelled), -EACCES (the store refuses us), -ENOSPC (no room
 * for what was fetched), -ESTALE (the inode's bytes were replaced).
 */
#ifndef TIER_TIER_H
#define TIER_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "cache/cache.h"

struct blob_store;
struct tier;

struct tier_call {
	void (*done)(struct tier_call *call, int err);
	/* tier's own while it is pending */
	void *owner;
	struct tier_call *next, **prev;
	int64_t deadline_ns;
	int err;
};
/* Asks for an early end: `done` comes soon, with -EINTR unless it came to an
 * end by itself.  Not after `done` ran. */
void tier_cancel(struct tier *tier, struct tier_call *call);

#define TIER_FOREVER_NS INT64_MAX

struct tier_config {
	struct cache *cache;
	struct blob_store *store;
	struct base_env *env;
	const char *host_name; /* for conflict names */
	int64_t freshness_ns;  /* TIER_FOREVER_NS: forever; 0: every open */
	int64_t store_timeout_ns;
	int64_t writeback_open_ns;
	int64_t refuse_wait_ns;	   /* 0: as limits.h says */
	int64_t sent_expiry_ns;	   /* 0: likewise */
	uint64_t read_ahead_bytes; /* largest window of one stream */
	uint64_t fetch_whole_bytes;
	bool read_only; /* sends no mutation, ever */
	/* What blobs get that carry none. */
	uint32_t uid, gid, file_mode, dir_mode;
	/* The kernel should forget what it knows; never awaited. */
	void (*inode_changed)(void *arg, uint64_t ino);
	void (*entry_changed)(void *arg, uint64_t parent, const char *name);
	/* The container is another one than ours; as after tier_suspect().
	 * NULL: nobody wants to know. */
	void (*suspected)(void *arg);
	/* As in struct cache_config. */
	bool (*claim)(void *arg, uint64_t ino);
	void (*unclaim)(void *arg, uint64_t ino);
	void *arg;
};

int tier_open(const struct tier_config *config, struct tier **ret_tier);
/* [sync] After an unclean boot (cache_opened.unclean), before cache_start() and
 * the first request: what was not synced when the power went keeps its name or
 * gets another, and is not sent (recover.c). */
int tier_recover(struct tier *tier);
/* Background work begins: the line moves, jobs go on. */
void tier_start(struct tier *tier);
/* First contact: the container is there, is the one this cache belongs to
 * (-EXDEV), takes our credentials; writes `.forebay/id` if it may.  A cache
 * that was made just now needs it. */
void tier_probe(struct tier *tier, struct tier_call *call, char *ret_why,
	size_t why_bytes);
/* The container was not there.  Nothing goes to the store any more until
 * tier_probe() has found the one that this cache belongs to. */
void tier_suspect(struct tier *tier);
/* No new work; pending calls end with -EINTR; what is under way at the store
 * is given up (the journal has it).  Then tier_close(). */
void tier_stop(struct tier *tier);
void tier_close(struct tier *tier);
/* From blob_config.state_changed. */
void tier_store_state(struct tier *tier, bool up, const char *why);

/* ---- what is there (tier/list.c) ---- */

/* How long what the index says may be trusted from now, in ns; 0: ask the
 * store first (tier_refresh_*).  What this host changed and still owes, and
 * what lies below a directory the store has never seen, is always fresh.
 * `exists`: the index has the name. */
int64_t tier_fresh_name_ns(struct tier *tier, struct cache_txn *txn,
	uint64_t parent, const char *name, bool exists);
int64_t tier_fresh_dir_ns(
	struct tier *tier, struct cache_txn *txn, uint64_t ino);
/* Makes one name current: by listing its directory, or, in very large ones
 * and with freshness 0, by asking for it alone.  Then look in the index again.
 * With the store away: 0 where the index has something to show, else -EIO. */
void tier_refresh_name(struct tier *tier, uint64_t parent, const char *name,
	struct tier_call *call);
/* Makes the listing of a directory complete and current. */
void tier_refresh_dir(struct tier *tier, uint64_t ino, struct tier_call *call);
/* A complete listing of the whole subtree, for rename and prefetch. */
void tier_refresh_tree(struct tier *tier, uint64_t ino, struct tier_call *call);

/* ---- bytes (tier/fetch.c, tier/stream.c) ---- */

/* Makes start..end local (cut at the file's size), one flight per chunk
 * however many wait; reads ahead if this continues a stream. */
void tier_fetch(struct tier *tier, uint64_t ino, uint64_t start, uint64_t end,
	struct tier_call *call);
/* The whole file.  `background`: for prefetch, yields to readers; else somebody
 * opens it, and its siblings may be wanted next (tier/ahead.c). */
void tier_fetch_whole(struct tier *tier, uint64_t ino, bool background,
	struct tier_call *call);

/* A file whose bytes were local was opened for reading: was it fetched because
 * its siblings were?  Cheap. */
void tier_opened(struct tier *tier, uint64_t ino);

/* The target of a symlink, into the index. */
void tier_fetch_target(struct tier *tier, uint64_t ino, struct tier_call *call);

/* A served read was answered from local bytes of a file that is not whole:
 * its stream goes on, and what lies ahead is asked for.  Never waits. */
void tier_read_ahead(
	struct tier *tier, uint64_t ino, uint64_t start, uint64_t end);
/* Is anything of this inode being fetched?  It is in use, then. */
bool tier_fetching(struct tier *tier, uint64_t ino);

/* ---- order (tier/order.c): inside the transaction of the change ---- */

enum tier_change {
	TIER_NEW,     /* a name that was not there */
	TIER_CONTENT, /* other bytes under a name that was there */
	TIER_ATTR,    /* mode, owner, times */
	TIER_DELETE,
	TIER_RENAME,
	TIER_SYMLINK,
};

/* May a file of this name be made?  -EPERM: `.forebay` is forebay's own;
 * -EINVAL, -ENAMETOOLONG: the store cannot hold it. */
int tier_name_check(struct tier *tier, const char *path);

/*
 * `path` now holds `inode` (NULL: nothing), at this place in the order.
 * `displaced`: the inode that lost the name (0: none); if nothing names it
 * any more the caller has made it held.
 */
int tier_enter(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, enum tier_change change,
	uint64_t displaced);
/* The same for a rename that the index has done already: one file, symlink or
 * marker; `displaced` lost the new name. */
int tier_enter_rename(struct tier *tier, struct cache_txn *txn,
	const char *old_path, const char *new_path,
	const struct cache_inode *inode, uint64_t displaced);
/* A directory, with everything below it; needs tier_refresh_tree() first
 * unless the store never saw it (tier_tree_known). */
int tier_enter_rename_dir(struct tier *tier, struct cache_txn *txn,
	const char *old_path, const char *new_path,
	const struct cache_inode *inode, uint64_t displaced);
/* Is everything below this directory in the index? */
bool tier_tree_known(struct tier *tier, struct cache_txn *txn, uint64_t ino);
/* An fsync was acknowledged: the next change begins an epoch. */
void tier_mark_sync(struct tier *tier);
/* Names came or went in a directory: its new mtime is told when it has been
 * quiet for writeback_open, and at flush.  Takes no part in the transaction. */
void tier_dir_changed(struct tier *tier, uint64_t ino);
/* After the commit of any of these: the line may have work. */
void tier_kick(struct tier *tier);

/* Must an older state of this inode be kept before its bytes change?  Inside
 * a transaction: true if an unsent row holds its current data file. */
bool tier_keep_needed(
	struct tier *tier, struct cache_txn *txn, const struct cache_inode *);
/* Does an unsent row say just this state of a written-to inode, and was it
 * entered so lately that nobody has read the bytes for it?  Then stores that
 * came later go with it, in its place. */
bool tier_state_waits(struct tier *tier, struct cache_txn *txn,
	const struct cache_inode *inode);
/* [sync] Keeps it: a reflink, a small copy, or joins the epochs. */
int tier_keep(struct tier *tier, uint64_t ino);

/* ---- waiting for the store ---- */

/* Until nothing at or below `path` ("" all) that was owed at the call is owed
 * any more.  -EIO with something set aside there. */
void tier_flush(struct tier *tier, const char *path, struct tier_call *call);

/* ---- for status ---- */

struct tier_status {
	bool store_up;
	char store_why[256];
	uint64_t hit_bytes, miss_bytes; /* served: from local / fetched */
	uint64_t sent_bytes;
	uint64_t waits;			  /* opens that waited for the store */
	uint64_t ahead_files, ahead_used; /* fetched ahead; opened since */
	uint64_t pending, dirty_bytes, dirty_files, set_aside, conflicts;
	uint64_t unconfirmed, recovered; /* by a power cut, see cache.h */
	uint64_t groups;
	int64_t oldest_dirty_ns; /* age */
	char held_by[512];	 /* the name at the head of the line, and why */
	int64_t held_ns;
	uint64_t open_flights;
};
int tier_status(struct tier *tier, struct tier_status *ret);
/* What holds a row of the line: a class, and words that stay valid as long as
 * the row.  `first_epoch`: cache_owed_first_epoch() of the same transaction. */
enum tier_wait {
	TIER_WAIT_TURN,	   /* for earlier changes */
	TIER_WAIT_SENDING, /* it is under way */
	TIER_WAIT_RETRY,   /* it failed, and is tried again */
	TIER_WAIT_REFUSED, /* the store refuses it, since refused_ns */
	TIER_WAIT_ASIDE,   /* ... for good: it is out of the line */
};
enum tier_wait tier_why(struct tier *tier, const struct cache_owed *row,
	uint64_t first_epoch, const char **ret_why);
/* Counted by fs/: bytes answered from local data on the served path. */
void tier_count_hit(struct tier *tier, uint64_t bytes);

#endif
