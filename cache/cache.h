/*
 * The local truth: an index (SQLite) and data files on NVMe.
 *
 * What it is for.  The index holds the tree as this host sees it, what the
 * store holds under each name, what the store must still be told (the
 * write-back journal), and which bytes are local.  It is the only state; a
 * process that dies loses nothing that was committed here.
 *
 * Threads and locks.  Every function may be called from any thread.  A struct
 * cache_txn belongs to the thread that began it.  There is one writer at a
 * time: cache_write() waits for it; readers never wait.  Never keep a
 * transaction across network, a wait, or a callback; functions marked [sync]
 * wait for the disk and are called without a transaction.
 *
 * Ownership.  Callers own what they pass; what comes back in a struct is
 * copied into it; strings that come back allocated say so.
 *
 * Errors.  0 or -errno: -ENOENT no such row, -EIO the index or the disk
 * failed (logged here), -ENOSPC.  After an error in a write transaction only
 * cache_abort() is allowed.  File-system semantics (ENOTEMPTY, EEXIST ...)
 * are decided by the caller inside its transaction.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "cache/open.h"	   /* the cache, its transactions */
#include "cache/inodes.h"  /* inodes and names */
#include "cache/remotes.h" /* what the store holds */
#include "cache/journal.h" /* what it must be told */
#include "cache/bytes.h"   /* local bytes */
#include "cache/space.h"   /* room for them */
#include "cache/doubts.h"  /* what a power cut left */
#include "cache/records.h" /* conflicts, jobs, answers */
#include "cache/fsck.h"	   /* one that nobody uses */

#endif
