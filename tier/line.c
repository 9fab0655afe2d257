/*
 * Walks the line: which rows may start, which may become visible (send() of
 * WRITEBACK section 5), and who waits for that.
 *
 * Rules, by number, as the tests name them:
 *   L1  only rows of the lowest epoch become visible;
 *   L2  the newest row of the whole line goes when all others of its epoch
 *       are done;
 *   L3  large files of later epochs are staged ahead;
 *   L4  a group (joined epochs) becomes visible when all of it is staged: new
 *       names, then replacements but the newest of each directory, then
 *       those, then deletions;
 *   L5  a row is due TIER_STAGE_DELAY after it entered, at once for a flush;
 *   L6  a line older than lag_max joins its oldest epochs.
 */
#include "tier/line.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- ticks ---- */

static void tick(void *arg);

void tier_line_tick_soon(struct tier_line *line)
{
	bool post;

	base_lock(&line->mutex);
	post = !line->tick_posted && !line->stopped;
	line->tick_posted |= post;
	base_unlock(&line->mutex);
	if (post)
		base_strand_post(line->strand, tick, line);
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

/* ---- one look at the line ---- */

/* The newest replacement of a directory, in a group. */
struct newest {
	UT_hash_handle hh;
	uint64_t seq;
	size_t len;
	char dir[];
};

struct look {
	struct tier_line *line;
	uint64_t epoch, max_seq;
	int64_t now;
	bool flushing;
	size_t in_epoch;     /* rows of it seen */
	size_t beyond;	     /* rows of later epochs seen */
	int64_t wake_ns;     /* when the first row that is not due will be */
	uint64_t last_epoch; /* epoch of the last row seen, for lag joins */
	/* picked, started after the transaction */
	struct cache_owed picked[TIER_SEND_PARALLEL];
	bool picked_go[TIER_SEND_PARALLEL];
	size_t picked_nr;
	uint64_t go[TIER_SEND_PARALLEL];
	size_t go_nr;
	/* a group's plan */
	bool group;
	int phase;     /* lowest phase with a row, -1: unknown */
	bool unstaged; /* something of it is not staged yet */
	struct newest *newest;
	char held[512];
};

static bool is_large(const struct cache_owed *row)
{
	return row->kind == CACHE_FILE && row->size_bytes > TIER_BLOCK_BYTES_1;
}

static struct work *find_work(struct tier_line *line, uint64_t seq)
{
	struct work *work;

	HASH_FIND(hh, line->works, &seq, sizeof(seq), work);
	return work;
}

static void copy_row(struct cache_owed *to, const struct cache_owed *from)
{
	*to = *from;
	to->name = base_strdup(from->name);
	to->error = from->error ? base_strdup(from->error) : NULL;
}

static void pick(struct look *look, const struct cache_owed *row, bool go)
{
	struct work *work = find_work(look->line, row->seq);

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
	if (is_large(row) && look->line->staging_nr < TIER_STAGE_FILES &&
		find_work(look->line, row->seq) == NULL && is_due(look, row)) {
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
	pick(look, row, row->seq != look->max_seq || look->in_epoch == 1);
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
	if (is_large(row) && row->state == CACHE_OWED_UNSENT) {
		work = find_work(look->line, row->seq);
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
		if (is_large(row))
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

/* ---- lag (L6) ---- */

struct lag {
	uint64_t first_epoch, last_epoch;
	int64_t first_entered_ns;
	size_t rows, epochs;
	bool prefix;
};

static int see_lag(void *arg, const struct cache_owed *row)
{
	struct lag *lag = arg;

	if (lag->rows == 0)
		lag->first_entered_ns = row->entered_ns;
	if (row->epoch != lag->last_epoch)
		lag->epochs++;
	if (++lag->rows > TIER_LAG_JOIN_ROWS)
		return 1;
	lag->last_epoch = row->epoch;
	return is_large(row) ? 1 : 0;
}

static void join_lag(struct tier_line *line, uint64_t epoch)
{
	struct lag lag = { .first_epoch = epoch };
	struct cache_owed_prefix prefix;
	struct cache_txn *txn;
	int64_t age;

	if (cache_write(line->tier->cache, &txn) < 0)
		return;
	cache_owed_each(txn, epoch, 0, see_lag, &lag);
	age = base_boot_ns(line->tier->env) - lag.first_entered_ns;
	for (uint64_t e = epoch; e <= lag.last_epoch && !lag.prefix; e++) {
		lag.prefix = cache_owed_prefix_first(txn, e, &prefix) == 0;
		if (lag.prefix)
			cache_owed_prefix_fini(&prefix);
	}
	if (lag.epochs < 8 || age < TIER_LAG_MAX_NS || lag.prefix ||
		cache_owed_join(txn, epoch, lag.last_epoch) < 0) {
		cache_abort(txn);
		return;
	}
	if (cache_commit(txn) == 0)
		atomic_fetch_add(&line->tier->order.groups, 1);
}

/* ---- directory renames ---- */

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
	} else {
		if (err < 0)
			goto out;
		row.name = path.data;
		row.kind = inode.kind;
		row.ino = inode.ino;
		row.serial = inode.serial;
		row.size_bytes = inode.size_bytes;
		row.gen = inode.gen;
		row.content = inode.content;
		tier_attrs_of(&inode, &row.attrs);
		if (inode.kind == CACHE_FILE && inode.written)
			goto out; /* enters at its close */
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

/* ---- flushes ---- */

static bool flush_is_over(
	struct tier_line *line, struct flush *flush, int *ret_err)
{
	struct cache_txn *txn;
	bool owed = false, aside = false;
	int err = cache_read(line->tier->cache, &txn);

	if (err == 0) {
		err = cache_owed_below(
			txn, flush->path, flush->upto_seq, &owed, &aside);
		cache_abort(txn);
	}
	*ret_err = err < 0 ? err : aside ? -EIO : 0;
	return err < 0 || !owed;
}

static void end_flushes(struct tier_line *line)
{
	struct flush *flush, *next;
	int err;

	base_lock(&line->mutex);
	flush = LIST_FIRST(&line->flushes);
	base_unlock(&line->mutex);
	for (; flush != NULL; flush = next) {
		bool over = flush_is_over(line, flush, &err);

		base_lock(&line->mutex);
		next = LIST_NEXT(flush, link);
		if (over)
			LIST_REMOVE(flush, link);
		base_unlock(&line->mutex);
		if (over) {
			tier_call_end(line->tier, flush->call, err);
			free(flush->path);
			free(flush);
		}
	}
}

static bool is_flushing(struct tier_line *line)
{
	bool flushing;

	base_lock(&line->mutex);
	flushing = !LIST_EMPTY(&line->flushes);
	base_unlock(&line->mutex);
	return flushing;
}

static void flush_begin(void *arg)
{
	struct flush *flush = arg;
	struct tier_line *line = flush->call->owner;
	struct cache_txn *txn;
	bool stopped;

	if (cache_read(line->tier->cache, &txn) == 0) {
		cache_owed_max_seq(txn, &flush->upto_seq);
		cache_abort(txn);
	}
	base_lock(&line->mutex);
	stopped = line->stopped;
	if (!stopped)
		LIST_INSERT_HEAD(&line->flushes, flush, link);
	base_unlock(&line->mutex);
	if (stopped) {
		tier_call_end(line->tier, flush->call, -EINTR);
		free(flush->path);
		free(flush);
		return;
	}
	tick(line);
}

void tier_flush(struct tier *tier, const char *path, struct tier_call *call)
{
	struct flush *flush = base_calloc(1, sizeof(*flush));

	flush->path = base_strdup(path);
	flush->call = call;
	call->owner = tier->line;
	base_strand_post(tier->line->strand, flush_begin, flush);
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

static int group_of_first(void *arg, const struct cache_owed *row)
{
	struct look *look = arg;

	look->group = row->epoch == look->epoch && row->group;
	return 1;
}

static int take_a_look(struct tier_line *line, struct look *look)
{
	struct cache_txn *txn;
	int err = cache_read(line->tier->cache, &txn);

	if (err < 0)
		return err;
	drop_stale(line, txn);
	err = cache_owed_first_epoch(txn, &look->epoch);
	if (err == 0)
		err = cache_owed_max_seq(txn, &look->max_seq);
	if (err == 0 && look->epoch > 0) {
		err = cache_owed_each(
			txn, look->epoch, 0, group_of_first, look);
		if (err >= 0)
			err = look_at_epoch(look, txn);
	}
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
		work = find_work(line, look->go[i]);
		if (work != NULL)
			tier_work_go(work);
	}
	HASH_ITER(hh, line->works, work, tmp)
	{
		if (work->state == WORK_DONE)
			tier_work_done(work);
	}
}

/* A directory rename whose turn it is. */
static bool step_prefix(struct tier_line *line, struct look *look)
{
	struct cache_owed_prefix prefix;
	struct cache_txn *txn;
	int err = cache_read(line->tier->cache, &txn);

	if (err < 0)
		return false;
	err = cache_owed_prefix_first(txn, look->epoch, &prefix);
	cache_abort(txn);
	if (err < 0)
		return false;
	if (look->in_epoch < TIER_SEND_PARALLEL)
		err = expand_prefix(line, &prefix, look->in_epoch == 0);
	else
		err = 0;
	cache_owed_prefix_fini(&prefix);
	if (err < 0)
		log_error("index: a directory rename cannot go on: %s",
			strerror(-err));
	return err > 0 || (err == 0 && look->in_epoch == 0);
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
	end_flushes(line);
	if (now < line->paused_until_ns) {
		tier_line_tick_after(line, line->paused_until_ns - now);
		return;
	}
	look = base_calloc(1, sizeof(*look));
	look->line = line;
	look->now = now;
	look->flushing = is_flushing(line);
	if (take_a_look(line, look) == 0 && look->epoch > 0) {
		start_picked(line, look);
		if (step_prefix(line, look))
			tier_line_tick_soon(line);
		else if (!look->group && line->works_nr == 0 &&
			look->in_epoch > 0)
			join_lag(line, look->epoch);
		if (look->wake_ns > 0)
			tier_line_tick_after(line, look->wake_ns - now);
	}
	note_held(line, look);
	free(look);
}

void tier_kick(struct tier *tier)
{
	tier_line_tick_soon(tier->line);
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
	struct work *work, *tmp;

	HASH_ITER(hh, line->works, work, tmp)
	{
		if (work->state == WORK_ASKED || work->state == WORK_SETTLING)
			blob_cancel(line->tier->store, &work->req);
	}
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
