/*
 * Private to cache/: rows of the journal, for owed.c, line.c and prefix.c.
 *
 * Threads, ownership, errors: as db.h.
 */
#ifndef CACHE_OWED_H
#define CACHE_OWED_H

#include "cache/db.h"

#define CACHE_OWED_COLUMNS                                                \
	"seq, epoch, name, kind, state, grp, phase, attrs_only, quiet, "  \
	"change, ino, serial, size, gen, content, mode, uid, gid, rdev, " \
	"mtime_ns, displaced, entered_ns, boot, tries, error, "           \
	"refused_ns, run, step"
/* Calls `each` with the rows of a query and ends it. */
int cache_owed_read_each(struct cache_query *q, cache_owed_fn each, void *arg);
_Static_assert(CACHE_OWED_LARGE == 8388608 && CACHE_FILE == 1,
	"as in the index owed_large");
/* Is a directory rename with seq <= upto pending in this subtree ("" all), or
 * does it cover it? */
int cache_owed_prefix_touches(
	struct cache_txn *txn, const char *path, uint64_t upto_seq, bool *ret);

#endif
