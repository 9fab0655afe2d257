/* Rows of the journal, for its tests.  Header of those programs only. */
#ifndef TESTS_UNIT_CACHE_OWED_H
#define TESTS_UNIT_CACHE_OWED_H

#include "tests/unit/cache_index.h"

static inline struct cache_owed row_of(
	uint64_t epoch, const char *name, enum cache_kind kind)
{
	/* Names in these tests are literals or live long enough. */
	return (struct cache_owed){
		.epoch = epoch, .name = (char *)(uintptr_t)name, .kind = kind
	};
}

static inline uint64_t owe(
	struct cache_txn *txn, uint64_t epoch, const char *name)
{
	struct cache_owed row = row_of(epoch, name, CACHE_GONE);

	OK(cache_owed_add(txn, &row));
	return row.seq;
}

static inline void set_state(
	struct cache_txn *txn, uint64_t seq, enum cache_owed_state state)
{
	struct cache_owed row;

	OK(cache_owed_get(txn, seq, &row));
	row.state = state;
	OK(cache_owed_put(txn, &row));
	cache_owed_fini(&row);
}

struct seen {
	char text[256];
	size_t stop_after;
};

static inline int note(void *arg, const struct cache_owed *row)
{
	struct seen *s = arg;
	size_t len = strlen(s->text);

	snprintf(s->text + len, sizeof(s->text) - len, "%s%s", len ? " " : "",
		row->name);
	return s->stop_after != 0 && --s->stop_after == 0 ? 9 : 0;
}

static inline void check_line(
	struct cache_txn *txn, uint64_t epoch, uint64_t after, const char *want)
{
	struct seen s = { .text = "" };

	OK(cache_owed_each(txn, epoch, after, note, &s));
	ck_assert_str_eq(s.text, want);
}

#endif
