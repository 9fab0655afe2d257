/*
 * Directory renames, when their turn comes: one row in the journal, expanded a
 * batch at a time by a scan of `remote`.  First all new names are owed (copies
 * on the server, mostly); when they are there, the old ones go.  A restart
 * begins the scan again: what is done is in step and costs a look.
 */
#include "tier/look.h"
#include "tier/order.h"

#include <errno.h>
#include <stdlib.h>

struct expand {
	struct tier *tier;
	struct cache_txn *txn;
	struct cache_owed_prefix *prefix;
	bool group; /* its epoch is one */
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

static int see_later(void *arg, const struct cache_owed_prefix *row)
{
	return row->seq > *(uint64_t *)arg;
}

/* Does a later rename move it on from here?  Then that one deletes it. */
static bool is_anothers(struct expand *x, const char *name)
{
	uint64_t seq = x->prefix->seq;

	return cache_owed_prefix_above(
		       x->txn, CACHE_PREFIX_OLD, name, see_later, &seq) > 0;
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
	/* A marker "d/" becomes the plain one. */
	if (path.data[path.len - 1] == '/')
		path.data[--path.len] = '\0';
	err = cache_resolve(x->txn, path.data, &inode);
	row.epoch = row.run = prefix->epoch;
	row.group = x->group;
	row.step = !x->group	   ? 0
		: prefix->deleting ? CACHE_OWED_STEP_DELETES
				   : prefix->step;
	row.change = TIER_CLASS_RENAME;
	row.phase = CACHE_OWED_NEW;
	row.entered_ns = base_boot_ns(x->tier->env) - TIER_STAGE_DELAY_NS;
	if (prefix->deleting) {
		if (err == 0)
			row.displaced = inode.ino;
		row.name = x->names[i];
		row.kind = CACHE_GONE;
		row.change = TIER_CLASS_DELETE;
		row.phase = CACHE_OWED_DELETES;
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

/* All of one kind are there: the other kind, or it is complete. */
static int next_kind(struct expand *x, bool *ret_complete)
{
	struct cache_owed_prefix *prefix = x->prefix;

	*ret_complete = prefix->deleting;
	if (prefix->deleting)
		return cache_owed_prefix_del(x->txn, prefix->seq);
	prefix->deleting = true;
	free(prefix->cursor);
	prefix->cursor = NULL;
	return cache_owed_prefix_put(x->txn, prefix);
}

/* The next names; the directory's own marker goes with the first that go. */
static int collect_names(struct expand *x)
{
	struct cache_owed_prefix *prefix = x->prefix;
	struct cache_remote marker;
	bool first = prefix->cursor == NULL;
	int err = cache_remote_each(x->txn, prefix->old_dir, prefix->cursor,
		true, TIER_MERGE_BATCH - 1, collect, x);

	if (x->nr > 0) {
		free(prefix->cursor);
		prefix->cursor = base_strdup(x->names[x->nr - 1]);
	}
	if (err == 0 && first && prefix->deleting &&
		cache_remote_get(x->txn, prefix->old_dir, &marker) == 0) {
		collect(x, &marker);
		cache_remote_fini(&marker);
		if (prefix->cursor == NULL)
			prefix->cursor = base_strdup(prefix->old_dir);
	}
	return err;
}

static int expand_names(struct expand *x)
{
	int err = 0;

	for (size_t i = 0; i < x->nr && err == 0; i++)
		err = expand_one(x, i);
	x->prefix->done += x->nr;
	return err == 0 ? cache_owed_prefix_put(x->txn, x->prefix) : err;
}

/* Enters the next names of a directory rename.  Returns 1 while there is
 * something to do at once. */
static int expand_prefix(struct tier_line *line,
	struct cache_owed_prefix *prefix, const struct look *look)
{
	struct expand x = {
		.tier = line->tier, .prefix = prefix, .group = look->group
	};
	bool complete = false;
	int err = cache_write(line->tier->cache, &x.txn);

	if (err < 0)
		return err;
	err = collect_names(&x);
	if (err == 0 && x.nr > 0)
		err = expand_names(&x);
	else if (err == 0 && look->in_epoch == 0)
		err = next_kind(&x, &complete);
	else
		complete = true; /* for now */
	for (size_t i = 0; i < x.nr; i++)
		free(x.names[i]);
	if (err < 0) {
		cache_abort(x.txn);
		return err;
	}
	err = cache_commit(x.txn);
	return err < 0 ? err : !complete;
}

static int first_prefix(
	struct tier *tier, uint64_t epoch, struct cache_owed_prefix *ret)
{
	struct cache_txn *txn;
	int err = cache_read(tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_owed_prefix_first(txn, epoch, ret);
	if (err == 0 && ret->total == 0) {
		/* For `status`: each name comes and goes. */
		err = cache_remote_count(txn, ret->old_dir, &ret->total);
		ret->total = 2 * ret->total + 1;
		if (err < 0)
			cache_owed_prefix_fini(ret);
	}
	cache_abort(txn);
	return err;
}

bool tier_rename_step(struct tier_line *line, const struct look *look)
{
	struct cache_owed_prefix prefix;
	int err;

	if (look->in_epoch >= TIER_SEND_PARALLEL)
		return false;
	err = first_prefix(line->tier, look->epoch, &prefix);
	if (err == -ENOENT)
		return false;
	if (err == 0) {
		err = expand_prefix(line, &prefix, look);
		cache_owed_prefix_fini(&prefix);
	}
	if (err < 0) {
		log_error("index: a directory rename cannot go on: %s",
			strerror(-err));
		tier_line_tick_after(line, TIER_S);
	}
	return err > 0 || (err == 0 && look->in_epoch == 0);
}
