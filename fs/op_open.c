/*
 * Opening and closing files: open, create, flush, fsync, release.
 *
 * An open goes: reference (waits while the local bytes are being dropped), gate,
 * look at the row; fetch the whole file if that is the way it opens (outside
 * the gate, then look again); for a writer: make ready (op_ready.c); then
 * fs/handle.c decides and fills in the answer.
 *
 * FLUSH is where a close is ordered: RELEASE comes later, in any order.
 *
 * An open that is sent again, because its worker died, has its handle already,
 * or its file but no handle, or nothing: it goes on from there.
 */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/handle.h"
#include "fs/notify.h"
#include "fs/op_open.h"
#include "fs/written.h"

/* A file that was closed a moment ago and is opened again: how long the kernel
 * may need to let go of it, before its owed state is given up. */
#define CLOSE_WAIT_NS (10 * 1000000ll)
#define CLOSE_WAITS 5

struct open_op {
	struct fs_name_op name; /* create only, but for the call in it */
	uint64_t ino;
	struct fuse_file_info fi;
	struct fs_file *f;
	struct fs_ready ready;
	struct cache_inode inode;
	bool create;
	mode_t mode;
	int tries, waits;
};

/* After fs_file_release(). */
static void end_open(struct fs_handles *h, struct fs_file *f, bool write)
{
	if (f != NULL && write)
		fs_written_end(h, f);
	else if (f != NULL)
		fs_file_put(h, f);
}

static void reply(struct open_op *op)
{
	struct fs_mount *m = op->name.call.m;
	fuse_req_t req = op->name.call.req;
	bool write = fs_opens_to_write(&op->fi);
	struct fuse_entry_param e;
	int err;

	if (op->create) {
		fs_entry_fill(m, &op->inode, m->opt.freshness_ns,
			m->opt.freshness_ns, &e);
		/* Writes come by the kernel, which forgets what it has at each;
		 * a store to a mapping does not. */
		if (!op->ready.rdwr)
			e.attr_timeout = fs_timeout(m->opt.freshness_ns);
		err = fuse_reply_create(req, &e, &op->fi);
	} else {
		err = fuse_reply_open(req, &op->fi);
	}
	/* The caller is gone, and no RELEASE will come. */
	if (err < 0)
		end_open(m->handles, fs_file_release(m->handles, op->fi.fh),
			write);
}

static void open_lock(struct fs_call *call, int err);

/* Its data file is not there.  True: that is noted, and it can be fetched. */
static bool can_be_fetched(struct open_op *op)
{
	struct fs_mount *m = op->name.call.m;
	struct cache_txn *txn;
	int err = cache_write(m->cache, &txn);

	if (err < 0)
		return false;
	err = cache_data_missing(txn, op->ino);
	if (err < 0) {
		cache_abort(txn);
		log_error("inode %llu: its data file is gone, and the store "
			  "does not have its bytes",
			(unsigned long long)op->ino);
		return false;
	}
	return cache_commit(txn) == 0;
}

/* Inside the gate, with the row as it is now: the last step. */
static void attach(struct open_op *op, int err)
{
	struct fs_mount *m = op->name.call.m;
	struct fs_handles *h = m->handles;
	struct fs_file *f = op->f;
	bool write = fs_opens_to_write(&op->fi);

	if (err == 0)
		err = fs_file_open(h, f, &op->inode,
			write && !fs_written_may_write(h),
			op->name.call.request, &op->fi);
	if (err == -ENOENT && !op->create && op->tries++ < FS_TRIES &&
		can_be_fetched(op)) {
		fs_file_unlock(h, f);
		open_lock(&op->name.call, 0);
		return;
	}
	if (err == -ENOENT && !op->create)
		err = -EIO;
	if (err == 0) {
		cache_touch(m->cache, f->ino);
		if (!write && op->tries == 0)
			tier_opened(m->tier, f->ino);
		/* A store to a mapping does not tell the kernel that mtime
		 * moves: what it cached before must not live on. */
		if (op->ready.rdwr && !op->create)
			fs_notify_attrs(m->notify, f->ino);
		reply(op);
	} else {
		fs_reply_err(op->name.call.req, err);
	}
	fs_call_end(&op->name.call);
	fs_file_unlock(h, f);
	if (write)
		fs_written_end(h, f);
	else
		fs_file_put(h, f);
}

static void open_ready(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;

	err = fs_make_ready(call->m, op->f, &op->ready, &op->inode);
	attach(op, err);
}

/* 1: the whole file is wanted first. */
static int look(struct open_op *op, struct cache_txn *txn)
{
	struct fs_mount *m = op->name.call.m;
	const struct cache_inode *inode = &op->inode;
	int err;

	if (fs_opens_to_write(&op->fi)) {
		err = fs_may_change(m, inode);
		return err < 0
			? err
			: fs_ready_look(m, txn, op->f, inode, &op->ready);
	}
	if (inode->kind != CACHE_FILE)
		return inode->kind == CACHE_DIR ? -EISDIR : -ENXIO;
	if (inode->access == CACHE_ACCESS_NONE && inode->data != CACHE_WHOLE)
		return -EIO;
	return inode->data != CACHE_WHOLE &&
		inode->size_bytes <= m->opt.fetch_whole_bytes &&
		!fs_file_is_served(m->handles, op->f);
}

static void open_locked(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;
	struct fs_mount *m = call->m;
	struct cache_txn *txn;

	err = cache_read(m->cache, &txn);
	if (err == 0) {
		err = cache_inode_get(txn, op->ino, &op->inode);
		err = err == -ENOENT ? -ESTALE : err;
		if (err == 0)
			err = look(op, txn);
		cache_abort(txn);
	}
	if (err == 1) {
		fs_file_unlock(m->handles, op->f);
		if (op->tries++ == FS_TRIES) {
			open_lock(call, -EIO);
			return;
		}
		tier_fetch_whole(m->tier, op->ino, false,
			fs_call_arm(call, op->ino, open_lock));
		fs_call_go(call);
	} else if (err == 0 && op->ready.again && op->waits++ < CLOSE_WAITS) {
		fs_file_unlock(m->handles, op->f);
		fs_call_after(call, CLOSE_WAIT_NS, open_lock);
	} else if (err < 0 || !fs_opens_to_write(&op->fi)) {
		attach(op, err);
	} else if (fs_ready_waits(&op->ready)) {
		fs_call_post(call, open_ready);
	} else {
		open_ready(call, 0);
	}
}

static void open_lock(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;
	struct fs_handles *h = call->m->handles;

	if (err < 0) {
		fs_file_put(h, op->f);
		fs_call_err(call, err);
	} else if (fs_file_lock(h, op->f, fs_call_wait(call, open_locked))) {
		open_locked(call, 0);
	}
}

static void open_start(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;
	struct fs_file *f;

	(void)err;
	f = fs_file_get(
		call->m->handles, op->ino, fs_call_wait(call, open_start));
	/* Else it runs again, and may be doing so already. */
	if (f == NULL)
		return;
	op->f = f;
	open_lock(call, 0);
}

static void reply_again(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;
	struct cache_txn *txn;

	err = cache_read(call->m->cache, &txn);
	if (err == 0) {
		err = cache_inode_get(txn, op->ino, &op->inode);
		cache_abort(txn);
	}
	if (err == 0)
		reply(op);
	else
		fs_reply_err(call->req, err == -ENOENT ? -ESTALE : err);
	fs_call_end(call);
}

/* It came before, to a worker that died.  True: and has its handle. */
static bool has_handle(struct open_op *op)
{
	bool again;
	uint64_t request = fs_request_id(&again);

	return again &&
		fs_file_opened(
			op->name.call.m->handles, request, &op->ino, &op->fi);
}

/* The common case of what is read again and again. */
static bool open_warm(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	bool again;
	uint64_t request = fs_request_id(&again);

	if (again || !fs_file_open_warm(m->handles, ino, request, fi))
		return false;
	cache_touch(m->cache, ino);
	tier_opened(m->tier, ino);
	if (fuse_reply_open(req, fi) < 0)
		end_open(
			m->handles, fs_file_release(m->handles, fi->fh), false);
	return true;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct open_op *op;
	uint64_t done;

	if (!fs_opens_to_write(fi) && open_warm(req, ino, fi))
		return;
	op = fs_call_new(req, sizeof(*op));
	op->ino = ino;
	op->fi = *fi;
	if (has_handle(op)) {
		reply_again(&op->name.call, 0);
		return;
	}
	op->ready.truncate =
		(fi->flags & O_TRUNC) && !fs_request_replied(req, &done);
	op->ready.kill_setid = op->ready.truncate && fs_kills_setid(req, fi);
	op->ready.rdwr = (fi->flags & O_ACCMODE) == O_RDWR;
	op->ready.call = &op->name.call;
	open_start(&op->name.call, 0);
}

/* ---- create ---- */

static int create_in(struct open_op *op, struct cache_txn *txn)
{
	struct fs_mount *m = op->name.call.m;
	struct cache_inode *inode = &op->inode;
	int err;

	err = fs_make_node(&op->name, txn, CACHE_FILE, op->mode, op->f->ino,
		fs_opens_to_write(&op->fi), inode);
	if (err != 0)
		return err;
	/* Nobody will close it for writing. */
	if (!inode->written) {
		err = fs_fd_stamp(op->f->fd, &inode->stamp);
		if (err == 0)
			err = cache_inode_put(txn, inode);
		if (err == 0)
			err = fs_tell(m, txn, op->name.parent, op->name.name,
				inode, TIER_NEW, 0);
	}
	if (err == 0)
		err = fs_call_done(&op->name.call, txn, inode->ino);
	return err;
}

/* The data file, before others have to wait for the transaction. */
static int create_data(struct open_op *op)
{
	struct fs_handles *h = op->name.call.m->handles;
	uint64_t ino;
	int err = cache_ino_take(op->name.call.m->cache, &ino);

	if (err < 0)
		return err;
	/* Nobody else knows the number yet: no claim, nobody in the gate. */
	op->f = fs_file_get(h, ino, NULL);
	fs_file_lock(h, op->f, NULL);
	err = fs_file_fd(h, op->f, FS_FIRST_SERIAL, true);
	return err < 0 ? err : 0;
}

static void uncreate_data(struct open_op *op)
{
	struct fs_mount *m = op->name.call.m;

	cache_data_unmake(m->cache, op->f->ino, FS_FIRST_SERIAL);
	fs_file_unlock(m->handles, op->f);
	fs_file_put(m->handles, op->f);
	op->f = NULL;
}

static void create_run(struct fs_call *call, int err)
{
	struct open_op *op = (struct open_op *)call;
	struct fs_mount *m = call->m;
	struct cache_txn *txn;

	err = create_data(op);
	if (err == 0)
		err = cache_write(m->cache, &txn);
	if (err == 0)
		err = fs_commit(m, txn, create_in(op, txn));
	if (err != 0 && op->f != NULL)
		uncreate_data(op);
	if (err == FS_ASK) {
		fs_name_op_ask(&op->name);
		return;
	}
	/* Somebody else made it since the kernel looked: without O_EXCL it
	 * looks again, and then opens it, with the checks of an open. */
	if (err == -EEXIST && !(op->fi.flags & O_EXCL))
		err = -ESTALE;
	if (op->f == NULL) {
		fs_call_err(call, err);
		return;
	}
	if (err == 0 && op->inode.written)
		fs_written_begin(
			m->handles, op->f, &op->inode, op->ready.rdwr, false);
	attach(op, err);
}

void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi)
{
	struct open_op *op =
		fs_name_op_new(req, sizeof(*op), parent, name, create_run);

	if (op == NULL)
		return;
	op->create = true;
	op->mode = mode;
	op->fi = *fi;
	op->ready.rdwr = (fi->flags & O_ACCMODE) == O_RDWR;
	if (has_handle(op))
		reply_again(&op->name.call, 0);
	else if (fs_request_replied(req, &op->ino))
		open_start(&op->name.call, 0);
	else
		fs_name_op_start(&op->name);
}

/* ---- flush, release ---- */

void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_open open;
	int err = fs_file_of(m->handles, fi->fh, &open);

	(void)ino;
	if (err == 0) {
		if (open.write)
			err = fs_written_enter(m->handles, open.file);
		fs_file_put(m->handles, open.file);
	}
	fs_reply_err(req, err);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_open open;
	struct fs_file *f;
	int err = fs_file_of(m->handles, fi->fh, &open);

	(void)ino;
	/* First, so that a worker that dies now leaves no handle that nobody
	 * has; one that comes again finds nothing. */
	f = err == 0 ? fs_file_release(m->handles, fi->fh) : NULL;
	fs_reply_err(req, 0);
	if (err < 0)
		return;
	/* Nobody waits for what follows. */
	end_open(m->handles, f, open.write);
	fs_file_put(m->handles, open.file);
}

/* ---- fsync ---- */

struct sync_op {
	struct fs_call call;
	uint64_t ino;
	struct fs_file *f;
};

static void sync_end(struct fs_call *call, int err)
{
	struct sync_op *op = (struct sync_op *)call;

	fs_file_put(call->m->handles, op->f);
	fs_call_err(call, err);
}

/* durability=store: until the store has it. */
static void sync_store(struct sync_op *op)
{
	struct fs_mount *m = op->call.m;
	struct base_str path = BASE_STR_INIT;
	struct cache_txn *txn;
	int err = 0;

	if (fs_file_has_writers(m->handles, op->f))
		err = fs_written_enter(m->handles, op->f);
	if (err == 0)
		err = cache_read(m->cache, &txn);
	if (err == 0) {
		err = cache_path_of(txn, op->ino, &path);
		cache_abort(txn);
	}
	if (err == 0) {
		tier_flush(m->tier, path.data,
			fs_call_arm(&op->call, 0, sync_end));
		fs_call_go(&op->call);
	} else {
		sync_end(&op->call, err == -ENOENT ? 0 : err);
	}
	base_str_fini(&path);
}

static void sync_run(struct fs_call *call, int err)
{
	struct sync_op *op = (struct sync_op *)call;

	err = fs_written_sync(call->m->handles, op->ino);
	if (err == 0 && call->m->opt.durability_store && !call->m->opt.ro)
		sync_store(op);
	else
		sync_end(call, err);
}

void fs_fsync(
	fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_open open;
	struct sync_op *op;
	int err = fs_file_of(m->handles, fi->fh, &open);

	(void)datasync;
	if (err < 0) {
		fs_reply_err(req, err);
		return;
	}
	op = fs_call_new(req, sizeof(*op));
	op->ino = ino;
	op->f = open.file;
	fs_call_post(&op->call, sync_run);
}
