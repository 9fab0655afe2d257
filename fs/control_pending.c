/*
 * The command pending: the line in its order, what holds each change, for how
 * long and why; then what was set aside.
 */
#include "fs/control_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first of the line, of the directory renames in it, and of what is set
 * aside: more says nothing to a person, and the rest is a number. */
#define PENDING_ROWS_MAX 1000
/* Rows read in one transaction: sending waits for the client, and no
 * transaction waits for anybody. */
#define ROWS_BATCH 256

struct rows {
	struct fs_mount *m;
	json_t *list; /* of one transaction */
	int64_t now_ns;
	uint64_t first_epoch;
	/* of the last row */
	uint64_t epoch, seq;
	char *name;
	size_t nr; /* rows given */
	bool aside;
	/* directory renames, by their place */
	struct cache_owed_prefix *renames;
	size_t renames_nr, renames_done;
};

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* What an earlier boot noted has an age that nobody measured. */
static json_t *age(int64_t now_ns, int64_t at_ns)
{
	int64_t ms = (now_ns - at_ns) / 1000000;

	return at_ns > 0 ? json_real((double)ms / 1e3) : json_null();
}

static const char *kind_word(const struct cache_owed *row)
{
	static const char *const words[] = { "delete", "file", "directory",
		"symlink", "fifo", "socket", "char", "block" };

	if (row->kind != CACHE_GONE && row->attrs_only)
		return "attributes";
	return words[row->kind];
}

static json_t *row_json(struct rows *rows, const struct cache_owed *row)
{
	static const char *const states[] = { "waiting", "sending", "retrying",
		"refused", "aside" };
	const char *why;
	enum tier_wait wait =
		tier_why(rows->m->tier, row, rows->first_epoch, &why);
	json_t *j = json_object();

	json_object_set_new(j, "seq", number(row->seq));
	json_object_set_new(j, "epoch", number(row->epoch));
	json_object_set_new(j, "name", fs_path_json(row->name));
	json_object_set_new(j, "kind", json_string(kind_word(row)));
	json_object_set_new(j, "size", number(row->size_bytes));
	json_object_set_new(j, "age_s", age(rows->now_ns, row->entered_ns));
	json_object_set_new(j, "state", json_string(states[wait]));
	json_object_set_new(
		j, "why", why != NULL ? fs_path_json(why) : json_null());
	json_object_set_new(j, "refused_s",
		row->refused_ns != 0 ? age(rows->now_ns, row->refused_ns)
				     : json_null());
	json_object_set_new(j, "group", json_boolean(row->group));
	json_object_set_new(j, "tries", number(row->tries));
	return j;
}

static json_t *rename_json(
	struct rows *rows, const struct cache_owed_prefix *prefix)
{
	bool first = prefix->epoch <= rows->first_epoch;
	json_t *j = json_object();

	json_object_set_new(j, "seq", number(prefix->seq));
	json_object_set_new(j, "epoch", number(prefix->epoch));
	json_object_set_new(j, "name", fs_path_json(prefix->old_dir));
	json_object_set_new(j, "to", fs_path_json(prefix->new_dir));
	json_object_set_new(j, "kind", json_string("rename"));
	json_object_set_new(
		j, "state", json_string(first ? "sending" : "waiting"));
	json_object_set_new(j, "why",
		json_string(!first ? "waits for earlier epochs"
				: prefix->deleting
				? "the new names are there, the old ones go"
				: "the new names are made"));
	json_object_set_new(j, "done", number(prefix->done));
	json_object_set_new(j, "total", number(prefix->total));
	return j;
}

/* Those whose place is before this one. */
static void add_renames(struct rows *rows, uint64_t epoch, uint64_t seq)
{
	while (rows->renames_done < rows->renames_nr) {
		const struct cache_owed_prefix *prefix =
			&rows->renames[rows->renames_done];

		if (prefix->epoch > epoch ||
			(prefix->epoch == epoch && prefix->seq > seq))
			break;
		json_array_append_new(rows->list, rename_json(rows, prefix));
		rows->renames_done++;
	}
}

static int add_row(void *arg, const struct cache_owed *row)
{
	struct rows *rows = arg;

	rows->epoch = row->epoch;
	rows->seq = row->seq;
	free(rows->name);
	rows->name = base_strdup(row->name);
	if (!rows->aside)
		add_renames(rows, row->epoch, row->seq);
	json_array_append_new(rows->list, row_json(rows, row));
	return ++rows->nr >= PENDING_ROWS_MAX ||
		json_array_size(rows->list) >= ROWS_BATCH;
}

/* Sends what one transaction found; *ret_more: there may be others. */
static int send_batch(
	struct fs_control_conn *conn, struct rows *rows, bool *ret_more)
{
	struct cache_txn *txn;
	size_t i;
	json_t *row;
	int err = cache_read(conn->m->cache, &txn);

	if (err < 0)
		return err;
	rows->list = json_array();
	err = cache_owed_first_epoch(txn, &rows->first_epoch);
	if (err == 0 && rows->aside)
		err = cache_owed_each_aside(txn, rows->name ? rows->name : "",
			rows->seq, add_row, rows);
	else if (err == 0)
		err = cache_owed_each(
			txn, rows->epoch, rows->seq, add_row, rows);
	cache_abort(txn);
	*ret_more = err > 0 && rows->nr < PENDING_ROWS_MAX;
	if (err == 0 && !rows->aside)
		add_renames(rows, UINT64_MAX, UINT64_MAX);
	err = err < 0 ? err : 0;
	json_array_foreach(rows->list, i, row)
	{
		if (err == 0)
			err = fs_control_say(conn,
				json_pack("{s:o}", "row", json_incref(row)));
	}
	json_decref(rows->list);
	return err;
}

static int send_all(struct fs_control_conn *conn, struct rows *rows, bool aside)
{
	bool more = true;
	int err = 0;

	rows->aside = aside;
	rows->epoch = rows->seq = rows->nr = 0;
	free(rows->name);
	rows->name = NULL;
	while (err == 0 && more)
		err = send_batch(conn, rows, &more);
	return err;
}

static int take_rename(void *arg, const struct cache_owed_prefix *prefix)
{
	struct rows *rows = arg;
	struct cache_owed_prefix *to;

	rows->renames = base_realloc(
		rows->renames, (rows->renames_nr + 1) * sizeof(*rows->renames));
	to = &rows->renames[rows->renames_nr++];
	*to = *prefix;
	to->old_dir = base_strdup(prefix->old_dir);
	to->new_dir = base_strdup(prefix->new_dir);
	to->cursor = NULL;
	return rows->renames_nr == PENDING_ROWS_MAX;
}

static int take_renames(struct rows *rows)
{
	struct cache_txn *txn;
	int err = cache_read(rows->m->cache, &txn);

	if (err < 0)
		return err;
	err = cache_owed_prefix_each(txn, 0, 0, take_rename, rows);
	cache_abort(txn);
	return err < 0 ? err : 0;
}

json_t *fs_control_pending(struct fs_control_conn *conn, const json_t *request)
{
	struct rows rows = { .m = conn->m,
		.now_ns = base_boot_ns(conn->m->env) };
	int err = take_renames(&rows);

	(void)request;
	if (err == 0)
		err = send_all(conn, &rows, false);
	if (err == 0)
		err = send_all(conn, &rows, true);
	for (size_t i = 0; i < rows.renames_nr; i++)
		cache_owed_prefix_fini(&rows.renames[i]);
	free(rows.renames);
	free(rows.name);
	if (err < 0)
		return fs_control_error(err, "the journal cannot be read: %s",
			strerrordesc_np(-err));
	return json_pack("{s:b}", "done", 1);
}
