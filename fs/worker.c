/*
 * The worker: builds everything bottom-up and takes it down top-down.
 *
 * Up:	executor, store (it may refuse the credentials before anything is
 *	made), cache, the handles that the kernel already has, tier, first
 *	contact; then the keeper mounts; then session, control socket.
 * Down:	control, session, open files, tier, store, executor (which runs what
 *	was posted: the last replies), cache, and the rest, which has no threads.
 */
#include "fs/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "blob/store.h"
#include "fs/contact.h"
#include "fs/control.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/keeper.h"
#include "fs/mountpoint.h"
#include "fs/notify.h"
#include "fs/recover.h"
#include "fs/replied.h"
#include "fs/session.h"
#include "fs/signals.h"

/* Tasks wait for the local disk, and nothing else: more than the disk has
 * queues for gains nothing. */
#define POOL_THREADS 16
/* How long a worker that hands over answers what it has. */
#define DRAIN_MS 250
#define WHY_BYTES 1024 /* one line for the user */

struct worker {
	const struct fs_options *opt;
	struct fs_link *link;
	struct fs_mount m;
	struct fs_table *table;
	struct blob_store *store;
	struct fs_contact *contact;
	struct fs_session *session;
	struct fs_control *control;
	pid_t keeper_pid;
	bool again;   /* another worker of this mount died before */
	bool fresh;   /* the cache was made just now */
	bool unclean; /* after a power cut */
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

static void suspected(void *arg)
{
	struct worker *w = arg;

	fs_contact_suspect(w->contact);
}

static void entry_changed(void *arg, uint64_t parent, const char *name)
{
	struct worker *w = arg;

	fs_notify_entry_changed(w->m.notify, parent, name);
}

/* ---- up ---- */

static int open_store(struct worker *w, char *why, size_t why_bytes)
{
	struct blob_config config = { .url = w->opt->store,
		.credentials_file = w->opt->credentials,
		.timeout_ms = (uint32_t)(w->opt->store_timeout_ns / 1000000),
		.state_changed = fs_contact_state_changed,
		.arg = w->contact };
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
		.suspected = suspected,
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
		err = fs_contact_make(
			w->contact, w->fresh, w->again, why, why_bytes);
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
		.store_state = fs_contact_state,
		.arg = w->contact };
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
	int contact[FS_CONTACT_FDS];

	fs_contact_fds(w->contact, contact);
	for (;;) {
		struct pollfd pfds[] = {
			{ .fd = w->link->sock, .events = POLLIN },
			{ .fd = fs_session_ended_fd(w->session),
				.events = POLLIN },
			{ .fd = contact[0], .events = POLLIN },
			{ .fd = contact[1], .events = POLLIN },
		};

		if (poll(pfds, 4, -1) < 0 && errno != EINTR)
			return;
		if (pfds[0].revents != 0 && hear_keeper(w))
			return;
		if (pfds[1].revents != 0) {
			fs_link_ending(w->link);
			return;
		}
		if ((pfds[2].revents != 0 || pfds[3].revents != 0) &&
			fs_contact_hear(w->contact)) {
			fs_link_ending(w->link);
			return;
		}
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

int fs_worker_main(
	const struct fs_options *opt, struct fs_link *link, const char *how)
{
	struct worker w = { .opt = opt,
		.link = link,
		.keeper_pid = getppid(),
		.again = strcmp(how, FS_WORKER_FIRST) != 0,
		.m = { .opt = *opt,
			.link = link,
			.drained_fd = -1,
			.passthrough = opt->passthrough,
			.owner = geteuid(),
			.owner_gid = getegid() } };
	char why[WHY_BYTES] = "";
	bool discard;
	int err;

	w.contact = fs_contact_new(&w.m);
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
	fs_contact_free(w.contact);
	return err == 0 || err == -ECANCELED ? 0 : FS_EXIT_FAILED;
}
