/*
 * The operations of the service, one function each, and what they share.
 *
 * Each judges a request, changes the store under its lock, notes the change
 * in the log and fills the reply.  Any thread; nothing waits, except for the
 * store's lock.  They return nothing: the reply says how it went.
 */
#ifndef BLOBD_OPS_H
#define BLOBD_OPS_H

#include "tests/blobd/http.h"

/* Before the body is taken: sizes, headers.  False: replied. */
bool blobd_ops_accept(struct blobd_req *req);
/* Runs the operation. */
void blobd_ops_run(struct blobd_req *req);

/* blocks.c */
void blobd_op_put_block(struct blobd_req *req);
void blobd_op_commit(struct blobd_req *req);
void blobd_op_block_list(struct blobd_req *req);
/* copy.c */
void blobd_op_copy(struct blobd_req *req);
void blobd_op_copy_abort(struct blobd_req *req);
void blobd_op_put_block_url(struct blobd_req *req);
/* From now on asynchronous copies take ms (-1: at once) and end so. */
void blobd_copy_set_pending(int64_t ms, const char *outcome);
/* lease.c */
void blobd_op_lease(struct blobd_req *req);
/* list.c */
void blobd_op_list(struct blobd_req *req);
void blobd_op_account(struct blobd_req *req);
/* Pages have at most this many names; 0: as the service. */
void blobd_list_set_max(unsigned max);
/* container.c */
void blobd_op_container(struct blobd_req *req);
/* special.c: append blobs, tiers, tags */
void blobd_op_append(struct blobd_req *req);
void blobd_op_tier(struct blobd_req *req);
void blobd_op_tags(struct blobd_req *req);
/* control.c */
void blobd_op_control(struct blobd_req *req);
void blobd_op_token(struct blobd_req *req);
int64_t blobd_control_latency_ms(void);
void blobd_control_set_latency_ms(int64_t ms);
bool blobd_control_down(void);
void blobd_control_set_lifetime(unsigned seconds);

/* The container, under the lock; NULL: replied 404. */
struct blobd_container *blobd_need_container(struct blobd_req *req);
/* The visible blob, under the lock; NULL: replied 404. */
struct blobd_blob *blobd_need_blob(
	struct blobd_req *req, struct blobd_container *c);

/* cond.c.  All under the store's lock; false: replied. */

/* Which rules hold for If-Match and If-None-Match. */
enum blobd_cond {
	BLOBD_COND_READ,   /* 304 and 412 */
	BLOBD_COND_WRITE,  /* 409 for a name that should be free */
	BLOBD_COND_COPY,   /* the same, TargetConditionNotMet */
	BLOBD_COND_DELETE, /* If-None-Match counts for nothing */
};
/* b: the visible blob or NULL. */
bool blobd_cond_check(struct blobd_req *req, const struct blobd_blob *b,
	enum blobd_cond cond);
/* x-ms-source-if-match and x-ms-source-if-none-match. */
bool blobd_cond_source(struct blobd_req *req, const struct blobd_blob *b);
/* May a writer with this request's lease id write b (NULL is fine)? */
bool blobd_lease_check_write(struct blobd_req *req, struct blobd_blob *b);
bool blobd_lease_check_read(struct blobd_req *req, const struct blobd_blob *b);
/* "available", "leased", "expired", "breaking", "broken" */
const char *blobd_lease_state(const struct blobd_blob *b);
/* Policies and pending copies. */
bool blobd_may_change(struct blobd_req *req, const struct blobd_blob *b);

/* props.c */
/* The x-ms-meta-*, x-ms-blob-* and x-ms-tags headers; NULL: replied. */
struct blobd_props *blobd_props_from(struct blobd_req *req, bool content);
/* Does the request carry any x-ms-meta-*? */
bool blobd_has_meta(struct blobd_req *req);
/* x-ms-access-tier; *ret keeps its value without one.  False: replied. */
bool blobd_tier_from(struct blobd_req *req, const char **ret);
/* 16 bytes from a base64 header: 1, 0 (not sent), -1 (replied). */
int blobd_md5_from(struct blobd_req *req, const char *header, uint8_t ret[16]);
/* All the headers of a GET or HEAD; under the lock. */
void blobd_reply_props(struct blobd_req *req, struct blobd_blob *b);

/* name.c */
/* Percent-decodes; plus: '+' is a space.  NULL: malformed or a NUL in it. */
char *blobd_unescape(const char *text, size_t len, bool plus);
/* What the service makes of a name; NULL: it refuses it. */
char *blobd_name_normal(const char *name);
bool blobd_utf8_valid(const char *text);
void blobd_xml_text(struct base_str *out, const char *text);
/* <Name> or <Prefix>, percent-encoded where XML cannot say it. */
void blobd_xml_name(struct base_str *out, const char *tag, const char *name);
/* Splits "http://host/account/container/blob?query" of this account. */
bool blobd_url_split(const char *url, char **ret_container, char **ret_name);
/* Query parameters, decoded, names in lower case. */
void blobd_query_split(const char *query, struct blobd_kvs *ret);

#endif
