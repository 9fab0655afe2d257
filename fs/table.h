/*
 * The table of open handles, which outlives the worker.
 *
 * What it is for.  The kernel remembers handles and backing ids; a worker that
 * starts after another died must know them too.  So they stand in memory that
 * the keeper holds (a memfd, which nobody can shrink or grow) and the worker
 * maps.  The keeper never looks into it: nothing that is written there can
 * harm it.  Whoever maps it believes nothing that would leave its bounds.
 *
 * A slot is one open().  What is written when, so that a worker that dies
 * between any two stores leaves something that can be gone on from:
 *	T1  FS_SLOT_OPEN is set last, with a release store: a slot without it is
 *	    free, and the OPEN that it was meant for comes again.
 *	T2  An id is in the slots of its inode from before the reply to OPEN
 *	    until the kernel has closed it (FS_SLOT_CLOSING).
 *	T3  An id that the kernel gave and no slot has was given since the death
 *	    of a worker, or just before: it is within FS_TABLE_IDS_LOST of
 *	    last_id.
 * A process that is killed in the moment in which its OPEN comes again takes
 * the reply with it; its slot stays until the mount ends.
 *
 * Threads and locks.  Written under the mutex of struct fs_handles.
 *
 * Ownership.  The keeper's descriptor keeps it alive.
 *
 * Errors.  -errno; -EPROTO: made by another version.
 */
#ifndef FS_TABLE_H
#define FS_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* More open files than that at once are refused: 40 MiB, if all are used. */
#define FS_TABLE_SLOTS_MAX (1u << 20)
/* Ids that can be given and not yet written down: one a thread, and more than
 * there are threads. */
#define FS_TABLE_IDS_LOST 256
#define FS_TABLE_VERSION 1

#define FS_SLOT_OPEN 1u	   /* a handle of the kernel's */
#define FS_SLOT_WRITE 2u   /* may write */
#define FS_SLOT_DIRECT 4u  /* DIRECT_IO with PASSTHROUGH: writes come here */
#define FS_SLOT_CLOSING 8u /* not open; its id is being closed */

struct fs_table_slot {
	uint64_t ino;
	uint64_t request; /* the unique id of its OPEN or CREATE */
	uint32_t generation;
	_Atomic uint32_t flags;
	int32_t backing_id; /* 0: served */
	uint32_t reserved;
};

struct fs_table {
	uint64_t magic;
	uint32_t version, slot_bytes;
	_Atomic uint32_t slots_nr; /* used once, from the first */
	int32_t last_id;	   /* the backing id that was given last */
	uint64_t reserved[5];
	struct fs_table_slot slots[];
};

/* Makes one, empty: its descriptor. */
int fs_table_create(void);
/* Maps it; a new one gets its head. */
int fs_table_map(int fd, struct fs_table **ret_table);
void fs_table_unmap(struct fs_table *table);

#endif
