/* Which bytes are local: extents, data files that come and go, recovery. */
#include "tests/unit/cache_index.h"

#define UNITS 400 /* of a file in the random test */

static uint64_t add_file(struct test_cache *t, uint64_t size, bool stored)
{
	struct cache_inode inode = { .kind = CACHE_FILE,
		.nlink = 1,
		.size_bytes = size,
		.stored = stored };
	struct cache_txn *txn = test_write(t);

	OK(cache_inode_add(txn, &inode));
	OK(cache_commit(txn));
	return inode.ino;
}

static enum cache_data fetch(
	struct test_cache *t, uint64_t ino, uint64_t start, uint64_t end)
{
	struct cache_txn *txn = test_write(t);
	enum cache_data data;

	OK(cache_extent_add(txn, ino, start, end, &data));
	OK(cache_commit(txn));
	return data;
}

/* Rows are in order, apart, and merged where one flush made them. */
static size_t check_rows(struct cache_txn *txn, uint64_t ino)
{
	struct cache_query q;
	uint64_t last_end = 0, last_nr = 0;
	uint64_t flush_nr = cache_flush_nr(txn->cache);
	size_t rows = 0;

	cache_db_begin(&q, txn,
		"SELECT start, end, flush_nr FROM extent WHERE ino = ? "
		"ORDER BY start");
	cache_db_bind_u64(&q, ino);
	while (cache_db_step(&q) > 0) {
		uint64_t start = cache_db_u64(&q), end = cache_db_u64(&q),
			 nr = cache_db_u64(&q);

		ck_assert_uint_lt(start, end);
		ck_assert_uint_ge(start, last_end);
		/* Durable ones need not be: they only may be. */
		if (rows != 0 && start == last_end && nr + 2 > flush_nr)
			ck_assert_uint_ne(nr, last_nr);
		last_end = end;
		last_nr = nr;
		rows++;
	}
	cache_db_end(&q, 0);
	return rows;
}

static void check_model(
	struct test_cache *t, uint64_t ino, const bool *have, unsigned *seed)
{
	struct cache_range missing[UNITS];
	struct cache_txn *txn = test_read(t);
	uint64_t start = (uint64_t)rand_r(seed) % UNITS;
	uint64_t end = start + (uint64_t)rand_r(seed) % (UNITS - start + 20);
	uint64_t bytes = 0, all = 0;
	ssize_t nr = cache_extent_missing(txn, ino, start, end, missing, UNITS);
	ssize_t k = 0;

	ck_assert_int_ge(nr, 0);
	for (uint64_t i = start; i < end && i < UNITS; i++) {
		bool miss = k < nr && i >= missing[k].start;

		ck_assert_int_eq(miss, !have[i]);
		if (k < nr && i + 1 == missing[k].end)
			k++;
	}
	ck_assert_int_eq(k, nr);
	OK(cache_extent_bytes(txn, ino, &bytes));
	for (int i = 0; i < UNITS; i++)
		all += have[i];
	ck_assert_uint_eq(bytes, all);
	check_rows(txn, ino);
	OK(cache_commit(txn));
}

START_TEST(extents_are_as_a_bitmap_says)
{
	struct test_cache *t = test_cache_new(MIB);

	for (unsigned round = 1; round <= 30; round++) {
		uint64_t ino = add_file(t, UNITS, true);
		bool have[UNITS] = { false };
		unsigned seed = round;
		enum cache_data data = CACHE_NONE;
		size_t left = UNITS;

		while (left != 0) {
			uint64_t start = (uint64_t)rand_r(&seed) % UNITS;
			uint64_t end = start + (uint64_t)rand_r(&seed) % 30;

			data = fetch(t, ino, start, end);
			for (uint64_t i = start; i < end && i < UNITS; i++) {
				left -= !have[i];
				have[i] = true;
			}
			ck_assert_int_eq(
				data, left == 0 ? CACHE_WHOLE : CACHE_PART);
			check_model(t, ino, have, &seed);
			if (rand_r(&seed) % 8 == 0)
				OK(cache_sync_flush(t->cache));
		}
		ck_assert_int_eq(test_inode(t, ino).data, CACHE_WHOLE);
	}
	test_cache_free(t);
}
END_TEST

START_TEST(stream_is_one_row)
{
	struct test_cache *t = test_cache_new(MIB);
	uint64_t ino = add_file(t, 1000 * MIB, true);
	struct cache_txn *txn;

	for (uint64_t i = 0; i < 100; i++)
		fetch(t, ino, i * MIB, (i + 1) * MIB);
	txn = test_read(t);
	ck_assert_uint_eq(check_rows(txn, ino), 1);
	OK(cache_commit(txn));
	/* Durable rows merge, too: their number does not grow with time. */
	for (uint64_t i = 100; i < 200; i++) {
		OK(cache_sync_flush(t->cache));
		fetch(t, ino, i * MIB, (i + 1) * MIB);
	}
	txn = test_read(t);
	ck_assert_uint_le(check_rows(txn, ino), 101);
	OK(cache_commit(txn));
	OK(cache_sync_flush(t->cache));
	fetch(t, ino, 0, 1);
	OK(cache_sync_flush(t->cache));
	fetch(t, ino, 0, 201 * MIB);
	txn = test_read(t);
	ck_assert_uint_le(check_rows(txn, ino), 3);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(empty_file_is_whole_at_once)
{
	struct test_cache *t = test_cache_new(MIB);
	uint64_t ino = add_file(t, 0, true);

	ck_assert_int_eq(fetch(t, ino, 0, 0), CACHE_WHOLE);
	test_cache_free(t);
}
END_TEST

START_TEST(missing_stops_at_max_and_at_the_end)
{
	struct test_cache *t = test_cache_new(MIB);
	uint64_t ino = add_file(t, 100, true);
	struct cache_range m[2];
	struct cache_txn *txn;

	for (uint64_t i = 10; i < 100; i += 20)
		fetch(t, ino, i, i + 10);
	txn = test_read(t);
	ck_assert_int_eq(cache_extent_missing(txn, ino, 0, 1000, m, 2), 2);
	ck_assert_uint_eq(m[1].start, 20);
	ck_assert_uint_eq(m[1].end, 30);
	ck_assert_int_eq(cache_extent_missing(txn, ino, 85, 1000, m, 2), 1);
	ck_assert_uint_eq(m[0].end, 90);
	ck_assert_int_eq(cache_extent_missing(txn, ino, 100, 1000, m, 2), 0);
	ck_assert_int_eq(cache_extent_missing(txn, 999, 0, 10, m, 2), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- data files ---- */

static uint64_t owe(struct test_cache *t, uint64_t ino)
{
	struct cache_txn *txn = test_write(t);
	struct cache_inode inode;
	char name[] = "f";
	struct cache_owed row = {
		.epoch = 1, .name = name, .kind = CACHE_FILE, .ino = ino
	};

	OK(cache_inode_get(txn, ino, &inode));
	row.serial = inode.serial;
	row.size_bytes = inode.size_bytes;
	row.content = inode.content;
	OK(cache_owed_add(txn, &row));
	OK(cache_commit(txn));
	return row.seq;
}

static bool file_exists(struct test_cache *t, uint64_t ino, uint64_t serial)
{
	test_run(&t->env);
	return cache_data_stat(t->cache, ino, serial, NULL, NULL) == 0;
}

START_TEST(dropped_bytes_are_gone_after_the_commit)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB);
	struct cache_inode was = test_inode(t, ino), is;
	struct cache_txn *txn = test_write(t);

	OK(cache_data_drop(txn, ino));
	ck_assert(file_exists(t, ino, was.serial));
	cache_abort(txn);
	ck_assert(file_exists(t, ino, was.serial));
	ck_assert_uint_gt(test_used(t), 0);

	txn = test_write(t);
	OK(cache_claim(txn, ino));
	OK(cache_data_drop(txn, ino));
	OK(cache_commit(txn));
	is = test_inode(t, ino);
	ck_assert_int_eq(is.data, CACHE_NONE);
	ck_assert_uint_gt(is.serial, was.serial);
	ck_assert_uint_eq(is.local_bytes, 0);
	ck_assert_uint_eq(is.size_bytes, was.size_bytes);
	ck_assert(!file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), 0);
	/* And fetched again. */
	ck_assert_int_eq(fetch(t, ino, 0, 64 * KIB), CACHE_WHOLE);
	test_cache_free(t);
}
END_TEST

START_TEST(truncation_keeps_the_state_that_is_owed)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB);
	struct cache_inode was = test_inode(t, ino), inode = was;
	uint64_t used = test_used(t), seq = owe(t, ino);
	struct cache_txn *txn = test_write(t);

	OK(cache_data_renew(txn, &inode));
	ck_assert_uint_eq(inode.size_bytes, 0);
	ck_assert_int_eq(inode.data, CACHE_WHOLE);
	ck_assert(!inode.stored);
	OK(cache_commit(txn));
	ck_assert(file_exists(t, ino, was.serial));
	/* Kept bytes count, also after a restart that has to count. */
	ck_assert_uint_eq(test_used(t), used);
	test_cache_close(t);
	test_sql(t,
		"UPDATE meta SET value = 0 "
		"WHERE key = CAST('clean' AS BLOB)");
	test_reopen(t);
	ck_assert_uint_eq(test_used(t), used);

	txn = test_write(t);
	OK(cache_owed_del(txn, seq));
	OK(cache_commit(txn));
	ck_assert(!file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), 0);
	test_cache_free(t);
}
END_TEST

START_TEST(two_rows_keep_one_file)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB);
	struct cache_inode was = test_inode(t, ino), inode = was;
	uint64_t used = test_used(t), a = owe(t, ino), b = owe(t, ino);
	struct cache_txn *txn = test_write(t);

	OK(cache_data_renew(txn, &inode));
	OK(cache_owed_del(txn, a));
	OK(cache_commit(txn));
	ck_assert(file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), used);
	txn = test_write(t);
	OK(cache_owed_del(txn, b));
	OK(cache_commit(txn));
	ck_assert(!file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), 0);
	test_cache_free(t);
}
END_TEST

START_TEST(row_that_takes_new_content_lets_go_of_the_old)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB);
	struct cache_inode was = test_inode(t, ino), inode = was;
	uint64_t seq = owe(t, ino);
	struct cache_txn *txn = test_write(t);
	struct cache_owed row;

	OK(cache_data_renew(txn, &inode));
	OK(cache_owed_get(txn, seq, &row));
	row.serial = inode.serial;
	OK(cache_owed_put(txn, &row));
	cache_owed_fini(&row);
	OK(cache_commit(txn));
	ck_assert(!file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), 0);
	test_cache_free(t);
}
END_TEST

START_TEST(copy_of_an_owed_state_is_kept_by_its_row)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB), epoch = 0;
	struct cache_inode inode = test_inode(t, ino);
	uint64_t used = test_used(t), seq = owe(t, ino);
	uint64_t kept = inode.serial_top + 1;
	struct cache_txn *txn;
	bool refers = false;

	OK(cache_data_clone(t->cache, ino, inode.serial, kept, MIB));
	txn = test_write(t);
	OK(cache_owed_refers(txn, ino, inode.serial, &refers));
	ck_assert(refers);
	OK(cache_owed_first_of(txn, ino, inode.serial, &epoch));
	ck_assert_uint_eq(epoch, 1);
	OK(cache_owed_repoint(txn, ino, inode.serial, kept));
	inode.serial_top = kept;
	OK(cache_inode_put(txn, &inode));
	OK(cache_owed_refers(txn, ino, inode.serial, &refers));
	ck_assert(!refers);
	OK(cache_commit(txn));
	ck_assert(file_exists(t, ino, kept));
	ck_assert_uint_eq(test_used(t), used + 64 * KIB);
	txn = test_write(t);
	OK(cache_owed_del(txn, seq));
	OK(cache_commit(txn));
	ck_assert(!file_exists(t, ino, kept));
	ck_assert(file_exists(t, ino, inode.serial));
	ck_assert_uint_eq(test_used(t), used);
	test_cache_free(t);
}
END_TEST

START_TEST(row_of_an_overtaken_state_does_not_get_a_newer_one)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB);
	struct cache_inode inode = test_inode(t, ino);
	uint64_t used, kept = inode.serial_top + 1;
	struct cache_txn *txn;
	bool refers = false;

	owe(t, ino);
	used = test_used(t);
	txn = test_write(t);
	cache_id_new(t->cache, &inode.content); /* changed in place */
	inode.serial_top = kept;
	OK(cache_inode_put(txn, &inode));
	OK(cache_commit(txn));
	OK(cache_data_clone(t->cache, ino, inode.serial, kept, MIB));
	txn = test_write(t);
	OK(cache_owed_repoint(txn, ino, inode.serial, kept));
	OK(cache_owed_refers(txn, ino, inode.serial, &refers));
	OK(cache_commit(txn));
	ck_assert(refers);
	ck_assert(!file_exists(t, ino, kept));
	ck_assert_uint_eq(test_used(t), used);
	test_cache_free(t);
}
END_TEST

START_TEST(held_inode_goes_with_its_last_row)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t ino = test_file(t, 64 * KIB), seq = owe(t, ino);
	struct cache_inode was = test_inode(t, ino), inode;
	struct cache_txn *txn = test_write(t);
	bool gone = true;
	char name[32];

	snprintf(name, sizeof(name), "f%llu", (unsigned long long)ino);
	OK(cache_dentry_del(txn, CACHE_ROOT_INO, name));
	OK(cache_held_add(txn, ino));
	OK(cache_held_put(txn, ino, false, &gone));
	ck_assert(!gone);
	/* Open: it stays when the row goes. */
	t->open[t->open_nr++] = ino;
	OK(cache_owed_del(txn, seq));
	OK(cache_inode_get(txn, ino, &inode));
	cache_abort(txn);
	t->open_nr = 0;
	txn = test_write(t);
	OK(cache_held_add(txn, ino));
	OK(cache_owed_del(txn, seq));
	ck_assert_int_eq(cache_inode_get(txn, ino, &inode), -ENOENT);
	OK(cache_commit(txn));
	ck_assert(!file_exists(t, ino, was.serial));
	ck_assert_uint_eq(test_used(t), 0);
	test_cache_free(t);
}
END_TEST

/* ---- power cuts ---- */

static uint64_t fresh_ino, old_ino, dirty_ino, part_ino, late_ino;

/* old: fetched and flushed.  fresh: fetched, not flushed.  dirty: written
 * here.  part: half flushed.  late: whole, the second half not flushed. */
static void fetch_some(struct test_cache *t)
{
	struct cache_txn *txn;
	struct cache_inode inode;

	fetch(t, old_ino, 0, 100);
	fetch(t, part_ino, 0, 50);
	fetch(t, late_ino, 0, 50);
	OK(cache_sync_flush(t->cache));
	fetch(t, fresh_ino, 0, 100);
	fetch(t, part_ino, 50, 70);
	fetch(t, late_ino, 50, 100);
	fetch(t, dirty_ino, 0, 100);
	txn = test_write(t);
	OK(cache_inode_get(txn, dirty_ino, &inode));
	ck_assert_int_eq(inode.data, CACHE_WHOLE);
	inode.stored = false;
	inode.gen = 1;
	OK(cache_inode_put(txn, &inode));
	OK(cache_commit(txn));
}

static void make_five(struct test_cache *t)
{
	fresh_ino = add_file(t, 100, true);
	old_ino = add_file(t, 100, true);
	dirty_ino = add_file(t, 100, true);
	part_ino = add_file(t, 100, true);
	late_ino = add_file(t, 100, true);
}

static uint64_t local_bytes_of(struct test_cache *t, uint64_t ino)
{
	struct cache_txn *txn = test_read(t);
	uint64_t bytes;

	OK(cache_extent_bytes(txn, ino, &bytes));
	OK(cache_commit(txn));
	return bytes;
}

START_TEST(power_cut_takes_back_what_was_not_flushed)
{
	struct test_cache *t = test_cache_new(MIB);

	make_five(t);
	test_cache_close(t);
	test_crash(t, fetch_some);
	test_reboot(t);
	ck_assert(test_reopen(t).unclean);
	ck_assert_int_eq(test_inode(t, old_ino).data, CACHE_WHOLE);
	ck_assert_int_eq(test_inode(t, fresh_ino).data, CACHE_NONE);
	ck_assert_int_eq(test_inode(t, dirty_ino).data, CACHE_WHOLE);
	ck_assert_int_eq(test_inode(t, part_ino).data, CACHE_PART);
	ck_assert_uint_eq(local_bytes_of(t, part_ino), 50);
	ck_assert_int_eq(test_inode(t, late_ino).data, CACHE_PART);
	ck_assert_uint_eq(local_bytes_of(t, late_ino), 50);
	ck_assert_int_eq(fetch(t, late_ino, 50, 100), CACHE_WHOLE);
	test_cache_free(t);
}
END_TEST

START_TEST(death_of_the_process_takes_nothing_back)
{
	struct test_cache *t = test_cache_new(MIB);

	make_five(t);
	test_cache_close(t);
	test_crash(t, fetch_some);
	test_reopen(t);
	ck_assert_int_eq(test_inode(t, fresh_ino).data, CACHE_WHOLE);
	ck_assert_int_eq(test_inode(t, late_ino).data, CACHE_WHOLE);
	ck_assert_uint_eq(local_bytes_of(t, part_ino), 70);
	/* Nor does a boot after a clean close. */
	test_cache_close(t);
	test_reboot(t);
	test_reopen(t);
	ck_assert_int_eq(test_inode(t, fresh_ino).data, CACHE_WHOLE);
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_local");
	TCase *c = tcase_create("local");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, extents_are_as_a_bitmap_says);
	tcase_add_test(c, stream_is_one_row);
	tcase_add_test(c, empty_file_is_whole_at_once);
	tcase_add_test(c, missing_stops_at_max_and_at_the_end);
	tcase_add_test(c, dropped_bytes_are_gone_after_the_commit);
	tcase_add_test(c, truncation_keeps_the_state_that_is_owed);
	tcase_add_test(c, two_rows_keep_one_file);
	tcase_add_test(c, row_that_takes_new_content_lets_go_of_the_old);
	tcase_add_test(c, copy_of_an_owed_state_is_kept_by_its_row);
	tcase_add_test(c, row_of_an_overtaken_state_does_not_get_a_newer_one);
	tcase_add_test(c, held_inode_goes_with_its_last_row);
	tcase_add_test(c, power_cut_takes_back_what_was_not_flushed);
	tcase_add_test(c, death_of_the_process_takes_nothing_back);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
