/*
 * Preloaded: the Nth call that changes or reads the cache's disk fails.
 *
 * The file named by DISK_FAULT is mapped and holds a struct plan, which the
 * test writes: calls on files below `dir` are counted, and call number `at`
 * fails with `error` (at 0: none; `until`: all calls at..until fail).  `what`
 * says which one it was.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct plan {
	_Atomic uint64_t count, at, until, hits;
	_Atomic int32_t error;
	int32_t unused;
	char dir[216];
	char what[256]; /* function and path of the last one that failed */
};

static struct plan *plan;

__attribute__((constructor)) static void map_plan(void)
{
	const char *path = getenv("DISK_FAULT");
	int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	plan = mmap(
		NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (plan == MAP_FAILED)
		plan = NULL;
	close(fd);
}

static bool fails_now(void)
{
	uint64_t n = atomic_fetch_add(&plan->count, 1) + 1;
	uint64_t at = atomic_load(&plan->at), until = atomic_load(&plan->until);

	if (at == 0 || n < at || n > (until > at ? until : at))
		return false;
	atomic_fetch_add(&plan->hits, 1);
	errno = atomic_load(&plan->error);
	return true;
}

/* Of a file below `dir`? */
static bool is_ours(int fd, char path[4096])
{
	char link[64];
	size_t len;
	ssize_t n;

	if (plan == NULL || plan->dir[0] == '\0' || fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, 4095);
	len = strlen(plan->dir);
	path[n > 0 ? n : 0] = '\0';
	return n > (ssize_t)len && memcmp(path, plan->dir, len) == 0;
}

static bool fails(int fd, const char *name)
{
	char path[4096];
	int err = errno;

	if (is_ours(fd, path) && fails_now()) {
		err = errno;
		snprintf(plan->what, sizeof(plan->what), "%s %s", name,
			path + strlen(plan->dir));
		errno = err;
		return true;
	}
	errno = err;
	return false;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(ret, name, params, ...)                              \
	ret name params                                           \
	{                                                         \
		static __typeof__(&name) real;                    \
		if (real == NULL)                                 \
			real = REAL(name);                        \
		return fails(fd, #name) ? -1 : real(__VA_ARGS__); \
	}

WRAP(ssize_t, write, (int fd, const void *buf, size_t n), fd, buf, n)
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t at), fd, buf, n,
	at)
WRAP(ssize_t, pread, (int fd, void *buf, size_t n, off_t at), fd, buf, n, at)
WRAP(int, fsync, (int fd), fd)
WRAP(int, fdatasync, (int fd), fd)
WRAP(int, syncfs, (int fd), fd)
WRAP(int, ftruncate, (int fd, off_t size), fd, size)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), fd, mode, at, n)
WRAP(int, unlinkat, (int fd, const char *name, int flags), fd, name, flags)
WRAP(int, fchmod, (int fd, mode_t mode), fd, mode)

int openat(int fd, const char *name, int flags, ...)
{
	static int (*real)(int, const char *, int, ...);
	va_list ap;
	mode_t mode;

	__builtin_va_start(ap, flags);
	mode = flags & O_CREAT ? __builtin_va_arg(ap, mode_t) : 0;
	__builtin_va_end(ap);
	if (real == NULL)
		real = (int (*)(int, const char *, int, ...))dlsym(
			RTLD_NEXT, "openat");
	return fails(fd, "openat") ? -1 : real(fd, name, flags, mode);
}
