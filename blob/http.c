/*
 * HTTP over libcurl: see http.h.
 *
 * Threads: blob_http_new() starts `threads_nr` loops (loop_main), stopped and
 * joined by blob_http_free().  blob_http_token() runs on its caller's thread.
 *
 * States of a call:
 *	idle -> waiting		blob_loop_start()
 *	waiting -> running	a place is free and prepare() agreed
 *	waiting -> idle		prepare() refused, or abort
 *	running -> idle		finish(), then done(); or abort
 *
 * Sent once.  curl repeats a request by itself when a kept-alive connection
 * turns out dead before any byte came back.  That is wanted for what may be
 * repeated.  For a call marked `once` it is not, as the server may have acted
 * before it died: the pre-request hook refuses a second start, and a body
 * cannot be rewound.  What is known then:
 *	the hook never ran, or curl sent no byte: unsent;
 *	curl has not taken the whole body from us: unsent, as no server may act
 *	on half a request;
 *	anything else: lost.
 */
#include "blob/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"

/* How often running calls are looked at for progress. */
#define TICK_MS 250
/* An idle loop wakes for nothing but this. */
#define IDLE_POLL_MS 60000

struct queue {
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
	struct blob_timers timers;
	struct queue waiting[2]; /* foreground, background */
	struct queue running;
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

int64_t blob_loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void enqueue(struct queue *q, struct blob_call *call)
{
	call->next = NULL;
	call->prev = q->last;
	if (q->last != NULL)
		q->last->next = call;
	else
		q->first = call;
	q->last = call;
}

static void dequeue(struct queue *q, struct blob_call *call)
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

/* ---- what curl calls ---- */

static size_t on_header(char *line, size_t size, size_t nr, void *arg)
{
	struct blob_call *call = arg;
	size_t len = size * nr;
	long status = 0;

	if (call->answered)
		return len; /* a trailer */
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		blob_headers_clear(&call->answer);
		return len;
	}
	if (line[0] != '\r' && line[0] != '\n') {
		if (blob_headers_parse(&call->answer, line, len) == 0)
			return len;
		call->stop_err = -E2BIG;
		return 0;
	}
	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return len;
	call->status = (int)status;
	call->answered = true;
	call->stop_err = call->head(call);
	return call->stop_err == 0 ? len : 0;
}

static size_t on_data(char *buf, size_t size, size_t nr, void *arg)
{
	struct blob_call *call = arg;
	size_t len = size * nr;

	if (!call->answered)
		return 0;
	call->stop_err = call->data(call, buf, len);
	return call->stop_err == 0 ? len : 0;
}

static size_t on_read(char *buf, size_t size, size_t nr, void *arg)
{
	struct blob_call *call = arg;
	const struct blob_body *body = call->body;
	uint64_t left = body ? body->len_bytes - call->taken_bytes : 0;
	size_t len = size * nr;
	ssize_t n;

	if (len > left)
		len = (size_t)left;
	if (len == 0)
		return 0;
	if (body->mem != NULL) {
		memcpy(buf, (const char *)body->mem + call->taken_bytes, len);
	} else {
		n = pread(body->fd, buf, len,
			(off_t)(body->offset + call->taken_bytes));
		if (n <= 0) {
			/* Shorter than it was: it changed under us. */
			call->body_err = n < 0 ? -errno : -EBADE;
			return CURL_READFUNC_ABORT;
		}
		len = (size_t)n;
	}
	call->taken_bytes += len;
	return len;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct blob_call *call = arg;

	if (call->once || origin != SEEK_SET || offset < 0 ||
		(uint64_t)offset > call->body->len_bytes)
		return CURL_SEEKFUNC_FAIL;
	call->taken_bytes = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* A connection is there and the request is about to go out. */
static int on_send(void *arg, char *ip, char *local_ip, int port, int local)
{
	struct blob_call *call = arg;

	(void)ip;
	(void)local_ip;
	(void)port;
	(void)local;
	if (call->sends++ > 0 && call->once)
		return CURL_PREREQFUNC_ABORT;
	return CURL_PREREQFUNC_OK;
}

/* ---- one call ---- */

static void set_common(struct blob_http *http, CURL *easy, bool no_proxy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "forebay");
	if (http->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
	if (http->ca_dir != NULL)
		curl_easy_setopt(easy, CURLOPT_CAPATH, http->ca_dir);
	/* Otherwise curl reads the environment's proxies by itself. */
	if (no_proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

static struct curl_slist *header_list(const struct blob_kv *kv, size_t nr)
{
	struct curl_slist *list = NULL, *longer;
	struct base_str line = BASE_STR_INIT;
	size_t i;

	for (i = 0; i <= nr; i++) {
		base_str_clear(&line);
		if (i == nr) /* or curl waits for a 100 it may never get */
			base_str_puts(&line, "Expect:");
		else if (kv[i].value[0] == '\0') /* how curl wants it empty */
			base_str_printf(&line, "%s;", kv[i].key);
		else
			base_str_printf(
				&line, "%s: %s", kv[i].key, kv[i].value);
		longer = curl_slist_append(list, line.data);
		if (longer == NULL)
			abort();
		list = longer;
	}
	explicit_bzero(line.data, line.cap);
	base_str_fini(&line);
	return list;
}

static void free_list(struct curl_slist *list)
{
	struct curl_slist *l;

	for (l = list; l != NULL; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(list);
}

static void set_body(CURL *easy, struct blob_call *call)
{
	const struct blob_body *body = call->body;
	uint64_t len = body != NULL ? body->len_bytes : 0;

	if (strcmp(call->method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
		return;
	}
	if (strcmp(call->method, "PUT") != 0) {
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
		return;
	}
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)len);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(easy, CURLOPT_READDATA, call);
	if (len == 0)
		return;
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, call);
	if (len > 65536)
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE,
			(long)(len < BLOB_HTTP_UPLOAD_BYTES
					? len
					: BLOB_HTTP_UPLOAD_BYTES));
}

static void set_call(CURL *easy, struct blob_call *call)
{
	struct blob_http *http = call->loop->http;

	set_common(http, easy, http->config.no_proxy);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(easy, CURLOPT_URL, call->url.data);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->list);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_send);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
	curl_easy_setopt(
		easy, CURLOPT_CONNECTTIMEOUT_MS, (long)http->config.connect_ms);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN,
		call->once ? (long)BLOB_HTTP_IDLE_ONCE_S
			   : (long)BLOB_HTTP_IDLE_S);
	if (call->bulk)
		curl_easy_setopt(easy, CURLOPT_BUFFERSIZE,
			(long)BLOB_HTTP_RECEIVE_BYTES);
	set_body(easy, call);
}

/* What became of the request, from where curl stood when it failed. */
static enum blob_end judge(struct blob_call *call, CURLcode rc)
{
	long sent = 0;

	if (call->body_err != 0)
		return BLOB_END_BODY;
	if (call->stop_err != 0)
		return BLOB_END_STOPPED;
	if (call->answered &&
		(rc == CURLE_OK || call->once || call->status >= 300))
		return BLOB_END_ANSWERED;
	curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (call->sends == 0 || sent == 0)
		return BLOB_END_UNSENT;
	if (call->body != NULL && call->taken_bytes < call->body->len_bytes)
		return BLOB_END_UNSENT;
	return BLOB_END_LOST;
}

static int errno_of(CURLcode rc)
{
	switch (rc) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CONNECT_ERROR:
		return -EPROTO;
	default:
		return -ECONNRESET;
	}
}

static void release(struct blob_call *call)
{
	struct blob_loop *loop = call->loop;

	curl_multi_remove_handle(loop->multi, call->easy);
	curl_easy_reset(call->easy);
	if (loop->spare_nr < loop->limit)
		loop->spare[loop->spare_nr++] = call->easy;
	else
		curl_easy_cleanup(call->easy);
	call->easy = NULL;
	free_list(call->list);
	call->list = NULL;
	dequeue(&loop->running, call);
	call->running = false;
	loop->running_nr--;
	if (call->background)
		loop->background_nr--;
}

static void settle(struct blob_call *call, CURLcode rc, const char *why)
{
	call->end = judge(call, rc);
	call->silent_ns = blob_loop_now_ns() - call->progress_ns;
	call->err = call->body_err ? call->body_err
		: call->stop_err   ? call->stop_err
				   : errno_of(rc);
	snprintf(call->why, sizeof(call->why), "%s",
		call->end == BLOB_END_ANSWERED ? "" : why);
	release(call);
}

static void refuse(struct blob_call *call, int err, const char *why)
{
	call->end = BLOB_END_STOPPED;
	call->err = err;
	snprintf(call->why, sizeof(call->why), "%s", why);
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

static void run(struct blob_loop *loop, struct blob_call *call)
{
	CURL *easy;
	int err = call->prepare(call);

	if (err != 0) {
		refuse(call, err, "not sent");
		call->done(call);
		return;
	}
	easy = loop->spare_nr > 0 ? loop->spare[--loop->spare_nr]
				  : curl_easy_init();
	if (easy == NULL)
		abort();
	call->easy = easy;
	call->list = header_list(call->request.kv, call->request.nr);
	call->progress_ns = blob_loop_now_ns();
	set_call(easy, call);
	call->running = true;
	enqueue(&loop->running, call);
	loop->running_nr++;
	if (call->background)
		loop->background_nr++;
	if (curl_multi_add_handle(loop->multi, easy) != CURLM_OK)
		abort();
}

void blob_loop_start(struct blob_loop *loop, struct blob_call *call)
{
	assert(!call->waiting && !call->running);
	reset_out(call);
	call->loop = loop;
	call->waiting = true;
	enqueue(&loop->waiting[call->background], call);
}

void blob_loop_abort(struct blob_call *call)
{
	if (call->waiting) {
		dequeue(&call->loop->waiting[call->background], call);
		call->waiting = false;
	} else if (call->running) {
		settle(call, CURLE_OPERATION_TIMEDOUT, "out of time");
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

static void start_waiting(struct blob_loop *loop)
{
	struct blob_call *call;

	while (loop->running_nr < loop->limit) {
		call = choose(loop);
		if (call == NULL)
			return;
		dequeue(&loop->waiting[call->background], call);
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
		settle(call, rc, curl_easy_strerror(rc));
		call->done(call);
	}
}

static uint64_t progress_of(CURL *easy)
{
	curl_off_t up = 0, down = 0;
	long head = 0, request = 0;

	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &head);
	curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request);
	return (uint64_t)up + (uint64_t)down + (uint64_t)head +
		(uint64_t)request;
}

static bool is_stuck(struct blob_call *call, int64_t now_ns)
{
	uint64_t progress = progress_of(call->easy);
	bool asked = call->sends > 0 &&
		(call->body == NULL ||
			call->taken_bytes == call->body->len_bytes);
	uint32_t limit_ms =
		asked && !call->answered ? call->answer_ms : call->stall_ms;

	if (progress != call->progress) {
		call->progress = progress;
		call->progress_ns = now_ns;
	}
	/* curl itself watches over connecting. */
	return call->sends > 0 && limit_ms > 0 &&
		now_ns - call->progress_ns > limit_ms * INT64_C(1000000);
}

static void tick(struct blob_loop *loop, int64_t now_ns)
{
	struct blob_call *call, *next;

	if (now_ns < loop->tick_ns)
		return;
	loop->tick_ns = now_ns + TICK_MS * INT64_C(1000000);
	for (call = loop->running.first; call != NULL; call = next) {
		next = call->next;
		if (!is_stuck(call, now_ns))
			continue;
		settle(call, CURLE_OPERATION_TIMEDOUT, "stalled");
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

/* ---- a blocking request, for tokens ---- */

struct blocking {
	struct blob_http *http;
	struct blob_token_http *token;
	struct blob_headers headers;
};

static size_t blocking_header(char *line, size_t size, size_t nr, void *arg)
{
	struct blocking *b = arg;
	size_t len = size * nr;

	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		blob_headers_clear(&b->headers);
	else if (blob_headers_parse(&b->headers, line, len) != 0)
		return 0;
	return len;
}

static size_t blocking_data(char *buf, size_t size, size_t nr, void *arg)
{
	struct blocking *b = arg;
	size_t len = size * nr;

	if (b->token->reply.len + len > BLOB_TOKEN_REPLY_BYTES_MAX)
		return 0;
	base_str_add(&b->token->reply, buf, len);
	return len;
}

static int blocking_progress(void *arg, curl_off_t dl, curl_off_t dl_now,
	curl_off_t ul, curl_off_t ul_now)
{
	struct blocking *b = arg;

	(void)dl;
	(void)dl_now;
	(void)ul;
	(void)ul_now;
	return atomic_load(&b->http->quit) ? 1 : 0;
}

static void set_blocking(
	CURL *easy, struct blocking *b, struct curl_slist *list)
{
	struct blob_token_http *t = b->token;

	set_common(b->http, easy, t->no_proxy);
	curl_easy_setopt(easy, CURLOPT_URL, t->url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
	if (t->body != NULL) {
		curl_easy_setopt(
			easy, CURLOPT_POSTFIELDSIZE, (long)strlen(t->body));
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, t->body);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, t->method);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, blocking_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, b);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, blocking_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, b);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, blocking_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, b);
	curl_easy_setopt(
		easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)t->timeout_ms);
}

void blob_http_token(void *arg, struct blob_token_http *token)
{
	struct blocking b = { arg, token, { 0 } };
	struct curl_slist *list;
	const char *challenge;
	sigset_t all, old;
	long status = 0;
	CURLcode rc;
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		abort();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	list = header_list(token->headers, token->headers_nr);
	set_blocking(easy, &b, list);
	rc = curl_easy_perform(easy);
	if (rc == CURLE_OK) {
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		token->status = (int)status;
		challenge = blob_headers_get(&b.headers, "www-authenticate");
		if (challenge != NULL)
			base_str_puts(&token->www_authenticate, challenge);
		token->retry_after_ms =
			blob_retry_after_ms(&b.headers, time(NULL));
	} else {
		token->err = errno_of(rc);
		log_debug("token endpoint: %s", curl_easy_strerror(rc));
	}
	curl_easy_cleanup(easy);
	free_list(list);
	blob_headers_fini(&b.headers);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
