/*
 * One name, asked for alone: HEAD, and where there is no blob, whether
 * something lies below it.
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

uint64_t tier_name_hash(uint64_t parent, const char *name)
{
	/* FNV-1a over the parent's number and the name, then mixed: keys are
	 * not an attack surface here, a collision costs one walk. */
	uint64_t h = 14695981039346656037ULL;

	for (unsigned i = 0; i < 8; i++)
		h = (h ^ ((parent >> (8 * i)) & 0xff)) * 1099511628211ULL;
	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 1099511628211ULL;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ULL;
	return h ^ (h >> 32);
}

static void ask_end(struct refresh *r, int err)
{
	if (err == 0)
		tier_list_asked(r->lists, r->ino, r->name);
	blob_req_fini(&r->req);
	free(r->path);
	free(r->only);
	free(r->dir);
	tier_refresh_end(r, err);
}

/* Writes down what was learned: an entry, or absence. */
static int learn(struct refresh *r, const struct blob_entry *entry)
{
	struct tier *t = r->lists->tier;
	char shown[CACHE_NAME_MAX + 1];
	struct base_str path = BASE_STR_INIT;
	struct cache_txn *txn;
	int err = cache_write(t->cache, &txn);

	if (err < 0)
		return err;
	err = cache_path_join(txn, r->ino, r->name, &path);
	if (err == 0 && strcmp(path.data, r->path) != 0)
		err = -ESTALE; /* renamed meanwhile */
	base_str_fini(&path);
	if (err == 0 && entry != NULL)
		err = tier_merge_entry(
			t, txn, r->ino, entry, r->start_seq, shown);
	if (err == 0 && entry != NULL && entry->prefix)
		err = tier_merge_unmarked(
			t, txn, r->ino, r->name, r->start_seq);
	if (err == 0 && entry == NULL)
		err = tier_merge_absent(t, txn, r->ino, r->name, r->start_seq);
	return cache_end(txn, err);
}

static int ask_err(const struct blob_req *req)
{
	if (req->result == BLOB_STOPPED)
		return -EINTR;
	if (req->result == BLOB_DENIED)
		return -EACCES;
	return req->result == BLOB_OK ? 0 : -EIO;
}

static void absence_confirmed(void *arg, int err)
{
	struct refresh *r = arg;

	ask_end(r, err < 0 ? -EIO : learn(r, NULL));
}

/* D5 */
static void learn_absence(struct refresh *r)
{
	struct tier *t = r->lists->tier;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	bool shown;
	int err = cache_read(t->cache, &txn);

	if (err < 0) {
		ask_end(r, err);
		return;
	}
	shown = cache_dentry_get(txn, r->ino, r->name, &dentry) != -ENOENT;
	cache_abort(txn);
	if (shown)
		tier_confirm(t, absence_confirmed, r);
	else
		ask_end(r, learn(r, NULL));
}

static void below_taken(void *arg)
{
	struct refresh *r = arg;
	struct tier *t = r->lists->tier;
	struct blob_entry entry = { .name = r->path, .prefix = true };
	int err = ask_err(&r->req);

	if (err == 0 && r->req.page.entries_nr > 0)
		err = learn(r, &entry);
	if (err == 0 && r->req.page.entries_nr == 0 && r->req.page.next == NULL)
		learn_absence(r);
	else
		ask_end(r, err);
	tier_answered(t);
}

static void below_answered(struct blob_req *req)
{
	struct refresh *r = req->arg;

	base_post(r->lists->tier->env, below_taken, r);
}

/* No blob of that name: is it a prefix? */
static void ask_below(struct refresh *r)
{
	struct base_str only = BASE_STR_INIT;
	size_t len;

	base_str_puts(&only, r->name);
	base_str_putc(&only, '/');
	blob_req_fini(&r->req);
	memset(&r->req, 0, sizeof(r->req));
	r->only = base_str_take(&only);
	r->req.op = BLOB_LIST;
	tier_path_last(r->path, &len);
	r->dir = base_strdup(r->path);
	r->dir[len] = '\0';
	r->req.name = r->dir;
	r->req.in.list.only = r->only;
	r->req.in.list.max = 1;
	r->req.done = below_answered;
	r->req.arg = r;
	tier_submit(r->lists->tier, &r->req);
}

/* What the store says of the name is known as well as it can be. */
static void head_known(void *arg, int err)
{
	struct refresh *r = arg;
	struct blob_entry entry = { .name = r->path, .props = r->req.props };

	if (err == 0)
		err = learn(r, &entry);
	ask_end(r, err);
}

/* Do other bytes have to be told from other metadata? */
static bool wants_proof(struct refresh *r)
{
	struct cache_txn *txn;
	bool wants;

	if (cache_read(r->lists->tier->cache, &txn) < 0)
		return false;
	wants = tier_proof_wanted(txn, r->path, &r->req.props);
	cache_abort(txn);
	return wants;
}

static void head_taken(void *arg)
{
	struct refresh *r = arg;
	struct tier *t = r->lists->tier;

	if (r->req.result == BLOB_NOT_FOUND)
		ask_below(r);
	else if (r->req.result == BLOB_OK && wants_proof(r))
		tier_proof_ask(t, r->path, &r->req.props, head_known, r);
	else
		head_known(r, ask_err(&r->req));
	tier_answered(t);
}

static void head_answered(struct blob_req *req)
{
	struct refresh *r = req->arg;

	base_post(r->lists->tier->env, head_taken, r);
}

void tier_ask(struct refresh *r)
{
	struct tier *t = r->lists->tier;
	struct base_str path = BASE_STR_INIT;
	struct cache_txn *txn;
	int err = cache_read(t->cache, &txn);

	if (err == 0) {
		err = cache_path_join(txn, r->ino, r->name, &path);
		cache_abort(txn);
	}
	if (err == 0 && atomic_load(&t->stopping))
		err = -EINTR;
	if (err < 0) {
		base_str_fini(&path);
		tier_refresh_end(r, err);
		return;
	}
	r->path = base_str_take(&path);
	r->start_seq = tier_tick(t);
	memset(&r->req, 0, sizeof(r->req));
	r->req.op = BLOB_HEAD;
	r->req.name = r->path;
	r->req.done = head_answered;
	r->req.arg = r;
	tier_submit(t, &r->req);
}
