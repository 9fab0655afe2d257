/*
 * What a file looks like, as far as two file systems must agree.
 *
 * Sizes of directories are each file system's own.  Times that a clock made
 * differ, those that somebody set do not: what is set is before NOW_S, so an
 * mtime is compared exactly if it is, and otherwise only as "a clock's".
 *
 * A store to a mapping moves mtime when the page becomes dirty, and when that
 * is nobody can say: what was mapped and written is *tainted*, until its times
 * are set.
 */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NOW_S 1000000000
#define TAINTED_MAX 4096

static uint64_t tainted[TAINTED_MAX];
static unsigned tainted_nr;

uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t word;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		hash = (hash ^ word) * 1099511628211ULL;
		hash ^= hash >> 29;
	}
	for (; len > 0; len--, p++)
		hash = (hash ^ *p) * 1099511628211ULL;
	return hash;
}

static bool is_tainted(uint64_t ino)
{
	unsigned i;

	for (i = 0; i < tainted_nr; i++)
		if (tainted[i] == ino)
			return true;
	return false;
}

void face_taint(uint64_t ino)
{
	if (!is_tainted(ino) && tainted_nr < TAINTED_MAX)
		tainted[tainted_nr++] = ino;
}

void face_untaint(uint64_t ino)
{
	unsigned i;

	for (i = 0; i < tainted_nr; i++)
		if (tainted[i] == ino)
			tainted[i--] = tainted[--tainted_nr];
}

void face_forget(void)
{
	tainted_nr = 0;
}

void face_get(int at, const char *path, int flags, struct face *ret)
{
	struct statx st;

	memset(ret, 0, sizeof(*ret));
	if (statx(at, path, flags, STATX_BASIC_STATS, &st) < 0)
		return;
	ret->known = true;
	ret->mode = st.stx_mode;
	ret->nlink = st.stx_nlink;
	ret->uid = st.stx_uid;
	ret->gid = st.stx_gid;
	ret->size = S_ISDIR(st.stx_mode) ? 0 : st.stx_size;
	ret->ino = st.stx_ino;
	if (S_ISCHR(st.stx_mode) || S_ISBLK(st.stx_mode))
		ret->rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
	ret->mtime_s =
		st.stx_mtime.tv_sec < NOW_S ? st.stx_mtime.tv_sec : NOW_S;
	ret->mtime_ns = ret->mtime_s < NOW_S ? st.stx_mtime.tv_nsec : 0;
}

const char *face_differs(const struct face *a, const struct face *b)
{
	if (a->known != b->known)
		return "being there";
	if (!a->known)
		return NULL;
	if (a->mode != b->mode)
		return "mode";
	/* A directory that was not listed shows two links. */
	if (a->nlink != b->nlink && (!S_ISDIR(a->mode) || a->nlink != 2))
		return "nlink";
	if (a->uid != b->uid || a->gid != b->gid)
		return "owner";
	if (a->size != b->size)
		return "size";
	if (a->rdev != b->rdev)
		return "rdev";
	if ((a->mtime_s != b->mtime_s || a->mtime_ns != b->mtime_ns) &&
		!is_tainted(b->ino))
		return "mtime";
	return NULL;
}

void face_print(const struct face *f, char *buf, size_t size)
{
	if (!f->known)
		snprintf(buf, size, "nothing");
	else
		snprintf(buf, size,
			"mode %o nlink %u owner %u:%u size %lld mtime %s%lld.%09lld",
			f->mode, f->nlink, f->uid, f->gid, (long long)f->size,
			f->mtime_s == NOW_S ? "now " : "",
			(long long)f->mtime_s, (long long)f->mtime_ns);
}
