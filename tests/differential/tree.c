/* Whole trees, as text: one line a name, sorted. */
#include "tests/differential/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct text {
	FILE *out;
	bool exact;
	struct face *faces; /* of each line; NULL: not wanted */
	size_t nr;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory, sorted; -errno. */
static int list(int fd, char ***ret)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), nr = 0;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	char **names = NULL;

	if (dir == NULL)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		names = realloc(names, (nr + 1) * sizeof(*names));
		names[nr++] = strdup(entry->d_name);
	}
	closedir(dir);
	if (nr > 0)
		qsort(names, nr, sizeof(*names), by_name);
	*ret = names;
	return nr;
}

static void put_content(struct text *t, int dir, const char *name)
{
	static char buf[BYTES_MAX];
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint64_t hash = HASH_START;
	ssize_t n;

	if (fd < 0) {
		fprintf(t->out, " open: %s", strerror(errno));
		return;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		hash = hash_bytes(hash, buf, n);
	if (n < 0)
		fprintf(t->out, " read: %s", strerror(errno));
	fprintf(t->out, " bytes %016llx", (unsigned long long)hash);
	close(fd);
}

static void put_name(struct text *t, const char *name)
{
	for (; *name != '\0'; name++)
		fputc(*name == '\n' ? '?' : *name, t->out);
}

static void put_times(struct text *t, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		fprintf(t->out, " %lld.%09ld", (long long)st.st_mtim.tv_sec,
			st.st_mtim.tv_nsec);
}

/* A directory's nlink is right when it was listed. */
static void know(int dir, const char *name)
{
	int fd = openat(
		dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **names = NULL;
	int nr = fd < 0 ? 0 : list(fd, &names);

	while (names != NULL && nr > 0)
		free(names[--nr]);
	free(names);
	if (fd >= 0)
		close(fd);
}

static void walk(struct text *t, int fd, const char *path);

static void put(struct text *t, int dir, const char *name, const char *path)
{
	char line[300], target[4096];
	struct face face;
	ssize_t n;
	int fd;

	know(dir, name);
	face_get(dir, name, AT_SYMLINK_NOFOLLOW, &face);
	if (t->exact && S_ISDIR(face.mode))
		face.mtime_s = face.mtime_ns = 0;
	face_print(&face, line, sizeof(line));
	put_name(t, path);
	fprintf(t->out, ": %s", line);
	/* That of a directory which changed is told the store late (a cold cache
	 * shows the last one told). */
	if (t->exact && !S_ISDIR(face.mode))
		put_times(t, dir, name);
	if (S_ISREG(face.mode))
		put_content(t, dir, name);
	if (S_ISLNK(face.mode)) {
		n = readlinkat(dir, name, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		fputs(" -> ", t->out);
		put_name(t, n < 0 ? strerror(errno) : target);
	}
	fputc('\n', t->out);
	t->faces = realloc(t->faces, (t->nr + 1) * sizeof(*t->faces));
	t->faces[t->nr++] = face;
	if (!S_ISDIR(face.mode))
		return;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		fprintf(t->out, "%s: opendir: %s\n", path, strerror(errno));
		return;
	}
	walk(t, fd, path);
	close(fd);
}

static void walk(struct text *t, int fd, const char *path)
{
	char **names = NULL, *below;
	int nr = list(fd, &names), i;

	if (nr < 0)
		fprintf(t->out, "%s: list: %s\n", path, strerror(-nr));
	for (i = 0; names != NULL && i < nr; i++) {
		if (asprintf(&below, "%s/%s", path, names[i]) < 0)
			die("memory");
		put(t, fd, names[i], below);
		free(below);
		free(names[i]);
	}
	free(names);
}

static char *text_of(struct text *t, int fd)
{
	char *text = NULL;
	size_t size;

	t->out = open_memstream(&text, &size);
	put(t, fd, ".", ".");
	fclose(t->out);
	return text;
}

char *tree_text(int fd, bool exact)
{
	struct text t = { .exact = exact };
	char *text = text_of(&t, fd);

	free(t.faces);
	return text;
}

bool tree_differs(const char *a, const char *b, char *why, size_t size)
{
	size_t i = 0, line = 0;

	for (; a[i] == b[i]; i++) {
		if (a[i] == '\0')
			return false;
		if (a[i] == '\n')
			line = i + 1;
	}
	snprintf(why, size, "  %.*s\n  %.*s", (int)strcspn(a + line, "\n"),
		a + line, (int)strcspn(b + line, "\n"), b + line);
	return true;
}

void tree_taint_dirs(int fd)
{
	struct text t = { 0 };
	size_t i;

	free(text_of(&t, fd));
	for (i = 0; i < t.nr; i++)
		if (S_ISDIR(t.faces[i].mode))
			face_taint(t.faces[i].ino);
	free(t.faces);
}

/* Lines without what a tainted file's says of its mtime. */
static char *lines(struct text *t, const char *text, const struct text *other)
{
	char *out = NULL, *mtime;
	size_t size, i = 0, len;
	FILE *f = open_memstream(&out, &size);

	for (; *text != '\0'; text += len + 1, i++) {
		len = strcspn(text, "\n");
		mtime = memmem(text, len, " mtime ", 7);
		if (mtime == NULL || i >= t->nr || i >= other->nr ||
			face_differs(&t->faces[i], &other->faces[i]) != NULL)
			mtime = NULL;
		if (mtime == NULL) {
			fprintf(f, "%.*s\n", (int)len, text);
			continue;
		}
		/* They agree: what is printed of mtime is of no matter. */
		fprintf(f, "%.*s", (int)(mtime - text), text);
		mtime += 7 + strcspn(mtime + 7, ".");
		mtime += strcspn(mtime, " \n");
		fprintf(f, "%.*s\n", (int)(text + len - mtime), mtime);
	}
	fclose(f);
	return out;
}

bool tree_compare(struct world *w, char *why)
{
	struct text t[SIDES] = { 0 };
	char *text[SIDES], *line[SIDES];
	bool differ;

	text[MOUNT] = text_of(&t[MOUNT], w->side[MOUNT].root);
	text[PLAIN] = text_of(&t[PLAIN], w->side[PLAIN].root);
	line[MOUNT] = lines(&t[MOUNT], text[MOUNT], &t[PLAIN]);
	line[PLAIN] = lines(&t[PLAIN], text[PLAIN], &t[MOUNT]);
	differ = tree_differs(line[MOUNT], line[PLAIN], why, TEXT_BYTES);
	free(line[MOUNT]);
	free(line[PLAIN]);
	free(text[MOUNT]);
	free(text[PLAIN]);
	free(t[MOUNT].faces);
	free(t[PLAIN].faces);
	return !differ;
}
