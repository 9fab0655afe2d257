/*
 * When what is where: WAL syncs, flush numbers, and the thread of both.
 *
 * Commits do not sync (synchronous = NORMAL).  Whoever needs one durable
 * calls cache_sync_index(), an fdatasync of the WAL through a descriptor of
 * our own, which never blocks the writer (and, unlike one of the database
 * file, carries none of SQLite's locks).  The first to come does it, on its own
 * thread, for all commits made so far; who comes meanwhile shares the next.
 *
 * One thread, started by cache_sync_start() and joined by cache_sync_close(),
 * does the rest every TICK_NS while there is something to do, and sleeps
 * without waking when there is not:
 *	flush: rows of fetched bytes carry `flush_next`.  A flush takes N =
 *	flush_next, raises it, syncs all data directories, and notes N in
 *	`meta`.  Rows that carry N or less describe bytes that survive a power
 *	cut.  (A row's bytes are written before its number is read, so a row
 *	that commits late is covered too.)
 *	checkpoint: see checkpoint.c.
 *
 * An fdatasync that failed may have lost pages, and a second one would not
 * say so: nothing is called durable any more until a checkpoint has carried
 * the whole WAL, as the page cache has it, into the database file.
 */
#include "cache/sync.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define TICK_NS 5000000000

void cache_sync_work_begin(struct cache_sync *s)
{
	base_lock(&s->mutex);
	while (s->working)
		base_cond_wait(&s->idle_cond, &s->mutex);
	s->working = true;
	s->worker = pthread_self();
	base_unlock(&s->mutex);
}

/* A flush commits its number itself. */
bool cache_sync_is_working(struct cache_sync *s)
{
	bool ret;

	base_lock(&s->mutex);
	ret = s->working && pthread_equal(s->worker, pthread_self());
	base_unlock(&s->mutex);
	return ret;
}

void cache_sync_work_end(struct cache_sync *s)
{
	base_lock(&s->mutex);
	s->working = false;
	pthread_cond_signal(&s->idle_cond);
	base_unlock(&s->mutex);
}

void cache_sync_wake(struct cache_sync *s)
{
	if (!s->awake) {
		s->awake = true;
		pthread_cond_signal(&s->work_cond);
	}
}

/* ---- the shared sync ---- */

/* The file that failed is not asked again: a checkpoint writes what it had into
 * the database file, and syncs that. */
static int make_durable_otherwise(struct cache *cache)
{
	bool all = false;
	int err = cache_checkpoint_now(cache, true, &all);

	return err != 0 ? err : all ? 0 : -EIO;
}

static int sync_once(struct cache *cache, bool broken)
{
	int err = broken || fdatasync(cache->sync->fd) == 0 ? 0 : -errno;

	if (err != 0)
		log_error("index: fdatasync: %s: trying a checkpoint instead",
			strerror(-err));
	return broken || err != 0 ? make_durable_otherwise(cache) : 0;
}

int cache_sync_index(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	uint64_t target;
	bool broken;
	int err;

	base_lock(&s->mutex);
	target = s->started + 1;
	while (s->done < target) {
		if (s->syncing) {
			base_cond_wait(&s->done_cond, &s->mutex);
			continue;
		}
		s->syncing = true;
		s->started++;
		broken = s->err != 0;
		base_unlock(&s->mutex);
		err = sync_once(cache, broken);
		base_lock(&s->mutex);
		s->syncing = false;
		s->done = s->started;
		if (err != 0 && !broken)
			log_error("index: nothing is durable until a "
				  "checkpoint succeeds: %s",
				strerror(-err));
		if (err == 0 && broken)
			log_info("index: durable again");
		s->err = err;
		pthread_cond_broadcast(&s->done_cond);
	}
	err = s->err;
	base_unlock(&s->mutex);
	return err;
}

uint64_t cache_sync_count(struct cache *cache)
{
	uint64_t count;

	base_lock(&cache->sync->mutex);
	count = cache->sync->done;
	base_unlock(&cache->sync->mutex);
	return count;
}

/* ---- flush numbers ---- */

uint64_t cache_flush_nr(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	uint64_t nr;

	base_lock(&s->mutex);
	nr = s->flush_next;
	s->fresh = true;
	cache_sync_wake(s);
	base_unlock(&s->mutex);
	return nr;
}

bool cache_flush_has_begun(struct cache *cache, uint64_t nr)
{
	struct cache_sync *s = cache->sync;
	bool begun;

	base_lock(&s->mutex);
	begun = nr < s->flush_next;
	base_unlock(&s->mutex);
	return begun;
}

static int note_flushed(struct cache *cache, uint64_t nr)
{
	struct cache_txn *txn;
	int err = cache_write(cache, &txn);

	if (err != 0)
		return err;
	err = cache_meta_set_u64(txn, "flush_nr", nr);
	return cache_end(txn, err);
}

int cache_sync_flush(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	uint64_t nr;
	bool fresh;
	int err = 0;

	cache_sync_work_begin(s);
	base_lock(&s->mutex);
	nr = s->flush_next;
	fresh = s->fresh;
	if (fresh)
		s->flush_next++;
	s->fresh = false;
	base_unlock(&s->mutex);
	if (fresh)
		err = cache_data_sync_all(cache);
	if (fresh && err == 0)
		err = note_flushed(cache, nr);
	if (err != 0) {
		/* Never more than two numbers are under way: local.c, L2. */
		base_lock(&s->mutex);
		s->flush_next = nr;
		s->fresh = true;
		base_unlock(&s->mutex);
	}
	cache_sync_work_end(s);
	return err;
}

/* ---- the thread ---- */

static bool has_work(struct cache_sync *s)
{
	return s->grown || s->fresh || cache_ballast_missing(s->cache);
}

/* Until the tick, or something urgent, or the end. */
static void wait_for(struct cache_sync *s, int64_t tick_ns)
{
	while (!s->stopping && !s->urgent) {
		int64_t left = tick_ns - base_boot_ns(s->cache->env);

		if (left <= 0 ||
			base_cond_wait_ns(&s->work_cond, &s->mutex, left) != 0)
			break;
	}
}

static void *work(void *arg)
{
	struct cache_sync *s = arg;
	int64_t tick_ns = base_boot_ns(s->cache->env) + TICK_NS;
	bool ticked;

	base_lock(&s->mutex);
	while (!s->stopping) {
		if (!has_work(s)) {
			s->awake = false;
			base_cond_wait(&s->work_cond, &s->mutex);
			tick_ns = base_boot_ns(s->cache->env) + TICK_NS;
			continue;
		}
		s->awake = true;
		wait_for(s, tick_ns);
		if (s->stopping)
			break;
		ticked = !s->urgent;
		s->urgent = false;
		base_unlock(&s->mutex);
		if (ticked) {
			tick_ns = base_boot_ns(s->cache->env) + TICK_NS;
			cache_sync_flush(s->cache);
			cache_ballast_renew(s->cache);
		}
		cache_sync_checkpoint(s->cache);
		base_lock(&s->mutex);
	}
	base_unlock(&s->mutex);
	return NULL;
}

void cache_sync_start(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&s->thread, NULL, work, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		log_error(
			"index: no thread for checkpoints: %s", strerror(err));
	s->has_thread = err == 0;
}

/* ---- open and close ---- */

/* The WAL exists by now; its name must be as durable as its frames. */
static int open_wal(struct cache *cache, int *ret_fd)
{
	int dir, fd, err = 0;

	dir = open(cache->dirs[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = openat(dir, CACHE_WAL_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (!cache->goes_on && fsync(dir) != 0)) {
		err = -errno;
		if (fd >= 0)
			close(fd);
	}
	close(dir);
	if (err == 0)
		*ret_fd = fd;
	return err;
}

int cache_sync_open(struct cache *cache)
{
	struct cache_sync *s;
	int fd = -1, err;

	assert(cache->sync == NULL);
	err = open_wal(cache, &fd);
	if (err != 0)
		return err;
	s = base_calloc(1, sizeof(*s));
	s->cache = cache;
	s->fd = fd;
	base_mutex_init(&s->mutex, BASE_RANK_CACHE_SYNC);
	base_cond_init(&s->done_cond);
	base_cond_init(&s->work_cond);
	base_cond_init(&s->idle_cond);
	/* The process before this one may have used the number after the last
	 * durable one, and, while that was being flushed, the next.  Both are
	 * covered by the first flush from here. */
	s->flush_next = cache->durable_flush_nr + 2;
	s->fresh = true;
	s->grown = true;
	err = cache_conn_open(cache, false, &s->conn);
	cache->sync = s;
	if (err != 0) {
		cache_sync_close(cache);
		return err;
	}
	cache_checkpoint_open(s);
	return 0;
}

void cache_sync_close(struct cache *cache)
{
	struct cache_sync *s = cache->sync;

	if (s == NULL)
		return;
	base_lock(&s->mutex);
	s->stopping = true;
	pthread_cond_signal(&s->work_cond);
	base_unlock(&s->mutex);
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	if (cache->write_conn != NULL)
		sqlite3_wal_hook(cache->write_conn->db, NULL, NULL);
	if (s->conn != NULL)
		cache_conn_close(s->conn);
	close(s->fd);
	pthread_cond_destroy(&s->done_cond);
	pthread_cond_destroy(&s->work_cond);
	pthread_cond_destroy(&s->idle_cond);
	base_mutex_fini(&s->mutex);
	free(s);
	cache->sync = NULL;
}
