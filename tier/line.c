/*
 * The line moves: a tick takes one look at it (look.c), starts what was
 * picked, and arms the next tick.  Ticks come from changes, answers and
 * timers; an empty line has none.
 *
 *   L6  a line older than lag_max joins its oldest epochs (join_lag)
 */
#include "tier/look.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- ticks ---- */

static void tick(void *arg);

void tier_line_tick_soon(struct tier_line *line)
{
	int64_t rest;
	bool post;

	base_lock(&line->mutex);
	post = !line->tick_posted && !line->stopped;
	line->tick_posted |= post;
	rest = line->rest_until_ns - base_boot_ns(line->tier->env);
	base_unlock(&line->mutex);
	if (post && rest > 0)
		base_strand_after(line->strand, rest, tick, line);
	else if (post)
		base_strand_post(line->strand, tick, line);
}

/* With an answer coming in for each row, a look at each would cost more than
 * all else.  (On the clock of a model it takes no time.) */
static void rest_from(struct tier_line *line, int64_t began_ns)
{
	int64_t now = base_boot_ns(line->tier->env);
	int64_t rest = (now - began_ns) * TIER_LOOK_REST;

	if (rest > TIER_LOOK_REST_MAX_NS)
		rest = TIER_LOOK_REST_MAX_NS;
	base_lock(&line->mutex);
	line->rest_until_ns = now + rest;
	base_unlock(&line->mutex);
}

static void timer_due(void *arg)
{
	struct tier_line *line = arg;

	line->timer_at_ns = 0;
	tier_line_tick_soon(line);
}

void tier_line_tick_after(struct tier_line *line, int64_t delay_ns)
{
	int64_t at = base_boot_ns(line->tier->env) + delay_ns;

	if (line->timer_at_ns != 0 && line->timer_at_ns <= at)
		return;
	line->timer_at_ns = at;
	base_strand_after(line->strand, delay_ns, timer_due, line);
}

void tier_line_pause(struct tier_line *line)
{
	line->pause_ns =
		line->pause_ns ? line->pause_ns * 2 : TIER_RETRY_MIN_NS;
	if (line->pause_ns > TIER_RETRY_MAX_NS)
		line->pause_ns = TIER_RETRY_MAX_NS;
	line->paused_until_ns = base_boot_ns(line->tier->env) + line->pause_ns;
	tier_line_tick_after(line, line->pause_ns);
}

bool tier_line_budget(struct work *work, uint64_t bytes)
{
	struct tier_line *line = work->line;

	if (line->budget_bytes > 0 &&
		line->budget_bytes + bytes > TIER_UPLOAD_BYTES) {
		line->starved = true;
		return false;
	}
	line->budget_bytes += bytes;
	work->budget_bytes += bytes;
	return true;
}

void tier_line_budget_back(struct work *work, uint64_t bytes)
{
	struct tier_line *line = work->line;

	assert(bytes <= work->budget_bytes);
	work->budget_bytes -= bytes;
	line->budget_bytes -= bytes;
	if (line->starved) {
		line->starved = false;
		tier_line_tick_soon(line);
	}
}

struct work *tier_line_work(struct tier_line *line, uint64_t seq)
{
	struct work *work;

	HASH_FIND(hh, line->works, &seq, sizeof(seq), work);
	return work;
}

/* ---- lag (L6) ---- */

struct lag {
	uint64_t epoch, complete; /* the last one seen, and seen to its end */
	size_t rows, epochs;	  /* epochs: complete ones */
};

/* What the store refuses holds back what came after it. */
static int see_lag(void *arg, const struct cache_owed *row)
{
	struct lag *lag = arg;

	if (row->epoch != lag->epoch) {
		lag->epochs += lag->epoch != 0;
		lag->complete = lag->epoch;
		lag->epoch = row->epoch;
	}
	return row->tries > 0 || tier_row_is_large(row) ||
		++lag->rows > TIER_LAG_JOIN_ROWS;
}

static int join_oldest(struct cache_txn *txn, uint64_t epoch)
{
	struct cache_owed_prefix prefix;
	struct lag lag = { 0 };
	int err = cache_owed_each(txn, epoch, 0, see_lag, &lag);

	if (err < 0)
		return err;
	if (lag.epochs < TIER_LAG_EPOCHS)
		return -ENOENT;
	if (cache_owed_prefix_first(txn, lag.complete, &prefix) == 0) {
		cache_owed_prefix_fini(&prefix);
		return -ENOENT;
	}
	return cache_owed_join(txn, epoch, lag.complete, CACHE_JOIN_BY_PHASE);
}

static void join_lag(struct tier_line *line, const struct look *look)
{
	struct cache_txn *txn;
	int err;

	/* oldest_ns < 0: it is from before the boot. */
	if (look->oldest_ns == 0 ||
		look->now - look->oldest_ns < TIER_LAG_MAX_NS ||
		look->now < line->lag_at_ns ||
		cache_write(line->tier->cache, &txn) < 0)
		return;
	line->lag_at_ns = look->now + TIER_LAG_EVERY_NS;
	err = join_oldest(txn, look->epoch);
	if (err < 0) {
		cache_abort(txn);
		return;
	}
	if (cache_commit(txn) == 0)
		atomic_fetch_add(&line->tier->order.groups, 1);
}

/* ---- the tick ---- */

/* Works whose rows fell out meanwhile. */
static void drop_stale(struct tier_line *line, struct cache_txn *txn)
{
	struct work *work, *tmp;
	struct cache_owed row;

	line->staging_nr = 0;
	HASH_ITER(hh, line->works, work, tmp)
	{
		if (!work->may_go)
			line->staging_nr++;
		if (work->state != WORK_PARKED)
			continue;
		if (cache_owed_get(txn, work->seq, &row) == 0)
			cache_owed_fini(&row);
		else
			work->state = WORK_DONE;
	}
}

static void note_held(struct tier_line *line, const struct look *look)
{
	base_lock(&line->mutex);
	if (strcmp(line->held_by, look->held) != 0) {
		snprintf(
			line->held_by, sizeof(line->held_by), "%s", look->held);
		line->held_since_ns = look->now;
	}
	base_unlock(&line->mutex);
}

static int take_a_look(struct tier_line *line, struct look *look)
{
	struct cache_txn *txn;
	int err = cache_read(line->tier->cache, &txn);

	if (err < 0)
		return err;
	drop_stale(line, txn);
	err = tier_look(look, txn);
	cache_abort(txn);
	return err < 0 ? err : 0;
}

static void start_picked(struct tier_line *line, struct look *look)
{
	struct work *batch[TIER_SEND_PARALLEL];
	struct work *work, *tmp;

	for (size_t i = 0; i < look->picked_nr; i++) {
		batch[i] = tier_work_new(line, &look->picked[i]);
		batch[i]->may_go = look->picked_go[i];
		cache_owed_fini(&look->picked[i]);
	}
	for (size_t i = 0; i < look->picked_nr; i++)
		tier_work_load(batch[i]);
	for (size_t i = 0; i < look->go_nr; i++) {
		work = tier_line_work(line, look->go[i]);
		if (work != NULL)
			tier_work_go(work);
	}
	HASH_ITER(hh, line->works, work, tmp)
	{
		if (work->state == WORK_DONE)
			tier_work_done(work);
	}
}

static void tick(void *arg)
{
	struct tier_line *line = arg;
	struct look *look;
	int64_t now = base_boot_ns(line->tier->env);

	base_lock(&line->mutex);
	line->tick_posted = false;
	base_unlock(&line->mutex);
	if (!line->started || atomic_load(&line->tier->stopping) ||
		line->tier->cfg.read_only)
		return;
	tier_flushes_end(line);
	tier_fence_step(line);
	if (now < line->paused_until_ns) {
		tier_line_tick_after(line, line->paused_until_ns - now);
		return;
	}
	look = base_calloc(1, sizeof(*look));
	look->line = line;
	look->now = now;
	look->flushing = tier_is_flushing(line);
	if (take_a_look(line, look) < 0) {
		/* The disk has a bad moment: nobody else would look again. */
		tier_line_tick_after(line, TIER_S);
	} else if (look->epoch > 0) {
		start_picked(line, look);
		if (look->expand && tier_rename_step(line, look))
			tier_line_tick_soon(line);
		else if (!look->group && !look->renaming)
			join_lag(line, look);
		if (look->wake_ns > 0)
			tier_line_tick_after(line, look->wake_ns - now);
	}
	note_held(line, look);
	tier_line_note_works(line);
	free(look);
	rest_from(line, now);
}

static void kick_due(void *arg)
{
	struct tier_line *line = arg;

	base_lock(&line->mutex);
	line->kicked = false;
	base_unlock(&line->mutex);
	tier_line_tick_soon(line);
}

void tier_kick(struct tier *tier)
{
	struct tier_line *line = tier->line;
	bool arm;

	base_lock(&line->mutex);
	arm = !line->kicked && !line->tick_posted && !line->stopped;
	line->kicked |= arm;
	base_unlock(&line->mutex);
	if (arm)
		base_strand_after(
			line->strand, TIER_KICK_DELAY_NS, kick_due, line);
}

void tier_line_store_up(struct tier *tier)
{
	tier_line_tick_soon(tier->line);
}

/* ---- life ---- */

int tier_line_open(struct tier *tier)
{
	struct tier_line *line = base_calloc(1, sizeof(*line));

	line->tier = tier;
	line->strand = base_strand_new(tier->env);
	TAILQ_INIT(&line->unsynced);
	TAILQ_INIT(&line->ready);
	TAILQ_INIT(&line->answered);
	LIST_INIT(&line->flushes);
	base_mutex_init(&line->mutex, BASE_RANK_TIER_JOB);
	tier->line = line;
	return 0;
}

static void start_on_strand(void *arg)
{
	struct tier_line *line = arg;

	line->started = true;
	tick(line);
}

void tier_line_start(struct tier *tier)
{
	base_strand_post(tier->line->strand, start_on_strand, tier->line);
}

static void stop_on_strand(void *arg)
{
	struct tier_line *line = arg;
	struct flush *flush;

	base_lock(&line->mutex);
	while ((flush = LIST_FIRST(&line->flushes)) != NULL) {
		LIST_REMOVE(flush, link);
		tier_call_end(line->tier, flush->call, -EINTR);
		free(flush->path);
		free(flush);
	}
	base_unlock(&line->mutex);
}

void tier_line_stop(struct tier *tier)
{
	struct tier_line *line = tier->line;

	base_lock(&line->mutex);
	line->stopped = true;
	base_unlock(&line->mutex);
	base_strand_post(line->strand, stop_on_strand, line);
}

void tier_line_close(struct tier *tier)
{
	struct tier_line *line = tier->line;
	struct work *work, *tmp;

	if (line == NULL)
		return;
	HASH_ITER(hh, line->works, work, tmp)
	tier_work_done(work);
	base_strand_free(line->strand);
	base_mutex_fini(&line->mutex);
	free(line);
}

void tier_line_status(struct tier *tier, struct tier_status *ret)
{
	struct tier_line *line = tier->line;

	base_lock(&line->mutex);
	snprintf(ret->held_by, sizeof(ret->held_by), "%s", line->held_by);
	if (line->held_by[0] != '\0')
		ret->held_ns = base_boot_ns(tier->env) - line->held_since_ns;
	base_unlock(&line->mutex);
}
