/* What answers mean, when to try again, and when the store is down. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "blob/header.h"
#include "blob/retry.h"

#define MS INT64_C(1000000)

static struct blob_verdict judge(
	enum blob_op op, enum blob_end end, int status, const char *code)
{
	struct blob_attempt a = { .op = op,
		.end = end,
		.status = status,
		.code = code,
		.service = true };

	return blob_retry_judge(&a);
}

static void check(enum blob_op op, int status, const char *code,
	enum blob_verdict_kind kind, enum blob_result result)
{
	struct blob_verdict v = judge(op, BLOB_END_ANSWERED, status, code);

	ck_assert_msg(v.kind == kind && v.result == result,
		"op %d, %d %s: kind %d, result %d", (int)op, status, code,
		(int)v.kind, (int)v.result);
}

#define FINAL(op, status, code, result) \
	check(op, status, code, BLOB_VERDICT_FINAL, result)
#define AGAIN(op, status, code) \
	check(op, status, code, BLOB_VERDICT_RETRY, BLOB_UNAVAILABLE)

static const enum blob_op mutations[] = { BLOB_PUT, BLOB_COMMIT, BLOB_DELETE,
	BLOB_COPY, BLOB_SET_META };
static const enum blob_op others[] = { BLOB_HEAD, BLOB_GET, BLOB_LIST,
	BLOB_PUT_BLOCK, BLOB_PUT_BLOCK_URL, BLOB_GET_BLOCKS };

START_TEST(lost_answer_of_a_mutation_is_ambiguous)
{
	size_t i;

	for (i = 0; i < 5; i++) {
		struct blob_verdict v =
			judge(mutations[i], BLOB_END_LOST, 0, "");

		ck_assert(blob_op_mutates(mutations[i]));
		ck_assert_int_eq(v.kind, BLOB_VERDICT_FINAL);
		ck_assert_int_eq(v.result, BLOB_AMBIGUOUS);
		FINAL(mutations[i], 500, "InternalError", BLOB_AMBIGUOUS);
		FINAL(mutations[i], 500, "OperationTimedOut", BLOB_AMBIGUOUS);
		FINAL(mutations[i], 503, "OperationTimedOut", BLOB_AMBIGUOUS);
		FINAL(mutations[i], 502, "", BLOB_AMBIGUOUS);
		FINAL(mutations[i], 504, "", BLOB_AMBIGUOUS);
		FINAL(mutations[i], 408, "", BLOB_AMBIGUOUS);
		/* A success that the service never gives. */
		FINAL(mutations[i], 204, "", BLOB_AMBIGUOUS);
	}
}
END_TEST

START_TEST(mutation_surely_not_applied_is_repeated)
{
	size_t i;

	for (i = 0; i < 5; i++) {
		struct blob_verdict v =
			judge(mutations[i], BLOB_END_UNSENT, 0, "");

		ck_assert_int_eq(v.kind, BLOB_VERDICT_RETRY);
		ck_assert_int_eq(v.result, BLOB_UNAVAILABLE);
		AGAIN(mutations[i], 503, "ServerBusy");
		AGAIN(mutations[i], 500, "ServerBusy");
		AGAIN(mutations[i], 503, "");
		AGAIN(mutations[i], 429, "TooManyRequests");
	}
}
END_TEST

START_TEST(a_gateways_503_says_nothing_of_the_service)
{
	struct blob_attempt a = { .op = BLOB_PUT,
		.end = BLOB_END_ANSWERED,
		.status = 503,
		.code = "" };

	ck_assert_int_eq(blob_retry_judge(&a).result, BLOB_AMBIGUOUS);
}
END_TEST

START_TEST(idempotent_requests_are_repeated)
{
	size_t i;

	for (i = 0; i < 6; i++) {
		ck_assert(!blob_op_mutates(others[i]));
		ck_assert_int_eq(judge(others[i], BLOB_END_LOST, 0, "").kind,
			BLOB_VERDICT_RETRY);
		AGAIN(others[i], 500, "InternalError");
		AGAIN(others[i], 503, "OperationTimedOut");
		AGAIN(others[i], 502, "");
		AGAIN(others[i], 408, "");
		AGAIN(others[i], 204, "");
	}
}
END_TEST

START_TEST(only_three_words_are_a_lost_race)
{
	FINAL(BLOB_PUT, 412, "ConditionNotMet", BLOB_CONDITION);
	FINAL(BLOB_COPY, 412, "TargetConditionNotMet", BLOB_CONDITION);
	FINAL(BLOB_COMMIT, 409, "BlobAlreadyExists", BLOB_CONDITION);
	FINAL(BLOB_PUT, 412, "LeaseIdMissing", BLOB_BUSY);
	FINAL(BLOB_PUT, 412, "LeaseLost", BLOB_BUSY);
	FINAL(BLOB_COPY, 409, "PendingCopyOperation", BLOB_BUSY);
	FINAL(BLOB_PUT, 409, "SomethingNew", BLOB_REFUSED);
	FINAL(BLOB_PUT, 412, "SomethingNew", BLOB_REFUSED);
	FINAL(BLOB_PUT, 412, "", BLOB_REFUSED);
	FINAL(BLOB_DELETE, 409, "SnapshotsPresent", BLOB_REFUSED);
}
END_TEST

START_TEST(refusals_have_their_results)
{
	FINAL(BLOB_HEAD, 404, "BlobNotFound", BLOB_NOT_FOUND);
	FINAL(BLOB_HEAD, 404, "ContainerNotFound", BLOB_NO_CONTAINER);
	FINAL(BLOB_HEAD, 404, "", BLOB_REFUSED);
	FINAL(BLOB_GET, 416, "InvalidRange", BLOB_BAD_RANGE);
	FINAL(BLOB_COMMIT, 400, "InvalidBlockList", BLOB_BAD_BLOCKS);
	FINAL(BLOB_PUT_BLOCK, 400, "InvalidBlobOrBlock", BLOB_BAD_BLOCKS);
	FINAL(BLOB_GET, 403, "AuthorizationFailure", BLOB_DENIED);
	FINAL(BLOB_GET, 403, "", BLOB_DENIED);
	FINAL(BLOB_GET, 409, "BlobArchived", BLOB_ARCHIVED);
	FINAL(BLOB_PUT, 409, "BlobImmutableDueToPolicy", BLOB_IMMUTABLE);
	FINAL(BLOB_PUT, 409, "InvalidBlobType", BLOB_BAD_TYPE);
	FINAL(BLOB_PUT, 400, "Md5Mismatch", BLOB_CORRUPT);
	FINAL(BLOB_PUT, 400, "InvalidOperation", BLOB_CORRUPT);
	FINAL(BLOB_PUT, 413, "RequestBodyTooLarge", BLOB_TOO_LARGE);
	FINAL(BLOB_PUT_BLOCK_URL, 501, "APINotImplemented", BLOB_UNSUPPORTED);
	FINAL(BLOB_PUT, 500, "FeatureNotSupported", BLOB_UNSUPPORTED);
	FINAL(BLOB_GET, 302, "", BLOB_REFUSED);
	check(BLOB_GET, 401, "InvalidAuthenticationInfo", BLOB_VERDICT_REAUTH,
		BLOB_DENIED);
	check(BLOB_PUT, 403, "AuthenticationFailed", BLOB_VERDICT_REAUTH,
		BLOB_DENIED);
}
END_TEST

START_TEST(each_op_has_its_own_success)
{
	FINAL(BLOB_GET, 206, "", BLOB_OK);
	FINAL(BLOB_GET, 200, "", BLOB_OK);
	FINAL(BLOB_PUT, 201, "", BLOB_OK);
	FINAL(BLOB_DELETE, 202, "", BLOB_OK);
	FINAL(BLOB_COPY, 202, "", BLOB_OK);
	FINAL(BLOB_SET_META, 200, "", BLOB_OK);
	FINAL(BLOB_PUT, 200, "", BLOB_AMBIGUOUS);
}
END_TEST

START_TEST(failed_source_of_a_copy_is_told_apart)
{
	struct blob_attempt a = { .op = BLOB_COPY,
		.end = BLOB_END_ANSWERED,
		.status = 404,
		.code = "CannotVerifyCopySource" };
	struct blob_verdict v = blob_retry_judge(&a);

	ck_assert_int_eq(v.result, BLOB_NOT_FOUND);
	a.status = 412;
	v = blob_retry_judge(&a);
	ck_assert_int_eq(v.result, BLOB_CONDITION);
	ck_assert_str_eq(v.code, "SourceConditionNotMet");
	a.status = 403;
	ck_assert_int_eq(blob_retry_judge(&a).result, BLOB_DENIED);
	/* It says nothing of our own credentials. */
	ck_assert_int_eq(blob_retry_life(&a), BLOB_LIFE_ANSWER);
	a.status = 500;
	a.source_status = 503;
	ck_assert_int_eq(blob_retry_judge(&a).kind, BLOB_VERDICT_RETRY);
}
END_TEST

static int64_t after(const char *key, const char *value, const char *date)
{
	struct blob_headers h = { 0 };
	int64_t ms;

	blob_headers_add(&h, key, value);
	if (date != NULL)
		blob_headers_add(&h, "Date", date);
	ms = blob_retry_after_ms(&h, 784111770);
	blob_headers_fini(&h);
	return ms;
}

START_TEST(retry_after_is_understood_in_all_forms)
{
	ck_assert_int_eq(after("Retry-After", "3", NULL), 3000);
	ck_assert_int_eq(after("retry-after-ms", "250", NULL), 250);
	ck_assert_int_eq(after("X-Ms-Retry-After-Ms", "40", NULL), 40);
	ck_assert_int_eq(
		after("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT", NULL),
		7000);
	ck_assert_int_eq(after("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT",
				 "Sun, 06 Nov 1994 08:49:35 GMT"),
		2000);
	ck_assert_int_eq(
		after("Retry-After", "Sunday, 06-Nov-94 08:49:37 GMT", NULL),
		7000);
	ck_assert_int_eq(
		after("Retry-After", "Sun Nov  6 08:49:37 1994", NULL), 7000);
	/* The past, nonsense, and what nobody waits for. */
	ck_assert_int_eq(
		after("Retry-After", "Sun, 06 Nov 1994 08:49:00 GMT", NULL), 0);
	ck_assert_int_eq(after("Retry-After", "-5", NULL), 0);
	ck_assert_int_eq(after("Retry-After", "soon", NULL), 0);
	ck_assert_int_eq(after("Retry-After", "99999999999999999999", NULL), 0);
	ck_assert_int_eq(after("Retry-After", "18446744073709551615", NULL),
		BLOB_RETRY_AFTER_MAX_MS);
	ck_assert_int_eq(after("Other", "5", NULL), 0);
}
END_TEST

START_TEST(pauses_grow_and_stay_bounded)
{
	unsigned attempt;

	for (attempt = 1; attempt < 40; attempt++) {
		int64_t low = blob_retry_delay_ms(attempt, 0, 0);
		int64_t base = low * 2;
		uint32_t r;

		ck_assert_int_ge(base, BLOB_RETRY_BASE_MS);
		ck_assert_int_le(base, BLOB_RETRY_MAX_MS);
		if (attempt <= 6)
			ck_assert_int_eq(
				base, BLOB_RETRY_BASE_MS << (attempt - 1));
		for (r = 0; r < 100; r++) {
			int64_t ms =
				blob_retry_delay_ms(attempt, 0, r * 40000003u);

			ck_assert_int_ge(ms, low);
			ck_assert_int_le(ms, low * 3);
			ck_assert_int_ge(blob_retry_delay_ms(
						 attempt, 9000, r * 40000003u),
				9000);
		}
	}
}
END_TEST

START_TEST(content_range_is_parsed_defensively)
{
	static const char *const wrong[] = { "", "bytes", "bytes 1-2",
		"bytes /3", "bytes 5-3/10", "bytes 0-9/5", "bytes 0-9/10x",
		"items 0-9/10", "bytes 0-99999999999999999999/5", "bytes 7-/10",
		"bytes */x" };
	uint64_t a, b, n;
	size_t i;

	ck_assert_int_eq(
		blob_header_content_range("bytes 5-9/20", &a, &b, &n), 0);
	ck_assert(a == 5 && b == 10 && n == 20);
	ck_assert_int_eq(
		blob_header_content_range("bytes */20", &a, &b, &n), 0);
	ck_assert(a == 0 && b == 0 && n == 20);
	/* Azurite's, for nothing. */
	ck_assert_int_eq(
		blob_header_content_range("bytes 11-10/11", &a, &b, &n), 0);
	ck_assert(a == 11 && b == 11 && n == 11);
	ck_assert_int_eq(
		blob_header_content_range("bytes 0--1/0", &a, &b, &n), 0);
	ck_assert(a == 0 && b == 0 && n == 0);
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(blob_header_content_range(wrong[i], &a, &b, &n) ==
				-EINVAL,
			"%s", wrong[i]);
}
END_TEST

START_TEST(headers_are_bounded)
{
	struct blob_headers h = { 0 };
	char value[1001];
	int err = 0, i;

	memset(value, 'v', 1000);
	value[1000] = '\0';
	for (i = 0; i < 1000 && err == 0; i++)
		err = blob_headers_add(&h, "a", value);
	ck_assert_int_eq(err, -E2BIG);
	ck_assert_uint_le(h.bytes, BLOB_HEADERS_BYTES_MAX);
	blob_headers_clear(&h);
	err = 0;
	for (i = 0; i < 1000 && err == 0; i++)
		err = blob_headers_parse(&h, "a:b\r\n", 5);
	ck_assert_int_eq(err, -E2BIG);
	ck_assert_uint_eq(h.nr, BLOB_HEADERS_NR_MAX);
	ck_assert_str_eq(blob_headers_get(&h, "A"), "b");
	blob_headers_fini(&h);
}
END_TEST

/* ---- the circuit ---- */

static struct blob_circuit c;

static void setup(void)
{
	blob_circuit_init(&c);
}

static void teardown(void)
{
	blob_circuit_fini(&c);
}

static bool note(enum blob_sign_of_life life, int64_t ms)
{
	return blob_circuit_note(&c, life, ms * MS, "why");
}

static void break_it(void)
{
	int i;

	for (i = 0; i < BLOB_CIRCUIT_FAILURES; i++)
		note(BLOB_LIFE_FAILURE, i * BLOB_CIRCUIT_AGE_MS);
	ck_assert_int_eq(c.state, BLOB_STATE_DOWN);
}

START_TEST(circuit_opens_after_failures_in_a_row)
{
	char why[20];
	int i;

	for (i = 0; i < BLOB_CIRCUIT_FAILURES - 1; i++)
		ck_assert(!note(BLOB_LIFE_FAILURE, i * BLOB_CIRCUIT_AGE_MS));
	ck_assert(blob_circuit_admits(&c));
	ck_assert(note(BLOB_LIFE_FAILURE, i * BLOB_CIRCUIT_AGE_MS));
	ck_assert(!blob_circuit_admits(&c));
	ck_assert_int_eq(
		blob_circuit_state(&c, why, sizeof(why)), BLOB_STATE_DOWN);
	ck_assert_str_eq(why, "why");
}
END_TEST

START_TEST(many_failures_at_one_moment_are_one_event)
{
	int i;

	for (i = 0; i < 100; i++)
		ck_assert(!note(BLOB_LIFE_FAILURE, 7));
	ck_assert(note(BLOB_LIFE_FAILURE, 7 + BLOB_CIRCUIT_AGE_MS));
}
END_TEST

START_TEST(an_answer_between_starts_the_count_again)
{
	int i;

	for (i = 0; i < 50; i++)
		ck_assert(
			!note(i % 3 == 2 ? BLOB_LIFE_ANSWER : BLOB_LIFE_FAILURE,
				i * BLOB_CIRCUIT_AGE_MS));
}
END_TEST

START_TEST(any_answer_closes_the_circuit)
{
	break_it();
	ck_assert(note(BLOB_LIFE_ANSWER, 99999));
	ck_assert(blob_circuit_admits(&c));
	break_it();
	ck_assert(note(BLOB_LIFE_DENIED, 99999));
	ck_assert_int_eq(c.state, BLOB_STATE_DENIED);
	ck_assert(blob_circuit_admits(&c));
	ck_assert(!note(BLOB_LIFE_ANSWER, 99999));
	ck_assert(note(BLOB_LIFE_OK, 99999));
	ck_assert_int_eq(c.state, BLOB_STATE_UP);
	ck_assert(note(BLOB_LIFE_GONE, 99999));
	ck_assert_int_eq(c.state, BLOB_STATE_GONE);
}
END_TEST

START_TEST(a_refused_write_of_a_reader_is_no_refusal_of_the_store)
{
	struct blob_attempt a = { .op = BLOB_PUT,
		.end = BLOB_END_ANSWERED,
		.status = 403,
		.code = "AuthorizationPermissionMismatch" };

	ck_assert_int_eq(blob_retry_life(&a), BLOB_LIFE_UNLIKED);
	note(BLOB_LIFE_OK, 1);
	ck_assert(!note(BLOB_LIFE_UNLIKED, 2));
	ck_assert_int_eq(c.state, BLOB_STATE_UP);
}
END_TEST

START_TEST(credentials_that_never_worked_are_denied)
{
	ck_assert(note(BLOB_LIFE_UNLIKED, 2));
	ck_assert_int_eq(c.state, BLOB_STATE_DENIED);
}
END_TEST

START_TEST(probes_slow_down_and_stay_bounded)
{
	int64_t first = blob_circuit_probe_ms(&c, 0), ms = 0;
	int i;

	ck_assert_int_eq(first, BLOB_CIRCUIT_PROBE_MS * 3 / 4);
	for (i = 0; i < 100; i++) {
		ms = blob_circuit_probe_ms(&c, (uint32_t)i * 77777777u);
		ck_assert_int_le(ms, BLOB_CIRCUIT_PROBE_MAX_MS * 5 / 4);
	}
	ck_assert_int_ge(ms, BLOB_CIRCUIT_PROBE_MAX_MS * 3 / 4);
	break_it();
	ck_assert_int_eq(blob_circuit_probe_ms(&c, 0), first);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob_retry");
	TCase *t = tcase_create("retry"), *k = tcase_create("circuit");
	SRunner *runner;
	int failed;

	tcase_add_test(t, lost_answer_of_a_mutation_is_ambiguous);
	tcase_add_test(t, mutation_surely_not_applied_is_repeated);
	tcase_add_test(t, a_gateways_503_says_nothing_of_the_service);
	tcase_add_test(t, idempotent_requests_are_repeated);
	tcase_add_test(t, only_three_words_are_a_lost_race);
	tcase_add_test(t, refusals_have_their_results);
	tcase_add_test(t, each_op_has_its_own_success);
	tcase_add_test(t, failed_source_of_a_copy_is_told_apart);
	tcase_add_test(t, retry_after_is_understood_in_all_forms);
	tcase_add_test(t, pauses_grow_and_stay_bounded);
	tcase_add_test(t, content_range_is_parsed_defensively);
	tcase_add_test(t, headers_are_bounded);
	suite_add_tcase(suite, t);
	tcase_add_checked_fixture(k, setup, teardown);
	tcase_add_test(k, circuit_opens_after_failures_in_a_row);
	tcase_add_test(k, many_failures_at_one_moment_are_one_event);
	tcase_add_test(k, an_answer_between_starts_the_count_again);
	tcase_add_test(k, any_answer_closes_the_circuit);
	tcase_add_test(
		k, a_refused_write_of_a_reader_is_no_refusal_of_the_store);
	tcase_add_test(k, credentials_that_never_worked_are_denied);
	tcase_add_test(k, probes_slow_down_and_stay_bounded);
	suite_add_tcase(suite, k);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
