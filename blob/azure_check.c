/*
 * Looking a request over before it is sent: names, conditions, metadata.
 *
 * Every mutation carries exactly one condition; one without is refused here,
 * whoever asks.  Everything that ends up in a header is checked for characters
 * that could end it.
 */
#include "blob/azure_impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/base64.h"
#include "blob/name.h"

/* ---- names ---- */

static void join(
	const struct azure *azure, const char *name, struct base_str *ret_path)
{
	base_str_puts(ret_path, azure->url.prefix);
	if (ret_path->len > 0 && name[0] != '\0')
		base_str_putc(ret_path, '/');
	base_str_puts(ret_path, name);
}

static int encode_blob(
	const struct azure *azure, const char *name, struct base_str *ret)
{
	struct base_str path = BASE_STR_INIT;
	int err;

	if (name == NULL || name[0] == '\0')
		return -EINVAL;
	join(azure, name, &path);
	/* The marker "d/", which has the same name as the prefix below it. */
	if (path.data[path.len - 1] == '/') {
		path.data[--path.len] = '\0';
		err = blob_name_prefix(path.data, ret);
	} else {
		err = blob_name_encode(path.data, ret);
	}
	base_str_fini(&path);
	return err;
}

int azure_request_name(const struct azure *azure, const char *path)
{
	struct base_str blob = BASE_STR_INIT;
	int err = encode_blob(azure, path, &blob);

	base_str_fini(&blob);
	return err;
}

static int encode_dir(
	const struct azure *azure, const char *name, struct base_str *ret)
{
	struct base_str path = BASE_STR_INIT;
	int err;

	join(azure, name, &path);
	err = blob_name_prefix(path.data, ret);
	base_str_fini(&path);
	return err;
}

/*
 * The prefix for `only`, which is a piece of a name: its last component may go
 * on, and so be escaped otherwise than the piece alone.  What surely stays is
 * sent; the parser filters by the rest.
 */
static int add_only(struct azure_run *run)
{
	static const char stays[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789-_.";
	const char *name = run->req->name, *only = run->req->in.list.only;
	const char *slash = strrchr(only, '/');
	size_t dir_len = slash != NULL ? (size_t)(slash - only) : 0;
	size_t len;
	struct base_str dir = BASE_STR_INIT;
	int err;

	base_str_puts(&dir, name);
	if (dir.len > 0 && dir_len > 0)
		base_str_putc(&dir, '/');
	base_str_add(&dir, only, dir_len);
	err = encode_dir(run->azure, dir.data, &run->blob);
	base_str_fini(&dir);
	if (err != 0)
		return err;
	only = slash != NULL ? slash + 1 : only;
	len = strspn(only, stays);
	while (len > 0 && only[len - 1] == '.')
		len--;
	base_str_add(&run->blob, only, len);
	base_str_puts(&run->only, name);
	if (run->only.len > 0)
		base_str_putc(&run->only, '/');
	base_str_puts(&run->only, run->req->in.list.only);
	return 0;
}

/* "d/" can be asked for, changed and deleted where it was listed; nothing makes
 * one. */
static bool makes_marker(const struct blob_req *req)
{
	size_t len = req->name ? strlen(req->name) : 0;

	switch (req->op) {
	case BLOB_PUT:
	case BLOB_PUT_BLOCK:
	case BLOB_PUT_BLOCK_URL:
	case BLOB_COMMIT:
	case BLOB_COPY:
		return len > 0 && req->name[len - 1] == '/';
	default:
		return false;
	}
}

static int set_names(struct azure_run *run)
{
	struct blob_req *req = run->req;
	int err = 0;

	if (makes_marker(req))
		err = -EINVAL;
	else if (req->op != BLOB_LIST)
		err = encode_blob(run->azure, req->name, &run->blob);
	else if (req->in.list.only != NULL && req->in.list.only[0] != '\0')
		err = add_only(run);
	else
		err = encode_dir(run->azure, req->name, &run->blob);
	if (err == 0 && req->op == BLOB_COPY)
		err = encode_blob(
			run->azure, req->in.copy.source, &run->source);
	if (err == 0 && req->op == BLOB_PUT_BLOCK_URL)
		err = encode_blob(
			run->azure, req->in.block.source, &run->source);
	return err;
}

/* ---- checks ---- */

static bool value_is_good(const char *value)
{
	for (; *value != '\0'; value++)
		if (*value < ' ' || *value > '~')
			return false;
	return true;
}

static bool key_is_good(const char *key)
{
	size_t i;

	for (i = 0; key[i] != '\0'; i++)
		if (!(key[i] == '_' || (key[i] >= 'a' && key[i] <= 'z') ||
			    (key[i] >= 'A' && key[i] <= 'Z') ||
			    (i > 0 && key[i] >= '0' && key[i] <= '9')))
			return false;
	return i > 0;
}

static enum blob_result check_meta(const struct blob_req *req)
{
	size_t i, bytes = 0;

	for (i = 0; i < req->meta_nr; i++) {
		if (!key_is_good(req->meta[i].key) ||
			!value_is_good(req->meta[i].value))
			return BLOB_REFUSED;
		bytes += strlen(req->meta[i].key) + strlen(req->meta[i].value);
	}
	for (i = 0; i < req->headers_nr; i++)
		if (!value_is_good(req->headers[i].value))
			return BLOB_REFUSED;
	return bytes > BLOB_META_BYTES_MAX ? BLOB_TOO_LARGE : BLOB_OK;
}

static bool condition_is_good(const struct blob_req *req)
{
	const struct blob_cond *c = &req->cond;

	if (c->if_match != NULL &&
		(c->if_match[0] == '\0' || !value_is_good(c->if_match)))
		return false;
	if (!blob_op_mutates(req->op))
		return !c->if_none_match_any;
	/* The service deletes in spite of If-None-Match. */
	if (req->op == BLOB_DELETE && c->if_match == NULL)
		return false;
	if (req->op == BLOB_COPY && req->in.copy.source_etag == NULL)
		return false;
	return (c->if_match != NULL) != c->if_none_match_any;
}

static void build_block_list(struct azure_run *run)
{
	const struct blob_req *req = run->req;
	size_t i;

	base_str_puts(&run->xml,
		"<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
	for (i = 0; i < req->in.commit.blocks_nr; i++) {
		const struct blob_block *b = &req->in.commit.blocks[i];
		const char *tag = b->committed ? "Committed" : "Latest";

		base_str_printf(&run->xml, "<%s>", tag);
		base_base64_encode(b->id, sizeof(b->id), &run->xml);
		base_str_printf(&run->xml, "</%s>", tag);
	}
	base_str_puts(&run->xml, "</BlockList>");
	blob_md5(run->xml.data, run->xml.len, run->xml_md5);
	run->body = (struct blob_body){ .mem = run->xml.data,
		.fd = -1,
		.len_bytes = run->xml.len,
		.md5 = run->xml_md5 };
}

enum blob_result azure_request_check(struct azure_run *run, int *ret_err)
{
	struct blob_req *req = run->req;
	enum blob_result result;
	int err = set_names(run);

	if (err != 0) {
		*ret_err = err;
		return BLOB_NAME;
	}
	*ret_err = -EIO;
	if (!condition_is_good(req)) {
		/* A bug of ours; without assertions still not sent. */
#ifdef DEVELOPER
		assert(!"mutation without its condition");
#endif
		return BLOB_REFUSED;
	}
	if ((req->op == BLOB_PUT && req->in.put.body.md5 == NULL) ||
		(req->op == BLOB_PUT_BLOCK && req->in.block.body.md5 == NULL))
		return BLOB_REFUSED;
	result = check_meta(req);
	if (result != BLOB_OK) {
		*ret_err = blob_retry_errno(result);
		return result;
	}
	if (req->op == BLOB_COMMIT)
		build_block_list(run);
	else if (req->op == BLOB_PUT)
		run->body = req->in.put.body;
	else if (req->op == BLOB_PUT_BLOCK)
		run->body = req->in.block.body;
	if (req->op == BLOB_GET) {
		run->end = UINT64_MAX;
		if (req->in.get.len_bytes > 0 &&
			req->in.get.len_bytes <=
				UINT64_MAX - req->in.get.offset)
			run->end = req->in.get.offset + req->in.get.len_bytes;
	}
	return BLOB_OK;
}
