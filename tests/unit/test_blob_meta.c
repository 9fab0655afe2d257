/* What metadata mean: other tools' keys, our own, and the mark. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "blob/store.h"

#define LAST_MODIFIED 1234567890000000000LL

static struct blob_entry entry;
static struct blob_posix posix;
static struct blob_mark mark;
static struct blob_kv pairs[32];

static void begin(void)
{
	memset(&entry, 0, sizeof(entry));
	entry.props.meta = pairs;
	entry.props.mtime_ns = LAST_MODIFIED;
}

static void meta(const char *key, const char *value)
{
	pairs[entry.props.meta_nr++] =
		(struct blob_kv){ (char *)key, (char *)value };
}

static void decode(void)
{
	blob_meta_decode(&entry, &posix, &mark);
}

static void forget(void)
{
	entry.props.meta_nr = 0;
}

START_TEST(blob_without_metadata_is_a_file)
{
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_FILE);
	ck_assert(!posix.has_mode && !posix.has_uid && !posix.has_gid);
	ck_assert(!posix.has_rdev && !mark.present);
	ck_assert_int_eq(posix.mtime_ns, LAST_MODIFIED);
}
END_TEST

START_TEST(azcopy_file_is_read)
{
	meta("Permissions", "33188");
	meta("Posix_owner", "1000");
	meta("posix_group", "1001");
	meta("MODTIME", "1700000000123456789");
	meta("linux_statx_mask", "4095");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_FILE);
	ck_assert(posix.has_mode && posix.has_uid && posix.has_gid);
	ck_assert_uint_eq(posix.mode, 0644);
	ck_assert_uint_eq(posix.uid, 1000);
	ck_assert_uint_eq(posix.gid, 1001);
	ck_assert_int_eq(posix.mtime_ns, 1700000000123456789);
}
END_TEST

START_TEST(type_bits_beat_flags)
{
	static const struct {
		const char *permissions;
		enum blob_kind kind;
	} cases[] = {
		{ "33188", BLOB_KIND_FILE },
		{ "16877", BLOB_KIND_DIR },
		{ "41471", BLOB_KIND_SYMLINK },
		{ "4516", BLOB_KIND_FIFO },
		{ "49645", BLOB_KIND_SOCKET },
		{ "8612", BLOB_KIND_CHAR },
		{ "24996", BLOB_KIND_BLOCK },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		forget();
		meta("permissions", cases[i].permissions);
		meta("hdi_isfolder", "true"); /* AzCopy's flags overlap */
		meta("is_symlink", "true");
		meta("is_char_dev", "true");
		decode();
		ck_assert_int_eq(posix.kind, cases[i].kind);
		ck_assert(posix.has_mode);
	}
}
END_TEST

START_TEST(flags_are_read_where_no_type_is)
{
	meta("is_symlink", "true");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_SYMLINK);
	forget();
	meta("Hdi_isfolder", "true");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_DIR);
	forget();
	meta("hdi_isfolder", "True"); /* exactly `true` */
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_FILE);
	forget();
	meta("permissions", "0755"); /* AMLFS */
	meta("owner", "0");
	meta("hdi_isfolder", "true");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_DIR);
	ck_assert_uint_eq(posix.mode, 0755);
	forget();
	meta("permissions", "36864"); /* a type that does not exist */
	meta("is_symlink", "true");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_SYMLINK);
}
END_TEST

START_TEST(empty_blob_with_slash_is_a_directory)
{
	entry.slash = true;
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_DIR);
	entry.props.size_bytes = 1;
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_FILE);
}
END_TEST

START_TEST(prefix_and_real_directory_are_directories)
{
	entry.prefix = true;
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_DIR);
	entry.prefix = false;
	entry.props.type = BLOB_TYPE_DIR;
	meta("permissions", "33188");
	decode();
	ck_assert_int_eq(posix.kind, BLOB_KIND_DIR);
}
END_TEST

static void check_mode(const char *text, bool has, uint32_t mode)
{
	forget();
	meta("permissions", text);
	decode();
	ck_assert_msg(posix.has_mode == has, "%s", text);
	if (has)
		ck_assert_msg(posix.mode == mode, "%s: 0%o", text, posix.mode);
}

START_TEST(permissions_are_symbolic_octal_or_decimal)
{
	check_mode("rwxr-x--x", true, 0751);
	check_mode("rwsr-Sr-t", true, 07744 | 0001);
	check_mode("rwxrwxrwT", true, 01776);
	check_mode("rw-r-----+", true, 0640);
	check_mode("---------", true, 0);
	check_mode("0755", true, 0755);
	check_mode("0", true, 0);
	check_mode("420", true, 0644);
	check_mode("33261", true, 0755);
	check_mode("36333", true, 06755);
	check_mode("", false, 0);
	check_mode("rwxrwxrw", false, 0);
	check_mode("rwxrwxrwxx", false, 0);
	check_mode("xwrxwrxwr", false, 0);
	check_mode("rwtr-xr-x", false, 0);
	check_mode("0888", false, 0);
	check_mode("-1", false, 0);
	check_mode(" 420", false, 0);
	check_mode("99999999999999999999", false, 0);
}
END_TEST

START_TEST(owner_key_makes_permissions_octal)
{
	meta("group", "5");
	meta("permissions", "755");
	meta("posix_owner", "7");
	meta("posix_group", "8");
	decode();
	ck_assert_uint_eq(posix.mode, 0755);
	ck_assert_uint_eq(posix.uid, 7);
	ck_assert_uint_eq(posix.gid, 5); /* overrides */
}
END_TEST

START_TEST(ids_that_are_none_count_as_absent)
{
	meta("posix_owner", "4294967295");
	meta("posix_group", "x");
	decode();
	ck_assert(!posix.has_uid && !posix.has_gid);
	forget();
	meta("owner", "$superuser");
	meta("posix_owner", "12");
	decode();
	ck_assert_uint_eq(posix.uid, 12);
}
END_TEST

static void check_mtime(const char *key, const char *text, int64_t ns)
{
	forget();
	meta(key, text);
	decode();
	ck_assert_msg(posix.mtime_ns == ns, "%s: %lld", text,
		(long long)posix.mtime_ns);
}

START_TEST(times_of_all_tools_are_read)
{
	check_mtime("modtime", "1", 1);
	check_mtime("modtime", "-1500000000", -1500000000);
	check_mtime(
		"modtime", "2023-11-14 22:13:20 +0000", 1700000000000000000);
	check_mtime(
		"modtime", "2023-11-15 00:13:20 +0200", 1700000000000000000);
	check_mtime(
		"mtime", "2023-11-14T22:13:20.000000001Z", 1700000000000000001);
	check_mtime(
		"mtime", "2023-11-14T20:43:20.5-01:30", 1700000000500000000);
	check_mtime("mtime", "2023-11-14T22:13:20Z", 1700000000000000000);
	check_mtime("mtime", "1969-12-31T23:59:59.999999999Z", -1);
}
END_TEST

START_TEST(times_that_are_none_fall_back)
{
	static const char *const bad[] = { "", "x", "99999999999999999999",
		"2023-13-14 22:13:20 +0000", "2023-11-14 22:13:20",
		"2023-11-14 25:13:20 +0000", "2023-11-14 22:13:20 +0000 ",
		"9999-01-01 00:00:00 +0000", "2023-11-14", "--1" };
	static const char *const bad_mtime[] = { "", "1700000000.5",
		"2023-11-14T22:13:20", "2023-11-14T22:13:20.Z",
		"2023-11-14T22:13:20+0000", "2023-02-30T22:13:20Zx",
		"0001-01-01T00:00:00Z", "2023-11-14T22:13:2" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_mtime("modtime", bad[i], LAST_MODIFIED);
	for (size_t i = 0; i < sizeof(bad_mtime) / sizeof(bad_mtime[0]); i++)
		check_mtime("mtime", bad_mtime[i], LAST_MODIFIED);
}
END_TEST

START_TEST(rclones_edit_in_place_wins)
{
	meta("modtime", "1600000000000000000");
	meta("mtime", "2023-11-14T22:13:20Z");
	decode();
	ck_assert_int_eq(posix.mtime_ns, 1700000000000000000);
	forget();
	meta("modtime", "1600000000000000000");
	meta("mtime", "nonsense");
	decode();
	ck_assert_int_eq(posix.mtime_ns, 1600000000000000000);
}
END_TEST

/* ---- writing ---- */

static const char *value_of(struct blob_kv *kv, size_t nr, const char *key)
{
	const char *found = NULL;

	for (size_t i = 0; i < nr; i++) {
		if (strcasecmp(kv[i].key, key) == 0) {
			ck_assert_ptr_null(found); /* no key twice */
			found = kv[i].value;
		}
	}
	return found;
}

static struct blob_mark full_mark(void)
{
	struct blob_mark m = { .present = true,
		.parents_nr = BLOB_PARENTS_MAX };

	memset(m.content, 0xff, sizeof(m.content));
	memset(m.file, 0xfb, sizeof(m.file));
	memset(m.commit.host, 0xa5, sizeof(m.commit.host));
	m.commit.number = 0x0123456789abcdef;
	for (unsigned i = 0; i < BLOB_PARENTS_MAX; i++) {
		memset(m.parents[i].host, (int)i, BLOB_ID_BYTES);
		m.parents[i].number = UINT64_MAX - i;
	}
	return m;
}

START_TEST(the_full_set_is_written)
{
	struct blob_posix p = { .kind = BLOB_KIND_FILE,
		.has_mode = true,
		.has_uid = true,
		.has_gid = true,
		.mode = 04755,
		.uid = 1000,
		.gid = 100,
		.mtime_ns = 1700000000000000042 };
	struct blob_kv *kv;
	size_t nr;

	ck_assert_int_eq(blob_meta_encode(&p, NULL, NULL, 0, &kv, &nr), 0);
	ck_assert_uint_eq(nr, 9);
	ck_assert_str_eq(value_of(kv, nr, "permissions"), "35309");
	ck_assert_str_eq(value_of(kv, nr, "posix_owner"), "1000");
	ck_assert_str_eq(value_of(kv, nr, "posix_group"), "100");
	ck_assert_str_eq(value_of(kv, nr, "modtime"), "1700000000000000042");
	ck_assert_str_eq(
		value_of(kv, nr, "posix_atime"), "1700000000000000042");
	ck_assert_str_eq(
		value_of(kv, nr, "posix_ctime"), "1700000000000000042");
	ck_assert_str_eq(value_of(kv, nr, "posix_nlink"), "1");
	ck_assert_str_eq(value_of(kv, nr, "linux_statx_mask"), "250");
	ck_assert_str_eq(
		value_of(kv, nr, "mtime"), "2023-11-14T22:13:20.000000042Z");
	for (size_t i = 0; i < nr; i++)
		ck_assert(blob_meta_is_ours(kv[i].key));
	blob_kv_free(kv, nr);
}
END_TEST

START_TEST(mask_names_only_what_is_there)
{
	struct blob_posix p = { .kind = BLOB_KIND_DIR, .mtime_ns = -1 };
	struct blob_kv *kv;
	size_t nr;

	ck_assert_int_eq(blob_meta_encode(&p, NULL, NULL, 0, &kv, &nr), 0);
	ck_assert_ptr_null(value_of(kv, nr, "permissions"));
	ck_assert_str_eq(value_of(kv, nr, "linux_statx_mask"), "224");
	ck_assert_str_eq(value_of(kv, nr, "hdi_isfolder"), "true");
	ck_assert_str_eq(
		value_of(kv, nr, "mtime"), "1969-12-31T23:59:59.999999999Z");
	blob_kv_free(kv, nr);
}
END_TEST

START_TEST(what_is_written_is_read_back)
{
	static const int64_t times[] = { 0, 1, -1, -999999999, -1000000000,
		1700000000123456789, INT64_MAX, INT64_MIN + 1 };

	for (int kind = BLOB_KIND_FILE; kind <= BLOB_KIND_BLOCK; kind++) {
		for (size_t t = 0; t < sizeof(times) / sizeof(times[0]); t++) {
			struct blob_posix p = { .kind = (enum blob_kind)kind,
				.has_mode = t % 2 == 0 || kind > 2,
				.has_uid = t % 3 == 0,
				.has_gid = t % 3 == 1,
				.has_rdev = kind >= BLOB_KIND_CHAR,
				.mode = 0421,
				.uid = UINT32_MAX - 1,
				.gid = 0,
				.rdev = UINT64_MAX,
				.mtime_ns = times[t] };
			struct blob_mark m = full_mark();

			m.parents_nr = (unsigned)(t + (size_t)kind) % 9;
			ck_assert_int_eq(blob_meta_encode(&p, &m, NULL, 0,
						 &entry.props.meta,
						 &entry.props.meta_nr),
				0);
			decode();
			ck_assert_int_eq(posix.kind, kind);
			ck_assert_int_eq(posix.mtime_ns, p.mtime_ns);
			ck_assert(posix.has_mode == p.has_mode);
			ck_assert(posix.has_uid == p.has_uid);
			ck_assert(posix.has_gid == p.has_gid);
			ck_assert(posix.has_rdev == p.has_rdev);
			if (p.has_mode)
				ck_assert_uint_eq(posix.mode, p.mode);
			if (p.has_uid)
				ck_assert_uint_eq(posix.uid, p.uid);
			if (p.has_rdev)
				ck_assert_uint_eq(posix.rdev, p.rdev);
			for (unsigned i = m.parents_nr; i < BLOB_PARENTS_MAX;
				i++)
				memset(&m.parents[i], 0, sizeof(m.parents[i]));
			ck_assert(mark.present);
			ck_assert_mem_eq(
				mark.content, m.content, BLOB_ID_BYTES);
			ck_assert_mem_eq(mark.file, m.file, BLOB_ID_BYTES);
			ck_assert_mem_eq(
				&mark.commit, &m.commit, sizeof(m.commit));
			ck_assert_uint_eq(mark.parents_nr, m.parents_nr);
			ck_assert_mem_eq(
				mark.parents, m.parents, sizeof(m.parents));
			blob_kv_free(entry.props.meta, entry.props.meta_nr);
		}
	}
}
END_TEST

START_TEST(mark_fits_its_limit)
{
	struct blob_posix p = { .kind = BLOB_KIND_FILE };
	struct blob_mark m = full_mark();
	struct blob_kv *kv;
	size_t nr;

	ck_assert_int_eq(blob_meta_encode(&p, &m, NULL, 0, &kv, &nr), 0);
	ck_assert_uint_le(strlen(value_of(kv, nr, "forebay")), 512);
	blob_kv_free(kv, nr);
	m.present = false;
	ck_assert_int_eq(blob_meta_encode(&p, &m, NULL, 0, &kv, &nr), 0);
	ck_assert_ptr_null(value_of(kv, nr, "forebay"));
	blob_kv_free(kv, nr);
}
END_TEST

START_TEST(damaged_mark_counts_as_absent)
{
	struct blob_posix p = { .kind = BLOB_KIND_FILE };
	struct blob_mark m = full_mark();
	struct base_str raw = BASE_STR_INIT, text = BASE_STR_INIT;
	struct blob_kv *kv;
	size_t nr;
	char *good;

	m.parents_nr = 2;
	ck_assert_int_eq(blob_meta_encode(&p, &m, NULL, 0, &kv, &nr), 0);
	good = base_strdup(value_of(kv, nr, "forebay"));
	blob_kv_free(kv, nr);
	meta("forebay", good);
	decode();
	ck_assert(mark.present);
	for (size_t n = 0; n < strlen(good); n++) { /* every shorter one */
		char *cut = base_strdup(good);

		cut[n] = '\0';
		forget();
		meta("Forebay", cut);
		decode();
		ck_assert(!mark.present);
		free(cut);
	}
	ck_assert_int_eq(base_base64url_decode(good, strlen(good), &raw), 0);
	for (int i = 0; i < 4; i++) {
		char old = raw.data[0], *nr_at = &raw.data[57];

		if (i == 0)
			raw.data[0] = 2; /* another version */
		else
			*nr_at = i == 1 ? 1 : i == 2 ? 9 : (char)255;
		base_str_clear(&text);
		base_base64url_encode(raw.data, raw.len, &text);
		forget();
		meta("forebay", text.data);
		decode();
		ck_assert(!mark.present);
		ck_assert_uint_eq(mark.parents_nr, 0);
		raw.data[0] = old;
		*nr_at = 2;
	}
	for (int i = 0; i < 600; i++)
		base_str_putc(&raw, 'A'); /* too long */
	forget();
	meta("forebay", raw.data);
	decode();
	ck_assert(!mark.present);
	base_str_fini(&raw);
	base_str_fini(&text);
	free(good);
}
END_TEST

START_TEST(foreign_keys_are_kept_and_ours_replaced)
{
	struct blob_posix p = { .kind = BLOB_KIND_FILE };
	struct blob_kv foreign[] = { { (char *)"Project", (char *)" x " },
		{ (char *)"Permissions", (char *)"0777" },
		{ (char *)"OWNER", (char *)"3" },
		{ (char *)"is_fifo", (char *)"true" },
		{ (char *)"hdi_isfolder", (char *)"true" },
		{ (char *)"linux_btime", (char *)"5" } };
	struct blob_kv *kv;
	size_t nr;

	ck_assert_int_eq(blob_meta_encode(&p, NULL, foreign, 6, &kv, &nr), 0);
	ck_assert_str_eq(value_of(kv, nr, "Project"), " x ");
	ck_assert_str_eq(value_of(kv, nr, "linux_btime"), "5");
	ck_assert_ptr_null(value_of(kv, nr, "permissions"));
	ck_assert_ptr_null(value_of(kv, nr, "owner"));
	ck_assert_ptr_null(value_of(kv, nr, "is_fifo"));
	ck_assert_ptr_null(value_of(kv, nr, "hdi_isfolder"));
	ck_assert_str_eq(kv[nr - 1].key, "linux_btime"); /* after ours */
	blob_kv_free(kv, nr);
	ck_assert(!blob_meta_is_ours("project"));
	ck_assert(blob_meta_is_ours("Forebay"));
}
END_TEST

START_TEST(too_much_metadata_is_refused)
{
	struct blob_posix p = { .kind = BLOB_KIND_FILE };
	struct blob_kv *kv, foreign[1];
	size_t nr, ours = 0;
	char *big;

	ck_assert_int_eq(blob_meta_encode(&p, NULL, NULL, 0, &kv, &nr), 0);
	for (size_t i = 0; i < nr; i++)
		ours += strlen(kv[i].key) + strlen(kv[i].value);
	blob_kv_free(kv, nr);
	big = malloc(BLOB_META_BYTES_MAX);
	memset(big, 'x', BLOB_META_BYTES_MAX);
	big[BLOB_META_BYTES_MAX - ours - 1] = '\0'; /* with a key of one */
	foreign[0] = (struct blob_kv){ (char *)"k", big };
	ck_assert_int_eq(blob_meta_encode(&p, NULL, foreign, 1, &kv, &nr), 0);
	blob_kv_free(kv, nr);
	foreign[0].key = (char *)"kk";
	ck_assert_int_eq(
		blob_meta_encode(&p, NULL, foreign, 1, &kv, &nr), -E2BIG);
	free(big);
}
END_TEST

START_TEST(copies_are_deep)
{
	struct blob_kv from[] = { { (char *)"a", (char *)"1" },
		{ (char *)"b", (char *)"" } };
	struct blob_kv *kv;

	ck_assert_int_eq(blob_kv_copy(&kv, from, 2), 0);
	ck_assert_str_eq(kv[0].key, "a");
	ck_assert_ptr_ne(kv[0].key, from[0].key);
	ck_assert_str_eq(kv[1].value, "");
	blob_kv_free(kv, 2);
	ck_assert_int_eq(blob_kv_copy(&kv, NULL, 0), 0);
	blob_kv_free(kv, 0);
	blob_kv_free(NULL, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob_meta");
	TCase *tc = tcase_create("meta");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, begin, NULL);
	tcase_add_test(tc, blob_without_metadata_is_a_file);
	tcase_add_test(tc, azcopy_file_is_read);
	tcase_add_test(tc, type_bits_beat_flags);
	tcase_add_test(tc, flags_are_read_where_no_type_is);
	tcase_add_test(tc, empty_blob_with_slash_is_a_directory);
	tcase_add_test(tc, prefix_and_real_directory_are_directories);
	tcase_add_test(tc, permissions_are_symbolic_octal_or_decimal);
	tcase_add_test(tc, owner_key_makes_permissions_octal);
	tcase_add_test(tc, ids_that_are_none_count_as_absent);
	tcase_add_test(tc, times_of_all_tools_are_read);
	tcase_add_test(tc, times_that_are_none_fall_back);
	tcase_add_test(tc, rclones_edit_in_place_wins);
	tcase_add_test(tc, the_full_set_is_written);
	tcase_add_test(tc, mask_names_only_what_is_there);
	tcase_add_test(tc, what_is_written_is_read_back);
	tcase_add_test(tc, mark_fits_its_limit);
	tcase_add_test(tc, damaged_mark_counts_as_absent);
	tcase_add_test(tc, foreign_keys_are_kept_and_ours_replaced);
	tcase_add_test(tc, too_much_metadata_is_refused);
	tcase_add_test(tc, copies_are_deep);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
