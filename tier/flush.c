/*
 * Who waits until the store has what was owed when they asked.
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

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

void tier_flushes_end(struct tier_line *line)
{
	struct flush *flush, *next;
	int err;

	base_lock(&line->mutex);
	flush = LIST_FIRST(&line->flushes);
	base_unlock(&line->mutex);
	for (; flush != NULL; flush = next) {
		bool over = flush->begun && flush_is_over(line, flush, &err);

		base_lock(&line->mutex);
		if (flush->cancelled) {
			over = true;
			err = -EINTR;
		}
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

void tier_flushes_follow(
	struct tier_line *line, uint64_t seq, uint64_t last_seq)
{
	struct flush *flush;

	base_lock(&line->mutex);
	LIST_FOREACH(flush, &line->flushes, link)
	{
		if (flush->begun && seq <= flush->upto_seq &&
			flush->upto_seq < last_seq)
			flush->upto_seq = last_seq;
	}
	base_unlock(&line->mutex);
}

bool tier_flush_cancel(struct tier *tier, struct tier_call *call)
{
	struct tier_line *line = tier->line;
	struct flush *flush;

	base_lock(&line->mutex);
	LIST_FOREACH(flush, &line->flushes, link)
	{
		if (flush->call == call)
			flush->cancelled = true;
	}
	base_unlock(&line->mutex);
	tier_line_tick_soon(line);
	return true;
}

bool tier_is_flushing(struct tier_line *line)
{
	bool flushing;

	base_lock(&line->mutex);
	flushing = !LIST_EMPTY(&line->flushes);
	base_unlock(&line->mutex);
	return flushing;
}

struct again {
	struct tier_line *line;
	char **paths; /* of the flushes that begin */
	size_t paths_nr;
	uint64_t *seqs;
	size_t nr;
};

static bool is_below(const char *name, const char *path)
{
	size_t len = strlen(path);

	return len == 0 ||
		(strncmp(name, path, len) == 0 &&
			(name[len] == '\0' || name[len] == '/'));
}

/* What is kept on this host on purpose was never refused. */
static int see_refused(void *arg, const struct cache_owed *row)
{
	struct again *again = arg;
	bool wanted = false;

	if (row->state != CACHE_OWED_ASIDE || row->refused_ns == 0)
		return 0;
	for (size_t i = 0; i < again->paths_nr && !wanted; i++)
		wanted = is_below(row->name, again->paths[i]);
	if (!wanted)
		return 0;
	again->seqs = base_realloc(
		again->seqs, (again->nr + 1) * sizeof(*again->seqs));
	again->seqs[again->nr++] = row->seq;
	return 0;
}

static int enter_again(struct again *again, struct cache_txn *txn)
{
	struct tier *t = again->line->tier;
	struct cache_owed row;
	uint64_t seq;
	int err = cache_owed_each_aside(txn, "", 0, see_refused, again);

	t->order.epoch += again->nr > 0;
	t->order.after_staged |= again->nr > 0; /* an epoch of their own */
	for (size_t i = 0; i < again->nr && err == 0; i++) {
		err = cache_owed_get(txn, again->seqs[i], &row);
		if (err < 0)
			break;
		row.state = CACHE_OWED_UNSENT;
		row.epoch = t->order.epoch;
		row.group = false;
		err = cache_owed_put(txn, &row);
		if (err == 0)
			err = cache_owed_renumber(txn, row.seq, &seq);
		cache_owed_fini(&row);
	}
	return err;
}

/* Who asks for what was refused wants it tried once more, at the end of the
 * line: the store may have changed its mind. */
static void try_refused_again(struct tier_line *line)
{
	struct again again = { .line = line };
	struct cache_txn *txn;
	struct flush *flush;
	bool any = false;

	if (cache_read(line->tier->cache, &txn) == 0) {
		any = cache_owed_has_aside(txn);
		cache_abort(txn);
	}
	if (!any)
		return;
	base_lock(&line->mutex);
	LIST_FOREACH(flush, &line->flushes, link)
	{
		if (flush->begun)
			continue;
		again.paths = base_realloc(again.paths,
			(again.paths_nr + 1) * sizeof(*again.paths));
		again.paths[again.paths_nr++] = base_strdup(flush->path);
	}
	base_unlock(&line->mutex);
	if (cache_write(line->tier->cache, &txn) == 0)
		cache_end(txn, enter_again(&again, txn));
	for (size_t i = 0; i < again.paths_nr; i++)
		free(again.paths[i]);
	free(again.paths);
	free(again.seqs);
}

/* A flush of a file says that it is as it should be. */
static void confirm_flushed(struct tier_line *line)
{
	struct flush *flush;
	char *path;
	int err;

	do {
		path = NULL;
		base_lock(&line->mutex);
		LIST_FOREACH(flush, &line->flushes, link)
		{
			if (flush->confirmed)
				continue;
			flush->confirmed = true;
			path = base_strdup(flush->path);
			break;
		}
		base_unlock(&line->mutex);
		err = path != NULL ? tier_doubts_confirm(line->tier, path) : 0;
		if (err < 0)
			log_error("flush %s: %s", path, strerror(-err));
		free(path);
	} while (path != NULL);
}

/* Flushes that came since the last look wait for what is owed now. */
static void begin_flushes(void *arg)
{
	struct tier_line *line = arg;
	struct cache_txn *txn;
	struct flush *flush;
	uint64_t seq = UINT64_MAX;

	tier_dirs_enter(line->tier, 0);
	try_refused_again(line);
	confirm_flushed(line);
	if (cache_read(line->tier->cache, &txn) == 0) {
		cache_owed_max_seq(txn, &seq);
		cache_abort(txn);
	}
	base_lock(&line->mutex);
	LIST_FOREACH(flush, &line->flushes, link)
	{
		if (!flush->begun) {
			flush->begun = true;
			flush->upto_seq = seq;
		}
	}
	base_unlock(&line->mutex);
	tier_line_tick_soon(line);
}

void tier_flush(struct tier *tier, const char *path, struct tier_call *call)
{
	struct tier_line *line = tier->line;
	struct flush *flush = base_calloc(1, sizeof(*flush));
	bool stopped;

	flush->path = base_strdup(path);
	flush->call = call;
	flush->upto_seq = UINT64_MAX;
	call->owner = flush;
	base_lock(&line->mutex);
	stopped = line->stopped;
	if (!stopped)
		LIST_INSERT_HEAD(&line->flushes, flush, link);
	base_unlock(&line->mutex);
	if (!stopped) {
		base_strand_post(line->strand, begin_flushes, line);
		return;
	}
	free(flush->path);
	free(flush);
	tier_call_end(tier, call, -EINTR);
}
