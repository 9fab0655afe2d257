/*
 * The log of applied mutations: see log.h.
 *
 * A record is numbered when it is added and becomes ready when its hash is
 * known; lines come out in the order of numbers, so a reader waits for records
 * that are still being hashed.
 */
#include "tests/blobd/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

#include "tests/blobd/http.h"

struct blobd_record {
	struct base_str line;	       /* without its end until it is ready */
	struct blobd_content *content; /* to be hashed */
	bool ready;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t more_ready;
	FILE *file;
	uint64_t sha_max_bytes;
	/* under mutex: */
	struct blobd_record **records;
	size_t nr, cap;
	size_t ready_nr; /* all before are ready, and in the file */
} journal = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.more_ready = PTHREAD_COND_INITIALIZER,
};

void blobd_log_open(FILE *file, uint64_t sha_max_bytes)
{
	journal.file = file;
	journal.sha_max_bytes = sha_max_bytes;
}

void blobd_log_close(void)
{
	size_t i;

	for (i = 0; i < journal.nr; i++) {
		base_str_fini(&journal.records[i]->line);
		blobd_content_put(journal.records[i]->content);
		free(journal.records[i]);
	}
	free(journal.records);
	if (journal.file != NULL)
		fclose(journal.file);
}

void blobd_json_string(struct base_str *out, const char *text)
{
	const char *p;

	base_str_putc(out, '"');
	for (p = text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			base_str_putc(out, '\\');
		if ((unsigned char)*p < 0x20)
			base_str_printf(out, "\\u%04x", *p);
		else
			base_str_putc(out, *p);
	}
	base_str_putc(out, '"');
}

void blobd_base64(struct base_str *out, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	unsigned char text[5];
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = len < 3 ? len : 3;
		EVP_EncodeBlock(text, p, (int)n);
		base_str_add(out, text, 4);
	}
}

int blobd_unbase64(const char *text, uint8_t *ret, size_t room)
{
	size_t len = strlen(text), pad = 0;
	uint8_t buf[1024];
	int n;

	if (len == 0 || len % 4 != 0 || len / 4 * 3 > sizeof(buf))
		return -1;
	while (pad < 2 && text[len - 1 - pad] == '=')
		pad++;
	if (strspn(text,
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "abcdefghijklmnopqrstuvwxyz0123456789+/") != len - pad)
		return -1;
	n = EVP_DecodeBlock(buf, (const unsigned char *)text, (int)len);
	if (n < 0 || (size_t)n - pad > room)
		return -1;
	memcpy(ret, buf, (size_t)n - pad);
	return n - (int)pad;
}

static void add_text(struct base_str *s, const char *key, const char *value)
{
	base_str_printf(s, ",\"%s\":", key);
	if (value == NULL)
		base_str_puts(s, "null");
	else
		blobd_json_string(s, value);
}

static void add_etag(struct base_str *s, const char *key, uint64_t etag)
{
	char text[BLOBD_ETAG_BYTES];

	blobd_etag_text(etag, text);
	add_text(s, key, etag != 0 ? text : NULL);
}

static void add_after(struct base_str *s, const struct blobd_blob *b)
{
	struct base_str md5 = BASE_STR_INIT;
	size_t i;

	if (b->props->has_md5)
		blobd_base64(&md5, b->props->md5, 16);
	add_text(s, "md5", md5.data);
	base_str_fini(&md5);
	base_str_printf(s, ",\"blocks\":%zu", b->blocks ? b->blocks->nr : 0);
	base_str_puts(s, ",\"metadata\":{");
	for (i = 0; i < b->props->meta.nr; i++) {
		base_str_puts(s, i > 0 ? "," : "");
		blobd_json_string(s, b->props->meta.v[i].key);
		base_str_putc(s, ':');
		blobd_json_string(s, b->props->meta.v[i].value);
	}
	base_str_puts(s, "}");
}

struct blobd_record *blobd_log_add(const struct blobd_req *req, const char *op,
	const char *container, const char *name, uint64_t etag_before,
	const struct blobd_blob *after, uint64_t size, const char *detail)
{
	struct blobd_record *r = base_calloc(1, sizeof(*r));
	struct blobd_req *q = (struct blobd_req *)req;
	struct base_str *s = &r->line;
	uint64_t seq;

	pthread_mutex_lock(&journal.mutex);
	if (journal.nr == journal.cap) {
		journal.cap = journal.cap ? journal.cap * 2 : 256;
		journal.records = base_realloc(journal.records,
			journal.cap * sizeof(*journal.records));
	}
	journal.records[journal.nr++] = r;
	seq = journal.nr;
	pthread_mutex_unlock(&journal.mutex);

	base_str_printf(s, "{\"seq\":%llu,\"time\":%lld,\"op\":\"%s\"",
		(unsigned long long)seq, (long long)blobd_now_ns(), op);
	add_text(s, "container", container);
	add_text(s, "name", name);
	add_text(s, "if_match", q ? blobd_req_header(q, "If-Match") : NULL);
	add_text(s, "if_none_match",
		q ? blobd_req_header(q, "If-None-Match") : NULL);
	add_etag(s, "etag_before", etag_before);
	add_etag(s, "etag", after && after->committed ? after->etag : 0);
	base_str_printf(s, ",\"size\":%llu", (unsigned long long)size);
	if (detail != NULL)
		add_text(s, "detail", detail);
	if (after != NULL && after->committed) {
		add_after(s, after);
		if (after->content->size <= journal.sha_max_bytes)
			r->content = blobd_content_get(after->content);
	}
	return r;
}

static void add_sha256(struct base_str *s, const struct blobd_content *c)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t room = c->size < 262144 ? c->size : 262144, n;
	uint8_t *buf = base_malloc(room), sum[32];
	uint64_t off;
	int i;

	EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
	for (off = 0; off < c->size; off += n) {
		n = c->size - off < room ? c->size - off : room;
		blobd_content_read(c, off, buf, n);
		EVP_DigestUpdate(ctx, buf, n);
	}
	EVP_DigestFinal_ex(ctx, sum, NULL);
	EVP_MD_CTX_free(ctx);
	free(buf);
	base_str_puts(s, ",\"sha256\":\"");
	for (i = 0; i < 32; i++)
		base_str_printf(s, "%02x", sum[i]);
	base_str_putc(s, '"');
}

void blobd_log_finish(struct blobd_record *r)
{
	struct blobd_record *ready;
	size_t before;

	if (r->content != NULL)
		add_sha256(&r->line, r->content);
	base_str_puts(&r->line, "}\n");
	pthread_mutex_lock(&journal.mutex);
	blobd_content_put(r->content);
	r->content = NULL;
	r->ready = true;
	before = journal.ready_nr;
	while (journal.ready_nr < journal.nr &&
		journal.records[journal.ready_nr]->ready) {
		ready = journal.records[journal.ready_nr++];
		if (journal.file != NULL)
			fwrite(ready->line.data, 1, ready->line.len,
				journal.file);
	}
	if (journal.file != NULL && journal.ready_nr > before)
		fflush(journal.file);
	pthread_cond_broadcast(&journal.more_ready);
	pthread_mutex_unlock(&journal.mutex);
}

void blobd_log_print(struct base_str *out, uint64_t from)
{
	size_t i, end;

	pthread_mutex_lock(&journal.mutex);
	end = journal.nr;
	while (journal.ready_nr < end)
		pthread_cond_wait(&journal.more_ready, &journal.mutex);
	for (i = from > 0 ? from - 1 : 0; i < end; i++)
		base_str_add(out, journal.records[i]->line.data,
			journal.records[i]->line.len);
	pthread_mutex_unlock(&journal.mutex);
}
