/* The two directories and what is open in them. */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void world_open_root(struct world *w, int nr)
{
	struct side *side = &w->side[nr];
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%s", side->top, w->dir);
	side->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (side->root < 0)
		die(path);
}

void world_begin(struct world *w, const char *dir)
{
	char path[PATH_BYTES];
	int nr, i;

	snprintf(w->dir, sizeof(w->dir), "%s", dir);
	face_forget();
	for (nr = 0; nr < SIDES; nr++) {
		snprintf(path, sizeof(path), "%s/%s", w->side[nr].top, w->dir);
		if (mkdir(path, 0777) < 0)
			die(path);
		world_open_root(w, nr);
		for (i = 0; i < FDS; i++)
			w->side[nr].fd[i] = -1;
	}
	for (i = 0; i < MAPS; i++)
		w->map[i].fd = -1;
}

void world_close_slot(struct world *w, int slot)
{
	int nr;

	for (nr = 0; nr < SIDES; nr++) {
		if (w->side[nr].fd[slot] >= 0)
			close(w->side[nr].fd[slot]);
		w->side[nr].fd[slot] = -1;
	}
	memset(&w->slot[slot], 0, sizeof(w->slot[slot]));
}

void world_close_map(struct world *w, int slot)
{
	struct map *map;
	int nr;

	for (nr = 0; nr < SIDES; nr++) {
		map = &w->side[nr].map[slot];
		if (map->at != NULL)
			munmap(map->at, map->bytes);
		map->at = NULL;
	}
	if (w->map[slot].fd >= 0)
		close(w->map[slot].fd);
	w->map[slot].fd = -1;
}

static void close_walks(struct side *side)
{
	int i;

	for (i = 0; i < WALKS; i++) {
		if (side->walk[i] != NULL)
			closedir(side->walk[i]);
		side->walk[i] = NULL;
	}
}

void world_close_all(struct world *w)
{
	int i;

	for (i = 0; i < FDS; i++)
		world_close_slot(w, i);
	for (i = 0; i < MAPS; i++)
		world_close_map(w, i);
	close_walks(&w->side[MOUNT]);
	close_walks(&w->side[PLAIN]);
}

void world_end(struct world *w)
{
	char command[PATH_BYTES + 16];
	int nr;

	world_close_all(w);
	for (nr = 0; nr < SIDES; nr++) {
		close(w->side[nr].root);
		snprintf(command, sizeof(command), "rm -rf '%s/%s'",
			w->side[nr].top, w->dir);
		/* NOLINTNEXTLINE(cert-env33-c): our own directory */
		if (system(command) != 0)
			die(command);
	}
}
