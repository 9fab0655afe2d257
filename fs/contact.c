/*
 * Contact with the store.
 *
 * A cache that was made just now, or never saw its store, needs it before
 * anything is mounted.  A later mount waits CONTACT_WAIT_MS for it, then comes
 * up on what is local; nothing is sent before the container is known to be the
 * right one.
 *
 * A container that was away is `suspect`: whoever answers again may be another
 * one, made under its name, and is asked which it is.
 */
#include "fs/contact.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "fs/link.h"

/* A mount whose store is away answers within this; one that was there already
 * waits for nothing. */
#define CONTACT_WAIT_MS 1500
/* Then it is asked again this often. */
#define CONTACT_AGAIN_NS (5 * 1000000000LL)
/* One that was away is asked this often which it is. */
#define SUSPECT_ASK_NS 2000000000LL

struct fs_contact {
	/* Written by the executor until it writes answer_fd, then by the main
	 * thread. */
	struct tier_call call; /* the first member */
	char answer_why[512];
	int err;

	struct fs_mount *m;
	int answer_fd; /* readable: the store answered, or did not */
	int gone_fd;   /* readable: it became suspect */
	bool asking;   /* the main thread's: an answer comes */
	bool started;  /* the main thread's: tier_start() */

	struct base_mutex mutex; /* rank STAT: */
	enum blob_state state;
	char state_why[512];
	bool suspect; /* the container was not there */
};

/* ---- what is known of the store ---- */

static void note_state(
	struct fs_contact *c, enum blob_state state, const char *why)
{
	base_lock(&c->mutex);
	c->state = state;
	snprintf(c->state_why, sizeof(c->state_why), "%s", why ? why : "");
	base_unlock(&c->mutex);
	tier_store_state(c->m->tier, state == BLOB_STATE_UP, why);
}

void fs_contact_suspect(void *arg)
{
	struct fs_contact *c = arg;
	uint64_t one = 1;

	base_lock(&c->mutex);
	c->suspect = true;
	base_unlock(&c->mutex);
	if (write(c->gone_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

/* The first request is tier's, so there is a tier. */
void fs_contact_state_changed(void *arg, enum blob_state state, const char *why)
{
	struct fs_contact *c = arg;
	bool suspect;

	if (state == BLOB_STATE_GONE) {
		tier_suspect(c->m->tier);
		fs_contact_suspect(c);
	}
	base_lock(&c->mutex);
	suspect = c->suspect;
	base_unlock(&c->mutex);
	/* What is there again may be another one: contact tells. */
	if (state != BLOB_STATE_UP || !suspect)
		note_state(c, state, why);
}

const char *fs_contact_state(void *arg, char *why, size_t why_bytes)
{
	static const char *const words[] = { "online", "offline", "denied",
		"gone" };
	struct fs_contact *c = arg;
	enum blob_state state;

	base_lock(&c->mutex);
	state = c->state;
	snprintf(why, why_bytes, "%s", c->state_why);
	base_unlock(&c->mutex);
	return words[state];
}

/* ---- first contact ---- */

static void answered(struct tier_call *call, int err)
{
	struct fs_contact *c = (struct fs_contact *)call;
	uint64_t one = 1;

	c->err = err;
	if (write(c->answer_fd, &one, sizeof(one)) < 0)
		abort();
}

static void ask(void *arg)
{
	struct fs_contact *c = arg;

	memset(&c->call, 0, sizeof(c->call));
	c->call.done = answered;
	c->answer_why[0] = '\0';
	tier_probe(c->m->tier, &c->call, c->answer_why, sizeof(c->answer_why));
}

/* Waits for the answer: 0 it is there, -ETIMEDOUT, -ECANCELED the keeper wants
 * an end. */
static int wait_for_answer(struct fs_contact *c, int timeout_ms)
{
	struct pollfd pfds[] = {
		{ .fd = c->answer_fd, .events = POLLIN },
		{ .fd = c->m->link->sock, .events = POLLIN },
	};
	uint64_t count;
	int n;

	do
		n = poll(pfds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return -ETIMEDOUT;
	if (pfds[0].revents == 0)
		return -ECANCELED;
	if (read(c->answer_fd, &count, sizeof(count)) < 0)
		return -errno;
	c->asking = false;
	return 0;
}

/* Did this cache ever see its store? */
static int get_contacted(struct fs_contact *c, bool *ret)
{
	struct cache_txn *txn;
	uint64_t value = 0;
	int err = cache_read(c->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_meta_get_u64(txn, "contacted", &value);
	cache_abort(txn);
	*ret = value != 0;
	return err == -ENOENT ? 0 : err;
}

static int set_contacted(struct fs_contact *c)
{
	struct cache_txn *txn;
	int err = cache_write(c->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_meta_set_u64(txn, "contacted", 1);
	return cache_end(txn, err);
}

static void start_tier(struct fs_contact *c)
{
	if (!c->started)
		tier_start(c->m->tier);
	c->started = true;
}

/* The answer is there.  0: the store answers; -EAGAIN: not now; else it is not
 * to be used. */
static int take_answer(struct fs_contact *c)
{
	switch (c->err) {
	case 0:
		base_lock(&c->mutex);
		c->suspect = false;
		base_unlock(&c->mutex);
		note_state(c, BLOB_STATE_UP, "");
		start_tier(c);
		return 0;
	case -EXDEV:
		if (!c->started)
			return -EXDEV;
		/* It was the right one until now: what is local goes on. */
		note_state(c, BLOB_STATE_GONE, c->answer_why);
		return -EAGAIN;
	default:
		note_state(c,
			c->err == -EACCES	   ? BLOB_STATE_DENIED
				: c->err == -ENXIO ? BLOB_STATE_GONE
						   : BLOB_STATE_DOWN,
			c->answer_why);
		return -EAGAIN;
	}
}

static void warn_offline(struct fs_contact *c)
{
	struct base_str s = BASE_STR_INIT;

	base_str_printf(&s,
		"%s: %s; mounted on what is local, the rest follows when the "
		"store answers",
		c->m->opt.store, c->answer_why);
	fs_link_warn(c->m->link, s.data);
	base_str_fini(&s);
}

int fs_contact_make(struct fs_contact *c, bool fresh, bool again, char *why,
	size_t why_bytes)
{
	bool contacted = false;
	int err = fresh ? 0 : get_contacted(c, &contacted);

	if (err < 0)
		return err;
	c->asking = true;
	ask(c);
	err = wait_for_answer(c, again ? 0 : contacted ? CONTACT_WAIT_MS : -1);
	if (err == -ETIMEDOUT && again)
		return 0;
	if (err == -ETIMEDOUT) {
		note_state(c, BLOB_STATE_DOWN, "no answer yet");
		fs_link_warn(c->m->link,
			"the store does not answer; mounted on what is local, "
			"the rest follows when it does");
		return 0;
	}
	if (err < 0)
		return err;
	err = take_answer(c);
	if (err == 0)
		return contacted ? 0 : set_contacted(c);
	if (err == -EAGAIN && contacted) {
		warn_offline(c);
		c->asking = true;
		base_after(c->m->env, CONTACT_AGAIN_NS, ask, c);
		return 0;
	}
	snprintf(why, why_bytes, "%s: %s", c->m->opt.store, c->answer_why);
	return c->err;
}

/* The container was not there for a while: which one is it now? */
static void ask_which(struct fs_contact *c)
{
	uint64_t count;

	if (read(c->gone_fd, &count, sizeof(count)) < 0 || c->asking)
		return;
	c->asking = true;
	base_after(c->m->env, SUSPECT_ASK_NS, ask, c);
}

/* True if the mount must end. */
static bool late_answer(struct fs_contact *c)
{
	if (!c->asking || wait_for_answer(c, 0) < 0)
		return false;
	switch (take_answer(c)) {
	case 0:
		return false;
	case -EAGAIN:
		c->asking = true;
		base_after(c->m->env,
			c->started ? SUSPECT_ASK_NS : CONTACT_AGAIN_NS, ask, c);
		return false;
	default:
		log_error("%s: %s: the mount ends", c->m->opt.store,
			c->answer_why);
		return true;
	}
}

bool fs_contact_hear(struct fs_contact *c)
{
	if (late_answer(c))
		return true;
	ask_which(c);
	return false;
}

/* ---- life ---- */

struct fs_contact *fs_contact_new(struct fs_mount *m)
{
	struct fs_contact *c = base_calloc(1, sizeof(*c));

	c->m = m;
	c->state = BLOB_STATE_UP;
	c->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	base_mutex_init(&c->mutex, BASE_RANK_STAT);
	return c;
}

void fs_contact_free(struct fs_contact *c)
{
	close(c->answer_fd);
	close(c->gone_fd);
	base_mutex_fini(&c->mutex);
	free(c);
}

void fs_contact_fds(const struct fs_contact *c, int ret[FS_CONTACT_FDS])
{
	ret[0] = c->answer_fd;
	ret[1] = c->gone_fd;
}
