/*
 * A file of more than one block: each block is named by its hash, so what the
 * committed blob or this upload has already is not sent again; the commit
 * names them all (WRITEBACK section 4).
 *
 * Invariants (U1 and U2: upload.c):
 *   S1  a kept block is named `Committed` only if the block list's ETag is the
 *       one in `remote` and its size is right;
 *   S2  a block is sent once however often the file has it, and a hole is
 *       neither read nor hashed where the zero block's hash is known;
 *   S3  the size of a block is a function of its offset alone
 *       (stage_blocks.c);
 *   S4  if the blob in place is not the one in `remote`, nothing is sent: the
 *       condition would fail.  The blocks are hashed only if they may be the
 *       same as its.
 */
#include "tier/stage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_BYTES (1 * TIER_MIB)

struct block_op {
	struct work *w;
	size_t index;
	uint64_t offset, len_bytes;
	char *buf; /* NULL: sent from the file */
	bool hole; /* buf is not read */
	uint8_t md5[16];
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	int err;
	struct blob_req req;
};

/* ---- the end ---- */

void tier_stage_done(struct work *w)
{
	struct upload *u = w->upload;

	w->has_list = tier_list_digest(
		u->blocks, u->blocks_nr, w->row.size_bytes, w->list);
	w->op = BLOB_COMMIT;
	if (u->hash_only)
		tier_settle(w);
	else
		tier_work_prepared(w);
}

void tier_stage_failed(struct work *w, int err)
{
	switch (err) {
	case -EINTR:
		w->state = WORK_WAITING; /* stopping */
		break;
	case -EBADE:
		tier_strays(w);
		break;
	case -EIO:
		tier_line_pause(w->line);
		tier_work_retry(w, "blocks cannot be staged");
		break;
	case -EOPNOTSUPP:
		tier_work_other_way(w);
		break;
	case -EBUSY:
		tier_work_retry(w, w->req.code);
		break;
	case -EPERM:
		if (w->copied)
			tier_work_other_way(w); /* the source's fault, maybe */
		else
			tier_work_refused(w);
		break;
	default:
		tier_upload_not_read(w, err);
		break;
	}
}

static void stage_end(struct work *w)
{
	struct upload *u = w->upload;
	int err = u->err;

	if (err == 0)
		err = tier_upload_still(w, &u->stamp);
	if (err == 0)
		tier_stage_done(w);
	else
		tier_stage_failed(w, err);
}

/* ---- one block ---- */

static void stage_more(struct work *w);

static void block_done(struct block_op *op, int err)
{
	struct work *w = op->w;
	struct upload *u = w->upload;

	tier_line_budget_back(w,
		op->len_bytes < TIER_BLOCK_BYTES_1 ? op->len_bytes
						   : TIER_BLOCK_BYTES_1);
	u->in_flight--;
	if (err < 0 && u->err == 0)
		u->err = err;
	blob_req_fini(&op->req);
	free(op->buf);
	free(op);
	stage_more(w);
}

static void block_put(void *arg)
{
	struct block_op *op = arg;
	struct tier *tier = op->w->tier;

	if (op->req.result == BLOB_OK)
		atomic_fetch_add(&tier->sent_bytes, op->len_bytes);
	tier_block_failed(op->w, &op->req);
	block_done(op, 0);
	tier_answered(tier);
}

static void block_put_done(struct blob_req *req)
{
	struct block_op *op = req->arg;

	base_strand_post(op->w->line->strand, block_put, op);
}

/* Off the strand. */
static void block_send(void *arg)
{
	struct block_op *op = arg;

	op->req.op = BLOB_PUT_BLOCK;
	op->req.name = op->w->row.name;
	op->req.background = true;
	op->req.arg = op;
	op->req.done = block_put_done;
	memcpy(op->req.in.block.id, op->id, sizeof(op->id));
	op->req.in.block.body.mem = op->buf;
	op->req.in.block.body.fd = op->w->upload->fd;
	op->req.in.block.body.offset = op->offset;
	op->req.in.block.body.len_bytes = op->len_bytes;
	op->req.in.block.body.md5 = op->md5;
	tier_submit(op->w->tier, &op->req);
}

/* Off the strand: reads one block, piece by piece, into a hash. */
static void block_read(
	struct block_op *op, enum blob_hash_kind kind, bool read, uint8_t *ret)
{
	struct blob_hash *hash = blob_hash_new(kind);
	int fd = op->w->upload->fd;
	char *piece = op->buf ? op->buf : base_calloc(1, PIECE_BYTES);
	uint64_t at = 0, len;

	while (at < op->len_bytes && op->err == 0) {
		len = op->len_bytes - at;
		if (len > PIECE_BYTES)
			len = PIECE_BYTES;
		if (read)
			op->err =
				tier_read_all(fd, piece, op->offset + at, len);
		blob_hash_add(hash, piece, len);
		at += len;
		if (op->buf != NULL)
			piece += len;
	}
	blob_hash_end(hash, ret);
	if (op->buf == NULL)
		free(piece);
}

static void block_back(void *arg)
{
	struct block_op *op = arg;

	block_done(op, op->err);
}

static void block_sum(void *arg)
{
	struct block_op *op = arg;

	block_read(op, BLOB_HASH_MD5, op->buf == NULL && !op->hole, op->md5);
	if (op->err == 0)
		block_send(op);
	else
		base_strand_post(op->w->line->strand, block_back, op);
}

static void block_hashed(void *arg)
{
	struct block_op *op = arg;
	struct work *w = op->w;
	struct upload *u = w->upload;

	if (op->hole) {
		u->zero_in_flight = false;
		tier_zero_note(w->line, op->id, op->len_bytes);
	}
	if (op->err < 0 || u->err < 0 ||
		tier_block_known(
			u, op->id, op->len_bytes, &u->blocks[op->index])) {
		block_done(op, op->err);
		return;
	}
	tier_block_begin(u, op->id, op->len_bytes);
	base_post(w->tier->env, block_sum, op);
}

/* Off the strand. */
static void block_hash(void *arg)
{
	struct block_op *op = arg;
	uint8_t digest[32];

	block_read(op, BLOB_HASH_SHA256, !op->hole, digest);
	memcpy(op->id, "fb01", 4);
	memcpy(op->id + 4, digest, sizeof(digest));
	base_strand_post(op->w->line->strand, block_hashed, op);
}

/* ---- block after block ---- */

static bool is_hole(int fd, uint64_t offset, uint64_t len)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

	return (data < 0 && errno == ENXIO) ||
		(data >= 0 && (uint64_t)data >= offset + len);
}

static void stage_resume(void *arg)
{
	struct work *w = arg;

	if (w->upload != NULL && w->upload->waiting) {
		w->upload->waiting = false;
		stage_more(w);
	}
}

/* zero: its id, where it is known. */
static void begin_block(
	struct work *w, uint64_t len, bool hole, const struct tier_zero *zero)
{
	struct upload *u = w->upload;
	struct block_op *op = base_calloc(1, sizeof(*op));

	op->w = w;
	op->index = u->blocks_nr;
	op->offset = u->next;
	op->len_bytes = len;
	op->hole = hole;
	if (len <= TIER_BLOCK_BYTES_1)
		op->buf = base_calloc(1, len);
	tier_block_add(u);
	u->next += len;
	u->in_flight++;
	if (zero != NULL) {
		memcpy(op->id, zero->id, sizeof(op->id));
		block_hashed(op);
	} else {
		u->zero_in_flight |= hole;
		base_post(w->tier->env, block_hash, op);
	}
}

/* False: not now. */
static bool stage_next(struct work *w)
{
	struct upload *u = w->upload;
	uint64_t len = tier_block_len(u->next, w->row.size_bytes);
	bool hole = is_hole(u->fd, u->next, len);
	const struct tier_zero *zero =
		hole ? tier_zero_known(w->line, len) : NULL;
	struct blob_block block;

	/* S2 */
	if (zero != NULL && tier_block_known(u, zero->id, len, &block)) {
		*tier_block_add(u) = block;
		u->next += len;
		return true;
	}
	if (hole && zero == NULL && u->zero_in_flight)
		return false;
	if (!tier_line_budget(
		    w, len < TIER_BLOCK_BYTES_1 ? len : TIER_BLOCK_BYTES_1))
		return false;
	begin_block(w, len, hole, zero);
	return true;
}

static void stage_more(struct work *w)
{
	struct upload *u = w->upload;

	while (u->err == 0 && u->next < w->row.size_bytes &&
		u->in_flight < TIER_STAGE_BLOCKS) {
		if (stage_next(w))
			continue;
		if (u->in_flight == 0 && !u->waiting) {
			u->waiting = true;
			base_strand_after(w->line->strand, TIER_STAMP_NS,
				stage_resume, w);
		}
		return;
	}
	if (u->in_flight == 0 && (u->err < 0 || u->next >= w->row.size_bytes))
		stage_end(w);
}

/* ---- the blob in place ---- */

/* S4 */
static void base_moved(struct work *w)
{
	struct upload *u = w->upload;
	struct blob_req *req = &w->req;
	uint8_t list[16];

	w->op = BLOB_COMMIT;
	u->hash_only =
		tier_list_digest(req->blocks.blocks, req->blocks.blocks_nr,
			w->row.size_bytes, list) &&
		!(w->base.has_list &&
			memcmp(list, w->base.list, sizeof(list)) == 0);
	blob_req_fini(req);
	memset(req, 0, sizeof(*req));
	if (u->hash_only)
		stage_more(w);
	else
		tier_settle(w);
}

static void list_answered(struct work *w, int err)
{
	struct blob_req *req = &w->req;

	(void)err;
	switch (req->result) {
	case BLOB_OK:
		if (strcmp(req->props.etag, w->base.etag) != 0) {
			base_moved(w);
			return;
		}
		tier_stage_take_list(w); /* S1 */
		break;
	case BLOB_NOT_FOUND:
		w->op = BLOB_COMMIT;
		tier_settle(w); /* S4 */
		return;
	case BLOB_STOPPED:
		w->state = WORK_WAITING;
		return;
	default:
		break;
	}
	blob_req_fini(req);
	memset(req, 0, sizeof(*req));
	stage_more(w);
}

static void file_open(struct work *w)
{
	int fd = tier_upload_open(w, &w->upload->stamp);

	w->block_err = fd < 0 ? fd : 0;
	w->upload->fd = fd < 0 ? -1 : fd;
}

static void file_opened(struct work *w, int err)
{
	if (err < 0) {
		tier_upload_not_read(w, err);
		return;
	}
	if (!w->has_base || w->base.kind != CACHE_FILE ||
		w->base.size_bytes == 0) {
		stage_more(w);
		return;
	}
	memset(&w->req, 0, sizeof(w->req));
	w->req.op = BLOB_GET_BLOCKS;
	w->req.name = w->row.name;
	tier_work_ask(w, list_answered);
}

void tier_stage_file(struct work *w)
{
	tier_upload_new(w);
	tier_work_block(w, file_open, file_opened);
}
