/*
 * HTTP's own: what http.c (the loops), http_call.c (one call on curl) and
 * http_token.c (the blocking one) share.  The only files that include curl.
 *
 * Threads, ownership, errors: http.h.
 */
#ifndef BLOB_HTTP_IMPL_H
#define BLOB_HTTP_IMPL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "blob/http.h"

struct blob_call_queue {
	struct blob_call *first, *last;
};

struct blob_loop {
	struct blob_http *http;
	pthread_t thread;
	CURLM *multi;
	atomic_uint picked;
	struct base_mutex lock; /* BASE_RANK_BLOB_LOOP: inbox, stop */
	struct blob_task *inbox_first, *inbox_last;
	bool stop;
	/* The loop's own: */
	bool stopping; /* stop was seen */
	struct blob_timers timers;
	struct blob_call_queue waiting[2]; /* foreground, background */
	struct blob_call_queue running;
	unsigned running_nr, background_nr, limit, turn;
	int64_t tick_ns;
	CURL **spare;
	unsigned spare_nr;
};

struct blob_http {
	struct blob_http_config config;
	char *ca_file, *ca_dir; /* from the environment, or NULL */
	atomic_bool quit;
	unsigned loops_nr;
	struct blob_loop *loops;
};

void blob_call_enqueue(struct blob_call_queue *queue, struct blob_call *call);
void blob_call_dequeue(struct blob_call_queue *queue, struct blob_call *call);

/* Hands a prepared call to curl. */
void blob_call_run(struct blob_loop *loop, struct blob_call *call);
/* Takes it back, with what became of it. */
void blob_call_settle(struct blob_call *call, CURLcode rc, const char *why);
/* Has nothing moved for too long? */
bool blob_call_stuck(struct blob_call *call, int64_t now_ns);

/* What every request wants. */
void blob_http_set_common(struct blob_http *http, CURL *easy, bool no_proxy);
struct curl_slist *blob_http_list_new(const struct blob_kv *kv, size_t nr);
void blob_http_list_free(struct curl_slist *list); /* wipes it */
int blob_http_errno(CURLcode rc);

#endif
