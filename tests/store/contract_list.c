/* Claims about LIST. */
#include "tests/store/contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listing {
	struct blob_entry *entries;
	size_t nr, pages;
};

static bool is_dir(const struct blob_entry *e)
{
	struct blob_posix posix;
	struct blob_mark mark;

	if (e->prefix || e->props.type == BLOB_TYPE_DIR)
		return true;
	blob_meta_decode(e, &posix, &mark);
	return posix.kind == BLOB_KIND_DIR;
}

/* All pages.  `between` runs after each. */
static void list(struct listing *ret, const char *dir, bool recursive,
	uint32_t max, const char *only, void (*between)(void))
{
	char *start = NULL;

	memset(ret, 0, sizeof(*ret));
	do {
		struct call c;

		call_init(&c, BLOB_LIST, dir);
		c.req.in.list.recursive = recursive;
		c.req.in.list.max = max;
		c.req.in.list.only = only;
		c.req.in.list.start = start;
		call_run(&c);
		call_must(&c, BLOB_OK);
		if (max)
			ck_assert_uint_le(c.req.page.entries_nr, max);
		ret->entries = realloc(ret->entries,
			(ret->nr + c.req.page.entries_nr + 1) *
				sizeof(*ret->entries));
		for (size_t i = 0; i < c.req.page.entries_nr; i++)
			ret->entries[ret->nr + i] = c.req.page.entries[i];
		ret->nr += c.req.page.entries_nr;
		ret->pages++;
		ck_assert_uint_lt(ret->pages, 1000);
		/* The entries are ours now. */
		c.req.page.entries_nr = 0;
		free(start);
		start = c.req.page.next ? strdup(c.req.page.next) : NULL;
		call_fini(&c);
		if (between)
			between();
	} while (start);
}

static void listing_fini(struct listing *l)
{
	for (size_t i = 0; i < l->nr; i++) {
		free(l->entries[i].name);
		blob_props_fini(&l->entries[i].props);
	}
	free(l->entries);
}

static const struct blob_entry *find(const struct listing *l, const char *name)
{
	for (size_t i = 0; i < l->nr; i++) {
		if (strcmp(l->entries[i].name, name) == 0)
			return &l->entries[i];
	}
	return NULL;
}

static size_t files(const struct listing *l)
{
	size_t nr = 0;

	for (size_t i = 0; i < l->nr; i++)
		nr += !is_dir(&l->entries[i]);
	return nr;
}

static void must_show(const struct listing *l, const char *name)
{
	ck_assert_msg(find(l, name) != NULL, "%s is not listed", name);
	for (size_t i = 0, nr = 0; i < l->nr; i++) {
		if (strcmp(l->entries[i].name, name) == 0 &&
			!is_dir(&l->entries[i]))
			ck_assert_msg(++nr == 1, "%s twice", name);
	}
}

START_TEST(list_of_nothing_is_empty)
{
	struct listing l;

	list(&l, path("nothing"), false, 0, NULL, NULL);
	ck_assert_uint_eq(l.nr, 0);
	listing_fini(&l);
	list(&l, path("nothing/below"), true, 0, NULL, NULL);
	ck_assert_uint_eq(l.nr, 0);
	listing_fini(&l);
}
END_TEST

START_TEST(list_one_level_shows_files_and_directories)
{
	struct listing l;

	must_put(path("d/a"), "1", 1, NULL);
	must_put(path("d/b"), "22", 2, NULL);
	must_put(path("d/sub/c"), "3", 1, NULL);
	must_put(path("d/sub/deep/e"), "4", 1, NULL);
	must_put(path("dx"), "5", 1, NULL);
	list(&l, path("d"), false, 0, NULL, NULL);
	must_show(&l, path("d/a"));
	must_show(&l, path("d/b"));
	ck_assert(find(&l, path("d/sub")) != NULL);
	ck_assert(is_dir(find(&l, path("d/sub"))));
	ck_assert(!is_dir(find(&l, path("d/a"))));
	ck_assert_uint_eq(files(&l), 2);
	ck_assert_uint_eq(l.nr, 3);
	listing_fini(&l);
}
END_TEST

START_TEST(list_recursive_shows_everything_below)
{
	struct listing l;

	must_put(path("d/a"), "1", 1, NULL);
	must_put(path("d/sub/c"), "3", 1, NULL);
	must_put(path("d/sub/deep/e"), "4", 1, NULL);
	must_put(path("d/sub.x"), "5", 1, NULL);
	must_put(path("dx"), "6", 1, NULL);
	list(&l, path("d"), true, 0, NULL, NULL);
	must_show(&l, path("d/a"));
	must_show(&l, path("d/sub/c"));
	must_show(&l, path("d/sub/deep/e"));
	must_show(&l, path("d/sub.x"));
	ck_assert_uint_eq(files(&l), 4);
	listing_fini(&l);
}
END_TEST

START_TEST(list_gives_what_head_gives)
{
	struct blob_kv meta[] = { { (char *)"color", (char *)"blue" } };
	char etag[BLOB_ETAG_MAX];
	const struct blob_entry *e;
	struct listing l;

	ck_assert_int_eq(put_meta(path("d/f"), NULL, "hello", 5, meta, 1, etag),
		BLOB_OK);
	list(&l, path("d"), false, 0, NULL, NULL);
	e = find(&l, path("d/f"));
	ck_assert(e != NULL);
	ck_assert_str_eq(e->props.etag, etag);
	ck_assert_uint_eq(e->props.size_bytes, 5);
	ck_assert(e->props.mtime_ns > 0);
	ck_assert_str_eq(
		kv_get(e->props.meta, e->props.meta_nr, "color"), "blue");
	ck_assert(!e->prefix && !e->slash);
	listing_fini(&l);
}
END_TEST

START_TEST(list_in_pages_of_two_is_complete)
{
	bool recursive = _i;
	struct listing l;
	char name[32];

	for (unsigned i = 0; i < 9; i++) {
		snprintf(name, sizeof(name), i % 3 ? "d/%u" : "d/%u/x", i);
		must_put(path(name), "x", 1, NULL);
	}
	list(&l, path("d"), recursive, 2, NULL, NULL);
	ck_assert_uint_ge(l.pages, 5);
	for (unsigned i = 0; i < 9; i++) {
		snprintf(name, sizeof(name),
			i % 3 || !recursive ? "d/%u" : "d/%u/x", i);
		must_show(&l, path(name));
	}
	ck_assert_uint_eq(files(&l), recursive ? 9 : 6);
	listing_fini(&l);
}
END_TEST

static unsigned changed_nr;
static void change_names(void)
{
	char name[32];

	/* Behind and before the marker. */
	snprintf(name, sizeof(name), "d/k0%u", changed_nr);
	put(path(name), NULL, "x", 1, NULL);
	snprintf(name, sizeof(name), "d/z%u", changed_nr++);
	put(path(name), NULL, "x", 1, NULL);
}

START_TEST(list_goes_on_while_names_come)
{
	struct listing l;
	char name[32];

	changed_nr = 0;
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "d/m%u", i);
		must_put(path(name), "x", 1, NULL);
	}
	list(&l, path("d"), false, 3, NULL, change_names);
	/* What was there all the time is there, once. */
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "d/m%u", i);
		must_show(&l, path(name));
	}
	listing_fini(&l);
}
END_TEST

START_TEST(list_only_what_begins_so)
{
	struct listing l;

	must_put(path("d/apple"), "x", 1, NULL);
	must_put(path("d/apricot/x"), "x", 1, NULL);
	must_put(path("d/banana"), "x", 1, NULL);
	list(&l, path("d"), false, 0, "ap", NULL);
	ck_assert_uint_eq(l.nr, 2);
	must_show(&l, path("d/apple"));
	ck_assert(find(&l, path("d/apricot")) != NULL);
	listing_fini(&l);
	list(&l, path("d"), true, 0, "ap", NULL);
	ck_assert_uint_eq(files(&l), 2);
	must_show(&l, path("d/apricot/x"));
	listing_fini(&l);
	list(&l, path("d"), false, 0, "x", NULL);
	ck_assert_uint_eq(l.nr, 0);
	listing_fini(&l);
	/* Is there anything below d/ban? */
	list(&l, path("d"), false, 1, "banana", NULL);
	ck_assert_uint_eq(l.nr, 1);
	listing_fini(&l);
}
END_TEST

START_TEST(list_gives_odd_names_back)
{
	static const char *const names[] = { "with space", " lead", "trail ",
		"per%cent", "%41", "plus+plus", "hash#", "what?", "a&b<c>\"d\"",
		"caf\xc3\xa9 \xf0\x9f\x8c\x8a", "dot.", "...", "back\\slash",
		"new\nline", "cr\r", "tab\t", "ctl\x01", "invalid\xff" };
	enum { NR = sizeof(names) / sizeof(names[0]) };
	struct listing l;
	char name[256];

	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "d/%s", names[i]);
		must_put(path(name), "x", 1, NULL);
		snprintf(name, sizeof(name), "e/%s/below", names[i]);
		must_put(path(name), "x", 1, NULL);
	}
	list(&l, path("d"), false, 0, NULL, NULL);
	ck_assert_uint_eq(l.nr, NR);
	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "d/%s", names[i]);
		must_show(&l, path(name));
	}
	listing_fini(&l);
	list(&l, path("e"), false, 4, NULL, NULL);
	ck_assert_uint_eq(l.nr, NR);
	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "e/%s", names[i]);
		must_show(&l, path(name));
	}
	listing_fini(&l);
	list(&l, path("e"), true, 0, NULL, NULL);
	ck_assert_uint_eq(files(&l), NR);
	listing_fini(&l);
}
END_TEST

START_TEST(list_shows_markers_with_their_metadata)
{
	struct blob_kv meta[] = { { (char *)"hdi_isfolder", (char *)"true" },
		{ (char *)"color", (char *)"blue" } };
	const struct blob_entry *e = NULL;
	struct listing l;

	ck_assert_int_eq(
		put_meta(path("d/sub"), NULL, "", 0, meta, 2, NULL), BLOB_OK);
	must_put(path("d/sub/f"), "x", 1, NULL);
	list(&l, path("d"), false, 0, NULL, NULL);
	/* A prefix may stand beside its marker. */
	for (size_t i = 0; i < l.nr; i++) {
		ck_assert_str_eq(l.entries[i].name, path("d/sub"));
		ck_assert(is_dir(&l.entries[i]));
		if (!l.entries[i].prefix)
			e = &l.entries[i];
	}
	ck_assert(e != NULL);
	ck_assert_str_eq(
		kv_get(e->props.meta, e->props.meta_nr, "color"), "blue");
	listing_fini(&l);
}
END_TEST

START_TEST(list_does_not_show_staged_or_deleted)
{
	struct listing l;
	struct call c;
	char etag[BLOB_ETAG_MAX];

	must_put(path("d/here"), "x", 1, NULL);
	must_put(path("d/gone"), "x", 1, etag);
	must_stage(path("d/staged"), 1, 100);
	call_init(&c, BLOB_DELETE, path("d/gone"));
	c.req.cond.if_match = etag;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	list(&l, path("d"), false, 0, NULL, NULL);
	ck_assert_uint_eq(l.nr, 1);
	listing_fini(&l);
}
END_TEST

START_TEST(list_of_the_root_works)
{
	struct listing l;
	char *slash;
	char top[128];

	must_put(path("f"), "x", 1, NULL);
	snprintf(top, sizeof(top), "%s", path(""));
	slash = strchr(top, '/');
	*slash = '\0';
	list(&l, "", false, 0, NULL, NULL);
	ck_assert(find(&l, top) != NULL);
	ck_assert(is_dir(find(&l, top)));
	listing_fini(&l);
}
END_TEST

void add_list(Suite *s)
{
	TCase *t = tcase_create("list");

	tcase_add_test(t, list_of_nothing_is_empty);
	tcase_add_test(t, list_one_level_shows_files_and_directories);
	tcase_add_test(t, list_recursive_shows_everything_below);
	tcase_add_test(t, list_gives_what_head_gives);
	tcase_add_loop_test(t, list_in_pages_of_two_is_complete, 0, 2);
	tcase_add_test(t, list_goes_on_while_names_come);
	tcase_add_test(t, list_only_what_begins_so);
	tcase_add_test(t, list_gives_odd_names_back);
	tcase_add_test(t, list_shows_markers_with_their_metadata);
	tcase_add_test(t, list_does_not_show_staged_or_deleted);
	tcase_add_test(t, list_of_the_root_works);
	case_add(s, t);
}
