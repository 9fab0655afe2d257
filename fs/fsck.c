/*
 * `forebay fsck`: an entry point of its own, without a mount.  The cache is
 * compared with itself (cache_check()), and on request with a listing of its
 * store: that shows what others have changed since, and is no damage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/store.h"
#include "cache/cache.h"
#include "fs/ask.h"
#include "fs/fs.h"

#define DIRS_MAX 64
#define STORE_TIMEOUT_MS 60000

/* A name and its ETag, of the listing or of the index. */
struct row {
	char *name, *etag;
	bool busy;
};
struct rows {
	struct row *row;
	size_t nr, cap;
};

struct fsck {
	json_t *found;
	struct rows index;
};

static void add_row(
	struct rows *rows, const char *name, const char *etag, bool busy)
{
	if (rows->nr == rows->cap) {
		rows->cap = rows->cap ? 2 * rows->cap : 1024;
		rows->row =
			base_realloc(rows->row, rows->cap * sizeof(*rows->row));
	}
	rows->row[rows->nr++] = (struct row){ .name = base_strdup(name),
		.etag = base_strdup(etag),
		.busy = busy };
}

static void free_rows(struct rows *rows)
{
	for (size_t i = 0; i < rows->nr; i++) {
		free(rows->row[i].name);
		free(rows->row[i].etag);
	}
	free(rows->row);
}

static void add_finding(struct fsck *f, const char *what, const char *name,
	uint64_t ino, const char *text)
{
	json_t *row = json_pack("{s:s}", "what", what);

	if (name != NULL)
		json_object_set_new(row, "name", fs_path_json(name));
	if (ino != 0)
		json_object_set_new(row, "ino", json_integer((json_int_t)ino));
	json_object_set_new(row, "text", fs_path_json(text));
	json_array_append_new(f->found, row);
}

static void on_found(void *arg, const struct cache_finding *finding)
{
	add_finding(
		arg, finding->what, finding->name, finding->ino, finding->text);
}

static void on_remote(void *arg, const char *name, const char *etag, bool busy)
{
	struct fsck *f = arg;

	add_row(&f->index, name, etag, busy);
}

/* ---- against the store ---- */

static int list_store(
	struct blob_store *store, struct rows *ret, char *why, size_t why_bytes)
{
	char *marker = NULL;
	int err = 0;

	do {
		struct blob_req req = { .op = BLOB_LIST,
			.name = "",
			.in.list = { .recursive = true, .start = marker } };

		fs_ask(store, &req);
		err = req.err;
		if (err < 0)
			snprintf(why, why_bytes,
				"the store cannot be listed: %s",
				req.code[0] ? req.code
					    : blob_result_name(req.result));
		for (size_t i = 0; i < req.page.entries_nr; i++) {
			const struct blob_entry *e = &req.page.entries[i];

			if (!e->prefix && strncmp(e->name, ".forebay/", 9) != 0)
				add_row(ret, e->name, e->props.etag, false);
		}
		free(marker);
		marker = req.page.next ? base_strdup(req.page.next) : NULL;
		blob_req_fini(&req);
	} while (err == 0 && marker != NULL);
	free(marker);
	return err;
}

static int compare_rows(const void *a, const void *b)
{
	return strcmp(
		((const struct row *)a)->name, ((const struct row *)b)->name);
}

static void compare(struct fsck *f, struct rows *listed)
{
	if (listed->nr > 0)
		qsort(listed->row, listed->nr, sizeof(*listed->row),
			compare_rows);
	for (size_t i = 0; i < f->index.nr; i++) {
		const struct row *r = &f->index.row[i], *there = NULL;

		if (r->busy)
			continue;
		if (listed->nr > 0)
			there = bsearch(r, listed->row, listed->nr, sizeof(*r),
				compare_rows);
		if (there == NULL)
			add_finding(f, "store-gone", r->name, 0,
				"the store has it no more: the next look at "
				"it shows that");
		else if (strcmp(there->etag, r->etag) != 0)
			add_finding(f, "store-changed", r->name, 0,
				"changed in the store since: the next look at "
				"it shows that");
	}
}

static int check_store(struct fsck *f, const char *url, const char *credentials,
	uint64_t *ret_blobs, char *why, size_t why_bytes)
{
	struct blob_config config = { .url = url,
		.credentials_file = credentials,
		.timeout_ms = STORE_TIMEOUT_MS };
	struct rows listed = { 0 };
	struct blob_store *store;
	int err = blob_store_open(&config, &store, why, why_bytes);

	if (err < 0)
		return err;
	err = list_store(store, &listed, why, why_bytes);
	if (err == 0)
		compare(f, &listed);
	*ret_blobs = listed.nr;
	free_rows(&listed);
	blob_store_close(store);
	return err;
}

/* ---- the command ---- */

/* DIR[:DIR...] in place. */
static size_t split(char *text, const char **dirs)
{
	size_t nr = 0;
	char *save = NULL;

	for (char *dir = strtok_r(text, ":", &save);
		dir != NULL && nr < DIRS_MAX; dir = strtok_r(NULL, ":", &save))
		dirs[nr++] = dir;
	return nr;
}

json_t *fs_fsck(const struct fs_fsck_args *args, int *ret_err, char *ret_why,
	size_t why_bytes)
{
	struct fsck f = { .found = json_array() };
	char *dirs_text = base_strdup(args->cache_dirs);
	const char *dirs[DIRS_MAX];
	struct cache_check_config config = { .dirs = dirs,
		.dirs_nr = split(dirs_text, dirs),
		.repair = args->repair,
		.found = on_found,
		.remote = args->store ? on_remote : NULL,
		.arg = &f };
	struct cache_checked checked;
	uint64_t blobs = 0;
	json_t *report;

	*ret_err = cache_check(&config, &checked, ret_why, why_bytes);
	if (*ret_err == 0 && args->store)
		*ret_err = check_store(&f, checked.store.data,
			args->credentials, &blobs, ret_why, why_bytes);
	report = json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "found",
		f.found, "files", (json_int_t)checked.files, "bytes",
		(json_int_t)checked.bytes, "wrong", (json_int_t)checked.found,
		"moved", (json_int_t)checked.moved, "lost",
		(json_int_t)checked.lost, "clean", checked.clean, "repaired",
		args->repair && *ret_err == 0);
	if (args->store)
		json_object_set_new(
			report, "blobs", json_integer((json_int_t)blobs));
	cache_checked_fini(&checked);
	free_rows(&f.index);
	free(dirs_text);
	return report;
}
