/*
 * Which bytes are local: the rows' side of data files.
 *
 *	data	extent rows			data file INO.SERIAL
 *	NONE	none				none that matters
 *	PART	the fetched ranges		sparse
 *	WHOLE	none, or what became durable	all of it
 *		when, while that still matters
 *
 * Invariants.
 *	L1 Rows of one inode do not overlap.
 *	L2 A row's flush_nr names the flush of the data directory that makes its
 *	   bytes durable; neighbours with bytes of different flushes are not
 *	   merged before both are durable, so that a power cut takes back the
 *	   last seconds and not the file.
 *	L3 inode.flush_nr is the highest of its rows, while its bytes are from
 *	   the store (of others: tree.c, T2).
 *	L4 A data file that is no longer its inode's current one is on disk while
 *	   an owed row names it, and one such row carries its bytes in the
 *	   account.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "cache/tree.h"

struct row {
	uint64_t start, end, flush_nr;
};

/* Rows in a growing array. */
struct rows {
	struct row *row;
	size_t nr, cap;
};

static void push(struct rows *rows, const struct row *row)
{
	if (rows->nr == rows->cap) {
		rows->cap = rows->cap ? 2 * rows->cap : 8;
		rows->row =
			base_realloc(rows->row, rows->cap * sizeof(*rows->row));
	}
	rows->row[rows->nr++] = *row;
}

struct local {
	uint64_t size, flush_nr;
	enum cache_data data;
	bool stored;
};

static int get_local(struct cache_txn *txn, uint64_t ino, struct local *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT size, flush_nr, data, stored FROM inode WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0) {
		ret->size = cache_db_u64(&q);
		ret->flush_nr = cache_db_u64(&q);
		ret->data = (enum cache_data)cache_db_i64(&q);
		ret->stored = cache_db_i64(&q) != 0;
	}
	return cache_db_end(&q, err);
}

static int set_local(struct cache_txn *txn, uint64_t ino, enum cache_data data,
	uint64_t flush_nr)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE inode SET data = ?, flush_nr = ? WHERE ino = ?");
	cache_db_bind_i64(&q, data);
	cache_db_bind_u64(&q, flush_nr);
	cache_db_bind_u64(&q, ino);
	return cache_db_run(&q);
}

static int del_rows(
	struct cache_txn *txn, uint64_t ino, uint64_t first, uint64_t last)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"DELETE FROM extent WHERE ino = ? AND start BETWEEN ? AND ?");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, first);
	cache_db_bind_u64(&q, last);
	return cache_db_run(&q);
}

static int put_row(struct cache_txn *txn, uint64_t ino, const struct row *row)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"INSERT OR REPLACE INTO extent(ino, start, end, dirty, "
		"flush_nr) VALUES (?, ?, ?, 0, ?)");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, row->start);
	cache_db_bind_u64(&q, row->end);
	cache_db_bind_u64(&q, row->flush_nr);
	return cache_db_run(&q);
}

/* The rows that overlap or touch start..end, in order. */
static int find_rows(struct cache_txn *txn, uint64_t ino, uint64_t start,
	uint64_t end, struct rows *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT start, end, flush_nr FROM extent WHERE ino = ?1 AND "
		"start >= coalesce((SELECT max(start) FROM extent WHERE "
		"ino = ?1 AND start <= ?2), 0) AND start <= ?3 ORDER BY start");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, start);
	cache_db_bind_u64(&q, end);
	while ((err = cache_db_step(&q)) > 0) {
		struct row row;

		row.start = cache_db_u64(&q);
		row.end = cache_db_u64(&q);
		row.flush_nr = cache_db_u64(&q);
		if (row.end >= start)
			push(ret, &row);
	}
	return cache_db_end(&q, err);
}

/* ---- adding ---- */

/* Appends a range, merged with the one before where L2 allows it. */
static void append(struct rows *rows, uint64_t durable, const struct row *row)
{
	struct row *last = rows->nr ? &rows->row[rows->nr - 1] : NULL;

	if (row->start == row->end)
		return;
	if (last != NULL && last->end == row->start &&
		(last->flush_nr == row->flush_nr ||
			(last->flush_nr <= durable &&
				row->flush_nr <= durable))) {
		last->end = row->end;
		if (last->flush_nr < row->flush_nr)
			last->flush_nr = row->flush_nr;
		return;
	}
	push(rows, row);
}

/* What was there stays as durable as it was; only the gaps are new. */
static void merge(const struct rows *old, const struct row *new,
	uint64_t durable, struct rows *ret)
{
	struct row gap = *new;
	uint64_t at = new->start;

	for (size_t i = 0; i < old->nr; i++) {
		const struct row *o = &old->row[i];

		if (o->start > at) {
			gap.start = at;
			gap.end = o->start;
			append(ret, durable, &gap);
		}
		append(ret, durable, o);
		if (o->end > at)
			at = o->end;
	}
	if (at < new->end) {
		gap.start = at;
		gap.end = new->end;
		append(ret, durable, &gap);
	}
}

static int replace_rows(struct cache_txn *txn, uint64_t ino,
	const struct rows *was, const struct rows *now)
{
	int err = 0;

	assert(now->nr != 0 && now->row != NULL);
	/* The usual case, a stream that goes on, is one row made longer. */
	if (was->nr != 0 &&
		(was->nr > 1 || was->row[0].start != now->row[0].start))
		err = del_rows(txn, ino, was->row[0].start,
			was->row[was->nr - 1].start);
	for (size_t i = 0; i < now->nr && err == 0; i++)
		err = put_row(txn, ino, &now->row[i]);
	return err;
}

/* Is everything there?  Looks no further than the first gap. */
static int look(struct cache_txn *txn, uint64_t ino, uint64_t size,
	bool *ret_whole, bool *ret_mixed)
{
	struct cache_query q;
	uint64_t at = 0, nr = 0;
	bool mixed = false;
	int err;

	cache_db_begin(&q, txn,
		"SELECT start, end, flush_nr FROM extent WHERE ino = ? "
		"ORDER BY start");
	cache_db_bind_u64(&q, ino);
	while ((err = cache_db_step(&q)) > 0) {
		uint64_t row_nr;

		if (cache_db_u64(&q) != at)
			break;
		at = cache_db_u64(&q);
		row_nr = cache_db_u64(&q);
		if (nr != 0 && row_nr != nr)
			mixed = true;
		nr = row_nr;
	}
	if (err >= 0) {
		*ret_whole = at >= size;
		*ret_mixed = mixed;
		err = 0;
	}
	return cache_db_end(&q, err);
}

static int after_add(struct cache_txn *txn, uint64_t ino,
	const struct local *was, uint64_t nr, enum cache_data *ret_data)
{
	bool whole = false, mixed = false;
	uint64_t now_nr = was->flush_nr > nr ? was->flush_nr : nr;
	int err = look(txn, ino, was->size, &whole, &mixed);
	enum cache_data data;

	if (err != 0)
		return err;
	data = whole ? CACHE_WHOLE : CACHE_PART;
	if (data != was->data || now_nr != was->flush_nr)
		err = set_local(txn, ino, data, now_nr);
	if (err == 0 && whole && !mixed)
		err = del_rows(txn, ino, 0, INT64_MAX);
	if (err == 0 && ret_data != NULL)
		*ret_data = data;
	return err;
}

int cache_extent_add(struct cache_txn *txn, uint64_t ino, uint64_t start,
	uint64_t end, enum cache_data *ret_data)
{
	struct rows old = { 0 }, new = { 0 };
	struct row row = { .start = start, .end = end };
	struct local was;
	int err = get_local(txn, ino, &was);

	if (err != 0)
		return err;
	if (was.data == CACHE_WHOLE) {
		if (ret_data != NULL)
			*ret_data = CACHE_WHOLE;
		return 0;
	}
	if (row.end > was.size)
		row.end = was.size;
	if (was.data == CACHE_NONE)
		cache_use_enter(txn->cache, ino);
	row.flush_nr = cache_flush_nr(txn->cache);
	if (row.start < row.end) {
		err = find_rows(txn, ino, row.start, row.end, &old);
		if (err == 0) {
			/* Two flushes at most are not done: the next, and one
			 * under way. */
			merge(&old, &row,
				row.flush_nr >= 2 ? row.flush_nr - 2 : 0, &new);
			err = replace_rows(txn, ino, &old, &new);
		}
		free(old.row);
		free(new.row);
	}
	if (err != 0)
		return err;
	return after_add(txn, ino, &was, row.flush_nr, ret_data);
}

/* ---- asking ---- */

ssize_t cache_extent_missing(struct cache_txn *txn, uint64_t ino,
	uint64_t start, uint64_t end, struct cache_range *ret, size_t max)
{
	struct rows rows = { 0 };
	struct local is;
	size_t nr = 0;
	int err = get_local(txn, ino, &is);

	if (err != 0)
		return err;
	if (end > is.size)
		end = is.size;
	if (is.data == CACHE_WHOLE || start >= end)
		return 0;
	if (is.data == CACHE_PART)
		err = find_rows(txn, ino, start, end, &rows);
	for (size_t i = 0; i < rows.nr && err == 0; i++) {
		if (rows.row[i].start > start && nr < max) {
			ret[nr].start = start;
			ret[nr++].end = rows.row[i].start;
		}
		if (rows.row[i].end > start)
			start = rows.row[i].end;
	}
	if (start < end && nr < max) {
		ret[nr].start = start;
		ret[nr++].end = end;
	}
	free(rows.row);
	return err != 0 ? err : (ssize_t)nr;
}

int cache_extent_bytes(struct cache_txn *txn, uint64_t ino, uint64_t *ret)
{
	struct cache_query q;
	struct local is;
	int err = get_local(txn, ino, &is);

	if (err != 0)
		return err;
	if (is.data != CACHE_PART) {
		*ret = is.data == CACHE_WHOLE ? is.size : 0;
		return 0;
	}
	cache_db_begin(&q, txn,
		"SELECT coalesce(sum(end - start), 0) FROM extent "
		"WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0)
		*ret = cache_db_u64(&q);
	return cache_db_end(&q, err);
}

/* ---- letting go ---- */

int cache_data_release(struct cache_txn *txn, uint64_t ino, uint64_t serial,
	uint64_t local_bytes)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"UPDATE owed SET local_bytes = "
		"space_delta(local_bytes, local_bytes + ?3) WHERE seq = "
		"(SELECT seq FROM owed WHERE ino = ?1 AND serial = ?2 AND "
		"attrs_only = 0 LIMIT 1)");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, serial);
	cache_db_bind_u64(&q, local_bytes);
	err = cache_db_run(&q);
	if (err != 0)
		return err;
	/* It leaves its inode's column in either case. */
	txn->delta.local_bytes -= (int64_t)local_bytes;
	if (cache_db_changes(txn) == 0)
		cache_txn_drop(txn, ino, serial);
	return 0;
}

/* What the inode's row says of its data file (recover.c) is said by the rows of
 * the journal that keep it. */
static int hand_over_proof(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t flush_nr)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE owed SET flush_nr = ? WHERE ino = ? AND serial = ? "
		"AND attrs_only = 0");
	cache_db_bind_u64(&q, flush_nr);
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, serial);
	return cache_db_run(&q);
}

/* The inode's data file is replaced by the next number; `local_bytes` of the
 * row becomes 0, uncounted: cache_data_release() counted it. */
static int next_file(struct cache_txn *txn, struct cache_inode *inode)
{
	struct cache_query q;
	uint64_t serial = 0, local = 0, flush_nr = 0;
	bool written = false;
	int err;

	cache_db_begin(&q, txn,
		"SELECT serial, serial_top, local_bytes, CASE WHEN stored = 1 "
		"OR gen = synced_gen THEN 0 ELSE flush_nr END, written "
		"FROM inode WHERE ino = ?");
	cache_db_bind_u64(&q, inode->ino);
	err = cache_db_one(&q);
	if (err == 0) {
		serial = cache_db_u64(&q);
		inode->serial_top = cache_db_u64(&q) + 1;
		local = cache_db_u64(&q);
		flush_nr = cache_db_u64(&q);
		written = cache_db_i64(&q) != 0;
		inode->serial = inode->serial_top;
	}
	err = cache_db_end(&q, err);
	if (written)
		flush_nr = cache_flush_nr(txn->cache);
	if (err == 0 && flush_nr != 0)
		err = hand_over_proof(txn, inode->ino, serial, flush_nr);
	if (err != 0)
		return err;
	cache_db_begin(
		&q, txn, "UPDATE inode SET local_bytes = 0 WHERE ino = ?");
	cache_db_bind_u64(&q, inode->ino);
	err = cache_db_run(&q);
	if (err == 0)
		err = cache_data_release(txn, inode->ino, serial, local);
	if (err == 0)
		err = cache_db_run_ino(
			txn, "DELETE FROM extent WHERE ino = ?", inode->ino);
	inode->local_bytes = 0;
	inode->stamp = (struct cache_stamp){ 0 };
	return err;
}

int cache_data_drop(struct cache_txn *txn, uint64_t ino)
{
	struct cache_inode inode;
	int err = cache_inode_get(txn, ino, &inode);

	if (err != 0)
		return err;
	if (inode.data == CACHE_NONE && inode.local_bytes == 0)
		return 0;
	err = next_file(txn, &inode);
	if (err != 0)
		return err;
	inode.data = CACHE_NONE;
	err = cache_inode_put(txn, &inode);
	return err != 0 ? err : set_local(txn, ino, CACHE_NONE, 0);
}

int cache_data_missing(struct cache_txn *txn, uint64_t ino)
{
	struct cache_remote remote;
	struct cache_inode inode;
	int err = cache_inode_get(txn, ino, &inode);

	if (err != 0)
		return err;
	if (inode.data == CACHE_NONE)
		return 0;
	err = inode.stored && !inode.written
		? cache_remote_holding(txn, &inode.content, NULL, &remote)
		: -ENOENT;
	if (err != 0)
		return err == -ENOENT ? -EIO : err;
	cache_remote_fini(&remote);
	log_warn("cache: the data file of inode %llu is gone: it is fetched "
		 "again",
		(unsigned long long)ino);
	return cache_data_drop(txn, ino);
}

int cache_data_renew(struct cache_txn *txn, struct cache_inode *inode)
{
	int err = next_file(txn, inode);

	if (err != 0)
		return err;
	inode->size_bytes = 0;
	inode->data = CACHE_WHOLE;
	inode->stored = false;
	cache_use_enter(txn->cache, inode->ino);
	return cache_inode_put(txn, inode);
}

/* ---- after a power cut ---- */

#define RECOVER_BATCH 256

/* What of a file survived: everything, some rows, or nothing. */
static int recover_one(struct cache_txn *txn, uint64_t ino, uint64_t durable)
{
	struct cache_query q;
	struct local is;
	int left = 0, err = get_local(txn, ino, &is);

	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"DELETE FROM extent WHERE ino = ? AND flush_nr > ? "
		"AND dirty = 0");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, durable);
	err = cache_db_run(&q);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn, "SELECT 1 FROM extent WHERE ino = ? LIMIT 1");
	cache_db_bind_u64(&q, ino);
	left = cache_db_step(&q);
	cache_db_end(&q, 0);
	if (left < 0)
		return left;
	if (left == 0 && is.stored)
		return cache_data_drop(txn, ino);
	return set_local(txn, ino, CACHE_PART, durable);
}

int cache_local_recover(struct cache_txn *txn, uint64_t durable_flush_nr)
{
	uint64_t inos[RECOVER_BATCH], total = 0;
	size_t nr;
	int err;

	do {
		struct cache_query q;

		nr = 0;
		cache_db_begin(&q, txn,
			"SELECT ino FROM inode INDEXED BY inode_flush WHERE "
			"flush_nr > 0 AND flush_nr > ? AND written = 0 AND "
			"(stored = 1 OR data = 1) LIMIT ?");
		cache_db_bind_u64(&q, durable_flush_nr);
		cache_db_bind_u64(&q, RECOVER_BATCH);
		while ((err = cache_db_step(&q)) > 0)
			inos[nr++] = cache_db_u64(&q);
		err = cache_db_end(&q, err);
		for (size_t i = 0; i < nr && err == 0; i++)
			err = recover_one(txn, inos[i], durable_flush_nr);
		total += nr;
	} while (err == 0 && nr != 0);
	if (total != 0)
		log_info("index: %llu files were fetched shortly before the "
			 "power went; what is not on disk is fetched again",
			(unsigned long long)total);
	return err;
}
