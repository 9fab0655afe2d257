/*
 * First contact with the store: is the container there, does it take our
 * credentials, is it the one that this cache belongs to.
 *
 * `.forebay/id` in the container names it: 32 hex digits, made by the first
 * host that may write (If-None-Match: *).  A container that was deleted and
 * made again has another one, or none.
 */
#include "tier/priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ID_NAME ".forebay/id"
#define ID_CHARS 32

struct probe {
	struct tier *tier;
	struct tier_call *call;
	char *why;
	size_t why_bytes;
	char id[ID_CHARS + 1];
	size_t id_nr;
	uint8_t md5[16];
	bool made; /* a PUT of ours was refused once already */
	struct blob_req req;
};

static void ask_id(struct probe *p);

static void probe_end(struct probe *p, int err)
{
	struct tier *t = p->tier;

	if (err == 0 || err == -EXDEV)
		atomic_store(&t->suspect, err != 0);
	tier_call_end(t, p->call, err);
	blob_req_fini(&p->req);
	free(p);
	tier_answered(t);
}

static void say(struct probe *p, const char *what, const char *todo)
{
	snprintf(p->why, p->why_bytes, "%s; %s", what, todo);
}

/* Compares with the id that the cache knows, or notes it. */
static int check_id(struct probe *p)
{
	struct base_str known = BASE_STR_INIT;
	struct cache_txn *txn;
	int err = cache_write(p->tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_meta_get_text(txn, "store_id", &known);
	if (err == -ENOENT && p->id_nr > 0)
		err = cache_meta_set_text(txn, "store_id", p->id);
	else if (err == -ENOENT)
		err = 0;
	else if (err == 0 && strcmp(known.data, p->id) != 0)
		err = -EXDEV;
	base_str_fini(&known);
	if (err < 0) {
		cache_abort(txn);
		if (err == -EXDEV)
			say(p,
				"this is another container than the one this "
				"cache directory belongs to (it was deleted and "
				"made again?)",
				"use another cache directory");
		return err;
	}
	return cache_commit(txn);
}

static int refused(struct probe *p)
{
	struct tier *t = p->tier;
	bool told;

	switch (p->req.result) {
	case BLOB_NO_CONTAINER:
		say(p, "there is no such container or directory",
			"create it, or correct the name");
		return -ENXIO;
	case BLOB_DENIED:
		snprintf(p->why, p->why_bytes,
			"the store refuses the credentials (%s); check the "
			"account's key, SAS or role",
			p->req.code[0] ? p->req.code : "denied");
		return -EACCES;
	default:
		/* The store's own words, where it said any. */
		base_lock(&t->mutex);
		told = !t->store_up && t->store_why[0] != '\0';
		if (told)
			snprintf(p->why, p->why_bytes,
				"%s; check its address "
				"and the network",
				t->store_why);
		base_unlock(&t->mutex);
		if (!told)
			snprintf(p->why, p->why_bytes,
				"the store does not answer (%s); check its "
				"address and the network",
				p->req.code[0]
					? p->req.code
					: blob_result_name(p->req.result));
		return -EIO;
	}
}

static void id_made(void *arg)
{
	struct probe *p = arg;
	struct tier *t = p->tier; /* the next answer may free p at once */

	if (p->req.result == BLOB_OK) {
		p->id_nr = ID_CHARS;
		probe_end(p, check_id(p));
	} else if (p->req.result == BLOB_CONDITION && !p->made) {
		p->made = true; /* another host was first */
		ask_id(p);
		tier_answered(t);
	} else if (p->req.result == BLOB_NO_CONTAINER ||
		p->req.result == BLOB_UNAVAILABLE) {
		probe_end(p, refused(p));
	} else {
		/* Credentials that may only read: no id, nothing to compare
		 * with. */
		p->id_nr = 0;
		p->id[0] = '\0';
		probe_end(p, 0);
	}
}

static void on_answer(struct blob_req *req);

static void make_id(struct probe *p)
{
	uint8_t bytes[ID_CHARS / 2];

	base_random(p->tier->env, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(p->id + 2 * i, 3, "%02x", bytes[i]);
	blob_md5(p->id, ID_CHARS, p->md5);
	blob_req_fini(&p->req);
	memset(&p->req, 0, sizeof(p->req));
	p->req.op = BLOB_PUT;
	p->req.name = ID_NAME;
	p->req.cond.if_none_match_any = true;
	p->req.in.put.body.mem = p->id;
	p->req.in.put.body.fd = -1;
	p->req.in.put.body.len_bytes = ID_CHARS;
	p->req.in.put.body.md5 = p->md5;
	p->req.done = on_answer;
	p->req.arg = p;
	tier_submit_probe(p->tier, &p->req);
}

static int id_data(struct blob_req *req, const void *buf, size_t len)
{
	struct probe *p = req->arg;

	if (len > ID_CHARS - p->id_nr)
		return -EPROTO;
	memcpy(p->id + p->id_nr, buf, len);
	p->id_nr += len;
	return 0;
}

/* Did the cache see an id in this container before? */
static bool knows_id(struct tier *tier)
{
	struct base_str known = BASE_STR_INIT;
	struct cache_txn *txn;
	bool knows = true; /* or may have */

	if (cache_read(tier->cache, &txn) == 0) {
		knows = cache_meta_get_text(txn, "store_id", &known) != -ENOENT;
		cache_abort(txn);
	}
	base_str_fini(&known);
	return knows;
}

static void id_answered(void *arg)
{
	struct probe *p = arg;
	struct tier *t = p->tier; /* the next answer may free p at once */

	p->id[p->id_nr] = '\0';
	if (p->req.result == BLOB_OK) {
		probe_end(p, check_id(p));
	} else if (p->req.result == BLOB_NOT_FOUND) {
		if (knows_id(t)) {
			p->id_nr = 0;
			p->id[0] = '\0';
			probe_end(p, check_id(p));
		} else if (t->cfg.read_only) {
			probe_end(p, 0);
		} else {
			make_id(p);
			tier_answered(t);
		}
	} else {
		probe_end(p, refused(p));
	}
}

static void on_answer(struct blob_req *req)
{
	struct probe *p = req->arg;

	base_post(p->tier->env, req->op == BLOB_GET ? id_answered : id_made, p);
}

static void ask_id(struct probe *p)
{
	blob_req_fini(&p->req);
	memset(&p->req, 0, sizeof(p->req));
	p->id_nr = 0;
	p->req.op = BLOB_GET;
	p->req.name = ID_NAME;
	p->req.in.get.data = id_data;
	p->req.done = on_answer;
	p->req.arg = p;
	tier_submit_probe(p->tier, &p->req);
}

void tier_probe(struct tier *tier, struct tier_call *call, char *ret_why,
	size_t why_bytes)
{
	struct probe *p = base_calloc(1, sizeof(*p));

	p->tier = tier;
	p->call = call;
	p->why = ret_why;
	p->why_bytes = why_bytes;
	ask_id(p);
}

/* ---- is it still the same? ---- */

struct confirm {
	struct tier_call call; /* the first member */
	struct tier *tier;
	void (*fn)(void *arg, int err);
	void *arg;
	char why[256];
};

static void confirmed(struct tier_call *call, int err)
{
	struct confirm *c = (struct confirm *)call;

	if (err == -EXDEV) {
		log_error("%s: nothing is sent, nothing is taken for deleted",
			c->why);
		if (c->tier->cfg.suspected != NULL)
			c->tier->cfg.suspected(c->tier->cfg.arg);
	}
	c->fn(c->arg, err);
	free(c);
}

void tier_confirm(struct tier *tier, void (*fn)(void *arg, int err), void *arg)
{
	struct confirm *c;

	if (!knows_id(tier)) {
		fn(arg, 0);
		return;
	}
	c = base_calloc(1, sizeof(*c));
	c->call.done = confirmed;
	c->tier = tier;
	c->fn = fn;
	c->arg = arg;
	tier_probe(tier, &c->call, c->why, sizeof(c->why));
}
