/*
 * The model: the real reconciler on one thread, in a world of its own.
 *
 * What it is for.  A history is a list of steps made from a seed: calls of
 * programs, actions of a second writer, faults, crashes, remounts.  The model
 * runs it against cache/ and tier/ as they are, on an in-memory store and with
 * a virtual clock, and checks what WRITEBACK.md promises.  The same seed gives
 * the same history; a failing one is made shorter, step by step.
 *
 * The parts:
 *   env.c      executor, clock and randomness (struct base_env)
 *   store.c    the store, its faults, and the second writer's hands
 *   local.c    what fs/ does for a program's calls
 *   steps.c    histories: made, run, printed
 *   check.c    what must hold while a history runs, and at its end
 *   main.c     command line, processes, shrinking
 *
 * Threads: one.  Errors: the first broken promise is kept (model_fail), the
 * history ends there.
 */
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blob/store.h"
#include "cache/cache.h"
#include "tier/tier.h"

#define MS 1000000LL
#define S 1000000000LL

/* ---- numbers ---- */

struct rnd {
	uint64_t state;
};
uint64_t rnd_next(struct rnd *r);
static inline uint64_t rnd_below(struct rnd *r, uint64_t n)
{
	return rnd_next(r) % n;
}
static inline bool rnd_pct(struct rnd *r, unsigned percent)
{
	return rnd_below(r, 100) < percent;
}

/* ---- versions: every state of bytes that a file ever had ---- */

/* `head`, then zeroes up to size: small to keep, large to send. */
struct version {
	char *head;
	size_t head_len;
	uint64_t size;
	uint8_t md5[16];
	bool foreign; /* the second writer made it (too) */
	bool local;
	bool killed; /* the second writer took it away where it was shown */
};

/* ---- the store ---- */

struct mblock {
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	char *bytes;
	uint64_t len;
};

struct mblob {
	char *name;
	bool there;
	uint64_t etag;
	int version; /* of its bytes */
	bool has_md5;
	int64_t mtime_ns;
	struct blob_kv *meta, *headers;
	size_t meta_nr, headers_nr;
	struct mblock *blocks; /* committed, bytes NULL */
	size_t blocks_nr;
	struct mblock *staged;
	size_t staged_nr;
	/* checks */
	bool touched;	/* by the second writer, ever */
	int foreign;	/* version it put last, -1: none standing */
	uint64_t tag;	/* its metadata key `color`, 0: none */
	uint64_t shown; /* newest change of ours shown, see struct change */
};

/* ---- what the local programs said, for the order ---- */

struct change {
	uint64_t nr;	/* from 1 */
	uint64_t epoch; /* 0: never entered the line by itself */
	char *name;
	enum cache_kind kind;
	int version; /* -1: none */
	uint64_t ino;
	bool open; /* its writer has not closed it */
	int seen;  /* version that the index said the store shows: -1 */
	/* It stayed open for so long that it may have left its place. */
	bool left;
	int64_t at_ns;
};

struct handle {
	bool used, written;
	uint64_t ino;
	int version; /* of what is in the data file, -1: a step between */
	bool dirty;  /* since the last flush */
	int seen;    /* what the store showed at the open, as we knew, or -1 */
	int fd;
	uint64_t serial;
};

enum profile {
	WITH_FAULTS = 1, /* lost and late answers, refusals */
	WITH_CRASHES = 2,
	WITH_FOREIGN = 4,
	WITH_LARGE = 8,
	WITH_REMOUNTS = 16,
	WITH_DIRS = 32, /* directories are renamed */
	WITH_OPEN = 64, /* files are held open */
	PROFILE_ALL = 127,
};

#define HANDLES_MAX 4

struct menv;
struct step;

struct model {
	uint64_t seed;
	unsigned profile;
	bool verbose;
	struct rnd rnd;
	/* the world */
	struct menv *env;
	int64_t now_ns;
	char dirs[2][64];
	unsigned dir;  /* which of them is in use */
	uint64_t life; /* of the process: requests of earlier ones are dead */
	/* the program under test */
	struct cache *cache;
	struct tier *tier;
	struct blob_store *store;
	struct tier_config config;
	bool closing;
	/* the store */
	struct mblob *blobs;
	size_t blobs_nr;
	uint64_t etag;
	int *etag_version; /* by ETag */
	const char **etag_name;
	bool faults; /* on */
	/* knowledge */
	struct version *versions;
	size_t versions_nr;
	uint64_t texts; /* given */
	struct change *changes;
	size_t changes_nr;
	struct handle handles[HANDLES_MAX];
	int *taken; /* versions of the second writer that went away here */
	size_t taken_nr;
	int *ino_version; /* what a file should hold, by ino; -1 */
	uint64_t inos_cap;
	uint64_t groups; /* of earlier lives */
	unsigned calls;	 /* of programs that did something */
	/* the end */
	bool failed;
	char why[1024];
};

void model_fail(struct model *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void model_say(struct model *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* env.c */
struct menv *menv_new(struct model *m);
struct base_env *menv_base(struct menv *env);
/* Drops what is posted; what tasks own leaks, the process is short-lived. */
void menv_free(struct menv *env);
/* Runs one task, or lets time pass until one is due, but not beyond `until`.
 * False: nothing before then (now_ns is `until`). */
bool menv_step(struct menv *env, int64_t until_ns);
/* Runs what is posted, without letting time pass. */
void menv_run_posted(struct menv *env);
void menv_run(struct menv *env, int64_t for_ns);
/* An event of the world (the store's), not of a life. */
void model_at(struct model *m, int64_t at_ns,
	void (*fn)(struct model *, void *), void *arg);
void model_events_free(struct model *m);
bool model_step(struct model *m, int64_t until_ns);
void model_run(struct model *m, int64_t for_ns);

/* versions (store.c) */
int version_add(struct model *m, const char *head, size_t head_len,
	uint64_t size, bool foreign);
int version_find(struct model *m, const uint8_t md5[16]);
char *version_bytes(struct model *m, int version); /* allocated */

/* store.c */
struct blob_store *mstore_open(struct model *m);
/* A crash: what is under way has no one to answer, but may be applied. */
void mstore_orphan(struct blob_store *store);
struct mblob *mstore_blob(struct model *m, const char *name);
bool mstore_has_below(struct model *m, const char *dir);
struct blob_kv *mkv_find(struct blob_kv *kv, size_t nr, const char *key);
/* The second writer. */
void foreign_put(
	struct model *m, const char *name, int version, bool keep_meta);
void foreign_delete(struct model *m, const char *name);
void foreign_meta(struct model *m, const char *name, unsigned how);
void foreign_copy(struct model *m, const char *from, const char *to);
void foreign_mkdir(struct model *m, const char *name);

/* local.c */
void local_open(struct model *m);  /* a mount */
void local_close(struct model *m); /* a clean end */
void local_crash(struct model *m); /* a kill -9, and a new mount */
void local_forget(struct model *m);
void local_template(struct model *m);
bool local_claim(void *arg, uint64_t ino);
int local_await(struct model *m, int64_t max_ns,
	void (*start)(struct model *, struct tier_call *, void *arg),
	void *arg);
/* Calls; false: it did nothing. */
bool call_create(struct model *m, const char *path, struct rnd *r, bool hold);
bool call_write(struct model *m, const char *path, struct rnd *r, bool hold);
bool call_close(struct model *m, struct rnd *r);
bool call_more(struct model *m, struct rnd *r); /* on an open handle */
bool call_unlink(struct model *m, const char *path);
bool call_mkdir(struct model *m, const char *path);
bool call_rmdir(struct model *m, const char *path);
bool call_symlink(struct model *m, const char *path, struct rnd *r);
bool call_rename(struct model *m, const char *from, const char *to);
bool call_exchange(struct model *m, const char *from, const char *to);
bool call_chmod(struct model *m, const char *path, uint32_t mode);
bool call_read(struct model *m, const char *path);
bool call_fsync(struct model *m);
bool call_flush(struct model *m, const char *path);
bool call_refresh(struct model *m, const char *dir);
bool call_evict(struct model *m, const char *path);

/* check.c */
void check_applied(struct model *m, struct mblob *b, bool was_there,
	int was_version, bool foreign, const char *op);
void check_end(struct model *m);
void check_dump(struct model *m);
uint64_t model_groups(struct model *m);

/* steps.c */
struct step {
	uint64_t seed;
	unsigned kind;
	bool dropped;
};
size_t steps_make(uint64_t seed, unsigned profile, struct step **ret);
void steps_run(struct model *m, const struct step *steps, size_t nr);
const char *step_name(const struct step *step);

#endif
