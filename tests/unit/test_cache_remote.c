/* What the store holds under each name. */
#include "tests/unit/cache_index.h"

static struct cache_id id_of(uint8_t n)
{
	struct cache_id id = { { n, 1 } };

	return id;
}

static void put(struct cache_txn *txn, const char *name, uint8_t content)
{
	char copy[256];
	struct cache_remote r = { .name = copy,
		.kind = CACHE_FILE,
		.etag = "\"e\"",
		.content = id_of(content) };

	snprintf(copy, sizeof(copy), "%s", name);
	if (content == 0)
		memset(&r.content, 0, sizeof(r.content));
	OK(cache_remote_put(txn, &r));
}

START_TEST(row_comes_back_as_it_was)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char name[] = "dir/\xff", parents[] = "p\0q", foreign[] = "f\0\0";
	struct cache_remote in, out;

	memset(&in, 0, sizeof(in));
	in.name = name;
	snprintf(in.etag, sizeof(in.etag), "%s", "\"0x8D\"");
	in.size_bytes = UINT64_MAX / 2;
	in.kind = CACHE_DIR;
	in.slash = in.has_md5 = true;
	memset(in.md5, 7, sizeof(in.md5));
	in.content = id_of(1);
	in.file = id_of(2);
	in.commit_host = id_of(3);
	in.commit_number = 4;
	in.parents = parents;
	in.parents_bytes = sizeof(parents);
	in.attrs = (struct cache_attrs){ 0644, 1, 2, 3, -4 };
	in.foreign = foreign;
	in.foreign_bytes = sizeof(foreign);
	in.known_seq = 5;
	OK(cache_remote_put(txn, &in));
	OK(cache_remote_get(txn, name, &out));
	ck_assert_str_eq(out.name, in.name);
	ck_assert_str_eq(out.etag, in.etag);
	ck_assert_uint_eq(out.size_bytes, in.size_bytes);
	ck_assert_int_eq(out.kind, in.kind);
	ck_assert(out.slash && out.has_md5);
	ck_assert_mem_eq(out.md5, in.md5, sizeof(in.md5));
	ck_assert(cache_id_eq(&out.content, &in.content));
	ck_assert(cache_id_eq(&out.file, &in.file));
	ck_assert(cache_id_eq(&out.commit_host, &in.commit_host));
	ck_assert_uint_eq(out.commit_number, 4);
	ck_assert_uint_eq(out.parents_bytes, sizeof(parents));
	ck_assert_mem_eq(out.parents, parents, sizeof(parents));
	ck_assert_mem_eq(&out.attrs, &in.attrs, sizeof(in.attrs));
	ck_assert_uint_eq(out.foreign_bytes, sizeof(foreign));
	ck_assert_mem_eq(out.foreign, foreign, sizeof(foreign));
	ck_assert_uint_eq(out.known_seq, 5);
	cache_remote_fini(&out);
	put(txn, name, 0);
	OK(cache_remote_get(txn, name, &out));
	ck_assert_ptr_null(out.parents);
	ck_assert(!out.has_md5 && cache_id_is_none(&out.content));
	cache_remote_fini(&out);
	OK(cache_remote_del(txn, name));
	ck_assert_int_eq(cache_remote_del(txn, name), -ENOENT);
	ck_assert_int_eq(cache_remote_get(txn, name, &out), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

START_TEST(holder_of_content_is_found)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	struct cache_id seven = id_of(7), none = { { 0 } };
	struct cache_remote r;

	put(txn, "a", 7);
	ck_assert(!cache_remote_held_twice(txn, &seven));
	put(txn, "b", 7);
	put(txn, "c", 8);
	put(txn, "d", 0);
	put(txn, "e", 0);
	ck_assert(cache_remote_held_twice(txn, &seven));
	ck_assert(!cache_remote_held_twice(txn, &none));
	OK(cache_remote_holding(txn, &seven, "b", &r));
	ck_assert_str_eq(r.name, "b");
	cache_remote_fini(&r);
	OK(cache_remote_holding(txn, &seven, "c", &r));
	ck_assert(strcmp(r.name, "a") == 0 || strcmp(r.name, "b") == 0);
	cache_remote_fini(&r);
	OK(cache_remote_holding(txn, &seven, NULL, &r));
	cache_remote_fini(&r);
	ck_assert_int_eq(cache_remote_holding(txn, &none, "d", &r), -ENOENT);
	seven = id_of(9);
	ck_assert_int_eq(cache_remote_holding(txn, &seven, "a", &r), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- walks, against a plain model ---- */

#define NAMES 300

static char names[NAMES][64];
static size_t names_nr;

static int by_bytes(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void make_names(struct cache_txn *txn, unsigned *seed)
{
	static const char *const parts[] = { "a", "b", "a-", "a0", "ab", "\xff",
		"a.", "A" };

	names_nr = 0;
	while (names_nr < NAMES) {
		char *name = names[names_nr];
		int depth = 1 + rand_r(seed) % 4;
		bool known = false;

		name[0] = '\0';
		for (int i = 0; i < depth; i++) {
			size_t len = strlen(name);

			snprintf(name + len, 64 - len, "%s%s%d", i ? "/" : "",
				parts[rand_r(seed) % 8], rand_r(seed) % 3);
		}
		for (size_t i = 0; i < names_nr; i++)
			known = known || strcmp(names[i], name) == 0;
		if (known)
			continue;
		put(txn, name, 1);
		names_nr++;
	}
	qsort(names, names_nr, sizeof(names[0]), by_bytes);
}

static bool wanted(
	const char *name, const char *dir, const char *after, bool recursive)
{
	size_t len = strlen(dir);

	if (len != 0) {
		if (strncmp(name, dir, len) != 0 || name[len] != '/')
			return false;
		len++;
	}
	return (recursive || strchr(name + len, '/') == NULL) &&
		(after == NULL || strcmp(name, after) > 0);
}

struct walked {
	size_t at, nr;
	const char *dir, *after;
	bool recursive;
};

static int check_walk(void *arg, const struct cache_remote *remote)
{
	struct walked *w = arg;

	while (w->at < names_nr &&
		!wanted(names[w->at], w->dir, w->after, w->recursive))
		w->at++;
	ck_assert_uint_lt(w->at, names_nr);
	ck_assert_str_eq(remote->name, names[w->at]);
	w->at++;
	w->nr++;
	return 0;
}

START_TEST(walks_are_as_a_plain_model_says)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	unsigned seed = 1;

	make_names(txn, &seed);
	for (int i = 0; i < 3000; i++) {
		char dir[64], after[64];
		struct walked w = { .recursive = rand_r(&seed) % 2 };
		size_t max = rand_r(&seed) % 2 ? 5 : SIZE_MAX, left = 0;

		/* Some name, or a directory above it, or nothing. */
		snprintf(dir, sizeof(dir), "%s",
			names[rand_r(&seed) % names_nr]);
		for (int up = rand_r(&seed) % 3; up > 0 && *dir; up--)
			*(strrchr(dir, '/') ? strrchr(dir, '/') : dir) = '\0';
		snprintf(after, sizeof(after), "%s",
			names[rand_r(&seed) % names_nr]);
		w.dir = dir;
		w.after = rand_r(&seed) % 2 ? after : NULL;
		OK(cache_remote_each(
			txn, dir, w.after, w.recursive, max, check_walk, &w));
		for (size_t k = w.at; k < names_nr; k++)
			left += wanted(names[k], dir, w.after, w.recursive);
		ck_assert(left == 0 || w.nr == max);
		ck_assert_uint_le(w.nr, max);
	}
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

static int stop_at_once(void *arg, const struct cache_remote *remote)
{
	(void)arg;
	(void)remote;
	return -EINTR;
}

START_TEST(walk_ends_with_what_each_says)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);

	put(txn, "a", 1);
	ck_assert_int_eq(
		cache_remote_each(txn, "", NULL, true, 9, stop_at_once, NULL),
		-EINTR);
	OK(cache_remote_each(txn, "", NULL, true, 0, stop_at_once, NULL));
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

static void put_seq(struct cache_txn *txn, const char *name, uint64_t seq)
{
	char copy[16];
	struct cache_remote r = { .name = copy, .known_seq = seq };

	snprintf(copy, sizeof(copy), "%s", name);
	OK(cache_remote_put(txn, &r));
}

static void put_late(struct test_cache *t)
{
	struct cache_txn *txn = test_write(t);

	put_seq(txn, "late", 3000000);
	OK(cache_commit(txn));
}

START_TEST(max_seq_is_above_all_rows_after_any_end)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	uint64_t top = 0;

	put_seq(txn, "a", 1000000);
	OK(cache_remote_max_seq(txn, &top));
	ck_assert_uint_gt(top, 1000000);
	cache_abort(txn);
	txn = test_write(t);
	put_seq(txn, "b", 10);
	OK(cache_remote_max_seq(txn, &top));
	ck_assert_uint_gt(top, 10);
	OK(cache_commit(txn));
	txn = test_write(t);
	put_seq(txn, "c", 2000000);
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_remote_max_seq(txn, &top));
	ck_assert_uint_gt(top, 2000000);
	OK(cache_commit(txn));
	test_cache_close(t);
	test_crash(t, put_late);
	test_reopen(t);
	txn = test_read(t);
	OK(cache_remote_max_seq(txn, &top));
	ck_assert_uint_gt(top, 3000000);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_remote");
	TCase *c = tcase_create("remote");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, row_comes_back_as_it_was);
	tcase_add_test(c, holder_of_content_is_found);
	tcase_add_test(c, walks_are_as_a_plain_model_says);
	tcase_add_test(c, walk_ends_with_what_each_says);
	tcase_add_test(c, max_seq_is_above_all_rows_after_any_end);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
