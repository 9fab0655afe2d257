/*
 * Credentials: what we were given to prove who we are.
 *
 * What it is for.  Reads a credentials file, or else the environment, and
 * picks one way to authenticate: connection string, account key, SAS, client
 * secret, workload identity, managed identity, in this order.
 *
 * Threads: immutable after load, so any.
 *
 * Ownership.  The secrets live in one mapping of their own (locked in memory
 * where permitted, left out of core dumps) and are wiped by blob_creds_free().
 * Pointers returned here live as long as the credentials.  There is no
 * function that prints them, and no message of ours quotes a value.
 *
 * Errors of load: -ENOENT and other errno of opening the file; -EACCES: others
 * may read it; -EINVAL: something in it makes no sense; -ENOKEY: the file
 * holds no credential.  `why` gets one line: what, why, what to do.
 */
#ifndef BLOB_CREDS_H
#define BLOB_CREDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum blob_auth_kind {
	BLOB_AUTH_SHARED_KEY, /* sign every request: blob/sign.h */
	BLOB_AUTH_SAS,	      /* append the SAS to every query */
	BLOB_AUTH_TOKEN,      /* a bearer token: blob/token.h */
};

struct blob_creds;

/* A credentials file holds KEY=VALUE lines named like the environment's
 * variables; with a file the environment is not consulted.  With no credential
 * in the environment: managed identity.  Blocks on the local file. */
int blob_creds_load(const char *file_or_null, struct blob_creds **ret,
	char *why, size_t why_bytes);
void blob_creds_free(struct blob_creds *creds); /* NULL is fine */

enum blob_auth_kind blob_creds_kind(const struct blob_creds *creds);
/* NULL where not given: take it from the store's URL. */
const char *blob_creds_account(const struct blob_creds *creds);
/* From a connection string ("https://ACCOUNT.blob.core.windows.net", never a
 * trailing slash), or NULL. */
const char *blob_creds_endpoint(const struct blob_creds *creds);
/* Without '?', appended verbatim to every query; NULL unless BLOB_AUTH_SAS. */
const char *blob_creds_sas(const struct blob_creds *creds);

/* ---- for sign.c and token.c alone ---- */

/* The decoded account key, or NULL. */
const void *blob_creds_key(const struct blob_creds *creds, size_t *ret_bytes);

enum blob_token_kind {
	BLOB_TOKEN_CLIENT_SECRET,
	BLOB_TOKEN_WORKLOAD,
	BLOB_TOKEN_IMDS,
	BLOB_TOKEN_APP_SERVICE,
	BLOB_TOKEN_ARC,
};

/* How to ask for a token; strings are NULL where not given.  Which are there
 * for which kind is checked at load. */
struct blob_token_source {
	enum blob_token_kind kind;
	bool asked_for; /* false: managed identity for want of anything else */
	const char *client_id;
	const char *tenant_id;
	const char *client_secret;
	const char *federated_file; /* read again for each token */
	const char *authority;	    /* https://host, no trailing slash */
	const char *endpoint;	    /* of managed identity */
	const char *header;	    /* App Service's secret */
};

/* NULL unless BLOB_AUTH_TOKEN. */
const struct blob_token_source *blob_creds_token(
	const struct blob_creds *creds);

#endif
