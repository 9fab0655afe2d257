/* Sizes of blocks, and what a list of them proves (WRITEBACK section 4). */
#include <check.h>
#include <stdlib.h>

#include "tier/stage.h"

#define GIB (1024 * TIER_MIB)

/* The size of every block of a file, by walking it. */
static uint64_t count_blocks(uint64_t size)
{
	uint64_t at = 0, nr = 0;

	while (at < size) {
		at += tier_block_len(at, size);
		nr++;
	}
	ck_assert_uint_eq(at, size);
	return nr;
}

START_TEST(block_size_is_a_function_of_the_offset)
{
	const uint64_t run1 = 10000 * 8 * TIER_MIB;
	const uint64_t run2 = run1 + 10000 * 64 * TIER_MIB;
	const uint64_t run3 = run2 + 10000 * 512 * TIER_MIB;
	const uint64_t huge = UINT64_MAX / 2;

	ck_assert_uint_eq(tier_block_len(0, huge), 8 * TIER_MIB);
	ck_assert_uint_eq(
		tier_block_len(run1 - 8 * TIER_MIB, huge), 8 * TIER_MIB);
	ck_assert_uint_eq(tier_block_len(run1, huge), 64 * TIER_MIB);
	ck_assert_uint_eq(
		tier_block_len(run2 - 64 * TIER_MIB, huge), 64 * TIER_MIB);
	ck_assert_uint_eq(tier_block_len(run2, huge), 512 * TIER_MIB);
	ck_assert_uint_eq(tier_block_len(run3, huge), 4000 * TIER_MIB);
	/* The last one is what is left, whatever its class. */
	ck_assert_uint_eq(tier_block_len(0, 5), 5);
	ck_assert_uint_eq(tier_block_len(run1, run1 + 7), 7);
}
END_TEST

START_TEST(block_count_stays_within_the_service)
{
	ck_assert_uint_eq(count_blocks(8 * TIER_MIB), 1);
	ck_assert_uint_eq(count_blocks(20 * GIB), 2560);
	ck_assert_uint_eq(count_blocks(10000 * 8 * TIER_MIB + 1), 10001);
	ck_assert_uint_eq(count_blocks(10000 * (8 + 64) * TIER_MIB + 1), 20001);
	/* What a file system gives at most on this side of 190 TiB. */
	ck_assert_uint_le(count_blocks(16 * 1024 * GIB), 50000);
	ck_assert_uint_le(count_blocks(80 * 1024 * GIB), 50000);
}
END_TEST

static struct blob_block block(uint8_t fill, uint64_t size)
{
	struct blob_block b = { .ours = true, .size_bytes = size };

	memset(b.id, fill, sizeof(b.id));
	return b;
}

START_TEST(list_of_ours_has_a_digest)
{
	struct blob_block list[] = { block(1, 8), block(2, 8), block(3, 4) };
	struct blob_block other[] = { block(2, 8), block(1, 8), block(3, 4) };
	uint8_t a[16], b[16];

	ck_assert(tier_list_digest(list, 3, 20, a));
	ck_assert(tier_list_digest(list, 3, 20, b));
	ck_assert_mem_eq(a, b, sizeof(a));
	ck_assert(tier_list_digest(other, 3, 20, b));
	ck_assert_mem_ne(a, b, sizeof(a));
}
END_TEST

START_TEST(list_with_others_or_of_another_size_has_none)
{
	struct blob_block list[] = { block(1, 8), block(2, 8) };
	uint8_t a[16];

	ck_assert(!tier_list_digest(list, 2, 17, a));
	ck_assert(!tier_list_digest(list, 0, 0, a));
	list[1].ours = false;
	ck_assert(!tier_list_digest(list, 2, 16, a));
}
END_TEST

static struct cache_remote remote(uint64_t size, uint8_t md5, uint8_t list)
{
	struct cache_remote r = { .kind = CACHE_FILE, .size_bytes = size };

	r.has_md5 = md5 != 0;
	memset(r.md5, md5, sizeof(r.md5));
	r.has_list = list != 0;
	memset(r.list, list, sizeof(r.list));
	return r;
}

START_TEST(same_bytes_need_a_proof)
{
	struct cache_remote a = remote(9, 1, 2), same = remote(9, 1, 0),
			    listed = remote(9, 0, 2), unknown = remote(9, 0, 0),
			    other = remote(9, 3, 0), longer = remote(10, 1, 2);

	ck_assert(tier_same_bytes(&a, &same));
	ck_assert(tier_same_bytes(&a, &listed));
	ck_assert(!tier_same_bytes(&a, &unknown));
	ck_assert(!tier_same_bytes(&a, &other));
	ck_assert(!tier_same_bytes(&a, &longer));
	ck_assert(!tier_same_bytes(&same, &listed));
	ck_assert(!tier_same_bytes(&unknown, &unknown));
}
END_TEST

START_TEST(sent_is_proven_by_what_it_had)
{
	struct cache_sent sent = { .size_bytes = 9, .has_list = true };
	struct cache_remote listed = remote(9, 0, 2), none = remote(9, 0, 0);

	memset(sent.list, 2, sizeof(sent.list));
	ck_assert(tier_is_sent(&sent, &listed));
	ck_assert(!tier_is_sent(&sent, &none));
	/* A copy of what had neither. */
	sent.has_list = false;
	ck_assert(tier_is_sent(&sent, &none));
	sent.size_bytes = 8;
	ck_assert(!tier_is_sent(&sent, &none));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tier_stage");
	TCase *c = tcase_create("blocks");
	SRunner *runner;
	int failed;

	tcase_add_test(c, block_size_is_a_function_of_the_offset);
	tcase_add_test(c, block_count_stays_within_the_service);
	tcase_add_test(c, list_of_ours_has_a_digest);
	tcase_add_test(c, list_with_others_or_of_another_size_has_none);
	tcase_add_test(c, same_bytes_need_a_proof);
	tcase_add_test(c, sent_is_proven_by_what_it_had);
	suite_add_tcase(s, c);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
