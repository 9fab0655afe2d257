/*
 * List Blobs, List Containers, account properties: see ops.h.
 *
 * A marker is "2!" and the base64 of the next name: opaque to the client, and
 * not simply the last name that it saw.
 */
#include "tests/blobd/ops.h"

#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"

#define PAGE_MAX 5000

static unsigned page_max_asked; /* atomic; 0: the service's */

void blobd_list_set_max(unsigned max)
{
	__atomic_store_n(&page_max_asked, max, __ATOMIC_RELAXED);
}

/* One listing under way. */
struct listing {
	struct blobd_req *req;
	const char *prefix, *delimiter, *include;
	unsigned max, nr;
	struct base_str *out;
	struct base_str next; /* name to go on with; empty: done */
};

static const char *param(struct blobd_req *req, const char *name)
{
	const char *value = blobd_req_param(req, name);

	return value != NULL ? value : "";
}

static bool includes(const struct listing *l, const char *what)
{
	size_t len = strlen(what);
	const char *p;

	for (p = l->include; (p = strstr(p, what)) != NULL; p += len)
		if ((p == l->include || p[-1] == ',') &&
			(p[len] == ',' || p[len] == '\0'))
			return true;
	return false;
}

static void put_tag(struct base_str *out, const char *tag, const char *value)
{
	if (value == NULL) {
		base_str_printf(out, "<%s />", tag);
		return;
	}
	base_str_printf(out, "<%s>", tag);
	blobd_xml_text(out, value);
	base_str_printf(out, "</%s>", tag);
}

static void put_time(struct base_str *out, const char *tag, time_t t)
{
	char text[40];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	put_tag(out, tag, text);
}

static void put_md5(struct base_str *out, const struct blobd_props *p)
{
	base_str_puts(out, "<Content-MD5>");
	if (p->has_md5)
		blobd_base64(out, p->md5, 16);
	base_str_puts(out, "</Content-MD5>");
}

static void put_properties(struct listing *l, const struct blobd_blob *b)
{
	static const char *const types[] = { "BlockBlob", "AppendBlob",
		"PageBlob" };
	const char *state = blobd_lease_state(b);
	struct base_str *out = l->out;
	char etag[BLOBD_ETAG_BYTES];
	int i;

	base_str_puts(out, "<Properties>");
	put_time(out, "Creation-Time", b->created);
	put_time(out, "Last-Modified", b->modified);
	blobd_etag_text(b->etag, etag);
	put_tag(out, "Etag", etag);
	base_str_printf(out, "<Content-Length>%llu</Content-Length>",
		(unsigned long long)b->content->size);
	for (i = 0; i < BLOBD_HEADERS_NR; i++)
		put_tag(out, blobd_header_names[i], b->props->headers[i]);
	put_md5(out, b->props);
	put_tag(out, "BlobType", types[b->type]);
	if (b->type == BLOBD_BLOCK_BLOB) {
		put_tag(out, "AccessTier", b->tier ? b->tier : "Hot");
		if (b->tier == NULL)
			put_tag(out, "AccessTierInferred", "true");
	}
	if (b->rehydrating)
		put_tag(out, "ArchiveStatus", "rehydrate-pending-to-hot");
	put_tag(out, "LeaseStatus",
		strcmp(state, "leased") == 0 || strcmp(state, "breaking") == 0
			? "locked"
			: "unlocked");
	put_tag(out, "LeaseState", state);
	if (b->copy != NULL && includes(l, "copy")) {
		put_tag(out, "CopyId", b->copy->id);
		put_tag(out, "CopySource", b->copy->source);
		put_tag(out, "CopyStatus", b->copy->status);
	}
	if (b->immutable && includes(l, "immutabilitypolicy")) {
		put_tag(out, "ImmutabilityPolicyUntilDate",
			"Fri, 01 Jan 2100 00:00:00 GMT");
		put_tag(out, "ImmutabilityPolicyMode", "unlocked");
	}
	put_tag(out, "ServerEncrypted", "true");
	if (b->props->tags.nr > 0)
		base_str_printf(
			out, "<TagCount>%zu</TagCount>", b->props->tags.nr);
	base_str_puts(out, "</Properties>");
}

static void put_blob(
	struct listing *l, const char *name, const struct blobd_blob *b)
{
	struct base_str *out = l->out;
	size_t i;

	base_str_puts(out, "<Blob>");
	blobd_xml_name(out, "Name", name);
	if (!b->committed) {
		base_str_puts(out,
			"<Properties><BlobType>BlockBlob</BlobType>"
			"</Properties></Blob>");
		return;
	}
	put_properties(l, b);
	if (includes(l, "metadata") && b->customer_key) {
		base_str_puts(out, "<Metadata Encrypted=\"true\" />");
	} else if (includes(l, "metadata")) {
		base_str_puts(out, "<Metadata>");
		for (i = 0; i < b->props->meta.nr; i++)
			put_tag(out, b->props->meta.v[i].key,
				b->props->meta.v[i].value);
		base_str_puts(out, "</Metadata>");
	}
	base_str_puts(out, "<OrMetadata /></Blob>");
}

/* The common prefix that stands for this name, if any. */
static bool grouped(
	const struct listing *l, const char *name, struct base_str *ret)
{
	const char *end;

	if (*l->delimiter == '\0')
		return false;
	end = strstr(name + strlen(l->prefix), l->delimiter);
	if (end == NULL)
		return false;
	base_str_clear(ret);
	base_str_add(ret, name, (size_t)(end - name) + strlen(l->delimiter));
	return true;
}

/* The least string above all that start with s. */
static void step_over(struct base_str *s)
{
	while (s->len > 0 && (unsigned char)s->data[s->len - 1] == 0xff)
		s->len--;
	if (s->len > 0)
		s->data[s->len - 1]++;
	s->data[s->len] = '\0';
}

static void walk(struct listing *l, struct blobd_container *c, const char *from)
{
	bool uncommitted = includes(l, "uncommittedblobs");
	struct base_str group = BASE_STR_INIT;
	size_t prefix_len = strlen(l->prefix);
	const struct blobd_blob *b;
	struct blobd_node *n;

	n = blobd_map_from(
		c->blobs, strcmp(from, l->prefix) > 0 ? from : l->prefix);
	while (n != NULL && strncmp(n->key, l->prefix, prefix_len) == 0) {
		b = n->value;
		if (!b->committed && !uncommitted) {
			n = n->next[0];
			continue;
		}
		if (l->nr == l->max) {
			base_str_puts(&l->next, n->key);
			break;
		}
		l->nr++;
		if (grouped(l, n->key, &group)) {
			base_str_puts(l->out, "<BlobPrefix>");
			blobd_xml_name(l->out, "Name", group.data);
			base_str_puts(l->out, "</BlobPrefix>");
			step_over(&group);
			n = blobd_map_from(c->blobs, group.data);
		} else {
			put_blob(l, n->key, b);
			n = n->next[0];
		}
	}
	base_str_fini(&group);
}

static bool marker_decode(struct blobd_req *req, struct base_str *ret)
{
	const char *marker = param(req, "marker");
	size_t len = strlen(marker);
	uint8_t *raw;
	int n;

	if (len == 0)
		return true;
	if (strncmp(marker, "2!", 2) != 0)
		return blobd_reply_error(
			req, 400, "InvalidQueryParameterValue", NULL);
	raw = base_malloc(len);
	/* In pieces: a name may have 4 KiB. */
	for (marker += 2; *marker != '\0'; marker += 4) {
		char piece[5] = { marker[0], 0, 0, 0, 0 };

		if (strlen(marker) >= 4)
			memcpy(piece, marker, 4);
		n = blobd_unbase64(piece, raw, 3);
		if (n <= 0) {
			free(raw);
			return blobd_reply_error(
				req, 400, "InvalidQueryParameterValue", NULL);
		}
		base_str_add(ret, raw, (size_t)n);
	}
	free(raw);
	return true;
}

static bool page_size(struct blobd_req *req, unsigned *ret)
{
	unsigned asked = __atomic_load_n(&page_max_asked, __ATOMIC_RELAXED);
	int64_t max = blobd_req_number(req, "maxresults", PAGE_MAX);

	if (max <= 0)
		return blobd_reply_error(
			req, 400, "OutOfRangeQueryParameterValue", NULL);
	if (max > PAGE_MAX)
		max = PAGE_MAX;
	if (asked > 0 && max > asked)
		max = asked;
	*ret = (unsigned)max;
	return true;
}

static void put_head(struct listing *l)
{
	const char *host = blobd_req_header(l->req, "Host");
	struct base_str *out = l->out;

	base_str_printf(out,
		"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>"
		"<EnumerationResults ServiceEndpoint=\"http://%s/%s/\" "
		"ContainerName=\"%s\">",
		host != NULL ? host : "", blobd_config.account,
		l->req->container);
	if (*l->prefix != '\0')
		blobd_xml_name(out, "Prefix", l->prefix);
	if (*param(l->req, "marker") != '\0')
		put_tag(out, "Marker", param(l->req, "marker"));
	if (blobd_req_param(l->req, "maxresults") != NULL)
		base_str_printf(out, "<MaxResults>%u</MaxResults>", l->max);
	if (*l->delimiter != '\0')
		put_tag(out, "Delimiter", l->delimiter);
	base_str_puts(out, "<Blobs>");
}

static void put_tail(struct listing *l)
{
	base_str_puts(l->out, "</Blobs>");
	if (l->next.len > 0) {
		base_str_puts(l->out, "<NextMarker>2!");
		blobd_base64(l->out, l->next.data, l->next.len);
		base_str_puts(l->out, "</NextMarker>");
	} else {
		base_str_puts(l->out, "<NextMarker />");
	}
	base_str_puts(l->out, "</EnumerationResults>");
}

static void list_locked(struct listing *l, const char *from)
{
	enum blobd_fault_kind kind = l->req->fault.kind;
	struct blobd_container *c = blobd_need_container(l->req);

	if (c == NULL)
		return;
	l->req->reply.status = 200;
	blobd_reply_header(l->req, "Content-Type", "application/xml");
	put_head(l);
	if (kind != BLOBD_FAULT_EMPTY_PAGE)
		walk(l, c, from);
	/* This page again and again; or: names there are, but not here. */
	if (kind == BLOBD_FAULT_ENDLESS_PAGE ||
		kind == BLOBD_FAULT_EMPTY_PAGE) {
		base_str_clear(&l->next);
		base_str_puts(&l->next,
			*from != '\0'		     ? from
				: *l->prefix != '\0' ? l->prefix
						     : "!");
	}
	put_tail(l);
	if (kind == BLOBD_FAULT_CORRUPT_XML) {
		l->out->len -= l->out->len / 3;
		l->out->data[l->out->len] = '\0';
	}
}

void blobd_op_list(struct blobd_req *req)
{
	struct listing l = {
		.req = req,
		.prefix = param(req, "prefix"),
		.delimiter = param(req, "delimiter"),
		.include = param(req, "include"),
		.out = &req->reply.body,
	};
	struct base_str from = BASE_STR_INIT;

	if (!blobd_utf8_valid(l.prefix)) {
		blobd_reply_error(req, 400, "InvalidQueryParameterValue", NULL);
		return;
	}
	if (page_size(req, &l.max) && marker_decode(req, &from)) {
		blobd_store_rdlock();
		list_locked(&l, from.len > 0 ? from.data : "");
		blobd_store_unlock();
	}
	base_str_fini(&from);
	base_str_fini(&l.next);
}

static void list_containers(struct blobd_req *req)
{
	const char *prefix = param(req, "prefix");
	struct base_str *out = &req->reply.body;
	struct blobd_container *c;
	char etag[BLOBD_ETAG_BYTES];
	struct blobd_node *n;

	base_str_puts(out,
		"\xef\xbb\xbf<?xml version=\"1.0\" "
		"encoding=\"utf-8\"?><EnumerationResults>"
		"<Containers>");
	blobd_store_rdlock();
	n = blobd_map_from(blobd_store_containers(), prefix);
	for (; n != NULL && strncmp(n->key, prefix, strlen(prefix)) == 0;
		n = n->next[0]) {
		c = n->value;
		base_str_puts(out, "<Container>");
		put_tag(out, "Name", n->key);
		base_str_puts(out, "<Properties>");
		put_time(out, "Last-Modified", c->modified);
		blobd_etag_text(c->etag, etag);
		put_tag(out, "Etag", etag);
		base_str_puts(out, "</Properties></Container>");
	}
	blobd_store_unlock();
	base_str_puts(out, "</Containers><NextMarker /></EnumerationResults>");
	req->reply.status = 200;
	blobd_reply_header(req, "Content-Type", "application/xml");
}

void blobd_op_account(struct blobd_req *req)
{
	if (blobd_req_comp(req, "list")) {
		list_containers(req);
		return;
	}
	if (!blobd_req_comp(req, "properties")) {
		blobd_reply_error(req, 400, "InvalidQueryParameterValue", NULL);
		return;
	}
	req->reply.status = 200;
	blobd_reply_header(req, "x-ms-sku-name", "Standard_LRS");
	blobd_reply_header(req, "x-ms-account-kind", "StorageV2");
	blobd_reply_header(req, "x-ms-is-hns-enabled", "false");
}
