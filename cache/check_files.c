/*
 * Data files against rows (see check.h).
 *
 * All files are read into a temporary table, which the checks join with the
 * rows.  Files that go aside are noted in another, and moved when the rows are
 * committed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/check.h"
#include "cache/disk.h"

#define LOST_DIR "lost"
#define NAMES_FILE "NAMES"

static const char make_tables[] =
	"CREATE TEMP TABLE file(dir, hh, name, ino, serial, size, bytes, good,"
	"	PRIMARY KEY(ino, serial, dir, hh, name));"
	"CREATE TEMP TABLE aside(dir, hh, name, ino, path);";

/* ---- what is there ---- */

/* "INO.SERIAL", as written by data.c. */
static bool parse_name(
	const char *name, uint64_t *ret_ino, uint64_t *ret_serial)
{
	char again[64];

	if (sscanf(name, "%" SCNu64 ".%" SCNu64, ret_ino, ret_serial) != 2)
		return false;
	snprintf(again, sizeof(again), "%" PRIu64 ".%" PRIu64, *ret_ino,
		*ret_serial);
	return strcmp(name, again) == 0;
}

static int add_file(struct cache_check *c, sqlite3_stmt *insert, size_t dir,
	unsigned hh, const char *name, const struct stat *st)
{
	uint64_t ino = 0, serial = 0;
	unsigned want_hh;
	size_t want_dir;
	bool good = parse_name(name, &ino, &serial) && S_ISREG(st->st_mode);
	int code;

	cache_data_place(ino, c->config->dirs_nr, &want_dir, &want_hh);
	good = good && want_dir == dir && want_hh == hh;
	sqlite3_reset(insert);
	sqlite3_bind_int64(insert, 1, (int64_t)dir);
	sqlite3_bind_int64(insert, 2, hh);
	sqlite3_bind_text(insert, 3, name, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(insert, 4, good ? (int64_t)ino : -1);
	sqlite3_bind_int64(insert, 5, good ? (int64_t)serial : -1);
	sqlite3_bind_int64(insert, 6, st->st_size);
	sqlite3_bind_int64(insert, 7, (int64_t)st->st_blocks * 512);
	sqlite3_bind_int64(insert, 8, good);
	code = sqlite3_step(insert);
	c->ret->files++;
	c->ret->bytes += (uint64_t)st->st_blocks * 512;
	return code == SQLITE_DONE
		? 0
		: cache_db_errno(c->db, code, "the table of files");
}

static int scan_hh(struct cache_check *c, sqlite3_stmt *insert, size_t dir,
	int data_fd, unsigned hh)
{
	struct dirent *entry;
	char name[8];
	DIR *stream;
	int err = 0, fd;

	snprintf(name, sizeof(name), "%02x", hh);
	fd = openat(
		data_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	stream = fdopendir(fd);
	if (stream == NULL) {
		err = -errno;
		close(fd);
		return err;
	}
	while (err == 0 && (entry = readdir(stream)) != NULL) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 ||
			strcmp(entry->d_name, "..") == 0 ||
			fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) !=
				0)
			continue;
		err = add_file(c, insert, dir, hh, entry->d_name, &st);
	}
	closedir(stream);
	return err;
}

static int scan(struct cache_check *c)
{
	sqlite3_stmt *insert = NULL;
	int err = 0, code = sqlite3_exec(c->db, make_tables, NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_prepare_v2(c->db,
			"INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)", -1,
			&insert, NULL);
	if (code != SQLITE_OK)
		return cache_db_errno(c->db, code, "the table of files");
	for (size_t i = 0; i < c->config->dirs_nr && err == 0; i++) {
		int fd = openat(c->dir_fds[i], CACHE_DATA_DIR,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0) {
			err = errno == ENOENT ? 0 : -errno;
			continue;
		}
		for (unsigned hh = 0; hh < CACHE_HH_NR && err == 0; hh++)
			err = scan_hh(c, insert, i, fd, hh);
		close(fd);
	}
	sqlite3_finalize(insert);
	return err;
}

/* ---- going aside ---- */

static int note_aside(
	struct cache_check *c, uint64_t ino, uint64_t rowid, const char *path)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(c->db,
		"INSERT INTO aside SELECT dir, hh, name, ?1, ?3 FROM file "
		"WHERE rowid = ?2",
		-1, &stmt, NULL);

	sqlite3_bind_int64(stmt, 1, (int64_t)ino);
	sqlite3_bind_int64(stmt, 2, (int64_t)rowid);
	sqlite3_bind_text(stmt, 3, path, -1, SQLITE_TRANSIENT);
	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	sqlite3_finalize(stmt);
	return code == SQLITE_DONE
		? 0
		: cache_db_errno(c->db, code, "the table of what goes aside");
}

static int open_lost(struct cache_check *c, size_t dir)
{
	int fd;

	if (mkdirat(c->dir_fds[dir], LOST_DIR, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = openat(c->dir_fds[dir], LOST_DIR,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int write_name(int lost, const char *file, const char *path)
{
	int err = 0,
	    fd = openat(lost, NAMES_FILE,
		    O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
		    0600);

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%s\t%s\n", file, path) < 0 || fsync(fd) != 0)
		err = -errno;
	close(fd);
	return err;
}

/* Never over what an earlier run has put there. */
static int move_one(struct cache_check *c, size_t dir, unsigned hh,
	const char *name, const char *path)
{
	char from[320], to[300];
	int err = -EEXIST, lost = open_lost(c, dir);

	if (lost < 0)
		return lost;
	snprintf(from, sizeof(from), CACHE_DATA_DIR "/%02x/%s", hh, name);
	for (unsigned i = 0; err == -EEXIST && i < 1000; i++) {
		snprintf(to, sizeof(to), i == 0 ? "%s" : "%s-%u", name, i);
		err = renameat2(c->dir_fds[dir], from, lost, to,
			      RENAME_NOREPLACE) == 0
			? 0
			: -errno;
	}
	if (err == 0)
		err = write_name(lost, to, path);
	if (err == 0 && fsync(lost) != 0)
		err = -errno;
	close(lost);
	return err;
}

int cache_check_move(struct cache_check *c)
{
	sqlite3_stmt *stmt = NULL;
	int err = 0,
	    code = sqlite3_prepare_v2(c->db,
		    "SELECT dir, hh, name, path FROM aside", -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	while (code == SQLITE_ROW && err == 0) {
		err = move_one(c, (size_t)sqlite3_column_int64(stmt, 0),
			(unsigned)sqlite3_column_int(stmt, 1),
			(const char *)sqlite3_column_text(stmt, 2),
			(const char *)sqlite3_column_text(stmt, 3));
		c->ret->moved += err == 0;
		if (err == 0)
			code = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	if (err == 0 && code != SQLITE_DONE)
		err = cache_db_errno(c->db, code, "what goes aside");
	return err;
}

/* ---- the checks ---- */

#define HAS_FILE(ino, serial)                                    \
	"EXISTS(SELECT 1 FROM file f WHERE f.ino = " ino " AND " \
	"f.serial = " serial " AND f.good)"
/* Of inode i: its bytes are nowhere but here. */
#define ONLY_HERE                                                   \
	"(stored = 0 OR EXISTS(SELECT 1 FROM owed o WHERE o.ino = " \
	"i.ino AND o.serial = i.serial AND o.attrs_only = 0))"

static int forget_local(struct cache_check *c, uint64_t ino)
{
	int err = cache_check_exec(c,
		"UPDATE inode SET data = 0, flush_nr = 0, local_bytes = 0 "
		"WHERE ino = ?",
		ino, 0);

	return err < 0 ? err
		       : cache_check_exec(
				 c, "DELETE FROM extent WHERE ino = ?", ino, 0);
}

static int found(
	struct cache_check *c, const char *what, uint64_t ino, const char *text)
{
	char *path = cache_check_path(c, ino);

	cache_check_found(c, what, path, ino, text);
	free(path);
	return 0;
}

static int clean_missing(
	struct cache_check *c, uint64_t ino, uint64_t b, const char *name)
{
	(void)b;
	(void)name;
	found(c, "file-missing", ino, "its bytes are fetched again");
	return c->config->repair ? forget_local(c, ino) : 0;
}

/* The name shows what the store has; without that it goes. */
static int drop_lost(struct cache_check *c, uint64_t ino, const char *path)
{
	static const char *const sql[] = {
		"DELETE FROM owed WHERE ino = ? AND serial = ? AND attrs_only "
		"= 0",
		"DELETE FROM extent WHERE ino = ?",
		"DELETE FROM listing WHERE ino IN (SELECT parent FROM dentry "
		"WHERE ino = ?)",
		"DELETE FROM dentry WHERE ino = ?",
		"DELETE FROM held WHERE ino = ?",
		"DELETE FROM inode WHERE ino = ?",
	};
	uint64_t serial = 0;
	char get[96];
	int err;

	(void)path;
	snprintf(get, sizeof(get),
		"SELECT serial FROM inode WHERE ino = %" PRIu64, ino);
	err = cache_check_number(c, get, (int64_t *)&serial);
	for (size_t i = 0; i < sizeof(sql) / sizeof(*sql) && err == 0; i++)
		err = cache_check_exec(c, sql[i], ino, serial);
	return err;
}

static int dirty_missing(
	struct cache_check *c, uint64_t ino, uint64_t b, const char *name)
{
	char *path = cache_check_path(c, ino);
	int err = 0;

	(void)b;
	(void)name;
	cache_check_found(c, "file-lost", path, ino,
		"it was not in the store yet, and is gone: the name shows what "
		"the store has, if anything");
	c->ret->lost++;
	if (c->config->repair)
		err = drop_lost(c, ino, path);
	free(path);
	return err;
}

static int kept_missing(
	struct cache_check *c, uint64_t seq, uint64_t ino, const char *name)
{
	cache_check_found(c, "older-state-lost", name, ino,
		"an older state that the store was still to see is gone: it is "
		"not sent");
	if (!c->config->repair)
		return 0;
	return cache_check_exec(c, "DELETE FROM owed WHERE seq = ?", seq, 0);
}

static int wrong_size_clean(
	struct cache_check *c, uint64_t ino, uint64_t rowid, const char *name)
{
	char *path = cache_check_path(c, ino);
	int err = 0;

	(void)name;
	cache_check_found(c, "file-wrong-size", path, ino,
		"it goes to lost/, and its bytes are fetched again");
	if (c->config->repair) {
		err = note_aside(c, ino, rowid, path ? path : "?");
		if (err == 0)
			err = forget_local(c, ino);
	}
	free(path);
	return err;
}

static int wrong_size_dirty(
	struct cache_check *c, uint64_t ino, uint64_t size, const char *name)
{
	int err;

	(void)name;
	found(c, "file-wrong-size", ino,
		"it is not in the store yet: its size is now the file's");
	if (!c->config->repair)
		return 0;
	err = cache_check_exec(c,
		"UPDATE owed SET size = ?2 WHERE ino = ?1 AND serial = (SELECT "
		"serial FROM inode WHERE ino = ?1)",
		ino, size);
	return err < 0 ? err
		       : cache_check_exec(c,
				 "UPDATE inode SET size = ?2 WHERE ino = ?1",
				 ino, size);
}

static int orphan(
	struct cache_check *c, uint64_t ino, uint64_t rowid, const char *name)
{
	char *path = ino != UINT64_MAX ? cache_check_path(c, ino) : NULL;
	int err = 0;

	cache_check_found(c, "file-of-nothing", name, ino,
		"no row explains it: it goes to lost/");
	if (c->config->repair)
		err = note_aside(c, ino, rowid, path ? path : "?");
	free(path);
	return err;
}

static const struct {
	const char *sql;
	cache_check_fn each;
	bool settled;
} checks[] = {
	{ "SELECT ino, 0, '' FROM inode i WHERE kind = 1 AND data <> 0 AND "
	  "NOT " ONLY_HERE " AND NOT " HAS_FILE("i.ino", "i.serial"),
		clean_missing, false },
	{ "SELECT ino, 0, '' FROM inode i WHERE kind = 1 AND data <> 0 AND " ONLY_HERE
	  " AND NOT " HAS_FILE("i.ino", "i.serial"),
		dirty_missing, true },
	{ "SELECT seq, ino, name FROM owed o WHERE kind = 1 AND serial <> 0 "
	  "AND attrs_only = 0 AND NOT EXISTS(SELECT 1 FROM inode i WHERE "
	  "i.ino = o.ino AND i.serial = o.serial AND i.data <> 0) AND "
	  "NOT " HAS_FILE("o.ino", "o.serial"),
		kept_missing, true },
	{ "SELECT i.ino, f.rowid, '' FROM inode i JOIN file f ON f.ino = i.ino "
	  "AND f.serial = i.serial WHERE kind = 1 AND data <> 0 AND written = "
	  "0 AND f.size <> i.size AND NOT " ONLY_HERE,
		wrong_size_clean, true },
	{ "SELECT i.ino, f.size, '' FROM inode i JOIN file f ON f.ino = i.ino "
	  "AND f.serial = i.serial WHERE kind = 1 AND data <> 0 AND written = "
	  "0 AND f.size <> i.size AND " ONLY_HERE,
		wrong_size_dirty, true },
	{ "SELECT f.ino, f.rowid, f.name FROM file f WHERE NOT EXISTS(SELECT 1 "
	  "FROM inode i WHERE i.ino = f.ino AND i.serial = f.serial) AND NOT "
	  "EXISTS(SELECT 1 FROM owed o WHERE o.ino = f.ino AND o.serial = "
	  "f.serial) AND f.rowid NOT IN (SELECT g.rowid FROM file g JOIN aside "
	  "a ON a.dir = g.dir AND a.hh = g.hh AND a.name = g.name)",
		orphan, true },
};

int cache_check_files(struct cache_check *c)
{
	int err = scan(c);

	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks) && err == 0;
		i++)
		if (!checks[i].settled || c->settled)
			err = cache_check_each(
				c, checks[i].sql, checks[i].each);
	return err;
}
