/* Faults and holds: see fault.h. */
#include "tests/blobd/fault.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/blobd/http.h"
#include "tests/blobd/log.h"

/* Which requests: those of an op (-1: any but control) and a name. */
struct match {
	int op;
	char *glob; /* NULL: any */
	unsigned skip;
	unsigned left; /* 0: without end */
	bool endless;
	struct match *next;
	struct blobd_fault fault;
	bool after; /* of a hook */
};

static struct {
	pthread_mutex_t mutex;
	/* under mutex: */
	struct match *faults; /* in the order in which they were asked for */
	struct match *hooks;
	struct blobd_req *held;
	struct blobd_req *stalled;
	bool stopping;
} state = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static const struct {
	const char *word;
	enum blobd_fault_kind kind;
} kinds[] = {
	{ "latency", BLOBD_FAULT_LATENCY },
	{ "reset", BLOBD_FAULT_RESET },
	{ "reset-after", BLOBD_FAULT_RESET_AFTER },
	{ "half", BLOBD_FAULT_HALF },
	{ "stall", BLOBD_FAULT_STALL },
	{ "stall-body", BLOBD_FAULT_STALL_BODY },
	{ "wrong-length", BLOBD_FAULT_WRONG_LENGTH },
	{ "flip", BLOBD_FAULT_FLIP },
	{ "200-for-range", BLOBD_FAULT_WHOLE },
	{ "corrupt-xml", BLOBD_FAULT_CORRUPT_XML },
	{ "endless-page", BLOBD_FAULT_ENDLESS_PAGE },
	{ "empty-page", BLOBD_FAULT_EMPTY_PAGE },
};

/* WORD[:NUMBER], or STATUS[:RETRY_AFTER or :CODE]. */
static int parse_kind(const char *text, struct blobd_fault *ret)
{
	const char *colon = strchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text), i;
	char *end;

	memset(ret, 0, sizeof(*ret));
	ret->arg = -1;
	if (colon != NULL) {
		ret->arg = strtoll(colon + 1, &end, 10);
		if (end == colon + 1 || *end != '\0')
			ret->arg = -1;
	}
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strlen(kinds[i].word) == len &&
			memcmp(kinds[i].word, text, len) == 0) {
			ret->kind = kinds[i].kind;
			return 0;
		}
	}
	ret->kind = BLOBD_FAULT_STATUS;
	ret->status = (unsigned)strtoul(text, &end, 10);
	if (end != text + len || ret->status < 400 || ret->status > 599)
		return -EINVAL;
	if (colon != NULL && ret->arg < 0) {
		if (strlen(colon + 1) >= sizeof(ret->code))
			return -EINVAL;
		memcpy(ret->code, colon + 1, strlen(colon + 1) + 1);
	}
	return 0;
}

static int parse_op(const char *text)
{
	int i;

	if (text == NULL || strcmp(text, "any") == 0)
		return -1;
	for (i = 0; i < BLOBD_OPS_NR; i++)
		if (strcmp(text, blobd_op_names[i]) == 0)
			return i;
	return -EINVAL; /* below -1 */
}

static struct match *match_new(
	const char *op, const char *name, unsigned count, unsigned skip)
{
	struct match *m;
	int number = parse_op(op);

	if (number < -1)
		return NULL;
	m = base_calloc(1, sizeof(*m));
	m->op = number;
	m->glob = name != NULL ? base_strdup(name) : NULL;
	m->left = count;
	m->endless = count == 0;
	m->skip = skip;
	return m;
}

static void match_append(struct match **list, struct match *m)
{
	while (*list != NULL)
		list = &(*list)->next;
	*list = m;
}

static void match_free_all(struct match **list)
{
	struct match *m;

	while ((m = *list) != NULL) {
		*list = m->next;
		free(m->glob);
		free(m);
	}
}

/* A listing is matched by its prefix. */
static bool matches(const struct match *m, const struct blobd_req *req)
{
	const char *name = req->name;

	if (req->op == BLOBD_OP_CONTROL ||
		(m->op >= 0 && m->op != (int)req->op))
		return false;
	if (m->glob == NULL)
		return true;
	if (req->op == BLOBD_OP_LIST)
		name = blobd_req_param((struct blobd_req *)req, "prefix");
	return fnmatch(m->glob, name ? name : "", 0) == 0;
}

/* The first entry that takes this request; counted, dropped when used up. */
static bool take(
	struct match **list, const struct blobd_req *req, struct match *ret)
{
	struct match *m;

	for (; (m = *list) != NULL; list = &m->next) {
		if (!matches(m, req))
			continue;
		if (m->skip > 0) {
			m->skip--;
			continue;
		}
		*ret = *m;
		if (!m->endless && --m->left == 0) {
			*list = m->next;
			free(m->glob);
			free(m);
		}
		return true;
	}
	return false;
}

int blobd_fault_add(const char *op, const char *name, const char *kind,
	unsigned count, unsigned skip)
{
	struct match *m = match_new(op, name, count, skip);

	if (m == NULL)
		return -EINVAL;
	if (kind == NULL || parse_kind(kind, &m->fault) < 0) {
		match_free_all(&m);
		return -EINVAL;
	}
	pthread_mutex_lock(&state.mutex);
	match_append(&state.faults, m);
	pthread_mutex_unlock(&state.mutex);
	return 0;
}

struct blobd_fault blobd_fault_match(const struct blobd_req *req)
{
	struct match m = { 0 };

	if (__atomic_load_n(&state.faults, __ATOMIC_RELAXED) == NULL)
		return m.fault;
	pthread_mutex_lock(&state.mutex);
	if (take(&state.faults, req, &m))
		blobd_stat_fault();
	pthread_mutex_unlock(&state.mutex);
	return m.fault;
}

static void resume_all(struct blobd_req *list)
{
	struct blobd_req *next;

	for (; list != NULL; list = next) {
		next = list->held_next;
		blobd_req_resume(list);
	}
}

void blobd_fault_clear(void)
{
	struct blobd_req *list;

	pthread_mutex_lock(&state.mutex);
	match_free_all(&state.faults);
	list = state.stalled;
	state.stalled = NULL;
	pthread_mutex_unlock(&state.mutex);
	resume_all(list);
}

void blobd_fault_stall(struct blobd_req *req)
{
	bool stopping;

	pthread_mutex_lock(&state.mutex);
	stopping = state.stopping;
	if (!stopping) {
		req->held_next = state.stalled;
		state.stalled = req;
	}
	pthread_mutex_unlock(&state.mutex);
	if (stopping)
		blobd_req_resume(req);
}

int blobd_hook_add(const char *op, const char *name, unsigned count, bool after)
{
	struct match *m = match_new(op, name, count, 0);

	if (m == NULL)
		return -EINVAL;
	m->after = after;
	pthread_mutex_lock(&state.mutex);
	match_append(&state.hooks, m);
	pthread_mutex_unlock(&state.mutex);
	return 0;
}

bool blobd_hook_wanted(void)
{
	return __atomic_load_n(&state.hooks, __ATOMIC_RELAXED) != NULL;
}

bool blobd_hook_hold(struct blobd_req *req, bool after)
{
	struct match **list = &state.hooks, *m;
	bool hold = false;

	pthread_mutex_lock(&state.mutex);
	for (; (m = *list) != NULL && !hold && !state.stopping;) {
		hold = m->after == after && matches(m, req);
		if (hold && !m->endless && --m->left == 0) {
			*list = m->next;
			free(m->glob);
			free(m);
		} else {
			list = &m->next;
		}
	}
	if (hold) {
		/* Released in the order in which they came. */
		struct blobd_req **tail = &state.held;

		while (*tail != NULL)
			tail = &(*tail)->held_next;
		req->held_next = NULL;
		*tail = req;
	}
	pthread_mutex_unlock(&state.mutex);
	return hold;
}

void blobd_hook_release(unsigned count, bool keep)
{
	struct blobd_req *list, **end;
	unsigned nr = 0;

	pthread_mutex_lock(&state.mutex);
	if (!keep)
		match_free_all(&state.hooks);
	list = state.held;
	for (end = &list; *end != NULL; end = &(*end)->held_next)
		if (nr++ == count && count > 0)
			break;
	state.held = *end;
	*end = NULL;
	pthread_mutex_unlock(&state.mutex);
	resume_all(list);
}

void blobd_hook_print(struct base_str *out)
{
	struct base_str list = BASE_STR_INIT;
	struct blobd_req *r;
	unsigned nr = 0;

	pthread_mutex_lock(&state.mutex);
	for (r = state.held; r != NULL; r = r->held_next) {
		base_str_puts(&list, nr++ ? "," : "");
		base_str_printf(&list,
			"{\"op\":\"%s\",\"name\":", blobd_op_names[r->op]);
		blobd_json_string(&list, r->name ? r->name : "");
		base_str_puts(&list, "}");
	}
	pthread_mutex_unlock(&state.mutex);
	base_str_printf(out, "{\"held\":%u,\"requests\":[", nr);
	base_str_add(out, list.data, list.len);
	base_str_puts(out, "]}\n");
	base_str_fini(&list);
}

void blobd_fault_stop(void)
{
	pthread_mutex_lock(&state.mutex);
	state.stopping = true;
	pthread_mutex_unlock(&state.mutex);
	blobd_fault_clear();
	blobd_hook_release(0, false);
}
