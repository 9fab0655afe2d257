/*
 * The control socket: see control.h.
 *
 * Threads: `accept_thread` takes connections and joins those that ended; each
 * connection has a slot and a thread; `jobs_thread` runs background prefetch.
 * All poll stop_fd, which becomes readable once and stays so.
 *
 *	slot: FREE -accepted-> RUNNING -its thread ends-> ENDED -joined-> FREE
 */
#include "fs/control_priv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/link.h"

enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_ENDED };

struct slot {
	enum slot_state state; /* under the mutex */
	pthread_t thread;
	struct fs_control_conn conn;
};

struct fs_control {
	struct fs_control_config config;
	char path[108];
	ino_t inode; /* of that file */
	int listen_fd;
	int stop_fd;	/* the mount ends */
	int wake_fd;	/* a connection ended */
	int jobs_fd;	/* background jobs were added */
	int refused_fd; /* see `refused` */
	pthread_t accept_thread, jobs_thread;
	struct base_mutex mutex; /* the states of: */
	struct slot slots[FS_CONTROL_CONNS_MAX];
	bool upgrading; /* and these: a command waits for the keeper */
	char refused[512];
};

static void ring(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("eventfd: %s", strerrordesc_np(errno));
}

static void unring(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("eventfd: %s", strerrordesc_np(errno));
}

const struct fs_control_config *fs_control_config(struct fs_control *control)
{
	return &control->config;
}

void fs_control_kick_jobs(struct fs_control *control)
{
	ring(control->jobs_fd);
}

/* ---- upgrade ---- */

void fs_control_refused(struct fs_control *control, const char *text)
{
	base_lock(&control->mutex);
	snprintf(control->refused, sizeof(control->refused), "%s", text);
	base_unlock(&control->mutex);
	ring(control->refused_fd);
}

/* One at a time: with `on` false if there is one already. */
static bool set_upgrading(struct fs_control *c, bool on)
{
	bool was;

	base_lock(&c->mutex);
	was = c->upgrading;
	c->upgrading = on;
	base_unlock(&c->mutex);
	return was != on;
}

/* Its answer is an error, or the end of the connection, which is also the end
 * of this process. */
static json_t *upgrade(struct fs_control_conn *conn, const json_t *request)
{
	struct fs_control *c = conn->control;
	const char *binary =
		json_string_value(json_object_get(request, "binary"));
	struct pollfd pfds[] = {
		{ .fd = c->refused_fd, .events = POLLIN },
		{ .fd = conn->stop_fd, .events = POLLIN },
	};
	char why[sizeof(c->refused)];

	if (binary == NULL || binary[0] != '/')
		return fs_control_error(-EINVAL, "no path of a binary");
	if (!set_upgrading(c, true))
		return fs_control_error(-EBUSY, "another upgrade is under way");
	unring(c->refused_fd);
	fs_link_upgrade(conn->m->link, binary);
	while (poll(pfds, 2, -1) < 0 && errno == EINTR)
		continue;
	set_upgrading(c, false);
	if (pfds[1].revents != 0)
		return fs_control_error(-ECANCELED, "the mount ends");
	base_lock(&c->mutex);
	snprintf(why, sizeof(why), "%s", c->refused);
	base_unlock(&c->mutex);
	return fs_control_error(-EPROTO, "%s: %s", binary, why);
}

/* ---- lines ---- */

static int send_all(struct fs_control_conn *conn, const char *text, size_t len)
{
	while (len > 0) {
		struct pollfd pfds[] = {
			{ .fd = conn->fd, .events = POLLOUT },
			{ .fd = conn->stop_fd, .events = POLLIN },
		};
		ssize_t n =
			send(conn->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			text += n;
			len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -EPIPE;
		/* A client that does not read must not hold up the end. */
		if (poll(pfds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (pfds[1].revents != 0)
			return -ECANCELED;
	}
	return 0;
}

int fs_control_say(struct fs_control_conn *conn, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);
	size_t len;
	int err = -EINVAL;

	json_decref(line);
	if (text == NULL)
		return err;
	if (conn->fd < 0) {
		err = 0;
	} else {
		len = strlen(text);
		text[len] = '\n'; /* instead of the NUL */
		err = send_all(conn, text, len + 1);
	}
	free(text);
	return err;
}

json_t *fs_control_error(int err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	json_t *json;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json = json_pack("{s:s, s:i}", "error", text, "errno", -err);
	/* A name in it was cut in the middle of a character. */
	if (json == NULL)
		json = json_pack("{s:s, s:i}", "error", strerrordesc_np(-err),
			"errno", -err);
	return json;
}

/* ---- one connection ---- */

static const struct {
	const char *name;
	fs_control_fn run;
} commands[] = {
	{ "status", fs_control_status },
	{ "pending", fs_control_pending },
	{ "conflicts", fs_control_conflicts },
	{ "settle", fs_control_settle },
	{ "flush", fs_control_flush },
	{ "pin", fs_control_pin },
	{ "unpin", fs_control_pin },
	{ "evict", fs_control_evict },
	{ "locate", fs_control_locate },
	{ "prefetch", fs_control_prefetch },
	{ "upgrade", upgrade },
};

static json_t *dispatch(struct fs_control_conn *conn, const json_t *request)
{
	const char *cmd = json_string_value(json_object_get(request, "cmd"));

	if (cmd == NULL)
		return fs_control_error(-EINVAL, "not a request");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, cmd) == 0)
			return commands[i].run(conn, request);
	return fs_control_error(-ENOSYS,
		"this mount does not know '%s': it runs another version of "
		"forebay",
		cmd);
}

int fs_control_line(struct fs_control_conn *conn, const char *text, size_t len)
{
	/* Numbers and nesting are bounded by the line; a NUL is refused. */
	json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *answer = json_is_object(request)
		? dispatch(conn, request)
		: fs_control_error(-EINVAL, "not a request");

	json_decref(request);
	return fs_control_say(conn, answer);
}

/* Reads what is there; 0: the client left. */
static ssize_t read_more(struct fs_control_conn *conn, struct base_str *line)
{
	struct pollfd pfds[] = {
		{ .fd = conn->fd, .events = POLLIN },
		{ .fd = conn->stop_fd, .events = POLLIN },
	};
	char buf[16384];
	ssize_t n;

	if (poll(pfds, 2, -1) < 0)
		return errno == EINTR ? 1 : -errno;
	if (pfds[1].revents != 0)
		return -ECANCELED;
	n = recv(conn->fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		base_str_add(line, buf, (size_t)n);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	return n;
}

static void serve(struct fs_control_conn *conn)
{
	struct base_str line = BASE_STR_INIT;

	while (read_more(conn, &line) > 0) {
		char *end;

		while ((end = line.len > 0 ? memchr(line.data, '\n', line.len)
					   : NULL) != NULL) {
			size_t len = (size_t)(end - line.data) + 1;

			if (fs_control_line(conn, line.data, len - 1) < 0)
				goto out;
			memmove(line.data, end + 1, line.len - len);
			line.len -= len;
		}
		if (line.len >= FS_CONTROL_LINE_MAX) {
			fs_control_say(conn,
				fs_control_error(-E2BIG, "request too long"));
			break;
		}
	}
out:
	base_str_fini(&line);
}

static bool may_command(struct fs_control_conn *conn)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
		(cred.uid == 0 || cred.uid == conn->m->owner))
		return true;
	fs_control_say(conn,
		fs_control_error(-EPERM,
			"only root and the owner of the mount may do this"));
	return false;
}

static void *conn_main(void *arg)
{
	struct slot *slot = arg;
	struct fs_control *c = slot->conn.control;

	if (may_command(&slot->conn))
		serve(&slot->conn);
	close(slot->conn.fd);
	base_lock(&c->mutex);
	slot->state = SLOT_ENDED;
	base_unlock(&c->mutex);
	ring(c->wake_fd);
	return NULL;
}

/* ---- accepting ---- */

/* Joins what ended, or everything; a free slot, or NULL. */
static struct slot *tidy(struct fs_control *c, bool all)
{
	struct slot *found = NULL;

	for (size_t i = 0; i < FS_CONTROL_CONNS_MAX; i++) {
		struct slot *slot = &c->slots[i];
		enum slot_state state;

		base_lock(&c->mutex);
		state = slot->state;
		base_unlock(&c->mutex);
		if (state == SLOT_ENDED || (all && state == SLOT_RUNNING)) {
			pthread_join(slot->thread, NULL);
			state = slot->state = SLOT_FREE;
		}
		if (state == SLOT_FREE)
			found = slot;
	}
	return found;
}

static void take(struct fs_control *c, struct slot *slot)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	slot->conn = (struct fs_control_conn){
		.control = c, .m = c->config.m, .fd = fd, .stop_fd = c->stop_fd
	};
	slot->state = SLOT_RUNNING;
	if (pthread_create(&slot->thread, NULL, conn_main, slot) != 0) {
		slot->state = SLOT_FREE;
		close(fd);
	}
}

static void *accept_main(void *arg)
{
	struct fs_control *c = arg;

	for (;;) {
		struct slot *slot = tidy(c, false);
		struct pollfd pfds[] = {
			{ .fd = c->stop_fd, .events = POLLIN },
			{ .fd = c->wake_fd, .events = POLLIN },
			{ .fd = slot ? c->listen_fd : -1, .events = POLLIN },
		};

		if (poll(pfds, 3, -1) < 0 && errno != EINTR)
			break;
		if (pfds[0].revents != 0)
			break;
		if (pfds[1].revents != 0)
			unring(c->wake_fd);
		if (slot != NULL && pfds[2].revents != 0)
			take(c, slot);
	}
	tidy(c, true);
	return NULL;
}

static void *jobs_main(void *arg)
{
	struct fs_control *c = arg;
	struct fs_control_conn nobody = {
		.control = c, .m = c->config.m, .fd = -1, .stop_fd = c->stop_fd
	};

	fs_control_jobs_run(&nobody, c->jobs_fd);
	return NULL;
}

/* ---- start and stop ---- */

/* The kernel gives our device number to another mount as soon as ours is
 * unmounted: whoever looks at a socket's file and then removes it holds this. */
static int lock_sockets(void)
{
	int fd = open(FS_CONTROL_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && flock(fd, LOCK_EX) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int bind_socket(struct fs_control *c)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd;

	snprintf(c->path, sizeof(c->path), FS_CONTROL_DIR "/%s.sock",
		c->config.device);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", c->path);
	/* Of a mount that is gone: the device number is ours now. */
	if (unlink(c->path) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		chmod(c->path, 0600) < 0 ||
		(c->config.m->owner != geteuid() &&
			chown(c->path, c->config.m->owner, (gid_t)-1) < 0) ||
		stat(c->path, &st) < 0 || listen(fd, 128) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	c->inode = st.st_ino;
	return fd;
}

static int open_socket(struct fs_control *c)
{
	int lock, fd;

	/* Our umask is 077; who finds the directory may look for a mount. */
	if (mkdir(FS_CONTROL_DIR, 0755) == 0)
		(void)!chmod(FS_CONTROL_DIR, 0755);
	lock = lock_sockets();
	if (lock < 0)
		return -errno;
	fd = bind_socket(c);
	close(lock);
	return fd;
}

/* Takes its file away, unless it is already another mount's.  (The bound socket
 * holds its inode, so the number is not used again.) */
static void unlink_socket(const struct fs_control *c)
{
	struct stat st;
	int lock = lock_sockets();

	if (lock < 0)
		return;
	if (stat(c->path, &st) == 0 && st.st_ino == c->inode)
		unlink(c->path);
	close(lock);
}

void fs_control_remove_dead(const char *device)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int lock = lock_sockets();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path),
		FS_CONTROL_DIR "/%s.sock", device);
	if (lock >= 0 && fd >= 0 &&
		connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 &&
		errno == ECONNREFUSED && unlink(addr.sun_path) < 0)
		log_warn("cannot remove %s: %s", addr.sun_path,
			strerrordesc_np(errno));
	if (fd >= 0)
		close(fd);
	if (lock >= 0)
		close(lock);
}

static void free_control(struct fs_control *c)
{
	close(c->listen_fd);
	close(c->stop_fd);
	close(c->wake_fd);
	close(c->jobs_fd);
	close(c->refused_fd);
	base_mutex_fini(&c->mutex);
	free(c);
}

int fs_control_start(const struct fs_control_config *config,
	struct fs_control **ret_control, char *why, size_t why_bytes)
{
	struct fs_control *c = base_calloc(1, sizeof(*c));
	int err = 0;

	c->config = *config;
	base_mutex_init(&c->mutex, BASE_RANK_FS_CONTROL);
	c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->jobs_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->refused_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->listen_fd = open_socket(c);
	if (c->listen_fd < 0) {
		err = c->listen_fd;
		snprintf(why, why_bytes,
			"control socket %s: %s; make " FS_CONTROL_DIR
			" writable for root",
			c->path, strerrordesc_np(-err));
		free_control(c);
		return err;
	}
	err = pthread_create(&c->accept_thread, NULL, accept_main, c);
	if (err == 0) {
		err = pthread_create(&c->jobs_thread, NULL, jobs_main, c);
		if (err != 0) {
			ring(c->stop_fd);
			pthread_join(c->accept_thread, NULL);
		}
	}
	if (err != 0) {
		snprintf(why, why_bytes,
			"mount: no more threads; raise the "
			"limit on processes");
		unlink_socket(c);
		free_control(c);
		return -err;
	}
	*ret_control = c;
	return 0;
}

void fs_control_stop(struct fs_control *c)
{
	if (c == NULL)
		return;
	unlink_socket(c);
	ring(c->stop_fd);
	pthread_join(c->accept_thread, NULL);
	pthread_join(c->jobs_thread, NULL);
	free_control(c);
}
