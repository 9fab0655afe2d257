/* See rig.h. */
#include "tests/lib/rig.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/str.h"

static bool claim(void *arg, uint64_t ino)
{
	struct rig *rig = arg;

	return rig->tier == NULL || !tier_fetching(rig->tier, ino);
}

static void unclaim(void *arg, uint64_t ino)
{
	(void)arg;
	(void)ino;
}

static void inode_changed(void *arg, uint64_t ino)
{
	(void)arg;
	(void)ino;
}

static void entry_changed(void *arg, uint64_t parent, const char *name)
{
	(void)arg;
	(void)parent;
	(void)name;
}

static void state_changed(void *arg, enum blob_state state, const char *why)
{
	struct rig *rig = arg;

	if (rig->tier != NULL)
		tier_store_state(rig->tier, state == BLOB_STATE_UP, why);
}

void rig_init(struct rig *rig)
{
	const char *tmp = getenv("TMPDIR");

	memset(rig, 0, sizeof(*rig));
	snprintf(rig->root, sizeof(rig->root), "%s/forebay-rig.XXXXXX",
		tmp ? tmp : "/tmp");
	assert(mkdtemp(rig->root) != NULL);
	snprintf(rig->store_path, sizeof(rig->store_path), "%s/store",
		rig->root);
	snprintf(rig->cache_path, sizeof(rig->cache_path), "%s/cache",
		rig->root);
	assert(mkdir(rig->store_path, 0755) == 0);
	rig->config.host_name = "testhost";
	rig->config.freshness_ns = 60000000000LL;
	rig->config.store_timeout_ns = 5000000000LL;
	rig->config.writeback_open_ns = 30000000000LL;
	rig->config.read_ahead_bytes = 64 << 20;
	rig->config.fetch_whole_bytes = 8 << 20;
	rig->config.file_mode = 0644;
	rig->config.dir_mode = 0755;
}

void rig_open(struct rig *rig)
{
	const char *dirs[] = { rig->cache_path };
	char url[400], why[300];
	struct cache_opened opened;
	struct cache_config cc = {
		.dirs = dirs,
		.dirs_nr = 1,
		.store = url,
		.limit = 1 << 30,
		.reserve = 1 << 20,
		.dirty_limit = 1 << 30,
		.claim = claim,
		.unclaim = unclaim,
		.arg = rig,
	};
	struct blob_config bc = {
		.url = url,
		.timeout_ms = 5000,
		.state_changed = state_changed,
		.arg = rig,
	};
	int err;

	snprintf(url, sizeof(url), "dir:%s", rig->store_path);
	rig->env = base_pool_new(8);
	cc.env = rig->env;
	err = cache_open(&cc, &rig->cache, &opened, why, sizeof(why));
	if (err < 0)
		fprintf(stderr, "cache_open: %s\n", why);
	assert(err == 0);
	err = blob_store_open(&bc, &rig->store, why, sizeof(why));
	if (err < 0)
		fprintf(stderr, "blob_store_open: %s\n", why);
	assert(err == 0);
	rig->config.cache = rig->cache;
	rig->config.store = rig->store;
	rig->config.env = rig->env;
	rig->config.inode_changed = inode_changed;
	rig->config.entry_changed = entry_changed;
	rig->config.claim = claim;
	rig->config.unclaim = unclaim;
	rig->config.arg = rig;
	assert(tier_open(&rig->config, &rig->tier) == 0);
	cache_start(rig->cache);
	tier_start(rig->tier);
}

void rig_close(struct rig *rig)
{
	struct tier *tier = rig->tier;

	tier_stop(tier);
	blob_store_close(rig->store);
	base_pool_stop(rig->env);
	rig->tier = NULL;
	tier_close(tier);
	cache_close(rig->cache);
	base_pool_free(rig->env);
}

static int remove_one(
	const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void rig_fini(struct rig *rig)
{
	rig_close(rig);
	nftw(rig->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- waiting ---- */

struct waiting {
	struct tier_call call;
	struct base_mutex mutex;
	pthread_cond_t cond;
	bool done;
	int err;
};

static void waiting_done(struct tier_call *call, int err)
{
	struct waiting *w = (struct waiting *)call;

	base_lock(&w->mutex);
	w->done = true;
	w->err = err;
	pthread_cond_signal(&w->cond);
	base_unlock(&w->mutex);
}

int rig_wait(struct rig *rig,
	void (*start)(struct rig *, struct tier_call *, void *arg), void *arg)
{
	struct waiting w = { .call.done = waiting_done };

	base_mutex_init(&w.mutex, BASE_RANK_STAT);
	base_cond_init(&w.cond);
	start(rig, &w.call, arg);
	base_lock(&w.mutex);
	while (!w.done)
		base_cond_wait(&w.cond, &w.mutex);
	base_unlock(&w.mutex);
	base_mutex_fini(&w.mutex);
	return w.err;
}

static void start_flush(struct rig *rig, struct tier_call *call, void *arg)
{
	tier_flush(rig->tier, arg, call);
}

int rig_flush(struct rig *rig, const char *path)
{
	return rig_wait(rig, start_flush, (void *)path);
}

static void start_fetch(struct rig *rig, struct tier_call *call, void *arg)
{
	tier_fetch_whole(rig->tier, *(uint64_t *)arg, false, call);
}

static void start_refresh(struct rig *rig, struct tier_call *call, void *arg)
{
	tier_refresh_dir(rig->tier, *(uint64_t *)arg, call);
}

static uint64_t resolve(
	struct rig *rig, const char *path, struct cache_inode *ret)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	int err;

	assert(cache_read(rig->cache, &txn) == 0);
	err = cache_resolve(txn, path, &inode);
	cache_abort(txn);
	if (err < 0)
		return 0;
	if (ret != NULL)
		*ret = inode;
	return inode.ino;
}

int rig_fetch(struct rig *rig, const char *path)
{
	uint64_t ino = resolve(rig, path, NULL);

	return ino == 0 ? -ENOENT : rig_wait(rig, start_fetch, &ino);
}

int rig_refresh(struct rig *rig, const char *dir)
{
	uint64_t ino = resolve(rig, dir, NULL);

	return ino == 0 ? -ENOENT : rig_wait(rig, start_refresh, &ino);
}

/* ---- what a program does ---- */

static const char *split(const char *path, char *dir, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, size, "%.*s", slash ? (int)(slash - path) : 0, path);
	return slash ? slash + 1 : path;
}

static void write_data(
	struct rig *rig, struct cache_inode *inode, const char *text)
{
	uint64_t allocated;
	int fd = cache_data_open(
		rig->cache, inode->ino, inode->serial, O_WRONLY | O_CREAT);

	assert(fd >= 0);
	assert(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	assert(cache_data_stat(rig->cache, inode->ino, inode->serial,
		       &inode->stamp, &allocated) == 0);
	inode->local_bytes = allocated;
	inode->size_bytes = strlen(text);
	inode->mtime_ns = inode->stamp.mtime_ns;
}

void rig_write(struct rig *rig, const char *path, const char *text)
{
	char dir[1024];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent, inode = { 0 };
	struct cache_txn *txn;

	assert(cache_write(rig->cache, &txn) == 0);
	assert(cache_resolve(txn, dir, &parent) == 0);
	if (cache_resolve(txn, path, &inode) < 0) {
		inode.kind = CACHE_FILE;
		inode.mode = 0644;
		inode.nlink = 1;
		inode.data = CACHE_WHOLE;
		inode.serial = inode.serial_top = 1;
		cache_id_new(rig->cache, &inode.file);
		assert(cache_inode_add(txn, &inode) == 0);
		assert(cache_dentry_add(txn, parent.ino, name, inode.ino) == 0);
	} else {
		assert(cache_data_renew(txn, &inode) == 0);
	}
	write_data(rig, &inode, text);
	inode.gen++;
	inode.stored = false;
	cache_id_new(rig->cache, &inode.content);
	assert(cache_inode_put(txn, &inode) == 0);
	assert(tier_enter(rig->tier, txn, path, &inode, TIER_CONTENT, 0) == 0);
	assert(cache_commit(txn) == 0);
	tier_kick(rig->tier);
}

static void make(struct rig *rig, const char *path, enum cache_kind kind,
	const char *target)
{
	char dir[1024];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent, inode = { 0 };
	struct cache_txn *txn;

	inode.kind = kind;
	inode.mode = kind == CACHE_DIR ? 0755 : 0777;
	inode.nlink = kind == CACHE_DIR ? 2 : 1;
	assert(cache_write(rig->cache, &txn) == 0);
	assert(cache_resolve(txn, dir, &parent) == 0);
	if (kind != CACHE_DIR) /* as fs/op_name.c does */
		cache_id_new(rig->cache, &inode.content);
	cache_id_new(rig->cache, &inode.file);
	assert(cache_inode_add(txn, &inode) == 0);
	if (target != NULL)
		assert(cache_target_set(txn, inode.ino, target) == 0);
	assert(cache_dentry_add(txn, parent.ino, name, inode.ino) == 0);
	assert(tier_enter(rig->tier, txn, path, &inode,
		       kind == CACHE_DIR ? TIER_NEW : TIER_SYMLINK, 0) == 0);
	assert(cache_commit(txn) == 0);
	tier_kick(rig->tier);
}

void rig_mkdir(struct rig *rig, const char *path)
{
	make(rig, path, CACHE_DIR, NULL);
}

void rig_symlink(struct rig *rig, const char *path, const char *target)
{
	make(rig, path, CACHE_SYMLINK, target);
}

static void lose_name(struct cache_txn *txn, struct cache_inode *inode)
{
	bool gone;

	inode->nlink = 0;
	assert(cache_inode_put(txn, inode) == 0);
	assert(cache_held_add(txn, inode->ino) == 0);
	assert(cache_held_put(txn, inode->ino, false, &gone) == 0);
}

void rig_unlink(struct rig *rig, const char *path)
{
	char dir[1024];
	const char *name = split(path, dir, sizeof(dir));
	struct cache_inode parent, inode;
	struct cache_txn *txn;

	assert(cache_write(rig->cache, &txn) == 0);
	assert(cache_resolve(txn, dir, &parent) == 0);
	assert(cache_resolve(txn, path, &inode) == 0);
	assert(cache_dentry_del(txn, parent.ino, name) == 0);
	assert(tier_enter(rig->tier, txn, path, NULL, TIER_DELETE, inode.ino) ==
		0);
	lose_name(txn, &inode);
	assert(cache_commit(txn) == 0);
	tier_kick(rig->tier);
}

void rig_rename(struct rig *rig, const char *from, const char *to)
{
	char from_dir[1024], to_dir[1024];
	const char *from_name = split(from, from_dir, sizeof(from_dir));
	const char *to_name = split(to, to_dir, sizeof(to_dir));
	struct cache_inode from_parent, to_parent, inode, old;
	struct cache_txn *txn;
	bool replaces;

	assert(cache_write(rig->cache, &txn) == 0);
	assert(cache_resolve(txn, from_dir, &from_parent) == 0);
	assert(cache_resolve(txn, to_dir, &to_parent) == 0);
	assert(cache_resolve(txn, from, &inode) == 0);
	replaces = cache_resolve(txn, to, &old) == 0;
	assert(cache_dentry_del(txn, from_parent.ino, from_name) == 0);
	if (replaces)
		assert(cache_dentry_set(
			       txn, to_parent.ino, to_name, inode.ino) == 0);
	else
		assert(cache_dentry_add(
			       txn, to_parent.ino, to_name, inode.ino) == 0);
	if (inode.kind == CACHE_DIR)
		assert(tier_enter_rename_dir(rig->tier, txn, from, to, &inode,
			       replaces ? old.ino : 0) == 0);
	else
		assert(tier_enter_rename(rig->tier, txn, from, to, &inode,
			       replaces ? old.ino : 0) == 0);
	if (replaces)
		lose_name(txn, &old);
	assert(cache_commit(txn) == 0);
	tier_kick(rig->tier);
}

void rig_chmod(struct rig *rig, const char *path, uint32_t mode)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	assert(cache_write(rig->cache, &txn) == 0);
	assert(cache_resolve(txn, path, &inode) == 0);
	inode.mode = mode;
	inode.meta_gen++;
	assert(cache_inode_put(txn, &inode) == 0);
	assert(tier_enter(rig->tier, txn, path, &inode, TIER_ATTR, 0) == 0);
	assert(cache_commit(txn) == 0);
	tier_kick(rig->tier);
}

static char *read_fd(int fd)
{
	struct base_str s = BASE_STR_INIT;
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		base_str_add(&s, buf, (size_t)n);
	close(fd);
	return base_str_take(&s);
}

char *rig_read(struct rig *rig, const char *path)
{
	struct cache_inode inode;
	int fd;

	if (rig_fetch(rig, path) < 0 || resolve(rig, path, &inode) == 0)
		return NULL;
	fd = cache_data_open(rig->cache, inode.ino, inode.serial, O_RDONLY);
	return fd < 0 ? NULL : read_fd(fd);
}

/* ---- the store's side ---- */

char *rig_store_read(struct rig *rig, const char *path)
{
	char full[1400];
	int fd;

	snprintf(full, sizeof(full), "%s/%s", rig->store_path, path);
	fd = open(full, O_RDONLY | O_NOFOLLOW);
	return fd < 0 ? NULL : read_fd(fd);
}

void rig_store_write(struct rig *rig, const char *path, const char *text)
{
	char full[1400], temp[1410];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", rig->store_path, path);
	snprintf(temp, sizeof(temp), "%s.new~", full);
	f = fopen(temp, "w");
	assert(f != NULL);
	fputs(text, f);
	fclose(f);
	assert(rename(temp, full) == 0);
}
