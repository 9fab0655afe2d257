/* Which operation a request is: see http.h. */
#include "tests/blobd/http.h"

#include <stdlib.h>
#include <string.h>

#include "tests/blobd/ops.h"

static bool is(const struct blobd_req *req, const char *method)
{
	return strcmp(req->method, method) == 0;
}

static enum blobd_op route_put(struct blobd_req *req)
{
	static const struct {
		const char *comp;
		enum blobd_op op;
	} comps[] = {
		{ "block", BLOBD_OP_PUTBLOCK },
		{ "blocklist", BLOBD_OP_COMMIT },
		{ "metadata", BLOBD_OP_SETMETA },
		{ "properties", BLOBD_OP_SETPROPS },
		{ "lease", BLOBD_OP_LEASE },
		{ "appendblock", BLOBD_OP_APPEND },
		{ "tier", BLOBD_OP_TIER },
		{ "tags", BLOBD_OP_TAGS },
		{ "copy", BLOBD_OP_COPY },
	};
	size_t i;

	for (i = 0; i < sizeof(comps) / sizeof(comps[0]); i++)
		if (blobd_req_comp(req, comps[i].comp))
			return comps[i].op;
	if (!blobd_req_comp(req, NULL))
		return BLOBD_OP_OTHER;
	if (blobd_req_header(req, "x-ms-blob-type") != NULL)
		return BLOBD_OP_PUT;
	return blobd_req_header(req, "x-ms-copy-source") ? BLOBD_OP_COPY
							 : BLOBD_OP_PUT;
}

static enum blobd_op route_blob(struct blobd_req *req)
{
	if (is(req, "GET")) {
		if (blobd_req_comp(req, "blocklist"))
			return BLOBD_OP_BLOCKS;
		if (blobd_req_comp(req, "tags"))
			return BLOBD_OP_TAGS;
		if (blobd_req_comp(req, "metadata"))
			return BLOBD_OP_HEAD;
		return blobd_req_comp(req, NULL) ? BLOBD_OP_GET
						 : BLOBD_OP_OTHER;
	}
	if (is(req, "HEAD"))
		return BLOBD_OP_HEAD;
	if (is(req, "PUT"))
		return route_put(req);
	return is(req, "DELETE") ? BLOBD_OP_DELETE : BLOBD_OP_OTHER;
}

static enum blobd_op route_op(struct blobd_req *req)
{
	const char *restype = blobd_req_param(req, "restype");

	if (req->container == NULL ||
		(restype != NULL && strcmp(restype, "account") == 0))
		return BLOBD_OP_ACCOUNT;
	if (req->name != NULL)
		return route_blob(req);
	if (is(req, "GET") && blobd_req_comp(req, "list"))
		return BLOBD_OP_LIST;
	return BLOBD_OP_CONTAINER;
}

static bool is_token_path(const char *path)
{
	static const char end[] = "/oauth2/v2.0/token";
	size_t len = strlen(path);

	return strcmp(path, "/metadata/identity/oauth2/token") == 0 ||
		(len > sizeof(end) &&
			strcmp(path + len - (sizeof(end) - 1), end) == 0);
}

/* "/account[/container[/name]]" */
static bool split_path(struct blobd_req *req)
{
	size_t account_len = strlen(blobd_config.account), len;
	const char *p = req->path;
	char *raw;

	if (*p != '/' ||
		strncmp(p + 1, blobd_config.account, account_len) != 0 ||
		(p[1 + account_len] != '/' && p[1 + account_len] != '\0'))
		return blobd_reply_error(req, 404, "ResourceNotFound", NULL);
	p += 1 + account_len;
	if (*p == '/')
		p++;
	if (*p == '\0')
		return true;
	len = strcspn(p, "/");
	req->container = blobd_unescape(p, len, false);
	if (req->container == NULL)
		return blobd_reply_error(req, 400, "InvalidUri", NULL);
	p += len;
	if (p[0] == '\0' || p[1] == '\0')
		return true;
	raw = blobd_unescape(p + 1, strlen(p + 1), false);
	req->name = raw != NULL ? blobd_name_normal(raw) : NULL;
	free(raw);
	if (req->name == NULL || *req->name == '\0')
		return blobd_reply_error(req, 400, "InvalidUri", NULL);
	return true;
}

bool blobd_route(struct blobd_req *req, const char *uri)
{
	size_t len = strcspn(uri, "?");

	req->path = base_strdup(uri);
	req->path[len] = '\0';
	if (uri[len] == '?')
		blobd_query_split(uri + len + 1, &req->params);
	if (strncmp(req->path, "/_/", 3) == 0) {
		req->op = BLOBD_OP_CONTROL;
		return true;
	}
	if (is_token_path(req->path)) {
		req->op = BLOBD_OP_TOKEN;
		return true;
	}
	if (!split_path(req))
		return false;
	req->op = route_op(req);
	return true;
}
