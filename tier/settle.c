/*
 * R0: what became of a request whose answer was lost, or whose condition
 * failed (WRITEBACK sections 2, 3 and 7).
 *
 * HEAD tells what the name shows.  Ours is the exact commit of the `sent` row,
 * with the size that was sent; a blob that carries it among its parents was
 * ours and is superseded; the ETag that the request was conditional on says
 * that nothing happened; anything else is somebody else's.
 */
#include "tier/line.h"

#include <errno.h>

/* The condition of the request that is settled. */
static const char *base_etag(struct work *w)
{
	if (w->sent.number != 0)
		return w->sent.base_etag;
	return w->has_base ? w->base.etag : "";
}

static bool commit_is_ours(struct work *w, const struct blob_commit_id *id)
{
	return id->number == w->commit &&
		memcmp(id->host, cache_host(w->tier->cache)->bytes,
			CACHE_ID_BYTES) == 0;
}

static bool is_ours(struct work *w, const struct blob_mark *mark)
{
	return mark->present && commit_is_ours(w, &mark->commit) &&
		(w->row.kind != CACHE_FILE ||
			w->req.props.size_bytes == w->row.size_bytes) &&
		(!w->has_md5 || !w->req.props.has_md5 ||
			memcmp(w->md5, w->req.props.md5, 16) == 0);
}

static bool is_parent(struct work *w, const struct blob_mark *mark)
{
	for (unsigned i = 0; mark->present && i < mark->parents_nr; i++) {
		if (commit_is_ours(w, &mark->parents[i]))
			return true;
	}
	return false;
}

/* It was surely not applied: once more from the start. */
static void not_applied(struct work *w)
{
	if (tier_work_unsend(w) < 0)
		tier_work_again(w, TIER_S);
	else
		tier_work_again(w, 0);
}

/* The blob that was to be replaced is gone: next time the name is free. */
static void remote_gone(struct work *w)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err == 0) {
		err = cache_remote_del(txn, w->row.name);
		if (err < 0 && err != -ENOENT)
			cache_abort(txn);
		else
			err = cache_commit(txn);
	}
	if (err < 0 && err != -ENOENT)
		tier_work_again(w, TIER_S);
	else
		not_applied(w);
}

static void found(struct work *w)
{
	struct cache_remote remote;
	struct blob_mark mark;

	tier_remote_from_props(
		w->tier, w->row.name, &w->req.props, &remote, &mark);
	cache_remote_fini(&remote);
	if (w->op != BLOB_DELETE && is_ours(w, &mark))
		tier_work_accept(w);
	else if (strcmp(w->req.props.etag, base_etag(w)) == 0)
		not_applied(w);
	else
		tier_conflict(w, &w->req.props,
			w->op != BLOB_DELETE && is_parent(w, &mark));
}

static void head_answered(struct work *w, int err)
{
	(void)err;
	switch (w->req.result) {
	case BLOB_OK:
		found(w);
		break;
	case BLOB_NOT_FOUND:
		if (w->op == BLOB_DELETE)
			tier_work_accept(w);
		else if (base_etag(w)[0] == '\0')
			not_applied(w);
		else
			remote_gone(w);
		break;
	case BLOB_STOPPED:
		w->state = WORK_WAITING; /* the next mount asks again */
		break;
	default:
		tier_line_pause(w->line);
		tier_work_retry(w,
			"waiting to learn what became of a "
			"request");
		break;
	}
}

void tier_settle(struct work *w)
{
	w->state = WORK_SETTLING;
	if (w->sent.number != 0) {
		w->commit = w->sent.number;
		w->op = (enum blob_op)w->sent.op;
	} else if (w->row.state == CACHE_OWED_SENT && w->commit == 0) {
		not_applied(w); /* no request was ever noted */
		return;
	}
	blob_req_fini(&w->req);
	memset(&w->req, 0, sizeof(w->req));
	w->req.op = BLOB_HEAD;
	w->req.name = w->row.name;
	tier_work_ask(w, head_answered);
}
