/* Conditions and leases: what a request may do to the blob it finds. */
#include "tests/blobd/ops.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool etag_is(const char *given, const struct blobd_blob *b)
{
	char etag[BLOBD_ETAG_BYTES];
	size_t len = strlen(given);

	if (strcmp(given, "*") == 0)
		return true;
	if (len >= 2 && given[0] == '"' && given[len - 1] == '"') {
		given++;
		len -= 2;
	}
	blobd_etag_text(b->etag, etag);
	return len == strlen(etag) && memcmp(given, etag, len) == 0;
}

bool blobd_cond_check(
	struct blobd_req *req, const struct blobd_blob *b, enum blobd_cond cond)
{
	const char *match = blobd_req_header(req, "If-Match");
	const char *none = blobd_req_header(req, "If-None-Match");
	const char *code = cond == BLOBD_COND_COPY ? "TargetConditionNotMet"
						   : "ConditionNotMet";

	if (match != NULL && none != NULL)
		return blobd_reply_error(
			req, 400, "MultipleConditionHeadersNotSupported", NULL);
	if (match != NULL && (b == NULL || !etag_is(match, b)))
		return blobd_reply_error(req, 412, code, NULL);
	if (none == NULL || b == NULL || cond == BLOBD_COND_DELETE ||
		!etag_is(none, b))
		return true;
	if (cond == BLOBD_COND_READ)
		return blobd_reply_error(req, 304, code, NULL);
	if (strcmp(none, "*") == 0)
		return blobd_reply_error(req, 409, "BlobAlreadyExists", NULL);
	return blobd_reply_error(req, 412, code, NULL);
}

bool blobd_cond_source(struct blobd_req *req, const struct blobd_blob *b)
{
	const char *match = blobd_req_header(req, "x-ms-source-if-match");
	const char *none = blobd_req_header(req, "x-ms-source-if-none-match");

	if ((match != NULL && !etag_is(match, b)) ||
		(none != NULL && etag_is(none, b)))
		return blobd_reply_error(
			req, 412, "SourceConditionNotMet", NULL);
	return true;
}

const char *blobd_lease_state(const struct blobd_blob *b)
{
	const struct blobd_lease *l = b->lease;
	int64_t now = blobd_now_ns();

	if (l == NULL)
		return "available";
	if (l->broken)
		return now < l->broken_ns ? "breaking" : "broken";
	if (l->duration_s >= 0 && now >= l->ends_ns)
		return "expired";
	return "leased";
}

static bool lease_holds(const struct blobd_blob *b)
{
	const char *state = blobd_lease_state(b);

	return strcmp(state, "leased") == 0 || strcmp(state, "breaking") == 0;
}

/* An id that was given must be that of a lease that holds. */
static bool check_given(
	struct blobd_req *req, const struct blobd_blob *b, const char *given)
{
	const char *code = "LeaseNotPresentWithBlobOperation";

	if (b != NULL && b->lease != NULL && lease_holds(b)) {
		if (strcasecmp(given, b->lease->id) == 0)
			return true;
		code = "LeaseIdMismatchWithBlobOperation";
	} else if (b != NULL && b->lease != NULL) {
		code = "LeaseLost";
	}
	return blobd_reply_error(req, 412, code, NULL);
}

bool blobd_lease_check_read(struct blobd_req *req, const struct blobd_blob *b)
{
	const char *given = blobd_req_header(req, "x-ms-lease-id");

	return given == NULL || check_given(req, b, given);
}

bool blobd_lease_check_write(struct blobd_req *req, struct blobd_blob *b)
{
	const char *given = blobd_req_header(req, "x-ms-lease-id");

	if (given != NULL)
		return check_given(req, b, given);
	if (b == NULL || b->lease == NULL)
		return true;
	if (lease_holds(b))
		return blobd_reply_error(req, 412, "LeaseIdMissing", NULL);
	/* A write ends what an expired lease's holder could still renew. */
	free(b->lease);
	b->lease = NULL;
	return true;
}

bool blobd_may_change(struct blobd_req *req, const struct blobd_blob *b)
{
	if (b == NULL)
		return true;
	if (b->immutable)
		return blobd_reply_error(
			req, 409, "BlobImmutableDueToPolicy", NULL);
	if (b->copy != NULL && strcmp(b->copy->status, "pending") == 0)
		return blobd_reply_error(
			req, 409, "PendingCopyOperation", NULL);
	return true;
}
