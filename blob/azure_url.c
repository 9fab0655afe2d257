/* STORE, read: see azure_url.h. */
#include "blob/azure_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "blob/azure.h"
#include "blob/name.h"

#define SHAPE "https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX]"

struct complaint {
	char *why;
	size_t bytes;
};

static int complain(struct complaint *c, const char *what)
{
	snprintf(c->why, c->bytes, "%s", what);
	return -EINVAL;
}

static int parse_scheme(
	const char **p, struct blob_azure_url *url, struct complaint *c)
{
	if (strncasecmp(*p, "https://", 8) == 0) {
		url->https = true;
		*p += 8;
		return 0;
	}
	if (strncasecmp(*p, "http://", 7) == 0) {
		*p += 7;
		return 0;
	}
	return complain(c, "store URL: expected dir:/PATH or " SHAPE);
}

static int parse_port(const char *text, unsigned *ret_port)
{
	char *end;
	unsigned long port;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	port = strtoul(text, &end, 10);
	if (*end != '\0' || port == 0 || port > 65535)
		return -EINVAL;
	*ret_port = (unsigned)port;
	return 0;
}

static bool host_is_good(const char *host)
{
	size_t i;

	if (host[0] == '\0' || host[0] == '.' || host[0] == '-')
		return false;
	for (i = 0; host[i] != '\0'; i++)
		if (!isalnum((unsigned char)host[i]) &&
			strchr("-._", host[i]) == NULL)
			return false;
	return strstr(host, "..") == NULL && host[i - 1] != '.';
}

static void judge_host(struct blob_azure_url *url, const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;
	size_t len = strlen(host);

	if (inet_pton(AF_INET, host, &v4) == 1) {
		url->path_style = true;
		url->loopback = (ntohl(v4.s_addr) >> 24) == 127;
		return;
	}
	if (inet_pton(AF_INET6, host, &v6) == 1) {
		url->path_style = true;
		url->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
		return;
	}
	url->path_style = strchr(host, '.') == NULL;
	url->loopback = strcmp(host, "localhost") == 0 ||
		(len > 10 && strcmp(host + len - 10, ".localhost") == 0);
	if (!url->path_style) {
		const char *dot = strchr(host, '.');

		url->account = base_memdup(host, (size_t)(dot - host) + 1);
		url->account[dot - host] = '\0';
		url->azure_host = strncmp(dot, ".blob.", 6) == 0;
	}
}

/* `text` is host[:port] in lower case; it is taken apart in place. */
static int parse_authority(
	char *text, struct blob_azure_url *url, struct complaint *c)
{
	struct base_str s = BASE_STR_INIT;
	struct in6_addr v6;
	unsigned port = url->https ? 443 : 80;
	unsigned normal = port;
	char *host = text, *end;
	bool six = text[0] == '[';

	end = six ? strchr(text, ']') : strchr(text, ':');
	if (six) {
		if (end == NULL)
			return complain(c, "store URL: bad host");
		host++;
		*end++ = '\0';
	} else if (end == NULL) {
		end = text + strlen(text);
	}
	if (*end == ':') {
		*end++ = '\0';
		if (parse_port(end, &port) != 0)
			return complain(c, "store URL: bad port");
	} else if (*end != '\0') {
		return complain(c, "store URL: bad host");
	}
	if (six ? inet_pton(AF_INET6, host, &v6) != 1 : !host_is_good(host))
		return complain(c, "store URL: bad host");
	judge_host(url, host);
	base_str_printf(&s, six ? "[%s]" : "%s", host);
	if (port != normal)
		base_str_printf(&s, ":%u", port);
	url->authority = base_str_take(&s);
	return 0;
}

static int unhex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int unescape(const char *text, struct base_str *ret)
{
	for (; *text != '\0'; text++) {
		if (*text != '%') {
			base_str_putc(ret, *text);
			continue;
		}
		if (unhex(text[1]) < 0 || unhex(text[2]) < 0 ||
			(text[1] == '0' && text[2] == '0'))
			return -EINVAL;
		base_str_putc(
			ret, (char)(unhex(text[1]) * 16 + unhex(text[2])));
		text += 2;
	}
	return 0;
}

static bool account_is_good(const char *name)
{
	size_t i;

	for (i = 0; name[i] != '\0'; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '-')
			return false;
	return i > 0 && i <= 63;
}

static bool container_is_good(const char *name)
{
	size_t i, len = strlen(name);

	if (strcmp(name, "$web") == 0 || strcmp(name, "$logs") == 0)
		return true;
	for (i = 0; i < len; i++)
		if (!islower((unsigned char)name[i]) &&
			!isdigit((unsigned char)name[i]) && name[i] != '-')
			return false;
	return len >= 3 && len <= 63 && name[0] != '-' &&
		name[len - 1] != '-' && strstr(name, "--") == NULL;
}

/* Cuts the first component off. */
static char *take_component(const char **p)
{
	size_t len = strcspn(*p, "/");
	char *part = base_memdup(*p, len + 1);

	part[len] = '\0';
	*p += len;
	if (**p == '/')
		(*p)++;
	return part;
}

static int parse_prefix(
	const char *text, struct blob_azure_url *url, struct complaint *c)
{
	struct base_str prefix = BASE_STR_INIT, blob = BASE_STR_INIT;
	int err = unescape(text, &prefix);

	while (prefix.len > 0 && prefix.data[prefix.len - 1] == '/')
		prefix.data[--prefix.len] = '\0';
	if (err == 0 && prefix.len > 0)
		err = blob_name_encode(prefix.data, &blob);
	base_str_fini(&blob);
	url->prefix = base_str_take(&prefix);
	if (err != 0)
		return complain(c, "store URL: bad prefix after the container");
	return 0;
}

static int parse_path(
	const char *p, struct blob_azure_url *url, struct complaint *c)
{
	struct base_str root = BASE_STR_INIT;

	if (url->path_style)
		url->account = take_component(&p);
	if (!account_is_good(url->account))
		return complain(c,
			url->path_style
				? "store URL: expected http://HOST:PORT/ACCOUNT/"
				  "CONTAINER[/PREFIX]"
				: "store URL: the host must begin with the account's "
				  "name");
	url->container = take_component(&p);
	if (url->container[0] == '\0')
		return complain(
			c, "store URL names no container: expected " SHAPE);
	if (!container_is_good(url->container))
		return complain(c,
			"store URL: not a container's name (3 to 63 "
			"of a-z, 0-9, single '-')");
	if (url->path_style)
		base_str_printf(&root, "/%s", url->account);
	base_str_printf(&root, "/%s", url->container);
	url->root = base_str_take(&root);
	return parse_prefix(p, url, c);
}

static int check_text(const char *p, struct complaint *c)
{
	size_t host_len = strcspn(p, "/");

	if (memchr(p, '@', host_len) != NULL)
		return complain(c,
			"store URL holds a user name or password: "
			"put secrets into -o credentials=FILE");
	if (strchr(p, '?') != NULL)
		return complain(c,
			"store URL holds a query: put a SAS into "
			"-o credentials=FILE "
			"(AZURE_STORAGE_SAS_TOKEN=...)");
	if (strchr(p, '#') != NULL)
		return complain(c, "store URL holds a '#': write it as %23");
	for (; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return complain(c,
				"store URL holds a space or control "
				"character: write it as %20 and "
				"so on");
	return 0;
}

int blob_azure_url_parse(const char *text, struct blob_azure_url *ret,
	char *ret_why, size_t why_bytes)
{
	struct complaint c = { ret_why, why_bytes };
	struct blob_azure_url url = { 0 };
	const char *p = text;
	char *authority, *s;
	int err;

	err = parse_scheme(&p, &url, &c);
	if (err == 0)
		err = check_text(p, &c);
	if (err != 0)
		return err;
	authority = take_component(&p);
	for (s = authority; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
	err = parse_authority(authority, &url, &c);
	free(authority);
	if (err == 0)
		err = parse_path(p, &url, &c);
	if (err != 0) {
		blob_azure_url_fini(&url);
		return err;
	}
	*ret = url;
	return 0;
}

void blob_azure_url_fini(struct blob_azure_url *url)
{
	free(url->authority);
	free(url->account);
	free(url->container);
	free(url->root);
	free(url->prefix);
	*url = (struct blob_azure_url){ 0 };
}

int blob_azure_canonical(const char *text, char *ret_url, size_t url_bytes,
	char *ret_why, size_t why_bytes)
{
	struct complaint c = { ret_why, why_bytes };
	struct base_str s = BASE_STR_INIT;
	struct blob_azure_url url;
	int err = blob_azure_url_parse(text, &url, ret_why, why_bytes);

	if (err != 0)
		return err;
	base_str_printf(&s, "%s://%s%s", url.https ? "https" : "http",
		url.authority, url.root);
	if (url.prefix[0] != '\0') {
		base_str_putc(&s, '/');
		blob_name_url(url.prefix, &s);
	}
	if (s.len >= url_bytes)
		err = complain(&c, "store URL is too long");
	else
		memcpy(ret_url, s.data, s.len + 1);
	base_str_fini(&s);
	blob_azure_url_fini(&url);
	return err;
}
