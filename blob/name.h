/*
 * Names: local paths and blob names, one for the other.
 *
 * What it is for.  The service changes or refuses some names (a trailing dot,
 * a backslash, control characters, invalid UTF-8), and a container may hold
 * names that no Linux directory can (an empty component, "..").  Between the
 * two lies a bijection, component by component, in rclone's spelling (name.c
 * says how), so that no two files ever share a blob and every blob is shown
 * under a name that leads back to exactly it:
 *   decode(encode(p)) == p  for every path that encodes, shadows excepted;
 *   encode(decode(b)) == b  for every blob name that decodes.
 *
 * Threads: any; no state.
 *
 * Ownership: results are appended to the caller's base_str; after an error it
 * is as it was.
 *
 * Errors: -ENAMETOOLONG and -EINVAL, as said below; none is worth a retry.
 */
#ifndef BLOB_NAME_H
#define BLOB_NAME_H

#include <stddef.h>

#include "base/str.h"

/* Longest file name of Linux, in bytes. */
#define BLOB_NAME_COMPONENT_BYTES_MAX 255
/* Path segments of a blob name (Azure). */
#define BLOB_NAME_SEGMENTS_MAX 254

/*
 * Local path ("a/b", no slash at either end, any bytes) to blob name: UTF-8,
 * not yet URL-escaped.  A shadow (blob_name_shadow() in store.h) gives the
 * plain blob's name.
 * -ENAMETOOLONG: over BLOB_NAME_CHARS_MAX characters or 254 segments.  The
 * service does not say what its "characters" are; we count UTF-16 code units,
 * the strictest reading of any that its SDKs allow.
 * -EINVAL: not a path (empty, ".", "..", "a//b"), a directory under a shadow's
 * name, or a path that would be a blob without a name.
 */
int blob_name_encode(const char *path, struct base_str *ret_blob);

/* Directory to what all names below it begin with, which is also the name of
 * its marker "d/": "" stays "" (the root), anything else gets its slash.  Use
 * it for listing: a directory may have a prefix ("/") where it could not have
 * a blob ("").  Errors as above; a shadow is never a directory: -EINVAL. */
int blob_name_prefix(const char *path, struct base_str *ret_prefix);

/*
 * Blob name to local path; never an empty, "." or ".." component, never a NUL
 * byte.  The caller has cut the trailing slash of a marker or prefix (one
 * only; "" is what is left of "/").
 * -ENAMETOOLONG: a component over 255 bytes, or the blob's name over the
 * service's limits; -EINVAL: not UTF-8, or a NUL.  Such a blob cannot be
 * shown: skip it, with a line in the log.
 */
int blob_name_decode(const char *blob, size_t len, struct base_str *ret_path);

/* Percent-encodes a blob name for a URL's path: unreserved characters and '/'
 * stay.  Never fails. */
void blob_name_url(const char *blob, struct base_str *ret);

#endif
