/*
 * Retries, all of them: what an answer means, whether to try again, when, and
 * whether the store is there at all.
 *
 * What it is for.  Pure decisions, no clock and no randomness of its own: the
 * caller brings both, so that tests can.
 *   blob_retry_judge()  one attempt's end -> final result or another attempt
 *   blob_retry_delay_ms()  the pause before that attempt
 *   struct blob_circuit  consecutive failures -> DOWN, and back
 *
 * The rule for mutations (PUT, COMMIT, DELETE, COPY, SET_META): an attempt is
 * repeated only if it was surely not applied.  That is: it was never fully
 * sent, or the service itself says that it refused to begin (ServerBusy, 429,
 * 401).  500 InternalError, OperationTimedOut, 502, 504 and a lost answer may
 * hide a success: BLOB_AMBIGUOUS, at once.  All else is idempotent (a block's
 * id is the hash of its bytes) and is repeated until the deadline.
 *
 * Threads and locks.  judge and delay: any, no state.  The circuit has a lock
 * of its own (BASE_RANK_BLOB_RETRY) and never calls out.
 *
 * Errors: none.
 */
#ifndef BLOB_RETRY_H
#define BLOB_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "blob/header.h"
#include "blob/store.h"

/* First pause; doubled each time, +-50 %.  A round trip to the service is
 * 2 to 20 ms, so the first retry is not felt. */
#define BLOB_RETRY_BASE_MS 100
/* Longest pause of our own making. */
#define BLOB_RETRY_MAX_MS 8000
/* Longest Retry-After that we believe; the service sends seconds. */
#define BLOB_RETRY_AFTER_MAX_MS 300000
/* Failures to reach the store in a row, over at least this long, that open
 * the circuit: sixty connections that die together are one event. */
#define BLOB_CIRCUIT_FAILURES 5
#define BLOB_CIRCUIT_AGE_MS 1000
/* Between probes while the store is not UP: first, longest. */
#define BLOB_CIRCUIT_PROBE_MS 1500
#define BLOB_CIRCUIT_PROBE_MAX_MS 10000

/* How an attempt ended, as far as the wire is concerned. */
enum blob_end {
	BLOB_END_ANSWERED, /* a whole answer (a mutation: its headers) */
	BLOB_END_UNSENT,   /* surely not received whole by the service */
	BLOB_END_LOST,	   /* may have been received; no whole answer */
	BLOB_END_STOPPED,  /* we stopped it: head() or data() said so */
	BLOB_END_BODY,	   /* our own body could not be read */
};

/* What is known of an attempt. */
struct blob_attempt {
	enum blob_op op;
	enum blob_end end;
	int status;	  /* HTTP, 0: none */
	const char *code; /* x-ms-error-code, "" if none */
	/* Of the copy's source: x-ms-copy-source-status-code, 0: none. */
	int source_status;
	bool service; /* the answer carries x-ms-request-id: no gateway's */
};

enum blob_verdict_kind {
	BLOB_VERDICT_FINAL,
	BLOB_VERDICT_RETRY,  /* after a pause, until the deadline */
	BLOB_VERDICT_REAUTH, /* once, with a fresh token; else final */
};

struct blob_verdict {
	enum blob_verdict_kind kind;
	/* FINAL: the result.  RETRY: the result if time is up. */
	enum blob_result result;
	/* Set where the service's own word is missing or says less. */
	const char *code;
};

/* Repeating it could apply it twice. */
bool blob_op_mutates(enum blob_op op);
/* Success and its exact status for an op: anything else in 2xx is not the
 * service's answer. */
bool blob_retry_success(enum blob_op op, int status);
struct blob_verdict blob_retry_judge(const struct blob_attempt *attempt);
/* The -errno of store.h for a result. */
int blob_retry_errno(enum blob_result result);

/* What Retry-After, retry-after-ms or x-ms-retry-after-ms asks for, in all
 * their forms; 0: nothing.  `now_s` is CLOCK_REALTIME, used where the answer
 * has no Date. */
int64_t blob_retry_after_ms(const struct blob_headers *headers, int64_t now_s);
/* Pause before attempt number `attempt` (the second is 1). */
int64_t blob_retry_delay_ms(
	unsigned attempt, int64_t after_ms, uint32_t random);

/* ---- whether the store answers ---- */

/* What an attempt says about the store as a whole. */
enum blob_sign_of_life {
	BLOB_LIFE_NONE,	   /* nothing */
	BLOB_LIFE_OK,	   /* it served us */
	BLOB_LIFE_ANSWER,  /* it answers; whether it serves is open */
	BLOB_LIFE_FAILURE, /* not reached */
	BLOB_LIFE_DENIED,  /* refuses us, whatever we ask */
	BLOB_LIFE_UNLIKED, /* refuses this request; perhaps all */
	BLOB_LIFE_GONE,	   /* no container */
};
enum blob_sign_of_life blob_retry_life(const struct blob_attempt *attempt);

struct blob_circuit {
	struct base_mutex lock;
	enum blob_state state;
	bool served;	    /* a request has succeeded since open */
	unsigned failures;  /* in a row */
	int64_t since_ns;   /* of the first of them */
	unsigned probes_nr; /* since it is not UP */
	char why[256];	    /* one line, why it is not UP */
};

void blob_circuit_init(struct blob_circuit *circuit);
void blob_circuit_fini(struct blob_circuit *circuit);
/* May a request go out?  Not while DOWN. */
bool blob_circuit_admits(struct blob_circuit *circuit);
/* Returns whether the state changed. */
bool blob_circuit_note(struct blob_circuit *circuit,
	enum blob_sign_of_life life, int64_t now_ns, const char *why);
enum blob_state blob_circuit_state(
	struct blob_circuit *circuit, char *ret_why, size_t why_bytes);
/* Pause before the next probe. */
int64_t blob_circuit_probe_ms(struct blob_circuit *circuit, uint32_t random);

#endif
