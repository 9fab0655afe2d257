/*
 * The world that cache/ and tier/ live in: clocks, randomness, an executor.
 *
 * They never ask the system themselves, so that a test can drive them on one
 * thread, with its own time, and a seed reproduces a history.
 *
 * Threads: post() and after() may be called from any thread, with any lock
 * held; tasks run later, never inside the call, on threads of the executor and
 * with no lock held.  A task may block on the local disk, not on the network.
 * `after` cannot be cancelled: the task looks at the state it finds.
 * Ownership: `arg` belongs to the caller and must live until the task ran or
 * the executor was stopped.
 */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include <stddef.h>
#include <stdint.h>

struct base_env;
typedef void (*base_task_fn)(void *arg);

struct base_env_ops {
	void (*post)(struct base_env *, base_task_fn, void *arg);
	void (*after)(
		struct base_env *, int64_t delay_ns, base_task_fn, void *arg);
	int64_t (*boot_ns)(struct base_env *); /* CLOCK_BOOTTIME */
	int64_t (*wall_ns)(struct base_env *); /* CLOCK_REALTIME */
	void (*random)(struct base_env *, void *buf, size_t bytes);
};

struct base_env {
	const struct base_env_ops *ops;
};

static inline void base_post(struct base_env *e, base_task_fn fn, void *arg)
{
	e->ops->post(e, fn, arg);
}

static inline void base_after(
	struct base_env *e, int64_t delay_ns, base_task_fn fn, void *arg)
{
	e->ops->after(e, delay_ns, fn, arg);
}

static inline int64_t base_boot_ns(struct base_env *e)
{
	return e->ops->boot_ns(e);
}

static inline int64_t base_wall_ns(struct base_env *e)
{
	return e->ops->wall_ns(e);
}

static inline void base_random(struct base_env *e, void *buf, size_t bytes)
{
	e->ops->random(e, buf, bytes);
}

/* The real world: `threads` workers and one timer thread, started here, after
 * any fork.  base_pool_stop() runs what was posted, drops timers, joins. */
struct base_env *base_pool_new(unsigned threads);
void base_pool_stop(struct base_env *env);
void base_pool_free(struct base_env *env);

/* A strand: tasks run in the order posted, never two at a time, on the threads
 * of `env`.  What only a strand touches needs no lock. */
struct base_strand;
struct base_strand *base_strand_new(struct base_env *env);
/* The strand must be idle. */
void base_strand_free(struct base_strand *strand);
void base_strand_post(struct base_strand *strand, base_task_fn fn, void *arg);
void base_strand_after(struct base_strand *strand, int64_t delay_ns,
	base_task_fn fn, void *arg);

#endif
