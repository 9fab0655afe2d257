/*
 * Names to descriptors, and the bytes behind them: see dir_priv.h.
 *
 * Nothing here follows a symlink or leaves the reservoir: a hostile name is
 * refused by dir_name_check(), a hostile symlink in the reservoir by
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, or by a walk with O_NOFOLLOW where
 * the kernel lacks openat2().
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One call of copy_file_range(): so that a cancel is seen. */
#define COPY_BYTES (16 * (size_t)DIR_PIECE_BYTES)

int dir_name_check(const char *name)
{
	const char *at = name;

	if (strlen(name) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		size_t len = strcspn(at, "/");

		if (len == 0 || (len == 1 && at[0] == '.') ||
			(len == 2 && at[0] == '.' && at[1] == '.'))
			return -EINVAL;
		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		if (at[len] == '\0')
			return 0;
		at += len + 1;
	}
}

bool dir_name_own(const char *name)
{
	static const char *const own[] = { "stage", "tmp", "trash", "meta",
		"lock" };

	if (strncmp(name, ".forebay/", 9) != 0)
		return false;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		size_t len = strlen(own[i]);

		if (strncmp(name + 9, own[i], len) == 0 &&
			(name[9 + len] == '\0' || name[9 + len] == '/'))
			return true;
	}
	return false;
}

void dir_hex(const uint8_t *bytes, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret[2 * len] = '\0';
}

uint64_t dir_random(void)
{
	uint64_t value = 0;

	while (getrandom(&value, sizeof(value), 0) != sizeof(value))
		;
	return value;
}

static int open_walk(int at, const char *path, int flags)
{
	char part[NAME_MAX + 1];
	int dir = at, fd;

	for (;;) {
		size_t len = strcspn(path, "/");

		if (len > NAME_MAX)
			fd = -ENAMETOOLONG;
		else {
			memcpy(part, path, len);
			part[len] = '\0';
			fd = openat(dir, part,
				path[len] ? O_PATH | O_DIRECTORY | O_NOFOLLOW |
						O_CLOEXEC
					  : flags | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0)
				fd = -errno;
		}
		if (dir != at)
			close(dir);
		if (fd < 0 || path[len] == '\0')
			return fd;
		dir = fd;
		path += len + 1;
	}
}

int dir_open_beneath(int at, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: a rename somewhere made the kernel unsure. */
	for (unsigned i = 0; i < DIR_RETRY_MAX; i++) {
		fd = syscall(SYS_openat2, at, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN)
			break;
	}
	/* EPERM: a seccomp filter older than the call; E2BIG, EINVAL never. */
	if (errno == ENOSYS || errno == EPERM || errno == EAGAIN)
		return open_walk(at, path, flags);
	return -errno;
}

static int open_dir_of(
	const struct dir_root *root, const char *path, size_t len)
{
	char dir[PATH_MAX];

	if (len == 0)
		return dir_open_beneath(root->fd, ".", O_RDONLY | O_DIRECTORY);
	memcpy(dir, path, len);
	dir[len] = '\0';
	return dir_open_beneath(root->fd, dir, O_RDONLY | O_DIRECTORY);
}

static const char *last_part(const char *name, size_t *ret_dir_len)
{
	const char *slash = strrchr(name, '/');

	*ret_dir_len = slash ? (size_t)(slash - name) : 0;
	return slash ? slash + 1 : name;
}

int dir_open_parent(const struct dir_root *root, const char *name, int *ret_fd,
	const char **ret_last)
{
	size_t len;
	int fd;

	*ret_last = last_part(name, &len);
	fd = open_dir_of(root, name, len);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int dir_make_parent(
	struct dir_root *root, const char *name, int *ret_fd, const char **last)
{
	size_t len, have;
	int fd;

	*last = last_part(name, &len);
	for (unsigned i = 0; i < DIR_RETRY_MAX; i++) {
		fd = open_dir_of(root, name, len);
		if (fd != -ENOENT) {
			*ret_fd = fd;
			return fd < 0 ? fd : 0;
		}
		for (have = 1; have <= len; have++) {
			if (name[have] != '/')
				continue;
			fd = open_dir_of(root, name, have);
			if (fd >= 0) {
				close(fd);
				continue;
			}
			if (fd == -ENOENT)
				fd = dir_implicit_make(root, name, have);
			/* ENOENT: removed again meanwhile, once more. */
			if (fd < 0 && fd != -ENOENT)
				return fd;
		}
	}
	return -ENOENT;
}

int dir_open_object(const struct dir_root *root, const char *name)
{
	const char *last;
	int parent, fd, err;

	err = dir_open_parent(root, name, &parent, &last);
	/* Below a file or a symlink there is no blob. */
	if (err)
		return err == -ENOTDIR || err == -ELOOP ? -ENOENT : err;
	fd = openat(parent, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	close(parent);
	return fd;
}

int dir_reopen(int path_fd, int flags)
{
	char link[40];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	fd = open(link, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

ssize_t dir_read_target(int path_fd, char *buf, size_t bytes)
{
	ssize_t n = readlinkat(path_fd, "", buf, bytes);

	return n < 0 ? -errno : n;
}

int dir_write_all(int fd, const void *buf, size_t len)
{
	const char *at = buf;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* One piece by hand, where the kernel cannot copy. */
static ssize_t copy_piece(
	int from, uint64_t from_offset, int to, uint64_t to_offset, size_t len)
{
	char *buf = base_malloc(len);
	ssize_t n = pread(from, buf, len, (off_t)from_offset);
	ssize_t done = 0;

	if (n < 0)
		n = -errno;
	while (done < n) {
		ssize_t w = pwrite(to, buf + done, (size_t)(n - done),
			(off_t)to_offset + done);

		if (w < 0) {
			n = -errno;
			break;
		}
		done += w;
	}
	free(buf);
	return n;
}

int dir_copy_range(struct dir_job *job, int from, uint64_t from_offset, int to,
	uint64_t to_offset, uint64_t len_bytes)
{
	bool by_hand = false;

	while (len_bytes > 0) {
		size_t piece =
			len_bytes < COPY_BYTES ? (size_t)len_bytes : COPY_BYTES;
		loff_t in = (loff_t)from_offset, out = (loff_t)to_offset;
		ssize_t n;
		int err = dir_job_check(job);

		if (err)
			return err;
		if (by_hand) {
			if (piece > DIR_PIECE_BYTES)
				piece = DIR_PIECE_BYTES;
			n = copy_piece(from, from_offset, to, to_offset, piece);
		} else {
			n = copy_file_range(from, &in, to, &out, piece, 0);
			if (n < 0)
				n = -errno;
			if (n == 0 || n == -EXDEV || n == -ENOSYS ||
				n == -EOPNOTSUPP || n == -EINVAL) {
				by_hand = true;
				continue;
			}
		}
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		from_offset += (uint64_t)n;
		to_offset += (uint64_t)n;
		len_bytes -= (uint64_t)n;
	}
	return 0;
}
