/*
 * The `dir:` store's own room, its listings, several stores on one directory,
 * and a reservoir that fails: gone, exchanged, full, read-only, or on a kernel
 * or file system that lacks something.
 */
#include "tests/unit/blob_dir_call.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

/* ---- what is the store's own ---- */

START_TEST(own_names_are_refused_and_others_beside_them_work)
{
	static const char *const own[] = { ".forebay/stage", ".forebay/tmp/x",
		".forebay/meta/00/1", ".forebay/trash", ".forebay/lock" };
	struct call *c;

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		c = head(own[i]);
		ck_assert_int_eq(c->req.result, BLOB_NAME);
		call_free(c);
		ck_assert_int_eq(blob_name_check(store, own[i]), -EINVAL);
		ck_assert_int_eq(
			put(own[i], NULL, "x", NULL, 0, NULL), BLOB_NAME);
	}
	ck_assert_int_eq(
		put(".forebay/id", NULL, "12", NULL, 0, NULL), BLOB_OK);
	must_hold(".forebay/id", "12");
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
	for (int recursive = 0; recursive < 2; recursive++) {
		c = call_new(BLOB_LIST, "");
		c->req.in.list.recursive = recursive;
		ck_assert_int_eq(run(c), BLOB_OK);
		ck_assert_uint_eq(c->req.page.entries_nr, 1);
		ck_assert_str_eq(c->req.page.entries[0].name, "f");
		call_free(c);
	}
	c = call_new(BLOB_LIST, ".forebay");
	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->req.page.entries_nr, 1);
	ck_assert_str_eq(c->req.page.entries[0].name, ".forebay/id");
	call_free(c);
}
END_TEST

START_TEST(reading_writes_nothing)
{
	struct call *c;

	write_file("f", "hello");
	must_hold("f", "hello");
	c = call_new(BLOB_LIST, "");
	ck_assert_int_eq(run(c), BLOB_OK);
	call_free(c);
	call_free(head("f"));
	ck_assert_int_eq(delete ("nothing", "\"0x1\""), BLOB_NOT_FOUND);
	ck_assert(!exists(".forebay"));
}
END_TEST

START_TEST(mutation_without_a_condition_is_refused)
{
	static const enum blob_op ops[] = { BLOB_PUT, BLOB_COMMIT, BLOB_DELETE,
		BLOB_SET_META };
	char etag[BLOB_ETAG_MAX];

	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, etag), BLOB_OK);
	for (unsigned i = 0; i < 4; i++) {
		struct call *c = call_new(ops[i], "f");

		ck_assert_int_eq(run(c), BLOB_REFUSED);
		call_free(c);
		/* Nor does If-None-Match guard what needs a blob. */
		c = call_new(ops[i], "f");
		c->req.cond.if_none_match_any = true;
		ck_assert_int_eq(run(c), i < 2 ? BLOB_CONDITION : BLOB_REFUSED);
		call_free(c);
	}
	must_be_file("f", "x");
}
END_TEST

static void stage(const char *name, uint8_t id)
{
	struct call *c = call_new(BLOB_PUT_BLOCK, name);

	c->req.in.block.id[0] = id;
	c->req.in.block.body.mem = "block";
	c->req.in.block.body.len_bytes = 5;
	blob_md5("block", 5, c->md5);
	c->req.in.block.body.md5 = c->md5;
	ck_assert_int_eq(run(c), BLOB_OK);
	call_free(c);
}

static int old_stage(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { time(NULL), 0 } };

	(void)st;
	(void)type;
	ts[1].tv_sec -= 8 * 24 * 3600;
	if (ftw->level == 1)
		utimensat(AT_FDCWD, path, ts, 0);
	return 0;
}

START_TEST(staged_blocks_go_with_a_put_or_after_a_week)
{
	stage("f", 1);
	ck_assert_uint_eq(count_in(".forebay/stage"), 1);
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
	ck_assert_uint_eq(count_in(".forebay/stage"), 0);
	stage("old", 1);
	nftw(at(".forebay/stage"), old_stage, 4, FTW_PHYS);
	stage("young", 1);
	blob_store_close(store);
	store = open_dir(root);
	ck_assert_uint_eq(count_in(".forebay/stage"), 2);
	ck_assert_int_eq(put("g", NULL, "x", NULL, 0, NULL), BLOB_OK);
	ck_assert_uint_eq(count_in(".forebay/stage"), 1);
}
END_TEST

/* ---- listing ---- */

static char *next_page(const char *dir, bool recursive, uint32_t max,
	const char *start, unsigned *nr)
{
	struct call *c = call_new(BLOB_LIST, dir);
	char *next;

	c->req.in.list.recursive = recursive;
	c->req.in.list.max = max;
	c->req.in.list.start = start;
	ck_assert_int_eq(run(c), BLOB_OK);
	*nr += (unsigned)c->req.page.entries_nr;
	next = c->req.page.next ? strdup(c->req.page.next) : NULL;
	call_free(c);
	return next;
}

START_TEST(listing_goes_on_in_another_store)
{
	char name[32], *start = NULL, *next;
	unsigned nr = 0, pages = 0;

	for (unsigned i = 0; i < 30; i++) {
		if (i % 5)
			snprintf(name, sizeof(name), "d/e%u/f%u", i / 10, i);
		else
			snprintf(name, sizeof(name), "d/f%u", i);
		ck_assert_int_eq(put(name, NULL, "x", NULL, 0, NULL), BLOB_OK);
	}
	do {
		/* No cursor survives this: the marker alone must do. */
		blob_store_close(store);
		store = open_dir(root);
		next = next_page("d", true, 4, start, &nr);
		free(start);
		start = next;
		pages++;
	} while (start);
	ck_assert_uint_eq(nr, 33);
	ck_assert_uint_eq(pages, 9);
}
END_TEST

START_TEST(many_listings_at_once_are_all_right)
{
	enum { LISTS = 20, NAMES = 30 };
	char name[32], *start[LISTS] = { NULL };
	unsigned nr[LISTS] = { 0 };

	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		write_file(name, "x");
	}
	/* More than cursors are kept. */
	for (unsigned page = 0; page < NAMES / 3; page++) {
		for (unsigned i = 0; i < LISTS; i++) {
			char *next = next_page("", false, 3, start[i], &nr[i]);

			free(start[i]);
			start[i] = next;
		}
	}
	for (unsigned i = 0; i < LISTS; i++) {
		ck_assert_uint_eq(nr[i], NAMES);
		ck_assert_ptr_null(start[i]);
	}
}
END_TEST

START_TEST(markers_that_are_nonsense_are_refused)
{
	static const char *const markers[] = { "", "x", "1", "1:", "zz:a",
		"1:elsewhere/a" };

	write_file("f", "x");
	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	for (unsigned i = 0; i < 6; i++) {
		struct call *c = call_new(BLOB_LIST, "d");

		c->req.in.list.start = markers[i];
		ck_assert_int_eq(run(c), BLOB_REFUSED);
		call_free(c);
	}
}
END_TEST

/* ---- several stores on one directory ---- */

START_TEST(of_writers_in_two_stores_one_wins)
{
	struct blob_store *stores[2] = { store, open_dir(root) };
	char etag[BLOB_ETAG_MAX];

	ck_assert_int_eq(put("f", NULL, "base", NULL, 0, etag), BLOB_OK);
	for (unsigned round = 0; round < 10; round++) {
		struct call *calls[16];
		unsigned won = 0;

		for (unsigned i = 0; i < 16; i++) {
			calls[i] = put_new("f", etag, "same");
			blob_submit(stores[i % 2], &calls[i]->req);
		}
		for (unsigned i = 0; i < 16; i++)
			finish(calls[i]);
		for (unsigned i = 0; i < 16; i++) {
			if (calls[i]->req.result == BLOB_OK) {
				won++;
				memcpy(etag, calls[i]->req.props.etag,
					sizeof(etag));
			} else {
				ck_assert_int_eq(
					calls[i]->req.result, BLOB_CONDITION);
			}
			call_free(calls[i]);
		}
		ck_assert_uint_eq(won, 1);
	}
	blob_store_close(stores[1]);
}
END_TEST

/* ---- a reservoir that fails ---- */

START_TEST(open_says_what_is_wrong)
{
	static const struct {
		const char *url;
		int err;
	} cases[] = { { "dir:relative", -EINVAL }, { "dir:", -EINVAL },
		{ "dir:/etc/passwd", -ENOTDIR } };

	for (unsigned i = 0; i < 3; i++) {
		struct blob_config config = { .url = cases[i].url };
		struct blob_store *s;
		char why[256] = "";

		ck_assert_int_eq(blob_dir_open(&config, &s, why, sizeof(why)),
			cases[i].err);
		ck_assert(strstr(why, cases[i].url + 4) != NULL);
	}
}
END_TEST

START_TEST(path_that_goes_and_comes_back)
{
	char away[96];
	struct call *c;

	snprintf(away, sizeof(away), "%s/away", top);
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
	ck_assert_int_eq(rename(root, away), 0);
	c = head("f");
	ck_assert_int_eq(c->req.result, BLOB_NO_CONTAINER);
	ck_assert_int_eq(c->req.err, -ENXIO);
	call_free(c);
	wait_state(BLOB_STATE_GONE);
	ck_assert_int_eq(put("g", NULL, "x", NULL, 0, NULL), BLOB_NO_CONTAINER);
	ck_assert_int_eq(rename(away, root), 0);
	/* By itself: the store looks for it. */
	wait_state(BLOB_STATE_UP);
	must_hold("f", "x");
}
END_TEST

START_TEST(another_container_in_its_place_is_refused)
{
	char away[96];

	snprintf(away, sizeof(away), "%s/away", top);
	ck_assert_int_eq(
		put(".forebay/id", NULL, "12", NULL, 0, NULL), BLOB_OK);
	ck_assert_int_eq(rename(root, away), 0);
	ck_assert_int_eq(mkdir(root, 0755), 0);
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_NO_CONTAINER);
	ck_assert(!exists("f"));
	ck_assert_int_eq(rmdir(root), 0);
	ck_assert_int_eq(rename(away, root), 0);
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
}
END_TEST

START_TEST(removed_bookkeeping_is_made_again)
{
	ck_assert_int_eq(put("f", NULL, "x", NULL, 0, NULL), BLOB_OK);
	nftw(at(".forebay"), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	/* The one that notices may fail, as surely not applied. */
	if (put("g", NULL, "x", NULL, 0, NULL) != BLOB_OK)
		ck_assert_int_eq(put("g", NULL, "x", NULL, 0, NULL), BLOB_OK);
	must_hold("f", "x");
	must_be_file("g", "x");
}
END_TEST

/* Mounts a tmpfs at the root, for this (forked) test alone.  False: not ours
 * to do here. */
static bool mount_small(const char *options)
{
	blob_store_close(store);
	if (unshare(CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", root, "tmpfs", 0, options) < 0) {
		fprintf(stderr, "skipped: cannot mount here: %s\n",
			strerror(errno));
		store = open_dir(root);
		return false;
	}
	store = open_dir(root);
	return true;
}

START_TEST(full_reservoir_refuses_and_keeps_what_it_has)
{
	char *large = malloc(1 << 20), etag[BLOB_ETAG_MAX];
	struct call *c;

	memset(large, 'x', (1 << 20) - 1);
	large[(1 << 20) - 1] = '\0';
	if (mount_small("size=256k")) {
		ck_assert_int_eq(put("f", NULL, "old", NULL, 0, etag), BLOB_OK);
		c = put_new("f", etag, large);
		ck_assert_int_eq(run(c), BLOB_UNAVAILABLE);
		ck_assert_int_eq(c->req.err, -ENOSPC);
		ck_assert_str_eq(c->req.code, "NoSpace");
		ck_assert(!c->req.uncertain);
		call_free(c);
		must_hold("f", "old");
		/* The failed bytes are gone again. */
		ck_assert_int_eq(put("f", etag, "new", NULL, 0, NULL), BLOB_OK);
	}
	free(large);
}
END_TEST

START_TEST(reservoir_that_turns_read_only_can_be_read)
{
	char etag[BLOB_ETAG_MAX];
	struct call *c;

	if (!mount_small("size=1m"))
		return;
	ck_assert_int_eq(put("f", NULL, "old", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(
		mount("none", root, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	c = put_new("f", etag, "new");
	ck_assert_int_eq(run(c), BLOB_DENIED);
	ck_assert_int_eq(c->req.err, -EROFS);
	call_free(c);
	ck_assert_int_eq(delete ("f", etag), BLOB_DENIED);
	must_hold("f", "old");
}
END_TEST

START_TEST(works_without_xattrs)
{
	static const struct blob_kv meta[] = { KV("hdi_isfolder", "true"),
		KV("color", "blue") };
	char etag[BLOB_ETAG_MAX];
	struct call *c;

	if (!mount_small("size=1m") ||
		mount("none", root, "ramfs", 0, NULL) < 0)
		return;
	ck_assert_int_eq(put("d/f", NULL, "x", meta + 1, 1, etag), BLOB_OK);
	ck_assert_int_eq(put("d", NULL, "", meta, 2, NULL), BLOB_OK);
	c = head("d/f");
	ck_assert_str_eq(c->req.props.etag, etag);
	ck_assert_str_eq(meta_of(c, "color"), "blue");
	ck_assert(c->req.props.has_md5);
	call_free(c);
	c = head("d");
	ck_assert_str_eq(meta_of(c, "color"), "blue");
	call_free(c);
	ck_assert_int_eq(put("d/f", etag, "y", NULL, 0, etag), BLOB_OK);
	ck_assert_int_eq(delete ("d/f", etag), BLOB_OK);
}
END_TEST

/* From now on, in this (forked) test, the kernel is older than openat2(). */
static void forget_openat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

START_TEST(works_without_openat2)
{
	struct call *c;

	blob_store_close(store);
	forget_openat2();
	store = open_dir(root);
	ck_assert_int_eq(put("a/b/c", NULL, "x", NULL, 0, NULL), BLOB_OK);
	must_hold("a/b/c", "x");
	ck_assert_int_eq(symlink(top, at("a/out")), 0);
	c = head("a/out/r");
	ck_assert_int_eq(c->req.result, BLOB_NOT_FOUND);
	call_free(c);
	ck_assert_int_eq(
		put("a/out/escaped", NULL, "x", NULL, 0, NULL), BLOB_REFUSED);
	c = call_new(BLOB_LIST, "");
	c->req.in.list.recursive = true;
	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->req.page.entries_nr, 4);
	call_free(c);
}
END_TEST

static TCase *own_case(void)
{
	TCase *t = new_case("own");

	tcase_add_test(t, own_names_are_refused_and_others_beside_them_work);
	tcase_add_test(t, reading_writes_nothing);
	tcase_add_test(t, mutation_without_a_condition_is_refused);
	tcase_add_test(t, staged_blocks_go_with_a_put_or_after_a_week);
	tcase_add_test(t, listing_goes_on_in_another_store);
	tcase_add_test(t, many_listings_at_once_are_all_right);
	tcase_add_test(t, markers_that_are_nonsense_are_refused);
	tcase_add_test(t, of_writers_in_two_stores_one_wins);
	return t;
}

static TCase *faults_case(void)
{
	TCase *t = new_case("faults");
	const char *fork_mode = getenv("CK_FORK");

	tcase_add_test(t, open_says_what_is_wrong);
	tcase_add_test(t, path_that_goes_and_comes_back);
	tcase_add_test(t, another_container_in_its_place_is_refused);
	tcase_add_test(t, removed_bookkeeping_is_made_again);
	/* These change the process they run in. */
	if (fork_mode && strcmp(fork_mode, "no") == 0)
		return t;
	tcase_add_test(t, full_reservoir_refuses_and_keeps_what_it_has);
	tcase_add_test(t, reservoir_that_turns_read_only_can_be_read);
	tcase_add_test(t, works_without_xattrs);
	tcase_add_test(t, works_without_openat2);
	return t;
}

int main(void)
{
	TCase *cases[] = { own_case(), faults_case() };

	return run_cases("blob_dir_faults", cases, 2);
}
