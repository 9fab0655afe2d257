/*
 * Cache directories: made, locked, recognised, and unmade after a failure.
 *
 * A cache directory is one of an ordered set, since data files are spread by
 * it: DIR/set says of which set and which place.  DIR/lock is held by flock
 * for the life of the mount and names its process.
 */
#include "cache/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define SET_FILE "set"

static int say(char *why, size_t why_bytes, int err, const char *dir,
	const char *what, const char *todo)
{
	snprintf(why, why_bytes, "cache directory %s: %s: %s: %s", dir, what,
		strerrordesc_np(-err), todo);
	return err;
}

static const char *todo_of(int err)
{
	switch (err) {
	case -EROFS:
		return "choose one on a writable file system";
	case -ENOSPC:
	case -EDQUOT:
		return "free some space there, or choose another";
	case -ENOTDIR:
		return "choose a directory";
	case -EACCES:
	case -EPERM:
		return "run as its owner, or choose another";
	default:
		return "choose another";
	}
}

/* ---- making ---- */

static void remember(struct cache *cache, const char *path)
{
	cache->made_dirs = base_realloc(cache->made_dirs,
		(cache->made_dirs_nr + 1) * sizeof(*cache->made_dirs));
	cache->made_dirs[cache->made_dirs_nr++] = base_strdup(path);
}

/* mkdir -p; only what we make gets our mode. */
static int make_path(struct cache *cache, const char *dir)
{
	char *path = base_strdup(dir);
	int err = 0;

	for (char *p = path + 1; err == 0; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) == 0)
			remember(cache, path);
		else if (errno != EEXIST)
			err = -errno;
		*p = c;
		if (c == '\0')
			break;
	}
	free(path);
	return err;
}

static int check_owner(int fd, const char *dir, char *why, size_t why_bytes)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return say(why, why_bytes, -errno, dir, "cannot look at it",
			"choose another");
	if (st.st_uid != geteuid() || (st.st_mode & S_IWOTH) != 0) {
		snprintf(why, why_bytes,
			"cache directory %s: others may write to it (owner "
			"%u, mode %03o): chown it to %u and chmod it 0700",
			dir, (unsigned)st.st_uid, (unsigned)st.st_mode & 0777,
			(unsigned)geteuid());
		return -EACCES;
	}
	return 0;
}

static int open_dir(
	struct cache *cache, const char *dir, char *why, size_t why_bytes)
{
	size_t i = cache->dirs_nr;
	char *real;
	int fd, err;

	if (*dir == '\0') {
		snprintf(why, why_bytes,
			"the name of a cache directory is empty: name one");
		return -EINVAL;
	}
	err = make_path(cache, dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		err = err != 0 ? err : -errno;
		return say(why, why_bytes, err, dir, "cannot use it",
			todo_of(err));
	}
	real = realpath(dir, NULL);
	if (real == NULL) {
		err = -errno;
		close(fd);
		return say(why, why_bytes, err, dir, "cannot use it",
			todo_of(err));
	}
	cache->dir_fds[i] = fd;
	cache->dirs[i] = real;
	cache->dirs_nr++;
	return check_owner(fd, dir, why, why_bytes);
}

/* ---- locks ---- */

static void read_pid(int fd, char *buf, size_t bytes)
{
	ssize_t n = pread(fd, buf, bytes - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	if (buf[0] == '\0' || strspn(buf, "0123456789") != strlen(buf))
		snprintf(buf, bytes, "unknown");
}

static int lock_dir(struct cache *cache, size_t i, struct cache_dirs_undo *undo,
	char *why, size_t why_bytes)
{
	const char *dir = cache->dirs[i];
	char pid[32];
	int n, err = 0;
	int fd = openat(cache->dir_fds[i], CACHE_LOCK_FILE,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0)
		undo->made_lock[i] = true;
	else if (errno == EEXIST)
		fd = openat(cache->dir_fds[i], CACHE_LOCK_FILE,
			O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		err = -errno;
		return say(why, why_bytes, err, dir, "cannot lock it",
			todo_of(err));
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (err == -EBUSY) {
			read_pid(fd, pid, sizeof(pid));
			snprintf(why, why_bytes,
				"cache directory %s is used by another mount "
				"(process %s): unmount that one, or choose "
				"another directory with -o cache=",
				dir, pid);
		} else {
			say(why, why_bytes, err, dir, "cannot lock it",
				todo_of(err));
		}
		close(fd);
		return err;
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
		err = errno != 0 ? -errno : -EIO;
		say(why, why_bytes, err, dir, "cannot write its lock",
			todo_of(err));
	}
	cache->lock_fds[i] = fd;
	return err;
}

int cache_dirs_open(struct cache *cache, struct cache_dirs_undo *undo,
	char *why, size_t why_bytes)
{
	size_t nr = cache->config.dirs_nr;
	int err = 0;

	if (nr == 0 || nr > CACHE_DIRS_MAX) {
		snprintf(why, why_bytes,
			"%zu cache directories: name between 1 and %d", nr,
			CACHE_DIRS_MAX);
		return -EINVAL;
	}
	cache->dirs = base_calloc(nr, sizeof(*cache->dirs));
	for (size_t i = 0; i < nr; i++)
		cache->dir_fds[i] = cache->lock_fds[i] = -1;
	for (size_t i = 0; i < nr && err == 0; i++)
		err = open_dir(cache, cache->config.dirs[i], why, why_bytes);
	for (size_t i = 0; i < nr && err == 0; i++)
		err = lock_dir(cache, i, undo, why, why_bytes);
	return err;
}

/* ---- sets ---- */

static void print_set(
	const struct cache_id *set, size_t place, char *buf, size_t bytes)
{
	char hex[2 * CACHE_ID_BYTES + 1];

	for (size_t i = 0; i < CACHE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", set->bytes[i]);
	snprintf(buf, bytes, "forebay cache %s %zu\n", hex, place);
}

static int write_set(int dir_fd, const char *text)
{
	size_t len = strlen(text);
	int err = 0,
	    fd = openat(dir_fd, SET_FILE ".new",
		    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
		err = errno != 0 ? -errno : -EIO;
	close(fd);
	if (err == 0 &&
		renameat(dir_fd, SET_FILE ".new", dir_fd, SET_FILE) != 0)
		err = -errno;
	if (err == 0 && fsync(dir_fd) != 0)
		err = -errno;
	if (err != 0)
		unlinkat(dir_fd, SET_FILE ".new", 0);
	return err;
}

int cache_dirs_check_set(struct cache *cache, const struct cache_id *set,
	char *why, size_t why_bytes)
{
	for (size_t i = 0; i < cache->dirs_nr; i++) {
		char want[96], have[96] = "";
		int err = 0,
		    fd = openat(cache->dir_fds[i], SET_FILE,
			    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		ssize_t n;

		print_set(set, i, want, sizeof(want));
		if (fd < 0) {
			err = errno == ENOENT
				? write_set(cache->dir_fds[i], want)
				: -errno;
			if (err != 0)
				return say(why, why_bytes, err, cache->dirs[i],
					"cannot mark it as ours", todo_of(err));
			continue;
		}
		n = read(fd, have, sizeof(have) - 1);
		close(fd);
		if (n < 0 || strcmp(have, want) != 0) {
			snprintf(why, why_bytes,
				"cache directory %s belongs to another cache, "
				"or to another place in this one: name the "
				"directories in their old order, or empty it",
				cache->dirs[i]);
			return -EEXIST;
		}
	}
	return 0;
}

/* ---- unmaking ---- */

void cache_dirs_close(struct cache *cache)
{
	for (size_t i = 0; i < cache->dirs_nr; i++) {
		if (cache->lock_fds[i] >= 0)
			close(cache->lock_fds[i]);
		close(cache->dir_fds[i]);
		free(cache->dirs[i]);
	}
	free(cache->dirs);
	for (size_t i = 0; i < cache->made_dirs_nr; i++)
		free(cache->made_dirs[i]);
	free(cache->made_dirs);
}

void cache_dirs_remove(char **made, size_t nr)
{
	while (nr > 0)
		rmdir(made[--nr]);
}

void cache_dirs_undo(struct cache *cache, const struct cache_dirs_undo *undo)
{
	static const char *const files[] = { CACHE_INDEX_FILE, CACHE_WAL_FILE,
		CACHE_SHM_FILE, CACHE_JOURNAL_FILE };

	for (size_t i = 0; undo->made_index && i < 4; i++)
		unlinkat(cache->dir_fds[0], files[i], 0);
	for (size_t i = 0; i < cache->dirs_nr; i++) {
		if (!undo->made_lock[i])
			continue;
		if (undo->made_index)
			unlinkat(cache->dir_fds[i], SET_FILE, 0);
		unlinkat(cache->dir_fds[i], CACHE_LOCK_FILE, 0);
	}
	cache_dirs_remove(cache->made_dirs, cache->made_dirs_nr);
}
