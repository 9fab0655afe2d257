/*
 * What must hold.
 *
 * At each mutation of the store (check_applied):
 *   C1  the bytes of a blob are a state that somebody wrote (apply.c: torn);
 *   C2  what this host makes visible under a name is a state that a program
 *       here gave that name;
 *   C3  a state of one epoch becomes visible after all of the earlier ones
 *       (names that nobody else touches), also within a group, but for its
 *       deletions and, if it was joined by phase, its replacements;
 *   C4  a state of the second writer is replaced or deleted only by a change
 *       that was made when this host knew of it: as what the store shows, or
 *       as what the name holds in the tree (a rename that takes the new
 *       version along puts it there).
 *   C5  a conflict is noted only where the second writer put other bytes than
 *       the local ones, and we have not replaced them since.
 *   C6  a race is lost only where the second writer, or a late request, was;
 *   C7  epochs that are joined are one group in the journal.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/model/model.h"
#include "tier/priv.h"

enum cache_kind check_kind(const struct mblob *b)
{
	struct blob_entry entry = { .name = b->name };
	struct blob_posix posix;
	struct blob_mark mark;

	entry.props.meta = b->meta;
	entry.props.meta_nr = b->meta_nr;
	blob_meta_decode(&entry, &posix, &mark);
	return posix.kind == BLOB_KIND_DIR	  ? CACHE_DIR
		: posix.kind == BLOB_KIND_SYMLINK ? CACHE_SYMLINK
						  : CACHE_FILE;
}

/* C2: the newest change that said so; and the one of the lowest epoch that it
 * may have been, for the order. */
static struct change *change_of(
	struct model *m, const struct mblob *b, struct change **ret_first)
{
	enum cache_kind kind = b->there ? check_kind(b) : CACHE_GONE;
	struct change *newest = NULL;

	for (size_t i = m->changes_nr; i-- > 0;) {
		struct change *c = &m->changes[i];

		if (strcmp(c->name, b->name) == 0 && c->kind == kind &&
			(kind == CACHE_GONE || c->version == b->version)) {
			if (newest == NULL)
				newest = *ret_first = c;
			if (c->nr > b->shown && c->epoch < (*ret_first)->epoch)
				*ret_first = c;
		}
	}
	return newest;
}

static bool is_done(struct model *m, const struct change *c)
{
	struct mblob *b = mstore_blob(m, c->name);

	if (b->touched || b->shown >= c->nr)
		return true;
	if (c->kind == CACHE_GONE)
		return !b->there || b->late;
	return b->there && b->version == c->version && check_kind(b) == c->kind;
}

static bool in_group(const struct change *a, const struct change *b)
{
	return a->group != 0 && a->group == b->group;
}

/* Did the name get another state that takes its place in the order, or lose
 * one that was never sent? */
static bool is_superseded(
	struct model *m, const struct change *c, const struct change *now)
{
	for (size_t i = c->nr; i < m->changes_nr; i++) {
		struct change *d = &m->changes[i];

		if (strcmp(d->name, c->name) == 0 &&
			(d->kind == CACHE_GONE || d->epoch == 0 || d->open ||
				d->left || d->epoch <= now->epoch ||
				in_group(d, c)))
			return true;
	}
	return false;
}

/* C3 */
static void check_order(struct model *m, const struct change *now)
{
	if (now->epoch == 0 || now->open)
		return;
	for (size_t i = 0; i < m->changes_nr; i++) {
		struct change *c = &m->changes[i];

		if (c->epoch == 0 || c->open || c->epoch >= now->epoch ||
			strcmp(c->name, now->name) == 0 ||
			(c->kind == CACHE_GONE && in_group(c, now)))
			continue;
		/* Theirs may be another one when its turn comes. */
		if (c->kind == CACHE_FILE &&
			(c->version < 0 || m->versions[c->version].foreign ||
				m->versions[c->version].killed))
			continue;
		if (!is_done(m, c) && !is_superseded(m, c, now)) {
			model_fail(m,
				"order: %s of epoch %llu (change %llu) is "
				"visible before %s of epoch %llu (change %llu)",
				now->name, (unsigned long long)now->epoch,
				(unsigned long long)now->nr, c->name,
				(unsigned long long)c->epoch,
				(unsigned long long)c->nr);
			return;
		}
	}
}

/* C4 */
static void check_seen(struct model *m, struct mblob *b, int was_version)
{
	for (size_t i = 0; i < m->changes_nr; i++) {
		if (strcmp(m->changes[i].name, b->name) == 0 &&
			m->changes[i].seen == was_version)
			return;
	}
	/* Taken along by a rename?  Then it comes again. */
	m->taken =
		base_realloc(m->taken, (m->taken_nr + 1) * sizeof(*m->taken));
	m->taken[m->taken_nr++] = was_version;
}

void check_applied(struct model *m, struct mblob *b, bool was_there,
	int was_version, bool foreign, const char *op)
{
	struct change *c, *first = NULL;

	if (foreign) {
		model_say(m, "    foreign %s %s v%d -> v%d", op, b->name,
			was_there ? was_version : -1,
			b->there ? b->version : -1);
		return;
	}
	if (b->there && was_there && was_version == b->version &&
		strcmp(op, "SET_META") == 0)
		return;
	model_say(m, "      visible: %s v%d", b->name,
		b->there ? b->version : -1);
	if (was_there && b->foreign >= 0 && b->foreign == was_version &&
		!m->versions[was_version].local &&
		(!b->there || b->version != was_version))
		check_seen(m, b, was_version);
	if (!b->there) {
		b->tag = 0;
		b->foreign = -1;
	} else if (b->version != was_version) {
		b->foreign = -1;
	}
	b->edited = false;
	c = change_of(m, b, &first);
	if (c == NULL) {
		/* A conflict copy; or a file that went along with a rename
		 * while it was only in the store. */
		if (strstr(b->name, ".conflict-") == NULL && !b->touched &&
			!(m->profile & WITH_FOREIGN))
			model_fail(m, "%s shows %s v%d, which it never was",
				b->name, b->there ? "" : "nothing,",
				b->version);
		return;
	}
	/* Shown before: a late request's doing is undone.  Its turn was then,
	 * and epochs may have begun anew since (an empty line at a mount). */
	if (b->shown < c->nr)
		b->shown = c->nr;
	else if (c->kind == CACHE_GONE)
		return;
	if (!b->touched)
		check_order(m, first);
}

/* C5 */
void check_conflicting(struct model *m, struct cache_txn *txn,
	const struct cache_conflict *conflict)
{
	struct mblob *b = mstore_blob(m, conflict->name);
	uint64_t etag = strtoull(conflict->remote_etag + 3, NULL, 16);
	struct cache_inode inode;
	int version;

	if (!b->edited) {
		model_fail(m,
			"a false conflict of %s: nobody else put other "
			"bytes there",
			conflict->name);
		return;
	}
	if (cache_resolve(txn, conflict->copy, &inode) < 0 || inode.written ||
		inode.ino >= m->inos_cap || etag > m->etag)
		return;
	version = m->ino_version[inode.ino];
	/* Large ones carry no MD5, and taken ones are theirs by now. */
	if (version >= 0 && version == m->etag_version[etag] &&
		m->versions[version].size <= TIER_BLOCK_BYTES_1 &&
		!m->versions[version].killed)
		model_fail(m, "a false conflict of %s: both sides have v%d",
			conflict->name, version);
}

/* C6 */
void check_race(struct model *m, uint64_t seq, const char *name)
{
	struct mblob *b = mstore_blob(m, name);
	struct cache_owed row;
	struct cache_txn *txn;
	int err;

	assert(cache_read(m->cache, &txn) == 0);
	err = cache_owed_get(txn, seq, &row);
	cache_abort(txn);
	if (err < 0)
		return; /* it has left the journal, and loses nothing */
	cache_owed_fini(&row);
	if (!b->touched && !b->late)
		model_fail(m,
			"a race of %s is said to be lost, and nobody else "
			"touched it",
			name);
}

struct joined {
	struct model *m;
	uint64_t a, b;
};

static int check_row_joined(void *arg, const struct cache_owed *row)
{
	struct joined *j = arg;

	if (row->state != CACHE_OWED_ASIDE && row->epoch >= j->a &&
		(row->epoch < j->b || (row->epoch == j->b && !row->group)))
		model_fail(j->m,
			"%s of epoch %llu is not in the group of %llu to %llu",
			row->name, (unsigned long long)row->epoch,
			(unsigned long long)j->a, (unsigned long long)j->b);
	return 0;
}

/* C7 */
void check_rows_joined(
	struct model *m, struct cache_txn *txn, uint64_t a, uint64_t b)
{
	struct joined j = { .m = m, .a = a, .b = b };

	cache_owed_each_below(txn, "", check_row_joined, &j);
}

void check_joined(struct model *m, uint64_t a, uint64_t b, enum cache_join how)
{
	for (size_t i = 0; i < m->changes_nr; i++) {
		struct change *c = &m->changes[i];
		uint64_t epoch = c->group != 0 ? c->group : c->epoch;

		if (epoch < a || epoch > b || epoch == 0)
			continue;
		c->group = b;
		if (how == CACHE_JOIN_BY_PHASE)
			c->epoch = c->phase == CACHE_OWED_NEW ? c->run : b;
	}
}
