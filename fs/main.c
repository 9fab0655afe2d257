/*
 * `forebay mount`, and the worker, which builds everything bottom-up and takes
 * it down top-down.  The one file that sees every folder.
 *
 * Up:	executor, store (it may refuse the credentials before anything is
 *	made), cache, the handles that the kernel already has, tier, first
 *	contact; then the keeper mounts; then session, control socket.
 * Down:	control, session, open files, tier, store, executor (which runs what
 *	was posted: the last replies), cache, and the rest, which has no threads.
 *
 * First contact.  A cache that was made just now, or never saw its store, needs
 * it before anything is mounted.  A later mount waits CONTACT_WAIT_MS for it,
 * then comes up on what is local; nothing is sent before the container is known
 * to be the right one.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "blob/store.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/keeper.h"
#include "fs/link.h"
#include "fs/mountpoint.h"
#include "fs/notify.h"
#include "fs/options.h"
#include "fs/recover.h"
#include "fs/replied.h"
#include "fs/session.h"
#include "fs/signals.h"
#include "fs/spawn.h"

/* Tasks wait for the local disk, and nothing else: more than the disk has
 * queues for gains nothing. */
#define POOL_THREADS 16
/* A mount whose store is away answers within this; one that was there already
 * waits for nothing. */
#define CONTACT_WAIT_MS 1500
/* Then it is asked again this often. */
#define CONTACT_AGAIN_NS (5 * 1000000000LL)
/* One that was away is asked this often which it is. */
#define SUSPECT_ASK_NS 2000000000LL
#define WHY_BYTES 1024
/* How long a worker that hands over answers what it has. */
#define DRAIN_MS 250

struct worker {
	const struct fs_options *opt;
	struct fs_link *link;
	struct fs_mount m;
	struct fs_table *table;
	struct blob_store *store;
	struct fs_session *session;
	struct fs_control *control;
	pid_t keeper_pid;
	bool again; /* another worker of this mount died before */
	bool fresh, started;
	bool unclean; /* after a power cut */
	/* First contact.  Written by the executor until it writes contact_fd,
	 * then by the main thread. */
	struct tier_call contact;
	char contact_why[512];
	int contact_err;
	int contact_fd;
	bool asking;
	struct base_mutex contact_mutex; /* held while it asks: */
	bool ending;
	/* Whether the store answers. */
	struct base_mutex mutex;
	enum blob_state state;
	char state_why[512];
	bool suspect; /* the container was not there */
	int gone_fd;  /* readable: it became suspect */
};

/* ---- upward calls ---- */

static bool claim(void *arg, uint64_t ino)
{
	struct worker *w = arg;

	return fs_handles_claim(w->m.handles, ino);
}

static void unclaim(void *arg, uint64_t ino)
{
	struct worker *w = arg;

	fs_handles_unclaim(w->m.handles, ino);
}

static void inode_changed(void *arg, uint64_t ino)
{
	struct worker *w = arg;

	fs_notify_inode_changed(w->m.notify, ino);
}

static void entry_changed(void *arg, uint64_t parent, const char *name)
{
	struct worker *w = arg;

	fs_notify_entry_changed(w->m.notify, parent, name);
}

static void note_state(struct worker *w, enum blob_state state, const char *why)
{
	base_lock(&w->mutex);
	w->state = state;
	snprintf(w->state_why, sizeof(w->state_why), "%s", why ? why : "");
	base_unlock(&w->mutex);
	tier_store_state(w->m.tier, state == BLOB_STATE_UP, why);
}

static void become_suspect(void *arg)
{
	struct worker *w = arg;
	uint64_t one = 1;

	base_lock(&w->mutex);
	w->suspect = true;
	base_unlock(&w->mutex);
	if (write(w->gone_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

/* The first request is tier's, so there is a tier. */
static void state_changed(void *arg, enum blob_state state, const char *why)
{
	struct worker *w = arg;
	bool suspect;

	if (state == BLOB_STATE_GONE) {
		tier_suspect(w->m.tier);
		become_suspect(w);
	}
	base_lock(&w->mutex);
	suspect = w->suspect;
	base_unlock(&w->mutex);
	/* What is there again may be another one: contact tells. */
	if (state != BLOB_STATE_UP || !suspect)
		note_state(w, state, why);
}

static const char *store_state(void *arg, char *why, size_t why_bytes)
{
	static const char *const words[] = { "online", "offline", "denied",
		"gone" };
	struct worker *w = arg;
	enum blob_state state;

	base_lock(&w->mutex);
	state = w->state;
	snprintf(why, why_bytes, "%s", w->state_why);
	base_unlock(&w->mutex);
	return words[state];
}

/* ---- first contact ---- */

static void contact_done(struct tier_call *call, int err)
{
	struct worker *w = (struct worker *)((char *)call -
		offsetof(struct worker, contact));
	uint64_t one = 1;

	w->contact_err = err;
	if (write(w->contact_fd, &one, sizeof(one)) < 0)
		abort();
}

static void ask_contact(void *arg)
{
	struct worker *w = arg;

	memset(&w->contact, 0, sizeof(w->contact));
	w->contact.done = contact_done;
	w->contact_why[0] = '\0';
	tier_probe(
		w->m.tier, &w->contact, w->contact_why, sizeof(w->contact_why));
}

/* Waits for the answer: 0 it is there, -ETIMEDOUT, -ECANCELED the keeper wants
 * an end. */
static int wait_contact(struct worker *w, int timeout_ms)
{
	struct pollfd pfds[] = {
		{ .fd = w->contact_fd, .events = POLLIN },
		{ .fd = w->link->sock, .events = POLLIN },
	};
	uint64_t count;
	int n;

	do
		n = poll(pfds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return -ETIMEDOUT;
	if (pfds[0].revents == 0)
		return -ECANCELED;
	if (read(w->contact_fd, &count, sizeof(count)) < 0)
		return -errno;
	w->asking = false;
	return 0;
}

/* Did this cache ever see its store? */
static int get_contacted(struct worker *w, bool *ret)
{
	struct cache_txn *txn;
	uint64_t value = 0;
	int err = cache_read(w->m.cache, &txn);

	if (err < 0)
		return err;
	err = cache_meta_get_u64(txn, "contacted", &value);
	cache_abort(txn);
	*ret = value != 0;
	return err == -ENOENT ? 0 : err;
}

static int set_contacted(struct worker *w)
{
	struct cache_txn *txn;
	int err = cache_write(w->m.cache, &txn);

	if (err < 0)
		return err;
	err = cache_meta_set_u64(txn, "contacted", 1);
	if (err < 0) {
		cache_abort(txn);
		return err;
	}
	return cache_commit(txn);
}

static void start_tier(struct worker *w)
{
	if (!w->started)
		tier_start(w->m.tier);
	w->started = true;
}

/* The answer is there.  0: the store answers; -EAGAIN: not now; else it is not
 * to be used. */
static int take_contact(struct worker *w)
{
	switch (w->contact_err) {
	case 0:
		base_lock(&w->mutex);
		w->suspect = false;
		base_unlock(&w->mutex);
		note_state(w, BLOB_STATE_UP, "");
		start_tier(w);
		return 0;
	case -EXDEV:
		if (!w->started)
			return -EXDEV;
		/* It was the right one until now: what is local goes on. */
		note_state(w, BLOB_STATE_GONE, w->contact_why);
		return -EAGAIN;
	default:
		note_state(w,
			w->contact_err == -EACCES	   ? BLOB_STATE_DENIED
				: w->contact_err == -ENXIO ? BLOB_STATE_GONE
							   : BLOB_STATE_DOWN,
			w->contact_why);
		return -EAGAIN;
	}
}

static void warn_offline(struct worker *w)
{
	struct base_str s = BASE_STR_INIT;

	base_str_printf(&s,
		"%s: %s; mounted on what is local, the rest follows when the "
		"store answers",
		w->opt->store, w->contact_why);
	fs_link_warn(w->link, s.data);
	base_str_fini(&s);
}

static int make_contact(struct worker *w, char *why, size_t why_bytes)
{
	bool contacted = false;
	int err = w->fresh ? 0 : get_contacted(w, &contacted);

	if (err < 0)
		return err;
	w->asking = true;
	ask_contact(w);
	err = wait_contact(w, w->again ? 0 : contacted ? CONTACT_WAIT_MS : -1);
	if (err == -ETIMEDOUT && w->again)
		return 0;
	if (err == -ETIMEDOUT) {
		note_state(w, BLOB_STATE_DOWN, "no answer yet");
		snprintf(why, why_bytes, "no answer yet");
		fs_link_warn(w->link,
			"the store does not answer; mounted on what is local, "
			"the rest follows when it does");
		return 0;
	}
	if (err < 0)
		return err;
	err = take_contact(w);
	if (err == 0)
		return contacted ? 0 : set_contacted(w);
	if (err == -EAGAIN && contacted) {
		warn_offline(w);
		w->asking = true;
		base_after(w->m.env, CONTACT_AGAIN_NS, ask_contact, w);
		return 0;
	}
	snprintf(why, why_bytes, "%s: %s", w->opt->store, w->contact_why);
	return w->contact_err;
}

/* The container was not there for a while: which one is it now? */
static void ask_which(struct worker *w)
{
	uint64_t count;

	if (read(w->gone_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
	if (w->asking)
		return;
	w->asking = true;
	base_after(w->m.env, SUSPECT_ASK_NS, ask_contact, w);
}

/* While it runs: true if the mount must end. */
static bool late_contact(struct worker *w)
{
	if (!w->asking || wait_contact(w, 0) < 0)
		return false;
	switch (take_contact(w)) {
	case 0:
		return false;
	case -EAGAIN:
		w->asking = true;
		base_after(w->m.env,
			w->started ? SUSPECT_ASK_NS : CONTACT_AGAIN_NS,
			ask_contact, w);
		return false;
	default:
		log_error("%s: %s: the mount ends", w->opt->store,
			w->contact_why);
		return true;
	}
}

/* ---- up ---- */

static int open_store(struct worker *w, char *why, size_t why_bytes)
{
	struct blob_config config = { .url = w->opt->store,
		.credentials_file = w->opt->credentials,
		.timeout_ms = (uint32_t)(w->opt->store_timeout_ns / 1000000),
		.state_changed = state_changed,
		.arg = w };
	int err = blob_store_open(&config, &w->store, why, why_bytes);

	/* From here on there are secrets in memory. */
	prctl(PR_SET_DUMPABLE, 0);
	return err;
}

static int open_cache(struct worker *w, char *why, size_t why_bytes)
{
	const struct fs_options *o = w->opt;
	struct cache_config config = {
		.dirs = (const char *const *)o->cache_dirs,
		.dirs_nr = o->cache_dirs_nr,
		.store = o->store,
		.env = w->m.env,
		.read_only = o->ro,
		.uid = o->uid,
		.gid = o->gid,
		.limit = o->cache_size,
		.limit_percent = o->cache_size_percent,
		.reserve = o->reserve,
		.reserve_percent = o->reserve_percent,
		.dirty_limit = o->dirty_limit,
		.dirty_limit_percent = o->dirty_limit_percent,
		.claim = claim,
		.unclaim = unclaim,
		.arg = w,
	};
	struct cache_opened opened;
	int err = cache_open(&config, &w->m.cache, &opened, why, why_bytes);

	if (err < 0)
		return err;
	w->fresh = opened.fresh;
	if (opened.salvaged[0] != '\0')
		fs_link_warn(w->link, opened.salvaged);
	w->unclean = opened.unclean;
	if (opened.unclean)
		log_warn("the host went down while %s was mounted: what was "
			 "not synced is looked at again",
			o->mountpoint);
	return 0;
}

/* For tests alone, which cannot wait ten minutes; 0: as it should be. */
static int64_t test_wait_ns(const char *name)
{
	const char *text = getenv(name);

	return text != NULL ? strtoll(text, NULL, 10) * 1000000 : 0;
}

static int open_tier(struct worker *w)
{
	const struct fs_options *o = w->opt;
	char host[256] = "host";
	struct tier_config config = {
		.cache = w->m.cache,
		.store = w->store,
		.env = w->m.env,
		.host_name = host,
		.freshness_ns = o->freshness_ns,
		.store_timeout_ns = o->store_timeout_ns,
		.writeback_open_ns = o->writeback_open_ns,
		.refuse_wait_ns = test_wait_ns("FOREBAY_TEST_REFUSE_WAIT_MS"),
		.sent_expiry_ns = test_wait_ns("FOREBAY_TEST_SENT_EXPIRY_MS"),
		.read_ahead_bytes = o->read_ahead_bytes,
		.fetch_whole_bytes = o->fetch_whole_bytes,
		.read_only = o->ro,
		.uid = o->uid,
		.gid = o->gid,
		.file_mode = o->file_mode,
		.dir_mode = o->dir_mode,
		.inode_changed = inode_changed,
		.entry_changed = entry_changed,
		.suspected = become_suspect,
		.claim = claim,
		.unclaim = unclaim,
		.arg = w,
	};

	gethostname(host, sizeof(host) - 1);
	host[strcspn(host, ".")] = '\0';
	return tier_open(&config, &w->m.tier);
}

/* Everything that can fail before something is mounted. */
static int open_stack(struct worker *w, char *why, size_t why_bytes)
{
	int err = fs_table_map(w->link->table_fd, &w->table);

	w->m.env = base_pool_new(POOL_THREADS);
	w->m.handles = fs_handles_new(&w->m, w->table);
	if (err == 0)
		err = open_store(w, why, why_bytes);
	if (err == 0)
		err = open_cache(w, why, why_bytes);
	if (err == 0)
		err = fs_replied_open(&w->m, !w->again, &w->m.replied);
	if (err == 0)
		err = fs_handles_attach(w->m.handles, w->again);
	if (err == 0)
		err = open_tier(w);
	if (err == 0 && w->unclean)
		err = tier_recover(w->m.tier);
	if (err == 0)
		cache_start(w->m.cache);
	if (err == 0) {
		w->m.notify = fs_notify_new(&w->m);
		w->m.signals = fs_signals_new(&w->m);
		err = make_contact(w, why, why_bytes);
	}
	/* What a worker that died left written-to; after a power cut its bytes
	 * prove nothing. */
	if (err == 0 && !w->unclean)
		fs_handles_recover(w->m.handles);
	if (err < 0 && why[0] == '\0')
		snprintf(why, why_bytes, "mount: %s; see the log",
			strerrordesc_np(-err));
	return err;
}

static int start_session(struct worker *w)
{
	uint8_t reply[FS_LINK_INIT_MAX];
	ssize_t n = fs_init_reply(&w->m, &w->link->mount, reply, sizeof(reply));
	int err;

	if (n < 0)
		return (int)n;
	fs_link_agreed(w->link, reply, (size_t)n);
	err = fs_session_new(&w->m, &w->session);
	return err == 0 ? fs_session_start(w->session) : err;
}

static int serve(struct worker *w, char *why, size_t why_bytes)
{
	struct fs_control_config control = { .m = &w->m,
		.device = w->link->mount.device,
		.keeper_pid = w->keeper_pid,
		.store_state = store_state,
		.arg = w };
	int err;

	fs_link_ready(w->link);
	if (fs_link_wait(w->link, -1) != FS_LINK_GO)
		return -ECANCELED;
	err = start_session(w);
	if (err < 0) {
		snprintf(why, why_bytes,
			"mount: no FUSE session: %s; see the "
			"log",
			strerrordesc_np(-err));
		return err;
	}
	if (w->again)
		fs_handles_probe(w->m.handles);
	return fs_control_start(&control, &w->control, why, why_bytes);
}

/* ---- another takes over ---- */

/* What was taken is answered, as far as it needs nothing from afar; the rest
 * comes again.  Nothing is closed: whoever comes next finds it as after a
 * crash, only that nobody waits for anything then. */
static _Noreturn void hand_over(struct worker *w)
{
	struct pollfd pfd = { .events = POLLIN };

	pfd.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&w->m.drained_fd, pfd.fd);
	fs_session_stop(w->session);
	if (atomic_load(&w->m.calls) > 0)
		poll(&pfd, 1, DRAIN_MS);
	log_info("handing %s over", w->opt->mountpoint);
	_exit(0);
}

/* Could this version serve that mount?  Opens nothing. */
static int stand_by(struct worker *w, char *why, size_t why_bytes)
{
	uint8_t reply[FS_LINK_INIT_MAX];
	struct fs_table *table;
	int err;

	if (fs_link_wait(w->link, -1) != FS_LINK_CHECK)
		return -ECANCELED;
	err = fs_table_map(w->link->table_fd, &table);
	if (err == 0) {
		fs_table_unmap(table);
		err = (int)fs_init_reply(
			&w->m, &w->link->mount, reply, sizeof(reply));
	}
	if (err < 0) {
		snprintf(why, why_bytes,
			"version " FOREBAY_VERSION " does not fit this mount; "
			"unmount it and mount it again");
		return -EPROTO;
	}
	fs_link_fits(w->link);
	return fs_link_wait(w->link, -1) == FS_LINK_OPEN ? 0 : -ECANCELED;
}

/* ---- running ---- */

/* True when this worker ends. */
static bool hear_keeper(struct worker *w)
{
	switch (fs_link_wait(w->link, 0)) {
	case FS_LINK_NONE:
		return false;
	case FS_LINK_REFUSED:
		fs_control_refused(w->control, w->link->text);
		return false;
	case FS_LINK_HANDOVER:
		hand_over(w);
	default:
		/* A keeper that was killed could not do it. */
		fs_mountpoint_detach(w->opt->mountpoint, w->link->mount.device);
		return true;
	}
}

static void run(struct worker *w)
{
	for (;;) {
		struct pollfd pfds[] = {
			{ .fd = w->link->sock, .events = POLLIN },
			{ .fd = fs_session_ended_fd(w->session),
				.events = POLLIN },
			{ .fd = w->contact_fd, .events = POLLIN },
			{ .fd = w->gone_fd, .events = POLLIN },
		};

		if (poll(pfds, 4, -1) < 0 && errno != EINTR)
			return;
		if (pfds[0].revents != 0 && hear_keeper(w))
			return;
		if (pfds[1].revents != 0) {
			fs_link_ending(w->link);
			return;
		}
		if (pfds[2].revents != 0 && late_contact(w)) {
			fs_link_ending(w->link);
			return;
		}
		if (pfds[3].revents != 0)
			ask_which(w);
	}
}

/* ---- down ---- */

static void say_owed(struct worker *w)
{
	struct tier_status status;

	if (tier_status(w->m.tier, &status) < 0 || status.pending == 0)
		return;
	log_info("%s: %llu changes (%llu bytes) are still owed to the store: "
		 "the next mount sends them",
		w->opt->mountpoint, (unsigned long long)status.pending,
		(unsigned long long)status.dirty_bytes);
}

/* Works for whatever part of the stack there is. */
static void close_stack(struct worker *w, bool discard)
{
	fs_control_stop(w->control);
	if (w->session != NULL)
		fs_session_stop(w->session);
	if (w->session != NULL)
		fs_handles_finish(w->m.handles);
	base_lock(&w->contact_mutex);
	w->ending = true;
	base_unlock(&w->contact_mutex);
	if (w->m.tier != NULL) {
		say_owed(w);
		tier_stop(w->m.tier);
	}
	blob_store_close(w->store);
	base_pool_stop(w->m.env);
	fs_notify_free(w->m.notify);
	fs_signals_free(w->m.signals);
	tier_close(w->m.tier);
	if (discard && w->m.cache != NULL)
		cache_discard(w->m.cache);
	else
		cache_close(w->m.cache);
	fs_handles_free(w->m.handles);
	fs_replied_free(w->m.replied);
	fs_session_free(w->session);
	fs_table_unmap(w->table);
	base_pool_free(w->m.env);
}

static int worker_main(
	const struct fs_options *opt, struct fs_link *link, const char *how)
{
	struct worker w = { .opt = opt,
		.link = link,
		.keeper_pid = getppid(),
		.again = strcmp(how, FS_WORKER_FIRST) != 0,
		.state = BLOB_STATE_UP,
		.m = { .opt = *opt,
			.link = link,
			.drained_fd = -1,
			.passthrough = opt->passthrough,
			.owner = geteuid(),
			.owner_gid = getegid() } };
	char why[WHY_BYTES] = "";
	bool discard;
	int err;

	w.contact_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w.gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	base_mutex_init(&w.mutex, BASE_RANK_STAT);
	base_mutex_init(&w.contact_mutex, BASE_RANK_FS_SESSION);
	err = strcmp(how, FS_WORKER_STANDBY) == 0
		? stand_by(&w, why, sizeof(why))
		: 0;
	if (err == 0)
		err = open_stack(&w, why, sizeof(why));
	discard = err < 0 && w.fresh;
	if (err == 0) {
		w.m.started_ns = base_boot_ns(w.m.env);
		err = serve(&w, why, sizeof(why));
	}
	if (err == 0) {
		fs_link_up(link);
		log_info("%s %s at %s",
			w.again ? "a new worker serves" : "mounted", opt->store,
			opt->mountpoint);
		run(&w);
	} else if (err != -ECANCELED) {
		fs_link_fail(link,
			err == -EINVAL ? FS_EXIT_USAGE : FS_EXIT_FAILED, why);
	}
	close_stack(&w, discard);
	if (err == 0)
		log_info("unmounted %s", opt->mountpoint);
	close(w.contact_fd);
	close(w.gone_fd);
	base_mutex_fini(&w.mutex);
	base_mutex_fini(&w.contact_mutex);
	return err == 0 || err == -ECANCELED ? 0 : FS_EXIT_FAILED;
}

/* ---- `forebay worker` ---- */

/* Its command line, which the keeper makes of that of `forebay mount`:
 *	worker VERSION HOW STORE MOUNTPOINT OPTIONS FLAGS CREDENTIALS CACHE...
 * after the program's name.  Paths are absolute, what is not given is "". */
enum {
	ARG_WORKER = 1,
	ARG_VERSION,
	ARG_HOW,
	ARG_STORE,
	ARG_MOUNTPOINT,
	ARG_OPTIONS,
	ARG_FLAGS,
	ARG_CREDENTIALS,
	ARG_CACHE,
};
_Static_assert(ARG_HOW == FS_WORKER_HOW, "as keeper.h says");

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

static char **worker_argv(
	const struct fs_mount_args *args, const struct fs_options *opt)
{
	char **argv =
		base_calloc(ARG_CACHE + opt->cache_dirs_nr + 1, sizeof(*argv));
	char flags[] = { args->foreground ? 'f' : '-', args->sloppy ? 's' : '-',
		'\0' };

	argv[0] = base_strdup("forebay");
	argv[ARG_WORKER] = base_strdup("worker");
	argv[ARG_VERSION] = base_strdup(NUMBER(FS_LINK_VERSION));
	argv[ARG_HOW] = base_calloc(1, FS_WORKER_HOW_BYTES);
	snprintf(argv[ARG_HOW], FS_WORKER_HOW_BYTES, FS_WORKER_FIRST);
	argv[ARG_STORE] = base_strdup(opt->store);
	argv[ARG_MOUNTPOINT] = base_strdup(opt->mountpoint);
	argv[ARG_OPTIONS] = base_strdup(args->options ? args->options : "");
	argv[ARG_FLAGS] = base_strdup(flags);
	argv[ARG_CREDENTIALS] =
		base_strdup(opt->credentials ? opt->credentials : "");
	for (size_t i = 0; i < opt->cache_dirs_nr; i++)
		argv[ARG_CACHE + i] = base_strdup(opt->cache_dirs[i]);
	return argv;
}

static void free_argv(char **argv)
{
	for (size_t i = 0; argv[i] != NULL; i++)
		free(argv[i]);
	free(argv);
}

static int read_argv(int argc, char **argv, struct fs_options *ret, char *why)
{
	struct fs_mount_args args = { .store = argv[ARG_STORE],
		.mountpoint = argv[ARG_MOUNTPOINT],
		.options = argv[ARG_OPTIONS],
		.foreground = strchr(argv[ARG_FLAGS], 'f') != NULL,
		.sloppy = strchr(argv[ARG_FLAGS], 's') != NULL };
	int err = fs_options_parse(&args, ret, why, WHY_BYTES);

	if (err < 0)
		return err;
	/* As they were found when it was mounted. */
	fs_options_set_paths(ret, argv[ARG_CREDENTIALS], argv + ARG_CACHE,
		(size_t)(argc - ARG_CACHE));
	return 0;
}

int fs_worker_run(int argc, char **argv)
{
	struct fs_link link = { .sock = FS_LINK_SOCK_FD,
		.fuse_fd = FS_LINK_FUSE_FD,
		.table_fd = FS_LINK_TABLE_FD };
	char why[WHY_BYTES] = "";
	struct fs_options opt;
	int status;

	if (argc <= ARG_CACHE) {
		fputs("forebay: worker: started by forebay mount alone\n",
			stderr);
		return FS_EXIT_USAGE;
	}
	if (strcmp(argv[ARG_VERSION], NUMBER(FS_LINK_VERSION)) != 0) {
		fs_link_fail(&link, FS_EXIT_FAILED,
			"this version of forebay cannot take over that mount: "
			"unmount and mount again");
		return FS_EXIT_FAILED;
	}
	if (read_argv(argc, argv, &opt, why) < 0) {
		fs_link_fail(&link, FS_EXIT_USAGE, why);
		return FS_EXIT_USAGE;
	}
	base_log_init(opt.foreground ? BASE_LOG_STDERR : BASE_LOG_SYSLOG,
		(enum base_log_level)opt.log_level);
	fs_worker_surroundings();
	status = worker_main(&opt, &link, argv[ARG_HOW]);
	fs_options_fini(&opt);
	return status;
}

/* ---- the command ---- */

static int fail(const char *why, int err)
{
	fprintf(stderr, "forebay: %s\n", why);
	return err == -EINVAL ? FS_EXIT_USAGE : FS_EXIT_FAILED;
}

/* Everything that can be said without opening anything. */
static int check(
	const struct fs_mount_args *args, struct fs_options *opt, char *why)
{
	char store[4096];
	int err = fs_options_parse(args, opt, why, WHY_BYTES);

	if (err < 0)
		return err;
	err = blob_store_canonical(
		opt->store, store, sizeof(store), why, WHY_BYTES);
	if (err == 0) {
		free(opt->store);
		opt->store = base_strdup(store);
		err = fs_options_resolve(opt, why, WHY_BYTES);
	}
	if (err == 0)
		err = fs_mountpoint_check(opt, why, WHY_BYTES);
	if (err == 0 && geteuid() != 0) {
		snprintf(why, WHY_BYTES,
			"mount: only root can mount; use sudo, or a line in "
			"/etc/fstab");
		err = -EPERM;
	}
	if (err < 0)
		fs_options_fini(opt);
	return err;
}

int fs_mount_run(const struct fs_mount_args *args)
{
	struct fs_options opt;
	char why[WHY_BYTES] = "";
	int status = FS_EXIT_DONE, err = check(args, &opt, why);
	char **argv;

	if (err < 0)
		return fail(why, err);
	if (!args->fake) {
		argv = worker_argv(args, &opt);
		status = fs_keeper_run(&opt, argv);
		free_argv(argv);
	}
	fs_options_fini(&opt);
	return status;
}
