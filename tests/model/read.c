/*
 * Reading, and what else a user asks of a mount.
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
#include "blob/hash.h"
#include "tests/model/local.h"

int local_fetch_whole(
	struct model *m, const char *path, struct cache_inode *inode)
{
	for (int tries = 0; tries < 4; tries++) {
		int err = local_resolve(m, path, inode);

		if (err < 0 || inode->kind != CACHE_FILE)
			return err < 0 ? err : -EISDIR;
		if (inode->data == CACHE_WHOLE)
			return 0;
		err = local_await(m, 20 * S, local_start_fetch, &inode->ino);
		if (m->failed)
			return -EIO;
		if (err < 0 && err != -ESTALE)
			return err;
		if (err == -ESTALE)
			model_run(m, 300 * MS);
	}
	return -EIO;
}

/* The version of what a descriptor reads; fails where nobody wrote that. */
static int read_version(struct model *m, int fd, const char *what, off_t *size)
{
	struct stat st;
	uint8_t md5[16];
	int version;
	char *bytes;

	assert(fstat(fd, &st) == 0);
	bytes = base_calloc(1, (size_t)st.st_size + 1);
	assert(pread(fd, bytes, (size_t)st.st_size, 0) == st.st_size);
	blob_md5(bytes, (size_t)st.st_size, md5);
	version = version_find(m, md5);
	if (version < 0)
		model_fail(m, "read %s: bytes that nobody wrote (%.40s)", what,
			bytes);
	free(bytes);
	*size = st.st_size;
	return version;
}

static void check_version(
	struct model *m, uint64_t ino, int version, const char *what)
{
	int should = ino_version(m, ino);

	if (version >= 0 && should >= 0 && should != version &&
		!m->versions[should].killed)
		model_fail(
			m, "read %s: v%d, it was v%d", what, version, should);
}

bool call_read(struct model *m, const char *path)
{
	struct cache_inode inode;
	int version, fd, err;
	off_t size;

	if (local_look_up(m, path) < 0 || m->failed)
		return false;
	err = local_fetch_whole(m, path, &inode);
	if (m->failed || err == -ENOENT || err == -EISDIR)
		return false;
	if (err < 0) {
		if (!(m->profile & (WITH_FAULTS | WITH_FOREIGN)))
			model_fail(m, "read %s: %s", path, strerror(-err));
		return false;
	}
	if (local_handle(m, inode.ino) != NULL)
		return false;
	fd = cache_data_open(m->cache, inode.ino, inode.serial, O_RDONLY);
	if (fd < 0) {
		model_fail(m, "read %s: no data file", path);
		return false;
	}
	version = read_version(m, fd, path, &size);
	close(fd);
	model_say(m, "    read %s ino %llu v%d", path,
		(unsigned long long)inode.ino, version);
	if (!m->failed && (uint64_t)size != inode.size_bytes)
		model_fail(m, "read %s: %lld bytes, the index says %llu", path,
			(long long)size, (unsigned long long)inode.size_bytes);
	check_version(m, inode.ino, version, path);
	m->calls++;
	return true;
}

/* ---- who has a file open to read it ---- */

bool call_look(struct model *m, const char *path)
{
	struct reader *r = NULL;
	struct cache_inode inode;
	off_t size;

	for (int i = 0; i < READERS_MAX && r == NULL; i++)
		r = m->readers[i].used ? NULL : &m->readers[i];
	if (r == NULL || local_look_up(m, path) < 0 || m->failed ||
		local_fetch_whole(m, path, &inode) < 0 || m->failed ||
		local_handle(m, inode.ino) != NULL)
		return false;
	r->fd = cache_data_open(m->cache, inode.ino, inode.serial, O_RDONLY);
	if (r->fd < 0) {
		model_fail(m, "look %s: no data file", path);
		return true;
	}
	r->used = true;
	r->ino = inode.ino;
	r->version = read_version(m, r->fd, path, &size);
	r->should = ino_version(m, inode.ino);
	check_version(m, inode.ino, r->version, path);
	model_say(m, "    look %s ino %llu v%d", path,
		(unsigned long long)inode.ino, r->version);
	m->calls++;
	return true;
}

bool call_look_again(struct model *m, struct rnd *rnd)
{
	struct reader *r = &m->readers[rnd_below(rnd, READERS_MAX)];
	int should, version;
	off_t size;

	if (!r->used || local_handle(m, r->ino) != NULL)
		return false;
	version = read_version(m, r->fd, "again", &size);
	should = ino_version(m, r->ino);
	model_say(m, "    read again ino %llu v%d", (unsigned long long)r->ino,
		version);
	/* Nobody here wrote to it: it is what it was, whatever happened to its
	 * name.  (What it should hold may have been taken away by the second
	 * writer, long before somebody here had it open.) */
	if (should < 0 || should == r->should)
		should = r->version;
	if (!m->failed && version != should)
		model_fail(m, "read again: ino %llu has v%d, it had v%d",
			(unsigned long long)r->ino, version, should);
	m->calls++;
	return true;
}

bool call_shut(struct model *m)
{
	struct reader *r = NULL;
	struct cache_inode inode;
	struct cache_txn *txn;
	bool gone;
	int err;

	for (int i = 0; i < READERS_MAX && r == NULL; i++)
		r = m->readers[i].used ? &m->readers[i] : NULL;
	if (r == NULL || m->failed)
		return false;
	r->used = false;
	close(r->fd);
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, r->ino, &inode);
	if (err == 0 && inode.nlink == 0) {
		if (!local_is_open(m, r->ino))
			note_ino(m, r->ino, -1);
		err = cache_held_put(
			txn, r->ino, local_is_open(m, r->ino), &gone);
	}
	model_say(m, "    shut ino %llu", (unsigned long long)r->ino);
	local_commit(m, txn, err, "shut");
	return true;
}

/* ---- the rest ---- */

/* fs_written_sync(), and FLUSH before it for some who write. */
int local_sync(struct model *m, uint64_t ino)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err;

	assert(cache_read(m->cache, &txn) == 0);
	err = cache_inode_get(txn, ino, &inode);
	cache_abort(txn);
	if (err == 0 && inode.kind == CACHE_FILE && inode.data == CACHE_WHOLE &&
		(inode.written || inode.gen != inode.synced_gen)) {
		uint64_t gen = inode.gen;

		err = cache_data_sync(m->cache, ino, inode.serial);
		assert(cache_write(m->cache, &txn) == 0);
		if (err == 0)
			err = cache_inode_get(txn, ino, &inode);
		if (err == 0 && inode.synced_gen < gen)
			inode.synced_gen = gen;
		inode.fsynced = true;
		if (inode.written)
			inode.gen++;
		if (err == 0)
			err = cache_inode_put(txn, &inode);
		if (err < 0)
			cache_abort(txn);
		else
			err = cache_commit(txn);
	}
	if (err == 0)
		err = cache_sync_index(m->cache);
	if (err == 0 && ino < m->inos_cap && inode.nlink > 0)
		m->ino_synced[ino] = m->ino_version[ino];
	return err;
}

bool call_fsync(struct model *m, const char *path)
{
	struct handle *h = local_any_handle(m);
	struct cache_inode inode;
	int err = 0;

	if (path == NULL && h != NULL && h->version >= 0) {
		local_flush(m, h);
		err = local_sync(m, h->ino);
	} else if (path != NULL && local_resolve(m, path, &inode) == 0) {
		err = local_sync(m, inode.ino);
	} else if (path != NULL) {
		return false;
	}
	if (err < 0)
		model_fail(m, "fsync: %s", strerror(-err));
	tier_mark_sync(m->tier);
	count(m, COUNT_FSYNC);
	m->calls++;
	model_say(m, "    fsync %s", path ? path : "");
	return true;
}

struct confirm {
	struct model *m;
	struct cache_txn *txn;
	const char *path;
};

static int confirm_one(void *arg, const struct cache_inode *inode)
{
	struct confirm *c = arg;
	struct base_str path = BASE_STR_INIT;
	size_t len = strlen(c->path);

	if (inode->doubt == CACHE_UNCONFIRMED && !inode->written &&
		cache_path_of(c->txn, inode->ino, &path) == 0 &&
		(len == 0 ||
			(strncmp(path.data, c->path, len) == 0 &&
				(path.data[len] == '\0' ||
					path.data[len] == '/'))))
		note_change(c->m, c->txn, path.data, CACHE_FILE, inode->ino,
			ino_version(c->m, inode->ino));
	base_str_fini(&path);
	return 0;
}

/* A flush says that unconfirmed files are as they should be. */
static void note_confirmed(struct model *m, const char *path)
{
	struct confirm c = { .m = m, .path = path };

	assert(cache_read(m->cache, &c.txn) == 0);
	assert(cache_doubt_each(c.txn, confirm_one, &c) == 0);
	cache_abort(c.txn);
}

bool call_flush(struct model *m, const char *path, bool wait)
{
	int err = 0;

	note_confirmed(m, path);
	count(m, COUNT_FLUSH);
	if (wait)
		err = local_await(m, 120 * S, local_start_flush, (void *)path);
	else
		local_begin(m, local_start_flush, (void *)path);
	model_say(m, "    flush of %s: %s", path,
		wait ? strerror(-err) : "begun");
	return true;
}

bool call_refresh(struct model *m, const char *dir, bool wait)
{
	struct cache_inode inode;

	if (local_resolve(m, dir, &inode) < 0 || inode.kind != CACHE_DIR)
		return false;
	if (wait)
		local_await(m, 20 * S, local_start_dir, &inode.ino);
	else
		local_begin(m, local_start_dir, &inode.ino);
	model_say(m, "    refresh%s %s", wait ? "ed" : "", dir);
	return true;
}

/* In the background, as prefetch does. */
bool call_prefetch(struct model *m, const char *path)
{
	struct cache_inode inode;

	if (local_resolve(m, path, &inode) < 0 || inode.kind != CACHE_FILE ||
		inode.data == CACHE_WHOLE)
		return false;
	local_begin(m, local_start_fetch, &inode.ino);
	model_say(m, "    prefetch %s", path);
	m->calls++;
	return true;
}

bool call_evict(struct model *m, const char *path)
{
	struct cache_inode inode;
	uint64_t bytes;
	int err;

	if (local_resolve(m, path, &inode) < 0 || inode.kind != CACHE_FILE ||
		inode.data == CACHE_NONE)
		return false;
	err = cache_evict_inode(m->cache, inode.ino, &bytes);
	if (err == 0) {
		model_say(m, "    evict %s", path);
		count(m, COUNT_EVICT);
		m->calls++;
	}
	return err == 0;
}
