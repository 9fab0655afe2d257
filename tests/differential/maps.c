/*
 * Mappings: made of an open file, outliving its descriptor, its name and its
 * truncation.
 *
 * Only bytes within the file, or in pages wholly beyond it, are touched: what
 * the rest of a last page holds is nobody's promise.
 */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static sigjmp_buf beyond;

static void on_bus(int nr)
{
	(void)nr;
	siglongjmp(beyond, 1);
}

static void mapped(struct world *w, struct dice *d, struct step *s)
{
	s->slot[0] = choose_slot(w, d);
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].direct)
		s->slot[0] = -1;
	s->to = dice_below(d, MAPS);
	world_close_map(w, s->to);
	s->flags = dice_one_in(d, 3) ? MAP_PRIVATE : MAP_SHARED;
	s->mode = dice_one_in(d, 3) ? PROT_READ : PROT_READ | PROT_WRITE;
	s->off[0] = dice_one_in(d, 3) ? PAGE * (int64_t)dice_below(d, 20) : 0;
	s->len = PAGE * (1 + dice_below(d, 32));
}

static void do_map(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct map_slot *slot = &w->map[s->to];
	int fd = call_fd(side, s->slot[0]);
	char path[40];
	void *at = mmap(NULL, s->len, s->mode, s->flags, fd, s->off[0]);

	call_set(r, at == MAP_FAILED ? -1 : 0);
	side->map[s->to].at = at == MAP_FAILED ? NULL : at;
	side->map[s->to].bytes = s->len;
	if (side != &w->side[PLAIN] || at == MAP_FAILED)
		return;
	slot->shared = s->flags == MAP_SHARED;
	slot->writable = s->mode & PROT_WRITE;
	slot->off = s->off[0];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	slot->fd = open(path, O_PATH | O_CLOEXEC);
}

static void touched(struct world *w, struct dice *d, struct step *s)
{
	struct map_slot *slot;
	struct stat st;
	int64_t left;
	int i = dice_below(d, MAPS);

	s->to = i;
	s->seed = dice_next(d);
	if (w->side[PLAIN].map[i].at == NULL)
		return;
	slot = &w->map[i];
	s->off[0] = dice_below(d, w->side[PLAIN].map[i].bytes);
	s->len = 1 + dice_below(d, dice_one_in(d, 4) ? 30000 : 100);
	if (s->off[0] + s->len > w->side[PLAIN].map[i].bytes)
		s->len = w->side[PLAIN].map[i].bytes - s->off[0];
	if (fstat(slot->fd, &st) < 0)
		die("fstat");
	left = st.st_size - slot->off - s->off[0];
	if (left > 0)
		s->len = (int64_t)s->len < left ? (int64_t)s->len : left;
	else if ((slot->off + s->off[0]) / PAGE ==
		(st.st_size + PAGE - 1) / PAGE - 1)
		s->len = 0;
}

static void do_load(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct map *map = &side->map[s->to];

	(void)w;
	if (map->at == NULL)
		return;
	if (sigsetjmp(beyond, 1) == 0)
		r->hash = hash_bytes(HASH_START, map->at + s->off[0], s->len);
	else
		snprintf(r->note, sizeof(r->note), "SIGBUS");
}

static void do_store(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct map *map = &side->map[s->to];
	struct dice d = { s->seed };
	struct stat st;
	size_t i;

	if (map->at == NULL || !w->map[s->to].writable)
		return;
	if (w->map[s->to].shared && fstat(w->map[s->to].fd, &st) == 0)
		face_taint(st.st_ino);
	if (sigsetjmp(beyond, 1) != 0) {
		snprintf(r->note, sizeof(r->note), "SIGBUS");
		return;
	}
	for (i = 0; i < s->len; i++)
		map->at[s->off[0] + i] = dice_next(&d);
}

static void do_msync(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct map *map = &side->map[s->to];

	(void)w;
	if (map->at != NULL)
		call_set(r,
			msync(map->at, map->bytes,
				s->seed % 2 ? MS_SYNC : MS_ASYNC));
}

static void do_unmap(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct map *map = &side->map[s->to];

	(void)r;
	if (map->at != NULL)
		munmap(map->at, map->bytes);
	map->at = NULL;
	if (side == &w->side[PLAIN] && w->map[s->to].fd >= 0) {
		close(w->map[s->to].fd);
		w->map[s->to].fd = -1;
	}
}

void maps_init(void)
{
	struct sigaction action = { .sa_handler = on_bus };

	sigaction(SIGBUS, &action, NULL);
}

const struct kind maps_kinds[] = {
	{ "mmap", 12,
		HAS_SLOT | HAS_FLAGS | HAS_MODE | HAS_OFF | HAS_LEN | HAS_TO,
		mapped, do_map },
	{ "load", 20, HAS_TO | HAS_OFF | HAS_LEN, touched, do_load },
	{ "store", 20, HAS_TO | HAS_OFF | HAS_LEN, touched, do_store },
	{ "msync", 5, HAS_TO, touched, do_msync },
	{ "munmap", 5, HAS_TO, touched, do_unmap },
	{ NULL, 0, 0, NULL, NULL },
};
