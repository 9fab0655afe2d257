/* The commands that work on trees: flush, pin and unpin, evict. */
#include "fs/control_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EVICT_BATCH 64
/* Paths that are told of one by one; the others are counted. */
#define FAILURES_MAX 16

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static const char *shown(const char *path)
{
	return path[0] != '\0' ? path : "/";
}

/* ---- flush ---- */

static int tell_pending(void *arg)
{
	struct fs_control_conn *conn = arg;
	struct tier_status status;
	int err = tier_status(conn->m->tier, &status);

	if (err < 0)
		return err;
	return fs_control_say(conn,
		json_pack("{s:I, s:I, s:I, s:o, s:b}", "pending",
			(json_int_t)status.pending, "dirty_bytes",
			(json_int_t)status.dirty_bytes, "sent_bytes",
			(json_int_t)status.sent_bytes, "held_by",
			status.held_by[0] != '\0' ? fs_path_json(status.held_by)
						  : json_null(),
			"store_up", status.store_up));
}

static int flush_one(struct fs_control_conn *conn, const char *path)
{
	struct fs_pending pending;
	struct fs_waits waits;
	int err = fs_waits_init(&waits);

	if (err < 0)
		return err;
	tier_flush(conn->m->tier, path, fs_pending_arm(&pending, &waits));
	err = fs_waits_one(&waits, conn, &pending, tell_pending, conn);
	fs_waits_fini(&waits);
	return err;
}

json_t *fs_control_flush(struct fs_control_conn *conn, const json_t *request)
{
	json_t *failures = NULL;
	char **paths;
	size_t nr;
	int err = 0;

	if (fs_control_paths(request, &paths, &nr, &failures) < 0)
		return failures;
	for (size_t i = 0; i < nr && err == 0; i++) {
		err = flush_one(conn, paths[i]);
		if (err < 0)
			failures = fs_control_error(err, "%s: %s",
				shown(paths[i]),
				err == -EIO
					? "something there was refused by the "
					  "store and set aside; see forebay "
					  "status --pending"
					: err == -ECANCELED
					? "the mount ends; the next one goes on"
					: strerrordesc_np(-err));
	}
	fs_control_paths_free(paths, nr);
	return err < 0 ? failures : json_pack("{s:b}", "done", 1);
}

/* ---- pin ---- */

static int set_pin(struct fs_mount *m, uint64_t ino, bool pinned)
{
	struct cache_txn *txn;
	int err = cache_write(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_pin_set(txn, ino, pinned);
	return cache_end(txn, err);
}

json_t *fs_control_pin(struct fs_control_conn *conn, const json_t *request)
{
	const char *cmd = json_string_value(json_object_get(request, "cmd"));
	struct cache_inode inode;
	json_t *failure = NULL;
	char **paths;
	size_t nr;
	int err = 0;

	if (fs_control_paths(request, &paths, &nr, &failure) < 0)
		return failure;
	for (size_t i = 0; i < nr && err == 0; i++) {
		err = fs_control_resolve(conn, paths[i], &inode);
		if (err == 0)
			err = set_pin(conn->m, inode.ino, cmd[0] == 'p');
		if (err < 0)
			failure = fs_control_error(err, "%s: %s",
				shown(paths[i]), strerrordesc_np(-err));
	}
	/* Said so: it must survive a power cut. */
	if (err == 0)
		err = cache_sync_index(conn->m->cache);
	if (err < 0 && failure == NULL)
		failure = fs_control_error(
			err, "the index: %s", strerrordesc_np(-err));
	fs_control_paths_free(paths, nr);
	return err < 0
		? failure
		: json_pack("{s:b, s:I}", "done", 1, "paths", (json_int_t)nr);
}

/* ---- evict ---- */

struct evict {
	struct fs_control_conn *conn;
	uint64_t files, bytes, kept_busy, kept_pinned;
	json_t *failures;
};

static int evict_inode(struct evict *e, const struct cache_inode *inode)
{
	uint64_t bytes = 0;
	int err;

	if (inode->data == CACHE_NONE)
		return 0;
	err = cache_evict_inode(e->conn->m->cache, inode->ino, &bytes);
	if (err == 0) {
		e->files++;
		e->bytes += bytes;
	} else if (err == -EBUSY) {
		e->kept_busy++;
	} else if (err == -EPERM) {
		e->kept_pinned++;
	}
	return err;
}

static int tell_evicted(struct evict *e)
{
	return fs_control_say(e->conn,
		json_pack("{s:I, s:I}", "files", (json_int_t)e->files, "bytes",
			(json_int_t)e->bytes));
}

static int evict_tree(struct evict *e, const struct cache_inode *root)
{
	struct cache_inode batch[EVICT_BATCH];
	struct fs_walk walk;
	ssize_t n;
	int err = 0;

	fs_walk_init(&walk, e->conn->m->cache, root);
	while (err == 0 && (n = fs_walk_next(&walk, batch, EVICT_BATCH)) != 0) {
		err = n < 0 ? (int)n : 0;
		for (ssize_t i = 0; i < n && err == 0; i++) {
			err = evict_inode(e, &batch[i]);
			if (err == -EBUSY || err == -EPERM || err == -ENOENT)
				err = 0;
		}
		if (err == 0)
			err = tell_evicted(e);
	}
	fs_walk_fini(&walk);
	return err;
}

static void add_failure(struct evict *e, const char *path, int err)
{
	const char *text = err == -EBUSY
		? "in use, or not in the store yet: close it, or forebay flush "
		  "it first"
		: err == -EPERM ? "pinned: forebay unpin it first"
				: strerrordesc_np(-err);

	if (json_array_size(e->failures) < FAILURES_MAX)
		json_array_append_new(e->failures,
			json_pack("{s:o, s:s}", "path",
				fs_path_json(shown(path)), "error", text));
}

json_t *fs_control_evict(struct fs_control_conn *conn, const json_t *request)
{
	struct evict e = { .conn = conn };
	struct cache_inode inode;
	json_t *error = NULL;
	char **paths;
	size_t nr;
	int err = 0;

	if (fs_control_paths(request, &paths, &nr, &error) < 0)
		return error;
	e.failures = json_array();
	for (size_t i = 0; i < nr && err != -EPIPE && err != -ECANCELED; i++) {
		err = fs_control_resolve(conn, paths[i], &inode);
		if (err == 0)
			err = inode.kind == CACHE_DIR ? evict_tree(&e, &inode)
						      : evict_inode(&e, &inode);
		if (err < 0)
			add_failure(&e, paths[i], err);
	}
	fs_control_paths_free(paths, nr);
	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "done", 1, "files",
		number(e.files), "bytes", number(e.bytes), "kept_busy",
		number(e.kept_busy), "kept_pinned", number(e.kept_pinned),
		"failures", e.failures);
}
