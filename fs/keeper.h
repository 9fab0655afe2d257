/*
 * The keeper: the small process that outlives the worker.
 *
 * What it is for.  It opens /dev/fuse, mounts, keeps the descriptor, and waits
 * for the worker, which does everything else.  Three processes take part:
 *
 *	parent	`forebay mount`; returns when the mount answers (none with -f)
 *	keeper	a daemon; owns /dev/fuse and the mount
 *	worker	its child; opens cache and store, then serves
 *
 * Threads and locks.  The keeper has one thread and no lock.  The worker
 * starts its threads after the fork.
 *
 * Ownership.  The keeper owns the mount and takes it away whenever the worker
 * ends.
 *
 * Errors.  One line to the parent's stderr, and an exit status.
 */
#ifndef FS_KEEPER_H
#define FS_KEEPER_H

#include "fs/mount.h"

/* The worker's end. */
struct fs_link {
	int sock;    /* packets from and to the keeper */
	int fuse_fd; /* inherited */
};

/* What the keeper said. */
enum fs_link_event {
	FS_LINK_NONE, /* nothing within the time */
	FS_LINK_GO,   /* it is mounted; see `device` */
	FS_LINK_STOP, /* end, or the keeper is gone */
};

/* Runs in the worker; its result is the worker's exit status. */
typedef int (*fs_worker_fn)(const struct fs_options *opt, struct fs_link *link);

/* Mounts, in the background unless opt->foreground; returns an exit status, in
 * the parent or (-f) when the mount has ended. */
int fs_keeper_run(const struct fs_options *opt, fs_worker_fn worker);

/* ---- for the worker ---- */

/* Shown to whoever called `forebay mount`, once. */
void fs_link_warn(struct fs_link *link, const char *text);
/* Why there will be no mount; then the worker ends. */
void fs_link_fail(struct fs_link *link, int exit_status, const char *text);
/* Everything is open: mount now. */
void fs_link_ready(struct fs_link *link);
/* Requests are answered. */
void fs_link_up(struct fs_link *link);
/* It ends by itself (umount): the keeper's patience begins. */
void fs_link_ending(struct fs_link *link);
/* The next word of the keeper; -1 ms: however long it takes. */
enum fs_link_event fs_link_wait(struct fs_link *link, int timeout_ms,
	char *device, size_t device_bytes);

#endif
