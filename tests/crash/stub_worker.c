/*
 * A worker that is none, for tests of the keeper: `forebay upgrade` is told to
 * take it, and it does what its own name says.
 *	stub-dies	ends as soon as it is to take over
 *	stub-floods	takes over, sends nonsense of all lengths, and ends
 * Any other name ends at once.
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/link.h"

static void flood(void)
{
	char junk[FS_LINK_PACKET_MAX * 2];

	for (unsigned i = 0; i < 100000; i++) {
		memset(junk, (int)(i * 2654435761u >> 24), sizeof(junk));
		/* But no word that is one: end, up. */
		if (junk[0] == 'e' || junk[0] == 'u')
			continue;
		send(FS_LINK_SOCK_FD, junk, i % sizeof(junk),
			MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

int main(void)
{
	char path[256] = "", packet[FS_LINK_PACKET_MAX];
	const char *name;

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		return 1;
	name = strrchr(path, '/') + 1;
	if (strcmp(name, "stub-floods") != 0 && strcmp(name, "stub-dies") != 0)
		return 0;
	send(FS_LINK_SOCK_FD, "y", 1, MSG_NOSIGNAL);
	while (recv(FS_LINK_SOCK_FD, packet, sizeof(packet), 0) > 0)
		if (packet[0] == 'o')
			break;
	if (strcmp(name, "stub-floods") == 0)
		flood();
	return 1;
}
