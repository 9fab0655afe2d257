/*
 * Proofs that a name at two times, or two names, hold the same bytes
 * (WRITEBACK sections 2 and 6).
 *
 * The service keeps an MD5 of what came in one request.  Of what was committed
 * from blocks it keeps the list of their ids, and ours are hashes: a digest of
 * that list stands for the bytes as an MD5 does.
 *
 *   P1  the same size, and the same MD5 or the same digest: the same bytes;
 *   P2  a list that holds an id which is not ours proves nothing;
 *   P3  a list counts only for the ETag that it was answered with.
 *
 * Threads: any.  What is asked belongs to its request until that is answered,
 * then to a task.
 */
#include "tier/priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

bool tier_list_digest(const struct blob_block *blocks, size_t nr,
	uint64_t size_bytes, uint8_t ret[16])
{
	struct blob_hash *hash = blob_hash_new(BLOB_HASH_MD5);
	uint64_t sum = 0;
	bool ours = nr > 0;

	for (size_t i = 0; i < nr; i++) {
		ours &= blocks[i].ours; /* P2 */
		sum += blocks[i].size_bytes;
		blob_hash_add(hash, blocks[i].id, sizeof(blocks[i].id));
	}
	blob_hash_end(hash, ret);
	return ours && sum == size_bytes;
}

bool tier_same_bytes(const struct cache_remote *a, const struct cache_remote *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == CACHE_DIR)
		return true;
	if (a->size_bytes != b->size_bytes)
		return false;
	return (a->has_md5 && b->has_md5 &&
		       memcmp(a->md5, b->md5, sizeof(a->md5)) == 0) ||
		(a->has_list && b->has_list &&
			memcmp(a->list, b->list, sizeof(a->list)) == 0);
}

/* What had neither MD5 nor list was copied from a blob of somebody else's:
 * there the commit alone must do. */
bool tier_is_sent(
	const struct cache_sent *sent, const struct cache_remote *remote)
{
	if (sent->size_bytes != remote->size_bytes)
		return false;
	if (!sent->has_md5 && !sent->has_list)
		return true;
	return (sent->has_md5 && remote->has_md5 &&
		       memcmp(sent->md5, remote->md5, sizeof(sent->md5)) ==
			       0) ||
		(sent->has_list && remote->has_list &&
			memcmp(sent->list, remote->list, sizeof(sent->list)) ==
				0);
}

bool tier_sent_find(struct cache_txn *txn, const char *name,
	const struct cache_remote *remote, const struct blob_mark *mark,
	struct cache_sent *ret)
{
	bool found;

	if (!mark->present || mark->commit.number == 0 ||
		cache_sent_get(txn, mark->commit.number, ret) < 0)
		return false;
	/* A cache on a cloned disk has another host id than what it sent. */
	found = memcmp(mark->commit.host, ret->host.bytes, CACHE_ID_BYTES) ==
			0 &&
		strcmp(ret->name, name) == 0 && ret->op != BLOB_DELETE &&
		tier_is_sent(ret, remote);
	if (!found)
		cache_sent_fini(ret);
	return found;
}

/* Blobs of up to one block have an MD5, if they are ours. */
bool tier_proof_wanted(
	struct cache_txn *txn, const char *name, const struct blob_props *props)
{
	struct cache_remote old;
	struct cache_sent sent;
	bool wanted;

	if (props->size_bytes <= TIER_BLOCK_BYTES_1)
		return false;
	if (cache_remote_get(txn, name, &old) == 0) {
		wanted = old.has_list && old.size_bytes == props->size_bytes &&
			strcmp(old.etag, props->etag) != 0;
		cache_remote_fini(&old);
		return wanted;
	}
	/* What is thought lost may have come late (tier_late). */
	if (cache_sent_of(txn, name, &sent) < 0)
		return false;
	wanted = sent.has_list && sent.size_bytes == props->size_bytes;
	cache_sent_fini(&sent);
	return wanted;
}

struct proof {
	struct tier *tier;
	struct blob_req req;
	struct blob_props *props;
	void (*done)(void *arg, int err);
	void *arg;
	/* of tier_proof_learn() */
	char *name;
	struct blob_props own;
};

static int take_list(struct proof *p)
{
	struct blob_req *req = &p->req;

	switch (req->result) {
	case BLOB_OK:
		p->props->has_list =
			strcmp(req->props.etag, p->props->etag) == 0 && /* P3 */
			tier_list_digest(req->blocks.blocks,
				req->blocks.blocks_nr, p->props->size_bytes,
				p->props->list);
		return 0;
	case BLOB_STOPPED:
		return -EINTR;
	case BLOB_UNAVAILABLE:
	case BLOB_DENIED:
	case BLOB_NO_CONTAINER:
		return -EIO;
	default:
		return 0; /* gone, or no block blob: no proof */
	}
}

static void list_taken(void *arg)
{
	struct proof *p = arg;
	struct tier *tier = p->tier;

	p->done(p->arg, take_list(p));
	blob_req_fini(&p->req);
	free(p);
	tier_answered(tier);
}

static void list_answered(struct blob_req *req)
{
	struct proof *p = req->arg;

	base_post(p->tier->env, list_taken, p);
}

static void ask(struct proof *p, const char *name)
{
	p->req.op = BLOB_GET_BLOCKS;
	p->req.name = name;
	p->req.arg = p;
	p->req.done = list_answered;
	tier_submit(p->tier, &p->req);
}

void tier_proof_ask(struct tier *tier, const char *name,
	struct blob_props *props, void (*done)(void *arg, int err), void *arg)
{
	struct proof *p = base_calloc(1, sizeof(*p));

	p->tier = tier;
	p->props = props;
	p->done = done;
	p->arg = arg;
	ask(p, name);
}

/* ---- ahead of the need ---- */

static int note(struct proof *p)
{
	struct cache_remote remote;
	struct cache_txn *txn;
	int err = cache_write(p->tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_remote_get(txn, p->name, &remote);
	if (err == 0) {
		if (strcmp(remote.etag, p->own.etag) == 0) {
			remote.has_list = true;
			memcpy(remote.list, p->own.list, sizeof(remote.list));
			err = cache_remote_put(txn, &remote);
		}
		cache_remote_fini(&remote);
	}
	return cache_end(txn, err);
}

static void learned(void *arg, int err)
{
	struct proof *p = arg;

	if (err == 0 && p->own.has_list)
		note(p);
	free(p->name);
}

static void learn(void *arg)
{
	struct proof *p = arg;

	ask(p, p->name);
}

void tier_proof_learn(struct tier *tier, const char *name, uint64_t size_bytes,
	const char *etag)
{
	struct proof *p = base_calloc(1, sizeof(*p));

	p->tier = tier;
	p->name = base_strdup(name);
	p->own.size_bytes = size_bytes;
	snprintf(p->own.etag, sizeof(p->own.etag), "%s", etag);
	p->props = &p->own;
	p->done = learned;
	p->arg = p;
	base_post(tier->env, learn, p);
}
