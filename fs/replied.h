/*
 * Exactly once: requests whose effects are in the index already.
 *
 * What it is for.  A worker can die after the commit of a mkdir and before its
 * reply; the kernel then sends it again to the next one.  So every call that
 * must not be done twice writes its request's id into the index, in the same
 * transaction, and a request that comes again is looked up here first.
 *
 * A row is needed until its reply was written, so there are as many slots as
 * calls between the two at once, and they are used again.  Rows of the worker
 * before are kept until everything that it had taken has come again: the
 * kernel puts that before all else, so the first request that is not sent
 * again ends it (fs/session.c).
 *
 * Who needs none: what only reads; what is done again with the same result
 * (write, fsync, flush, fallocate, release).
 *
 * Threads and locks.  Any thread; the mutex is held for memory accesses only.
 *
 * Ownership.  A slot belongs to one call (struct fs_call) until it ends.
 *
 * Errors.  Of the index.
 */
#ifndef FS_REPLIED_H
#define FS_REPLIED_H

#include "fs/mount.h"

/* More calls than there can be threads between a commit and its reply. */
#define FS_REPLIED_MAX 4096
#define FS_REPLIED_NONE UINT32_MAX

struct fs_replied;

/* Reads what the worker before left; with `fresh` it is none of this mount's
 * and goes. */
int fs_replied_open(
	struct fs_mount *m, bool fresh, struct fs_replied **ret_replied);
void fs_replied_free(struct fs_replied *r);
/* Was this one answered?  With which inode (0: with none)? */
bool fs_replied_find(struct fs_replied *r, uint64_t request, uint64_t *ret_ino);
/* Everything that was to come again has come. */
void fs_replied_settle(struct fs_replied *r);

/* A slot; gives it back. */
uint32_t fs_replied_take(struct fs_replied *r);
void fs_replied_give(struct fs_replied *r, uint32_t slot);

#endif
