/*
 * What a request does to the blobs at the moment at which it is applied: its
 * conditions, blocks, commits and copies.
 */
#include "tests/model/flight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/hash.h"

static void set_headers(
	struct mblob *b, const struct blob_kv *headers, size_t headers_nr)
{
	struct blob_kv *copy;

	assert(blob_kv_copy(&copy, headers, headers_nr) == 0);
	blob_kv_free(b->headers, b->headers_nr);
	b->headers = copy;
	b->headers_nr = headers_nr;
}

const char *flight_op_name(enum blob_op op)
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
		model_fail(f->m, "%s %s without a condition",
			flight_op_name(f->op), f->name);
		return true;
	}
	return mstore_etag_is(b, f->if_match);
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
			flight_op_name(f->op), f->name, (unsigned long long)len,
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
	if (!mstore_etag_is(source, f->source_etag)) {
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

enum blob_result flight_put_block(struct flight *f)
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

bool flight_mutates(enum blob_op op)
{
	return op == BLOB_PUT || op == BLOB_COMMIT || op == BLOB_DELETE ||
		op == BLOB_COPY || op == BLOB_SET_META;
}

void flight_mutate(struct flight *f)
{
	struct model *m = f->m;
	struct mblob *b = mstore_blob(m, f->name);
	bool was_there = b->there;
	int was_version = b->version;

	/* Blocks that were never committed go after a week, or with whatever
	 * else another tool commits. */
	if (f->op == BLOB_COMMIT && !f->applied && m->faults &&
		b->staged_nr > 0 && rnd_pct(&m->rnd, 25)) {
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
	model_say(m, "      store: %s %s%s%s -> %s%s%s%s",
		flight_op_name(f->op), f->name, f->source ? " from " : "",
		f->source ? f->source : "",
		f->result == BLOB_OK ? "applied" : blob_result_name(f->result),
		f->req == NULL ? " (late)" : "", f->if_match ? " if " : "",
		f->if_match ? f->if_match : "");
	if (f->result == BLOB_OK)
		check_applied(m, b, was_there, was_version, false,
			flight_op_name(f->op));
}
