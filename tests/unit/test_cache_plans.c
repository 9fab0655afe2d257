/*
 * The plan of every statement that the program can prepare (CACHE_SQL): none
 * goes through a whole table, or a whole index, that grows, nor sorts what it
 * found, but those that are named here with their reason.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cache/db.h"
#include "tests/unit/cache_index.h"

/* Put there by the linker. */
extern const char *const __start_cache_sql[], *const __stop_cache_sql[];

/* How a statement begins, and why it may. */
static const struct {
	const char *sql, *why;
} named[] = {
	{ "SELECT count(*), coalesce(sum(local_bytes)",
		"once, at an open after a close that was not clean" },
	{ "SELECT coalesce(sum(state <> 2)", "the same" },
	{ "SELECT 1 FROM pin LIMIT 1", "reads one row" },
	{ "SELECT 1 FROM sent WHERE settled = 0", "of those under way, one" },
	{ "SELECT (SELECT count(*) FROM inode i INDEXED BY inode_written",
		"status: open writers, pins, conflicts" },
	{ "SELECT id, path", "jobs: commands of people" },
	{ "SELECT id, name, copy", "a list of conflicts is what was asked" },
	{ "DELETE FROM conflict WHERE copy", "few, and few are taken away" },
	{ "UPDATE conflict SET ", "few, at a directory's rename" },
	{ "SELECT ino FROM held", "once, at a fresh mount" },
	{ "SELECT ino FROM inode WHERE written = 1",
		"once, at a fresh mount: writers that were open" },
	{ "UPDATE owed SET step = ?1 * 4 + 2", "directories of one group" },
	{ "SELECT epoch FROM owed INDEXED BY owed_ino", "rows of one file" },
	{ "SELECT number, host, name", "requests for one name" },
	{ "SELECT ino FROM inode INDEXED BY inode_written",
		"once, after the power went: what was dirty then" },
	{ "SELECT slot, request, reply FROM replied",
		"a ring, read once, by a new worker" },
	{ "SELECT i.ino, i.kind",
		"inode_far, inode_unread: inodes with the same content" },
};
#define NAMED (sizeof(named) / sizeof(named[0]))

static bool used[NAMED];

static bool is_named(const char *sql)
{
	for (size_t i = 0; i < NAMED; i++) {
		if (strncmp(sql, named[i].sql, strlen(named[i].sql)) == 0) {
			used[i] = true;
			return true;
		}
	}
	return false;
}

/* Steps of a plan that cost more the more rows there are. */
static bool grows(const char *step)
{
	return strncmp(step, "SCAN ", 5) == 0
		? strcmp(step, "SCAN CONSTANT ROW") != 0
		: strstr(step, "TEMP B-TREE") != NULL ||
			strstr(step, "AUTOMATIC") != NULL;
}

/* Is any step of this plan one of those?  Prints them. */
static bool plan_grows(sqlite3 *db, const char *sql)
{
	struct base_str explain = BASE_STR_INIT;
	sqlite3_stmt *stmt;
	bool found = false;

	base_str_puts(&explain, "EXPLAIN QUERY PLAN ");
	base_str_puts(&explain, sql);
	ck_assert_msg(sqlite3_prepare_v2(db, explain.data, -1, &stmt, NULL) ==
			SQLITE_OK,
		"%s: %s", sql, sqlite3_errmsg(db));
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *step = (const char *)sqlite3_column_text(stmt, 3);

		if (grows(step) && !is_named(sql)) {
			fprintf(stderr, "%s\n\tin: %s\n", step, sql);
			found = true;
		}
	}
	sqlite3_finalize(stmt);
	base_str_fini(&explain);
	return found;
}

START_TEST(no_statement_scans_a_table_that_grows)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	size_t nr = (size_t)(__stop_cache_sql - __start_cache_sql);
	bool found = false;

	ck_assert_uint_gt(nr, 100);
	for (const char *const *sql = __start_cache_sql; sql < __stop_cache_sql;
		sql++)
		found |= plan_grows(txn->db, *sql);
	ck_assert(!found);
	for (size_t i = 0; i < NAMED; i++)
		ck_assert_msg(used[i], "nothing begins with: %s", named[i].sql);
	/* It would be seen. */
	ck_assert(plan_grows(txn->db, "SELECT * FROM owed WHERE size > 3"));
	ck_assert(plan_grows(txn->db,
		"SELECT * FROM owed WHERE epoch = 3 AND state <> 2 "
		"ORDER BY size"));
	cache_abort(txn);
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_plans");
	TCase *c = tcase_create("plans");

	tcase_add_test(c, no_statement_scans_a_table_that_grows);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
