/*
 * The `dir:` store: opening it, noticing that its directory has gone or is
 * another, and what -errno means to a caller.  See dir_priv.h.
 */
#include "blob/dir.h"
#include "blob/dir_priv.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum blob_result dir_fail(struct blob_req *req, enum blob_result result,
	int err, const char *code)
{
	req->err = err;
	snprintf(req->code, sizeof(req->code), "%s", code);
	return result;
}

enum blob_result dir_errno(struct blob_req *req, int err)
{
	static const struct {
		int err, shown;
		enum blob_result result;
		const char *code;
	} map[] = {
		{ -ENOENT, -ENOENT, BLOB_NOT_FOUND, "BlobNotFound" },
		{ -ENOTDIR, -ENOTDIR, BLOB_REFUSED, "ParentIsNotADirectory" },
		{ -ELOOP, -ENOTDIR, BLOB_REFUSED, "ParentIsNotADirectory" },
		{ -ENAMETOOLONG, -ENAMETOOLONG, BLOB_NAME, "NameTooLong" },
		{ -EINVAL, -EINVAL, BLOB_NAME, "InvalidName" },
		{ -EACCES, -EACCES, BLOB_DENIED, "PermissionDenied" },
		{ -EPERM, -EACCES, BLOB_DENIED, "PermissionDenied" },
		{ -EROFS, -EROFS, BLOB_DENIED, "ReadOnly" },
		{ -ENOSPC, -ENOSPC, BLOB_UNAVAILABLE, "NoSpace" },
		{ -EDQUOT, -ENOSPC, BLOB_UNAVAILABLE, "NoSpace" },
		{ -EFBIG, -E2BIG, BLOB_TOO_LARGE, "FileTooLarge" },
		{ -E2BIG, -E2BIG, BLOB_TOO_LARGE, "MetadataTooLarge" },
		{ -ENOTEMPTY, -ENOTEMPTY, BLOB_BUSY, "DirectoryNotEmpty" },
		{ -EBUSY, -EBUSY, BLOB_BUSY, "Busy" },
		{ -EXDEV, -EOPNOTSUPP, BLOB_UNSUPPORTED, "CrossDevice" },
		{ -EOPNOTSUPP, -EOPNOTSUPP, BLOB_UNSUPPORTED, "Unsupported" },
		{ -EEXIST, -EEXIST, BLOB_CONDITION, "BlobAlreadyExists" },
		{ -ESTALE, -EEXIST, BLOB_CONDITION, "ConditionNotMet" },
		{ -EILSEQ, -EIO, BLOB_CORRUPT, "Md5Mismatch" },
		{ -EINTR, -EINTR, BLOB_STOPPED, "Stopped" },
		{ -ETIMEDOUT, -EIO, BLOB_UNAVAILABLE, "OperationTimedOut" },
		{ -ENXIO, -ENXIO, BLOB_NO_CONTAINER, "ContainerNotFound" },
	};
	char code[32];

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		if (map[i].err == err)
			return dir_fail(
				req, map[i].result, map[i].shown, map[i].code);
	}
	snprintf(code, sizeof(code), "Errno%d", -err);
	return dir_fail(req, BLOB_UNAVAILABLE, -EIO, code);
}

/* ---- the root, and whether it is there ---- */

static void root_put(struct blob_dir *store, struct dir_root *root)
{
	bool last;

	base_lock(&store->lock);
	last = --root->refs == 0;
	base_unlock(&store->lock);
	if (last)
		dir_root_free(root);
}

static void report(struct blob_dir *store, enum blob_state state, int err)
{
	char why[256] = "";

	base_lock(&store->state_lock);
	if (atomic_load(&store->state) == (int)state) {
		base_unlock(&store->state_lock);
		return;
	}
	atomic_store(&store->state, (int)state);
	base_unlock(&store->state_lock);
	if (state != BLOB_STATE_UP)
		snprintf(why, sizeof(why), "%s: %s", store->path,
			err == -ESTALE ? "another directory is in its place"
				       : strerror(-err));
	if (store->state_changed)
		store->state_changed(store->state_arg, state, why);
	base_lock(&store->lock);
	pthread_cond_signal(&store->watch);
	base_unlock(&store->lock);
}

/* What .forebay/id of this root holds, NULL if it has none. */
static char *read_id(struct dir_root *root, size_t *ret_len)
{
	char buf[1024];
	ssize_t n = -1;
	int fd = dir_open_beneath(
		root->fd, ".forebay/id", O_RDONLY | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0) {
		n = read(fd, buf, sizeof(buf));
		close(fd);
	}
	*ret_len = n > 0 ? (size_t)n : 0;
	return n > 0 ? base_memdup(buf, (size_t)n) : NULL;
}

/* Another directory stands at PATH: take it if it is the same container. */
static int root_replace(struct blob_dir *store)
{
	struct dir_root *fresh, *old;
	size_t len;
	char *id;
	int err = dir_root_open(store->path, &fresh);

	if (err)
		return err;
	id = read_id(fresh, &len);
	base_lock(&store->lock);
	if (store->id_known &&
		(len != store->id_len || memcmp(id, store->id, len) != 0)) {
		base_unlock(&store->lock);
		free(id);
		dir_root_free(fresh);
		return -ESTALE;
	}
	old = store->root;
	store->root = fresh;
	base_unlock(&store->lock);
	free(id);
	if (old)
		root_put(store, old);
	return 0;
}

/* Is PATH still what we opened?  Asked before every request: a reservoir that
 * was unmounted must not be filled below its mount point. */
static int root_check(struct blob_dir *store)
{
	struct stat st;
	bool same;

	if (stat(store->path, &st) < 0)
		return -errno;
	base_lock(&store->lock);
	same = store->root && store->root->dev == st.st_dev &&
		store->root->ino == st.st_ino &&
		!atomic_load(&store->root->stale);
	base_unlock(&store->lock);
	return same ? 0 : root_replace(store);
}

static int root_get(struct blob_dir *store, struct dir_root **ret)
{
	int err = root_check(store);

	if (err == 0) {
		report(store, BLOB_STATE_UP, 0);
		base_lock(&store->lock);
		*ret = store->root;
		store->root->refs++;
		base_unlock(&store->lock);
		return 0;
	}
	report(store, err == -EACCES ? BLOB_STATE_DENIED : BLOB_STATE_GONE,
		err);
	return err == -EACCES ? -EACCES : -ENXIO;
}

/* Remembers the container's id once it is there, so that another directory in
 * its place is noticed. */
static void learn_id(struct dir_job *job)
{
	struct blob_dir *store = job->store;
	char *id, *old;
	size_t len;

	id = read_id(job->root, &len);
	base_lock(&store->lock);
	old = store->id;
	store->id = id;
	store->id_len = len;
	store->id_known = id != NULL;
	base_unlock(&store->lock);
	free(old);
}

/* ---- a request ---- */

static enum blob_result run(struct dir_job *job)
{
	struct blob_req *req = job->req;
	int err = 0;

	if (!(req->op == BLOB_LIST && req->name[0] == '\0'))
		err = dir_name_check(req->name);
	if (err == 0 && dir_name_own(req->name))
		return dir_fail(req, BLOB_NAME, -EINVAL, "ReservedName");
	if (err)
		return dir_errno(req, err);
	switch (req->op) {
	case BLOB_HEAD:
		return dir_op_head(job);
	case BLOB_GET:
		return dir_op_get(job);
	case BLOB_LIST:
		return dir_op_list(job);
	case BLOB_PUT:
		return dir_op_put(job);
	case BLOB_PUT_BLOCK:
		return dir_op_put_block(job);
	case BLOB_PUT_BLOCK_URL:
		return dir_op_put_block_url(job);
	case BLOB_COMMIT:
		return dir_op_commit(job);
	case BLOB_GET_BLOCKS:
		return dir_op_get_blocks(job);
	case BLOB_DELETE:
		return dir_op_delete(job);
	case BLOB_COPY:
		return dir_op_copy(job);
	case BLOB_SET_META:
		return dir_op_set_meta(job);
	case BLOB_GET_TAGS: /* a directory has none, and never says so */
		break;
	}
	return dir_fail(req, BLOB_UNSUPPORTED, -EOPNOTSUPP, "UnknownOperation");
}

enum blob_result dir_run(struct dir_job *job)
{
	enum blob_result result;
	int err = root_get(job->store, &job->root);

	if (err)
		return dir_errno(job->req, err);
	result = run(job);
	if (strcmp(job->req->name, ".forebay/id") == 0)
		learn_id(job);
	root_put(job->store, job->root);
	return result;
}

void dir_probe(struct blob_dir *store)
{
	struct dir_root *root;

	if (root_get(store, &root) == 0)
		root_put(store, root);
}

/* ---- open and close ---- */

static void store_free(struct blob_dir *store)
{
	dir_cursors_free(store);
	if (store->root)
		dir_root_free(store->root);
	base_mutex_fini(&store->lock);
	base_mutex_fini(&store->state_lock);
	base_mutex_fini(&store->publish);
	base_mutex_fini(&store->cursor_lock);
	pthread_cond_destroy(&store->work);
	pthread_cond_destroy(&store->watch);
	free(store->threads);
	free(store->id);
	free(store->path);
	free(store);
}

static void dir_close(struct blob_store *base)
{
	struct blob_dir *store = (struct blob_dir *)base;

	dir_pool_stop(store);
	store_free(store);
}

static int name_check(struct blob_store *base, const char *path)
{
	(void)base;
	return dir_name_own(path) ? -EINVAL : dir_name_check(path);
}

static const struct blob_store_ops ops = {
	.submit = dir_submit,
	.cancel = dir_cancel,
	.close = dir_close,
	.name_check = name_check,
};

static struct blob_dir *store_new(
	const struct blob_config *config, const char *path)
{
	struct blob_dir *store = base_calloc(1, sizeof(*store));

	store->base.ops = &ops;
	store->path = base_strdup(path);
	store->timeout_ms =
		config->timeout_ms ? config->timeout_ms : DIR_TIMEOUT_MS;
	store->state_changed = config->state_changed;
	store->state_arg = config->arg;
	store->threads_nr = config->threads ? config->threads : DIR_THREADS;
	if (store->threads_nr > DIR_THREADS_MAX)
		store->threads_nr = DIR_THREADS_MAX;
	/* None is ever taken while another is held. */
	base_mutex_init(&store->lock, BASE_RANK_BLOB_STORE);
	base_mutex_init(&store->state_lock, BASE_RANK_BLOB_STORE);
	base_mutex_init(&store->publish, BASE_RANK_BLOB_STORE);
	base_mutex_init(&store->cursor_lock, BASE_RANK_BLOB_STORE);
	base_cond_init(&store->work);
	base_cond_init(&store->watch);
	atomic_store(&store->state, BLOB_STATE_UP);
	return store;
}

int blob_dir_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes)
{
	const char *path = config->url;
	struct blob_dir *store;
	int err;

	if (strncmp(path, "dir:", 4) == 0)
		path += 4;
	if (path[0] != '/') {
		snprintf(ret_why, why_bytes,
			"%s: not an absolute path; write dir:/PATH",
			config->url);
		return -EINVAL;
	}
	store = store_new(config, path);
	/* One that is away may come back: that is for the first request to
	 * find out, and for whom that is no use, to say. */
	err = dir_root_open(path, &store->root);
	if (err == -ENOENT)
		err = 0;
	if (err) {
		snprintf(ret_why, why_bytes, "%s: %s; make the directory first",
			path, strerror(-err));
		store_free(store);
		return err;
	}
	if (store->root)
		store->id = read_id(store->root, &store->id_len);
	store->id_known = store->id != NULL;
	err = dir_pool_start(store);
	if (err) {
		snprintf(ret_why, why_bytes,
			"%s: cannot start %u threads; raise the limit (ulimit "
			"-u)",
			path, store->threads_nr);
		store_free(store);
		return err;
	}
	*ret_store = &store->base;
	return 0;
}
