/*
 * Blobs to index rows and back: kinds, attributes, metadata, the packed lists
 * that a row keeps.
 *
 * Packed forms (in the index only, version 1):
 *   foreign: u8 1, then per pair u8 where (0 metadata, 1 header), key NUL,
 *            value NUL;
 *   parents: u8 1, then per commit 16 bytes of host and u64 of number.
 */
#include "tier/priv.h"

#include <errno.h>
#include <stdlib.h>

#define FOREIGN_META 0
#define FOREIGN_HEADER 1
#define PARENT_BYTES (CACHE_ID_BYTES + sizeof(uint64_t))

static enum cache_kind kind_of(enum blob_kind kind)
{
	switch (kind) {
	case BLOB_KIND_FILE:
		return CACHE_FILE;
	case BLOB_KIND_DIR:
		return CACHE_DIR;
	case BLOB_KIND_SYMLINK:
		return CACHE_SYMLINK;
	case BLOB_KIND_FIFO:
		return CACHE_FIFO;
	case BLOB_KIND_SOCKET:
		return CACHE_SOCKET;
	case BLOB_KIND_CHAR:
		return CACHE_CHAR;
	case BLOB_KIND_BLOCK:
		return CACHE_BLOCK;
	}
	return CACHE_FILE;
}

static enum blob_kind kind_to(enum cache_kind kind)
{
	switch (kind) {
	case CACHE_DIR:
		return BLOB_KIND_DIR;
	case CACHE_SYMLINK:
		return BLOB_KIND_SYMLINK;
	case CACHE_FIFO:
		return BLOB_KIND_FIFO;
	case CACHE_SOCKET:
		return BLOB_KIND_SOCKET;
	case CACHE_CHAR:
		return BLOB_KIND_CHAR;
	case CACHE_BLOCK:
		return BLOB_KIND_BLOCK;
	case CACHE_FILE:
	case CACHE_GONE:
		break;
	}
	return BLOB_KIND_FILE;
}

static void add_pair(struct base_str *s, char where, const struct blob_kv *pair)
{
	base_str_putc(s, where);
	base_str_add(s, pair->key, strlen(pair->key) + 1);
	base_str_add(s, pair->value, strlen(pair->value) + 1);
}

/* What a store says of a blob that nobody said anything of. */
static bool is_default(const struct blob_kv *header)
{
	return strcmp(header->key, "content-type") == 0 &&
		strcmp(header->value, "application/octet-stream") == 0;
}

static void pack_foreign(
	const struct blob_props *props, void **ret, size_t *ret_bytes)
{
	struct base_str s = BASE_STR_INIT;

	base_str_putc(&s, 1);
	for (size_t i = 0; i < props->meta_nr; i++) {
		if (!blob_meta_is_ours(props->meta[i].key))
			add_pair(&s, FOREIGN_META, &props->meta[i]);
	}
	for (size_t i = 0; i < props->headers_nr; i++) {
		if (!is_default(&props->headers[i]))
			add_pair(&s, FOREIGN_HEADER, &props->headers[i]);
	}
	*ret_bytes = s.len;
	*ret = base_str_take(&s);
	if (*ret_bytes == 1) {
		free(*ret);
		*ret = NULL;
		*ret_bytes = 0;
	}
}

/* The pairs of one place, pointing into the packed bytes. */
static void unpack_foreign(const void *packed, size_t bytes, char where,
	struct blob_kv **ret, size_t *ret_nr)
{
	const char *p = packed, *end = bytes > 0 ? p + bytes : p;
	struct blob_kv *kv = NULL;
	size_t nr = 0;

	if (bytes > 0 && *p == 1)
		p++;
	else
		p = end;
	while (p < end) {
		char at = *p++;
		const char *key = p, *value;

		value = memchr(key, '\0', (size_t)(end - key));
		if (value == NULL)
			break;
		value++;
		p = memchr(value, '\0', (size_t)(end - value));
		if (p == NULL)
			break;
		p++;
		if (at != where)
			continue;
		kv = base_realloc(kv, (nr + 1) * sizeof(*kv));
		kv[nr].key = (char *)key;
		kv[nr++].value = (char *)value;
	}
	*ret = kv;
	*ret_nr = nr;
}

static void pack_parents(
	const struct blob_mark *mark, void **ret, size_t *ret_bytes)
{
	struct base_str s = BASE_STR_INIT;

	*ret = NULL;
	*ret_bytes = 0;
	if (mark->parents_nr == 0)
		return;
	base_str_putc(&s, 1);
	for (unsigned i = 0; i < mark->parents_nr; i++) {
		base_str_add(&s, mark->parents[i].host, CACHE_ID_BYTES);
		base_str_add(&s, &mark->parents[i].number, sizeof(uint64_t));
	}
	*ret_bytes = s.len;
	*ret = base_str_take(&s);
}

static unsigned unpack_parents(const void *packed, size_t bytes,
	struct blob_commit_id ret[BLOB_PARENTS_MAX])
{
	const char *p = packed;
	unsigned nr = 0;

	if (bytes == 0 || *p != 1)
		return 0;
	p++;
	bytes--;
	while (nr < BLOB_PARENTS_MAX && bytes >= PARENT_BYTES) {
		memcpy(ret[nr].host, p, CACHE_ID_BYTES);
		memcpy(&ret[nr].number, p + CACHE_ID_BYTES, sizeof(uint64_t));
		p += PARENT_BYTES;
		bytes -= PARENT_BYTES;
		nr++;
	}
	return nr;
}

/* The base's own commit first, then its parents, the oldest falling off. */
static unsigned next_parents(const struct cache_remote *base,
	struct blob_commit_id ret[BLOB_PARENTS_MAX])
{
	struct blob_commit_id old[BLOB_PARENTS_MAX];
	unsigned nr = 0, old_nr;

	if (base == NULL)
		return 0;
	old_nr = unpack_parents(base->parents, base->parents_bytes, old);
	if (base->commit_number != 0) {
		memcpy(ret[nr].host, base->commit_host.bytes, CACHE_ID_BYTES);
		ret[nr++].number = base->commit_number;
	}
	for (unsigned i = 0; i < old_nr && nr < BLOB_PARENTS_MAX; i++)
		ret[nr++] = old[i];
	return nr;
}

void tier_parents_next(
	const struct cache_remote *base, void **ret, size_t *ret_bytes)
{
	struct blob_mark mark = { 0 };

	mark.parents_nr = next_parents(base, mark.parents);
	pack_parents(&mark, ret, ret_bytes);
}

void tier_attrs_of(const struct cache_inode *inode, struct cache_attrs *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->mode = inode->mode;
	ret->uid = inode->uid;
	ret->gid = inode->gid;
	ret->rdev = inode->rdev;
	ret->mtime_ns = inode->mtime_ns;
}

bool tier_attrs_eq(const struct cache_attrs *a, const struct cache_attrs *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
		a->rdev == b->rdev && a->mtime_ns == b->mtime_ns;
}

void tier_attrs_rebase(struct cache_attrs *ours, const struct cache_attrs *base,
	const struct cache_attrs *theirs)
{
	if (ours->mode == base->mode)
		ours->mode = theirs->mode;
	if (ours->uid == base->uid)
		ours->uid = theirs->uid;
	if (ours->gid == base->gid)
		ours->gid = theirs->gid;
	if (ours->mtime_ns == base->mtime_ns)
		ours->mtime_ns = theirs->mtime_ns;
}

static void default_attrs(struct tier *tier, const struct blob_posix *posix,
	struct cache_attrs *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->uid = posix->has_uid ? posix->uid : tier->cfg.uid;
	ret->gid = posix->has_gid ? posix->gid : tier->cfg.gid;
	ret->rdev = posix->has_rdev ? posix->rdev : 0;
	ret->mtime_ns = posix->mtime_ns;
	if (posix->has_mode)
		ret->mode = posix->mode;
	else if (posix->kind == BLOB_KIND_DIR)
		ret->mode = tier->cfg.dir_mode;
	else if (posix->kind == BLOB_KIND_SYMLINK)
		ret->mode = 0777;
	else
		ret->mode = tier->cfg.file_mode;
}

static enum cache_access access_of(const struct blob_props *props)
{
	if (props->archived)
		return CACHE_ACCESS_NONE;
	if (props->immutable)
		return CACHE_ACCESS_POLICY;
	return props->type == BLOB_TYPE_APPEND || props->type == BLOB_TYPE_PAGE
		? CACHE_ACCESS_READ
		: CACHE_ACCESS_ALL;
}

void tier_remote_from_entry(struct tier *tier, const struct blob_entry *entry,
	struct cache_remote *ret, struct blob_mark *ret_mark)
{
	const struct blob_props *props = &entry->props;
	struct blob_posix posix;

	memset(ret, 0, sizeof(*ret));
	memset(ret_mark, 0, sizeof(*ret_mark));
	blob_meta_decode(entry, &posix, ret_mark);
	ret->name = base_strdup(entry->name);
	memcpy(ret->etag, props->etag, sizeof(ret->etag));
	ret->size_bytes = props->size_bytes;
	ret->kind = kind_of(posix.kind);
	ret->slash = entry->slash;
	ret->access = access_of(props);
	ret->has_md5 = props->has_md5;
	memcpy(ret->md5, props->md5, sizeof(ret->md5));
	ret->has_list = props->has_list;
	memcpy(ret->list, props->list, sizeof(ret->list));
	default_attrs(tier, &posix, &ret->attrs);
	pack_foreign(props, &ret->foreign, &ret->foreign_bytes);
	if (!ret_mark->present)
		return;
	memcpy(ret->file.bytes, ret_mark->file, CACHE_ID_BYTES);
	memcpy(ret->commit_host.bytes, ret_mark->commit.host, CACHE_ID_BYTES);
	ret->commit_number = ret_mark->commit.number;
	pack_parents(ret_mark, &ret->parents, &ret->parents_bytes);
}

void tier_remote_from_props(struct tier *tier, const char *name,
	const struct blob_props *props, struct cache_remote *ret,
	struct blob_mark *ret_mark)
{
	struct blob_entry entry = {
		.name = (char *)name,
		.props = *props,
	};

	tier_remote_from_entry(tier, &entry, ret, ret_mark);
}

int tier_meta_make(struct tier *tier, enum cache_kind kind,
	const struct cache_attrs *attrs, const struct cache_id *content,
	const struct cache_id *file, uint64_t commit,
	const struct cache_remote *base, const struct cache_remote *notes,
	struct tier_meta *ret)
{
	struct blob_kv *foreign = NULL, *headers = NULL;
	size_t foreign_nr = 0, headers_nr = 0;
	struct blob_mark mark = { .present = true };
	struct blob_posix posix = {
		.kind = kind_to(kind),
		.has_mode = true,
		.has_uid = true,
		.has_gid = true,
		.has_rdev = kind == CACHE_CHAR || kind == CACHE_BLOCK,
		.mode = attrs->mode & 07777,
		.uid = attrs->uid,
		.gid = attrs->gid,
		.rdev = attrs->rdev,
		.mtime_ns = attrs->mtime_ns,
	};
	int err;

	memset(ret, 0, sizeof(*ret));
	memcpy(mark.content, content->bytes, CACHE_ID_BYTES);
	memcpy(mark.file, file->bytes, CACHE_ID_BYTES);
	memcpy(mark.commit.host, cache_host(tier->cache)->bytes,
		CACHE_ID_BYTES);
	mark.commit.number = commit;
	mark.parents_nr = next_parents(base, mark.parents);
	if (notes != NULL && notes->foreign_bytes > 0) {
		unpack_foreign(notes->foreign, notes->foreign_bytes,
			FOREIGN_META, &foreign, &foreign_nr);
		unpack_foreign(notes->foreign, notes->foreign_bytes,
			FOREIGN_HEADER, &headers, &headers_nr);
	}
	err = blob_meta_encode(
		&posix, &mark, foreign, foreign_nr, &ret->meta, &ret->meta_nr);
	if (err == 0)
		err = blob_kv_copy(&ret->headers, headers, headers_nr);
	if (err == 0)
		ret->headers_nr = headers_nr;
	free(foreign);
	free(headers);
	if (err < 0)
		tier_meta_fini(ret);
	return err;
}

void tier_meta_add_header(
	struct tier_meta *meta, const char *key, const char *value)
{
	meta->headers = base_realloc(
		meta->headers, (meta->headers_nr + 1) * sizeof(*meta->headers));
	meta->headers[meta->headers_nr].key = base_strdup(key);
	meta->headers[meta->headers_nr++].value = base_strdup(value);
}

static size_t count_headers(const struct cache_remote *remote, bool tags)
{
	struct blob_kv *headers = NULL;
	size_t nr = 0, found = 0;

	unpack_foreign(remote->foreign, remote->foreign_bytes, FOREIGN_HEADER,
		&headers, &nr);
	for (size_t i = 0; i < nr; i++) {
		if (strcmp(headers[i].key, BLOB_TAG_COUNT) == 0)
			found += tags;
		else if (strncmp(headers[i].key, "x-ms-", 5) != 0)
			found += !tags;
	}
	free(headers);
	return found;
}

bool tier_has_tags(const struct cache_remote *remote)
{
	return count_headers(remote, true) > 0;
}

bool tier_has_headers(const struct cache_remote *remote)
{
	return count_headers(remote, false) > 0;
}

void tier_meta_fini(struct tier_meta *meta)
{
	blob_kv_free(meta->meta, meta->meta_nr);
	blob_kv_free(meta->headers, meta->headers_nr);
	memset(meta, 0, sizeof(*meta));
}
