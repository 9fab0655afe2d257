/*
 * What the store holds under each name.
 *
 * known_seq only grows; `meta` holds a number above all of them, raised in
 * steps, so that a restart need not look at every row.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/path.h"

#define KNOWN_SEQ_STEP 65536

#define COLUMNS                                                       \
	"name, etag, size, kind, slash, md5, content, file, "         \
	"commit_host, commit_number, parents, mode, uid, gid, rdev, " \
	"mtime_ns, \"foreign\", known_seq, list, access"

void cache_remote_fini(struct cache_remote *remote)
{
	free(remote->name);
	free(remote->parents);
	free(remote->foreign);
	remote->name = NULL;
	remote->parents = remote->foreign = NULL;
}

/* An MD5 or a digest: whether there is one. */
static bool read_sum(struct cache_query *q, uint8_t ret[16])
{
	struct cache_id sum;

	static_assert(sizeof(sum) == 16, "a sum has 16 bytes");
	cache_db_id(q, &sum);
	memcpy(ret, sum.bytes, sizeof(sum));
	return !cache_id_is_none(&sum);
}

static void read_attrs(struct cache_query *q, struct cache_attrs *ret)
{
	ret->mode = (uint32_t)cache_db_i64(q);
	ret->uid = (uint32_t)cache_db_i64(q);
	ret->gid = (uint32_t)cache_db_i64(q);
	ret->rdev = cache_db_u64(q);
	ret->mtime_ns = cache_db_i64(q);
}

static void read_remote(struct cache_query *q, struct cache_remote *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->name = cache_db_take_text(q);
	cache_db_text(q, ret->etag, sizeof(ret->etag));
	ret->size_bytes = cache_db_u64(q);
	ret->kind = (enum cache_kind)cache_db_i64(q);
	ret->slash = cache_db_i64(q) != 0;
	ret->has_md5 = read_sum(q, ret->md5);
	cache_db_id(q, &ret->content);
	cache_db_id(q, &ret->file);
	cache_db_id(q, &ret->commit_host);
	ret->commit_number = cache_db_u64(q);
	ret->parents = cache_db_take_blob(q, &ret->parents_bytes);
	read_attrs(q, &ret->attrs);
	ret->foreign = cache_db_take_blob(q, &ret->foreign_bytes);
	ret->known_seq = cache_db_u64(q);
	ret->has_list = read_sum(q, ret->list);
	ret->access = (enum cache_access)cache_db_i64(q);
}

static int read_one(struct cache_query *q, struct cache_remote *ret)
{
	int err = cache_db_one(q);

	if (err == 0)
		read_remote(q, ret);
	return cache_db_end(q, err);
}

int cache_remote_get(
	struct cache_txn *txn, const char *name, struct cache_remote *ret)
{
	struct cache_query q;

	cache_db_begin(
		&q, txn, "SELECT " COLUMNS " FROM remote WHERE name = ?");
	cache_db_bind_name(&q, name);
	return read_one(&q, ret);
}

static int raise_known(struct cache_txn *txn, uint64_t seq)
{
	uint64_t top = txn->known_top;

	if (top == 0)
		top = atomic_load(&txn->cache->known_top);
	if (seq < top)
		return 0;
	txn->known_top = seq + KNOWN_SEQ_STEP;
	return cache_meta_set_u64(txn, "known_seq", txn->known_top);
}

int cache_remote_put(struct cache_txn *txn, const struct cache_remote *remote)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"INSERT OR REPLACE INTO remote(" COLUMNS ") VALUES (?, ?, ?, "
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	cache_db_bind_name(&q, remote->name);
	cache_db_bind_name(&q, remote->etag);
	cache_db_bind_u64(&q, remote->size_bytes);
	cache_db_bind_i64(&q, remote->kind);
	cache_db_bind_i64(&q, remote->slash);
	cache_db_bind_blob(
		&q, remote->has_md5 ? remote->md5 : NULL, sizeof(remote->md5));
	cache_db_bind_id(&q, &remote->content);
	cache_db_bind_id(&q, &remote->file);
	cache_db_bind_id(&q, &remote->commit_host);
	cache_db_bind_u64(&q, remote->commit_number);
	cache_db_bind_blob(&q, remote->parents, remote->parents_bytes);
	cache_db_bind_i64(&q, remote->attrs.mode);
	cache_db_bind_i64(&q, remote->attrs.uid);
	cache_db_bind_i64(&q, remote->attrs.gid);
	cache_db_bind_u64(&q, remote->attrs.rdev);
	cache_db_bind_i64(&q, remote->attrs.mtime_ns);
	cache_db_bind_blob(&q, remote->foreign, remote->foreign_bytes);
	cache_db_bind_u64(&q, remote->known_seq);
	cache_db_bind_blob(&q, remote->has_list ? remote->list : NULL,
		sizeof(remote->list));
	cache_db_bind_i64(&q, remote->access);
	err = cache_db_run(&q);
	return err != 0 ? err : raise_known(txn, remote->known_seq);
}

int cache_remote_del(struct cache_txn *txn, const char *name)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "DELETE FROM remote WHERE name = ?");
	cache_db_bind_name(&q, name);
	return cache_db_run_one(&q);
}

int cache_remote_holding(struct cache_txn *txn, const struct cache_id *content,
	const char *prefer, struct cache_remote *ret)
{
	struct cache_query q;
	int err;

	if (cache_id_is_none(content))
		return -ENOENT;
	if (prefer != NULL) {
		cache_db_begin(&q, txn,
			"SELECT " COLUMNS " FROM remote WHERE name = ? "
			"AND content = ?");
		cache_db_bind_name(&q, prefer);
		cache_db_bind_id(&q, content);
		err = read_one(&q, ret);
		if (err != -ENOENT)
			return err;
	}
	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM remote INDEXED BY remote_content "
		"WHERE content = ? LIMIT 1");
	cache_db_bind_id(&q, content);
	return read_one(&q, ret);
}

bool cache_remote_held_twice(
	struct cache_txn *txn, const struct cache_id *content)
{
	struct cache_query q;
	int rows = 0;

	if (cache_id_is_none(content))
		return false;
	cache_db_begin(&q, txn,
		"SELECT 1 FROM remote INDEXED BY remote_content "
		"WHERE content = ? LIMIT 2");
	cache_db_bind_id(&q, content);
	while (rows < 2 && cache_db_step(&q) > 0)
		rows++;
	cache_db_end(&q, 0);
	return rows == 2;
}

/* ---- in order of name ---- */

struct walk {
	const struct cache_range_of *range;
	bool recursive;
	size_t left;
	cache_remote_fn each;
	void *arg;
	/* Where to begin again: beyond a directory that is skipped. */
	struct base_str from;
};

/* The name is in a subdirectory: go on after it.  "a/b/c" below "a" makes
 * "a/b0", the first name that "a/b/..." cannot be. */
static bool skip_below(struct walk *w, const char *name)
{
	const char *rest = name + w->range->dir_len;
	const char *slash = strchr(rest, '/');

	if (w->recursive || slash == NULL)
		return false;
	base_str_clear(&w->from);
	base_str_add(&w->from, name, (size_t)(slash - name));
	base_str_putc(&w->from, '/' + 1);
	return true;
}

/* 1: begin again at w->from; 0: the end; others: as `each` says. */
static int walk_run(struct walk *w, struct cache_query *q, int *ret_each)
{
	struct cache_remote remote;
	bool again = false;
	int err = 0;

	while (w->left != 0 && (err = cache_db_step(q)) > 0) {
		read_remote(q, &remote);
		again = remote.name != NULL && skip_below(w, remote.name);
		if (!again) {
			w->left--;
			*ret_each = w->each(w->arg, &remote);
		}
		cache_remote_fini(&remote);
		if (again || *ret_each != 0)
			break;
	}
	cache_db_end(q, 0);
	return err < 0 ? err : again;
}

int cache_remote_each(struct cache_txn *txn, const char *dir, const char *after,
	bool recursive, size_t max, cache_remote_fn each, void *arg)
{
	struct cache_range_of range;
	struct walk w = { .range = &range,
		.recursive = recursive,
		.left = max,
		.each = each,
		.arg = arg,
		.from = BASE_STR_INIT };
	int err, each_err = 0;

	cache_range_init(&range, dir);
	base_str_add(&w.from, range.from.data, range.from.len);
	if (after != NULL && strcmp(after, w.from.data) >= 0) {
		/* The next that can be: one with a zero byte more. */
		base_str_clear(&w.from);
		base_str_puts(&w.from, after);
		base_str_putc(&w.from, '\0');
	}
	do {
		struct cache_query q;

		if (range.to.len != 0) {
			cache_db_begin(&q, txn,
				"SELECT " COLUMNS " FROM remote WHERE "
				"name >= ? AND name < ? ORDER BY name");
			cache_db_bind_blob(&q, w.from.data, w.from.len);
			cache_db_bind_blob(&q, range.to.data, range.to.len);
		} else {
			cache_db_begin(&q, txn,
				"SELECT " COLUMNS " FROM remote WHERE "
				"name >= ? ORDER BY name");
			cache_db_bind_blob(&q, w.from.data, w.from.len);
		}
		err = walk_run(&w, &q, &each_err);
	} while (err > 0);
	cache_range_fini(&range);
	base_str_fini(&w.from);
	return err != 0 ? err : each_err;
}

int cache_remote_count(struct cache_txn *txn, const char *dir, uint64_t *ret)
{
	struct cache_range_of range;
	struct cache_query q;
	int err;

	cache_range_init(&range, dir);
	cache_db_begin(&q, txn,
		"SELECT count(*) FROM remote WHERE name >= ? AND name < ?");
	cache_db_bind_blob(&q, range.from.data, range.from.len);
	cache_db_bind_blob(&q, range.to.data, range.to.len);
	err = cache_db_one(&q);
	if (err == 0)
		*ret = cache_db_u64(&q);
	err = cache_db_end(&q, err);
	cache_range_fini(&range);
	return err;
}

int cache_remote_max_seq(struct cache_txn *txn, uint64_t *ret)
{
	*ret = txn->known_top != 0 ? txn->known_top
				   : atomic_load(&txn->cache->known_top);
	return 0;
}
