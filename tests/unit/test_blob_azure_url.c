/* STORE of the command line. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "blob/azure.h"
#include "blob/azure_url.h"

static char why[300];

static const char *canonical(const char *text)
{
	static char url[300];

	why[0] = '\0';
	if (blob_azure_canonical(text, url, sizeof(url), why, sizeof(why)) != 0)
		return "";
	return url;
}

START_TEST(equal_stores_have_equal_urls)
{
	static const char want[] = "https://acc.blob.core.windows.net/ctr";
	static const char *const same[] = {
		"https://acc.blob.core.windows.net/ctr",
		"HTTPS://Acc.Blob.Core.Windows.Net/ctr/",
		"https://acc.blob.core.windows.net:443/ctr//",
	};
	size_t i;

	for (i = 0; i < 3; i++)
		ck_assert_str_eq(canonical(same[i]), want);
	ck_assert_str_eq(
		canonical("https://acc.blob.core.windows.net/ctr/%61/b%20c/"),
		"https://acc.blob.core.windows.net/ctr/a/b%20c");
	ck_assert_str_eq(canonical("http://127.0.0.1:80/devstoreaccount1/ctr"),
		"http://127.0.0.1/devstoreaccount1/ctr");
}
END_TEST

static void check(const char *text, bool path_style, bool loopback,
	const char *account, const char *root, const char *prefix)
{
	struct blob_azure_url url;

	ck_assert_msg(blob_azure_url_parse(text, &url, why, sizeof(why)) == 0,
		"%s: %s", text, why);
	ck_assert_msg(url.path_style == path_style, "%s", text);
	ck_assert_msg(url.loopback == loopback, "%s", text);
	ck_assert_str_eq(url.account, account);
	ck_assert_str_eq(url.root, root);
	ck_assert_str_eq(url.prefix, prefix);
	blob_azure_url_fini(&url);
}

START_TEST(the_account_is_in_the_host_or_in_the_path)
{
	check("http://127.0.0.1:10000/acc/ctr/p/q", true, true, "acc",
		"/acc/ctr", "p/q");
	check("http://[::1]:10000/acc/ctr", true, true, "acc", "/acc/ctr", "");
	check("http://localhost/acc/ctr", true, true, "acc", "/acc/ctr", "");
	check("http://azurite:10000/acc/ctr", true, false, "acc", "/acc/ctr",
		"");
	check("http://acc.localhost:10000/ctr", false, true, "acc", "/ctr", "");
	check("https://acc.blob.core.usgovcloudapi.net/ctr/x", false, false,
		"acc", "/ctr", "x");
	check("https://10.0.0.1/acc/ctr", true, false, "acc", "/acc/ctr", "");
}
END_TEST

START_TEST(secrets_in_the_url_are_refused_and_not_repeated)
{
	static const char *const bad[] = {
		"https://acc.blob.core.windows.net/ctr?sv=1&sig=SECRET",
		"https://me:SECRET@acc.blob.core.windows.net/ctr",
		"https://acc.blob.core.windows.net/ctr#SECRET",
		"https://acc.blob.core.windows.net?sig=SECRET",
	};
	size_t i;

	for (i = 0; i < 4; i++) {
		ck_assert_str_eq(canonical(bad[i]), "");
		ck_assert_ptr_null(strstr(why, "SECRET"));
		ck_assert_str_ne(why, "");
	}
}
END_TEST

START_TEST(nonsense_is_refused_with_a_reason)
{
	static const char *const bad[] = { "", "ftp://a.b/ctr", "https://",
		"https:///ctr", "https://acc.blob.core.windows.net",
		"https://acc.blob.core.windows.net/",
		"https://acc.blob.core.windows.net/UPPER",
		"https://acc.blob.core.windows.net/ab",
		"https://acc.blob.core.windows.net/a--b",
		"https://acc.blob.core.windows.net:0/ctr",
		"https://acc.blob.core.windows.net:99999/ctr",
		"https://acc.blob.core.windows.net:x/ctr",
		"https://acc..blob/ctr", "https://a_c.blob.x/ctr",
		"http://[::1/acc/ctr", "http://[::g]/acc/ctr",
		"http://127.0.0.1:10000/acc", "http://127.0.0.1:10000//ctr",
		"https://acc.blob.core.windows.net/ctr/a b",
		"https://acc.blob.core.windows.net/ctr/%zz",
		"https://acc.blob.core.windows.net/ctr/a%00b",
		"https://acc.blob.core.windows.net/ctr/a//b",
		"https://acc.blob.core.windows.net/ctr/../x" };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ck_assert_msg(canonical(bad[i])[0] == '\0', "%s", bad[i]);
		ck_assert_msg(why[0] != '\0', "%s", bad[i]);
		ck_assert_ptr_null(strchr(why, '\n'));
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob_azure_url");
	TCase *t = tcase_create("url");
	SRunner *runner;
	int failed;

	tcase_add_test(t, equal_stores_have_equal_urls);
	tcase_add_test(t, the_account_is_in_the_host_or_in_the_path);
	tcase_add_test(t, secrets_in_the_url_are_refused_and_not_repeated);
	tcase_add_test(t, nonsense_is_refused_with_a_reason);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
