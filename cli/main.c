/* forebay: which command is it? */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	cli_command_fn run;
	const char *does;
} commands[] = {
	{ "mount", cli_mount, "mount a store" },
	{ "umount", cli_umount, "end a mount" },
	{ "status", cli_status, "what mounts are doing" },
	{ "prefetch", cli_prefetch, "make files and trees local" },
	{ "flush", cli_flush, "wait until the store holds everything" },
	{ "pin", cli_pin, "keep local" },
	{ "unpin", cli_unpin, "let go again" },
	{ "evict", cli_evict, "drop clean local bytes now" },
	{ "locate", cli_locate, "the data file behind a file" },
	{ "conflicts", cli_conflicts, "both sides of every lost race" },
	{ "upgrade", cli_upgrade, "hand a mount to this version" },
	{ "fsck", cli_fsck, "check and repair a cache" },
	{ "doctor", cli_doctor, "what this host and a store offer or lack" },
};
#define COMMANDS_NR (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
	fputs("usage: forebay COMMAND [ARGUMENTS]\n\n", out);
	for (size_t i = 0; i < COMMANDS_NR; i++)
		fprintf(out, "  %-10s  %s\n", commands[i].name,
			commands[i].does);
	fputs("\nforebay COMMAND --help says more, and so does forebay(1).\n",
		out);
}

int main(int argc, char **argv)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	const char *name = strrchr(argv[0] ? argv[0] : "forebay", '/');

	name = name != NULL ? name + 1 : argv[0];
	sigaction(SIGPIPE, &ignore, NULL);
	if (name != NULL && strcmp(name, "mount.forebay") == 0)
		return cli_mount_helper(argc, argv);
	if (argc < 2) {
		print_help(stderr);
		return FS_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
		strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return FS_EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("forebay " FOREBAY_VERSION);
		return FS_EXIT_DONE;
	}
	if (strcmp(argv[1], "worker") == 0)
		return fs_worker_run(argc, argv);
	for (size_t i = 0; i < COMMANDS_NR; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return cli_usage("", "unknown command '%s'", argv[1]);
}
