/*
 * One request for a token, and what its answer means.
 *
 * What it is for.  The half of blob/token.c that knows the identity endpoints
 * (AZURE.md section 1.3); token.c knows when to ask.  Private to the two.
 *
 * Threads: the token's own; blocks in the http function, and on a local file
 * (the federated token, Azure Arc's key).
 *
 * Ownership: the caller ends every answer with blob_token_answer_fini(), which
 * wipes it.
 *
 * Errors: in the answer.
 */
#ifndef BLOB_TOKEN_ASK_H
#define BLOB_TOKEN_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "blob/token.h"

struct blob_token_answer {
	int err;		/* 0; -EACCES: refused; -EIO: try again */
	bool unreachable;	/* with -EIO: nobody answered at all */
	char *bearer;		/* with 0 */
	int64_t lifetime_s;	/* with 0: from now */
	int64_t refresh_s;	/* with 0: renew after this; 0: not said */
	int64_t retry_after_ms; /* with -EIO; 0: not said */
	char why[256];		/* with an error: one line, no secrets */
};

/* wall_s: the time now, for answers that only name their end. */
void blob_token_ask(const struct blob_token_source *source,
	blob_token_http_fn http, void *arg, const char *arc_dir, int64_t wall_s,
	struct blob_token_answer *ret);
void blob_token_answer_fini(struct blob_token_answer *answer);

#endif
