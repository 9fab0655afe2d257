/*
 * The real executor and strands: see env.h.
 *
 * Threads: base_pool_new() starts `threads` workers and one timer thread;
 * base_pool_stop() stops and joins them all.  The timer thread sleeps until
 * the earliest deadline and moves what is due to the queue.
 */
#include "base/env.h"

#include "base/lock.h"
#include "base/str.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <time.h>

struct task {
	STAILQ_ENTRY(task) link;
	base_task_fn fn;
	void *arg;
	int64_t due_ns;
};
STAILQ_HEAD(task_queue, task);

struct pool {
	struct base_env env;
	struct base_mutex mutex;
	/* all below under mutex */
	pthread_cond_t work;
	pthread_cond_t timer;
	struct task_queue queue;
	struct task **heap; /* min-heap by due_ns */
	size_t heap_nr, heap_cap;
	bool stopping;
	/* fixed after start */
	pthread_t *threads;
	unsigned threads_nr;
	pthread_t timer_thread;
};

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct task *task_new(base_task_fn fn, void *arg)
{
	struct task *t = base_calloc(1, sizeof(*t));

	t->fn = fn;
	t->arg = arg;
	return t;
}

static void pool_post(struct base_env *env, base_task_fn fn, void *arg)
{
	struct pool *p = (struct pool *)env;
	struct task *t = task_new(fn, arg);

	base_lock(&p->mutex);
	STAILQ_INSERT_TAIL(&p->queue, t, link);
	pthread_cond_signal(&p->work);
	base_unlock(&p->mutex);
}

static void heap_push(struct pool *p, struct task *t)
{
	size_t i = p->heap_nr++;

	if (p->heap_nr > p->heap_cap) {
		p->heap_cap = p->heap_nr * 2;
		p->heap = base_realloc(
			p->heap, p->heap_cap * sizeof(struct task *));
	}
	while (i > 0 && p->heap[(i - 1) / 2]->due_ns > t->due_ns) {
		p->heap[i] = p->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	p->heap[i] = t;
}

static struct task *heap_pop(struct pool *p)
{
	struct task *top = p->heap[0];
	struct task *last = p->heap[--p->heap_nr];
	size_t i = 0;

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= p->heap_nr)
			break;
		if (c + 1 < p->heap_nr &&
			p->heap[c + 1]->due_ns < p->heap[c]->due_ns)
			c++;
		if (last->due_ns <= p->heap[c]->due_ns)
			break;
		p->heap[i] = p->heap[c];
		i = c;
	}
	if (p->heap_nr > 0)
		p->heap[i] = last;
	return top;
}

static void pool_after(
	struct base_env *env, int64_t delay_ns, base_task_fn fn, void *arg)
{
	struct pool *p = (struct pool *)env;
	struct task *t = task_new(fn, arg);

	t->due_ns = clock_ns(CLOCK_MONOTONIC) + delay_ns;
	base_lock(&p->mutex);
	heap_push(p, t);
	if (p->heap[0] == t)
		pthread_cond_signal(&p->timer);
	base_unlock(&p->mutex);
}

static void *worker_main(void *arg)
{
	struct pool *p = arg;

	base_lock(&p->mutex);
	for (;;) {
		struct task *t = STAILQ_FIRST(&p->queue);

		if (t == NULL) {
			if (p->stopping)
				break;
			base_cond_wait(&p->work, &p->mutex);
			continue;
		}
		STAILQ_REMOVE_HEAD(&p->queue, link);
		base_unlock(&p->mutex);
		t->fn(t->arg);
		free(t);
		base_lock(&p->mutex);
	}
	base_unlock(&p->mutex);
	return NULL;
}

static void *timer_main(void *arg)
{
	struct pool *p = arg;
	struct task *t;

	base_lock(&p->mutex);
	while (!p->stopping) {
		int64_t now = clock_ns(CLOCK_MONOTONIC);

		if (p->heap_nr == 0) {
			base_cond_wait(&p->timer, &p->mutex);
		} else if (p->heap[0]->due_ns > now) {
			base_cond_wait_ns(
				&p->timer, &p->mutex, p->heap[0]->due_ns - now);
		} else {
			/* not inside the macro, which names it thrice */
			t = heap_pop(p);
			STAILQ_INSERT_TAIL(&p->queue, t, link);
			pthread_cond_signal(&p->work);
		}
	}
	base_unlock(&p->mutex);
	return NULL;
}

static int64_t pool_boot_ns(struct base_env *env)
{
	(void)env;
	return clock_ns(CLOCK_BOOTTIME);
}

static int64_t pool_wall_ns(struct base_env *env)
{
	(void)env;
	return clock_ns(CLOCK_REALTIME);
}

static void pool_random(struct base_env *env, void *buf, size_t bytes)
{
	char *p = buf;

	(void)env;
	while (bytes > 0) {
		ssize_t n = getrandom(p, bytes, 0);

		assert(n > 0);
		p += n;
		bytes -= (size_t)n;
	}
}

static void strand_due(void *arg);

static const struct base_env_ops pool_ops = {
	.post = pool_post,
	.after = pool_after,
	.boot_ns = pool_boot_ns,
	.wall_ns = pool_wall_ns,
	.random = pool_random,
};

static void start(pthread_t *ret, void *(*fn)(void *), void *arg)
{
	int err = pthread_create(ret, NULL, fn, arg);

	assert(err == 0);
	(void)err;
}

struct base_env *base_pool_new(unsigned threads)
{
	struct pool *p = base_calloc(1, sizeof(*p));

	p->env.ops = &pool_ops;
	base_mutex_init(&p->mutex, BASE_RANK_TASK);
	base_cond_init(&p->work);
	base_cond_init(&p->timer);
	STAILQ_INIT(&p->queue);
	p->threads_nr = threads;
	p->threads = base_calloc(threads, sizeof(*p->threads));
	for (unsigned i = 0; i < threads; i++)
		start(&p->threads[i], worker_main, p);
	start(&p->timer_thread, timer_main, p);
	return &p->env;
}

void base_pool_stop(struct base_env *env)
{
	struct pool *p = (struct pool *)env;

	base_lock(&p->mutex);
	p->stopping = true;
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->timer);
	base_unlock(&p->mutex);
	pthread_join(p->timer_thread, NULL);
	for (unsigned i = 0; i < p->threads_nr; i++)
		pthread_join(p->threads[i], NULL);
}

void base_pool_free(struct base_env *env)
{
	struct pool *p = (struct pool *)env;
	struct task *t;

	if (p == NULL)
		return;
	while ((t = STAILQ_FIRST(&p->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&p->queue, link);
		free(t);
	}
	while (p->heap_nr > 0) {
		t = heap_pop(p);
		if (t->fn == strand_due) /* the one task that owns its arg */
			free(t->arg);
		free(t);
	}
	free(p->heap);
	free(p->threads);
	base_mutex_fini(&p->mutex);
	free(p);
}

/* ---- strands ---- */

struct base_strand {
	struct base_env *env;
	struct base_mutex mutex;
	struct task_queue queue; /* under mutex */
	bool running;		 /* under mutex: a runner is posted */
};

struct strand_timer {
	struct base_strand *strand;
	base_task_fn fn;
	void *arg;
};

/* One task a turn, so that a busy strand does not keep a worker for itself. */
static void strand_run(void *arg)
{
	struct base_strand *s = arg;
	struct task *t;
	bool more;

	base_lock(&s->mutex);
	t = STAILQ_FIRST(&s->queue);
	base_unlock(&s->mutex);
	t->fn(t->arg);
	base_lock(&s->mutex);
	STAILQ_REMOVE_HEAD(&s->queue, link);
	more = !STAILQ_EMPTY(&s->queue);
	s->running = more;
	if (more)
		base_post(s->env, strand_run, s);
	base_unlock(&s->mutex);
	free(t);
}

struct base_strand *base_strand_new(struct base_env *env)
{
	struct base_strand *s = base_calloc(1, sizeof(*s));

	s->env = env;
	base_mutex_init(&s->mutex, BASE_RANK_STRAND);
	STAILQ_INIT(&s->queue);
	return s;
}

void base_strand_free(struct base_strand *s)
{
	struct task *t;

	if (s == NULL)
		return;
	while ((t = STAILQ_FIRST(&s->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&s->queue, link);
		free(t);
	}
	base_mutex_fini(&s->mutex);
	free(s);
}

void base_strand_post(struct base_strand *s, base_task_fn fn, void *arg)
{
	struct task *t = task_new(fn, arg);

	base_lock(&s->mutex);
	STAILQ_INSERT_TAIL(&s->queue, t, link);
	if (!s->running) {
		s->running = true;
		base_post(s->env, strand_run, s);
	}
	base_unlock(&s->mutex);
}

static void strand_due(void *arg)
{
	struct strand_timer *st = arg;

	base_strand_post(st->strand, st->fn, st->arg);
	free(st);
}

void base_strand_after(
	struct base_strand *s, int64_t delay_ns, base_task_fn fn, void *arg)
{
	struct strand_timer *st = base_malloc(sizeof(*st));

	*st = (struct strand_timer){ s, fn, arg };
	base_after(s->env, delay_ns, strand_due, st);
}
