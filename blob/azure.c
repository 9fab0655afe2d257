/*
 * The Azure store: requests from submit to done.
 *
 * Stages of a run, all on its loop's thread:
 *	NEW -> TOKEN or CALL	start_run(): names are good, the circuit closed
 *	TOKEN -> CALL, PAUSE	on_bearer()
 *	CALL -> PAUSE		on_call_done(): to be tried again, later
 *	CALL -> TOKEN, CALL	... at once: a refused token, once
 *	PAUSE -> TOKEN, CALL	on_pause_over()
 *	any -> OVER		finish(): result known, deadline, cancel
 *
 * Threads: those of http (blob_http_new) and token (blob_token_new), stopped
 * and joined by close_store().  A run needs no lock, as only its loop touches
 * it; submit and cancel come in as tasks.
 *
 * The circuit.  Every attempt's end tells it something (retry.h).  When its
 * state changes, a task on the first loop tells the caller, in order, and
 * starts probes: a listing of one name, by the store itself, so that it
 * notices that it is back even if nobody asks.
 */
#include "blob/azure.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "blob/azure_impl.h"

#define MS INT64_C(1000000)
/* A deadline that ends an attempt speaks against the store only if it had been
 * silent so long. */
#define SILENT_MS 1000

static void attempt(struct azure_run *run);

static struct azure *azure_of(struct blob_store *store)
{
	return (struct azure *)store;
}

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))

static uint32_t random32(void)
{
	uint32_t r = 0;

	/* Only jitter: without it a pause is merely less spread. */
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		r = (uint32_t)blob_loop_now_ns();
	return r;
}

/* ---- the store's state ---- */

static void notify(struct azure *azure)
{
	if (!atomic_exchange(&azure->notify_posted, true))
		blob_loop_post(
			blob_http_first(azure->http), &azure->notify_task);
}

static void note_life(
	struct azure *azure, enum blob_sign_of_life life, const char *why)
{
	if (blob_circuit_note(&azure->circuit, life, blob_loop_now_ns(), why))
		notify(azure);
}

static void note_attempt(struct azure_run *run, const struct blob_attempt *a)
{
	struct azure *azure = run->azure;
	enum blob_sign_of_life life = blob_retry_life(a);
	char why[320];

	/* Half a body is a bad answer, but one. */
	if (life == BLOB_LIFE_FAILURE && a->end == BLOB_END_LOST &&
		run->call.answered)
		life = BLOB_LIFE_ANSWER;
	switch (life) {
	case BLOB_LIFE_DENIED:
	case BLOB_LIFE_UNLIKED:
		snprintf(why, sizeof(why),
			"the store refuses these credentials (%s): check key, "
			"SAS or role assignment, and the clock",
			a->code[0] ? a->code : "no code");
		break;
	case BLOB_LIFE_GONE:
		snprintf(why, sizeof(why),
			"there is no container '%s' (%s): create it, or "
			"correct STORE",
			azure->url.container, a->code);
		break;
	default:
		snprintf(why, sizeof(why), "%s does not answer: %s",
			azure->url.authority,
			run->call.why[0] ? run->call.why : a->code);
		break;
	}
	note_life(azure, life, why);
}

/* ---- the end of a run ---- */

static void detach_wait(struct azure_run *run)
{
	if (run->wait != NULL)
		run->wait->run = NULL;
	run->wait = NULL;
}

static void wipe(struct base_str *s)
{
	if (s->data != NULL)
		explicit_bzero(s->data, s->cap);
	base_str_fini(s);
}

static void free_run(struct azure_run *run)
{
	blob_call_fini(&run->call);
	wipe(&run->bearer);
	base_str_fini(&run->blob);
	base_str_fini(&run->source);
	base_str_fini(&run->only);
	base_str_fini(&run->xml);
	base_str_fini(&run->error);
	blob_list_free(run->list);
	if (run->hash != NULL)
		blob_hash_end(run->hash, NULL);
	free(run);
}

static void unlink_run(struct azure *azure, struct azure_run *run)
{
	if (run->prev != NULL)
		run->prev->next = run->next;
	else
		azure->runs = run->next;
	if (run->next != NULL)
		run->next->prev = run->prev;
}

static void drop_live(struct azure *azure)
{
	base_lock(&azure->lock);
	if (--azure->live_nr == 0)
		pthread_cond_broadcast(&azure->idle);
	base_unlock(&azure->lock);
}

static void finish(struct azure_run *run, enum blob_result result, int err)
{
	struct azure *azure = run->azure;
	struct blob_req *req = run->req;
	bool keep;

	run->stage = AZURE_OVER;
	blob_loop_drop(run->loop, &run->deadline);
	blob_loop_drop(run->loop, &run->pause);
	detach_wait(run);
	req->result = result;
	req->err = err;
	if (result == BLOB_OK)
		req->code[0] = '\0';
	else
		log_debug("azure: op %d: %s, HTTP %d %s, %u attempts",
			(int)req->op, blob_result_name(result),
			req->http_status, req->code, run->attempt + 1);
	if (result == BLOB_AMBIGUOUS)
		req->uncertain = true;
	base_lock(&azure->lock);
	unlink_run(azure, run);
	req->priv = NULL;
	/* A cancel on its way still points here and frees it. */
	keep = run->cancel_posted && !run->cancel_ran;
	base_unlock(&azure->lock);
	blob_http_unpick(run->loop);
	if (!keep)
		free_run(run);
	req->done(req);
	drop_live(azure);
}

static void finish_with(
	struct azure_run *run, enum blob_result result, const char *code)
{
	if (code != NULL)
		snprintf(run->req->code, sizeof(run->req->code), "%s", code);
	finish(run, result, blob_retry_errno(result));
}

/* ---- attempts ---- */

static void on_pause_over(struct blob_timer *timer)
{
	struct azure_run *run = container_of(timer, struct azure_run, pause);

	attempt(run);
}

/* Tries again after a pause, or ends with `result` if there is no time. */
static void try_again(
	struct azure_run *run, enum blob_result result, int64_t after_ms)
{
	int64_t ms = blob_retry_delay_ms(++run->attempt, after_ms, random32());

	if (blob_loop_now_ns() + ms * MS >= run->deadline_ns) {
		run->attempt--;
		finish_with(run, result, NULL);
		return;
	}
	log_debug("azure: op %d: attempt %u failed (HTTP %d %s %s), again in "
		  "%d ms",
		(int)run->req->op, run->attempt, run->req->http_status,
		run->req->code, run->call.why, (int)ms);
	run->stage = AZURE_PAUSE;
	blob_loop_after_ms(run->loop, &run->pause, ms, on_pause_over);
}

static void conclude(struct azure_run *run, struct blob_verdict v)
{
	int64_t after_ms;

	switch (v.kind) {
	case BLOB_VERDICT_RETRY:
		after_ms = blob_retry_after_ms(&run->call.answer, time(NULL));
		try_again(run, v.result, after_ms);
		return;
	case BLOB_VERDICT_REAUTH:
	case BLOB_VERDICT_FINAL:
		finish_with(run, v.result, NULL);
		return;
	}
}

static void on_call_done(struct blob_call *call)
{
	struct azure_run *run = container_of(call, struct azure_run, call);
	struct blob_attempt a;
	struct blob_verdict v;

	/* prepare() refused: the request can never be built. */
	if (call->end == BLOB_END_STOPPED && call->request.nr == 0) {
		finish_with(run,
			call->err == -EOPNOTSUPP ? BLOB_UNSUPPORTED
						 : BLOB_REFUSED,
			"CannotBuild");
		return;
	}
	v = azure_answer_end(run, &a);
	if (v.kind == BLOB_VERDICT_REAUTH && run->azure->token != NULL &&
		!run->reauthed) {
		run->reauthed = true;
		blob_token_drop(run->azure->token);
		attempt(run);
		return;
	}
	note_attempt(run, &a);
	conclude(run, v);
}

static int on_prepare(struct blob_call *call)
{
	struct azure_run *run = container_of(call, struct azure_run, call);
	int err;

	azure_answer_begin(run);
	err = azure_request_build(run);
	if (err != 0)
		blob_headers_clear(&call->request);
	return err;
}

static int on_head(struct blob_call *call)
{
	return azure_answer_head(container_of(call, struct azure_run, call));
}

static int on_data(struct blob_call *call, const void *buf, size_t len)
{
	return azure_answer_data(
		container_of(call, struct azure_run, call), buf, len);
}

static uint32_t stall_ms_of(const struct azure *azure)
{
	uint32_t ms = azure->timeout_ms / 3;

	return ms < 1000 ? 1000 : ms > 10000 ? 10000 : ms;
}

static void start_call(struct azure_run *run)
{
	struct blob_call *call = &run->call;
	uint32_t stall_ms = stall_ms_of(run->azure);

	call->background = run->req->background;
	call->prepare = on_prepare;
	call->head = on_head;
	call->data = on_data;
	call->done = on_call_done;
	call->stall_ms = stall_ms;
	/* A mutation that takes its time must not be given up: what could be
	 * a late success would become a lost answer.  And what was handed to
	 * the kernel may still be on its way. */
	call->answer_ms = stall_ms;
	if (blob_op_mutates(run->req->op) || run->req->op == BLOB_PUT_BLOCK_URL)
		call->answer_ms = 0;
	else if (run->req->op == BLOB_PUT_BLOCK)
		call->answer_ms = 3 * stall_ms;
	run->stage = AZURE_CALL;
	blob_loop_start(run->loop, call);
}

/* ---- tokens ---- */

static void on_bearer(struct blob_task *task)
{
	struct azure_wait *wait = container_of(task, struct azure_wait, task);
	struct azure_run *run = wait->run;
	struct azure *azure = wait->azure;
	char why[200] = "";
	int err = wait->err;

	if (run != NULL) {
		run->wait = NULL;
		wipe(&run->bearer);
		run->bearer = wait->bearer;
		wait->bearer = (struct base_str)BASE_STR_INIT;
	}
	wipe(&wait->bearer);
	free(wait);
	if (run != NULL && err != 0) {
		blob_token_why(azure->token, why, sizeof(why));
		note_life(azure,
			err == -EACCES ? BLOB_LIFE_DENIED : BLOB_LIFE_FAILURE,
			why);
	}
	if (run != NULL && err == 0) {
		start_call(run);
	} else if (run != NULL && err == -EACCES) {
		finish_with(run, BLOB_DENIED, "TokenRefused");
	} else if (run != NULL && err == -EINTR) {
		finish_with(run, BLOB_STOPPED, "Stopped");
	} else if (run != NULL) {
		snprintf(run->req->code, sizeof(run->req->code),
			"TokenUnavailable");
		try_again(run, BLOB_UNAVAILABLE, 0);
	}
}

/* From the token's thread, or inside blob_token_get(). */
static void on_token(void *arg, int err, const char *bearer)
{
	struct azure_wait *wait = arg;

	wait->err = err;
	if (err == 0)
		base_str_puts(&wait->bearer, bearer);
	wait->task.fn = on_bearer;
	blob_loop_post(wait->loop, &wait->task);
}

static void ask_token(struct azure_run *run)
{
	struct azure *azure = run->azure;
	struct azure_wait *wait = base_calloc(1, sizeof(*wait));

	wait->azure = azure;
	wait->loop = run->loop;
	wait->run = run;
	run->wait = wait;
	run->stage = AZURE_TOKEN;
	blob_token_get(azure->token, on_token, wait);
}

static void attempt(struct azure_run *run)
{
	if (!run->probe && !blob_circuit_admits(&run->azure->circuit)) {
		/* Whatever came before it was surely not applied. */
		finish_with(run, BLOB_UNAVAILABLE, "StoreDown");
		return;
	}
	if (run->azure->token != NULL)
		ask_token(run);
	else
		start_call(run);
}

/* ---- ends from outside ---- */

/* Stops whatever goes on.  A mutation that may have been applied says so, for
 * whatever reason it was stopped. */
static void stop_run(
	struct azure_run *run, enum blob_result result, const char *code)
{
	struct blob_attempt a;
	struct blob_verdict v;

	if (run->stage != AZURE_CALL || !run->call.running) {
		blob_loop_abort(&run->call);
		finish_with(run, result, code);
		return;
	}
	blob_loop_abort(&run->call);
	v = azure_answer_end(run, &a);
	if (result == BLOB_UNAVAILABLE && run->call.silent_ns > SILENT_MS * MS)
		note_attempt(run, &a);
	if (v.kind == BLOB_VERDICT_FINAL)
		finish_with(run, v.result, NULL);
	else
		finish_with(run, result, code);
}

static void on_deadline(struct blob_timer *timer)
{
	struct azure_run *run = container_of(timer, struct azure_run, deadline);

	stop_run(run, BLOB_UNAVAILABLE, "Timeout");
}

static void on_cancel(struct blob_task *task)
{
	struct azure_run *run =
		container_of(task, struct azure_run, cancel_task);

	if (run->stage == AZURE_OVER) {
		free_run(run);
		return;
	}
	base_lock(&run->azure->lock);
	run->cancel_ran = true;
	base_unlock(&run->azure->lock);
	stop_run(run, BLOB_STOPPED, "Stopped");
}

static void on_start(struct blob_task *task)
{
	struct azure_run *run =
		container_of(task, struct azure_run, start_task);
	struct azure *azure = run->azure;
	enum blob_result result;
	int64_t left_ns;
	int err = 0;

	if (atomic_load(&azure->closing)) {
		finish_with(run, BLOB_STOPPED, "Stopped");
		return;
	}
	result = azure_request_check(run, &err);
	if (result != BLOB_OK) {
		snprintf(run->req->code, sizeof(run->req->code), "%s",
			result == BLOB_NAME ? "InvalidName" : "InvalidRequest");
		finish(run, result, err);
		return;
	}
	left_ns = run->deadline_ns - blob_loop_now_ns();
	blob_loop_after_ms(run->loop, &run->deadline,
		left_ns > 0 ? left_ns / MS : 0, on_deadline);
	attempt(run);
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
	run->start_task.fn = on_start;
	run->cancel_task.fn = on_cancel;
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
		blob_circuit_probe_ms(&azure->circuit, random32()),
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
	struct azure *azure = container_of(timer, struct azure, probe_timer);
	struct blob_http *http = azure->http;

	if (atomic_load(&azure->closing))
		return;
	azure->probing = true;
	azure->probe = (struct blob_req){ .op = BLOB_LIST,
		.name = "",
		.timeout_ms = stall_ms_of(azure),
		.done = on_probe_done,
		.arg = azure,
		.in.list.max = 1 };
	submit_to(azure, &azure->probe, blob_http_pick_first(http), true);
}

static void on_notify(struct blob_task *task)
{
	struct azure *azure = container_of(task, struct azure, notify_task);
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
	http.connect_ms = stall_ms_of(azure) / 2;
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
