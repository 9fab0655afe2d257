/* forebay conflicts: both sides of every lost race. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char usage[] =
	"usage: forebay conflicts [PATH] [--json]\n"
	"       forebay conflicts --keep mine|theirs|both PATH\n"
	"\n"
	"Lists files that somebody else changed in the store while this host "
	"had changes of\nits own: what the store holds keeps the name, what "
	"was written here stands beside\nit.  --keep settles one, by its name "
	"or its copy's: mine moves the copy over the\nname, theirs removes the "
	"copy, both leaves two ordinary files.\n";

static const char *when(double seconds, char *buf, size_t bytes)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds <= 0 || localtime_r(&t, &tm) == NULL ||
		strftime(buf, bytes, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		return "unknown";
	return buf;
}

/* A host by its name, or the beginning of its id. */
static void print_side(const char *name, const char *what, const json_t *side,
	const char *by, int host_chars)
{
	const char *host = json_string_value(json_object_get(side, "host"));
	char size[CLI_SIZE_CHARS], time[64];

	printf("  %s  %s  %10s  %s%.*s  %s\n", what,
		when(json_number_value(json_object_get(side, "mtime")), time,
			sizeof(time)),
		cli_size(cli_number(side, "size"), size),
		host != NULL ? by : "another tool",
		host != NULL ? host_chars : 0, host != NULL ? host : "", name);
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
		json_object_get(row, "remote"), "forebay host ", 8);
	print_side(copy.data ? copy.data : "?", "mine  ",
		json_object_get(row, "local"), "", 64);
	if (json_is_true(json_object_get(row, "here_only")))
		puts("          only on this host: the store is not given it");
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
		puts("To settle one: forebay conflicts --keep "
		     "mine|theirs|both PATH");
	return FS_EXIT_DONE;
}

static int settle(const struct cli_target *target, const char *keep, bool json)
{
	struct cli_client client;
	json_t *last;

	if (cli_client_open_target(target, &client) < 0)
		return FS_EXIT_FAILED;
	last = cli_client_ask(&client, "conflicts",
		json_pack("{s:s, s:s, s:o}", "cmd", "settle", "keep", keep,
			"path", fs_path_json(target->path)),
		NULL, NULL);
	cli_client_close(&client);
	if (last == NULL)
		return FS_EXIT_FAILED;
	if (json)
		cli_print_json(last);
	json_decref(last);
	return FS_EXIT_DONE;
}

static bool is_keep(const char *word)
{
	return strcmp(word, "mine") == 0 || strcmp(word, "theirs") == 0 ||
		strcmp(word, "both") == 0;
}

/* Takes --keep WORD out of the arguments; false: wrong usage was said. */
static bool take_keep(int *argc, char **argv, const char **ret, int *ret_status)
{
	for (int i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
		int took = 1;

		if (strncmp(argv[i], "--keep=", 7) == 0)
			*ret = argv[i] + 7;
		else if (strcmp(argv[i], "--keep") != 0)
			continue;
		else if (i + 1 < *argc)
			*ret = argv[i + took++];
		else
			*ret = "";
		if (!is_keep(*ret)) {
			*ret_status = cli_usage(
				"conflicts", "--keep mine, theirs or both");
			return false;
		}
		memmove(argv + i, argv + i + took,
			(size_t)(*argc - i - took + 1) * sizeof(*argv));
		*argc -= took;
		i--;
	}
	return true;
}

int cli_conflicts(int argc, char **argv)
{
	static const char *const names[] = { "json", NULL };
	struct cli_target target;
	struct list list = { 0 };
	const char *keep = NULL;
	int status, first;
	bool json;

	if (!take_keep(&argc, argv, &keep, &status))
		return status;
	first = cli_options(
		argc, argv, "conflicts", usage, names, &json, &status);
	if (first < 0)
		return status;
	if (argc - first > 1)
		return cli_usage("conflicts", "one PATH at most");
	if (keep != NULL && first == argc)
		return cli_usage("conflicts", "--keep needs a PATH");
	if (cli_target_find(first < argc ? argv[first] : ".", &target) < 0)
		return FS_EXIT_FAILED;
	if (keep != NULL) {
		status = settle(&target, keep, json);
	} else {
		list.rows = json ? json_array() : NULL;
		status = list_conflicts(&target, &list);
		json_decref(list.rows);
	}
	cli_target_fini(&target);
	return status;
}
