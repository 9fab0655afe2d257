/*
 * One request to a store, waited for: for the commands that work without a
 * mount (fsck, doctor).
 *
 * Threads: the caller's, which blocks until the request ends (its time limit
 * is the store's).  Ownership, errors: as in blob/store.h.
 */
#ifndef FS_ASK_H
#define FS_ASK_H

#include "blob/store.h"

/* Sets req->done and req->arg. */
void fs_ask(struct blob_store *store, struct blob_req *req);

#endif
