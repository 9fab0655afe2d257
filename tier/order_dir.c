/*
 * Directory renames enter the journal: one row, `owed_prefix(old, new)`, and
 * what was never sent simply has other names now.
 *
 * A directory may be renamed while an earlier rename is still owed.  What is
 * below it here can then be in three places of the store:
 *   P1  under the directory's name: a row of its own moves it;
 *   P2  where an earlier rename, into the directory or below it, will find
 *       it: that rename goes to the new name instead;
 *   P3  where an earlier rename of a directory above will find it: a row of
 *       its own moves it from there, and the earlier one leaves it alone.
 *
 * What is owed below the directory may get a name under which something else
 * is owed (it was removed there, and the store not told).  Then the order
 * cannot be kept as it was: the epochs from the first such row become a group.
 */
#include <errno.h>
#include <stdlib.h>

#include "tier/order.h"

struct renaming {
	struct tier *tier;
	struct cache_txn *txn;
	const char *old_path, *new_path;
	/* P2: earlier renames that go elsewhere now; P3: places */
	struct cache_owed_prefix *moved;
	size_t moved_nr;
	char **places;
	size_t places_nr;
	/* rows below the old name */
	uint64_t *seqs;
	size_t seqs_nr;
	uint64_t first_epoch;
};

/* What follows `dir` in a name at or below it; NULL: it is not. */
static const char *rest_of(const char *name, const char *dir)
{
	size_t len = strlen(dir);

	if (strncmp(name, dir, len) != 0 ||
		(name[len] != '\0' && name[len] != '/'))
		return NULL;
	return name + len;
}

static char *concat(const char *a, const char *b)
{
	struct base_str s = BASE_STR_INIT;

	base_str_puts(&s, a);
	base_str_puts(&s, b);
	return base_str_take(&s);
}

/* ---- where it is in the store ---- */

struct lookup {
	const char *path;
	char *found; /* by the newest of them */
	uint64_t seq;
	struct cache_txn *txn;
};

static int look(void *arg, const struct cache_owed_prefix *prefix)
{
	struct lookup *l = arg;
	const char *rest = rest_of(l->path, prefix->new_dir);
	struct cache_remote remote;
	char *name = concat(prefix->old_dir, rest);

	if (prefix->seq < l->seq) {
		free(name);
		return 0;
	}
	if (cache_remote_get(l->txn, name, &remote) < 0) {
		free(name);
		return 0;
	}
	cache_remote_fini(&remote);
	free(l->found);
	l->found = name;
	l->seq = prefix->seq;
	return 0;
}

int tier_order_old_name(struct cache_txn *txn, const char *path, char **ret)
{
	struct lookup l = { .path = path, .txn = txn };
	struct cache_inode inode;
	int err =
		cache_owed_prefix_above(txn, CACHE_PREFIX_NEW, path, look, &l);

	/* A name that is somebody else's by now is owed as such. */
	if (err == 0 && l.found != NULL &&
		cache_resolve(txn, l.found, &inode) == 0)
		err = -ENOENT;
	if (err == 0 && l.found == NULL)
		err = -ENOENT;
	if (err == 0)
		*ret = l.found;
	else
		free(l.found);
	return err;
}

static int stop_at_first(void *arg, const struct cache_remote *remote)
{
	(void)remote;
	*(bool *)arg = true;
	return 1;
}

static int has_below(struct cache_txn *txn, const char *dir, bool *ret)
{
	int err =
		cache_remote_each(txn, dir, NULL, true, 1, stop_at_first, ret);

	if (err >= 0 && !*ret)
		err = cache_sent_below(txn, dir, ret);
	return err < 0 ? err : 0;
}

/* P2 */
static int see_moved(void *arg, const struct cache_owed_prefix *prefix)
{
	struct renaming *r = arg;
	const char *rest = rest_of(prefix->new_dir, r->old_path);
	struct cache_owed_prefix *moved;

	r->moved =
		base_realloc(r->moved, (r->moved_nr + 1) * sizeof(*r->moved));
	moved = &r->moved[r->moved_nr++];
	*moved = *prefix;
	moved->old_dir = base_strdup(prefix->old_dir);
	moved->new_dir = concat(r->new_path, rest);
	moved->cursor = prefix->cursor ? base_strdup(prefix->cursor) : NULL;
	return 0;
}

/* P3, or its own: P2 */
static int see_place(void *arg, const struct cache_owed_prefix *prefix)
{
	struct renaming *r = arg;
	const char *rest = rest_of(r->old_path, prefix->new_dir);
	bool below = false;
	char *place;
	int err;

	if (*rest == '\0')
		return see_moved(arg, prefix);
	place = concat(prefix->old_dir, rest);
	err = has_below(r->txn, place, &below);
	if (err < 0 || !below) {
		free(place);
		return err;
	}
	r->places = base_realloc(
		r->places, (r->places_nr + 1) * sizeof(*r->places));
	r->places[r->places_nr++] = place;
	return 0;
}

static int move_prefixes(struct renaming *r)
{
	int err = cache_owed_prefix_above(
		r->txn, CACHE_PREFIX_NEW, r->old_path, see_place, r);

	if (err == 0)
		err = cache_owed_prefix_below(
			r->txn, CACHE_PREFIX_NEW, r->old_path, see_moved, r);
	for (size_t i = 0; i < r->moved_nr; i++) {
		if (err == 0)
			err = cache_owed_prefix_put(r->txn, &r->moved[i]);
		cache_owed_prefix_fini(&r->moved[i]);
	}
	free(r->moved);
	return err;
}

/* ---- what was never sent ---- */

static int see_row(void *arg, const struct cache_owed *row)
{
	struct renaming *r = arg;

	if (row->kind == CACHE_GONE || row->state != CACHE_OWED_UNSENT)
		return 0;
	r->seqs = base_realloc(r->seqs, (r->seqs_nr + 1) * sizeof(*r->seqs));
	r->seqs[r->seqs_nr++] = row->seq;
	if (r->first_epoch == 0 || row->epoch < r->first_epoch)
		r->first_epoch = row->epoch;
	return 0;
}

static int rename_rows(struct renaming *r)
{
	bool owed = false, aside = false;
	uint64_t seq;
	int err = cache_owed_below(
		r->txn, r->new_path, UINT64_MAX, &owed, &aside);

	if (err == 0 && (owed || aside))
		err = cache_owed_each_below(r->txn, r->old_path, see_row, r);
	if (err == 0)
		err = cache_owed_rename(r->txn, r->old_path, r->new_path);
	/* They are the newest under their names. */
	for (size_t i = 0; i < r->seqs_nr && err == 0; i++)
		err = cache_owed_renumber(r->txn, r->seqs[i], &seq);
	if (err == 0 && r->seqs_nr > 0)
		err = tier_order_join(
			r->tier, r->txn, r->first_epoch, r->tier->order.epoch);
	free(r->seqs);
	return err;
}

/* ---- the rename ---- */

static int add_prefix(struct renaming *r, const char *old_dir)
{
	struct cache_owed_prefix prefix = { 0 };

	prefix.epoch = r->tier->order.epoch;
	r->tier->order.is_empty = false;
	prefix.old_dir = (char *)old_dir;
	prefix.new_dir = (char *)r->new_path;
	return cache_owed_prefix_add(r->txn, &prefix);
}

static int enter(struct renaming *r, const struct cache_inode *inode,
	uint64_t displaced, bool below)
{
	struct tier *tier = r->tier;
	bool shown;
	char *old_name;
	int err = tier_order_shows(r->txn, r->old_path, &shown);

	if (err < 0)
		return err;
	err = tier_order_keep_dir(tier, r->txn, r->old_path);
	if (err < 0)
		return err;
	tier_order_next(tier, TIER_CLASS_RENAME);
	err = tier_order_fall_out(tier, r->txn, r->old_path, false);
	shown |= err > 0;
	if (err >= 0 &&
		tier_order_old_name(r->txn, r->old_path, &old_name) == 0) {
		shown = true;
		free(old_name);
	}
	if (err >= 0 && shown)
		err = tier_order_put(tier, r->txn, r->new_path, inode,
			TIER_CLASS_RENAME, displaced);
	if (err >= 0 && below)
		err = add_prefix(r, r->old_path);
	for (size_t i = 0; i < r->places_nr && err >= 0; i++)
		err = add_prefix(r, r->places[i]);
	if (err >= 0)
		err = cache_meta_set_u64(r->txn, "epoch", tier->order.epoch);
	tier->order.after_staged = true;
	return err;
}

int tier_enter_rename_dir(struct tier *tier, struct cache_txn *txn,
	const char *old_path, const char *new_path,
	const struct cache_inode *inode, uint64_t displaced)
{
	struct renaming r = { .tier = tier,
		.txn = txn,
		.old_path = old_path,
		.new_path = new_path };
	bool below = false;
	int err;

	err = blob_name_check(tier->store, new_path);
	if (err == 0)
		err = cache_conflict_rename(txn, old_path, new_path);
	if (err == 0)
		err = has_below(txn, old_path, &below);
	if (err == 0)
		err = move_prefixes(&r);
	if (err == 0)
		err = rename_rows(&r);
	if (err == 0 && !below && r.places_nr == 0)
		err = tier_enter_rename(
			tier, txn, old_path, new_path, inode, displaced);
	else if (err == 0)
		err = enter(&r, inode, displaced, below);
	for (size_t i = 0; i < r.places_nr; i++)
		free(r.places[i]);
	free(r.places);
	return err;
}
