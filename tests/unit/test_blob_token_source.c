/* Where bearer tokens come from: each identity's request, and its refusal. */
#include "tests/unit/blob_token.h"

START_TEST(imds_takes_client_id_and_another_base)
{
	struct setup s;

	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "id &1", 1);
	setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9/", 1);
	script(&s, 200, GOOD("t1", "\"3600\""));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"http://127.0.0.1:9/metadata/identity/oauth2/token"
		"?api-version=2018-02-01"
		"&resource=https%3A%2F%2Fstorage.azure.com%2F"
		"&client_id=id%20%261");
	setup_end(&s);
}
END_TEST

START_TEST(no_managed_identity_fails_soon_and_says_what_to_do)
{
	struct setup s;
	char why[256];

	setup_begin(&s);
	s.fake.script[0].err = -EHOSTUNREACH;
	s.fake.script_nr = 1;
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_eq(fake_asked(&s.fake), 2);
	blob_token_why(s.token, why, sizeof(why));
	ck_assert_ptr_nonnull(strstr(why, "no credentials were given"));
	ck_assert_ptr_nonnull(strstr(why, "credentials=FILE"));
	setup_end(&s);
}
END_TEST

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(federated_token_is_read_again_each_time)
{
	struct setup s;
	char path[128];

	snprintf(path, sizeof(path), "%sfederated", dir);
	write_file(path, "jwt.one\n");
	setup_begin(&s);
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tenant", 1);
	setenv("AZURE_FEDERATED_TOKEN_FILE", path, 1);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"https://login.microsoftonline.com/tenant/oauth2/v2.0/token");
	ck_assert_str_eq(s.fake.body,
		"grant_type=client_credentials"
		"&scope=https%3A%2F%2Fstorage.azure.com%2F.default"
		"&client_id=cid&client_assertion_type="
		"urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3A"
		"jwt-bearer&client_assertion=jwt.one");
	write_file(path, "jwt.two");
	skew_ns += 3600 * NS_PER_S;
	get(&s);
	got_wait(&s.got, 2);
	ck_assert_ptr_nonnull(strstr(s.fake.body, "client_assertion=jwt.two"));
	unlink(path);
	setup_end(&s);
}
END_TEST

START_TEST(missing_federated_token_is_an_error_that_names_it)
{
	struct setup s;
	char why[256];

	setup_begin(&s);
	s.tune.round_ms = 5;
	setenv("AZURE_CLIENT_ID", "cid", 1);
	setenv("AZURE_TENANT_ID", "tenant", 1);
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token", 1);
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, -EIO);
	ck_assert_uint_eq(fake_asked(&s.fake), 0);
	blob_token_why(s.token, why, sizeof(why));
	ck_assert_ptr_nonnull(strstr(why, "/nonexistent/token"));
	setup_end(&s);
}
END_TEST

START_TEST(app_service_sends_its_header)
{
	struct setup s;

	setup_begin(&s);
	setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:8081/msi/token", 1);
	setenv("IDENTITY_HEADER", "secret-header", 1);
	script(&s, 200,
		"{\"access_token\":\"t1\",\"expires_on\":\"1700003600\"}");
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_str_eq(s.fake.url,
		"http://127.0.0.1:8081/msi/token?api-version=2019-08-01"
		"&resource=https%3A%2F%2Fstorage.azure.com%2F");
	ck_assert_str_eq(s.fake.header[0], "x-identity-header: secret-header");
	setup_end(&s);
}
END_TEST

static void arc_env(void)
{
	setenv("IDENTITY_ENDPOINT",
		"http://localhost:40342/metadata/identity/oauth2/token", 1);
	setenv("IMDS_ENDPOINT", "http://localhost:40342", 1);
}

START_TEST(arc_answers_the_challenge_with_the_key_file)
{
	struct setup s;
	char path[128], www[160];

	snprintf(path, sizeof(path), "%sabc.key", dir);
	snprintf(www, sizeof(www), "Basic realm=%s", path);
	write_file(path, "arc-key");
	setup_begin(&s);
	arc_env();
	s.fake.script[0] = (struct answer){ .status = 401, .www = www };
	s.fake.script_nr = 1;
	script(&s, 200, GOOD("t1", "3600"));
	setup_start(&s);
	get(&s);
	got_wait(&s.got, 1);
	ck_assert_int_eq(s.got.err, 0);
	ck_assert_uint_eq(fake_asked(&s.fake), 2);
	ck_assert_str_eq(s.fake.header[0], "metadata: true");
	ck_assert_str_eq(s.fake.header[1], "authorization: Basic arc-key");
	unlink(path);
	setup_end(&s);
}
END_TEST

START_TEST(arc_reads_no_file_but_the_agents)
{
	static const char *const bad[] = { "Basic realm=/etc/passwd.key",
		"Basic realm=/etc/shadow", "Bearer x", "", NULL };
	char up[160], sub[160], big[160], path[128];

	snprintf(up, sizeof(up), "Basic realm=%s../x.key", dir);
	snprintf(sub, sizeof(sub), "Basic realm=%sabc.txt", dir);
	snprintf(path, sizeof(path), "%sbig.key", dir);
	snprintf(big, sizeof(big), "Basic realm=%s", path);
	FILE *f = fopen(path, "w");
	for (int i = 0; i < 4097; i++)
		fputc('x', f);
	fclose(f);
	for (int i = 0; i < 8; i++) {
		struct setup s;
		const char *www = i < 5 ? bad[i]
			: i == 5	? up
			: i == 6	? sub
					: big;

		setup_begin(&s);
		arc_env();
		s.fake.script[0] = (struct answer){ .status = 401, .www = www };
		s.fake.script_nr = 1;
		setup_start(&s);
		get(&s);
		got_wait(&s.got, 1);
		ck_assert_int_eq(s.got.err, -EACCES);
		ck_assert_uint_eq(fake_asked(&s.fake), 1);
		setup_end(&s);
	}
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob_token_source");
	TCase *tc = tcase_create("source");

	tcase_add_test(tc, imds_takes_client_id_and_another_base);
	tcase_add_test(tc, no_managed_identity_fails_soon_and_says_what_to_do);
	tcase_add_test(tc, federated_token_is_read_again_each_time);
	tcase_add_test(tc, missing_federated_token_is_an_error_that_names_it);
	tcase_add_test(tc, app_service_sends_its_header);
	tcase_add_test(tc, arc_answers_the_challenge_with_the_key_file);
	tcase_add_test(tc, arc_reads_no_file_but_the_agents);
	return test_main(suite, tc);
}
