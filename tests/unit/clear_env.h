/* No credentials of the host that the tests run on. */
#ifndef TESTS_UNIT_CLEAR_ENV_H
#define TESTS_UNIT_CLEAR_ENV_H

#include <stdlib.h>

static inline void clear_env(void)
{
	static const char *const names[] = { "AZURE_STORAGE_ACCOUNT",
		"AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN",
		"AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_ID",
		"AZURE_TENANT_ID", "AZURE_CLIENT_SECRET",
		"AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
		"AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT",
		"IDENTITY_HEADER", "IMDS_ENDPOINT" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
}

#endif
