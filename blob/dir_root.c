/*
 * An opened reservoir directory, and the store's own room below it: see
 * dir_priv.h.
 */
#include "blob/dir_priv.h"
#include "blob/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* Does every change move ctime?  Since Linux 6.13 it does on these: a stamp
 * that somebody looked at is not given again. */
static bool has_fine_stamps(int fd)
{
	struct utsname uts;
	struct statfs fs;
	char *end;
	long major, minor = 0;

	if (uname(&uts) < 0 || fstatfs(fd, &fs) < 0)
		return false;
	major = strtol(uts.release, &end, 10);
	if (*end == '.')
		minor = strtol(end + 1, NULL, 10);
	if (major < 6 || (major == 6 && minor < 13))
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
		fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC;
}

static void read_boot(char ret[17])
{
	uint8_t sum[16];
	char text[64];
	ssize_t n = 0;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		n = read(fd, text, sizeof(text));
		close(fd);
	}
	blob_md5(text, n > 0 ? (size_t)n : 0, sum);
	dir_hex(sum, 8, ret);
}

int dir_root_open(const char *path, struct dir_root **ret_root)
{
	struct dir_root *root;
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		close(fd);
		return -EIO;
	}
	root = base_calloc(1, sizeof(*root));
	root->refs = 1;
	root->fd = fd;
	root->dev = st.st_dev;
	root->ino = st.st_ino;
	root->fine_stamps = has_fine_stamps(fd);
	root->tmp_fd = root->stage_fd = root->meta_fd = root->lock_fd = -1;
	base_mutex_init(&root->sys_lock, BASE_RANK_BLOB_LOOP);
	read_boot(root->boot);
	*ret_root = root;
	return 0;
}

static void close_own(struct dir_root *root)
{
	int *fds[] = { &root->tmp_fd, &root->stage_fd, &root->meta_fd,
		&root->lock_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

void dir_root_free(struct dir_root *root)
{
	close_own(root);
	base_mutex_fini(&root->sys_lock);
	close(root->fd);
	free(root);
}

static int make_dir(int at, const char *name, mode_t mode, int *ret_fd)
{
	int fd;

	if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = dir_open_beneath(at, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* Staged blocks are as old as the last of them; what is in tmp/ as its last
 * change, for its mtime may be a blob's. */
static bool is_stale(int at, const char *name, bool by_mtime)
{
	struct stat st;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return (by_mtime ? st.st_mtime : st.st_ctime) + DIR_STALE_S <
		now.tv_sec;
}

void dir_remove_shallow(int at, const char *name)
{
	struct dirent *de;
	DIR *dir;
	int fd;

	if (unlinkat(at, name, 0) == 0 || (errno != EISDIR && errno != EPERM))
		return;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((de = readdir(dir)) != NULL)
		unlinkat(dirfd(dir), de->d_name, 0);
	closedir(dir);
	unlinkat(at, name, AT_REMOVEDIR);
}

static void drop_stale(int at, bool by_mtime)
{
	struct dirent *de;
	DIR *dir;
	int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] != '.' && is_stale(at, de->d_name, by_mtime))
			dir_remove_shallow(at, de->d_name);
	}
	closedir(dir);
}

/* Not open for writing, which would keep the reservoir from being remounted
 * read-only; NFS however takes an exclusive lock only so. */
static int open_lock(int own, int *ret_fd)
{
	struct statfs fs;
	int fd, flags = O_RDONLY;

	if (fstatfs(own, &fs) == 0 && fs.f_type == NFS_SUPER_MAGIC)
		flags = O_RDWR;
	fd = openat(
		own, "lock", flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int prepare_locked(struct dir_root *root, int *ret_own)
{
	int own, err;

	err = make_dir(root->fd, ".forebay", 0755, &own);
	if (err)
		return err;
	/* What an earlier, failed attempt opened stays. */
	if (root->tmp_fd < 0)
		err = make_dir(own, "tmp", 0700, &root->tmp_fd);
	if (!err && root->stage_fd < 0)
		err = make_dir(own, "stage", 0700, &root->stage_fd);
	if (!err && root->meta_fd < 0)
		err = make_dir(own, "meta", 0700, &root->meta_fd);
	/* Last: it says that the rest is there. */
	if (!err)
		err = open_lock(own, &root->lock_fd);
	if (err)
		close(own);
	else
		*ret_own = own;
	return err;
}

/* Did somebody remove .forebay under us?  Others may be using its descriptors,
 * so they stay: the next request opens a fresh root. */
static bool is_gone(struct dir_root *root)
{
	struct stat st;
	bool gone = fstat(root->tmp_fd, &st) < 0 || st.st_nlink == 0;

	if (gone)
		atomic_store(&root->stale, true);
	return gone;
}

int dir_root_prepare(struct dir_root *root)
{
	int own = -1, err = 0;

	base_lock(&root->sys_lock);
	if (root->lock_fd < 0)
		err = prepare_locked(root, &own);
	else if (is_gone(root))
		err = -EAGAIN;
	base_unlock(&root->sys_lock);
	if (own < 0)
		return err;
	if (fsync(own) < 0 || fsync(root->fd) < 0)
		err = -errno;
	close(own);
	drop_stale(root->tmp_fd, false);
	drop_stale(root->stage_fd, true);
	return err;
}

int dir_root_meta_fd(struct dir_root *root)
{
	int fd;

	base_lock(&root->sys_lock);
	if (root->meta_fd < 0) {
		fd = dir_open_beneath(
			root->fd, ".forebay/meta", O_RDONLY | O_DIRECTORY);
		root->meta_fd = fd < 0 ? -1 : fd;
	}
	fd = root->meta_fd;
	base_unlock(&root->sys_lock);
	return fd;
}
