/*
 * Read-ahead: several streams per inode, found by position, never by handle
 * (data loaders share a descriptor between processes and mmap it).
 *
 * A read that continues a stream doubles its window until the largest, and
 * keeps that much ahead of it asked for; one that continues none begins a
 * stream with a small window, the least recently used stream making room.  A
 * reader that jumps about never gets beyond the small window.
 */
#include "tier/fetch.h"

/* Ahead of a stream's first read: two round trips' worth of nothing is worse
 * than a megabyte too many. */
#define WINDOW_FIRST (2 * TIER_MIB)

static struct stream *find_stream(
	struct fetch_file *file, uint64_t start, bool *ret_found)
{
	struct stream *oldest = &file->streams[0];

	for (unsigned i = 0; i < TIER_STREAMS; i++) {
		struct stream *s = &file->streams[i];

		if (s->window > 0 && start + TIER_STREAM_BACK >= s->next &&
			start <= s->next + TIER_STREAM_AHEAD) {
			*ret_found = true;
			return s;
		}
		if (s->used < oldest->used)
			oldest = s;
	}
	*ret_found = false;
	return oldest;
}

void tier_stream_note(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, uint64_t start, uint64_t end)
{
	uint64_t max = f->tier->cfg.read_ahead_bytes, stop;
	struct stream *s;
	bool found;

	if (max == 0 || end >= file->size_bytes)
		return;
	s = find_stream(file, start, &found);
	s->used = ++file->clock;
	if (!found) {
		s->next = end;
		s->ahead = end;
		/* The first read of a file is mostly the first of all; one in
		 * the middle may be a jump. */
		s->window = start == 0 ? WINDOW_FIRST : FETCH_UNIT;
		if (start != 0)
			return;
	} else if (end > s->next) {
		s->next = end;
	}
	if (s->ahead < s->next)
		s->ahead = s->next;
	/* More when half of the window has been read. */
	if (s->ahead - s->next > s->window / 2)
		return;
	if (found && s->window < max)
		s->window = s->window * 2 < max ? s->window * 2 : max;
	stop = s->next + s->window;
	if (stop > file->size_bytes)
		stop = file->size_bytes;
	if (stop > s->ahead &&
		tier_fetch_ahead(f, txn, file, s->ahead, stop) == 0)
		s->ahead = stop;
}
