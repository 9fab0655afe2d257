/* Timers of one event loop: see timer.h. */
#include "blob/timer.h"

#include <stdlib.h>

#include "base/str.h"

static void put(struct blob_timers *t, size_t place, struct blob_timer *timer)
{
	t->heap[place] = timer;
	timer->place = place;
}

static void rise(struct blob_timers *t, struct blob_timer *timer)
{
	size_t at = timer->place;

	while (at > 1 && t->heap[at / 2]->due_ns > timer->due_ns) {
		put(t, at, t->heap[at / 2]);
		at /= 2;
	}
	put(t, at, timer);
}

static void sink(struct blob_timers *t, struct blob_timer *timer)
{
	size_t at = timer->place, child;

	while ((child = at * 2) <= t->nr) {
		if (child < t->nr &&
			t->heap[child + 1]->due_ns < t->heap[child]->due_ns)
			child++;
		if (t->heap[child]->due_ns >= timer->due_ns)
			break;
		put(t, at, t->heap[child]);
		at = child;
	}
	put(t, at, timer);
}

void blob_timer_set(struct blob_timers *t, struct blob_timer *timer,
	int64_t due_ns, void (*fn)(struct blob_timer *))
{
	timer->fn = fn;
	if (timer->place == 0) {
		if (t->nr + 2 > t->cap) {
			t->cap = t->cap ? t->cap * 2 : 64;
			t->heap = base_realloc(
				t->heap, t->cap * sizeof(struct blob_timer *));
		}
		timer->place = ++t->nr;
	}
	timer->due_ns = due_ns;
	rise(t, timer);
	sink(t, timer);
}

void blob_timer_drop(struct blob_timers *t, struct blob_timer *timer)
{
	struct blob_timer *last;
	size_t place = timer->place;

	if (place == 0)
		return;
	timer->place = 0;
	last = t->heap[t->nr--];
	if (last == timer)
		return;
	put(t, place, last);
	rise(t, last);
	sink(t, last);
}

void blob_timers_run(struct blob_timers *t, int64_t now_ns)
{
	while (t->nr > 0 && t->heap[1]->due_ns <= now_ns) {
		struct blob_timer *timer = t->heap[1];

		blob_timer_drop(t, timer);
		timer->fn(timer);
	}
}

int64_t blob_timers_next(const struct blob_timers *t)
{
	return t->nr > 0 ? t->heap[1]->due_ns : INT64_MAX;
}

void blob_timers_fini(struct blob_timers *t)
{
	free(t->heap);
	*t = (struct blob_timers){ 0 };
}
