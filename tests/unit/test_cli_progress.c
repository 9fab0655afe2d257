/* What progress looks like. */
#include <check.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

static char line[512];

static const char *draw(
	const struct cli_progress_state *state, double rate, bool bar, int cols)
{
	cli_progress_line(state, rate, bar, cols, line, sizeof(line));
	return line;
}

START_TEST(a_pipe_gets_a_plain_line)
{
	struct cli_progress_state s = { .files_done = 12,
		.files_total = 40,
		.bytes_done = 1ULL << 30,
		.bytes_total = 3ULL << 30 };

	ck_assert_str_eq(draw(&s, 64 << 20, false, 80),
		"12 of 40 files, 1.0 GiB of 3.0 GiB, 64.0 MiB/s, 0:32 left");
	ck_assert_str_eq(
		draw(&s, -1, false, 80), "12 of 40 files, 1.0 GiB of 3.0 GiB");
	s.files_total = 0;
	ck_assert_str_eq(draw(&s, 0, false, 80), "1.0 GiB of 3.0 GiB, 0 B/s");
}
END_TEST

START_TEST(a_bar_fits_the_terminal)
{
	struct cli_progress_state s = { .bytes_done = 1, .bytes_total = 2 };

	ck_assert_str_eq(draw(&s, -1, true, 40),
		"[#########.........]  50 %  1 B of 2 B");
	for (int cols = 1; cols < 200; cols++)
		ck_assert_int_le((int)strlen(draw(&s, 1e6, true, cols)), cols);
	s.bytes_done = 3; /* the file grew meanwhile */
	ck_assert_ptr_nonnull(strstr(draw(&s, -1, true, 80), "100 %"));
}
END_TEST

START_TEST(there_is_a_bar_at_80_columns)
{
	struct cli_progress_state s = { .files_done = 12345,
		.files_total = 45678,
		.bytes_done = 1001ULL << 20,
		.bytes_total = 900ULL << 30 };

	draw(&s, 123 << 20, true, 80);
	ck_assert_int_eq(line[0], '[');
	ck_assert_int_le((int)strlen(line), 80);
}
END_TEST

START_TEST(less_than_all_is_never_100)
{
	struct cli_progress_state s = { .bytes_done = 999999,
		.bytes_total = 1000000 };

	ck_assert_ptr_nonnull(strstr(draw(&s, -1, true, 80), " 99 %"));
}
END_TEST

START_TEST(empty_files_count_by_their_number)
{
	struct cli_progress_state s = { .files_done = 1, .files_total = 4 };

	ck_assert_ptr_nonnull(strstr(draw(&s, -1, true, 80), " 25 %"));
}
END_TEST

START_TEST(what_cannot_be_measured_is_named)
{
	struct cli_progress_state s = { .doing = "listing" };

	ck_assert_str_eq(draw(&s, 5, true, 80), "listing");
}
END_TEST

START_TEST(sizes_and_ages_are_short)
{
	char buf[CLI_SIZE_CHARS];

	ck_assert_str_eq(cli_size(0, buf), "0 B");
	ck_assert_str_eq(cli_size(1023, buf), "1023 B");
	ck_assert_str_eq(cli_size(1024, buf), "1.0 KiB");
	ck_assert_str_eq(cli_size(1048575, buf), "1.0 MiB");
	ck_assert_str_eq(cli_size(UINT64_MAX, buf), "16.0 EiB");
	ck_assert_str_eq(cli_age(0.2, buf), "0 s");
	ck_assert_str_eq(cli_age(119, buf), "119 s");
	ck_assert_str_eq(cli_age(120, buf), "2 min");
	ck_assert_str_eq(cli_age(7200, buf), "2 h");
	ck_assert_str_eq(cli_age(400000, buf), "5 d");
}
END_TEST

START_TEST(paths_of_any_bytes_travel)
{
	static const char *const paths[] = { "", "a/b", "\xff\xfe",
		"a/\xc3\x28", "\xc3\xa9", "a\nb" };
	struct base_str back = BASE_STR_INIT;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		json_t *json = fs_path_json(paths[i]);

		ck_assert_str_eq(
			paths[i][0] ? cli_path(json, &back) : "", paths[i]);
		json_decref(json);
	}
	base_str_fini(&back);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cli_progress");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, a_pipe_gets_a_plain_line);
	tcase_add_test(t, a_bar_fits_the_terminal);
	tcase_add_test(t, less_than_all_is_never_100);
	tcase_add_test(t, there_is_a_bar_at_80_columns);
	tcase_add_test(t, empty_files_count_by_their_number);
	tcase_add_test(t, what_cannot_be_measured_is_named);
	tcase_add_test(t, sizes_and_ages_are_short);
	tcase_add_test(t, paths_of_any_bytes_travel);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
