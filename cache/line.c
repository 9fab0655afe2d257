/*
 * The write-back journal: the line, subtrees, totals.
 *
 * The line is every row that is not set aside, by (epoch, seq): the partial
 * index owed_line.  `state <> 2` stands in its queries as it does in the
 * index, or SQLite would not use it.  No query here looks at all rows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owed.h"
#include "cache/path.h"

static int get_number(struct cache_query *q, uint64_t *ret)
{
	int err = cache_db_step(q);

	if (err >= 0) {
		*ret = err > 0 ? cache_db_u64(q) : 0;
		err = 0;
	}
	return cache_db_end(q, err);
}

static int get_bool(struct cache_query *q, bool *ret)
{
	uint64_t n = 0;
	int err = get_number(q, &n);

	if (err == 0)
		*ret = n != 0;
	return err;
}

/* ---- names ---- */

int cache_owed_any_row(struct cache_txn *txn, const char *name, bool *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_name WHERE name = ? AND "
		"state <> 2 LIMIT 1");
	cache_db_bind_name(&q, name);
	return get_bool(&q, ret);
}

int cache_owed_any(struct cache_txn *txn, const char *name, bool *ret)
{
	int err = cache_owed_any_row(txn, name, ret);

	if (err == 0 && !*ret)
		err = cache_owed_prefix_covers(txn, name, ret);
	return err;
}

int cache_owed_is_first(
	struct cache_txn *txn, const struct cache_owed *row, bool *ret)
{
	struct cache_query q;
	bool before = false;
	int err;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_name WHERE name = ? AND "
		"state <> 2 AND (epoch, seq) < (?, ?) LIMIT 1");
	cache_db_bind_name(&q, row->name);
	cache_db_bind_u64(&q, row->epoch);
	cache_db_bind_u64(&q, row->seq);
	err = get_bool(&q, &before);
	if (err == 0)
		*ret = !before;
	return err;
}

int cache_owed_far(struct cache_txn *txn, const struct cache_id *content,
	const char *name, bool *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_far WHERE content = ? AND "
		"serial = 0 AND kind = 1 AND state = 0 AND attrs_only = 0 AND "
		"name <> ? LIMIT 1");
	cache_db_bind_id(&q, content);
	cache_db_bind_name(&q, name);
	return get_bool(&q, ret);
}

/* ---- the line ---- */

int cache_owed_max_seq(struct cache_txn *txn, uint64_t *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT max(coalesce((SELECT max(seq) FROM owed), 0), "
		"coalesce((SELECT max(seq) FROM owed_prefix), 0))");
	return get_number(&q, ret);
}

int cache_owed_last_of_epoch(
	struct cache_txn *txn, uint64_t epoch, uint64_t *ret)
{
	struct cache_query q;

	*ret = 0;
	cache_db_begin(&q, txn,
		"SELECT seq FROM owed INDEXED BY owed_line "
		"WHERE state <> 2 AND epoch = ? ORDER BY seq DESC LIMIT 1");
	cache_db_bind_u64(&q, epoch);
	return get_number(&q, ret);
}

int cache_owed_first_epoch(struct cache_txn *txn, uint64_t *ret)
{
	struct cache_query q;
	uint64_t row = 0, prefix = 0;
	int err;

	cache_db_begin(&q, txn,
		"SELECT epoch FROM owed INDEXED BY owed_line WHERE state <> 2 "
		"AND epoch > 0 ORDER BY epoch LIMIT 1");
	err = get_number(&q, &row);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"SELECT epoch FROM owed_prefix INDEXED BY prefix_line "
		"WHERE epoch > 0 ORDER BY epoch LIMIT 1");
	err = get_number(&q, &prefix);
	if (err == 0)
		*ret = row == 0 || (prefix != 0 && prefix < row) ? prefix : row;
	return err;
}

static int each_after(struct cache_query *q, uint64_t epoch, uint64_t seq,
	cache_owed_fn each, void *arg)
{
	cache_db_bind_u64(q, epoch);
	cache_db_bind_u64(q, seq);
	return cache_owed_read_each(q, each, arg);
}

int cache_owed_each(struct cache_txn *txn, uint64_t epoch, uint64_t after_seq,
	cache_owed_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_line "
		"WHERE state <> 2 AND (epoch, seq) > (?, ?) "
		"ORDER BY epoch, seq");
	return each_after(&q, epoch, after_seq, each, arg);
}

int cache_owed_each_large(struct cache_txn *txn, uint64_t epoch,
	uint64_t after_seq, cache_owed_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_large "
		"WHERE size > 8388608 AND kind = 1 AND state = 0 AND "
		"(epoch, seq) > (?, ?) ORDER BY epoch, seq");
	return each_after(&q, epoch, after_seq, each, arg);
}

int cache_owed_each_of_step(struct cache_txn *txn, uint64_t epoch,
	uint64_t step, cache_owed_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_group "
		"WHERE grp = 1 AND state <> 2 AND epoch = ? AND step = ? "
		"ORDER BY seq");
	cache_db_bind_u64(&q, epoch);
	cache_db_bind_u64(&q, step);
	return cache_owed_read_each(&q, each, arg);
}

int cache_owed_first_step(struct cache_txn *txn, uint64_t epoch, uint64_t *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT step FROM owed INDEXED BY owed_group WHERE grp = 1 "
		"AND state <> 2 AND epoch = ? ORDER BY step LIMIT 1");
	cache_db_bind_u64(&q, epoch);
	err = cache_db_one(&q);
	if (err == 0)
		*ret = cache_db_u64(&q);
	return cache_db_end(&q, err);
}

int cache_owed_last_of_step(
	struct cache_txn *txn, uint64_t epoch, uint64_t step, uint64_t *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT seq FROM owed INDEXED BY owed_group WHERE grp = 1 "
		"AND state <> 2 AND epoch = ? AND step = ? "
		"ORDER BY seq DESC LIMIT 1");
	cache_db_bind_u64(&q, epoch);
	cache_db_bind_u64(&q, step);
	return get_number(&q, ret);
}

int cache_owed_each_aside(struct cache_txn *txn, const char *name,
	uint64_t after_seq, cache_owed_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_aside "
		"WHERE state = 2 AND (name, seq) > (?, ?) ORDER BY name, seq");
	cache_db_bind_name(&q, name);
	cache_db_bind_u64(&q, after_seq);
	return cache_owed_read_each(&q, each, arg);
}

/* ---- subtrees ---- */

int cache_owed_each_below(
	struct cache_txn *txn, const char *dir, cache_owed_fn each, void *arg)
{
	struct cache_range_of range;
	struct cache_query q;
	int err;

	cache_range_init(&range, dir);
	if (range.to.len > 0)
		cache_db_begin(&q, txn,
			"SELECT " CACHE_OWED_COLUMNS " FROM owed "
			"INDEXED BY owed_name WHERE name >= ? AND name < ? "
			"ORDER BY name, seq");
	else
		cache_db_begin(&q, txn,
			"SELECT " CACHE_OWED_COLUMNS " FROM owed "
			"INDEXED BY owed_name WHERE name >= ? "
			"ORDER BY name, seq");
	cache_db_bind_blob(&q, range.from.data, range.from.len);
	if (range.to.len > 0)
		cache_db_bind_blob(&q, range.to.data, range.to.len);
	err = cache_owed_read_each(&q, each, arg);
	cache_range_fini(&range);
	return err;
}

/* All of the journal. */
static int any_at_all(struct cache_txn *txn, uint64_t upto_seq, bool *ret_owed,
	bool *ret_aside)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_line WHERE state <> 2 AND "
		"epoch > 0 AND seq <= ? LIMIT 1");
	cache_db_bind_u64(&q, upto_seq);
	err = get_bool(&q, ret_owed);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_aside WHERE state = 2 AND "
		"name > x'' AND seq <= ? LIMIT 1");
	cache_db_bind_u64(&q, upto_seq);
	return get_bool(&q, ret_aside);
}

/* The name itself, or what lies in the range below it. */
static int any_of_name(struct cache_txn *txn, const char *name,
	uint64_t upto_seq, bool *ret_owed, bool *ret_aside)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_name WHERE name = ? AND "
		"seq <= ? AND state <> 2 LIMIT 1");
	cache_db_bind_name(&q, name);
	cache_db_bind_u64(&q, upto_seq);
	err = get_bool(&q, ret_owed);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_aside WHERE state = 2 AND "
		"name = ? AND seq <= ? LIMIT 1");
	cache_db_bind_name(&q, name);
	cache_db_bind_u64(&q, upto_seq);
	return get_bool(&q, ret_aside);
}

static int any_of_range(struct cache_txn *txn,
	const struct cache_range_of *range, uint64_t upto_seq, bool *ret_owed,
	bool *ret_aside)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_name WHERE name >= ? AND "
		"name < ? AND seq <= ? AND state <> 2 LIMIT 1");
	cache_db_bind_blob(&q, range->from.data, range->from.len);
	cache_db_bind_blob(&q, range->to.data, range->to.len);
	cache_db_bind_u64(&q, upto_seq);
	err = get_bool(&q, ret_owed);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"SELECT 1 FROM owed INDEXED BY owed_aside WHERE state = 2 AND "
		"name >= ? AND name < ? AND seq <= ? LIMIT 1");
	cache_db_bind_blob(&q, range->from.data, range->from.len);
	cache_db_bind_blob(&q, range->to.data, range->to.len);
	cache_db_bind_u64(&q, upto_seq);
	return get_bool(&q, ret_aside);
}

static int any_below(struct cache_txn *txn, const char *path, uint64_t upto_seq,
	bool *ret_owed, bool *ret_aside)
{
	struct cache_range_of range;
	bool owed = false, aside = false;
	int err = any_of_name(txn, path, upto_seq, ret_owed, ret_aside);

	if (err != 0)
		return err;
	cache_range_init(&range, path);
	err = any_of_range(txn, &range, upto_seq, &owed, &aside);
	cache_range_fini(&range);
	*ret_owed |= owed;
	*ret_aside |= aside;
	return err;
}

int cache_owed_below(struct cache_txn *txn, const char *path, uint64_t upto_seq,
	bool *ret_owed, bool *ret_aside)
{
	bool owed = false, aside = false;
	int err;

	if (upto_seq > INT64_MAX)
		upto_seq = INT64_MAX;
	if (*path == '\0')
		err = any_at_all(txn, upto_seq, &owed, &aside);
	else
		err = any_below(txn, path, upto_seq, &owed, &aside);
	if (err == 0 && !owed)
		err = cache_owed_prefix_touches(txn, path, upto_seq, &owed);
	if (err == 0) {
		*ret_owed = owed;
		*ret_aside = aside;
	}
	return err;
}

int cache_owed_rename(
	struct cache_txn *txn, const char *old_dir, const char *new_dir)
{
	struct cache_range_of range;
	struct cache_query q;
	int err;

	/* substr() counts from one; bytes, because names are BLOBs. */
	cache_range_init(&range, old_dir);
	cache_db_begin(&q, txn,
		"UPDATE owed SET name = "
		"CAST(?1 || substr(name, ?2) AS BLOB) "
		"WHERE name >= ?3 AND name < ?4 AND state <> 1 AND kind <> 0");
	cache_db_bind_name(&q, new_dir);
	cache_db_bind_u64(&q, range.dir_len);
	cache_db_bind_blob(&q, range.from.data, range.from.len);
	cache_db_bind_blob(&q, range.to.data, range.to.len);
	err = cache_db_run(&q);
	cache_range_fini(&range);
	return err;
}

/* ---- totals ---- */

static int count_groups(struct cache_txn *txn, uint64_t *ret)
{
	uint64_t epoch = 0, groups = 0;
	int err;

	do {
		struct cache_query q;

		cache_db_begin(&q, txn,
			"SELECT epoch FROM owed INDEXED BY owed_group WHERE "
			"grp = 1 AND state <> 2 AND epoch > ? "
			"ORDER BY epoch LIMIT 1");
		cache_db_bind_u64(&q, epoch);
		err = get_number(&q, &epoch);
		groups += epoch != 0;
	} while (err == 0 && epoch != 0);
	*ret = groups;
	return err;
}

static int stop_at_first(void *arg, const struct cache_owed *row)
{
	*(int64_t *)arg = row->entered_ns;
	return 1;
}

int cache_owed_totals(struct cache_txn *txn, struct cache_owed_totals *ret)
{
	struct cache *cache = txn->cache;
	struct cache_totals t;
	int64_t oldest = 0;
	int err = cache_owed_each(txn, 0, 0, stop_at_first, &oldest);

	if (err < 0)
		return err;
	base_lock(&cache->totals_mutex);
	t = cache->totals;
	base_unlock(&cache->totals_mutex);
	memset(ret, 0, sizeof(*ret));
	ret->rows = (uint64_t)(t.owed_rows + txn->delta.owed_rows);
	ret->bytes = (uint64_t)(t.owed_bytes + txn->delta.owed_bytes);
	ret->aside = (uint64_t)(t.owed_aside + txn->delta.owed_aside);
	ret->oldest_ns = oldest;
	return count_groups(txn, &ret->groups);
}
