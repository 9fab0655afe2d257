/*
 * A cache that nobody uses, compared with itself (check.c, check_rows.c,
 * check_files.c).  Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_FSCK_H
#define CACHE_FSCK_H

#include "cache/open.h"

/* Something that is wrong. */
struct cache_finding {
	const char *what; /* a word for scripts: "file-missing" */
	const char *name; /* the path, or what is known instead; or NULL */
	uint64_t ino;
	const char *text; /* what that means, and what a repair does */
};
struct cache_check_config {
	const char *const *dirs; /* all of the cache's, in their order */
	size_t dirs_nr;
	bool repair;
	void (*found)(void *arg, const struct cache_finding *finding);
	/* What the index believes the store to hold; `busy`: something of that
	 * name is under way.  NULL: nobody wants to know. */
	void (*remote)(
		void *arg, const char *name, const char *etag, bool busy);
	void *arg;
};
struct cache_checked {
	struct base_str store; /* the canonical URL that it belongs to */
	bool clean;	       /* it was unmounted */
	bool damaged;	       /* the index cannot be read */
	uint64_t files, bytes; /* on the disk */
	uint64_t found, moved, lost;
};
/*
 * [sync] Compares a cache that nobody uses with itself; with `repair` puts it
 * right, and never deletes what may be the only copy of something (that goes
 * to DIR/lost).  Errors with one line in ret_why: -EBUSY in use, -ENOENT no
 * cache, -EPROTO another version's, -EIO damaged.
 */
int cache_check(const struct cache_check_config *config,
	struct cache_checked *ret, char *ret_why, size_t why_bytes);
void cache_checked_fini(struct cache_checked *checked);

#endif
