/*
 * The headers of an answer: lines, then what they mean, then the metadata
 * among them (the packed key too), which must survive being written again.
 */
#include "blob/azure_props.h"
#include "blob/header.h"
#include "blob/retry.h"
#include "tests/fuzz/fuzz.h"

static bool mark_eq(const struct blob_mark *a, const struct blob_mark *b)
{
	if (a->present != b->present || a->parents_nr != b->parents_nr)
		return false;
	for (unsigned i = 0; i < a->parents_nr; i++)
		if (a->parents[i].number != b->parents[i].number ||
			memcmp(a->parents[i].host, b->parents[i].host,
				BLOB_ID_BYTES) != 0)
			return false;
	return !a->present ||
		(memcmp(a->content, b->content, BLOB_ID_BYTES) == 0 &&
			memcmp(a->file, b->file, BLOB_ID_BYTES) == 0 &&
			memcmp(a->commit.host, b->commit.host, BLOB_ID_BYTES) ==
				0 &&
			a->commit.number == b->commit.number);
}

static void check_posix(const struct blob_posix *a, const struct blob_posix *b)
{
	FUZZ_CHECK(a->kind == b->kind);
	FUZZ_CHECK(!a->has_mode || (b->has_mode && a->mode == b->mode));
	FUZZ_CHECK(!a->has_uid || (b->has_uid && a->uid == b->uid));
	FUZZ_CHECK(!a->has_gid || (b->has_gid && a->gid == b->gid));
	FUZZ_CHECK(a->mtime_ns == b->mtime_ns);
}

static void check_meta(const struct blob_props *props)
{
	struct blob_entry entry = { .name = "n", .props = *props }, again;
	struct blob_posix posix, posix2;
	struct blob_mark mark, mark2;
	struct blob_kv *kv;
	size_t nr;

	blob_meta_decode(&entry, &posix, &mark);
	FUZZ_CHECK((posix.mode & ~07777u) == 0);
	FUZZ_CHECK(mark.parents_nr <= BLOB_PARENTS_MAX);
	posix.has_mode = posix.has_uid = posix.has_gid = true;
	if (blob_meta_encode(
		    &posix, &mark, props->meta, props->meta_nr, &kv, &nr) != 0)
		return;
	again = (struct blob_entry){ .name = "n",
		.props = { .meta = kv, .meta_nr = nr } };
	blob_meta_decode(&again, &posix2, &mark2);
	check_posix(&posix, &posix2);
	FUZZ_CHECK(mark_eq(&mark, &mark2));
	blob_kv_free(kv, nr);
}

static void check_values(const struct blob_headers *h)
{
	char date[BLOB_HEADER_DATE_BYTES];
	uint64_t start, end, total;
	int64_t s, again;

	for (size_t i = 0; i < h->nr; i++) {
		const char *value = h->kv[i].value;

		blob_header_u64(value, &total);
		if (blob_header_content_range(value, &start, &end, &total) == 0)
			FUZZ_CHECK(start <= total && end <= total);
		if (blob_header_date(value, &s) == 0) {
			blob_header_format_date(s, date);
			FUZZ_CHECK(blob_header_date(date, &again) == 0);
			FUZZ_CHECK(again == s);
		}
	}
	FUZZ_CHECK(blob_retry_after_ms(h, 0) >= 0);
	FUZZ_CHECK(blob_retry_after_ms(h, 0) <= BLOB_RETRY_AFTER_MAX_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blob_headers h = { 0 };
	struct blob_props props;
	const uint8_t *end = data + size;

	while (data < end) {
		const uint8_t *nl = memchr(data, '\n', (size_t)(end - data));
		size_t len = (size_t)((nl ? nl + 1 : end) - data);

		if (blob_headers_parse(&h, (const char *)data, len) != 0)
			break;
		data += len;
	}
	check_values(&h);
	blob_azure_props_parse(&h, &props);
	check_meta(&props);
	blob_props_fini(&props);
	blob_headers_fini(&h);
	return 0;
}
