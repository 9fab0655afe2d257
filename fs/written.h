/*
 * Inodes that somebody may be writing to.
 *
 * What it is for.  Writers in passthrough are not seen.  This finds out what
 * they did, by looking at the data file, and puts it into the index and the
 * write-back journal: at each FLUSH, when a file held open has been quiet, and
 * at the end, when the last writer and the last writable mapping are gone.
 *
 * Threads and locks.  Any thread, with nothing held.  Nothing here waits for
 * the store; fs_written_sync() waits for the disk.  While anything is written-
 * to, a timer looks at it once a second.
 *
 * Ownership.  As in handle.h.
 *
 * Errors.  Of the index, of the data file, and of the name (-EINVAL,
 * -ENAMETOOLONG).
 */
#ifndef FS_WRITTEN_H
#define FS_WRITTEN_H

#include "fs/handle.h"

/* The transaction that made the inode written-to is committed: `inode` is its
 * row.  `was_synced`: its bytes at `inode->stamp` are durable. */
void fs_written_begin(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool rdwr, bool was_synced);
/* Does the data file still hold what the journal last heard of, though the end
 * of its last writer is not noted yet?  Such a state was closed.  With
 * *ret_again it looks so, but a mapping could change it; a moment later, when
 * the kernel has let go of what was closed, it is known. */
bool fs_written_rests(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool *ret_again);
/* Enters what changed since it was last entered, if anything did. */
int fs_written_enter(struct fs_handles *h, struct fs_file *f);
/* The last writer may be gone: goes on in the background until no writable
 * mapping is left, then the inode is no longer written-to.  Takes the caller's
 * reference. */
void fs_written_end(struct fs_handles *h, struct fs_file *f);
/* [sync] fsync: data, size and name of the inode survive a power cut. */
int fs_written_sync(struct fs_handles *h, uint64_t ino);

/* Inside a write transaction: the bytes are those that the data file `fd`
 * holds now.  Changes the row, does not write it. */
int fs_written_note(struct fs_handles *h, struct cache_inode *inode, int fd);
/* The same transaction, after the row was written: enters it, if it has a
 * name. */
int fs_written_tell(struct fs_handles *h, struct cache_txn *txn,
	const struct cache_inode *inode);

/* Is there room for new data?  Asked again at most five times a second. */
bool fs_written_may_write(struct fs_handles *h);

#endif
