/*
 * Room on the disks: the account, reservations, eviction (space.c, evict.c).
 * Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_SPACE_H
#define CACHE_SPACE_H

#include "cache/inodes.h"

struct cache_space {
	uint64_t used_bytes;  /* data files, as allocated */
	uint64_t limit_bytes; /* resolved cache_size */
	uint64_t reserve_bytes;
	uint64_t dirty_limit_bytes;
	uint64_t fs_free_bytes, fs_total_bytes;
	uint64_t fs_files, fs_files_free;
};
void cache_space_get(struct cache *cache, struct cache_space *ret);
/*
 * Room for that many more bytes of fetched data: evicts if needed.  0, or
 * -ENOSPC when nothing more may go.  [sync]  What is reserved counts as used
 * until cache_space_release() of the same number, which comes after the
 * commit that put the bytes into the account (or when they do not come).
 */
int cache_space_reserve(struct cache *cache, uint64_t bytes);
void cache_space_release(struct cache *cache, uint64_t bytes);
/* The same reservation if there is room without anything being evicted, now or
 * soon after; never waits.  -ENOSPC. */
int cache_space_spare(struct cache *cache, uint64_t bytes);
/* The same reservation beyond the limit, for what somebody waits for when
 * nothing more may go: a file may be larger than the cache while it is open.
 * -ENOSPC: the file systems have no room beyond the reserve. */
int cache_space_exceed(struct cache *cache, uint64_t bytes);
/* Is there room for a writer of new data?  False above dirty_limit or without
 * free space. */
bool cache_space_may_write(struct cache *cache, uint64_t dirty_bytes);
/* Kicks eviction in the background. */
void cache_space_kick(struct cache *cache);
/* [sync] Drops the local bytes of one clean inode now.  -EBUSY in use or
 * dirty, -EPERM pinned, 0 dropped or nothing local. */
int cache_evict_inode(struct cache *cache, uint64_t ino, uint64_t *ret_bytes);
/* Re-reads what a data file occupies into the account (open writers). */
int cache_space_account(struct cache_txn *txn, uint64_t ino);
/* The same for who has just looked, and is about to write the row. */
void cache_space_note(struct cache *cache, struct cache_inode *inode,
	uint64_t allocated_bytes);

struct cache_counts {
	uint64_t inodes, dirty_files, pins, conflicts;
	uint64_t unconfirmed, recovered; /* enum cache_doubt */
};
int cache_counts_get(struct cache_txn *txn, struct cache_counts *ret);

#endif
