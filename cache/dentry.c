/*
 * Names: rows by (parent, name), and paths made of them.
 *
 * A cookie is a number that no other name ever had, so a directory offset
 * stays valid when entries come and go, and after a restart.  Small
 * numbers are never given: they are free for "." and "..".
 */
#include <errno.h>
#include <string.h>

#include "cache/tree.h"

/* Steps up from an inode before we believe in a cycle: paths are shorter. */
#define DEPTH_MAX CACHE_PATH_MAX

static void read_dentry(struct cache_query *q, struct cache_dentry *ret)
{
	ret->parent = cache_db_u64(q);
	ret->ino = cache_db_u64(q);
	ret->cookie = cache_db_u64(q);
	cache_db_text(q, ret->name, sizeof(ret->name));
}

int cache_dentry_get(struct cache_txn *txn, uint64_t parent, const char *name,
	struct cache_dentry *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT parent, ino, cookie, name FROM dentry "
		"WHERE parent = ? AND name = ?");
	cache_db_bind_u64(&q, parent);
	cache_db_bind_name(&q, name);
	err = cache_db_one(&q);
	if (err == 0)
		read_dentry(&q, ret);
	return cache_db_end(&q, err);
}

int cache_dentry_add(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino)
{
	struct cache_query q;
	uint64_t cookie;
	int err;

	if (strlen(name) > CACHE_NAME_MAX)
		return -ENAMETOOLONG;
	err = cache_db_number(txn, CACHE_COUNT_COOKIE, &cookie);
	if (err != 0)
		return err;
	cache_db_begin(&q, txn,
		"INSERT INTO dentry(parent, name, ino, cookie) "
		"VALUES (?, ?, ?, ?)");
	cache_db_bind_u64(&q, parent);
	cache_db_bind_name(&q, name);
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, cookie);
	return cache_db_run(&q);
}

int cache_dentry_del(struct cache_txn *txn, uint64_t parent, const char *name)
{
	struct cache_query q;

	cache_db_begin(
		&q, txn, "DELETE FROM dentry WHERE parent = ? AND name = ?");
	cache_db_bind_u64(&q, parent);
	cache_db_bind_name(&q, name);
	return cache_db_run_one(&q);
}

int cache_dentry_set(
	struct cache_txn *txn, uint64_t parent, const char *name, uint64_t ino)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE dentry SET ino = ? WHERE parent = ? AND name = ?");
	cache_db_bind_u64(&q, ino);
	cache_db_bind_u64(&q, parent);
	cache_db_bind_name(&q, name);
	return cache_db_run_one(&q);
}

int cache_dentry_each(struct cache_txn *txn, uint64_t parent, uint64_t after,
	cache_dentry_fn each, void *arg)
{
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT d.parent, d.ino, d.cookie, d.name, " CACHE_INODE_COLUMNS
		" FROM dentry d INDEXED BY dentry_cookie"
		" CROSS JOIN inode i ON i.ino = d.ino"
		" WHERE d.parent = ? AND d.cookie > ? ORDER BY d.cookie");
	cache_db_bind_u64(&q, parent);
	cache_db_bind_u64(&q, after);
	while ((err = cache_db_step(&q)) > 0) {
		read_dentry(&q, &dentry);
		cache_inode_read(&q, &inode);
		err = each(arg, &dentry, &inode);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}

int cache_dir_is_empty(struct cache_txn *txn, uint64_t ino, bool *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(
		&q, txn, "SELECT 1 FROM dentry WHERE parent = ? LIMIT 1");
	cache_db_bind_u64(&q, ino);
	err = cache_db_step(&q);
	if (err >= 0) {
		*ret = err == 0;
		err = 0;
	}
	return cache_db_end(&q, err);
}

int cache_dentry_of(
	struct cache_txn *txn, uint64_t ino, struct cache_dentry *ret)
{
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT parent, ino, cookie, name FROM dentry "
		"WHERE ino = ? LIMIT 1");
	cache_db_bind_u64(&q, ino);
	err = cache_db_one(&q);
	if (err == 0)
		read_dentry(&q, ret);
	return cache_db_end(&q, err);
}

/* ---- paths ---- */

/* Built from its end: /c, then /b/c. */
struct path {
	char buf[CACHE_PATH_MAX + 1];
	size_t start;
};

static int prepend(struct path *p, const char *name)
{
	size_t len = strlen(name);

	if (len + 1 > p->start)
		return -ENAMETOOLONG;
	p->start -= len;
	memcpy(p->buf + p->start, name, len);
	p->buf[--p->start] = '/';
	return 0;
}

static int climb(struct cache_txn *txn, uint64_t ino, struct path *p)
{
	struct cache_dentry d;
	int err = 0;

	while (ino != CACHE_ROOT_INO && err == 0) {
		err = cache_dentry_of(txn, ino, &d);
		if (err == 0)
			err = prepend(p, d.name);
		ino = d.parent;
	}
	return err;
}

static int finish(struct path *p, int err, struct base_str *ret)
{
	size_t skip = p->buf[p->start] == '/';

	if (err == 0) {
		base_str_clear(ret);
		base_str_puts(ret, p->buf + p->start + skip);
	}
	return err;
}

int cache_path_of(struct cache_txn *txn, uint64_t ino, struct base_str *ret)
{
	struct path p;

	p.start = sizeof(p.buf) - 1;
	p.buf[p.start] = '\0';
	return finish(&p, climb(txn, ino, &p), ret);
}

int cache_path_join(struct cache_txn *txn, uint64_t parent, const char *name,
	struct base_str *ret)
{
	struct path p;
	int err;

	p.start = sizeof(p.buf) - 1;
	p.buf[p.start] = '\0';
	err = prepend(&p, name);
	if (err == 0)
		err = climb(txn, parent, &p);
	return finish(&p, err, ret);
}

/* Why a component was not found: its parent may be no directory. */
static int not_found(struct cache_txn *txn, uint64_t parent)
{
	struct cache_inode inode;
	int err = cache_inode_get(txn, parent, &inode);

	if (err == 0)
		err = inode.kind == CACHE_DIR ? -ENOENT : -ENOTDIR;
	return err;
}

int cache_resolve(
	struct cache_txn *txn, const char *path, struct cache_inode *ret)
{
	uint64_t ino = CACHE_ROOT_INO;

	while (*path != '\0') {
		char name[CACHE_NAME_MAX + 1];
		size_t len = strcspn(path, "/");
		struct cache_dentry d;
		int err;

		if (len > CACHE_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = '\0';
		path += len + strspn(path + len, "/");
		if (len == 0)
			continue;
		err = cache_dentry_get(txn, ino, name, &d);
		if (err == -ENOENT)
			return not_found(txn, ino);
		if (err != 0)
			return err;
		ino = d.ino;
	}
	return cache_inode_get(txn, ino, ret);
}

/* Calls `stop` with the inode and with each directory above it, until it
 * answers non-zero; the root is the last. */
static int above(struct cache_txn *txn, uint64_t ino,
	int (*stop)(struct cache_txn *, uint64_t ino, void *arg), void *arg)
{
	struct cache_dentry d;
	int err;

	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		err = stop(txn, ino, arg);
		if (err != 0 || ino == CACHE_ROOT_INO)
			return err;
		err = cache_dentry_of(txn, ino, &d);
		if (err != 0)
			return err == -ENOENT ? 0 : err;
		ino = d.parent;
	}
	return 0;
}

static int is_it(struct cache_txn *txn, uint64_t ino, void *arg)
{
	(void)txn;
	return ino == *(uint64_t *)arg;
}

int cache_is_below(struct cache_txn *txn, uint64_t ino, uint64_t dir, bool *ret)
{
	int err = above(txn, ino, is_it, &dir);

	if (err < 0)
		return err;
	*ret = err > 0;
	return 0;
}

/* ---- pins ---- */

int cache_pin_set(struct cache_txn *txn, uint64_t ino, bool pinned)
{
	if (pinned)
		return cache_db_run_ino(
			txn, "INSERT OR IGNORE INTO pin VALUES (?)", ino);
	return cache_db_run_ino(txn, "DELETE FROM pin WHERE ino = ?", ino);
}

static int is_pinned(struct cache_txn *txn, uint64_t ino, void *arg)
{
	struct cache_query q;

	(void)arg;
	cache_db_begin(&q, txn, "SELECT 1 FROM pin WHERE ino = ?");
	cache_db_bind_u64(&q, ino);
	return cache_db_end(&q, cache_db_step(&q));
}

int cache_pin_get(struct cache_txn *txn, uint64_t ino, bool *ret)
{
	struct cache_query q;
	int err;

	/* Most mounts have none: then nobody climbs. */
	cache_db_begin(&q, txn, "SELECT 1 FROM pin LIMIT 1");
	err = cache_db_end(&q, cache_db_step(&q));
	if (err > 0)
		err = above(txn, ino, is_pinned, NULL);
	if (err < 0)
		return err;
	*ret = err > 0;
	return 0;
}
