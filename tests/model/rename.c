/*
 * rename(2): what fs/op_rename.c does.
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

/* ---- rename ---- */

struct tree {
	struct model *m;
	struct cache_txn *txn;
	const char *old_dir, *new_dir;
	struct base_str at; /* path below both */
};

/* What was under one name is under another. */
static void note_moved(struct model *m, struct cache_txn *txn, const char *from,
	const char *to, const struct cache_inode *inode)
{
	struct change *c = note_change(m, txn, to, inode->kind, inode->ino,
		inode->kind == CACHE_DIR ? version_add(m, "", 0, 0, false)
					 : local_version(m, txn, inode));

	c->open = inode->kind == CACHE_FILE && inode->written;
	c->from = base_strdup(from);
}

static int note_tree(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct tree *t = arg;
	size_t len = t->at.len;
	char path[512];
	char to[512];
	int err = 0;

	base_str_printf(&t->at, "/%s", dentry->name);
	snprintf(path, sizeof(path), "%s%s", t->old_dir, t->at.data);
	snprintf(to, sizeof(to), "%s%s", t->new_dir, t->at.data);
	note_moved(t->m, t->txn, path, to, inode);
	note_change(t->m, t->txn, path, CACHE_GONE, inode->ino, -1);
	if (inode->kind == CACHE_FILE && inode->data == CACHE_NONE)
		count(t->m, COUNT_RENAME_DIR_FAR);
	if (inode->kind == CACHE_DIR)
		err = cache_dentry_each(t->txn, inode->ino, 0, note_tree, t);
	t->at.len = len;
	t->at.data[len] = '\0';
	return err;
}

/* Older states that are still owed have other names now, also those of names
 * that are gone again. */
static void note_older(struct tree *t)
{
	size_t changes_nr = t->m->changes_nr, len = strlen(t->old_dir);
	char to[512];

	for (size_t i = 0; i < changes_nr; i++) {
		struct change c = t->m->changes[i];

		if (strncmp(c.name, t->old_dir, len) != 0 || c.name[len] != '/')
			continue;
		snprintf(to, sizeof(to), "%s%s", t->new_dir, c.name + len);
		note_change(t->m, t->txn, to, c.kind, c.ino, c.version);
	}
}

/* Both ends of a rename, and what lies below a directory. */
static void note_rename(struct model *m, struct cache_txn *txn,
	const char *from, const char *to, const struct cache_inode *inode)
{
	struct tree t = { .m = m,
		.txn = txn,
		.old_dir = from,
		.new_dir = to,
		.at = BASE_STR_INIT };

	note_moved(m, txn, from, to, inode);
	note_change(m, txn, from, CACHE_GONE, inode->ino, -1);
	if (inode->kind == CACHE_DIR) {
		note_older(&t);
		cache_dentry_each(txn, inode->ino, 0, note_tree, &t);
	}
	base_str_fini(&t.at);
}

static int refresh_for_rename(struct model *m, const char *from, const char *to)
{
	struct cache_inode inode, target;
	struct cache_txn *txn;
	int64_t fresh;
	bool known;

	if (local_resolve(m, from, &inode) < 0)
		return -ENOENT;
	if (inode.kind == CACHE_DIR) {
		assert(cache_read(m->cache, &txn) == 0);
		known = tier_tree_known(m->tier, txn, inode.ino);
		cache_abort(txn);
		if (!known &&
			local_await(m, 40 * S, local_start_tree, &inode.ino) <
				0)
			return -EIO;
	}
	if (m->failed || local_resolve(m, to, &target) < 0 ||
		target.kind != CACHE_DIR)
		return 0;
	assert(cache_read(m->cache, &txn) == 0);
	fresh = tier_fresh_dir_ns(m->tier, txn, target.ino);
	cache_abort(txn);
	if (fresh <= 0 &&
		local_await(m, 20 * S, local_start_dir, &target.ino) < 0)
		return -EIO;
	return 0;
}

/* A file that is being written goes along as it is now. */
static int catch_up(
	struct model *m, struct cache_txn *txn, struct cache_inode *inode)
{
	struct handle *h = local_handle(m, inode->ino);
	uint64_t allocated;
	int err;

	if (inode->kind != CACHE_FILE || !inode->written || h == NULL ||
		!h->dirty || h->version < 0)
		return 0;
	err = cache_data_stat(
		m->cache, inode->ino, inode->serial, &inode->stamp, &allocated);
	inode->gen++;
	inode->size_bytes = inode->stamp.size_bytes;
	inode->mtime_ns = inode->stamp.mtime_ns;
	inode->stored = false;
	cache_id_new(m->cache, &inode->content);
	h->dirty = false;
	note_ino(m, inode->ino, h->version);
	return err < 0 ? err : cache_inode_put(txn, inode);
}

/* What takes the place of another is durable before it does: op_rename.c. */
static int sync_fresh(struct model *m, const char *path)
{
	struct cache_inode inode;
	int err = local_resolve(m, path, &inode);

	if (err < 0 || inode.kind != CACHE_FILE || inode.data != CACHE_WHOLE ||
		(!inode.written &&
			(inode.stored || inode.gen == inode.synced_gen)))
		return err == -ENOENT ? 0 : err;
	return local_sync(m, inode.ino);
}

bool call_rename(struct model *m, const char *from, const char *to)
{
	char from_dir[256], to_dir[256];
	const char *from_name = local_split(from, from_dir, sizeof(from_dir));
	const char *to_name = local_split(to, to_dir, sizeof(to_dir));
	struct cache_inode from_parent, to_parent, inode, old;
	struct cache_txn *txn;
	bool replaces, empty = true, below = false;
	ssize_t marker;
	size_t first;
	int err;

	if (local_look_up(m, from) < 0 || m->failed ||
		local_look_up(m, to) < 0 || m->failed ||
		refresh_for_rename(m, from, to) < 0 || m->failed)
		return false;
	if (local_resolve(m, to, &old) == 0 && sync_fresh(m, from) < 0)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, from_dir, &from_parent);
	if (err == 0)
		err = cache_resolve(txn, to_dir, &to_parent);
	if (err == 0)
		err = cache_resolve(txn, from, &inode);
	replaces = err == 0 && cache_resolve(txn, to, &old) == 0;
	if (err == 0 && inode.kind == CACHE_DIR)
		err = cache_is_below(txn, to_parent.ino, inode.ino, &below);
	if (replaces && old.kind == CACHE_DIR)
		err = cache_dir_is_empty(txn, old.ino, &empty);
	if (err < 0 || below || !empty || to_parent.kind != CACHE_DIR ||
		(replaces &&
			(inode.ino == old.ino ||
				(inode.kind == CACHE_DIR) !=
					(old.kind == CACHE_DIR)))) {
		cache_abort(txn);
		return false;
	}
	count(m,
		inode.kind == CACHE_DIR ? COUNT_RENAME_DIR
			: replaces	? COUNT_RENAME_OVER
					: COUNT_RENAME);
	err = catch_up(m, txn, &inode);
	marker = from_parent.ino == to_parent.ino
		? -1
		: local_note_marker(m, txn, from);
	first = m->changes_nr;
	note_rename(m, txn, from, to, &inode);
	if (err == 0)
		err = cache_dentry_del(txn, from_parent.ino, from_name);
	if (err == 0)
		err = replaces ? cache_dentry_set(
					 txn, to_parent.ino, to_name, inode.ino)
			       : cache_dentry_add(txn, to_parent.ino, to_name,
					 inode.ino);
	if (err == 0 && inode.kind == CACHE_DIR) {
		err = local_count_links(txn, from_parent.ino, -1);
		if (err == 0)
			err = local_count_links(
				txn, to_parent.ino, replaces ? 0 : 1);
	}
	if (err == 0 && replaces) {
		old.nlink = 0;
		err = cache_inode_put(txn, &old);
		if (err == 0)
			err = cache_held_add(txn, old.ino);
	}
	if (err == 0 && inode.kind == CACHE_DIR)
		err = tier_enter_rename_dir(
			m->tier, txn, from, to, &inode, replaces ? old.ino : 0);
	else if (err == 0)
		err = tier_enter_rename(
			m->tier, txn, from, to, &inode, replaces ? old.ino : 0);
	for (size_t i = first; i < m->changes_nr; i++) {
		if (inode.kind == CACHE_DIR)
			m->changes[i].epoch = 0; /* see check.c */
		else
			note_epoch(txn, &m->changes[i]);
	}
	if (marker >= 0)
		note_epoch(txn, &m->changes[marker]);
	if (err == 0 && replaces)
		err = local_lose_name(m, txn, old.ino);
	model_say(m, "    rename %s %s ino %llu%s epoch %llu", from, to,
		(unsigned long long)inode.ino, replaces ? " replaces" : "",
		(unsigned long long)m->changes[first].epoch);
	local_commit(m, txn, err, "rename");
	return true;
}

bool call_exchange(struct model *m, const char *from, const char *to)
{
	char from_dir[256], to_dir[256];
	const char *from_name = local_split(from, from_dir, sizeof(from_dir));
	const char *to_name = local_split(to, to_dir, sizeof(to_dir));
	struct cache_inode from_parent, to_parent, a, b;
	struct cache_txn *txn;
	int err;

	if (local_look_up(m, from) < 0 || m->failed ||
		local_look_up(m, to) < 0 || m->failed)
		return false;
	if (sync_fresh(m, from) < 0 || sync_fresh(m, to) < 0)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, from_dir, &from_parent);
	if (err == 0)
		err = cache_resolve(txn, to_dir, &to_parent);
	if (err == 0)
		err = cache_resolve(txn, from, &a);
	if (err == 0)
		err = cache_resolve(txn, to, &b);
	if (err < 0 || a.ino == b.ino || a.kind == CACHE_DIR ||
		b.kind == CACHE_DIR) {
		cache_abort(txn);
		return false;
	}
	err = catch_up(m, txn, &a);
	if (err == 0)
		err = catch_up(m, txn, &b);
	note_moved(m, txn, from, to, &a);
	note_moved(m, txn, to, from, &b);
	if (err == 0)
		err = cache_dentry_set(txn, from_parent.ino, from_name, b.ino);
	if (err == 0)
		err = cache_dentry_set(txn, to_parent.ino, to_name, a.ino);
	if (err == 0)
		err = tier_enter(m->tier, txn, to, &a, TIER_RENAME, b.ino);
	if (err == 0)
		note_epoch(txn, &m->changes[m->changes_nr - 2]);
	if (err == 0)
		err = tier_enter(m->tier, txn, from, &b, TIER_RENAME, a.ino);
	if (err == 0)
		note_epoch(txn, &m->changes[m->changes_nr - 1]);
	count(m, COUNT_EXCHANGE);
	model_say(m, "    exchange %s %s ino %llu %llu", from, to,
		(unsigned long long)a.ino, (unsigned long long)b.ino);
	local_commit(m, txn, err, "exchange");
	return true;
}
