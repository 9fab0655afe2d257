/*
 * The variables that credentials are made of, from a file or the environment.
 *
 * What it is for.  The half of blob/creds.c that reads; creds.c makes sense of
 * what was read.  Private to the two.
 *
 * Threads: one, during blob_creds_load().
 *
 * Ownership.  Every string lies in the arena, a mapping of the caller's of
 * which `used` bytes are taken; the file is read straight into it, so that no
 * other buffer ever holds a secret.
 *
 * Errors: as blob_creds_load(); `why` has a line for each.
 */
#ifndef BLOB_CREDS_READ_H
#define BLOB_CREDS_READ_H

#include <stddef.h>

struct blob_creds;

/* A file and its pieces: a SAS and a connection string have about 1 KiB. */
#define BLOB_CREDS_ARENA_BYTES (256 * 1024)
#define BLOB_CREDS_FILE_BYTES_MAX (64 * 1024)

enum blob_creds_var {
	VAR_ACCOUNT,
	VAR_KEY,
	VAR_SAS,
	VAR_CONNECTION,
	VAR_CLIENT_ID,
	VAR_TENANT_ID,
	VAR_CLIENT_SECRET,
	VAR_FEDERATED_FILE,
	VAR_AUTHORITY,
	VAR_POD_AUTHORITY,
	VAR_IDENTITY_ENDPOINT,
	VAR_IDENTITY_HEADER,
	VAR_IMDS_ENDPOINT,
	VARS_NR,
};

struct blob_creds_read {
	struct blob_creds *creds;  /* the arena, which begins with it */
	size_t used;		   /* bytes of the arena */
	const char *file;	   /* NULL: the environment */
	const char *vars[VARS_NR]; /* NULL: not given, or empty */
	char *why;
	size_t why_bytes;
};

/* Fills `vars`. */
int blob_creds_read(struct blob_creds_read *r);

/* The variable's name; where it came from: both for messages. */
const char *blob_creds_var_name(enum blob_creds_var var);
const char *blob_creds_origin(const struct blob_creds_read *r);
/* Writes `why` and returns err. */
int blob_creds_fail(struct blob_creds_read *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* NULL: the arena is full. */
char *blob_creds_alloc(struct blob_creds_read *r, size_t bytes);
/* Joins three pieces, the first `a_len` long, to one string of the arena. */
int blob_creds_join(struct blob_creds_read *r, const char **ret, const char *a,
	size_t a_len, const char *b, const char *c);
int blob_creds_too_large(struct blob_creds_read *r);

#endif
