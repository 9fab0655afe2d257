/*
 * What an open inode has of the system: descriptors of its data file, leases,
 * backing ids, and what fstat says.
 *
 * Descriptors are counted against the process's limit.  A descriptor that is
 * in a struct fs_file is changed only as handle.h says, so whoever holds a
 * reference may use it.
 */
#include "fs/handle_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/link.h"

/* Of the kernel's fuse.h, since 6.9; the headers here may be older. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* ---- descriptors ---- */

void fs_handles_close_fd(struct fs_handles *h, int fd)
{
	if (fd < 0)
		return;
	close(fd);
	base_lock(&h->mutex);
	h->fds--;
	base_unlock(&h->mutex);
}

/* A descriptor of a data file, counted. */
/* A descriptor of a data file, counted. */
static int open_fd(
	struct fs_handles *h, uint64_t ino, uint64_t serial, int flags)
{
	bool full;
	int fd;

	base_lock(&h->mutex);
	full = h->fds >= h->fds_max;
	if (!full)
		h->fds++;
	base_unlock(&h->mutex);
	if (full)
		return -ENFILE;
	fd = cache_data_open(h->m->cache, ino, serial, flags | O_CLOEXEC);
	if (fd < 0) {
		base_lock(&h->mutex);
		h->fds--;
		base_unlock(&h->mutex);
	}
	return fd;
}

/* Opens *fd unless it is there; only one of those that try at once wins. */
static int ensure_fd(struct fs_handles *h, struct fs_file *f, int *slot,
	uint64_t serial, int flags)
{
	int fd, old = -1, ret;

	base_lock(&h->mutex);
	ret = f->serial == serial ? *slot : -1;
	base_unlock(&h->mutex);
	if (ret >= 0)
		return ret;
	fd = open_fd(h, f->ino, serial, flags);
	if (fd < 0)
		return fd;
	base_lock(&h->mutex);
	if (*slot >= 0 && f->serial == serial) {
		old = fd;
		ret = *slot;
	} else {
		old = *slot;
		*slot = ret = fd;
		f->serial = serial;
	}
	base_unlock(&h->mutex);
	fs_handles_close_fd(h, old);
	return ret;
}

int fs_file_fd(
	struct fs_handles *h, struct fs_file *f, uint64_t serial, bool create)
{
	return ensure_fd(
		h, f, &f->fd, serial, create ? O_RDONLY | O_CREAT : O_RDONLY);
}

int fs_file_wfd(struct fs_handles *h, struct fs_file *f, uint64_t serial)
{
	return ensure_fd(h, f, &f->wfd, serial, O_RDWR);
}

/* ---- leases ---- */

/* Without leases ops.c allows no passthrough, and without it there are no
 * mappings that we do not know: then nothing stands in the way. */
bool fs_lease_probe(struct fs_handles *h, int fd, int type)
{
	if (!cache_data_leases(h->m->cache))
		return true;
	/* An open that comes in this moment would send SIGIO, and that would
	 * end the process. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, type) < 0)
		return false;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return true;
}

bool fs_unmapped(struct fs_handles *h, uint64_t ino, uint64_t serial)
{
	int err = cache_data_probe(h->m->cache, ino, serial, false);

	return err == 0 || err == -ENOENT || err == -ENOTSUP;
}

/* ---- backing ids ---- */

/* Writes through the id use the credentials of whoever makes it: spawn.c has
 * given away the one that may fill the file system's reserve. */
static int backing_open(struct fs_handles *h, int fd)
{
	struct backing_map map = { .fd = fd };
	int id = ioctl(h->m->link->fuse_fd, BACKING_OPEN, &map);

	if (id < 0)
		id = -errno;
	return id == 0 ? -EPROTO : id;
}

void fs_backing_close(struct fs_handles *h, int id)
{
	uint32_t arg = (uint32_t)id;

	/* ENOTCONN at the end of the mount: it went with the connection. */
	if (id > 0)
		ioctl(h->m->link->fuse_fd, BACKING_CLOSE, &arg);
}

/* Makes the backing id that PASS begins with.  1, or 0 if the kernel does not
 * want it. */
int fs_begin_pass(struct fs_handles *h, struct fs_file *f, uint64_t serial)
{
	int fd = -1, own = -1, id;
	bool first;

	base_lock(&h->mutex);
	if (f->serial == serial)
		fd = f->fd;
	base_unlock(&h->mutex);
	if (fd < 0)
		fd = own = open_fd(h, f->ino, serial, O_RDONLY);
	if (fd < 0)
		return fd;
	id = backing_open(h, fd);
	fs_handles_close_fd(h, own);
	base_lock(&h->mutex);
	if (id > 0)
		f->backing_id = h->table->last_id = id;
	/* ELOOP: the cache is on a stacked file system.  The others: this
	 * kernel, or we, cannot.  What helps is the same each time. */
	first = !h->no_pass && id < 0;
	h->no_pass |= id == -ELOOP || id == -EPERM || id == -EOPNOTSUPP ||
		id == -ENOTTY;
	base_unlock(&h->mutex);
	if (first)
		log_warn("no passthrough: %s: files are served, which is "
			 "slower",
			strerror(-id));
	return id > 0;
}

/* ---- attributes ---- */

int fs_fd_look(int fd, struct cache_stamp *ret, uint64_t *ret_allocated_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	ret->size_bytes = (uint64_t)st.st_size;
	ret->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
	ret->ctime_ns = st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec;
	*ret_allocated_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

int fs_fd_stamp(int fd, struct cache_stamp *ret)
{
	uint64_t allocated;

	return fs_fd_look(fd, ret, &allocated);
}

void fs_file_attrs(struct fs_handles *h, struct cache_inode *inode)
{
	struct cache_stamp now;
	struct fs_file *f;
	uint64_t allocated;
	int err, fd = -1;

	base_lock(&h->mutex);
	f = fs_handles_find(h, inode->ino);
	if (f != NULL && f->state != FS_CLAIMED && f->fd >= 0 &&
		f->serial == inode->serial) {
		fd = f->fd;
		fs_file_ref(f);
	}
	base_unlock(&h->mutex);
	if (fd >= 0) {
		err = fs_fd_stamp(fd, &now);
		fs_file_put(h, f);
	} else {
		err = cache_data_stat(h->m->cache, inode->ino, inode->serial,
			&now, &allocated);
	}
	if (err < 0 || fs_stamp_eq(&now, &inode->stamp))
		return;
	inode->size_bytes = now.size_bytes;
	/* Unless only attributes of the data file changed. */
	if (now.mtime_ns != inode->stamp.mtime_ns)
		inode->mtime_ns = now.mtime_ns;
	if (now.ctime_ns > inode->ctime_ns)
		inode->ctime_ns = now.ctime_ns;
}
