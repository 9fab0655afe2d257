/*
 * The session: whose the index is, the boot, the counters, the totals.
 *
 * meta keys of the session:
 *	store, set, dirs_nr, host, machine	whom the cache belongs to
 *	boot, boot_nr			the boot that last used it
 *	clean				everything was durable at close
 *	flush_nr			last durable flush (sync.c)
 *	recover_nr			the same at the last power cut, + 1,
 *					while recover.c is not done with it
 *	total_*				cache->totals, valid if clean
 *	next_*				counters
 *
 * Unclean means: not closed, and the host has booted since.  Then commits that
 * were not synced are gone, and what the data files hold of the last seconds
 * is unknown; rows that cannot be believed are dropped (local.c).  After the
 * death of a process alone the WAL has everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/session.h"
#include "cache/tree.h"

#define ROOT_MODE 0755
/* Small numbers stay free: cookies for "." and "..". */
#define FIRST_INO 2
#define FIRST_COOKIE 16

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define MACHINE_ID_FILE "/etc/machine-id"

static const struct cache_counter counters_0[CACHE_COUNTERS] = {
	[CACHE_COUNT_INO] = { "next_ino", 4096, FIRST_INO, 0, 0 },
	[CACHE_COUNT_COOKIE] = { "next_cookie", 4096, FIRST_COOKIE, 0, 0 },
	[CACHE_COUNT_COMMIT] = { "next_commit", 1000, 1, 0, 0 },
	[CACHE_COUNT_OWED] = { "next_owed", 4096, 1, 0, 0 },
};

/* A line of a file of the system; "" if it is not there. */
static void read_line(const char *path, char *buf, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, bytes - 1) : 0;

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

/* ---- ids in meta ---- */

static int get_id(struct cache_txn *txn, const char *key, struct cache_id *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn, "SELECT value FROM meta WHERE key = ?");
	cache_db_bind_name(&q, key);
	err = cache_db_one(&q);
	if (err == 0)
		cache_db_id(&q, ret);
	return cache_db_end(&q, err);
}

static int set_id(
	struct cache_txn *txn, const char *key, const struct cache_id *id)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "INSERT OR REPLACE INTO meta VALUES (?, ?)");
	cache_db_bind_name(&q, key);
	cache_db_bind_id(&q, id);
	return cache_db_run(&q);
}

static int new_id(struct cache_txn *txn, const char *key, struct cache_id *ret)
{
	cache_id_new(txn->cache, ret);
	return set_id(txn, key, ret);
}

/* Is meta `key` this text?  A missing one is not. */
static int meta_is(
	struct cache_txn *txn, const char *key, const char *text, bool *ret)
{
	struct base_str s = BASE_STR_INIT;
	int err = cache_meta_get_text(txn, key, &s);

	*ret = err == 0 && strcmp(s.data, text) == 0;
	base_str_fini(&s);
	return err == -ENOENT ? 0 : err;
}

/* ---- totals ---- */

static const char *const total_keys[] = { "total_inodes", "total_local_bytes",
	"total_owed_rows", "total_owed_bytes", "total_owed_aside",
	"total_owed_files" };
#define TOTALS_NR (sizeof(total_keys) / sizeof(total_keys[0]))
_Static_assert(sizeof(struct cache_totals) == TOTALS_NR * sizeof(int64_t),
	"a key for each");

static int save_totals(struct cache_txn *txn)
{
	const int64_t *value = (const int64_t *)&txn->cache->totals;
	int err = 0;

	for (size_t i = 0; i < TOTALS_NR && err == 0; i++)
		err = cache_meta_set_u64(
			txn, total_keys[i], (uint64_t)value[i]);
	return err;
}

static int load_totals(struct cache_txn *txn)
{
	int64_t *value = (int64_t *)&txn->cache->totals;
	int err = 0;

	for (size_t i = 0; i < TOTALS_NR && err == 0; i++)
		err = cache_meta_get_u64(
			txn, total_keys[i], (uint64_t *)&value[i]);
	return err;
}

/* Looks at every row: after a crash only. */
static int scan_totals(struct cache_txn *txn)
{
	struct cache_totals *t = &txn->cache->totals;
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT count(*), coalesce(sum(local_bytes), 0) FROM inode");
	err = cache_db_one(&q);
	if (err == 0) {
		t->inodes = cache_db_i64(&q);
		t->local_bytes = cache_db_i64(&q);
	}
	err = cache_db_end(&q, err);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"SELECT coalesce(sum(state <> 2), 0) + "
		"(SELECT count(*) FROM owed_prefix), "
		"coalesce(sum(state = 2), 0), "
		"coalesce(sum(kind = 1 AND attrs_only = 0), 0), "
		"coalesce(sum(size * (kind = 1 AND attrs_only = 0)), 0), "
		"coalesce(sum(local_bytes), 0) FROM owed");
	err = cache_db_one(&q);
	if (err == 0) {
		t->owed_rows = cache_db_i64(&q);
		t->owed_aside = cache_db_i64(&q);
		t->owed_files = cache_db_i64(&q);
		t->owed_bytes = cache_db_i64(&q);
		t->local_bytes += cache_db_i64(&q);
	}
	return cache_db_end(&q, err);
}
_Static_assert(CACHE_FILE == 1 && CACHE_OWED_ASIDE == 2, "as in the SQL");

/* ---- the session ---- */

static int make_root(struct cache_txn *txn)
{
	const struct cache_config *config = &txn->cache->config;
	struct cache_inode root = { .ino = CACHE_ROOT_INO,
		.kind = CACHE_DIR,
		.mode = ROOT_MODE,
		.uid = config->uid,
		.gid = config->gid,
		.nlink = 2,
		.implicit = true };

	return cache_inode_insert(txn, &root);
}

/* A fresh index; or the check that this one is the store's. */
static int begin_store(
	struct cache_txn *txn, bool fresh, char *why, size_t why_bytes)
{
	struct cache *cache = txn->cache;
	struct base_str store = BASE_STR_INIT;
	uint64_t dirs_nr;
	int err;

	if (fresh) {
		err = cache_meta_set_text(txn, "store", cache->store);
		if (err == 0)
			err = cache_meta_set_u64(
				txn, "dirs_nr", cache->dirs_nr);
		return err != 0 ? err : make_root(txn);
	}
	err = cache_meta_get_text(txn, "store", &store);
	if (err == 0 && strcmp(store.data, cache->store) != 0) {
		snprintf(why, why_bytes,
			"cache directory %s belongs to the store %s: choose "
			"another one for %s with -o cache=",
			cache->dirs[0], store.data, cache->store);
		err = -EEXIST;
	}
	base_str_fini(&store);
	if (err == 0)
		err = cache_meta_get_u64(txn, "dirs_nr", &dirs_nr);
	if (err == 0 && dirs_nr != cache->dirs_nr) {
		/* Files are spread by their number. */
		snprintf(why, why_bytes,
			"cache directory %s is one of %llu directories, not of "
			"%zu: name them all, in their old order",
			cache->dirs[0], (unsigned long long)dirs_nr,
			cache->dirs_nr);
		err = -EEXIST;
	}
	return err;
}

/* A cloned disk is another host: two must never share a name. */
static int begin_host(struct cache_txn *txn, struct cache_id *ret_set)
{
	struct cache *cache = txn->cache;
	char machine[64];
	bool same;
	int err = get_id(txn, "set", ret_set);

	if (err == -ENOENT)
		err = new_id(txn, "set", ret_set);
	if (err != 0)
		return err;
	read_line(MACHINE_ID_FILE, machine, sizeof(machine));
	err = meta_is(txn, "machine", machine, &same);
	if (err == 0)
		err = get_id(txn, "host", &cache->host);
	if (err == -ENOENT || (err == 0 && !same)) {
		if (err == 0)
			log_warn("cache directory %s comes from another "
				 "machine: it gets a new host id",
				cache->dirs[0]);
		err = new_id(txn, "host", &cache->host);
		if (err == 0)
			err = cache_meta_set_text(txn, "machine", machine);
	}
	return err;
}

/* Until all is dealt with, `meta` says which flush was the last before the
 * power cut: a process that dies meanwhile is followed by one that goes on. */
static int begin_recovery(struct cache_txn *txn, bool unclean)
{
	struct cache *cache = txn->cache;
	uint64_t nr = 0;
	int err = cache_meta_get_u64(txn, "recover_nr", &nr);

	if (err == 0 && unclean && nr == 0) {
		nr = cache->durable_flush_nr + 1;
		err = cache_meta_set_u64(txn, "recover_nr", nr);
	}
	cache->recover_nr = nr == 0 ? UINT64_MAX : nr - 1;
	return err;
}

static int begin_boot(struct cache_txn *txn, bool fresh, bool *ret_unclean)
{
	struct cache *cache = txn->cache;
	uint64_t clean = 0;
	char boot[64];
	bool same;
	int err;

	read_line(BOOT_ID_FILE, boot, sizeof(boot));
	err = meta_is(txn, "boot", boot, &same);
	if (err == 0)
		err = cache_meta_get_u64(txn, "boot_nr", &cache->boot_nr);
	if (err == 0)
		err = cache_meta_get_u64(txn, "clean", &clean);
	if (err == 0)
		err = cache_meta_get_u64(
			txn, "flush_nr", &cache->durable_flush_nr);
	if (err == 0 && !same) {
		cache->boot_nr++;
		err = cache_meta_set_text(txn, "boot", boot);
	}
	if (err == 0)
		err = cache_meta_set_u64(txn, "boot_nr", cache->boot_nr);
	if (err == 0)
		err = cache_meta_set_u64(txn, "clean", 0);
	if (err == 0)
		err = clean ? load_totals(txn) : scan_totals(txn);
	/* The root of a fresh index is counted at the commit. */
	cache->totals.inodes -= txn->delta.inodes;
	if (err == 0 && !fresh && !clean && !same)
		err = cache_local_recover(txn, cache->durable_flush_nr);
	if (err == 0)
		err = begin_recovery(txn, !fresh && !clean && !same);
	*ret_unclean = cache->recover_nr != UINT64_MAX;
	return err;
}

static int begin_counters(struct cache_txn *txn)
{
	struct cache *cache = txn->cache;
	uint64_t known;
	int err = 0;

	for (int i = 0; i < CACHE_COUNTERS && err == 0; i++) {
		struct cache_counter *c = &cache->counters[i];

		uint64_t limit;

		err = cache_meta_get_u64(txn, c->key, &limit);
		if (err != 0)
			break;
		if (limit > c->next)
			c->next = limit;
		c->limit = c->saved_limit = limit;
	}
	if (err == 0)
		err = cache_meta_get_u64(txn, "known_seq", &known);
	if (err == 0)
		atomic_store(&cache->known_top, known);
	return err;
}

int cache_session_begin(struct cache *cache, struct cache_opened *opened,
	struct cache_id *ret_set, char *why, size_t why_bytes)
{
	struct cache_txn *txn;
	int err = cache_write(cache, &txn);

	if (err != 0)
		return err;
	err = begin_counters(txn);
	if (err == 0)
		err = begin_store(txn, opened->fresh, why, why_bytes);
	if (err == 0)
		err = begin_host(txn, ret_set);
	if (err == 0)
		err = begin_boot(txn, opened->fresh, &opened->unclean);
	/* Without the root nothing works. */
	if (err == 0) {
		struct cache_inode root;

		err = cache_inode_get(txn, CACHE_ROOT_INO, &root);
	}
	if (err == 0)
		return cache_commit(txn);
	cache_abort(txn);
	return err == -ENOENT ? -EIO : err;
}

void cache_session_init(struct cache *cache)
{
	memcpy(cache->counters, counters_0, sizeof(counters_0));
}

int cache_session_find(struct cache *cache)
{
	struct cache_txn *txn;
	uint64_t clean = 1;
	char boot[64];
	bool same;
	int err = cache_read(cache, &txn);

	if (err != 0)
		return err;
	read_line(BOOT_ID_FILE, boot, sizeof(boot));
	err = meta_is(txn, "boot", boot, &same);
	if (err == 0)
		err = cache_meta_get_u64(txn, "clean", &clean);
	cache_abort(txn);
	cache->goes_on = err == 0 && same && clean == 0 && cache->had_wal;
	return err == -ENOENT ? 0 : err;
}

/* ---- its end ---- */

static int stop_at_one(void *arg, uint64_t ino)
{
	(void)arg;
	(void)ino;
	return 1;
}

int cache_session_end(struct cache *cache)
{
	struct cache_txn *txn;
	int err = cache_write(cache, &txn);

	if (err != 0)
		return err;
	/* Numbers that were reserved and not given are free again. */
	for (int i = 0; i < CACHE_COUNTERS && err == 0; i++)
		err = cache_meta_set_u64(
			txn, cache->counters[i].key, cache->counters[i].next);
	if (err == 0)
		err = save_totals(txn);
	/* Who still has it mapped may go on writing. */
	if (err == 0)
		err = cache_written_each(txn, stop_at_one, NULL);
	if (err >= 0)
		err = cache_meta_set_u64(txn, "clean", err == 0);
	return cache_end(txn, err);
}
