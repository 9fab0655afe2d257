/*
 * What all changes of names share (ops.h).
 *
 * A change needs the name to be current (another host may have made or removed
 * it), and checks and does everything in one transaction.  Mostly the directory
 * was listed a while ago, so that its transaction finds out by itself; if it
 * does not, it is given up (FS_ASK), the store is asked, and it begins again.
 */
#include "fs/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/handle.h"

/* ---- making a name current ---- */

void *fs_name_op_new(fuse_req_t req, size_t bytes, fuse_ino_t parent,
	const char *name, fs_step_fn run)
{
	size_t len = strlen(name);
	struct fs_name_op *op;

	if (len > CACHE_NAME_MAX) {
		fs_reply_err(req, -ENAMETOOLONG);
		return NULL;
	}
	op = fs_call_new(req, bytes);
	op->parent = parent;
	memcpy(op->name, name, len + 1);
	op->run = run;
	return op;
}

static void refreshed(struct fs_call *call, int err)
{
	struct fs_name_op *op = (struct fs_name_op *)call;

	op->asked = true;
	if (err < 0)
		fs_call_err(call, err);
	else
		op->run(call, 0);
}

void fs_name_op_refresh(struct fs_name_op *op)
{
	tier_refresh_name(op->call.m->tier, op->parent, op->name,
		fs_call_arm(&op->call, op->parent, refreshed));
	fs_call_go(&op->call);
}

bool fs_name_is_stale(struct fs_name_op *op, struct cache_txn *txn)
{
	struct cache_dentry dentry;
	int err;

	if (op->asked)
		return false;
	err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	return tier_fresh_name_ns(op->call.m->tier, txn, op->parent, op->name,
		       err == 0) <= 0;
}

void fs_name_op_ask(struct fs_name_op *op)
{
	struct cache_txn *txn;
	bool stale;
	int err = cache_read(op->call.m->cache, &txn);

	if (err < 0) {
		fs_call_err(&op->call, err);
		return;
	}
	stale = fs_name_is_stale(op, txn);
	cache_abort(txn);
	op->asked = true;
	if (stale)
		fs_name_op_refresh(op);
	else
		op->run(&op->call, 0);
}

void fs_name_op_start(struct fs_name_op *op)
{
	uint64_t ino;

	if (fs_request_replied(op->call.req, &ino)) {
		fs_reply_again(op->call.req, ino);
		fs_call_end(&op->call);
		return;
	}
	if (op->call.m->opt.ro)
		fs_call_err(&op->call, -EROFS);
	else
		op->run(&op->call, 0);
}

/* ---- inside the transaction ---- */

/* The single names that were asked for are not looked at here: their lock comes
 * before the writer's. */
bool fs_name_may_be_stale(struct fs_name_op *op, struct cache_txn *txn)
{
	return !op->asked &&
		tier_fresh_dir_ns(op->call.m->tier, txn, op->parent) <= 0;
}

int fs_dir_get(struct cache_txn *txn, uint64_t ino, struct cache_inode *ret)
{
	int err = cache_inode_get(txn, ino, ret);

	if (err == -ENOENT)
		return -ESTALE;
	if (err == 0 && ret->kind != CACHE_DIR)
		return -ENOTDIR;
	if (err == 0 && ret->nlink == 0)
		return -ENOENT;
	return err;
}

int fs_dir_changed(struct fs_mount *m, struct cache_txn *txn,
	struct cache_inode *dir, int subdirs)
{
	dir->mtime_ns = dir->ctime_ns = base_wall_ns(m->env);
	dir->nlink = (uint32_t)((int)dir->nlink + subdirs);
	tier_dir_changed(m->tier, dir->ino);
	return cache_inode_put(txn, dir);
}

int fs_unname(
	struct fs_mount *m, struct cache_txn *txn, struct cache_inode *inode)
{
	int err;

	inode->nlink = inode->kind == CACHE_DIR ? 0 : inode->nlink - 1;
	if (inode->nlink == 0)
		fs_handles_nameless(m->handles, inode->ino, true);
	inode->ctime_ns = base_wall_ns(m->env);
	err = cache_inode_put(txn, inode);
	/* Until nobody knows it any more: the kernel says so with FORGET. */
	if (err == 0 && inode->nlink == 0)
		err = cache_held_add(txn, inode->ino);
	return err;
}

/* Can the store hold a file of this name here? */
static int check_name(struct fs_name_op *op, struct cache_txn *txn)
{
	struct base_str path = BASE_STR_INIT;
	int err = cache_path_join(txn, op->parent, op->name, &path);

	if (err == 0)
		err = tier_name_check(op->call.m->tier, path.data);
	base_str_fini(&path);
	return err;
}

int fs_make_node(struct fs_name_op *op, struct cache_txn *txn,
	enum cache_kind kind, mode_t mode, uint64_t ino, bool written,
	struct cache_inode *ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(op->call.req);
	struct fs_mount *m = op->call.m;
	struct cache_dentry dentry;
	struct cache_inode dir;
	int err;

	err = fs_dir_get(txn, op->parent, &dir);
	if (err < 0)
		return err;
	err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	if (err != 0 && err != -ENOENT)
		return err;
	if (fs_name_may_be_stale(op, txn))
		return FS_ASK;
	if (err == 0)
		return -EEXIST;
	err = check_name(op, txn);
	if (err < 0)
		return err;

	memset(ret, 0, sizeof(*ret));
	ret->kind = kind;
	ret->mode = mode & 07777;
	ret->uid = ctx->uid;
	ret->gid = ctx->gid;
	if (dir.mode & S_ISGID) {
		ret->gid = dir.gid;
		if (kind == CACHE_DIR)
			ret->mode |= S_ISGID;
	}
	ret->nlink = kind == CACHE_DIR ? 2 : 1;
	ret->mtime_ns = ret->ctime_ns = ret->atime_ns = ret->btime_ns =
		base_wall_ns(m->env);
	cache_id_new(m->cache, &ret->file);
	if (kind == CACHE_FILE) {
		ret->gen = 1;
		ret->serial = ret->serial_top = FS_FIRST_SERIAL;
		ret->data = CACHE_WHOLE;
		ret->written = written;
	}
	if (kind == CACHE_FILE || kind == CACHE_SYMLINK)
		cache_id_new(m->cache, &ret->content);
	ret->ino = ino;
	err = ino != 0 ? cache_inode_insert(txn, ret)
		       : cache_inode_add(txn, ret);
	if (err == 0)
		err = cache_dentry_add(txn, op->parent, op->name, ret->ino);
	if (err == 0)
		err = fs_dir_changed(m, txn, &dir, kind == CACHE_DIR);
	return err;
}

int fs_tell(struct fs_mount *m, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_inode *inode,
	enum tier_change change, uint64_t displaced)
{
	struct base_str path = BASE_STR_INIT;
	int err = cache_path_join(txn, parent, name, &path);

	if (err == 0)
		err = tier_enter(
			m->tier, txn, path.data, inode, change, displaced);
	base_str_fini(&path);
	return err;
}

int fs_commit(struct fs_mount *m, struct cache_txn *txn, int err)
{
	if (err == FS_ASK) {
		cache_abort(txn);
		return err;
	}
	err = cache_end(txn, err);
	if (err == 0)
		tier_kick(m->tier);
	return err;
}
