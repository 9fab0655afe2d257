/*
 * The local truth: an index (SQLite) and data files on NVMe.
 *
 * What it is for.  The index holds the tree as this host sees it, what the
 * store holds under each name, what the store must still be told (the
 * write-back journal), and which bytes are local.  It is the only state; a
 * process that dies loses nothing that was committed here.
 *
 * Threads and locks.  Every function may be called from any thread.  A struct
 * cache_txn belongs to the thread that began it.  There is one writer at a
 * time: cache_write() waits for it; readers never wait.  Never keep a
 * transaction across network, a wait, or a callback; functions marked [sync]
 * wait for the disk and are called without a transaction.
 *
 * Ownership.  Callers own what they pass; what comes back in a struct is
 * copied into it; strings that come back allocated say so.
 *
 * Errors.  0 or -errno: -ENOENT no such row, -EIO the index or the disk
 * failed (logged here), -ENOSPC.  After an error in a write transaction only
 * cache_abort() is allowed.  File-system semantics (ENOTEMPTY, EEXIST ...)
 * are decided by the caller inside its transaction.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/env.h"
#include "base/str.h"

struct cache;
struct cache_txn;

#define CACHE_ROOT_INO 1
#define CACHE_ID_BYTES 16
#define CACHE_ETAG_MAX 96 /* BLOB_ETAG_MAX */
#define CACHE_NAME_MAX 255
#define CACHE_PATH_MAX 4096

enum cache_kind {
	CACHE_GONE, /* only in owed rows: nothing should be there */
	CACHE_FILE,
	CACHE_DIR,
	CACHE_SYMLINK,
	CACHE_FIFO,
	CACHE_SOCKET,
	CACHE_CHAR,
	CACHE_BLOCK,
};

/* How much of a regular file is local. */
enum cache_data {
	CACHE_NONE,
	CACHE_PART, /* what `extent` rows say */
	CACHE_WHOLE,
};

/* What a power cut left in doubt: not sent to the store by itself. */
enum cache_doubt {
	CACHE_SURE,
	CACHE_UNCONFIRMED, /* changed after its last fsync: keeps its name */
	CACHE_RECOVERED,   /* never fsynced: has a name of its own */
};

/* An id of bytes: new whenever bytes change, kept by rename and copy.  All
 * zero: none. */
struct cache_id {
	uint8_t bytes[CACHE_ID_BYTES];
};
static inline bool cache_id_eq(
	const struct cache_id *a, const struct cache_id *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}
bool cache_id_is_none(const struct cache_id *id);

/* ---- open and close ---- */

struct cache_config {
	const char *const *dirs; /* the first holds the index */
	size_t dirs_nr;
	const char *store; /* canonical URL: a cache belongs to one store */
	struct base_env *env;
	bool read_only;	   /* nothing local is ever created by users */
	uint32_t uid, gid; /* of the root directory when it is made */
	/* Sizes in bytes, or in percent of the file system if the flag is
	 * set.  See DESIGN section 7. */
	uint64_t limit, reserve, dirty_limit;
	bool limit_percent, reserve_percent, dirty_limit_percent;
	/*
	 * Claims an inode whose local bytes are about to be dropped.  False: it
	 * is open or mapped.  True: nobody has it, and opens wait until
	 * unclaim().  Called inside a write transaction, which ends soon after;
	 * so an open must not hold one while it waits.
	 */
	bool (*claim)(void *arg, uint64_t ino);
	void (*unclaim)(void *arg, uint64_t ino);
	void *arg;
};

/* What cache_open() found. */
struct cache_opened {
	bool fresh; /* made just now: the store must be seen once */
	/* Not closed cleanly, and the host was rebooted: tier_recover() comes
	 * before cache_start(), and before anything else. */
	bool unclean;
	/* One line for the user, or "": the old index is lost. */
	char salvaged[1024];
};

/*
 * [sync] Opens or makes the cache directories.  Fails with one line in
 * ret_why: -EBUSY another mount has it; -EEXIST it belongs to another store;
 * -EPROTO the index was made by a newer version; -EROFS, -ENOSPC, -EACCES,
 * -ENOTDIR, -EOPNOTSUPP (a file system that cannot hold it).  Leaves nothing
 * half made.
 */
int cache_open(const struct cache_config *config, struct cache **ret_cache,
	struct cache_opened *ret_opened, char *ret_why, size_t why_bytes);
/* Background work (checkpoints, flushes, eviction) begins; after the fork. */
void cache_start(struct cache *cache);
/* [sync] Everything durable, clean flag set.  No transaction may be open. */
void cache_close(struct cache *cache);
/* [sync] Closes a cache that this mount made (cache_opened.fresh) and that holds
 * nothing of anybody yet, and takes it away again; the directories stay. */
void cache_discard(struct cache *cache);

/* 128 random bits made with the cache directory; names this host. */
const struct cache_id *cache_host(const struct cache *cache);
/* The file system of the first directory, for statfs. */
int cache_root_fd(const struct cache *cache);

/* ---- transactions ---- */

/* Both return a transaction that every function below takes; only one from
 * cache_write() may change anything. */
int cache_read(struct cache *cache, struct cache_txn **ret_txn);
int cache_write(struct cache *cache, struct cache_txn **ret_txn);
/* Ends either kind.  The commit is not durable until cache_sync_index(). */
int cache_commit(struct cache_txn *txn);
void cache_abort(struct cache_txn *txn);
/* Claims an inode with config.claim until the end of this transaction: nobody
 * has it open, and nobody opens it meanwhile.  -EBUSY: in use. */
int cache_claim(struct cache_txn *txn, uint64_t ino);
/* The cache of a transaction. */
struct cache *cache_of(struct cache_txn *txn);

/* Small durable settings ("epoch", "store_id", ...).  Missing: 0 / -ENOENT. */
int cache_meta_get_u64(struct cache_txn *txn, const char *key, uint64_t *ret);
int cache_meta_set_u64(struct cache_txn *txn, const char *key, uint64_t value);
int cache_meta_get_text(
	struct cache_txn *txn, const char *key, struct base_str *ret);
int cache_meta_set_text(
	struct cache_txn *txn, const char *key, const char *value);

/* ---- inodes and names (cache/tree.c) ---- */

/* What a data file looked like (statx) when its bytes were last known. */
struct cache_stamp {
	uint64_t size_bytes;
	int64_t mtime_ns, ctime_ns;
};

struct cache_inode {
	uint64_t ino;
	enum cache_kind kind;
	uint32_t mode; /* 07777 bits */
	uint32_t uid, gid;
	uint32_t nlink; /* names; a directory: 2 + subdirectories */
	uint64_t rdev;
	uint64_t size_bytes;
	int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
	uint64_t gen;	     /* content changes */
	uint64_t meta_gen;   /* attribute changes */
	uint64_t synced_gen; /* highest gen durable here */
	uint64_t serial;     /* number of the data file */
	uint64_t serial_top; /* highest number ever used for it */
	enum cache_data data;
	bool written;	/* a writer or writable mapping may exist */
	bool stored;	/* some remote row holds these bytes, for sure */
	bool implicit;	/* a directory without a marker in the store */
	bool no_data;	/* the store refuses to give its bytes: EIO */
	bool read_only; /* append or page blob: no writing */
	bool fsynced;	/* at some time since it was last in step */
	enum cache_doubt doubt;
	struct cache_id content;
	struct cache_id file;	  /* kept across renames, travels in metadata */
	struct cache_stamp stamp; /* valid where data != NONE and !written */
	uint64_t local_bytes;	  /* allocated on disk, for the account */
};

int cache_inode_get(
	struct cache_txn *txn, uint64_t ino, struct cache_inode *ret);
/* A file with this content that is not whole here, one with a name first. */
int cache_inode_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret);
/* The same of a symlink that was never read here. */
int cache_symlink_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret);
/* Inserts; ino, and for 0 times now, are filled in.  Numbers are never used
 * twice. */
int cache_inode_add(struct cache_txn *txn, struct cache_inode *inode);
/* Writes all columns back. */
int cache_inode_put(struct cache_txn *txn, const struct cache_inode *inode);
/* Removes the row, its extents, pins, xattrs; its data file goes after the
 * commit unless an owed row keeps it. */
int cache_inode_del(struct cache_txn *txn, uint64_t ino);
int cache_target_get(struct cache_txn *txn, uint64_t ino, struct base_str *ret);
int cache_target_set(struct cache_txn *txn, uint64_t ino, const char *target);
/* A fresh content id or file id. */
void cache_id_new(struct cache *cache, struct cache_id *ret);
/* Notes a use for eviction's order; cheap, in memory, batched. */
void cache_touch(struct cache *cache, uint64_t ino);

/* A name in a directory. */
struct cache_dentry {
	uint64_t parent, ino;
	uint64_t cookie; /* order and offset in the directory: > 0, stable */
	char name[CACHE_NAME_MAX + 1];
};

int cache_dentry_get(struct cache_txn *txn, uint64_t parent, const char *name,
	struct cache_dentry *ret);
/* Cookie is chosen here.  -EEXIST.  Maintains no link counts. */
int cache_dentry_add(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino);
int cache_dentry_del(struct cache_txn *txn, uint64_t parent, const char *name);
/* Points an existing name at another inode, cookie kept. */
int cache_dentry_set(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino);
/* The names of `parent` with a cookie above `after`, in order of cookie, with
 * their inodes, until `each` returns non-zero (which is returned). */
typedef int (*cache_dentry_fn)(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode);
int cache_dentry_each(struct cache_txn *txn, uint64_t parent, uint64_t after,
	cache_dentry_fn each, void *arg);
/* True if the directory has no name in it. */
int cache_dir_is_empty(struct cache_txn *txn, uint64_t ino, bool *ret);
/* Some name of an inode; -ENOENT if it has none. */
int cache_dentry_of(
	struct cache_txn *txn, uint64_t ino, struct cache_dentry *ret);
/* The path of an inode from the root, without a leading slash; "" is the
 * root.  -ENOENT for an inode without a name. */
int cache_path_of(struct cache_txn *txn, uint64_t ino, struct base_str *ret);
/* The path of NAME in PARENT. */
int cache_path_join(struct cache_txn *txn, uint64_t parent, const char *name,
	struct base_str *ret);
/* The inode a path names; -ENOENT, -ENOTDIR. */
int cache_resolve(
	struct cache_txn *txn, const char *path, struct cache_inode *ret);
/* Is `ino` inside the subtree of directory `dir` (or `dir` itself)? */
int cache_is_below(
	struct cache_txn *txn, uint64_t ino, uint64_t dir, bool *ret);

/* Unlinked or replaced inodes that somebody still needs. */
int cache_held_add(struct cache_txn *txn, uint64_t ino);
/* All of them: after a fresh mount nobody needs them but owed rows. */
typedef int (*cache_ino_fn)(void *arg, uint64_t ino);
int cache_held_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* All inodes marked written-to: an earlier run may have left them so. */
int cache_written_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* It has a name again. */
int cache_held_del(struct cache_txn *txn, uint64_t ino);
/* Drops a held inode if no owed row names it and `open` is false; otherwise
 * nothing.  `*ret_gone` tells. */
int cache_held_put(
	struct cache_txn *txn, uint64_t ino, bool open, bool *ret_gone);

/* When a directory was last listed.  Ages use base_boot_ns(); a listing made
 * before the last boot has listed_ns < 0 (usable offline, not fresh). */
struct cache_listing {
	int64_t listed_ns;
	bool complete; /* every name was seen once */
};
int cache_listing_get(
	struct cache_txn *txn, uint64_t ino, struct cache_listing *ret);
int cache_listing_set(struct cache_txn *txn, uint64_t ino,
	const struct cache_listing *listing);

/* Pins: keep local.  Directories pin what is below them. */
int cache_pin_set(struct cache_txn *txn, uint64_t ino, bool pinned);
/* Is it, or a directory above it, pinned? */
int cache_pin_get(struct cache_txn *txn, uint64_t ino, bool *ret);

/* ---- what the store holds under each name (cache/remote.c) ---- */

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

/* ---- the write-back journal (cache/journal.c) ---- */

enum cache_owed_state {
	CACHE_OWED_UNSENT,
	CACHE_OWED_SENT,  /* its visible request is in `sent` */
	CACHE_OWED_ASIDE, /* refused for good: out of the line */
};

/* The order within a group. */
enum cache_owed_phase {
	CACHE_OWED_NEW,
	CACHE_OWED_REPLACES,
	CACHE_OWED_NEWEST, /* of its directory's: given by cache_owed_join() */
	CACHE_OWED_DELETES,
};

/* Files longer than this have an index of their own: they are staged. */
#define CACHE_OWED_LARGE (8ULL * 1024 * 1024)

/*
 * One change that the store must be told: what `name` should hold at this
 * place in the order.  A row describes that state completely: `ino` and
 * `serial` say where its bytes are, and when they are no longer the inode's
 * current ones, this row keeps them (the older state is not dropped before
 * the row is).
 */
struct cache_owed {
	uint64_t seq; /* given by cache_owed_add() */
	uint64_t epoch;
	char *name;	      /* allocated in results */
	enum cache_kind kind; /* CACHE_GONE: nothing */
	enum cache_owed_state state;
	bool group;    /* joined: all of it or nothing (section 5) */
	uint8_t phase; /* enum cache_owed_phase: what it would be in a group */
	bool attrs_only; /* bytes are those of the row's time in the store */
	bool quiet;	 /* may be sent while written: seen quiet */
	uint8_t change;	 /* enum tier_change, opaque here */
	uint64_t ino, serial, size_bytes, gen; /* serial 0: not local */
	struct cache_id content;
	struct cache_attrs attrs;
	uint64_t displaced; /* the inode that lost this name, 0: none */
	int64_t entered_ns; /* base_boot_ns(), 0 in add: now, -1: before boot */
	uint32_t tries;
	char *error;	    /* why it was refused last; allocated, or NULL */
	int64_t refused_ns; /* first refusal, 0: none, -1: before boot */
};

void cache_owed_fini(struct cache_owed *row);
int cache_owed_add(struct cache_txn *txn, struct cache_owed *row);
/* Writes all columns but seq back; lets go of what only its old (ino, serial)
 * kept. */
int cache_owed_put(struct cache_txn *txn, const struct cache_owed *row);
/* Removes it and lets go of what it kept: an older data file, or a held inode
 * that nobody uses (cache_claim()). */
int cache_owed_del(struct cache_txn *txn, uint64_t seq);
int cache_owed_get(struct cache_txn *txn, uint64_t seq, struct cache_owed *ret);
/* Rows set aside: is there any at all, is there one of this name; those of a
 * name go, its newer state answers for them. */
bool cache_owed_has_aside(struct cache_txn *txn);
int cache_owed_is_aside(struct cache_txn *txn, const char *name, bool *ret);
int cache_owed_drop_aside(struct cache_txn *txn, const char *name);
/* Gives a row a new, highest seq. */
int cache_owed_renumber(struct cache_txn *txn, uint64_t seq, uint64_t *ret_seq);
/* The newest row of a name, or of a name in that state only. */
int cache_owed_newest(
	struct cache_txn *txn, const char *name, struct cache_owed *ret);
int cache_owed_newest_unsent(
	struct cache_txn *txn, const char *name, struct cache_owed *ret);
/* The oldest unsent row of a name above `after_seq`. */
int cache_owed_next_unsent(struct cache_txn *txn, const char *name,
	uint64_t after_seq, struct cache_owed *ret);
/* Does no other row of its name, but those set aside, come before this one? */
int cache_owed_is_first(
	struct cache_txn *txn, const struct cache_owed *row, bool *ret);
/* Removes a row whose state will not be sent; the next one of its name answers
 * for it: for the bytes, if that is attrs_only, and for `displaced`. */
int cache_owed_fall_out(struct cache_txn *txn, uint64_t seq);
/* Any row that is not set aside, or a pending prefix that covers the name? */
int cache_owed_any(struct cache_txn *txn, const char *name, bool *ret);
/* The same without looking at prefixes. */
int cache_owed_any_row(struct cache_txn *txn, const char *name, bool *ret);
/* Highest seq of a row or a directory rename (0: none). */
int cache_owed_max_seq(struct cache_txn *txn, uint64_t *ret);
/* The lowest epoch with a row that is not set aside, or with a directory
 * rename; 0: none. */
int cache_owed_first_epoch(struct cache_txn *txn, uint64_t *ret);
/* The highest seq of an epoch's rows that are not set aside; 0: none. */
int cache_owed_last_of_epoch(
	struct cache_txn *txn, uint64_t epoch, uint64_t *ret);
/* Rows not set aside with epoch >= `epoch` after (`epoch`, `after_seq`), in
 * (epoch, seq) order, until non-zero. */
typedef int (*cache_owed_fn)(void *arg, const struct cache_owed *row);
int cache_owed_each(struct cache_txn *txn, uint64_t epoch, uint64_t after_seq,
	cache_owed_fn each, void *arg);
/* Unsent files longer than CACHE_OWED_LARGE, likewise. */
int cache_owed_each_large(struct cache_txn *txn, uint64_t epoch,
	uint64_t after_seq, cache_owed_fn each, void *arg);
/* Rows of a group of one phase, in order of seq. */
int cache_owed_each_phase(struct cache_txn *txn, uint64_t epoch,
	enum cache_owed_phase phase, cache_owed_fn each, void *arg);
/* The first phase that a group has rows of; -ENOENT: it is no group. */
int cache_owed_first_phase(
	struct cache_txn *txn, uint64_t epoch, enum cache_owed_phase *ret);
/* Does this epoch have a row for that directory in phase CACHE_OWED_NEW? */
int cache_owed_new_dir(
	struct cache_txn *txn, uint64_t epoch, const char *name, bool *ret);
/* Rows below directory `dir` ("" all), set aside included, in order of name. */
int cache_owed_each_below(
	struct cache_txn *txn, const char *dir, cache_owed_fn each, void *arg);
/* Rows set aside after this name and seq, in order of these. */
int cache_owed_each_aside(struct cache_txn *txn, const char *name,
	uint64_t after_seq, cache_owed_fn each, void *arg);
/* Of a name and what is below it ("" all), rows with seq <= upto: is any of
 * them not set aside (or a directory rename pending there), is any aside? */
int cache_owed_below(struct cache_txn *txn, const char *path, uint64_t upto_seq,
	bool *ret_owed, bool *ret_aside);
/* Joins epochs a..b (WRITEBACK section 5): rows get epoch b and group; of the
 * unsent rows of one name only the newest stays, and it answers for what the
 * others said (attrs_only, displaced).  The newest replacement of each
 * directory gets its phase.  Directory renames get epoch b.  Nothing may enter
 * epoch b any more. */
int cache_owed_join(struct cache_txn *txn, uint64_t a, uint64_t b);
/* Renames the unsent rows below a directory (not its own) that was never sent
 * there, and those set aside.  Deletions stay where they are. */
int cache_owed_rename(
	struct cache_txn *txn, const char *old_dir, const char *new_dir);
/* Does a row need this data file?  One that was sent does, too: its answer may
 * be lost, and the request not applied. */
int cache_owed_refers(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, bool *ret);
/* The newest such row; -ENOENT. */
int cache_owed_newest_of(struct cache_txn *txn, uint64_t ino, uint64_t serial,
	struct cache_owed *ret);
/* Does an unsent row of another name want these bytes, and no data file has
 * them? */
int cache_owed_far(struct cache_txn *txn, const struct cache_id *content,
	const char *name, bool *ret);
/* The lowest epoch of such a row; -ENOENT. */
int cache_owed_first_of(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t *ret);
/* The bytes of those rows that hold the inode's content of now are in the data
 * file `kept` from now on; if there is none, that file goes. */
int cache_owed_repoint(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t kept);
struct cache_owed_totals {
	/* Directory renames are among `rows`, what is set aside is not. */
	uint64_t rows, aside;
	uint64_t bytes; /* of files whose content is owed */
	uint64_t groups;
	int64_t oldest_ns; /* entered_ns of the first in line, 0: none */
};
int cache_owed_totals(struct cache_txn *txn, struct cache_owed_totals *ret);

/* A directory rename, expanded when its turn comes. */
struct cache_owed_prefix {
	uint64_t seq, epoch;
	char *old_dir, *new_dir; /* allocated in results */
	bool deleting;		 /* all new names are there: old ones go */
	char *cursor;		 /* last name expanded, or NULL */
	/* Names expanded, both ways, of how many: 0, it has not begun. */
	uint64_t done, total;
};
void cache_owed_prefix_fini(struct cache_owed_prefix *row);
int cache_owed_prefix_add(struct cache_txn *txn, struct cache_owed_prefix *row);
int cache_owed_prefix_put(
	struct cache_txn *txn, const struct cache_owed_prefix *row);
int cache_owed_prefix_del(struct cache_txn *txn, uint64_t seq);
typedef int (*cache_owed_prefix_fn)(
	void *arg, const struct cache_owed_prefix *row);
/* Those after (epoch, seq), in that order. */
int cache_owed_prefix_each(struct cache_txn *txn, uint64_t epoch,
	uint64_t after_seq, cache_owed_prefix_fn each, void *arg);
/* Those whose old, or new, directory is `name` or above it; or is below it.
 * From the top down; otherwise in no order. */
enum cache_prefix_side { CACHE_PREFIX_OLD, CACHE_PREFIX_NEW };
int cache_owed_prefix_above(struct cache_txn *txn, enum cache_prefix_side side,
	const char *name, cache_owed_prefix_fn each, void *arg);
int cache_owed_prefix_below(struct cache_txn *txn, enum cache_prefix_side side,
	const char *name, cache_owed_prefix_fn each, void *arg);
/* The oldest of an epoch <= `epoch`; -ENOENT. */
int cache_owed_prefix_first(
	struct cache_txn *txn, uint64_t epoch, struct cache_owed_prefix *ret);
/* Does a pending prefix cover this name (as old or as new)? */
int cache_owed_prefix_covers(
	struct cache_txn *txn, const char *name, bool *ret);

/* What the store was told and has not surely answered. */
struct cache_sent {
	struct cache_id host;		/* always ours */
	uint64_t number;		/* the commit */
	char *name;			/* allocated in results */
	uint8_t op;			/* enum blob_op, opaque here */
	char base_etag[CACHE_ETAG_MAX]; /* "": the name was free */
	struct cache_id content;
	uint64_t owed_seq;
	/* What the blob will look like, for the proof that it is ours. */
	uint64_t size_bytes;
	bool has_md5, has_list;
	uint8_t md5[16], list[16];
	int64_t sent_ns; /* base_boot_ns() */
	/* It is known not to have been applied so far, or nobody asks any more:
	 * kept only because it may yet be applied. */
	bool settled;
};
void cache_sent_fini(struct cache_sent *sent);
int cache_sent_add(struct cache_txn *txn, const struct cache_sent *sent);
int cache_sent_put(struct cache_txn *txn, const struct cache_sent *sent);
int cache_sent_del(struct cache_txn *txn, uint64_t number);
/* A row of this name, unsettled before settled; -ENOENT. */
int cache_sent_of(
	struct cache_txn *txn, const char *name, struct cache_sent *ret);
/* A row of this name whose request has not been answered; -ENOENT. */
int cache_sent_unsettled(
	struct cache_txn *txn, const char *name, struct cache_sent *ret);
/* All rows of a name. */
int cache_sent_del_name(struct cache_txn *txn, const char *name);
/* The rows of a name that asked for an ETag: the name's ETag is another one
 * now, for good. */
int cache_sent_fence(struct cache_txn *txn, const char *name);
int cache_sent_get(
	struct cache_txn *txn, uint64_t number, struct cache_sent *ret);
/* Is any request of a name below this directory unsettled? */
int cache_sent_below(struct cache_txn *txn, const char *dir, bool *ret);
/* All rows with a number above `after`, in order.  sent_ns is 0 for those of
 * an earlier boot. */
typedef int (*cache_sent_fn)(void *arg, const struct cache_sent *sent);
int cache_sent_each(
	struct cache_txn *txn, uint64_t after, cache_sent_fn each, void *arg);
/* Commit numbers, reserved a thousand at a time. */
int cache_commit_number(struct cache_txn *txn, uint64_t *ret);

/* ---- after a power cut (cache/recover.c) ---- */

/*
 * A closed file is *proven* by an fsync (synced_gen), by a flush of its data
 * directory that came after its last change, or by its bytes being in the
 * store.  Files that nothing proves: written-to when the power went, or closed
 * a moment before.
 */
int cache_unproven_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* The same of older states, which rows of the journal keep in data files of
 * their own. */
int cache_unproven_owed_each(
	struct cache_txn *txn, cache_owed_fn each, void *arg);
/* All of them were dealt with: what is unproven from here on is so because of
 * the next power cut. */
int cache_recovered(struct cache_txn *txn);
/* Would a power cut find this closed file proven?  Then whoever is about to
 * change its bytes in place must make durable first that it is written-to. */
bool cache_may_be_proven(
	struct cache_txn *txn, const struct cache_inode *inode);
/* The state that this row sends was made durable, by whatever sync. */
int cache_prove(struct cache_txn *txn, const struct cache_owed *row);
/* Files in doubt, in order of number, until non-zero. */
typedef int (*cache_doubt_fn)(void *arg, const struct cache_inode *inode);
int cache_doubt_each(struct cache_txn *txn, cache_doubt_fn each, void *arg);
/* It is an ordinary file again. */
int cache_doubt_end(struct cache_txn *txn, uint64_t ino);

/* ---- conflicts and other losses, for status ---- */

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

/* ---- local bytes (cache/local.c, cache/data.c) ---- */

struct cache_range {
	uint64_t start, end; /* bytes, end exclusive */
};
/* Fetched bytes are in the data file; merges with neighbours; the rows carry
 * the next flush number.  Sets data to PART, or WHOLE when all are there (in
 * the row: get the inode again). */
int cache_extent_add(struct cache_txn *txn, uint64_t ino, uint64_t start,
	uint64_t end, enum cache_data *ret_data);
/* The missing ranges of start..end, at most max; returns how many. */
ssize_t cache_extent_missing(struct cache_txn *txn, uint64_t ino,
	uint64_t start, uint64_t end, struct cache_range *ret, size_t max);
/* How many bytes of it are local. */
int cache_extent_bytes(struct cache_txn *txn, uint64_t ino, uint64_t *ret);
/* Its data file is not there: a disk was lost.  0: the store has the bytes, and
 * the row says that none are local; -EIO: nobody has them. */
int cache_data_missing(struct cache_txn *txn, uint64_t ino);
/* Forgets its local bytes: data = NONE, next serial; the old data file goes
 * after the commit unless an owed row keeps it.  The caller has claimed the
 * inode (cache_claim()). */
int cache_data_drop(struct cache_txn *txn, uint64_t ino);
/* Like it, but the inode begins a new, empty, whole data file (truncation):
 * serial, size, data, stored, stamp and local_bytes are set here, and the row
 * is written; content and generations are the caller's. */
int cache_data_renew(struct cache_txn *txn, struct cache_inode *inode);

/* The data file.  Flags as open(2); with O_CREAT it is made anew (a left-over
 * of that number is unlinked first), owned by root, 0600.  The daemon opens
 * for writing only to fill and to make; never a file a user may have open
 * written-to.  Returns an fd or -errno. */
int cache_data_open(
	struct cache *cache, uint64_t ino, uint64_t serial, int flags);
/* Bytes from the store begin to be in it: it is marked, by its mode, as one
 * that can be fetched again, whatever becomes of the index. */
int cache_data_mark_fetched(int fd);
/* Users will write to it: it is marked as one that cannot.  *ret_moved: its
 * stamp is another one now. */
int cache_data_mark_ours(
	struct cache *cache, uint64_t ino, uint64_t serial, bool *ret_moved);
/* Its absolute path, allocated. */
char *cache_data_path(struct cache *cache, uint64_t ino, uint64_t serial);
/* [sync] fdatasync, and fsync of its directory where the file is new. */
int cache_data_sync(struct cache *cache, uint64_t ino, uint64_t serial);
/* [sync] syncfs of every data directory: replaces many single syncs. */
int cache_data_sync_all(struct cache *cache);
/* [sync] A second data file with the same bytes: reflink, else a copy if no
 * longer than copy_max.  -EFBIG, -ENOSPC. */
int cache_data_clone(struct cache *cache, uint64_t ino, uint64_t from_serial,
	uint64_t to_serial, uint64_t copy_max);
/* statx of a data file. */
int cache_data_stat(struct cache *cache, uint64_t ino, uint64_t serial,
	struct cache_stamp *ret, uint64_t *ret_allocated_bytes);
/* Do the cache's file systems know leases? */
bool cache_data_leases(const struct cache *cache);
/* Is one of them stacked on another (overlayfs)?  Then no passthrough. */
bool cache_data_stacked(const struct cache *cache);
/* Asks the kernel, by a lease, who else has a data file open or mapped: for
 * writing, or at all.  0 nobody; -EBUSY; -ENOTSUP without leases. */
int cache_data_probe(
	struct cache *cache, uint64_t ino, uint64_t serial, bool writers_only);

/* [sync] One shared fdatasync of the WAL: covers all commits made before the
 * call; callers that come meanwhile share the next one. */
int cache_sync_index(struct cache *cache);

/* ---- space (cache/space.c, cache/evict.c) ---- */

struct cache_space {
	uint64_t used_bytes;  /* data files, as allocated */
	uint64_t limit_bytes; /* resolved cache_size */
	uint64_t reserve_bytes;
	uint64_t dirty_limit_bytes;
	uint64_t fs_free_bytes, fs_total_bytes;
	uint64_t fs_files, fs_files_free;
};
void cache_space_get(struct cache *cache, struct cache_space *ret);
/*
 * Room for that many more bytes of fetched data: evicts if needed.  0, or
 * -ENOSPC when nothing more may go.  [sync]  What is reserved counts as used
 * until cache_space_release() of the same number, which comes after the
 * commit that put the bytes into the account (or when they do not come).
 */
int cache_space_reserve(struct cache *cache, uint64_t bytes);
void cache_space_release(struct cache *cache, uint64_t bytes);
/* The same reservation if there is room without anything being evicted, now or
 * soon after; never waits.  -ENOSPC. */
int cache_space_spare(struct cache *cache, uint64_t bytes);
/* The same reservation beyond the limit, for what somebody waits for when
 * nothing more may go: a file may be larger than the cache while it is open.
 * -ENOSPC: the file systems have no room beyond the reserve. */
int cache_space_exceed(struct cache *cache, uint64_t bytes);
/* Is there room for a writer of new data?  False above dirty_limit or without
 * free space. */
bool cache_space_may_write(struct cache *cache, uint64_t dirty_bytes);
/* Kicks eviction in the background. */
void cache_space_kick(struct cache *cache);
/* [sync] Drops the local bytes of one clean inode now.  -EBUSY in use or
 * dirty, -EPERM pinned, 0 dropped or nothing local. */
int cache_evict_inode(struct cache *cache, uint64_t ino, uint64_t *ret_bytes);
/* Re-reads what a data file occupies into the account (open writers). */
int cache_space_account(struct cache_txn *txn, uint64_t ino);

struct cache_counts {
	uint64_t inodes, dirty_files, pins, conflicts;
	uint64_t unconfirmed, recovered; /* enum cache_doubt */
};
int cache_counts_get(struct cache_txn *txn, struct cache_counts *ret);

/* ---- prefetch jobs that outlive their command (cache/journal.c) ---- */

struct cache_job {
	uint64_t id;
	char *path; /* allocated in results */
	bool pin, meta_only;
};
int cache_job_add(struct cache_txn *txn, struct cache_job *job);
int cache_job_del(struct cache_txn *txn, uint64_t id);
typedef int (*cache_job_fn)(void *arg, const struct cache_job *job);
int cache_job_each(struct cache_txn *txn, cache_job_fn each, void *arg);

/* ---- answers (cache/misc.c) ---- */

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

/* ---- checking (cache/check.c) ---- */

/* Something that is wrong. */
struct cache_finding {
	const char *what; /* a word for scripts: "file-missing" */
	const char *name; /* the path, or what is known instead; or NULL */
	uint64_t ino;
	const char *text; /* what that means, and what a repair does */
};
struct cache_check_config {
	const char *const *dirs; /* all of the cache's, in their order */
	size_t dirs_nr;
	bool repair;
	void (*found)(void *arg, const struct cache_finding *finding);
	/* What the index believes the store to hold; `busy`: something of that
	 * name is under way.  NULL: nobody wants to know. */
	void (*remote)(
		void *arg, const char *name, const char *etag, bool busy);
	void *arg;
};
struct cache_checked {
	struct base_str store; /* the canonical URL that it belongs to */
	bool clean;	       /* it was unmounted */
	bool damaged;	       /* the index cannot be read */
	uint64_t files, bytes; /* on the disk */
	uint64_t found, moved, lost;
};
/*
 * [sync] Compares a cache that nobody uses with itself; with `repair` puts it
 * right, and never deletes what may be the only copy of something (that goes
 * to DIR/lost).  Errors with one line in ret_why: -EBUSY in use, -ENOENT no
 * cache, -EPROTO another version's, -EIO damaged.
 */
int cache_check(const struct cache_check_config *config,
	struct cache_checked *ret, char *ret_why, size_t why_bytes);
void cache_checked_fini(struct cache_checked *checked);

#endif
