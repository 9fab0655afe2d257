/*
 * The control interface below /_/ and the token endpoints: README.md.
 */
#include "tests/blobd/ops.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/blobd/log.h"

#define SEED_MAX 20000000 /* what memory holds */

static struct {
	int64_t latency_ms;  /* atomic */
	bool down;	     /* atomic */
	unsigned lifetime_s; /* atomic: of tokens handed out */
	pthread_mutex_t mutex;
	/* under mutex: what the last token request was */
	char *token_request;
	unsigned tokens_nr;
} control = { .lifetime_s = 3600, .mutex = PTHREAD_MUTEX_INITIALIZER };

int64_t blobd_control_latency_ms(void)
{
	return __atomic_load_n(&control.latency_ms, __ATOMIC_RELAXED);
}

void blobd_control_set_latency_ms(int64_t ms)
{
	__atomic_store_n(&control.latency_ms, ms, __ATOMIC_RELAXED);
}

bool blobd_control_down(void)
{
	return __atomic_load_n(&control.down, __ATOMIC_RELAXED);
}

void blobd_control_set_lifetime(unsigned seconds)
{
	__atomic_store_n(&control.lifetime_s, seconds, __ATOMIC_RELAXED);
}

static void bad(struct blobd_req *req, const char *why)
{
	req->reply.status = 400;
	base_str_clear(&req->reply.body);
	base_str_printf(&req->reply.body, "%s\n", why);
}

static void set_down(struct blobd_req *req, bool down)
{
	(void)req;
	__atomic_store_n(&control.down, down, __ATOMIC_RELAXED);
}

static void do_down(struct blobd_req *req)
{
	set_down(req, true);
}

static void do_up(struct blobd_req *req)
{
	set_down(req, false);
}

static void do_latency(struct blobd_req *req)
{
	blobd_control_set_latency_ms(blobd_req_number(req, "ms", 0));
}

static void do_fault(struct blobd_req *req)
{
	if (strcmp(req->method, "DELETE") == 0) {
		blobd_fault_clear();
		return;
	}
	if (blobd_fault_add(blobd_req_param(req, "op"),
		    blobd_req_param(req, "name"), blobd_req_param(req, "kind"),
		    (unsigned)blobd_req_number(req, "count", 1),
		    (unsigned)blobd_req_number(req, "skip", 0)) < 0)
		bad(req, "no such op or kind");
}

static void do_hook(struct blobd_req *req)
{
	const char *at = blobd_req_param(req, "at");

	if (blobd_hook_add(blobd_req_param(req, "op"),
		    blobd_req_param(req, "name"),
		    (unsigned)blobd_req_number(req, "count", 0),
		    at != NULL && strcmp(at, "after") == 0) < 0)
		bad(req, "no such op");
}

static void do_release(struct blobd_req *req)
{
	blobd_hook_release((unsigned)blobd_req_number(req, "count", 0),
		blobd_req_number(req, "keep", 0) != 0);
}

static void do_held(struct blobd_req *req)
{
	blobd_hook_print(&req->reply.body);
}

static void do_log(struct blobd_req *req)
{
	int64_t from = blobd_req_number(req, "from", 1);

	blobd_log_print(&req->reply.body, from > 0 ? (uint64_t)from : 1);
}

static void do_counts(struct blobd_req *req)
{
	blobd_stat_print(&req->reply.body);
}

static void do_counts_reset(struct blobd_req *req)
{
	(void)req;
	blobd_stat_reset();
}

static void do_reads(struct blobd_req *req)
{
	blobd_stat_print_reads(&req->reply.body, blobd_req_param(req, "name"));
}

static void do_copy(struct blobd_req *req)
{
	blobd_copy_set_pending(blobd_req_number(req, "pending", -1),
		blobd_req_param(req, "outcome"));
}

static void do_pages(struct blobd_req *req)
{
	blobd_list_set_max((unsigned)blobd_req_number(req, "max", 0));
}

static void do_token(struct blobd_req *req)
{
	const char *token = blobd_req_param(req, "token");
	int64_t lifetime = blobd_req_number(req, "lifetime", -1);

	if (token != NULL)
		blobd_auth_set_token(token);
	if (lifetime >= 0)
		blobd_control_set_lifetime((unsigned)lifetime);
	pthread_mutex_lock(&control.mutex);
	base_str_printf(&req->reply.body,
		"{\"requests\":%u,\"last\":", control.tokens_nr);
	blobd_json_string(&req->reply.body,
		control.token_request != NULL ? control.token_request : "");
	base_str_puts(&req->reply.body, "}\n");
	pthread_mutex_unlock(&control.mutex);
}

static void do_mark(struct blobd_req *req)
{
	const char *container = blobd_req_param(req, "container");
	const char *name = blobd_req_param(req, "name");
	struct blobd_container *c = NULL;
	struct blobd_blob *b = NULL;

	blobd_store_wrlock();
	if (container != NULL && name != NULL)
		c = blobd_store_container(container);
	if (c != NULL)
		b = blobd_blob_visible(c, name);
	if (b != NULL) {
		b->immutable =
			blobd_req_number(req, "immutable", b->immutable) != 0;
		b->customer_key =
			blobd_req_number(req, "cpk", b->customer_key) != 0;
	}
	blobd_store_unlock();
	if (b == NULL)
		bad(req, "no such blob");
}

static struct blobd_container *seed_container(const char *name)
{
	struct blobd_container *c = blobd_store_container(name);

	return c != NULL ? c : blobd_container_add(name);
}

static void seed_one(struct blobd_container *c, const char *name, uint64_t size,
	struct blobd_props *props)
{
	struct blobd_blob *b = blobd_blob_find(c, name);

	if (b == NULL)
		b = blobd_blob_add(c, name);
	b->type = BLOBD_BLOCK_BLOB;
	b->tier = NULL;
	blobd_blob_replace(b,
		blobd_content_formula(blobd_content_seed(name), size),
		blobd_props_get(props), NULL);
}

/* Below `depth` directories of `per` names each: README.md. */
static void seed_name(struct base_str *out, const char *prefix, uint64_t i,
	unsigned depth, uint64_t per)
{
	uint64_t unit = 1;
	unsigned level;

	base_str_clear(out);
	base_str_puts(out, prefix);
	for (level = 0; level < depth; level++)
		unit *= per;
	for (; unit > 1; unit /= per)
		base_str_printf(
			out, "d%03llu/", (unsigned long long)(i / unit % per));
	base_str_printf(out, "f%07llu", (unsigned long long)i);
}

static struct blobd_props *seed_props(void)
{
	struct blobd_props *props = blobd_props_new();

	props->headers[BLOBD_CONTENT_TYPE] =
		base_strdup("application/octet-stream");
	return props;
}

static void do_seed(struct blobd_req *req)
{
	const char *container = blobd_req_param(req, "container");
	const char *prefix = blobd_req_param(req, "prefix");
	uint64_t count = (uint64_t)blobd_req_number(req, "count", 1);
	uint64_t size = (uint64_t)blobd_req_number(req, "size", 0);
	uint64_t per = (uint64_t)blobd_req_number(req, "per", 1000), i;
	unsigned depth = (unsigned)blobd_req_number(req, "depth", 0);
	struct base_str name = BASE_STR_INIT;
	struct blobd_container *c;
	struct blobd_props *props;

	if (container == NULL || count > SEED_MAX || per < 2 || depth > 5) {
		bad(req, "container= is missing, or a number is too large");
		return;
	}
	props = seed_props();
	blobd_store_wrlock();
	c = seed_container(container);
	for (i = 0; i < count; i++) {
		seed_name(&name, prefix != NULL ? prefix : "", i, depth, per);
		seed_one(c, name.data, size, props);
	}
	blobd_store_unlock();
	blobd_props_put(props);
	base_str_fini(&name);
}

static void do_seed_large(struct blobd_req *req)
{
	const char *container = blobd_req_param(req, "container");
	const char *name = blobd_req_param(req, "name");
	struct blobd_props *props;

	if (container == NULL || name == NULL || *name == '\0') {
		bad(req, "container= or name= is missing");
		return;
	}
	props = seed_props();
	blobd_store_wrlock();
	seed_one(seed_container(container), name,
		(uint64_t)blobd_req_number(req, "size", 0), props);
	blobd_store_unlock();
	blobd_props_put(props);
}

void blobd_op_control(struct blobd_req *req)
{
	static const struct {
		const char *path;
		void (*fn)(struct blobd_req *);
	} commands[] = {
		{ "fault", do_fault },
		{ "down", do_down },
		{ "up", do_up },
		{ "latency", do_latency },
		{ "log", do_log },
		{ "counts", do_counts },
		{ "counts/reset", do_counts_reset },
		{ "reads", do_reads },
		{ "hook", do_hook },
		{ "release", do_release },
		{ "held", do_held },
		{ "copy", do_copy },
		{ "pages", do_pages },
		{ "token", do_token },
		{ "mark", do_mark },
		{ "seed", do_seed },
		{ "seed-large", do_seed_large },
	};
	size_t i;

	req->reply.status = 200;
	blobd_reply_header(req, "Content-Type", "application/json");
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(req->path + 3, commands[i].path) == 0) {
			commands[i].fn(req);
			return;
		}
	}
	bad(req, "no such command");
	req->reply.status = 404;
}

static void note_token_request(struct blobd_req *req)
{
	struct base_str s = BASE_STR_INIT;
	size_t i;

	base_str_printf(&s, "%s %s", req->method, req->path);
	for (i = 0; i < req->params.nr; i++)
		base_str_printf(&s, "%c%s=%s", i > 0 ? '&' : '?',
			req->params.v[i].key, req->params.v[i].value);
	if (req->text.len > 0)
		base_str_printf(&s, "\n%s", req->text.data);
	pthread_mutex_lock(&control.mutex);
	free(control.token_request);
	control.token_request = base_str_take(&s);
	control.tokens_nr++;
	pthread_mutex_unlock(&control.mutex);
}

static void token_error(struct blobd_req *req, const char *code)
{
	req->reply.status = 400;
	base_str_printf(&req->reply.body,
		"{\"error\":\"%s\",\"error_description\":\"refused by blobd\"}",
		code);
}

/* IMDS answers with strings, Entra ID with numbers. */
void blobd_op_token(struct blobd_req *req)
{
	const char *metadata = blobd_req_header(req, "Metadata");
	unsigned life = __atomic_load_n(&control.lifetime_s, __ATOMIC_RELAXED);
	bool imds = strcmp(req->method, "GET") == 0;
	const char *body = req->text.data != NULL ? req->text.data : "";
	char token[8192];

	note_token_request(req);
	blobd_reply_header(req, "Content-Type", "application/json");
	blobd_auth_token(token, sizeof(token));
	if (imds &&
		(metadata == NULL || strcmp(metadata, "true") != 0 ||
			blobd_req_param(req, "resource") == NULL)) {
		token_error(req, "invalid_request");
		return;
	}
	if (token[0] == '\0' ||
		(!imds &&
			(strstr(body, "grant_type=client_credentials") ==
					NULL ||
				strstr(body, "client_id=") == NULL ||
				strstr(body, "scope=") == NULL ||
				(strstr(body, "client_assertion=") == NULL &&
					strstr(body, "client_secret=") ==
						NULL)))) {
		token_error(req, "unauthorized_client");
		return;
	}
	req->reply.status = 200;
	base_str_puts(&req->reply.body, "{\"access_token\":");
	blobd_json_string(&req->reply.body, token);
	base_str_printf(&req->reply.body,
		imds ? ",\"expires_in\":\"%u\",\"expires_on\":\"%lld\""
		     : ",\"expires_in\":%u,\"ext_expires_in\":%lld",
		life, imds ? (long long)time(NULL) + life : (long long)life);
	base_str_puts(&req->reply.body, ",\"token_type\":\"Bearer\"}");
}
