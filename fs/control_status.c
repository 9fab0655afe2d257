/* What `forebay status` is told. */
#include "fs/control_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/link.h"

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static double seconds(int64_t ns)
{
	int64_t ms = ns / 1000000;

	return ms > 0 ? (double)ms / 1e3 : 0;
}

static json_t *path_value(const char *path)
{
	return fs_path_json(path);
}

/* ---- status ---- */

static int count_jobs(void *arg, const struct cache_job *job)
{
	(void)job;
	++*(uint64_t *)arg;
	return 0;
}

static int read_counts(
	struct fs_mount *m, struct cache_counts *ret, uint64_t *ret_jobs)
{
	struct cache_txn *txn;
	int err = cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_counts_get(txn, ret);
	if (err == 0)
		err = cache_job_each(txn, count_jobs, ret_jobs);
	cache_abort(txn);
	return err;
}

static void add_processes(json_t *j, struct fs_control_conn *conn)
{
	const struct fs_control_config *config =
		fs_control_config(conn->control);
	struct fs_mount *m = conn->m;
	char why[512];
	const char *state = config->store_state(config->arg, why, sizeof(why));

	json_object_set_new(j, "store", path_value(m->opt.store));
	json_object_set_new(j, "mountpoint", path_value(m->opt.mountpoint));
	json_object_set_new(j, "state", json_string(state));
	if (why[0] != '\0')
		json_object_set_new(j, "state_why", path_value(why));
	json_object_set_new(j, "device", json_string(config->device));
	json_object_set_new(j, "version", json_string(FOREBAY_VERSION));
	json_object_set_new(j, "keeper_pid", json_integer(config->keeper_pid));
	json_object_set_new(j, "worker_pid", json_integer(getpid()));
	json_object_set_new(
		j, "worker_restarts", json_integer(m->link->mount.restarts));
	json_object_set_new(j, "uptime_s",
		json_real(seconds(base_boot_ns(m->env) - m->started_ns)));
	json_object_set_new(j, "read_only", json_boolean(m->opt.ro));
	json_object_set_new(j, "passthrough", json_boolean(m->passthrough));
}

static void add_cache(json_t *j, struct fs_mount *m,
	const struct cache_counts *counts, uint64_t jobs)
{
	struct cache_space space;
	json_t *dirs = json_array();

	cache_space_get(m->cache, &space);
	for (size_t i = 0; i < m->opt.cache_dirs_nr; i++)
		json_array_append_new(dirs, path_value(m->opt.cache_dirs[i]));
	json_object_set_new(j, "cache_dirs", dirs);
	json_object_set_new(j, "cache_bytes", number(space.used_bytes));
	json_object_set_new(j, "cache_limit_bytes", number(space.limit_bytes));
	json_object_set_new(j, "reserve_bytes", number(space.reserve_bytes));
	json_object_set_new(
		j, "dirty_limit_bytes", number(space.dirty_limit_bytes));
	json_object_set_new(j, "fs_free_bytes", number(space.fs_free_bytes));
	json_object_set_new(j, "inodes", number(counts->inodes));
	json_object_set_new(j, "pins", number(counts->pins));
	json_object_set_new(j, "jobs", number(jobs));
}

static void add_tier(json_t *j, const struct tier_status *s)
{
	json_object_set_new(j, "dirty_bytes", number(s->dirty_bytes));
	json_object_set_new(j, "dirty_files", number(s->dirty_files));
	json_object_set_new(
		j, "oldest_dirty_s", json_real(seconds(s->oldest_dirty_ns)));
	json_object_set_new(j, "pending", number(s->pending));
	json_object_set_new(j, "groups", number(s->groups));
	json_object_set_new(j, "held_by",
		s->held_by[0] != '\0' ? path_value(s->held_by) : json_null());
	json_object_set_new(j, "held_s", json_real(seconds(s->held_ns)));
	json_object_set_new(j, "conflicts", number(s->conflicts));
	json_object_set_new(j, "set_aside", number(s->set_aside));
	json_object_set_new(j, "unconfirmed", number(s->unconfirmed));
	json_object_set_new(j, "recovered", number(s->recovered));
	json_object_set_new(j, "hit_bytes", number(s->hit_bytes));
	json_object_set_new(j, "miss_bytes", number(s->miss_bytes));
	json_object_set_new(j, "sent_bytes", number(s->sent_bytes));
	json_object_set_new(j, "store_waits", number(s->waits));
	json_object_set_new(j, "ahead_files", number(s->ahead_files));
	json_object_set_new(j, "ahead_used", number(s->ahead_used));
	json_object_set_new(j, "open_flights", number(s->open_flights));
}

/* ---- what a power cut left in doubt ---- */

/* More names than that are counted only. */
#define DOUBT_NAMES_MAX 100

struct doubts {
	struct cache_txn *txn;
	json_t *list;
};

static int add_doubt(void *arg, const struct cache_inode *inode)
{
	struct doubts *d = arg;
	struct base_str path = BASE_STR_INIT;
	json_t *j = json_object();

	if (cache_path_of(d->txn, inode->ino, &path) == 0) {
		json_object_set_new(j, "name", path_value(path.data));
		json_object_set_new(j, "state",
			json_string(inode->doubt == CACHE_RECOVERED
					? "recovered"
					: "unconfirmed"));
		json_array_append(d->list, j);
	}
	json_decref(j);
	base_str_fini(&path);
	return json_array_size(d->list) == DOUBT_NAMES_MAX;
}

static void add_doubts(json_t *j, struct fs_mount *m)
{
	struct doubts d = { .list = json_array() };

	if (cache_read(m->cache, &d.txn) == 0) {
		cache_doubt_each(d.txn, add_doubt, &d);
		cache_abort(d.txn);
	}
	json_object_set_new(j, "in_doubt", d.list);
}

json_t *fs_control_status(struct fs_control_conn *conn, const json_t *request)
{
	struct cache_counts counts = { 0 };
	struct tier_status status;
	uint64_t jobs = 0;
	json_t *j;
	int err = tier_status(conn->m->tier, &status);

	(void)request;
	if (err == 0)
		err = read_counts(conn->m, &counts, &jobs);
	if (err < 0)
		return fs_control_error(err,
			"the index cannot be read: %s; see the log",
			strerrordesc_np(-err));
	j = json_object();
	add_processes(j, conn);
	add_cache(j, conn->m, &counts, jobs);
	add_tier(j, &status);
	add_doubts(j, conn->m);
	json_object_set_new(j, "done", json_true());
	return j;
}
