/* Opening and closing the index: what was left, what is refused. */
#include <glob.h>
#include <sys/mount.h>

#include "tests/unit/cache_index.h"

START_TEST(fresh_cache_has_a_root)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_inode root;
	struct stat st;
	char path[128];

	root = test_inode(t, CACHE_ROOT_INO);
	ck_assert_int_eq(root.kind, CACHE_DIR);
	ck_assert_uint_eq(root.mode, 0755);
	ck_assert(root.implicit);
	ck_assert_uint_eq(test_counts(t).inodes, 1);
	ck_assert(!cache_id_is_none(cache_host(t->cache)));
	snprintf(path, sizeof(path), "%s/" CACHE_INDEX_FILE, t->dir);
	OK(stat(path, &st));
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	test_cache_free(t);
}
END_TEST

START_TEST(what_was_committed_is_there_after_close)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_id host = *cache_host(t->cache);
	struct cache_opened opened;

	test_add_dir(t, "d");
	test_cache_close(t);
	opened = test_reopen(t);
	ck_assert(!opened.fresh && !opened.unclean);
	ck_assert(test_has_name(t, "d"));
	ck_assert(cache_id_eq(&host, cache_host(t->cache)));
	ck_assert_uint_eq(test_counts(t).inodes, 2);
	test_cache_free(t);
}
END_TEST

static void make_d(struct test_cache *t)
{
	test_add_dir(t, "d");
}

START_TEST(what_was_committed_is_there_after_kill)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_opened opened;

	test_cache_close(t);
	test_crash(t, make_d);
	opened = test_reopen(t);
	ck_assert(!opened.fresh && !opened.unclean);
	ck_assert(test_has_name(t, "d"));
	ck_assert_uint_eq(test_counts(t).inodes, 2);
	test_cache_free(t);
}
END_TEST

START_TEST(crash_and_boot_is_unclean)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn;

	test_cache_close(t);
	test_crash(t, make_d);
	test_reboot(t);
	ck_assert(test_reopen(t).unclean);
	test_cache_close(t);
	/* Whoever died in the middle of it is followed by one that goes on. */
	ck_assert(test_reopen(t).unclean);
	txn = test_write(t);
	OK(cache_recovered(txn));
	OK(cache_commit(txn));
	test_cache_close(t);
	ck_assert(!test_reopen(t).unclean);
	test_cache_free(t);
}
END_TEST

START_TEST(boot_after_clean_close_is_clean)
{
	struct test_cache *t = test_cache_new(MIB);

	test_cache_close(t);
	test_reboot(t);
	ck_assert(!test_reopen(t).unclean);
	test_cache_free(t);
}
END_TEST

START_TEST(second_mount_is_refused_by_name)
{
	struct test_cache *t = test_cache_new(MIB);
	const char *dirs[] = { t->dir };
	char pid[32];

	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	test_refused(t, -EBUSY, dirs, 1, pid);
	ck_assert(test_has_name(t, ""));
	test_cache_free(t);
}
END_TEST

START_TEST(cache_of_another_store_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	const char *dirs[] = { t->dir };

	test_cache_close(t);
	t->config.store = "dir:/elsewhere";
	test_refused(t, -EEXIST, dirs, 1, "dir:/nowhere");
	t->config.store = "dir:/nowhere";
	test_reopen(t);
	test_cache_free(t);
}
END_TEST

START_TEST(newer_index_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	const char *dirs[] = { t->dir };

	test_cache_close(t);
	test_sql(t, "PRAGMA user_version = 999");
	test_refused(t, -EPROTO, dirs, 1, "newer");
	test_cache_free(t);
}
END_TEST

START_TEST(foreign_database_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	const char *dirs[] = { t->dir };

	test_cache_close(t);
	test_sql(t, "PRAGMA application_id = 7");
	test_refused(t, -EEXIST, dirs, 1, "not an index of forebay");
	test_cache_free(t);
}
END_TEST

static void set_version_1(struct test_cache *t)
{
	test_sql(t,
		"PRAGMA user_version = 1; DROP INDEX inode_doubt;"
		"DROP INDEX inode_unread;"
		"DROP INDEX owed_flush; DROP INDEX owed_group;"
		"CREATE INDEX owed_group ON owed(epoch, phase, seq);"
		"ALTER TABLE owed DROP COLUMN run;"
		"ALTER TABLE owed DROP COLUMN step;"
		"ALTER TABLE owed_prefix DROP COLUMN step;"
		"ALTER TABLE inode DROP COLUMN fsynced;"
		"ALTER TABLE inode DROP COLUMN doubt;"
		"ALTER TABLE owed DROP COLUMN flush_nr;"
		"ALTER TABLE remote DROP COLUMN list;"
		"ALTER TABLE sent DROP COLUMN list;"
		"ALTER TABLE conflict DROP COLUMN remote_host;"
		"ALTER TABLE remote DROP COLUMN access;"
		"ALTER TABLE inode DROP COLUMN access;"
		"ALTER TABLE inode ADD COLUMN no_data INTEGER;"
		"ALTER TABLE inode ADD COLUMN read_only INTEGER;"
		"UPDATE inode SET no_data = 1 WHERE ino = 1;"
		"CREATE TABLE manifest(content BLOB)");
}

static enum cache_access root_access(struct test_cache *t)
{
	struct cache_inode root;
	struct cache_txn *txn;

	ck_assert_int_eq(cache_read(t->cache, &txn), 0);
	ck_assert_int_eq(cache_inode_get(txn, CACHE_ROOT_INO, &root), 0);
	cache_abort(txn);
	return root.access;
}

START_TEST(older_index_is_copied_and_migrated)
{
	struct test_cache *t = test_cache_new(MIB);
	char path[160];

	test_add_dir(t, "d");
	test_cache_close(t);
	set_version_1(t);
	ck_assert(!test_reopen(t).fresh);
	ck_assert(test_has_name(t, "d"));
	ck_assert_int_eq(root_access(t), CACHE_ACCESS_NONE);
	snprintf(path, sizeof(path), "%s/" CACHE_INDEX_FILE ".v1", t->dir);
	ck_assert_int_eq(access(path, F_OK), 0);
	test_cache_free(t);
}
END_TEST

/* How many data files of a salvaged cache were kept. */
static unsigned kept_files(struct test_cache *t)
{
	char pattern[256];
	glob_t found;
	unsigned nr;
	int err;

	snprintf(pattern, sizeof(pattern), "%s/lost+found/*/data/*/*", t->dir);
	err = glob(pattern, 0, NULL, &found);
	ck_assert(err == 0 || err == GLOB_NOMATCH);
	nr = err == 0 ? (unsigned)found.gl_pathc : 0;
	globfree(&found);
	return nr;
}

/* One file that users wrote, one that was fetched. */
static void add_data(struct test_cache *t)
{
	int fd = cache_data_open(t->cache, 100, 1, O_RDWR | O_CREAT);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "ours", 4), 4);
	close(fd);
	fd = cache_data_open(t->cache, 101, 1, O_RDWR | O_CREAT);
	ck_assert_int_ge(fd, 0);
	OK(cache_data_mark_fetched(fd));
	ck_assert_int_eq(write(fd, "theirs", 6), 6);
	close(fd);
}

START_TEST(deleted_index_keeps_what_was_written)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_opened opened;
	char path[128];

	add_data(t);
	test_cache_close(t);
	snprintf(path, sizeof(path), "%s/" CACHE_INDEX_FILE, t->dir);
	OK(unlink(path));
	opened = test_reopen(t);
	ck_assert(opened.fresh);
	ck_assert_ptr_nonnull(strstr(opened.salvaged, "was gone"));
	ck_assert_uint_eq(kept_files(t), 1);
	test_cache_free(t);
}
END_TEST

START_TEST(damaged_index_keeps_what_was_written)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_opened opened;
	char path[128], junk[8192];
	int fd;

	add_data(t);
	test_cache_close(t);
	snprintf(path, sizeof(path), "%s/" CACHE_INDEX_FILE, t->dir);
	fd = open(path, O_WRONLY);
	memset(junk, 'x', sizeof(junk));
	ck_assert_int_eq(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	opened = test_reopen(t);
	ck_assert(opened.fresh);
	ck_assert_ptr_nonnull(strstr(opened.salvaged, "damaged"));
	ck_assert_uint_eq(kept_files(t), 1);
	test_cache_free(t);
}
END_TEST

START_TEST(file_in_the_way_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	char in_file[128], file[128];
	const char *dirs[] = { in_file };
	const char *dirs_file[] = { file };

	test_cache_close(t);
	snprintf(file, sizeof(file), "%s/lock", t->dir);
	snprintf(in_file, sizeof(in_file), "%s/lock/x", t->dir);
	test_refused(t, -ENOTDIR, dirs, 1, "choose a directory");
	test_refused(t, -ENOTDIR, dirs_file, 1, "choose a directory");
	test_cache_free(t);
}
END_TEST

START_TEST(directory_of_others_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	const char *dirs[] = { t->dir };

	test_cache_close(t);
	OK(chmod(t->dir, 0777));
	test_refused(t, -EACCES, dirs, 1, "chmod");
	OK(chmod(t->dir, 0700));
	test_cache_free(t);
}
END_TEST

START_TEST(failed_open_leaves_nothing)
{
	struct test_cache *t = test_cache_new(MIB);
	char fresh[128], top[128], bad[128];
	const char *dirs[] = { fresh, bad };
	struct stat st;

	test_cache_close(t);
	snprintf(top, sizeof(top), "%s/a", t->dir);
	snprintf(fresh, sizeof(fresh), "%s/a/b/c/", t->dir);
	snprintf(bad, sizeof(bad), "%s/lock/x", t->dir);
	test_refused(t, -ENOTDIR, dirs, 2, "lock/x");
	ck_assert_int_eq(stat(top, &st), -1);
	test_cache_free(t);
}
END_TEST

START_TEST(directories_are_made_private)
{
	struct test_cache *t = test_cache_new(MIB);
	char fresh[128];
	const char *dirs[] = { fresh };
	struct cache_opened opened;
	char why[512];
	struct stat st;

	test_cache_close(t);
	snprintf(fresh, sizeof(fresh), "%s/a/b", t->dir);
	t->config.dirs = dirs;
	OK(cache_open(&t->config, &t->cache, &opened, why, sizeof(why)));
	ck_assert(opened.fresh);
	OK(stat(fresh, &st));
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	test_cache_free(t);
}
END_TEST

START_TEST(directories_in_another_order_are_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	char a[128], b[128];
	const char *ab[] = { a, b };
	const char *ba[] = { b, a };
	struct cache_opened opened;
	char why[512];

	test_cache_close(t);
	snprintf(a, sizeof(a), "%s/a", t->dir);
	snprintf(b, sizeof(b), "%s/b", t->dir);
	t->config.dirs = ab;
	t->config.dirs_nr = 2;
	OK(cache_open(&t->config, &t->cache, &opened, why, sizeof(why)));
	test_cache_close(t);
	t->config.dirs = ab;
	OK(cache_open(&t->config, &t->cache, &opened, why, sizeof(why)));
	ck_assert(!opened.fresh);
	test_cache_close(t);
	test_refused(t, -EEXIST, ba, 2, "order");
	test_refused(t, -EEXIST, ab, 1, "directories");
	test_cache_free(t);
}
END_TEST

/* A file system of our own, where we may mount one. */
static bool mount_small(const char *dir)
{
	if (unshare(CLONE_NEWNS) != 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("tmpfs", dir, "tmpfs", 0, "size=128k,mode=0700") != 0) {
		fprintf(stderr, "skipped: cannot mount a tmpfs here\n");
		return false;
	}
	return true;
}

static size_t entries(const char *dir)
{
	char *paths[] = { (char *)(uintptr_t)dir, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	size_t nr = 0;

	while (fts_read(fts) != NULL)
		nr++;
	fts_close(fts);
	return nr - 2;
}

START_TEST(full_file_system_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	char small[128], cache[160];
	const char *dirs[] = { cache };

	test_cache_close(t);
	snprintf(small, sizeof(small), "%s/small", t->dir);
	snprintf(cache, sizeof(cache), "%s/x/cache", small);
	OK(mkdir(small, 0700));
	if (mount_small(small)) {
		test_refused(t, -ENOSPC, dirs, 1, "space");
		ck_assert_uint_eq(entries(small), 0);
		OK(umount(small));
	}
	test_cache_free(t);
}
END_TEST

START_TEST(read_only_file_system_is_refused)
{
	struct test_cache *t = test_cache_new(MIB);
	char small[128], cache[160];
	const char *dirs[] = { cache };
	const char *root[] = { small };

	test_cache_close(t);
	snprintf(small, sizeof(small), "%s/small", t->dir);
	snprintf(cache, sizeof(cache), "%s/x/cache", small);
	OK(mkdir(small, 0700));
	if (mount_small(small)) {
		OK(mount(NULL, small, NULL, MS_REMOUNT | MS_RDONLY, NULL));
		test_refused(t, -EROFS, dirs, 1, "writable");
		test_refused(t, -EROFS, root, 1, "writable");
		OK(umount(small));
	}
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_index");
	TCase *c = tcase_create("open");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, fresh_cache_has_a_root);
	tcase_add_test(c, what_was_committed_is_there_after_close);
	tcase_add_test(c, what_was_committed_is_there_after_kill);
	tcase_add_test(c, crash_and_boot_is_unclean);
	tcase_add_test(c, boot_after_clean_close_is_clean);
	tcase_add_test(c, second_mount_is_refused_by_name);
	tcase_add_test(c, cache_of_another_store_is_refused);
	tcase_add_test(c, newer_index_is_refused);
	tcase_add_test(c, foreign_database_is_refused);
	tcase_add_test(c, older_index_is_copied_and_migrated);
	tcase_add_test(c, deleted_index_keeps_what_was_written);
	tcase_add_test(c, damaged_index_keeps_what_was_written);
	tcase_add_test(c, file_in_the_way_is_refused);
	tcase_add_test(c, directory_of_others_is_refused);
	tcase_add_test(c, failed_open_leaves_nothing);
	tcase_add_test(c, directories_are_made_private);
	tcase_add_test(c, directories_in_another_order_are_refused);
	tcase_add_test(c, full_file_system_is_refused);
	tcase_add_test(c, read_only_file_system_is_refused);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
