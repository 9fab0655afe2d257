/*
 * Private to cache/: rows of inodes, for those who join them.
 *
 * Threads, ownership, errors: as db.h.
 */
#ifndef CACHE_TREE_H
#define CACHE_TREE_H

#include "cache/db.h"

/* The columns that cache_inode_read() takes, of a table called i. */
#define CACHE_INODE_COLUMNS                                              \
	"i.ino, i.kind, i.mode, i.uid, i.gid, i.nlink, i.rdev, i.size, " \
	"i.mtime_ns, i.ctime_ns, i.atime_ns, i.btime_ns, i.gen, "        \
	"i.meta_gen, i.synced_gen, i.serial, i.serial_top, i.data, "     \
	"i.written, i.stored, i.implicit, i.access, "                    \
	"i.fsynced, i.doubt, "                                           \
	"i.content, i.file, i.stamp_size, i.stamp_mtime_ns, "            \
	"i.stamp_ctime_ns, i.local_bytes"
void cache_inode_read(struct cache_query *q, struct cache_inode *ret);
/* A statement with one parameter, an inode. */
#define cache_db_run_ino(txn, sql, ino) \
	cache_db_run_ino_sql(txn, CACHE_SQL(sql), ino)
int cache_db_run_ino_sql(struct cache_txn *txn, const char *sql, uint64_t ino);
/* Calls `each` with the first column of each row, and ends the query. */
int cache_ino_each(struct cache_query *q, cache_ino_fn each, void *arg);

#endif
