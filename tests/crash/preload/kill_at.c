/*
 * Kills a worker of forebay at a named point: preloaded (LD_PRELOAD) into it,
 * so that the program knows nothing of it.
 *
 * KILL_AT names a file of two 32-bit numbers, which the test changes: the point
 * (below; 0: none), and how many times it is still passed.  NO_RESEND hides
 * what the kernel can do from the keeper.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum point {
	NOWHERE,
	BEFORE_REPLY,
	AFTER_REPLY,
	BEFORE_WAL,
	AFTER_WAL,
	AFTER_ID_OPEN,
	BEFORE_ID_CLOSE,
	AFTER_ID_CLOSE,
	AFTER_TRUNCATE,
	AFTER_RESEND,
	BEFORE_UNLINK,
};

#define FUSE_FD 4 /* fs/link.h */
#define BACKING_OPEN 0x4010e501ul
#define BACKING_CLOSE 0x4004e502ul

struct order {
	_Atomic int point, left;
};
static struct order *order;

__attribute__((constructor)) static void begin(void)
{
	char cmdline[64] = "";
	const char *path = getenv("KILL_AT");
	int fd = open("/proc/self/cmdline", O_RDONLY);

	if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		return;
	close(fd);
	if (path == NULL ||
		strcmp(cmdline + strlen(cmdline) + 1, "worker") != 0)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED,
		fd, 0);
	close(fd);
	if (order == MAP_FAILED)
		order = NULL;
}

static void pass(enum point point)
{
	if (order == NULL || order->point != (int)point)
		return;
	if (atomic_fetch_sub(&order->left, 1) != 1)
		return;
	order->point = NOWHERE;
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* NO_RESEND: the keeper meets a kernel before 6.9. */
static void hide_resend(void *buf, ssize_t n)
{
	struct {
		uint32_t len, opcode;
		uint64_t rest[4];
		uint32_t init[16];
	} *message = buf;

	if (n >= 104 && message->opcode == 26 && getenv("NO_RESEND") != NULL)
		message->init[4] &= ~(1u << 7); /* flags2 */
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t writev(int fd, const struct iovec *iov, int nr)
{
	ssize_t n;

	if (fd == FUSE_FD)
		pass(BEFORE_REPLY);
	n = REAL(writev)(fd, iov, nr);
	if (fd == FUSE_FD)
		pass(AFTER_REPLY);
	return n;
}

ssize_t read(int fd, void *buf, size_t bytes)
{
	ssize_t n = REAL(read)(fd, buf, bytes);

	hide_resend(buf, n);
	return n;
}

ssize_t write(int fd, const void *buf, size_t bytes)
{
	ssize_t n = REAL(write)(fd, buf, bytes);

	if (fd == FUSE_FD)
		pass(AFTER_RESEND);
	return n;
}

static int is_wal(int fd)
{
	char link[64], path[512];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	return n > 4 && memcmp(path + n - 4, "-wal", 4) == 0;
}

ssize_t pwrite64(int fd, const void *buf, size_t bytes, off_t off)
{
	int wal = order != NULL && order->point != NOWHERE && is_wal(fd);
	ssize_t n;

	if (wal)
		pass(BEFORE_WAL);
	n = REAL(pwrite64)(fd, buf, bytes, off);
	if (wal)
		pass(AFTER_WAL);
	return n;
}

int ioctl(int fd, unsigned long what, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (fd == FUSE_FD && what == BACKING_CLOSE)
		pass(BEFORE_ID_CLOSE);
	ret = REAL(ioctl)(fd, what, arg);
	if (fd == FUSE_FD && what == BACKING_OPEN)
		pass(AFTER_ID_OPEN);
	if (fd == FUSE_FD && what == BACKING_CLOSE)
		pass(AFTER_ID_CLOSE);
	return ret;
}

int ftruncate64(int fd, off_t size)
{
	int ret = REAL(ftruncate64)(fd, size);

	pass(AFTER_TRUNCATE);
	return ret;
}

int unlinkat(int dir, const char *name, int flags)
{
	pass(BEFORE_UNLINK);
	return REAL(unlinkat)(dir, name, flags);
}
