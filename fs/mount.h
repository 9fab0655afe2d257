/*
 * One mount: what the request handlers, the control socket and the worker share.
 * Private to fs/.
 *
 * Everything here is set by fs/worker.c before the first request and does not
 * change until the last one is answered; what changes lives behind the
 * pointers, each with its own lock.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/env.h"
#include "cache/cache.h"
#include "tier/tier.h"

struct fs_handles; /* fs/handle.h */
struct fs_link;	   /* fs/link.h */
struct fs_notify;  /* fs/notify.h */
struct fs_replied; /* fs/replied.h */
struct fs_signals; /* fs/signals.h */

/* The options of DESIGN section 13, parsed (fs/options.c).  Strings belong to
 * it. */
struct fs_options {
	char *store;	  /* canonical */
	char *mountpoint; /* absolute, resolved */
	char **cache_dirs;
	size_t cache_dirs_nr;
	char *credentials;
	uint64_t cache_size, reserve, dirty_limit;
	bool cache_size_percent, reserve_percent, dirty_limit_percent;
	int64_t freshness_ns;
	bool durability_store;
	uint64_t fetch_whole_bytes;
	int64_t writeback_open_ns;
	int64_t store_timeout_ns;
	uint64_t read_ahead_bytes;
	bool ro;
	uint32_t uid, gid, file_mode, dir_mode;
	bool allow_other;
	bool passthrough; /* auto */
	bool io_uring;
	int log_level;
	bool foreground;
	bool nonempty;
	char *kernel_opts;	   /* what mount(2) gets, comma separated */
	unsigned long mount_flags; /* MS_* */
};

struct fs_mount {
	struct fs_options opt;
	struct base_env *env;
	struct cache *cache;
	struct tier *tier;
	struct fs_link *link;
	struct fuse_session *se;
	struct fs_handles *handles;
	struct fs_notify *notify;
	struct fs_replied *replied;
	struct fs_signals *signals;
	/* Agreed with the kernel, and possible on the cache's file system. */
	bool passthrough;
	/* Requests under way (struct fs_call).  While they are waited for,
	 * drained_fd is an eventfd that hears of the last one's end. */
	_Atomic uint64_t calls;
	_Atomic int drained_fd;
	int64_t started_ns;
	uid_t owner; /* who mounted */
	gid_t owner_gid;
};

#endif
