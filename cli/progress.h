/*
 * Progress of long work: a bar with rate and time left on a terminal, a plain
 * line now and then in a pipe.
 *
 * Threads: one.  Ownership: the caller's storage.  Errors: none.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Where the work is. */
struct cli_progress_state {
	uint64_t files_done, files_total; /* total 0: no files are counted */
	uint64_t bytes_done, bytes_total;
	uint64_t moved_bytes; /* what the rate is of */
	const char *doing;    /* instead of numbers, while there are none */
};

struct cli_progress {
	FILE *out;
	bool tty, quiet;
	int columns;
	int64_t start_ns, shown_ns;
	/* The rate: a mean that forgets. */
	int64_t rate_ns;
	uint64_t rate_bytes;
	double rate; /* bytes a second; < 0: not known yet */
	bool drawn;
};

void cli_progress_init(struct cli_progress *p, FILE *out, bool quiet);
void cli_progress_show(
	struct cli_progress *p, const struct cli_progress_state *state);
/* Takes the bar away. */
void cli_progress_end(struct cli_progress *p);

/* One line, at most `columns` wide; with a bar or without.  rate < 0: not
 * known. */
void cli_progress_line(const struct cli_progress_state *state, double rate,
	bool bar, int columns, char *buf, size_t bytes);

#endif
