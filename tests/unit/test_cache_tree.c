/* Inodes, names, paths, pins, held inodes, listings. */
#include "tests/unit/cache_index.h"

static uint64_t add(struct cache_txn *txn, uint64_t parent, const char *name,
	enum cache_kind kind)
{
	struct cache_inode inode = { .kind = kind, .mode = 0644, .nlink = 1 };

	OK(cache_inode_add(txn, &inode));
	OK(cache_dentry_add(txn, parent, name, inode.ino));
	return inode.ino;
}

START_TEST(inode_comes_back_as_it_was)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_inode in, out;

	memset(&in, 0, sizeof(in));
	in.kind = CACHE_CHAR;
	in.mode = 07777;
	in.uid = UINT32_MAX;
	in.gid = UINT32_MAX - 1;
	in.nlink = 3;
	in.rdev = UINT64_MAX;
	in.size_bytes = UINT64_C(1) << 60;
	in.mtime_ns = -1;
	in.ctime_ns = INT64_MAX;
	in.atime_ns = 3;
	in.btime_ns = INT64_MIN;
	in.gen = 5;
	in.meta_gen = 6;
	in.synced_gen = 7;
	in.serial = 8;
	in.serial_top = 9;
	in.data = CACHE_PART;
	in.written = in.stored = in.implicit = true;
	in.access = CACHE_ACCESS_NONE;
	memset(&in.content, 0xa1, sizeof(in.content));
	memset(&in.file, 0xb2, sizeof(in.file));
	in.stamp = (struct cache_stamp){ 11, 12, 13 };
	in.local_bytes = 14;
	OK(cache_inode_add(txn, &in));
	memset(&out, 0, sizeof(out));
	OK(cache_inode_get(txn, in.ino, &out));
	ck_assert_mem_eq(&in, &out, sizeof(in));
	in.kind = CACHE_FILE;
	in.written = in.implicit = false;
	in.local_bytes = 0;
	memset(&in.content, 0, sizeof(in.content));
	OK(cache_inode_put(txn, &in));
	OK(cache_inode_get(txn, in.ino, &out));
	ck_assert_mem_eq(&in, &out, sizeof(in));
	ck_assert(cache_id_is_none(&out.content));
	in.ino = 123456789;
	ck_assert_int_eq(cache_inode_put(txn, &in), -ENOENT);
	ck_assert_int_eq(cache_inode_get(txn, in.ino, &out), -ENOENT);
	ck_assert_int_eq(cache_inode_del(txn, in.ino), -ENOENT);
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

START_TEST(new_inode_gets_times_and_serial)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_inode inode = { .kind = CACHE_FILE, .mtime_ns = 42 };

	OK(cache_inode_add(txn, &inode));
	ck_assert_uint_gt(inode.ino, CACHE_ROOT_INO);
	ck_assert_int_eq(inode.mtime_ns, 42);
	ck_assert_int_gt(inode.ctime_ns, 42);
	ck_assert_uint_eq(inode.serial, 1);
	ck_assert_uint_eq(inode.serial_top, 1);
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

/* Also of those that were added, and after a restart. */
START_TEST(a_number_taken_is_given_once)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_inode inode = { .kind = CACHE_FILE };
	uint64_t last = CACHE_ROOT_INO, ino;
	struct cache_txn *txn;

	for (int i = 0; i < 600; i++) {
		OK(cache_ino_take(t->cache, &ino));
		ck_assert_uint_gt(ino, last);
		last = ino;
	}
	inode.ino = last;
	txn = test_write(t);
	OK(cache_inode_insert(txn, &inode));
	OK(cache_inode_add(txn, &inode));
	ck_assert_uint_gt(inode.ino, last);
	OK(cache_commit(txn));
	last = inode.ino;
	test_cache_close(t);
	test_reopen(t);
	OK(cache_ino_take(t->cache, &ino));
	ck_assert_uint_gt(ino, last);
	test_cache_free(t);
}
END_TEST

START_TEST(names_are_bytes)
{
	static const char *const names[] = { "a", "A", "\xff\xfe", "\x01",
		"a b", "ä", "'; DROP TABLE inode; --", "..." };
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_dentry d;
	char longest[CACHE_NAME_MAX + 2];

	for (size_t i = 0; i < 8; i++) {
		uint64_t ino = add(txn, CACHE_ROOT_INO, names[i], CACHE_FILE);

		OK(cache_dentry_get(txn, CACHE_ROOT_INO, names[i], &d));
		ck_assert_uint_eq(d.ino, ino);
		ck_assert_str_eq(d.name, names[i]);
		ck_assert_uint_eq(d.parent, CACHE_ROOT_INO);
		OK(cache_dentry_of(txn, ino, &d));
		ck_assert_str_eq(d.name, names[i]);
	}
	ck_assert_int_eq(
		cache_dentry_add(txn, CACHE_ROOT_INO, "a", 2), -EEXIST);
	memset(longest, 'x', sizeof(longest));
	longest[CACHE_NAME_MAX] = '\0';
	OK(cache_dentry_add(txn, CACHE_ROOT_INO, longest, 2));
	longest[CACHE_NAME_MAX] = 'x';
	longest[CACHE_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(cache_dentry_add(txn, CACHE_ROOT_INO, longest, 2),
		-ENAMETOOLONG);
	ck_assert_int_eq(
		cache_dentry_get(txn, CACHE_ROOT_INO, "b", &d), -ENOENT);
	ck_assert_int_eq(cache_dentry_del(txn, CACHE_ROOT_INO, "b"), -ENOENT);
	ck_assert_int_eq(
		cache_dentry_set(txn, CACHE_ROOT_INO, "b", 2), -ENOENT);
	/* -EEXIST and -ENOENT harm nothing. */
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(dentry_set_keeps_the_cookie)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_dentry was, is;

	add(txn, CACHE_ROOT_INO, "a", CACHE_FILE);
	OK(cache_dentry_get(txn, CACHE_ROOT_INO, "a", &was));
	OK(cache_dentry_set(txn, CACHE_ROOT_INO, "a", 77));
	OK(cache_dentry_get(txn, CACHE_ROOT_INO, "a", &is));
	ck_assert_uint_eq(is.ino, 77);
	ck_assert_uint_eq(is.cookie, was.cookie);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- directory offsets ---- */

struct reading {
	uint64_t last, seen, stop_after;
};

static int read_one(void *arg, const struct cache_dentry *d,
	const struct cache_inode *inode)
{
	struct reading *r = arg;

	ck_assert_uint_gt(d->cookie, r->last);
	ck_assert_uint_eq(d->ino, inode->ino);
	r->last = d->cookie;
	return ++r->seen == r->stop_after ? 5 : 0;
}

START_TEST(offsets_stay_valid_while_names_come_and_go)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct reading r = { .stop_after = 500 };
	char name[32];

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i * 7919 % 1000);
		add(txn, CACHE_ROOT_INO, name, CACHE_FILE);
	}
	ck_assert_int_eq(
		cache_dentry_each(txn, CACHE_ROOT_INO, 0, read_one, &r), 5);
	/* The first half goes, and more come: the second half is read once. */
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "%d", i * 7919 % 1000);
		OK(cache_dentry_del(txn, CACHE_ROOT_INO, name));
		snprintf(name, sizeof(name), "new%d", i);
		add(txn, CACHE_ROOT_INO, name, CACHE_FILE);
	}
	r = (struct reading){ .last = r.last };
	OK(cache_dentry_each(txn, CACHE_ROOT_INO, r.last, read_one, &r));
	ck_assert_uint_eq(r.seen, 1000);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(cookie_is_never_given_again)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_dentry d;
	uint64_t last = 2;

	for (int i = 0; i < 10; i++) {
		add(txn, CACHE_ROOT_INO, "a", CACHE_FILE);
		OK(cache_dentry_get(txn, CACHE_ROOT_INO, "a", &d));
		ck_assert_uint_gt(d.cookie, last);
		last = d.cookie;
		OK(cache_dentry_del(txn, CACHE_ROOT_INO, "a"));
		OK(cache_commit(txn));
		test_cache_close(t);
		test_reopen(t);
		txn = test_write(t);
	}
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(emptiness_is_known)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t dir = add(txn, CACHE_ROOT_INO, "d", CACHE_DIR);
	bool empty = false;

	OK(cache_dir_is_empty(txn, dir, &empty));
	ck_assert(empty);
	add(txn, dir, "x", CACHE_FILE);
	OK(cache_dir_is_empty(txn, dir, &empty));
	ck_assert(!empty);
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

/* ---- paths ---- */

static void check_path(struct cache_txn *txn, uint64_t ino, const char *want)
{
	struct base_str s = BASE_STR_INIT;
	struct cache_inode inode;

	OK(cache_path_of(txn, ino, &s));
	ck_assert_str_eq(s.data, want);
	OK(cache_resolve(txn, want, &inode));
	ck_assert_uint_eq(inode.ino, ino);
	base_str_fini(&s);
}

START_TEST(paths_follow_renames)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t a = add(txn, CACHE_ROOT_INO, "a", CACHE_DIR);
	uint64_t b = add(txn, a, "b", CACHE_DIR);
	uint64_t f = add(txn, b, "f", CACHE_FILE);
	struct base_str s = BASE_STR_INIT;
	struct cache_inode inode;
	bool below;

	check_path(txn, CACHE_ROOT_INO, "");
	check_path(txn, f, "a/b/f");
	OK(cache_path_join(txn, b, "new", &s));
	ck_assert_str_eq(s.data, "a/b/new");
	OK(cache_path_join(txn, CACHE_ROOT_INO, "new", &s));
	ck_assert_str_eq(s.data, "new");
	OK(cache_dentry_del(txn, a, "b"));
	ck_assert_int_eq(cache_path_of(txn, f, &s), -ENOENT);
	OK(cache_dentry_add(txn, CACHE_ROOT_INO, "z", b));
	check_path(txn, f, "z/f");
	ck_assert_int_eq(cache_resolve(txn, "a/b/f", &inode), -ENOENT);
	ck_assert_int_eq(cache_resolve(txn, "z/f/x", &inode), -ENOTDIR);
	OK(cache_resolve(txn, "/z//f/", &inode));
	ck_assert_uint_eq(inode.ino, f);
	OK(cache_is_below(txn, f, b, &below));
	ck_assert(below);
	OK(cache_is_below(txn, b, b, &below));
	ck_assert(below);
	OK(cache_is_below(txn, f, CACHE_ROOT_INO, &below));
	ck_assert(below);
	OK(cache_is_below(txn, f, a, &below));
	ck_assert(!below);
	OK(cache_is_below(txn, b, f, &below));
	ck_assert(!below);
	base_str_fini(&s);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(deep_path_is_refused_not_cut)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct base_str s = BASE_STR_INIT;
	uint64_t dir = CACHE_ROOT_INO;
	char name[201];
	int depth = 0, err;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	do {
		dir = add(txn, dir, name, CACHE_DIR);
		depth++;
		err = cache_path_of(txn, dir, &s);
	} while (err == 0 && depth < 100);
	ck_assert_int_eq(err, -ENAMETOOLONG);
	ck_assert_int_gt(depth, CACHE_PATH_MAX / 201);
	base_str_fini(&s);
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

START_TEST(cycle_ends)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct base_str s = BASE_STR_INIT;
	bool below = true, pinned = true;

	/* Damage: two directories name each other. */
	OK(cache_dentry_add(txn, 1000, "a", 1001));
	OK(cache_dentry_add(txn, 1001, "b", 1000));
	ck_assert_int_eq(cache_path_of(txn, 1000, &s), -ENAMETOOLONG);
	OK(cache_is_below(txn, 1000, CACHE_ROOT_INO, &below));
	ck_assert(!below);
	OK(cache_pin_set(txn, 5, true));
	OK(cache_pin_get(txn, 1000, &pinned));
	ck_assert(!pinned);
	base_str_fini(&s);
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

START_TEST(symlink_target_is_kept)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t ino = add(txn, CACHE_ROOT_INO, "l", CACHE_SYMLINK);
	struct base_str s = BASE_STR_INIT;

	ck_assert_int_eq(cache_target_get(txn, ino, &s), -ENOENT);
	OK(cache_target_set(txn, ino, "../\xff/x"));
	OK(cache_target_get(txn, ino, &s));
	ck_assert_str_eq(s.data, "../\xff/x");
	ck_assert_int_eq(cache_target_set(txn, 999, "x"), -ENOENT);
	base_str_fini(&s);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- what hangs on inodes ---- */

START_TEST(pin_holds_for_what_is_below)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t d = add(txn, CACHE_ROOT_INO, "d", CACHE_DIR);
	uint64_t f = add(txn, d, "f", CACHE_FILE);
	uint64_t other = add(txn, CACHE_ROOT_INO, "o", CACHE_FILE);
	bool pinned = true;

	OK(cache_pin_get(txn, f, &pinned));
	ck_assert(!pinned);
	OK(cache_pin_set(txn, d, true));
	OK(cache_pin_set(txn, d, true));
	OK(cache_pin_get(txn, f, &pinned));
	ck_assert(pinned);
	OK(cache_pin_get(txn, other, &pinned));
	ck_assert(!pinned);
	OK(cache_pin_set(txn, d, false));
	OK(cache_pin_get(txn, f, &pinned));
	ck_assert(!pinned);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

static int count_ino(void *arg, uint64_t ino)
{
	uint64_t *sum = arg;

	*sum += ino;
	return 0;
}

START_TEST(held_inode_goes_when_nobody_needs_it)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t f = add(txn, CACHE_ROOT_INO, "f", CACHE_FILE);
	struct cache_inode inode;
	uint64_t sum = 0;
	bool gone = true;

	OK(cache_held_put(txn, f, false, &gone));
	ck_assert(!gone); /* not held: it has a name */
	OK(cache_dentry_del(txn, CACHE_ROOT_INO, "f"));
	OK(cache_held_add(txn, f));
	OK(cache_held_each(txn, count_ino, &sum));
	ck_assert_uint_eq(sum, f);
	OK(cache_held_put(txn, f, true, &gone));
	ck_assert(!gone);
	OK(cache_held_put(txn, f, false, &gone));
	ck_assert(gone);
	ck_assert_int_eq(cache_inode_get(txn, f, &inode), -ENOENT);
	sum = 0;
	OK(cache_held_each(txn, count_ino, &sum));
	ck_assert_uint_eq(sum, 0);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(deleted_inode_leaves_no_rows_and_no_file)
{
	struct test_cache *t = test_cache_new(1024 * MIB);
	uint64_t f = test_file(t, 100 * KIB);
	struct cache_txn *txn = test_write(t);
	struct cache_counts counts;
	char name[32];

	OK(cache_pin_set(txn, f, true));
	OK(cache_counts_get(txn, &counts));
	ck_assert_uint_eq(counts.pins, 1);
	ck_assert_uint_eq(counts.inodes, 2);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)f);
	OK(cache_dentry_del(txn, CACHE_ROOT_INO, name));
	OK(cache_inode_del(txn, f));
	OK(cache_commit(txn));
	txn = test_read(t);
	OK(cache_counts_get(txn, &counts));
	ck_assert_uint_eq(counts.pins, 0);
	ck_assert_uint_eq(counts.inodes, 1);
	OK(cache_commit(txn));
	test_run(&t->env);
	ck_assert_uint_eq(test_du(t), 0);
	ck_assert_uint_eq(test_used(t), 0);
	test_cache_free(t);
}
END_TEST

START_TEST(written_inodes_are_found)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t f = add(txn, CACHE_ROOT_INO, "f", CACHE_FILE), sum = 0;
	struct cache_counts counts;
	struct cache_inode inode;

	add(txn, CACHE_ROOT_INO, "g", CACHE_FILE);
	OK(cache_inode_get(txn, f, &inode));
	inode.written = true;
	OK(cache_inode_put(txn, &inode));
	OK(cache_written_each(txn, count_ino, &sum));
	ck_assert_uint_eq(sum, f);
	OK(cache_counts_get(txn, &counts));
	ck_assert_uint_eq(counts.dirty_files, 1);
	inode.written = false;
	OK(cache_inode_put(txn, &inode));
	sum = 0;
	OK(cache_written_each(txn, count_ino, &sum));
	ck_assert_uint_eq(sum, 0);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(listing_of_an_earlier_boot_is_old)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_listing l = { .listed_ns = 55, .complete = true };
	struct cache_txn *txn = test_write(t);

	ck_assert_int_eq(cache_listing_get(txn, 1, &l), -ENOENT);
	OK(cache_listing_set(txn, 1, &l));
	l = (struct cache_listing){ 0 };
	OK(cache_listing_get(txn, 1, &l));
	ck_assert_int_eq(l.listed_ns, 55);
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reboot(t);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_listing_get(txn, 1, &l));
	ck_assert_int_lt(l.listed_ns, 0);
	ck_assert(l.complete);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_tree");
	TCase *c = tcase_create("tree");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, inode_comes_back_as_it_was);
	tcase_add_test(c, new_inode_gets_times_and_serial);
	tcase_add_test(c, a_number_taken_is_given_once);
	tcase_add_test(c, names_are_bytes);
	tcase_add_test(c, dentry_set_keeps_the_cookie);
	tcase_add_test(c, offsets_stay_valid_while_names_come_and_go);
	tcase_add_test(c, cookie_is_never_given_again);
	tcase_add_test(c, emptiness_is_known);
	tcase_add_test(c, paths_follow_renames);
	tcase_add_test(c, deep_path_is_refused_not_cut);
	tcase_add_test(c, cycle_ends);
	tcase_add_test(c, symlink_target_is_kept);
	tcase_add_test(c, pin_holds_for_what_is_below);
	tcase_add_test(c, held_inode_goes_when_nobody_needs_it);
	tcase_add_test(c, deleted_inode_leaves_no_rows_and_no_file);
	tcase_add_test(c, written_inodes_are_found);
	tcase_add_test(c, listing_of_an_earlier_boot_is_old);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
