/*
 * What is stored with a blob, as bytes: see dir_priv.h.
 *
 * Form, little-endian: "fbd1", u32 flags, u64 nonce, content, ino, btime,
 * size, mtime, u32 mode, uid, gid, 16 bytes of MD5, two lists (metadata,
 * headers) of u32 count and then (u32 length, bytes) for each key and value,
 * u64 checksum of all before.  It is read from disk: everything is checked.
 */
#include "blob/dir_priv.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAG_IMPLICIT 1u
#define FLAG_MD5 2u
/* More keys than 8 KiB of them can hold. */
#define KV_MAX 4096

static void add_u32(struct base_str *s, uint32_t value)
{
	value = htole32(value);
	base_str_add(s, &value, sizeof(value));
}

static void add_u64(struct base_str *s, uint64_t value)
{
	value = htole64(value);
	base_str_add(s, &value, sizeof(value));
}

static void add_text(struct base_str *s, const char *text)
{
	add_u32(s, (uint32_t)strlen(text));
	base_str_puts(s, text);
}

static void add_list(struct base_str *s, const struct blob_kv *kv, size_t nr)
{
	add_u32(s, (uint32_t)nr);
	for (size_t i = 0; i < nr; i++) {
		add_text(s, kv[i].key);
		add_text(s, kv[i].value);
	}
}

static uint64_t checksum(const void *buf, size_t len)
{
	const uint8_t *at = buf;
	uint64_t sum = 0xcbf29ce484222325u; /* FNV-1a */

	while (len-- > 0)
		sum = (sum ^ *at++) * 0x100000001b3u;
	return sum;
}

void dir_record_encode(const struct dir_record *rec, struct base_str *ret)
{
	base_str_add(ret, "fbd1", 4);
	add_u32(ret,
		(rec->implicit ? FLAG_IMPLICIT : 0) |
			(rec->has_md5 ? FLAG_MD5 : 0));
	add_u64(ret, rec->nonce);
	add_u64(ret, rec->content);
	add_u64(ret, rec->was.ino);
	add_u64(ret, (uint64_t)rec->was.btime_ns);
	add_u64(ret, rec->was.size);
	add_u64(ret, (uint64_t)rec->was.mtime_ns);
	add_u32(ret, rec->was.mode);
	add_u32(ret, rec->was.uid);
	add_u32(ret, rec->was.gid);
	base_str_add(ret, rec->md5, sizeof(rec->md5));
	add_list(ret, rec->meta, rec->meta_nr);
	add_list(ret, rec->headers, rec->headers_nr);
	add_u64(ret, checksum(ret->data, ret->len));
}

struct cursor {
	const char *at;
	size_t left;
	bool bad;
};

static void take(struct cursor *c, void *ret, size_t len)
{
	if (c->bad || c->left < len) {
		c->bad = true;
		memset(ret, 0, len);
		return;
	}
	memcpy(ret, c->at, len);
	c->at += len;
	c->left -= len;
}

static uint32_t take_u32(struct cursor *c)
{
	uint32_t value;

	take(c, &value, sizeof(value));
	return le32toh(value);
}

static uint64_t take_u64(struct cursor *c)
{
	uint64_t value;

	take(c, &value, sizeof(value));
	return le64toh(value);
}

static char *take_text(struct cursor *c)
{
	uint32_t len = take_u32(c);
	char *text;

	if (c->bad || len > c->left) {
		c->bad = true;
		return base_strdup("");
	}
	text = base_malloc((size_t)len + 1);
	take(c, text, len);
	text[len] = '\0';
	return text;
}

static void take_list(struct cursor *c, struct blob_kv **ret, size_t *ret_nr)
{
	uint32_t nr = take_u32(c);

	if (nr > KV_MAX)
		c->bad = true;
	if (c->bad || nr == 0)
		return;
	*ret = base_calloc(nr, sizeof(**ret));
	*ret_nr = nr;
	for (uint32_t i = 0; i < nr; i++) {
		(*ret)[i].key = take_text(c);
		(*ret)[i].value = take_text(c);
	}
}

int dir_record_decode(const void *buf, size_t len, struct dir_record *ret)
{
	struct cursor c = { buf, len, false };
	char magic[4];
	uint32_t flags;
	uint64_t sum;

	memset(ret, 0, sizeof(*ret));
	if (len < sizeof(sum))
		return -EBADMSG;
	memcpy(&sum, (const char *)buf + len - sizeof(sum), sizeof(sum));
	if (le64toh(sum) != checksum(buf, len - sizeof(sum)))
		return -EBADMSG;
	c.left -= sizeof(sum);
	take(&c, magic, sizeof(magic));
	if (memcmp(magic, "fbd1", 4) != 0)
		return -EBADMSG;
	flags = take_u32(&c);
	ret->implicit = flags & FLAG_IMPLICIT;
	ret->has_md5 = flags & FLAG_MD5;
	ret->nonce = take_u64(&c);
	ret->content = take_u64(&c);
	ret->was.ino = take_u64(&c);
	ret->was.btime_ns = (int64_t)take_u64(&c);
	ret->was.size = take_u64(&c);
	ret->was.mtime_ns = (int64_t)take_u64(&c);
	ret->was.mode = take_u32(&c);
	ret->was.uid = take_u32(&c);
	ret->was.gid = take_u32(&c);
	take(&c, ret->md5, sizeof(ret->md5));
	take_list(&c, &ret->meta, &ret->meta_nr);
	take_list(&c, &ret->headers, &ret->headers_nr);
	if (c.bad || c.left != 0) {
		dir_record_fini(ret);
		return -EBADMSG;
	}
	ret->present = true;
	return 0;
}

void dir_record_fini(struct dir_record *rec)
{
	blob_kv_free(rec->meta, rec->meta_nr);
	blob_kv_free(rec->headers, rec->headers_nr);
	memset(rec, 0, sizeof(*rec));
}
