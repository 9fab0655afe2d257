/*
 * The store in memory: blob/store.h's contract, with ETags, conditions, block
 * lists, copies and pages; its faults; and the second writer's hands.
 *
 * A request is applied at one moment and answered at another, both by seed.  A
 * lost one is answered BLOB_AMBIGUOUS, and was applied, or never will be, or
 * will be later: up to 15 minutes, the age at which the service refuses it.
 * Requests of a process that died are applied, or not, and never answered.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/hash.h"
#include "tests/model/blobs.h"

#define LATE_NS (900 * S)

struct mstore {
	struct blob_store base;
	struct model *m;
	struct flight *flights;
	bool closed;
};

/* A request on its way, with copies of all that it needs. */
struct flight {
	struct flight *next, **prev;
	struct mstore *store; /* NULL: nobody waits any more */
	struct blob_req *req; /* NULL: the same */
	struct model *m;
	uint64_t life;
	enum blob_op op;
	char *name, *if_match, *source, *source_etag;
	bool none_match, applied, no_apply;
	bool twice; /* it is going to be applied again */
	char *body;
	uint64_t body_len;
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	struct blob_block *blocks;
	size_t blocks_nr;
	struct blob_kv *meta, *headers;
	size_t meta_nr, headers_nr;
	/* the answer */
	enum blob_result result;
	const char *code;
	uint64_t etag;
	int64_t mtime_ns;
	unsigned refs;
};

/* ---- versions ---- */

int version_find(struct model *m, const uint8_t md5[16])
{
	for (size_t i = 0; i < m->versions_nr; i++) {
		if (memcmp(m->versions[i].md5, md5, 16) == 0)
			return (int)i;
	}
	return -1;
}

char *version_bytes(struct model *m, int version)
{
	struct version *v = &m->versions[version];
	char *bytes = base_calloc(1, v->size + 1);

	memcpy(bytes, v->head, v->head_len < v->size ? v->head_len : v->size);
	return bytes;
}

int version_add(struct model *m, const char *head, size_t head_len,
	uint64_t size, bool foreign)
{
	struct version v = { .size = size, .head_len = head_len };
	char *bytes;
	int known;

	if (v.head_len > size)
		v.head_len = size;
	while (v.head_len > 0 && head[v.head_len - 1] == '\0')
		v.head_len--;
	bytes = base_calloc(1, size + 1);
	memcpy(bytes, head, v.head_len);
	blob_md5(bytes, size, v.md5);
	free(bytes);
	known = version_find(m, v.md5);
	if (known < 0) {
		v.head = base_malloc(v.head_len + 1);
		memcpy(v.head, head, v.head_len);
		v.head[v.head_len] = '\0';
		m->versions = base_realloc(m->versions,
			(m->versions_nr + 1) * sizeof(*m->versions));
		known = (int)m->versions_nr;
		m->versions[m->versions_nr++] = v;
	}
	m->versions[known].foreign |= foreign;
	m->versions[known].local |= !foreign;
	return known;
}

/* ---- blobs ---- */

struct mblob *mstore_find_blob(struct model *m, const char *name)
{
	for (size_t i = 0; i < m->blobs_nr; i++) {
		if (strcmp(m->blobs[i].name, name) == 0)
			return &m->blobs[i];
	}
	return NULL;
}

/* Also one that is not there: it has a history. */
struct mblob *mstore_blob(struct model *m, const char *name)
{
	struct mblob *b = mstore_find_blob(m, name);
	size_t at = 0;

	if (b != NULL)
		return b;
	while (at < m->blobs_nr && strcmp(m->blobs[at].name, name) < 0)
		at++;
	m->blobs =
		base_realloc(m->blobs, (m->blobs_nr + 1) * sizeof(*m->blobs));
	memmove(&m->blobs[at + 1], &m->blobs[at],
		(m->blobs_nr - at) * sizeof(*m->blobs));
	m->blobs_nr++;
	b = &m->blobs[at];
	memset(b, 0, sizeof(*b));
	b->name = base_strdup(name);
	b->version = b->foreign = -1;
	return b;
}

bool mstore_has_below(struct model *m, const char *dir)
{
	size_t len = strlen(dir);

	for (size_t i = 0; i < m->blobs_nr; i++) {
		if (m->blobs[i].there &&
			strncmp(m->blobs[i].name, dir, len) == 0 &&
			m->blobs[i].name[len] == '/')
			return true;
	}
	return false;
}

struct blob_kv *mkv_find(struct blob_kv *kv, size_t nr, const char *key)
{
	for (size_t i = 0; i < nr; i++) {
		if (strcasecmp(kv[i].key, key) == 0)
			return &kv[i];
	}
	return NULL;
}

void mstore_new_etag(struct model *m, struct mblob *b)
{
	b->etag = ++m->etag;
	b->mtime_ns = m->now_ns;
	m->etag_version = base_realloc(
		m->etag_version, (m->etag + 1) * sizeof(*m->etag_version));
	m->etag_version[m->etag] = b->version;
}

static void etag_text(uint64_t etag, char *ret, size_t size)
{
	snprintf(ret, size, "\"0x%llX\"", (unsigned long long)etag);
}

static bool etag_is(const struct mblob *b, const char *text)
{
	char buf[BLOB_ETAG_MAX];

	etag_text(b->etag, buf, sizeof(buf));
	return b->there && strcmp(buf, text) == 0;
}

void mstore_drop_blocks(struct mblock **blocks, size_t *nr)
{
	for (size_t i = 0; i < *nr; i++)
		free((*blocks)[i].bytes);
	free(*blocks);
	*blocks = NULL;
	*nr = 0;
}

void mstore_set_meta(
	struct mblob *b, const struct blob_kv *meta, size_t meta_nr)
{
	struct blob_kv *copy;

	assert(blob_kv_copy(&copy, meta, meta_nr) == 0);
	blob_kv_free(b->meta, b->meta_nr);
	b->meta = copy;
	b->meta_nr = meta_nr;
}

static void set_headers(
	struct mblob *b, const struct blob_kv *headers, size_t headers_nr)
{
	struct blob_kv *copy;

	assert(blob_kv_copy(&copy, headers, headers_nr) == 0);
	blob_kv_free(b->headers, b->headers_nr);
	b->headers = copy;
	b->headers_nr = headers_nr;
}

static void fill_props(
	struct model *m, const struct mblob *b, struct blob_props *ret)
{
	const struct version *v = &m->versions[b->version];

	memset(ret, 0, sizeof(*ret));
	etag_text(b->etag, ret->etag, sizeof(ret->etag));
	ret->size_bytes = v->size;
	ret->mtime_ns = 4200000000LL * S + b->mtime_ns / S * S;
	ret->has_md5 = b->has_md5;
	memcpy(ret->md5, v->md5, sizeof(ret->md5));
	assert(blob_kv_copy(&ret->meta, b->meta, b->meta_nr) == 0);
	ret->meta_nr = b->meta_nr;
	assert(blob_kv_copy(&ret->headers, b->headers, b->headers_nr) == 0);
	ret->headers_nr = b->headers_nr;
}

/* ---- mutations ---- */

static const char *op_name(enum blob_op op)
{
	static const char *const names[] = { "HEAD", "GET", "LIST", "PUT",
		"PUT_BLOCK", "PUT_BLOCK_URL", "COMMIT", "GET_BLOCKS", "DELETE",
		"COPY", "SET_META" };

	return names[op];
}

static bool condition_holds(struct flight *f, struct mblob *b)
{
	if (f->none_match)
		return !b->there;
	if (f->if_match == NULL) {
		model_fail(f->m, "%s %s without a condition", op_name(f->op),
			f->name);
		return true;
	}
	return etag_is(b, f->if_match);
}

static enum blob_result refuse(struct flight *f, struct mblob *b)
{
	f->code = f->none_match ? "BlobAlreadyExists" : "ConditionNotMet";
	if (!b->there && (f->op == BLOB_DELETE || f->op == BLOB_SET_META)) {
		f->code = "BlobNotFound";
		return BLOB_NOT_FOUND;
	}
	if (f->op == BLOB_COPY && rnd_pct(&f->m->rnd, 50))
		f->code = "TargetConditionNotMet";
	count(f->m, COUNT_CONDITION);
	return BLOB_CONDITION;
}

static void put_bytes(
	struct flight *f, struct mblob *b, const char *bytes, uint64_t len)
{
	struct model *m = f->m;
	uint8_t md5[16];

	blob_md5(bytes, len, md5);
	b->version = version_find(m, md5);
	if (b->version < 0) {
		model_fail(m,
			"%s %s: torn: %llu bytes that nobody ever wrote "
			"(%.40s)",
			op_name(f->op), f->name, (unsigned long long)len,
			bytes);
		b->version = 0;
	}
}

static const struct mblock *find_block(
	const struct mblock *blocks, size_t nr, const uint8_t *id)
{
	for (size_t i = 0; i < nr; i++) {
		if (memcmp(blocks[i].id, id, BLOB_BLOCK_ID_BYTES) == 0)
			return &blocks[i];
	}
	return NULL;
}

static bool count_kept(struct model *m)
{
	count(m, COUNT_KEPT_BLOCK);
	return true;
}

static enum blob_result do_commit(struct flight *f, struct mblob *b)
{
	struct base_str all = BASE_STR_INIT;
	struct mblock *list = base_calloc(f->blocks_nr + 1, sizeof(*list));
	enum blob_result result = BLOB_OK;

	for (size_t i = 0; i < f->blocks_nr && result == BLOB_OK; i++) {
		const struct mblock *k = NULL;

		if (!f->blocks[i].committed)
			k = find_block(
				b->staged, b->staged_nr, f->blocks[i].id);
		else if (b->there && count_kept(f->m))
			k = find_block(
				b->blocks, b->blocks_nr, f->blocks[i].id);
		if (k == NULL) {
			result = BLOB_BAD_BLOCKS;
			f->code = "InvalidBlockList";
			break;
		}
		list[i] = *k;
		list[i].bytes = base_malloc(k->len + 1);
		memcpy(list[i].bytes, k->bytes, k->len);
		base_str_add(&all, k->bytes, k->len);
	}
	if (result != BLOB_OK) {
		mstore_drop_blocks(&list, &f->blocks_nr);
		base_str_fini(&all);
		return result;
	}
	put_bytes(f, b, all.data ? all.data : "", all.len);
	base_str_fini(&all);
	if (f->blocks_nr > 1)
		count(f->m, COUNT_BLOCKS);
	mstore_drop_blocks(&b->blocks, &b->blocks_nr);
	b->blocks = list;
	b->blocks_nr = f->blocks_nr;
	mstore_drop_blocks(&b->staged, &b->staged_nr);
	b->has_md5 = false;
	return BLOB_OK;
}

static enum blob_result do_copy(struct flight *f, struct mblob *b)
{
	struct model *m = f->m;
	struct mblob *source = mstore_find_blob(m, f->source);

	if (source == NULL || !source->there) {
		f->code = "CannotVerifyCopySource";
		return BLOB_NOT_FOUND;
	}
	if (!etag_is(source, f->source_etag)) {
		f->code = rnd_pct(&m->rnd, 50) ? "SourceConditionNotMet"
					       : "ConditionNotMet";
		return BLOB_CONDITION;
	}
	if (!condition_holds(f, b))
		return refuse(f, b);
	b->version = source->version;
	b->has_md5 = source->has_md5;
	mstore_drop_blocks(&b->staged, &b->staged_nr);
	mstore_drop_blocks(&b->blocks, &b->blocks_nr);
	b->blocks = base_calloc(source->blocks_nr + 1, sizeof(*b->blocks));
	b->blocks_nr = source->blocks_nr;
	for (size_t i = 0; i < b->blocks_nr; i++) {
		b->blocks[i] = source->blocks[i];
		b->blocks[i].bytes = base_malloc(b->blocks[i].len + 1);
		memcpy(b->blocks[i].bytes, source->blocks[i].bytes,
			b->blocks[i].len);
	}
	set_headers(b, source->headers, source->headers_nr);
	return BLOB_OK;
}

static enum blob_result mutate(struct flight *f, struct mblob *b)
{
	enum blob_result result = BLOB_OK;

	if (f->op == BLOB_COPY) {
		result = do_copy(f, b);
	} else if (!condition_holds(f, b)) {
		return refuse(f, b);
	} else if (f->op == BLOB_COMMIT) {
		result = do_commit(f, b);
	} else if (f->op == BLOB_PUT) {
		put_bytes(f, b, f->body, f->body_len);
		mstore_drop_blocks(&b->blocks, &b->blocks_nr);
		mstore_drop_blocks(&b->staged, &b->staged_nr);
		b->has_md5 = true;
	}
	if (result != BLOB_OK)
		return result;
	if (f->op == BLOB_DELETE) {
		b->there = false;
		mstore_drop_blocks(&b->blocks, &b->blocks_nr);
		mstore_drop_blocks(&b->staged, &b->staged_nr);
		return BLOB_OK;
	}
	b->there = true;
	mstore_set_meta(b, f->meta, f->meta_nr);
	if (f->op != BLOB_COPY && f->op != BLOB_SET_META)
		set_headers(b, f->headers, f->headers_nr);
	mstore_new_etag(f->m, b);
	f->etag = b->etag;
	f->mtime_ns = b->mtime_ns;
	return BLOB_OK;
}

static enum blob_result put_block(struct flight *f)
{
	struct mblob *b = mstore_blob(f->m, f->name);

	if (find_block(b->staged, b->staged_nr, f->id) != NULL)
		return BLOB_OK;
	b->staged = base_realloc(
		b->staged, (b->staged_nr + 1) * sizeof(*b->staged));
	memcpy(b->staged[b->staged_nr].id, f->id, sizeof(f->id));
	b->staged[b->staged_nr].len = f->body_len;
	b->staged[b->staged_nr].bytes = base_malloc(f->body_len + 1);
	memcpy(b->staged[b->staged_nr++].bytes, f->body, f->body_len);
	return BLOB_OK;
}

static bool mutates(enum blob_op op)
{
	return op == BLOB_PUT || op == BLOB_COMMIT || op == BLOB_DELETE ||
		op == BLOB_COPY || op == BLOB_SET_META;
}

static void apply_mutation(struct flight *f)
{
	struct model *m = f->m;
	struct mblob *b = mstore_blob(m, f->name);
	bool was_there = b->there;
	int was_version = b->version;

	/* Blocks that were never committed go after a week, or with whatever
	 * else another tool commits. */
	if (f->op == BLOB_COMMIT && !f->applied && m->faults &&
		b->staged_nr > 0 && rnd_pct(&m->rnd, 5)) {
		mstore_drop_blocks(&b->staged, &b->staged_nr);
		count(m, COUNT_BLOCKS_GONE);
	}
	f->applied = true;
	f->result = mutate(f, b);
	b = mstore_find_blob(m, f->name);
	if (f->result == BLOB_OK && f->op == BLOB_COPY)
		count(m, COUNT_COPY);
	if (f->result == BLOB_OK && f->op == BLOB_SET_META)
		count(m, COUNT_SET_META);
	model_say(m, "      store: %s %s%s%s -> %s%s%s%s", op_name(f->op),
		f->name, f->source ? " from " : "", f->source ? f->source : "",
		f->result == BLOB_OK ? "applied" : blob_result_name(f->result),
		f->req == NULL ? " (late)" : "", f->if_match ? " if " : "",
		f->if_match ? f->if_match : "");
	if (f->result == BLOB_OK)
		check_applied(
			m, b, was_there, was_version, false, op_name(f->op));
}

/* ---- requests that only ask ---- */

static void fill_head(struct flight *f)
{
	struct mblob *b = mstore_find_blob(f->m, f->name);

	if (b == NULL || !b->there) {
		f->result = BLOB_NOT_FOUND;
		return;
	}
	fill_props(f->m, b, &f->req->props);
}

static void fill_blocks(struct flight *f)
{
	struct mblob *b = mstore_find_blob(f->m, f->name);

	fill_head(f);
	if (f->result != BLOB_OK)
		return;
	f->req->blocks.blocks =
		base_calloc(b->blocks_nr + 1, sizeof(struct blob_block));
	f->req->blocks.blocks_nr = b->blocks_nr;
	for (size_t i = 0; i < b->blocks_nr; i++) {
		struct blob_block *k = &f->req->blocks.blocks[i];

		memcpy(k->id, b->blocks[i].id, sizeof(k->id));
		k->ours = memcmp(k->id, "fb01", 4) == 0 ||
			memcmp(k->id, "fb02", 4) == 0;
		k->size_bytes = b->blocks[i].len;
	}
}

static void do_get(struct flight *f)
{
	struct mblob *b = mstore_find_blob(f->m, f->name);
	struct blob_req *req = f->req;
	uint64_t size, offset, len;
	char *bytes;

	if (b == NULL || !b->there) {
		f->result = BLOB_NOT_FOUND;
		return;
	}
	if (f->if_match != NULL && !etag_is(b, f->if_match)) {
		f->result = BLOB_CONDITION;
		f->code = "ConditionNotMet";
		return;
	}
	size = f->m->versions[b->version].size;
	offset = req->in.get.offset;
	len = req->in.get.len_bytes;
	if (offset >= size) {
		f->result = BLOB_BAD_RANGE;
		return;
	}
	if (len == 0 || len > size - offset)
		len = size - offset;
	fill_props(f->m, b, &req->props);
	bytes = version_bytes(f->m, b->version);
	count(f->m, COUNT_REFETCH);
	if (req->in.get.data(req, bytes + offset, len) < 0)
		f->result = BLOB_STOPPED;
	free(bytes);
}

static void add_entry(struct blob_req *req, const char *name, size_t len,
	bool prefix, struct model *m, const struct mblob *b)
{
	struct blob_entry *e;

	req->page.entries = base_realloc(
		req->page.entries, (req->page.entries_nr + 1) * sizeof(*e));
	e = &req->page.entries[req->page.entries_nr++];
	memset(e, 0, sizeof(*e));
	e->name = base_malloc(len + 1);
	memcpy(e->name, name, len);
	e->name[len] = '\0';
	e->prefix = prefix;
	if (!prefix)
		fill_props(m, b, &e->props);
}

/* The marker is the name of the last blob looked at. */
static void do_list(struct flight *f, unsigned max)
{
	struct model *m = f->m;
	struct blob_req *req = f->req;
	size_t dir_len = strlen(f->name), left = max;
	const char *only = req->in.list.only;

	for (size_t i = 0; i < m->blobs_nr; i++) {
		const struct mblob *b = &m->blobs[i];
		const char *rest = b->name + dir_len, *slash;
		const struct blob_entry *last = req->page.entries_nr
			? &req->page.entries[req->page.entries_nr - 1]
			: NULL;

		if (!b->there || strncmp(b->name, f->name, dir_len) != 0)
			continue;
		if (dir_len > 0 && *rest++ != '/')
			continue;
		if (only != NULL && strncmp(rest, only, strlen(only)) != 0)
			continue;
		if (f->source != NULL && strcmp(b->name, f->source) <= 0)
			continue;
		slash = strchr(rest, '/');
		if (slash != NULL && !req->in.list.recursive) {
			size_t len = (size_t)(slash - b->name);

			if (last != NULL && last->prefix &&
				strlen(last->name) == len &&
				strncmp(last->name, b->name, len) == 0) {
				free(req->page.next);
				req->page.next = base_strdup(b->name);
				continue;
			}
			if (left-- == 0)
				return;
			add_entry(req, b->name, len, true, m, b);
		} else {
			if (left-- == 0)
				return;
			add_entry(req, b->name, strlen(b->name), false, m, b);
		}
		free(req->page.next);
		req->page.next = base_strdup(b->name);
	}
	free(req->page.next);
	req->page.next = NULL;
}

/* ---- flights ---- */

static void flight_put(struct flight *f)
{
	if (--f->refs > 0)
		return;
	if (f->prev != NULL) {
		*f->prev = f->next;
		if (f->next != NULL)
			f->next->prev = f->prev;
	}
	free(f->name);
	free(f->if_match);
	free(f->source);
	free(f->source_etag);
	free(f->body);
	free(f->blocks);
	blob_kv_free(f->meta, f->meta_nr);
	blob_kv_free(f->headers, f->headers_nr);
	free(f);
}

static char *copy_text(const char *text)
{
	return text ? base_strdup(text) : NULL;
}

static void copy_body(struct flight *f, const struct blob_body *body)
{
	uint8_t md5[16];

	f->body_len = body->len_bytes;
	f->body = base_malloc(body->len_bytes + 1);
	if (body->mem != NULL)
		memcpy(f->body, body->mem, body->len_bytes);
	else
		model_fail(f->m, "a body from a descriptor: not in the model");
	f->body[body->len_bytes] = '\0';
	blob_md5(f->body, f->body_len, md5);
	if (memcmp(md5, body->md5, 16) != 0)
		model_fail(f->m, "%s %s: wrong MD5", op_name(f->op), f->name);
}

static struct flight *flight_new(struct mstore *s, struct blob_req *req)
{
	struct flight *f = base_calloc(1, sizeof(*f));

	f->m = s->m;
	f->store = s;
	f->req = req;
	f->life = s->m->life;
	f->op = req->op;
	f->refs = 2; /* to be applied, to be answered */
	f->name = base_strdup(req->name);
	f->if_match = copy_text(req->cond.if_match);
	f->none_match = req->cond.if_none_match_any;
	f->code = "";
	if (req->op == BLOB_PUT)
		copy_body(f, &req->in.put.body);
	if (req->op == BLOB_PUT_BLOCK) {
		copy_body(f, &req->in.block.body);
		memcpy(f->id, req->in.block.id, sizeof(f->id));
	}
	if (req->op == BLOB_COPY) {
		f->source = copy_text(req->in.copy.source);
		f->source_etag = copy_text(req->in.copy.source_etag);
	}
	if (req->op == BLOB_LIST)
		f->source = copy_text(req->in.list.start);
	if (req->op == BLOB_COMMIT) {
		f->blocks_nr = req->in.commit.blocks_nr;
		f->blocks = base_calloc(f->blocks_nr + 1, sizeof(*f->blocks));
		memcpy(f->blocks, req->in.commit.blocks,
			f->blocks_nr * sizeof(*f->blocks));
	}
	assert(blob_kv_copy(&f->meta, req->meta, req->meta_nr) == 0);
	f->meta_nr = req->meta_nr;
	assert(blob_kv_copy(&f->headers, req->headers, req->headers_nr) == 0);
	f->headers_nr = req->headers_nr;
	f->next = s->flights;
	f->prev = &s->flights;
	if (f->next != NULL)
		f->next->prev = &f->next;
	s->flights = f;
	return f;
}

static void detach(struct flight *f)
{
	if (f->prev != NULL) {
		*f->prev = f->next;
		if (f->next != NULL)
			f->next->prev = f->prev;
	}
	f->prev = NULL;
	f->next = NULL;
	f->store = NULL;
	f->req = NULL;
}

/* The moment at which it is applied. */
static void flight_apply(struct model *m, void *arg)
{
	struct flight *f = arg;

	(void)m;
	if (!f->no_apply && mutates(f->op))
		apply_mutation(f);
	else if (!f->no_apply && f->op == BLOB_PUT_BLOCK)
		f->result = put_block(f);
	flight_put(f);
}

static int errno_of(enum blob_result result)
{
	switch (result) {
	case BLOB_OK:
		return 0;
	case BLOB_NOT_FOUND:
		return -ENOENT;
	case BLOB_CONDITION:
		return -EEXIST;
	case BLOB_BAD_RANGE:
		return -ERANGE;
	case BLOB_BAD_BLOCKS:
		return -EBADE;
	case BLOB_BUSY:
		return -EBUSY;
	case BLOB_STOPPED:
		return -EINTR;
	default:
		return -EIO;
	}
}

static void answer(struct flight *f)
{
	struct blob_req *req = f->req;

	req->result = f->result;
	req->err = errno_of(f->result);
	snprintf(req->code, sizeof(req->code), "%s", f->code);
	if (mutates(f->op) && f->result == BLOB_OK && f->op != BLOB_DELETE) {
		etag_text(f->etag, req->props.etag, sizeof(req->props.etag));
		req->props.mtime_ns = 4200000000LL * S + f->mtime_ns / S * S;
	}
	detach(f);
	req->done(req);
}

/* A page that is answered while one of our mutations is under way. */
static void note_race(struct flight *f)
{
	if (f->op != BLOB_LIST)
		return;
	for (struct flight *o = f->store->flights; o != NULL; o = o->next) {
		if (mutates(o->op))
			count(f->m, COUNT_LIST_RACE);
	}
}

static void flight_answer(struct model *m, void *arg)
{
	struct flight *f = arg;
	bool asks = !mutates(f->op) && f->op != BLOB_PUT_BLOCK;

	if (f->req != NULL) {
		/* What only asks is answered with what is there now. */
		if (asks && f->result == BLOB_OK) {
			if (f->op == BLOB_HEAD)
				fill_head(f);
			else if (f->op == BLOB_GET)
				do_get(f);
			else if (f->op == BLOB_GET_BLOCKS)
				fill_blocks(f);
			else if (f->op == BLOB_LIST)
				do_list(f,
					f->req->in.list.max == 1
						? 1
						: 1 + rnd_below(&m->rnd, 6));
		}
		f->req->uncertain = f->result == BLOB_AMBIGUOUS || f->twice;
		note_race(f);
		answer(f);
	}
	flight_put(f);
}

/* ---- what goes wrong ---- */

static int64_t some_ms(struct model *m)
{
	return (int64_t)(1 +
		       rnd_below(&m->rnd, rnd_pct(&m->rnd, 10) ? 800 : 40)) *
		MS;
}

static void set_ambiguous(struct model *m, void *arg)
{
	struct flight *f = arg;

	(void)m;
	if (f->req != NULL) {
		model_say(m, "      store: answer lost: %s %s", op_name(f->op),
			f->name);
		count(m,
			f->applied && f->result == BLOB_OK ? COUNT_LOST
							   : COUNT_UNAPPLIED);
		f->result = BLOB_AMBIGUOUS;
		f->req->uncertain = true;
		f->code = "";
		answer(f);
	}
	flight_put(f);
}

/* Long after it was given up, or once more. */
static void apply_late(struct model *m, void *arg)
{
	struct flight *f = arg;
	bool twice = f->applied;

	f->no_apply = false;
	if (mutates(f->op)) {
		mstore_blob(m, f->name)->late = true;
		apply_mutation(f);
	} else {
		f->result = put_block(f);
	}
	if (f->result == BLOB_OK && mutates(f->op))
		count(m, twice ? COUNT_TWICE : COUNT_LATE);
	flight_put(f);
}

static int64_t late_ns(struct model *m)
{
	return (int64_t)rnd_below(
		&m->rnd, rnd_pct(&m->rnd, 60) ? 3 * S : LATE_NS);
}

static void mutation_with_fault(struct flight *f, int64_t t)
{
	struct model *m = f->m;
	unsigned kind = (unsigned)rnd_below(&m->rnd, 6);

	switch (kind) {
	case 0: /* surely not applied */
	case 1:
		f->no_apply = true;
		f->result = kind == 0 ? BLOB_UNAVAILABLE : BLOB_BUSY;
		count(m, COUNT_REFUSED);
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), flight_answer, f);
		return;
	case 2: /* applied, answer lost */
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), set_ambiguous, f);
		return;
	case 3: /* lost on its way */
		f->no_apply = true;
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), set_ambiguous, f);
		return;
	case 4: /* answered, and comes once more; blob/ says so */
		f->refs++;
		f->twice = true;
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), flight_answer, f);
		model_at(m, t + late_ns(m), apply_late, f);
		return;
	default: /* answered as lost, applied later */
		model_at(m, t, set_ambiguous, f);
		model_at(m, t + late_ns(m), apply_late, f);
		return;
	}
}

/* Its blocks may come late, too: then nobody needs them any more. */
static void block_with_fault(struct flight *f, int64_t t)
{
	struct model *m = f->m;

	f->result = BLOB_AMBIGUOUS;
	f->no_apply = true;
	model_at(m, t, flight_answer, f);
	model_at(m, t + late_ns(m), apply_late, f);
}

static void submit(struct blob_store *base, struct blob_req *req)
{
	struct mstore *s = (struct mstore *)base;
	struct model *m = s->m;
	struct flight *f = flight_new(s, req);
	int64_t t = m->now_ns + some_ms(m);
	bool fault = m->faults && rnd_pct(&m->rnd, 15);

	if (m->closing) {
		f->no_apply = true;
		f->result = BLOB_STOPPED;
		model_at(m, m->now_ns, flight_apply, f);
		model_at(m, m->now_ns, flight_answer, f);
		return;
	}
	model_say(m, "      submit: %s %s", op_name(f->op), f->name);
	if (fault && mutates(f->op)) {
		mutation_with_fault(f, t);
		return;
	}
	if (fault && f->op == BLOB_PUT_BLOCK && rnd_pct(&m->rnd, 50)) {
		block_with_fault(f, t);
		return;
	}
	if (fault && rnd_pct(&m->rnd, 40)) {
		f->no_apply = true;
		f->result = BLOB_UNAVAILABLE;
	}
	model_at(m, t, flight_apply, f);
	model_at(m, t + some_ms(m), flight_answer, f);
}

static void cancel(struct blob_store *base, struct blob_req *req)
{
	(void)base;
	(void)req; /* its answer comes soon, and a cancel is only a wish */
}

/* Everything ends; what was under way may be applied all the same. */
static void close_store(struct blob_store *base)
{
	struct mstore *s = (struct mstore *)base;
	struct flight *f;

	while ((f = s->flights) != NULL) {
		struct blob_req *req = f->req;

		assert(req != NULL);
		if (rnd_pct(&s->m->rnd, 40))
			f->no_apply = true;
		detach(f);
		req->result = BLOB_STOPPED;
		req->err = -EINTR;
		req->done(req);
	}
	free(s);
}

void mstore_orphan(struct blob_store *store)
{
	struct mstore *s = (struct mstore *)store;
	struct flight *f;

	while ((f = s->flights) != NULL) {
		if (rnd_pct(&s->m->rnd, 40))
			f->no_apply = true;
		detach(f);
	}
	free(s);
}

static const struct blob_store_ops store_ops = {
	.submit = submit,
	.cancel = cancel,
	.close = close_store,
};

struct blob_store *mstore_open(struct model *m)
{
	struct mstore *s = base_calloc(1, sizeof(*s));

	s->base.ops = &store_ops;
	s->m = m;
	return &s->base;
}
