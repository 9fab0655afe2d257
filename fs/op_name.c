/*
 * Requests about one name: lookup, mkdir, symlink, unlink, rmdir, and what
 * they share with create and rename.
 *
 * A change first makes the name current (another host may have made or removed
 * it), then checks and does everything in one transaction.
 */
#include "fs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/handle.h"
#include "fs/handle_priv.h"

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

static void refresh(struct fs_name_op *op)
{
	tier_refresh_name(op->call.m->tier, op->parent, op->name,
		fs_call_arm(&op->call, op->parent, refreshed));
	fs_call_go(&op->call);
}

void fs_name_op_start(struct fs_name_op *op)
{
	struct fs_mount *m = op->call.m;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	int64_t fresh_ns = 0;
	uint64_t ino;
	int err;

	if (fs_request_replied(op->call.req, &ino)) {
		fs_reply_again(op->call.req, ino);
		fs_call_end(&op->call);
		return;
	}
	err = m->opt.ro ? -EROFS : cache_read(m->cache, &txn);
	if (err < 0) {
		fs_call_err(&op->call, err);
		return;
	}
	err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	if (err == 0 || err == -ENOENT)
		fresh_ns = tier_fresh_name_ns(
			m->tier, txn, op->parent, op->name, err == 0);
	cache_abort(txn);
	if (err < 0 && err != -ENOENT)
		fs_call_err(&op->call, err);
	else if (fresh_ns <= 0)
		refresh(op);
	else
		op->run(&op->call, 0);
}

/* ---- inside the transaction ---- */

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
	enum cache_kind kind, mode_t mode, struct cache_inode *ret)
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
	if (err != -ENOENT)
		return err == 0 ? -EEXIST : err;
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
		ret->serial = ret->serial_top = 1;
		ret->data = CACHE_WHOLE;
	}
	if (kind == CACHE_FILE || kind == CACHE_SYMLINK)
		cache_id_new(m->cache, &ret->content);
	err = cache_inode_add(txn, ret);
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
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	err = cache_commit(txn);
	if (err == 0)
		tier_kick(m->tier);
	return err;
}

/* ---- lookup and forget ---- */

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
		refresh(op);
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
		op->mode, ret);
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

	err = fs_dir_get(txn, op->parent, &parent);
	if (err == 0)
		err = cache_dentry_get(txn, op->parent, op->name, &dentry);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &inode);
	if (err < 0)
		return err;
	if (dir != (inode.kind == CACHE_DIR))
		return dir ? -ENOTDIR : -EISDIR;
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
	fs_call_err(call, err);
}

int fs_unlink_name(struct fs_mount *m, uint64_t parent, const char *name)
{
	struct fs_name_op op = { .call.m = m, .parent = parent };
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

	err = cache_read(m->cache, &txn);
	if (err == 0) {
		err = cache_dentry_get(txn, op->parent, op->name, &dentry);
		if (err == 0)
			fresh_ns = tier_fresh_dir_ns(m->tier, txn, dentry.ino);
		cache_abort(txn);
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
