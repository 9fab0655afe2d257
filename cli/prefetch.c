/*
 * forebay prefetch: makes files and trees local.
 *
 * Names are sent in batches, one request each; sums of finished batches are
 * added to what the one under way tells.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/progress.h"

/* Names a request: progress of the first is seen before the last was read. */
#define BATCH 1024

static const char usage[] =
	"usage: forebay prefetch PATH... [--from FILE] [--pin] [--meta] "
	"[--background]\n"
	"                        [--check] [--json]\n"
	"\n"
	"Makes files and trees local, in parallel.  Started again, it goes on "
	"where it was.\n"
	"  --from FILE   reads more names, one a line; - is the standard "
	"input\n"
	"  --pin         keeps them local afterwards\n"
	"  --meta        lists only: names and attributes\n"
	"  --background  the mount goes on after this command has ended\n"
	"  --check       says how much of it is local; asks the store "
	"nothing\n";

static const char *const keys[] = { "files_total", "bytes_total", "files_local",
	"bytes_local", "files_done", "bytes_done", "fetched_bytes", "failed",
	"jobs" };
enum {
	FILES_TOTAL,
	BYTES_TOTAL,
	FILES_LOCAL,
	BYTES_LOCAL,
	FILES_DONE,
	BYTES_DONE,
	FETCHED,
	FAILED,
	JOBS,
	KEYS_NR
};

struct prefetch {
	bool pin, meta, background, check, json;
	const char *from;
	struct cli_target batch[BATCH];
	size_t batch_nr;
	size_t names_nr;
	struct cli_progress progress;
	uint64_t sums[KEYS_NR]; /* of finished batches */
	json_t *failures;
};

/* ---- one batch ---- */

static int line(void *arg, const json_t *json)
{
	struct prefetch *p = arg;
	const char *phase = json_string_value(json_object_get(json, "phase"));
	struct cli_progress_state state = {
		.files_done = p->sums[FILES_DONE] +
			cli_number(json, keys[FILES_DONE]),
		.files_total = p->sums[FILES_TOTAL] +
			cli_number(json, keys[FILES_TOTAL]),
		.bytes_done = p->sums[BYTES_DONE] +
			cli_number(json, keys[BYTES_DONE]),
		.bytes_total = p->sums[BYTES_TOTAL] +
			cli_number(json, keys[BYTES_TOTAL]),
		.moved_bytes =
			p->sums[FETCHED] + cli_number(json, keys[FETCHED]),
	};

	if (phase != NULL && strcmp(phase, "list") == 0)
		state.doing = "listing";
	else if (phase != NULL && strcmp(phase, "count") == 0)
		state.doing = "counting";
	cli_progress_show(&p->progress, &state);
	return 0;
}

static void note_last(struct prefetch *p, const json_t *last)
{
	const json_t *failures = json_object_get(last, "failures");
	json_t *failure;
	size_t i;

	for (int k = 0; k < KEYS_NR; k++)
		p->sums[k] += cli_number(last, keys[k]);
	json_array_foreach(failures, i, failure)
	{
		json_array_append(p->failures, failure);
	}
}

static int send_run(struct prefetch *p, struct cli_target *from, size_t nr)
{
	json_t *last, *list = json_array();
	struct cli_client client;

	if (cli_client_open_target(from, &client) < 0) {
		json_decref(list);
		return FS_EXIT_FAILED;
	}
	for (size_t i = 0; i < nr; i++)
		json_array_append_new(list, fs_path_json(from[i].path));
	last = cli_client_ask(&client, "prefetch",
		json_pack("{s:s, s:o, s:b, s:b, s:b, s:b}", "cmd", "prefetch",
			"paths", list, "pin", p->pin, "meta", p->meta,
			"background", p->background, "check", p->check),
		line, p);
	cli_client_close(&client);
	if (last == NULL)
		return FS_EXIT_FAILED;
	note_last(p, last);
	json_decref(last);
	return FS_EXIT_DONE;
}

/* A request for each run of names on the same mount. */
static int send_batch(struct prefetch *p)
{
	int status = FS_EXIT_DONE;
	size_t first = 0;

	for (size_t i = 1; i <= p->batch_nr; i++) {
		if (i < p->batch_nr &&
			strcmp(p->batch[i].device, p->batch[first].device) == 0)
			continue;
		if (status == FS_EXIT_DONE)
			status = send_run(p, &p->batch[first], i - first);
		first = i;
	}
	for (size_t i = 0; i < p->batch_nr; i++)
		cli_target_fini(&p->batch[i]);
	p->batch_nr = 0;
	return status;
}

static int add(struct prefetch *p, const struct cli_target *target)
{
	p->batch[p->batch_nr++] = *target;
	p->names_nr++;
	return p->batch_nr == BATCH ? send_batch(p) : FS_EXIT_DONE;
}

/* ---- names ---- */

static int read_names(struct prefetch *p)
{
	bool standard = strcmp(p->from, "-") == 0;
	FILE *f = standard ? stdin : fopen(p->from, "re");
	int status = FS_EXIT_DONE;
	char *name = NULL;
	size_t cap = 0;
	ssize_t n;

	if (f == NULL)
		return cli_fail("prefetch: %s: %s; name a file with one name a "
				"line",
			p->from, strerrordesc_np(errno));
	while (status == FS_EXIT_DONE && (n = getline(&name, &cap, f)) > 0) {
		struct cli_target target;

		if (name[n - 1] == '\n')
			name[--n] = '\0';
		if (n == 0)
			continue;
		/* Asking for each would cost a round trip each. */
		if (cli_target_find_text(name, &target) < 0)
			status = FS_EXIT_FAILED;
		else
			status = add(p, &target);
	}
	if (status == FS_EXIT_DONE && ferror(f))
		status = cli_fail("prefetch: %s: cannot read it: %s; name "
				  "another file",
			p->from, strerrordesc_np(errno));
	free(name);
	if (!standard)
		fclose(f);
	return status;
}

/* ---- the end ---- */

static void print_json(struct prefetch *p)
{
	json_t *j = json_object();

	for (int k = 0; k < KEYS_NR; k++)
		json_object_set_new(
			j, keys[k], json_integer((json_int_t)p->sums[k]));
	json_object_set(j, "failures", p->failures);
	cli_print_json(j);
	json_decref(j);
}

static void print_sums(struct prefetch *p)
{
	unsigned long long files = p->sums[FILES_TOTAL];
	char size[CLI_SIZE_CHARS], local[CLI_SIZE_CHARS];

	cli_size(p->sums[BYTES_TOTAL], size);
	if (p->background)
		printf("%llu jobs go on in the background\n",
			(unsigned long long)p->sums[JOBS]);
	else if (p->check)
		printf("%llu of %llu files, %s of %s are local\n",
			(unsigned long long)p->sums[FILES_LOCAL], files,
			cli_size(p->sums[BYTES_LOCAL], local), size);
	else if (p->meta)
		printf("%llu files, %s are listed\n", files, size);
	else
		printf("%llu files, %s are local; %s were fetched\n",
			(unsigned long long)p->sums[FILES_DONE],
			cli_size(p->sums[BYTES_DONE], size),
			cli_size(p->sums[FETCHED], local));
}

static int finish(struct prefetch *p, int status)
{
	struct base_str path = BASE_STR_INIT;
	json_t *failure;
	size_t i;

	cli_progress_end(&p->progress);
	if (status != FS_EXIT_DONE)
		return status;
	if (p->json)
		print_json(p);
	else
		print_sums(p);
	if (p->sums[FAILED] == 0)
		return FS_EXIT_DONE;
	json_array_foreach(p->failures, i, failure)
	{
		if (i < 10)
			cli_fail("prefetch: %s: %s",
				cli_path(json_object_get(failure, "path"),
					&path),
				json_string_value(
					json_object_get(failure, "error")));
	}
	base_str_fini(&path);
	return cli_fail("prefetch: %llu files could not be fetched; start it "
			"again to go on",
		(unsigned long long)p->sums[FAILED]);
}

static int run(struct prefetch *p, char **paths, int nr)
{
	int status = FS_EXIT_DONE;

	for (int i = 0; i < nr && status == FS_EXIT_DONE; i++) {
		struct cli_target target;

		status = cli_target_find(paths[i], &target) < 0
			? FS_EXIT_FAILED
			: add(p, &target);
	}
	if (status == FS_EXIT_DONE && p->from != NULL)
		status = read_names(p);
	if (status == FS_EXIT_DONE)
		status = send_batch(p);
	for (size_t i = 0; i < p->batch_nr; i++)
		cli_target_fini(&p->batch[i]);
	return finish(p, status);
}

static int read_options(
	struct prefetch *p, int argc, char **argv, int *ret_status)
{
	static const struct option options[] = {
		{ "from", required_argument, NULL, 'F' },
		{ "pin", no_argument, NULL, 'p' },
		{ "meta", no_argument, NULL, 'm' },
		{ "background", no_argument, NULL, 'b' },
		{ "check", no_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		p->from = c == 'F' ? optarg : p->from;
		p->pin = p->pin || c == 'p';
		p->meta = p->meta || c == 'm';
		p->background = p->background || c == 'b';
		p->check = p->check || c == 'c';
		p->json = p->json || c == 'j';
		if (c == 'h') {
			fputs(usage, stdout);
			*ret_status = FS_EXIT_DONE;
			return -1;
		}
		if (c == '?' || c == ':') {
			*ret_status = cli_usage("prefetch",
				c == ':' ? "option %s needs a value"
					 : "unknown option %s",
				argv[optind - 1]);
			return -1;
		}
	}
	*ret_status = FS_EXIT_USAGE;
	if (p->check && (p->pin || p->meta || p->background))
		return cli_usage("prefetch",
			       "--check only looks: no other option goes with "
			       "it"),
		       -1;
	if (optind == argc && p->from == NULL)
		return cli_usage("prefetch", "PATH or --from is needed"), -1;
	return optind;
}

int cli_prefetch(int argc, char **argv)
{
	struct prefetch *p = base_calloc(1, sizeof(*p));
	int status, first = read_options(p, argc, argv, &status);

	if (first >= 0) {
		cli_progress_init(&p->progress, stdout, p->json);
		p->failures = json_array();
		status = run(p, argv + first, argc - first);
		json_decref(p->failures);
	}
	free(p);
	return status;
}
