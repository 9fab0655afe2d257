/*
 * Connections and statements: see db.h.
 *
 * A connection keeps its prepared statements in a table keyed by the address
 * of the SQL literal; the folder has fewer literals than half the slots, and a
 * full table only costs a preparation.
 */
#include "cache/db.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Waits of a connection for another one's short lock (recovery after a crash,
 * a RESTART checkpoint); a transaction never waits for a reader. */
#define BUSY_TIMEOUT_MS 10000
/* Page caches, in KiB.  The writer's holds the inner pages of a tree of a
 * million inodes; a reader's is thrown away at each commit of the writer. */
#define WRITER_CACHE_KIB 16384
#define READER_CACHE_KIB 1024

int cache_db_errno(sqlite3 *db, int code, const char *what)
{
	int os = db != NULL ? sqlite3_system_errno(db) : 0;
	int err;

	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_FULL:
		err = -ENOSPC;
		break;
	case SQLITE_READONLY:
		err = -EROFS;
		break;
	case SQLITE_NOMEM:
		err = -ENOMEM;
		break;
	case SQLITE_PERM:
		err = -EACCES;
		break;
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		err = os == ENOSPC || os == EDQUOT || os == EROFS ||
				os == EACCES || os == EMFILE || os == ENFILE
			? -os
			: -EIO;
		/* It could not grow; SQLite forgets why. */
		if (code == SQLITE_IOERR_SHMSIZE)
			err = -ENOSPC;
		break;
	default:
		err = -EIO;
	}
	if (what != NULL)
		log_error("index: %s: %s (%d%s%s)", what,
			db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code),
			code, os != 0 ? ", " : "",
			os != 0 ? strerrordesc_np(os) : "");
	return err;
}

/* While it is being opened, the opener says why it failed, in one line. */
static int errno_of(
	struct cache *cache, sqlite3 *db, int code, const char *what)
{
	return cache_db_errno(db, code, cache->opening ? NULL : what);
}

/* ---- connections ---- */

/* space_delta(old, new): new; the difference goes into the account. */
static void space_delta(
	sqlite3_context *context, int argc, sqlite3_value **argv)
{
	struct cache_conn *conn = sqlite3_user_data(context);
	int64_t was = sqlite3_value_int64(argv[0]);
	int64_t now = sqlite3_value_int64(argv[1]);

	(void)argc;
	conn->txn.delta.local_bytes += now - was;
	sqlite3_result_int64(context, now);
}

/* dir_of(name): what stands before the last slash, "" at the top. */
static void dir_of(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	const char *name = sqlite3_value_blob(argv[0]);
	int len = sqlite3_value_bytes(argv[0]);

	(void)argc;
	while (len > 0 && name[len - 1] != '/')
		len--;
	if (len == 0)
		sqlite3_result_zeroblob(context, 0);
	else
		sqlite3_result_blob(context, name, len - 1, SQLITE_TRANSIENT);
}

static int configure(struct cache_conn *conn, bool writer)
{
	char sql[256];
	int code;

	sqlite3_extended_result_codes(conn->db, 1);
	sqlite3_busy_timeout(conn->db, BUSY_TIMEOUT_MS);
	sqlite3_db_config(
		conn->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	sqlite3_snprintf(sizeof(sql), sql,
		"PRAGMA synchronous = NORMAL;"
		"PRAGMA wal_autocheckpoint = 0;"
		"PRAGMA temp_store = MEMORY;"
		"PRAGMA cache_size = -%d",
		writer ? WRITER_CACHE_KIB : READER_CACHE_KIB);
	code = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_create_function_v2(conn->db, "space_delta", 2,
			SQLITE_UTF8 | SQLITE_DIRECTONLY, conn, space_delta,
			NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_create_function_v2(conn->db, "dir_of", 1,
			SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY,
			NULL, dir_of, NULL, NULL, NULL);
	return code;
}

int cache_conn_open(struct cache *cache, bool writer, struct cache_conn **ret)
{
	struct cache_conn *conn = base_calloc(1, sizeof(*conn));
	struct base_str path = BASE_STR_INIT;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
		SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW;
	int code, err = 0;

	if (writer)
		flags |= SQLITE_OPEN_CREATE;
	base_str_printf(&path, "%s/" CACHE_INDEX_FILE, cache->dirs[0]);
	code = sqlite3_open_v2(path.data, &conn->db, flags, NULL);
	if (code == SQLITE_OK)
		code = configure(conn, writer);
	if (code != SQLITE_OK) {
		err = errno_of(cache, conn->db, code, path.data);
		sqlite3_close(conn->db);
		free(conn);
	} else {
		conn->txn.cache = cache;
		conn->txn.conn = conn;
		conn->txn.db = conn->db;
		*ret = conn;
	}
	base_str_fini(&path);
	return err;
}

void cache_conn_close(struct cache_conn *conn)
{
	if (conn == NULL)
		return;
	for (size_t i = 0; i < CACHE_STMTS_MAX; i++)
		sqlite3_finalize(conn->stmts[i].stmt);
	if (sqlite3_close(conn->db) != SQLITE_OK)
		assert(!"a statement was not ended");
	free(conn->txn.drops);
	free(conn->txn.claims);
	free(conn);
}

/* ---- statements ---- */

static struct cache_stmt *find(struct cache_conn *conn, const char *sql)
{
	size_t i = ((uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 56;

	static_assert(CACHE_STMTS_MAX == 256, "the hash has eight bits");
	for (size_t n = 0; n < CACHE_STMTS_MAX; n++) {
		struct cache_stmt *s = &conn->stmts[i];

		if (s->sql == sql || s->sql == NULL)
			return s;
		i = (i + 1) % CACHE_STMTS_MAX;
	}
	return NULL;
}

static int prepare(struct cache_txn *txn, const char *sql, sqlite3_stmt **ret)
{
	int code = sqlite3_prepare_v3(
		txn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	if (code == SQLITE_OK)
		return 0;
	return errno_of(txn->cache, txn->db, code, sql);
}

static void fail(struct cache_query *q, int err)
{
	if (q->err == 0)
		q->err = err;
	if (q->txn->err == 0 && err != -EEXIST)
		q->txn->err = err;
}

void cache_db_begin_sql(
	struct cache_query *q, struct cache_txn *txn, const char *sql)
{
	struct cache_stmt *s = find(txn->conn, sql);
	int err = 0;

	memset(q, 0, sizeof(*q));
	q->txn = txn;
	q->err = txn->err;
	if (q->err != 0)
		return;
	if (s == NULL || (s->stmt != NULL && sqlite3_stmt_busy(s->stmt))) {
		q->own = true;
		err = prepare(txn, sql, &q->stmt);
	} else {
		if (s->stmt == NULL)
			err = prepare(txn, sql, &s->stmt);
		if (s->stmt != NULL)
			s->sql = sql;
		q->stmt = s->stmt;
	}
	if (err != 0)
		fail(q, err);
}

static void check_bind(struct cache_query *q, int code)
{
	if (code != SQLITE_OK)
		fail(q,
			errno_of(q->txn->cache, q->txn->db, code,
				sqlite3_sql(q->stmt)));
}

void cache_db_bind_i64(struct cache_query *q, int64_t value)
{
	if (q->err == 0)
		check_bind(q, sqlite3_bind_int64(q->stmt, ++q->param, value));
}

void cache_db_bind_blob(struct cache_query *q, const void *bytes, size_t len)
{
	if (q->err == 0)
		check_bind(q,
			bytes == NULL ? sqlite3_bind_null(q->stmt, ++q->param)
				      : sqlite3_bind_blob64(q->stmt, ++q->param,
						bytes, len, SQLITE_STATIC));
}

void cache_db_bind_name(struct cache_query *q, const char *text)
{
	cache_db_bind_blob(q, text, text != NULL ? strlen(text) : 0);
}

void cache_db_bind_id(struct cache_query *q, const struct cache_id *id)
{
	cache_db_bind_blob(
		q, cache_id_is_none(id) ? NULL : id->bytes, sizeof(id->bytes));
}

int cache_db_step(struct cache_query *q)
{
	int code;

	if (q->err != 0)
		return q->err;
	q->column = 0;
	code = sqlite3_step(q->stmt);
	if (code == SQLITE_ROW)
		return 1;
	if (code == SQLITE_DONE)
		return 0;
	fail(q,
		errno_of(
			q->txn->cache, q->txn->db, code, sqlite3_sql(q->stmt)));
	return q->err;
}

int64_t cache_db_i64(struct cache_query *q)
{
	return sqlite3_column_int64(q->stmt, q->column++);
}

void cache_db_text(struct cache_query *q, char *buf, size_t bytes)
{
	const void *data = sqlite3_column_blob(q->stmt, q->column);
	size_t len = (size_t)sqlite3_column_bytes(q->stmt, q->column++);

	if (len >= bytes)
		len = bytes - 1;
	if (len != 0)
		memcpy(buf, data, len);
	buf[len] = '\0';
}

void *cache_db_take_blob(struct cache_query *q, size_t *ret_len)
{
	const void *data = sqlite3_column_blob(q->stmt, q->column);
	size_t len = (size_t)sqlite3_column_bytes(q->stmt, q->column);
	bool null = sqlite3_column_type(q->stmt, q->column++) == SQLITE_NULL;
	char *copy = NULL;

	if (!null) {
		copy = base_malloc(len + 1);
		if (len != 0)
			memcpy(copy, data, len);
		copy[len] = '\0';
	}
	if (ret_len != NULL)
		*ret_len = len;
	return copy;
}

char *cache_db_take_text(struct cache_query *q)
{
	return cache_db_take_blob(q, NULL);
}

void cache_db_id(struct cache_query *q, struct cache_id *ret)
{
	const void *data = sqlite3_column_blob(q->stmt, q->column);

	if (sqlite3_column_bytes(q->stmt, q->column++) == sizeof(*ret))
		memcpy(ret, data, sizeof(*ret));
	else
		memset(ret, 0, sizeof(*ret));
}

int cache_db_end(struct cache_query *q, int err)
{
	if (q->own)
		sqlite3_finalize(q->stmt);
	else if (q->stmt != NULL)
		sqlite3_reset(q->stmt);
	q->stmt = NULL;
	return err;
}

int cache_db_run(struct cache_query *q)
{
	int err;

	do {
		err = cache_db_step(q);
	} while (err > 0);
	return cache_db_end(q, err);
}

int cache_db_run_one(struct cache_query *q)
{
	struct cache_txn *txn = q->txn;
	int err = cache_db_run(q);

	return err == 0 && cache_db_changes(txn) == 0 ? -ENOENT : err;
}

int cache_db_one(struct cache_query *q)
{
	int err = cache_db_step(q);

	return err > 0 ? 0 : err < 0 ? err : -ENOENT;
}

int64_t cache_db_changes(struct cache_txn *txn)
{
	return sqlite3_changes64(txn->db);
}
