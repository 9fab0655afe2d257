/* Answering the kernel: see reply.h. */
#include "fs/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/handle.h"
#include "fs/notify.h"
#include "fs/replied.h"
#include "fs/signals.h"

/* What is fresh for ever is valid in the kernel for a year. */
#define FOREVER_S (365.0 * 24 * 3600)
/* Large requests cost least; more than the kernel's read-ahead is no use. */
#define BLOCK_BYTES (128 << 10)

/* Of a request that the kernel sends again (linux/fuse.h, since 6.9). */
#define SENT_AGAIN (1ull << 63)

/* ---- requests ---- */

/* libfuse does not tell a request's id. */
static _Thread_local uint64_t current;

void fs_request_begin(uint64_t unique)
{
	current = unique;
}

uint64_t fs_request_id(bool *ret_again)
{
	*ret_again = (current & SENT_AGAIN) != 0;
	return current & ~SENT_AGAIN;
}

bool fs_request_replied(fuse_req_t req, uint64_t *ret_ino)
{
	bool again;
	uint64_t request = fs_request_id(&again);

	return again &&
		fs_replied_find(fs_mount_of(req)->replied, request, ret_ino);
}

/* ---- calls ---- */

static void run_step(void *arg)
{
	struct fs_call *call = arg;

	call->step(call, 0);
}

void *fs_call_new(fuse_req_t req, size_t bytes)
{
	struct fs_call *call = base_calloc(1, bytes);
	bool again;

	call->req = req;
	call->m = fs_mount_of(req);
	call->request = fs_request_id(&again);
	call->slot = FS_REPLIED_NONE;
	atomic_fetch_add(&call->m->calls, 1);
	return call;
}

void fs_call_end(struct fs_call *call)
{
	struct fs_mount *m = call->m;
	uint64_t one = 1;
	int fd;

	fs_replied_give(m->replied, call->slot);
	if (call->fini != NULL)
		call->fini(call);
	free(call);
	if (atomic_fetch_sub(&m->calls, 1) != 1)
		return;
	fd = atomic_load(&m->drained_fd);
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		log_error("eventfd: %s", strerrordesc_np(errno));
}

int fs_call_done(struct fs_call *call, struct cache_txn *txn, uint64_t ino)
{
	/* Over io_uring it cannot be known, nor does it come again. */
	if (call->request == 0)
		return 0;
	if (call->slot == FS_REPLIED_NONE)
		call->slot = fs_replied_take(call->m->replied);
	return cache_replied_put(txn, call->slot, call->request, ino);
}

void fs_call_err(struct fs_call *call, int err)
{
	fs_reply_err(call->req, err);
	fs_call_end(call);
}

/* Bits of `arrived`. */
#define STARTED 1u  /* fs_call_go() is through with the call */
#define FINISHED 2u /* tier's `done` was called */

/* With req's own lock held by libfuse, which keeps the request alive. */
static void interrupted(fuse_req_t req, void *data)
{
	struct fs_call *call = data;

	(void)req;
	if (!(atomic_load(&call->arrived) & FINISHED))
		fs_signals_interrupt(call->m->signals, call);
}

/* The later of fs_call_go() and tier's `done`: the call is ours again. */
static void go_on(struct fs_call *call)
{
	/* Waits for an interrupt function that runs just now. */
	fuse_req_interrupt_func(call->req, NULL, NULL);
	fs_signals_unwatch(call->m->signals, call);
	if (call->waits_at != 0)
		fs_notify_allow(call->m->notify, call->waits_at);
	call->step(call, call->err);
}

static void tier_done(struct tier_call *tier_call, int err)
{
	struct fs_call *call = (struct fs_call *)((char *)tier_call -
		offsetof(struct fs_call, tier_call));

	call->err = err;
	if (atomic_fetch_or(&call->arrived, FINISHED) & STARTED)
		go_on(call);
}

struct tier_call *fs_call_arm(
	struct fs_call *call, uint64_t ino, fs_step_fn step)
{
	call->step = step;
	atomic_store(&call->arrived, 0);
	call->waits_at = ino;
	if (ino != 0)
		fs_notify_hold(call->m->notify, ino);
	memset(&call->tier_call, 0, sizeof(call->tier_call));
	call->tier_call.done = tier_done;
	return &call->tier_call;
}

void fs_call_go(struct fs_call *call)
{
	if (!(atomic_load(&call->arrived) & FINISHED)) {
		fs_signals_watch(call->m->signals, call);
		/* May call interrupted() there and then. */
		fuse_req_interrupt_func(call->req, interrupted, call);
	}
	if (atomic_fetch_or(&call->arrived, STARTED) & FINISHED)
		go_on(call);
}

struct fs_wait *fs_call_wait(struct fs_call *call, fs_step_fn step)
{
	call->step = step;
	call->wait.fn = run_step;
	call->wait.arg = call;
	return &call->wait;
}

void fs_call_post(struct fs_call *call, fs_step_fn step)
{
	call->step = step;
	base_post(call->m->env, run_step, call);
}

void fs_call_after(struct fs_call *call, int64_t delay_ns, fs_step_fn step)
{
	call->step = step;
	base_after(call->m->env, delay_ns, run_step, call);
}

/* ---- replies ---- */

void fs_reply_err(fuse_req_t req, int err)
{
	/* -ENOENT from a write to /dev/fuse: the caller is gone; nothing is
	 * left to do. */
	fuse_reply_err(req, -err);
}

double fs_timeout(int64_t ns)
{
	if (ns <= 0)
		return 0;
	if (ns == TIER_FOREVER_NS || (double)ns / 1e9 > FOREVER_S)
		return FOREVER_S;
	return (double)ns / 1e9;
}

static mode_t type_of(enum cache_kind kind)
{
	switch (kind) {
	case CACHE_DIR:
		return S_IFDIR;
	case CACHE_SYMLINK:
		return S_IFLNK;
	case CACHE_FIFO:
		return S_IFIFO;
	case CACHE_SOCKET:
		return S_IFSOCK;
	case CACHE_CHAR:
		return S_IFCHR;
	case CACHE_BLOCK:
		return S_IFBLK;
	case CACHE_FILE:
	case CACHE_GONE:
		break;
	}
	return S_IFREG;
}

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts;

	ts.tv_sec = ns / 1000000000;
	ts.tv_nsec = ns % 1000000000;
	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

void fs_attr_fill(struct fs_mount *m, const struct cache_inode *inode,
	struct stat *st, double *ret_timeout)
{
	struct cache_inode now = *inode;

	if (inode->kind == CACHE_FILE && inode->written) {
		fs_file_attrs(m->handles, &now);
		*ret_timeout = 0;
	}
	memset(st, 0, sizeof(*st));
	st->st_ino = now.ino;
	st->st_mode = type_of(now.kind) | (now.mode & 07777);
	st->st_nlink = now.nlink;
	st->st_uid = now.uid;
	st->st_gid = now.gid;
	st->st_rdev = now.rdev;
	st->st_size = (off_t)now.size_bytes;
	st->st_blksize = BLOCK_BYTES;
	/* Never fewer blocks than bytes, or cp and tar would see holes in what
	 * is only not local. */
	st->st_blocks = (blkcnt_t)((now.size_bytes + 511) / 512);
	st->st_mtim = timespec_of(now.mtime_ns);
	st->st_ctim = timespec_of(now.ctime_ns);
	st->st_atim =
		timespec_of(now.atime_ns != 0 ? now.atime_ns : now.mtime_ns);
}

int64_t fs_attr_fresh_ns(struct fs_mount *m, struct cache_txn *txn,
	const struct cache_inode *inode, int64_t fresh_ns)
{
	int64_t dir_ns;

	if (inode->kind != CACHE_DIR)
		return fresh_ns;
	dir_ns = tier_fresh_dir_ns(m->tier, txn, inode->ino);
	return dir_ns < fresh_ns ? dir_ns : fresh_ns;
}

void fs_entry_fill(struct fs_mount *m, const struct cache_inode *inode,
	int64_t fresh_ns, int64_t attr_fresh_ns, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = inode->ino;
	ret->generation = 1; /* numbers are never used twice */
	ret->entry_timeout = fs_timeout(fresh_ns);
	ret->attr_timeout = fs_timeout(attr_fresh_ns);
	fs_attr_fill(m, inode, &ret->attr, &ret->attr_timeout);
}

void fs_reply_entry(fuse_req_t req, const struct cache_inode *inode,
	int64_t fresh_ns, int64_t attr_fresh_ns)
{
	struct fuse_entry_param e;

	fs_entry_fill(fs_mount_of(req), inode, fresh_ns, attr_fresh_ns, &e);
	fuse_reply_entry(req, &e);
}

void fs_reply_again(fuse_req_t req, uint64_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = 0;

	if (ino != 0) {
		err = cache_read(m->cache, &txn);
		if (err == 0) {
			err = cache_inode_get(txn, ino, &inode);
			cache_abort(txn);
		}
	}
	if (ino == 0 || err < 0)
		fs_reply_err(req, err == -ENOENT ? -ESTALE : err);
	else
		fs_reply_entry(
			req, &inode, m->opt.freshness_ns, m->opt.freshness_ns);
}
