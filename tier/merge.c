/*
 * Merging what the store says into the tree (WRITEBACK section 6).
 *
 * Rules, by number, as the tests name them:
 *   M1  an answer changes the row of a name only if it was asked after the
 *       last thing we know of that name, and nothing of that name is owed or
 *       under way; a name that is owed keeps its local face, and so does one
 *       whose change the store refused;
 *   M2  a moved ETag is not moved content: the same bytes (proof.c) are kept,
 *       and take the new ETag and attributes;
 *   M3  other content: if nobody has the file open, the same inode, no local
 *       bytes, the next serial; otherwise the name gets a new inode, and the
 *       old one is held;
 *   M4  absence counts under M1's test only;
 *   M5  a directory whose marker is gone, while something is below it, is a
 *       prefix from then on; what it looked like stays.
 */
#include "tier/priv.h"

#include <errno.h>
#include <stdlib.h>

int tier_merge_may(struct tier *tier, struct cache_txn *txn, const char *path,
	uint64_t known_seq, uint64_t start_seq, bool *ret)
{
	struct cache_sent sent;
	bool owed;
	int err;

	*ret = false;
	if (known_seq >= start_seq ||
		(known_seq == 0 && tier_gone_since(tier, path, start_seq)))
		return 0;
	err = cache_owed_any(txn, path, &owed);
	if (err == 0 && !owed)
		err = cache_owed_is_aside(txn, path, &owed);
	if (err < 0 || owed)
		return err;
	err = cache_sent_unsettled(txn, path, &sent);
	if (err == 0)
		cache_sent_fini(&sent);
	*ret = err == -ENOENT;
	return err == -ENOENT ? 0 : err;
}

static void take_attrs(
	struct cache_inode *inode, const struct cache_remote *remote)
{
	inode->mode = remote->attrs.mode;
	inode->uid = remote->attrs.uid;
	inode->gid = remote->attrs.gid;
	inode->rdev = remote->attrs.rdev;
	inode->mtime_ns = remote->attrs.mtime_ns;
	inode->ctime_ns = remote->attrs.mtime_ns;
	inode->access = remote->access;
	inode->meta_gen++;
}

static void take_content(struct tier *tier, struct cache_inode *inode,
	const struct cache_remote *remote)
{
	static const struct cache_id none;

	inode->kind = remote->kind;
	inode->size_bytes = remote->kind == CACHE_DIR ? 0 : remote->size_bytes;
	inode->content = remote->content;
	inode->gen++;
	inode->synced_gen = inode->gen;
	inode->stored = true;
	inode->written = false;
	inode->data = CACHE_NONE;
	if (memcmp(&remote->file, &none, sizeof(none)) != 0)
		inode->file = remote->file;
	else
		cache_id_new(tier->cache, &inode->file);
}

static int new_inode(struct tier *tier, struct cache_txn *txn,
	const struct cache_remote *remote, uint64_t *ret_ino)
{
	struct cache_inode inode = { .nlink = 1 };
	int err;

	take_content(tier, &inode, remote);
	take_attrs(&inode, remote);
	if (inode.kind == CACHE_DIR)
		inode.nlink = 2;
	inode.atime_ns = inode.btime_ns = remote->attrs.mtime_ns;
	err = cache_inode_add(txn, &inode);
	*ret_ino = inode.ino;
	return err;
}

int tier_merge_count_dir(struct cache_txn *txn, uint64_t parent, int by)
{
	struct cache_inode inode;
	int err = cache_inode_get(txn, parent, &inode);

	if (err < 0)
		return err;
	inode.nlink = (uint32_t)((int)inode.nlink + by);
	return cache_inode_put(txn, &inode);
}

/* A name that was not there. */
static int add_name(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_remote *remote)
{
	uint64_t ino;
	int err = new_inode(tier, txn, remote, &ino);

	if (err == 0)
		err = cache_dentry_add(txn, parent, name, ino);
	if (err == 0 && remote->kind == CACHE_DIR)
		err = tier_merge_count_dir(txn, parent, 1);
	return err;
}

int tier_merge_let_go(
	struct cache_txn *txn, struct cache_inode *inode, bool open)
{
	bool gone;
	int err;

	inode->nlink = 0;
	err = cache_inode_put(txn, inode);
	if (err == 0)
		err = cache_held_add(txn, inode->ino);
	if (err == 0)
		err = cache_held_put(txn, inode->ino, open, &gone);
	return err;
}

/* M3 */
static int replace_content(struct tier *tier, struct cache_txn *txn,
	uint64_t parent, const char *name, struct cache_inode *inode,
	const struct cache_remote *remote)
{
	uint64_t ino;
	int err = cache_claim(txn, inode->ino);

	/* A symlink keeps its target for good: another one is another inode. */
	if (err == 0 && inode->kind == remote->kind &&
		inode->kind != CACHE_SYMLINK) {
		err = cache_data_drop(txn, inode->ino);
		if (err == 0)
			err = cache_inode_get(txn, inode->ino, inode);
		if (err < 0)
			return err;
		take_content(tier, inode, remote);
		take_attrs(inode, remote);
		return cache_inode_put(txn, inode);
	}
	if (err < 0 && err != -EBUSY)
		return err;
	err = tier_merge_let_go(txn, inode, err == -EBUSY);
	if (err == 0)
		err = new_inode(tier, txn, remote, &ino);
	if (err == 0)
		err = cache_dentry_set(txn, parent, name, ino);
	if (err == 0 && inode->kind == CACHE_DIR)
		err = tier_merge_count_dir(txn, parent, -1);
	if (err == 0 && remote->kind == CACHE_DIR)
		err = tier_merge_count_dir(txn, parent, 1);
	return err;
}

int tier_merge_show(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_remote *remote)
{
	struct cache_dentry dentry;
	struct cache_inode inode;
	int err = cache_dentry_get(txn, parent, name, &dentry);

	if (err == -ENOENT)
		return add_name(tier, txn, parent, name, remote);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &inode);
	if (err < 0)
		return err;
	if (inode.kind == CACHE_DIR && remote->kind == CACHE_DIR) {
		take_attrs(&inode, remote);
		inode.implicit = false;
		inode.stored = true;
		return cache_inode_put(txn, &inode);
	}
	if (inode.kind == remote->kind &&
		cache_id_eq(&inode.content, &remote->content)) {
		take_attrs(&inode, remote);
		inode.stored = true;
		return cache_inode_put(txn, &inode);
	}
	if (inode.kind == CACHE_FILE &&
		(inode.written || inode.doubt != CACHE_SURE))
		return 0; /* being written: its close meets the store */
	if (inode.kind == CACHE_DIR)
		return 0; /* the directory wins; the caller shows a shadow */
	return replace_content(tier, txn, parent, name, &inode, remote);
}

/* The blob whose name is also a directory's: it is shown under a shadow name
 * from now on. */
static int move_aside(struct cache_txn *txn, uint64_t parent, const char *name,
	uint64_t ino, struct cache_remote *remote)
{
	char shadow[CACHE_PATH_MAX], *path = remote->name;
	size_t len;
	int err = blob_name_shadow(path, shadow, sizeof(shadow));

	if (err == 0)
		err = cache_remote_del(txn, path);
	if (err == 0) {
		remote->name = shadow;
		err = cache_remote_put(txn, remote);
		remote->name = path;
	}
	if (err == 0)
		err = cache_dentry_del(txn, parent, name);
	if (err == 0)
		err = cache_dentry_add(
			txn, parent, tier_path_last(shadow, &len), ino);
	return err;
}

/* A prefix without a marker: a directory that nobody described. */
static int show_prefix(struct tier *tier, struct cache_txn *txn,
	uint64_t parent, const char *name, const char *path)
{
	struct cache_remote remote = { .kind = CACHE_DIR }, old;
	struct cache_dentry dentry;
	struct cache_inode inode;
	uint64_t ino;
	int err = cache_dentry_get(txn, parent, name, &dentry);

	if (err == 0) {
		err = cache_inode_get(txn, dentry.ino, &inode);
		if (err < 0 || inode.kind == CACHE_DIR || !inode.stored ||
			cache_remote_get(txn, path, &old) < 0)
			return err; /* there, or local and not sent yet */
		err = move_aside(txn, parent, name, dentry.ino, &old);
		cache_remote_fini(&old);
	}
	if (err < 0 && err != -ENOENT)
		return err;
	remote.attrs.mode = tier->cfg.dir_mode;
	remote.attrs.uid = tier->cfg.uid;
	remote.attrs.gid = tier->cfg.gid;
	remote.attrs.mtime_ns = base_wall_ns(tier->env);
	err = new_inode(tier, txn, &remote, &ino);
	if (err == 0)
		err = cache_inode_get(txn, ino, &inode);
	if (err < 0)
		return err;
	inode.implicit = true;
	err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = cache_dentry_add(txn, parent, name, ino);
	if (err == 0)
		err = tier_merge_count_dir(txn, parent, 1);
	return err;
}

int tier_late(struct tier *tier, struct cache_txn *txn,
	struct cache_remote *remote, const struct blob_mark *mark)
{
	struct cache_remote old;
	struct cache_inode inode;
	struct cache_sent sent;
	int err;

	if (!mark->present)
		return 0;
	err = cache_sent_get(txn, mark->commit.number, &sent);
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	err = sent.settled && strcmp(sent.name, remote->name) == 0 &&
		memcmp(mark->commit.host, sent.host.bytes, CACHE_ID_BYTES) ==
			0 &&
		tier_is_sent(&sent, remote);
	remote->content = sent.content;
	cache_sent_fini(&sent);
	if (err == 0 || cache_resolve(txn, remote->name, &inode) == 0)
		return 0;
	if (cache_remote_get(txn, remote->name, &old) == 0) {
		cache_remote_fini(&old); /* it is known, and owed to go */
		return 0;
	}
	remote->known_seq = tier_tick(tier);
	err = cache_remote_put(txn, remote);
	if (err == 0)
		err = tier_enter(tier, txn, remote->name, NULL, TIER_DELETE, 0);
	return err < 0 ? err : 1;
}

/* Under which path a blob is shown: its own, or a shadow of it where a
 * directory has the name. */
static int shown_path(struct cache_txn *txn, uint64_t parent, const char *name,
	const struct cache_remote *remote, char *ret)
{
	struct cache_dentry dentry;
	struct cache_inode inode;
	size_t len = strlen(remote->name);

	if (len >= CACHE_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, remote->name, len + 1);
	if (remote->kind == CACHE_DIR ||
		cache_dentry_get(txn, parent, name, &dentry) < 0 ||
		cache_inode_get(txn, dentry.ino, &inode) < 0 ||
		inode.kind != CACHE_DIR)
		return 0;
	return blob_name_shadow(remote->name, ret, CACHE_PATH_MAX);
}

/* Is somebody writing to what has this name, or will a user have to say that it
 * is as it should be?  Then it is about to be owed:
 * other content is met by its close, under the ETag that we know. */
static bool is_written(struct cache_txn *txn, uint64_t parent, const char *name)
{
	struct cache_dentry dentry;
	struct cache_inode inode;

	return cache_dentry_get(txn, parent, name, &dentry) == 0 &&
		cache_inode_get(txn, dentry.ino, &inode) == 0 &&
		inode.kind == CACHE_FILE &&
		(inode.written || inode.doubt != CACHE_SURE);
}

/* Tags come and go without moving the ETag, and so does a tier. */
static int note_tags(struct cache_txn *txn, const struct cache_remote *old,
	const struct cache_remote *now)
{
	struct cache_remote row = *old;

	if (now->foreign_bytes == old->foreign_bytes &&
		(old->foreign_bytes == 0 ||
			memcmp(now->foreign, old->foreign,
				old->foreign_bytes) == 0))
		return 0;
	row.foreign = now->foreign;
	row.foreign_bytes = now->foreign_bytes;
	return cache_remote_put(txn, &row);
}

/* Nothing moved: the name is still there (it may have been lost locally by
 * an answer that came out of order). */
static int merge_same(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct cache_remote *remote)
{
	struct cache_dentry dentry;
	int err = cache_dentry_get(txn, parent, name, &dentry);

	return err == -ENOENT ? tier_merge_show(tier, txn, parent, name, remote)
			      : err;
}

/* A blob whose row may change. */
static int merge_row(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	struct cache_remote *remote, const struct cache_remote *old)
{
	size_t len;
	const char *name = tier_path_last(remote->name, &len);
	bool same = old != NULL && strcmp(old->etag, remote->etag) == 0 &&
		old->slash == remote->slash;
	int err;

	/* A tier or a policy comes and goes under the same ETag. */
	if (same && old->access == remote->access) {
		err = note_tags(txn, old, remote);
		return err < 0 ? err : merge_same(tier, txn, parent, name, old);
	}
	if (same && old->has_list) {
		remote->has_list = true; /* a listing does not say it */
		memcpy(remote->list, old->list, sizeof(remote->list));
	}
	if (same || (old != NULL && tier_same_bytes(old, remote))) /* M2 */
		remote->content = old->content;
	else if (is_written(txn, parent, name))
		return 0;
	else
		cache_id_new(tier->cache, &remote->content);
	err = cache_remote_put(txn, remote);
	return err < 0 ? err : tier_merge_show(tier, txn, parent, name, remote);
}

static int merge_blob(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, const struct blob_entry *entry, uint64_t start_seq,
	char *ret_name)
{
	char path[CACHE_PATH_MAX];
	struct cache_remote remote, old;
	struct blob_mark mark;
	bool known = false, may;
	char *plain;
	size_t len;
	int err;

	tier_remote_from_entry(tier, entry, &remote, &mark);
	plain = remote.name;
	err = shown_path(txn, parent, name, &remote, path);
	if (err < 0)
		goto out;
	memcpy(ret_name, tier_path_last(path, &len),
		strlen(tier_path_last(path, &len)) + 1);
	remote.name = path;
	remote.known_seq = start_seq;
	/* A directory took the blob's own name, and its rows with it. */
	if (strcmp(path, plain) != 0) {
		err = tier_merge_may(tier, txn, plain, 0, start_seq, &may);
		if (err < 0 || !may)
			goto out;
	}
	known = cache_remote_get(txn, path, &old) == 0;
	err = tier_merge_may(
		tier, txn, path, known ? old.known_seq : 0, start_seq, &may);
	if (err == 0 && may)
		err = tier_late(tier, txn, &remote, &mark);
	if (err > 0)
		may = false; /* it is gone as soon as it is told */
	if (err >= 0 && may)
		err = merge_row(
			tier, txn, parent, &remote, known ? &old : NULL);
out:
	if (known)
		cache_remote_fini(&old);
	remote.name = plain;
	cache_remote_fini(&remote);
	return err == -ENAMETOOLONG || err > 0 ? 0 : err;
}

int tier_merge_entry(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const struct blob_entry *entry, uint64_t start_seq, char *ret_name)
{
	size_t len;
	const char *name = tier_path_last(entry->name, &len);
	bool may;
	int err;

	memcpy(ret_name, name, strlen(name) + 1);
	if (!entry->prefix)
		return merge_blob(
			tier, txn, parent, name, entry, start_seq, ret_name);
	err = tier_merge_may(tier, txn, entry->name, 0, start_seq, &may);
	if (err < 0 || !may)
		return err;
	return show_prefix(tier, txn, parent, name, entry->name);
}

int tier_merge_slash(struct tier *tier, struct cache_txn *txn, uint64_t ino,
	const char *path, const struct blob_entry *entry, uint64_t start_seq)
{
	struct base_str name = BASE_STR_INIT;
	struct cache_remote old, remote = { 0 };
	struct cache_inode dir;
	struct blob_mark mark;
	bool known, may;
	int err;

	base_str_printf(&name, "%s/", path);
	known = cache_remote_get(txn, name.data, &old) == 0;
	err = known || entry != NULL
		? tier_merge_may(tier, txn, name.data,
			  known ? old.known_seq : 0, start_seq, &may)
		: -ENOENT;
	if (err < 0 || !may)
		goto out;
	if (entry == NULL) {
		err = tier_remote_gone(tier, txn, name.data);
		goto out;
	}
	tier_remote_from_entry(tier, entry, &remote, &mark);
	free(remote.name);
	remote.name = name.data;
	remote.kind = CACHE_DIR;
	remote.known_seq = start_seq;
	if (!known || strcmp(old.etag, remote.etag) != 0)
		err = cache_remote_put(txn, &remote);
	if (err == 0)
		err = cache_inode_get(txn, ino, &dir);
	if (err == 0 && dir.implicit) {
		take_attrs(&dir, &remote);
		err = cache_inode_put(txn, &dir);
	}
	remote.name = NULL;
	cache_remote_fini(&remote);
out:
	if (known)
		cache_remote_fini(&old);
	base_str_fini(&name);
	return err == -ENOENT ? 0 : err;
}
