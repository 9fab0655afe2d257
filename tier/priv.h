/*
 * What the files of tier/ share.  Private.
 *
 * Threads: the line (line.c, reconcile.c, upload.c, copy.c, conflict.c) runs
 * on one strand, so its state needs no lock; blocking work is posted to the
 * executor and comes back to the strand.  fetch.c and list.c have a lock each.
 * The order's state (order.c) is only touched inside write transactions and
 * so is guarded by the cache's writer.
 */
#ifndef TIER_PRIV_H
#define TIER_PRIV_H

#include <stdatomic.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "blob/hash.h"
#include "blob/store.h"
#include "tier/limits.h"
#include "tier/tier.h"

/* ---- pending calls ---- */

/* A list of calls that wait for the same thing, under its owner's lock. */
struct tier_calls {
	struct tier_call *first;
};
void tier_calls_add(struct tier_calls *calls, struct tier_call *call);
/* Ends one call / all calls of a list, from a task of their own. */
void tier_call_end(struct tier *tier, struct tier_call *call, int err);
void tier_calls_end(struct tier *tier, struct tier_calls *calls, int err);

/* ---- the order's memory (order.c) ---- */

enum tier_class { /* of a change, for the epochs */
	TIER_CLASS_NONE,
	TIER_CLASS_NEW,
	TIER_CLASS_REPLACE,
	TIER_CLASS_ATTR,
	TIER_CLASS_DELETE,
	TIER_CLASS_RENAME,
	TIER_CLASS_SYMLINK,
};

struct tier_order {
	uint64_t epoch;
	uint64_t run;	/* the epoch that the last point of order began (O4) */
	int64_t run_ns; /* when that was */
	enum tier_class last;
	bool is_empty;	   /* nothing has entered it since a group was closed */
	bool after_staged; /* the last change ends its epoch */
	uint64_t outdated_seq; /* of the newest state that has a newer one */
	atomic_bool after_sync;
	_Atomic uint64_t groups;
};

struct tier_ahead;   /* ahead.c */
struct tier_fetches; /* fetch.c */
struct tier_gone;    /* gone.c */
struct tier_lists;   /* list.c */
struct tier_line;    /* line.c */
struct tier_jobs;    /* prefetch.c */
struct tier_target;  /* target.c */
struct tier_dirs;    /* dirs.c */

struct tier {
	struct tier_config cfg; /* with its own host_name */
	char *host_name;
	struct cache *cache;
	struct blob_store *store;
	struct base_env *env;
	struct tier_order order;
	struct tier_ahead *ahead;
	struct tier_fetches *fetches;
	struct tier_lists *lists;
	struct tier_line *line;
	struct tier_gone *gone;
	struct tier_dirs *dirs;
	/* WRITEBACK section 6: rises with every request sent or completed. */
	_Atomic uint64_t known_seq;
	_Atomic uint64_t hit_bytes, miss_bytes, sent_bytes;
	atomic_bool stopping;
	atomic_bool suspect;	 /* is it our container at all? */
	struct base_mutex mutex; /* BASE_RANK_TIER: */
	bool store_up;
	char store_why[256];
	struct tier_target *targets; /* target.c: under way */
	/* Requests of all kinds under way; tier_stop() waits for none. */
	unsigned requests;
	pthread_cond_t idle;
};

struct tier_gone *tier_gone_new(void);
void tier_gone_free(struct tier_gone *gone);
/* cache_remote_del(), remembered: no listing that was sent before shows this
 * name again, nor a prefix above it that is not there any more. */
int tier_remote_gone(
	struct tier *tier, struct cache_txn *txn, const char *name);
/* Was the name taken out after start_seq? */
bool tier_gone_since(struct tier *tier, const char *name, uint64_t start_seq);

int tier_order_open(struct tier *tier);
/* The epochs from this one to now become a group. */
int tier_order_group(
	struct tier *tier, struct cache_txn *txn, uint64_t first_epoch);
/* The inode's state is kept here and reported, the store is not told. */
int tier_order_aside(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, const char *why);
/* The data file that a row of this inode's state needs; 0: none, its bytes are
 * in the store. */
uint64_t tier_serial_of(const struct cache_inode *inode);

int tier_fetches_open(struct tier *tier);
void tier_fetches_stop(struct tier *tier);
void tier_fetches_close(struct tier *tier);

/* Ends a call that waits there; false: it does not. */
bool tier_fetch_cancel(struct tier *tier, struct tier_call *call);
bool tier_list_cancel(struct tier *tier, struct tier_call *call);
bool tier_flush_cancel(struct tier *tier, struct tier_call *call);
bool tier_target_cancel(struct tier *tier, struct tier_call *call);
/* What the index says of a name proved wrong: ask the store again.  `call`, or
 * NULL: ends when it was asked, or cannot be. */
void tier_list_recheck(
	struct tier *tier, const char *path, struct tier_call *call);

int tier_lists_open(struct tier *tier);
void tier_lists_stop(struct tier *tier);
void tier_lists_close(struct tier *tier);

void tier_dirs_open(struct tier *tier);
void tier_dirs_close(struct tier *tier);
/* Enters the mtimes of directories that were quiet for so long. */
int tier_dirs_enter(struct tier *tier, int64_t quiet_ns);

int tier_line_open(struct tier *tier);
void tier_line_start(struct tier *tier);
void tier_line_stop(struct tier *tier);
void tier_line_close(struct tier *tier);
void tier_line_status(struct tier *tier, struct tier_status *ret);
void tier_line_store_up(struct tier *tier);

/* Submits and counts; every completion calls tier_answered() last, after
 * which `tier` may go away. */
void tier_submit(struct tier *tier, struct blob_req *req);
/* The same for probe.c, which asks whether the store is ours. */
void tier_submit_probe(struct tier *tier, struct blob_req *req);
/* Something that the index shows is not in the store any more: is that still
 * our container?  Calls fn(arg, 0) if it is; else an errno, and nothing may be
 * believed. */
void tier_confirm(struct tier *tier, void (*fn)(void *arg, int err), void *arg);
void tier_answered(struct tier *tier);
/* The next value of the counter. */
uint64_t tier_tick(struct tier *tier);

/* ---- blobs to rows and back (convert.c) ---- */

/* What the index will hold of this blob: everything but content, known_seq,
 * which the caller knows. */
void tier_remote_from_entry(struct tier *tier, const struct blob_entry *entry,
	struct cache_remote *ret, struct blob_mark *ret_mark);
/* The same for the answer to HEAD or GET of `name`. */
void tier_remote_from_props(struct tier *tier, const char *name,
	const struct blob_props *props, struct cache_remote *ret,
	struct blob_mark *ret_mark);
/* Metadata and headers of a request that makes a blob hold `attrs`; base: the
 * row it replaces, or NULL; notes: the row whose metadata and headers of others
 * are kept, or NULL.  Freed by tier_meta_fini(). */
struct tier_meta {
	struct blob_kv *meta, *headers;
	size_t meta_nr, headers_nr;
};
int tier_meta_make(struct tier *tier, enum cache_kind kind,
	const struct cache_attrs *attrs, const struct cache_id *content,
	const struct cache_id *file, uint64_t commit,
	const struct cache_remote *base, const struct cache_remote *notes,
	struct tier_meta *ret);
void tier_meta_add_header(
	struct tier_meta *meta, const char *key, const char *value);
void tier_meta_fini(struct tier_meta *meta);
/* Has somebody given the blob tags; content headers? */
bool tier_has_tags(const struct cache_remote *remote);
bool tier_has_headers(const struct cache_remote *remote);
void tier_attrs_of(const struct cache_inode *inode, struct cache_attrs *ret);
bool tier_attrs_eq(const struct cache_attrs *a, const struct cache_attrs *b);
/* What of `ours` was not changed since `base` becomes as in `theirs`. */
void tier_attrs_rebase(struct cache_attrs *ours, const struct cache_attrs *base,
	const struct cache_attrs *theirs);
/* The parents a commit on top of `base` has, packed for a remote row. */
void tier_parents_next(
	const struct cache_remote *base, void **ret, size_t *ret_bytes);

/* ---- what bytes a blob holds (proof.c) ---- */

/* A digest of a list of blocks that are all ours and of `size_bytes` together;
 * false: there is none. */
bool tier_list_digest(const struct blob_block *blocks, size_t nr,
	uint64_t size_bytes, uint8_t ret[16]);
/* P1: do two rows surely stand for the same bytes? */
bool tier_same_bytes(
	const struct cache_remote *a, const struct cache_remote *b);
/* Does a row look as the request of this `sent` row would have made it? */
bool tier_is_sent(
	const struct cache_sent *sent, const struct cache_remote *remote);
/* Which request of ours, still in `sent`, made the blob that `name` shows?
 * False: none that is known. */
bool tier_sent_find(struct cache_txn *txn, const char *name,
	const struct cache_remote *remote, const struct blob_mark *mark,
	struct cache_sent *ret);
/* May the block list of what the store shows now prove that its bytes are
 * those of the index's row, where nothing else does? */
bool tier_proof_wanted(struct cache_txn *txn, const char *name,
	const struct blob_props *props);
/* Asks for the block list of a blob; if it is that of the ETag in `props` and
 * of ours, its digest is noted there.  `done` comes later, on a task: 0,
 * whether there was a digest or not, -EINTR, or -EIO: the store does not say.
 * `name` and `props` stay the caller's. */
void tier_proof_ask(struct tier *tier, const char *name,
	struct blob_props *props, void (*done)(void *arg, int err), void *arg);
/* In the background: notes the digest of the list of a blob that the index has
 * none of, so that a later change beside its bytes is known as such. */
void tier_proof_learn(struct tier *tier, const char *name, uint64_t size_bytes,
	const char *etag);

/* ---- after a power cut (recover.c) ---- */

/* Unconfirmed files at or below `path` ("" all) enter the journal. */
int tier_doubts_confirm(struct tier *tier, const char *path);

/* ---- merging what the store says (merge.c) ---- */

/* A page or a HEAD tells what the store holds under a name of `parent`.
 * Inside a write transaction.  `start_seq`: the counter when the request was
 * sent.  ret_name (CACHE_NAME_MAX + 1 bytes): the name it is shown under. */
int tier_merge_entry(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const struct blob_entry *entry, uint64_t start_seq, char *ret_name);
/* Makes the tree show what the `remote` row of a name says: nothing is owed
 * there.  Takes the content id of what it shows from the row. */
int tier_merge_show(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_remote *remote);
/* Is the blob that `remote` describes one of our own requests, thought lost,
 * that came late, under a name that nobody wants?  Then it is to be deleted,
 * and not shown.  1: yes. */
int tier_late(struct tier *tier, struct cache_txn *txn,
	struct cache_remote *remote, const struct blob_mark *mark);
/* The store holds nothing under a name (complete walk, or 404). */
int tier_merge_absent(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, uint64_t start_seq);

/* Something is below a name, and it has no blob of its own (any more). */
int tier_merge_unmarked(struct tier *tier, struct cache_txn *txn,
	uint64_t parent, const char *name, uint64_t start_seq);

/* The walk of a directory saw, or did not see (NULL), a marker whose blob is
 * called "DIR/".  Its row has that name; it gives the directory its attributes
 * if nothing else does, and goes with it. */
int tier_merge_slash(struct tier *tier, struct cache_txn *txn, uint64_t ino,
	const char *path, const struct blob_entry *entry, uint64_t start_seq);
/* M1: may what was asked at `start_seq` change what is known of this name since
 * `known_seq`? */
int tier_merge_may(struct tier *tier, struct cache_txn *txn, const char *path,
	uint64_t known_seq, uint64_t start_seq, bool *ret);
/* Subdirectories count in their parent's links. */
int tier_merge_count_dir(struct cache_txn *txn, uint64_t parent, int by);
/* The inode loses its last name; `open`: it is held. */
int tier_merge_let_go(
	struct cache_txn *txn, struct cache_inode *inode, bool open);

/* Splits "a/b/c" at the last slash: returns the last component and the
 * parent's length. */
const char *tier_path_last(const char *path, size_t *ret_parent_len);

#endif
