/*
 * Names are made and removed, attributes changed.
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

/* ---- names ---- */

/* After the journal heard of it: as FORGET and the last close do. */
int local_lose_name(struct model *m, struct cache_txn *txn, uint64_t ino)
{
	struct cache_inode inode;
	bool gone, open = local_is_open(m, ino);
	int err = 0;

	note_ino(m, ino, open ? ino_version(m, ino) : -1);
	m->ino_synced[ino] = -1; /* it goes with who has it open */
	if (cache_inode_get(txn, ino, &inode) == 0)
		err = cache_held_put(txn, ino, open, &gone);
	return err;
}

int local_count_links(struct cache_txn *txn, uint64_t dir, int by)
{
	struct cache_inode inode;
	int err = by == 0 ? -ENOENT : cache_inode_get(txn, dir, &inode);

	if (err < 0)
		return by == 0 ? 0 : err;
	inode.nlink = (uint32_t)((int)inode.nlink + by);
	return cache_inode_put(txn, &inode);
}

static int see_name(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	(void)dentry, (void)inode;
	return ++*(unsigned *)arg > 1;
}

ssize_t local_note_marker(
	struct model *m, struct cache_txn *txn, const char *path)
{
	char dir[256];
	struct cache_inode parent;
	unsigned names = 0;

	local_split(path, dir, sizeof(dir));
	if (dir[0] == '\0' || cache_resolve(txn, dir, &parent) < 0 ||
		!parent.implicit)
		return -1;
	cache_dentry_each(txn, parent.ino, 0, see_name, &names);
	if (names != 1)
		return -1;
	note_change(m, txn, dir, CACHE_DIR, parent.ino,
		version_add(m, "", 0, 0, false));
	count(m, COUNT_MARKER);
	return (ssize_t)m->changes_nr - 1;
}

static bool remove_name(struct model *m, const char *path, bool dir)
{
	char parent_path[256];
	const char *name = local_split(path, parent_path, sizeof(parent_path));
	struct cache_inode parent, inode;
	struct cache_txn *txn;
	bool empty = true;
	ssize_t marker;
	int err;

	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, parent_path, &parent);
	if (err == 0)
		err = cache_resolve(txn, path, &inode);
	if (err == 0 && dir != (inode.kind == CACHE_DIR))
		err = -EISDIR;
	if (err == 0 && dir)
		err = cache_dir_is_empty(txn, inode.ino, &empty);
	if (err < 0 || !empty) {
		cache_abort(txn);
		return false;
	}
	marker = local_note_marker(m, txn, path);
	note_change(m, txn, path, CACHE_GONE, inode.ino, -1);
	err = cache_dentry_del(txn, parent.ino, name);
	if (err == 0 && dir)
		err = local_count_links(txn, parent.ino, -1);
	/* The order of fs/: the inode is held, then the journal hears of it,
	 * then nobody knows it any more. */
	if (err == 0) {
		inode.nlink = 0;
		err = cache_inode_put(txn, &inode);
	}
	if (err == 0)
		err = cache_held_add(txn, inode.ino);
	if (err == 0)
		err = tier_enter(
			m->tier, txn, path, NULL, TIER_DELETE, inode.ino);
	note_epoch(txn, &m->changes[m->changes_nr - 1]);
	if (marker >= 0)
		note_epoch(txn, &m->changes[marker]);
	count(m, dir ? COUNT_RMDIR : COUNT_UNLINK);
	if (local_is_open(m, inode.ino))
		count(m, COUNT_UNLINK_OPEN);
	if (err == 0)
		err = local_lose_name(m, txn, inode.ino);
	model_say(m, "    %s %s epoch %llu", dir ? "rmdir" : "unlink", path,
		(unsigned long long)m->changes[m->changes_nr - 1].epoch);
	local_commit(m, txn, err, "unlink");
	return true;
}

bool call_unlink(struct model *m, const char *path)
{
	return local_look_up(m, path) == 0 && !m->failed &&
		remove_name(m, path, false);
}

bool call_rmdir(struct model *m, const char *path)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int64_t fresh;

	if (local_look_up(m, path) < 0 || m->failed ||
		local_resolve(m, path, &inode) < 0 || inode.kind != CACHE_DIR)
		return false;
	assert(cache_read(m->cache, &txn) == 0);
	fresh = tier_fresh_dir_ns(m->tier, txn, inode.ino);
	cache_abort(txn);
	if (fresh <= 0 &&
		(local_await(m, 20 * S, local_start_dir, &inode.ino) < 0 ||
			m->failed))
		return false;
	return remove_name(m, path, true);
}

static bool make(struct model *m, const char *path, enum cache_kind kind,
	const char *target)
{
	char dir[256];
	const char *name = local_split(path, dir, sizeof(dir));
	struct cache_inode parent, inode;
	struct cache_txn *txn;
	int version = -1, err;

	if (local_look_up(m, path) < 0 || m->failed ||
		local_resolve(m, path, &inode) != -ENOENT ||
		local_resolve(m, dir, &parent) < 0 || parent.kind != CACHE_DIR)
		return false;
	memset(&inode, 0, sizeof(inode));
	inode.kind = kind;
	inode.mode = kind == CACHE_DIR ? 0755 : 0777;
	inode.nlink = kind == CACHE_DIR ? 2 : 1;
	inode.mtime_ns = base_wall_ns(menv_base(m->env));
	if (target != NULL)
		inode.size_bytes = strlen(target);
	cache_id_new(m->cache, &inode.file);
	if (kind == CACHE_SYMLINK)
		cache_id_new(m->cache, &inode.content);
	version = version_add(m, target ? target : "",
		target ? strlen(target) : 0, target ? strlen(target) : 0,
		false);
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_add(txn, &inode);
	if (err == 0 && target != NULL)
		err = cache_target_set(txn, inode.ino, target);
	if (err == 0)
		err = cache_dentry_add(txn, parent.ino, name, inode.ino);
	if (err == 0 && kind == CACHE_DIR)
		err = local_count_links(txn, parent.ino, 1);
	note_change(m, txn, path, kind, inode.ino, version);
	count(m, kind == CACHE_DIR ? COUNT_MKDIR : COUNT_SYMLINK);
	if (kind == CACHE_SYMLINK)
		note_ino(m, inode.ino, version);
	if (err == 0)
		err = tier_enter(m->tier, txn, path, &inode,
			kind == CACHE_DIR ? TIER_NEW : TIER_SYMLINK, 0);
	note_epoch(txn, &m->changes[m->changes_nr - 1]);
	model_say(m, "    %s %s ino %llu v%d epoch %llu",
		target ? "symlink" : "mkdir", path,
		(unsigned long long)inode.ino, version,
		(unsigned long long)m->changes[m->changes_nr - 1].epoch);
	local_commit(m, txn, err, "make");
	return true;
}

bool call_mkdir(struct model *m, const char *path)
{
	return make(m, path, CACHE_DIR, NULL);
}

bool call_symlink(struct model *m, const char *path, struct rnd *r)
{
	char text[256];

	text[local_text(m, r, text, sizeof(text))] = '\0';
	return make(m, path, CACHE_SYMLINK, text);
}

bool call_chmod(struct model *m, const char *path, uint32_t mode)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err;

	if (local_look_up(m, path) < 0 || m->failed)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, path, &inode);
	if (err < 0 || inode.ino == CACHE_ROOT_INO || inode.mode == mode) {
		cache_abort(txn);
		return false;
	}
	/* A prefix gets a marker to carry it. */
	if (inode.implicit)
		note_change(m, txn, path, CACHE_DIR, inode.ino,
			version_add(m, "", 0, 0, false));
	/* Who changes it says that it is as it should be. */
	if (inode.doubt != CACHE_SURE)
		note_change(m, txn, path, CACHE_FILE, inode.ino,
			ino_version(m, inode.ino));
	inode.mode = mode;
	inode.meta_gen++;
	inode.implicit = false;
	err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = tier_enter(m->tier, txn, path, &inode, TIER_ATTR, 0);
	count(m, COUNT_CHMOD);
	model_say(m, "    chmod %s %o", path, mode);
	local_commit(m, txn, err, "chmod");
	return true;
}
