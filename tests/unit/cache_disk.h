/*
 * For the tests of cache/'s disk half: a cache in a directory of its own, an
 * executor that runs only when told to, and files in the states that tests
 * need.
 */
#ifndef TESTS_UNIT_CACHE_DISK_H
#define TESTS_UNIT_CACHE_DISK_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/disk.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* ---- the executor ---- */

#define TEST_TASKS_MAX 4096

struct test_env {
	struct base_env env;
	pthread_mutex_t mutex;
	struct {
		base_task_fn fn;
		void *arg;
	} tasks[TEST_TASKS_MAX];
	size_t nr;
	int64_t offset_ns; /* added to the clock */
};

static inline void test_post(struct base_env *env, base_task_fn fn, void *arg)
{
	struct test_env *t = (struct test_env *)env;

	pthread_mutex_lock(&t->mutex);
	ck_assert_uint_lt(t->nr, TEST_TASKS_MAX);
	t->tasks[t->nr].fn = fn;
	t->tasks[t->nr++].arg = arg;
	pthread_mutex_unlock(&t->mutex);
}

static inline void test_after(
	struct base_env *env, int64_t delay_ns, base_task_fn fn, void *arg)
{
	(void)delay_ns;
	test_post(env, fn, arg);
}

static inline int64_t test_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t test_boot_ns(struct base_env *env)
{
	return test_clock(CLOCK_BOOTTIME) + ((struct test_env *)env)->offset_ns;
}

static inline int64_t test_wall_ns(struct base_env *env)
{
	(void)env;
	return test_clock(CLOCK_REALTIME);
}

static inline void test_random(struct base_env *env, void *buf, size_t bytes)
{
	(void)env;
	ck_assert_int_eq(getrandom(buf, bytes, 0), (ssize_t)bytes);
}

static const struct base_env_ops test_env_ops = {
	.post = test_post,
	.after = test_after,
	.boot_ns = test_boot_ns,
	.wall_ns = test_wall_ns,
	.random = test_random,
};

static inline void test_run(struct test_env *t)
{
	pthread_mutex_lock(&t->mutex);
	while (t->nr != 0) {
		base_task_fn fn = t->tasks[0].fn;
		void *arg = t->tasks[0].arg;

		t->nr--;
		memmove(t->tasks, t->tasks + 1, t->nr * sizeof(t->tasks[0]));
		pthread_mutex_unlock(&t->mutex);
		fn(arg);
		pthread_mutex_lock(&t->mutex);
	}
	pthread_mutex_unlock(&t->mutex);
}

/* ---- the cache ---- */

#define TEST_OPEN_MAX 16

struct test_cache {
	char dir[64];
	struct test_env env;
	struct cache_config config;
	struct cache *cache;
	uint64_t open[TEST_OPEN_MAX]; /* inodes that claim() refuses */
	size_t open_nr;
	_Atomic int claims; /* held now */
};

static inline bool test_claim(void *arg, uint64_t ino)
{
	struct test_cache *t = arg;

	for (size_t i = 0; i < t->open_nr; i++)
		if (t->open[i] == ino)
			return false;
	t->claims++;
	return true;
}

static inline void test_unclaim(void *arg, uint64_t ino)
{
	struct test_cache *t = arg;

	(void)ino;
	t->claims--;
}

static inline void test_cache_open(struct test_cache *t)
{
	const char *dirs[] = { t->dir };
	struct cache_opened opened;
	char why[512] = "";
	int err;

	t->config.dirs = dirs;
	t->config.dirs_nr = 1;
	err = cache_open(&t->config, &t->cache, &opened, why, sizeof(why));
	ck_assert_msg(err == 0, "cache_open: %d: %s", err, why);
}

static inline void test_cache_close(struct test_cache *t)
{
	cache_close(t->cache);
	t->cache = NULL;
	test_run(&t->env); /* what was posted frees itself */
	ck_assert_int_eq(t->claims, 0);
}

/* `limit`: bytes that may be local. */
static inline struct test_cache *test_cache_new(uint64_t limit)
{
	struct test_cache *t = calloc(1, sizeof(*t));
	const char *tmp = getenv("TMPDIR");

	snprintf(t->dir, sizeof(t->dir), "%s/forebay-test-XXXXXX",
		tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(t->dir));
	pthread_mutex_init(&t->env.mutex, NULL);
	t->env.env.ops = &test_env_ops;
	t->config.store = "dir:/nowhere";
	t->config.env = &t->env.env;
	t->config.limit = limit;
	t->config.claim = test_claim;
	t->config.unclaim = test_unclaim;
	t->config.arg = t;
	test_cache_open(t);
	return t;
}

static inline void test_remove_tree(const char *dir)
{
	char *paths[] = { (char *)(uintptr_t)dir, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *e;

	while ((e = fts_read(fts)) != NULL)
		if (e->fts_info == FTS_DP)
			rmdir(e->fts_path);
		else if (e->fts_info != FTS_D)
			unlink(e->fts_path);
	fts_close(fts);
}

static inline void test_cache_free(struct test_cache *t)
{
	if (t->cache != NULL)
		test_cache_close(t);
	test_remove_tree(t->dir);
	pthread_mutex_destroy(&t->env.mutex);
	free(t);
}

/* ---- what is in it ---- */

/* What the data files really occupy. */
static inline uint64_t test_du(struct test_cache *t)
{
	char data[128];
	char *paths[] = { data, NULL };
	uint64_t sum = 0;
	FTS *fts;
	FTSENT *e;

	snprintf(data, sizeof(data), "%s/" CACHE_DATA_DIR, t->dir);
	fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	while ((e = fts_read(fts)) != NULL)
		if (e->fts_info == FTS_F)
			sum += (uint64_t)e->fts_statp->st_blocks * 512;
	fts_close(fts);
	return sum;
}

static inline uint64_t test_used(struct test_cache *t)
{
	struct cache_space space;

	cache_space_get(t->cache, &space);
	return space.used_bytes;
}

static inline struct cache_txn *test_write(struct test_cache *t)
{
	struct cache_txn *txn;

	ck_assert_int_eq(cache_write(t->cache, &txn), 0);
	return txn;
}

static inline void test_fill(
	struct test_cache *t, uint64_t ino, uint64_t serial, uint64_t bytes)
{
	char *buf = malloc(bytes);
	int fd = cache_data_open(t->cache, ino, serial, O_WRONLY | O_CREAT);

	ck_assert_int_ge(fd, 0);
	memset(buf, (int)('a' + ino % 26), bytes);
	ck_assert_int_eq(write(fd, buf, bytes), (ssize_t)bytes);
	/* Blocks are given when they are written back (delayed). */
	ck_assert_int_eq(fdatasync(fd), 0);
	close(fd);
	free(buf);
}

/* A clean, whole file in directory `parent`. */
static inline uint64_t test_file_in(
	struct test_cache *t, uint64_t parent, uint64_t bytes)
{
	struct cache_inode inode = {
		.kind = CACHE_FILE,
		.mode = 0644,
		.nlink = 1,
		.size_bytes = bytes,
		.data = CACHE_WHOLE,
		.stored = true,
	};
	struct cache_txn *txn = test_write(t);
	char name[32];

	ck_assert_int_eq(cache_inode_add(txn, &inode), 0);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)inode.ino);
	ck_assert_int_eq(cache_dentry_add(txn, parent, name, inode.ino), 0);
	test_fill(t, inode.ino, inode.serial, bytes);
	ck_assert_int_eq(cache_data_stat(t->cache, inode.ino, inode.serial,
				 &inode.stamp, NULL),
		0);
	ck_assert_int_eq(cache_inode_put(txn, &inode), 0);
	ck_assert_int_eq(cache_space_account(txn, inode.ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	return inode.ino;
}

static inline uint64_t test_file(struct test_cache *t, uint64_t bytes)
{
	return test_file_in(t, CACHE_ROOT_INO, bytes);
}

/* The bytes come back: as a fetch would bring them. */
static inline void test_refetch(struct test_cache *t, uint64_t ino)
{
	struct cache_txn *txn = test_write(t);
	struct cache_inode inode;

	ck_assert_int_eq(cache_inode_get(txn, ino, &inode), 0);
	ck_assert_int_eq(inode.data, CACHE_NONE);
	test_fill(t, ino, inode.serial, inode.size_bytes);
	inode.data = CACHE_WHOLE;
	ck_assert_int_eq(cache_data_stat(t->cache, ino, inode.serial,
				 &inode.stamp, NULL),
		0);
	ck_assert_int_eq(cache_inode_put(txn, &inode), 0);
	ck_assert_int_eq(cache_space_account(txn, ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
}

static inline struct cache_inode test_inode(struct test_cache *t, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	ck_assert_int_eq(cache_read(t->cache, &txn), 0);
	ck_assert_int_eq(cache_inode_get(txn, ino, &inode), 0);
	cache_commit(txn);
	return inode;
}

static inline bool test_is_local(struct test_cache *t, uint64_t ino)
{
	struct cache_inode inode = test_inode(t, ino);
	int err = cache_data_stat(t->cache, ino, inode.serial, NULL, NULL);

	ck_assert_int_eq(err, inode.data == CACHE_NONE ? -ENOENT : 0);
	return inode.data != CACHE_NONE;
}

static inline void test_put(struct test_cache *t, const struct cache_inode *i)
{
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_inode_put(txn, i), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
}

static inline int test_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif
