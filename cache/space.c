/*
 * The account of local bytes, and whether there is room for more.
 *
 *	used		data files as allocated: the sum of local_bytes in the
 *			index, kept in memory from commit to commit
 *	inflight	promised by cache_space_reserve(), not yet in `used`
 *	wanted		of those who wait in it
 *
 * Invariants:
 *	S1  a reservation is given only if used + inflight stays <= limit and
 *	    each file system keeps its reserve, so parallel fetches never
 *	    overshoot together.  (Writers by passthrough ask nobody: KERNEL.md.)
 *	S2  one eviction pass at a time, shared by all who wait; they look again
 *	    after each of its batches.
 *	S3  -ENOSPC only after a pass that ended with nothing more to evict.
 *
 * Background eviction begins at 99 % of the limit and ends at 98 %, so that
 * those who reserve seldom wait.
 *
 * With several file systems, percentages are of their sum; the reserve is kept
 * on each.  Files are spread evenly, so drives of one size are used best.
 */
#include "cache/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/log.h"

#define LIMIT_DEFAULT_PERCENT 80
/* Shortest pause of the background after it found nothing. */
#define PAUSE_NS 200000000

static uint64_t round_up(uint64_t bytes)
{
	if (bytes > UINT64_MAX - CACHE_BLOCK_BYTES)
		return UINT64_MAX;
	return (bytes + CACHE_BLOCK_BYTES - 1) & ~(CACHE_BLOCK_BYTES - 1ULL);
}

static uint64_t used_now(struct cache_space_state *s)
{
	int64_t used = atomic_load(&s->used);

	return used > 0 ? (uint64_t)used : 0;
}

/* ---- under s->mutex ---- */

static void ask_fs(struct cache_space_state *s)
{
	struct statvfs v;

	for (size_t i = 0; i < s->fs_nr; i++) {
		struct cache_space_fs *fs = &s->fs[i];

		if (fstatvfs(fs->fd, &v) != 0) {
			log_error("cache: statvfs: %s", strerror(errno));
			continue;
		}
		fs->total = v.f_blocks * v.f_frsize;
		fs->free = v.f_bavail * v.f_frsize;
		fs->files = v.f_files;
		fs->files_free = v.f_favail;
	}
	s->fs_stamp_ns = base_boot_ns(s->cache->env);
	s->spent = 0;
}

static void ask_fs_if_old(struct cache_space_state *s)
{
	int64_t age = base_boot_ns(s->cache->env) - s->fs_stamp_ns;

	if (age < 0 || age >= CACHE_STATVFS_NS)
		ask_fs(s);
}

/* Do the file systems have this beyond what was promised, and the reserve? */
static bool has_free(struct cache_space_state *s, uint64_t bytes)
{
	uint64_t need = bytes + s->inflight + s->spent;

	for (size_t i = 0; i < s->fs_nr; i++)
		if (s->fs[i].free < s->fs[i].reserve ||
			s->fs[i].free - s->fs[i].reserve < need)
			return false;
	return true;
}

static bool has_room(struct cache_space_state *s, uint64_t bytes)
{
	uint64_t taken = used_now(s) + s->inflight;

	return taken <= s->limit && s->limit - taken >= bytes &&
		has_free(s, bytes);
}

static bool above(struct cache_space_state *s, uint64_t mark)
{
	return used_now(s) + s->inflight + s->wanted > mark || !has_free(s, 0);
}

static uint64_t high_mark(const struct cache_space_state *s)
{
	return s->limit - s->limit / 100;
}

static uint64_t low_mark(const struct cache_space_state *s)
{
	return s->limit - s->limit / 50;
}

/* Runs a pass; called and returns with the mutex, which is released in
 * between.  Nobody else runs one. */
static void run_pass(struct cache_space_state *s, enum cache_pass_goal goal)
{
	bool exhausted = true;
	int err;

	assert(!s->passing);
	s->passing = true;
	base_unlock(&s->mutex);
	err = cache_evict_pass(s->cache, goal, &exhausted);
	base_lock(&s->mutex);
	s->passing = false;
	s->pass_nr++;
	s->exhausted = exhausted || err != 0;
	ask_fs(s);
	if (s->exhausted)
		atomic_store(
			&s->pause_ns, base_boot_ns(s->cache->env) + PAUSE_NS);
	pthread_cond_broadcast(&s->changed);
}

/* ---- room ---- */

static uint64_t excess(uint64_t have, uint64_t most)
{
	return have > most ? have - most : 0;
}

/* What must go so that `bytes` more fit, with at most `mark` in use. */
static uint64_t missing(
	struct cache_space_state *s, uint64_t bytes, uint64_t mark)
{
	uint64_t most = excess(used_now(s) + s->inflight + bytes, mark);

	for (size_t i = 0; i < s->fs_nr; i++) {
		uint64_t need = excess(
			s->fs[i].reserve + bytes + s->inflight + s->spent,
			s->fs[i].free);

		if (most < need)
			most = need;
	}
	return most;
}

uint64_t cache_space_missing(struct cache *cache, enum cache_pass_goal goal)
{
	struct cache_space_state *s = cache->space;
	uint64_t want, bytes;

	base_lock(&s->mutex);
	ask_fs(s);
	want = s->wanted;
	if (goal == CACHE_PASS_FIT) {
		/* Many who wait take turns rather than empty the cache. */
		if (want > s->limit / 4)
			want = s->limit / 4;
		if (want < s->leader_wants)
			want = s->leader_wants;
		bytes = missing(s, want, s->limit);
	} else {
		bytes = missing(s, want, low_mark(s));
	}
	pthread_cond_broadcast(&s->changed); /* those who wait look again */
	base_unlock(&s->mutex);
	return bytes;
}

bool cache_space_has_free(struct cache *cache, uint64_t bytes)
{
	struct cache_space_state *s = cache->space;
	bool ok;

	base_lock(&s->mutex);
	ask_fs(s);
	ok = has_free(s, bytes);
	base_unlock(&s->mutex);
	return ok;
}

/* Waits for room; with the mutex. */
static int wait_for_room(struct cache_space_state *s, uint64_t bytes)
{
	while (!has_room(s, bytes)) {
		uint64_t nr = s->pass_nr;

		if (s->passing) {
			base_cond_wait(&s->changed, &s->mutex);
		} else {
			s->leader_wants = bytes;
			run_pass(s, CACHE_PASS_FIT);
		}
		if (s->pass_nr != nr && s->exhausted && !has_room(s, bytes))
			return -ENOSPC;
	}
	return 0;
}

int cache_space_reserve(struct cache *cache, uint64_t bytes)
{
	struct cache_space_state *s = cache->space;
	bool kick;
	int err = 0;

	bytes = round_up(bytes);
	if (bytes > s->limit)
		return -ENOSPC;
	base_lock(&s->mutex);
	ask_fs_if_old(s);
	if (!has_room(s, bytes)) {
		ask_fs(s);
		s->wanted += bytes;
		err = wait_for_room(s, bytes);
		s->wanted -= bytes;
	}
	if (err == 0)
		s->inflight += bytes;
	kick = err == 0 && above(s, high_mark(s));
	base_unlock(&s->mutex);
	if (kick && atomic_load(&s->started))
		cache_bg_kick(s->bg);
	return err;
}

int cache_space_spare(struct cache *cache, uint64_t bytes)
{
	struct cache_space_state *s = cache->space;
	int err = 0;

	bytes = round_up(bytes);
	base_lock(&s->mutex);
	ask_fs_if_old(s);
	if (above(s, low_mark(s) > bytes ? low_mark(s) - bytes : 0) ||
		!has_room(s, bytes))
		err = -ENOSPC;
	else
		s->inflight += bytes;
	base_unlock(&s->mutex);
	return err;
}

int cache_space_exceed(struct cache *cache, uint64_t bytes)
{
	struct cache_space_state *s = cache->space;
	int err = 0;

	bytes = round_up(bytes);
	base_lock(&s->mutex);
	ask_fs(s);
	if (has_free(s, bytes))
		s->inflight += bytes;
	else
		err = -ENOSPC;
	base_unlock(&s->mutex);
	return err;
}

void cache_space_release(struct cache *cache, uint64_t bytes)
{
	struct cache_space_state *s = cache->space;

	bytes = round_up(bytes);
	base_lock(&s->mutex);
	assert(s->inflight >= bytes);
	s->inflight -= bytes;
	s->spent += bytes;
	/* A fetch that failed leaves room to somebody who waits. */
	pthread_cond_broadcast(&s->changed);
	base_unlock(&s->mutex);
}

bool cache_space_may_write(struct cache *cache, uint64_t dirty_bytes)
{
	struct cache_space_state *s = cache->space;
	bool full, ok;

	base_lock(&s->mutex);
	ask_fs_if_old(s);
	full = used_now(s) + s->inflight >= s->limit;
	ok = dirty_bytes < s->dirty_limit && has_free(s, 1) &&
		!(full && s->exhausted);
	base_unlock(&s->mutex);
	if ((full || !ok) && atomic_load(&s->started))
		cache_bg_kick(s->bg);
	return ok;
}

void cache_space_get(struct cache *cache, struct cache_space *ret)
{
	struct cache_space_state *s = cache->space;

	memset(ret, 0, sizeof(*ret));
	base_lock(&s->mutex);
	ask_fs_if_old(s);
	ret->used_bytes = used_now(s);
	ret->limit_bytes = s->limit;
	ret->dirty_limit_bytes = s->dirty_limit;
	for (size_t i = 0; i < s->fs_nr; i++) {
		ret->reserve_bytes += s->fs[i].reserve;
		ret->fs_free_bytes += s->fs[i].free;
		ret->fs_total_bytes += s->fs[i].total;
		ret->fs_files += s->fs[i].files;
		ret->fs_files_free += s->fs[i].files_free;
	}
	base_unlock(&s->mutex);
}

/* ---- changes of the account ---- */

void cache_space_delta(struct cache *cache, int64_t bytes)
{
	struct cache_space_state *s = cache->space;
	int64_t used = atomic_fetch_add(&s->used, bytes) + bytes;

	if (bytes > 0 && used > 0 && (uint64_t)used > high_mark(s) &&
		atomic_load(&s->started) &&
		base_boot_ns(cache->env) >= atomic_load(&s->pause_ns))
		cache_bg_kick(s->bg);
}

void cache_space_note(struct cache *cache, struct cache_inode *inode,
	uint64_t allocated_bytes)
{
	if (inode->local_bytes == 0 && allocated_bytes != 0)
		cache_use_enter(cache, inode->ino);
	inode->local_bytes = allocated_bytes;
}

int cache_space_account(struct cache_txn *txn, uint64_t ino)
{
	struct cache *cache = cache_of(txn);
	struct cache_inode inode;
	uint64_t bytes = 0;
	int err = cache_inode_get(txn, ino, &inode);

	if (err != 0)
		return err;
	if (inode.kind != CACHE_FILE || inode.data == CACHE_NONE)
		return 0;
	err = cache_data_stat(cache, ino, inode.serial, NULL, &bytes);
	if (err != 0)
		return err;
	if (bytes == inode.local_bytes)
		return 0;
	cache_space_note(cache, &inode, bytes);
	return cache_inode_put(txn, &inode);
}

/* ---- in the background ---- */

static void evict_in_background(struct cache *cache)
{
	struct cache_space_state *s = cache->space;

	base_lock(&s->mutex);
	ask_fs(s);
	/* Whoever runs a pass now is followed by another kick if need be. */
	if (!s->passing && above(s, high_mark(s)) &&
		base_boot_ns(cache->env) >= atomic_load(&s->pause_ns))
		run_pass(s, CACHE_PASS_LOW);
	base_unlock(&s->mutex);
}

void cache_space_kick(struct cache *cache)
{
	struct cache_space_state *s = cache->space;

	atomic_store(&s->pause_ns, 0);
	atomic_store(&s->parked_ns, 0);
	if (atomic_load(&s->started))
		cache_bg_kick(s->bg);
}

void cache_space_start(struct cache *cache)
{
	atomic_store(&cache->space->started, true);
	cache_bg_kick(cache->space->bg);
}

/* ---- open and close ---- */

static uint64_t resolve(uint64_t value, bool percent, uint64_t of)
{
	if (!percent)
		return value;
	if (value > 100)
		value = 100;
	return of / 100 * value + of % 100 * value / 100;
}

static void resolve_limits(struct cache_space_state *s)
{
	const struct cache_config *c = &s->cache->config;
	uint64_t total = 0;

	for (size_t i = 0; i < s->fs_nr; i++) {
		struct cache_space_fs *fs = &s->fs[i];

		total += fs->total;
		fs->reserve =
			resolve(c->reserve, c->reserve_percent, fs->total);
		if (fs->free < fs->reserve)
			log_warn("cache: less than `reserve` is free: %llu of "
				 "%llu bytes: free some space, or nothing "
				 "fetched will stay here",
				(unsigned long long)fs->free,
				(unsigned long long)fs->reserve);
	}
	s->limit = resolve(c->limit, c->limit_percent, total);
	if (s->limit == 0)
		s->limit = resolve(LIMIT_DEFAULT_PERCENT, true, total);
	s->dirty_limit = resolve(c->dirty_limit, c->dirty_limit_percent, total);
	if (s->dirty_limit == 0 || s->dirty_limit > s->limit)
		s->dirty_limit = s->limit;
}

static int load_use(struct cache *cache)
{
	struct cache_txn *txn;
	int err = cache_read(cache, &txn);

	if (err != 0)
		return err;
	err = cache_use_load(cache->space->use, txn);
	cache_commit(txn);
	return err;
}

int cache_space_open(struct cache *cache)
{
	struct cache_space_state *s = base_calloc(1, sizeof(*s));
	struct cache_data_state *d = cache->data;
	int err;

	s->cache = cache;
	base_mutex_init(&s->mutex, BASE_RANK_CACHE_SPACE);
	base_cond_init(&s->changed);
	for (size_t i = 0; i < d->dirs_nr; i++)
		if (!d->dirs[i].same_fs)
			s->fs[s->fs_nr++].fd = d->dirs[i].fd;
	ask_fs(s);
	resolve_limits(s);
	atomic_store(&s->used, cache->totals.local_bytes);
	s->bg = cache_bg_new(cache, evict_in_background);
	s->use = cache_use_new(cache);
	cache->space = s;
	err = load_use(cache);
	if (err != 0)
		cache_space_close(cache);
	else
		cache_ballast_open(cache);
	return err;
}

void cache_space_stop(struct cache *cache)
{
	struct cache_space_state *s = cache->space;

	if (s == NULL)
		return;
	atomic_store(&s->started, false);
	cache_bg_stop(s->bg);
	cache_use_stop(s->use);
}

void cache_space_close(struct cache *cache)
{
	struct cache_space_state *s = cache->space;

	if (s == NULL)
		return;
	cache_space_stop(cache);
	cache_bg_close(s->bg);
	cache_use_flush(cache);
	cache_use_free(s->use);
	cache->space = NULL;
	pthread_cond_destroy(&s->changed);
	base_mutex_fini(&s->mutex);
	free(s);
}
