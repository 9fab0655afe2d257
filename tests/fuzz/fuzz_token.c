/* Answers of identity endpoints: status, a header, JSON. */
#include "blob/token_ask.h"
#include "tests/fuzz/fuzz.h"

struct input {
	const uint8_t *data;
	size_t size;
};

/* Byte 0 chooses the status, byte 1 how much is the header. */
static void answer(void *arg, struct blob_token_http *http)
{
	static const int statuses[] = { 200, 200, 200, 400, 401, 403, 404, 429,
		500, 503 };
	const struct input *in = arg;
	size_t header = in->size > 2 ? in->data[1] : 0;

	http->status = in->size > 0
		? statuses[in->data[0] % (sizeof(statuses) / sizeof(int))]
		: 200;
	if (in->size <= 2)
		return;
	if (header > in->size - 2)
		header = in->size - 2;
	if (header > 0) {
		base_str_add(&http->www_authenticate, in->data + 2, header);
		/* curl gives strings */
		http->www_authenticate.len =
			strlen(http->www_authenticate.data);
	}
	base_str_add(
		&http->reply, in->data + 2 + header, in->size - 2 - header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blob_token_source source = { .client_id = "id",
		.tenant_id = "tenant",
		.client_secret = "secret",
		.federated_file = "/dev/null",
		.authority = "https://login.example",
		.endpoint = "http://localhost:40342/metadata",
		.header = "header" };
	struct input in = { data, size };
	struct blob_token_answer ret;

	for (int kind = BLOB_TOKEN_CLIENT_SECRET; kind <= BLOB_TOKEN_ARC;
		kind++) {
		memset(&ret, 0, sizeof(ret));
		source.kind = (enum blob_token_kind)kind;
		blob_token_ask(
			&source, answer, &in, "/nonexistent/", 1000, &ret);
		FUZZ_CHECK((ret.err == 0) == (ret.bearer != NULL));
		FUZZ_CHECK(ret.err != 0 || ret.lifetime_s > 0);
		FUZZ_CHECK(ret.err != 0 || strpbrk(ret.bearer, "\r\n") == NULL);
		blob_token_answer_fini(&ret);
	}
	return 0;
}
