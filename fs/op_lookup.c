/*
 * lookup and forget: what the kernel knows, and does not know any more.
 */
#include "fs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handle.h"
#include "fs/handle_priv.h"

static int find(
	struct fs_name_op *op, struct cache_txn *txn, struct cache_inode *ret)
{
	struct cache_dentry dentry;
	int err;

	if (strcmp(op->name, ".") == 0)
		return cache_inode_get(txn, op->parent, ret);
	if (strcmp(op->name, "..") == 0) {
		if (op->parent == CACHE_ROOT_INO)
			return cache_inode_get(txn, op->parent, ret);
		err = cache_dentry_of(txn, op->parent, &dentry);
		return err < 0 ? err : cache_inode_get(txn, dentry.parent, ret);
	}
	err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	return err < 0 ? err : cache_inode_get(txn, dentry.ino, ret);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void reply_negative(struct fs_name_op *op, int64_t fresh_ns)
{
	struct fuse_entry_param none = { 0 };

	none.entry_timeout = fs_timeout(fresh_ns);
	if (none.entry_timeout > 0)
		fuse_reply_entry(op->call.req, &none);
	else
		fs_reply_err(op->call.req, -ENOENT);
}

static void lookup_run(struct fs_call *call, int err)
{
	struct fs_name_op *op = (struct fs_name_op *)call;
	struct fs_mount *m = call->m;
	struct cache_inode inode;
	struct cache_txn *txn;
	int64_t fresh_ns = 0, attr_ns = 0;

	err = cache_read(m->cache, &txn);
	if (err < 0) {
		fs_call_err(call, err);
		return;
	}
	err = find(op, txn, &inode);
	if (is_dots(op->name)) {
		fresh_ns = err == 0; /* never sent to the store as a name */
		err = err == -ENOENT ? -ESTALE : err;
	} else if (err == 0 || err == -ENOENT) {
		fresh_ns = tier_fresh_name_ns(
			m->tier, txn, op->parent, op->name, err == 0);
	}
	if (err == 0)
		attr_ns = fs_attr_fresh_ns(m, txn, &inode, fresh_ns);
	cache_abort(txn);

	if (err < 0 && err != -ENOENT) {
		fs_call_err(call, err);
		return;
	}
	if (fresh_ns <= 0 && !op->asked) {
		fs_name_op_refresh(op);
		return;
	}
	if (err == 0)
		fs_reply_entry(call->req, &inode, fresh_ns, attr_ns);
	else
		reply_negative(op, fresh_ns);
	fs_call_end(call);
}

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_name_op *op =
		fs_name_op_new(req, sizeof(*op), parent, name, lookup_run);

	if (op != NULL)
		lookup_run(&op->call, 0);
}

void fs_drop_held(struct fs_mount *m, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	bool gone = false;
	int err;

	if (cache_write(m->cache, &txn) < 0)
		return;
	err = cache_inode_get(txn, ino, &inode);
	if (err == 0 && inode.nlink == 0)
		err = cache_held_put(
			txn, ino, fs_handles_in_use(m->handles, ino), &gone);
	if (err < 0 || !gone)
		cache_abort(txn);
	else
		cache_commit(txn);
}

/* Numbers are rows of the table: only those without a name need work. */
static void forget(struct fs_mount *m, const struct fuse_forget_data *forgets,
	size_t count)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	uint64_t *nameless = NULL;
	size_t nr = 0;

	if (cache_read(m->cache, &txn) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (cache_inode_get(txn, forgets[i].ino, &inode) < 0 ||
			inode.nlink != 0)
			continue;
		if (nameless == NULL)
			nameless = base_malloc(count * sizeof(*nameless));
		nameless[nr++] = inode.ino;
	}
	cache_abort(txn);
	for (size_t i = 0; i < nr; i++) {
		if (fs_handles_forget(m->handles, nameless[i]))
			fs_drop_held(m, nameless[i]);
	}
	free(nameless);
}

void fs_forget_inode(struct fs_mount *m, uint64_t ino)
{
	struct fuse_forget_data one = { .ino = ino, .nlookup = 1 };

	forget(m, &one, 1);
}

void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)nlookup;
	fs_forget_inode(fs_mount_of(req), ino);
	fuse_reply_none(req);
}

void fs_forget_multi(
	fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	forget(fs_mount_of(req), forgets, count);
	fuse_reply_none(req);
}
