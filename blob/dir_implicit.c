/*
 * Directories of the reservoir that nobody asked for.
 *
 * A blob "a/b/c" needs the directories a and a/b.  In a blob service they would
 * be prefixes, which are gone with the last blob below them; here they are
 * directories with a mark, which a marker that is put there takes away.  What
 * still has the mark goes with the last thing in it: else a directory that a
 * host removed before its marker was sent would come back.
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Somebody else may make it first, which is as good. */
static int name_implicit(struct dir_root *root, struct dir_tmp *tmp, int parent,
	const char *last)
{
	if (renameat2(root->tmp_fd, tmp->name, parent, last,
		    RENAME_NOREPLACE) == 0) {
		tmp->name[0] = '\0'; /* no longer ours to drop */
		return 0;
	}
	/* Not every file system knows the flag. */
	if (errno == EINVAL && mkdirat(parent, last, 0755) == 0)
		return 0;
	return errno == EEXIST ? 0 : -errno;
}

int dir_implicit_make(struct dir_root *root, const char *path, size_t len)
{
	struct dir_record rec = { .implicit = true };
	struct dir_tmp tmp = DIR_TMP_INIT;
	char name[PATH_MAX];
	const char *last;
	int parent, err;

	memcpy(name, path, len);
	name[len] = '\0';
	err = dir_open_parent(root, name, &parent, &last);
	if (err)
		return err;
	err = dir_tmp_dir(root, &tmp);
	/* Whoever reads the reservoir by other means may enter it. */
	if (!err && fchmodat(root->tmp_fd, tmp.name, 0755, 0) < 0)
		err = -errno;
	if (!err)
		err = dir_tmp_seal(root, &tmp, &rec, NULL, 0);
	if (!err)
		err = name_implicit(root, &tmp, parent, last);
	if (!err && fsync(parent) < 0)
		err = -errno;
	dir_tmp_drop(root, &tmp);
	close(parent);
	return err;
}

/* Removes the directory `name` if it has the mark and nothing in it. */
static bool prune(struct dir_root *root, const char *name)
{
	struct dir_blob blob;
	const char *last;
	bool implicit = false, gone;
	int parent, fd;

	if (dir_open_parent(root, name, &parent, &last) != 0)
		return false;
	fd = openat(parent, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && dir_blob_load(root, fd, false, &blob) == 0) {
		implicit = S_ISDIR(blob.st.mode) && blob.rec.implicit;
		dir_blob_fini(&blob);
	}
	if (fd >= 0)
		close(fd);
	gone = implicit && unlinkat(parent, last, AT_REMOVEDIR) == 0;
	close(parent);
	return gone;
}

void dir_implicit_prune(struct dir_root *root, const char *name)
{
	char path[PATH_MAX];
	char *slash;

	if ((size_t)snprintf(path, sizeof(path), "%s", name) >= sizeof(path))
		return;
	do {
		slash = strrchr(path, '/');
		if (slash == NULL)
			return;
		*slash = '\0';
	} while (prune(root, path));
}
