/*
 * Walks of directories and those who wait for them.  Private to list.c, walk.c,
 * fresh.c, ask.c and walktree.c; everything is under struct tier_lists' mutex, except a
 * walk's own progress, which belongs to its one request or task.
 */
#ifndef TIER_LIST_H
#define TIER_LIST_H

#include <sys/queue.h>
#include <uthash.h>

#include "tier/priv.h"

/* Single names remembered as just asked for: a few hundred KiB. */
#define LIST_ASKED_MAX 8192

struct asked {
	UT_hash_handle hh;
	uint64_t key; /* tier_name_hash() */
	int64_t asked_ns;
};

/* A directory with more than TIER_LIST_SMALL names. */
struct big {
	UT_hash_handle hh;
	uint64_t ino;
	unsigned asks; /* single look-ups since its last walk */
};

struct walk {
	UT_hash_handle hh; /* by ino */
	struct tier_lists *lists;
	uint64_t ino;
	bool begun, first_done;
	bool slash;		 /* a marker "DIR/" was seen */
	struct tier_calls first; /* wait for the first page */
	struct tier_calls calls; /* wait for the whole */
	char *path;		 /* of the directory when it began (D1) */
	char *marker;
	uint64_t start_seq;
	int64_t started_ns;
	uint64_t names;
	unsigned empty; /* pages without a name, one after the other */
	uint64_t *seen; /* hashes of the names seen (D2) */
	size_t seen_nr, seen_cap;
	struct blob_req req;
	/* Of its page: entries whose bytes are being proven, and one for who
	 * asks; the first error. */
	_Atomic size_t proofs;
	_Atomic int proof_err;
};

/* Somebody who wants a name or a directory current. */
struct refresh {
	struct tier_call call; /* waits for a walk; the first member */
	LIST_ENTRY(refresh) link;
	struct tier_call *user; /* NULL: cancelled, or nobody */
	struct tier_lists *lists;
	uint64_t ino;
	char *name; /* NULL: the directory */
	/* of ask.c */
	char *path, *dir, *only;
	uint64_t start_seq;
	struct blob_req req;
};

struct tree; /* walktree.c */

struct tier_lists {
	struct tier *tier;
	struct base_mutex mutex;
	struct walk *walks;
	struct big *bigs;
	struct asked *asked;
	LIST_HEAD(, refresh) refreshes;
	LIST_HEAD(, tree) trees;
	unsigned active;
	bool stopped;
};

/* Names are remembered by a hash of 64 bits: of a million names two collide
 * once in 30 million walks, and then a deleted one is shown until the next. */
uint64_t tier_name_hash(uint64_t parent, const char *name);
void tier_list_asked(struct tier_lists *l, uint64_t parent, const char *name);

/* walk.c; with the mutex */
struct walk *tier_walk_get(struct tier_lists *l, uint64_t ino);
void tier_walk_free(struct walk *walk);
struct big *tier_big_find(struct tier_lists *l, uint64_t ino);

/* ask.c: asks for r's one name, then ends it. */
void tier_ask(struct refresh *r);
void tier_refresh_end(struct refresh *r, int err);

/* walktree.c */
bool tier_tree_cancel(struct tier *tier, struct tier_call *call);
void tier_trees_close(struct tier *tier);

#endif
