/*
 * rename(2), in all its forms.
 *
 * Before the transaction both names are made current, and of a directory the
 * whole subtree (the store must be told of every blob in it, and half a
 * directory must never show).  Then one transaction moves the name and tells
 * the journal.
 */
#include "fs/ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/written.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#endif

struct rename_op {
	struct fs_name_op name; /* the old one */
	uint64_t new_parent;
	char new_name[CACHE_NAME_MAX + 1];
	unsigned flags;
	bool asked_new, asked_tree, asked_dir;
};

/* What the transaction works on. */
struct move {
	struct cache_inode old_dir, new_dir; /* the same one: old_dir only */
	struct cache_inode inode, target;
	bool same_dir, exists;
};

static int get_both(
	struct rename_op *op, struct cache_txn *txn, struct move *mv)
{
	struct cache_dentry dentry;
	int err;

	mv->same_dir = op->name.parent == op->new_parent;
	err = fs_dir_get(txn, op->name.parent, &mv->old_dir);
	if (err == 0 && !mv->same_dir)
		err = fs_dir_get(txn, op->new_parent, &mv->new_dir);
	if (err == 0)
		err = cache_dentry_get(
			txn, op->name.parent, op->name.name, &dentry);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &mv->inode);
	if (err < 0)
		return err;
	err = cache_dentry_get(txn, op->new_parent, op->new_name, &dentry);
	mv->exists = err == 0;
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &mv->target);
	return err == -ENOENT && !mv->exists ? 0 : err;
}

static int check(struct rename_op *op, struct cache_txn *txn, struct move *mv)
{
	bool dir = mv->inode.kind == CACHE_DIR;
	bool target_dir = mv->exists && mv->target.kind == CACHE_DIR;
	bool below = false, empty = true;
	int err = 0;

	if (mv->exists && (op->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!mv->exists && (op->flags & RENAME_EXCHANGE))
		return -ENOENT;
	/* A rename is a copy, and a replacement a write. */
	if (mv->inode.access != CACHE_ACCESS_ALL ||
		(mv->exists && mv->target.access != CACHE_ACCESS_ALL))
		return -EPERM;
	if (dir)
		err = cache_is_below(
			txn, op->new_parent, mv->inode.ino, &below);
	if (err < 0 || below)
		return err < 0 ? err : -EINVAL;
	if (op->flags & RENAME_EXCHANGE)
		/* Two trees of blobs cannot change places. */
		return dir || target_dir ? -EINVAL : 0;
	if (mv->exists && dir != target_dir)
		return dir ? -ENOTDIR : -EISDIR;
	if (target_dir)
		err = cache_dir_is_empty(txn, mv->target.ino, &empty);
	return err < 0 ? err : empty ? 0 : -ENOTEMPTY;
}

/* A file that is being written goes along as it is now. */
static int catch_up(
	struct fs_mount *m, struct cache_txn *txn, struct cache_inode *inode)
{
	struct cache_stamp now;
	uint64_t allocated;
	int err, fd;

	if (inode->kind != CACHE_FILE || !inode->written)
		return 0;
	err = cache_data_stat(
		m->cache, inode->ino, inode->serial, &now, &allocated);
	if (err < 0 || fs_stamp_eq(&now, &inode->stamp))
		return err;
	fd = cache_data_open(m->cache, inode->ino, inode->serial, O_RDONLY);
	if (fd < 0)
		return fd;
	err = fs_written_note(m->handles, inode, fd);
	close(fd);
	if (err == 0)
		err = cache_inode_put(txn, inode);
	return err;
}

static int tell(struct rename_op *op, struct cache_txn *txn, struct move *mv,
	const char *old_path, const char *new_path)
{
	struct fs_mount *m = op->name.call.m;
	uint64_t displaced = mv->exists ? mv->target.ino : 0;
	int err = 0;

	/* A name that is there already may be held as it is. */
	if (!mv->exists)
		err = tier_name_check(m->tier, new_path);
	if (err < 0)
		return err;
	if (op->flags & RENAME_EXCHANGE) {
		err = tier_enter(m->tier, txn, new_path, &mv->inode,
			TIER_RENAME, mv->target.ino);
		return err < 0 ? err
			       : tier_enter(m->tier, txn, old_path, &mv->target,
					 TIER_RENAME, mv->inode.ino);
	}
	if (mv->inode.kind == CACHE_DIR)
		return tier_enter_rename_dir(m->tier, txn, old_path, new_path,
			&mv->inode, displaced);
	return tier_enter_rename(
		m->tier, txn, old_path, new_path, &mv->inode, displaced);
}

static int move_names(
	struct rename_op *op, struct cache_txn *txn, struct move *mv)
{
	int err;

	if (op->flags & RENAME_EXCHANGE) {
		err = cache_dentry_set(
			txn, op->name.parent, op->name.name, mv->target.ino);
		return err < 0 ? err
			       : cache_dentry_set(txn, op->new_parent,
					 op->new_name, mv->inode.ino);
	}
	err = cache_dentry_del(txn, op->name.parent, op->name.name);
	if (err < 0)
		return err;
	return mv->exists ? cache_dentry_set(txn, op->new_parent, op->new_name,
				    mv->inode.ino)
			  : cache_dentry_add(txn, op->new_parent, op->new_name,
				    mv->inode.ino);
}

static int touch_inodes(
	struct rename_op *op, struct cache_txn *txn, struct move *mv)
{
	struct fs_mount *m = op->name.call.m;
	bool dir = mv->inode.kind == CACHE_DIR;
	bool replaced = mv->exists && !(op->flags & RENAME_EXCHANGE);
	int gone = replaced && mv->target.kind == CACHE_DIR;
	int err;

	mv->inode.ctime_ns = base_wall_ns(m->env);
	err = cache_inode_put(txn, &mv->inode);
	if (err == 0 && mv->exists && !replaced) {
		mv->target.ctime_ns = mv->inode.ctime_ns;
		err = cache_inode_put(txn, &mv->target);
	}
	if (err == 0 && replaced)
		err = fs_unname(m, txn, &mv->target);
	if (err == 0)
		err = fs_dir_changed(
			m, txn, &mv->old_dir, mv->same_dir ? -gone : -(int)dir);
	if (err == 0 && !mv->same_dir)
		err = fs_dir_changed(m, txn, &mv->new_dir, dir - gone);
	return err;
}

static int rename_in(
	struct rename_op *op, struct cache_txn *txn, uint64_t *ret_nameless)
{
	struct base_str old_path = BASE_STR_INIT, new_path = BASE_STR_INIT;
	struct move mv;
	int err;

	err = get_both(op, txn, &mv);
	if (err < 0)
		return err;
	if (mv.exists && mv.inode.ino == mv.target.ino)
		return op->flags & RENAME_NOREPLACE ? -EEXIST : 0;
	err = check(op, txn, &mv);
	if (err == 0)
		err = cache_path_join(
			txn, op->name.parent, op->name.name, &old_path);
	if (err == 0)
		err = cache_path_join(
			txn, op->new_parent, op->new_name, &new_path);
	if (err == 0)
		err = catch_up(op->name.call.m, txn, &mv.inode);
	if (err == 0)
		err = move_names(op, txn, &mv);
	if (err == 0)
		err = touch_inodes(op, txn, &mv);
	if (err == 0)
		err = tell(op, txn, &mv, old_path.data, new_path.data);
	if (err == 0)
		err = fs_call_done(&op->name.call, txn, 0);
	if (mv.exists && mv.target.nlink == 0)
		*ret_nameless = mv.target.ino;
	base_str_fini(&old_path);
	base_str_fini(&new_path);
	return err;
}

static int rename_txn(struct rename_op *op)
{
	struct fs_mount *m = op->name.call.m;
	struct cache_txn *txn;
	uint64_t nameless = 0;
	int err = cache_write(m->cache, &txn);

	if (err == 0)
		err = fs_commit(m, txn, rename_in(op, txn, &nameless));
	if (err < 0 && nameless != 0)
		fs_handles_nameless(m->handles, nameless, false);
	return err;
}

int fs_rename_name(struct fs_mount *m, uint64_t parent, const char *name,
	uint64_t new_parent, const char *new_name)
{
	struct rename_op op = { .name.call.m = m,
		.name.parent = parent,
		.new_parent = new_parent };

	memcpy(op.name.name, name, strlen(name) + 1);
	memcpy(op.new_name, new_name, strlen(new_name) + 1);
	return rename_txn(&op);
}

/* ---- a new state is durable before it replaces an older one ---- */

/* Are its bytes not known to be durable? */
static bool is_fresh(const struct cache_inode *inode)
{
	return inode->kind == CACHE_FILE && inode->data == CACHE_WHOLE &&
		(inode->written ||
			(!inode->stored && inode->gen != inode->synced_gen));
}

/* As other file systems do it: after a power cut the name has the old state or
 * the new one, whole, also if nobody called fsync. */
static void rename_replace(struct fs_call *call, int err)
{
	struct rename_op *op = (struct rename_op *)call;
	struct fs_handles *h = call->m->handles;
	struct cache_txn *txn;
	struct move mv = { 0 };

	err = cache_read(call->m->cache, &txn);
	if (err == 0) {
		err = get_both(op, txn, &mv);
		cache_abort(txn);
	}
	if (err == 0 && is_fresh(&mv.inode))
		err = fs_written_sync(h, mv.inode.ino);
	if (err == 0 && (op->flags & RENAME_EXCHANGE) && is_fresh(&mv.target))
		err = fs_written_sync(h, mv.target.ino);
	if (err < 0)
		fs_call_err(call, err);
	else
		fs_call_err(call, rename_txn(op));
}

static bool must_sync(const struct rename_op *op, const struct move *mv)
{
	return mv->exists &&
		(is_fresh(&mv->inode) ||
			((op->flags & RENAME_EXCHANGE) &&
				is_fresh(&mv->target)));
}

/* ---- what must be known before ---- */

enum need {
	NEED_NOTHING,
	NEED_NAME, /* what is under the new name */
	NEED_TREE, /* everything below the directory that moves */
	NEED_DIR,  /* whether the directory that goes is empty */
	NEED_SYNC, /* that the new state is durable */
};

static int find_need(struct rename_op *op, struct cache_txn *txn,
	enum need *ret, uint64_t *ret_ino)
{
	struct fs_mount *m = op->name.call.m;
	struct move mv;
	int err = get_both(op, txn, &mv);

	*ret = NEED_NOTHING;
	if (err < 0)
		return err;
	if (!op->asked_new &&
		tier_fresh_name_ns(m->tier, txn, op->new_parent, op->new_name,
			mv.exists) <= 0) {
		*ret = NEED_NAME;
		*ret_ino = op->new_parent;
	} else if (!op->asked_tree && mv.inode.kind == CACHE_DIR &&
		!tier_tree_known(m->tier, txn, mv.inode.ino)) {
		*ret = NEED_TREE;
		*ret_ino = mv.inode.ino;
	} else if (!op->asked_dir && mv.exists && mv.target.kind == CACHE_DIR &&
		tier_fresh_dir_ns(m->tier, txn, mv.target.ino) <= 0) {
		*ret = NEED_DIR;
		*ret_ino = mv.target.ino;
	} else if (must_sync(op, &mv)) {
		*ret = NEED_SYNC;
	}
	return 0;
}

static void rename_run(struct fs_call *call, int err)
{
	struct rename_op *op = (struct rename_op *)call;
	struct fs_mount *m = call->m;
	struct tier_call *tier_call;
	struct cache_txn *txn;
	enum need need = NEED_NOTHING;
	uint64_t ino = 0;
	bool ask = false;

	if (err == 0)
		err = cache_read(m->cache, &txn);
	if (err == 0) {
		ask = fs_name_is_stale(&op->name, txn);
		if (!ask)
			err = find_need(op, txn, &need, &ino);
		cache_abort(txn);
	}
	if (err < 0 || ask) {
		if (err < 0)
			fs_call_err(call, err);
		else
			fs_name_op_refresh(&op->name);
		return;
	}
	if (need == NEED_NOTHING) {
		fs_call_err(call, rename_txn(op));
		return;
	}
	if (need == NEED_SYNC) {
		fs_call_post(call, rename_replace);
		return;
	}
	tier_call = fs_call_arm(call, ino, rename_run);
	if (need == NEED_NAME) {
		op->asked_new = true;
		tier_refresh_name(
			m->tier, op->new_parent, op->new_name, tier_call);
	} else if (need == NEED_TREE) {
		op->asked_tree = true;
		tier_refresh_tree(m->tier, ino, tier_call);
	} else {
		op->asked_dir = true;
		tier_refresh_dir(m->tier, ino, tier_call);
	}
	fs_call_go(call);
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
	size_t len = strlen(new_name);
	struct rename_op *op;

	if (len > CACHE_NAME_MAX) {
		fs_reply_err(req, -ENAMETOOLONG);
		return;
	}
	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
		fs_reply_err(req, -EINVAL);
		return;
	}
	op = fs_name_op_new(req, sizeof(*op), parent, name, rename_run);
	if (op == NULL)
		return;
	op->new_parent = new_parent;
	memcpy(op->new_name, new_name, len + 1);
	op->flags = flags;
	fs_name_op_start(&op->name);
}
