/*
 * What metadata mean: see store.h; keys and rules in AZURE.md section 3.2,
 * the packed key `forebay` in WRITEBACK.md section 2.
 *
 * On the wire `forebay` is base64url of
 *	version (1 byte, 1), content (16), file (16), commit (24),
 *	number of parents (1 byte), parents (24 each)
 * where a commit is the host (16) and its number (8, big endian); with eight
 * parents that is 250 bytes, 334 characters of the 512 allowed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/str.h"
#include "blob/meta_time.h"
#include "blob/store.h"

/* statx's mask of what a reader may apply: MODE, UID, GID, ATIME, MTIME,
 * CTIME.  Without one AzCopy applies everything, missing keys as zero. */
#define MASK_MODE 0x02
#define MASK_UID 0x08
#define MASK_GID 0x10
#define MASK_TIMES 0xe0

#define MARK_VERSION 1
#define COMMIT_BYTES (BLOB_ID_BYTES + 8)
#define MARK_FIXED_BYTES (1 + 2 * BLOB_ID_BYTES + COMMIT_BYTES + 1)
#define MARK_BYTES_MAX (MARK_FIXED_BYTES + BLOB_PARENTS_MAX * COMMIT_BYTES)

/* Keys that we write, and those of other tools that say the same: kept, they
 * would contradict ours, or (owner, group) change how ours are read. */
static const char *const our_keys[] = { "permissions", "posix_owner",
	"posix_group", "modtime", "posix_atime", "posix_ctime", "posix_nlink",
	"linux_statx_mask", "is_symlink", "hdi_isfolder", "posix_rdev", "mtime",
	"forebay", "owner", "group", "is_fifo", "is_socket", "is_char_dev",
	"is_block_dev" };

static const struct {
	enum blob_kind kind;
	uint32_t type;
} types[] = {
	{ BLOB_KIND_FILE, S_IFREG },
	{ BLOB_KIND_DIR, S_IFDIR },
	{ BLOB_KIND_SYMLINK, S_IFLNK },
	{ BLOB_KIND_FIFO, S_IFIFO },
	{ BLOB_KIND_SOCKET, S_IFSOCK },
	{ BLOB_KIND_CHAR, S_IFCHR },
	{ BLOB_KIND_BLOCK, S_IFBLK },
};
#define TYPES_NR (sizeof(types) / sizeof(types[0]))

bool blob_meta_is_ours(const char *key)
{
	for (size_t i = 0; i < sizeof(our_keys) / sizeof(our_keys[0]); i++)
		if (strcasecmp(key, our_keys[i]) == 0)
			return true;
	return false;
}

/* ---- reading ---- */

static const char *find(const struct blob_props *props, const char *key)
{
	for (size_t i = 0; i < props->meta_nr; i++)
		if (strcasecmp(props->meta[i].key, key) == 0)
			return props->meta[i].value;
	return NULL;
}

static bool is_true(const struct blob_props *props, const char *key)
{
	const char *v = find(props, key);

	return v != NULL && strcmp(v, "true") == 0;
}

/* "rwxr-s--T", nine characters; a tenth may be the '+' of an ACL. */
static bool parse_symbolic(const char *text, uint32_t *ret_mode)
{
	static const char letters[] = "rwxrwxrwx";
	/* What stands for x, by triad: set-id or sticky, with and without x. */
	static const char special[3][2] = { "sS", "sS", "tT" };
	size_t len = strlen(text);
	uint32_t mode = 0;

	if (len != 9 && !(len == 10 && text[9] == '+'))
		return false;
	for (unsigned i = 0; i < 9; i++) {
		uint32_t bit = 0400U >> i;

		if (text[i] == letters[i]) {
			mode |= bit;
		} else if (i % 3 == 2 && text[i] == special[i / 3][0]) {
			mode |= bit | 04000U >> (i / 3);
		} else if (i % 3 == 2 && text[i] == special[i / 3][1]) {
			mode |= 04000U >> (i / 3);
		} else if (text[i] != '-') {
			return false;
		}
	}
	*ret_mode = mode;
	return true;
}

/* Permission bits, and the file type if the value carries one (0: none). */
static bool parse_permissions(
	const struct blob_props *props, uint32_t *ret_mode, uint32_t *ret_type)
{
	const char *v = find(props, "permissions");
	bool octal =
		find(props, "owner") != NULL || find(props, "group") != NULL;
	uint64_t n;

	*ret_type = 0;
	if (v == NULL)
		return false;
	if (parse_symbolic(v, ret_mode))
		return true;
	octal = octal || (v[0] == '0' && v[1] != '\0'); /* AzCopy's own rule */
	if (!blob_meta_parse_number(v, octal ? 8 : 10, UINT32_MAX, &n))
		return false;
	*ret_mode = n & 07777;
	if (!octal && n > 07777)
		*ret_type = n & S_IFMT;
	return true;
}

static bool is_kind(uint32_t type, enum blob_kind *ret_kind)
{
	for (size_t i = 0; i < TYPES_NR; i++) {
		if (types[i].type == type) {
			*ret_kind = types[i].kind;
			return true;
		}
	}
	return false;
}

static enum blob_kind find_kind(const struct blob_entry *entry, uint32_t type)
{
	const struct blob_props *props = &entry->props;
	enum blob_kind kind;

	if (entry->prefix || props->type == BLOB_TYPE_DIR)
		return BLOB_KIND_DIR;
	if (is_kind(type, &kind))
		return kind;
	if (is_true(props, "is_symlink"))
		return BLOB_KIND_SYMLINK;
	if (is_true(props, "hdi_isfolder"))
		return BLOB_KIND_DIR;
	return entry->slash && props->size_bytes == 0 ? BLOB_KIND_DIR
						      : BLOB_KIND_FILE;
}

/* An id; -1 means "leave it" to chown and is none. */
static bool parse_id(const struct blob_props *props, const char *key,
	const char *older_key, uint32_t *ret)
{
	uint64_t n;

	if (!blob_meta_parse_number(find(props, key), 10, UINT32_MAX - 1, &n) &&
		!blob_meta_parse_number(
			find(props, older_key), 10, UINT32_MAX - 1, &n))
		return false;
	*ret = (uint32_t)n;
	return true;
}

static uint64_t get_be64(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

static void put_be64(uint8_t *p, uint64_t n)
{
	for (int i = 7; i >= 0; i--, n >>= 8)
		p[i] = (uint8_t)n;
}

static const uint8_t *get_commit(const uint8_t *p, struct blob_commit_id *ret)
{
	memcpy(ret->host, p, BLOB_ID_BYTES);
	ret->number = get_be64(p + BLOB_ID_BYTES);
	return p + COMMIT_BYTES;
}

static void parse_mark(const char *text, struct blob_mark *ret)
{
	uint8_t buf[MARK_BYTES_MAX];
	const uint8_t *p = buf;
	size_t len;
	unsigned nr;

	if (text == NULL ||
		base_base64_decode_buf(BASE_BASE64_URL, text, strlen(text), buf,
			sizeof(buf), &len) < 0)
		return;
	if (len < MARK_FIXED_BYTES || *p++ != MARK_VERSION)
		return;
	nr = buf[MARK_FIXED_BYTES - 1];
	if (nr > BLOB_PARENTS_MAX ||
		len != MARK_FIXED_BYTES + nr * COMMIT_BYTES)
		return;
	memcpy(ret->content, p, BLOB_ID_BYTES);
	p += BLOB_ID_BYTES;
	memcpy(ret->file, p, BLOB_ID_BYTES);
	p += BLOB_ID_BYTES;
	p = get_commit(p, &ret->commit);
	p++; /* the number of parents */
	for (unsigned i = 0; i < nr; i++)
		p = get_commit(p, &ret->parents[i]);
	ret->parents_nr = nr;
	ret->present = true;
}

void blob_meta_decode(const struct blob_entry *entry, struct blob_posix *ret,
	struct blob_mark *ret_mark)
{
	const struct blob_props *props = &entry->props;
	uint32_t type;

	memset(ret, 0, sizeof(*ret));
	memset(ret_mark, 0, sizeof(*ret_mark));
	ret->has_mode = parse_permissions(props, &ret->mode, &type);
	ret->kind = find_kind(entry, type);
	ret->has_uid = parse_id(props, "owner", "posix_owner", &ret->uid);
	ret->has_gid = parse_id(props, "group", "posix_group", &ret->gid);
	ret->has_rdev = blob_meta_parse_number(
		find(props, "posix_rdev"), 10, UINT64_MAX, &ret->rdev);
	/* We write both times equal; if they differ, rclone has edited in
	 * place, which changes `mtime` alone. */
	if (!blob_meta_parse_mtime(find(props, "mtime"), &ret->mtime_ns) &&
		!blob_meta_parse_modtime(
			find(props, "modtime"), &ret->mtime_ns))
		ret->mtime_ns = props->mtime_ns;
	parse_mark(find(props, "forebay"), ret_mark);
}

/* ---- writing ---- */

/* A list that grows; room is made for all beforehand. */
struct list {
	struct blob_kv *kv;
	size_t nr;
	size_t bytes;
};

static void add(struct list *l, const char *key, const char *value)
{
	l->kv[l->nr].key = base_strdup(key);
	l->kv[l->nr].value = base_strdup(value);
	l->nr++;
	l->bytes += strlen(key) + strlen(value);
}

static void add_number(struct list *l, const char *key, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	add(l, key, text);
}

static void add_times(struct list *l, int64_t mtime_ns)
{
	char text[BLOB_META_MTIME_BYTES];

	snprintf(text, sizeof(text), "%lld", (long long)mtime_ns);
	add(l, "modtime", text);
	/* AzCopy wants its full set.  atime never goes to the store, and ctime
	 * is each host's own: the time of the content stands for both. */
	add(l, "posix_atime", text);
	add(l, "posix_ctime", text);
	blob_meta_print_mtime(mtime_ns, text);
	add(l, "mtime", text);
}

static void add_posix(struct list *l, const struct blob_posix *posix)
{
	uint32_t mode = posix->has_mode ? posix->mode & 07777 : 0644;
	uint32_t type = S_IFREG, mask = MASK_TIMES;
	bool flagged = posix->kind == BLOB_KIND_SYMLINK ||
		posix->kind == BLOB_KIND_DIR;

	for (size_t i = 0; i < TYPES_NR; i++)
		if (types[i].kind == posix->kind)
			type = types[i].type;
	/* A fifo is known by its type bits alone, so those are always there. */
	if (posix->has_mode || (!flagged && type != S_IFREG)) {
		add_number(l, "permissions", type | mode);
		mask |= MASK_MODE;
	}
	if (posix->has_uid) {
		add_number(l, "posix_owner", posix->uid);
		mask |= MASK_UID;
	}
	if (posix->has_gid) {
		add_number(l, "posix_group", posix->gid);
		mask |= MASK_GID;
	}
	add_times(l, posix->mtime_ns);
	add(l, "posix_nlink", "1");
	add_number(l, "linux_statx_mask", mask);
	if (flagged)
		add(l,
			posix->kind == BLOB_KIND_DIR ? "hdi_isfolder"
						     : "is_symlink",
			"true");
	if (posix->has_rdev)
		add_number(l, "posix_rdev", posix->rdev);
}

static uint8_t *put_commit(uint8_t *p, const struct blob_commit_id *commit)
{
	memcpy(p, commit->host, BLOB_ID_BYTES);
	put_be64(p + BLOB_ID_BYTES, commit->number);
	return p + COMMIT_BYTES;
}

static void add_mark(struct list *l, const struct blob_mark *mark)
{
	struct base_str text = BASE_STR_INIT;
	uint8_t buf[MARK_BYTES_MAX], *p = buf;
	unsigned nr = mark->parents_nr;

	if (nr > BLOB_PARENTS_MAX)
		nr = BLOB_PARENTS_MAX;
	*p++ = MARK_VERSION;
	memcpy(p, mark->content, BLOB_ID_BYTES);
	p += BLOB_ID_BYTES;
	memcpy(p, mark->file, BLOB_ID_BYTES);
	p += BLOB_ID_BYTES;
	p = put_commit(p, &mark->commit);
	*p++ = (uint8_t)nr;
	for (unsigned i = 0; i < nr; i++)
		p = put_commit(p, &mark->parents[i]);
	base_base64url_encode(buf, (size_t)(p - buf), &text);
	add(l, "forebay", text.data);
	base_str_fini(&text);
}

int blob_meta_encode(const struct blob_posix *posix,
	const struct blob_mark *mark, const struct blob_kv *foreign,
	size_t foreign_nr, struct blob_kv **ret_kv, size_t *ret_nr)
{
	size_t room = sizeof(our_keys) / sizeof(our_keys[0]) + foreign_nr;
	struct list l = { base_calloc(room, sizeof(*l.kv)), 0, 0 };

	add_posix(&l, posix);
	if (mark != NULL && mark->present)
		add_mark(&l, mark);
	for (size_t i = 0; i < foreign_nr; i++)
		if (!blob_meta_is_ours(foreign[i].key))
			add(&l, foreign[i].key, foreign[i].value);
	if (l.bytes > BLOB_META_BYTES_MAX) {
		blob_kv_free(l.kv, l.nr);
		return -E2BIG;
	}
	*ret_kv = l.kv;
	*ret_nr = l.nr;
	return 0;
}

void blob_kv_free(struct blob_kv *kv, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		free(kv[i].key);
		free(kv[i].value);
	}
	free(kv);
}

int blob_kv_copy(struct blob_kv **ret_kv, const struct blob_kv *kv, size_t nr)
{
	struct list l = { base_calloc(nr, sizeof(*l.kv)), 0, 0 };

	for (size_t i = 0; i < nr; i++)
		add(&l, kv[i].key, kv[i].value);
	*ret_kv = l.kv;
	return 0;
}
