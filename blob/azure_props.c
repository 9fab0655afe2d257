/* What the service's headers say of a blob: see azure_props.h. */
#include "blob/azure_props.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/base64.h"
#include "base/str.h"

#define META "x-ms-meta-"

void blob_azure_etag(const char *text, char ret[BLOB_ETAG_MAX])
{
	size_t len = strlen(text);
	bool quoted = text[0] == '"' || strncmp(text, "W/", 2) == 0;

	ret[0] = '\0';
	if (len == 0 || len + 3 > BLOB_ETAG_MAX)
		return;
	if (quoted) {
		memcpy(ret, text, len + 1);
		return;
	}
	ret[0] = '"';
	memcpy(ret + 1, text, len);
	memcpy(ret + 1 + len, "\"", 2);
}

void blob_azure_escape(struct base_str *s, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("-._~", c) != NULL)
			base_str_putc(s, (char)c);
		else
			base_str_printf(s, "%%%02X", c);
	}
}

bool blob_azure_md5(const char *text, uint8_t ret[16])
{
	struct base_str raw = BASE_STR_INIT;
	bool ok = base_base64_decode(text, strlen(text), &raw) == 0 &&
		raw.len == 16;

	if (ok)
		memcpy(ret, raw.data, 16);
	base_str_fini(&raw);
	return ok;
}

bool blob_azure_date_ns(const char *text, int64_t *ret_ns)
{
	int64_t s;

	/* Four digits of a year reach beyond 64 bits of nanoseconds. */
	return blob_header_date(text, &s) == 0 &&
		!__builtin_mul_overflow(s, INT64_C(1000000000), ret_ns);
}

/* A clock that is wrong errs by what it is wrong. */
bool blob_azure_is_future(const char *text)
{
	int64_t s;

	return blob_header_date(text, &s) == 0 && s > (int64_t)time(NULL);
}

void blob_azure_kv_add(
	struct blob_kv **kv, size_t *nr, const char *key, const char *value)
{
	*kv = base_realloc(*kv, (*nr + 1) * sizeof(**kv));
	(*kv)[*nr].key = base_strdup(key);
	(*kv)[*nr].value = base_strdup(value);
	(*nr)++;
}

/* Headers that a rewrite must send again, whatever their value. */
static bool is_content(const char *key)
{
	static const char *const keys[] = { "content-type", "content-encoding",
		"content-language", "content-disposition", "cache-control",
		"x-ms-encryption-scope" };
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (strcasecmp(key, keys[i]) == 0)
			return true;
	return false;
}

static void add_lower(struct blob_props *p, const char *key, const char *value)
{
	char *s;

	blob_azure_kv_add(&p->headers, &p->headers_nr, key, value);
	for (s = p->headers[p->headers_nr - 1].key; *s != '\0'; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s - 'A' + 'a');
}

static bool is_value(
	const struct blob_headers *h, const char *key, const char *value)
{
	const char *v = blob_headers_get(h, key);

	return v != NULL && strcasecmp(v, value) == 0;
}

static enum blob_type type_of(const struct blob_headers *h)
{
	if (is_value(h, "x-ms-resource-type", "directory"))
		return BLOB_TYPE_DIR;
	if (is_value(h, "x-ms-blob-type", "AppendBlob"))
		return BLOB_TYPE_APPEND;
	if (is_value(h, "x-ms-blob-type", "PageBlob"))
		return BLOB_TYPE_PAGE;
	return BLOB_TYPE_BLOCK;
}

static void parse_lists(const struct blob_headers *h, struct blob_props *p)
{
	size_t i;

	for (i = 0; i < h->nr; i++) {
		const struct blob_kv *kv = &h->kv[i];

		if (strncasecmp(kv->key, META, sizeof(META) - 1) == 0 &&
			kv->key[sizeof(META) - 1] != '\0')
			blob_azure_kv_add(&p->meta, &p->meta_nr,
				kv->key + sizeof(META) - 1, kv->value);
		else if (is_content(kv->key) && kv->value[0] != '\0')
			add_lower(p, kv->key, kv->value);
	}
}

void blob_azure_props_parse(
	const struct blob_headers *h, struct blob_props *ret)
{
	const char *tier = blob_headers_get(h, "x-ms-access-tier");
	const char *v;

	memset(ret, 0, sizeof(*ret));
	v = blob_headers_get(h, "etag");
	if (v != NULL)
		blob_azure_etag(v, ret->etag);
	v = blob_headers_get(h, "last-modified");
	if (v != NULL)
		blob_azure_date_ns(v, &ret->mtime_ns);
	ret->type = type_of(h);
	ret->archived = is_value(h, "x-ms-access-tier", "Archive");
	v = blob_headers_get(h, "x-ms-immutability-policy-until-date");
	ret->immutable = is_value(h, "x-ms-legal-hold", "true") ||
		(v != NULL && blob_azure_is_future(v));
	ret->copy_pending = is_value(h, "x-ms-copy-status", "pending");
	/* With a range, Content-MD5 would be the range's. */
	v = blob_headers_get(h, "x-ms-blob-content-md5");
	if (v == NULL && blob_headers_get(h, "content-range") == NULL)
		v = blob_headers_get(h, "content-md5");
	if (v != NULL)
		ret->has_md5 = blob_azure_md5(v, ret->md5);
	parse_lists(h, ret);
	v = blob_headers_get(h, BLOB_TAG_COUNT);
	if (v != NULL && strcmp(v, "0") != 0)
		blob_azure_kv_add(
			&ret->headers, &ret->headers_nr, BLOB_TAG_COUNT, v);
	if (tier != NULL && !is_value(h, "x-ms-access-tier-inferred", "true"))
		blob_azure_kv_add(&ret->headers, &ret->headers_nr,
			"x-ms-access-tier", tier);
}
