/*
 * Lost races (WRITEBACK section 7): the store holds, under a name that we
 * wanted to change, something that is not ours.
 *
 *   the bytes we knew     go on top of the new ETag, no conflict
 *   same bytes            adopt the remote ETag, no conflict
 *   a newer state waits   it decides, when its turn comes
 *   local delete          the remote stays and is shown
 *   attributes            read again, the changed fields applied again
 *   edit against edit     the name shows the remote version; the local inode,
 *                         with its open handles, becomes
 *                         STEM.conflict-HOST-TIME[-N].EXT, a new name
 *
 * All of it is one transaction.  Nothing of either side is ever dropped.
 */
#include "tier/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STAMP_FORMAT "%Y%m%dT%H%M%SZ"
/* Longer ends of names are not endings. */
#define EXT_MAX 32

struct lost {
	struct work *w;
	struct cache_txn *txn;
	struct cache_remote remote;
	const char *name; /* last component */
	uint64_t parent;
	bool has_parent;
	bool shown;	 /* entry_changed is due */
	bool again;	 /* the row is sent once more */
	unsigned copies; /* that the name has already */
	bool here_only;	 /* the copy is not for the store */
};

/* What was sent, or would have been. */
static bool same_bytes(struct lost *lost)
{
	struct work *w = lost->w;
	const struct cache_remote *r = &lost->remote;
	struct cache_sent sent = { 0 };

	if (r->kind != w->row.kind)
		return false;
	if (r->kind == CACHE_DIR)
		return true;
	if (w->sent.number != 0 && w->sent.owed_seq == w->seq)
		sent = w->sent; /* of an earlier run */
	else if (w->op != BLOB_COPY || w->has_twin)
		tier_work_describe(w, &sent);
	return (sent.has_md5 || sent.has_list) && tier_is_sent(&sent, r);
}

/* All rows of the name leave the line: what it holds is decided here. */
static int drop_rows(struct lost *lost)
{
	struct cache_owed row;
	int err = cache_owed_del(lost->txn, lost->w->seq);

	if (err == -ENOENT)
		err = 0;
	while (err == 0 &&
		cache_owed_newest_unsent(lost->txn, lost->w->row.name, &row) ==
			0) {
		err = cache_owed_del(lost->txn, row.seq);
		cache_owed_fini(&row);
	}
	return err;
}

/* The bytes are those that we changed or deleted; only something beside them
 * is new.  A moved ETag is not moved content. */
static bool is_base(struct lost *lost)
{
	return lost->w->has_base &&
		tier_same_bytes(&lost->remote, &lost->w->base);
}

/* The row goes on top of it. */
static int go_on_top(struct lost *lost)
{
	struct cache_owed row;
	int err;

	lost->remote.content = lost->w->base.content;
	err = cache_remote_put(lost->txn, &lost->remote);
	if (err == 0)
		err = cache_owed_get(lost->txn, lost->w->seq, &row);
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	row.state = CACHE_OWED_UNSENT;
	err = cache_owed_put(lost->txn, &row);
	cache_owed_fini(&row);
	lost->again = true;
	return err;
}

/* The same bytes, by somebody else: theirs are ours. */
static int adopt(struct lost *lost)
{
	struct work *w = lost->w;
	struct cache_inode inode, named;
	int err;

	lost->remote.content = w->row.content;
	err = cache_remote_put(lost->txn, &lost->remote);
	if (err == 0)
		err = cache_owed_del(lost->txn, w->seq);
	if (err == 0 && cache_inode_get(lost->txn, w->row.ino, &inode) == 0) {
		if (cache_id_eq(&inode.content, &w->row.content))
			inode.stored = true;
		inode.implicit = false;
		err = cache_inode_put(lost->txn, &inode);
		/* The name may be another inode's by now. */
		if (err == 0 &&
			cache_resolve(lost->txn, w->row.name, &named) == 0 &&
			named.ino == inode.ino &&
			!tier_attrs_eq(&w->row.attrs, &lost->remote.attrs))
			err = tier_enter(w->tier, lost->txn, w->row.name,
				&inode, TIER_ATTR, 0);
	}
	return err;
}

/* Our version has another name by now, its directory having been renamed, and
 * no row: nobody would tell the store of it. */
static int enter_elsewhere(struct lost *lost)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_inode inode;
	bool owed = true;
	int err = cache_inode_get(lost->txn, lost->w->row.ino, &inode);

	if (err == 0)
		err = cache_path_of(lost->txn, inode.ino, &path);
	if (err == 0)
		err = cache_owed_any_row(lost->txn, path.data, &owed);
	if (err == 0 && !owed)
		err = tier_enter(lost->w->tier, lost->txn, path.data, &inode,
			TIER_CONTENT, 0);
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

/* The directory is gone from here, and not yet from the store: what others put
 * there is not of the rename, which would delete what it knows. */
static int leave_theirs(struct lost *lost)
{
	struct work *w = lost->w;
	int err = tier_remote_gone(w->tier, lost->txn, w->row.name);

	if (err == -ENOENT)
		err = 0;
	if (err == 0)
		err = drop_rows(lost);
	if (err == 0 && w->op != BLOB_DELETE)
		err = enter_elsewhere(lost);
	return err;
}

/* The tree shows theirs. */
static int show_theirs(struct lost *lost)
{
	bool covered = false;
	int err = 0;

	if (!lost->has_parent)
		err = cache_owed_prefix_covers(
			lost->txn, lost->w->row.name, &covered);
	if (err == 0 && covered)
		return leave_theirs(lost);
	if (err == 0)
		err = cache_remote_put(lost->txn, &lost->remote);
	if (err == 0)
		err = drop_rows(lost);
	if (err == 0 && lost->has_parent)
		err = tier_merge_show(lost->w->tier, lost->txn, lost->parent,
			lost->name, &lost->remote);
	lost->shown = true;
	return err;
}

/* Our change was one of attributes: it goes on top of theirs. */
static int attrs_again(struct lost *lost)
{
	struct work *w = lost->w;
	struct cache_attrs attrs = w->row.attrs;
	struct cache_dentry dentry;
	struct cache_inode inode;
	int err;

	if (w->has_base)
		tier_attrs_rebase(&attrs, &w->base.attrs, &lost->remote.attrs);
	if (is_base(lost))
		lost->remote.content = w->base.content;
	err = show_theirs(lost);
	if (err == 0 && lost->has_parent)
		err = cache_dentry_get(
			lost->txn, lost->parent, lost->name, &dentry);
	if (err == 0 && lost->has_parent)
		err = cache_inode_get(lost->txn, dentry.ino, &inode);
	if (err < 0 || !lost->has_parent)
		return err;
	inode.mode = attrs.mode;
	inode.uid = attrs.uid;
	inode.gid = attrs.gid;
	inode.mtime_ns = attrs.mtime_ns;
	err = cache_inode_put(lost->txn, &inode);
	if (err == 0)
		err = tier_enter(
			w->tier, lost->txn, w->row.name, &inode, TIER_ATTR, 0);
	return err;
}

/* ---- edit against edit ---- */

/* Of `name` what stands before ".conflict-HOST-TIME[-N]", if that is in it, and
 * what follows it: a copy is never the source of another. */
static bool is_copy(const char *name, size_t *ret_stem, const char **ret_ext)
{
	const char *mark = strstr(name, ".conflict-"), *p;
	struct tm tm;

	if (mark == NULL || mark == name)
		return false;
	for (p = mark; (p = strchr(p + 1, '-')) != NULL;) {
		const char *end = strptime(p + 1, STAMP_FORMAT, &tm);

		if (end == NULL)
			continue;
		if (*end == '-')
			end += 1 + strspn(end + 1, "0123456789");
		if (*end != '.' && *end != '\0')
			continue;
		*ret_stem = (size_t)(mark - name);
		*ret_ext = end;
		return true;
	}
	return false;
}

static void split_name(const char *name, size_t *ret_stem, const char **ret_ext)
{
	const char *dot = strrchr(name, '.');

	if (is_copy(name, ret_stem, ret_ext))
		return;
	if (dot == NULL || dot == name || strlen(dot) > EXT_MAX)
		dot = name + strlen(name);
	*ret_stem = (size_t)(dot - name);
	*ret_ext = dot;
}

/* STEM.conflict-HOST-TIME[-N].EXT with at most `room` bytes; false: it would
 * have no stem. */
static bool conflict_name(struct lost *lost, unsigned n, size_t room, char *ret)
{
	char tail[128], stamp[32];
	time_t now = (time_t)(base_wall_ns(lost->w->tier->env) / TIER_S);
	const char *ext;
	struct tm tm;
	size_t stem, rest;
	int len;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), STAMP_FORMAT, &tm);
	len = snprintf(tail, sizeof(tail), ".conflict-%.64s-%s",
		lost->w->tier->cfg.host_name, stamp);
	if (n > 0)
		snprintf(tail + len, sizeof(tail) - (size_t)len, "-%u", n);
	split_name(lost->name, &stem, &ext);
	rest = strlen(tail) + strlen(ext);
	if (rest >= room)
		return false;
	if (stem > room - rest) {
		stem = room - rest;
		/* not inside a UTF-8 character */
		while (stem > 0 &&
			((unsigned char)lost->name[stem] & 0xc0) == 0x80)
			stem--;
	}
	snprintf(ret, CACHE_NAME_MAX + 1, "%.*s%s%s", (int)stem, lost->name,
		tail, ext);
	return stem > 0;
}

/* A name that nothing here has, and the store can hold; if there is none that
 * short, one for this host alone.  *ret_path: the whole of it. */
static int free_name(struct lost *lost, char *ret, struct base_str *ret_path)
{
	struct cache_dentry dentry;
	size_t room = CACHE_NAME_MAX;
	int err = 0;

	for (unsigned n = 0; n < TIER_CONFLICT_TRIES && err == 0;) {
		if (!conflict_name(lost, n, room, ret)) {
			room = CACHE_NAME_MAX;
			lost->here_only = true;
			conflict_name(lost, n, room, ret);
		}
		base_str_clear(ret_path);
		err = cache_path_join(lost->txn, lost->parent, ret, ret_path);
		if (err == 0 && !lost->here_only &&
			blob_name_check(lost->w->tier->store, ret_path->data) ==
				-ENAMETOOLONG) {
			room = strlen(ret) - 1;
			continue;
		}
		if (err == 0)
			err = cache_dentry_get(
				lost->txn, lost->parent, ret, &dentry);
		if (err == -ENOENT)
			return 0;
		n++;
	}
	return err == 0 ? -EEXIST : err;
}

static int count_copies(void *arg, const struct cache_conflict *conflict)
{
	struct lost *lost = arg;

	lost->copies += strcmp(conflict->name, lost->w->row.name) == 0;
	return 0;
}

/* The store is told of it, or, one too many, it is kept here and said so. */
static int enter_copy(
	struct lost *lost, const char *path, const struct cache_inode *local)
{
	struct tier *t = lost->w->tier;

	return lost->here_only
		? tier_order_aside(t, lost->txn, path, local,
			  "one conflict copy too many, or its name too long: "
			  "kept on this host")
		: tier_enter(t, lost->txn, path, local, TIER_NEW, 0);
}

static int note_conflict(
	struct lost *lost, const char *copy, const struct cache_inode *local)
{
	struct cache_conflict c = { 0 };

	c.name = lost->w->row.name;
	c.copy = (char *)copy;
	memcpy(c.remote_etag, lost->remote.etag, sizeof(c.remote_etag));
	c.remote_host = lost->remote.commit_host;
	c.local_size_bytes = local->size_bytes;
	c.local_mtime_ns = local->mtime_ns;
	c.remote_size_bytes = lost->remote.size_bytes;
	c.remote_mtime_ns = lost->remote.attrs.mtime_ns;
	c.found_ns = base_wall_ns(lost->w->tier->env);
	log_warn("%s: changed by somebody else meanwhile; this host's version "
		 "is %s",
		c.name, copy);
	return cache_conflict_add(lost->txn, &c);
}

static int edit_against_edit(struct lost *lost)
{
	char name[CACHE_NAME_MAX + 1];
	struct base_str path = BASE_STR_INIT;
	struct cache_dentry dentry;
	struct cache_inode local;
	int err;

	err = cache_dentry_get(lost->txn, lost->parent, lost->name, &dentry);
	if (err == -ENOENT)
		return show_theirs(lost); /* deleted here meanwhile */
	if (err == 0)
		err = cache_inode_get(lost->txn, dentry.ino, &local);
	if (err == 0 && local.kind == CACHE_DIR)
		return show_theirs(lost);
	if (err == 0)
		err = cache_conflict_each(lost->txn, count_copies, lost);
	lost->here_only = lost->copies >= TIER_CONFLICTS_PER_NAME;
	if (err == 0)
		err = free_name(lost, name, &path);
	if (err == 0)
		err = cache_dentry_del(lost->txn, lost->parent, lost->name);
	if (err == 0)
		err = cache_dentry_add(
			lost->txn, lost->parent, name, dentry.ino);
	if (err == 0)
		err = show_theirs(lost);
	if (err == 0)
		err = enter_copy(lost, path.data, &local);
	if (err == 0)
		err = note_conflict(lost, path.data, &local);
	base_str_fini(&path);
	return err;
}

/* ---- which of them ---- */

/* The name's ETag is another one: only what asked for a free name may come. */
static int settle_sent(struct lost *lost)
{
	struct cache_sent sent;
	int err = cache_sent_fence(lost->txn, lost->w->row.name);

	if (err == 0 && !lost->w->maybe)
		err = cache_sent_del(lost->txn, lost->w->commit);
	if (err == -ENOENT)
		err = 0;
	while (err == 0) {
		err = cache_sent_unsettled(lost->txn, lost->w->row.name, &sent);
		if (err < 0)
			break;
		sent.settled = true;
		err = cache_sent_put(lost->txn, &sent);
		cache_sent_fini(&sent);
	}
	return err == -ENOENT ? 0 : err;
}

/* Does the name hold a file or symlink that the store was never shown?  The
 * newest row says so; without one, the row that lost.  What is being written
 * is one, too, with no row yet. */
static int wants_edit(struct lost *lost, bool superseded, bool *ret)
{
	struct work *w = lost->w;
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_owed newest;
	int err;

	*ret = !superseded && w->op != BLOB_DELETE && w->op != BLOB_SET_META;
	err = cache_owed_newest_unsent(lost->txn, w->row.name, &newest);
	if (err == 0) {
		if (newest.seq != w->seq)
			*ret = newest.kind != CACHE_GONE &&
				(*ret || !newest.attrs_only);
		cache_owed_fini(&newest);
	}
	if (err == -ENOENT || err == 0)
		err = lost->has_parent ? 0 : -ENOENT;
	if (err == 0)
		err = cache_dentry_get(
			lost->txn, lost->parent, lost->name, &dentry);
	if (err == 0)
		err = cache_inode_get(lost->txn, dentry.ino, &inode);
	if (err < 0)
		*ret = false;
	else if (inode.kind == CACHE_FILE && inode.written)
		*ret = true;
	return err == -ENOENT ? 0 : err;
}

/* The name has a newer state, which meets the same ETag when its turn comes,
 * and decides with its own bytes. */
static int leave_to_newer(struct lost *lost, bool *ret)
{
	struct cache_owed newest;
	int err =
		cache_owed_newest_unsent(lost->txn, lost->w->row.name, &newest);

	*ret = false;
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	*ret = newest.seq > lost->w->seq && !newest.attrs_only;
	cache_owed_fini(&newest);
	if (!*ret)
		return 0;
	err = cache_owed_fall_out(lost->txn, lost->w->seq);
	return err == -ENOENT ? 0 : err;
}

/* Is the row still in the journal?  Its state may have fallen out, or taken
 * another place, while it was prepared: nothing of it can be lost. */
static int has_row(struct lost *lost, bool *ret)
{
	struct cache_owed row;
	int err = cache_owed_get(lost->txn, lost->w->seq, &row);

	*ret = err == 0;
	if (err == 0)
		cache_owed_fini(&row);
	return err == -ENOENT ? 0 : err;
}

static int decide(struct lost *lost, bool superseded)
{
	struct work *w = lost->w;
	bool edit = false, newer = false, owed = false;
	int err = settle_sent(lost);

	if (err == 0)
		err = has_row(lost, &owed);
	if (err < 0 || !owed)
		return err;
	err = wants_edit(lost, superseded, &edit);
	if (err < 0)
		return err;
	if (!superseded && w->op != BLOB_SET_META && is_base(lost))
		return go_on_top(lost);
	if (!superseded && w->op != BLOB_DELETE && w->op != BLOB_SET_META &&
		same_bytes(lost))
		return adopt(lost);
	if (!superseded)
		err = leave_to_newer(lost, &newer);
	if (err < 0 || newer)
		return err;
	/* Who writes to it has not lost anything to attributes. */
	if (edit && !(w->op == BLOB_SET_META && is_base(lost)))
		return edit_against_edit(lost);
	return w->op == BLOB_SET_META ? attrs_again(lost) : show_theirs(lost);
}

static int find_parent(struct lost *lost)
{
	struct cache_inode dir;
	char *path = base_strdup(lost->w->row.name);
	size_t len;
	int err;

	lost->name = tier_path_last(lost->w->row.name, &len);
	path[len] = '\0';
	err = cache_resolve(lost->txn, path, &dir);
	free(path);
	if (err == 0) {
		lost->has_parent = dir.kind == CACHE_DIR;
		lost->parent = dir.ino;
	}
	return err == -ENOENT || err == -ENOTDIR ? 0 : err;
}

void tier_conflict(
	struct work *w, const struct blob_props *props, bool superseded)
{
	struct tier *t = w->tier;
	struct lost lost = { .w = w };
	struct blob_mark mark;
	uint64_t last_seq = 0;
	int err;

	/* The store is being closed, and a name cannot be checked any more:
	 * the next mount asks again. */
	if (atomic_load(&t->stopping)) {
		w->state = WORK_WAITING;
		return;
	}
	err = cache_write(t->cache, &lost.txn);
	if (err < 0) {
		tier_work_again(w, TIER_S);
		return;
	}
	tier_remote_from_props(t, w->row.name, props, &lost.remote, &mark);
	cache_id_new(t->cache, &lost.remote.content);
	lost.remote.known_seq = tier_tick(t);
	err = find_parent(&lost);
	if (err == 0)
		err = decide(&lost, superseded);
	if (err == 0)
		err = cache_owed_max_seq(lost.txn, &last_seq);
	if (err == 0) {
		err = cache_commit(lost.txn);
	} else {
		cache_abort(lost.txn);
	}
	cache_remote_fini(&lost.remote);
	if (err < 0) {
		tier_work_retry(w, strerror(-err));
		return;
	}
	tier_fence_soon(w->line);
	tier_flushes_follow(w->line, w->seq, last_seq);
	if (lost.shown && lost.has_parent)
		t->cfg.entry_changed(t->cfg.arg, lost.parent, lost.name);
	if (lost.again)
		tier_work_again(w, 0);
	else
		tier_work_done(w);
}
