/* The slots of open handles: here, and in the table that outlives the worker
 * (table.h). */
#include "fs/handle_priv.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

void fs_slots_grow(struct fs_handles *h, uint32_t nr)
{
	uint32_t cap = h->slots_cap ? h->slots_cap : 256;

	if (nr <= h->slots_cap)
		return;
	while (cap < nr)
		cap *= 2;
	h->slots = base_realloc(h->slots, cap * sizeof(*h->slots));
	memset(h->slots + h->slots_cap, 0,
		(cap - h->slots_cap) * sizeof(*h->slots));
	h->slots_cap = cap;
}

void fs_slot_free(struct fs_handles *h, uint32_t nr)
{
	h->table->slots[nr].flags = 0;
	h->slots[nr].next_free = h->free_slot;
	h->free_slot = nr;
}

int fs_slot_find(struct fs_handles *h, uint32_t *ret)
{
	uint32_t nr = h->free_slot;

	if (nr != UINT32_MAX) {
		h->free_slot = h->slots[nr].next_free;
		*ret = nr;
		return 0;
	}
	nr = h->table->slots_nr;
	if (nr >= FS_TABLE_SLOTS_MAX)
		return -ENFILE;
	fs_slots_grow(h, nr + 1);
	h->table->slots_nr = nr + 1;
	*ret = nr;
	return 0;
}

void fs_slot_begin(struct fs_handles *h, struct fs_file *f, uint32_t nr,
	bool write, uint64_t request, uint64_t *ret_fh)
{
	struct fs_table_slot *kept = &h->table->slots[nr];
	struct fs_slot *slot = &h->slots[nr];

	kept->generation++;
	kept->ino = f->ino;
	kept->request = request;
	slot->open.file = f;
	slot->open.write = write;
	slot->open.direct = false;
	fs_file_ref(f);
	f->opens++;
	f->writers += write;
	*ret_fh = nr | (uint64_t)kept->generation << 32;
}
