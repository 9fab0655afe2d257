/*
 * Files are made, written to and closed: what fs/op_open.c, fs/op_ready.c and
 * fs/written.c do.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/model/local.h"

/* ---- writing ---- */

static struct handle *free_handle(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (!m->handles[i].used)
			return &m->handles[i];
	}
	return NULL;
}

static void touch(struct model *m, int fd)
{
	int64_t now = base_wall_ns(menv_base(m->env));
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT },
		{ now / S, now % S } };

	assert(futimens(fd, ts) == 0);
}

size_t local_text(struct model *m, struct rnd *r, char *buf, size_t size)
{
	int n = snprintf(buf, size, "L%06llu.", (unsigned long long)++m->texts);

	for (uint64_t more = rnd_below(r, 40); more > 0; more--)
		buf[n++] = (char)('a' + (more % 26));
	return (size_t)n;
}

/* What the data file of a handle holds is a state of the file. */
static int take_version(struct model *m, struct handle *h)
{
	char head[4096];
	struct stat st;
	ssize_t n = pread(h->fd, head, sizeof(head), 0);

	assert(n >= 0 && fstat(h->fd, &st) == 0);
	h->version =
		version_add(m, head, (size_t)n, (uint64_t)st.st_size, false);
	return h->version;
}

/* One write of a program; a long one is two, and torn in between. */
static void write_some(struct model *m, struct handle *h, struct rnd *r)
{
	char text[256];
	size_t len = local_text(m, r, text, sizeof(text));
	struct stat st;
	off_t at = 0;

	assert(fstat(h->fd, &st) == 0);
	if (st.st_size < 2000 && rnd_pct(r, 30))
		at = st.st_size; /* append */
	else if (st.st_size > 8 && rnd_pct(r, 20))
		at = 8;
	h->dirty = true;
	h->version = -1;
	count(m, COUNT_IN_PLACE);
	if (h->opened_ns + 5 * S < m->now_ns)
		count(m, COUNT_HELD_OPEN);
	if (rnd_pct(r, 30)) {
		assert(pwrite(h->fd, text, len / 2, at) >= 0);
		touch(m, h->fd);
		model_run(m, (int64_t)rnd_below(r, 300) * MS);
		if (m->failed)
			return;
		assert(pwrite(h->fd, text + len / 2, len - len / 2,
			       at + (off_t)(len / 2)) >= 0);
	} else {
		assert(pwrite(h->fd, text, len, at) >= 0);
	}
	if (rnd_pct(r, 15)) {
		assert(fstat(h->fd, &st) == 0);
		if (st.st_size > 16 && st.st_size < 5000)
			assert(ftruncate(h->fd, st.st_size - 7) == 0);
		count(m, COUNT_TRUNCATE);
	}
	if ((m->profile & WITH_LARGE) && rnd_pct(r, 25)) {
		static const off_t sizes[] = { (1 << 20) + 100, 8 << 20,
			(8 << 20) + 4096, (16 << 20) + 1 };

		assert(ftruncate(h->fd, sizes[rnd_below(r, 4)]) == 0);
	}
	touch(m, h->fd);
	take_version(m, h);
}

/* FLUSH: fs_written_enter(). */
void local_flush(struct model *m, struct handle *h)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_inode inode;
	struct cache_txn *txn;
	struct change *c = NULL;
	uint64_t allocated;
	int err;

	if (!h->dirty)
		return;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, h->ino, &inode);
	if (err == 0)
		err = cache_data_stat(m->cache, h->ino, inode.serial,
			&inode.stamp, &allocated);
	inode.gen++;
	inode.size_bytes = inode.stamp.size_bytes;
	inode.mtime_ns = inode.stamp.mtime_ns;
	inode.stored = false;
	cache_id_new(m->cache, &inode.content);
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = cache_space_account(txn, h->ino);
	if (err == 0 && inode.nlink > 0 &&
		cache_path_of(txn, h->ino, &path) == 0) {
		c = note_change(
			m, txn, path.data, CACHE_FILE, h->ino, h->version);
		c->open = true;
		if (h->seen != -2) /* of an earlier life */
			c->seen = h->seen;
		err = tier_enter(
			m->tier, txn, path.data, &inode, TIER_CONTENT, 0);
		if (err == 0)
			note_epoch(txn, c);
	}
	note_ino(m, h->ino, h->version);
	model_say(m, "    flush ino %llu v%d %s epoch %llu",
		(unsigned long long)h->ino, h->version,
		path.data ? path.data : "(no name)",
		c ? (unsigned long long)c->epoch : 0ULL);
	h->dirty = false;
	base_str_fini(&path);
	local_commit(m, txn, err, "flush");
}

/* RELEASE of the last writer: final(). */
static void end_handle(struct model *m, struct handle *h)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	bool gone;
	int err;

	/* After a power cut the close says that it is as it should be. */
	assert(cache_read(m->cache, &txn) == 0);
	if (cache_inode_get(txn, h->ino, &inode) == 0 &&
		inode.doubt != CACHE_SURE)
		h->dirty = true;
	cache_abort(txn);
	local_flush(m, h);
	if (m->failed)
		return;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, h->ino, &inode);
	inode.written = false;
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	h->used = false;
	close(h->fd);
	if (err == 0 && inode.nlink == 0)
		err = cache_held_put(
			txn, h->ino, local_is_open(m, h->ino), &gone);
	for (size_t i = m->changes_nr; i-- > 0;) {
		struct change *c = &m->changes[i];

		if (c->ino != h->ino || c->kind != CACHE_FILE || !c->open)
			continue;
		c->open = false;
		c->left = m->now_ns - c->at_ns > 1900 * MS;
		c->epoch = 0; /* it may have left its place */
		note_epoch(txn, c);
		break;
	}
	if (inode.nlink == 0 && !local_is_open(m, h->ino))
		note_ino(m, h->ino, -1);
	model_say(m, "    close ino %llu", (unsigned long long)h->ino);
	local_commit(m, txn, err, "close");
}

void local_recover(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		struct handle *h = &m->handles[i];

		if (!h->used)
			continue;
		if (h->fd < 0) {
			model_fail(m, "ino %llu was written, and is gone",
				(unsigned long long)h->ino);
			return;
		}
		take_version(m, h);
		end_handle(m, h);
	}
}

bool call_create(struct model *m, const char *path, struct rnd *r, bool hold)
{
	char dir[256];
	const char *name = local_split(path, dir, sizeof(dir));
	struct cache_inode parent, inode = { 0 };
	struct handle *h = free_handle(m);
	struct cache_txn *txn;
	int err;

	if (h == NULL || local_look_up(m, path) < 0 || m->failed ||
		local_resolve(m, path, &inode) != -ENOENT ||
		local_resolve(m, dir, &parent) < 0 || parent.kind != CACHE_DIR)
		return false;
	memset(&inode, 0, sizeof(inode));
	inode.kind = CACHE_FILE;
	inode.mode = 0644;
	inode.nlink = 1;
	inode.gen = 1;
	inode.data = CACHE_WHOLE;
	inode.serial = inode.serial_top = 1;
	inode.written = true;
	inode.mtime_ns = base_wall_ns(menv_base(m->env));
	cache_id_new(m->cache, &inode.file);
	cache_id_new(m->cache, &inode.content);
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_add(txn, &inode);
	if (err == 0)
		err = cache_dentry_add(txn, parent.ino, name, inode.ino);
	*h = (struct handle){ .used = true,
		.ino = inode.ino,
		.serial = 1,
		.written = true,
		.dirty = true,
		.opened_ns = m->now_ns,
		.seen = -1 };
	h->fd = cache_data_open(m->cache, inode.ino, 1, O_RDWR | O_CREAT);
	assert(h->fd >= 0);
	touch(m, h->fd);
	model_say(m, "    create %s ino %llu", path,
		(unsigned long long)inode.ino);
	local_commit(m, txn, err, "create");
	if (m->failed)
		return true;
	take_version(m, h);
	write_some(m, h, r);
	if (m->failed || hold)
		return true;
	local_flush(m, h);
	model_run(m, rnd_pct(r, 50) ? 0 : (int64_t)rnd_below(r, 60) * MS);
	if (!m->failed && h->used)
		end_handle(m, h);
	return true;
}

/* Opens an existing file for writing: fs_make_ready(). */
bool call_write(struct model *m, const char *path, struct rnd *r, bool hold)
{
	bool truncate = rnd_pct(r, 50), alone;
	struct cache_inode inode;
	struct handle *h = free_handle(m);
	struct cache_txn *txn;
	bool keep, sync;
	int seen, err;

	if (h == NULL || local_look_up(m, path) < 0 || m->failed)
		return false;
	err = local_resolve(m, path, &inode);
	if (err < 0 || inode.kind != CACHE_FILE)
		return false;
	if (local_handle(m, inode.ino) != NULL)
		return false;
	alone = truncate && !local_is_open(m, inode.ino) && rnd_pct(r, 70);
	if (!alone && local_fetch_whole(m, path, &inode) < 0)
		return false;
	if (m->failed || (h = free_handle(m)) == NULL ||
		local_handle(m, inode.ino) != NULL)
		return false;
	if (alone && tier_fetching(m->tier, inode.ino))
		return false;
	assert(cache_read(m->cache, &txn) == 0);
	err = cache_inode_get(txn, inode.ino, &inode);
	keep = err == 0 && !alone && !inode.written &&
		tier_keep_needed(m->tier, txn, &inode);
	/* A changed file must not look like the durable one that it was. */
	sync = err == 0 && !alone && inode.size_bytes > 0 &&
		cache_may_be_proven(txn, &inode);
	cache_abort(txn);
	if (err < 0)
		return false;
	if (keep && tier_keep(m->tier, inode.ino) < 0) {
		model_fail(m, "an older state cannot be kept");
		return true;
	}
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, inode.ino, &inode);
	seen = local_version(m, txn, &inode);
	if (err == 0 && alone)
		err = cache_data_renew(txn, &inode);
	inode.gen++;
	inode.written = true;
	if (truncate) {
		inode.size_bytes = 0;
		inode.stored = false;
		cache_id_new(m->cache, &inode.content);
		memset(&inode.stamp, 0, sizeof(inode.stamp));
		inode.mtime_ns = base_wall_ns(menv_base(m->env));
	}
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	*h = (struct handle){ .used = true,
		.ino = inode.ino,
		.serial = inode.serial,
		.written = true,
		.dirty = truncate,
		.opened_ns = m->now_ns,
		.seen = seen };
	if (truncate)
		count(m, COUNT_TRUNCATE);
	h->fd = cache_data_open(m->cache, inode.ino, inode.serial,
		alone ? O_RDWR | O_CREAT : O_RDWR);
	model_say(m, "    open %s ino %llu%s%s%s", path,
		(unsigned long long)inode.ino, truncate ? " truncate" : "",
		alone ? " alone" : "", keep ? " keep" : "");
	if (h->fd < 0) {
		cache_abort(txn);
		model_fail(
			m, "open %s: no data file: %s", path, strerror(-h->fd));
		return true;
	}
	local_commit(m, txn, err, "open");
	if (m->failed)
		return true;
	if (sync)
		assert(cache_sync_index(m->cache) == 0);
	if (truncate && !alone)
		assert(ftruncate(h->fd, 0) == 0);
	if (truncate)
		touch(m, h->fd);
	take_version(m, h);
	if (truncate)
		note_ino(m, inode.ino, h->version);
	if (rnd_pct(r, 95))
		write_some(m, h, r);
	if (m->failed || hold)
		return true;
	local_flush(m, h);
	model_run(m, rnd_pct(r, 50) ? 0 : (int64_t)rnd_below(r, 60) * MS);
	if (!m->failed && h->used)
		end_handle(m, h);
	return true;
}

struct handle *local_any_handle(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used)
			return &m->handles[i];
	}
	return NULL;
}

/* Somebody else opens for writing what is written-to: what was entered, and
 * rests, is kept (fs_written_rests()). */
static bool reopen(struct model *m, struct handle *h, struct rnd *r)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	bool keep;

	if (h->dirty || rnd_pct(r, 50))
		return true;
	assert(cache_read(m->cache, &txn) == 0);
	keep = cache_inode_get(txn, h->ino, &inode) == 0 &&
		tier_keep_needed(m->tier, txn, &inode);
	cache_abort(txn);
	if (keep && tier_keep(m->tier, h->ino) < 0)
		model_fail(m, "an older state cannot be kept");
	count(m, COUNT_REOPENED);
	model_say(m, "    opened once more: ino %llu%s",
		(unsigned long long)h->ino, keep ? " keep" : "");
	return !m->failed;
}

bool call_more(struct model *m, struct rnd *r)
{
	struct handle *h = local_any_handle(m);

	if (h == NULL || !reopen(m, h, r))
		return false;
	write_some(m, h, r);
	if (!m->failed && rnd_pct(r, 60))
		local_flush(m, h);
	return true;
}

bool call_close(struct model *m, struct rnd *r)
{
	struct handle *h = local_any_handle(m);

	(void)r;
	if (h == NULL || m->failed)
		return false;
	end_handle(m, h);
	return true;
}
