/*
 * A cache and a tier on a `dir:` store, without a kernel: what fs/ does with
 * them, in the few steps that the unit tests need.
 */
#ifndef TESTS_LIB_RIG_H
#define TESTS_LIB_RIG_H

#include "blob/store.h"
#include "cache/cache.h"
#include "tier/tier.h"

struct rig {
	char root[256]; /* everything lies below it */
	char store_path[300], cache_path[300];
	struct base_env *env;
	struct cache *cache;
	struct blob_store *store;
	struct tier *tier;
	struct tier_config config; /* changed before rig_open() */
};

/* Makes the directories; rig_open() opens cache, store and tier. */
void rig_init(struct rig *rig);
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
/* Closes, and removes the directories. */
void rig_fini(struct rig *rig);

/* Waits for a call that `start` began. */
int rig_wait(struct rig *rig,
	void (*start)(struct rig *, struct tier_call *, void *arg), void *arg);
int rig_flush(struct rig *rig, const char *path);
int rig_fetch(struct rig *rig, const char *path);
int rig_refresh(struct rig *rig, const char *dir);

/* What a program does to the mount, as fs/ writes it down. */
void rig_write(struct rig *rig, const char *path, const char *text);
void rig_mkdir(struct rig *rig, const char *path);
void rig_unlink(struct rig *rig, const char *path);
void rig_rename(struct rig *rig, const char *from, const char *to);
void rig_symlink(struct rig *rig, const char *path, const char *target);
void rig_chmod(struct rig *rig, const char *path, uint32_t mode);
/* The local bytes of a file, fetched first; freed by the caller. */
char *rig_read(struct rig *rig, const char *path);

/* The store's side, as other tools see it. */
char *rig_store_read(struct rig *rig, const char *path); /* NULL: absent */
void rig_store_write(struct rig *rig, const char *path, const char *text);

#endif
