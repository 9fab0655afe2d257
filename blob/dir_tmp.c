/*
 * Objects being made below .forebay/tmp: see dir_priv.h.
 *
 * Order, each step durable before the next is visible: bytes, real attributes,
 * side files, record, fsync of the object; then dir_publish() gives it its
 * name.  What a crash leaves here is dropped when it is stale.
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_name(struct dir_tmp *tmp)
{
	snprintf(tmp->name, sizeof(tmp->name), "t%016" PRIx64, dir_random());
}

static int open_path(struct dir_root *root, struct dir_tmp *tmp)
{
	tmp->fd = openat(
		root->tmp_fd, tmp->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (tmp->fd >= 0)
		return 0;
	return -errno;
}

int dir_tmp_file(struct dir_root *root, struct dir_tmp *ret)
{
	int err = dir_root_prepare(root);

	if (err)
		return err;
	make_name(ret);
	ret->shape = DIR_SHAPE_FILE;
	ret->fd = openat(root->tmp_fd, ret->name,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return ret->fd < 0 ? -errno : 0;
}

int dir_tmp_dir(struct dir_root *root, struct dir_tmp *ret)
{
	int err = dir_root_prepare(root);

	if (err)
		return err;
	make_name(ret);
	ret->shape = DIR_SHAPE_DIR;
	if (mkdirat(root->tmp_fd, ret->name, 0755) < 0)
		return -errno;
	return open_path(root, ret);
}

int dir_tmp_symlink(
	struct dir_root *root, const char *target, struct dir_tmp *ret)
{
	int err = dir_root_prepare(root);

	if (err)
		return err;
	make_name(ret);
	ret->shape = DIR_SHAPE_SYMLINK;
	if (symlinkat(target, root->tmp_fd, ret->name) < 0)
		return -errno;
	return open_path(root, ret);
}

/* The whole of a small file as text, if it can be a symlink's target. */
static bool read_as_target(int fd, char target[DIR_TARGET_MAX])
{
	ssize_t n = pread(fd, target, DIR_TARGET_MAX, 0);

	if (n <= 0 || n >= DIR_TARGET_MAX || memchr(target, '\0', (size_t)n))
		return false;
	target[n] = '\0';
	return true;
}

int dir_tmp_shape(struct dir_root *root, struct dir_tmp *tmp,
	const struct blob_kv *meta, size_t meta_nr)
{
	struct dir_tmp other = DIR_TMP_INIT;
	struct blob_posix posix;
	char target[DIR_TARGET_MAX];
	struct stat st;
	int err;

	dir_meta_posix(meta, meta_nr, &posix);
	if (posix.kind == BLOB_KIND_SYMLINK && read_as_target(tmp->fd, target))
		err = dir_tmp_symlink(root, target, &other);
	else if (posix.kind == BLOB_KIND_DIR && fstat(tmp->fd, &st) == 0 &&
		st.st_size == 0)
		err = dir_tmp_dir(root, &other);
	else
		return 0;
	if (err)
		return err;
	dir_tmp_drop(root, tmp);
	*tmp = other;
	return 0;
}

static int sync_object(const struct dir_tmp *tmp)
{
	int fd, err = 0;

	if (tmp->shape == DIR_SHAPE_SYMLINK)
		return 0; /* the directory's fsync covers it */
	if (tmp->shape == DIR_SHAPE_FILE)
		return fsync(tmp->fd) < 0 ? -errno : 0;
	fd = dir_reopen(tmp->fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -EACCES ? 0 : fd;
	if (fsync(fd) < 0)
		err = -errno;
	close(fd);
	return err;
}

int dir_tmp_seal(struct dir_root *root, struct dir_tmp *tmp,
	struct dir_record *rec, const struct blob_block *blocks, size_t nr)
{
	struct dir_stat st;
	int err, side = -1;

	rec->content = dir_random();
	if (nr > 0 && tmp->shape == DIR_SHAPE_FILE) {
		err = dir_stat_fd(tmp->fd, &st);
		if (!err)
			err = dir_blocks_store(
				root, &st, rec->content, blocks, nr);
		if (err)
			return err;
	}
	err = dir_record_store(root, tmp->fd, rec, &side);
	if (side >= 0) {
		if (!err && fsync(side) < 0)
			err = -errno;
		close(side);
	}
	if (!err)
		err = sync_object(tmp);
	return err;
}

void dir_tmp_drop(struct dir_root *root, struct dir_tmp *tmp)
{
	struct dir_stat st;

	if (tmp->fd < 0)
		return;
	if (tmp->name[0]) {
		if (dir_stat_fd(tmp->fd, &st) == 0)
			dir_side_drop(root, &st);
		unlinkat(root->tmp_fd, tmp->name,
			tmp->shape == DIR_SHAPE_DIR ? AT_REMOVEDIR : 0);
	}
	close(tmp->fd);
	tmp->fd = -1;
}
