/*
 * The blobs in memory, in the order of their names, and every content that was
 * ever written ("version"), by its MD5.
 */
#include "tests/model/blobs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "blob/hash.h"

/* ---- versions ---- */

int version_find(struct model *m, const uint8_t md5[16])
{
	for (size_t i = 0; i < m->versions_nr; i++) {
		if (memcmp(m->versions[i].md5, md5, 16) == 0)
			return (int)i;
	}
	return -1;
}

char *version_bytes(struct model *m, int version)
{
	struct version *v = &m->versions[version];
	char *bytes = base_calloc(1, v->size + 1);

	memcpy(bytes, v->head, v->head_len < v->size ? v->head_len : v->size);
	return bytes;
}

int version_add(struct model *m, const char *head, size_t head_len,
	uint64_t size, bool foreign)
{
	struct version v = { .size = size, .head_len = head_len };
	char *bytes;
	int known;

	if (v.head_len > size)
		v.head_len = size;
	while (v.head_len > 0 && head[v.head_len - 1] == '\0')
		v.head_len--;
	bytes = base_calloc(1, size + 1);
	memcpy(bytes, head, v.head_len);
	blob_md5(bytes, size, v.md5);
	free(bytes);
	known = version_find(m, v.md5);
	if (known < 0) {
		v.head = base_malloc(v.head_len + 1);
		memcpy(v.head, head, v.head_len);
		v.head[v.head_len] = '\0';
		m->versions = base_realloc(m->versions,
			(m->versions_nr + 1) * sizeof(*m->versions));
		known = (int)m->versions_nr;
		m->versions[m->versions_nr++] = v;
	}
	m->versions[known].foreign |= foreign;
	m->versions[known].local |= !foreign;
	return known;
}

/* ---- blobs ---- */

struct mblob *mstore_find_blob(struct model *m, const char *name)
{
	for (size_t i = 0; i < m->blobs_nr; i++) {
		if (strcmp(m->blobs[i].name, name) == 0)
			return &m->blobs[i];
	}
	return NULL;
}

/* Also one that is not there: it has a history. */
struct mblob *mstore_blob(struct model *m, const char *name)
{
	struct mblob *b = mstore_find_blob(m, name);
	size_t at = 0;

	if (b != NULL)
		return b;
	while (at < m->blobs_nr && strcmp(m->blobs[at].name, name) < 0)
		at++;
	m->blobs =
		base_realloc(m->blobs, (m->blobs_nr + 1) * sizeof(*m->blobs));
	memmove(&m->blobs[at + 1], &m->blobs[at],
		(m->blobs_nr - at) * sizeof(*m->blobs));
	m->blobs_nr++;
	b = &m->blobs[at];
	memset(b, 0, sizeof(*b));
	b->name = base_strdup(name);
	b->version = b->foreign = -1;
	return b;
}

bool mstore_has_below(struct model *m, const char *dir)
{
	size_t len = strlen(dir);

	for (size_t i = 0; i < m->blobs_nr; i++) {
		if (m->blobs[i].there &&
			strncmp(m->blobs[i].name, dir, len) == 0 &&
			m->blobs[i].name[len] == '/')
			return true;
	}
	return false;
}

struct blob_kv *mkv_find(struct blob_kv *kv, size_t nr, const char *key)
{
	for (size_t i = 0; i < nr; i++) {
		if (strcasecmp(kv[i].key, key) == 0)
			return &kv[i];
	}
	return NULL;
}

void mstore_new_etag(struct model *m, struct mblob *b)
{
	b->etag = ++m->etag;
	b->mtime_ns = m->now_ns;
	m->etag_version = base_realloc(
		m->etag_version, (m->etag + 1) * sizeof(*m->etag_version));
	m->etag_version[m->etag] = b->version;
}

void mstore_etag_text(uint64_t etag, char *ret, size_t size)
{
	snprintf(ret, size, "\"0x%llX\"", (unsigned long long)etag);
}

bool mstore_etag_is(const struct mblob *b, const char *text)
{
	char buf[BLOB_ETAG_MAX];

	mstore_etag_text(b->etag, buf, sizeof(buf));
	return b->there && strcmp(buf, text) == 0;
}

void mstore_drop_blocks(struct mblock **blocks, size_t *nr)
{
	for (size_t i = 0; i < *nr; i++)
		free((*blocks)[i].bytes);
	free(*blocks);
	*blocks = NULL;
	*nr = 0;
}

void mstore_set_meta(
	struct mblob *b, const struct blob_kv *meta, size_t meta_nr)
{
	struct blob_kv *copy;

	assert(blob_kv_copy(&copy, meta, meta_nr) == 0);
	blob_kv_free(b->meta, b->meta_nr);
	b->meta = copy;
	b->meta_nr = meta_nr;
}
