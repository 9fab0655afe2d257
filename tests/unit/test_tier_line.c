/* The line, the reconciler and the merge, on a `dir:` store. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/rig.h"

static struct rig rig;

static void setup(void)
{
	rig_init(&rig);
	rig_open(&rig);
	ck_assert_int_eq(rig_refresh(&rig, ""), 0);
}

static void teardown(void)
{
	rig_fini(&rig);
}

static void assert_store(const char *path, const char *want)
{
	char *got = rig_store_read(&rig, path);

	if (want == NULL)
		ck_assert_msg(got == NULL, "%s is there", path);
	else
		ck_assert_msg(got != NULL && strcmp(got, want) == 0,
			"%s: got %s, wanted %s", path, got ? got : "nothing",
			want);
	free(got);
}

static uint64_t groups(void)
{
	struct tier_status status;

	ck_assert_int_eq(tier_status(rig.tier, &status), 0);
	return status.groups;
}

static uint64_t pending(void)
{
	struct tier_status status;

	ck_assert_int_eq(tier_status(rig.tier, &status), 0);
	return status.pending;
}

START_TEST(a_written_file_arrives)
{
	rig_write(&rig, "a", "hello");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", "hello");
	ck_assert_uint_eq(pending(), 0);
}
END_TEST

START_TEST(many_small_files_arrive)
{
	char name[32], text[32];

	rig_mkdir(&rig, "d");
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "d/%03d", i);
		snprintf(text, sizeof(text), "text %d", i);
		rig_write(&rig, name, text);
	}
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("d/000", "text 0");
	assert_store("d/299", "text 299");
	ck_assert_uint_eq(groups(), 0);
}
END_TEST

static uint64_t epoch_of(const char *path)
{
	struct cache_owed row;
	struct cache_txn *txn;
	uint64_t epoch = 0;

	ck_assert_int_eq(cache_read(rig.cache, &txn), 0);
	if (cache_owed_newest_unsent(txn, path, &row) == 0) {
		epoch = row.epoch;
		cache_owed_fini(&row);
	}
	cache_abort(txn);
	return epoch;
}

/* O4: however many others are made meanwhile. */
START_TEST(new_names_of_different_times_have_an_order)
{
	int64_t end = base_boot_ns(rig.env) + 250 * 1000000ll;
	uint64_t first;
	char name[32];

	rig_write(&rig, "first", "x");
	first = epoch_of("first");
	ck_assert_uint_ne(first, 0);
	for (int i = 0; base_boot_ns(rig.env) < end; i++) {
		snprintf(name, sizeof(name), "other-%d", i);
		rig_write(&rig, name, "x");
		usleep(20 * 1000);
	}
	rig_write(&rig, "last", "x");
	ck_assert_uint_gt(epoch_of("last"), first);
}
END_TEST

START_TEST(a_replacement_arrives)
{
	rig_write(&rig, "a", "one");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_write(&rig, "a", "two");
	ck_assert_int_eq(rig_flush(&rig, "a"), 0);
	assert_store("a", "two");
}
END_TEST

START_TEST(a_deleted_file_goes)
{
	rig_write(&rig, "a", "one");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_unlink(&rig, "a");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", NULL);
	ck_assert_uint_eq(pending(), 0);
}
END_TEST

START_TEST(a_temporary_file_costs_nothing)
{
	struct tier_status status;

	rig_write(&rig, "tmp", "one");
	rig_unlink(&rig, "tmp");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("tmp", NULL);
	tier_status(rig.tier, &status);
	ck_assert_uint_eq(status.sent_bytes, 0);
	ck_assert_uint_eq(status.groups, 0);
}
END_TEST

START_TEST(temp_write_rename_uploads_once)
{
	struct tier_status status;

	rig_write(&rig, "ckpt", "old");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_write(&rig, "ckpt.tmp", "brand new");
	rig_chmod(&rig, "ckpt.tmp", 0600);
	rig_rename(&rig, "ckpt.tmp", "ckpt");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("ckpt", "brand new");
	assert_store("ckpt.tmp", NULL);
	tier_status(rig.tier, &status);
	ck_assert_uint_eq(status.sent_bytes, 3 + 9);
	ck_assert_uint_eq(status.groups, 0);
}
END_TEST

START_TEST(a_sent_file_is_renamed)
{
	rig_write(&rig, "a", "one");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_rename(&rig, "a", "b");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", NULL);
	assert_store("b", "one");
}
END_TEST

START_TEST(a_chain_of_renames_ends_right)
{
	rig_write(&rig, "a", "A");
	rig_write(&rig, "b", "B");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_rename(&rig, "a", "t");
	rig_rename(&rig, "b", "a");
	rig_rename(&rig, "t", "b");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", "B");
	assert_store("b", "A");
	assert_store("t", NULL);
}
END_TEST

START_TEST(a_directory_is_renamed_with_all_in_it)
{
	char name[32];

	rig_mkdir(&rig, "d");
	rig_mkdir(&rig, "d/e");
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "d/e/%d", i);
		rig_write(&rig, name, name);
	}
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_write(&rig, "d/new", "new");
	rig_rename(&rig, "d", "f");
	rig_write(&rig, "f/e/0", "changed");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("f/e/1", "d/e/1");
	assert_store("f/e/0", "changed");
	assert_store("f/new", "new");
	assert_store("d/e/1", NULL);
	ck_assert_int_ne(access(rig.store_path, F_OK), -1);
	/* The rename's own row goes last. */
	while (pending() != 0)
		usleep(1000);
}
END_TEST

static bool is_here(const char *path)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err;

	ck_assert_int_eq(cache_read(rig.cache, &txn), 0);
	err = cache_resolve(txn, path, &inode);
	cache_abort(txn);
	ck_assert(err == 0 || err == -ENOENT);
	return err == 0;
}

/* The deletion of its old name once made it look as if it was never sent. */
START_TEST(a_renamed_directory_that_others_remove_goes)
{
	char path[512];

	rig_mkdir(&rig, "d");
	rig_mkdir(&rig, "d/e");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_rename(&rig, "d", "f");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	while (pending() != 0)
		usleep(1000);
	ck_assert(is_here("f/e"));
	snprintf(path, sizeof(path), "%s/f/e", rig.store_path);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(rig_refresh(&rig, "f"), 0);
	ck_assert(!is_here("f/e"));
}
END_TEST

START_TEST(a_foreign_file_is_read)
{
	char *got;

	rig_store_write(&rig, "f", "from elsewhere");
	ck_assert_int_eq(rig_refresh(&rig, ""), 0);
	got = rig_read(&rig, "f");
	ck_assert_ptr_nonnull(got);
	ck_assert_str_eq(got, "from elsewhere");
	free(got);
}
END_TEST

START_TEST(a_foreign_change_is_seen)
{
	char *got;

	rig_store_write(&rig, "f", "one");
	ck_assert_int_eq(rig_refresh(&rig, ""), 0);
	free(rig_read(&rig, "f"));
	rig_store_write(&rig, "f", "number two");
	ck_assert_int_eq(rig_refresh(&rig, ""), 0);
	got = rig_read(&rig, "f");
	ck_assert_str_eq(got, "number two");
	free(got);
}
END_TEST

START_TEST(edit_against_edit_keeps_both)
{
	struct tier_status status;

	rig_write(&rig, "a.txt", "base");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_store_write(&rig, "a.txt", "theirs");
	rig_write(&rig, "a.txt", "mine");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a.txt", "theirs");
	tier_status(rig.tier, &status);
	ck_assert_uint_eq(status.conflicts, 1);
	ck_assert_uint_eq(status.pending, 0);
}
END_TEST

static int take_copy(void *arg, const struct cache_conflict *conflict)
{
	snprintf(arg, 1024, "%s", conflict->copy);
	return 0;
}

START_TEST(taking_the_copy_away_settles_the_conflict)
{
	struct tier_status status;
	struct cache_txn *txn;
	char copy[1024] = "";

	rig_write(&rig, "a.txt", "base");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_store_write(&rig, "a.txt", "theirs");
	rig_write(&rig, "a.txt", "mine");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	ck_assert_int_eq(cache_read(rig.cache, &txn), 0);
	ck_assert_int_eq(cache_conflict_each(txn, take_copy, copy), 0);
	cache_abort(txn);
	ck_assert_str_ne(copy, "");
	rig_unlink(&rig, copy);
	tier_status(rig.tier, &status);
	ck_assert_uint_eq(status.conflicts, 0);
}
END_TEST

/* The listing still has the file; the directory is owed. */
START_TEST(a_directory_in_place_of_a_file_casts_no_shadow)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	rig_write(&rig, "a", "file");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_unlink(&rig, "a");
	rig_mkdir(&rig, "a");
	ck_assert_int_eq(rig_refresh(&rig, ""), 0);
	ck_assert_int_eq(cache_read(rig.cache, &txn), 0);
	ck_assert_int_eq(cache_resolve(txn,
				 "a\xe2\x80\x9b"
				 "blob",
				 &inode),
		-ENOENT);
	cache_abort(txn);
}
END_TEST

START_TEST(reserved_names_are_refused)
{
	ck_assert_int_eq(tier_name_check(rig.tier, ".forebay"), -EPERM);
	ck_assert_int_eq(tier_name_check(rig.tier, ".forebay/id"), -EPERM);
	ck_assert_int_eq(tier_name_check(rig.tier, ".forebays"), 0);
	ck_assert_int_eq(tier_name_check(rig.tier, "d/.forebay"), 0);
	ck_assert_int_eq(tier_name_check(rig.tier,
				 "x\xe2\x80\x9b"
				 "blob"),
		-EINVAL);
}
END_TEST

START_TEST(local_delete_remote_edit_keeps_theirs)
{
	char *got;

	rig_write(&rig, "a", "base");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	rig_store_write(&rig, "a", "theirs");
	rig_unlink(&rig, "a");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", "theirs");
	got = rig_read(&rig, "a");
	ck_assert_ptr_nonnull(got);
	ck_assert_str_eq(got, "theirs");
	free(got);
}
END_TEST

START_TEST(remote_delete_local_edit_is_made_again)
{
	char path[512];

	rig_write(&rig, "a", "base");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	snprintf(path, sizeof(path), "%s/a", rig.store_path);
	ck_assert_int_eq(unlink(path), 0);
	rig_write(&rig, "a", "mine");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", "mine");
}
END_TEST

START_TEST(what_is_owed_survives_a_close)
{
	rig_write(&rig, "a", "hello");
	rig_close(&rig);
	assert_store("a", NULL);
	rig_open(&rig);
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	assert_store("a", "hello");
}
END_TEST

START_TEST(a_large_file_is_staged_and_sent_again_in_part)
{
	size_t size = 24 << 20;
	char *text = malloc(size + 1), *got;
	struct tier_status before, after;

	for (size_t i = 0; i < size; i++)
		text[i] = (char)('a' + (i / 4096 * 7 + i) % 26);
	text[size] = '\0';
	rig_write(&rig, "big", text);
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	got = rig_store_read(&rig, "big");
	ck_assert_ptr_nonnull(got);
	ck_assert_int_eq(strcmp(got, text), 0);
	free(got);
	tier_status(rig.tier, &before);
	text[9 << 20] = 'Z';
	rig_write(&rig, "big", text);
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	tier_status(rig.tier, &after);
	got = rig_store_read(&rig, "big");
	ck_assert_int_eq(strcmp(got, text), 0);
	free(got);
	ck_assert_uint_lt(after.sent_bytes - before.sent_bytes, 10 << 20);
	free(text);
}
END_TEST

START_TEST(symlinks_and_modes_arrive)
{
	char path[512], target[64] = { 0 };
	struct stat st;

	rig_write(&rig, "a", "x");
	rig_symlink(&rig, "latest", "a");
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	snprintf(path, sizeof(path), "%s/latest", rig.store_path);
	ck_assert_int_eq(readlink(path, target, sizeof(target)), 1);
	ck_assert_str_eq(target, "a");
	rig_chmod(&rig, "a", 0640);
	ck_assert_int_eq(rig_flush(&rig, ""), 0);
	snprintf(path, sizeof(path), "%s/a", rig.store_path);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0640);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tier_line");
	TCase *tc = tcase_create("line");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_written_file_arrives);
	tcase_add_test(tc, many_small_files_arrive);
	tcase_add_test(tc, new_names_of_different_times_have_an_order);
	tcase_add_test(tc, a_replacement_arrives);
	tcase_add_test(tc, a_deleted_file_goes);
	tcase_add_test(tc, a_temporary_file_costs_nothing);
	tcase_add_test(tc, temp_write_rename_uploads_once);
	tcase_add_test(tc, a_sent_file_is_renamed);
	tcase_add_test(tc, a_chain_of_renames_ends_right);
	tcase_add_test(tc, a_directory_is_renamed_with_all_in_it);
	tcase_add_test(tc, a_renamed_directory_that_others_remove_goes);
	tcase_add_test(tc, a_foreign_file_is_read);
	tcase_add_test(tc, a_foreign_change_is_seen);
	tcase_add_test(tc, edit_against_edit_keeps_both);
	tcase_add_test(tc, taking_the_copy_away_settles_the_conflict);
	tcase_add_test(tc, a_directory_in_place_of_a_file_casts_no_shadow);
	tcase_add_test(tc, reserved_names_are_refused);
	tcase_add_test(tc, local_delete_remote_edit_keeps_theirs);
	tcase_add_test(tc, remote_delete_local_edit_is_made_again);
	tcase_add_test(tc, what_is_owed_survives_a_close);
	tcase_add_test(tc, a_large_file_is_staged_and_sent_again_in_part);
	tcase_add_test(tc, symlinks_and_modes_arrive);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
