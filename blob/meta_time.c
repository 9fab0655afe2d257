/* Numbers and times in metadata: see meta_time.h. */
#include "blob/meta_time.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000LL

bool blob_meta_parse_number(
	const char *text, unsigned base, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (text == NULL || *text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		unsigned digit = (unsigned)(uint8_t)*text - '0';

		if (digit >= base || n > (max - digit) / base)
			return false;
		n = n * base + digit;
	}
	*ret = n;
	return true;
}

/* A fixed number of digits at *text, which moves on. */
static bool take_digits(const char **text, unsigned nr, int *ret)
{
	int n = 0;

	for (; nr > 0; nr--, (*text)++) {
		if (**text < '0' || **text > '9')
			return false;
		n = n * 10 + (**text - '0');
	}
	*ret = n;
	return true;
}

static bool take_char(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

/* "2006-01-02", one of `middle`, "15:04:05". */
static bool take_date(const char **text, const char *middle, int64_t *ret_s)
{
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	struct tm tm = { 0 };

	if (!take_digits(text, 4, &tm.tm_year) || !take_char(text, '-') ||
		!take_digits(text, 2, &tm.tm_mon) || !take_char(text, '-') ||
		!take_digits(text, 2, &tm.tm_mday))
		return false;
	if (**text == '\0' || strchr(middle, **text) == NULL)
		return false;
	(*text)++;
	if (!take_digits(text, 2, &tm.tm_hour) || !take_char(text, ':') ||
		!take_digits(text, 2, &tm.tm_min) || !take_char(text, ':') ||
		!take_digits(text, 2, &tm.tm_sec))
		return false;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
		tm.tm_mday > days[tm.tm_mon - 1] || tm.tm_hour > 23 ||
		tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*ret_s = timegm(&tm);
	return true;
}

/* "+07:00" (colon) or "+0700". */
static bool take_zone(const char **text, bool colon, int64_t *ret_s)
{
	int sign = **text == '-' ? -1 : 1, hours, minutes;

	if (!take_char(text, '+') && !take_char(text, '-'))
		return false;
	if (!take_digits(text, 2, &hours) || (colon && !take_char(text, ':')) ||
		!take_digits(text, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_s = sign * (hours * 3600 + minutes * 60);
	return true;
}

/* ".123456789": up to nine digits count. */
static bool take_fraction(const char **text, int64_t *ret_ns)
{
	int64_t unit = NS_PER_S;

	*ret_ns = 0;
	if (!take_char(text, '.'))
		return true;
	if (**text < '0' || **text > '9')
		return false;
	for (; **text >= '0' && **text <= '9'; (*text)++) {
		unit /= 10;
		*ret_ns += (**text - '0') * unit;
	}
	return true;
}

static bool to_ns(int64_t s, int64_t ns, int64_t *ret)
{
	return !__builtin_mul_overflow(s, NS_PER_S, &s) &&
		!__builtin_add_overflow(s, ns, ret);
}

bool blob_meta_parse_mtime(const char *text, int64_t *ret_ns)
{
	int64_t s, ns, zone = 0;

	if (text == NULL || !take_date(&text, "Tt", &s) ||
		!take_fraction(&text, &ns))
		return false;
	if (!take_char(&text, 'Z') && !take_char(&text, 'z') &&
		!take_zone(&text, true, &zone))
		return false;
	return *text == '\0' && to_ns(s - zone, ns, ret_ns);
}

bool blob_meta_parse_modtime(const char *text, int64_t *ret_ns)
{
	int64_t s, zone;
	uint64_t n;

	if (text == NULL)
		return false;
	if (blob_meta_parse_number(text, 10, INT64_MAX, &n)) {
		*ret_ns = (int64_t)n;
		return true;
	}
	if (text[0] == '-' &&
		blob_meta_parse_number(text + 1, 10, INT64_MAX, &n)) {
		*ret_ns = -(int64_t)n;
		return true;
	}
	return take_date(&text, " ", &s) && take_char(&text, ' ') &&
		take_zone(&text, false, &zone) && *text == '\0' &&
		to_ns(s - zone, 0, ret_ns);
}

void blob_meta_print_mtime(int64_t ns, char ret[BLOB_META_MTIME_BYTES])
{
	int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
	char date[BLOB_META_MTIME_BYTES];
	struct tm tm;
	time_t t;

	if (rest < 0) {
		rest += NS_PER_S;
		s--;
	}
	t = s;
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret, BLOB_META_MTIME_BYTES, "%.32s.%09lldZ", date,
		(long long)rest);
}
