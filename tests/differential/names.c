/* Calls about names. */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#endif

#define AT0 call_at(side, s, 0), s->path[0]
#define AT1 call_at(side, s, 1), s->path[1]

static void one_path(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned modes[] = { 0644, 0755, 0700, 0600, 0444, 0000,
		0777, 04755, 02755, 06711, 01777, 0111 };

	choose_path(w, d, s, 0);
	s->mode = modes[dice_below(d, sizeof(modes) / sizeof(*modes))];
	s->uid = dice_one_in(d, 3) ? (uid_t)-1 : dice_below(d, 2) * 12345;
	s->gid = dice_one_in(d, 3) ? (gid_t)-1 : dice_below(d, 3) * 12345;
	s->flags = dice_one_in(d, 2) ? AT_SYMLINK_NOFOLLOW : 0;
	choose_times(d, s);
}

static void two_paths(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned flags[] = { 0, 0, 0, RENAME_NOREPLACE,
		RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 64 };

	choose_path(w, d, s, 0);
	choose_path(w, d, s, 1);
	s->flags =
		flags[dice_one_in(d, 20) ? dice_below(d, 7) : dice_below(d, 5)];
}

/* path[1] is what it points at. */
static void link_path(struct world *w, struct dice *d, struct step *s)
{
	unsigned i, depth = 1 + dice_below(d, 2), len = 0;

	choose_path(w, d, s, 0);
	s->at[1] = -1;
	for (i = 0; i < depth; i++)
		len += snprintf(s->path[1] + len, PATH_BYTES - len, "%s%s",
			i > 0 ? "/" : "", choose_name(d));
}

static void do_mkdir(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, mkdirat(AT0, s->mode));
}

static void do_rmdir(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, unlinkat(AT0, AT_REMOVEDIR));
}

static void do_unlink(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, unlinkat(AT0, 0));
}

static void do_rename(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, renameat2(AT0, AT1, s->flags));
}

static void do_symlink(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, symlinkat(s->path[1], AT0));
}

static void do_readlink(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	char target[4096];
	ssize_t n = readlinkat(AT0, target, sizeof(target));

	(void)w;
	call_set(r, n);
	if (n > 0)
		r->hash = hash_bytes(HASH_START, target, n);
}

static void do_stat(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct stat st;

	(void)w;
	call_set(r, fstatat(AT0, &st, s->flags));
	if (r->err == 0)
		face_get(AT0, s->flags, &r->face);
}

static void do_access(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, faccessat(AT0, s->mode & 7, AT_EACCESS));
}

static void do_chmod(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, fchmodat(AT0, s->mode, 0));
}

static void do_chown(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, fchownat(AT0, s->uid, s->gid, s->flags));
}

static void do_utimens(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, utimensat(AT0, s->time, s->flags));
}

static void do_truncate(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	char path[PATH_BYTES * 2];

	(void)w;
	/* There is no truncateat. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", AT0);
	call_set(r, truncate(path, s->off[0]));
}

static void truncated(struct world *w, struct dice *d, struct step *s)
{
	one_path(w, d, s);
	choose_range(w, d, s);
}

static void do_mknod(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, mknodat(AT0, s->mode | S_IFREG, 0));
}

static void do_mkfifo(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, mknodat(AT0, s->mode | S_IFIFO, 0));
}

static void do_link(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, linkat(AT0, AT1, 0));
}

static void do_setxattr(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	char path[PATH_BYTES * 2];

	(void)w;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", AT0);
	call_set(r, lsetxattr(path, "user.x", "1", 1, 0));
}

/* The face of a path, and of what it leads to. */
const struct kind names_kinds[] = {
	{ "mkdir", 30, HAS_PATH | HAS_MODE | SHOWS_PATH, one_path, do_mkdir },
	{ "rmdir", 14, HAS_PATH | SHOWS_PATH, one_path, do_rmdir },
	{ "unlink", 20, HAS_PATH | SHOWS_PATH, one_path, do_unlink },
	{ "rename", 40,
		HAS_PATH | HAS_PATH2 | HAS_FLAGS | SHOWS_PATH | SHOWS_PATH2,
		two_paths, do_rename },
	{ "symlink", 12, HAS_PATH | HAS_PATH2 | SHOWS_PATH, link_path,
		do_symlink },
	{ "readlink", 8, HAS_PATH, one_path, do_readlink },
	{ "stat", 40, HAS_PATH | HAS_FLAGS, one_path, do_stat },
	{ "access", 8, HAS_PATH | HAS_MODE, one_path, do_access },
	{ "chmod", 15, HAS_PATH | HAS_MODE | SHOWS_PATH, one_path, do_chmod },
	{ "chown", 10, HAS_PATH | HAS_FLAGS | HAS_OWNER | SHOWS_PATH, one_path,
		do_chown },
	{ "utimens", 25, HAS_PATH | HAS_FLAGS | HAS_TIMES | SHOWS_PATH,
		one_path, do_utimens },
	{ "truncate", 12, HAS_PATH | HAS_OFF | SHOWS_PATH, truncated,
		do_truncate },
	{ "mknod", 3, HAS_PATH | HAS_MODE | SHOWS_PATH, one_path, do_mknod },
	{ "mkfifo", 1, HAS_PATH | HAS_MODE | SHOWS_PATH, one_path, do_mkfifo },
	{ "link", 2, HAS_PATH | HAS_PATH2 | SHOWS_PATH, two_paths, do_link },
	{ "setxattr", 1, HAS_PATH | SHOWS_PATH, one_path, do_setxattr },
	{ NULL, 0, 0, NULL, NULL },
};
