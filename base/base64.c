/* Base64: see base64.h. */
#include "base/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

static char digit(enum base_base64_kind kind, unsigned v)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789";

	if (v < 62)
		return digits[v];
	if (kind == BASE_BASE64)
		return v == 62 ? '+' : '/';
	return v == 62 ? '-' : '_';
}

/* The value of a digit, or -1. */
static int value(enum base_base64_kind kind, char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (kind == BASE_BASE64 ? '+' : '-'))
		return 62;
	if (c == (kind == BASE_BASE64 ? '/' : '_'))
		return 63;
	return -1;
}

static void encode(enum base_base64_kind kind, const uint8_t *buf, size_t len,
	struct base_str *ret)
{
	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t bits = (uint32_t)buf[i] << 16;

		if (n > 1)
			bits |= (uint32_t)buf[i + 1] << 8;
		if (n > 2)
			bits |= buf[i + 2];
		for (size_t k = 0; k < 4; k++) {
			unsigned v = bits >> (18 - 6 * k) & 63;

			if (k <= n)
				base_str_putc(ret, digit(kind, v));
			else if (kind == BASE_BASE64)
				base_str_putc(ret, '=');
		}
	}
}

/* Takes off the padding, which must be exactly what belongs there. */
static int unpad(enum base_base64_kind kind, const char *text, size_t *len)
{
	size_t n = *len;

	if (kind == BASE_BASE64) {
		if (n % 4 != 0)
			return -EINVAL;
		for (int i = 0; i < 2 && n > 0 && text[n - 1] == '='; i++)
			n--;
	}
	*len = n;
	return n % 4 == 1 ? -EINVAL : 0;
}

int base_base64_decode_buf(enum base_base64_kind kind, const char *text,
	size_t len, void *buf, size_t cap, size_t *ret_len)
{
	uint8_t *out = buf;
	size_t nr = 0;
	uint32_t bits = 0;
	unsigned have = 0;

	if (unpad(kind, text, &len) < 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int v = value(kind, text[i]);

		if (v < 0)
			return -EINVAL;
		bits = (bits << 6 | (uint32_t)v) & 0xffff;
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		if (nr == cap)
			return -ENOSPC;
		out[nr++] = (uint8_t)(bits >> have);
	}
	if (bits & ((1U << have) - 1))
		return -EINVAL; /* another spelling of the same bytes */
	*ret_len = nr;
	return 0;
}

static int decode(enum base_base64_kind kind, const char *text, size_t len,
	struct base_str *ret)
{
	size_t cap = len / 4 * 3 + 3, nr;
	void *buf = base_malloc(cap);
	int err = base_base64_decode_buf(kind, text, len, buf, cap, &nr);

	if (err == 0)
		base_str_add(ret, buf, nr);
	free(buf);
	return err;
}

void base_base64_encode(const void *buf, size_t len, struct base_str *ret)
{
	encode(BASE_BASE64, buf, len, ret);
}

int base_base64_decode(const char *text, size_t len, struct base_str *ret)
{
	return decode(BASE_BASE64, text, len, ret);
}

void base_base64url_encode(const void *buf, size_t len, struct base_str *ret)
{
	encode(BASE_BASE64_URL, buf, len, ret);
}

int base_base64url_decode(const char *text, size_t len, struct base_str *ret)
{
	return decode(BASE_BASE64_URL, text, len, ret);
}
