/*
 * The second writer: any tool, and another host's forebay.  Its requests are
 * applied at once.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/model/blobs.h"
#include "tier/limits.h"

/* What it takes away was taken away on purpose. */
static void kill_version(struct model *m, struct mblob *b)
{
	if (b->there && b->version >= 0)
		m->versions[b->version].killed = true;
}

/* Another host's forebay: its commit follows the one in place; `file`: it puts a
 * file there, whatever that was. */
static void set_mark(
	struct model *m, struct mblob *b, bool same_bytes, bool file)
{
	struct blob_entry entry = { .name = b->name };
	struct blob_posix posix;
	struct blob_mark mark, was;
	struct blob_kv *kv;
	size_t nr;

	entry.props.meta = b->meta;
	entry.props.meta_nr = b->meta_nr;
	blob_meta_decode(&entry, &posix, &was);
	mark = was;
	if (file && posix.kind != BLOB_KIND_FILE) {
		posix.kind = BLOB_KIND_FILE;
		posix.mode = 0644;
	}
	if (!was.present || !same_bytes) {
		for (size_t i = 0; i < sizeof(mark.content); i++)
			mark.content[i] = (uint8_t)rnd_next(&m->rnd);
	}
	if (!was.present) {
		for (size_t i = 0; i < sizeof(mark.file); i++)
			mark.file[i] = (uint8_t)rnd_next(&m->rnd);
	}
	if (was.present) {
		mark.parents[0] = was.commit;
		mark.parents_nr = 1;
		for (unsigned i = 0; i < was.parents_nr &&
			mark.parents_nr < BLOB_PARENTS_MAX;
			i++)
			mark.parents[mark.parents_nr++] = was.parents[i];
	} else {
		mark.parents_nr = 0;
	}
	mark.present = true;
	memset(mark.commit.host, 0xf0, sizeof(mark.commit.host));
	mark.commit.number = ++m->texts;
	assert(blob_meta_encode(&posix, &mark, b->meta, b->meta_nr, &kv, &nr) ==
		0);
	mstore_set_meta(b, kv, nr);
	blob_kv_free(kv, nr);
}

void foreign_put(
	struct model *m, const char *name, int version, enum foreign how)
{
	struct mblob *b = mstore_blob(m, name);
	bool was_there = b->there;
	int was = b->version;

	/* Large ones that were staged in blocks carry no MD5: nobody can tell. */
	b->edited |= !was_there || was != version ||
		m->versions[version].size > TIER_BLOCK_BYTES_1;
	if (was != version)
		kill_version(m, b);
	if (!was_there && was >= 0)
		count(m, COUNT_FOREIGN_AGAIN);
	count(m,
		how == FOREIGN_PLAIN	      ? COUNT_FOREIGN_PUT
			: how == FOREIGN_KEEP ? COUNT_FOREIGN_KEEP
					      : COUNT_FOREIGN_HOST);
	if (!was_there || how == FOREIGN_PLAIN) {
		mstore_set_meta(b, NULL, 0);
		b->tag = 0;
	}
	b->there = true;
	b->touched = true;
	b->version = version;
	b->foreign = version;
	b->has_md5 = true;
	mstore_drop_blocks(&b->blocks, &b->blocks_nr);
	mstore_drop_blocks(&b->staged, &b->staged_nr);
	if (how == FOREIGN_HOST)
		set_mark(m, b, was == version, true);
	mstore_new_etag(m, b);
	check_applied(m, b, was_there, was, true, "PUT");
}

void foreign_mkdir(struct model *m, const char *name)
{
	struct blob_kv kv = { (char *)"hdi_isfolder", (char *)"true" };
	struct mblob *b = mstore_blob(m, name);
	bool was_there = b->there;

	if (was_there)
		kill_version(m, b);
	count(m, COUNT_FOREIGN_DIR);
	b->there = true;
	b->touched = b->edited = true;
	b->foreign = -1;
	b->tag = 0;
	b->version = version_add(m, "", 0, 0, true);
	b->has_md5 = true;
	mstore_set_meta(b, &kv, 1);
	mstore_new_etag(m, b);
	check_applied(m, b, was_there, -1, true, "PUT");
}

void foreign_delete(struct model *m, const char *name)
{
	struct mblob *b = mstore_blob(m, name);
	int was = b->version;

	if (!b->there)
		return;
	kill_version(m, b);
	count(m, COUNT_FOREIGN_DELETE);
	b->there = false;
	b->touched = true;
	b->foreign = -1;
	b->tag = 0;
	mstore_drop_blocks(&b->blocks, &b->blocks_nr);
	mstore_drop_blocks(&b->staged, &b->staged_nr);
	check_applied(m, b, true, was, true, "DELETE");
}

static void drop_key(struct mblob *b, const char *key)
{
	struct blob_kv *kv = mkv_find(b->meta, b->meta_nr, key);

	if (kv == NULL)
		return;
	free(kv->key);
	free(kv->value);
	*kv = b->meta[--b->meta_nr];
}

static void put_key(struct mblob *b, const char *key, const char *value)
{
	drop_key(b, key);
	b->meta = base_realloc(b->meta, (b->meta_nr + 1) * sizeof(*b->meta));
	b->meta[b->meta_nr].key = base_strdup(key);
	b->meta[b->meta_nr++].value = base_strdup(value);
}

static void note_tag(struct model *m, struct mblob *b, uint64_t tag)
{
	b->tag = tag;
	m->tags = base_realloc(m->tags, (m->tags_nr + 1) * sizeof(*m->tags));
	m->tags[m->tags_nr++] = (struct tag){ tag, base_strdup(b->name) };
}

/* how: 0 a key of its own, 1 our key dropped, 2 our key garbled, 3 the mode,
 * 4 the mode, by another forebay */
void foreign_meta(struct model *m, const char *name, unsigned how)
{
	struct mblob *b = mstore_blob(m, name);
	char text[32];

	if (!b->there)
		return;
	b->touched = true;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)++m->texts);
	if (how == 0) {
		put_key(b, "color", text);
		note_tag(m, b, m->texts);
	} else if (how == 1) {
		drop_key(b, "forebay");
	} else if (how == 2) {
		put_key(b, "forebay", text);
	} else if (mkv_find(b->meta, b->meta_nr, "is_symlink") == NULL &&
		mkv_find(b->meta, b->meta_nr, "hdi_isfolder") == NULL) {
		put_key(b, "permissions",
			rnd_pct(&m->rnd, 50) ? "33184" : "33152");
		if (how == 4)
			set_mark(m, b, true, false);
	}
	count(m, COUNT_FOREIGN_META);
	model_say(m, "    foreign metadata of %s: %s", name,
		how == 0	   ? text
			: how == 1 ? "our key dropped"
			: how == 2 ? "our key garbled"
				   : "its mode");
	mstore_new_etag(m, b);
	check_applied(m, b, true, b->version, true, "SET_META");
}

/* Along with its key. */
void foreign_copy(struct model *m, const char *from, const char *to)
{
	struct mblob *b, *source;
	bool was_there;
	int was;

	b = mstore_blob(m, to);
	source = mstore_find_blob(m, from);
	if (source == NULL || !source->there || source == b)
		return;
	was_there = b->there;
	was = b->version;
	b->edited |= !was_there || was != source->version;
	if (was != source->version)
		kill_version(m, b);
	count(m, COUNT_FOREIGN_COPY);
	b->there = true;
	b->touched = true;
	b->version = b->foreign = source->version;
	m->versions[b->version].foreign = true;
	b->has_md5 = source->has_md5;
	note_tag(m, b, source->tag);
	mstore_drop_blocks(&b->blocks, &b->blocks_nr);
	mstore_drop_blocks(&b->staged, &b->staged_nr);
	mstore_set_meta(b, source->meta, source->meta_nr);
	mstore_new_etag(m, b);
	check_applied(m, b, was_there, was, true, "COPY");
}
