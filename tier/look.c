/*
 * Which rows may start, and which may become visible (send() of WRITEBACK
 * section 5).
 *
 * Rules, by number, as the tests name them:
 *   L1  only rows of the lowest epoch become visible;
 *   L2  the newest row of an epoch goes when all others of it are done: a
 *       first `latest` is a new name like what it names, and mostly the last
 *       of them;
 *   L3  large files of later epochs are staged ahead;
 *   L4  a group (joined epochs) becomes visible when all of it is staged: new
 *       names, then replacements but the newest of each directory, then
 *       those, then deletions;
 *   L5  a row is due TIER_STAGE_DELAY after it entered, at once for a flush;
 *   L7  of several rows of one name only the first is on its way: the next
 *       needs the ETag that the first will have, and a commit drops what was
 *       staged under its name.
 */
#include "tier/look.h"

#include <stdio.h>
#include <stdlib.h>

/* The newest replacement of a directory, in a group. */
struct newest {
	UT_hash_handle hh;
	uint64_t seq;
	size_t len;
	char dir[];
};

bool tier_row_is_large(const struct cache_owed *row)
{
	return row->kind == CACHE_FILE && row->size_bytes > TIER_BLOCK_BYTES_1;
}

static void copy_row(struct cache_owed *to, const struct cache_owed *from)
{
	*to = *from;
	to->name = base_strdup(from->name);
	to->error = from->error ? base_strdup(from->error) : NULL;
}

static void pick(struct look *look, const struct cache_owed *row, bool go)
{
	struct work *work = tier_line_work(look->line, row->seq);
	bool first;

	if (work == NULL &&
		(cache_owed_is_first(look->txn, row, &first) < 0 || !first))
		return;
	if (work != NULL) {
		if (go && !work->may_go && look->go_nr < TIER_SEND_PARALLEL)
			look->go[look->go_nr++] = row->seq;
		return;
	}
	if (look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL)
		return;
	copy_row(&look->picked[look->picked_nr], row);
	look->picked_go[look->picked_nr++] = go;
}

static bool is_due(struct look *look, const struct cache_owed *row)
{
	int64_t due = row->entered_ns + TIER_STAGE_DELAY_NS;

	if (look->flushing || row->state == CACHE_OWED_SENT ||
		row->kind == CACHE_GONE || due <= look->now)
		return true;
	if (look->wake_ns == 0 || due < look->wake_ns)
		look->wake_ns = due;
	return false;
}

/* L3: a large file of a later epoch. */
static int look_beyond(struct look *look, const struct cache_owed *row)
{
	if (++look->beyond > TIER_STAGE_SCAN ||
		look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL)
		return 1;
	if (tier_row_is_large(row) &&
		look->line->staging_nr < TIER_STAGE_FILES &&
		tier_line_work(look->line, row->seq) == NULL &&
		is_due(look, row)) {
		look->line->staging_nr++; /* corrected at the next look */
		pick(look, row, false);
	}
	return 0;
}

static int look_at(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	if (row->epoch != look->epoch)
		return look_beyond(look, row);
	look->in_epoch++;
	if (look->held[0] == '\0')
		snprintf(look->held, sizeof(look->held), "%s%s%s", row->name,
			row->error ? ": " : "", row->error ? row->error : "");
	if (look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL &&
		look->in_epoch > TIER_SEND_PARALLEL * 2)
		return 1;
	if (!is_due(look, row))
		return 0;
	/* L2 */
	pick(look, row, row->seq != look->last_seq || look->in_epoch == 1);
	return 0;
}

/* ---- groups (L4) ---- */

static int phase_of(struct look *look, const struct cache_owed *row)
{
	struct newest *n;
	size_t len;

	if (row->kind == CACHE_GONE)
		return 3;
	if (row->change == TIER_CLASS_NEW)
		return 0;
	tier_path_last(row->name, &len);
	HASH_FIND(hh, look->newest, row->name, len, n);
	return n != NULL && n->seq == row->seq ? 2 : 1;
}

static int plan_newest(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;
	struct newest *n;
	size_t len;

	if (row->epoch != look->epoch)
		return 1;
	if (row->kind == CACHE_GONE || row->change == TIER_CLASS_NEW)
		return 0;
	tier_path_last(row->name, &len);
	HASH_FIND(hh, look->newest, row->name, len, n);
	if (n == NULL) {
		n = base_calloc(1, sizeof(*n) + len + 1);
		memcpy(n->dir, row->name, len);
		n->len = len;
		HASH_ADD_KEYPTR(hh, look->newest, n->dir, len, n);
	}
	if (row->seq > n->seq)
		n->seq = row->seq;
	return 0;
}

static int plan_phase(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;
	struct work *work;
	int phase;

	if (row->epoch != look->epoch)
		return 1;
	phase = phase_of(look, row);
	if (look->phase < 0 || phase < look->phase)
		look->phase = phase;
	if (tier_row_is_large(row) && row->state == CACHE_OWED_UNSENT) {
		work = tier_line_work(look->line, row->seq);
		if (work == NULL || !work->staged)
			look->unstaged = true;
	}
	return 0;
}

static int look_at_group(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	if (row->epoch != look->epoch)
		return 1;
	if (look->held[0] == '\0')
		snprintf(look->held, sizeof(look->held), "%s (a group)%s%s",
			row->name, row->error ? ": " : "",
			row->error ? row->error : "");
	if (look->unstaged) {
		if (tier_row_is_large(row))
			pick(look, row, false);
	} else if (phase_of(look, row) == look->phase) {
		pick(look, row, true);
	}
	return 0;
}

static int look_at_epoch(struct look *look, struct cache_txn *txn)
{
	struct newest *n, *tmp;
	int err;

	if (!look->group)
		return cache_owed_each(txn, look->epoch, 0, look_at, look);
	look->phase = -1;
	err = cache_owed_each(txn, look->epoch, 0, plan_newest, look);
	if (err >= 0)
		err = cache_owed_each(txn, look->epoch, 0, plan_phase, look);
	if (err >= 0)
		err = cache_owed_each(txn, look->epoch, 0, look_at_group, look);
	HASH_ITER(hh, look->newest, n, tmp)
	{
		HASH_DEL(look->newest, n);
		free(n);
	}
	return err;
}

static int group_of_first(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	look->group = row->epoch == look->epoch && row->group;
	return 1;
}

int tier_look(struct look *look, struct cache_txn *txn)
{
	int err = cache_owed_first_epoch(txn, &look->epoch);

	look->txn = txn;
	if (err < 0 || look->epoch == 0)
		return err;
	err = cache_owed_last_of_epoch(txn, look->epoch, &look->last_seq);
	if (err == 0)
		err = cache_owed_each(
			txn, look->epoch, 0, group_of_first, look);
	return err < 0 ? err : look_at_epoch(look, txn);
}
