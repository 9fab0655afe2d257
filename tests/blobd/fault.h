/*
 * Faults on request, and waits that hold no thread.
 *
 * What it is for.  Tests ask for a failure of the next matching requests; for
 * matching requests to be held until they are released; for the whole service
 * to be down; for latency.
 *
 * Threads: all functions from any thread; one mutex inside, not held while a
 * request is resumed.
 * Ownership: a struct blobd_fault is a copy.  Errors: -EINVAL for nonsense.
 */
#ifndef BLOBD_FAULT_H
#define BLOBD_FAULT_H

#include <stdbool.h>
#include <stdint.h>

struct blobd_req;
struct base_str;

enum blobd_fault_kind {
	BLOBD_FAULT_NONE,
	BLOBD_FAULT_LATENCY,	 /* arg: ms */
	BLOBD_FAULT_STATUS,	 /* status; arg: Retry-After, or -1 */
	BLOBD_FAULT_RESET,	 /* before it is applied */
	BLOBD_FAULT_RESET_AFTER, /* applied, unanswered */
	BLOBD_FAULT_HALF,	 /* half of the body, then close */
	BLOBD_FAULT_STALL,	 /* no answer; arg: ms, or -1 */
	BLOBD_FAULT_STALL_BODY,	 /* half, then nothing; arg: ms, or -1 */
	BLOBD_FAULT_WRONG_LENGTH,
	BLOBD_FAULT_FLIP,  /* a byte of the body, whichever way it goes */
	BLOBD_FAULT_WHOLE, /* 200 with everything for a range */
	BLOBD_FAULT_CORRUPT_XML,
	BLOBD_FAULT_ENDLESS_PAGE,
	BLOBD_FAULT_EMPTY_PAGE, /* no names, and a NextMarker */
};

struct blobd_fault {
	enum blobd_fault_kind kind;
	unsigned status;
	char code[48]; /* "": the usual one of that status */
	int64_t arg;
};

int blobd_fault_add(const char *op, const char *name, const char *kind,
	unsigned count, unsigned skip);
void blobd_fault_clear(void);
/* The fault that this request meets, counted. */
struct blobd_fault blobd_fault_match(const struct blobd_req *req);

int blobd_hook_add(
	const char *op, const char *name, unsigned count, bool after);
/* Are there any? */
bool blobd_hook_wanted(void);
/* Is the request to be held here?  It must be suspended already, and is
 * resumed by a release: true means it may be gone. */
bool blobd_hook_hold(struct blobd_req *req, bool after);
/* Resumes up to count held requests (0: all) and, unless keep, drops the
 * hooks. */
void blobd_hook_release(unsigned count, bool keep);
void blobd_hook_print(struct base_str *out);
/* A stall without an end; ended by blobd_fault_clear().  Already suspended. */
void blobd_fault_stall(struct blobd_req *req);

/* Ends all waits, and lets none begin. */
void blobd_fault_stop(void);

/* Calls fn(arg) after delay_ns, on the timer's thread. */
void blobd_timer_after(int64_t delay_ns, void (*fn)(void *), void *arg);
void blobd_timer_start(void);
/* From now on nothing waits; what waited runs at once. */
void blobd_timer_stop(void);

#endif
