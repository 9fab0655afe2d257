/*
 * Data files: where they are, how they become durable, how they go.
 *
 * On disk: CACHE/data/HH/INO.SERIAL, a sparse file with the offsets of the
 * real one.  HH, and which of several cache directories, come from a hash of
 * INO, so `spread` and `place_of` are part of the on-disk form: they hold as
 * long as the list of directories does (session.c keeps it in `meta`).
 *
 * Durable: a file's bytes by fdatasync, its name by the same where the file
 * system is known to do so (prepare.c), else by an fsync of HH.  `made` counts
 * the files made in an HH, `synced` says how many of them the last fsync surely
 * covered; so many syncs in one HH share its fsync.  A process begins with
 * made = 1, because the one before it may have died in between.
 *
 * Unlinking a large file is slow and nobody waits for it, except eviction,
 * which promised the room: it drains the queue itself.  A file goes only when
 * the commit that let go of it is durable: after a power cut the row that names
 * it may be back.
 */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define REL_MAX 64

/* ---- where ---- */

struct place {
	struct cache_data_dir *dir;
	size_t dir_nr;
	unsigned hh;
	char rel[REL_MAX]; /* to dir->fd */
};

/* The finalizer of splitmix64: neighbours land far apart. */
static uint64_t spread(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void cache_data_place(
	uint64_t ino, size_t dirs_nr, size_t *ret_dir, unsigned *ret_hh)
{
	uint64_t hash = spread(ino);

	*ret_hh = hash & (CACHE_HH_NR - 1);
	*ret_dir = (size_t)((hash >> 32) % dirs_nr);
}

static void place_of(
	struct cache *cache, uint64_t ino, uint64_t serial, struct place *ret)
{
	struct cache_data_state *d = cache->data;

	cache_data_place(ino, d->dirs_nr, &ret->dir_nr, &ret->hh);
	ret->dir = &d->dirs[ret->dir_nr];
	snprintf(ret->rel, sizeof(ret->rel), "%02x/%" PRIu64 ".%" PRIu64,
		ret->hh, ino, serial);
}

char *cache_data_path(struct cache *cache, uint64_t ino, uint64_t serial)
{
	struct base_str path = BASE_STR_INIT;
	struct place p;

	place_of(cache, ino, serial, &p);
	base_str_printf(&path, "%s/" CACHE_DATA_DIR "/%s",
		cache->dirs[p.dir_nr], p.rel);
	return base_str_take(&path);
}

int cache_data_open(
	struct cache *cache, uint64_t ino, uint64_t serial, int flags)
{
	struct place p;
	int fd;

	place_of(cache, ino, serial, &p);
	flags |= O_CLOEXEC | O_NOFOLLOW;
	if (flags & O_CREAT)
		flags |= O_EXCL;
	fd = openat(p.dir->fd, p.rel, flags, 0600);
	if (fd < 0 && errno == EEXIST && (flags & O_CREAT)) {
		if (unlinkat(p.dir->fd, p.rel, 0) != 0 && errno != ENOENT)
			return -errno;
		fd = openat(p.dir->fd, p.rel, flags, 0600);
	}
	if (fd < 0)
		return -errno;
	if (flags & O_CREAT)
		atomic_fetch_add(&p.dir->made[p.hh], 1);
	return fd;
}

int cache_data_stat(struct cache *cache, uint64_t ino, uint64_t serial,
	struct cache_stamp *ret, uint64_t *ret_allocated_bytes)
{
	struct place p;
	struct stat st;

	place_of(cache, ino, serial, &p);
	if (fstatat(p.dir->fd, p.rel, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (ret != NULL) {
		ret->size_bytes = (uint64_t)st.st_size;
		ret->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 +
			st.st_mtim.tv_nsec;
		ret->ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 +
			st.st_ctim.tv_nsec;
	}
	if (ret_allocated_bytes != NULL)
		*ret_allocated_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

/* ---- whose bytes ---- */

int cache_data_mark_fetched(int fd)
{
	return fchmod(fd, S_IRUSR) == 0 ? 0 : -errno;
}

int cache_data_mark_ours(
	struct cache *cache, uint64_t ino, uint64_t serial, bool *ret_moved)
{
	struct place p;
	struct stat st;

	*ret_moved = false;
	place_of(cache, ino, serial, &p);
	if (fstatat(p.dir->fd, p.rel, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (st.st_mode & S_IWUSR)
		return 0;
	if (fchmodat(p.dir->fd, p.rel, S_IRUSR | S_IWUSR, 0) != 0)
		return -errno;
	*ret_moved = true;
	return 0;
}

/* ---- durable ---- */

static void raise_synced(_Atomic uint64_t *synced, uint64_t made)
{
	uint64_t was = atomic_load(synced);

	while (was < made && !atomic_compare_exchange_weak(synced, &was, made))
		;
}

/* The names of files made so far in one HH. */
static int sync_hh(struct cache_data_dir *dir, unsigned hh)
{
	uint64_t made = atomic_load(&dir->made[hh]);
	char name[8];
	int fd, err = 0;

	if (atomic_load(&dir->synced[hh]) >= made)
		return 0;
	snprintf(name, sizeof(name), "%02x", hh);
	fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0)
		err = -errno;
	close(fd);
	if (err == 0)
		raise_synced(&dir->synced[hh], made);
	return err;
}

int cache_data_sync(struct cache *cache, uint64_t ino, uint64_t serial)
{
	struct place p;
	int fd = cache_data_open(cache, ino, serial, O_RDONLY);
	int err = 0;

	if (fd < 0)
		return fd;
	if (fdatasync(fd) != 0)
		err = -errno;
	close(fd);
	place_of(cache, ino, serial, &p);
	if (err == 0 && !p.dir->syncs_names)
		err = sync_hh(p.dir, p.hh);
	if (err != 0)
		log_error("cache: %s in %s: %s", p.rel, cache->dirs[p.dir_nr],
			strerror(-err));
	return err;
}

int cache_data_sync_all(struct cache *cache)
{
	struct cache_data_state *d = cache->data;
	size_t slots = d->dirs_nr * CACHE_HH_NR;
	uint64_t *made = base_malloc(slots * sizeof(*made));
	int err = 0;

	for (size_t i = 0; i < slots; i++)
		made[i] = atomic_load(
			&d->dirs[i / CACHE_HH_NR].made[i % CACHE_HH_NR]);
	for (size_t i = 0; i < d->dirs_nr && err == 0; i++)
		if (!d->dirs[i].same_fs && syncfs(d->dirs[i].fd) != 0) {
			err = -errno;
			log_error("cache: %s: %s", cache->dirs[i],
				strerror(-err));
		}
	for (size_t i = 0; i < slots && err == 0; i++)
		raise_synced(&d->dirs[i / CACHE_HH_NR].synced[i % CACHE_HH_NR],
			made[i]);
	free(made);
	return err;
}

/* ---- who else has it ---- */

bool cache_data_leases(const struct cache *cache)
{
	return cache->data->leases;
}

bool cache_data_stacked(const struct cache *cache)
{
	return cache->data->stacked;
}

int cache_data_probe_fd(int fd, bool writers_only)
{
	int err = 0;

	/* The lease is gone again at once, but an open() elsewhere in between
	 * sends a signal, and the usual one (SIGIO) kills. */
	if (fcntl(fd, F_SETSIG, SIGURG) != 0)
		return -errno;
	if (fcntl(fd, F_SETLEASE, writers_only ? F_RDLCK : F_WRLCK) != 0)
		err = errno == EAGAIN ? -EBUSY : -errno;
	else
		fcntl(fd, F_SETLEASE, F_UNLCK);
	return err;
}

int cache_data_probe(
	struct cache *cache, uint64_t ino, uint64_t serial, bool writers_only)
{
	int fd, err;

	if (!cache->data->leases)
		return -ENOTSUP;
	/* O_NONBLOCK: somebody else's lease means that it is in use. */
	fd = cache_data_open(cache, ino, serial, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd == -EWOULDBLOCK ? -EBUSY : fd;
	err = cache_data_probe_fd(fd, writers_only);
	close(fd);
	return err;
}

/* ---- going ---- */

static void unlink_now(struct cache *cache, uint64_t ino, uint64_t serial)
{
	struct place p;

	place_of(cache, ino, serial, &p);
	if (unlinkat(p.dir->fd, p.rel, 0) != 0 && errno != ENOENT)
		log_error("cache: cannot remove %s in %s: %s", p.rel,
			cache->dirs[p.dir_nr], strerror(errno));
}

void cache_data_unmake(struct cache *cache, uint64_t ino, uint64_t serial)
{
	unlink_now(cache, ino, serial);
}

/* False: it will never be known, so what is there stays there. */
static bool sync_drops(struct cache *cache)
{
	/* At the end of a session its last commit was durable. */
	return cache->sync == NULL || cache_sync_index(cache) == 0;
}

void cache_data_drain(struct cache *cache)
{
	struct cache_data_state *d = cache->data;
	struct cache_drop *drops;
	size_t nr;

	base_lock(&d->mutex);
	/* What another thread has taken is to be gone, too. */
	while (d->draining)
		base_cond_wait(&d->drained, &d->mutex);
	d->draining = true;
	drops = d->drops;
	nr = d->drops_nr;
	d->drops = NULL;
	d->drops_nr = d->drops_cap = 0;
	base_unlock(&d->mutex);
	if (nr != 0 && sync_drops(cache))
		for (size_t i = 0; i < nr; i++)
			unlink_now(cache, drops[i].ino, drops[i].serial);
	free(drops);
	base_lock(&d->mutex);
	d->draining = false;
	pthread_cond_broadcast(&d->drained);
	base_unlock(&d->mutex);
}

void cache_data_unlink(struct cache *cache, uint64_t ino, uint64_t serial)
{
	struct cache_data_state *d = cache->data;
	bool queued = false;

	base_lock(&d->mutex);
	if (d->drops_nr < CACHE_UNLINKS_MAX) {
		if (d->drops_nr == d->drops_cap) {
			d->drops_cap = d->drops_cap ? 2 * d->drops_cap : 16;
			d->drops = base_realloc(
				d->drops, d->drops_cap * sizeof(*d->drops));
		}
		d->drops[d->drops_nr++] =
			(struct cache_drop){ .ino = ino, .serial = serial };
		queued = true;
	}
	base_unlock(&d->mutex);
	if (queued)
		cache_bg_kick(d->bg);
	else if (sync_drops(cache))
		unlink_now(cache, ino, serial);
}
