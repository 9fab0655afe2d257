/* Open inodes and the end of writing, on a cache and a `dir:` store, without a
 * kernel: what is tested with one is in tests/mount. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/recover.h"
#include "fs/written.h"
#include "tests/lib/rig.h"

#define OK(call) ck_assert_int_eq((call), 0)

static struct rig rig;
static struct fs_mount m;
static struct fs_handles *h;
static struct fs_table *table;

static void setup(void)
{
	int fd;

	rig_init(&rig);
	rig_open(&rig);
	OK(rig_refresh(&rig, ""));
	memset(&m, 0, sizeof(m));
	m.env = rig.env;
	m.cache = rig.cache;
	m.tier = rig.tier;
	m.opt.writeback_open_ns = 3600 * 1000000000ll;
	fd = fs_table_create();
	OK(fs_table_map(fd, &table));
	close(fd);
	m.handles = h = fs_handles_new(&m, table);
}

static void teardown(void)
{
	fs_handles_finish(h);
	rig_fini(&rig);
	fs_handles_free(h);
	fs_table_unmap(table);
}

static struct cache_inode row(const char *path)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	OK(cache_read(rig.cache, &txn));
	OK(cache_resolve(txn, path, &inode));
	cache_abort(txn);
	return inode;
}

static void nothing(void *arg)
{
	(void)arg;
}

static struct fs_file *get(uint64_t ino)
{
	static struct fs_wait nobody = { .fn = nothing };
	struct fs_file *f = fs_file_get(h, ino, &nobody);

	ck_assert_ptr_nonnull(f);
	return f;
}

/* As op_open.c does it: reference, gate, row, ready, open. */
static uint64_t open_file(const char *path, int flags)
{
	struct fuse_file_info fi = { .flags = flags };
	struct cache_inode inode = row(path);
	struct cache_txn *txn;
	bool was_synced = inode.gen == inode.synced_gen;
	struct fs_file *f = get(inode.ino);

	ck_assert(fs_file_lock(h, f, NULL));
	if ((flags & O_ACCMODE) != O_RDONLY) {
		OK(cache_write(rig.cache, &txn));
		OK(cache_inode_get(txn, inode.ino, &inode));
		inode.written = true;
		inode.gen++;
		OK(cache_inode_put(txn, &inode));
		OK(cache_commit(txn));
		ck_assert_int_ge(fs_file_fd(h, f, inode.serial, false), 0);
		fs_written_begin(h, f, &inode, (flags & O_ACCMODE) == O_RDWR,
			was_synced);
	}
	OK(fs_file_open(h, f, &inode, false, 0, &fi));
	fs_file_unlock(h, f);
	fs_file_put(h, f);
	return fi.fh;
}

static void release(uint64_t fh, bool write)
{
	struct fs_file *f = fs_file_release(h, fh);

	ck_assert_ptr_nonnull(f);
	if (write)
		fs_written_end(h, f);
	else
		fs_file_put(h, f);
}

static void flush(uint64_t fh)
{
	struct fs_open open;

	OK(fs_file_of(h, fh, &open));
	OK(fs_written_enter(h, open.file));
	fs_file_put(h, open.file);
}

static int data_fd(const char *path, int flags)
{
	struct cache_inode inode = row(path);
	int fd = cache_data_open(rig.cache, inode.ino, inode.serial, flags);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void scribble(const char *path, const char *text)
{
	int fd = data_fd(path, O_RDWR);

	ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
}

static void assert_store(const char *path, const char *want)
{
	char *got = rig_store_read(&rig, path);

	ck_assert_ptr_nonnull(got);
	ck_assert_str_eq(got, want);
	free(got);
}

static void wait_unwritten(const char *path)
{
	while (row(path).written)
		sched_yield();
}

/* ---- claims ---- */

START_TEST(claim_refuses_open_file)
{
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	fh = open_file("a", O_RDONLY);
	ck_assert(!fs_handles_claim(h, row("a").ino));
	release(fh, false);
	ck_assert(fs_handles_claim(h, row("a").ino));
	fs_handles_unclaim(h, row("a").ino);
}
END_TEST

START_TEST(claim_refuses_mapped_file)
{
	uint64_t ino;
	void *map;
	int fd;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	ino = row("a").ino;
	fd = data_fd("a", O_RDONLY);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	ck_assert_ptr_ne(map, MAP_FAILED);
	if (cache_data_leases(rig.cache))
		ck_assert(!fs_handles_claim(h, ino));
	munmap(map, 4096);
	ck_assert(fs_handles_claim(h, ino));
	fs_handles_unclaim(h, ino);
}
END_TEST

START_TEST(claim_refuses_claimed_file)
{
	uint64_t ino;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	ino = row("a").ino;
	ck_assert(fs_handles_claim(h, ino));
	ck_assert(!fs_handles_claim(h, ino));
	fs_handles_unclaim(h, ino);
}
END_TEST

static void count(void *arg)
{
	atomic_fetch_add((_Atomic int *)arg, 1);
}

START_TEST(open_waits_while_claimed)
{
	_Atomic int ran = 0;
	struct fs_wait wait = { .fn = count, .arg = &ran };
	uint64_t ino;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	ino = row("a").ino;
	ck_assert(fs_handles_claim(h, ino));
	ck_assert_ptr_null(fs_file_get(h, ino, &wait));
	ck_assert_int_eq(ran, 0);
	fs_handles_unclaim(h, ino);
	while (ran == 0)
		sched_yield();
	fs_file_put(h, get(ino));
}
END_TEST

/* ---- handles ---- */

START_TEST(stale_handle_is_refused)
{
	struct fs_open open;
	uint64_t first, second;

	rig_write(&rig, "a", "hello");
	first = open_file("a", O_RDONLY);
	release(first, false);
	second = open_file("a", O_RDONLY);
	ck_assert_uint_eq((uint32_t)first, (uint32_t)second);
	ck_assert_uint_ne(first, second);
	ck_assert_ptr_null(fs_file_release(h, first));
	ck_assert_int_eq(fs_file_of(h, first, &open), -EBADF);
	OK(fs_file_of(h, second, &open));
	fs_file_put(h, open.file);
	release(second, false);
	ck_assert_int_eq(fs_file_of(h, UINT64_MAX, &open), -EBADF);
}
END_TEST

START_TEST(state_holds_until_last_release)
{
	struct cache_inode inode;
	uint64_t one, two;
	struct fs_file *f;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, "")); /* or the uploader has it open */
	inode = row("a");
	one = open_file("a", O_RDONLY);
	two = open_file("a", O_RDONLY);
	f = get(inode.ino);
	release(one, false);
	ck_assert(fs_file_is_served(h, f));
	ck_assert(!fs_file_alone(h, f, inode.serial));
	release(two, false);
	ck_assert(!fs_file_is_served(h, f));
	ck_assert(fs_file_alone(h, f, inode.serial));
	fs_file_put(h, f);
	ck_assert(!fs_handles_in_use(h, inode.ino));
}
END_TEST

START_TEST(pages_are_kept_for_the_same_content_only)
{
	struct fuse_file_info fi = { .flags = O_RDONLY };
	struct cache_inode inode;
	struct fs_file *f;

	rig_write(&rig, "a", "hello");
	inode = row("a");
	f = get(inode.ino);
	for (int i = 0; i < 4; i++) {
		if (i == 2)
			cache_id_new(rig.cache, &inode.content);
		OK(fs_file_open(h, f, &inode, false, 0, &fi));
		ck_assert_int_eq(fi.keep_cache, i == 1 || i == 3);
		ck_assert_int_eq(fi.noflush, 1);
		release(fi.fh, false);
	}
	fs_file_put(h, f);
}
END_TEST

START_TEST(gate_is_given_in_turn)
{
	_Atomic int ran = 0;
	struct fs_wait one = { .fn = count, .arg = &ran };
	struct fs_wait two = { .fn = count, .arg = &ran };
	struct fs_file *f;

	rig_write(&rig, "a", "hello");
	f = get(row("a").ino);
	ck_assert(fs_file_lock(h, f, NULL));
	ck_assert(!fs_file_lock(h, f, &one));
	ck_assert(!fs_file_lock(h, f, &two));
	fs_file_unlock(h, f);
	while (ran != 1)
		sched_yield();
	fs_file_unlock(h, f);
	while (ran != 2)
		sched_yield();
	fs_file_unlock(h, f);
	ck_assert(fs_file_lock(h, f, NULL));
	fs_file_unlock(h, f);
	fs_file_put(h, f);
}
END_TEST

START_TEST(nameless_is_in_use_until_forgotten)
{
	uint64_t ino;

	rig_write(&rig, "a", "hello");
	ino = row("a").ino;
	fs_handles_nameless(h, ino, true);
	ck_assert(fs_handles_in_use(h, ino));
	ck_assert(!fs_handles_claim(h, ino));
	ck_assert(fs_handles_forget(h, ino));
	ck_assert(!fs_handles_in_use(h, ino));
	fs_handles_nameless(h, ino, true);
	fs_handles_nameless(h, ino, false);
	ck_assert(!fs_handles_in_use(h, ino));
}
END_TEST

START_TEST(unlinked_open_file_goes_with_its_last_release)
{
	struct cache_inode inode;
	struct cache_txn *txn;
	uint64_t fh;
	int err;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, "")); /* or the uploader has it open */
	inode = row("a");
	fh = open_file("a", O_RDONLY);
	OK(cache_write(rig.cache, &txn));
	OK(cache_dentry_del(txn, CACHE_ROOT_INO, "a"));
	OK(fs_unname(&m, txn, &inode));
	OK(cache_commit(txn));
	ck_assert(!fs_handles_forget(h, inode.ino));
	OK(cache_read(rig.cache, &txn));
	OK(cache_inode_get(txn, inode.ino, &inode));
	cache_abort(txn);
	release(fh, false);
	do {
		OK(cache_read(rig.cache, &txn));
		err = cache_inode_get(txn, inode.ino, &inode);
		cache_abort(txn);
	} while (err == 0);
	ck_assert_int_eq(err, -ENOENT);
}
END_TEST

/* ---- writing ---- */

START_TEST(flush_enters_what_changed)
{
	struct cache_inode before, after;
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	fh = open_file("a", O_WRONLY);
	before = row("a");
	flush(fh);
	after = row("a");
	ck_assert(cache_id_eq(&before.content, &after.content));
	scribble("a", "other bytes");
	flush(fh);
	after = row("a");
	ck_assert(!cache_id_eq(&before.content, &after.content));
	ck_assert_uint_eq(after.size_bytes, strlen("other bytes"));
	ck_assert(!after.stored);
	release(fh, true);
	wait_unwritten("a");
	OK(rig_flush(&rig, ""));
	assert_store("a", "other bytes");
}
END_TEST

START_TEST(release_enters_what_no_flush_saw)
{
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	fh = open_file("a", O_WRONLY);
	scribble("a", "unseen");
	release(fh, true);
	wait_unwritten("a");
	ck_assert_uint_eq(row("a").size_bytes, strlen("unseen"));
	OK(rig_flush(&rig, ""));
	assert_store("a", "unseen");
}
END_TEST

START_TEST(unchanged_file_stays_clean)
{
	struct cache_inode before, after;
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	before = row("a");
	fh = open_file("a", O_RDWR);
	flush(fh);
	release(fh, true);
	wait_unwritten("a");
	after = row("a");
	ck_assert(cache_id_eq(&before.content, &after.content));
	ck_assert_int_eq(after.stored, before.stored);
	/* It was durable, and still is. */
	if (before.gen == before.synced_gen)
		ck_assert_uint_eq(after.gen, after.synced_gen);
}
END_TEST

START_TEST(writable_mapping_keeps_it_written_to)
{
	char *map;
	uint64_t fh, ino;
	int fd;

	if (!cache_data_leases(rig.cache))
		return;
	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	ino = row("a").ino;
	fh = open_file("a", O_RDWR);
	fd = data_fd("a", O_RDWR);
	map = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	ck_assert_ptr_ne(map, MAP_FAILED);
	memcpy(map, "HELLO", 5);
	flush(fh);
	release(fh, true);
	ck_assert(row("a").written);
	ck_assert(fs_handles_in_use(h, ino));
	ck_assert(!fs_handles_claim(h, ino));
	/* The page is dirty: this moves no time stamp. */
	memcpy(map, "again", 5);
	munmap(map, 4096);
	wait_unwritten("a");
	OK(rig_flush(&rig, ""));
	assert_store("a", "again");
	while (fs_handles_in_use(h, ino))
		sched_yield();
}
END_TEST

START_TEST(what_still_waits_keeps_its_place)
{
	struct cache_inode flushed, ended;
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	fh = open_file("a", O_RDWR);
	scribble("a", "bytes");
	flush(fh);
	flushed = row("a");
	release(fh, true);
	wait_unwritten("a");
	ended = row("a");
	/* It could have been mapped (W1 in written.c), but its row has not
	 * been read yet: what is sent is what it holds in the end. */
	ck_assert(cache_id_eq(&flushed.content, &ended.content));
	OK(rig_flush(&rig, ""));
	assert_store("a", "bytes");
}
END_TEST

START_TEST(fsync_makes_the_generation_durable)
{
	struct cache_inode inode;
	uint64_t fh, gen;

	rig_write(&rig, "a", "hello");
	fh = open_file("a", O_WRONLY);
	scribble("a", "longer than before");
	gen = row("a").gen;
	OK(fs_written_sync(h, row("a").ino));
	inode = row("a");
	ck_assert_uint_eq(inode.synced_gen, gen);
	ck_assert_uint_gt(inode.gen, inode.synced_gen);
	ck_assert_uint_eq(inode.size_bytes, strlen("longer than before"));
	flush(fh);
	release(fh, true);
	wait_unwritten("a");
	inode = row("a");
	ck_assert_uint_eq(inode.gen, inode.synced_gen);
}
END_TEST

START_TEST(finish_enters_what_is_still_open)
{
	uint64_t fh;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	fh = open_file("a", O_WRONLY);
	scribble("a", "at the end");
	fs_handles_finish(h);
	ck_assert(!row("a").written);
	ck_assert_uint_eq(row("a").size_bytes, strlen("at the end"));
	ck_assert_ptr_null(fs_file_release(h, fh));
}
END_TEST

START_TEST(recover_enters_what_a_dead_process_left)
{
	struct cache_inode inode;
	struct cache_txn *txn;

	rig_write(&rig, "a", "hello");
	OK(rig_flush(&rig, ""));
	inode = row("a");
	OK(cache_write(rig.cache, &txn));
	inode.written = true;
	OK(cache_inode_put(txn, &inode));
	OK(cache_commit(txn));
	scribble("a", "left behind");
	fs_handles_recover(h);
	wait_unwritten("a");
	OK(rig_flush(&rig, ""));
	assert_store("a", "left behind");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fs_handle");
	TCase *tc = tcase_create("handle");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, claim_refuses_open_file);
	tcase_add_test(tc, claim_refuses_mapped_file);
	tcase_add_test(tc, claim_refuses_claimed_file);
	tcase_add_test(tc, open_waits_while_claimed);
	tcase_add_test(tc, stale_handle_is_refused);
	tcase_add_test(tc, state_holds_until_last_release);
	tcase_add_test(tc, pages_are_kept_for_the_same_content_only);
	tcase_add_test(tc, gate_is_given_in_turn);
	tcase_add_test(tc, nameless_is_in_use_until_forgotten);
	tcase_add_test(tc, unlinked_open_file_goes_with_its_last_release);
	tcase_add_test(tc, flush_enters_what_changed);
	tcase_add_test(tc, release_enters_what_no_flush_saw);
	tcase_add_test(tc, unchanged_file_stays_clean);
	tcase_add_test(tc, writable_mapping_keeps_it_written_to);
	tcase_add_test(tc, what_still_waits_keeps_its_place);
	tcase_add_test(tc, fsync_makes_the_generation_durable);
	tcase_add_test(tc, finish_enters_what_is_still_open);
	tcase_add_test(tc, recover_enters_what_a_dead_process_left);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
