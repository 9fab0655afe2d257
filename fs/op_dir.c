/*
 * Directories: listing them.
 *
 * A directory has no handle: the offset of an entry is its cookie, which is
 * chosen once and stays when others come and go, across rewinds and remounts.
 * "." and ".." have offsets 1 and 2, an entry its cookie + 2.
 */
#include "fs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handle.h"

#define DOTS 2

struct read_op {
	struct fs_call call;
	uint64_t ino;
	off_t off;
	bool plus, asked;
	size_t size, used;
	char *buf;
	int64_t fresh_ns;
	struct cache_txn *txn; /* while it is filled */
};

static void read_fini(struct fs_call *call)
{
	free(((struct read_op *)call)->buf);
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fs_reply_err(req, 0);
}

/* 1 when the buffer is full. */
static int put(struct read_op *op, const char *name,
	const struct fuse_entry_param *e, off_t off)
{
	char *at = op->buf + op->used;
	size_t room = op->size - op->used;
	size_t bytes;

	bytes = op->plus
		? fuse_add_direntry_plus(op->call.req, at, room, name, e, off)
		: fuse_add_direntry(
			  op->call.req, at, room, name, &e->attr, off);
	if (bytes > room)
		return 1;
	op->used += bytes;
	return 0;
}

static int put_entry(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct read_op *op = arg;
	struct fuse_entry_param e;
	int64_t attr_ns = op->fresh_ns;

	if (op->plus)
		attr_ns = fs_attr_fresh_ns(
			op->call.m, op->txn, inode, op->fresh_ns);
	fs_entry_fill(op->call.m, inode, op->fresh_ns, attr_ns, &e);
	return put(op, dentry->name, &e, (off_t)(dentry->cookie + DOTS));
}

/* "." and "..": without a node id, so that the kernel learns nothing new. */
static int put_dot(struct read_op *op, struct cache_txn *txn, bool parent)
{
	struct fuse_entry_param e = { 0 };
	struct cache_dentry dentry;
	uint64_t ino = op->ino;

	if (parent && ino != CACHE_ROOT_INO)
		ino = cache_dentry_of(txn, ino, &dentry) == 0 ? dentry.parent
							      : CACHE_ROOT_INO;
	e.attr.st_ino = ino;
	e.attr.st_mode = S_IFDIR;
	return put(op, parent ? ".." : ".", &e, parent ? 2 : 1);
}

static int fill(struct read_op *op, struct cache_txn *txn)
{
	int err = 0;

	op->txn = txn;
	if (op->off < 1)
		err = put_dot(op, txn, false);
	if (err == 0 && op->off < DOTS)
		err = put_dot(op, txn, true);
	if (err == 0)
		err = cache_dentry_each(txn, op->ino,
			op->off > DOTS ? (uint64_t)op->off - DOTS : 0,
			put_entry, op);
	return err < 0 ? err : 0;
}

/* Is the index's list good enough to go on from here?  A listing that was
 * begun is finished from what it began with. */
static int look(struct read_op *op, struct cache_txn *txn, bool *ret_ask)
{
	struct cache_listing listing = { 0 };
	struct cache_inode dir;
	int err = cache_inode_get(txn, op->ino, &dir);

	*ret_ask = false;
	if (err < 0 || dir.nlink == 0)
		return err == -ENOENT ? -ESTALE : err;
	op->fresh_ns = tier_fresh_dir_ns(op->call.m->tier, txn, op->ino);
	if (op->fresh_ns > 0 || op->asked)
		return 0;
	err = op->off == 0 ? 0 : cache_listing_get(txn, op->ino, &listing);
	*ret_ask = !listing.complete;
	return err == -ENOENT ? 0 : err;
}

static void read_run(struct fs_call *call, int err)
{
	struct read_op *op = (struct read_op *)call;
	struct cache_txn *txn;
	bool ask;

	if (err == 0)
		err = cache_read(call->m->cache, &txn);
	if (err < 0) {
		fs_call_err(call, err);
		return;
	}
	err = look(op, txn, &ask);
	if (err == 0 && !ask)
		err = fill(op, txn);
	cache_abort(txn);
	if (err < 0) {
		fs_call_err(call, err);
	} else if (ask) {
		op->asked = true;
		tier_refresh_dir(call->m->tier, op->ino,
			fs_call_arm(call, op->ino, read_run));
		fs_call_go(call);
	} else {
		fuse_reply_buf(call->req, op->buf, op->used);
		fs_call_end(call);
	}
}

static void read_start(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct read_op *op = fs_call_new(req, sizeof(*op));

	op->call.fini = read_fini;
	op->ino = ino;
	op->size = size;
	op->off = off;
	op->plus = plus;
	op->buf = base_malloc(size);
	read_run(&op->call, 0);
}

void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	(void)fi;
	read_start(req, ino, size, off, false);
}

void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	(void)fi;
	read_start(req, ino, size, off, true);
}

/* ---- fsyncdir ---- */

static void sync_done(struct fs_call *call, int err)
{
	fs_call_err(call, err);
}

static void sync_run(struct fs_call *call, int err)
{
	struct fs_mount *m = call->m;
	struct base_str path = BASE_STR_INIT;
	struct read_op *op = (struct read_op *)call;
	struct cache_txn *txn;

	err = cache_sync_index(m->cache);
	tier_mark_sync(m->tier);
	if (err == 0 && m->opt.durability_store) {
		err = cache_read(m->cache, &txn);
		if (err == 0) {
			err = cache_path_of(txn, op->ino, &path);
			cache_abort(txn);
		}
		if (err == 0) {
			tier_flush(m->tier, path.data ? path.data : "",
				fs_call_arm(call, 0, sync_done));
			base_str_fini(&path);
			fs_call_go(call);
			return;
		}
		err = err == -ENOENT ? 0 : err;
		base_str_fini(&path);
	}
	fs_call_err(call, err);
}

void fs_fsyncdir(
	fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct read_op *op = fs_call_new(req, sizeof(*op));

	(void)datasync, (void)fi;
	op->ino = ino;
	fs_call_post(&op->call, sync_run);
}
