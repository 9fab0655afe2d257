/* Blocks: staged, committed, listed.  See ops.h. */
#include "tests/blobd/ops.h"

#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"
#include "tests/blobd/sum.h"

#define STAGED_MAX 100000
#define COMMITTED_MAX 50000

/* The block id as given, if it is one; NULL: replied. */
static const char *block_id(struct blobd_req *req)
{
	const char *id = blobd_req_param(req, "blockid");
	uint8_t raw[64];

	if (id != NULL && blobd_unbase64(id, raw, sizeof(raw)) > 0)
		return id;
	blobd_reply_error(req, 400, "InvalidQueryParameterValue", NULL);
	return NULL;
}

/* Takes over the reference to content on success. */
static struct blobd_record *stage_locked(
	struct blobd_req *req, const char *id, struct blobd_content *content)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b;

	if (c == NULL)
		return NULL;
	b = blobd_blob_find(c, req->name);
	if (!blobd_lease_check_write(
		    req, b != NULL && b->committed ? b : NULL) ||
		!blobd_may_change(req, b))
		return NULL;
	if (b != NULL && b->committed && b->type != BLOBD_BLOCK_BLOB) {
		blobd_reply_error(req, 409, "InvalidBlobType", NULL);
		return NULL;
	}
	if (b == NULL)
		b = blobd_blob_add(c, req->name);
	if (b->staged == NULL) {
		b->staged = blobd_map_new();
		b->staged_id_len = strlen(id);
	}
	if (b->staged_id_len != strlen(id)) {
		blobd_reply_error(req, 400, "InvalidBlobOrBlock", NULL);
		return NULL;
	}
	if (blobd_map_nr(b->staged) >= STAGED_MAX &&
		blobd_map_get(b->staged, id) == NULL) {
		blobd_reply_error(req, 409, "BlockCountExceedsLimit", NULL);
		return NULL;
	}
	blobd_content_put(blobd_map_set(b->staged, id, content));
	return blobd_log_add(req, "putblock", req->container, req->name,
		b->committed ? b->etag : 0, NULL, content->size, id);
}

/* Stages content (taken over) and replies. */
static void stage(
	struct blobd_req *req, const char *id, struct blobd_content *content)
{
	struct blobd_record *record;

	blobd_store_wrlock();
	record = stage_locked(req, id, content);
	blobd_store_unlock();
	if (record == NULL) {
		blobd_content_put(content);
		return;
	}
	blobd_log_finish(record);
	req->reply.status = 201;
	blobd_reply_header(req, "x-ms-request-server-encrypted", "true");
}

void blobd_op_put_block(struct blobd_req *req)
{
	struct base_str sum = BASE_STR_INIT;
	const char *id = block_id(req);
	struct blobd_content *content;

	if (id == NULL)
		return;
	if (req->body_len == 0) {
		blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
		return;
	}
	content = blobd_content_of(req->body);
	req->body = NULL;
	stage(req, id, content);
	if (req->reply.status != 201)
		return;
	if (req->want_crc) {
		blobd_base64(&sum, &req->crc, 8);
		blobd_reply_header(req, "x-ms-content-crc64", sum.data);
	} else {
		blobd_base64(&sum, req->md5, 16);
		blobd_reply_header(req, "Content-MD5", sum.data);
	}
	base_str_fini(&sum);
}

/* A range of the source; under the lock.  NULL: replied. */
static struct blobd_content *source_range(
	struct blobd_req *req, const char *container, const char *name)
{
	const char *range = blobd_req_header(req, "x-ms-source-range");
	struct blobd_container *c = blobd_store_container(container);
	struct blobd_blob *b = c != NULL ? blobd_blob_visible(c, name) : NULL;
	uint64_t first = 0, last;
	char *end;

	if (b == NULL) {
		blobd_reply_error(req, 404, "CannotVerifyCopySource", NULL);
		blobd_reply_header(req, "x-ms-copy-source-status-code", "404");
		blobd_reply_header(
			req, "x-ms-copy-source-error-code", "BlobNotFound");
		return NULL;
	}
	if (!blobd_cond_source(req, b))
		return NULL;
	last = b->content->size - 1;
	if (range != NULL && strncmp(range, "bytes=", 6) == 0) {
		first = strtoull(range + 6, &end, 10);
		if (*end == '-' && end[1] != '\0')
			last = strtoull(end + 1, NULL, 10);
	}
	if (b->content->size == 0 || first > last || last >= b->content->size) {
		blobd_reply_error(req, 416, "InvalidRange", NULL);
		return NULL;
	}
	return blobd_content_slice(b->content, first, last - first + 1);
}

static bool source_readable(struct blobd_req *req, const char *url,
	const char *container, const char *name)
{
	const char *auth =
		blobd_req_header(req, "x-ms-copy-source-authorization");
	char token[8192];

	if (blobd_config.no_auth || blobd_auth_source(url, container, name))
		return true;
	blobd_auth_token(token, sizeof(token));
	if (auth != NULL && token[0] != '\0' &&
		strncmp(auth, "Bearer ", 7) == 0 &&
		strcmp(auth + 7, token) == 0)
		return true;
	blobd_reply_error(req, 403, "CannotVerifyCopySource", NULL);
	blobd_reply_header(req, "x-ms-copy-source-status-code", "403");
	blobd_reply_header(
		req, "x-ms-copy-source-error-code", "AuthenticationFailed");
	return false;
}

void blobd_op_put_block_url(struct blobd_req *req)
{
	const char *url = blobd_req_header(req, "x-ms-copy-source");
	struct blobd_content *content = NULL;
	const char *id = block_id(req);
	char *container, *name;

	if (id == NULL)
		return;
	if (req->body_len > 0 || strlen(url) > 2048 ||
		!blobd_url_split(url, &container, &name)) {
		blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
		return;
	}
	if (source_readable(req, url, container, name)) {
		blobd_store_rdlock();
		content = source_range(req, container, name);
		blobd_store_unlock();
	}
	if (content != NULL)
		stage(req, id, content);
	free(container);
	free(name);
}

/* One entry of a block list that is being committed. */
struct wanted {
	char *id;
	char where; /* 'C', 'U' or 'L' */
};

struct wanted_list {
	struct wanted *v;
	size_t nr, cap;
};

static void wanted_fini(struct wanted_list *list)
{
	while (list->nr > 0)
		free(list->v[--list->nr].id);
	free(list->v);
}

/* "<Latest>id</Latest>" and its like, in a document that we do not validate
 * any further.  False: replied. */
static bool wanted_parse(struct blobd_req *req, struct wanted_list *list)
{
	const char *p = req->text.data != NULL ? req->text.data : "";
	uint8_t raw[64];
	size_t len;

	p = strstr(p, "<BlockList");
	if (p == NULL ||
		(strstr(p, "</BlockList>") == NULL && strstr(p, "/>") == NULL))
		return blobd_reply_error(req, 400, "InvalidXmlDocument", NULL);
	for (p++; (p = strchr(p, '<')) != NULL;) {
		char where = *++p;

		if (where == '/' || strchr("CUL", where) == NULL)
			continue;
		p = strchr(p, '>');
		if (p == NULL)
			break;
		p += 1 + strspn(p + 1, " \t\r\n");
		len = strcspn(p, "< \t\r\n");
		if (list->nr == list->cap) {
			list->cap = list->cap ? list->cap * 2 : 64;
			list->v = base_realloc(
				list->v, list->cap * sizeof(*list->v));
		}
		list->v[list->nr].where = where;
		list->v[list->nr].id = base_memdup(p, len + 1);
		list->v[list->nr++].id[len] = '\0';
		if (blobd_unbase64(list->v[list->nr - 1].id, raw, 64) <= 0)
			return blobd_reply_error(
				req, 400, "InvalidBlockId", NULL);
		p += len;
	}
	if (list->nr > COMMITTED_MAX)
		return blobd_reply_error(req, 400, "BlockListTooLong", NULL);
	return true;
}

static struct blobd_map *committed_by_id(const struct blobd_blob *b)
{
	struct blobd_map *map = blobd_map_new();
	size_t i;

	for (i = 0; b != NULL && b->blocks != NULL && i < b->blocks->nr; i++)
		blobd_map_set(map, b->blocks->v[i].id, &b->blocks->v[i]);
	return map;
}

/* The bytes of one wanted block, a new reference; NULL: there is none. */
static struct blobd_content *find_block(const struct blobd_blob *b,
	const struct blobd_map *committed, const struct wanted *w)
{
	struct blobd_content *staged = NULL;
	struct blobd_block *block;

	if (w->where != 'C' && b != NULL && b->staged != NULL)
		staged = blobd_map_get(b->staged, w->id);
	if (staged != NULL)
		return blobd_content_get(staged);
	block = w->where != 'U' ? blobd_map_get(committed, w->id) : NULL;
	if (b == NULL || block == NULL)
		return NULL;
	return blobd_content_slice(b->content, block->start, block->len);
}

/* Puts the wanted blocks together.  False: one is missing. */
static bool assemble(const struct blobd_blob *b, const struct wanted_list *list,
	struct blobd_content **ret_content, struct blobd_blocks **ret_blocks)
{
	struct blobd_content **parts = base_calloc(list->nr, sizeof(*parts));
	struct blobd_blocks *blocks = blobd_blocks_new(list->nr);
	struct blobd_map *committed = committed_by_id(b);
	uint64_t start = 0;
	size_t i, nr = 0;

	for (; nr < list->nr; nr++) {
		parts[nr] = find_block(b, committed, &list->v[nr]);
		if (parts[nr] == NULL)
			break;
		blocks->v[nr].id = base_strdup(list->v[nr].id);
		blocks->v[nr].start = start;
		blocks->v[nr].len = parts[nr]->size;
		start += parts[nr]->size;
	}
	blobd_map_free(committed, NULL);
	if (nr == list->nr) {
		*ret_content = blobd_content_join(parts, nr);
		*ret_blocks = blocks;
	} else {
		blobd_blocks_put(blocks);
	}
	for (i = 0; i < nr; i++)
		blobd_content_put(parts[i]);
	free(parts);
	return nr == list->nr;
}

static struct blobd_record *commit_locked(struct blobd_req *req,
	const struct wanted_list *list, struct blobd_props *props)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b, *seen;
	struct blobd_content *content = NULL;
	struct blobd_blocks *blocks = NULL;
	const char *tier = NULL;
	uint64_t before;

	if (c == NULL)
		return NULL;
	b = blobd_blob_find(c, req->name);
	seen = b != NULL && b->committed ? b : NULL;
	if (!blobd_tier_from(req, &tier) ||
		!blobd_cond_check(req, seen, BLOBD_COND_WRITE) ||
		!blobd_lease_check_write(req, seen) ||
		!blobd_may_change(req, seen))
		return NULL;
	if (seen != NULL && seen->type != BLOBD_BLOCK_BLOB) {
		blobd_reply_error(req, 409, "InvalidBlobType", NULL);
		return NULL;
	}
	if (!assemble(b, list, &content, &blocks)) {
		blobd_reply_error(req, 400, "InvalidBlockList", NULL);
		return NULL;
	}
	if (b == NULL)
		b = blobd_blob_add(c, req->name);
	before = seen != NULL ? seen->etag : 0;
	if (tier != NULL || seen == NULL)
		b->tier = tier;
	blobd_blob_replace(b, content, blobd_props_get(props), blocks);
	blobd_reply_etag(req, b);
	return blobd_log_add(req, "commit", req->container, req->name, before,
		b, content->size, NULL);
}

/* The checksums of the XML itself.  False: replied. */
static bool list_sums_match(struct blobd_req *req)
{
	uint8_t given[16], sum[16];
	int md5 = blobd_md5_from(req, "Content-MD5", given);

	if (md5 <= 0)
		return md5 == 0;
	EVP_Digest(req->text.data, req->text.len, sum, NULL, EVP_md5(), NULL);
	if (memcmp(given, sum, 16) == 0)
		return true;
	return blobd_reply_error(req, 400, "Md5Mismatch", NULL);
}

void blobd_op_commit(struct blobd_req *req)
{
	struct wanted_list list = { NULL, 0, 0 };
	struct blobd_props *props = blobd_props_from(req, true);
	struct blobd_record *record = NULL;

	if (props != NULL && list_sums_match(req) && wanted_parse(req, &list)) {
		blobd_store_wrlock();
		record = commit_locked(req, &list, props);
		blobd_store_unlock();
	}
	if (record != NULL) {
		blobd_log_finish(record);
		req->reply.status = 201;
		blobd_reply_header(
			req, "x-ms-request-server-encrypted", "true");
	}
	wanted_fini(&list);
	blobd_props_put(props);
}

static void print_block(struct base_str *out, const char *id, uint64_t len)
{
	base_str_printf(out, "<Block><Name>%s</Name><Size>%llu</Size></Block>",
		id, (unsigned long long)len);
}

static void print_lists(
	struct base_str *out, const struct blobd_blob *b, const char *which)
{
	struct blobd_node *n;
	size_t i;

	base_str_puts(out,
		"\xef\xbb\xbf<?xml version=\"1.0\" "
		"encoding=\"utf-8\"?><BlockList>");
	if (strcmp(which, "uncommitted") != 0) {
		base_str_puts(out, "<CommittedBlocks>");
		for (i = 0; b->blocks != NULL && i < b->blocks->nr; i++)
			print_block(
				out, b->blocks->v[i].id, b->blocks->v[i].len);
		base_str_puts(out, "</CommittedBlocks>");
	}
	if (strcmp(which, "committed") != 0) {
		base_str_puts(out, "<UncommittedBlocks>");
		n = b->staged != NULL ? blobd_map_from(b->staged, "") : NULL;
		for (; n != NULL; n = n->next[0])
			print_block(out, n->key,
				((struct blobd_content *)n->value)->size);
		base_str_puts(out, "</UncommittedBlocks>");
	}
	base_str_puts(out, "</BlockList>");
}

static void block_list_locked(struct blobd_req *req, const char *which)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b;

	if (c == NULL)
		return;
	b = blobd_blob_find(c, req->name);
	if (b == NULL || (!b->committed && b->staged == NULL)) {
		blobd_reply_error(req, 404, "BlobNotFound", NULL);
		return;
	}
	if (b->committed && b->type != BLOBD_BLOCK_BLOB) {
		blobd_reply_error(req, 409, "InvalidBlobType", NULL);
		return;
	}
	if (b->committed && !blobd_lease_check_read(req, b))
		return;
	req->reply.status = 200;
	if (b->committed)
		blobd_reply_etag(req, b);
	blobd_reply_header(req, "Content-Type", "application/xml");
	blobd_reply_printf(req, "x-ms-blob-content-length", "%llu",
		b->committed ? (unsigned long long)b->content->size : 0ULL);
	print_lists(&req->reply.body, b, which);
}

/* Conditions are ignored, as the service ignores them. */
void blobd_op_block_list(struct blobd_req *req)
{
	const char *which = blobd_req_param(req, "blocklisttype");

	if (which == NULL)
		which = "committed";
	if (strcmp(which, "all") != 0 && strcmp(which, "committed") != 0 &&
		strcmp(which, "uncommitted") != 0) {
		blobd_reply_error(req, 400, "InvalidQueryParameterValue", NULL);
		return;
	}
	blobd_store_rdlock();
	block_list_locked(req, which);
	blobd_store_unlock();
}
