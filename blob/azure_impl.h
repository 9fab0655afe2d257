/*
 * The Azure store's own: what its files share.
 *
 * Threads.  A struct azure_run is one request under way.  It lives on one
 * event loop; only `cancel_task` and the links are touched from elsewhere,
 * under the store's lock.
 * Ownership.  The run owns its call, parser and buffers; the request is the
 * caller's.  Secrets in it (bearer, URLs with a SAS) are wiped at its end.
 * Errors.  0 or -errno; what a request ends with is in `verdict`.
 */
#ifndef BLOB_AZURE_IMPL_H
#define BLOB_AZURE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/str.h"
#include "blob/azure_list.h"
#include "blob/azure_url.h"
#include "blob/creds.h"
#include "blob/hash.h"
#include "blob/http.h"
#include "blob/retry.h"
#include "blob/sign.h"
#include "blob/store.h"
#include "blob/token.h"

/* Newer than all we use; Azurite 3.35 knows versions to 2025-11-05. */
#define AZURE_VERSION "2023-11-03"
/* store_timeout where the caller names none. */
#define AZURE_TIMEOUT_MS 30000
/* An error's XML: its code is near the beginning. */
#define AZURE_ERROR_BYTES_MAX 4096
/* Any answer that is not a blob or a list. */
#define AZURE_ANSWER_BYTES_MAX (1 << 20)
/* The service's limit for x-ms-copy-source. */
#define AZURE_SOURCE_BYTES_MAX 2048
/* Times that a page which is no XML is asked for again. */
#define AZURE_XML_TRIES 3

struct azure {
	struct blob_store store; /* first */
	struct blob_azure_url url;
	struct blob_creds *creds;
	enum blob_auth_kind auth;
	const char *account; /* who signs */
	struct blob_http *http;
	struct blob_token *token; /* NULL unless BLOB_AUTH_TOKEN */
	struct blob_circuit circuit;
	uint32_t timeout_ms;
	void (*state_changed)(void *arg, enum blob_state, const char *why);
	void *arg;
	atomic_bool closing;

	struct base_mutex lock; /* BASE_RANK_BLOB_STORE: to `idle` */
	struct azure_run *runs;
	unsigned live_nr; /* runs whose done() has not returned */
	pthread_cond_t idle;

	/* The first loop's: */
	struct blob_task notify_task;
	atomic_bool notify_posted;
	enum blob_state told;
	struct blob_timer probe_timer;
	struct blob_req probe;
	bool probing;
};

/* Waits for a token; outlives its run if that ends first. */
struct azure_wait {
	struct blob_task task;
	struct azure *azure;
	struct blob_loop *loop;
	struct azure_run *run; /* NULL: it is over */
	int err;
	struct base_str bearer;
};

enum azure_stage {
	AZURE_NEW,   /* posted to its loop */
	AZURE_TOKEN, /* waits for a bearer */
	AZURE_CALL,  /* the call waits or runs */
	AZURE_PAUSE, /* between attempts */
	AZURE_OVER,
};

struct azure_run {
	struct azure *azure;
	struct blob_req *req;
	struct blob_loop *loop;
	bool probe; /* our own question whether the store is there */
	enum azure_stage stage;
	struct blob_task start_task, cancel_task;
	bool cancel_posted, cancel_ran; /* the store's lock */
	struct azure_run *prev, *next;	/* the store's lock */
	struct blob_timer deadline, pause;
	int64_t deadline_ns;
	unsigned attempt;
	bool reauthed;
	struct azure_wait *wait;
	struct base_str bearer;

	/* What is asked. */
	struct base_str blob, source; /* names in the store, not URL-escaped */
	struct base_str only;	      /* LIST: filter, "" for none */
	struct base_str xml;	      /* COMMIT */
	uint8_t xml_md5[16];
	struct blob_body body;

	/* The attempt. */
	struct blob_call call;
	bool decided; /* head() or data() know better than the status */
	struct blob_verdict verdict;
	struct base_str error; /* beginning of an error's body */
	uint64_t body_bytes;   /* of an answer that we do not keep */
	struct blob_list *list;

	/* GET: bytes [offset, end) are wanted, `got` have been given. */
	uint64_t got, got_before, end, skip, answer_left;
	bool sized; /* `end` and the props are known */
	bool whole; /* the body is the whole blob: check its MD5 */
	struct blob_hash *hash;
};

/* The struct that holds this member. */
#define AZURE_OWNER(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))

/* azure.c */
uint32_t azure_random(void); /* for jitter */
uint32_t azure_stall_ms(const struct azure *azure);
/* What an attempt says of the store; tells the caller of a change. */
void azure_note_life(
	struct azure *azure, enum blob_sign_of_life life, const char *why);

/* azure_run.c: the tasks of a run. */
void azure_run_start(struct blob_task *task);
void azure_run_cancel(struct blob_task *task);

/* azure_check.c: names, conditions and bodies, once.  BLOB_OK, or the result
 * and its err. */
enum blob_result azure_request_check(struct azure_run *run, int *ret_err);
/* Can the store hold this name?  0 or -errno of blob_name_encode(). */
int azure_request_name(const struct azure *azure, const char *path);

/* azure_request.c: fills the call for an attempt; the prepare() of blob_call. */
int azure_request_build(struct azure_run *run);

/* azure_answer.c */
void azure_answer_begin(struct azure_run *run);
int azure_answer_head(struct azure_run *run);
int azure_answer_data(struct azure_run *run, const void *buf, size_t len);
/* After the attempt: what it means, with `code` from header or body. */
struct blob_verdict azure_answer_end(
	struct azure_run *run, struct blob_attempt *ret_attempt);

#endif
