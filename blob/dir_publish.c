/*
 * Giving a finished object its name, under a condition: see dir_priv.h.
 *
 * P1 A name is changed only under the publish lock, which is a mutex here and
 *    an flock() for other processes on this reservoir.
 * P2 Create is renameat2(NOREPLACE): whoever else makes the name wins.
 * P3 Replace compares the full ETag, exchanges the two, and compares what came
 *    out by everything but its ctime (the exchange itself moves that); another
 *    object than the one compared goes back, and the answer is CONDITION.
 * P4 The ETag answered is taken under the lock, after the last change.
 * P5 Both directories are synced before the answer; a failure after the
 *    rename is BLOB_AMBIGUOUS, for the name has changed.
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

void dir_publish_lock(struct dir_job *job)
{
	base_lock(&job->store->publish);
	/* Where locks are not to be had (ENOLCK), the exchange still tells. */
	while (flock(job->root->lock_fd, LOCK_EX) < 0 && errno == EINTR)
		;
}

void dir_publish_unlock(struct dir_job *job)
{
	flock(job->root->lock_fd, LOCK_UN);
	base_unlock(&job->store->publish);
}

void dir_answer(struct blob_req *req, const struct dir_blob *blob)
{
	memcpy(req->props.etag, blob->etag, sizeof(req->props.etag));
	req->props.mtime_ns = blob->st.mtime_ns;
	req->props.size_bytes = blob->st.size;
	req->props.type =
		S_ISDIR(blob->st.mode) ? BLOB_TYPE_DIR : BLOB_TYPE_BLOCK;
}

enum blob_result dir_cond_check(struct dir_job *job, bool replaces_only)
{
	struct blob_req *req = job->req;
	struct dir_blob blob;
	int fd, err;

	if ((req->cond.if_match != NULL) == req->cond.if_none_match_any ||
		(replaces_only && !req->cond.if_match))
		return dir_fail(
			req, BLOB_REFUSED, -EINVAL, "ConditionRequired");
	fd = dir_open_object(job->root, req->name);
	if (fd == -ENOENT && req->cond.if_none_match_any)
		return BLOB_OK;
	if (fd == -ENOENT && !replaces_only)
		return dir_errno(req, -ESTALE);
	if (fd < 0)
		return dir_errno(req, fd);
	err = dir_blob_load(job->root, fd, false, &blob);
	close(fd);
	if (err)
		return dir_errno(req, err);
	if (req->cond.if_none_match_any && !blob.rec.implicit)
		err = -EEXIST;
	else if (req->cond.if_match &&
		strcmp(req->cond.if_match, blob.etag) != 0)
		err = -ESTALE;
	dir_blob_fini(&blob);
	return err ? dir_errno(req, err) : BLOB_OK;
}

/* ---- create (P2) ---- */

static int create(struct dir_root *root, struct dir_tmp *tmp, int parent,
	const char *last)
{
	struct stat st;

	if (renameat2(root->tmp_fd, tmp->name, parent, last,
		    RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* A file system without the flag: a link is as exclusive. */
	if (tmp->shape != DIR_SHAPE_DIR) {
		if (linkat(root->tmp_fd, tmp->name, parent, last, 0) < 0)
			return -errno;
		unlinkat(root->tmp_fd, tmp->name, 0);
		return 0;
	}
	/* rename() of a directory replaces an empty one: only look first. */
	if (fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	if (renameat(root->tmp_fd, tmp->name, parent, last) < 0)
		return -errno;
	return 0;
}

/* ---- replace (P3) ---- */

static int load_at(
	struct dir_root *root, int dir, const char *name, struct dir_blob *ret)
{
	int err, fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	err = dir_blob_load(root, fd, false, ret);
	close(fd);
	return err;
}

static bool is_empty_dir(int parent, const char *name)
{
	/* rmdir is the question that cannot be asked wrong: what it removes
	 * was empty, and is about to be replaced anyway. */
	return unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

/* The displaced object is in tmp now.  Drop it, or say why it must go back. */
static int drop_displaced(struct dir_root *root, struct dir_tmp *tmp,
	const struct dir_blob *before)
{
	struct dir_blob out;
	bool same;
	int err = load_at(root, root->tmp_fd, tmp->name, &out);

	if (err)
		return err;
	same = dir_blob_same(&out, before);
	dir_blob_fini(&out);
	if (!same)
		return -ESTALE;
	if (S_ISDIR(before->st.mode) && !is_empty_dir(root->tmp_fd, tmp->name))
		return errno == EEXIST ? -ENOTEMPTY : -errno;
	return 0;
}

static int exchange(struct dir_root *root, struct dir_tmp *tmp, int parent,
	const char *last, const struct dir_blob *before)
{
	int err;

	if (renameat2(root->tmp_fd, tmp->name, parent, last, RENAME_EXCHANGE) ==
		0) {
		err = drop_displaced(root, tmp, before);
		if (err)
			renameat2(root->tmp_fd, tmp->name, parent, last,
				RENAME_EXCHANGE);
		return err;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return errno == ENOENT ? -ESTALE : -errno;
	/* Without the flag the lock is all there is. */
	if (S_ISDIR(before->st.mode) && !is_empty_dir(parent, last))
		return errno == EEXIST ? -ENOTEMPTY : -errno;
	if (renameat(root->tmp_fd, tmp->name, parent, last) < 0)
		return -errno;
	return 0;
}

static int replace(struct dir_job *job, struct dir_tmp *tmp, int parent,
	const char *last, struct dir_stat *ret_old)
{
	struct dir_blob before;
	int err = load_at(job->root, parent, last, &before);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	if (strcmp(before.etag, job->req->cond.if_match) != 0)
		err = -ESTALE;
	else
		err = exchange(job->root, tmp, parent, last, &before);
	*ret_old = before.st;
	dir_blob_fini(&before);
	return err;
}

/* ---- both ---- */

static int publish_locked(struct dir_job *job, struct dir_tmp *tmp, int parent,
	const char *last, struct dir_stat *ret_old)
{
	struct dir_blob blob;
	int err;

	dir_publish_lock(job);
	if (job->req->cond.if_match)
		err = replace(job, tmp, parent, last, ret_old);
	else
		err = create(job->root, tmp, parent, last);
	if (!err) {
		err = dir_blob_load(job->root, tmp->fd, false, &blob);
		if (!err) {
			dir_answer(job->req, &blob);
			dir_blob_fini(&blob);
		} else {
			err = -EUCLEAN; /* named, but what is it? */
		}
	}
	dir_publish_unlock(job);
	return err;
}

static enum blob_result ambiguous(struct blob_req *req)
{
	req->uncertain = true;
	return dir_fail(req, BLOB_AMBIGUOUS, -EIO, "SyncFailed");
}

/* After the rename: what is left of the old object goes, the new name is made
 * to last. */
static enum blob_result settle(struct dir_job *job, struct dir_tmp *tmp,
	int parent, const struct dir_stat *old)
{
	struct dir_root *root = job->root;

	if (job->req->cond.if_match) {
		/* First: once it is unlinked its number may be another's. */
		dir_side_drop(root, old);
		if (!S_ISDIR(old->mode))
			unlinkat(root->tmp_fd, tmp->name, 0);
	}
	tmp->name[0] = '\0';
	close(tmp->fd);
	tmp->fd = -1;
	if (fsync(parent) < 0 || fsync(root->tmp_fd) < 0)
		return ambiguous(job->req);
	return BLOB_OK;
}

enum blob_result dir_publish(struct dir_job *job, struct dir_tmp *tmp)
{
	struct blob_req *req = job->req;
	struct dir_stat old = { 0 };
	enum blob_result result;
	const char *last;
	int parent, err;

	/* ENOENT: the parent was removed between opening and renaming. */
	for (unsigned i = 0;; i++) {
		if (req->cond.if_match)
			err = dir_open_parent(
				job->root, req->name, &parent, &last);
		else
			err = dir_make_parent(
				job->root, req->name, &parent, &last);
		if (err)
			return dir_errno(req, err == -ENOENT ? -ESTALE : err);
		err = publish_locked(job, tmp, parent, last, &old);
		if (err != -ENOENT || i == DIR_RETRY_MAX)
			break;
		close(parent);
	}
	if (!err) {
		result = settle(job, tmp, parent, &old);
	} else if (err == -EUCLEAN) {
		settle(job, tmp, parent, &old);
		result = ambiguous(req);
	} else {
		result = dir_errno(req, err);
	}
	close(parent);
	return result;
}
