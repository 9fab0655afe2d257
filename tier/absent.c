/*
 * What the store does not show any more leaves the tree (merge.c's rules M4 and
 * M5).
 */
#include "tier/priv.h"

#include <errno.h>
#include <stdlib.h>

static int absent_dir(struct tier *tier, struct cache_txn *txn, uint64_t ino,
	uint64_t start_seq);

int tier_merge_absent(struct tier *tier, struct cache_txn *txn, uint64_t parent,
	const char *name, uint64_t start_seq)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_remote old;
	bool known, may, owed = false, aside = false;
	int err;

	err = cache_path_join(txn, parent, name, &path);
	if (err < 0)
		return err;
	known = cache_remote_get(txn, path.data, &old) == 0;
	err = tier_merge_may(tier, txn, path.data, known ? old.known_seq : 0,
		start_seq, &may);
	if (known)
		cache_remote_fini(&old);
	if (err < 0 || !may)
		goto out;
	if (known)
		err = tier_remote_gone(tier, txn, path.data);
	if (err == 0)
		err = cache_dentry_get(txn, parent, name, &dentry);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &inode);
	if (err < 0)
		goto out;
	/* Nothing was ever said of it: it is a file being made here. */
	if (!inode.stored && !inode.implicit)
		goto out;
	if (inode.written)
		goto out;
	if (inode.kind == CACHE_DIR) {
		err = cache_owed_below(
			txn, path.data, UINT64_MAX, &owed, &aside);
		if (err < 0 || owed || aside)
			goto out;
		err = absent_dir(tier, txn, inode.ino, start_seq);
		if (err > 0) { /* something stays in it: M5 */
			inode.implicit = true;
			err = cache_inode_put(txn, &inode);
			goto out;
		}
		if (err < 0)
			goto out;
		err = tier_merge_count_dir(txn, parent, -1);
		if (err == 0)
			err = cache_inode_get(txn, dentry.ino, &inode);
	}
	if (err == 0)
		err = cache_dentry_del(txn, parent, name);
	if (err == 0 && strstr(name, ".conflict-") != NULL)
		err = cache_conflict_settled(txn, path.data);
	if (err == 0) {
		int claim = cache_claim(txn, inode.ino);

		err = claim < 0 && claim != -EBUSY
			? claim
			: tier_merge_let_go(txn, &inode, claim == -EBUSY);
	}
out:
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

int tier_merge_unmarked(struct tier *tier, struct cache_txn *txn,
	uint64_t parent, const char *name, uint64_t start_seq)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_remote old;
	bool may = false;
	int err;

	err = cache_path_join(txn, parent, name, &path);
	if (err == 0)
		err = cache_remote_get(txn, path.data, &old);
	if (err < 0)
		goto out;
	/* One named "d/" is seen by a walk of the directory itself. */
	if (old.kind == CACHE_DIR && !old.slash)
		err = tier_merge_may(
			tier, txn, path.data, old.known_seq, start_seq, &may);
	cache_remote_fini(&old);
	if (err == 0 && may)
		err = cache_dentry_get(txn, parent, name, &dentry);
	if (err < 0 || !may)
		goto out;
	err = cache_inode_get(txn, dentry.ino, &inode);
	if (err == 0)
		err = cache_remote_del(txn, path.data);
	if (err == 0 && inode.kind == CACHE_DIR) {
		inode.implicit = true;
		err = cache_inode_put(txn, &inode);
	}
out:
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

struct children {
	char **names;
	size_t nr;
};

static int collect_child(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct children *c = arg;

	(void)inode;
	c->names = base_realloc(c->names, (c->nr + 1) * sizeof(*c->names));
	c->names[c->nr++] = base_strdup(dentry->name);
	return 0;
}

/* The children of a directory that is gone go with it.  Returns 1 if one of
 * them stays. */
static int absent_dir(struct tier *tier, struct cache_txn *txn, uint64_t ino,
	uint64_t start_seq)
{
	struct children c = { 0 };
	bool empty = true;
	int err = cache_dentry_each(txn, ino, 0, collect_child, &c);

	for (size_t i = 0; i < c.nr; i++) {
		if (err == 0)
			err = tier_merge_absent(
				tier, txn, ino, c.names[i], start_seq);
		free(c.names[i]);
	}
	free(c.names);
	if (err == 0)
		err = cache_dir_is_empty(txn, ino, &empty);
	return err < 0 ? err : !empty;
}
