/*
 * The session: the threads that take requests from /dev/fuse.
 *
 * INIT is not among them: the keeper took it, and each worker of the mount
 * answers it, for libfuse; the kernel hears only the first answer.  Later ones
 * must be the same (fs_init_reply()).
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

#include "fs/link.h"
#include "fs/mount.h"

struct fs_session;

/* Our answer to the kernel's INIT; its length, or -EPROTO if it is not the one
 * that was given before.  Sends nothing. */
ssize_t fs_init_reply(struct fs_mount *m, const struct fs_link_mount *mount,
	void *ret_reply, size_t reply_bytes);

/* Makes m->se on the kept descriptor, and answers INIT. */
int fs_session_new(struct fs_mount *m, struct fs_session **ret_session);
/* After another worker: what that one had taken comes again, before all else,
 * to one thread; the others begin after that. */
int fs_session_start(struct fs_session *session);
/* Readable when the kernel has ended the session (umount). */
int fs_session_ended_fd(struct fs_session *session);
/* No request is taken any more; those taken may still be under way.  Waits
 * only for handlers that run just now. */
void fs_session_stop(struct fs_session *session);
/* When every request was answered. */
void fs_session_free(struct fs_session *session);

#endif
