/*
 * Those who want a name or a directory current, and what they wait for: the
 * directory's walk (walk.c), its first page, or a question for the one name
 * (ask.c).
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

static bool index_has(struct refresh *r)
{
	struct tier *t = r->lists->tier;
	struct cache_listing listing = { 0 };
	struct cache_dentry dentry;
	struct cache_txn *txn;
	bool has = false;

	if (cache_read(t->cache, &txn) < 0)
		return false;
	if (r->name != NULL)
		has = cache_dentry_get(txn, r->ino, r->name, &dentry) == 0;
	if (!has)
		has = cache_listing_get(txn, r->ino, &listing) == 0 &&
			listing.complete;
	cache_abort(txn);
	return has;
}

void tier_refresh_end(struct refresh *r, int err)
{
	struct tier_lists *l = r->lists;
	struct tier_call *user;

	/* A renamed or removed directory: what the index says is right. */
	if (err == -ESTALE || err == -ENOENT)
		err = 0;
	/* With the store away the index goes on showing what it has. */
	if (err < 0 && err != -EINTR && index_has(r))
		err = 0;
	base_lock(&l->mutex);
	user = r->user;
	LIST_REMOVE(r, link);
	base_unlock(&l->mutex);
	if (user != NULL)
		tier_call_end(l->tier, user, err);
	free(r->name);
	free(r);
}

static bool is_stale(struct refresh *r)
{
	struct tier *t = r->lists->tier;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	bool stale, exists;

	if (cache_read(t->cache, &txn) < 0)
		return false;
	exists = cache_dentry_get(txn, r->ino, r->name, &dentry) == 0;
	stale = tier_fresh_name_ns(t, txn, r->ino, r->name, exists) == 0;
	cache_abort(txn);
	return stale;
}

/* The walk, or its first page, has come. */
static void walked(struct tier_call *call, int err)
{
	struct refresh *r = (struct refresh *)call;

	if (err == 0 && r->name != NULL && is_stale(r))
		tier_ask(r); /* a large directory: it goes on without us */
	else
		tier_refresh_end(r, err);
}

static struct refresh *new_refresh(
	struct tier *t, uint64_t ino, const char *name, struct tier_call *user)
{
	struct refresh *r = base_calloc(1, sizeof(*r));

	r->call.done = walked;
	r->lists = t->lists;
	r->ino = ino;
	r->name = name ? base_strdup(name) : NULL;
	r->user = user;
	return r;
}

void tier_refresh_name(struct tier *t, uint64_t parent, const char *name,
	struct tier_call *call)
{
	struct tier_lists *l = t->lists;
	struct refresh *r = new_refresh(t, parent, name, call);
	struct walk *walk;
	struct big *big;
	bool ask;

	base_lock(&l->mutex);
	LIST_INSERT_HEAD(&l->refreshes, r, link);
	big = tier_big_find(l, parent);
	/* D3 */
	ask = t->cfg.freshness_ns == 0 ||
		(big != NULL && ++big->asks <= TIER_LIST_ASKS);
	if (l->stopped) {
		ask = false;
		tier_call_end(t, &r->call, -EINTR);
	} else if (!ask) {
		walk = tier_walk_get(l, parent);
		if (walk->first_done)
			ask = true;
		else
			tier_calls_add(&walk->first, &r->call);
	}
	base_unlock(&l->mutex);
	if (ask)
		tier_ask(r);
}

void tier_refresh_dir(struct tier *t, uint64_t ino, struct tier_call *call)
{
	struct tier_lists *l = t->lists;
	struct refresh *r = new_refresh(t, ino, NULL, call);

	base_lock(&l->mutex);
	LIST_INSERT_HEAD(&l->refreshes, r, link);
	if (l->stopped)
		tier_call_end(t, &r->call, -EINTR);
	else
		tier_calls_add(&tier_walk_get(l, ino)->calls, &r->call);
	base_unlock(&l->mutex);
}

void tier_list_recheck(struct tier *t, const char *path, struct tier_call *call)
{
	struct cache_inode dir;
	struct cache_txn *txn;
	struct refresh *r;
	char *parent = base_strdup(path);
	size_t len;
	const char *name = tier_path_last(path, &len);
	int err;

	parent[len] = '\0';
	err = cache_read(t->cache, &txn);
	if (err == 0) {
		err = cache_resolve(txn, parent, &dir);
		cache_abort(txn);
	}
	free(parent);
	if (err < 0 || atomic_load(&t->stopping)) {
		if (call != NULL)
			tier_call_end(t, call, err < 0 ? err : -EINTR);
		return;
	}
	r = new_refresh(t, dir.ino, name, call);
	base_lock(&t->lists->mutex);
	LIST_INSERT_HEAD(&t->lists->refreshes, r, link);
	base_unlock(&t->lists->mutex);
	tier_ask(r);
}

bool tier_list_cancel(struct tier *t, struct tier_call *call)
{
	struct tier_lists *l = t->lists;
	struct refresh *r;

	base_lock(&l->mutex);
	LIST_FOREACH(r, &l->refreshes, link)
	{
		if (r->user == call)
			break;
	}
	if (r != NULL) { /* what it waits for goes on */
		r->user = NULL;
		tier_call_end(t, call, -EINTR);
	}
	base_unlock(&l->mutex);
	return r != NULL || tier_tree_cancel(t, call);
}

/* ---- life ---- */

int tier_lists_open(struct tier *t)
{
	struct tier_lists *l = base_calloc(1, sizeof(*l));

	l->tier = t;
	base_mutex_init(&l->mutex, BASE_RANK_TIER_LIST);
	LIST_INIT(&l->refreshes);
	LIST_INIT(&l->trees);
	t->lists = l;
	return 0;
}

/* Walks that wait never begin; those under way end with the store. */
void tier_lists_stop(struct tier *t)
{
	struct tier_lists *l = t->lists;
	struct refresh *r;

	base_lock(&l->mutex);
	l->stopped = true;
	LIST_FOREACH(r, &l->refreshes, link)
	{
		if (r->user != NULL)
			tier_call_end(t, r->user, -EINTR);
		r->user = NULL;
	}
	base_unlock(&l->mutex);
}

void tier_lists_close(struct tier *t)
{
	struct tier_lists *l = t->lists;
	struct asked *asked, *next_asked;
	struct walk *walk, *next_walk;
	struct big *big, *next_big;
	struct refresh *r;

	if (l == NULL)
		return;
	HASH_ITER(hh, l->walks, walk, next_walk)
	{
		HASH_DEL(l->walks, walk);
		tier_walk_free(walk);
	}
	HASH_ITER(hh, l->asked, asked, next_asked)
	{
		HASH_DEL(l->asked, asked);
		free(asked);
	}
	HASH_ITER(hh, l->bigs, big, next_big)
	{
		HASH_DEL(l->bigs, big);
		free(big);
	}
	while ((r = LIST_FIRST(&l->refreshes)) != NULL) {
		LIST_REMOVE(r, link);
		free(r->name);
		free(r);
	}
	tier_trees_close(t);
	base_mutex_fini(&l->mutex);
	free(l);
}
