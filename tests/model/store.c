/*
 * The store in memory: blob/store.h's contract, with its requests on their way
 * and its faults.  (The blobs: blobs.c; what is done to them: apply.c, ask.c.)
 *
 * A request is applied at one moment and answered at another, both by seed.  A
 * lost one is answered BLOB_AMBIGUOUS, and was applied, or never will be, or
 * will be later: up to 15 minutes, the age at which the service refuses it.
 * Requests of a process that died are applied, or not, and never answered.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/hash.h"
#include "tests/model/flight.h"

#define LATE_NS (900 * S)

struct mstore {
	struct blob_store base;
	struct model *m;
	struct flight *flights;
	bool closed;
};

/* ---- flights ---- */

static void flight_put(struct flight *f)
{
	if (--f->refs > 0)
		return;
	if (f->prev != NULL) {
		*f->prev = f->next;
		if (f->next != NULL)
			f->next->prev = f->prev;
	}
	free(f->name);
	free(f->if_match);
	free(f->source);
	free(f->source_etag);
	free(f->body);
	free(f->blocks);
	blob_kv_free(f->meta, f->meta_nr);
	blob_kv_free(f->headers, f->headers_nr);
	free(f);
}

static char *copy_text(const char *text)
{
	return text ? base_strdup(text) : NULL;
}

static void copy_body(struct flight *f, const struct blob_body *body)
{
	uint8_t md5[16];

	f->body_len = body->len_bytes;
	f->body = base_malloc(body->len_bytes + 1);
	if (body->mem != NULL)
		memcpy(f->body, body->mem, body->len_bytes);
	else
		model_fail(f->m, "a body from a descriptor: not in the model");
	f->body[body->len_bytes] = '\0';
	blob_md5(f->body, f->body_len, md5);
	if (memcmp(md5, body->md5, 16) != 0)
		model_fail(f->m, "%s %s: wrong MD5", flight_op_name(f->op),
			f->name);
}

static struct flight *flight_new(struct mstore *s, struct blob_req *req)
{
	struct flight *f = base_calloc(1, sizeof(*f));

	f->m = s->m;
	f->store = s;
	f->req = req;
	f->life = s->m->life;
	f->op = req->op;
	f->refs = 2; /* to be applied, to be answered */
	f->name = base_strdup(req->name);
	f->if_match = copy_text(req->cond.if_match);
	f->none_match = req->cond.if_none_match_any;
	f->code = "";
	if (req->op == BLOB_PUT)
		copy_body(f, &req->in.put.body);
	if (req->op == BLOB_PUT_BLOCK) {
		copy_body(f, &req->in.block.body);
		memcpy(f->id, req->in.block.id, sizeof(f->id));
	}
	if (req->op == BLOB_COPY) {
		f->source = copy_text(req->in.copy.source);
		f->source_etag = copy_text(req->in.copy.source_etag);
	}
	if (req->op == BLOB_LIST)
		f->source = copy_text(req->in.list.start);
	if (req->op == BLOB_COMMIT) {
		f->blocks_nr = req->in.commit.blocks_nr;
		f->blocks = base_calloc(f->blocks_nr + 1, sizeof(*f->blocks));
		memcpy(f->blocks, req->in.commit.blocks,
			f->blocks_nr * sizeof(*f->blocks));
	}
	assert(blob_kv_copy(&f->meta, req->meta, req->meta_nr) == 0);
	f->meta_nr = req->meta_nr;
	assert(blob_kv_copy(&f->headers, req->headers, req->headers_nr) == 0);
	f->headers_nr = req->headers_nr;
	f->next = s->flights;
	f->prev = &s->flights;
	if (f->next != NULL)
		f->next->prev = &f->next;
	s->flights = f;
	return f;
}

static void detach(struct flight *f)
{
	if (f->prev != NULL) {
		*f->prev = f->next;
		if (f->next != NULL)
			f->next->prev = f->prev;
	}
	f->prev = NULL;
	f->next = NULL;
	f->store = NULL;
	f->req = NULL;
}

/* The moment at which it is applied. */
static void flight_apply(struct model *m, void *arg)
{
	struct flight *f = arg;

	(void)m;
	if (!f->no_apply && flight_mutates(f->op))
		flight_mutate(f);
	else if (!f->no_apply && f->op == BLOB_PUT_BLOCK)
		f->result = flight_put_block(f);
	flight_put(f);
}

static int errno_of(enum blob_result result)
{
	switch (result) {
	case BLOB_OK:
		return 0;
	case BLOB_NOT_FOUND:
		return -ENOENT;
	case BLOB_CONDITION:
		return -EEXIST;
	case BLOB_BAD_RANGE:
		return -ERANGE;
	case BLOB_BAD_BLOCKS:
		return -EBADE;
	case BLOB_BUSY:
		return -EBUSY;
	case BLOB_STOPPED:
		return -EINTR;
	default:
		return -EIO;
	}
}

static void answer(struct flight *f)
{
	struct blob_req *req = f->req;

	req->result = f->result;
	req->err = errno_of(f->result);
	snprintf(req->code, sizeof(req->code), "%s", f->code);
	if (flight_mutates(f->op) && f->result == BLOB_OK &&
		f->op != BLOB_DELETE) {
		mstore_etag_text(
			f->etag, req->props.etag, sizeof(req->props.etag));
		req->props.mtime_ns = 4200000000LL * S + f->mtime_ns / S * S;
	}
	detach(f);
	req->done(req);
}

/* A page that is answered while one of our mutations is under way. */
static void note_race(struct flight *f)
{
	if (f->op != BLOB_LIST)
		return;
	for (struct flight *o = f->store->flights; o != NULL; o = o->next) {
		if (flight_mutates(o->op))
			count(f->m, COUNT_LIST_RACE);
	}
}

static void flight_answer(struct model *m, void *arg)
{
	struct flight *f = arg;
	bool asks = !flight_mutates(f->op) && f->op != BLOB_PUT_BLOCK;

	(void)m;
	if (f->req != NULL) {
		/* What only asks is answered with what is there now. */
		if (asks && f->result == BLOB_OK)
			flight_ask(f);
		f->req->uncertain = f->result == BLOB_AMBIGUOUS || f->twice;
		note_race(f);
		answer(f);
	}
	flight_put(f);
}

/* ---- what goes wrong ---- */

static int64_t some_ms(struct model *m)
{
	return (int64_t)(1 +
		       rnd_below(&m->rnd, rnd_pct(&m->rnd, 10) ? 800 : 40)) *
		MS;
}

static void set_ambiguous(struct model *m, void *arg)
{
	struct flight *f = arg;

	(void)m;
	if (f->req != NULL) {
		model_say(m, "      store: answer lost: %s %s",
			flight_op_name(f->op), f->name);
		count(m,
			f->applied && f->result == BLOB_OK ? COUNT_LOST
							   : COUNT_UNAPPLIED);
		f->result = BLOB_AMBIGUOUS;
		f->req->uncertain = true;
		f->code = "";
		answer(f);
	}
	flight_put(f);
}

/* Long after it was given up, or once more. */
static void apply_late(struct model *m, void *arg)
{
	struct flight *f = arg;
	bool twice = f->applied;

	f->no_apply = false;
	if (flight_mutates(f->op)) {
		mstore_blob(m, f->name)->late = true;
		flight_mutate(f);
	} else {
		f->result = flight_put_block(f);
	}
	if (f->result == BLOB_OK && flight_mutates(f->op))
		count(m, twice ? COUNT_TWICE : COUNT_LATE);
	flight_put(f);
}

static int64_t late_ns(struct model *m)
{
	return (int64_t)rnd_below(
		&m->rnd, rnd_pct(&m->rnd, 60) ? 3 * S : LATE_NS);
}

static void mutation_with_fault(struct flight *f, int64_t t)
{
	struct model *m = f->m;
	unsigned kind = (unsigned)rnd_below(&m->rnd, 6);

	switch (kind) {
	case 0: /* surely not applied */
	case 1:
		f->no_apply = true;
		f->result = kind == 0 ? BLOB_UNAVAILABLE : BLOB_BUSY;
		count(m, COUNT_REFUSED);
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), flight_answer, f);
		return;
	case 2: /* applied, answer lost */
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), set_ambiguous, f);
		return;
	case 3: /* lost on its way */
		f->no_apply = true;
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), set_ambiguous, f);
		return;
	case 4: /* answered, and comes once more; blob/ says so */
		f->refs++;
		f->twice = true;
		model_at(m, t, flight_apply, f);
		model_at(m, t + some_ms(m), flight_answer, f);
		model_at(m, t + late_ns(m), apply_late, f);
		return;
	default: /* answered as lost, applied later */
		model_at(m, t, set_ambiguous, f);
		model_at(m, t + late_ns(m), apply_late, f);
		return;
	}
}

/* Its blocks may come late, too: then nobody needs them any more. */
static void block_with_fault(struct flight *f, int64_t t)
{
	struct model *m = f->m;

	f->result = BLOB_AMBIGUOUS;
	f->no_apply = true;
	model_at(m, t, flight_answer, f);
	model_at(m, t + late_ns(m), apply_late, f);
}

static void submit(struct blob_store *base, struct blob_req *req)
{
	struct mstore *s = (struct mstore *)base;
	struct model *m = s->m;
	struct flight *f = flight_new(s, req);
	int64_t t = m->now_ns + some_ms(m);
	bool fault = m->faults && rnd_pct(&m->rnd, 15);

	if (m->closing) {
		f->no_apply = true;
		f->result = BLOB_STOPPED;
		model_at(m, m->now_ns, flight_apply, f);
		model_at(m, m->now_ns, flight_answer, f);
		return;
	}
	model_say(m, "      submit: %s %s", flight_op_name(f->op), f->name);
	if (fault && flight_mutates(f->op)) {
		mutation_with_fault(f, t);
		return;
	}
	if (fault && f->op == BLOB_PUT_BLOCK && rnd_pct(&m->rnd, 50)) {
		block_with_fault(f, t);
		return;
	}
	if (fault && rnd_pct(&m->rnd, 40)) {
		f->no_apply = true;
		f->result = BLOB_UNAVAILABLE;
	}
	model_at(m, t, flight_apply, f);
	model_at(m, t + some_ms(m), flight_answer, f);
}

static void cancel(struct blob_store *base, struct blob_req *req)
{
	(void)base;
	(void)req; /* its answer comes soon, and a cancel is only a wish */
}

/* Everything ends; what was under way may be applied all the same. */
static void close_store(struct blob_store *base)
{
	struct mstore *s = (struct mstore *)base;
	struct flight *f;

	while ((f = s->flights) != NULL) {
		struct blob_req *req = f->req;

		assert(req != NULL);
		if (rnd_pct(&s->m->rnd, 40))
			f->no_apply = true;
		detach(f);
		req->result = BLOB_STOPPED;
		req->err = -EINTR;
		req->done(req);
	}
	free(s);
}

void mstore_orphan(struct blob_store *store)
{
	struct mstore *s = (struct mstore *)store;
	struct flight *f;

	while ((f = s->flights) != NULL) {
		if (rnd_pct(&s->m->rnd, 40))
			f->no_apply = true;
		detach(f);
	}
	free(s);
}

static const struct blob_store_ops store_ops = {
	.submit = submit,
	.cancel = cancel,
	.close = close_store,
};

struct blob_store *mstore_open(struct model *m)
{
	struct mstore *s = base_calloc(1, sizeof(*s));

	s->base.ops = &store_ops;
	s->m = m;
	return &s->base;
}
