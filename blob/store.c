/* What all stores share: see store.h. */
#include "blob/store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/azure.h"
#include "blob/dir.h"

static bool is_dir_url(const char *url)
{
	return strncmp(url, "dir:", 4) == 0;
}

int blob_store_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes)
{
	if (is_dir_url(config->url))
		return blob_dir_open(config, ret_store, ret_why, why_bytes);
	return blob_azure_open(config, ret_store, ret_why, why_bytes);
}

void blob_store_close(struct blob_store *store)
{
	if (store != NULL)
		store->ops->close(store);
}

/* realpath(), but the path need not be there (its reservoir may be away): then
 * as far as it is. */
static char *real_as_far(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	char *real = realpath(path, NULL), *copy, *slash;

	if (real != NULL || errno != ENOENT)
		return real;
	copy = base_strdup(path);
	while ((slash = strrchr(copy, '/')) != NULL && slash != copy &&
		slash[1] == '\0')
		*slash = '\0';
	if (slash != NULL && slash[1] != '\0' && strcmp(slash, "/..") != 0 &&
		strcmp(slash, "/.") != 0) {
		*slash = '\0';
		real = real_as_far(slash == copy ? "/" : copy);
		if (real != NULL) {
			base_str_printf(&s, "%s/%s",
				strcmp(real, "/") == 0 ? "" : real, slash + 1);
			free(real);
			real = base_str_take(&s);
		}
	}
	free(copy);
	return real;
}

static int canonical_dir(const char *path, char *ret_url, size_t url_bytes,
	char *ret_why, size_t why_bytes)
{
	char *real = real_as_far(path);
	int n;

	if (real == NULL) {
		snprintf(ret_why, why_bytes, "dir:%s: %s: create it first",
			path, strerrordesc_np(errno));
		return -EINVAL;
	}
	n = snprintf(ret_url, url_bytes, "dir:%s", real);
	free(real);
	if (n < 0 || (size_t)n >= url_bytes) {
		snprintf(ret_why, why_bytes, "store URL is too long");
		return -EINVAL;
	}
	return 0;
}

int blob_store_canonical(const char *url, char *ret_url, size_t url_bytes,
	char *ret_why, size_t why_bytes)
{
	if (is_dir_url(url))
		return canonical_dir(
			url + 4, ret_url, url_bytes, ret_why, why_bytes);
	return blob_azure_canonical(
		url, ret_url, url_bytes, ret_why, why_bytes);
}

int blob_name_check(struct blob_store *store, const char *path)
{
	if (store->ops->name_check == NULL)
		return 0;
	return store->ops->name_check(store, path);
}

void blob_submit(struct blob_store *store, struct blob_req *req)
{
	store->ops->submit(store, req);
}

void blob_cancel(struct blob_store *store, struct blob_req *req)
{
	store->ops->cancel(store, req);
}

void blob_req_fini(struct blob_req *req)
{
	size_t i;

	blob_props_fini(&req->props);
	for (i = 0; i < req->page.entries_nr; i++) {
		free(req->page.entries[i].name);
		blob_props_fini(&req->page.entries[i].props);
	}
	free(req->page.entries);
	free(req->page.next);
	free(req->blocks.blocks);
	free(req->tags);
	req->tags = NULL;
	memset(&req->page, 0, sizeof(req->page));
	memset(&req->blocks, 0, sizeof(req->blocks));
}

void blob_props_fini(struct blob_props *props)
{
	blob_kv_free(props->meta, props->meta_nr);
	blob_kv_free(props->headers, props->headers_nr);
	memset(props, 0, sizeof(*props));
}

const char *blob_result_name(enum blob_result result)
{
	static const char *const names[] = {
		[BLOB_OK] = "ok",
		[BLOB_NOT_FOUND] = "not found",
		[BLOB_NO_CONTAINER] = "no container",
		[BLOB_CONDITION] = "condition failed",
		[BLOB_BAD_RANGE] = "range after the end",
		[BLOB_BAD_BLOCKS] = "blocks missing",
		[BLOB_BUSY] = "busy",
		[BLOB_DENIED] = "denied",
		[BLOB_IMMUTABLE] = "immutable",
		[BLOB_ARCHIVED] = "archived",
		[BLOB_BAD_TYPE] = "not a block blob",
		[BLOB_NAME] = "name cannot be held",
		[BLOB_TOO_LARGE] = "too large",
		[BLOB_CORRUPT] = "corrupt",
		[BLOB_UNSUPPORTED] = "unsupported",
		[BLOB_REFUSED] = "refused",
		[BLOB_AMBIGUOUS] = "answer lost",
		[BLOB_UNAVAILABLE] = "unavailable",
		[BLOB_STOPPED] = "stopped",
	};

	if ((size_t)result >= sizeof(names) / sizeof(*names))
		return "unknown";
	return names[result];
}
