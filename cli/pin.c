/* forebay pin and unpin. */
#include "cli/cli.h"

#include <stdio.h>

static const char pin_usage[] =
	"usage: forebay pin PATH... [--json]\n"
	"\n"
	"What of these files and trees is local stays local, now and later.  "
	"It fetches\nnothing: forebay prefetch --pin does both.\n";

static const char unpin_usage[] =
	"usage: forebay unpin PATH... [--json]\n"
	"\n"
	"Takes a pin away: the same path that was pinned.\n";

struct pin {
	const char *cmd;
	bool json;
};

static json_t *make(void *arg)
{
	const struct pin *pin = arg;

	return json_pack("{s:s}", "cmd", pin->cmd);
}

static int done(void *arg, const json_t *last)
{
	const struct pin *pin = arg;

	if (pin->json)
		cli_print_json(last);
	return FS_EXIT_DONE;
}

static int run(int argc, char **argv, const char *cmd, const char *usage)
{
	static const char *const names[] = { "json", NULL };
	struct pin pin = { .cmd = cmd };
	struct cli_paths how = {
		.what = cmd, .make = make, .done = done, .arg = &pin
	};
	int status, first;

	first = cli_options(argc, argv, cmd, usage, names, &pin.json, &status);
	if (first < 0)
		return status;
	if (first == argc)
		return cli_usage(cmd, "PATH is needed");
	return cli_paths_run(&how, argv + first, argc - first);
}

int cli_pin(int argc, char **argv)
{
	return run(argc, argv, "pin", pin_usage);
}

int cli_unpin(int argc, char **argv)
{
	return run(argc, argv, "unpin", unpin_usage);
}
