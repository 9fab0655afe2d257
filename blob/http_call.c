/*
 * One call on curl: see http.h.
 *
 * Sent once.  curl repeats a request by itself when a kept-alive connection
 * turns out dead before any byte came back.  That is wanted for what may be
 * repeated.  For a call marked `once` it is not, as the server may have acted
 * before it died: the pre-request hook refuses a second start, and a body
 * cannot be rewound.  What is known then:
 *	the hook never ran, or curl sent no byte: unsent;
 *	curl has not taken the whole body from us: unsent, as no server may act
 *	on half a request.  (The last KiB is held back until curl asks again,
 *	which it does when it has sent what it had; curl's own count of bytes
 *	sent starts anew when it starts anew.)
 *	anything else: lost.
 */
#include "blob/http_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

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

/* What of a body that must go once is handed over last. */
#define TAIL_BYTES 1024

static size_t on_read(char *buf, size_t size, size_t nr, void *arg)
{
	struct blob_call *call = arg;
	const struct blob_body *body = call->body;
	uint64_t left = body ? body->len_bytes - call->taken_bytes : 0;
	size_t len = size * nr;
	ssize_t n;

	if (len > left)
		len = (size_t)left;
	if (call->once && len == left && left > TAIL_BYTES)
		len -= TAIL_BYTES;
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

/* ---- what it is asked ---- */

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

	blob_http_set_common(http, easy, http->config.no_proxy);
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

/* ---- what became of it ---- */

/* Went all of the body to the socket?  Good enough to choose a time limit: curl
 * may hold megabytes that it has taken and not sent. */
static bool body_is_out(const struct blob_call *call)
{
	curl_off_t up = 0;

	curl_easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	return call->body == NULL || (uint64_t)up >= call->body->len_bytes;
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
	if (call->sends == 0 || (call->sends == 1 && sent == 0))
		return BLOB_END_UNSENT;
	if (call->body != NULL && call->taken_bytes < call->body->len_bytes)
		return BLOB_END_UNSENT;
	return BLOB_END_LOST;
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
	blob_http_list_free(call->list);
	call->list = NULL;
	blob_call_dequeue(&loop->running, call);
	call->running = false;
	loop->running_nr--;
	if (call->background)
		loop->background_nr--;
}

void blob_call_settle(struct blob_call *call, CURLcode rc, const char *why)
{
	call->end = judge(call, rc);
	call->silent_ns = blob_loop_now_ns() - call->progress_ns;
	call->err = call->body_err ? call->body_err
		: call->stop_err   ? call->stop_err
				   : blob_http_errno(rc);
	snprintf(call->why, sizeof(call->why), "%s",
		call->end == BLOB_END_ANSWERED ? "" : why);
	release(call);
}

void blob_call_run(struct blob_loop *loop, struct blob_call *call)
{
	CURL *easy;

	easy = loop->spare_nr > 0 ? loop->spare[--loop->spare_nr]
				  : curl_easy_init();
	if (easy == NULL)
		abort();
	call->easy = easy;
	call->list = blob_http_list_new(call->request.kv, call->request.nr);
	call->progress_ns = blob_loop_now_ns();
	set_call(easy, call);
	call->running = true;
	blob_call_enqueue(&loop->running, call);
	loop->running_nr++;
	if (call->background)
		loop->background_nr++;
	if (curl_multi_add_handle(loop->multi, easy) != CURLM_OK)
		abort();
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

bool blob_call_stuck(struct blob_call *call, int64_t now_ns)
{
	uint64_t progress = progress_of(call->easy);
	bool asked = call->sends > 0 && body_is_out(call);
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
