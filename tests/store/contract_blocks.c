/* Claims about staged blocks, their commit and the block list. */
#include "tests/store/contract.h"
#include "blob/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a blob of these blocks, each of `len`, holds. */
static void must_hold_blocks(
	const char *name, const unsigned *seeds, size_t nr, size_t len)
{
	char *all = malloc(nr * len + 1);

	for (size_t i = 0; i < nr; i++) {
		char *one = bytes_new(len, seeds[i]);

		memcpy(all + i * len, one, len);
		free(one);
	}
	must_hold(name, all, nr * len);
	free(all);
}

START_TEST(staged_blocks_are_not_visible)
{
	must_stage(path("f"), 1, 1000);
	must_be_gone(path("f"));
}
END_TEST

START_TEST(commit_makes_blocks_the_blob)
{
	static const unsigned seeds[] = { 3, 1, 2, 1 };

	for (unsigned i = 1; i <= 3; i++)
		must_stage(path("f"), i, 70000);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 4, NULL), BLOB_OK);
	must_hold_blocks(path("f"), seeds, 4, 70000);
}
END_TEST

START_TEST(commit_of_nothing_is_an_empty_blob)
{
	ck_assert_int_eq(commit(path("f"), NULL, NULL, NULL, 0, NULL), BLOB_OK);
	must_hold(path("f"), "", 0);
}
END_TEST

START_TEST(commit_keeps_committed_blocks)
{
	static const unsigned one[] = { 1, 2, 3 };
	static const unsigned two[] = { 1, 4, 3, 2 };
	static const bool kept[] = { true, false, true, true };
	char etag[BLOB_ETAG_MAX];

	for (unsigned i = 1; i <= 3; i++)
		must_stage(path("f"), i, 70000);
	ck_assert_int_eq(commit(path("f"), NULL, one, NULL, 3, etag), BLOB_OK);
	must_stage(path("f"), 4, 70000);
	ck_assert_int_eq(commit(path("f"), etag, two, kept, 4, NULL), BLOB_OK);
	must_hold_blocks(path("f"), two, 4, 70000);
}
END_TEST

START_TEST(latest_falls_back_on_committed)
{
	static const unsigned one[] = { 1, 2 };
	static const unsigned two[] = { 2, 1 };
	char etag[BLOB_ETAG_MAX];

	must_stage(path("f"), 1, 5000);
	must_stage(path("f"), 2, 5000);
	ck_assert_int_eq(commit(path("f"), NULL, one, NULL, 2, etag), BLOB_OK);
	ck_assert_int_eq(commit(path("f"), etag, two, NULL, 2, NULL), BLOB_OK);
	must_hold_blocks(path("f"), two, 2, 5000);
}
END_TEST

START_TEST(commit_of_a_missing_block_is_bad_blocks)
{
	static const unsigned seeds[] = { 1, 9 };
	struct blob_block blocks[2] = { { .size_bytes = 0 } };
	struct call c;

	must_stage(path("f"), 1, 1000);
	for (unsigned i = 0; i < 2; i++)
		block_id(seeds[i], blocks[i].id);
	call_init(&c, BLOB_COMMIT, path("f"));
	c.req.cond.if_none_match_any = true;
	c.req.in.commit.blocks = blocks;
	c.req.in.commit.blocks_nr = 2;
	call_run(&c);
	call_must(&c, BLOB_BAD_BLOCKS);
	ck_assert_int_eq(c.req.err, -EBADE);
	call_fini(&c);
	must_be_gone(path("f"));
}
END_TEST

START_TEST(committed_block_that_is_only_staged_is_bad_blocks)
{
	static const unsigned one[] = { 1 }, two[] = { 2 };
	static const bool kept[] = { true };
	char etag[BLOB_ETAG_MAX];

	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(commit(path("f"), NULL, one, NULL, 1, etag), BLOB_OK);
	must_stage(path("f"), 2, 1000);
	ck_assert_int_eq(
		commit(path("f"), etag, two, kept, 1, NULL), BLOB_BAD_BLOCKS);
	must_hold_blocks(path("f"), one, 1, 1000);
}
END_TEST

START_TEST(commit_drops_unlisted_blocks)
{
	static const unsigned one[] = { 1 }, two[] = { 2 };
	char etag[BLOB_ETAG_MAX];

	must_stage(path("f"), 1, 1000);
	must_stage(path("f"), 2, 1000);
	ck_assert_int_eq(commit(path("f"), NULL, one, NULL, 1, etag), BLOB_OK);
	ck_assert_int_eq(
		commit(path("f"), etag, two, NULL, 1, NULL), BLOB_BAD_BLOCKS);
}
END_TEST

START_TEST(commit_is_conditional)
{
	static const unsigned seeds[] = { 1 };
	char old[BLOB_ETAG_MAX], etag[BLOB_ETAG_MAX];

	must_put(path("f"), "first", 5, old);
	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 1, NULL), BLOB_CONDITION);
	ck_assert_int_eq(put(path("f"), old, "second", 6, etag), BLOB_OK);
	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(
		commit(path("f"), old, seeds, NULL, 1, NULL), BLOB_CONDITION);
	must_hold(path("f"), "second", 6);
	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(
		commit(path("f"), etag, seeds, NULL, 1, NULL), BLOB_OK);
	must_hold_blocks(path("f"), seeds, 1, 1000);
	must_stage(path("g"), 1, 1000);
	ck_assert_int_eq(
		commit(path("g"), etag, seeds, NULL, 1, NULL), BLOB_CONDITION);
	must_be_gone(path("g"));
}
END_TEST

START_TEST(block_list_tells_ids_and_sizes)
{
	static const unsigned seeds[] = { 2, 1, 3 };
	static const size_t sizes[] = { 0, 1000, 2000, 3000 };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	for (unsigned i = 1; i <= 3; i++)
		must_stage(path("f"), i, sizes[i]);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 3, etag), BLOB_OK);
	call_init(&c, BLOB_GET_BLOCKS, path("f"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_str_eq(c.req.props.etag, etag);
	ck_assert_uint_eq(c.req.props.size_bytes, 6000);
	ck_assert_uint_eq(c.req.blocks.blocks_nr, 3);
	for (unsigned i = 0; i < 3; i++) {
		const struct blob_block *b = &c.req.blocks.blocks[i];
		uint8_t id[BLOB_BLOCK_ID_BYTES];

		block_id(seeds[i], id);
		ck_assert(b->ours);
		ck_assert(memcmp(b->id, id, sizeof(id)) == 0);
		ck_assert_uint_eq(b->size_bytes, sizes[seeds[i]]);
	}
	call_fini(&c);
}
END_TEST

START_TEST(blob_of_one_put_has_no_block_list)
{
	static const unsigned seeds[] = { 1 };
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 1, etag), BLOB_OK);
	ck_assert_int_eq(put(path("f"), etag, "plain", 5, etag), BLOB_OK);
	call_init(&c, BLOB_GET_BLOCKS, path("f"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(c.req.blocks.blocks_nr, 0);
	ck_assert_str_eq(c.req.props.etag, etag);
	call_fini(&c);
}
END_TEST

START_TEST(put_block_with_wrong_md5_is_corrupt)
{
	static const uint8_t wrong[16] = { 1, 2, 3 };
	static const unsigned seeds[] = { 1 };
	struct call c;

	call_init(&c, BLOB_PUT_BLOCK, path("f"));
	block_id(1, c.req.in.block.id);
	call_body(&c, &c.req.in.block.body, "bytes", 5);
	c.req.in.block.body.md5 = wrong;
	call_run(&c);
	call_must(&c, BLOB_CORRUPT);
	call_fini(&c);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 1, NULL), BLOB_BAD_BLOCKS);
}
END_TEST

START_TEST(commit_stores_metadata_and_md5)
{
	static const struct blob_kv meta[] = { { (char *)"color",
		(char *)"blue" } };
	struct blob_block block = { .size_bytes = 0 };
	char *buf = bytes_new(1000, 1);
	uint8_t md5[16];
	struct call c;

	blob_md5(buf, 1000, md5);
	must_stage(path("f"), 1, 1000);
	block_id(1, block.id);
	call_init(&c, BLOB_COMMIT, path("f"));
	c.req.cond.if_none_match_any = true;
	c.req.in.commit.blocks = &block;
	c.req.in.commit.blocks_nr = 1;
	c.req.in.commit.md5 = md5;
	c.req.meta = meta;
	c.req.meta_nr = 1;
	call_run(&c);
	call_must(&c, BLOB_OK);
	call_fini(&c);
	call_init(&c, BLOB_HEAD, path("f"));
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_str_eq(
		kv_get(c.req.props.meta, c.req.props.meta_nr, "color"), "blue");
	ck_assert(c.req.props.has_md5);
	ck_assert(memcmp(c.req.props.md5, md5, 16) == 0);
	call_fini(&c);
	free(buf);
}
END_TEST

START_TEST(restaging_a_block_is_harmless)
{
	static const unsigned seeds[] = { 1 };

	must_stage(path("f"), 1, 1000);
	must_stage(path("f"), 1, 1000);
	ck_assert_int_eq(
		commit(path("f"), NULL, seeds, NULL, 1, NULL), BLOB_OK);
	must_hold_blocks(path("f"), seeds, 1, 1000);
}
END_TEST

START_TEST(block_from_another_blob)
{
	static const unsigned seeds[] = { 7 };
	char *buf = bytes_new(3000, 5);
	char etag[BLOB_ETAG_MAX];
	struct call c;

	must_put(path("source"), buf, 3000, etag);
	call_init(&c, BLOB_PUT_BLOCK_URL, path("f"));
	block_id(7, c.req.in.block.id);
	c.req.in.block.source = path("source");
	c.req.in.block.source_etag = etag;
	c.req.in.block.source_offset = 500;
	c.req.in.block.source_len_bytes = 2000;
	call_run(&c);
	/* Some emulators cannot; a store may say so, and only so. */
	if (c.req.result != BLOB_UNSUPPORTED) {
		call_must(&c, BLOB_OK);
		ck_assert_int_eq(
			commit(path("f"), NULL, seeds, NULL, 1, NULL), BLOB_OK);
		must_hold(path("f"), buf + 500, 2000);
	}
	call_fini(&c);
	free(buf);
}
END_TEST

void add_blocks(Suite *s)
{
	TCase *t = tcase_create("blocks");

	tcase_add_test(t, staged_blocks_are_not_visible);
	tcase_add_test(t, commit_makes_blocks_the_blob);
	tcase_add_test(t, commit_of_nothing_is_an_empty_blob);
	tcase_add_test(t, commit_keeps_committed_blocks);
	tcase_add_test(t, latest_falls_back_on_committed);
	tcase_add_test(t, commit_of_a_missing_block_is_bad_blocks);
	tcase_add_test(t, committed_block_that_is_only_staged_is_bad_blocks);
	tcase_add_test(t, commit_drops_unlisted_blocks);
	tcase_add_test(t, commit_is_conditional);
	tcase_add_test(t, block_list_tells_ids_and_sizes);
	tcase_add_test(t, blob_of_one_put_has_no_block_list);
	tcase_add_test(t, put_block_with_wrong_md5_is_corrupt);
	tcase_add_test(t, commit_stores_metadata_and_md5);
	tcase_add_test(t, restaging_a_block_is_harmless);
	tcase_add_test(t, block_from_another_blob);
	case_add(s, t);
}
