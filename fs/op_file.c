/*
 * Bytes that come through the daemon: reads and writes of served inodes,
 * writes that must be able to wait for room, fallocate and lseek.
 */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/op_open.h"
#include "fs/signals.h"
#include "fs/written.h"

/* How close to the end of what is local a stream gets before tier/ hears of
 * it, so that it reads on while we answer. */
#define NEAR_EDGE_BYTES (8ull << 20)
/* A write that waits for room asks again this often. */
#define ROOM_RETRY_NS (100 * 1000000ll)

/* ---- read ---- */

struct read_op {
	struct fs_call call;
	struct fs_file *f;
	uint64_t ino, serial, start, end;
};

static void reply_range(fuse_req_t req, int fd, uint64_t start, uint64_t end)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(end - start);

	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = (off_t)start;
	fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}

static void read_fetched(struct fs_call *call, int err)
{
	struct read_op *op = (struct read_op *)call;
	struct fs_handles *h = call->m->handles;
	int fd = err == -ESTALE ? -EIO : err; /* the bytes are gone */

	if (err == 0)
		fd = fs_file_fd(h, op->f, op->serial, false);
	if (fd < 0)
		fs_reply_err(call->req, fd);
	else
		reply_range(call->req, fd, op->start, op->end);
	fs_file_put(h, op->f);
	fs_call_end(call);
}

/* What of a range is not there. */
struct missing {
	struct cache_inode inode;
	uint64_t end;	/* cut at the end of the file */
	bool here;	/* all of it is local */
	bool near_edge; /* but not what comes after it */
};

static int find_missing(struct fs_mount *m, uint64_t ino, uint64_t start,
	uint64_t end, struct missing *ret)
{
	struct cache_range range;
	struct cache_txn *txn;
	uint64_t far_end;
	ssize_t nr = 0;
	int err = cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &ret->inode);
	ret->end = end;
	if (err == 0 && ret->inode.data != CACHE_WHOLE) {
		if (ret->end > ret->inode.size_bytes)
			ret->end = ret->inode.size_bytes;
		far_end = ret->end + NEAR_EDGE_BYTES;
		if (far_end > ret->inode.size_bytes)
			far_end = ret->inode.size_bytes;
		if (start < ret->end)
			nr = cache_extent_missing(
				txn, ino, start, far_end, &range, 1);
	}
	cache_abort(txn);
	if (err < 0 || nr < 0)
		return err < 0 ? err : (int)nr;
	ret->here = nr == 0 || range.start >= ret->end;
	ret->near_edge = nr > 0 && ret->here;
	return 0;
}

static void read_part(
	fuse_req_t req, struct fs_file *f, uint64_t start, uint64_t end)
{
	struct fs_mount *m = fs_mount_of(req);
	struct missing missing;
	struct read_op *op;
	int err, fd;

	err = find_missing(m, f->ino, start, end, &missing);
	if (err < 0) {
		fs_reply_err(req, err == -ENOENT ? -EIO : err);
		return;
	}
	if (start >= missing.end) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (missing.here) {
		fd = fs_file_fd(m->handles, f, missing.inode.serial, false);
		if (missing.near_edge &&
			fs_file_continues(m->handles, f, start))
			tier_read_ahead(m->tier, f->ino, start, missing.end);
		fs_file_read_to(m->handles, f, missing.end,
			missing.inode.data == CACHE_WHOLE);
		if (fd < 0)
			fs_reply_err(req, fd);
		else
			reply_range(req, fd, start, missing.end);
		tier_count_hit(m->tier, missing.end - start);
		return;
	}
	fs_file_read_to(m->handles, f, missing.end, false);
	op = fs_call_new(req, sizeof(*op));
	op->f = f;
	op->serial = missing.inode.serial;
	op->start = start;
	op->end = missing.end;
	fs_file_hold(m->handles, f);
	tier_fetch(m->tier, f->ino, start, missing.end,
		fs_call_arm(&op->call, f->ino, read_fetched));
	fs_call_go(&op->call);
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_open open;
	int err = fs_file_of(m->handles, fi->fh, &open), fd;

	(void)ino;
	if (err < 0) {
		fs_reply_err(req, err);
		return;
	}
	fd = fs_file_whole_fd(m->handles, open.file);
	if (fd < 0) {
		read_part(req, open.file, (uint64_t)off, (uint64_t)off + size);
	} else {
		/* All of it is local: the data file knows where it ends. */
		reply_range(req, fd, (uint64_t)off, (uint64_t)off + size);
		tier_count_hit(m->tier, size);
	}
	fs_file_put(m->handles, open.file);
}

/* ---- write ---- */

struct write_op {
	struct fs_call call;
	struct fs_file *f;
	void *bytes;
	size_t size;
	off_t off;
	bool kill_setid;
	int64_t until_ns;
};

static void write_fini(struct fs_call *call)
{
	struct write_op *op = (struct write_op *)call;

	fs_waiting_bytes(call->m->handles, -(int64_t)op->size);
	if (op->f != NULL)
		fs_file_put(call->m->handles, op->f);
	free(op->bytes);
}

/* A write by somebody without privileges takes setuid and setgid away. */
static int kill_setid(struct fs_mount *m, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	uint32_t mode;
	int err = cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &inode);
	cache_abort(txn);
	mode = inode.mode;
	if (err == 0)
		fs_kill_setid(&inode);
	if (err < 0 || mode == inode.mode)
		return err;
	err = cache_write(m->cache, &txn);
	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &inode);
	if (err == 0) {
		fs_kill_setid(&inode);
		inode.meta_gen++;
		err = cache_inode_put(txn, &inode);
	}
	/* Its close enters it, with the bytes. */
	return fs_commit(m, txn, err);
}

/* Takes the reference.  It is gone before the reply: then the caller may close
 * the file, and RELEASE what was written to. */
static void write_now(fuse_req_t req, struct fs_file *f, struct fuse_bufvec *in,
	off_t off, bool kill)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	ssize_t n = kill ? kill_setid(m, f->ino) : 0;

	out.buf[0].flags =
		FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
	out.buf[0].fd = f->wfd;
	out.buf[0].pos = off;
	if (n == 0)
		n = fuse_buf_copy(&out, in, 0);
	fs_file_put(m->handles, f);
	if (n < 0)
		fs_reply_err(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void write_again(struct fs_call *call, int err)
{
	struct write_op *op = (struct write_op *)call;
	struct fs_mount *m = call->m;
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(op->size);

	(void)err;
	if (fuse_req_interrupted(call->req) &&
		fs_signals_end(call->m, call->req, call->since_ns)) {
		fs_call_err(call, -EINTR);
	} else if (fs_written_may_write(m->handles)) {
		buf.buf[0].mem = op->bytes;
		write_now(call->req, op->f, &buf, op->off, op->kill_setid);
		op->f = NULL;
		fs_call_end(call);
	} else if (base_boot_ns(m->env) >= op->until_ns) {
		fs_call_err(call, -ENOSPC);
	} else {
		fs_call_after(call, ROOM_RETRY_NS, write_again);
	}
}

/* The uploader makes room, or this one has to be told that there is none. */
static void write_later(fuse_req_t req, struct fs_file *f,
	struct fuse_bufvec *in, off_t off, bool kill)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_bufvec copy = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	struct write_op *op;
	ssize_t n;

	if (!fs_waiting_bytes(m->handles, (int64_t)copy.buf[0].size)) {
		fs_reply_err(req, -ENOSPC);
		return;
	}
	op = fs_call_new(req, sizeof(*op));
	op->call.fini = write_fini;
	op->f = f;
	fs_file_hold(m->handles, f);
	op->size = copy.buf[0].size;
	op->bytes = copy.buf[0].mem = base_malloc(op->size);
	op->off = off;
	op->kill_setid = kill;
	op->call.since_ns = base_boot_ns(m->env);
	op->until_ns = op->call.since_ns + m->opt.store_timeout_ns;
	n = fuse_buf_copy(&copy, in, 0);
	if (n != (ssize_t)op->size)
		fs_call_err(&op->call, n < 0 ? (int)n : -EIO);
	else
		fs_call_after(&op->call, ROOM_RETRY_NS, write_again);
}

void fs_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *buf,
	off_t off, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_open open;
	int err = fs_file_of(m->handles, fi->fh, &open);

	(void)ino;
	if (err < 0) {
		fs_reply_err(req, err);
		return;
	}
	/* Pages written back come with any handle that may write. */
	if (open.write && open.file->wfd >= 0 &&
		fs_written_may_write(m->handles)) {
		write_now(req, open.file, buf, off, fs_kills_setid(req, fi));
		return;
	}
	if (!open.write || open.file->wfd < 0)
		fs_reply_err(req, -EBADF);
	else
		write_later(req, open.file, buf, off, fs_kills_setid(req, fi));
	fs_file_put(m->handles, open.file);
}

/* ---- fallocate ---- */

struct alloc_op {
	struct fs_call call;
	struct fs_file *f;
	int mode;
	off_t offset, length;
};

static void alloc_run(struct fs_call *call, int err)
{
	struct alloc_op *op = (struct alloc_op *)call;
	struct fs_handles *h = call->m->handles;
	/* Writable for this moment only, see H5 in handle.c. */
	int fd = cache_data_open(
		call->m->cache, op->f->ino, op->f->serial, O_RDWR | O_CLOEXEC);

	err = fd < 0 ? fd : 0;
	if (err == 0 && fallocate(fd, op->mode, op->offset, op->length) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	fs_file_put(h, op->f);
	fs_call_err(call, err);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
	off_t length, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct alloc_op *op;
	struct fs_open open;
	int err = fs_file_of(m->handles, fi->fh, &open);

	(void)ino;
	if (err < 0) {
		fs_reply_err(req, err);
		return;
	}
	if (!open.write)
		err = -EBADF;
	else if (!(mode & FALLOC_FL_PUNCH_HOLE) &&
		!fs_written_may_write(m->handles))
		err = -ENOSPC;
	if (err < 0) {
		fs_reply_err(req, err);
		fs_file_put(m->handles, open.file);
		return;
	}
	op = fs_call_new(req, sizeof(*op));
	op->f = open.file;
	op->mode = mode;
	op->offset = offset;
	op->length = length;
	fs_call_post(&op->call, alloc_run);
}

/* ---- lseek ---- */

/* Stores to a mapping of a served file may be in the kernel's pages only. */
static bool hides_stores(
	struct fs_mount *m, struct fuse_file_info *fi, bool written)
{
	struct fs_open open;
	bool served;

	if (!written || fs_file_of(m->handles, fi->fh, &open) < 0)
		return false;
	served = fs_file_is_served(m->handles, open.file);
	fs_file_put(m->handles, open.file);
	return served;
}

/* Of a whole file the data file knows; of any other all is data: what is not
 * local is not a hole. */
void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct cache_inode inode;
	struct cache_txn *txn;
	off_t ret = -1;
	int err, fd;

	err = cache_read(m->cache, &txn);
	if (err == 0) {
		err = cache_inode_get(txn, ino, &inode);
		cache_abort(txn);
	}
	if (err == 0 && inode.written)
		fs_file_attrs(m->handles, &inode);
	if (err == 0 && inode.data == CACHE_WHOLE &&
		!hides_stores(m, fi, inode.written)) {
		fd = cache_data_open(
			m->cache, ino, inode.serial, O_RDONLY | O_CLOEXEC);
		err = fd < 0 ? fd : 0;
		if (err == 0) {
			ret = lseek(fd, off, whence);
			err = ret < 0 ? -errno : 0;
			close(fd);
		}
	} else if (err == 0) {
		if (off < 0 || (uint64_t)off >= inode.size_bytes)
			err = -ENXIO;
		else
			ret = whence == SEEK_DATA ? off
						  : (off_t)inode.size_bytes;
	}
	if (err < 0)
		fs_reply_err(req, err);
	else
		fuse_reply_lseek(req, ret);
}
