/*
 * fsync: what the data file holds is made durable, then what the index says of
 * it, its name included.
 *
 * The gen that the row had before the sync is durable after it; a writer goes
 * on from the next one, so that after a power cut an in-place change that was
 * not synced is seen as such.
 */
#include "fs/handle_priv.h"
#include "fs/written.h"

/* What was synced, up to the gen that the row had, is noted; a writer may go on from there. */
static int note_synced(struct fs_handles *h, const struct cache_inode *was,
	const struct cache_stamp *now, uint64_t allocated)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = cache_write(h->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, was->ino, &inode);
	if (err == 0) {
		if (inode.synced_gen < was->gen)
			inode.synced_gen = was->gen;
		inode.fsynced = true;
		if (inode.written) {
			inode.gen++;
			inode.size_bytes = now->size_bytes;
			if (now->mtime_ns != inode.stamp.mtime_ns)
				inode.mtime_ns = now->mtime_ns;
		}
		if (inode.written && inode.serial == was->serial)
			cache_space_note(h->m->cache, &inode, allocated);
		err = cache_inode_put(txn, &inode);
	}
	return cache_end(txn, err);
}

static int sync_data(struct fs_handles *h, const struct cache_inode *inode)
{
	struct cache_stamp before, after;
	uint64_t allocated;
	struct fs_file *f;
	int err;

	err = cache_data_stat(
		h->m->cache, inode->ino, inode->serial, &before, &allocated);
	if (err == 0)
		err = cache_data_sync(h->m->cache, inode->ino, inode->serial);
	if (err == 0)
		err = cache_data_stat(h->m->cache, inode->ino, inode->serial,
			&after, &allocated);
	if (err == 0)
		err = note_synced(h, inode, &after, allocated);
	if (err < 0)
		return err;
	base_lock(&h->mutex);
	f = fs_handles_find(h, inode->ino);
	if (f != NULL && f->written && fs_stamp_eq(&before, &after)) {
		f->synced = after;
		f->is_synced = true;
	}
	base_unlock(&h->mutex);
	return 0;
}

int fs_written_sync(struct fs_handles *h, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = cache_read(h->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &inode);
	cache_abort(txn);
	/* What is clean is in the store, and nothing is lost with it. */
	if (err == 0 && inode.kind == CACHE_FILE && inode.data == CACHE_WHOLE &&
		(inode.written || inode.gen != inode.synced_gen))
		err = sync_data(h, &inode);
	if (err == 0)
		err = cache_sync_index(h->m->cache);
	if (err == 0)
		tier_mark_sync(h->m->tier);
	return err;
}
