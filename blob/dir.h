/*
 * The `dir:` store: a local (or mounted) directory as the reservoir.
 *
 * What it is for.  `dir:/PATH` gives the contract of blob/store.h on plain
 * files: a blob NAME is the file PATH/NAME, a directory marker is a real
 * directory, a symlink blob a real symlink, so that `ls -l`, `diff -r` and
 * rsync of the reservoir look right and whatever they put there is a blob.
 * Conditions, ETags and metadata: WRITEBACK section 9 and blob/dir_priv.h.
 *
 * Threads and locks.  A small pool of own threads (config->threads, 0: 8) does
 * the file system's blocking work, and one more watches: it probes a path that
 * has gone away and ends what waits too long.  Both are started here and
 * joined by close.  Completions run on the pool's threads, with no lock held.
 *
 * Ownership.  Copies what it keeps of `config`.  Below PATH/.forebay the
 * names `stage`, `tmp`, `trash`, `meta` and `lock` are the store's own and
 * answer BLOB_NAME; everything else there is an ordinary blob.  Nothing is
 * written before the first mutation: a reservoir that is only read stays as it
 * is.
 *
 * Errors.  A full disk is BLOB_UNAVAILABLE, -ENOSPC, "NoSpace"; a reservoir
 * that is read-only BLOB_DENIED, -EROFS, "ReadOnly"; a path that is gone
 * BLOB_NO_CONTAINER (and state_changed GONE; it recovers by itself).  A mount
 * below that hangs holds what is in the kernel until it lets go; what waits
 * behind it ends after timeout_ms.
 */
#ifndef BLOB_DIR_H
#define BLOB_DIR_H

#include "blob/store.h"

/* config->url is "dir:/PATH".  -EINVAL: not an absolute path; -ENOENT or
 * -ENOTDIR: no such directory; -EACCES.  One line of why in ret_why. */
int blob_dir_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes);

#endif
