/*
 * The line: the unsent rows of the journal, and the work under way for them.
 * Private to the files that run on its strand (line.c, work.c, plan.c, upload.c,
 * send.c, answer.c, settle.c, conflict.c ...).
 *
 * Threads: everything here is touched on the strand only, except what says
 * otherwise.  A blocking step is a task (tier_work_block) that touches only
 * the work it belongs to and comes back to the strand.
 *
 * A work is one row on its way:
 *
 *   state      | means                                  | next
 *   -----------+----------------------------------------+---------------------
 *   LOADING    | the row and what the store holds are   | PREPARING, DONE
 *              | compared: which request makes it right |
 *   PREPARING  | bytes made durable, read, hashed;      | PARKED, READY, DONE
 *              | large files staged in blocks           |
 *   PARKED     | waits for its turn in the order        | READY, DONE
 *   READY      | waits for its `sent` row to be durable | ASKED, LOADING
 *   ASKED      | the visible request is under way       | DONE, SETTLING
 *   SETTLING   | the answer was lost or a condition     | DONE, LOADING
 *              | failed: HEAD tells                     |
 *   WAITING    | tried again after a pause              | LOADING
 *   DONE       | freed at the end of the step           |
 */
#ifndef TIER_LINE_H
#define TIER_LINE_H

#include <sys/queue.h>
#include <uthash.h>

#include "tier/priv.h"

enum work_state {
	WORK_LOADING,
	WORK_PREPARING,
	WORK_PARKED,
	WORK_READY,
	WORK_ASKED,
	WORK_SETTLING,
	WORK_WAITING,
	WORK_DONE,
};

struct upload; /* stage.h: a file staged in blocks */

struct work {
	UT_hash_handle hh;	/* by seq */
	TAILQ_ENTRY(work) link; /* of ready or answered */
	struct tier *tier;
	struct tier_line *line;
	uint64_t seq;
	enum work_state state;
	bool may_go; /* its turn has come */
	bool staged; /* nothing but its turn is missing */
	bool synced; /* its data were made durable by a shared sync */
	struct cache_owed row;
	struct cache_remote base; /* what the store holds under the name */
	bool has_base;
	struct cache_id file;
	enum blob_op op;
	uint64_t commit;
	struct cache_sent sent; /* while settling after a restart */
	struct blob_req req;
	struct tier_meta meta;
	char *source, *source_etag; /* of a copy */
	/* A row that holds the same bytes: what others noted there goes along
	 * with a rename. */
	struct cache_remote twin;
	bool has_twin;
	/* What HEAD showed, when it proved that this request was applied. */
	struct cache_remote landed;
	bool has_landed;
	char *body; /* small files, targets */
	uint64_t body_bytes;
	uint64_t budget_bytes; /* of the line's upload memory */
	uint8_t md5[16];
	bool has_md5;
	uint8_t list[16]; /* of the blocks staged */
	bool has_list;
	struct upload *upload;
	bool copied;  /* its blocks come from another blob */
	bool restore; /* the request commits what is there already (T1) */
	bool restored;
	char *tags; /* of the blob in place, for a request that drops them */
	bool has_tags;
	unsigned restages; /* other ways tried */
	unsigned settles;  /* times that nothing had happened */
	unsigned rereads;  /* times that the file was another one */
	bool maybe;	   /* its request may yet be applied */
	bool again;	   /* it was, and may be once more */
	uint64_t rescue_ino;
	bool rescued; /* R1 cannot be done, of the blob of this ETag: */
	char rescued_etag[CACHE_ETAG_MAX];
	/* the blocking step under way */
	void (*block)(struct work *);
	void (*back)(struct work *, int err);
	int block_err;
};
TAILQ_HEAD(work_queue, work);

/* What `status` tells of a work (pending.c). */
struct work_note {
	uint64_t seq;
	enum work_state state;
	bool staged;
};

struct flush {
	LIST_ENTRY(flush) link;
	char *path;
	uint64_t upto_seq;
	bool begun, cancelled; /* under the line's mutex */
	bool confirmed; /* the user says that what a power cut left is so */
	struct tier_call *call;
};

/* The id of a block of zeroes, once it is known. */
struct tier_zero {
	uint64_t len_bytes;
	uint8_t id[BLOB_BLOCK_ID_BYTES];
};

struct tier_line {
	struct tier *tier;
	struct base_strand *strand;
	struct work *works; /* hash by seq */
	struct work_queue unsynced, ready, answered;
	unsigned works_nr, staging_nr;
	bool started, syncing, sending, answering;
	int64_t paused_until_ns; /* the store does not answer */
	int64_t pause_ns;	 /* doubling */
	int64_t timer_at_ns;	 /* earliest tick armed, 0: none */
	uint64_t budget_bytes;	 /* of TIER_UPLOAD_BYTES in use */
	bool starved;		 /* somebody waits for it */
	struct tier_zero zeroes[4];
	int64_t lag_at_ns;   /* not before: whether the line lags (L6) */
	int64_t fence_at_ns; /* next look at old `sent` rows, 0: now */
	struct fence *fence; /* fence.c: the one asked about */
	/* shared with other threads: */
	struct base_mutex mutex; /* BASE_RANK_TIER_JOB */
	bool tick_posted, stopped;
	bool kicked;		    /* under mutex: a tick will be posted */
	int64_t rest_until_ns;	    /* under mutex: no tick before */
	LIST_HEAD(, flush) flushes; /* under mutex; ended on the strand */
	char held_by[512];	    /* under mutex */
	int64_t held_since_ns;	    /* under mutex */
	struct work_note noted[TIER_SEND_PARALLEL]; /* under mutex */
	size_t noted_nr;			    /* under mutex */
};

/* line.c */
void tier_line_tick_soon(struct tier_line *line);
void tier_line_tick_after(struct tier_line *line, int64_t delay_ns);
/* The store does not answer: nothing starts for a while. */
void tier_line_pause(struct tier_line *line);
/* Bytes of memory for an upload: false, wait for the next tick. */
bool tier_line_budget(struct work *work, uint64_t bytes);
void tier_line_budget_back(struct work *work, uint64_t bytes);

struct work *tier_line_work(struct tier_line *line, uint64_t seq);

/* pending.c: after each tick, for status */
void tier_line_note_works(struct tier_line *line);

/* flush.c */
void tier_flushes_end(struct tier_line *line);
/* Who waits for this row waits for what came of it, too. */
void tier_flushes_follow(
	struct tier_line *line, uint64_t seq, uint64_t last_seq);
bool tier_is_flushing(struct tier_line *line);

/* rename.c: more of a directory rename enters the line (L8).  True: there may
 * be more to do at once. */
struct look;
bool tier_rename_step(struct tier_line *line, const struct look *look);

/* work.c */
struct work *tier_work_new(struct tier_line *line, const struct cache_owed *);
void tier_work_load(struct work *work);
/* Tried again after a pause that doubles with each try. */
void tier_work_retry(struct work *work, const char *why);
void tier_work_again(struct work *work, int64_t delay_ns);
/* The blob itself refuses it. */
void tier_work_refused(struct work *work);
/* Its bytes cannot be had from the cache's disk: set aside where that is for
 * good, else tried again. */
void tier_work_unreadable(struct work *work, int err);
void tier_work_done(struct work *work);
/* Runs `block` off the strand, then `back` on it. */
void tier_work_block(struct work *work, void (*block)(struct work *),
	void (*back)(struct work *, int err));
/* Another way must be found to make the name right. */
void tier_work_other_way(struct work *work);
/* After a HEAD of `name` in w->req: what its block list proves is added to its
 * props, if it may prove anything.  `back` runs on the strand: 0, or why the
 * store does not say. */
void tier_work_prove(struct work *work, const char *name,
	void (*back)(struct work *, int err));
/* Sends w->req, `done` runs on the strand. */
void tier_work_ask(struct work *work, void (*back)(struct work *, int err));

/* plan.c: R1.  Would the request overwrite or delete the only copy of what an
 * inode in use holds?  (rescue_ino: which) */
bool tier_work_takes_last(struct work *work, struct cache_txn *txn);

/* send.c */
/* Its turn has come. */
void tier_work_go(struct work *work);
/* Prepared: goes on when its turn has come. */
void tier_work_prepared(struct work *work);
/* Out with it, whosever turn it is. */
void tier_work_ready(struct work *work);
/* What the blob will look like, in `sent`: content, size and proofs. */
void tier_work_describe(struct work *work, struct cache_sent *sent);
/* Whose notes of others (metadata, headers, tags) the blob will carry: those of
 * the blob that it was, under whatever name, or, where nobody noted anything
 * there, those of the one in place. */
const struct cache_remote *tier_work_keeper(struct work *work);

/* answer.c */
void tier_work_answered(struct work *work, int err);
/* Of the inode that the row displaces: is it not stored (any more)? */
int tier_work_unstore(struct work *work, struct cache_txn *txn);
/* The row is unsent again.  `maybe`: the request may yet be applied, its
 * `sent` row stays, settled; otherwise it goes. */
int tier_work_unsend(struct work *work, bool maybe);
/* The store holds what was asked for, with the ETag in req.props. */
void tier_work_accept(struct work *work);

/* upload.c: a file's bytes made durable, then read, or staged if large */
void tier_upload_start(struct work *work);

/* stage.c, stage_copy.c, stage_blocks.c: large ones */
void tier_stage_file(struct work *work);
void tier_stage_copy(struct work *work);
void tier_upload_free(struct upload *upload);
/* What the request commits, or puts. */
void tier_upload_fill(struct work *work);

/* source.c: bytes that are only in the store */
void tier_rescue(struct work *work, uint64_t ino, enum cache_kind kind);
/* The copy's source is not what it was. */
void tier_source_moved(struct work *work);
/* The row's bytes are nowhere any more. */
void tier_bytes_lost(struct work *work);

/* settle.c */
void tier_settle(struct work *work);

/* fence.c: `sent` rows that nobody waits for any more */
void tier_fence_step(struct tier_line *line);
/* Soon after one was kept. */
void tier_fence_soon(struct tier_line *line);

/* conflict.c: the store holds something else.  superseded: what was sent is
 * among its ancestors, so nothing of ours is lost. */
void tier_conflict(
	struct work *work, const struct blob_props *props, bool superseded);

#endif
