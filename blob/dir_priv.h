/*
 * Inside the `dir:` store.
 *
 * What it is for.  What the files blob/dir*.c share: an opened reservoir
 * (struct dir_root), a request at work (struct dir_job), what is stored with a
 * blob (struct dir_blob), and the steps of a mutation.
 *
 * Threads and locks.  Each job runs on one pool thread.  The mutexes of struct
 * blob_dir are never nested and never held across fsync; `publish` covers only
 * comparing and renaming, together with an flock() that keeps other processes
 * on the same reservoir out.
 *
 * Ownership.  Functions that return a descriptor give it to the caller.
 *
 * Errors.  -errno, turned into a blob_result by dir_errno() once, in the
 * handler of the operation.
 *
 * On disk, below PATH/.forebay (0700 each, made at the first mutation):
 *   tmp/RANDOM               what is being made, or was just replaced
 *   stage/HASH-BOOT/ID       staged blocks of one name.  They are not synced:
 *                            the boot id in the name makes those of an earlier
 *                            boot count as dropped (BLOB_BAD_BLOCKS), as a
 *                            service drops them after a week.
 *   meta/HH/INO-BTIME.meta   a record that does not go into an xattr
 *   meta/HH/INO-BTIME.blocks the block list
 *   lock                     flock()ed while names are exchanged
 *
 * The record is one xattr, `user.forebay.meta`: a change of it is atomic.  It
 * keeps what the file looked like when it was stored.  If (inode, btime, size,
 * mtime) differ now, somebody else wrote the file: MD5, block list and the key
 * `forebay` no longer hold and times come from the file.  If mode or owner
 * differ, somebody used chmod or chown: what they set is shown.  Keys that we
 * do not know are kept through both.
 *
 * The ETag is a hash of (inode, btime, size, mtime, ctime) and of the record's
 * random number, so that two of our own changes within one tick of a coarse
 * clock differ.  A ctime younger than 20 ms is waited out where stamps are
 * coarse and the file is not of our making.  A *directory*'s ETag hashes
 * (inode, btime, mode, owner) and the record's number only: children that come
 * and go move its size and times, and are no change of the marker.
 */
#ifndef BLOB_DIR_PRIV_H
#define BLOB_DIR_PRIV_H

#include "base/lock.h"
#include "base/str.h"
#include "blob/store.h"

#include <sys/stat.h>
#include <sys/types.h>

/* Pool threads when the caller names no number: enough to keep one disk busy
 * while some of them wait in fsync. */
#define DIR_THREADS 8
#define DIR_THREADS_MAX 64
/* A piece of a GET or of a copy: bounds memory, and how late a cancel is. */
#define DIR_PIECE_BYTES (1u << 20)
#define DIR_PAGE_MAX 5000
/* Listings in the middle; the oldest is dropped and its directory read anew if
 * it is asked for again. */
#define DIR_CURSORS_MAX 8
#define DIR_CURSOR_IDLE_NS (60 * 1000000000ll)
/* How often a path that is gone is looked for. */
#define DIR_PROBE_NS (3 * 1000000000ll)
#define DIR_TIMEOUT_MS 60000
/* Staged blocks and left-over temporary files live this long (a week, as the
 * service's). */
#define DIR_STALE_S (7 * 24 * 3600)
/* Stamps before Linux 6.13 are this coarse at most, with a margin. */
#define DIR_COARSE_NS (20 * 1000000ll)
/* Parent directories that vanish while we publish below them. */
#define DIR_RETRY_MAX 8
/* A symlink's target (PATH_MAX, with its NUL). */
#define DIR_TARGET_MAX 4096

/* An opened reservoir directory; replaced when PATH comes back as another. */
struct dir_root {
	unsigned refs; /* under blob_dir.lock */
	int fd;
	uint64_t dev, ino;
	bool fine_stamps;
	_Atomic bool stale; /* open PATH anew */
	char boot[17];	    /* hex, part of stage names */
	struct base_mutex sys_lock;
	/* -1 until opened; under sys_lock, constant once set */
	int tmp_fd, stage_fd, meta_fd, lock_fd;
};

struct dir_job {
	struct blob_req *req;
	struct blob_dir *store;
	struct dir_root *root; /* while it runs */
	struct dir_job *next, *prev;
	int64_t submitted_ns, timeout_ns; /* CLOCK_MONOTONIC */
	_Atomic bool cancelled;
};

struct dir_queue {
	struct dir_job *head, *tail;
};

struct dir_cursor;

struct blob_dir {
	struct blob_store base;
	char *path;
	uint32_t timeout_ms;
	void (*state_changed)(void *arg, enum blob_state, const char *why);
	void *state_arg;
	unsigned threads_nr;
	pthread_t *threads; /* started by open, joined by close */
	pthread_t watcher;  /* the same */

	struct base_mutex lock;
	/* ---- under lock ---- */
	pthread_cond_t work;
	pthread_cond_t watch;
	struct dir_queue foreground, background;
	unsigned running_background;
	int64_t progress_ns; /* when a job last began or ended */
	bool closing;
	struct dir_root *root; /* NULL: the path is gone */
	char *id;	       /* content of .forebay/id when last seen */
	size_t id_len;
	bool id_known;

	struct base_mutex state_lock; /* orders state_changed() calls */
	_Atomic int state;

	struct base_mutex publish;

	struct base_mutex cursor_lock;
	/* ---- under cursor_lock ---- */
	struct dir_cursor *cursors[DIR_CURSORS_MAX];
	uint64_t cursor_next;
};

/* ---- dir.c ---- */
/* Does what the request asks, from its first look at the root to the last. */
enum blob_result dir_run(struct dir_job *job);
/* Looks whether the path is there (again), and reports a change. */
void dir_probe(struct blob_dir *store);
enum blob_result dir_fail(struct blob_req *req, enum blob_result result,
	int err, const char *code);
/* The result for -errno. */
enum blob_result dir_errno(struct blob_req *req, int err);

/* ---- dir_pool.c ---- */
int64_t dir_now_ns(void); /* CLOCK_MONOTONIC */
/* -EINTR: cancelled or closing; asked between pieces. */
int dir_job_check(struct dir_job *job);
void dir_submit(struct blob_store *base, struct blob_req *req);
void dir_cancel(struct blob_store *base, struct blob_req *req);
/* -EAGAIN: nothing was started. */
int dir_pool_start(struct blob_dir *store);
void dir_pool_stop(struct blob_dir *store);

/* ---- dir_root.c ---- */
/* Opens and checks the directory at store->path. */
int dir_root_open(const char *path, struct dir_root **ret_root);
void dir_root_free(struct dir_root *root);
/* Makes .forebay and what is in it, once; drops what is stale. */
int dir_root_prepare(struct dir_root *root);
/* Removes `name` and, if it is a directory, the files in it. */
void dir_remove_shallow(int at, const char *name);
/* The descriptor of .forebay/meta, or -1 if there is none. */
int dir_root_meta_fd(struct dir_root *root);

/* ---- dir_path.c ---- */
/* 0, -EINVAL or -ENAMETOOLONG. */
int dir_name_check(const char *name);
/* One of the store's own names below .forebay? */
bool dir_name_own(const char *name);
/* openat2() below `at`, following no symlink; a walk where it is missing. */
int dir_open_beneath(int at, const char *path, int flags);
/* The directory that holds `name`, and the last component of `name`. */
int dir_open_parent(const struct dir_root *root, const char *name, int *ret_fd,
	const char **ret_last);
/* The same, making the directories that are missing (durably). */
int dir_make_parent(struct dir_root *root, const char *name, int *ret_fd,
	const char **last);
/* The object itself, O_PATH, never following a symlink. */
int dir_open_object(const struct dir_root *root, const char *name);
/* A readable descriptor of a regular file or directory opened O_PATH. */
int dir_reopen(int path_fd, int flags);
int dir_write_all(int fd, const void *buf, size_t len);
/* Copies by reflink or in the kernel where it can; between pieces it asks
 * dir_job_check().  -EIO if the source ends early. */
int dir_copy_range(struct dir_job *job, int from, uint64_t from_offset, int to,
	uint64_t to_offset, uint64_t len_bytes);
/* Target of the symlink opened O_PATH; length, or -errno. */
ssize_t dir_read_target(int path_fd, char *buf, size_t bytes);
void dir_hex(const uint8_t *bytes, size_t len, char *ret);
uint64_t dir_random(void);

/* ---- dir_implicit.c ---- */
/* Makes the directory path[0..len), complete with the mark that nobody asked
 * for it, so that it never shows without. */
int dir_implicit_make(struct dir_root *root, const char *path, size_t len);
/* Removes those above `name` that have the mark and nothing in them.  Under
 * the publish lock.  Not synced: one that comes back does no harm. */
void dir_implicit_prune(struct dir_root *root, const char *name);

/* ---- dir_meta.c, dir_record.c ---- */
struct dir_stat {
	uint64_t dev, ino, size, rdev;
	int64_t btime_ns, mtime_ns, ctime_ns;
	uint32_t mode, uid, gid;
};

/* What is stored with a blob. */
struct dir_record {
	bool present;
	bool content_ok; /* nobody else wrote the file since */
	bool attrs_ok;	 /* nobody else changed mode or owner since */
	bool implicit;	 /* a directory made only to hold something */
	bool has_md5;
	uint8_t md5[16];
	uint64_t nonce;	  /* new with every change */
	uint64_t content; /* new with the bytes; binds the block list */
	/* what the file looked like when this was stored */
	struct dir_stat was;
	struct blob_kv *meta, *headers;
	size_t meta_nr, headers_nr;
};

struct dir_blob {
	struct dir_stat st;
	struct dir_record rec;
	char etag[BLOB_ETAG_MAX];
};

int dir_stat_fd(int fd, struct dir_stat *ret);
/* `settle`: wait out a ctime that is too young (not under a lock). */
int dir_blob_load(
	struct dir_root *root, int path_fd, bool settle, struct dir_blob *ret);
void dir_blob_fini(struct dir_blob *blob);
/* Same object with the same bytes, whatever rename did to its ctime. */
bool dir_blob_same(const struct dir_blob *a, const struct dir_blob *b);
/* What HEAD and LIST show of it. */
int dir_blob_props(const struct dir_blob *blob, struct blob_props *ret);
/*
 * Gives the object the real mode, owner and time that `rec->meta` names (best
 * effort) and stores the record with it; nonce and `was` are set here.
 * ret_sync: a descriptor to fsync for the record's sake (a side file), or -1.
 */
int dir_record_store(struct dir_root *root, int path_fd, struct dir_record *rec,
	int *ret_sync);
/* The attributes in a set of metadata keys; kind FILE and nothing else set
 * where they say nothing. */
void dir_meta_posix(
	const struct blob_kv *meta, size_t meta_nr, struct blob_posix *ret);
void dir_record_fini(struct dir_record *rec);
/* On disk form. */
void dir_record_encode(const struct dir_record *rec, struct base_str *ret);
int dir_record_decode(const void *buf, size_t len, struct dir_record *ret);

/* Side files of one inode (dir_side.c). */
int dir_side_read(struct dir_root *root, const struct dir_stat *st,
	const char *suffix, char **ret, size_t *ret_len);
/* Atomic; synced by the caller through ret_sync if that is not NULL, here
 * otherwise. */
int dir_side_write(struct dir_root *root, const struct dir_stat *st,
	const char *suffix, const void *buf, size_t len, int *ret_sync);
void dir_side_drop(struct dir_root *root, const struct dir_stat *st);
void dir_side_unlink(
	struct dir_root *root, const struct dir_stat *st, const char *suffix);
/* The block list of a blob; *ret_nr is 0 if it has none that holds. */
int dir_blocks_load(struct dir_root *root, const struct dir_blob *blob,
	struct blob_block **ret, size_t *ret_nr);
/* Bound to the record's `content`: stored before the blob becomes visible. */
int dir_blocks_store(struct dir_root *root, const struct dir_stat *st,
	uint64_t content, const struct blob_block *blocks, size_t nr);

/* ---- dir_publish.c ---- */
enum dir_shape {
	DIR_SHAPE_FILE,
	DIR_SHAPE_DIR,
	DIR_SHAPE_SYMLINK,
};

/* Something being made below .forebay/tmp. */
struct dir_tmp {
	enum dir_shape shape;
	char name[24];
	int fd; /* O_RDWR for a file, O_PATH otherwise; -1: none */
};
#define DIR_TMP_INIT                   \
	{                              \
		DIR_SHAPE_FILE, "", -1 \
	}

int dir_tmp_file(struct dir_root *root, struct dir_tmp *ret);
int dir_tmp_dir(struct dir_root *root, struct dir_tmp *ret);
int dir_tmp_symlink(
	struct dir_root *root, const char *target, struct dir_tmp *ret);
/* Turns a finished file into what its metadata say it is (a symlink whose
 * bytes can be a target, an empty directory); otherwise it stays a file. */
int dir_tmp_shape(struct dir_root *root, struct dir_tmp *tmp,
	const struct blob_kv *meta, size_t meta_nr);
/* Stores the record and makes the object durable. */
int dir_tmp_seal(struct dir_root *root, struct dir_tmp *tmp,
	struct dir_record *rec, const struct blob_block *blocks, size_t nr);
/* Removes what was not published. */
void dir_tmp_drop(struct dir_root *root, struct dir_tmp *tmp);

/* Is the condition of this request given, and true as things are?  An early
 * answer: dir_publish() asks again.  BLOB_OK or the request's result. */
enum blob_result dir_cond_check(struct dir_job *job, bool replaces_only);
/* Makes `tmp` the blob `req->name` under the request's condition, durably, and
 * fills req->props. */
enum blob_result dir_publish(struct dir_job *job, struct dir_tmp *tmp);
/* Takes and drops the store's lock, for all processes. */
void dir_publish_lock(struct dir_job *job);
void dir_publish_unlock(struct dir_job *job);
/* etag and mtime of an answered mutation. */
void dir_answer(struct blob_req *req, const struct dir_blob *blob);

/* ---- the operations ---- */
enum blob_result dir_op_head(struct dir_job *job);
enum blob_result dir_op_get(struct dir_job *job);
enum blob_result dir_op_get_blocks(struct dir_job *job);
enum blob_result dir_op_list(struct dir_job *job);
enum blob_result dir_op_put(struct dir_job *job);
enum blob_result dir_op_delete(struct dir_job *job);
enum blob_result dir_op_copy(struct dir_job *job);
enum blob_result dir_op_set_meta(struct dir_job *job);
enum blob_result dir_op_put_block(struct dir_job *job);
enum blob_result dir_op_put_block_url(struct dir_job *job);
enum blob_result dir_op_commit(struct dir_job *job);
/* Makes the bytes that were written to `tmp` what the request's metadata say
 * they are, and seals it.  md5: of them, or NULL. */
int dir_seal_bytes(struct dir_job *job, struct dir_tmp *tmp,
	const uint8_t md5[16], const struct blob_block *blocks, size_t nr);
/* Writes a request's body into fd, checking its length and MD5. */
int dir_body_write(struct dir_job *job, const struct blob_body *body, int fd);

/* ---- dir_stage.c, dir_list.c ---- */
void dir_stage_drop(struct dir_root *root, const char *name);
void dir_cursors_expire(struct blob_dir *store, int64_t now_ns);
void dir_cursors_free(struct blob_dir *store);

#endif
