/*
 * Making an inode ready to be written to: what open, truncate and create
 * share.  Private to the op_*.c files.
 *
 * Threads and locks: inside the gate of the file (fs/handle.h); functions
 * marked [sync] wait for the disk.
 * Ownership: as in handle.h.
 * Errors: of the index and the disk.
 */
#ifndef FS_OP_OPEN_H
#define FS_OP_OPEN_H

#include "fs/handle.h"
#include "fs/reply.h"

struct fs_ready {
	bool truncate;	      /* to nothing */
	bool kill_setid;      /* the caller may not keep setuid and setgid */
	bool rdwr;	      /* could map it shared and writable */
	struct fs_call *call; /* an open: it truncates only once */
	/* found out by fs_ready_look() */
	bool alone; /* nobody else has the data file: it may be a new one */
	bool sync;
	bool keep;
	bool again; /* it was closed, but the end is not seen yet */
};

/* May its content be changed at all? */
int fs_may_change(struct fs_mount *m, const struct cache_inode *inode);
/* Looks at what is to be done for this row.  1: its bytes must be fetched
 * first, all of them. */
int fs_ready_look(struct fs_mount *m, struct cache_txn *txn, struct fs_file *f,
	const struct cache_inode *inode, struct fs_ready *ready);
/* Does fs_make_ready() wait for the disk? */
bool fs_ready_waits(const struct fs_ready *ready);
/* [sync] The older state is kept if it is owed, the row says written-to, and
 * that is durable where it has to be (KERNEL.md: durable before use).
 * ret_inode is the row as it is then. */
int fs_make_ready(struct fs_mount *m, struct fs_file *f,
	const struct fs_ready *ready, struct cache_inode *ret_inode);
int fs_truncate_data(
	struct fs_mount *m, const struct cache_inode *inode, off_t size);
/* Takes away what a write by an unprivileged user takes away. */
void fs_kill_setid(struct cache_inode *inode);

#endif
