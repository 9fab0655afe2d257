/*
 * What the calls of local programs share: waiting, names, and what the checks
 * are told.
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
#include "tests/model/disk.h"
#include "tests/model/local.h"

/* ---- waiting ---- */

struct waiting {
	struct tier_call call;
	bool done;
	int err;
};

static void waiting_done(struct tier_call *call, int err)
{
	struct waiting *w = (struct waiting *)call;

	w->done = true;
	w->err = err;
}

int local_await(struct model *m, int64_t max_ns,
	void (*start)(struct model *, struct tier_call *, void *arg), void *arg)
{
	/* On the heap: a history that fails leaves it to the process. */
	struct waiting *w = base_calloc(1, sizeof(*w));
	int64_t until = m->now_ns + max_ns;
	int err;

	w->call.done = waiting_done;
	start(m, &w->call, arg);
	while (!w->done && model_step(m, until))
		;
	if (!w->done && !m->failed) {
		tier_cancel(m->tier, &w->call);
		until = m->now_ns + 10 * S;
		while (!w->done && model_step(m, until))
			;
		if (!w->done && !m->failed)
			model_fail(m, "a cancelled call does not end");
	}
	if (!w->done)
		return -EIO;
	err = w->err;
	free(w);
	return err;
}

static void begun_done(struct tier_call *call, int err)
{
	(void)err;
	free(call);
}

void local_begin(struct model *m,
	void (*start)(struct model *, struct tier_call *, void *arg), void *arg)
{
	struct tier_call *call = base_calloc(1, sizeof(*call));

	call->done = begun_done;
	start(m, call, arg);
}

void local_start_fetch(struct model *m, struct tier_call *call, void *arg)
{
	tier_fetch_whole(m->tier, *(uint64_t *)arg, false, call);
}

void local_start_name(struct model *m, struct tier_call *call, void *arg)
{
	struct local_name *n = arg;

	tier_refresh_name(m->tier, n->ino, n->name, call);
}

void local_start_dir(struct model *m, struct tier_call *call, void *arg)
{
	tier_refresh_dir(m->tier, *(uint64_t *)arg, call);
}

void local_start_tree(struct model *m, struct tier_call *call, void *arg)
{
	tier_refresh_tree(m->tier, *(uint64_t *)arg, call);
}

void local_start_flush(struct model *m, struct tier_call *call, void *arg)
{
	tier_flush(m->tier, arg, call);
}

/* ---- names ---- */

const char *local_split(const char *path, char *dir, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, size, "%.*s", slash ? (int)(slash - path) : 0, path);
	return slash ? slash + 1 : path;
}

int local_resolve(struct model *m, const char *path, struct cache_inode *ret)
{
	struct cache_txn *txn;
	int err;

	assert(cache_read(m->cache, &txn) == 0);
	err = cache_resolve(txn, path, ret);
	cache_abort(txn);
	return err;
}

int local_look_up(struct model *m, const char *path)
{
	char dir[256];
	const char *name = local_split(path, dir, sizeof(dir));
	struct cache_inode parent;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	struct local_name named = { .name = name };
	int64_t fresh;
	int err;

	if (dir[0] != '\0') {
		err = local_look_up(m, dir);
		if (err < 0)
			return err;
	}
	err = local_resolve(m, dir, &parent);
	if (err < 0 || parent.kind != CACHE_DIR)
		return err < 0 ? err : -ENOTDIR;
	assert(cache_read(m->cache, &txn) == 0);
	err = cache_dentry_get(txn, parent.ino, name, &dentry);
	fresh = tier_fresh_name_ns(m->tier, txn, parent.ino, name, err == 0);
	cache_abort(txn);
	if (fresh > 0)
		return 0;
	named.ino = parent.ino;
	return local_await(m, 20 * S, local_start_name, &named);
}

/* ---- what the calls say, for the checks ---- */

void note_ino(struct model *m, uint64_t ino, int version)
{
	size_t cap = ino + 64;

	if (ino >= m->inos_cap) {
		m->ino_version = base_realloc(
			m->ino_version, cap * sizeof(*m->ino_version));
		m->ino_synced = base_realloc(
			m->ino_synced, cap * sizeof(*m->ino_synced));
		m->ino_written = base_realloc(
			m->ino_written, cap * sizeof(*m->ino_written));
		for (; m->inos_cap < cap; m->inos_cap++) {
			m->ino_version[m->inos_cap] = -1;
			m->ino_synced[m->inos_cap] = -1;
			m->ino_written[m->inos_cap] = 0;
		}
	}
	m->ino_version[ino] = version;
	m->marked_inos = base_realloc(
		m->marked_inos, (m->marked_nr + 1) * sizeof(*m->marked_inos));
	m->marked_inos[m->marked_nr++] = ino;
}

/* What was noted since the last commit is as durable as this one. */
static void mark_commit(struct model *m)
{
	uint64_t written = disk_written();

	for (; m->changes_marked < m->changes_nr; m->changes_marked++)
		m->changes[m->changes_marked].written = written;
	for (size_t i = 0; i < m->marked_nr; i++)
		m->ino_written[m->marked_inos[i]] = written;
	m->marked_nr = 0;
}

void note_cut(struct model *m, uint64_t left)
{
	for (uint64_t ino = 0; ino < m->inos_cap; ino++) {
		/* What an fsync answered for, and nobody changed since. */
		if (m->ino_version[ino] >= 0 &&
			m->ino_synced[ino] == m->ino_version[ino] &&
			m->ino_written[ino] <= left)
			continue;
		m->ino_version[ino] = m->ino_synced[ino] = -1;
	}
	for (size_t i = 0; i < m->changes_nr; i++) {
		struct change *c = &m->changes[i];

		c->open = false;
		if (c->written <= left &&
			(c->kind != CACHE_FILE || ino_version(m, c->ino) >= 0))
			continue;
		c->epoch = 0;
		c->left = true;
	}
}

int ino_version(struct model *m, uint64_t ino)
{
	return ino < m->inos_cap ? m->ino_version[ino] : -1;
}

static uint64_t etag_number(const char *etag)
{
	return strtoull(etag + 3, NULL, 16);
}

/* What the index says that the store shows under a name. */
static int seen_version(
	struct model *m, struct cache_txn *txn, const char *name)
{
	struct cache_remote remote;
	int version = -1;

	if (cache_remote_get(txn, name, &remote) < 0)
		return -1;
	if (remote.etag[0] != '\0' && etag_number(remote.etag) <= m->etag)
		version = m->etag_version[etag_number(remote.etag)];
	cache_remote_fini(&remote);
	return version;
}

int local_version(
	struct model *m, struct cache_txn *txn, const struct cache_inode *inode)
{
	struct cache_remote remote;
	int version;

	if (cache_remote_holding(txn, &inode->content, NULL, &remote) < 0)
		return ino_version(m, inode->ino);
	version = m->etag_version[etag_number(remote.etag)];
	cache_remote_fini(&remote);
	return version;
}

int local_bytes(struct model *m, const struct cache_inode *inode, bool add)
{
	uint8_t md5[16];
	struct stat st;
	char *bytes;
	int version;
	int fd = cache_data_open(m->cache, inode->ino, inode->serial, O_RDONLY);

	assert(fd >= 0 && fstat(fd, &st) == 0);
	bytes = base_calloc(1, (size_t)st.st_size + 1);
	assert(pread(fd, bytes, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	blob_md5(bytes, (size_t)st.st_size, md5);
	version = version_find(m, md5);
	if (add)
		version = version_add(m, bytes, (size_t)st.st_size,
			(uint64_t)st.st_size, false);
	free(bytes);
	return version;
}

struct change *note_change(struct model *m, struct cache_txn *txn,
	const char *name, enum cache_kind kind, uint64_t ino, int version)
{
	struct cache_inode inode;
	struct change *c;
	int here = -1;

	if (cache_resolve(txn, name, &inode) == 0 && inode.kind == CACHE_FILE)
		here = local_version(m, txn, &inode);
	m->changes = base_realloc(
		m->changes, (m->changes_nr + 1) * sizeof(*m->changes));
	c = &m->changes[m->changes_nr++];
	*c = (struct change){ .nr = m->changes_nr,
		.name = base_strdup(name),
		.kind = kind,
		.ino = ino,
		.version = version,
		.at_ns = m->now_ns,
		.seen = seen_version(m, txn, name),
		.here = here };
	return c;
}

void note_epoch(struct cache_txn *txn, struct change *c)
{
	struct cache_owed row;

	if (cache_owed_newest_unsent(txn, c->name, &row) < 0)
		return;
	if (row.kind == c->kind &&
		(row.kind == CACHE_GONE || row.ino == c->ino)) {
		c->epoch = row.epoch;
		c->run = row.run;
		c->phase = row.phase;
		c->group = row.group ? row.epoch : 0;
	}
	cache_owed_fini(&row);
}

void local_commit(
	struct model *m, struct cache_txn *txn, int err, const char *what)
{
	if (err < 0) {
		cache_abort(txn);
		model_fail(m, "%s: %s", what, strerror(-err));
		return;
	}
	err = cache_commit(txn);
	if (err < 0)
		model_fail(m, "%s: commit: %s", what, strerror(-err));
	if (m->profile & WITH_CUTS)
		mark_commit(m);
	tier_kick(m->tier);
	m->calls++;
}
