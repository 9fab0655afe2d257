/*
 * Inodes: rows by number.
 *
 * Invariants.
 *	T1 A number is given once; root is CACHE_ROOT_INO.
 *	T2 flush_nr names the flush that makes the data file's bytes durable:
 *	   those fetched (local.c), or those of a closed file that no fsync
 *	   covers (recover.c).  0 while it is written-to, or when an fsync
 *	   proves it.
 *	T3 local_bytes changes only through space_delta(), so that the account
 *	   is the sum over all rows at every commit.
 */
#include "cache/tree.h"

/* Numbers taken at a time: few transactions, and few lost with a process. */
#define CACHE_TAKE_INOS 256

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool cache_id_is_none(const struct cache_id *id)
{
	static const struct cache_id none;

	return cache_id_eq(id, &none);
}

void cache_id_new(struct cache *cache, struct cache_id *ret)
{
	do {
		base_random(cache->env, ret->bytes, sizeof(ret->bytes));
	} while (cache_id_is_none(ret));
}

void cache_inode_read(struct cache_query *q, struct cache_inode *ret)
{
	ret->ino = cache_db_u64(q);
	ret->kind = (enum cache_kind)cache_db_i64(q);
	ret->mode = (uint32_t)cache_db_i64(q);
	ret->uid = (uint32_t)cache_db_i64(q);
	ret->gid = (uint32_t)cache_db_i64(q);
	ret->nlink = (uint32_t)cache_db_i64(q);
	ret->rdev = cache_db_u64(q);
	ret->size_bytes = cache_db_u64(q);
	ret->mtime_ns = cache_db_i64(q);
	ret->ctime_ns = cache_db_i64(q);
	ret->atime_ns = cache_db_i64(q);
	ret->btime_ns = cache_db_i64(q);
	ret->gen = cache_db_u64(q);
	ret->meta_gen = cache_db_u64(q);
	ret->synced_gen = cache_db_u64(q);
	ret->serial = cache_db_u64(q);
	ret->serial_top = cache_db_u64(q);
	ret->data = (enum cache_data)cache_db_i64(q);
	ret->written = cache_db_i64(q) != 0;
	ret->stored = cache_db_i64(q) != 0;
	ret->implicit = cache_db_i64(q) != 0;
	ret->access = (enum cache_access)cache_db_i64(q);
	ret->fsynced = cache_db_i64(q) != 0;
	ret->doubt = (enum cache_doubt)cache_db_i64(q);
	cache_db_id(q, &ret->content);
	cache_db_id(q, &ret->file);
	ret->stamp.size_bytes = cache_db_u64(q);
	ret->stamp.mtime_ns = cache_db_i64(q);
	ret->stamp.ctime_ns = cache_db_i64(q);
	ret->local_bytes = cache_db_u64(q);
}

/* The columns after ino, as the statements below name them. */
static void bind_columns(struct cache_query *q, const struct cache_inode *i)
{
	cache_db_bind_i64(q, i->kind);
	cache_db_bind_i64(q, i->mode);
	cache_db_bind_i64(q, i->uid);
	cache_db_bind_i64(q, i->gid);
	cache_db_bind_i64(q, i->nlink);
	cache_db_bind_u64(q, i->rdev);
	cache_db_bind_u64(q, i->size_bytes);
	cache_db_bind_i64(q, i->mtime_ns);
	cache_db_bind_i64(q, i->ctime_ns);
	cache_db_bind_i64(q, i->atime_ns);
	cache_db_bind_i64(q, i->btime_ns);
	cache_db_bind_u64(q, i->gen);
	cache_db_bind_u64(q, i->meta_gen);
	cache_db_bind_u64(q, i->synced_gen);
	cache_db_bind_u64(q, i->serial);
	cache_db_bind_u64(q, i->serial_top);
	cache_db_bind_i64(q, i->data);
	cache_db_bind_i64(q, i->written);
	cache_db_bind_i64(q, i->stored);
	cache_db_bind_i64(q, i->implicit);
	cache_db_bind_i64(q, i->access);
	/* In step: what was fsynced before is the store's, too. */
	cache_db_bind_i64(q, i->fsynced && (i->written || !i->stored));
	cache_db_bind_i64(q, i->doubt);
	cache_db_bind_id(q, &i->content);
	cache_db_bind_id(q, &i->file);
	cache_db_bind_u64(q, i->stamp.size_bytes);
	cache_db_bind_i64(q, i->stamp.mtime_ns);
	cache_db_bind_i64(q, i->stamp.ctime_ns);
	cache_db_bind_u64(q, i->local_bytes);
}

/* The one row of a query, which it ends. */
static int read_one(struct cache_query *q, struct cache_inode *ret)
{
	int err = cache_db_one(q);

	if (err == 0)
		cache_inode_read(q, ret);
	return cache_db_end(q, err);
}

int cache_inode_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret)
{
	struct cache_query q;

	if (cache_id_is_none(content))
		return -ENOENT;
	cache_db_begin(&q, txn,
		"SELECT " CACHE_INODE_COLUMNS " FROM inode i INDEXED BY "
		"inode_far WHERE i.content = ? AND i.content IS NOT NULL AND "
		"i.data <> 2 AND i.kind = 1 ORDER BY i.nlink DESC LIMIT 1");
	cache_db_bind_id(&q, content);
	return read_one(&q, ret);
}
_Static_assert(CACHE_WHOLE == 2 && CACHE_FILE == 1, "as in the SQL");

int cache_symlink_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret)
{
	struct cache_query q;

	if (cache_id_is_none(content))
		return -ENOENT;
	cache_db_begin(&q, txn,
		"SELECT " CACHE_INODE_COLUMNS " FROM inode i INDEXED BY "
		"inode_unread WHERE i.content = ? AND i.content IS NOT NULL "
		"AND i.target IS NULL AND i.kind = 3 "
		"ORDER BY i.nlink DESC LIMIT 1");
	cache_db_bind_id(&q, content);
	return read_one(&q, ret);
}
_Static_assert(CACHE_SYMLINK == 3, "as in the SQL");

int cache_inode_get(
	struct cache_txn *txn, uint64_t ino, struct cache_inode *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_INODE_COLUMNS " FROM inode i WHERE i.ino = ?");
	cache_db_bind_u64(&q, ino);
	return read_one(&q, ret);
}

static void fill_in(struct cache *cache, struct cache_inode *i)
{
	int64_t now = 0;

	if (i->mtime_ns == 0 || i->ctime_ns == 0 || i->atime_ns == 0 ||
		i->btime_ns == 0)
		now = base_wall_ns(cache->env);
	if (i->mtime_ns == 0)
		i->mtime_ns = now;
	if (i->ctime_ns == 0)
		i->ctime_ns = now;
	if (i->atime_ns == 0)
		i->atime_ns = now;
	if (i->btime_ns == 0)
		i->btime_ns = now;
	if (i->kind == CACHE_FILE && i->serial == 0)
		i->serial = 1;
	if (i->serial_top < i->serial)
		i->serial_top = i->serial;
}

/* With the number that it has: the root directory has a fixed one. */
int cache_inode_insert(struct cache_txn *txn, struct cache_inode *inode)
{
	struct cache_query q;
	int err;

	fill_in(txn->cache, inode);
	cache_db_begin(&q, txn,
		"INSERT INTO inode(ino, kind, mode, uid, gid, nlink, rdev, "
		"size, mtime_ns, ctime_ns, atime_ns, btime_ns, gen, meta_gen, "
		"synced_gen, serial, serial_top, data, written, stored, "
		"implicit, access, fsynced, doubt, content, file, "
		"stamp_size, stamp_mtime_ns, stamp_ctime_ns, local_bytes) "
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	cache_db_bind_u64(&q, inode->ino);
	bind_columns(&q, inode);
	err = cache_db_run(&q);
	if (err == 0) {
		txn->delta.inodes++;
		txn->delta.local_bytes += (int64_t)inode->local_bytes;
		if (inode->data != CACHE_NONE)
			cache_use_enter(txn->cache, inode->ino);
	}
	return err;
}

int cache_inode_add(struct cache_txn *txn, struct cache_inode *inode)
{
	int err = cache_db_number(txn, CACHE_COUNT_INO, &inode->ino);

	return err != 0 ? err : cache_inode_insert(txn, inode);
}

static bool take_ino(struct cache *cache, uint64_t *ret_ino)
{
	bool ok;

	base_lock(&cache->taken_mutex);
	ok = cache->taken_next < cache->taken_end;
	if (ok)
		*ret_ino = cache->taken_next++;
	base_unlock(&cache->taken_mutex);
	return ok;
}

int cache_ino_take(struct cache *cache, uint64_t *ret_ino)
{
	struct cache_txn *txn;
	uint64_t first = 0, last = 0;
	int err;

	if (take_ino(cache, ret_ino))
		return 0;
	err = cache_write(cache, &txn);
	if (err != 0)
		return err;
	err = cache_db_number(txn, CACHE_COUNT_INO, &first);
	for (int i = 1; i < CACHE_TAKE_INOS && err == 0; i++)
		err = cache_db_number(txn, CACHE_COUNT_INO, &last);
	if (err != 0) {
		cache_abort(txn);
		return err;
	}
	err = cache_commit(txn);
	if (err != 0)
		return err;
	/* Somebody else may have done the same; those of his are lost. */
	base_lock(&cache->taken_mutex);
	cache->taken_next = first + 1;
	cache->taken_end = last + 1;
	base_unlock(&cache->taken_mutex);
	*ret_ino = first;
	return 0;
}

#define PUT_COLUMNS                                                              \
	"kind = ?, mode = ?, uid = ?, gid = ?, nlink = ?, rdev = ?, "            \
	"size = ?, mtime_ns = ?, ctime_ns = ?, atime_ns = ?, "                   \
	"btime_ns = ?, gen = ?, meta_gen = ?, synced_gen = ?, "                  \
	"serial = ?, serial_top = ?, data = ?, written = ?, stored = ?, "        \
	"implicit = ?, access = ?, fsynced = ?, "                                \
	"doubt = ?, content = ?, file = ?, stamp_size = ?, stamp_mtime_ns = ?, " \
	"stamp_ctime_ns = ?, local_bytes = space_delta(local_bytes, ?)"

/* T2: closed, and not synced: the next flush proves it. */
static int put_unproven(struct cache_txn *txn, const struct cache_inode *inode)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE inode SET " PUT_COLUMNS ", flush_nr = CASE WHEN "
		"flush_nr > 0 AND gen = ? THEN flush_nr ELSE ? END "
		"WHERE ino = ?");
	bind_columns(&q, inode);
	cache_db_bind_u64(&q, inode->gen);
	cache_db_bind_u64(&q, cache_flush_nr(txn->cache));
	cache_db_bind_u64(&q, inode->ino);
	return cache_db_run_one(&q);
}

int cache_inode_put(struct cache_txn *txn, const struct cache_inode *inode)
{
	/* The first form leaves the index on flush_nr alone. */
	bool keeps = inode->stored || inode->data == CACHE_PART;
	bool counts = !keeps && inode->kind == CACHE_FILE &&
		inode->data == CACHE_WHOLE && !inode->written &&
		inode->gen != inode->synced_gen;
	struct cache_query q;

	if (counts)
		return put_unproven(txn, inode);
	if (keeps)
		cache_db_begin(&q, txn,
			"UPDATE inode SET " PUT_COLUMNS " WHERE ino = ?");
	else
		cache_db_begin(&q, txn,
			"UPDATE inode SET " PUT_COLUMNS
			", flush_nr = 0 WHERE ino = ?");
	bind_columns(&q, inode);
	cache_db_bind_u64(&q, inode->ino);
	return cache_db_run_one(&q);
}

int cache_db_run_ino_sql(struct cache_txn *txn, const char *sql, uint64_t ino)
{
	struct cache_query q;

	cache_db_begin_sql(&q, txn, sql);
	cache_db_bind_u64(&q, ino);
	return cache_db_run(&q);
}

/* What hangs on an inode in other tables. */
static int del_satellites(
	struct cache_txn *txn, uint64_t ino, enum cache_kind kind)
{
	int err = cache_db_run_ino(txn, "DELETE FROM xattr WHERE ino = ?", ino);

	if (err == 0)
		err = cache_db_run_ino(
			txn, "DELETE FROM pin WHERE ino = ?", ino);
	if (err == 0)
		err = cache_db_run_ino(
			txn, "DELETE FROM held WHERE ino = ?", ino);
	if (err == 0 && kind == CACHE_DIR)
		err = cache_db_run_ino(
			txn, "DELETE FROM listing WHERE ino = ?", ino);
	if (err == 0 && kind == CACHE_FILE)
		err = cache_db_run_ino(
			txn, "DELETE FROM extent WHERE ino = ?", ino);
	if (err == 0 && kind == CACHE_FILE)
		err = cache_db_run_ino(
			txn, "DELETE FROM used WHERE ino = ?", ino);
	return err;
}

int cache_inode_del(struct cache_txn *txn, uint64_t ino)
{
	struct cache_query q;
	enum cache_kind kind = CACHE_GONE;
	uint64_t serial = 0, local = 0;
	int err;

	cache_db_begin(&q, txn,
		"DELETE FROM inode WHERE ino = ? "
		"RETURNING kind, serial, local_bytes");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0) {
		kind = (enum cache_kind)cache_db_i64(&q);
		serial = cache_db_u64(&q);
		local = cache_db_u64(&q);
	}
	err = cache_db_end(&q, err);
	if (err != 0)
		return err;
	txn->delta.inodes--;
	if (kind == CACHE_FILE)
		err = cache_data_release(txn, ino, serial, local);
	return err != 0 ? err : del_satellites(txn, ino, kind);
}

int cache_target_get(struct cache_txn *txn, uint64_t ino, struct base_str *ret)
{
	struct cache_query q;
	void *target;
	size_t len;
	int err;

	cache_db_begin(&q, txn, "SELECT target FROM inode WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0) {
		target = cache_db_take_blob(&q, &len);
		if (target != NULL) {
			base_str_clear(ret);
			base_str_add(ret, target, len);
			free(target);
		} else {
			err = -ENOENT;
		}
	}
	return cache_db_end(&q, err);
}

int cache_target_set(struct cache_txn *txn, uint64_t ino, const char *target)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "UPDATE inode SET target = ? WHERE ino = ?");
	cache_db_bind_name(&q, target);
	cache_db_bind_u64(&q, ino);
	return cache_db_run_one(&q);
}

int cache_ino_each(struct cache_query *q, cache_ino_fn each, void *arg)
{
	int err;

	while ((err = cache_db_step(q)) > 0) {
		err = each(arg, cache_db_u64(q));
		if (err != 0)
			break;
	}
	return cache_db_end(q, err);
}

int cache_written_each(struct cache_txn *txn, cache_ino_fn each, void *arg)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT ino FROM inode WHERE written = 1 ORDER BY ino");
	return cache_ino_each(&q, each, arg);
}
