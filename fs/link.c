/*
 * The worker's side of the socket pair: see keeper.h.
 *
 * A packet is one letter and a text:
 *	to the keeper	w TEXT, f STATUS TEXT, r (ready), u (up), e (ending)
 *	from it		g MAJOR:MINOR, s (stop)
 */
#include "fs/keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/str.h"

static void send_text(struct fs_link *link, struct base_str *text)
{
	/* A keeper that is gone is noticed by fs_link_wait(). */
	if (send(link->sock, text->data, text->len, MSG_NOSIGNAL) < 0)
		log_debug("the keeper does not listen: %s",
			strerrordesc_np(errno));
	base_str_fini(text);
}

void fs_link_warn(struct fs_link *link, const char *text)
{
	struct base_str s = BASE_STR_INIT;

	base_str_printf(&s, "w%s", text);
	send_text(link, &s);
}

void fs_link_fail(struct fs_link *link, int exit_status, const char *text)
{
	struct base_str s = BASE_STR_INIT;

	base_str_printf(&s, "f%d%s", exit_status, text);
	send_text(link, &s);
}

static void send_word(struct fs_link *link, const char *word)
{
	struct base_str s = BASE_STR_INIT;

	base_str_puts(&s, word);
	send_text(link, &s);
}

void fs_link_ready(struct fs_link *link)
{
	send_word(link, "r");
}

void fs_link_up(struct fs_link *link)
{
	send_word(link, "u");
}

void fs_link_ending(struct fs_link *link)
{
	send_word(link, "e");
}

enum fs_link_event fs_link_wait(
	struct fs_link *link, int timeout_ms, char *device, size_t device_bytes)
{
	struct pollfd pfd = { .fd = link->sock, .events = POLLIN };
	char buf[64];
	ssize_t n;

	n = poll(&pfd, 1, timeout_ms);
	if (n == 0 || (n < 0 && errno == EINTR))
		return FS_LINK_NONE;
	n = n < 0 ? n : recv(link->sock, buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		return FS_LINK_STOP;
	buf[n] = '\0';
	if (buf[0] != 'g')
		return FS_LINK_STOP;
	snprintf(device, device_bytes, "%s", buf + 1);
	return FS_LINK_GO;
}
