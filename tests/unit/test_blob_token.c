/* The life of a bearer token: fetched, shared, renewed ahead, dropped. */
#include "tests/unit/blob_token.h"

START_TEST(token_is_fetched_once_and_then_at_hand)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "86400"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, 0);
	ck_assert_str_eq(s.got.bearer, "t1");
	get(&s); /* inside the call */
	ck_assert_uint_eq(s.got.calls, 2);
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	ck_assert_str_eq(s.fake.url,
		"http://169.254.169.254/metadata/identity/oauth2/token"
		"?api-version=2018-02-01"
		"&resource=https%3A%2F%2Fstorage.azure.com%2F");
	ck_assert_str_eq(s.fake.header[0], "metadata: true");
	ck_assert_str_eq(s.fake.method, "GET");
	ck_assert(s.fake.no_proxy);
	ck_assert_uint_eq(s.fake.connect_timeout_ms, 1000);
	setup_end(&s);
}
END_TEST

START_TEST(nothing_is_asked_before_somebody_wants_it)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	setup_end(&s);
	ck_assert_uint_eq(s.fake.asked, 0);
}
END_TEST

START_TEST(waiters_share_one_request)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	s.fake.hold = true;
	setup_start(&s);
	for (int i = 0; i < 50; i++)
		get(&s);
	fake_wait_asked(&s.fake, 1);
	fake_set_hold(&s.fake, false);
	got_wait(&s.got, 50);
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	setup_end(&s);
}
END_TEST

START_TEST(renewed_five_minutes_ahead)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	advance_s(&s, 3200);
	get(&s);
	ck_assert_str_eq(s.got.bearer, "t1");
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	advance_s(&s, 101); /* 299 s are left */
	fake_wait_asked(&s.fake, 2);
	do
		get(&s);
	while (strcmp(s.got.bearer, "t2") != 0);
	setup_end(&s);
}
END_TEST

START_TEST(renewed_at_refresh_in)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200,
		"{\"access_token\":\"t1\",\"expires_in\":86400,"
		"\"refresh_in\":\"43200\"}");
	script(&s, 200, GOOD("t2", "86400"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	advance_s(&s, 43201);
	fake_wait_asked(&s.fake, 2);
	setup_end(&s);
}
END_TEST

START_TEST(old_token_serves_while_renewal_fails)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	script(&s, 403, "{\"error\":\"no\"}");
	script(&s, 403, "{\"error\":\"no\"}");
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	fake_set_hold(&s.fake, true);
	advance_s(&s, 3400);
	fake_wait_asked(&s.fake, 2);
	get(&s);
	ck_assert_str_eq(s.got.bearer, "t1");
	fake_set_hold(&s.fake, false);
	fake_wait_asked(&s.fake, 4); /* it goes on trying */
	do {
		get(&s);
		ck_assert_int_eq(s.got.err, 0);
	} while (strcmp(s.got.bearer, "t2") != 0);
	setup_end(&s);
}
END_TEST

START_TEST(expired_token_is_not_handed_out)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	skew_ns += 3590 * NS_PER_S; /* as after a suspend: nobody was woken */
	get(&s);
	got_wait(&s.got, 2);
	ck_assert_str_eq(s.got.bearer, "t2");
	setup_end(&s);
}
END_TEST

START_TEST(expires_on_is_enough)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200,
		"{\"access_token\":\"t1\",\"expires_on\":\"1700001000\"}");
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	skew_ns += 960 * NS_PER_S;
	get(&s);
	ck_assert_str_eq(s.got.bearer, "t1");
	skew_ns += 11 * NS_PER_S; /* in the last 30 s */
	get(&s);
	got_wait(&s.got, 3);
	ck_assert_str_eq(s.got.bearer, "t2");
	setup_end(&s);
}
END_TEST

START_TEST(transient_answers_are_asked_again)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 404, NULL);
	script(&s, 410, NULL);
	script(&s, 429, NULL);
	script(&s, 500, "oops");
	script(&s, 200, "{\"nonsense\":1}");
	script(&s, 200, "not json");
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, 0);
	ck_assert_uint_eq(fake_asked(&s.fake), 7);
	setup_end(&s);
}
END_TEST

START_TEST(bearer_that_would_break_a_header_is_refused)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("a\\r\\nx-evil: 1", "3600"));
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.got.bearer, "t1");
	setup_end(&s);
}
END_TEST

START_TEST(refusal_fails_at_once_and_says_why)
{
	struct setup s;
	char why[256];

	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tenant", 1);
	setenv("AZURE_CLIENT_SECRET", "se&cret/", 1);
	setenv("AZURE_AUTHORITY_HOST", "https://login.example/", 1);
	script(&s, 401,
		"{\"error\":\"invalid_client\",\"error_description\":"
		"\"AADSTS7000215: bad secret.\\r\\nTrace ID: 1\"}");
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EACCES);
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	ck_assert_str_eq(s.fake.method, "POST");
	ck_assert_str_eq(
		s.fake.url, "https://login.example/tenant/oauth2/v2.0/token");
	ck_assert_str_eq(s.fake.body,
		"grant_type=client_credentials"
		"&scope=https%3A%2F%2Fstorage.azure.com%2F.default"
		"&client_id=cid&client_secret=se%26cret%2F");
	ck_assert_str_eq(s.fake.header[0],
		"content-type: application/x-www-form-urlencoded");
	ck_assert(!s.fake.no_proxy);
	blob_token_why(s.token, why, sizeof(why));
	ck_assert_ptr_nonnull(strstr(why, "401, AADSTS7000215: bad secret."));
	ck_assert_ptr_null(strstr(why, "Trace"));
	ck_assert_ptr_null(strstr(why, "cret/"));
	/* and is remembered for a moment */
	get(&s);
	ck_assert_uint_eq(s.got.calls, 2);
	ck_assert_int_eq(s.got.err, -EACCES);
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	advance_s(&s, 3601);
	get(&s);
	got_wait(&s.got, 3);
	ck_assert_uint_eq(fake_asked(&s.fake), 2);
	setup_end(&s);
}
END_TEST

START_TEST(unreachable_endpoint_fails_within_the_round)
{
	struct setup s;

	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "cid", 1);
	s.tune.round_ms = 50;
	s.fake.script[0].err = -ECONNREFUSED;
	s.fake.script_nr = 1;
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_gt(fake_asked(&s.fake), 2);
	setup_end(&s);
}
END_TEST

START_TEST(retry_after_beyond_the_round_ends_it)
{
	struct setup s;

	setup_begin(&s);
	s.fake.script[0] =
		(struct answer){ .status = 429, .retry_after_ms = 60000 };
	s.fake.script_nr = 1;
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_eq(fake_asked(&s.fake), 1);
	setup_end(&s);
}
END_TEST

START_TEST(dropped_token_is_fetched_again)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	blob_token_drop(s.token); /* too young: meant its predecessor */
	get(&s);
	ck_assert_str_eq(s.got.bearer, "t1");
	advance_s(&s, 11);
	blob_token_drop(s.token);
	get(&s);
	got_wait(&s.got, 3);
	ck_assert_str_eq(s.got.bearer, "t2");
	setup_end(&s);
}
END_TEST

static void *free_in_thread(void *arg)
{
	blob_token_free(arg);
	return NULL;
}

START_TEST(free_ends_waiters)
{
	struct setup s;
	pthread_t thread;

	setup_begin(&s);
	script(&s, 500, NULL);
	s.fake.hold = true;
	setup_start(&s);
	get(&s);
	get(&s);
	fake_wait_asked(&s.fake, 1);
	pthread_create(&thread, NULL, free_in_thread, s.token);
	/* Waits for the request under way, not for the round. */
	fake_set_hold(&s.fake, false);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(s.got.calls, 2);
	ck_assert_int_eq(s.got.err, -EINTR);
	blob_creds_free(s.creds);
}
END_TEST

static void get_again(void *arg, int err, const char *bearer)
{
	struct setup *s = arg;

	blob_token_get(s->token, on_token, &s->got);
	on_token(&s->got, err, bearer);
}

START_TEST(callback_may_ask_again)
{
	struct setup s;

	setup_begin(&s);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	blob_token_get(s.token, get_again, &s);
	got_wait(&s.got, 2);
	ck_assert_int_eq(s.got.err, 0);
	setup_end(&s);
}
END_TEST

static void *hammer(void *arg)
{
	struct setup *s = arg;

	for (int i = 0; i < 300; i++) {
		get(s);
		if (i % 16 == 0)
			blob_token_drop(s->token);
	}
	return NULL;
}

START_TEST(many_threads_each_get_an_answer)
{
	struct setup s;
	pthread_t threads[4];

	setup_begin(&s);
	s.tune.settled_ms = 0;
	s.tune.failed_ms = 0;
	s.tune.round_ms = 3;
	script(&s, 200, GOOD("t1", "3600"));
	script(&s, 500, NULL);
	script(&s, 200, GOOD("t2", "3600"));
	setup_start(&s);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, hammer, &s);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	got_wait(&s.got, 1200);
	setup_end(&s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob_token");
	TCase *tc = tcase_create("token");

	tcase_add_test(tc, token_is_fetched_once_and_then_at_hand);
	tcase_add_test(tc, nothing_is_asked_before_somebody_wants_it);
	tcase_add_test(tc, waiters_share_one_request);
	tcase_add_test(tc, renewed_five_minutes_ahead);
	tcase_add_test(tc, renewed_at_refresh_in);
	tcase_add_test(tc, old_token_serves_while_renewal_fails);
	tcase_add_test(tc, expired_token_is_not_handed_out);
	tcase_add_test(tc, expires_on_is_enough);
	tcase_add_test(tc, transient_answers_are_asked_again);
	tcase_add_test(tc, bearer_that_would_break_a_header_is_refused);
	tcase_add_test(tc, refusal_fails_at_once_and_says_why);
	tcase_add_test(tc, unreachable_endpoint_fails_within_the_round);
	tcase_add_test(tc, retry_after_beyond_the_round_ends_it);
	tcase_add_test(tc, dropped_token_is_fetched_again);
	tcase_add_test(tc, free_ends_waiters);
	tcase_add_test(tc, callback_may_ask_again);
	tcase_add_test(tc, many_threads_each_get_an_answer);
	return test_main(suite, tc);
}
