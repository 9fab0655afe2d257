/*
 * Data directories at mount: made beforehand, and their file systems probed.
 *
 * What a cache needs of a file system: sparse files, syncs that mean it, and
 * one host only.  What it can do without, at a price: leases (then nobody
 * knows of mappings, and files are served by the daemon).
 */
#include "cache/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/log.h"

/* The probe for sparse files: a byte this far out must not fill the way. */
#define PROBE_OFFSET (16 << 20)

/* Names of file systems that break a promise of ours, or NULL. */
static const char *refused_fs(const struct statfs *fs)
{
	switch ((unsigned long)fs->f_type) {
	case 0x6969:
		return "NFS";
	case 0xff534d42:
	case 0xfe534d42:
	case 0x517b:
		return "SMB";
	case 0x65735546:
		return "FUSE";
	case 0x01021997:
		return "9p";
	case 0x00c36400:
		return "Ceph";
	case 0x5346414f:
		return "AFS";
	case 0x0bd00bd0:
		return "Lustre";
	case 0x4d44:
		return "FAT";
	default:
		return NULL;
	}
}

static int refuse(
	char *why, size_t why_bytes, const char *dir, int err, const char *what)
{
	snprintf(why, why_bytes, "cache directory %s: %s", dir, what);
	return err;
}

/* A file is made, with its name, in one transaction of these file systems'
 * journals, and a sync of it commits that.  (ext4 without a journal syncs the
 * directory by itself.) */
static bool syncs_names(const struct statfs *fs)
{
	switch ((unsigned long)fs->f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int check_fs(
	struct cache *cache, int fd, size_t i, char *why, size_t why_bytes)
{
	const char *name, *dir = cache->dirs[i];
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return refuse(why, why_bytes, dir, -errno, strerror(errno));
	name = refused_fs(&fs);
	if (name != NULL) {
		snprintf(why, why_bytes,
			"cache directory %s is on %s, which cannot hold a "
			"cache: choose one on a local disk (ext4, XFS)",
			dir, name);
		return -EOPNOTSUPP;
	}
	if ((unsigned long)fs.f_type == 0x01021994)
		log_warn("cache: %s is in memory (tmpfs): what the store does "
			 "not have yet is lost when this host stops",
			dir);
	/* The kernel stacks no FUSE file system on these (ELOOP). */
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC ||
		fs.f_type == ECRYPTFS_SUPER_MAGIC)
		cache->data->stacked = true;
	cache->data->dirs[i].syncs_names = syncs_names(&fs);
	return 0;
}

/* Makes and enters a directory below `at`.  `*made` rises if it is new. */
static int make_dir(int at, const char *name, unsigned *made)
{
	int fd;

	if (mkdirat(at, name, 0700) == 0)
		(*made)++;
	else if (errno != EEXIST)
		return -errno;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Writes one byte far out and takes leases on the file. */
static int probe_file(int dir_fd, bool *ret_sparse, bool *ret_leases)
{
	static const char name[] = "probe";
	struct stat st;
	int fd, err = 0;

	if (unlinkat(dir_fd, name, 0) != 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* No sync: st_blocks counts what is still to be allocated, too, and a
	 * worker that starts after a crash is waited for. */
	if (pwrite(fd, "x", 1, PROBE_OFFSET) != 1 || fstat(fd, &st) != 0)
		err = errno != 0 ? -errno : -EIO;
	close(fd);
	if (err == 0) {
		*ret_sparse = (off_t)st.st_blocks * 512 < PROBE_OFFSET;
		fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
		err = fd < 0 ? -errno : 0;
	}
	if (err == 0) {
		*ret_leases = cache_data_probe_fd(fd, true) == 0 &&
			cache_data_probe_fd(fd, false) == 0;
		close(fd);
	}
	unlinkat(dir_fd, name, 0);
	return err;
}

static int make_hh(int dir_fd, unsigned *made)
{
	char name[8];
	int fd;

	for (unsigned hh = 0; hh < CACHE_HH_NR; hh++) {
		snprintf(name, sizeof(name), "%02x", hh);
		fd = make_dir(dir_fd, name, made);
		if (fd < 0)
			return fd;
		close(fd);
	}
	return 0;
}

/* Takes away what was made here; a directory with files in it stays. */
static void unmake(const char *dir, int data_fd)
{
	char name[8];
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (unsigned hh = 0; hh < CACHE_HH_NR; hh++) {
		snprintf(name, sizeof(name), "%02x", hh);
		unlinkat(data_fd, name, AT_REMOVEDIR);
	}
	if (at >= 0) {
		unlinkat(at, CACHE_DATA_DIR, AT_REMOVEDIR);
		close(at);
	}
}

static int prepare_dir(struct cache *cache, size_t i, bool *ret_leases,
	char *why, size_t why_bytes)
{
	const char *dir = cache->dirs[i];
	unsigned made_data = 0, made_hh = 0;
	bool sparse = false;
	int at, fd, err;

	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return refuse(why, why_bytes, dir, -errno, strerror(errno));
	err = check_fs(cache, at, i, why, why_bytes);
	if (err != 0)
		goto out_at;
	fd = err = make_dir(at, CACHE_DATA_DIR, &made_data);
	if (fd < 0) {
		refuse(why, why_bytes, dir, err, strerror(-err));
		goto out_at;
	}
	err = make_hh(fd, &made_hh);
	if (err == 0)
		err = probe_file(fd, &sparse, ret_leases);
	if (err == 0 && made_hh != 0 && fsync(fd) != 0)
		err = -errno;
	if (err == 0 && made_data != 0 && fsync(at) != 0)
		err = -errno;
	if (err != 0)
		refuse(why, why_bytes, dir, err, strerror(-err));
	else if (!sparse)
		err = refuse(why, why_bytes, dir, -EOPNOTSUPP,
			"its file system has no sparse files: choose one on "
			"ext4 or XFS");
	cache->data->dirs[i].fd = fd;
	cache->data->dirs[i].fresh = made_data != 0;
out_at:
	close(at);
	return err;
}

static void mark_same_fs(struct cache_data_state *d)
{
	struct stat a, b;

	for (size_t i = 1; i < d->dirs_nr; i++)
		for (size_t j = 0; j < i && !d->dirs[i].same_fs; j++)
			if (fstat(d->dirs[i].fd, &a) == 0 &&
				fstat(d->dirs[j].fd, &b) == 0)
				d->dirs[i].same_fs = a.st_dev == b.st_dev;
}

int cache_data_prepare(struct cache *cache, char *why, size_t why_bytes)
{
	struct cache_data_state *d = base_calloc(1, sizeof(*d));
	bool leases = true;
	int err = 0;

	assert(cache->data == NULL && cache->dirs_nr > 0);
	cache->data = d;
	d->dirs = base_calloc(cache->dirs_nr, sizeof(*d->dirs));
	d->dirs_nr = cache->dirs_nr;
	d->leases = true;
	base_mutex_init(&d->mutex, BASE_RANK_CACHE_SPACE);
	base_cond_init(&d->drained);
	d->bg = cache_bg_new(cache, cache_data_drain);
	for (size_t i = 0; i < d->dirs_nr; i++) {
		d->dirs[i].fd = -1;
		for (unsigned hh = 0; hh < CACHE_HH_NR; hh++)
			atomic_store(&d->dirs[i].made[hh], 1);
	}
	for (size_t i = 0; i < d->dirs_nr && err == 0; i++) {
		err = prepare_dir(cache, i, &leases, why, why_bytes);
		d->leases = d->leases && leases;
	}
	if (err != 0) {
		cache_data_finish(cache, true);
		return err;
	}
	mark_same_fs(d);
	if (!d->leases)
		log_warn("cache: %s: its file system has no leases: files are "
			 "served by the daemon",
			cache->dirs[0]);
	return 0;
}

void cache_data_stop(struct cache *cache)
{
	if (cache->data != NULL)
		cache_bg_stop(cache->data->bg);
}

void cache_data_finish(struct cache *cache, bool undo)
{
	struct cache_data_state *d = cache->data;

	if (d == NULL)
		return;
	cache_bg_close(d->bg);
	cache_data_drain(cache);
	for (size_t i = 0; i < d->dirs_nr; i++) {
		if (d->dirs[i].fd < 0)
			continue;
		if (undo && d->dirs[i].fresh)
			unmake(cache->dirs[i], d->dirs[i].fd);
		close(d->dirs[i].fd);
	}
	pthread_cond_destroy(&d->drained);
	base_mutex_fini(&d->mutex);
	free(d->dirs);
	free(d);
	cache->data = NULL;
}
