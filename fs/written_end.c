/*
 * The end of writing.
 *
 *   W3  no writer has it open, a read lease can be had (no writable mapping),
 *       all inside the gate, so that no writer can come in between;
 *   W4  one transaction notes the last change and that it is no longer
 *       written-to.
 *   W5  such ends share transactions: nobody waits for one, but opens of the
 *       same file, at the gate.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/handle_priv.h"
#include "fs/written.h"

#define MS 1000000ll
#define PROBE_FIRST_NS (10 * MS)
#define PROBE_LAST_NS (1000 * MS) /* doubling up to here, then */
#define PROBE_SLOW_NS (5000 * MS)
/* Ends in one transaction: it is not held for long. */
#define ENDS_MAX 64

/* With the mutex held. */
static void no_longer_written(struct fs_file *f)
{
	if (!f->written)
		return;
	f->written = false;
	*f->written_prev = f->written_next;
	if (f->written_next != NULL)
		f->written_next->written_prev = f->written_prev;
	if (f->state == FS_LINGER)
		f->state = FS_IDLE;
}

/* W4.  Without `tell` the journal does not hear of it (its name cannot be in
 * the store; the data stay here). */
static int final_in(struct fs_handles *h, struct fs_file *f,
	struct cache_txn *txn, bool tell)
{
	struct cache_inode inode;
	struct cache_stamp now;
	bool changed, synced, suspect;
	int err;

	err = cache_inode_get(txn, f->ino, &inode);
	if (err < 0)
		return err;
	err = fs_fd_stamp(f->fd, &now);
	if (err < 0)
		return err;
	base_lock(&h->mutex);
	suspect = f->suspect;
	changed = !fs_stamp_eq(&now, &inode.stamp);
	synced = f->is_synced && !suspect && fs_stamp_eq(&now, &f->synced);
	base_unlock(&h->mutex);
	/* What was sent, or is just being read, may lack the last stores.
	 * Entering again what still waits would move it behind what came
	 * after its close. */
	if (inode.doubt != CACHE_SURE && !changed)
		changed = true; /* its close confirms it */
	if (suspect && !changed)
		changed = !tier_state_waits(h->m->tier, txn, &inode);
	if (changed)
		err = fs_written_note(h, &inode, f->fd);
	inode.written = false;
	if (synced)
		inode.synced_gen = inode.gen;
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	if (err == 0 && changed && tell)
		err = fs_written_tell(h, txn, &inode);
	return err;
}

static int final(struct fs_handles *h, struct fs_file *f, bool tell)
{
	struct cache_txn *txn;
	int err = cache_write(h->m->cache, &txn);

	if (err < 0)
		return err;
	err = final_in(h, f, txn, tell);
	err = cache_end(txn, err);
	return err == -ENOENT ? 0 : err;
}

static int finalise(struct fs_handles *h, struct fs_file *f)
{
	int err = final(h, f, true);

	if (err == -EINVAL || err == -ENAMETOOLONG) {
		log_error("inode %llu stays local: the store cannot have a "
			  "blob of its name",
			(unsigned long long)f->ino);
		err = final(h, f, false);
	}
	if (err < 0)
		log_error("inode %llu: cannot note the end of writing: %s",
			(unsigned long long)f->ino, strerror(-err));
	return err;
}

/* ---- one after the other, or together ---- */

static void end_locked(void *arg);

static void end_again(void *arg)
{
	struct fs_file *f = arg;

	if (fs_file_lock(f->h, f, &f->end_wait))
		end_locked(f);
}

/* Out of the gate, with the reference that fs_written_end() took. */
static void let_go(struct fs_handles *h, struct fs_file *f)
{
	fs_file_unlock(h, f);
	fs_file_put(h, f);
}

static void try_later(struct fs_handles *h, struct fs_file *f)
{
	int64_t delay = f->probe_delay_ns;

	f->probe_delay_ns = delay < PROBE_LAST_NS ? delay * 2 : PROBE_SLOW_NS;
	fs_file_unlock(h, f);
	base_after(h->m->env, delay, end_again, f);
}

static void has_ended(struct fs_handles *h, struct fs_file *f)
{
	base_lock(&h->mutex);
	no_longer_written(f);
	f->ending = false;
	base_unlock(&h->mutex);
	let_go(h, f);
}

/* All of them, or none: an error is one file's, and it is not known whose. */
static int finalise_all(struct fs_handles *h, struct fs_file *f)
{
	struct cache_txn *txn;
	int err = cache_write(h->m->cache, &txn);

	if (err < 0)
		return err;
	for (; f != NULL && err == 0; f = f->end_next)
		err = final_in(h, f, txn, true);
	return cache_end(txn, err);
}

static struct fs_file *take_ends(struct fs_handles *h)
{
	struct fs_file *first, **p;
	unsigned nr = 0;

	base_lock(&h->mutex);
	first = h->ends;
	for (p = &h->ends; *p != NULL && nr < ENDS_MAX; nr++)
		p = &(*p)->end_next;
	h->ends = *p;
	*p = NULL;
	if (h->ends == NULL)
		h->ends_tail = &h->ends;
	h->ends_posted = first != NULL;
	base_unlock(&h->mutex);
	return first;
}

static void end_many(void *arg)
{
	struct fs_handles *h = arg;
	struct fs_file *f = take_ends(h), *next;
	bool together;

	if (f == NULL)
		return;
	together = finalise_all(h, f) == 0;
	for (; f != NULL; f = next) {
		next = f->end_next;
		if (together || finalise(h, f) == 0)
			has_ended(h, f);
		else
			try_later(h, f);
	}
	tier_kick(h->m->tier);
	base_post(h->m->env, end_many, h);
}

/* Inside the gate; `ending` keeps a second one away. */
static void end_locked(void *arg)
{
	struct fs_file *f = arg;
	struct fs_handles *h = f->h;
	bool done, post;

	base_lock(&h->mutex);
	/* A new writer's release comes here again. */
	done = f->writers > 0 || !f->written;
	if (done)
		f->ending = false;
	base_unlock(&h->mutex);
	if (done) {
		let_go(h, f);
		return;
	}
	if (!fs_lease_probe(h, f->fd, F_RDLCK)) {
		try_later(h, f);
		return;
	}
	base_lock(&h->mutex);
	f->end_next = NULL;
	*h->ends_tail = f;
	h->ends_tail = &f->end_next;
	post = !h->ends_posted;
	h->ends_posted = true;
	base_unlock(&h->mutex);
	if (post)
		base_post(h->m->env, end_many, h);
}

void fs_written_end(struct fs_handles *h, struct fs_file *f)
{
	bool begin;

	base_lock(&h->mutex);
	begin = f->written && f->writers == 0 && !f->ending && !h->finished;
	if (begin) {
		f->ending = true;
		f->probe_delay_ns = PROBE_FIRST_NS;
		f->end_wait.fn = end_locked;
		f->end_wait.arg = f;
	}
	base_unlock(&h->mutex);
	if (begin)
		end_again(f);
	else
		fs_file_put(h, f);
}

/* ---- all of them, at unmount ---- */

/* Every slot ends as if it had been released. */
static void release_all(struct fs_handles *h)
{
	uint32_t nr;

	base_lock(&h->mutex);
	h->finished = true;
	nr = h->table->slots_nr;
	base_unlock(&h->mutex);
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t fh;
		bool open;
		struct fs_file *f;

		base_lock(&h->mutex);
		open = h->slots[i].open.file != NULL;
		fh = i | (uint64_t)h->table->slots[i].generation << 32;
		base_unlock(&h->mutex);
		f = open ? fs_file_release(h, fh) : NULL;
		if (f != NULL)
			fs_file_put(h, f);
	}
}

void fs_handles_finish(struct fs_handles *h)
{
	struct fs_file *f;

	release_all(h);
	fs_warm_close(h);
	for (;;) {
		base_lock(&h->mutex);
		f = h->written;
		if (f != NULL)
			fs_file_ref(f);
		base_unlock(&h->mutex);
		if (f == NULL)
			return;
		/* A mapping that outlives the mount: what it stores from now
		 * on is found by its data file's stamp. */
		if (!fs_lease_probe(h, f->fd, F_RDLCK))
			log_warn("inode %llu is still mapped for writing",
				(unsigned long long)f->ino);
		finalise(h, f);
		base_lock(&h->mutex);
		no_longer_written(f);
		base_unlock(&h->mutex);
		fs_file_put(h, f);
	}
}
