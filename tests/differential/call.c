/* One call: chosen, made on both sides, compared, printed. */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct kind *const tables[] = { names_kinds, files_kinds,
	maps_kinds, walks_kinds, shake_kinds };
#define TABLES (sizeof(tables) / sizeof(*tables))

static unsigned weight_of(const struct world *w, const struct kind *k)
{
	/* Events are a few in a hundred thousand to begin with. */
	return k->has & IS_EVENT ? k->weight * w->shakes / 100
				 : k->weight * 1000;
}

static const struct kind *choose_kind(struct world *w, struct dice *d)
{
	const struct kind *k;
	unsigned total = 0, at, i;

	for (i = 0; i < TABLES; i++)
		for (k = tables[i]; k->name != NULL; k++)
			total += weight_of(w, k);
	at = dice_below(d, total);
	for (i = 0;; i++)
		for (k = tables[i]; k->name != NULL; k++) {
			if (at < weight_of(w, k))
				return k;
			at -= weight_of(w, k);
		}
}

void call_choose(struct world *w, uint64_t number, struct step *s)
{
	struct dice d = { number };

	memset(s, 0, sizeof(*s));
	s->at[0] = s->at[1] = s->slot[0] = s->slot[1] = s->to = -1;
	s->kind = choose_kind(w, &d);
	s->user = !(s->kind->has & IS_EVENT) && dice_one_in(&d, 25);
	if (s->kind->choose != NULL)
		s->kind->choose(w, &d, s);
}

int call_fd(const struct side *side, int slot)
{
	return slot < 0 ? -1 : side->fd[slot];
}

int call_at(const struct side *side, const struct step *s, int nr)
{
	return s->at[nr] < 0 ? side->root : side->fd[s->at[nr]];
}

void call_set(struct result *r, int64_t value)
{
	r->value = value < 0 ? -1 : value;
	r->err = value < 0 ? errno : 0;
}

static void perform(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	memset(r, 0, sizeof(*r));
	if (s->user) {
		setfsgid(12345);
		setfsuid(12345);
	}
	s->kind->perform(w, side, s, r);
	if (s->user) {
		setfsuid(0);
		setfsgid(0);
	}
}

/* What the things that the call was about look like now. */
static const char *faces(struct world *w, const struct step *s, char *text)
{
	static const unsigned shows[] = { SHOWS_PATH, SHOWS_PATH2, SHOWS_SLOT };
	struct face face[SIDES];
	const char *what;
	char a[300], b[300];
	int i, nr;

	for (i = 0; i < 3; i++) {
		if (!(s->kind->has & shows[i]) || (i == 2 && s->slot[0] < 0))
			continue;
		for (nr = 0; nr < SIDES; nr++)
			if (i == 2)
				face_get(call_fd(&w->side[nr], s->slot[0]), "",
					AT_EMPTY_PATH, &face[nr]);
			else
				face_get(call_at(&w->side[nr], s, i),
					s->path[i], AT_SYMLINK_NOFOLLOW,
					&face[nr]);
		what = face_differs(&face[MOUNT], &face[PLAIN]);
		if (what == NULL)
			continue;
		face_print(&face[MOUNT], a, sizeof(a));
		face_print(&face[PLAIN], b, sizeof(b));
		snprintf(text, TEXT_BYTES,
			"the %s: %s\n  mount: %s\n  plain: %s",
			i == 2 ? "file" : s->path[i], what, a, b);
		return what;
	}
	return NULL;
}

static void print_result(const struct result *r, char *buf, size_t size)
{
	char face[300];

	face_print(&r->face, face, sizeof(face));
	snprintf(buf, size, "%lld %s bytes %016llx%s%s%s%s",
		(long long)r->value, r->err == 0 ? "" : strerrorname_np(r->err),
		(unsigned long long)r->hash, r->note[0] == '\0' ? "" : " ",
		r->note, r->face.known ? " " : "", r->face.known ? face : "");
}

static bool equal(struct world *w, const struct step *s,
	const struct result *mount, const struct result *plain)
{
	if (face_differs(&mount->face, &plain->face) != NULL)
		return false;
	if (mount->value == plain->value && mount->err == plain->err &&
		mount->hash == plain->hash && !strcmp(mount->note, plain->note))
		return true;
	return expect_value(w, s, mount, plain);
}

bool call_make(struct world *w, const struct step *s, char *why)
{
	struct result r[SIDES];
	char text[SIDES][600];
	int nr;

	call_print(s, text[0], sizeof(text[0]));
	shake_calls(text[0]);
	perform(w, &w->side[MOUNT], s, &r[MOUNT]);
	if (s->kind->has & IS_EVENT) {
		snprintf(why, TEXT_BYTES, "%s", r[MOUNT].note);
		return r[MOUNT].value == 0;
	}
	if (expect_refused(s, &r[MOUNT]))
		return true;
	perform(w, &w->side[PLAIN], s, &r[PLAIN]);
	if (!equal(w, s, &r[MOUNT], &r[PLAIN])) {
		for (nr = 0; nr < SIDES; nr++)
			print_result(&r[nr], text[nr], sizeof(text[nr]));
		snprintf(why, TEXT_BYTES,
			"the answer\n  mount: %s\n  plain: %s", text[MOUNT],
			text[PLAIN]);
		return false;
	}
	return faces(w, s, why) == NULL;
}

static size_t put_path(const struct step *s, int nr, char *buf, size_t size)
{
	const char *p = s->path[nr];
	FILE *f = fmemopen(buf, size, "w");
	size_t len;

	if (f == NULL)
		return 0;
	if (s->at[nr] >= 0)
		fprintf(f, " fd%d:", s->at[nr]);
	fprintf(f, " \"");
	for (; *p != '\0' && p - s->path[nr] < 200; p++)
		if (*p < ' ' || *p == '"' || *p == '\\')
			fprintf(f, "\\x%02x", (unsigned char)*p);
		else
			fputc(*p, f);
	fprintf(f, "\"");
	len = ftell(f);
	fclose(f);
	return len < size ? len : size - 1;
}

void call_print(const struct step *s, char *buf, size_t size)
{
	unsigned has = s->kind->has;
	size_t len = snprintf(
		buf, size, "%s%s", s->user ? "(user) " : "", s->kind->name);

#define PUT(bit, ...)                                                        \
	do {                                                                 \
		if (has & (bit) && len < size)                               \
			len += snprintf(buf + len, size - len, __VA_ARGS__); \
	} while (0)
	PUT(HAS_SLOT, " fd%d", s->slot[0]);
	PUT(HAS_SLOT2, " fd%d", s->slot[1]);
	if (has & HAS_PATH && len + 8 < size)
		len += put_path(s, 0, buf + len, size - len);
	if (has & HAS_PATH2 && len + 8 < size)
		len += put_path(s, 1, buf + len, size - len);
	PUT(HAS_FLAGS, " flags 0x%x", s->flags);
	PUT(HAS_MODE, " mode %o", s->mode);
	PUT(HAS_OFF, " at %lld", (long long)s->off[0]);
	PUT(HAS_OFF2, " to %lld", (long long)s->off[1]);
	PUT(HAS_LEN, " length %zu", s->len);
	PUT(HAS_OWNER, " %d:%d", (int)s->uid, (int)s->gid);
	PUT(HAS_TIMES, " mtime %lld.%09ld", (long long)s->time[1].tv_sec,
		s->time[1].tv_nsec);
	PUT(HAS_TO, " -> fd%d", s->to);
#undef PUT
}
