/* The table of handlers, and what is agreed with the kernel at INIT. */
#include "fs/ops.h"

#include <linux/fuse.h>

#include "base/log.h"
#include "fs/link.h"

/* One request is at most this long; more gains nothing measurable. */
#define WRITE_BYTES (1 << 20)
/* Read-ahead and asynchronous requests in flight: 16 streams of 8. */
#define BACKGROUND_MAX 128

static void want(struct fuse_conn_info *conn, uint64_t flag)
{
	if (conn->capable_ext & flag)
		fuse_set_feature_flag(conn, flag);
}

static bool may_pass(struct fs_mount *m, const struct fuse_conn_info *conn)
{
	const char *why;

	/* A worker that only takes over has what was agreed. */
	if (m->link->mount.reply_bytes != 0)
		return conn->capable_ext & FUSE_CAP_PASSTHROUGH;
	if (!(conn->capable_ext & FUSE_CAP_PASSTHROUGH))
		why = "this kernel has no FUSE passthrough (Linux 6.9)";
	else if (cache_data_stacked(m->cache))
		why = "the cache is on a stacked file system (overlayfs), "
		      "which the kernel cannot pass through to";
	else if (!cache_data_leases(m->cache))
		why = "the cache's file system has no leases, without which "
		      "mappings cannot be seen";
	else
		return true;
	log_warn("%s: files are served, which is slower", why);
	return false;
}

/* Agrees with the kernel on what both can; clears m->passthrough if it is not
 * among it. */
static void init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs_mount *m = userdata;
	const struct fs_link_mount *mount = &m->link->mount;
	const struct fuse_init_out *agreed =
		(const void *)(mount->reply + sizeof(struct fuse_out_header));

	want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
	want(conn, FUSE_CAP_EXPORT_SUPPORT);
	want(conn, FUSE_CAP_ASYNC_READ);
	want(conn, FUSE_CAP_ASYNC_DIO);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_SPLICE_WRITE);
	want(conn, FUSE_CAP_SPLICE_MOVE);
	want(conn, FUSE_CAP_EXPIRE_ONLY);
	want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
	/* Without it each write costs a GETXATTR. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
	/* Pages of served files go when the content is another (keep_cache,
	 * notifications), not whenever mtime moves. */
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA);
	fuse_unset_feature_flag(conn, FUSE_CAP_AUTO_INVAL_DATA);
	/* Splicing requests in would slow all that are not writes. */
	fuse_unset_feature_flag(conn, FUSE_CAP_SPLICE_READ);
	/* With it the kernel refuses passthrough. */
	fuse_unset_feature_flag(conn, FUSE_CAP_WRITEBACK_CACHE);
	/* The kernel's own locks are right on one host and survive us. */
	fuse_unset_feature_flag(conn, FUSE_CAP_POSIX_LOCKS);
	fuse_unset_feature_flag(conn, FUSE_CAP_FLOCK_LOCKS);

	if (m->passthrough && !may_pass(m, conn))
		m->passthrough = false;
	if (m->passthrough)
		fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
	if (mount->reply_bytes != 0) {
		conn->max_write = agreed->max_write;
		conn->max_background = agreed->max_background;
		conn->congestion_threshold = agreed->congestion_threshold;
	} else {
		if (conn->max_write > WRITE_BYTES)
			conn->max_write = WRITE_BYTES;
		conn->max_background = BACKGROUND_MAX;
		conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	}
	conn->time_gran = 1;
}

/*
 * Not here, on purpose: access (default_permissions), getlk, setlk and flock
 * (the kernel's own are right), copy_file_range, tmpfile, poll and bmap (for
 * these the kernel does the right thing itself when told ENOSYS, once, and no
 * user sees it).
 */
const struct fuse_lowlevel_ops fs_ops = {
	.init = init,
	.lookup = fs_lookup,
	.forget = fs_forget,
	.forget_multi = fs_forget_multi,
	.getattr = fs_getattr,
	.setattr = fs_setattr,
	.readlink = fs_readlink,
	.mknod = fs_mknod,
	.mkdir = fs_mkdir,
	.unlink = fs_unlink,
	.rmdir = fs_rmdir,
	.symlink = fs_symlink,
	.rename = fs_rename,
	.link = fs_link,
	.open = fs_open,
	.create = fs_create,
	.read = fs_read,
	.write_buf = fs_write_buf,
	.flush = fs_flush,
	.release = fs_release,
	.fsync = fs_fsync,
	.fallocate = fs_fallocate,
	.lseek = fs_lseek,
	.opendir = fs_opendir,
	.readdir = fs_readdir,
	.readdirplus = fs_readdirplus,
	.releasedir = fs_releasedir,
	.fsyncdir = fs_fsyncdir,
	.statfs = fs_statfs,
	.setxattr = fs_setxattr,
	.getxattr = fs_getxattr,
	.listxattr = fs_listxattr,
	.removexattr = fs_removexattr,
	.ioctl = fs_ioctl,
};
