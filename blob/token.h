/*
 * Bearer tokens: fetched, kept, renewed ahead of their end.
 *
 * What it is for.  Managed identity (IMDS, App Service, Azure Arc), workload
 * identity and client secret all end in one POST or GET that answers with a
 * token for an hour or a day.  This file makes that request (through a
 * function of the caller's, so that it knows no HTTP library) and hands the
 * token to everybody who asks.
 *
 * Threads and locks.  One thread, started by blob_token_new(), joined by
 * blob_token_free(); only it calls the http function, which may block, within
 * the times it is given.  Callbacks run on it, or inside blob_token_get(),
 * with no lock held.  All functions may be called from any thread, get() and
 * drop() also from a callback, free() from none.
 *
 * Ownership.  The credentials must outlive the token.  `bearer` is valid
 * during the callback; it is a secret.  `arg`s belong to the caller.
 *
 * Errors a waiter sees: -EACCES: the identity endpoint refuses us; -EIO: it
 * cannot be reached or makes no sense; -EINTR: blob_token_free().
 */
#ifndef BLOB_TOKEN_H
#define BLOB_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "blob/creds.h"
#include "blob/store.h"

/* One request to an identity endpoint, and its answer.  The http function
 * follows no redirects, checks TLS as for the store, and appends at most
 * BLOB_TOKEN_REPLY_BYTES_MAX to `reply`.  It keeps no pointer. */
#define BLOB_TOKEN_REPLY_BYTES_MAX 65536
struct blob_token_http {
	const char *method; /* "GET", "POST" */
	const char *url;
	const struct blob_kv *headers;
	size_t headers_nr;
	const char *body; /* NULL: none */
	bool no_proxy;	  /* not even where the environment names one */
	uint32_t connect_timeout_ms, timeout_ms;
	/* out; zero and empty on entry */
	int err;    /* 0: there is a status; else -errno of the transport */
	int status; /* HTTP */
	struct base_str reply;		  /* body */
	struct base_str www_authenticate; /* that header's value */
	int64_t retry_after_ms;		  /* Retry-After; 0: none */
};
typedef void (*blob_token_http_fn)(void *arg, struct blob_token_http *http);

struct blob_token;

/* `creds` are of kind BLOB_AUTH_TOKEN.  Asks for nothing until the first
 * blob_token_get(). */
struct blob_token *blob_token_new(
	const struct blob_creds *creds, blob_token_http_fn http, void *arg);

/* err 0 and a bearer (without "Bearer "), or -errno and NULL. */
typedef void (*blob_token_fn)(void *arg, int err, const char *bearer);

/*
 * Calls `fn` exactly once: inside this call if a valid token is at hand, or
 * (with the error) if asking has failed a moment ago; else later, after
 * BLOB_TOKEN_WAIT_MS at most plus one http request.  Never blocks.
 */
#define BLOB_TOKEN_WAIT_MS 20000
void blob_token_get(struct blob_token *token, blob_token_fn fn, void *arg);

/* The store refused the token (401): do not hand it out again.  One that is
 * younger than a few seconds stays: the answer was about its predecessor. */
void blob_token_drop(struct blob_token *token);

/* Why the last attempt failed, in one line without secrets; "" if it did
 * not. */
void blob_token_why(struct blob_token *token, char *ret, size_t bytes);

/* Waiters get -EINTR.  Waits for an http request under way: make your http
 * function return early if that matters. */
void blob_token_free(struct blob_token *token);

/* ---- for tests: other clocks and shorter times ---- */
struct blob_token_tune {
	int64_t (*boot_ns)(void); /* CLOCK_BOOTTIME */
	int64_t (*wall_s)(void);  /* CLOCK_REALTIME */
	uint32_t backoff_ms;	  /* first pause, doubled each time */
	uint32_t backoff_max_ms;
	uint32_t round_ms;   /* retries of one round end after this */
	uint32_t renew_ms;   /* between rounds while an old token holds */
	uint32_t denied_ms;  /* a refusal is answered from memory so long */
	uint32_t failed_ms;  /* the same for an unreachable endpoint */
	uint32_t settled_ms; /* a token younger than this is not dropped */
	const char *arc_dir; /* of Azure Arc's keys, ends in '/' */
};
struct blob_token *blob_token_new_tuned(const struct blob_creds *creds,
	blob_token_http_fn http, void *arg, const struct blob_token_tune *tune);
/* The clock was moved: look again. */
void blob_token_kick(struct blob_token *token);

#endif
