/* Starting processes: see spawn.h. */
#include "fs/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/link.h"

#define OOM_FILE "/proc/self/oom_score_adj"
/* Above the fixed numbers, so that dup2() takes none that is still needed. */
#define FREE_FD 16

/* Of linux/prctl.h, since 5.6. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
/* Of sys/mman.h, since 4.4. */
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

/* What the keeper had before it was protected. */
static char oom_before[16];

/* ---- a worker ---- */

static void write_oom(const char *text)
{
	int fd = open(OOM_FILE, O_WRONLY | O_CLOEXEC);

	/* Less than before needs a right that a container may not have. */
	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	close(fd);
}

/* In the child: nothing but system calls. */
static void exec_worker(
	int exe, char *const *argv, int sock, int fuse_fd, int table_fd)
{
	extern char **environ;

	sock = fcntl(sock, F_DUPFD, FREE_FD);
	fuse_fd = fcntl(fuse_fd, F_DUPFD, FREE_FD);
	table_fd = fcntl(table_fd, F_DUPFD, FREE_FD);
	exe = fcntl(exe, F_DUPFD_CLOEXEC, FREE_FD);
	if (sock < 0 || fuse_fd < 0 || table_fd < 0 || exe < 0)
		return;
	if (dup2(sock, FS_LINK_SOCK_FD) < 0 ||
		dup2(fuse_fd, FS_LINK_FUSE_FD) < 0 ||
		dup2(table_fd, FS_LINK_TABLE_FD) < 0)
		return;
	close(sock);
	close(fuse_fd);
	close(table_fd);
	if (oom_before[0] != '\0')
		write_oom(oom_before);
	fexecve(exe, argv, environ);
}

int fs_spawn(struct fs_proc *proc, int exe, char *const *argv, int fuse_fd,
	int table_fd)
{
	int socks[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		exec_worker(exe, argv, socks[1], fuse_fd, table_fd);
		_exit(127);
	}
	if (pid < 0) {
		pid = -errno;
		close(socks[0]);
		close(socks[1]);
		return pid;
	}
	close(socks[1]);
	*proc = (struct fs_proc){ .pid = pid, .sock = socks[0] };
	return 0;
}

void fs_proc_fini(struct fs_proc *proc)
{
	if (proc->pid != 0)
		close(proc->sock);
	memset(proc, 0, sizeof(*proc));
}

/* ---- the keeper ---- */

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

/* A worker inherits what is blocked and ignored: a stop of both at once
 * (systemd, Ctrl-C) is a stop, and the keeper's. */
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

void fs_keeper_surroundings(bool foreground, sigset_t *ret_signals)
{
	block_signals(ret_signals);
	if (!foreground)
		leave_terminal();
	umask(077);
	if (chdir("/") < 0)
		log_warn("cannot leave for /: %s", strerrordesc_np(errno));
	/* The environment may hold credentials. */
	prctl(PR_SET_DUMPABLE, 0);
	raise_limits();
}

void fs_keeper_protect(void)
{
	int fd = open(OOM_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, oom_before, sizeof(oom_before) - 1);

	if (fd >= 0)
		close(fd);
	oom_before[n > 0 ? n : 0] = '\0';
	write_oom("-1000");
	/* What it uses, not all of the libraries that the worker needs: what
	 * is used once (to start a worker, above all) stays. */
	if (mlockall(MCL_CURRENT | MCL_ONFAULT) < 0)
		log_info("cannot lock memory: %s", strerrordesc_np(errno));
}

/* ---- the worker ---- */

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

void fs_worker_surroundings(void)
{
	prctl(PR_SET_NAME, "forebay");
	prctl(PR_SET_DUMPABLE, 0);
	/* What it allocates must not wait for pages that only it can write
	 * back.  Needs the right that goes next. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_debug("PR_SET_IO_FLUSHER: %s", strerrordesc_np(errno));
	drop_reserve_right();
	fcntl(FS_LINK_SOCK_FD, F_SETFD, FD_CLOEXEC);
	fcntl(FS_LINK_FUSE_FD, F_SETFD, FD_CLOEXEC);
	fcntl(FS_LINK_TABLE_FD, F_SETFD, FD_CLOEXEC);
}
