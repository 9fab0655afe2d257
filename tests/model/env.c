/*
 * Executor and clock: tasks that are ready run in random order (an executor
 * with many threads promises none; strands keep theirs), timers when the
 * virtual clock comes to them.  Events of the world share the clock, and
 * survive a crash.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/model/model.h"

/* Far from any real clock: data files carry real ctimes, which must be old. */
#define WALL_NS (4200000000LL * S)

struct task {
	base_task_fn fn;
	void *arg;
	int64_t at_ns;
	uint64_t nr;
};

struct menv {
	struct base_env base;
	struct model *m;
	struct task *ready, *timers;
	size_t ready_nr, ready_cap, timers_nr, timers_cap;
	uint64_t nr;
};

uint64_t rnd_next(struct rnd *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static void add(struct task **list, size_t *nr, size_t *cap, struct task task)
{
	if (*nr == *cap) {
		*cap = *cap ? *cap * 2 : 64;
		*list = base_realloc(*list, *cap * sizeof(**list));
	}
	(*list)[(*nr)++] = task;
}

static void post(struct base_env *base, base_task_fn fn, void *arg)
{
	struct menv *e = (struct menv *)base;

	add(&e->ready, &e->ready_nr, &e->ready_cap,
		(struct task){ .fn = fn, .arg = arg, .nr = e->nr++ });
}

static void after(
	struct base_env *base, int64_t delay_ns, base_task_fn fn, void *arg)
{
	struct menv *e = (struct menv *)base;

	if (delay_ns < 0)
		delay_ns = 0;
	add(&e->timers, &e->timers_nr, &e->timers_cap,
		(struct task){ .fn = fn,
			.arg = arg,
			.at_ns = e->m->now_ns + delay_ns,
			.nr = e->nr++ });
}

static int64_t boot_ns(struct base_env *base)
{
	return ((struct menv *)base)->m->now_ns;
}

static int64_t wall_ns(struct base_env *base)
{
	return WALL_NS + ((struct menv *)base)->m->now_ns;
}

static void random_bytes(struct base_env *base, void *buf, size_t bytes)
{
	struct menv *e = (struct menv *)base;
	uint8_t *p = buf;

	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)rnd_next(&e->m->rnd);
}

static const struct base_env_ops ops = {
	.post = post,
	.after = after,
	.boot_ns = boot_ns,
	.wall_ns = wall_ns,
	.random = random_bytes,
};

struct menv *menv_new(struct model *m)
{
	struct menv *e = base_calloc(1, sizeof(*e));

	e->base.ops = &ops;
	e->m = m;
	return e;
}

struct base_env *menv_base(struct menv *env)
{
	return &env->base;
}

void menv_free(struct menv *env)
{
	free(env->ready);
	free(env->timers);
	free(env);
}

static size_t earliest(const struct task *list, size_t nr)
{
	size_t best = 0;

	for (size_t i = 1; i < nr; i++) {
		if (list[i].at_ns < list[best].at_ns ||
			(list[i].at_ns == list[best].at_ns &&
				list[i].nr < list[best].nr))
			best = i;
	}
	return best;
}

static bool run_ready(struct menv *e)
{
	struct task task;
	size_t i;

	if (e->ready_nr == 0)
		return false;
	/* Mostly in order: whoever comes first goes first. */
	i = rnd_pct(&e->m->rnd, 70) ? 0 : rnd_below(&e->m->rnd, e->ready_nr);
	task = e->ready[i];
	memmove(&e->ready[i], &e->ready[i + 1],
		(e->ready_nr - i - 1) * sizeof(task));
	e->ready_nr--;
	task.fn(task.arg);
	return true;
}

void menv_run_posted(struct menv *env)
{
	while (run_ready(env))
		;
}

/* ---- events of the world ---- */

struct event {
	int64_t at_ns;
	uint64_t nr;
	void (*fn)(struct model *, void *);
	void *arg;
};

static struct event *events;
static size_t events_nr, events_cap;
static uint64_t events_given;

void model_at(struct model *m, int64_t at_ns,
	void (*fn)(struct model *, void *), void *arg)
{
	(void)m;
	if (events_nr == events_cap) {
		events_cap = events_cap ? events_cap * 2 : 64;
		events = base_realloc(events, events_cap * sizeof(*events));
	}
	events[events_nr++] = (struct event){ at_ns, events_given++, fn, arg };
}

void model_events_free(struct model *m)
{
	(void)m;
	events_nr = 0;
	events_given = 0;
}

static size_t earliest_event(void)
{
	size_t best = 0;

	for (size_t i = 1; i < events_nr; i++) {
		if (events[i].at_ns < events[best].at_ns ||
			(events[i].at_ns == events[best].at_ns &&
				events[i].nr < events[best].nr))
			best = i;
	}
	return best;
}

bool model_step(struct model *m, int64_t until_ns)
{
	struct menv *e = m->env;
	int64_t at = INT64_MAX, timer_at = INT64_MAX, event_at = INT64_MAX;
	size_t timer = 0, event = 0;

	if (m->failed)
		return false;
	if (e != NULL && run_ready(e))
		return true;
	if (e != NULL && e->timers_nr > 0) {
		timer = earliest(e->timers, e->timers_nr);
		timer_at = e->timers[timer].at_ns;
	}
	if (events_nr > 0) {
		event = earliest_event();
		event_at = events[event].at_ns;
	}
	at = timer_at < event_at ? timer_at : event_at;
	if (at > until_ns) {
		if (until_ns > m->now_ns && until_ns != INT64_MAX)
			m->now_ns = until_ns;
		return false;
	}
	if (at > m->now_ns)
		m->now_ns = at;
	if (event_at <= timer_at) {
		struct event ev = events[event];

		events[event] = events[--events_nr];
		ev.fn(m, ev.arg);
	} else {
		struct task task = e->timers[timer];

		e->timers[timer] = e->timers[--e->timers_nr];
		task.fn(task.arg);
	}
	return true;
}

void model_run(struct model *m, int64_t for_ns)
{
	int64_t until = m->now_ns + for_ns, at = m->now_ns;
	unsigned spins = 0;

	while (model_step(m, until)) {
		spins = at == m->now_ns ? spins + 1 : 0;
		at = m->now_ns;
		if (spins > 20000) {
			check_dump(m);
			model_fail(m, "it spins: 20,000 tasks and no time");
			return;
		}
	}
}
