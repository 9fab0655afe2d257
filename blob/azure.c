/*
 * The Azure store: open, close, submit, and whether it answers.
 *
 * Threads: those of http (blob_http_new) and token (blob_token_new), stopped
 * and joined by close_store().  A run (azure_run.c) needs no lock, as only
 * its loop touches it; submit and cancel come in as tasks.
 *
 * The circuit.  Every attempt's end tells it something (retry.h).  When its
 * state changes, a task on the first loop tells the caller, in order, and
 * starts probes: a listing of one name, by the store itself, so that it
 * notices that it is back even if nobody asks.
 */
#include "blob/azure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "blob/azure_impl.h"

#define MS INT64_C(1000000)

static struct azure *azure_of(struct blob_store *store)
{
	return (struct azure *)store;
}

uint32_t azure_random(void)
{
	uint32_t r = 0;

	/* Only jitter: without it a pause is merely less spread. */
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		r = (uint32_t)blob_loop_now_ns();
	return r;
}

uint32_t azure_stall_ms(const struct azure *azure)
{
	uint32_t ms = azure->timeout_ms / 3;

	return ms < 1000 ? 1000 : ms > 10000 ? 10000 : ms;
}

/* ---- the store's state ---- */

static void notify(struct azure *azure)
{
	if (!atomic_exchange(&azure->notify_posted, true))
		blob_loop_post(
			blob_http_first(azure->http), &azure->notify_task);
}

void azure_note_life(
	struct azure *azure, enum blob_sign_of_life life, const char *why)
{
	if (blob_circuit_note(&azure->circuit, life, blob_loop_now_ns(), why))
		notify(azure);
}

/* ---- the contract ---- */

static void submit_to(struct azure *azure, struct blob_req *req,
	struct blob_loop *loop, bool probe)
{
	struct azure_run *run = base_calloc(1, sizeof(*run));
	uint32_t ms = req->timeout_ms ? req->timeout_ms : azure->timeout_ms;

	run->azure = azure;
	run->req = req;
	run->loop = loop;
	run->probe = probe;
	run->deadline_ns = blob_loop_now_ns() + ms * MS;
	run->start_task.fn = azure_run_start;
	run->cancel_task.fn = azure_run_cancel;
	base_lock(&azure->lock);
	azure->live_nr++;
	run->next = azure->runs;
	if (run->next != NULL)
		run->next->prev = run;
	azure->runs = run;
	req->priv = run;
	/* Inside the lock, so that a cancel can only come after it. */
	blob_loop_post(run->loop, &run->start_task);
	base_unlock(&azure->lock);
}

static void submit(struct blob_store *store, struct blob_req *req)
{
	struct azure *azure = azure_of(store);

	submit_to(azure, req, blob_http_pick(azure->http), false);
}

/* The store's lock is held. */
static void cancel_run(struct azure_run *run)
{
	if (run->cancel_posted)
		return;
	run->cancel_posted = true;
	blob_loop_post(run->loop, &run->cancel_task);
}

static void cancel(struct blob_store *store, struct blob_req *req)
{
	struct azure *azure = azure_of(store);

	base_lock(&azure->lock);
	if (req->priv != NULL)
		cancel_run(req->priv);
	base_unlock(&azure->lock);
}

static int name_check(struct blob_store *store, const char *path)
{
	return azure_request_name(azure_of(store), path);
}

/* ---- probes and news, on the first loop ---- */

static void on_probe_due(struct blob_timer *timer);

static void plan_probe(struct azure *azure)
{
	if (azure->probing || atomic_load(&azure->closing))
		return;
	blob_loop_after_ms(blob_http_first(azure->http), &azure->probe_timer,
		blob_circuit_probe_ms(&azure->circuit, azure_random()),
		on_probe_due);
}

static void on_probe_done(struct blob_req *req)
{
	struct azure *azure = req->arg;

	azure->probing = false;
	blob_req_fini(req);
	if (blob_circuit_state(&azure->circuit, NULL, 0) != BLOB_STATE_UP)
		plan_probe(azure);
}

static void on_probe_due(struct blob_timer *timer)
{
	struct azure *azure = AZURE_OWNER(timer, struct azure, probe_timer);
	struct blob_http *http = azure->http;

	if (atomic_load(&azure->closing))
		return;
	azure->probing = true;
	azure->probe = (struct blob_req){ .op = BLOB_LIST,
		.name = "",
		.timeout_ms = azure_stall_ms(azure),
		.done = on_probe_done,
		.arg = azure,
		.in.list.max = 1 };
	submit_to(azure, &azure->probe, blob_http_pick_first(http), true);
}

static void on_notify(struct blob_task *task)
{
	struct azure *azure = AZURE_OWNER(task, struct azure, notify_task);
	enum blob_state state;
	char why[256];

	atomic_store(&azure->notify_posted, false);
	state = blob_circuit_state(&azure->circuit, why, sizeof(why));
	if (state == azure->told)
		return;
	azure->told = state;
	if (state == BLOB_STATE_UP)
		blob_loop_drop(
			blob_http_first(azure->http), &azure->probe_timer);
	else
		plan_probe(azure);
	if (azure->state_changed != NULL)
		azure->state_changed(azure->arg, state, why);
}

/* ---- open and close ---- */

static void free_store(struct azure *azure)
{
	blob_http_free(azure->http);
	blob_creds_free(azure->creds);
	blob_azure_url_fini(&azure->url);
	blob_circuit_fini(&azure->circuit);
	pthread_cond_destroy(&azure->idle);
	base_mutex_fini(&azure->lock);
	free(azure);
}

static void wait_idle(struct azure *azure)
{
	base_lock(&azure->lock);
	while (azure->live_nr > 0)
		base_cond_wait(&azure->idle, &azure->lock);
	base_unlock(&azure->lock);
}

static void close_store(struct blob_store *store)
{
	struct azure *azure = azure_of(store);
	struct azure_run *run;

	atomic_store(&azure->closing, true);
	blob_http_quit(azure->http);
	base_lock(&azure->lock);
	for (run = azure->runs; run != NULL; run = run->next)
		cancel_run(run);
	base_unlock(&azure->lock);
	wait_idle(azure);
	/* Only now does nobody ask it any more.  Waits whose runs are over end
	 * here; the loops free them. */
	blob_token_free(azure->token);
	free_store(azure);
}

static const struct blob_store_ops ops = {
	.submit = submit,
	.cancel = cancel,
	.close = close_store,
	.name_check = name_check,
};

/* Secrets go over TLS, or do not leave the host. */
static int check_transport(
	const struct azure *azure, char *ret_why, size_t why_bytes)
{
	static const char *const what[] = {
		[BLOB_AUTH_SHARED_KEY] = "an account key",
		[BLOB_AUTH_SAS] = "a SAS",
		[BLOB_AUTH_TOKEN] = "a token",
	};

	if (azure->url.https || azure->url.loopback)
		return 0;
	snprintf(ret_why, why_bytes,
		"refusing to use %s over plain http to another host: use "
		"https://",
		what[azure->auth]);
	return -EINVAL;
}

static int check_account(struct azure *azure, char *ret_why, size_t why_bytes)
{
	const char *account = blob_creds_account(azure->creds);
	bool sure = azure->url.path_style || azure->url.azure_host;

	azure->account = account != NULL ? account : azure->url.account;
	/* A host of one's own need not begin with the account's name. */
	if (account == NULL || !sure ||
		strcmp(account, azure->url.account) == 0)
		return 0;
	snprintf(ret_why, why_bytes,
		"the credentials are of account '%s', the store URL names "
		"'%s'",
		account, azure->url.account);
	return -EINVAL;
}

static int load(struct azure *azure, const struct blob_config *config,
	char *ret_why, size_t why_bytes)
{
	int err;

	err = blob_azure_url_parse(
		config->url, &azure->url, ret_why, why_bytes);
	if (err != 0)
		return err;
	err = blob_creds_load(
		config->credentials_file, &azure->creds, ret_why, why_bytes);
	if (err != 0)
		return err;
	azure->auth = blob_creds_kind(azure->creds);
	err = check_account(azure, ret_why, why_bytes);
	if (err == 0)
		err = check_transport(azure, ret_why, why_bytes);
	return err;
}

static void start(struct azure *azure, const struct blob_config *config)
{
	struct blob_http_config http = {
		.threads = config->threads ? config->threads : 2,
		.parallel = config->parallel ? config->parallel : 64,
		.no_proxy = azure->url.loopback,
	};

	azure->timeout_ms =
		config->timeout_ms ? config->timeout_ms : AZURE_TIMEOUT_MS;
	azure->state_changed = config->state_changed;
	azure->arg = config->arg;
	azure->told = BLOB_STATE_UP;
	azure->notify_task.fn = on_notify;
	http.connect_ms = azure_stall_ms(azure) / 2;
	azure->http = blob_http_new(&http);
	if (azure->auth == BLOB_AUTH_TOKEN)
		azure->token = blob_token_new(
			azure->creds, blob_http_token, azure->http);
}

int blob_azure_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes)
{
	struct azure *azure = base_calloc(1, sizeof(*azure));
	int err;

	azure->store.ops = &ops;
	base_mutex_init(&azure->lock, BASE_RANK_BLOB_STORE);
	base_cond_init(&azure->idle);
	blob_circuit_init(&azure->circuit);
	err = load(azure, config, ret_why, why_bytes);
	if (err != 0) {
		free_store(azure);
		return err;
	}
	start(azure, config);
	*ret_store = &azure->store;
	return 0;
}
