/*
 * Local bytes: which ranges of a file are here (local.c), its data file
 * (data.c, clone.c), and when it is durable (sync.c).  Part of cache.h, whose
 * rules hold here.
 */
#ifndef CACHE_BYTES_H
#define CACHE_BYTES_H

#include "cache/inodes.h"

struct cache_range {
	uint64_t start, end; /* bytes, end exclusive */
};
/* Fetched bytes are in the data file; merges with neighbours; the rows carry
 * the next flush number.  Sets data to PART, or WHOLE when all are there (in
 * the row: get the inode again). */
int cache_extent_add(struct cache_txn *txn, uint64_t ino, uint64_t start,
	uint64_t end, enum cache_data *ret_data);
/* The missing ranges of start..end, at most max; returns how many. */
ssize_t cache_extent_missing(struct cache_txn *txn, uint64_t ino,
	uint64_t start, uint64_t end, struct cache_range *ret, size_t max);
/* How many bytes of it are local. */
int cache_extent_bytes(struct cache_txn *txn, uint64_t ino, uint64_t *ret);
/* Its data file is not there: a disk was lost.  0: the store has the bytes, and
 * the row says that none are local; -EIO: nobody has them. */
int cache_data_missing(struct cache_txn *txn, uint64_t ino);
/* Forgets its local bytes: data = NONE, next serial; the old data file goes
 * after the commit unless an owed row keeps it.  The caller has claimed the
 * inode (cache_claim()). */
int cache_data_drop(struct cache_txn *txn, uint64_t ino);
/* Like it, but the inode begins a new, empty, whole data file (truncation):
 * serial, size, data, stored, stamp and local_bytes are set here, and the row
 * is written; content and generations are the caller's. */
int cache_data_renew(struct cache_txn *txn, struct cache_inode *inode);

/* The data file.  Flags as open(2); with O_CREAT it is made anew (a left-over
 * of that number is unlinked first), owned by root, 0600.  The daemon opens
 * for writing only to fill and to make; never a file a user may have open
 * written-to.  Returns an fd or -errno. */
int cache_data_open(
	struct cache *cache, uint64_t ino, uint64_t serial, int flags);
/* Takes away one that was made for a row that did not come to be. */
void cache_data_unmake(struct cache *cache, uint64_t ino, uint64_t serial);
/* Bytes from the store begin to be in it: it is marked, by its mode, as one
 * that can be fetched again, whatever becomes of the index. */
int cache_data_mark_fetched(int fd);
/* Users will write to it: it is marked as one that cannot.  *ret_moved: its
 * stamp is another one now. */
int cache_data_mark_ours(
	struct cache *cache, uint64_t ino, uint64_t serial, bool *ret_moved);
/* Its absolute path, allocated. */
char *cache_data_path(struct cache *cache, uint64_t ino, uint64_t serial);
/* [sync] fdatasync, and fsync of its directory where the file is new. */
int cache_data_sync(struct cache *cache, uint64_t ino, uint64_t serial);
/* [sync] syncfs of every data directory: replaces many single syncs. */
int cache_data_sync_all(struct cache *cache);
/* [sync] A second data file with the same bytes: reflink, else a copy if no
 * longer than copy_max.  -EFBIG, -ENOSPC. */
int cache_data_clone(struct cache *cache, uint64_t ino, uint64_t from_serial,
	uint64_t to_serial, uint64_t copy_max);
/* statx of a data file. */
int cache_data_stat(struct cache *cache, uint64_t ino, uint64_t serial,
	struct cache_stamp *ret, uint64_t *ret_allocated_bytes);
/* Do the cache's file systems know leases? */
bool cache_data_leases(const struct cache *cache);
/* Is one of them stacked on another (overlayfs)?  Then no passthrough. */
bool cache_data_stacked(const struct cache *cache);
/* Asks the kernel, by a lease, who else has a data file open or mapped: for
 * writing, or at all.  0 nobody; -EBUSY; -ENOTSUP without leases. */
int cache_data_probe(
	struct cache *cache, uint64_t ino, uint64_t serial, bool writers_only);

/* [sync] One shared fdatasync of the WAL: covers all commits made before the
 * call; callers that come meanwhile share the next one. */
int cache_sync_index(struct cache *cache);

#endif
