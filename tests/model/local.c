/*
 * A mount without a kernel: what fs/ does with cache/ and tier/ for the calls
 * of local programs, and the life of the process.
 *
 * The syncs of the disk cost nothing here (they are replaced below): nothing
 * of the machine dies, only the process.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/model/model.h"
#include "tier/priv.h"

/* ---- the disk's syncs ---- */

int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return 0;
}

int syncfs(int fd)
{
	(void)fd;
	return 0;
}

/* No ballast, no blocks kept: they would be filled with zeroes each time. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
	(void)fd, (void)mode, (void)offset, (void)len;
	errno = EOPNOTSUPP;
	return -1;
}

/* ---- callbacks ---- */

static struct handle *handle_of(struct model *m, uint64_t ino)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used && m->handles[i].ino == ino)
			return &m->handles[i];
	}
	return NULL;
}

bool local_claim(void *arg, uint64_t ino)
{
	struct model *m = arg;

	return handle_of(m, ino) == NULL &&
		(m->tier == NULL || !tier_fetching(m->tier, ino));
}

static void unclaim(void *arg, uint64_t ino)
{
	(void)arg, (void)ino;
}

static void inode_changed(void *arg, uint64_t ino)
{
	(void)arg, (void)ino;
}

static void entry_changed(void *arg, uint64_t parent, const char *name)
{
	(void)arg, (void)parent, (void)name;
}

/* ---- life ---- */

static void fill_cache_config(struct model *m, const char *const *dirs,
	struct base_env *env, struct cache_config *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->dirs = dirs;
	ret->dirs_nr = 1;
	ret->store = "model:";
	ret->limit = 1 << 30;
	ret->reserve = 1 << 20;
	ret->dirty_limit = 1 << 30;
	ret->claim = local_claim;
	ret->unclaim = unclaim;
	ret->arg = m;
	ret->env = env;
}

static int drop_one(void *arg, uint64_t ino)
{
	struct base_str *list = arg;

	base_str_add(list, &ino, sizeof(ino));
	return 0;
}

/* The kernel forgets what has no name: FORGET. */
void local_forget(struct model *m)
{
	struct base_str held = BASE_STR_INIT;
	struct cache_txn *txn;
	bool gone;

	assert(cache_read(m->cache, &txn) == 0);
	assert(cache_held_each(txn, drop_one, &held) == 0);
	cache_abort(txn);
	for (size_t i = 0; i < held.len; i += sizeof(uint64_t)) {
		uint64_t ino;

		memcpy(&ino, held.data + i, sizeof(ino));
		assert(cache_write(m->cache, &txn) == 0);
		cache_held_put(txn, ino, handle_of(m, ino) != NULL, &gone);
		assert(cache_commit(txn) == 0);
		if (ino < m->inos_cap && handle_of(m, ino) == NULL)
			m->ino_version[ino] = -1;
	}
	base_str_fini(&held);
}

/* After a mount nobody has anything open: what the last process left. */
static void drop_left(struct model *m)
{
	struct base_str written = BASE_STR_INIT;
	struct cache_txn *txn;
	struct cache_inode inode;

	local_forget(m);
	assert(cache_read(m->cache, &txn) == 0);
	assert(cache_written_each(txn, drop_one, &written) == 0);
	cache_abort(txn);
	for (size_t i = 0; i < written.len; i += sizeof(uint64_t)) {
		uint64_t ino;

		memcpy(&ino, written.data + i, sizeof(ino));
		assert(cache_read(m->cache, &txn) == 0);
		if (cache_inode_get(txn, ino, &inode) < 0) {
			cache_abort(txn);
			continue; /* it was held, too */
		}
		cache_abort(txn);
		for (int h = 0; h < HANDLES_MAX; h++) {
			if (m->handles[h].used)
				continue;
			m->handles[h] = (struct handle){ .used = true,
				.written = true,
				.ino = ino,
				.serial = inode.serial,
				.dirty = true,
				.seen = -2 };
			m->handles[h].fd = cache_data_open(
				m->cache, ino, inode.serial, O_RDWR);
			break;
		}
	}
	base_str_fini(&written);
}

/* The end of writing of what the last process left open: fs_handles_recover(). */
static void recover_handles(struct model *m);

void local_open(struct model *m)
{
	const char *dirs[] = { m->dirs[m->dir] };
	struct cache_config cc;
	struct cache_opened opened;
	char why[300];
	int err;

	m->env = menv_new(m);
	fill_cache_config(m, dirs, menv_base(m->env), &cc);
	err = cache_open(&cc, &m->cache, &opened, why, sizeof(why));
	if (err < 0)
		fprintf(stderr, "cache_open: %s\n", why);
	assert(err == 0);
	m->store = mstore_open(m);
	m->config = (struct tier_config){
		.cache = m->cache,
		.store = m->store,
		.env = menv_base(m->env),
		.host_name = "model",
		.freshness_ns = 60 * S,
		.store_timeout_ns = 5 * S,
		.writeback_open_ns = 30 * S,
		.read_ahead_bytes = 4 << 20,
		.fetch_whole_bytes = 8 << 20,
		.file_mode = 0644,
		.dir_mode = 0755,
		.inode_changed = inode_changed,
		.entry_changed = entry_changed,
		.claim = local_claim,
		.unclaim = unclaim,
		.arg = m,
	};
	assert(tier_open(&m->config, &m->tier) == 0);
	drop_left(m);
	recover_handles(m);
	tier_start(m->tier);
}

static void forget_handles(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used && m->handles[i].fd >= 0)
			close(m->handles[i].fd);
		m->handles[i].used = false;
	}
}

void local_close(struct model *m)
{
	struct tier *tier = m->tier;
	struct rnd r = { m->seed };

	while (call_close(m, &r))
		;
	m->groups += tier->order.groups;
	m->closing = true;
	tier_stop(tier);
	blob_store_close(m->store);
	menv_run_posted(m->env);
	m->tier = NULL;
	tier_close(tier);
	cache_close(m->cache);
	menv_free(m->env);
	m->env = NULL;
	m->cache = NULL;
	m->closing = false;
	m->life++;
}

static void copy_file(const char *from, const char *to)
{
	static char buf[65536];
	int in = open(from, O_RDONLY), out;
	ssize_t n;

	unlink(to);
	if (in < 0)
		return;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert(out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

static void copy_in_dir(const char *from, const char *to, const char *name)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/%s", from, name);
	snprintf(b, sizeof(b), "%s/%s", to, name);
	copy_file(a, b);
}

static void empty_data(const char *dir)
{
	char path[128];

	for (unsigned hh = 0; hh < 256; hh++) {
		struct dirent *e;
		struct stat st;
		DIR *d;

		snprintf(path, sizeof(path), "%s/data/%02x", dir, hh);
		/* No subdirectories: size tells on tmpfs (40 a name pair). */
		if (stat(path, &st) < 0 || st.st_size <= 40)
			continue;
		d = opendir(path);
		while (d != NULL && (e = readdir(d)) != NULL) {
			if (e->d_name[0] != '.')
				unlinkat(dirfd(d), e->d_name, 0);
		}
		if (d != NULL)
			closedir(d);
	}
}

/* The process dies between two steps: what was committed stays. */
void local_crash(struct model *m)
{
	const char *old = m->dirs[m->dir], *new = m->dirs[!m->dir];
	char a[128], b[128];

	m->groups += m->tier->order.groups;
	copy_in_dir(old, new, "index.db");
	copy_in_dir(old, new, "index.db-wal");
	copy_in_dir(old, new, "set");
	snprintf(a, sizeof(a), "%s/index.db-shm", new);
	unlink(a);
	snprintf(a, sizeof(a), "%s/data", old);
	snprintf(b, sizeof(b), "%s/data", new);
	empty_data(new);
	assert(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0);
	forget_handles(m);
	mstore_orphan(m->store);
	m->tier = NULL; /* and its memory with the process */
	cache_close(m->cache);
	menv_free(m->env);
	m->dir = !m->dir;
	m->life++;
	local_open(m);
}

/* A fresh cache in dirs[0], copied from one that was made before. */
void local_template(struct model *m)
{
	char template[80], made[100];
	struct base_env *env;
	const char *dirs[1];
	struct cache_config cc;
	struct cache_opened opened;
	char why[300], path[128];

	snprintf(template, sizeof(template), "%s.t", m->dirs[0]);
	snprintf(made, sizeof(made), "%s/index.db", template);
	if (access(made, F_OK) < 0) {
		m->env = menv_new(m);
		env = menv_base(m->env);
		for (int i = 0; i < 2; i++) {
			dirs[0] = m->dirs[i];
			fill_cache_config(m, dirs, env, &cc);
			if (cache_open(&cc, &m->cache, &opened, why,
				    sizeof(why)) < 0) {
				fprintf(stderr, "cache_open: %s\n", why);
				abort();
			}
			cache_close(m->cache);
			m->cache = NULL;
		}
		menv_free(m->env);
		m->env = NULL;
		mkdir(template, 0700);
		copy_in_dir(m->dirs[0], template, "set");
		copy_in_dir(m->dirs[0], template, "index.db");
	}
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/index.db-wal", m->dirs[i]);
		unlink(path);
		snprintf(path, sizeof(path), "%s/index.db-shm", m->dirs[i]);
		unlink(path);
		empty_data(m->dirs[i]);
	}
	copy_in_dir(template, m->dirs[0], "index.db");
	copy_in_dir(template, m->dirs[0], "set");
	m->dir = 0;
}

/* ---- waiting ---- */

struct waiting {
	struct tier_call call;
	bool done;
	int err;
};

static void waiting_done(struct tier_call *call, int err)
{
	struct waiting *w = (struct waiting *)call;

	w->done = true;
	w->err = err;
}

int local_await(struct model *m, int64_t max_ns,
	void (*start)(struct model *, struct tier_call *, void *arg), void *arg)
{
	/* On the heap: a history that fails leaves it to the process. */
	struct waiting *w = base_calloc(1, sizeof(*w));
	int64_t until = m->now_ns + max_ns;
	int err;

	w->call.done = waiting_done;
	start(m, &w->call, arg);
	while (!w->done && model_step(m, until))
		;
	if (!w->done && !m->failed) {
		tier_cancel(m->tier, &w->call);
		until = m->now_ns + 10 * S;
		while (!w->done && model_step(m, until))
			;
		if (!w->done && !m->failed)
			model_fail(m, "a cancelled call does not end");
	}
	if (!w->done)
		return -EIO;
	err = w->err;
	free(w);
	return err;
}

struct named {
	uint64_t ino;
	const char *name;
};

static void start_fetch(struct model *m, struct tier_call *call, void *arg)
{
	tier_fetch_whole(m->tier, *(uint64_t *)arg, false, call);
}

static void start_name(struct model *m, struct tier_call *call, void *arg)
{
	struct named *n = arg;

	tier_refresh_name(m->tier, n->ino, n->name, call);
}

static void start_dir(struct model *m, struct tier_call *call, void *arg)
{
	tier_refresh_dir(m->tier, *(uint64_t *)arg, call);
}

static void start_tree(struct model *m, struct tier_call *call, void *arg)
{
	tier_refresh_tree(m->tier, *(uint64_t *)arg, call);
}

static void start_flush(struct model *m, struct tier_call *call, void *arg)
{
	tier_flush(m->tier, arg, call);
}

/* ---- names ---- */

static const char *split(const char *path, char *dir, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, size, "%.*s", slash ? (int)(slash - path) : 0, path);
	return slash ? slash + 1 : path;
}

static int resolve(struct model *m, const char *path, struct cache_inode *ret)
{
	struct cache_txn *txn;
	int err;

	assert(cache_read(m->cache, &txn) == 0);
	err = cache_resolve(txn, path, ret);
	cache_abort(txn);
	return err;
}

/* Makes a name and its directories current, as the kernel's look-ups do. */
static int look_up(struct model *m, const char *path)
{
	char dir[256];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent;
	struct cache_dentry dentry;
	struct cache_txn *txn;
	struct named named = { .name = name };
	int64_t fresh;
	int err;

	if (dir[0] != '\0') {
		err = look_up(m, dir);
		if (err < 0)
			return err;
	}
	err = resolve(m, dir, &parent);
	if (err < 0 || parent.kind != CACHE_DIR)
		return err < 0 ? err : -ENOTDIR;
	assert(cache_read(m->cache, &txn) == 0);
	err = cache_dentry_get(txn, parent.ino, name, &dentry);
	fresh = tier_fresh_name_ns(m->tier, txn, parent.ino, name, err == 0);
	cache_abort(txn);
	if (fresh > 0)
		return 0;
	named.ino = parent.ino;
	return local_await(m, 20 * S, start_name, &named);
}

/* ---- what the calls say, for the checks ---- */

static void note_ino(struct model *m, uint64_t ino, int version)
{
	if (ino >= m->inos_cap) {
		m->ino_version = base_realloc(
			m->ino_version, (ino + 64) * sizeof(*m->ino_version));
		while (m->inos_cap < ino + 64)
			m->ino_version[m->inos_cap++] = -1;
	}
	m->ino_version[ino] = version;
}

static int ino_version(struct model *m, uint64_t ino)
{
	return ino < m->inos_cap ? m->ino_version[ino] : -1;
}

static uint64_t etag_number(const char *etag)
{
	return strtoull(etag + 3, NULL, 16);
}

/* What the index says that the store shows under a name. */
static int seen_version(
	struct model *m, struct cache_txn *txn, const char *name)
{
	struct cache_remote remote;
	int version = -1;

	if (cache_remote_get(txn, name, &remote) < 0)
		return -1;
	if (remote.etag[0] != '\0' && etag_number(remote.etag) <= m->etag)
		version = m->etag_version[etag_number(remote.etag)];
	cache_remote_fini(&remote);
	return version;
}

/* Of an inode, also of one whose bytes were never here. */
static int inode_version(
	struct model *m, struct cache_txn *txn, const struct cache_inode *inode)
{
	struct cache_remote remote;
	int version;

	if (cache_remote_holding(txn, &inode->content, NULL, &remote) < 0)
		return ino_version(m, inode->ino);
	version = m->etag_version[etag_number(remote.etag)];
	cache_remote_fini(&remote);
	return version;
}

static struct change *note_change(struct model *m, struct cache_txn *txn,
	const char *name, enum cache_kind kind, uint64_t ino, int version)
{
	struct change *c;

	m->changes = base_realloc(
		m->changes, (m->changes_nr + 1) * sizeof(*m->changes));
	c = &m->changes[m->changes_nr++];
	*c = (struct change){ .nr = m->changes_nr,
		.name = base_strdup(name),
		.kind = kind,
		.ino = ino,
		.version = version,
		.at_ns = m->now_ns,
		.seen = seen_version(m, txn, name) };
	return c;
}

/* In which epoch a change entered: the row says so. */
static void note_epoch(struct cache_txn *txn, struct change *c)
{
	struct cache_owed row;

	if (cache_owed_newest_unsent(txn, c->name, &row) < 0)
		return;
	if (row.kind == c->kind &&
		(row.kind == CACHE_GONE || row.ino == c->ino))
		c->epoch = row.epoch;
	cache_owed_fini(&row);
}

static void commit(
	struct model *m, struct cache_txn *txn, int err, const char *what)
{
	if (err < 0) {
		cache_abort(txn);
		model_fail(m, "%s: %s", what, strerror(-err));
		return;
	}
	err = cache_commit(txn);
	if (err < 0)
		model_fail(m, "%s: commit: %s", what, strerror(-err));
	tier_kick(m->tier);
	m->calls++;
}

/* ---- writing ---- */

static struct handle *free_handle(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (!m->handles[i].used)
			return &m->handles[i];
	}
	return NULL;
}

static void touch(struct model *m, int fd)
{
	int64_t now = base_wall_ns(menv_base(m->env));
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT },
		{ now / S, now % S } };

	assert(futimens(fd, ts) == 0);
}

static size_t new_text(struct model *m, struct rnd *r, char *buf, size_t size)
{
	int n = snprintf(buf, size, "L%06llu.", (unsigned long long)++m->texts);

	for (uint64_t more = rnd_below(r, 40); more > 0; more--)
		buf[n++] = (char)('a' + (more % 26));
	return (size_t)n;
}

/* What the data file of a handle holds is a state of the file. */
static int take_version(struct model *m, struct handle *h)
{
	char head[4096];
	struct stat st;
	ssize_t n = pread(h->fd, head, sizeof(head), 0);

	assert(n >= 0 && fstat(h->fd, &st) == 0);
	h->version =
		version_add(m, head, (size_t)n, (uint64_t)st.st_size, false);
	return h->version;
}

/* One write of a program; a long one is two, and torn in between. */
static void write_some(struct model *m, struct handle *h, struct rnd *r)
{
	char text[256];
	size_t len = new_text(m, r, text, sizeof(text));
	struct stat st;
	off_t at = 0;

	assert(fstat(h->fd, &st) == 0);
	if (st.st_size < 2000 && rnd_pct(r, 30))
		at = st.st_size; /* append */
	else if (st.st_size > 8 && rnd_pct(r, 20))
		at = 8;
	h->dirty = true;
	h->version = -1;
	if (rnd_pct(r, 30)) {
		assert(pwrite(h->fd, text, len / 2, at) >= 0);
		touch(m, h->fd);
		model_run(m, (int64_t)rnd_below(r, 300) * MS);
		if (m->failed)
			return;
		assert(pwrite(h->fd, text + len / 2, len - len / 2,
			       at + (off_t)(len / 2)) >= 0);
	} else {
		assert(pwrite(h->fd, text, len, at) >= 0);
	}
	if (rnd_pct(r, 15)) {
		assert(fstat(h->fd, &st) == 0);
		if (st.st_size > 16 && st.st_size < 5000)
			assert(ftruncate(h->fd, st.st_size - 7) == 0);
	}
	if ((m->profile & WITH_LARGE) && rnd_pct(r, 25)) {
		static const off_t sizes[] = { (1 << 20) + 100, 8 << 20,
			(8 << 20) + 4096, (16 << 20) + 1 };

		assert(ftruncate(h->fd, sizes[rnd_below(r, 4)]) == 0);
	}
	touch(m, h->fd);
	take_version(m, h);
}

/* FLUSH: fs_written_enter(). */
static void flush_handle(struct model *m, struct handle *h)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_inode inode;
	struct cache_txn *txn;
	struct change *c = NULL;
	uint64_t allocated;
	int err;

	if (!h->dirty)
		return;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, h->ino, &inode);
	if (err == 0)
		err = cache_data_stat(m->cache, h->ino, inode.serial,
			&inode.stamp, &allocated);
	inode.gen++;
	inode.size_bytes = inode.stamp.size_bytes;
	inode.mtime_ns = inode.stamp.mtime_ns;
	inode.stored = false;
	cache_id_new(m->cache, &inode.content);
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = cache_space_account(txn, h->ino);
	if (err == 0 && inode.nlink > 0 &&
		cache_path_of(txn, h->ino, &path) == 0) {
		c = note_change(
			m, txn, path.data, CACHE_FILE, h->ino, h->version);
		c->open = true;
		if (h->seen != -2) /* of an earlier life */
			c->seen = h->seen;
		err = tier_enter(
			m->tier, txn, path.data, &inode, TIER_CONTENT, 0);
		if (err == 0)
			note_epoch(txn, c);
	}
	note_ino(m, h->ino, h->version);
	model_say(m, "    flush ino %llu v%d %s epoch %llu",
		(unsigned long long)h->ino, h->version,
		path.data ? path.data : "(no name)",
		c ? (unsigned long long)c->epoch : 0ULL);
	h->dirty = false;
	base_str_fini(&path);
	commit(m, txn, err, "flush");
}

/* RELEASE of the last writer: final(). */
static void end_handle(struct model *m, struct handle *h)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	bool gone;
	int err;

	flush_handle(m, h);
	if (m->failed)
		return;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, h->ino, &inode);
	inode.written = false;
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	h->used = false;
	close(h->fd);
	if (err == 0 && inode.nlink == 0)
		err = cache_held_put(txn, h->ino, false, &gone);
	for (size_t i = m->changes_nr; i-- > 0;) {
		struct change *c = &m->changes[i];

		if (c->ino != h->ino || c->kind != CACHE_FILE || !c->open)
			continue;
		c->open = false;
		c->left = m->now_ns - c->at_ns > 1900 * MS;
		c->epoch = 0; /* it may have left its place */
		note_epoch(txn, c);
		break;
	}
	if (inode.nlink == 0)
		note_ino(m, h->ino, -1);
	model_say(m, "    close ino %llu", (unsigned long long)h->ino);
	commit(m, txn, err, "close");
}

static void recover_handles(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		struct handle *h = &m->handles[i];

		if (!h->used)
			continue;
		if (h->fd < 0) {
			model_fail(m, "ino %llu was written, and is gone",
				(unsigned long long)h->ino);
			return;
		}
		take_version(m, h);
		end_handle(m, h);
	}
}

bool call_create(struct model *m, const char *path, struct rnd *r, bool hold)
{
	char dir[256];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent, inode = { 0 };
	struct handle *h = free_handle(m);
	struct cache_txn *txn;
	int err;

	if (h == NULL || look_up(m, path) < 0 || m->failed ||
		resolve(m, path, &inode) != -ENOENT ||
		resolve(m, dir, &parent) < 0 || parent.kind != CACHE_DIR)
		return false;
	memset(&inode, 0, sizeof(inode));
	inode.kind = CACHE_FILE;
	inode.mode = 0644;
	inode.nlink = 1;
	inode.gen = 1;
	inode.data = CACHE_WHOLE;
	inode.serial = inode.serial_top = 1;
	inode.written = true;
	inode.mtime_ns = base_wall_ns(menv_base(m->env));
	cache_id_new(m->cache, &inode.file);
	cache_id_new(m->cache, &inode.content);
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_add(txn, &inode);
	if (err == 0)
		err = cache_dentry_add(txn, parent.ino, name, inode.ino);
	*h = (struct handle){ .used = true,
		.ino = inode.ino,
		.serial = 1,
		.written = true,
		.dirty = true,
		.seen = -1 };
	h->fd = cache_data_open(m->cache, inode.ino, 1, O_RDWR | O_CREAT);
	assert(h->fd >= 0);
	touch(m, h->fd);
	model_say(m, "    create %s ino %llu", path,
		(unsigned long long)inode.ino);
	commit(m, txn, err, "create");
	if (m->failed)
		return true;
	take_version(m, h);
	write_some(m, h, r);
	if (m->failed || hold)
		return true;
	flush_handle(m, h);
	model_run(m, rnd_pct(r, 50) ? 0 : (int64_t)rnd_below(r, 60) * MS);
	if (!m->failed && h->used)
		end_handle(m, h);
	return true;
}

static int fetch_whole(
	struct model *m, const char *path, struct cache_inode *inode)
{
	for (int tries = 0; tries < 4; tries++) {
		int err = resolve(m, path, inode);

		if (err < 0 || inode->kind != CACHE_FILE)
			return err < 0 ? err : -EISDIR;
		if (inode->data == CACHE_WHOLE)
			return 0;
		err = local_await(m, 20 * S, start_fetch, &inode->ino);
		if (m->failed)
			return -EIO;
		if (err < 0 && err != -ESTALE)
			return err;
		if (err == -ESTALE)
			model_run(m, 300 * MS);
	}
	return -EIO;
}

/* Opens an existing file for writing: fs_make_ready(). */
bool call_write(struct model *m, const char *path, struct rnd *r, bool hold)
{
	bool truncate = rnd_pct(r, 50), alone;
	struct cache_inode inode;
	struct handle *h = free_handle(m);
	struct cache_txn *txn;
	bool keep;
	int seen, err;

	if (h == NULL || look_up(m, path) < 0 || m->failed)
		return false;
	err = resolve(m, path, &inode);
	if (err < 0 || inode.kind != CACHE_FILE)
		return false;
	if (handle_of(m, inode.ino) != NULL)
		return false;
	alone = truncate && rnd_pct(r, 70);
	if (!alone && fetch_whole(m, path, &inode) < 0)
		return false;
	if (m->failed || (h = free_handle(m)) == NULL ||
		handle_of(m, inode.ino) != NULL)
		return false;
	if (alone && tier_fetching(m->tier, inode.ino))
		return false;
	assert(cache_read(m->cache, &txn) == 0);
	err = cache_inode_get(txn, inode.ino, &inode);
	keep = err == 0 && !alone && !inode.written &&
		tier_keep_needed(m->tier, txn, &inode);
	cache_abort(txn);
	if (err < 0)
		return false;
	if (keep && tier_keep(m->tier, inode.ino) < 0) {
		model_fail(m, "an older state cannot be kept");
		return true;
	}
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_get(txn, inode.ino, &inode);
	seen = inode_version(m, txn, &inode);
	if (err == 0 && alone)
		err = cache_data_renew(txn, &inode);
	inode.gen++;
	inode.written = true;
	if (truncate) {
		inode.size_bytes = 0;
		inode.stored = false;
		cache_id_new(m->cache, &inode.content);
		memset(&inode.stamp, 0, sizeof(inode.stamp));
		inode.mtime_ns = base_wall_ns(menv_base(m->env));
	}
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	*h = (struct handle){ .used = true,
		.ino = inode.ino,
		.serial = inode.serial,
		.written = true,
		.dirty = truncate,
		.seen = seen };
	h->fd = cache_data_open(m->cache, inode.ino, inode.serial,
		alone ? O_RDWR | O_CREAT : O_RDWR);
	model_say(m, "    open %s ino %llu%s%s%s", path,
		(unsigned long long)inode.ino, truncate ? " truncate" : "",
		alone ? " alone" : "", keep ? " keep" : "");
	if (h->fd < 0) {
		cache_abort(txn);
		model_fail(
			m, "open %s: no data file: %s", path, strerror(-h->fd));
		return true;
	}
	commit(m, txn, err, "open");
	if (m->failed)
		return true;
	if (truncate && !alone)
		assert(ftruncate(h->fd, 0) == 0);
	if (truncate)
		touch(m, h->fd);
	take_version(m, h);
	if (truncate)
		note_ino(m, inode.ino, h->version);
	if (rnd_pct(r, 95))
		write_some(m, h, r);
	if (m->failed || hold)
		return true;
	flush_handle(m, h);
	model_run(m, rnd_pct(r, 50) ? 0 : (int64_t)rnd_below(r, 60) * MS);
	if (!m->failed && h->used)
		end_handle(m, h);
	return true;
}

static struct handle *any_handle(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used)
			return &m->handles[i];
	}
	return NULL;
}

bool call_more(struct model *m, struct rnd *r)
{
	struct handle *h = any_handle(m);

	if (h == NULL)
		return false;
	write_some(m, h, r);
	if (!m->failed && rnd_pct(r, 60))
		flush_handle(m, h);
	return true;
}

bool call_close(struct model *m, struct rnd *r)
{
	struct handle *h = any_handle(m);

	(void)r;
	if (h == NULL || m->failed)
		return false;
	end_handle(m, h);
	return true;
}

/* ---- names ---- */

/* After the journal heard of it: as FORGET and the last close do. */
static int lose_name(struct model *m, struct cache_txn *txn, uint64_t ino)
{
	struct cache_inode inode;
	bool gone, open = handle_of(m, ino) != NULL;
	int err = 0;

	if (!open)
		note_ino(m, ino, -1);
	if (cache_inode_get(txn, ino, &inode) == 0)
		err = cache_held_put(txn, ino, open, &gone);
	return err;
}

static int count_links(struct cache_txn *txn, uint64_t dir, int by)
{
	struct cache_inode inode;
	int err = by == 0 ? -ENOENT : cache_inode_get(txn, dir, &inode);

	if (err < 0)
		return by == 0 ? 0 : err;
	inode.nlink = (uint32_t)((int)inode.nlink + by);
	return cache_inode_put(txn, &inode);
}

static bool remove_name(struct model *m, const char *path, bool dir)
{
	char parent_path[256];
	const char *name = split(path, parent_path, sizeof(parent_path));
	struct cache_inode parent, inode;
	struct cache_txn *txn;
	bool empty = true;
	int err;

	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, parent_path, &parent);
	if (err == 0)
		err = cache_resolve(txn, path, &inode);
	if (err == 0 && dir != (inode.kind == CACHE_DIR))
		err = -EISDIR;
	if (err == 0 && dir)
		err = cache_dir_is_empty(txn, inode.ino, &empty);
	if (err < 0 || !empty) {
		cache_abort(txn);
		return false;
	}
	note_change(m, txn, path, CACHE_GONE, inode.ino, -1);
	err = cache_dentry_del(txn, parent.ino, name);
	if (err == 0 && dir)
		err = count_links(txn, parent.ino, -1);
	/* The order of fs/: the inode is held, then the journal hears of it,
	 * then nobody knows it any more. */
	if (err == 0) {
		inode.nlink = 0;
		err = cache_inode_put(txn, &inode);
	}
	if (err == 0)
		err = cache_held_add(txn, inode.ino);
	if (err == 0)
		err = tier_enter(
			m->tier, txn, path, NULL, TIER_DELETE, inode.ino);
	note_epoch(txn, &m->changes[m->changes_nr - 1]);
	if (err == 0)
		err = lose_name(m, txn, inode.ino);
	model_say(m, "    %s %s epoch %llu", dir ? "rmdir" : "unlink", path,
		(unsigned long long)m->changes[m->changes_nr - 1].epoch);
	commit(m, txn, err, "unlink");
	return true;
}

bool call_unlink(struct model *m, const char *path)
{
	return look_up(m, path) == 0 && !m->failed &&
		remove_name(m, path, false);
}

bool call_rmdir(struct model *m, const char *path)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int64_t fresh;

	if (look_up(m, path) < 0 || m->failed || resolve(m, path, &inode) < 0 ||
		inode.kind != CACHE_DIR)
		return false;
	assert(cache_read(m->cache, &txn) == 0);
	fresh = tier_fresh_dir_ns(m->tier, txn, inode.ino);
	cache_abort(txn);
	if (fresh <= 0 &&
		(local_await(m, 20 * S, start_dir, &inode.ino) < 0 ||
			m->failed))
		return false;
	return remove_name(m, path, true);
}

static bool make(struct model *m, const char *path, enum cache_kind kind,
	const char *target)
{
	char dir[256];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent, inode;
	struct cache_txn *txn;
	int version = -1, err;

	if (look_up(m, path) < 0 || m->failed ||
		resolve(m, path, &inode) != -ENOENT ||
		resolve(m, dir, &parent) < 0 || parent.kind != CACHE_DIR)
		return false;
	memset(&inode, 0, sizeof(inode));
	inode.kind = kind;
	inode.mode = kind == CACHE_DIR ? 0755 : 0777;
	inode.nlink = kind == CACHE_DIR ? 2 : 1;
	inode.mtime_ns = base_wall_ns(menv_base(m->env));
	if (target != NULL)
		inode.size_bytes = strlen(target);
	cache_id_new(m->cache, &inode.file);
	if (kind == CACHE_SYMLINK)
		cache_id_new(m->cache, &inode.content);
	version = version_add(m, target ? target : "",
		target ? strlen(target) : 0, target ? strlen(target) : 0,
		false);
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_inode_add(txn, &inode);
	if (err == 0 && target != NULL)
		err = cache_target_set(txn, inode.ino, target);
	if (err == 0)
		err = cache_dentry_add(txn, parent.ino, name, inode.ino);
	if (err == 0 && kind == CACHE_DIR)
		err = count_links(txn, parent.ino, 1);
	note_change(m, txn, path, kind, inode.ino, version);
	if (kind == CACHE_SYMLINK)
		note_ino(m, inode.ino, version);
	if (err == 0)
		err = tier_enter(m->tier, txn, path, &inode,
			kind == CACHE_DIR ? TIER_NEW : TIER_SYMLINK, 0);
	note_epoch(txn, &m->changes[m->changes_nr - 1]);
	model_say(m, "    %s %s ino %llu v%d epoch %llu",
		target ? "symlink" : "mkdir", path,
		(unsigned long long)inode.ino, version,
		(unsigned long long)m->changes[m->changes_nr - 1].epoch);
	commit(m, txn, err, "make");
	return true;
}

bool call_mkdir(struct model *m, const char *path)
{
	return make(m, path, CACHE_DIR, NULL);
}

bool call_symlink(struct model *m, const char *path, struct rnd *r)
{
	char text[256];

	text[new_text(m, r, text, sizeof(text))] = '\0';
	return make(m, path, CACHE_SYMLINK, text);
}

/* ---- rename ---- */

struct tree {
	struct model *m;
	struct cache_txn *txn;
	const char *old_dir, *new_dir;
	struct base_str at; /* path below both */
};

static int note_tree(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct tree *t = arg;
	size_t len = t->at.len;
	char path[512];
	size_t changes_nr = t->m->changes_nr;
	char to[512];
	int err = 0;

	base_str_printf(&t->at, "/%s", dentry->name);
	snprintf(path, sizeof(path), "%s%s", t->old_dir, t->at.data);
	snprintf(to, sizeof(to), "%s%s", t->new_dir, t->at.data);
	/* Older states that are still owed have other names now. */
	for (size_t i = 0; i < changes_nr; i++) {
		struct change c = t->m->changes[i];

		if (strcmp(c.name, path) == 0)
			note_change(t->m, t->txn, to, c.kind, c.ino, c.version);
	}
	note_change(t->m, t->txn, to, inode->kind, inode->ino,
		inode->kind == CACHE_DIR ? version_add(t->m, "", 0, 0, false)
					 : inode_version(t->m, t->txn, inode))
		->open = inode->kind == CACHE_FILE && inode->written;
	note_change(t->m, t->txn, path, CACHE_GONE, inode->ino, -1);
	if (inode->kind == CACHE_DIR)
		err = cache_dentry_each(t->txn, inode->ino, 0, note_tree, t);
	t->at.len = len;
	t->at.data[len] = '\0';
	return err;
}

/* Both ends of a rename, and what lies below a directory. */
static void note_rename(struct model *m, struct cache_txn *txn,
	const char *from, const char *to, const struct cache_inode *inode)
{
	struct tree t = { .m = m,
		.txn = txn,
		.old_dir = from,
		.new_dir = to,
		.at = BASE_STR_INIT };
	int version = inode->kind == CACHE_DIR ? version_add(m, "", 0, 0, false)
					       : inode_version(m, txn, inode);

	note_change(m, txn, to, inode->kind, inode->ino, version)->open =
		inode->kind == CACHE_FILE && inode->written;
	note_change(m, txn, from, CACHE_GONE, inode->ino, -1);
	if (inode->kind == CACHE_DIR)
		cache_dentry_each(txn, inode->ino, 0, note_tree, &t);
	base_str_fini(&t.at);
}

static int refresh_for_rename(struct model *m, const char *from, const char *to)
{
	struct cache_inode inode, target;
	struct cache_txn *txn;
	int64_t fresh;
	bool known;

	if (resolve(m, from, &inode) < 0)
		return -ENOENT;
	if (inode.kind == CACHE_DIR) {
		assert(cache_read(m->cache, &txn) == 0);
		known = tier_tree_known(m->tier, txn, inode.ino);
		cache_abort(txn);
		if (!known &&
			local_await(m, 40 * S, start_tree, &inode.ino) < 0)
			return -EIO;
	}
	if (m->failed || resolve(m, to, &target) < 0 ||
		target.kind != CACHE_DIR)
		return 0;
	assert(cache_read(m->cache, &txn) == 0);
	fresh = tier_fresh_dir_ns(m->tier, txn, target.ino);
	cache_abort(txn);
	if (fresh <= 0 && local_await(m, 20 * S, start_dir, &target.ino) < 0)
		return -EIO;
	return 0;
}

/* A file that is being written goes along as it is now. */
static int catch_up(
	struct model *m, struct cache_txn *txn, struct cache_inode *inode)
{
	struct handle *h = handle_of(m, inode->ino);
	uint64_t allocated;
	int err;

	if (inode->kind != CACHE_FILE || !inode->written || h == NULL ||
		!h->dirty || h->version < 0)
		return 0;
	err = cache_data_stat(
		m->cache, inode->ino, inode->serial, &inode->stamp, &allocated);
	inode->gen++;
	inode->size_bytes = inode->stamp.size_bytes;
	inode->mtime_ns = inode->stamp.mtime_ns;
	inode->stored = false;
	cache_id_new(m->cache, &inode->content);
	h->dirty = false;
	note_ino(m, inode->ino, h->version);
	return err < 0 ? err : cache_inode_put(txn, inode);
}

bool call_rename(struct model *m, const char *from, const char *to)
{
	char from_dir[256], to_dir[256];
	const char *from_name = split(from, from_dir, sizeof(from_dir));
	const char *to_name = split(to, to_dir, sizeof(to_dir));
	struct cache_inode from_parent, to_parent, inode, old;
	struct cache_txn *txn;
	bool replaces, empty = true, below = false;
	size_t first;
	int err;

	if (look_up(m, from) < 0 || m->failed || look_up(m, to) < 0 ||
		m->failed || refresh_for_rename(m, from, to) < 0 || m->failed)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, from_dir, &from_parent);
	if (err == 0)
		err = cache_resolve(txn, to_dir, &to_parent);
	if (err == 0)
		err = cache_resolve(txn, from, &inode);
	replaces = err == 0 && cache_resolve(txn, to, &old) == 0;
	if (err == 0 && inode.kind == CACHE_DIR)
		err = cache_is_below(txn, to_parent.ino, inode.ino, &below);
	if (replaces && old.kind == CACHE_DIR)
		err = cache_dir_is_empty(txn, old.ino, &empty);
	if (err < 0 || below || !empty || to_parent.kind != CACHE_DIR ||
		(replaces &&
			(inode.ino == old.ino ||
				(inode.kind == CACHE_DIR) !=
					(old.kind == CACHE_DIR)))) {
		cache_abort(txn);
		return false;
	}
	err = catch_up(m, txn, &inode);
	first = m->changes_nr;
	note_rename(m, txn, from, to, &inode);
	if (err == 0)
		err = cache_dentry_del(txn, from_parent.ino, from_name);
	if (err == 0)
		err = replaces ? cache_dentry_set(
					 txn, to_parent.ino, to_name, inode.ino)
			       : cache_dentry_add(txn, to_parent.ino, to_name,
					 inode.ino);
	if (err == 0 && inode.kind == CACHE_DIR) {
		err = count_links(txn, from_parent.ino, -1);
		if (err == 0)
			err = count_links(txn, to_parent.ino, replaces ? 0 : 1);
	}
	if (err == 0 && replaces) {
		old.nlink = 0;
		err = cache_inode_put(txn, &old);
		if (err == 0)
			err = cache_held_add(txn, old.ino);
	}
	if (err == 0 && inode.kind == CACHE_DIR)
		err = tier_enter_rename_dir(
			m->tier, txn, from, to, &inode, replaces ? old.ino : 0);
	else if (err == 0)
		err = tier_enter_rename(
			m->tier, txn, from, to, &inode, replaces ? old.ino : 0);
	for (size_t i = first; i < m->changes_nr; i++) {
		if (inode.kind == CACHE_DIR)
			m->changes[i].epoch = 0; /* see check.c */
		else
			note_epoch(txn, &m->changes[i]);
	}
	if (err == 0 && replaces)
		err = lose_name(m, txn, old.ino);
	model_say(m, "    rename %s %s ino %llu%s epoch %llu", from, to,
		(unsigned long long)inode.ino, replaces ? " replaces" : "",
		(unsigned long long)m->changes[first].epoch);
	commit(m, txn, err, "rename");
	return true;
}

bool call_exchange(struct model *m, const char *from, const char *to)
{
	char from_dir[256], to_dir[256];
	const char *from_name = split(from, from_dir, sizeof(from_dir));
	const char *to_name = split(to, to_dir, sizeof(to_dir));
	struct cache_inode from_parent, to_parent, a, b;
	struct cache_txn *txn;
	int err;

	if (look_up(m, from) < 0 || m->failed || look_up(m, to) < 0 ||
		m->failed)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, from_dir, &from_parent);
	if (err == 0)
		err = cache_resolve(txn, to_dir, &to_parent);
	if (err == 0)
		err = cache_resolve(txn, from, &a);
	if (err == 0)
		err = cache_resolve(txn, to, &b);
	if (err < 0 || a.ino == b.ino || a.kind == CACHE_DIR ||
		b.kind == CACHE_DIR) {
		cache_abort(txn);
		return false;
	}
	err = catch_up(m, txn, &a);
	if (err == 0)
		err = catch_up(m, txn, &b);
	note_change(m, txn, to, a.kind, a.ino, inode_version(m, txn, &a))
		->open = a.kind == CACHE_FILE && a.written;
	note_change(m, txn, from, b.kind, b.ino, inode_version(m, txn, &b))
		->open = b.kind == CACHE_FILE && b.written;
	if (err == 0)
		err = cache_dentry_set(txn, from_parent.ino, from_name, b.ino);
	if (err == 0)
		err = cache_dentry_set(txn, to_parent.ino, to_name, a.ino);
	if (err == 0)
		err = tier_enter(m->tier, txn, to, &a, TIER_RENAME, b.ino);
	if (err == 0)
		note_epoch(txn, &m->changes[m->changes_nr - 2]);
	if (err == 0)
		err = tier_enter(m->tier, txn, from, &b, TIER_RENAME, a.ino);
	if (err == 0)
		note_epoch(txn, &m->changes[m->changes_nr - 1]);
	model_say(m, "    exchange %s %s ino %llu %llu", from, to,
		(unsigned long long)a.ino, (unsigned long long)b.ino);
	commit(m, txn, err, "exchange");
	return true;
}

bool call_chmod(struct model *m, const char *path, uint32_t mode)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err;

	if (look_up(m, path) < 0 || m->failed)
		return false;
	assert(cache_write(m->cache, &txn) == 0);
	err = cache_resolve(txn, path, &inode);
	if (err < 0 || inode.ino == CACHE_ROOT_INO || inode.mode == mode) {
		cache_abort(txn);
		return false;
	}
	/* A prefix gets a marker to carry it. */
	if (inode.implicit)
		note_change(m, txn, path, CACHE_DIR, inode.ino,
			version_add(m, "", 0, 0, false));
	inode.mode = mode;
	inode.meta_gen++;
	inode.implicit = false;
	err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = tier_enter(m->tier, txn, path, &inode, TIER_ATTR, 0);
	model_say(m, "    chmod %s %o", path, mode);
	commit(m, txn, err, "chmod");
	return true;
}

/* ---- reading and the rest ---- */

bool call_read(struct model *m, const char *path)
{
	struct cache_inode inode;
	struct stat st;
	uint8_t md5[16];
	int version, fd, err;
	char *bytes;

	if (look_up(m, path) < 0 || m->failed)
		return false;
	err = fetch_whole(m, path, &inode);
	if (m->failed || err == -ENOENT || err == -EISDIR)
		return false;
	if (err < 0) {
		if (!(m->profile & (WITH_FAULTS | WITH_FOREIGN)))
			model_fail(m, "read %s: %s", path, strerror(-err));
		return false;
	}
	if (handle_of(m, inode.ino) != NULL)
		return false;
	fd = cache_data_open(m->cache, inode.ino, inode.serial, O_RDONLY);
	if (fd < 0) {
		model_fail(m, "read %s: no data file", path);
		return false;
	}
	assert(fstat(fd, &st) == 0);
	bytes = base_calloc(1, (size_t)st.st_size + 1);
	assert(pread(fd, bytes, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	blob_md5(bytes, (size_t)st.st_size, md5);
	version = version_find(m, md5);
	model_say(m, "    read %s ino %llu v%d", path,
		(unsigned long long)inode.ino, version);
	if (version < 0)
		model_fail(m, "read %s: bytes that nobody wrote (%.40s)", path,
			bytes);
	else if ((uint64_t)st.st_size != inode.size_bytes)
		model_fail(m, "read %s: %lld bytes, the index says %llu", path,
			(long long)st.st_size,
			(unsigned long long)inode.size_bytes);
	else if (ino_version(m, inode.ino) >= 0 &&
		ino_version(m, inode.ino) != version &&
		!m->versions[ino_version(m, inode.ino)].killed)
		model_fail(m, "read %s: v%d, it was v%d", path, version,
			ino_version(m, inode.ino));
	free(bytes);
	m->calls++;
	return true;
}

bool call_fsync(struct model *m)
{
	struct handle *h = any_handle(m);

	if (h != NULL && h->version >= 0)
		flush_handle(m, h);
	tier_mark_sync(m->tier);
	m->calls++;
	model_say(m, "    fsync");
	return true;
}

bool call_flush(struct model *m, const char *path)
{
	int err = local_await(m, 120 * S, start_flush, (void *)path);

	model_say(m, "    flush of %s: %s", path, strerror(-err));
	return true;
}

bool call_refresh(struct model *m, const char *dir)
{
	struct cache_inode inode;

	if (resolve(m, dir, &inode) < 0 || inode.kind != CACHE_DIR)
		return false;
	local_await(m, 20 * S, start_dir, &inode.ino);
	model_say(m, "    refreshed %s", dir);
	return true;
}

bool call_evict(struct model *m, const char *path)
{
	struct cache_inode inode;
	uint64_t bytes;
	int err;

	if (resolve(m, path, &inode) < 0 || inode.kind != CACHE_FILE)
		return false;
	err = cache_evict_inode(m->cache, inode.ino, &bytes);
	if (err == 0)
		model_say(m, "    evict %s", path);
	return err == 0;
}
