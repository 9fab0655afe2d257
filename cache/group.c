/*
 * The write-back journal: epochs that are joined to a group, and the steps in
 * which it goes (cache_owed_join()).
 */
#include <errno.h>

#include "cache/owed.h"

/* Rows of a group looked at in one go. */
#define JOIN_BATCH 256

/* The next row takes over what the older one said.  What the store shows now
 * belongs to the inode that the oldest row displaced. */
static int take_over(struct cache_txn *txn, const struct cache_owed *older,
	struct cache_owed *next)
{
	bool carry = next->attrs_only && !older->attrs_only;

	if (carry) {
		next->phase = older->phase;
		next->run = older->run;
		next->step = older->step;
		next->attrs_only = false;
		next->ino = older->ino;
		next->serial = older->serial;
		next->size_bytes = older->size_bytes;
		next->gen = older->gen;
		next->content = older->content;
		next->change = older->change;
	}
	if (older->displaced != 0) {
		next->displaced = older->displaced;
		carry = true;
	}
	return carry ? cache_owed_put(txn, next) : 0;
}

int cache_owed_fall_out(struct cache_txn *txn, uint64_t seq)
{
	struct cache_owed older, next;
	int err = cache_owed_get(txn, seq, &older);

	if (err != 0)
		return err;
	err = cache_owed_next_unsent(txn, older.name, seq, &next);
	if (err == 0) {
		err = take_over(txn, &older, &next);
		cache_owed_fini(&next);
	} else if (err == -ENOENT) {
		err = 0;
	}
	cache_owed_fini(&older);
	return err != 0 ? err : cache_owed_del(txn, seq);
}

/* Unsent rows of epoch b after `after` that a newer one of it outdates. */
static int outdated(struct cache_txn *txn, uint64_t b, uint64_t after,
	uint64_t *ret, size_t *ret_nr)
{
	struct cache_query q;
	size_t nr = 0;
	int err;

	cache_db_begin(&q, txn,
		"SELECT o.seq FROM owed o INDEXED BY owed_line WHERE "
		"o.state <> 2 AND o.epoch = ? AND o.seq > ? AND o.state = 0 "
		"AND EXISTS(SELECT 1 FROM owed n INDEXED BY owed_name WHERE "
		"n.name = o.name AND n.seq > o.seq AND n.epoch = o.epoch AND "
		"n.state = 0) ORDER BY o.seq LIMIT ?");
	cache_db_bind_u64(&q, b);
	cache_db_bind_u64(&q, after);
	cache_db_bind_u64(&q, JOIN_BATCH);
	while ((err = cache_db_step(&q)) > 0 && nr < JOIN_BATCH)
		ret[nr++] = cache_db_u64(&q);
	*ret_nr = nr;
	return cache_db_end(&q, err < 0 ? err : 0);
}

static int run_range_sql(
	struct cache_txn *txn, const char *sql, uint64_t a, uint64_t b)
{
	struct cache_query q;

	cache_db_begin_sql(&q, txn, sql);
	cache_db_bind_u64(&q, a);
	cache_db_bind_u64(&q, b);
	return cache_db_run(&q);
}
#define run_range(txn, sql, a, b) run_range_sql(txn, CACHE_SQL(sql), a, b)

static int run_epoch_sql(struct cache_txn *txn, const char *sql, uint64_t epoch)
{
	struct cache_query q;

	cache_db_begin_sql(&q, txn, sql);
	cache_db_bind_u64(&q, epoch);
	return cache_db_run(&q);
}
#define run_epoch(txn, sql, epoch) run_epoch_sql(txn, CACHE_SQL(sql), epoch)

/*
 * Steps are numbered by epochs, with room for those of BY_PHASE between two of
 * them: 4e is where epoch e would go; new names of run r go with 4r, and after
 * all of epochs <= b come replacements, 4b + 1, and the newest of each
 * directory, 4b + 2.
 */
static int join_in_order(struct cache_txn *txn, uint64_t a, uint64_t b)
{
	return run_range(txn,
		"UPDATE owed INDEXED BY owed_line SET epoch = ?2, grp = 1, "
		"step = CASE WHEN state = 1 THEN 0 "
		"WHEN phase = 3 THEN 1 << 62 WHEN grp = 1 THEN step "
		"ELSE epoch * 4 END "
		"WHERE state <> 2 AND epoch BETWEEN ?1 AND ?2",
		a, b);
}

/* The newest replacements of each directory: found from the end, by a table, so
 * that memory does not grow with their number. */
static int mark_newest(struct cache_txn *txn, uint64_t epoch)
{
	int err = run_epoch(txn,
		"INSERT OR IGNORE INTO group_dir SELECT dir_of(name), seq "
		"FROM owed INDEXED BY owed_group WHERE grp = 1 AND "
		"state <> 2 AND epoch = ?1 AND step = ?1 * 4 + 1 "
		"ORDER BY seq DESC",
		epoch);
	struct cache_query q;

	if (err == 0)
		err = run_epoch(txn,
			"UPDATE owed SET step = ?1 * 4 + 2 WHERE epoch = ?1 "
			"AND seq IN (SELECT seq FROM group_dir)",
			epoch);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn, "DELETE FROM group_dir");
	return cache_db_run(&q);
}

static int join_by_phase(struct cache_txn *txn, uint64_t a, uint64_t b)
{
	return run_range(txn,
		"UPDATE owed INDEXED BY owed_line SET epoch = ?2, grp = 1, "
		"step = CASE WHEN state = 1 THEN 0 "
		"WHEN phase = 3 THEN 1 << 62 WHEN phase = 0 THEN run * 4 "
		"ELSE ?2 * 4 + 1 END "
		"WHERE state <> 2 AND epoch BETWEEN ?1 AND ?2",
		a, b);
}

int cache_owed_join(
	struct cache_txn *txn, uint64_t a, uint64_t b, enum cache_join how)
{
	uint64_t seqs[JOIN_BATCH], after = 0;
	size_t nr;
	int err = how == CACHE_JOIN_IN_ORDER ? join_in_order(txn, a, b)
					     : join_by_phase(txn, a, b);

	if (err == 0)
		err = run_range(txn,
			"UPDATE owed_prefix INDEXED BY prefix_line SET "
			"step = iif(step = 0, epoch * 4, step), epoch = ?2 "
			"WHERE epoch BETWEEN ?1 AND ?2",
			a, b);
	do {
		nr = 0;
		if (err == 0)
			err = outdated(txn, b, after, seqs, &nr);
		for (size_t i = 0; i < nr && err == 0; i++) {
			err = cache_owed_fall_out(txn, seqs[i]);
			after = seqs[i];
		}
	} while (nr == JOIN_BATCH && err == 0);
	if (err == 0 && how == CACHE_JOIN_BY_PHASE)
		err = mark_newest(txn, b);
	return err;
}
