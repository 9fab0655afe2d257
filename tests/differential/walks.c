/*
 * Directories, listed at once and bit by bit while they change.
 *
 * The order of the names is each file system's own.  What must hold on any:
 * a place that telldir(3) named is the same after seekdir(3); a rewound
 * directory lists what is there now; what was there all the time is seen
 * once.
 */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_MAX 512

static struct dirent *next(DIR *dir)
{
	struct dirent *entry;

	do {
		errno = 0;
		entry = readdir(dir);
	} while (entry != NULL &&
		(!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")));
	return entry;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The rest of it, sorted, into hash and value. */
static void rest(DIR *dir, struct result *r, char **names, int nr)
{
	struct dirent *entry;
	size_t used;
	int i;

	while (nr < NAMES_MAX && (entry = next(dir)) != NULL)
		if (asprintf(&names[nr++], "%s %d", entry->d_name,
			    entry->d_type) < 0)
			die("memory");
	call_set(r, nr == NAMES_MAX || errno == 0 ? nr : -1);
	qsort(names, nr, sizeof(*names), by_text);
	r->hash = HASH_START;
	for (i = 0; i < nr; i++) {
		r->hash = hash_bytes(r->hash, names[i], strlen(names[i]) + 1);
		used = strlen(r->note);
		if (used + strlen(names[i]) + 2 < sizeof(r->note))
			snprintf(r->note + used, sizeof(r->note) - used, "%s,",
				names[i]);
		free(names[i]);
	}
}

static void path_and_walk(struct world *w, struct dice *d, struct step *s)
{
	choose_path(w, d, s, 0);
	s->to = dice_below(d, WALKS);
	s->seed = dice_next(d);
	s->len = dice_below(d, 6);
	if (dice_one_in(d, 5))
		strcpy(s->path[0], ".");
}

static void do_list(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	char *names[NAMES_MAX];
	int fd = openat(call_at(side, s, 0), s->path[0],
		O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	(void)w;
	call_set(r, dir == NULL ? -1 : 0);
	if (dir == NULL)
		return;
	rest(dir, r, names, 0);
	closedir(dir);
}

static void do_opendir(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	int fd = openat(call_at(side, s, 0), s->path[0],
		O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)w;
	if (side->walk[s->to] != NULL)
		closedir(side->walk[s->to]);
	side->walk[s->to] = fd < 0 ? NULL : fdopendir(fd);
	call_set(r, fd < 0 ? -1 : 0);
}

/* Some names; where they are is where they were.  From the start, for what the
 * C library read before may be gone by now. */
static void do_seekdir(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	DIR *dir = side->walk[s->to];
	struct dirent *entry;
	char name[256] = "";
	size_t i;
	long at;

	(void)w;
	if (dir == NULL)
		return;
	rewinddir(dir);
	for (i = 0; i < s->len && next(dir) != NULL; i++)
		;
	at = telldir(dir);
	entry = next(dir);
	if (entry != NULL)
		snprintf(name, sizeof(name), "%s", entry->d_name);
	for (i = 0; i < s->seed % 4 && next(dir) != NULL; i++)
		;
	seekdir(dir, at);
	entry = next(dir);
	if (strcmp(name, entry == NULL ? "" : entry->d_name) != 0) {
		snprintf(r->note, sizeof(r->note), "%s: '%.80s' is now '%.80s'",
			side->name, name, entry == NULL ? "" : entry->d_name);
	}
}

static void do_rewinddir(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	char *names[NAMES_MAX];

	(void)w;
	if (side->walk[s->to] == NULL)
		return;
	rewinddir(side->walk[s->to]);
	rest(side->walk[s->to], r, names, 0);
}

/* In small pieces, while names come and go. */
static void do_slow_list(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	int fd = openat(call_at(side, s, 0), s->path[0],
		O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char *names[NAMES_MAX], name[40];
	struct dirent *entry;
	int nr = 0, i;

	(void)w;
	call_set(r, dir == NULL ? -1 : 0);
	if (dir == NULL)
		return;
	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "zz-%d-%u", i, s->seed % 100);
		if (symlinkat("x", dirfd(dir), name) < 0)
			break;
		/* Not from glibc's buffer, but as it now is. */
		seekdir(dir, telldir(dir));
		if ((entry = next(dir)) != NULL &&
			strncmp(entry->d_name, "zz-", 3) != 0 &&
			asprintf(&names[nr++], "%s %d", entry->d_name,
				entry->d_type) < 0)
			die("memory");
		if (i > 1) {
			snprintf(name, sizeof(name), "zz-%d-%u", i - 2,
				s->seed % 100);
			unlinkat(dirfd(dir), name, 0);
		}
	}
	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "zz-%d-%u", i, s->seed % 100);
		unlinkat(dirfd(dir), name, 0);
	}
	seekdir(dir, telldir(dir));
	rest(dir, r, names, nr);
	closedir(dir);
}

const struct kind walks_kinds[] = {
	{ "list", 15, HAS_PATH, path_and_walk, do_list },
	{ "slow_list", 2, HAS_PATH, path_and_walk, do_slow_list },
	{ "opendir", 5, HAS_PATH | HAS_TO, path_and_walk, do_opendir },
	{ "seekdir", 8, HAS_TO | HAS_LEN, path_and_walk, do_seekdir },
	{ "rewinddir", 6, HAS_TO, path_and_walk, do_rewinddir },
	{ NULL, 0, 0, NULL, NULL },
};
