/*
 * Copy Blob, synchronous and asynchronous: see ops.h.
 *
 * A pending copy: the destination is a committed blob of 0 bytes; the content
 * waits in its struct blobd_copy until the timer brings it, if the blob still
 * carries that copy.
 */
#include "tests/blobd/ops.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"

#define SYNC_MAX_BYTES (UINT64_C(256) << 20)

static struct {
	pthread_mutex_t mutex;
	int64_t pending_ms; /* under mutex; -1: asynchronous ones end at once */
	const char *outcome;
	unsigned ids_nr;
} mode = { PTHREAD_MUTEX_INITIALIZER, -1, "success", 0 };

void blobd_copy_set_pending(int64_t ms, const char *outcome)
{
	pthread_mutex_lock(&mode.mutex);
	mode.pending_ms = ms;
	mode.outcome = "success";
	if (outcome != NULL && strcmp(outcome, "failed") == 0)
		mode.outcome = "failed";
	if (outcome != NULL && strcmp(outcome, "aborted") == 0)
		mode.outcome = "aborted";
	pthread_mutex_unlock(&mode.mutex);
}

/* The end of a pending copy, to come. */
struct ending {
	char *container, *name;
	char id[40];
	const char *outcome;
};

static struct blobd_record *end_locked(const struct ending *e)
{
	struct blobd_container *c = blobd_store_container(e->container);
	struct blobd_blob *b = c ? blobd_blob_visible(c, e->name) : NULL;
	uint64_t before;

	if (b == NULL || b->copy == NULL || strcmp(b->copy->id, e->id) != 0 ||
		strcmp(b->copy->status, "pending") != 0)
		return NULL;
	before = b->etag;
	b->copy->status = e->outcome;
	b->copy->completed = time(NULL);
	if (strcmp(e->outcome, "success") == 0) {
		blobd_content_put(b->content);
		b->content = b->copy->content;
		b->copy->content = NULL;
		b->blocks = b->copy->blocks;
		b->copy->blocks = NULL;
	}
	blobd_blob_touch(b);
	return blobd_log_add(NULL, "copy-end", e->container, e->name, before, b,
		b->content->size, e->outcome);
}

static void end_copy(void *arg)
{
	struct ending *e = arg;
	struct blobd_record *record;

	blobd_store_wrlock();
	record = end_locked(e);
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
	free(e->container);
	free(e->name);
	free(e);
}

/* One copy: what the source gives (references are ours), how it will end. */
struct source {
	char *container, *name;
	struct blobd_content *content;
	struct blobd_props *props;
	struct blobd_blocks *blocks;
	enum blobd_type type;
	int64_t pending_ms; /* -1: ends at once */
	const char *outcome;
	char copy_id[40];
};

static void source_fini(struct source *s)
{
	free(s->container);
	free(s->name);
	blobd_content_put(s->content);
	blobd_props_put(s->props);
	blobd_blocks_put(s->blocks);
}

/* Under the lock.  False: replied. */
static bool source_read(struct blobd_req *req, struct source *s, bool sync)
{
	struct blobd_container *c = blobd_store_container(s->container);
	struct blobd_blob *b = c ? blobd_blob_visible(c, s->name) : NULL;

	if (b == NULL)
		return blobd_reply_error(req, 404, "BlobNotFound", NULL);
	if (!blobd_cond_source(req, b))
		return false;
	if (b->tier != NULL && strcmp(b->tier, "Archive") == 0)
		return blobd_reply_error(req, 409, "BlobArchived", NULL);
	if (b->copy != NULL && strcmp(b->copy->status, "pending") == 0)
		return blobd_reply_error(
			req, 409, "PendingCopyOperation", NULL);
	if (sync && b->type != BLOBD_BLOCK_BLOB)
		return blobd_reply_error(
			req, 409, "InvalidSourceBlobType", NULL);
	if (sync && b->content->size > SYNC_MAX_BYTES)
		return blobd_reply_error(
			req, 409, "CannotVerifyCopySource", NULL);
	s->content = blobd_content_get(b->content);
	s->props = blobd_props_get(b->props);
	s->blocks = blobd_blocks_get(b->blocks);
	s->type = b->type;
	return true;
}

/* May the destination be overwritten?  NULL is fine.  False: replied. */
static bool target_fine(
	struct blobd_req *req, struct blobd_blob *b, const struct source *s)
{
	if (!blobd_cond_check(req, b, BLOBD_COND_COPY) ||
		!blobd_lease_check_write(req, b) || !blobd_may_change(req, b))
		return false;
	if (b == NULL)
		return true;
	if (b->type != s->type)
		return blobd_reply_error(req, 409, "InvalidBlobType", NULL);
	/* Even its holder may not, unless it is for ever. */
	if (strcmp(blobd_lease_state(b), "leased") == 0 &&
		b->lease->duration_s >= 0)
		return blobd_reply_error(
			req, 412, "InfiniteLeaseDurationRequired", NULL);
	return true;
}

/* Not under the lock: a timer that was stopped calls at once. */
static void plan_end(struct blobd_req *req, const struct source *s)
{
	struct ending *e = base_calloc(1, sizeof(*e));

	e->container = base_strdup(req->container);
	e->name = base_strdup(req->name);
	snprintf(e->id, sizeof(e->id), "%s", s->copy_id);
	e->outcome = s->outcome;
	blobd_timer_after(s->pending_ms * 1000000, end_copy, e);
}

static struct blobd_copy *copy_new(
	const char *source, const char *status, uint64_t total)
{
	struct blobd_copy *copy = base_calloc(1, sizeof(*copy));
	unsigned nr;

	pthread_mutex_lock(&mode.mutex);
	nr = ++mode.ids_nr;
	pthread_mutex_unlock(&mode.mutex);
	snprintf(copy->id, sizeof(copy->id), "c0b1e500-0000-4000-8000-%012x",
		nr);
	copy->source = base_strdup(source);
	copy->status = status;
	copy->completed = time(NULL);
	copy->total = total;
	return copy;
}

/* The copied properties: metadata that were given replace all there are. */
static struct blobd_props *target_props(
	const struct source *s, struct blobd_props *given, bool has_meta)
{
	struct blobd_props *p = blobd_props_dup(s->props);

	if (has_meta) {
		blobd_kvs_fini(&p->meta);
		blobd_kvs_copy(&p->meta, &given->meta);
	}
	blobd_kvs_fini(&p->tags);
	blobd_kvs_copy(&p->tags, &given->tags);
	return p;
}

static struct blobd_record *copy_locked(struct blobd_req *req, struct source *s,
	struct blobd_props *given, bool sync)
{
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_copy *copy;
	struct blobd_blob *b;
	const char *tier;
	uint64_t before;
	bool pending;

	if (c == NULL || !source_read(req, s, sync))
		return NULL;
	b = blobd_blob_visible(c, req->name);
	tier = b != NULL ? b->tier : NULL;
	if (!target_fine(req, b, s) || !blobd_tier_from(req, &tier))
		return NULL;
	before = b != NULL ? b->etag : 0;
	b = blobd_blob_find(c, req->name);
	if (b == NULL)
		b = blobd_blob_add(c, req->name);
	pthread_mutex_lock(&mode.mutex);
	s->pending_ms = sync ? -1 : mode.pending_ms;
	s->outcome = mode.outcome;
	pthread_mutex_unlock(&mode.mutex);
	pending = s->pending_ms >= 0;
	b->type = s->type;
	b->tier = tier;
	copy = copy_new(blobd_req_header(req, "x-ms-copy-source"),
		pending ? "pending" : "success", s->content->size);
	snprintf(s->copy_id, sizeof(s->copy_id), "%s", copy->id);
	blobd_blob_replace(b,
		pending ? blobd_content_zero(0) : blobd_content_get(s->content),
		target_props(s, given, blobd_has_meta(req)),
		pending ? NULL : blobd_blocks_get(s->blocks));
	b->copy = copy;
	if (pending) {
		copy->content = blobd_content_get(s->content);
		copy->blocks = blobd_blocks_get(s->blocks);
	}
	blobd_reply_etag(req, b);
	blobd_reply_header(req, "x-ms-copy-id", copy->id);
	blobd_reply_header(req, "x-ms-copy-status", copy->status);
	return blobd_log_add(req, "copy", req->container, req->name, before, b,
		b->content->size, s->name);
}

void blobd_op_copy(struct blobd_req *req)
{
	const char *url = blobd_req_header(req, "x-ms-copy-source");
	const char *wants = blobd_req_header(req, "x-ms-requires-sync");
	bool sync = wants != NULL && strcmp(wants, "true") == 0;
	struct blobd_props *given = blobd_props_from(req, false);
	struct source s = { .pending_ms = -1 };
	struct blobd_record *record = NULL;

	if (given == NULL)
		goto out;
	if (strlen(url) > 2048) {
		blobd_reply_error(req, 400, "InvalidHeaderValue", NULL);
		goto out;
	}
	if (!blobd_url_split(url, &s.container, &s.name)) {
		s.container = s.name = NULL;
		blobd_reply_error(req, 404, "CannotVerifyCopySource", NULL);
		goto out;
	}
	/* A SAS speaks for what it names, not for the source. */
	if (req->auth == BLOBD_AUTH_SAS &&
		!blobd_auth_source(url, s.container, s.name)) {
		blobd_reply_error(req, 403, "CannotVerifyCopySource", NULL);
		goto out;
	}
	blobd_store_wrlock();
	record = copy_locked(req, &s, given, sync);
	blobd_store_unlock();
	if (record != NULL) {
		blobd_log_finish(record);
		req->reply.status = 202;
		if (s.pending_ms >= 0)
			plan_end(req, &s);
	}
out:
	source_fini(&s);
	blobd_props_put(given);
}

static struct blobd_record *abort_locked(struct blobd_req *req)
{
	const char *id = blobd_req_param(req, "copyid");
	struct blobd_container *c = blobd_need_container(req);
	struct blobd_blob *b = c != NULL ? blobd_need_blob(req, c) : NULL;
	uint64_t before;

	if (b == NULL)
		return NULL;
	if (b->copy == NULL || strcmp(b->copy->status, "pending") != 0) {
		blobd_reply_error(req, 409, "NoPendingCopyOperation", NULL);
		return NULL;
	}
	if (id == NULL || strcmp(id, b->copy->id) != 0) {
		blobd_reply_error(req, 409, "CopyIdMismatch", NULL);
		return NULL;
	}
	before = b->etag;
	b->copy->status = "aborted";
	b->copy->completed = time(NULL);
	blobd_blob_touch(b);
	return blobd_log_add(req, "copy-end", req->container, req->name, before,
		b, 0, "aborted");
}

void blobd_op_copy_abort(struct blobd_req *req)
{
	struct blobd_record *record;

	blobd_store_wrlock();
	record = abort_locked(req);
	blobd_store_unlock();
	if (record == NULL)
		return;
	blobd_log_finish(record);
	req->reply.status = 204;
}
