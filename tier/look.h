/*
 * One look at the line: what may start, what may become visible.  Private to
 * line.c and look.c; lives for one tick, on the strand.
 */
#ifndef TIER_LOOK_H
#define TIER_LOOK_H

#include "tier/line.h"

struct newest; /* look.c: of a directory, in a group */

struct look {
	struct tier_line *line;
	struct cache_txn *txn;
	uint64_t epoch, last_seq; /* the lowest, and its newest row */
	int64_t now;
	bool flushing;
	size_t in_epoch;     /* rows of it seen */
	size_t beyond;	     /* rows of later epochs seen */
	int64_t wake_ns;     /* when the first row that is not due will be */
	uint64_t last_epoch; /* epoch of the last row seen, for lag joins */
	/* picked, started after the transaction */
	struct cache_owed picked[TIER_SEND_PARALLEL];
	bool picked_go[TIER_SEND_PARALLEL];
	size_t picked_nr;
	uint64_t go[TIER_SEND_PARALLEL];
	size_t go_nr;
	/* a group's plan */
	bool group;
	int phase;     /* lowest phase with a row, -1: unknown */
	bool unstaged; /* something of it is not staged yet */
	struct newest *newest;
	char held[512];
};

bool tier_row_is_large(const struct cache_owed *row);
/* Looks at the rows of the lowest epoch and, for staging, beyond.  Inside a
 * read transaction; fills what was picked. */
int tier_look(struct look *look, struct cache_txn *txn);

#endif
