/* The account of local bytes, reservations, limits, ballast. */
#include "tests/unit/cache_disk.h"

#define FILE_BYTES (64 * KIB)
#define LIMIT (16 * FILE_BYTES)

static struct test_cache *t;

static void setup(void)
{
	t = test_cache_new(LIMIT);
}

static void teardown(void)
{
	test_cache_free(t);
}

static void drop(uint64_t ino)
{
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_claim(txn, ino), 0);
	ck_assert_int_eq(cache_data_drop(txn, ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	test_run(&t->env);
}

/* ---- the account ---- */

START_TEST(used_matches_du)
{
	uint64_t ino[8];
	struct cache_inode inode;
	struct cache_txn *txn;

	for (int i = 0; i < 8; i++)
		ino[i] = test_file(t, FILE_BYTES + (uint64_t)i * 5000);
	ck_assert_uint_eq(test_used(t), test_du(t));
	drop(ino[0]);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino[1], NULL), 0);
	inode = test_inode(t, ino[2]);
	txn = test_write(t);
	ck_assert_int_eq(cache_data_renew(txn, &inode), 0);
	test_fill(t, ino[2], inode.serial, 100);
	ck_assert_int_eq(cache_space_account(txn, ino[2]), 0);
	ck_assert_int_eq(cache_inode_del(txn, ino[3]), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	test_run(&t->env);
	ck_assert_uint_eq(test_used(t), test_du(t));
	test_cache_close(t);
	test_cache_open(t);
	ck_assert_uint_eq(test_used(t), test_du(t));
}
END_TEST

/* An older state that is still owed stays on disk, and in the account. */
START_TEST(used_matches_du_with_kept_states)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	struct cache_inode inode = test_inode(t, ino);
	char name[] = "name";
	struct cache_owed row = {
		.epoch = 1,
		.name = name,
		.kind = CACHE_FILE,
		.ino = ino,
		.serial = inode.serial,
		.size_bytes = FILE_BYTES,
	};
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_owed_add(txn, &row), 0);
	ck_assert_int_eq(cache_data_renew(txn, &inode), 0);
	test_fill(t, ino, inode.serial, FILE_BYTES);
	ck_assert_int_eq(cache_space_account(txn, ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	test_run(&t->env);
	ck_assert_uint_eq(test_du(t), 2 * FILE_BYTES);
	ck_assert_uint_eq(test_used(t), test_du(t));
	txn = test_write(t);
	ck_assert_int_eq(cache_owed_del(txn, row.seq), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	test_run(&t->env);
	ck_assert_uint_eq(test_du(t), FILE_BYTES);
	ck_assert_uint_eq(test_used(t), test_du(t));
}
END_TEST

START_TEST(aborted_change_does_not_count)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_claim(txn, ino), 0);
	ck_assert_int_eq(cache_data_drop(txn, ino), 0);
	cache_abort(txn);
	test_run(&t->env);
	ck_assert(test_is_local(t, ino));
	ck_assert_uint_eq(test_used(t), test_du(t));
}
END_TEST

START_TEST(account_follows_a_growing_file)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	struct cache_txn *txn;

	test_fill(t, ino, test_inode(t, ino).serial, 3 * FILE_BYTES);
	txn = test_write(t);
	ck_assert_int_eq(cache_space_account(txn, ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	ck_assert_uint_eq(test_used(t), 3 * FILE_BYTES);
}
END_TEST

/* ---- reservations ---- */

START_TEST(reserve_counts_inflight)
{
	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT / 2), 0);
	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT / 2), 0);
	ck_assert_int_eq(cache_space_reserve(t->cache, 1), -ENOSPC);
	cache_space_release(t->cache, LIMIT / 2);
	ck_assert_int_eq(cache_space_reserve(t->cache, 1), 0);
	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT / 2), -ENOSPC);
	cache_space_release(t->cache, 1);
	cache_space_release(t->cache, LIMIT / 2);
}
END_TEST

START_TEST(reserve_above_the_limit_evicts_nothing)
{
	uint64_t ino = test_file(t, FILE_BYTES);

	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT + 1), -ENOSPC);
	ck_assert_int_eq(cache_space_reserve(t->cache, UINT64_MAX), -ENOSPC);
	ck_assert(test_is_local(t, ino));
}
END_TEST

START_TEST(reserve_evicts_no_more_than_needed)
{
	for (int i = 0; i < 16; i++)
		test_file(t, FILE_BYTES);
	ck_assert_int_eq(cache_space_reserve(t->cache, 3 * FILE_BYTES), 0);
	ck_assert_uint_eq(test_used(t), 13 * FILE_BYTES);
	ck_assert_uint_eq(test_du(t), 13 * FILE_BYTES);
	cache_space_release(t->cache, 3 * FILE_BYTES);
}
END_TEST

#define THREADS 32
#define ROUNDS 30
static _Atomic int64_t outstanding;
static _Atomic int refused;

static void *fetch_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int err = cache_space_reserve(t->cache, FILE_BYTES);

		if (err != 0) {
			ck_assert_int_eq(err, -ENOSPC);
			refused++;
			continue;
		}
		ck_assert_int_le(
			atomic_fetch_add(&outstanding, FILE_BYTES) + FILE_BYTES,
			LIMIT);
		ck_assert_uint_le(test_used(t), LIMIT);
		if (i % 4 == 0)
			test_file(t, FILE_BYTES);
		atomic_fetch_sub(&outstanding, FILE_BYTES);
		cache_space_release(t->cache, FILE_BYTES);
	}
	return NULL;
}

START_TEST(parallel_fetches_never_overshoot)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, fetch_often, NULL),
			0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	test_run(&t->env);
	ck_assert_uint_le(test_used(t), LIMIT);
	ck_assert_uint_eq(test_used(t), test_du(t));
	/* Everything went back. */
	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT), 0);
	cache_space_release(t->cache, LIMIT);
}
END_TEST

START_TEST(background_evicts_to_the_low_mark)
{
	cache_space_start(t->cache);
	test_run(&t->env);
	for (int i = 0; i < 20; i++)
		test_file(t, FILE_BYTES); /* writers ask nobody */
	ck_assert_uint_eq(test_used(t), 20 * FILE_BYTES);
	test_run(&t->env);
	ck_assert_uint_eq(test_used(t), 15 * FILE_BYTES);
	ck_assert_uint_eq(test_used(t), test_du(t));
}
END_TEST

static _Atomic uint64_t newest;

static void *use_often(void *arg)
{
	uint64_t ino, nr = (uint64_t)(uintptr_t)arg;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		if (cache_space_reserve(t->cache, FILE_BYTES) != 0)
			continue;
		ino = test_file(t, FILE_BYTES);
		cache_space_release(t->cache, FILE_BYTES);
		atomic_store(&newest, ino);
		cache_touch(t->cache, 2 + (i * 7 + nr) % ino);
		if (i % 3 == 0)
			cache_evict_inode(t->cache, 2 + (i * 5) % ino, NULL);
		if (i % 3 == 1)
			ck_assert_int_eq(cache_sync_index(t->cache), 0);
		if (i % 3 == 2)
			cache_space_kick(t->cache);
		cache_flush_nr(t->cache);
	}
	return NULL;
}

/* With real threads behind it; for the thread sanitizer above all. */
START_TEST(all_at_once_and_then_closed)
{
	struct base_env *pool = base_pool_new(2);
	pthread_t threads[8];

	test_cache_close(t);
	t->config.env = pool;
	test_cache_open(t);
	cache_start(t->cache);
	for (uintptr_t i = 0; i < 8; i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, use_often, (void *)i),
			0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_le(test_used(t), LIMIT);
	test_cache_close(t);
	base_pool_stop(pool);
	base_pool_free(pool);
	t->config.env = &t->env.env;
	test_cache_open(t);
	ck_assert_uint_eq(test_used(t), test_du(t));
}
END_TEST

START_TEST(touches_beyond_the_table_are_bounded)
{
	for (uint64_t ino = 1000; ino < 21000; ino++)
		cache_touch(t->cache, ino);
	ck_assert_int_eq(cache_use_flush(t->cache), 0);
	ck_assert_int_eq(cache_space_reserve(t->cache, LIMIT), 0);
	cache_space_release(t->cache, LIMIT);
}
END_TEST

/* ---- limits ---- */

START_TEST(writers_wait_above_the_dirty_limit)
{
	test_cache_close(t);
	t->config.dirty_limit = 4 * FILE_BYTES;
	test_cache_open(t);
	ck_assert(cache_space_may_write(t->cache, 4 * FILE_BYTES - 1));
	ck_assert(!cache_space_may_write(t->cache, 4 * FILE_BYTES));
}
END_TEST

START_TEST(dirty_limit_is_within_the_limit)
{
	struct cache_space space;

	test_cache_close(t);
	t->config.dirty_limit = 50;
	t->config.dirty_limit_percent = true;
	test_cache_open(t);
	cache_space_get(t->cache, &space);
	ck_assert_uint_eq(space.dirty_limit_bytes, LIMIT);
}
END_TEST

START_TEST(percentages_are_of_the_file_system)
{
	struct cache_space space;

	test_cache_close(t);
	t->config.limit = 50;
	t->config.limit_percent = true;
	t->config.reserve = 1;
	t->config.reserve_percent = true;
	test_cache_open(t);
	cache_space_get(t->cache, &space);
	ck_assert_uint_eq(space.limit_bytes / 100,
		(space.fs_total_bytes / 100 * 50) / 100);
	ck_assert_uint_eq(
		space.reserve_bytes / MIB, (space.fs_total_bytes / 100) / MIB);
	ck_assert_uint_gt(space.fs_files, 0);
}
END_TEST

START_TEST(reserve_of_the_disk_is_kept_free)
{
	struct cache_space space;

	cache_space_get(t->cache, &space);
	test_cache_close(t);
	t->config.reserve = space.fs_total_bytes;
	test_cache_open(t);
	ck_assert_int_eq(cache_space_reserve(t->cache, 1), -ENOSPC);
	ck_assert(!cache_space_may_write(t->cache, 0));
}
END_TEST

/* ---- ballast ---- */

static bool has_ballast(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/ballast", t->dir);
	return access(path, F_OK) == 0;
}

START_TEST(ballast_goes_and_comes_back)
{
	if (!has_ballast())
		return; /* no room here, or no fallocate */
	ck_assert(!cache_ballast_missing(t->cache));
	ck_assert(cache_ballast_release(t->cache));
	ck_assert(!has_ballast());
	ck_assert(cache_ballast_missing(t->cache));
	ck_assert(!cache_ballast_release(t->cache));
	cache_ballast_renew(t->cache);
	ck_assert(has_ballast());
	ck_assert(!cache_ballast_missing(t->cache));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_space");
	TCase *tc = tcase_create("space");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, used_matches_du);
	tcase_add_test(tc, used_matches_du_with_kept_states);
	tcase_add_test(tc, aborted_change_does_not_count);
	tcase_add_test(tc, account_follows_a_growing_file);
	tcase_add_test(tc, reserve_counts_inflight);
	tcase_add_test(tc, reserve_above_the_limit_evicts_nothing);
	tcase_add_test(tc, reserve_evicts_no_more_than_needed);
	tcase_add_test(tc, parallel_fetches_never_overshoot);
	tcase_add_test(tc, background_evicts_to_the_low_mark);
	tcase_add_test(tc, all_at_once_and_then_closed);
	tcase_add_test(tc, touches_beyond_the_table_are_bounded);
	tcase_add_test(tc, writers_wait_above_the_dirty_limit);
	tcase_add_test(tc, dirty_limit_is_within_the_limit);
	tcase_add_test(tc, percentages_are_of_the_file_system);
	tcase_add_test(tc, reserve_of_the_disk_is_kept_free);
	tcase_add_test(tc, ballast_goes_and_comes_back);
	suite_add_tcase(suite, tc);
	return test_main(suite);
}
