/*
 * The command line.
 *
 * What it is for.  One file a command; what they share is here.  A command
 * talks to a running mount through its control socket alone (fs/fs.h).
 *
 * Threads and locks.  One thread, none.
 *
 * Ownership.  As each function says; a command frees what it made.
 *
 * Errors.  A command returns an exit status, after one line on stderr:
 * "forebay: WHAT: WHY; TODO".
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "fs/fs.h"

typedef int (*cli_command_fn)(int argc, char **argv);

int cli_mount(int argc, char **argv);
int cli_mount_helper(int argc, char **argv);
int cli_umount(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_prefetch(int argc, char **argv);
int cli_flush(int argc, char **argv);
int cli_pin(int argc, char **argv);
int cli_unpin(int argc, char **argv);
int cli_evict(int argc, char **argv);
int cli_locate(int argc, char **argv);
int cli_conflicts(int argc, char **argv);
int cli_upgrade(int argc, char **argv);
int cli_fsck(int argc, char **argv);
int cli_doctor(int argc, char **argv);

/* ---- saying things (cli/text.c) ---- */

/* Prints the line; returns FS_EXIT_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Wrong usage of a command; returns FS_EXIT_USAGE. */
int cli_usage(const char *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* "1.5 GiB"; into buf, which is returned. */
#define CLI_SIZE_CHARS 24
const char *cli_size(uint64_t bytes, char *buf);
/* "12 s", "3 min", "2 h", "5 d". */
#define CLI_AGE_CHARS 24
const char *cli_age(double seconds, char *buf);
/* A path of an answer as text; "?" if it is none. */
const char *cli_path(const json_t *json, struct base_str *buf);
uint64_t cli_number(const json_t *json, const char *key);
/* Prints one line of JSON. */
void cli_print_json(const json_t *json);

/* What the options of a command are: long ones without a value, NULL at the
 * end, and `usage` for --help.  `ret_flags`: one bool for each.  Returns the
 * index of the first operand, or -1 with *ret_status to return. */
int cli_options(int argc, char **argv, const char *command, const char *usage,
	const char *const *names, bool *ret_flags, int *ret_status);

/* ---- a mount (cli/client.c) ---- */

/* A path on a mount: which one, and where in it. */
struct cli_target {
	char *device; /* "MAJOR:MINOR": names the socket */
	char *point;  /* the mount point it was found through */
	char *path;   /* relative to the root of the mount */
};
void cli_target_fini(struct cli_target *target);
/* Finds the mount of a path, through bind mounts too.  Prints why not. */
int cli_target_find(const char *path, struct cli_target *ret);
/* The same without asking the file system for the path itself. */
int cli_target_find_text(const char *path, struct cli_target *ret);

struct cli_client {
	int fd;
	struct base_str in;
};
/* -errno; prints nothing. */
int cli_client_open(const char *device, struct cli_client *ret);
void cli_client_close(struct cli_client *client);
/* The same, and prints why not. */
int cli_client_open_target(
	const struct cli_target *target, struct cli_client *ret);
/* Takes the request. */
int cli_client_send(struct cli_client *client, json_t *request);
/* The next line of the answer; NULL: the mount is gone. */
json_t *cli_client_read(struct cli_client *client);

/* A line of progress or a row; -errno ends it. */
typedef int (*cli_line_fn)(void *arg, const json_t *line);
/* A whole request: the last line, or NULL after an error line of `what` was
 * printed. */
json_t *cli_client_ask(struct cli_client *client, const char *what,
	json_t *request, cli_line_fn line, void *arg);

/* For commands that take paths: finds each, and asks once for each run of
 * paths on one mount.  `make` gives the request without its paths; `done` is
 * given the last line.  Returns an exit status. */
struct cli_paths {
	const char *what;
	json_t *(*make)(void *arg);
	cli_line_fn line;
	int (*done)(void *arg, const json_t *last);
	void *arg;
};
int cli_paths_run(const struct cli_paths *how, char *const *paths, int nr);

#endif
