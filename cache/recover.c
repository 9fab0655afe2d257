/*
 * After a power cut: which data files nothing proves.
 *
 * A commit of the index that survived says what a file was; whether its bytes
 * survived, too, is a question of syncs:
 *	written-to			no
 *	gen = synced_gen		yes: an fsync
 *	stored				yes: they were durable before they were sent
 *					(or can be fetched again: local.c)
 *	flush_nr <= the last flush	yes: it came after the last change
 *	else				no
 * The same holds for older states, which are in files that only rows of `owed`
 * name (owed.flush_nr, 0: proven).
 *
 * What is unproven is bounded by what was open and by what a few seconds wrote;
 * it is found by partial indexes.  Deciding what becomes of it is tier/'s.
 */
#include <assert.h>
#include <errno.h>

#include "cache/owed.h"
#include "cache/tree.h"

int cache_unproven_each(struct cache_txn *txn, cache_ino_fn each, void *arg)
{
	struct cache_query q;

	if (txn->cache->recover_nr == UINT64_MAX)
		return 0;
	cache_db_begin(&q, txn,
		"SELECT ino FROM inode INDEXED BY inode_written WHERE "
		"written = 1 UNION ALL "
		"SELECT ino FROM inode INDEXED BY inode_flush WHERE "
		"flush_nr > 0 AND flush_nr > ? AND written = 0 AND stored = 0 "
		"AND data = 2 AND gen <> synced_gen");
	cache_db_bind_u64(&q, txn->cache->recover_nr);
	return cache_ino_each(&q, each, arg);
}

int cache_unproven_owed_each(
	struct cache_txn *txn, cache_owed_fn each, void *arg)
{
	struct cache_query q;

	if (txn->cache->recover_nr == UINT64_MAX)
		return 0;
	cache_db_begin(&q, txn,
		"SELECT " CACHE_OWED_COLUMNS " FROM owed INDEXED BY owed_flush "
		"WHERE flush_nr > 0 AND flush_nr > ?");
	cache_db_bind_u64(&q, txn->cache->recover_nr);
	return cache_owed_read_each(&q, each, arg);
}

int cache_recovered(struct cache_txn *txn)
{
	int err = cache_meta_set_u64(txn, "recover_nr", 0);

	if (err == 0)
		txn->cache->recover_nr = UINT64_MAX;
	return err;
}

bool cache_may_be_proven(struct cache_txn *txn, const struct cache_inode *inode)
{
	struct cache_query q;
	uint64_t nr = 0;
	int err;

	if (inode->written)
		return false;
	if (inode->stored || inode->gen == inode->synced_gen)
		return true;
	cache_db_begin(&q, txn, "SELECT flush_nr FROM inode WHERE ino = ?");
	cache_db_bind_u64(&q, inode->ino);
	err = cache_db_one(&q);
	if (err == 0)
		nr = cache_db_u64(&q);
	err = cache_db_end(&q, err);
	return err != 0 || cache_flush_has_begun(txn->cache, nr);
}

int cache_prove(struct cache_txn *txn, const struct cache_owed *row)
{
	struct cache_inode inode;
	struct cache_query q;
	int err = cache_inode_get(txn, row->ino, &inode);

	if (err != 0)
		return err == -ENOENT ? 0 : err;
	if (inode.serial == row->serial) {
		if (inode.written || inode.gen == inode.synced_gen ||
			!cache_id_eq(&inode.content, &row->content))
			return 0;
		inode.synced_gen = inode.gen;
		return cache_inode_put(txn, &inode);
	}
	cache_db_begin(&q, txn,
		"UPDATE owed SET flush_nr = 0 WHERE flush_nr > 0 AND seq = ?");
	cache_db_bind_u64(&q, row->seq);
	return cache_db_run(&q);
}

int cache_doubt_each(struct cache_txn *txn, cache_doubt_fn each, void *arg)
{
	struct cache_inode inode;
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT " CACHE_INODE_COLUMNS " FROM inode i INDEXED BY "
		"inode_doubt WHERE i.doubt > 0 ORDER BY i.ino");
	while ((err = cache_db_step(&q)) > 0) {
		cache_inode_read(&q, &inode);
		err = each(arg, &inode);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

int cache_doubt_end(struct cache_txn *txn, uint64_t ino)
{
	return cache_db_run_ino(txn,
		"UPDATE inode SET doubt = 0 WHERE doubt > 0 AND ino = ?", ino);
}
