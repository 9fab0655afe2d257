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
 *   store.c    the store: requests and faults; blobs.c, apply.c, ask.c what is
 *              in it; foreign.c the second writer
 *   disk.c     which of the disk is durable
 *   life.c, local.c, write.c, name.c, rename.c, read.c
 *              what fs/ does for programs' calls
 *   steps.c    histories: made, run, printed
 *   check.c    what must hold while a history runs; end.c at its end
 *   count.c    what histories had in them: a test that tests nothing fails
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
	bool late;	/* a request came long after it was given up */
	bool edited;	/* it put other bytes there, and we did not since */
	int foreign;	/* version it put last, -1: none standing */
	uint64_t tag;	/* its metadata key `color`, 0: none */
	uint64_t shown; /* newest change of ours shown, see struct change */
};

/* ---- what the local programs said, for the order ---- */

struct change {
	uint64_t nr;	/* from 1 */
	uint64_t epoch; /* 0: never entered the line by itself */
	uint64_t run;	/* as its row says */
	uint8_t phase;
	uint64_t group; /* the epoch that it was joined into, 0: none */
	char *name;
	enum cache_kind kind;
	int version; /* -1: none */
	uint64_t ino;
	bool open;  /* its writer has not closed it */
	int seen;   /* version that the index said the store shows: -1 */
	int here;   /* version that the tree showed there until then: -1 */
	char *from; /* the name that it had until then; NULL: none */
	/* It stayed open for so long that it may have left its place. */
	bool left;
	int64_t at_ns;
	uint64_t written; /* of the log, when it was committed */
};

struct handle {
	bool used, written;
	uint64_t ino;
	int version; /* of what is in the data file, -1: a step between */
	bool dirty;  /* since the last flush */
	int seen;    /* what the store showed at the open, as we knew, or -1 */
	int64_t opened_ns;
	int fd;
	uint64_t serial;
};

/* What a history had in it; count.c has their names. */
enum count {
	/* the store */
	COUNT_LOST,	   /* applied, the answer lost */
	COUNT_UNAPPLIED,   /* lost on its way */
	COUNT_LATE,	   /* applied long after it was given up */
	COUNT_TWICE,	   /* applied again */
	COUNT_REFUSED,	   /* 503 and its like */
	COUNT_CONDITION,   /* a condition failed */
	COUNT_BLOCKS,	   /* a block list of several blocks */
	COUNT_KEPT_BLOCK,  /* a block of the blob in place was named again */
	COUNT_BLOCKS_GONE, /* staged blocks that the store dropped */
	COUNT_COPY,
	COUNT_SET_META,
	/* the reconciler */
	COUNT_SETTLED,	/* a lost answer was found to be a success */
	COUNT_OWN,	/* by its commit: R0a */
	COUNT_CONFLICT, /* edit against edit */
	COUNT_THEIRS,	/* a lost race of another kind */
	COUNT_KEPT,	/* an older state */
	COUNT_GROUP,
	COUNT_RESCUE,
	COUNT_BYTES_LOST,
	COUNT_FENCE, /* a `sent` row stays: it may yet be applied */
	COUNT_LATE_DELETED,
	/* the host */
	COUNT_CRASH,
	COUNT_CUT,
	COUNT_RECOVERED,   /* what was never fsynced has another name */
	COUNT_UNCONFIRMED, /* what was fsynced once, and changed since */
	COUNT_REMOUNT,
	/* programs */
	COUNT_TRUNCATE,
	COUNT_IN_PLACE,
	COUNT_HELD_OPEN, /* a file was open for long, and changed */
	COUNT_REOPENED,	 /* while it was written-to */
	COUNT_RENAME,
	COUNT_RENAME_OVER,
	COUNT_RENAME_DIR,
	COUNT_RENAME_DIR_FAR, /* with files that were never here */
	COUNT_EXCHANGE,
	COUNT_UNLINK,
	COUNT_UNLINK_OPEN,
	COUNT_MKDIR,
	COUNT_RMDIR,
	COUNT_SYMLINK,
	COUNT_MARKER, /* of a prefix, before its last name goes */
	COUNT_CHMOD,
	COUNT_FSYNC,
	COUNT_FLUSH,
	COUNT_EVICT,
	COUNT_REFETCH,
	COUNT_LIST_RACE, /* a page and a mutation under way at once */
	/* others */
	COUNT_FOREIGN_PUT,
	COUNT_FOREIGN_KEEP, /* a rewrite that keeps our key */
	COUNT_FOREIGN_HOST, /* another forebay host */
	COUNT_FOREIGN_SAME,
	COUNT_FOREIGN_DELETE,
	COUNT_FOREIGN_AGAIN, /* a name that was there before */
	COUNT_FOREIGN_META,
	COUNT_FOREIGN_COPY,
	COUNT_FOREIGN_DIR,
	COUNT_NR,
};

enum profile {
	WITH_FAULTS = 1, /* lost and late answers, refusals */
	WITH_CRASHES = 2,
	WITH_FOREIGN = 4,
	WITH_LARGE = 8,
	WITH_REMOUNTS = 16,
	WITH_DIRS = 32,	 /* directories are renamed */
	WITH_OPEN = 64,	 /* files are held open */
	WITH_CUTS = 128, /* the power goes */
	PROFILE_ALL = 255,
};

#define HANDLES_MAX 4

/* Somebody who has a file open and only reads. */
struct reader {
	bool used;
	uint64_t ino;
	int version; /* of what it read first */
	int should;  /* what the file should have held then */
	int fd;
};
#define READERS_MAX 4

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
	struct reader readers[READERS_MAX];
	int *taken; /* versions of the second writer that went away here */
	size_t taken_nr;
	struct tag {
		uint64_t nr;
		char *name; /* whose blob it was put on */
	} * tags;
	size_t tags_nr;
	int *ino_version;      /* what a file should hold, by ino; -1 */
	int *ino_synced;       /* what an fsync answered for; -1 */
	uint64_t *ino_written; /* of the log, when that was committed */
	uint64_t inos_cap;
	bool counted[COUNT_NR];
	/* of the last commit on: changes and inodes noted meanwhile */
	size_t changes_marked;
	uint64_t *marked_inos;
	size_t marked_nr;
	unsigned calls; /* of programs that did something */
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

/* versions (blobs.c) */
int version_add(struct model *m, const char *head, size_t head_len,
	uint64_t size, bool foreign);
int version_find(struct model *m, const uint8_t md5[16]);
char *version_bytes(struct model *m, int version); /* allocated */

/* store.c */
struct blob_store *mstore_open(struct model *m);
/* A crash: what is under way has no one to answer, but may be applied. */
void mstore_orphan(struct blob_store *store);
/* blobs.c */
struct mblob *mstore_blob(struct model *m, const char *name);
bool mstore_has_below(struct model *m, const char *dir);
struct blob_kv *mkv_find(struct blob_kv *kv, size_t nr, const char *key);
/* foreign.c: the second writer. */
enum foreign {
	FOREIGN_PLAIN, /* its own metadata */
	FOREIGN_KEEP,  /* what was there, our key included */
	FOREIGN_HOST,  /* another forebay */
};
void foreign_put(
	struct model *m, const char *name, int version, enum foreign how);
void foreign_delete(struct model *m, const char *name);
void foreign_meta(struct model *m, const char *name, unsigned how);
void foreign_copy(struct model *m, const char *from, const char *to);
void foreign_mkdir(struct model *m, const char *name);

/* local.c */
void local_open(struct model *m);  /* a mount */
void local_close(struct model *m); /* a clean end */
void local_crash(struct model *m); /* a kill -9, and a new mount */
void local_cut(struct model *m);   /* the power goes, and a new mount */
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
/* On an open handle. */
bool call_more(struct model *m, struct rnd *r);
bool call_unlink(struct model *m, const char *path);
bool call_mkdir(struct model *m, const char *path);
bool call_rmdir(struct model *m, const char *path);
bool call_symlink(struct model *m, const char *path, struct rnd *r);
bool call_rename(struct model *m, const char *from, const char *to);
bool call_exchange(struct model *m, const char *from, const char *to);
bool call_chmod(struct model *m, const char *path, uint32_t mode);
bool call_read(struct model *m, const char *path);
bool call_look(struct model *m, const char *path); /* opened to be read */
bool call_look_again(struct model *m, struct rnd *r);
bool call_shut(struct model *m); /* the oldest reader goes */
bool call_fsync(struct model *m, const char *path);
bool call_prefetch(struct model *m, const char *path);
bool call_flush(struct model *m, const char *path, bool wait);
bool call_refresh(struct model *m, const char *dir, bool wait);
bool call_evict(struct model *m, const char *path);

/* check.c */
void check_applied(struct model *m, struct mblob *b, bool was_there,
	int was_version, bool foreign, const char *op);
/* A conflict is being noted; epochs become one group. */
void check_conflicting(struct model *m, struct cache_txn *txn,
	const struct cache_conflict *conflict);
void check_joined(struct model *m, uint64_t a, uint64_t b, enum cache_join how);
/* They are: what the journal says. */
void check_rows_joined(
	struct model *m, struct cache_txn *txn, uint64_t a, uint64_t b);
/* A row has lost a race: to whom? */
void check_race(struct model *m, uint64_t seq, const char *name);
void check_end(struct model *m); /* end.c */
void check_dump(struct model *m);
enum cache_kind check_kind(const struct mblob *b);

/* count.c */
static inline void count(struct model *m, enum count what)
{
	m->counted[what] = true;
}
const char *count_name(enum count what);
/* The history whose steps are counted. */
void count_watch(struct model *m);

/* steps.c */
struct step {
	uint64_t seed;
	unsigned kind;
	bool dropped;
};
/* More than are needed. */
size_t steps_make(uint64_t seed, unsigned profile, struct step **ret);
/* Until programs did that many calls; returns how many steps it took. */
size_t steps_run(
	struct model *m, const struct step *steps, size_t nr, unsigned calls);
const char *step_name(const struct step *step);

#endif
