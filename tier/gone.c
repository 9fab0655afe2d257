/*
 * Names that were just taken out of `remote`.
 *
 * A listing that was sent before a deletion was answered may still show the
 * blob, and no row is left to say that this host knows better (a row says it by
 * its known_seq).  The last TIER_GONE_MAX such names are kept in memory with
 * the number of the moment.  After a restart no older listing is under way.
 *
 * Threads: any; one mutex, taken inside write transactions.
 */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/str.h"
#include "tier/priv.h"

struct gone {
	UT_hash_handle hh;
	uint64_t seq;
	char name[];
};

struct tier_gone {
	struct base_mutex mutex;
	struct gone *names; /* in the order of their numbers */
	uint64_t forgotten; /* the highest number that was let go */
};

struct tier_gone *tier_gone_new(void)
{
	struct tier_gone *g = base_calloc(1, sizeof(*g));

	base_mutex_init(&g->mutex, BASE_RANK_TIER_GONE);
	return g;
}

static void forget(struct tier_gone *g, struct gone *name)
{
	HASH_DEL(g->names, name);
	free(name);
}

void tier_gone_free(struct tier_gone *g)
{
	if (g == NULL)
		return;
	while (g->names != NULL)
		forget(g, g->names);
	base_mutex_fini(&g->mutex);
	free(g);
}

/* With the mutex. */
static void note(
	struct tier_gone *g, const char *name, size_t len, uint64_t seq)
{
	struct gone *new = base_malloc(sizeof(*new) + len + 1), *old;

	memcpy(new->name, name, len);
	new->name[len] = '\0';
	new->seq = seq;
	HASH_FIND(hh, g->names, name, len, old);
	if (old != NULL)
		forget(g, old);
	HASH_ADD(hh, g->names, name, len, new);
	if (HASH_COUNT(g->names) > TIER_GONE_MAX) {
		g->forgotten = g->names->seq;
		forget(g, g->names);
	}
}

int tier_remote_gone(struct tier *tier, struct cache_txn *txn, const char *name)
{
	struct tier_gone *g = tier->gone;
	uint64_t seq = tier_tick(tier);

	base_lock(&g->mutex);
	/* Its prefixes may have gone with it; where they did not, there is a
	 * dentry that needs no listing. */
	for (size_t i = 1; name[i - 1] != '\0'; i++)
		if (name[i] == '/' || name[i] == '\0')
			note(g, name, i, seq);
	base_unlock(&g->mutex);
	return cache_remote_del(txn, name);
}

bool tier_gone_since(struct tier *tier, const char *name, uint64_t start_seq)
{
	struct tier_gone *g = tier->gone;
	struct gone *found;
	bool ret;

	base_lock(&g->mutex);
	HASH_FIND(hh, g->names, name, strlen(name), found);
	ret = start_seq <= (found != NULL ? found->seq : g->forgotten);
	base_unlock(&g->mutex);
	return ret;
}
