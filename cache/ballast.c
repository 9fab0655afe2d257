/*
 * Ballast: disk held back, so that the index goes on when others filled it.
 *
 * A file CACHE/ballast of preallocated blocks in the directory of the index.
 * When SQLite meets a full disk the file goes, and comes back when there is
 * room again.  (The WAL's first blocks are kept besides: sync.c.)
 */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"

#define BALLAST_FILE "ballast"
#define BALLAST_BYTES (64 << 20)
/* ... but no more than this part of a small file system. */
#define BALLAST_PART 128
/* It is made again when that many times its size is free. */
#define BALLAST_FREE 4

static int open_dir(struct cache *cache)
{
	return open(cache->dirs[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static uint64_t allocated(int dir)
{
	struct stat st;

	if (fstatat(dir, BALLAST_FILE, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

/* 0 also where there is no room, or no fallocate. */
static uint64_t make(int dir, uint64_t bytes)
{
	struct statvfs v;
	int fd, err;

	if (fstatvfs(dir, &v) != 0 ||
		v.f_bavail * v.f_frsize < BALLAST_FREE * bytes)
		return 0;
	unlinkat(dir, BALLAST_FILE, 0);
	fd = openat(dir, BALLAST_FILE,
		O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return 0;
	err = fallocate(fd, 0, 0, (off_t)bytes) == 0 ? 0 : errno;
	close(fd);
	if (err != 0) {
		unlinkat(dir, BALLAST_FILE, 0);
		log_debug("cache: no ballast: %s", strerror(err));
		return 0;
	}
	return bytes;
}

void cache_ballast_open(struct cache *cache)
{
	struct cache_space_state *s = cache->space;
	struct statvfs v;
	uint64_t want = BALLAST_BYTES;
	int dir = open_dir(cache);

	if (dir < 0)
		return;
	if (fstatvfs(dir, &v) == 0 &&
		want > v.f_blocks * v.f_frsize / BALLAST_PART)
		want = v.f_blocks * v.f_frsize / BALLAST_PART;
	want -= want % CACHE_BLOCK_BYTES;
	if (allocated(dir) >= want)
		atomic_store(&s->ballast, want);
	else
		atomic_store(&s->ballast, make(dir, want));
	/* What could not be made at first is not tried for ever after. */
	atomic_store(&s->ballast_want, want);
	close(dir);
}

bool cache_ballast_missing(struct cache *cache)
{
	struct cache_space_state *s = cache->space;

	return s != NULL && atomic_load(&s->ballast_released) &&
		atomic_load(&s->ballast) == 0;
}

void cache_ballast_renew(struct cache *cache)
{
	struct cache_space_state *s = cache->space;
	uint64_t bytes;
	int dir;

	if (!cache_ballast_missing(cache))
		return;
	dir = open_dir(cache);
	if (dir < 0)
		return;
	bytes = make(dir, atomic_load(&s->ballast_want));
	close(dir);
	if (bytes != 0) {
		atomic_store(&s->ballast, bytes);
		log_info("cache: the disk has room again: ballast is back");
	}
}

bool cache_ballast_release(struct cache *cache)
{
	struct cache_space_state *s = cache->space;
	int dir;

	if (s == NULL || atomic_exchange(&s->ballast, 0) == 0)
		return false;
	atomic_store(&s->ballast_released, true);
	dir = open_dir(cache);
	if (dir < 0)
		return false;
	unlinkat(dir, BALLAST_FILE, 0);
	/* ext4 gives freed blocks again only after its journal's commit. */
	fsync(dir);
	close(dir);
	log_warn("cache: the disk of %s is full: the index uses its ballast",
		cache->dirs[0]);
	return true;
}
