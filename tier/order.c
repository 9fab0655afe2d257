/*
 * The order: what enters the write-back journal, and where (WRITEBACK
 * section 5).
 *
 * An epoch is a run of changes that may become visible in any order.  Rules,
 * by number, as the tests name them:
 *   O1  a replacement of what the store shows is an epoch of its own;
 *   O2  so is a rename whose source or target the store shows, and the first
 *       of a run of symlinks;
 *   O3  a change of another kind begins an epoch;
 *   O4  so does a point of order: the first change after an fsync, after a file
 *       large enough to be staged, and 200 ms after the last such point, so
 *       that what may pass each other was made within 200 ms.  Changes between
 *       two of them are a run;
 *   O5  a name that was never sent and is gone again costs nothing; if it was
 *       deleted and a state that entered after it has a newer one by now, the
 *       epochs between are joined first: that state may name it, and must not
 *       be seen any more;
 *   O6  a row of this epoch, or the newest of the line, takes the new state,
 *       and so does one whose data file was changed in place (its writer never
 *       closed it: there is nothing left to keep); otherwise the name gets a
 *       second row and the first keeps its state;
 *   O7  before the last name of a directory without a marker goes, the marker
 *       is made, in an earlier epoch: the directory would go with it.
 *
 * All of this runs inside the write transaction of the change, so the memory
 * in struct tier_order is guarded by the cache's single writer.  An aborted
 * transaction leaves the memory ahead of the table, which only begins an epoch
 * too many.
 */
#include "tier/order.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int tier_order_open(struct tier *tier)
{
	struct tier_order *o = &tier->order;
	struct cache_txn *txn;
	struct cache_owed row;
	uint64_t seq, epoch = 0;
	int err;

	err = cache_read(tier->cache, &txn);
	if (err < 0)
		return err;
	err = cache_meta_get_u64(txn, "epoch", &epoch);
	if (err == 0 || err == -ENOENT)
		err = cache_owed_max_seq(txn, &seq);
	if (err == 0 && seq > 0 && cache_owed_get(txn, seq, &row) == 0) {
		if (row.epoch > epoch)
			epoch = row.epoch;
		cache_owed_fini(&row);
	}
	if (err == 0)
		cache_meta_get_u64(txn, "outdated", &o->outdated_seq);
	err = cache_commit(txn);
	o->epoch = o->run = epoch + 1;
	return err;
}

void tier_mark_sync(struct tier *tier)
{
	atomic_store(&tier->order.after_sync, true);
}

void tier_order_next(struct tier *tier, enum tier_class class)
{
	struct tier_order *o = &tier->order;
	int64_t now = base_boot_ns(tier->env);
	bool run = atomic_exchange(&o->after_sync, false) || o->after_staged ||
		now - o->run_ns >= TIER_EPOCH_GAP_NS;

	if (run || class != o->last || class == TIER_CLASS_REPLACE ||
		class == TIER_CLASS_RENAME)
		o->epoch++;
	if (run) {
		o->run = o->epoch;
		o->run_ns = now;
	}
	o->last = class;
	o->after_staged = false;
}

int tier_order_shows(struct cache_txn *txn, const char *path, bool *ret)
{
	struct cache_remote remote;
	struct cache_sent sent;
	int err = cache_remote_get(txn, path, &remote);

	if (err == 0) {
		cache_remote_fini(&remote);
		*ret = true;
		return 0;
	}
	if (err != -ENOENT)
		return err;
	err = cache_sent_of(txn, path, &sent);
	if (err == 0)
		cache_sent_fini(&sent);
	*ret = err == 0;
	return err == -ENOENT ? 0 : err;
}

/* Nothing else may enter a group; and what is one up to now stays as it is. */
static int join(
	struct tier *tier, struct cache_txn *txn, uint64_t a, uint64_t b)
{
	struct tier_order *o = &tier->order;

	if (b == o->epoch && o->is_empty && a + 1 == b)
		return 0;
	atomic_fetch_add(&o->groups, 1);
	if (b >= o->epoch) {
		o->epoch = b + 1;
		o->is_empty = true;
	}
	return cache_owed_join(txn, a, b, CACHE_JOIN_IN_ORDER);
}

int tier_order_join(
	struct tier *tier, struct cache_txn *txn, uint64_t a, uint64_t b)
{
	if (a >= b)
		return 0;
	return join(tier, txn, a, b);
}

/* Rows that are alone in their epoch are marked, too. */
int tier_order_group(
	struct tier *tier, struct cache_txn *txn, uint64_t first_epoch)
{
	return join(tier, txn, first_epoch, tier->order.epoch);
}

int tier_order_fall_out(struct tier *tier, struct cache_txn *txn,
	const char *path, bool deleted)
{
	struct tier_order *o = &tier->order;
	struct cache_owed row;
	uint64_t seq, epoch;
	int err, nr = 0;

	while ((err = cache_owed_newest_unsent(txn, path, &row)) == 0) {
		seq = row.seq;
		epoch = row.epoch;
		cache_owed_fini(&row);
		if (deleted && o->outdated_seq > seq)
			err = tier_order_join(tier, txn, epoch, o->epoch);
		if (err == 0)
			err = cache_owed_del(txn, seq);
		if (err < 0)
			return err;
		nr++;
	}
	return err == -ENOENT ? nr : err;
}

uint64_t tier_serial_of(const struct cache_inode *inode)
{
	return inode->kind == CACHE_FILE && inode->data != CACHE_WHOLE
		? 0
		: inode->serial;
}

static uint8_t phase_of(enum cache_kind kind, enum tier_class class)
{
	if (kind == CACHE_GONE)
		return CACHE_OWED_DELETES;
	/* A directory that takes the place of a file has new names below it. */
	if (kind == CACHE_DIR && class == TIER_CLASS_REPLACE)
		return CACHE_OWED_NEW;
	return class == TIER_CLASS_NEW ? CACHE_OWED_NEW : CACHE_OWED_REPLACES;
}

/* The row that says: the name holds this inode's state of now. */
static void describe(struct tier *tier, struct cache_owed *row,
	const struct cache_inode *inode, enum tier_class class)
{
	row->change = (uint8_t) class;
	row->state = CACHE_OWED_UNSENT;
	row->entered_ns = base_boot_ns(tier->env);
	row->epoch = tier->order.epoch;
	row->run = tier->order.run;
	row->step = 0;
	row->tries = 0;
	row->refused_ns = 0;
	row->attrs_only = class == TIER_CLASS_ATTR;
	row->group = false;
	row->phase = phase_of(inode == NULL ? CACHE_GONE : inode->kind, class);
	if (inode == NULL) {
		row->kind = CACHE_GONE;
		row->ino = row->serial = row->gen = row->size_bytes = 0;
		memset(&row->content, 0, sizeof(row->content));
		memset(&row->attrs, 0, sizeof(row->attrs));
		return;
	}
	row->kind = inode->kind;
	row->ino = inode->ino;
	row->serial = tier_serial_of(inode);
	row->gen = inode->gen;
	row->size_bytes = inode->size_bytes;
	row->content = inode->content;
	tier_attrs_of(inode, &row->attrs);
}

/* Has the row's state been overwritten by this one? */
static bool is_overwritten(
	const struct cache_owed *row, const struct cache_inode *inode)
{
	return inode != NULL && row->kind == CACHE_FILE && !row->attrs_only &&
		row->ino == inode->ino && row->serial == inode->serial &&
		!cache_id_eq(&row->content, &inode->content);
}

/* The row keeps its state, and its name gets a newer one: O5. */
static int note_outdated(struct tier_order *o, struct cache_txn *txn,
	const struct cache_owed *row)
{
	if (row->kind == CACHE_GONE || row->attrs_only ||
		row->seq <= o->outdated_seq)
		return 0;
	o->outdated_seq = row->seq;
	return cache_meta_set_u64(txn, "outdated", row->seq);
}

int tier_order_put(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, enum tier_class class,
	uint64_t displaced)
{
	struct tier_order *o = &tier->order;
	struct cache_owed row;
	uint64_t max_seq, seq;
	int err;

	o->is_empty = false;
	err = cache_owed_max_seq(txn, &max_seq);
	if (err < 0)
		return err;
	err = cache_owed_newest_unsent(txn, path, &row);
	if (err < 0 && err != -ENOENT)
		return err;
	if (err == 0 &&
		(row.epoch == o->epoch || row.seq == max_seq ||
			is_overwritten(&row, inode))) {
		describe(tier, &row, inode, class);
		if (row.displaced == 0)
			row.displaced = displaced;
		free(row.error);
		row.error = NULL;
		err = cache_owed_put(txn, &row);
		if (err == 0)
			err = cache_owed_renumber(txn, row.seq, &seq);
		cache_owed_fini(&row);
	} else {
		if (err == 0) {
			err = note_outdated(o, txn, &row);
			cache_owed_fini(&row);
			if (err < 0)
				return err;
		}
		memset(&row, 0, sizeof(row));
		describe(tier, &row, inode, class);
		row.name = (char *)path;
		row.displaced = displaced;
		err = cache_owed_add(txn, &row);
	}
	/* What is below a directory comes after it, if that takes the place of
	 * something else. */
	o->after_staged = inode != NULL &&
		((inode->kind == CACHE_FILE &&
			 inode->size_bytes > TIER_BLOCK_BYTES_1) ||
			(inode->kind == CACHE_DIR &&
				class == TIER_CLASS_REPLACE));
	return err;
}

int tier_order_aside(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, const char *why)
{
	struct cache_owed row = { .name = (char *)path };
	int err;

	describe(tier, &row, inode, TIER_CLASS_NEW);
	row.state = CACHE_OWED_ASIDE;
	row.error = (char *)why;
	err = cache_owed_add(txn, &row);
	if (err == 0)
		log_warn("%s: %s", path, why);
	return err;
}

/* A change of attributes alone: a row that waits takes it, in its place. */
static int enter_attrs(struct tier *tier, struct cache_txn *txn,
	const char *path, const struct cache_inode *inode)
{
	struct cache_owed row;
	bool shown;
	int err;

	err = cache_owed_newest_unsent(txn, path, &row);
	if (err == 0) {
		tier_attrs_of(inode, &row.attrs);
		err = cache_owed_put(txn, &row);
		cache_owed_fini(&row);
		return err;
	}
	if (err != -ENOENT)
		return err;
	err = tier_order_shows(txn, path, &shown);
	if (err < 0)
		return err;
	/* A file that is being written enters at its close; a directory
	 * without a marker gets one. */
	if (!shown && inode->kind == CACHE_FILE)
		return 0;
	tier_order_next(tier, shown ? TIER_CLASS_ATTR : TIER_CLASS_NEW);
	return tier_order_put(tier, txn, path, inode,
		shown ? TIER_CLASS_ATTR : TIER_CLASS_NEW, 0);
}

/* What class a change of content is: does the name show anything earlier? */
static int classify(struct tier *tier, struct cache_txn *txn, const char *path,
	enum tier_class *ret)
{
	struct cache_owed row;
	bool shown;
	int err = tier_order_shows(txn, path, &shown);

	if (err == 0 && !shown) {
		err = cache_owed_newest_unsent(txn, path, &row);
		if (err == 0) {
			shown = row.epoch != tier->order.epoch &&
				row.kind != CACHE_GONE;
			cache_owed_fini(&row);
		}
		err = err == -ENOENT ? 0 : err;
	}
	*ret = shown ? TIER_CLASS_REPLACE : TIER_CLASS_NEW;
	return err;
}

int tier_name_check(struct tier *tier, const char *path)
{
	size_t len = strlen(".forebay");

	if (strncmp(path, ".forebay", len) == 0 &&
		(path[len] == '\0' || path[len] == '/'))
		return -EPERM;
	if (blob_name_is_reserved(path))
		return -EINVAL;
	return blob_name_check(tier->store, path);
}

/* A conflict copy that is taken away settles its conflict. */
static int settle_conflict(struct cache_txn *txn, const char *path)
{
	return strstr(path, ".conflict-") != NULL
		? cache_conflict_settled(txn, path)
		: 0;
}

int tier_order_keep_dir(
	struct tier *tier, struct cache_txn *txn, const char *path)
{
	struct cache_inode dir;
	bool marked, empty = false;
	size_t len;
	char *parent;
	int err;

	tier_path_last(path, &len);
	if (len == 0)
		return 0; /* the container stays without */
	parent = base_strdup(path);
	parent[len] = '\0';
	err = tier_order_shows(txn, parent, &marked);
	if (err == 0 && !marked)
		err = cache_resolve(txn, parent, &dir);
	if (err == 0 && !marked && dir.kind == CACHE_DIR && dir.implicit)
		err = cache_dir_is_empty(txn, dir.ino, &empty);
	if (err == 0 && empty) {
		dir.implicit = false;
		err = cache_inode_put(txn, &dir);
	}
	if (err == 0 && empty) {
		tier_order_next(tier, TIER_CLASS_NEW);
		err = tier_order_put(
			tier, txn, parent, &dir, TIER_CLASS_NEW, 0);
	}
	free(parent);
	return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

/* The other marker of a directory, "d/", goes with it, in the same epoch. */
static int delete_slash(struct tier *tier, struct cache_txn *txn,
	const char *path, uint64_t dir_ino)
{
	struct base_str name = BASE_STR_INIT;
	struct cache_inode dir;
	bool shown;
	int err;

	if (dir_ino == 0 || cache_inode_get(txn, dir_ino, &dir) < 0 ||
		dir.kind != CACHE_DIR)
		return 0;
	base_str_printf(&name, "%s/", path);
	err = tier_order_shows(txn, name.data, &shown);
	if (err == 0 && shown) {
		tier_order_next(tier, TIER_CLASS_DELETE);
		err = tier_order_put(
			tier, txn, name.data, NULL, TIER_CLASS_DELETE, 0);
	}
	base_str_fini(&name);
	return err;
}

int tier_enter(struct tier *tier, struct cache_txn *txn, const char *path,
	const struct cache_inode *inode, enum tier_change change,
	uint64_t displaced)
{
	enum tier_class class;
	bool shown;
	int err;

	if (inode != NULL) {
		err = blob_name_check(tier->store, path);
		if (err < 0)
			return err;
	}
	assert(inode != NULL || change == TIER_DELETE);
	/* Who changes it says that it is as it should be. */
	if (inode != NULL && inode->doubt != CACHE_SURE) {
		err = cache_doubt_end(txn, inode->ino);
		if (err < 0)
			return err;
		change = change == TIER_ATTR ? TIER_CONTENT : change;
	}
	if (inode != NULL && change == TIER_ATTR)
		return enter_attrs(tier, txn, path, inode);
	err = cache_owed_drop_aside(txn, path);
	if (err < 0)
		return err;
	if (inode == NULL) {
		err = settle_conflict(txn, path);
		if (err == 0)
			err = tier_order_shows(txn, path, &shown);
		if (err < 0)
			return err;
		err = delete_slash(tier, txn, path, displaced);
		if (err == 0 && !shown)
			err = tier_order_fall_out(tier, txn, path, true);
		if (err >= 0)
			err = tier_order_keep_dir(tier, txn, path);
		if (err < 0 || !shown)
			return err;
		tier_order_next(tier, TIER_CLASS_DELETE);
		return tier_order_put(
			tier, txn, path, NULL, TIER_CLASS_DELETE, displaced);
	}
	err = classify(tier, txn, path, &class);
	if (err < 0)
		return err;
	if (change == TIER_SYMLINK && class == TIER_CLASS_NEW)
		class = TIER_CLASS_SYMLINK;
	tier_order_next(tier, class);
	return tier_order_put(tier, txn, path, inode, class, displaced);
}

int tier_enter_rename(struct tier *tier, struct cache_txn *txn,
	const char *old_path, const char *new_path,
	const struct cache_inode *inode, uint64_t displaced)
{
	enum tier_class class;
	char *old_name = NULL;
	bool old_shown;
	int err;

	err = blob_name_check(tier->store, new_path);
	if (err == 0 && inode->doubt != CACHE_SURE)
		err = cache_doubt_end(txn, inode->ino);
	if (err == 0)
		err = cache_owed_drop_aside(txn, old_path);
	if (err == 0)
		err = cache_owed_drop_aside(txn, new_path);
	if (err == 0)
		err = tier_order_shows(txn, old_path, &old_shown);
	if (err == 0)
		err = classify(tier, txn, new_path, &class);
	if (err == 0)
		err = settle_conflict(txn, old_path);
	if (err == 0 && !old_shown) {
		/* Never sent: under the new name it is new, or replaces. */
		err = tier_order_fall_out(tier, txn, old_path, false);
		if (err >= 0)
			err = tier_order_old_name(txn, old_path, &old_name);
		if (err == -ENOENT)
			err = 0;
	}
	if (err < 0)
		return err;
	err = tier_order_keep_dir(tier, txn, old_path);
	if (err < 0)
		goto out;
	if (old_shown || old_name != NULL)
		class = TIER_CLASS_RENAME;
	tier_order_next(tier, class);
	err = tier_order_put(tier, txn, new_path, inode, class, displaced);
	if (err == 0 && class == TIER_CLASS_RENAME) {
		tier_order_next(tier, TIER_CLASS_DELETE);
		err = tier_order_put(tier, txn,
			old_name != NULL ? old_name : old_path, NULL,
			TIER_CLASS_DELETE, inode->ino);
	}
out:
	free(old_name);
	return err;
}
