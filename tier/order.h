/*
 * The order's own steps, for the files that enter changes (order.c,
 * order_dir.c).  Private.  All of them inside the write transaction of the
 * change.
 */
#ifndef TIER_ORDER_H
#define TIER_ORDER_H

#include "tier/priv.h"

/* Begins an epoch where the rules want one before a change of this class. */
void tier_order_next(struct tier *tier, enum tier_class class);
/* Does the store show this name, or may it soon, by a request under way? */
int tier_order_shows(struct cache_txn *txn, const char *path, bool *ret);
/* O5: all unsent rows of a name fall out.  Returns how many did. */
int tier_order_fall_out(struct tier *tier, struct cache_txn *txn,
	const char *path, bool deleted);
/* O6: puts the state into the line. */
int tier_order_put(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, enum tier_class class,
	uint64_t displaced);
/* Epochs a..b become a group. */
int tier_order_join(
	struct tier *tier, struct cache_txn *txn, uint64_t a, uint64_t b);

/* O7: `path` has lost its name here, and is about to in the store. */
int tier_order_keep_dir(
	struct tier *tier, struct cache_txn *txn, const char *path);

/* order_dir.c: below the new name of a directory whose rename is still owed a
 * blob may be where it was.  Where the store has what is `path` here;
 * -ENOENT: nowhere else.  Allocated. */
int tier_order_old_name(struct cache_txn *txn, const char *path, char **ret);

#endif
