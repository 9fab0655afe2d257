/*
 * Staged blocks of the `dir:` store, and their commit: see dir_priv.h.
 *
 * A block is written beside, then renamed to its id, so that a block that is
 * there is whole; it is not synced, its directory's name carries the boot id
 * instead.  Commit copies the blocks into one new file (a reflink where the
 * file system can) and publishes that.
 */
#include "blob/dir_priv.h"
#include "blob/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAGE_NAME 56 /* 32 hex, '-', 16 hex, NUL */
#define ID_NAME (2 * BLOB_BLOCK_ID_BYTES + 1)

static void stage_name(
	const struct dir_root *root, const char *name, char ret[STAGE_NAME])
{
	uint8_t md5[BLOB_MD5_BYTES];
	char hex[2 * BLOB_MD5_BYTES + 1];

	blob_md5(name, strlen(name), md5);
	dir_hex(md5, sizeof(md5), hex);
	snprintf(ret, STAGE_NAME, "%s-%s", hex, root->boot);
}

void dir_stage_drop(struct dir_root *root, const char *name)
{
	char stage[STAGE_NAME];

	if (root->stage_fd < 0)
		return;
	stage_name(root, name, stage);
	dir_remove_shallow(root->stage_fd, stage);
}

/* ---- staging ---- */

static int block_into_place(struct dir_job *job, struct dir_tmp *tmp)
{
	struct dir_root *root = job->root;
	char stage[STAGE_NAME], id[ID_NAME];
	char path[STAGE_NAME + ID_NAME + 1];

	stage_name(root, job->req->name, stage);
	dir_hex(job->req->in.block.id, BLOB_BLOCK_ID_BYTES, id);
	snprintf(path, sizeof(path), "%s/%s", stage, id);
	/* ENOENT: somebody commits and drops the directory meanwhile. */
	for (unsigned i = 0; i < DIR_RETRY_MAX; i++) {
		if (mkdirat(root->stage_fd, stage, 0700) < 0 && errno != EEXIST)
			return -errno;
		if (renameat(root->tmp_fd, tmp->name, root->stage_fd, path) ==
			0) {
			close(tmp->fd);
			tmp->fd = -1;
			return 0;
		}
		if (errno != ENOENT)
			break;
	}
	return -errno;
}

enum blob_result dir_op_put_block(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_tmp tmp = DIR_TMP_INIT;
	int err;

	if (req->in.block.body.len_bytes == 0)
		return dir_fail(req, BLOB_REFUSED, -EINVAL, "EmptyBlock");
	err = dir_tmp_file(job->root, &tmp);
	if (!err)
		err = dir_body_write(job, &req->in.block.body, tmp.fd);
	if (!err)
		err = block_into_place(job, &tmp);
	dir_tmp_drop(job->root, &tmp);
	return err ? dir_errno(req, err) : BLOB_OK;
}

static int source_matches(struct dir_job *job, int path_fd, uint64_t *ret_size)
{
	struct dir_blob blob;
	int err = dir_blob_load(job->root, path_fd, true, &blob);

	if (err)
		return err;
	if (strcmp(blob.etag, job->req->in.block.source_etag) != 0)
		err = -ESTALE;
	*ret_size = blob.st.size;
	dir_blob_fini(&blob);
	return err;
}

static int copy_block(struct dir_job *job, int path_fd, struct dir_tmp *tmp)
{
	struct blob_req *req = job->req;
	uint64_t offset = req->in.block.source_offset;
	uint64_t len = req->in.block.source_len_bytes;
	uint64_t size;
	int fd, err = source_matches(job, path_fd, &size);

	if (err)
		return err;
	if (len == 0 || offset > size || len > size - offset)
		return -ERANGE;
	err = dir_tmp_file(job->root, tmp);
	if (err)
		return err;
	fd = dir_reopen(path_fd, O_RDONLY);
	if (fd < 0)
		return fd;
	err = dir_copy_range(job, fd, offset, tmp->fd, 0, len);
	close(fd);
	return err ? err : source_matches(job, path_fd, &size);
}

enum blob_result dir_op_put_block_url(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_tmp tmp = DIR_TMP_INIT;
	enum blob_result result;
	int fd, err = dir_name_check(req->in.block.source);

	if (err || dir_name_own(req->in.block.source))
		return dir_errno(req, -EINVAL);
	fd = dir_open_object(job->root, req->in.block.source);
	if (fd < 0)
		return dir_errno(req, fd);
	err = copy_block(job, fd, &tmp);
	close(fd);
	if (!err)
		err = block_into_place(job, &tmp);
	dir_tmp_drop(job->root, &tmp);
	if (err == -ERANGE)
		return dir_fail(req, BLOB_BAD_RANGE, -ERANGE, "InvalidRange");
	result = err ? dir_errno(req, err) : BLOB_OK;
	if (err == -ESTALE)
		snprintf(req->code, sizeof(req->code), "SourceConditionNotMet");
	return result;
}

/* ---- commit ---- */

/* The blob that is being replaced, for the blocks that stay. */
struct base {
	int fd; /* readable, or -1 */
	struct blob_block *blocks;
	uint64_t *offsets;
	size_t nr;
};

static int base_open(struct dir_job *job, struct base *ret)
{
	struct blob_req *req = job->req;
	struct dir_blob blob;
	uint64_t offset = 0;
	int path_fd, err;

	memset(ret, 0, sizeof(*ret));
	ret->fd = -1;
	if (!req->cond.if_match)
		return 0;
	path_fd = dir_open_object(job->root, req->name);
	if (path_fd < 0)
		return path_fd == -ENOENT ? -ESTALE : path_fd;
	err = dir_blob_load(job->root, path_fd, false, &blob);
	if (!err && strcmp(blob.etag, req->cond.if_match) != 0)
		err = -ESTALE;
	else if (!err)
		dir_blocks_load(job->root, &blob, &ret->blocks, &ret->nr);
	if (!err && ret->nr > 0) {
		ret->fd = dir_reopen(path_fd, O_RDONLY);
		err = ret->fd < 0 ? ret->fd : 0;
		ret->offsets = base_calloc(ret->nr, sizeof(*ret->offsets));
	}
	for (size_t i = 0; ret->offsets && i < ret->nr; i++) {
		ret->offsets[i] = offset;
		offset += ret->blocks[i].size_bytes;
	}
	dir_blob_fini(&blob);
	close(path_fd);
	return err;
}

static void base_close(struct base *base)
{
	if (base->fd >= 0)
		close(base->fd);
	free(base->blocks);
	free(base->offsets);
}

/* Where block `id` is in the base.  Most lists keep their order, so the
 * search starts where the last one ended. */
static bool base_find(const struct base *base, const uint8_t *id, size_t *hint,
	uint64_t *ret_offset, uint64_t *ret_size)
{
	for (size_t i = 0; i < base->nr; i++) {
		size_t at = (*hint + i) % base->nr;

		if (memcmp(base->blocks[at].id, id, BLOB_BLOCK_ID_BYTES) != 0)
			continue;
		*hint = at + 1;
		*ret_offset = base->offsets[at];
		*ret_size = base->blocks[at].size_bytes;
		return true;
	}
	return false;
}

static int open_staged(int stage, const uint8_t *id, uint64_t *ret_size)
{
	char name[ID_NAME];
	struct stat st;
	int fd;

	if (stage < 0)
		return -ENOENT;
	dir_hex(id, BLOB_BLOCK_ID_BYTES, name);
	fd = openat(stage, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		close(fd);
		return -EIO;
	}
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

/* A run of blocks that lie one after the other in the base is one copy. */
struct run {
	uint64_t from, to, len;
};

static int run_flush(
	struct dir_job *job, const struct base *base, int out, struct run *run)
{
	int err = 0;

	if (run->len > 0)
		err = dir_copy_range(
			job, base->fd, run->from, out, run->to, run->len);
	run->len = 0;
	return err;
}

/* -EBADE: a block is not there. */
static int assemble(struct dir_job *job, const struct base *base, int stage,
	int out, struct blob_block *list)
{
	const struct blob_block *want = job->req->in.commit.blocks;
	size_t nr = job->req->in.commit.blocks_nr, hint = 0;
	struct run run = { 0, 0, 0 };
	uint64_t at = 0, from = 0, size = 0;
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++) {
		int fd = -ENOENT;

		if (!want[i].committed)
			fd = open_staged(stage, want[i].id, &size);
		if (fd == -ENOENT) {
			/* "Latest" falls back on the committed list. */
			if (!base_find(base, want[i].id, &hint, &from, &size))
				return -EBADE;
			if (run.len > 0 && run.from + run.len == from) {
				run.len += size;
			} else {
				err = run_flush(job, base, out, &run);
				run = (struct run){ from, at, size };
			}
		} else if (fd < 0) {
			return fd;
		} else {
			err = run_flush(job, base, out, &run);
			if (!err)
				err = dir_copy_range(job, fd, 0, out, at, size);
			close(fd);
		}
		memcpy(list[i].id, want[i].id, BLOB_BLOCK_ID_BYTES);
		list[i].size_bytes = size;
		at += size;
	}
	return err ? err : run_flush(job, base, out, &run);
}

static int commit_object(struct dir_job *job, struct dir_tmp *tmp)
{
	struct blob_req *req = job->req;
	size_t nr = req->in.commit.blocks_nr;
	struct blob_block *list = base_calloc(nr + 1, sizeof(*list));
	char stage_path[STAGE_NAME];
	struct base base;
	int stage = -1, err = base_open(job, &base);

	if (!err)
		err = dir_tmp_file(job->root, tmp);
	if (!err) {
		stage_name(job->root, req->name, stage_path);
		stage = openat(job->root->stage_fd, stage_path,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		err = assemble(job, &base, stage, tmp->fd, list);
	}
	if (stage >= 0)
		close(stage);
	base_close(&base);
	if (!err)
		err = dir_seal_bytes(job, tmp, req->in.commit.md5, list, nr);
	free(list);
	return err;
}

enum blob_result dir_op_commit(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_tmp tmp = DIR_TMP_INIT;
	enum blob_result result = dir_cond_check(job, false);
	int err;

	if (result != BLOB_OK)
		return result;
	err = commit_object(job, &tmp);
	if (err == -EBADE)
		result = dir_fail(
			req, BLOB_BAD_BLOCKS, -EBADE, "InvalidBlockList");
	else
		result = err ? dir_errno(req, err) : dir_publish(job, &tmp);
	dir_tmp_drop(job->root, &tmp);
	if (result == BLOB_OK)
		dir_stage_drop(job->root, req->name);
	return result;
}
