/*
 * A request on its way through the server.
 *
 * What it is for.  http.c takes requests from libmicrohttpd: reads the body,
 * lets it wait (latency, holds, stalls) without holding a thread, has it
 * answered, sends the reply.  Everything else sees only these structs.
 *
 * Threads: a request is worked on by one thread at a time.  While it waits it
 * is suspended, and whoever ends the wait calls blobd_req_resume() once.
 *
 * Ownership: the request owns everything it points to, until the connection's
 * request is completed.
 *
 * Errors: an operation answers through blobd_reply_error(); the code is what
 * the real service says.
 */
#ifndef BLOBD_HTTP_H
#define BLOBD_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <microhttpd.h>
#include <openssl/evp.h>

#include "base/str.h"
#include "tests/blobd/blobs.h"
#include "tests/blobd/fault.h"

enum blobd_op {
	BLOBD_OP_PUT,
	BLOBD_OP_PUTBLOCK,
	BLOBD_OP_COMMIT,
	BLOBD_OP_GET,
	BLOBD_OP_HEAD,
	BLOBD_OP_LIST,
	BLOBD_OP_DELETE,
	BLOBD_OP_COPY,
	BLOBD_OP_SETMETA,
	BLOBD_OP_BLOCKS,
	BLOBD_OP_SETPROPS,
	BLOBD_OP_LEASE,
	BLOBD_OP_APPEND,
	BLOBD_OP_TIER,
	BLOBD_OP_TAGS,
	BLOBD_OP_CONTAINER,
	BLOBD_OP_ACCOUNT,
	BLOBD_OP_TOKEN,
	BLOBD_OP_OTHER,
	BLOBD_OP_CONTROL,
	BLOBD_OPS_NR,
};
extern const char *const blobd_op_names[BLOBD_OPS_NR];

enum blobd_auth {
	BLOBD_AUTH_NONE,
	BLOBD_AUTH_KEY,
	BLOBD_AUTH_SAS,
	BLOBD_AUTH_BEARER,
};

/* Options of the command line; constant once it serves. */
struct blobd_config {
	const char *account;
	uint8_t key[64];
	size_t key_len;
	bool no_auth;
	uint64_t bandwidth;	/* bytes per second, 0: no limit */
	uint64_t sha_max_bytes; /* largest blob hashed for the log */
	uint16_t port;
};
extern struct blobd_config blobd_config;

struct blobd_reply {
	unsigned status;
	struct blobd_kvs headers;
	struct base_str body;	       /* or: */
	struct blobd_content *content; /* this range of it */
	uint64_t off, len;
	bool head_only; /* len is announced, nothing is sent */
};

/* Where a request stands.  BODY -> ARRIVED -> ADMITTED -> APPLIED -> SENT, or
 * ADMITTED -> DOOMED; it may be suspended after each step. */
enum blobd_stage {
	BLOBD_BODY,	/* bytes of it may still come */
	BLOBD_ARRIVED,	/* all of it is here; waits for latency */
	BLOBD_ADMITTED, /* waits for hooks; next it is applied */
	BLOBD_APPLIED,	/* there is a reply; waits for hooks */
	BLOBD_SENT,	/* the reply was handed to libmicrohttpd */
	BLOBD_DOOMED,	/* a stall: when it is over, a reset */
};

struct blobd_req {
	struct MHD_Connection *conn;
	bool begun;
	enum blobd_stage stage;
	enum blobd_op op;
	enum blobd_auth auth;
	bool refused; /* the reply was made before the body came */
	char *method;
	char *path;		 /* raw, as on the wire */
	struct blobd_kvs params; /* decoded, names in lower case */
	char *container, *name;	 /* decoded, normalized; NULL: none */

	bool has_length;
	uint64_t body_len, body_got;
	struct blobd_extent *body; /* of uploads */
	struct base_str text;	   /* of everything else */
	EVP_MD_CTX *md5_ctx;
	uint8_t md5[16];
	uint64_t crc;
	bool want_crc;

	struct blobd_fault fault; /* kind NONE: none */
	struct blobd_req *held_next;
	struct blobd_reply reply;
};

/* NULL if the header was not sent; never NULL otherwise. */
const char *blobd_req_header(struct blobd_req *req, const char *name);
/* NULL if the parameter is not there. */
const char *blobd_req_param(struct blobd_req *req, const char *name);
/* A number from a parameter. */
int64_t blobd_req_number(
	struct blobd_req *req, const char *name, int64_t fallback);
bool blobd_req_comp(struct blobd_req *req, const char *comp);
/* Ends a wait. */
void blobd_req_resume(struct blobd_req *req);

void blobd_reply_header(
	struct blobd_req *req, const char *name, const char *value);
void blobd_reply_printf(struct blobd_req *req, const char *name,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void blobd_reply_time(struct blobd_req *req, const char *name, time_t t);
/* ETag and Last-Modified; under the store's lock. */
void blobd_reply_etag(struct blobd_req *req, const struct blobd_blob *b);
/* Forgets what was there and answers with an error; `detail` may be NULL.
 * Always returns false. */
bool blobd_reply_error(struct blobd_req *req, unsigned status, const char *code,
	const char *detail);
/* The reply that a fault of kind STATUS asks for. */
void blobd_reply_fault(struct blobd_req *req);
/* reply.c: turns the reply into what libmicrohttpd sends. */
enum MHD_Result blobd_reply_send(struct blobd_req *req);
/* One second of the link is `bandwidth` bytes: books len of them and returns
 * how long to wait for them. */
int64_t blobd_pace_ns(bool out, uint64_t len);

/* Starts, prints nothing; returns the daemon or NULL. */
struct MHD_Daemon *blobd_http_start(
	uint16_t port, const char *tls_cert, const char *tls_key);

/* route.c: what the request is; fills op, container, name.  False: replied. */
bool blobd_route(struct blobd_req *req, const char *uri);
/* auth.c: may it?  False: replied. */
bool blobd_auth_check(struct blobd_req *req);
/* Does this URL (a copy source) carry a SAS that lets it be read? */
bool blobd_auth_source(
	const char *url, const char *container, const char *name);
/* The token in effect ("" for none), copied. */
void blobd_auth_token(char *ret, size_t bytes);
void blobd_auth_set_token(const char *token);

#endif
