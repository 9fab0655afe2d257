/*
 * STORE, read: https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX], or
 * the path style of emulators, http://HOST:PORT/ACCOUNT/CONTAINER[/PREFIX].
 *
 * Path style: the host is an IP literal or a single label ("localhost", a
 * container's name).  Any host with a dot is ACCOUNT.rest.
 *
 * Threads: none.  Ownership: strings belong to the struct.
 * Errors: -EINVAL and one line, which never repeats a query or user info.
 */
#ifndef BLOB_AZURE_URL_H
#define BLOB_AZURE_URL_H

#include <stdbool.h>
#include <stddef.h>

struct blob_azure_url {
	bool https;
	bool loopback;	 /* the host is this one */
	bool path_style; /* the account is part of the path */
	bool azure_host; /* the host names the account for certain */
	char *authority; /* host[:port], lower case, no default port */
	char *account;
	char *container;
	char *root;   /* path of the container, percent-encoded */
	char *prefix; /* local path, "" if none */
};

int blob_azure_url_parse(const char *text, struct blob_azure_url *ret,
	char *ret_why, size_t why_bytes);
void blob_azure_url_fini(struct blob_azure_url *url);

#endif
