/* Claims about requests at the same time, cancelling and closing. */
#include "tests/store/contract.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 16
#define ROUNDS 5

/* Runs 16 calls at once; exactly one may succeed, the rest must lose. */
static unsigned winner(struct call *calls, enum blob_result also)
{
	unsigned won = WIDTH, nr = 0;

	for (unsigned i = 0; i < WIDTH; i++)
		call_start(&calls[i]);
	for (unsigned i = 0; i < WIDTH; i++)
		call_wait(&calls[i]);
	for (unsigned i = 0; i < WIDTH; i++) {
		if (calls[i].req.result == BLOB_OK) {
			won = i;
			nr++;
		} else if (calls[i].req.result != also) {
			call_must(&calls[i], BLOB_CONDITION);
		}
	}
	ck_assert_uint_eq(nr, 1);
	return won;
}

static void race_puts(const char *name, char etag[BLOB_ETAG_MAX])
{
	struct call calls[WIDTH];
	char bodies[WIDTH][32];
	unsigned won;

	for (unsigned i = 0; i < WIDTH; i++) {
		snprintf(bodies[i], sizeof(bodies[i]), "writer %02u", i);
		call_init(&calls[i], BLOB_PUT, name);
		calls[i].req.cond.if_match = etag[0] ? etag : NULL;
		calls[i].req.cond.if_none_match_any = !etag[0];
		call_body(&calls[i], &calls[i].req.in.put.body, bodies[i],
			strlen(bodies[i]));
	}
	won = winner(calls, BLOB_CONDITION);
	must_hold(name, bodies[won], strlen(bodies[won]));
	memcpy(etag, calls[won].req.props.etag, BLOB_ETAG_MAX);
	for (unsigned i = 0; i < WIDTH; i++)
		call_fini(&calls[i]);
}

START_TEST(of_racing_writers_one_wins)
{
	const char *f = path("f");
	char etag[BLOB_ETAG_MAX];

	must_put(f, "base", 4, etag);
	for (unsigned round = 0; round < ROUNDS; round++)
		race_puts(f, etag);
}
END_TEST

START_TEST(of_racing_creators_one_wins)
{
	char name[32];

	for (unsigned round = 0; round < ROUNDS; round++) {
		char etag[BLOB_ETAG_MAX] = "";

		snprintf(name, sizeof(name), "d%u/f", round);
		race_puts(path(name), etag);
	}
}
END_TEST

START_TEST(of_racing_deletes_one_wins)
{
	const char *f = path("f");
	struct call calls[WIDTH];
	char etag[BLOB_ETAG_MAX];

	must_put(f, "base", 4, etag);
	for (unsigned i = 0; i < WIDTH; i++) {
		call_init(&calls[i], BLOB_DELETE, f);
		calls[i].req.cond.if_match = etag;
	}
	winner(calls, BLOB_NOT_FOUND);
	for (unsigned i = 0; i < WIDTH; i++)
		call_fini(&calls[i]);
	must_be_gone(f);
}
END_TEST

START_TEST(of_racing_commits_one_wins)
{
	struct call calls[WIDTH];
	struct blob_block blocks[WIDTH];
	char etag[BLOB_ETAG_MAX];
	const char *f = path("f");
	unsigned won;
	char *buf;

	must_put(f, "base", 4, etag);
	memset(blocks, 0, sizeof(blocks));
	for (unsigned i = 0; i < WIDTH; i++) {
		must_stage(f, i, 1000);
		block_id(i, blocks[i].id);
		call_init(&calls[i], BLOB_COMMIT, f);
		calls[i].req.cond.if_match = etag;
		calls[i].req.in.commit.blocks = &blocks[i];
		calls[i].req.in.commit.blocks_nr = 1;
	}
	/* The winner drops everybody's staged blocks. */
	won = winner(calls, BLOB_BAD_BLOCKS);
	buf = bytes_new(1000, won);
	must_hold(f, buf, 1000);
	free(buf);
	for (unsigned i = 0; i < WIDTH; i++)
		call_fini(&calls[i]);
}
END_TEST

START_TEST(of_set_meta_and_put_one_wins)
{
	const char *f = path("f");
	static const struct blob_kv meta[] = { { (char *)"color",
		(char *)"red" } };
	struct call calls[WIDTH];
	char etag[BLOB_ETAG_MAX];

	must_put(f, "base", 4, etag);
	for (unsigned i = 0; i < WIDTH; i++) {
		call_init(&calls[i], i % 2 ? BLOB_PUT : BLOB_SET_META, f);
		calls[i].req.cond.if_match = etag;
		calls[i].req.meta = meta;
		calls[i].req.meta_nr = 1;
		if (i % 2)
			call_body(
				&calls[i], &calls[i].req.in.put.body, "new", 3);
	}
	winner(calls, BLOB_CONDITION);
	for (unsigned i = 0; i < WIDTH; i++)
		call_fini(&calls[i]);
}
END_TEST

START_TEST(readers_see_whole_states_while_writers_replace)
{
	const char *f = path("f");
	enum { LEN = 300000, READERS = 8 };
	struct call calls[READERS];
	char etag[BLOB_ETAG_MAX];
	char *body = malloc(LEN);

	memset(body, 'a', LEN);
	must_put(f, body, LEN, etag);
	for (int c = 'b'; c <= 'h'; c++) {
		for (unsigned i = 0; i < READERS; i++) {
			call_init(&calls[i], BLOB_GET, f);
			call_start(&calls[i]);
		}
		memset(body, c, LEN);
		ck_assert_int_eq(put(f, etag, body, LEN, etag), BLOB_OK);
		for (unsigned i = 0; i < READERS; i++) {
			call_wait(&calls[i]);
			call_must(&calls[i], BLOB_OK);
			ck_assert_uint_eq(calls[i].data_len, LEN);
			ck_assert(memcmp(calls[i].data, calls[i].data + 1,
					  LEN - 1) == 0);
			call_fini(&calls[i]);
		}
	}
	free(body);
}
END_TEST

START_TEST(a_hundred_requests_all_end_once)
{
	enum { NR = 100 };
	struct call *calls = calloc(NR, sizeof(*calls));
	char(*names)[32] = calloc(NR, sizeof(*names));
	const char **full = calloc(NR, sizeof(*full));

	for (unsigned i = 0; i < NR; i++) {
		snprintf(names[i], sizeof(names[i]), "d/%u", i);
		full[i] = strdup(path(names[i]));
		call_init(&calls[i], BLOB_PUT, full[i]);
		calls[i].req.cond.if_none_match_any = true;
		calls[i].req.background = i % 2;
		call_body(&calls[i], &calls[i].req.in.put.body, names[i],
			strlen(names[i]));
		call_start(&calls[i]);
	}
	for (unsigned i = 0; i < NR; i++) {
		call_wait(&calls[i]);
		call_must(&calls[i], BLOB_OK);
		call_fini(&calls[i]);
	}
	for (unsigned i = 0; i < NR; i++) {
		must_hold(full[i], names[i], strlen(names[i]));
		free((char *)full[i]);
	}
	free(full);
	free(names);
	free(calls);
}
END_TEST

/* ---- cancel and close ---- */

START_TEST(cancelled_requests_end_once)
{
	const char *f = path("f");
	enum { NR = 64 };
	struct call *calls = calloc(NR, sizeof(*calls));
	char *buf = bytes_new(2 * MIB, 1);

	must_put(f, buf, 2 * MIB, NULL);
	for (unsigned i = 0; i < NR; i++) {
		call_init(&calls[i], BLOB_GET, f);
		call_start(&calls[i]);
	}
	for (unsigned i = 0; i < NR; i++)
		blob_cancel(store, &calls[i].req);
	for (unsigned i = 0; i < NR; i++) {
		call_wait(&calls[i]);
		if (calls[i].req.result == BLOB_OK)
			ck_assert_uint_eq(calls[i].data_len, 2 * MIB);
		else
			call_must(&calls[i], BLOB_STOPPED);
		blob_cancel(store, &calls[i].req); /* too late: nothing */
		call_fini(&calls[i]);
	}
	/* The store goes on. */
	must_hold(f, buf, 2 * MIB);
	free(buf);
	free(calls);
}
END_TEST

START_TEST(cancelled_mutations_are_applied_or_not)
{
	enum { NR = 32 };
	struct call calls[NR];
	char names[NR][16];
	const char *full[NR];

	for (unsigned i = 0; i < NR; i++) {
		snprintf(names[i], sizeof(names[i]), "%u", i);
		full[i] = strdup(path(names[i]));
		call_init(&calls[i], BLOB_PUT, full[i]);
		calls[i].req.cond.if_none_match_any = true;
		call_body(&calls[i], &calls[i].req.in.put.body, "hello", 5);
		call_start(&calls[i]);
		blob_cancel(store, &calls[i].req);
	}
	for (unsigned i = 0; i < NR; i++) {
		call_wait(&calls[i]);
		switch (calls[i].req.result) {
		case BLOB_OK:
			must_hold(full[i], "hello", 5);
			break;
		case BLOB_AMBIGUOUS:
			break;
		default:
			call_must(&calls[i], BLOB_STOPPED);
			if (!calls[i].req.uncertain)
				must_be_gone(full[i]);
		}
		call_fini(&calls[i]);
		free((char *)full[i]);
	}
}
END_TEST

START_TEST(close_ends_what_is_under_way)
{
	const char *f = path("f");
	enum { NR = 64 };
	struct call *calls = calloc(NR, sizeof(*calls));
	char *buf = bytes_new(4 * MIB, 1);

	must_put(f, buf, 4 * MIB, NULL);
	for (unsigned i = 0; i < NR; i++) {
		call_init(&calls[i], BLOB_GET, f);
		calls[i].req.background = i % 2;
		call_start(&calls[i]);
	}
	blob_store_close(store);
	store = NULL;
	for (unsigned i = 0; i < NR; i++) {
		ck_assert_uint_eq(calls[i].done_nr, 1);
		if (calls[i].req.result != BLOB_OK)
			call_must(&calls[i], BLOB_STOPPED);
		call_fini(&calls[i]);
	}
	free(buf);
	free(calls);
}
END_TEST

static _Atomic unsigned chain_left;
static void chain_done(struct blob_req *req)
{
	struct call *c = req->arg;

	if (atomic_fetch_sub(&chain_left, 1) > 1) {
		blob_req_fini(req);
		blob_submit(store, req);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->done_nr++;
	pthread_cond_signal(&c->done_cond);
	pthread_mutex_unlock(&c->lock);
}

START_TEST(completion_may_submit)
{
	const char *f = path("f");
	struct call c;

	must_put(f, "x", 1, NULL);
	atomic_store(&chain_left, 50);
	call_init(&c, BLOB_HEAD, f);
	c.req.done = chain_done;
	call_run(&c);
	call_must(&c, BLOB_OK);
	ck_assert_uint_eq(atomic_load(&chain_left), 0);
	call_fini(&c);
}
END_TEST

void add_race(Suite *s)
{
	TCase *t = tcase_create("race");

	tcase_add_test(t, of_racing_writers_one_wins);
	tcase_add_test(t, of_racing_creators_one_wins);
	tcase_add_test(t, of_racing_deletes_one_wins);
	tcase_add_test(t, of_racing_commits_one_wins);
	tcase_add_test(t, of_set_meta_and_put_one_wins);
	tcase_add_test(t, readers_see_whole_states_while_writers_replace);
	tcase_add_test(t, a_hundred_requests_all_end_once);
	tcase_add_test(t, cancelled_requests_end_once);
	tcase_add_test(t, cancelled_mutations_are_applied_or_not);
	tcase_add_test(t, close_ends_what_is_under_way);
	tcase_add_test(t, completion_may_submit);
	case_add(s, t);
}
