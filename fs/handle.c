/*
 * Open inodes, and how the kernel may use them.
 *
 * States of an inode (enum fs_state):
 *
 *	from     event                           to       what happens
 *	-        claim(), nothing mapped         CLAIMED  requests wait
 *	CLAIMED  unclaim()                       -        they go on
 *	-        fs_file_get()                   IDLE     claim() fails
 *	IDLE     open, whole, passthrough        PASS     backing id made
 *	IDLE     open, otherwise                 SERVED
 *	LINGER   open                            PASS     new backing id
 *	PASS     open                            PASS     same backing id
 *	SERVED   open                            SERVED   also when whole by now
 *	PASS     last release, not written-to    IDLE     id kept for a while
 *	SERVED   last release                    IDLE
 *	PASS     last release, written-to        LINGER   id closed
 *	LINGER   read lease can be had           IDLE     no longer written-to
 *	IDLE     last reference put              -        id to warm.c
 *	-        open for reading, id in warm.c  PASS     same backing id
 *
 * Invariants, numbered as the tests name them:
 *   H1  An inode is PASS or SERVED from its first open until its last
 *       release.  A served mapping keeps its open (the kernel sends RELEASE
 *       at munmap), one made in passthrough does not: it is the data file's
 *       own and may live beside any later open of the same data file.
 *   H2  PASS has exactly one backing id, shared by all its opens.
 *   H3  A data file that is not whole is never given to the kernel.
 *   H4  claim() succeeds only if there is no reference, no written-to state,
 *       and a write lease can be had (no mapping).
 *   H5  No writable descriptor of ours is open when a read lease is asked
 *       for: wfd exists only while an open writer's writes come to us.
 *   H6  fd stays open while there is a reference or a written-to state.
 */
#include "fs/handle_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

/* ---- the table ---- */

static struct fs_file **bucket(struct fs_handles *h, uint64_t ino)
{
	return &h->buckets[(ino * 0x9e3779b97f4a7c15ull >> 40) &
		(FS_BUCKETS - 1)];
}

struct fs_file *fs_handles_find(struct fs_handles *h, uint64_t ino)
{
	struct fs_file *f = *bucket(h, ino);

	while (f != NULL && f->ino != ino)
		f = f->hash_next;
	return f;
}

struct fs_file *fs_handles_add(struct fs_handles *h, uint64_t ino)
{
	struct fs_file *f = base_calloc(1, sizeof(*f));

	f->ino = ino;
	f->h = h;
	f->fd = f->wfd = -1;
	f->gate_tail = &f->gate_head;
	f->hash_next = *bucket(h, ino);
	*bucket(h, ino) = f;
	return f;
}

static void file_remove(struct fs_handles *h, struct fs_file *f)
{
	struct fs_file **p = bucket(h, f->ino);

	while (*p != f)
		p = &(*p)->hash_next;
	*p = f->hash_next;
}

/* ---- claims ---- */

static void run_waiters(struct fs_handles *h, struct fs_wait *w)
{
	while (w != NULL) {
		struct fs_wait *next = w->next;

		base_post(h->m->env, w->fn, w->arg);
		w = next;
	}
}

void fs_handles_unclaim(void *arg, uint64_t ino)
{
	struct fs_handles *h = arg;
	struct fs_wait *waiters;
	struct fs_file *f;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	assert(f != NULL && f->state == FS_CLAIMED);
	file_remove(h, f);
	base_unlock(&h->mutex);
	waiters = f->claim_waiters;
	free(f);
	run_waiters(h, waiters);
}

bool fs_handles_claim(void *arg, uint64_t ino)
{
	struct fs_handles *h = arg;
	struct cache_inode inode;
	struct cache_txn *txn;
	struct fs_file *f;
	struct fs_id id = FS_ID_NONE;
	int err;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	if (f == NULL) {
		fs_handles_add(h, ino)->state = FS_CLAIMED;
		id = fs_warm_take(h, ino);
	}
	base_unlock(&h->mutex);
	if (f != NULL)
		return false;
	fs_id_close(h, id);
	if (h->m->tier != NULL && tier_fetching(h->m->tier, ino)) {
		fs_handles_unclaim(h, ino);
		return false;
	}

	/* The caller is inside a write transaction; what was committed before
	 * it is enough to know the data file. */
	err = cache_read(h->m->cache, &txn);
	if (err == 0) {
		err = cache_inode_get(txn, ino, &inode);
		cache_abort(txn);
	}
	if (err == 0 && inode.kind == CACHE_FILE && inode.data != CACHE_NONE &&
		!fs_unmapped(h, ino, inode.serial))
		err = -EBUSY;
	if (err == 0 || err == -ENOENT)
		return true;
	fs_handles_unclaim(h, ino);
	return false;
}

bool fs_handles_in_use(struct fs_handles *h, uint64_t ino)
{
	struct fs_file *f;
	bool ret;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	ret = f != NULL && (f->refs > 0 || f->written);
	base_unlock(&h->mutex);
	return ret;
}

/* With the mutex: takes the id of an inode that nobody has open away, to be
 * closed (W5). */
static struct fs_id cold_id(
	struct fs_handles *h, struct fs_file *f, uint64_t ino)
{
	struct fs_id id = fs_warm_take(h, ino);

	if (f != NULL && f->opens == 0 && f->backing_id != 0) {
		assert(id.id == 0);
		id = (struct fs_id){ f->backing_id, f->id_slot };
		f->backing_id = 0;
	}
	return id;
}

void fs_handles_nameless(struct fs_handles *h, uint64_t ino, bool nameless)
{
	struct fs_file *f;
	struct fs_id id = FS_ID_NONE;
	bool put = false;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	if (nameless)
		id = cold_id(h, f, ino);
	if (f == NULL && nameless)
		f = fs_handles_add(h, ino);
	if (f != NULL && f->state != FS_CLAIMED && f->node != nameless &&
		!h->finished) {
		f->node = nameless;
		put = !nameless;
		if (nameless)
			fs_file_ref(f);
	}
	base_unlock(&h->mutex);
	fs_id_close(h, id);
	if (put)
		fs_file_put(h, f);
}

bool fs_handles_forget(struct fs_handles *h, uint64_t ino)
{
	struct fs_file *f;
	bool node = false, last = false;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	if (f != NULL && f->state != FS_CLAIMED) {
		node = f->node;
		f->node = false;
		last = node && f->refs == 1 && !f->written;
		/* Else the last one who has it drops the row. */
		f->forgotten = !last;
	}
	base_unlock(&h->mutex);
	if (node)
		fs_file_put(h, f);
	return f == NULL || last;
}

/* ---- references and the gate ---- */

struct fs_file *fs_file_get(
	struct fs_handles *h, uint64_t ino, struct fs_wait *wait)
{
	struct fs_file *f;
	struct fs_id id;

	base_lock(&h->mutex);
	f = fs_handles_find(h, ino);
	id = cold_id(h, f, ino);
	if (f == NULL)
		f = fs_handles_add(h, ino);
	if (f->state == FS_CLAIMED) {
		wait->next = f->claim_waiters;
		f->claim_waiters = wait;
		f = NULL;
	} else {
		fs_file_ref(f);
	}
	base_unlock(&h->mutex);
	fs_id_close(h, id);
	return f;
}

void fs_file_hold(struct fs_handles *h, struct fs_file *f)
{
	base_lock(&h->mutex);
	fs_file_ref(f);
	base_unlock(&h->mutex);
}

struct drop {
	struct fs_mount *m;
	uint64_t ino;
};

static void drop_task(void *arg)
{
	struct drop *drop = arg;

	fs_drop_held(drop->m, drop->ino);
	free(drop);
}

void fs_file_put(struct fs_handles *h, struct fs_file *f)
{
	struct drop *drop;
	struct fs_id id = FS_ID_NONE;
	bool gone, post;

	base_lock(&h->mutex);
	assert(f->refs > 0);
	gone = --f->refs == 0 && !f->written;
	if (gone) {
		assert(f->state == FS_IDLE && !f->gate);
		file_remove(h, f);
		if (f->backing_id != 0)
			id = fs_warm_put(h, f->ino,
				(struct fs_id){ f->backing_id, f->id_slot });
	}
	post = gone && f->forgotten && !h->finished;
	base_unlock(&h->mutex);
	if (!gone)
		return;
	fs_handles_close_fd(h, f->fd);
	fs_id_close(h, id);
	if (post) {
		drop = base_malloc(sizeof(*drop));
		drop->m = h->m;
		drop->ino = f->ino;
		base_post(h->m->env, drop_task, drop);
	}
	free(f);
}

bool fs_file_lock(struct fs_handles *h, struct fs_file *f, struct fs_wait *wait)
{
	bool ours;

	base_lock(&h->mutex);
	ours = !f->gate;
	if (ours) {
		f->gate = true;
	} else {
		wait->next = NULL;
		*f->gate_tail = wait;
		f->gate_tail = &wait->next;
	}
	base_unlock(&h->mutex);
	return ours;
}

void fs_file_unlock(struct fs_handles *h, struct fs_file *f)
{
	struct fs_wait *w;

	base_lock(&h->mutex);
	w = f->gate_head;
	if (w != NULL) {
		f->gate_head = w->next;
		if (f->gate_head == NULL)
			f->gate_tail = &f->gate_head;
	} else {
		f->gate = false;
	}
	base_unlock(&h->mutex);
	if (w != NULL)
		base_post(h->m->env, w->fn, w->arg);
}

/* ---- opening ---- */

static int slot_new(struct fs_handles *h, struct fs_file *f, bool write,
	uint64_t request, uint64_t *ret_fh)
{
	uint32_t nr;
	int err = fs_slot_find(h, &nr);

	if (err < 0)
		return err;
	h->table->slots[nr].backing_id = 0;
	fs_slot_begin(h, f, nr, write, request, ret_fh);
	return 0;
}

static struct fs_slot *slot_of(struct fs_handles *h, uint64_t fh)
{
	uint32_t nr = (uint32_t)fh;

	if (nr >= h->table->slots_nr || h->slots[nr].open.file == NULL ||
		h->table->slots[nr].generation != fh >> 32)
		return NULL;
	return &h->slots[nr];
}

int fs_file_of(struct fs_handles *h, uint64_t fh, struct fs_open *ret)
{
	struct fs_slot *slot;
	int err = -EBADF;

	base_lock(&h->mutex);
	slot = slot_of(h, fh);
	if (slot != NULL) {
		*ret = slot->open;
		fs_file_ref(ret->file);
		err = 0;
	}
	base_unlock(&h->mutex);
	return err;
}

/* Did the kernel's pages come from this content?  Remembers it. */
static bool same_pages(struct fs_handles *h, const struct cache_inode *inode)
{
	struct fs_kept *kept = &h->kept[inode->ino & (FS_KEEP_SLOTS - 1)];
	bool same;

	base_lock(&h->mutex);
	same = kept->ino == inode->ino && !inode->written &&
		cache_id_eq(&kept->content, &inode->content) &&
		!cache_id_is_none(&inode->content);
	kept->ino = inode->ino;
	kept->content = inode->content;
	base_unlock(&h->mutex);
	return same;
}

/* The descriptors and the id that this open needs. */
static int prepare(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool write, bool wait_writes,
	bool *pass)
{
	int err = 0;

	if (write)
		err = fs_file_fd(h, f, inode->serial, false);
	if (err >= 0 && *pass && f->backing_id == 0) {
		err = fs_begin_pass(h, f, inode->serial);
		*pass = err == 1;
	}
	/* A file of which nothing is local may have no data file yet. */
	if (err >= 0 && !*pass && inode->data != CACHE_NONE)
		err = fs_file_fd(h, f, inode->serial, false);
	if (err >= 0 && write && (!*pass || wait_writes))
		err = fs_file_wfd(h, f, inode->serial);
	return err < 0 ? err : 0;
}

static void fill(uint32_t flags, int backing_id, struct fuse_file_info *fi)
{
	fi->backing_id = backing_id;
	fi->noflush = (flags & FS_SLOT_WRITE) == 0;
	fi->direct_io = (flags & FS_SLOT_DIRECT) != 0;
	fi->parallel_direct_writes = 1;
}

int fs_file_open(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool wait_writes, uint64_t request,
	struct fuse_file_info *fi)
{
	bool write = fs_opens_to_write(fi);
	uint32_t flags = FS_SLOT_OPEN | (write ? FS_SLOT_WRITE : 0);
	struct fs_table_slot *kept;
	bool pass;
	uint64_t fh = 0;
	int err;

	/* The open is counted first: so nobody ends the state under it. */
	base_lock(&h->mutex);
	err = h->finished ? -ENOTCONN : slot_new(h, f, write, request, &fh);
	pass = f->state == FS_PASS ||
		(f->state != FS_SERVED && h->m->passthrough && !h->no_pass &&
			inode->data == CACHE_WHOLE);
	base_unlock(&h->mutex);
	if (err < 0)
		return err;
	err = prepare(h, f, inode, write, wait_writes, &pass);
	if (err < 0) {
		fs_file_put(h, fs_file_release(h, fh));
		return err;
	}

	base_lock(&h->mutex);
	f->state = pass ? FS_PASS : FS_SERVED;
	f->whole = inode->data == CACHE_WHOLE;
	if (pass && write && wait_writes) {
		slot_of(h, fh)->open.direct = true;
		flags |= FS_SLOT_DIRECT;
	}
	kept = &h->table->slots[(uint32_t)fh];
	kept->backing_id = pass ? f->backing_id : 0;
	kept->flags = flags; /* T1 */
	fill(flags, kept->backing_id, fi);
	base_unlock(&h->mutex);
	fi->fh = fh;
	fi->keep_cache = !pass && same_pages(h, inode);
	return 0;
}

bool fs_file_opened(struct fs_handles *h, uint64_t request, uint64_t *ret_ino,
	struct fuse_file_info *fi)
{
	bool found = false;

	base_lock(&h->mutex);
	for (uint32_t nr = 0; nr < h->table->slots_nr && !found; nr++) {
		struct fs_table_slot *kept = &h->table->slots[nr];

		if (kept->request != request || !(kept->flags & FS_SLOT_OPEN))
			continue;
		found = true;
		*ret_ino = kept->ino;
		fi->fh = nr | (uint64_t)kept->generation << 32;
		fill(kept->flags, kept->backing_id, fi);
	}
	base_unlock(&h->mutex);
	return found;
}

struct fs_file *fs_file_release(struct fs_handles *h, uint64_t fh)
{
	uint32_t nr = (uint32_t)fh;
	struct fs_slot *slot;
	struct fs_file *f = NULL;
	struct fs_id id = FS_ID_NONE;
	bool idle = false;
	int wfd = -1;

	base_lock(&h->mutex);
	slot = slot_of(h, fh);
	if (slot != NULL) {
		f = slot->open.file;
		f->opens--;
		f->writers -= slot->open.write;
		slot->open.file = NULL;
		if (f->writers == 0) {
			wfd = f->wfd;
			f->wfd = -1;
		}
		idle = f->opens == 0;
		if (idle && f->backing_id != 0) {
			h->table->slots[nr].flags = FS_SLOT_CLOSING; /* T2 */
			f->id_slot = nr;
			if (f->written || f->node || !f->whole || h->finished)
				id = cold_id(h, f, f->ino);
		} else {
			fs_slot_free(h, nr);
		}
		if (idle) {
			f->state = f->written ? FS_LINGER : FS_IDLE;
			f->whole = false;
		}
	}
	base_unlock(&h->mutex);
	fs_handles_close_fd(h, wfd);
	fs_id_close(h, id);
	return f;
}

/* ---- begin and end ---- */

struct fs_handles *fs_handles_new(struct fs_mount *m, struct fs_table *table)
{
	struct fs_handles *h = base_calloc(1, sizeof(*h));
	struct rlimit limit = { 1024, 1024 };

	h->m = m;
	h->table = table;
	base_mutex_init(&h->mutex, BASE_RANK_FS_HANDLE);
	h->free_slot = UINT32_MAX;
	h->ends_tail = &h->ends;
	h->may_write = true;
	getrlimit(RLIMIT_NOFILE, &limit);
	h->fds_max = limit.rlim_cur > 2 * FS_FDS_KEPT
		? (unsigned)(limit.rlim_cur < 1u << 30 ? limit.rlim_cur
						       : 1u << 30) -
			FS_FDS_KEPT
		: (unsigned)limit.rlim_cur / 2;
	return h;
}

void fs_handles_free(struct fs_handles *h)
{
	if (h == NULL)
		return;
	for (size_t i = 0; i < FS_BUCKETS; i++) {
		while (h->buckets[i] != NULL) {
			struct fs_file *f = h->buckets[i];

			h->buckets[i] = f->hash_next;
			if (f->fd >= 0)
				close(f->fd);
			if (f->wfd >= 0)
				close(f->wfd);
			free(f);
		}
	}
	free(h->slots);
	base_mutex_fini(&h->mutex);
	free(h);
}
