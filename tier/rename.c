/*
 * Directory renames, when their turn comes: one row in the journal, expanded a
 * batch at a time by a scan of `remote`.  First all new names are owed (copies
 * on the server, mostly); when they are there, the old ones go.  A restart
 * begins the scan again: what is done is in step and costs a look.
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

struct expand {
	struct tier *tier;
	struct cache_txn *txn;
	struct cache_owed_prefix *prefix;
	char *names[TIER_MERGE_BATCH];
	struct cache_id contents[TIER_MERGE_BATCH];
	size_t nr;
};

static int collect(void *arg, const struct cache_remote *remote)
{
	struct expand *x = arg;

	x->contents[x->nr] = remote->content;
	x->names[x->nr++] = base_strdup(remote->name);
	return 0;
}

struct others {
	uint64_t seq;
	const char *name;
	bool found;
};

static int see_prefix(void *arg, const struct cache_owed_prefix *row)
{
	struct others *o = arg;
	size_t len = strlen(row->old_dir);

	o->found |= row->seq > o->seq &&
		strncmp(o->name, row->old_dir, len) == 0 &&
		(o->name[len] == '\0' || o->name[len] == '/');
	return 0;
}

/* Does a later rename move it on from here?  Then that one deletes it. */
static bool is_anothers(struct expand *x, const char *name)
{
	struct others o = { .seq = x->prefix->seq, .name = name };

	cache_owed_prefix_each(x->txn, see_prefix, &o);
	return o.found;
}

/* One name below the old directory: its new name is owed, or, when all new
 * names are there, it goes. */
static int expand_one(struct expand *x, size_t i)
{
	struct cache_owed_prefix *prefix = x->prefix;
	struct cache_owed row = { 0 };
	struct base_str path = BASE_STR_INIT;
	struct cache_inode inode, other;
	bool owed = false;
	int err;

	base_str_puts(&path, prefix->new_dir);
	base_str_puts(&path, x->names[i] + strlen(prefix->old_dir));
	err = cache_resolve(x->txn, path.data, &inode);
	row.epoch = prefix->epoch;
	row.change = TIER_CLASS_RENAME;
	row.entered_ns = base_boot_ns(x->tier->env) - TIER_STAGE_DELAY_NS;
	if (prefix->deleting) {
		if (err == 0)
			row.displaced = inode.ino;
		row.name = x->names[i];
		row.kind = CACHE_GONE;
		row.change = TIER_CLASS_DELETE;
		err = cache_resolve(x->txn, row.name, &other);
		if (err == 0) /* somebody made it again: it is owed as such */
			goto out;
		if (is_anothers(x, row.name))
			goto out;
	} else {
		if (err < 0)
			goto out;
		if (inode.doubt != CACHE_SURE)
			err = cache_doubt_end(x->txn, inode.ino);
		if (err < 0)
			goto out;
		row.name = path.data;
		row.kind = inode.kind;
		row.ino = inode.ino;
		row.serial = tier_serial_of(&inode);
		row.size_bytes = inode.size_bytes;
		row.gen = inode.gen;
		row.content = inode.content;
		tier_attrs_of(&inode, &row.attrs);
	}
	err = cache_owed_any_row(x->txn, row.name, &owed);
	if (err == 0 && !owed)
		err = cache_owed_add(x->txn, &row);
out:
	base_str_fini(&path);
	return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

/* Expands the next names of a directory rename.  Returns 1 while there is
 * something to do, 0 when the rename is complete. */
static int expand_prefix(struct tier_line *line,
	struct cache_owed_prefix *prefix, bool epoch_empty)
{
	struct expand x = { .tier = line->tier, .prefix = prefix };
	struct cache_remote marker;
	bool first = prefix->cursor == NULL;
	int err = cache_write(line->tier->cache, &x.txn);

	if (err < 0)
		return err;
	err = cache_remote_each(x.txn, prefix->old_dir, prefix->cursor, true,
		TIER_MERGE_BATCH - 1, collect, &x);
	if (x.nr > 0) {
		free(prefix->cursor);
		prefix->cursor = base_strdup(x.names[x.nr - 1]);
	}
	if (err == 0 && first && prefix->deleting &&
		cache_remote_get(x.txn, prefix->old_dir, &marker) == 0) {
		collect(&x, &marker);
		cache_remote_fini(&marker);
		if (prefix->cursor == NULL)
			prefix->cursor = base_strdup(prefix->old_dir);
	}
	for (size_t i = 0; i < x.nr && err == 0; i++)
		err = expand_one(&x, i);
	for (size_t i = 0; i < x.nr; i++)
		free(x.names[i]);
	if (err == 0 && x.nr == 0 && epoch_empty) {
		if (prefix->deleting) {
			err = cache_owed_prefix_del(x.txn, prefix->seq);
			x.nr = 0;
		} else {
			prefix->deleting = true;
			free(prefix->cursor);
			prefix->cursor = NULL;
			x.nr = 1;
		}
	}
	if (err == 0 && (x.nr > 0 || !epoch_empty))
		err = cache_owed_prefix_put(x.txn, prefix);
	if (err < 0) {
		cache_abort(x.txn);
		return err;
	}
	err = cache_commit(x.txn);
	return err < 0 ? err : x.nr > 0;
}

bool tier_rename_step(struct tier_line *line, uint64_t epoch, size_t in_epoch)
{
	struct cache_owed_prefix prefix;
	struct cache_txn *txn;
	int err = cache_read(line->tier->cache, &txn);

	if (err < 0)
		return false;
	err = cache_owed_prefix_first(txn, epoch, &prefix);
	cache_abort(txn);
	if (err < 0)
		return false;
	if (in_epoch < TIER_SEND_PARALLEL)
		err = expand_prefix(line, &prefix, in_epoch == 0);
	else
		err = 0;
	cache_owed_prefix_fini(&prefix);
	if (err < 0)
		log_error("index: a directory rename cannot go on: %s",
			strerror(-err));
	return err > 0 || (err == 0 && in_epoch == 0);
}
