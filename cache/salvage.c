/*
 * An index that is gone or damaged: what it cannot say any more, the data files
 * say themselves.
 *
 * Everything that the old index spoke of goes to DIR/lost+found/TIME, by
 * renames; then a new index begins.  Of the data files there, those that were
 * fetched and never written to are read-only (data.c) and can be fetched again:
 * they go; so do those that the old index, where it can still be read, knows to
 * be in the store.  The rest stay, as data/HH/INO.SERIAL; the file `names` says
 * which paths they had, as far as that is known.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/disk.h"

#define ASIDE_DIR "lost+found"
/* Directories above one another in a path that is looked up. */
#define DEPTH_MAX 4096

struct salvage {
	struct cache *cache;
	char stamp[32];
	sqlite3 *db; /* the old index, or NULL */
	FILE *names;
	uint64_t kept, dropped;
};

/* ---- is it needed? ---- */

static bool exists(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Did the first directory of a set have an index?  Another one of it never had,
 * and has only come to the wrong place. */
static bool had_index(int dir)
{
	char text[96] = "";
	const char *place;
	int fd = openat(dir, "set", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	place = n > 0 ? strrchr(text, ' ') : NULL;
	return place != NULL && strcmp(place, " 0\n") == 0;
}

/* Can its first pages be read?  An error that is not the file's own is for the
 * opener to find.  The connection of one that is fine stays open until the
 * opener has its own: the last one to go would take with it what was learned
 * from a long WAL, and somebody may be waiting. */
static bool is_damaged(struct cache *cache)
{
	char *path = NULL;
	struct stat st;
	sqlite3 *db = NULL;
	int code;

	if (fstatat(cache->dir_fds[0], CACHE_INDEX_FILE, &st, 0) == 0 &&
		st.st_size == 0)
		return true;
	if (asprintf(&path, "%s/" CACHE_INDEX_FILE, cache->dirs[0]) < 0)
		abort();
	code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
	free(path);
	/* Its WAL is for the opener. */
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema",
			NULL, NULL, NULL);
	if (code == SQLITE_OK)
		sqlite3_exec(db, "SELECT count(*) FROM meta", NULL, NULL, NULL);
	if (code == SQLITE_OK && sqlite3_errcode(db) == SQLITE_CORRUPT)
		code = SQLITE_CORRUPT;
	if (code == SQLITE_OK)
		sqlite3_exec(db, "SELECT ino FROM inode WHERE ino = 1", NULL,
			NULL, NULL);
	if (code == SQLITE_OK && sqlite3_errcode(db) == SQLITE_CORRUPT)
		code = SQLITE_CORRUPT;
	code &= 0xff;
	if (code == SQLITE_OK)
		cache->look_db = db;
	else
		sqlite3_close(db);
	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

void cache_salvage_end(struct cache *cache)
{
	sqlite3_close(cache->look_db);
	cache->look_db = NULL;
}

/* ---- the old index ---- */

static bool ask(struct salvage *s, const char *sql, uint64_t ino,
	int64_t *ret_number, char *ret_name, size_t name_bytes)
{
	sqlite3_stmt *stmt = NULL;
	bool found;

	if (s->db == NULL)
		return false;
	if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return false;
	sqlite3_bind_int64(stmt, 1, (int64_t)ino);
	found = sqlite3_step(stmt) == SQLITE_ROW;
	if (found)
		*ret_number = sqlite3_column_int64(stmt, 0);
	if (found && ret_name != NULL) {
		const void *name = sqlite3_column_blob(stmt, 1);
		size_t len = (size_t)sqlite3_column_bytes(stmt, 1);

		if (len >= name_bytes)
			len = name_bytes - 1;
		if (len > 0)
			memcpy(ret_name, name, len);
		ret_name[len] = '\0';
	}
	sqlite3_finalize(stmt);
	return found;
}

static bool is_in_store(struct salvage *s, uint64_t ino)
{
	int64_t clean = 0;

	return ask(s,
		       "SELECT stored = 1 AND written = 0 FROM inode WHERE "
		       "ino = ?",
		       ino, &clean, NULL, 0) &&
		clean != 0;
}

/* Whole paths only. */
static void path_of(struct salvage *s, uint64_t ino, char *ret, size_t bytes)
{
	char path[CACHE_PATH_MAX], name[CACHE_NAME_MAX + 1];
	size_t at = sizeof(path) - 1, len;
	int64_t parent;

	path[at] = '\0';
	ret[0] = '\0';
	for (int i = 0; i < DEPTH_MAX && ino != CACHE_ROOT_INO; i++) {
		if (!ask(s,
			    "SELECT parent, name FROM dentry WHERE ino = ? "
			    "LIMIT 1",
			    ino, &parent, name, sizeof(name)))
			return;
		len = strlen(name);
		if (len + 1 > at)
			return;
		at -= len;
		memcpy(path + at, name, len);
		path[--at] = '/';
		ino = (uint64_t)parent;
	}
	snprintf(ret, bytes, "%s", path + at);
}

static void open_old(struct salvage *s)
{
	char *path = NULL;

	if (asprintf(&path, "%s/" ASIDE_DIR "/%s/" CACHE_INDEX_FILE,
		    s->cache->dirs[0], s->stamp) < 0)
		abort();
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE, NULL) !=
		SQLITE_OK) {
		sqlite3_close(s->db);
		s->db = NULL;
	}
	free(path);
}

/* ---- moving aside ---- */

/* DIR/lost+found/TIME; a descriptor. */
static int make_aside(struct salvage *s, int dir)
{
	int top, fd;

	if (mkdirat(dir, ASIDE_DIR, 0700) != 0 && errno != EEXIST)
		return -errno;
	top = openat(dir, ASIDE_DIR,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0)
		return -errno;
	if (mkdirat(top, s->stamp, 0700) != 0 && errno != EEXIST) {
		fd = -errno;
	} else {
		fd = openat(top, s->stamp,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
	}
	fsync(top);
	close(top);
	return fd;
}

static int move(int dir, int aside, const char *name)
{
	if (renameat(dir, name, aside, name) != 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int move_dir(struct salvage *s, size_t i)
{
	static const char *const files[] = { CACHE_DATA_DIR, CACHE_INDEX_FILE,
		CACHE_WAL_FILE, CACHE_SHM_FILE, "set" };
	int dir = s->cache->dir_fds[i];
	int aside = make_aside(s, dir), err = aside < 0 ? aside : 0;

	for (size_t f = 0; f < sizeof(files) / sizeof(*files) && err == 0; f++)
		err = move(dir, aside, files[f]);
	if (err == 0 && (fsync(aside) != 0 || fsync(dir) != 0))
		err = -errno;
	if (aside >= 0)
		close(aside);
	return err;
}

/* ---- sorting ---- */

static void sort_file(struct salvage *s, size_t i, int hh_fd, const char *hh,
	const char *name)
{
	char path[CACHE_PATH_MAX];
	struct stat st;
	uint64_t ino;

	if (fstatat(hh_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		!S_ISREG(st.st_mode))
		return;
	ino = strtoull(name, NULL, 10);
	if (st.st_size == 0 || (st.st_mode & S_IWUSR) == 0 ||
		is_in_store(s, ino)) {
		unlinkat(hh_fd, name, 0);
		s->dropped++;
		return;
	}
	s->kept++;
	path_of(s, ino, path, sizeof(path));
	if (s->names != NULL)
		fprintf(s->names, "%s/" ASIDE_DIR "/%s/data/%s/%s\t%s\n",
			s->cache->dirs[i], s->stamp, hh, name,
			path[0] != '\0' ? path : "?");
}

static DIR *open_sub(int at, const char *name)
{
	int fd = openat(
		at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL && fd >= 0)
		close(fd);
	return dir;
}

static void sort_dir(struct salvage *s, size_t i)
{
	int aside = make_aside(s, s->cache->dir_fds[i]);
	DIR *data = aside < 0 ? NULL : open_sub(aside, CACHE_DATA_DIR);
	struct dirent *hh, *file;

	while (data != NULL && (hh = readdir(data)) != NULL) {
		DIR *sub = hh->d_name[0] == '.'
			? NULL
			: open_sub(dirfd(data), hh->d_name);

		while (sub != NULL && (file = readdir(sub)) != NULL)
			if (file->d_name[0] != '.')
				sort_file(s, i, dirfd(sub), hh->d_name,
					file->d_name);
		if (sub != NULL)
			closedir(sub);
	}
	if (data != NULL)
		closedir(data);
	if (aside >= 0)
		close(aside);
}

static void open_names(struct salvage *s)
{
	int aside = make_aside(s, s->cache->dir_fds[0]);
	int fd = aside < 0
		? -1
		: openat(aside, "names",
			  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	s->names = fd < 0 ? NULL : fdopen(fd, "w");
	if (s->names == NULL && fd >= 0)
		close(fd);
	if (aside >= 0)
		close(aside);
}

int cache_salvage(struct cache *cache, char *ret_what, size_t what_bytes)
{
	struct salvage s = { .cache = cache };
	time_t now = (time_t)(base_wall_ns(cache->env) / 1000000000);
	bool gone = !exists(cache->dir_fds[0], CACHE_INDEX_FILE);
	struct tm tm;
	int err = 0;

	ret_what[0] = '\0';
	if (gone ? !had_index(cache->dir_fds[0]) : !is_damaged(cache))
		return 0;
	gmtime_r(&now, &tm);
	strftime(s.stamp, sizeof(s.stamp), "%Y%m%dT%H%M%SZ", &tm);
	for (size_t i = 0; i < cache->dirs_nr && err == 0; i++)
		err = move_dir(&s, i);
	if (err != 0)
		return err;
	open_names(&s);
	if (!gone)
		open_old(&s);
	for (size_t i = 0; i < cache->dirs_nr; i++)
		sort_dir(&s, i);
	sqlite3_close(s.db);
	if (s.names != NULL)
		fclose(s.names);
	snprintf(ret_what, what_bytes,
		"the index in %s was %s: a new one begins; %" PRIu64
		" data files that the store may not have are in its " ASIDE_DIR
		"/%s, which has a list of their names; %" PRIu64
		" others are fetched again",
		cache->dirs[0], gone ? "gone" : "damaged", s.kept, s.stamp,
		s.dropped);
	log_warn("cache: %s", ret_what);
	return 0;
}
