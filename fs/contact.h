/*
 * Contact with the store: is it there, is it the one that this cache belongs
 * to, and what `status` says of it.
 *
 * Threads and locks.  The functions without a note are the main thread's;
 * fs_contact_state_changed(), fs_contact_suspect() and fs_contact_state() are
 * called by any, and wait for nothing.
 *
 * Ownership.  Lives from before the store is opened until the executor has
 * stopped.
 *
 * Errors.  One line for the user in ret_why.
 */
#ifndef FS_CONTACT_H
#define FS_CONTACT_H

#include "blob/store.h"
#include "fs/mount.h"

struct fs_contact;

struct fs_contact *fs_contact_new(struct fs_mount *m);
void fs_contact_free(struct fs_contact *contact);

/*
 * Asks for the first time, with m->cache and m->tier open; starts the tier if
 * the store answers.  fresh: the cache was made just now.  again: another
 * worker of this mount was here before, so nothing is waited for.  -ECANCELED:
 * the keeper wants an end; otherwise what is wrong with the store.
 */
int fs_contact_make(struct fs_contact *contact, bool fresh, bool again,
	char *ret_why, size_t why_bytes);

/* While the mount is served: descriptors that become readable when
 * fs_contact_hear() is to be called.  True: it is another store, the mount
 * must end. */
#define FS_CONTACT_FDS 2
void fs_contact_fds(const struct fs_contact *contact, int ret[FS_CONTACT_FDS]);
bool fs_contact_hear(struct fs_contact *contact);

/* blob_config.state_changed.  The first request is the tier's, so there is
 * one. */
void fs_contact_state_changed(
	void *contact, enum blob_state state, const char *why);
/* The container may be another one than it was. */
void fs_contact_suspect(void *contact);
/* A word for status, and why. */
const char *fs_contact_state(void *contact, char *ret_why, size_t why_bytes);

#endif
