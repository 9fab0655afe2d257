/*
 * Signing: see sign.h.  The string to sign of Shared Key (AZURE.md section
 * 1.1), line by line:
 *	verb, eleven standard headers' values (missing: empty),
 *	x-ms-* headers as "name:value", lower case, in the service's order,
 *	"/account" and the path as on the wire, and each query parameter as
 *	"name:value", decoded, in order.
 */
#include "blob/sign.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "blob/name.h"

#define SAS_VERSION "2021-12-02"
#define SAS_SECONDS 3600

static int put_hmac(const struct blob_creds *creds, const struct base_str *text,
	struct base_str *ret_base64)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_bytes;
	size_t key_bytes;
	const void *key = blob_creds_key(creds, &key_bytes);

	if (key == NULL)
		return -ENOKEY;
	if (HMAC(EVP_sha256(), key, (int)key_bytes,
		    (const unsigned char *)text->data, text->len, mac,
		    &mac_bytes) == NULL)
		return -EINVAL;
	base_base64_encode(mac, mac_bytes, ret_base64);
	return 0;
}

/* ---- headers ---- */

/* The service sorts as .NET does for en-US: '-' does not count, '_' comes
 * before digits, digits before letters; AZURE.md 0.1.  In ASCII's order a pair
 * like "a1" and "a_b" gets a 403. */
static int weight(char c)
{
	if (c == '_')
		return 2;
	if (c >= '0' && c <= '9')
		return 10 + (c - '0');
	if (c >= 'a' && c <= 'z')
		return 20 + (c - 'a');
	if (c >= 'A' && c <= 'Z')
		return 20 + (c - 'A');
	return c == '\0' ? 0 : 1;
}

static int compare_names(const char *a, const char *b)
{
	const char *p = a, *q = b;

	for (;; p++, q++) {
		p += strspn(p, "-");
		q += strspn(q, "-");
		if (weight(*p) != weight(*q))
			return weight(*p) - weight(*q);
		if (*p == '\0')
			break;
	}
	/* Alike but for their '-': the one whose '-' comes earlier is later. */
	for (p = a, q = b; *p != '\0' && *q != '\0'; p++, q++)
		if ((*p == '-') != (*q == '-'))
			return *p == '-' ? 1 : -1;
	return (*p != '\0') - (*q != '\0');
}

static int by_name(const void *a, const void *b)
{
	const struct blob_kv *const *x = a, *const *y = b;

	return compare_names((*x)->key, (*y)->key);
}

static void put_lower(struct base_str *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		base_str_putc(s, (char)tolower((unsigned char)text[i]));
}

/* Blanks at both ends do not count. */
static void put_trimmed(struct base_str *s, const char *text)
{
	size_t len;

	text += strspn(text, " \t");
	for (len = strlen(text); len > 0 && strchr(" \t", text[len - 1]);)
		len--;
	base_str_add(s, text, len);
}

static void put_standard_headers(
	struct base_str *s, const struct blob_sign_msg *msg)
{
	static const char *const names[] = { "content-encoding",
		"content-language", "content-length", "content-md5",
		"content-type", "date", "if-modified-since", "if-match",
		"if-none-match", "if-unmodified-since", "range" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (i == 2) {
			if (msg->content_length != 0) /* zero counts as none */
				base_str_printf(
					s, "%" PRIu64, msg->content_length);
			base_str_putc(s, '\n');
			continue;
		}
		for (size_t k = 0; k < msg->headers_nr; k++) {
			if (strcasecmp(msg->headers[k].key, names[i]) == 0) {
				put_trimmed(s, msg->headers[k].value);
				break;
			}
		}
		base_str_putc(s, '\n');
	}
}

static void put_ms_headers(struct base_str *s, const struct blob_sign_msg *msg)
{
	const struct blob_kv **sorted =
		base_calloc(msg->headers_nr, sizeof(const struct blob_kv *));
	size_t nr = 0;

	for (size_t i = 0; i < msg->headers_nr; i++)
		if (strncasecmp(msg->headers[i].key, "x-ms-", 5) == 0)
			sorted[nr++] = &msg->headers[i];
	qsort(sorted, nr, sizeof(*sorted), by_name);
	for (size_t i = 0; i < nr; i++) {
		put_lower(s, sorted[i]->key, strlen(sorted[i]->key));
		base_str_putc(s, ':');
		put_trimmed(s, sorted[i]->value);
		base_str_putc(s, '\n');
	}
	free(sorted);
}

/* ---- query ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_decoded(struct base_str *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%' && i + 2 < len && hex(text[i + 1]) >= 0 &&
			hex(text[i + 2]) >= 0) {
			base_str_putc(s,
				(char)(hex(text[i + 1]) << 4 |
					hex(text[i + 2])));
			i += 2;
		} else {
			base_str_putc(s, text[i] == '+' ? ' ' : text[i]);
		}
	}
}

static int by_name_and_value(const void *a, const void *b)
{
	const struct blob_kv *x = a, *y = b;
	int d = strcmp(x->key, y->key);

	return d != 0 ? d : strcmp(x->value, y->value);
}

static char *decoded(const char *text, size_t len, bool lower)
{
	struct base_str s = BASE_STR_INIT, low = BASE_STR_INIT;

	put_decoded(&s, text, len);
	if (!lower)
		return base_str_take(&s);
	if (s.len > 0)
		put_lower(&low, s.data, s.len);
	base_str_fini(&s);
	return base_str_take(&low);
}

static void put_query(struct base_str *s, const char *query)
{
	struct blob_kv *params;
	size_t nr = 0, room = 1;

	for (const char *p = query; *p != '\0'; p++)
		room += *p == '&';
	params = base_calloc(room, sizeof(*params));
	for (const char *p = query; *p != '\0';) {
		size_t len = strcspn(p, "&"), name = strcspn(p, "=&");

		if (name < len) { /* without '=' there is no parameter */
			params[nr].key = decoded(p, name, true);
			params[nr++].value =
				decoded(p + name + 1, len - name - 1, false);
		}
		p += len;
		p += *p == '&';
	}
	qsort(params, nr, sizeof(*params), by_name_and_value);
	for (size_t i = 0; i < nr; i++) {
		bool same = i > 0 && !strcmp(params[i].key, params[i - 1].key);

		if (!same)
			base_str_printf(s, "\n%s:", params[i].key);
		else
			base_str_putc(s, ',');
		base_str_puts(s, params[i].value);
	}
	blob_kv_free(params, nr);
}

int blob_sign_shared_key(const struct blob_creds *creds, const char *account,
	const struct blob_sign_msg *msg, struct base_str *ret_authorization)
{
	struct base_str text = BASE_STR_INIT, mac = BASE_STR_INIT;
	int err;

	base_str_printf(&text, "%s\n", msg->method);
	put_standard_headers(&text, msg);
	put_ms_headers(&text, msg);
	base_str_printf(&text, "/%s%s", account, msg->path);
	put_query(&text, msg->query ? msg->query : "");
	err = put_hmac(creds, &text, &mac);
	if (err == 0)
		base_str_printf(ret_authorization, "SharedKey %s:%s", account,
			mac.data);
	base_str_fini(&text);
	base_str_fini(&mac);
	return err;
}

/* ---- SAS of a source ---- */

/* In a query '/' is escaped too, as everything that base64 and times hold. */
static void put_escaped(struct base_str *s, const char *text)
{
	for (; *text != '\0'; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~", *text))
			base_str_putc(s, *text);
		else
			base_str_printf(s, "%%%02X", (unsigned char)*text);
	}
}

int blob_sign_source_sas(const struct blob_creds *creds, const char *account,
	const char *container, const char *blob, int64_t now_s,
	struct base_str *ret_query)
{
	struct base_str text = BASE_STR_INIT, mac = BASE_STR_INIT;
	time_t end = (time_t)(now_s + SAS_SECONDS);
	char until[32];
	struct tm tm;
	int err;

	if (blob_creds_kind(creds) == BLOB_AUTH_SAS) {
		base_str_puts(ret_query, blob_creds_sas(creds));
		return 0;
	}
	if (blob_creds_kind(creds) == BLOB_AUTH_TOKEN)
		return -EOPNOTSUPP;
	gmtime_r(&end, &tm);
	strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", &tm);
	/* permissions, start, end, resource, identifier, address, protocol,
	 * version, kind, snapshot, scope, five response headers */
	base_str_printf(&text,
		"r\n\n%s\n/blob/%s/%s/%s\n\n\n\n" SAS_VERSION
		"\nb\n\n\n\n\n\n\n",
		until, account, container, blob);
	err = put_hmac(creds, &text, &mac);
	if (err == 0) {
		base_str_puts(ret_query, "sv=" SAS_VERSION "&sr=b&sp=r&se=");
		put_escaped(ret_query, until);
		base_str_puts(ret_query, "&sig=");
		put_escaped(ret_query, mac.data);
	}
	base_str_fini(&text);
	base_str_fini(&mac);
	return err;
}
