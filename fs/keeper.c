/*
 * The keeper: see keeper.h.
 *
 *	STARTING   the worker opens cache and store; nothing is mounted
 *	MOUNTED	   mounted; no worker answers yet (requests wait)
 *	UP	   the worker answers
 *	HANDING	   the worker finishes what it has; `next` waits for its end
 *	ENDING	   was asked to stop, or was unmounted; has ENDING_MS left
 *
 *	STARTING -r-> MOUNTED -u-> UP -y of next-> HANDING
 *	MOUNTED, UP, HANDING -the worker's death-> MOUNTED, with another
 *	any -signal, the parent is gone, worker says e-> ENDING
 *	STARTING, ENDING -the worker's exit-> unmounted, exit
 *
 * After its start it allocates nothing, but for taking the mount away, and
 * waits for nobody: what the workers send is cut to its own buffers, what they
 * do not read is not sent.
 *
 * A worker that is replaced:
 *	K1  The next one opens nothing before the one before was waited for: no
 *	    two have the cache, and no request is answered twice.
 *	K2  DEATHS_MAX that did not live for LIVED_MS in a row, and it gives up.
 *	K3  Without FUSE_NOTIFY_RESEND (before Linux 6.9), or with io_uring, what
 *	    a dead worker had taken would never be answered: the mount ends, so
 *	    that callers get an error instead of waiting for ever.
 *
 * To the parent, over a pipe: lines that begin with one letter:
 *	w TEXT, f STATUS TEXT, u
 */
#include "fs/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fs.h"
#include "fs/control.h"
#include "fs/mountpoint.h"
#include "fs/table.h"

/* A stop is over within 5 s; the rest is for the process to go. */
#define ENDING_MS 4500
#define LIVED_MS 1000
#define DEATHS_MAX 5
/* INIT comes with mount(2). */
#define INIT_MS 5000
/* Packets taken in a row: a worker that floods holds up nothing else. */
#define PACKETS_MAX 64

/* Of linux/fuse.h since 6.9, in the second half of the flags. */
#define HAS_RESEND2 (1u << 7)

int64_t fs_keeper_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool is_mounted(const struct keeper *k)
{
	return k->mount.device[0] != '\0';
}

/* ---- reports ---- */

/* To the parent, or to our own stderr in the foreground. */
static void report(struct keeper *k, char kind, int status, const char *text)
{
	char line[FS_LINK_PACKET_MAX + 8];
	int n;

	if (k->opt->foreground && kind != 'u')
		fprintf(stderr, "forebay: %s\n", text);
	if (k->report_fd >= 0) {
		n = kind == 'f'
			? snprintf(line, sizeof(line), "f%d%s\n", status, text)
			: snprintf(line, sizeof(line), "%c%s\n", kind, text);
		if (write(k->report_fd, line, (size_t)n) < 0)
			log_debug("nobody waits for the mount any more");
	}
	if (kind == 'f') {
		k->failed = true;
		k->exit_status = status;
	}
}

static void close_report(struct keeper *k)
{
	if (k->report_fd >= 0)
		close(k->report_fd);
	k->report_fd = -1;
}

/* ---- words to a worker ---- */

void fs_keeper_tell(
	const struct fs_proc *proc, const void *packet, size_t bytes)
{
	if (proc->pid != 0 &&
		send(proc->sock, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) <
			0)
		log_debug("the worker does not listen");
}

void fs_keeper_tell_word(const struct fs_proc *proc, char word)
{
	fs_keeper_tell(proc, &word, 1);
}

void fs_keeper_tell_mount(
	struct keeper *k, const struct fs_proc *proc, char word)
{
	char packet[1 + sizeof(k->mount)];

	packet[0] = word;
	memcpy(packet + 1, &k->mount, sizeof(k->mount));
	fs_keeper_tell(proc, packet, sizeof(packet));
}

/* ---- beginning to end ---- */

static void begin_end(struct keeper *k, bool ask)
{
	if (is_mounted(k))
		fs_mountpoint_detach(k->opt->mountpoint, k->mount.device);
	if (ask) {
		fs_keeper_tell_word(&k->worker, 's');
		fs_keeper_tell_word(&k->next, 's');
	}
	if (k->state != ENDING)
		k->deadline_ms = fs_keeper_now_ms() + ENDING_MS;
	k->state = ENDING;
	k->asked = k->asked || ask;
}

static void kill_workers(struct keeper *k)
{
	if (k->worker.pid != 0)
		kill(k->worker.pid, SIGKILL);
	if (k->next.pid != 0)
		kill(k->next.pid, SIGKILL);
}

/* ---- mounting ---- */

/* The kernel's first message is for all workers of this mount. */
static int read_init(struct keeper *k, char *why, size_t why_bytes)
{
	struct pollfd pfd = { .fd = k->fuse_fd, .events = POLLIN };
	const struct fuse_in_header *head = (const void *)k->init;
	const struct fuse_init_in *init = (const void *)(head + 1);
	ssize_t n = -1;

	if (poll(&pfd, 1, INIT_MS) == 1)
		n = read(k->fuse_fd, k->init, sizeof(k->init));
	if (n < (ssize_t)(sizeof(*head) + 4 * sizeof(uint32_t)) ||
		n > FS_LINK_INIT_MAX || head->opcode != FUSE_INIT) {
		snprintf(why, why_bytes,
			"mount: the kernel's FUSE does not begin; see dmesg");
		return -EPROTO;
	}
	memcpy(k->mount.init, k->init, (size_t)n);
	k->mount.init_bytes = (uint32_t)n;
	k->can_resend = (init->flags & FUSE_INIT_EXT) != 0 &&
		n >= (ssize_t)(sizeof(*head) + 5 * sizeof(uint32_t)) &&
		(init->flags2 & HAS_RESEND2) != 0;
	return 0;
}

static void do_mount(struct keeper *k)
{
	char *device = NULL;
	char why[1024];
	int err = fs_mountpoint_mount(
		k->opt, k->fuse_fd, &device, why, sizeof(why));

	if (err == 0) {
		snprintf(
			k->mount.device, sizeof(k->mount.device), "%s", device);
		free(device);
		err = read_init(k, why, sizeof(why));
	}
	if (err < 0) {
		report(k, 'f', FS_EXIT_FAILED, why);
		begin_end(k, true);
		return;
	}
	k->state = MOUNTED;
}

/* ---- a worker that died ---- */

static void start_worker(struct keeper *k)
{
	int err;

	snprintf(k->argv[FS_WORKER_HOW], FS_WORKER_HOW_BYTES, FS_WORKER_AGAIN);
	err = fs_spawn(&k->worker, k->exe, k->argv, k->fuse_fd, k->table_fd);
	k->mount.restarts++;
	k->state = MOUNTED;
	if (err == 0)
		return;
	log_error("cannot start a worker: %s: %s is unmounted",
		strerrordesc_np(-err), k->opt->mountpoint);
	k->failed = true;
	k->exit_status = FS_EXIT_FAILED;
}

static bool is_connected(const struct keeper *k)
{
	struct pollfd pfd = { .fd = k->fuse_fd };

	return poll(&pfd, 1, 0) == 0 || (pfd.revents & POLLERR) == 0;
}

/* Why there will be no other one; NULL: there will. */
static const char *why_not_again(struct keeper *k)
{
	if (k->was_up && fs_keeper_now_ms() - k->up_ms >= LIVED_MS &&
		k->up_ms != 0)
		k->deaths = 0;
	k->up_ms = 0;
	if (!k->can_resend)
		return "this kernel cannot send again what it was answering "
		       "(Linux 6.9)";
	if (k->opt->io_uring)
		return "with io_uring what it was answering is lost";
	if (++k->deaths >= DEATHS_MAX)
		return "five died in a row within a second";
	return NULL;
}

static void say_death(struct keeper *k, int status, const char *why)
{
	const char *mp = k->opt->mountpoint;
	const char *how = WIFSIGNALED(status) ? "signal" : "status";
	int number =
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);

	if (why == NULL)
		log_error("the worker of %s ended with %s %d: starting another",
			mp, how, number);
	else
		log_error("the worker of %s ended with %s %d, and %s: it is "
			  "unmounted; mount it again: what was written is in "
			  "the cache",
			mp, how, number, why);
}

/* True: this is the end of the mount. */
static bool worker_gone(struct keeper *k, int status)
{
	const char *why;

	if (k->failed || k->killed || (k->state == ENDING && status == 0))
		return true;
	if (!k->was_up) {
		k->exit_status = FS_EXIT_FAILED;
		if (!k->asked && !(WIFEXITED(status) && status == 0))
			report(k, 'f', FS_EXIT_FAILED,
				"mount: the worker died while starting; see "
				"the log");
		return true;
	}
	if (k->state == ENDING || !is_connected(k)) {
		log_error("the worker of %s did not end well; what was written "
			  "is in the cache",
			k->opt->mountpoint);
		k->exit_status = FS_EXIT_FAILED;
		return true;
	}
	if (k->state == HANDING && k->next.pid != 0) {
		fs_keeper_promote(k);
		return false;
	}
	if (k->next.pid != 0)
		kill(k->next.pid, SIGKILL);
	fs_keeper_take_back(k);
	why = why_not_again(k);
	say_death(k, status, why);
	if (why != NULL) {
		k->exit_status = FS_EXIT_FAILED;
		return true;
	}
	start_worker(k);
	return k->failed;
}

/* ---- the workers' words ---- */

static void worker_up(struct keeper *k)
{
	if (k->state != MOUNTED)
		return;
	k->state = UP;
	k->up_ms = fs_keeper_now_ms();
	/* The binary before, if this was an upgrade. */
	fs_keeper_drop_next(k);
	if (k->was_up)
		return;
	k->was_up = true;
	report(k, 'u', 0, "");
	close_report(k);
}

static void keep_reply(struct keeper *k, const char *reply, size_t bytes)
{
	if (k->mount.reply_bytes != 0 || bytes > FS_LINK_INIT_MAX)
		return;
	memcpy(k->mount.reply, reply, bytes);
	k->mount.reply_bytes = (uint32_t)bytes;
}

static void handle_packet(struct keeper *k, char *text, size_t bytes)
{
	switch (text[0]) {
	case 'w':
		report(k, 'w', 0, text + 1);
		break;
	case 'f':
		if (k->was_up)
			log_error("%s", bytes > 2 ? text + 2 : "no reason");
		else if (bytes > 2)
			report(k, 'f', text[1] - '0', text + 2);
		break;
	case 'r':
		if (k->state == STARTING)
			do_mount(k);
		if (k->state == MOUNTED)
			fs_keeper_tell_mount(k, &k->worker, 'g');
		break;
	case 'a':
		keep_reply(k, text + 1, bytes - 1);
		break;
	case 'u':
		worker_up(k);
		break;
	case 'e':
		begin_end(k, false);
		break;
	case 'x':
		fs_keeper_upgrade(k, text + 1);
		break;
	default:
		break;
	}
}

static void read_packets(struct keeper *k, const struct fs_proc *proc)
{
	for (int i = 0; i < PACKETS_MAX && proc->pid != 0; i++) {
		ssize_t n = recv(proc->sock, k->packet, FS_LINK_PACKET_MAX,
			MSG_DONTWAIT);

		if (n <= 0)
			return;
		k->packet[n] = '\0';
		if (proc == &k->worker)
			handle_packet(k, k->packet, (size_t)n);
		else
			fs_keeper_hear_next(k, k->packet, (size_t)n);
	}
}

/* ---- signals ---- */

/* True when this is the end. */
static bool reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->next.pid) {
			read_packets(k, &k->next);
			fs_proc_fini(&k->next);
			fs_keeper_drop_next(k);
			if (!k->refused)
				fs_keeper_refuse(
					k, "the new binary ended at once");
			if (k->state == HANDING)
				kill(k->worker.pid, SIGKILL);
		}
		if (pid != k->worker.pid)
			continue;
		/* Its last words may still lie there. */
		read_packets(k, &k->worker);
		fs_proc_fini(&k->worker);
		if (worker_gone(k, status))
			return true;
	}
	return false;
}

static bool read_signals(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->sigfd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP && k->was_up &&
			!k->opt->foreground)
			continue;
		if (info.ssi_signo != SIGCHLD)
			begin_end(k, true);
	}
	return reap(k);
}

static void keep(struct keeper *k)
{
	for (;;) {
		struct pollfd pfds[] = {
			{ .fd = k->sigfd, .events = POLLIN },
			{ .fd = k->worker.pid ? k->worker.sock : -1,
				.events = POLLIN },
			{ .fd = k->report_fd, .events = 0 },
			{ .fd = k->next.pid ? k->next.sock : -1,
				.events = POLLIN },
		};
		bool timed = (k->state == ENDING && !k->killed) ||
			k->state == HANDING;
		int64_t left = timed ? k->deadline_ms - fs_keeper_now_ms() : -1;

		/* Its end is told by SIGCHLD. */
		if (k->killed)
			pfds[1].fd = -1;
		if (poll(pfds, 4, timed && left < 0 ? 0 : (int)left) < 0 &&
			errno != EINTR)
			return;
		if (pfds[3].revents & POLLIN)
			read_packets(k, &k->next);
		else if (pfds[3].revents != 0 && reap(k))
			return;
		if (pfds[1].revents & POLLIN)
			read_packets(k, &k->worker);
		else if (pfds[1].revents != 0 && reap(k))
			return;
		if (pfds[0].revents != 0 && read_signals(k))
			return;
		if (k->report_fd >= 0 && pfds[2].revents != 0) {
			close_report(k);
			begin_end(k, true);
		}
		if (k->state == HANDING && fs_keeper_now_ms() >= k->deadline_ms)
			kill(k->worker.pid, SIGKILL);
		if (k->state == ENDING && !k->killed &&
			fs_keeper_now_ms() >= k->deadline_ms) {
			log_error("the worker does not end: killed; what was "
				  "written is in the cache");
			k->killed = true;
			k->exit_status = FS_EXIT_FAILED;
			kill_workers(k);
		}
	}
}

/* ---- start ---- */

static int begin(struct keeper *k, char *why, size_t why_bytes)
{
	sigset_t signals;
	int err;

	fs_keeper_surroundings(k->opt->foreground, &signals);
	k->fuse_fd = err = fs_mountpoint_device(why, why_bytes);
	if (err < 0)
		return err;
	k->sigfd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	k->exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (k->sigfd < 0 || k->exe < 0)
		err = -errno;
	if (err >= 0)
		k->table_fd = err = fs_table_create();
	if (k->report_fd >= 0)
		fcntl(k->report_fd, F_SETFL, O_NONBLOCK);
	if (err >= 0) {
		fs_keeper_protect();
		err = fs_spawn(
			&k->worker, k->exe, k->argv, k->fuse_fd, k->table_fd);
	}
	if (err < 0)
		snprintf(why, why_bytes, "mount: %s; try again",
			strerrordesc_np(-err));
	return err < 0 ? err : 0;
}

int fs_keeper_main(const struct fs_options *opt, char **argv, int report_fd)
{
	static struct keeper k;
	char why[1024];

	k.opt = opt;
	k.argv = argv;
	k.report_fd = report_fd;
	k.next_exe = -1;
	base_log_init(opt->foreground ? BASE_LOG_STDERR : BASE_LOG_SYSLOG,
		(enum base_log_level)opt->log_level);
	if (begin(&k, why, sizeof(why)) < 0) {
		report(&k, 'f', FS_EXIT_FAILED, why);
		return k.exit_status;
	}
	keep(&k);
	if (is_mounted(&k)) {
		fs_mountpoint_detach(opt->mountpoint, k.mount.device);
		fs_control_remove_dead(k.mount.device);
	}
	close_report(&k);
	return k.exit_status;
}
