/*
 * After a power cut: what becomes of files that nothing proves (WRITEBACK
 * section 3, last paragraph; cache/recover.c says which they are).
 *
 *   P1  none of them is sent: the rows that describe it fall out;
 *   P2  fsynced since it was last in step: it keeps its name and its bytes,
 *       is *unconfirmed*, and enters the journal with the next change or
 *       flush of it;
 *   P3  never fsynced: the name shows what is still owed there, else what the
 *       store has of this file, else nothing; the bytes stay beside it, as
 *       NAME.recovered-HOST-TIME, and enter the journal with the first change
 *       of name or attributes or the first writing close;
 *   P4  an older state that a row keeps falls out; one whose request was sent
 *       is durable in the store if it arrived, and else lost;
 *   P5  what has no bytes leaves no copy, and an empty file is what it was.
 *
 * A transaction for each file, so that a second power cut finds the rest.
 */
#include "tier/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Names that are tried for a copy. */
#define NAMES_MAX 1000

struct lost {
	struct tier *tier;
	struct cache_txn *txn;
	struct cache_inode inode;
	struct cache_stamp now;
	bool exists, has_bytes; /* the data file */
	struct cache_dentry dentry;
	struct base_str path;
};

/* ---- rows (P1) ---- */

static int drop_rows(struct lost *lost)
{
	struct cache_owed row;
	int err;

	while ((err = cache_owed_newest_of(lost->txn, lost->inode.ino,
			lost->inode.serial, &row)) == 0) {
		err = cache_owed_fall_out(lost->txn, row.seq);
		cache_owed_fini(&row);
		if (err < 0)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

/* The row says what the data file holds now. */
static int put_as_it_is(struct lost *lost, enum cache_doubt doubt)
{
	struct cache_inode *inode = &lost->inode;
	int err;

	inode->written = false;
	inode->stored = false;
	inode->fsynced = true;
	inode->doubt = doubt;
	inode->gen++;
	inode->synced_gen = inode->gen;
	inode->data = CACHE_WHOLE;
	cache_id_new(lost->tier->cache, &inode->content);
	if (lost->exists) {
		inode->size_bytes = lost->now.size_bytes;
		inode->mtime_ns = lost->now.mtime_ns;
		inode->stamp = lost->now;
	}
	err = cache_inode_put(lost->txn, inode);
	return err < 0 || !lost->exists
		? err
		: cache_space_account(lost->txn, inode->ino);
}

/* ---- it keeps its name (P2) ---- */

static int keep_name(struct lost *lost)
{
	int err = put_as_it_is(lost, CACHE_UNCONFIRMED);

	if (err == 0)
		log_warn("%s: was being changed when the power went, and not "
			 "synced: it is not sent before it is written again, "
			 "or flushed",
			lost->path.data);
	return err;
}

/* ---- it goes beside it (P3) ---- */

static void copy_name(struct lost *lost, unsigned n, char *ret, size_t size)
{
	const char *name = lost->dentry.name;
	time_t now = (time_t)(base_wall_ns(lost->tier->env) / TIER_S);
	char tail[128], stamp[32], nr[16] = "";
	size_t stem = strlen(name);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	if (n > 0)
		snprintf(nr, sizeof(nr), "-%u", n);
	snprintf(tail, sizeof(tail), ".recovered-%.64s-%s%s",
		lost->tier->cfg.host_name, stamp, nr);
	if (stem > CACHE_NAME_MAX - strlen(tail)) {
		stem = CACHE_NAME_MAX - strlen(tail);
		/* not inside a UTF-8 character */
		while (stem > 0 && ((unsigned char)name[stem] & 0xc0) == 0x80)
			stem--;
	}
	snprintf(ret, size, "%.*s%s", (int)stem, name, tail);
}

static int free_name(struct lost *lost, char *ret, size_t size)
{
	struct cache_dentry dentry;

	for (unsigned n = 0; n < NAMES_MAX; n++) {
		int err;

		copy_name(lost, n, ret, size);
		err = cache_dentry_get(
			lost->txn, lost->dentry.parent, ret, &dentry);
		if (err < 0)
			return err == -ENOENT ? 0 : err;
	}
	return -EEXIST;
}

/* The name shows what another row of it still wants. */
static int show_owed(struct lost *lost, const struct cache_owed *row)
{
	struct cache_inode other;
	int err;

	if (row->kind == CACHE_GONE || row->ino == lost->inode.ino)
		return 0;
	err = cache_inode_get(lost->txn, row->ino, &other);
	if (err < 0 || other.nlink != 0)
		return err == -ENOENT ? 0 : err;
	other.nlink = other.kind == CACHE_DIR ? 2 : 1;
	err = cache_inode_put(lost->txn, &other);
	if (err == 0)
		err = cache_held_del(lost->txn, other.ino);
	return err < 0 ? err
		       : cache_dentry_add(lost->txn, lost->dentry.parent,
				 lost->dentry.name, other.ino);
}

/* Is the blob of a file that was here before this one?  That one was removed,
 * and stays so. */
static bool is_another(struct lost *lost, const struct cache_remote *remote)
{
	return !cache_id_is_none(&remote->file) &&
		!cache_id_eq(&remote->file, &lost->inode.file);
}

static int show_other(struct lost *lost)
{
	struct cache_remote remote;
	struct cache_owed row;
	int err = cache_owed_newest(lost->txn, lost->path.data, &row);

	if (err == 0) {
		err = show_owed(lost, &row);
		cache_owed_fini(&row);
		return err;
	}
	if (err == -ENOENT)
		err = cache_remote_get(lost->txn, lost->path.data, &remote);
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	if (is_another(lost, &remote))
		err = tier_enter(lost->tier, lost->txn, lost->path.data, NULL,
			TIER_DELETE, 0);
	else
		err = tier_merge_show(lost->tier, lost->txn,
			lost->dentry.parent, lost->dentry.name, &remote);
	cache_remote_fini(&remote);
	return err;
}

static int let_go(struct lost *lost)
{
	bool gone;
	int err;

	lost->inode.written = false;
	lost->inode.nlink = 0;
	err = cache_inode_put(lost->txn, &lost->inode);
	if (err == 0)
		err = cache_held_add(lost->txn, lost->inode.ino);
	return err < 0
		? err
		: cache_held_put(lost->txn, lost->inode.ino, false, &gone);
}

static int set_beside(struct lost *lost)
{
	char name[CACHE_NAME_MAX + 1];
	int err = cache_dentry_del(
		lost->txn, lost->dentry.parent, lost->dentry.name);

	if (err == 0 && !lost->has_bytes) {
		log_warn("%s: was made a moment before the power went; nothing "
			 "of it is there",
			lost->path.data);
		err = let_go(lost);
	} else if (err == 0) {
		err = free_name(lost, name, sizeof(name));
		if (err == 0)
			err = cache_dentry_add(lost->txn, lost->dentry.parent,
				name, lost->inode.ino);
		if (err == 0)
			err = put_as_it_is(lost, CACHE_RECOVERED);
		if (err == 0)
			log_warn("%s: was not synced when the power went: what "
				 "is left of it is %s, and is not sent",
				lost->path.data, name);
	}
	return err < 0 ? err : show_other(lost);
}

/* ---- one file ---- */

/* Nobody can name it; whoever had it open is gone. */
static int drop_nameless(struct lost *lost)
{
	int err = cache_inode_get(lost->txn, lost->inode.ino, &lost->inode);

	return err < 0 ? (err == -ENOENT ? 0 : err) : let_go(lost);
}

/* P5 */
static int keep_empty(struct lost *lost)
{
	struct cache_inode *inode = &lost->inode;
	int fd = cache_data_open(
		lost->tier->cache, inode->ino, inode->serial, O_RDWR | O_CREAT);

	if (fd < 0)
		return fd;
	close(fd);
	inode->synced_gen = inode->gen;
	return cache_inode_put(lost->txn, inode);
}

static int decide(struct lost *lost)
{
	struct cache_inode *inode = &lost->inode;
	int err = cache_dentry_of(lost->txn, inode->ino, &lost->dentry);
	bool was_empty = !inode->written && inode->size_bytes == 0;

	if (err == 0)
		err = cache_path_join(lost->txn, lost->dentry.parent,
			lost->dentry.name, &lost->path);
	if (err < 0 && err != -ENOENT)
		return err;
	if (err == 0 && was_empty && !lost->has_bytes)
		return keep_empty(lost);
	if (err == 0)
		err = drop_rows(lost);
	else
		return drop_rows(lost) < 0 ? -EIO : drop_nameless(lost);
	if (err < 0)
		return err;
	return inode->fsynced ? keep_name(lost) : set_beside(lost);
}

static int recover_file(struct tier *tier, uint64_t ino)
{
	struct lost lost = { .tier = tier, .path = BASE_STR_INIT };
	int err = cache_write(tier->cache, &lost.txn);

	if (err < 0)
		return err;
	err = cache_inode_get(lost.txn, ino, &lost.inode);
	if (err == 0) {
		lost.exists = cache_data_stat(tier->cache, ino,
				      lost.inode.serial, &lost.now, NULL) == 0;
		lost.has_bytes = lost.exists && lost.now.size_bytes > 0;
		err = decide(&lost);
	}
	base_str_fini(&lost.path);
	if (err < 0) {
		cache_abort(lost.txn);
		return err == -ENOENT ? 0 : err;
	}
	return cache_commit(lost.txn);
}

/* ---- older states (P4) ---- */

static int give_up(struct cache_txn *txn, uint64_t seq)
{
	struct cache_owed row;
	int err = cache_owed_get(txn, seq, &row);

	if (err < 0)
		return err;
	if (row.state == CACHE_OWED_SENT) {
		row.serial = 0;
		err = cache_owed_put(txn, &row);
	} else {
		err = cache_owed_fall_out(txn, seq);
	}
	cache_owed_fini(&row);
	return err;
}

static int recover_row(struct tier *tier, uint64_t seq)
{
	struct cache_txn *txn;
	int err = cache_write(tier->cache, &txn);

	if (err < 0)
		return err;
	err = give_up(txn, seq);
	err = cache_end(txn, err);
	return err == -ENOENT ? 0 : err;
}

/* ---- all of them ---- */

struct numbers {
	uint64_t *nr;
	size_t len, cap;
};

static void push(struct numbers *numbers, uint64_t nr)
{
	if (numbers->len == numbers->cap) {
		numbers->cap = numbers->cap ? 2 * numbers->cap : 64;
		numbers->nr = base_realloc(
			numbers->nr, numbers->cap * sizeof(*numbers->nr));
	}
	numbers->nr[numbers->len++] = nr;
}

static int push_ino(void *arg, uint64_t ino)
{
	push(arg, ino);
	return 0;
}

static int push_row(void *arg, const struct cache_owed *row)
{
	push(arg, row->seq);
	return 0;
}

/* Nobody has anything open after a reboot. */
static int drop_held(struct tier *tier)
{
	struct numbers held = { 0 };
	struct cache_txn *txn;
	bool gone;
	int err = cache_write(tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_held_each(txn, push_ino, &held);
	for (size_t i = 0; err == 0 && i < held.len; i++)
		err = cache_held_put(txn, held.nr[i], false, &gone);
	free(held.nr);
	if (err == 0)
		err = cache_recovered(txn);
	return cache_end(txn, err);
}

int tier_recover(struct tier *tier)
{
	struct numbers inos = { 0 }, rows = { 0 };
	struct cache_txn *txn;
	int err = cache_read(tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_unproven_each(txn, push_ino, &inos);
	if (err == 0)
		err = cache_unproven_owed_each(txn, push_row, &rows);
	cache_abort(txn);
	for (size_t i = 0; err == 0 && i < rows.len; i++)
		err = recover_row(tier, rows.nr[i]);
	for (size_t i = 0; err == 0 && i < inos.len; i++)
		err = recover_file(tier, inos.nr[i]);
	free(inos.nr);
	free(rows.nr);
	if (err == 0)
		err = drop_held(tier);
	return err < 0 ? err : cache_sync_index(tier->cache);
}

/* ---- what the user confirms ---- */

static int push_unconfirmed(void *arg, const struct cache_inode *inode)
{
	if (inode->doubt == CACHE_UNCONFIRMED)
		push(arg, inode->ino);
	return 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return len == 0 ||
		(strncmp(path, dir, len) == 0 &&
			(path[len] == '\0' || path[len] == '/'));
}

static int confirm_one(
	struct tier *tier, struct cache_txn *txn, uint64_t ino, const char *dir)
{
	struct base_str path = BASE_STR_INIT;
	struct cache_inode inode;
	int err = cache_inode_get(txn, ino, &inode);

	/* The close of who writes to it enters it. */
	if (err == 0 && inode.doubt == CACHE_UNCONFIRMED && !inode.written)
		err = cache_path_of(txn, ino, &path);
	if (err == 0 && path.len > 0 && is_below(path.data, dir))
		err = tier_enter(tier, txn, path.data, &inode, TIER_CONTENT, 0);
	base_str_fini(&path);
	return err == -ENOENT ? 0 : err;
}

int tier_doubts_confirm(struct tier *tier, const char *path)
{
	struct numbers inos = { 0 };
	struct cache_txn *txn;
	int err = cache_read(tier->cache, &txn);

	if (err < 0)
		return err;
	err = cache_doubt_each(txn, push_unconfirmed, &inos);
	cache_abort(txn);
	if (err == 0 && inos.len > 0)
		err = cache_write(tier->cache, &txn);
	if (err < 0 || inos.len == 0) {
		free(inos.nr);
		return err;
	}
	for (size_t i = 0; err == 0 && i < inos.len; i++)
		err = confirm_one(tier, txn, inos.nr[i], path);
	free(inos.nr);
	return cache_end(txn, err);
}
