/*
 * What is asked of an open inode, and what readers and writers leave on it:
 * see handle.h.
 */
#include "fs/handle_priv.h"

#include <errno.h>
#include <fcntl.h>

bool fs_file_has_writers(struct fs_handles *h, struct fs_file *f)
{
	bool ret;

	base_lock(&h->mutex);
	ret = f->writers > 0;
	base_unlock(&h->mutex);
	return ret;
}

bool fs_file_is_served(struct fs_handles *h, struct fs_file *f)
{
	bool ret;

	base_lock(&h->mutex);
	ret = f->state == FS_SERVED;
	base_unlock(&h->mutex);
	return ret;
}

bool fs_file_alone(struct fs_handles *h, struct fs_file *f, uint64_t serial)
{
	bool alone;
	int fd;

	base_lock(&h->mutex);
	alone = f->opens == 0 && !f->written;
	fd = f->serial == serial ? f->fd : -1;
	base_unlock(&h->mutex);
	if (!alone)
		return false;
	/* Our own descriptor would be in the way of another one's lease. */
	return fd >= 0 ? fs_lease_probe(h, fd, F_WRLCK)
		       : fs_unmapped(h, f->ino, serial);
}

int fs_file_whole_fd(struct fs_handles *h, struct fs_file *f)
{
	int fd;

	base_lock(&h->mutex);
	fd = f->whole && f->fd >= 0 ? f->fd : -EAGAIN;
	base_unlock(&h->mutex);
	return fd;
}

bool fs_file_continues(struct fs_handles *h, struct fs_file *f, uint64_t start)
{
	bool ret;

	base_lock(&h->mutex);
	ret = f->read_end == start;
	base_unlock(&h->mutex);
	return ret;
}

void fs_file_read_to(
	struct fs_handles *h, struct fs_file *f, uint64_t end, bool whole)
{
	base_lock(&h->mutex);
	f->read_end = end;
	f->whole |= whole;
	base_unlock(&h->mutex);
}

bool fs_waiting_bytes(struct fs_handles *h, int64_t bytes)
{
	bool ok;

	base_lock(&h->mutex);
	ok = bytes < 0 ||
		h->waiting_bytes + (uint64_t)bytes <= FS_WAITING_BYTES_MAX;
	if (ok)
		h->waiting_bytes += (uint64_t)bytes;
	base_unlock(&h->mutex);
	return ok;
}
