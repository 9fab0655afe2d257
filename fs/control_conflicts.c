/*
 * Lost races: telling of them, and settling one.
 *
 * To settle is to do what a user could do by hand, in one transaction, and to
 * forget the conflict: the copy is moved over the name (mine), removed
 * (theirs), or left as the ordinary file that it is (both).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/control_priv.h"
#include "fs/notify.h"
#include "fs/ops.h"

static bool is_below(const char *name, const char *dir)
{
	size_t len = strlen(dir);

	return len == 0 ||
		(strncmp(name, dir, len) == 0 &&
			(name[len] == '/' || name[len] == '\0'));
}

static double seconds(int64_t ns)
{
	return ns > 0 ? (double)ns / 1e9 : 0;
}

/* ---- telling ---- */

struct list {
	json_t *rows;
	const char *below;
	struct cache_txn *txn;
	char host[256];
};

/* Other hosts are known by the id in their commits; other tools have none. */
static json_t *host_json(const struct cache_id *host)
{
	char hex[2 * CACHE_ID_BYTES + 1];

	if (cache_id_is_none(host))
		return json_null();
	for (size_t i = 0; i < CACHE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", host->bytes[i]);
	return json_string(hex);
}

static json_t *side_json(uint64_t size, int64_t mtime_ns, json_t *host)
{
	return json_pack("{s:I, s:f, s:o}", "size", (json_int_t)size, "mtime",
		seconds(mtime_ns), "host", host);
}

static int add(void *arg, const struct cache_conflict *c)
{
	struct list *list = arg;
	bool here_only = false;
	json_t *remote;
	int err;

	if (!is_below(c->name, list->below) && !is_below(c->copy, list->below))
		return 0;
	err = cache_owed_is_aside(list->txn, c->copy, &here_only);
	if (err < 0)
		return err;
	remote = side_json(c->remote_size_bytes, c->remote_mtime_ns,
		host_json(&c->remote_host));
	json_object_set_new(remote, "etag", json_string(c->remote_etag));
	json_array_append_new(list->rows,
		json_pack("{s:I, s:o, s:o, s:b, s:f, s:o, s:o}", "id",
			(json_int_t)c->id, "name", fs_path_json(c->name),
			"copy", fs_path_json(c->copy), "here_only", here_only,
			"found", seconds(c->found_ns), "local",
			side_json(c->local_size_bytes, c->local_mtime_ns,
				fs_path_json(list->host)),
			"remote", remote));
	return 0;
}

json_t *fs_control_conflicts(
	struct fs_control_conn *conn, const json_t *request)
{
	struct base_str below = BASE_STR_INIT;
	struct list list = { .rows = json_array() };
	size_t i;
	json_t *row;
	int err = fs_path_of_json(json_object_get(request, "path"), &below);

	gethostname(list.host, sizeof(list.host) - 1);
	if (err == 0)
		err = cache_read(conn->m->cache, &list.txn);
	if (err == 0) {
		list.below = below.data ? below.data : "";
		err = cache_conflict_each(list.txn, add, &list);
		cache_abort(list.txn);
	}
	json_array_foreach(list.rows, i, row)
	{
		if (err == 0)
			err = fs_control_say(conn,
				json_pack("{s:o}", "row", json_incref(row)));
	}
	json_decref(list.rows);
	base_str_fini(&below);
	if (err < 0)
		return fs_control_error(err, "the conflicts cannot be read: %s",
			strerrordesc_np(-err));
	return json_pack("{s:b}", "done", 1);
}

/* ---- settling ---- */

enum keep { KEEP_MINE, KEEP_THEIRS, KEEP_BOTH, KEEP_NONE };

/* The conflicts that a path means: that of a copy, or all of a name. */
struct chosen {
	const char *path;
	struct {
		uint64_t id;
		char *name, *copy;
	} * v;
	size_t nr;
};

static int choose(void *arg, const struct cache_conflict *c)
{
	struct chosen *chosen = arg;

	if (strcmp(c->name, chosen->path) != 0 &&
		strcmp(c->copy, chosen->path) != 0)
		return 0;
	chosen->v =
		base_realloc(chosen->v, (chosen->nr + 1) * sizeof(*chosen->v));
	chosen->v[chosen->nr].id = c->id;
	chosen->v[chosen->nr].name = base_strdup(c->name);
	chosen->v[chosen->nr++].copy = base_strdup(c->copy);
	return 0;
}

static void chosen_fini(struct chosen *chosen)
{
	for (size_t i = 0; i < chosen->nr; i++) {
		free(chosen->v[i].name);
		free(chosen->v[i].copy);
	}
	free(chosen->v);
}

static int find(struct fs_mount *m, struct chosen *chosen)
{
	struct cache_txn *txn;
	int err = cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_conflict_each(txn, choose, chosen);
	cache_abort(txn);
	return err;
}

static int forget(struct fs_mount *m, uint64_t id)
{
	struct cache_txn *txn;
	int err = cache_write(m->cache, &txn);

	if (err == 0)
		err = fs_commit(m, txn, cache_conflict_del(txn, id));
	return err == -ENOENT ? 0 : err; /* taking the copy away did it */
}

/* The directory of a path, and the name in it. */
struct place {
	uint64_t parent;
	const char *name;
};

/* Makes the name current, whether or not it is there. */
static int locate(
	struct fs_control_conn *conn, const char *path, struct place *ret)
{
	const char *slash = strrchr(path, '/');
	char *dir = base_strdup(path);
	struct cache_inode inode;
	int err;

	dir[slash != NULL ? slash - path : 0] = '\0';
	err = fs_control_resolve(conn, dir, &inode);
	free(dir);
	ret->parent = inode.ino;
	ret->name = slash != NULL ? slash + 1 : path;
	if (err == 0)
		err = fs_control_resolve(conn, path, &inode);
	return err;
}

static int settle_one(struct fs_control_conn *conn, enum keep keep, uint64_t id,
	const char *name, const char *copy)
{
	struct fs_mount *m = conn->m;
	struct place from, to = { 0 };
	int err = 0;

	if (keep != KEEP_BOTH)
		err = locate(conn, copy, &from);
	if (err == -ENOENT && keep == KEEP_THEIRS)
		return forget(m, id); /* somebody has removed it already */
	if (err == 0 && keep == KEEP_MINE)
		err = locate(conn, name, &to);
	if (err == -ENOENT && keep == KEEP_MINE && to.name != NULL)
		err = 0; /* they have removed it since */
	if (err == 0 && keep == KEEP_MINE)
		err = fs_rename_name(
			m, from.parent, from.name, to.parent, to.name);
	else if (err == 0 && keep == KEEP_THEIRS)
		err = fs_unlink_name(m, from.parent, from.name);
	if (err < 0)
		return err;
	if (keep != KEEP_BOTH)
		fs_notify_entry(m->notify, from.parent, from.name);
	if (keep == KEEP_MINE)
		fs_notify_entry(m->notify, to.parent, to.name);
	return forget(m, id);
}

static json_t *settle(
	struct fs_control_conn *conn, const char *path, enum keep keep)
{
	struct chosen chosen = { .path = path };
	json_t *answer = NULL;
	int err = find(conn->m, &chosen);

	if (err < 0)
		answer = fs_control_error(err,
			"the conflicts cannot be read: %s",
			strerrordesc_np(-err));
	else if (chosen.nr == 0)
		answer = fs_control_error(
			-ENOENT, "%s: no conflict is known of it", path);
	else if (keep == KEEP_MINE && chosen.nr > 1)
		answer = fs_control_error(-EINVAL,
			"%s: there are %zu copies of it; name the one to keep",
			path, chosen.nr);
	for (size_t i = 0; i < chosen.nr && answer == NULL; i++) {
		err = settle_one(conn, keep, chosen.v[i].id, chosen.v[i].name,
			chosen.v[i].copy);
		if (err < 0)
			answer = fs_control_error(err, "%s: %s",
				chosen.v[i].copy, strerrordesc_np(-err));
	}
	if (answer == NULL)
		answer = json_pack("{s:b, s:I}", "done", 1, "settled",
			(json_int_t)chosen.nr);
	chosen_fini(&chosen);
	return answer;
}

json_t *fs_control_settle(struct fs_control_conn *conn, const json_t *request)
{
	static const char *const words[] = { "mine", "theirs", "both" };
	const char *word = json_string_value(json_object_get(request, "keep"));
	struct base_str path = BASE_STR_INIT;
	enum keep keep = KEEP_MINE;
	json_t *answer;

	while (keep < KEEP_NONE &&
		(word == NULL || strcmp(word, words[keep]) != 0))
		keep++;
	if (keep == KEEP_NONE ||
		fs_path_of_json(json_object_get(request, "path"), &path) < 0)
		answer = fs_control_error(-EINVAL, "not a request");
	else if (conn->m->opt.ro)
		answer = fs_control_error(-EROFS, "the mount is read-only");
	else
		answer = settle(conn, path.data ? path.data : "", keep);
	base_str_fini(&path);
	return answer;
}
