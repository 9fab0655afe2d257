/*
 * Interpreting the service's answers.
 *
 * A GET may take several attempts: each goes on where the last one stopped,
 * pinned to the ETag of the first answer.  An answer is believed only as far
 * as it agrees with what was asked: a 206 must begin at the asked byte and may
 * end earlier; a 200 is the whole blob, whose beginning is skipped and whose
 * end is cut.
 */
#include "blob/azure_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blob/azure_props.h"
#include "blob/name.h"

static int decide(struct azure_run *run, enum blob_verdict_kind kind,
	enum blob_result result, const char *code)
{
	run->decided = true;
	run->verdict = (struct blob_verdict){ kind, result, code };
	return -EPROTO;
}

void azure_answer_begin(struct azure_run *run)
{
	const struct blob_req *req = run->req;

	run->decided = false;
	base_str_clear(&run->error);
	run->body_bytes = 0;
	run->skip = run->answer_left = 0;
	run->got_before = run->got;
	blob_list_free(run->list);
	run->list = NULL;
	if (req->op == BLOB_LIST) {
		/* What the store's prefix puts before every name. */
		struct base_str strip = BASE_STR_INIT;

		base_str_puts(&strip, "");
		if (run->azure->url.prefix[0] != '\0')
			blob_name_prefix(run->azure->url.prefix, &strip);
		run->list = blob_list_new(BLOB_LIST_NAMES, strip.data,
			run->only.len > 0 ? run->only.data : NULL);
		base_str_fini(&strip);
	} else if (req->op == BLOB_GET_BLOCKS) {
		run->list = blob_list_new(BLOB_LIST_BLOCKS, "", NULL);
	} else if (req->op == BLOB_GET_TAGS) {
		run->list = blob_list_new(BLOB_LIST_TAGS, "", NULL);
	}
}

/* ---- GET ---- */

/* An ETag with or without its quotes. */
static bool same_etag(const char *etag, const char *text)
{
	char quoted[BLOB_ETAG_MAX];

	blob_azure_etag(text, quoted);
	return strcmp(etag, quoted) == 0;
}

/* What the answer's body is of: [*start, *end) of *total bytes. */
static int answer_extent(
	struct azure_run *run, uint64_t *start, uint64_t *end, uint64_t *total)
{
	const struct blob_headers *h = &run->call.answer;
	const char *range = blob_headers_get(h, "content-range");
	const char *length = blob_headers_get(h, "content-length");

	if (run->call.status == 206)
		return range != NULL
			? blob_header_content_range(range, start, end, total)
			: -EINVAL;
	*start = 0;
	if (length == NULL || blob_header_u64(length, end) != 0)
		return -EINVAL;
	*total = *end;
	return 0;
}

/* The first answer fixes ETag, size and end for the whole request. */
static int fix_size(struct azure_run *run, uint64_t total)
{
	struct blob_req *req = run->req;
	struct blob_props props;

	blob_azure_props_parse(&run->call.answer, &props);
	if (props.etag[0] == '\0') {
		blob_props_fini(&props);
		return decide(run, BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE,
			"NotABlobService");
	}
	blob_props_fini(&req->props);
	req->props = props;
	req->props.size_bytes = total;
	if (req->cond.if_match != NULL &&
		!same_etag(props.etag, req->cond.if_match))
		return decide(
			run, BLOB_VERDICT_FINAL, BLOB_CONDITION, "ETagChanged");
	if (req->in.get.offset >= total &&
		(req->in.get.offset > 0 || req->in.get.len_bytes > 0))
		return decide(run, BLOB_VERDICT_FINAL, BLOB_BAD_RANGE,
			"InvalidRange");
	if (run->end > total)
		run->end = total;
	run->sized = true;
	run->whole = req->in.get.offset == 0 && run->end == total &&
		req->props.has_md5;
	if (run->whole)
		run->hash = blob_hash_new(BLOB_HASH_MD5);
	return 0;
}

static int check_same(struct azure_run *run, uint64_t total)
{
	const char *etag = blob_headers_get(&run->call.answer, "etag");

	if (etag == NULL || !same_etag(run->req->props.etag, etag) ||
		total != run->req->props.size_bytes)
		return decide(
			run, BLOB_VERDICT_FINAL, BLOB_CONDITION, "ETagChanged");
	return 0;
}

static int get_head(struct azure_run *run)
{
	uint64_t next = run->req->in.get.offset + run->got;
	uint64_t start, end, total;
	int err;

	if (answer_extent(run, &start, &end, &total) != 0)
		return decide(run, BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE,
			"BadContentRange");
	err = run->sized ? check_same(run, total) : fix_size(run, total);
	if (err != 0)
		return err;
	if (start > next || (run->call.status == 206 && start != next) ||
		(end <= next && next < run->end))
		return decide(run, BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE,
			"BadContentRange");
	run->skip = next - start;
	run->answer_left = (end < run->end ? end : run->end) - next;
	return 0;
}

static bool get_complete(const struct azure_run *run)
{
	return run->sized && run->req->in.get.offset + run->got >= run->end;
}

static int get_data(struct azure_run *run, const char *buf, size_t len)
{
	struct blob_req *req = run->req;
	size_t n = run->skip < len ? (size_t)run->skip : len;
	int err;

	run->skip -= n;
	buf += n;
	len -= n;
	n = run->answer_left < len ? (size_t)run->answer_left : len;
	if (n > 0) {
		if (run->hash != NULL)
			blob_hash_add(run->hash, buf, n);
		err = req->in.get.data(req, buf, n);
		run->got += n;
		run->answer_left -= n;
		if (err != 0)
			return decide(run, BLOB_VERDICT_FINAL, BLOB_STOPPED,
				"Stopped");
	}
	/* More than we want: a whole blob, or a body longer than it said. */
	return n < len ? -EFBIG : 0;
}

static struct blob_verdict get_end(struct azure_run *run)
{
	uint8_t md5[BLOB_MD5_BYTES];

	if (!get_complete(run))
		return (struct blob_verdict){ BLOB_VERDICT_RETRY,
			BLOB_UNAVAILABLE, "ShortBody" };
	if (run->hash != NULL) {
		blob_hash_end(run->hash, md5);
		run->hash = NULL;
		if (memcmp(md5, run->req->props.md5, sizeof(md5)) != 0)
			return (struct blob_verdict){ BLOB_VERDICT_FINAL,
				BLOB_CORRUPT, "Md5Mismatch" };
	}
	return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_OK, NULL };
}

/* ---- all of them ---- */

int azure_answer_head(struct azure_run *run)
{
	if (run->req->op == BLOB_GET &&
		blob_retry_success(BLOB_GET, run->call.status))
		return get_head(run);
	return 0;
}

static int list_failed(struct azure_run *run, int err)
{
	if (err == -E2BIG)
		return decide(run, BLOB_VERDICT_FINAL, BLOB_REFUSED,
			"AnswerTooLarge");
	if (run->attempt + 1 >= AZURE_XML_TRIES)
		return decide(run, BLOB_VERDICT_FINAL, BLOB_REFUSED, "BadXml");
	return decide(run, BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE, "BadXml");
}

int azure_answer_data(struct azure_run *run, const void *buf, size_t len)
{
	bool good = blob_retry_success(run->req->op, run->call.status);
	size_t room;
	int err;

	if (good && run->req->op == BLOB_GET)
		return get_data(run, buf, len);
	if (good && run->list != NULL) {
		err = blob_list_feed(run->list, buf, len);
		return err != 0 ? list_failed(run, err) : 0;
	}
	room = AZURE_ERROR_BYTES_MAX - run->error.len;
	base_str_add(&run->error, buf, len < room ? len : room);
	run->body_bytes += len;
	return run->body_bytes > AZURE_ANSWER_BYTES_MAX ? -EFBIG : 0;
}

/* The error's word: from its header, or from the XML. */
static void find_code(struct azure_run *run)
{
	struct blob_req *req = run->req;
	const char *code =
		blob_headers_get(&run->call.answer, "x-ms-error-code");
	const char *end;
	size_t len;

	req->code[0] = '\0';
	if (code != NULL) {
		snprintf(req->code, sizeof(req->code), "%s", code);
		return;
	}
	if (run->error.len == 0)
		return;
	code = strstr(run->error.data, "<Code>");
	end = code != NULL ? strstr(code, "</Code>") : NULL;
	if (end == NULL)
		return;
	code += strlen("<Code>");
	len = (size_t)(end - code);
	if (len < sizeof(req->code)) {
		memcpy(req->code, code, len);
		req->code[len] = '\0';
	}
}

static void describe(struct azure_run *run, struct blob_attempt *a)
{
	const struct blob_headers *h = &run->call.answer;
	const char *source =
		blob_headers_get(h, "x-ms-copy-source-status-code");
	const char *date = blob_headers_get(h, "date");
	uint64_t n;

	find_code(run);
	*a = (struct blob_attempt){ .op = run->req->op,
		.end = run->call.end,
		.status = run->call.status,
		.code = run->req->code,
		.service = blob_headers_get(h, "x-ms-request-id") != NULL };
	if (source != NULL && blob_header_u64(source, &n) == 0 && n < 1000)
		a->source_status = (int)n;
	/* Stopped by us for its useless length: it is an answer all the same,
	 * if its headers came to an end. */
	if (a->end == BLOB_END_STOPPED && !run->decided)
		a->end = run->call.answered ? BLOB_END_ANSWERED : BLOB_END_LOST;
	run->req->http_status = run->call.status;
	if (date != NULL)
		blob_header_date(date, &run->req->server_time_s);
}

static struct blob_verdict doubtful(const char *code)
{
	return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_AMBIGUOUS,
		code };
}

/* A 2xx of a mutation must say what it made. */
static struct blob_verdict mutation_end(struct azure_run *run)
{
	struct blob_req *req = run->req;
	const char *copy =
		blob_headers_get(&run->call.answer, "x-ms-copy-status");

	if (req->op == BLOB_DELETE)
		return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_OK,
			NULL };
	blob_props_fini(&req->props);
	blob_azure_props_parse(&run->call.answer, &req->props);
	if (req->props.etag[0] == '\0')
		return doubtful("NotABlobService");
	if (req->op != BLOB_COPY || copy == NULL ||
		strcmp(copy, "success") == 0)
		return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_OK,
			NULL };
	if (strcmp(copy, "pending") == 0) {
		req->uncertain = true;
		return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_BUSY,
			"PendingCopyOperation" };
	}
	return doubtful("CopyFailed");
}

static struct blob_verdict read_end(struct azure_run *run)
{
	struct blob_req *req = run->req;
	const struct blob_headers *h = &run->call.answer;
	const char *size = blob_headers_get(h,
		req->op == BLOB_HEAD ? "content-length"
				     : "x-ms-blob-content-length");
	struct blob_props props;

	blob_azure_props_parse(h, &props);
	/* A blob that was only staged has an empty block list and no ETag. */
	if ((size == NULL || blob_header_u64(size, &props.size_bytes) != 0 ||
		    props.etag[0] == '\0') &&
		req->op == BLOB_HEAD) {
		blob_props_fini(&props);
		return (struct blob_verdict){ BLOB_VERDICT_RETRY,
			BLOB_UNAVAILABLE, "NotABlobService" };
	}
	blob_props_fini(&req->props);
	req->props = props;
	return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_OK, NULL };
}

static struct blob_verdict success_end(struct azure_run *run)
{
	struct blob_req *req = run->req;
	int err;

	switch (req->op) {
	case BLOB_HEAD:
		return read_end(run);
	case BLOB_GET:
		return get_end(run);
	case BLOB_LIST:
	case BLOB_GET_BLOCKS:
	case BLOB_GET_TAGS:
		err = blob_list_end(run->list);
		if (err != 0) {
			list_failed(run, err);
			return run->verdict;
		}
		blob_list_take(run->list, req);
		if (req->op == BLOB_GET_BLOCKS)
			return read_end(run);
		break;
	case BLOB_PUT_BLOCK:
	case BLOB_PUT_BLOCK_URL:
		break;
	default:
		return mutation_end(run);
	}
	return (struct blob_verdict){ BLOB_VERDICT_FINAL, BLOB_OK, NULL };
}

/* 416 tells the size. */
static void note_size(struct azure_run *run)
{
	const char *range =
		blob_headers_get(&run->call.answer, "content-range");
	uint64_t start, end, total;

	if (run->req->op == BLOB_GET && range != NULL && !run->sized &&
		blob_header_content_range(range, &start, &end, &total) == 0)
		run->req->props.size_bytes = total;
}

struct blob_verdict azure_answer_end(
	struct azure_run *run, struct blob_attempt *a)
{
	struct blob_verdict v;
	bool get_over;

	describe(run, a);
	/* Whatever ended the transfer: we may have all that we wanted. */
	get_over = run->req->op == BLOB_GET && get_complete(run);
	if (run->decided)
		v = run->verdict;
	else if (get_over)
		v = get_end(run);
	else
		v = blob_retry_judge(a);
	if (!run->decided && !get_over && v.kind == BLOB_VERDICT_FINAL &&
		v.result == BLOB_OK)
		v = success_end(run);
	if (a->status == 416)
		note_size(run);
	if (v.code != NULL)
		snprintf(run->req->code, sizeof(run->req->code), "%s", v.code);
	return v;
}
