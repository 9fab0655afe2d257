/*
 * Somebody has left uncommitted blocks under the name whose ids are of another
 * length: the store takes none of ours beside them (WRITEBACK section 4).
 *
 *   T1  the blob in place is committed once more as it is, under its ETag and
 *       with all that it carries, which drops what was staged.  It changes
 *       nothing that readers see, so it waits for no turn; it has a `sent` row
 *       of its own, which speaks for no row of the journal;
 *   T2  where there is no blob, or not all of its list is ours, the file goes
 *       as one Put Blob, which drops them, too;
 *   T3  what is too long for that is refused, and set aside in the end.
 */
#include "tier/stage.h"

#include <errno.h>
#include <stdlib.h>

static void whole_read(struct work *w)
{
	struct blob_hash *hash = blob_hash_new(BLOB_HASH_MD5);
	struct upload *u = w->upload;
	char *piece = base_malloc(TIER_MIB);
	uint64_t at = 0, len;
	int err = 0;

	while (at < w->row.size_bytes && err == 0) {
		len = w->row.size_bytes - at;
		if (len > TIER_MIB)
			len = TIER_MIB;
		err = tier_read_all(u->fd, piece, at, len);
		blob_hash_add(hash, piece, len);
		at += len;
	}
	blob_hash_end(hash, w->md5);
	free(piece);
	if (err == 0)
		err = tier_upload_still(w, &u->stamp);
	w->block_err = err;
}

void tier_strays(struct work *w)
{
	struct upload *u = w->upload;

	log_warn("%s: somebody has staged blocks of another kind under this "
		 "name",
		w->row.name);
	if (u->list != NULL && !w->restored) {
		w->restored = w->restore = true;
		w->op = BLOB_COMMIT;
		tier_work_ready(w);
	} else if (u->fd < 0) {
		tier_work_other_way(w);
	} else if (w->row.size_bytes <= TIER_PUT_BYTES_MAX) {
		tier_work_block(w, whole_read, tier_upload_is_read);
	} else {
		tier_work_refused(w);
	}
}
