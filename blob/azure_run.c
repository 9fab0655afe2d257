/*
 * One request of the Azure store, from its start to done().
 *
 * Stages of a run, all on its loop's thread:
 *	NEW -> TOKEN or CALL	azure_run_start(): good names, circuit closed
 *	TOKEN -> CALL, PAUSE	on_bearer()
 *	CALL -> PAUSE		on_call_done(): to be tried again, later
 *	CALL -> TOKEN, CALL	... at once: a refused token, once; half a blob
 *	PAUSE -> TOKEN, CALL	on_pause_over()
 *	any -> OVER		finish(): result known, deadline, cancel
 */
#include "blob/azure_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define MS INT64_C(1000000)
/* A deadline that ends an attempt speaks against the store only if it had been
 * silent so long. */
#define SILENT_MS 1000

static void attempt(struct azure_run *run);

/* ---- the store's state ---- */

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
	azure_note_life(azure, life, why);
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
	struct azure_run *run = AZURE_OWNER(timer, struct azure_run, pause);

	attempt(run);
}

/* Tries again after a pause, or ends with `result` if there is no time. */
static void try_again(
	struct azure_run *run, enum blob_result result, int64_t after_ms)
{
	int64_t ms =
		blob_retry_delay_ms(++run->attempt, after_ms, azure_random());

	if (blob_loop_now_ns() + ms * MS >= run->deadline_ns) {
		run->attempt--;
		/* Which of the many ways? */
		if (strcmp(run->req->code, "Unreachable") == 0 &&
			run->call.why[0] != '\0')
			snprintf(run->req->code, sizeof(run->req->code), "%.*s",
				(int)sizeof(run->req->code) - 1, run->call.why);
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
		if (run->got > run->got_before) {
			/* It gets on: no reason to slow down.  An answer that
			 * was merely shorter than asked goes on at once. */
			run->attempt = 0;
			if (run->call.end == BLOB_END_ANSWERED) {
				attempt(run);
				return;
			}
		}
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
	struct azure_run *run = AZURE_OWNER(call, struct azure_run, call);
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
	struct azure_run *run = AZURE_OWNER(call, struct azure_run, call);
	int err;

	azure_answer_begin(run);
	err = azure_request_build(run);
	if (err != 0)
		blob_headers_clear(&call->request);
	return err;
}

static int on_head(struct blob_call *call)
{
	return azure_answer_head(AZURE_OWNER(call, struct azure_run, call));
}

static int on_data(struct blob_call *call, const void *buf, size_t len)
{
	return azure_answer_data(
		AZURE_OWNER(call, struct azure_run, call), buf, len);
}

static void start_call(struct azure_run *run)
{
	struct blob_call *call = &run->call;
	uint32_t stall_ms = azure_stall_ms(run->azure);

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
	struct azure_wait *wait = AZURE_OWNER(task, struct azure_wait, task);
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
		azure_note_life(azure,
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
	struct azure_run *run = AZURE_OWNER(timer, struct azure_run, deadline);

	stop_run(run, BLOB_UNAVAILABLE, "Timeout");
}

void azure_run_cancel(struct blob_task *task)
{
	struct azure_run *run =
		AZURE_OWNER(task, struct azure_run, cancel_task);

	if (run->stage == AZURE_OVER) {
		free_run(run);
		return;
	}
	base_lock(&run->azure->lock);
	run->cancel_ran = true;
	base_unlock(&run->azure->lock);
	stop_run(run, BLOB_STOPPED, "Stopped");
}

void azure_run_start(struct blob_task *task)
{
	struct azure_run *run = AZURE_OWNER(task, struct azure_run, start_task);
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
