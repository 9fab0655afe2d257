/*
 * The counts: requests, statuses, bytes, and which bytes of which blob were
 * read.  See log.h.
 */
#include "tests/blobd/log.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/blobd/http.h"

struct range {
	uint64_t start, end;
};

/* Ranges are apart and in order. */
struct reads {
	uint64_t gets, bytes;
	struct range *ranges;
	size_t ranges_nr;
};

static struct {
	pthread_mutex_t mutex;
	/* under mutex: */
	uint64_t ops[BLOBD_OPS_NR];
	uint64_t statuses[600];
	uint64_t bytes_in, bytes_out, faults;
	uint64_t under_way, under_way_max;
	struct blobd_map *reads; /* "container/name" */
} stat = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void reads_free(void *value)
{
	struct reads *r = value;

	free(r->ranges);
	free(r);
}

void blobd_stat_request(const struct blobd_req *req)
{
	pthread_mutex_lock(&stat.mutex);
	stat.ops[req->op]++;
	if (++stat.under_way > stat.under_way_max)
		stat.under_way_max = stat.under_way;
	pthread_mutex_unlock(&stat.mutex);
}

/* Called once for each request that was counted; status 0: no answer. */
void blobd_stat_reply(const struct blobd_req *req, uint64_t bytes_out)
{
	pthread_mutex_lock(&stat.mutex);
	if (stat.under_way > 0)
		stat.under_way--;
	stat.statuses[req->reply.status < 600 ? req->reply.status : 0]++;
	stat.bytes_in += req->body_got;
	stat.bytes_out += bytes_out;
	pthread_mutex_unlock(&stat.mutex);
}

void blobd_stat_fault(void)
{
	pthread_mutex_lock(&stat.mutex);
	stat.faults++;
	pthread_mutex_unlock(&stat.mutex);
}

/* Adds [start, end) and merges what touches it. */
static void reads_add(struct reads *r, uint64_t start, uint64_t end)
{
	size_t first = 0, last, hi = r->ranges_nr, mid;

	while (first < hi) { /* the first that ends at or after start */
		mid = first + (hi - first) / 2;
		if (r->ranges[mid].end < start)
			first = mid + 1;
		else
			hi = mid;
	}
	for (last = first; last < r->ranges_nr && r->ranges[last].start <= end;
		last++) {
		if (r->ranges[last].start < start)
			start = r->ranges[last].start;
		if (r->ranges[last].end > end)
			end = r->ranges[last].end;
	}
	if (last == first)
		r->ranges = base_realloc(
			r->ranges, (r->ranges_nr + 1) * sizeof(*r->ranges));
	memmove(&r->ranges[first + 1], &r->ranges[last],
		(r->ranges_nr - last) * sizeof(*r->ranges));
	r->ranges_nr = r->ranges_nr - (last - first) + 1;
	r->ranges[first] = (struct range){ start, end };
}

void blobd_stat_read(
	const char *container, const char *name, uint64_t off, uint64_t len)
{
	struct base_str key = BASE_STR_INIT;
	struct reads *r;

	base_str_printf(&key, "%s/%s", container, name);
	pthread_mutex_lock(&stat.mutex);
	if (stat.reads == NULL)
		stat.reads = blobd_map_new();
	r = blobd_map_get(stat.reads, key.data);
	if (r == NULL) {
		r = base_calloc(1, sizeof(*r));
		blobd_map_set(stat.reads, key.data, r);
	}
	r->gets++;
	r->bytes += len;
	if (len > 0)
		reads_add(r, off, off + len);
	pthread_mutex_unlock(&stat.mutex);
	base_str_fini(&key);
}

void blobd_stat_print(struct base_str *out)
{
	const char *comma = "";
	unsigned i;

	pthread_mutex_lock(&stat.mutex);
	base_str_puts(out, "{\"requests\":{");
	for (i = 0; i < BLOBD_OP_CONTROL; i++, comma = ",")
		base_str_printf(out, "%s\"%s\":%llu", comma, blobd_op_names[i],
			(unsigned long long)stat.ops[i]);
	base_str_puts(out, "},\"status\":{");
	for (i = 0, comma = ""; i < 600; i++) {
		if (stat.statuses[i] == 0)
			continue;
		base_str_printf(out, "%s\"%u\":%llu", comma, i,
			(unsigned long long)stat.statuses[i]);
		comma = ",";
	}
	base_str_printf(out,
		"},\"bytes_in\":%llu,\"bytes_out\":%llu,\"faults\":%llu,"
		"\"under_way_max\":%llu}\n",
		(unsigned long long)stat.bytes_in,
		(unsigned long long)stat.bytes_out,
		(unsigned long long)stat.faults,
		(unsigned long long)stat.under_way_max);
	pthread_mutex_unlock(&stat.mutex);
}

static void print_reads(
	struct base_str *out, const char *name, const struct reads *r)
{
	size_t i;

	blobd_json_string(out, name);
	base_str_printf(out, ":{\"gets\":%llu,\"bytes\":%llu,\"ranges\":[",
		(unsigned long long)r->gets, (unsigned long long)r->bytes);
	for (i = 0; i < r->ranges_nr; i++)
		base_str_printf(out, "%s[%llu,%llu]", i > 0 ? "," : "",
			(unsigned long long)r->ranges[i].start,
			(unsigned long long)(r->ranges[i].end -
				r->ranges[i].start));
	base_str_puts(out, "]}");
}

void blobd_stat_print_reads(struct base_str *out, const char *glob)
{
	struct blobd_node *n = NULL;
	const char *comma = "";

	base_str_puts(out, "{");
	pthread_mutex_lock(&stat.mutex);
	if (stat.reads != NULL)
		n = blobd_map_from(stat.reads, "");
	for (; n != NULL; n = n->next[0]) {
		if (glob != NULL && fnmatch(glob, n->key, 0) != 0)
			continue;
		base_str_puts(out, comma);
		comma = ",\n";
		print_reads(out, n->key, n->value);
	}
	pthread_mutex_unlock(&stat.mutex);
	base_str_puts(out, "}\n");
}

void blobd_stat_reset(void)
{
	pthread_mutex_lock(&stat.mutex);
	memset(stat.ops, 0, sizeof(stat.ops));
	memset(stat.statuses, 0, sizeof(stat.statuses));
	stat.bytes_in = stat.bytes_out = stat.faults = 0;
	stat.under_way_max = stat.under_way;
	blobd_map_free(stat.reads, reads_free);
	stat.reads = NULL;
	pthread_mutex_unlock(&stat.mutex);
}
