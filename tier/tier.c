/*
 * Opens and closes tier/, and keeps what its parts share: pending calls, the
 * count of requests under way, the store's state.
 */
#include "tier/ahead.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- pending calls ---- */

void tier_calls_add(struct tier_calls *calls, struct tier_call *call)
{
	call->next = calls->first;
	call->prev = &calls->first;
	if (call->next != NULL)
		call->next->prev = &call->next;
	calls->first = call;
}

static void remove_call(struct tier_call *call)
{
	*call->prev = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	call->prev = NULL;
	call->next = NULL;
}

static void call_done(void *arg)
{
	struct tier_call *call = arg;

	call->done(call, call->err);
}

void tier_call_end(struct tier *tier, struct tier_call *call, int err)
{
	call->err = err;
	base_post(tier->env, call_done, call);
}

void tier_calls_end(struct tier *tier, struct tier_calls *calls, int err)
{
	struct tier_call *call;

	while ((call = calls->first) != NULL) {
		remove_call(call);
		tier_call_end(tier, call, err);
	}
}

void tier_cancel(struct tier *tier, struct tier_call *call)
{
	if (!tier_fetch_cancel(tier, call) && !tier_list_cancel(tier, call) &&
		!tier_target_cancel(tier, call))
		tier_flush_cancel(tier, call);
}

/* ---- requests ---- */

uint64_t tier_tick(struct tier *tier)
{
	return atomic_fetch_add(&tier->known_seq, 1) + 1;
}

static void end_unsent(struct blob_req *req, enum blob_result result, int err,
	const char *code)
{
	req->result = result;
	req->err = err;
	snprintf(req->code, sizeof(req->code), "%s", code);
	req->done(req);
}

/* After tier_stop() the store may go away at any time: nothing more reaches
 * it.  So the lock is held over a call of the store's, which never waits. */
void tier_submit_probe(struct tier *tier, struct blob_req *req)
{
	bool stopped;

	base_lock(&tier->mutex);
	tier->requests++;
	stopped = atomic_load(&tier->stopping);
	if (!stopped)
		blob_submit(tier->store, req);
	base_unlock(&tier->mutex);
	if (stopped)
		end_unsent(req, BLOB_STOPPED, -EINTR, "Stopped");
}

void tier_submit(struct tier *tier, struct blob_req *req)
{
	if (!atomic_load(&tier->suspect)) {
		tier_submit_probe(tier, req);
		return;
	}
	base_lock(&tier->mutex);
	tier->requests++;
	base_unlock(&tier->mutex);
	end_unsent(req, BLOB_UNAVAILABLE, -EIO, "ContainerUnknown");
}

void tier_suspect(struct tier *tier)
{
	atomic_store(&tier->suspect, true);
}

void tier_answered(struct tier *tier)
{
	base_lock(&tier->mutex);
	if (--tier->requests == 0)
		pthread_cond_broadcast(&tier->idle);
	base_unlock(&tier->mutex);
}

/* ---- life ---- */

int tier_open(const struct tier_config *config, struct tier **ret_tier)
{
	struct tier *t = base_calloc(1, sizeof(*t));
	struct cache_txn *txn;
	uint64_t seq = 0;
	int err;

	t->cfg = *config;
	t->host_name = base_strdup(config->host_name);
	t->cfg.host_name = t->host_name;
	if (t->cfg.refuse_wait_ns == 0)
		t->cfg.refuse_wait_ns = TIER_REFUSE_WAIT_NS;
	if (t->cfg.sent_expiry_ns == 0)
		t->cfg.sent_expiry_ns = TIER_SENT_EXPIRY_NS;
	t->cache = config->cache;
	t->store = config->store;
	t->env = config->env;
	t->store_up = true;
	base_mutex_init(&t->mutex, BASE_RANK_TIER);
	base_cond_init(&t->idle);
	err = cache_read(t->cache, &txn);
	if (err == 0) {
		err = cache_remote_max_seq(txn, &seq);
		cache_abort(txn);
	}
	atomic_init(&t->known_seq, seq + 1);
	t->gone = tier_gone_new();
	if (err == 0)
		err = tier_order_open(t);
	if (err == 0)
		err = tier_aheads_open(t);
	if (err == 0)
		err = tier_fetches_open(t);
	if (err == 0)
		err = tier_lists_open(t);
	tier_dirs_open(t);
	if (err == 0)
		err = tier_line_open(t);
	if (err < 0) {
		tier_close(t);
		return err;
	}
	*ret_tier = t;
	return 0;
}

void tier_start(struct tier *tier)
{
	tier_line_start(tier);
}

void tier_stop(struct tier *tier)
{
	tier_dirs_enter(tier, 0);
	base_lock(&tier->mutex);
	atomic_store(&tier->stopping, true);
	base_unlock(&tier->mutex);
	tier_line_stop(tier);
	tier_aheads_stop(tier);
	tier_fetches_stop(tier);
	tier_lists_stop(tier);
}

void tier_close(struct tier *tier)
{
	if (tier == NULL)
		return;
	tier_line_close(tier);
	tier_fetches_close(tier);
	tier_aheads_close(tier);
	tier_lists_close(tier);
	tier_gone_free(tier->gone);
	tier_dirs_close(tier);
	base_mutex_fini(&tier->mutex);
	free(tier->host_name);
	free(tier);
}

void tier_store_state(struct tier *tier, bool up, const char *why)
{
	bool was;

	base_lock(&tier->mutex);
	was = tier->store_up;
	tier->store_up = up;
	snprintf(
		tier->store_why, sizeof(tier->store_why), "%s", why ? why : "");
	base_unlock(&tier->mutex);
	if (was && !up)
		log_warn("the store does not answer: %s; local files go on",
			why ? why : "no reason known");
	if (!was && up) {
		log_info("the store answers again");
		tier_line_store_up(tier);
	}
}

void tier_count_hit(struct tier *tier, uint64_t bytes)
{
	atomic_fetch_add(&tier->hit_bytes, bytes);
}

const char *tier_path_last(const char *path, size_t *ret_parent_len)
{
	const char *slash = strrchr(path, '/');

	*ret_parent_len = slash ? (size_t)(slash - path) : 0;
	return slash ? slash + 1 : path;
}

int tier_status(struct tier *tier, struct tier_status *ret)
{
	struct cache_owed_totals totals = { 0 };
	struct cache_counts counts = { 0 };
	struct cache_txn *txn;
	int err;

	memset(ret, 0, sizeof(*ret));
	err = cache_read(tier->cache, &txn);
	if (err < 0)
		return err;
	err = cache_owed_totals(txn, &totals);
	if (err == 0)
		err = cache_counts_get(txn, &counts);
	cache_abort(txn);
	if (err < 0)
		return err;
	ret->pending = totals.rows;
	ret->dirty_bytes = totals.bytes;
	ret->set_aside = totals.aside;
	ret->dirty_files = counts.dirty_files;
	ret->conflicts = counts.conflicts;
	ret->unconfirmed = counts.unconfirmed;
	ret->recovered = counts.recovered;
	if (totals.oldest_ns > 0)
		ret->oldest_dirty_ns =
			base_boot_ns(tier->env) - totals.oldest_ns;
	ret->groups = tier->order.groups;
	ret->hit_bytes = tier->hit_bytes;
	ret->miss_bytes = tier->miss_bytes;
	ret->sent_bytes = tier->sent_bytes;
	base_lock(&tier->mutex);
	ret->store_up = tier->store_up;
	snprintf(ret->store_why, sizeof(ret->store_why), "%s", tier->store_why);
	base_unlock(&tier->mutex);
	tier_ahead_status(tier, ret);
	tier_line_status(tier, ret);
	return 0;
}
