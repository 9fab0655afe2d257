/*
 * The blobs (blobs.c), as the store (apply.c, ask.c) and the second writer
 * (foreign.c) find and change them.  Private.
 */
#ifndef TESTS_MODEL_BLOBS_H
#define TESTS_MODEL_BLOBS_H

#include "tests/model/model.h"

struct mblob *mstore_find_blob(struct model *m, const char *name);
void mstore_new_etag(struct model *m, struct mblob *b);
void mstore_drop_blocks(struct mblock **blocks, size_t *nr);
void mstore_set_meta(
	struct mblob *b, const struct blob_kv *meta, size_t meta_nr);
void mstore_etag_text(uint64_t etag, char *ret, size_t size);
/* Is it there, with this one? */
bool mstore_etag_is(const struct mblob *b, const char *text);

#endif
