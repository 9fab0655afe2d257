/*
 * The write-back journal: directory renames, one row each until their turn.
 *
 * There are few of them at any time, so questions about a name go through
 * them all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owed.h"

void cache_owed_prefix_fini(struct cache_owed_prefix *row)
{
	free(row->old_dir);
	free(row->new_dir);
	free(row->cursor);
	row->old_dir = row->new_dir = row->cursor = NULL;
}

static void read_row(struct cache_query *q, struct cache_owed_prefix *ret)
{
	ret->seq = cache_db_u64(q);
	ret->epoch = cache_db_u64(q);
	ret->old_dir = cache_db_take_text(q);
	ret->new_dir = cache_db_take_text(q);
	ret->deleting = cache_db_i64(q) != 0;
	ret->cursor = cache_db_take_text(q);
}

int cache_owed_prefix_add(struct cache_txn *txn, struct cache_owed_prefix *row)
{
	struct cache_query q;
	int err = cache_db_number(txn, CACHE_COUNT_OWED, &row->seq);

	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"INSERT INTO owed_prefix(seq, epoch, old_dir, new_dir, "
		"deleting, cursor) VALUES (?, ?, ?, ?, ?, ?)");
	cache_db_bind_u64(&q, row->seq);
	cache_db_bind_u64(&q, row->epoch);
	cache_db_bind_name(&q, row->old_dir);
	cache_db_bind_name(&q, row->new_dir);
	cache_db_bind_i64(&q, row->deleting);
	cache_db_bind_name(&q, row->cursor);
	return cache_db_run(&q);
}

int cache_owed_prefix_put(
	struct cache_txn *txn, const struct cache_owed_prefix *row)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"UPDATE owed_prefix SET epoch = ?, old_dir = ?, new_dir = ?, "
		"deleting = ?, cursor = ? WHERE seq = ?");
	cache_db_bind_u64(&q, row->epoch);
	cache_db_bind_name(&q, row->old_dir);
	cache_db_bind_name(&q, row->new_dir);
	cache_db_bind_i64(&q, row->deleting);
	cache_db_bind_name(&q, row->cursor);
	cache_db_bind_u64(&q, row->seq);
	err = cache_db_run(&q);
	if (err == 0 && cache_db_changes(txn) == 0)
		err = -ENOENT;
	return err;
}

int cache_owed_prefix_del(struct cache_txn *txn, uint64_t seq)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn, "DELETE FROM owed_prefix WHERE seq = ?");
	cache_db_bind_u64(&q, seq);
	err = cache_db_run(&q);
	if (err == 0 && cache_db_changes(txn) == 0)
		err = -ENOENT;
	return err;
}

int cache_owed_prefix_each(
	struct cache_txn *txn, cache_owed_prefix_fn each, void *arg)
{
	struct cache_owed_prefix row;
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT seq, epoch, old_dir, new_dir, deleting, cursor FROM "
		"owed_prefix ORDER BY seq");
	while ((err = cache_db_step(&q)) > 0) {
		read_row(&q, &row);
		err = each(arg, &row);
		cache_owed_prefix_fini(&row);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

int cache_owed_prefix_first(
	struct cache_txn *txn, uint64_t epoch, struct cache_owed_prefix *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT seq, epoch, old_dir, new_dir, deleting, cursor FROM "
		"owed_prefix WHERE epoch <= ? ORDER BY epoch, seq LIMIT 1");
	cache_db_bind_u64(&q, epoch > INT64_MAX ? INT64_MAX : epoch);
	err = cache_db_one(&q);
	if (err == 0)
		read_row(&q, ret);
	return cache_db_end(&q, err);
}

/* Is `name` the directory, or below it? */
static bool covers(const char *dir, const char *name)
{
	size_t len = strlen(dir);

	return len == 0 ||
		(strncmp(name, dir, len) == 0 &&
			(name[len] == '\0' || name[len] == '/'));
}

/* Is the name below a renamed directory; with `both`, or the other way
 * round? */
static int touches(struct cache_txn *txn, const char *name, uint64_t upto_seq,
	bool both, bool *ret)
{
	struct cache_query q;
	bool found = false;
	int err;

	cache_db_begin(&q, txn,
		"SELECT seq, epoch, old_dir, new_dir, deleting, cursor FROM "
		"owed_prefix WHERE seq <= ?");
	cache_db_bind_u64(&q, upto_seq);
	while (!found && (err = cache_db_step(&q)) > 0) {
		struct cache_owed_prefix row;

		read_row(&q, &row);
		found = covers(row.old_dir, name) || covers(row.new_dir, name);
		if (both && !found)
			found = covers(name, row.old_dir) ||
				covers(name, row.new_dir);
		cache_owed_prefix_fini(&row);
	}
	if (found)
		err = 0;
	if (err == 0)
		*ret = found;
	return cache_db_end(&q, err);
}

int cache_owed_prefix_covers(struct cache_txn *txn, const char *name, bool *ret)
{
	return touches(txn, name, INT64_MAX, false, ret);
}

int cache_owed_prefix_touches(
	struct cache_txn *txn, const char *path, uint64_t upto_seq, bool *ret)
{
	return touches(txn, path, upto_seq, true, ret);
}
