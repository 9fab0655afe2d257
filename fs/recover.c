/* What was left behind: see recover.h. */
#include "fs/recover.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/handle_priv.h"
#include "fs/notify.h"
#include "fs/written.h"

/* ---- lists of inodes ---- */

struct inos {
	uint64_t *list;
	size_t nr, cap;
};

static int add_ino(void *arg, uint64_t ino)
{
	struct inos *inos = arg;

	if (inos->nr == inos->cap) {
		inos->cap = inos->cap ? inos->cap * 2 : 16;
		inos->list = base_realloc(
			inos->list, inos->cap * sizeof(*inos->list));
	}
	inos->list[inos->nr++] = ino;
	return 0;
}

typedef int (*each_fn)(struct cache_txn *txn, cache_ino_fn each, void *arg);

static void find_inos(struct fs_handles *h, each_fn each, struct inos *ret)
{
	struct cache_txn *txn;

	memset(ret, 0, sizeof(*ret));
	if (cache_read(h->m->cache, &txn) < 0)
		return;
	each(txn, add_ino, ret);
	cache_abort(txn);
}

/* ---- open handles ---- */

/* A row that an open handle can belong to. */
static int get_row(struct cache_txn *txn, uint64_t ino, struct cache_inode *ret)
{
	int err = cache_inode_get(txn, ino, ret);

	return err == 0 && ret->kind != CACHE_FILE ? -EINVAL : err;
}

/* The slot is open again.  Before any other thread knows of the table. */
static void adopt(
	struct fs_handles *h, uint32_t nr, const struct cache_inode *inode)
{
	struct fs_table_slot *kept = &h->table->slots[nr];
	struct fs_file *f = fs_handles_find(h, kept->ino);
	uint32_t flags = kept->flags;

	if (f == NULL)
		f = fs_handles_add(h, kept->ino);
	if (f->opens == 0) {
		f->backing_id = kept->backing_id;
		f->state = kept->backing_id > 0 ? FS_PASS : FS_SERVED;
		f->whole = inode->data == CACHE_WHOLE;
	}
	fs_file_ref(f);
	f->opens++;
	f->writers += (flags & FS_SLOT_WRITE) != 0;
	h->slots[nr].open = (struct fs_open){ .file = f,
		.write = (flags & FS_SLOT_WRITE) != 0,
		.direct = (flags & FS_SLOT_DIRECT) != 0 };
}

static void attach_slots(struct fs_handles *h, struct cache_txn *txn)
{
	struct fs_table_slot *kept = h->table->slots;
	struct cache_inode inode;
	int err;

	for (uint32_t nr = h->table->slots_nr; nr-- > 0;) {
		if (!(kept[nr].flags & FS_SLOT_OPEN))
			continue;
		err = get_row(txn, kept[nr].ino, &inode);
		if (err == 0) {
			adopt(h, nr, &inode);
			continue;
		}
		log_error("inode %llu is open and not in the index: %s",
			(unsigned long long)kept[nr].ino, strerror(-err));
		kept[nr].flags = 0;
	}
	for (uint32_t nr = h->table->slots_nr; nr-- > 0;)
		if (!(kept[nr].flags & FS_SLOT_OPEN))
			fs_slot_free(h, nr);
}

/* What writes come through is open from now on; other descriptors are opened
 * when they are asked for. */
static void open_fds(struct fs_handles *h, struct cache_txn *txn)
{
	struct cache_inode inode;
	int err;

	for (uint32_t nr = 0; nr < h->table->slots_nr; nr++) {
		struct fs_open *open = &h->slots[nr].open;
		struct fs_file *f = open->file;

		if (f == NULL || !open->write)
			continue;
		err = get_row(txn, f->ino, &inode);
		if (err == 0)
			err = fs_file_fd(h, f, inode.serial, false);
		if (err >= 0 && (f->state == FS_SERVED || open->direct))
			err = fs_file_wfd(h, f, inode.serial);
		if (err < 0)
			log_error("inode %llu is open for writing: %s",
				(unsigned long long)f->ino, strerror(-err));
	}
}

/* ---- backing ids ---- */

static int by_number(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

/* T3: what was given and never written down is closed; so is what was being
 * closed.  Closing what is not there does no harm. */
static void close_lost_ids(struct fs_handles *h)
{
	struct fs_table *t = h->table;
	int32_t *ids = base_calloc(t->slots_nr + 1, sizeof(*ids));
	size_t nr = 0;

	for (uint32_t i = 0; i < t->slots_nr; i++) {
		if (t->slots[i].flags & FS_SLOT_OPEN)
			ids[nr++] = t->slots[i].backing_id;
	}
	qsort(ids, nr, sizeof(*ids), by_number);
	for (uint32_t i = 0; i < t->slots_nr; i++) {
		int32_t id = t->slots[i].backing_id;

		if ((t->slots[i].flags & FS_SLOT_CLOSING) &&
			bsearch(&id, ids, nr, sizeof(*ids), by_number) == NULL)
			fs_backing_close(h, id);
	}
	for (int64_t i = -FS_TABLE_IDS_LOST; i <= FS_TABLE_IDS_LOST; i++) {
		/* They are given in a circle. */
		int32_t id = (int32_t)((t->last_id + i) & INT_MAX);

		if (bsearch(&id, ids, nr, sizeof(*ids), by_number) == NULL)
			fs_backing_close(h, id);
	}
	free(ids);
}

/* ---- nodes without a name ---- */

/* A fresh mount: the kernel knows none. */
static int drop_held(struct fs_handles *h)
{
	struct inos held;
	struct cache_txn *txn;
	bool gone;
	int err = 0;

	find_inos(h, cache_held_each, &held);
	if (held.nr > 0)
		err = cache_write(h->m->cache, &txn);
	if (held.nr > 0 && err == 0) {
		for (size_t i = 0; i < held.nr && err == 0; i++)
			err = cache_held_put(txn, held.list[i], false, &gone);
		err = cache_end(txn, err);
	}
	free(held.list);
	return err;
}

static void keep_held(struct fs_handles *h)
{
	struct inos held;

	find_inos(h, cache_held_each, &held);
	for (size_t i = 0; i < held.nr; i++)
		fs_handles_nameless(h, held.list[i], true);
	free(held.list);
}

int fs_handles_attach(struct fs_handles *h, bool again)
{
	struct cache_txn *txn;
	int err;

	if (!again)
		return h->m->opt.ro ? 0 : drop_held(h);
	err = cache_read(h->m->cache, &txn);
	if (err < 0)
		return err;
	fs_slots_grow(h, h->table->slots_nr);
	close_lost_ids(h);
	attach_slots(h, txn);
	open_fds(h, txn);
	cache_abort(txn);
	keep_held(h);
	return 0;
}

/* Those that a dead worker was told to forget stay only until now. */
void fs_handles_probe(struct fs_handles *h)
{
	struct inos held;

	find_inos(h, cache_held_each, &held);
	for (size_t i = 0; i < held.nr; i++)
		fs_notify_probe(h->m->notify, held.list[i]);
	free(held.list);
}

/* ---- written-to ---- */

static void recover_one(struct fs_handles *h, uint64_t ino)
{
	struct fs_wait nobody = { 0 };
	struct fs_file *f = fs_file_get(h, ino, &nobody);
	struct cache_inode inode;
	struct cache_txn *txn;
	int err = cache_read(h->m->cache, &txn);

	assert(f != NULL); /* nothing is claimed before the first request */
	if (err == 0) {
		err = cache_inode_get(txn, ino, &inode);
		cache_abort(txn);
	}
	if (err == 0)
		err = fs_file_fd(h, f, inode.serial, false);
	if (err < 0) {
		log_error("inode %llu was being written: %s",
			(unsigned long long)ino, strerror(-err));
		fs_file_put(h, f);
		return;
	}
	fs_written_begin(h, f, &inode, true, false);
	base_lock(&h->mutex);
	f->suspect = true;
	if (f->opens == 0)
		f->state = FS_LINGER;
	base_unlock(&h->mutex);
	fs_written_end(h, f);
}

void fs_handles_recover(struct fs_handles *h)
{
	struct inos written;

	find_inos(h, cache_written_each, &written);
	for (size_t i = 0; i < written.nr; i++)
		recover_one(h, written.list[i]);
	free(written.list);
}
