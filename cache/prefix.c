/*
 * The write-back journal: directory renames, one row each until their turn.
 *
 * Questions about a name ask for it and each directory above it: what they cost
 * grows with the depth of the name, not with the number of renames.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owed.h"
#include "cache/path.h"

#define COLUMNS                                                         \
	"seq, epoch, old_dir, new_dir, deleting, cursor, done, total, " \
	"step"

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
	ret->done = cache_db_u64(q);
	ret->total = cache_db_u64(q);
	ret->step = cache_db_u64(q);
}

static int read_each(
	struct cache_query *q, cache_owed_prefix_fn each, void *arg)
{
	struct cache_owed_prefix row;
	int err;

	while ((err = cache_db_step(q)) > 0) {
		read_row(q, &row);
		err = each(arg, &row);
		cache_owed_prefix_fini(&row);
		if (err != 0)
			break;
	}
	return cache_db_end(q, err);
}

static void bind_row(struct cache_query *q, const struct cache_owed_prefix *row)
{
	cache_db_bind_u64(q, row->epoch);
	cache_db_bind_name(q, row->old_dir);
	cache_db_bind_name(q, row->new_dir);
	cache_db_bind_i64(q, row->deleting);
	cache_db_bind_name(q, row->cursor);
	cache_db_bind_u64(q, row->done);
	cache_db_bind_u64(q, row->total);
	cache_db_bind_u64(q, row->step);
}

int cache_owed_prefix_add(struct cache_txn *txn, struct cache_owed_prefix *row)
{
	struct cache_query q;
	int err = cache_db_number(txn, CACHE_COUNT_OWED, &row->seq);

	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"INSERT INTO owed_prefix(" COLUMNS ") "
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
	cache_db_bind_u64(&q, row->seq);
	bind_row(&q, row);
	err = cache_db_run(&q);
	txn->delta.owed_rows += err == 0;
	return err;
}

int cache_owed_prefix_put(
	struct cache_txn *txn, const struct cache_owed_prefix *row)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE owed_prefix SET epoch = ?, old_dir = ?, new_dir = ?, "
		"deleting = ?, cursor = ?, done = ?, total = ?, step = ? "
		"WHERE seq = ?");
	bind_row(&q, row);
	cache_db_bind_u64(&q, row->seq);
	return cache_db_run_one(&q);
}

int cache_owed_prefix_del(struct cache_txn *txn, uint64_t seq)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn, "DELETE FROM owed_prefix WHERE seq = ?");
	cache_db_bind_u64(&q, seq);
	err = cache_db_run_one(&q);
	txn->delta.owed_rows -= err == 0;
	return err;
}

int cache_owed_prefix_each(struct cache_txn *txn, uint64_t epoch,
	uint64_t after_seq, cache_owed_prefix_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM owed_prefix INDEXED BY prefix_line "
		"WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq");
	cache_db_bind_u64(&q, epoch);
	cache_db_bind_u64(&q, after_seq);
	return read_each(&q, each, arg);
}

int cache_owed_prefix_first(
	struct cache_txn *txn, uint64_t epoch, struct cache_owed_prefix *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM owed_prefix INDEXED BY prefix_line "
		"WHERE epoch <= ? ORDER BY epoch, seq LIMIT 1");
	cache_db_bind_u64(&q, epoch > INT64_MAX ? INT64_MAX : epoch);
	err = cache_db_one(&q);
	if (err == 0)
		read_row(&q, ret);
	return cache_db_end(&q, err);
}

/* ---- by name ---- */

static int each_of_dir(struct cache_txn *txn, enum cache_prefix_side side,
	const char *dir, size_t len, cache_owed_prefix_fn each, void *arg)
{
	struct cache_query q;

	if (side == CACHE_PREFIX_OLD)
		cache_db_begin(&q, txn,
			"SELECT " COLUMNS " FROM owed_prefix "
			"INDEXED BY prefix_old WHERE old_dir = ?");
	else
		cache_db_begin(&q, txn,
			"SELECT " COLUMNS " FROM owed_prefix "
			"INDEXED BY prefix_new WHERE new_dir = ?");
	cache_db_bind_blob(&q, dir, len);
	return read_each(&q, each, arg);
}

static int is_empty(struct cache_txn *txn, bool *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(
		&q, txn, "SELECT 1 FROM owed_prefix WHERE seq > 0 LIMIT 1");
	err = cache_db_step(&q);
	*ret = err == 0;
	return cache_db_end(&q, err > 0 ? 0 : err);
}

int cache_owed_prefix_above(struct cache_txn *txn, enum cache_prefix_side side,
	const char *name, cache_owed_prefix_fn each, void *arg)
{
	bool empty;
	int err = is_empty(txn, &empty);

	for (const char *end = name; err == 0 && !empty; end++) {
		if (end != name && (*end == '/' || *end == '\0'))
			err = each_of_dir(txn, side, name, (size_t)(end - name),
				each, arg);
		if (*end == '\0')
			break;
	}
	return err;
}

int cache_owed_prefix_below(struct cache_txn *txn, enum cache_prefix_side side,
	const char *name, cache_owed_prefix_fn each, void *arg)
{
	struct cache_range_of range;
	struct cache_query q;
	int err;

	if (*name == '\0')
		return cache_owed_prefix_each(txn, 0, 0, each, arg);
	if (side == CACHE_PREFIX_OLD)
		cache_db_begin(&q, txn,
			"SELECT " COLUMNS " FROM owed_prefix "
			"INDEXED BY prefix_old "
			"WHERE old_dir >= ? AND old_dir < ?");
	else
		cache_db_begin(&q, txn,
			"SELECT " COLUMNS " FROM owed_prefix "
			"INDEXED BY prefix_new "
			"WHERE new_dir >= ? AND new_dir < ?");
	cache_range_init(&range, name);
	cache_db_bind_blob(&q, range.from.data, range.from.len);
	cache_db_bind_blob(&q, range.to.data, range.to.len);
	err = read_each(&q, each, arg);
	cache_range_fini(&range);
	return err;
}

struct touch {
	uint64_t upto_seq;
	bool found;
};

static int see(void *arg, const struct cache_owed_prefix *row)
{
	struct touch *t = arg;

	t->found = row->seq <= t->upto_seq;
	return t->found;
}

/* Is the name at or below a renamed directory; with `both`, or the other way
 * round? */
static int touches(struct cache_txn *txn, const char *name, uint64_t upto_seq,
	bool both, bool *ret)
{
	struct touch t = { .upto_seq = upto_seq };
	int err = cache_owed_prefix_above(txn, CACHE_PREFIX_OLD, name, see, &t);

	if (err == 0)
		err = cache_owed_prefix_above(
			txn, CACHE_PREFIX_NEW, name, see, &t);
	if (err == 0 && both)
		err = cache_owed_prefix_below(
			txn, CACHE_PREFIX_OLD, name, see, &t);
	if (err == 0 && both)
		err = cache_owed_prefix_below(
			txn, CACHE_PREFIX_NEW, name, see, &t);
	if (err >= 0)
		*ret = t.found;
	return err < 0 ? err : 0;
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
