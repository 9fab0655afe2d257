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
 *       seen, is fresh: this host is the one who knows;
 *   D5  nor does absence count before it is sure that this still is our
 *       container, and not one that was deleted and made again.
 *
 * Threads: any; one mutex.  A page is merged on the executor.
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

static struct walk *find_walk(struct tier_lists *l, uint64_t ino)
{
	struct walk *walk;

	HASH_FIND(hh, l->walks, &ino, sizeof(ino), walk);
	return walk;
}

struct big *tier_big_find(struct tier_lists *l, uint64_t ino)
{
	struct big *big;

	HASH_FIND(hh, l->bigs, &ino, sizeof(ino), big);
	return big;
}

void tier_walk_free(struct walk *walk)
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
	struct big *big = tier_big_find(l, walk->ino);

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
	tier_walk_free(walk);
}

static void walk_page(struct walk *walk);

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Names of blobs and of prefixes have keys of their own: a directory with a
 * marker is seen as both. */
static uint64_t seen_key(struct walk *walk, const char *name, bool prefix)
{
	return tier_name_hash(prefix ? ~walk->ino : walk->ino, name);
}

static void see(struct walk *walk, const char *name, bool prefix)
{
	if (walk->seen_nr == walk->seen_cap) {
		walk->seen_cap = walk->seen_cap ? walk->seen_cap * 2 : 256;
		walk->seen = base_realloc(
			walk->seen, walk->seen_cap * sizeof(*walk->seen));
	}
	walk->seen[walk->seen_nr++] = seen_key(walk, name, prefix);
}

static bool was_seen(struct walk *walk, const char *name, bool prefix)
{
	uint64_t key = seen_key(walk, name, prefix);

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

		if (entries[i].slash && walk->path[0] != '\0' &&
			strcmp(entries[i].name, walk->path) == 0) {
			walk->slash = true;
			err = tier_merge_slash(t, txn, walk->ino, walk->path,
				&entries[i], walk->start_seq);
			continue;
		}
		if (len != strlen(walk->path) || name[0] == '\0' ||
			strlen(name) > CACHE_NAME_MAX || is_hidden(walk, name))
			continue;
		err = tier_merge_entry(
			t, txn, walk->ino, &entries[i], walk->start_seq, shown);
		if (err == 0)
			see(walk, shown, entries[i].prefix);
	}
	return cache_end(txn, err);
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
	bool unmarked[TIER_MERGE_BATCH]; /* a prefix was seen: M5 */
	size_t nr, looked;
	uint64_t cookie;
};

static int look_unseen(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct unseen *u = arg;
	bool prefix;

	u->cookie = dentry->cookie;
	if (!was_seen(u->walk, dentry->name, false)) {
		prefix = was_seen(u->walk, dentry->name, true);
		if (!prefix || (inode->kind == CACHE_DIR && !inode->implicit)) {
			u->unmarked[u->nr] = prefix;
			u->names[u->nr++] = base_strdup(dentry->name);
		}
	}
	return u->nr == TIER_MERGE_BATCH || ++u->looked == 4096;
}

static int drop_unseen(struct walk *walk)
{
	struct unseen u = { .walk = walk };
	struct tier *t = walk->lists->tier;
	struct cache_txn *txn;
	int err, more;

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
				err = u.unmarked[i]
					? tier_merge_unmarked(t, txn, walk->ino,
						  u.names[i], walk->start_seq)
					: tier_merge_absent(t, txn, walk->ino,
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
	if (err == 0 && !walk->slash && walk->path[0] != '\0')
		err = tier_merge_slash(
			t, txn, walk->ino, walk->path, NULL, walk->start_seq);
	if (err == 0)
		err = cache_listing_set(txn, walk->ino, &listing);
	return cache_end(txn, err);
}

/* ---- the last page ---- */

static int find_unseen(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	(void)inode;
	return !was_seen(arg, dentry->name, false) &&
		!was_seen(arg, dentry->name, true);
}

/* Is there a name that the walk did not see?  Or an errno. */
static int has_unseen(struct walk *walk)
{
	struct cache_txn *txn;
	int err = cache_read(walk->lists->tier->cache, &txn);

	if (err < 0)
		return err;
	if (walk->seen_nr > 0)
		qsort(walk->seen, walk->seen_nr, sizeof(*walk->seen),
			compare_u64);
	err = cache_dentry_each(txn, walk->ino, 0, find_unseen, walk);
	cache_abort(txn);
	return err;
}

static void walk_confirmed(void *arg, int err)
{
	struct walk *walk = arg;

	walk_end(walk, err < 0 ? -EIO : walk_complete(walk));
}

static void last_page(struct walk *walk)
{
	int err = has_unseen(walk);

	if (err > 0)
		tier_confirm(walk->lists->tier, walk_confirmed, walk); /* D5 */
	else
		walk_end(walk, err < 0 ? err : walk_complete(walk));
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

/* Does the listing get on?  The service may answer a page without a name, but
 * not so for ever, and never with the page that it was. */
static bool gets_on(struct walk *walk)
{
	const struct blob_req *req = &walk->req;

	walk->empty = req->page.entries_nr == 0 ? walk->empty + 1 : 0;
	return walk->empty <= TIER_LIST_EMPTY_MAX &&
		(walk->marker == NULL ||
			strcmp(walk->marker, req->page.next) != 0);
}

/* The page is known as well as it can be. */
static void page_known(struct walk *walk, int err)
{
	if (err == 0)
		err = merge_page(walk);
	if (err < 0) {
		walk_end(walk, err);
	} else if (walk->req.page.next != NULL && !gets_on(walk)) {
		log_error("%s: the store's listing has no end: it is not "
			  "believed",
			walk->path);
		walk_end(walk, -EIO);
	} else if (walk->req.page.next != NULL) {
		first_page_calls(walk->lists, walk, 0);
		free(walk->marker);
		walk->marker = base_strdup(walk->req.page.next);
		blob_req_fini(&walk->req);
		walk_page(walk);
	} else {
		last_page(walk);
	}
}

static void proven(void *arg, int err)
{
	struct walk *walk = arg;
	int none = 0;

	if (err < 0)
		atomic_compare_exchange_strong(&walk->proof_err, &none, err);
	if (atomic_fetch_sub(&walk->proofs, 1) == 1)
		page_known(walk, atomic_load(&walk->proof_err));
}

/* Large blobs whose ETag moved: are their bytes other ones? */
static void prove_page(struct walk *walk)
{
	struct tier *t = walk->lists->tier;
	struct blob_entry *entries = walk->req.page.entries;
	size_t nr = walk->req.page.entries_nr, wanted_nr = 0;
	struct blob_entry **wanted = NULL;
	struct cache_txn *txn;

	if (cache_read(t->cache, &txn) == 0) {
		for (size_t i = 0; i < nr; i++) {
			if (entries[i].prefix ||
				!tier_proof_wanted(txn, entries[i].name,
					&entries[i].props))
				continue;
			wanted = base_realloc(wanted,
				(wanted_nr + 1) * sizeof(struct blob_entry *));
			wanted[wanted_nr++] = &entries[i];
		}
		cache_abort(txn);
	}
	atomic_store(&walk->proof_err, 0);
	atomic_store(&walk->proofs, wanted_nr + 1);
	for (size_t i = 0; i < wanted_nr; i++)
		tier_proof_ask(
			t, wanted[i]->name, &wanted[i]->props, proven, walk);
	free(wanted);
	proven(walk, 0);
}

static void page_taken(void *arg)
{
	struct walk *walk = arg;
	struct tier *t = walk->lists->tier;
	int err = page_err(&walk->req);

	if (err == 0)
		prove_page(walk);
	else
		page_known(walk, err);
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
struct walk *tier_walk_get(struct tier_lists *l, uint64_t ino)
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
