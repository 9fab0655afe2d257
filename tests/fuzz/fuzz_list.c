/* List pages and block lists, in pieces of any size. */
#include "blob/azure_list.h"
#include "tests/fuzz/fuzz.h"

#include "blob/name.h"

/* What a page says may only be names that a directory can hold. */
static void check_name(const char *name)
{
	const char *p = name;

	FUZZ_CHECK(*name != '\0' && *name != '/');
	while (*p != '\0') {
		size_t len = strcspn(p, "/");

		FUZZ_CHECK(len > 0 && len <= BLOB_NAME_COMPONENT_BYTES_MAX);
		FUZZ_CHECK(!(len == 1 && p[0] == '.'));
		FUZZ_CHECK(!(len == 2 && p[0] == '.' && p[1] == '.'));
		p += len;
		if (*p == '/')
			FUZZ_CHECK(*++p != '\0');
	}
}

static void check(const struct blob_req *req)
{
	for (size_t i = 0; i < req->page.entries_nr; i++) {
		const struct blob_entry *e = &req->page.entries[i];
		struct blob_posix posix;
		struct blob_mark mark;

		check_name(e->name);
		FUZZ_CHECK(e->prefix || e->props.etag[0] != '\0');
		if (!e->prefix)
			blob_meta_decode(e, &posix, &mark);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blob_req req = { .op = BLOB_LIST };
	struct blob_list *list;
	size_t piece, at;

	if (size < 2)
		return 0;
	piece = 1 + data[1];
	list = blob_list_new(data[0] & 1 ? BLOB_LIST_BLOCKS : BLOB_LIST_NAMES,
		data[0] & 2 ? "p/q/" : "", data[0] & 4 ? "a" : NULL);
	for (at = 2; at < size; at += piece)
		if (blob_list_feed(list, data + at,
			    size - at < piece ? size - at : piece) != 0)
			break;
	if (blob_list_end(list) == 0)
		blob_list_take(list, &req);
	blob_list_free(list);
	check(&req);
	blob_req_fini(&req);
	return 0;
}
