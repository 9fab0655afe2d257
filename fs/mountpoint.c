/* The mount point: see mountpoint.h. */
#include "fs/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fs.h"

/* More dead mounts than that on one place are not of our making. */
#define DEAD_MAX 16

static int say(char *why, size_t why_bytes, int err, const char *mountpoint,
	const char *text)
{
	snprintf(why, why_bytes, "mount point %s: %s", mountpoint, text);
	return err;
}

/* Is it a directory, and empty? */
static int look(const struct fs_options *opt)
{
	DIR *dir = opendir(opt->mountpoint);
	struct dirent *entry;
	int err = 0;

	if (dir == NULL)
		return -errno;
	errno = 0;
	while (err == 0 && !opt->nonempty && (entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 &&
			strcmp(entry->d_name, "..") != 0)
			err = -ENOTEMPTY;
	if (err == 0)
		err = -errno;
	closedir(dir);
	return err;
}

/* A daemon that died leaves a mount that answers ENOTCONN (stat may still be
 * answered from the kernel's memory). */
static int detach_dead(const char *mountpoint)
{
	struct fs_mountinfo info = { 0 };
	bool fuse;

	if (fs_mountinfo_find(mountpoint, false, &info) < 0)
		return -ENOTCONN;
	fuse = strncmp(info.type, "fuse", 4) == 0;
	fs_mountinfo_fini(&info);
	if (!fuse || umount2(mountpoint, MNT_DETACH) < 0)
		return -ENOTCONN;
	log_info("detached a dead mount at %s", mountpoint);
	return 0;
}

/* One on top of the other is most often the same line said twice. */
static int check_free(const struct fs_options *opt)
{
	struct fs_mountinfo info = { 0 };
	bool ours;

	if (opt->nonempty ||
		fs_mountinfo_find(opt->mountpoint, false, &info) < 0)
		return 0;
	ours = strcmp(info.type, FS_TYPE) == 0;
	fs_mountinfo_fini(&info);
	return ours ? -EBUSY : 0;
}

int fs_mountpoint_check(
	const struct fs_options *opt, char *why, size_t why_bytes)
{
	const char *mp = opt->mountpoint;
	int err = look(opt);

	for (int i = 0; i < DEAD_MAX; i++) {
		if (err != -ENOTCONN && err != -ECONNABORTED)
			break;
		err = detach_dead(mp);
		if (err < 0)
			break;
		err = look(opt);
	}
	if (err == 0 || err == -ENOTEMPTY)
		err = check_free(opt) < 0 ? -EBUSY : err;
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return say(why, why_bytes, err, mp,
			"does not exist; create the directory");
	case -ENOTDIR:
		return say(
			why, why_bytes, err, mp, "not a directory; name one");
	case -ENOTEMPTY:
		return say(why, why_bytes, err, mp,
			"not empty; empty it, choose another, or hide what is "
			"there with -o nonempty");
	case -EBUSY:
		return say(why, why_bytes, err, mp,
			"forebay is mounted there already; unmount it first, "
			"or choose another");
	case -ENOTCONN:
		return say(why, why_bytes, err, mp,
			"a dead mount that cannot be detached; umount -l it");
	default:
		snprintf(why, why_bytes,
			"mount point %s: %s; choose another directory", mp,
			strerrordesc_np(-err));
		return err;
	}
}

int fs_mountpoint_device(char *why, size_t why_bytes)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	fd = -errno;
	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
		snprintf(why, why_bytes,
			"/dev/fuse: %s; load the kernel module (modprobe "
			"fuse), or give the device to the container",
			strerrordesc_np(-fd));
	else
		snprintf(why, why_bytes, "/dev/fuse: %s; run as root",
			strerrordesc_np(-fd));
	return fd;
}

int fs_mountpoint_mount(const struct fs_options *opt, int fuse_fd,
	char **ret_device, char *why, size_t why_bytes)
{
	struct base_str data = BASE_STR_INIT;
	struct fs_mountinfo info;
	int err = 0;

	base_str_printf(&data,
		"fd=%d,rootmode=40000,user_id=%u,group_id=%u,"
		"default_permissions%s",
		fuse_fd, (unsigned)geteuid(), (unsigned)getegid(),
		opt->allow_other ? ",allow_other" : "");
	if (opt->kernel_opts[0] != '\0')
		base_str_printf(&data, ",%s", opt->kernel_opts);
	if (mount(opt->store, opt->mountpoint, FS_TYPE, opt->mount_flags,
		    data.data) < 0) {
		err = -errno;
		snprintf(why, why_bytes, "mount(2) at %s: %s; %s",
			opt->mountpoint, strerrordesc_np(-err),
			err == -EPERM ? "run as root, in a container with "
					"CAP_SYS_ADMIN"
				      : "see dmesg");
	}
	base_str_fini(&data);
	if (err < 0)
		return err;
	err = fs_mountinfo_find(opt->mountpoint, false, &info);
	if (err < 0) {
		umount2(opt->mountpoint, MNT_DETACH);
		return say(why, why_bytes, err, opt->mountpoint,
			"not in /proc/self/mountinfo after mounting; is /proc "
			"mounted?");
	}
	*ret_device = base_strdup(info.device);
	fs_mountinfo_fini(&info);
	return 0;
}

void fs_mountpoint_detach(const char *mountpoint, const char *device)
{
	struct fs_mountinfo info;
	bool ours;

	if (fs_mountinfo_find(mountpoint, false, &info) < 0)
		return;
	ours = strcmp(info.device, device) == 0;
	fs_mountinfo_fini(&info);
	if (ours && umount2(mountpoint, MNT_DETACH) < 0 && errno != EINVAL)
		log_warn("cannot detach %s: %s", mountpoint,
			strerrordesc_np(errno));
}
