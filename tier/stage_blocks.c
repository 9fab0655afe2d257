/*
 * The blocks of a file of more than one: their sizes, which of them the blob
 * in place or this upload has already, and what the store said of them
 * (stage.c and stage_copy.c send them).
 */
#include "tier/stage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* S3 */
uint64_t tier_block_len(uint64_t offset, uint64_t size_bytes)
{
	const uint64_t run1 = TIER_BLOCK_RUN * TIER_BLOCK_BYTES_1;
	const uint64_t run2 = run1 + TIER_BLOCK_RUN * TIER_BLOCK_BYTES_2;
	const uint64_t run3 = run2 + TIER_BLOCK_RUN * TIER_BLOCK_BYTES_3;
	uint64_t len = offset < run1 ? TIER_BLOCK_BYTES_1
		: offset < run2	     ? TIER_BLOCK_BYTES_2
		: offset < run3	     ? TIER_BLOCK_BYTES_3
				     : TIER_BLOCK_BYTES_4;

	return len < size_bytes - offset ? len : size_bytes - offset;
}

/* ---- sets of blocks ---- */

struct block_id {
	UT_hash_handle hh;
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	uint64_t size_bytes;
};

static struct block_id *find_id(struct block_id *set, const uint8_t *id)
{
	struct block_id *found;

	HASH_FIND(hh, set, id, BLOB_BLOCK_ID_BYTES, found);
	return found;
}

static void add_id(
	struct block_id **set, const uint8_t *id, uint64_t size_bytes)
{
	struct block_id *b;

	if (find_id(*set, id) != NULL)
		return;
	b = base_calloc(1, sizeof(*b));
	memcpy(b->id, id, BLOB_BLOCK_ID_BYTES);
	b->size_bytes = size_bytes;
	HASH_ADD(hh, *set, id, BLOB_BLOCK_ID_BYTES, b);
}

static void free_ids(struct block_id *set)
{
	struct block_id *b, *tmp;

	HASH_ITER(hh, set, b, tmp)
	{
		HASH_DEL(set, b);
		free(b);
	}
}

/* ---- the upload ---- */

struct upload *tier_upload_new(struct work *w)
{
	w->upload = base_calloc(1, sizeof(*w->upload));
	w->upload->fd = -1;
	return w->upload;
}

void tier_upload_free(struct upload *u)
{
	if (u == NULL)
		return;
	assert(u->in_flight == 0);
	if (u->fd >= 0)
		close(u->fd);
	free_ids(u->committed);
	free_ids(u->staged);
	free(u->blocks);
	free(u->list);
	free(u);
}

struct blob_block *tier_block_add(struct upload *u)
{
	if (u->blocks_nr == u->blocks_cap) {
		u->blocks_cap = u->blocks_cap ? u->blocks_cap * 2 : 64;
		u->blocks = base_realloc(
			u->blocks, u->blocks_cap * sizeof(*u->blocks));
	}
	memset(&u->blocks[u->blocks_nr], 0, sizeof(*u->blocks));
	return &u->blocks[u->blocks_nr++];
}

bool tier_block_begin(
	struct upload *u, const uint8_t id[BLOB_BLOCK_ID_BYTES], uint64_t len)
{
	if (find_id(u->staged, id) != NULL)
		return false;
	add_id(&u->staged, id, len);
	return true;
}

bool tier_block_known(struct upload *u, const uint8_t id[BLOB_BLOCK_ID_BYTES],
	uint64_t len, struct blob_block *ret)
{
	struct block_id *known = find_id(u->committed, id);

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->id, id, BLOB_BLOCK_ID_BYTES);
	ret->ours = true;
	ret->size_bytes = len;
	ret->committed = known != NULL && known->size_bytes == len; /* S1 */
	return ret->committed || u->hash_only || find_id(u->staged, id) != NULL;
}

/* The full sizes are worth remembering. */
static struct tier_zero *zero_of(struct tier_line *line, uint64_t len)
{
	return len == TIER_BLOCK_BYTES_1    ? &line->zeroes[0]
		: len == TIER_BLOCK_BYTES_2 ? &line->zeroes[1]
		: len == TIER_BLOCK_BYTES_3 ? &line->zeroes[2]
		: len == TIER_BLOCK_BYTES_4 ? &line->zeroes[3]
					    : NULL;
}

const struct tier_zero *tier_zero_known(struct tier_line *line, uint64_t len)
{
	struct tier_zero *zero = zero_of(line, len);

	return zero != NULL && zero->len_bytes > 0 ? zero : NULL;
}

void tier_zero_note(struct tier_line *line,
	const uint8_t id[BLOB_BLOCK_ID_BYTES], uint64_t len)
{
	struct tier_zero *zero = zero_of(line, len);

	if (zero == NULL)
		return;
	zero->len_bytes = len;
	memcpy(zero->id, id, BLOB_BLOCK_ID_BYTES);
}

void tier_stage_take_list(struct work *w)
{
	struct upload *u = w->upload;
	struct blob_req *req = &w->req;
	uint64_t sum = 0;
	bool ours = true;

	for (size_t i = 0; i < req->blocks.blocks_nr; i++) {
		const struct blob_block *b = &req->blocks.blocks[i];

		ours &= b->ours;
		sum += b->size_bytes;
		if (b->ours)
			add_id(&u->committed, b->id, b->size_bytes);
	}
	if (ours && sum == w->base.size_bytes) {
		u->list = req->blocks.blocks;
		u->list_nr = req->blocks.blocks_nr;
		req->blocks.blocks = NULL;
		req->blocks.blocks_nr = 0;
	}
}

void tier_upload_fill(struct work *w)
{
	struct upload *u = w->upload;
	struct blob_req *req = &w->req;

	if (w->op == BLOB_PUT) {
		req->in.put.body.fd = u->fd;
		req->in.put.body.len_bytes = w->row.size_bytes;
		req->in.put.body.md5 = w->md5;
	} else {
		req->in.commit.blocks = w->restore ? u->list : u->blocks;
		req->in.commit.blocks_nr =
			w->restore ? u->list_nr : u->blocks_nr;
	}
}

/* ---- answers ---- */

int tier_block_err(enum blob_result result)
{
	switch (result) {
	case BLOB_OK:
		return 0;
	case BLOB_STOPPED:
		return -EINTR;
	case BLOB_CORRUPT:
		return -EAGAIN;
	case BLOB_BAD_BLOCKS:
		return -EBADE;
	case BLOB_CONDITION:
	case BLOB_NOT_FOUND:
	case BLOB_BAD_RANGE:
		return -ESTALE;
	case BLOB_BUSY:
		return -EBUSY;
	case BLOB_UNSUPPORTED:
	case BLOB_REFUSED:
		return -EOPNOTSUPP;
	case BLOB_IMMUTABLE:
	case BLOB_ARCHIVED:
	case BLOB_BAD_TYPE:
	case BLOB_NAME:
	case BLOB_TOO_LARGE:
		return -EPERM;
	default:
		return -EIO;
	}
}

void tier_block_failed(struct work *w, const struct blob_req *req)
{
	int err = tier_block_err(req->result);

	if (err == 0 || w->upload->err < 0)
		return;
	w->upload->err = err;
	w->req.result = req->result;
	memcpy(w->req.code, req->code, sizeof(w->req.code));
}
