/*
 * Leases: see ops.h.
 *
 *   available --acquire--> leased --time--> expired --acquire, renew--> leased
 *   leased --release--> available      leased --break--> breaking --> broken
 *   broken --acquire--> leased         any write, expired --> available
 *
 * The state is worked out from the clock (blobd_lease_state): nothing runs.
 */
#include "tests/blobd/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/blobd/log.h"

static bool fail(struct blobd_req *req, unsigned status, const char *code)
{
	return blobd_reply_error(req, status, code, NULL);
}

static bool state_is(const struct blobd_blob *b, const char *state)
{
	return strcmp(blobd_lease_state(b), state) == 0;
}

static bool id_is(const struct blobd_blob *b, const char *id)
{
	return b->lease != NULL && id != NULL &&
		strcasecmp(b->lease->id, id) == 0;
}

static void set_id(struct blobd_lease *l, const char *id)
{
	static unsigned nr; /* under the store's lock */

	if (id != NULL)
		snprintf(l->id, sizeof(l->id), "%.63s", id);
	else
		snprintf(l->id, sizeof(l->id), "1ea5e000-0000-4000-8000-%012x",
			++nr);
}

static void begin(struct blobd_lease *l)
{
	l->broken = false;
	l->ends_ns = blobd_now_ns() + l->duration_s * INT64_C(1000000000);
}

static bool acquire(struct blobd_req *req, struct blobd_blob *b)
{
	const char *duration = blobd_req_header(req, "x-ms-lease-duration");
	const char *id = blobd_req_header(req, "x-ms-proposed-lease-id");
	int seconds = duration != NULL ? atoi(duration) : 0;

	if (seconds != -1 && (seconds < 15 || seconds > 60))
		return fail(req, 400, "InvalidHeaderValue");
	if (state_is(b, "breaking"))
		return fail(req, 409,
			id_is(b, id) ? "LeaseIsBreakingAndCannotBeAcquired"
				     : "LeaseAlreadyPresent");
	if (state_is(b, "leased") && !id_is(b, id))
		return fail(req, 409, "LeaseAlreadyPresent");
	if (b->lease == NULL)
		b->lease = base_calloc(1, sizeof(*b->lease));
	set_id(b->lease, id);
	b->lease->duration_s = seconds;
	begin(b->lease);
	req->reply.status = 201;
	return true;
}

static bool renew(struct blobd_req *req, struct blobd_blob *b, const char *id)
{
	if (!id_is(b, id))
		return fail(req, 409, "LeaseIdMismatchWithLeaseOperation");
	if (b->lease->broken)
		return fail(req, 409, "LeaseIsBrokenAndCannotBeRenewed");
	begin(b->lease);
	req->reply.status = 200;
	return true;
}

static bool release(struct blobd_req *req, struct blobd_blob *b, const char *id)
{
	if (!id_is(b, id))
		return fail(req, 409, "LeaseIdMismatchWithLeaseOperation");
	free(b->lease);
	b->lease = NULL;
	req->reply.status = 200;
	return true;
}

static bool change(struct blobd_req *req, struct blobd_blob *b, const char *id)
{
	const char *to = blobd_req_header(req, "x-ms-proposed-lease-id");

	if (to == NULL)
		return fail(req, 400, "MissingRequiredHeader");
	if (b->lease == NULL || state_is(b, "expired"))
		return fail(req, 409, "LeaseNotPresentWithLeaseOperation");
	if (b->lease->broken)
		return fail(req, 409, "LeaseIsBreakingAndCannotBeChanged");
	if (!id_is(b, id) && !id_is(b, to))
		return fail(req, 409, "LeaseIdMismatchWithLeaseOperation");
	set_id(b->lease, to);
	req->reply.status = 200;
	return true;
}

static bool break_lease(struct blobd_req *req, struct blobd_blob *b)
{
	const char *period = blobd_req_header(req, "x-ms-lease-break-period");
	struct blobd_lease *l = b->lease;
	int64_t now = blobd_now_ns(), left_ns, asked_ns;

	if (l == NULL)
		return fail(req, 409, "LeaseNotPresentWithLeaseOperation");
	if (!l->broken) {
		left_ns = l->duration_s < 0 ? 0 : l->ends_ns - now;
		if (left_ns < 0)
			left_ns = 0;
		asked_ns = period != NULL ? atoi(period) * INT64_C(1000000000)
					  : left_ns;
		if (l->duration_s >= 0 && asked_ns > left_ns)
			asked_ns = left_ns;
		l->broken = true;
		l->broken_ns = now + asked_ns;
	}
	left_ns = l->broken_ns > now ? l->broken_ns - now : 0;
	req->reply.status = 202;
	blobd_reply_printf(req, "x-ms-lease-time", "%lld",
		(long long)((left_ns + 999999999) / 1000000000));
	return true;
}

static struct blobd_record *lease_locked(
	struct blobd_req *req, const char *action)
{
	const char *id = blobd_req_header(req, "x-ms-lease-id");
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	bool ok;

	if (b == NULL || !blobd_cond_check(req, b, BLOBD_COND_WRITE))
		return NULL;
	if (strcmp(action, "acquire") == 0)
		ok = acquire(req, b);
	else if (strcmp(action, "renew") == 0)
		ok = renew(req, b, id);
	else if (strcmp(action, "release") == 0)
		ok = release(req, b, id);
	else if (strcmp(action, "change") == 0)
		ok = change(req, b, id);
	else if (strcmp(action, "break") == 0)
		ok = break_lease(req, b);
	else
		ok = fail(req, 400, "InvalidHeaderValue");
	if (!ok)
		return NULL;
	blobd_reply_etag(req, b);
	if (b->lease != NULL && !b->lease->broken)
		blobd_reply_header(req, "x-ms-lease-id", b->lease->id);
	return blobd_log_add(req, "lease", req->container, req->name, b->etag,
		b, b->content->size, action);
}

void blobd_op_lease(struct blobd_req *req)
{
	const char *action = blobd_req_header(req, "x-ms-lease-action");
	struct blobd_record *record;

	blobd_store_wrlock();
	record = lease_locked(req, action != NULL ? action : "");
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
}
