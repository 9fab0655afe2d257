/*
 * What a request that only asks is answered: properties, bytes, blocks, pages.
 */
#include "tests/model/flight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static void fill_props(
	struct model *m, const struct mblob *b, struct blob_props *ret)
{
	const struct version *v = &m->versions[b->version];

	memset(ret, 0, sizeof(*ret));
	mstore_etag_text(b->etag, ret->etag, sizeof(ret->etag));
	ret->size_bytes = v->size;
	ret->mtime_ns = 4200000000LL * S + b->mtime_ns / S * S;
	ret->has_md5 = b->has_md5;
	memcpy(ret->md5, v->md5, sizeof(ret->md5));
	assert(blob_kv_copy(&ret->meta, b->meta, b->meta_nr) == 0);
	ret->meta_nr = b->meta_nr;
	assert(blob_kv_copy(&ret->headers, b->headers, b->headers_nr) == 0);
	ret->headers_nr = b->headers_nr;
}

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
	if (f->if_match != NULL && !mstore_etag_is(b, f->if_match)) {
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

void flight_ask(struct flight *f)
{
	switch (f->op) {
	case BLOB_HEAD:
		fill_head(f);
		break;
	case BLOB_GET:
		do_get(f);
		break;
	case BLOB_GET_BLOCKS:
		fill_blocks(f);
		break;
	case BLOB_LIST:
		do_list(f,
			f->req->in.list.max == 1
				? 1
				: 1 + rnd_below(&f->m->rnd, 6));
		break;
	default:
		break;
	}
}
