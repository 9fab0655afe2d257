/*
 * Numbers and times as metadata spell them.
 *
 * What it is for.  The part of blob/meta.c that is about text; private to it.
 * Threads: any; no state.
 * Ownership: nothing is kept.
 * Errors: false means it is no such thing, and *ret is undefined.  A NULL text
 * (the key is absent) is none either.
 */
#ifndef BLOB_META_TIME_H
#define BLOB_META_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Digits of the base and nothing else, up to max. */
bool blob_meta_parse_number(
	const char *text, unsigned base, uint64_t max, uint64_t *ret);
/* rclone's `mtime`: RFC 3339. */
bool blob_meta_parse_mtime(const char *text, int64_t *ret_ns);
/* `modtime`: AzCopy's nanoseconds, or AMLFS's "2006-01-02 15:04:05 -0700". */
bool blob_meta_parse_modtime(const char *text, int64_t *ret_ns);

/* As rclone writes it: nine digits of the second, UTC. */
#define BLOB_META_MTIME_BYTES 64
void blob_meta_print_mtime(int64_t ns, char ret[BLOB_META_MTIME_BYTES]);

#endif
