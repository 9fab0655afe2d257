/*
 * Building requests for the Azure store.
 */
#include "blob/azure_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/base64.h"
#include "blob/azure_props.h"
#include "blob/name.h"

/* ---- queries ---- */

static void list_query(struct azure_run *run, struct base_str *q)
{
	const struct blob_req *req = run->req;
	uint32_t max = req->in.list.max;

	base_str_puts(q,
		"restype=container&comp=list&include="
		"metadata%2Cimmutabilitypolicy%2Clegalhold");
	if (!req->in.list.recursive)
		base_str_puts(q, "&delimiter=%2F");
	base_str_printf(q, "&maxresults=%u",
		max == 0 || max > 5000 ? 5000 : (unsigned)max);
	if (run->blob.len > 0) {
		base_str_puts(q, "&prefix=");
		blob_azure_escape(q, run->blob.data, run->blob.len);
	}
	if (req->in.list.start != NULL) {
		base_str_puts(q, "&marker=");
		blob_azure_escape(
			q, req->in.list.start, strlen(req->in.list.start));
	}
}

static void block_query(struct azure_run *run, struct base_str *q)
{
	struct base_str id = BASE_STR_INIT;

	base_base64_encode(run->req->in.block.id, BLOB_BLOCK_ID_BYTES, &id);
	base_str_puts(q, "comp=block&blockid=");
	blob_azure_escape(q, id.data, id.len);
	base_str_fini(&id);
}

static void build_query(struct azure_run *run, struct base_str *q)
{
	switch (run->req->op) {
	case BLOB_LIST:
		list_query(run, q);
		break;
	case BLOB_PUT_BLOCK:
	case BLOB_PUT_BLOCK_URL:
		block_query(run, q);
		break;
	case BLOB_COMMIT:
		base_str_puts(q, "comp=blocklist");
		break;
	case BLOB_GET_BLOCKS:
		base_str_puts(q, "comp=blocklist&blocklisttype=committed");
		break;
	case BLOB_SET_META:
		base_str_puts(q, "comp=metadata");
		break;
	case BLOB_GET_TAGS:
		base_str_puts(q, "comp=tags");
		break;
	default:
		break;
	}
	if (run->azure->auth == BLOB_AUTH_SAS) {
		if (q->len > 0)
			base_str_putc(q, '&');
		base_str_puts(q, blob_creds_sas(run->azure->creds));
	}
}

/* ---- headers ---- */

static int add_base64(
	struct blob_headers *h, const char *key, const void *bytes, size_t len)
{
	struct base_str s = BASE_STR_INIT;
	int err;

	base_base64_encode(bytes, len, &s);
	err = blob_headers_add(h, key, s.data);
	base_str_fini(&s);
	return err;
}

static int add_common(struct blob_headers *h)
{
	char date[BLOB_HEADER_DATE_BYTES];
	uint32_t id[4] = { 0 };
	ssize_t n;
	int err;

	blob_header_format_date(time(NULL), date);
	/* Only to find an attempt in the service's log again. */
	n = getrandom(id, sizeof(id), 0);
	(void)n;
	err = blob_headers_add(h, "x-ms-date", date);
	if (err == 0)
		err = blob_headers_add(h, "x-ms-version", AZURE_VERSION);
	if (err == 0)
		err = blob_headers_addf(h, "x-ms-client-request-id",
			"%08x-%04x-%04x-%04x-%04x%08x", id[0], id[1] & 0xffff,
			id[1] >> 16, id[2] & 0xffff, id[2] >> 16, id[3]);
	return err;
}

static int add_meta(struct blob_headers *h, const struct blob_req *req)
{
	struct base_str key = BASE_STR_INIT;
	size_t i;
	int err = 0;

	for (i = 0; i < req->meta_nr && err == 0; i++) {
		base_str_clear(&key);
		base_str_printf(&key, "x-ms-meta-%s", req->meta[i].key);
		err = blob_headers_add(h, key.data, req->meta[i].value);
	}
	base_str_fini(&key);
	return err;
}

/* Content headers of the blob; for a copy only what a copy does not keep. */
static int add_content(struct blob_headers *h, const struct blob_req *req)
{
	static const char *const names[][2] = {
		{ "content-type", "x-ms-blob-content-type" },
		{ "content-encoding", "x-ms-blob-content-encoding" },
		{ "content-language", "x-ms-blob-content-language" },
		{ "content-disposition", "x-ms-blob-content-disposition" },
		{ "cache-control", "x-ms-blob-cache-control" },
		{ "x-ms-access-tier", "x-ms-access-tier" },
		{ "x-ms-encryption-scope", "x-ms-encryption-scope" },
		{ "x-ms-tags", "x-ms-tags" },
	};
	size_t i, j, from = req->op == BLOB_COPY ? 5 : 0;
	int err = 0;

	for (i = 0; i < req->headers_nr; i++)
		for (j = from; j < sizeof(names) / sizeof(*names); j++)
			if (strcmp(req->headers[i].key, names[j][0]) == 0 &&
				err == 0)
				err = blob_headers_add(
					h, names[j][1], req->headers[i].value);
	return err;
}

static int add_range(struct azure_run *run, struct blob_headers *h)
{
	const struct blob_req *req = run->req;
	uint64_t start = req->in.get.offset + run->got;
	const char *etag = req->cond.if_match;
	int err = 0;

	if (run->sized)
		etag = req->props.etag;
	if (etag != NULL)
		err = blob_headers_add(h, "If-Match", etag);
	if (err == 0 && run->end != UINT64_MAX)
		err = blob_headers_addf(h, "Range",
			"bytes=%" PRIu64 "-%" PRIu64, start, run->end - 1);
	else if (err == 0 && start > 0)
		err = blob_headers_addf(
			h, "Range", "bytes=%" PRIu64 "-", start);
	return err;
}

static int add_condition(struct blob_headers *h, const struct blob_req *req)
{
	if (req->cond.if_match != NULL)
		return blob_headers_add(h, "If-Match", req->cond.if_match);
	if (req->cond.if_none_match_any)
		return blob_headers_add(h, "If-None-Match", "*");
	return 0;
}

/* Where the service reads the source from, and its leave to do so: even within
 * one account it wants a SAS or a token of its own. */
static int add_source(
	struct azure_run *run, struct blob_headers *h, const char *etag)
{
	const struct azure *azure = run->azure;
	struct base_str s = BASE_STR_INIT;
	int err = 0;

	base_str_printf(&s, "%s://%s%s/", azure->url.https ? "https" : "http",
		azure->url.authority, azure->url.root);
	blob_name_url(run->source.data, &s);
	if (azure->auth == BLOB_AUTH_TOKEN) {
		err = blob_headers_addf(h, "x-ms-copy-source-authorization",
			"Bearer %s", run->bearer.data);
	} else {
		base_str_putc(&s, '?');
		err = blob_sign_source_sas(azure->creds, azure->account,
			azure->url.container, run->source.data, time(NULL), &s);
	}
	if (err == 0 && s.len > AZURE_SOURCE_BYTES_MAX)
		err = -EOPNOTSUPP;
	if (err == 0)
		err = blob_headers_add(h, "x-ms-copy-source", s.data);
	if (err == 0 && etag != NULL)
		err = blob_headers_add(h, "x-ms-source-if-match", etag);
	explicit_bzero(s.data, s.cap);
	base_str_fini(&s);
	return err;
}

static int add_source_range(struct blob_headers *h, const struct blob_req *req)
{
	uint64_t start = req->in.block.source_offset;

	return blob_headers_addf(h, "x-ms-source-range",
		"bytes=%" PRIu64 "-%" PRIu64, start,
		start + req->in.block.source_len_bytes - 1);
}

static int add_rewrite(struct blob_headers *h, const struct blob_req *req)
{
	int err = add_condition(h, req);

	if (err == 0)
		err = add_meta(h, req);
	if (err == 0 && req->op != BLOB_SET_META)
		err = add_content(h, req);
	return err;
}

static int add_op(struct azure_run *run, struct blob_headers *h)
{
	const struct blob_req *req = run->req;
	int err = 0;

	switch (req->op) {
	case BLOB_GET:
		return add_range(run, h);
	case BLOB_LIST:
	case BLOB_PUT_BLOCK:
	case BLOB_GET_TAGS:
		return 0;
	case BLOB_HEAD:
	case BLOB_GET_BLOCKS:
	case BLOB_DELETE:
		return add_condition(h, req);
	case BLOB_PUT:
		err = blob_headers_add(h, "x-ms-blob-type", "BlockBlob");
		break;
	case BLOB_COMMIT:
		if (req->in.commit.md5 != NULL)
			err = add_base64(h, "x-ms-blob-content-md5",
				req->in.commit.md5, 16);
		break;
	case BLOB_PUT_BLOCK_URL:
		err = add_source(run, h, req->in.block.source_etag);
		return err != 0 ? err : add_source_range(h, req);
	case BLOB_COPY:
		err = blob_headers_add(h, "x-ms-requires-sync", "true");
		if (err == 0)
			err = add_source(run, h, req->in.copy.source_etag);
		break;
	case BLOB_SET_META:
		break;
	}
	return err != 0 ? err : add_rewrite(h, req);
}

static int add_auth(struct azure_run *run, const char *path, const char *query)
{
	const struct azure *azure = run->azure;
	struct blob_call *call = &run->call;
	struct base_str value = BASE_STR_INIT;
	struct blob_sign_msg msg = { .method = call->method,
		.path = path,
		.query = query,
		.content_length =
			call->body != NULL ? call->body->len_bytes : 0,
		.headers = call->request.kv,
		.headers_nr = call->request.nr };
	int err = 0;

	if (azure->auth == BLOB_AUTH_SAS)
		return 0;
	if (azure->auth == BLOB_AUTH_TOKEN)
		base_str_printf(&value, "Bearer %s", run->bearer.data);
	else
		err = blob_sign_shared_key(
			azure->creds, azure->account, &msg, &value);
	if (err == 0)
		err = blob_headers_add(
			&call->request, "Authorization", value.data);
	if (value.data != NULL)
		explicit_bzero(value.data, value.cap);
	base_str_fini(&value);
	return err;
}

static const char *method_of(enum blob_op op)
{
	switch (op) {
	case BLOB_HEAD:
		return "HEAD";
	case BLOB_GET:
	case BLOB_LIST:
	case BLOB_GET_BLOCKS:
	case BLOB_GET_TAGS:
		return "GET";
	case BLOB_DELETE:
		return "DELETE";
	default:
		return "PUT";
	}
}

static bool has_body(enum blob_op op)
{
	return op == BLOB_PUT || op == BLOB_PUT_BLOCK || op == BLOB_COMMIT;
}

int azure_request_build(struct azure_run *run)
{
	const struct azure *azure = run->azure;
	const struct blob_req *req = run->req;
	struct blob_call *call = &run->call;
	struct base_str path = BASE_STR_INIT, query = BASE_STR_INIT;
	int err;

	call->method = method_of(req->op);
	call->body = has_body(req->op) ? &run->body : NULL;
	call->once = blob_op_mutates(req->op);
	call->bulk = req->op == BLOB_GET &&
		run->end - (req->in.get.offset + run->got) > 65536;
	base_str_puts(&path, azure->url.root);
	if (req->op != BLOB_LIST) {
		base_str_putc(&path, '/');
		blob_name_url(run->blob.data, &path);
	}
	base_str_puts(&query, "");
	build_query(run, &query);
	base_str_clear(&call->url);
	base_str_printf(&call->url, "%s://%s%s%s%s",
		azure->url.https ? "https" : "http", azure->url.authority,
		path.data, query.len > 0 ? "?" : "", query.data);
	blob_headers_clear(&call->request);
	err = add_common(&call->request);
	if (err == 0 && call->body != NULL)
		err = add_base64(
			&call->request, "Content-MD5", call->body->md5, 16);
	if (err == 0)
		err = add_op(run, &call->request);
	if (err == 0)
		err = add_auth(run, path.data, query.data);
	explicit_bzero(query.data, query.cap);
	base_str_fini(&query);
	base_str_fini(&path);
	return err;
}
