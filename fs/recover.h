/*
 * What a worker that died left behind, and what an earlier mount did.
 *
 * What it is for.  The kernel still has handles, backing ids and inodes
 * without a name of which this process knows nothing; the index has rows that
 * say "written-to".  Here they become what handle.h and written.h know again.
 *
 *	fs_handles_attach()   after cache_open(), before anything of the cache
 *			      is dropped (cache_start()): open handles
 *	fs_handles_recover()  with tier/, before the first request: written-to
 *	fs_handles_probe()    with a session: which nodes the kernel still knows
 *
 * Threads: the main thread, in this order.
 * Ownership: as in handle.h.
 * Errors: of the index.  A handle that cannot be gone on from is dropped and
 * logged; its user gets EBADF.
 */
#ifndef FS_RECOVER_H
#define FS_RECOVER_H

#include "fs/handle.h"

/* `again`: another worker of this mount was there before; otherwise the table
 * is empty, and inodes without a name that nobody needs go. */
int fs_handles_attach(struct fs_handles *h, bool again);
/* Not after an unclean boot. */
void fs_handles_recover(struct fs_handles *h);
void fs_handles_probe(struct fs_handles *h);

#endif
