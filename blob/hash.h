/*
 * Hashes: MD5 for Content-MD5, SHA-256 for block ids.
 *
 * Threads: any, one struct blob_hash at a time by one of them.
 * Ownership: blob_hash_end() frees what blob_hash_new() made.
 * Errors: none.  MD5 is here a checksum, not security, and is taken also where
 * the host runs in FIPS mode; a library without it is a broken installation
 * and aborts.
 */
#ifndef BLOB_HASH_H
#define BLOB_HASH_H

#include <stddef.h>
#include <stdint.h>

#define BLOB_MD5_BYTES 16
#define BLOB_SHA256_BYTES 32

void blob_md5(const void *buf, size_t len, uint8_t ret[BLOB_MD5_BYTES]);
void blob_sha256(const void *buf, size_t len, uint8_t ret[BLOB_SHA256_BYTES]);

enum blob_hash_kind {
	BLOB_HASH_MD5,
	BLOB_HASH_SHA256,
};

struct blob_hash;
struct blob_hash *blob_hash_new(enum blob_hash_kind kind);
void blob_hash_add(struct blob_hash *hash, const void *buf, size_t len);
/* Writes 16 or 32 bytes, by kind (NULL: nobody wants them), and frees. */
void blob_hash_end(struct blob_hash *hash, uint8_t *ret);

#endif
