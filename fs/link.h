/*
 * What keeper and worker say to each other.
 *
 * What it is for.  A worker is started by exec, of this binary or (upgrade) of
 * another version, with three descriptors at fixed numbers.  On the first of
 * them both speak in packets: one letter and what belongs to it.  Keeper and
 * worker of different versions meet here: whoever changes anything counts
 * FS_LINK_VERSION up, which the worker is told on its command line.
 *
 *	to the keeper			from the keeper
 *	w TEXT	 a warning		g STRUCT   it is mounted: serve
 *	f S TEXT it cannot, and why	c STRUCT   could you serve this?
 *	r	 ready to be mounted	o	   open cache and store now
 *	a BYTES	 its reply to INIT	h	   stop serving: another takes
 *	u	 requests are answered		   over
 *	y	 it could serve that	n TEXT	   there will be no upgrade
 *	x PATH	 hand over to PATH	s	   end
 *	e	 it ends by itself
 *
 *	first start	r -> g, a, u
 *	restart		r -> g, u
 *	upgrade, new	c -> y, o -> r -> g, u
 *	upgrade, old	x -> h, or n
 *
 * Threads and locks.  Sending is one system call: any thread.  Receiving is
 * the main thread's.
 *
 * Ownership.  Strings that come back belong to the link until the next call.
 *
 * Errors.  A keeper that is gone is FS_LINK_STOP.
 */
#ifndef FS_LINK_H
#define FS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FS_LINK_VERSION 1
/* Descriptors of a worker. */
#define FS_LINK_SOCK_FD 3
#define FS_LINK_FUSE_FD 4
#define FS_LINK_TABLE_FD 5 /* fs/table.h */

/* More is cut; a reason is one line. */
#define FS_LINK_PACKET_MAX 4096
/* INIT and its reply are 104 and 80 bytes, and grow slowly. */
#define FS_LINK_INIT_MAX 512
#define FS_LINK_DEVICE_MAX 32

/* What a worker must know of the mount. */
struct fs_link_mount {
	uint32_t restarts, upgrades;	  /* both 0: the first worker */
	uint32_t init_bytes, reply_bytes; /* 0: not given yet */
	char device[FS_LINK_DEVICE_MAX];  /* "MAJOR:MINOR" */
	_Alignas(8) uint8_t init[FS_LINK_INIT_MAX];  /* the kernel's message */
	_Alignas(8) uint8_t reply[FS_LINK_INIT_MAX]; /* ours */
};

/* The worker's end. */
struct fs_link {
	int sock, fuse_fd, table_fd;
	struct fs_link_mount mount; /* since FS_LINK_GO or FS_LINK_CHECK */
	char text[FS_LINK_PACKET_MAX];
};

enum fs_link_event {
	FS_LINK_NONE,  /* nothing within the time */
	FS_LINK_GO,    /* it is mounted */
	FS_LINK_CHECK, /* for fs_link_fits() */
	FS_LINK_OPEN,
	FS_LINK_HANDOVER,
	FS_LINK_REFUSED, /* why: link->text */
	FS_LINK_STOP,	 /* end, or the keeper is gone */
};

/* Shown to whoever called `forebay mount`, once. */
void fs_link_warn(struct fs_link *link, const char *text);
/* Why it cannot serve; then the worker ends. */
void fs_link_fail(struct fs_link *link, int exit_status, const char *text);
/* Everything is open: mount now. */
void fs_link_ready(struct fs_link *link);
/* What INIT is answered with, kept for those that come after. */
void fs_link_agreed(struct fs_link *link, const void *reply, size_t bytes);
/* Requests are answered. */
void fs_link_up(struct fs_link *link);
/* It would answer INIT as it was answered. */
void fs_link_fits(struct fs_link *link);
/* Hand over to a worker of this binary. */
void fs_link_upgrade(struct fs_link *link, const char *binary);
/* It ends by itself (umount): the keeper's patience begins. */
void fs_link_ending(struct fs_link *link);
/* The next word of the keeper; -1 ms: however long it takes. */
enum fs_link_event fs_link_wait(struct fs_link *link, int timeout_ms);

#endif
