/*
 * Checkpoints: the WAL's frames go into the database file, and the WAL begins
 * again.
 *
 * PASSIVE, which never stops the writer, but never lets the WAL begin again
 * while the writer does not pause; so TRUNCATE once it has grown beyond
 * WAL_LARGE_BYTES.  Its first WAL_KEEP_BYTES keep their blocks; on a disk that
 * is nearly full a RESTART keeps it within them, so that commits go on when
 * nothing is free.
 */
#include "cache/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/log.h"

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
	cache_sync_wake(s);
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

int cache_checkpoint_now(struct cache *cache, bool full, bool *ret_all)
{
	struct cache_sync *s = cache->sync;
	unsigned pages;
	bool all = false;
	int err;

	cache_sync_work_begin(s);
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
	cache_sync_work_end(s);
	*ret_all = all;
	return err;
}

int cache_sync_checkpoint(struct cache *cache)
{
	bool all;

	return cache_checkpoint_now(cache, false, &all);
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
	if (now < atomic_load(&s->full_ns) || cache_sync_is_working(s))
		return;
	if (cache_checkpoint_now(cache, true, &all) != 0)
		atomic_store(&s->full_ns, now + FULL_PAUSE_NS);
	else
		atomic_store(&s->must_wait, false);
}

void cache_checkpoint_open(struct cache_sync *s)
{
	uint64_t keep;
	bool tight;

	s->soon_pages = WAL_SOON_PAGES;
	sqlite3_busy_timeout(s->conn->db, TRUNCATE_BUSY_MS);
	keep_blocks(s);
	tight = is_tight(s, &keep);
	set_most(s, tight, keep);
	sqlite3_wal_hook(s->cache->write_conn->db, wal_hook, s);
}
