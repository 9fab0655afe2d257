/* See ask.h. */
#include "fs/ask.h"

#include <pthread.h>

#include "base/lock.h"

struct wait {
	struct base_mutex mutex; /* of: */
	pthread_cond_t changed;
	bool over;
};

static void on_done(struct blob_req *req)
{
	struct wait *wait = req->arg;

	base_lock(&wait->mutex);
	wait->over = true;
	pthread_cond_signal(&wait->changed);
	base_unlock(&wait->mutex);
}

void fs_ask(struct blob_store *store, struct blob_req *req)
{
	struct wait wait = { .over = false };

	base_mutex_init(&wait.mutex, BASE_RANK_STAT);
	base_cond_init(&wait.changed);
	req->done = on_done;
	req->arg = &wait;
	blob_submit(store, req);
	base_lock(&wait.mutex);
	while (!wait.over)
		base_cond_wait(&wait.changed, &wait.mutex);
	base_unlock(&wait.mutex);
	pthread_cond_destroy(&wait.changed);
	base_mutex_fini(&wait.mutex);
}
