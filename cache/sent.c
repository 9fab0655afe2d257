/* What the store was told and has not surely answered. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/path.h"

#define COLUMNS                                                  \
	"number, host, name, op, base_etag, content, owed_seq, " \
	"size, md5, sent_ns, boot, settled, list"

void cache_sent_fini(struct cache_sent *sent)
{
	free(sent->name);
	sent->name = NULL;
}

static void read_sent(struct cache_query *q, struct cache_sent *ret)
{
	struct cache_id md5, list;

	static_assert(sizeof(md5) == sizeof(ret->md5), "both have 16 bytes");
	memset(ret, 0, sizeof(*ret));
	ret->number = cache_db_u64(q);
	cache_db_id(q, &ret->host);
	ret->name = cache_db_take_text(q);
	ret->op = (uint8_t)cache_db_i64(q);
	cache_db_text(q, ret->base_etag, sizeof(ret->base_etag));
	cache_db_id(q, &ret->content);
	ret->owed_seq = cache_db_u64(q);
	ret->size_bytes = cache_db_u64(q);
	cache_db_id(q, &md5);
	ret->has_md5 = !cache_id_is_none(&md5);
	memcpy(ret->md5, md5.bytes, sizeof(ret->md5));
	ret->sent_ns = cache_db_i64(q);
	/* How old it is nobody knows: it begins to age with this boot. */
	if (cache_db_u64(q) != q->txn->cache->boot_nr)
		ret->sent_ns = 0;
	ret->settled = cache_db_i64(q) != 0;
	cache_db_id(q, &list);
	ret->has_list = !cache_id_is_none(&list);
	memcpy(ret->list, list.bytes, sizeof(ret->list));
}

/* The columns after number. */
static void bind_columns(struct cache_query *q, const struct cache_sent *sent)
{
	cache_db_bind_id(q,
		cache_id_is_none(&sent->host) ? &q->txn->cache->host
					      : &sent->host);
	cache_db_bind_name(q, sent->name);
	cache_db_bind_i64(q, sent->op);
	cache_db_bind_name(q, sent->base_etag);
	cache_db_bind_id(q, &sent->content);
	cache_db_bind_u64(q, sent->owed_seq);
	cache_db_bind_u64(q, sent->size_bytes);
	cache_db_bind_blob(
		q, sent->has_md5 ? sent->md5 : NULL, sizeof(sent->md5));
	cache_db_bind_i64(q, sent->sent_ns);
	cache_db_bind_u64(q, q->txn->cache->boot_nr);
	cache_db_bind_i64(q, sent->settled);
	cache_db_bind_blob(
		q, sent->has_list ? sent->list : NULL, sizeof(sent->list));
}

int cache_sent_add(struct cache_txn *txn, const struct cache_sent *sent)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"INSERT INTO sent(" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?)");
	cache_db_bind_u64(&q, sent->number);
	bind_columns(&q, sent);
	return cache_db_run(&q);
}

int cache_sent_put(struct cache_txn *txn, const struct cache_sent *sent)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"UPDATE sent SET host = ?, name = ?, op = ?, base_etag = ?, "
		"content = ?, owed_seq = ?, size = ?, md5 = ?, sent_ns = ?, "
		"boot = ?, settled = ?, list = ? WHERE number = ?");
	bind_columns(&q, sent);
	cache_db_bind_u64(&q, sent->number);
	return cache_db_run_one(&q);
}

int cache_sent_del(struct cache_txn *txn, uint64_t number)
{
	struct cache_query q;

	cache_db_begin(&q, txn, "DELETE FROM sent WHERE number = ?");
	cache_db_bind_u64(&q, number);
	return cache_db_run_one(&q);
}

/* What asked for a free name can still come once the name is free again. */
int cache_sent_fence(struct cache_txn *txn, const char *name)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"DELETE FROM sent WHERE name = ? AND length(base_etag) > 0");
	cache_db_bind_name(&q, name);
	return cache_db_run(&q);
}

static int read_one(struct cache_query *q, struct cache_sent *ret)
{
	int err = cache_db_one(q);

	if (err == 0)
		read_sent(q, ret);
	return cache_db_end(q, err);
}

int cache_sent_of(
	struct cache_txn *txn, const char *name, struct cache_sent *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM sent INDEXED BY sent_name WHERE "
		"name = ? ORDER BY settled, number DESC LIMIT 1");
	cache_db_bind_name(&q, name);
	return read_one(&q, ret);
}

int cache_sent_get(
	struct cache_txn *txn, uint64_t number, struct cache_sent *ret)
{
	struct cache_query q;

	cache_db_begin(
		&q, txn, "SELECT " COLUMNS " FROM sent WHERE number = ?");
	cache_db_bind_u64(&q, number);
	return read_one(&q, ret);
}

int cache_sent_unsettled(
	struct cache_txn *txn, const char *name, struct cache_sent *ret)
{
	struct cache_query q;

	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM sent INDEXED BY sent_name WHERE "
		"name = ? AND settled = 0 ORDER BY number DESC LIMIT 1");
	cache_db_bind_name(&q, name);
	return read_one(&q, ret);
}

int cache_sent_below(struct cache_txn *txn, const char *dir, bool *ret)
{
	struct cache_range_of range;
	struct cache_query q;
	int err;

	cache_range_init(&range, dir);
	if (*dir == '\0') {
		cache_db_begin(&q, txn,
			"SELECT 1 FROM sent WHERE settled = 0 LIMIT 1");
	} else {
		cache_db_begin(&q, txn,
			"SELECT 1 FROM sent INDEXED BY sent_name WHERE "
			"name >= ? AND name < ? AND settled = 0 LIMIT 1");
		cache_db_bind_blob(&q, range.from.data, range.from.len);
		cache_db_bind_blob(&q, range.to.data, range.to.len);
	}
	err = cache_db_step(&q);
	if (err >= 0) {
		*ret = err > 0;
		err = 0;
	}
	cache_range_fini(&range);
	return cache_db_end(&q, err);
}

int cache_sent_each(
	struct cache_txn *txn, uint64_t after, cache_sent_fn each, void *arg)
{
	struct cache_sent sent;
	struct cache_query q;
	int err;

	cache_db_begin(&q, txn,
		"SELECT " COLUMNS " FROM sent WHERE number > ? "
		"ORDER BY number");
	cache_db_bind_u64(&q, after);
	while ((err = cache_db_step(&q)) > 0) {
		read_sent(&q, &sent);
		err = each(arg, &sent);
		cache_sent_fini(&sent);
		if (err != 0)
			break;
	}
	return cache_db_end(&q, err);
}
