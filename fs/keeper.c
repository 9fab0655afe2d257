/*
 * The keeper and its parent: see keeper.h.
 *
 *	STARTING  the worker opens cache and store; nothing is mounted
 *	MOUNTED	  mounted; the worker does not answer yet
 *	UP	  answers
 *	ENDING	  was asked to stop, or was unmounted; has ENDING_MS left
 *
 *	STARTING -r-> MOUNTED -u-> UP
 *	any -signal, the parent is gone, worker says e-> ENDING
 *	any -the worker's exit-> unmounted, exit
 *
 * To the parent, over a pipe: lines that begin with one letter:
 *	w TEXT, f STATUS TEXT, u
 */
#include "fs/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/fs.h"
#include "fs/mountpoint.h"

/* A stop is over within 5 s; the rest is for the process to go. */
#define ENDING_MS 4500
#define PACKET_MAX 4096

enum keeper_state { STARTING, MOUNTED, UP, ENDING };

struct keeper {
	const struct fs_options *opt;
	enum keeper_state state;
	pid_t worker;
	int sock, sigfd, fuse_fd;
	int report_fd;	     /* to the parent; -1: none, or told already */
	char *device;	     /* once mounted */
	int64_t deadline_ms; /* in ENDING */
	bool was_up, asked, failed, killed;
	int exit_status;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- reports ---- */

static void print_line(const char *text)
{
	fprintf(stderr, "forebay: %s\n", text);
}

/* To the parent, or to our own stderr in the foreground. */
static void report(struct keeper *k, char kind, int status, const char *text)
{
	struct base_str s = BASE_STR_INIT;

	if (k->opt->foreground && kind != 'u')
		print_line(text);
	if (k->report_fd >= 0) {
		if (kind == 'f')
			base_str_printf(&s, "f%d%s\n", status, text);
		else
			base_str_printf(&s, "%c%s\n", kind, text);
		if (write(k->report_fd, s.data, s.len) < 0)
			log_debug("nobody waits for the mount any more");
		base_str_fini(&s);
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

/* ---- the worker's words ---- */

static void begin_end(struct keeper *k, bool ask)
{
	if (k->device != NULL)
		fs_mountpoint_detach(k->opt->mountpoint, k->device);
	if (ask && send(k->sock, "s", 1, MSG_NOSIGNAL) < 0)
		log_debug("the worker does not listen");
	if (k->state != ENDING)
		k->deadline_ms = now_ms() + ENDING_MS;
	k->state = ENDING;
	k->asked = k->asked || ask;
}

static void do_mount(struct keeper *k)
{
	struct base_str go = BASE_STR_INIT;
	char why[1024];
	int err;

	if (k->state != STARTING)
		return;
	err = fs_mountpoint_mount(
		k->opt, k->fuse_fd, &k->device, why, sizeof(why));
	if (err < 0) {
		report(k, 'f', FS_EXIT_FAILED, why);
		begin_end(k, true);
		return;
	}
	k->state = MOUNTED;
	base_str_printf(&go, "g%s", k->device);
	if (send(k->sock, go.data, go.len, MSG_NOSIGNAL) < 0)
		log_debug("the worker does not listen");
	base_str_fini(&go);
}

static void handle_packet(struct keeper *k, char *text)
{
	switch (text[0]) {
	case 'w':
		report(k, 'w', 0, text + 1);
		break;
	case 'f':
		if (text[1] != '\0')
			report(k, 'f', text[1] - '0', text + 2);
		break;
	case 'r':
		do_mount(k);
		break;
	case 'u':
		if (k->state != MOUNTED)
			break;
		k->state = UP;
		k->was_up = true;
		report(k, 'u', 0, "");
		close_report(k);
		break;
	case 'e':
		begin_end(k, false);
		break;
	default:
		break;
	}
}

static void read_packets(struct keeper *k)
{
	char buf[PACKET_MAX];
	ssize_t n;

	while ((n = recv(k->sock, buf, sizeof(buf) - 1, MSG_DONTWAIT)) > 0) {
		buf[n] = '\0';
		handle_packet(k, buf);
	}
}

/* ---- signals ---- */

/* True when the worker is gone. */
static bool reap(struct keeper *k)
{
	int status;

	if (waitpid(k->worker, &status, WNOHANG) != k->worker)
		return false;
	/* Its last words may still lie there. */
	read_packets(k);
	if (k->failed || k->killed)
		return true;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		if (!k->was_up)
			k->exit_status = FS_EXIT_FAILED;
		return true;
	}
	k->exit_status = FS_EXIT_FAILED;
	if (!k->was_up && !k->asked) {
		report(k, 'f', FS_EXIT_FAILED,
			"mount: the worker died while starting; see the log");
	} else if (WIFSIGNALED(status)) {
		log_error("the worker died of signal %d: %s is unmounted; "
			  "mount it again: what was written is in the cache",
			WTERMSIG(status), k->opt->mountpoint);
	} else {
		log_error("the worker ended with status %d: %s is unmounted; "
			  "mount it again: what was written is in the cache",
			WEXITSTATUS(status), k->opt->mountpoint);
	}
	return true;
}

static bool read_signals(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->sigfd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP && k->state == UP &&
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
			{ .fd = k->sock, .events = POLLIN },
			{ .fd = k->sigfd, .events = POLLIN },
			{ .fd = k->report_fd, .events = 0 },
		};
		int64_t left = -1;

		if (k->state == ENDING && !k->killed) {
			left = k->deadline_ms - now_ms();
			left = left < 0 ? 0 : left;
		}
		/* Its end is told by SIGCHLD. */
		if (k->killed)
			pfds[0].fd = -1;
		if (poll(pfds, 3, (int)left) < 0 && errno != EINTR)
			return;
		if (pfds[0].revents & POLLIN)
			read_packets(k);
		else if (pfds[0].revents != 0 && reap(k))
			return;
		if (pfds[1].revents != 0 && read_signals(k))
			return;
		if (k->report_fd >= 0 && pfds[2].revents != 0) {
			close_report(k);
			begin_end(k, true);
		}
		if (k->state == ENDING && !k->killed &&
			now_ms() >= k->deadline_ms) {
			log_error("the worker does not end: killed; what was "
				  "written is in the cache");
			k->killed = true;
			k->exit_status = FS_EXIT_FAILED;
			kill(k->worker, SIGKILL);
		}
	}
}

/* ---- start ---- */

static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
		limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warn("cannot raise the limit on open files: %s",
			strerrordesc_np(errno));
}

static void block_signals(sigset_t *ret)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigemptyset(ret);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGHUP);
	sigaddset(ret, SIGCHLD);
	sigprocmask(SIG_BLOCK, ret, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static void leave_terminal(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (fd < 0)
		return;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

/* Whoever makes a backing id lends its rights to all who write through it:
 * root's would let them fill the file system's reserve (KERNEL.md). */
static void drop_reserve_right(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) != 0)
		return;
	data[0].effective &= ~(1u << CAP_SYS_RESOURCE);
	if (syscall(SYS_capset, &head, data) != 0)
		log_warn("cannot drop CAP_SYS_RESOURCE: %s",
			strerrordesc_np(errno));
}

static int start_worker(struct keeper *k, fs_worker_fn worker)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return -errno;
	k->worker = fork();
	if (k->worker < 0)
		return -errno;
	if (k->worker == 0) {
		struct fs_link link = { .sock = socks[1],
			.fuse_fd = k->fuse_fd };
		int status;

		close(socks[0]);
		close(k->sigfd);
		drop_reserve_right();
		close_report(k);
		status = worker(k->opt, &link);
		close(link.sock);
		/* The caller's stack is the keeper's business. */
		exit(status);
	}
	close(socks[1]);
	k->sock = socks[0];
	return 0;
}

/* A worker that died leaves its control socket. */
static void remove_socket(const char *device)
{
	char path[128];

	snprintf(path, sizeof(path), FS_CONTROL_DIR "/%s.sock", device);
	if (unlink(path) < 0 && errno != ENOENT)
		log_warn("cannot remove %s: %s", path, strerrordesc_np(errno));
}

static int keeper_main(
	const struct fs_options *opt, fs_worker_fn worker, int report_fd)
{
	struct keeper k = { .opt = opt,
		.state = STARTING,
		.report_fd = report_fd,
		.sock = -1,
		.exit_status = FS_EXIT_DONE };
	char why[1024];
	sigset_t signals;
	int err;

	block_signals(&signals);
	base_log_init(opt->foreground ? BASE_LOG_STDERR : BASE_LOG_SYSLOG,
		(enum base_log_level)opt->log_level);
	if (!opt->foreground)
		leave_terminal();
	umask(077);
	if (chdir("/") < 0)
		log_warn("cannot leave for /: %s", strerrordesc_np(errno));
	/* The environment may hold credentials. */
	prctl(PR_SET_DUMPABLE, 0);
	raise_limits();
	k.fuse_fd = err = fs_mountpoint_device(why, sizeof(why));
	if (err >= 0) {
		k.sigfd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
		err = k.sigfd < 0 ? -errno : start_worker(&k, worker);
		snprintf(why, sizeof(why), "mount: %s; try again",
			err < 0 ? strerrordesc_np(-err) : "");
	}
	if (err < 0) {
		report(&k, 'f', FS_EXIT_FAILED, why);
		return k.exit_status;
	}
	keep(&k);
	if (k.device != NULL) {
		fs_mountpoint_detach(opt->mountpoint, k.device);
		remove_socket(k.device);
	}
	free(k.device);
	close_report(&k);
	return k.exit_status;
}

/* ---- the parent ---- */

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

int fs_keeper_run(const struct fs_options *opt, fs_worker_fn worker)
{
	int fds[2];
	pid_t pid;

	if (opt->foreground)
		return keeper_main(opt, worker, -1);
	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fprintf(stderr, "forebay: mount: %s; try again\n",
			strerrordesc_np(errno));
		return FS_EXIT_FAILED;
	}
	if (pid == 0) {
		close(fds[0]);
		exit(keeper_main(opt, worker, fds[1]));
	}
	close(fds[1]);
	return wait_for_keeper(fds[0], pid, opt);
}
