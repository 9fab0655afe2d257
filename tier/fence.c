/*
 * `sent` rows that nobody waits for any more: of requests that were not
 * applied when their name was looked at, but may yet be (WRITEBACK section 3).
 *
 * A row that asked for an ETag goes with the next success under its name, or
 * when it is too old to be taken by the service.  One that asked for a free
 * name is looked after once more before it goes: a blob of our commit under a
 * name that nobody wants is deleted.  (Until then a listing may find it, too:
 * merge.c.)
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

struct fence {
	struct tier_line *line;
	struct cache_sent sent;
	struct blob_req req;
	int err; /* of the proof */
};

struct oldest {
	struct tier_line *line;
	struct cache_sent due; /* the first that is too old */
	int64_t next_ns;       /* when the next one will be */
	uint64_t numbers[64];  /* begin to age now */
	size_t numbers_nr;
	bool has_due;
};

void tier_fence_soon(struct tier_line *line)
{
	line->fence_at_ns = 0;
	tier_line_tick_soon(line);
}

static int see(void *arg, const struct cache_sent *sent)
{
	struct oldest *o = arg;
	int64_t at;

	if (!sent->settled)
		return 0; /* its row settles it */
	if (sent->sent_ns == 0) {
		if (o->numbers_nr < 64)
			o->numbers[o->numbers_nr++] = sent->number;
		return 0;
	}
	at = sent->sent_ns + o->line->tier->cfg.sent_expiry_ns;
	if (at <= base_boot_ns(o->line->tier->env)) {
		if (!o->has_due) {
			o->due = *sent;
			o->due.name = base_strdup(sent->name);
			o->has_due = true;
		}
	} else if (o->next_ns == 0 || at < o->next_ns) {
		o->next_ns = at;
	}
	return 0;
}

/* Sent before the last boot: nobody knows when. */
static void begin_to_age(struct oldest *o)
{
	struct tier *t = o->line->tier;
	struct cache_sent sent;
	struct cache_txn *txn;

	if (o->numbers_nr == 0 || cache_write(t->cache, &txn) < 0)
		return;
	for (size_t i = 0; i < o->numbers_nr; i++) {
		if (cache_sent_get(txn, o->numbers[i], &sent) < 0)
			continue;
		sent.sent_ns = base_boot_ns(t->env);
		cache_sent_put(txn, &sent);
		cache_sent_fini(&sent);
	}
	cache_commit(txn);
}

static void forget(struct tier *t, uint64_t number)
{
	struct cache_txn *txn;

	if (cache_write(t->cache, &txn) < 0)
		return;
	cache_sent_del(txn, number);
	cache_commit(txn);
}

/* The name shows what came late. */
static void delete_late(struct fence *f)
{
	struct tier *t = f->line->tier;
	struct cache_remote remote;
	struct blob_mark mark;
	struct cache_txn *txn;
	int late;

	tier_remote_from_props(t, f->sent.name, &f->req.props, &remote, &mark);
	if (cache_write(t->cache, &txn) == 0) {
		late = tier_late(t, txn, &remote, &mark);
		cache_end(txn, late < 0 ? late : 0);
	}
	cache_remote_fini(&remote);
}

static void looked_after(void *arg)
{
	struct fence *f = arg;
	struct tier_line *line = f->line;
	struct tier *t = line->tier;
	bool answered = f->err == 0 &&
		(f->req.result == BLOB_OK || f->req.result == BLOB_NOT_FOUND);

	if (answered && f->req.result == BLOB_OK)
		delete_late(f);
	if (answered)
		forget(t, f->sent.number);
	line->fence = NULL;
	if (answered)
		tier_fence_soon(line);
	else
		tier_line_tick_after(line, TIER_RETRY_MAX_NS);
	line->fence_at_ns =
		answered ? 0 : base_boot_ns(t->env) + TIER_RETRY_MAX_NS;
	blob_req_fini(&f->req);
	cache_sent_fini(&f->sent);
	free(f);
}

static void proven(void *arg, int err)
{
	struct fence *f = arg;

	f->err = err;
	base_strand_post(f->line->strand, looked_after, f);
}

static void asked(void *arg)
{
	struct fence *f = arg;
	struct tier *t = f->line->tier;

	if (f->req.result == BLOB_OK && f->sent.has_list)
		tier_proof_ask(t, f->sent.name, &f->req.props, proven, f);
	else
		looked_after(f);
	tier_answered(t);
}

static void asked_done(struct blob_req *req)
{
	struct fence *f = req->arg;

	base_strand_post(f->line->strand, asked, f);
}

static void look_after(struct tier_line *line, struct cache_sent *sent)
{
	struct fence *f = base_calloc(1, sizeof(*f));

	f->line = line;
	f->sent = *sent;
	f->req.op = BLOB_HEAD;
	f->req.name = f->sent.name;
	f->req.background = true;
	f->req.arg = f;
	f->req.done = asked_done;
	line->fence = f;
	tier_submit(line->tier, &f->req);
}

void tier_fence_step(struct tier_line *line)
{
	struct tier *t = line->tier;
	struct oldest o = { .line = line };
	struct cache_txn *txn;
	int64_t now = base_boot_ns(t->env);
	int err;

	if (line->fence != NULL || line->fence_at_ns == INT64_MAX)
		return;
	if (now < line->fence_at_ns) {
		tier_line_tick_after(line, line->fence_at_ns - now);
		return;
	}
	if (cache_read(t->cache, &txn) < 0)
		return;
	err = cache_sent_each(txn, 0, see, &o);
	cache_abort(txn);
	begin_to_age(&o);
	line->fence_at_ns = INT64_MAX;
	if (err < 0) { /* not all of them was seen */
		line->fence_at_ns = now + TIER_S;
		tier_line_tick_after(line, TIER_S);
	}
	if (o.has_due && o.due.base_etag[0] == '\0') {
		look_after(line, &o.due);
		return;
	}
	if (o.has_due) {
		forget(t, o.due.number);
		cache_sent_fini(&o.due);
	}
	if (o.has_due || o.numbers_nr > 0) {
		tier_fence_soon(line);
	} else if (o.next_ns > 0) {
		line->fence_at_ns = o.next_ns;
		tier_line_tick_after(line, o.next_ns - now);
	}
}
