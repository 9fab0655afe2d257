/*
 * Bytes from the store into data files.
 *
 * A flight is one range GET.  Flights of one file never overlap each other nor
 * what is local, so each byte is asked for once however many readers wait.
 * A waiter is a call that wants a range; whether it is done is always asked of
 * the index, never counted.
 *
 *   flight state | means                               | next
 *   -------------+-------------------------------------+-----------
 *   QUEUED       | waits for a place                   | ROOM
 *   ROOM         | space is being made, the file       | ASKED, ended
 *                | opened (off the caller's thread)    |
 *   ASKED        | the GET is under way                | STORING
 *   STORING      | the extent's transaction            | ended
 *
 * Invariants:
 *   F1  all flights of a data file carry the same If-Match: the ETag of the
 *       blob that holds the inode's content;
 *   F2  an extent row is written after its bytes, in a transaction that finds
 *       the inode at the serial the flight was made for; else they are void;
 *   F3  a flight leaves the list after its extent row is committed; who looks
 *       at the list first and the index second never asks twice.
 *
 * Threads: any; one mutex.  `data` callbacks run on the store's threads and
 * write straight into the data file.
 */
#include "tier/fetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "tier/ahead.h"

/* ---- files ---- */

static struct fetch_file *find_file(struct tier_fetches *f, uint64_t ino)
{
	struct fetch_file *file;

	HASH_FIND(hh, f->files, &ino, sizeof(ino), file);
	return file;
}

static bool is_idle(const struct fetch_file *file)
{
	return file->flights_nr == 0 && LIST_EMPTY(&file->waiters);
}

static void close_fd(struct fetch_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	file->opened = false;
}

static void drop_file(struct tier_fetches *f, struct fetch_file *file)
{
	close_fd(file);
	HASH_DEL(f->files, file);
	free(file->source);
	free(file);
}

/* Idle files stay for their streams; the oldest beyond a number go. */
static void trim_files(struct tier_fetches *f)
{
	struct fetch_file *file, *tmp;

	if (HASH_COUNT(f->files) <= FETCH_FILES_IDLE)
		return;
	HASH_ITER(hh, f->files, file, tmp)
	{
		if (!is_idle(file))
			continue;
		drop_file(f, file);
		if (HASH_COUNT(f->files) <= FETCH_FILES_IDLE)
			return;
	}
}

/* Where the inode's bytes are now; -ESTALE if nowhere. */
static int find_source(struct cache_txn *txn, const struct cache_inode *inode,
	struct fetch_file *file)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_remote remote;
	int err;

	err = cache_path_of(txn, inode->ino, &path);
	if (err < 0 && err != -ENOENT)
		return err;
	err = cache_remote_holding(
		txn, &inode->content, err == 0 ? path.data : NULL, &remote);
	base_str_fini(&path);
	if (err < 0)
		return err == -ENOENT ? -ESTALE : err;
	/* Only its block list can tell a change beside its bytes. */
	if (file->source == NULL && inode->size_bytes > TIER_BLOCK_BYTES_1 &&
		!remote.has_md5 && !remote.has_list &&
		remote.commit_number != 0)
		tier_proof_learn(file->tier, remote.name, remote.size_bytes,
			remote.etag);
	free(file->source);
	file->source = base_strdup(remote.name);
	memcpy(file->etag, remote.etag, sizeof(file->etag));
	cache_remote_fini(&remote);
	return 0;
}

/* The file as the index has it now; one that changed begins anew once its old
 * flights are gone. */
static int load_file(struct tier_fetches *f, struct cache_txn *txn,
	uint64_t ino, struct fetch_file **ret)
{
	struct fetch_file *file = find_file(f, ino);
	struct cache_inode inode;
	int err = cache_inode_get(txn, ino, &inode);

	if (err < 0)
		return err;
	if (inode.kind != CACHE_FILE)
		return -EINVAL;
	if (inode.access == CACHE_ACCESS_NONE)
		return -EIO;
	if (file == NULL) {
		file = base_calloc(1, sizeof(*file));
		file->ino = ino;
		file->fd = -1;
		file->tier = f->tier;
		LIST_INIT(&file->waiters);
		TAILQ_INIT(&file->flights);
		HASH_ADD(hh, f->files, ino, sizeof(file->ino), file);
	}
	file->data = inode.data;
	if (file->serial != inode.serial || file->content_gen != inode.gen) {
		if (!is_idle(file) && file->serial != inode.serial)
			return -ESTALE;
		if (file->serial != inode.serial)
			close_fd(file);
		file->serial = inode.serial;
		file->content_gen = inode.gen;
		memset(file->streams, 0, sizeof(file->streams));
	}
	file->size_bytes = inode.size_bytes;
	if (inode.data != CACHE_WHOLE && is_idle(file))
		err = find_source(txn, &inode, file);
	*ret = file;
	return err;
}

/* ---- flights ---- */

static void add_flight(struct tier_fetches *f, struct fetch_file *file,
	uint64_t start, uint64_t end, enum urgency urgency)
{
	struct flight *fl = base_calloc(1, sizeof(*fl));

	fl->file = file;
	fl->start = start;
	fl->end = end;
	fl->urgency = urgency;
	fl->serial = file->serial;
	fl->state = FLIGHT_QUEUED;
	TAILQ_INSERT_TAIL(&file->flights, fl, link);
	file->flights_nr++;
	if (urgency != FETCH_NOW)
		TAILQ_INSERT_TAIL(&f->later, fl, queue);
	else
		TAILQ_INSERT_TAIL(&f->now, fl, queue);
}

/* Somebody waits for this range now: what is queued for later comes first. */
static void promote(struct tier_fetches *f, struct flight *fl)
{
	if (fl->state == FLIGHT_QUEUED && fl->urgency != FETCH_NOW) {
		TAILQ_REMOVE(&f->later, fl, queue);
		TAILQ_INSERT_TAIL(&f->now, fl, queue);
	}
	fl->urgency = FETCH_NOW;
}

/* The first flight that overlaps start..end, or NULL. */
static struct flight *flight_over(
	struct fetch_file *file, uint64_t start, uint64_t end)
{
	struct flight *fl, *first = NULL;

	TAILQ_FOREACH(fl, &file->flights, link)
	{
		if (fl->start < end && start < fl->end &&
			(first == NULL || fl->start < first->start))
			first = fl;
	}
	return first;
}

/* Flights for what is neither local nor under way of start..end. */
static void cover(struct tier_fetches *f, struct fetch_file *file,
	uint64_t start, uint64_t end, enum urgency urgency)
{
	while (start < end) {
		struct flight *fl = flight_over(file, start, end);
		uint64_t stop = fl == NULL  ? end
			: fl->start > start ? fl->start
					    : start;

		while (start < stop) {
			uint64_t len = stop - start;

			if (len > TIER_CHUNK_BYTES + TIER_CHUNK_BYTES / 2)
				len = TIER_CHUNK_BYTES;
			add_flight(f, file, start, start + len, urgency);
			start += len;
		}
		if (fl != NULL) {
			if (urgency == FETCH_NOW)
				promote(f, fl);
			start = fl->end;
		}
	}
}

/* Makes start..end come, cut to whole units.  *ret_missing: something of the
 * exact range is not there yet. */
static int want(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, uint64_t start, uint64_t end,
	enum urgency urgency, bool *ret_missing)
{
	struct cache_range missing[FETCH_RANGES];
	uint64_t from = start - start % FETCH_UNIT, to = end;
	ssize_t nr;

	if (to % FETCH_UNIT != 0)
		to += FETCH_UNIT - to % FETCH_UNIT;
	if (to > file->size_bytes)
		to = file->size_bytes;
	*ret_missing = false;
	if (file->data == CACHE_WHOLE || from >= to)
		return 0;
	nr = cache_extent_missing(
		txn, file->ino, from, to, missing, FETCH_RANGES);
	if (nr < 0)
		return (int)nr;
	for (ssize_t i = 0; i < nr; i++) {
		if (missing[i].start < end && start < missing[i].end)
			*ret_missing = true;
		cover(f, file, missing[i].start, missing[i].end, urgency);
	}
	return 0;
}

/* ---- waiters ---- */

/* Asks the index: done, or more to fetch.  A long range is fetched a window at
 * a time. */
static int advance(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, struct waiter *w, bool *ret_done)
{
	bool missing = true;
	int err = 0;

	while (w->pos < w->end) {
		uint64_t stop = w->pos + FETCH_WINDOW;

		if (stop > w->end)
			stop = w->end;
		err = want(f, txn, file, w->pos, stop, w->urgency, &missing);
		if (err < 0 || missing)
			break;
		w->pos = stop;
	}
	*ret_done = err < 0 || w->pos >= w->end;
	return err;
}

static void end_waiter(struct tier_fetches *f, struct waiter *w, int err)
{
	LIST_REMOVE(w, link);
	w->call->owner = NULL;
	tier_call_end(f->tier, w->call, err);
	free(w);
}

/* A flight ended: who waited for its range looks again. */
static void wake(
	struct tier_fetches *f, const struct flight *fl, int flight_err)
{
	struct fetch_file *file = fl->file;
	struct cache_txn *txn = NULL;
	struct waiter *w, *next;
	struct cache_inode inode;
	int err;

	if (LIST_EMPTY(&file->waiters))
		return;
	err = cache_read(f->tier->cache, &txn);
	if (err == 0 && cache_inode_get(txn, file->ino, &inode) == 0)
		file->data = inode.data;
	for (w = LIST_FIRST(&file->waiters); w != NULL; w = next) {
		bool done = false;
		int result = err < 0 ? err : flight_err;

		next = LIST_NEXT(w, link);
		if (w->start >= fl->end || fl->start >= w->end)
			continue;
		if (fl->no_room && w->urgency != FETCH_SPARE)
			result = err;
		if (result == 0)
			result = advance(f, txn, file, w, &done);
		if (done || result < 0)
			end_waiter(f, w, result);
	}
	if (txn != NULL)
		cache_abort(txn);
}

/* ---- places ---- */

/* Starts what has a place; with the mutex. */
static void pump(struct tier_fetches *f)
{
	while (f->active < TIER_FETCH_PARALLEL && !f->stopped) {
		struct flight *fl = TAILQ_FIRST(&f->now);

		if (fl != NULL) {
			TAILQ_REMOVE(&f->now, fl, queue);
		} else {
			fl = TAILQ_FIRST(&f->later);
			if (fl == NULL || f->active >= TIER_FETCH_BACKGROUND)
				return;
			TAILQ_REMOVE(&f->later, fl, queue);
		}
		fl->state = FLIGHT_ROOM;
		f->active++;
		base_post(f->tier->env, tier_flight_room, fl);
	}
}

void tier_flight_ended(struct flight *fl, int err)
{
	struct fetch_file *file = fl->file;
	struct tier_fetches *f = file->tier->fetches;

	base_lock(&f->mutex);
	TAILQ_REMOVE(&file->flights, fl, link);
	file->flights_nr--;
	f->active--;
	wake(f, fl, err);
	if (is_idle(file))
		close_fd(file);
	trim_files(f);
	pump(f);
	base_unlock(&f->mutex);
	blob_req_fini(&fl->req);
	free(fl->name);
	free(fl);
}

/* ---- the calls ---- */

/* An empty file needs no request: it is whole as soon as it exists. */
static int make_empty(struct tier *t, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	uint64_t allocated;
	int fd, err = cache_write(t->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, ino, &inode);
	if (err == 0 && inode.data == CACHE_NONE && inode.size_bytes == 0) {
		fd = cache_data_open(
			t->cache, ino, inode.serial, O_WRONLY | O_CREAT);
		err = fd < 0 ? fd : cache_data_mark_fetched(fd);
		if (fd >= 0)
			close(fd);
		if (err == 0)
			err = cache_data_stat(t->cache, ino, inode.serial,
				&inode.stamp, &allocated);
		inode.data = CACHE_WHOLE;
		if (err == 0)
			err = cache_inode_put(txn, &inode);
	}
	return cache_end(txn, err);
}

static int begin(struct tier_fetches *f, struct cache_txn *txn, uint64_t ino,
	uint64_t start, uint64_t end, enum urgency urgency,
	struct tier_call *call, bool *ret_empty)
{
	struct fetch_file *file;
	struct waiter *w;
	bool done = false;
	int err = load_file(f, txn, ino, &file);

	*ret_empty = false;
	if (err < 0)
		return err;
	if (f->stopped)
		return -EINTR;
	if (file->size_bytes == 0 && file->data != CACHE_WHOLE) {
		*ret_empty = true;
		return 0;
	}
	if (end > file->size_bytes)
		end = file->size_bytes;
	w = base_calloc(1, sizeof(*w));
	w->call = call;
	w->file = file;
	w->start = w->pos = start;
	w->end = end;
	w->urgency = urgency;
	call->owner = w;
	LIST_INSERT_HEAD(&file->waiters, w, link);
	err = advance(f, txn, file, w, &done);
	if (urgency == FETCH_NOW)
		tier_stream_note(f, txn, file, start, end);
	if (done || err < 0)
		end_waiter(f, w, err);
	return 0;
}

static void fetch(struct tier *t, uint64_t ino, uint64_t start, uint64_t end,
	enum urgency urgency, struct tier_call *call)
{
	struct tier_fetches *f = t->fetches;
	struct cache_txn *txn;
	bool empty = false;
	int err;

	call->owner = NULL;
	base_lock(&f->mutex);
	err = cache_read(t->cache, &txn);
	if (err == 0) {
		err = begin(f, txn, ino, start, end, urgency, call, &empty);
		cache_abort(txn);
	}
	pump(f);
	base_unlock(&f->mutex);
	if (empty)
		err = make_empty(t, ino);
	if (err < 0 || empty)
		tier_call_end(t, call, err);
}

void tier_fetch(struct tier *t, uint64_t ino, uint64_t start, uint64_t end,
	struct tier_call *call)
{
	fetch(t, ino, start, end, FETCH_NOW, call);
}

void tier_fetch_whole(
	struct tier *t, uint64_t ino, bool background, struct tier_call *call)
{
	if (!background)
		tier_ahead_missed(t, ino);
	fetch(t, ino, 0, UINT64_MAX, background ? FETCH_LATER : FETCH_NOW,
		call);
}

void tier_fetch_spare(struct tier *t, uint64_t ino, struct tier_call *call)
{
	fetch(t, ino, 0, UINT64_MAX, FETCH_SPARE, call);
}

void tier_read_ahead(struct tier *t, uint64_t ino, uint64_t start, uint64_t end)
{
	struct tier_fetches *f = t->fetches;
	struct fetch_file *file;
	struct cache_txn *txn;

	base_lock(&f->mutex);
	if (!f->stopped && cache_read(t->cache, &txn) == 0) {
		if (load_file(f, txn, ino, &file) == 0 &&
			file->data != CACHE_WHOLE)
			tier_stream_note(f, txn, file, start, end);
		cache_abort(txn);
	}
	pump(f);
	base_unlock(&f->mutex);
}

bool tier_fetching(struct tier *t, uint64_t ino)
{
	struct tier_fetches *f = t->fetches;
	struct fetch_file *file;
	bool busy;

	base_lock(&f->mutex);
	file = find_file(f, ino);
	busy = file != NULL && !is_idle(file);
	base_unlock(&f->mutex);
	return busy;
}

int tier_fetch_ahead(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, uint64_t start, uint64_t end)
{
	bool missing;

	return want(f, txn, file, start, end, FETCH_LATER, &missing);
}

bool tier_fetch_cancel(struct tier *t, struct tier_call *call)
{
	struct tier_fetches *f = t->fetches;
	struct fetch_file *file, *tmp;
	struct waiter *w;
	bool found = false;

	base_lock(&f->mutex);
	HASH_ITER(hh, f->files, file, tmp)
	{
		LIST_FOREACH(w, &file->waiters, link)
		{
			if (w->call != call)
				continue;
			end_waiter(f, w, -EINTR);
			found = true;
			break;
		}
		if (found)
			break;
	}
	base_unlock(&f->mutex);
	return found;
}

/* ---- life ---- */

int tier_fetches_open(struct tier *t)
{
	struct tier_fetches *f = base_calloc(1, sizeof(*f));

	f->tier = t;
	base_mutex_init(&f->mutex, BASE_RANK_TIER_FETCH);
	TAILQ_INIT(&f->now);
	TAILQ_INIT(&f->later);
	t->fetches = f;
	return 0;
}

/* Queued flights never start; what is under way ends with the store. */
void tier_fetches_stop(struct tier *t)
{
	struct tier_fetches *f = t->fetches;
	struct fetch_file *file, *tmp;
	struct waiter *w;

	base_lock(&f->mutex);
	f->stopped = true;
	HASH_ITER(hh, f->files, file, tmp)
	{
		while ((w = LIST_FIRST(&file->waiters)) != NULL)
			end_waiter(f, w, -EINTR);
	}
	base_unlock(&f->mutex);
}

void tier_fetches_close(struct tier *t)
{
	struct tier_fetches *f = t->fetches;
	struct fetch_file *file, *tmp;
	struct flight *fl;

	if (f == NULL)
		return;
	HASH_ITER(hh, f->files, file, tmp)
	{
		while ((fl = TAILQ_FIRST(&file->flights)) != NULL) {
			TAILQ_REMOVE(&file->flights, fl, link);
			free(fl->name);
			free(fl);
		}
		drop_file(f, file);
	}
	base_mutex_fini(&f->mutex);
	free(f);
}
