/*
 * The disk under a mount: its syncs cost nothing, for nothing of the machine
 * dies but what disk_cut() takes back.
 *
 * The index is a database file, which only changes at mount and unmount, and a
 * log that grows; what of the log was synced is a length.  A power cut leaves
 * some length between that and all of it.
 *
 * Of each data file the state that was synced last is remembered, and whether
 * its name was.  A power cut leaves that state, or the last one, or a mixture,
 * or an empty file; without a durable name perhaps none.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/model/disk.h"

#define HH_NR 256
#define HEAD_BYTES 8192 /* beyond it the files of the model hold zeroes */

/* A data file as it was synced last. */
struct synced {
	char name[48]; /* HH/INO.SERIAL */
	ino_t ino;
	char head[HEAD_BYTES];
	size_t head_len;
	off_t size;
	struct timespec mtime;
	bool data, named;
};

static struct disk {
	char dir[64];
	bool notes; /* of what is durable */
	uint64_t wal_durable;
	struct synced *files;
	size_t nr;
} disk;

/* Raised by a power cut: another boot of the machine. */
static unsigned boots;

/* ---- names ---- */

static void path_of(char *ret, size_t size, const char *dir, const char *name)
{
	snprintf(ret, size, "%s/%s", dir, name);
}

static off_t size_of(const char *dir, const char *name)
{
	char path[160];
	struct stat st;

	path_of(path, sizeof(path), dir, name);
	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* What of the disk a descriptor is: "index.db-wal", "data", "data/HH" or
 * "data/HH/INO.SERIAL". */
static bool name_of(int fd, char *ret, size_t size)
{
	char link[64], path[256];
	size_t len = strlen(disk.dir);
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	if (strncmp(path, disk.dir, len) != 0 || path[len] != '/')
		return false;
	snprintf(ret, size, "%s", path + len + 1);
	return true;
}

/* ---- what is synced ---- */

static struct synced *find(const char *name, ino_t ino)
{
	for (size_t i = 0; i < disk.nr; i++) {
		if (disk.files[i].ino == ino &&
			strcmp(disk.files[i].name, name) == 0)
			return &disk.files[i];
	}
	return NULL;
}

static struct synced *get(const char *name, ino_t ino)
{
	struct synced *s = find(name, ino);

	if (s != NULL)
		return s;
	disk.files =
		base_realloc(disk.files, (disk.nr + 1) * sizeof(*disk.files));
	s = &disk.files[disk.nr++];
	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->ino = ino;
	return s;
}

/* name: from the cache directory, "data/HH/INO.SERIAL" */
static void note_data(const char *name)
{
	char path[160];
	struct synced *s;
	struct stat st;
	int fd;

	path_of(path, sizeof(path), disk.dir, name);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
	if (fd < 0)
		return;
	assert(fstat(fd, &st) == 0);
	s = get(name + strlen("data/"), st.st_ino);
	s->head_len = (size_t)pread(fd, s->head, sizeof(s->head), 0);
	s->size = st.st_size;
	s->mtime = st.st_mtim;
	s->data = true;
	close(fd);
}

/* hh: "data/HH" */
static void each_in(
	const char *dir, const char *hh, void (*each)(const char *name))
{
	char path[160], name[64];
	struct dirent *e;
	DIR *d;

	path_of(path, sizeof(path), dir, hh);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%.40s", hh, e->d_name);
		each(name);
	}
	if (d != NULL)
		closedir(d);
}

static void note_name(const char *name)
{
	char path[160];
	struct stat st;

	path_of(path, sizeof(path), disk.dir, name);
	if (stat(path, &st) == 0)
		get(name + strlen("data/"), st.st_ino)->named = true;
}

static void note_all(const char *name)
{
	note_data(name);
	note_name(name);
}

static void each_file(const char *dir, void (*each)(const char *name))
{
	char hh[16], path[160];
	struct stat st;

	for (unsigned i = 0; i < HH_NR; i++) {
		snprintf(hh, sizeof(hh), "data/%02x", i);
		path_of(path, sizeof(path), dir, hh);
		/* No subdirectories: size tells on tmpfs (40 a name pair). */
		if (stat(path, &st) == 0 && st.st_size > 40)
			each_in(dir, hh, each);
	}
}

static int synced(int fd)
{
	char name[64];

	if (!disk.notes || !name_of(fd, name, sizeof(name)))
		return 0;
	if (strcmp(name, "index.db-wal") == 0)
		disk.wal_durable = disk_written();
	else if (strncmp(name, "data/", 5) == 0 && strlen(name) == 7)
		each_in(disk.dir, name, note_name);
	else if (strncmp(name, "data/", 5) == 0)
		note_data(name);
	return 0;
}

int fsync(int fd)
{
	return synced(fd);
}

int fdatasync(int fd)
{
	return synced(fd);
}

int syncfs(int fd)
{
	(void)fd;
	if (disk.notes)
		each_file(disk.dir, note_all);
	return 0;
}

/* No ballast, no blocks kept: they would be filled with zeroes each time. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
	(void)fd, (void)mode, (void)offset, (void)len;
	errno = EOPNOTSUPP;
	return -1;
}

/* The kernel's boot id is another one after a power cut. */
int open(const char *path, int flags, ...)
{
	char name[32];
	mode_t mode = 0;
	va_list args;
	int fd;

	if (flags & O_CREAT) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (strcmp(path, "/proc/sys/kernel/random/boot_id") != 0)
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	fd = (int)syscall(SYS_memfd_create, "boot", 0);
	snprintf(name, sizeof(name), "boot-%u\n", boots);
	assert(fd >= 0 && write(fd, name, strlen(name)) > 0 &&
		lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

/* ---- lives ---- */

void disk_begin(struct model *m, const char *dir)
{
	snprintf(disk.dir, sizeof(disk.dir), "%s", dir);
	disk.notes = m->profile & WITH_CUTS;
	/* After a clean end there is no log. */
	if (disk.wal_durable > disk_written())
		disk.wal_durable = disk_written();
}

uint64_t disk_written(void)
{
	return (uint64_t)size_of(disk.dir, "index.db-wal");
}

uint64_t disk_durable(void)
{
	return disk.wal_durable;
}

static void copy_file(const char *from, const char *to)
{
	static char buf[65536];
	int in = open(from, O_RDONLY), out;
	ssize_t n;

	unlink(to);
	if (in < 0)
		return;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert(out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

void disk_copy(const char *from, const char *to, const char *name)
{
	char a[128], b[128];

	path_of(a, sizeof(a), from, name);
	path_of(b, sizeof(b), to, name);
	copy_file(a, b);
}

static const char *emptied;

static void remove_file(const char *name)
{
	char path[160];

	path_of(path, sizeof(path), emptied, name);
	unlink(path);
}

void disk_empty(const char *dir)
{
	emptied = dir;
	each_file(dir, remove_file);
	free(disk.files);
	memset(&disk, 0, sizeof(disk));
}

void disk_crash(const char *old, const char *new)
{
	char a[128], b[128];

	disk.notes = false; /* what the dead process still does is nothing */
	disk_copy(old, new, "index.db");
	disk_copy(old, new, "index.db-wal");
	disk_copy(old, new, "set");
	path_of(a, sizeof(a), new, "index.db-shm");
	unlink(a);
	path_of(a, sizeof(a), old, "data");
	path_of(b, sizeof(b), new, "data");
	emptied = new;
	each_file(new, remove_file);
	assert(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0);
}

/* ---- the power goes ---- */

static struct model *cut_model;
static const char *cut_dir;

static bool is_durable(int fd, const struct stat *st, const struct synced *s)
{
	char head[HEAD_BYTES];
	ssize_t n;

	if (s == NULL || !s->data || st->st_size != s->size)
		return false;
	n = pread(fd, head, sizeof(head), 0);
	return n == (ssize_t)s->head_len && memcmp(head, s->head, n) == 0;
}

static void put_old(int fd, const struct synced *s)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		s->mtime };

	assert(ftruncate(fd, 0) == 0 && ftruncate(fd, s->size) == 0);
	assert(pwrite(fd, s->head, s->head_len, 0) == (ssize_t)s->head_len);
	assert(futimens(fd, times) == 0);
}

/* A file that was not synced since it changed. */
static void put_some(int fd, const struct stat *st, const struct synced *s)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		st->st_mtim };
	size_t half = (size_t)st->st_size / 2;
	char zero[HEAD_BYTES] = "";

	switch (rnd_below(&cut_model->rnd, 4)) {
	case 0: /* all of it was written back in time */
		return;
	case 1: /* its length was, not its bytes */
		if (half > sizeof(zero))
			half = sizeof(zero);
		assert(pwrite(fd, zero, half, 0) == (ssize_t)half);
		break;
	case 2:
		assert(ftruncate(fd, (off_t)half) == 0);
		break;
	default:
		if (s != NULL && s->data) {
			put_old(fd, s);
			return;
		}
		assert(ftruncate(fd, 0) == 0);
	}
	assert(futimens(fd, times) == 0);
}

static void cut_file(const char *name)
{
	char path[160];
	struct synced *s;
	struct stat st;
	int fd;

	path_of(path, sizeof(path), cut_dir, name);
	fd = open(path, O_RDWR);
	assert(fd >= 0 && fstat(fd, &st) == 0);
	s = find(name + strlen("data/"), st.st_ino);
	if ((s == NULL || !s->named) && rnd_pct(&cut_model->rnd, 50))
		unlink(path);
	else if (!is_durable(fd, &st, s))
		put_some(fd, &st, s);
	close(fd);
}

uint64_t disk_cut(struct model *m, const char *old, const char *new)
{
	uint64_t written = disk_written(), left = disk.wal_durable;
	char path[160];

	if (left > written)
		left = written;
	if (rnd_pct(&m->rnd, 50))
		left += rnd_below(&m->rnd, written - left + 1);
	disk_crash(old, new);
	path_of(path, sizeof(path), new, "index.db-wal");
	if (written > 0)
		assert(truncate(path, (off_t)left) == 0);
	cut_model = m;
	cut_dir = new;
	each_file(new, cut_file);
	/* What a boot finds on the disk is on the disk. */
	snprintf(disk.dir, sizeof(disk.dir), "%s", new);
	each_file(new, note_all);
	boots++;
	return left;
}
