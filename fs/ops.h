/*
 * The handlers of the kernel's requests.
 *
 * What it is for.  `fs_ops` is what libfuse calls; userdata is the struct
 * fs_mount.  Each handler decodes, makes what it needs current, makes one
 * transaction, and replies once.
 *
 * Threads and locks.  Handlers run on the session's threads, any number at
 * once.  They do index work and open data files there and then; what waits for
 * the disk or the store goes on later (fs/reply.h).
 *
 * Ownership.  See fs/reply.h.
 *
 * Errors.  What POSIX says; -ESTALE where the kernel should look again.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "base/str.h"
#include "fs/mount.h"
#include "fs/reply.h"

extern const struct fuse_lowlevel_ops fs_ops;

/* ---- changes of names (name.c) ---- */

/* Of what runs inside a write transaction: nothing was done, because the name
 * may not be current; the transaction is given up, and fs_name_op_ask() runs it
 * again. */
#define FS_ASK 1

/* A request about one name, and the step that does it. */
struct fs_name_op {
	struct fs_call call;
	uint64_t parent;
	char name[CACHE_NAME_MAX + 1];
	fs_step_fn run;
	bool asked; /* the store, about this name; or it need not be */
};

/* NULL: replied already (the name is too long). */
void *fs_name_op_new(fuse_req_t req, size_t bytes, fuse_ino_t parent,
	const char *name, fs_step_fn run);
/* `run`; or replies, if this was done before. */
void fs_name_op_start(struct fs_name_op *op);
/* Asks the store about the name if that is needed, then `run`. */
void fs_name_op_ask(struct fs_name_op *op);
/* Asks the store in any case, then `run`. */
void fs_name_op_refresh(struct fs_name_op *op);
/* Must the store be asked about the name?  Inside a read transaction; and with
 * less to go by, inside any. */
bool fs_name_is_stale(struct fs_name_op *op, struct cache_txn *txn);
bool fs_name_may_be_stale(struct fs_name_op *op, struct cache_txn *txn);

/* Inside a write transaction.  A directory that has a name; -ESTALE there is
 * no such inode, -ENOTDIR, -ENOENT it was removed. */
int fs_dir_get(struct cache_txn *txn, uint64_t ino, struct cache_inode *ret);
/* A name came, went or changed in this directory; subdirs: so many more
 * directories are in it. */
int fs_dir_changed(struct fs_mount *m, struct cache_txn *txn,
	struct cache_inode *dir, int subdirs);
/* An inode lost one name: held, if it was the last. */
int fs_unname(
	struct fs_mount *m, struct cache_txn *txn, struct cache_inode *inode);
/* Of a new file's data file. */
#define FS_FIRST_SERIAL 1
/* Fills in and adds an inode and its name; checks what POSIX wants.  FS_ASK if
 * the name is not current.  `ino`: its number, if it has one already. */
int fs_make_node(struct fs_name_op *op, struct cache_txn *txn,
	enum cache_kind kind, mode_t mode, uint64_t ino, bool written,
	struct cache_inode *ret);
/* The journal is told that NAME in PARENT holds `inode` (NULL: nothing). */
int fs_tell(struct fs_mount *m, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_inode *inode,
	enum tier_change change, uint64_t displaced);
/* Ends a write transaction either way; after a commit the line is kicked. */
int fs_commit(struct fs_mount *m, struct cache_txn *txn, int err);

/* ---- requests ---- */

/* op_lookup.c */
void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_forget_multi(
	fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
/* The kernel does not know this node any more. */
void fs_forget_inode(struct fs_mount *m, uint64_t ino);

/* op_name.c, op_rename.c */
void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
	const char *name);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_link(
	fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	fuse_ino_t new_parent, const char *new_name, unsigned flags);

/* For the control socket: as a user's own unlink and rename, in one
 * transaction; the caller has made the names current, and tells the kernel. */
int fs_unlink_name(struct fs_mount *m, uint64_t parent, const char *name);
int fs_rename_name(struct fs_mount *m, uint64_t parent, const char *name,
	uint64_t new_parent, const char *new_name);

/* op_attr.c, op_setattr.c */
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
	struct fuse_file_info *fi);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);
void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
	const char *value, size_t size, int flags);
void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
	struct fuse_file_info *fi, unsigned flags, const void *in_buf,
	size_t in_bytes, size_t out_bytes);

/* op_open.c */
void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	struct fuse_file_info *fi);

/* op_file.c */
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi);
void fs_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *buf,
	off_t off, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
	off_t length, struct fuse_file_info *fi);
void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	struct fuse_file_info *fi);

/* op_dir.c */
void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi);
void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi);
void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
	struct fuse_file_info *fi);

#endif
