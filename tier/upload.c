/*
 * A file's bytes on their way out (WRITEBACK section 4): made durable here,
 * then read.  One up to one block is read whole and goes as one Put Blob; a
 * larger one is staged (stage.c).
 *
 * Invariants, of both:
 *   U1  bytes are durable here before they are read (one shared sync of the
 *       data directories where many files wait);
 *   U2  the file's size, mtime and ctime are the same before and after
 *       reading, and ctime is not of the last 20 ms before: otherwise it is
 *       read again.
 */
#include "tier/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARED_SYNC_MIN 8 /* files for which one syncfs is cheaper */

/* ---- reading ---- */

static bool same_stamp(const struct cache_stamp *a, const struct cache_stamp *b)
{
	return a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
		a->ctime_ns == b->ctime_ns;
}

static int stat_file(struct work *w, struct cache_stamp *ret)
{
	uint64_t allocated;

	return cache_data_stat(
		w->tier->cache, w->row.ino, w->row.serial, ret, &allocated);
}

/* U2: stamps tell two states apart only if a change of now would give another
 * one.  (Every change moves ctime, and nobody can set it; it lies ahead where
 * somebody has put the clock back.) */
static bool is_settled(struct work *w, const struct cache_stamp *stamp)
{
	int64_t age = base_wall_ns(w->tier->env) - stamp->ctime_ns;

	return age > TIER_STAMP_NS || age < -TIER_STAMP_NS;
}

int tier_upload_still(struct work *w, const struct cache_stamp *before)
{
	struct cache_stamp after;
	int err = stat_file(w, &after);

	return err == 0 && !same_stamp(before, &after) ? -EAGAIN : err;
}

int tier_upload_open(struct work *w, struct cache_stamp *ret_stamp)
{
	int fd = cache_data_open(
		w->tier->cache, w->row.ino, w->row.serial, O_RDONLY);
	int err;

	if (fd < 0)
		return fd;
	err = stat_file(w, ret_stamp);
	if (err == 0 &&
		(ret_stamp->size_bytes != w->row.size_bytes ||
			!is_settled(w, ret_stamp)))
		err = -EAGAIN;
	if (err < 0)
		close(fd);
	return err < 0 ? err : fd;
}

int tier_read_all(int fd, char *buf, uint64_t offset, uint64_t len)
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

void tier_upload_not_read(struct work *w, int err)
{
	if (err != -EAGAIN)
		tier_work_unreadable(w, err);
	else if (++w->rereads < TIER_REREAD_TRIES)
		tier_work_again(w, TIER_STAMP_NS + TIER_STAMP_NS / 2);
	else
		tier_work_retry(w,
			"its data file changes, or is not as long "
			"as it was when it was closed");
}

/* ---- small files ---- */

static void small_read(struct work *w)
{
	struct cache_stamp before;
	int fd = tier_upload_open(w, &before), err = fd < 0 ? fd : 0;

	if (err == 0) {
		w->body = base_malloc(w->row.size_bytes);
		w->body_bytes = w->row.size_bytes;
		err = tier_read_all(fd, w->body, 0, w->body_bytes);
	}
	if (err == 0)
		err = tier_upload_still(w, &before);
	if (err == 0)
		blob_md5(w->body, w->body_bytes, w->md5);
	if (fd >= 0)
		close(fd);
	w->block_err = err;
}

void tier_upload_is_read(struct work *w, int err)
{
	if (err < 0) {
		tier_upload_not_read(w, err);
		return;
	}
	w->has_md5 = true;
	w->op = BLOB_PUT;
	tier_work_prepared(w);
}

/* ---- making data durable (U1) ---- */

static void begin_read(struct work *w)
{
	if (w->row.size_bytes > TIER_BLOCK_BYTES_1)
		tier_stage_file(w);
	else if (!tier_line_budget(w, w->row.size_bytes))
		tier_work_again(w, TIER_STAMP_NS);
	else
		tier_work_block(w, small_read, tier_upload_is_read);
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
		else if (w->block_err < 0)
			tier_work_unreadable(w, w->block_err);
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
		TAILQ_FOREACH(w, &batch->works, link)
		w->block_err = 0;
	} else {
		TAILQ_FOREACH(w, &batch->works, link)
		{
			w->block_err = cache_data_sync(
				tier->cache, w->row.ino, w->row.serial);
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
