/*
 * The keeper: the small process that outlives the worker.
 *
 * What it is for.  It opens /dev/fuse, mounts, and keeps what the kernel's side
 * of a mount needs to live: the descriptor, INIT and our reply, the table of
 * open handles (fs/table.h).  The worker does everything else, and when it
 * dies the keeper starts another.  Three processes take part:
 *
 *	parent	`forebay mount`; returns when the mount answers (none with -f)
 *	keeper	a daemon; owns /dev/fuse and the mount
 *	worker	its child, `forebay worker`; opens cache and store, then serves
 *
 * Threads and locks.  The keeper has one thread and no lock.
 *
 * Ownership.  The keeper owns the mount and takes it away at its end.  It
 * reads no credentials; those in its environment it only hands on.
 *
 * Errors.  One line to the parent's stderr, and an exit status.
 */
#ifndef FS_KEEPER_H
#define FS_KEEPER_H

#include "fs/mount.h"

/* The words of a worker's command line that say how it begins: in
 * argv[FS_WORKER_HOW], which has room for all of them. */
#define FS_WORKER_HOW 3
#define FS_WORKER_HOW_BYTES 16
#define FS_WORKER_FIRST "first"	    /* nothing is mounted yet */
#define FS_WORKER_AGAIN "again"	    /* after one that died */
#define FS_WORKER_STANDBY "standby" /* opens nothing before it is told */

/* Mounts, in the background unless opt->foreground; returns an exit status, in
 * the parent or (-f) when the mount has ended.  argv: of a worker. */
int fs_keeper_run(const struct fs_options *opt, char **argv);

/* ---- keeper.c, for the parent ---- */

/* The keeper's life; report_fd: the parent's pipe or -1.  Exit status. */
int fs_keeper_main(const struct fs_options *opt, char **argv, int report_fd);

#endif
