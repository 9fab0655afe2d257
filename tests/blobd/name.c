/* Names, URLs and XML text: see ops.h. */
#include "tests/blobd/ops.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS_MAX 1024 /* UTF-16 units */
#define SEGMENTS_MAX 254

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *blobd_unescape(const char *text, size_t len, bool plus)
{
	char *out = base_malloc(len + 1);
	size_t i, nr = 0;
	int hi, lo;

	for (i = 0; i < len; i++) {
		if (text[i] == '+' && plus) {
			out[nr++] = ' ';
		} else if (text[i] == '%') {
			hi = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			lo = i + 2 < len ? hex_digit(text[i + 2]) : -1;
			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				goto bad;
			out[nr++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			out[nr++] = text[i];
		}
	}
	out[nr] = '\0';
	return out;
bad:
	free(out);
	return NULL;
}

/* One character; 0 at the end, -1 if malformed. */
static int32_t utf8_next(const unsigned char **text)
{
	const unsigned char *p = *text;
	int32_t c = *p++;
	int more = 0;

	if (c == 0)
		return 0;
	if (c >= 0x80) {
		if (c >= 0xc2 && c <= 0xdf)
			more = 1;
		else if (c >= 0xe0 && c <= 0xef)
			more = 2;
		else if (c >= 0xf0 && c <= 0xf4)
			more = 3;
		else
			return -1;
		c &= 0x3f >> more;
		for (int i = 0; i < more; i++, p++) {
			if ((*p & 0xc0) != 0x80)
				return -1;
			c = c << 6 | (*p & 0x3f);
		}
		if ((more == 2 && c < 0x800) || (more == 3 && c < 0x10000) ||
			c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return -1;
	}
	*text = p;
	return c;
}

bool blobd_utf8_valid(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	int32_t c;

	while ((c = utf8_next(&p)) > 0)
		;
	return c == 0;
}

/* Control characters and most non-characters. */
static bool char_refused(int32_t c)
{
	return c < 0x20 || (c >= 0x80 && c <= 0x9f) ||
		(c >= 0xfdd0 && c <= 0xfdef) ||
		(c > 0xffff && (c & 0xfffe) == 0xfffe);
}

static bool chars_fine(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;
	unsigned units = 0, segments = 1;
	int32_t c;

	while ((c = utf8_next(&p)) > 0) {
		if (char_refused(c))
			return false;
		units += c > 0xffff ? 2 : 1;
		segments += c == '/' || c == '\\';
	}
	return c == 0 && units <= NAME_CHARS_MAX && segments <= SEGMENTS_MAX;
}

/* Backslashes become slashes, "." and ".." are resolved, trailing dots go:
 * so a client that does not escape them finds its blob under another name. */
char *blobd_name_normal(const char *name)
{
	struct base_str out = BASE_STR_INIT;
	size_t len, keep;
	const char *p;

	if (!chars_fine(name))
		return NULL;
	for (p = name;; p += len + 1) {
		len = strcspn(p, "/\\");
		if (len == 2 && memcmp(p, "..", 2) == 0) {
			while (out.len > 0 && out.data[--out.len] != '/')
				;
			while (out.len > 0 && out.data[out.len - 1] != '/')
				out.len--;
			if (out.data != NULL)
				out.data[out.len] = '\0';
		} else if (len != 1 || *p != '.') {
			for (keep = len; keep > 0 && p[keep - 1] == '.';)
				keep--;
			base_str_add(&out, p, keep);
			if (p[len] != '\0')
				base_str_putc(&out, '/');
		}
		if (p[len] == '\0')
			break;
	}
	return base_str_take(&out);
}

void blobd_xml_text(struct base_str *out, const char *text)
{
	size_t n;

	for (; *text != '\0'; text++) {
		n = strcspn(text, "<>&\r");
		base_str_add(out, text, n);
		text += n;
		if (*text == '\0')
			break;
		base_str_puts(out,
			*text == '<'	       ? "&lt;"
				: *text == '>' ? "&gt;"
				: *text == '&' ? "&amp;"
					       : "&#xD;");
	}
}

void blobd_xml_name(struct base_str *out, const char *tag, const char *name)
{
	const char *p;

	/* U+FFFE and U+FFFF */
	if (strstr(name, "\xef\xbf\xbe") == NULL &&
		strstr(name, "\xef\xbf\xbf") == NULL) {
		base_str_printf(out, "<%s>", tag);
		blobd_xml_text(out, name);
	} else {
		base_str_printf(out, "<%s Encoded=\"true\">", tag);
		for (p = name; *p != '\0'; p++) {
			if (isalnum((unsigned char)*p) ||
				strchr("-_.~/", *p) != NULL)
				base_str_putc(out, *p);
			else
				base_str_printf(
					out, "%%%02X", (unsigned char)*p);
		}
	}
	base_str_printf(out, "</%s>", tag);
}

bool blobd_url_split(const char *url, char **ret_container, char **ret_name)
{
	const char *p = strstr(url, "://");
	size_t account_len = strlen(blobd_config.account), len;
	char *raw;

	p = p != NULL ? strchr(p + 3, '/') : NULL;
	if (p == NULL ||
		strncmp(p + 1, blobd_config.account, account_len) != 0 ||
		p[1 + account_len] != '/')
		return false;
	p += account_len + 2;
	len = strcspn(p, "/?");
	if (p[len] != '/')
		return false;
	*ret_container = blobd_unescape(p, len, false);
	p += len + 1;
	raw = blobd_unescape(p, strcspn(p, "?"), false);
	*ret_name = raw != NULL ? blobd_name_normal(raw) : NULL;
	free(raw);
	if (*ret_container != NULL && *ret_name != NULL)
		return true;
	free(*ret_container);
	free(*ret_name);
	return false;
}

void blobd_query_split(const char *query, struct blobd_kvs *ret)
{
	char *name, *value, *c;
	size_t len, eq;

	for (; *query != '\0'; query += len + (query[len] == '&')) {
		len = strcspn(query, "&");
		eq = strcspn(query, "=");
		if (eq > len)
			eq = len;
		name = blobd_unescape(query, eq, true);
		value = eq < len
			? blobd_unescape(query + eq + 1, len - eq - 1, true)
			: base_strdup("");
		if (name != NULL && value != NULL && *name != '\0') {
			for (c = name; *c != '\0'; c++)
				*c = (char)tolower((unsigned char)*c);
			blobd_kvs_add(ret, name, value);
		}
		free(name);
		free(value);
	}
}
