/* Properties and metadata, from headers and back to headers. */
#include "tests/blobd/ops.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/blobd/log.h"

#define META_MAX_BYTES 8192

/* What is collected while the headers are walked. */
struct collected {
	struct blobd_kvs meta;
	const char *error;
	size_t bytes;
};

static bool identifier(const char *key)
{
	if (!isalpha((unsigned char)*key) && *key != '_')
		return false;
	for (; *key != '\0'; key++)
		if (!isalnum((unsigned char)*key) && *key != '_')
			return false;
	return true;
}

static bool printable(const char *value)
{
	for (; *value != '\0'; value++)
		if (*value < 0x20 || *value > 0x7e)
			return false;
	return true;
}

static enum MHD_Result collect(
	void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct collected *c = cls;
	char *trimmed;
	size_t i, len;

	(void)kind;
	if (strncasecmp(key, "x-ms-meta-", 10) != 0)
		return MHD_YES;
	key += 10;
	value = value != NULL ? value : "";
	value += strspn(value, " \t");
	for (len = strlen(value);
		len > 0 && strchr(" \t", value[len - 1]) != NULL;)
		len--;
	trimmed = base_memdup(value, len + 1);
	trimmed[len] = '\0';
	if (*key == '\0')
		c->error = "EmptyMetadataKey";
	else if (!identifier(key) || !printable(trimmed))
		c->error = "InvalidMetadata";
	for (i = 0; i < c->meta.nr; i++)
		if (strcasecmp(c->meta.v[i].key, key) == 0)
			c->error = "InvalidMetadata";
	c->bytes += strlen(key) + len;
	blobd_kvs_add(&c->meta, key, trimmed);
	free(trimmed);
	return MHD_YES;
}

static bool take_meta(struct blobd_req *req, struct blobd_props *p)
{
	struct collected c = { { NULL, 0 }, NULL, 0 };

	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, collect, &c);
	if (c.error == NULL && c.bytes > META_MAX_BYTES)
		c.error = "MetadataTooLarge";
	if (c.error != NULL) {
		blobd_kvs_fini(&c.meta);
		return blobd_reply_error(req, 400, c.error, NULL);
	}
	p->meta = c.meta;
	return true;
}

static enum MHD_Result see_meta(
	void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	(void)kind, (void)value;
	if (strncasecmp(key, "x-ms-meta-", 10) == 0)
		*(bool *)cls = true;
	return MHD_YES;
}

bool blobd_has_meta(struct blobd_req *req)
{
	bool seen = false;

	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, see_meta, &seen);
	return seen;
}

int blobd_md5_from(struct blobd_req *req, const char *header, uint8_t ret[16])
{
	const char *text = blobd_req_header(req, header);

	if (text == NULL)
		return 0;
	if (blobd_unbase64(text, ret, 16) == 16)
		return 1;
	blobd_reply_error(req, 400, "InvalidMd5", NULL);
	return -1;
}

static void take_headers(struct blobd_req *req, struct blobd_props *p)
{
	static const char *const sent_as[BLOBD_HEADERS_NR] = {
		"x-ms-blob-content-type",
		"x-ms-blob-content-encoding",
		"x-ms-blob-content-language",
		"x-ms-blob-content-disposition",
		"x-ms-blob-cache-control",
	};
	const char *value;
	int i;

	for (i = 0; i < BLOBD_HEADERS_NR; i++) {
		value = blobd_req_header(req, sent_as[i]);
		/* Put Blob takes the plain ones too; for the others they
		 * describe the body of the request. */
		if (value == NULL && req->op == BLOBD_OP_PUT)
			value = blobd_req_header(req, blobd_header_names[i]);
		if (value != NULL && *value != '\0')
			p->headers[i] = base_strdup(value);
	}
	if (p->headers[BLOBD_CONTENT_TYPE] == NULL &&
		req->op != BLOBD_OP_SETPROPS)
		p->headers[BLOBD_CONTENT_TYPE] =
			base_strdup("application/octet-stream");
}

struct blobd_props *blobd_props_from(struct blobd_req *req, bool content)
{
	struct blobd_props *p = blobd_props_new();
	const char *tags = blobd_req_header(req, "x-ms-tags");
	int md5;

	if (!take_meta(req, p))
		goto fail;
	if (tags != NULL)
		blobd_query_split(tags, &p->tags);
	if (content) {
		take_headers(req, p);
		md5 = blobd_md5_from(req, "x-ms-blob-content-md5", p->md5);
		if (md5 < 0)
			goto fail;
		p->has_md5 = md5 > 0;
	}
	return p;
fail:
	blobd_props_put(p);
	return NULL;
}

bool blobd_tier_from(struct blobd_req *req, const char **ret)
{
	static const char *const tiers[] = { "Hot", "Cool", "Cold", "Archive" };
	const char *given = blobd_req_header(req, "x-ms-access-tier");
	size_t i;

	if (given == NULL)
		return true;
	for (i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++) {
		if (strcasecmp(given, tiers[i]) == 0) {
			*ret = tiers[i];
			return true;
		}
	}
	return blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
}

static void reply_lease(struct blobd_req *req, const struct blobd_blob *b)
{
	const char *state = blobd_lease_state(b);
	bool locked =
		strcmp(state, "leased") == 0 || strcmp(state, "breaking") == 0;

	blobd_reply_header(
		req, "x-ms-lease-status", locked ? "locked" : "unlocked");
	blobd_reply_header(req, "x-ms-lease-state", state);
	if (strcmp(state, "leased") == 0)
		blobd_reply_header(req, "x-ms-lease-duration",
			b->lease->duration_s < 0 ? "infinite" : "fixed");
}

static void reply_copy(struct blobd_req *req, const struct blobd_copy *copy)
{
	blobd_reply_header(req, "x-ms-copy-id", copy->id);
	blobd_reply_header(req, "x-ms-copy-source", copy->source);
	blobd_reply_header(req, "x-ms-copy-status", copy->status);
	blobd_reply_printf(req, "x-ms-copy-progress", "%llu/%llu",
		strcmp(copy->status, "success") == 0
			? (unsigned long long)copy->total
			: 0ULL,
		(unsigned long long)copy->total);
	if (strcmp(copy->status, "pending") != 0)
		blobd_reply_time(
			req, "x-ms-copy-completion-time", copy->completed);
}

void blobd_reply_props(struct blobd_req *req, struct blobd_blob *b)
{
	static const char *const types[] = { "BlockBlob", "AppendBlob",
		"PageBlob" };
	const struct blobd_props *p = b->props;
	struct base_str key = BASE_STR_INIT;
	size_t i;

	blobd_reply_etag(req, b);
	for (i = 0; i < BLOBD_HEADERS_NR; i++)
		if (p->headers[i] != NULL)
			blobd_reply_header(
				req, blobd_header_names[i], p->headers[i]);
	for (i = 0; i < p->meta.nr; i++) {
		base_str_clear(&key);
		base_str_printf(&key, "x-ms-meta-%s", p->meta.v[i].key);
		blobd_reply_header(req, key.data, p->meta.v[i].value);
	}
	base_str_fini(&key);
	blobd_reply_header(req, "x-ms-blob-type", types[b->type]);
	blobd_reply_header(req, "x-ms-server-encrypted", "true");
	blobd_reply_time(req, "x-ms-creation-time", b->created);
	blobd_reply_header(req, "Accept-Ranges", "bytes");
	if (b->type == BLOBD_BLOCK_BLOB) {
		blobd_reply_header(
			req, "x-ms-access-tier", b->tier ? b->tier : "Hot");
		if (b->tier == NULL)
			blobd_reply_header(
				req, "x-ms-access-tier-inferred", "true");
	}
	if (b->immutable) {
		blobd_reply_header(req, "x-ms-immutability-policy-until-date",
			"Fri, 01 Jan 2100 00:00:00 GMT");
		blobd_reply_header(
			req, "x-ms-immutability-policy-mode", "unlocked");
	}
	if (b->rehydrating)
		blobd_reply_header(
			req, "x-ms-archive-status", "rehydrate-pending-to-hot");
	if (b->type == BLOBD_APPEND_BLOB)
		blobd_reply_printf(req, "x-ms-blob-committed-block-count", "%u",
			b->appends_nr);
	if (p->tags.nr > 0)
		blobd_reply_printf(req, "x-ms-tag-count", "%zu", p->tags.nr);
	reply_lease(req, b);
	if (b->copy != NULL)
		reply_copy(req, b->copy);
}
