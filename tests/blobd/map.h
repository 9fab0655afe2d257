/*
 * A map from strings to pointers, in byte order: a skip list.
 *
 * What it is for.  Containers, blobs (a million of them), staged blocks and
 * read counts are all looked up by name and walked in order.
 *
 * Threads: none of its own; the caller locks.
 * Ownership: keys are copied, values are the caller's.
 * Errors: none; a failed allocation aborts.
 */
#ifndef BLOBD_MAP_H
#define BLOBD_MAP_H

#include <stddef.h>

struct blobd_map;
struct blobd_node {
	const char *key; /* lies behind next[] */
	void *value;
	unsigned levels_nr;
	struct blobd_node *next[];
};

struct blobd_map *blobd_map_new(void);
/* `free_value` may be NULL. */
void blobd_map_free(struct blobd_map *map, void (*free_value)(void *));
size_t blobd_map_nr(const struct blobd_map *map);
void *blobd_map_get(const struct blobd_map *map, const char *key);
/* Inserts or replaces; returns the value that was replaced, or NULL. */
void *blobd_map_set(struct blobd_map *map, const char *key, void *value);
/* Returns the value taken out, or NULL. */
void *blobd_map_remove(struct blobd_map *map, const char *key);
/* The first node whose key is not below `key`; go on with next[0]. */
struct blobd_node *blobd_map_from(const struct blobd_map *map, const char *key);

#endif
