/*
 * HTTP: event loops with kept-alive connections, over libcurl.
 *
 * What it is for.  One struct blob_call is one request and its answer: one
 * attempt, no retries, no redirects, no meaning.  Everything that knows curl
 * is in http.c.
 *
 * Threads and locks.  blob_http_new() starts the loops, blob_http_free() stops
 * and joins them.  A call lives on one loop from start to end and its
 * functions run on that loop's thread, with no lock held; so what belongs to
 * one call needs no lock.  Only blob_loop_post(), blob_http_pick() and
 * blob_http_token() may be used from other threads.
 *
 * Ownership.  Calls, tasks and timers lie in their owner and must stay until
 * done, run, dropped.  What a call points to, too.
 *
 * Order.  Each loop runs a bounded number of calls; the rest wait, those that
 * somebody waits for first, but every BLOB_HTTP_BACKGROUND_TURN-th start and a
 * share of the places goes to the background, so that neither starves.
 *
 * Errors: `end` says how it ended, `err` and `why` (one line, no secrets) what
 * went wrong on the way.
 */
#ifndef BLOB_HTTP_H
#define BLOB_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "blob/header.h"
#include "blob/retry.h"
#include "blob/store.h"
#include "blob/timer.h"
#include "blob/token.h"

/* Every eighth start is a background one if any waits. */
#define BLOB_HTTP_BACKGROUND_TURN 8
/* curl's largest receive buffer, and its largest upload buffer. */
#define BLOB_HTTP_RECEIVE_BYTES (512 * 1024)
#define BLOB_HTTP_UPLOAD_BYTES (2 * 1024 * 1024)
/* How long a connection may have lain idle and still carry a request that can
 * be sent again silently, and one that cannot.  Azurite closes after 5 s (curl
 * counts whole seconds); load balancers after minutes. */
#define BLOB_HTTP_IDLE_S 50
#define BLOB_HTTP_IDLE_ONCE_S 3

struct blob_http;
struct blob_loop;

struct blob_task {
	void (*fn)(struct blob_task *);
	struct blob_task *next;
};

struct blob_call {
	/* ---- in, before blob_loop_start() ---- */
	bool background;
	/* A place is free: fill in the rest (here, so that signatures are
	 * fresh).  Non-zero: -errno, ends the call as BLOB_END_STOPPED. */
	int (*prepare)(struct blob_call *);
	/* status and headers are there.  Non-zero: stop. */
	int (*head)(struct blob_call *);
	/* Bytes of the answer's body.  Non-zero: stop. */
	int (*data)(struct blob_call *, const void *buf, size_t len);
	/* It ended, by itself.  The call may be started again or freed. */
	void (*done)(struct blob_call *);
	/* ---- in, by prepare() at the latest ---- */
	const char *method;
	struct base_str url;	      /* may hold a SAS */
	struct blob_headers request;  /* may hold a signature */
	const struct blob_body *body; /* NULL: none */
	bool once;		      /* must not be sent twice, ever */
	bool bulk;		      /* the answer is large */
	uint32_t stall_ms;	      /* without a byte either way */
	uint32_t answer_ms;	      /* from the end of sending to the first
					* byte back; 0: no limit but the caller's */
	/* ---- out ---- */
	enum blob_end end;
	int err;
	char why[160];
	int status;
	struct blob_headers answer;
	bool answered;	   /* the headers are complete */
	int64_t silent_ns; /* since the last byte either way, at the end */
	/* ---- http.c's own ---- */
	struct blob_loop *loop;
	void *easy;
	void *list;
	uint64_t taken_bytes; /* of the body, by curl */
	unsigned sends;	      /* how often curl began to send */
	int stop_err, body_err;
	bool waiting, running;
	uint64_t progress;
	int64_t progress_ns;
	struct blob_call *prev, *next;
};

struct blob_http_config {
	unsigned threads;  /* event loops */
	unsigned parallel; /* calls at once, over all loops */
	uint32_t connect_ms;
	bool no_proxy; /* the store is on this host */
};

struct blob_http *blob_http_new(const struct blob_http_config *config);
/* Ends blob_http_token() calls early, now and later. */
void blob_http_quit(struct blob_http *http);
/* No call may be waiting or running, no task posted. */
void blob_http_free(struct blob_http *http);

/* The loop with least to do; counts one there until blob_http_unpick(). */
struct blob_loop *blob_http_pick(struct blob_http *http);
struct blob_loop *blob_http_pick_first(struct blob_http *http);
void blob_http_unpick(struct blob_loop *loop);
/* The first loop: for what must be in order. */
struct blob_loop *blob_http_first(struct blob_http *http);

/* Any thread. */
void blob_loop_post(struct blob_loop *loop, struct blob_task *task);

/* The loop's own thread: */
int64_t blob_loop_now_ns(void); /* CLOCK_MONOTONIC */
void blob_loop_after_ms(struct blob_loop *loop, struct blob_timer *timer,
	int64_t ms, void (*fn)(struct blob_timer *));
void blob_loop_drop(struct blob_loop *loop, struct blob_timer *timer);
void blob_loop_start(struct blob_loop *loop, struct blob_call *call);
/* Ends it now, without done(); sets end, err, why.  Not from prepare(),
 * head(), data().  A call that is not under way is left alone. */
void blob_loop_abort(struct blob_call *call);
/* Frees what the call holds; it must not be under way. */
void blob_call_fini(struct blob_call *call);

/* A blob_token_http_fn: one blocking request on the caller's thread; `arg` is
 * the struct blob_http. */
void blob_http_token(void *arg, struct blob_token_http *http);

#endif
