/*
 * For the tests of cache/'s index half: the fixture of the disk half, crashes,
 * and reboots.
 */
#ifndef TESTS_UNIT_CACHE_INDEX_H
#define TESTS_UNIT_CACHE_INDEX_H

#include <sys/wait.h>

#include "tests/unit/cache_disk.h"

#define OK(call) ck_assert_int_eq((call), 0)

static inline struct cache_txn *test_read(struct test_cache *t)
{
	struct cache_txn *txn;

	OK(cache_read(t->cache, &txn));
	return txn;
}

/* The cache is closed; `work` runs in a process that opens it and dies. */
static inline void test_crash(
	struct test_cache *t, void (*work)(struct test_cache *))
{
	int status;
	pid_t pid;

	ck_assert_ptr_null(t->cache);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		test_cache_open(t);
		work(t);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* SQL on the closed index. */
static inline void test_sql(struct test_cache *t, const char *sql)
{
	char path[128], *error = NULL;
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/" CACHE_INDEX_FILE, t->dir);
	OK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL));
	sqlite3_exec(db, sql, NULL, NULL, &error);
	ck_assert_msg(error == NULL, "%s: %s", sql, error);
	sqlite3_close(db);
}

/* The host booted while the cache was closed (or its process dead). */
static inline void test_reboot(struct test_cache *t)
{
	test_sql(t,
		"UPDATE meta SET value = CAST('another boot' AS BLOB) "
		"WHERE key = CAST('boot' AS BLOB)");
}

static inline struct cache_opened test_reopen(struct test_cache *t)
{
	const char *dirs[] = { t->dir };
	struct cache_opened opened;
	char why[512] = "";
	int err;

	t->config.dirs = dirs;
	err = cache_open(&t->config, &t->cache, &opened, why, sizeof(why));
	ck_assert_msg(err == 0, "cache_open: %d: %s", err, why);
	return opened;
}

/* An open that must fail; the reason names what, why and what to do. */
static inline void test_refused(struct test_cache *t, int want,
	const char *const *dirs, size_t dirs_nr, const char *word)
{
	struct cache *cache = NULL;
	struct cache_opened opened;
	char why[512] = "";

	t->config.dirs = dirs;
	t->config.dirs_nr = dirs_nr;
	ck_assert_int_eq(
		cache_open(&t->config, &cache, &opened, why, sizeof(why)),
		want);
	ck_assert_msg(
		strstr(why, word) != NULL, "\"%s\" lacks \"%s\"", why, word);
	ck_assert_msg(strchr(why, '\n') == NULL, "%s", why);
	ck_assert_ptr_null(cache);
}

static inline uint64_t test_add_dir(struct test_cache *t, const char *name)
{
	struct cache_inode inode = {
		.kind = CACHE_DIR, .mode = 0755, .nlink = 2
	};
	struct cache_txn *txn = test_write(t);

	OK(cache_inode_add(txn, &inode));
	OK(cache_dentry_add(txn, CACHE_ROOT_INO, name, inode.ino));
	OK(cache_commit(txn));
	return inode.ino;
}

static inline bool test_has_name(struct test_cache *t, const char *name)
{
	struct cache_txn *txn = test_read(t);
	struct cache_inode inode;
	int err = cache_resolve(txn, name, &inode);

	ck_assert(err == 0 || err == -ENOENT);
	cache_commit(txn);
	return err == 0;
}

static inline struct cache_counts test_counts(struct test_cache *t)
{
	struct cache_txn *txn = test_read(t);
	struct cache_counts ret;

	OK(cache_counts_get(txn, &ret));
	OK(cache_commit(txn));
	return ret;
}

#endif
