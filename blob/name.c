/*
 * Names: see name.h.
 *
 * Each component is treated on its own.  Three spellings:
 *
 * 1. Canonical (`spell`, `unspell`): what Linux allows and the service does
 *    not is written as rclone writes it.  A control character, DEL, a
 *    backslash and a last '.' become a picture of themselves (U+2401.., U+2421,
 *    U+FF3C, U+FF0E); a byte that is not UTF-8, and each byte of a character
 *    that the service refuses, becomes the quote U+201B and two hex digits; a
 *    picture that was there before gets the quote in front; and the quote is
 *    doubled, but only where what follows would else be taken as quoted, so
 *    that an ordinary name is never changed.  (rclone doubles it always; a
 *    name it doubled needlessly is shown as in 2, right but less pretty.)
 * 2. Raw: a blob's component that is no canonical spelling of anything ("",
 *    "..", "a.", "a\b", ...) is shown as itself with RAW behind it.
 * 3. Shadow: STEM with SHADOW behind it is the blob STEM beside the directory
 *    STEM.  It is an alias: decoding never yields it.
 *
 * That 1 and 2 together are a bijection: let Odd be the set of blob components
 * shown raw.  y is Odd if it is not canonical, or if it is, for a local name
 * that is taken: a shadow, or w + RAW with w itself Odd.  w is shorter than y,
 * so the question ends (`is_odd`).  Decoding gives y + RAW if y is Odd, else
 * unspell(y); encoding takes RAW off if what remains is Odd, else spells.  Each
 * undoes the other, by cases; the fuzz of the unit test tries it.
 */
#include "blob/name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "blob/store.h"

#define QUOTE 0x201b
#define QUOTE_TEXT "\xe2\x80\x9b"
static const char raw_mark[] = QUOTE_TEXT "raw";
static const char shadow_mark[] = QUOTE_TEXT "blob";
#define RAW_BYTES (sizeof(raw_mark) - 1)
#define SHADOW_BYTES (sizeof(shadow_mark) - 1)

#define LOCAL_MAX BLOB_NAME_COMPONENT_BYTES_MAX
/* A byte spells as a quote and two digits at most. */
#define SPELT_MAX (LOCAL_MAX * 5)

struct text {
	size_t len;
	char b[SPELT_MAX];
};

static void put(struct text *t, const char *bytes, size_t len)
{
	memcpy(t->b + t->len, bytes, len);
	t->len += len;
}

static void put_rune(struct text *t, uint32_t c)
{
	char *p = t->b + t->len;

	if (c < 0x80) {
		*p++ = (char)c;
	} else { /* only pictures and the quote: three bytes */
		*p++ = (char)(0xe0 | c >> 12);
		*p++ = (char)(0x80 | (c >> 6 & 0x3f));
		*p++ = (char)(0x80 | (c & 0x3f));
	}
	t->len = (size_t)(p - t->b);
}

/* Bytes of the character at p, or 0 if it is not UTF-8. */
static size_t rune(const char *text, size_t len, uint32_t *ret)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t n;
	uint32_t c;

	if (len == 0)
		return 0;
	if (p[0] < 0x80) {
		*ret = p[0];
		return 1;
	}
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (len < n)
		return 0;
	c = p[0] & (0xffU >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (n == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff)))
		return 0; /* longer than needed, or a surrogate */
	if (n == 4 && (c < 0x10000 || c > 0x10ffff))
		return 0;
	*ret = c;
	return n;
}

/* Characters that the service does not take and that have no picture. */
static bool refused(uint32_t c)
{
	return (c >= 0x80 && c <= 0x9f) || (c >= 0xfdd0 && c <= 0xfdef) ||
		(c >= 0xfff0 && c <= 0xffff) || (c & 0xfffe) == 0xfffe;
}

/* The picture of c, or 0: it needs none. */
static uint32_t picture(uint32_t c, bool last)
{
	if (c > 0 && c < 0x20)
		return 0x2400 + c;
	if (c == 0x7f)
		return 0x2421;
	if (c == '\\')
		return 0xff3c;
	return c == '.' && last ? 0xff0e : 0;
}

/* What c is a picture of, or 0. */
static uint32_t pictured(uint32_t c, bool last)
{
	if (c > 0x2400 && c < 0x2420)
		return c - 0x2400;
	if (c == 0x2421)
		return 0x7f;
	if (c == 0xff3c)
		return '\\';
	return c == 0xff0e && last ? '.' : 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that two digits behind a quote stand for, or 0. */
static uint8_t hex_byte(const char *p, size_t len)
{
	int hi, lo;

	if (len < 2)
		return 0;
	hi = hex_digit(p[0]);
	lo = hex_digit(p[1]);
	return hi < 8 || lo < 0 ? 0 : (uint8_t)(hi << 4 | lo);
}

static void put_hex(struct text *t, uint8_t byte)
{
	static const char digits[] = "0123456789ABCDEF";

	put_rune(t, QUOTE);
	put_rune(t, (uint8_t)digits[byte >> 4]);
	put_rune(t, (uint8_t)digits[byte & 15]);
}

/* Would a quote before this be taken as one? */
static bool looks_quoted(const char *p, size_t len)
{
	uint32_t c;
	size_t n;

	if (len == 0)
		return false;
	n = rune(p, len, &c);
	return n == 0 || c == QUOTE || refused(c) || picture(c, n == len) ||
		pictured(c, n == len) || hex_byte(p, len);
}

/* Local component (at most LOCAL_MAX bytes) to its canonical spelling. */
static void spell(const char *p, size_t len, struct text *ret)
{
	ret->len = 0;
	while (len > 0) {
		uint32_t c = 0;
		size_t n = rune(p, len, &c);
		bool last = n == len;

		if (n == 0 || refused(c)) {
			n = n ? n : 1;
			for (size_t i = 0; i < n; i++)
				put_hex(ret, (uint8_t)p[i]);
		} else if (picture(c, last)) {
			put_rune(ret, picture(c, last));
		} else {
			if (pictured(c, last) ||
				(c == QUOTE && looks_quoted(p + n, len - n)))
				put_rune(ret, QUOTE);
			put(ret, p, n);
		}
		p += n;
		len -= n;
	}
}

/* The inverse, for any UTF-8 of at most SPELT_MAX bytes: never longer. */
static void unspell(const char *p, size_t len, struct text *ret)
{
	ret->len = 0;
	while (len > 0) {
		uint32_t c = 0;
		size_t n = rune(p, len, &c);
		bool quoted = c == QUOTE && looks_quoted(p + n, len - n);

		if (quoted && hex_byte(p + n, len - n)) {
			char byte = (char)hex_byte(p + n, len - n);

			put(ret, &byte, 1);
			n += 2;
		} else if (quoted) {
			size_t m = rune(p + n, len - n, &c);

			put(ret, p + n, m);
			n += m;
		} else if (pictured(c, n == len)) {
			put_rune(ret, pictured(c, n == len));
		} else {
			put(ret, p, n);
		}
		p += n;
		len -= n;
	}
}

static bool is_utf8(const char *p, size_t len)
{
	uint32_t c;

	for (size_t n; len > 0; p += n, len -= n) {
		n = rune(p, len, &c);
		if (n == 0 || c == 0)
			return false;
	}
	return true;
}

/* May a file be called so? */
static bool is_local(const char *p, size_t len)
{
	if (len == 0 || len > LOCAL_MAX)
		return false;
	return !(p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.')));
}

static bool ends_with(
	const char *p, size_t len, const char *mark, size_t mark_len)
{
	return len >= mark_len && !memcmp(p + len - mark_len, mark, mark_len);
}

static bool is_shadow(const char *p, size_t len)
{
	return ends_with(p, len, shadow_mark, SHADOW_BYTES) &&
		is_local(p, len - SHADOW_BYTES);
}

/* Is this blob component (UTF-8, at most SPELT_MAX bytes) shown raw? */
static bool is_odd(const char *p, size_t len)
{
	struct text y, local, again;

	y.len = 0;
	for (put(&y, p, len);; put(&y, local.b, len)) {
		unspell(y.b, y.len, &local);
		if (!is_local(local.b, local.len))
			return true;
		spell(local.b, local.len, &again);
		if (again.len != y.len || memcmp(again.b, y.b, y.len) != 0)
			return true;
		if (is_shadow(local.b, local.len))
			return true;
		if (!ends_with(local.b, local.len, raw_mark, RAW_BYTES))
			return false;
		/* Taken, if what stands before the mark is odd. */
		len = local.len - RAW_BYTES;
		if (!is_utf8(local.b, len))
			return false;
		y.len = 0;
	}
}

/* Is this local component the raw face of a blob's? */
static bool is_raw(const char *p, size_t len)
{
	return ends_with(p, len, raw_mark, RAW_BYTES) &&
		is_utf8(p, len - RAW_BYTES) && is_odd(p, len - RAW_BYTES);
}

static void encode_component(const char *p, size_t len, struct base_str *out)
{
	struct text t;

	if (is_raw(p, len)) {
		base_str_add(out, p, len - RAW_BYTES);
		return;
	}
	spell(p, len, &t);
	base_str_add(out, t.b, t.len);
}

static int decode_component(const char *p, size_t len, struct base_str *out)
{
	struct text t;

	if (len > SPELT_MAX)
		return -ENAMETOOLONG;
	if (is_odd(p, len)) {
		if (len + RAW_BYTES > LOCAL_MAX)
			return -ENAMETOOLONG;
		base_str_add(out, p, len);
		base_str_add(out, raw_mark, RAW_BYTES);
		return 0;
	}
	unspell(p, len, &t);
	base_str_add(out, t.b, t.len);
	return 0;
}

/* The service's limits, for UTF-8. */
static int check_limits(const char *p, size_t len)
{
	size_t units = 0, segments = 1;
	uint32_t c;

	for (size_t n; len > 0; p += n, len -= n) {
		n = rune(p, len, &c);
		if (n == 0 || c == 0)
			return -EINVAL;
		units += c > 0xffff ? 2 : 1;
		segments += c == '/';
	}
	return units > BLOB_NAME_CHARS_MAX || segments > BLOB_NAME_SEGMENTS_MAX
		? -ENAMETOOLONG
		: 0;
}

/* Checks one component of a path; takes a shadow's mark off the last one of a
 * blob's path. */
static int check_local(const char *p, size_t *len, bool may_be_shadow)
{
	if (*len > LOCAL_MAX)
		return -ENAMETOOLONG;
	if (!is_local(p, *len))
		return -EINVAL;
	if (!is_shadow(p, *len))
		return 0;
	*len -= SHADOW_BYTES;
	return may_be_shadow && !is_shadow(p, *len) ? 0 : -EINVAL;
}

static int encode(const char *path, bool directory, struct base_str *out)
{
	for (;;) {
		size_t len = strcspn(path, "/"), whole = len;
		bool last = path[len] == '\0';
		int err = check_local(path, &len, last && !directory);

		if (err < 0)
			return err;
		encode_component(path, len, out);
		if (last)
			return 0;
		base_str_putc(out, '/');
		path += whole + 1;
	}
}

static int encode_checked(
	const char *path, bool directory, struct base_str *ret)
{
	struct base_str out = BASE_STR_INIT;
	int err = encode(path, directory, &out);

	if (err < 0)
		goto out;
	if (directory)
		base_str_putc(&out, '/');
	err = -EINVAL;
	/* A blob "x/" would be taken for the marker of "x". */
	if (out.len == 0 || (!directory && out.data[out.len - 1] == '/'))
		goto out;
	/* The slash of a prefix begins no segment: what lies below does. */
	err = check_limits(out.data, out.len - (directory ? 1 : 0));
	if (err == 0)
		base_str_add(ret, out.data, out.len);
out:
	base_str_fini(&out);
	return err;
}

int blob_name_encode(const char *path, struct base_str *ret_blob)
{
	return encode_checked(path, false, ret_blob);
}

int blob_name_prefix(const char *path, struct base_str *ret_prefix)
{
	return *path == '\0' ? 0 : encode_checked(path, true, ret_prefix);
}

int blob_name_decode(const char *blob, size_t len, struct base_str *ret_path)
{
	struct base_str out = BASE_STR_INIT;
	int err = check_limits(blob, len);

	while (err == 0) {
		const char *slash = memchr(blob, '/', len);
		size_t n = slash ? (size_t)(slash - blob) : len;

		err = decode_component(blob, n, &out);
		if (err < 0 || slash == NULL)
			break;
		base_str_putc(&out, '/');
		blob += n + 1;
		len -= n + 1;
	}
	if (err == 0)
		base_str_add(ret_path, out.data, out.len);
	base_str_fini(&out);
	return err;
}

void blob_name_url(const char *blob, struct base_str *ret)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~/";

	for (; *blob != '\0'; blob++) {
		if (strchr(plain, *blob) != NULL)
			base_str_putc(ret, *blob);
		else
			base_str_printf(ret, "%%%02X", (uint8_t)*blob);
	}
}

int blob_name_shadow(const char *path, char *ret, size_t ret_bytes)
{
	const char *slash = strrchr(path, '/');
	size_t len = strlen(path);
	size_t last = slash ? strlen(slash + 1) : len;

	if (last + SHADOW_BYTES > LOCAL_MAX || len + SHADOW_BYTES >= ret_bytes)
		return -ENAMETOOLONG;
	memcpy(ret, path, len);
	memcpy(ret + len, shadow_mark, SHADOW_BYTES + 1);
	return 0;
}

bool blob_name_is_reserved(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	size_t len = strlen(last);

	return is_shadow(last, len) || (len <= LOCAL_MAX && is_raw(last, len));
}
