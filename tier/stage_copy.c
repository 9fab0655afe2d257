/*
 * A large blob copied on the server, block by block: what one synchronous copy
 * does not take (WRITEBACK section 4).
 *
 *   C1  every block is asked for under the ETag of the source;
 *   C2  the blocks keep their ids where the source's are ours; otherwise an id
 *       names source, ETag and range ("fb02"), which stand for the same bytes
 *       for ever, too;
 *   C3  the commit is conditional on the target, like that of any file.
 */
#include "tier/stage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct copy_op {
	struct work *w;
	struct blob_req req;
};

static void copy_more(struct work *w);

static void copy_end(struct work *w)
{
	int err = w->upload->err;

	if (err == 0)
		tier_stage_done(w);
	else if (err == -ESTALE)
		tier_source_moved(w);
	else
		tier_stage_failed(w, err);
}

static void block_copied(void *arg)
{
	struct copy_op *op = arg;
	struct work *w = op->w;
	struct tier *tier = w->tier;

	w->upload->in_flight--;
	tier_block_failed(w, &op->req);
	blob_req_fini(&op->req);
	free(op);
	copy_more(w);
	tier_answered(tier);
}

static void block_answered(struct blob_req *req)
{
	struct copy_op *op = req->arg;

	base_strand_post(op->w->line->strand, block_copied, op);
}

static void copy_block(
	struct work *w, const struct blob_block *block, uint64_t offset)
{
	struct copy_op *op = base_calloc(1, sizeof(*op));

	op->w = w;
	op->req.op = BLOB_PUT_BLOCK_URL;
	op->req.name = w->row.name;
	op->req.background = true;
	op->req.arg = op;
	op->req.done = block_answered;
	memcpy(op->req.in.block.id, block->id, sizeof(block->id));
	op->req.in.block.source = w->source;
	op->req.in.block.source_etag = w->source_etag; /* C1 */
	op->req.in.block.source_offset = offset;
	op->req.in.block.source_len_bytes = block->size_bytes;
	w->upload->in_flight++;
	tier_submit(w->tier, &op->req);
}

static void copy_more(struct work *w)
{
	struct upload *u = w->upload;

	while (u->err == 0 && u->copied < u->blocks_nr &&
		u->in_flight < TIER_COPY_BLOCKS) {
		struct blob_block *block = &u->blocks[u->copied++];

		if (tier_block_begin(u, block->id, block->size_bytes))
			copy_block(w, block, u->next);
		u->next += block->size_bytes;
	}
	if (u->in_flight == 0 && (u->err < 0 || u->copied == u->blocks_nr))
		copy_end(w);
}

/* C2 */
static void name_range(
	struct work *w, struct blob_block *block, uint64_t offset, uint64_t len)
{
	struct base_str s = BASE_STR_INIT;

	base_str_printf(&s, "%s %s %" PRIu64 " %" PRIu64, w->source_etag,
		w->source, offset, len);
	memcpy(block->id, "fb02", 4);
	blob_sha256(s.data, s.len, block->id + 4);
	base_str_fini(&s);
	block->ours = true;
	block->size_bytes = len;
}

static void plan_blocks(struct work *w)
{
	struct blob_req *req = &w->req;
	struct upload *u = w->upload;
	uint64_t size = w->twin.size_bytes, len;
	uint8_t list[16];

	if (tier_list_digest(
		    req->blocks.blocks, req->blocks.blocks_nr, size, list)) {
		for (size_t i = 0; i < req->blocks.blocks_nr; i++) {
			struct blob_block *block = tier_block_add(u);

			*block = req->blocks.blocks[i];
			block->committed = false;
		}
		return;
	}
	for (uint64_t at = 0; at < size; at += len) {
		len = tier_block_len(at, size);
		name_range(w, tier_block_add(u), at, len);
	}
}

static void listed(struct work *w, int err)
{
	struct blob_req *req = &w->req;

	(void)err;
	switch (req->result) {
	case BLOB_OK:
		if (strcmp(req->props.etag, w->source_etag) != 0) {
			tier_source_moved(w);
			return;
		}
		plan_blocks(w);
		blob_req_fini(req);
		memset(req, 0, sizeof(*req));
		copy_more(w);
		break;
	case BLOB_NOT_FOUND:
		tier_source_moved(w);
		break;
	default:
		tier_stage_failed(w, tier_block_err(req->result));
		break;
	}
}

void tier_stage_copy(struct work *w)
{
	w->state = WORK_PREPARING;
	w->op = BLOB_COMMIT;
	w->copied = true;
	tier_upload_new(w);
	memset(&w->req, 0, sizeof(w->req));
	w->req.op = BLOB_GET_BLOCKS;
	w->req.name = w->source;
	tier_work_ask(w, listed);
}
