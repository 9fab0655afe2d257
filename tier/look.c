/*
 * Which rows may start, and which may become visible (send() of WRITEBACK
 * section 5).
 *
 * Rules, by number, as the tests name them:
 *   L1  only rows of the lowest epoch become visible;
 *   L2  the newest row of an epoch, or of a step of a group, goes when all
 *       others of it are done: a first `latest` is a new name like what it
 *       names, and mostly the last of them;
 *   L3  large files of later epochs are staged ahead;
 *   L4  a group (joined epochs) becomes visible when all of it is staged, or
 *       as many of its files as fit (TIER_GROUP_STAGED), step by step
 *       (cache_owed_join());
 *   L5  a row is due TIER_STAGE_DELAY after it entered, at once for a flush;
 *   L7  of several rows of one name only the first is on its way: the next
 *       needs the ETag that the first will have, and a commit drops what was
 *       staged under its name;
 *   L8  a directory rename enters its epoch a few names at a time: the new
 *       ones, and when these are there, the old ones' deletions.
 *
 * What a look costs does not grow with the line: it reads the rows that may
 * start, in their order, and no further than the first that may not.
 */
#include "tier/look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(TIER_BLOCK_BYTES_1 == CACHE_OWED_LARGE, "it has an index");

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

	if (work != NULL) {
		if (go && !work->may_go && look->go_nr < TIER_SEND_PARALLEL)
			look->go[look->go_nr++] = row->seq;
		return;
	}
	if (look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL ||
		cache_owed_is_first(look->txn, row, &first) < 0 || !first)
		return;
	copy_row(&look->picked[look->picked_nr], row);
	look->picked_go[look->picked_nr++] = go;
}

static bool is_full(struct look *look)
{
	return look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL &&
		look->in_epoch > (size_t)TIER_SEND_PARALLEL * 2;
}

/* L5.  Rows of an epoch become due in their order. */
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

static void note_held(struct look *look, const struct cache_owed *row)
{
	if (look->held[0] == '\0')
		snprintf(look->held, sizeof(look->held), "%s%s%s%s", row->name,
			look->group ? " (a group)" : "", row->error ? ": " : "",
			row->error ? row->error : "");
}

static int look_at(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	if (row->epoch != look->epoch)
		return 1;
	if (look->in_epoch++ == 0)
		look->oldest_ns = row->entered_ns;
	note_held(look, row);
	if (is_full(look) || (!look->group && !is_due(look, row)))
		return 1;
	/* L2.  The old names of a renamed directory name nothing, and a `dir:`
	 * store deletes what is below a directory first. */
	pick(look, row,
		row->seq != look->last_seq || look->in_epoch == 1 ||
			(row->kind == CACHE_GONE && look->renaming &&
				look->renaming_step ==
					CACHE_OWED_STEP_DELETES));
	return 0;
}

/* L3 */
static int look_beyond(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	if (look->line->staging_nr >= TIER_STAGE_FILES ||
		look->picked_nr + look->line->works_nr >= TIER_SEND_PARALLEL)
		return 1;
	if (tier_line_work(look->line, row->seq) == NULL && is_due(look, row)) {
		look->line->staging_nr++; /* corrected at the next look */
		pick(look, row, false);
	}
	return ++look->large >= TIER_STAGE_SCAN;
}

/* ---- groups (L4) ---- */

static int look_at_large(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;
	struct work *work;

	if (row->epoch != look->epoch || look->large++ == TIER_GROUP_STAGED)
		return 1;
	work = tier_line_work(look->line, row->seq);
	if (work == NULL || !work->staged) {
		look->unstaged = true;
		note_held(look, row);
		pick(look, row, false);
	}
	return 0;
}

static int look_at_group(struct look *look)
{
	int err = cache_owed_each_large(
		look->txn, look->epoch, 0, look_at_large, look);

	if (err < 0 || look->unstaged)
		return err;
	look->expand = look->renaming && look->step >= look->renaming_step;
	if (look->expand && look->step > look->renaming_step)
		return 0;
	err = cache_owed_last_of_step(
		look->txn, look->epoch, look->step, &look->last_seq);
	return err < 0 ? err
		       : cache_owed_each_of_step(look->txn, look->epoch,
				 look->step, look_at, look);
}

/* ---- the look ---- */

static int look_at_renames(struct look *look)
{
	struct cache_owed_prefix prefix;
	int err = cache_owed_prefix_first(look->txn, look->epoch, &prefix);

	if (err < 0)
		return err == -ENOENT ? 0 : err;
	look->renaming = true;
	look->renaming_step =
		prefix.deleting ? CACHE_OWED_STEP_DELETES : prefix.step;
	if (look->held[0] == '\0')
		snprintf(look->held, sizeof(look->held), "%s -> %s",
			prefix.old_dir, prefix.new_dir);
	cache_owed_prefix_fini(&prefix);
	return 0;
}

static int look_at_epoch(struct look *look)
{
	int err = cache_owed_last_of_epoch(
		look->txn, look->epoch, &look->last_seq);

	if (err == 0)
		err = cache_owed_each(look->txn, look->epoch, 0, look_at, look);
	if (err >= 0)
		err = cache_owed_each_large(
			look->txn, look->epoch, INT64_MAX, look_beyond, look);
	look->expand = look->renaming;
	return err;
}

int tier_look(struct look *look, struct cache_txn *txn)
{
	int err = cache_owed_first_epoch(txn, &look->epoch);

	look->txn = txn;
	if (err < 0 || look->epoch == 0)
		return err;
	err = look_at_renames(look);
	if (err < 0)
		return err;
	err = cache_owed_first_step(txn, look->epoch, &look->step);
	look->group = err == 0;
	if (err < 0 && err != -ENOENT)
		return err;
	return look->group ? look_at_group(look) : look_at_epoch(look);
}
