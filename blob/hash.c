/*
 * Hashes: see hash.h.
 *
 * The algorithms are fetched once for the process: looking one up costs more
 * than hashing a small file.  They are immutable, so sharing them is no state.
 */
#include "blob/hash.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "base/str.h"

struct blob_hash {
	EVP_MD_CTX *ctx;
	unsigned bytes;
};

static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static const EVP_MD *algorithms[2];

static void fetch(void)
{
	/* "-fips": MD5 is a checksum here, also in FIPS mode. */
	algorithms[BLOB_HASH_MD5] = EVP_MD_fetch(NULL, "MD5", "-fips");
	algorithms[BLOB_HASH_SHA256] = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (algorithms[0] == NULL || algorithms[1] == NULL)
		abort();
}

static const EVP_MD *algorithm(enum blob_hash_kind kind)
{
	pthread_once(&fetched, fetch);
	return algorithms[kind];
}

static void must(int ok)
{
	if (ok != 1)
		abort();
}

static void whole(
	enum blob_hash_kind kind, const void *buf, size_t len, uint8_t *ret)
{
	must(EVP_Digest(buf, len, ret, NULL, algorithm(kind), NULL));
}

void blob_md5(const void *buf, size_t len, uint8_t ret[BLOB_MD5_BYTES])
{
	whole(BLOB_HASH_MD5, buf, len, ret);
}

void blob_sha256(const void *buf, size_t len, uint8_t ret[BLOB_SHA256_BYTES])
{
	whole(BLOB_HASH_SHA256, buf, len, ret);
}

struct blob_hash *blob_hash_new(enum blob_hash_kind kind)
{
	struct blob_hash *h = base_malloc(sizeof(*h));

	h->ctx = EVP_MD_CTX_new();
	must(h->ctx != NULL);
	must(EVP_DigestInit_ex(h->ctx, algorithm(kind), NULL));
	h->bytes = kind == BLOB_HASH_MD5 ? BLOB_MD5_BYTES : BLOB_SHA256_BYTES;
	return h;
}

void blob_hash_add(struct blob_hash *hash, const void *buf, size_t len)
{
	must(EVP_DigestUpdate(hash->ctx, buf, len));
}

void blob_hash_end(struct blob_hash *hash, uint8_t *ret)
{
	unsigned bytes;

	if (ret != NULL) {
		must(EVP_DigestFinal_ex(hash->ctx, ret, &bytes));
		assert(bytes == hash->bytes);
	}
	EVP_MD_CTX_free(hash->ctx);
	free(hash);
}
