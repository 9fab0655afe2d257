/*
 * Side files: what does not go into an xattr (long metadata, metadata of
 * symlinks and on file systems without user xattrs, block lists).
 *
 * They are named after the inode they speak of, not after the blob, so that
 * one can be written before its object gets the blob's name, beside that of
 * the object it replaces.  What ordinary tools delete leaves its side file
 * behind; a later inode with the same number has another birth time, or fails
 * the record's own comparison.
 */
#include "blob/dir_priv.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A block list of 50,000 blocks has 2.2 MB. */
#define SIDE_BYTES_MAX (8u << 20)
#define BLOCK_BYTES (BLOB_BLOCK_ID_BYTES + sizeof(uint64_t))

static void side_name(const struct dir_stat *st, const char *suffix,
	char ret[64], char ret_dir[3])
{
	snprintf(ret_dir, 3, "%02x", (unsigned)(st->ino & 0xff));
	snprintf(ret, 64, "%s/%" PRIx64 "-%" PRIx64 ".%s", ret_dir, st->ino,
		(uint64_t)st->btime_ns, suffix);
}

static int read_whole(int fd, char **ret, size_t *ret_len)
{
	struct stat st;
	size_t len = 0;
	ssize_t n;
	char *buf;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > SIDE_BYTES_MAX)
		return -EBADMSG;
	buf = base_malloc((size_t)st.st_size + 1);
	while (len < (size_t)st.st_size &&
		(n = read(fd, buf + len, (size_t)st.st_size - len)) > 0)
		len += (size_t)n;
	*ret = buf;
	*ret_len = len;
	return 0;
}

int dir_side_read(struct dir_root *root, const struct dir_stat *st,
	const char *suffix, char **ret, size_t *ret_len)
{
	char name[64], dir[3];
	int meta = dir_root_meta_fd(root);
	int fd, err;

	if (meta < 0)
		return -ENOENT;
	side_name(st, suffix, name, dir);
	fd = openat(meta, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = read_whole(fd, ret, ret_len);
	close(fd);
	return err;
}

/* A descriptor of the new file, or -errno. */
static int write_tmp(
	struct dir_root *root, const char *tmp, const void *buf, size_t len)
{
	int err;
	int fd = openat(root->tmp_fd, tmp,
		O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	err = dir_write_all(fd, buf, len);
	if (err) {
		close(fd);
		unlinkat(root->tmp_fd, tmp, 0);
		return err;
	}
	return fd;
}

static int sync_dir_of(int meta, const char *dir)
{
	int err = 0;
	int fd = openat(
		meta, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		err = -errno;
	close(fd);
	return err;
}

int dir_side_write(struct dir_root *root, const struct dir_stat *st,
	const char *suffix, const void *buf, size_t len, int *ret_sync)
{
	char name[64], dir[3], tmp[24];
	int fd, err = 0;

	side_name(st, suffix, name, dir);
	snprintf(tmp, sizeof(tmp), "m%016" PRIx64, dir_random());
	fd = write_tmp(root, tmp, buf, len);
	if (fd < 0)
		return fd;
	if (mkdirat(root->meta_fd, dir, 0700) < 0 && errno != EEXIST)
		err = -errno;
	if (!err && !ret_sync && fsync(fd) < 0)
		err = -errno;
	if (!err && renameat(root->tmp_fd, tmp, root->meta_fd, name) < 0)
		err = -errno;
	if (err)
		unlinkat(root->tmp_fd, tmp, 0);
	else if (!ret_sync)
		err = sync_dir_of(root->meta_fd, dir);
	if (!err && ret_sync)
		*ret_sync = fd;
	else
		close(fd);
	return err;
}

void dir_side_unlink(
	struct dir_root *root, const struct dir_stat *st, const char *suffix)
{
	char name[64], dir[3];
	int meta = dir_root_meta_fd(root);

	if (meta < 0)
		return;
	side_name(st, suffix, name, dir);
	unlinkat(meta, name, 0);
}

void dir_side_drop(struct dir_root *root, const struct dir_stat *st)
{
	dir_side_unlink(root, st, "meta");
	dir_side_unlink(root, st, "blocks");
}

/* ---- block lists: u64 content, then (id, u64 size) each ---- */

int dir_blocks_store(struct dir_root *root, const struct dir_stat *st,
	uint64_t content, const struct blob_block *blocks, size_t nr)
{
	struct base_str s = BASE_STR_INIT;
	uint64_t number = htole64(content);
	int err;

	base_str_add(&s, &number, sizeof(number));
	for (size_t i = 0; i < nr; i++) {
		number = htole64(blocks[i].size_bytes);
		base_str_add(&s, blocks[i].id, BLOB_BLOCK_ID_BYTES);
		base_str_add(&s, &number, sizeof(number));
	}
	err = dir_side_write(root, st, "blocks", s.data, s.len, NULL);
	base_str_fini(&s);
	return err;
}

static bool blocks_parse(const char *buf, size_t len,
	const struct dir_blob *blob, struct blob_block **ret, size_t *ret_nr)
{
	uint64_t number, total = 0;
	size_t nr;

	if (len < sizeof(number) || (len - sizeof(number)) % BLOCK_BYTES != 0)
		return false;
	memcpy(&number, buf, sizeof(number));
	if (le64toh(number) != blob->rec.content)
		return false;
	nr = (len - sizeof(number)) / BLOCK_BYTES;
	*ret = base_calloc(nr + 1, sizeof(**ret));
	for (size_t i = 0; i < nr; i++) {
		const char *at = buf + sizeof(number) + i * BLOCK_BYTES;
		struct blob_block *b = &(*ret)[i];

		memcpy(b->id, at, BLOB_BLOCK_ID_BYTES);
		memcpy(&number, at + BLOB_BLOCK_ID_BYTES, sizeof(number));
		b->size_bytes = le64toh(number);
		b->committed = true;
		b->ours = memcmp(b->id, "fb01", 4) == 0 ||
			memcmp(b->id, "fb02", 4) == 0;
		total += b->size_bytes;
	}
	*ret_nr = nr;
	return total == blob->st.size;
}

int dir_blocks_load(struct dir_root *root, const struct dir_blob *blob,
	struct blob_block **ret, size_t *ret_nr)
{
	struct blob_block *blocks = NULL;
	size_t len, nr = 0;
	char *buf;

	*ret = NULL;
	*ret_nr = 0;
	if (!blob->rec.content_ok || !S_ISREG(blob->st.mode))
		return 0;
	if (dir_side_read(root, &blob->st, "blocks", &buf, &len) != 0)
		return 0;
	if (blocks_parse(buf, len, blob, &blocks, &nr)) {
		*ret = blocks;
		*ret_nr = nr;
	} else {
		free(blocks);
	}
	free(buf);
	return 0;
}
