/*
 * What holds a row of the line, in words, for `forebay status --pending`.
 *
 * The works belong to the strand; each tick leaves a copy of what they are at
 * under the line's mutex, which is what is told here.
 */
#include "tier/look.h"

#include <stdio.h>

void tier_line_note_works(struct tier_line *line)
{
	struct work *work, *tmp;
	size_t nr = 0;

	base_lock(&line->mutex);
	HASH_ITER(hh, line->works, work, tmp)
	{
		if (nr == TIER_SEND_PARALLEL)
			break;
		line->noted[nr++] = (struct work_note){ .seq = work->seq,
			.state = work->state,
			.staged = work->staged };
	}
	line->noted_nr = nr;
	base_unlock(&line->mutex);
}

static bool find_note(
	struct tier_line *line, uint64_t seq, struct work_note *ret)
{
	bool found = false;

	base_lock(&line->mutex);
	for (size_t i = 0; i < line->noted_nr && !found; i++) {
		found = line->noted[i].seq == seq;
		if (found)
			*ret = line->noted[i];
	}
	base_unlock(&line->mutex);
	return found;
}

static const char *why_working(const struct work_note *note, bool first)
{
	switch (note->state) {
	case WORK_LOADING:
	case WORK_PREPARING:
		return "is being prepared";
	case WORK_PARKED:
		return first ? "uploaded ahead, waits for the rest of its epoch"
			     : "uploaded ahead, waits for earlier epochs";
	case WORK_READY:
	case WORK_ASKED:
		return "is being sent";
	case WORK_SETTLING:
		return "its answer was lost: what became of it is asked";
	default:
		return "is tried again after a pause";
	}
}

enum tier_wait tier_why(struct tier *tier, const struct cache_owed *row,
	uint64_t first_epoch, const char **ret_why)
{
	bool first = row->epoch <= first_epoch;
	struct work_note note;
	int64_t age = base_boot_ns(tier->env) - row->entered_ns;

	*ret_why = row->error;
	if (row->state == CACHE_OWED_ASIDE)
		return TIER_WAIT_ASIDE;
	if (row->error != NULL)
		return row->refused_ns != 0 ? TIER_WAIT_REFUSED
					    : TIER_WAIT_RETRY;
	if (find_note(tier->line, row->seq, &note)) {
		*ret_why = why_working(&note, first);
		return note.state == WORK_PARKED ? TIER_WAIT_TURN
						 : TIER_WAIT_SENDING;
	}
	*ret_why = row->state == CACHE_OWED_SENT
		? "its answer was lost: what became of it is asked"
		: !first     ? "waits for earlier epochs"
		: row->group ? "waits for the rest of its group"
		: row->entered_ns > 0 && age < TIER_STAGE_DELAY_NS
		? "waits whether it changes again"
		: "waits for its epoch's earlier changes";
	return TIER_WAIT_TURN;
}
