/*
 * What handle.c and written.c share: the table of open inodes.
 *
 * Threads and locks: everything in struct fs_handles that changes is under its
 * mutex, which is a leaf: nothing is called with it held.
 * Ownership: the table owns the files; see handle.h for references.
 * Errors: none of its own.
 */
#ifndef FS_HANDLE_PRIV_H
#define FS_HANDLE_PRIV_H

#include "base/lock.h"
#include "fs/handle.h"

#define FS_BUCKETS 4096 /* of the table of open inodes; a power of two */
/* Descriptors left for the index, the store, the sockets and the pipes. */
#define FS_FDS_KEPT 512
/* Bytes of waiting writes: above it a write fails at once. */
#define FS_WAITING_BYTES_MAX (256ull << 20)
/* Backing ids kept after the last release; a power of two.  Each keeps a file
 * open in the kernel, about 2 KiB with its inode. */
#define FS_WARM_SLOTS 8192
#define FS_KEEP_SLOTS 4096 /* remembered contents; a power of two */

/* Beside the slot of the same number in the table, of which the next worker
 * knows. */
struct fs_slot {
	struct fs_open open; /* file NULL: free */
	uint32_t next_free;
};

/* What the kernel's page cache of a served inode holds. */
struct fs_kept {
	uint64_t ino;
	struct cache_id content;
};

/* A backing id without an open, and the slot that says so (T2). */
struct fs_id {
	int id; /* 0: none */
	uint32_t slot;
};
#define FS_ID_NONE ((struct fs_id){ 0, 0 })

struct fs_warm {      /* warm.c */
	uint64_t ino; /* 0: free */
	struct fs_id id;
};

struct fs_handles {
	struct fs_mount *m;
	struct base_mutex mutex;
	/* under mutex */
	bool stamps_probed;
	bool fine_stamps; /* two changes never have the same ctime */
	struct fs_file *buckets[FS_BUCKETS];
	struct fs_table *table;
	struct fs_slot *slots;	       /* table->slots_nr of them are used */
	uint32_t slots_cap, free_slot; /* free_slot: UINT32_MAX none */
	unsigned fds, fds_max;
	struct fs_file *written;	   /* files with `written` */
	struct fs_file *ends, **ends_tail; /* whose writing ends */
	bool ends_posted;		   /* somebody takes them out */
	bool ticking;
	bool finished;
	bool no_pass;	       /* no backing id can be had */
	int64_t room_asked_ns; /* when may_write was found out */
	bool may_write;
	uint64_t waiting_bytes; /* of writes that wait for room */
	uint64_t writing_bytes; /* of writers, not yet in the journal */
	struct fs_kept kept[FS_KEEP_SLOTS];
	struct fs_warm warm[FS_WARM_SLOTS];
};

/* All with the mutex held. */
struct fs_file *fs_handles_find(struct fs_handles *h, uint64_t ino);
struct fs_file *fs_handles_add(struct fs_handles *h, uint64_t ino);
/* Room for this many slots. */
void fs_slots_grow(struct fs_handles *h, uint32_t nr);
void fs_slot_free(struct fs_handles *h, uint32_t nr);
/* A free slot; -ENFILE. */
int fs_slot_find(struct fs_handles *h, uint32_t *ret);
/* It becomes an open of f, whose reference it has; flags and backing_id are the
 * caller's. */
void fs_slot_begin(struct fs_handles *h, struct fs_file *f, uint32_t nr,
	bool write, uint64_t request, uint64_t *ret_fh);
static inline void fs_file_ref(struct fs_file *f)
{
	f->refs++;
}

/* ---- backing.c ---- */

/* The end of a descriptor of a data file, which was counted; -1 is fine. */
void fs_handles_close_fd(struct fs_handles *h, int fd);
/* Opens f->wfd. */
int fs_file_wfd(struct fs_handles *h, struct fs_file *f, uint64_t serial);
/* A lease of this type can be had: nobody else has the file open (F_WRLCK),
 * or open for writing (F_RDLCK), mapped included. */
bool fs_lease_probe(struct fs_handles *h, int fd, int type);
/* A write lease can be had on this data file, or it is not there. */
bool fs_unmapped(struct fs_handles *h, uint64_t ino, uint64_t serial);
/* Makes f->backing_id.  1, or 0 if the kernel does not want it. */
int fs_begin_pass(struct fs_handles *h, struct fs_file *f, uint64_t serial);
void fs_backing_close(struct fs_handles *h, int id);

/* ---- warm.c ---- */

/* With the mutex held.  Takes the id of an inode out; the caller uses or closes
 * it. */
struct fs_id fs_warm_take(struct fs_handles *h, uint64_t ino);
/* Puts one in; returns the one that it displaced, to be closed. */
struct fs_id fs_warm_put(struct fs_handles *h, uint64_t ino, struct fs_id id);
/* Without the mutex: closes one, if there is one, and frees its slot. */
void fs_id_close(struct fs_handles *h, struct fs_id id);
/* Without the mutex: closes all. */
void fs_warm_close(struct fs_handles *h);

/* ---- op_name.c ---- */

/* The row of an inode without a name goes, if nobody needs it. */
void fs_drop_held(struct fs_mount *m, uint64_t ino);

#endif
