/*
 * Small tables: held inodes, listings, conflicts, prefetch jobs, answers, counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/tree.h"

/* ---- held ---- */

int cache_held_add(struct cache_txn *txn, uint64_t ino)
{
	return cache_db_run_ino(
		txn, "INSERT OR IGNORE INTO held VALUES (?)", ino);
}

int cache_held_put(
	struct cache_txn *txn, uint64_t ino, bool open, bool *ret_gone)
{
	struct cache_query q;
	int err;

	*ret_gone = false;
	if (open)
		return 0;
	cache_db_begin(&q, txn,
		"SELECT 1 FROM held h WHERE h.ino = ?1 AND NOT EXISTS"
		"(SELECT 1 FROM owed WHERE ino = ?1)");
	cache_db_bind_u64(&q, ino);
	err = cache_db_end(&q, cache_db_step(&q));
	if (err <= 0)
		return err;
	err = cache_inode_del(txn, ino);
	if (err == -ENOENT) /* a held row without its inode */
		err = cache_db_run_ino(
			txn, "DELETE FROM held WHERE ino = ?", ino);
	if (err == 0)
		*ret_gone = true;
	return err;
}

int cache_held_del(struct cache_txn *txn, uint64_t ino)
{
	return cache_db_run_ino(txn, "DELETE FROM held WHERE ino = ?", ino);
}

int cache_held_each(struct cache_txn *txn, cache_ino_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "SELECT ino FROM held ORDER BY ino");
	return cache_ino_each(&q, each, arg);
}

/* ---- listings ---- */

int cache_listing_get(
	struct cache_txn *txn, uint64_t ino, struct cache_listing *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT listed_ns, boot, complete FROM listing WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0) {
		ret->listed_ns = cache_db_i64(&q);
		if (cache_db_u64(&q) != txn->cache->boot_nr)
			ret->listed_ns = -1;
		ret->complete = cache_db_i64(&q) != 0;
	}
	return cache_db_end(&q, err);
}

int cache_listing_set(struct cache_txn *txn, uint64_t ino,
	const struct cache_listing *listing)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"INSERT OR REPLACE INTO listing(ino, listed_ns, boot, "
		"complete) VALUES (?, ?, ?, ?)");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_i64(&q, listing->listed_ns);
	cache_db_bind_u64(&q, txn->cache->boot_nr);
	cache_db_bind_i64(&q, listing->complete);
	return cache_db_run(&q);
}

/* ---- conflicts ---- */

int cache_conflict_add(
	struct cache_txn *txn, const struct cache_conflict *conflict)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"INSERT INTO conflict(name, copy, remote_etag, local_size, "
		"remote_size, local_mtime_ns, remote_mtime_ns, found_ns, "
		"remote_host) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
	cache_db_bind_name(&q, conflict->name);
	cache_db_bind_name(&q, conflict->copy);
	cache_db_bind_name(&q, conflict->remote_etag);
	cache_db_bind_u64(&q, conflict->local_size_bytes);
	cache_db_bind_u64(&q, conflict->remote_size_bytes);
	cache_db_bind_i64(&q, conflict->local_mtime_ns);
	cache_db_bind_i64(&q, conflict->remote_mtime_ns);
	cache_db_bind_i64(&q, conflict->found_ns);
	cache_db_bind_id(&q, &conflict->remote_host);
	return cache_db_run(&q);
}

static int del_row_sql(struct cache_txn *txn, const char *sql, uint64_t id)
{
	struct cache_query q;

	cache_db_begin_sql(&q, txn, sql);
	cache_db_bind_u64(&q, id);
	return cache_db_run_one(&q);
}
#define del_row(txn, sql, id) del_row_sql(txn, CACHE_SQL(sql), id)

int cache_conflict_del(struct cache_txn *txn, uint64_t id)
{
	return del_row(txn, "DELETE FROM conflict WHERE id = ?", id);
}

int cache_conflict_settled(struct cache_txn *txn, const char *copy)
{
	struct cache_query q;

	/* No index: there are few, and few copies are ever taken away. */
	cache_db_begin(&q, txn, "DELETE FROM conflict WHERE copy = ?");
	cache_db_bind_name(&q, copy);
	return cache_db_run(&q);
}

/* The prefix keeps its slash. */
static int run_rename(
	struct cache_query *q, const char *old_dir, const char *new_dir)
{
	struct base_str from = BASE_STR_INIT;
	int err;

	base_str_puts(&from, old_dir);
	base_str_putc(&from, '/');
	cache_db_bind_name(q, new_dir);
	cache_db_bind_u64(q, from.len);
	cache_db_bind_blob(q, from.data, from.len);
	err = cache_db_run(q);
	base_str_fini(&from);
	return err;
}

int cache_conflict_rename(
	struct cache_txn *txn, const char *old_dir, const char *new_dir)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"UPDATE conflict SET name = "
		"CAST(?1 || substr(name, ?2) AS BLOB) "
		"WHERE substr(name, 1, ?2) = ?3");
	err = run_rename(&q, old_dir, new_dir);
	if (err < 0)
		return err;
	cache_db_begin(&q, txn,
		"UPDATE conflict SET copy = "
		"CAST(?1 || substr(copy, ?2) AS BLOB) "
		"WHERE substr(copy, 1, ?2) = ?3");
	return run_rename(&q, old_dir, new_dir);
}

int cache_conflict_each(
	struct cache_txn *txn, cache_conflict_fn each, void *arg)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT id, name, copy, remote_etag, local_size, remote_size, "
		"local_mtime_ns, remote_mtime_ns, found_ns, remote_host "
		"FROM conflict ORDER BY id");
	while ((err = cache_db_step(&q)) > 0) {
		struct cache_conflict c;

		c.id = cache_db_u64(&q);
		c.name = cache_db_take_text(&q);
		c.copy = cache_db_take_text(&q);
		cache_db_text(&q, c.remote_etag, sizeof(c.remote_etag));
		c.local_size_bytes = cache_db_u64(&q);
		c.remote_size_bytes = cache_db_u64(&q);
		c.local_mtime_ns = cache_db_i64(&q);
		c.remote_mtime_ns = cache_db_i64(&q);
		c.found_ns = cache_db_i64(&q);
		cache_db_id(&q, &c.remote_host);
		err = each(arg, &c);
		free(c.name);
		free(c.copy);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

/* ---- jobs ---- */

int cache_job_add(struct cache_txn *txn, struct cache_job *job)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"INSERT INTO job(path, pin, meta_only) VALUES (?, ?, ?) "
		"RETURNING id");
	cache_db_bind_name(&q, job->path);
	cache_db_bind_i64(&q, job->pin);
	cache_db_bind_i64(&q, job->meta_only);
	err = cache_db_one(&q);
	if (err == 0)
		job->id = cache_db_u64(&q);
	return cache_db_end(&q, err);
}

int cache_job_del(struct cache_txn *txn, uint64_t id)
{
	return del_row(txn, "DELETE FROM job WHERE id = ?", id);
}

int cache_job_each(struct cache_txn *txn, cache_job_fn each, void *arg)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT id, path, pin, meta_only FROM job ORDER BY id");
	while ((err = cache_db_step(&q)) > 0) {
		struct cache_job job;

		job.id = cache_db_u64(&q);
		job.path = cache_db_take_text(&q);
		job.pin = cache_db_i64(&q) != 0;
		job.meta_only = cache_db_i64(&q) != 0;
		err = each(arg, &job);
		free(job.path);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

/* ---- answers ---- */

int cache_replied_put(
	struct cache_txn *txn, uint32_t slot, uint64_t request, uint64_t ino)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "REPLACE INTO replied VALUES (?, ?, ?)");
	cache_db_bind_u64(&q, slot);
	cache_db_bind_u64(&q, request);
	cache_db_bind_u64(&q, ino);
	return cache_db_run(&q);
}

int cache_replied_each(struct cache_txn *txn, cache_replied_fn each, void *arg)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn, "SELECT slot, request, reply FROM replied");
	while ((err = cache_db_step(&q)) > 0) {
		uint32_t slot = (uint32_t)cache_db_u64(&q);
		uint64_t request = cache_db_u64(&q);

		err = each(arg, slot, request, cache_db_u64(&q));
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

int cache_replied_clear(struct cache_txn *txn)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "DELETE FROM replied");
	return cache_db_run(&q);
}

/* ---- counts ---- */

int cache_counts_get(struct cache_txn *txn, struct cache_counts *ret)
{
	struct cache *cache = txn->cache;
	struct cache_totals t;
	struct cache_query q;
	uint64_t open_files;
	int err;

	/* Written-to and not in the journal: open, or left by an earlier run. */
	cache_db_begin(&q, txn,
		"SELECT (SELECT count(*) FROM inode i INDEXED BY inode_written "
		"WHERE i.written = 1 AND NOT EXISTS(SELECT 1 FROM owed o WHERE "
		"o.ino = i.ino AND o.attrs_only = 0)), "
		"(SELECT count(*) FROM pin), (SELECT count(*) FROM conflict), "
		"(SELECT count(*) FROM inode WHERE doubt > 0 AND doubt = 1), "
		"(SELECT count(*) FROM inode WHERE doubt > 0 AND doubt = 2)");
	err = cache_db_one(&q);
	if (err == 0) {
		open_files = cache_db_u64(&q);
		ret->pins = cache_db_u64(&q);
		ret->conflicts = cache_db_u64(&q);
		ret->unconfirmed = cache_db_u64(&q);
		ret->recovered = cache_db_u64(&q);
		base_lock(&cache->totals_mutex);
		t = cache->totals;
		base_unlock(&cache->totals_mutex);
		ret->inodes = (uint64_t)(t.inodes + txn->delta.inodes);
		ret->dirty_files = open_files +
			(uint64_t)(t.owed_files + txn->delta.owed_files);
	}
	return cache_db_end(&q, err);
}
