/*
 * The paths of a mount: the default cache directory, and that none lies in
 * another (see options.h).
 */
#include "fs/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CACHE_ROOT "/var/lib/forebay"

char *fs_options_cache_dir(const char *store)
{
	struct base_str s = BASE_STR_INIT;
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
	const char *name = strstr(store, "://");
	size_t len = 0;

	for (const char *c = store; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	base_str_puts(&s, DEFAULT_CACHE_ROOT "/");
	/* Readable for people, and unique by the number behind. */
	for (name = name ? name + 3 : store; *name != '\0' && len < 80;
		name++, len++) {
		bool plain = (*name >= 'a' && *name <= 'z') ||
			(*name >= 'A' && *name <= 'Z') ||
			(*name >= '0' && *name <= '9') || *name == '-' ||
			(*name == '.' && len > 0);

		base_str_putc(&s, plain ? *name : '_');
	}
	base_str_printf(&s, "-%08x", (unsigned)(hash ^ (hash >> 32)));
	return base_str_take(&s);
}

/* Absolute, without symlinks, "." and "..", as far as it exists. */
static char *absolute(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	char *real = realpath(path, NULL);
	char *copy, *slash;

	if (real != NULL)
		return real;
	copy = base_strdup(path);
	while ((slash = strrchr(copy, '/')) != NULL && slash[1] == '\0' &&
		slash != copy)
		*slash = '\0';
	if (slash == NULL) {
		real = realpath(".", NULL);
	} else {
		*slash = '\0';
		real = slash == copy ? base_strdup("") : absolute(copy);
	}
	base_str_puts(&s, real != NULL && strcmp(real, "/") != 0 ? real : "");
	base_str_putc(&s, '/');
	base_str_puts(&s, slash != NULL ? slash + 1 : copy);
	free(real);
	free(copy);
	return base_str_take(&s);
}

static bool is_inside(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(path, dir, len) == 0 &&
		(path[len] == '/' || path[len] == '\0');
}

static int check_apart(const char *a, const char *a_is, const char *b,
	const char *b_is, char *why, size_t why_bytes)
{
	if (!is_inside(a, b) && !is_inside(b, a))
		return 0;
	snprintf(why, why_bytes,
		"%s %s and %s %s lie one in the other; choose directories "
		"apart from each other",
		a_is, a, b_is, b);
	return -EINVAL;
}

int fs_options_resolve(struct fs_options *opt, char *why, size_t why_bytes)
{
	const char *store =
		strncmp(opt->store, "dir:", 4) == 0 ? opt->store + 4 : NULL;
	char *path;
	int err = 0;

	if (opt->mountpoint[0] == '\0') {
		snprintf(why, why_bytes,
			"the name of the mount point is empty; name a "
			"directory");
		return -EINVAL;
	}
	path = absolute(opt->mountpoint);
	free(opt->mountpoint);
	opt->mountpoint = path;
	if (opt->credentials != NULL) {
		path = absolute(opt->credentials);
		free(opt->credentials);
		opt->credentials = path;
	}
	if (opt->cache_dirs_nr == 0) {
		opt->cache_dirs = base_calloc(1, sizeof(char *));
		opt->cache_dirs[0] = fs_options_cache_dir(opt->store);
		opt->cache_dirs_nr = 1;
	}
	for (size_t i = 0; i < opt->cache_dirs_nr && err == 0; i++) {
		path = absolute(opt->cache_dirs[i]);
		free(opt->cache_dirs[i]);
		opt->cache_dirs[i] = path;
		err = check_apart(opt->mountpoint, "the mount point", path,
			"the cache directory", why, why_bytes);
		if (err == 0 && store != NULL)
			err = check_apart(store, "the store", path,
				"the cache directory", why, why_bytes);
		for (size_t j = 0; j < i && err == 0; j++)
			err = check_apart(opt->cache_dirs[j],
				"the cache directory", path,
				"the cache directory", why, why_bytes);
	}
	if (err == 0 && store != NULL)
		err = check_apart(opt->mountpoint, "the mount point", store,
			"the store", why, why_bytes);
	return err;
}

void fs_options_set_paths(struct fs_options *opt, const char *credentials,
	char *const *cache_dirs, size_t cache_dirs_nr)
{
	free(opt->credentials);
	opt->credentials =
		credentials[0] != '\0' ? base_strdup(credentials) : NULL;
	for (size_t i = 0; i < opt->cache_dirs_nr; i++)
		free(opt->cache_dirs[i]);
	free(opt->cache_dirs);
	opt->cache_dirs = base_calloc(cache_dirs_nr, sizeof(char *));
	for (size_t i = 0; i < cache_dirs_nr; i++)
		opt->cache_dirs[i] = base_strdup(cache_dirs[i]);
	opt->cache_dirs_nr = cache_dirs_nr;
}
