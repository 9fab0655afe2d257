/*
 * What the service's headers say of a blob.
 *
 * Threads: none.  Ownership: the props are the caller's, freed by
 * blob_props_fini().  Errors: none; what makes no sense counts as absent.
 */
#ifndef BLOB_AZURE_PROPS_H
#define BLOB_AZURE_PROPS_H

#include "base/str.h"
#include "blob/header.h"
#include "blob/store.h"

/* Everything but size_bytes, which depends on the request. */
void blob_azure_props_parse(
	const struct blob_headers *headers, struct blob_props *ret);
/* Quotes it where the XML does not; "" if too long or empty. */
void blob_azure_etag(const char *text, char ret[BLOB_ETAG_MAX]);
/* Base64 of an MD5. */
bool blob_azure_md5(const char *text, uint8_t ret[16]);
bool blob_azure_date_ns(const char *text, int64_t *ret_ns);
/* Percent-encodes everything but unreserved characters: '+' and '/' of base64
 * too. */
void blob_azure_escape(struct base_str *s, const char *text, size_t len);
/* Appends a copy. */
/* A date that has not come yet. */
bool blob_azure_is_future(const char *text);
void blob_azure_kv_add(
	struct blob_kv **kv, size_t *nr, const char *key, const char *value);

#endif
