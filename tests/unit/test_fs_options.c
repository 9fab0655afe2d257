/* The options of a mount: every one, and every bad one. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/options.h"

static struct fs_options opt;
static char why[1024];

static int parse(const char *text)
{
	struct fs_mount_args args = {
		.store = "dir:/srv/cold", .mountpoint = "/mnt", .options = text
	};

	why[0] = '\0';
	return fs_options_parse(&args, &opt, why, sizeof(why));
}

static void good(const char *text)
{
	ck_assert_msg(parse(text) == 0, "%s: %s", text, why);
}

static void bad(const char *text, const char *words)
{
	int err = parse(text);

	ck_assert_msg(err == -EINVAL, "%s: %d", text, err);
	ck_assert_msg(strstr(why, words) != NULL, "%s: %s", text, why);
	ck_assert_ptr_null(strchr(why, '\n'));
}

static void done(void)
{
	fs_options_fini(&opt);
}

START_TEST(defaults_are_those_of_the_manual)
{
	good(NULL);
	ck_assert_str_eq(opt.store, "dir:/srv/cold");
	ck_assert_str_eq(opt.mountpoint, "/mnt");
	ck_assert_uint_eq(opt.cache_size, 80);
	ck_assert(opt.cache_size_percent);
	ck_assert_uint_eq(opt.reserve, 5);
	ck_assert(opt.reserve_percent);
	ck_assert_uint_eq(opt.dirty_limit, 40);
	ck_assert(opt.dirty_limit_percent);
	ck_assert_int_eq(opt.freshness_ns, 60000000000);
	ck_assert_int_eq(opt.writeback_open_ns, 30000000000);
	ck_assert_int_eq(opt.store_timeout_ns, 60000000000);
	ck_assert_uint_eq(opt.fetch_whole_bytes, 8 << 20);
	ck_assert_uint_eq(opt.read_ahead_bytes, 64 << 20);
	ck_assert_uint_eq(opt.file_mode, 0644);
	ck_assert_uint_eq(opt.dir_mode, 0755);
	ck_assert_uint_eq(opt.uid, geteuid());
	ck_assert_int_eq(opt.allow_other, geteuid() == 0);
	ck_assert(opt.passthrough && !opt.ro && !opt.durability_store);
	ck_assert(!opt.io_uring && !opt.nonempty && !opt.foreground);
	ck_assert_int_eq(opt.log_level, BASE_LOG_INFO);
	ck_assert_uint_eq(opt.mount_flags, MS_NOSUID | MS_NODEV);
	ck_assert_str_eq(opt.kernel_opts, "");
	done();
}
END_TEST

START_TEST(sizes_take_units_and_percent)
{
	good("cache_size=1G,reserve=512M,dirty_limit=2g,fetch_whole=0,"
	     "read_ahead=123k");
	ck_assert_uint_eq(opt.cache_size, 1ULL << 30);
	ck_assert(!opt.cache_size_percent);
	ck_assert_uint_eq(opt.reserve, 512ULL << 20);
	ck_assert(!opt.reserve_percent);
	ck_assert_uint_eq(opt.dirty_limit, 2ULL << 30);
	ck_assert_uint_eq(opt.fetch_whole_bytes, 0);
	ck_assert_uint_eq(opt.read_ahead_bytes, 123 << 10);
	done();
	good("cache_size=3T,reserve=10%,cache_size=50%");
	ck_assert_uint_eq(opt.cache_size, 50);
	ck_assert(opt.cache_size_percent);
	ck_assert_uint_eq(opt.dirty_limit, 25);
	ck_assert(opt.dirty_limit_percent);
	done();
	good("cache_size=100M");
	ck_assert_uint_eq(opt.dirty_limit, 50 << 20);
	ck_assert(!opt.dirty_limit_percent);
	done();
}
END_TEST

START_TEST(senseless_sizes_are_refused)
{
	static const char *const values[] = { "", "x", "1x", "-1", "+1", " 1",
		"1 ", "1GiB", "1.5G", "101%", "%", "99999999999999999999",
		"9999999999T", "0x10" };
	char text[64];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(text, sizeof(text), "cache_size=%s", values[i]);
		bad(text, "cache_size=");
	}
	bad("cache_size=1", "too small");
	bad("cache_size=0%", "too small");
	bad("cache_size", "'cache_size': needs a value");
	bad("fetch_whole=10%", "not a size");
	bad("read_ahead=10%", "not a size");
	bad("dirty_limit=lots", "not a size");
	bad("reserve=lots", "not a size");
}
END_TEST

START_TEST(seconds_may_have_a_fraction)
{
	good("freshness=0.5,writeback_open=0,store_timeout=2.25");
	ck_assert_int_eq(opt.freshness_ns, 500000000);
	ck_assert_int_eq(opt.writeback_open_ns, 0);
	ck_assert_int_eq(opt.store_timeout_ns, 2250000000);
	done();
	good("freshness=forever");
	ck_assert_int_eq(opt.freshness_ns, TIER_FOREVER_NS);
	done();
	good("freshness=0");
	ck_assert_int_eq(opt.freshness_ns, 0);
	done();
	bad("freshness=", "seconds");
	bad("freshness=-1", "seconds");
	bad("freshness=1.", "seconds");
	bad("freshness=1s", "seconds");
	bad("freshness=99999999999999", "seconds");
	bad("writeback_open=forever", "seconds");
	bad("store_timeout=0", "1 to 86400");
	bad("store_timeout=0.5", "1 to 86400");
	bad("store_timeout=90000", "1 to 86400");
}
END_TEST

START_TEST(words_are_checked)
{
	good("durability=store,passthrough=off,log=debug,io_uring,nonempty");
	ck_assert(opt.durability_store && !opt.passthrough);
	ck_assert(opt.io_uring && opt.nonempty);
	ck_assert_int_eq(opt.log_level, BASE_LOG_DEBUG);
	done();
	good("durability=local,passthrough=auto,log=error");
	ck_assert(!opt.durability_store && opt.passthrough);
	done();
	bad("durability=both", "local or store");
	bad("passthrough=on", "auto or off");
	bad("log=loud", "error, warn, info or debug");
	bad("credentials=", "name a file");
}
END_TEST

START_TEST(owners_and_modes_are_names_or_numbers)
{
	good("uid=1000,gid=100,file_mode=0600,dir_mode=711");
	ck_assert_uint_eq(opt.uid, 1000);
	ck_assert_uint_eq(opt.gid, 100);
	ck_assert_uint_eq(opt.file_mode, 0600);
	ck_assert_uint_eq(opt.dir_mode, 0711);
	done();
	good("uid=root,gid=root");
	ck_assert_uint_eq(opt.uid, 0);
	ck_assert_uint_eq(opt.gid, 0);
	done();
	bad("uid=no such user", "no such user");
	bad("gid=no such group", "no such group");
	bad("uid=4294967295", "no such user");
	bad("uid=-1", "no such user");
	bad("file_mode=0888", "octal");
	bad("file_mode=17777", "octal");
	bad("dir_mode=rwx", "octal");
}
END_TEST

START_TEST(generic_options_become_flags_or_nothing)
{
	good("rw,auto,noauto,nofail,_netdev,defaults,x-systemd.automount,"
	     "x-systemd.requires=a.mount,comment=hm,user=me,"
	     "default_permissions");
	ck_assert_uint_eq(opt.mount_flags, MS_NOSUID | MS_NODEV);
	done();
	good("suid,dev,noexec,noatime,nodiratime,sync,dirsync");
	ck_assert_uint_eq(opt.mount_flags,
		MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_SYNCHRONOUS |
			MS_DIRSYNC);
	done();
	good("noexec,exec,sync,async,noatime,relatime");
	ck_assert_uint_eq(opt.mount_flags, MS_NOSUID | MS_NODEV | MS_RELATIME);
	done();
	good("strictatime,lazytime");
	ck_assert(opt.mount_flags & MS_STRICTATIME);
	done();
	good("user");
	ck_assert(opt.mount_flags & MS_NOEXEC);
	done();
}
END_TEST

START_TEST(the_last_word_counts)
{
	good("ro,rw,ro");
	ck_assert(opt.ro && (opt.mount_flags & MS_RDONLY));
	done();
	good("ro,rw");
	ck_assert(!opt.ro && !(opt.mount_flags & MS_RDONLY));
	done();
	good("allow_other,noallow_other");
	ck_assert(!opt.allow_other);
	done();
}
END_TEST

START_TEST(contexts_go_to_the_kernel)
{
	good("context=\"system_u:object_r:x:s0:c1,c2\",ro");
	ck_assert_str_eq(
		opt.kernel_opts, "context=\"system_u:object_r:x:s0:c1,c2\"");
	ck_assert(opt.ro);
	done();
}
END_TEST

START_TEST(unknown_options_are_named)
{
	bad("nope", "unknown option 'nope'; see mount.forebay(8)");
	bad("ro,nope=1", "unknown option 'nope'");
	bad("nobarrier", "unknown option 'nobarrier'");
	bad("=1", "no name before");
	bad("ro=1", "'ro': takes no value");
	bad("remount", "unmount and mount again");
	bad("remount,ro", "unmount and mount again");
	bad("bind", "mount(8)'s own work");
}
END_TEST

START_TEST(sloppy_ignores_unknown_ones_only)
{
	struct fs_mount_args args = { .store = "dir:/srv/cold",
		.mountpoint = "/mnt",
		.options = "nope,other=1,ro",
		.sloppy = true };

	ck_assert_int_eq(fs_options_parse(&args, &opt, why, sizeof(why)), 0);
	ck_assert(opt.ro);
	done();
	args.options = "cache_size=lots";
	ck_assert_int_eq(
		fs_options_parse(&args, &opt, why, sizeof(why)), -EINVAL);
}
END_TEST

START_TEST(cache_directories_are_split)
{
	good("cache=/a:/b c:/d\\,e,ro");
	ck_assert_uint_eq(opt.cache_dirs_nr, 3);
	ck_assert_str_eq(opt.cache_dirs[0], "/a");
	ck_assert_str_eq(opt.cache_dirs[1], "/b c");
	ck_assert_str_eq(opt.cache_dirs[2], "/d,e");
	done();
	good("cache=/a:/b,cache=/c");
	ck_assert_uint_eq(opt.cache_dirs_nr, 1);
	done();
	bad("cache=", "empty name");
	bad("cache=/a:", "empty name");
	bad("cache=:/a", "empty name");
}
END_TEST

START_TEST(empty_options_are_nothing)
{
	good("");
	done();
	good(",,ro,,");
	ck_assert(opt.ro);
	done();
}
END_TEST

/* ---- paths ---- */

static int resolve(const char *store, const char *mountpoint, const char *cache)
{
	int err;

	good(cache);
	free(opt.store);
	free(opt.mountpoint);
	opt.store = strdup(store);
	opt.mountpoint = strdup(mountpoint);
	why[0] = '\0';
	err = fs_options_resolve(&opt, why, sizeof(why));
	return err;
}

START_TEST(default_cache_directory_is_readable_and_unique)
{
	char *a = fs_options_cache_dir(
		"https://acc.blob.core.windows.net/box/train");
	char *b = fs_options_cache_dir(
		"https://acc.blob.core.windows.net/box_train");
	char *c = fs_options_cache_dir("dir:/srv/cold");

	ck_assert_ptr_nonnull(
		strstr(a, "/var/lib/forebay/acc.blob.core.windows.net_box_"));
	ck_assert_str_ne(a, b);
	ck_assert_ptr_nonnull(strstr(c, "/var/lib/forebay/dir__srv_cold-"));
	ck_assert_ptr_null(strchr(c + strlen("/var/lib/forebay/"), '/'));
	free(a);
	free(b);
	free(c);
	ck_assert_int_eq(resolve("dir:/srv/cold", "/", NULL), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv/cold", "/mnt", NULL), 0);
	ck_assert_uint_eq(opt.cache_dirs_nr, 1);
	done();
}
END_TEST

START_TEST(paths_become_absolute)
{
	char here[4096];
	char want[8192];

	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	ck_assert_int_eq(resolve("dir:/srv/cold", "/mnt/",
				 "cache=no/such/dir:./x/,credentials=key"),
		0);
	ck_assert_str_eq(opt.mountpoint, "/mnt");
	snprintf(want, sizeof(want), "%s/no/such/dir", here);
	ck_assert_str_eq(opt.cache_dirs[0], want);
	snprintf(want, sizeof(want), "%s/x", here);
	ck_assert_str_eq(opt.cache_dirs[1], want);
	snprintf(want, sizeof(want), "%s/key", here);
	ck_assert_str_eq(opt.credentials, want);
	done();
}
END_TEST

START_TEST(directories_lie_apart)
{
	ck_assert_int_eq(
		resolve("dir:/srv/cold", "/srv/cold/m", "cache=/c"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv/cold", "/srv", "cache=/c"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv", "/m", "cache=/m/c"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv", "/m", "cache=/srv/c"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv", "/m", "cache=/c:/c/d"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv", "/m", "cache=/c:/c"), -EINVAL);
	done();
	ck_assert_int_eq(resolve("dir:/srv", "/srv2", "cache=/c:/c2"), 0);
	done();
	ck_assert_int_eq(resolve("https://a/b", "/m", "cache=/c"), 0);
	done();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs_options");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_test(t, defaults_are_those_of_the_manual);
	tcase_add_test(t, sizes_take_units_and_percent);
	tcase_add_test(t, senseless_sizes_are_refused);
	tcase_add_test(t, seconds_may_have_a_fraction);
	tcase_add_test(t, words_are_checked);
	tcase_add_test(t, owners_and_modes_are_names_or_numbers);
	tcase_add_test(t, generic_options_become_flags_or_nothing);
	tcase_add_test(t, the_last_word_counts);
	tcase_add_test(t, contexts_go_to_the_kernel);
	tcase_add_test(t, unknown_options_are_named);
	tcase_add_test(t, sloppy_ignores_unknown_ones_only);
	tcase_add_test(t, cache_directories_are_split);
	tcase_add_test(t, empty_options_are_nothing);
	tcase_add_test(t, default_cache_directory_is_readable_and_unique);
	tcase_add_test(t, paths_become_absolute);
	tcase_add_test(t, directories_lie_apart);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
