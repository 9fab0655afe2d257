/*
 * Private to cache/: the names below a directory as a range of bytes.
 *
 * Everything below "a" lies between "a/" and "a0" ('0' follows '/'): one seek
 * in an index on names.  Below "" lies everything.
 *
 * Threads: none.  Ownership: init allocates, fini frees.  Errors: none.
 */
#ifndef CACHE_PATH_H
#define CACHE_PATH_H

#include <assert.h>

#include "cache/db.h"

struct cache_range_of {
	struct base_str from; /* "a/", never NULL */
	struct base_str to;   /* "a0", empty: no end */
	size_t dir_len;	      /* of "a/" */
};

static inline void cache_range_init(struct cache_range_of *r, const char *dir)
{
	*r = (struct cache_range_of){ BASE_STR_INIT, BASE_STR_INIT, 0 };
	base_str_puts(&r->from, dir);
	if (*dir != '\0') {
		base_str_putc(&r->from, '/');
		base_str_puts(&r->to, dir);
		base_str_putc(&r->to, '/' + 1);
	}
	r->dir_len = r->from.len;
}

static inline void cache_range_fini(struct cache_range_of *r)
{
	base_str_fini(&r->from);
	base_str_fini(&r->to);
}

#endif
