/*
 * Rows that contradict each other (see check.h): each check is a question that
 * no row of a sound index answers, and what makes it so again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/check.h"

#define FIXES_MAX 4

struct row_check {
	const char *what, *text;
	const char *sql;	    /* ino, other number, name */
	bool settled;		    /* only where the cache was settled */
	const char *fix[FIXES_MAX]; /* what to do about all of them */
};

#define NO_INODE(column) \
	"NOT EXISTS(SELECT 1 FROM inode i WHERE i.ino = " column ")"
/* Of inode i. */
#define NAMELESS                                                           \
	"ino <> 1 AND NOT EXISTS(SELECT 1 FROM dentry d WHERE d.ino = "    \
	"i.ino) AND NOT EXISTS(SELECT 1 FROM held h WHERE h.ino = i.ino) " \
	"AND NOT EXISTS(SELECT 1 FROM owed o WHERE o.ino = i.ino OR "      \
	"o.displaced = i.ino)"
#define NO_DIR                                                       \
	"NOT EXISTS(SELECT 1 FROM inode i WHERE i.ino = parent AND " \
	"i.kind = 2)"
#define IS_LINKS "(SELECT count(*) FROM dentry d WHERE d.ino = i.ino)"
#define DIR_LINKS                                                            \
	"(2 + (SELECT count(*) FROM dentry d JOIN inode k ON k.ino = d.ino " \
	"WHERE d.parent = i.ino AND k.kind = 2))"

static const struct row_check checks[] = {
	{ "name-of-nothing",
		"the name is dropped; if the store has it, it comes back",
		"SELECT ino, parent, name FROM dentry WHERE " NO_INODE(
			"dentry.ino"),
		false,
		{ "DELETE FROM listing WHERE ino IN (SELECT parent FROM dentry "
		  "WHERE " NO_INODE("dentry.ino") ")",
			"DELETE FROM dentry WHERE " NO_INODE("dentry.ino") } },
	{ "name-in-nothing",
		"the name is dropped; if the store has it, it comes back",
		"SELECT ino, parent, name FROM dentry WHERE " NO_DIR, false,
		{ "DELETE FROM dentry WHERE " NO_DIR } },
	{ "inode-without-name", "dropped; local bytes of it go to lost/",
		"SELECT ino, 0, '' FROM inode i WHERE " NAMELESS, true,
		{ "DELETE FROM inode AS i WHERE " NAMELESS } },
	{ "rows-of-nothing", "dropped",
		"SELECT ino, 0, t FROM (SELECT ino, 'extent' t FROM extent "
		"UNION SELECT ino, 'pin' FROM pin UNION SELECT ino, 'xattr' "
		"FROM xattr UNION SELECT ino, 'held' FROM held UNION SELECT "
		"ino, 'listing' FROM listing) x WHERE " NO_INODE("x.ino"),
		false,
		{ "DELETE FROM extent WHERE " NO_INODE("extent.ino"),
			"DELETE FROM pin WHERE " NO_INODE("pin.ino"),
			"DELETE FROM held WHERE " NO_INODE("held.ino"),
			"DELETE FROM listing WHERE " NO_INODE(
				"listing.ino") } },
	{ "extent-beyond-size", "cut at the size",
		"SELECT e.ino, e.end, '' FROM extent e JOIN inode i ON "
		"i.ino = e.ino WHERE i.written = 0 AND (e.end > i.size OR "
		"e.start >= e.end)",
		true,
		{ "DELETE FROM extent WHERE start >= end OR EXISTS(SELECT 1 "
		  "FROM inode i WHERE i.ino = extent.ino AND i.written = 0 AND "
		  "extent.start >= i.size)",
			"UPDATE extent SET end = (SELECT size FROM inode i "
			"WHERE i.ino = extent.ino) WHERE EXISTS(SELECT 1 FROM "
			"inode i WHERE i.ino = extent.ino AND i.written = 0 "
			"AND extent.end > i.size)" } },
	{ "extents-overlap", "the first is cut",
		"SELECT e.ino, e.start, '' FROM extent e WHERE EXISTS(SELECT "
		"1 FROM extent f WHERE f.ino = e.ino AND f.start > e.start "
		"AND f.start < e.end)",
		false,
		{ "UPDATE extent AS e SET end = (SELECT min(f.start) FROM "
		  "extent f WHERE f.ino = e.ino AND f.start > e.start) WHERE "
		  "EXISTS(SELECT 1 FROM extent f WHERE f.ino = e.ino AND "
		  "f.start > e.start AND f.start < e.end)" } },
	{ "part-without-extents", "its bytes are fetched again",
		"SELECT ino, 0, '' FROM inode i WHERE kind = 1 AND data = 1 "
		"AND stored = 1 AND written = 0 AND NOT EXISTS(SELECT 1 FROM "
		"extent e WHERE e.ino = i.ino) AND NOT EXISTS(SELECT 1 FROM "
		"owed o WHERE o.ino = i.ino)",
		true,
		{ "UPDATE inode AS i SET data = 0, flush_nr = 0 WHERE kind = 1 "
		  "AND data = 1 AND stored = 1 AND written = 0 AND NOT EXISTS("
		  "SELECT 1 FROM extent e WHERE e.ino = i.ino) AND NOT EXISTS("
		  "SELECT 1 FROM owed o WHERE o.ino = i.ino)" } },
};

static const struct row_check counts[] = {
	{ "link-count", "counted again",
		"SELECT ino, nlink, '' FROM inode i WHERE (kind <> 2 AND nlink "
		"<> " IS_LINKS " AND " IS_LINKS " > 0) OR (kind = 2 AND (ino = "
		"1 OR nlink > 0) AND nlink <> " DIR_LINKS ")",
		true,
		{ "UPDATE inode AS i SET nlink = " IS_LINKS
		  " WHERE kind <> 2 AND " IS_LINKS " > 0",
			"UPDATE inode AS i SET nlink = " DIR_LINKS
			" WHERE kind = 2 AND (ino = 1 OR nlink > 0)" } },
	{ "number-in-use", "the counter is raised",
		"SELECT value, 0, key FROM meta WHERE (key = "
		"CAST('next_ino' AS BLOB) AND value <= (SELECT max(ino) FROM "
		"inode)) OR (key = CAST('next_cookie' AS BLOB) AND value <= "
		"(SELECT max(cookie) FROM dentry)) OR (key = "
		"CAST('next_owed' AS BLOB) AND value <= (SELECT max(seq) FROM "
		"owed))",
		false,
		{ "UPDATE meta SET value = max(value, (SELECT "
		  "coalesce(max(ino), 0) + 1 FROM inode)) WHERE key = "
		  "CAST('next_ino' AS BLOB)",
			"UPDATE meta SET value = max(value, (SELECT "
			"coalesce(max(cookie), 0) + 1 FROM dentry)) WHERE key "
			"= CAST('next_cookie' AS BLOB)",
			"UPDATE meta SET value = max(value, (SELECT "
			"coalesce(max(seq), 0) + 1 FROM owed)) WHERE key = "
			"CAST('next_owed' AS BLOB)" } },
};

/* As cache/session.c counts; valid where the cache was closed. */
static const struct {
	const char *key, *sql;
} totals[] = {
	{ "total_inodes", "SELECT count(*) FROM inode" },
	{ "total_local_bytes",
		"SELECT (SELECT coalesce(sum(local_bytes), 0) FROM inode) + "
		"(SELECT coalesce(sum(local_bytes), 0) FROM owed)" },
	{ "total_owed_rows", "SELECT coalesce(sum(state <> 2), 0) FROM owed" },
	{ "total_owed_aside", "SELECT coalesce(sum(state = 2), 0) FROM owed" },
	{ "total_owed_files",
		"SELECT coalesce(sum(kind = 1 AND attrs_only = 0), 0) FROM "
		"owed" },
	{ "total_owed_bytes",
		"SELECT coalesce(sum(size * (kind = 1 AND attrs_only = 0)), 0) "
		"FROM owed" },
};

static int each_row(
	struct cache_check *c, uint64_t a, uint64_t b, const char *name)
{
	char *path = cache_check_path(c, a);

	(void)b;
	cache_check_found(
		c, c->what, name[0] != '\0' ? name : path, a, c->text);
	free(path);
	return 0;
}

static int run(struct cache_check *c, const struct row_check *check)
{
	uint64_t before = c->ret->found;
	int err;

	if (check->settled && !c->settled)
		return 0;
	c->what = check->what;
	c->text = check->text;
	err = cache_check_each(c, check->sql, each_row);
	if (err < 0 || c->ret->found == before || !c->config->repair)
		return err;
	for (size_t i = 0; i < FIXES_MAX && check->fix[i] && err == 0; i++)
		err = cache_check_exec(c, check->fix[i], 0, 0);
	return err;
}

int cache_check_rows(struct cache_check *c)
{
	int err = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks) && err == 0;
		i++)
		err = run(c, &checks[i]);
	return err;
}

static int check_total(struct cache_check *c, const char *key, const char *sql)
{
	char text[128], get[128], set[160];
	int64_t is, said;
	int err = cache_check_number(c, sql, &is);

	snprintf(get, sizeof(get),
		"SELECT value FROM meta WHERE key = CAST('%s' AS BLOB)", key);
	if (err == 0)
		err = cache_check_number(c, get, &said);
	if (err < 0 || is == said)
		return err;
	/* A repair changes what is counted: no finding of its own then. */
	if (!c->config->repair || c->ret->found == 0) {
		snprintf(text, sizeof(text), "it says %lld, and is %lld",
			(long long)said, (long long)is);
		cache_check_found(c, "counter", key, 0, text);
	}
	if (!c->config->repair)
		return 0;
	snprintf(set, sizeof(set),
		"UPDATE meta SET value = ? WHERE key = CAST('%s' AS BLOB)",
		key);
	return cache_check_exec(c, set, (uint64_t)is, 0);
}

int cache_check_counts(struct cache_check *c)
{
	int err = 0;

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts) && err == 0;
		i++)
		err = run(c, &counts[i]);
	for (size_t i = 0; i < sizeof(totals) / sizeof(*totals) && err == 0 &&
		c->ret->clean;
		i++)
		err = check_total(c, totals[i].key, totals[i].sql);
	return err;
}
