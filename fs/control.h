/*
 * The control socket: how the commands speak to a running mount (the protocol
 * stands in fs/fs.h).
 *
 * Threads and locks.  fs_control_start() starts one thread that accepts, one
 * for each connection (FS_CONTROL_CONNS_MAX) and one for the prefetch jobs
 * that outlive their command; fs_control_stop() ends and joins them all.  They
 * wait in poll() for their client, for the end of the mount and for what tier/
 * does for them, never with a lock held.
 *
 * Ownership.  The socket file belongs to this; it goes with fs_control_stop().
 *
 * Errors.  To the client as text; -errno from fs_control_start().
 */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include <jansson.h>

#include "fs/mount.h"

/* A command is rare; more at once than that wait in the backlog. */
#define FS_CONTROL_CONNS_MAX 64

struct fs_control;

/* What status says of the processes and of the store. */
struct fs_control_config {
	struct fs_mount *m;
	const char *device; /* names the socket */
	pid_t keeper_pid;
	/* One word, and why; any thread. */
	const char *(*store_state)(void *arg, char *why, size_t why_bytes);
	void *arg;
};

int fs_control_start(const struct fs_control_config *config,
	struct fs_control **ret_control, char *why, size_t why_bytes);
/* The keeper says why there is no upgrade. */
void fs_control_refused(struct fs_control *control, const char *text);
/* No command runs afterwards.  Before tier_stop(). */
void fs_control_stop(struct fs_control *control);

/* Removes the socket that a worker which died has left, if nobody listens at it:
 * by now the device number may be another mount's.  The keeper's. */
void fs_control_remove_dead(const char *device);

#endif
