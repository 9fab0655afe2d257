/*
 * Credentials: see creds.h.
 *
 * All strings lie in one arena: a mapping that begins with the struct itself,
 * is locked and not dumped, and is wiped as a whole.  The file is read
 * straight into it (creds_read.c), so that no buffer of ours ever holds a
 * secret elsewhere.
 */
#include "blob/creds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "base/base64.h"
#include "blob/creds_read.h"

/* Azurite's and the old emulator's account: known to everybody. */
#define DEV_ACCOUNT "devstoreaccount1"
#define DEV_KEY                                        \
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6" \
	"IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#define DEV_ENDPOINT "http://127.0.0.1:10000/" DEV_ACCOUNT

struct blob_creds {
	enum blob_auth_kind kind;
	const char *account;
	const char *endpoint;
	const char *sas;
	const void *key;
	size_t key_bytes;
	struct blob_token_source token;
};

/* No value of ours has a blank or a control character in it. */
static bool is_clean(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s <= ' ' || *s > '~')
			return false;
	return true;
}

static int set_key(struct blob_creds_read *r, const char *text, size_t len,
	const char *name)
{
	struct blob_creds *c = r->creds;
	char *buf = blob_creds_alloc(r, len);

	if (buf == NULL)
		return blob_creds_too_large(r);
	if (base_base64_decode_buf(
		    BASE_BASE64, text, len, buf, len, &c->key_bytes) < 0 ||
		c->key_bytes == 0)
		return blob_creds_fail(r, -EINVAL,
			"%s: %s is not an account key (base64): copy it again",
			blob_creds_origin(r), name);
	c->key = buf;
	c->kind = BLOB_AUTH_SHARED_KEY;
	return 0;
}

/* Has the query a parameter `name`=something? */
static bool has_param(const char *query, const char *name)
{
	size_t len = strlen(name);

	for (; query != NULL; query = strchr(query, '&')) {
		query += *query == '&';
		if (strncmp(query, name, len) == 0 && query[len] == '=' &&
			query[len + 1] != '\0' && query[len + 1] != '&')
			return true;
	}
	return false;
}

static int set_sas(struct blob_creds_read *r, const char *text, size_t len,
	const char *name)
{
	int err;

	while (len > 0 && (*text == '?' || *text == '&')) {
		text++;
		len--;
	}
	err = blob_creds_join(r, &r->creds->sas, text, len, "", "");
	if (err < 0)
		return err;
	if (!is_clean(r->creds->sas) || strchr(r->creds->sas, '#') ||
		!has_param(r->creds->sas, "sig"))
		return blob_creds_fail(r, -EINVAL,
			"%s: %s is not a SAS token (sv=...&sig=...): copy it "
			"again",
			blob_creds_origin(r), name);
	r->creds->kind = BLOB_AUTH_SAS;
	return 0;
}

/* One field of a connection string: a piece of it. */
struct field {
	const char *text;
	size_t len;
};

static struct field find_field(const char *connection, const char *name)
{
	size_t name_len = strlen(name);
	struct field none = { NULL, 0 };

	for (const char *p = connection; *p != '\0';) {
		size_t len = strcspn(p, ";");
		struct field f = { p + name_len + 1, len - name_len - 1 };

		if (len > name_len + 1 && p[name_len] == '=' &&
			strncasecmp(p, name, name_len) == 0)
			return f;
		p += len;
		p += *p == ';';
	}
	return none;
}

static int put_field(
	struct blob_creds_read *r, const char **ret, struct field f)
{
	return f.text ? blob_creds_join(r, ret, f.text, f.len, "", "") : 0;
}

static int set_endpoint(struct blob_creds_read *r, const char *connection)
{
	struct field f = find_field(connection, "BlobEndpoint");
	const char *protocol = "https", *suffix = "core.windows.net";
	char mid[128];
	int err;

	while (f.len > 0 && f.text[f.len - 1] == '/')
		f.len--;
	if (f.text != NULL)
		return put_field(r, &r->creds->endpoint, f);
	if (r->creds->account == NULL)
		return 0;
	err = put_field(r, &protocol,
		find_field(connection, "DefaultEndpointsProtocol"));
	if (err == 0)
		err = put_field(
			r, &suffix, find_field(connection, "EndpointSuffix"));
	if (err < 0)
		return err;
	if (snprintf(mid, sizeof(mid), "://%s.blob.", r->creds->account) >=
		(int)sizeof(mid))
		return blob_creds_fail(r, -EINVAL,
			"%s: AccountName is too long", blob_creds_origin(r));
	return blob_creds_join(r, &r->creds->endpoint, protocol,
		strlen(protocol), mid, suffix);
}

static int use_connection(struct blob_creds_read *r, const char *connection)
{
	const char *name = blob_creds_var_name(VAR_CONNECTION);
	struct field dev = find_field(connection, "UseDevelopmentStorage");
	struct field account = find_field(connection, "AccountName");
	struct field key = find_field(connection, "AccountKey");
	struct field sas = find_field(connection, "SharedAccessSignature");
	int err;

	if (dev.len == 4 && strncasecmp(dev.text, "true", 4) == 0) {
		r->creds->account = DEV_ACCOUNT;
		r->creds->endpoint = DEV_ENDPOINT;
		return set_key(r, DEV_KEY, strlen(DEV_KEY), name);
	}
	err = put_field(r, &r->creds->account, account);
	if (err == 0)
		err = set_endpoint(r, connection);
	if (err < 0)
		return err;
	if (r->creds->endpoint && !is_clean(r->creds->endpoint))
		return blob_creds_fail(r, -EINVAL,
			"%s: %s: the endpoint makes no sense",
			blob_creds_origin(r), name);
	if (key.text != NULL)
		return set_key(r, key.text, key.len, name);
	if (sas.text != NULL)
		return set_sas(r, sas.text, sas.len, name);
	return blob_creds_fail(r, -EINVAL,
		"%s: %s holds neither AccountKey nor SharedAccessSignature",
		blob_creds_origin(r), name);
}

/* A host that secrets are sent to: https, or this machine. */
static bool is_trusted_url(const char *url)
{
	static const char *const local[] = { "http://127.0.0.1",
		"http://localhost", "http://[::1]" };

	if (!is_clean(url) || strpbrk(url, "?#@") != NULL)
		return false;
	if (strncasecmp(url, "https://", 8) == 0)
		return url[8] != '\0' && url[8] != '/';
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		size_t len = strlen(local[i]);

		if (strncasecmp(url, local[i], len) == 0 &&
			(url[len] == '\0' || url[len] == ':' ||
				url[len] == '/'))
			return true;
	}
	return false;
}

static int set_authority(struct blob_creds_read *r)
{
	const char *v = r->vars[VAR_AUTHORITY];
	struct blob_token_source *t = &r->creds->token;
	size_t len;
	int err;

	if (v == NULL)
		v = "https://login.microsoftonline.com";
	for (len = strlen(v); len > 0 && v[len - 1] == '/'; len--)
		;
	err = blob_creds_join(r, &t->authority, v, len, "", "");
	if (err == 0 && strstr(v, "://") == NULL)
		err = blob_creds_join(
			r, &t->authority, "https://", 8, t->authority, "");
	if (err == 0 && !is_trusted_url(t->authority))
		err = blob_creds_fail(r, -EINVAL,
			"%s: %s must be an https:// URL", blob_creds_origin(r),
			blob_creds_var_name(VAR_AUTHORITY));
	return err;
}

/* Client secret and workload identity: both ask Entra ID. */
static int use_entra(struct blob_creds_read *r, enum blob_token_kind kind,
	enum blob_creds_var what)
{
	struct blob_token_source *t = &r->creds->token;

	if (r->vars[VAR_CLIENT_ID] == NULL || r->vars[VAR_TENANT_ID] == NULL)
		return blob_creds_fail(r, -EINVAL, "%s: %s needs %s too",
			blob_creds_origin(r), blob_creds_var_name(what),
			blob_creds_var_name(r->vars[VAR_CLIENT_ID]
					? VAR_TENANT_ID
					: VAR_CLIENT_ID));
	if (strspn(r->vars[VAR_TENANT_ID],
		    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "0123456789.-") != strlen(r->vars[VAR_TENANT_ID]))
		return blob_creds_fail(r, -EINVAL,
			"%s: %s is not a tenant's id or domain",
			blob_creds_origin(r),
			blob_creds_var_name(VAR_TENANT_ID));
	t->kind = kind;
	t->asked_for = true;
	t->tenant_id = r->vars[VAR_TENANT_ID];
	t->client_secret = r->vars[VAR_CLIENT_SECRET];
	t->federated_file = r->vars[VAR_FEDERATED_FILE];
	return set_authority(r);
}

static int use_managed(struct blob_creds_read *r)
{
	struct blob_token_source *t = &r->creds->token;
	const char *endpoint = r->vars[VAR_IDENTITY_ENDPOINT];

	t->kind = BLOB_TOKEN_IMDS;
	if (endpoint != NULL && r->vars[VAR_IDENTITY_HEADER] != NULL) {
		t->kind = BLOB_TOKEN_APP_SERVICE;
		t->header = r->vars[VAR_IDENTITY_HEADER];
	} else if (endpoint != NULL && r->vars[VAR_IMDS_ENDPOINT] != NULL) {
		t->kind = BLOB_TOKEN_ARC;
	} else {
		endpoint = r->vars[VAR_POD_AUTHORITY];
	}
	if (endpoint == NULL)
		endpoint = "http://169.254.169.254";
	if (!is_clean(endpoint) || strncasecmp(endpoint, "http", 4) != 0 ||
		strchr(endpoint, '?') || (t->header && !is_clean(t->header)))
		return blob_creds_fail(r, -EINVAL,
			"%s: the endpoint of managed identity makes no sense",
			blob_creds_origin(r));
	t->asked_for = r->file != NULL || r->vars[VAR_CLIENT_ID] != NULL ||
		t->kind != BLOB_TOKEN_IMDS;
	t->endpoint = endpoint;
	return 0;
}

static int choose(struct blob_creds_read *r)
{
	const char *const *v = r->vars;

	r->creds->account = v[VAR_ACCOUNT];
	if (v[VAR_CONNECTION] != NULL)
		return use_connection(r, v[VAR_CONNECTION]);
	if (v[VAR_KEY] != NULL)
		return set_key(r, v[VAR_KEY], strlen(v[VAR_KEY]),
			blob_creds_var_name(VAR_KEY));
	if (v[VAR_SAS] != NULL)
		return set_sas(r, v[VAR_SAS], strlen(v[VAR_SAS]),
			blob_creds_var_name(VAR_SAS));
	r->creds->kind = BLOB_AUTH_TOKEN;
	r->creds->token.client_id = v[VAR_CLIENT_ID];
	if (v[VAR_CLIENT_SECRET] != NULL)
		return use_entra(
			r, BLOB_TOKEN_CLIENT_SECRET, VAR_CLIENT_SECRET);
	if (v[VAR_FEDERATED_FILE] != NULL)
		return use_entra(r, BLOB_TOKEN_WORKLOAD, VAR_FEDERATED_FILE);
	return use_managed(r);
}

int blob_creds_load(const char *file_or_null, struct blob_creds **ret,
	char *why, size_t why_bytes)
{
	struct blob_creds_read r = {
		.file = file_or_null, .why = why, .why_bytes = why_bytes
	};
	int err;

	r.creds = mmap(NULL, BLOB_CREDS_ARENA_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r.creds == MAP_FAILED)
		return blob_creds_fail(&r, -errno,
			"no memory for credentials: %s", strerror(errno));
	/* Best effort: RLIMIT_MEMLOCK may be small. */
	(void)mlock(r.creds, BLOB_CREDS_ARENA_BYTES);
	(void)madvise(r.creds, BLOB_CREDS_ARENA_BYTES, MADV_DONTDUMP);
	r.used = sizeof(*r.creds);
	err = blob_creds_read(&r);
	if (err == 0)
		err = choose(&r);
	if (err == 0 && r.creds->account && !is_clean(r.creds->account))
		err = blob_creds_fail(&r, -EINVAL,
			"%s: the account's name makes no sense",
			blob_creds_origin(&r));
	if (err < 0)
		blob_creds_free(r.creds);
	else
		*ret = r.creds;
	return err;
}

void blob_creds_free(struct blob_creds *creds)
{
	if (creds == NULL)
		return;
	explicit_bzero(creds, BLOB_CREDS_ARENA_BYTES);
	munmap(creds, BLOB_CREDS_ARENA_BYTES);
}

enum blob_auth_kind blob_creds_kind(const struct blob_creds *creds)
{
	return creds->kind;
}

const char *blob_creds_account(const struct blob_creds *creds)
{
	return creds->account;
}

const char *blob_creds_endpoint(const struct blob_creds *creds)
{
	return creds->endpoint;
}

const char *blob_creds_sas(const struct blob_creds *creds)
{
	return creds->sas;
}

const void *blob_creds_key(const struct blob_creds *creds, size_t *ret_bytes)
{
	*ret_bytes = creds->key_bytes;
	return creds->key;
}

const struct blob_token_source *blob_creds_token(const struct blob_creds *creds)
{
	return creds->kind == BLOB_AUTH_TOKEN ? &creds->token : NULL;
}
