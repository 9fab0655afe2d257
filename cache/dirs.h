/*
 * Private to cache/: the directories of a cache, at open and close.
 *
 * Threads: one.  Ownership: struct cache keeps descriptors and paths until
 * cache_dirs_close(); a struct cache_dirs_undo is the caller's.  Errors: as
 * cache_open(), with the line for `why`.
 */
#ifndef CACHE_DIRS_H
#define CACHE_DIRS_H

#include "cache/db.h"

/* What an open has made, to be taken back if it fails. */
struct cache_dirs_undo {
	bool made_lock[CACHE_DIRS_MAX];
	bool made_index; /* set by the caller */
};

/* Makes, opens and locks the directories of cache->config. */
int cache_dirs_open(struct cache *cache, struct cache_dirs_undo *undo,
	char *why, size_t why_bytes);
/* Each directory is in its place of this set; an empty one joins it. */
int cache_dirs_check_set(struct cache *cache, const struct cache_id *set,
	char *why, size_t why_bytes);
/* With the locks still held. */
void cache_dirs_undo(struct cache *cache, const struct cache_dirs_undo *undo);
/* Those that this open made go again, if they are empty. */
void cache_dirs_remove(char **made, size_t nr);
void cache_dirs_close(struct cache *cache);

#endif
