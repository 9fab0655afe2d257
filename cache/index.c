/*
 * Opening and closing a cache.
 *
 * Order of an open: directories and locks, data directories (which may refuse
 * the file system), the index, the session (one FULL commit: from then on the
 * WAL is a file whose fdatasync makes commits durable), then the rest of the
 * folder.  A failure takes it all back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/dirs.h"
#include "cache/session.h"

static int set_synchronous(struct cache *cache, bool full)
{
	sqlite3 *db = cache->write_conn->db;
	int code = sqlite3_exec(db,
		full ? "PRAGMA synchronous = FULL"
		     : "PRAGMA synchronous = NORMAL",
		NULL, NULL, NULL);

	return cache_db_errno(
		db, code, cache->opening ? NULL : "PRAGMA synchronous");
}

/* ---- open ---- */

static void explain(struct cache *cache, int err, char *why, size_t why_bytes)
{
	if (why[0] != '\0')
		return;
	if (err == -EIO)
		snprintf(why, why_bytes,
			"the index in %s is damaged or cannot be read: run "
			"forebay fsck %s, or move the cache directory away "
			"(what was not sent to the store stays in its data "
			"files)",
			cache->dirs[0], cache->dirs[0]);
	else
		snprintf(why, why_bytes, "cache directory %s: %s: %s",
			cache->dirs[0], strerrordesc_np(-err),
			err == -ENOSPC ? "free some space there"
				       : "choose another one with -o cache=");
}

/* Others read nothing here; SQLite gives its other files the same mode. */
static int make_index_file(struct cache *cache, bool *ret_made)
{
	int fd = openat(cache->dir_fds[0], CACHE_INDEX_FILE,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	*ret_made = true;
	close(fd);
	return 0;
}

static int open_index(struct cache *cache, struct cache_opened *opened,
	struct cache_dirs_undo *undo, char *why, size_t why_bytes)
{
	struct cache_id set;
	int err = make_index_file(cache, &undo->made_index);
	if (err == 0)
		err = cache_conn_open(cache, true, &cache->write_conn);
	if (err == 0)
		err = cache_schema_open(cache, &opened->fresh, why, why_bytes);
	if (err == 0 && !opened->fresh)
		err = cache_session_find(cache);
	if (err == 0)
		err = set_synchronous(cache, !cache->goes_on);
	if (err == 0)
		err = cache_session_begin(cache, opened, &set, why, why_bytes);
	if (err == 0)
		err = set_synchronous(cache, false);
	if (err == 0)
		err = cache_dirs_check_set(cache, &set, why, why_bytes);
	if (err == 0 && !cache->goes_on && fsync(cache->dir_fds[0]) != 0)
		err = -errno;
	if (err == 0)
		err = cache_sync_open(cache);
	if (err == 0)
		err = cache_space_open(cache);
	return err;
}

static struct cache *new_cache(const struct cache_config *config)
{
	struct cache *cache = base_calloc(1, sizeof(*cache));

	cache->opening = true;
	cache->env = config->env;
	cache->config = *config;
	cache->store = base_strdup(config->store);
	cache->config.store = cache->store;
	cache_session_init(cache);
	base_mutex_init(&cache->writer, BASE_RANK_CACHE_WRITER);
	base_mutex_init(&cache->readers_mutex, BASE_RANK_CACHE_READERS);
	base_cond_init(&cache->readers_cond);
	base_mutex_init(&cache->totals_mutex, BASE_RANK_STAT);
	base_mutex_init(&cache->taken_mutex, BASE_RANK_STAT);
	return cache;
}

static void free_cache(struct cache *cache)
{
	cache_dirs_close(cache);
	base_mutex_fini(&cache->writer);
	base_mutex_fini(&cache->readers_mutex);
	pthread_cond_destroy(&cache->readers_cond);
	base_mutex_fini(&cache->totals_mutex);
	base_mutex_fini(&cache->taken_mutex);
	free(cache->store);
	free(cache);
}

/* All connections; no transaction is open. */
static void close_conns(struct cache *cache)
{
	struct cache_conn *conn;

	while ((conn = cache->readers_free) != NULL) {
		cache->readers_free = conn->next;
		cache->readers_nr--;
		cache_conn_close(conn);
	}
	cache_conn_close(cache->write_conn);
	cache->write_conn = NULL;
}

int cache_open(const struct cache_config *config, struct cache **ret_cache,
	struct cache_opened *ret_opened, char *ret_why, size_t why_bytes)
{
	struct cache *cache = new_cache(config);
	struct cache_dirs_undo undo = { 0 };
	struct cache_opened opened = { 0 };
	int err;

	ret_why[0] = '\0';
	err = cache_dirs_open(cache, &undo, ret_why, why_bytes);
	cache->config.dirs = (const char *const *)cache->dirs;
	cache->had_wal = err == 0 &&
		faccessat(cache->dir_fds[0], CACHE_WAL_FILE, F_OK,
			AT_SYMLINK_NOFOLLOW) == 0;
	if (err == 0)
		err = cache_salvage(
			cache, opened.salvaged, sizeof(opened.salvaged));
	if (err == 0)
		err = cache_data_prepare(cache, ret_why, why_bytes);
	if (err == 0)
		err = open_index(cache, &opened, &undo, ret_why, why_bytes);
	cache_salvage_end(cache);
	if (err != 0) {
		if (cache->dirs_nr != 0)
			explain(cache, err, ret_why, why_bytes);
		cache_space_stop(cache);
		cache_data_stop(cache);
		cache_sync_close(cache);
		cache_space_close(cache);
		close_conns(cache);
		cache_data_finish(cache, true);
		cache_dirs_undo(cache, &undo);
		free_cache(cache);
		return err;
	}
	cache->opening = false;
	*ret_cache = cache;
	*ret_opened = opened;
	return 0;
}

void cache_start(struct cache *cache)
{
	cache_sync_start(cache);
	cache_space_start(cache);
}

/* ---- close ---- */

void cache_close(struct cache *cache)
{
	int err;

	if (cache == NULL)
		return;
	/* The executor may be at work still. */
	cache_space_stop(cache);
	cache_data_stop(cache);
	/* One syncfs for what was fetched and for what is dirty: on a busy disk
	 * each can take seconds. */
	cache_flush_nr(cache);
	err = cache_sync_flush(cache);
	cache_sync_close(cache);
	cache_space_close(cache);
	if (err == 0)
		err = set_synchronous(cache, true);
	if (err == 0)
		err = cache_session_end(cache);
	if (err != 0)
		log_error("cache: %s could not be closed cleanly: %s",
			cache->dirs[0], strerrordesc_np(-err));
	close_conns(cache);
	cache_data_finish(cache, false);
	free_cache(cache);
}

const struct cache_id *cache_host(const struct cache *cache)
{
	return &cache->host;
}

int cache_root_fd(const struct cache *cache)
{
	return cache->dir_fds[0];
}
