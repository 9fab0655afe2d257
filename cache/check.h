/*
 * Private to cache/: checking an index against its data files (cache_check()).
 *
 * What it is for.  check.c opens, locks, goes through the checks in their
 * order and closes; check_rows.c looks at rows, check_files.c at data files.
 * They speak to the database by themselves, since nothing of what is checked
 * may be trusted, the helpers of db.h least.
 *
 * Threads: one.  Ownership: everything belongs to struct cache_check.
 * Errors: -errno; what is wrong with the cache is no error but a finding.
 */
#ifndef CACHE_CHECK_H
#define CACHE_CHECK_H

#include "cache/db.h"

struct cache_check {
	const struct cache_check_config *config;
	struct cache_checked *ret;
	sqlite3 *db;
	int dir_fds[CACHE_DIRS_MAX];
	int lock_fds[CACHE_DIRS_MAX];
	const char *what, *text; /* of the row check that runs */
	bool settled; /* not in the middle of anything when it was closed */
};

/* One thing that is wrong; `name` may be NULL. */
void cache_check_found(struct cache_check *c, const char *what,
	const char *name, uint64_t ino, const char *text);
/* The path of an inode, allocated; NULL: it has none. */
char *cache_check_path(struct cache_check *c, uint64_t ino);
/* Runs a statement that changes something, with up to two numbers bound. */
int cache_check_exec(
	struct cache_check *c, const char *sql, uint64_t a, uint64_t b);
/* Calls each(c, number, number, text) for each row (ino, other, name). */
typedef int (*cache_check_fn)(
	struct cache_check *c, uint64_t a, uint64_t b, const char *name);
int cache_check_each(
	struct cache_check *c, const char *sql, cache_check_fn each);
int cache_check_number(struct cache_check *c, const char *sql, int64_t *ret);

int cache_check_rows(struct cache_check *c);
/* Link counts, numbers and totals: after the files. */
int cache_check_counts(struct cache_check *c);
int cache_check_files(struct cache_check *c);
/* After the commit: what goes aside. */
int cache_check_move(struct cache_check *c);

#endif
