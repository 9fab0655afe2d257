/* Put, get, delete, metadata and properties of blobs: see ops.h. */
#include "tests/blobd/ops.h"

#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"
#include "tests/blobd/sum.h"

#define PUT_MAX_BYTES (UINT64_C(5000) << 20)
#define BLOCK_MAX_BYTES (UINT64_C(4000) << 20)
#define APPEND_MAX_BYTES (UINT64_C(100) << 20)
#define RANGE_SUM_MAX_BYTES (4 << 20)

bool blobd_ops_accept(struct blobd_req *req)
{
	uint64_t max = req->op == BLOBD_OP_PUT ? PUT_MAX_BYTES
		: req->op == BLOBD_OP_PUTBLOCK ? BLOCK_MAX_BYTES
		: req->op == BLOBD_OP_APPEND   ? APPEND_MAX_BYTES
					       : UINT64_MAX;

	if (req->body_len > max)
		return blobd_reply_error(req, 413, "RequestBodyTooLarge", NULL);
	return true;
}

struct blobd_container *blobd_need_container(struct blobd_req *req)
{
	struct blobd_container *c = blobd_store_container(req->container);

	if (c == NULL)
		blobd_reply_error(req, 404, "ContainerNotFound", NULL);
	return c;
}

struct blobd_blob *blobd_need_blob(
	struct blobd_req *req, struct blobd_container *c)
{
	struct blobd_blob *b = blobd_blob_visible(c, req->name);

	if (b == NULL)
		blobd_reply_error(req, 404, "BlobNotFound", NULL);
	return b;
}

/* Checksums that came with the body.  False: replied. */
static bool body_sums_match(struct blobd_req *req)
{
	const char *crc = blobd_req_header(req, "x-ms-content-crc64");
	uint8_t given[16];
	uint64_t given_crc;
	int md5 = blobd_md5_from(req, "Content-MD5", given);

	if (md5 < 0)
		return false;
	if (md5 > 0 && crc != NULL)
		return blobd_reply_error(
			req, 400, "BothCrc64AndMd5HeaderPresent", NULL);
	if (md5 > 0 && memcmp(given, req->md5, 16) != 0)
		return blobd_reply_error(req, 400, "Md5Mismatch", NULL);
	if (crc == NULL)
		return true;
	if (blobd_unbase64(crc, (uint8_t *)&given_crc, 8) != 8)
		return blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
	if (given_crc != req->crc)
		return blobd_reply_error(req, 400, "Crc64Mismatch", NULL);
	return true;
}

/* The content that the body is. */
static struct blobd_content *take_body(struct blobd_req *req)
{
	struct blobd_content *c = blobd_content_of(req->body);

	req->body = NULL;
	return c;
}

/* What a new blob of that type begins with; NULL: replied. */
static struct blobd_content *first_content(
	struct blobd_req *req, const char *type, enum blobd_type *ret_type)
{
	const char *length = blobd_req_header(req, "x-ms-blob-content-length");

	*ret_type = BLOBD_BLOCK_BLOB;
	if (type != NULL && strcmp(type, "BlockBlob") == 0)
		return take_body(req);
	if (type == NULL) {
		blobd_reply_error(req, 400, "MissingRequiredHeader", NULL);
		return NULL;
	}
	if (strcmp(type, "AppendBlob") == 0 && req->body_len == 0) {
		*ret_type = BLOBD_APPEND_BLOB;
		return take_body(req);
	}
	if (strcmp(type, "PageBlob") == 0 && req->body_len == 0 &&
		length != NULL && strtoull(length, NULL, 10) % 512 == 0) {
		*ret_type = BLOBD_PAGE_BLOB;
		return blobd_content_zero(strtoull(length, NULL, 10));
	}
	blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
	return NULL;
}

static struct blobd_record *put_locked(struct blobd_req *req,
	struct blobd_content *content, struct blobd_props *props,
	enum blobd_type type)
{
	struct blobd_container *c = blobd_need_container(req);
	const char *tier = NULL;
	struct blobd_blob *b;
	uint64_t before;

	if (c == NULL)
		return NULL;
	b = blobd_blob_visible(c, req->name);
	if (!blobd_tier_from(req, &tier) ||
		!blobd_cond_check(req, b, BLOBD_COND_WRITE) ||
		!blobd_lease_check_write(req, b) || !blobd_may_change(req, b))
		return NULL;
	if (b != NULL && b->type != type) {
		blobd_reply_error(req, 409, "InvalidBlobType", NULL);
		return NULL;
	}
	before = b != NULL ? b->etag : 0;
	b = blobd_blob_find(c, req->name);
	if (b == NULL)
		b = blobd_blob_add(c, req->name);
	b->type = type;
	b->tier = tier;
	b->customer_key = blobd_req_header(req, "x-ms-encryption-key") != NULL;
	b->sealed = false;
	blobd_blob_replace(
		b, blobd_content_get(content), blobd_props_get(props), NULL);
	blobd_reply_etag(req, b);
	return blobd_log_add(req, "put", req->container, req->name, before, b,
		content->size, NULL);
}

static void op_put(struct blobd_req *req)
{
	const char *type = blobd_req_header(req, "x-ms-blob-type");
	struct blobd_content *content = NULL;
	struct base_str sum = BASE_STR_INIT;
	struct blobd_record *record;
	struct blobd_props *props;
	enum blobd_type blob_type;

	if (blobd_req_header(req, "x-ms-copy-source") != NULL) {
		blobd_reply_error(req, 501, "NotImplemented", NULL);
		return;
	}
	props = blobd_props_from(req, true);
	if (props == NULL || !body_sums_match(req))
		goto out;
	if (props->has_md5 && memcmp(props->md5, req->md5, 16) != 0) {
		blobd_reply_error(req, 400, "Md5Mismatch", NULL);
		goto out;
	}
	content = first_content(req, type, &blob_type);
	if (content == NULL)
		goto out;
	if (blob_type == BLOBD_BLOCK_BLOB) {
		memcpy(props->md5, req->md5, 16);
		props->has_md5 = true;
	}
	blobd_store_wrlock();
	record = put_locked(req, content, props, blob_type);
	blobd_store_unlock();
	if (record == NULL)
		goto out;
	blobd_log_finish(record);
	req->reply.status = 201;
	blobd_base64(&sum, req->md5, 16);
	blobd_reply_header(req, "Content-MD5", sum.data);
	blobd_reply_header(req, "x-ms-request-server-encrypted", "true");
	base_str_fini(&sum);
out:
	blobd_content_put(content);
	blobd_props_put(props);
}

/* "bytes=A-B" or "bytes=A-"; anything else counts as no range. */
static bool range_from(
	struct blobd_req *req, uint64_t *ret_first, uint64_t *ret_last)
{
	const char *text = blobd_req_header(req, "x-ms-range");
	uint64_t first, last = UINT64_MAX;
	char *end;

	if (text == NULL)
		text = blobd_req_header(req, "Range");
	if (text == NULL || strncmp(text, "bytes=", 6) != 0 || text[6] < '0' ||
		text[6] > '9')
		return false;
	first = strtoull(text + 6, &end, 10);
	if (*end++ != '-')
		return false;
	if (*end != '\0') {
		last = strtoull(end, &end, 10);
		if (*end != '\0' || last < first)
			return false;
	}
	*ret_first = first;
	*ret_last = last;
	return true;
}

static void reply_md5(
	struct blobd_req *req, const char *header, const struct blobd_props *p)
{
	struct base_str sum = BASE_STR_INIT;

	if (!p->has_md5)
		return;
	blobd_base64(&sum, p->md5, 16);
	blobd_reply_header(req, header, sum.data);
	base_str_fini(&sum);
}

/* The checksum of just this range, where it was asked for.  Not under the
 * lock: the content is ours. */
static void reply_range_sum(struct blobd_req *req)
{
	struct blobd_reply *r = &req->reply;
	bool md5 = blobd_req_header(req, "x-ms-range-get-content-md5") != NULL;
	bool crc =
		blobd_req_header(req, "x-ms-range-get-content-crc64") != NULL;
	struct base_str sum = BASE_STR_INIT;
	uint8_t digest[16];
	uint64_t crc_value;
	void *buf;

	if (!md5 && !crc)
		return;
	if (r->status != 206 || r->len > RANGE_SUM_MAX_BYTES) {
		blobd_reply_error(req, 400, "OutOfRangeInput", NULL);
		return;
	}
	buf = base_malloc(r->len);
	blobd_content_read(r->content, r->off, buf, r->len);
	if (md5) {
		EVP_Digest(buf, r->len, digest, NULL, EVP_md5(), NULL);
		blobd_base64(&sum, digest, 16);
	} else {
		crc_value = blobd_crc64(0, buf, r->len);
		blobd_base64(&sum, &crc_value, 8);
	}
	blobd_reply_header(
		req, md5 ? "Content-MD5" : "x-ms-content-crc64", sum.data);
	base_str_fini(&sum);
	free(buf);
}

static bool readable(struct blobd_req *req, const struct blobd_blob *b)
{
	if (req->op == BLOBD_OP_GET && b->tier != NULL &&
		strcmp(b->tier, "Archive") == 0)
		return blobd_reply_error(req, 409, "BlobArchived", NULL);
	if (b->customer_key && !blobd_req_header(req, "x-ms-encryption-key"))
		return blobd_reply_error(
			req, 409, "BlobUsesCustomerSpecifiedEncryption", NULL);
	return true;
}

static bool reply_range(struct blobd_req *req, const struct blobd_blob *b)
{
	uint64_t first, last, size = b->content->size;
	struct blobd_reply *r = &req->reply;

	r->status = 200;
	r->off = 0;
	r->len = size;
	if (!range_from(req, &first, &last) ||
		req->fault.kind == BLOBD_FAULT_WHOLE)
		return true;
	if (first >= size) {
		blobd_reply_error(req, 416, "InvalidRange", NULL);
		blobd_reply_printf(req, "Content-Range", "bytes */%llu",
			(unsigned long long)size);
		return false;
	}
	if (last >= size)
		last = size - 1;
	r->status = 206;
	r->off = first;
	r->len = last - first + 1;
	blobd_reply_printf(req, "Content-Range", "bytes %llu-%llu/%llu",
		(unsigned long long)first, (unsigned long long)last,
		(unsigned long long)size);
	return true;
}

static void get_locked(struct blobd_req *req)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;

	if (b == NULL || !blobd_cond_check(req, b, BLOBD_COND_READ) ||
		!blobd_lease_check_read(req, b) || !readable(req, b))
		return;
	if (req->op == BLOBD_OP_HEAD) {
		req->reply.status = 200;
		req->reply.head_only = true;
		req->reply.len = b->content->size;
	} else if (!reply_range(req, b)) {
		return;
	}
	blobd_reply_props(req, b);
	reply_md5(req,
		req->reply.status == 206 ? "x-ms-blob-content-md5"
					 : "Content-MD5",
		b->props);
	req->reply.content = blobd_content_get(b->content);
}

static void op_get(struct blobd_req *req)
{
	blobd_store_rdlock();
	get_locked(req);
	blobd_store_unlock();
	if (req->reply.content == NULL || req->op == BLOBD_OP_HEAD)
		return;
	reply_range_sum(req);
}

static struct blobd_record *delete_locked(struct blobd_req *req)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	struct blobd_record *record;
	bool leased;

	if (b == NULL || !blobd_cond_check(req, b, BLOBD_COND_DELETE) ||
		!blobd_lease_check_write(req, b))
		return NULL;
	if (b->immutable) {
		blobd_may_change(req, b);
		return NULL;
	}
	leased = b->lease != NULL;
	record = blobd_log_add(req, "delete", req->container, req->name,
		b->etag, NULL, 0, leased ? "leased" : NULL);
	blobd_blob_delete(c, req->name);
	return record;
}

static void op_delete(struct blobd_req *req)
{
	struct blobd_record *record;

	blobd_store_wrlock();
	record = delete_locked(req);
	blobd_store_unlock();
	if (record == NULL)
		return;
	blobd_log_finish(record);
	req->reply.status = 202;
	blobd_reply_header(req, "x-ms-delete-type-permanent", "true");
}

/* What Set Metadata or Set Properties makes of the properties. */
static struct blobd_props *changed_props(
	struct blobd_req *req, const struct blobd_blob *b)
{
	bool headers = req->op == BLOBD_OP_SETPROPS;
	struct blobd_props *given, *keep, *p;

	given = blobd_props_from(req, headers);
	if (given == NULL)
		return NULL;
	keep = blobd_props_dup(b->props);
	if (headers) {
		p = given;
		blobd_kvs_fini(&p->meta);
		blobd_kvs_copy(&p->meta, &keep->meta);
		blobd_kvs_fini(&p->tags);
		blobd_kvs_copy(&p->tags, &keep->tags);
		blobd_props_put(keep);
	} else {
		p = keep;
		blobd_kvs_fini(&p->meta);
		blobd_kvs_copy(&p->meta, &given->meta);
		blobd_props_put(given);
	}
	return p;
}

static struct blobd_record *set_locked(struct blobd_req *req)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	struct blobd_props *p;
	uint64_t before;

	if (b == NULL || !blobd_cond_check(req, b, BLOBD_COND_WRITE) ||
		!blobd_lease_check_write(req, b) || !blobd_may_change(req, b) ||
		!readable(req, b))
		return NULL;
	if (b->tier != NULL && strcmp(b->tier, "Archive") == 0) {
		blobd_reply_error(req, 409, "BlobArchived", NULL);
		return NULL;
	}
	p = changed_props(req, b);
	if (p == NULL)
		return NULL;
	before = b->etag;
	blobd_props_put(b->props);
	b->props = p;
	blobd_blob_touch(b);
	blobd_reply_etag(req, b);
	req->reply.status = 200;
	return blobd_log_add(req, blobd_op_names[req->op], req->container,
		req->name, before, b, b->content->size, NULL);
}

static void op_set(struct blobd_req *req)
{
	struct blobd_record *record;

	blobd_store_wrlock();
	record = set_locked(req);
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
}

/* Put Block and Append Block take a body with checksums. */
static void with_body(struct blobd_req *req, void (*op)(struct blobd_req *))
{
	if (body_sums_match(req))
		op(req);
}

void blobd_ops_run(struct blobd_req *req)
{
	switch (req->op) {
	case BLOBD_OP_PUT:
		op_put(req);
		break;
	case BLOBD_OP_PUTBLOCK:
		if (blobd_req_header(req, "x-ms-copy-source") != NULL)
			blobd_op_put_block_url(req);
		else
			with_body(req, blobd_op_put_block);
		break;
	case BLOBD_OP_COMMIT:
		blobd_op_commit(req);
		break;
	case BLOBD_OP_GET:
	case BLOBD_OP_HEAD:
		op_get(req);
		break;
	case BLOBD_OP_LIST:
		blobd_op_list(req);
		break;
	case BLOBD_OP_DELETE:
		op_delete(req);
		break;
	case BLOBD_OP_COPY:
		if (blobd_req_comp(req, "copy"))
			blobd_op_copy_abort(req);
		else
			blobd_op_copy(req);
		break;
	case BLOBD_OP_SETMETA:
	case BLOBD_OP_SETPROPS:
		op_set(req);
		break;
	case BLOBD_OP_BLOCKS:
		blobd_op_block_list(req);
		break;
	case BLOBD_OP_LEASE:
		blobd_op_lease(req);
		break;
	case BLOBD_OP_APPEND:
		with_body(req, blobd_op_append);
		break;
	case BLOBD_OP_TIER:
		blobd_op_tier(req);
		break;
	case BLOBD_OP_TAGS:
		blobd_op_tags(req);
		break;
	case BLOBD_OP_CONTAINER:
		blobd_op_container(req);
		break;
	case BLOBD_OP_ACCOUNT:
		blobd_op_account(req);
		break;
	case BLOBD_OP_TOKEN:
		blobd_op_token(req);
		break;
	case BLOBD_OP_CONTROL:
		blobd_op_control(req);
		break;
	default:
		blobd_reply_error(req, 400, "UnsupportedHttpVerb", NULL);
	}
}
