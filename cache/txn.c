/*
 * Transactions: one writer, a pool of readers, and what waits for the commit.
 *
 * A write transaction is: take `writer`, BEGIN IMMEDIATE, statements, COMMIT,
 * release `writer`, and only then, with no lock held: counters, claims let go,
 * data files unlinked.  So a crash between commit and unlink leaves a data
 * file that no row names (fsck finds it; making that number anew removes it),
 * never a row without its file.
 *
 * Numbers (inodes, cookies, commits, owed rows) come from counters kept in
 * memory; `meta` says up to where they may have been given.  An aborted
 * transaction forgets a reservation that it made, but no number is ever given
 * twice.
 */
#include "cache/db.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* ---- the two kinds ---- */

static void start(struct cache_txn *txn, struct cache *cache, bool write)
{
	txn->cache = cache;
	txn->write = write;
	txn->err = 0;
	txn->known_top = 0;
	memset(&txn->delta, 0, sizeof(txn->delta));
	txn->drops_nr = 0;
	txn->claims_nr = 0;
}

static int simple_sql(struct cache_txn *txn, const char *sql)
{
	struct cache_query q;

	cache_db_begin_sql(&q, txn, sql);
	return cache_db_run(&q);
}
#define simple(txn, sql) simple_sql(txn, CACHE_SQL(sql))

static int reader_get(struct cache *cache, struct cache_conn **ret)
{
	struct cache_conn *conn;
	int err = 0;

	base_lock(&cache->readers_mutex);
	while (cache->readers_free == NULL &&
		cache->readers_nr == CACHE_READERS_MAX)
		base_cond_wait(&cache->readers_cond, &cache->readers_mutex);
	conn = cache->readers_free;
	if (conn != NULL)
		cache->readers_free = conn->next;
	else
		cache->readers_nr++;
	base_unlock(&cache->readers_mutex);

	if (conn == NULL) {
		err = cache_conn_open(cache, false, &conn);
		if (err != 0) {
			base_lock(&cache->readers_mutex);
			cache->readers_nr--;
			pthread_cond_signal(&cache->readers_cond);
			base_unlock(&cache->readers_mutex);
			return err;
		}
	}
	*ret = conn;
	return 0;
}

static void reader_put(struct cache *cache, struct cache_conn *conn)
{
	base_lock(&cache->readers_mutex);
	conn->next = cache->readers_free;
	cache->readers_free = conn;
	pthread_cond_signal(&cache->readers_cond);
	base_unlock(&cache->readers_mutex);
}

int cache_read(struct cache *cache, struct cache_txn **ret_txn)
{
	struct cache_conn *conn;
	int err = reader_get(cache, &conn);

	if (err != 0)
		return err;
	start(&conn->txn, cache, false);
	err = simple(&conn->txn, "BEGIN");
	if (err != 0) {
		reader_put(cache, conn);
		return err;
	}
	*ret_txn = &conn->txn;
	return 0;
}

int cache_write(struct cache *cache, struct cache_txn **ret_txn)
{
	struct cache_txn *txn;
	int err;

	base_lock(&cache->writer);
	txn = &cache->write_conn->txn;
	start(txn, cache, true);
	for (int i = 0; i < CACHE_COUNTERS; i++)
		cache->counters[i].saved_limit = cache->counters[i].limit;
	err = simple(txn, "BEGIN IMMEDIATE");
	if (err != 0) {
		base_unlock(&cache->writer);
		return err;
	}
	*ret_txn = txn;
	return 0;
}

struct cache *cache_of(struct cache_txn *txn)
{
	return txn->cache;
}

/* ---- the end ---- */

/* What the end of a write transaction has to do without the lock: the lists
 * leave the transaction, which is somebody else's from then on. */
struct after {
	struct cache_totals delta;
	struct cache_drop *drops;
	uint64_t *claims;
	size_t drops_nr, claims_nr;
};

static void take_after(struct cache_txn *txn, struct after *ret)
{
	ret->delta = txn->delta;
	ret->drops = txn->drops;
	ret->drops_nr = txn->drops_nr;
	ret->claims = txn->claims;
	ret->claims_nr = txn->claims_nr;
	if (txn->drops_nr != 0) {
		txn->drops = NULL;
		txn->drops_nr = txn->drops_cap = 0;
	}
	if (txn->claims_nr != 0) {
		txn->claims = NULL;
		txn->claims_nr = txn->claims_cap = 0;
	}
}

static void add_totals(struct cache *cache, const struct cache_totals *delta)
{
	struct cache_totals *t = &cache->totals;

	base_lock(&cache->totals_mutex);
	t->inodes += delta->inodes;
	t->local_bytes += delta->local_bytes;
	t->owed_rows += delta->owed_rows;
	t->owed_bytes += delta->owed_bytes;
	t->owed_aside += delta->owed_aside;
	t->owed_files += delta->owed_files;
	base_unlock(&cache->totals_mutex);
	if (delta->local_bytes != 0 && cache->space != NULL)
		cache_space_delta(cache, delta->local_bytes);
}

static void run_after(struct cache *cache, struct after *a, bool committed)
{
	if (committed)
		add_totals(cache, &a->delta);
	for (size_t i = 0; i < a->claims_nr; i++)
		if (cache->config.unclaim != NULL)
			cache->config.unclaim(cache->config.arg, a->claims[i]);
	for (size_t i = 0; committed && i < a->drops_nr; i++)
		cache_data_unlink(cache, a->drops[i].ino, a->drops[i].serial);
	if (a->claims_nr != 0)
		free(a->claims);
	if (a->drops_nr != 0)
		free(a->drops);
}

static void end_read(struct cache_txn *txn)
{
	txn->err = 0;
	simple(txn, "COMMIT");
	reader_put(txn->cache, txn->conn);
}

static int end_write(struct cache_txn *txn, bool commit)
{
	struct cache *cache = txn->cache;
	struct after after;
	int err = txn->err;

	if (commit && err == 0)
		err = simple(txn, "COMMIT");
	if (commit && err == 0) {
		if (txn->known_top != 0)
			atomic_store(&cache->known_top, txn->known_top);
	} else {
		/* SQLite may have rolled back by itself (disk full). */
		txn->err = 0;
		if (!sqlite3_get_autocommit(txn->db))
			simple(txn, "ROLLBACK");
		for (int i = 0; i < CACHE_COUNTERS; i++)
			cache->counters[i].limit =
				cache->counters[i].saved_limit;
	}
	take_after(txn, &after);
	base_unlock(&cache->writer);
	cache_sync_committed(cache, err);
	run_after(cache, &after, commit && err == 0);
	return err;
}

int cache_commit(struct cache_txn *txn)
{
	int err = txn->err;

	if (txn->write)
		return end_write(txn, true);
	end_read(txn);
	return err;
}

int cache_end(struct cache_txn *txn, int err)
{
	assert(err <= 0);
	if (err == 0)
		return cache_commit(txn);
	cache_abort(txn);
	return err;
}

void cache_abort(struct cache_txn *txn)
{
	if (txn->write)
		end_write(txn, false);
	else
		end_read(txn);
}

/* ---- what waits for the commit ---- */

void cache_txn_drop(struct cache_txn *txn, uint64_t ino, uint64_t serial)
{
	if (txn->drops_nr == txn->drops_cap) {
		txn->drops_cap = txn->drops_cap ? 2 * txn->drops_cap : 8;
		txn->drops = base_realloc(
			txn->drops, txn->drops_cap * sizeof(*txn->drops));
	}
	txn->drops[txn->drops_nr++] =
		(struct cache_drop){ .ino = ino, .serial = serial };
}

int cache_claim(struct cache_txn *txn, uint64_t ino)
{
	const struct cache_config *config = &txn->cache->config;

	for (size_t i = 0; i < txn->claims_nr; i++)
		if (txn->claims[i] == ino)
			return 0;
	if (config->claim != NULL && !config->claim(config->arg, ino))
		return -EBUSY;
	if (txn->claims_nr == txn->claims_cap) {
		txn->claims_cap = txn->claims_cap ? 2 * txn->claims_cap : 8;
		txn->claims = base_realloc(
			txn->claims, txn->claims_cap * sizeof(*txn->claims));
	}
	txn->claims[txn->claims_nr++] = ino;
	return 0;
}

/* ---- numbers ---- */

int cache_db_number(struct cache_txn *txn, int counter, uint64_t *ret)
{
	struct cache_counter *c = &txn->cache->counters[counter];

	if (c->next >= c->limit) {
		uint64_t limit = c->next + c->block;
		int err = cache_meta_set_u64(txn, c->key, limit);

		if (err != 0)
			return err;
		c->limit = limit;
	}
	*ret = c->next++;
	return 0;
}

int cache_commit_number(struct cache_txn *txn, uint64_t *ret)
{
	return cache_db_number(txn, CACHE_COUNT_COMMIT, ret);
}

/* ---- settings ---- */

int cache_meta_get_u64(struct cache_txn *txn, const char *key, uint64_t *ret)
{
	struct cache_query q;
	uint64_t value = 0;
	int err;

	cache_db_begin(&q, txn, "SELECT value FROM meta WHERE key = ?");
	cache_db_bind_name(&q, key);
	err = cache_db_step(&q);
	if (err > 0)
		value = cache_db_u64(&q);
	err = cache_db_end(&q, err < 0 ? err : 0);
	if (err == 0)
		*ret = value;
	return err;
}

int cache_meta_set_u64(struct cache_txn *txn, const char *key, uint64_t value)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "INSERT OR REPLACE INTO meta VALUES (?, ?)");
	cache_db_bind_name(&q, key);
	cache_db_bind_u64(&q, value);
	return cache_db_run(&q);
}

int cache_meta_get_text(
	struct cache_txn *txn, const char *key, struct base_str *ret)
{
	struct cache_query q;
	char *text;
	int err;

	cache_db_begin(&q, txn, "SELECT value FROM meta WHERE key = ?");
	cache_db_bind_name(&q, key);
	err = cache_db_one(&q);
	if (err == 0) {
		text = cache_db_take_text(&q);
		base_str_clear(ret);
		base_str_puts(ret, text != NULL ? text : "");
		free(text);
	}
	return cache_db_end(&q, err);
}

int cache_meta_set_text(
	struct cache_txn *txn, const char *key, const char *value)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "INSERT OR REPLACE INTO meta VALUES (?, ?)");
	cache_db_bind_name(&q, key);
	cache_db_bind_name(&q, value);
	return cache_db_run(&q);
}
