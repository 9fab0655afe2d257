/* The worker's end of the link: see link.h. */
#include "fs/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/log.h"

/* A keeper that is gone is noticed by fs_link_wait(). */
static void say(struct fs_link *link, const char *word, const void *rest,
	size_t rest_bytes)
{
	struct iovec iov[] = {
		{ .iov_base = (void *)word, .iov_len = strlen(word) },
		{ .iov_base = (void *)rest, .iov_len = rest_bytes },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (sendmsg(link->sock, &msg, MSG_NOSIGNAL) < 0)
		log_debug("the keeper does not listen: %s",
			strerrordesc_np(errno));
}

static void say_text(struct fs_link *link, const char *word, const char *text)
{
	size_t room = FS_LINK_PACKET_MAX - strlen(word) - 1;

	say(link, word, text, strnlen(text, room));
}

void fs_link_warn(struct fs_link *link, const char *text)
{
	say_text(link, "w", text);
}

void fs_link_fail(struct fs_link *link, int exit_status, const char *text)
{
	char word[] = { 'f', (char)('0' + exit_status), '\0' };

	say_text(link, word, text);
}

void fs_link_ready(struct fs_link *link)
{
	say(link, "r", NULL, 0);
}

void fs_link_agreed(struct fs_link *link, const void *reply, size_t bytes)
{
	say(link, "a", reply, bytes);
}

void fs_link_up(struct fs_link *link)
{
	say(link, "u", NULL, 0);
}

void fs_link_fits(struct fs_link *link)
{
	say(link, "y", NULL, 0);
}

void fs_link_upgrade(struct fs_link *link, const char *binary)
{
	say_text(link, "x", binary);
}

void fs_link_ending(struct fs_link *link)
{
	say(link, "e", NULL, 0);
}

static enum fs_link_event decode(struct fs_link *link, char *word, size_t len)
{
	struct fs_link_mount *m = &link->mount;

	word[len] = '\0';
	switch (word[0]) {
	case 'g':
	case 'c':
		if (len != 1 + sizeof(*m))
			return FS_LINK_STOP;
		memcpy(m, word + 1, sizeof(*m));
		return word[0] == 'g' ? FS_LINK_GO : FS_LINK_CHECK;
	case 'o':
		return FS_LINK_OPEN;
	case 'h':
		return FS_LINK_HANDOVER;
	case 'n':
		snprintf(link->text, sizeof(link->text), "%s", word + 1);
		return FS_LINK_REFUSED;
	default:
		return FS_LINK_STOP;
	}
}

enum fs_link_event fs_link_wait(struct fs_link *link, int timeout_ms)
{
	struct pollfd pfd = { .fd = link->sock, .events = POLLIN };
	char buf[FS_LINK_PACKET_MAX + 1];
	ssize_t n = poll(&pfd, 1, timeout_ms);

	if (n == 0 || (n < 0 && errno == EINTR))
		return FS_LINK_NONE;
	n = n < 0 ? n : recv(link->sock, buf, FS_LINK_PACKET_MAX, 0);
	if (n <= 0)
		return FS_LINK_STOP;
	return decode(link, buf, (size_t)n);
}
