/* What a call is about: names, slots, ranges, times. */
#include "tests/differential/diff.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Few, so that most calls find something. */
static const char *const usual[] = { "a", "b", "c", "d.txt", "e", "link" };
/* That are written otherwise in a store, or that nothing can hold. */
static const char *const special[] = { "sp ace", "pct%41", "#q?x=1", "dot.",
	"back\\slash", "caf\xc3\xa9", "bad\xff\xfe", "tab\there", "nl\nhere",
	"\xe2\x90\x81pic", "\xe2\x80\x9b", "+plus&amp;", "..x", "-", "~",
	"UPPER", "upper" };

uint64_t dice_next(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned dice_below(struct dice *d, unsigned n)
{
	return dice_next(d) % n;
}

bool dice_one_in(struct dice *d, unsigned n)
{
	return dice_below(d, n) == 0;
}

static const char *long_name(unsigned bytes)
{
	static char name[300];

	memset(name, 'n', bytes);
	name[bytes] = '\0';
	return name;
}

const char *choose_name(struct dice *d)
{
	if (dice_one_in(d, 400))
		return long_name(256);
	if (dice_one_in(d, 200))
		return long_name(255);
	if (dice_one_in(d, 12))
		return special[dice_below(
			d, sizeof(special) / sizeof(*special))];
	return usual[dice_below(d, sizeof(usual) / sizeof(*usual))];
}

void choose_path(struct world *w, struct dice *d, struct step *s, int nr)
{
	unsigned roll = dice_below(d, 100), depth, len = 0, i;
	char *path = s->path[nr];

	s->at[nr] = -1;
	if (dice_one_in(d, 12)) {
		i = dice_below(d, FDS);
		if (w->side[PLAIN].fd[i] >= 0 &&
			(w->slot[i].dir || dice_one_in(d, 10)))
			s->at[nr] = i;
	}
	depth = roll < 50 ? 1 : roll < 85 ? 2 : roll < 97 ? 3 : 6;
	path[0] = '\0';
	for (i = 0; i < depth; i++)
		len += snprintf(path + len, PATH_BYTES - len, "%s%s",
			i == 0 ? "" : "/", choose_name(d));
	if (dice_one_in(d, 60))
		len += snprintf(path + len, PATH_BYTES - len, "/");
	if (dice_one_in(d, 60))
		snprintf(path + len, PATH_BYTES - len, "/.");
	if (dice_one_in(d, 300))
		path[0] = '\0';
	if (dice_one_in(d, 100))
		snprintf(path, PATH_BYTES, ".");
}

int choose_slot(struct world *w, struct dice *d)
{
	unsigned from = dice_below(d, FDS), i;

	for (i = 0; i < FDS; i++)
		if (w->side[PLAIN].fd[(from + i) % FDS] >= 0)
			return (from + i) % FDS;
	return -1;
}

void choose_to(struct world *w, struct dice *d, struct step *s)
{
	unsigned i;

	s->to = dice_below(d, FDS);
	/* Somewhat more often a free one. */
	for (i = 0; i < 2 && w->side[PLAIN].fd[s->to] >= 0; i++)
		s->to = (s->to + 1) % FDS;
	world_close_slot(w, s->to);
}

static int64_t choose_off(struct dice *d)
{
	unsigned roll = dice_below(d, 100);

	if (roll < 20)
		return 0;
	if (roll < 40)
		return 4096 * (int64_t)dice_below(d, 24);
	if (roll < 60)
		return dice_below(d, 5000);
	if (roll < 97)
		return dice_below(d, 150000);
	if (roll < 98)
		return dice_below(d, 12 << 20);
	return roll < 99 ? -1 : -4096;
}

void choose_range(struct world *w, struct dice *d, struct step *s)
{
	unsigned roll = dice_below(d, 100);

	(void)w;
	s->off[0] = choose_off(d);
	s->off[1] = choose_off(d);
	s->len = roll < 3   ? 0
		: roll < 20 ? 4096 * (1 + dice_below(d, 8))
		: roll < 70 ? dice_below(d, 5000)
		: roll < 98 ? dice_below(d, 70000)
			    : dice_below(d, BYTES_MAX);
	s->seed = dice_next(d);
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].direct) {
		s->off[0] = s->off[0] / 4096 * 4096;
		s->len = s->len / 4096 * 4096;
	}
}

void choose_times(struct dice *d, struct step *s)
{
	int i;

	for (i = 0; i < 2; i++) {
		/* Never so late that it could be taken for a clock's. */
		s->time[i].tv_sec = (int64_t)dice_below(d, 900000000) - 1000;
		s->time[i].tv_nsec = dice_below(d, 1000000000);
		if (dice_one_in(d, 8))
			s->time[i].tv_nsec = UTIME_NOW;
		if (dice_one_in(d, 8))
			s->time[i].tv_nsec = UTIME_OMIT;
	}
}
