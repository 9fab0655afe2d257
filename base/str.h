/*
 * Growing strings and buffers.
 *
 * Threads: none of its own.  The caller owns a struct base_str and frees it
 * with base_str_fini().  A failed allocation aborts (a daemon that cannot get
 * a few bytes cannot keep a promise either); large buffers come from
 * elsewhere.  `data` is always NUL-terminated once anything was added.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stddef.h>

struct base_str {
	char *data;
	size_t len;
	size_t cap;
};
#define BASE_STR_INIT      \
	{                  \
		NULL, 0, 0 \
	}

void base_str_add(struct base_str *s, const void *bytes, size_t len);
void base_str_puts(struct base_str *s, const char *text);
void base_str_putc(struct base_str *s, char c);
void base_str_printf(struct base_str *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void base_str_clear(struct base_str *s);
/* The bytes, owned by the caller from now on (never NULL). */
char *base_str_take(struct base_str *s);
void base_str_fini(struct base_str *s);

/* malloc and friends that abort instead of failing. */
void *base_malloc(size_t bytes);
void *base_calloc(size_t nr, size_t bytes);
void *base_realloc(void *p, size_t bytes);
char *base_strdup(const char *text);
void *base_memdup(const void *bytes, size_t len);

#endif
