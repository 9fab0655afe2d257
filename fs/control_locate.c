/*
 * locate: the data file behind a whole file, for readers that go around FUSE
 * (GPUDirect Storage, O_DIRECT).
 *
 * Nothing is promised but this: while somebody has the data file open, or the
 * file is pinned, its bytes are not dropped.  What is being written, or is not
 * all here, has no such file to show.
 */
#include "fs/control_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Why this inode has none, or NULL. */
static const char *refuse(const struct cache_inode *inode)
{
	if (inode->kind != CACHE_FILE)
		return "not a regular file";
	if (inode->data != CACHE_WHOLE)
		return "not wholly local: read it, or forebay prefetch it "
		       "first";
	if (inode->written)
		return "being written: close it first";
	return NULL;
}

/* One transaction: a file that is whole when it is pinned stays so. */
static int locate_in(struct cache_txn *txn, uint64_t ino, bool pin,
	struct cache_inode *ret, const char **ret_why)
{
	int err = cache_inode_get(txn, ino, ret);

	if (err < 0)
		return err;
	*ret_why = refuse(ret);
	if (*ret_why != NULL)
		return -EINVAL;
	return pin ? cache_pin_set(txn, ino, true) : 0;
}

static int locate(struct fs_mount *m, uint64_t ino, bool pin,
	struct cache_inode *ret, const char **ret_why)
{
	struct cache_txn *txn;
	int err =
		pin ? cache_write(m->cache, &txn) : cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = locate_in(txn, ino, pin, ret, ret_why);
	if (err < 0 || !pin) {
		cache_abort(txn);
		return err;
	}
	err = cache_commit(txn);
	/* Said so: it must survive a power cut. */
	return err < 0 ? err : cache_sync_index(m->cache);
}

static int locate_path(struct fs_control_conn *conn, const char *path, bool pin,
	json_t *files, const char **ret_why)
{
	struct cache_inode inode;
	char *data;
	int err = fs_control_resolve(conn, path, &inode);

	if (err == 0)
		err = locate(conn->m, inode.ino, pin, &inode, ret_why);
	if (err < 0)
		return err;
	data = cache_data_path(conn->m->cache, inode.ino, inode.serial);
	json_array_append_new(files,
		json_pack("{s:o, s:o, s:I, s:b}", "path", fs_path_json(path),
			"data", fs_path_json(data), "bytes",
			(json_int_t)inode.size_bytes, "pinned", pin));
	free(data);
	return 0;
}

json_t *fs_control_locate(struct fs_control_conn *conn, const json_t *request)
{
	bool pin = json_is_true(json_object_get(request, "pin"));
	json_t *files, *failure = NULL;
	const char *why = NULL;
	char **paths;
	size_t nr;
	int err = 0;

	if (fs_control_paths(request, &paths, &nr, &failure) < 0)
		return failure;
	files = json_array();
	for (size_t i = 0; i < nr && err == 0; i++) {
		err = locate_path(conn, paths[i], pin, files, &why);
		if (err < 0)
			failure = fs_control_error(err, "%s: %s",
				paths[i][0] != '\0' ? paths[i] : "/",
				why != NULL ? why : strerrordesc_np(-err));
	}
	fs_control_paths_free(paths, nr);
	if (err < 0) {
		json_decref(files);
		return failure;
	}
	return json_pack("{s:b, s:o}", "done", 1, "files", files);
}
