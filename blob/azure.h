/*
 * The Azure store: blob/store.h over REST.
 *
 * Threads, ownership, errors: as store.h says; this is one implementation.
 * The rooms: azure.c opens, closes and watches, azure_run.c runs
 * requests (stages, retries), azure_url.c reads STORE, azure_check.c and
 * azure_request.c build, azure_answer.c interprets,
 * azure_props.c and azure_list.c parse.
 */
#ifndef BLOB_AZURE_H
#define BLOB_AZURE_H

#include <stddef.h>

#include "blob/store.h"

/* blob_store_open() and blob_store_canonical() for http and https. */
int blob_azure_open(const struct blob_config *config,
	struct blob_store **ret_store, char *ret_why, size_t why_bytes);
int blob_azure_canonical(const char *url, char *ret_url, size_t url_bytes,
	char *ret_why, size_t why_bytes);

#endif
