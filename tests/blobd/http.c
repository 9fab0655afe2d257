/*
 * Requests in and out of libmicrohttpd: see http.h.
 *
 * A pool of threads, each with its own epoll set, started by MHD_start_daemon
 * and joined by MHD_stop_daemon.  A request that waits is suspended: it costs
 * memory, not a thread.
 */
#include "tests/blobd/http.h"

#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/blobd/log.h"
#include "tests/blobd/ops.h"
#include "tests/blobd/sum.h"

#define THREADS_NR 4 /* some may hash while others serve */
/* Of a connection, for headers and reading; metadata are 8 KiB at most. */
#define MEMORY_PER_CONNECTION (128 << 10)
#define TEXT_MAX_BYTES (16 << 20) /* a block list of 50,000 is 6 MiB */

const char *const blobd_op_names[BLOBD_OPS_NR] = {
	[BLOBD_OP_PUT] = "put",
	[BLOBD_OP_PUTBLOCK] = "putblock",
	[BLOBD_OP_COMMIT] = "commit",
	[BLOBD_OP_GET] = "get",
	[BLOBD_OP_HEAD] = "head",
	[BLOBD_OP_LIST] = "list",
	[BLOBD_OP_DELETE] = "delete",
	[BLOBD_OP_COPY] = "copy",
	[BLOBD_OP_SETMETA] = "setmeta",
	[BLOBD_OP_BLOCKS] = "blocks",
	[BLOBD_OP_SETPROPS] = "setprops",
	[BLOBD_OP_LEASE] = "lease",
	[BLOBD_OP_APPEND] = "append",
	[BLOBD_OP_TIER] = "tier",
	[BLOBD_OP_TAGS] = "tags",
	[BLOBD_OP_CONTAINER] = "container",
	[BLOBD_OP_ACCOUNT] = "account",
	[BLOBD_OP_TOKEN] = "token",
	[BLOBD_OP_OTHER] = "other",
	[BLOBD_OP_CONTROL] = "control",
};

const char *blobd_req_header(struct blobd_req *req, const char *name)
{
	const char *value = NULL;
	size_t len;

	if (MHD_lookup_connection_value_n(req->conn, MHD_HEADER_KIND, name,
		    strlen(name), &value, &len) == MHD_NO)
		return NULL;
	return value != NULL ? value : "";
}

const char *blobd_req_param(struct blobd_req *req, const char *name)
{
	size_t i;

	for (i = 0; i < req->params.nr; i++)
		if (strcmp(req->params.v[i].key, name) == 0)
			return req->params.v[i].value;
	return NULL;
}

int64_t blobd_req_number(
	struct blobd_req *req, const char *name, int64_t fallback)
{
	const char *text = blobd_req_param(req, name);

	return text != NULL && *text != '\0' ? strtoll(text, NULL, 10)
					     : fallback;
}

bool blobd_req_comp(struct blobd_req *req, const char *comp)
{
	const char *value = blobd_req_param(req, "comp");

	return comp == NULL ? value == NULL
			    : value != NULL && strcmp(value, comp) == 0;
}

void blobd_req_resume(struct blobd_req *req)
{
	MHD_resume_connection(req->conn);
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
	struct blobd_req *req = base_calloc(1, sizeof(*req));

	(void)cls;
	req->conn = conn;
	req->path = base_strdup(uri); /* the query is cut off by the router */
	return req;
}

static void req_free(struct blobd_req *req)
{
	free(req->method);
	free(req->path);
	blobd_kvs_fini(&req->params);
	free(req->container);
	free(req->name);
	blobd_extent_put(req->body);
	base_str_fini(&req->text);
	EVP_MD_CTX_free(req->md5_ctx);
	blobd_kvs_fini(&req->reply.headers);
	base_str_fini(&req->reply.body);
	blobd_content_put(req->reply.content);
	free(req);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con,
	enum MHD_RequestTerminationCode why)
{
	struct blobd_req *req = *con;

	(void)cls, (void)conn, (void)why;
	if (req == NULL)
		return;
	if (req->begun && req->stage != BLOBD_SENT)
		blobd_stat_reply(req, 0); /* never answered */
	req_free(req);
	*con = NULL;
}

/* What the client sees is a reset, whatever was sent before. */
static enum MHD_Result reset(struct blobd_req *req)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		req->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	/* Dissolving a connected socket sends the RST at once. */
	if (info != NULL)
		(void)!connect(info->connect_fd, &none, sizeof(none));
	return MHD_NO;
}

static bool is_upload(const struct blobd_req *req)
{
	return req->op == BLOBD_OP_PUT || req->op == BLOBD_OP_PUTBLOCK ||
		req->op == BLOBD_OP_APPEND;
}

/* All headers are here: what is it, may it, which fault will it meet? */
static void begin(struct blobd_req *req, const char *method)
{
	const char *length = blobd_req_header(req, "Content-Length");
	char *uri = req->path;

	req->begun = true;
	req->method = base_strdup(method);
	req->path = NULL;
	req->op = BLOBD_OP_OTHER;
	if (length != NULL) {
		req->has_length = true;
		req->body_len = strtoull(length, NULL, 10);
	}
	req->refused = !blobd_route(req, uri) || !blobd_auth_check(req);
	free(uri);
	blobd_stat_request(req);
	if (req->op != BLOBD_OP_CONTROL)
		req->fault = blobd_fault_match(req);
	if (!req->refused && strcmp(method, "PUT") == 0 && !req->has_length)
		req->refused = !blobd_reply_error(
			req, 411, "MissingContentLengthHeader", NULL);
	if (!req->refused)
		req->refused = !blobd_ops_accept(req);
	if (req->refused || !is_upload(req))
		return;
	req->body = blobd_extent_new(req->body_len);
	req->md5_ctx = EVP_MD_CTX_new();
	EVP_DigestInit_ex(req->md5_ctx, EVP_md5(), NULL);
	req->want_crc = blobd_req_header(req, "x-ms-content-crc64") != NULL;
}

static void take_upload(struct blobd_req *req, const char *data, size_t len)
{
	char *flipped = NULL;

	if (req->body_got + len > req->body_len)
		return; /* not possible: MHD counts too */
	if (req->fault.kind == BLOBD_FAULT_FLIP && req->body_got == 0) {
		flipped = base_memdup(data, len);
		flipped[len / 2] ^= 0x20;
		data = flipped;
	}
	blobd_extent_write(req->body, req->body_got, data, len);
	EVP_DigestUpdate(req->md5_ctx, data, len);
	if (req->want_crc)
		req->crc = blobd_crc64(req->crc, data, len);
	free(flipped);
}

static void resume_later(void *arg)
{
	blobd_req_resume(arg);
}

static void wait_ns(struct blobd_req *req, int64_t delay_ns)
{
	MHD_suspend_connection(req->conn);
	blobd_timer_after(delay_ns, resume_later, req);
}

static enum MHD_Result take_body(
	struct blobd_req *req, const char *data, size_t *len)
{
	int64_t delay_ns;
	size_t n = *len;

	if (req->refused)
		;
	else if (is_upload(req))
		take_upload(req, data, n);
	else if (req->text.len + n <= TEXT_MAX_BYTES)
		base_str_add(&req->text, data, n);
	req->body_got += n;
	*len = 0;
	delay_ns = blobd_pace_ns(false, n);
	if (delay_ns > 0)
		wait_ns(req, delay_ns);
	return MHD_YES;
}

/* The faults that take the place of an answer.  True: *ret is what to do. */
static bool fail(struct blobd_req *req, enum MHD_Result *ret)
{
	switch (req->fault.kind) {
	case BLOBD_FAULT_RESET:
		*ret = reset(req);
		return true;
	case BLOBD_FAULT_STALL:
		req->stage = BLOBD_DOOMED;
		MHD_suspend_connection(req->conn);
		if (req->fault.arg >= 0)
			blobd_timer_after(
				req->fault.arg * 1000000, resume_later, req);
		else
			blobd_fault_stall(req);
		*ret = MHD_YES;
		return true;
	case BLOBD_FAULT_STATUS:
		blobd_reply_fault(req);
		return false;
	default:
		return false;
	}
}

static void apply(struct blobd_req *req)
{
	unsigned char *sum = req->md5;

	if (req->refused || req->fault.kind == BLOBD_FAULT_STATUS)
		return;
	if (req->md5_ctx != NULL)
		EVP_DigestFinal_ex(req->md5_ctx, sum, NULL);
	blobd_ops_run(req);
}

/* The whole request is here: one step a call, as long as nothing waits. */
static enum MHD_Result advance(struct blobd_req *req)
{
	bool control = req->op == BLOBD_OP_CONTROL;
	enum MHD_Result ret;
	int64_t ms = 0;

	if (req->stage == BLOBD_BODY) {
		req->stage = BLOBD_ARRIVED;
		if (!control)
			ms = blobd_control_latency_ms();
		if (req->fault.kind == BLOBD_FAULT_LATENCY)
			ms += req->fault.arg;
		if (ms > 0) {
			wait_ns(req, ms * 1000000);
			return MHD_YES;
		}
	}
	if (!control && blobd_control_down())
		return reset(req);
	if (req->stage == BLOBD_ARRIVED) {
		req->stage = BLOBD_ADMITTED;
		if (!control && blobd_hook_wanted()) {
			MHD_suspend_connection(req->conn);
			if (!blobd_hook_hold(req, false))
				blobd_req_resume(req);
			return MHD_YES;
		}
	}
	if (req->stage == BLOBD_DOOMED)
		return reset(req);
	if (req->stage == BLOBD_ADMITTED) {
		if (fail(req, &ret))
			return ret;
		apply(req);
		if (req->fault.kind == BLOBD_FAULT_RESET_AFTER)
			return reset(req);
		req->stage = BLOBD_APPLIED;
		if (!control && blobd_hook_wanted()) {
			MHD_suspend_connection(req->conn);
			if (!blobd_hook_hold(req, true))
				blobd_req_resume(req);
			return MHD_YES;
		}
	}
	req->stage = BLOBD_SENT;
	return blobd_reply_send(req);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn,
	const char *url, const char *method, const char *version,
	const char *data, size_t *len, void **con)
{
	struct blobd_req *req = *con;

	(void)cls, (void)conn, (void)url, (void)version;
	if (!req->begun) {
		begin(req, method);
		return MHD_YES;
	}
	if (*len > 0)
		return take_body(req, data, len);
	return advance(req);
}

/* Names and parameters are decoded by route.c, from what was on the wire. */
static size_t no_unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls, (void)conn;
	return strlen(s);
}

struct MHD_Daemon *blobd_http_start(
	uint16_t port, const char *tls_cert, const char *tls_key)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD |
		MHD_ALLOW_SUSPEND_RESUME | (tls_cert != NULL ? MHD_USE_TLS : 0);
	/* Nobody else's business: the control interface asks for no key. */
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct MHD_OptionItem tls[] = {
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)tls_cert },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)tls_key },
		{ MHD_OPTION_END, 0, NULL },
	};

	if (tls_cert == NULL)
		tls[0].option = MHD_OPTION_END;
	return MHD_start_daemon(flags, port, NULL, NULL, on_request, NULL,
		MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS_NR,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)MEMORY_PER_CONNECTION, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)4096, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1U,
		MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
		MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}
