/*
 * The keeper's state, for keeper.c and keeper_upgrade.c.
 *
 * Threads: one.  Ownership: descriptors are the keeper's.  Errors: told to the
 * parent or the log.
 */
#ifndef FS_KEEPER_PRIV_H
#define FS_KEEPER_PRIV_H

#include "fs/keeper.h"
#include "fs/link.h"
#include "fs/spawn.h"

/* What read(2) of /dev/fuse wants at least, and some more. */
#define FS_KEEPER_READ_BYTES 16384

enum keeper_state { STARTING, MOUNTED, UP, HANDING, ENDING };

struct keeper {
	const struct fs_options *opt;
	char **argv; /* of a worker */
	enum keeper_state state;
	struct fs_proc worker, next;
	int exe;      /* that workers run */
	int next_exe; /* of an upgrade, until it answers; or -1 */
	int sigfd, fuse_fd, table_fd;
	int report_fd; /* to the parent; -1: none, or told already */
	struct fs_link_mount mount;
	bool can_resend;
	unsigned deaths;     /* in a row, each too soon */
	int64_t up_ms;	     /* since when the worker answers */
	int64_t deadline_ms; /* in ENDING and HANDING */
	bool was_up, asked, failed, killed;
	bool refused; /* the upgrade that is under way */
	int exit_status;
	char packet[FS_LINK_PACKET_MAX + 1];
	_Alignas(8) char init[FS_KEEPER_READ_BYTES];
};

/* ---- keeper.c ---- */

int64_t fs_keeper_now_ms(void);
/* To a worker, if there is one; what it does not read is lost. */
void fs_keeper_tell(
	const struct fs_proc *proc, const void *packet, size_t bytes);
void fs_keeper_tell_word(const struct fs_proc *proc, char word);
/* `word` and what it must know of the mount. */
void fs_keeper_tell_mount(
	struct keeper *k, const struct fs_proc *proc, char word);

/* ---- keeper_upgrade.c ---- */

/* A worker of that binary that opens nothing yet, and says whether it could
 * serve this mount. */
void fs_keeper_upgrade(struct keeper *k, const char *binary);
/* Its word. */
void fs_keeper_hear_next(struct keeper *k, char *text, size_t bytes);
/* There will be no upgrade: the worker is told why. */
void fs_keeper_refuse(struct keeper *k, const char *text);
/* The one before is gone: the next begins (K1). */
void fs_keeper_promote(struct keeper *k);
/* The worker is gone.  If it was a new one that never answered, the binary
 * before runs again. */
void fs_keeper_take_back(struct keeper *k);
/* The other binary, old or new, is not needed any more. */
void fs_keeper_drop_next(struct keeper *k);

#endif
