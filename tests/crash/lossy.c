/*
 * A disk that forgets: a FUSE file for a loop device, whose writes stay in
 * memory until they are flushed, for tests of power cuts.
 *
 *	lossy IMAGE MOUNTPOINT
 *
 * MOUNTPOINT/disk has the bytes of IMAGE.  What is written is kept in memory,
 * and goes to IMAGE when the device is flushed (fsync of the file).  Writing
 * "cut SEED PERCENT" to MOUNTPOINT/ctl is the power cut: of what was not
 * flushed, each 4 KiB survives with that probability (as some version of it
 * that was written), the rest is forgotten; from then on all I/O fails.
 * "size" of IMAGE is that of the disk.
 *
 * One thread.  No option of libfuse's is taken from the command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#define SECTOR 4096

/* A sector that was written since the last flush. */
struct dirty {
	UT_hash_handle hh;
	uint64_t nr;
	bool earlier; /* `before` is what it held after an earlier write */
	char now[SECTOR], before[SECTOR];
};

static int image = -1;
static off_t disk_bytes;
static struct dirty *dirties;
static bool is_cut;

static int pread_all(char *buf, size_t bytes, off_t offset)
{
	while (bytes > 0) {
		ssize_t n = pread(image, buf, bytes, offset);

		if (n <= 0)
			return -EIO;
		buf += n;
		offset += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int write_back(const struct dirty *d, const char *bytes)
{
	return pwrite(image, bytes, SECTOR, (off_t)(d->nr * SECTOR)) == SECTOR
		? 0
		: -EIO;
}

static struct dirty *find(uint64_t nr)
{
	struct dirty *d;

	HASH_FIND(hh, dirties, &nr, sizeof(nr), d);
	return d;
}

static void forget_all(void)
{
	struct dirty *d, *tmp;

	HASH_ITER(hh, dirties, d, tmp)
	{
		HASH_DEL(dirties, d);
		free(d);
	}
}

/* ---- the power cut ---- */

static int cut(unsigned seed, unsigned percent)
{
	struct dirty *d, *tmp;
	unsigned kept = 0, lost = 0;

	srandom(seed);
	HASH_ITER(hh, dirties, d, tmp)
	{
		bool old = d->earlier && random() % 2 == 0;

		if ((unsigned)(random() % 100) >= percent) {
			lost++;
		} else {
			kept++;
			if (write_back(d, old ? d->before : d->now) != 0)
				return -EIO;
		}
	}
	forget_all();
	is_cut = true;
	fprintf(stderr, "lossy: cut: %u sectors kept, %u lost\n", kept, lost);
	return 0;
}

/* ---- the file system ---- */

static bool is_ctl(const char *path)
{
	return strcmp(path, "/ctl") == 0;
}

static int get_attr(
	const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
		return 0;
	}
	if (!is_ctl(path) && strcmp(path, "/disk") != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = is_ctl(path) ? 0 : disk_bytes;
	return 0;
}

static int open_file(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1;
	return 0;
}

static int truncate_file(
	const char *path, off_t size, struct fuse_file_info *fi)
{
	(void)fi;
	return is_ctl(path) || size == disk_bytes ? 0 : -EPERM;
}

static int read_disk(const char *path, char *buf, size_t bytes, off_t offset,
	struct fuse_file_info *fi)
{
	size_t done = 0;

	(void)fi;
	if (is_ctl(path) || offset >= disk_bytes)
		return 0;
	if (is_cut)
		return -EIO;
	if ((off_t)bytes > disk_bytes - offset)
		bytes = (size_t)(disk_bytes - offset);
	if (pread_all(buf, bytes, offset) != 0)
		return -EIO;
	while (done < bytes) {
		uint64_t at = (uint64_t)offset + done;
		size_t in = at % SECTOR, len = SECTOR - in;
		struct dirty *d = find(at / SECTOR);

		if (len > bytes - done)
			len = bytes - done;
		if (d != NULL)
			memcpy(buf + done, d->now + in, len);
		done += len;
	}
	return (int)bytes;
}

static int dirty_one(uint64_t nr, size_t in, const char *buf, size_t len)
{
	struct dirty *d = find(nr);

	if (d == NULL) {
		d = calloc(1, sizeof(*d));
		if (d == NULL)
			return -ENOMEM;
		d->nr = nr;
		if (len != SECTOR &&
			pread_all(d->now, SECTOR, (off_t)(nr * SECTOR)) != 0) {
			free(d);
			return -EIO;
		}
		HASH_ADD(hh, dirties, nr, sizeof(d->nr), d);
	} else {
		memcpy(d->before, d->now, SECTOR);
		d->earlier = true;
	}
	memcpy(d->now + in, buf, len);
	return 0;
}

static int write_disk(const char *path, const char *buf, size_t bytes,
	off_t offset, struct fuse_file_info *fi)
{
	unsigned seed, percent;
	char text[64] = "";
	size_t done = 0;
	int err = 0;

	(void)fi;
	if (is_ctl(path)) {
		memcpy(text, buf,
			bytes < sizeof(text) ? bytes : sizeof(text) - 1);
		if (sscanf(text, "cut %u %u", &seed, &percent) != 2)
			return -EINVAL;
		err = cut(seed, percent);
		return err < 0 ? err : (int)bytes;
	}
	if (is_cut)
		return -EIO;
	if (offset + (off_t)bytes > disk_bytes)
		return -ENOSPC;
	while (done < bytes && err == 0) {
		uint64_t at = (uint64_t)offset + done;
		size_t in = at % SECTOR, len = SECTOR - in;

		if (len > bytes - done)
			len = bytes - done;
		err = dirty_one(at / SECTOR, in, buf + done, len);
		done += len;
	}
	return err < 0 ? err : (int)bytes;
}

static int flush_disk(const char *path, int datasync, struct fuse_file_info *fi)
{
	struct dirty *d, *tmp;

	(void)datasync;
	(void)fi;
	if (is_ctl(path))
		return 0;
	if (is_cut)
		return -EIO;
	HASH_ITER(hh, dirties, d, tmp)
	{
		if (write_back(d, d->now) != 0)
			return -EIO;
	}
	forget_all();
	return 0;
}

int main(int argc, char **argv)
{
	static const struct fuse_operations ops = { .getattr = get_attr,
		.open = open_file,
		.truncate = truncate_file,
		.read = read_disk,
		.write = write_disk,
		.fsync = flush_disk };
	char foreground[] = "-f", single[] = "-s";
	char *args[] = { argv[0], foreground, single,
		argc == 3 ? argv[2] : NULL, NULL };
	struct stat st;

	if (argc != 3) {
		fprintf(stderr, "usage: lossy IMAGE MOUNTPOINT\n");
		return 2;
	}
	image = open(argv[1], O_RDWR | O_CLOEXEC);
	if (image < 0 || fstat(image, &st) != 0) {
		perror(argv[1]);
		return 1;
	}
	disk_bytes = st.st_size - st.st_size % SECTOR;
	return fuse_main(4, args, &ops, NULL);
}
