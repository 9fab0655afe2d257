/*
 * The life of a mount without a kernel: opened, closed, killed; what fs/ does
 * with cache/ and tier/ then.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/model/disk.h"
#include "tests/model/local.h"

/* ---- callbacks ---- */

struct handle *local_handle(struct model *m, uint64_t ino)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used && m->handles[i].ino == ino)
			return &m->handles[i];
	}
	return NULL;
}

bool local_is_open(struct model *m, uint64_t ino)
{
	for (int i = 0; i < READERS_MAX; i++) {
		if (m->readers[i].used && m->readers[i].ino == ino)
			return true;
	}
	return local_handle(m, ino) != NULL;
}

bool local_claim(void *arg, uint64_t ino)
{
	struct model *m = arg;

	return !local_is_open(m, ino) &&
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
		cache_held_put(txn, ino, local_is_open(m, ino), &gone);
		assert(cache_commit(txn) == 0);
		if (ino < m->inos_cap && !local_is_open(m, ino))
			m->ino_version[ino] = -1;
	}
	base_str_fini(&held);
}

/* After a mount nobody has anything open: what the last process left. */
static void take_left(struct model *m)
{
	struct base_str written = BASE_STR_INIT;
	struct cache_txn *txn;
	struct cache_inode inode;

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

static int note_doubt(void *arg, const struct cache_inode *inode)
{
	struct model *m = arg;

	note_ino(m, inode->ino, local_bytes(m, inode, true));
	/* Its rows are no more: what was not shown by now never will be. */
	for (size_t i = 0; i < m->changes_nr; i++) {
		if (m->changes[i].ino == inode->ino) {
			m->changes[i].epoch = 0;
			m->changes[i].left = true;
		}
	}
	count(m,
		inode->doubt == CACHE_UNCONFIRMED ? COUNT_UNCONFIRMED
						  : COUNT_RECOVERED);
	model_say(m, "    after the cut: ino %llu is %s, v%d",
		(unsigned long long)inode->ino,
		inode->doubt == CACHE_UNCONFIRMED ? "unconfirmed" : "recovered",
		ino_version(m, inode->ino));
	return 0;
}

struct survivors {
	struct model *m;
	struct cache_txn *txn;
};

/* What is shown as whole is a state that somebody wrote. */
static int note_survivor(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct survivors *s = arg;
	int version;

	if (inode->kind == CACHE_DIR)
		return cache_dentry_each(
			s->txn, inode->ino, 0, note_survivor, s);
	if (inode->kind != CACHE_FILE || inode->data != CACHE_WHOLE ||
		inode->doubt != CACHE_SURE)
		return 0;
	version = local_bytes(s->m, inode, false);
	if (version < 0)
		model_fail(s->m, "after the cut: %s (ino %llu) is torn",
			dentry->name, (unsigned long long)inode->ino);
	else if (ino_version(s->m, inode->ino) < 0)
		note_ino(s->m, inode->ino, version);
	return 0;
}

/* After a power cut: what nothing proves has the bytes that are left of it, and
 * nobody gave them to the store. */
static void take_doubts(struct model *m)
{
	struct survivors s = { .m = m };

	assert(tier_recover(m->tier) == 0);
	assert(cache_read(m->cache, &s.txn) == 0);
	assert(cache_doubt_each(s.txn, note_doubt, m) == 0);
	cache_dentry_each(s.txn, CACHE_ROOT_INO, 0, note_survivor, &s);
	cache_abort(s.txn);
}

void local_open(struct model *m)
{
	const char *dirs[] = { m->dirs[m->dir] };
	struct cache_config cc;
	struct cache_opened opened;
	char why[300];
	int err;

	disk_begin(m, dirs[0]);
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
	if (opened.unclean)
		take_doubts(m);
	local_forget(m);
	if (!opened.unclean) {
		take_left(m);
		local_recover(m);
	}
	tier_start(m->tier);
}

static void forget_handles(struct model *m)
{
	for (int i = 0; i < HANDLES_MAX; i++) {
		if (m->handles[i].used && m->handles[i].fd >= 0)
			close(m->handles[i].fd);
		m->handles[i].used = false;
	}
	for (int i = 0; i < READERS_MAX; i++) {
		if (m->readers[i].used)
			close(m->readers[i].fd);
		m->readers[i].used = false;
	}
}

void local_close(struct model *m)
{
	struct tier *tier = m->tier;
	struct rnd r = { m->seed };

	while (call_close(m, &r) || call_shut(m))
		;
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

/* The process dies between two steps, and perhaps the machine with it. */
static void die(struct model *m, bool cut)
{
	const char *old = m->dirs[m->dir], *new = m->dirs[!m->dir];
	uint64_t left = 0;

	forget_handles(m);
	if (cut)
		left = disk_cut(m, old, new);
	else
		disk_crash(old, new);
	mstore_orphan(m->store);
	m->tier = NULL; /* and its memory with the process */
	cache_close(m->cache);
	menv_free(m->env);
	m->cache = NULL;
	m->env = NULL;
	m->dir = !m->dir;
	m->life++;
	if (cut)
		note_cut(m, left);
	local_open(m);
}

void local_crash(struct model *m)
{
	count(m, COUNT_CRASH);
	die(m, false);
}

void local_cut(struct model *m)
{
	count(m, COUNT_CUT);
	die(m, true);
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
		disk_copy(m->dirs[0], template, "set");
		disk_copy(m->dirs[0], template, "index.db");
	}
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/index.db-wal", m->dirs[i]);
		unlink(path);
		snprintf(path, sizeof(path), "%s/index.db-shm", m->dirs[i]);
		unlink(path);
		disk_empty(m->dirs[i]);
	}
	disk_copy(template, m->dirs[0], "index.db");
	disk_copy(template, m->dirs[0], "set");
	m->dir = 0;
}
