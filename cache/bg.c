/*
 * A job on the executor that can be kicked by anybody: see disk.h.
 *
 * An executor cannot take a task back, so the block may outlive its cache: it
 * is counted, and a task that finds the cache gone does nothing.
 */
#include <stdlib.h>

#include "cache/disk.h"

struct cache_bg {
	struct base_env *env;
	void (*fn)(struct cache *);
	_Atomic unsigned refs;	 /* the cache's, and one for each task */
	struct base_mutex mutex; /* all below */
	pthread_cond_t ended;
	struct cache *cache; /* NULL: stopped */
	bool queued;	     /* a task was posted and has not begun */
	bool running, again;
};

/* With the mutex let go of by everybody who drops a reference. */
static void put(struct cache_bg *bg)
{
	if (atomic_fetch_sub(&bg->refs, 1) != 1)
		return;
	pthread_cond_destroy(&bg->ended);
	base_mutex_fini(&bg->mutex);
	free(bg);
}

/* With the mutex, which is released in between. */
static void run_locked(struct cache_bg *bg)
{
	if (bg->running) {
		bg->again = true;
		return;
	}
	bg->running = true;
	while (bg->cache != NULL) {
		struct cache *cache = bg->cache;

		bg->again = false;
		base_unlock(&bg->mutex);
		bg->fn(cache);
		base_lock(&bg->mutex);
		if (!bg->again)
			break;
	}
	bg->running = false;
	pthread_cond_broadcast(&bg->ended);
}

static void run(void *arg)
{
	struct cache_bg *bg = arg;

	base_lock(&bg->mutex);
	bg->queued = false;
	run_locked(bg);
	base_unlock(&bg->mutex);
	put(bg);
}

struct cache_bg *cache_bg_new(struct cache *cache, void (*fn)(struct cache *))
{
	struct cache_bg *bg = base_calloc(1, sizeof(*bg));

	bg->env = cache->env;
	bg->cache = cache;
	bg->fn = fn;
	atomic_store(&bg->refs, 1);
	base_mutex_init(&bg->mutex, BASE_RANK_CACHE_SPACE);
	base_cond_init(&bg->ended);
	return bg;
}

void cache_bg_kick(struct cache_bg *bg)
{
	base_lock(&bg->mutex);
	if (!bg->queued && bg->cache != NULL) {
		bg->queued = true;
		atomic_fetch_add(&bg->refs, 1);
		base_post(bg->env, run, bg);
	}
	base_unlock(&bg->mutex);
}

void cache_bg_stop(struct cache_bg *bg)
{
	base_lock(&bg->mutex);
	bg->cache = NULL;
	while (bg->running)
		base_cond_wait(&bg->ended, &bg->mutex);
	base_unlock(&bg->mutex);
}

void cache_bg_close(struct cache_bg *bg)
{
	cache_bg_stop(bg);
	put(bg);
}
