/* forebay mount, and mount.forebay for mount(8). */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: forebay mount STORE MOUNTPOINT [-o OPTIONS] [-f]\n"
	"\n"
	"Mounts a store and returns when the mount answers.\n"
	"  STORE         https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX]\n"
	"                or dir:/PATH\n"
	"  -o OPTIONS    comma separated; the most useful:\n"
	"                cache=DIR[:DIR...]  where on NVMe\n"
	"                cache_size=80%      how much of it\n"
	"                credentials=FILE    else from the environment, else\n"
	"                                    the managed identity\n"
	"                freshness=60        seconds, or forever\n"
	"                ro                  writes nothing to the store\n"
	"                all of them: mount.forebay(8)\n"
	"  -f, --foreground  stay in the foreground, log to stderr\n";

static const char helper_usage[] =
	"usage: mount.forebay STORE MOUNTPOINT [-sfnv] [-N NAMESPACE] "
	"[-t TYPE] [-o OPTIONS]\n"
	"\n"
	"Called by mount(8); see mount.forebay(8).\n";

struct reader {
	struct fs_mount_args args;
	struct base_str options;
};

static void add_options(struct reader *r, const char *text)
{
	if (r->options.len > 0)
		base_str_putc(&r->options, ',');
	base_str_puts(&r->options, text);
}

static int mount_now(
	struct reader *r, const char *command, int argc, char **argv)
{
	int status;

	if (argc - optind == 2) {
		r->args.store = argv[optind];
		r->args.mountpoint = argv[optind + 1];
		r->args.options = r->options.data;
		status = fs_mount_run(&r->args);
	} else {
		status = cli_usage(command,
			argc - optind < 2 ? "STORE and MOUNTPOINT are needed"
					  : "too many arguments");
	}
	base_str_fini(&r->options);
	return status;
}

int cli_mount(int argc, char **argv)
{
	static const struct option options[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "options", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct reader r = { 0 };
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":fho:", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			r.args.foreground = true;
			break;
		case 'o':
			add_options(&r, optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			base_str_fini(&r.options);
			return FS_EXIT_DONE;
		default:
			base_str_fini(&r.options);
			return cli_usage("mount",
				c == ':' ? "option %s needs a value"
					 : "unknown option %s",
				argv[optind - 1]);
		}
	}
	return mount_now(&r, "mount", argc, argv);
}

int cli_mount_helper(int argc, char **argv)
{
	struct reader r = { 0 };
	int c;

	opterr = 0;
	while ((c = getopt(argc, argv, ":sfnvhN:t:o:")) != -1) {
		switch (c) {
		case 's':
			r.args.sloppy = true;
			break;
		case 'f':
			r.args.fake = true;
			break;
		case 'o':
			add_options(&r, optarg);
			break;
		case 'n': /* there is no mtab to write */
		case 'v':
		case 't':
			break;
		case 'N':
			base_str_fini(&r.options);
			return cli_fail(
				"mount: option -N: another mount namespace is "
				"not supported; run it with nsenter(1)");
		case 'h':
			fputs(helper_usage, stdout);
			base_str_fini(&r.options);
			return FS_EXIT_DONE;
		default:
			base_str_fini(&r.options);
			return cli_usage("mount",
				c == ':' ? "option %s needs a value"
					 : "unknown option %s",
				argv[optind - 1]);
		}
	}
	return mount_now(&r, "mount", argc, argv);
}
