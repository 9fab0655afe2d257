/*
 * Bearer tokens: see token.h.
 *
 * One thread makes rounds.  A round asks until there is a token, a refusal, or
 * no time left, with pauses between.  A round is due when somebody waits, or
 * when the token we have is to be renewed; while that one still holds, a round
 * that failed is only tried again later and nobody notices.
 *
 * The thread is started by blob_token_new() and joined by blob_token_free().
 */
#include "blob/token.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/lock.h"
#include "base/log.h"
#include "blob/token_ask.h"

#define MS 1000000LL
#define S 1000000000LL

/* Renewed so long before the end, if it lives twice as long. */
#define RENEW_AHEAD_S 300
/* Not handed out in its last moments: the request takes time to get there. */
#define MARGIN_S 30
/* Nobody asked for managed identity, it is only the last resort: say soon that
 * this host has none. */
#define UNASKED_TRIES 2

/* A token, shared by all that are being handed it. */
struct bearer {
	atomic_uint refs;
	size_t bytes;
	char text[];
};

struct waiter {
	struct waiter *next;
	blob_token_fn fn;
	void *arg;
};

struct blob_token {
	const struct blob_token_source *source;
	blob_token_http_fn http;
	void *http_arg;
	struct blob_token_tune tune;
	pthread_t thread;

	struct base_mutex lock; /* for all below */
	pthread_cond_t cond;	/* something below changed, or a kick */
	bool stop;
	struct bearer *bearer; /* NULL: none */
	int64_t got_ns, renew_ns, end_ns;
	struct waiter *waiters;
	int fail_err; /* of the last round; 0: it did not fail */
	int64_t fail_until_ns;
	char why[256];
};

static int64_t real_boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * S + ts.tv_nsec;
}

static int64_t real_wall_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

static const struct blob_token_tune real_tune = {
	.boot_ns = real_boot_ns,
	.wall_s = real_wall_s,
	.backoff_ms = 800,
	.backoff_max_ms = 10000,
	.round_ms = BLOB_TOKEN_WAIT_MS,
	.renew_ms = 30000,
	.denied_ms = 10000,
	.failed_ms = 1000,
	.settled_ms = 10000,
	.arc_dir = "/var/opt/azcmagent/tokens/",
};

static struct bearer *bearer_new(const char *text)
{
	size_t bytes = strlen(text) + 1;
	struct bearer *b = base_malloc(sizeof(*b) + bytes);

	atomic_init(&b->refs, 1);
	b->bytes = bytes;
	memcpy(b->text, text, bytes);
	return b;
}

static void bearer_put(struct bearer *b)
{
	if (b == NULL || atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	explicit_bzero(b->text, b->bytes);
	free(b);
}

static int64_t now_ns(struct blob_token *t)
{
	return t->tune.boot_ns();
}

/* Lock held. */
static bool is_valid(struct blob_token *t, int64_t now)
{
	return t->bearer != NULL && now < t->end_ns;
}

/* Lock held. */
static void forget(struct blob_token *t)
{
	bearer_put(t->bearer);
	t->bearer = NULL;
}

/* Answers all who wait.  Lock held, given up for the calls. */
static void answer_waiters(struct blob_token *t, int err)
{
	struct waiter *w = t->waiters, *next;
	struct bearer *b = err == 0 ? t->bearer : NULL;

	if (w == NULL)
		return;
	t->waiters = NULL;
	if (b != NULL)
		atomic_fetch_add(&b->refs, 1);
	base_unlock(&t->lock);
	for (; w != NULL; w = next) {
		next = w->next;
		w->fn(w->arg, err, b ? b->text : NULL);
		free(w);
	}
	bearer_put(b);
	base_lock(&t->lock);
}

/* Lock held. */
static void take_answer(
	struct blob_token *t, const struct blob_token_answer *a, int64_t asked)
{
	int64_t life = a->lifetime_s, renew = a->refresh_s, margin;

	/* Counted from before the question: it may have been long under way. */
	margin = life / 10 < MARGIN_S ? life / 10 : MARGIN_S;
	if (renew == 0)
		renew = life > 2 * RENEW_AHEAD_S ? life - RENEW_AHEAD_S
						 : (life + 1) / 2;
	forget(t);
	t->bearer = bearer_new(a->bearer);
	t->got_ns = now_ns(t);
	t->renew_ns = asked + renew * S;
	t->end_ns = asked + (life - margin) * S;
	if (t->renew_ns < t->got_ns + S)
		t->renew_ns = t->got_ns + S; /* not in a tight loop */
	if (t->end_ns <= t->got_ns)
		t->end_ns = t->got_ns + S; /* very short: for once */
	if (t->fail_err != 0)
		log_info("credentials: got a token again");
	t->fail_err = 0;
	t->why[0] = '\0';
}

/* Lock held. */
static void take_failure(
	struct blob_token *t, const struct blob_token_answer *a)
{
	int64_t now = now_ns(t), pause;
	char why[sizeof(t->why)];

	if (t->source->asked_for)
		snprintf(why, sizeof(why), "%.240s", a->why);
	else
		snprintf(why, sizeof(why),
			"no credentials were given, and managed identity "
			"fails (%.80s): give -o credentials=FILE or set "
			"AZURE_STORAGE_KEY or the like",
			a->why);
	if (t->fail_err == 0 || strcmp(why, t->why) != 0)
		log_warn("credentials: %s%s", why,
			is_valid(t, now) ? " (the old token still holds)" : "");
	memcpy(t->why, why, sizeof(why));
	t->fail_err = a->err;
	pause = a->err == -EACCES ? t->tune.denied_ms : t->tune.failed_ms;
	t->fail_until_ns = now + pause * MS;
	t->renew_ns = now + t->tune.renew_ms * MS;
}

/* Between 0.8 and 1.3 of it, as the SDKs do. */
static int64_t jitter_ms(int64_t ms)
{
	uint16_t r = 0;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = 0x6000;
	return ms * 8 / 10 + ms * r / (2 * 0x10000LL);
}

/* Lock held, given up while waiting.  A kick or a waiter wakes it early, which
 * is seen by the time. */
static void pause_until(struct blob_token *t, int64_t until_ns)
{
	for (int64_t now; !t->stop && (now = now_ns(t)) < until_ns;)
		base_cond_wait_ns(&t->cond, &t->lock, until_ns - now);
}

/* Lock held, given up while asking. */
static void ask(struct blob_token *t, struct blob_token_answer *ret)
{
	base_unlock(&t->lock);
	blob_token_ask(t->source, t->http, t->http_arg, t->tune.arc_dir,
		t->tune.wall_s(), ret);
	base_lock(&t->lock);
}

/* Is another try of this round worth it?  Says when.  Lock held. */
static bool may_retry(struct blob_token *t, const struct blob_token_answer *a,
	unsigned tries, int64_t start_ns, int64_t *ret_until_ns)
{
	int64_t ms = t->tune.backoff_ms;

	if (t->stop || a->err != -EIO)
		return false;
	if (!t->source->asked_for && a->unreachable && tries >= UNASKED_TRIES)
		return false;
	for (; tries > 1 && ms < t->tune.backoff_max_ms; tries--)
		ms *= 2;
	ms = jitter_ms(ms);
	if (ms < a->retry_after_ms)
		ms = a->retry_after_ms;
	*ret_until_ns = now_ns(t) + ms * MS;
	return *ret_until_ns - start_ns <= t->tune.round_ms * MS;
}

/* Lock held, given up on the way. */
static void make_round(struct blob_token *t)
{
	int64_t start = now_ns(t), asked = start, until;
	struct blob_token_answer a;
	unsigned tries = 1;

	for (ask(t, &a); may_retry(t, &a, tries, start, &until); tries++) {
		pause_until(t, until);
		if (t->stop)
			break;
		asked = now_ns(t);
		ask(t, &a);
	}
	if (t->stop)
		goto out;
	if (a.err == 0) {
		take_answer(t, &a, asked);
		answer_waiters(t, 0);
	} else {
		take_failure(t, &a);
		if (!is_valid(t, now_ns(t)))
			answer_waiters(t, a.err);
	}
out:
	blob_token_answer_fini(&a);
}

/* Lock held. */
static bool is_due(struct blob_token *t, int64_t now)
{
	if (t->bearer != NULL && now >= t->end_ns)
		forget(t);
	if (t->bearer != NULL)
		return now >= t->renew_ns;
	return t->waiters != NULL;
}

static void *thread_main(void *arg)
{
	struct blob_token *t = arg;

	base_lock(&t->lock);
	while (!t->stop) {
		int64_t now = now_ns(t);

		if (t->waiters != NULL && is_valid(t, now)) {
			answer_waiters(t, 0);
		} else if (is_due(t, now)) {
			make_round(t);
		} else if (t->bearer != NULL) {
			base_cond_wait_ns(
				&t->cond, &t->lock, t->renew_ns - now);
		} else {
			base_cond_wait(&t->cond, &t->lock);
		}
	}
	answer_waiters(t, -EINTR);
	base_unlock(&t->lock);
	return NULL;
}

struct blob_token *blob_token_new(
	const struct blob_creds *creds, blob_token_http_fn http, void *arg)
{
	return blob_token_new_tuned(creds, http, arg, &real_tune);
}

struct blob_token *blob_token_new_tuned(const struct blob_creds *creds,
	blob_token_http_fn http, void *arg, const struct blob_token_tune *tune)
{
	struct blob_token *t = base_calloc(1, sizeof(*t));
	int err;

	t->source = blob_creds_token(creds);
	assert(t->source != NULL);
	t->http = http;
	t->http_arg = arg;
	t->tune = *tune;
	base_mutex_init(&t->lock, BASE_RANK_BLOB_TOKEN);
	base_cond_init(&t->cond);
	err = pthread_create(&t->thread, NULL, thread_main, t);
	assert(err == 0);
	(void)err;
	return t;
}

void blob_token_get(struct blob_token *token, blob_token_fn fn, void *arg)
{
	struct bearer *b = NULL;
	struct waiter *w;
	int64_t now;
	int err = 0;

	base_lock(&token->lock);
	now = now_ns(token);
	if (token->stop) {
		err = -EINTR;
	} else if (is_valid(token, now)) {
		b = token->bearer;
		atomic_fetch_add(&b->refs, 1);
	} else if (token->fail_err != 0 && now < token->fail_until_ns) {
		err = token->fail_err;
	} else {
		w = base_malloc(sizeof(*w));
		*w = (struct waiter){ token->waiters, fn, arg };
		token->waiters = w;
		pthread_cond_signal(&token->cond);
		base_unlock(&token->lock);
		return;
	}
	base_unlock(&token->lock);
	fn(arg, err, b ? b->text : NULL);
	bearer_put(b);
}

void blob_token_drop(struct blob_token *token)
{
	base_lock(&token->lock);
	if (token->bearer != NULL &&
		now_ns(token) - token->got_ns >= token->tune.settled_ms * MS)
		forget(token);
	base_unlock(&token->lock);
}

void blob_token_why(struct blob_token *token, char *ret, size_t bytes)
{
	base_lock(&token->lock);
	snprintf(ret, bytes, "%s", token->why);
	base_unlock(&token->lock);
}

void blob_token_kick(struct blob_token *token)
{
	base_lock(&token->lock);
	pthread_cond_signal(&token->cond);
	base_unlock(&token->lock);
}

void blob_token_free(struct blob_token *token)
{
	if (token == NULL)
		return;
	base_lock(&token->lock);
	token->stop = true;
	pthread_cond_signal(&token->cond);
	base_unlock(&token->lock);
	pthread_join(token->thread, NULL);
	forget(token);
	pthread_cond_destroy(&token->cond);
	base_mutex_fini(&token->lock);
	free(token);
}
