/*
 * The event loops: see http.h.
 *
 * Threads: blob_http_new() starts `loops_nr` loops (loop_main), stopped and
 * joined by blob_http_free().
 *
 * States of a call:
 *	idle -> waiting		blob_loop_start()
 *	waiting -> running	a place is free and prepare() agreed
 *	waiting -> idle		prepare() refused, or abort
 *	running -> idle		it ended or stalled, then done(); or abort
 */
#include "blob/http_impl.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How often running calls are looked at for progress. */
#define TICK_MS 250
/* An idle loop wakes for nothing but this. */
#define IDLE_POLL_MS 60000

int64_t blob_loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void blob_call_enqueue(struct blob_call_queue *q, struct blob_call *call)
{
	call->next = NULL;
	call->prev = q->last;
	if (q->last != NULL)
		q->last->next = call;
	else
		q->first = call;
	q->last = call;
}

void blob_call_dequeue(struct blob_call_queue *q, struct blob_call *call)
{
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		q->first = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	else
		q->last = call->prev;
	call->prev = call->next = NULL;
}

static void reset_out(struct blob_call *call)
{
	call->end = BLOB_END_UNSENT;
	call->err = 0;
	call->why[0] = '\0';
	call->status = 0;
	blob_headers_clear(&call->answer);
	call->answered = false;
	call->taken_bytes = 0;
	call->sends = 0;
	call->stop_err = 0;
	call->body_err = 0;
	call->progress = 0;
	call->silent_ns = 0;
}

void blob_loop_start(struct blob_loop *loop, struct blob_call *call)
{
	assert(!call->waiting && !call->running);
	reset_out(call);
	call->loop = loop;
	call->waiting = true;
	blob_call_enqueue(&loop->waiting[call->background], call);
}

void blob_loop_abort(struct blob_call *call)
{
	if (call->waiting) {
		blob_call_dequeue(&call->loop->waiting[call->background], call);
		call->waiting = false;
	} else if (call->running) {
		blob_call_settle(call, CURLE_OPERATION_TIMEDOUT, "out of time");
	}
}

void blob_call_fini(struct blob_call *call)
{
	assert(!call->waiting && !call->running);
	if (call->url.data != NULL)
		explicit_bzero(call->url.data, call->url.cap);
	base_str_fini(&call->url);
	blob_headers_fini(&call->request);
	blob_headers_fini(&call->answer);
}

/* ---- the loop ---- */

static struct blob_call *choose(struct blob_loop *loop)
{
	struct blob_call *fore = loop->waiting[0].first;
	struct blob_call *back = loop->waiting[1].first;
	unsigned spare = loop->limit / 4;

	/* Some places stay free for whoever comes and waits. */
	if (loop->background_nr + spare >= loop->limit)
		back = NULL;
	if (fore == NULL || back == NULL)
		return fore != NULL ? fore : back;
	return ++loop->turn % BLOB_HTTP_BACKGROUND_TURN == 0 ? back : fore;
}

static void run(struct blob_loop *loop, struct blob_call *call)
{
	int err = call->prepare(call);

	if (err == 0) {
		blob_call_run(loop, call);
		return;
	}
	call->end = BLOB_END_STOPPED;
	call->err = err;
	snprintf(call->why, sizeof(call->why), "not sent");
	call->done(call);
}

static void start_waiting(struct blob_loop *loop)
{
	struct blob_call *call;

	while (loop->running_nr < loop->limit) {
		call = choose(loop);
		if (call == NULL)
			return;
		blob_call_dequeue(&loop->waiting[call->background], call);
		call->waiting = false;
		run(loop, call);
	}
}

static void reap(struct blob_loop *loop)
{
	struct blob_call *call = NULL;
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(loop->multi, &left)) != NULL) {
		CURLcode rc = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &call);
		blob_call_settle(call, rc, curl_easy_strerror(rc));
		call->done(call);
	}
}

static void tick(struct blob_loop *loop, int64_t now_ns)
{
	struct blob_call *call, *next;

	if (now_ns < loop->tick_ns)
		return;
	loop->tick_ns = now_ns + TICK_MS * INT64_C(1000000);
	for (call = loop->running.first; call != NULL; call = next) {
		next = call->next;
		if (!blob_call_stuck(call, now_ns))
			continue;
		blob_call_settle(call, CURLE_OPERATION_TIMEDOUT, "stalled");
		call->done(call);
		/* done() may have changed the list. */
		next = loop->running.first;
	}
}

/* Returns whether to stop. */
static bool run_inbox(struct blob_loop *loop)
{
	struct blob_task *task;
	bool stop;

	base_lock(&loop->lock);
	task = loop->inbox_first;
	loop->inbox_first = loop->inbox_last = NULL;
	loop->stopping = loop->stop;
	stop = loop->stop && task == NULL;
	base_unlock(&loop->lock);
	while (task != NULL) {
		struct blob_task *next = task->next;

		task->fn(task);
		task = next;
	}
	return stop;
}

static int poll_ms(struct blob_loop *loop)
{
	int64_t now_ns = blob_loop_now_ns();
	int64_t due_ns = blob_timers_next(&loop->timers);
	int64_t ms = IDLE_POLL_MS;

	/* The wake-up for the stop may have been the one for a task. */
	if (loop->stopping)
		return 0;
	if (loop->running_nr > 0)
		ms = TICK_MS;
	if (due_ns <= now_ns)
		return 0;
	/* Rounded up, or it would spin for the last millisecond. */
	if ((due_ns - now_ns) / 1000000 < ms)
		ms = (due_ns - now_ns) / 1000000 + 1;
	return (int)ms;
}

static void *loop_main(void *arg)
{
	struct blob_loop *loop = arg;
	int running;

	pthread_setname_np(pthread_self(), "blob-http");
	while (!run_inbox(loop)) {
		int64_t now_ns = blob_loop_now_ns();

		blob_timers_run(&loop->timers, now_ns);
		tick(loop, now_ns);
		start_waiting(loop);
		curl_multi_perform(loop->multi, &running);
		reap(loop);
		start_waiting(loop);
		curl_multi_poll(loop->multi, NULL, 0, poll_ms(loop), NULL);
	}
	return NULL;
}

void blob_loop_post(struct blob_loop *loop, struct blob_task *task)
{
	bool wake;

	task->next = NULL;
	base_lock(&loop->lock);
	wake = loop->inbox_first == NULL;
	if (wake)
		loop->inbox_first = task;
	else
		loop->inbox_last->next = task;
	loop->inbox_last = task;
	base_unlock(&loop->lock);
	if (wake)
		curl_multi_wakeup(loop->multi);
}

void blob_loop_after_ms(struct blob_loop *loop, struct blob_timer *timer,
	int64_t ms, void (*fn)(struct blob_timer *))
{
	blob_timer_set(&loop->timers, timer,
		blob_loop_now_ns() + ms * INT64_C(1000000), fn);
}

void blob_loop_drop(struct blob_loop *loop, struct blob_timer *timer)
{
	blob_timer_drop(&loop->timers, timer);
}

struct blob_loop *blob_http_first(struct blob_http *http)
{
	return &http->loops[0];
}

struct blob_loop *blob_http_pick(struct blob_http *http)
{
	struct blob_loop *best = &http->loops[0];
	unsigned i;

	for (i = 1; i < http->loops_nr; i++)
		if (atomic_load(&http->loops[i].picked) <
			atomic_load(&best->picked))
			best = &http->loops[i];
	atomic_fetch_add(&best->picked, 1);
	return best;
}

struct blob_loop *blob_http_pick_first(struct blob_http *http)
{
	atomic_fetch_add(&http->loops[0].picked, 1);
	return &http->loops[0];
}

void blob_http_unpick(struct blob_loop *loop)
{
	atomic_fetch_sub(&loop->picked, 1);
}

/* ---- start and stop ---- */

static void global_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort();
}

static char *env_copy(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? base_strdup(value) : NULL;
}

static void start_loop(struct blob_http *http, struct blob_loop *loop)
{
	loop->http = http;
	loop->limit =
		(http->config.parallel + http->loops_nr - 1) / http->loops_nr;
	loop->spare = base_calloc(loop->limit, sizeof(CURL *));
	loop->multi = curl_multi_init();
	if (loop->multi == NULL)
		abort();
	curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, (long)loop->limit);
	base_mutex_init(&loop->lock, BASE_RANK_BLOB_LOOP);
	if (pthread_create(&loop->thread, NULL, loop_main, loop) != 0)
		abort();
}

struct blob_http *blob_http_new(const struct blob_http_config *config)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct blob_http *http = base_calloc(1, sizeof(*http));
	sigset_t all, old;
	unsigned i;

	pthread_once(&once, global_init);
	http->config = *config;
	/* As the curl command does; the library alone would not. */
	http->ca_file = env_copy("CURL_CA_BUNDLE");
	if (http->ca_file == NULL)
		http->ca_file = env_copy("SSL_CERT_FILE");
	http->ca_dir = env_copy("SSL_CERT_DIR");
	http->loops_nr = config->threads;
	http->loops = base_calloc(http->loops_nr, sizeof(*http->loops));
	/* The process's signals are others' business, and OpenSSL's writes
	 * may raise SIGPIPE. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < http->loops_nr; i++)
		start_loop(http, &http->loops[i]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return http;
}

void blob_http_quit(struct blob_http *http)
{
	atomic_store(&http->quit, true);
}

static void stop_loop(struct blob_loop *loop)
{
	base_lock(&loop->lock);
	loop->stop = true;
	base_unlock(&loop->lock);
	curl_multi_wakeup(loop->multi);
	pthread_join(loop->thread, NULL);
	assert(loop->running_nr == 0 && loop->inbox_first == NULL);
	while (loop->spare_nr > 0)
		curl_easy_cleanup(loop->spare[--loop->spare_nr]);
	free(loop->spare);
	curl_multi_cleanup(loop->multi);
	blob_timers_fini(&loop->timers);
	base_mutex_fini(&loop->lock);
}

void blob_http_free(struct blob_http *http)
{
	unsigned i;

	if (http == NULL)
		return;
	for (i = 0; i < http->loops_nr; i++)
		stop_loop(&http->loops[i]);
	free(http->loops);
	free(http->ca_file);
	free(http->ca_dir);
	free(http);
}
