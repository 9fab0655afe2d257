/*
 * The store: blobs by name, over any reservoir.
 *
 * What it is for.  One asynchronous contract that every reservoir implements:
 * Azure Blob Storage (`blob/azure.c`) and a local directory (`blob/dir.c`).
 * Names given and returned here are *local paths* relative to the store's
 * prefix ("a/b.bin", never a leading slash, a trailing one only for a marker
 * that was listed so, any bytes a Linux file name may hold); a store that cannot hold such a name verbatim escapes
 * it, reversibly (`blob/name.h`), or refuses it.
 *
 * Threads and locks.  blob_submit() never blocks on the network and may be
 * called from any thread, also from a completion.  `done` is called exactly
 * once for each submitted request, from a thread of the store, with no lock
 * held, never from inside blob_submit().  `done` and `data` must not block for
 * long: they run on the thread that moves everybody's bytes.
 *
 * Ownership.  A struct blob_req belongs to the caller, who zeroes it, fills
 * the "in" half and leaves it and everything it points to alone until `done`
 * runs.  The "out" half is valid from `done` until blob_req_fini().
 *
 * Errors.  `result` says what happened, `err` is the -errno for it (0 for
 * BLOB_OK).  Retries of what was surely not applied, and of what is idempotent
 * (GET, HEAD, LIST, GET_BLOCKS, PUT_BLOCK), are made inside, until
 * `timeout_ms`.  A mutation whose answer was lost is never repeated: it ends
 * as BLOB_AMBIGUOUS, and the caller finds out.
 */
#ifndef BLOB_STORE_H
#define BLOB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob_store;

/* Longest ETag we keep, quotes and NUL included.  Azure's have 19. */
#define BLOB_ETAG_MAX 96
/* Block ids: 36 raw bytes, 48 base64 characters (WRITEBACK section 4). */
#define BLOB_BLOCK_ID_BYTES 36
/* Metadata of one blob, names and values together (Azure: 8 KiB). */
#define BLOB_META_BYTES_MAX 8192
/* Longest name after escaping, in characters (Azure: 1,024). */
#define BLOB_NAME_CHARS_MAX 1024

enum blob_op {
	BLOB_HEAD,	    /* properties of a blob */
	BLOB_GET,	    /* a range of its bytes */
	BLOB_LIST,	    /* one page of names below a prefix */
	BLOB_PUT,	    /* a whole blob in one request */
	BLOB_PUT_BLOCK,	    /* stage one block */
	BLOB_PUT_BLOCK_URL, /* stage one block from another blob */
	BLOB_COMMIT,	    /* make a list of blocks the blob */
	BLOB_GET_BLOCKS,    /* the committed block list */
	BLOB_DELETE,
	BLOB_COPY,     /* server-side copy within the store, synchronous */
	BLOB_SET_META, /* replace metadata, keep the bytes */
	BLOB_GET_TAGS, /* the index tags of a blob */
};

enum blob_result {
	BLOB_OK,
	BLOB_NOT_FOUND,	   /* no such blob: -ENOENT */
	BLOB_NO_CONTAINER, /* the container itself is not there: -ENXIO */
	BLOB_CONDITION,	   /* If-Match or If-None-Match failed: -EEXIST.
			      * May be our own lost success: HEAD tells. */
	BLOB_BAD_RANGE,	   /* range begins at or after the end: -ERANGE */
	BLOB_BAD_BLOCKS,   /* a block of the list is not there, or ids of
			      * another length are staged: -EBADE */
	BLOB_BUSY,	   /* leased or a copy is pending: -EBUSY */
	BLOB_DENIED,	   /* credentials refused: -EACCES */
	BLOB_IMMUTABLE,	   /* policy or legal hold: -EPERM */
	BLOB_ARCHIVED,	   /* bytes are not readable: -EIO */
	BLOB_BAD_TYPE,	   /* append or page blob, or too large: -EINVAL */
	BLOB_NAME,	   /* cannot be held: -ENAMETOOLONG or -EINVAL */
	BLOB_TOO_LARGE,	   /* metadata or size over a limit: -E2BIG */
	BLOB_CORRUPT,	   /* bytes do not match their checksum: -EIO */
	BLOB_UNSUPPORTED,  /* this store cannot do that: -EOPNOTSUPP */
	BLOB_REFUSED,	   /* any other final 4xx: -EIO; see `code` */
	BLOB_AMBIGUOUS,	   /* sent, answer lost: -EIO */
	BLOB_UNAVAILABLE,  /* store down or too slow, surely not applied:
			      * -EIO */
	BLOB_STOPPED,	   /* cancelled, or `data` returned an error, or the
			      * store is closing: -EINTR */
};

enum blob_type {
	BLOB_TYPE_BLOCK,
	BLOB_TYPE_APPEND,
	BLOB_TYPE_PAGE,
	BLOB_TYPE_DIR, /* a real directory (HNS account, dir: store) */
};

/* One metadata key or content header.  Keys are lower case on the way in;
 * on the way out they keep the store's case, compare with strcasecmp. */
struct blob_kv {
	char *key;
	char *value;
};

/* How many tags a blob has: they are none of its headers, and change without
 * its ETag. */
#define BLOB_TAG_COUNT "x-ms-tag-count"

/* What a store says of one blob. */
struct blob_props {
	char etag[BLOB_ETAG_MAX]; /* opaque, quoted; never empty for a blob */
	uint64_t size_bytes;
	int64_t mtime_ns; /* Last-Modified, CLOCK_REALTIME */
	enum blob_type type;
	bool archived;
	bool immutable; /* under a policy or legal hold: nothing may change */
	bool copy_pending;
	bool has_md5; /* MD5 of the whole blob, stored with it */
	uint8_t md5[16];
	/* The caller's: what it made of the blob's block list.  A store leaves
	 * it alone. */
	bool has_list;
	uint8_t list[16];
	struct blob_kv *meta; /* user metadata */
	size_t meta_nr;
	/* Content headers and others that a rewrite must send again:
	 * "content-type", "content-encoding", "content-language",
	 * "content-disposition", "cache-control", and, only where set
	 * explicitly, "x-ms-access-tier", "x-ms-encryption-scope"; and
	 * BLOB_TAG_COUNT, where there are tags: they are asked for by
	 * BLOB_GET_TAGS, and sent as "x-ms-tags". */
	struct blob_kv *headers;
	size_t headers_nr;
};

/* One name of a listing. */
struct blob_entry {
	char *name;  /* full local path, no trailing slash */
	bool prefix; /* something lies below it; props are empty */
	bool slash;  /* the blob's own name ends in '/': a marker "d/" */
	struct blob_props props;
};

/* One block of a committed blob, or of a list to commit. */
struct blob_block {
	uint8_t id[BLOB_BLOCK_ID_BYTES];
	bool ours;	     /* out: the id has our length and prefix */
	bool committed;	     /* in: take it from the committed list */
	uint64_t size_bytes; /* out of GET_BLOCKS */
};

/* Condition of a mutation; exactly one is set.  For BLOB_GET if_match may be
 * set alone or not at all. */
struct blob_cond {
	const char *if_match;	/* this ETag */
	bool if_none_match_any; /* the name must be free */
};

/* Where the bytes of a PUT or PUT_BLOCK come from: memory, or a range of a
 * file that is read while it is sent (and must not change meanwhile: the
 * store checks length and MD5 and answers BLOB_CORRUPT). */
struct blob_body {
	const void *mem; /* or NULL: use fd */
	int fd;
	uint64_t offset;
	uint64_t len_bytes;
	const uint8_t *md5; /* 16 bytes, sent as Content-MD5; required */
};

struct blob_req;
/* Bytes of a GET as they arrive, in order, each byte once, also across
 * retries.  Return 0, or -errno to stop the request (BLOB_STOPPED). */
typedef int (*blob_data_fn)(
	struct blob_req *req, const void *buf, size_t len_bytes);
typedef void (*blob_done_fn)(struct blob_req *req);

struct blob_req {
	/* ---- in ---- */
	enum blob_op op;
	const char *name; /* blob; for LIST the directory, "" is the root */
	struct blob_cond cond;
	uint32_t timeout_ms; /* all tries together; 0: the store's default */
	bool background;     /* yields to requests that somebody waits for */
	blob_done_fn done;
	void *arg; /* the caller's */
	union {
		struct {
			uint64_t offset, len_bytes; /* len 0: to the end */
			blob_data_fn data;
		} get;
		struct {
			/* recursive: everything below; otherwise one level. */
			bool recursive;
			const char *start; /* marker of the last page or NULL */
			uint32_t max;	   /* names a page, 0: 5000 */
			/* Only names that start with this, within `name`'s
			 * directory; NULL: all.  Used to ask whether a prefix
			 * exists at all. */
			const char *only;
		} list;
		struct {
			struct blob_body body;
		} put; /* PUT */
		struct {
			uint8_t id[BLOB_BLOCK_ID_BYTES];
			struct blob_body body; /* PUT_BLOCK */
			const char *source;    /* PUT_BLOCK_URL */
			const char *source_etag;
			uint64_t source_offset, source_len_bytes;
		} block;
		struct {
			const struct blob_block *blocks;
			size_t blocks_nr;
			const uint8_t *md5; /* of the whole, or NULL */
		} commit;
		struct {
			const char *source;
			const char *source_etag; /* required */
		} copy;
	} in;
	/* Metadata and headers of PUT, COMMIT, COPY (headers are kept by a copy
	 * and not sent), SET_META.  They replace what is there. */
	const struct blob_kv *meta;
	size_t meta_nr;
	const struct blob_kv *headers;
	size_t headers_nr;

	/* ---- out ---- */
	enum blob_result result;
	int err;
	int http_status; /* of the last answer, 0 if none */
	char code[64];	 /* x-ms-error-code or a word for it, "" if none */
	/* An attempt of this mutation may yet be applied, or be applied again
	 * (its answer was lost and it was sent more than once). */
	bool uncertain;
	int64_t server_time_s; /* Date of the answer, 0 if none */
	/* HEAD, GET: all of it.  PUT, COMMIT, COPY, SET_META: etag and
	 * mtime_ns.  GET_BLOCKS: etag, size_bytes. */
	struct blob_props props;
	struct {
		struct blob_entry *entries;
		size_t entries_nr;
		char *next; /* opaque; NULL: this was the last page */
	} page;
	struct {
		struct blob_block *blocks;
		size_t blocks_nr;
	} blocks;
	char *tags; /* GET_TAGS: "k=v&k=v", escaped as in a query */

	/* ---- the store's own while it runs ---- */
	void *priv;
};

/* A store implements this; callers use the functions below. */
struct blob_store_ops {
	void (*submit)(struct blob_store *, struct blob_req *);
	void (*cancel)(struct blob_store *, struct blob_req *);
	void (*close)(struct blob_store *);
	/* NULL: any name will do. */
	int (*name_check)(struct blob_store *, const char *path);
};

/* First member of every store. */
struct blob_store {
	const struct blob_store_ops *ops;
};

/* Whether the store answers.  Reported on every change, from a store thread,
 * with no lock held. */
enum blob_state {
	BLOB_STATE_UP,
	BLOB_STATE_DOWN,   /* the circuit is open: no answers */
	BLOB_STATE_DENIED, /* it answers, and refuses us */
	BLOB_STATE_GONE,   /* the container is not there */
};

struct blob_config {
	const char *url;	      /* STORE of the command line */
	const char *credentials_file; /* or NULL: the environment */
	uint32_t timeout_ms;	      /* store_timeout */
	unsigned threads;	      /* event loops; 0: 2 */
	unsigned parallel;	      /* requests under way at once; 0: 64 */
	void (*state_changed)(void *arg, enum blob_state, const char *why);
	void *arg;
};

/*
 * Opens a store.  May read files, never waits for the network: whether the
 * store answers is found out by the first request.  On failure writes one
 * line (what, why, what to do) to `ret_why`.  -EINVAL: the URL or credentials
 * make no sense; -EACCES: a credentials file others can read; -ENOKEY: no
 * credential at all.  A `dir:` path that is missing may only be away: requests
 * find out.
 */
int blob_store_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes);

/* Ends all requests (BLOB_STOPPED), joins the threads.  No completion runs
 * after it returns. */
void blob_store_close(struct blob_store *store);

/* The canonical form of a store URL: equal for equal stores; holds no secret.
 * Returns 0 or -EINVAL and one line in ret_why. */
int blob_store_canonical(const char *url, char *ret_url, size_t url_bytes,
	char *ret_why, size_t why_bytes);

/* Can the store hold this name?  0, -ENAMETOOLONG or -EINVAL.  Never waits. */
int blob_name_check(struct blob_store *store, const char *path);

void blob_submit(struct blob_store *store, struct blob_req *req);
/* Asks for an early end.  `done` still runs, perhaps with a real result.
 * Must not race with blob_req_fini() of the same request. */
void blob_cancel(struct blob_store *store, struct blob_req *req);
/* Frees what the out half holds; idempotent. */
void blob_req_fini(struct blob_req *req);

void blob_props_fini(struct blob_props *props);
/* The word for a result, for messages and status. */
const char *blob_result_name(enum blob_result result);

/* ---- what metadata mean (blob/meta.c; keys in AZURE.md section 3) ---- */

enum blob_kind {
	BLOB_KIND_FILE,
	BLOB_KIND_DIR,
	BLOB_KIND_SYMLINK,
	BLOB_KIND_FIFO,
	BLOB_KIND_SOCKET,
	BLOB_KIND_CHAR,
	BLOB_KIND_BLOCK,
};

/* POSIX attributes as a blob's metadata carry them. */
struct blob_posix {
	enum blob_kind kind;
	bool has_mode, has_uid, has_gid, has_rdev;
	uint32_t mode; /* permission bits only, 07777 */
	uint32_t uid, gid;
	uint64_t rdev;
	int64_t mtime_ns; /* always set: metadata, else Last-Modified */
};

/* Our own key `forebay` (WRITEBACK section 2): a hint, to be proven. */
#define BLOB_ID_BYTES 16
#define BLOB_PARENTS_MAX 8
struct blob_commit_id {
	uint8_t host[BLOB_ID_BYTES];
	uint64_t number; /* 0: none */
};
struct blob_mark {
	bool present;
	uint8_t content[BLOB_ID_BYTES];
	uint8_t file[BLOB_ID_BYTES];
	struct blob_commit_id commit;
	struct blob_commit_id parents[BLOB_PARENTS_MAX];
	unsigned parents_nr;
};

/* Never fails: what cannot be parsed counts as absent. */
void blob_meta_decode(const struct blob_entry *entry, struct blob_posix *ret,
	struct blob_mark *ret_mark);

/*
 * The metadata of a blob with these attributes and mark, followed by all keys
 * of `foreign` that are not ours.  A fresh array, freed by blob_kv_free().
 * -E2BIG: over BLOB_META_BYTES_MAX.
 */
int blob_meta_encode(const struct blob_posix *posix,
	const struct blob_mark *mark, const struct blob_kv *foreign,
	size_t foreign_nr, struct blob_kv **ret_kv, size_t *ret_nr);
/* Is this key one that blob_meta_encode() writes, or that says the same in
 * another tool's words and would contradict it (owner, group, is_fifo, ...)? */
bool blob_meta_is_ours(const char *key);
void blob_kv_free(struct blob_kv *kv, size_t nr);
int blob_kv_copy(struct blob_kv **ret_kv, const struct blob_kv *kv, size_t nr);

/* ---- names ---- */

/* The local name under which a blob is shown whose name is also a directory
 * (the directory keeps the name).  The stores know it and map it back.
 * Returns -ENAMETOOLONG if it would exceed 255 bytes. */
int blob_name_shadow(const char *path, char *ret, size_t ret_bytes);
/* Is this a name that only stands for what a store shows already: a shadow, or
 * the local face of a blob's name that no local name spells?  Creating one (or
 * renaming to it) must be refused with -EINVAL: it would become another name
 * in the store.  Reading, changing and deleting what is shown is fine. */
bool blob_name_is_reserved(const char *path);

#endif
