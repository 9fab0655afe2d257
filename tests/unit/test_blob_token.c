/* Bearer tokens, against a fake identity endpoint and a clock that jumps. */
#include "blob/token.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define NS_PER_S 1000000000LL
#define SCRIPT_MAX 8

static char dir[] = "/tmp/forebay-token-XXXXXX\0"; /* later with a '/' */
static _Atomic int64_t skew_ns;

static int64_t fake_boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec + skew_ns;
}

static int64_t fake_wall_s(void)
{
	return 1700000000;
}

/* One answer of the endpoint; the last one repeats. */
struct answer {
	int err, status;
	const char *reply, *www;
	int64_t retry_after_ms;
};

struct fake {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct answer script[SCRIPT_MAX];
	unsigned script_nr, asked;
	bool hold; /* answers wait */
	char url[512], body[1024], header[4][256], method[8];
	bool no_proxy;
	uint32_t connect_timeout_ms;
};

static void fake_http(void *arg, struct blob_token_http *h)
{
	struct fake *f = arg;
	struct answer a;

	pthread_mutex_lock(&f->lock);
	a = f->script[f->asked < f->script_nr ? f->asked : f->script_nr - 1];
	snprintf(f->url, sizeof(f->url), "%s", h->url);
	snprintf(f->body, sizeof(f->body), "%s", h->body ? h->body : "(none)");
	snprintf(f->method, sizeof(f->method), "%s", h->method);
	memset(f->header, 0, sizeof(f->header));
	for (size_t i = 0; i < h->headers_nr; i++)
		snprintf(f->header[i], sizeof(f->header[i]), "%s: %s",
			h->headers[i].key, h->headers[i].value);
	f->no_proxy = h->no_proxy;
	f->connect_timeout_ms = h->connect_timeout_ms;
	f->asked++;
	pthread_cond_broadcast(&f->cond);
	while (f->hold)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
	h->err = a.err;
	h->status = a.status;
	h->retry_after_ms = a.retry_after_ms;
	if (a.reply != NULL)
		base_str_puts(&h->reply, a.reply);
	if (a.www != NULL)
		base_str_puts(&h->www_authenticate, a.www);
}

static void fake_wait_asked(struct fake *f, unsigned nr)
{
	pthread_mutex_lock(&f->lock);
	while (f->asked < nr)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static void fake_set_hold(struct fake *f, bool hold)
{
	pthread_mutex_lock(&f->lock);
	f->hold = hold;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static unsigned fake_asked(struct fake *f)
{
	unsigned nr;

	pthread_mutex_lock(&f->lock);
	nr = f->asked;
	pthread_mutex_unlock(&f->lock);
	return nr;
}

/* What a callback got. */
struct got {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned calls;
	int err;
	char bearer[128];
};

static void on_token(void *arg, int err, const char *bearer)
{
	struct got *g = arg;

	pthread_mutex_lock(&g->lock);
	g->calls++;
	g->err = err;
	snprintf(g->bearer, sizeof(g->bearer), "%s", bearer ? bearer : "");
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

static void got_init(struct got *g)
{
	memset(g, 0, sizeof(*g));
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->cond, NULL);
}

static void got_wait(struct got *g, unsigned calls)
{
	pthread_mutex_lock(&g->lock);
	while (g->calls < calls)
		pthread_cond_wait(&g->cond, &g->lock);
	ck_assert_uint_eq(g->calls, calls);
	pthread_mutex_unlock(&g->lock);
}

/* ---- a token on a fake ---- */

struct setup {
	struct fake fake;
	struct got got;
	struct blob_creds *creds;
	struct blob_token *token;
	struct blob_token_tune tune;
};

static void clear_env(void)
{
	static const char *const names[] = { "AZURE_STORAGE_ACCOUNT",
		"AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN",
		"AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_ID",
		"AZURE_TENANT_ID", "AZURE_CLIENT_SECRET",
		"AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
		"AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT",
		"IDENTITY_HEADER", "IMDS_ENDPOINT" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
}

static void setup_begin(struct setup *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->fake.lock, NULL);
	pthread_cond_init(&s->fake.cond, NULL);
	got_init(&s->got);
	clear_env();
	skew_ns = 0;
	s->tune = (struct blob_token_tune){
		.boot_ns = fake_boot_ns,
		.wall_s = fake_wall_s,
		.backoff_ms = 1,
		.backoff_max_ms = 2,
		.round_ms = 20000,
		.renew_ms = 1,
		.denied_ms = 3600000,
		.failed_ms = 3600000,
		.settled_ms = 10000,
		.arc_dir = dir,
	};
}

static void script(struct setup *s, int status, const char *reply)
{
	s->fake.script[s->fake.script_nr++] =
		(struct answer){ .status = status, .reply = reply };
}

static void setup_start(struct setup *s)
{
	char why[256];

	ck_assert_msg(blob_creds_load(NULL, &s->creds, why, sizeof(why)) == 0,
		"%s", why);
	s->token =
		blob_token_new_tuned(s->creds, fake_http, &s->fake, &s->tune);
}

static void get(struct setup *s)
{
	blob_token_get(s->token, on_token, &s->got);
}

static void setup_end(struct setup *s)
{
	blob_token_free(s->token);
	blob_creds_free(s->creds);
}

static void advance_s(struct setup *s, int64_t seconds)
{
	skew_ns += seconds * NS_PER_S;
	blob_token_kick(s->token);
}

#define GOOD(name, in) "{\"access_token\":\"" name "\",\"expires_in\":" in "}"

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

START_TEST(imds_takes_client_id_and_another_base)
{
	struct setup s;

	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "id &1", 1);
	setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9/", 1);
	script(&s, 200, GOOD("t1", "\"3600\""));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"http://127.0.0.1:9/metadata/identity/oauth2/token"
		"?api-version=2018-02-01"
		"&resource=https%3A%2F%2Fstorage.azure.com%2F"
		"&client_id=id%20%261");
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

START_TEST(no_managed_identity_fails_soon_and_says_what_to_do)
{
	struct setup s;
	char why[256];

	setup_begin(&s);
	s.fake.script[0].err = -EHOSTUNREACH;
	s.fake.script_nr = 1;
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_eq(fake_asked(&s.fake), 2);
	blob_token_why(s.token, why, sizeof(why));
	ck_assert_ptr_nonnull(strstr(why, "no credentials were given"));
	ck_assert_ptr_nonnull(strstr(why, "credentials=FILE"));
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

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(federated_token_is_read_again_each_time)
{
	struct setup s;
	char path[128];

	snprintf(path, sizeof(path), "%sfederated", dir);
	write_file(path, "jwt.one\n");
	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tenant", 1);
	setenv("AZURE_FEDERATED_TOKEN_FILE", path, 1);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"https://login.microsoftonline.com/tenant/oauth2/v2.0/token");
	ck_assert_str_eq(s.fake.body,
		"grant_type=client_credentials"
		"&scope=https%3A%2F%2Fstorage.azure.com%2F.default"
		"&client_id=cid&client_assertion_type="
		"urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3A"
		"jwt-bearer&client_assertion=jwt.one");
	write_file(path, "jwt.two");
	skew_ns += 3600 * NS_PER_S;
	get(&s);
	got_wait(&s.got, 2);
	ck_assert_ptr_nonnull(strstr(s.fake.body, "client_assertion=jwt.two"));
	unlink(path);
	setup_end(&s);
}
END_TEST

START_TEST(missing_federated_token_is_an_error_that_names_it)
{
	struct setup s;
	char why[256];

	setup_begin(&s);
	s.tune.round_ms = 5;
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tenant", 1);
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token", 1);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_eq(fake_asked(&s.fake), 0);
	blob_token_why(s.token, why, sizeof(why));
	ck_assert_ptr_nonnull(strstr(why, "/nonexistent/token"));
	setup_end(&s);
}
END_TEST

START_TEST(app_service_sends_its_header)
{
	struct setup s;

	setup_begin(&s);
	setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:8081/msi/token", 1);
	setenv("IDENTITY_HEADER", "secret-header", 1);
	script(&s, 200,
		"{\"access_token\":\"t1\",\"expires_on\":\"1700003600\"}");
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"http://127.0.0.1:8081/msi/token?api-version=2019-08-01"
		"&resource=https%3A%2F%2Fstorage.azure.com%2F");
	ck_assert_str_eq(s.fake.header[0], "x-identity-header: secret-header");
	setup_end(&s);
}
END_TEST

static void arc_env(void)
{
	setenv("IDENTITY_ENDPOINT",
		"http://localhost:40342/metadata/identity/oauth2/token", 1);
	setenv("IMDS_ENDPOINT", "http://localhost:40342", 1);
}

START_TEST(arc_answers_the_challenge_with_the_key_file)
{
	struct setup s;
	char path[128], www[160];

	snprintf(path, sizeof(path), "%sabc.key", dir);
	snprintf(www, sizeof(www), "Basic realm=%s", path);
	write_file(path, "arc-key");
	setup_begin(&s);
	arc_env();
	s.fake.script[0] = (struct answer){ .status = 401, .www = www };
	s.fake.script_nr = 1;
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, 0);
	ck_assert_uint_eq(fake_asked(&s.fake), 2);
	ck_assert_str_eq(s.fake.header[0], "metadata: true");
	ck_assert_str_eq(s.fake.header[1], "authorization: Basic arc-key");
	unlink(path);
	setup_end(&s);
}
END_TEST

START_TEST(arc_reads_no_file_but_the_agents)
{
	static const char *const bad[] = { "Basic realm=/etc/passwd.key",
		"Basic realm=/etc/shadow", "Bearer x", "", NULL };
	char up[160], sub[160], big[160], path[128];

	snprintf(up, sizeof(up), "Basic realm=%s../x.key", dir);
	snprintf(sub, sizeof(sub), "Basic realm=%sabc.txt", dir);
	snprintf(path, sizeof(path), "%sbig.key", dir);
	snprintf(big, sizeof(big), "Basic realm=%s", path);
	FILE *f = fopen(path, "w");
	for (int i = 0; i < 4097; i++)
		fputc('x', f);
	fclose(f);
	for (int i = 0; i < 8; i++) {
		struct setup s;
		const char *www = i < 5 ? bad[i]
			: i == 5	? up
			: i == 6	? sub
					: big;

		setup_begin(&s);
		arc_env();
		s.fake.script[0] = (struct answer){ .status = 401, .www = www };
		s.fake.script_nr = 1;
		setup_start(&s);
		get(&s);
		got_wait(&s.got, 1);
		ck_assert_int_eq(s.got.err, -EACCES);
		ck_assert_uint_eq(fake_asked(&s.fake), 1);
		setup_end(&s);
	}
	unlink(path);
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
	SRunner *sr;
	int failed;

	base_log_init(BASE_LOG_STDERR, BASE_LOG_ERROR);
	if (mkdtemp(dir) == NULL)
		return EXIT_FAILURE;
	dir[strlen(dir)] = '/';
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, token_is_fetched_once_and_then_at_hand);
	tcase_add_test(tc, nothing_is_asked_before_somebody_wants_it);
	tcase_add_test(tc, waiters_share_one_request);
	tcase_add_test(tc, imds_takes_client_id_and_another_base);
	tcase_add_test(tc, renewed_five_minutes_ahead);
	tcase_add_test(tc, renewed_at_refresh_in);
	tcase_add_test(tc, old_token_serves_while_renewal_fails);
	tcase_add_test(tc, expired_token_is_not_handed_out);
	tcase_add_test(tc, expires_on_is_enough);
	tcase_add_test(tc, transient_answers_are_asked_again);
	tcase_add_test(tc, bearer_that_would_break_a_header_is_refused);
	tcase_add_test(tc, refusal_fails_at_once_and_says_why);
	tcase_add_test(tc, no_managed_identity_fails_soon_and_says_what_to_do);
	tcase_add_test(tc, unreachable_endpoint_fails_within_the_round);
	tcase_add_test(tc, retry_after_beyond_the_round_ends_it);
	tcase_add_test(tc, federated_token_is_read_again_each_time);
	tcase_add_test(tc, missing_federated_token_is_an_error_that_names_it);
	tcase_add_test(tc, app_service_sends_its_header);
	tcase_add_test(tc, arc_answers_the_challenge_with_the_key_file);
	tcase_add_test(tc, arc_reads_no_file_but_the_agents);
	tcase_add_test(tc, dropped_token_is_fetched_again);
	tcase_add_test(tc, free_ends_waiters);
	tcase_add_test(tc, callback_may_ask_again);
	tcase_add_test(tc, many_threads_each_get_an_answer);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	rmdir(dir);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
