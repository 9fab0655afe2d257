/*
 * Answering the kernel: attributes, entries, signs, and answers that come
 * later.
 *
 * What it is for.  A handler decodes a request, calls one layer and replies
 * once.  Where it has to wait (for the store, a sync, a claim), it keeps the
 * request in a struct fs_call, returns, and goes on in a step that runs later.
 *
 * Threads and locks.  Steps run on threads of the executor, or, where there
 * was nothing to wait for, on the session's thread inside the call that
 * started them; with no lock held either way.  So a step that waits for the
 * disk must come through fs_call_post().
 *
 * Ownership.  A struct fs_call is the first member of an operation's struct,
 * made by fs_call_new() and gone with its reply: every path ends in exactly
 * one fs_call_end() or fs_call_err().  Strings of the kernel live only until
 * the handler returns: an operation copies what it needs later.
 *
 * Errors.  Everything here takes 0 or -errno; only this file turns the sign.
 */
#ifndef FS_REPLY_H
#define FS_REPLY_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "fs/mount.h"

/* Runs when something is free again: see fs/handle.h. */
struct fs_wait {
	base_task_fn fn;
	void *arg;
	struct fs_wait *next;
};

struct fs_call;
typedef void (*fs_step_fn)(struct fs_call *call, int err);

struct fs_call {
	fuse_req_t req;
	struct fs_mount *m;
	fs_step_fn step;
	void (*fini)(
		struct fs_call *call); /* what the operation owns, or NULL */
	struct fs_wait wait;	       /* runs `step` with 0 */
	struct tier_call tier_call;
	uint64_t waits_at; /* what it waits for at the store, 0: nothing */
	int err;	   /* of tier_call */
	/* of fs/signals.h */
	TAILQ_ENTRY(fs_call) watched;
	bool is_watched;
	int64_t since_ns;
	_Atomic unsigned arrived; /* which of the two that go on came first */
	uint64_t request;	  /* its id, 0: not known */
	uint32_t slot;		  /* in fs/replied.h */
};

/* The request that this thread gives to its handler now: fs/session.c. */
void fs_request_begin(uint64_t unique);
/* Was it answered before a worker died?  With which inode (0: none)? */
bool fs_request_replied(fuse_req_t req, uint64_t *ret_ino);
/* The id of the request; *ret_again: it was sent to another worker before. */
uint64_t fs_request_id(bool *ret_again);

/* `bytes` of zeroes that begin with a struct fs_call. */
void *fs_call_new(fuse_req_t req, size_t bytes);
/* Frees it; after the reply. */
void fs_call_end(struct fs_call *call);
/* Replies with an error (or with success and nothing else), then frees it. */
void fs_call_err(struct fs_call *call, int err);
/* In the transaction that does what was asked: it is not done again
 * (fs/replied.h).  The answer: an inode, or 0. */
int fs_call_done(struct fs_call *call, struct cache_txn *txn, uint64_t ino);

/*
 * Waiting for tier/:
 *	tier_x(m->tier, ..., fs_call_arm(call, ino, step));
 *	fs_call_go(call);
 * `step` runs when the call is done, with its error; a signal cancels it
 * (-EINTR; fs/signals.h).  After fs_call_go() the call is not the
 * caller's any more.  `ino`: the inode or directory whose requests wait
 * meanwhile; notifications for it are put off (fs/notify.h).
 */
struct tier_call *fs_call_arm(
	struct fs_call *call, uint64_t ino, fs_step_fn step);
void fs_call_go(struct fs_call *call);
/* Goes on in `step` on a thread of the executor. */
void fs_call_post(struct fs_call *call, fs_step_fn step);
void fs_call_after(struct fs_call *call, int64_t delay_ns, fs_step_fn step);
/* Sets what call->wait runs, and returns it. */
struct fs_wait *fs_call_wait(struct fs_call *call, fs_step_fn step);

static inline struct fs_mount *fs_mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Does this open or write clear the set-id bits?  libfuse before 3.18 does not
 * hand on what the kernel says of it: then whoever is not root does. */
static inline bool fs_kills_setid(
	fuse_req_t req, const struct fuse_file_info *fi)
{
#if FUSE_USE_VERSION >= 318
	(void)req;
	return fi->kill_suidgid;
#else
	(void)fi;
	return fuse_req_ctx(req)->uid != 0;
#endif
}

void fs_reply_err(fuse_req_t req, int err);

/* Seconds for the kernel. */
double fs_timeout(int64_t ns);
/* The attributes of an inode as its user sees them.  While it is written-to,
 * size and mtime are those of its data file and the time-out is 0. */
void fs_attr_fill(struct fs_mount *m, const struct cache_inode *inode,
	struct stat *ret_st, double *ret_timeout);
/* How long attributes may be trusted if the name may be for fresh_ns: those of
 * a directory (its links, its mtime) only once it was listed. */
int64_t fs_attr_fresh_ns(struct fs_mount *m, struct cache_txn *txn,
	const struct cache_inode *inode, int64_t fresh_ns);
/* An answer about a name that may be trusted for fresh_ns, and attributes that
 * may be for attr_fresh_ns. */
void fs_entry_fill(struct fs_mount *m, const struct cache_inode *inode,
	int64_t fresh_ns, int64_t attr_fresh_ns, struct fuse_entry_param *ret);
void fs_reply_entry(fuse_req_t req, const struct cache_inode *inode,
	int64_t fresh_ns, int64_t attr_fresh_ns);
/* The answer to a request that was done before: an entry, or only success. */
void fs_reply_again(fuse_req_t req, uint64_t ino);

#endif
