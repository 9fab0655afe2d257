/*
 * The write-back journal: rows by seq.
 *
 * Invariants.
 *	J1 seq only grows; a number is given once, also to directory renames.
 *	J2 A data file, and a held inode, is there while a row names it; the
 *	   last row that goes or points elsewhere lets go of it (let_go()).
 *	J3 cache->totals counts the rows as they are at every commit.
 */
#include "cache/owed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void cache_owed_fini(struct cache_owed *row)
{
	free(row->name);
	free(row->error);
	row->name = row->error = NULL;
}

/* ---- reading ---- */

static void read_row(struct cache_query *q, struct cache_owed *ret)
{
	bool before;

	memset(ret, 0, sizeof(*ret));
	ret->seq = cache_db_u64(q);
	ret->epoch = cache_db_u64(q);
	ret->name = cache_db_take_text(q);
	ret->kind = (enum cache_kind)cache_db_i64(q);
	ret->state = (enum cache_owed_state)cache_db_i64(q);
	ret->group = cache_db_i64(q) != 0;
	ret->phase = (uint8_t)cache_db_i64(q);
	ret->attrs_only = cache_db_i64(q) != 0;
	ret->quiet = cache_db_i64(q) != 0;
	ret->change = (uint8_t)cache_db_i64(q);
	ret->ino = cache_db_u64(q);
	ret->serial = cache_db_u64(q);
	ret->size_bytes = cache_db_u64(q);
	ret->gen = cache_db_u64(q);
	cache_db_id(q, &ret->content);
	ret->attrs.mode = (uint32_t)cache_db_i64(q);
	ret->attrs.uid = (uint32_t)cache_db_i64(q);
	ret->attrs.gid = (uint32_t)cache_db_i64(q);
	ret->attrs.rdev = cache_db_u64(q);
	ret->attrs.mtime_ns = cache_db_i64(q);
	ret->displaced = cache_db_u64(q);
	ret->entered_ns = cache_db_i64(q);
	before = cache_db_u64(q) != q->txn->cache->boot_nr;
	if (before)
		ret->entered_ns = -1;
	ret->tries = (uint32_t)cache_db_i64(q);
	ret->error = cache_db_take_text(q);
	ret->refused_ns = cache_db_i64(q);
	if (before && ret->refused_ns != 0)
		ret->refused_ns = -1;
	ret->run = cache_db_u64(q);
	ret->step = cache_db_u64(q);
}

/* The one row of a query, which it ends. */
static int read_one(struct cache_query *q, struct cache_owed *ret)
{
	int err = cache_db_one(q);

	if (err == 0)
		read_row(q, ret);
	return cache_db_end(q, err);
}

int cache_owed_read_each(struct cache_query *q, cache_owed_fn each, void *arg)
{
	struct cache_owed row;
	int err;

	while ((err = cache_db_step(q)) > 0) {
		read_row(q, &row);
		err = each(arg, &row);
		cache_owed_fini(&row);
		if (err != 0)
			break;
	}
	return cache_db_end(q, err);
}

int cache_owed_get(struct cache_txn *txn, uint64_t seq, struct cache_owed *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed WHERE seq = ?");
	cache_db_bind_u64(&q, seq);
	return read_one(&q, ret);
}

int cache_owed_newest(
	struct cache_txn *txn, const char *name, struct cache_owed *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed WHERE name = ? "
		"ORDER BY seq DESC LIMIT 1");
	cache_db_bind_name(&q, name);
	return read_one(&q, ret);
}

int cache_owed_newest_unsent(
	struct cache_txn *txn, const char *name, struct cache_owed *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_name "
		"WHERE name = ? AND state = 0 ORDER BY seq DESC LIMIT 1");
	cache_db_bind_name(&q, name);
	return read_one(&q, ret);
}

int cache_owed_next_unsent(struct cache_txn *txn, const char *name,
	uint64_t after_seq, struct cache_owed *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_name "
		"WHERE name = ? AND state = 0 AND seq > ? "
		"ORDER BY seq LIMIT 1");
	cache_db_bind_name(&q, name);
	cache_db_bind_u64(&q, after_seq);
	return read_one(&q, ret);
}

/* ---- the account ---- */

/* What of a row is counted and kept. */
struct brief {
	enum cache_kind kind;
	enum cache_owed_state state;
	bool attrs_only;
	uint64_t size, ino, serial, local_bytes;
};

static struct brief brief_of(const struct cache_owed *row)
{
	return (struct brief){ .kind = row->kind,
		.state = row->state,
		.attrs_only = row->attrs_only,
		.size = row->size_bytes,
		.ino = row->ino,
		.serial = row->serial };
}

static void read_brief(struct cache_query *q, struct brief *ret)
{
	ret->kind = (enum cache_kind)cache_db_i64(q);
	ret->state = (enum cache_owed_state)cache_db_i64(q);
	ret->attrs_only = cache_db_i64(q) != 0;
	ret->size = cache_db_u64(q);
	ret->ino = cache_db_u64(q);
	ret->serial = cache_db_u64(q);
	ret->local_bytes = cache_db_u64(q);
}

static void count(struct cache_txn *txn, const struct brief *b, int sign)
{
	struct cache_totals *d = &txn->delta;

	if (b->state == CACHE_OWED_ASIDE)
		d->owed_aside += sign;
	else
		d->owed_rows += sign;
	if (b->kind == CACHE_FILE && !b->attrs_only) {
		d->owed_files += sign;
		d->owed_bytes += sign * (int64_t)b->size;
	}
}

/* ---- letting go ---- */

struct needs {
	uint64_t serial; /* the inode's, 0 if it is gone */
	bool inode, held;
};

static int get_needs(
	struct cache_txn *txn, const struct brief *b, struct needs *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT coalesce((SELECT serial FROM inode WHERE ino = ?1), 0),"
		" EXISTS(SELECT 1 FROM owed WHERE ino = ?1),"
		" EXISTS(SELECT 1 FROM held WHERE ino = ?1)");
	cache_db_bind_u64(&q, b->ino);
	err = cache_db_one(&q);
	if (err == 0) {
		ret->serial = cache_db_u64(&q);
		ret->inode = cache_db_i64(&q) != 0;
		ret->held = cache_db_i64(&q) != 0;
	}
	return cache_db_end(&q, err);
}

/* A row has stopped naming (b->ino, b->serial). */
static int let_go(struct cache_txn *txn, const struct brief *b)
{
	struct needs needs = { 0 };
	int err;

	if (b->ino == 0)
		return 0;
	err = get_needs(txn, b, &needs);
	if (err != 0)
		return err;
	if (b->kind == CACHE_FILE && b->serial != 0 &&
		needs.serial != b->serial)
		err = cache_data_release(
			txn, b->ino, b->serial, b->local_bytes);
	else
		txn->delta.local_bytes -= (int64_t)b->local_bytes;
	if (err != 0 || !needs.held || needs.inode)
		return err;
	err = cache_claim(txn, b->ino);
	if (err != 0)
		return err == -EBUSY ? 0 : err;
	return cache_inode_del(txn, b->ino);
}

/* ---- changing ---- */

static void bind_columns(struct cache_query *q, const struct cache_owed *row)
{
	cache_db_bind_u64(q, row->epoch);
	cache_db_bind_name(q, row->name);
	cache_db_bind_i64(q, row->kind);
	cache_db_bind_i64(q, row->state);
	cache_db_bind_i64(q, row->group);
	cache_db_bind_i64(q, row->phase);
	cache_db_bind_i64(q, row->attrs_only);
	cache_db_bind_i64(q, row->quiet);
	cache_db_bind_i64(q, row->change);
	cache_db_bind_u64(q, row->ino);
	cache_db_bind_u64(q, row->serial);
	cache_db_bind_u64(q, row->size_bytes);
	cache_db_bind_u64(q, row->gen);
	cache_db_bind_id(q, &row->content);
	cache_db_bind_i64(q, row->attrs.mode);
	cache_db_bind_i64(q, row->attrs.uid);
	cache_db_bind_i64(q, row->attrs.gid);
	cache_db_bind_u64(q, row->attrs.rdev);
	cache_db_bind_i64(q, row->attrs.mtime_ns);
	cache_db_bind_u64(q, row->displaced);
	cache_db_bind_i64(q, row->entered_ns);
	cache_db_bind_u64(q, q->txn->cache->boot_nr);
	cache_db_bind_i64(q, row->tries);
	cache_db_bind_name(q, row->error);
	cache_db_bind_i64(q, row->refused_ns);
	cache_db_bind_u64(q, row->run);
	cache_db_bind_u64(q, row->step);
}

int cache_owed_add(struct cache_txn *txn, struct cache_owed *row)
{
	struct brief b = brief_of(row);
	struct cache_query q;
	int err = cache_db_number(txn, CACHE_COUNT_OWED, &row->seq);

	if (err != 0)
		return err;
	if (row->entered_ns == 0)
		row->entered_ns = base_boot_ns(txn->cache->env);
	cache_db_begin(&q, txn,
		"INSERT INTO owed(" CACHE_OWED_COLUMNS ") VALUES (?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
		"?, ?, ?, ?)");
	cache_db_bind_u64(&q, row->seq);
	bind_columns(&q, row);
	err = cache_db_run(&q);
	if (err == 0)
		count(txn, &b, 1);
	return err;
}

static int get_brief(struct cache_txn *txn, uint64_t seq, struct brief *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT kind, state, attrs_only, size, ino, serial, "
		"local_bytes FROM owed WHERE seq = ?");
	cache_db_bind_u64(&q, seq);
	err = cache_db_one(&q);
	if (err == 0)
		read_brief(&q, ret);
	return cache_db_end(&q, err);
}

#define PUT_COLUMNS                                                         \
	"epoch = ?, name = ?, kind = ?, state = ?, grp = ?, phase = ?, "    \
	"attrs_only = ?, quiet = ?, change = ?, ino = ?, serial = ?, "      \
	"size = ?, gen = ?, content = ?, mode = ?, uid = ?, gid = ?, "      \
	"rdev = ?, mtime_ns = ?, displaced = ?, entered_ns = ?, boot = ?, " \
	"tries = ?, error = ?, refused_ns = ?, run = ?, step = ?"

int cache_owed_put(struct cache_txn *txn, const struct cache_owed *row)
{
	struct brief was, is = brief_of(row);
	struct cache_query q;
	bool moved;
	int err = get_brief(txn, row->seq, &was);

	if (err != 0)
		return err;
	moved = was.ino != is.ino || was.serial != is.serial;
	if (moved)
		cache_db_begin(&q, txn,
			"UPDATE owed SET " PUT_COLUMNS
			", local_bytes = 0, flush_nr = 0 WHERE seq = ?");
	else
		cache_db_begin(&q, txn,
			"UPDATE owed SET " PUT_COLUMNS " WHERE seq = ?");
	bind_columns(&q, row);
	cache_db_bind_u64(&q, row->seq);
	err = cache_db_run(&q);
	if (err != 0)
		return err;
	count(txn, &was, -1);
	count(txn, &is, 1);
	return moved ? let_go(txn, &was) : 0;
}

int cache_owed_del(struct cache_txn *txn, uint64_t seq)
{
	struct cache_query q;
	struct brief was;
	int err;

	cache_db_begin(&q, txn,
		"DELETE FROM owed WHERE seq = ? RETURNING kind, state, "
		"attrs_only, size, ino, serial, local_bytes");
	cache_db_bind_u64(&q, seq);
	err = cache_db_one(&q);
	if (err == 0)
		read_brief(&q, &was);
	err = cache_db_end(&q, err);
	if (err != 0)
		return err;
	count(txn, &was, -1);
	return let_go(txn, &was);
}

static int see_seq(void *arg, const struct cache_owed *row)
{
	*(uint64_t *)arg = row->seq;
	return 1;
}

/* The oldest row set aside, of this name; 0: none. */
static int first_aside(struct cache_txn *txn, const char *name, uint64_t *ret)
{
	struct cache_query q;
	int err;

	*ret = 0;
	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_name "
		"WHERE name = ? AND state = 2 ORDER BY seq LIMIT 1");
	cache_db_bind_name(&q, name);
	err = cache_owed_read_each(&q, see_seq, ret);
	return err < 0 ? err : 0;
}

bool cache_owed_has_aside(struct cache_txn *txn)
{
	struct cache *cache = txn->cache;
	int64_t nr;

	base_lock(&cache->totals_mutex);
	nr = cache->totals.owed_aside + txn->delta.owed_aside;
	base_unlock(&cache->totals_mutex);
	return nr > 0;
}

int cache_owed_is_aside(struct cache_txn *txn, const char *name, bool *ret)
{
	uint64_t seq = 0;
	int err = 0;

	if (cache_owed_has_aside(txn))
		err = first_aside(txn, name, &seq);
	*ret = seq != 0;
	return err;
}

int cache_owed_drop_aside(struct cache_txn *txn, const char *name)
{
	uint64_t seq = 1;
	int err = 0;

	while (err == 0 && seq != 0 && cache_owed_has_aside(txn)) {
		err = first_aside(txn, name, &seq);
		if (err == 0 && seq != 0)
			err = cache_owed_del(txn, seq);
	}
	return err;
}

int cache_owed_renumber(struct cache_txn *txn, uint64_t seq, uint64_t *ret_seq)
{
	struct cache_query q;
	uint64_t number;
	int err = cache_db_number(txn, CACHE_COUNT_OWED, &number);

	if (err != 0)
		return err;
	cache_db_begin(&q, txn, "UPDATE owed SET seq = ? WHERE seq = ?");
	cache_db_bind_u64(&q, number);
	cache_db_bind_u64(&q, seq);
	err = cache_db_run_one(&q);
	if (err == 0)
		*ret_seq = number;
	return err;
}

/* ---- rows that need a data file ---- */

int cache_owed_newest_of(struct cache_txn *txn, uint64_t ino, uint64_t serial,
	struct cache_owed *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_ino "
		"WHERE ino = ? AND serial = ? AND state = 0 AND "
		"attrs_only = 0 ORDER BY seq DESC LIMIT 1");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, serial);
	return read_one(&q, ret);
}

int cache_owed_first_of(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT epoch FROM owed INDEXED BY owed_ino WHERE ino = ? AND "
		"serial = ? AND state <> 2 AND attrs_only = 0 "
		"ORDER BY epoch LIMIT 1");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, serial);
	err = cache_db_one(&q);
	if (err == 0)
		*ret = cache_db_u64(&q);
	return cache_db_end(&q, err);
}

int cache_owed_refers(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, bool *ret)
{
	uint64_t epoch;
	int err = cache_owed_first_of(txn, ino, serial, &epoch);

	if (err != 0 && err != -ENOENT)
		return err;
	*ret = err == 0;
	return 0;
}

int cache_owed_repoint(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t kept)
{
	struct cache_query q;
	uint64_t size = 0;
	bool any = false;
	int err;

	cache_db_begin(&q, txn,
		"UPDATE owed SET serial = ?3, flush_nr = ?4 WHERE ino = ?1 AND serial = ?2 "
		"AND state <> 2 AND attrs_only = 0 AND content IS "
		"(SELECT content FROM inode WHERE ino = ?1) RETURNING size");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, serial);
	cache_db_bind_u64(&q, kept);
	/* The copy is in the page cache by now. */
	cache_db_bind_u64(&q, cache_flush_nr(txn->cache));
	while ((err = cache_db_step(&q)) > 0) {
		any = true;
		size = cache_db_u64(&q);
	}
	err = cache_db_end(&q, err);
	if (err != 0 || (any && size == 0))
		return err;
	/* A second file: its bytes are new in the account. */
	txn->delta.local_bytes += (int64_t)size;
	return cache_data_release(txn, ino, kept, size);
}
