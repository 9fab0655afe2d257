/*
 * The session's threads: see session.h.
 *
 * Each blocks in read(2) on the one descriptor (a clone's requests would die
 * with us, KERNEL.md).  To end them, the session is marked as exited and a
 * signal breaks their read; as it may come just before the read, it is sent
 * until they are gone.
 */
#include "fs/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/ops.h"

/* As many as can run, but enough that a few slow disks' worth of calls do not
 * hold up the others, and few enough not to fight over the index. */
#define THREADS_MIN 4
#define THREADS_MAX 16
#define WAKE_SIGNAL SIGUSR1
#define WAKE_NS (20 * 1000000L)

struct fs_session {
	struct fs_mount *m;
	int ended_fd;
	unsigned threads_nr; /* started */
	pthread_t threads[THREADS_MAX];
};

static void on_wake(int number)
{
	(void)number;
}

static void *run(void *arg)
{
	struct fs_session *s = arg;
	struct fuse_session *se = s->m->se;
	struct fuse_buf buf = { 0 };
	uint64_t one = 1;
	int n;

	while (!fuse_session_exited(se)) {
		n = fuse_session_receive_buf(se, &buf);
		if (n == -EINTR)
			continue;
		if (n < 0)
			log_error("reading /dev/fuse: %s", strerrordesc_np(-n));
		if (n <= 0)
			break;
		fuse_session_process_buf(se, &buf);
	}
	free(buf.mem);
	fuse_session_exit(se);
	if (write(s->ended_fd, &one, sizeof(one)) < 0)
		log_error("eventfd: %s", strerrordesc_np(errno));
	return NULL;
}

int fs_session_new(
	struct fs_mount *m, int fuse_fd, struct fs_session **ret_session)
{
	char name[] = "forebay", uring[] = "-oio_uring";
	char *argv[] = { name, uring, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(m->opt.io_uring ? 2 : 1, argv);
	struct sigaction wake = { .sa_handler = on_wake };
	struct fs_session *s;
	char path[32];

	m->se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), m);
	fuse_opt_free_args(&args);
	if (m->se == NULL)
		return -EINVAL;
	snprintf(path, sizeof(path), "/dev/fd/%d", fuse_fd);
	if (fuse_session_mount(m->se, path) != 0) {
		fuse_session_destroy(m->se);
		m->se = NULL;
		return -EBADF;
	}
	s = base_calloc(1, sizeof(*s));
	s->m = m;
	s->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigaction(WAKE_SIGNAL, &wake, NULL);
	*ret_session = s;
	return 0;
}

int fs_session_start(struct fs_session *s)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned nr = cpus < THREADS_MIN ? THREADS_MIN
		: cpus > THREADS_MAX	 ? THREADS_MAX
					 : (unsigned)cpus;
	int err = 0;

	while (s->threads_nr < nr && err == 0) {
		err = pthread_create(&s->threads[s->threads_nr], NULL, run, s);
		if (err == 0)
			s->threads_nr++;
	}
	/* With fewer it works as well. */
	return s->threads_nr > 0 ? 0 : -err;
}

int fs_session_ended_fd(struct fs_session *s)
{
	return s->ended_fd;
}

static void join(pthread_t thread)
{
	for (;;) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WAKE_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_kill(thread, WAKE_SIGNAL);
		if (pthread_timedjoin_np(thread, NULL, &until) == 0)
			return;
	}
}

void fs_session_stop(struct fs_session *s)
{
	fuse_session_exit(s->m->se);
	for (unsigned i = 0; i < s->threads_nr; i++)
		join(s->threads[i]);
	s->threads_nr = 0;
}

void fs_session_free(struct fs_session *s)
{
	if (s == NULL)
		return;
	fuse_session_unmount(s->m->se);
	fuse_session_destroy(s->m->se);
	s->m->se = NULL;
	close(s->ended_fd);
	free(s);
}
