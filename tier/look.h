/*
 * One look at the line: what may start, what may become visible.  Private to
 * line.c and look.c; lives for one tick, on the strand.
 */
#ifndef TIER_LOOK_H
#define TIER_LOOK_H

#include "tier/line.h"

struct look {
	struct tier_line *line;
	struct cache_txn *txn;
	uint64_t epoch;	   /* the lowest */
	uint64_t last_seq; /* the newest row of it; of a group: of its step */
	int64_t now;
	bool flushing;
	int64_t oldest_ns; /* when its first row entered */
	size_t in_epoch;   /* rows of it seen; of a group: of its step */
	int64_t wake_ns;   /* when the first row that is not due will be */
	/* picked, started after the transaction */
	struct cache_owed picked[TIER_SEND_PARALLEL];
	bool picked_go[TIER_SEND_PARALLEL];
	size_t picked_nr;
	uint64_t go[TIER_SEND_PARALLEL];
	size_t go_nr;
	/* a group */
	bool group;
	uint64_t step; /* the lowest */
	size_t large;  /* files of it that are staged, seen */
	bool unstaged; /* one of them is not staged yet */
	/* a directory rename of this epoch, at most one at a time */
	bool renaming;
	uint64_t renaming_step; /* of its next names, in a group */
	bool expand;		/* more of it may enter the line */
	char held[512];
};

bool tier_row_is_large(const struct cache_owed *row);
/* Looks at the rows of the lowest epoch and, for staging, beyond.  Inside a
 * read transaction; fills what was picked. */
int tier_look(struct look *look, struct cache_txn *txn);

#endif
