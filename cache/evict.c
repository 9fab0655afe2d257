/*
 * Eviction: what may go, and in which order it is asked.
 *
 * An inode's local bytes may go if all of this holds, looked at inside the
 * transaction that drops them:
 *	E1  a regular file with local bytes and a name
 *	E2  clean: stored, not written-to, a blob has its bytes, and no owed row
 *	    speaks of it
 *	E3  not pinned, nor below a pinned directory
 *	E4  claimed: nobody has it open, and opens wait until we are done
 *	E5  nobody has the data file open or mapped (lease probe): a mapping
 *	    made by passthrough outlives its open
 *	E6  a whole file's data file looks as it did when it was clean; if not,
 *	    somebody wrote to it unseen: it is not `stored` any more, and stays
 *	    (a part file is never opened in passthrough, only filled)
 *
 * A pass takes candidates from the heads of the queues (use.c), SMALL while it
 * is more than a tenth of all:
 *	SMALL, used twice or more since: to MAIN         else: asked
 *	MAIN, used: to its tail, one use less            else: asked
 * Who is in use goes to the tail of MAIN; who is dirty or pinned to PARKED,
 * where the uploader finishes about in the order of arrival: each pass looks at
 * the oldest there, and takes back to SMALL who is clean by now.
 *
 * A pass goes in rounds, each over what was queued when it began, so it ends; a
 * round that found nothing is followed by one that ignores uses, then by all of
 * PARKED (seldom, if that takes long), then, once, by a sweep for inodes that a
 * crash kept out of the queues.  So the work per evicted inode does not depend
 * on the size of the tables.
 */
#include "cache/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"

/* Opens beyond the first that carry an inode from SMALL to MAIN.  One more is
 * often the same program (a header, then the rest). */
#define PROMOTE_USES 2
/* MAIN rows in a row that are spared for their uses; after that one goes. */
#define SPARE_MAX 512
#define SWEEP_ROWS 4096
/* Longest time that a look at all of PARKED keeps the next one away. */
#define PARKED_PAUSE_NS 1000000000

enum verdict {
	EVICTED,
	NOT_LOCAL, /* no row, not a file, nothing local */
	DIRTY,
	PINNED,
	IN_USE,
};

/* ---- one inode ---- */

static int has_owed(struct cache_txn *txn, uint64_t ino, bool *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn, "SELECT 1 FROM owed WHERE ino = ? LIMIT 1");
	cache_db_bind_u64(&q, ino);
	err = cache_db_step(&q);
	*ret = err > 0;
	return cache_db_end(&q, err < 0 ? err : 0);
}

static bool stamps_differ(
	const struct cache_stamp *a, const struct cache_stamp *b)
{
	return a->size_bytes != b->size_bytes || a->mtime_ns != b->mtime_ns ||
		a->ctime_ns != b->ctime_ns;
}

/* E6; 0: as it was, 1: somebody wrote. */
static int check_stamp(struct cache_txn *txn, struct cache_inode *inode)
{
	struct cache_stamp now;
	int err;

	if (inode->data != CACHE_WHOLE)
		return 0;
	err = cache_data_stat(
		cache_of(txn), inode->ino, inode->serial, &now, NULL);
	if (err == -ENOENT)
		return 0; /* the file is gone: so are its bytes */
	if (err != 0)
		return err;
	if (!stamps_differ(&now, &inode->stamp))
		return 0;
	log_warn("cache: inode %" PRIu64 " was written to behind our back; "
		 "kept as changed",
		inode->ino);
	inode->stored = false;
	err = cache_inode_put(txn, inode);
	return err != 0 ? err : 1;
}

/* `stored` says that it was there once: its blob may have been overwritten
 * under a name that the file has lost.  1: it is. */
static int is_in_store(struct cache_txn *txn, const struct cache_id *content)
{
	struct cache_remote remote;
	int err;

	if (cache_id_is_none(content))
		return 1;
	err = cache_remote_holding(txn, content, NULL, &remote);
	if (err == 0)
		cache_remote_fini(&remote);
	return err == 0 ? 1 : err == -ENOENT ? 0 : err;
}

/* E1 to E3; EVICTED here means: nothing speaks against it. */
static int look(struct cache_txn *txn, uint64_t ino, struct cache_inode *inode,
	enum verdict *ret)
{
	bool owed = false, pinned = false;
	int err = cache_inode_get(txn, ino, inode);

	*ret = NOT_LOCAL;
	if (err == -ENOENT)
		return 0;
	if (err != 0 || inode->kind != CACHE_FILE || inode->data == CACHE_NONE)
		return err;
	*ret = DIRTY;
	if (!inode->stored || inode->written || inode->nlink == 0)
		return 0;
	err = has_owed(txn, ino, &owed);
	if (err != 0 || owed)
		return err;
	err = is_in_store(txn, &inode->content);
	if (err <= 0)
		return err;
	*ret = PINNED;
	err = cache_pin_get(txn, ino, &pinned);
	if (err != 0 || pinned)
		return err;
	*ret = EVICTED;
	return 0;
}

static int evict(struct cache_txn *txn, uint64_t ino, uint64_t *ret_bytes,
	enum verdict *ret)
{
	struct cache *cache = cache_of(txn);
	struct cache_inode inode;
	int err = look(txn, ino, &inode, ret);

	if (err != 0 || *ret != EVICTED)
		return err;
	*ret = IN_USE;
	err = cache_claim(txn, ino);
	if (err != 0)
		return err == -EBUSY ? 0 : err;
	err = cache_data_probe(cache, ino, inode.serial, false);
	if (err == -EBUSY)
		return 0;
	if (err != 0 && err != -ENOTSUP && err != -ENOENT)
		return err;
	*ret = DIRTY;
	err = check_stamp(txn, &inode);
	if (err != 0)
		return err > 0 ? 0 : err;
	err = cache_data_drop(txn, ino);
	if (err != 0)
		return err;
	*ret_bytes += inode.local_bytes;
	*ret = EVICTED;
	return 0;
}

int cache_evict_inode(struct cache *cache, uint64_t ino, uint64_t *ret_bytes)
{
	struct cache_txn *txn;
	enum verdict verdict;
	uint64_t bytes = 0;
	int err = cache_write(cache, &txn);

	if (err != 0)
		return err;
	err = evict(txn, ino, &bytes, &verdict);
	if (err == 0 && verdict == EVICTED)
		err = cache_use_move(
			cache->space->use, txn, ino, CACHE_GHOST, 0);
	err = cache_end(txn, err);
	if (err != 0)
		return err;
	cache_data_drain(cache);
	if (verdict == DIRTY || verdict == IN_USE)
		return -EBUSY;
	if (verdict == PINNED)
		return -EPERM;
	if (ret_bytes != NULL)
		*ret_bytes = bytes;
	return 0;
}

/* ---- a pass ---- */

struct pass {
	struct cache *cache;
	struct cache_use *use;
	bool force;		    /* uses do not protect in this round */
	uint64_t end[CACHE_QUEUES]; /* of this round */
	uint64_t evicted, bytes;    /* of this pass */
	uint64_t round_evicted;
	unsigned spared; /* for their uses, without an eviction since */
};

static void begin_round(struct pass *p, bool force)
{
	p->force = force;
	p->round_evicted = 0;
	for (int q = 0; q < CACHE_QUEUES; q++)
		p->end[q] = cache_use_end(p->use, q);
}

/* Spares it for its uses?  Then it is moved. */
static bool spare(struct pass *p, struct cache_txn *txn, enum cache_queue queue,
	const struct cache_candidate *c, int *ret_err)
{
	if (p->force || p->spared >= SPARE_MAX)
		return false;
	if (queue == CACHE_SMALL && c->uses < PROMOTE_USES)
		return false;
	if (queue == CACHE_MAIN && c->uses == 0)
		return false;
	if (queue == CACHE_MAIN)
		p->spared++;
	*ret_err = cache_use_move(p->use, txn, c->ino, CACHE_MAIN,
		queue == CACHE_SMALL ? 0 : c->uses - 1);
	return true;
}

static int ask(struct pass *p, struct cache_txn *txn, enum cache_queue queue,
	const struct cache_candidate *c)
{
	enum verdict verdict;
	int err = 0;

	if (spare(p, txn, queue, c, &err))
		return err;
	err = evict(txn, c->ino, &p->bytes, &verdict);
	if (err != 0)
		return err;
	switch (verdict) {
	case EVICTED:
		p->evicted++;
		p->round_evicted++;
		p->spared = 0;
		return cache_use_move(p->use, txn, c->ino, CACHE_GHOST, 0);
	case NOT_LOCAL:
		return cache_use_forget(txn, c->ino);
	case DIRTY:
	case PINNED:
		return cache_use_move(
			p->use, txn, c->ino, CACHE_PARKED, c->uses);
	case IN_USE:
		break;
	}
	return cache_use_move(p->use, txn, c->ino, CACHE_MAIN, c->uses);
}

/* The heads of the queue whose turn it is; 0: the round is over. */
static ssize_t candidates(struct pass *p, struct cache_txn *txn,
	struct cache_candidate *ret, enum cache_queue *ret_queue)
{
	uint64_t small = cache_use_length(p->use, txn, CACHE_SMALL);
	uint64_t main = cache_use_length(p->use, txn, CACHE_MAIN);
	enum cache_queue first =
		small >= (small + main) / 10 ? CACHE_SMALL : CACHE_MAIN;
	enum cache_queue second =
		first == CACHE_SMALL ? CACHE_MAIN : CACHE_SMALL;
	ssize_t nr;

	*ret_queue = first;
	nr = cache_use_oldest(
		txn, first, p->end[first], ret, CACHE_EVICT_BATCH);
	if (nr != 0)
		return nr;
	*ret_queue = second;
	return cache_use_oldest(
		txn, second, p->end[second], ret, CACHE_EVICT_BATCH);
}

/* One write transaction.  Stops early when `*missing` bytes are evicted. */
static int batch(struct pass *p, uint64_t missing, bool *ret_round_over)
{
	struct cache_candidate c[CACHE_EVICT_BATCH];
	uint64_t bytes = p->bytes;
	enum cache_queue queue;
	struct cache_txn *txn;
	ssize_t nr;
	int err = cache_write(p->cache, &txn);

	if (err != 0)
		return err;
	nr = candidates(p, txn, c, &queue);
	if (nr < 0)
		err = (int)nr;
	*ret_round_over = nr == 0;
	for (ssize_t i = 0; i < nr && err == 0; i++) {
		if (p->bytes - bytes >= missing)
			break;
		err = ask(p, txn, queue, &c[i]);
	}
	if (err != 0) {
		cache_abort(txn);
		return err;
	}
	err = cache_commit(txn);
	/* The room is there only when the files are gone. */
	cache_data_drain(p->cache);
	return err;
}

/* ---- who could not go before ---- */

static int ask_again(struct pass *p, struct cache_txn *txn,
	const struct cache_candidate *c, uint64_t *back)
{
	struct cache_inode inode;
	enum verdict verdict;
	int err = look(txn, c->ino, &inode, &verdict);

	if (err != 0)
		return err;
	if (verdict == NOT_LOCAL)
		return cache_use_forget(txn, c->ino);
	if (verdict == EVICTED)
		(*back)++;
	return cache_use_move(p->use, txn, c->ino,
		verdict == EVICTED ? CACHE_SMALL : CACHE_PARKED, c->uses);
}

/* The oldest of PARKED, once each up to `end`; `*back` of them may go now. */
static int unpark_some(struct pass *p, uint64_t end, uint64_t *back, bool *over)
{
	struct cache_candidate c[CACHE_EVICT_BATCH];
	struct cache_txn *txn;
	ssize_t nr;
	int err = cache_write(p->cache, &txn);

	if (err != 0)
		return err;
	nr = cache_use_oldest(txn, CACHE_PARKED, end, c, CACHE_EVICT_BATCH);
	if (nr < 0)
		err = (int)nr;
	for (ssize_t i = 0; i < nr && err == 0; i++)
		err = ask_again(p, txn, &c[i], back);
	if (err != 0) {
		cache_abort(txn);
		return err;
	}
	*over = nr < CACHE_EVICT_BATCH;
	return cache_commit(txn);
}

static int unpark_all(struct pass *p, uint64_t *back)
{
	struct cache_space_state *s = p->cache->space;
	int64_t start = base_boot_ns(p->cache->env), now, pause;
	uint64_t end = cache_use_end(p->use, CACHE_PARKED);
	bool over = false;
	int err = 0;

	if (start < atomic_load(&s->parked_ns))
		return 0;
	while (err == 0 && !over)
		err = unpark_some(p, end, back, &over);
	if (err == 0 && *back == 0) {
		now = base_boot_ns(p->cache->env);
		pause = 4 * (now - start);
		if (pause > PARKED_PAUSE_NS)
			pause = PARKED_PAUSE_NS;
		atomic_store(&s->parked_ns, now + pause);
	}
	return err;
}

/* Once in the life of a process: it reads the whole table. */
static int sweep(struct pass *p)
{
	uint64_t cursor = 0;
	struct cache_txn *txn;
	int err = 0;

	while (cursor != UINT64_MAX && err == 0) {
		err = cache_write(p->cache, &txn);
		if (err != 0)
			break;
		err = cache_use_sweep(p->use, txn, &cursor, SWEEP_ROWS);
		err = cache_end(txn, err);
	}
	return err;
}

/* What comes after a round; false: nothing more. */
static bool next_round(struct pass *p, int *ret_err)
{
	struct cache_space_state *s = p->cache->space;
	uint64_t back = 0;
	bool force = false;

	if (p->round_evicted == 0 && !p->force) {
		force = true;
	} else if (p->round_evicted == 0) {
		*ret_err = unpark_all(p, &back);
		if (*ret_err == 0 && back == 0) {
			if (s->swept)
				return false;
			s->swept = true;
			*ret_err = sweep(p);
		}
	}
	begin_round(p, force);
	return *ret_err == 0;
}

int cache_evict_pass(
	struct cache *cache, enum cache_pass_goal goal, bool *ret_exhausted)
{
	struct pass p = { .cache = cache, .use = cache->space->use };
	bool round_over, more = true;
	uint64_t missing;
	uint64_t back = 0;
	int err = cache_use_flush(cache);

	if (err == 0)
		err = unpark_some(&p, UINT64_MAX >> 1, &back, &round_over);
	begin_round(&p, false);
	while (err == 0 && more) {
		round_over = false;
		missing = cache_space_missing(cache, goal);
		if (missing == 0)
			break;
		err = batch(&p, missing, &round_over);
		if (err == 0 && round_over)
			more = next_round(&p, &err);
	}
	log_debug("cache: evicted %" PRIu64 " files, %" PRIu64 " bytes%s",
		p.evicted, p.bytes, more ? "" : "; nothing more may go");
	*ret_exhausted = !more;
	return err;
}
