/*
 * Starting processes: what keeper and worker need of the system around them.
 *
 * Threads: one each.
 * Ownership: descriptors in a struct fs_proc are the keeper's.
 * Errors: -errno; what does not help but is not needed either is logged.
 */
#ifndef FS_SPAWN_H
#define FS_SPAWN_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* A worker, as its keeper sees it. */
struct fs_proc {
	pid_t pid; /* 0: there is none */
	int sock;
};

/* Starts a worker of the binary `exe` with its three descriptors.  Allocates
 * nothing. */
int fs_spawn(struct fs_proc *proc, int exe, char *const *argv, int fuse_fd,
	int table_fd);
/* Closes the socket of one that is gone. */
void fs_proc_fini(struct fs_proc *proc);

/* Signals blocked for a signalfd, no terminal (unless `foreground`), no core
 * dump, as many descriptors as there may be. */
void fs_keeper_surroundings(bool foreground, sigset_t *ret_signals);
/* The last process to be killed when memory is short, and none of its own is
 * ever swapped. */
void fs_keeper_protect(void);
/* What the worker has of the keeper's and should not, and the other way. */
void fs_worker_surroundings(void);

#endif
