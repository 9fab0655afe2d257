/* forebay locate: the data file behind a whole file. */
#include "cli/cli.h"

#include <stdio.h>

static const char usage[] =
	"usage: forebay locate PATH... [--pin] [--json]\n"
	"\n"
	"Prints where on the local disk the bytes of these files are, one line "
	"each, for\nreaders that go around the mount.  Only whole files that "
	"nobody writes to have\nsuch a place.\n"
	"\n"
	"  --pin  keeps them there until forebay unpin\n";

struct locate {
	bool pin, json;
};

static json_t *make(void *arg)
{
	const struct locate *locate = arg;

	return json_pack("{s:s, s:b}", "cmd", "locate", "pin", locate->pin);
}

static int done(void *arg, const json_t *last)
{
	const struct locate *locate = arg;
	struct base_str path = BASE_STR_INIT;
	const json_t *file;
	size_t i;

	if (locate->json) {
		cli_print_json(last);
		return FS_EXIT_DONE;
	}
	json_array_foreach(json_object_get(last, "files"), i, file)
	{
		puts(cli_path(json_object_get(file, "data"), &path));
	}
	base_str_fini(&path);
	return FS_EXIT_DONE;
}

int cli_locate(int argc, char **argv)
{
	static const char *const names[] = { "pin", "json", NULL };
	bool flags[2] = { false, false };
	struct locate locate;
	struct cli_paths how = {
		.what = "locate", .make = make, .done = done, .arg = &locate
	};
	int status, first;

	first = cli_options(argc, argv, "locate", usage, names, flags, &status);
	if (first < 0)
		return status;
	if (first == argc)
		return cli_usage("locate", "PATH is needed");
	locate = (struct locate){ .pin = flags[0], .json = flags[1] };
	return cli_paths_run(&how, argv + first, argc - first);
}
