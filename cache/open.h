/*
 * The cache itself: opened, closed, read and changed in transactions (index.c,
 * txn.c, discard.c).  Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_OPEN_H
#define CACHE_OPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/env.h"
#include "base/str.h"

struct cache;
struct cache_txn;

#define CACHE_ROOT_INO 1
#define CACHE_ID_BYTES 16
#define CACHE_ETAG_MAX 96 /* BLOB_ETAG_MAX */
#define CACHE_NAME_MAX 255
#define CACHE_PATH_MAX 4096

enum cache_kind {
	CACHE_GONE, /* only in owed rows: nothing should be there */
	CACHE_FILE,
	CACHE_DIR,
	CACHE_SYMLINK,
	CACHE_FIFO,
	CACHE_SOCKET,
	CACHE_CHAR,
	CACHE_BLOCK,
};

/* What the store lets be done with a blob. */
enum cache_access {
	CACHE_ACCESS_ALL,
	CACHE_ACCESS_READ,   /* append and page blobs: no writing */
	CACHE_ACCESS_NONE,   /* archived: nothing but deleting */
	CACHE_ACCESS_POLICY, /* a policy or legal hold: only reading */
};

/* How much of a regular file is local. */
enum cache_data {
	CACHE_NONE,
	CACHE_PART, /* what `extent` rows say */
	CACHE_WHOLE,
};

/* What a power cut left in doubt: not sent to the store by itself. */
enum cache_doubt {
	CACHE_SURE,
	CACHE_UNCONFIRMED, /* changed after its last fsync: keeps its name */
	CACHE_RECOVERED,   /* never fsynced: has a name of its own */
};

/* An id of bytes: new whenever bytes change, kept by rename and copy.  All
 * zero: none. */
struct cache_id {
	uint8_t bytes[CACHE_ID_BYTES];
};
static inline bool cache_id_eq(
	const struct cache_id *a, const struct cache_id *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}
bool cache_id_is_none(const struct cache_id *id);

/* ---- open and close ---- */

struct cache_config {
	const char *const *dirs; /* the first holds the index */
	size_t dirs_nr;
	const char *store; /* canonical URL: a cache belongs to one store */
	struct base_env *env;
	bool read_only;	   /* nothing local is ever created by users */
	uint32_t uid, gid; /* of the root directory when it is made */
	/* Sizes in bytes, or in percent of the file system if the flag is
	 * set.  See DESIGN section 7. */
	uint64_t limit, reserve, dirty_limit;
	bool limit_percent, reserve_percent, dirty_limit_percent;
	/*
	 * Claims an inode whose local bytes are about to be dropped.  False: it
	 * is open or mapped.  True: nobody has it, and opens wait until
	 * unclaim().  Called inside a write transaction, which ends soon after;
	 * so an open must not hold one while it waits.
	 */
	bool (*claim)(void *arg, uint64_t ino);
	void (*unclaim)(void *arg, uint64_t ino);
	void *arg;
};

/* What cache_open() found. */
struct cache_opened {
	bool fresh; /* made just now: the store must be seen once */
	/* Not closed cleanly, and the host was rebooted: tier_recover() comes
	 * before cache_start(), and before anything else. */
	bool unclean;
	/* One line for the user, or "": the old index is lost. */
	char salvaged[1024];
};

/*
 * [sync] Opens or makes the cache directories.  Fails with one line in
 * ret_why: -EBUSY another mount has it; -EEXIST it belongs to another store;
 * -EPROTO the index was made by a newer version; -EROFS, -ENOSPC, -EACCES,
 * -ENOTDIR, -EOPNOTSUPP (a file system that cannot hold it).  Leaves nothing
 * half made.
 */
int cache_open(const struct cache_config *config, struct cache **ret_cache,
	struct cache_opened *ret_opened, char *ret_why, size_t why_bytes);
/* Background work (checkpoints, flushes, eviction) begins; after the fork. */
void cache_start(struct cache *cache);
/* [sync] Everything durable, clean flag set.  No transaction may be open. */
void cache_close(struct cache *cache);
/* [sync] Closes a cache that this mount made (cache_opened.fresh) and that
 * holds nothing of anybody yet, and takes it away again, with the
 * directories that it made. */
void cache_discard(struct cache *cache);

/* 128 random bits made with the cache directory; names this host. */
const struct cache_id *cache_host(const struct cache *cache);
/* The file system of the first directory, for statfs. */
int cache_root_fd(const struct cache *cache);

/* ---- transactions ---- */

/* Both return a transaction that every function below takes; only one from
 * cache_write() may change anything. */
int cache_read(struct cache *cache, struct cache_txn **ret_txn);
int cache_write(struct cache *cache, struct cache_txn **ret_txn);
/* Ends either kind.  The commit is not durable until cache_sync_index(). */
int cache_commit(struct cache_txn *txn);
void cache_abort(struct cache_txn *txn);
/* One or the other: commits if `err` is 0, otherwise (-errno) takes all back.
 * Returns the first error. */
int cache_end(struct cache_txn *txn, int err);
/* Claims an inode with config.claim until the end of this transaction: nobody
 * has it open, and nobody opens it meanwhile.  -EBUSY: in use. */
int cache_claim(struct cache_txn *txn, uint64_t ino);
/* The cache of a transaction. */
struct cache *cache_of(struct cache_txn *txn);

/* Small durable settings ("epoch", "store_id", ...).  Missing: 0 / -ENOENT. */
int cache_meta_get_u64(struct cache_txn *txn, const char *key, uint64_t *ret);
int cache_meta_set_u64(struct cache_txn *txn, const char *key, uint64_t value);
int cache_meta_get_text(
	struct cache_txn *txn, const char *key, struct base_str *ret);
int cache_meta_set_text(
	struct cache_txn *txn, const char *key, const char *value);

#endif
