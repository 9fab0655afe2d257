/*
 * `forebay upgrade`, the keeper's side: another worker stands by, of another
 * binary; the one before hands over; a new one that does not come to answer
 * gives its place back.
 *
 *	x	a worker of the new binary is started, and asked whether it
 *		could serve this mount; UP goes on
 *	y	of the next: the one before is told to stop (HANDING), and
 *		killed after HANDING_MS
 *	death	of the one before: the next opens cache and store (K1)
 *	u	of the next: the old binary is forgotten
 */
#include "fs/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* A worker that hands over answers what it has, and no more. */
#define HANDING_MS 2000

void fs_keeper_drop_next(struct keeper *k)
{
	if (k->next_exe >= 0)
		close(k->next_exe);
	k->next_exe = -1;
}

void fs_keeper_refuse(struct keeper *k, const char *text)
{
	char packet[FS_LINK_PACKET_MAX];
	int n = snprintf(packet, sizeof(packet), "n%s", text);

	k->refused = true;
	if (n >= (int)sizeof(packet))
		n = sizeof(packet) - 1;
	fs_keeper_tell(&k->worker, packet, (size_t)n);
}

void fs_keeper_upgrade(struct keeper *k, const char *binary)
{
	int err = 0;

	if (k->state != UP || k->next.pid != 0 || k->opt->io_uring) {
		fs_keeper_refuse(k,
			k->opt->io_uring
				? "with io_uring a mount cannot be handed "
				  "over; unmount it and mount it again"
				: "another upgrade is under way; wait for it");
		return;
	}
	k->refused = false;
	k->next_exe = open(binary, O_RDONLY | O_CLOEXEC);
	if (k->next_exe < 0)
		err = -errno;
	snprintf(
		k->argv[FS_WORKER_HOW], FS_WORKER_HOW_BYTES, FS_WORKER_STANDBY);
	if (err == 0)
		err = fs_spawn(&k->next, k->next_exe, k->argv, k->fuse_fd,
			k->table_fd);
	if (err == 0) {
		fs_keeper_tell_mount(k, &k->next, 'c');
		return;
	}
	fs_keeper_refuse(k, strerrordesc_np(-err));
	fs_keeper_drop_next(k);
}

static void hand_over(struct keeper *k)
{
	if (k->state != UP)
		return;
	k->state = HANDING;
	k->deadline_ms = fs_keeper_now_ms() + HANDING_MS;
	fs_keeper_tell_word(&k->worker, 'h');
}

void fs_keeper_promote(struct keeper *k)
{
	int old = k->exe;

	k->worker = k->next;
	memset(&k->next, 0, sizeof(k->next));
	/* Kept until the new one answers. */
	k->exe = k->next_exe;
	k->next_exe = old;
	k->mount.upgrades++;
	k->state = MOUNTED;
	k->up_ms = 0;
	fs_keeper_tell_word(&k->worker, 'o');
}

void fs_keeper_take_back(struct keeper *k)
{
	int failed = k->exe;

	if (k->next_exe < 0 || k->next.pid != 0)
		return;
	log_error("the new binary cannot serve %s: the one before goes on",
		k->opt->mountpoint);
	k->exe = k->next_exe;
	k->next_exe = failed;
	fs_keeper_drop_next(k);
}

void fs_keeper_hear_next(struct keeper *k, char *text, size_t bytes)
{
	if (text[0] == 'y') {
		hand_over(k);
	} else if (text[0] == 'f') {
		fs_keeper_refuse(k, bytes > 2 ? text + 2 : "no reason");
		kill(k->next.pid, SIGKILL);
	}
}
