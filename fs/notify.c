/*
 * Telling the kernel: see notify.h.
 *
 * One thread, started by fs_notify_new() and joined by fs_notify_free(), takes
 * items from a ring.  An item whose inode or directory has a request waiting
 * at the store goes to the back of the ring; if all are like that the thread
 * waits until one is allowed again.
 */
#include "fs/notify.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "fs/ops.h"

/* Items that wait; more changes than that at once are left to the time-outs. */
#define ITEMS_MAX 4096
/* Waiting requests are counted by a hash of the inode: a collision puts a
 * notification off for no reason, once. */
#define HOLDS 1024

enum what {
	WHAT_ENTRY,
	WHAT_INODE,
	WHAT_ATTRS,
	WHAT_PROBE,
};

struct item {
	enum what what;
	uint64_t ino; /* of an entry: the directory */
	char *name;   /* of an entry */
};

struct fs_notify {
	struct fs_mount *m;
	pthread_t thread;
	_Atomic uint32_t holds[HOLDS];
	struct base_mutex mutex;
	pthread_cond_t changed;
	/* under mutex */
	bool stop;
	struct item items[ITEMS_MAX]; /* a ring */
	size_t head, nr;
	uint64_t allowed; /* counts fs_notify_allow() */
	uint64_t dropped;
};

static _Atomic uint32_t *hold_of(struct fs_notify *n, uint64_t ino)
{
	return &n->holds[(ino * 0x9e3779b97f4a7c15ull >> 32) & (HOLDS - 1)];
}

static bool same(const struct item *a, const struct item *b)
{
	return a->what == b->what && a->ino == b->ino &&
		(a->name == NULL || strcmp(a->name, b->name) == 0);
}

/* How far back an equal item is looked for: bursts come in a row, and the
 * search must stay short. */
#define COALESCE 16

static bool is_queued(struct fs_notify *n, const struct item *item)
{
	size_t nr = n->nr < COALESCE ? n->nr : COALESCE;

	for (size_t i = 0; i < nr; i++) {
		size_t at = (n->head + n->nr - 1 - i) % ITEMS_MAX;

		if (same(&n->items[at], item))
			return true;
	}
	return false;
}

/* Takes the name. */
static void add(struct fs_notify *n, struct item item)
{
	bool dropped = false;

	base_lock(&n->mutex);
	if (n->stop || is_queued(n, &item)) {
		free(item.name);
	} else if (n->nr == ITEMS_MAX) {
		free(item.name);
		dropped = n->dropped++ == 0;
	} else {
		n->items[(n->head + n->nr++) % ITEMS_MAX] = item;
		pthread_cond_signal(&n->changed);
	}
	base_unlock(&n->mutex);
	if (dropped)
		log_warn("too many changes at once to tell the kernel of each: "
			 "it sees some of them when its caches time out");
}

void fs_notify_entry(struct fs_notify *n, uint64_t parent, const char *name)
{
	add(n,
		(struct item){
			.what = WHAT_ENTRY,
			.ino = parent,
			.name = base_strdup(name),
		});
}

void fs_notify_attrs(struct fs_notify *n, uint64_t ino)
{
	add(n, (struct item){ .what = WHAT_ATTRS, .ino = ino });
}

void fs_notify_probe(struct fs_notify *n, uint64_t ino)
{
	add(n, (struct item){ .what = WHAT_PROBE, .ino = ino });
}

void fs_notify_inode_changed(void *arg, uint64_t ino)
{
	add(arg, (struct item){ .what = WHAT_INODE, .ino = ino });
}

void fs_notify_entry_changed(void *arg, uint64_t parent, const char *name)
{
	fs_notify_entry(arg, parent, name);
}

void fs_notify_hold(struct fs_notify *n, uint64_t ino)
{
	atomic_fetch_add(hold_of(n, ino), 1);
}

void fs_notify_allow(struct fs_notify *n, uint64_t ino)
{
	if (atomic_fetch_sub(hold_of(n, ino), 1) != 1)
		return;
	base_lock(&n->mutex);
	n->allowed++;
	if (n->nr > 0)
		pthread_cond_signal(&n->changed);
	base_unlock(&n->mutex);
}

static void send(struct fs_notify *n, const struct item *item)
{
	struct fuse_session *se = n->m->se;
	int err = 0;

	switch (item->what) {
	case WHAT_ENTRY:
		/* Expired, not removed: mounts below stay where they are. */
		err = fuse_lowlevel_notify_expire_entry(
			se, item->ino, item->name, strlen(item->name));
		if (err == -ENOSYS)
			err = fuse_lowlevel_notify_inval_entry(
				se, item->ino, item->name, strlen(item->name));
		break;
	case WHAT_INODE:
		err = fuse_lowlevel_notify_inval_inode(se, item->ino, 0, 0);
		break;
	case WHAT_ATTRS:
		err = fuse_lowlevel_notify_inval_inode(se, item->ino, -1, 0);
		break;
	case WHAT_PROBE:
		err = fuse_lowlevel_notify_inval_inode(se, item->ino, -1, 0);
		if (err == -ENOENT)
			fs_forget_inode(n->m, item->ino);
		break;
	}
	/* ENOENT: it does not know it.  ENOTCONN, ENODEV: the mount ends. */
	if (err < 0 && err != -ENOENT)
		log_debug("notification: %s", strerror(-err));
}

/* The next item that may be sent; with the mutex held, which it lets go of
 * while it waits.  False: the end. */
static bool next(struct fs_notify *n, struct item *ret)
{
	size_t tried = 0;

	for (;;) {
		uint64_t allowed = n->allowed;

		while (!n->stop && n->nr == 0)
			base_cond_wait(&n->changed, &n->mutex);
		if (n->stop)
			return false;
		*ret = n->items[n->head];
		n->head = (n->head + 1) % ITEMS_MAX;
		n->nr--;
		if (atomic_load(hold_of(n, ret->ino)) == 0)
			return true;
		n->items[(n->head + n->nr++) % ITEMS_MAX] = *ret;
		if (++tried < n->nr)
			continue;
		tried = 0;
		/* All of them are held, unless one was let go meanwhile. */
		if (n->allowed == allowed)
			base_cond_wait(&n->changed, &n->mutex);
	}
}

static void *run(void *arg)
{
	struct fs_notify *n = arg;
	struct item item;

	base_lock(&n->mutex);
	while (next(n, &item)) {
		base_unlock(&n->mutex);
		send(n, &item);
		free(item.name);
		base_lock(&n->mutex);
	}
	base_unlock(&n->mutex);
	return NULL;
}

struct fs_notify *fs_notify_new(struct fs_mount *m)
{
	struct fs_notify *n = base_calloc(1, sizeof(*n));

	n->m = m;
	base_mutex_init(&n->mutex, BASE_RANK_FS_NOTIFY);
	base_cond_init(&n->changed);
	if (pthread_create(&n->thread, NULL, run, n) != 0) {
		log_error("cannot start a thread");
		abort();
	}
	return n;
}

void fs_notify_free(struct fs_notify *n)
{
	if (n == NULL)
		return;
	base_lock(&n->mutex);
	n->stop = true;
	pthread_cond_signal(&n->changed);
	base_unlock(&n->mutex);
	pthread_join(n->thread, NULL);
	for (size_t i = 0; i < n->nr; i++)
		free(n->items[(n->head + i) % ITEMS_MAX].name);
	pthread_cond_destroy(&n->changed);
	base_mutex_fini(&n->mutex);
	free(n);
}
