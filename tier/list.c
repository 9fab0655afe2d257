/*
 * Listing directories, and how long what they said may be trusted.
 *
 * A walk lists one directory, page by page, merging each page as it comes
 * (merge.c); whoever needs the directory waits for it, however many.  Names
 * that were not seen by a complete walk are absent.
 *
 * Rules, by number, as the tests name them:
 *   D1  one walk a directory at a time; a walk whose directory was renamed
 *       meanwhile is void;
 *   D2  absence counts only after a walk to the last page; a failed walk, or a
 *       missing container, proves nothing;
 *   D3  N names of a directory are revalidated by one walk; only very large
 *       directories and freshness 0 ask for single names;
 *   D4  a name that is owed, or below a directory that the store has never
 *       seen, is fresh: this host is the one who knows.
 *
 * Threads: any; one mutex.  A page is merged on the executor.
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

/* ---- what is fresh ---- */

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

	if (cache_inode_get(txn, ino, &inode) < 0 ||
		cache_path_of(txn, ino, &path) < 0)
		left = local_ns(t); /* removed: nothing to ask for */
	else if (cache_owed_prefix_covers(
			 txn, path.data ? path.data : "", &moving) == 0 &&
		moving)
		left = local_ns(t);
	else if (is_ours(txn, path.data ? path.data : "", &inode))
		left = local_ns(t);
	else if (cache_listing_get(txn, ino, &listing) == 0)
		left = left_of(t, &listing);
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

/* ---- walks ---- */

static struct walk *find_walk(struct tier_lists *l, uint64_t ino)
{
	struct walk *walk;

	HASH_FIND(hh, l->walks, &ino, sizeof(ino), walk);
	return walk;
}

static struct big *find_big(struct tier_lists *l, uint64_t ino)
{
	struct big *big;

	HASH_FIND(hh, l->bigs, &ino, sizeof(ino), big);
	return big;
}

static void free_walk(struct walk *walk)
{
	blob_req_fini(&walk->req);
	free(walk->path);
	free(walk->marker);
	free(walk->seen);
	free(walk);
}

/* Splits off the calls that wait for less than the whole. */
static void first_page_calls(struct tier_lists *l, struct walk *walk, int err)
{
	struct tier_calls calls;

	base_lock(&l->mutex);
	calls = walk->first;
	walk->first.first = NULL;
	if (calls.first != NULL)
		calls.first->prev = &calls.first;
	walk->first_done = true;
	tier_calls_end(l->tier, &calls, err);
	base_unlock(&l->mutex);
}

static void note_big(struct tier_lists *l, struct walk *walk)
{
	struct big *big = find_big(l, walk->ino);

	if (walk->names <= TIER_LIST_SMALL) {
		if (big != NULL) {
			HASH_DEL(l->bigs, big);
			free(big);
		}
		return;
	}
	if (big == NULL) {
		big = base_calloc(1, sizeof(*big));
		big->ino = walk->ino;
		HASH_ADD(hh, l->bigs, ino, sizeof(big->ino), big);
	}
	big->asks = 0;
}

static void walk_next(struct tier_lists *l);

static void walk_end(struct walk *walk, int err)
{
	struct tier_lists *l = walk->lists;

	base_lock(&l->mutex);
	HASH_DEL(l->walks, walk);
	l->active--;
	if (err == 0)
		note_big(l, walk);
	tier_calls_end(l->tier, &walk->first, err);
	tier_calls_end(l->tier, &walk->calls, err);
	walk_next(l);
	base_unlock(&l->mutex);
	free_walk(walk);
}

static void walk_page(struct walk *walk);

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void see(struct walk *walk, const char *name)
{
	if (walk->seen_nr == walk->seen_cap) {
		walk->seen_cap = walk->seen_cap ? walk->seen_cap * 2 : 256;
		walk->seen = base_realloc(
			walk->seen, walk->seen_cap * sizeof(*walk->seen));
	}
	walk->seen[walk->seen_nr++] = tier_name_hash(walk->ino, name);
}

static bool was_seen(struct walk *walk, const char *name)
{
	uint64_t key = tier_name_hash(walk->ino, name);

	return walk->seen_nr > 0 &&
	       bsearch(&key, walk->seen, walk->seen_nr, sizeof(key),
		       compare_u64) != NULL;
}

/* D1: is the directory still where the walk began? */
static int still_there(struct walk *walk, struct cache_txn *txn)
{
	struct base_str path = BASE_STR_INIT;
	int err = cache_path_of(txn, walk->ino, &path);

	if (err == 0 && strcmp(path.data ? path.data : "", walk->path) != 0)
		err = -ESTALE;
	base_str_fini(&path);
	return err;
}

/* Names that are not the user's. */
static bool is_hidden(struct walk *walk, const char *name)
{
	return walk->path[0] == '\0' && strcmp(name, ".forebay") == 0;
}

static int merge_some(struct walk *walk, size_t from, size_t to)
{
	struct blob_entry *entries = walk->req.page.entries;
	struct tier *t = walk->lists->tier;
	struct cache_txn *txn;
	int err = cache_write(t->cache, &txn);

	if (err < 0)
		return err;
	err = still_there(walk, txn);
	for (size_t i = from; i < to && err == 0; i++) {
		size_t len;
		const char *name = tier_path_last(entries[i].name, &len);
		char shown[CACHE_NAME_MAX + 1];

		if (len != strlen(walk->path) || name[0] == '\0' ||
			strlen(name) > CACHE_NAME_MAX || is_hidden(walk, name))
			continue;
		err = tier_merge_entry(
			t, txn, walk->ino, &entries[i], walk->start_seq, shown);
		if (err == 0)
			see(walk, shown);
	}
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	return cache_commit(txn);
}

static int prefixes_first(const void *a, const void *b)
{
	const struct blob_entry *x = a, *y = b;

	if (x->prefix != y->prefix)
		return x->prefix ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int merge_page(struct walk *walk)
{
	struct blob_req *req = &walk->req;
	size_t nr = req->page.entries_nr;
	int err = 0;

	if (nr > 0)
		qsort(req->page.entries, nr, sizeof(*req->page.entries),
			prefixes_first);
	for (size_t i = 0; i < nr && err == 0; i += TIER_MERGE_BATCH)
		err = merge_some(walk, i,
			i + TIER_MERGE_BATCH < nr ? i + TIER_MERGE_BATCH : nr);
	walk->names += nr;
	return err;
}

/* ---- what a complete walk did not see ---- */

struct unseen {
	struct walk *walk;
	char *names[TIER_MERGE_BATCH];
	size_t nr, looked;
	uint64_t cookie;
};

static int look_unseen(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct unseen *u = arg;

	(void)inode;
	u->cookie = dentry->cookie;
	if (!was_seen(u->walk, dentry->name))
		u->names[u->nr++] = base_strdup(dentry->name);
	return u->nr == TIER_MERGE_BATCH || ++u->looked == 4096;
}

static int drop_unseen(struct walk *walk)
{
	struct unseen u = { .walk = walk };
	struct tier *t = walk->lists->tier;
	struct cache_txn *txn;
	int err, more;

	if (walk->seen_nr > 0)
		qsort(walk->seen, walk->seen_nr, sizeof(*walk->seen),
			compare_u64);
	do {
		err = cache_read(t->cache, &txn);
		if (err < 0)
			return err;
		u.nr = u.looked = 0;
		more = cache_dentry_each(
			txn, walk->ino, u.cookie, look_unseen, &u);
		cache_abort(txn);
		if (more < 0)
			return more;
		if (u.nr == 0)
			continue;
		err = cache_write(t->cache, &txn);
		if (err == 0)
			err = still_there(walk, txn);
		for (size_t i = 0; i < u.nr; i++) {
			if (err == 0)
				err = tier_merge_absent(t, txn, walk->ino,
					u.names[i], walk->start_seq);
			free(u.names[i]);
		}
		if (err == 0)
			err = cache_commit(txn);
		else if (txn != NULL)
			cache_abort(txn);
	} while (err == 0 && more > 0);
	return err;
}

static int walk_complete(struct walk *walk)
{
	struct tier *t = walk->lists->tier;
	struct cache_listing listing = {
		.listed_ns = walk->started_ns,
		.complete = true,
	};
	struct cache_txn *txn;
	int err = drop_unseen(walk);

	if (err == 0)
		err = cache_write(t->cache, &txn);
	if (err < 0)
		return err;
	err = still_there(walk, txn);
	if (err == 0)
		err = cache_listing_set(txn, walk->ino, &listing);
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	return cache_commit(txn);
}

/* ---- pages ---- */

static int page_err(const struct blob_req *req)
{
	switch (req->result) {
	case BLOB_OK:
		return 0;
	case BLOB_STOPPED:
		return -EINTR;
	case BLOB_DENIED:
		return -EACCES;
	default: /* D2: also NOT_FOUND and NO_CONTAINER prove nothing */
		return -EIO;
	}
}

static void page_taken(void *arg)
{
	struct walk *walk = arg;
	struct tier *t = walk->lists->tier;
	int err = page_err(&walk->req);

	if (err == 0)
		err = merge_page(walk);
	if (err < 0) {
		walk_end(walk, err);
	} else if (walk->req.page.next != NULL) {
		first_page_calls(walk->lists, walk, 0);
		free(walk->marker);
		walk->marker = base_strdup(walk->req.page.next);
		blob_req_fini(&walk->req);
		walk_page(walk);
	} else {
		walk_end(walk, walk_complete(walk));
	}
	tier_answered(t);
}

static void page_answered(struct blob_req *req)
{
	struct walk *walk = req->arg;

	base_post(walk->lists->tier->env, page_taken, walk);
}

static void walk_page(struct walk *walk)
{
	memset(&walk->req, 0, sizeof(walk->req));
	walk->req.op = BLOB_LIST;
	walk->req.name = walk->path;
	walk->req.in.list.start = walk->marker;
	walk->req.done = page_answered;
	walk->req.arg = walk;
	tier_submit(walk->lists->tier, &walk->req);
}

static void walk_begin(void *arg)
{
	struct walk *walk = arg;
	struct tier *t = walk->lists->tier;
	struct base_str path = BASE_STR_INIT;
	struct cache_txn *txn;
	int err = cache_read(t->cache, &txn);

	if (err == 0) {
		err = cache_path_of(txn, walk->ino, &path);
		cache_abort(txn);
	}
	if (err == 0 && atomic_load(&t->stopping))
		err = -EINTR;
	if (err < 0) {
		base_str_fini(&path);
		walk_end(walk, err);
		return;
	}
	walk->path = base_str_take(&path);
	walk->start_seq = tier_tick(t);
	walk->started_ns = base_boot_ns(t->env);
	walk_page(walk);
}

/* Starts waiting walks; with the mutex. */
static void walk_next(struct tier_lists *l)
{
	struct walk *walk, *tmp;

	HASH_ITER(hh, l->walks, walk, tmp)
	{
		if (l->active >= TIER_LIST_PARALLEL)
			return;
		if (walk->begun)
			continue;
		walk->begun = true;
		l->active++;
		base_post(l->tier->env, walk_begin, walk);
	}
}

/* The directory's walk, begun if there is none; with the mutex. */
static struct walk *get_walk(struct tier_lists *l, uint64_t ino)
{
	struct walk *walk = find_walk(l, ino);

	if (walk != NULL)
		return walk;
	walk = base_calloc(1, sizeof(*walk));
	walk->lists = l;
	walk->ino = ino;
	HASH_ADD(hh, l->walks, ino, sizeof(walk->ino), walk);
	walk_next(l);
	return walk;
}

/* ---- the calls ---- */

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
	big = find_big(l, parent);
	/* D3 */
	ask = t->cfg.freshness_ns == 0 ||
		(big != NULL && ++big->asks <= TIER_LIST_ASKS);
	if (l->stopped) {
		ask = false;
		tier_call_end(t, &r->call, -EINTR);
	} else if (!ask) {
		walk = get_walk(l, parent);
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
		tier_calls_add(&get_walk(l, ino)->calls, &r->call);
	base_unlock(&l->mutex);
}

void tier_list_recheck(struct tier *t, const char *path)
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
	if (err < 0 || atomic_load(&t->stopping))
		return;
	r = new_refresh(t, dir.ino, name, NULL);
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
		free_walk(walk);
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
