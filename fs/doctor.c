/*
 * `forebay doctor`: what this host, and a store, offer or lack, what each lack
 * costs, and what to do.  Changes nothing.
 *
 * A row is "ok", "lacks" (it works, at a price) or "bad" (a mount would fail).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "blob/store.h"
#include "fs/ask.h"
#include "fs/fs.h"

#define CACHE_ROOT "/var/lib/forebay"
#define STORE_TIMEOUT_MS 15000
/* The default of store_timeout. */
#define STORE_TIMEOUT_S 60
/* The service refuses dates this far off; half of it is worth a word. */
#define SKEW_BAD_S 900
#define SKEW_LACKS_S 300
/* A thousand open files and the daemon's own. */
#define FILES_WANTED 4096

static void say(json_t *rows, const char *check, const char *state,
	const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void say(json_t *rows, const char *check, const char *state,
	const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(rows,
		json_pack("{s:s, s:s, s:o}", "check", check, "state", state,
			"text", fs_path_json(text)));
}

/* A number in a file of the system; `missing` without it. */
static long long read_number(const char *path, long long missing)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return missing;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '\0';
	close(fd);
	if (text[0] == 'Y' || text[0] == 'N')
		return text[0] == 'Y';
	return text[0] != '\0' ? strtoll(text, NULL, 10) : missing;
}

/* ---- the host ---- */

static void check_kernel(json_t *rows)
{
	struct utsname name;
	int major = 0, minor = 0;

	if (uname(&name) != 0 ||
		sscanf(name.release, "%d.%d", &major, &minor) != 2) {
		say(rows, "kernel", "lacks", "its version is unknown");
		return;
	}
	if (major > 6 || (major == 6 && minor >= 9))
		say(rows, "kernel", "ok",
			"Linux %s: whole files are passed through to the disk, "
			"and mounts outlive their daemon",
			name.release);
	else
		say(rows, "kernel", "lacks",
			"Linux %s: without passthrough and resend (6.9): all "
			"reads go through the daemon, and a daemon that dies "
			"takes its mount along; use a newer kernel",
			name.release);
	if (major < 6 || (major == 6 && minor < 14))
		say(rows, "io_uring", "lacks",
			"FUSE over io_uring needs Linux 6.14; only -o io_uring "
			"wants it");
	else if (read_number("/sys/module/fuse/parameters/enable_uring", 0) ==
		0)
		say(rows, "io_uring", "lacks",
			"switched off in the kernel; only -o io_uring wants "
			"it: echo Y >/sys/module/fuse/parameters/enable_uring");
	else
		say(rows, "io_uring", "ok", "-o io_uring can be used");
}

static void check_fuse(json_t *rows)
{
	long long limit =
		read_number("/proc/sys/fs/fuse/max_request_timeout", 0);
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		say(rows, "fuse", "ok", "/dev/fuse can be opened");
	else
		say(rows, "fuse", "bad",
			"/dev/fuse cannot be opened (%s): load the module "
			"fuse, run as root, and give containers --device "
			"/dev/fuse --cap-add SYS_ADMIN",
			strerrordesc_np(errno));
	if (fd >= 0)
		close(fd);
	if (limit > 0 && limit <= STORE_TIMEOUT_S)
		say(rows, "fuse-timeout", "bad",
			"fs.fuse.max_request_timeout is %lld s: the kernel "
			"ends the mount when a read waits as long as "
			"store_timeout (%d s); set it to 0, or higher",
			limit, STORE_TIMEOUT_S);
	else
		say(rows, "fuse-timeout", "ok",
			"the kernel does not end mounts that wait");
}

static void check_limits(json_t *rows)
{
	struct rlimit files = { 0 }, lock = { 0 };

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_MEMLOCK, &lock);
	if (files.rlim_max < FILES_WANTED)
		say(rows, "open-files", "lacks",
			"at most %llu descriptors: more files than that cannot "
			"be open at once; raise LimitNOFILE or ulimit -Hn",
			(unsigned long long)files.rlim_max);
	else
		say(rows, "open-files", "ok", "up to %llu descriptors",
			(unsigned long long)files.rlim_max);
	if (lock.rlim_cur < 1 << 20 && geteuid() != 0)
		say(rows, "locked-memory", "lacks",
			"%llu bytes may be locked: secrets may be swapped out",
			(unsigned long long)lock.rlim_cur);
	else
		say(rows, "locked-memory", "ok", "secrets stay in memory");
}

static const char *fs_name(long type)
{
	switch ((unsigned long)type) {
	case 0xef53:
		return "ext4";
	case 0x58465342:
		return "XFS";
	case 0x9123683e:
		return "btrfs";
	case 0x01021994:
		return "tmpfs";
	case 0x794c7630:
		return "overlayfs";
	case 0x6969:
		return "NFS";
	case 0x65735546:
		return "FUSE";
	default:
		return "another file system";
	}
}

static bool has_leases(const char *dir)
{
	char path[64];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), ro;
	bool ok;

	if (fd < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	ok = ro >= 0 && fcntl(ro, F_SETLEASE, F_RDLCK) == 0;
	if (ro >= 0)
		close(ro);
	return ok;
}

static void check_cache(json_t *rows)
{
	const char *dir = CACHE_ROOT;
	struct statfs fs;
	const char *name;

	if (statfs(dir, &fs) != 0)
		dir = "/var/lib";
	if (statfs(dir, &fs) != 0) {
		say(rows, "cache", "bad",
			"%s: %s: choose a directory with -o cache=", dir,
			strerrordesc_np(errno));
		return;
	}
	name = fs_name(fs.f_type);
	if (strcmp(name, "NFS") == 0 || strcmp(name, "FUSE") == 0)
		say(rows, "cache", "bad",
			"%s is on %s, which cannot hold a cache: choose one on "
			"a local disk with -o cache=",
			dir, name);
	else if (strcmp(name, "tmpfs") == 0 || strcmp(name, "overlayfs") == 0)
		say(rows, "cache", "lacks",
			"%s is on %s: no passthrough, and what the store does "
			"not have yet is lost with it; choose a disk with -o "
			"cache=",
			dir, name);
	else if (geteuid() == 0 && !has_leases(dir))
		say(rows, "cache", "lacks",
			"%s (%s) has no leases: nobody knows of mappings, so "
			"files are served by the daemon",
			dir, name);
	else
		say(rows, "cache", "ok",
			"%s is on %s, with %llu GiB free of %llu", dir, name,
			(unsigned long long)fs.f_bavail * fs.f_bsize >> 30,
			(unsigned long long)fs.f_blocks * fs.f_bsize >> 30);
}

/* ---- the store ---- */

static void check_clock(json_t *rows, const struct blob_req *req)
{
	long long skew = (long long)(time(NULL) - req->server_time_s);

	if (req->server_time_s == 0)
		return;
	if (llabs(skew) >= SKEW_LACKS_S)
		say(rows, "clock", llabs(skew) >= SKEW_BAD_S ? "bad" : "lacks",
			"this host's clock is %lld s %s the store's: beyond "
			"15 minutes every request is refused; run NTP",
			llabs(skew), skew > 0 ? "ahead of" : "behind");
	else
		say(rows, "clock", "ok", "%lld s from the store's",
			llabs(skew));
}

static void check_features(json_t *rows, const struct blob_req *req)
{
	bool dirs = false, archived = false;

	for (size_t i = 0; i < req->page.entries_nr; i++) {
		dirs |= req->page.entries[i].props.type == BLOB_TYPE_DIR;
		archived |= req->page.entries[i].props.archived;
	}
	if (dirs)
		say(rows, "namespace", "lacks",
			"it has real directories (hierarchical namespace): "
			"renames are made blob by blob all the same");
	else
		say(rows, "namespace", "ok", "flat, as far as can be seen");
	if (archived)
		say(rows, "archive", "lacks",
			"some blobs are archived: reading them gives EIO until "
			"they are rehydrated");
	say(rows, "versioning", "ok",
		"not visible from here: with versioning or soft delete every "
		"replaced or deleted blob goes on costing until its retention "
		"ends; look at the account's data protection");
}

static int no_data(struct blob_req *req, const void *buf, size_t len)
{
	(void)req;
	(void)buf;
	(void)len;
	return 0;
}

static void check_id(json_t *rows, struct blob_store *store)
{
	struct blob_req req = {
		.op = BLOB_GET, .name = ".forebay/id", .in.get.data = no_data
	};

	fs_ask(store, &req);
	if (req.result == BLOB_OK)
		say(rows, "id", "ok", "a forebay has mounted it before");
	else if (req.result == BLOB_NOT_FOUND)
		say(rows, "id", "ok",
			"no forebay has mounted it yet; the first one writes "
			".forebay/id, if it may");
	else
		say(rows, "id", "bad",
			"blobs can be listed, but not read (%s): the "
			"credentials need read, list, and for writing also "
			"add, create, write and delete",
			req.code[0] ? req.code : blob_result_name(req.result));
	blob_req_fini(&req);
}

static void check_store(json_t *rows, const char *url, const char *credentials)
{
	struct blob_config config = { .url = url,
		.credentials_file = credentials,
		.timeout_ms = STORE_TIMEOUT_MS };
	struct blob_req req = { .op = BLOB_LIST, .name = "" };
	struct blob_store *store;
	char why[1024] = "";

	if (blob_store_open(&config, &store, why, sizeof(why)) < 0) {
		say(rows, "store", "bad", "%s", why);
		return;
	}
	fs_ask(store, &req);
	if (req.result == BLOB_OK)
		say(rows, "store", "ok",
			"it answers, and takes the credentials");
	else if (req.result == BLOB_DENIED)
		say(rows, "store", "bad",
			"it refuses the credentials (%s): check key, SAS or "
			"role assignment, and the clock",
			req.code);
	else if (req.result == BLOB_NO_CONTAINER)
		say(rows, "store", "bad",
			"there is no such container or directory: create it, "
			"or correct the name");
	else
		say(rows, "store", "bad",
			"it does not answer (%s): check its address, the "
			"network and the proxy",
			req.code[0] ? req.code : blob_result_name(req.result));
	if (strncmp(url, "dir:", 4) != 0) {
		check_clock(rows, &req);
		if (req.result == BLOB_OK)
			check_features(rows, &req);
	}
	if (req.result == BLOB_OK)
		check_id(rows, store);
	blob_req_fini(&req);
	blob_store_close(store);
}

json_t *fs_doctor(const char *store, const char *credentials)
{
	json_t *rows = json_array();

	check_kernel(rows);
	check_fuse(rows);
	check_cache(rows);
	check_limits(rows);
	if (store != NULL)
		check_store(rows, store, credentials);
	return rows;
}
