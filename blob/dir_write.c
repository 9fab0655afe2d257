/*
 * PUT, COPY, DELETE and SET_META of the `dir:` store.  Each asks its condition
 * early (before bytes are moved) and again where it changes the name.
 */
#include "blob/dir_priv.h"
#include "blob/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- bytes ---- */

static ssize_t body_piece(const struct blob_body *body, uint64_t at,
	size_t bytes, char *buf, const char **ret)
{
	ssize_t n;

	if (body->mem) {
		*ret = (const char *)body->mem + at;
		return (ssize_t)bytes;
	}
	n = pread(body->fd, buf, bytes, (off_t)(body->offset + at));
	*ret = buf;
	return n < 0 ? -errno : n;
}

int dir_body_write(struct dir_job *job, const struct blob_body *body, int fd)
{
	struct blob_hash *hash = blob_hash_new(BLOB_HASH_MD5);
	char *buf = body->mem ? NULL : base_malloc(DIR_PIECE_BYTES);
	uint8_t md5[BLOB_MD5_BYTES];
	uint64_t at = 0;
	int err = 0;

	while (!err && at < body->len_bytes) {
		uint64_t left = body->len_bytes - at;
		const char *piece;
		ssize_t n;

		err = dir_job_check(job);
		if (err)
			break;
		n = body_piece(body, at,
			left < DIR_PIECE_BYTES ? (size_t)left : DIR_PIECE_BYTES,
			buf, &piece);
		if (n <= 0) {
			err = n < 0 ? (int)n : -EILSEQ; /* cut meanwhile */
			break;
		}
		blob_hash_add(hash, piece, (size_t)n);
		err = dir_write_all(fd, piece, (size_t)n);
		at += (uint64_t)n;
	}
	blob_hash_end(hash, md5);
	free(buf);
	if (!err && body->md5 && memcmp(md5, body->md5, sizeof(md5)) != 0)
		err = -EILSEQ;
	return err;
}

/* ---- records ---- */

static int meta_fits(const struct blob_kv *kv, size_t nr)
{
	size_t bytes = 0;

	for (size_t i = 0; i < nr; i++)
		bytes += strlen(kv[i].key) + strlen(kv[i].value);
	return bytes > BLOB_META_BYTES_MAX ? -E2BIG : 0;
}

/* The record that a request's metadata and headers make; -E2BIG. */
static int record_of(const struct blob_req *req, struct dir_record *ret)
{
	int err = meta_fits(req->meta, req->meta_nr);

	memset(ret, 0, sizeof(*ret));
	if (err)
		return err;
	blob_kv_copy(&ret->meta, req->meta, req->meta_nr);
	ret->meta_nr = req->meta_nr;
	blob_kv_copy(&ret->headers, req->headers, req->headers_nr);
	ret->headers_nr = req->headers_nr;
	return 0;
}

/* ---- SET_META, and a directory's marker over a directory ---- */

/* May this record go with this object?  A change of kind is a new object. */
static bool same_kind(const struct dir_blob *blob, const struct blob_req *req)
{
	struct blob_posix posix;

	dir_meta_posix(req->meta, req->meta_nr, &posix);
	if (S_ISDIR(blob->st.mode))
		return posix.kind == BLOB_KIND_DIR ||
			posix.kind == BLOB_KIND_FILE;
	if (S_ISLNK(blob->st.mode))
		return posix.kind == BLOB_KIND_SYMLINK ||
			posix.kind == BLOB_KIND_FILE;
	return posix.kind != BLOB_KIND_DIR || blob->st.size > 0;
}

static int change_locked(struct dir_job *job, int fd, bool adopt, int *ret_sync)
{
	struct blob_req *req = job->req;
	struct dir_record rec = { 0 };
	struct dir_blob blob;
	int err = dir_blob_load(job->root, fd, false, &blob);

	if (err)
		return err;
	if (adopt ? !blob.rec.implicit
		  : strcmp(req->cond.if_match, blob.etag) != 0)
		err = adopt ? -EEXIST : -ESTALE;
	else if (!same_kind(&blob, req))
		err = -EMEDIUMTYPE;
	if (!err)
		err = record_of(req, &rec);
	if (!err) {
		/* The bytes stay, and what is known of them. */
		if (req->op == BLOB_SET_META) {
			blob_kv_free(rec.headers, rec.headers_nr);
			rec.headers = blob.rec.headers;
			rec.headers_nr = blob.rec.headers_nr;
			blob.rec.headers = NULL;
			blob.rec.headers_nr = 0;
		}
		if (blob.rec.content_ok) {
			rec.content = blob.rec.content;
			rec.has_md5 = blob.rec.has_md5;
			memcpy(rec.md5, blob.rec.md5, sizeof(rec.md5));
		}
		err = dir_record_store(job->root, fd, &rec, ret_sync);
	}
	dir_record_fini(&rec);
	dir_blob_fini(&blob);
	if (err)
		return err;
	err = dir_blob_load(job->root, fd, false, &blob);
	if (err)
		return -EUCLEAN;
	dir_answer(req, &blob);
	dir_blob_fini(&blob);
	return 0;
}

/* The attributes of the object itself, and its side file if it has one. */
static int sync_meta(int path_fd, int side)
{
	int err = 0, fd = dir_reopen(path_fd, O_RDONLY);

	/* A symlink or a device has only the side file. */
	if (fd >= 0) {
		if (fsync(fd) < 0 && errno != EINVAL)
			err = -errno;
		close(fd);
	}
	if (side >= 0 && fsync(side) < 0)
		err = -errno;
	return err;
}

/* Is the name still this object?  Asked under the lock. */
static bool still_named(struct dir_root *root, const char *name, int fd)
{
	struct dir_stat a, b;
	int again = dir_open_object(root, name);
	bool same;

	if (again < 0)
		return false;
	same = dir_stat_fd(fd, &a) == 0 && dir_stat_fd(again, &b) == 0 &&
		a.dev == b.dev && a.ino == b.ino;
	close(again);
	return same;
}

/* In-place change of metadata; `adopt`: also of a directory that nobody asked
 * for, under If-None-Match. */
static enum blob_result change_meta(struct dir_job *job, bool adopt)
{
	struct blob_req *req = job->req;
	int fd, err, side = -1;

	err = dir_root_prepare(job->root);
	if (err)
		return dir_errno(req, err);
	fd = dir_open_object(job->root, req->name);
	if (fd < 0)
		return dir_errno(req, fd);
	dir_publish_lock(job);
	if (still_named(job->root, req->name, fd))
		err = change_locked(job, fd, adopt, &side);
	else
		err = -ESTALE;
	dir_publish_unlock(job);
	if (!err || err == -EUCLEAN) {
		if (sync_meta(fd, side) != 0 || err) {
			req->uncertain = true;
			err = -EUCLEAN;
		}
	}
	if (side >= 0)
		close(side);
	close(fd);
	if (err == -EUCLEAN)
		return dir_fail(req, BLOB_AMBIGUOUS, -EIO, "SyncFailed");
	if (err == -EMEDIUMTYPE)
		return dir_fail(req, BLOB_BAD_TYPE, -EINVAL, "KindOfBlob");
	return err ? dir_errno(req, err) : BLOB_OK;
}

enum blob_result dir_op_set_meta(struct dir_job *job)
{
	enum blob_result result = dir_cond_check(job, true);

	return result == BLOB_OK ? change_meta(job, false) : result;
}

/* ---- PUT ---- */

/* A marker for a directory that is already there changes its metadata. */
static bool is_marker_over_dir(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct blob_posix posix;
	struct dir_stat st;
	bool is_dir;
	int fd;

	dir_meta_posix(req->meta, req->meta_nr, &posix);
	if (posix.kind != BLOB_KIND_DIR || req->in.put.body.len_bytes > 0)
		return false;
	fd = dir_open_object(job->root, req->name);
	if (fd < 0)
		return false;
	is_dir = dir_stat_fd(fd, &st) == 0 && S_ISDIR(st.mode);
	close(fd);
	return is_dir;
}

int dir_seal_bytes(struct dir_job *job, struct dir_tmp *tmp,
	const uint8_t md5[16], const struct blob_block *blocks, size_t nr)
{
	struct blob_req *req = job->req;
	struct dir_record rec;
	int err = dir_tmp_shape(job->root, tmp, req->meta, req->meta_nr);

	if (err)
		return err;
	err = record_of(req, &rec);
	if (!err) {
		rec.has_md5 = md5 != NULL;
		if (rec.has_md5)
			memcpy(rec.md5, md5, sizeof(rec.md5));
		err = dir_tmp_seal(job->root, tmp, &rec, blocks, nr);
	}
	dir_record_fini(&rec);
	return err;
}

static int put_object(struct dir_job *job, struct dir_tmp *tmp)
{
	const struct blob_body *body = &job->req->in.put.body;
	int err = dir_tmp_file(job->root, tmp);

	if (!err)
		err = dir_body_write(job, body, tmp->fd);
	return err ? err : dir_seal_bytes(job, tmp, body->md5, NULL, 0);
}

enum blob_result dir_op_put(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_tmp tmp = DIR_TMP_INIT;
	enum blob_result result = dir_cond_check(job, false);
	int err;

	if (result != BLOB_OK)
		return result;
	if (is_marker_over_dir(job)) {
		result = change_meta(job, req->cond.if_none_match_any);
	} else {
		err = put_object(job, &tmp);
		result = err ? dir_errno(req, err) : dir_publish(job, &tmp);
		dir_tmp_drop(job->root, &tmp);
	}
	if (result == BLOB_OK)
		dir_stage_drop(job->root, req->name);
	return result;
}

/* ---- COPY ---- */

static int open_source(struct dir_job *job, int *ret_fd, struct dir_blob *ret)
{
	int err, fd = dir_open_object(job->root, job->req->in.copy.source);

	if (fd < 0)
		return fd;
	err = dir_blob_load(job->root, fd, true, ret);
	if (!err && strcmp(ret->etag, job->req->in.copy.source_etag) != 0) {
		dir_blob_fini(ret);
		err = -ESTALE;
	}
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

static int copy_object(struct dir_job *job, int path_fd,
	const struct dir_blob *source, struct dir_tmp *tmp)
{
	char target[DIR_TARGET_MAX];
	ssize_t n;
	int fd, err;

	if (S_ISDIR(source->st.mode))
		return dir_tmp_dir(job->root, tmp);
	if (S_ISLNK(source->st.mode)) {
		n = dir_read_target(path_fd, target, sizeof(target) - 1);
		if (n < 0)
			return (int)n;
		target[n] = '\0';
		return dir_tmp_symlink(job->root, target, tmp);
	}
	err = dir_tmp_file(job->root, tmp);
	if (err || source->st.size == 0)
		return err;
	fd = dir_reopen(path_fd, O_RDONLY);
	if (fd < 0)
		return fd;
	err = dir_copy_range(job, fd, 0, tmp->fd, 0, source->st.size);
	close(fd);
	return err;
}

/* Metadata of the request, or the source's where it gives none; headers, MD5
 * and block list go along. */
static int seal_copy(
	struct dir_job *job, const struct dir_blob *source, struct dir_tmp *tmp)
{
	struct blob_req *req = job->req;
	struct blob_props props = { 0 };
	struct blob_block *blocks = NULL;
	struct dir_record rec;
	size_t blocks_nr = 0;
	int err = record_of(req, &rec);

	if (err)
		return err;
	dir_blob_props(source, &props);
	if (rec.meta_nr == 0) {
		blob_kv_free(rec.meta, 0);
		rec.meta = props.meta;
		rec.meta_nr = props.meta_nr;
		props.meta = NULL;
		props.meta_nr = 0;
	}
	blob_kv_free(rec.headers, rec.headers_nr);
	rec.headers = props.headers;
	rec.headers_nr = props.headers_nr;
	props.headers = NULL;
	props.headers_nr = 0;
	rec.has_md5 = props.has_md5;
	memcpy(rec.md5, props.md5, sizeof(rec.md5));
	dir_blocks_load(job->root, source, &blocks, &blocks_nr);
	err = dir_tmp_seal(job->root, tmp, &rec, blocks, blocks_nr);
	free(blocks);
	blob_props_fini(&props);
	dir_record_fini(&rec);
	return err;
}

static enum blob_result source_failed(struct blob_req *req, int err)
{
	enum blob_result result = dir_errno(req, err);

	if (err == -ESTALE)
		snprintf(req->code, sizeof(req->code), "SourceConditionNotMet");
	return result;
}

enum blob_result dir_op_copy(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_tmp tmp = DIR_TMP_INIT;
	struct dir_blob source, after;
	enum blob_result result;
	int fd, fd_again, err = dir_name_check(req->in.copy.source);

	if (err || dir_name_own(req->in.copy.source))
		return dir_errno(req, -EINVAL);
	result = dir_cond_check(job, false);
	if (result != BLOB_OK)
		return result;
	err = open_source(job, &fd, &source);
	if (err)
		return source_failed(req, err);
	err = copy_object(job, fd, &source, &tmp);
	if (!err)
		err = seal_copy(job, &source, &tmp);
	dir_blob_fini(&source);
	close(fd);
	result = err ? dir_errno(req, err) : BLOB_OK;
	if (!err) {
		/* Was it that, all the time? */
		err = open_source(job, &fd_again, &after);
		if (err) {
			result = source_failed(req, err);
		} else {
			dir_blob_fini(&after);
			close(fd_again);
			result = dir_publish(job, &tmp);
		}
	}
	dir_tmp_drop(job->root, &tmp);
	if (result == BLOB_OK)
		dir_stage_drop(job->root, req->name);
	return result;
}

/* ---- DELETE ---- */

static int unlink_file(struct dir_job *job, int parent, const char *last,
	const struct dir_blob *before, char trash[24])
{
	struct dir_root *root = job->root;
	struct dir_blob out;
	int fd, err;
	bool same;

	snprintf(trash, 24, "d%016" PRIx64, dir_random());
	if (renameat2(parent, last, root->tmp_fd, trash, RENAME_NOREPLACE) <
			0 &&
		((errno != EINVAL && errno != ENOSYS) ||
			renameat(parent, last, root->tmp_fd, trash) < 0))
		return -errno;
	fd = openat(root->tmp_fd, trash, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	err = fd < 0 ? -errno : dir_blob_load(root, fd, false, &out);
	if (fd >= 0)
		close(fd);
	same = !err && dir_blob_same(&out, before);
	if (!err)
		dir_blob_fini(&out);
	if (same)
		return 0;
	/* Not what we were asked to delete: back with it.  If the name was
	 * taken meanwhile it stays in tmp/, where a week is time to find it. */
	if (renameat2(root->tmp_fd, trash, parent, last, RENAME_NOREPLACE) < 0)
		return -EUCLEAN;
	return err ? err : -ESTALE;
}

static int delete_locked(struct dir_job *job, int parent, const char *last,
	char trash[24], struct dir_stat *ret_st)
{
	struct dir_blob blob;
	int err, fd = openat(parent, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	err = dir_blob_load(job->root, fd, false, &blob);
	close(fd);
	if (err)
		return err;
	*ret_st = blob.st;
	if (strcmp(blob.etag, job->req->cond.if_match) != 0)
		err = -ESTALE;
	else if (!S_ISDIR(blob.st.mode))
		err = unlink_file(job, parent, last, &blob, trash);
	else if (unlinkat(parent, last, AT_REMOVEDIR) < 0)
		err = errno == EEXIST ? -ENOTEMPTY : -errno;
	dir_blob_fini(&blob);
	return err;
}

enum blob_result dir_op_delete(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_root *root = job->root;
	enum blob_result result = dir_cond_check(job, true);
	struct dir_stat st;
	char trash[24] = "";
	const char *last;
	int parent, err;

	if (result != BLOB_OK)
		return result;
	err = dir_root_prepare(root);
	if (!err)
		err = dir_open_parent(root, req->name, &parent, &last);
	if (err)
		return dir_errno(req, err);
	dir_publish_lock(job);
	err = delete_locked(job, parent, last, trash, &st);
	if (!err)
		dir_implicit_prune(root, req->name);
	dir_publish_unlock(job);
	if (!err) {
		/* First: once it is unlinked its number may be another's. */
		dir_side_drop(root, &st);
		if (trash[0])
			unlinkat(root->tmp_fd, trash, 0);
		if (fsync(parent) < 0 || fsync(root->tmp_fd) < 0)
			err = -EUCLEAN;
	}
	close(parent);
	if (err == -EUCLEAN) {
		req->uncertain = true;
		return dir_fail(req, BLOB_AMBIGUOUS, -EIO, "SyncFailed");
	}
	return err ? dir_errno(req, err) : BLOB_OK;
}
