/*
 * The place in the tree where a mount appears.
 *
 * What it is for.  Everything about mount(2) and umount(2).
 *
 * Threads: any.  Nothing here waits for a daemon, ours or another's, but the
 * check of a mount point that lies on a file system served by one.
 * Ownership: strings that come back are the caller's.
 * Errors: 0 or -errno, and where there is a `why` one line in it.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include "fs/mount.h"

/* Takes away what a dead daemon left there, then checks that it is a directory
 * and empty. */
int fs_mountpoint_check(
	const struct fs_options *opt, char *why, size_t why_bytes);
/* Opens /dev/fuse. */
int fs_mountpoint_device(char *why, size_t why_bytes);
/* mount(2) of that device; device: its "MAJOR:MINOR", allocated. */
int fs_mountpoint_mount(const struct fs_options *opt, int fuse_fd,
	char **ret_device, char *why, size_t why_bytes);
/* Takes the mount of that device away from the mount point, now if nobody uses
 * it and else when the last user is gone. */
void fs_mountpoint_detach(const char *mountpoint, const char *device);

#endif
