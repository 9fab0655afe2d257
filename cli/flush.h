/*
 * Waiting until the store holds something, with progress; umount --drain does
 * it too.
 *
 * Threads: one.  Ownership: nothing is kept.  Errors: said, exit status.
 */
#ifndef CLI_FLUSH_H
#define CLI_FLUSH_H

#include "cli/cli.h"
#include "cli/progress.h"

struct cli_flush {
	struct cli_progress progress;
	uint64_t first_bytes; /* owed at first; UINT64_MAX: not known yet */
	uint64_t first_sent;
	bool json;
};

void cli_flush_init(struct cli_flush *f, bool quiet);
/* For cli_client_ask(); arg: struct cli_flush. */
int cli_flush_line(void *arg, const json_t *line);

#endif
