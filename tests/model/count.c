/*
 * What histories had in them, by name; and the reconciler's own steps, seen at
 * its functions' doors (the linker wraps them).
 */
#include "tests/model/model.h"
#include "tier/line.h"

static const char *const names[COUNT_NR] = {
	[COUNT_LOST] = "answer lost",
	[COUNT_UNAPPLIED] = "request lost",
	[COUNT_LATE] = "applied late",
	[COUNT_TWICE] = "applied twice",
	[COUNT_REFUSED] = "store busy",
	[COUNT_CONDITION] = "condition failed",
	[COUNT_BLOCKS] = "several blocks",
	[COUNT_KEPT_BLOCK] = "block kept",
	[COUNT_BLOCKS_GONE] = "blocks dropped",
	[COUNT_COPY] = "copy",
	[COUNT_SET_META] = "metadata",
	[COUNT_SETTLED] = "lost answer settled",
	[COUNT_OWN] = "own commit recognised",
	[COUNT_CONFLICT] = "conflict",
	[COUNT_THEIRS] = "lost race",
	[COUNT_KEPT] = "older state kept",
	[COUNT_GROUP] = "group",
	[COUNT_RESCUE] = "rescue",
	[COUNT_BYTES_LOST] = "bytes gone",
	[COUNT_FENCE] = "sent row kept",
	[COUNT_LATE_DELETED] = "late blob deleted",
	[COUNT_CRASH] = "crash",
	[COUNT_CUT] = "power cut",
	[COUNT_RECOVERED] = "recovered after a cut",
	[COUNT_UNCONFIRMED] = "unconfirmed after a cut",
	[COUNT_REMOUNT] = "remount",
	[COUNT_TRUNCATE] = "truncation",
	[COUNT_IN_PLACE] = "write in place",
	[COUNT_HELD_OPEN] = "held open",
	[COUNT_REOPENED] = "second writer here",
	[COUNT_RENAME] = "rename",
	[COUNT_RENAME_OVER] = "rename over",
	[COUNT_RENAME_DIR] = "directory renamed",
	[COUNT_RENAME_DIR_FAR] = "far directory renamed",
	[COUNT_EXCHANGE] = "exchange",
	[COUNT_UNLINK] = "unlink",
	[COUNT_UNLINK_OPEN] = "unlink of open",
	[COUNT_MKDIR] = "mkdir",
	[COUNT_RMDIR] = "rmdir",
	[COUNT_SYMLINK] = "symlink",
	[COUNT_MARKER] = "marker of a prefix",
	[COUNT_CHMOD] = "chmod",
	[COUNT_FSYNC] = "fsync",
	[COUNT_FLUSH] = "flush",
	[COUNT_EVICT] = "evict",
	[COUNT_REFETCH] = "fetch",
	[COUNT_LIST_RACE] = "listing in a race",
	[COUNT_FOREIGN_PUT] = "foreign put",
	[COUNT_FOREIGN_KEEP] = "foreign put, our key",
	[COUNT_FOREIGN_HOST] = "another forebay",
	[COUNT_FOREIGN_SAME] = "foreign same bytes",
	[COUNT_FOREIGN_DELETE] = "foreign delete",
	[COUNT_FOREIGN_AGAIN] = "foreign re-create",
	[COUNT_FOREIGN_META] = "foreign metadata",
	[COUNT_FOREIGN_COPY] = "foreign copy",
	[COUNT_FOREIGN_DIR] = "foreign directory",
};

const char *count_name(enum count what)
{
	return names[what];
}

/* ---- the doors ---- */

static struct model *watched;

void count_watch(struct model *m)
{
	watched = m;
}

void __real_tier_rescue(struct work *work, uint64_t ino);
void __wrap_tier_rescue(struct work *work, uint64_t ino);
void __wrap_tier_rescue(struct work *work, uint64_t ino)
{
	count(watched, COUNT_RESCUE);
	__real_tier_rescue(work, ino);
}

void __real_tier_bytes_lost(struct work *work);
void __wrap_tier_bytes_lost(struct work *work);
void __wrap_tier_bytes_lost(struct work *work)
{
	count(watched, COUNT_BYTES_LOST);
	__real_tier_bytes_lost(work);
}

void __real_tier_conflict(
	struct work *work, const struct blob_props *props, bool superseded);
void __wrap_tier_conflict(
	struct work *work, const struct blob_props *props, bool superseded);
void __wrap_tier_conflict(
	struct work *work, const struct blob_props *props, bool superseded)
{
	count(watched, COUNT_THEIRS);
	check_race(watched, work->seq, work->row.name);
	__real_tier_conflict(work, props, superseded);
}

void __real_tier_fence_soon(struct tier_line *line);
void __wrap_tier_fence_soon(struct tier_line *line);
void __wrap_tier_fence_soon(struct tier_line *line)
{
	count(watched, COUNT_FENCE);
	__real_tier_fence_soon(line);
}

int __real_cache_conflict_add(
	struct cache_txn *txn, const struct cache_conflict *conflict);
int __wrap_cache_conflict_add(
	struct cache_txn *txn, const struct cache_conflict *conflict);
int __wrap_cache_conflict_add(
	struct cache_txn *txn, const struct cache_conflict *conflict)
{
	count(watched, COUNT_CONFLICT);
	check_conflicting(watched, txn, conflict);
	return __real_cache_conflict_add(txn, conflict);
}

int __real_cache_owed_repoint(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t kept);
int __wrap_cache_owed_repoint(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t kept);
int __wrap_cache_owed_repoint(
	struct cache_txn *txn, uint64_t ino, uint64_t serial, uint64_t kept)
{
	count(watched, COUNT_KEPT);
	return __real_cache_owed_repoint(txn, ino, serial, kept);
}

int __real_cache_owed_join(
	struct cache_txn *txn, uint64_t a, uint64_t b, enum cache_join how);
int __wrap_cache_owed_join(
	struct cache_txn *txn, uint64_t a, uint64_t b, enum cache_join how);
int __wrap_cache_owed_join(
	struct cache_txn *txn, uint64_t a, uint64_t b, enum cache_join how)
{
	int err;

	if (how == CACHE_JOIN_IN_ORDER)
		count(watched, COUNT_GROUP);
	check_joined(watched, a, b, how);
	err = __real_cache_owed_join(txn, a, b, how);
	if (err == 0)
		check_rows_joined(watched, txn, a, b);
	return err;
}

int __real_tier_late(struct tier *tier, struct cache_txn *txn,
	struct cache_remote *remote, const struct blob_mark *mark);
int __wrap_tier_late(struct tier *tier, struct cache_txn *txn,
	struct cache_remote *remote, const struct blob_mark *mark);
int __wrap_tier_late(struct tier *tier, struct cache_txn *txn,
	struct cache_remote *remote, const struct blob_mark *mark)
{
	int late = __real_tier_late(tier, txn, remote, mark);

	if (late > 0)
		count(watched, COUNT_LATE_DELETED);
	return late;
}

void __real_tier_work_accept(struct work *work);
void __wrap_tier_work_accept(struct work *work);
void __wrap_tier_work_accept(struct work *work)
{
	if (work->state == WORK_SETTLING) {
		count(watched, COUNT_SETTLED);
		if (work->op != BLOB_DELETE)
			count(watched, COUNT_OWN);
	}
	__real_tier_work_accept(work);
}
