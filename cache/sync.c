/*
 * When what is where: WAL syncs, checkpoints, flush numbers.
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
 *	checkpoint: PASSIVE, which never stops the writer, but never lets the
 *	WAL begin again while the writer does not pause; so TRUNCATE once it
 *	has grown beyond WAL_LARGE_BYTES.  Its first WAL_KEEP_BYTES keep their
 *	blocks; on a disk that is nearly full a RESTART keeps it within them, so
 *	that commits go on when nothing is free.
 *
 * An fdatasync that failed may have lost pages, and a second one would not
 * say so: nothing is called durable any more until a checkpoint has carried
 * the whole WAL, as the page cache has it, into the database file.
 */
#include "cache/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"

#define TICK_NS 5000000000
/* Frames since the last checkpoint that bring the next forward; and on a disk
 * that is nearly full, where that is less than half of those kept. */
#define WAL_SOON_PAGES 8192
#define WAL_SOON_PAGES_MIN 128
#define PAGE_BYTES 4096
#define WAL_LARGE_BYTES (256 << 20)
#define WAL_KEEP_BYTES (16 << 20)
/* ... but no more than this part of a small file system. */
#define WAL_KEEP_PART 256
/* Nearly full: less than that many times what the WAL keeps is free. */
#define WAL_TIGHT 16
/* How much further it grows until its disk is looked at again. */
#define LOOK_PAGES 256
/* Commits meet a full disk by the thousand; what did not help one does not
 * help the next. */
#define FULL_PAUSE_NS 1000000000
/* A TRUNCATE checkpoint keeps the writer out while it waits for readers. */
#define TRUNCATE_BUSY_MS 200

struct cache_sync {
	struct cache *cache;
	int fd;			  /* the WAL */
	struct base_mutex mutex;  /* all below */
	pthread_cond_t done_cond; /* an fdatasync has ended */
	uint64_t started, done;	  /* fdatasyncs */
	bool syncing;
	int err; /* of the last one: see at the top */

	pthread_cond_t work_cond; /* the thread may have something to do */
	pthread_t thread;
	bool has_thread, stopping;
	bool awake;	     /* it looks by itself: no signal needed */
	bool urgent;	     /* ... before the tick */
	unsigned soon_pages; /* see WAL_SOON_PAGES */
	unsigned most_pages; /* that the WAL may have; or UINT_MAX */
	unsigned look_pages; /* when the hook looks at the disk again */
	unsigned wal_pages, wal_seen; /* now; at the last checkpoint */
	bool grown;		      /* commits since then */
	_Atomic int64_t full_ns;      /* before then nothing helps */
	_Atomic bool must_wait;	      /* wal_pages >= most_pages */
	uint64_t flush_next;
	bool fresh;	  /* a row carries flush_next */
	bool working;	  /* a flush or checkpoint runs; it alone uses conn */
	pthread_t worker; /* whose, while `working` */
	pthread_cond_t idle_cond;
	struct cache_conn *conn;
};

static void work_begin(struct cache_sync *s)
{
	base_lock(&s->mutex);
	while (s->working)
		base_cond_wait(&s->idle_cond, &s->mutex);
	s->working = true;
	s->worker = pthread_self();
	base_unlock(&s->mutex);
}

/* A flush commits its number itself. */
static bool is_working(struct cache_sync *s)
{
	bool ret;

	base_lock(&s->mutex);
	ret = s->working && pthread_equal(s->worker, pthread_self());
	base_unlock(&s->mutex);
	return ret;
}

static void work_end(struct cache_sync *s)
{
	base_lock(&s->mutex);
	s->working = false;
	pthread_cond_signal(&s->idle_cond);
	base_unlock(&s->mutex);
}

/* ---- the shared sync ---- */

static int checkpoint_now(struct cache *cache, bool full, bool *ret_all);

/* The file that failed is not asked again: a checkpoint writes what it had into
 * the database file, and syncs that. */
static int make_durable_otherwise(struct cache *cache)
{
	bool all = false;
	int err = checkpoint_now(cache, true, &all);

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

static void wake(struct cache_sync *s)
{
	if (!s->awake) {
		s->awake = true;
		pthread_cond_signal(&s->work_cond);
	}
}

uint64_t cache_flush_nr(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	uint64_t nr;

	base_lock(&s->mutex);
	nr = s->flush_next;
	s->fresh = true;
	wake(s);
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
	if (err != 0) {
		cache_abort(txn);
		return err;
	}
	return cache_commit(txn);
}

int cache_sync_flush(struct cache *cache)
{
	struct cache_sync *s = cache->sync;
	uint64_t nr;
	bool fresh;
	int err = 0;

	work_begin(s);
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
	work_end(s);
	return err;
}

/* ---- checkpoints ---- */

/* Is the disk nearly full?  Says how much of the WAL keeps its blocks, too. */
static bool is_tight(struct cache_sync *s, uint64_t *ret_keep)
{
	struct statvfs fs;
	uint64_t keep = WAL_KEEP_BYTES, total;

	*ret_keep = keep;
	if (fstatvfs(s->fd, &fs) != 0)
		return false;
	total = fs.f_blocks * fs.f_frsize;
	if (keep > total / WAL_KEEP_PART)
		keep = total / WAL_KEEP_PART;
	*ret_keep = keep;
	return fs.f_bavail * fs.f_frsize < WAL_TIGHT * keep;
}

static void set_most(struct cache_sync *s, bool tight, uint64_t keep)
{
	unsigned most = (unsigned)(keep / PAGE_BYTES / 4 * 3);

	s->look_pages = most;
	s->most_pages = tight ? most : UINT_MAX;
	atomic_store(&s->must_wait, s->wal_pages >= s->most_pages);
}

/* The WAL is about to leave the blocks it has: is there more? */
static void look_at_disk(struct cache_sync *s)
{
	uint64_t keep;

	if (is_tight(s, &keep))
		set_most(s, true, keep);
	else
		s->look_pages = s->wal_pages + LOOK_PAGES;
}

/* In cache_commit(), with the writer's lock. */
static int wal_hook(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct cache_sync *s = arg;

	(void)db;
	(void)name;
	base_lock(&s->mutex);
	s->wal_pages = (unsigned)pages;
	if (s->wal_pages < s->wal_seen)
		s->wal_seen = 0; /* begun again at its start */
	if (s->wal_pages >= s->look_pages)
		look_at_disk(s);
	atomic_store(&s->must_wait, s->wal_pages >= s->most_pages);
	s->grown = true;
	wake(s);
	if (s->wal_pages - s->wal_seen >= s->soon_pages && !s->urgent) {
		s->urgent = true;
		pthread_cond_signal(&s->work_cond);
	}
	base_unlock(&s->mutex);
	return SQLITE_OK;
}

/* Blocks for the first bytes of the WAL.  Fails quietly: it is a precaution. */
static void keep_blocks(struct cache_sync *s)
{
	uint64_t keep;

	if (is_tight(s, &keep))
		return;
	if (fallocate(s->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)keep) != 0)
		log_debug("index: no blocks kept for the WAL: %s",
			strerror(errno));
}

static int checkpoint(struct cache_sync *s, int mode, bool *ret_all)
{
	int log = 0, copied = 0;
	int code = sqlite3_wal_checkpoint_v2(
		s->conn->db, NULL, mode, &log, &copied);
	int primary = code & 0xff;

	*ret_all = code == SQLITE_OK && log == copied;
	if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED)
		return 0; /* a reader; next time */
	return cache_db_errno(s->conn->db, code, "checkpoint");
}

/* The ballast is for the growth of the database file; a writer who goes on
 * would put it into the WAL, faster than any checkpoint.  So, against the rule,
 * the writer's lock is held over a wait for the disk. */
static int checkpoint_with_ballast(struct cache *cache, bool *ret_all)
{
	int err;

	base_lock(&cache->writer);
	do {
		err = checkpoint(
			cache->sync, SQLITE_CHECKPOINT_RESTART, ret_all);
	} while (err == -ENOSPC && cache_ballast_release(cache));
	base_unlock(&cache->writer);
	return err;
}

/* With the connection.  `pages`: of the WAL; `now`: it must begin again. */
static int checkpoint_as_needed(
	struct cache *cache, unsigned pages, bool now, bool *ret_all)
{
	struct cache_sync *s = cache->sync;
	uint64_t keep;
	bool tight = is_tight(s, &keep) || now;
	unsigned soon = WAL_SOON_PAGES;
	struct stat st;
	int err;

	if (tight && soon > keep / 2 / PAGE_BYTES)
		soon = (unsigned)(keep / 2 / PAGE_BYTES);
	if (soon < WAL_SOON_PAGES_MIN)
		soon = WAL_SOON_PAGES_MIN;
	base_lock(&s->mutex);
	s->soon_pages = soon;
	set_most(s, tight, keep);
	base_unlock(&s->mutex);

	err = checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, ret_all);
	if (err == -ENOSPC || now || (err == 0 && tight && pages >= soon))
		return checkpoint_with_ballast(cache, ret_all);
	if (err != 0)
		return err;
	if (!tight && fstat(s->fd, &st) == 0 && st.st_size > WAL_LARGE_BYTES) {
		err = checkpoint(s, SQLITE_CHECKPOINT_TRUNCATE, ret_all);
		if (err == 0 && *ret_all)
			keep_blocks(s);
	}
	return err;
}

static int checkpoint_now(struct cache *cache, bool full, bool *ret_all)
{
	struct cache_sync *s = cache->sync;
	unsigned pages;
	bool all = false;
	int err;

	work_begin(s);
	base_lock(&s->mutex);
	pages = s->wal_pages;
	s->grown = false;
	base_unlock(&s->mutex);
	err = checkpoint_as_needed(cache, pages, full, &all);
	base_lock(&s->mutex);
	s->wal_seen = pages < s->wal_pages ? pages : s->wal_pages;
	if (!all)
		s->grown = true;
	base_unlock(&s->mutex);
	work_end(s);
	*ret_all = all;
	return err;
}

int cache_sync_checkpoint(struct cache *cache)
{
	bool all;

	return checkpoint_now(cache, false, &all);
}

/* What is in the database file need not stay in the WAL, which then begins
 * again in blocks that it has.  On a nearly full disk this paces those who
 * commit, or the WAL would outrun the checkpoints and take the ballast. */
void cache_sync_committed(struct cache *cache, int err)
{
	struct cache_sync *s = cache->sync;
	bool all;
	int64_t now;

	if (s == NULL || (err != -ENOSPC && !atomic_load(&s->must_wait)))
		return;
	now = base_boot_ns(cache->env);
	if (now < atomic_load(&s->full_ns) || is_working(s))
		return;
	if (checkpoint_now(cache, true, &all) != 0)
		atomic_store(&s->full_ns, now + FULL_PAUSE_NS);
	else
		atomic_store(&s->must_wait, false);
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
	if (fd < 0 || fsync(dir) != 0) {
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
	uint64_t keep;
	bool tight;

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
	s->soon_pages = WAL_SOON_PAGES;
	s->fresh = true;
	s->grown = true;
	err = cache_conn_open(cache, false, &s->conn);
	cache->sync = s;
	if (err != 0) {
		cache_sync_close(cache);
		return err;
	}
	sqlite3_busy_timeout(s->conn->db, TRUNCATE_BUSY_MS);
	keep_blocks(s);
	tight = is_tight(s, &keep);
	set_most(s, tight, keep);
	sqlite3_wal_hook(cache->write_conn->db, wal_hook, s);
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
