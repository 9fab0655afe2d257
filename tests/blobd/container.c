/* Containers: see ops.h. */
#include "tests/blobd/ops.h"

#include <string.h>

#include "tests/blobd/log.h"

static bool name_fine(struct blobd_req *req)
{
	const char *name = req->container;
	size_t len = strlen(name);

	if (len < 3 || len > 63)
		return blobd_reply_error(req, 400, "OutOfRangeInput", NULL);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len ||
		strstr(name, "--") != NULL || name[0] == '-' ||
		name[len - 1] == '-')
		return blobd_reply_error(req, 400, "InvalidResourceName", NULL);
	return true;
}

static void reply_container(
	struct blobd_req *req, const struct blobd_container *c, unsigned status)
{
	char etag[BLOBD_ETAG_BYTES];
	struct base_str key = BASE_STR_INIT;
	size_t i;

	req->reply.status = status;
	blobd_etag_text(c->etag, etag);
	blobd_reply_printf(req, "ETag", "\"%s\"", etag);
	blobd_reply_time(req, "Last-Modified", c->modified);
	if (status != 200)
		return;
	for (i = 0; i < c->meta.nr; i++) {
		base_str_clear(&key);
		base_str_printf(&key, "x-ms-meta-%s", c->meta.v[i].key);
		blobd_reply_header(req, key.data, c->meta.v[i].value);
	}
	base_str_fini(&key);
	blobd_reply_header(req, "x-ms-lease-status", "unlocked");
	blobd_reply_header(req, "x-ms-lease-state", "available");
	blobd_reply_header(req, "x-ms-has-immutability-policy", "false");
	blobd_reply_header(req, "x-ms-has-legal-hold", "false");
}

static struct blobd_record *create_locked(
	struct blobd_req *req, struct blobd_props *props)
{
	struct blobd_container *c;

	if (blobd_store_container(req->container) != NULL) {
		blobd_reply_error(req, 409, "ContainerAlreadyExists", NULL);
		return NULL;
	}
	c = blobd_container_add(req->container);
	blobd_kvs_copy(&c->meta, &props->meta);
	reply_container(req, c, 201);
	return blobd_log_add(
		req, "container-create", req->container, "", 0, NULL, 0, NULL);
}

static struct blobd_record *set_meta_locked(
	struct blobd_req *req, struct blobd_props *props)
{
	struct blobd_container *c = blobd_need_container(req);

	if (c == NULL)
		return NULL;
	blobd_kvs_fini(&c->meta);
	blobd_kvs_copy(&c->meta, &props->meta);
	c->etag = blobd_etag_next();
	c->modified = time(NULL);
	reply_container(req, c, 200);
	return blobd_log_add(
		req, "container-setmeta", req->container, "", 0, NULL, 0, NULL);
}

static struct blobd_record *delete_locked(struct blobd_req *req)
{
	if (!blobd_container_delete(req->container)) {
		blobd_reply_error(req, 404, "ContainerNotFound", NULL);
		return NULL;
	}
	req->reply.status = 202;
	return blobd_log_add(
		req, "container-delete", req->container, "", 0, NULL, 0, NULL);
}

static void change(struct blobd_req *req)
{
	struct blobd_props *props = blobd_props_from(req, false);
	struct blobd_record *record;

	if (props == NULL)
		return;
	blobd_store_wrlock();
	if (strcmp(req->method, "DELETE") == 0)
		record = delete_locked(req);
	else if (blobd_req_comp(req, "metadata"))
		record = set_meta_locked(req, props);
	else
		record = create_locked(req, props);
	blobd_store_unlock();
	if (record != NULL)
		blobd_log_finish(record);
	blobd_props_put(props);
}

void blobd_op_container(struct blobd_req *req)
{
	bool put = strcmp(req->method, "PUT") == 0;
	struct blobd_container *c;

	if (put && !name_fine(req))
		return;
	if (put || strcmp(req->method, "DELETE") == 0) {
		change(req);
		return;
	}
	if (!blobd_req_comp(req, NULL) && !blobd_req_comp(req, "metadata")) {
		blobd_reply_error(req, 400, "InvalidQueryParameterValue", NULL);
		return;
	}
	blobd_store_rdlock();
	c = blobd_need_container(req);
	if (c != NULL)
		reply_container(req, c, 200);
	blobd_store_unlock();
}
