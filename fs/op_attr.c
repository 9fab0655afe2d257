/*
 * Attributes: reading them; symlinks' targets; what the file system is like;
 * and what there is not (extended attributes, ioctls).
 */
#include "fs/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fs/handle.h"

struct attr_op {
	struct fs_call call;
	uint64_t ino;
	bool asked;
};

/* The name whose freshness says how old these attributes may be.  False: they
 * are right as they are. */
static bool name_of(struct attr_op *op, struct cache_txn *txn,
	const struct cache_inode *inode, struct cache_dentry *ret)
{
	struct fs_mount *m = op->call.m;

	/* Without a name, or open: another version gets another inode. */
	if (inode->nlink == 0 || inode->ino == CACHE_ROOT_INO ||
		fs_handles_in_use(m->handles, inode->ino))
		return false;
	return cache_dentry_of(txn, inode->ino, ret) == 0;
}

static void reply(
	struct attr_op *op, const struct cache_inode *inode, int64_t fresh_ns)
{
	double timeout = fs_timeout(fresh_ns);
	struct stat st;

	fs_attr_fill(op->call.m, inode, &st, &timeout);
	fuse_reply_attr(op->call.req, &st, timeout);
	fs_call_end(&op->call);
}

static void getattr_run(struct fs_call *call, int err)
{
	struct attr_op *op = (struct attr_op *)call;
	struct fs_mount *m = call->m;
	int64_t fresh_ns = m->opt.freshness_ns, attr_ns;
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_txn *txn;
	bool named = false;

	if (err == 0)
		err = cache_read(m->cache, &txn);
	if (err < 0) {
		fs_call_err(call, err);
		return;
	}
	err = cache_inode_get(txn, op->ino, &inode);
	if (err == 0)
		named = name_of(op, txn, &inode, &dentry);
	if (named)
		fresh_ns = tier_fresh_name_ns(
			m->tier, txn, dentry.parent, dentry.name, true);
	attr_ns = fresh_ns;
	if (err == 0)
		attr_ns = fs_attr_fresh_ns(m, txn, &inode, fresh_ns);
	cache_abort(txn);

	if (err < 0) {
		fs_call_err(call, err == -ENOENT ? -ESTALE : err);
	} else if (named && fresh_ns <= 0 && !op->asked) {
		op->asked = true;
		tier_refresh_name(m->tier, dentry.parent, dentry.name,
			fs_call_arm(call, dentry.parent, getattr_run));
		fs_call_go(call);
	} else {
		reply(op, &inode, attr_ns);
	}
}

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct attr_op *op = fs_call_new(req, sizeof(*op));

	(void)fi;
	op->ino = ino;
	getattr_run(&op->call, 0);
}

static void readlink_run(struct fs_call *call, int err)
{
	struct attr_op *op = (struct attr_op *)call;
	struct base_str target = BASE_STR_INIT;
	struct cache_inode inode;
	struct cache_txn *txn;
	bool missing = false;

	if (err == 0)
		err = cache_read(call->m->cache, &txn);
	if (err < 0) {
		fs_call_err(call, err == -EBADMSG ? -EIO : err);
		return;
	}
	err = cache_inode_get(txn, op->ino, &inode);
	if (err == 0 && inode.kind != CACHE_SYMLINK)
		err = -EINVAL;
	if (err == 0) {
		err = cache_target_get(txn, op->ino, &target);
		missing = err == -ENOENT;
	}
	cache_abort(txn);
	if (missing && !op->asked) {
		op->asked = true;
		tier_fetch_target(call->m->tier, op->ino,
			fs_call_arm(call, op->ino, readlink_run));
		fs_call_go(call);
	} else if (err < 0) {
		fs_call_err(call, err == -ENOENT ? -ESTALE : err);
	} else {
		fuse_reply_readlink(call->req, target.data ? target.data : "");
		fs_call_end(call);
	}
	base_str_fini(&target);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct attr_op *op = fs_call_new(req, sizeof(*op));

	op->ino = ino;
	readlink_run(&op->call, 0);
}

void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct statvfs st;

	(void)ino;
	if (fstatvfs(cache_root_fd(m->cache), &st) < 0) {
		fs_reply_err(req, -errno);
		return;
	}
	st.f_namemax = CACHE_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

/* ---- what there is not ---- */

void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
	const char *value, size_t size, int flags)
{
	(void)ino, (void)name, (void)value, (void)size, (void)flags;
	fs_reply_err(req, -EOPNOTSUPP);
}

/* The first write to each file asks for its capabilities; after ENOSYS the
 * kernel answers EOPNOTSUPP to all by itself. */
void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)name, (void)size;
	fs_reply_err(req, -ENOSYS);
}

void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino, (void)size;
	fs_reply_err(req, -EOPNOTSUPP);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino, (void)name;
	fs_reply_err(req, -EOPNOTSUPP);
}

void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
	struct fuse_file_info *fi, unsigned flags, const void *in_buf,
	size_t in_bytes, size_t out_bytes)
{
	(void)ino, (void)cmd, (void)arg, (void)fi, (void)flags, (void)in_buf;
	(void)in_bytes, (void)out_bytes;
	fs_reply_err(req, -ENOTTY);
}
