/*
 * Signing with the account key.
 *
 * What it is for.  The Authorization header of Shared Key, and a short SAS
 * with which the service may read a source blob of ours (Put Block From URL
 * wants one even within an account).
 *
 * Threads: any; no state.
 *
 * Ownership: results are appended to the caller's base_str; what is appended
 * is a secret and must not reach a log.  Nothing is kept.
 *
 * Errors: -ENOKEY: the credentials hold no account key; -EOPNOTSUPP as said.
 */
#ifndef BLOB_SIGN_H
#define BLOB_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "blob/creds.h"
#include "blob/store.h"

/* A request as it goes out.  `headers` has everything that is signed:
 * x-ms-*, and, where sent, content-encoding, content-language, content-md5,
 * content-type, date, if-*, range; names in any case, other headers are
 * ignored.  Send x-ms-date, and no Date.  No header may be there twice. */
struct blob_sign_msg {
	const char *method;
	const char *path;  /* percent-encoded, exactly as on the wire; with
			    * an emulator's account in it */
	const char *query; /* without '?', may be "" */
	uint64_t content_length;
	const struct blob_kv *headers;
	size_t headers_nr;
};

/* Appends "SharedKey ACCOUNT:SIGNATURE". */
int blob_sign_shared_key(const struct blob_creds *creds, const char *account,
	const struct blob_sign_msg *msg, struct base_str *ret_authorization);

/*
 * The query, without '?', under which the service may read one blob of ours
 * for an hour from now_s (CLOCK_REALTIME seconds; better the server's Date).
 * `blob` is the blob's name, not URL-escaped.  With SAS credentials it is the
 * SAS that we were given.  -EOPNOTSUPP with a bearer token: there the header
 * x-ms-copy-source-authorization does it.
 */
int blob_sign_source_sas(const struct blob_creds *creds, const char *account,
	const char *container, const char *blob, int64_t now_s,
	struct base_str *ret_query);

#endif
