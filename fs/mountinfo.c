/*
 * What is mounted where: /proc/self/mountinfo (see fs.h).
 *
 * A line: "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw".
 * Later lines are mounted over earlier ones.
 */
#include "fs/fs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES 65536

void fs_mountinfo_fini(struct fs_mountinfo *info)
{
	free(info->device);
	free(info->root);
	free(info->point);
	free(info->type);
	free(info->source);
	memset(info, 0, sizeof(*info));
}

/* \040 and the like, in place. */
static char *unescape(char *text)
{
	char *to = text;

	for (const char *c = text; *c != '\0'; c++) {
		if (c[0] == '\\' && c[1] >= '0' && c[1] <= '3' && c[2] >= '0' &&
			c[2] <= '7' && c[3] >= '0' && c[3] <= '7') {
			*to++ = (char)((c[1] - '0') << 6 | (c[2] - '0') << 3 |
				(c[3] - '0'));
			c += 3;
		} else {
			*to++ = *c;
		}
	}
	*to = '\0';
	return text;
}

/* Fields point into the line. */
struct line {
	char *device, *root, *point, *type, *source;
};

static bool parse(char *text, struct line *ret)
{
	char *word, *rest = text;

	memset(ret, 0, sizeof(*ret));
	for (int i = 0; (word = strsep(&rest, " ")) != NULL; i++) {
		if (i == 2)
			ret->device = word;
		else if (i == 3)
			ret->root = unescape(word);
		else if (i == 4)
			ret->point = unescape(word);
		else if (i > 5 && strcmp(word, "-") == 0)
			break;
	}
	ret->type = strsep(&rest, " ");
	ret->source = strsep(&rest, " ");
	if (ret->source == NULL || ret->device == NULL || ret->root == NULL ||
		ret->point == NULL)
		return false;
	unescape(ret->source);
	return true;
}

typedef bool (*match_fn)(const void *arg, const struct line *line);

/* The last line that matches best: the longest mount point wins if `longest`,
 * and of equal ones the last. */
static int find(
	match_fn match, const void *arg, bool longest, struct fs_mountinfo *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct fs_mountinfo best = { 0 };
	char *text = NULL;
	size_t cap = 0;

	if (f == NULL)
		return -errno;
	/* In few pieces: mounts come and go between them. */
	setvbuf(f, NULL, _IOFBF, BUFFER_BYTES);
	while (getline(&text, &cap, f) > 0) {
		struct line line;

		text[strcspn(text, "\n")] = '\0';
		if (!parse(text, &line) || !match(arg, &line))
			continue;
		if (longest && best.point != NULL &&
			strlen(line.point) < strlen(best.point))
			continue;
		fs_mountinfo_fini(&best);
		best.device = base_strdup(line.device);
		best.root = base_strdup(line.root);
		best.point = base_strdup(line.point);
		best.type = base_strdup(line.type);
		best.source = base_strdup(line.source);
	}
	free(text);
	fclose(f);
	if (best.point == NULL)
		return -ENOENT;
	*ret = best;
	return 0;
}

static bool is_at(const void *path, const struct line *line)
{
	return strcmp(line->point, path) == 0;
}

static bool shows(const void *arg, const struct line *line)
{
	const char *path = arg;
	size_t len = strlen(line->point);

	assert(path != NULL);
	if (strcmp(line->point, "/") == 0)
		return true;
	return strncmp(path, line->point, len) == 0 &&
		(path[len] == '/' || path[len] == '\0');
}

static bool is_device(const void *device, const struct line *line)
{
	return strcmp(line->device, device) == 0;
}

int fs_mountinfo_find(const char *path, bool inside, struct fs_mountinfo *ret)
{
	return find(inside ? shows : is_at, path, inside, ret);
}

int fs_mountinfo_device(const char *device, struct fs_mountinfo *ret)
{
	return find(is_device, device, false, ret);
}
