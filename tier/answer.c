/*
 * What the store answered to a visible request: written down, or settled, or
 * tried another way (W4 in work.c).
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

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
	err = cache_end(txn, err);
	if (maybe && err == 0)
		tier_fence_soon(w->line);
	return err;
}

/* What the name shows now is not what it showed, or may not be at any moment:
 * inodes whose bytes were only there have no copy in the store any more, and
 * are not evicted.  (A directory has none: it is known by its name.) */
int tier_work_unstore(struct work *w, struct cache_txn *txn)
{
	struct cache_remote other;
	struct cache_inode inode;
	int err;

	if (w->row.displaced == 0 ||
		cache_inode_get(txn, w->row.displaced, &inode) < 0 ||
		!inode.stored || inode.kind == CACHE_DIR)
		return 0;
	if (cache_remote_held_twice(txn, &inode.content))
		return 0;
	err = cache_remote_holding(txn, &inode.content, NULL, &other);
	if (err == 0) {
		bool elsewhere = strcmp(other.name, w->row.name) != 0 ||
			cache_id_eq(&w->row.content, &inode.content);

		cache_remote_fini(&other);
		if (elsewhere)
			return 0;
	}
	if (err < 0 && err != -ENOENT)
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
	const struct cache_remote *notes = tier_work_keeper(w);
	struct cache_sent sent = { 0 };

	tier_work_describe(w, &sent);
	memset(r, 0, sizeof(*r));
	memcpy(r->etag, w->req.props.etag, sizeof(r->etag));
	r->kind = w->row.kind;
	r->size_bytes = sent.size_bytes;
	r->content = sent.content;
	r->has_md5 = sent.has_md5;
	memcpy(r->md5, sent.md5, sizeof(r->md5));
	r->has_list = sent.has_list;
	memcpy(r->list, sent.list, sizeof(r->list));
	r->file = w->restore ? w->base.file : w->file;
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
	const struct cache_attrs *attrs =
		w->restore ? &w->base.attrs : &w->row.attrs;
	struct cache_remote r;
	int err;

	if (w->has_landed)
		r = w->landed;
	else
		describe_remote(w, &r);
	r.name = w->row.name;
	r.attrs = *attrs;
	r.known_seq = tier_tick(w->tier);
	err = cache_remote_put(txn, &r);
	if (!w->has_landed)
		free(r.parents);
	return err;
}

/* Of this request nothing is to be feared any more, nor of earlier ones that
 * asked for an ETag.  One that asked for a free name, and went out more than
 * once, may make the blob again after it was deleted: its row stays. */
static int fence(struct work *w, struct cache_txn *txn)
{
	bool again = w->again && !w->has_base;
	int err = cache_sent_fence(txn, w->row.name);

	if (err == 0)
		err = again ? settle_sent(w, txn)
			    : cache_sent_del(txn, w->commit);
	return err == -ENOENT ? 0 : err;
}

/* What is there was committed as it is, and the row is still to come (T1). */
static int apply_restore(struct work *w, struct cache_txn *txn)
{
	struct cache_owed row;
	int err = put_remote(w, txn);

	if (err == 0)
		err = fence(w, txn);
	if (err == 0)
		err = cache_owed_get(txn, w->seq, &row);
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	row.state = CACHE_OWED_UNSENT;
	err = cache_owed_put(txn, &row);
	cache_owed_fini(&row);
	return err;
}

static int apply(struct work *w, struct cache_txn *txn)
{
	int err;

	if (w->restore)
		return apply_restore(w, txn);
	if (w->op == BLOB_DELETE)
		err = tier_remote_gone(w->tier, txn, w->row.name);
	else
		err = put_remote(w, txn);
	if (err == -ENOENT)
		err = 0;
	if (err == 0 && w->op != BLOB_DELETE)
		err = mark_stored(w, txn);
	if (err == 0)
		err = tier_work_unstore(w, txn);
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
		err = cache_end(txn, err);
	}
	cache_space_kick(line->tier->cache); /* it may be evicted now */
	if (err < 0)
		log_error("index: what the store answered cannot be written: "
			  "%s",
			strerror(-err));
	while ((w = TAILQ_FIRST(&line->answered)) != NULL) {
		TAILQ_REMOVE(&line->answered, w, link);
		if (w->again)
			tier_fence_soon(line);
		if (err < 0)
			tier_work_again(w, TIER_S); /* settled by HEAD */
		else if (w->restore)
			tier_work_again(w, 0);
		else
			tier_work_done(w);
	}
}

void tier_work_accept(struct work *w)
{
	struct tier_line *line = w->line;

	line->pause_ns = 0;
	if (w->op == BLOB_PUT) /* blocks were counted one by one */
		atomic_fetch_add(&w->tier->sent_bytes,
			w->upload ? w->row.size_bytes : w->body_bytes);
	TAILQ_INSERT_TAIL(&line->answered, w, link);
	if (!line->answering) {
		line->answering = true;
		base_strand_post(line->strand, take_answers, line);
	}
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

/* L4: in a group, what is below the directory may go in a later step, or with a
 * directory rename whose turn comes later. */
static void goes_last(struct work *w)
{
	struct cache_txn *txn;
	struct cache_owed row;
	int err = cache_write(w->tier->cache, &txn);

	if (err < 0)
		return;
	err = cache_owed_get(txn, w->seq, &row);
	if (err == 0) {
		row.step = CACHE_OWED_STEP_LAST;
		err = row.group ? cache_owed_put(txn, &row) : -ENOENT;
		cache_owed_fini(&row);
	}
	/* If it fails, the next try has the same answer. */
	if (err == 0)
		cache_commit(txn);
	else
		cache_abort(txn);
}

void tier_work_answered(struct work *w, int err)
{
	(void)err;
	w->maybe = w->req.result == BLOB_AMBIGUOUS || w->req.uncertain;
	w->again = w->req.result == BLOB_OK && w->req.uncertain;
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
		if (w->op == BLOB_COPY &&
			strcmp(w->req.code, "CannotVerifyCopySource") == 0) {
			other_way(w); /* who may not read it so */
			break;
		}
		tier_work_unsend(w, false);
		tier_line_pause(w->line);
		tier_work_retry(w, blob_result_name(w->req.result));
		break;
	case BLOB_BUSY:
		tier_work_unsend(w, false);
		if (strcmp(w->req.code, "DirectoryNotEmpty") == 0)
			goes_last(w);
		tier_work_retry(w, w->req.code);
		break;
	default:
		if (w->op == BLOB_COPY) {
			other_way(w); /* the source's fault, maybe */
			break;
		}
		tier_work_unsend(w, false);
		tier_work_refused(w);
		break;
	}
}
