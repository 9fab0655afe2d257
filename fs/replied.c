/* Exactly once: see replied.h. */
#include "fs/replied.h"

#include <assert.h>
#include <stdlib.h>

#include "base/lock.h"
#include "base/str.h"

struct row {
	uint64_t request, ino;
	uint32_t slot;
};

struct fs_replied {
	struct base_mutex mutex;
	/* under mutex */
	struct row *rows; /* of the worker before */
	size_t rows_nr, rows_cap;
	uint32_t free[FS_REPLIED_MAX]; /* slots; the last is taken first */
	uint32_t free_nr;
};

static int add_row(void *arg, uint32_t slot, uint64_t request, uint64_t ino)
{
	struct fs_replied *r = arg;

	if (slot >= FS_REPLIED_MAX)
		return 0;
	if (r->rows_nr == r->rows_cap) {
		r->rows_cap = r->rows_cap ? r->rows_cap * 2 : 32;
		r->rows = base_realloc(r->rows, r->rows_cap * sizeof(*r->rows));
	}
	r->rows[r->rows_nr++] = (struct row){ request, ino, slot };
	return 0;
}

static int load(struct fs_mount *m, bool fresh, struct fs_replied *r)
{
	struct cache_txn *txn;
	int err = fresh ? cache_write(m->cache, &txn)
			: cache_read(m->cache, &txn);

	if (err < 0)
		return err;
	err = fresh ? cache_replied_clear(txn)
		    : cache_replied_each(txn, add_row, r);
	return cache_end(txn, err);
}

/* Slots without a row, the lowest on top. */
static void find_free(struct fs_replied *r)
{
	bool used[FS_REPLIED_MAX] = { false };

	for (size_t i = 0; i < r->rows_nr; i++)
		used[r->rows[i].slot] = true;
	for (uint32_t i = FS_REPLIED_MAX; i-- > 0;)
		if (!used[i])
			r->free[r->free_nr++] = i;
}

int fs_replied_open(
	struct fs_mount *m, bool fresh, struct fs_replied **ret_replied)
{
	struct fs_replied *r = base_calloc(1, sizeof(*r));
	int err = load(m, fresh, r);

	if (err < 0) {
		free(r->rows);
		free(r);
		return err;
	}
	base_mutex_init(&r->mutex, BASE_RANK_FS_REPLIED);
	find_free(r);
	*ret_replied = r;
	return 0;
}

void fs_replied_free(struct fs_replied *r)
{
	if (r == NULL)
		return;
	base_mutex_fini(&r->mutex);
	free(r->rows);
	free(r);
}

bool fs_replied_find(struct fs_replied *r, uint64_t request, uint64_t *ret_ino)
{
	bool found = false;

	base_lock(&r->mutex);
	for (size_t i = 0; i < r->rows_nr && !found; i++) {
		found = r->rows[i].request == request;
		if (found)
			*ret_ino = r->rows[i].ino;
	}
	base_unlock(&r->mutex);
	return found;
}

void fs_replied_settle(struct fs_replied *r)
{
	base_lock(&r->mutex);
	while (r->rows_nr > 0)
		r->free[r->free_nr++] = r->rows[--r->rows_nr].slot;
	free(r->rows);
	r->rows = NULL;
	r->rows_cap = 0;
	base_unlock(&r->mutex);
}

uint32_t fs_replied_take(struct fs_replied *r)
{
	uint32_t slot;

	base_lock(&r->mutex);
	assert(r->free_nr > 0);
	slot = r->free[--r->free_nr];
	base_unlock(&r->mutex);
	return slot;
}

void fs_replied_give(struct fs_replied *r, uint32_t slot)
{
	if (slot == FS_REPLIED_NONE)
		return;
	base_lock(&r->mutex);
	r->free[r->free_nr++] = slot;
	base_unlock(&r->mutex);
}
