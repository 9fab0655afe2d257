/*
 * What the files of the control socket share.  Private.
 *
 * A command is a function that runs on its connection's thread, writes rows
 * and progress with fs_control_say(), and returns its last line.
 *
 * Threads and locks: see control.h.  The mutex of struct fs_waits guards the
 * list of calls that are done, nothing else.
 * Ownership: a json_t that is passed to a function here is the function's.
 * Errors: -EPIPE the client left, -ECANCELED the mount ends.
 */
#ifndef FS_CONTROL_PRIV_H
#define FS_CONTROL_PRIV_H

#include "base/lock.h"
#include "base/str.h"
#include "fs/control.h"
#include "fs/fs.h"

/* Progress lines come this often, and a client that left is noticed. */
#define FS_CONTROL_TICK_MS 200

/* Who a command works for: a client, or (fd -1) nobody. */
struct fs_control_conn {
	struct fs_control *control;
	struct fs_mount *m;
	int fd;
	int stop_fd; /* readable: the mount ends */
};

/* Does what one line asks for, and sends the last line of the answer. */
int fs_control_line(struct fs_control_conn *conn, const char *text, size_t len);
/* Sends one line. */
int fs_control_say(struct fs_control_conn *conn, json_t *line);
/* A last line: an error with its number and text. */
json_t *fs_control_error(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- waiting for tier/ ---- */

struct fs_waits;
struct fs_pending {
	struct tier_call call;
	struct fs_waits *waits;
	struct fs_pending *next; /* in the list of those done */
	int err;
};
struct fs_waits {
	int fd; /* readable: some are done */
	struct base_mutex mutex;
	struct fs_pending *done;
};

int fs_waits_init(struct fs_waits *waits);
/* None may be pending. */
void fs_waits_fini(struct fs_waits *waits);
/* The call to give to tier/. */
struct tier_call *fs_pending_arm(
	struct fs_pending *pending, struct fs_waits *waits);
/* Waits for calls, the client's leaving, the mount's end, or the time; -1 ms:
 * without end.  `ret_done`: those that are done. */
int fs_waits_poll(struct fs_waits *waits, struct fs_control_conn *conn,
	int timeout_ms, struct fs_pending **ret_done);
/* Waits for the one call that is pending, calling `tick` meanwhile; if that or
 * the waiting fails the call is cancelled, and waited for. */
typedef int (*fs_tick_fn)(void *arg);
int fs_waits_one(struct fs_waits *waits, struct fs_control_conn *conn,
	struct fs_pending *pending, fs_tick_fn tick, void *arg);

/* ---- paths ---- */

/* The paths of a request, checked; freed by fs_control_paths_free().  -EINVAL
 * and the last line to send. */
int fs_control_paths(const json_t *request, char ***ret_paths, size_t *ret_nr,
	json_t **ret_error);
void fs_control_paths_free(char **paths, size_t nr);
/* The inode a path names; asks the store where the index is not current. */
int fs_control_resolve(struct fs_control_conn *conn, const char *path,
	struct cache_inode *ret);

/* ---- walking a tree in the index (control_walk.c) ---- */

struct fs_walk_frame {
	uint64_t ino, cookie;
};
/* Where a walk is: bounded by the depth of the tree. */
struct fs_walk {
	struct cache *cache;
	struct fs_walk_frame *frames;
	size_t nr, cap;
	bool has_file;
	struct cache_inode file; /* a root that is a file */
	struct cache_inode *out; /* during a batch */
	size_t out_nr, out_max;
	uint64_t enter; /* directory to go down into next */
};
void fs_walk_init(struct fs_walk *walk, struct cache *cache,
	const struct cache_inode *root);
void fs_walk_fini(struct fs_walk *walk);
/* The next files, in one short transaction; 0: that was all. */
ssize_t fs_walk_next(struct fs_walk *walk, struct cache_inode *ret, size_t max);

/* ---- the commands ---- */

typedef json_t *(*fs_control_fn)(
	struct fs_control_conn *conn, const json_t *request);
json_t *fs_control_status(struct fs_control_conn *, const json_t *);
json_t *fs_control_pending(struct fs_control_conn *, const json_t *);
json_t *fs_control_conflicts(struct fs_control_conn *, const json_t *);
json_t *fs_control_settle(struct fs_control_conn *, const json_t *);
json_t *fs_control_flush(struct fs_control_conn *, const json_t *);
json_t *fs_control_pin(struct fs_control_conn *, const json_t *);
json_t *fs_control_evict(struct fs_control_conn *, const json_t *);
json_t *fs_control_locate(struct fs_control_conn *, const json_t *);
json_t *fs_control_prefetch(struct fs_control_conn *, const json_t *);

/* One prefetch; `request` may hold many paths. */
struct fs_prefetch_opts {
	bool pin, meta, check;
};
json_t *fs_prefetch_run(struct fs_control_conn *conn, char *const *paths,
	size_t nr, const struct fs_prefetch_opts *opts);

/* ---- of struct fs_control ---- */

const struct fs_control_config *fs_control_config(struct fs_control *control);
/* Background jobs were added. */
void fs_control_kick_jobs(struct fs_control *control);
/* The thread of the background jobs. */
void fs_control_jobs_run(struct fs_control_conn *conn, int kick_fd);

#endif
