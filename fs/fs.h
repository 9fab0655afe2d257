/*
 * What fs/ shows to the command line.
 *
 * What it is for.  `forebay mount` runs a mount from start to end; the other
 * commands talk to a running one through its control socket, whose protocol is
 * described here and spoken by fs/control.c and cli/client.c.
 *
 * Threads and locks.  Called by a process with one thread; fs_mount_run()
 * forks.
 *
 * Ownership.  Arguments stay the caller's; strings that come back are freed by
 * the caller.
 *
 * Errors.  What a user must know goes to stderr, in one line that says what,
 * why and what to do; the result is an exit status.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* ---- exit status ---- */

#define FS_EXIT_DONE 0
#define FS_EXIT_FAILED 1
#define FS_EXIT_USAGE 2

/* ---- mounting ---- */

struct fs_mount_args {
	const char *store, *mountpoint;
	const char *options; /* comma separated, or NULL */
	bool foreground;
	bool fake;   /* -f of mount(8): check, mount nothing */
	bool sloppy; /* -s: unknown options are ignored */
};

/* Mounts.  In the background it returns when the mount answers; in the
 * foreground when it has ended. */
int fs_mount_run(const struct fs_mount_args *args);

/* What the keeper starts: `forebay worker`, an exit status. */
int fs_worker_run(int argc, char **argv);

/* ---- without a mount ---- */

struct fs_fsck_args {
	const char *cache_dirs;	 /* DIR[:DIR...] */
	const char *credentials; /* for `store`; NULL: the environment */
	bool repair, store;
};
/*
 * Checks a cache that is not mounted.  Always a report: "found" (array of
 * "what", "name", "ino", "text"), "files", "bytes", "wrong", "moved", "lost",
 * "clean", "repaired", with `store` also "blobs".  *ret_err: 0, or -errno and
 * one line in ret_why.
 */
json_t *fs_fsck(const struct fs_fsck_args *args, int *ret_err, char *ret_why,
	size_t why_bytes);

/* What this host and, if not NULL, this store offer: an array of "check",
 * "state" ("ok", "lacks", "bad": a mount would fail) and "text". */
json_t *fs_doctor(const char *store, const char *credentials);

/* ---- finding a mount ---- */

/* Holds a socket MAJOR:MINOR.sock for each mount, named by the device number
 * that stat(2) gives for every path on it, through bind mounts too. */
#define FS_CONTROL_DIR "/run/forebay"
#define FS_TYPE "fuse.forebay"

/* One line of /proc/self/mountinfo. */
struct fs_mountinfo {
	char *device; /* "MAJOR:MINOR" */
	char *root;   /* what of the file system is shown there */
	char *point;  /* where */
	char *type;
	char *source;
};
void fs_mountinfo_fini(struct fs_mountinfo *info);
/* The mount on top at exactly this path, or, with `inside`, the one that shows
 * this path.  The path is absolute and resolved.  -ENOENT.  Asks nothing of
 * the mounted file system. */
int fs_mountinfo_find(const char *path, bool inside, struct fs_mountinfo *ret);
/* Some mount of this device; -ENOENT. */
int fs_mountinfo_device(const char *device, struct fs_mountinfo *ret);

/* ---- the control protocol ---- */

/*
 * A stream socket.  A request is one JSON object on one line; the answer is
 * JSON objects, one a line: progress, rows, and last one with "done" (true) or
 * "error" (text) and "errno".  One request at a time; more may follow on the
 * same connection.  Who closes the connection gives up what it waits for.
 *
 *	{"cmd": "status"}
 *	{"cmd": "pending"}			rows: {"row": {...}}
 *	{"cmd": "conflicts", "path": P}		rows: {"row": {...}}
 *	{"cmd": "flush", "paths": [P...]}	progress: {"pending", ...}
 *	{"cmd": "pin" | "unpin", "paths": [P...]}
 *	{"cmd": "evict", "paths": [P...]}
 *	{"cmd": "locate", "paths": [P...], "pin": B}
 *	{"cmd": "prefetch", "paths": [P...], "pin": B, "meta": B,
 *	 "background": B, "check": B}		progress: {"files_done", ...}
 *	{"cmd": "upgrade", "binary": TEXT}	an error, or the connection ends:
 *						another worker answers
 *
 * Paths are relative to the root of the mount, "" for the root itself; see
 * fs_path_json().
 */

/* Longest request, newline included: batches of names are cut to fit. */
#define FS_CONTROL_LINE_MAX (1u << 20)
/* Paths of one request. */
#define FS_CONTROL_PATHS_MAX 4096

/* A path as JSON: a string, or {"b64": TEXT} where it is not UTF-8. */
json_t *fs_path_json(const char *path);
/* -EINVAL: neither, or with a NUL in it.  Appends. */
int fs_path_of_json(const json_t *json, struct base_str *ret);

#endif
