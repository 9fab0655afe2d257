/*
 * What happened: the log of applied mutations, and the counts.
 *
 * What it is for.  Tests check order, conditions and contents against the
 * log, and economy against the counts.
 *
 * Threads and locks.  blobd_log_add() is called under the store's write lock,
 * so that the order of the log is the order in which changes were applied;
 * blobd_log_finish() after it, because it hashes.  Everything else from any
 * thread.
 *
 * Ownership: a record belongs to the log.  Errors: none.
 */
#ifndef BLOBD_LOG_H
#define BLOBD_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/str.h"
#include "tests/blobd/blobs.h"

struct blobd_req;
struct blobd_record;

/* `file` gets each line too; NULL: none. */
void blobd_log_open(FILE *file, uint64_t sha_max_bytes);
void blobd_log_close(void);

/*
 * Notes a mutation that was applied.  etag_before: 0 if there was no blob.
 * `after` is the blob as it is now, NULL if it is gone; `detail` (may be NULL)
 * is a source, a block id, whatever belongs to the op.  `req` may be NULL for
 * what nobody asked for just now (the end of a copy).
 */
struct blobd_record *blobd_log_add(const struct blobd_req *req, const char *op,
	const char *container, const char *name, uint64_t etag_before,
	const struct blobd_blob *after, uint64_t size, const char *detail);
void blobd_log_finish(struct blobd_record *record);
/* JSON lines, from the record with this number on. */
void blobd_log_print(struct base_str *out, uint64_t from);

void blobd_stat_request(const struct blobd_req *req);
void blobd_stat_reply(const struct blobd_req *req, uint64_t bytes_out);
void blobd_stat_fault(void);
/* A GET was answered with these bytes. */
void blobd_stat_read(
	const char *container, const char *name, uint64_t off, uint64_t len);
void blobd_stat_print(struct base_str *out);
void blobd_stat_print_reads(struct base_str *out, const char *glob);
void blobd_stat_reset(void);

void blobd_json_string(struct base_str *out, const char *text);
void blobd_base64(struct base_str *out, const void *bytes, size_t len);
/* The bytes decoded, or -1; `ret` holds `room`. */
int blobd_unbase64(const char *text, uint8_t *ret, size_t room);

#endif
