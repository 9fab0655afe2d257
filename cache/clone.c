/*
 * A second data file with the same bytes, to keep an older state.
 *
 * A reflink costs nothing (XFS, btrfs); elsewhere the data are copied, holes
 * left out, if that is short enough to be waited for.
 */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BUFFER_BYTES (256 << 10)

static int copy_by_hand(int from, int to, off_t start, off_t end)
{
	char *buf = base_malloc(COPY_BUFFER_BYTES);
	int err = 0;

	while (start < end && err == 0) {
		size_t want = end - start < COPY_BUFFER_BYTES
			? (size_t)(end - start)
			: COPY_BUFFER_BYTES;
		ssize_t got = pread(from, buf, want, start);
		ssize_t put = got;

		for (ssize_t done = 0; done < got && put > 0; done += put)
			put = pwrite(to, buf + done, (size_t)(got - done),
				start + done);
		if (got < 0 || put < 0)
			err = errno == EINTR ? 0 : -errno;
		else if (got == 0)
			break; /* cut meanwhile */
		else
			start += got;
	}
	free(buf);
	return err;
}

static int copy_range(int from, int to, off_t start, off_t end)
{
	while (start < end) {
		off_t in = start, out = start;
		ssize_t n = copy_file_range(
			from, &in, to, &out, (size_t)(end - start), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 &&
			(errno == EOPNOTSUPP || errno == EXDEV ||
				errno == EINVAL || errno == ENOSYS))
			return copy_by_hand(from, to, start, end);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		start += n;
	}
	return 0;
}

/* Only what is data: the holes stay holes. */
static int copy_data(int from, int to, off_t size)
{
	off_t start = 0, end;
	int err = 0;

	if (ftruncate(to, size) != 0)
		return -errno;
	while (start < size && err == 0) {
		start = lseek(from, start, SEEK_DATA);
		if (start < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(from, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		if (end > size)
			end = size;
		err = copy_range(from, to, start, end);
		start = end;
	}
	return err;
}

static int copy_file(struct cache *cache, int from, int to, uint64_t copy_max)
{
	struct stat st;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
		return -errno;
	if (fstat(from, &st) != 0)
		return -errno;
	if ((uint64_t)st.st_size > copy_max)
		return -EFBIG;
	if (!cache_space_has_free(cache, (uint64_t)st.st_blocks * 512))
		return -ENOSPC;
	return copy_data(from, to, st.st_size);
}

int cache_data_clone(struct cache *cache, uint64_t ino, uint64_t from_serial,
	uint64_t to_serial, uint64_t copy_max)
{
	int from, to, err;

	from = cache_data_open(cache, ino, from_serial, O_RDONLY);
	if (from < 0)
		return from;
	to = cache_data_open(cache, ino, to_serial, O_RDWR | O_CREAT);
	if (to < 0) {
		close(from);
		return to;
	}
	err = copy_file(cache, from, to, copy_max);
	close(from);
	close(to);
	if (err != 0)
		cache_data_unlink(cache, ino, to_serial);
	return err;
}
