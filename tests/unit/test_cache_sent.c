/* What was sent, its blocks, conflicts, prefetch jobs. */
#include "tests/unit/cache_index.h"

/* ---- sent ---- */

static int count_sent(void *arg, const struct cache_sent *sent)
{
	*(uint64_t *)arg += sent->number;
	return 0;
}

START_TEST(sent_rows_are_kept_until_deleted)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char name[] = "d/n";
	struct cache_sent in = { .number = 1,
		.name = name,
		.op = 3,
		.base_etag = "\"x\"",
		.owed_seq = 4,
		.sent_ns = 5,
		.settled = true },
			  out;
	uint64_t sum = 0;
	bool below = true;

	memset(&in.content, 9, sizeof(in.content));
	OK(cache_sent_add(txn, &in));
	ck_assert_int_eq(cache_sent_add(txn, &in), -EEXIST);
	ck_assert_int_eq(cache_sent_unsettled(txn, name, &out), -ENOENT);
	OK(cache_sent_below(txn, "d", &below));
	ck_assert(!below);
	in.number = 2;
	in.settled = false;
	OK(cache_sent_add(txn, &in));
	in.number = 3;
	in.settled = true;
	OK(cache_sent_add(txn, &in));
	OK(cache_sent_of(txn, name, &out));
	ck_assert_uint_eq(out.number, 2);
	ck_assert(cache_id_eq(&out.host, cache_host(t->cache)));
	ck_assert_str_eq(out.base_etag, "\"x\"");
	ck_assert(cache_id_eq(&out.content, &in.content));
	ck_assert_uint_eq(out.op, 3);
	ck_assert_uint_eq(out.owed_seq, 4);
	ck_assert_int_eq(out.sent_ns, 5);
	OK(cache_sent_below(txn, "d", &below));
	ck_assert(below);
	OK(cache_sent_below(txn, "", &below));
	ck_assert(below);
	OK(cache_sent_below(txn, "d/n", &below));
	ck_assert(!below);
	out.settled = true;
	OK(cache_sent_put(txn, &out));
	cache_sent_fini(&out);
	ck_assert_int_eq(cache_sent_unsettled(txn, name, &out), -ENOENT);
	OK(cache_sent_each(txn, 1, count_sent, &sum));
	ck_assert_uint_eq(sum, 5);
	OK(cache_sent_del(txn, 3));
	ck_assert_int_eq(cache_sent_del(txn, 3), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

/* ---- conflicts and jobs ---- */

static int check_conflict(void *arg, const struct cache_conflict *c)
{
	*(uint64_t *)arg = c->id;
	ck_assert_str_eq(c->name, "n");
	ck_assert_str_eq(c->copy, "n.conflict");
	ck_assert_str_eq(c->remote_etag, "e");
	ck_assert_uint_eq(c->local_size_bytes, 1);
	ck_assert_uint_eq(c->remote_size_bytes, 2);
	ck_assert_int_eq(c->local_mtime_ns, 3);
	ck_assert_int_eq(c->remote_mtime_ns, 4);
	ck_assert_int_eq(c->found_ns, 5);
	return 0;
}

START_TEST(conflicts_are_listed_until_settled)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char name[] = "n", copy[] = "n.conflict";
	struct cache_conflict c = { .name = name,
		.copy = copy,
		.remote_etag = "e",
		.local_size_bytes = 1,
		.remote_size_bytes = 2,
		.local_mtime_ns = 3,
		.remote_mtime_ns = 4,
		.found_ns = 5 };
	struct cache_counts counts;
	uint64_t id = 0;

	OK(cache_conflict_add(txn, &c));
	OK(cache_conflict_each(txn, check_conflict, &id));
	OK(cache_counts_get(txn, &counts));
	ck_assert_uint_eq(counts.conflicts, 1);
	OK(cache_conflict_del(txn, id));
	ck_assert_int_eq(cache_conflict_del(txn, id), -ENOENT);
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

static int check_job(void *arg, const struct cache_job *job)
{
	ck_assert_uint_eq(*(uint64_t *)arg, job->id);
	ck_assert_str_eq(job->path, "p");
	ck_assert(job->pin && !job->meta_only);
	return 7;
}

START_TEST(jobs_outlive_a_restart)
{
	struct test_cache *t = test_cache_new(MIB);
	struct cache_txn *txn = test_write(t);
	char path[] = "p";
	struct cache_job job = { .path = path, .pin = true };

	OK(cache_job_add(txn, &job));
	OK(cache_commit(txn));
	test_cache_close(t);
	test_reopen(t);
	txn = test_write(t);
	ck_assert_int_eq(cache_job_each(txn, check_job, &job.id), 7);
	OK(cache_job_del(txn, job.id));
	OK(cache_job_each(txn, check_job, &job.id));
	OK(cache_commit(txn));
	test_cache_free(t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_sent");
	TCase *c = tcase_create("sent");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, sent_rows_are_kept_until_deleted);
	tcase_add_test(c, conflicts_are_listed_until_settled);
	tcase_add_test(c, jobs_outlive_a_restart);
	suite_add_tcase(suite, c);
	return test_main(suite);
}
