/*
 * Replies: see http.h.
 *
 * A range in the arena goes out by sendfile, one of several parts as an I/O
 * vector over the mapping; what is computed, paced or spoilt on purpose goes
 * through a reader.
 */
#include "tests/blobd/http.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"
#include "tests/blobd/ops.h"

#define READER_BYTES (256 << 10) /* fits the second-level cache */
/* Ranges up to here are copied rather than sent from where they lie. */
#define COPY_MAX_BYTES (32 << 10)
#define PACE_MIN_NS 1000000 /* shorter waits are added to the next */

void blobd_reply_header(
	struct blobd_req *req, const char *name, const char *value)
{
	blobd_kvs_add(&req->reply.headers, name, value);
}

void blobd_reply_printf(
	struct blobd_req *req, const char *name, const char *fmt, ...)
{
	char value[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	blobd_reply_header(req, name, value);
}

void blobd_reply_time(struct blobd_req *req, const char *name, time_t t)
{
	char text[40];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	blobd_reply_header(req, name, text);
}

void blobd_reply_etag(struct blobd_req *req, const struct blobd_blob *b)
{
	char etag[BLOBD_ETAG_BYTES];

	blobd_etag_text(b->etag, etag);
	blobd_reply_printf(req, "ETag", "\"%s\"", etag);
	blobd_reply_time(req, "Last-Modified", b->modified);
}

bool blobd_reply_error(struct blobd_req *req, unsigned status, const char *code,
	const char *detail)
{
	struct blobd_reply *r = &req->reply;

	blobd_kvs_fini(&r->headers);
	base_str_clear(&r->body);
	blobd_content_put(r->content);
	r->content = NULL;
	r->head_only = false;
	r->status = status;
	blobd_reply_header(req, "x-ms-error-code", code);
	if (strcmp(req->method, "HEAD") == 0 || status == 304)
		return false;
	blobd_reply_header(req, "Content-Type", "application/xml");
	base_str_printf(&r->body,
		"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>"
		"<Error><Code>%s</Code><Message>%s: refused by blobd."
		"\nRequestId:0\nTime:0</Message>",
		code, code);
	if (detail != NULL) {
		base_str_puts(&r->body, "<AuthenticationErrorDetail>");
		blobd_xml_text(&r->body, detail);
		base_str_puts(&r->body, "</AuthenticationErrorDetail>");
	}
	base_str_puts(&r->body, "</Error>");
	return false;
}

void blobd_reply_fault(struct blobd_req *req)
{
	static const struct {
		unsigned status;
		const char *code;
	} usual[] = {
		{ 401, "InvalidAuthenticationInfo" },
		{ 403, "AuthenticationFailed" },
		{ 404, "BlobNotFound" },
		{ 409, "BlobAlreadyExists" },
		{ 412, "ConditionNotMet" },
		{ 429, "TooManyRequests" },
		{ 500, "InternalError" },
		{ 503, "ServerBusy" },
	};
	const struct blobd_fault *f = &req->fault;
	const char *code = "InternalError";
	size_t i;

	for (i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		if (usual[i].status == f->status)
			code = usual[i].code;
	blobd_reply_error(
		req, f->status, f->code[0] != '\0' ? f->code : code, NULL);
	if (f->arg >= 0)
		blobd_reply_printf(
			req, "Retry-After", "%lld", (long long)f->arg);
	if (f->status == 401)
		blobd_reply_header(req, "WWW-Authenticate",
			"Bearer authorization_uri=https://login.microsoftonline"
			".com/tenant/oauth2/authorize "
			"resource_id=https://storage.azure.com");
}

int64_t blobd_pace_ns(bool out, uint64_t len)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static int64_t free_ns[2]; /* when each direction is idle again */
	int64_t now, wait;

	if (blobd_config.bandwidth == 0)
		return 0;
	now = blobd_now_ns();
	pthread_mutex_lock(&mutex);
	if (free_ns[out] < now)
		free_ns[out] = now;
	free_ns[out] +=
		(int64_t)((double)len * 1e9 / (double)blobd_config.bandwidth);
	wait = free_ns[out] - now;
	pthread_mutex_unlock(&mutex);
	return wait >= PACE_MIN_NS ? wait : 0;
}

/* What a reader callback works on. */
struct reader {
	struct blobd_req *req;
	struct blobd_content *content;
	uint64_t off;
	uint64_t stop;	/* from here on it fails; UINT64_MAX: never */
	uint64_t flip;	/* this byte is wrong; UINT64_MAX: none */
	uint64_t paced; /* so far the link has been booked */
	bool stalls;	/* at stop, it waits before it fails */
};

static void resume_later(void *arg)
{
	blobd_req_resume(arg);
}

static void reader_free(void *cls)
{
	struct reader *r = cls;

	blobd_content_put(r->content);
	free(r);
}

static ssize_t reader_stop(struct reader *r)
{
	int64_t ms = r->req->fault.arg;

	if (!r->stalls)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	r->stalls = false;
	MHD_suspend_connection(r->req->conn);
	if (ms >= 0)
		blobd_timer_after(ms * 1000000, resume_later, r->req);
	else
		blobd_fault_stall(r->req);
	return 0;
}

static ssize_t reader_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct reader *r = cls;
	int64_t delay_ns;

	if (pos >= r->stop)
		return reader_stop(r);
	if (max > r->stop - pos)
		max = r->stop - pos;
	if (pos >= r->paced && blobd_config.bandwidth > 0) {
		r->paced = pos + max;
		delay_ns = blobd_pace_ns(true, max);
		if (delay_ns > 0) {
			MHD_suspend_connection(r->req->conn);
			blobd_timer_after(delay_ns, resume_later, r->req);
			return 0;
		}
	}
	blobd_content_read(r->content, r->off + pos, buf, max);
	if (r->flip >= pos && r->flip < pos + max)
		buf[r->flip - pos] ^= 0x20;
	return (ssize_t)max;
}

static struct MHD_Response *make_reader(struct blobd_req *req, uint64_t len)
{
	struct reader *r = base_calloc(1, sizeof(*r));

	r->req = req;
	r->content = blobd_content_get(req->reply.content);
	r->off = req->reply.off;
	r->stop = r->flip = UINT64_MAX;
	if (req->fault.kind == BLOBD_FAULT_FLIP)
		r->flip = len / 2;
	if (req->fault.kind == BLOBD_FAULT_HALF ||
		req->fault.kind == BLOBD_FAULT_STALL_BODY)
		r->stop = len / 2;
	r->stalls = req->fault.kind == BLOBD_FAULT_STALL_BODY;
	return MHD_create_response_from_callback(
		len, READER_BYTES, reader_read, r, reader_free);
}

static void iov_content_put(void *cls)
{
	blobd_content_put(cls);
}

static struct MHD_Response *make_range(struct blobd_req *req)
{
	struct blobd_reply *r = &req->reply;
	struct MHD_Response *response;
	struct iovec *iov;
	uint64_t file_off;
	unsigned iov_nr;
	void *copy;
	int fd;

	if (blobd_config.bandwidth > 0)
		return make_reader(req, r->len);
	if (r->len <= COPY_MAX_BYTES) {
		copy = base_malloc(r->len);
		blobd_content_read(r->content, r->off, copy, r->len);
		return MHD_create_response_from_buffer(
			r->len, copy, MHD_RESPMEM_MUST_FREE);
	}
	if (blobd_content_fd(r->content, r->off, r->len, &fd, &file_off))
		return MHD_create_response_from_fd_at_offset64(
			r->len, fd, file_off);
	if (!blobd_content_iov(r->content, r->off, r->len, &iov, &iov_nr))
		return make_reader(req, r->len);
	response = MHD_create_response_from_iovec((struct MHD_IoVec *)iov,
		iov_nr, iov_content_put, blobd_content_get(r->content));
	free(iov);
	return response;
}

static ssize_t nothing(void *cls, uint64_t pos, char *buf, size_t max)
{
	(void)cls, (void)pos, (void)buf, (void)max;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* A body in memory that a fault is to spoil becomes a content. */
static void body_to_content(struct blobd_req *req)
{
	struct blobd_reply *r = &req->reply;
	struct blobd_extent *e;

	if (r->content != NULL || r->head_only || r->body.len == 0)
		return;
	e = blobd_extent_new(r->body.len);
	blobd_extent_write(e, 0, r->body.data, r->body.len);
	r->content = blobd_content_of(e);
	r->off = 0;
	r->len = r->body.len;
}

static struct MHD_Response *make_response(
	struct blobd_req *req, uint64_t *ret_bytes)
{
	struct blobd_reply *r = &req->reply;
	enum blobd_fault_kind kind = req->fault.kind;
	bool spoilt = kind == BLOBD_FAULT_HALF ||
		kind == BLOBD_FAULT_STALL_BODY ||
		(kind == BLOBD_FAULT_FLIP && req->md5_ctx == NULL);

	if (kind == BLOBD_FAULT_WRONG_LENGTH || spoilt)
		body_to_content(req);
	*ret_bytes = 0;
	if (r->head_only)
		return MHD_create_response_from_callback(
			r->len, 1, nothing, NULL, NULL);
	if (r->content != NULL && r->len > 0) {
		if (kind == BLOBD_FAULT_WRONG_LENGTH)
			r->len--;
		*ret_bytes = r->len;
		if (kind == BLOBD_FAULT_HALF || kind == BLOBD_FAULT_STALL_BODY)
			*ret_bytes = r->len / 2;
		return r->len > 0 && spoilt ? make_reader(req, r->len)
					    : make_range(req);
	}
	*ret_bytes = r->body.len;
	return MHD_create_response_from_buffer(r->body.len,
		r->body.len > 0 ? r->body.data : (void *)"",
		MHD_RESPMEM_MUST_COPY);
}

enum MHD_Result blobd_reply_send(struct blobd_req *req)
{
	struct blobd_reply *r = &req->reply;
	struct MHD_Response *response;
	enum MHD_Result ret;
	const char *id;
	uint64_t bytes;
	size_t i;

	if (r->status == 0)
		blobd_reply_error(req, 500, "InternalError", NULL);
	response = make_response(req, &bytes);
	if (response == NULL)
		return MHD_NO;
	for (i = 0; i < r->headers.nr; i++)
		MHD_add_response_header(
			response, r->headers.v[i].key, r->headers.v[i].value);
	MHD_add_response_header(response, "Server", "blobd");
	if (req->op != BLOBD_OP_CONTROL) {
		id = blobd_req_header(req, "x-ms-version");
		MHD_add_response_header(response, "x-ms-version",
			id != NULL ? id : "2021-12-02");
		MHD_add_response_header(response, "x-ms-request-id",
			"00000000-0000-0000-0000-000000000000");
		id = blobd_req_header(req, "x-ms-client-request-id");
		if (id != NULL)
			MHD_add_response_header(
				response, "x-ms-client-request-id", id);
	}
	blobd_stat_reply(req, bytes);
	if (req->op == BLOBD_OP_GET && r->status < 300)
		blobd_stat_read(req->container, req->name, r->off, bytes);
	ret = MHD_queue_response(req->conn, r->status, response);
	MHD_destroy_response(response);
	return ret;
}
