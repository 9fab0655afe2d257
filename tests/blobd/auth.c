/*
 * Who may do it: Shared Key, SAS, bearer tokens, written from AZURE.md section
 * 1 and not from what the client does.
 */
#include "tests/blobd/http.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "tests/blobd/log.h"
#include "tests/blobd/ops.h"

#define SKEW_MAX_S (15 * 60)
#define MS_HEADERS_MAX 256

struct ms_header {
	char *name; /* lower case */
	char *value;
};

static struct {
	pthread_mutex_t mutex;
	char text[8192]; /* under mutex; "": bearer tokens are refused */
} token = { .mutex = PTHREAD_MUTEX_INITIALIZER };

void blobd_auth_token(char *ret, size_t bytes)
{
	pthread_mutex_lock(&token.mutex);
	snprintf(ret, bytes, "%s", token.text);
	pthread_mutex_unlock(&token.mutex);
}

void blobd_auth_set_token(const char *text)
{
	pthread_mutex_lock(&token.mutex);
	snprintf(token.text, sizeof(token.text), "%s", text);
	pthread_mutex_unlock(&token.mutex);
}

static void sign(const struct base_str *text, struct base_str *out)
{
	uint8_t mac[32];
	unsigned len = sizeof(mac);

	HMAC(EVP_sha256(), blobd_config.key, (int)blobd_config.key_len,
		(const unsigned char *)text->data, text->len, mac, &len);
	blobd_base64(out, mac, len);
}

static bool signed_with(const struct base_str *text, const char *signature)
{
	struct base_str ours = BASE_STR_INIT;
	bool same;

	sign(text, &ours);
	same = strlen(signature) == ours.len &&
		CRYPTO_memcmp(signature, ours.data, ours.len) == 0;
	base_str_fini(&ours);
	return same;
}

/* '_' before digits before letters; '-' weighs nothing at first. */
static int weight(char c)
{
	if (c == '_')
		return 1;
	if (c >= '0' && c <= '9')
		return 2 + c - '0';
	if (c >= 'a' && c <= 'z')
		return 12 + c - 'a';
	return 40 + (unsigned char)c;
}

/* The culture-aware order of .NET, en-US, on what header names consist of. */
static int culture_compare(const char *a, const char *b)
{
	const char *p = a, *q = b;

	for (;; p++, q++) {
		while (*p == '-')
			p++;
		while (*q == '-')
			q++;
		if (*p == '\0' || *q == '\0')
			break;
		if (weight(*p) != weight(*q))
			return weight(*p) - weight(*q);
	}
	if (*p != *q)
		return *p == '\0' ? -1 : 1;
	/* Equal but for hyphens: the first to have one goes behind. */
	for (; *a == *b && *a != '\0'; a++, b++)
		;
	return (*a == '-') - (*b == '-');
}

static int header_compare(const void *a, const void *b)
{
	return culture_compare(((const struct ms_header *)a)->name,
		((const struct ms_header *)b)->name);
}

struct ms_headers {
	struct ms_header v[MS_HEADERS_MAX];
	size_t nr;
};

static enum MHD_Result collect(
	void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct ms_headers *h = cls;
	struct ms_header *m = &h->v[h->nr];
	size_t len;
	char *c;

	(void)kind;
	if (strncasecmp(key, "x-ms-", 5) != 0 || h->nr == MS_HEADERS_MAX)
		return MHD_YES;
	value = value != NULL ? value : "";
	value += strspn(value, " \t");
	m->name = base_strdup(key);
	for (c = m->name; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	m->value = base_strdup(value);
	for (len = strlen(m->value);
		len > 0 && strchr(" \t", m->value[len - 1]) != NULL; len--)
		m->value[len - 1] = '\0';
	h->nr++;
	return MHD_YES;
}

static void add_ms_headers(struct base_str *s, struct blobd_req *req)
{
	struct ms_headers h;
	size_t i;

	h.nr = 0;
	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, collect, &h);
	qsort(h.v, h.nr, sizeof(h.v[0]), header_compare);
	for (i = 0; i < h.nr; i++) {
		base_str_printf(s, "%s:%s\n", h.v[i].name, h.v[i].value);
		free(h.v[i].name);
		free(h.v[i].value);
	}
}

static int kv_compare(const void *a, const void *b)
{
	const struct blobd_kv *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order != 0 ? order : strcmp(x->value, y->value);
}

static void add_resource(struct base_str *s, struct blobd_req *req)
{
	struct blobd_kvs q = { NULL, 0 };
	size_t i;

	base_str_printf(s, "/%s%s", blobd_config.account, req->path);
	blobd_kvs_copy(&q, &req->params);
	if (q.nr > 0)
		qsort(q.v, q.nr, sizeof(q.v[0]), kv_compare);
	for (i = 0; i < q.nr; i++) {
		if (i > 0 && strcmp(q.v[i].key, q.v[i - 1].key) == 0)
			base_str_printf(s, ",%s", q.v[i].value);
		else
			base_str_printf(s, "\n%s:%s", q.v[i].key, q.v[i].value);
	}
	blobd_kvs_fini(&q);
}

static void string_to_sign(struct base_str *s, struct blobd_req *req)
{
	static const char *const names[] = {
		"Content-Encoding",
		"Content-Language",
		"Content-Length",
		"Content-MD5",
		"Content-Type",
		"Date",
		"If-Modified-Since",
		"If-Match",
		"If-None-Match",
		"If-Unmodified-Since",
		"Range",
	};
	const char *value;
	size_t i;

	base_str_printf(s, "%s\n", req->method);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		value = blobd_req_header(req, names[i]);
		if (value == NULL || (i == 2 && strcmp(value, "0") == 0) ||
			(i == 5 && blobd_req_header(req, "x-ms-date")))
			value = "";
		base_str_printf(s, "%s\n", value);
	}
	add_ms_headers(s, req);
	add_resource(s, req);
}

static bool date_is_near(struct blobd_req *req)
{
	const char *date = blobd_req_header(req, "x-ms-date");
	struct tm tm = { 0 };
	int64_t skew;

	if (date == NULL)
		date = blobd_req_header(req, "Date");
	if (date == NULL ||
		strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return false;
	skew = (int64_t)time(NULL) - (int64_t)timegm(&tm);
	return skew <= SKEW_MAX_S && skew >= -SKEW_MAX_S;
}

static bool check_key(struct blobd_req *req, const char *credentials)
{
	size_t len = strlen(blobd_config.account);
	struct base_str text = BASE_STR_INIT;
	bool ok = false;

	req->auth = BLOBD_AUTH_KEY;
	if (!date_is_near(req))
		return blobd_reply_error(req, 403, "AuthenticationFailed",
			"Request date header too old");
	if (strncmp(credentials, blobd_config.account, len) == 0 &&
		credentials[len] == ':') {
		string_to_sign(&text, req);
		ok = signed_with(&text, credentials + len + 1);
	}
	if (!ok)
		blobd_reply_error(req, 403, "AuthenticationFailed",
			text.data != NULL ? text.data : "unknown account");
	base_str_fini(&text);
	return ok;
}

static bool check_bearer(struct blobd_req *req, const char *given)
{
	char now[sizeof(token.text)];

	req->auth = BLOBD_AUTH_BEARER;
	blobd_auth_token(now, sizeof(now));
	if (now[0] != '\0' && strcmp(now, given) == 0)
		return true;
	blobd_reply_error(req, 401, "InvalidAuthenticationInfo", NULL);
	blobd_reply_header(req, "WWW-Authenticate",
		"Bearer authorization_uri=https://login.microsoftonline.com/"
		"tenant/oauth2/authorize "
		"resource_id=https://storage.azure.com");
	return false;
}

static const char *get(const struct blobd_kvs *q, const char *name)
{
	size_t i;

	for (i = 0; i < q->nr; i++)
		if (strcmp(q->v[i].key, name) == 0)
			return q->v[i].value;
	return "";
}

static void add_fields(struct base_str *s, const struct blobd_kvs *q,
	const char *const *names, size_t nr, const char *between)
{
	size_t i;

	for (i = 0; i < nr; i++)
		base_str_printf(
			s, "%s%s", i > 0 ? between : "", get(q, names[i]));
}

/* Versions from 2020-12-06 on, both kinds. */
static bool sas_signed(
	const struct blobd_kvs *q, const char *container, const char *name)
{
	static const char *const account[] = { "sp", "ss", "srt", "st", "se",
		"sip", "spr", "sv", "ses" };
	static const char *const head[] = { "sp", "st", "se" };
	static const char *const tail[] = { "si", "sip", "spr", "sv", "sr",
		"snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct" };
	struct base_str s = BASE_STR_INIT;
	bool ok;

	if (*get(q, "ss") != '\0') {
		base_str_printf(&s, "%s\n", blobd_config.account);
		add_fields(&s, q, account, 9, "\n");
		base_str_puts(&s, "\n");
	} else {
		add_fields(&s, q, head, 3, "\n");
		base_str_printf(&s, "\n/blob/%s/%s", blobd_config.account,
			container != NULL ? container : "");
		if (strcmp(get(q, "sr"), "b") == 0)
			base_str_printf(&s, "/%s", name ? name : "");
		base_str_puts(&s, "\n");
		add_fields(&s, q, tail, 12, "\n");
	}
	ok = signed_with(&s, get(q, "sig"));
	base_str_fini(&s);
	return ok;
}

/* ISO 8601 in UTC, with or without the time; "" is no limit. */
static bool sas_time(const char *text, int64_t *ret)
{
	static const char *const forms[] = { "%Y-%m-%dT%H:%M:%SZ",
		"%Y-%m-%dT%H:%MZ", "%Y-%m-%d" };
	struct tm tm;
	const char *end;
	size_t i;

	for (i = 0; i < 3; i++) {
		memset(&tm, 0, sizeof(tm));
		end = strptime(text, forms[i], &tm);
		if (end != NULL && *end == '\0') {
			*ret = timegm(&tm);
			return true;
		}
	}
	return false;
}

static bool sas_in_time(const struct blobd_kvs *q)
{
	int64_t now = time(NULL), at;

	if (!sas_time(get(q, "se"), &at) || at <= now)
		return false;
	return *get(q, "st") == '\0' ||
		(sas_time(get(q, "st"), &at) && at <= now);
}

/* Any one of these permissions will do. */
static const char *permissions_for(const struct blobd_req *req)
{
	switch (req->op) {
	case BLOBD_OP_GET:
	case BLOBD_OP_HEAD:
	case BLOBD_OP_BLOCKS:
		return "r";
	case BLOBD_OP_LIST:
		return "l";
	case BLOBD_OP_DELETE:
		return "d";
	case BLOBD_OP_APPEND:
		return "aw";
	case BLOBD_OP_PUT:
	case BLOBD_OP_COPY:
		return "wc";
	case BLOBD_OP_TAGS:
		return "t";
	case BLOBD_OP_CONTAINER:
		return strcmp(req->method, "PUT") == 0	     ? "wc"
			: strcmp(req->method, "DELETE") == 0 ? "d"
							     : "r";
	case BLOBD_OP_ACCOUNT:
		return "rl";
	default:
		return "w";
	}
}

static bool check_sas(struct blobd_req *req)
{
	const struct blobd_kvs *q = &req->params;
	char level = req->name != NULL	      ? 'o'
		: req->op == BLOBD_OP_ACCOUNT ? 's'
					      : 'c';
	bool account = *get(q, "ss") != '\0';

	req->auth = BLOBD_AUTH_SAS;
	if (!sas_signed(q, req->container, req->name))
		return blobd_reply_error(req, 403, "AuthenticationFailed",
			"Signature did not match");
	if (!sas_in_time(q))
		return blobd_reply_error(req, 403, "AuthenticationFailed",
			"Signature not valid in the specified time frame");
	if (account && strchr(get(q, "srt"), level) == NULL)
		return blobd_reply_error(
			req, 403, "AuthorizationResourceTypeMismatch", NULL);
	if (strpbrk(get(q, "sp"), permissions_for(req)) == NULL ||
		(!account && level == 's'))
		return blobd_reply_error(
			req, 403, "AuthorizationPermissionMismatch", NULL);
	return true;
}

bool blobd_auth_source(const char *url, const char *container, const char *name)
{
	struct blobd_kvs q = { NULL, 0 };
	const char *query = strchr(url, '?');
	bool ok;

	if (query == NULL)
		return false;
	blobd_query_split(query + 1, &q);
	ok = *get(&q, "sig") != '\0' && sas_signed(&q, container, name) &&
		sas_in_time(&q) && strchr(get(&q, "sp"), 'r') != NULL;
	blobd_kvs_fini(&q);
	return ok;
}

bool blobd_auth_check(struct blobd_req *req)
{
	const char *auth = blobd_req_header(req, "Authorization");

	if (blobd_config.no_auth || req->op == BLOBD_OP_CONTROL ||
		req->op == BLOBD_OP_TOKEN)
		return true;
	if (auth != NULL && strncmp(auth, "SharedKey ", 10) == 0)
		return check_key(req, auth + 10);
	if (auth != NULL && strncmp(auth, "Bearer ", 7) == 0)
		return check_bearer(req, auth + 7);
	if (auth != NULL)
		return blobd_reply_error(
			req, 400, "InvalidAuthenticationInfo", NULL);
	if (blobd_req_param(req, "sig") != NULL)
		return check_sas(req);
	blobd_reply_error(req, 401, "NoAuthenticationInformation", NULL);
	blobd_reply_header(req, "WWW-Authenticate",
		"Bearer authorization_uri=https://login.microsoftonline.com/"
		"tenant/oauth2/authorize "
		"resource_id=https://storage.azure.com");
	return false;
}
