/*
 * The bytes of blobs.
 *
 * What it is for.  A content is an immutable run of bytes, put together from
 * parts of extents; blobs, staged blocks, copies and answers under way share
 * them by reference.  An extent lies in memory (small), in the arena (a large
 * sparse file without a name), or is computed by a formula and lies nowhere.
 *
 * Threads: all functions from any thread.  An extent is written by the one
 * request that made it, before it becomes part of a content.
 *
 * Ownership.  get/put count references; a content holds its extents.  Space
 * in the arena is given back when the last reference goes and is never used
 * again, because pages of it may still sit in socket buffers (sendfile).
 *
 * Errors: a full disk or arena aborts with a message; a test cannot go on.
 */
#ifndef BLOBD_DATA_H
#define BLOBD_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct blobd_extent;

struct blobd_part {
	uint64_t start; /* within the content */
	uint64_t len;
	uint64_t off; /* within the extent */
	struct blobd_extent *extent;
};

struct blobd_content {
	unsigned refs;
	uint32_t parts_nr;
	uint64_t size;
	struct blobd_part parts[];
};

/* The arena is the process's.  Returns 0 or -errno. */
int blobd_data_open(const char *dir);
void blobd_data_close(void);

/* A new extent of exactly len bytes, all of which must be written. */
struct blobd_extent *blobd_extent_new(uint64_t len);
void blobd_extent_write(
	struct blobd_extent *e, uint64_t off, const void *buf, size_t len);
void blobd_extent_put(struct blobd_extent *e);

/* Takes over the caller's reference to the extent. */
struct blobd_content *blobd_content_of(struct blobd_extent *e);
struct blobd_content *blobd_content_zero(uint64_t size);
/* The content formula: README.md. */
struct blobd_content *blobd_content_formula(uint64_t seed, uint64_t size);
uint64_t blobd_content_seed(const char *name);
struct blobd_content *blobd_content_slice(
	struct blobd_content *c, uint64_t off, uint64_t len);
struct blobd_content *blobd_content_join(
	struct blobd_content *const *list, size_t nr);
struct blobd_content *blobd_content_get(struct blobd_content *c);
void blobd_content_put(struct blobd_content *c);

void blobd_content_read(
	const struct blobd_content *c, uint64_t off, void *buf, size_t len);
/* Is the range one run in the arena?  Then a new descriptor (the caller's)
 * and the offset in it. */
bool blobd_content_fd(const struct blobd_content *c, uint64_t off, uint64_t len,
	int *ret_fd, uint64_t *ret_off);
/* The range as memory, if none of it is computed: a fresh array. */
bool blobd_content_iov(const struct blobd_content *c, uint64_t off,
	uint64_t len, struct iovec **ret_iov, unsigned *ret_nr);

#endif
