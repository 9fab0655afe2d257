/* Transactions of the index, and what is numbered and kept in them. */
#include "tests/unit/cache_index.h"

START_TEST(abort_takes_everything_back)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_inode inode = { .kind = CACHE_FILE, .local_bytes = 5 };
	struct cache_txn *txn = test_write(t);
	uint64_t ino;

	OK(cache_inode_add(txn, &inode));
	ino = inode.ino;
	OK(cache_dentry_add(txn, CACHE_ROOT_INO, "a", inode.ino));
	cache_abort(txn);
	ck_assert(!test_has_name(t, "a"));
	ck_assert_uint_eq(test_counts(t).inodes, 1);
	ck_assert_uint_eq(test_used(t), 0);
	/* But its number is gone. */
	ck_assert_uint_gt(test_add_dir(t, "b"), ino);
	test_cache_free(t);
}
END_TEST

START_TEST(readers_see_the_last_commit)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *old = test_read(t), *writer;
	struct cache_inode inode;

	OK(cache_inode_get(old, CACHE_ROOT_INO, &inode));
	writer = test_write(t);
	inode.nlink = 77;
	OK(cache_inode_put(writer, &inode));
	ck_assert_uint_eq(test_inode(t, CACHE_ROOT_INO).nlink, 2);
	OK(cache_commit(writer));
	ck_assert_uint_eq(test_inode(t, CACHE_ROOT_INO).nlink, 77);
	OK(cache_inode_get(old, CACHE_ROOT_INO, &inode));
	ck_assert_uint_eq(inode.nlink, 2);
	OK(cache_commit(old));
	test_cache_free(t);
}
END_TEST

static uint64_t last_ino;

static void make_many(struct test_cache *t)
{
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "m%d", i);
		test_add_dir(t, name);
	}
}

START_TEST(numbers_are_given_once)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn;
	uint64_t a, b, number, commits[3];
	struct cache_inode inode;

	last_ino = test_add_dir(t, "a");
	a = last_ino;
	for (int i = 0; i < 5000; i++) {
		txn = test_write(t);
		OK(cache_db_number(txn, CACHE_COUNT_INO, &number));
		ck_assert_uint_gt(number, last_ino);
		last_ino = number;
		if (i % 3 == 0)
			cache_abort(txn);
		else
			OK(cache_commit(txn));
	}
	b = test_add_dir(t, "b");
	ck_assert_uint_gt(b, a);
	txn = test_write(t);
	OK(cache_inode_del(txn, b));
	OK(cache_dentry_del(txn, CACHE_ROOT_INO, "b"));
	OK(cache_commit_number(txn, &commits[0]));
	OK(cache_commit(txn));
	test_cache_close(t);

	test_crash(t, make_many);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_resolve(txn, "m99", &inode));
	OK(cache_commit(txn));
	ck_assert_uint_gt(test_add_dir(t, "c"), inode.ino);
	txn = test_write(t);
	OK(cache_commit_number(txn, &commits[1]));
	OK(cache_commit_number(txn, &commits[2]));
	OK(cache_commit(txn));
	ck_assert_uint_gt(commits[1], commits[0]);
	ck_assert_uint_gt(commits[2], commits[1]);
	test_cache_free(t);
}
END_TEST

START_TEST(claims_end_with_their_transaction)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);

	t->open[t->open_nr++] = 99;
	ck_assert_int_eq(cache_claim(txn, 99), -EBUSY);
	OK(cache_claim(txn, 100));
	OK(cache_claim(txn, 100));
	ck_assert_int_eq(t->claims, 1);
	cache_abort(txn);
	ck_assert_int_eq(t->claims, 0);
	txn = test_write(t);
	OK(cache_claim(txn, 100));
	OK(cache_commit(txn));
	ck_assert_int_eq(t->claims, 0);
	test_cache_free(t);
}
END_TEST

START_TEST(settings_are_kept)
{
	struct test_cache *t = test_cache_new(MIB);
	struct base_str s = BASE_STR_INIT;
	struct cache_txn *txn = test_write(t);
	uint64_t value = 7;

	OK(cache_meta_get_u64(txn, "epoch", &value));
	ck_assert_uint_eq(value, 0);
	ck_assert_int_eq(cache_meta_get_text(txn, "store_id", &s), -ENOENT);
	OK(cache_meta_set_u64(txn, "epoch", UINT64_MAX));
	OK(cache_meta_set_text(txn, "store_id", "abc"));
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_meta_get_u64(txn, "epoch", &value));
	ck_assert_uint_eq(value, UINT64_MAX);
	OK(cache_meta_get_text(txn, "store_id", &s));
	ck_assert_str_eq(s.data, "abc");
	OK(cache_commit(txn));
	base_str_fini(&s);
	test_cache_free(t);
}
END_TEST

#define THREADS 24 /* more than connections */
#define ROUNDS 300

struct worker {
	struct test_cache *t;
	pthread_t thread;
	unsigned nr;
};

/* The writer keeps nlink == uid in one inode: readers never see them differ. */
static void *read_pairs(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct cache_txn *txn = test_read(w->t);
		struct cache_inode a, b;

		OK(cache_inode_get(txn, CACHE_ROOT_INO, &a));
		OK(cache_inode_get(txn, last_ino, &b));
		ck_assert_uint_eq(a.rdev, b.rdev);
		OK(cache_commit(txn));
	}
	return NULL;
}

static void *write_pairs(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct cache_txn *txn = test_write(w->t);
		struct cache_inode a, b;

		OK(cache_inode_get(txn, CACHE_ROOT_INO, &a));
		OK(cache_inode_get(txn, last_ino, &b));
		a.rdev++;
		b.rdev++;
		OK(cache_inode_put(txn, &a));
		OK(cache_inode_put(txn, &b));
		if (i % 5 == 0) {
			cache_abort(txn);
			continue;
		}
		OK(cache_commit(txn));
		if (i % 50 == 0)
			OK(cache_sync_index(w->t->cache));
	}
	return NULL;
}

START_TEST(transactions_of_many_threads_are_whole)
{
	struct test_cache *t = test_cache_new(MIB);
	struct worker workers[THREADS];

	last_ino = test_add_dir(t, "d");
	cache_start(t->cache);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .t = t, .nr = i };
		OK(pthread_create(&workers[i].thread, NULL,
			i % 8 == 0 ? write_pairs : read_pairs, &workers[i]));
	}
	for (unsigned i = 0; i < THREADS; i++)
		OK(pthread_join(workers[i].thread, NULL));
	ck_assert_uint_eq(test_inode(t, last_ino).rdev,
		THREADS / 8 * (ROUNDS - ROUNDS / 5));
	ck_assert_uint_le(t->cache->readers_nr, CACHE_READERS_MAX);
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_txn");
	TCase *c = tcase_create("transactions");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, abort_takes_everything_back);
	tcase_add_test(c, readers_see_the_last_commit);
	tcase_add_test(c, numbers_are_given_once);
	tcase_add_test(c, claims_end_with_their_transaction);
	tcase_add_test(c, settings_are_kept);
	tcase_add_test(c, transactions_of_many_threads_are_whole);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
