/* The write-back journal: owed rows, the line, directory renames. */
#include "tests/unit/cache_owed.h"

START_TEST(row_comes_back_as_it_was)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char name[] = "a/\xff", error[] = "no";
	struct cache_owed in, out;

	memset(&in, 0, sizeof(in));
	in.epoch = 3;
	in.name = name;
	in.kind = CACHE_FIFO;
	in.state = CACHE_OWED_SENT;
	in.group = in.attrs_only = in.quiet = true;
	in.change = 255;
	in.ino = UINT64_MAX;
	in.serial = 4;
	in.size_bytes = 5;
	in.gen = 6;
	memset(&in.content, 7, sizeof(in.content));
	in.attrs = (struct cache_attrs){ 1, 2, 3, 4, 5 };
	in.displaced = 8;
	in.entered_ns = 9;
	in.tries = 10;
	in.error = error;
	in.refused_ns = 11;
	OK(cache_owed_add(txn, &in));
	ck_assert_uint_gt(in.seq, 0);
	OK(cache_owed_get(txn, in.seq, &out));
	ck_assert_str_eq(out.name, name);
	ck_assert_str_eq(out.error, error);
	free(out.name);
	free(out.error);
	out.name = in.name;
	out.error = in.error;
	ck_assert_mem_eq(&in, &out, sizeof(in));
	in.error = NULL;
	in.name = error;
	in.state = CACHE_OWED_UNSENT;
	in.group = false;
	OK(cache_owed_put(txn, &in));
	OK(cache_owed_newest(txn, "no", &out));
	ck_assert_ptr_null(out.error);
	ck_assert(!out.group);
	cache_owed_fini(&out);
	ck_assert_int_eq(cache_owed_newest(txn, name, &out), -ENOENT);
	OK(cache_owed_del(txn, in.seq));
	ck_assert_int_eq(cache_owed_del(txn, in.seq), -ENOENT);
	ck_assert_int_eq(cache_owed_put(txn, &in), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(ages_of_an_earlier_boot_are_unknown)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_owed row = row_of(1, "a", CACHE_GONE);
	struct cache_sent sent = {
		.number = 1, .name = row.name, .sent_ns = 77
	};
	struct cache_owed_totals totals;

	row.refused_ns = 5;
	OK(cache_owed_add(txn, &row));
	ck_assert_int_gt(row.entered_ns, 0);
	OK(cache_sent_add(txn, &sent));
	OK(cache_owed_totals(txn, &totals));
	ck_assert_int_eq(totals.oldest_ns, row.entered_ns);
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reboot(t);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_owed_get(txn, row.seq, &row));
	ck_assert_int_eq(row.entered_ns, -1);
	ck_assert_int_eq(row.refused_ns, -1);
	cache_owed_fini(&row);
	OK(cache_sent_of(txn, "a", &sent));
	ck_assert_int_eq(sent.sent_ns, 0);
	cache_sent_fini(&sent);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(newest_row_of_a_name_is_found)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t a = owe(txn, 1, "n"), b = owe(txn, 2, "n"), c = 0;
	struct cache_owed row;
	bool any = false;

	owe(txn, 3, "n2");
	set_state(txn, b, CACHE_OWED_SENT);
	OK(cache_owed_newest(txn, "n", &row));
	ck_assert_uint_eq(row.seq, b);
	cache_owed_fini(&row);
	OK(cache_owed_newest_unsent(txn, "n", &row));
	ck_assert_uint_eq(row.seq, a);
	cache_owed_fini(&row);
	OK(cache_owed_renumber(txn, a, &c));
	OK(cache_owed_newest(txn, "n", &row));
	ck_assert_uint_eq(row.seq, c);
	cache_owed_fini(&row);
	OK(cache_owed_max_seq(txn, &a));
	ck_assert_uint_eq(a, c);
	OK(cache_owed_any(txn, "n", &any));
	ck_assert(any);
	set_state(txn, b, CACHE_OWED_ASIDE);
	set_state(txn, c, CACHE_OWED_ASIDE);
	OK(cache_owed_any(txn, "n", &any));
	ck_assert(!any);
	OK(cache_owed_any(txn, "n3", &any));
	ck_assert(!any);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(seq_is_never_given_again)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t a = owe(txn, 1, "a"), b;

	OK(cache_owed_del(txn, a));
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reopen(t);
	txn = test_write(t);
	b = owe(txn, 1, "a");
	ck_assert_uint_gt(b, a);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- the line ---- */

START_TEST(line_is_in_order_of_epoch_and_seq)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t c = owe(txn, 5, "c"), a = owe(txn, 2, "a");
	uint64_t x = owe(txn, 2, "x"), epoch;
	struct seen all = { .text = "" }, first = { .stop_after = 1 };

	owe(txn, 5, "d");
	owe(txn, 2, "b");
	set_state(txn, x, CACHE_OWED_ASIDE);
	check_line(txn, 0, 0, "a b c d");
	check_line(txn, 2, a, "b c d");
	check_line(txn, 5, 0, "c d");
	check_line(txn, 5, c, "d");
	check_line(txn, 6, 0, "");
	OK(cache_owed_each_below(txn, "", note, &all));
	ck_assert_str_eq(all.text, "a b c d x");
	ck_assert_int_eq(cache_owed_each(txn, 0, 0, note, &first), 9);
	OK(cache_owed_first_epoch(txn, &epoch));
	ck_assert_uint_eq(epoch, 2);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(subtree_knows_what_it_owes)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	bool owed = true, aside = true;
	uint64_t seq, late, max;
	char old_dir[] = "p/old", new_dir[] = "q/new";
	struct cache_owed_prefix prefix = {
		.epoch = 9, .old_dir = old_dir, .new_dir = new_dir
	};

	OK(cache_owed_below(txn, "", UINT64_MAX, &owed, &aside));
	ck_assert(!owed && !aside);
	owe(txn, 1, "d-x");
	owe(txn, 1, "d0");
	OK(cache_owed_below(txn, "d", UINT64_MAX, &owed, &aside));
	ck_assert(!owed && !aside);
	seq = owe(txn, 1, "d/e/f");
	set_state(txn, seq, CACHE_OWED_ASIDE);
	OK(cache_owed_below(txn, "d", UINT64_MAX, &owed, &aside));
	ck_assert(!owed && aside);
	late = owe(txn, 2, "d");
	OK(cache_owed_below(txn, "d", late, &owed, &aside));
	ck_assert(owed && aside);
	OK(cache_owed_below(txn, "d", late - 1, &owed, &aside));
	ck_assert(!owed && aside);
	OK(cache_owed_below(txn, "d/e/f", late, &owed, &aside));
	ck_assert(!owed && aside);
	OK(cache_owed_below(txn, "", late, &owed, &aside));
	ck_assert(owed && aside);
	OK(cache_owed_prefix_add(txn, &prefix));
	OK(cache_owed_max_seq(txn, &max));
	OK(cache_owed_below(txn, "q", prefix.seq, &owed, &aside));
	ck_assert(owed && !aside);
	OK(cache_owed_below(txn, "p/old/x", prefix.seq, &owed, &aside));
	ck_assert(owed);
	OK(cache_owed_below(txn, "q", prefix.seq - 1, &owed, &aside));
	ck_assert(!owed);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(unsent_rows_follow_a_directory_rename)
{
	static const char *const names[] = { "old/a", "old/b/\xff", "old",
		"old-x/a" };
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t sent = owe(txn, 1, "old/sent");

	set_state(txn, sent, CACHE_OWED_SENT);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct cache_owed row = row_of(1, names[i], CACHE_FILE);

		OK(cache_owed_add(txn, &row));
	}
	/* What is deleted was deleted under its old name. */
	owe(txn, 1, "old/gone");
	OK(cache_owed_rename(txn, "old", "new/deep"));
	check_line(txn, 0, 0,
		"old/sent new/deep/a new/deep/b/\xff old old-x/a old/gone");
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- totals, against a count of all rows ---- */

static int count_row(void *arg, const struct cache_owed *row)
{
	struct cache_owed_totals *totals = arg;

	if (row->state == CACHE_OWED_ASIDE)
		totals->aside++;
	else
		totals->rows++;
	if (row->kind == CACHE_FILE && !row->attrs_only)
		totals->bytes += row->size_bytes;
	return 0;
}

static void check_totals(struct test_cache *t)
{
	struct cache_owed_totals want = { 0 }, have;
	struct cache_txn *txn = test_read(t);

	OK(cache_owed_each_below(txn, "", count_row, &want));
	OK(cache_owed_totals(txn, &have));
	ck_assert_uint_eq(have.rows, want.rows);
	ck_assert_uint_eq(have.aside, want.aside);
	ck_assert_uint_eq(have.bytes, want.bytes);
	OK(cache_commit(txn));
}

static void change_one(struct cache_txn *txn, unsigned *seed)
{
	struct cache_owed row = row_of(rand_r(seed) % 9, "n", CACHE_FILE);
	uint64_t max = 0, seq;

	OK(cache_owed_max_seq(txn, &max));
	seq = 1 + (uint64_t)rand_r(seed) % (max + 1);
	switch (rand_r(seed) % 4) {
	case 0:
		row.kind = rand_r(seed) % 2 ? CACHE_FILE : CACHE_DIR;
		row.size_bytes = (uint64_t)rand_r(seed) % 1000;
		OK(cache_owed_add(txn, &row));
		break;
	case 1:
		ck_assert_int_le(cache_owed_del(txn, seq), 0);
		break;
	case 2:
		if (cache_owed_get(txn, seq, &row) != 0)
			break;
		row.state = (enum cache_owed_state)(rand_r(seed) % 3);
		row.attrs_only = rand_r(seed) % 2;
		row.size_bytes = (uint64_t)rand_r(seed) % 1000;
		OK(cache_owed_put(txn, &row));
		cache_owed_fini(&row);
		break;
	default:
		cache_owed_renumber(txn, seq, &max);
	}
}

START_TEST(totals_are_what_a_count_says)
{
	struct test_cache *t = test_cache_new(MIB);
	unsigned seed = 4;

	for (int i = 0; i < 300; i++) {
		struct cache_txn *txn = test_write(t);

		for (int k = 0; k < 5; k++)
			change_one(txn, &seed);
		if (i % 7 == 0)
			cache_abort(txn);
		else
			OK(cache_commit(txn));
		check_totals(t);
		if (i % 100 == 50) {
			test_cache_close(t);
			if (i == 150)
				test_sql(t,
					"UPDATE meta SET value = 0 WHERE "
					"key = CAST('clean' AS BLOB)");
			test_reopen(t);
			check_totals(t);
		}
	}
	test_cache_free(t);
}
END_TEST

/* ---- directory renames ---- */

START_TEST(directory_rename_covers_both_trees)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char o[] = "a/old", n[] = "new", cursor[] = "a/old/k";
	struct cache_owed_prefix row = { .epoch = 4,
		.old_dir = o,
		.new_dir = n },
				 out;
	uint64_t epoch = 9;
	bool covers = false;

	OK(cache_owed_prefix_covers(txn, "a/old/x", &covers));
	ck_assert(!covers);
	ck_assert_int_eq(cache_owed_prefix_first(txn, 9, &out), -ENOENT);
	OK(cache_owed_prefix_add(txn, &row));
	OK(cache_owed_prefix_covers(txn, "a/old/x", &covers));
	ck_assert(covers);
	OK(cache_owed_prefix_covers(txn, "new", &covers));
	ck_assert(covers);
	OK(cache_owed_prefix_covers(txn, "newer", &covers));
	ck_assert(!covers);
	OK(cache_owed_prefix_covers(txn, "a", &covers));
	ck_assert(!covers);
	OK(cache_owed_any(txn, "new/x", &covers));
	ck_assert(covers);
	OK(cache_owed_any_row(txn, "new/x", &covers));
	ck_assert(!covers);
	OK(cache_owed_first_epoch(txn, &epoch));
	ck_assert_uint_eq(epoch, 4);
	ck_assert_int_eq(cache_owed_prefix_first(txn, 3, &out), -ENOENT);
	row.deleting = true;
	row.cursor = cursor;
	OK(cache_owed_prefix_put(txn, &row));
	OK(cache_owed_prefix_first(txn, UINT64_MAX, &out));
	ck_assert_uint_eq(out.seq, row.seq);
	ck_assert(out.deleting);
	ck_assert_str_eq(out.old_dir, o);
	ck_assert_str_eq(out.new_dir, n);
	ck_assert_str_eq(out.cursor, cursor);
	cache_owed_prefix_fini(&out);
	OK(cache_owed_prefix_del(txn, row.seq));
	ck_assert_int_eq(cache_owed_prefix_del(txn, row.seq), -ENOENT);
	OK(cache_owed_first_epoch(txn, &epoch));
	ck_assert_uint_eq(epoch, 0);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_journal");
	TCase *c = tcase_create("journal");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, row_comes_back_as_it_was);
	tcase_add_test(c, ages_of_an_earlier_boot_are_unknown);
	tcase_add_test(c, newest_row_of_a_name_is_found);
	tcase_add_test(c, seq_is_never_given_again);
	tcase_add_test(c, line_is_in_order_of_epoch_and_seq);
	tcase_add_test(c, subtree_knows_what_it_owes);
	tcase_add_test(c, unsent_rows_follow_a_directory_rename);
	tcase_add_test(c, totals_are_what_a_count_says);
	tcase_add_test(c, directory_rename_covers_both_trees);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
