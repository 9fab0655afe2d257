/*
 * Inodes and their names, what still holds those without one, listings and pins
 * (tree.c, dentry.c, misc.c).  Part of cache.h, whose rules hold here.
 */
#ifndef CACHE_INODES_H
#define CACHE_INODES_H

#include "cache/open.h"

/* What a data file looked like (statx) when its bytes were last known. */
struct cache_stamp {
	uint64_t size_bytes;
	int64_t mtime_ns, ctime_ns;
};

struct cache_inode {
	uint64_t ino;
	enum cache_kind kind;
	uint32_t mode; /* 07777 bits */
	uint32_t uid, gid;
	uint32_t nlink; /* names; a directory: 2 + subdirectories */
	uint64_t rdev;
	uint64_t size_bytes;
	int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
	uint64_t gen;	     /* content changes */
	uint64_t meta_gen;   /* attribute changes */
	uint64_t synced_gen; /* highest gen durable here */
	uint64_t serial;     /* number of the data file */
	uint64_t serial_top; /* highest number ever used for it */
	enum cache_data data;
	bool written;  /* a writer or writable mapping may exist */
	bool stored;   /* some remote row holds these bytes, for sure */
	bool implicit; /* a directory without a marker in the store */
	enum cache_access access;
	bool fsynced; /* at some time since it was last in step */
	enum cache_doubt doubt;
	struct cache_id content;
	struct cache_id file;	  /* kept across renames, travels in metadata */
	struct cache_stamp stamp; /* valid where data != NONE and !written */
	uint64_t local_bytes;	  /* allocated on disk, for the account */
};

int cache_inode_get(
	struct cache_txn *txn, uint64_t ino, struct cache_inode *ret);
/* A file with this content that is not whole here, one with a name first. */
int cache_inode_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret);
/* The same of a symlink that was never read here. */
int cache_symlink_far(struct cache_txn *txn, const struct cache_id *content,
	struct cache_inode *ret);
/* Inserts; ino, and for 0 times now, are filled in.  Numbers are never used
 * twice. */
int cache_inode_add(struct cache_txn *txn, struct cache_inode *inode);
/* A number for an inode that is added later, so that its data file can be made
 * before, with no transaction open.  Mostly from memory. */
int cache_ino_take(struct cache *cache, uint64_t *ret_ino);
/* Inserts with that number. */
int cache_inode_insert(struct cache_txn *txn, struct cache_inode *inode);
/* Writes all columns back. */
int cache_inode_put(struct cache_txn *txn, const struct cache_inode *inode);
/* Removes the row, its extents, pins, xattrs; its data file goes after the
 * commit unless an owed row keeps it. */
int cache_inode_del(struct cache_txn *txn, uint64_t ino);
int cache_target_get(struct cache_txn *txn, uint64_t ino, struct base_str *ret);
int cache_target_set(struct cache_txn *txn, uint64_t ino, const char *target);
/* A fresh content id or file id. */
void cache_id_new(struct cache *cache, struct cache_id *ret);
/* Notes a use for eviction's order; cheap, in memory, batched. */
void cache_touch(struct cache *cache, uint64_t ino);

/* A name in a directory. */
struct cache_dentry {
	uint64_t parent, ino;
	uint64_t cookie; /* order and offset in the directory: > 0, stable */
	char name[CACHE_NAME_MAX + 1];
};

int cache_dentry_get(struct cache_txn *txn, uint64_t parent, const char *name,
	struct cache_dentry *ret);
/* Cookie is chosen here.  -EEXIST.  Maintains no link counts. */
int cache_dentry_add(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino);
int cache_dentry_del(struct cache_txn *txn, uint64_t parent, const char *name);
/* Points an existing name at another inode, cookie kept. */
int cache_dentry_set(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino);
/* The names of `parent` with a cookie above `after`, in order of cookie, with
 * their inodes, until `each` returns non-zero (which is returned). */
typedef int (*cache_dentry_fn)(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode);
int cache_dentry_each(struct cache_txn *txn, uint64_t parent, uint64_t after,
	cache_dentry_fn each, void *arg);
/* True if the directory has no name in it. */
int cache_dir_is_empty(struct cache_txn *txn, uint64_t ino, bool *ret);
/* Some name of an inode; -ENOENT if it has none. */
int cache_dentry_of(
	struct cache_txn *txn, uint64_t ino, struct cache_dentry *ret);
/* The path of an inode from the root, without a leading slash; "" is the
 * root.  -ENOENT for an inode without a name. */
int cache_path_of(struct cache_txn *txn, uint64_t ino, struct base_str *ret);
/* The path of NAME in PARENT. */
int cache_path_join(struct cache_txn *txn, uint64_t parent, const char *name,
	struct base_str *ret);
/* The inode a path names; -ENOENT, -ENOTDIR. */
int cache_resolve(
	struct cache_txn *txn, const char *path, struct cache_inode *ret);
/* Is `ino` inside the subtree of directory `dir` (or `dir` itself)? */
int cache_is_below(
	struct cache_txn *txn, uint64_t ino, uint64_t dir, bool *ret);

/* Unlinked or replaced inodes that somebody still needs. */
int cache_held_add(struct cache_txn *txn, uint64_t ino);
/* All of them: after a fresh mount nobody needs them but owed rows. */
typedef int (*cache_ino_fn)(void *arg, uint64_t ino);
int cache_held_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* All inodes marked written-to: an earlier run may have left them so. */
int cache_written_each(struct cache_txn *txn, cache_ino_fn each, void *arg);
/* It has a name again. */
int cache_held_del(struct cache_txn *txn, uint64_t ino);
/* Drops a held inode if no owed row names it and `open` is false; otherwise
 * nothing.  `*ret_gone` tells. */
int cache_held_put(
	struct cache_txn *txn, uint64_t ino, bool open, bool *ret_gone);

/* When a directory was last listed.  Ages use base_boot_ns(); a listing made
 * before the last boot has listed_ns < 0 (usable offline, not fresh). */
struct cache_listing {
	int64_t listed_ns;
	bool complete; /* every name was seen once */
};
int cache_listing_get(
	struct cache_txn *txn, uint64_t ino, struct cache_listing *ret);
int cache_listing_set(struct cache_txn *txn, uint64_t ino,
	const struct cache_listing *listing);

/* Pins: keep local.  Directories pin what is below them. */
int cache_pin_set(struct cache_txn *txn, uint64_t ino, bool pinned);
/* Is it, or a directory above it, pinned? */
int cache_pin_get(struct cache_txn *txn, uint64_t ino, bool *ret);

#endif
