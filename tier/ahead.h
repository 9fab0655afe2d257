/*
 * Siblings fetched ahead: see ahead.c.  Private to tier/; nothing is called
 * with its mutex held.
 */
#ifndef TIER_AHEAD_H
#define TIER_AHEAD_H

#include "tier/priv.h"

int tier_aheads_open(struct tier *tier);
/* No more are begun; those under way end with the fetches. */
void tier_aheads_stop(struct tier *tier);
/* After the executor was stopped. */
void tier_aheads_close(struct tier *tier);

/* Somebody opened this file and has to wait for its bytes. */
void tier_ahead_missed(struct tier *tier, uint64_t ino);
void tier_ahead_status(struct tier *tier, struct tier_status *ret);

/* fetch.c: the whole file, in the background, and only into room that nobody
 * needs: -ENOSPC rather than evict for it. */
void tier_fetch_spare(struct tier *tier, uint64_t ino, struct tier_call *call);

#endif
