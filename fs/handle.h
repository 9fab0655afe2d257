/*
 * Open inodes: who has what open, and how the kernel may use it.
 *
 * What it is for.  The one place that decides whether an inode is served or
 * passed through, that makes its one backing id, that says whether its local
 * bytes may be dropped, and that knows whether somebody may still write to it
 * (written.c).  The table of states is at the top of handle.c.
 *
 * Threads and locks.  All functions may be called from any thread, also inside
 * a transaction: the mutex in here is held for a few memory accesses and
 * nothing is called under it.  What takes longer (deciding how an inode opens,
 * becoming written-to, ceasing to be) is serialised per inode by its *gate*,
 * which is held across waits for the local disk, never for the store, and
 * whose waiters are continuations, not threads.
 *
 * Ownership.  A struct fs_file lives while somebody has a reference; an open
 * slot has one.  A struct fs_wait is its caller's and stays until it ran.
 *
 * Errors.  -ENFILE: the limit on descriptors or slots; -EBADF: no such slot.
 */
#ifndef FS_HANDLE_H
#define FS_HANDLE_H

#include <fcntl.h>

#include "fs/mount.h"
#include "fs/reply.h"
#include "fs/table.h"

/* How often an operation fetches a file that is local no more when it looks. */
#define FS_TRIES 3

/* An open that truncates writes, also one for reading. */
static inline bool fs_opens_to_write(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);
}

enum fs_state {
	FS_IDLE,    /* not open; a request under way may hold a reference */
	FS_CLAIMED, /* its local bytes are being dropped: requests wait */
	FS_PASS,    /* open, in passthrough */
	FS_SERVED,  /* open, reads and writes come here */
	FS_LINGER,  /* not open, but a writable mapping may exist */
};

struct fs_file {
	uint64_t ino;
	struct fs_handles *h;
	struct fs_wait end_wait;  /* for the gate, at the end of writing */
	struct fs_file *end_next; /* under the mutex, in `ends` */
	/* under the mutex of struct fs_handles */
	enum fs_state state;
	unsigned refs;
	unsigned opens, writers; /* open slots; those that may write */
	bool written;		 /* the row says so, because of us */
	bool ending;		 /* its last writer's work is under way */
	bool node;		 /* has no name, but the kernel knows it */
	bool forgotten;		 /* the kernel let go of it */
	bool gate;
	struct fs_wait *gate_head, **gate_tail;
	struct fs_wait *claim_waiters;
	struct fs_file *hash_next;
	struct fs_file *written_next, **written_prev;
	int fd;	 /* O_RDONLY on its data file, or -1 */
	int wfd; /* O_RDWR, only while a served or waiting writer is open */
	int backing_id;	  /* 0: none */
	uint32_t id_slot; /* that has it, when nobody has it open */
	uint64_t serial;  /* of fd */
	bool whole;	  /* every byte is local (stays so while open) */
	bool rdwr;	  /* could be mapped shared and writable */
	bool suspect;	  /* may have changed since it was entered, unseen */
	bool set_id;	  /* has setuid or setgid bits to lose */
	bool is_synced;	  /* `synced` is something */
	struct cache_stamp entered; /* what the journal was told last */
	struct cache_stamp synced;  /* what the last fsync made durable */
	struct cache_stamp seen;    /* at the last tick */
	int64_t seen_ns;	    /* since when it looks like that */
	int64_t probe_delay_ns;
	uint64_t read_end; /* where the last served read ended: a hint */
};

/* What one open() is. */
struct fs_open {
	struct fs_file *file;
	bool write;  /* may write */
	bool direct; /* DIRECT_IO with PASSTHROUGH: writes come here */
};

/* `table` is the caller's and stays. */
struct fs_handles *fs_handles_new(struct fs_mount *m, struct fs_table *table);
/* After the last request, before tier_stop(): what is still open is closed as
 * if released, and entered.  Nothing can be opened afterwards. */
void fs_handles_finish(struct fs_handles *h);
/* After the executor was stopped. */
void fs_handles_free(struct fs_handles *h);

/* Of struct cache_config and struct tier_config; arg: struct fs_handles. */
bool fs_handles_claim(void *arg, uint64_t ino);
void fs_handles_unclaim(void *arg, uint64_t ino);
/* Does somebody have it open or mapped writable, or is about to? */
bool fs_handles_in_use(struct fs_handles *h, uint64_t ino);
/* Inside the transaction that takes its last name: the kernel may still know it
 * (open, O_PATH, a working directory); so it is in use until forgotten.  False
 * takes that back, if the transaction fails. */
void fs_handles_nameless(struct fs_handles *h, uint64_t ino, bool nameless);
/* The kernel forgot a node without a name: true if nobody has it open, else
 * its row goes with the last release. */
bool fs_handles_forget(struct fs_handles *h, uint64_t ino);

/* ---- one inode ---- */

/* A reference, which keeps its local bytes where they are.  NULL: they are
 * being dropped; `wait` runs when that is over (ask again then). */
struct fs_file *fs_file_get(
	struct fs_handles *h, uint64_t ino, struct fs_wait *wait);
/* One more, of somebody who has one. */
void fs_file_hold(struct fs_handles *h, struct fs_file *f);
void fs_file_put(struct fs_handles *h, struct fs_file *f);
/* Enters the gate.  False: `wait` runs, inside it, when it is our turn. */
bool fs_file_lock(
	struct fs_handles *h, struct fs_file *f, struct fs_wait *wait);
void fs_file_unlock(struct fs_handles *h, struct fs_file *f);

bool fs_file_has_writers(struct fs_handles *h, struct fs_file *f);
bool fs_file_is_served(struct fs_handles *h, struct fs_file *f);
/* Inside the gate: nobody else has it open, or mapped through passthrough. */
bool fs_file_alone(struct fs_handles *h, struct fs_file *f, uint64_t serial);

/*
 * Inside the gate: opens it.  Decides between passthrough and served, makes
 * the backing id, fills in everything of fi but what the caller asked for.
 * `wait_writes`: above the dirty mark, every write is to come here.
 * `request`: the id of the OPEN or CREATE.
 */
int fs_file_open(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool wait_writes, uint64_t request,
	struct fuse_file_info *fi);
/* Did this OPEN or CREATE get its handle from a worker that died?  Then it is
 * answered again with what comes back. */
bool fs_file_opened(struct fs_handles *h, uint64_t request, uint64_t *ret_ino,
	struct fuse_file_info *fi);
/* Opens for reading what is open in passthrough, or was a moment ago; without
 * a reference or the gate.  False: not possible that way. */
bool fs_file_open_warm(struct fs_handles *h, uint64_t ino, uint64_t request,
	struct fuse_file_info *fi);
/* The slot of fh, with a reference for the caller. */
int fs_file_of(struct fs_handles *h, uint64_t fh, struct fs_open *ret);
/* RELEASE: the slot ends, and its reference becomes the caller's: for
 * fs_written_end() if it could write, else fs_file_put().  NULL: no such slot. */
struct fs_file *fs_file_release(struct fs_handles *h, uint64_t fh);

/* A read-only descriptor of its data file, which stays open while there is a
 * reference or a written-to state.  Another `serial` than before only inside
 * the gate, if fs_file_alone().  `create`: the data file is made. */
int fs_file_fd(
	struct fs_handles *h, struct fs_file *f, uint64_t serial, bool create);
/* The same if every byte is local, else -EAGAIN. */
int fs_file_whole_fd(struct fs_handles *h, struct fs_file *f);
/* Does a read at `start` go on where the last one ended? */
bool fs_file_continues(struct fs_handles *h, struct fs_file *f, uint64_t start);
/* A read ended there; `whole`: every byte is local by now. */
void fs_file_read_to(
	struct fs_handles *h, struct fs_file *f, uint64_t end, bool whole);
/* Bytes of writes that wait for room; false, and not counted, above the limit. */
bool fs_waiting_bytes(struct fs_handles *h, int64_t bytes);
/* The state of the data file of a written-to inode, into size and times. */
void fs_file_attrs(struct fs_handles *h, struct cache_inode *inode);
int fs_fd_look(int fd, struct cache_stamp *ret, uint64_t *ret_allocated_bytes);
int fs_fd_stamp(int fd, struct cache_stamp *ret);
static inline bool fs_stamp_eq(
	const struct cache_stamp *a, const struct cache_stamp *b)
{
	return a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
		a->ctime_ns == b->ctime_ns;
}

#endif
