/* Commands that wait for tier/, and the paths they name: see control_priv.h. */
#include "fs/control_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

/* ---- calls ---- */

int fs_waits_init(struct fs_waits *waits)
{
	memset(waits, 0, sizeof(*waits));
	waits->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (waits->fd < 0)
		return -errno;
	base_mutex_init(&waits->mutex, BASE_RANK_FS_CONTROL);
	return 0;
}

void fs_waits_fini(struct fs_waits *waits)
{
	close(waits->fd);
	base_mutex_fini(&waits->mutex);
}

static void call_done(struct tier_call *call, int err)
{
	struct fs_pending *p = (struct fs_pending *)((char *)call -
		offsetof(struct fs_pending, call));
	struct fs_waits *waits = p->waits;
	uint64_t one = 1;

	/* Who takes it from the list does so after we let go of the mutex. */
	base_lock(&waits->mutex);
	p->err = err;
	p->next = waits->done;
	waits->done = p;
	if (write(waits->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("eventfd: %s", strerrordesc_np(errno));
	base_unlock(&waits->mutex);
}

struct tier_call *fs_pending_arm(
	struct fs_pending *pending, struct fs_waits *waits)
{
	memset(pending, 0, sizeof(*pending));
	pending->waits = waits;
	pending->call.done = call_done;
	return &pending->call;
}

int fs_waits_poll(struct fs_waits *waits, struct fs_control_conn *conn,
	int timeout_ms, struct fs_pending **ret_done)
{
	struct pollfd pfds[] = {
		{ .fd = waits->fd, .events = POLLIN },
		{ .fd = conn ? conn->stop_fd : -1, .events = POLLIN },
		{ .fd = conn ? conn->fd : -1, .events = POLLRDHUP },
	};
	uint64_t count;

	*ret_done = NULL;
	if (poll(pfds, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (pfds[0].revents != 0) {
		base_lock(&waits->mutex);
		if (read(waits->fd, &count, sizeof(count)) < 0 &&
			errno != EAGAIN)
			log_error("eventfd: %s", strerrordesc_np(errno));
		*ret_done = waits->done;
		waits->done = NULL;
		base_unlock(&waits->mutex);
	}
	if (pfds[1].revents != 0)
		return -ECANCELED;
	return pfds[2].revents != 0 ? -EPIPE : 0;
}

int fs_waits_one(struct fs_waits *waits, struct fs_control_conn *conn,
	struct fs_pending *pending, fs_tick_fn tick, void *arg)
{
	struct fs_pending *done;
	int err;

	for (;;) {
		err = fs_waits_poll(waits, conn,
			tick != NULL ? FS_CONTROL_TICK_MS : -1, &done);
		if (done != NULL)
			return done->err;
		if (err == 0 && tick != NULL)
			err = tick(arg);
		if (err < 0)
			break;
	}
	tier_cancel(conn->m->tier, &pending->call);
	do
		fs_waits_poll(waits, NULL, -1, &done);
	while (done == NULL);
	return err;
}

/* ---- paths ---- */

/* No empty component, no "." and "..": "" is the root. */
static bool is_plain(const char *path)
{
	if (path[0] == '\0')
		return true;
	for (const char *c = path;;) {
		size_t len = strcspn(c, "/");

		if (len == 0 || len > CACHE_NAME_MAX ||
			(len == 1 && c[0] == '.') ||
			(len == 2 && c[0] == '.' && c[1] == '.'))
			return false;
		if (c[len] == '\0')
			return strlen(path) <= CACHE_PATH_MAX;
		c += len + 1;
	}
}

void fs_control_paths_free(char **paths, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		free(paths[i]);
	free(paths);
}

int fs_control_paths(const json_t *request, char ***ret_paths, size_t *ret_nr,
	json_t **ret_error)
{
	const json_t *list = json_object_get(request, "paths");
	size_t nr = json_array_size(list);
	char **paths;

	if (nr == 0 || nr > FS_CONTROL_PATHS_MAX) {
		*ret_error = fs_control_error(-EINVAL, "no paths, or too many");
		return -EINVAL;
	}
	paths = base_calloc(nr, sizeof(*paths));
	for (size_t i = 0; i < nr; i++) {
		struct base_str path = BASE_STR_INIT;
		int err = fs_path_of_json(json_array_get(list, i), &path);

		paths[i] = base_str_take(&path);
		if (err == 0 && is_plain(paths[i]))
			continue;
		*ret_error = fs_control_error(
			-EINVAL, "%s: not a path on this mount", paths[i]);
		fs_control_paths_free(paths, nr);
		return -EINVAL;
	}
	*ret_paths = paths;
	*ret_nr = nr;
	return 0;
}

struct step {
	uint64_t parent;
	char name[CACHE_NAME_MAX + 1];
	struct cache_inode inode;
	bool fresh;
};

/* What the index says of one name: 0, -ENOENT, -ENOTDIR. */
static int look(struct fs_mount *m, struct step *s)
{
	struct cache_dentry dentry;
	struct cache_txn *txn;
	int err = cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_inode_get(txn, s->parent, &s->inode);
	if (err == 0 && s->inode.kind != CACHE_DIR)
		err = -ENOTDIR;
	s->fresh = err != 0;
	if (err == 0) {
		err = cache_dentry_get(txn, s->parent, s->name, &dentry);
		s->fresh = tier_fresh_name_ns(m->tier, txn, s->parent, s->name,
				   err == 0) > 0;
		if (err == 0)
			err = cache_inode_get(txn, dentry.ino, &s->inode);
	}
	cache_abort(txn);
	return err;
}

static int step_down(
	struct fs_control_conn *conn, struct fs_waits *waits, struct step *s)
{
	struct fs_pending pending;
	int refreshed, err = look(conn->m, s);

	if (s->fresh || (err < 0 && err != -ENOENT))
		return err;
	tier_refresh_name(conn->m->tier, s->parent, s->name,
		fs_pending_arm(&pending, waits));
	refreshed = fs_waits_one(waits, conn, &pending, NULL, NULL);
	if (refreshed == -EPIPE || refreshed == -ECANCELED)
		return refreshed;
	/* With the store away what is local still counts. */
	err = look(conn->m, s);
	return err == -ENOENT && refreshed < 0 ? refreshed : err;
}

int fs_control_resolve(
	struct fs_control_conn *conn, const char *path, struct cache_inode *ret)
{
	struct step s = { .inode = { .ino = CACHE_ROOT_INO } };
	struct fs_waits waits;
	struct cache_txn *txn;
	int err;

	if (path[0] == '\0') {
		err = cache_read(conn->m->cache, &txn);
		if (err < 0)
			return err;
		err = cache_inode_get(txn, CACHE_ROOT_INO, ret);
		cache_abort(txn);
		return err;
	}
	err = fs_waits_init(&waits);
	if (err < 0)
		return err;
	for (const char *c = path; err == 0;) {
		size_t len = strcspn(c, "/");

		s.parent = s.inode.ino;
		memcpy(s.name, c, len);
		s.name[len] = '\0';
		err = step_down(conn, &waits, &s);
		if (c[len] == '\0')
			break;
		c += len + 1;
	}
	fs_waits_fini(&waits);
	if (err == 0)
		*ret = s.inode;
	return err;
}
