/*
 * What the files of the local side share: a mount without a kernel, that does
 * with cache/ and tier/ what fs/ does.  Private to them.
 */
#ifndef TESTS_MODEL_LOCAL_H
#define TESTS_MODEL_LOCAL_H

#include "tests/model/model.h"

/* ---- life.c ---- */

/* The handle that writes to an inode, or NULL. */
struct handle *local_handle(struct model *m, uint64_t ino);
/* Does anybody have it open, for reading or writing? */
bool local_is_open(struct model *m, uint64_t ino);

/* ---- local.c ---- */

struct local_name {
	uint64_t ino;
	const char *name;
};
void local_start_fetch(struct model *m, struct tier_call *call, void *ino);
void local_start_name(struct model *m, struct tier_call *call, void *name);
void local_start_dir(struct model *m, struct tier_call *call, void *ino);
void local_start_tree(struct model *m, struct tier_call *call, void *ino);
void local_start_flush(struct model *m, struct tier_call *call, void *path);
/* Begins it, and waits for nothing. */
void local_begin(struct model *m,
	void (*start)(struct model *, struct tier_call *, void *arg),
	void *arg);

/* Splits "a/b/c": the directory into `dir`, the last component returned. */
const char *local_split(const char *path, char *dir, size_t size);
int local_resolve(struct model *m, const char *path, struct cache_inode *ret);
/* Makes a name and its directories current, as the kernel's look-ups do. */
int local_look_up(struct model *m, const char *path);

void note_ino(struct model *m, uint64_t ino, int version);
int ino_version(struct model *m, uint64_t ino);
/* The power went; of the index's log `left` bytes are there. */
void note_cut(struct model *m, uint64_t left);
/* What its data file holds; -1: nobody wrote that (`add`: from now on somebody
 * did). */
int local_bytes(struct model *m, const struct cache_inode *inode, bool add);
/* What the inode's bytes are, also those that were never here. */
int local_version(struct model *m, struct cache_txn *txn,
	const struct cache_inode *inode);
struct change *note_change(struct model *m, struct cache_txn *txn,
	const char *name, enum cache_kind kind, uint64_t ino, int version);
/* In which epoch a change entered: the row says so. */
void note_epoch(struct cache_txn *txn, struct change *c);
/* Commits, or aborts if `err`; `what` for who reads the failure. */
void local_commit(
	struct model *m, struct cache_txn *txn, int err, const char *what);

/* ---- write.c ---- */

size_t local_text(struct model *m, struct rnd *r, char *buf, size_t size);
struct handle *local_any_handle(struct model *m);
void local_flush(struct model *m, struct handle *h);
/* What the last process left written-to: fs_handles_recover(). */
void local_recover(struct model *m);

/* ---- name.c ---- */

/* After the journal heard of it: as FORGET and the last close do. */
int local_lose_name(struct model *m, struct cache_txn *txn, uint64_t ino);
int local_count_links(struct cache_txn *txn, uint64_t dir, int by);
/* O7: `path` is the last name of a prefix, and about to go: its marker comes
 * before.  Where that change is noted; -1: none. */
ssize_t local_note_marker(
	struct model *m, struct cache_txn *txn, const char *path);

/* ---- read.c ---- */

/* fs_written_sync() */
int local_sync(struct model *m, uint64_t ino);

int local_fetch_whole(
	struct model *m, const char *path, struct cache_inode *inode);

#endif
