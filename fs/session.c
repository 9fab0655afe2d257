/*
 * The session's threads: see session.h.
 *
 * After a worker died, FUSE_NOTIFY_RESEND puts what it had taken at the head
 * of the kernel's queue, marked.  One thread takes it, so that when it meets
 * the first request without the mark, all of them were looked up in what was
 * answered before (fs/replied.h).
 *
 * Each thread blocks in read(2) on the one descriptor (a clone's requests would die
 * with us, KERNEL.md).  To end them, the session is marked as exited and a
 * signal breaks their read; as it may come just before the read, it is sent
 * until they are gone.
 */
#include "fs/session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fs/ops.h"
#include "fs/replied.h"

/* As many as can run, but enough that a few slow disks' worth of calls do not
 * hold up the others, and few enough not to fight over the index. */
#define THREADS_MIN 4
#define THREADS_MAX 16
#define WAKE_SIGNAL SIGUSR1
#define WAKE_NS (20 * 1000000L)

/* Of linux/fuse.h, since 6.9. */
#define NOTIFY_RESEND 7
#define SENT_AGAIN (1ull << 63)

struct fs_session {
	struct fs_mount *m;
	int ended_fd;
	/* Of the first thread until it has ended, then of fs_session_stop(). */
	bool again;		     /* requests may still come again */
	_Atomic unsigned threads_nr; /* started */
	pthread_t threads[THREADS_MAX];
};

static void on_wake(int number)
{
	(void)number;
}

static void *run(void *arg);

static int add_thread(struct fs_session *s)
{
	unsigned i = s->threads_nr++;
	int err = pthread_create(&s->threads[i], NULL, run, s);

	if (err != 0)
		s->threads_nr--;
	return err;
}

static unsigned threads_wanted(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < THREADS_MIN    ? THREADS_MIN
		: cpus > THREADS_MAX ? THREADS_MAX
				     : (unsigned)cpus;
}

/* The end of what comes again?  FORGET and INTERRUPT have queues of their
 * own. */
static void look_at(struct fs_session *s, const struct fuse_in_header *in)
{
	if ((in->unique & SENT_AGAIN) || in->opcode == FUSE_FORGET ||
		in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
		return;
	s->again = false;
	fs_replied_settle(s->m->replied);
	while (s->threads_nr < threads_wanted())
		if (add_thread(s) != 0)
			return; /* with fewer it works as well */
}

static void *run(void *arg)
{
	struct fs_session *s = arg;
	struct fuse_session *se = s->m->se;
	const struct fuse_in_header *in;
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
		/* Never a pipe: ops.c does without splicing in. */
		in = buf.mem;
		if (s->again)
			look_at(s, in);
		fs_request_begin(in->unique);
		fuse_session_process_buf(se, &buf);
	}
	free(buf.mem);
	fuse_session_exit(se);
	if (write(s->ended_fd, &one, sizeof(one)) < 0)
		log_error("eventfd: %s", strerrordesc_np(errno));
	return NULL;
}

static struct fuse_session *new_session(struct fs_mount *m, bool io_uring)
{
	char name[] = "forebay", uring[] = "-oio_uring";
	char *argv[] = { name, uring, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(io_uring ? 2 : 1, argv);
	struct fuse_session *se =
		fuse_session_new(&args, &fs_ops, sizeof(fs_ops), m);

	fuse_opt_free_args(&args);
	return se;
}

/* ---- INIT ---- */

/* The kernel's message, in which it can only do what was agreed already. */
static size_t init_message(const struct fs_link_mount *mount, void *ret)
{
	const struct fuse_init_out *agreed =
		(const void *)(mount->reply + sizeof(struct fuse_out_header));
	struct fuse_init_in *init =
		(void *)((char *)ret + sizeof(struct fuse_in_header));

	memcpy(ret, mount->init, sizeof(mount->init));
	if (mount->reply_bytes != 0) {
		init->flags &= agreed->flags;
		init->flags2 &= agreed->flags2;
	}
	return mount->init_bytes;
}

static int answer_init(
	struct fuse_session *se, int fd, const struct fs_link_mount *mount)
{
	_Alignas(8) uint8_t message[FS_LINK_INIT_MAX];
	struct fuse_buf buf = { .mem = message };
	char path[32];

	buf.size = init_message(mount, message);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	if (fuse_session_mount(se, path) != 0)
		return -EBADF;
	fuse_session_process_buf(se, &buf);
	return 0;
}

ssize_t fs_init_reply(struct fs_mount *m, const struct fs_link_mount *mount,
	void *ret_reply, size_t reply_bytes)
{
	struct fuse_session *se = new_session(m, false);
	int socks[2];
	ssize_t n;

	if (se == NULL)
		return -EINVAL;
	/* Instead of a kernel. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0) {
		n = -errno;
		fuse_session_destroy(se);
		return n;
	}
	n = answer_init(se, socks[0], mount);
	if (n == 0)
		n = recv(socks[1], ret_reply, reply_bytes, MSG_DONTWAIT);
	/* It closes socks[0]. */
	fuse_session_destroy(se);
	close(socks[1]);
	if (n <= (ssize_t)sizeof(struct fuse_out_header))
		return -EPROTO;
	if (mount->reply_bytes != 0 &&
		((size_t)n != mount->reply_bytes ||
			memcmp(ret_reply, mount->reply, (size_t)n) != 0))
		return -EPROTO;
	return n;
}

/* ---- life ---- */

int fs_session_new(struct fs_mount *m, struct fs_session **ret_session)
{
	struct sigaction wake = { .sa_handler = on_wake };
	struct fs_session *s;
	int err;

	m->se = new_session(m, m->opt.io_uring);
	if (m->se == NULL)
		return -EINVAL;
	err = answer_init(m->se, m->link->fuse_fd, &m->link->mount);
	if (err < 0) {
		fuse_session_destroy(m->se);
		m->se = NULL;
		return err;
	}
	s = base_calloc(1, sizeof(*s));
	s->m = m;
	s->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->again = m->link->mount.restarts + m->link->mount.upgrades > 0;
	sigaction(WAKE_SIGNAL, &wake, NULL);
	*ret_session = s;
	return 0;
}

/* libfuse has no function for it. */
static int ask_again(struct fs_session *s)
{
	struct fuse_out_header head = { .len = sizeof(head),
		.error = NOTIFY_RESEND };

	if (write(s->m->link->fuse_fd, &head, sizeof(head)) < 0) {
		log_error("FUSE_NOTIFY_RESEND: %s", strerrordesc_np(errno));
		return -errno;
	}
	return 0;
}

int fs_session_start(struct fs_session *s)
{
	unsigned nr = s->again ? 1 : threads_wanted();
	unsigned i = 0;
	int err = s->again ? ask_again(s) : 0;

	if (err < 0)
		return err;
	while (i < nr && (err = add_thread(s)) == 0)
		i++;
	/* With fewer it works as well.  (The first may be adding others.) */
	return i > 0 ? 0 : -err;
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
