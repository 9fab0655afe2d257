/* forebay flush: waits until the store holds everything below some paths. */
#include "cli/flush.h"

#include <stdio.h>

static const char usage[] =
	"usage: forebay flush [PATH...] [--json]\n"
	"\n"
	"Waits until the store holds everything that was written below each "
	"PATH\n(or below the current directory).\n";

void cli_flush_init(struct cli_flush *f, bool quiet)
{
	cli_progress_init(&f->progress, stdout, quiet);
	f->first_bytes = UINT64_MAX;
	f->first_sent = 0;
	f->json = false;
}

int cli_flush_line(void *arg, const json_t *line)
{
	struct cli_flush *f = arg;
	struct cli_progress_state state = { 0 };
	uint64_t owed = cli_number(line, "dirty_bytes");
	uint64_t sent = cli_number(line, "sent_bytes");
	char doing[128], size[CLI_SIZE_CHARS];

	if (f->first_bytes == UINT64_MAX) {
		f->first_bytes = owed;
		f->first_sent = sent;
	}
	/* More may be written meanwhile, so this is no promise. */
	if (owed > f->first_bytes)
		f->first_bytes = owed;
	state.bytes_total = f->first_bytes;
	state.bytes_done = f->first_bytes - owed;
	state.moved_bytes = sent - f->first_sent;
	if (json_is_false(json_object_get(line, "store_up"))) {
		state.doing = "the store does not answer; waiting for it";
	} else if (f->first_bytes == 0) {
		snprintf(doing, sizeof(doing), "%llu changes to go (%s)",
			(unsigned long long)cli_number(line, "pending"),
			cli_size(owed, size));
		state.doing = doing;
	}
	cli_progress_show(&f->progress, &state);
	return 0;
}

static json_t *make(void *arg)
{
	(void)arg;
	return json_pack("{s:s}", "cmd", "flush");
}

static int done(void *arg, const json_t *last)
{
	struct cli_flush *f = arg;

	cli_progress_end(&f->progress);
	if (f->json)
		cli_print_json(last);
	return FS_EXIT_DONE;
}

int cli_flush(int argc, char **argv)
{
	static const char *const names[] = { "json", NULL };
	struct cli_flush f;
	struct cli_paths how = { .what = "flush",
		.make = make,
		.line = cli_flush_line,
		.done = done,
		.arg = &f };
	char here[] = ".";
	char *paths[] = { here };
	bool flags[1];
	int status, first;

	first = cli_options(argc, argv, "flush", usage, names, flags, &status);
	if (first < 0)
		return status;
	cli_flush_init(&f, flags[0]);
	f.json = flags[0];
	status = first < argc ? cli_paths_run(&how, argv + first, argc - first)
			      : cli_paths_run(&how, paths, 1);
	cli_progress_end(&f.progress);
	return status;
}
