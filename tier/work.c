/*
 * One row on its way to the store: its life, its pauses, its blocking steps.
 * Which request it needs is decided in plan.c, its bytes are prepared in
 * upload.c and stage.c, it is sent by send.c and answered by answer.c.
 *
 * Invariants:
 *   W1  a visible request leaves only after its `sent` row is durable, and
 *       that row is written only if the journal still holds the very row (same
 *       seq, content, generation) that was prepared (send.c);
 *   W2  the bytes it carries were made durable here before they were read
 *       (upload.c);
 *   W3  every request carries the ETag in `remote`, or asks for a free name
 *       (send.c);
 *   W4  what an accepted request changed is one transaction (answer.c).
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

/* ---- life of a work ---- */

struct work *tier_work_new(struct tier_line *line, const struct cache_owed *row)
{
	struct work *w = base_calloc(1, sizeof(*w));

	w->tier = line->tier;
	w->line = line;
	w->seq = row->seq;
	w->state = WORK_LOADING;
	HASH_ADD(hh, line->works, seq, sizeof(w->seq), w);
	line->works_nr++;
	return w;
}

/* Back to what it was before it was loaded. */
static void reset(struct work *w)
{
	cache_owed_fini(&w->row);
	cache_remote_fini(&w->base);
	cache_remote_fini(&w->twin);
	cache_remote_fini(&w->landed);
	cache_sent_fini(&w->sent);
	blob_req_fini(&w->req);
	tier_meta_fini(&w->meta);
	tier_upload_free(w->upload);
	free(w->body);
	free(w->source);
	free(w->source_etag);
	free(w->tags);
	w->upload = NULL;
	w->tags = NULL;
	w->copied = w->restore = w->has_tags = false;
	w->body = w->source = w->source_etag = NULL;
	w->body_bytes = 0;
	w->has_base = w->has_twin = w->has_landed = false;
	w->has_md5 = w->has_list = w->staged = false;
	memset(&w->row, 0, sizeof(w->row));
	memset(&w->base, 0, sizeof(w->base));
	memset(&w->twin, 0, sizeof(w->twin));
	memset(&w->landed, 0, sizeof(w->landed));
	memset(&w->sent, 0, sizeof(w->sent));
	memset(&w->req, 0, sizeof(w->req));
	tier_line_budget_back(w, w->budget_bytes);
}

void tier_work_done(struct work *w)
{
	struct tier_line *line = w->line;

	w->state = WORK_DONE;
	reset(w);
	HASH_DEL(line->works, w);
	line->works_nr--;
	free(w);
	tier_line_tick_soon(line);
}

static void load_again(void *arg)
{
	struct work *w = arg;

	if (w->state == WORK_WAITING)
		tier_work_load(w);
}

void tier_work_again(struct work *w, int64_t delay_ns)
{
	w->state = WORK_WAITING;
	reset(w);
	base_strand_after(w->line->strand, delay_ns, load_again, w);
}

/* Notes in the row why it waits; the number of tries makes the pause. */
static int note_try(
	struct work *w, const char *why, bool refused, struct cache_owed *ret)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_owed_get(txn, w->seq, ret);
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	ret->tries++;
	free(ret->error);
	ret->error = base_strdup(why);
	if (refused && ret->refused_ns == 0)
		ret->refused_ns = base_boot_ns(w->tier->env);
	if (refused &&
		base_boot_ns(w->tier->env) - ret->refused_ns >
			w->tier->cfg.refuse_wait_ns) {
		ret->state = CACHE_OWED_ASIDE;
		log_error("%s: set aside, the store refuses it: %s", ret->name,
			why);
	}
	err = cache_owed_put(txn, ret);
	if (err < 0) {
		cache_owed_fini(ret);
		cache_abort(txn);
		return err;
	}
	return cache_commit(txn);
}

static int64_t pause_of(uint32_t tries)
{
	int64_t ns = TIER_RETRY_MIN_NS;

	while (tries-- > 1 && ns < TIER_RETRY_MAX_NS)
		ns *= 2;
	return ns < TIER_RETRY_MAX_NS ? ns : TIER_RETRY_MAX_NS;
}

void tier_work_retry(struct work *w, const char *why)
{
	struct cache_owed row;
	int64_t pause = TIER_RETRY_MIN_NS;

	if (note_try(w, why, false, &row) == 0) {
		pause = pause_of(row.tries);
		cache_owed_fini(&row);
	}
	tier_work_again(w, pause);
	tier_line_tick_soon(w->line); /* status says what holds it */
}

static int set_aside(struct work *w, const char *why)
{
	struct cache_txn *txn;
	struct cache_owed row;
	int err = cache_write(w->tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_owed_get(txn, w->seq, &row);
	if (err == 0) {
		row.state = CACHE_OWED_ASIDE;
		row.tries++;
		row.refused_ns = base_boot_ns(w->tier->env);
		free(row.error);
		row.error = base_strdup(why);
		err = cache_owed_put(txn, &row);
		cache_owed_fini(&row);
	}
	err = cache_end(txn, err);
	return err == -ENOENT ? 0 : err;
}

/* Is the file that was not there no more the one that the row names?  Its state
 * has been kept in another meanwhile, or the name holds a newer one. */
static bool has_moved(struct work *w)
{
	struct cache_inode inode;
	struct cache_owed row;
	struct cache_txn *txn;
	uint64_t serial = 0;
	int err;

	if (cache_read(w->tier->cache, &txn) < 0)
		return true;
	err = cache_owed_get(txn, w->seq, &row);
	if (err == 0) {
		serial = row.serial;
		if (serial == 0 && cache_inode_get(txn, row.ino, &inode) == 0)
			serial = inode.serial;
		cache_owed_fini(&row);
	}
	cache_abort(txn);
	return serial != w->row.serial;
}

void tier_work_unreadable(struct work *w, int err)
{
	struct base_str why = BASE_STR_INIT;

	if (err == -ENOENT && has_moved(w)) {
		tier_work_again(w, TIER_STAMP_NS);
		return;
	}
	base_str_printf(&why, "the cache's disk: %s", strerror(-err));
	/* A disk may have one bad moment. */
	if (err != -ENOENT &&
		(err != -EIO || w->row.tries < TIER_UNREADABLE_TRIES)) {
		tier_work_retry(w, why.data);
	} else if (set_aside(w, why.data) < 0) {
		tier_work_again(w, TIER_S);
	} else {
		log_error("%s: set aside, what was written to it cannot be "
			  "read here any more: %s",
			w->row.name, why.data);
		tier_work_done(w);
	}
	base_str_fini(&why);
}

void tier_work_refused(struct work *w)
{
	struct base_str why = BASE_STR_INIT;
	struct cache_owed row;
	int64_t pause = TIER_RETRY_MIN_NS;
	bool aside = false;

	base_str_printf(
		&why, "%s %s", blob_result_name(w->req.result), w->req.code);
	if (w->row.tries == 0)
		log_warn("%s: the store refuses it: %s", w->row.name, why.data);
	if (note_try(w, why.data, true, &row) == 0) {
		aside = row.state == CACHE_OWED_ASIDE;
		pause = pause_of(row.tries);
		cache_owed_fini(&row);
	}
	base_str_fini(&why);
	if (aside) {
		tier_work_done(w);
		return;
	}
	tier_work_again(w, pause);
	tier_line_tick_soon(w->line);
}

/* The blocks are gone, or it cannot be copied. */
void tier_work_other_way(struct work *w)
{
	if (++w->restages > TIER_RESTAGE_MAX)
		tier_work_refused(w);
	else
		tier_work_again(
			w, w->restages == 1 ? 0 : pause_of(w->restages));
}

/* ---- blocking steps and requests ---- */

static void block_back(void *arg)
{
	struct work *w = arg;

	w->back(w, w->block_err);
}

static void block_run(void *arg)
{
	struct work *w = arg;

	w->block(w);
	base_strand_post(w->line->strand, block_back, w);
}

void tier_work_block(struct work *w, void (*block)(struct work *),
	void (*back)(struct work *, int err))
{
	w->block = block;
	w->back = back;
	w->block_err = 0;
	base_post(w->tier->env, block_run, w);
}

static void proven(void *arg, int err)
{
	struct work *w = arg;

	w->block_err = err;
	base_strand_post(w->line->strand, block_back, w);
}

void tier_work_prove(
	struct work *w, const char *name, void (*back)(struct work *, int err))
{
	if (w->req.props.size_bytes <= TIER_BLOCK_BYTES_1) {
		back(w, 0);
		return;
	}
	w->back = back;
	tier_proof_ask(w->tier, name, &w->req.props, proven, w);
}

static void asked_back(void *arg)
{
	struct work *w = arg;
	struct tier *tier = w->tier;

	w->back(w, w->req.err);
	tier_answered(tier);
}

static void asked_done(struct blob_req *req)
{
	struct work *w = req->arg;

	base_strand_post(w->line->strand, asked_back, w);
}

void tier_work_ask(struct work *w, void (*back)(struct work *, int err))
{
	w->back = back;
	w->req.arg = w;
	w->req.done = asked_done;
	w->req.background = true;
	tier_tick(w->tier);
	tier_submit(w->tier, &w->req);
}
