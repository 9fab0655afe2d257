/*
 * Requests that make or take away one name: mkdir, symlink, unlink, rmdir.
 */
#include "fs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/handle.h"

/* ---- mkdir and symlink ---- */

struct make_op {
	struct fs_name_op name;
	mode_t mode;
	char *target; /* of a symlink */
};

static void make_fini(struct fs_call *call)
{
	free(((struct make_op *)call)->target);
}

/* Whoever makes a directory knows all that is in it: it can be worked in also
 * when the store is away. */
static int know_empty(struct fs_mount *m, struct cache_txn *txn,
	const struct cache_inode *dir)
{
	struct cache_listing listing = { .listed_ns = base_boot_ns(m->env),
		.complete = true };

	return cache_listing_set(txn, dir->ino, &listing);
}

static int make_in(
	struct make_op *op, struct cache_txn *txn, struct cache_inode *ret)
{
	struct fs_mount *m = op->name.call.m;
	bool link = op->target != NULL;
	int err;

	err = fs_make_node(&op->name, txn, link ? CACHE_SYMLINK : CACHE_DIR,
		op->mode, 0, false, ret);
	if (err == 0 && link) {
		ret->size_bytes = strlen(op->target);
		err = cache_target_set(txn, ret->ino, op->target);
		if (err == 0)
			err = cache_inode_put(txn, ret);
	}
	if (err == 0 && !link)
		err = know_empty(m, txn, ret);
	if (err == 0)
		err = fs_tell(m, txn, op->name.parent, op->name.name, ret,
			link ? TIER_SYMLINK : TIER_NEW, 0);
	if (err == 0)
		err = fs_call_done(&op->name.call, txn, ret->ino);
	return err;
}

static void make_run(struct fs_call *call, int err)
{
	struct make_op *op = (struct make_op *)call;
	struct fs_mount *m = call->m;
	struct cache_inode inode;
	struct cache_txn *txn;

	err = cache_write(m->cache, &txn);
	if (err == 0)
		err = fs_commit(m, txn, make_in(op, txn, &inode));
	if (err == FS_ASK) {
		fs_name_op_ask(&op->name);
		return;
	}
	if (err < 0)
		fs_reply_err(call->req, err);
	else
		fs_reply_entry(call->req, &inode, m->opt.freshness_ns,
			m->opt.freshness_ns);
	fs_call_end(call);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct make_op *op =
		fs_name_op_new(req, sizeof(*op), parent, name, make_run);

	if (op == NULL)
		return;
	op->mode = mode;
	fs_name_op_start(&op->name);
}

void fs_symlink(
	fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct make_op *op;

	if (strlen(target) >= CACHE_PATH_MAX) {
		fs_reply_err(req, -ENAMETOOLONG);
		return;
	}
	op = fs_name_op_new(req, sizeof(*op), parent, name, make_run);
	if (op == NULL)
		return;
	op->mode = 0777;
	op->target = base_strdup(target);
	op->name.call.fini = make_fini;
	fs_name_op_start(&op->name);
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	dev_t rdev)
{
	(void)parent, (void)name, (void)mode, (void)rdev;
	fs_reply_err(req, -EPERM);
}

void fs_link(
	fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	(void)ino, (void)parent, (void)name;
	fs_reply_err(req, -EPERM);
}

/* ---- unlink and rmdir ---- */

static int unlink_in(struct fs_name_op *op, struct cache_txn *txn, bool dir,
	uint64_t *ret_nameless)
{
	struct fs_mount *m = op->call.m;
	struct cache_inode parent, inode;
	struct cache_dentry dentry;
	bool empty = true;
	int err;

	if (fs_name_may_be_stale(op, txn))
		return FS_ASK;
	err = fs_dir_get(txn, op->parent, &parent);
	if (err == 0)
		err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &inode);
	if (err < 0)
		return err;
	if (dir != (inode.kind == CACHE_DIR))
		return dir ? -ENOTDIR : -EISDIR;
	if (inode.access == CACHE_ACCESS_POLICY)
		return -EPERM;
	if (dir)
		err = cache_dir_is_empty(txn, inode.ino, &empty);
	if (err < 0 || !empty)
		return err < 0 ? err : -ENOTEMPTY;

	err = cache_dentry_del(txn, op->parent, op->name);
	if (err == 0)
		err = fs_dir_changed(m, txn, &parent, dir ? -1 : 0);
	if (err == 0)
		err = fs_unname(m, txn, &inode);
	if (err == 0)
		err = fs_tell(m, txn, op->parent, op->name, NULL, TIER_DELETE,
			inode.ino);
	if (err == 0)
		err = fs_call_done(&op->call, txn, 0);
	*ret_nameless = inode.nlink == 0 ? inode.ino : 0;
	return err;
}

static void unlink_txn(struct fs_call *call, bool dir)
{
	struct fs_name_op *op = (struct fs_name_op *)call;
	struct cache_txn *txn;
	uint64_t nameless = 0;
	int err = cache_write(call->m->cache, &txn);

	if (err == 0)
		err = fs_commit(
			call->m, txn, unlink_in(op, txn, dir, &nameless));
	if (err < 0 && nameless != 0)
		fs_handles_nameless(call->m->handles, nameless, false);
	if (err == FS_ASK)
		fs_name_op_ask(op);
	else
		fs_call_err(call, err);
}

int fs_unlink_name(struct fs_mount *m, uint64_t parent, const char *name)
{
	struct fs_name_op op = { .call.m = m, .parent = parent, .asked = true };
	struct cache_txn *txn;
	uint64_t nameless = 0;
	int err;

	memcpy(op.name, name, strlen(name) + 1);
	err = cache_write(m->cache, &txn);
	if (err == 0)
		err = fs_commit(m, txn, unlink_in(&op, txn, false, &nameless));
	if (err < 0 && nameless != 0)
		fs_handles_nameless(m->handles, nameless, false);
	return err;
}

static void unlink_run(struct fs_call *call, int err)
{
	(void)err;
	unlink_txn(call, false);
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_name_op *op =
		fs_name_op_new(req, sizeof(*op), parent, name, unlink_run);

	if (op != NULL)
		fs_name_op_start(op);
}

static void rmdir_listed(struct fs_call *call, int err)
{
	if (err < 0)
		fs_call_err(call, err);
	else
		unlink_txn(call, true);
}

/* Only a directory whose listing is current is known to be empty. */
static void rmdir_run(struct fs_call *call, int err)
{
	struct fs_name_op *op = (struct fs_name_op *)call;
	struct fs_mount *m = call->m;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	int64_t fresh_ns = 1;
	bool ask = false;

	err = cache_read(m->cache, &txn);
	if (err == 0) {
		ask = fs_name_is_stale(op, txn);
		err = cache_dentry_get(txn, op->parent, op->name, &dentry);
		if (err == 0)
			fresh_ns = tier_fresh_dir_ns(m->tier, txn, dentry.ino);
		cache_abort(txn);
	}
	if (ask) {
		fs_name_op_refresh(op);
		return;
	}
	if (err < 0) {
		fs_call_err(call, err);
		return;
	}
	if (fresh_ns > 0) {
		unlink_txn(call, true);
		return;
	}
	tier_refresh_dir(m->tier, dentry.ino,
		fs_call_arm(call, dentry.ino, rmdir_listed));
	fs_call_go(call);
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_name_op *op =
		fs_name_op_new(req, sizeof(*op), parent, name, rmdir_run);

	if (op != NULL)
		fs_name_op_start(op);
}
