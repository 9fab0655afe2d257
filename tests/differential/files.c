/* Calls about open files. */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/falloc.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD0 call_fd(side, s->slot[0])
#define FD1 call_fd(side, s->slot[1])

static char *bytes; /* BYTES_MAX, aligned for O_DIRECT */

static char *buffer(void)
{
	if (bytes == NULL && posix_memalign((void **)&bytes, 4096, BYTES_MAX))
		die("memory");
	return bytes;
}

/* The bytes that this call writes: no two calls write the same. */
static char *filled(const struct step *s)
{
	struct dice d = { s->seed };
	uint64_t word;
	char *buf = buffer();
	size_t i;

	for (i = 0; i < s->len; i += 8) {
		word = dice_next(&d);
		memcpy(buf + i, &word, 8);
	}
	return buf;
}

static void opened(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned some[] = { O_TRUNC, O_APPEND, O_EXCL, O_DIRECTORY,
		O_NOFOLLOW, O_PATH, O_SYNC, O_DSYNC, O_DIRECT, O_NONBLOCK };
	static const unsigned access[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR };

	choose_path(w, d, s, 0);
	choose_to(w, d, s);
	if (s->at[0] == s->to)
		s->at[0] = -1;
	s->flags = O_CLOEXEC | access[dice_below(d, 4)];
	s->mode = dice_one_in(d, 10) ? 06777 : 0644;
	if (dice_one_in(d, 2))
		s->flags |= O_CREAT;
	if (dice_one_in(d, 6))
		s->flags |= O_TRUNC;
	if (dice_one_in(d, 6))
		s->flags |= O_APPEND;
	if (dice_one_in(d, 6))
		s->flags |= some[dice_below(d, 10)];
	if (dice_one_in(d, 12)) {
		s->flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
		if (dice_one_in(d, 3))
			s->flags |= O_PATH;
	}
	if (dice_one_in(d, 40))
		s->flags = O_CLOEXEC | O_RDWR | O_TMPFILE;
	s->slot[0] = s->to;
}

/* What it is now, noted for the choices to come. */
static void note_slot(
	struct world *w, const struct side *side, int slot, int flags)
{
	struct stat st;

	if (side != &w->side[PLAIN] || side->fd[slot] < 0)
		return;
	w->slot[slot].flags = flags;
	w->slot[slot].direct = flags & O_DIRECT;
	w->slot[slot].dir =
		fstat(side->fd[slot], &st) == 0 && S_ISDIR(st.st_mode);
}

static void fill_slot(struct world *w, struct side *side, int slot, int fd,
	int flags, struct result *r)
{
	side->fd[slot] = fd;
	call_set(r, fd < 0 ? -1 : 0);
	note_slot(w, side, slot, flags);
}

static void do_open(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	fill_slot(w, side, s->to,
		openat(call_at(side, s, 0), s->path[0], s->flags, s->mode),
		s->flags, r);
}

static void doubled(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned access[] = { O_RDONLY, O_WRONLY, O_RDWR };

	choose_to(w, d, s);
	s->slot[0] = choose_slot(w, d);
	s->flags = O_CLOEXEC | access[dice_below(d, 3)];
	if (dice_one_in(d, 8))
		s->flags |= O_TRUNC;
}

static void do_dup(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	fill_slot(w, side, s->to, fcntl(FD0, F_DUPFD_CLOEXEC, 3),
		s->slot[0] < 0 ? 0 : w->slot[s->slot[0]].flags, r);
}

/* Of a file that may have no name any more. */
static void do_reopen(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", FD0);
	fill_slot(w, side, s->to, open(path, s->flags), s->flags, r);
}

static void one_slot(struct world *w, struct dice *d, struct step *s)
{
	s->slot[0] = choose_slot(w, d);
	choose_range(w, d, s);
}

/* At a place that the file chooses: O_DIRECT wants it aligned on ext4 only. */
static void somewhere(struct world *w, struct dice *d, struct step *s)
{
	one_slot(w, d, s);
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].direct)
		s->slot[0] = -1;
}

static void placed(struct world *w, struct dice *d, struct step *s)
{
	one_slot(w, d, s);
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].direct &&
		(w->slot[s->slot[0]].flags & O_APPEND))
		s->slot[0] = -1;
}

static void do_close(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	if (s->slot[0] < 0)
		return;
	call_set(r, close(FD0));
	side->fd[s->slot[0]] = -1;
}

static void read_result(struct result *r, ssize_t n)
{
	call_set(r, n);
	if (n > 0)
		r->hash = hash_bytes(HASH_START, buffer(), n);
}

static void do_read(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	read_result(r, read(FD0, buffer(), s->len));
}

static void do_pread(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	read_result(r, pread(FD0, buffer(), s->len, s->off[0]));
}

static void do_write(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, write(FD0, filled(s), s->len));
}

static void do_pwrite(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, pwrite(FD0, filled(s), s->len, s->off[0]));
}

static void do_ftruncate(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	(void)w;
	call_set(r, ftruncate(FD0, s->off[0]));
}

static void allocated(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned modes[] = { 0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE };

	one_slot(w, d, s);
	s->flags = modes[dice_below(d, dice_one_in(d, 10) ? 10 : 6)];
}

static void do_fallocate(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	(void)w;
	call_set(r, fallocate(FD0, s->flags, s->off[0], s->len));
}

static void sought(struct world *w, struct dice *d, struct step *s)
{
	static const unsigned whence[] = { SEEK_SET, SEEK_CUR, SEEK_END,
		SEEK_DATA, SEEK_HOLE, SEEK_DATA, SEEK_HOLE, 77 };

	one_slot(w, d, s);
	s->flags = whence[dice_below(d, dice_one_in(d, 20) ? 8 : 7)];
	if (s->flags == SEEK_END && dice_one_in(d, 2))
		s->off[0] = -s->off[0];
	/* The two file systems stand elsewhere afterwards, and directories'
	 * offsets are their own. */
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].dir)
		s->slot[0] = -1;
}

static void do_lseek(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, lseek(FD0, s->off[0], s->flags));
	if (s->flags == SEEK_DATA || s->flags == SEEK_HOLE)
		lseek(FD0, s->off[0] < 0 ? 0 : s->off[0], SEEK_SET);
}

static void do_fsync(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, s->seed % 2 ? fsync(FD0) : fdatasync(FD0));
}

static void do_fstat(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	struct stat st;

	(void)w;
	call_set(r, fstat(FD0, &st));
}

static void attributes(struct world *w, struct dice *d, struct step *s)
{
	one_slot(w, d, s);
	s->mode = dice_below(d, 010000);
	/* Without the group's x it goes with the caller's groups, which the
	 * kernel does not tell a FUSE file system. */
	if (s->mode & S_ISGID)
		s->mode |= S_IXGRP;
	s->uid = dice_one_in(d, 3) ? (uid_t)-1 : dice_below(d, 2) * 12345;
	s->gid = dice_one_in(d, 3) ? (gid_t)-1 : dice_below(d, 3) * 12345;
	choose_times(d, s);
}

static void do_fchmod(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, fchmod(FD0, s->mode));
}

static void do_fchown(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, fchown(FD0, s->uid, s->gid));
}

static void do_futimens(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	(void)w;
	call_set(r, futimens(FD0, s->time));
}

static void do_advise(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	posix_fadvise(FD0, 0, 0, POSIX_FADV_DONTNEED);
	call_set(r, 0);
}

static void flagged(struct world *w, struct dice *d, struct step *s)
{
	s->slot[0] = choose_slot(w, d);
	s->flags = dice_one_in(d, 2) ? O_APPEND : 0;
	if (s->slot[0] >= 0 && w->slot[s->slot[0]].direct)
		s->slot[0] = -1;
	/* The kernel opens a file that it passes through with the flags of
	 * open(2), and does not clear this one there. */
	if (s->slot[0] >= 0)
		s->flags |= w->slot[s->slot[0]].flags & O_APPEND;
}

static void do_setfl(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	(void)w;
	call_set(r, fcntl(FD0, F_SETFL, s->flags));
}

static void two_slots(struct world *w, struct dice *d, struct step *s)
{
	one_slot(w, d, s);
	s->slot[1] = choose_slot(w, d);
	/* Who aligns what differs. */
	if ((s->slot[0] >= 0 && w->slot[s->slot[0]].direct) ||
		(s->slot[1] >= 0 && w->slot[s->slot[1]].direct))
		s->slot[0] = s->slot[1] = -1;
}

/* How much one call moves is the kernel's affair: all of it is asked for. */
static void do_copy(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	off_t from = s->off[0], to = s->off[1];
	size_t done = 0;
	ssize_t n;

	(void)w;
	do {
		n = copy_file_range(FD0, &from, FD1, &to, s->len - done, 0);
		done += n > 0 ? n : 0;
	} while (n > 0 && done < s->len);
	call_set(r, done > 0 ? (int64_t)done : n);
}

static void do_sendfile(struct world *w, struct side *side,
	const struct step *s, struct result *r)
{
	off_t from = s->off[0];
	size_t done = 0;
	ssize_t n;

	(void)w;
	do {
		n = sendfile(FD1, FD0, &from, s->len - done);
		done += n > 0 ? n : 0;
	} while (n > 0 && done < s->len);
	call_set(r, done > 0 ? (int64_t)done : n);
}

/* Through a pipe, as much as one holds. */
static void do_splice(struct world *w, struct side *side, const struct step *s,
	struct result *r)
{
	size_t len = s->len < 65536 ? s->len : 65536;
	off_t from = s->off[0], to = s->off[1];
	ssize_t in, out = 0, n = 0;
	int pipes[2];

	(void)w;
	if (pipe(pipes) < 0)
		die("pipe");
	in = splice(FD0, &from, pipes[1], NULL, len, SPLICE_F_NONBLOCK);
	if (in < 0)
		n = in;
	while (out < in) {
		n = splice(pipes[0], NULL, FD1, &to, in - out, 0);
		if (n <= 0)
			break;
		out += n;
	}
	call_set(r, n < 0 ? n : out);
	close(pipes[0]);
	close(pipes[1]);
}

#define SLOT (HAS_SLOT | SHOWS_SLOT)

const struct kind files_kinds[] = {
	{ "open", 90, HAS_PATH | HAS_FLAGS | HAS_MODE | HAS_TO | SHOWS_SLOT,
		opened, do_open },
	{ "dup", 6, SLOT | HAS_TO, doubled, do_dup },
	{ "reopen", 12, SLOT | HAS_FLAGS | HAS_TO, doubled, do_reopen },
	{ "close", 50, HAS_SLOT, one_slot, do_close },
	{ "read", 25, SLOT | HAS_LEN, somewhere, do_read },
	{ "pread", 35, SLOT | HAS_OFF | HAS_LEN, one_slot, do_pread },
	{ "write", 35, SLOT | HAS_LEN, somewhere, do_write },
	{ "pwrite", 40, SLOT | HAS_OFF | HAS_LEN, placed, do_pwrite },
	{ "ftruncate", 18, SLOT | HAS_OFF, one_slot, do_ftruncate },
	{ "fallocate", 15, SLOT | HAS_FLAGS | HAS_OFF | HAS_LEN, allocated,
		do_fallocate },
	{ "lseek", 25, SLOT | HAS_FLAGS | HAS_OFF, sought, do_lseek },
	{ "fsync", 8, SLOT, one_slot, do_fsync },
	{ "fstat", 15, SLOT, one_slot, do_fstat },
	{ "fchmod", 6, SLOT | HAS_MODE, attributes, do_fchmod },
	{ "fchown", 5, SLOT | HAS_OWNER, attributes, do_fchown },
	{ "futimens", 10, SLOT | HAS_TIMES, attributes, do_futimens },
	{ "fadvise", 4, SLOT, one_slot, do_advise },
	{ "setfl", 6, SLOT | HAS_FLAGS, flagged, do_setfl },
	{ "copy_file_range", 8, SLOT | HAS_SLOT2 | HAS_OFF | HAS_OFF2 | HAS_LEN,
		two_slots, do_copy },
	{ "sendfile", 6, SLOT | HAS_SLOT2 | HAS_OFF | HAS_LEN, two_slots,
		do_sendfile },
	{ "splice", 6, SLOT | HAS_SLOT2 | HAS_OFF | HAS_OFF2 | HAS_LEN,
		two_slots, do_splice },
	{ NULL, 0, 0, NULL, NULL },
};
