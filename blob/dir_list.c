/*
 * LIST of the `dir:` store.
 *
 * Order: the names of one directory sorted by their bytes; recursively, a
 * directory's own entry, then everything in it, then its next sibling.  A
 * page's marker is "CURSOR:LAST", the last path that was looked at, exclusive.
 *
 * Between pages the walk is kept as a cursor (a stack of directories, each
 * with its sorted names), so that a directory of a million names is read and
 * sorted once.  Cursors are few and go when they idle; a marker whose cursor
 * is gone is resumed by reading the directories on the way to LAST again and
 * going on after it, which is right whatever has changed meanwhile.
 */
#include "blob/dir_priv.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One directory on the way. */
struct frame {
	char *dir; /* path, "" the root */
	char *arena;
	char **names;
	size_t nr, pos;
	int fd; /* open only on top of the stack, within one page */
};

struct dir_cursor {
	uint64_t id;
	int64_t used_ns;
	bool recursive;
	char *name, *only;
	char *last; /* where the page before ended */
	struct frame *frames;
	size_t frames_nr;
};

/* ---- frames ---- */

static void frame_fini(struct frame *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f->dir);
	free(f->arena);
	free(f->names);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join(const char *dir, const char *name)
{
	struct base_str s = BASE_STR_INIT;

	if (dir[0]) {
		base_str_puts(&s, dir);
		base_str_putc(&s, '/');
	}
	base_str_puts(&s, name);
	return base_str_take(&s);
}

static bool is_shown(const char *dir, const char *name)
{
	char path[sizeof(".forebay/") + NAME_MAX + 1];

	if (name[0] == '.' &&
		(name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
		return false;
	if (dir[0] == '\0')
		return strcmp(name, ".forebay") != 0;
	if (strcmp(dir, ".forebay") != 0)
		return true;
	snprintf(path, sizeof(path), ".forebay/%s", name);
	return !dir_name_own(path);
}

static int read_names(DIR *d, const char *dir, const char *only,
	struct base_str *ret, size_t *nr)
{
	size_t only_len = only ? strlen(only) : 0;
	struct dirent *de;

	for (errno = 0; (de = readdir(d)) != NULL; errno = 0) {
		if (!is_shown(dir, de->d_name))
			continue;
		if (only_len && strncmp(de->d_name, only, only_len) != 0)
			continue;
		base_str_add(ret, de->d_name, strlen(de->d_name) + 1);
		++*nr;
	}
	return -errno;
}

/* Reads and sorts one directory; -ENOENT also if it is none. */
static int frame_init(const struct dir_root *root, const char *dir,
	const char *only, struct frame *ret)
{
	struct base_str arena = BASE_STR_INIT;
	size_t nr = 0;
	int err, fd;
	char *at;
	DIR *d;

	fd = dir_open_beneath(
		root->fd, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	err = read_names(d, dir, only, &arena, &nr);
	closedir(d);
	if (err) {
		base_str_fini(&arena);
		return err;
	}
	memset(ret, 0, sizeof(*ret));
	ret->fd = -1;
	ret->dir = base_strdup(dir);
	ret->arena = at = base_str_take(&arena);
	ret->names = base_malloc((nr + 1) * sizeof(*ret->names));
	ret->nr = nr;
	for (size_t i = 0; i < nr; i++) {
		ret->names[i] = at;
		at += strlen(at) + 1;
	}
	qsort(ret->names, nr, sizeof(*ret->names), compare);
	return 0;
}

/* Goes on behind `name`. */
static void frame_seek(struct frame *f, const char *name)
{
	size_t low = 0, high = f->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(f->names[mid], name) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	f->pos = low;
}

/* ---- cursors ---- */

static void cursor_free(struct dir_cursor *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->frames_nr; i++)
		frame_fini(&c->frames[i]);
	free(c->frames);
	free(c->name);
	free(c->only);
	free(c->last);
	free(c);
}

static struct frame *top(struct dir_cursor *c)
{
	return c->frames_nr ? &c->frames[c->frames_nr - 1] : NULL;
}

static void close_top(struct dir_cursor *c)
{
	struct frame *f = top(c);

	if (f && f->fd >= 0) {
		close(f->fd);
		f->fd = -1;
	}
}

static int push(struct dir_root *root, struct dir_cursor *c, const char *dir)
{
	struct frame f;
	int err = frame_init(root, dir, c->frames_nr == 0 ? c->only : NULL, &f);

	if (err)
		return err;
	close_top(c);
	c->frames = base_realloc(
		c->frames, (c->frames_nr + 1) * sizeof(*c->frames));
	c->frames[c->frames_nr++] = f;
	return 0;
}

static void pop(struct dir_cursor *c)
{
	frame_fini(&c->frames[--c->frames_nr]);
}

/* Rebuilds the walk to just behind `last`, a path below c->name. */
static int seek(struct dir_root *root, struct dir_cursor *c, const char *last)
{
	size_t at = c->name[0] ? strlen(c->name) + 1 : 0;
	char *path;
	int err = 0;

	if (at >= strlen(last) || strncmp(last, c->name, at ? at - 1 : 0) != 0)
		return -EBADMSG;
	for (;;) {
		size_t len = strcspn(last + at, "/");
		char *part = base_memdup(last + at, len + 1);

		part[len] = '\0';
		frame_seek(top(c), part);
		free(part);
		at += len;
		if (!c->recursive)
			return 0;
		path = base_memdup(last, at + 1);
		path[at] = '\0';
		err = push(root, c, path);
		free(path);
		if (err || last[at] == '\0')
			break;
		at++;
	}
	return err == -ENOENT ? 0 : err;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Takes the cursor that a marker names out of the table. */
static struct dir_cursor *cursor_take(
	struct dir_job *job, uint64_t id, const char *last)
{
	struct blob_dir *store = job->store;
	struct blob_req *req = job->req;
	struct dir_cursor *found = NULL;

	base_lock(&store->cursor_lock);
	for (unsigned i = 0; i < DIR_CURSORS_MAX; i++) {
		struct dir_cursor *c = store->cursors[i];

		if (!c || c->id != id ||
			c->recursive != req->in.list.recursive ||
			strcmp(c->name, req->name) != 0 ||
			strcmp(c->last, last) != 0 ||
			!same_text(c->only, req->in.list.only))
			continue;
		store->cursors[i] = NULL;
		found = c;
		break;
	}
	base_unlock(&store->cursor_lock);
	return found;
}

static void cursor_keep(struct blob_dir *store, struct dir_cursor *c)
{
	struct dir_cursor *old;
	unsigned oldest = 0;

	c->used_ns = dir_now_ns();
	base_lock(&store->cursor_lock);
	for (unsigned i = 1; i < DIR_CURSORS_MAX; i++) {
		struct dir_cursor *a = store->cursors[oldest];
		struct dir_cursor *b = store->cursors[i];

		if (a && (!b || b->used_ns < a->used_ns))
			oldest = i;
	}
	old = store->cursors[oldest];
	store->cursors[oldest] = c;
	base_unlock(&store->cursor_lock);
	cursor_free(old);
}

void dir_cursors_expire(struct blob_dir *store, int64_t now_ns)
{
	struct dir_cursor *dead[DIR_CURSORS_MAX] = { NULL };

	base_lock(&store->cursor_lock);
	for (unsigned i = 0; i < DIR_CURSORS_MAX; i++) {
		struct dir_cursor *c = store->cursors[i];

		if (!c || now_ns - c->used_ns < DIR_CURSOR_IDLE_NS)
			continue;
		dead[i] = c;
		store->cursors[i] = NULL;
	}
	base_unlock(&store->cursor_lock);
	for (unsigned i = 0; i < DIR_CURSORS_MAX; i++)
		cursor_free(dead[i]);
}

void dir_cursors_free(struct blob_dir *store)
{
	for (unsigned i = 0; i < DIR_CURSORS_MAX; i++)
		cursor_free(store->cursors[i]);
}

/* The walk of this request: kept, rebuilt, or new. */
static int cursor_open(struct dir_job *job, struct dir_cursor **ret)
{
	struct blob_req *req = job->req;
	const char *start = req->in.list.start, *last = NULL;
	struct dir_cursor *c;
	uint64_t id = 0;
	char *end;
	int err;

	if (start) {
		id = strtoull(start, &end, 16);
		if (*end != ':')
			return -EBADMSG;
		last = end + 1;
		*ret = cursor_take(job, id, last);
		if (*ret)
			return 0;
	}
	c = base_calloc(1, sizeof(*c));
	c->recursive = req->in.list.recursive;
	c->name = base_strdup(req->name);
	c->only = req->in.list.only ? base_strdup(req->in.list.only) : NULL;
	err = push(job->root, c, c->name);
	if (!err && last)
		err = seek(job->root, c, last);
	if (err && err != -ENOENT) {
		cursor_free(c);
		return err;
	}
	*ret = c;
	return 0;
}

/* ---- pages ---- */

static void entry_add(struct blob_req *req, size_t *cap, char *path,
	const struct dir_blob *blob)
{
	struct blob_entry *e;

	if (req->page.entries_nr == *cap) {
		*cap = *cap ? 2 * *cap : 64;
		req->page.entries =
			base_realloc(req->page.entries, *cap * sizeof(*e));
	}
	e = &req->page.entries[req->page.entries_nr++];
	memset(e, 0, sizeof(*e));
	e->name = path;
	dir_blob_props(blob, &e->props);
}

/* One name; what vanished meanwhile is no entry. */
static int visit(struct dir_job *job, struct dir_cursor *c, size_t *cap,
	const char *name)
{
	struct frame *f = top(c);
	struct dir_blob blob;
	char *path;
	int err, fd;
	bool is_dir;

	path = join(f->dir, name);
	free(c->last);
	c->last = base_strdup(path);
	if (strlen(path) >= PATH_MAX) {
		log_warn("%s: deeper than a path can say, not shown",
			job->store->path);
		free(path);
		return 0;
	}
	fd = openat(f->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		free(path);
		return errno == ENOENT ? 0 : -errno;
	}
	err = dir_blob_load(job->root, fd, true, &blob);
	close(fd);
	if (err) {
		free(path);
		return err;
	}
	is_dir = S_ISDIR(blob.st.mode);
	entry_add(job->req, cap, path, &blob);
	dir_blob_fini(&blob);
	if (!is_dir || !c->recursive)
		return 0;
	err = push(job->root, c, path);
	return err == -ENOENT ? 0 : err;
}

static int fill_page(struct dir_job *job, struct dir_cursor *c, uint32_t max)
{
	struct blob_req *req = job->req;
	size_t cap = 0, looked = 0;
	struct frame *f;
	int err = 0;

	while (!err && (f = top(c)) != NULL) {
		if (f->pos == f->nr) {
			pop(c);
			continue;
		}
		if (req->page.entries_nr >= max)
			break;
		if (looked++ % 256 == 0) {
			err = dir_job_check(job);
			if (err)
				break;
		}
		if (f->fd < 0)
			f->fd = dir_open_beneath(job->root->fd,
				f->dir[0] ? f->dir : ".",
				O_RDONLY | O_DIRECTORY);
		if (f->fd == -ENOENT || f->fd == -ENOTDIR || f->fd == -ELOOP)
			pop(c); /* went away since it was read */
		else if (f->fd < 0)
			err = f->fd;
		else
			err = visit(job, c, &cap, f->names[f->pos++]);
	}
	close_top(c);
	return err;
}

enum blob_result dir_op_list(struct dir_job *job)
{
	struct blob_req *req = job->req;
	struct dir_cursor *c;
	struct base_str next = BASE_STR_INIT;
	uint32_t max = req->in.list.max;
	int err = cursor_open(job, &c);

	if (err == -EBADMSG)
		return dir_fail(req, BLOB_REFUSED, -EINVAL, "InvalidMarker");
	if (err)
		return dir_errno(req, err);
	if (max == 0 || max > DIR_PAGE_MAX)
		max = DIR_PAGE_MAX;
	err = fill_page(job, c, max);
	if (err || !top(c)) {
		cursor_free(c);
	} else {
		base_lock(&job->store->cursor_lock);
		c->id = ++job->store->cursor_next;
		base_unlock(&job->store->cursor_lock);
		base_str_printf(&next, "%" PRIx64 ":%s", c->id, c->last);
		req->page.next = base_str_take(&next);
		cursor_keep(job->store, c);
	}
	return err ? dir_errno(req, err) : BLOB_OK;
}
