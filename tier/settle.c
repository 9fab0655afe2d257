/*
 * R0: what became of a request whose answer was lost, or whose condition
 * failed (WRITEBACK sections 2, 3 and 7).
 *
 * HEAD tells what the name shows.
 *
 *   R0a  the exact commit of this request, and its bytes (proof.c): it was
 *        applied;
 *   R0b  the exact commit of an earlier request of this name that was thought
 *        lost: it was applied late; the row goes on top of it;
 *   R0c  this commit among the parents: it was ours and is superseded;
 *   R0d  the ETag that the request was conditional on: nothing happened yet.
 *        It may happen later, so its `sent` row stays, settled, until it is
 *        fenced or too old (fence.c), and the row is sent again, as a request
 *        of its own;
 *   R0e  anything else is somebody else's (conflict.c).
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

/* The condition of the request that is settled. */
static const char *base_etag(struct work *w)
{
	if (w->sent.number != 0)
		return w->sent.base_etag;
	return w->has_base ? w->base.etag : "";
}

/* A cache on a cloned disk has another host id than what it sent before. */
static bool commit_is(const struct blob_commit_id *id,
	const struct cache_id *host, uint64_t number)
{
	return number != 0 && id->number == number &&
		memcmp(id->host, host->bytes, CACHE_ID_BYTES) == 0;
}

static bool is_parent(struct work *w, const struct blob_mark *mark)
{
	const struct cache_id *host = w->sent.number != 0
		? &w->sent.host
		: cache_host(w->tier->cache);

	for (unsigned i = 0; mark->present && i < mark->parents_nr; i++) {
		if (commit_is(&mark->parents[i], host, w->commit))
			return true;
	}
	return false;
}

/* R0a, R0b: the `sent` row that the blob's commit names; -ENOENT. */
static int find_sent(struct work *w, const struct cache_remote *remote,
	const struct blob_mark *mark, struct cache_sent *ret)
{
	struct cache_txn *txn;
	bool found;
	int err = cache_read(w->tier->cache, &txn);

	if (err < 0)
		return err;
	found = tier_sent_find(txn, w->row.name, remote, mark, ret);
	/* One that could not be read may be there. */
	err = cache_commit(txn);
	if (err == 0 && !found)
		err = -ENOENT;
	return err;
}

/* R0d: once more from the start.  A failed condition that nobody can explain
 * must not be tried at the speed of the network. */
static void not_applied(struct work *w)
{
	if (tier_work_unsend(w, w->maybe) < 0)
		tier_work_again(w, TIER_S);
	else if (w->settles++ == 0)
		tier_work_again(w, 0);
	else
		tier_work_retry(w, "its condition fails, for no reason known");
}

/* What the index held of the name was not so; the row begins again on top of
 * what is (NULL: nothing). */
static void begin_again(struct work *w, const struct cache_remote *remote,
	const struct cache_sent *landed)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err < 0) {
		tier_work_again(w, TIER_S);
		return;
	}
	if (remote != NULL)
		err = cache_remote_put(txn, remote);
	else
		err = tier_remote_gone(w->tier, txn, w->row.name);
	if (err == -ENOENT)
		err = 0;
	if (err == 0)
		err = cache_sent_fence(txn, w->row.name);
	if (err == 0 && landed != NULL)
		err = cache_sent_del(txn, landed->number);
	if (err == 0 || err == -ENOENT)
		err = cache_commit(txn);
	else
		cache_abort(txn);
	if (err == 0)
		not_applied(w);
	else
		tier_work_again(w, TIER_S);
}

static void found_ours(struct work *w, struct cache_remote *remote,
	const struct cache_sent *sent)
{
	remote->content = sent->content;
	if (sent->number == w->commit && sent->owed_seq == w->seq) {
		w->landed = *remote;
		w->has_landed = true;
		memset(remote, 0, sizeof(*remote));
		tier_work_accept(w);
		return;
	}
	remote->known_seq = tier_tick(w->tier);
	begin_again(w, remote, sent);
}

static void not_told(struct work *w)
{
	tier_line_pause(w->line);
	tier_work_retry(w, "waiting to learn what became of a request");
}

static void found(struct work *w, int err)
{
	struct cache_sent sent;
	struct cache_remote remote;
	struct blob_mark mark;

	if (err == -EINTR) {
		w->state = WORK_WAITING; /* the next mount asks again */
		return;
	}
	if (err < 0) {
		not_told(w);
		return;
	}
	tier_remote_from_props(
		w->tier, w->row.name, &w->req.props, &remote, &mark);
	err = find_sent(w, &remote, &mark, &sent);
	if (err == 0) {
		found_ours(w, &remote, &sent);
		cache_sent_fini(&sent);
	} else if (err != -ENOENT) {
		tier_work_again(w, TIER_S); /* nothing is known of it */
	} else if (strcmp(w->req.props.etag, base_etag(w)) == 0) {
		not_applied(w);
	} else {
		tier_conflict(w, &w->req.props,
			w->op != BLOB_DELETE && is_parent(w, &mark));
	}
	cache_remote_fini(&remote);
}

static void head_answered(struct work *w, int err)
{
	(void)err;
	switch (w->req.result) {
	case BLOB_OK:
		tier_work_prove(w, w->row.name, found);
		break;
	case BLOB_NOT_FOUND:
		if (w->op == BLOB_DELETE)
			tier_work_accept(w);
		else if (base_etag(w)[0] == '\0')
			not_applied(w);
		else
			begin_again(w, NULL, NULL);
		break;
	case BLOB_STOPPED:
		w->state = WORK_WAITING; /* the next mount asks again */
		break;
	default:
		not_told(w);
		break;
	}
}

void tier_settle(struct work *w)
{
	w->state = WORK_SETTLING;
	w->restore = false; /* whatever became of it, the row begins again */
	if (w->sent.number != 0) {
		w->maybe = true; /* of an earlier run, or asked for before */
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
