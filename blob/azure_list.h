/*
 * The service's XML: a page of names, a list of blocks, or tags, as it arrives.
 *
 * What it is for.  Feed it the pieces of an answer; it keeps what it
 * understands and nothing else, within the limits below, whatever comes.
 *
 * Threads: one at a time.
 * Ownership: results belong to the parser until taken.
 * Errors: -EBADMSG: not well-formed, not the expected document, or cut short;
 * -E2BIG: over a limit.  Both stay.
 */
#ifndef BLOB_AZURE_LIST_H
#define BLOB_AZURE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "blob/store.h"

/* Names in a page: the service's own limit is 5,000. */
#define BLOB_LIST_NAMES_MAX 10000
/* XML of a page: 5,000 blobs with 8 KiB of metadata, 3 KiB of escaped name
 * and 2 KiB of properties each. */
#define BLOB_LIST_BYTES_MAX (96u << 20)
/* What may be kept of one page. */
#define BLOB_LIST_KEPT_MAX (80u << 20)
/* One name, key, value or marker. */
#define BLOB_LIST_TEXT_MAX 16384
/* Committed blocks of a blob. */
#define BLOB_LIST_BLOCKS_MAX 50000

enum blob_list_kind {
	BLOB_LIST_NAMES,
	BLOB_LIST_BLOCKS,
	BLOB_LIST_TAGS,
};

struct blob_list;

/*
 * `strip`: what the store's prefix puts before each blob name ("" or "p/q/");
 * names without it are dropped.  `only`: local paths (with their slash, for
 * prefixes and markers) must begin with it, or NULL.  Both are copied.
 */
struct blob_list *blob_list_new(
	enum blob_list_kind kind, const char *strip, const char *only);
int blob_list_feed(struct blob_list *list, const void *buf, size_t len);
/* The answer is complete. */
int blob_list_end(struct blob_list *list);
/* Moves the results into the request's out half. */
void blob_list_take(struct blob_list *list, struct blob_req *req);
void blob_list_free(struct blob_list *list);

#endif
