/*
 * The write-back journal: what the store must be told, row by row (owed.c), in
 * its order (line.c), renames of directories (prefix.c), and what it was told
 * and has not surely answered (sent.c).  Part of cache.h, whose rules hold
 * here.
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include "cache/remotes.h"

enum cache_owed_state {
	CACHE_OWED_UNSENT,
	CACHE_OWED_SENT,  /* its visible request is in `sent` */
	CACHE_OWED_ASIDE, /* refused for good: out of the line */
};

/* What a row does, for its place within a group. */
enum cache_owed_phase {
	CACHE_OWED_NEW,
	CACHE_OWED_REPLACES,
	CACHE_OWED_DELETES = 3,
};

/* The order within a group: see cache_owed_join(). */
enum cache_join {
	CACHE_JOIN_IN_ORDER,
	CACHE_JOIN_BY_PHASE,
};
/* The last step of a group; and after it what stands in the place of a directory
 * that still had something in it (a `dir:` store). */
#define CACHE_OWED_STEP_DELETES (1ULL << 62)
#define CACHE_OWED_STEP_LAST (CACHE_OWED_STEP_DELETES + 1)

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
	/* Rows of one run may pass each other: the epoch that the last fsync,
	 * large file or pause before it began.  Never above `epoch`. */
	uint64_t run;
	bool group;	 /* joined: all of it or nothing (section 5) */
	uint64_t step;	 /* ... and in this order */
	uint8_t phase;	 /* enum cache_owed_phase */
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
/* Rows of a group of one step, in order of seq. */
int cache_owed_each_of_step(struct cache_txn *txn, uint64_t epoch,
	uint64_t step, cache_owed_fn each, void *arg);
/* The first step that a group has rows of; -ENOENT: it is no group. */
int cache_owed_first_step(struct cache_txn *txn, uint64_t epoch, uint64_t *ret);
/* The highest seq of a step's rows; 0: none. */
int cache_owed_last_of_step(
	struct cache_txn *txn, uint64_t epoch, uint64_t step, uint64_t *ret);
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
 * others said (attrs_only, displaced).  Directory renames get epoch b.  Nothing
 * may enter epoch b any more.
 *
 * The order of a group is that of its steps.  IN_ORDER: each epoch is one, in
 * which its rows would have gone alone, but deletions come last: what fell out
 * may have been what no longer needed them.  BY_PHASE, so that many rows go at
 * once: new names run by run, then replacements, then the newest of each
 * directory, then deletions.  In both, what was sent already comes first. */
int cache_owed_join(
	struct cache_txn *txn, uint64_t a, uint64_t b, enum cache_join how);
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
	uint64_t step;		 /* of its new names in a group, 0: none */
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

#endif
