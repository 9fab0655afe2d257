/* Credentials: files, the environment, and what is chosen. */
#include "blob/creds.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/clear_env.h"

#define KEY "c2VjcmV0LWtleQ=="

static char dir[] = "/tmp/forebay-creds-XXXXXX";
static char path[128];
static char why[512];
static struct blob_creds *creds;

static void begin(void)
{
	clear_env();
	snprintf(path, sizeof(path), "%s/creds", dir);
	why[0] = '\0';
	creds = NULL;
}

static void end(void)
{
	blob_creds_free(creds);
	unlink(path);
}

static void write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static int load_file(const char *text)
{
	write_file(text, 0600);
	return blob_creds_load(path, &creds, why, sizeof(why));
}

static int load_env(void)
{
	return blob_creds_load(NULL, &creds, why, sizeof(why));
}

static void check_key(void)
{
	size_t bytes;
	const void *key = blob_creds_key(creds, &bytes);

	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_SHARED_KEY);
	ck_assert_uint_eq(bytes, 10);
	ck_assert_mem_eq(key, "secret-key", 10);
}

/* Fails, with one line that has `word` and no secret. */
static void check_refused(const char *text, int err, const char *word)
{
	ck_assert_int_eq(load_file(text), err);
	ck_assert_msg(strstr(why, word) != NULL, "%s", why);
	ck_assert_ptr_null(strchr(why, '\n'));
	ck_assert_ptr_null(strstr(why, "S3CRET"));
	ck_assert_ptr_null(creds);
}

START_TEST(file_of_key_and_account)
{
	ck_assert_int_eq(
		load_file("# a comment\n\n"
			  "AZURE_STORAGE_ACCOUNT=acct\n"
			  "  export AZURE_STORAGE_KEY = \"" KEY "\" \r\n"
			  "AZURE_CLIENT_ID=''"),
		0);
	check_key();
	ck_assert_str_eq(blob_creds_account(creds), "acct");
	ck_assert_ptr_null(blob_creds_endpoint(creds));
	ck_assert_ptr_null(blob_creds_sas(creds));
	ck_assert_ptr_null(blob_creds_token(creds));
}
END_TEST

START_TEST(file_others_can_read_is_refused)
{
	static const mode_t modes[] = { 0640, 0604, 0660, 0644, 0620, 0610 };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		write_file("AZURE_STORAGE_KEY=" KEY, modes[i]);
		ck_assert_int_eq(
			blob_creds_load(path, &creds, why, sizeof(why)),
			-EACCES);
		ck_assert_ptr_nonnull(
			strstr(why, "is readable by others: chmod 600 "));
		ck_assert_ptr_nonnull(strstr(why, path));
	}
	write_file("AZURE_STORAGE_KEY=" KEY, 0400);
	ck_assert_int_eq(blob_creds_load(path, &creds, why, sizeof(why)), 0);
}
END_TEST

START_TEST(file_of_another_user_is_refused)
{
	if (geteuid() != 0)
		return; /* only root can give a file away */
	write_file("AZURE_STORAGE_KEY=" KEY, 0600);
	ck_assert_int_eq(chown(path, 12345, 12345), 0);
	ck_assert_int_eq(
		blob_creds_load(path, &creds, why, sizeof(why)), -EACCES);
	ck_assert_ptr_nonnull(strstr(why, "another user"));
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
	ck_assert_int_eq(
		blob_creds_load(path, &creds, why, sizeof(why)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why, path));
	ck_assert_int_eq(
		blob_creds_load(dir, &creds, why, sizeof(why)), -EINVAL);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(
		blob_creds_load(path, &creds, why, sizeof(why)), -EINVAL);
}
END_TEST

START_TEST(bad_lines_are_refused_by_number)
{
	check_refused("AZURE_STORAGE_KEY=" KEY "\nAZURE_STORAGE_KYE=x\n",
		-EINVAL, "line 2: unknown key AZURE_STORAGE_KYE");
	check_refused("justS3CRETbase64==\n", -EINVAL, "line 1: unknown key");
	check_refused("just S3CRET words\n", -EINVAL, "line 1 is not");
	check_refused("AZURE_STORAGE_KEY=\"S3CRET\n", -EINVAL, "quote");
	check_refused("AZURE_STORAGE_KEY=\"\n", -EINVAL, "quote");
	check_refused("AZURE_CLIENT_ID=a\nAZURE_CLIENT_ID=b\n", -EINVAL,
		"line 2: AZURE_CLIENT_ID is there twice");
	check_refused("=x\n", -EINVAL, "line 1: unknown key");
}
END_TEST

START_TEST(empty_file_holds_no_credential)
{
	check_refused("", -ENOKEY, "no credential");
	check_refused("# nothing\nAZURE_STORAGE_KEY=\n", -ENOKEY, "no cred");
}
END_TEST

START_TEST(huge_or_binary_file_is_refused)
{
	char *text = malloc(70001);
	FILE *f;

	memset(text, '#', 70000);
	text[70000] = '\0';
	check_refused(text, -EINVAL, "too large");
	text[65536] = '\0'; /* exactly what is allowed: one long comment */
	check_refused(text, -ENOKEY, "no credential");
	free(text);
	f = fopen(path, "w");
	fwrite("A\0B", 1, 3, f);
	fclose(f);
	ck_assert_int_eq(
		blob_creds_load(path, &creds, why, sizeof(why)), -EINVAL);
}
END_TEST

START_TEST(bad_key_is_found_at_load)
{
	check_refused("AZURE_STORAGE_KEY=S3CRET!\n", -EINVAL,
		"AZURE_STORAGE_KEY is not an account key");
	check_refused("AZURE_STORAGE_KEY=S3CRETx\n", -EINVAL, "base64");
	check_refused("AZURE_STORAGE_CONNECTION_STRING=AccountName=a;"
		      "AccountKey=S3CRET!\n",
		-EINVAL, "CONNECTION_STRING is not an account key");
}
END_TEST

START_TEST(file_hides_the_environment)
{
	setenv("AZURE_STORAGE_KEY", KEY, 1);
	setenv("AZURE_STORAGE_ACCOUNT", "env", 1);
	ck_assert_int_eq(
		load_file("AZURE_STORAGE_SAS_TOKEN=?sv=1&sig=x%3D\n"), 0);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_SAS);
	ck_assert_str_eq(blob_creds_sas(creds), "sv=1&sig=x%3D");
	ck_assert_ptr_null(blob_creds_account(creds));
}
END_TEST

START_TEST(environment_is_read_and_left)
{
	setenv("AZURE_STORAGE_KEY", KEY, 1);
	setenv("AZURE_STORAGE_ACCOUNT", "acct", 1);
	ck_assert_int_eq(load_env(), 0);
	check_key();
	ck_assert_str_eq(blob_creds_account(creds), "acct");
	ck_assert_str_eq(getenv("AZURE_STORAGE_KEY"), KEY);
}
END_TEST

START_TEST(order_of_choice)
{
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tid", 1);
	setenv("AZURE_CLIENT_SECRET", "sec", 1);
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/f", 1);
	setenv("AZURE_STORAGE_SAS_TOKEN", "sig=s", 1);
	setenv("AZURE_STORAGE_KEY", KEY, 1);
	setenv("AZURE_STORAGE_CONNECTION_STRING",
		"AccountName=c;AccountKey=" KEY, 1);
	ck_assert_int_eq(load_env(), 0);
	ck_assert_str_eq(blob_creds_account(creds), "c");
	blob_creds_free(creds);
	unsetenv("AZURE_STORAGE_CONNECTION_STRING");
	ck_assert_int_eq(load_env(), 0);
	check_key();
	blob_creds_free(creds);
	unsetenv("AZURE_STORAGE_KEY");
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_SAS);
	blob_creds_free(creds);
	unsetenv("AZURE_STORAGE_SAS_TOKEN");
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(
		blob_creds_token(creds)->kind, BLOB_TOKEN_CLIENT_SECRET);
	blob_creds_free(creds);
	unsetenv("AZURE_CLIENT_SECRET");
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_token(creds)->kind, BLOB_TOKEN_WORKLOAD);
	ck_assert_str_eq(blob_creds_token(creds)->federated_file, "/f");
	blob_creds_free(creds);
	unsetenv("AZURE_FEDERATED_TOKEN_FILE");
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_token(creds)->kind, BLOB_TOKEN_IMDS);
	ck_assert_str_eq(blob_creds_token(creds)->client_id, "cid");
	ck_assert(blob_creds_token(creds)->asked_for);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_TOKEN);
}
END_TEST

START_TEST(nothing_given_means_managed_identity)
{
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_TOKEN);
	ck_assert_int_eq(blob_creds_token(creds)->kind, BLOB_TOKEN_IMDS);
	ck_assert(!blob_creds_token(creds)->asked_for);
	ck_assert_str_eq(
		blob_creds_token(creds)->endpoint, "http://169.254.169.254");
}
END_TEST

START_TEST(connection_string_with_key)
{
	ck_assert_int_eq(
		load_file("AZURE_STORAGE_CONNECTION_STRING="
			  "DefaultEndpointsProtocol=https;accountname=acct;"
			  "AccountKey=" KEY ";"
			  "EndpointSuffix=core.chinacloudapi.cn\n"),
		0);
	check_key();
	ck_assert_str_eq(blob_creds_account(creds), "acct");
	ck_assert_str_eq(blob_creds_endpoint(creds),
		"https://acct.blob.core.chinacloudapi.cn");
}
END_TEST

START_TEST(connection_string_with_endpoint)
{
	ck_assert_int_eq(
		load_file(
			"AZURE_STORAGE_CONNECTION_STRING="
			"\"AccountName=a;AccountKey=" KEY ";BlobEndpoint="
			"http://127.0.0.1:10000/a/;QueueEndpoint=http://x;\""),
		0);
	check_key();
	ck_assert_str_eq(
		blob_creds_endpoint(creds), "http://127.0.0.1:10000/a");
}
END_TEST

START_TEST(connection_string_with_sas)
{
	ck_assert_int_eq(
		load_file("AZURE_STORAGE_CONNECTION_STRING="
			  "BlobEndpoint=https://a.blob.core.windows.net;"
			  "SharedAccessSignature=sv=1&sig=abc%3D"),
		0);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_SAS);
	ck_assert_str_eq(blob_creds_sas(creds), "sv=1&sig=abc%3D");
	ck_assert_str_eq(
		blob_creds_endpoint(creds), "https://a.blob.core.windows.net");
}
END_TEST

START_TEST(connection_string_of_the_emulator)
{
	ck_assert_int_eq(load_file("AZURE_STORAGE_CONNECTION_STRING="
				   "UseDevelopmentStorage=true"),
		0);
	ck_assert_int_eq(blob_creds_kind(creds), BLOB_AUTH_SHARED_KEY);
	ck_assert_str_eq(blob_creds_account(creds), "devstoreaccount1");
	ck_assert_str_eq(blob_creds_endpoint(creds),
		"http://127.0.0.1:10000/devstoreaccount1");
}
END_TEST

START_TEST(nonsense_is_refused)
{
	check_refused("AZURE_STORAGE_CONNECTION_STRING=S3CRET\n", -EINVAL,
		"neither AccountKey nor");
	check_refused("AZURE_STORAGE_CONNECTION_STRING=;;=;AccountKey=;\n",
		-EINVAL, "neither AccountKey nor");
	check_refused("AZURE_STORAGE_SAS_TOKEN=S3CRET\n", -EINVAL, "not a SAS");
	check_refused("AZURE_STORAGE_SAS_TOKEN=sv=1&sig=\n", -EINVAL, "SAS");
	check_refused("AZURE_STORAGE_SAS_TOKEN=sig=S3CRET x\n", -EINVAL, "SAS");
	check_refused("AZURE_CLIENT_SECRET=S3CRET\n", -EINVAL,
		"AZURE_CLIENT_SECRET needs AZURE_CLIENT_ID too");
	check_refused("AZURE_CLIENT_SECRET=S3CRET\nAZURE_CLIENT_ID=c\n",
		-EINVAL, "needs AZURE_TENANT_ID too");
	check_refused("AZURE_CLIENT_SECRET=s\nAZURE_CLIENT_ID=c\n"
		      "AZURE_TENANT_ID=../x\n",
		-EINVAL, "AZURE_TENANT_ID is not");
	check_refused("AZURE_STORAGE_KEY=" KEY "\nAZURE_STORAGE_ACCOUNT=a b\n",
		-EINVAL, "account");
}
END_TEST

static int load_authority(const char *host)
{
	char text[256];

	snprintf(text, sizeof(text),
		"AZURE_CLIENT_SECRET=s\nAZURE_CLIENT_ID=c\nAZURE_TENANT_ID=t\n"
		"AZURE_AUTHORITY_HOST=%s\n",
		host);
	blob_creds_free(creds);
	creds = NULL;
	return load_file(text);
}

START_TEST(secrets_go_to_https_or_this_machine)
{
	ck_assert_int_eq(load_authority("https://login.x.cn///"), 0);
	ck_assert_str_eq(
		blob_creds_token(creds)->authority, "https://login.x.cn");
	ck_assert_int_eq(load_authority("login.x.cn/"), 0);
	ck_assert_str_eq(
		blob_creds_token(creds)->authority, "https://login.x.cn");
	ck_assert_int_eq(load_authority("http://127.0.0.1:8080"), 0);
	ck_assert_int_eq(load_authority("http://login.x.cn"), -EINVAL);
	ck_assert_int_eq(load_authority("http://127.0.0.1.evil.cn"), -EINVAL);
	ck_assert_int_eq(load_authority("http://localhost@evil.cn"), -EINVAL);
	ck_assert_int_eq(load_authority("https://"), -EINVAL);
	ck_assert_int_eq(load_authority(""), 0);
	ck_assert_str_eq(blob_creds_token(creds)->authority,
		"https://login.microsoftonline.com");
}
END_TEST

START_TEST(platforms_identity_endpoints_are_found)
{
	setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token", 1);
	setenv("IMDS_ENDPOINT", "http://127.0.0.1:1", 1);
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_token(creds)->kind, BLOB_TOKEN_ARC);
	blob_creds_free(creds);
	setenv("IDENTITY_HEADER", "h", 1);
	ck_assert_int_eq(load_env(), 0);
	ck_assert_int_eq(blob_creds_token(creds)->kind, BLOB_TOKEN_APP_SERVICE);
	ck_assert_str_eq(blob_creds_token(creds)->header, "h");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob_creds");
	TCase *tc = tcase_create("creds");
	SRunner *sr;
	int failed;

	if (mkdtemp(dir) == NULL)
		return EXIT_FAILURE;
	tcase_add_checked_fixture(tc, begin, end);
	tcase_add_test(tc, file_of_key_and_account);
	tcase_add_test(tc, file_others_can_read_is_refused);
	tcase_add_test(tc, file_of_another_user_is_refused);
	tcase_add_test(tc, what_is_no_file_is_refused);
	tcase_add_test(tc, bad_lines_are_refused_by_number);
	tcase_add_test(tc, empty_file_holds_no_credential);
	tcase_add_test(tc, huge_or_binary_file_is_refused);
	tcase_add_test(tc, bad_key_is_found_at_load);
	tcase_add_test(tc, file_hides_the_environment);
	tcase_add_test(tc, environment_is_read_and_left);
	tcase_add_test(tc, order_of_choice);
	tcase_add_test(tc, nothing_given_means_managed_identity);
	tcase_add_test(tc, connection_string_with_key);
	tcase_add_test(tc, connection_string_with_endpoint);
	tcase_add_test(tc, connection_string_with_sas);
	tcase_add_test(tc, connection_string_of_the_emulator);
	tcase_add_test(tc, nonsense_is_refused);
	tcase_add_test(tc, secrets_go_to_https_or_this_machine);
	tcase_add_test(tc, platforms_identity_endpoints_are_found);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	rmdir(dir);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
