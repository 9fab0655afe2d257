/*
 * Base64 (RFC 4648), both alphabets.
 *
 * Threads: any; no state.
 * Ownership: results go to the caller's base_str (appended) or buffer.
 * Errors: decoding is strict, so that equal bytes have one spelling only:
 * -EINVAL for a foreign character, white space, wrong padding or stray bits;
 * the result is then as it was, or, for a buffer, undefined.
 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>

#include "base/str.h"

enum base_base64_kind {
	BASE_BASE64,	 /* + and /, padded with = */
	BASE_BASE64_URL, /* - and _, no padding */
};

void base_base64_encode(const void *buf, size_t len, struct base_str *ret);
int base_base64_decode(const char *text, size_t len, struct base_str *ret);
void base_base64url_encode(const void *buf, size_t len, struct base_str *ret);
int base_base64url_decode(const char *text, size_t len, struct base_str *ret);

/* Into a buffer, which may hold `cap` bytes (a key must not pass through a
 * growing string).  -ENOSPC: too small. */
int base_base64_decode_buf(enum base_base64_kind kind, const char *text,
	size_t len, void *buf, size_t cap, size_t *ret_len);

#endif
