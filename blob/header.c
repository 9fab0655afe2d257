/* HTTP headers: see header.h. */
#include "blob/header.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/str.h"

static int add(struct blob_headers *h, const char *key, size_t key_len,
	const char *value, size_t value_len)
{
	size_t bytes = key_len + value_len;

	if (h->nr >= BLOB_HEADERS_NR_MAX ||
		bytes > BLOB_HEADERS_BYTES_MAX - h->bytes)
		return -E2BIG;
	if (h->nr == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 16;
		h->kv = base_realloc(h->kv, h->cap * sizeof(*h->kv));
	}
	h->kv[h->nr].key = base_malloc(key_len + 1);
	memcpy(h->kv[h->nr].key, key, key_len);
	h->kv[h->nr].key[key_len] = '\0';
	h->kv[h->nr].value = base_malloc(value_len + 1);
	memcpy(h->kv[h->nr].value, value, value_len);
	h->kv[h->nr].value[value_len] = '\0';
	h->nr++;
	h->bytes += bytes;
	return 0;
}

int blob_headers_add(struct blob_headers *h, const char *key, const char *value)
{
	return add(h, key, strlen(key), value, strlen(value));
}

int blob_headers_addf(
	struct blob_headers *h, const char *key, const char *fmt, ...)
{
	char *value = NULL;
	va_list ap;
	int n, ret;

	va_start(ap, fmt);
	n = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	ret = add(h, key, strlen(key), value, (size_t)n);
	explicit_bzero(value, (size_t)n);
	free(value);
	return ret;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int blob_headers_parse(struct blob_headers *h, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t key_len, at;

	/* A NUL would cut what others read; a line with one is not HTTP. */
	if (colon == NULL || colon == line || memchr(line, '\0', len) != NULL)
		return 0;
	key_len = (size_t)(colon - line);
	while (len > key_len + 1 && is_space(line[len - 1]))
		len--;
	for (at = key_len + 1; at < len && is_space(line[at]); at++)
		;
	while (key_len > 0 && is_space(line[key_len - 1]))
		key_len--;
	return add(h, line, key_len, line + at, len - at);
}

const char *blob_headers_get(const struct blob_headers *h, const char *key)
{
	size_t i;

	for (i = 0; i < h->nr; i++)
		if (strcasecmp(h->kv[i].key, key) == 0)
			return h->kv[i].value;
	return NULL;
}

void blob_headers_clear(struct blob_headers *h)
{
	size_t i;

	for (i = 0; i < h->nr; i++) {
		free(h->kv[i].key);
		explicit_bzero(h->kv[i].value, strlen(h->kv[i].value));
		free(h->kv[i].value);
	}
	h->nr = 0;
	h->bytes = 0;
}

void blob_headers_fini(struct blob_headers *h)
{
	blob_headers_clear(h);
	free(h->kv);
	*h = (struct blob_headers){ 0 };
}

/* Digits up to the first other character, at least one. */
static int digits(const char **p, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -EINVAL;
	*p = s;
	*ret = v;
	return 0;
}

int blob_header_u64(const char *text, uint64_t *ret)
{
	uint64_t v;

	if (digits(&text, &v) != 0 || *text != '\0')
		return -EINVAL;
	*ret = v;
	return 0;
}

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "SunMonTueWedThuFriSat";

static int month_number(const char *name)
{
	int i;

	for (i = 0; i < 12; i++)
		if (strncasecmp(name, month_names + 3 * i, 3) == 0)
			return i;
	return -1;
}

int blob_header_date(const char *text, int64_t *ret_s)
{
	struct tm tm = { 0 };
	char month[4] = "";
	int end = 0;

	if (strnlen(text, BLOB_HEADER_DATE_BYTES) == BLOB_HEADER_DATE_BYTES)
		return -EINVAL;
	if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n",
		    &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour, &tm.tm_min,
		    &tm.tm_sec, &end) == 6 &&
		end > 0) {
		tm.tm_year -= 1900;
	} else if (sscanf(text,
			   "%*[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n",
			   &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour,
			   &tm.tm_min, &tm.tm_sec, &end) == 6 &&
		end > 0) {
		if (tm.tm_year < 70)
			tm.tm_year += 100;
	} else if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n",
			   month, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
			   &tm.tm_sec, &tm.tm_year, &end) == 6 &&
		end > 0) {
		tm.tm_year -= 1900;
	} else {
		return -EINVAL;
	}
	tm.tm_mon = month_number(month);
	if (text[end] != '\0' || tm.tm_mon < 0 || tm.tm_year < 0 ||
		tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 ||
		tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 ||
		tm.tm_sec < 0 || tm.tm_sec > 60)
		return -EINVAL;
	*ret_s = timegm(&tm);
	return 0;
}

void blob_header_format_date(int64_t s, char ret[BLOB_HEADER_DATE_BYTES])
{
	time_t t = s;
	struct tm tm;

	/* By hand: strftime() speaks the locale's language. */
	gmtime_r(&t, &tm);
	snprintf(ret, BLOB_HEADER_DATE_BYTES,
		"%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
		day_names + 3 * tm.tm_wday, tm.tm_mday,
		month_names + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour,
		tm.tm_min, tm.tm_sec);
}

/* After "start-": the last byte, which may be one before start. */
static int range_end(const char **p, uint64_t start, uint64_t *ret_end)
{
	uint64_t last;

	if (strncmp(*p, "-1/", 3) == 0 && start == 0) {
		*p += 2;
		*ret_end = 0;
		return 0;
	}
	if (digits(p, &last) != 0 || last == UINT64_MAX || last + 1 < start)
		return -EINVAL;
	*ret_end = last + 1;
	return 0;
}

int blob_header_content_range(const char *text, uint64_t *ret_start,
	uint64_t *ret_end, uint64_t *ret_total)
{
	const char *p = text;
	uint64_t start = 0, end = 0, total;

	if (strncasecmp(p, "bytes ", 6) != 0)
		return -EINVAL;
	p += 6;
	if (*p == '*') {
		p++;
	} else if (digits(&p, &start) != 0 || *p++ != '-' ||
		range_end(&p, start, &end) != 0) {
		return -EINVAL;
	}
	if (*p++ != '/' || digits(&p, &total) != 0 || *p != '\0' ||
		end > total || start > total)
		return -EINVAL;
	*ret_start = start;
	*ret_end = end;
	*ret_total = total;
	return 0;
}
