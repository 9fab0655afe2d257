/*
 * Siblings: small files that are fetched before anybody opens them.
 *
 * A reader of many small files would pay one round trip for each.  So when a
 * few files of a directory had to be waited for, the others are fetched ahead
 * of it, in the order of their cookies, which for files of the store is the
 * order of its listing.
 *
 * What a directory's reader does is known from its opens: those that found
 * nothing (missed) and those that found what came ahead (used).  If most opens
 * come near the one before, it reads in order, and a window of files in front
 * of it is kept; else it jumps about, and the directory is covered from its
 * beginning.  Either way:
 *   A1  what is fetched and not yet used is at most TIER_AHEAD_PER_OPEN files
 *       for each open, at most an eighth of the cache, and in order at most a
 *       window;
 *   A2  it ends where it does not help: files that a reader in order has left
 *       behind, or opens in no order that seldom find something;
 *   A3  it never evicts anything, and yields to whoever waits: its flights are
 *       background ones, and one that somebody comes to wait for is so no more.
 *
 * A directory is forgotten when nobody has opened a file in it for a while, or
 * for another directory; so nothing is off for ever.
 *
 * Threads: any; one mutex.  Directories are filled by a task, one at a time
 * each (`filling`).
 */
#include "tier/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <uthash.h>

/* Rows looked at in one transaction. */
#define LOOK_ROWS 512
/* Files begun in one fill: more are under way only until the next. */
#define CHOSEN_MAX (2 * TIER_AHEAD_PARALLEL)
/* The measure of order: 0 none .. ORDER_MAX sure.  Each near open raises it;
 * one that is not costs several, as in a small directory many are near by
 * chance. */
#define ORDER_MAX 16
#define ORDER_YES 8
#define ORDER_JUMP 4

struct ahead_dir;

/* A file fetched ahead, until it is used, left behind, or forgotten. */
struct ahead_file {
	struct tier_call call; /* the first member */
	UT_hash_handle hh;     /* by ino, while `dir` */
	TAILQ_ENTRY(ahead_file) link;
	struct tier_ahead *ahead;
	struct ahead_dir *dir; /* NULL: forgotten while under way */
	uint64_t ino, cookie, size_bytes;
	bool under_way;
};
TAILQ_HEAD(ahead_files, ahead_file);

struct ahead_dir {
	UT_hash_handle hh; /* by ino */
	TAILQ_ENTRY(ahead_dir) link;
	uint64_t ino, id;
	int64_t opened_ns;
	struct ahead_files files; /* in the order fetched */
	uint64_t files_nr, files_bytes;
	unsigned misses; /* in a row, since it was last of use */
	uint64_t opens, used, left;
	unsigned order;
	uint64_t front;	     /* cookie of the last open */
	uint64_t from, next; /* cookies: where it began, where it goes on */
	bool begun, ended, off, filling;
};
TAILQ_HEAD(ahead_dirs, ahead_dir);

struct tier_ahead {
	struct tier *tier;
	struct base_mutex mutex;
	struct ahead_dir *dirs;
	struct ahead_dirs by_age; /* the last opened last */
	struct ahead_file *files;
	unsigned under_way;
	uint64_t next_id;
	bool stopped;
	_Atomic uint64_t files_nr; /* in `files`: looked at without the mutex */
	_Atomic uint64_t fetched, used, waits;
};

/* ---- directories; with the mutex ---- */

static void forget_file(
	struct tier_ahead *a, struct ahead_dir *dir, struct ahead_file *file)
{
	HASH_DEL(a->files, file);
	TAILQ_REMOVE(&dir->files, file, link);
	dir->files_nr--;
	dir->files_bytes -= file->size_bytes;
	atomic_fetch_sub(&a->files_nr, 1);
	file->dir = NULL;
	if (!file->under_way)
		free(file);
}

static void forget_dir(struct tier_ahead *a, struct ahead_dir *dir)
{
	struct ahead_file *file;

	while ((file = TAILQ_FIRST(&dir->files)) != NULL)
		forget_file(a, dir, file);
	HASH_DEL(a->dirs, dir);
	TAILQ_REMOVE(&a->by_age, dir, link);
	free(dir);
}

static struct ahead_dir *find_dir(struct tier_ahead *a, uint64_t ino)
{
	struct ahead_dir *dir;

	HASH_FIND(hh, a->dirs, &ino, sizeof(ino), dir);
	return dir;
}

/* The directory of an open that happens now. */
static struct ahead_dir *get_dir(struct tier_ahead *a, uint64_t ino)
{
	int64_t now = base_boot_ns(a->tier->env);
	struct ahead_dir *dir = find_dir(a, ino);

	if (dir != NULL && now - dir->opened_ns > TIER_AHEAD_IDLE_NS) {
		forget_dir(a, dir);
		dir = NULL;
	}
	if (dir == NULL) {
		if (HASH_COUNT(a->dirs) >= TIER_AHEAD_DIRS)
			forget_dir(a, TAILQ_FIRST(&a->by_age));
		dir = base_calloc(1, sizeof(*dir));
		dir->ino = ino;
		dir->id = ++a->next_id;
		TAILQ_INIT(&dir->files);
		HASH_ADD(hh, a->dirs, ino, sizeof(dir->ino), dir);
	} else {
		TAILQ_REMOVE(&a->by_age, dir, link);
	}
	TAILQ_INSERT_TAIL(&a->by_age, dir, link);
	dir->opened_ns = now;
	return dir;
}

static bool in_order(const struct ahead_dir *dir)
{
	return dir->order >= ORDER_YES;
}

/* An open at this cookie: does the reader go forward? */
static void note_place(struct ahead_dir *dir, uint64_t cookie)
{
	bool near = dir->front == 0 ||
		(cookie + TIER_AHEAD_NEAR >= dir->front &&
			cookie <= dir->front + TIER_AHEAD_NEAR);

	if (near && dir->order < ORDER_MAX)
		dir->order++;
	else if (!near)
		dir->order -= dir->order < ORDER_JUMP ? dir->order : ORDER_JUMP;
	if (dir->front == 0)
		dir->order = ORDER_YES;
	if (!near || cookie > dir->front)
		dir->front = cookie;
	dir->opens++;
}

/* A reader in order does not come back to what it has left behind. */
static void leave_behind(struct tier_ahead *a, struct ahead_dir *dir)
{
	struct ahead_file *file;

	while (dir->order == ORDER_MAX &&
		(file = TAILQ_FIRST(&dir->files)) != NULL && !file->under_way &&
		file->cookie + TIER_AHEAD_NEAR < dir->front) {
		forget_file(a, dir, file);
		dir->left++;
	}
}

/* A2 */
static void judge(struct ahead_dir *dir)
{
	if (dir->left > TIER_AHEAD_TRY && dir->left > 2 * dir->used)
		dir->off = true;
	if (!in_order(dir) && dir->opens > 4 * TIER_AHEAD_TRY &&
		dir->used < dir->opens / 16)
		dir->off = true;
}

/* How many more files, and bytes in *ret_bytes, may come (A1). */
static uint64_t room_of(
	struct tier_ahead *a, struct ahead_dir *dir, uint64_t *ret_bytes)
{
	uint64_t files = dir->opens * TIER_AHEAD_PER_OPEN, bytes;
	unsigned places =
		a->under_way < CHOSEN_MAX ? CHOSEN_MAX - a->under_way : 0;
	struct cache_space space;

	cache_space_get(a->tier->cache, &space);
	bytes = space.limit_bytes / 8;
	if (in_order(dir)) {
		if (files > TIER_AHEAD_WINDOW)
			files = TIER_AHEAD_WINDOW;
		if (bytes > TIER_AHEAD_WINDOW_BYTES)
			bytes = TIER_AHEAD_WINDOW_BYTES;
	}
	files = files > dir->files_nr ? files - dir->files_nr : 0;
	*ret_bytes = bytes > dir->files_bytes ? bytes - dir->files_bytes : 0;
	/* No more than what keeps the wire busy until the next fill. */
	if (files > places)
		files = places;
	return *ret_bytes > 0 ? files : 0;
}

static void fill(void *arg);

struct fill {
	struct tier_ahead *ahead;
	uint64_t ino, id;
};

/* Fills in the background, if there is a reason to. */
static void kick(struct tier_ahead *a, struct ahead_dir *dir)
{
	struct fill *task;

	if (!dir->begun || dir->ended || dir->off || dir->filling ||
		a->stopped || a->under_way > TIER_AHEAD_PARALLEL)
		return;
	dir->filling = true;
	task = base_malloc(sizeof(*task));
	*task = (struct fill){ a, dir->ino, dir->id };
	base_post(a->tier->env, fill, task);
}

/* ---- filling ---- */

struct chosen {
	uint64_t files_max, bytes_max, whole_max;
	uint64_t bytes, next;
	unsigned rows, nr;
	struct {
		uint64_t ino, cookie, size_bytes;
	} files[CHOSEN_MAX];
};

static int choose(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	struct chosen *c = arg;

	c->next = dentry->cookie;
	if (inode->kind == CACHE_FILE && inode->data != CACHE_WHOLE &&
		inode->access != CACHE_ACCESS_NONE && inode->size_bytes > 0 &&
		inode->size_bytes <= c->whole_max) {
		c->files[c->nr].ino = inode->ino;
		c->files[c->nr].cookie = dentry->cookie;
		c->files[c->nr].size_bytes = inode->size_bytes;
		c->bytes += inode->size_bytes;
		c->nr++;
	}
	return c->nr >= c->files_max || c->bytes >= c->bytes_max ||
		++c->rows >= LOOK_ROWS;
}

static void fetched(struct tier_call *call, int err);

static struct ahead_file *add_file(struct tier_ahead *a, struct ahead_dir *dir,
	struct chosen *c, unsigned i)
{
	struct ahead_file *file;

	HASH_FIND(hh, a->files, &c->files[i].ino, sizeof(uint64_t), file);
	if (file != NULL)
		return NULL;
	file = base_calloc(1, sizeof(*file));
	file->call.done = fetched;
	file->ahead = a;
	file->dir = dir;
	file->ino = c->files[i].ino;
	file->cookie = c->files[i].cookie;
	file->size_bytes = c->files[i].size_bytes;
	file->under_way = true;
	HASH_ADD(hh, a->files, ino, sizeof(file->ino), file);
	TAILQ_INSERT_TAIL(&dir->files, file, link);
	dir->files_nr++;
	dir->files_bytes += file->size_bytes;
	a->under_way++;
	atomic_fetch_add(&a->files_nr, 1);
	atomic_fetch_add(&a->fetched, 1);
	return file;
}

/* The end of what is known of the directory; the files before the place where
 * it began are for a reader that jumps about. */
static void reached_end(struct ahead_dir *dir)
{
	if (in_order(dir) || dir->from == 0) {
		dir->ended = true;
	} else {
		dir->from = dir->next = 0;
	}
}

static void fill(void *arg)
{
	struct fill task = *(struct fill *)arg;
	struct tier_ahead *a = task.ahead;
	struct tier *t = a->tier;
	struct chosen c = { .whole_max = t->cfg.fetch_whole_bytes };
	struct ahead_file *files[CHOSEN_MAX];
	struct ahead_dir *dir;
	struct cache_txn *txn;
	int more = -ENOENT;

	free(arg);
	base_lock(&a->mutex);
	dir = find_dir(a, task.ino);
	if (dir != NULL && dir->id == task.id && !a->stopped) {
		if (in_order(dir) && dir->next < dir->front)
			dir->next = dir->front;
		c.files_max = room_of(a, dir, &c.bytes_max);
		c.next = dir->next;
		more = 1;
	}
	base_unlock(&a->mutex);
	if (more > 0 && c.files_max > 0) {
		more = cache_read(t->cache, &txn);
		if (more == 0) {
			more = cache_dentry_each(
				txn, task.ino, c.next, choose, &c);
			cache_abort(txn);
		}
	}

	base_lock(&a->mutex);
	dir = find_dir(a, task.ino);
	if (dir == NULL || dir->id != task.id || a->stopped)
		c.nr = 0;
	for (unsigned i = 0; i < c.nr; i++)
		files[i] = add_file(a, dir, &c, i);
	if (dir != NULL && dir->id == task.id) {
		dir->filling = false;
		dir->next = c.next;
		if (more < 0)
			dir->off = true;
		else if (more == 0)
			reached_end(dir);
		/* Nothing to fetch among so many: look further. */
		if (more > 0 && c.rows >= LOOK_ROWS)
			kick(a, dir);
	}
	base_unlock(&a->mutex);
	for (unsigned i = 0; i < c.nr; i++)
		if (files[i] != NULL)
			tier_fetch_spare(t, files[i]->ino, &files[i]->call);
}

static void fetched(struct tier_call *call, int err)
{
	struct ahead_file *file = (struct ahead_file *)call;
	struct tier_ahead *a = file->ahead;
	struct ahead_dir *dir;

	base_lock(&a->mutex);
	a->under_way--;
	file->under_way = false;
	dir = file->dir;
	if (dir == NULL) {
		free(file);
	} else if (err < 0) {
		/* No room, or no store; a file that changed is no reason. */
		dir->off |= err != -ESTALE && err != -ENOENT;
		forget_file(a, dir, file);
	}
	if (dir != NULL)
		kick(a, dir);
	base_unlock(&a->mutex);
}

/* ---- opens ---- */

/* With the mutex.  True: it had come ahead. */
static bool note_use(struct tier_ahead *a, uint64_t ino, bool arrived)
{
	struct ahead_file *file;
	struct ahead_dir *dir;
	uint64_t id;

	HASH_FIND(hh, a->files, &ino, sizeof(ino), file);
	if (file == NULL)
		return false;
	id = file->dir->id;
	dir = get_dir(a, file->dir->ino);
	if (dir->id != id) /* forgotten just now, for its age; so is the file */
		return false;
	note_place(dir, file->cookie);
	dir->used++;
	dir->misses = 0;
	if (arrived)
		atomic_fetch_add(&a->used, 1);
	forget_file(a, dir, file);
	leave_behind(a, dir);
	judge(dir);
	kick(a, dir);
	return true;
}

void tier_opened(struct tier *tier, uint64_t ino)
{
	struct tier_ahead *a = tier->ahead;

	if (atomic_load(&a->files_nr) == 0)
		return;
	base_lock(&a->mutex);
	note_use(a, ino, true);
	base_unlock(&a->mutex);
}

static void note_miss(struct tier_ahead *a, const struct cache_dentry *dentry)
{
	struct ahead_dir *dir = get_dir(a, dentry->parent);

	note_place(dir, dentry->cookie);
	dir->misses++;
	leave_behind(a, dir);
	judge(dir);
	if (dir->misses < TIER_AHEAD_MISSES)
		return;
	if (!dir->begun) {
		dir->begun = true;
		dir->from = dir->next = in_order(dir) ? dir->front : 0;
	} else if (dir->ended) {
		/* More was listed, or what had come is gone again. */
		dir->ended = false;
		dir->misses = 0;
		dir->from = dir->next = in_order(dir) ? dir->front : 0;
	}
	kick(a, dir);
}

void tier_ahead_missed(struct tier *tier, uint64_t ino)
{
	struct tier_ahead *a = tier->ahead;
	struct cache_dentry dentry;
	struct cache_inode inode;
	struct cache_txn *txn;
	bool known;
	int err;

	atomic_fetch_add(&a->waits, 1);
	if (tier->cfg.read_ahead_bytes == 0)
		return;
	base_lock(&a->mutex);
	known = note_use(a, ino, false);
	base_unlock(&a->mutex);
	if (known || cache_read(tier->cache, &txn) < 0)
		return;
	err = cache_inode_get(txn, ino, &inode);
	if (err == 0)
		err = cache_dentry_of(txn, ino, &dentry);
	cache_abort(txn);
	if (err < 0 || inode.size_bytes > tier->cfg.fetch_whole_bytes)
		return;
	base_lock(&a->mutex);
	if (!a->stopped)
		note_miss(a, &dentry);
	base_unlock(&a->mutex);
}

void tier_ahead_status(struct tier *tier, struct tier_status *ret)
{
	struct tier_ahead *a = tier->ahead;

	ret->waits = atomic_load(&a->waits);
	ret->ahead_files = atomic_load(&a->fetched);
	ret->ahead_used = atomic_load(&a->used);
}

/* ---- life ---- */

int tier_aheads_open(struct tier *tier)
{
	struct tier_ahead *a = base_calloc(1, sizeof(*a));

	a->tier = tier;
	base_mutex_init(&a->mutex, BASE_RANK_TIER_AHEAD);
	TAILQ_INIT(&a->by_age);
	tier->ahead = a;
	return 0;
}

void tier_aheads_stop(struct tier *tier)
{
	struct tier_ahead *a = tier->ahead;

	base_lock(&a->mutex);
	a->stopped = true;
	base_unlock(&a->mutex);
}

void tier_aheads_close(struct tier *tier)
{
	struct tier_ahead *a = tier->ahead;
	struct ahead_file *file, *tmp;

	if (a == NULL)
		return;
	/* In the model, calls end with the world. */
	HASH_ITER(hh, a->files, file, tmp)
	file->under_way = false;
	while (a->dirs != NULL)
		forget_dir(a, a->dirs);
	base_mutex_fini(&a->mutex);
	free(a);
}
