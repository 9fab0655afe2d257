/*
 * A job on the executor that can be kicked by anybody: see disk.h.
 *
 * An executor cannot take a task back, so the block outlives its cache: the
 * task that finds the cache gone frees it.
 */
#include <stdlib.h>

#include "cache/disk.h"

struct cache_bg {
	struct base_env *env;
	void (*fn)(struct cache *);
	struct base_mutex mutex; /* all below */
	pthread_cond_t ended;
	struct cache *cache; /* NULL: closed */
	bool queued;	     /* a task was posted and has not begun */
	bool running, again;
};

static void bg_free(struct cache_bg *bg)
{
	pthread_cond_destroy(&bg->ended);
	base_mutex_fini(&bg->mutex);
	free(bg);
}

static void run(void *arg)
{
	struct cache_bg *bg = arg;
	struct cache *cache;

	base_lock(&bg->mutex);
	bg->queued = false;
	cache = bg->cache;
	if (cache == NULL) {
		base_unlock(&bg->mutex);
		bg_free(bg);
		return;
	}
	if (bg->running) {
		bg->again = true;
		base_unlock(&bg->mutex);
		return;
	}
	bg->running = true;
	do {
		bg->again = false;
		base_unlock(&bg->mutex);
		bg->fn(cache);
		base_lock(&bg->mutex);
	} while (bg->again && bg->cache != NULL);
	bg->running = false;
	pthread_cond_broadcast(&bg->ended);
	base_unlock(&bg->mutex);
}

struct cache_bg *cache_bg_new(struct cache *cache, void (*fn)(struct cache *))
{
	struct cache_bg *bg = base_calloc(1, sizeof(*bg));

	bg->env = cache->env;
	bg->cache = cache;
	bg->fn = fn;
	base_mutex_init(&bg->mutex, BASE_RANK_CACHE_SPACE);
	base_cond_init(&bg->ended);
	return bg;
}

void cache_bg_kick(struct cache_bg *bg)
{
	base_lock(&bg->mutex);
	if (!bg->queued && bg->cache != NULL) {
		bg->queued = true;
		base_post(bg->env, run, bg);
	}
	base_unlock(&bg->mutex);
}

void cache_bg_close(struct cache_bg *bg)
{
	bool left_to_task;

	base_lock(&bg->mutex);
	bg->cache = NULL;
	while (bg->running)
		base_cond_wait(&bg->ended, &bg->mutex);
	left_to_task = bg->queued;
	base_unlock(&bg->mutex);
	if (!left_to_task)
		bg_free(bg);
}
