/* forebay conflicts: both sides of every lost race. */
#include "cli/cli.h"

#include <stdio.h>
#include <time.h>

static const char usage[] =
	"usage: forebay conflicts [PATH] [--json]\n"
	"\n"
	"Lists files that somebody else changed in the store while this host "
	"had changes of\nits own: what the store holds keeps the name, what "
	"was written here stands beside\nit.  To settle one, look at both, "
	"then either remove the copy, or move it over the\nname.\n";

static const char *when(double seconds, char *buf, size_t bytes)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds <= 0 || localtime_r(&t, &tm) == NULL ||
		strftime(buf, bytes, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		return "unknown";
	return buf;
}

static void print_side(const char *name, const char *what, const json_t *side)
{
	char size[CLI_SIZE_CHARS], time[64];

	printf("  %s  %s  %10s  %s\n", what,
		when(json_number_value(json_object_get(side, "mtime")), time,
			sizeof(time)),
		cli_size(cli_number(side, "size"), size), name);
}

struct list {
	json_t *rows; /* with --json */
	uint64_t nr;
};

static int line(void *arg, const json_t *json)
{
	struct list *list = arg;
	json_t *row = json_object_get(json, "row");
	struct base_str name = BASE_STR_INIT, copy = BASE_STR_INIT;
	char time[64];

	list->nr++;
	if (list->rows != NULL) {
		json_array_append(list->rows, row);
		return 0;
	}
	cli_path(json_object_get(row, "name"), &name);
	cli_path(json_object_get(row, "copy"), &copy);
	printf("%s, found %s\n", name.data ? name.data : "?",
		when(json_number_value(json_object_get(row, "found")), time,
			sizeof(time)));
	print_side(name.data ? name.data : "?", "theirs",
		json_object_get(row, "remote"));
	print_side(copy.data ? copy.data : "?", "mine  ",
		json_object_get(row, "local"));
	base_str_fini(&name);
	base_str_fini(&copy);
	return 0;
}

static int list_conflicts(const struct cli_target *target, struct list *list)
{
	struct cli_client client;
	json_t *last;

	if (cli_client_open_target(target, &client) < 0)
		return FS_EXIT_FAILED;
	last = cli_client_ask(&client, "conflicts",
		json_pack("{s:s, s:o}", "cmd", "conflicts", "path",
			fs_path_json(target->path)),
		line, list);
	cli_client_close(&client);
	if (last == NULL)
		return FS_EXIT_FAILED;
	json_decref(last);
	if (list->rows != NULL)
		cli_print_json(list->rows);
	else if (list->nr == 0)
		puts("no conflicts");
	else
		puts("To settle one: remove the copy to keep theirs, or move "
		     "it over the name to\nkeep mine.");
	return FS_EXIT_DONE;
}

int cli_conflicts(int argc, char **argv)
{
	static const char *const names[] = { "json", NULL };
	struct cli_target target;
	struct list list = { 0 };
	int status, first;
	bool json;

	first = cli_options(
		argc, argv, "conflicts", usage, names, &json, &status);
	if (first < 0)
		return status;
	if (argc - first > 1)
		return cli_usage("conflicts", "one PATH at most");
	if (cli_target_find(first < argc ? argv[first] : ".", &target) < 0)
		return FS_EXIT_FAILED;
	list.rows = json ? json_array() : NULL;
	status = list_conflicts(&target, &list);
	json_decref(list.rows);
	cli_target_fini(&target);
	return status;
}
