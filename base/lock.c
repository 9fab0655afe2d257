/* Mutexes with ranks: see lock.h. */
#include "base/lock.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#ifdef DEVELOPER
#define HELD_MAX 16
static __thread enum base_rank held[HELD_MAX];
static __thread unsigned held_nr;

static void push_rank(enum base_rank rank)
{
	assert(held_nr < HELD_MAX);
	assert(held_nr == 0 || held[held_nr - 1] < rank);
	held[held_nr++] = rank;
}

static void pop_rank(enum base_rank rank)
{
	unsigned i = held_nr;

	while (i > 0 && held[i - 1] != rank)
		i--;
	assert(i > 0);
	for (; i < held_nr; i++)
		held[i - 1] = held[i];
	held_nr--;
}
#else
static void push_rank(enum base_rank rank)
{
	(void)rank;
}

static void pop_rank(enum base_rank rank)
{
	(void)rank;
}
#endif

static void must(int err)
{
	assert(err == 0);
	(void)err;
}

void base_mutex_init(struct base_mutex *m, enum base_rank rank)
{
	must(pthread_mutex_init(&m->mutex, NULL));
	m->rank = rank;
}

void base_mutex_fini(struct base_mutex *m)
{
	must(pthread_mutex_destroy(&m->mutex));
}

void base_lock(struct base_mutex *m)
{
	push_rank(m->rank);
	must(pthread_mutex_lock(&m->mutex));
}

void base_unlock(struct base_mutex *m)
{
	/* First: whoever gets it next may free what it is part of. */
	pop_rank(m->rank);
	must(pthread_mutex_unlock(&m->mutex));
}

void base_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(cond, &attr));
	must(pthread_condattr_destroy(&attr));
}

void base_cond_wait(pthread_cond_t *cond, struct base_mutex *m)
{
	must(pthread_cond_wait(cond, &m->mutex));
}

int base_cond_wait_ns(
	pthread_cond_t *cond, struct base_mutex *m, int64_t timeout_ns)
{
	struct timespec ts;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	timeout_ns += ts.tv_nsec;
	ts.tv_sec += timeout_ns / 1000000000;
	ts.tv_nsec = timeout_ns % 1000000000;
	err = pthread_cond_timedwait(cond, &m->mutex, &ts);
	assert(err == 0 || err == ETIMEDOUT);
	return -err;
}
