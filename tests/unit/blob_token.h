/*
 * For the tests of blob/token.h: a fake identity endpoint, a clock that jumps,
 * and a token on both.
 */
#ifndef TESTS_UNIT_BLOB_TOKEN_H
#define TESTS_UNIT_BLOB_TOKEN_H

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
#include "blob/token.h"
#include "tests/unit/clear_env.h"

#define NS_PER_S 1000000000LL
#define SCRIPT_MAX 8

static char dir[] = "/tmp/forebay-token-XXXXXX\0"; /* later with a '/' */
static _Atomic int64_t skew_ns;

static inline int64_t fake_boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec + skew_ns;
}

static inline int64_t fake_wall_s(void)
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

static inline void fake_http(void *arg, struct blob_token_http *h)
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

static inline void fake_wait_asked(struct fake *f, unsigned nr)
{
	pthread_mutex_lock(&f->lock);
	while (f->asked < nr)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static inline void fake_set_hold(struct fake *f, bool hold)
{
	pthread_mutex_lock(&f->lock);
	f->hold = hold;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static inline unsigned fake_asked(struct fake *f)
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

static inline void on_token(void *arg, int err, const char *bearer)
{
	struct got *g = arg;

	pthread_mutex_lock(&g->lock);
	g->calls++;
	g->err = err;
	snprintf(g->bearer, sizeof(g->bearer), "%s", bearer ? bearer : "");
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

static inline void got_init(struct got *g)
{
	memset(g, 0, sizeof(*g));
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->cond, NULL);
}

static inline void got_wait(struct got *g, unsigned calls)
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

static inline void setup_begin(struct setup *s)
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

static inline void script(struct setup *s, int status, const char *reply)
{
	s->fake.script[s->fake.script_nr++] =
		(struct answer){ .status = status, .reply = reply };
}

static inline void setup_start(struct setup *s)
{
	char why[256];

	ck_assert_msg(blob_creds_load(NULL, &s->creds, why, sizeof(why)) == 0,
		"%s", why);
	s->token =
		blob_token_new_tuned(s->creds, fake_http, &s->fake, &s->tune);
}

static inline void get(struct setup *s)
{
	blob_token_get(s->token, on_token, &s->got);
}

static inline void setup_end(struct setup *s)
{
	blob_token_free(s->token);
	blob_creds_free(s->creds);
}

static inline void advance_s(struct setup *s, int64_t seconds)
{
	skew_ns += seconds * NS_PER_S;
	blob_token_kick(s->token);
}

#define GOOD(name, in) "{\"access_token\":\"" name "\",\"expires_in\":" in "}"

/* Runs the suite of one case, in a directory of its own. */
static inline int test_main(Suite *suite, TCase *tc)
{
	SRunner *sr;
	int failed;

	base_log_init(BASE_LOG_STDERR, BASE_LOG_ERROR);
	if (mkdtemp(dir) == NULL)
		return EXIT_FAILURE;
	dir[strlen(dir)] = '/';
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	rmdir(dir);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
