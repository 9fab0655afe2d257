/*
 * A blocking request, for tokens, and what it shares with the others: see
 * http.h.  Runs on its caller's thread.
 */
#include "blob/http_impl.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

void blob_http_set_common(struct blob_http *http, CURL *easy, bool no_proxy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "forebay");
	if (http->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
	if (http->ca_dir != NULL)
		curl_easy_setopt(easy, CURLOPT_CAPATH, http->ca_dir);
	/* Otherwise curl reads the environment's proxies by itself. */
	if (no_proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

struct curl_slist *blob_http_list_new(const struct blob_kv *kv, size_t nr)
{
	struct curl_slist *list = NULL, *longer;
	struct base_str line = BASE_STR_INIT;
	size_t i;

	for (i = 0; i <= nr; i++) {
		base_str_clear(&line);
		if (i == nr) /* or curl waits for a 100 it may never get */
			base_str_puts(&line, "Expect:");
		else if (kv[i].value[0] == '\0') /* how curl wants it empty */
			base_str_printf(&line, "%s;", kv[i].key);
		else
			base_str_printf(
				&line, "%s: %s", kv[i].key, kv[i].value);
		longer = curl_slist_append(list, line.data);
		if (longer == NULL)
			abort();
		list = longer;
	}
	explicit_bzero(line.data, line.cap);
	base_str_fini(&line);
	return list;
}

void blob_http_list_free(struct curl_slist *list)
{
	struct curl_slist *l;

	for (l = list; l != NULL; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(list);
}

int blob_http_errno(CURLcode rc)
{
	switch (rc) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CONNECT_ERROR:
		return -EPROTO;
	default:
		return -ECONNRESET;
	}
}

struct blocking {
	struct blob_http *http;
	struct blob_token_http *token;
	struct blob_headers headers;
};

static size_t blocking_header(char *line, size_t size, size_t nr, void *arg)
{
	struct blocking *b = arg;
	size_t len = size * nr;

	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		blob_headers_clear(&b->headers);
	else if (blob_headers_parse(&b->headers, line, len) != 0)
		return 0;
	return len;
}

static size_t blocking_data(char *buf, size_t size, size_t nr, void *arg)
{
	struct blocking *b = arg;
	size_t len = size * nr;

	if (b->token->reply.len + len > BLOB_TOKEN_REPLY_BYTES_MAX)
		return 0;
	base_str_add(&b->token->reply, buf, len);
	return len;
}

static int blocking_progress(void *arg, curl_off_t dl, curl_off_t dl_now,
	curl_off_t ul, curl_off_t ul_now)
{
	struct blocking *b = arg;

	(void)dl;
	(void)dl_now;
	(void)ul;
	(void)ul_now;
	return atomic_load(&b->http->quit) ? 1 : 0;
}

static void set_blocking(
	CURL *easy, struct blocking *b, struct curl_slist *list)
{
	struct blob_token_http *t = b->token;

	blob_http_set_common(b->http, easy, t->no_proxy);
	curl_easy_setopt(easy, CURLOPT_URL, t->url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
	if (t->body != NULL) {
		curl_easy_setopt(
			easy, CURLOPT_POSTFIELDSIZE, (long)strlen(t->body));
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, t->body);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, t->method);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, blocking_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, b);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, blocking_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, b);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, blocking_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, b);
	curl_easy_setopt(
		easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)t->timeout_ms);
}

void blob_http_token(void *arg, struct blob_token_http *token)
{
	struct blocking b = { arg, token, { 0 } };
	struct curl_slist *list;
	const char *challenge;
	sigset_t all, old;
	long status = 0;
	CURLcode rc;
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		abort();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	list = blob_http_list_new(token->headers, token->headers_nr);
	set_blocking(easy, &b, list);
	rc = curl_easy_perform(easy);
	if (rc == CURLE_OK) {
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		token->status = (int)status;
		challenge = blob_headers_get(&b.headers, "www-authenticate");
		if (challenge != NULL)
			base_str_puts(&token->www_authenticate, challenge);
		token->retry_after_ms =
			blob_retry_after_ms(&b.headers, time(NULL));
	} else {
		token->err = blob_http_errno(rc);
		log_debug("token endpoint: %s", curl_easy_strerror(rc));
	}
	curl_easy_cleanup(easy);
	blob_http_list_free(list);
	blob_headers_fini(&b.headers);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
