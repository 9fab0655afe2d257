/* The bytes of blobs: see data.h. */
#include "tests/blobd/data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/blobd/fault.h"

/* Up to here an extent is memory: below it, a file page rounds up too much. */
#define MEMORY_MAX_BYTES 65536
/* Space is never used twice, so this is what one run can take in altogether.
 * ThreadSanitizer leaves programs little address space. */
#ifdef __SANITIZE_THREAD__
#define ARENA_BYTES (UINT64_C(256) << 30)
#else
#define ARENA_BYTES (UINT64_C(4) << 40)
#endif

/* Sendfile lends the file's pages to a socket, which may still hold them when
 * the answer is done for us; a hole in a large folio of such pages zeroes what
 * the client has yet to read. */
#define GIVE_BACK_NS (20 * 1000000000ll)

enum kind {
	IN_MEMORY,
	IN_ARENA,
	FORMULA,
	ZEROES,
};

struct blobd_extent {
	unsigned refs;
	enum kind kind;
	uint64_t len;
	uint64_t where; /* offset in the arena, or the formula's seed */
	uint8_t bytes[];
};

static struct {
	int fd;
	uint8_t *map; /* read only, for answers of several parts */
	uint64_t used;
} arena = { -1, NULL, 0 };

static void die(const char *what)
{
	fprintf(stderr, "blobd: %s: %s\n", what, strerror(errno));
	abort();
}

/* Without a name from the start: nothing stays behind, however we end. */
static int open_unnamed(const char *dir)
{
	char path[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	snprintf(path, sizeof(path), "%s/blobd.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

int blobd_data_open(const char *dir)
{
	void *map;
	int err;

	arena.fd = open_unnamed(dir);
	if (arena.fd < 0)
		return -errno;
	if (ftruncate(arena.fd, ARENA_BYTES) < 0)
		goto fail;
	map = mmap(NULL, ARENA_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE,
		arena.fd, 0);
	if (map == MAP_FAILED)
		goto fail;
	arena.map = map;
	return 0;
fail:
	err = -errno;
	close(arena.fd);
	arena.fd = -1;
	return err;
}

void blobd_data_close(void)
{
	munmap(arena.map, ARENA_BYTES);
	close(arena.fd);
	arena.fd = -1;
}

static uint64_t round_up(uint64_t len)
{
	return (len + 4095) & ~UINT64_C(4095);
}

static struct blobd_extent *extent_make(
	enum kind kind, uint64_t len, uint64_t where, size_t bytes)
{
	struct blobd_extent *e = base_malloc(sizeof(*e) + bytes);

	e->refs = 1;
	e->kind = kind;
	e->len = len;
	e->where = where;
	return e;
}

struct blobd_extent *blobd_extent_new(uint64_t len)
{
	uint64_t off;

	if (len <= MEMORY_MAX_BYTES)
		return extent_make(IN_MEMORY, len, 0, len);
	off = __atomic_fetch_add(&arena.used, round_up(len), __ATOMIC_RELAXED);
	if (off + len > ARENA_BYTES) {
		errno = ENOSPC;
		die("arena");
	}
	return extent_make(IN_ARENA, len, off, 0);
}

void blobd_extent_write(
	struct blobd_extent *e, uint64_t off, const void *buf, size_t len)
{
	ssize_t n;

	if (e->kind == IN_MEMORY) {
		memcpy(e->bytes + off, buf, len);
		return;
	}
	while (len > 0) {
		n = pwrite(arena.fd, buf, len, (off_t)(e->where + off));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("write");
		buf = (const uint8_t *)buf + n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
}

static void give_back(void *arg)
{
	struct blobd_extent *e = arg;

	/* Best effort: without it the space comes back at exit. */
	(void)!fallocate(arena.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)e->where, (off_t)round_up(e->len));
	free(e);
}

void blobd_extent_put(struct blobd_extent *e)
{
	if (e == NULL || __atomic_sub_fetch(&e->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (e->kind == IN_ARENA)
		blobd_timer_after(GIVE_BACK_NS, give_back, e);
	else
		free(e);
}

static struct blobd_content *content_make(size_t parts_nr)
{
	struct blobd_content *c = base_calloc(
		1, sizeof(*c) + parts_nr * sizeof(struct blobd_part));

	c->refs = 1;
	return c;
}

static void content_add(struct blobd_content *c, struct blobd_extent *e,
	uint64_t off, uint64_t len)
{
	struct blobd_part *p = &c->parts[c->parts_nr++];

	p->start = c->size;
	p->len = len;
	p->off = off;
	p->extent = e;
	c->size += len;
}

struct blobd_content *blobd_content_of(struct blobd_extent *e)
{
	struct blobd_content *c = content_make(1);

	content_add(c, e, 0, e->len);
	return c;
}

struct blobd_content *blobd_content_zero(uint64_t size)
{
	return blobd_content_of(extent_make(ZEROES, size, 0, 0));
}

struct blobd_content *blobd_content_formula(uint64_t seed, uint64_t size)
{
	return blobd_content_of(extent_make(FORMULA, size, seed, 0));
}

/* FNV-1a, 64 bits. */
uint64_t blobd_content_seed(const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *name != '\0'; name++)
		h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	return h;
}

/* The part that holds offset off < size. */
static size_t part_at(const struct blobd_content *c, uint64_t off)
{
	size_t lo = 0, hi = c->parts_nr, mid;

	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (c->parts[mid].start <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Appends references to a range of c to `to`, which has room. */
static void content_add_range(struct blobd_content *to,
	const struct blobd_content *c, uint64_t off, uint64_t len)
{
	const struct blobd_part *p;
	uint64_t within, n;

	if (len == 0)
		return;
	for (p = &c->parts[part_at(c, off)]; len > 0; p++) {
		within = off - p->start;
		n = min_u64(len, p->len - within);
		if (n == 0)
			continue;
		__atomic_add_fetch(&p->extent->refs, 1, __ATOMIC_RELAXED);
		content_add(to, p->extent, p->off + within, n);
		off += n;
		len -= n;
	}
}

struct blobd_content *blobd_content_slice(
	struct blobd_content *c, uint64_t off, uint64_t len)
{
	size_t parts_nr = 0;
	struct blobd_content *slice;

	if (off == 0 && len == c->size)
		return blobd_content_get(c);
	if (len > 0)
		parts_nr = part_at(c, off + len - 1) - part_at(c, off) + 1;
	slice = content_make(parts_nr);
	content_add_range(slice, c, off, len);
	return slice;
}

struct blobd_content *blobd_content_join(
	struct blobd_content *const *list, size_t nr)
{
	struct blobd_content *joined;
	size_t i, parts_nr = 0;

	for (i = 0; i < nr; i++)
		parts_nr += list[i]->parts_nr;
	joined = content_make(parts_nr);
	for (i = 0; i < nr; i++)
		content_add_range(joined, list[i], 0, list[i]->size);
	return joined;
}

struct blobd_content *blobd_content_get(struct blobd_content *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

void blobd_content_put(struct blobd_content *c)
{
	uint32_t i;

	if (c == NULL || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (i = 0; i < c->parts_nr; i++)
		blobd_extent_put(c->parts[i].extent);
	free(c);
}

/* Word i of splitmix64 started at `seed`. */
static inline uint64_t formula_word(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void formula_read(uint64_t seed, uint64_t off, uint8_t *buf, size_t len)
{
	uint64_t i = off / 8, word;
	size_t skip = off % 8, n;

	if (skip > 0 && len > 0) {
		word = formula_word(seed, i++);
		n = len < 8 - skip ? len : 8 - skip;
		memcpy(buf, (uint8_t *)&word + skip, n);
		buf += n;
		len -= n;
	}
	for (; len >= 8; len -= 8, buf += 8) {
		word = formula_word(seed, i++);
		memcpy(buf, &word, 8);
	}
	if (len > 0) {
		word = formula_word(seed, i);
		memcpy(buf, &word, len);
	}
}

static void extent_read(
	const struct blobd_extent *e, uint64_t off, uint8_t *buf, size_t len)
{
	ssize_t n;

	switch (e->kind) {
	case IN_MEMORY:
		memcpy(buf, e->bytes + off, len);
		return;
	case FORMULA:
		formula_read(e->where, off, buf, len);
		return;
	case ZEROES:
		memset(buf, 0, len);
		return;
	case IN_ARENA:
		while (len > 0) {
			n = pread(arena.fd, buf, len, (off_t)(e->where + off));
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				die("read");
			buf += n;
			off += (uint64_t)n;
			len -= (size_t)n;
		}
	}
}

void blobd_content_read(
	const struct blobd_content *c, uint64_t off, void *buf, size_t len)
{
	const struct blobd_part *p;
	uint64_t within, n;

	if (len == 0)
		return;
	for (p = &c->parts[part_at(c, off)]; len > 0; p++) {
		within = off - p->start;
		n = min_u64(len, p->len - within);
		extent_read(p->extent, p->off + within, buf, n);
		buf = (uint8_t *)buf + n;
		off += n;
		len -= n;
	}
}

bool blobd_content_fd(const struct blobd_content *c, uint64_t off, uint64_t len,
	int *ret_fd, uint64_t *ret_off)
{
	const struct blobd_part *p = &c->parts[part_at(c, off)];
	int fd;

	if (p->extent->kind != IN_ARENA || off + len > p->start + p->len)
		return false;
	fd = fcntl(arena.fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return false;
	*ret_fd = fd;
	*ret_off = p->extent->where + p->off + (off - p->start);
	return true;
}

bool blobd_content_iov(const struct blobd_content *c, uint64_t off,
	uint64_t len, struct iovec **ret_iov, unsigned *ret_nr)
{
	size_t first = part_at(c, off), i;
	const struct blobd_part *p;
	struct iovec *iov;
	unsigned nr = 0;
	uint64_t within, n;
	uint8_t *base;

	for (i = first; i < c->parts_nr && c->parts[i].start < off + len; i++)
		if (c->parts[i].extent->kind > IN_ARENA)
			return false;
	iov = base_calloc(i - first, sizeof(*iov));
	for (p = &c->parts[first]; len > 0; p++) {
		within = off - p->start;
		n = min_u64(len, p->len - within);
		base = p->extent->kind == IN_ARENA
			? arena.map + p->extent->where
			: p->extent->bytes;
		iov[nr].iov_base = base + p->off + within;
		iov[nr++].iov_len = n;
		off += n;
		len -= n;
	}
	*ret_iov = iov;
	*ret_nr = nr;
	return true;
}
