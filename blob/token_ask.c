/*
 * Asking for a token: see token_ask.h.
 *
 * Strings that hold a secret are given their room at once, so that growing
 * leaves no copies behind, and are wiped.
 */
#include "blob/token_ask.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <jansson.h>

#define RESOURCE "resource=https%3A%2F%2Fstorage.azure.com%2F"
#define SCOPE "scope=https%3A%2F%2Fstorage.azure.com%2F.default"
#define ASSERTION_TYPE                   \
	"urn%3Aietf%3Aparams%3Aoauth%3A" \
	"client-assertion-type%3Ajwt-bearer"

#define SECRET_ROOM 16384 /* more than any token we have seen */
#define SECRET_FILE_BYTES_MAX 65536
#define ARC_FILE_BYTES_MAX 4096 /* the protocol's limit */

/* IMDS answers from the host itself: it is there within a second, or not. */
#define LOCAL_CONNECT_MS 1000
#define LOCAL_TIMEOUT_MS 10000
#define ENTRA_CONNECT_MS 5000
#define ENTRA_TIMEOUT_MS 15000

#define LIFETIME_UNKNOWN_S 300
#define LIFETIME_MAX_S (7 * 24 * 3600)

static void secret_init(struct base_str *s)
{
	static const char zeroes[SECRET_ROOM];

	*s = (struct base_str)BASE_STR_INIT;
	base_str_add(s, zeroes, sizeof(zeroes));
	base_str_clear(s);
}

static void secret_fini(struct base_str *s)
{
	if (s->data != NULL)
		explicit_bzero(s->data, s->cap);
	base_str_fini(s);
}

void blob_token_answer_fini(struct blob_token_answer *answer)
{
	if (answer->bearer != NULL)
		explicit_bzero(answer->bearer, strlen(answer->bearer));
	free(answer->bearer);
	answer->bearer = NULL;
}

static void answer_err(struct blob_token_answer *ret, int err, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));
static void answer_err(
	struct blob_token_answer *ret, int err, const char *fmt, ...)
{
	va_list ap;

	ret->err = err;
	va_start(ap, fmt);
	vsnprintf(ret->why, sizeof(ret->why), fmt, ap);
	va_end(ap);
}

/* ---- the request ---- */

static void put_escaped(struct base_str *s, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (isalnum(c) || strchr("-._~", c)) {
			base_str_putc(s, *text);
		} else {
			base_str_putc(s, '%');
			base_str_putc(s, digits[c >> 4]);
			base_str_putc(s, digits[c & 15]);
		}
	}
}

static void put_param(struct base_str *s, const char *name, const char *value)
{
	base_str_puts(s, name);
	put_escaped(s, value);
}

/* A small file without its trailing white space. */
static int read_secret_file(
	const char *path, size_t bytes_max, struct base_str *ret)
{
	char buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, buf, sizeof(buf));
		if (n > 0)
			base_str_add(ret, buf, (size_t)n);
	} while ((n > 0 && ret->len <= bytes_max) || (n < 0 && errno == EINTR));
	explicit_bzero(buf, sizeof(buf));
	n = n < 0 ? -errno : 0;
	close(fd);
	if (n == 0 && (ret->len > bytes_max || ret->len == 0))
		n = -EINVAL;
	while (ret->len > 0 && isspace((unsigned char)ret->data[ret->len - 1]))
		ret->data[--ret->len] = '\0';
	return (int)n;
}

/* URL, and for Entra ID the form. */
static int put_request(const struct blob_token_source *s, struct base_str *url,
	struct base_str *body)
{
	struct base_str file;
	size_t len;
	int err = 0;

	switch (s->kind) {
	case BLOB_TOKEN_IMDS:
	case BLOB_TOKEN_APP_SERVICE:
	case BLOB_TOKEN_ARC:
		for (len = strlen(s->endpoint);
			len > 0 && s->endpoint[len - 1] == '/'; len--)
			;
		base_str_add(url, s->endpoint, len);
		if (s->kind == BLOB_TOKEN_IMDS)
			base_str_puts(url,
				"/metadata/identity/oauth2/token"
				"?api-version=2018-02-01&");
		else if (s->kind == BLOB_TOKEN_ARC)
			base_str_puts(url, "?api-version=2019-11-01&");
		else
			base_str_puts(url, "?api-version=2019-08-01&");
		base_str_puts(url, RESOURCE);
		if (s->client_id != NULL)
			put_param(url, "&client_id=", s->client_id);
		return 0;
	case BLOB_TOKEN_CLIENT_SECRET:
	case BLOB_TOKEN_WORKLOAD:
		break;
	}
	base_str_printf(
		url, "%s/%s/oauth2/v2.0/token", s->authority, s->tenant_id);
	base_str_puts(body, "grant_type=client_credentials&" SCOPE);
	put_param(body, "&client_id=", s->client_id);
	if (s->kind == BLOB_TOKEN_CLIENT_SECRET) {
		put_param(body, "&client_secret=", s->client_secret);
		return 0;
	}
	base_str_puts(body, "&client_assertion_type=" ASSERTION_TYPE);
	secret_init(&file);
	err = read_secret_file(s->federated_file, SECRET_FILE_BYTES_MAX, &file);
	if (err == 0)
		put_param(body, "&client_assertion=", file.data);
	secret_fini(&file);
	return err;
}

static bool is_entra(const struct blob_token_source *s)
{
	return s->kind == BLOB_TOKEN_CLIENT_SECRET ||
		s->kind == BLOB_TOKEN_WORKLOAD;
}

static size_t put_headers(
	const struct blob_token_source *s, struct blob_kv headers[2])
{
	if (is_entra(s)) {
		headers[0] = (struct blob_kv){ (char *)"content-type",
			(char *)"application/x-www-form-urlencoded" };
		headers[1] = (struct blob_kv){ (char *)"accept",
			(char *)"application/json" };
		return 2;
	}
	if (s->kind == BLOB_TOKEN_APP_SERVICE)
		headers[0] = (struct blob_kv){ (char *)"x-identity-header",
			(char *)s->header };
	else
		headers[0] =
			(struct blob_kv){ (char *)"metadata", (char *)"true" };
	return 1;
}

/* ---- the answer ---- */

/* A number, or a string of digits: both are in use. */
static int64_t number(const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);
	const char *text;
	char *end;
	long long n;

	if (json_is_integer(v))
		return json_integer_value(v);
	if (json_is_real(v) && json_real_value(v) > 0 &&
		json_real_value(v) < 1e15)
		return (int64_t)json_real_value(v);
	text = json_string_value(v);
	if (text == NULL || !isdigit((unsigned char)*text))
		return 0;
	errno = 0;
	n = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' ? n : 0;
}

/* A bearer goes into a header: nothing that would break out of it. */
static bool is_bearer(const char *text)
{
	if (text == NULL || *text == '\0')
		return false;
	for (; *text != '\0'; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

static void take_times(
	const json_t *object, int64_t wall_s, struct blob_token_answer *ret)
{
	int64_t in = number(object, "expires_in");
	int64_t on = number(object, "expires_on");

	if (in <= 0 && on > wall_s)
		in = on - wall_s;
	if (in <= 0)
		in = LIFETIME_UNKNOWN_S;
	ret->lifetime_s = in < LIFETIME_MAX_S ? in : LIFETIME_MAX_S;
	ret->refresh_s = number(object, "refresh_in");
	if (ret->refresh_s < 0 || ret->refresh_s >= ret->lifetime_s)
		ret->refresh_s = 0;
}

static void take_token(const struct base_str *reply, int64_t wall_s,
	struct blob_token_answer *ret)
{
	json_t *object =
		json_loadb(reply->data ? reply->data : "", reply->len, 0, NULL);
	json_t *token = json_object_get(object, "access_token");
	const char *text = json_string_value(token);

	if (is_bearer(text)) {
		ret->bearer = base_strdup(text);
		take_times(object, wall_s, ret);
	} else {
		answer_err(ret, -EIO,
			"the identity endpoint's answer has no access_token");
	}
	/* jansson has no wipe: do it in its own buffer. */
	if (text != NULL)
		explicit_bzero((char *)text, json_string_length(token));
	json_decref(object);
}

/* Its own words for a refusal: the first line, printable, cut. */
static void refusal(const struct base_str *reply, char *ret, size_t bytes)
{
	json_t *object =
		json_loadb(reply->data ? reply->data : "", reply->len, 0, NULL);
	const char *text =
		json_string_value(json_object_get(object, "error_description"));
	size_t n = 0;

	if (text == NULL)
		text = json_string_value(json_object_get(object, "error"));
	for (; text != NULL && text[n] >= ' ' && n + 1 < bytes; n++)
		ret[n] = text[n] <= '~' ? text[n] : '?';
	ret[n] = '\0';
	json_decref(object);
}

static bool is_transient(const struct blob_token_source *s, int status)
{
	/* IMDS says 404 and 410 while it is being updated. */
	if (s->kind == BLOB_TOKEN_IMDS && (status == 404 || status == 410))
		return true;
	return status == 408 || status == 429 || status >= 500;
}

static void judge(const struct blob_token_source *s,
	const struct blob_token_http *h, int64_t wall_s,
	struct blob_token_answer *ret)
{
	char said[160];

	if (h->err != 0) {
		ret->unreachable = true;
		answer_err(ret, -EIO,
			"the identity endpoint cannot be "
			"reached: %s",
			strerror(-h->err));
	} else if (h->status == 200) {
		take_token(&h->reply, wall_s, ret);
	} else if (is_transient(s, h->status)) {
		ret->retry_after_ms = h->retry_after_ms;
		answer_err(ret, -EIO, "the identity endpoint answers %d",
			h->status);
	} else {
		refusal(&h->reply, said, sizeof(said));
		answer_err(ret, -EACCES,
			"the identity endpoint refuses us: %d%s%s", h->status,
			*said ? ", " : "", said);
	}
}

/* ---- Azure Arc ---- */

/* The file that a challenge names ("Basic realm=PATH"), if it is one of the
 * agent's: in its directory, *.key. */
static int arc_file(const char *challenge, const char *dir, char *ret)
{
	static const char start[] = "Basic realm=";
	size_t dir_len = strlen(dir), len;

	if (challenge == NULL ||
		strncasecmp(challenge, start, sizeof(start) - 1) != 0)
		return -EINVAL;
	challenge += sizeof(start) - 1;
	challenge += *challenge == '"';
	len = strcspn(challenge, "\"\r\n, ");
	if (len >= PATH_MAX || len < dir_len + 4 ||
		memcmp(challenge, dir, dir_len) != 0 ||
		memchr(challenge + dir_len, '/', len - dir_len) != NULL ||
		memcmp(challenge + len - 4, ".key", 4) != 0)
		return -EINVAL;
	memcpy(ret, challenge, len);
	ret[len] = '\0';
	return 0;
}

/* Sends again with the key that the challenge asks for. */
static void answer_challenge(blob_token_http_fn http, void *arg,
	const char *arc_dir, struct blob_token_http *h,
	struct blob_token_answer *ret)
{
	struct base_str key;
	char path[PATH_MAX];
	struct blob_kv headers[2] = { h->headers[0] };
	int err;

	secret_init(&key);
	base_str_puts(&key, "Basic ");
	err = arc_file(h->www_authenticate.data, arc_dir, path);
	if (err == 0)
		err = read_secret_file(
			path, ARC_FILE_BYTES_MAX + strlen("Basic "), &key);
	if (err < 0) {
		answer_err(ret, -EACCES,
			"Azure Arc's challenge names no key file that we may "
			"read (be root, or in group himds): %s",
			strerror(-err));
	} else {
		headers[1] =
			(struct blob_kv){ (char *)"authorization", key.data };
		h->headers = headers;
		h->headers_nr = 2;
		h->err = h->status = 0;
		h->retry_after_ms = 0;
		base_str_clear(&h->reply);
		base_str_clear(&h->www_authenticate);
		http(arg, h);
		h->headers = NULL;
		h->headers_nr = 0;
	}
	secret_fini(&key);
}

void blob_token_ask(const struct blob_token_source *source,
	blob_token_http_fn http, void *arg, const char *arc_dir, int64_t wall_s,
	struct blob_token_answer *ret)
{
	struct base_str url = BASE_STR_INIT, body;
	struct blob_kv headers[2];
	struct blob_token_http h = {
		.method = is_entra(source) ? "POST" : "GET",
		.headers = headers,
		.headers_nr = put_headers(source, headers),
		.no_proxy = !is_entra(source),
		.connect_timeout_ms =
			is_entra(source) ? ENTRA_CONNECT_MS : LOCAL_CONNECT_MS,
		.timeout_ms =
			is_entra(source) ? ENTRA_TIMEOUT_MS : LOCAL_TIMEOUT_MS,
	};
	int err;

	memset(ret, 0, sizeof(*ret));
	secret_init(&h.reply);
	secret_init(&body);
	err = put_request(source, &url, &body);
	if (err < 0) {
		answer_err(ret, -EIO, "cannot read the federated token %s: %s",
			source->federated_file, strerror(-err));
		goto out;
	}
	h.url = url.data;
	h.body = is_entra(source) ? body.data : NULL;
	http(arg, &h);
	if (source->kind == BLOB_TOKEN_ARC && h.err == 0 && h.status == 401)
		answer_challenge(http, arg, arc_dir, &h, ret);
	if (ret->err == 0)
		judge(source, &h, wall_s, ret);
out:
	secret_fini(&body);
	secret_fini(&h.reply);
	base_str_fini(&h.www_authenticate);
	base_str_fini(&url);
}
