/* Walks the files of a tree in the index, a batch at a time. */
#include "fs/control_priv.h"

#include <stdlib.h>
#include <string.h>

static void push(struct fs_walk *walk, uint64_t ino)
{
	if (walk->nr == walk->cap) {
		walk->cap = walk->cap > 0 ? walk->cap * 2 : 16;
		walk->frames = base_realloc(
			walk->frames, walk->cap * sizeof(*walk->frames));
	}
	walk->frames[walk->nr++] = (struct fs_walk_frame){ .ino = ino };
}

void fs_walk_init(struct fs_walk *walk, struct cache *cache,
	const struct cache_inode *root)
{
	memset(walk, 0, sizeof(*walk));
	walk->cache = cache;
	if (root->kind == CACHE_DIR) {
		push(walk, root->ino);
	} else if (root->kind == CACHE_FILE) {
		walk->has_file = true;
		walk->file = *root;
	}
}

void fs_walk_fini(struct fs_walk *walk)
{
	free(walk->frames);
}

static int each(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct fs_walk *walk = arg;

	walk->frames[walk->nr - 1].cookie = dentry->cookie;
	if (inode->kind == CACHE_DIR) {
		walk->enter = inode->ino;
		return 1;
	}
	if (inode->kind != CACHE_FILE)
		return 0;
	walk->out[walk->out_nr++] = *inode;
	return walk->out_nr == walk->out_max;
}

ssize_t fs_walk_next(struct fs_walk *walk, struct cache_inode *ret, size_t max)
{
	struct cache_txn *txn;
	int err;

	if (walk->has_file) {
		walk->has_file = false;
		ret[0] = walk->file;
		return 1;
	}
	walk->out = ret;
	walk->out_nr = 0;
	walk->out_max = max;
	if (walk->nr == 0)
		return 0;
	err = cache_read(walk->cache, &txn);
	if (err < 0)
		return err;
	while (err >= 0 && walk->nr > 0 && walk->out_nr < max) {
		const struct fs_walk_frame *top = &walk->frames[walk->nr - 1];

		walk->enter = 0;
		err = cache_dentry_each(txn, top->ino, top->cookie, each, walk);
		if (err == 0)
			walk->nr--;
		else if (err > 0 && walk->enter != 0)
			push(walk, walk->enter);
	}
	cache_abort(txn);
	return err < 0 ? err : (ssize_t)walk->out_nr;
}
