/*
 * The tables of the index, and how an older index becomes a newer one.
 *
 * Names are BLOBs, compared by bytes.  Ids are BLOBs of 16 bytes, NULL for
 * none.  group_dir is empty between transactions (cache_owed_join()).  Times
 * that mean CLOCK_BOOTTIME carry the number of the boot (`boot`) beside them:
 * after a reboot they only say "before".  Integers hold unsigned 64-bit numbers
 * as SQLite's signed ones.
 *
 * Indexes are few, because each costs every insert; partial ones are empty in
 * the common case.
 *	dentry_cookie	directory offsets
 *	dentry_ino	a name of an inode (paths, hard links)
 *	inode_written	writers that an earlier run left behind
 *	inode_flush	what a power cut may have taken back
 *	inode_far	files whose bytes are only in the store, by content
 *	inode_unread	symlinks whose target is only in the store, by content
 *	inode_doubt	what a power cut left in doubt
 *	owed_line	the line in its order, without what is set aside
 *	owed_aside	what was refused for good, by name
 *	owed_far	states whose bytes are only in the store
 *	owed_flush	kept states that a power cut may have taken back
 *	owed_group	groups, in the order of their steps
 *	owed_large	files that are staged in blocks (CACHE_OWED_LARGE)
 *	prefix_*	directory renames by place in the line, and by directory
 */
#include "cache/db.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define APPLICATION_ID 0x66626179 /* "fbay" */

static const char version_1[] =
	"CREATE TABLE meta(key BLOB PRIMARY KEY, value) WITHOUT ROWID;"
	"CREATE TABLE inode(ino INTEGER PRIMARY KEY, kind INTEGER, mode INTEGER,"
	"	uid INTEGER, gid INTEGER, nlink INTEGER, rdev INTEGER, size INTEGER,"
	"	mtime_ns INTEGER, ctime_ns INTEGER, atime_ns INTEGER,"
	"	btime_ns INTEGER, gen INTEGER, meta_gen INTEGER, synced_gen INTEGER,"
	"	serial INTEGER, serial_top INTEGER, data INTEGER, written INTEGER,"
	"	stored INTEGER, implicit INTEGER, no_data INTEGER, read_only INTEGER,"
	"	content BLOB, file BLOB, stamp_size INTEGER, stamp_mtime_ns INTEGER,"
	"	stamp_ctime_ns INTEGER, local_bytes INTEGER,"
	"	flush_nr INTEGER NOT NULL DEFAULT 0, target BLOB);"
	"CREATE INDEX inode_written ON inode(ino) WHERE written = 1;"
	"CREATE INDEX inode_flush ON inode(flush_nr) WHERE flush_nr > 0;"
	"CREATE INDEX inode_far ON inode(content) WHERE content IS NOT NULL AND"
	"	data <> 2 AND kind = 1;"
	"CREATE TABLE dentry(parent INTEGER, name BLOB, ino INTEGER, cookie INTEGER,"
	"	PRIMARY KEY(parent, name)) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX dentry_cookie ON dentry(parent, cookie);"
	"CREATE INDEX dentry_ino ON dentry(ino);"
	"CREATE TABLE xattr(ino INTEGER, name BLOB, value BLOB,"
	"	PRIMARY KEY(ino, name)) WITHOUT ROWID;"
	"CREATE TABLE held(ino INTEGER PRIMARY KEY);"
	"CREATE TABLE pin(ino INTEGER PRIMARY KEY);"
	"CREATE TABLE listing(ino INTEGER PRIMARY KEY, listed_ns INTEGER,"
	"	boot INTEGER, complete INTEGER);"
	"CREATE TABLE extent(ino INTEGER, start INTEGER, end INTEGER, dirty INTEGER,"
	"	flush_nr INTEGER, PRIMARY KEY(ino, start)) WITHOUT ROWID;"
	"CREATE TABLE used(ino INTEGER PRIMARY KEY, queue INTEGER, place INTEGER,"
	"	uses INTEGER);"
	"CREATE INDEX used_place ON used(queue, place);"
	"CREATE TABLE remote(name BLOB PRIMARY KEY, etag BLOB, size INTEGER,"
	"	kind INTEGER, slash INTEGER, md5 BLOB, content BLOB, file BLOB,"
	"	commit_host BLOB, commit_number INTEGER, parents BLOB, mode INTEGER,"
	"	uid INTEGER, gid INTEGER, rdev INTEGER, mtime_ns INTEGER,"
	"	\"foreign\" BLOB, known_seq INTEGER) WITHOUT ROWID;"
	"CREATE INDEX remote_content ON remote(content) WHERE content IS NOT NULL;"
	"CREATE TABLE owed(seq INTEGER PRIMARY KEY, epoch INTEGER,"
	"	name BLOB NOT NULL,"
	"	kind INTEGER, state INTEGER, grp INTEGER,"
	"	phase INTEGER, attrs_only INTEGER,"
	"	quiet INTEGER, change INTEGER, ino INTEGER, serial INTEGER,"
	"	size INTEGER, gen INTEGER, content BLOB, mode INTEGER, uid INTEGER,"
	"	gid INTEGER, rdev INTEGER, mtime_ns INTEGER, displaced INTEGER,"
	"	entered_ns INTEGER, boot INTEGER, tries INTEGER, error BLOB,"
	"	refused_ns INTEGER, local_bytes INTEGER NOT NULL DEFAULT 0);"
	"CREATE INDEX owed_name ON owed(name, seq);"
	"CREATE INDEX owed_line ON owed(epoch, seq) WHERE state <> 2;"
	"CREATE INDEX owed_ino ON owed(ino, serial);"
	"CREATE INDEX owed_aside ON owed(name, seq) WHERE state = 2;"
	"CREATE INDEX owed_far ON owed(content) WHERE serial = 0 AND kind = 1;"
	"CREATE INDEX owed_group ON owed(epoch, phase, seq) WHERE grp = 1 AND"
	"	state <> 2;"
	"CREATE INDEX owed_large ON owed(epoch, seq) WHERE size > 8388608 AND"
	"	kind = 1 AND state = 0;"
	"CREATE TABLE owed_prefix(seq INTEGER PRIMARY KEY, epoch INTEGER,"
	"	old_dir BLOB NOT NULL, new_dir BLOB NOT NULL, deleting INTEGER,"
	"	cursor BLOB, done INTEGER, total INTEGER);"
	"CREATE INDEX prefix_line ON owed_prefix(epoch, seq);"
	"CREATE INDEX prefix_old ON owed_prefix(old_dir);"
	"CREATE INDEX prefix_new ON owed_prefix(new_dir);"
	"CREATE TABLE group_dir(dir BLOB PRIMARY KEY, seq INTEGER) WITHOUT ROWID;"
	"CREATE TABLE sent(number INTEGER PRIMARY KEY, host BLOB,"
	"	name BLOB NOT NULL,"
	"	op INTEGER, base_etag BLOB, content BLOB, owed_seq INTEGER,"
	"	size INTEGER, md5 BLOB,"
	"	sent_ns INTEGER, boot INTEGER, settled INTEGER);"
	"CREATE INDEX sent_name ON sent(name);"
	"CREATE TABLE manifest(content BLOB, block INTEGER, hash BLOB,"
	"	PRIMARY KEY(content, block)) WITHOUT ROWID;"
	"CREATE TABLE conflict(id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	name BLOB NOT NULL,"
	"	copy BLOB, remote_etag BLOB, local_size INTEGER, remote_size INTEGER,"
	"	local_mtime_ns INTEGER, remote_mtime_ns INTEGER, found_ns INTEGER);"
	"CREATE TABLE job(id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	path BLOB NOT NULL,"
	"	pin INTEGER, meta_only INTEGER);"
	"CREATE TABLE replied(slot INTEGER PRIMARY KEY, request INTEGER,"
	"	reply BLOB);";

/* Digests of block lists. */
static const char version_2[] = "ALTER TABLE remote ADD COLUMN list BLOB;"
				"ALTER TABLE sent ADD COLUMN list BLOB;"
				"DROP TABLE manifest;";

/* What a power cut leaves in doubt. */
static const char version_3[] =
	"ALTER TABLE inode ADD COLUMN fsynced INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE inode ADD COLUMN doubt INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX inode_doubt ON inode(ino) WHERE doubt > 0;"
	"ALTER TABLE owed ADD COLUMN flush_nr INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX owed_flush ON owed(flush_nr) WHERE flush_nr > 0;";

/* Whose the other side of a lost race is. */
static const char version_4[] =
	"ALTER TABLE conflict ADD COLUMN remote_host BLOB;";

/* Symlinks that were never read here. */
static const char version_5[] =
	"CREATE INDEX inode_unread ON inode(content) WHERE content IS NOT NULL"
	"	AND target IS NULL AND kind = 3;";

/* What may be done with a blob (enum cache_access); the next listing says it of
 * the rows that are there. */
static const char version_6[] =
	"ALTER TABLE remote ADD COLUMN access INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE inode ADD COLUMN access INTEGER NOT NULL DEFAULT 0;"
	"UPDATE inode SET access = CASE WHEN no_data THEN 2 ELSE 1 END"
	"	WHERE no_data OR read_only;"
	"ALTER TABLE inode DROP COLUMN no_data;"
	"ALTER TABLE inode DROP COLUMN read_only;";

/* The order within a group.  Before, that was its phase; the newest
 * replacement of each directory had one of its own, 2. */
static const char version_7[] =
	"ALTER TABLE owed ADD COLUMN run INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE owed ADD COLUMN step INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE owed_prefix ADD COLUMN step INTEGER NOT NULL DEFAULT 0;"
	"UPDATE owed SET run = epoch, step = iif(grp = 1, epoch * 4 + phase, 0),"
	"	phase = iif(phase = 2, 1, phase);"
	"DROP INDEX owed_group;"
	"CREATE INDEX owed_group ON owed(epoch, step, seq) WHERE grp = 1 AND"
	"	state <> 2;";

/* Entry n makes version n + 1 from version n. */
static const char *const versions[] = { version_1, version_2, version_3,
	version_4, version_5, version_6, version_7 };
#define VERSION ((int)(sizeof(versions) / sizeof(versions[0])))

static int pragma_get(sqlite3 *db, const char *sql, int64_t *ret)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK) {
		code = sqlite3_step(stmt);
		if (code == SQLITE_ROW) {
			*ret = sqlite3_column_int64(stmt, 0);
			code = SQLITE_OK;
		}
	}
	sqlite3_finalize(stmt);
	return code;
}

static int exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* An older index is copied first, and stays beside the new one as index.db.vN
 * until the next time: a migration that proves wrong can be taken back. */
static int copy_index(struct cache *cache, int version)
{
	sqlite3 *db = cache->write_conn->db;
	char name[64];
	char *sql;
	int code;

	snprintf(name, sizeof(name), CACHE_INDEX_FILE ".v%d", version);
	unlinkat(cache->dir_fds[0], name, 0);
	sql = sqlite3_mprintf("VACUUM INTO '%q/%q'", cache->dirs[0], name);
	if (sql == NULL)
		return SQLITE_NOMEM;
	code = exec(db, sql);
	sqlite3_free(sql);
	if (code != SQLITE_OK)
		unlinkat(cache->dir_fds[0], name, 0);
	else
		log_info("index: version %d becomes %d; the old one is copied "
			 "to %s/%s",
			version, VERSION, cache->dirs[0], name);
	return code;
}

/* One transaction: an index is of one version or of the other. */
static int migrate(sqlite3 *db, int from)
{
	char sql[96];
	int code = exec(db, "BEGIN IMMEDIATE");

	for (int v = from; v < VERSION && code == SQLITE_OK; v++)
		code = exec(db, versions[v]);
	sqlite3_snprintf(sizeof(sql), sql,
		"PRAGMA application_id = %d; PRAGMA user_version = %d",
		APPLICATION_ID, VERSION);
	if (code == SQLITE_OK)
		code = exec(db, sql);
	if (code == SQLITE_OK)
		code = exec(db, "COMMIT");
	else
		exec(db, "ROLLBACK");
	return code;
}

static int explain(struct cache *cache, int code, char *why, size_t why_bytes)
{
	const char *dir = cache->dirs[0];
	int primary = code & 0xff;
	int err = cache_db_errno(cache->write_conn->db, code, NULL);

	if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB)
		snprintf(why, why_bytes,
			"%s/" CACHE_INDEX_FILE " is damaged: run forebay "
			"fsck %s, or move the cache directory away (what was "
			"not sent to the store stays in its data files)",
			dir, dir);
	else if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED)
		snprintf(why, why_bytes,
			"%s/" CACHE_INDEX_FILE " is locked by another "
			"program: close it",
			dir);
	else
		snprintf(why, why_bytes,
			"cannot open " CACHE_INDEX_FILE " in %s: %s: %s", dir,
			strerrordesc_np(-err),
			err == -ENOSPC ? "free some space there"
				       : "make the directory writable");
	return err;
}

int cache_schema_version(void)
{
	return VERSION;
}

int cache_schema_open(
	struct cache *cache, bool *ret_fresh, char *why, size_t why_bytes)
{
	sqlite3 *db = cache->write_conn->db;
	int64_t version = 0, id = 0, tables = 0;
	int code = pragma_get(db, "PRAGMA user_version", &version);

	if (code == SQLITE_OK)
		code = pragma_get(db, "PRAGMA application_id", &id);
	if (code == SQLITE_OK)
		code = pragma_get(
			db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (code != SQLITE_OK)
		return explain(cache, code, why, why_bytes);
	if (tables != 0 && id != APPLICATION_ID) {
		snprintf(why, why_bytes,
			"%s/" CACHE_INDEX_FILE " is not an index of forebay: "
			"choose another cache directory",
			cache->dirs[0]);
		return -EEXIST;
	}
	if (version > VERSION) {
		snprintf(why, why_bytes,
			"%s was made by a newer forebay (index version %d, "
			"this one knows %d): install that one, or choose "
			"another cache directory",
			cache->dirs[0], (int)version, VERSION);
		return -EPROTO;
	}
	code = exec(db,
		"PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;"
		"PRAGMA synchronous = FULL");
	if (code == SQLITE_OK && version > 0 && version < VERSION)
		code = copy_index(cache, (int)version);
	if (code == SQLITE_OK && version < VERSION)
		code = migrate(db, (int)version);
	if (code != SQLITE_OK)
		return explain(cache, code, why, why_bytes);
	*ret_fresh = version == 0;
	return 0;
}
