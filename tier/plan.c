/*
 * What would make a name right: the row and what the store holds are compared
 * (rules R1 to R4 of WRITEBACK section 3), on the strand.
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

/* Its last writer is not gone: it was not closed after all.  It leaves its
 * place, or, where the name holds something newer, the line. */
static int leave_place(struct work *w, struct cache_txn *txn)
{
	struct tier_order *o = &w->tier->order;
	struct cache_owed row, newer;
	uint64_t seq;
	int err = cache_owed_get(txn, w->seq, &row);

	if (err < 0)
		return err == -ENOENT ? 0 : err;
	err = cache_owed_next_unsent(txn, row.name, row.seq, &newer);
	if (err == 0) {
		cache_owed_fini(&newer);
		err = cache_owed_fall_out(txn, row.seq);
	} else if (err == -ENOENT) {
		row.epoch = row.run = ++o->epoch;
		row.group = false;
		row.entered_ns = base_boot_ns(w->tier->env);
		o->after_staged = true; /* an epoch of its own */
		err = cache_owed_put(txn, &row);
		if (err == 0)
			err = cache_owed_renumber(txn, row.seq, &seq);
	}
	cache_owed_fini(&row);
	return err;
}

/* Does the data file look as it did when the journal last heard of it, and
 * has for long?  By its ctime, which nobody can set; where it lies ahead
 * somebody has put the clock back, and nothing has changed since. */
static bool is_quiet(struct work *w)
{
	struct tier *t = w->tier;
	struct cache_inode inode;
	struct cache_stamp now;
	struct cache_txn *txn;
	uint64_t allocated;
	int64_t age_ns;
	int err = cache_read(t->cache, &txn);

	if (err < 0)
		return false;
	err = cache_inode_get(txn, w->row.ino, &inode);
	cache_abort(txn);
	if (err == 0)
		err = cache_data_stat(
			t->cache, w->row.ino, w->row.serial, &now, &allocated);
	if (err < 0 || now.size_bytes != inode.stamp.size_bytes ||
		now.mtime_ns != inode.stamp.mtime_ns ||
		now.ctime_ns != inode.stamp.ctime_ns)
		return false;
	age_ns = base_wall_ns(t->env) - now.ctime_ns;
	return age_ns > t->cfg.writeback_open_ns || age_ns < -TIER_STAMP_NS;
}

/* The file is still being written.  Wait a little for the last writer to be
 * gone, unless the file has been quiet for long. */
static void wait_for_writer(struct work *w)
{
	struct cache_txn *txn;
	int err;

	if (base_boot_ns(w->tier->env) - w->row.entered_ns <
		TIER_WRITTEN_WAIT_NS) {
		tier_work_again(w, TIER_STAMP_NS);
		return;
	}
	if (is_quiet(w)) {
		tier_upload_start(w);
		return;
	}
	err = cache_write(w->tier->cache, &txn);
	if (err == 0) {
		err = leave_place(w, txn);
		err = cache_end(txn, err);
	}
	if (err < 0)
		tier_work_again(w, TIER_S);
	else
		tier_work_done(w);
}

/* Nobody can ever read an inode again that has no name and is not open; but
 * an older state of some name may still be owed. */
static bool is_in_use(
	struct tier *t, struct cache_txn *txn, const struct cache_inode *inode)
{
	bool owed = false;

	if (inode->nlink > 0 ||
		cache_owed_refers(txn, inode->ino, 0, &owed) < 0 || owed)
		return true;
	if (!t->cfg.claim(t->cfg.arg, inode->ino))
		return true;
	t->cfg.unclaim(t->cfg.arg, inode->ino);
	return false;
}

/* R1: is an inode in use whose bytes, or target, are only in the blob that this
 * request overwrites or deletes? */
static bool needs_rescue(
	struct work *w, struct cache_txn *txn, uint64_t *ret_ino)
{
	struct cache_inode inode;
	int err = w->base.kind == CACHE_SYMLINK
		? cache_symlink_far(txn, &w->base.content, &inode)
		: cache_inode_far(txn, &w->base.content, &inode);

	if (err < 0 || !is_in_use(w->tier, txn, &inode))
		return false;
	*ret_ino = inode.ino;
	return true;
}

/* Does this request overwrite or delete the only blob that has some bytes? */
static bool takes_bytes(struct work *w, struct cache_txn *txn)
{
	return w->has_base && !w->row.attrs_only &&
		(w->base.kind == CACHE_FILE || w->base.kind == CACHE_SYMLINK) &&
		!cache_id_eq(&w->base.content, &w->row.content) &&
		!cache_remote_held_twice(txn, &w->base.content);
}

bool tier_work_takes_last(struct work *w, struct cache_txn *txn)
{
	bool done = w->rescued && strcmp(w->rescued_etag, w->base.etag) == 0;

	return !done && takes_bytes(w, txn) &&
		needs_rescue(w, txn, &w->rescue_ino);
}

/* An older state of another name is in that blob alone, its file having
 * changed since it was fetched or cut: it cannot be kept. */
static bool needs_join(struct work *w, struct cache_txn *txn)
{
	bool wanted = false;

	return !w->row.group &&
		cache_owed_far(txn, &w->base.content, w->row.name, &wanted) ==
		0 &&
		wanted;
}

/* Another name whose blob holds the bytes that this one wants. */
static bool find_twin(struct work *w, struct cache_txn *txn)
{
	if (!w->has_twin)
		w->has_twin = cache_remote_holding(txn, &w->row.content, NULL,
				      &w->twin) == 0;
	return w->has_twin && strcmp(w->twin.name, w->row.name) != 0;
}

static bool find_source(struct work *w, struct cache_txn *txn)
{
	if (!find_twin(w, txn) || w->twin.etag[0] == '\0')
		return false;
	free(w->source);
	free(w->source_etag);
	w->source = base_strdup(w->twin.name);
	w->source_etag = base_strdup(w->twin.etag);
	return true;
}

enum plan {
	PLAN_DONE,	/* nothing to tell */
	PLAN_DROP,	/* the row is gone */
	PLAN_SETTLE,	/* an earlier request is not settled (R0) */
	PLAN_TURN,	/* an older row's request is under way there */
	PLAN_WAIT,	/* somebody writes the file */
	PLAN_OVERTAKEN, /* its state is gone, a newer one has its own row */
	PLAN_RESCUE,	/* R1 */
	PLAN_JOIN,	/* an older state cannot be kept */
	PLAN_REQUEST,	/* no bytes to prepare: DELETE, SET_META, a marker */
	PLAN_UPLOAD,
	PLAN_COPY,
	PLAN_FETCH, /* it cannot be copied there: it goes through here */
	PLAN_LOST,  /* no bytes to be had anywhere */
};

/* The bytes are in the inode's own data file: it is named only now, so that a
 * row whose bytes stay in the store is not taken for one that it keeps. */
static enum plan upload(struct work *w, const struct cache_inode *inode)
{
	if (w->row.serial == 0)
		w->row.serial = inode->serial;
	return PLAN_UPLOAD;
}

/* A copy keeps the headers of its source; do those in place have to stay? */
static bool keeps_headers(struct work *w)
{
	return w->has_base && tier_work_keeper(w) == &w->base &&
		tier_has_headers(&w->base);
}

static bool is_staged_copy(struct work *w)
{
	return w->row.size_bytes > TIER_COPY_SYNC_BYTES || keeps_headers(w);
}

static enum plan plan_file(
	struct work *w, struct cache_txn *txn, const struct cache_inode *inode)
{
	bool same = cache_id_eq(&inode->content, &w->row.content);
	bool whole = inode->data == CACHE_WHOLE;
	bool current = inode->serial == w->row.serial;
	bool local = w->row.serial != 0 && !current;
	unsigned ways;

	w->op = BLOB_PUT;
	/* Changed in place by a writer that never closed it. */
	if (current && whole && !same)
		return PLAN_OVERTAKEN;
	/* Of serial 0: it was only in the store.  Is it here by now? */
	if (!local)
		local = current = whole && same;
	/* Somebody writes: what the store has of it can be copied all the same.
	 */
	if (current && inode->written)
		return find_source(w, txn) ? PLAN_COPY : PLAN_WAIT;
	if (!find_source(w, txn))
		return local ? upload(w, inode) : PLAN_LOST;
	/* A rename is a copy, whatever its size: the source's ETag tells whether
	 * somebody changed the file meanwhile (S2). */
	if (local && w->row.change != TIER_CLASS_RENAME &&
		(w->row.size_bytes <= TIER_COPY_MIN_BYTES || keeps_headers(w)))
		return upload(w, inode);
	/* An older state cannot be fetched into a file that has changed. */
	ways = is_staged_copy(w) && !keeps_headers(w) ? 2 : 1;
	if (w->restages < ways || (!local && !same))
		return PLAN_COPY;
	return local ? upload(w, inode) : same ? PLAN_FETCH : PLAN_LOST;
}

static enum plan plan_content(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode;
	struct base_str target = BASE_STR_INIT;

	if (cache_inode_get(txn, w->row.ino, &inode) < 0)
		return PLAN_LOST;
	w->file = inode.file;
	find_twin(w, txn);
	if (w->row.kind == CACHE_FILE)
		return plan_file(w, txn, &inode);
	w->op = BLOB_PUT;
	if (w->row.kind == CACHE_SYMLINK) {
		/* Never read here: its blob is copied. */
		if (cache_target_get(txn, w->row.ino, &target) < 0)
			return find_source(w, txn) ? PLAN_COPY : PLAN_LOST;
		w->body_bytes = target.len;
		w->body = base_str_take(&target);
	} else {
		w->body = base_strdup("");
	}
	return PLAN_REQUEST;
}

/* Is the request under way that of an older row of this name?  One at a time:
 * that row settles it. */
static bool is_anothers(struct work *w, struct cache_txn *txn)
{
	struct cache_owed row;

	if (w->sent.owed_seq == w->seq ||
		cache_owed_get(txn, w->sent.owed_seq, &row) < 0)
		return false;
	cache_owed_fini(&row);
	return true;
}

/* May a request that was thought lost yet come and overwrite the blob, whose
 * ETag is still the one that it asked for?  Then the name is not in step: a
 * request that changes nothing but the ETag fences it. */
static bool may_be_overtaken(struct work *w, struct cache_txn *txn)
{
	struct cache_sent sent;
	bool may;

	if (cache_sent_of(txn, w->row.name, &sent) < 0)
		return false;
	may = strcmp(sent.base_etag, w->base.etag) == 0;
	cache_sent_fini(&sent);
	return may;
}

static enum plan plan(struct work *w, struct cache_txn *txn)
{
	bool same;

	if (cache_owed_get(txn, w->seq, &w->row) < 0)
		return PLAN_DROP;
	w->has_base = cache_remote_get(txn, w->row.name, &w->base) == 0;
	if (cache_sent_unsettled(txn, w->row.name, &w->sent) == 0 &&
		is_anothers(w, txn))
		return PLAN_TURN;
	if (w->sent.number != 0 || w->row.state == CACHE_OWED_SENT)
		return PLAN_SETTLE;
	if (tier_work_takes_last(w, txn))
		return PLAN_RESCUE;
	if (takes_bytes(w, txn) && needs_join(w, txn))
		return PLAN_JOIN;
	if (w->row.kind == CACHE_GONE) {
		w->op = BLOB_DELETE;
		return w->has_base ? PLAN_REQUEST : PLAN_DONE;
	}
	same = w->has_base && w->base.kind == w->row.kind &&
		(w->row.kind == CACHE_DIR ||
			cache_id_eq(&w->base.content, &w->row.content));
	/* The blob went: a directory gets a marker, others have nothing to set
	 * it on. */
	if (!w->has_base && w->row.attrs_only && w->row.kind != CACHE_DIR)
		return PLAN_DONE;
	if (!same && (!w->row.attrs_only || !w->has_base))
		return plan_content(w, txn);
	if (tier_attrs_eq(&w->base.attrs, &w->row.attrs) &&
		!may_be_overtaken(w, txn))
		return PLAN_DONE;
	w->op = BLOB_SET_META;
	w->file = w->base.file;
	return PLAN_REQUEST;
}

/* The row needs no request (any more). */
static void finish_quietly(struct work *w)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err == 0) {
		if (w->row.kind != CACHE_GONE && w->has_base &&
			cache_inode_get(txn, w->row.ino, &inode) == 0 &&
			cache_id_eq(&inode.content, &w->base.content) &&
			!inode.stored) {
			inode.stored = true;
			err = cache_inode_put(txn, &inode);
		}
		if (err == 0)
			err = cache_owed_del(txn, w->seq);
		if (err < 0 && err != -ENOENT)
			cache_abort(txn);
		else
			err = cache_commit(txn);
	}
	if (err < 0 && err != -ENOENT)
		tier_work_again(w, TIER_S);
	else
		tier_work_done(w);
}

/* All that is owed becomes a group: of each name its newest state alone. */
static void join(struct work *w)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err == 0) {
		err = tier_order_group(w->tier, txn, w->row.epoch);
		err = cache_end(txn, err);
	}
	if (err < 0)
		tier_work_again(w, TIER_S);
	else
		tier_work_done(w);
}

/* In one request; a large one, or one that keeps other headers, block by block,
 * and, where the store does not know how, in one request all the same: not
 * every store has a limit. */
static void copy(struct work *w)
{
	w->op = BLOB_COPY;
	if (is_staged_copy(w) && w->restages % 2 == 0)
		tier_stage_copy(w);
	else
		tier_work_prepared(w);
}

static void fall_out(struct work *w)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err == 0) {
		err = cache_owed_fall_out(txn, w->seq);
		err = cache_end(txn, err);
	}
	if (err < 0 && err != -ENOENT)
		tier_work_again(w, TIER_S);
	else
		tier_work_done(w);
}

void tier_work_load(struct work *w)
{
	struct cache_txn *txn;
	enum plan p;

	w->state = WORK_LOADING;
	if (cache_read(w->tier->cache, &txn) < 0) {
		tier_work_again(w, TIER_S);
		return;
	}
	p = plan(w, txn);
	/* A row that could not be read is not one that is not there. */
	if (cache_commit(txn) < 0) {
		tier_work_again(w, TIER_S);
		return;
	}
	switch (p) {
	case PLAN_DROP:
		tier_work_done(w);
		break;
	case PLAN_DONE:
		finish_quietly(w);
		break;
	case PLAN_LOST:
		tier_bytes_lost(w);
		break;
	case PLAN_SETTLE:
		tier_settle(w);
		break;
	case PLAN_TURN:
		tier_work_again(w, TIER_STAMP_NS);
		break;
	case PLAN_WAIT:
		wait_for_writer(w);
		break;
	case PLAN_OVERTAKEN:
		fall_out(w);
		break;
	case PLAN_RESCUE:
		tier_rescue(w, w->rescue_ino, w->base.kind);
		break;
	case PLAN_JOIN:
		join(w);
		break;
	case PLAN_FETCH:
		tier_rescue(w, w->row.ino, CACHE_FILE);
		break;
	case PLAN_COPY:
		copy(w);
		break;
	case PLAN_REQUEST:
		if (w->op == BLOB_PUT) {
			blob_md5(w->body, w->body_bytes, w->md5);
			w->has_md5 = true;
		}
		tier_work_prepared(w);
		break;
	case PLAN_UPLOAD:
		tier_upload_start(w);
		break;
	}
}
