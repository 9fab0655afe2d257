/* forebay upgrade: hands a mount to the version that runs this command. */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new worker answers within a second; a cold disk may need longer. */
#define ANSWER_MS 60000
#define ASK_AGAIN_MS 50

static const char usage[] =
	"usage: forebay upgrade MOUNTPOINT\n"
	"\n"
	"Hands the mount to this version of forebay without unmounting it: open "
	"files,\nmappings and what is owed to the store stay as they are.\n";

/* Asks for status; the worker's pid, 0: nobody answers (yet). */
static pid_t ask_pid(const char *device)
{
	struct cli_client client;
	json_t *j = NULL;
	pid_t pid = 0;

	if (cli_client_open(device, &client) < 0)
		return 0;
	if (cli_client_send(&client, json_pack("{s:s}", "cmd", "status")) == 0)
		j = cli_client_read(&client);
	if (j != NULL)
		pid = (pid_t)cli_number(j, "worker_pid");
	json_decref(j);
	cli_client_close(&client);
	return pid;
}

static bool runs_this(pid_t pid)
{
	char path[64];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return stat("/proc/self/exe", &ours) == 0 && stat(path, &theirs) == 0 &&
		ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* The answer is that the connection ends, and then that another pid answers. */
static int wait_for(const struct cli_target *target, pid_t before)
{
	pid_t pid = before;

	for (int ms = 0; ms < ANSWER_MS; ms += ASK_AGAIN_MS) {
		pid = ask_pid(target->device);
		if (pid != 0 && pid != before)
			break;
		poll(NULL, 0, ASK_AGAIN_MS);
	}
	if (pid == 0 || pid == before)
		return cli_fail("upgrade: %s: nobody answers yet; see the log",
			target->point);
	if (!runs_this(pid))
		return cli_fail("upgrade: %s: this version cannot serve it, "
				"and the one before goes on; see the log",
			target->point);
	printf("%s is served by forebay " FOREBAY_VERSION "\n", target->point);
	return FS_EXIT_DONE;
}

static int upgrade(const struct cli_target *target, const char *binary)
{
	pid_t before = ask_pid(target->device);
	struct cli_client client;
	json_t *j = NULL;
	int status;

	if (before == 0)
		return cli_fail("upgrade: %s: its daemon does not answer; see "
				"the log",
			target->point);
	status = cli_client_open_target(target, &client);
	if (status != FS_EXIT_DONE)
		return status;
	if (cli_client_send(&client,
		    json_pack("{s:s, s:s}", "cmd", "upgrade", "binary",
			    binary)) == 0)
		j = cli_client_read(&client);
	cli_client_close(&client);
	if (j == NULL)
		return wait_for(target, before);
	status = cli_fail("upgrade: %s: %s", target->point,
		json_string_value(json_object_get(j, "error")));
	json_decref(j);
	return status;
}

int cli_upgrade(int argc, char **argv)
{
	static const char *const names[] = { NULL };
	struct cli_target target;
	char *binary;
	int status, first;

	first = cli_options(argc, argv, "upgrade", usage, names, NULL, &status);
	if (first < 0)
		return status;
	if (argc - first != 1)
		return cli_usage("upgrade", "one MOUNTPOINT is needed");
	binary = realpath("/proc/self/exe", NULL);
	if (binary == NULL)
		return cli_fail("upgrade: the running binary was replaced; "
				"try again");
	status = cli_target_find(argv[first], &target);
	if (status == FS_EXIT_DONE) {
		status = upgrade(&target, binary);
		cli_target_fini(&target);
	}
	free(binary);
	return status;
}
