/* forebay umount: ends a mount. */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/flush.h"

/* The daemon is gone within 5 s, unless others keep the cache's disk busy: it
 * syncs it. */
#define GONE_MS 60000

static const char usage[] =
	"usage: forebay umount MOUNTPOINT [--drain]\n"
	"\n"
	"Ends the mount.  What is owed to the store stays in the journal for "
	"the next mount.\n"
	"  --drain  first wait until the store has everything\n";

struct mount {
	struct fs_mountinfo info;
	struct cli_client client; /* fd -1: no daemon answers */
	int pidfd;		  /* of the keeper, or -1 */
	uint64_t pending, dirty_bytes;
};

/* The mount point as /proc/self/mountinfo writes it; a dead one answers no
 * question, so only its directory is resolved. */
static char *resolve(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	char *copy, *slash, *real = realpath(path, NULL);

	if (real != NULL || errno == ENOENT)
		return real;
	copy = base_strdup(path);
	while ((slash = strrchr(copy, '/')) != NULL && slash[1] == '\0' &&
		slash != copy)
		*slash = '\0';
	if (slash != NULL)
		*slash = '\0';
	real = realpath(slash == NULL ? "." : slash == copy ? "/" : copy, NULL);
	if (real != NULL) {
		base_str_puts(&s, strcmp(real, "/") == 0 ? "" : real);
		base_str_printf(&s, "/%s", slash != NULL ? slash + 1 : copy);
		free(real);
		real = base_str_take(&s);
	}
	free(copy);
	return real;
}

static int find(const char *path, struct mount *m)
{
	char *point = resolve(path);
	int err = point != NULL ? 0 : -errno;

	memset(m, 0, sizeof(*m));
	m->client.fd = m->pidfd = -1;
	if (err < 0)
		return cli_fail("umount: %s: %s; name a mount point", path,
			strerrordesc_np(-err));
	err = fs_mountinfo_find(point, false, &m->info);
	free(point);
	if (err < 0)
		return cli_fail("umount: %s: nothing is mounted there; forebay "
				"status lists the mounts",
			path);
	if (strcmp(m->info.type, FS_TYPE) == 0)
		return FS_EXIT_DONE;
	err = cli_fail("umount: %s: a mount of type %s, not ours; use umount",
		path, m->info.type);
	fs_mountinfo_fini(&m->info);
	return err;
}

/* Whom to wait for. */
static int ask_status(struct mount *m)
{
	json_t *j = cli_client_ask(&m->client, "umount",
		json_pack("{s:s}", "cmd", "status"), NULL, NULL);

	if (j == NULL)
		return FS_EXIT_FAILED;
	m->pending = cli_number(j, "pending");
	m->dirty_bytes = cli_number(j, "dirty_bytes");
	if (m->pidfd < 0)
		m->pidfd = (int)syscall(
			SYS_pidfd_open, (pid_t)cli_number(j, "keeper_pid"), 0);
	json_decref(j);
	return FS_EXIT_DONE;
}

static int drain(struct mount *m)
{
	struct cli_flush flush;
	json_t *last;

	cli_flush_init(&flush, false);
	last = cli_client_ask(&m->client, "umount",
		json_pack("{s:s, s:[s]}", "cmd", "flush", "paths", ""),
		cli_flush_line, &flush);
	cli_progress_end(&flush.progress);
	if (last == NULL)
		return FS_EXIT_FAILED;
	json_decref(last);
	return FS_EXIT_DONE;
}

static int detach(struct mount *m)
{
	/* Nobody answers there: whoever still waits would wait for ever. */
	int flags = UMOUNT_NOFOLLOW | (m->client.fd < 0 ? MNT_DETACH : 0);

	if (umount2(m->info.point, flags) == 0)
		return FS_EXIT_DONE;
	if (errno == EBUSY)
		return cli_fail("umount: %s: in use; end what uses it (fuser "
				"-vm shows it), or detach it with umount -l",
			m->info.point);
	return cli_fail("umount: %s: %s; %s", m->info.point,
		strerrordesc_np(errno),
		errno == EPERM ? "use sudo" : "see dmesg");
}

static int wait_gone(struct mount *m)
{
	struct pollfd pfd = { .fd = m->pidfd, .events = POLLIN };
	struct fs_mountinfo other;

	if (fs_mountinfo_device(m->info.device, &other) == 0) {
		printf("%s is unmounted; the same mount is still at %s\n",
			m->info.point, other.point);
		fs_mountinfo_fini(&other);
		return FS_EXIT_DONE;
	}
	if (m->pidfd >= 0 && poll(&pfd, 1, GONE_MS) == 0)
		return cli_fail("umount: %s: unmounted, but its daemon has not "
				"ended yet; see the log",
			m->info.point);
	return FS_EXIT_DONE;
}

static int end(struct mount *m, bool want_drain)
{
	char size[CLI_SIZE_CHARS];
	int status = FS_EXIT_DONE, err;

	err = cli_client_open(m->info.device, &m->client);
	if (err < 0 && want_drain)
		return cli_fail("umount: %s: its daemon does not answer: %s; "
				"umount it without --drain",
			m->info.point, strerrordesc_np(-err));
	if (m->client.fd >= 0 && want_drain)
		status = drain(m);
	if (status == FS_EXIT_DONE && m->client.fd >= 0)
		status = ask_status(m);
	if (status == FS_EXIT_DONE)
		status = detach(m);
	if (status == FS_EXIT_DONE)
		status = wait_gone(m);
	if (status == FS_EXIT_DONE && m->pending > 0)
		printf("%llu changes (%s) are still owed to the store; the "
		       "next mount sends them\n",
			(unsigned long long)m->pending,
			cli_size(m->dirty_bytes, size));
	return status;
}

int cli_umount(int argc, char **argv)
{
	static const char *const names[] = { "drain", NULL };
	struct mount m;
	bool want_drain;
	int status, first;

	first = cli_options(
		argc, argv, "umount", usage, names, &want_drain, &status);
	if (first < 0)
		return status;
	if (argc - first != 1)
		return cli_usage("umount", "one MOUNTPOINT is needed");
	status = find(argv[first], &m);
	if (status != FS_EXIT_DONE)
		return status;
	status = end(&m, want_drain);
	cli_client_close(&m.client);
	if (m.pidfd >= 0)
		close(m.pidfd);
	fs_mountinfo_fini(&m.info);
	return status;
}
