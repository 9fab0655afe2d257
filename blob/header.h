/*
 * HTTP headers: a bounded list of them, and what their values mean.
 *
 * Threads: none of its own; a list belongs to whoever uses it.
 * Ownership: keys and values are copied in and freed by blob_headers_fini().
 * They may be secrets (Authorization, a copy source with its SAS): never log
 * a list.  Fini wipes the values.
 * Errors: -E2BIG: over the limits below, which are far above what the service
 * sends (8 KiB of metadata and some thirty headers) and keep a hostile one
 * from filling memory.  Parsers: 0 or -EINVAL.
 */
#ifndef BLOB_HEADER_H
#define BLOB_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "blob/store.h"

#define BLOB_HEADERS_NR_MAX 512
#define BLOB_HEADERS_BYTES_MAX 65536

struct blob_headers {
	struct blob_kv *kv;
	size_t nr, cap, bytes;
};

int blob_headers_add(
	struct blob_headers *h, const char *key, const char *value);
int blob_headers_addf(struct blob_headers *h, const char *key, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));
/* One line of an answer, with or without its line end.  A line without a
 * colon is ignored. */
int blob_headers_parse(struct blob_headers *h, const char *line, size_t len);
/* The first of that name, in any case; NULL: none. */
const char *blob_headers_get(const struct blob_headers *h, const char *key);
void blob_headers_clear(struct blob_headers *h);
void blob_headers_fini(struct blob_headers *h);

/* Digits only, nothing around them. */
int blob_header_u64(const char *text, uint64_t *ret);
/* All three forms of an HTTP date, as CLOCK_REALTIME seconds. */
int blob_header_date(const char *text, int64_t *ret_s);
#define BLOB_HEADER_DATE_BYTES 40
/* The form that we send: "Sun, 06 Nov 1994 08:49:37 GMT". */
void blob_header_format_date(int64_t s, char ret[BLOB_HEADER_DATE_BYTES]);

/*
 * "bytes 5-9/20" gives 5, 10, 20; "bytes *" "/20" gives 0, 0, 20.  Azurite's
 * "bytes 11-10/11" (nothing, at the end) and "bytes 0--1/0" are understood
 * too, as start == end.
 */
int blob_header_content_range(const char *text, uint64_t *ret_start,
	uint64_t *ret_end, uint64_t *ret_total);

#endif
