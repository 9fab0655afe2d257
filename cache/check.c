/*
 * Is the cache what its index says?  See check.h, and cache_check() in cache.h.
 *
 * Rules of the repair.
 *	C1 Nothing is deleted that may be the only copy of something: data files
 *	   that no row explains go to DIR/lost, with a line in DIR/lost/NAMES.
 *	C2 What is done is said, and what is said is done or is an error.
 *	C3 It is one transaction; files are moved after its commit, so that a
 *	   crash leaves work for another run and no lie.
 *	C4 A second run finds nothing.
 */
#include "cache/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* No tree is deeper: a longer way up is a circle. */
#define DEPTH_MAX 4096
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

void cache_check_found(struct cache_check *c, const char *what,
	const char *name, uint64_t ino, const char *text)
{
	struct cache_finding finding = {
		.what = what, .name = name, .ino = ino, .text = text
	};

	c->ret->found++;
	c->config->found(c->config->arg, &finding);
}

/* ---- the database ---- */

static int fail(struct cache_check *c, int code, const char *what)
{
	return cache_db_errno(c->db, code, what);
}

int cache_check_number(struct cache_check *c, const char *sql, int64_t *ret)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	*ret = code == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	sqlite3_finalize(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0
							 : fail(c, code, sql);
}

int cache_check_exec(
	struct cache_check *c, const char *sql, uint64_t a, uint64_t b)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK && sqlite3_bind_parameter_count(stmt) > 0)
		code = sqlite3_bind_int64(stmt, 1, (int64_t)a);
	if (code == SQLITE_OK && sqlite3_bind_parameter_count(stmt) > 1)
		code = sqlite3_bind_int64(stmt, 2, (int64_t)b);
	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	sqlite3_finalize(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0
							 : fail(c, code, sql);
}

/* A name of the index as a string: a damaged one may hold anything. */
static char *column_name(sqlite3_stmt *stmt, int column)
{
	size_t len = (size_t)sqlite3_column_bytes(stmt, column);
	const void *blob = sqlite3_column_blob(stmt, column);
	char *text = base_malloc(len + 1);

	if (len > 0)
		memcpy(text, blob, len);
	text[len] = '\0';
	return text;
}

int cache_check_each(
	struct cache_check *c, const char *sql, cache_check_fn each)
{
	sqlite3_stmt *stmt = NULL;
	int err = 0, code = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	while (code == SQLITE_ROW && err == 0) {
		char *name = column_name(stmt, 2);

		err = each(c, (uint64_t)sqlite3_column_int64(stmt, 0),
			(uint64_t)sqlite3_column_int64(stmt, 1), name);
		free(name);
		if (err == 0)
			code = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	if (err != 0)
		return err;
	return code == SQLITE_DONE ? 0 : fail(c, code, sql);
}

/* One step up: the parent and the name of some dentry of `ino`. */
static char *step_up(struct cache_check *c, uint64_t ino, uint64_t *ret_parent)
{
	sqlite3_stmt *stmt = NULL;
	char *name = NULL;

	if (sqlite3_prepare_v2(c->db,
		    "SELECT parent, name FROM dentry WHERE ino = ? LIMIT 1", -1,
		    &stmt, NULL) == SQLITE_OK &&
		sqlite3_bind_int64(stmt, 1, (int64_t)ino) == SQLITE_OK &&
		sqlite3_step(stmt) == SQLITE_ROW) {
		*ret_parent = (uint64_t)sqlite3_column_int64(stmt, 0);
		name = column_name(stmt, 1);
	}
	sqlite3_finalize(stmt);
	return name;
}

char *cache_check_path(struct cache_check *c, uint64_t ino)
{
	struct base_str path = BASE_STR_INIT, longer = BASE_STR_INIT;

	for (unsigned i = 0; ino != CACHE_ROOT_INO; i++) {
		char *name = i < DEPTH_MAX ? step_up(c, ino, &ino) : NULL;

		if (name == NULL) {
			base_str_fini(&path);
			return NULL;
		}
		base_str_puts(&longer, name);
		free(name);
		if (path.len > 0) {
			base_str_putc(&longer, '/');
			base_str_add(&longer, path.data, path.len);
		}
		base_str_fini(&path);
		path = longer;
		longer = (struct base_str)BASE_STR_INIT;
	}
	return base_str_take(&path);
}

/* ---- open and close ---- */

static int say(char *why, size_t why_bytes, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int say(char *why, size_t why_bytes, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_bytes, fmt, ap);
	va_end(ap);
	return err;
}

static int open_dir(
	struct cache_check *c, size_t i, char *why, size_t why_bytes)
{
	const char *dir = c->config->dirs[i];
	int err;

	c->dir_fds[i] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir_fds[i] < 0) {
		err = -errno;
		return say(why, why_bytes, err,
			"cache directory %s: %s: name an existing one", dir,
			strerrordesc_np(-err));
	}
	c->lock_fds[i] = openat(c->dir_fds[i], CACHE_LOCK_FILE,
		O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (c->lock_fds[i] < 0)
		return say(why, why_bytes, -ENOENT,
			"%s is no cache directory (it has no file "
			"'" CACHE_LOCK_FILE "'): name another",
			dir);
	if (flock(c->lock_fds[i], LOCK_EX | LOCK_NB) != 0)
		return say(why, why_bytes, -EBUSY,
			"cache directory %s is in use: unmount it first", dir);
	return 0;
}

static int open_index(struct cache_check *c, char *why, size_t why_bytes)
{
	struct base_str path = BASE_STR_INIT;
	int code;

	if (faccessat(c->dir_fds[0], CACHE_INDEX_FILE, F_OK, 0) != 0)
		return say(why, why_bytes, -ENOENT,
			"%s has no " CACHE_INDEX_FILE
			": the next mount makes one, and says what data files "
			"it finds",
			c->config->dirs[0]);
	base_str_printf(&path, "%s/" CACHE_INDEX_FILE, c->config->dirs[0]);
	code = sqlite3_open_v2(path.data, &c->db, SQLITE_OPEN_READWRITE, NULL);
	base_str_fini(&path);
	return code == SQLITE_OK
		? 0
		: say(why, why_bytes, -EIO,
			  "%s/" CACHE_INDEX_FILE " cannot be opened: %s",
			  c->config->dirs[0], sqlite3_errmsg(c->db));
}

static int each_problem(
	struct cache_check *c, uint64_t a, uint64_t b, const char *name)
{
	(void)a;
	(void)b;
	if (strcmp(name, "ok") != 0) {
		cache_check_found(c, "index-damaged", NULL, 0, name);
		c->ret->damaged = true;
	}
	return 0;
}

/* SQLite's own check, then whose it is. */
static int check_index(struct cache_check *c, char *why, size_t why_bytes)
{
	int64_t version, newest = cache_schema_version();
	int err = cache_check_each(c,
		"SELECT 0, 0, integrity_check FROM pragma_integrity_check(20)",
		each_problem);

	if (err < 0) {
		cache_check_found(c, "index-damaged", NULL, 0,
			"it cannot be read from end to end");
		c->ret->damaged = true;
	}
	if (c->ret->damaged)
		return say(why, why_bytes, -EIO,
			"the index is damaged: mount the cache, which makes a "
			"new one and says what data files it finds");
	err = cache_check_number(c, "PRAGMA user_version", &version);
	if (err == 0 && version != newest)
		err = say(why, why_bytes, -EPROTO,
			"%s was made by another version of forebay (index "
			"version %d, this one has %d): mount it once, or "
			"install that version",
			c->config->dirs[0], (int)version, (int)newest);
	return err;
}

static int check_dirs_nr(struct cache_check *c, char *why, size_t why_bytes)
{
	int64_t nr;
	int err = cache_check_number(c,
		"SELECT value FROM meta WHERE key = CAST('dirs_nr' AS BLOB)",
		&nr);

	if (err == 0 && (size_t)nr != c->config->dirs_nr)
		err = say(why, why_bytes, -EINVAL,
			"%s is one of %d directories: name them all, in their "
			"old order, as DIR:DIR",
			c->config->dirs[0], (int)nr);
	return err;
}

/* Was it closed, or is at least the host still up?  Else the next mount has to
 * bring index and files together, and they may differ until then. */
static int find_settled(struct cache_check *c)
{
	char boot[64] = "";
	int64_t clean, same = 0;
	sqlite3_stmt *stmt = NULL;
	int err, fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, boot, sizeof(boot) - 1) > 0)
		boot[strcspn(boot, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
	err = cache_check_number(c,
		"SELECT value FROM meta WHERE key = CAST('clean' AS BLOB)",
		&clean);
	if (err == 0 &&
		sqlite3_prepare_v2(c->db,
			"SELECT 1 FROM meta WHERE key = CAST('boot' AS BLOB) "
			"AND CAST(value AS TEXT) = ?",
			-1, &stmt, NULL) == SQLITE_OK &&
		sqlite3_bind_text(stmt, 1, boot, -1, SQLITE_STATIC) ==
			SQLITE_OK)
		same = sqlite3_step(stmt) == SQLITE_ROW;
	sqlite3_finalize(stmt);
	c->settled = clean != 0 || same != 0;
	c->ret->clean = clean != 0;
	return err;
}

static int each_remote(
	struct cache_check *c, uint64_t busy, uint64_t b, const char *name)
{
	const char *etag = name + strlen(name) - b;
	struct base_str path = BASE_STR_INIT;

	base_str_add(&path, name, (size_t)(etag - name));
	base_str_puts(&path, "");
	c->config->remote(
		c->config->arg, path.data ? path.data : "", etag, busy != 0);
	base_str_fini(&path);
	return 0;
}

/* What it believes the store to hold. */
static int tell_remote(struct cache_check *c)
{
	if (c->config->remote == NULL)
		return 0;
	return cache_check_each(c,
		"SELECT EXISTS(SELECT 1 FROM owed o WHERE o.name = r.name) OR "
		"EXISTS(SELECT 1 FROM sent s WHERE s.name = r.name), "
		"length(CAST(etag AS BLOB)), CAST(name || etag AS BLOB) "
		"FROM remote r ORDER BY name",
		each_remote);
}

static int check_all(struct cache_check *c)
{
	int err = cache_check_exec(c, "BEGIN IMMEDIATE", 0, 0);

	if (err == 0)
		err = find_settled(c);
	if (err == 0)
		err = cache_check_rows(c);
	if (err == 0)
		err = cache_check_files(c);
	if (err == 0)
		err = cache_check_counts(c);
	if (err == 0)
		err = tell_remote(c);
	if (err == 0 && c->config->repair)
		err = cache_check_exec(c, "COMMIT", 0, 0);
	if (err == 0)
		err = cache_check_move(c); /* C3 */
	return err;
}

static void get_store(struct cache_check *c, struct base_str *ret)
{
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v2(c->db,
		    "SELECT value FROM meta WHERE key = CAST('store' AS BLOB)",
		    -1, &stmt, NULL) == SQLITE_OK &&
		sqlite3_step(stmt) == SQLITE_ROW) {
		char *text = column_name(stmt, 0);

		base_str_puts(ret, text);
		free(text);
	}
	sqlite3_finalize(stmt);
}

static void close_check(struct cache_check *c)
{
	sqlite3_close(c->db);
	for (size_t i = 0; i < c->config->dirs_nr; i++) {
		if (c->lock_fds[i] >= 0)
			close(c->lock_fds[i]);
		if (c->dir_fds[i] >= 0)
			close(c->dir_fds[i]);
	}
}

int cache_check(const struct cache_check_config *config,
	struct cache_checked *ret, char *ret_why, size_t why_bytes)
{
	struct cache_check c = { .config = config, .ret = ret };
	int err = 0;

	ret_why[0] = '\0';
	memset(ret, 0, sizeof(*ret));
	if (config->dirs_nr == 0 || config->dirs_nr > CACHE_DIRS_MAX)
		return say(ret_why, why_bytes, -EINVAL,
			"name between 1 and %d cache directories",
			CACHE_DIRS_MAX);
	for (size_t i = 0; i < config->dirs_nr; i++)
		c.dir_fds[i] = c.lock_fds[i] = -1;
	for (size_t i = 0; i < config->dirs_nr && err == 0; i++)
		err = open_dir(&c, i, ret_why, why_bytes);
	if (err == 0)
		err = open_index(&c, ret_why, why_bytes);
	if (err == 0)
		err = check_index(&c, ret_why, why_bytes);
	if (err == 0)
		err = check_dirs_nr(&c, ret_why, why_bytes);
	if (err == 0) {
		get_store(&c, &ret->store);
		err = check_all(&c);
		if (err < 0)
			say(ret_why, why_bytes, err, "the check failed: %s",
				strerrordesc_np(-err));
	}
	close_check(&c);
	return err;
}

void cache_checked_fini(struct cache_checked *checked)
{
	base_str_fini(&checked->store);
}
