/*
 * Older states that are still owed are kept when their file is opened to be
 * changed: keep() of WRITEBACK section 5.  Rules O1 to O7: order.c.
 */
#include <errno.h>

#include "tier/order.h"

bool tier_keep_needed(struct tier *tier, struct cache_txn *txn,
	const struct cache_inode *inode)
{
	bool referenced = false;

	(void)tier;
	if (inode->kind != CACHE_FILE || inode->data != CACHE_WHOLE)
		return false;
	if (cache_owed_refers(txn, inode->ino, inode->serial, &referenced) < 0)
		return true; /* keeping too much is safe */
	return referenced;
}

bool tier_state_waits(struct tier *tier, struct cache_txn *txn,
	const struct cache_inode *inode)
{
	struct cache_owed row;
	bool waits;

	/* By its file, not by its name: it may have lost that. */
	if (cache_owed_newest_of(txn, inode->ino, inode->serial, &row) < 0)
		return false;
	waits = row.entered_ns > 0 &&
		cache_id_eq(&row.content, &inode->content) &&
		base_boot_ns(tier->env) - row.entered_ns < TIER_WRITTEN_WAIT_NS;
	cache_owed_fini(&row);
	return waits;
}

/* No copy of the older state can be had: the epochs from it to now become one
 * group. */
static int keep_by_joining(struct tier *tier, uint64_t ino, uint64_t serial)
{
	struct cache_txn *txn;
	uint64_t epoch = 0;
	int err;

	err = cache_write(tier->cache, &txn);
	if (err < 0)
		return err;
	err = cache_owed_first_of(txn, ino, serial, &epoch);
	if (err == 0)
		err = tier_order_join(tier, txn, epoch, tier->order.epoch);
	if (err == -ENOENT)
		err = 0;
	return cache_end(txn, err);
}

/* Has somebody changed it while it was copied? */
static bool is_torn(struct tier *tier, const struct cache_inode *inode)
{
	struct cache_stamp now;
	uint64_t allocated;

	/* Without a writer its gate sees to that. */
	return inode->written &&
		(cache_data_stat(tier->cache, inode->ino, inode->serial, &now,
			 &allocated) < 0 ||
			now.size_bytes != inode->stamp.size_bytes ||
			now.mtime_ns != inode->stamp.mtime_ns ||
			now.ctime_ns != inode->stamp.ctime_ns);
}

int tier_keep(struct tier *tier, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	uint64_t kept;
	int err;

	/* The number first, then the copy, then the rows: a crash between
	 * leaves a file nobody names. */
	err = cache_write(tier->cache, &txn);
	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &inode);
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	kept = ++inode.serial_top;
	err = cache_inode_put(txn, &inode);
	err = cache_end(txn, err);
	if (err < 0)
		return err;
	err = cache_data_clone(
		tier->cache, ino, inode.serial, kept, TIER_KEEP_COPY_BYTES);
	if (err == -EFBIG || err == -ENOSPC)
		return keep_by_joining(tier, ino, inode.serial);
	if (err < 0)
		return err;
	err = cache_write(tier->cache, &txn);
	if (err < 0)
		return err;
	/* No row is in a file of its own number: then it goes. */
	err = cache_owed_repoint(
		txn, ino, is_torn(tier, &inode) ? kept : inode.serial, kept);
	return cache_end(txn, err);
}
