/*
 * Private to cache/: the struct behind cache.h, connections and statements.
 *
 * What it is for.  Everything that speaks SQL does it through the helpers
 * here, so that statements are prepared once a connection, errors become
 * errno in one place, and what must wait for the commit is collected on the
 * transaction.  The one header besides the .c files of this folder that knows
 * sqlite3.h.
 *
 * Threads and locks.  One writer connection, taken with `writer` (rank
 * CACHE_WRITER) for the length of a write transaction; a pool of readers
 * under `readers_mutex`, held only to take one out and put it back.  A
 * connection belongs to one transaction at a time.  Never open or close the
 * database file by other means in this process: closing any descriptor of it
 * would drop SQLite's locks (the WAL file is not locked; sync.c may).
 *
 * Ownership.  A struct cache_query lives on the stack between
 * cache_db_begin() and cache_db_end(); text and blobs bound to it must live
 * until then, columns until the next step.
 *
 * Errors.  A failed statement marks the transaction: its commit fails with
 * the same errno.  -EEXIST (a constraint) and "no row" do not.
 */
#ifndef CACHE_DB_H
#define CACHE_DB_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "cache/cache.h"

#define CACHE_INDEX_FILE "index.db"
#define CACHE_WAL_FILE "index.db-wal"
#define CACHE_SHM_FILE "index.db-shm"
#define CACHE_JOURNAL_FILE "index.db-journal"
#define CACHE_LOCK_FILE "lock"
#define CACHE_DATA_DIR "data"

#define CACHE_DIRS_MAX 64    /* drives of one host */
#define CACHE_READERS_MAX 16 /* more readers than cores only use memory */
#define CACHE_STMTS_MAX 256  /* slots; twice the SQL literals of the folder */

struct cache_data_state;  /* data.c */
struct cache_sync;	  /* sync.c */
struct cache_space_state; /* space.c, evict.c */

struct cache_stmt {
	const char *sql; /* the literal's address is the key */
	sqlite3_stmt *stmt;
};

/* A data file to unlink after the commit. */
struct cache_drop {
	uint64_t ino, serial;
};

/* Counters in memory of what would need a scan; changed after the commit. */
struct cache_totals {
	int64_t inodes;
	int64_t local_bytes; /* inode.local_bytes + owed.local_bytes */
	int64_t owed_rows, owed_bytes, owed_aside, owed_files;
};

/* Numbers handed out in blocks, so that few transactions write `meta`. */
struct cache_counter {
	const char *key;
	uint64_t block;
	uint64_t next, limit; /* limit: what `meta` says */
	uint64_t saved_limit; /* before this transaction */
};
enum {
	CACHE_COUNT_INO,
	CACHE_COUNT_COOKIE,
	CACHE_COUNT_COMMIT,
	CACHE_COUNT_OWED,
	CACHE_COUNTERS
};

struct cache_txn {
	struct cache *cache;
	sqlite3 *db;
	struct cache_conn *conn;
	bool write;
	int err; /* sticky: the commit will fail with it */
	struct cache_totals delta;
	uint64_t known_top; /* remote.c: new value of meta known_seq, or 0 */
	struct cache_drop *drops;
	size_t drops_nr, drops_cap;
	uint64_t *claims;
	size_t claims_nr, claims_cap;
};

/* A connection, and the one transaction that it can carry. */
struct cache_conn {
	sqlite3 *db;
	struct cache_txn txn;
	struct cache_conn *next; /* in readers_free */
	struct cache_stmt stmts[CACHE_STMTS_MAX];
};

struct cache {
	struct base_env *env;
	struct cache_config config; /* dirs and store point to what we own */
	char **dirs;		    /* absolute */
	int dir_fds[CACHE_DIRS_MAX];
	int lock_fds[CACHE_DIRS_MAX];
	size_t dirs_nr;
	char **made_dirs; /* by this open, parents first */
	size_t made_dirs_nr;
	char *store;
	struct cache_id host;
	bool opening;	  /* errors go to the opener, not to the log */
	bool had_wal;	  /* before it was opened */
	sqlite3 *look_db; /* while it is opened: see salvage.c */
	/* After a process that died, in the same boot: what opening changes may
	 * be lost with the power like all that it finds, so it waits for no
	 * disk. */
	bool goes_on;
	uint64_t boot_nr;	   /* counts boots; rows with times carry it */
	uint64_t durable_flush_nr; /* meta flush_nr as found by open */
	/* That of the last power cut, while what it left unproven was not
	 * dealt with; else UINT64_MAX. */
	uint64_t recover_nr;

	struct base_mutex writer; /* held between cache_write and its end: */
	struct cache_conn *write_conn;
	struct cache_counter counters[CACHE_COUNTERS];

	struct base_mutex readers_mutex; /* these: */
	pthread_cond_t readers_cond;
	struct cache_conn *readers_free;
	unsigned readers_nr;

	struct base_mutex taken_mutex;	/* rank STAT: */
	uint64_t taken_next, taken_end; /* numbers for cache_ino_take() */

	struct base_mutex totals_mutex; /* rank STAT: */
	struct cache_totals totals;
	_Atomic uint64_t known_top; /* above every remote.known_seq */

	struct cache_data_state *data;
	struct cache_sync *sync;
	struct cache_space_state *space;
};

/* ---- data.c, sync.c, space.c, evict.c for index.c and txn.c ---- */

/* Makes DIR/data/00..ff (0700) in every directory and probes its file
 * system; on failure one line in `why`, and nothing that it made is left. */
int cache_data_prepare(struct cache *cache, char *why, size_t why_bytes);
/* From now on queued unlinks wait for cache_data_finish(). */
void cache_data_stop(struct cache *cache);
/* Last of all: waits for unlinks that are queued.  `undo`: the open failed,
 * directories that prepare made go again.  NULL-safe. */
void cache_data_finish(struct cache *cache, bool undo);
/* After the first FULL commit: opens its own descriptor of the WAL. */
int cache_sync_open(struct cache *cache);
void cache_sync_close(struct cache *cache);
/* cache->totals.local_bytes is right by now: the bytes of all data files. */
int cache_space_open(struct cache *cache);
/* Nothing is evicted or written down in the background any more. */
void cache_space_stop(struct cache *cache);
void cache_space_close(struct cache *cache);
void cache_sync_start(struct cache *cache);
void cache_space_start(struct cache *cache);
/* After the commit that let go of it.  No lock is held. */
void cache_data_unlink(struct cache *cache, uint64_t ino, uint64_t serial);
/* In a transaction that gives an inode its first local bytes: eviction will
 * know of it, also if nobody ever opens it.  In memory, cheap. */
void cache_use_enter(struct cache *cache, uint64_t ino);
/* [sync] What sync.c's thread does by itself, now. */
int cache_sync_flush(struct cache *cache);
int cache_sync_checkpoint(struct cache *cache);
/* How often the WAL was really synced. */
uint64_t cache_sync_count(struct cache *cache);
/* After each write transaction, with its outcome and no lock.  [sync] where the
 * disk is full or nearly so: makes the WAL begin again in blocks that it has. */
void cache_sync_committed(struct cache *cache, int err);
/* What rows of newly fetched bytes carry: the number of the next flush that
 * begins.  meta "flush_nr" is the last one that is durable. */
uint64_t cache_flush_nr(struct cache *cache);
/* Is that flush over, or under way?  Then it may prove what carries its number
 * before a later commit is durable. */
bool cache_flush_has_begun(struct cache *cache, uint64_t nr);
/* After a commit that changed the sum of local_bytes.  No lock is held. */
void cache_space_delta(struct cache *cache, int64_t bytes);

/* With the locks, before anything else is made: if the index is gone or
 * damaged, moves it and the data files aside, and says so in `ret_what`, else
 * "" (salvage.c). */
int cache_salvage(struct cache *cache, char *ret_what, size_t what_bytes);
/* The opener has its own connection, or has failed. */
void cache_salvage_end(struct cache *cache);

/* ---- queries (txn.c) ---- */

struct cache_query {
	struct cache_txn *txn;
	sqlite3_stmt *stmt;
	int param, column; /* the next ones */
	int err;
	bool own; /* not from the table: finalized at the end */
};

/*
 *	struct cache_query q;
 *	cache_db_begin(&q, txn, "SELECT a, b FROM t WHERE c = ?");
 *	cache_db_bind_u64(&q, c);
 *	while ((err = cache_db_step(&q)) > 0) {
 *		a = cache_db_u64(&q);
 *		b = cache_db_u64(&q);
 *	}
 *	return cache_db_end(&q, err);
 *
 * `sql` must be a literal.  Parameters and columns are taken in order.  The
 * same literal may be begun again while it is stepped through (recursion).
 */
#define cache_db_begin(q, txn, sql) cache_db_begin_sql(q, txn, CACHE_SQL(sql))
void cache_db_begin_sql(
	struct cache_query *q, struct cache_txn *txn, const char *sql);
/*
 * Notes a statement: all that the program can ever prepare after its index is
 * open stand in one section of it, from __start_cache_sql to __stop_cache_sql,
 * so that a test sees the plan of each.  Whoever takes SQL as an argument is
 * called through a macro that does this.
 */
#define CACHE_SQL(text)                                                     \
	({                                                                  \
		static const char *const sql_                               \
			__attribute__((section("cache_sql"), used)) = text; \
		sql_;                                                       \
	})
void cache_db_bind_i64(struct cache_query *q, int64_t value);
static inline void cache_db_bind_u64(struct cache_query *q, uint64_t value)
{
	cache_db_bind_i64(q, (int64_t)value);
}
/* A string as a BLOB; NULL as NULL.  (Names are BLOBs: compared by bytes.) */
void cache_db_bind_name(struct cache_query *q, const char *text);
/* bytes == NULL: NULL. */
void cache_db_bind_blob(struct cache_query *q, const void *bytes, size_t len);
/* None as NULL. */
void cache_db_bind_id(struct cache_query *q, const struct cache_id *id);

/* 1: a row; 0: done; or -errno. */
int cache_db_step(struct cache_query *q);
int64_t cache_db_i64(struct cache_query *q);
static inline uint64_t cache_db_u64(struct cache_query *q)
{
	return (uint64_t)cache_db_i64(q);
}
/* Cut at the end of buf; NULL gives "". */
void cache_db_text(struct cache_query *q, char *buf, size_t bytes);
/* Allocated; NULL stays NULL. */
char *cache_db_take_text(struct cache_query *q);
void *cache_db_take_blob(struct cache_query *q, size_t *ret_len);
void cache_db_id(struct cache_query *q, struct cache_id *ret);
/* Gives the statement back; returns err. */
int cache_db_end(struct cache_query *q, int err);
/* Steps to the end and gives it back: for INSERT, UPDATE, DELETE. */
int cache_db_run(struct cache_query *q);
/* The same where there must be such a row: -ENOENT. */
int cache_db_run_one(struct cache_query *q);
/* One row: steps, and -ENOENT if there is none.  End it after the columns. */
int cache_db_one(struct cache_query *q);
/* Rows that the last INSERT, UPDATE or DELETE changed. */
int64_t cache_db_changes(struct cache_txn *txn);

/* SQLite's code as -errno, logged unless `what` is NULL. */
int cache_db_errno(sqlite3 *db, int code, const char *what);

/* The next number of a counter. */
int cache_db_number(struct cache_txn *txn, int counter, uint64_t *ret);
/* The data file of (ino, serial) is no longer the inode's: an owed row that
 * needs it takes over its bytes in the account, else it goes after the
 * commit.  (local.c) */
int cache_data_release(struct cache_txn *txn, uint64_t ino, uint64_t serial,
	uint64_t local_bytes);
/* Queues an unlink for after the commit. */
void cache_txn_drop(struct cache_txn *txn, uint64_t ino, uint64_t serial);

/* ---- open and close of connections (index.c, txn.c) ---- */

int cache_conn_open(struct cache *cache, bool writer, struct cache_conn **ret);
void cache_conn_close(struct cache_conn *conn);
/* Tables, as they are made for a fresh index (schema.c). */
int cache_schema_open(
	struct cache *cache, bool *ret_fresh, char *why, size_t why_bytes);
/* The newest version that this program knows. */
int cache_schema_version(void);
/* Drops what was fetched but not durable when the power went (local.c). */
int cache_local_recover(struct cache_txn *txn, uint64_t durable_flush_nr);

/*
 * ---- tables that data.c, space.c and evict.c may want to know ----
 *
 * inode(ino INTEGER PRIMARY KEY, kind, mode, uid, gid, nlink, rdev, size,
 *	mtime_ns, ctime_ns, atime_ns, btime_ns, target, gen, meta_gen,
 *	synced_gen, serial, serial_top, data, written, stored, implicit,
 *	access, content, file, stamp_size, stamp_mtime_ns,
 *	stamp_ctime_ns, local_bytes, flush_nr)
 * owed(seq INTEGER PRIMARY KEY, ..., ino, serial, state, local_bytes)
 *	index owed_ino(ino, serial)
 * pin(ino INTEGER PRIMARY KEY), held(ino INTEGER PRIMARY KEY)
 * used(ino INTEGER PRIMARY KEY, queue, place, uses), index used_place(queue,
 *	place): eviction's own, nobody else writes it but cache_inode_del(),
 *	which deletes the row.
 * meta(key TEXT PRIMARY KEY, value)
 *
 * Whoever writes inode.local_bytes writes `local_bytes =
 * space_delta(local_bytes, ?)`: a function of ours that answers its second
 * argument and adds the difference to the transaction's account.
 */

#endif
