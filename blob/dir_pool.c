/*
 * The threads of the `dir:` store, its queue and its watcher.
 *
 * States of a job: queued -> running -> done; only a queued job can be ended
 * by the watcher, a running one sees its `cancelled` flag and `closing`
 * between pieces (dir_job_check).  req->priv points to the job until
 * just before `done`, so that a late cancel finds nothing.
 *
 * timeout_ms counts while nothing moves: a request that waits in the queue
 * longer than that, while no thread finished anything or took a piece, ends as
 * BLOB_UNAVAILABLE.  Work that is under way is not cut: the kernel would not
 * let go of it, and half a copy of a large file helps nobody.
 *
 * Threads: dir_pool_start() starts threads_nr workers and one watcher;
 * dir_pool_stop() joins them.
 */
#include "blob/dir_priv.h"

#include <stdatomic.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t dir_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void queue_push(struct dir_queue *q, struct dir_job *job, bool front)
{
	job->next = front ? q->head : NULL;
	job->prev = front ? NULL : q->tail;
	if (job->next)
		job->next->prev = job;
	else
		q->tail = job;
	if (job->prev)
		job->prev->next = job;
	else
		q->head = job;
}

static void queue_remove(struct dir_queue *q, struct dir_job *job)
{
	if (job->next)
		job->next->prev = job->prev;
	else
		q->tail = job->prev;
	if (job->prev)
		job->prev->next = job->next;
	else
		q->head = job->next;
	job->next = job->prev = NULL;
}

static struct dir_queue *queue_of(struct dir_job *job)
{
	return job->req->background ? &job->store->background
				    : &job->store->foreground;
}

int dir_job_check(struct dir_job *job)
{
	bool closing;

	if (atomic_load(&job->cancelled))
		return -EINTR;
	base_lock(&job->store->lock);
	closing = job->store->closing;
	job->store->progress_ns = dir_now_ns();
	base_unlock(&job->store->lock);
	return closing ? -EINTR : 0;
}

/* The last step: the job is in no queue, and nobody else will end it. */
static void finish(struct dir_job *job, enum blob_result result)
{
	struct blob_dir *store = job->store;
	struct blob_req *req = job->req;

	req->result = result;
	if (result == BLOB_OK) {
		req->err = 0;
		req->code[0] = '\0';
	}
	base_lock(&store->lock);
	req->priv = NULL;
	store->progress_ns = dir_now_ns();
	base_unlock(&store->lock);
	free(job);
	req->done(req);
}

static void work(struct dir_job *job)
{
	int err;

	job->req->server_time_s = time(NULL);
	err = dir_job_check(job);
	finish(job, err ? dir_errno(job->req, err) : dir_run(job));
}

/* Foreground first; the background never takes the last thread. */
static struct dir_job *next_job(struct blob_dir *store, bool *ret_background)
{
	struct dir_job *job = store->foreground.head;

	*ret_background = false;
	if (job) {
		queue_remove(&store->foreground, job);
		return job;
	}
	job = store->background.head;
	if (!job ||
		(store->threads_nr > 1 && !store->closing &&
			store->running_background + 1 >= store->threads_nr))
		return NULL;
	queue_remove(&store->background, job);
	*ret_background = true;
	return job;
}

static void *worker(void *arg)
{
	struct blob_dir *store = arg;
	struct dir_job *job;
	bool background;

	base_lock(&store->lock);
	for (;;) {
		job = next_job(store, &background);
		if (!job) {
			if (store->closing)
				break;
			base_cond_wait(&store->work, &store->lock);
			continue;
		}
		store->running_background += background;
		store->progress_ns = dir_now_ns();
		base_unlock(&store->lock);
		work(job);
		base_lock(&store->lock);
		store->running_background -= background;
		if (background && store->background.head)
			pthread_cond_signal(&store->work);
	}
	base_unlock(&store->lock);
	return NULL;
}

void dir_submit(struct blob_store *base, struct blob_req *req)
{
	struct blob_dir *store = (struct blob_dir *)base;
	struct dir_job *job = base_calloc(1, sizeof(*job));
	uint32_t ms = req->timeout_ms ? req->timeout_ms : store->timeout_ms;

	job->req = req;
	job->store = store;
	job->submitted_ns = dir_now_ns();
	job->timeout_ns = ms * 1000000ll;
	req->err = 0;
	req->code[0] = '\0';
	req->uncertain = false;
	req->http_status = 0;
	memset(&req->props, 0, sizeof(req->props));
	memset(&req->page, 0, sizeof(req->page));
	memset(&req->blocks, 0, sizeof(req->blocks));
	base_lock(&store->lock);
	req->priv = job;
	queue_push(queue_of(job), job, false);
	pthread_cond_signal(&store->work);
	base_unlock(&store->lock);
}

void dir_cancel(struct blob_store *base, struct blob_req *req)
{
	struct blob_dir *store = (struct blob_dir *)base;
	struct dir_job *job;

	base_lock(&store->lock);
	job = req->priv;
	if (job)
		atomic_store(&job->cancelled, true);
	base_unlock(&store->lock);
}

/* ---- the watcher ---- */

/* A queued job that nobody will take in time: every thread is stuck in the
 * kernel (a hung mount), or it was cancelled meanwhile. */
static struct dir_job *take_stuck(struct blob_dir *store, struct dir_queue *q)
{
	int64_t now = dir_now_ns();

	for (struct dir_job *job = q->head; job; job = job->next) {
		int64_t since = job->submitted_ns > store->progress_ns
			? job->submitted_ns
			: store->progress_ns;

		if (now - since < job->timeout_ns)
			continue;
		queue_remove(q, job);
		return job;
	}
	return NULL;
}

static void expire_jobs(struct blob_dir *store)
{
	struct dir_job *job;

	for (;;) {
		int64_t progress;

		base_lock(&store->lock);
		job = take_stuck(store, &store->foreground);
		if (!job)
			job = take_stuck(store, &store->background);
		progress = store->progress_ns;
		base_unlock(&store->lock);
		if (!job)
			return;
		finish(job, dir_errno(job->req, -ETIMEDOUT));
		/* Ending a stuck job is not progress. */
		base_lock(&store->lock);
		store->progress_ns = progress;
		base_unlock(&store->lock);
	}
}

static bool has_cursors(struct blob_dir *store)
{
	bool any = false;

	base_lock(&store->cursor_lock);
	for (unsigned i = 0; i < DIR_CURSORS_MAX; i++)
		any |= store->cursors[i] != NULL;
	base_unlock(&store->cursor_lock);
	return any;
}

static void *watcher(void *arg)
{
	struct blob_dir *store = arg;
	base_lock(&store->lock);
	while (!store->closing) {
		base_cond_wait_ns(&store->watch, &store->lock, DIR_PROBE_NS);
		if (store->closing)
			break;
		base_unlock(&store->lock);
		if (atomic_load(&store->state) != BLOB_STATE_UP)
			dir_probe(store);
		expire_jobs(store);
		if (has_cursors(store))
			dir_cursors_expire(store, dir_now_ns());
		base_lock(&store->lock);
	}
	base_unlock(&store->lock);
	return NULL;
}

/* ---- start and stop ---- */

/* Also ends a store of which only some threads could be started. */
static void stop(struct blob_dir *store, unsigned started, bool watched)
{
	base_lock(&store->lock);
	store->closing = true;
	pthread_cond_broadcast(&store->work);
	pthread_cond_broadcast(&store->watch);
	base_unlock(&store->lock);
	for (unsigned i = 0; i < started; i++)
		pthread_join(store->threads[i], NULL);
	if (watched)
		pthread_join(store->watcher, NULL);
}

int dir_pool_start(struct blob_dir *store)
{
	unsigned i;

	store->threads = base_calloc(store->threads_nr, sizeof(pthread_t));
	for (i = 0; i < store->threads_nr; i++) {
		if (pthread_create(&store->threads[i], NULL, worker, store)) {
			stop(store, i, false);
			return -EAGAIN;
		}
	}
	if (pthread_create(&store->watcher, NULL, watcher, store)) {
		stop(store, i, false);
		return -EAGAIN;
	}
	return 0;
}

void dir_pool_stop(struct blob_dir *store)
{
	stop(store, store->threads_nr, true);
}
