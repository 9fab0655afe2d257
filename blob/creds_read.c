/* Reading credentials: see creds_read.h. */
#include "blob/creds_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const var_names[VARS_NR] = {
	[VAR_ACCOUNT] = "AZURE_STORAGE_ACCOUNT",
	[VAR_KEY] = "AZURE_STORAGE_KEY",
	[VAR_SAS] = "AZURE_STORAGE_SAS_TOKEN",
	[VAR_CONNECTION] = "AZURE_STORAGE_CONNECTION_STRING",
	[VAR_CLIENT_ID] = "AZURE_CLIENT_ID",
	[VAR_TENANT_ID] = "AZURE_TENANT_ID",
	[VAR_CLIENT_SECRET] = "AZURE_CLIENT_SECRET",
	[VAR_FEDERATED_FILE] = "AZURE_FEDERATED_TOKEN_FILE",
	[VAR_AUTHORITY] = "AZURE_AUTHORITY_HOST",
	/* Where managed identity answers: the platform sets these. */
	[VAR_POD_AUTHORITY] = "AZURE_POD_IDENTITY_AUTHORITY_HOST",
	[VAR_IDENTITY_ENDPOINT] = "IDENTITY_ENDPOINT",
	[VAR_IDENTITY_HEADER] = "IDENTITY_HEADER",
	[VAR_IMDS_ENDPOINT] = "IMDS_ENDPOINT",
};

const char *blob_creds_var_name(enum blob_creds_var var)
{
	return var_names[var];
}

const char *blob_creds_origin(const struct blob_creds_read *r)
{
	return r->file ? r->file : "the environment";
}

int blob_creds_fail(struct blob_creds_read *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (r->why_bytes > 0)
		vsnprintf(r->why, r->why_bytes, fmt, ap);
	va_end(ap);
	return err;
}

char *blob_creds_alloc(struct blob_creds_read *r, size_t bytes)
{
	char *p = (char *)r->creds + r->used;

	if (bytes > BLOB_CREDS_ARENA_BYTES - r->used)
		return NULL;
	r->used += bytes;
	return p;
}

int blob_creds_too_large(struct blob_creds_read *r)
{
	return blob_creds_fail(r, -EINVAL, "%s: credentials are too large",
		blob_creds_origin(r));
}

int blob_creds_join(struct blob_creds_read *r, const char **ret, const char *a,
	size_t a_len, const char *b, const char *c)
{
	size_t b_len = strlen(b), c_len = strlen(c);
	char *p = blob_creds_alloc(r, a_len + b_len + c_len + 1);

	if (p == NULL)
		return blob_creds_too_large(r);
	memcpy(p, a, a_len);
	memcpy(p + a_len, b, b_len);
	memcpy(p + a_len + b_len, c, c_len + 1);
	*ret = p;
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	while (*s == ' ' || *s == '\t')
		s++;
	for (len = strlen(s); len > 0 && strchr(" \t\r", s[len - 1]); len--)
		s[len - 1] = '\0';
	return s;
}

/* A word that may be printed: no secret has only these, we hope; a base64 key
 * alone on a line has lower case. */
static bool is_var_like(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

	return n > 0 && n < 64 && s[n] == '\0';
}

/* Takes off a pair of quotes. */
static int unquote(char **value)
{
	char *s = *value, quote = s[0];
	size_t len = strlen(s);

	if (quote != '"' && quote != '\'')
		return 0;
	if (len < 2 || s[len - 1] != quote)
		return -EINVAL;
	s[len - 1] = '\0';
	*value = s + 1;
	return 0;
}

static int parse_line(struct blob_creds_read *r, char *line, unsigned nr)
{
	char *name = trim(line), *value;
	int i;

	if (*name == '\0' || *name == '#')
		return 0;
	if (strncmp(name, "export ", 7) == 0)
		name = trim(name + 7);
	value = strchr(name, '=');
	if (value == NULL)
		return blob_creds_fail(r, -EINVAL,
			"%s: line %u is not KEY=VALUE", r->file, nr);
	*value++ = '\0';
	name = trim(name);
	value = trim(value);
	for (i = 0; i < VARS_NR && strcmp(name, var_names[i]) != 0; i++)
		;
	if (i == VARS_NR)
		return blob_creds_fail(r, -EINVAL,
			"%s: line %u: unknown key %s; known are %s and the "
			"like, as in the environment",
			r->file, nr, is_var_like(name) ? name : "(not a name)",
			var_names[VAR_KEY]);
	if (unquote(&value) < 0)
		return blob_creds_fail(r, -EINVAL,
			"%s: line %u: %s: a quote is not closed", r->file, nr,
			name);
	if (r->vars[i] != NULL)
		return blob_creds_fail(r, -EINVAL,
			"%s: line %u: %s is there twice", r->file, nr, name);
	r->vars[i] = value;
	return 0;
}

static int check_file(struct blob_creds_read *r, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return blob_creds_fail(r, -errno, "%s: %s: check the name",
			r->file, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return blob_creds_fail(r, -EINVAL,
			"%s is not a regular file: give a file of KEY=VALUE "
			"lines",
			r->file);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return blob_creds_fail(r, -EACCES,
			"%s belongs to another user: chown it to the one who "
			"mounts, or to root",
			r->file);
	if (st.st_mode & 077)
		return blob_creds_fail(r, -EACCES,
			"%s is readable by others: chmod 600 %s", r->file,
			r->file);
	return 0;
}

/* The whole file into the arena, as a string. */
static int read_file(struct blob_creds_read *r, int fd, char **ret_text)
{
	char *text = blob_creds_alloc(r, BLOB_CREDS_FILE_BYTES_MAX + 1);
	size_t len = 0;
	ssize_t n;

	if (text == NULL)
		return blob_creds_too_large(r);
	do {
		n = read(fd, text + len, BLOB_CREDS_FILE_BYTES_MAX + 1 - len);
		if (n < 0 && errno != EINTR)
			return blob_creds_fail(r, -errno,
				"%s: %s: check the name", r->file,
				strerror(errno));
		len += n > 0 ? (size_t)n : 0;
	} while (n != 0 && len <= BLOB_CREDS_FILE_BYTES_MAX);
	if (len > BLOB_CREDS_FILE_BYTES_MAX)
		return blob_creds_too_large(r);
	text[len] = '\0';
	if (strlen(text) != len)
		return blob_creds_fail(r, -EINVAL,
			"%s holds a NUL byte: not a text file", r->file);
	*ret_text = text;
	return 0;
}

static int from_file(struct blob_creds_read *r)
{
	/* Non-blocking: a fifo must not hang us before it is refused. */
	int fd = open(r->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = NULL;
	unsigned nr = 1;
	int err;

	if (fd < 0)
		return blob_creds_fail(r, -errno, "%s: %s: check the name",
			r->file, strerror(errno));
	err = check_file(r, fd);
	if (err == 0)
		err = read_file(r, fd, &text);
	close(fd);
	for (char *line; err == 0 && (line = strsep(&text, "\n")); nr++)
		err = parse_line(r, line, nr);
	return err;
}

static int from_environment(struct blob_creds_read *r)
{
	int err = 0;

	for (int i = 0; err == 0 && i < VARS_NR; i++) {
		const char *v = getenv(var_names[i]);

		if (v != NULL)
			err = blob_creds_join(
				r, &r->vars[i], v, strlen(v), "", "");
	}
	return err;
}

int blob_creds_read(struct blob_creds_read *r)
{
	bool any = false;
	int err = r->file ? from_file(r) : from_environment(r);

	if (err < 0)
		return err;
	for (int i = 0; i < VARS_NR; i++) {
		if (r->vars[i] != NULL && *r->vars[i] == '\0')
			r->vars[i] = NULL; /* set to nothing is not set */
		any = any || r->vars[i] != NULL;
	}
	if (r->file != NULL && !any)
		return blob_creds_fail(r, -ENOKEY,
			"%s holds no credential: put in a line such as %s=...",
			r->file, var_names[VAR_KEY]);
	return 0;
}
