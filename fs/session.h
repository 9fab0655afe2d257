/*
 * The session: the threads that take requests from /dev/fuse.
 *
 * Threads and locks.  fs_session_start() starts a fixed number of threads,
 * fs_session_stop() ends and joins them; both are called by one thread.  A
 * handler that has to wait does not keep its thread (fs/reply.h).
 *
 * Ownership.  The session owns m->se, and closes the descriptor of /dev/fuse
 * with it.
 *
 * Errors.  -errno; what the kernel does not accept is logged.
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "fs/mount.h"

struct fs_session;

/* Makes m->se on the kept descriptor. */
int fs_session_new(
	struct fs_mount *m, int fuse_fd, struct fs_session **ret_session);
int fs_session_start(struct fs_session *session);
/* Readable when the kernel has ended the session (umount). */
int fs_session_ended_fd(struct fs_session *session);
/* No request is taken any more; those taken may still be under way.  Waits
 * only for handlers that run just now. */
void fs_session_stop(struct fs_session *session);
/* When every request was answered. */
void fs_session_free(struct fs_session *session);

#endif
