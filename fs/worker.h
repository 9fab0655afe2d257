/*
 * The worker's life, from its first word to the keeper (fs/link.h) to its end.
 *
 * Threads and locks.  The main thread's; it starts all others and joins them.
 *
 * Ownership.  Nothing is kept.
 *
 * Errors.  Told to the keeper; the result is an exit status.
 */
#ifndef FS_WORKER_H
#define FS_WORKER_H

#include "fs/link.h"
#include "fs/mount.h"

/* how: as in fs/keeper.h. */
int fs_worker_main(
	const struct fs_options *opt, struct fs_link *link, const char *how);

#endif
