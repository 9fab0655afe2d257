/*
 * A large file on its way: its blocks are staged, then named by one commit.
 * Private to upload.c and stage*.c.
 *
 * Threads: struct upload belongs to the strand; what runs off it touches only
 * its own block, and the descriptor.
 */
#ifndef TIER_STAGE_H
#define TIER_STAGE_H

#include "tier/line.h"

struct block_id;

struct upload {
	int fd; /* -1: copied, not read */
	struct cache_stamp stamp;
	struct blob_block *blocks; /* of the commit */
	size_t blocks_nr, blocks_cap;
	uint64_t next; /* offset of the first block not begun */
	unsigned in_flight;
	bool waiting; /* for memory */
	int err;
	struct block_id *committed; /* of the blob in place (S1) */
	struct block_id *staged;    /* by this upload, or on their way */
	/* The commit would fail: blocks are hashed, to compare, not sent. */
	bool hash_only;
	bool zero_in_flight; /* the zero block's hash is being made */
	/* The list of the blob in place, if all of it is ours. */
	struct blob_block *list;
	size_t list_nr;
	size_t copied; /* stage_copy.c: blocks begun */
};

/* upload.c */
/* The data file as the row says it is, at rest (U2): a descriptor, -EAGAIN:
 * not yet, or -errno. */
int tier_upload_open(struct work *w, struct cache_stamp *ret_stamp);
/* -EAGAIN: it is shorter than it was. */
int tier_read_all(int fd, char *buf, uint64_t offset, uint64_t len);
/* U2: is the file still what it was?  -EAGAIN: it was written to. */
int tier_upload_still(struct work *w, const struct cache_stamp *before);
/* The bytes were read for a Put, and w->md5 with them: out with it. */
void tier_upload_is_read(struct work *w, int err);
/* What to do when the bytes could not be had. */
void tier_upload_not_read(struct work *w, int err);

/* stage_blocks.c */
struct upload *tier_upload_new(struct work *w);
/* The size of the block at an offset (S3). */
uint64_t tier_block_len(uint64_t offset, uint64_t size_bytes);
/* The next block of the commit, yet empty; valid until the next call. */
struct blob_block *tier_block_add(struct upload *u);
/* A block of these bytes: is it staged, or on its way?  If not it is now. */
bool tier_block_begin(
	struct upload *u, const uint8_t id[BLOB_BLOCK_ID_BYTES], uint64_t len);
/* The block as the commit names it.  True: it need not be sent. */
bool tier_block_known(struct upload *u, const uint8_t id[BLOB_BLOCK_ID_BYTES],
	uint64_t len, struct blob_block *ret);
/* The zero block of a length, once it has been hashed; NULL: not yet, or not
 * one of the full sizes. */
const struct tier_zero *tier_zero_known(struct tier_line *line, uint64_t len);
void tier_zero_note(struct tier_line *line,
	const uint8_t id[BLOB_BLOCK_ID_BYTES], uint64_t len);
/* The list of the blob in place is answered in w->req. */
void tier_stage_take_list(struct work *w);
/* What Put Block answered, as -errno: -EINTR stopping, -EAGAIN read it again,
 * -EIO the store does not answer, -EBADE strays, -EBUSY leased, -ESTALE the
 * source is another one, -EOPNOTSUPP not this way, -EPERM not at all. */
int tier_block_err(enum blob_result result);
/* Notes the first failure of the upload's blocks. */
void tier_block_failed(struct work *w, const struct blob_req *req);

/* stage.c */
/* All blocks are there. */
void tier_stage_done(struct work *w);
/* It ended with this error. */
void tier_stage_failed(struct work *w, int err);

/* stage_strays.c: somebody has left blocks there whose ids are of another
 * length. */
void tier_strays(struct work *w);

#endif
