/*
 * How long what the index says may be trusted (rules D3 and D4 of walk.c).
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

static int64_t left_of(struct tier *t, const struct cache_listing *listing)
{
	int64_t age;

	if (!listing->complete || listing->listed_ns <= 0)
		return 0;
	if (t->cfg.freshness_ns == TIER_FOREVER_NS)
		return TIER_FOREVER_NS;
	age = base_boot_ns(t->env) - listing->listed_ns;
	return age < t->cfg.freshness_ns ? t->cfg.freshness_ns - age : 0;
}

/* D4: how long something local is trusted; never 0. */
static int64_t local_ns(struct tier *t)
{
	return t->cfg.freshness_ns > 0 ? t->cfg.freshness_ns : 1;
}

/* Single names that were asked for lately. */
static int64_t asked_left(
	struct tier_lists *l, uint64_t parent, const char *name)
{
	struct tier *t = l->tier;
	uint64_t key = tier_name_hash(parent, name);
	struct asked *asked;
	int64_t left = 0;

	if (t->cfg.freshness_ns == 0)
		return 0;
	base_lock(&l->mutex);
	HASH_FIND(hh, l->asked, &key, sizeof(key), asked);
	if (asked != NULL && t->cfg.freshness_ns == TIER_FOREVER_NS)
		left = TIER_FOREVER_NS;
	else if (asked != NULL)
		left = asked->asked_ns + t->cfg.freshness_ns -
			base_boot_ns(t->env);
	base_unlock(&l->mutex);
	return left > 0 ? left : 0;
}

void tier_list_asked(struct tier_lists *l, uint64_t parent, const char *name)
{
	uint64_t key = tier_name_hash(parent, name);
	struct asked *asked;

	base_lock(&l->mutex);
	HASH_FIND(hh, l->asked, &key, sizeof(key), asked);
	if (asked == NULL) {
		if (HASH_COUNT(l->asked) >= LIST_ASKED_MAX) {
			asked = l->asked; /* the oldest */
			HASH_DEL(l->asked, asked);
		} else {
			asked = base_calloc(1, sizeof(*asked));
		}
		asked->key = key;
		HASH_ADD(hh, l->asked, key, sizeof(key), asked);
	}
	asked->asked_ns = base_boot_ns(l->tier->env);
	base_unlock(&l->mutex);
}

/* Has the store never seen this directory, so that all in it is ours? */
static bool is_ours(
	struct cache_txn *txn, const char *path, const struct cache_inode *dir)
{
	bool owed;

	return dir->ino != CACHE_ROOT_INO && !dir->stored && !dir->implicit &&
		(cache_owed_any(txn, path, &owed) < 0 || owed);
}

int64_t tier_fresh_dir_ns(struct tier *t, struct cache_txn *txn, uint64_t ino)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_listing listing;
	struct cache_inode inode;
	int64_t left = 0;
	bool moving = false;

	/* The common case first. */
	if (cache_listing_get(txn, ino, &listing) == 0)
		left = left_of(t, &listing);
	if (left > 0)
		return left;
	if (cache_inode_get(txn, ino, &inode) < 0 ||
		cache_path_of(txn, ino, &path) < 0)
		left = local_ns(t); /* removed: nothing to ask for */
	else if (cache_owed_prefix_covers(
			 txn, path.data ? path.data : "", &moving) == 0 &&
		moving)
		left = local_ns(t);
	else if (is_ours(txn, path.data ? path.data : "", &inode))
		left = local_ns(t);
	base_str_fini(&path);
	return left;
}

int64_t tier_fresh_name_ns(struct tier *t, struct cache_txn *txn,
	uint64_t parent, const char *name, bool exists)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_dentry dentry;
	struct cache_inode inode;
	int64_t left;
	bool owed;

	left = tier_fresh_dir_ns(t, txn, parent);
	if (left > 0)
		return left;
	left = asked_left(t->lists, parent, name);
	if (left > 0)
		return left;
	if (exists && cache_dentry_get(txn, parent, name, &dentry) == 0 &&
		cache_inode_get(txn, dentry.ino, &inode) == 0 &&
		!inode.stored && !inode.implicit)
		return local_ns(t);
	if (cache_path_join(txn, parent, name, &path) == 0 &&
		cache_owed_any(txn, path.data, &owed) == 0 && owed)
		left = local_ns(t);
	base_str_fini(&path);
	return left;
}

/* ---- trees ---- */

/* Directories still to be looked at. */
struct tree_walk {
	uint64_t *dirs;
	size_t nr, cap;
};

static void walk_push(struct tree_walk *walk, uint64_t ino)
{
	if (walk->nr == walk->cap) {
		walk->cap = walk->cap ? walk->cap * 2 : 64;
		walk->dirs = base_realloc(
			walk->dirs, walk->cap * sizeof(*walk->dirs));
	}
	walk->dirs[walk->nr++] = ino;
}

static int walk_child(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	(void)dentry;
	if (inode->kind == CACHE_DIR)
		walk_push(arg, inode->ino);
	return 0;
}

bool tier_tree_known(struct tier *tier, struct cache_txn *txn, uint64_t ino)
{
	struct tree_walk walk = { 0 };
	struct cache_listing listing;
	bool known = true;

	(void)tier;
	walk_push(&walk, ino);
	while (known && walk.nr > 0) {
		ino = walk.dirs[--walk.nr];
		known = cache_listing_get(txn, ino, &listing) == 0 &&
			listing.complete &&
			cache_dentry_each(txn, ino, 0, walk_child, &walk) == 0;
	}
	free(walk.dirs);
	return known;
}
