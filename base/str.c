/* Growing strings and buffers: see str.h. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *base_realloc(void *p, size_t bytes)
{
	p = realloc(p, bytes ? bytes : 1);
	if (p == NULL) {
		fputs("forebay: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *base_malloc(size_t bytes)
{
	return base_realloc(NULL, bytes);
}

void *base_calloc(size_t nr, size_t bytes)
{
	void *p = calloc(nr ? nr : 1, bytes ? bytes : 1);

	if (p == NULL) {
		fputs("forebay: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *base_memdup(const void *bytes, size_t len)
{
	void *p = base_malloc(len);

	if (len > 0)
		memcpy(p, bytes, len);
	return p;
}

char *base_strdup(const char *text)
{
	return base_memdup(text, strlen(text) + 1);
}

static void reserve(struct base_str *s, size_t more)
{
	size_t need = s->len + more + 1;

	if (need <= s->cap)
		return;
	s->cap = need < 64 ? 64 : need + need / 2;
	s->data = base_realloc(s->data, s->cap);
}

void base_str_add(struct base_str *s, const void *bytes, size_t len)
{
	reserve(s, len);
	if (len > 0)
		memcpy(s->data + s->len, bytes, len);
	s->len += len;
	s->data[s->len] = '\0';
}

void base_str_puts(struct base_str *s, const char *text)
{
	base_str_add(s, text, strlen(text));
}

void base_str_putc(struct base_str *s, char c)
{
	base_str_add(s, &c, 1);
}

void base_str_printf(struct base_str *s, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	reserve(s, (size_t)n);
	va_start(ap, fmt);
	vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	s->len += (size_t)n;
}

void base_str_clear(struct base_str *s)
{
	s->len = 0;
	if (s->data != NULL)
		s->data[0] = '\0';
}

char *base_str_take(struct base_str *s)
{
	char *data;

	reserve(s, 0);
	s->data[s->len] = '\0';
	data = s->data;
	*s = (struct base_str)BASE_STR_INIT;
	return data;
}

void base_str_fini(struct base_str *s)
{
	free(s->data);
	*s = (struct base_str)BASE_STR_INIT;
}
