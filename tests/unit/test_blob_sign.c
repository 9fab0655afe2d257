/* Signing and hashing.  Each string to sign is written out here in full; that
 * the service takes them was checked against Azurite. */
#include "blob/sign.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "blob/hash.h"

#define DEV_KEY                                        \
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6" \
	"IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

static struct blob_creds *creds;

static void load(const char *name, const char *value)
{
	static const char *const names[] = { "AZURE_STORAGE_ACCOUNT",
		"AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN",
		"AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_SECRET",
		"AZURE_FEDERATED_TOKEN_FILE" };
	char why[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	if (name != NULL)
		setenv(name, value, 1);
	ck_assert_int_eq(blob_creds_load(NULL, &creds, why, sizeof(why)), 0);
}

static void begin(void)
{
	load("AZURE_STORAGE_KEY", DEV_KEY);
}

static void end(void)
{
	blob_creds_free(creds);
}

/* base64 of the HMAC of this text under the key. */
static void sign(const char *text, struct base_str *ret)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned bytes;
	size_t key_bytes;
	const void *key = blob_creds_key(creds, &key_bytes);

	HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text,
		strlen(text), mac, &bytes);
	base_base64_encode(mac, bytes, ret);
}

static void check_signed(const char *account, const struct blob_sign_msg *msg,
	const char *string_to_sign)
{
	struct base_str got = BASE_STR_INIT, want = BASE_STR_INIT;

	base_str_printf(&want, "SharedKey %s:", account);
	sign(string_to_sign, &want);
	ck_assert_int_eq(blob_sign_shared_key(creds, account, msg, &got), 0);
	ck_assert_str_eq(got.data, want.data);
	base_str_fini(&got);
	base_str_fini(&want);
}

#define KV(k, v)                     \
	{                            \
		(char *)k, (char *)v \
	}
#define NR(a) (sizeof(a) / sizeof((a)[0]))

START_TEST(put_as_azurite_verified_it)
{
	struct blob_kv headers[] = { KV("x-ms-version", "2021-12-02"),
		KV("x-ms-meta-Foo", "Bar"), KV("Content-Type", "text/plain"),
		KV("x-ms-date", "Tue, 14 Nov 2023 22:13:20 GMT"),
		KV("x-ms-blob-type", "BlockBlob"), KV("User-Agent", "x"),
		KV("Accept", "*/*") };
	struct blob_sign_msg msg = { "PUT", "/devstoreaccount1/ctr1/a.txt", "",
		11, headers, NR(headers) };

	check_signed("devstoreaccount1", &msg,
		"PUT\n\n\n11\n\ntext/plain\n\n\n\n\n\n\n"
		"x-ms-blob-type:BlockBlob\n"
		"x-ms-date:Tue, 14 Nov 2023 22:13:20 GMT\n"
		"x-ms-meta-foo:Bar\n"
		"x-ms-version:2021-12-02\n"
		"/devstoreaccount1/devstoreaccount1/ctr1/a.txt");
}
END_TEST

START_TEST(all_standard_headers_in_order_and_no_zero_length)
{
	struct blob_kv headers[] = { KV("range", " bytes=0-5 "),
		KV("if-unmodified-since", "d"), KV("If-None-Match", "*"),
		KV("if-match", "\"0x1\""), KV("if-modified-since", "a"),
		KV("date", "D"), KV("content-type", "t"),
		KV("content-md5", "m=="), KV("content-language", "l"),
		KV("content-encoding", "e") };
	struct blob_sign_msg msg = { "GET", "/c/b", NULL, 0, headers,
		NR(headers) };

	check_signed("acct", &msg,
		"GET\ne\nl\n\nm==\nt\nD\na\n\"0x1\"\n*\nd\nbytes=0-5\n"
		"/acct/c/b");
}
END_TEST

START_TEST(ms_headers_in_the_services_order)
{
	struct blob_kv headers[] = { KV("x-ms-meta-ab", "9"),
		KV("x-ms-meta-a1", "7"), KV("x-ms-meta-a_b", "6"),
		KV("x-ms-meta-a", "5"), KV("x-ms-meta-A2", "8"),
		KV("x-ms-meta-posix_owner", "11"), KV("x-ms-meta-b", "10"),
		KV("x-ms-copy-source-if", "2"), KV("x-ms-copy-source", "1"),
		KV("x-ms-date", "3"), KV("x-ms-lease-id", "4") };
	struct blob_sign_msg msg = { "PUT", "/c/b", "", 0, headers,
		NR(headers) };

	check_signed("acct", &msg,
		"PUT\n\n\n\n\n\n\n\n\n\n\n\n"
		"x-ms-copy-source:1\nx-ms-copy-source-if:2\nx-ms-date:3\n"
		"x-ms-lease-id:4\nx-ms-meta-a:5\nx-ms-meta-a_b:6\n"
		"x-ms-meta-a1:7\nx-ms-meta-a2:8\nx-ms-meta-ab:9\n"
		"x-ms-meta-b:10\nx-ms-meta-posix_owner:11\n"
		"/acct/c/b");
}
END_TEST

START_TEST(hyphen_counts_only_between_equals)
{
	struct blob_kv headers[] = { KV("x-ms-ab-c", "4"), KV("x-ms-a-b", "2"),
		KV("x-ms-abc", "3"), KV("x-ms-ab", "1"), KV("x-ms-a-bc", "5") };
	struct blob_sign_msg msg = { "PUT", "/", "", 0, headers, NR(headers) };

	check_signed("a", &msg,
		"PUT\n\n\n\n\n\n\n\n\n\n\n\n"
		"x-ms-ab:1\nx-ms-a-b:2\nx-ms-abc:3\nx-ms-ab-c:4\nx-ms-a-bc:5\n"
		"/a/");
}
END_TEST

START_TEST(empty_and_padded_values)
{
	struct blob_kv headers[] = { KV("x-ms-meta-e", ""),
		KV("x-ms-meta-f", "  a  b\t") };
	struct blob_sign_msg msg = { "PUT", "/c/b", "", 5, headers,
		NR(headers) };

	check_signed("acct", &msg,
		"PUT\n\n\n5\n\n\n\n\n\n\n\n\n"
		"x-ms-meta-e:\nx-ms-meta-f:a  b\n/acct/c/b");
}
END_TEST

START_TEST(query_is_decoded_and_sorted)
{
	struct blob_sign_msg msg = { "PUT", "/c/a%20b%2Bc",
		"Comp=block&blockid=a%2Bb%2F%3D%3d&prefix=a+b&flag&z=2&z=1&q=%4",
		0, NULL, 0 };

	check_signed("acct", &msg,
		"PUT\n\n\n\n\n\n\n\n\n\n\n\n/acct/c/a%20b%2Bc\n"
		"blockid:a+b/==\ncomp:block\nprefix:a b\nq:%4\nz:1,2");
}
END_TEST

START_TEST(without_a_key_nothing_is_signed)
{
	struct base_str s = BASE_STR_INIT;
	struct blob_sign_msg msg = { "GET", "/", "", 0, NULL, 0 };

	blob_creds_free(creds);
	load("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x");
	ck_assert_int_eq(blob_sign_shared_key(creds, "a", &msg, &s), -ENOKEY);
	ck_assert_ptr_null(s.data);
}
END_TEST

START_TEST(source_sas_is_signed)
{
	struct base_str got = BASE_STR_INIT, mac = BASE_STR_INIT;
	struct base_str want = BASE_STR_INIT;

	sign("r\n\n2023-11-14T23:13:20Z\n/blob/acct/c/a b/\xc3\xa4\n\n\n\n"
	     "2021-12-02\nb\n\n\n\n\n\n\n",
		&mac);
	base_str_puts(&want,
		"sv=2021-12-02&sr=b&sp=r&se=2023-11-14T23%3A13%3A20Z&sig=");
	for (const char *p = mac.data; *p != '\0'; p++) {
		if (*p == '+' || *p == '/' || *p == '=')
			base_str_printf(&want, "%%%02X", (unsigned)*p);
		else
			base_str_putc(&want, *p);
	}
	ck_assert_int_eq(blob_sign_source_sas(creds, "acct", "c",
				 "a b/\xc3\xa4", 1700000000, &got),
		0);
	ck_assert_str_eq(got.data, want.data);
	base_str_fini(&got);
	base_str_fini(&mac);
	base_str_fini(&want);
}
END_TEST

START_TEST(source_sas_of_others)
{
	struct base_str s = BASE_STR_INIT;

	blob_creds_free(creds);
	load("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=x%3D");
	ck_assert_int_eq(
		blob_sign_source_sas(creds, "a", "c", "b", 1700000000, &s), 0);
	ck_assert_str_eq(s.data, "sv=1&sig=x%3D");
	blob_creds_free(creds);
	load(NULL, NULL);
	ck_assert_int_eq(
		blob_sign_source_sas(creds, "a", "c", "b", 1700000000, &s),
		-EOPNOTSUPP);
	base_str_fini(&s);
}
END_TEST

static void check_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	struct base_str s = BASE_STR_INIT;

	for (size_t i = 0; i < len; i++)
		base_str_printf(&s, "%02x", bytes[i]);
	ck_assert_str_eq(s.data, hex);
	base_str_fini(&s);
}

#define MD5_ABC "900150983cd24fb0d6963f7d28e17f72"
#define SHA_ABC                            \
	"ba7816bf8f01cfea414140de5dae2223" \
	"b00361a396177a9cb410ff61f20015ad"

START_TEST(hashes_at_once)
{
	uint8_t md5[BLOB_MD5_BYTES], sha[BLOB_SHA256_BYTES];

	blob_md5("abc", 3, md5);
	check_hex(md5, sizeof(md5), MD5_ABC);
	blob_sha256("abc", 3, sha);
	check_hex(sha, sizeof(sha), SHA_ABC);
	blob_md5(NULL, 0, md5);
	check_hex(md5, sizeof(md5), "d41d8cd98f00b204e9800998ecf8427e");
}
END_TEST

START_TEST(hashes_in_pieces)
{
	uint8_t md5[BLOB_MD5_BYTES], sha[BLOB_SHA256_BYTES];
	struct blob_hash *h = blob_hash_new(BLOB_HASH_MD5);

	blob_hash_add(h, "a", 1);
	blob_hash_add(h, "", 0);
	blob_hash_add(h, "bc", 2);
	blob_hash_end(h, md5);
	check_hex(md5, sizeof(md5), MD5_ABC);
	h = blob_hash_new(BLOB_HASH_SHA256);
	blob_hash_add(h, "ab", 2);
	blob_hash_add(h, "c", 1);
	blob_hash_end(h, sha);
	check_hex(sha, sizeof(sha), SHA_ABC);
	h = blob_hash_new(BLOB_HASH_SHA256);
	blob_hash_end(h, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob_sign");
	TCase *tc = tcase_create("sign");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, begin, end);
	tcase_add_test(tc, put_as_azurite_verified_it);
	tcase_add_test(tc, all_standard_headers_in_order_and_no_zero_length);
	tcase_add_test(tc, ms_headers_in_the_services_order);
	tcase_add_test(tc, hyphen_counts_only_between_equals);
	tcase_add_test(tc, empty_and_padded_values);
	tcase_add_test(tc, query_is_decoded_and_sorted);
	tcase_add_test(tc, without_a_key_nothing_is_signed);
	tcase_add_test(tc, source_sas_is_signed);
	tcase_add_test(tc, source_sas_of_others);
	tcase_add_test(tc, hashes_at_once);
	tcase_add_test(tc, hashes_in_pieces);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
