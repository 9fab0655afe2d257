/*
 * Histories: a list of steps from a seed.  Each step has a seed of its own, so
 * that a history with some of them left out is still much the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/model/model.h"

enum kind {
	K_CREATE,
	K_WRITE,
	K_CHECKPOINT, /* temporary file, fsync, rename over, pointer */
	K_MORE,
	K_CLOSE,
	K_UNLINK,
	K_MKDIR,
	K_RMDIR,
	K_SYMLINK,
	K_RENAME,
	K_RENAME_DIR,
	K_EXCHANGE,
	K_CHMOD,
	K_READ,
	K_LOOK,
	K_LOOK_AGAIN,
	K_SHUT,
	K_PREFETCH,
	K_FSYNC,
	K_FLUSH,
	K_REFRESH,
	K_EVICT,
	K_WAIT,
	K_REMOUNT,
	K_CRASH,
	K_CUT,
	K_FOREIGN_PUT,
	K_FOREIGN_SAME,
	K_FOREIGN_DELETE,
	K_FOREIGN_META,
	K_FOREIGN_COPY,
	K_FOREIGN_DIR,
	K_NR,
};

static const struct {
	const char *name;
	unsigned weight, profile;
} kinds[K_NR] = {
	[K_CREATE] = { "create", 16, 0 },
	[K_WRITE] = { "write", 20, 0 },
	[K_CHECKPOINT] = { "checkpoint", 10, 0 },
	[K_MORE] = { "more", 8, WITH_OPEN },
	[K_CLOSE] = { "close", 8, WITH_OPEN },
	[K_UNLINK] = { "unlink", 9, 0 },
	[K_MKDIR] = { "mkdir", 4, 0 },
	[K_RMDIR] = { "rmdir", 2, 0 },
	[K_SYMLINK] = { "symlink", 4, 0 },
	[K_RENAME] = { "rename", 14, 0 },
	[K_RENAME_DIR] = { "rename-dir", 5, WITH_DIRS },
	[K_EXCHANGE] = { "exchange", 3, 0 },
	[K_CHMOD] = { "chmod", 5, 0 },
	[K_READ] = { "read", 6, 0 },
	[K_LOOK] = { "look", 3, WITH_OPEN },
	[K_LOOK_AGAIN] = { "look-again", 3, WITH_OPEN },
	[K_SHUT] = { "shut", 2, WITH_OPEN },
	[K_PREFETCH] = { "prefetch", 2, 0 },
	[K_FSYNC] = { "fsync", 4, 0 },
	[K_FLUSH] = { "flush", 2, 0 },
	[K_REFRESH] = { "refresh", 3, 0 },
	[K_EVICT] = { "evict", 6, 0 },
	[K_WAIT] = { "wait", 4, 0 },
	[K_REMOUNT] = { "remount", 2, WITH_REMOUNTS },
	[K_CRASH] = { "crash", 3, WITH_CRASHES },
	[K_CUT] = { "cut", 3, WITH_CUTS },
	[K_FOREIGN_PUT] = { "foreign-put", 7, WITH_FOREIGN },
	[K_FOREIGN_SAME] = { "foreign-same", 2, WITH_FOREIGN },
	[K_FOREIGN_DELETE] = { "foreign-delete", 3, WITH_FOREIGN },
	[K_FOREIGN_META] = { "foreign-meta", 4, WITH_FOREIGN },
	[K_FOREIGN_COPY] = { "foreign-copy", 2, WITH_FOREIGN },
	[K_FOREIGN_DIR] = { "foreign-dir", 1, WITH_FOREIGN },
};

static const char *const dirs[] = { "", "", "d", "d", "e", "d/f" };
static const char *const files[] = { "a", "b.txt", "c", "ptr" };
static const char *const dir_names[] = { "d", "e", "g", "d/f", "e/f" };

/* Enough for 70 calls that do something. */
#define STEPS_MAX 400

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *step_name(const struct step *step)
{
	return kinds[step->kind].name;
}

size_t steps_make(uint64_t seed, unsigned profile, struct step **ret)
{
	struct rnd r = { seed ^ 0x5eed };
	size_t nr = STEPS_MAX;
	struct step *steps = base_calloc(nr, sizeof(*steps));
	unsigned total = 0;

	for (int k = 0; k < K_NR; k++) {
		if ((kinds[k].profile & ~profile) == 0)
			total += kinds[k].weight;
	}
	for (size_t i = 0; i < nr; i++) {
		unsigned at = (unsigned)rnd_below(&r, total);
		int k = 0;

		for (;; k++) {
			if ((kinds[k].profile & ~profile) != 0)
				continue;
			if (at < kinds[k].weight)
				break;
			at -= kinds[k].weight;
		}
		steps[i].kind = (unsigned)k;
		steps[i].seed = rnd_next(&r);
	}
	*ret = steps;
	return nr;
}

static void any_path(struct rnd *r, char *ret, size_t size)
{
	const char *dir = dirs[rnd_below(r, COUNT(dirs))];

	snprintf(ret, size, "%s%s%s", dir, dir[0] ? "/" : "",
		files[rnd_below(r, COUNT(files))]);
}

/* A temporary file renamed over, then a pointer that names it. */
static void checkpoint(struct model *m, struct rnd *r)
{
	char path[64], temp[80], ptr[64];
	const char *dir = dirs[rnd_below(r, COUNT(dirs))];

	snprintf(path, sizeof(path), "%s%sc", dir, dir[0] ? "/" : "");
	snprintf(temp, sizeof(temp), "%s.tmp", path);
	snprintf(ptr, sizeof(ptr), "%s%sptr", dir, dir[0] ? "/" : "");
	if (!call_create(m, temp, r, false))
		return;
	if (!m->failed && rnd_pct(r, 60))
		call_fsync(m, temp);
	if (!m->failed && rnd_pct(r, 40))
		call_chmod(m, temp, 0600);
	if (!m->failed)
		call_rename(m, temp, path);
	if (!m->failed && !call_write(m, ptr, r, false) && !m->failed)
		call_create(m, ptr, r, false);
}

static void foreign(struct model *m, unsigned kind, struct rnd *r)
{
	char path[64], to[64], text[64];
	struct mblob *b;
	uint64_t how;
	int n;

	any_path(r, path, sizeof(path));
	any_path(r, to, sizeof(to));
	switch (kind) {
	case K_FOREIGN_PUT:
		n = snprintf(text, sizeof(text), "F%06llu",
			(unsigned long long)++m->texts);
		how = rnd_below(r, 10);
		foreign_put(m, path,
			version_add(m, text, (size_t)n, (size_t)n, true),
			how < 4		  ? FOREIGN_PLAIN
				: how < 7 ? FOREIGN_KEEP
					  : FOREIGN_HOST);
		break;
	case K_FOREIGN_SAME: /* the bytes that a program here wrote last */
		for (size_t i = m->changes_nr; i-- > 0;) {
			if (m->changes[i].version >= 0 &&
				m->changes[i].kind == CACHE_FILE) {
				foreign_put(m, m->changes[i].name,
					m->changes[i].version,
					rnd_pct(r, 50) ? FOREIGN_PLAIN
						       : FOREIGN_HOST);
				count(m, COUNT_FOREIGN_SAME);
				break;
			}
		}
		break;
	case K_FOREIGN_DELETE:
		foreign_delete(m, path);
		break;
	case K_FOREIGN_META:
		b = mstore_blob(m, path);
		if (b->there)
			foreign_meta(m, path, (unsigned)rnd_below(r, 5));
		break;
	case K_FOREIGN_DIR:
		b = mstore_blob(m, dir_names[rnd_below(r, COUNT(dir_names))]);
		if (!b->there)
			foreign_mkdir(m, b->name);
		else
			foreign_delete(m, b->name); /* its marker */
		break;
	default:
		foreign_copy(m, path, to);
	}
}

static void run_one(struct model *m, const struct step *step)
{
	static const uint32_t modes[] = { 0600, 0640, 0644, 0755 };
	struct rnd r = { step->seed };
	char path[64], to[64];
	bool hold = (m->profile & WITH_OPEN) && rnd_pct(&r, 30);

	any_path(&r, path, sizeof(path));
	any_path(&r, to, sizeof(to));
	switch (step->kind) {
	case K_CREATE:
		call_create(m, path, &r, hold);
		break;
	case K_WRITE:
		if (!call_write(m, path, &r, hold) && !m->failed)
			call_create(m, path, &r, hold);
		break;
	case K_CHECKPOINT:
		checkpoint(m, &r);
		break;
	case K_MORE:
		call_more(m, &r);
		break;
	case K_CLOSE:
		call_close(m, &r);
		break;
	case K_UNLINK:
		call_unlink(m, path);
		break;
	case K_MKDIR:
		call_mkdir(m, dir_names[rnd_below(&r, COUNT(dir_names))]);
		break;
	case K_RMDIR:
		call_rmdir(m, dir_names[rnd_below(&r, COUNT(dir_names))]);
		break;
	case K_SYMLINK:
		call_symlink(m, path, &r);
		break;
	case K_RENAME:
		call_rename(m, path, to);
		break;
	case K_RENAME_DIR:
		call_rename(m, dir_names[rnd_below(&r, COUNT(dir_names))],
			dir_names[rnd_below(&r, COUNT(dir_names))]);
		break;
	case K_EXCHANGE:
		call_exchange(m, path, to);
		break;
	case K_CHMOD:
		call_chmod(m, rnd_pct(&r, 20) ? "d" : path,
			modes[rnd_below(&r, COUNT(modes))]);
		break;
	case K_READ:
		call_read(m, path);
		break;
	case K_LOOK:
		call_look(m, path);
		break;
	case K_LOOK_AGAIN:
		call_look_again(m, &r);
		break;
	case K_SHUT:
		call_shut(m);
		break;
	case K_PREFETCH:
		call_prefetch(m, path);
		break;
	case K_FSYNC:
		call_fsync(m, rnd_pct(&r, 50) ? NULL : path);
		break;
	case K_FLUSH:
		call_flush(m, rnd_pct(&r, 50) ? "" : path, rnd_pct(&r, 60));
		break;
	case K_REFRESH:
		call_refresh(
			m, dirs[rnd_below(&r, COUNT(dirs))], rnd_pct(&r, 40));
		break;
	case K_EVICT:
		call_evict(m, path);
		break;
	case K_REMOUNT:
		count(m, COUNT_REMOUNT);
		local_close(m);
		local_open(m);
		break;
	case K_CRASH:
	case K_CUT:
		for (uint64_t n = rnd_below(&r, 30); n > 0; n--)
			model_step(m, m->now_ns + 200 * MS);
		if (m->failed)
			break;
		if (step->kind == K_CRASH)
			local_crash(m);
		else
			local_cut(m);
		break;
	case K_WAIT:
		model_run(m, (int64_t)rnd_below(&r, 90) * S);
		break;
	default:
		foreign(m, step->kind, &r);
	}
}

/* How long until the next step: mostly at once. */
static void let_run(struct model *m, struct rnd *r)
{
	uint64_t how = rnd_below(r, 100);

	if (how < 40) {
		for (uint64_t n = rnd_below(r, 4); n > 0; n--)
			model_step(m, m->now_ns + 5 * MS);
	} else if (how < 70) {
		model_run(m, (int64_t)rnd_below(r, 120) * MS);
	} else if (how < 88) {
		model_run(m, (int64_t)rnd_below(r, 3000) * MS);
	} else if (how < 98) {
		model_run(m, (int64_t)rnd_below(r, 40) * S);
	} else {
		model_run(m, (int64_t)rnd_below(r, 700) * S);
	}
}

size_t steps_run(
	struct model *m, const struct step *steps, size_t nr, unsigned calls)
{
	size_t i;

	for (i = 0; i < nr && !m->failed && m->calls < calls; i++) {
		struct rnd r = { steps[i].seed ^ 0xabcd };

		if (steps[i].dropped)
			continue;
		m->rnd.state = steps[i].seed;
		model_say(m, "%zu %s", i, step_name(&steps[i]));
		run_one(m, &steps[i]);
		if (!m->failed)
			let_run(m, &r);
	}
	return i;
}
