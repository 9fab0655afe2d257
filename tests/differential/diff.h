/*
 * One random sequence of calls, made on two file systems.
 *
 * What it is for.  `differential` makes the same calls on a mount and on a
 * plain directory (ext4) and compares after each one what the call answered
 * and what the file then looks like.  Between calls it does to the mount what
 * must not be seen: kills of the worker, evictions, remounts, lost caches.
 *
 * A *call* is drawn from one number (struct dice) and the world's state, which
 * is equal on both sides as long as nothing differs; so a sequence is a list
 * of numbers, and leaving some out gives another sequence that can be run:
 * that is how a failing one is made short.
 *
 * Threads.  One makes all the calls; shake.c has one that kills, and one that
 * watches for a call without an end.
 */
#ifndef DIFF_H
#define DIFF_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define FDS 10	/* open descriptors, of each side */
#define MAPS 4	/* mappings */
#define WALKS 3 /* open directories */
/* Whatever a call moves fits. */
#define BYTES_MAX (1 << 20)
#define PATH_BYTES 1200
#define TEXT_BYTES 4096

enum { MOUNT, PLAIN, SIDES };

struct dice {
	uint64_t state;
};
uint64_t dice_next(struct dice *d);
/* In 0..n-1. */
unsigned dice_below(struct dice *d, unsigned n);
/* One in n. */
bool dice_one_in(struct dice *d, unsigned n);

struct map {
	char *at; /* NULL: none */
	size_t bytes;
};

struct side {
	const char *name, *top; /* where the sequences' directories are */
	int root;		/* the sequence's directory */
	int fd[FDS];		/* or -1 */
	struct map map[MAPS];
	DIR *walk[WALKS];
};

/* What a slot is, which is the same on both sides. */
struct slot {
	bool dir, direct;
	int flags;
};
struct map_slot {
	bool shared, writable;
	int fd; /* of the plain file, to ask for its size */
	off_t off;
};

struct world {
	struct side side[SIDES];
	struct slot slot[FDS];
	struct map_slot map[MAPS];
	char dir[32]; /* name of the sequence's directory, below both tops */
	const char *hook;
	unsigned shakes; /* percent of the usual number of events */
};

/* A call with its arguments; which of them count says struct kind. */
struct step {
	const struct kind *kind;
	char path[2][PATH_BYTES];
	int at[2];   /* slot of the directory that it is below, or -1 */
	int slot[2]; /* slots it is about, or -1 */
	int to;	     /* slot that it fills */
	unsigned flags, mode;
	int64_t off[2];
	size_t len;
	unsigned seed; /* of the bytes that are written */
	uid_t uid, gid;
	bool user; /* as somebody else than root */
	struct timespec time[2];
};

/* What a file looks like; mtime only where somebody set it (see face.c). */
struct face {
	bool known;
	unsigned mode, nlink, uid, gid, rdev;
	int64_t size, mtime_s, mtime_ns;
	uint64_t ino;
};

struct result {
	int64_t value; /* descriptors: 0 */
	int err;
	uint64_t hash; /* of the bytes read */
	struct face face;
	char note[200]; /* something else that must be equal */
};

/* Arguments that a call has, for the print-out. */
enum {
	HAS_PATH = 1,
	HAS_PATH2 = 2,
	HAS_SLOT = 4,
	HAS_SLOT2 = 8,
	HAS_TO = 16,
	HAS_FLAGS = 32,
	HAS_MODE = 64,
	HAS_OFF = 128,
	HAS_LEN = 256,
	HAS_OFF2 = 512,
	HAS_OWNER = 1024,
	HAS_TIMES = 2048,
	/* Not a call but something done to the mount. */
	IS_EVENT = 4096,
	/* The face of path[0] (not followed) is compared afterwards. */
	SHOWS_PATH = 8192,
	/* The same of path[1], and of slot[0]. */
	SHOWS_PATH2 = 16384,
	SHOWS_SLOT = 32768,
};

struct kind {
	const char *name;
	unsigned weight, has;
	void (*choose)(struct world *w, struct dice *d, struct step *s);
	/* value, err, hash and note; an event's is called once, for MOUNT. */
	void (*perform)(struct world *w, struct side *side,
		const struct step *s, struct result *r);
};

extern const struct kind names_kinds[], files_kinds[], maps_kinds[],
	walks_kinds[], shake_kinds[];

/* choose.c */
const char *choose_name(struct dice *d);
void choose_path(struct world *w, struct dice *d, struct step *s, int nr);
/* A slot in use; -1 if there is none. */
int choose_slot(struct world *w, struct dice *d);
void choose_range(struct world *w, struct dice *d, struct step *s);
void choose_times(struct dice *d, struct step *s);
/* Makes room for a new descriptor: what stands in the slot is closed. */
void choose_to(struct world *w, struct dice *d, struct step *s);

/* call.c */
/* The call that this number means, in this state. */
void call_choose(struct world *w, uint64_t number, struct step *ret);
/* On both sides; false: they differ, and `why` (TEXT_BYTES) says how. */
bool call_make(struct world *w, const struct step *s, char *why);
void call_print(const struct step *s, char *buf, size_t size);
/* The descriptor of a slot, a path's directory. */
int call_fd(const struct side *side, int slot);
int call_at(const struct side *side, const struct step *s, int nr);
void call_set(struct result *r, int64_t value);

/* face.c */
void face_get(int at, const char *path, int flags, struct face *ret);
/* Names what differs, or NULL. */
const char *face_differs(const struct face *mount, const struct face *plain);
void face_print(const struct face *face, char *buf, size_t size);
/* A mapping writes: nobody can say what mtime is (face.c). */
void face_taint(uint64_t plain_ino);
void face_untaint(uint64_t plain_ino);
void face_forget(void);
uint64_t hash_bytes(uint64_t hash, const void *data, size_t len);
#define HASH_START 14695981039346656037ULL

/* expect.c: where the mount answers otherwise, with the reason. */
/* It refuses what it documents that it refuses: the other side is not asked. */
bool expect_refused(const struct step *s, const struct result *mount);
/* Values that may differ. */
bool expect_value(struct world *w, const struct step *s,
	const struct result *mount, const struct result *plain);

/* tree.c */
/* All below `fd`, one line a name, to be freed; `exact`: with times. */
char *tree_text(int fd, bool exact);
/* The first line that differs; false if none does. */
bool tree_differs(const char *a, const char *b, char *why, size_t size);
/* Nobody can say what the directories' mtime is. */
void tree_taint_dirs(int plain);
bool tree_compare(struct world *w, char *why);

/* world.c */
/* Makes the sequence's directory on both sides. */
void world_begin(struct world *w, const char *dir);
void world_close_slot(struct world *w, int slot);
void world_close_map(struct world *w, int slot);
void world_close_all(struct world *w);
/* After a remount. */
void world_open_root(struct world *w, int side);
/* Removes both directories. */
void world_end(struct world *w);

/* maps.c */
void maps_init(void);

/* shake.c */
void shake_begin(struct world *w);
void shake_end(void);
/* A call begins: the watcher knows how long it takes. */
void shake_calls(const char *text);
uint64_t shake_nr(void); /* events so far */
void die(const char *what) __attribute__((noreturn));

#endif
