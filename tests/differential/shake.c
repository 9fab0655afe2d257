/*
 * What is done to the mount and must not be seen by who uses it.
 *
 * Kills come from a thread, somewhere in the calls that follow; the rest is
 * the hook's, a program of the caller: HOOK flush | evict | remount | cold.
 */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Five workers that die within a second of their start are the end. */
#define KILL_APART_MS 1500
/* A call that takes longer has no end. */
#define CALL_LIMIT_MS 60000

static struct {
	pthread_mutex_t mutex;
	char call[600];
	int64_t since_ms, killed_ms;
	int64_t kill_at_us; /* 0: no kill is asked for */
	pthread_t thread;
	bool stop;
	uint64_t nr;
	const char *hook;
} shake = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

void die(const char *what)
{
	fprintf(stderr, "differential: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int hook(const char *event)
{
	char command[PATH_BYTES];

	snprintf(command, sizeof(command), "'%s' %s", shake.hook, event);
	/* NOLINTNEXTLINE(cert-env33-c): the hook is given as a command */
	return system(command);
}

static void *watch(void *arg)
{
	bool kill_now;

	(void)arg;
	for (;;) {
		usleep(500);
		pthread_mutex_lock(&shake.mutex);
		if (shake.stop) {
			pthread_mutex_unlock(&shake.mutex);
			return NULL;
		}
		if (shake.since_ms > 0 &&
			now_us() / 1000 - shake.since_ms > CALL_LIMIT_MS) {
			printf("no end of: %s\n", shake.call);
			fflush(stdout);
			_exit(1);
		}
		kill_now = shake.kill_at_us > 0 && now_us() > shake.kill_at_us;
		if (kill_now)
			shake.kill_at_us = 0;
		pthread_mutex_unlock(&shake.mutex);
		if (kill_now)
			hook("kill");
	}
}

void shake_calls(const char *text)
{
	pthread_mutex_lock(&shake.mutex);
	snprintf(shake.call, sizeof(shake.call), "%s", text);
	shake.since_ms = now_us() / 1000;
	pthread_mutex_unlock(&shake.mutex);
}

void shake_begin(struct world *w)
{
	shake.hook = w->hook;
	shake.stop = false;
	if (pthread_create(&shake.thread, NULL, watch, NULL) != 0)
		die("pthread_create");
}

void shake_end(void)
{
	pthread_mutex_lock(&shake.mutex);
	shake.stop = true;
	pthread_mutex_unlock(&shake.mutex);
	pthread_join(shake.thread, NULL);
}

uint64_t shake_nr(void)
{
	return shake.nr;
}

/* ---- the events ---- */

static void chosen(struct world *w, struct dice *d, struct step *s)
{
	(void)w;
	s->seed = dice_next(d);
}

static void do_kill(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	int64_t now = now_us();

	(void)w;
	(void)side;
	(void)r;
	if (shake.killed_ms > 0 && now / 1000 - shake.killed_ms < KILL_APART_MS)
		return;
	shake.killed_ms = now / 1000;
	pthread_mutex_lock(&shake.mutex);
	shake.kill_at_us = now + s->seed % 20000;
	pthread_mutex_unlock(&shake.mutex);
	shake.nr++;
}

static void do_hook(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	(void)side;
	shake.nr++;
	if (hook(s->kind->name) == 0)
		return;
	r->value = -1;
	snprintf(r->note, sizeof(r->note), "the hook failed");
}

static void do_compare(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	char why[TEXT_BYTES];

	(void)side;
	(void)s;
	if (tree_compare(w, why))
		return;
	r->value = -1;
	snprintf(r->note, sizeof(r->note),
		"trees differ (mount, plain)\n%.160s", why);
}

/* All that is open must be closed; what comes back is what was there. */
static void do_remount(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	char *before, *after, why[TEXT_BYTES];

	world_close_all(w);
	before = tree_text(side->root, true);
	close(side->root);
	do_hook(w, side, s, r);
	world_open_root(w, MOUNT);
	after = tree_text(side->root, true);
	if (!strcmp(s->kind->name, "cold"))
		tree_taint_dirs(w->side[PLAIN].root);
	if (r->value == 0 && tree_differs(before, after, why, sizeof(why))) {
		r->value = -1;
		snprintf(r->note, sizeof(r->note),
			"what came back is not what was there\n%.160s", why);
	}
	free(before);
	free(after);
	if (r->value == 0)
		do_compare(w, side, s, r);
}

const struct kind shake_kinds[] = {
	{ "kill", 1500, IS_EVENT, chosen, do_kill },
	{ "flush", 400, IS_EVENT, chosen, do_hook },
	{ "evict", 700, IS_EVENT, chosen, do_hook },
	{ "remount", 150, IS_EVENT, chosen, do_remount },
	{ "cold", 250, IS_EVENT, chosen, do_remount },
	{ "compare", 1000, IS_EVENT, chosen, do_compare },
	{ NULL, 0, 0, NULL, NULL },
};
