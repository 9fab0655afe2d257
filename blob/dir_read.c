/*
 * HEAD, GET and GET_BLOCKS of the `dir:` store.
 *
 * A GET reads one inode to the end, whatever happens to its name.  Ordinary
 * tools may write that inode in place: size and mtime are compared before
 * each piece is handed on, so that a torn read ends in an error.  (ctime is
 * not: a replacement of the name moves it, and hurts nobody.)
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Opens and loads the request's blob, and asks its If-Match, if any. */
static enum blob_result open_blob(
	struct dir_job *job, int *ret_fd, struct dir_blob *ret)
{
	struct blob_req *req = job->req;
	int err, fd = dir_open_object(job->root, req->name);

	if (fd < 0)
		return dir_errno(req, fd);
	err = dir_blob_load(job->root, fd, true, ret);
	if (!err && req->cond.if_match &&
		strcmp(req->cond.if_match, ret->etag) != 0) {
		dir_blob_fini(ret);
		err = -ESTALE;
	}
	if (err) {
		close(fd);
		return dir_errno(req, err);
	}
	*ret_fd = fd;
	return BLOB_OK;
}

enum blob_result dir_op_head(struct dir_job *job)
{
	struct dir_blob blob;
	enum blob_result result;
	int fd;

	result = open_blob(job, &fd, &blob);
	if (result != BLOB_OK)
		return result;
	dir_blob_props(&blob, &job->req->props);
	dir_blob_fini(&blob);
	close(fd);
	return BLOB_OK;
}

/* The range of the request within `size`, or -ERANGE. */
static int cut_range(const struct blob_req *req, uint64_t size,
	uint64_t *ret_offset, uint64_t *ret_len)
{
	uint64_t offset = req->in.get.offset, len = req->in.get.len_bytes;

	/* "Everything" of an empty blob is no range. */
	if (size == 0 && offset == 0 && len == 0) {
		*ret_offset = *ret_len = 0;
		return 0;
	}
	if (offset >= size)
		return -ERANGE;
	*ret_offset = offset;
	*ret_len = len == 0 || len > size - offset ? size - offset : len;
	return 0;
}

static int give(struct blob_req *req, const void *buf, size_t len)
{
	/* The caller's own reason is not the store's. */
	return req->in.get.data(req, buf, len) == 0 ? 0 : -EINTR;
}

static int get_target(struct dir_job *job, int path_fd, uint64_t offset,
	uint64_t len, uint64_t size)
{
	char target[DIR_TARGET_MAX];
	ssize_t n = dir_read_target(path_fd, target, sizeof(target));

	if (n < 0)
		return (int)n;
	if ((uint64_t)n != size)
		return -EILSEQ;
	return give(job->req, target + offset, (size_t)len);
}

static bool moved(int fd, const struct dir_blob *blob)
{
	struct dir_stat now;

	return dir_stat_fd(fd, &now) != 0 || now.size != blob->st.size ||
		now.mtime_ns != blob->st.mtime_ns;
}

static int get_bytes(struct dir_job *job, int fd, const struct dir_blob *blob,
	uint64_t offset, uint64_t len)
{
	size_t piece = len < DIR_PIECE_BYTES ? (size_t)len : DIR_PIECE_BYTES;
	char *buf = base_malloc(piece);
	int err = 0;

	if (offset == 0 && len > piece)
		posix_fadvise(fd, 0, (off_t)len, POSIX_FADV_SEQUENTIAL);
	while (!err && len > 0) {
		ssize_t n;

		err = dir_job_check(job);
		if (err)
			break;
		n = pread(fd, buf, piece < len ? piece : (size_t)len,
			(off_t)offset);
		if (n < 0)
			err = -errno;
		else if (n == 0 || moved(fd, blob))
			err = job->req->cond.if_match ? -ESTALE : -EILSEQ;
		else
			err = give(job->req, buf, (size_t)n);
		if (!err) {
			offset += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	free(buf);
	return err;
}

enum blob_result dir_op_get(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_blob blob;
	enum blob_result result;
	uint64_t offset, len;
	int path_fd, fd, err;

	result = open_blob(job, &path_fd, &blob);
	if (result != BLOB_OK)
		return result;
	err = cut_range(req, blob.st.size, &offset, &len);
	if (err) {
		dir_blob_fini(&blob);
		close(path_fd);
		return dir_fail(req, BLOB_BAD_RANGE, -ERANGE, "InvalidRange");
	}
	dir_blob_props(&blob, &req->props);
	if (len > 0 && S_ISLNK(blob.st.mode)) {
		err = get_target(job, path_fd, offset, len, blob.st.size);
	} else if (len > 0) {
		fd = dir_reopen(path_fd, O_RDONLY);
		err = fd < 0 ? fd : get_bytes(job, fd, &blob, offset, len);
		if (fd >= 0)
			close(fd);
	}
	dir_blob_fini(&blob);
	close(path_fd);
	return err ? dir_errno(req, err) : BLOB_OK;
}

enum blob_result dir_op_get_blocks(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_blob blob;
	enum blob_result result;
	int fd;

	result = open_blob(job, &fd, &blob);
	if (result != BLOB_OK)
		return result;
	dir_blocks_load(
		job->root, &blob, &req->blocks.blocks, &req->blocks.blocks_nr);
	dir_answer(req, &blob);
	dir_blob_fini(&blob);
	close(fd);
	return BLOB_OK;
}
