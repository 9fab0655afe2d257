/*
 * The options of a mount, as given and as meant.
 *
 * What it is for.  Reads what DESIGN section 13 lists into struct fs_options,
 * and decides what was left open.
 *
 * Threads: any.
 * Ownership: a struct fs_options owns its strings; fs_options_fini() frees
 * them.
 * Errors: 0 or -errno, and one line "WHAT: WHY; TODO" in `why`.  -EINVAL means
 * wrong usage (exit status 2).
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include "fs/fs.h"
#include "fs/mount.h"

/* Reads the command line; asks nothing of the system but names of users. */
int fs_options_parse(const struct fs_mount_args *args, struct fs_options *ret,
	char *why, size_t why_bytes);
/* When opt->store is canonical: makes paths absolute, chooses the cache
 * directory, refuses paths that lie in one another. */
int fs_options_resolve(struct fs_options *opt, char *why, size_t why_bytes);
/* Takes the place of all that: the credentials ("": none) and the cache
 * directories, copied. */
void fs_options_set_paths(struct fs_options *opt, const char *credentials,
	char *const *cache_dirs, size_t cache_dirs_nr);
void fs_options_fini(struct fs_options *opt);

/* The default cache directory of a store, allocated. */
char *fs_options_cache_dir(const char *store);

#endif
