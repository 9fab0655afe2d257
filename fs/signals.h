/*
 * Calls that wait for the store, and the signals of their callers.
 *
 * What it is for.  Whoever waits for the store ends within a second of Ctrl-C
 * or kill.  The kernel's FUSE_INTERRUPT alone does not do: it comes once for a
 * request, for any signal (a timer's, a child's, Ctrl-Z) and for none (a
 * freezer); and not at all to a process that waits for a page of read-ahead,
 * which nobody waits for as a request.  So the signals are looked up in /proc:
 * when an interrupt comes, and now and then while a call waits.
 *
 * What ends a wait, with EINTR:
 * - a signal that ends the process, at once;
 * - SIGINT, SIGTERM, SIGHUP or SIGQUIT that it catches, when it has waited for
 *   a while: then its handler runs.
 * Every other signal waits for the end of the call, as at a local disk:
 * programs do not expect EINTR of a file.  Where the caller cannot be seen
 * (another pid namespace) every interrupt ends its call.
 *
 * Threads and locks.  Any thread, with no lock held.  A timer of the executor
 * runs while something is watched.
 * Ownership.  A watched call is its owner's, who unwatches it.
 */
#ifndef FS_SIGNALS_H
#define FS_SIGNALS_H

#include "fs/reply.h"

struct fs_signals *fs_signals_new(struct fs_mount *m);
/* After the executor was stopped. */
void fs_signals_free(struct fs_signals *s);

/* From now on a signal cancels what the call waits for at tier/. */
void fs_signals_watch(struct fs_signals *s, struct fs_call *call);
/* Afterwards it does not any more.  Idempotent. */
void fs_signals_unwatch(struct fs_signals *s, struct fs_call *call);
/* The kernel says that a watched call's caller has a signal, or so. */
void fs_signals_interrupt(struct fs_signals *s, struct fs_call *call);
/* Is an interrupted call that waits since since_ns to end? */
bool fs_signals_end(struct fs_mount *m, fuse_req_t req, int64_t since_ns);

#endif
