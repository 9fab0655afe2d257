/*
 * Where a mount rightly answers otherwise than ext4, each with its reason.
 * Nothing else may differ.
 */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct refusal {
	const char *call;
	unsigned flags; /* it has all of these; 0: any */
	int err;
	const char *reason;
};

/* What a mount refuses is not done on the other side either. */
static const struct refusal refusals[] = {
	{ "link", 0, EPERM, "a blob has one name" },
	{ "setxattr", 0, EOPNOTSUPP, "attributes of users are not kept" },
	{ "mknod", 0, EPERM, "of a later issue; open(2) makes files" },
	{ "mkfifo", 0, EPERM, "a blob is a file, a directory or a symlink" },
	{ "open", O_TMPFILE, EOPNOTSUPP, "needs link(2)" },
	{ "fallocate", FALLOC_FL_COLLAPSE_RANGE, EOPNOTSUPP,
		"the kernel refuses it for FUSE" },
	{ "fallocate", FALLOC_FL_INSERT_RANGE, EOPNOTSUPP,
		"the kernel refuses it for FUSE" },
	{ "rename", 2 /* RENAME_EXCHANGE */, EINVAL,
		"two trees of blobs cannot change places" },
};

bool expect_refused(const struct step *s, const struct result *mount)
{
	const struct refusal *x;
	size_t i;

	for (i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		x = &refusals[i];
		if (mount->err == x->err && !strcmp(x->call, s->kind->name) &&
			(s->flags & x->flags) == x->flags)
			return true;
	}
	return false;
}

/* Are these bytes of the plain file zero? */
static bool is_hole(int fd, int64_t from, int64_t to)
{
	static const char zero[65536];
	static char buf[65536];
	int64_t part;

	for (; from < to; from += part) {
		part = to - from < (int64_t)sizeof(buf) ? to - from
							: (int64_t)sizeof(buf);
		if (pread(fd, buf, part, from) != part ||
			memcmp(buf, zero, part) != 0)
			return false;
	}
	return true;
}

/*
 * Holes are where a file system says that they are, as long as it says so of
 * zeroes only: a file that is not local shows none (cp and tar trust them),
 * and preallocated room may be either.
 */
static bool holes(
	struct world *w, const struct step *s, const struct result *mount)
{
	int fd = call_fd(&w->side[PLAIN], s->slot[0]);
	struct stat st;
	char path[40];
	bool good;

	if (fstat(fd, &st) < 0 || s->off[0] < 0 || s->off[0] >= st.st_size)
		return false;
	if (s->flags == SEEK_HOLE)
		return mount->err == 0 && mount->value >= s->off[0] &&
			mount->value <= st.st_size;
	if (mount->err != 0 && mount->err != ENXIO)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	good = is_hole(
		fd, s->off[0], mount->err == ENXIO ? st.st_size : mount->value);
	close(fd);
	return good;
}

bool expect_value(struct world *w, const struct step *s,
	const struct result *mount, const struct result *plain)
{
	(void)plain;
	if (!strcmp(s->kind->name, "lseek") &&
		(s->flags == SEEK_DATA || s->flags == SEEK_HOLE))
		return holes(w, s, mount);
	return false;
}
