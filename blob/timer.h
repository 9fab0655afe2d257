/*
 * Timers of one event loop: a heap of those that are set.
 *
 * Threads: one only, the loop's.
 * Ownership: a struct blob_timer lies in its owner, who drops it before it
 * goes away.  Zeroed is a timer that is not set.
 * Errors: none.
 */
#ifndef BLOB_TIMER_H
#define BLOB_TIMER_H

#include <stddef.h>
#include <stdint.h>

struct blob_timer {
	void (*fn)(struct blob_timer *);
	int64_t due_ns; /* CLOCK_MONOTONIC */
	size_t place;	/* in the heap, from 1; 0: not set */
};

struct blob_timers {
	struct blob_timer **heap; /* from [1] */
	size_t nr, cap;
};

/* Sets it, or moves it if it is set. */
void blob_timer_set(struct blob_timers *timers, struct blob_timer *timer,
	int64_t due_ns, void (*fn)(struct blob_timer *));
void blob_timer_drop(struct blob_timers *timers, struct blob_timer *timer);
/* Runs those that are due.  They may set and drop any. */
void blob_timers_run(struct blob_timers *timers, int64_t now_ns);
/* When the next is due; INT64_MAX: none is set. */
int64_t blob_timers_next(const struct blob_timers *timers);
void blob_timers_fini(struct blob_timers *timers);

#endif
