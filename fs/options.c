/*
 * The options of a mount: see options.h.
 *
 * One table names every option.  Those that mount(8) gives to everybody are
 * accepted without meaning, become flags of mount(2), or are handed to the
 * kernel as they are (the security contexts).
 */
#include "fs/options.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"

#define NS_PER_S 1000000000LL
/* Longer is "forever", and would overflow the sums of timers. */
#define SECONDS_MAX (10LL * 365 * 24 * 3600)
/* A cache that cannot hold one flight is of no use. */
#define CACHE_SIZE_MIN (16ULL << 20)

/* Part of the system's headers only since Linux 6.x. */
#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif

struct parser {
	struct fs_options *opt;
	bool sloppy;
	bool cache_size_given, dirty_limit_given;
	struct base_str kernel;
	char *why;
	size_t why_bytes;
};

static int bad(
	struct parser *p, const char *name, const char *value, const char *todo)
{
	snprintf(p->why, p->why_bytes,
		"option '%s=%s': %s; see mount.forebay(8)", name, value, todo);
	return -EINVAL;
}

/* ---- values ---- */

/* Digits with one of K, M, G, T behind, or with %. */
static int parse_size(struct parser *p, const char *name, const char *value,
	uint64_t *ret, bool *ret_percent)
{
	static const char units[] = "KMGT";
	const char *todo = ret_percent != NULL
		? "not a size; write bytes, or 100M, 20G, 2T, or 80%"
		: "not a size; write bytes, or 100M, 20G, 2T";
	unsigned long long n;
	const char *unit;
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return bad(p, name, value, todo);
	errno = 0;
	n = strtoull(value, &end, 10);
	if (errno != 0)
		return bad(p, name, value, todo);
	if (ret_percent != NULL && strcmp(end, "%") == 0) {
		if (n > 100)
			return bad(p, name, value,
				"more than all there is; write 0% to 100%");
		*ret_percent = true;
		*ret = n;
		return 0;
	}
	if (*end != '\0') {
		unit = strchr(units, *end & ~0x20);
		if (unit == NULL || *unit == '\0' || end[1] != '\0')
			return bad(p, name, value, todo);
		for (; unit >= units; unit--) {
			if (n > UINT64_MAX / 1024)
				return bad(p, name, value, todo);
			n *= 1024;
		}
	}
	if (n > INT64_MAX)
		return bad(p, name, value, todo);
	if (ret_percent != NULL)
		*ret_percent = false;
	*ret = n;
	return 0;
}

/* Seconds, a decimal fraction allowed. */
static int parse_seconds(
	struct parser *p, const char *name, const char *value, int64_t *ret)
{
	const char *todo = "not a number of seconds; write 60, or 0.5";
	int64_t ns = 0, unit = NS_PER_S;
	char *end;
	long long n;

	if (value[0] < '0' || value[0] > '9')
		return bad(p, name, value, todo);
	errno = 0;
	n = strtoll(value, &end, 10);
	if (errno != 0 || n > SECONDS_MAX)
		return bad(p, name, value, todo);
	if (*end == '.') {
		for (end++; *end >= '0' && *end <= '9'; end++) {
			unit /= 10;
			ns += (*end - '0') * unit;
		}
		if (end[-1] == '.')
			return bad(p, name, value, todo);
	}
	if (*end != '\0')
		return bad(p, name, value, todo);
	*ret = n * NS_PER_S + ns;
	return 0;
}

static int parse_number(struct parser *p, const char *name, const char *value,
	int base, unsigned long max, const char *todo, uint32_t *ret)
{
	unsigned long n;
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return bad(p, name, value, todo);
	errno = 0;
	n = strtoul(value, &end, base);
	if (errno != 0 || *end != '\0' || n > max)
		return bad(p, name, value, todo);
	*ret = (uint32_t)n;
	return 0;
}

static int parse_user(struct parser *p, const char *value, uint32_t *ret)
{
	struct passwd pwd, *found;
	char buf[4096];

	if (getpwnam_r(value, &pwd, buf, sizeof(buf), &found) == 0 &&
		found != NULL) {
		*ret = found->pw_uid;
		return 0;
	}
	/* The largest number means "nobody said". */
	return parse_number(p, "uid", value, 10, UINT32_MAX - 1,
		"no such user; give a name or a number", ret);
}

static int parse_group(struct parser *p, const char *value, uint32_t *ret)
{
	struct group group, *found;
	char buf[16384];

	if (getgrnam_r(value, &group, buf, sizeof(buf), &found) == 0 &&
		found != NULL) {
		*ret = found->gr_gid;
		return 0;
	}
	return parse_number(p, "gid", value, 10, UINT32_MAX - 1,
		"no such group; give a name or a number", ret);
}

/* One of two words. */
static int parse_word(struct parser *p, const char *name, const char *value,
	const char *yes, const char *no, const char *todo, bool *ret)
{
	if (strcmp(value, yes) != 0 && strcmp(value, no) != 0)
		return bad(p, name, value, todo);
	*ret = strcmp(value, yes) == 0;
	return 0;
}

/* DIR[:DIR...] */
static int parse_dirs(struct parser *p, const char *value)
{
	struct fs_options *opt = p->opt;
	const char *from = value;

	for (size_t i = 0; i < opt->cache_dirs_nr; i++)
		free(opt->cache_dirs[i]);
	opt->cache_dirs_nr = 0;
	for (;;) {
		size_t len = strcspn(from, ":");

		if (len == 0)
			return bad(p, "cache", value,
				"an empty name; write DIR, or DIR:DIR");
		opt->cache_dirs = base_realloc(opt->cache_dirs,
			(opt->cache_dirs_nr + 1) * sizeof(char *));
		opt->cache_dirs[opt->cache_dirs_nr] = base_malloc(len + 1);
		memcpy(opt->cache_dirs[opt->cache_dirs_nr], from, len);
		opt->cache_dirs[opt->cache_dirs_nr++][len] = '\0';
		if (from[len] == '\0')
			return 0;
		from += len + 1;
	}
}

/* ---- options with a value ---- */

static int parse_cache_value(
	struct parser *p, const char *name, const char *value)
{
	struct fs_options *o = p->opt;

	if (strcmp(name, "cache") == 0)
		return parse_dirs(p, value);
	if (strcmp(name, "cache_size") == 0) {
		int err = parse_size(
			p, name, value, &o->cache_size, &o->cache_size_percent);

		p->cache_size_given = true;
		if (err == 0 &&
			o->cache_size <
				(o->cache_size_percent ? 1 : CACHE_SIZE_MIN))
			return bad(p, name, value,
				"too small to work with; give 16M or more");
		return err;
	}
	if (strcmp(name, "reserve") == 0)
		return parse_size(
			p, name, value, &o->reserve, &o->reserve_percent);
	if (strcmp(name, "dirty_limit") == 0) {
		p->dirty_limit_given = true;
		return parse_size(p, name, value, &o->dirty_limit,
			&o->dirty_limit_percent);
	}
	if (strcmp(name, "fetch_whole") == 0)
		return parse_size(p, name, value, &o->fetch_whole_bytes, NULL);
	if (strcmp(name, "read_ahead") == 0)
		return parse_size(p, name, value, &o->read_ahead_bytes, NULL);
	return -ENOENT;
}

static int parse_time_value(
	struct parser *p, const char *name, const char *value)
{
	struct fs_options *o = p->opt;
	int err;

	if (strcmp(name, "freshness") == 0) {
		if (strcmp(value, "forever") == 0) {
			o->freshness_ns = TIER_FOREVER_NS;
			return 0;
		}
		return parse_seconds(p, name, value, &o->freshness_ns);
	}
	if (strcmp(name, "writeback_open") == 0)
		return parse_seconds(p, name, value, &o->writeback_open_ns);
	if (strcmp(name, "store_timeout") != 0)
		return -ENOENT;
	err = parse_seconds(p, name, value, &o->store_timeout_ns);
	/* The store's own limit is in milliseconds, in 32 bits. */
	if (err == 0 &&
		(o->store_timeout_ns < NS_PER_S ||
			o->store_timeout_ns > 86400 * NS_PER_S))
		return bad(p, name, value, "give 1 to 86400 seconds");
	return err;
}

static int parse_value(struct parser *p, const char *name, const char *value)
{
	static const char modes[] = "not a mode; write octal digits, as 0644";
	struct fs_options *o = p->opt;
	enum base_log_level level;
	int err;

	err = parse_cache_value(p, name, value);
	if (err == -ENOENT)
		err = parse_time_value(p, name, value);
	if (err != -ENOENT)
		return err;
	if (strcmp(name, "uid") == 0)
		return parse_user(p, value, &o->uid);
	if (strcmp(name, "gid") == 0)
		return parse_group(p, value, &o->gid);
	if (strcmp(name, "file_mode") == 0)
		return parse_number(
			p, name, value, 8, 07777, modes, &o->file_mode);
	if (strcmp(name, "dir_mode") == 0)
		return parse_number(
			p, name, value, 8, 07777, modes, &o->dir_mode);
	if (strcmp(name, "durability") == 0)
		return parse_word(p, name, value, "store", "local",
			"write local or store", &o->durability_store);
	if (strcmp(name, "passthrough") == 0)
		return parse_word(p, name, value, "auto", "off",
			"write auto or off", &o->passthrough);
	if (strcmp(name, "credentials") == 0) {
		if (*value == '\0')
			return bad(p, name, value, "name a file");
		free(o->credentials);
		o->credentials = base_strdup(value);
		return 0;
	}
	if (strcmp(name, "log") == 0) {
		if (base_log_parse(value, &level) < 0)
			return bad(p, name, value,
				"write error, warn, info or debug");
		o->log_level = (int)level;
		return 0;
	}
	return -ENOENT;
}

/* ---- generic options ---- */

static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{ "suid", 0, MS_NOSUID },
	{ "nosuid", MS_NOSUID, 0 },
	{ "dev", 0, MS_NODEV },
	{ "nodev", MS_NODEV, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noexec", MS_NOEXEC, 0 },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "atime", 0, MS_NOATIME },
	{ "noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME },
	{ "diratime", 0, MS_NODIRATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME },
	{ "nostrictatime", 0, MS_STRICTATIME },
	{ "lazytime", MS_LAZYTIME, 0 },
	{ "nolazytime", 0, MS_LAZYTIME },
	{ "silent", MS_SILENT, 0 },
	{ "loud", 0, MS_SILENT },
	/* What `user` means; mount(8) adds these flags itself. */
	{ "user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "users", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "owner", MS_NOSUID | MS_NODEV, 0 },
	{ "group", MS_NOSUID | MS_NODEV, 0 },
};

/* Of fstab and mount(8), without a meaning here. */
static const char *const ignored[] = { "defaults", "auto", "noauto", "nofail",
	"_netdev", "nouser", "nousers", "noowner", "nogroup", "mand", "nomand",
	"iversion", "noiversion", "default_permissions" };

static const char *const contexts[] = { "context", "fscontext", "defcontext",
	"rootcontext" };

static const char *const moves[] = { "bind", "rbind", "move", "shared",
	"rshared", "private", "rprivate", "slave", "rslave", "unbindable",
	"runbindable" };

static bool is_among(
	const char *const *words, size_t nr, const char *name, size_t len)
{
	for (size_t i = 0; i < nr; i++)
		if (strncmp(words[i], name, len) == 0 && words[i][len] == '\0')
			return true;
	return false;
}
#define AMONG(words, name, len) \
	is_among(words, sizeof(words) / sizeof(words[0]), name, len)

/* Options without a value. */
static int parse_flag(struct parser *p, const char *name)
{
	struct fs_options *o = p->opt;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(flags[i].name, name) != 0)
			continue;
		o->mount_flags &= ~flags[i].clear;
		o->mount_flags |= flags[i].set;
		return 0;
	}
	if (strcmp(name, "ro") == 0 || strcmp(name, "rw") == 0)
		o->ro = name[1] == 'o';
	else if (strcmp(name, "allow_other") == 0)
		o->allow_other = true;
	else if (strcmp(name, "noallow_other") == 0)
		o->allow_other = false;
	else if (strcmp(name, "nonempty") == 0)
		o->nonempty = true;
	else if (strcmp(name, "io_uring") == 0)
		o->io_uring = true;
	else if (!AMONG(ignored, name, strlen(name)))
		return -ENOENT;
	return 0;
}

/* `value`: where '=' was, or NULL. */
static int parse_option(struct parser *p, char *text)
{
	char *value = strchr(text, '=');
	size_t len = value ? (size_t)(value - text) : strlen(text);
	int err;

	if (len == 0) {
		if (value == NULL)
			return 0;
		snprintf(p->why, p->why_bytes,
			"option '%s': no name before '='; see mount.forebay(8)",
			text);
		return -EINVAL;
	}
	if (strncmp(text, "x-", 2) == 0 || strncmp(text, "X-", 2) == 0 ||
		strncmp(text, "comment=", 8) == 0 ||
		strncmp(text, "user=", 5) == 0)
		return 0;
	if (value == NULL && strcmp(text, "remount") == 0) {
		snprintf(p->why, p->why_bytes,
			"option 'remount': not possible with forebay; unmount "
			"and mount again");
		return -EINVAL;
	}
	if (value == NULL && AMONG(moves, text, len)) {
		snprintf(p->why, p->why_bytes,
			"option '%s': this is mount(8)'s own work; leave out "
			"-t forebay",
			text);
		return -EINVAL;
	}
	if (value != NULL && AMONG(contexts, text, len)) {
		if (p->kernel.len > 0)
			base_str_putc(&p->kernel, ',');
		base_str_puts(&p->kernel, text);
		return 0;
	}
	if (value != NULL)
		*value = '\0';
	err = value ? parse_value(p, text, value + 1) : parse_flag(p, text);
	if (err != -ENOENT)
		return err;
	if (p->sloppy)
		return 0;
	if (value == NULL && parse_value(p, text, "") != -ENOENT)
		snprintf(p->why, p->why_bytes,
			"option '%s': needs a value; see mount.forebay(8)",
			text);
	else if (value != NULL && parse_flag(p, text) == 0)
		snprintf(p->why, p->why_bytes,
			"option '%s': takes no value; see mount.forebay(8)",
			text);
	else
		snprintf(p->why, p->why_bytes,
			"unknown option '%s'; see mount.forebay(8)", text);
	return -EINVAL;
}

/* Commas inside double quotes and behind a backslash belong to the value. */
static int parse_all(struct parser *p, const char *text)
{
	struct base_str one = BASE_STR_INIT;
	bool quoted = false;
	int err = 0;

	for (const char *c = text; err == 0; c++) {
		if (*c == '\0' || (*c == ',' && !quoted)) {
			base_str_puts(&one, "");
			err = one.data ? parse_option(p, one.data) : 0;
			base_str_clear(&one);
			if (*c == '\0')
				break;
			continue;
		}
		if (*c == '"')
			quoted = !quoted;
		if (*c == '\\' && (c[1] == ',' || c[1] == '\\'))
			c++;
		base_str_putc(&one, *c);
	}
	base_str_fini(&one);
	return err;
}

/* ---- all of them ---- */

static void set_defaults(struct fs_options *o)
{
	memset(o, 0, sizeof(*o));
	o->cache_size = 80;
	o->cache_size_percent = true;
	o->reserve = 5;
	o->reserve_percent = true;
	o->freshness_ns = 60 * NS_PER_S;
	o->fetch_whole_bytes = 8ULL << 20;
	o->writeback_open_ns = 30 * NS_PER_S;
	o->store_timeout_ns = 60 * NS_PER_S;
	o->read_ahead_bytes = 64ULL << 20;
	o->uid = geteuid();
	o->gid = getegid();
	o->file_mode = 0644;
	o->dir_mode = 0755;
	o->allow_other = geteuid() == 0;
	o->passthrough = true;
	o->log_level = BASE_LOG_INFO;
	/* A blob's metadata can claim setuid root, or to be a disk. */
	o->mount_flags = MS_NOSUID | MS_NODEV;
}

int fs_options_parse(const struct fs_mount_args *args, struct fs_options *ret,
	char *why, size_t why_bytes)
{
	struct parser p = { .opt = ret,
		.sloppy = args->sloppy,
		.why = why,
		.why_bytes = why_bytes };
	int err = 0;

	set_defaults(ret);
	ret->store = base_strdup(args->store);
	ret->mountpoint = base_strdup(args->mountpoint);
	ret->foreground = args->foreground;
	if (args->options != NULL)
		err = parse_all(&p, args->options);
	/* Half of what the cache may hold, so that there is room to read. */
	if (!p.dirty_limit_given) {
		ret->dirty_limit = (ret->cache_size + 1) / 2;
		ret->dirty_limit_percent = ret->cache_size_percent;
	}
	if (ret->ro)
		ret->mount_flags |= MS_RDONLY;
	ret->kernel_opts = base_str_take(&p.kernel);
	if (err < 0)
		fs_options_fini(ret);
	return err;
}

void fs_options_fini(struct fs_options *opt)
{
	free(opt->store);
	free(opt->mountpoint);
	for (size_t i = 0; i < opt->cache_dirs_nr; i++)
		free(opt->cache_dirs[i]);
	free(opt->cache_dirs);
	free(opt->credentials);
	free(opt->kernel_opts);
	memset(opt, 0, sizeof(*opt));
}
