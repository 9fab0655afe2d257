/*
 * Attributes: changing them.
 *
 * Mode, owner and times are rows; they enter the journal at once, unless the
 * file is new and still being written (then its close enters them).  A size
 * changes the data file, as a writer would: the inode becomes written-to for
 * the moment, and its end of writing enters the new content.
 */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/op_open.h"
#include "fs/written.h"

struct setattr_op {
	struct fs_call call;
	uint64_t ino;
	struct stat attr;
	int to_set;
	/* size only */
	struct fs_file *f;
	struct fs_ready ready;
	int tries;
};

#define OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
#define TIMES                                                                  \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | \
		FUSE_SET_ATTR_MTIME_NOW)

static int64_t ns_of(const struct timespec *ts)
{
	return ts->tv_sec * 1000000000ll + ts->tv_nsec;
}

/* ---- mode, owner, times ---- */

static void set_owner(struct setattr_op *op, struct cache_inode *inode)
{
	if (op->to_set & FUSE_SET_ATTR_UID)
		inode->uid = op->attr.st_uid;
	if (op->to_set & FUSE_SET_ATTR_GID)
		inode->gid = op->attr.st_gid;
	/* HANDLE_KILLPRIV_V2: a change of owner takes them from everybody. */
	if (inode->kind == CACHE_FILE && !(op->to_set & FUSE_SET_ATTR_MODE))
		fs_kill_setid(inode);
}

/* While it is written-to the data file's mtime is the one that shows, once it
 * has changed; then it must be set there. */
static int set_data_times(struct fs_mount *m, const struct cache_inode *inode)
{
	struct cache_stamp now;
	struct timespec ts[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{
			.tv_sec = inode->mtime_ns / 1000000000,
			.tv_nsec = inode->mtime_ns % 1000000000,
		},
	};
	int err, fd;

	if (inode->kind != CACHE_FILE || !inode->written)
		return 0;
	fd = cache_data_open(
		m->cache, inode->ino, inode->serial, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (ts[1].tv_nsec < 0) {
		ts[1].tv_sec--;
		ts[1].tv_nsec += 1000000000;
	}
	err = fs_fd_stamp(fd, &now);
	if (err == 0 && !fs_stamp_eq(&now, &inode->stamp) &&
		futimens(fd, ts) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int set_times(struct setattr_op *op, struct cache_inode *inode)
{
	struct fs_mount *m = op->call.m;
	int64_t now = base_wall_ns(m->env);

	if (op->to_set & FUSE_SET_ATTR_ATIME_NOW)
		inode->atime_ns = now;
	else if (op->to_set & FUSE_SET_ATTR_ATIME)
		inode->atime_ns = ns_of(&op->attr.st_atim);
	if (op->to_set & FUSE_SET_ATTR_MTIME_NOW)
		inode->mtime_ns = now;
	else if (op->to_set & FUSE_SET_ATTR_MTIME)
		inode->mtime_ns = ns_of(&op->attr.st_mtim);
	else
		return 0;
	return set_data_times(m, inode);
}

/* Does the store care?  atime never goes there. */
static bool is_told(
	const struct cache_inode *before, const struct cache_inode *after)
{
	return before->mode != after->mode || before->uid != after->uid ||
		before->gid != after->gid ||
		before->mtime_ns != after->mtime_ns;
}

static int tell(
	struct fs_mount *m, struct cache_txn *txn, struct cache_inode *inode)
{
	struct base_str path = BASE_STR_INIT;
	int err;

	if (inode->nlink == 0 || inode->ino == CACHE_ROOT_INO)
		return 0;
	err = cache_path_of(txn, inode->ino, &path);
	if (err == 0)
		err = tier_enter(m->tier, txn, path.data, inode, TIER_ATTR, 0);
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

/* Changes the row; with `told`, in the journal too. */
static int change(struct setattr_op *op, struct cache_txn *txn,
	struct cache_inode *inode, bool *ret_told)
{
	struct cache_inode before;
	int err = cache_inode_get(txn, op->ino, inode);

	if (err < 0)
		return err == -ENOENT ? -ESTALE : err;
	before = *inode;
	if (op->to_set & FUSE_SET_ATTR_MODE)
		inode->mode = op->attr.st_mode & 07777;
	if (op->to_set & OWNER)
		set_owner(op, inode);
	/* Nothing asked for: the kernel wants what a write takes away gone. */
	if (inode->kind == CACHE_FILE &&
		(op->to_set & ~FUSE_SET_ATTR_KILL_SUID) == 0)
		fs_kill_setid(inode);
	err = set_times(op, inode);
	inode->ctime_ns = base_wall_ns(op->call.m->env);
	*ret_told = is_told(&before, inode);
	if (*ret_told && inode->access > CACHE_ACCESS_READ)
		return -EPERM; /* metadata cannot be set, either */
	if (*ret_told) {
		inode->meta_gen++;
		/* A directory that is only a prefix gets a marker to carry
		 * its attributes. */
		inode->implicit = false;
	}
	return err < 0 ? err : cache_inode_put(txn, inode);
}

static void setattr_plain(struct setattr_op *op)
{
	struct fs_mount *m = op->call.m;
	struct cache_inode inode;
	struct cache_txn *txn;
	struct stat st;
	double timeout = fs_timeout(m->opt.freshness_ns);
	bool told = false;
	int err = cache_write(m->cache, &txn);

	if (err == 0) {
		err = change(op, txn, &inode, &told);
		if (err == 0 && told)
			err = tell(m, txn, &inode);
		if (err == 0)
			err = fs_call_done(&op->call, txn, inode.ino);
		err = fs_commit(m, txn, err);
	}
	if (err < 0) {
		fs_call_err(&op->call, err);
		return;
	}
	fs_attr_fill(m, &inode, &st, &timeout);
	fuse_reply_attr(op->call.req, &st, timeout);
	fs_call_end(&op->call);
}

/* ---- size ---- */

static void size_end(struct setattr_op *op, int err)
{
	struct fs_handles *h = op->call.m->handles;
	struct fs_file *f = op->f;

	/* With a writer left, its close tells the journal. */
	if (err == 0 && !fs_file_has_writers(h, f))
		err = fs_written_enter(h, f);
	if (err == 0)
		setattr_plain(op);
	else
		fs_call_err(&op->call, err);
	fs_file_unlock(h, f);
	fs_written_end(h, f);
}

static void size_run(struct fs_call *call, int err)
{
	struct setattr_op *op = (struct setattr_op *)call;
	struct cache_inode inode;

	err = fs_make_ready(call->m, op->f, &op->ready, &inode);
	if (err == 0 && op->attr.st_size != 0)
		err = fs_truncate_data(call->m, &inode, op->attr.st_size);
	op->to_set &= ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_KILL_SUID);
	op->to_set |= FUSE_SET_ATTR_CTIME;
	size_end(op, err);
}

static void size_lock(struct fs_call *call, int err);

static void size_locked(struct fs_call *call, int err)
{
	struct setattr_op *op = (struct setattr_op *)call;
	struct fs_mount *m = call->m;
	struct cache_inode inode;
	struct cache_txn *txn;

	err = cache_read(m->cache, &txn);
	if (err == 0) {
		err = cache_inode_get(txn, op->ino, &inode);
		err = err == -ENOENT ? -ESTALE : err;
		if (err == 0)
			err = fs_may_change(m, &inode);
		if (err == 0)
			err = fs_ready_look(m, txn, op->f, &inode, &op->ready);
		cache_abort(txn);
	}
	if (err <= 0) {
		if (err < 0)
			size_end(op, err);
		else
			fs_call_post(call, size_run);
		return;
	}
	fs_file_unlock(m->handles, op->f);
	if (op->tries++ == FS_TRIES) {
		fs_file_put(m->handles, op->f);
		fs_call_err(call, -EIO);
		return;
	}
	tier_fetch_whole(
		m->tier, op->ino, false, fs_call_arm(call, op->ino, size_lock));
	fs_call_go(call);
}

static void size_lock(struct fs_call *call, int err)
{
	struct setattr_op *op = (struct setattr_op *)call;
	struct fs_handles *h = call->m->handles;

	if (err < 0) {
		fs_file_put(h, op->f);
		fs_call_err(call, err);
	} else if (fs_file_lock(h, op->f, fs_call_wait(call, size_locked))) {
		size_locked(call, 0);
	}
}

static void size_start(struct fs_call *call, int err)
{
	struct setattr_op *op = (struct setattr_op *)call;
	struct fs_file *f;

	(void)err;
	f = fs_file_get(
		call->m->handles, op->ino, fs_call_wait(call, size_start));
	/* Else it runs again, and may be doing so already. */
	if (f == NULL)
		return;
	op->f = f;
	size_lock(call, 0);
}

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
	struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct setattr_op *op;
	uint64_t done;

	if (fs_request_replied(req, &done)) {
		fs_getattr(req, ino, fi);
		return;
	}
	if (m->opt.ro) {
		fs_reply_err(req, -EROFS);
		return;
	}
	if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size < 0) {
		fs_reply_err(req, -EINVAL);
		return;
	}
	op = fs_call_new(req, sizeof(*op));
	op->ino = ino;
	op->attr = *attr;
	op->to_set = to_set &
		(FUSE_SET_ATTR_MODE | OWNER | TIMES | FUSE_SET_ATTR_SIZE |
			FUSE_SET_ATTR_CTIME | FUSE_SET_ATTR_KILL_SUID);
	op->ready.truncate = attr->st_size == 0;
	op->ready.kill_setid = to_set & FUSE_SET_ATTR_KILL_SUID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		size_start(&op->call, 0);
	else
		setattr_plain(op);
}
