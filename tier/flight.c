/*
 * The way of one flight: room, the GET, the extent row (states and invariants:
 * fetch.c).
 */
#include "tier/fetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* F2 */
static int store_extent(struct flight *fl)
{
	struct tier *t = fl->file->tier;
	struct cache_inode inode;
	struct cache_txn *txn;
	enum cache_data data;
	uint64_t allocated;
	int err = cache_write(t->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, fl->file->ino, &inode);
	if (err == 0 && inode.serial != fl->serial)
		err = -ESTALE;
	if (err == 0)
		err = cache_extent_add(
			txn, inode.ino, fl->start, fl->end, &data);
	if (err == 0)
		err = cache_inode_get(txn, inode.ino, &inode);
	if (err == 0)
		err = cache_data_stat(t->cache, inode.ino, inode.serial,
			&inode.stamp, &allocated);
	if (err == 0) {
		inode.local_bytes = allocated;
		err = cache_inode_put(txn, &inode);
	}
	err = cache_end(txn, err);
	return err == -ENOENT ? -ESTALE : err;
}

/* -EAGAIN: the range is to be asked for again. */
static int result_err(struct flight *fl)
{
	switch (fl->req.result) {
	case BLOB_CORRUPT:
		return ++fl->corrupt < TIER_CORRUPT_TRIES ? -EAGAIN : -EIO;
	case BLOB_NOT_FOUND:
	case BLOB_CONDITION:
	case BLOB_BAD_RANGE:
		return -ESTALE;
	case BLOB_STOPPED:
		return -EINTR;
	default:
		return fl->req.err;
	}
}

static void flight_stored(void *arg);

static void flight_answered(struct blob_req *req)
{
	struct flight *fl = req->arg;

	base_post(fl->file->tier->env, flight_stored, fl);
}

/* Zeroes over a hole need no writing: a sparse file stays one. */
static bool stays_hole(int fd, const char *buf, size_t len, uint64_t offset)
{
	off_t data;

	if (buf[0] != 0 || memcmp(buf, buf + 1, len - 1) != 0)
		return false;
	data = lseek(fd, (off_t)offset, SEEK_DATA);
	return (data < 0 && errno == ENXIO) ||
		(data >= 0 && (uint64_t)data >= offset + len);
}

static int flight_data(struct blob_req *req, const void *buf, size_t len)
{
	struct flight *fl = req->arg;
	const char *p = buf;

	if (len > fl->end - fl->at)
		return -EIO;
	if (len > 0 && stays_hole(fl->file->fd, p, len, fl->at)) {
		fl->at += len;
		return 0;
	}
	while (len > 0) {
		ssize_t n = pwrite(fl->file->fd, p, len, (off_t)fl->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			fl->write_err = n < 0 ? -errno : -EIO;
			return fl->write_err;
		}
		p += n;
		len -= (size_t)n;
		fl->at += (uint64_t)n;
	}
	return 0;
}

static void ask(struct flight *fl, bool background)
{
	fl->at = fl->start;
	blob_req_fini(&fl->req);
	memset(&fl->req, 0, sizeof(fl->req));
	fl->req.op = BLOB_GET;
	fl->req.name = fl->name;
	fl->req.cond.if_match = fl->etag;
	fl->req.background = background;
	fl->req.done = flight_answered;
	fl->req.arg = fl;
	fl->req.in.get.offset = fl->start;
	fl->req.in.get.len_bytes = fl->end - fl->start;
	fl->req.in.get.data = flight_data;
	tier_submit(fl->file->tier, &fl->req);
}

/* The blob moved under us.  Who opens the file by its name looks that up again
 * when we say so, and has to find then what is there now. */
static void flight_rechecked(struct tier_call *call, int err)
{
	struct flight *fl = (struct flight *)((char *)call -
		offsetof(struct flight, rechecked));
	struct tier *t = fl->file->tier;

	(void)err;
	tier_flight_ended(fl, -ESTALE);
	tier_answered(t);
}

static void flight_stored(void *arg)
{
	struct flight *fl = arg;
	struct tier *t = fl->file->tier;
	int err = fl->write_err;

	if (err == 0)
		err = result_err(fl);
	if (err == 0 && fl->at != fl->end)
		err = -EIO;
	if (err == 0)
		err = store_extent(fl);
	if (err == 0)
		atomic_fetch_add(&t->miss_bytes, fl->end - fl->start);
	if (err == -EAGAIN) {
		log_warn("%s: what came from the store does not match its "
			 "checksum: asked for again",
			fl->name);
		ask(fl, fl->req.background);
		tier_answered(t);
		return;
	}
	cache_space_release(t->cache, fl->end - fl->start);
	if (err == -ESTALE) {
		fl->rechecked.done = flight_rechecked;
		tier_list_recheck(t, fl->name, &fl->rechecked);
		return;
	}
	tier_flight_ended(fl, err);
	tier_answered(t);
}

static int open_file(struct tier_fetches *f, struct fetch_file *file)
{
	bool make;
	int fd, err = 0;

	base_lock(&f->mutex);
	make = file->data == CACHE_NONE && !file->opened;
	fd = file->fd;
	if (fd < 0) {
		fd = cache_data_open(f->tier->cache, file->ino, file->serial,
			O_WRONLY | (make ? O_CREAT : 0));
		if (fd < 0)
			err = fd;
		else if (make && ftruncate(fd, (off_t)file->size_bytes) < 0)
			err = -errno;
		if (err == 0 && make)
			err = cache_data_mark_fetched(fd);
		if (err == 0) {
			file->fd = fd;
			file->opened = true;
		} else if (fd >= 0) {
			close(fd);
		}
	}
	base_unlock(&f->mutex);
	return err;
}

void tier_flight_room(void *arg)
{
	struct flight *fl = arg;
	struct fetch_file *file = fl->file;
	struct tier *t = file->tier;
	struct tier_fetches *f = t->fetches;
	uint64_t len = fl->end - fl->start;
	enum urgency urgency;
	int err;

	base_lock(&f->mutex);
	urgency = fl->urgency; /* somebody may come to wait for it */
	base_unlock(&f->mutex);
	err = urgency == FETCH_SPARE ? cache_space_spare(t->cache, len)
				     : cache_space_reserve(t->cache, len);
	fl->no_room = err < 0 && urgency == FETCH_SPARE;
	/* A reader waits for it, and nothing else may go. */
	if (err == -ENOSPC && urgency == FETCH_NOW)
		err = cache_space_exceed(t->cache, len);
	if (err == 0) {
		err = open_file(f, file);
		if (err < 0)
			cache_space_release(t->cache, len);
	}
	if (err < 0) {
		tier_flight_ended(fl, err);
		return;
	}
	base_lock(&f->mutex);
	fl->name = base_strdup(file->source);
	memcpy(fl->etag, file->etag, sizeof(fl->etag));
	fl->state = FLIGHT_ASKED;
	base_unlock(&f->mutex);
	ask(fl, urgency != FETCH_NOW);
}
