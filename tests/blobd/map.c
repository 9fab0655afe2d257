/* A skip list with string keys: see map.h.  One node in four rises a level. */
#include "tests/blobd/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define LEVELS_MAX 16 /* 4^16 nodes before it slows down */

struct blobd_map {
	struct blobd_node *head;
	size_t nr;
	uint64_t random;
};

static struct blobd_node *node_new(
	const char *key, void *value, unsigned levels_nr)
{
	size_t links = levels_nr * sizeof(struct blobd_node *);
	size_t len = strlen(key) + 1;
	struct blobd_node *n = base_malloc(sizeof(*n) + links + len);

	memset(n->next, 0, links);
	memcpy((char *)n->next + links, key, len);
	n->key = (char *)n->next + links;
	n->value = value;
	n->levels_nr = levels_nr;
	return n;
}

struct blobd_map *blobd_map_new(void)
{
	struct blobd_map *map = base_calloc(1, sizeof(*map));

	map->head = node_new("", NULL, LEVELS_MAX);
	map->random = 0x9e3779b97f4a7c15;
	return map;
}

void blobd_map_free(struct blobd_map *map, void (*free_value)(void *))
{
	struct blobd_node *n, *next;

	if (map == NULL)
		return;
	for (n = map->head->next[0]; n != NULL; n = next) {
		next = n->next[0];
		if (free_value != NULL)
			free_value(n->value);
		free(n);
	}
	free(map->head);
	free(map);
}

size_t blobd_map_nr(const struct blobd_map *map)
{
	return map->nr;
}

/* For each level the last node below key. */
static struct blobd_node *seek(const struct blobd_map *map, const char *key,
	struct blobd_node **ret_before)
{
	struct blobd_node *n = map->head;
	int level;

	for (level = LEVELS_MAX - 1; level >= 0; level--) {
		while (n->next[level] != NULL &&
			strcmp(n->next[level]->key, key) < 0)
			n = n->next[level];
		if (ret_before != NULL)
			ret_before[level] = n;
	}
	return n->next[0];
}

struct blobd_node *blobd_map_from(const struct blobd_map *map, const char *key)
{
	return seek(map, key, NULL);
}

void *blobd_map_get(const struct blobd_map *map, const char *key)
{
	struct blobd_node *n = seek(map, key, NULL);

	return n != NULL && strcmp(n->key, key) == 0 ? n->value : NULL;
}

static unsigned pick_levels(struct blobd_map *map)
{
	unsigned levels = 1;
	uint64_t r;

	map->random ^= map->random << 13;
	map->random ^= map->random >> 7;
	map->random ^= map->random << 17;
	for (r = map->random >> 16; levels < LEVELS_MAX && (r & 3) == 0;
		r >>= 2)
		levels++;
	return levels;
}

void *blobd_map_set(struct blobd_map *map, const char *key, void *value)
{
	struct blobd_node *before[LEVELS_MAX];
	struct blobd_node *n = seek(map, key, before);
	void *old;
	unsigned i;

	if (n != NULL && strcmp(n->key, key) == 0) {
		old = n->value;
		n->value = value;
		return old;
	}
	n = node_new(key, value, pick_levels(map));
	for (i = 0; i < n->levels_nr; i++) {
		n->next[i] = before[i]->next[i];
		before[i]->next[i] = n;
	}
	map->nr++;
	return NULL;
}

void *blobd_map_remove(struct blobd_map *map, const char *key)
{
	struct blobd_node *before[LEVELS_MAX];
	struct blobd_node *n = seek(map, key, before);
	void *value;
	unsigned i;

	if (n == NULL || strcmp(n->key, key) != 0)
		return NULL;
	for (i = 0; i < n->levels_nr; i++)
		before[i]->next[i] = n->next[i];
	value = n->value;
	free(n);
	map->nr--;
	return value;
}
