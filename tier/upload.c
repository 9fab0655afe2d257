/*
 * A file's bytes on their way out (WRITEBACK section 4).
 *
 * A file up to one block is read whole and goes as one Put Blob.  A larger one
 * is staged: each block is named by its hash, so what the committed blob or
 * this upload has already is not sent again; the commit names them all.
 *
 * Invariants:
 *   U1  bytes are durable here before they are read (one shared sync of the
 *       data directories where many files wait);
 *   U2  the file's size, mtime and ctime are the same before and after
 *       reading, and older than 20 ms before: otherwise it is read again;
 *   U3  a kept block is named `Committed` only if the block list's ETag is the
 *       one in `remote` and its size is right;
 *   U4  the size of a block is a function of its offset alone.
 *
 * Threads: struct upload belongs to the strand; a block's hashing runs off it
 * and touches only its struct block_op.
 */
#include "tier/line.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARED_SYNC_MIN 8 /* files for which one syncfs is cheaper */
#define PIECE_BYTES (1 * TIER_MIB)

struct block_id {
	UT_hash_handle hh;
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	uint64_t size_bytes;
};

struct upload {
	int fd;
	struct cache_stamp stamp;
	struct blob_block *blocks;
	size_t blocks_nr, blocks_cap;
	uint64_t next; /* offset of the first block not begun */
	unsigned in_flight;
	bool waiting; /* for memory */
	int err;
	struct block_id *committed; /* of the blob in place (U3) */
	struct block_id *staged;    /* by this upload */
	uint8_t zero_id[BLOB_BLOCK_ID_BYTES];
	uint64_t zero_bytes; /* of the block that zero_id names, 0: none */
};

struct block_op {
	struct work *w;
	size_t index;
	uint64_t offset, len_bytes;
	char *buf; /* NULL: sent from the file */
	uint8_t md5[16];
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	int err;
	struct blob_req req;
};

/* U4 */
static uint64_t block_len(uint64_t offset)
{
	const uint64_t run1 = TIER_BLOCK_RUN * TIER_BLOCK_BYTES_1;
	const uint64_t run2 = run1 + TIER_BLOCK_RUN * TIER_BLOCK_BYTES_2;
	const uint64_t run3 = run2 + TIER_BLOCK_RUN * TIER_BLOCK_BYTES_3;

	if (offset < run1)
		return TIER_BLOCK_BYTES_1;
	if (offset < run2)
		return TIER_BLOCK_BYTES_2;
	if (offset < run3)
		return TIER_BLOCK_BYTES_3;
	return TIER_BLOCK_BYTES_4;
}

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
	free(u);
}

static bool same_stamp(const struct cache_stamp *a, const struct cache_stamp *b)
{
	return a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
		a->ctime_ns == b->ctime_ns;
}

static int stat_now(struct work *w, struct cache_stamp *ret)
{
	uint64_t allocated;

	return cache_data_stat(
		w->tier->cache, w->row.ino, w->row.serial, ret, &allocated);
}

/* U2: stamps tell two states apart only if they are old enough. */
static bool is_settled(struct work *w, const struct cache_stamp *stamp)
{
	int64_t now = base_wall_ns(w->tier->env);

	return now - stamp->mtime_ns > TIER_STAMP_NS &&
		now - stamp->ctime_ns > TIER_STAMP_NS;
}

static int read_all(int fd, char *buf, uint64_t offset, uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EAGAIN; /* shorter than it was */
		buf += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* What to do when the bytes could not be had. */
static void not_read(struct work *w, int err)
{
	if (err == -EAGAIN)
		tier_work_again(w, TIER_STAMP_NS + TIER_STAMP_NS / 2);
	else
		tier_work_retry(w, strerror(-err));
}

/* ---- small files ---- */

static void small_read(struct work *w)
{
	struct cache_stamp before, after;
	int fd, err;

	fd = cache_data_open(
		w->tier->cache, w->row.ino, w->row.serial, O_RDONLY);
	err = fd < 0 ? fd : stat_now(w, &before);
	if (err == 0 &&
		(before.size_bytes != w->row.size_bytes ||
			!is_settled(w, &before)))
		err = -EAGAIN;
	if (err == 0) {
		w->body = base_malloc(w->row.size_bytes);
		w->body_bytes = w->row.size_bytes;
		err = read_all(fd, w->body, 0, w->body_bytes);
	}
	if (err == 0)
		err = stat_now(w, &after);
	if (err == 0 && !same_stamp(&before, &after))
		err = -EAGAIN;
	if (err == 0)
		blob_md5(w->body, w->body_bytes, w->md5);
	if (fd >= 0)
		close(fd);
	w->block_err = err;
}

static void small_is_read(struct work *w, int err)
{
	if (err < 0) {
		not_read(w, err);
		return;
	}
	w->has_md5 = true;
	w->op = BLOB_PUT;
	tier_work_prepared(w);
}

/* ---- large files ---- */

static void stage_more(struct work *w);

/* All blocks are there, or it failed. */
static void stage_end(struct work *w)
{
	struct upload *u = w->upload;
	struct cache_stamp after;
	int err = u->err;

	if (err == 0)
		err = stat_now(w, &after);
	if (err == 0 && !same_stamp(&u->stamp, &after))
		err = -EAGAIN;
	if (err == 0) {
		w->op = BLOB_COMMIT;
		tier_work_prepared(w);
	} else if (err == -EINTR) {
		w->state = WORK_WAITING; /* stopping */
	} else if (err == -EIO) {
		tier_line_pause(w->line);
		tier_work_retry(w, "blocks cannot be staged");
	} else {
		not_read(w, err);
	}
}

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

	if (op->req.result == BLOB_OK) {
		add_id(&op->w->upload->staged, op->id, op->len_bytes);
		atomic_fetch_add(&tier->sent_bytes, op->len_bytes);
	}
	block_done(op,
		op->req.result == BLOB_OK		 ? 0
			: op->req.result == BLOB_STOPPED ? -EINTR
			: op->req.result == BLOB_CORRUPT ? -EAGAIN
							 : -EIO);
	tier_answered(tier);
}

static void block_put_done(struct blob_req *req)
{
	struct block_op *op = req->arg;

	base_strand_post(op->w->line->strand, block_put, op);
}

static void block_hashed(void *arg)
{
	struct block_op *op = arg;
	struct upload *u = op->w->upload;
	struct blob_block *block = &u->blocks[op->index];
	struct block_id *known;

	if (op->err < 0 || u->err < 0) {
		block_done(op, op->err);
		return;
	}
	memcpy(block->id, op->id, sizeof(block->id));
	known = find_id(u->committed, op->id);
	if (known != NULL && known->size_bytes == op->len_bytes) {
		block->committed = true;
		block_done(op, 0);
		return;
	}
	if (find_id(u->staged, op->id) != NULL) {
		block_done(op, 0);
		return;
	}
	op->req.op = BLOB_PUT_BLOCK;
	op->req.name = op->w->row.name;
	op->req.background = true;
	op->req.arg = op;
	op->req.done = block_put_done;
	memcpy(op->req.in.block.id, op->id, sizeof(op->id));
	op->req.in.block.body.mem = op->buf;
	op->req.in.block.body.fd = u->fd;
	op->req.in.block.body.offset = op->offset;
	op->req.in.block.body.len_bytes = op->len_bytes;
	op->req.in.block.body.md5 = op->md5;
	tier_submit(op->w->tier, &op->req);
}

static void make_id(uint8_t id[BLOB_BLOCK_ID_BYTES], const uint8_t sha256[32])
{
	memcpy(id, "fb01", 4);
	memcpy(id + 4, sha256, 32);
}

/* Off the strand: reads and hashes one block. */
static void block_hash(void *arg)
{
	struct block_op *op = arg;
	struct blob_hash *sha = blob_hash_new(BLOB_HASH_SHA256);
	struct blob_hash *md5 = blob_hash_new(BLOB_HASH_MD5);
	int fd = op->w->upload->fd;
	uint8_t digest[32];
	char *piece = op->buf ? op->buf : base_malloc(PIECE_BYTES);
	uint64_t at = 0, len;

	while (at < op->len_bytes && op->err == 0) {
		len = op->len_bytes - at;
		if (len > PIECE_BYTES)
			len = PIECE_BYTES;
		op->err = read_all(fd, piece, op->offset + at, len);
		blob_hash_add(sha, piece, len);
		blob_hash_add(md5, piece, len);
		at += len;
		if (op->buf != NULL)
			piece += len;
	}
	blob_hash_end(sha, digest);
	make_id(op->id, digest);
	blob_hash_end(md5, op->md5);
	if (op->buf == NULL)
		free(piece);
	base_strand_post(op->w->line->strand, block_hashed, op);
}

static bool is_hole(int fd, uint64_t offset, uint64_t len)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

	return (data < 0 && errno == ENXIO) ||
		(data >= 0 && (uint64_t)data >= offset + len);
}

/* A block of nothing: named without being read, if its like is there. */
static bool skip_hole(
	struct work *w, struct blob_block *block, uint64_t offset, uint64_t len)
{
	struct upload *u = w->upload;
	struct block_id *known;

	if (!is_hole(u->fd, offset, len))
		return false;
	if (u->zero_bytes != len) {
		struct blob_hash *sha = blob_hash_new(BLOB_HASH_SHA256);
		char *zero = base_calloc(1, PIECE_BYTES);
		uint8_t digest[32];

		for (uint64_t at = 0; at < len; at += PIECE_BYTES)
			blob_hash_add(sha, zero,
				len - at < PIECE_BYTES ? len - at
						       : PIECE_BYTES);
		blob_hash_end(sha, digest);
		free(zero);
		make_id(u->zero_id, digest);
		u->zero_bytes = len;
	}
	known = find_id(u->committed, u->zero_id);
	if (known != NULL && known->size_bytes == len)
		block->committed = true;
	else if (find_id(u->staged, u->zero_id) == NULL)
		return false;
	memcpy(block->id, u->zero_id, sizeof(block->id));
	return true;
}

static void stage_resume(void *arg)
{
	struct work *w = arg;

	if (w->upload != NULL && w->upload->waiting) {
		w->upload->waiting = false;
		stage_more(w);
	}
}

static bool stage_next(struct work *w)
{
	struct upload *u = w->upload;
	uint64_t len = block_len(u->next), memory;
	struct blob_block *block;
	struct block_op *op;

	if (len > w->row.size_bytes - u->next)
		len = w->row.size_bytes - u->next;
	memory = len < TIER_BLOCK_BYTES_1 ? len : TIER_BLOCK_BYTES_1;
	if (u->blocks_nr == u->blocks_cap) {
		u->blocks_cap = u->blocks_cap ? u->blocks_cap * 2 : 64;
		u->blocks = base_realloc(
			u->blocks, u->blocks_cap * sizeof(*u->blocks));
	}
	block = &u->blocks[u->blocks_nr];
	memset(block, 0, sizeof(*block));
	if (skip_hole(w, block, u->next, len)) {
		u->blocks_nr++;
		u->next += len;
		return true;
	}
	if (!tier_line_budget(w, memory))
		return false;
	op = base_calloc(1, sizeof(*op));
	op->w = w;
	op->index = u->blocks_nr++;
	op->offset = u->next;
	op->len_bytes = len;
	if (len <= TIER_BLOCK_BYTES_1)
		op->buf = base_malloc(len);
	u->next += len;
	u->in_flight++;
	base_post(w->tier->env, block_hash, op);
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

/* U3 */
static void list_answered(struct work *w, int err)
{
	struct upload *u = w->upload;
	struct blob_req *req = &w->req;

	if (req->result == BLOB_STOPPED) {
		w->state = WORK_WAITING;
		return;
	}
	if (err == 0 && strcmp(req->props.etag, w->base.etag) == 0) {
		for (size_t i = 0; i < req->blocks.blocks_nr; i++) {
			const struct blob_block *b = &req->blocks.blocks[i];

			if (b->ours)
				add_id(&u->committed, b->id, b->size_bytes);
		}
	}
	blob_req_fini(req);
	memset(req, 0, sizeof(*req));
	stage_more(w);
}

static void large_open(struct work *w)
{
	struct upload *u = w->upload;
	int err;

	u->fd = cache_data_open(
		w->tier->cache, w->row.ino, w->row.serial, O_RDONLY);
	err = u->fd < 0 ? u->fd : stat_now(w, &u->stamp);
	if (err == 0 &&
		(u->stamp.size_bytes != w->row.size_bytes ||
			!is_settled(w, &u->stamp)))
		err = -EAGAIN;
	w->block_err = err;
}

static void large_opened(struct work *w, int err)
{
	if (err < 0) {
		not_read(w, err);
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

void tier_upload_fill(struct work *w)
{
	w->req.in.commit.blocks = w->upload->blocks;
	w->req.in.commit.blocks_nr = w->upload->blocks_nr;
}

/* ---- making data durable (U1) ---- */

static void begin_read(struct work *w)
{
	if (w->row.size_bytes <= TIER_BLOCK_BYTES_1) {
		if (!tier_line_budget(w, w->row.size_bytes))
			tier_work_again(w, TIER_STAMP_NS);
		else
			tier_work_block(w, small_read, small_is_read);
		return;
	}
	w->upload = base_calloc(1, sizeof(*w->upload));
	w->upload->fd = -1;
	tier_work_block(w, large_open, large_opened);
}

struct sync_batch {
	struct tier_line *line;
	struct work_queue works;
	unsigned nr;
	int err;
};

static void sync_begin(struct tier_line *line);

static void synced(void *arg)
{
	struct sync_batch *batch = arg;
	struct tier_line *line = batch->line;
	struct work *w;

	while ((w = TAILQ_FIRST(&batch->works)) != NULL) {
		TAILQ_REMOVE(&batch->works, w, link);
		if (batch->err < 0)
			tier_work_retry(w, strerror(-batch->err));
		else
			begin_read(w);
	}
	free(batch);
	line->syncing = false;
	if (!TAILQ_EMPTY(&line->unsynced))
		sync_begin(line);
}

static void sync_run(void *arg)
{
	struct sync_batch *batch = arg;
	struct tier *tier = batch->line->tier;
	struct work *w;

	if (batch->nr >= SHARED_SYNC_MIN) {
		batch->err = cache_data_sync_all(tier->cache);
	} else {
		TAILQ_FOREACH(w, &batch->works, link)
		{
			int err = cache_data_sync(
				tier->cache, w->row.ino, w->row.serial);

			if (err < 0 && err != -ENOENT)
				batch->err = err;
		}
	}
	base_strand_post(batch->line->strand, synced, batch);
}

static void sync_post(void *arg)
{
	struct tier_line *line = arg;
	struct sync_batch *batch = base_calloc(1, sizeof(*batch));
	struct work *w;

	batch->line = line;
	TAILQ_INIT(&batch->works);
	while ((w = TAILQ_FIRST(&line->unsynced)) != NULL) {
		TAILQ_REMOVE(&line->unsynced, w, link);
		TAILQ_INSERT_TAIL(&batch->works, w, link);
		batch->nr++;
	}
	base_post(line->tier->env, sync_run, batch);
}

static void sync_begin(struct tier_line *line)
{
	line->syncing = true;
	base_strand_post(line->strand, sync_post, line);
}

void tier_upload_start(struct work *w)
{
	w->state = WORK_PREPARING;
	TAILQ_INSERT_TAIL(&w->line->unsynced, w, link);
	if (!w->line->syncing)
		sync_begin(w->line);
}
