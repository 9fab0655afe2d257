/*
 * The parent: starts a keeper and tells the caller how the mount went (see
 * keeper.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/fs.h"
#include "fs/keeper.h"

static void print_line(const char *text)
{
	fprintf(stderr, "forebay: %s\n", text);
}

/* Does the mount answer? */
static int confirm(const struct fs_options *opt)
{
	struct stat st;

	if (stat(opt->mountpoint, &st) == 0)
		return FS_EXIT_DONE;
	fprintf(stderr,
		"forebay: mount point %s: mounted, but answers: %s; "
		"see the log\n",
		opt->mountpoint, strerrordesc_np(errno));
	return FS_EXIT_FAILED;
}

/* Reads the keeper's report; -1: it ended without a word. */
static int read_report(int fd, const struct fs_options *opt)
{
	FILE *f = fdopen(fd, "r");
	int status = -1;
	char *line = NULL;
	size_t cap = 0;

	if (f == NULL)
		return -1;
	while (status != FS_EXIT_DONE && getline(&line, &cap, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == 'u') {
			status = confirm(opt);
			break;
		}
		if (line[0] == 'f' && line[1] != '\0') {
			print_line(line + 2);
			status = line[1] - '0';
		} else if (line[0] == 'w') {
			print_line(line + 1);
		}
	}
	free(line);
	fclose(f);
	return status;
}

static volatile sig_atomic_t keeper_pid;

/* Ctrl-C: the keeper takes down what it has begun, and says so. */
static void pass_on(int number)
{
	(void)number;
	kill(keeper_pid, SIGTERM);
}

static int wait_for_keeper(int fd, pid_t pid, const struct fs_options *opt)
{
	struct sigaction action = { .sa_handler = pass_on,
		.sa_flags = SA_RESTART };
	int status;

	keeper_pid = pid;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	status = read_report(fd, opt);
	if (status == FS_EXIT_DONE)
		return status;
	/* Not before everything is taken down. */
	kill(pid, SIGTERM);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	if (status < 0)
		print_line("mount: interrupted before it was done; nothing is "
			   "mounted");
	return status < 0 ? FS_EXIT_FAILED : status;
}

int fs_keeper_run(const struct fs_options *opt, char **argv)
{
	int fds[2];
	pid_t pid;

	if (opt->foreground)
		return fs_keeper_main(opt, argv, -1);
	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fprintf(stderr, "forebay: mount: %s; try again\n",
			strerrordesc_np(errno));
		return FS_EXIT_FAILED;
	}
	if (pid == 0) {
		close(fds[0]);
		exit(fs_keeper_main(opt, argv, fds[1]));
	}
	close(fds[1]);
	return wait_for_keeper(fds[0], pid, opt);
}
