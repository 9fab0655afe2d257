/* The service's XML, friendly and hostile. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/azure_list.h"

#define PAGE(blobs, next)                                               \
	"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>"        \
	"<EnumerationResults ServiceEndpoint=\"x\"><Prefix>d/</Prefix>" \
	"<Blobs>" blobs "</Blobs><NextMarker>" next                     \
	"</NextMarker></EnumerationResults>"
#define BLOB(name)                                                 \
	"<Blob><Name>" name "</Name><Properties><Etag>0x8D</Etag>" \
	"<Content-Length>7</Content-Length></Properties></Blob>"
#define DIR(name) "<BlobPrefix><Name>" name "</Name></BlobPrefix>"

static struct blob_req req;

/* Feeds pieces of `step` bytes; 0 or the error. */
static int feed(struct blob_list *l, const char *text, size_t step)
{
	size_t len = strlen(text), at;
	int err = 0;

	for (at = 0; at < len && err == 0; at += step)
		err = blob_list_feed(
			l, text + at, len - at < step ? len - at : step);
	return err != 0 ? err : blob_list_end(l);
}

static int parse(const char *text, const char *strip, const char *only)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_NAMES, strip, only);
	int err = feed(l, text, 100000);

	blob_req_fini(&req);
	if (err == 0)
		blob_list_take(l, &req);
	blob_list_free(l);
	return err;
}

static const struct blob_entry *entry(size_t i)
{
	ck_assert_uint_lt(i, req.page.entries_nr);
	return &req.page.entries[i];
}

static void teardown(void)
{
	blob_req_fini(&req);
}

static const char full[] =
	PAGE("<Blob><Name>d/a b&amp;&#xD;c</Name><Properties>"
	     "<Last-Modified>Sun, 06 Nov 1994 08:49:37 GMT</Last-Modified>"
	     "<Etag>0x8D1</Etag><Content-Length>42</Content-Length>"
	     "<Content-Type>text/plain</Content-Type><Content-Encoding />"
	     "<Content-MD5>ICy5YqxZB1uWSwcVLSNLcA==</Content-MD5>"
	     "<Cache-Control>no-store</Cache-Control>"
	     "<BlobType>AppendBlob</BlobType><AccessTier>Cool</AccessTier>"
	     "</Properties><Metadata><Permissions>33188</Permissions>"
	     "<empty /></Metadata><OrMetadata /></Blob>" DIR("d/sub/"),
		"m!1");

START_TEST(page_gives_names_properties_and_metadata)
{
	const struct blob_entry *e;

	ck_assert_int_eq(parse(full, "", NULL), 0);
	ck_assert_uint_eq(req.page.entries_nr, 2);
	e = entry(0);
	ck_assert(!e->prefix && !e->slash);
	ck_assert_str_eq(e->props.etag, "\"0x8D1\"");
	ck_assert_uint_eq(e->props.size_bytes, 42);
	ck_assert_int_eq(e->props.mtime_ns, INT64_C(784111777000000000));
	ck_assert_int_eq(e->props.type, BLOB_TYPE_APPEND);
	ck_assert(e->props.has_md5 && e->props.md5[0] == 0x20);
	ck_assert_uint_eq(e->props.meta_nr, 2);
	ck_assert_str_eq(e->props.meta[0].key, "Permissions");
	ck_assert_str_eq(e->props.meta[0].value, "33188");
	ck_assert_str_eq(e->props.meta[1].value, "");
	ck_assert_uint_eq(e->props.headers_nr, 3);
	ck_assert_str_eq(e->props.headers[2].key, "x-ms-access-tier");
	ck_assert_str_eq(entry(1)->name, "d/sub");
	ck_assert(entry(1)->prefix && !entry(1)->slash);
	ck_assert_str_eq(req.page.next, "m!1");
}
END_TEST

START_TEST(page_may_arrive_byte_by_byte)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_NAMES, "", NULL);

	ck_assert_int_eq(feed(l, full, 1), 0);
	blob_list_take(l, &req);
	blob_list_free(l);
	ck_assert_uint_eq(req.page.entries_nr, 2);
	ck_assert_uint_eq(entry(0)->props.size_bytes, 42);
}
END_TEST

START_TEST(inferred_tier_is_no_header)
{
	ck_assert_int_eq(
		parse(PAGE("<Blob><Name>a</Name><Properties><Etag>\"1\"</Etag>"
			   "<AccessTier>Hot</AccessTier><AccessTierInferred>"
			   "true</AccessTierInferred></Properties></Blob>",
			      ""),
			"", NULL),
		0);
	ck_assert_uint_eq(entry(0)->props.headers_nr, 0);
	ck_assert_str_eq(entry(0)->props.etag, "\"1\"");
	ck_assert_ptr_null(req.page.next);
}
END_TEST

START_TEST(archive_pending_copy_and_directory_are_seen)
{
	ck_assert_int_eq(
		parse(PAGE("<Blob><Name>a</Name><Properties><Etag>1</Etag>"
			   "<AccessTier>Archive</AccessTier><CopyStatus>pending"
			   "</CopyStatus><ResourceType>directory</ResourceType>"
			   "<BlobType>BlockBlob</BlobType></Properties></Blob>",
			      ""),
			"", NULL),
		0);
	ck_assert(entry(0)->props.archived && entry(0)->props.copy_pending);
	ck_assert_int_eq(entry(0)->props.type, BLOB_TYPE_DIR);
}
END_TEST

START_TEST(slash_marker_keeps_its_name_without_the_slash)
{
	ck_assert_int_eq(parse(PAGE(BLOB("p/") BLOB("p/d/") BLOB("p/d/x"), ""),
				 "p/", NULL),
		0);
	ck_assert_uint_eq(req.page.entries_nr, 3);
	ck_assert_str_eq(entry(0)->name, "");
	ck_assert(entry(0)->slash);
	ck_assert_str_eq(entry(1)->name, "d");
	ck_assert(entry(1)->slash && !entry(1)->prefix);
	ck_assert_str_eq(entry(2)->name, "d/x");
	ck_assert(!entry(2)->slash);
}
END_TEST

START_TEST(names_outside_the_prefix_are_dropped)
{
	ck_assert_int_eq(
		parse(PAGE(BLOB("q/x") BLOB("p") BLOB("p/y"), ""), "p/", NULL),
		0);
	ck_assert_uint_eq(req.page.entries_nr, 1);
	ck_assert_str_eq(entry(0)->name, "y");
}
END_TEST

START_TEST(only_filters_by_local_path)
{
	ck_assert_int_eq(parse(PAGE(BLOB("d/ab") BLOB("d/b") DIR("d/abc/"), ""),
				 "", "d/ab"),
		0);
	ck_assert_uint_eq(req.page.entries_nr, 2);
	ck_assert_int_eq(
		parse(PAGE(BLOB("d") BLOB("d/") DIR("d/"), ""), "", "d/"), 0);
	ck_assert_uint_eq(req.page.entries_nr, 2);
	ck_assert(entry(0)->slash && entry(1)->prefix);
}
END_TEST

START_TEST(encoded_name_is_unescaped)
{
	ck_assert_int_eq(
		parse(PAGE("<Blob><Name Encoded=\"true\">a%2520b%20c</Name>"
			   "<Properties><Etag>1</Etag></Properties></Blob>"
			   "<Blob><Name>a%20b</Name><Properties><Etag>1</Etag>"
			   "</Properties></Blob>",
			      ""),
			"", NULL),
		0);
	ck_assert_str_eq(entry(0)->name, "a%20b c");
	ck_assert_str_eq(entry(1)->name, "a%20b");
}
END_TEST

START_TEST(what_we_did_not_ask_for_is_dropped)
{
	ck_assert_int_eq(
		parse(PAGE("<Blob><Name>s</Name><Snapshot>1</Snapshot>"
			   "<Properties><Etag>1</Etag></Properties></Blob>"
			   "<Blob><Name>g</Name><Deleted>true</Deleted>"
			   "<Properties><Etag>1</Etag></Properties></Blob>"
			   "<Blob><Name>n</Name><Properties></Properties>"
			   "</Blob><Blob><Name>z</Name><Properties><Etag>1"
			   "</Etag><Content-Length>-1</Content-Length>"
			   "</Properties></Blob>" BLOB("ok"),
			      ""),
			"", NULL),
		0);
	ck_assert_uint_eq(req.page.entries_nr, 1);
	ck_assert_str_eq(entry(0)->name, "ok");
}
END_TEST

START_TEST(what_is_no_page_is_refused)
{
	ck_assert_int_eq(parse("", "", NULL), -EBADMSG);
	ck_assert_int_eq(parse("<html><body/></html>", "", NULL), -EBADMSG);
	ck_assert_int_eq(parse("{\"a\":1}", "", NULL), -EBADMSG);
	ck_assert_int_eq(
		parse("<EnumerationResults><Blobs>" BLOB("a"), "", NULL),
		-EBADMSG);
	ck_assert_int_eq(
		parse("<!DOCTYPE x [<!ENTITY a \"b\">]><EnumerationResults/>",
			"", NULL),
		-EBADMSG);
	ck_assert_int_eq(parse("<EnumerationResults><a><a><a><a><a><a><a><a/>"
			       "</a></a></a></a></a></a></a>"
			       "</EnumerationResults>",
				 "", NULL),
		-EBADMSG);
}
END_TEST

START_TEST(endless_text_is_refused)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_NAMES, "", NULL);
	const char *head = "<EnumerationResults><NextMarker>";
	char many[4096];
	int err, i;

	memset(many, 'x', sizeof(many));
	err = blob_list_feed(l, head, strlen(head));
	for (i = 0; i < 100 && err == 0; i++)
		err = blob_list_feed(l, many, sizeof(many));
	ck_assert_int_eq(err, -E2BIG);
	ck_assert_int_lt(i, 10);
	ck_assert_int_eq(blob_list_end(l), -E2BIG);
	blob_list_free(l);
}
END_TEST

START_TEST(endless_page_is_refused)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_NAMES, "", NULL);
	const char *head = "<EnumerationResults><Blobs>", *one = BLOB("a");
	int err, i;

	err = blob_list_feed(l, head, strlen(head));
	for (i = 0; i < 2 * BLOB_LIST_NAMES_MAX && err == 0; i++)
		err = blob_list_feed(l, one, strlen(one));
	ck_assert_int_eq(err, -E2BIG);
	ck_assert_int_eq(i, BLOB_LIST_NAMES_MAX + 1);
	blob_list_free(l);
}
END_TEST

START_TEST(endless_metadata_is_refused)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_NAMES, "", NULL);
	const char *head = "<EnumerationResults><Blobs><Blob><Metadata>";
	struct base_str one = BASE_STR_INIT;
	char value[8001];
	int err, i;

	memset(value, 'v', 8000);
	value[8000] = '\0';
	base_str_printf(&one, "<k>%s</k>", value);
	err = blob_list_feed(l, head, strlen(head));
	for (i = 0; i < 20000 && err == 0; i++)
		err = blob_list_feed(l, one.data, one.len);
	ck_assert_int_eq(err, -E2BIG);
	base_str_fini(&one);
	blob_list_free(l);
}
END_TEST

START_TEST(block_list_tells_ours_from_others)
{
	static const char text[] =
		"<?xml version=\"1.0\"?><BlockList><CommittedBlocks>"
		"<Block><Name>"
		"ZmIwMXp6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6</Name>"
		"<Size>8388608</Size></Block><Block><Name>AAAA</Name><Size>5"
		"</Size></Block></CommittedBlocks><UncommittedBlocks><Block>"
		"<Name>BBBB</Name><Size>1</Size></Block></UncommittedBlocks>"
		"</BlockList>";
	struct blob_list *l = blob_list_new(BLOB_LIST_BLOCKS, "", NULL);

	ck_assert_int_eq(feed(l, text, 7), 0);
	blob_list_take(l, &req);
	blob_list_free(l);
	ck_assert_uint_eq(req.blocks.blocks_nr, 2);
	ck_assert(req.blocks.blocks[0].ours);
	ck_assert(req.blocks.blocks[0].committed);
	ck_assert_uint_eq(req.blocks.blocks[0].size_bytes, 8388608);
	ck_assert_mem_eq(req.blocks.blocks[0].id, "fb01zzzz", 8);
	ck_assert(!req.blocks.blocks[1].ours);
	ck_assert_uint_eq(req.blocks.blocks[1].size_bytes, 5);
}
END_TEST

START_TEST(block_without_name_or_size_is_refused)
{
	struct blob_list *l = blob_list_new(BLOB_LIST_BLOCKS, "", NULL);

	ck_assert_int_eq(feed(l,
				 "<BlockList><CommittedBlocks><Block><Size>1"
				 "</Size></Block></CommittedBlocks>"
				 "</BlockList>",
				 50),
		-EBADMSG);
	blob_list_free(l);
	l = blob_list_new(BLOB_LIST_BLOCKS, "", NULL);
	ck_assert_int_eq(feed(l,
				 "<BlockList><CommittedBlocks><Block><Name>AAAA"
				 "</Name><Size>-1</Size></Block>"
				 "</CommittedBlocks></BlockList>",
				 50),
		-EBADMSG);
	blob_list_free(l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob_azure_list");
	TCase *t = tcase_create("list");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, page_gives_names_properties_and_metadata);
	tcase_add_test(t, page_may_arrive_byte_by_byte);
	tcase_add_test(t, inferred_tier_is_no_header);
	tcase_add_test(t, archive_pending_copy_and_directory_are_seen);
	tcase_add_test(t, slash_marker_keeps_its_name_without_the_slash);
	tcase_add_test(t, names_outside_the_prefix_are_dropped);
	tcase_add_test(t, only_filters_by_local_path);
	tcase_add_test(t, encoded_name_is_unescaped);
	tcase_add_test(t, what_we_did_not_ask_for_is_dropped);
	tcase_add_test(t, what_is_no_page_is_refused);
	tcase_add_test(t, endless_text_is_refused);
	tcase_add_test(t, endless_page_is_refused);
	tcase_add_test(t, endless_metadata_is_refused);
	tcase_add_test(t, block_list_tells_ours_from_others);
	tcase_add_test(t, block_without_name_or_size_is_refused);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
