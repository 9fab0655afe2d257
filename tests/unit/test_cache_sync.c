/* WAL syncs are shared and cover what they must; flushes and checkpoints. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "tests/unit/cache_disk.h"

/* ---- fdatasync and syncfs, under our control ---- */

static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_cond = PTHREAD_COND_INITIALIZER;
static bool gate_closed;
static int gate_waiting, sync_error, syncfs_error, syncs;

int fdatasync(int fd)
{
	int err;

	pthread_mutex_lock(&gate_mutex);
	syncs++;
	gate_waiting++;
	pthread_cond_broadcast(&gate_cond);
	while (gate_closed)
		pthread_cond_wait(&gate_cond, &gate_mutex);
	gate_waiting--;
	err = sync_error;
	pthread_mutex_unlock(&gate_mutex);
	if (err != 0) {
		errno = err;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int syncfs(int fd)
{
	if (syncfs_error != 0) {
		errno = syncfs_error;
		return -1;
	}
	return (int)syscall(SYS_syncfs, fd);
}

static void gate(bool closed)
{
	pthread_mutex_lock(&gate_mutex);
	gate_closed = closed;
	pthread_cond_broadcast(&gate_cond);
	pthread_mutex_unlock(&gate_mutex);
}

static void await_sync(void)
{
	pthread_mutex_lock(&gate_mutex);
	while (gate_waiting == 0)
		pthread_cond_wait(&gate_cond, &gate_mutex);
	pthread_mutex_unlock(&gate_mutex);
}

static struct test_cache *t;

static void setup(void)
{
	t = test_cache_new(64 * MIB);
}

static void teardown(void)
{
	test_cache_free(t);
}

static void commit(uint64_t value)
{
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_meta_set_u64(txn, "test", value), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
}

/* ---- the shared sync ---- */

#define THREADS 16
#define ROUNDS 20

static void *sync_often(void *arg)
{
	uint64_t nr = (uint64_t)(uintptr_t)arg;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		commit(nr * ROUNDS + i);
		ck_assert_int_eq(cache_sync_index(t->cache), 0);
	}
	return NULL;
}

START_TEST(syncs_are_shared)
{
	pthread_t threads[THREADS];
	uint64_t before = cache_sync_count(t->cache), count;

	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, sync_often,
					 (void *)i),
			0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	count = cache_sync_count(t->cache) - before;
	ck_assert_uint_ge(count, 1);
	ck_assert_uint_le(count, THREADS * ROUNDS);
}
END_TEST

static void *sync_once(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)cache_sync_index(t->cache);
}

/* While one is under way, any number of others share the one after it. */
START_TEST(all_who_wait_share_the_next_sync)
{
	pthread_t threads[THREADS];
	uint64_t before = cache_sync_count(t->cache);
	void *err;

	gate(true);
	for (int i = 0; i < THREADS; i++) {
		pthread_create(&threads[i], NULL, sync_once, NULL);
		if (i == 0)
			await_sync();
	}
	/* Each has asked for the second one, or will: nothing to wait for. */
	gate(false);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &err);
		ck_assert_ptr_null(err);
	}
	ck_assert_uint_ge(cache_sync_count(t->cache) - before, 2);
	ck_assert_uint_le(cache_sync_count(t->cache) - before, THREADS);
}
END_TEST

/* A sync that had begun before the commit says nothing about it. */
START_TEST(sync_that_began_before_the_commit_does_not_count)
{
	pthread_t first, second;
	uint64_t before = cache_sync_count(t->cache);

	gate(true);
	pthread_create(&first, NULL, sync_once, NULL);
	await_sync();
	commit(1);
	pthread_create(&second, NULL, sync_once, NULL);
	gate(false);
	pthread_join(first, NULL);
	pthread_join(second, NULL);
	ck_assert_uint_eq(cache_sync_count(t->cache) - before, 2);
}
END_TEST

START_TEST(each_sync_alone_is_a_sync)
{
	uint64_t before = cache_sync_count(t->cache);
	int really = syncs;

	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(cache_sync_index(t->cache), 0);
	ck_assert_uint_eq(cache_sync_count(t->cache) - before, 5);
	ck_assert_int_eq(syncs - really, 5);
}
END_TEST

/* A second fdatasync of the WAL would not say what the first one lost. */
START_TEST(failed_sync_is_made_good_by_a_checkpoint)
{
	struct cache_txn *txn;
	int before;

	commit(7);
	sync_error = EIO;
	ck_assert_int_eq(cache_sync_index(t->cache), -EIO);
	before = syncs;
	ck_assert_int_eq(cache_sync_index(t->cache), -EIO);
	sync_error = 0;
	ck_assert_int_eq(cache_sync_index(t->cache), 0);
	ck_assert_int_gt(syncs, before);
	/* The WAL has begun again. */
	ck_assert_int_eq(cache_read(t->cache, &txn), 0);
	cache_abort(txn);
	ck_assert_int_eq(cache_sync_index(t->cache), 0);
}
END_TEST

/* ---- flush numbers ---- */

static uint64_t durable_nr(void)
{
	struct cache_txn *txn;
	uint64_t nr = 0;

	ck_assert_int_eq(cache_read(t->cache, &txn), 0);
	ck_assert_int_eq(cache_meta_get_u64(txn, "flush_nr", &nr), 0);
	cache_commit(txn);
	return nr;
}

START_TEST(flush_makes_its_number_durable)
{
	uint64_t nr = cache_flush_nr(t->cache);

	ck_assert_uint_lt(durable_nr(), nr);
	ck_assert_int_eq(cache_sync_flush(t->cache), 0);
	ck_assert_uint_eq(durable_nr(), nr);
	ck_assert_uint_eq(cache_flush_nr(t->cache), nr + 1);
	ck_assert_uint_eq(durable_nr(), nr);
}
END_TEST

START_TEST(flush_without_news_does_nothing)
{
	uint64_t nr;

	cache_flush_nr(t->cache);
	ck_assert_int_eq(cache_sync_flush(t->cache), 0);
	nr = durable_nr();
	ck_assert_int_eq(cache_sync_flush(t->cache), 0);
	ck_assert_uint_eq(durable_nr(), nr);
}
END_TEST

START_TEST(failed_flush_makes_nothing_durable)
{
	uint64_t nr = cache_flush_nr(t->cache);

	syncfs_error = EIO;
	ck_assert_int_eq(cache_sync_flush(t->cache), -EIO);
	ck_assert_uint_lt(durable_nr(), nr);
	syncfs_error = 0;
	ck_assert_int_eq(cache_sync_flush(t->cache), 0);
	ck_assert_uint_eq(durable_nr(), nr);
}
END_TEST

/* A number used before a crash is not durable because a later process flushed
 * something. */
START_TEST(numbers_go_on_after_a_remount)
{
	uint64_t nr = cache_flush_nr(t->cache);

	test_cache_close(t);
	test_cache_open(t);
	ck_assert_uint_gt(cache_flush_nr(t->cache), nr);
}
END_TEST

/* ---- checkpoints ---- */

static off_t size_of(const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_size;
}

START_TEST(checkpoint_lets_the_wal_begin_again)
{
	off_t first, last;

	for (uint64_t i = 0; i < 200; i++)
		commit(i);
	ck_assert_int_eq(cache_sync_checkpoint(t->cache), 0);
	first = size_of(CACHE_WAL_FILE);
	for (uint64_t i = 0; i < 150; i++)
		commit(i);
	ck_assert_int_eq(cache_sync_checkpoint(t->cache), 0);
	last = size_of(CACHE_WAL_FILE);
	ck_assert_int_eq(first, last);
}
END_TEST

START_TEST(reader_delays_a_checkpoint_but_not_a_writer)
{
	struct cache_txn *reader;
	uint64_t value;

	commit(1);
	ck_assert_int_eq(cache_read(t->cache, &reader), 0);
	ck_assert_int_eq(cache_meta_get_u64(reader, "test", &value), 0);
	commit(2);
	ck_assert_int_eq(cache_sync_checkpoint(t->cache), 0);
	commit(3);
	ck_assert_int_eq(cache_meta_get_u64(reader, "test", &value), 0);
	ck_assert_uint_eq(value, 1);
	cache_commit(reader);
	ck_assert_int_eq(cache_sync_checkpoint(t->cache), 0);
}
END_TEST

START_TEST(thread_starts_and_ends)
{
	cache_start(t->cache);
	for (uint64_t i = 0; i < 100; i++)
		commit(i);
	cache_flush_nr(t->cache);
}
END_TEST

/* ---- a full disk ---- */

/* A small file system of our own; false where we may not mount. */
static bool mount_small(const char *dir)
{
	return unshare(CLONE_NEWNS) == 0 &&
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700") == 0;
}

static int fill_disk(const char *dir)
{
	static const char block[64 * 1024];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/hog", dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_int_eq(unlink(path), 0);
	return fd;
}

static int create(int nr)
{
	struct cache_inode inode = { .kind = CACHE_FILE, .nlink = 1 };
	struct cache_txn *txn;
	char name[32];
	int err = cache_write(t->cache, &txn);

	if (err != 0)
		return err;
	snprintf(name, sizeof(name), "name-%d", nr);
	err = cache_inode_add(txn, &inode);
	if (err == 0)
		err = cache_dentry_add(txn, CACHE_ROOT_INO, name, inode.ino);
	if (err == 0)
		return cache_commit(txn);
	cache_abort(txn);
	return err;
}

START_TEST(index_goes_on_when_the_disk_is_full)
{
	int hog, failed = 0;

	test_cache_close(t);
	if (!mount_small(t->dir))
		return; /* not root */
	test_cache_open(t);
	cache_sync_start(t->cache);
	hog = fill_disk(t->dir);
	for (int i = 0; i < 2000; i++)
		failed += create(i) != 0;
	ck_assert_int_le(failed, 2);
	ck_assert_int_eq(cache_sync_index(t->cache), 0);
	ck_assert(cache_ballast_missing(t->cache));
	close(hog);
	cache_ballast_renew(t->cache);
	ck_assert(!cache_ballast_missing(t->cache));
	test_cache_close(t);
	test_cache_open(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_sync");
	TCase *tc = tcase_create("sync");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, syncs_are_shared);
	tcase_add_test(tc, all_who_wait_share_the_next_sync);
	tcase_add_test(tc, sync_that_began_before_the_commit_does_not_count);
	tcase_add_test(tc, each_sync_alone_is_a_sync);
	tcase_add_test(tc, failed_sync_is_made_good_by_a_checkpoint);
	tcase_add_test(tc, flush_makes_its_number_durable);
	tcase_add_test(tc, flush_without_news_does_nothing);
	tcase_add_test(tc, failed_flush_makes_nothing_durable);
	tcase_add_test(tc, numbers_go_on_after_a_remount);
	tcase_add_test(tc, checkpoint_lets_the_wal_begin_again);
	tcase_add_test(tc, reader_delays_a_checkpoint_but_not_a_writer);
	tcase_add_test(tc, thread_starts_and_ends);
	tcase_add_test(tc, index_goes_on_when_the_disk_is_full);
	suite_add_tcase(suite, tc);
	return test_main(suite);
}
