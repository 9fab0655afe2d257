/*
 * Directories whose own mtime has moved, because names came and went in them
 * (WRITEBACK section 8): that alone is told to the store when the directory has
 * been quiet for `writeback_open`, and at flush.
 *
 *   Q1  only directories with a marker: a time alone makes none;
 *   Q2  what waits here is in memory: an unmount enters it into the journal, a
 *       crash forgets it, and the directory keeps its new time on this host.
 *
 * Threads: any; one mutex, not held over a transaction.  Inside the caller's
 * transaction only tier_dir_changed() is called, which takes the mutex shortly.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <uthash.h>

#include "tier/order.h"

struct changed {
	UT_hash_handle hh; /* by ino */
	TAILQ_ENTRY(changed) link;
	uint64_t ino;
	int64_t last_ns;
};

struct tier_dirs {
	struct tier *tier;
	struct base_mutex mutex; /* BASE_RANK_TIER_DIRS: */
	struct changed *by_ino;
	TAILQ_HEAD(, changed) by_age; /* oldest first */
	bool armed;
};

static void due(void *arg);

void tier_dir_changed(struct tier *t, uint64_t ino)
{
	struct tier_dirs *d = t->dirs;
	struct changed *c;
	bool arm;

	if (ino == CACHE_ROOT_INO || t->cfg.read_only)
		return;
	base_lock(&d->mutex);
	HASH_FIND(hh, d->by_ino, &ino, sizeof(ino), c);
	if (c != NULL) {
		TAILQ_REMOVE(&d->by_age, c, link);
	} else {
		if (HASH_COUNT(d->by_ino) >= TIER_DIRS_MAX) {
			c = TAILQ_FIRST(&d->by_age); /* its time stays here */
			TAILQ_REMOVE(&d->by_age, c, link);
			HASH_DEL(d->by_ino, c);
		} else {
			c = base_calloc(1, sizeof(*c));
		}
		c->ino = ino;
		HASH_ADD(hh, d->by_ino, ino, sizeof(c->ino), c);
	}
	c->last_ns = base_boot_ns(t->env);
	TAILQ_INSERT_TAIL(&d->by_age, c, link);
	arm = !d->armed;
	d->armed = true;
	base_unlock(&d->mutex);
	if (arm)
		base_after(t->env, t->cfg.writeback_open_ns, due, d);
}

/* Takes the oldest, if nothing changed in it since `upto_ns`; 0: none. */
static uint64_t take(struct tier_dirs *d, int64_t upto_ns)
{
	struct changed *c;
	uint64_t ino = 0;

	base_lock(&d->mutex);
	c = TAILQ_FIRST(&d->by_age);
	if (c != NULL && c->last_ns <= upto_ns) {
		TAILQ_REMOVE(&d->by_age, c, link);
		HASH_DEL(d->by_ino, c);
		ino = c->ino;
		free(c);
	}
	base_unlock(&d->mutex);
	return ino;
}

/* Q1 */
static int enter(struct tier *t, struct cache_txn *txn, uint64_t ino)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_inode dir;
	struct cache_remote remote;
	int err = cache_inode_get(txn, ino, &dir);

	if (err == 0 && (dir.implicit || dir.nlink == 0))
		err = -ENOENT;
	if (err == 0)
		err = cache_path_of(txn, ino, &path);
	if (err == 0 && cache_remote_get(txn, path.data, &remote) == 0) {
		bool same = remote.attrs.mtime_ns == dir.mtime_ns;

		cache_remote_fini(&remote);
		if (!same)
			err = tier_enter(t, txn, path.data, &dir, TIER_ATTR, 0);
	}
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

int tier_dirs_enter(struct tier *t, int64_t quiet_ns)
{
	int64_t upto_ns = base_boot_ns(t->env) - quiet_ns;
	struct cache_txn *txn;
	uint64_t ino = take(t->dirs, upto_ns);
	int err = 0;

	while (ino != 0 && err == 0) {
		err = cache_write(t->cache, &txn);
		if (err < 0)
			break;
		for (size_t i = 0; i < TIER_MERGE_BATCH && ino != 0 && err == 0;
			i++) {
			err = enter(t, txn, ino);
			ino = take(t->dirs, upto_ns);
		}
		err = cache_end(txn, err);
	}
	return err;
}

static void due(void *arg)
{
	struct tier_dirs *d = arg;
	struct tier *t = d->tier;
	struct changed *c;
	int64_t wait_ns = 0;

	tier_dirs_enter(t, t->cfg.writeback_open_ns);
	base_lock(&d->mutex);
	c = TAILQ_FIRST(&d->by_age);
	if (c != NULL && !atomic_load(&t->stopping))
		wait_ns = c->last_ns + t->cfg.writeback_open_ns -
			base_boot_ns(t->env);
	d->armed = c != NULL && !atomic_load(&t->stopping);
	base_unlock(&d->mutex);
	if (c != NULL && !atomic_load(&t->stopping))
		base_after(
			t->env, wait_ns > TIER_MS ? wait_ns : TIER_MS, due, d);
	tier_kick(t);
}

void tier_dirs_open(struct tier *t)
{
	struct tier_dirs *d = base_calloc(1, sizeof(*d));

	d->tier = t;
	base_mutex_init(&d->mutex, BASE_RANK_TIER_DIRS);
	TAILQ_INIT(&d->by_age);
	t->dirs = d;
}

void tier_dirs_close(struct tier *t)
{
	struct tier_dirs *d = t->dirs;
	struct changed *c;

	if (d == NULL)
		return;
	HASH_CLEAR(hh, d->by_ino);
	while ((c = TAILQ_FIRST(&d->by_age)) != NULL) {
		TAILQ_REMOVE(&d->by_age, c, link);
		free(c);
	}
	base_mutex_fini(&d->mutex);
	free(d);
}
