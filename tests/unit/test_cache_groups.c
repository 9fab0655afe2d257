/* The write-back journal: epochs joined into groups, and their order. */
#include "base/str.h"
#include "tests/unit/cache_owed.h"

START_TEST(joined_epochs_keep_the_newest_row_of_a_name)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_owed row = row_of(2, "a", CACHE_FILE), newest;
	struct cache_owed_totals totals;
	uint64_t sent, epoch;
	char o[] = "o", n[] = "n";
	struct cache_owed_prefix prefix = {
		.epoch = 3, .old_dir = o, .new_dir = n
	};

	owe(txn, 1, "before");
	row.ino = 55;
	row.serial = 3;
	row.size_bytes = 1000;
	row.displaced = 66;
	OK(cache_owed_add(txn, &row));
	sent = owe(txn, 2, "s");
	set_state(txn, sent, CACHE_OWED_SENT);
	owe(txn, 3, "s");
	OK(cache_owed_prefix_add(txn, &prefix));
	row.epoch = 4;
	row.serial = 2;
	row.displaced = 0;
	row.attrs_only = true;
	OK(cache_owed_add(txn, &row));
	owe(txn, 5, "after");
	OK(cache_owed_join(txn, 2, 4, CACHE_JOIN_IN_ORDER));
	check_line(txn, 0, 0, "before s s a after");
	OK(cache_owed_newest(txn, "a", &newest));
	ck_assert(newest.group && !newest.attrs_only);
	ck_assert_uint_eq(newest.epoch, 4);
	ck_assert_uint_eq(newest.serial, 3);
	ck_assert_uint_eq(newest.displaced, 66);
	cache_owed_fini(&newest);
	OK(cache_owed_prefix_first(txn, 4, &prefix));
	ck_assert_uint_eq(prefix.epoch, 4);
	cache_owed_prefix_fini(&prefix);
	OK(cache_owed_totals(txn, &totals));
	ck_assert_uint_eq(totals.groups, 1);
	ck_assert_uint_eq(totals.rows, 6);
	ck_assert_uint_eq(totals.bytes, 1000);
	OK(cache_owed_first_epoch(txn, &epoch));
	ck_assert_uint_eq(epoch, 1);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

static int add_name(void *arg, const struct cache_owed *row)
{
	base_str_printf(arg, "%s%s",
		((struct base_str *)arg)->len > 0 ? " " : "", row->name);
	return 0;
}

/* The names of a group, steps divided by bars. */
static void check_steps(struct cache_txn *txn, uint64_t epoch, const char *want)
{
	struct base_str got = BASE_STR_INIT;
	struct cache_owed row;
	uint64_t step, seq;

	while (cache_owed_first_step(txn, epoch, &step) == 0) {
		if (got.len > 0)
			base_str_puts(&got, " |");
		OK(cache_owed_each_of_step(txn, epoch, step, add_name, &got));
		OK(cache_owed_last_of_step(txn, epoch, step, &seq));
		OK(cache_owed_get(txn, seq, &row));
		ck_assert_uint_eq(row.step, step);
		cache_owed_fini(&row);
		while (cache_owed_last_of_step(txn, epoch, step, &seq) == 0 &&
			seq != 0)
			OK(cache_owed_del(txn, seq));
	}
	ck_assert_str_eq(got.data, want);
	base_str_fini(&got);
}

/* A line as programs make it; each row: epoch, run, phase, name. */
static void owe_all(struct cache_txn *txn)
{
	static const struct {
		uint64_t epoch, run;
		enum cache_owed_phase phase;
		const char *name;
	} rows[] = {
		{ 1, 1, CACHE_OWED_NEW, "d/n1" },
		{ 1, 1, CACHE_OWED_NEW, "d/n2" },
		{ 2, 1, CACHE_OWED_REPLACES, "d/r1" },
		{ 3, 1, CACHE_OWED_DELETES, "d/x" },
		{ 4, 1, CACHE_OWED_NEW, "d/n3" },
		{ 5, 5, CACHE_OWED_NEW, "e/after-fsync" },
		{ 6, 5, CACHE_OWED_REPLACES, "d/r2" },
		{ 7, 5, CACHE_OWED_REPLACES, "e/r3" },
		{ 8, 8, CACHE_OWED_NEW, "e/last" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool gone = rows[i].phase == CACHE_OWED_DELETES;
		struct cache_owed row = row_of(rows[i].epoch, rows[i].name,
			gone ? CACHE_GONE : CACHE_FILE);

		row.run = rows[i].run;
		row.phase = (uint8_t)rows[i].phase;
		OK(cache_owed_add(txn, &row));
	}
}

START_TEST(group_keeps_the_order_of_its_epochs)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);

	owe_all(txn);
	/* Also if it grows. */
	OK(cache_owed_join(txn, 2, 4, CACHE_JOIN_IN_ORDER));
	OK(cache_owed_join(txn, 1, 7, CACHE_JOIN_IN_ORDER));
	check_steps(txn, 7,
		"d/n1 d/n2 | d/r1 | d/n3 | e/after-fsync | d/r2 | e/r3 | d/x");
	check_line(txn, 0, 0, "e/last");
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(group_of_a_line_that_lags_has_larger_steps)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);

	owe_all(txn);
	OK(cache_owed_join(txn, 1, 7, CACHE_JOIN_BY_PHASE));
	check_steps(txn, 7,
		"d/n1 d/n2 d/n3 | e/after-fsync | d/r1 | d/r2 e/r3 | d/x");
	check_line(txn, 0, 0, "e/last");
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(large_group_is_joined_in_parts)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_owed_totals totals;
	char name[16];

	for (uint64_t i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d", (int)(i % 700));
		owe(txn, 1 + i, name);
	}
	OK(cache_owed_join(txn, 1, 3000, CACHE_JOIN_BY_PHASE));
	OK(cache_owed_totals(txn, &totals));
	ck_assert_uint_eq(totals.rows, 700);
	ck_assert_uint_eq(totals.groups, 1);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_groups");
	TCase *c = tcase_create("groups");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, joined_epochs_keep_the_newest_row_of_a_name);
	tcase_add_test(c, large_group_is_joined_in_parts);
	tcase_add_test(c, group_keeps_the_order_of_its_epochs);
	tcase_add_test(c, group_of_a_line_that_lags_has_larger_steps);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
