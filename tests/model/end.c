/*
 * What must hold at the end, when all is quiet (check_end), and after a
 * remount:
 *   E1  tree and store agree: names, kinds, bytes, modes;
 *   E2  the last bytes that a program wrote to a file that still has a name
 *       are in the store, unless the second writer took them away;
 *   E3  no conflict where the second writer did nothing;
 *   E4  journal, `sent` and `held` are empty;
 *   E5  metadata keys of others are still there: under a name that another
 *       file was renamed to, those of that file, if it had any;
 *   E6  what the second writer put was not taken away by one who never saw it.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/model/model.h"

static bool is_shown(struct model *m, int version)
{
	for (size_t i = 0; i < m->blobs_nr; i++) {
		if (m->blobs[i].there && m->blobs[i].version == version)
			return true;
	}
	return false;
}

/* E6 */
static void check_taken(struct model *m)
{
	for (size_t i = 0; i < m->taken_nr && !m->failed; i++) {
		struct version *v = &m->versions[m->taken[i]];
		bool seen = false;

		for (size_t k = 0; k < m->changes_nr && !seen; k++)
			seen = m->changes[k].seen == m->taken[i] ||
				m->changes[k].here == m->taken[i];
		if (!seen && !v->killed && !is_shown(m, m->taken[i]))
			model_fail(m,
				"end: %.*s of the second writer is gone, and "
				"nobody here had seen it",
				(int)v->head_len, v->head);
	}
}

struct walk {
	struct model *m;
	struct cache_txn *txn;
	struct base_str path;
};

static int inode_bytes(
	struct walk *w, const struct cache_inode *inode, const char *path)
{
	struct cache_remote remote;
	struct model *m = w->m;
	int version = -1;

	if (cache_remote_get(w->txn, path, &remote) == 0) {
		if (cache_id_eq(&remote.content, &inode->content) ||
			inode->kind == CACHE_SYMLINK)
			version = m->etag_version[strtoull(
				remote.etag + 3, NULL, 16)];
		cache_remote_fini(&remote);
	}
	return version;
}

static void check_file(struct walk *w, const struct cache_inode *inode,
	const char *path, struct mblob *b)
{
	struct model *m = w->m;
	struct blob_entry entry = { .name = (char *)path };
	struct blob_posix posix;
	struct blob_mark mark;
	int version;

	entry.props.meta = b->meta;
	entry.props.meta_nr = b->meta_nr;
	blob_meta_decode(&entry, &posix, &mark);
	if (check_kind(b) != inode->kind) {
		model_fail(m, "end: %s is of kind %d here, %d in the store",
			path, inode->kind, check_kind(b));
		return;
	}
	if (posix.has_mode && posix.mode != inode->mode)
		model_fail(m, "end: %s has mode %o here, %o in the store", path,
			inode->mode, posix.mode);
	if (inode->kind == CACHE_DIR)
		return;
	if (inode->size_bytes != m->versions[b->version].size)
		model_fail(m, "end: %s has %llu bytes here, %llu in the store",
			path, (unsigned long long)inode->size_bytes,
			(unsigned long long)m->versions[b->version].size);
	version = inode_bytes(w, inode, path);
	if (version != b->version)
		model_fail(m, "end: %s: the index says v%d, the store has v%d",
			path, version, b->version);
	if (inode->kind == CACHE_FILE && !inode->stored)
		model_fail(m, "end: %s is not known as stored", path);
	if (inode->ino < m->inos_cap && m->ino_version[inode->ino] >= 0 &&
		m->ino_version[inode->ino] != b->version &&
		!m->versions[m->ino_version[inode->ino]].killed)
		model_fail(m, "end: %s should be v%d, is v%d", path,
			m->ino_version[inode->ino], b->version);
}

static int check_dentry(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct walk *w = arg;
	struct model *m = w->m;
	size_t len = w->path.len;
	struct mblob *b;

	base_str_printf(&w->path, "%s%s", len ? "/" : "", dentry->name);
	b = mstore_blob(m, w->path.data);
	if (inode->kind == CACHE_DIR && !b->there) {
		if (!inode->implicit || !mstore_has_below(m, b->name))
			model_fail(m, "end: directory %s is not in the store",
				b->name);
	} else if (inode->doubt != CACHE_SURE) {
		if (b->there && inode->ino < m->inos_cap &&
			b->version == m->ino_version[inode->ino])
			model_fail(m, "end: %s was sent, and nobody said so",
				b->name);
	} else if (!b->there) {
		model_fail(m, "end: %s is here, not in the store", b->name);
	} else {
		check_file(w, inode, b->name, b);
	}
	if (!m->failed && inode->kind == CACHE_DIR)
		cache_dentry_each(w->txn, inode->ino, 0, check_dentry, w);
	if (w->path.data != NULL) {
		w->path.len = len;
		w->path.data[len] = '\0';
	}
	return m->failed;
}

/* E1 */
static void check_tree(struct model *m)
{
	struct walk w = { .m = m, .path = BASE_STR_INIT };
	struct cache_inode inode;

	assert(cache_read(m->cache, &w.txn) == 0);
	cache_dentry_each(w.txn, CACHE_ROOT_INO, 0, check_dentry, &w);
	for (size_t i = 0; i < m->blobs_nr && !m->failed; i++) {
		if (m->blobs[i].there &&
			cache_resolve(w.txn, m->blobs[i].name, &inode) < 0)
			model_fail(m, "end: %s v%d is in the store, not here",
				m->blobs[i].name, m->blobs[i].version);
	}
	cache_abort(w.txn);
	base_str_fini(&w.path);
}

/* E2 */
static void check_kept(struct model *m)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	assert(cache_read(m->cache, &txn) == 0);
	for (uint64_t ino = 0; ino < m->inos_cap && !m->failed; ino++) {
		int version = m->ino_version[ino];

		if (version < 0 || m->versions[version].killed)
			continue;
		if (cache_inode_get(txn, ino, &inode) == 0 &&
			inode.doubt != CACHE_SURE)
			continue;
		if (!is_shown(m, version))
			model_fail(m, "end: v%d of inode %llu is lost: %.40s",
				version, (unsigned long long)ino,
				m->versions[version].head);
	}
	cache_abort(txn);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* E3: a directory's rename takes its conflicts along. */
static int check_conflict(void *arg, const struct cache_conflict *conflict)
{
	const char *name = last_part(conflict->name);
	struct model *m = arg;
	bool touched = false;

	for (size_t i = 0; i < m->blobs_nr && !touched; i++)
		touched = m->blobs[i].touched &&
			strcmp(last_part(m->blobs[i].name), name) == 0;
	if (!touched)
		model_fail(m, "end: a false conflict of %s", conflict->name);
	return m->failed;
}

static int count_ino(void *arg, uint64_t ino)
{
	(void)ino;
	(*(unsigned *)arg)++;
	return 0;
}

static int dump_row(void *arg, const struct cache_owed *row)
{
	model_say(arg,
		"  owed %llu: epoch %llu %s kind %d state %d ino %llu.%llu "
		"group %d attrs %d tries %u %s",
		(unsigned long long)row->seq, (unsigned long long)row->epoch,
		row->name, row->kind, row->state, (unsigned long long)row->ino,
		(unsigned long long)row->serial, row->group, row->attrs_only,
		row->tries, row->error ? row->error : "");
	return 0;
}

/* What is owed, for who looks for the cause of a failure. */
void check_dump(struct model *m)
{
	struct cache_txn *txn;

	if (!m->verbose || m->cache == NULL || cache_read(m->cache, &txn) < 0)
		return;
	cache_owed_each_below(txn, "", dump_row, m);
	cache_abort(txn);
}

static int say_row(void *arg, const struct cache_owed *row)
{
	model_fail(arg, "end: %s is still owed (epoch %llu, state %d, %s)",
		row->name, (unsigned long long)row->epoch, row->state,
		row->error ? row->error : "");
	return 1;
}

static int say_sent(void *arg, const struct cache_sent *sent)
{
	model_fail(arg, "end: %s is still in `sent` (commit %llu, settled %d)",
		sent->name, (unsigned long long)sent->number, sent->settled);
	return 1;
}

/* E4 */
static void check_empty(struct model *m)
{
	struct cache_owed_prefix prefix;
	struct cache_txn *txn;
	unsigned held = 0, written = 0;

	assert(cache_read(m->cache, &txn) == 0);
	cache_owed_each_below(txn, "", say_row, m);
	if (cache_owed_prefix_first(txn, UINT64_MAX, &prefix) == 0)
		model_fail(m, "end: the rename of %s to %s is still owed",
			prefix.old_dir, prefix.new_dir);
	cache_sent_each(txn, 0, say_sent, m);
	cache_held_each(txn, count_ino, &held);
	cache_written_each(txn, count_ino, &written);
	if (held > 0)
		model_fail(m, "end: %u inodes are held", held);
	if (written > 0)
		model_fail(m, "end: %u inodes are written-to", written);
	cache_abort(txn);
}

/* Was the tag put on a blob that a program here renamed to this name? */
static bool came_along(struct model *m, const struct mblob *b, uint64_t tag)
{
	for (size_t i = 0; i < m->changes_nr; i++) {
		const struct change *c = &m->changes[i];

		if (c->from == NULL || strcmp(c->name, b->name) != 0)
			continue;
		for (size_t k = 0; k < m->tags_nr; k++)
			if (m->tags[k].nr == tag &&
				strcmp(m->tags[k].name, c->from) == 0)
				return true;
	}
	return false;
}

/* E5 */
static void check_tags(struct model *m)
{
	for (size_t i = 0; i < m->blobs_nr && !m->failed; i++) {
		struct mblob *b = &m->blobs[i];
		struct blob_kv *kv;
		uint64_t tag;

		if (!b->there || b->tag == 0)
			continue;
		kv = mkv_find(b->meta, b->meta_nr, "color");
		tag = kv ? strtoull(kv->value, NULL, 10) : 0;
		if (tag != b->tag && (tag == 0 || !came_along(m, b, tag)))
			model_fail(m, "end: %s lost a metadata key of others",
				b->name);
	}
}

static void start_tree(struct model *m, struct tier_call *call, void *arg)
{
	tier_refresh_tree(m->tier, *(uint64_t *)arg, call);
}

static void refresh_all(struct model *m)
{
	uint64_t root = CACHE_ROOT_INO;
	int err;

	if (m->failed)
		return;
	model_run(m, 61 * S); /* what was listed is stale */
	err = local_await(m, 300 * S, start_tree, &root);
	if (err < 0 && !m->failed)
		model_fail(m, "end: the tree cannot be listed: %s",
			strerror(-err));
}

static void settle_down(struct model *m)
{
	refresh_all(m);
	if (!m->failed)
		model_run(m, 3600 * S);
	refresh_all(m);
	if (!m->failed)
		model_run(m, 120 * S);
	refresh_all(m);
}

static void check_now(struct model *m)
{
	struct cache_txn *txn;

	check_empty(m);
	if (!m->failed)
		check_tree(m);
	if (!m->failed)
		check_kept(m);
	if (!m->failed)
		check_taken(m);
	if (!m->failed)
		check_tags(m);
	if (m->failed)
		return;
	assert(cache_read(m->cache, &txn) == 0);
	cache_conflict_each(txn, check_conflict, m);
	cache_abort(txn);
}

void check_end(struct model *m)
{
	struct rnd r = { m->seed };

	model_say(m, "end");
	m->faults = false;
	while (call_close(m, &r) || call_shut(m))
		;
	call_flush(m, "", false); /* confirms what a power cut left */
	settle_down(m);
	if (!m->failed)
		local_forget(m);
	if (!m->failed)
		check_now(m);
	if (m->failed)
		return;
	model_say(m, "end: remount");
	local_close(m);
	local_open(m);
	model_run(m, 60 * S);
	if (!m->failed)
		check_now(m);
}
