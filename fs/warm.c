/*
 * Backing ids of files that were closed a moment ago.
 *
 * Training jobs open, read and close the same files over and over.  An open in
 * passthrough needs nothing but the backing id, so the id of a file that was
 * whole, clean and not written-to when its last open was released stays in a
 * small table, and the next open for reading takes it from there, without the
 * index, the data file, or a call of the kernel.
 *
 *   W5  An id is here only while there is no struct fs_file for its inode:
 *	 whoever gets one for anything but such an open takes the id away and
 *	 closes it, and so does a claim, and the loss of the last name.  So it
 *	 never keeps bytes on the disk that are to go, and is in no lease's way.
 *
 * Each has a slot of the table that outlives the worker, marked as if its id
 * were being closed: so the next worker closes what this one kept.
 *
 * The table here is direct-mapped: numbers of inodes are given in order, so that
 * the files of a data set seldom meet, and when they do one is made anew.
 */
#include "fs/handle_priv.h"

struct fs_id fs_warm_take(struct fs_handles *h, uint64_t ino)
{
	struct fs_warm *warm = &h->warm[ino & (FS_WARM_SLOTS - 1)];

	if (ino == 0 || warm->ino != ino)
		return FS_ID_NONE;
	warm->ino = 0;
	return warm->id;
}

struct fs_id fs_warm_put(struct fs_handles *h, uint64_t ino, struct fs_id id)
{
	struct fs_warm *warm = &h->warm[ino & (FS_WARM_SLOTS - 1)];
	struct fs_id old = warm->ino != 0 ? warm->id : FS_ID_NONE;

	warm->ino = ino;
	warm->id = id;
	return old;
}

void fs_id_close(struct fs_handles *h, struct fs_id id)
{
	if (id.id == 0)
		return;
	fs_backing_close(h, id.id);
	base_lock(&h->mutex);
	fs_slot_free(h, id.slot);
	base_unlock(&h->mutex);
}

void fs_warm_close(struct fs_handles *h)
{
	for (size_t i = 0; i < FS_WARM_SLOTS; i++) {
		struct fs_id id;

		base_lock(&h->mutex);
		id = fs_warm_take(h, h->warm[i].ino);
		base_unlock(&h->mutex);
		fs_id_close(h, id);
	}
}

/* ---- opening ---- */

/* Its slot is open again, or another one is. */
static void fill(struct fs_handles *h, struct fs_file *f, uint32_t nr,
	uint64_t request, struct fuse_file_info *fi)
{
	struct fs_table_slot *kept = &h->table->slots[nr];

	kept->backing_id = f->backing_id;
	fs_slot_begin(h, f, nr, false, request, &fi->fh);
	kept->flags = FS_SLOT_OPEN; /* T1 */
	f->state = FS_PASS;
	fi->backing_id = f->backing_id;
	fi->noflush = 1;
	fi->parallel_direct_writes = 1;
}

/* Whoever is inside the gate may be about to change what it is. */
static bool can_share(struct fs_handles *h, struct fs_file *f, uint32_t *ret_nr)
{
	return f->state == FS_PASS && f->opens > 0 && f->whole && !f->gate &&
		fs_slot_find(h, ret_nr) == 0;
}

static struct fs_file *revive(
	struct fs_handles *h, uint64_t ino, uint32_t *ret_nr)
{
	struct fs_id id = fs_warm_take(h, ino);
	struct fs_file *f;

	if (id.id == 0)
		return NULL;
	f = fs_handles_add(h, ino);
	f->backing_id = id.id;
	f->whole = true;
	*ret_nr = id.slot;
	return f;
}

bool fs_file_open_warm(struct fs_handles *h, uint64_t ino, uint64_t request,
	struct fuse_file_info *fi)
{
	struct fs_file *f = NULL;
	uint32_t nr = 0;

	base_lock(&h->mutex);
	if (!h->finished) {
		f = fs_handles_find(h, ino);
		if (f == NULL)
			f = revive(h, ino, &nr);
		else if (!can_share(h, f, &nr))
			f = NULL;
	}
	if (f != NULL)
		fill(h, f, nr, request, fi);
	base_unlock(&h->mutex);
	return f != NULL;
}
