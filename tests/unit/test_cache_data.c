/* Data files: where they are, how they become durable, how they go. */
#include <sys/mman.h>

#include "tests/unit/cache_disk.h"

/* ---- without an index: a cache of three directories ---- */

#define DIRS 3

static char root[64];
static char *dirs[DIRS];
static struct test_env env;
static struct cache bare;

static void setup(void)
{
	char why[256] = "";
	int err;

	snprintf(root, sizeof(root), "/tmp/forebay-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	memset(&env, 0, sizeof(env));
	pthread_mutex_init(&env.mutex, NULL);
	env.env.ops = &test_env_ops;
	memset(&bare, 0, sizeof(bare));
	bare.env = &env.env;
	bare.dirs = dirs;
	bare.dirs_nr = DIRS;
	for (int i = 0; i < DIRS; i++) {
		ck_assert_int_gt(asprintf(&dirs[i], "%s/%d", root, i), 0);
		ck_assert_int_eq(mkdir(dirs[i], 0700), 0);
	}
	err = cache_data_prepare(&bare, why, sizeof(why));
	ck_assert_msg(err == 0, "%s", why);
}

static void teardown(void)
{
	cache_data_finish(&bare, false);
	test_run(&env);
	for (int i = 0; i < DIRS; i++)
		free(dirs[i]);
	test_remove_tree(root);
}

static int make(uint64_t ino, uint64_t serial, const char *text)
{
	int fd = cache_data_open(&bare, ino, serial, O_RDWR | O_CREAT);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

START_TEST(new_file_is_empty_and_private)
{
	struct stat st;
	int fd;

	close(make(7, 1, "left over"));
	fd = cache_data_open(&bare, 7, 1, O_RDWR | O_CREAT);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	ck_assert_int_eq(cache_data_open(&bare, 7, 2, O_RDONLY), -ENOENT);
}
END_TEST

START_TEST(path_and_stat_name_the_file)
{
	struct cache_stamp stamp;
	uint64_t bytes;
	char *path;
	int fd;

	close(make(7, 1, "hello"));
	path = cache_data_path(&bare, 7, 1);
	fd = open(path, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fdatasync(fd), 0);
	close(fd);
	free(path);
	ck_assert_int_eq(cache_data_stat(&bare, 7, 1, &stamp, &bytes), 0);
	ck_assert_uint_eq(stamp.size_bytes, 5);
	ck_assert_int_gt(stamp.mtime_ns, 0);
	ck_assert_uint_gt(bytes, 0);
}
END_TEST

START_TEST(files_are_spread_over_directories)
{
	struct stat st;
	char *path;
	unsigned in[DIRS] = { 0 };

	for (uint64_t ino = 1; ino <= 300; ino++) {
		close(make(ino, 1, "x"));
		path = cache_data_path(&bare, ino, 1);
		ck_assert_int_eq(stat(path, &st), 0);
		in[path[strlen(root) + 1] - '0']++;
		free(path);
	}
	for (int i = 0; i < DIRS; i++)
		ck_assert_uint_gt(in[i], 60);
}
END_TEST

/* On the disks of users: files must be found again. */
START_TEST(places_never_change)
{
	char *path = cache_data_path(&bare, 4711, 12);
	char want[128];

	snprintf(want, sizeof(want), "%s/2/data/3c/4711.12", root);
	ck_assert_str_eq(path, want);
	free(path);
}
END_TEST

static uint64_t names_not_synced(void)
{
	uint64_t nr = 0;

	for (int i = 0; i < DIRS; i++)
		for (int hh = 0; hh < CACHE_HH_NR; hh++)
			nr += bare.data->dirs[i].made[hh] -
				bare.data->dirs[i].synced[hh];
	return nr;
}

/* On a file system of which it is not known that a sync of a new file covers
 * its name. */
START_TEST(sync_covers_the_name)
{
	uint64_t before = names_not_synced();

	for (int i = 0; i < DIRS; i++)
		bare.data->dirs[i].syncs_names = false;
	close(make(7, 1, "x"));
	ck_assert_uint_eq(names_not_synced(), before + 1);
	ck_assert_int_eq(cache_data_sync(&bare, 7, 1), 0);
	/* That one, and what the process before us may have left there. */
	ck_assert_uint_eq(names_not_synced(), before - 1);
	ck_assert_int_eq(cache_data_sync(&bare, 8, 1), -ENOENT);
}
END_TEST

START_TEST(sync_all_covers_all_names)
{
	for (uint64_t ino = 1; ino <= 100; ino++)
		close(make(ino, 1, "x"));
	ck_assert_int_eq(cache_data_sync_all(&bare), 0);
	ck_assert_uint_eq(names_not_synced(), 0);
}
END_TEST

START_TEST(unlink_happens_on_the_executor)
{
	close(make(7, 1, "x"));
	cache_data_unlink(&bare, 7, 1);
	ck_assert_int_eq(cache_data_stat(&bare, 7, 1, NULL, NULL), 0);
	test_run(&env);
	ck_assert_int_eq(cache_data_stat(&bare, 7, 1, NULL, NULL), -ENOENT);
}
END_TEST

START_TEST(unlinks_are_done_at_the_end)
{
	char why[256];

	close(make(7, 1, "x"));
	cache_data_unlink(&bare, 7, 1);
	cache_data_finish(&bare, false);
	ck_assert_int_eq(cache_data_prepare(&bare, why, sizeof(why)), 0);
	ck_assert_int_eq(cache_data_stat(&bare, 7, 1, NULL, NULL), -ENOENT);
	test_run(&env);
}
END_TEST

START_TEST(prepare_that_fails_leaves_nothing)
{
	char why[256] = "";
	char path[128];

	cache_data_finish(&bare, false);
	test_remove_tree(root);
	ck_assert_int_eq(mkdir(root, 0700), 0);
	ck_assert_int_eq(mkdir(dirs[0], 0700), 0);
	ck_assert_int_eq(mkdir(dirs[1], 0700), 0);
	ck_assert_int_lt(cache_data_prepare(&bare, why, sizeof(why)), 0);
	ck_assert_ptr_nonnull(strstr(why, dirs[2]));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/data", dirs[i]);
		ck_assert_int_eq(access(path, F_OK), -1);
	}
	ck_assert_ptr_null(bare.data);
}
END_TEST

/* ---- probes ---- */

START_TEST(probe_sees_who_has_it_open)
{
	int fd;

	if (!cache_data_leases(&bare))
		return;
	close(make(7, 1, "x"));
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, false), 0);
	fd = cache_data_open(&bare, 7, 1, O_RDONLY);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, false), -EBUSY);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, true), 0);
	close(fd);
	fd = cache_data_open(&bare, 7, 1, O_RDWR);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, true), -EBUSY);
	close(fd);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, true), 0);
	ck_assert_int_eq(cache_data_probe(&bare, 8, 1, true), -ENOENT);
}
END_TEST

START_TEST(probe_sees_a_mapping_without_a_descriptor)
{
	void *map;
	int fd;

	if (!cache_data_leases(&bare))
		return;
	fd = make(7, 1, "x");
	map = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
	close(fd);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, true), -EBUSY);
	munmap(map, 1);
	ck_assert_int_eq(cache_data_probe(&bare, 7, 1, true), 0);
}
END_TEST

/* The signal of a broken lease must not kill. */
static void *probe_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 3000; i++)
		cache_data_probe(&bare, 7, 1, false);
	return NULL;
}

START_TEST(probe_and_open_at_once_harm_nobody)
{
	pthread_t thread;
	int fd;

	close(make(7, 1, "x"));
	ck_assert_int_eq(pthread_create(&thread, NULL, probe_often, NULL), 0);
	for (int i = 0; i < 3000; i++) {
		fd = cache_data_open(&bare, 7, 1, O_RDONLY);
		ck_assert_int_ge(fd, 0);
		close(fd);
	}
	pthread_join(thread, NULL);
}
END_TEST

/* ---- clones (the reserve is looked at: with an index) ---- */

static struct test_cache *t;

static void setup_cache(void)
{
	t = test_cache_new(64 * MIB);
}

static void teardown_cache(void)
{
	test_cache_free(t);
}

START_TEST(clone_has_the_same_bytes_and_holes)
{
	char a[4096], b[4096];
	uint64_t bytes;
	struct stat st;
	int fd = cache_data_open(t->cache, 7, 1, O_RDWR | O_CREAT);

	ck_assert_int_ge(fd, 0);
	memset(a, 'a', sizeof(a));
	ck_assert_int_eq(pwrite(fd, a, 4096, 0), 4096);
	ck_assert_int_eq(pwrite(fd, a, 4096, 8 << 20), 4096);
	ck_assert_int_eq(ftruncate(fd, 16 << 20), 0);
	close(fd);
	ck_assert_int_eq(cache_data_clone(t->cache, 7, 1, 2, 16 * MIB), 0);
	fd = cache_data_open(t->cache, 7, 2, O_RDONLY);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 16 << 20);
	ck_assert_int_eq(pread(fd, b, 4096, 8 << 20), 4096);
	ck_assert_mem_eq(a, b, 4096);
	ck_assert_int_eq(pread(fd, b, 4096, 4 << 20), 4096);
	ck_assert_int_eq(b[0], 0);
	ck_assert_int_eq(fsync(fd), 0);
	close(fd);
	ck_assert_int_eq(cache_data_stat(t->cache, 7, 2, NULL, &bytes), 0);
	ck_assert_uint_le(bytes, MIB);
}
END_TEST

START_TEST(clone_too_long_to_copy_leaves_nothing)
{
	int err;

	test_fill(t, 7, 1, 2 * MIB);
	err = cache_data_clone(t->cache, 7, 1, 2, MIB);
	if (err == 0)
		return; /* a reflink */
	ck_assert_int_eq(err, -EFBIG);
	test_run(&t->env);
	ck_assert_int_eq(cache_data_stat(t->cache, 7, 2, NULL, NULL), -ENOENT);
	ck_assert_int_eq(cache_data_clone(t->cache, 8, 1, 2, MIB), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_data");
	TCase *tc = tcase_create("data");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, new_file_is_empty_and_private);
	tcase_add_test(tc, path_and_stat_name_the_file);
	tcase_add_test(tc, files_are_spread_over_directories);
	tcase_add_test(tc, places_never_change);
	tcase_add_test(tc, sync_covers_the_name);
	tcase_add_test(tc, sync_all_covers_all_names);
	tcase_add_test(tc, unlink_happens_on_the_executor);
	tcase_add_test(tc, unlinks_are_done_at_the_end);
	tcase_add_test(tc, probe_sees_who_has_it_open);
	tcase_add_test(tc, probe_sees_a_mapping_without_a_descriptor);
	tcase_add_test(tc, probe_and_open_at_once_harm_nobody);
	suite_add_tcase(suite, tc);
	tc = tcase_create("prepare");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, prepare_that_fails_leaves_nothing);
	suite_add_tcase(suite, tc);
	tc = tcase_create("clone");
	tcase_add_checked_fixture(tc, setup_cache, teardown_cache);
	tcase_add_test(tc, clone_has_the_same_bytes_and_holes);
	tcase_add_test(tc, clone_too_long_to_copy_leaves_nothing);
	suite_add_tcase(suite, tc);
	return test_main(suite);
}
