/*
 * Prefetch: makes files and trees local.
 *
 *	resolve the paths, list the trees below them
 *	count: files, bytes, and how much of it is local (--check ends here)
 *	fetch what is not, FETCH_PARALLEL files at a time
 *
 * It can be resumed because nothing is remembered: what is local is skipped.
 * A file that cannot be fetched is counted and named, and the others go on;
 * only a full cache ends it.
 *
 * A background job is a row in the index; one thread (fs_control_jobs_run)
 * does one after the other, also after a remount, until the store has given
 * everything or said that it will not.
 */
#include "fs/control_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Files under way: enough to fill the wire at 20 ms with small files; tier/
 * bounds the requests. */
#define FETCH_PARALLEL 32
#define WALK_BATCH 128
/* Failures that are named; the others are counted. */
#define FAILURES_MAX 10
/* A background job that met a store that is away is tried again after this. */
#define JOB_AGAIN_MS 30000

struct slot {
	struct fs_pending pending;
	bool busy;
	uint64_t ino, size_bytes;
};

struct prefetch {
	struct fs_control_conn *conn;
	struct fs_mount *m;
	struct fs_prefetch_opts opts;
	const char *phase; /* of the progress lines */
	struct fs_waits waits;
	struct cache_inode *roots;
	size_t roots_nr;
	/* Counted beforehand. */
	uint64_t files_total, bytes_total, files_local, bytes_local;
	/* As it goes. */
	uint64_t files_done, bytes_done, fetched_bytes, failed;
	json_t *failures;
	struct slot slots[FETCH_PARALLEL];
	size_t busy;
	int fatal; /* no use to go on */
	int64_t told_ns;
};

/* ---- telling ---- */

/* What has arrived of the files that are under way. */
static uint64_t bytes_under_way(struct prefetch *p)
{
	struct cache_txn *txn;
	uint64_t sum = 0;

	if (p->busy == 0 || cache_read(p->m->cache, &txn) < 0)
		return 0;
	for (size_t i = 0; i < FETCH_PARALLEL; i++) {
		uint64_t bytes = 0;

		if (p->slots[i].busy &&
			cache_extent_bytes(txn, p->slots[i].ino, &bytes) == 0)
			sum += bytes;
	}
	cache_abort(txn);
	return sum;
}

static json_t *sums(struct prefetch *p, uint64_t under_way)
{
	json_int_t bytes_done = (json_int_t)p->bytes_done;
	json_int_t fetched = (json_int_t)p->fetched_bytes;

	bytes_done += (json_int_t)under_way;
	fetched += (json_int_t)under_way;
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"phase", p->phase, "files_total", (json_int_t)p->files_total,
		"bytes_total", (json_int_t)p->bytes_total, "files_local",
		(json_int_t)p->files_local, "bytes_local",
		(json_int_t)p->bytes_local, "files_done",
		(json_int_t)p->files_done, "bytes_done", bytes_done,
		"fetched_bytes", fetched, "failed", (json_int_t)p->failed);
}

static int tell(void *arg)
{
	struct prefetch *p = arg;
	int64_t now = base_boot_ns(p->m->env);

	if (p->conn->fd < 0 ||
		now - p->told_ns < FS_CONTROL_TICK_MS * 1000000LL)
		return 0;
	p->told_ns = now;
	return fs_control_say(p->conn, sums(p, bytes_under_way(p)));
}

static void add_failure(struct prefetch *p, json_t *path, int err)
{
	p->failed++;
	if (json_array_size(p->failures) >= FAILURES_MAX) {
		json_decref(path);
		return;
	}
	json_array_append_new(p->failures,
		json_pack("{s:o, s:s, s:i}", "path", path, "error",
			strerrordesc_np(-err), "errno", -err));
}

static void add_failure_ino(struct prefetch *p, uint64_t ino, int err)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_txn *txn;

	if (cache_read(p->m->cache, &txn) == 0) {
		if (cache_path_of(txn, ino, &path) < 0)
			base_str_clear(&path);
		cache_abort(txn);
	}
	/* One that was deleted meanwhile is no failure. */
	if (path.data != NULL && path.data[0] != '\0')
		add_failure(p, fs_path_json(path.data), err);
	base_str_fini(&path);
}

/* ---- names ---- */

static bool is_end(int err)
{
	return err == -EPIPE || err == -ECANCELED;
}

static int list_tree(struct prefetch *p, uint64_t ino)
{
	struct fs_pending pending;

	tier_refresh_tree(p->m->tier, ino, fs_pending_arm(&pending, &p->waits));
	return fs_waits_one(&p->waits, p->conn, &pending, tell, p);
}

/* Fills in the roots; what is not there is a failure of its own. */
static int resolve_all(struct prefetch *p, char *const *paths, size_t nr)
{
	p->roots = base_calloc(nr, sizeof(*p->roots));
	for (size_t i = 0; i < nr; i++) {
		struct cache_inode *root = &p->roots[p->roots_nr];
		int err = fs_control_resolve(p->conn, paths[i], root);

		if (err == 0 && root->kind == CACHE_DIR && !p->opts.check)
			err = list_tree(p, root->ino);
		if (err == 0)
			err = tell(p);
		if (is_end(err))
			return err;
		if (err == 0)
			p->roots_nr++;
		else
			add_failure(p,
				fs_path_json(paths[i][0] ? paths[i] : "/"),
				err);
	}
	return 0;
}

static int pin_all(struct prefetch *p)
{
	struct cache_txn *txn;
	int err = cache_write(p->m->cache, &txn);

	if (err < 0)
		return err;
	for (size_t i = 0; i < p->roots_nr && err == 0; i++)
		err = cache_pin_set(txn, p->roots[i].ino, true);
	return cache_end(txn, err);
}

/* ---- counting ---- */

static int count_part(struct prefetch *p, const struct cache_inode *inode)
{
	struct cache_txn *txn;
	uint64_t bytes = 0;
	int err = cache_read(p->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_extent_bytes(txn, inode->ino, &bytes);
	cache_abort(txn);
	p->bytes_local += bytes;
	return err;
}

static bool is_local(const struct cache_inode *inode)
{
	return inode->data == CACHE_WHOLE || inode->size_bytes == 0;
}

static int count_tree(struct prefetch *p, const struct cache_inode *root)
{
	struct cache_inode batch[WALK_BATCH];
	struct fs_walk walk;
	ssize_t n;
	int err = 0;

	fs_walk_init(&walk, p->m->cache, root);
	while (err == 0 && (n = fs_walk_next(&walk, batch, WALK_BATCH)) != 0) {
		err = n < 0 ? (int)n : 0;
		for (ssize_t i = 0; i < n && err == 0; i++) {
			p->files_total++;
			p->bytes_total += batch[i].size_bytes;
			if (is_local(&batch[i])) {
				p->files_local++;
				p->bytes_local += batch[i].size_bytes;
			} else if (batch[i].data == CACHE_PART) {
				err = count_part(p, &batch[i]);
			}
		}
		if (err == 0)
			err = tell(p);
	}
	fs_walk_fini(&walk);
	return err;
}

/* What will never fit is said at once, not after hours. */
static int check_room(struct prefetch *p)
{
	struct cache_space space;

	cache_space_get(p->m->cache, &space);
	return p->bytes_total - p->bytes_local > space.limit_bytes ? -ENOSPC
								   : 0;
}

/* ---- fetching ---- */

static void start_fetch(struct prefetch *p, const struct cache_inode *inode)
{
	struct slot *slot = p->slots;

	while (slot->busy)
		slot++;
	slot->busy = true;
	slot->ino = inode->ino;
	slot->size_bytes = inode->size_bytes;
	p->busy++;
	tier_fetch_whole(p->m->tier, inode->ino, true,
		fs_pending_arm(&slot->pending, &p->waits));
}

static void end_fetch(struct prefetch *p, struct fs_pending *pending)
{
	struct slot *slot = (struct slot *)pending;
	int err = pending->err;

	slot->busy = false;
	p->busy--;
	if (err == 0) {
		p->files_done++;
		p->bytes_done += slot->size_bytes;
		p->fetched_bytes += slot->size_bytes;
		return;
	}
	if (err == -ENOENT || err == -EINTR)
		return;
	if (err == -ENOSPC)
		p->fatal = err;
	add_failure_ino(p, slot->ino, err);
}

/* Waits until fewer than `most` are under way. */
static int wait_below(struct prefetch *p, size_t most)
{
	while (p->busy >= most) {
		struct fs_pending *done;
		int err = fs_waits_poll(
			&p->waits, p->conn, FS_CONTROL_TICK_MS, &done);

		while (done != NULL) {
			struct fs_pending *next = done->next;

			end_fetch(p, done);
			done = next;
		}
		if (err == 0)
			err = tell(p);
		if (err == 0)
			err = p->fatal;
		if (err < 0)
			return err;
	}
	return 0;
}

static void cancel_all(struct prefetch *p)
{
	struct fs_pending *done;

	for (size_t i = 0; i < FETCH_PARALLEL; i++)
		if (p->slots[i].busy)
			tier_cancel(p->m->tier, &p->slots[i].pending.call);
	while (p->busy > 0) {
		fs_waits_poll(&p->waits, NULL, -1, &done);
		for (; done != NULL; done = done->next) {
			((struct slot *)done)->busy = false;
			p->busy--;
		}
	}
}

static int fetch_tree(struct prefetch *p, const struct cache_inode *root)
{
	struct cache_inode batch[WALK_BATCH];
	struct fs_walk walk;
	ssize_t n;
	int err = 0;

	fs_walk_init(&walk, p->m->cache, root);
	while (err == 0 && (n = fs_walk_next(&walk, batch, WALK_BATCH)) != 0) {
		err = n < 0 ? (int)n : 0;
		for (ssize_t i = 0; i < n && err == 0; i++) {
			if (is_local(&batch[i])) {
				p->files_done++;
				p->bytes_done += batch[i].size_bytes;
				err = tell(p);
				continue;
			}
			err = wait_below(p, FETCH_PARALLEL);
			if (err == 0)
				start_fetch(p, &batch[i]);
		}
	}
	fs_walk_fini(&walk);
	return err;
}

/* ---- one prefetch ---- */

static int fetch_all(struct prefetch *p)
{
	int err = check_room(p);

	p->phase = "fetch";
	for (size_t i = 0; i < p->roots_nr && err == 0; i++)
		err = fetch_tree(p, &p->roots[i]);
	if (err == 0)
		err = wait_below(p, 1);
	cancel_all(p);
	return err;
}

static int run(struct prefetch *p, char *const *paths, size_t nr)
{
	int err = resolve_all(p, paths, nr);

	p->phase = "count";
	if (err == 0 && p->opts.pin)
		err = pin_all(p);
	for (size_t i = 0; i < p->roots_nr && err == 0; i++)
		err = count_tree(p, &p->roots[i]);
	if (err == 0 && !p->opts.check && !p->opts.meta)
		err = fetch_all(p);
	return err;
}

static json_t *last_line(struct prefetch *p, int err)
{
	struct cache_space space;
	json_t *j;

	if (err == -ENOSPC) {
		cache_space_get(p->m->cache, &space);
		j = fs_control_error(err,
			"no room: %llu bytes are to be fetched, and the cache "
			"holds %llu, pinned and dirty ones included; raise "
			"cache_size, unpin, or name less",
			(unsigned long long)(p->bytes_total - p->bytes_local),
			(unsigned long long)space.limit_bytes);
	} else if (err < 0) {
		j = fs_control_error(err, "%s",
			err == -ECANCELED ? "the mount ends"
					  : strerrordesc_np(-err));
	} else {
		j = json_pack("{s:b}", "done", 1);
	}
	p->phase = "end";
	json_object_update_missing_new(j, sums(p, 0));
	json_object_set(j, "failures", p->failures);
	return j;
}

json_t *fs_prefetch_run(struct fs_control_conn *conn, char *const *paths,
	size_t nr, const struct fs_prefetch_opts *opts)
{
	struct prefetch *p = base_calloc(1, sizeof(*p));
	json_t *j;
	int err;

	p->conn = conn;
	p->m = conn->m;
	p->opts = *opts;
	p->phase = "list";
	p->failures = json_array();
	err = fs_waits_init(&p->waits);
	if (err == 0) {
		err = run(p, paths, nr);
		fs_waits_fini(&p->waits);
	}
	j = last_line(p, err);
	json_decref(p->failures);
	free(p->roots);
	free(p);
	return j;
}

/* ---- the command ---- */

static json_t *add_jobs(struct fs_control_conn *conn, char *const *paths,
	size_t nr, const struct fs_prefetch_opts *opts)
{
	struct cache_txn *txn;
	int err = cache_write(conn->m->cache, &txn);

	if (err < 0)
		goto out;
	for (size_t i = 0; i < nr && err == 0; i++) {
		struct cache_job job = { .path = paths[i],
			.pin = opts->pin,
			.meta_only = opts->meta };

		err = cache_job_add(txn, &job);
	}
	err = cache_end(txn, err);
	if (err == 0)
		err = cache_sync_index(conn->m->cache);
out:
	if (err < 0)
		return fs_control_error(
			err, "the index: %s", strerrordesc_np(-err));
	fs_control_kick_jobs(conn->control);
	return json_pack("{s:b, s:I}", "done", 1, "jobs", (json_int_t)nr);
}

json_t *fs_control_prefetch(struct fs_control_conn *conn, const json_t *request)
{
	struct fs_prefetch_opts opts = {
		.pin = json_is_true(json_object_get(request, "pin")),
		.meta = json_is_true(json_object_get(request, "meta")),
		.check = json_is_true(json_object_get(request, "check")),
	};
	json_t *answer = NULL;
	char **paths;
	size_t nr;

	if (fs_control_paths(request, &paths, &nr, &answer) < 0)
		return answer;
	if (json_is_true(json_object_get(request, "background")))
		answer = add_jobs(conn, paths, nr, &opts);
	else
		answer = fs_prefetch_run(conn, paths, nr, &opts);
	fs_control_paths_free(paths, nr);
	return answer;
}

/* ---- jobs that outlive their command ---- */

static int take_job(void *arg, const struct cache_job *job)
{
	struct cache_job *ret = arg;

	if (job->id <= ret->id)
		return 0;
	*ret = *job;
	ret->path = base_strdup(job->path);
	return 1;
}

/* The first job after `after`. */
static int next_job(struct fs_mount *m, uint64_t after, struct cache_job *ret)
{
	struct cache_txn *txn;
	int err = cache_read(m->cache, &txn);

	memset(ret, 0, sizeof(*ret));
	ret->id = after;
	if (err < 0)
		return err;
	err = cache_job_each(txn, take_job, ret);
	cache_abort(txn);
	return err == 0 ? -ENOENT : err < 0 ? err : 0;
}

static void drop_job(struct fs_mount *m, uint64_t id)
{
	struct cache_txn *txn;

	if (cache_write(m->cache, &txn) < 0)
		return;
	cache_end(txn, cache_job_del(txn, id));
}

/* True: it is over, one way or the other. */
static bool run_job(struct fs_control_conn *conn, const struct cache_job *job)
{
	struct fs_prefetch_opts opts = { .pin = job->pin,
		.meta = job->meta_only };
	json_t *j = fs_prefetch_run(conn, &job->path, 1, &opts);
	const json_t *failure =
		json_array_get(json_object_get(j, "failures"), 0);
	json_int_t err = json_integer_value(json_object_get(j, "errno"));
	json_int_t failed = json_integer_value(json_object_get(j, "failed"));
	json_int_t first =
		json_integer_value(json_object_get(failure, "errno"));
	bool over = err != ECANCELED && first != EIO && first != EINTR;

	if (over && err == 0 && failed == 0)
		log_info("prefetch of /%s: done", job->path);
	else if (over)
		log_warn("prefetch of /%s: given up: %s", job->path,
			err != 0
				? json_string_value(json_object_get(j, "error"))
				: strerrordesc_np((int)first));
	json_decref(j);
	return over;
}

void fs_control_jobs_run(struct fs_control_conn *conn, int kick_fd)
{
	struct pollfd pfds[] = {
		{ .fd = conn->stop_fd, .events = POLLIN },
		{ .fd = kick_fd, .events = POLLIN },
	};
	struct cache_job job;
	uint64_t count;
	int timeout_ms;

	for (;;) {
		uint64_t last = 0;

		timeout_ms = -1;
		while (poll(pfds, 1, 0) == 0 &&
			next_job(conn->m, last, &job) == 0) {
			last = job.id;
			if (run_job(conn, &job))
				drop_job(conn->m, job.id);
			else
				timeout_ms = JOB_AGAIN_MS;
			free(job.path);
		}
		if (poll(pfds, 2, timeout_ms) < 0 && errno != EINTR)
			return;
		if (pfds[0].revents != 0)
			return;
		if (pfds[1].revents != 0 &&
			read(kick_fd, &count, sizeof(count)) < 0 &&
			errno != EAGAIN)
			return;
	}
}
