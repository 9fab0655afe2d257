/*
 * What is stored with a blob, and what is shown of it: see dir_priv.h.
 */
#include "blob/dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define XATTR_NAME "user.forebay.meta"
#define XATTR_BYTES 4096
/* Attempts to see a file and its record at one moment. */
#define LOAD_TRIES 8
#define NO_TIME INT64_MIN

/* ---- stat and ETag ---- */

static int64_t stamp_ns(const struct statx_timestamp *ts)
{
	return ts->tv_sec * 1000000000ll + ts->tv_nsec;
}

int dir_stat_fd(int fd, struct dir_stat *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW,
		    STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	ret->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	ret->rdev = makedev(stx.stx_rdev_major, stx.stx_rdev_minor);
	ret->ino = stx.stx_ino;
	ret->mode = stx.stx_mode;
	ret->uid = stx.stx_uid;
	ret->gid = stx.stx_gid;
	if (S_ISREG(ret->mode) || S_ISLNK(ret->mode))
		ret->size = stx.stx_size;
	if (stx.stx_mask & STATX_BTIME)
		ret->btime_ns = stamp_ns(&stx.stx_btime);
	ret->mtime_ns = stamp_ns(&stx.stx_mtime);
	ret->ctime_ns = stamp_ns(&stx.stx_ctime);
	return 0;
}

/* One round of splitmix64 over everything so far and one value more. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
	hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
	hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
	return hash ^ (hash >> 31);
}

static void make_etag(struct dir_blob *blob)
{
	const struct dir_stat *st = &blob->st;
	uint64_t hash = mix(mix(0, st->ino), (uint64_t)st->btime_ns);

	hash = mix(hash, blob->rec.present ? blob->rec.nonce : 0);
	if (S_ISDIR(st->mode)) {
		hash = mix(mix(mix(hash, st->mode), st->uid), st->gid);
	} else {
		hash = mix(mix(hash, st->size), (uint64_t)st->mtime_ns);
		hash = mix(hash, (uint64_t)st->ctime_ns);
	}
	snprintf(blob->etag, sizeof(blob->etag), "\"0xD%015" PRIX64 "\"",
		hash >> 4);
}

bool dir_blob_same(const struct dir_blob *a, const struct dir_blob *b)
{
	const struct dir_stat *x = &a->st, *y = &b->st;

	return x->dev == y->dev && x->ino == y->ino &&
		x->btime_ns == y->btime_ns && x->size == y->size &&
		(S_ISDIR(x->mode) || x->mtime_ns == y->mtime_ns) &&
		x->mode == y->mode && a->rec.present == b->rec.present &&
		a->rec.nonce == b->rec.nonce;
}

/* ---- loading ---- */

static void proc_link(int fd, char ret[40])
{
	snprintf(ret, 40, "/proc/self/fd/%d", fd);
}

static ssize_t read_xattr(const char *link, char *buf, size_t bytes)
{
	ssize_t n = getxattr(link, XATTR_NAME, buf, bytes);

	return n < 0 ? -errno : n;
}

/* The record's bytes from where they are; the xattr wins over a side file. */
static int read_record(struct dir_root *root, int path_fd,
	const struct dir_stat *st, char **ret, size_t *ret_len)
{
	char link[40];
	ssize_t n = -ENOTSUP;
	char *buf;

	proc_link(path_fd, link);
	if (S_ISREG(st->mode) || S_ISDIR(st->mode)) {
		buf = base_malloc(XATTR_BYTES);
		n = read_xattr(link, buf, XATTR_BYTES);
		if (n == -ERANGE) {
			free(buf);
			buf = base_malloc(XATTR_SIZE_MAX);
			n = read_xattr(link, buf, XATTR_SIZE_MAX);
		}
		if (n > 0) {
			*ret = buf;
			*ret_len = (size_t)n;
			return 0;
		}
		free(buf);
		if (n == -EIO || n == -ENOMEM)
			return (int)n;
	}
	return dir_side_read(root, st, "meta", ret, ret_len);
}

static void judge(struct dir_blob *blob)
{
	const struct dir_stat *st = &blob->st, *was = &blob->rec.was;
	bool same = st->ino == was->ino && st->btime_ns == was->btime_ns;

	if (!S_ISDIR(st->mode))
		same = same && st->size == was->size &&
			st->mtime_ns == was->mtime_ns;
	blob->rec.content_ok = same;
	blob->rec.attrs_ok = st->mode == was->mode && st->uid == was->uid &&
		st->gid == was->gid;
}

static int load_once(
	struct dir_root *root, int path_fd, struct dir_blob *ret, bool *ret_ok)
{
	struct dir_stat after;
	size_t len;
	char *buf;
	int err;

	memset(ret, 0, sizeof(*ret));
	err = dir_stat_fd(path_fd, &ret->st);
	if (err)
		return err;
	err = read_record(root, path_fd, &ret->st, &buf, &len);
	if (err == 0) {
		/* A record that is not whole counts as none. */
		if (dir_record_decode(buf, len, &ret->rec) == 0)
			judge(ret);
		free(buf);
	} else if (err == -EIO || err == -ENOMEM) {
		return err;
	}
	err = dir_stat_fd(path_fd, &after);
	*ret_ok = !err && after.ctime_ns == ret->st.ctime_ns &&
		after.mtime_ns == ret->st.mtime_ns &&
		after.size == ret->st.size;
	if (err || !*ret_ok)
		dir_record_fini(&ret->rec);
	return err;
}

/* How long until this ctime can no longer be given a second time. */
static int64_t too_young_ns(
	const struct dir_root *root, const struct dir_blob *blob)
{
	struct timespec ts;
	int64_t age;

	if (root->fine_stamps || blob->rec.content_ok || S_ISDIR(blob->st.mode))
		return 0;
	clock_gettime(CLOCK_REALTIME, &ts);
	age = ts.tv_sec * 1000000000ll + ts.tv_nsec - blob->st.ctime_ns;
	return age >= 0 && age < DIR_COARSE_NS ? DIR_COARSE_NS - age : 0;
}

int dir_blob_load(
	struct dir_root *root, int path_fd, bool settle, struct dir_blob *ret)
{
	bool ok = false;
	int err;

	for (unsigned i = 0; i < LOAD_TRIES && !ok; i++) {
		int64_t wait;

		err = load_once(root, path_fd, ret, &ok);
		if (err)
			return err;
		wait = ok && settle ? too_young_ns(root, ret) : 0;
		if (wait > 0) {
			struct timespec ts = { 0, wait };

			dir_record_fini(&ret->rec);
			clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
			ok = false;
		}
	}
	if (!ok)
		return -EBUSY;
	make_etag(ret);
	return 0;
}

void dir_blob_fini(struct dir_blob *blob)
{
	dir_record_fini(&blob->rec);
}

/* ---- showing ---- */

static bool is_one_of(const char *key, const char *const *words)
{
	for (; *words; words++) {
		if (strcasecmp(key, *words) == 0)
			return true;
	}
	return false;
}

struct kv_list {
	struct blob_kv *kv;
	size_t nr;
};

static void kv_add(struct kv_list *list, const char *key, const char *value)
{
	list->kv = base_realloc(list->kv, (list->nr + 1) * sizeof(*list->kv));
	list->kv[list->nr].key = base_strdup(key);
	list->kv[list->nr].value = base_strdup(value);
	list->nr++;
}

static void kv_add_number(struct kv_list *list, const char *key, int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, value);
	kv_add(list, key, text);
}

static bool kv_has(const struct kv_list *list, const char *key)
{
	for (size_t i = 0; i < list->nr; i++) {
		if (strcasecmp(list->kv[i].key, key) == 0)
			return true;
	}
	return false;
}

void dir_meta_posix(
	const struct blob_kv *meta, size_t meta_nr, struct blob_posix *ret)
{
	struct blob_mark mark;
	struct blob_entry entry = { .name = (char *)"" };

	entry.props.meta = (struct blob_kv *)meta;
	entry.props.meta_nr = meta_nr;
	entry.props.mtime_ns = NO_TIME;
	blob_meta_decode(&entry, ret, &mark);
}

/* S_IFMT of what a blob's metadata say it is, where the real file is only
 * where its bytes are kept. */
static uint32_t shown_type(const struct dir_blob *blob)
{
	static const uint32_t types[] = {
		[BLOB_KIND_FILE] = S_IFREG,
		[BLOB_KIND_DIR] = S_IFDIR,
		[BLOB_KIND_SYMLINK] = S_IFLNK,
		[BLOB_KIND_FIFO] = S_IFIFO,
		[BLOB_KIND_SOCKET] = S_IFSOCK,
		[BLOB_KIND_CHAR] = S_IFCHR,
		[BLOB_KIND_BLOCK] = S_IFBLK,
	};
	struct blob_posix posix;

	if (!S_ISREG(blob->st.mode) || !blob->rec.present)
		return blob->st.mode & S_IFMT;
	dir_meta_posix(blob->rec.meta, blob->rec.meta_nr, &posix);
	return types[posix.kind];
}

static void show_meta(const struct dir_blob *blob, struct kv_list *list)
{
	static const char *const content_keys[] = { "forebay", "modtime",
		"mtime", "posix_atime", "posix_ctime", NULL };
	static const char *const attr_keys[] = { "permissions", "posix_owner",
		"posix_group", "owner", "group", NULL };
	const struct dir_record *rec = &blob->rec;
	const struct dir_stat *st = &blob->st;
	bool stored = rec->present && !rec->implicit;

	for (size_t i = 0; stored && i < rec->meta_nr; i++) {
		const char *key = rec->meta[i].key;

		if (!rec->content_ok && is_one_of(key, content_keys))
			continue;
		if (!rec->attrs_ok && is_one_of(key, attr_keys))
			continue;
		kv_add(list, key, rec->meta[i].value);
	}
	if (!stored || !rec->attrs_ok) {
		kv_add_number(list, "permissions",
			shown_type(blob) | (st->mode & 07777));
		kv_add_number(list, "posix_owner", st->uid);
		kv_add_number(list, "posix_group", st->gid);
	}
	if (!stored || !rec->content_ok)
		kv_add_number(list, "modtime", st->mtime_ns);
	if (!stored && (S_ISCHR(st->mode) || S_ISBLK(st->mode)))
		kv_add_number(list, "posix_rdev", (int64_t)st->rdev);
	if (S_ISDIR(st->mode) && !kv_has(list, "hdi_isfolder"))
		kv_add(list, "hdi_isfolder", "true");
	if (S_ISLNK(st->mode) && !kv_has(list, "is_symlink"))
		kv_add(list, "is_symlink", "true");
}

int dir_blob_props(const struct dir_blob *blob, struct blob_props *ret)
{
	struct kv_list list = { NULL, 0 };

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->etag, blob->etag, sizeof(ret->etag));
	ret->size_bytes = blob->st.size;
	ret->mtime_ns = blob->st.mtime_ns;
	ret->type = S_ISDIR(blob->st.mode) ? BLOB_TYPE_DIR : BLOB_TYPE_BLOCK;
	if (blob->rec.has_md5 && blob->rec.content_ok) {
		ret->has_md5 = true;
		memcpy(ret->md5, blob->rec.md5, sizeof(ret->md5));
	}
	show_meta(blob, &list);
	ret->meta = list.kv;
	ret->meta_nr = list.nr;
	if (!blob->rec.headers_nr)
		return 0;
	ret->headers_nr = blob->rec.headers_nr;
	return blob_kv_copy(
		&ret->headers, blob->rec.headers, blob->rec.headers_nr);
}

/* ---- storing ---- */

/* The real file looks like what it stands for, as far as we may.  Never
 * set-id bits: a blob's metadata must not make a root program of a file in
 * the reservoir; the metadata keep them. */
static void apply_attrs(int path_fd, const struct blob_kv *meta, size_t nr)
{
	struct blob_posix posix;
	struct dir_stat st;
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, 0 } };
	char link[40];

	if (nr == 0 || dir_stat_fd(path_fd, &st) != 0)
		return;
	proc_link(path_fd, link);
	dir_meta_posix(meta, nr, &posix);
	if ((posix.has_uid && posix.uid != st.uid) ||
		(posix.has_gid && posix.gid != st.gid)) {
		if (fchownat(path_fd, "", posix.has_uid ? posix.uid : (uid_t)-1,
			    posix.has_gid ? posix.gid : (gid_t)-1,
			    AT_EMPTY_PATH) < 0)
			errno = 0; /* not our right to give files away */
	}
	if (posix.has_mode && !S_ISLNK(st.mode)) {
		mode_t mode = posix.mode & 01777;

		/* We must be able to read it again. */
		if (geteuid() != 0)
			mode |= S_ISDIR(st.mode) ? 0700 : 0600;
		if (chmod(link, mode) < 0)
			errno = 0;
	}
	if (posix.mtime_ns == NO_TIME)
		return;
	ts[1].tv_sec = posix.mtime_ns / 1000000000;
	ts[1].tv_nsec = posix.mtime_ns % 1000000000;
	if (ts[1].tv_nsec < 0) {
		ts[1].tv_sec--;
		ts[1].tv_nsec += 1000000000;
	}
	if (S_ISLNK(st.mode))
		utimensat(path_fd, "", ts, AT_EMPTY_PATH);
	else
		utimensat(AT_FDCWD, link, ts, 0);
}

int dir_record_store(struct dir_root *root, int path_fd, struct dir_record *rec,
	int *ret_sync)
{
	struct base_str s = BASE_STR_INIT;
	char link[40];
	int err;

	*ret_sync = -1;
	apply_attrs(path_fd, rec->meta, rec->meta_nr);
	err = dir_stat_fd(path_fd, &rec->was);
	if (err)
		return err;
	rec->nonce = dir_random();
	if (rec->content == 0)
		rec->content = dir_random();
	dir_record_encode(rec, &s);
	proc_link(path_fd, link);
	if ((S_ISREG(rec->was.mode) || S_ISDIR(rec->was.mode)) &&
		setxattr(link, XATTR_NAME, s.data, s.len, 0) == 0) {
		dir_side_unlink(root, &rec->was, "meta");
	} else {
		/* No room, or none of ours on this kind of file. */
		err = dir_side_write(
			root, &rec->was, "meta", s.data, s.len, ret_sync);
		if (!err)
			removexattr(link, XATTR_NAME);
	}
	base_str_fini(&s);
	return err;
}
