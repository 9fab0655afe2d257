/*
 * After a power cut: what nothing proves to be whole (recover.c).  Part of
 * cache.h, whose rules hold here.
 */
#ifndef CACHE_DOUBTS_H
#define CACHE_DOUBTS_H

#include "cache/journal.h"

/*
 * A closed file is *proven* by an fsync (synced_gen), by a flush of its data
 * directory that came after its last change, or by its bytes being in the
 * store.  Files that nothing proves: written-to when the power went, or closed
 * a moment before.
 */
int cache_unproven_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* The same of older states, which rows of the journal keep in data files of
 * their own. */
int cache_unproven_owed_each(
	struct cache_txn *txn, cache_owed_fn each, void *arg);
/* All of them were dealt with: what is unproven from here on is so because of
 * the next power cut. */
int cache_recovered(struct cache_txn *txn);
/* Would a power cut find this closed file proven?  Then whoever is about to
 * change its bytes in place must make durable first that it is written-to. */
bool cache_may_be_proven(
	struct cache_txn *txn, const struct cache_inode *inode);
/* The state that this row sends was made durable, by whatever sync. */
int cache_prove(struct cache_txn *txn, const struct cache_owed *row);
/* Files in doubt, in order of number, until non-zero. */
typedef int (*cache_doubt_fn)(void *arg, const struct cache_inode *inode);
int cache_doubt_each(struct cache_txn *txn, cache_doubt_fn each, void *arg);
/* It is an ordinary file again. */
int cache_doubt_end(struct cache_txn *txn, uint64_t ino);

#endif
