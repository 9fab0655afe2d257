/* The store: see blobs.h. */
#include "tests/blobd/blobs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

const char *const blobd_header_names[BLOBD_HEADERS_NR] = {
	"Content-Type",
	"Content-Encoding",
	"Content-Language",
	"Content-Disposition",
	"Cache-Control",
};

static struct {
	pthread_rwlock_t lock;
	struct blobd_map *containers;
	uint64_t last_etag; /* atomic */
} store = { PTHREAD_RWLOCK_INITIALIZER, NULL, 0 };

int64_t blobd_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void blobd_store_rdlock(void)
{
	pthread_rwlock_rdlock(&store.lock);
}

void blobd_store_wrlock(void)
{
	pthread_rwlock_wrlock(&store.lock);
}

void blobd_store_unlock(void)
{
	pthread_rwlock_unlock(&store.lock);
}

struct blobd_map *blobd_store_containers(void)
{
	return store.containers;
}

/* 100 ns ticks, never twice the same. */
uint64_t blobd_etag_next(void)
{
	struct timespec ts;
	uint64_t now, last;

	clock_gettime(CLOCK_REALTIME, &ts);
	now = (uint64_t)ts.tv_sec * 10000000 + (uint64_t)ts.tv_nsec / 100;
	last = __atomic_load_n(&store.last_etag, __ATOMIC_RELAXED);
	do {
		if (now <= last)
			now = last + 1;
	} while (!__atomic_compare_exchange_n(&store.last_etag, &last, now,
		true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return now;
}

void blobd_etag_text(uint64_t etag, char ret[BLOBD_ETAG_BYTES])
{
	snprintf(ret, BLOBD_ETAG_BYTES, "0x8D%013llX",
		(unsigned long long)etag & 0xfffffffffffff);
}

void blobd_kvs_add(struct blobd_kvs *kvs, const char *key, const char *value)
{
	/* Room doubles at each power of two. */
	if ((kvs->nr & (kvs->nr - 1)) == 0)
		kvs->v = base_realloc(
			kvs->v, (kvs->nr ? kvs->nr * 2 : 1) * sizeof(*kvs->v));
	kvs->v[kvs->nr].key = base_strdup(key);
	kvs->v[kvs->nr++].value = base_strdup(value);
}

void blobd_kvs_copy(struct blobd_kvs *to, const struct blobd_kvs *from)
{
	size_t i;

	for (i = 0; i < from->nr; i++)
		blobd_kvs_add(to, from->v[i].key, from->v[i].value);
}

void blobd_kvs_fini(struct blobd_kvs *kvs)
{
	size_t i;

	for (i = 0; i < kvs->nr; i++) {
		free(kvs->v[i].key);
		free(kvs->v[i].value);
	}
	free(kvs->v);
	kvs->v = NULL;
	kvs->nr = 0;
}

struct blobd_props *blobd_props_new(void)
{
	struct blobd_props *p = base_calloc(1, sizeof(*p));

	p->refs = 1;
	return p;
}

struct blobd_props *blobd_props_get(struct blobd_props *p)
{
	__atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

struct blobd_props *blobd_props_dup(const struct blobd_props *p)
{
	struct blobd_props *dup = blobd_props_new();
	int i;

	for (i = 0; i < BLOBD_HEADERS_NR; i++)
		if (p->headers[i] != NULL)
			dup->headers[i] = base_strdup(p->headers[i]);
	dup->has_md5 = p->has_md5;
	memcpy(dup->md5, p->md5, sizeof(dup->md5));
	blobd_kvs_copy(&dup->meta, &p->meta);
	blobd_kvs_copy(&dup->tags, &p->tags);
	return dup;
}

void blobd_props_put(struct blobd_props *p)
{
	int i;

	if (p == NULL || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (i = 0; i < BLOBD_HEADERS_NR; i++)
		free(p->headers[i]);
	blobd_kvs_fini(&p->meta);
	blobd_kvs_fini(&p->tags);
	free(p);
}

struct blobd_blocks *blobd_blocks_new(size_t nr)
{
	struct blobd_blocks *b =
		base_calloc(1, sizeof(*b) + nr * sizeof(b->v[0]));

	b->refs = 1;
	b->nr = nr;
	return b;
}

struct blobd_blocks *blobd_blocks_get(struct blobd_blocks *b)
{
	if (b != NULL)
		__atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
	return b;
}

void blobd_blocks_put(struct blobd_blocks *b)
{
	size_t i;

	if (b == NULL || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (i = 0; i < b->nr; i++)
		free(b->v[i].id);
	free(b);
}

static void staged_free(void *value)
{
	blobd_content_put(value);
}

void blobd_blob_drop_staged(struct blobd_blob *b)
{
	blobd_map_free(b->staged, staged_free);
	b->staged = NULL;
	b->staged_id_len = 0;
}

void blobd_blob_drop_copy(struct blobd_blob *b)
{
	if (b->copy == NULL)
		return;
	free(b->copy->source);
	blobd_content_put(b->copy->content);
	blobd_blocks_put(b->copy->blocks);
	free(b->copy);
	b->copy = NULL;
}

static void blob_free(void *value)
{
	struct blobd_blob *b = value;

	if (b == NULL)
		return;
	blobd_blob_drop_staged(b);
	blobd_blob_drop_copy(b);
	blobd_content_put(b->content);
	blobd_props_put(b->props);
	blobd_blocks_put(b->blocks);
	free(b->lease);
	free(b);
}

static void container_free(void *value)
{
	struct blobd_container *c = value;

	if (c == NULL)
		return;
	blobd_map_free(c->blobs, blob_free);
	blobd_kvs_fini(&c->meta);
	free(c);
}

void blobd_store_open(void)
{
	store.containers = blobd_map_new();
}

void blobd_store_close(void)
{
	blobd_map_free(store.containers, container_free);
}

struct blobd_container *blobd_store_container(const char *name)
{
	return blobd_map_get(store.containers, name);
}

struct blobd_container *blobd_container_add(const char *name)
{
	struct blobd_container *c = base_calloc(1, sizeof(*c));

	c->blobs = blobd_map_new();
	c->etag = blobd_etag_next();
	c->modified = time(NULL);
	container_free(blobd_map_set(store.containers, name, c));
	return c;
}

bool blobd_container_delete(const char *name)
{
	struct blobd_container *c = blobd_map_remove(store.containers, name);

	container_free(c);
	return c != NULL;
}

struct blobd_blob *blobd_blob_find(struct blobd_container *c, const char *name)
{
	return blobd_map_get(c->blobs, name);
}

struct blobd_blob *blobd_blob_visible(
	struct blobd_container *c, const char *name)
{
	struct blobd_blob *b = blobd_blob_find(c, name);

	return b != NULL && b->committed ? b : NULL;
}

struct blobd_blob *blobd_blob_add(struct blobd_container *c, const char *name)
{
	struct blobd_blob *b = base_calloc(1, sizeof(*b));

	blob_free(blobd_map_set(c->blobs, name, b));
	return b;
}

void blobd_blob_delete(struct blobd_container *c, const char *name)
{
	blob_free(blobd_map_remove(c->blobs, name));
}

void blobd_blob_touch(struct blobd_blob *b)
{
	b->etag = blobd_etag_next();
	b->modified = time(NULL);
}

void blobd_blob_replace(struct blobd_blob *b, struct blobd_content *content,
	struct blobd_props *props, struct blobd_blocks *blocks)
{
	if (!b->committed)
		b->created = time(NULL);
	b->committed = true;
	blobd_content_put(b->content);
	blobd_props_put(b->props);
	blobd_blocks_put(b->blocks);
	b->content = content;
	b->props = props;
	b->blocks = blocks;
	blobd_blob_drop_staged(b);
	blobd_blob_drop_copy(b);
	b->rehydrating = false;
	b->appends_nr = 0;
	blobd_blob_touch(b);
}
