/*
 * One row on its way to the store: its turn, its `sent` row, its answer.  Which
 * request it needs is decided in plan.c.
 *
 * Invariants:
 *   W1  a visible request leaves only after its `sent` row is durable, and
 *       that row is written only if the journal still holds the very row (same
 *       seq, content, generation) that was prepared;
 *   W2  the bytes it carries were made durable here before they were read;
 *   W3  every request carries the ETag in `remote`, or asks for a free name;
 *   W4  what an accepted request changed is one transaction.
 */
#include "tier/line.h"

#include <assert.h>
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
	w->upload = NULL;
	w->body = w->source = w->source_etag = NULL;
	w->body_bytes = 0;
	w->has_base = w->has_twin = w->has_landed = false;
	w->has_md5 = w->staged = false;
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
			TIER_REFUSE_WAIT_NS) {
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
	if (aside)
		tier_work_done(w);
	else
		tier_work_again(w, pause);
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

/* ---- the turn, and the `sent` row ---- */

static void send_ready(void *arg);

static void make_ready(struct work *w)
{
	struct tier_line *line = w->line;

	w->state = WORK_READY;
	TAILQ_INSERT_TAIL(&line->ready, w, link);
	if (!line->sending) {
		line->sending = true;
		base_strand_post(line->strand, send_ready, line);
	}
}

void tier_work_prepared(struct work *w)
{
	w->staged = true;
	w->state = WORK_PARKED;
	if (w->may_go)
		make_ready(w);
	else
		tier_line_tick_soon(w->line);
}

void tier_work_go(struct work *w)
{
	w->may_go = true;
	if (w->state == WORK_PARKED)
		make_ready(w);
}

/* W3: the store shows what it showed when the request was prepared. */
static bool still_the_base(struct work *w, struct cache_txn *txn)
{
	struct cache_remote now;
	bool same;

	if (cache_remote_get(txn, w->row.name, &now) < 0)
		return !w->has_base;
	same = w->has_base && strcmp(now.etag, w->base.etag) == 0;
	cache_remote_fini(&now);
	return same;
}

/* W1: the row is still the one that was prepared. */
static bool still_the_row(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode;
	struct cache_owed row;
	bool same;

	if (!still_the_base(w, txn) || cache_owed_get(txn, w->seq, &row) < 0)
		return false;
	same = row.state == CACHE_OWED_UNSENT && row.kind == w->row.kind &&
		strcmp(row.name, w->row.name) == 0 &&
		(row.serial == w->row.serial || row.serial == 0) &&
		row.ino == w->row.ino &&
		cache_id_eq(&row.content, &w->row.content) &&
		tier_attrs_eq(&row.attrs, &w->row.attrs);
	cache_owed_fini(&row);
	if (!same || w->row.kind != CACHE_FILE ||
		(w->op != BLOB_PUT && w->op != BLOB_COMMIT))
		return same;
	/* The file was opened for writing since: its bytes may move. */
	return cache_inode_get(txn, w->row.ino, &inode) == 0 &&
		(inode.serial != w->row.serial || !inode.written ||
			cache_id_eq(&inode.content, &w->row.content));
}

/* Whose notes of others (metadata, headers) the blob will carry: those of the
 * blob in place, or, under a new name, those of the one that it was. */
static const struct cache_remote *keeper(struct work *w)
{
	return w->has_base ? &w->base : w->has_twin ? &w->twin : NULL;
}

/* What the blob will look like. */
static void describe_sent(struct work *w, struct cache_sent *sent)
{
	const struct cache_remote *same = w->op == BLOB_SET_META ? &w->base
		: w->op == BLOB_COPY				 ? &w->twin
								 : NULL;

	sent->content = w->row.content;
	sent->size_bytes =
		w->row.kind == CACHE_FILE ? w->row.size_bytes : w->body_bytes;
	sent->has_md5 = w->has_md5;
	memcpy(sent->md5, w->md5, sizeof(sent->md5));
	if (same == NULL)
		return;
	if (w->op == BLOB_SET_META)
		sent->content = same->content;
	sent->size_bytes = same->size_bytes;
	sent->has_md5 = same->has_md5;
	memcpy(sent->md5, same->md5, sizeof(sent->md5));
}

static int write_sent(struct work *w, struct cache_txn *txn)
{
	struct cache_sent sent = { 0 };
	int err = cache_commit_number(txn, &w->commit);

	if (err < 0)
		return err;
	sent.host = *cache_host(w->tier->cache);
	sent.number = w->commit;
	sent.name = w->row.name;
	sent.op = (uint8_t)w->op;
	if (w->has_base)
		memcpy(sent.base_etag, w->base.etag, sizeof(sent.base_etag));
	describe_sent(w, &sent);
	sent.owed_seq = w->seq;
	sent.sent_ns = base_boot_ns(w->tier->env);
	err = cache_sent_add(txn, &sent);
	if (err == 0) {
		w->row.state = CACHE_OWED_SENT;
		err = cache_owed_put(txn, &w->row);
	}
	return err;
}

static void answered(struct work *w, int err);

/* Fills the visible request. */
static int fill(struct work *w)
{
	struct blob_req *req = &w->req;
	int err;

	memset(req, 0, sizeof(*req));
	req->op = w->op;
	req->name = w->row.name;
	if (w->has_base)
		req->cond.if_match = w->base.etag;
	else
		req->cond.if_none_match_any = true;
	if (w->op == BLOB_DELETE)
		return 0;
	err = tier_meta_make(w->tier, w->row.kind, &w->row.attrs,
		w->op == BLOB_SET_META ? &w->base.content : &w->row.content,
		&w->file, w->commit, w->has_base ? &w->base : NULL, keeper(w),
		&w->meta);
	if (err < 0)
		return err;
	req->meta = w->meta.meta;
	req->meta_nr = w->meta.meta_nr;
	req->headers = w->meta.headers;
	req->headers_nr = w->meta.headers_nr;
	if (w->op == BLOB_COPY) {
		req->in.copy.source = w->source;
		req->in.copy.source_etag = w->source_etag;
	} else if (w->op == BLOB_COMMIT) {
		tier_upload_fill(w);
	} else if (w->op == BLOB_PUT) {
		req->in.put.body.mem = w->body;
		req->in.put.body.fd = -1;
		req->in.put.body.len_bytes = w->body_bytes;
		req->in.put.body.md5 = w->md5;
	}
	return 0;
}

struct batch {
	struct tier_line *line;
	struct work_queue works;
	int err;
};

/* The `sent` rows are durable: out with the requests. */
static void batch_durable(void *arg)
{
	struct batch *batch = arg;
	struct tier_line *line = batch->line;
	struct work *w;

	while ((w = TAILQ_FIRST(&batch->works)) != NULL) {
		TAILQ_REMOVE(&batch->works, w, link);
		if (batch->err < 0 || fill(w) < 0) {
			tier_work_unsend(w, false);
			tier_work_retry(w, "the journal cannot be written");
			continue;
		}
		w->state = WORK_ASKED;
		tier_work_ask(w, answered);
	}
	free(batch);
	line->sending = false;
	if (!TAILQ_EMPTY(&line->ready)) {
		line->sending = true;
		base_strand_post(line->strand, send_ready, line);
	}
}

static void batch_sync(void *arg)
{
	struct batch *batch = arg;

	batch->err = cache_sync_index(batch->line->tier->cache);
	base_strand_post(batch->line->strand, batch_durable, batch);
}

static void send_ready(void *arg)
{
	struct tier_line *line = arg;
	struct batch *batch = base_calloc(1, sizeof(*batch));
	struct work_queue stale = TAILQ_HEAD_INITIALIZER(stale);
	struct cache_txn *txn;
	struct work *w;
	int err = cache_write(line->tier->cache, &txn);

	batch->line = line;
	TAILQ_INIT(&batch->works);
	while ((w = TAILQ_FIRST(&line->ready)) != NULL) {
		TAILQ_REMOVE(&line->ready, w, link);
		if (err == 0 && still_the_row(w, txn)) {
			err = write_sent(w, txn);
			TAILQ_INSERT_TAIL(&batch->works, w, link);
		} else {
			TAILQ_INSERT_TAIL(&stale, w, link);
		}
	}
	if (err == 0)
		err = cache_commit(txn);
	else if (txn != NULL)
		cache_abort(txn);
	while ((w = TAILQ_FIRST(&stale)) != NULL) {
		TAILQ_REMOVE(&stale, w, link);
		tier_work_again(w, 0);
	}
	if (err < 0) {
		while ((w = TAILQ_FIRST(&batch->works)) != NULL) {
			TAILQ_REMOVE(&batch->works, w, link);
			tier_work_again(w, TIER_S);
		}
	}
	base_post(line->tier->env, batch_sync, batch);
}

/* ---- the answer ---- */

/* The `sent` row stays, for what may yet happen. */
static int settle_sent(struct work *w, struct cache_txn *txn)
{
	struct cache_sent sent;
	int err = cache_sent_get(txn, w->commit, &sent);

	if (err < 0)
		return err;
	sent.settled = true;
	err = cache_sent_put(txn, &sent);
	cache_sent_fini(&sent);
	return err;
}

int tier_work_unsend(struct work *w, bool maybe)
{
	struct cache_txn *txn;
	struct cache_owed row;
	int err = cache_write(w->tier->cache, &txn);

	if (err < 0)
		return err;
	err = maybe ? settle_sent(w, txn) : cache_sent_del(txn, w->commit);
	if (err == -ENOENT)
		err = 0; /* fenced */
	if (err == 0 && cache_owed_get(txn, w->seq, &row) == 0) {
		row.state = CACHE_OWED_UNSENT;
		err = cache_owed_put(txn, &row);
		cache_owed_fini(&row);
	}
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	err = cache_commit(txn);
	if (maybe && err == 0)
		tier_fence_soon(w->line);
	return err;
}

/* What the name shows now is not what it showed: inodes whose bytes were only
 * there have no copy in the store any more. */
static int unstore_displaced(struct work *w, struct cache_txn *txn)
{
	struct cache_remote other;
	struct cache_inode inode;
	int err;

	if (w->row.displaced == 0 ||
		cache_inode_get(txn, w->row.displaced, &inode) < 0 ||
		!inode.stored)
		return 0;
	err = cache_remote_holding(txn, &inode.content, NULL, &other);
	if (err == 0) {
		cache_remote_fini(&other);
		return 0;
	}
	if (err != -ENOENT)
		return err;
	inode.stored = false;
	return cache_inode_put(txn, &inode);
}

static int mark_stored(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode;

	if (cache_inode_get(txn, w->row.ino, &inode) < 0)
		return 0;
	if (w->row.kind == CACHE_DIR)
		inode.implicit = false;
	if (cache_id_eq(&inode.content, &w->row.content) ||
		w->row.kind != CACHE_FILE)
		inode.stored = true;
	return cache_inode_put(txn, &inode);
}

/* The remote row after an accepted request. */
static void describe_remote(struct work *w, struct cache_remote *r)
{
	const struct cache_remote *notes = keeper(w);
	struct cache_sent sent = { 0 };

	describe_sent(w, &sent);
	memset(r, 0, sizeof(*r));
	memcpy(r->etag, w->req.props.etag, sizeof(r->etag));
	r->kind = w->row.kind;
	r->size_bytes = sent.size_bytes;
	r->content = sent.content;
	r->has_md5 = sent.has_md5;
	memcpy(r->md5, sent.md5, sizeof(r->md5));
	r->file = w->file;
	r->commit_host = *cache_host(w->tier->cache);
	r->commit_number = w->commit;
	if (w->has_base) {
		tier_parents_next(&w->base, &r->parents, &r->parents_bytes);
		r->slash = w->base.slash && w->op == BLOB_SET_META;
	}
	if (notes != NULL) {
		r->foreign = notes->foreign;
		r->foreign_bytes = notes->foreign_bytes;
	}
}

static int put_remote(struct work *w, struct cache_txn *txn)
{
	struct cache_remote r;
	int err;

	if (w->has_landed)
		r = w->landed;
	else
		describe_remote(w, &r);
	r.name = w->row.name;
	r.attrs = w->row.attrs;
	r.known_seq = tier_tick(w->tier);
	err = cache_remote_put(txn, &r);
	if (!w->has_landed)
		free(r.parents);
	return err;
}

/* Of this request nothing is to be feared any more, nor of earlier ones that
 * asked for an ETag. */
static int fence(struct work *w, struct cache_txn *txn)
{
	int err = cache_sent_fence(txn, w->row.name);

	if (err == 0)
		err = cache_sent_del(txn, w->commit);
	return err == -ENOENT ? 0 : err;
}

static int apply(struct work *w, struct cache_txn *txn)
{
	int err;

	if (w->op == BLOB_DELETE)
		err = cache_remote_del(txn, w->row.name);
	else
		err = put_remote(w, txn);
	if (err == -ENOENT)
		err = 0;
	if (err == 0 && w->op != BLOB_DELETE)
		err = mark_stored(w, txn);
	if (err == 0)
		err = unstore_displaced(w, txn);
	if (err == 0)
		err = fence(w, txn);
	if (err == 0)
		err = cache_owed_del(txn, w->seq);
	return err == -ENOENT ? 0 : err;
}

/* All answers that have come, in one transaction (W4 holds for each). */
static void take_answers(void *arg)
{
	struct tier_line *line = arg;
	struct work *w;
	struct cache_txn *txn;
	int err = cache_write(line->tier->cache, &txn);

	line->answering = false;
	if (err == 0) {
		TAILQ_FOREACH(w, &line->answered, link)
		{
			if (err == 0)
				err = apply(w, txn);
		}
		if (err < 0)
			cache_abort(txn);
		else
			err = cache_commit(txn);
	}
	cache_space_kick(line->tier->cache); /* it may be evicted now */
	if (err < 0)
		log_error("index: what the store answered cannot be written: "
			  "%s",
			strerror(-err));
	while ((w = TAILQ_FIRST(&line->answered)) != NULL) {
		TAILQ_REMOVE(&line->answered, w, link);
		if (err < 0)
			tier_work_again(w, TIER_S); /* settled by HEAD */
		else
			tier_work_done(w);
	}
}

void tier_work_accept(struct work *w)
{
	struct tier_line *line = w->line;

	line->pause_ns = 0;
	if (w->op == BLOB_PUT) /* blocks were counted one by one */
		atomic_fetch_add(&w->tier->sent_bytes, w->body_bytes);
	TAILQ_INSERT_TAIL(&line->answered, w, link);
	if (!line->answering) {
		line->answering = true;
		base_strand_post(line->strand, take_answers, line);
	}
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

static void other_way(struct work *w)
{
	tier_work_unsend(w, false);
	tier_work_other_way(w);
}

/* A copy has two conditions, and not every service says which one failed. */
static void condition_failed(struct work *w)
{
	if (w->op != BLOB_COPY || strncmp(w->req.code, "Target", 6) == 0 ||
		strcmp(w->req.code, "BlobAlreadyExists") == 0) {
		tier_settle(w);
		return;
	}
	tier_work_unsend(w, false);
	tier_source_moved(w);
}

static void answered(struct work *w, int err)
{
	(void)err;
	w->maybe = w->req.result == BLOB_AMBIGUOUS || w->req.uncertain;
	switch (w->req.result) {
	case BLOB_OK:
		tier_work_accept(w);
		break;
	case BLOB_NOT_FOUND:
		if (w->op == BLOB_COPY)
			condition_failed(w);
		else
			tier_settle(w);
		break;
	case BLOB_CONDITION:
		condition_failed(w);
		break;
	case BLOB_AMBIGUOUS:
		tier_settle(w);
		break;
	case BLOB_BAD_BLOCKS:
	case BLOB_UNSUPPORTED:
	case BLOB_CORRUPT:
		other_way(w);
		break;
	case BLOB_STOPPED:
		w->state = WORK_WAITING; /* settled by the next mount */
		break;
	case BLOB_UNAVAILABLE:
	case BLOB_DENIED:
	case BLOB_NO_CONTAINER:
		tier_work_unsend(w, false);
		tier_line_pause(w->line);
		tier_work_retry(w, blob_result_name(w->req.result));
		break;
	case BLOB_BUSY:
		tier_work_unsend(w, false);
		tier_work_retry(w, w->req.code);
		break;
	default:
		tier_work_unsend(w, false);
		tier_work_refused(w);
		break;
	}
}
