/* Append blobs, access tiers, tags: see ops.h. */
#include "tests/blobd/ops.h"

#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"

#define APPENDS_MAX 50000

static bool append_fine(struct blobd_req *req, const struct blobd_blob *b)
{
	const char *pos =
		blobd_req_header(req, "x-ms-blob-condition-appendpos");
	const char *max = blobd_req_header(req, "x-ms-blob-condition-maxsize");
	uint64_t size = b->content->size;

	if (b->type != BLOBD_APPEND_BLOB)
		return blobd_reply_error(req, 409, "InvalidBlobType", NULL);
	if (req->body_len == 0)
		return blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
	if (b->appends_nr >= APPENDS_MAX)
		return blobd_reply_error(
			req, 409, "BlockCountExceedsLimit", NULL);
	if (pos != NULL && strtoull(pos, NULL, 10) != size)
		return blobd_reply_error(
			req, 412, "AppendPositionConditionNotMet", NULL);
	if (max != NULL && size + req->body_len > strtoull(max, NULL, 10))
		return blobd_reply_error(
			req, 412, "MaxBlobSizeConditionNotMet", NULL);
	return true;
}

static struct blobd_record *append_locked(
	struct blobd_req *req, struct blobd_content *more)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	struct blobd_content *list[2], *joined;
	uint64_t before, at;

	if (b == NULL || !blobd_cond_check(req, b, BLOBD_COND_WRITE) ||
		!blobd_lease_check_write(req, b) || !append_fine(req, b))
		return NULL;
	before = b->etag;
	at = b->content->size;
	list[0] = b->content;
	list[1] = more;
	joined = blobd_content_join(list, 2);
	blobd_content_put(b->content);
	b->content = joined;
	b->appends_nr++;
	blobd_blob_touch(b);
	blobd_reply_etag(req, b);
	blobd_reply_printf(
		req, "x-ms-blob-append-offset", "%llu", (unsigned long long)at);
	blobd_reply_printf(
		req, "x-ms-blob-committed-block-count", "%u", b->appends_nr);
	return blobd_log_add(req, "append", req->container, req->name, before,
		b, b->content->size, NULL);
}

void blobd_op_append(struct blobd_req *req)
{
	struct blobd_content *more = blobd_content_of(req->body);
	struct blobd_record *record;

	req->body = NULL;
	blobd_store_wrlock();
	record = append_locked(req, more);
	blobd_store_unlock();
	if (record != NULL) {
		blobd_log_finish(record);
		req->reply.status = 201;
	}
	blobd_content_put(more);
}

static struct blobd_record *tier_locked(struct blobd_req *req)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	const char *tier = NULL;

	if (b == NULL || !blobd_tier_from(req, &tier))
		return NULL;
	if (tier == NULL || b->type != BLOBD_BLOCK_BLOB) {
		blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
		return NULL;
	}
	req->reply.status = 200;
	if (b->tier != NULL && strcmp(b->tier, "Archive") == 0 &&
		strcmp(tier, "Archive") != 0) {
		/* Takes hours; here it never ends. */
		b->rehydrating = true;
		req->reply.status = 202;
	} else {
		b->tier = tier;
	}
	return blobd_log_add(req, "tier", req->container, req->name, b->etag, b,
		b->content->size, tier);
}

void blobd_op_tier(struct blobd_req *req)
{
	struct blobd_record *record;

	blobd_store_wrlock();
	record = tier_locked(req);
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
}

/* The text after <tag>, up to the next '<'; NULL: no more. */
static char *next_text(const char **p, const char *tag)
{
	const char *at = strstr(*p, tag);
	size_t len;
	char *text;

	if (at == NULL)
		return NULL;
	at += strlen(tag);
	len = strcspn(at, "<");
	text = base_memdup(at, len + 1);
	text[len] = '\0';
	*p = at + len;
	return text;
}

static void set_tags(struct blobd_req *req, struct blobd_blob *b)
{
	const char *p = req->text.data != NULL ? req->text.data : "";
	struct blobd_props *props = blobd_props_dup(b->props);
	char *key, *value;

	blobd_kvs_fini(&props->tags);
	while ((key = next_text(&p, "<Key>")) != NULL) {
		value = next_text(&p, "<Value>");
		blobd_kvs_add(&props->tags, key, value != NULL ? value : "");
		free(key);
		free(value);
	}
	blobd_props_put(b->props);
	b->props = props;
	req->reply.status = 204;
}

static void print_tags(struct blobd_req *req, const struct blobd_blob *b)
{
	struct base_str *out = &req->reply.body;
	size_t i;

	base_str_puts(out,
		"\xef\xbb\xbf<?xml version=\"1.0\" "
		"encoding=\"utf-8\"?><Tags><TagSet>");
	for (i = 0; i < b->props->tags.nr; i++) {
		base_str_puts(out, "<Tag><Key>");
		blobd_xml_text(out, b->props->tags.v[i].key);
		base_str_puts(out, "</Key><Value>");
		blobd_xml_text(out, b->props->tags.v[i].value);
		base_str_puts(out, "</Value></Tag>");
	}
	base_str_puts(out, "</TagSet></Tags>");
	req->reply.status = 200;
	blobd_reply_header(req, "Content-Type", "application/xml");
}

void blobd_op_tags(struct blobd_req *req)
{
	bool set = strcmp(req->method, "PUT") == 0;
	struct blobd_record *record = NULL;
	struct blobd_container *c;
	struct blobd_blob *b;

	blobd_store_wrlock();
	c = blobd_need_container(req);
	b = c != NULL ? blobd_need_blob(req, c) : NULL;
	if (b != NULL && !set) {
		print_tags(req, b);
	} else if (b != NULL && blobd_lease_check_write(req, b)) {
		set_tags(req, b);
		record = blobd_log_add(req, "tags", req->container, req->name,
			b->etag, b, b->content->size, NULL);
	}
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
}
