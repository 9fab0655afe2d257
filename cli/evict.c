/* forebay evict: drops clean local bytes now. */
#include "cli/cli.h"

#include <stdio.h>

static const char usage[] =
	"usage: forebay evict PATH... [--json]\n"
	"\n"
	"Drops the local bytes of these files and trees where the store has "
	"them.  What is\nopen, pinned, or not in the store yet stays.\n";

struct evict {
	bool json;
};

static json_t *make(void *arg)
{
	(void)arg;
	return json_pack("{s:s}", "cmd", "evict");
}

static int tell_failures(const json_t *failures)
{
	struct base_str path = BASE_STR_INIT;
	const json_t *failure;
	size_t i;

	json_array_foreach(failures, i, failure)
	{
		cli_fail("evict: %s: %s",
			cli_path(json_object_get(failure, "path"), &path),
			json_string_value(json_object_get(failure, "error")));
	}
	base_str_fini(&path);
	return json_array_size(failures) > 0 ? FS_EXIT_FAILED : FS_EXIT_DONE;
}

static int done(void *arg, const json_t *last)
{
	const struct evict *evict = arg;
	uint64_t busy = cli_number(last, "kept_busy");
	uint64_t pinned = cli_number(last, "kept_pinned");
	char size[CLI_SIZE_CHARS];

	if (evict->json) {
		cli_print_json(last);
	} else {
		printf("%llu files, %s dropped",
			(unsigned long long)cli_number(last, "files"),
			cli_size(cli_number(last, "bytes"), size));
		if (busy > 0)
			printf("; %llu in use or not in the store yet",
				(unsigned long long)busy);
		if (pinned > 0)
			printf("; %llu pinned", (unsigned long long)pinned);
		putchar('\n');
	}
	return tell_failures(json_object_get(last, "failures"));
}

int cli_evict(int argc, char **argv)
{
	static const char *const names[] = { "json", NULL };
	struct evict evict = { 0 };
	struct cli_paths how = {
		.what = "evict", .make = make, .done = done, .arg = &evict
	};
	int status, first;

	first = cli_options(
		argc, argv, "evict", usage, names, &evict.json, &status);
	if (first < 0)
		return status;
	if (first == argc)
		return cli_usage("evict", "PATH is needed");
	return cli_paths_run(&how, argv + first, argc - first);
}
