/*
 * A complete listing of a whole subtree: for the rename of a directory, and
 * for prefetch.  Directories that are not fresh are walked, several at a time;
 * each that is done gives its subdirectories.
 */
#include "tier/list.h"

#include <errno.h>
#include <stdlib.h>

struct tree {
	LIST_ENTRY(tree) link;
	struct tier *tier;
	struct tier_call *user;	 /* under the lists' mutex; NULL: cancelled */
	struct base_mutex mutex; /* BASE_RANK_TIER_JOB: */
	uint64_t *todo;
	size_t todo_nr, todo_cap;
	unsigned active;
	int err;
};

struct tree_step {
	struct tier_call call; /* first member */
	struct tree *tree;
	uint64_t ino;
};

static void push(struct tree *tree, uint64_t ino)
{
	if (tree->todo_nr == tree->todo_cap) {
		tree->todo_cap = tree->todo_cap ? tree->todo_cap * 2 : 64;
		tree->todo = base_realloc(
			tree->todo, tree->todo_cap * sizeof(*tree->todo));
	}
	tree->todo[tree->todo_nr++] = ino;
}

static int push_child(void *arg, const struct cache_dentry *dentry,
	const struct cache_inode *inode)
{
	(void)dentry;
	if (inode->kind == CACHE_DIR)
		push(arg, inode->ino);
	return 0;
}

static void tree_free(struct tree *tree)
{
	base_mutex_fini(&tree->mutex);
	free(tree->todo);
	free(tree);
}

static void tree_end(struct tree *tree)
{
	struct tier_lists *l = tree->tier->lists;
	struct tier_call *user;

	base_lock(&l->mutex);
	user = tree->user;
	LIST_REMOVE(tree, link);
	base_unlock(&l->mutex);
	if (user != NULL)
		tier_call_end(tree->tier, user, tree->err);
	tree_free(tree);
}

static void tree_go(struct tree *tree, unsigned done_nr);

static void step_done(struct tier_call *call, int err)
{
	struct tree_step *step = (struct tree_step *)call;
	struct tree *tree = step->tree;
	struct cache_txn *txn;

	base_lock(&tree->mutex);
	if (err == 0)
		err = cache_read(tree->tier->cache, &txn);
	if (err == 0) {
		err = cache_dentry_each(txn, step->ino, 0, push_child, tree);
		cache_abort(txn);
	}
	if (err < 0 && tree->err == 0)
		tree->err = err;
	base_unlock(&tree->mutex);
	free(step);
	/* It counts as under way until there: nobody else may end the tree
	 * under us. */
	tree_go(tree, 1);
}

static bool is_fresh(struct tree *tree, uint64_t ino)
{
	struct cache_txn *txn;
	bool fresh;

	if (cache_read(tree->tier->cache, &txn) < 0)
		return false;
	fresh = tier_fresh_dir_ns(tree->tier, txn, ino) > 0;
	cache_abort(txn);
	return fresh;
}

static bool is_cancelled(struct tree *tree)
{
	struct tier_lists *l = tree->tier->lists;
	bool cancelled;

	base_lock(&l->mutex);
	cancelled = tree->user == NULL;
	base_unlock(&l->mutex);
	return cancelled;
}

/* done_nr: steps that are over, not yet taken off `active`. */
static void tree_go(struct tree *tree, unsigned done_nr)
{
	struct tree_step *steps[TIER_LIST_PARALLEL];
	bool over, cancelled = is_cancelled(tree);
	size_t nr = 0;

	base_lock(&tree->mutex);
	tree->active -= done_nr;
	if (cancelled && tree->err == 0)
		tree->err = -EINTR;
	while (tree->err == 0 && tree->todo_nr > 0 &&
		tree->active < TIER_LIST_PARALLEL) {
		struct tree_step *step = base_calloc(1, sizeof(*step));

		step->call.done = step_done;
		step->tree = tree;
		step->ino = tree->todo[--tree->todo_nr];
		tree->active++;
		steps[nr++] = step;
	}
	over = tree->active == 0;
	base_unlock(&tree->mutex);
	if (over) {
		tree_end(tree);
		return;
	}
	for (size_t i = 0; i < nr; i++) {
		if (is_fresh(tree, steps[i]->ino))
			tier_call_end(tree->tier, &steps[i]->call, 0);
		else
			tier_refresh_dir(
				tree->tier, steps[i]->ino, &steps[i]->call);
	}
}

static void tree_begin(void *arg)
{
	tree_go(arg, 0);
}

void tier_refresh_tree(struct tier *t, uint64_t ino, struct tier_call *call)
{
	struct tree *tree = base_calloc(1, sizeof(*tree));

	tree->tier = t;
	tree->user = call;
	base_mutex_init(&tree->mutex, BASE_RANK_TIER_JOB);
	push(tree, ino);
	base_lock(&t->lists->mutex);
	LIST_INSERT_HEAD(&t->lists->trees, tree, link);
	base_unlock(&t->lists->mutex);
	base_post(t->env, tree_begin, tree);
}

/* With the lists' mutex free; what it waits for goes on. */
bool tier_tree_cancel(struct tier *t, struct tier_call *call)
{
	struct tier_lists *l = t->lists;
	struct tree *tree;

	base_lock(&l->mutex);
	LIST_FOREACH(tree, &l->trees, link)
	{
		if (tree->user == call) {
			tree->user = NULL;
			tier_call_end(t, call, -EINTR);
			break;
		}
	}
	base_unlock(&l->mutex);
	return tree != NULL;
}

void tier_trees_close(struct tier *t)
{
	struct tree *tree;

	while ((tree = LIST_FIRST(&t->lists->trees)) != NULL) {
		LIST_REMOVE(tree, link);
		tree_free(tree);
	}
}
