/*
 * The turn of a row that is prepared: its `sent` row is written and made
 * durable, then its visible request goes out (W1, W3 in work.c).  Many share
 * one transaction and one sync.
 */
#include "tier/line.h"

#include <stdlib.h>

static void send_ready(void *arg);

/* ---- tags ---- */

/* A request that writes a blob anew drops its tags, and a copy takes none
 * along.  Listings tell only how many there are; setting them moves no ETag:
 * so they are asked for as late as can be. */
static bool wants_tags(struct work *w)
{
	const struct cache_remote *keeper = tier_work_keeper(w);

	return !w->has_tags && keeper != NULL && tier_has_tags(keeper) &&
		(w->op == BLOB_PUT || w->op == BLOB_COMMIT ||
			w->op == BLOB_COPY);
}

static void tags_answered(struct work *w, int err)
{
	(void)err;
	switch (w->req.result) {
	case BLOB_OK:
		w->tags = w->req.tags;
		w->req.tags = NULL;
		break;
	case BLOB_STOPPED:
		w->state = WORK_WAITING;
		return;
	case BLOB_UNAVAILABLE:
	case BLOB_NO_CONTAINER:
		tier_line_pause(w->line);
		tier_work_retry(w, "its tags cannot be read");
		return;
	case BLOB_NOT_FOUND:
		break; /* the condition will tell */
	default:
		log_warn("%s: its tags may not be read, and are lost: %s",
			w->row.name, w->req.code);
		break;
	}
	w->has_tags = true;
	tier_work_ready(w);
}

static void ask_tags(struct work *w)
{
	w->state = WORK_PREPARING;
	memset(&w->req, 0, sizeof(w->req));
	w->req.op = BLOB_GET_TAGS;
	w->req.name = tier_work_keeper(w)->name;
	tier_work_ask(w, tags_answered);
}

/* ---- the turn ---- */

void tier_work_ready(struct work *w)
{
	struct tier_line *line = w->line;

	if (wants_tags(w)) {
		ask_tags(w);
		return;
	}
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
		tier_work_ready(w);
	else
		tier_line_tick_soon(w->line);
}

void tier_work_go(struct work *w)
{
	w->may_go = true;
	if (w->state == WORK_PARKED)
		tier_work_ready(w);
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
	if (!same || w->row.kind != CACHE_FILE || w->copied || w->restore ||
		(w->op != BLOB_PUT && w->op != BLOB_COMMIT))
		return same;
	/* The file was opened for writing since: its bytes may move. */
	return cache_inode_get(txn, w->row.ino, &inode) == 0 &&
		(inode.serial != w->row.serial || !inode.written ||
			cache_id_eq(&inode.content, &w->row.content));
}

const struct cache_remote *tier_work_keeper(struct work *w)
{
	if (w->op == BLOB_SET_META || w->restore)
		return &w->base;
	if (w->has_twin && w->twin.foreign_bytes > 0)
		return &w->twin;
	return w->has_base ? &w->base : w->has_twin ? &w->twin : NULL;
}

void tier_work_describe(struct work *w, struct cache_sent *sent)
{
	const struct cache_remote *same = w->op == BLOB_SET_META || w->restore
		? &w->base
		: w->op == BLOB_COPY ? &w->twin
				     : NULL;

	sent->content = w->row.content;
	sent->size_bytes =
		w->row.kind == CACHE_FILE ? w->row.size_bytes : w->body_bytes;
	sent->has_md5 = w->has_md5;
	memcpy(sent->md5, w->md5, sizeof(sent->md5));
	sent->has_list = w->has_list;
	memcpy(sent->list, w->list, sizeof(sent->list));
	if (same == NULL)
		return;
	if (w->op != BLOB_COPY)
		sent->content = same->content;
	sent->size_bytes = same->size_bytes;
	sent->has_md5 = same->has_md5;
	memcpy(sent->md5, same->md5, sizeof(sent->md5));
	sent->has_list = same->has_list;
	memcpy(sent->list, same->list, sizeof(sent->list));
}

/* Its place may be another one by now: epochs are joined at any time. */
static int mark_sent(struct work *w, struct cache_txn *txn)
{
	struct cache_owed row;
	int err = cache_owed_get(txn, w->seq, &row);

	if (err < 0)
		return err;
	row.state = w->row.state = CACHE_OWED_SENT;
	row.serial = w->row.serial;
	err = cache_owed_put(txn, &row);
	cache_owed_fini(&row);
	return err;
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
	tier_work_describe(w, &sent);
	sent.owed_seq = w->restore ? 0 : w->seq;
	sent.sent_ns = base_boot_ns(w->tier->env);
	err = cache_sent_add(txn, &sent);
	/* Its bytes are durable: upload.c, U1. */
	if (err == 0 && w->row.kind == CACHE_FILE &&
		(w->op == BLOB_PUT || w->op == BLOB_COMMIT))
		err = cache_prove(txn, &w->row);
	if (err == 0 && !w->row.attrs_only && !w->restore)
		err = tier_work_unstore(w, txn);
	return err == 0 ? mark_sent(w, txn) : err;
}

/* Metadata and headers: the row's, on what the keeper has of others; or all of
 * the blob in place as it is. */
static int fill_meta(struct work *w)
{
	bool keeps = w->op == BLOB_SET_META || w->restore;
	int err = tier_meta_make(w->tier, w->row.kind,
		w->restore ? &w->base.attrs : &w->row.attrs,
		keeps ? &w->base.content : &w->row.content,
		w->restore ? &w->base.file : &w->file, w->commit,
		w->has_base ? &w->base : NULL, tier_work_keeper(w), &w->meta);

	if (err < 0)
		return err;
	if (w->tags != NULL)
		tier_meta_add_header(&w->meta, "x-ms-tags", w->tags);
	w->req.meta = w->meta.meta;
	w->req.meta_nr = w->meta.meta_nr;
	w->req.headers = w->meta.headers;
	w->req.headers_nr = w->meta.headers_nr;
	return 0;
}

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
	err = fill_meta(w);
	if (err < 0)
		return err;
	if (w->op == BLOB_COPY) {
		req->in.copy.source = w->source;
		req->in.copy.source_etag = w->source_etag;
	} else if (w->upload != NULL) {
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
		tier_work_ask(w, tier_work_answered);
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
		if (err == 0 && still_the_row(w, txn) &&
			!tier_work_takes_last(w, txn)) { /* evicted since? */
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
