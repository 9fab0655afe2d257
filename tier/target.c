/*
 * Where a symlink points: the content of its blob, fetched when somebody asks.
 *
 * A target that was fetched is kept with its inode; a symlink whose blob holds
 * another target is another inode (merge.c), so that what is kept is right.
 *
 * Threads: the list of those under way is under tier->mutex; a target belongs
 * to its request until that is answered, then to the task that takes the
 * answer.  Its call may end earlier, by tier_cancel().
 */
#include "tier/priv.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* The kernel takes no longer one. */
#define TARGET_MAX (PATH_MAX - 1)

struct tier_target {
	struct tier *tier;
	struct tier_target *next;
	struct tier_call *call; /* under the mutex; NULL: was cancelled */
	uint64_t ino;
	struct cache_id content;
	char *source;
	char etag[CACHE_ETAG_MAX];
	struct blob_req req;
	bool too_long;
	size_t len;
	char target[TARGET_MAX + 1];
};

/* Takes it off the list, and its call with it. */
static struct tier_call *take_off(struct tier_target *target)
{
	struct tier *t = target->tier;
	struct tier_target **at;
	struct tier_call *call;

	base_lock(&t->mutex);
	for (at = &t->targets; *at != target; at = &(*at)->next)
		;
	*at = target->next;
	call = target->call;
	base_unlock(&t->mutex);
	return call;
}

bool tier_target_cancel(struct tier *t, struct tier_call *call)
{
	struct tier_target *target;

	base_lock(&t->mutex);
	for (target = t->targets; target != NULL; target = target->next) {
		if (target->call == call)
			break;
	}
	if (target != NULL)
		target->call = NULL;
	base_unlock(&t->mutex);
	if (target != NULL)
		tier_call_end(t, call, -EINTR);
	return target != NULL;
}

static int store_target(struct tier_target *target)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = cache_write(target->tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, target->ino, &inode);
	if (err == 0 && !cache_id_eq(&inode.content, &target->content))
		err = -ESTALE;
	if (err == 0)
		err = cache_target_set(txn, target->ino, target->target);
	err = cache_end(txn, err);
	return err == -ENOENT ? -ESTALE : err;
}

static int result_err(const struct tier_target *target)
{
	if (target->too_long)
		return -EBADMSG;
	switch (target->req.result) {
	case BLOB_OK:
		/* Nothing can point nowhere, nor past a NUL. */
		return target->len > 0 && strlen(target->target) == target->len
			? 0
			: -EBADMSG;
	case BLOB_NOT_FOUND:
	case BLOB_CONDITION:
	case BLOB_BAD_RANGE:
		return -ESTALE;
	case BLOB_STOPPED:
		return -EINTR;
	case BLOB_DENIED:
		return -EACCES;
	default:
		return -EIO;
	}
}

static void answer_taken(void *arg)
{
	struct tier_target *target = arg;
	struct tier *t = target->tier;
	struct tier_call *call;
	int err = result_err(target);

	if (err == 0)
		err = store_target(target);
	if (err == 0)
		atomic_fetch_add(&t->miss_bytes, target->len);
	if (err == -ESTALE)
		tier_list_recheck(t, target->source, NULL);
	call = take_off(target);
	if (call != NULL)
		tier_call_end(t, call, err);
	blob_req_fini(&target->req);
	free(target->source);
	free(target);
	tier_answered(t);
}

static void answered(struct blob_req *req)
{
	struct tier_target *target = req->arg;

	base_post(target->tier->env, answer_taken, target);
}

static int take_data(struct blob_req *req, const void *buf, size_t len)
{
	struct tier_target *target = req->arg;

	target->too_long = len > TARGET_MAX - target->len;
	if (target->too_long)
		return -EIO;
	memcpy(target->target + target->len, buf, len);
	target->len += len;
	return 0;
}

/* Where its bytes are now; -ESTALE if nowhere. */
static int find_source(struct tier_target *target, struct cache_txn *txn)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_remote remote;
	struct cache_inode inode;
	int err = cache_inode_get(txn, target->ino, &inode);

	if (err == 0 && inode.kind != CACHE_SYMLINK)
		err = -EINVAL;
	if (err < 0)
		return err;
	target->content = inode.content;
	err = cache_path_of(txn, inode.ino, &path);
	if (err == 0 || err == -ENOENT)
		err = cache_remote_holding(txn, &inode.content,
			err == 0 ? path.data : NULL, &remote);
	base_str_fini(&path);
	if (err < 0)
		return err == -ENOENT ? -ESTALE : err;
	target->source = base_strdup(remote.name);
	memcpy(target->etag, remote.etag, sizeof(target->etag));
	cache_remote_fini(&remote);
	return 0;
}

void tier_fetch_target(struct tier *t, uint64_t ino, struct tier_call *call)
{
	struct tier_target *target = base_calloc(1, sizeof(*target));
	struct cache_txn *txn;
	int err = cache_read(t->cache, &txn);

	target->tier = t;
	target->ino = ino;
	target->call = call;
	if (err == 0) {
		err = find_source(target, txn);
		cache_abort(txn);
	}
	if (err < 0) {
		free(target->source);
		free(target);
		tier_call_end(t, call, err);
		return;
	}
	target->req.op = BLOB_GET;
	target->req.name = target->source;
	target->req.cond.if_match = target->etag;
	target->req.in.get.data = take_data;
	target->req.done = answered;
	target->req.arg = target;
	base_lock(&t->mutex);
	target->next = t->targets;
	t->targets = target;
	base_unlock(&t->mutex);
	tier_submit(t, &target->req);
}
