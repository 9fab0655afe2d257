/*
 * Takes a cache away again that was made just now and is not wanted: its store
 * turned out not to be there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/dirs.h"
#include "cache/disk.h"

/* Empties DIR/data/HH, two levels; what is a directory deeper down is not
 * ours. */
static void remove_below(int at, const char *name, int levels)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 ||
			strcmp(entry->d_name, "..") == 0)
			continue;
		if (levels > 0)
			remove_below(fd, entry->d_name, levels - 1);
		else
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(dir);
	unlinkat(at, name, AT_REMOVEDIR);
}

static void remove_from(int fd)
{
	static const char *const files[] = { CACHE_INDEX_FILE, CACHE_WAL_FILE,
		CACHE_SHM_FILE, CACHE_JOURNAL_FILE, "set", "ballast" };
	int lock = openat(fd, CACHE_LOCK_FILE, O_RDWR | O_CLOEXEC);

	/* Somebody else was quick to take it. */
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) != 0) {
		if (lock >= 0)
			close(lock);
		return;
	}
	remove_below(fd, CACHE_DATA_DIR, 1);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlinkat(fd, files[i], 0);
	unlinkat(fd, CACHE_LOCK_FILE, 0);
	close(lock);
}

void cache_discard(struct cache *cache)
{
	size_t nr = cache->dirs_nr, made_nr = cache->made_dirs_nr;
	char **made = cache->made_dirs;
	int fds[CACHE_DIRS_MAX];

	for (size_t i = 0; i < nr; i++)
		fds[i] = dup(cache->dir_fds[i]);
	cache->made_dirs_nr = 0;
	cache->made_dirs = NULL;
	cache_close(cache);
	for (size_t i = 0; i < nr; i++) {
		if (fds[i] < 0)
			continue;
		remove_from(fds[i]);
		close(fds[i]);
	}
	cache_dirs_remove(made, made_nr);
	for (size_t i = 0; i < made_nr; i++)
		free(made[i]);
	free(made);
}
