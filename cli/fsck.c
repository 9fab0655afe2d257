/* forebay fsck: is a cache directory what its index says? */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: forebay fsck CACHE_DIR[:DIR...] [--repair] [--store] [--json]\n"
	"\n"
	"Compares the index of a cache that is not mounted with its data "
	"files.\n"
	"  --repair  puts right what is wrong; deletes nothing that may be the "
	"only\n"
	"            copy of something: that goes to CACHE_DIR/lost\n"
	"  --store   also says what the store has changed since (credentials "
	"from the\n"
	"            environment, as for mount)\n";

static void print_row(const json_t *row)
{
	struct base_str name = BASE_STR_INIT, text = BASE_STR_INIT;
	const json_t *path = json_object_get(row, "name");

	cli_path(json_object_get(row, "text"), &text);
	if (path != NULL)
		cli_path(path, &name);
	printf("%s: %s: %s\n", json_string_value(json_object_get(row, "what")),
		name.len > 0 ? name.data : "-", text.data ? text.data : "");
	base_str_fini(&name);
	base_str_fini(&text);
}

static void print_report(const json_t *report, bool repair)
{
	uint64_t wrong = cli_number(report, "wrong");
	uint64_t moved = cli_number(report, "moved");
	char size[CLI_SIZE_CHARS];
	size_t i;
	json_t *row;

	json_array_foreach(json_object_get(report, "found"), i, row)
		print_row(row);
	printf("%llu data files, %s: ",
		(unsigned long long)cli_number(report, "files"),
		cli_size(cli_number(report, "bytes"), size));
	if (wrong == 0)
		printf("all well\n");
	else
		printf("%llu things wrong%s\n", (unsigned long long)wrong,
			repair ? ", put right" : "; --repair puts them right");
	if (moved > 0)
		printf("%llu files went to lost/, with their names in "
		       "lost/NAMES\n",
			(unsigned long long)moved);
}

int cli_fsck(int argc, char **argv)
{
	static const char *const names[] = { "repair", "store", "json", NULL };
	struct fs_fsck_args args = { 0 };
	int status, err, first;
	char why[1024];
	bool flags[3];
	json_t *report;

	first = cli_options(argc, argv, "fsck", usage, names, flags, &status);
	if (first < 0)
		return status;
	if (argc - first != 1)
		return cli_usage("fsck", "one CACHE_DIR");
	args.cache_dirs = argv[first];
	args.repair = flags[0];
	args.store = flags[1];
	report = fs_fsck(&args, &err, why, sizeof(why));
	if (flags[2])
		cli_print_json(report);
	else if (err == 0 || cli_number(report, "wrong") > 0)
		print_report(report, args.repair && err == 0);
	status = FS_EXIT_DONE;
	if (err < 0)
		status = cli_fail("fsck: %s", why);
	else if (cli_number(report, "wrong") > 0 && !args.repair)
		status = FS_EXIT_FAILED;
	else if (cli_number(report, "lost") > 0)
		status = FS_EXIT_FAILED;
	json_decref(report);
	return status;
}
