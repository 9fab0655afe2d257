/*
 * What the `dir:` store does beyond the contract of all stores: ordinary files
 * as blobs, blobs as ordinary files, and other programs' hands in the
 * reservoir.  The contract itself: tests/store.
 */
#include "tests/unit/blob_dir_call.h"

#include <sys/xattr.h>
#include <time.h>

/* ---- ordinary files are blobs ---- */

START_TEST(plain_file_shows_its_own_attributes)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 1234567, 891 } };
	struct blob_posix posix;
	struct call *c;

	write_file("f", "hello");
	ck_assert_int_eq(chmod(at("f"), 0640), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, at("f"), ts, 0), 0);
	c = head("f");
	ck_assert_int_eq(c->req.result, BLOB_OK);
	ck_assert_uint_eq(c->req.props.size_bytes, 5);
	posix = posix_of(c);
	ck_assert_int_eq(posix.kind, BLOB_KIND_FILE);
	ck_assert(posix.has_mode && posix.has_uid && posix.has_gid);
	ck_assert_uint_eq(posix.mode, 0640);
	ck_assert_uint_eq(posix.uid, getuid());
	ck_assert_int_eq(posix.mtime_ns, 1234567000000891);
	call_free(c);
	must_hold("f", "hello");
}
END_TEST

START_TEST(plain_directory_symlink_and_fifo_are_shown)
{
	struct call *c;

	ck_assert_int_eq(mkdir(at("d"), 0750), 0);
	ck_assert_int_eq(symlink("/no/where", at("l")), 0);
	ck_assert_int_eq(mkfifo(at("p"), 0600), 0);
	c = head("d");
	ck_assert_int_eq(c->req.props.type, BLOB_TYPE_DIR);
	ck_assert_int_eq(posix_of(c).kind, BLOB_KIND_DIR);
	ck_assert_uint_eq(posix_of(c).mode, 0750);
	ck_assert_str_eq(meta_of(c, "hdi_isfolder"), "true");
	call_free(c);
	c = head("l");
	ck_assert_int_eq(posix_of(c).kind, BLOB_KIND_SYMLINK);
	ck_assert_uint_eq(c->req.props.size_bytes, 9);
	call_free(c);
	must_hold("l", "/no/where");
	c = head("p");
	ck_assert_int_eq(posix_of(c).kind, BLOB_KIND_FIFO);
	ck_assert_uint_eq(c->req.props.size_bytes, 0);
	call_free(c);
	must_hold("p", ""); /* and does not wait for a writer */
}
END_TEST

/* ---- blobs are ordinary files ---- */

START_TEST(put_makes_a_plain_file_with_its_attributes)
{
	static const struct blob_kv meta[] = { KV("permissions", "36328"),
		KV("modtime", "1234567000000891"), KV("color", "blue") };
	struct stat st;
	struct call *c;

	/* 0106750: set-id bits stay in the metadata. */
	ck_assert_int_eq(put("a/f", NULL, "hello", meta, 3, NULL), BLOB_OK);
	must_be_file("a/f", "hello");
	ck_assert_int_eq(stat(at("a/f"), &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0750);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1234567);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 891);
	c = head("a/f");
	ck_assert_str_eq(meta_of(c, "permissions"), "36328");
	ck_assert_uint_eq(c->req.props.meta_nr, 3);
	call_free(c);
}
END_TEST

START_TEST(put_gives_the_file_its_owner)
{
	static const struct blob_kv meta[] = { KV("permissions", "33188"),
		KV("posix_owner", "1234"), KV("posix_group", "5678") };
	struct stat st;

	ck_assert_int_eq(put("f", NULL, "hello", meta, 3, NULL), BLOB_OK);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ck_assert_uint_eq(st.st_uid, getuid() == 0 ? 1234 : getuid());
	if (getuid() == 0)
		ck_assert_uint_eq(st.st_gid, 5678);
}
END_TEST

START_TEST(symlink_and_directory_blobs_are_real)
{
	static const struct blob_kv link_meta[] = { KV("is_symlink", "true"),
		KV("modtime", "1234567000000000") };
	static const struct blob_kv dir_meta[] = { KV("hdi_isfolder", "true"),
		KV("permissions", "16872") };
	char target[64];
	struct stat st;
	ssize_t n;

	ck_assert_int_eq(put("l", NULL, "t/o", link_meta, 2, NULL), BLOB_OK);
	n = readlink(at("l"), target, sizeof(target));
	ck_assert_int_eq(n, 3);
	ck_assert(memcmp(target, "t/o", 3) == 0);
	ck_assert_int_eq(lstat(at("l"), &st), 0);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1234567);
	ck_assert_int_eq(put("d", NULL, "", dir_meta, 2, NULL), BLOB_OK);
	ck_assert_int_eq(lstat(at("d"), &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | 0750);
}
END_TEST

START_TEST(symlink_bytes_that_are_no_target_stay_a_file)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true") };
	struct stat st;

	ck_assert_int_eq(put("l", NULL, "", meta, 1, NULL), BLOB_OK);
	ck_assert_int_eq(lstat(at("l"), &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	must_hold("l", "");
}
END_TEST

START_TEST(nothing_is_left_over)
{
	char etag[BLOB_ETAG_MAX];

	ck_assert_int_eq(put("f", NULL, "one", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(put("f", etag, "two", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(
		put("f", NULL, "three", NULL, 0, NULL), BLOB_CONDITION);
	ck_assert_int_eq(delete ("f", etag), BLOB_OK);
	ck_assert_uint_eq(count_in(".forebay/tmp"), 0);
	ck_assert_uint_eq(count_in(".forebay/stage"), 0);
}
END_TEST

START_TEST(directory_that_nobody_asked_for_goes_with_its_last_blob)
{
	static const struct blob_kv dir_meta[] = { KV("hdi_isfolder", "true"),
		KV("permissions", "16877") };
	char etag[BLOB_ETAG_MAX], other[BLOB_ETAG_MAX];
	struct stat st;

	ck_assert_int_eq(put("a/b/c/f", NULL, "x", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(put("a/g", NULL, "x", NULL, 0, other), BLOB_OK);
	ck_assert_int_eq(lstat(at("a/b/c"), &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
	ck_assert_int_eq(delete ("a/b/c/f", etag), BLOB_OK);
	ck_assert_int_ne(lstat(at("a/b"), &st), 0);
	/* Now somebody asks for it. */
	ck_assert_int_eq(put("a", NULL, "", dir_meta, 2, NULL), BLOB_OK);
	ck_assert_int_eq(delete ("a/g", other), BLOB_OK);
	ck_assert_int_eq(lstat(at("a"), &st), 0);
	/* Made by hand: asked for, too. */
	ck_assert_int_eq(mkdir(at("hand"), 0755), 0);
	ck_assert_int_eq(put("hand/f", NULL, "x", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(delete ("hand/f", etag), BLOB_OK);
	ck_assert_int_eq(lstat(at("hand"), &st), 0);
}
END_TEST

/* ---- other hands ---- */

START_TEST(write_in_place_moves_the_etag_and_voids_what_was_known)
{
	static const struct blob_kv meta[] = { KV("permissions", "33188"),
		KV("modtime", "1234567000000000"), KV("forebay", "mark"),
		KV("color", "blue") };
	char etag[BLOB_ETAG_MAX];
	struct call *c;
	int fd;

	ck_assert_int_eq(put("f", NULL, "hello", meta, 4, etag), BLOB_OK);
	c = head("f");
	ck_assert(c->req.props.has_md5);
	call_free(c);
	fd = open(at("f"), O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "J", 1, 0), 1);
	close(fd);
	c = head("f");
	ck_assert_str_ne(c->req.props.etag, etag);
	ck_assert(!c->req.props.has_md5);
	ck_assert_ptr_null(meta_of(c, "forebay"));
	ck_assert_str_eq(meta_of(c, "color"), "blue");
	ck_assert_int_gt(posix_of(c).mtime_ns, 1234567000000000);
	call_free(c);
	ck_assert_int_eq(put("f", etag, "mine", NULL, 0, NULL), BLOB_CONDITION);
	ck_assert_int_eq(delete ("f", etag), BLOB_CONDITION);
	must_be_file("f", "Jello");
}
END_TEST

START_TEST(write_that_restores_mtime_moves_the_etag)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT } };
	char etag[BLOB_ETAG_MAX], now[BLOB_ETAG_MAX];
	struct stat st;

	ck_assert_int_eq(put("f", NULL, "hello", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ts[1] = st.st_mtim;
	write_file("f", "jello");
	ck_assert_int_eq(utimensat(AT_FDCWD, at("f"), ts, 0), 0);
	etag_of("f", now);
	ck_assert_str_ne(etag, now);
}
END_TEST

START_TEST(rename_over_by_hand_moves_the_etag)
{
	char etag[BLOB_ETAG_MAX];
	struct call *c;

	ck_assert_int_eq(put("f", NULL, "hello", NULL, 0, etag), BLOB_OK);
	write_file("new", "jello");
	ck_assert_int_eq(rename(at("new"), at("f")), 0);
	ck_assert_int_eq(put("f", etag, "mine", NULL, 0, NULL), BLOB_CONDITION);
	c = head("f");
	ck_assert(posix_of(c).has_mode);
	ck_assert(!c->req.props.has_md5);
	call_free(c);
}
END_TEST

START_TEST(chmod_by_hand_is_shown_and_keeps_the_content_known)
{
	static const struct blob_kv meta[] = { KV("permissions", "33188"),
		KV("forebay", "mark") };
	char etag[BLOB_ETAG_MAX];
	struct call *c;

	ck_assert_int_eq(put("f", NULL, "hello", meta, 2, etag), BLOB_OK);
	ck_assert_int_eq(chmod(at("f"), 0600), 0);
	c = head("f");
	ck_assert_str_ne(c->req.props.etag, etag);
	ck_assert_uint_eq(posix_of(c).mode, 0600);
	ck_assert_str_eq(meta_of(c, "forebay"), "mark");
	ck_assert(c->req.props.has_md5);
	call_free(c);
}
END_TEST

START_TEST(chmod_by_hand_moves_a_directorys_etag)
{
	char etag[BLOB_ETAG_MAX], same[BLOB_ETAG_MAX], now[BLOB_ETAG_MAX];

	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	etag_of("d", etag);
	write_file("d/f", "x");
	ck_assert_int_eq(unlink(at("d/f")), 0);
	write_file("d/g", "x");
	etag_of("d", same);
	ck_assert_str_eq(etag, same);
	ck_assert_int_eq(chmod(at("d"), 0700), 0);
	etag_of("d", now);
	ck_assert_str_ne(etag, now);
}
END_TEST

START_TEST(move_by_hand_takes_the_metadata_along)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true"),
		KV("color", "blue") };
	struct call *c;

	ck_assert_int_eq(put("f", NULL, "hello", meta + 1, 1, NULL), BLOB_OK);
	ck_assert_int_eq(put("l", NULL, "there", meta, 2, NULL), BLOB_OK);
	ck_assert_int_eq(rename(at("f"), at("f2")), 0);
	ck_assert_int_eq(rename(at("l"), at("l2")), 0);
	c = head("f2");
	ck_assert_str_eq(meta_of(c, "color"), "blue");
	call_free(c);
	c = head("l2");
	ck_assert_str_eq(meta_of(c, "color"), "blue");
	call_free(c);
}
END_TEST

START_TEST(directory_that_is_not_empty_is_busy)
{
	char etag[BLOB_ETAG_MAX], child[BLOB_ETAG_MAX];
	struct call *c;

	ck_assert_int_eq(put("d/f", NULL, "x", NULL, 0, child), BLOB_OK);
	etag_of("d", etag);
	c = call_new(BLOB_DELETE, "d");
	c->req.cond.if_match = etag;
	ck_assert_int_eq(run(c), BLOB_BUSY);
	ck_assert_int_eq(c->req.err, -ENOTEMPTY);
	call_free(c);
	ck_assert_int_eq(put("d", etag, "a file", NULL, 0, NULL), BLOB_BUSY);
	must_hold("d/f", "x");
	ck_assert_int_eq(delete ("d/f", child), BLOB_OK);
	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	etag_of("d", etag);
	ck_assert_int_eq(put("d", etag, "a file", NULL, 0, etag), BLOB_OK);
	must_be_file("d", "a file");
	ck_assert_int_eq(delete ("d", etag), BLOB_OK);
	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	etag_of("d", etag);
	ck_assert_int_eq(delete ("d", etag), BLOB_OK);
	ck_assert(!exists("d"));
}
END_TEST

START_TEST(file_stays_where_a_directory_is_wanted)
{
	struct call *c = put_new("f/g", NULL, "x");

	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
	ck_assert_int_eq(run(c), BLOB_REFUSED);
	ck_assert_int_eq(c->req.err, -ENOTDIR);
	call_free(c);
	must_be_file("f", "x");
}
END_TEST

START_TEST(no_symlink_leads_out)
{
	struct call *c;

	ck_assert_int_eq(symlink(top, at("out")), 0);
	ck_assert_int_eq(symlink("/etc/passwd", at("file")), 0);
	c = head("out/r");
	ck_assert_int_eq(c->req.result, BLOB_NOT_FOUND);
	call_free(c);
	ck_assert_int_eq(
		put("out/escaped", NULL, "x", NULL, 0, NULL), BLOB_REFUSED);
	ck_assert(access(at("../escaped"), F_OK) != 0);
	must_hold("file", "/etc/passwd");
	c = call_new(BLOB_LIST, "out");
	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->req.page.entries_nr, 0);
	call_free(c);
	c = call_new(BLOB_LIST, "");
	c->req.in.list.recursive = true;
	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->req.page.entries_nr, 2);
	call_free(c);
}
END_TEST

static int damage(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	int fd;

	(void)st;
	(void)ftw;
	if (type != FTW_F)
		return 0;
	fd = open(path, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "XX", 2, 60), 2);
	close(fd);
	return 0;
}

START_TEST(damaged_record_counts_as_none)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true"),
		KV("color", "blue") };
	struct call *c;

	ck_assert_int_eq(put("l", NULL, "there", meta, 2, NULL), BLOB_OK);
	ck_assert_int_eq(nftw(at(".forebay/meta"), damage, 4, FTW_PHYS), 0);
	c = head("l");
	ck_assert_int_eq(c->req.result, BLOB_OK);
	ck_assert_ptr_null(meta_of(c, "color"));
	ck_assert_int_eq(posix_of(c).kind, BLOB_KIND_SYMLINK);
	call_free(c);
	must_hold("l", "there");
	write_file("f", "x");
	/* No xattrs here is as good. */
	setxattr(at("f"), "user.forebay.meta", "fbd1garbage", 11, 0);
	c = head("f");
	ck_assert_int_eq(c->req.result, BLOB_OK);
	ck_assert(posix_of(c).has_mode);
	call_free(c);
}
END_TEST

static TCase *files_case(void)
{
	TCase *t = new_case("files");

	tcase_add_test(t, plain_file_shows_its_own_attributes);
	tcase_add_test(t, plain_directory_symlink_and_fifo_are_shown);
	tcase_add_test(t, put_makes_a_plain_file_with_its_attributes);
	tcase_add_test(t, put_gives_the_file_its_owner);
	tcase_add_test(t, symlink_and_directory_blobs_are_real);
	tcase_add_test(t, symlink_bytes_that_are_no_target_stay_a_file);
	tcase_add_test(t, nothing_is_left_over);
	tcase_add_test(
		t, directory_that_nobody_asked_for_goes_with_its_last_blob);
	return t;
}

static TCase *hands_case(void)
{
	TCase *t = new_case("hands");

	tcase_add_test(
		t, write_in_place_moves_the_etag_and_voids_what_was_known);
	tcase_add_test(t, write_that_restores_mtime_moves_the_etag);
	tcase_add_test(t, rename_over_by_hand_moves_the_etag);
	tcase_add_test(t, chmod_by_hand_is_shown_and_keeps_the_content_known);
	tcase_add_test(t, chmod_by_hand_moves_a_directorys_etag);
	tcase_add_test(t, move_by_hand_takes_the_metadata_along);
	tcase_add_test(t, directory_that_is_not_empty_is_busy);
	tcase_add_test(t, file_stays_where_a_directory_is_wanted);
	tcase_add_test(t, no_symlink_leads_out);
	tcase_add_test(t, damaged_record_counts_as_none);
	return t;
}

int main(void)
{
	TCase *cases[] = { files_case(), hands_case() };

	return run_cases("blob_dir", cases, 2);
}
