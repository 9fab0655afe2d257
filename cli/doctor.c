/* forebay doctor: what this host and this store offer or lack. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: forebay doctor [STORE] [--json]\n"
	"\n"
	"Says what this host, and the store if one is named (credentials from "
	"the\nenvironment, as for mount), offer or lack, what each lack costs, "
	"and what to do.\nChanges nothing.\n";

int cli_doctor(int argc, char **argv)
{
	static const char *const names[] = { "json", NULL };
	struct base_str text = BASE_STR_INIT;
	int status, first;
	json_t *rows, *row;
	bool json;
	size_t i;

	first = cli_options(argc, argv, "doctor", usage, names, &json, &status);
	if (first < 0)
		return status;
	if (argc - first > 1)
		return cli_usage("doctor", "one STORE at most");
	status = FS_EXIT_DONE;
	rows = fs_doctor(first < argc ? argv[first] : NULL, NULL);
	if (json)
		cli_print_json(rows);
	json_array_foreach(rows, i, row)
	{
		const char *state =
			json_string_value(json_object_get(row, "state"));

		if (strcmp(state, "bad") == 0)
			status = FS_EXIT_FAILED;
		if (json)
			continue;
		base_str_clear(&text);
		cli_path(json_object_get(row, "text"), &text);
		printf("%-5s  %-13s  %s\n", state,
			json_string_value(json_object_get(row, "check")),
			text.data ? text.data : "");
	}
	base_str_fini(&text);
	json_decref(rows);
	return status;
}
