/*
 * Telling the kernel that what it cached is no longer so.
 *
 * What it is for.  Time-outs keep the kernel's caches right; this is for what
 * they cannot say: names that live for ever, changes made here on behalf of
 * the store, and explicit commands.
 *
 * Threads and locks.  One thread of its own.  A notification takes locks in
 * the kernel (of the directory; of pages that are being read), so it is never
 * awaited by a request, and put off while a request waits at the store for
 * that inode or directory.  All functions may be called from any thread and
 * wait for nothing but fs_notify_free(), which joins the thread.
 *
 * Ownership.  Names are copied.
 *
 * Errors.  None are returned: what the kernel does not know needs no
 * notification.  The queue is bounded and coalesces; what does not fit is
 * dropped, counted in the log, and left to the time-outs.
 */
#ifndef FS_NOTIFY_H
#define FS_NOTIFY_H

#include "fs/mount.h"

struct fs_notify *fs_notify_new(struct fs_mount *m);
void fs_notify_free(struct fs_notify *n);

/* NAME in directory PARENT may be another inode, or none. */
void fs_notify_entry(struct fs_notify *n, uint64_t parent, const char *name);
/* The attributes of an inode are old. */
void fs_notify_attrs(struct fs_notify *n, uint64_t ino);
/* If the kernel does not know it, as if it had said FORGET. */
void fs_notify_probe(struct fs_notify *n, uint64_t ino);

/* Between these two a request waits at the store for this inode. */
void fs_notify_hold(struct fs_notify *n, uint64_t ino);
void fs_notify_allow(struct fs_notify *n, uint64_t ino);

/* Of struct tier_config; arg: struct fs_notify. */
void fs_notify_inode_changed(void *arg, uint64_t ino);
void fs_notify_entry_changed(void *arg, uint64_t parent, const char *name);

#endif
