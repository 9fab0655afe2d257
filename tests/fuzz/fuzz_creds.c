/* Credentials: a file with connection strings, keys, SAS and the rest; then
 * what signing makes of it. */
#include "blob/creds.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static char path[64];

static void remove_file(void)
{
	unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(path, sizeof(path), "/dev/shm/fuzz-creds.%d", (int)getpid());
	atexit(remove_file);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct blob_creds *creds;
	char why[512] = "";
	size_t bytes;

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
	close(fd);
	if (blob_creds_load(path, &creds, why, sizeof(why)) != 0) {
		FUZZ_CHECK(why[0] != '\0' && strchr(why, '\n') == NULL);
		return 0;
	}
	switch (blob_creds_kind(creds)) {
	case BLOB_AUTH_SHARED_KEY:
		FUZZ_CHECK(blob_creds_key(creds, &bytes) != NULL);
		break;
	case BLOB_AUTH_SAS:
		FUZZ_CHECK(blob_creds_sas(creds) != NULL);
		break;
	case BLOB_AUTH_TOKEN:
		FUZZ_CHECK(blob_creds_token(creds) != NULL);
		break;
	}
	blob_creds_free(creds);
	return 0;
}
