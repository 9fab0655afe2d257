/* Signals of those who wait: see signals.h. */
#include "fs/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/str.h"

/* How often the signals of waiting callers are looked up: a page of read-ahead
 * that is given up is asked for again by its reader, so that a process may
 * have to be found twice within its second. */
#define LOOK_NS (100 * 1000000ll)
/* A call that waits for longer than this is given up for a signal that is
 * caught: longer than a store takes that is well. */
#define CAUGHT_NS (300 * 1000000ll)
/* Callers looked up at a time (some 20 us each). */
#define LOOKS_MAX 100
/* The signals come before what may be long in there, but the groups. */
#define STATUS_BYTES 4096

#define BIT(sig) (1ull << ((sig)-1))
/* Those that ask a process to end. */
#define ASKING (BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGHUP) | BIT(SIGQUIT))
/* Those that do not end one that does not catch them. */
#define HARMLESS                                                     \
	(BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH) | \
		BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))

struct fs_signals {
	struct fs_mount *m;
	struct base_mutex mutex;
	/* under mutex */
	TAILQ_HEAD(, fs_call) calls;
	size_t nr;
	bool ticking;
};

/* ---- one caller ---- */

enum signalled {
	SIGNALLED_NOT,
	SIGNALLED_CAUGHT, /* by a signal that asks it to end */
	SIGNALLED_DEADLY,
	SIGNALLED_UNKNOWN, /* it cannot be seen */
};

static bool field(const char *status, const char *name, uint64_t *ret)
{
	const char *at = strstr(status, name);

	if (at == NULL)
		return false;
	*ret = strtoull(at + strlen(name), NULL, 16);
	return true;
}

static enum signalled look_up(pid_t tid)
{
	char path[32], status[STATUS_BYTES];
	uint64_t own, shared, blocked, ignored, caught;
	ssize_t n;
	int fd;

	if (tid <= 0)
		return SIGNALLED_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return SIGNALLED_UNKNOWN;
	n = read(fd, status, sizeof(status) - 1);
	close(fd);
	if (n < 0)
		return SIGNALLED_UNKNOWN;
	status[n] = '\0';
	if (!field(status, "\nSigPnd:", &own) ||
		!field(status, "\nShdPnd:", &shared) ||
		!field(status, "\nSigBlk:", &blocked) ||
		!field(status, "\nSigIgn:", &ignored) ||
		!field(status, "\nSigCgt:", &caught))
		return SIGNALLED_UNKNOWN;
	own = (own | shared) & ~blocked & ~ignored;
	if (own & ~caught & ~HARMLESS)
		return SIGNALLED_DEADLY;
	return own & caught & ASKING ? SIGNALLED_CAUGHT : SIGNALLED_NOT;
}

static bool is_end(
	struct fs_mount *m, enum signalled signalled, int64_t since_ns)
{
	if (signalled == SIGNALLED_CAUGHT)
		return base_boot_ns(m->env) - since_ns >= CAUGHT_NS;
	return signalled == SIGNALLED_DEADLY;
}

bool fs_signals_end(struct fs_mount *m, fuse_req_t req, int64_t since_ns)
{
	enum signalled signalled = look_up(fuse_req_ctx(req)->pid);

	return signalled == SIGNALLED_UNKNOWN || is_end(m, signalled, since_ns);
}

void fs_signals_interrupt(struct fs_signals *s, struct fs_call *call)
{
	if (fs_signals_end(s->m, call->req, call->since_ns))
		tier_cancel(s->m->tier, &call->tier_call);
}

/* ---- all that wait ---- */

static void tick(void *arg)
{
	struct fs_signals *s = arg;
	struct fs_call *call;
	int64_t now = base_boot_ns(s->m->env);

	base_lock(&s->mutex);
	for (size_t i = 0; i < s->nr && i < LOOKS_MAX; i++) {
		call = TAILQ_FIRST(&s->calls);
		TAILQ_REMOVE(&s->calls, call, watched);
		TAILQ_INSERT_TAIL(&s->calls, call, watched);
		if (now - call->since_ns >= LOOK_NS &&
			is_end(s->m, look_up(fuse_req_ctx(call->req)->pid),
				call->since_ns))
			tier_cancel(s->m->tier, &call->tier_call);
	}
	s->ticking = s->nr > 0;
	if (s->ticking)
		base_after(s->m->env, LOOK_NS, tick, s);
	base_unlock(&s->mutex);
}

void fs_signals_watch(struct fs_signals *s, struct fs_call *call)
{
	call->since_ns = base_boot_ns(s->m->env);
	call->is_watched = true;
	base_lock(&s->mutex);
	TAILQ_INSERT_TAIL(&s->calls, call, watched);
	s->nr++;
	if (!s->ticking) {
		s->ticking = true;
		base_after(s->m->env, LOOK_NS, tick, s);
	}
	base_unlock(&s->mutex);
}

void fs_signals_unwatch(struct fs_signals *s, struct fs_call *call)
{
	if (!call->is_watched)
		return;
	call->is_watched = false;
	base_lock(&s->mutex);
	TAILQ_REMOVE(&s->calls, call, watched);
	s->nr--;
	base_unlock(&s->mutex);
}

/* ---- life ---- */

struct fs_signals *fs_signals_new(struct fs_mount *m)
{
	struct fs_signals *s = base_calloc(1, sizeof(*s));

	s->m = m;
	base_mutex_init(&s->mutex, BASE_RANK_FS_SIGNALS);
	TAILQ_INIT(&s->calls);
	return s;
}

void fs_signals_free(struct fs_signals *s)
{
	if (s == NULL)
		return;
	base_mutex_fini(&s->mutex);
	free(s);
}
