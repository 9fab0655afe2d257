/*
 * The order of eviction: S3-FIFO over the table `used`.
 *
 * Queues, each in order of `place`, a number that only rises:
 *	SMALL	made local, or opened, for the first time
 *	MAIN	opened again while it was in SMALL, or wanted again soon after
 *		it was evicted
 *	PARKED	could not go when its turn came, being dirty or pinned
 *	GHOST	evicted: the row remembers when, so that the inode enters
 *		MAIN if it comes back before the cache has turned over once
 * `uses` counts opens since the inode entered, up to USES_MAX.  A scan passes
 * through SMALL and leaves MAIN alone.  Evict.c takes from the heads; rows that
 * it finds not to be local any more it forgets.
 *
 * Opens come by the thousand, so they are noted in memory (cache_touch) and
 * written down together: before an eviction pass, when FLUSH_NOTES are there,
 * at close.  A crash loses only this; an inode that is in no queue because of
 * it is found by cache_use_sweep().
 */
#include "cache/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

#define USES_MAX 3
/* The table of notes: 128 KiB, open addressing. */
#define NOTES_SLOTS 8192
#define NOTES_MAX 6144 /* beyond, notes are lost until it is written */
#define FLUSH_NOTES 4096
/* Rows written in one transaction: the writer is not held for long. */
#define FLUSH_ROWS 512

struct note {
	uint64_t ino; /* 0: free */
	uint64_t opens;
};

struct cache_use {
	struct cache_bg *bg;
	_Atomic uint64_t next[CACHE_QUEUES]; /* places; written by a writer */
	struct base_mutex mutex;	     /* all below */
	struct note *notes;
	size_t notes_nr;
};

/* ---- notes ---- */

static struct note *new_notes(void)
{
	return base_calloc(NOTES_SLOTS, sizeof(struct note));
}

static struct note *find_note(struct note *notes, uint64_t ino)
{
	size_t i = (size_t)((ino * UINT64_C(0x9e3779b97f4a7c15)) >> 32);

	for (;; i++) {
		struct note *n = &notes[i % NOTES_SLOTS];

		if (n->ino == ino || n->ino == 0)
			return n;
	}
}

static void note(struct cache *cache, uint64_t ino, unsigned opens)
{
	struct cache_use *u;
	struct note *n;
	bool full;

	if (cache->space == NULL || ino == 0)
		return;
	u = cache->space->use;
	base_lock(&u->mutex);
	n = find_note(u->notes, ino);
	if (n->ino == 0 && u->notes_nr < NOTES_MAX) {
		n->ino = ino;
		u->notes_nr++;
	}
	if (n->ino == ino)
		n->opens += opens;
	full = u->notes_nr == FLUSH_NOTES;
	base_unlock(&u->mutex);
	if (full && atomic_load(&cache->space->started))
		cache_bg_kick(u->bg);
}

void cache_touch(struct cache *cache, uint64_t ino)
{
	note(cache, ino, 1);
}

void cache_use_enter(struct cache *cache, uint64_t ino)
{
	note(cache, ino, 0);
}

/* ---- the table ---- */

static int put_row(struct cache_txn *txn, uint64_t ino, enum cache_queue queue,
	uint64_t place, uint64_t uses)
{
	struct cache_query q;

	cache_db_begin(
		&q, txn, "INSERT OR REPLACE INTO used VALUES (?, ?, ?, ?)");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, queue);
	cache_db_bind_u64(&q, place);
	cache_db_bind_u64(&q, uses);
	return cache_db_run(&q);
}

int cache_use_move(struct cache_use *use, struct cache_txn *txn, uint64_t ino,
	enum cache_queue queue, uint64_t uses)
{
	if (uses > USES_MAX)
		uses = USES_MAX;
	return put_row(txn, ino, queue, use->next[queue]++, uses);
}

int cache_use_forget(struct cache_txn *txn, uint64_t ino)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "DELETE FROM used WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	return cache_db_run(&q);
}

uint64_t cache_use_end(const struct cache_use *use, enum cache_queue queue)
{
	return use->next[queue];
}

/* The place at one end of a queue; `none` if it is empty. */
static int end_place(
	struct cache_txn *txn, enum cache_queue queue, bool last, uint64_t *ret)
{
	struct cache_query q;
	int err;

	if (last)
		cache_db_begin(&q, txn,
			"SELECT place FROM used WHERE queue = ? "
			"ORDER BY place DESC LIMIT 1");
	else
		cache_db_begin(&q, txn,
			"SELECT place FROM used WHERE queue = ? "
			"ORDER BY place LIMIT 1");
	cache_db_bind_u64(&q, queue);
	err = cache_db_step(&q);
	if (err > 0)
		*ret = cache_db_u64(&q);
	return cache_db_end(&q, err < 0 ? err : 0);
}

/* Rows leave a queue at its head, but for unlinked ones: the distance of its
 * ends is its length, and that mends itself as the head moves on. */
uint64_t cache_use_length(
	struct cache_use *use, struct cache_txn *txn, enum cache_queue queue)
{
	uint64_t head = use->next[queue];

	end_place(txn, queue, false, &head);
	return use->next[queue] - head;
}

ssize_t cache_use_oldest(struct cache_txn *txn, enum cache_queue queue,
	uint64_t end, struct cache_candidate *ret, size_t max)
{
	struct cache_query q;
	size_t nr = 0;
	int err;

	assert(max > 0);
	cache_db_begin(&q, txn,
		"SELECT ino, place, uses FROM used WHERE queue = ? "
		"AND place < ? ORDER BY place LIMIT ?");
	cache_db_bind_u64(&q, queue);
	cache_db_bind_u64(&q, end);
	cache_db_bind_u64(&q, max);
	while ((err = cache_db_step(&q)) > 0 && nr < max) {
		ret[nr].ino = cache_db_u64(&q);
		ret[nr].place = cache_db_u64(&q);
		ret[nr].uses = cache_db_u64(&q);
		nr++;
	}
	err = cache_db_end(&q, err < 0 ? err : 0);
	return err != 0 ? err : (ssize_t)nr;
}

/* ---- notes to table ---- */

struct row {
	bool there;
	uint64_t queue, place, uses;
};

static int get_row(struct cache_txn *txn, uint64_t ino, struct row *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(
		&q, txn, "SELECT queue, place, uses FROM used WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	err = cache_db_step(&q);
	ret->there = err > 0;
	if (err > 0) {
		ret->queue = cache_db_u64(&q);
		ret->place = cache_db_u64(&q);
		ret->uses = cache_db_u64(&q);
	}
	return cache_db_end(&q, err < 0 ? err : 0);
}

/* `turn`: ghosts below this place are too old to count. */
static int apply(struct cache_use *u, struct cache_txn *txn, uint64_t turn,
	const struct note *n)
{
	/* The first open is why it is here. */
	uint64_t again = n->opens > 0 ? n->opens - 1 : 0;
	uint64_t uses;
	struct row row;
	int err = get_row(txn, n->ino, &row);

	if (err != 0)
		return err;
	if (!row.there)
		return cache_use_move(u, txn, n->ino, CACHE_SMALL, again);
	if (row.queue == CACHE_GHOST)
		return cache_use_move(u, txn, n->ino,
			row.place >= turn ? CACHE_MAIN : CACHE_SMALL, again);
	uses = row.uses + n->opens;
	if (uses > USES_MAX)
		uses = USES_MAX;
	if (uses == row.uses)
		return 0;
	return put_row(txn, n->ino, row.queue, row.place, uses);
}

static int apply_some(
	struct cache *cache, const struct note *notes, size_t *slot)
{
	struct cache_use *u = cache->space->use;
	struct cache_txn *txn;
	uint64_t length, turn;
	int err = cache_write(cache, &txn);

	if (err != 0)
		return err;
	length = cache_use_length(u, txn, CACHE_SMALL) +
		cache_use_length(u, txn, CACHE_MAIN);
	turn = u->next[CACHE_GHOST] > length ? u->next[CACHE_GHOST] - length
					     : 0;
	for (unsigned rows = 0;
		rows < FLUSH_ROWS && *slot < NOTES_SLOTS && err == 0; (*slot)++)
		if (notes[*slot].ino != 0) {
			err = apply(u, txn, turn, &notes[*slot]);
			rows++;
		}
	return cache_end(txn, err);
}

int cache_use_flush(struct cache *cache)
{
	struct cache_use *u = cache->space->use;
	struct note *notes = NULL, *fresh = new_notes();
	size_t slot = 0;
	int err = 0;

	base_lock(&u->mutex);
	if (u->notes_nr != 0) {
		notes = u->notes;
		u->notes = fresh;
		u->notes_nr = 0;
		fresh = NULL;
	}
	base_unlock(&u->mutex);
	free(fresh);
	while (notes != NULL && slot < NOTES_SLOTS && err == 0)
		err = apply_some(cache, notes, &slot);
	free(notes);
	return err;
}

static void flush_in_background(struct cache *cache)
{
	cache_use_flush(cache); /* an error is logged where it came up */
}

/* ---- who was missed ---- */

static int sweep_one(struct cache_use *use, struct cache_txn *txn, uint64_t ino)
{
	struct row row;
	int err = get_row(txn, ino, &row);

	if (err != 0 || (row.there && row.queue != CACHE_GHOST))
		return err;
	return cache_use_move(use, txn, ino, CACHE_SMALL, 0);
}

int cache_use_sweep(struct cache_use *use, struct cache_txn *txn,
	uint64_t *cursor, size_t max)
{
	struct cache_query q;
	uint64_t ino = 0;
	size_t nr = 0;
	int err, swept = 0;

	cache_db_begin(&q, txn,
		"SELECT ino, kind = 1 AND data > 0 FROM inode WHERE ino > ? "
		"ORDER BY ino LIMIT ?");
	cache_db_bind_u64(&q, *cursor);
	cache_db_bind_u64(&q, max);
	while (swept == 0 && (err = cache_db_step(&q)) > 0) {
		ino = cache_db_u64(&q);
		nr++;
		if (cache_db_u64(&q) != 0)
			swept = sweep_one(use, txn, ino);
	}
	err = cache_db_end(&q, swept != 0 ? swept : err < 0 ? err : 0);
	if (err == 0)
		*cursor = nr < max ? UINT64_MAX : ino;
	return err;
}

/* ---- open and close ---- */

struct cache_use *cache_use_new(struct cache *cache)
{
	struct cache_use *u = base_calloc(1, sizeof(*u));

	base_mutex_init(&u->mutex, BASE_RANK_CACHE_EVICT);
	u->notes = new_notes();
	u->bg = cache_bg_new(cache, flush_in_background);
	for (int q = 0; q < CACHE_QUEUES; q++)
		u->next[q] = 1;
	return u;
}

int cache_use_load(struct cache_use *use, struct cache_txn *txn)
{
	int err = 0;

	for (int q = 0; q < CACHE_QUEUES && err == 0; q++) {
		uint64_t last = 0;

		err = end_place(txn, q, true, &last);
		use->next[q] = last + 1;
	}
	return err;
}

void cache_use_stop(struct cache_use *use)
{
	if (use->bg != NULL)
		cache_bg_close(use->bg);
	use->bg = NULL;
}

void cache_use_free(struct cache_use *use)
{
	base_mutex_fini(&use->mutex);
	free(use->notes);
	free(use);
}
