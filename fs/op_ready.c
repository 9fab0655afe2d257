/* Making an inode ready to be written to: see op_open.h. */
#include "fs/op_open.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/written.h"

int fs_may_change(struct fs_mount *m, const struct cache_inode *inode)
{
	if (m->opt.ro)
		return -EROFS;
	if (inode->kind == CACHE_DIR)
		return -EISDIR;
	if (inode->kind != CACHE_FILE)
		return -EINVAL;
	return inode->access == CACHE_ACCESS_ALL ? 0 : -EPERM;
}

void fs_kill_setid(struct cache_inode *inode)
{
	inode->mode &= ~(uint32_t)S_ISUID;
	if (inode->mode & S_IXGRP)
		inode->mode &= ~(uint32_t)S_ISGID;
}

int fs_ready_look(struct fs_mount *m, struct cache_txn *txn, struct fs_file *f,
	const struct cache_inode *inode, struct fs_ready *ready)
{
	ready->alone =
		ready->truncate && fs_file_alone(m->handles, f, inode->serial);
	if (inode->data != CACHE_WHOLE && !ready->alone)
		return 1;
	/* Whoever writes already has had its older state kept; what is written-
	 * to is no state to be kept, unless it was closed a moment ago. */
	ready->keep = !ready->alone && tier_keep_needed(m->tier, txn, inode);
	ready->again = false;
	if (ready->keep && inode->written)
		ready->keep =
			fs_written_rests(m->handles, f, inode, &ready->again);
	/* After a power cut a changed file must not look like the durable one
	 * that it was.  A row that says "not synced" is so durably, because
	 * becoming it waited here. */
	ready->sync = !ready->alone && inode->size_bytes > 0 &&
		cache_may_be_proven(txn, inode);
	return 0;
}

bool fs_ready_waits(const struct fs_ready *ready)
{
	return ready->keep || ready->sync || (ready->truncate && !ready->alone);
}

int fs_truncate_data(
	struct fs_mount *m, const struct cache_inode *inode, off_t size)
{
	/* Writable for this moment only, see H5 in handle.c. */
	int fd = cache_data_open(
		m->cache, inode->ino, inode->serial, O_RDWR | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, size) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int ready_in(struct fs_mount *m, struct cache_txn *txn,
	struct fs_file *f, const struct fs_ready *ready,
	struct cache_inode *inode)
{
	bool moved = false;
	int err;

	err = ready->alone ? cache_data_renew(txn, inode)
			   : cache_data_mark_ours(m->cache, inode->ino,
				     inode->serial, &moved);
	if (err == 0 && moved)
		err = cache_data_stat(m->cache, inode->ino, inode->serial,
			&inode->stamp, NULL);
	if (err < 0)
		return err;
	inode->gen++;
	inode->written = true;
	if (ready->kill_setid)
		fs_kill_setid(inode);
	if (ready->truncate) {
		inode->size_bytes = 0;
		inode->stored = false;
		cache_id_new(m->cache, &inode->content);
		/* Looks like nothing the data file can be: it is entered. */
		memset(&inode->stamp, 0, sizeof(inode->stamp));
		inode->mtime_ns = inode->ctime_ns = base_wall_ns(m->env);
	}
	err = cache_inode_put(txn, inode);
	if (err == 0)
		err = fs_file_fd(m->handles, f, inode->serial, ready->alone);
	if (err >= 0)
		err = cache_space_account(txn, inode->ino);
	/* In place it is not in the index that it was done. */
	if (err == 0 && ready->alone && ready->call != NULL)
		err = fs_call_done(ready->call, txn, inode->ino);
	return err;
}

int fs_make_ready(struct fs_mount *m, struct fs_file *f,
	const struct fs_ready *ready, struct cache_inode *inode)
{
	bool was_written, was_synced;
	struct cache_txn *txn;
	int fd, err = 0;

	if (ready->keep)
		err = tier_keep(m->tier, f->ino);
	if (err == 0)
		err = cache_write(m->cache, &txn);
	if (err < 0)
		return err;
	err = cache_inode_get(txn, f->ino, inode);
	was_written = err == 0 && inode->written;
	was_synced = err == 0 && inode->gen == inode->synced_gen;
	if (err == 0 && (!was_written || ready->truncate || ready->kill_setid))
		err = ready_in(m, txn, f, ready, inode);
	if (err == 0) {
		fd = fs_file_fd(m->handles, f, inode->serial, false);
		err = fd < 0 ? fd : 0;
	}
	err = cache_end(txn, err);
	if (err < 0)
		return err;
	fs_written_begin(m->handles, f, inode, ready->rdwr,
		was_synced && !ready->truncate);
	if (ready->sync)
		err = cache_sync_index(m->cache);
	if (err == 0 && ready->truncate && !ready->alone)
		err = fs_truncate_data(m, inode, 0);
	return err;
}
