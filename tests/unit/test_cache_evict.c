/* Eviction: what may go, in which order, and that it ends. */
#include <sys/mman.h>

#include "tests/unit/cache_disk.h"

#define FILE_BYTES (64 * KIB)

static struct test_cache *t;

static void setup(void)
{
	t = test_cache_new(16 * FILE_BYTES);
}

static void teardown(void)
{
	test_cache_free(t);
	t = NULL;
}

/* ---- what may go ---- */

START_TEST(evict_drops_clean_file)
{
	uint64_t ino = test_file(t, FILE_BYTES), bytes = 0;

	ck_assert_int_eq(cache_evict_inode(t->cache, ino, &bytes), 0);
	ck_assert_uint_eq(bytes, FILE_BYTES);
	ck_assert(!test_is_local(t, ino));
	ck_assert_uint_eq(test_du(t), 0);
	ck_assert_uint_eq(test_used(t), 0);
	ck_assert_int_eq(t->claims, 0);
	/* Once more: nothing is local. */
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, &bytes), 0);
	ck_assert_uint_eq(bytes, 0);
}
END_TEST

START_TEST(evict_skips_dirty_file)
{
	struct cache_inode inode;
	uint64_t ino = test_file(t, FILE_BYTES);

	inode = test_inode(t, ino);
	inode.stored = false;
	test_put(t, &inode);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	ck_assert(test_is_local(t, ino));
}
END_TEST

START_TEST(evict_skips_written_file)
{
	struct cache_inode inode;
	uint64_t ino = test_file(t, FILE_BYTES);

	inode = test_inode(t, ino);
	inode.written = true;
	test_put(t, &inode);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	ck_assert(test_is_local(t, ino));
}
END_TEST

START_TEST(evict_skips_owed_file)
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
	ck_assert_int_eq(cache_commit(txn), 0);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	txn = test_write(t);
	ck_assert_int_eq(cache_owed_del(txn, row.seq), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
}
END_TEST

static void pin(uint64_t ino, bool pinned)
{
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_pin_set(txn, ino, pinned), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
}

START_TEST(evict_skips_pinned)
{
	uint64_t ino = test_file(t, FILE_BYTES);

	pin(ino, true);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EPERM);
	pin(ino, false);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
}
END_TEST

START_TEST(evict_skips_file_below_pinned_directory)
{
	struct cache_inode dir = {
		.kind = CACHE_DIR, .mode = 0755, .nlink = 2
	};
	struct cache_txn *txn = test_write(t);
	uint64_t ino;

	ck_assert_int_eq(cache_inode_add(txn, &dir), 0);
	ck_assert_int_eq(
		cache_dentry_add(txn, CACHE_ROOT_INO, "d", dir.ino), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	ino = test_file_in(t, dir.ino, FILE_BYTES);
	pin(dir.ino, true);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EPERM);
	ck_assert(test_is_local(t, ino));
}
END_TEST

START_TEST(evict_skips_open_file)
{
	uint64_t ino = test_file(t, FILE_BYTES);

	t->open[t->open_nr++] = ino;
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	t->open_nr = 0;
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
}
END_TEST

/* A mapping outlives its descriptor, and nobody tells us. */
START_TEST(evict_skips_mapped_file)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	void *map;
	int fd;

	if (!cache_data_leases(t->cache))
		return;
	fd = cache_data_open(
		t->cache, ino, test_inode(t, ino).serial, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	map = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
	close(fd);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	ck_assert(test_is_local(t, ino));
	munmap(map, FILE_BYTES);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
}
END_TEST

START_TEST(evict_keeps_file_written_behind_our_back)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	char *path = cache_data_path(t->cache, ino, test_inode(t, ino).serial);
	int fd = open(path, O_WRONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, "new", 3, (off_t)FILE_BYTES), 3);
	close(fd);
	free(path);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
	ck_assert(test_is_local(t, ino));
	ck_assert(!test_inode(t, ino).stored);
}
END_TEST

START_TEST(evict_skips_unlinked_file)
{
	struct cache_inode inode;
	uint64_t ino = test_file(t, FILE_BYTES);

	inode = test_inode(t, ino);
	inode.nlink = 0;
	test_put(t, &inode);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), -EBUSY);
}
END_TEST

START_TEST(evict_forgets_file_whose_data_are_gone)
{
	uint64_t ino = test_file(t, FILE_BYTES);
	char *path = cache_data_path(t->cache, ino, test_inode(t, ino).serial);

	unlink(path);
	free(path);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
	ck_assert_int_eq(test_inode(t, ino).data, CACHE_NONE);
	ck_assert_uint_eq(test_used(t), 0);
}
END_TEST

/* ---- in which order ---- */

static void reserve(uint64_t bytes)
{
	ck_assert_int_eq(cache_space_reserve(t->cache, bytes), 0);
	cache_space_release(t->cache, bytes);
}

START_TEST(first_in_goes_first)
{
	uint64_t ino[16];

	for (int i = 0; i < 16; i++) {
		ino[i] = test_file(t, FILE_BYTES);
		cache_touch(t->cache, ino[i]);
		ck_assert_int_eq(cache_use_flush(t->cache), 0);
	}
	reserve(4 * FILE_BYTES);
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(test_is_local(t, ino[i]), i >= 4);
}
END_TEST

START_TEST(scan_does_not_flush_hot_files)
{
	uint64_t hot[4], ino;

	for (int i = 0; i < 4; i++) {
		hot[i] = test_file(t, FILE_BYTES);
		for (int uses = 0; uses < 4; uses++)
			cache_touch(t->cache, hot[i]);
	}
	/* Ten times the cache, each once. */
	for (int i = 0; i < 160; i++) {
		ck_assert_int_eq(cache_space_reserve(t->cache, FILE_BYTES), 0);
		ino = test_file(t, FILE_BYTES);
		cache_touch(t->cache, ino);
		cache_space_release(t->cache, FILE_BYTES);
		ck_assert_uint_le(test_used(t), 16 * FILE_BYTES);
	}
	for (int i = 0; i < 4; i++)
		ck_assert(test_is_local(t, hot[i]));
}
END_TEST

START_TEST(file_wanted_again_soon_enters_main)
{
	uint64_t ino = test_file(t, FILE_BYTES), one;

	for (int i = 0; i < 8; i++)
		test_file(t, FILE_BYTES);
	ck_assert_int_eq(cache_use_flush(t->cache), 0);
	ck_assert_int_eq(cache_evict_inode(t->cache, ino, NULL), 0);
	test_refetch(t, ino);
	cache_touch(t->cache, ino);
	for (int i = 0; i < 64; i++) {
		ck_assert_int_eq(cache_space_reserve(t->cache, FILE_BYTES), 0);
		one = test_file(t, FILE_BYTES);
		cache_touch(t->cache, one);
		cache_space_release(t->cache, FILE_BYTES);
	}
	ck_assert(test_is_local(t, ino));
}
END_TEST

START_TEST(used_files_go_when_nothing_else_is_left)
{
	for (int i = 0; i < 16; i++) {
		uint64_t ino = test_file(t, FILE_BYTES);

		for (int uses = 0; uses < 5; uses++)
			cache_touch(t->cache, ino);
	}
	reserve(16 * FILE_BYTES);
	ck_assert_uint_eq(test_used(t), 0);
}
END_TEST

START_TEST(open_file_is_found_again_later)
{
	uint64_t ino[16];

	for (int i = 0; i < 16; i++)
		ino[i] = test_file(t, FILE_BYTES);
	t->open[t->open_nr++] = ino[0];
	reserve(8 * FILE_BYTES);
	ck_assert(test_is_local(t, ino[0]));
	ck_assert_int_eq(
		cache_space_reserve(t->cache, 16 * FILE_BYTES), -ENOSPC);
	ck_assert_uint_eq(test_used(t), FILE_BYTES);
	t->open_nr = 0;
	cache_space_kick(t->cache);
	reserve(16 * FILE_BYTES);
	ck_assert(!test_is_local(t, ino[0]));
}
END_TEST

/* ---- it ends, and misses nobody ---- */

START_TEST(pass_ends_when_nothing_may_go)
{
	for (int i = 0; i < 16; i++)
		pin(test_file(t, FILE_BYTES), true);
	ck_assert_int_eq(cache_space_reserve(t->cache, FILE_BYTES), -ENOSPC);
	ck_assert_uint_eq(test_used(t), 16 * FILE_BYTES);
}
END_TEST

/* Parked while they could not go, taken back when they can. */
START_TEST(uploaded_and_unpinned_files_may_go)
{
	struct cache_inode inode;
	uint64_t ino[16];

	for (int i = 0; i < 16; i++) {
		ino[i] = test_file(t, FILE_BYTES);
		if (i < 8) {
			pin(ino[i], true);
			continue;
		}
		inode = test_inode(t, ino[i]);
		inode.stored = false;
		test_put(t, &inode);
	}
	ck_assert_int_eq(cache_space_reserve(t->cache, FILE_BYTES), -ENOSPC);
	inode = test_inode(t, ino[8]);
	inode.stored = true;
	test_put(t, &inode);
	reserve(FILE_BYTES);
	ck_assert(!test_is_local(t, ino[8]));
	pin(ino[0], false);
	reserve(2 * FILE_BYTES);
	ck_assert(!test_is_local(t, ino[0]));
	ck_assert_int_eq(
		cache_space_reserve(t->cache, 3 * FILE_BYTES), -ENOSPC);
}
END_TEST

/* More of them than one batch: seen when the pause is over. */
START_TEST(all_parked_files_are_looked_at_in_time)
{
	struct cache_inode inode;
	uint64_t ino[3 * CACHE_EVICT_BATCH];
	size_t nr = sizeof(ino) / sizeof(*ino);

	for (size_t i = 0; i < nr; i++) {
		ino[i] = test_file(t, 1);
		pin(ino[i], true);
	}
	inode = test_inode(t, ino[0]);
	ck_assert_uint_eq(test_used(t), nr * inode.local_bytes);
	ck_assert_int_eq(
		cache_space_reserve(t->cache, 16 * FILE_BYTES), -ENOSPC);
	pin(ino[nr - 1], false);
	t->env.offset_ns += 2000000000;
	ck_assert_int_eq(
		cache_space_reserve(t->cache, 16 * FILE_BYTES), -ENOSPC);
	ck_assert(!test_is_local(t, ino[nr - 1]));
}
END_TEST

START_TEST(files_missing_in_the_queues_are_found)
{
	struct cache_txn *txn;
	struct cache_query q;

	for (int i = 0; i < 16; i++)
		test_file(t, FILE_BYTES);
	ck_assert_int_eq(cache_use_flush(t->cache), 0);
	txn = test_write(t);
	cache_db_begin(&q, txn, "DELETE FROM used");
	ck_assert_int_eq(cache_db_run(&q), 0);
	ck_assert_int_eq(cache_commit(txn), 0);
	reserve(8 * FILE_BYTES);
	ck_assert_uint_eq(test_used(t), 8 * FILE_BYTES);
}
END_TEST

START_TEST(queues_survive_a_remount)
{
	uint64_t ino[16];

	for (int i = 0; i < 16; i++) {
		ino[i] = test_file(t, FILE_BYTES);
		cache_touch(t->cache, ino[i]);
		ck_assert_int_eq(cache_use_flush(t->cache), 0);
	}
	test_cache_close(t);
	test_cache_open(t);
	ck_assert_uint_eq(test_used(t), 16 * FILE_BYTES);
	reserve(4 * FILE_BYTES);
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(test_is_local(t, ino[i]), i >= 4);
}
END_TEST

START_TEST(no_step_walks_a_table)
{
	static const char *const statements[] = {
		"SELECT ino, place, uses FROM used WHERE queue = 1 "
		"AND place < 9 ORDER BY place LIMIT 64",
		"SELECT place FROM used WHERE queue = 1 ORDER BY place LIMIT 1",
		"SELECT 1 FROM owed WHERE ino = 1 LIMIT 1",
		"SELECT ino, kind = 1 AND data > 0 FROM inode WHERE ino > 1 "
		"ORDER BY ino LIMIT 4096",
	};
	struct cache_txn *txn = test_write(t);
	sqlite3_stmt *stmt;
	char sql[512];

	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
		snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s",
			statements[i]);
		ck_assert_int_eq(
			sqlite3_prepare_v2(txn->db, sql, -1, &stmt, NULL),
			SQLITE_OK);
		while (sqlite3_step(stmt) == SQLITE_ROW) {
			const char *plan =
				(const char *)sqlite3_column_text(stmt, 3);

			ck_assert_msg(strncmp(plan, "SEARCH", 6) == 0, "%s: %s",
				statements[i], plan);
		}
		sqlite3_finalize(stmt);
	}
	cache_abort(txn);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_evict");
	TCase *tc = tcase_create("evict");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, evict_drops_clean_file);
	tcase_add_test(tc, evict_skips_dirty_file);
	tcase_add_test(tc, evict_skips_written_file);
	tcase_add_test(tc, evict_skips_owed_file);
	tcase_add_test(tc, evict_skips_pinned);
	tcase_add_test(tc, evict_skips_file_below_pinned_directory);
	tcase_add_test(tc, evict_skips_open_file);
	tcase_add_test(tc, evict_skips_mapped_file);
	tcase_add_test(tc, evict_keeps_file_written_behind_our_back);
	tcase_add_test(tc, evict_skips_unlinked_file);
	tcase_add_test(tc, evict_forgets_file_whose_data_are_gone);
	tcase_add_test(tc, first_in_goes_first);
	tcase_add_test(tc, scan_does_not_flush_hot_files);
	tcase_add_test(tc, file_wanted_again_soon_enters_main);
	tcase_add_test(tc, used_files_go_when_nothing_else_is_left);
	tcase_add_test(tc, open_file_is_found_again_later);
	tcase_add_test(tc, pass_ends_when_nothing_may_go);
	tcase_add_test(tc, uploaded_and_unpinned_files_may_go);
	tcase_add_test(tc, all_parked_files_are_looked_at_in_time);
	tcase_add_test(tc, files_missing_in_the_queues_are_found);
	tcase_add_test(tc, queues_survive_a_remount);
	tcase_add_test(tc, no_step_walks_a_table);
	suite_add_tcase(suite, tc);
	return test_main(suite);
}
