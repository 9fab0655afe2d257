/*
 * `forebay mount`, and the command line of `forebay worker`, which is made of
 * it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "blob/store.h"
#include "fs/fs.h"
#include "fs/keeper.h"
#include "fs/mountpoint.h"
#include "fs/options.h"
#include "fs/spawn.h"
#include "fs/worker.h"

#define WHY_BYTES 1024 /* one line for the user */

/* ---- `forebay worker` ---- */

/* Its command line:
 *	worker VERSION HOW STORE MOUNTPOINT OPTIONS FLAGS CREDENTIALS CACHE...
 * after the program's name.  Paths are absolute, what is not given is "". */
enum {
	ARG_WORKER = 1,
	ARG_VERSION,
	ARG_HOW,
	ARG_STORE,
	ARG_MOUNTPOINT,
	ARG_OPTIONS,
	ARG_FLAGS,
	ARG_CREDENTIALS,
	ARG_CACHE,
};
_Static_assert(ARG_HOW == FS_WORKER_HOW, "as keeper.h says");

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

static char **worker_argv(
	const struct fs_mount_args *args, const struct fs_options *opt)
{
	char **argv =
		base_calloc(ARG_CACHE + opt->cache_dirs_nr + 1, sizeof(*argv));
	char flags[] = { args->foreground ? 'f' : '-', args->sloppy ? 's' : '-',
		'\0' };

	argv[0] = base_strdup("forebay");
	argv[ARG_WORKER] = base_strdup("worker");
	argv[ARG_VERSION] = base_strdup(NUMBER(FS_LINK_VERSION));
	argv[ARG_HOW] = base_calloc(1, FS_WORKER_HOW_BYTES);
	snprintf(argv[ARG_HOW], FS_WORKER_HOW_BYTES, FS_WORKER_FIRST);
	argv[ARG_STORE] = base_strdup(opt->store);
	argv[ARG_MOUNTPOINT] = base_strdup(opt->mountpoint);
	argv[ARG_OPTIONS] = base_strdup(args->options ? args->options : "");
	argv[ARG_FLAGS] = base_strdup(flags);
	argv[ARG_CREDENTIALS] =
		base_strdup(opt->credentials ? opt->credentials : "");
	for (size_t i = 0; i < opt->cache_dirs_nr; i++)
		argv[ARG_CACHE + i] = base_strdup(opt->cache_dirs[i]);
	return argv;
}

static void free_argv(char **argv)
{
	for (size_t i = 0; argv[i] != NULL; i++)
		free(argv[i]);
	free(argv);
}

static int read_argv(int argc, char **argv, struct fs_options *ret, char *why)
{
	struct fs_mount_args args = { .store = argv[ARG_STORE],
		.mountpoint = argv[ARG_MOUNTPOINT],
		.options = argv[ARG_OPTIONS],
		.foreground = strchr(argv[ARG_FLAGS], 'f') != NULL,
		.sloppy = strchr(argv[ARG_FLAGS], 's') != NULL };
	int err = fs_options_parse(&args, ret, why, WHY_BYTES);

	if (err < 0)
		return err;
	/* As they were found when it was mounted. */
	fs_options_set_paths(ret, argv[ARG_CREDENTIALS], argv + ARG_CACHE,
		(size_t)(argc - ARG_CACHE));
	return 0;
}

int fs_worker_run(int argc, char **argv)
{
	struct fs_link link = { .sock = FS_LINK_SOCK_FD,
		.fuse_fd = FS_LINK_FUSE_FD,
		.table_fd = FS_LINK_TABLE_FD };
	char why[WHY_BYTES] = "";
	struct fs_options opt;
	int status;

	if (argc <= ARG_CACHE) {
		fputs("forebay: worker: started by forebay mount alone\n",
			stderr);
		return FS_EXIT_USAGE;
	}
	if (strcmp(argv[ARG_VERSION], NUMBER(FS_LINK_VERSION)) != 0) {
		fs_link_fail(&link, FS_EXIT_FAILED,
			"this version of forebay cannot take over that mount: "
			"unmount and mount again");
		return FS_EXIT_FAILED;
	}
	if (read_argv(argc, argv, &opt, why) < 0) {
		fs_link_fail(&link, FS_EXIT_USAGE, why);
		return FS_EXIT_USAGE;
	}
	base_log_init(opt.foreground ? BASE_LOG_STDERR : BASE_LOG_SYSLOG,
		(enum base_log_level)opt.log_level);
	fs_worker_surroundings();
	status = fs_worker_main(&opt, &link, argv[ARG_HOW]);
	fs_options_fini(&opt);
	return status;
}

/* ---- the command ---- */

static int fail(const char *why, int err)
{
	fprintf(stderr, "forebay: %s\n", why);
	return err == -EINVAL ? FS_EXIT_USAGE : FS_EXIT_FAILED;
}

/* Everything that can be said without opening anything. */
static int check(
	const struct fs_mount_args *args, struct fs_options *opt, char *why)
{
	char store[4096];
	int err = fs_options_parse(args, opt, why, WHY_BYTES);

	if (err < 0)
		return err;
	err = blob_store_canonical(
		opt->store, store, sizeof(store), why, WHY_BYTES);
	if (err == 0) {
		free(opt->store);
		opt->store = base_strdup(store);
		err = fs_options_resolve(opt, why, WHY_BYTES);
	}
	if (err == 0)
		err = fs_mountpoint_check(opt, why, WHY_BYTES);
	if (err == 0 && geteuid() != 0) {
		snprintf(why, WHY_BYTES,
			"mount: only root can mount; use sudo, or a line in "
			"/etc/fstab");
		err = -EPERM;
	}
	if (err < 0)
		fs_options_fini(opt);
	return err;
}

int fs_mount_run(const struct fs_mount_args *args)
{
	struct fs_options opt;
	char why[WHY_BYTES] = "";
	int status = FS_EXIT_DONE, err = check(args, &opt, why);
	char **argv;

	if (err < 0)
		return fail(why, err);
	if (!args->fake) {
		argv = worker_argv(args, &opt);
		status = fs_keeper_run(&opt, argv);
		free_argv(argv);
	}
	fs_options_fini(&opt);
	return status;
}
