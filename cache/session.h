/*
 * Private to cache/: a session, from an open to a close (session.c).
 *
 * Threads: only the one that opens or closes.  Errors: 0 or -errno.
 */
#ifndef CACHE_SESSION_H
#define CACHE_SESSION_H

#include "cache/db.h"

/* The counters as a new index has them. */
void cache_session_init(struct cache *cache);
/* cache->goes_on: the last session was not ended, and is of this boot.  Then
 * nothing is changed that would have to be durable before what comes after. */
int cache_session_find(struct cache *cache);
/* One commit.  A refusal, such as an index of another store, is told in `why`;
 * *ret_set is what the directories must carry. */
int cache_session_begin(struct cache *cache, struct cache_opened *opened,
	struct cache_id *ret_set, char *why, size_t why_bytes);
/* One commit: everything before it is durable, so it is clean. */
int cache_session_end(struct cache *cache);

#endif
