/*
 * The service's XML: see azure_list.h.
 *
 * Only the places below are looked at; all else is skipped, so that a newer
 * service may add what it likes.
 *
 *	EnumerationResults
 *		NextMarker
 *		Blobs
 *			Blob
 *				Name, Deleted, Snapshot
 *				Properties / Etag, Content-Length, ...
 *				Metadata / KEY
 *			BlobPrefix
 *				Name
 *	BlockList
 *		CommittedBlocks
 *			Block
 *				Name, Size
 *	Tags
 *		TagSet
 *			Tag
 *				Key, Value
 *
 * Expat's own guard against entities that multiply stays on, and a document
 * type is refused: the service sends none.
 */
#include "blob/azure_list.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/log.h"
#include "base/str.h"
#include "blob/azure_props.h"
#include "blob/header.h"
#include "blob/name.h"

#define DEPTH_MAX 8

struct blob_list {
	enum blob_list_kind kind;
	char *strip, *only;
	XML_Parser xml;
	int err;
	size_t fed_bytes, kept_bytes;
	/* Where we are: element names from the root. */
	struct base_str path[DEPTH_MAX];
	unsigned depth; /* may exceed DEPTH_MAX: then skipped */
	struct base_str text;
	/* The item being read. */
	struct base_str name;
	bool name_escaped, skip, tier_inferred;
	char *tier;
	struct blob_entry entry;
	struct blob_block block;
	bool block_named;
	/* Results. */
	struct blob_entry *entries;
	size_t entries_nr, entries_cap;
	struct blob_block *blocks;
	size_t blocks_nr, blocks_cap;
	char *next;
	struct base_str tags;
	unsigned dropped;
};

static void fail(struct blob_list *l, int err)
{
	if (l->err == 0)
		l->err = err;
	XML_StopParser(l->xml, XML_FALSE);
}

/* Counts what is kept; false: too much. */
static bool keep(struct blob_list *l, size_t bytes)
{
	l->kept_bytes += bytes + 32;
	if (l->kept_bytes <= BLOB_LIST_KEPT_MAX)
		return true;
	fail(l, -E2BIG);
	return false;
}

/* Is the element at `depth` (1 is the root) called that? */
static bool at(struct blob_list *l, unsigned depth, const char *name)
{
	return l->depth >= depth && strcmp(l->path[depth - 1].data, name) == 0;
}

/* ---- names ---- */

static int unhex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* <Name Encoded="true">: percent-encoded, as XML cannot hold it. */
static void unescape(struct base_str *s)
{
	size_t in = 0, out = 0;

	while (in < s->len) {
		if (s->data[in] == '%' && in + 2 < s->len &&
			unhex(s->data[in + 1]) >= 0 &&
			unhex(s->data[in + 2]) >= 0) {
			s->data[out++] = (char)(unhex(s->data[in + 1]) * 16 +
				unhex(s->data[in + 2]));
			in += 3;
		} else {
			s->data[out++] = s->data[in++];
		}
	}
	s->len = out;
	s->data[out] = '\0';
}

/* The blob's name to the entry's; false: not to be shown. */
static bool set_name(struct blob_list *l, struct blob_entry *e, bool prefix)
{
	struct base_str path = BASE_STR_INIT;
	size_t strip = strlen(l->strip), len = l->name.len;
	const char *name;
	bool slash, wanted;

	if (l->name_escaped && len > 0)
		unescape(&l->name);
	len = l->name.len;
	if (len == 0 || len < strip ||
		memcmp(l->name.data, l->strip, strip) != 0)
		return false;
	name = l->name.data + strip;
	len -= strip;
	slash = len == 0 || name[len - 1] == '/';
	if (len == 0) /* the marker of the store's own prefix */
		base_str_add(&path, "", 0);
	else if (blob_name_decode(name, len - slash, &path) != 0)
		return false;
	base_str_puts(&path, slash ? "/" : "");
	wanted = l->only == NULL ||
		strncmp(path.data, l->only, strlen(l->only)) == 0;
	if (!wanted || !keep(l, path.len)) {
		base_str_fini(&path);
		return false;
	}
	if (slash)
		path.data[--path.len] = '\0';
	e->name = base_str_take(&path);
	e->prefix = prefix;
	e->slash = slash && !prefix;
	return true;
}

static void clear_item(struct blob_list *l)
{
	free(l->entry.name);
	blob_props_fini(&l->entry.props);
	memset(&l->entry, 0, sizeof(l->entry));
	free(l->tier);
	l->tier = NULL;
	base_str_clear(&l->name);
	l->name_escaped = l->skip = l->tier_inferred = false;
}

static void end_item(struct blob_list *l, bool prefix)
{
	struct blob_props *p = &l->entry.props;

	if (prefix)
		blob_props_fini(p);
	else if (l->tier != NULL && !l->tier_inferred)
		blob_azure_kv_add(&p->headers, &p->headers_nr,
			"x-ms-access-tier", l->tier);
	if (l->entries_nr >= BLOB_LIST_NAMES_MAX) {
		fail(l, -E2BIG);
	} else if (l->skip || (!prefix && p->etag[0] == '\0') ||
		!set_name(l, &l->entry, prefix)) {
		l->dropped++;
	} else {
		if (l->entries_nr == l->entries_cap) {
			l->entries_cap =
				l->entries_cap ? l->entries_cap * 2 : 64;
			l->entries = base_realloc(l->entries,
				l->entries_cap * sizeof(*l->entries));
		}
		if (keep(l, sizeof(l->entry))) {
			l->entries[l->entries_nr++] = l->entry;
			memset(&l->entry, 0, sizeof(l->entry));
		}
	}
	clear_item(l);
}

/* ---- properties ---- */

/* XML element to our header's name; NULL: not one. */
static const char *content_header(const char *element)
{
	static const char *const pairs[][2] = { { "Content-Type",
							"content-type" },
		{ "Content-Encoding", "content-encoding" },
		{ "Content-Language", "content-language" },
		{ "Content-Disposition", "content-disposition" },
		{ "Cache-Control", "cache-control" },
		{ "EncryptionScope", "x-ms-encryption-scope" } };
	size_t i;

	for (i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
		if (strcasecmp(element, pairs[i][0]) == 0)
			return pairs[i][1];
	return NULL;
}

static enum blob_type parse_type(const char *text)
{
	if (strcmp(text, "AppendBlob") == 0)
		return BLOB_TYPE_APPEND;
	if (strcmp(text, "PageBlob") == 0)
		return BLOB_TYPE_PAGE;
	return BLOB_TYPE_BLOCK;
}

static void end_property(struct blob_list *l, const char *key, const char *text)
{
	struct blob_props *p = &l->entry.props;
	const char *header = content_header(key);

	if (text[0] == '\0') {
		return;
	} else if (header != NULL) {
		if (keep(l, strlen(text)))
			blob_azure_kv_add(
				&p->headers, &p->headers_nr, header, text);
	} else if (strcasecmp(key, "Etag") == 0) {
		blob_azure_etag(text, p->etag);
	} else if (strcasecmp(key, "Content-Length") == 0) {
		/* An uncommitted or broken size must not look like a file. */
		if (blob_header_u64(text, &p->size_bytes) != 0)
			l->skip = true;
	} else if (strcasecmp(key, "Last-Modified") == 0) {
		blob_azure_date_ns(text, &p->mtime_ns);
	} else if (strcasecmp(key, "Content-MD5") == 0) {
		p->has_md5 = blob_azure_md5(text, p->md5);
	} else if (strcasecmp(key, "BlobType") == 0) {
		if (p->type != BLOB_TYPE_DIR)
			p->type = parse_type(text);
	} else if (strcasecmp(key, "ResourceType") == 0) {
		if (strcasecmp(text, "directory") == 0)
			p->type = BLOB_TYPE_DIR;
	} else if (strcasecmp(key, "AccessTier") == 0) {
		p->archived = strcasecmp(text, "Archive") == 0;
		free(l->tier);
		l->tier = base_strdup(text);
	} else if (strcasecmp(key, "AccessTierInferred") == 0) {
		l->tier_inferred = strcasecmp(text, "true") == 0;
	} else if (strcasecmp(key, "TagCount") == 0) {
		if (strcmp(text, "0") != 0 && keep(l, strlen(text)))
			blob_azure_kv_add(&p->headers, &p->headers_nr,
				BLOB_TAG_COUNT, text);
	} else if (strcasecmp(key, "ImmutabilityPolicyUntilDate") == 0) {
		p->immutable |= blob_azure_is_future(text);
	} else if (strcasecmp(key, "LegalHold") == 0) {
		p->immutable |= strcasecmp(text, "true") == 0;
	} else if (strcasecmp(key, "CopyStatus") == 0) {
		p->copy_pending = strcasecmp(text, "pending") == 0;
	}
}

static void end_names(struct blob_list *l, const char *text)
{
	bool blob = at(l, 3, "Blob"), prefix = at(l, 3, "BlobPrefix");

	if (l->depth == 2 && at(l, 2, "NextMarker")) {
		free(l->next);
		l->next = text[0] != '\0' ? base_strdup(text) : NULL;
	}
	if (!at(l, 2, "Blobs") || (!blob && !prefix))
		return;
	if (l->depth == 3) {
		end_item(l, prefix);
	} else if (l->depth == 4 && at(l, 4, "Name")) {
		base_str_clear(&l->name);
		base_str_puts(&l->name, text);
	} else if (l->depth == 4 && blob &&
		((at(l, 4, "Deleted") && strcmp(text, "true") == 0) ||
			(at(l, 4, "Snapshot") && text[0] != '\0'))) {
		l->skip = true; /* not what we asked for */
	} else if (l->depth == 5 && blob && at(l, 4, "Properties")) {
		end_property(l, l->path[4].data, text);
	} else if (l->depth == 5 && blob && at(l, 4, "Metadata")) {
		if (keep(l, l->path[4].len + strlen(text)))
			blob_azure_kv_add(&l->entry.props.meta,
				&l->entry.props.meta_nr, l->path[4].data, text);
	}
}

/* ---- blocks ---- */

static void set_block_id(struct blob_block *b, const char *text)
{
	struct base_str raw = BASE_STR_INIT;

	memset(b->id, 0, sizeof(b->id));
	b->ours = false;
	if (base_base64_decode(text, strlen(text), &raw) == 0 &&
		raw.len == BLOB_BLOCK_ID_BYTES) {
		memcpy(b->id, raw.data, raw.len);
		/* Hashes, or ranges of another blob: both stand for bytes. */
		b->ours = memcmp(b->id, "fb01", 4) == 0 ||
			memcmp(b->id, "fb02", 4) == 0;
	}
	base_str_fini(&raw);
}

static void end_block(struct blob_list *l)
{
	if (!l->block_named) {
		fail(l, -EBADMSG);
		return;
	}
	if (l->blocks_nr >= BLOB_LIST_BLOCKS_MAX) {
		fail(l, -E2BIG);
		return;
	}
	if (l->blocks_nr == l->blocks_cap) {
		l->blocks_cap = l->blocks_cap ? l->blocks_cap * 2 : 64;
		l->blocks = base_realloc(
			l->blocks, l->blocks_cap * sizeof(*l->blocks));
	}
	l->block.committed = true;
	l->blocks[l->blocks_nr++] = l->block;
	memset(&l->block, 0, sizeof(l->block));
	l->block_named = false;
}

static void end_blocks(struct blob_list *l, const char *text)
{
	if (!at(l, 2, "CommittedBlocks") || !at(l, 3, "Block"))
		return;
	if (l->depth == 3) {
		end_block(l);
	} else if (l->depth == 4 && at(l, 4, "Name")) {
		set_block_id(&l->block, text);
		l->block_named = true;
	} else if (l->depth == 4 && at(l, 4, "Size")) {
		if (blob_header_u64(text, &l->block.size_bytes) != 0)
			fail(l, -EBADMSG);
	}
}

/* ---- tags ---- */

static void end_tags(struct blob_list *l, const char *text)
{
	bool key = at(l, 4, "Key");

	if (l->depth != 4 || !at(l, 3, "Tag") || (!key && !at(l, 4, "Value")))
		return;
	if (!keep(l, strlen(text)))
		return;
	if (key && l->tags.len > 0)
		base_str_putc(&l->tags, '&');
	if (!key)
		base_str_putc(&l->tags, '=');
	blob_azure_escape(&l->tags, text, strlen(text));
}

/* ---- expat ---- */

static const char *const roots[] = {
	[BLOB_LIST_NAMES] = "EnumerationResults",
	[BLOB_LIST_BLOCKS] = "BlockList",
	[BLOB_LIST_TAGS] = "Tags",
};

static void on_start(void *arg, const char *name, const char **attrs)
{
	struct blob_list *l = arg;

	if (l->depth == 0 && strcmp(name, roots[l->kind]) != 0) {
		fail(l, -EBADMSG); /* a login page, say */
		return;
	}
	if (strlen(name) > BLOB_LIST_TEXT_MAX) {
		fail(l, -E2BIG);
		return;
	}
	if (++l->depth > DEPTH_MAX) {
		fail(l, -EBADMSG);
		return;
	}
	base_str_clear(&l->path[l->depth - 1]);
	base_str_puts(&l->path[l->depth - 1], name);
	base_str_clear(&l->text);
	if (l->depth == 4 && at(l, 4, "Name"))
		for (; attrs[0] != NULL; attrs += 2)
			if (strcmp(attrs[0], "Encoded") == 0)
				l->name_escaped = strcmp(attrs[1], "true") == 0;
}

static void on_end(void *arg, const char *name)
{
	struct blob_list *l = arg;
	const char *text = l->text.data != NULL ? l->text.data : "";

	(void)name;
	if (l->err != 0)
		return;
	if (l->kind == BLOB_LIST_NAMES)
		end_names(l, text);
	else if (l->kind == BLOB_LIST_BLOCKS)
		end_blocks(l, text);
	else
		end_tags(l, text);
	base_str_clear(&l->text);
	l->depth--;
}

static void on_text(void *arg, const char *text, int len)
{
	struct blob_list *l = arg;

	if (l->err != 0)
		return;
	if (l->text.len + (size_t)len > BLOB_LIST_TEXT_MAX)
		fail(l, -E2BIG);
	else
		base_str_add(&l->text, text, (size_t)len);
}

static void on_doctype(void *arg, const char *name, const char *sysid,
	const char *pubid, int internal)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)internal;
	fail(arg, -EBADMSG);
}

struct blob_list *blob_list_new(
	enum blob_list_kind kind, const char *strip, const char *only)
{
	struct blob_list *l = base_calloc(1, sizeof(*l));

	l->kind = kind;
	l->strip = base_strdup(strip);
	l->only = only != NULL ? base_strdup(only) : NULL;
	/* The service declares UTF-8; a byte-order mark is understood. */
	l->xml = XML_ParserCreate("UTF-8");
	if (l->xml == NULL)
		abort();
	XML_SetUserData(l->xml, l);
	XML_SetElementHandler(l->xml, on_start, on_end);
	XML_SetCharacterDataHandler(l->xml, on_text);
	XML_SetStartDoctypeDeclHandler(l->xml, on_doctype);
	return l;
}

int blob_list_feed(struct blob_list *l, const void *buf, size_t len)
{
	const char *p = buf;

	l->fed_bytes += len;
	if (l->err == 0 && l->fed_bytes > BLOB_LIST_BYTES_MAX)
		l->err = -E2BIG;
	while (l->err == 0 && len > 0) {
		int part = len > (1 << 20) ? 1 << 20 : (int)len;

		if (XML_Parse(l->xml, p, part, 0) != XML_STATUS_OK &&
			l->err == 0)
			l->err = -EBADMSG;
		p += part;
		len -= (size_t)part;
	}
	return l->err;
}

int blob_list_end(struct blob_list *l)
{
	if (l->err == 0 && XML_Parse(l->xml, "", 0, 1) != XML_STATUS_OK &&
		l->err == 0)
		l->err = -EBADMSG;
	if (l->err == 0 && l->dropped > 0)
		log_debug("listing: %u names cannot be shown", l->dropped);
	return l->err;
}

void blob_list_take(struct blob_list *l, struct blob_req *req)
{
	if (l->kind == BLOB_LIST_NAMES) {
		req->page.entries = l->entries;
		req->page.entries_nr = l->entries_nr;
		req->page.next = l->next;
		l->entries = NULL;
		l->entries_nr = l->entries_cap = 0;
		l->next = NULL;
	} else if (l->kind == BLOB_LIST_TAGS) {
		req->tags = base_str_take(&l->tags);
	} else {
		req->blocks.blocks = l->blocks;
		req->blocks.blocks_nr = l->blocks_nr;
		l->blocks = NULL;
		l->blocks_nr = l->blocks_cap = 0;
	}
}

void blob_list_free(struct blob_list *l)
{
	size_t i;

	if (l == NULL)
		return;
	clear_item(l);
	for (i = 0; i < l->entries_nr; i++) {
		free(l->entries[i].name);
		blob_props_fini(&l->entries[i].props);
	}
	for (i = 0; i < DEPTH_MAX; i++)
		base_str_fini(&l->path[i]);
	base_str_fini(&l->text);
	base_str_fini(&l->name);
	base_str_fini(&l->tags);
	free(l->entries);
	free(l->blocks);
	free(l->next);
	free(l->strip);
	free(l->only);
	XML_ParserFree(l->xml);
	free(l);
}
