/* Retries: see retry.h for the rules. */
#include "blob/retry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool blob_op_mutates(enum blob_op op)
{
	switch (op) {
	case BLOB_PUT:
	case BLOB_COMMIT:
	case BLOB_DELETE:
	case BLOB_COPY:
	case BLOB_SET_META:
		return true;
	case BLOB_HEAD:
	case BLOB_GET:
	case BLOB_LIST:
	case BLOB_PUT_BLOCK:
	case BLOB_PUT_BLOCK_URL:
	case BLOB_GET_BLOCKS:
	case BLOB_GET_TAGS:
		return false;
	}
	return true;
}

bool blob_retry_success(enum blob_op op, int status)
{
	switch (op) {
	case BLOB_HEAD:
	case BLOB_LIST:
	case BLOB_GET_BLOCKS:
	case BLOB_GET_TAGS:
	case BLOB_SET_META:
		return status == 200;
	case BLOB_GET:
		return status == 200 || status == 206;
	case BLOB_PUT:
	case BLOB_PUT_BLOCK:
	case BLOB_PUT_BLOCK_URL:
	case BLOB_COMMIT:
		return status == 201;
	case BLOB_DELETE:
	case BLOB_COPY:
		return status == 202;
	}
	return false;
}

int blob_retry_errno(enum blob_result result)
{
	switch (result) {
	case BLOB_OK:
		return 0;
	case BLOB_NOT_FOUND:
		return -ENOENT;
	case BLOB_NO_CONTAINER:
		return -ENXIO;
	case BLOB_CONDITION:
		return -EEXIST;
	case BLOB_BAD_RANGE:
		return -ERANGE;
	case BLOB_BAD_BLOCKS:
		return -EBADE;
	case BLOB_BUSY:
		return -EBUSY;
	case BLOB_DENIED:
		return -EACCES;
	case BLOB_IMMUTABLE:
		return -EPERM;
	case BLOB_BAD_TYPE:
		return -EINVAL;
	case BLOB_NAME:
		return -ENAMETOOLONG;
	case BLOB_TOO_LARGE:
		return -E2BIG;
	case BLOB_UNSUPPORTED:
		return -EOPNOTSUPP;
	case BLOB_STOPPED:
		return -EINTR;
	case BLOB_ARCHIVED:
	case BLOB_CORRUPT:
	case BLOB_REFUSED:
	case BLOB_AMBIGUOUS:
	case BLOB_UNAVAILABLE:
		return -EIO;
	}
	return -EIO;
}

/* The service's words (x-ms-error-code) that decide alone.  A '*' at the end
 * stands for any rest.  Only the first three are a lost race. */
static const struct word {
	const char *code;
	enum blob_result result;
} words[] = {
	{ "ConditionNotMet", BLOB_CONDITION },
	{ "TargetConditionNotMet", BLOB_CONDITION },
	{ "BlobAlreadyExists", BLOB_CONDITION },
	{ "SourceConditionNotMet", BLOB_CONDITION },
	{ "BlobNotFound", BLOB_NOT_FOUND },
	{ "ContainerNotFound", BLOB_NO_CONTAINER },
	{ "ContainerBeingDeleted", BLOB_NO_CONTAINER },
	{ "ContainerDisabled", BLOB_NO_CONTAINER },
	{ "ResourceNotFound", BLOB_NO_CONTAINER },
	{ "InvalidRange", BLOB_BAD_RANGE },
	{ "InvalidBlockList", BLOB_BAD_BLOCKS },
	{ "InvalidBlockId", BLOB_BAD_BLOCKS },
	{ "InvalidBlobOrBlock", BLOB_BAD_BLOCKS },
	{ "Lease*", BLOB_BUSY },
	{ "PendingCopyOperation", BLOB_BUSY },
	{ "AuthenticationFailed", BLOB_DENIED },
	{ "InvalidAuthenticationInfo", BLOB_DENIED },
	{ "NoAuthenticationInformation", BLOB_DENIED },
	{ "Authorization*", BLOB_DENIED },
	{ "InsufficientAccountPermissions", BLOB_DENIED },
	{ "AccountIsDisabled", BLOB_DENIED },
	{ "KeyBasedAuthenticationNotPermitted", BLOB_DENIED },
	{ "PublicAccessNotPermitted", BLOB_DENIED },
	{ "UnauthorizedBlobOverwrite", BLOB_DENIED },
	{ "BlobUsesCustomerSpecifiedEncryption", BLOB_DENIED },
	{ "BlobImmutable*", BLOB_IMMUTABLE },
	{ "BlobArchived", BLOB_ARCHIVED },
	{ "BlobBeingRehydrated", BLOB_ARCHIVED },
	{ "InvalidBlobType", BLOB_BAD_TYPE },
	{ "InvalidSourceBlobType", BLOB_BAD_TYPE },
	{ "Md5Mismatch", BLOB_CORRUPT },
	{ "Crc64Mismatch", BLOB_CORRUPT },
	{ "RequestBodyTooLarge", BLOB_TOO_LARGE },
	{ "MetadataTooLarge", BLOB_TOO_LARGE },
	{ "BlockCountExceedsLimit", BLOB_TOO_LARGE },
	{ "BlockListTooLong", BLOB_TOO_LARGE },
	{ "CopySourceTooLarge", BLOB_TOO_LARGE },
	{ "InvalidResourceName", BLOB_NAME },
	{ "InvalidUri", BLOB_NAME },
	{ "FeatureNotSupported", BLOB_UNSUPPORTED },
	{ "APINotImplemented", BLOB_UNSUPPORTED },
	{ "NotImplemented", BLOB_UNSUPPORTED },
	{ "UnsupportedHeader", BLOB_UNSUPPORTED },
	{ "UnsupportedQueryParameter", BLOB_UNSUPPORTED },
	{ "UnsupportedHttpVerb", BLOB_UNSUPPORTED },
	{ "CopyAcrossAccountsNotSupported", BLOB_UNSUPPORTED },
	{ "FeatureNotYetSupported*", BLOB_UNSUPPORTED },
};

static bool word_is(const char *pattern, const char *code)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return strncmp(pattern, code, len - 1) == 0;
	return strcmp(pattern, code) == 0;
}

static const struct word *find_word(const char *code)
{
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (word_is(words[i].code, code))
			return &words[i];
	return NULL;
}

static struct blob_verdict final(enum blob_result result, const char *code)
{
	return (struct blob_verdict){ BLOB_VERDICT_FINAL, result, code };
}

static struct blob_verdict again(const char *code)
{
	return (struct blob_verdict){ BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE,
		code };
}

/* No answer that can be relied on, and the request may have been applied. */
static struct blob_verdict doubt(enum blob_op op, const char *code)
{
	if (blob_op_mutates(op))
		return final(BLOB_AMBIGUOUS, code);
	return again(code);
}

static bool transient(int status)
{
	return status == 408 || status == 429 || status >= 500;
}

/* The service could not read the source of a copy: nothing was written. */
static struct blob_verdict judge_source(const struct blob_attempt *a)
{
	int status = a->source_status ? a->source_status : a->status;

	if (status == 404)
		return final(BLOB_NOT_FOUND, NULL);
	if (status == 412 || status == 304)
		return final(BLOB_CONDITION, "SourceConditionNotMet");
	if (status == 401 || status == 403)
		return final(BLOB_DENIED, NULL);
	if (transient(status))
		return again(NULL);
	return final(BLOB_REFUSED, NULL);
}

static struct blob_verdict judge_transient(const struct blob_attempt *a)
{
	/* Azurite's refusal of what it does not implement is a 500. */
	const struct word *word = find_word(a->code);

	if (a->status == 501 ||
		(word != NULL && word->result == BLOB_UNSUPPORTED))
		return final(BLOB_UNSUPPORTED, NULL);
	/* And some of its refusals have no word at all; the service's own 500
	 * always has one. */
	if (a->status == 500 && a->code[0] == '\0' &&
		a->op == BLOB_PUT_BLOCK_URL)
		return final(BLOB_UNSUPPORTED, "NoErrorCode");
	if (a->status == 505)
		return final(BLOB_REFUSED, NULL);
	/* It says that it did not begin. */
	if (strcmp(a->code, "ServerBusy") == 0 || a->status == 429)
		return again(NULL);
	/* A 503 of the service without another word is ServerBusy too; one of
	 * a gateway says nothing about what lies behind it. */
	if (a->status == 503 && a->service && a->code[0] == '\0')
		return again("ServerBusy");
	return doubt(a->op, a->code[0] ? NULL : "ServerError");
}

static struct blob_verdict judge_refusal(const struct blob_attempt *a)
{
	const struct word *word = find_word(a->code);

	/* The service says 401 of a token that has ended, Azurite 403. */
	if (a->status == 401 || strcmp(a->code, "AuthenticationFailed") == 0)
		return (struct blob_verdict){ BLOB_VERDICT_REAUTH, BLOB_DENIED,
			NULL };
	/* One blob, not the credentials: a writer must not take the store for
	 * closed. */
	if (blob_op_mutates(a->op) &&
		strcmp(a->code, "BlobUsesCustomerSpecifiedEncryption") == 0)
		return final(BLOB_REFUSED, NULL);
	if (word != NULL)
		return final(word->result, NULL);
	/* Azurite 3.35 says this of a wrong MD5, of nothing else that we put. */
	if (strcmp(a->code, "InvalidOperation") == 0 && a->status == 400 &&
		(a->op == BLOB_PUT || a->op == BLOB_PUT_BLOCK))
		return final(BLOB_CORRUPT, "Md5Mismatch");
	if (strcmp(a->code, "BlobModifiedWhileReading") == 0)
		return again(NULL);
	switch (a->status) {
	case 403:
		return final(BLOB_DENIED, NULL);
	case 413:
		return final(BLOB_TOO_LARGE, NULL);
	case 414:
		return final(BLOB_NAME, NULL);
	case 416:
		return final(BLOB_BAD_RANGE, NULL);
	default:
		/* Also 404, 409 and 412 without a word: a gateway's 404 must
		 * not look like a deleted blob. */
		return final(BLOB_REFUSED, a->code[0] ? NULL : "NoErrorCode");
	}
}

struct blob_verdict blob_retry_judge(const struct blob_attempt *a)
{
	bool copies = a->op == BLOB_COPY || a->op == BLOB_PUT_BLOCK_URL;

	switch (a->end) {
	case BLOB_END_UNSENT:
		return again("Unreachable");
	case BLOB_END_LOST:
		return doubt(a->op, "AnswerLost");
	case BLOB_END_STOPPED:
		return final(BLOB_STOPPED, NULL);
	case BLOB_END_BODY:
		return final(BLOB_CORRUPT, "BodyUnreadable");
	case BLOB_END_ANSWERED:
		break;
	}
	if (blob_retry_success(a->op, a->status))
		return final(BLOB_OK, NULL);
	if (copies &&
		(a->source_status != 0 ||
			strcmp(a->code, "CannotVerifyCopySource") == 0))
		return judge_source(a);
	if (transient(a->status))
		return judge_transient(a);
	if (a->status >= 400)
		return judge_refusal(a);
	if (a->status >= 300)
		return final(BLOB_REFUSED, "Redirect");
	/* A 2xx that the service never gives: who is that? */
	return doubt(a->op, "NotABlobService");
}

/* ---- pauses ---- */

static int64_t cap_after(uint64_t ms)
{
	return ms > BLOB_RETRY_AFTER_MAX_MS ? BLOB_RETRY_AFTER_MAX_MS
					    : (int64_t)ms;
}

static int64_t after_date(
	const struct blob_headers *headers, const char *text, int64_t now_s)
{
	const char *date = blob_headers_get(headers, "date");
	int64_t at_s, base_s;

	if (blob_header_date(text, &at_s) != 0)
		return 0;
	/* The server's own clock, so that ours may be wrong. */
	if (date == NULL || blob_header_date(date, &base_s) != 0)
		base_s = now_s;
	if (at_s <= base_s)
		return 0;
	if (at_s - base_s > BLOB_RETRY_AFTER_MAX_MS / 1000)
		return BLOB_RETRY_AFTER_MAX_MS;
	return (at_s - base_s) * 1000;
}

int64_t blob_retry_after_ms(const struct blob_headers *headers, int64_t now_s)
{
	static const char *const in_ms[] = { "retry-after-ms",
		"x-ms-retry-after-ms" };
	const char *text;
	uint64_t n;
	size_t i;

	for (i = 0; i < 2; i++) {
		text = blob_headers_get(headers, in_ms[i]);
		if (text != NULL && blob_header_u64(text, &n) == 0)
			return cap_after(n);
	}
	text = blob_headers_get(headers, "retry-after");
	if (text == NULL)
		return 0;
	if (blob_header_u64(text, &n) == 0)
		return cap_after(n > UINT64_MAX / 1000 ? n : n * 1000);
	return after_date(headers, text, now_s);
}

int64_t blob_retry_delay_ms(unsigned attempt, int64_t after_ms, uint32_t random)
{
	int64_t ms = BLOB_RETRY_BASE_MS;
	unsigned i;

	for (i = 1; i < attempt && ms < BLOB_RETRY_MAX_MS; i++)
		ms *= 2;
	if (ms > BLOB_RETRY_MAX_MS)
		ms = BLOB_RETRY_MAX_MS;
	/* Half to one and a half of it, so that many do not come together. */
	ms = ms / 2 + (int64_t)(random % (uint32_t)(ms + 1));
	/* Never before the service asked for; a little after, spread too. */
	return after_ms > 0 ? after_ms + ms / 2 : ms;
}

/* ---- whether the store answers ---- */

enum blob_sign_of_life blob_retry_life(const struct blob_attempt *a)
{
	struct blob_verdict v = blob_retry_judge(a);

	switch (a->end) {
	case BLOB_END_UNSENT:
	case BLOB_END_LOST:
		return BLOB_LIFE_FAILURE;
	case BLOB_END_STOPPED:
	case BLOB_END_BODY:
		return a->status != 0 ? BLOB_LIFE_ANSWER : BLOB_LIFE_NONE;
	case BLOB_END_ANSWERED:
		break;
	}
	if (a->status == 502 || a->status == 504)
		return BLOB_LIFE_FAILURE;
	if (a->source_status != 0 ||
		strcmp(a->code, "CannotVerifyCopySource") == 0)
		return BLOB_LIFE_ANSWER;
	switch (v.result) {
	case BLOB_OK:
	case BLOB_NOT_FOUND:
	case BLOB_CONDITION:
		return BLOB_LIFE_OK;
	case BLOB_NO_CONTAINER:
		return BLOB_LIFE_GONE;
	case BLOB_DENIED:
		/* These two are about one blob or one kind of request. */
		if (strcmp(a->code, "UnauthorizedBlobOverwrite") == 0 ||
			strcmp(a->code,
				"BlobUsesCustomerSpecifiedEncryption") == 0)
			return BLOB_LIFE_ANSWER;
		if (strcmp(a->code, "AuthorizationPermissionMismatch") == 0)
			return BLOB_LIFE_UNLIKED;
		return BLOB_LIFE_DENIED;
	default:
		return BLOB_LIFE_ANSWER;
	}
}

void blob_circuit_init(struct blob_circuit *c)
{
	*c = (struct blob_circuit){ .state = BLOB_STATE_UP };
	base_mutex_init(&c->lock, BASE_RANK_BLOB_RETRY);
}

void blob_circuit_fini(struct blob_circuit *c)
{
	base_mutex_fini(&c->lock);
}

bool blob_circuit_admits(struct blob_circuit *c)
{
	bool admits;

	base_lock(&c->lock);
	admits = c->state != BLOB_STATE_DOWN;
	base_unlock(&c->lock);
	return admits;
}

static enum blob_state next_state(
	struct blob_circuit *c, enum blob_sign_of_life life, int64_t now_ns)
{
	int64_t age_ns = now_ns - c->since_ns;

	switch (life) {
	case BLOB_LIFE_NONE:
		return c->state;
	case BLOB_LIFE_OK:
		c->served = true;
		return BLOB_STATE_UP;
	case BLOB_LIFE_ANSWER:
		/* Whoever was refused may still be. */
		return c->state == BLOB_STATE_DOWN ? BLOB_STATE_UP : c->state;
	case BLOB_LIFE_DENIED:
		return BLOB_STATE_DENIED;
	case BLOB_LIFE_UNLIKED:
		/* Credentials that may do nothing look like this; but so does
		 * a write with those that may only read. */
		if (!c->served)
			return BLOB_STATE_DENIED;
		return c->state == BLOB_STATE_DOWN ? BLOB_STATE_UP : c->state;
	case BLOB_LIFE_GONE:
		return BLOB_STATE_GONE;
	case BLOB_LIFE_FAILURE:
		if (c->failures >= BLOB_CIRCUIT_FAILURES &&
			age_ns >= BLOB_CIRCUIT_AGE_MS * INT64_C(1000000))
			return BLOB_STATE_DOWN;
		return c->state;
	}
	return c->state;
}

bool blob_circuit_note(struct blob_circuit *c, enum blob_sign_of_life life,
	int64_t now_ns, const char *why)
{
	enum blob_state old;
	bool changed;

	base_lock(&c->lock);
	old = c->state;
	if (life == BLOB_LIFE_FAILURE) {
		if (c->failures == 0)
			c->since_ns = now_ns;
		if (c->failures < BLOB_CIRCUIT_FAILURES)
			c->failures++;
	} else if (life != BLOB_LIFE_NONE) {
		c->failures = 0;
	}
	c->state = next_state(c, life, now_ns);
	changed = c->state != old;
	if (changed) {
		c->probes_nr = 0;
		snprintf(c->why, sizeof(c->why), "%s",
			c->state == BLOB_STATE_UP ? "" : why);
	}
	base_unlock(&c->lock);
	return changed;
}

enum blob_state blob_circuit_state(
	struct blob_circuit *c, char *ret_why, size_t why_bytes)
{
	enum blob_state state;

	base_lock(&c->lock);
	state = c->state;
	if (ret_why != NULL)
		snprintf(ret_why, why_bytes, "%s", c->why);
	base_unlock(&c->lock);
	return state;
}

int64_t blob_circuit_probe_ms(struct blob_circuit *c, uint32_t random)
{
	int64_t ms = BLOB_CIRCUIT_PROBE_MS;
	unsigned i;

	base_lock(&c->lock);
	for (i = 0; i < c->probes_nr && ms < BLOB_CIRCUIT_PROBE_MAX_MS; i++)
		ms *= 2;
	if (c->probes_nr < 16)
		c->probes_nr++;
	base_unlock(&c->lock);
	if (ms > BLOB_CIRCUIT_PROBE_MAX_MS)
		ms = BLOB_CIRCUIT_PROBE_MAX_MS;
	return ms * 3 / 4 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
}
