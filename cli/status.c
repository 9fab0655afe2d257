/* forebay status: what mounts are doing. */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: forebay status [MOUNTPOINT] [--pending] [--json]\n"
	"\n"
	"Shows one mount, or all of them.\n"
	"  --pending  the changes that the store must still be told, in order\n";

struct status {
	bool json, pending;
	bool many;    /* no MOUNTPOINT was given */
	json_t *list; /* with --json and many */
	json_t *rows; /* with --json and --pending */
	uint64_t rows_nr;
};

/* ---- for people ---- */

static void print_number(const char *what, uint64_t nr, const char *note)
{
	if (nr > 0)
		printf("  %-11s %llu%s\n", what, (unsigned long long)nr, note);
}

static void print_cache(const json_t *j)
{
	char used[CLI_SIZE_CHARS], limit[CLI_SIZE_CHARS];
	char hit[CLI_SIZE_CHARS], miss[CLI_SIZE_CHARS];
	struct base_str path = BASE_STR_INIT;
	const json_t *dir;
	size_t i;

	printf("  %-11s %s of %s in", "cache",
		cli_size(cli_number(j, "cache_bytes"), used),
		cli_size(cli_number(j, "cache_limit_bytes"), limit));
	json_array_foreach(json_object_get(j, "cache_dirs"), i, dir)
	{
		printf("%s %s", i > 0 ? "," : "", cli_path(dir, &path));
	}
	base_str_fini(&path);
	printf("\n  %-11s %s from here, %s from the store%s\n", "served",
		cli_size(cli_number(j, "hit_bytes"), hit),
		cli_size(cli_number(j, "miss_bytes"), miss),
		json_is_true(json_object_get(j, "passthrough"))
			? " (whole files are read without us)"
			: "");
}

static void print_owed(const json_t *j)
{
	const json_t *held = json_object_get(j, "held_by");
	struct base_str path = BASE_STR_INIT;
	char dirty[CLI_SIZE_CHARS], age[CLI_AGE_CHARS];

	if (cli_number(j, "pending") == 0) {
		printf("  %-11s nothing: the store has everything\n", "owed");
	} else {
		printf("  %-11s %llu changes, %s in %llu files, the oldest "
		       "since %s\n",
			"owed", (unsigned long long)cli_number(j, "pending"),
			cli_size(cli_number(j, "dirty_bytes"), dirty),
			(unsigned long long)cli_number(j, "dirty_files"),
			cli_age(json_number_value(
					json_object_get(j, "oldest_dirty_s")),
				age));
	}
	if (held != NULL && !json_is_null(held))
		printf("  %-11s %s\n", "held by", cli_path(held, &path));
	base_str_fini(&path);
	print_number("conflicts", cli_number(j, "conflicts"),
		" (forebay conflicts)");
	print_number("set aside", cli_number(j, "set_aside"),
		" refused by the store (forebay status --pending)");
	print_number("groups", cli_number(j, "groups"), "");
	print_number("prefetch", cli_number(j, "jobs"), " jobs");
	print_number("pins", cli_number(j, "pins"), "");
}

/* What a power cut left in doubt. */
static void print_doubts(const json_t *j)
{
	struct base_str path = BASE_STR_INIT;
	size_t i;
	json_t *doubt;

	print_number("unconfirmed", cli_number(j, "unconfirmed"),
		" not sent: check them, then forebay flush FILE");
	print_number("recovered", cli_number(j, "recovered"),
		" not sent: keep them by a rename, or remove them");
	json_array_foreach(json_object_get(j, "in_doubt"), i, doubt)
	{
		printf("    %s\n",
			cli_path(json_object_get(doubt, "name"), &path));
	}
	base_str_fini(&path);
}

static void print_status(const json_t *j)
{
	const json_t *why = json_object_get(j, "state_why");
	struct base_str path = BASE_STR_INIT;

	printf("%s", cli_path(json_object_get(j, "mountpoint"), &path));
	printf(": %s, ", cli_path(json_object_get(j, "store"), &path));
	printf("%s", cli_path(json_object_get(j, "state"), &path));
	if (why != NULL)
		printf(" (%s)", cli_path(why, &path));
	putchar('\n');
	base_str_fini(&path);
	print_cache(j);
	print_owed(j);
	print_doubts(j);
	printf("  %-11s keeper %llu, worker %llu, %llu restarts\n", "processes",
		(unsigned long long)cli_number(j, "keeper_pid"),
		(unsigned long long)cli_number(j, "worker_pid"),
		(unsigned long long)cli_number(j, "worker_restarts"));
}

/* How far a directory rename is: " (40 of 201)". */
static void print_progress(const json_t *row)
{
	uint64_t total = cli_number(row, "total");

	if (total > 0)
		printf(" (%llu of %llu)",
			(unsigned long long)cli_number(row, "done"),
			(unsigned long long)total);
}

static int pending_line(void *arg, const json_t *json)
{
	struct status *s = arg;
	json_t *row = json_object_get(json, "row");
	const json_t *why = json_object_get(row, "why");
	const json_t *age_s = json_object_get(row, "age_s");
	const json_t *refused_s = json_object_get(row, "refused_s");
	const json_t *to = json_object_get(row, "to");
	struct base_str path = BASE_STR_INIT;
	char age[CLI_AGE_CHARS] = "-", size[CLI_SIZE_CHARS];

	s->rows_nr++;
	if (s->rows != NULL) {
		json_array_append(s->rows, row);
		return 0;
	}
	if (s->rows_nr == 1)
		printf("  %8s %8s %-8s %-10s %10s %7s  %s\n", "EPOCH", "SEQ",
			"STATE", "KIND", "SIZE", "AGE", "NAME: WHY");
	if (json_is_number(age_s))
		cli_age(json_number_value(age_s), age);
	printf("  %8llu %8llu %-8s %-10s %10s %7s  %s",
		(unsigned long long)cli_number(row, "epoch"),
		(unsigned long long)cli_number(row, "seq"),
		json_string_value(json_object_get(row, "state")),
		json_string_value(json_object_get(row, "kind")),
		cli_size(cli_number(row, "size"), size), age,
		cli_path(json_object_get(row, "name"), &path));
	if (to != NULL)
		printf(" -> %s", cli_path(to, &path));
	print_progress(row);
	if (why != NULL && !json_is_null(why))
		printf(": %s", cli_path(why, &path));
	if (json_is_number(refused_s))
		printf(", refused for %s",
			cli_age(json_number_value(refused_s), age));
	putchar('\n');
	base_str_fini(&path);
	return 0;
}

/* The daemon tells the first of each. */
static void print_more(const struct status *s, const json_t *status)
{
	uint64_t nr =
		cli_number(status, "pending") + cli_number(status, "set_aside");

	if (nr > s->rows_nr)
		printf("  and %llu more\n",
			(unsigned long long)(nr - s->rows_nr));
}

/* ---- one mount ---- */

static int ask(struct status *s, struct cli_client *client)
{
	json_t *last,
		*j = cli_client_ask(client, "status",
			json_pack("{s:s}", "cmd", "status"), NULL, NULL);

	if (j == NULL)
		return FS_EXIT_FAILED;
	json_object_del(j, "done");
	if (!s->json)
		print_status(j);
	if (s->pending) {
		s->rows = s->json ? json_array() : NULL;
		s->rows_nr = 0;
		last = cli_client_ask(client, "status",
			json_pack("{s:s}", "cmd", "pending"), pending_line, s);
		if (s->json)
			json_object_set_new(j, "pending_rows", s->rows);
		else
			print_more(s, j);
		s->rows = NULL;
		if (last == NULL) {
			json_decref(j);
			return FS_EXIT_FAILED;
		}
		json_decref(last);
	}
	if (s->list != NULL)
		json_array_append(s->list, j);
	else if (s->json)
		cli_print_json(j);
	json_decref(j);
	return FS_EXIT_DONE;
}

static int show_one(struct status *s, const char *path)
{
	struct cli_target target;
	struct cli_client client;
	int status = FS_EXIT_FAILED;

	/* Asks nothing of a mount that may not answer. */
	if (cli_target_find_text(path, &target) < 0)
		return status;
	if (cli_client_open_target(&target, &client) == 0) {
		status = ask(s, &client);
		cli_client_close(&client);
	}
	cli_target_fini(&target);
	return status;
}

/* ---- all of them ---- */

static int show_all(struct status *s)
{
	DIR *dir = opendir(FS_CONTROL_DIR);
	struct dirent *entry;
	int status = FS_EXIT_DONE, nr = 0;

	s->list = s->json ? json_array() : NULL;
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);
		struct cli_client client;
		char device[64];
		int err;

		if (len < 6 || len >= sizeof(device) ||
			strcmp(entry->d_name + len - 5, ".sock") != 0)
			continue;
		snprintf(device, sizeof(device), "%.*s", (int)len - 5,
			entry->d_name);
		err = cli_client_open(device, &client);
		/* The socket of a daemon that died. */
		if (err == -ECONNREFUSED || err == -ENOENT)
			continue;
		nr++;
		if (err < 0) {
			status = cli_fail("status: " FS_CONTROL_DIR
					  "/%s: %s; use sudo",
				entry->d_name, strerrordesc_np(-err));
			continue;
		}
		if (ask(s, &client) != FS_EXIT_DONE)
			status = FS_EXIT_FAILED;
		cli_client_close(&client);
	}
	if (dir != NULL)
		closedir(dir);
	if (s->list != NULL)
		cli_print_json(s->list);
	else if (nr == 0)
		puts("nothing is mounted");
	json_decref(s->list);
	return status;
}

int cli_status(int argc, char **argv)
{
	static const char *const names[] = { "pending", "json", NULL };
	struct status s = { 0 };
	bool flags[2];
	int status, first;

	first = cli_options(argc, argv, "status", usage, names, flags, &status);
	if (first < 0)
		return status;
	if (argc - first > 1)
		return cli_usage("status", "one MOUNTPOINT at most");
	s.pending = flags[0];
	s.json = flags[1];
	return first < argc ? show_one(&s, argv[first]) : show_all(&s);
}
