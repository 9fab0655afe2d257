/*
 * One thread that calls functions later: a heap ordered by time.
 *
 * blobd_timer_start() makes the thread, blobd_timer_stop() joins it; after
 * that a function is called at once, by whoever asks.
 */
#include "tests/blobd/fault.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/str.h"
#include "tests/blobd/blobs.h"

struct alarm {
	int64_t at_ns;
	void (*fn)(void *);
	void *arg;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	/* under mutex: */
	struct alarm *heap;
	size_t nr, cap;
	bool stopping;
	pthread_t thread;
} timer = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void push(struct alarm a)
{
	size_t i = timer.nr++, up;

	if (timer.nr > timer.cap) {
		timer.cap = timer.cap ? timer.cap * 2 : 64;
		timer.heap = base_realloc(
			timer.heap, timer.cap * sizeof(*timer.heap));
	}
	for (; i > 0; i = up) {
		up = (i - 1) / 2;
		if (timer.heap[up].at_ns <= a.at_ns)
			break;
		timer.heap[i] = timer.heap[up];
	}
	timer.heap[i] = a;
}

static struct alarm pop(void)
{
	struct alarm top = timer.heap[0], last = timer.heap[--timer.nr];
	size_t i = 0, down;

	for (; (down = 2 * i + 1) < timer.nr; i = down) {
		if (down + 1 < timer.nr &&
			timer.heap[down + 1].at_ns < timer.heap[down].at_ns)
			down++;
		if (last.at_ns <= timer.heap[down].at_ns)
			break;
		timer.heap[i] = timer.heap[down];
	}
	timer.heap[i] = last;
	return top;
}

static void *run(void *arg)
{
	struct timespec ts;
	struct alarm a;
	int64_t at;

	(void)arg;
	pthread_mutex_lock(&timer.mutex);
	while (!timer.stopping || timer.nr > 0) {
		if (timer.nr == 0) {
			pthread_cond_wait(&timer.cond, &timer.mutex);
			continue;
		}
		at = timer.heap[0].at_ns;
		if (!timer.stopping && at > blobd_now_ns()) {
			ts.tv_sec = at / 1000000000;
			ts.tv_nsec = at % 1000000000;
			pthread_cond_timedwait(&timer.cond, &timer.mutex, &ts);
			continue;
		}
		a = pop();
		pthread_mutex_unlock(&timer.mutex);
		a.fn(a.arg);
		pthread_mutex_lock(&timer.mutex);
	}
	pthread_mutex_unlock(&timer.mutex);
	return NULL;
}

void blobd_timer_start(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&timer.cond, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&timer.thread, NULL, run, NULL) != 0)
		abort();
}

void blobd_timer_after(int64_t delay_ns, void (*fn)(void *), void *arg)
{
	struct alarm a = { blobd_now_ns() + delay_ns, fn, arg };
	bool first;

	pthread_mutex_lock(&timer.mutex);
	if (timer.stopping) {
		pthread_mutex_unlock(&timer.mutex);
		fn(arg);
		return;
	}
	push(a);
	first = timer.heap[0].arg == arg && timer.heap[0].at_ns == a.at_ns;
	pthread_mutex_unlock(&timer.mutex);
	if (first)
		pthread_cond_signal(&timer.cond);
}

void blobd_timer_stop(void)
{
	pthread_mutex_lock(&timer.mutex);
	timer.stopping = true;
	pthread_mutex_unlock(&timer.mutex);
	pthread_cond_signal(&timer.cond);
	pthread_join(timer.thread, NULL);
	free(timer.heap);
}
