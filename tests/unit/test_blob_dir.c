/*
 * What the `dir:` store does beyond the contract of all stores: ordinary files
 * as blobs, blobs as ordinary files, other programs' hands in the reservoir,
 * and a reservoir that fails.  The contract itself: tests/store.
 */
#include "blob/dir.h"
#include "blob/hash.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char top[64], root[80];
static struct blob_store *store;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int state; /* under lock */

static void on_state(void *arg, enum blob_state now, const char *why)
{
	(void)arg;
	ck_assert((now == BLOB_STATE_UP) == (why[0] == '\0'));
	pthread_mutex_lock(&lock);
	state = now;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void wait_state(enum blob_state want)
{
	pthread_mutex_lock(&lock);
	while (state != (int)want)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

static struct blob_store *open_dir(const char *path)
{
	struct blob_config config = { .state_changed = on_state };
	struct blob_store *s;
	char url[256], why[256];

	snprintf(url, sizeof(url), "dir:%s", path);
	config.url = url;
	ck_assert_msg(
		blob_dir_open(&config, &s, why, sizeof(why)) == 0, "%s", why);
	return s;
}

static void setup(void)
{
	snprintf(top, sizeof(top), "%s/forebay-dir.XXXXXX",
		getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40
			? getenv("TMPDIR")
			: "/tmp");
	ck_assert(mkdtemp(top) != NULL);
	snprintf(root, sizeof(root), "%s/r", top);
	ck_assert_int_eq(mkdir(root, 0755), 0);
	state = BLOB_STATE_UP;
	store = open_dir(root);
}

static int remove_one(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	blob_store_close(store);
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- requests ---- */

struct call {
	struct blob_req req;
	bool done;
	char data[65536];
	size_t len;
	uint8_t md5[16];
};

static int on_data(struct blob_req *req, const void *buf, size_t len)
{
	struct call *c = req->arg;

	ck_assert_uint_le(c->len + len, sizeof(c->data));
	memcpy(c->data + c->len, buf, len);
	c->len += len;
	return 0;
}

static void on_done(struct blob_req *req)
{
	struct call *c = req->arg;

	pthread_mutex_lock(&lock);
	c->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static struct call *call_new(enum blob_op op, const char *name)
{
	struct call *c = calloc(1, sizeof(*c));

	c->req.op = op;
	c->req.name = name;
	c->req.done = on_done;
	c->req.arg = c;
	if (op == BLOB_GET)
		c->req.in.get.data = on_data;
	return c;
}

static enum blob_result finish(struct call *c)
{
	pthread_mutex_lock(&lock);
	while (!c->done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return c->req.result;
}

static enum blob_result run(struct call *c)
{
	blob_submit(store, &c->req);
	return finish(c);
}

static void call_free(struct call *c)
{
	blob_req_fini(&c->req);
	free(c);
}

static struct call *put_new(
	const char *name, const char *etag, const char *bytes)
{
	struct call *c = call_new(BLOB_PUT, name);

	c->req.cond.if_match = etag;
	c->req.cond.if_none_match_any = etag == NULL;
	blob_md5(bytes, strlen(bytes), c->md5);
	c->req.in.put.body.mem = bytes;
	c->req.in.put.body.len_bytes = strlen(bytes);
	c->req.in.put.body.md5 = c->md5;
	return c;
}

static enum blob_result put(const char *name, const char *etag,
	const char *bytes, const struct blob_kv *meta, size_t nr,
	char *ret_etag)
{
	struct call *c = put_new(name, etag, bytes);
	enum blob_result result;

	c->req.meta = meta;
	c->req.meta_nr = nr;
	result = run(c);
	if (result == BLOB_OK && ret_etag)
		memcpy(ret_etag, c->req.props.etag, BLOB_ETAG_MAX);
	call_free(c);
	return result;
}

static struct call *head(const char *name)
{
	struct call *c = call_new(BLOB_HEAD, name);

	run(c);
	return c;
}

static void etag_of(const char *name, char ret[BLOB_ETAG_MAX])
{
	struct call *c = head(name);

	ck_assert_int_eq(c->req.result, BLOB_OK);
	memcpy(ret, c->req.props.etag, BLOB_ETAG_MAX);
	call_free(c);
}

static const char *meta_of(const struct call *c, const char *key)
{
	for (size_t i = 0; i < c->req.props.meta_nr; i++) {
		if (strcasecmp(c->req.props.meta[i].key, key) == 0)
			return c->req.props.meta[i].value;
	}
	return NULL;
}

static struct blob_posix posix_of(const struct call *c)
{
	struct blob_entry entry = { .name = (char *)"x",
		.props = c->req.props };
	struct blob_posix posix;
	struct blob_mark mark;

	blob_meta_decode(&entry, &posix, &mark);
	return posix;
}

static void must_hold(const char *name, const char *bytes)
{
	struct call *c = call_new(BLOB_GET, name);

	ck_assert_int_eq(run(c), BLOB_OK);
	ck_assert_uint_eq(c->len, strlen(bytes));
	ck_assert(memcmp(c->data, bytes, c->len) == 0);
	call_free(c);
}

static enum blob_result delete (const char *name, const char *etag) {
	struct call *c = call_new(BLOB_DELETE, name); enum blob_result result;

	c->req.cond.if_match = etag;
	result = run(c);
	call_free(c);
	return result;
}

/* ---- the reservoir's side ---- */

static const char *at(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *p = ring[next++ % 4];

	snprintf(p, sizeof(ring[0]), "%s/%s", root, name);
	return p;
}

static void write_file(const char *name, const char *bytes)
{
	FILE *f = fopen(at(name), "w");

	ck_assert(f != NULL);
	fputs(bytes, f);
	fclose(f);
}

static void must_be_file(const char *name, const char *bytes)
{
	char buf[256];
	FILE *f = fopen(at(name), "r");
	size_t n;

	ck_assert(f != NULL);
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	ck_assert_uint_eq(n, strlen(bytes));
	ck_assert(memcmp(buf, bytes, n) == 0);
}

static bool exists(const char *name)
{
	struct stat st;

	return lstat(at(name), &st) == 0;
}

static unsigned count_in(const char *name)
{
	unsigned nr = 0;
	struct call *c = call_new(BLOB_LIST, "");
	char sub[32];

	/* The store hides these: look with a store of their own. */
	struct blob_store *was = store;

	snprintf(sub, sizeof(sub), "%s", name);
	store = open_dir(at(sub));
	ck_assert_int_eq(run(c), BLOB_OK);
	nr = (unsigned)c->req.page.entries_nr;
	call_free(c);
	blob_store_close(store);
	store = was;
	return nr;
}

#define KV(k, v)                         \
	{                                \
		(char *)(k), (char *)(v) \
	}

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
		{ "dir:/no/such/directory", -ENOENT },
		{ "dir:/etc/passwd", -ENOTDIR } };

	for (unsigned i = 0; i < 4; i++) {
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

START_TEST(damaged_record_counts_as_none)
{
	static const struct blob_kv meta[] = { KV("is_symlink", "true"),
		KV("color", "blue") };
	char path[300];
	struct stat st;
	struct call *c;
	int fd;

	ck_assert_int_eq(put("l", NULL, "there", meta, 2, NULL), BLOB_OK);
	ck_assert_int_eq(lstat(at("l"), &st), 0);
	snprintf(path, sizeof(path),
		"for f in %s/.forebay/meta/%02x/*.meta; do "
		"printf XX | dd of=$f bs=1 seek=60 conv=notrunc 2>/dev/null; "
		"done",
		root, (unsigned)(st.st_ino & 0xff));
	ck_assert_int_eq(system(path), 0);
	c = head("l");
	ck_assert_int_eq(c->req.result, BLOB_OK);
	ck_assert_ptr_null(meta_of(c, "color"));
	ck_assert_int_eq(posix_of(c).kind, BLOB_KIND_SYMLINK);
	call_free(c);
	must_hold("l", "there");
	fd = open(at("f"), O_CREAT | O_WRONLY, 0644);
	close(fd);
	snprintf(path, sizeof(path),
		"python3 -c 'import os; os.setxattr(\"%s\", "
		"\"user.forebay.meta\", b\"fbd1garbage\")'",
		at("f"));
	ck_assert_int_eq(system(path), 0);
	c = head("f");
	ck_assert_int_eq(c->req.result, BLOB_OK);
	call_free(c);
}
END_TEST

static TCase *new_case(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	return t;
}

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
	Suite *s = suite_create("blob_dir");
	SRunner *runner;
	int failed;

	suite_add_tcase(s, files_case());
	suite_add_tcase(s, hands_case());
	suite_add_tcase(s, own_case());
	suite_add_tcase(s, faults_case());
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
