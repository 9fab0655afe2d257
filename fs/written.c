/*
 * Inodes that somebody may be writing to.
 *
 * The row's `stamp` is the data file as it was when the journal last heard of
 * it.  A data file that looks different has changed.  One that looks the same
 * may have changed too, where
 *   W1  it could be mapped when the stamp was taken: a store to a page that is
 *       already dirty does not move mtime;
 *   W2  the kernel's stamps are coarse (before Linux 6.13) and this one was
 *       young.
 * Both are remembered as `suspect`, and what is suspect counts as changed once,
 * when the last writer is gone, unless its row still waits for that.  Nobody
 * was sent it before: what is written-to is sent only after a look of tier/'s
 * own.
 */
#include "fs/written.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/handle_priv.h"

#define MS 1000000ll
#define TICK_NS (1000 * MS)
/* While something is written by passthrough: what comes in between two looks
 * can exceed `cache_size`. */
#define GROWING_TICK_NS (100 * MS)
#define YOUNG_NS (20 * MS) /* longer than any kernel's tick */
#define ROOM_NS (20 * MS)

static void tick(void *arg);

/* Does each change give a new ctime (Linux 6.13 and later), or only one a
 * tick of the clock? */
static bool probe_stamps(struct fs_mount *m)
{
	struct cache_stamp last, now;
	bool fine;
	int fd = openat(cache_root_fd(m->cache), ".",
		O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return false;
	fine = fs_fd_stamp(fd, &last) == 0;
	for (int i = 0; fine && i < 8; i++) {
		fine = pwrite(fd, "x", 1, 0) == 1 &&
			fs_fd_stamp(fd, &now) == 0 &&
			now.ctime_ns != last.ctime_ns;
		last = now;
	}
	close(fd);
	return fine;
}

/* W2.  The first caller finds out what this kernel's stamps are like. */
static bool is_young(struct fs_handles *h, const struct cache_stamp *stamp)
{
	bool probed, fine;
	int64_t age_ns;

	base_lock(&h->mutex);
	probed = h->stamps_probed;
	fine = h->fine_stamps;
	base_unlock(&h->mutex);
	if (!probed) {
		fine = probe_stamps(h->m);
		base_lock(&h->mutex);
		h->stamps_probed = true;
		h->fine_stamps = fine;
		base_unlock(&h->mutex);
	}
	if (fine)
		return false;
	/* It lies ahead where somebody has put the clock back. */
	age_ns = base_wall_ns(h->m->env) - stamp->ctime_ns;
	return age_ns < YOUNG_NS && age_ns > -YOUNG_NS;
}

/* ---- the list of what is written-to ---- */

void fs_written_begin(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool rdwr, bool was_synced)
{
	bool young = is_young(h, &inode->stamp);
	bool arm = false;

	base_lock(&h->mutex);
	if (!f->written) {
		f->written = true;
		f->rdwr = false;
		f->suspect = young;
		f->entered = f->synced = inode->stamp;
		f->is_synced = was_synced;
		f->seen = inode->stamp;
		f->seen_ns = base_boot_ns(h->m->env);
		f->written_next = h->written;
		f->written_prev = &h->written;
		if (h->written != NULL)
			h->written->written_prev = &f->written_next;
		h->written = f;
		arm = !h->ticking;
		h->ticking = true;
	}
	f->rdwr |= rdwr;
	base_unlock(&h->mutex);
	if (arm)
		base_after(h->m->env, TICK_NS, tick, h);
}

/* ---- entering ---- */

bool fs_written_rests(struct fs_handles *h, struct fs_file *f,
	const struct cache_inode *inode, bool *ret_again)
{
	struct cache_stamp now;
	bool mapped;

	*ret_again = false;
	if (f->fd < 0 || fs_fd_stamp(f->fd, &now) < 0 ||
		!fs_stamp_eq(&now, &inode->stamp))
		return false;
	base_lock(&h->mutex);
	mapped = f->rdwr || f->suspect; /* W1 */
	base_unlock(&h->mutex);
	*ret_again = mapped && !fs_lease_probe(h, f->fd, F_RDLCK);
	return !*ret_again;
}

int fs_written_note(struct fs_handles *h, struct cache_inode *inode, int fd)
{
	struct cache_stamp now;
	uint64_t allocated;
	int err = fs_fd_look(fd, &now, &allocated);

	if (err < 0)
		return err;
	cache_space_note(h->m->cache, inode, allocated);
	inode->gen++;
	inode->size_bytes = now.size_bytes;
	if (now.mtime_ns != inode->stamp.mtime_ns)
		inode->mtime_ns = now.mtime_ns;
	if (now.ctime_ns > inode->ctime_ns)
		inode->ctime_ns = now.ctime_ns;
	inode->stamp = now;
	inode->stored = false;
	cache_id_new(h->m->cache, &inode->content);
	return 0;
}

int fs_written_tell(struct fs_handles *h, struct cache_txn *txn,
	const struct cache_inode *inode)
{
	struct base_str path = BASE_STR_INIT;
	int err;

	if (inode->nlink == 0 || h->m->opt.ro)
		return 0;
	err = cache_path_of(txn, inode->ino, &path);
	if (err == 0)
		err = tier_enter(
			h->m->tier, txn, path.data, inode, TIER_CONTENT, 0);
	else if (err == -ENOENT)
		err = 0;
	base_str_fini(&path);
	return err;
}

static int enter_in(struct fs_handles *h, struct fs_file *f,
	struct cache_txn *txn, struct cache_stamp *ret_now)
{
	struct cache_inode inode;
	struct cache_stamp now;
	int err;

	err = cache_inode_get(txn, f->ino, &inode);
	if (err < 0)
		return err;
	err = fs_fd_stamp(f->fd, &now);
	if (err < 0)
		return err;
	*ret_now = now;
	if (fs_stamp_eq(&now, &inode.stamp))
		return 0;
	err = fs_written_note(h, &inode, f->fd);
	*ret_now = inode.stamp;
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = fs_written_tell(h, txn, &inode);
	return err < 0 ? err : 1;
}

int fs_written_enter(struct fs_handles *h, struct fs_file *f)
{
	struct cache_stamp now;
	struct cache_txn *txn;
	bool same, young, synced;
	int err;

	err = fs_fd_stamp(f->fd, &now);
	if (err < 0)
		return err;
	base_lock(&h->mutex);
	same = fs_stamp_eq(&now, &f->entered);
	base_unlock(&h->mutex);
	if (same)
		return 0;
	err = cache_write(h->m->cache, &txn);
	if (err < 0)
		return err;
	err = enter_in(h, f, txn, &now);
	if (err <= 0) {
		cache_abort(txn);
		if (err == -ENOENT)
			return 0;
	} else {
		err = cache_commit(txn);
	}
	if (err < 0)
		return err;
	young = is_young(h, &now);
	base_lock(&h->mutex);
	f->entered = now;
	synced = f->is_synced && fs_stamp_eq(&now, &f->synced);
	/* W1, unless an fsync has just cleaned its pages. */
	f->suspect |= young || (f->rdwr && !synced);
	base_unlock(&h->mutex);
	/* It was fsynced before it entered: what comes after must not pass
	 * it. */
	if (synced)
		tier_mark_sync(h->m->tier);
	tier_kick(h->m->tier);
	return 0;
}

/* ---- once a second, or oftener while something grows ---- */

/* A file as the tick saw it. */
struct look {
	struct fs_file *file;
	bool account, enter;
};

static void look_at(struct fs_handles *h, struct look *look, int64_t now_ns)
{
	struct fs_file *f = look->file;
	struct cache_stamp now;

	if (fs_fd_stamp(f->fd, &now) < 0)
		return;
	base_lock(&h->mutex);
	if (!fs_stamp_eq(&now, &f->seen)) {
		f->seen = now;
		f->seen_ns = now_ns;
		look->account = true;
	} else if (now_ns - f->seen_ns >= h->m->opt.writeback_open_ns) {
		look->enter = !fs_stamp_eq(&now, &f->entered);
	}
	if (now.size_bytes > f->entered.size_bytes)
		h->writing_bytes += now.size_bytes - f->entered.size_bytes;
	base_unlock(&h->mutex);
}

static void account(struct fs_handles *h, const struct look *looks, size_t nr)
{
	struct cache_txn *txn;
	int err = cache_write(h->m->cache, &txn);

	if (err < 0)
		return;
	for (size_t i = 0; err >= 0 && i < nr; i++) {
		if (looks[i].account)
			err = cache_space_account(txn, looks[i].file->ino);
		if (err == -ENOENT)
			err = 0;
	}
	cache_end(txn, err);
}

static struct look *all_written(struct fs_handles *h, size_t *ret_nr)
{
	struct look *looks = NULL;
	size_t nr = 0, cap = 0;

	base_lock(&h->mutex);
	for (struct fs_file *f = h->written; f != NULL; f = f->written_next) {
		if (nr == cap) {
			cap = cap ? cap * 2 : 16;
			looks = base_realloc(looks, cap * sizeof(*looks));
		}
		memset(&looks[nr], 0, sizeof(looks[nr]));
		looks[nr++].file = f;
		fs_file_ref(f);
	}
	h->writing_bytes = 0;
	h->ticking = nr > 0 && !h->finished;
	base_unlock(&h->mutex);
	*ret_nr = nr;
	return looks;
}

static void tick(void *arg)
{
	struct fs_handles *h = arg;
	int64_t now_ns = base_boot_ns(h->m->env);
	bool changed = false, again;
	struct look *looks;
	size_t nr;

	looks = all_written(h, &nr);
	base_lock(&h->mutex);
	again = h->ticking;
	base_unlock(&h->mutex);
	for (size_t i = 0; again && i < nr; i++) {
		look_at(h, &looks[i], now_ns);
		changed |= looks[i].account;
	}
	if (changed)
		account(h, looks, nr);
	for (size_t i = 0; i < nr; i++) {
		if (looks[i].enter)
			fs_written_enter(h, looks[i].file);
		fs_file_put(h, looks[i].file);
	}
	free(looks);
	if (again)
		base_after(h->m->env, changed ? GROWING_TICK_NS : TICK_NS, tick,
			h);
}

/* ---- room ---- */

bool fs_written_may_write(struct fs_handles *h)
{
	struct tier_status status = { 0 };
	int64_t now = base_boot_ns(h->m->env);
	uint64_t bytes;
	bool ask, ret;

	base_lock(&h->mutex);
	ask = h->room_asked_ns == 0 || now - h->room_asked_ns >= ROOM_NS;
	if (ask)
		h->room_asked_ns = now;
	ret = h->may_write;
	bytes = h->writing_bytes;
	base_unlock(&h->mutex);
	if (!ask)
		return ret;
	if (tier_status(h->m->tier, &status) < 0)
		return ret;
	ret = cache_space_may_write(h->m->cache, status.dirty_bytes + bytes);
	base_lock(&h->mutex);
	h->may_write = ret;
	base_unlock(&h->mutex);
	return ret;
}
