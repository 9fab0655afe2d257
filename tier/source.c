/*
 * Bytes that are only in the store: fetched before their blob goes (R1), gone
 * along with a rename when somebody else changed them, or lost.
 *
 *   S1  before a name is overwritten, an inode in use whose only copy it holds
 *       (a symlink: its target) is fetched; if those bytes are gone already,
 *       so is the ETag that the request asks for, and nothing is overwritten
 *       (what is there under another ETag is looked at anew: it may be the
 *       same bytes);
 *   S2  a copy's source that holds other bytes by now: a file that is clean
 *       takes them along (rename against remote edit); one that somebody has
 *       open is uploaded, and theirs stay under the old name; and so is one
 *       whose source a request of our own has overwritten (an exchange);
 *   S3  a source that is gone, with nothing local: the entry goes, and is
 *       reported.
 */
#include "tier/line.h"

#include <errno.h>
#include <stdlib.h>

/* ---- S1 ---- */

struct rescue {
	struct tier_call call;
	struct work *work;
	uint64_t ino;
	int err;
};

static void rescued(void *arg)
{
	struct rescue *r = arg;
	struct work *w = r->work;
	bool own = r->ino == w->row.ino;
	int err = r->err;

	free(r);
	/* A target that can be none is not worth to be held up for. */
	if (err == -ESTALE || err == -ENOENT || err == -EBADMSG) {
		w->rescued = true;
		memcpy(w->rescued_etag, w->base.etag, sizeof(w->rescued_etag));
		err = 0;
		if (own && w->source != NULL) {
			tier_source_moved(w);
			return;
		}
	}
	if (err == 0)
		tier_work_again(w, 0);
	else
		tier_work_retry(w,
			"the only copy of a file in use must be "
			"fetched first");
}

static void rescue_done(struct tier_call *call, int err)
{
	struct rescue *r = (struct rescue *)call;

	r->err = err;
	base_strand_post(r->work->line->strand, rescued, r);
}

void tier_rescue(struct work *w, uint64_t ino, enum cache_kind kind)
{
	struct rescue *r = base_calloc(1, sizeof(*r));

	w->state = WORK_PREPARING;
	r->work = w;
	r->ino = ino;
	r->call.done = rescue_done;
	if (kind == CACHE_SYMLINK)
		tier_fetch_target(w->tier, ino, &r->call);
	else
		tier_fetch_whole(w->tier, ino, true, &r->call);
}

/* ---- S3 ---- */

/* The name goes, if it still is that file's, and nothing of it is here. */
static int drop_name(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode, dir;
	struct cache_dentry dentry;
	char *path = base_strdup(w->row.name);
	size_t len;
	const char *name = tier_path_last(w->row.name, &len);
	bool gone;
	int err;

	path[len] = '\0';
	err = cache_resolve(txn, path, &dir);
	free(path);
	if (err == 0)
		err = cache_dentry_get(txn, dir.ino, name, &dentry);
	if (err == 0)
		err = cache_inode_get(txn, dentry.ino, &inode);
	if (err < 0 || dentry.ino != w->row.ino ||
		!cache_id_eq(&inode.content, &w->row.content) ||
		inode.data == CACHE_WHOLE || inode.kind == CACHE_DIR)
		return err == -ENOENT || err == -ENOTDIR ? 0 : err;
	err = cache_dentry_del(txn, dir.ino, name);
	inode.nlink = 0;
	if (err == 0)
		err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = cache_held_add(txn, inode.ino);
	if (err == 0)
		err = cache_owed_fall_out(txn, w->seq);
	if (err == 0 || err == -ENOENT) {
		int claim = cache_claim(txn, inode.ino);

		err = cache_held_put(txn, inode.ino, claim < 0, &gone);
	}
	return err;
}

void tier_bytes_lost(struct work *w)
{
	struct cache_txn *txn;
	int err = cache_write(w->tier->cache, &txn);

	if (err == 0) {
		log_error("%s: its bytes are neither here nor in the store "
			  "any more",
			w->row.name);
		err = drop_name(w, txn);
		if (err == 0)
			err = cache_owed_fall_out(txn, w->seq);
		if (err < 0 && err != -ENOENT)
			cache_abort(txn);
		else
			err = cache_commit(txn);
	}
	if (err < 0) {
		tier_work_again(w, TIER_S);
		return;
	}
	tier_list_recheck(w->tier, w->row.name, NULL);
	tier_work_done(w);
}

/* ---- S2 ---- */

/* The file, and what is owed of it, are the remote version now; what was
 * changed of its attributes here stays so.  -EBUSY: somebody has it open. */
static int take_along(struct work *w, struct cache_txn *txn,
	const struct cache_remote *old, const struct cache_remote *remote)
{
	struct cache_attrs attrs = w->row.attrs;
	struct cache_inode inode;
	struct cache_owed row;
	int err = cache_inode_get(txn, w->row.ino, &inode);

	if (err == 0 && inode.kind != remote->kind)
		return -ENOENT;
	tier_attrs_rebase(&attrs, &old->attrs, &remote->attrs);
	attrs.mtime_ns = remote->attrs.mtime_ns;
	if (err == 0)
		err = cache_claim(txn, inode.ino);
	if (err == 0)
		err = cache_data_drop(txn, inode.ino);
	if (err == 0)
		err = cache_inode_get(txn, inode.ino, &inode);
	if (err < 0)
		return err;
	inode.content = remote->content;
	inode.size_bytes = remote->size_bytes;
	inode.mode = attrs.mode;
	inode.uid = attrs.uid;
	inode.gid = attrs.gid;
	inode.mtime_ns = attrs.mtime_ns;
	inode.gen++;
	inode.synced_gen = inode.gen;
	err = cache_inode_put(txn, &inode);
	if (err == 0)
		err = cache_owed_get(txn, w->seq, &row);
	if (err < 0)
		return err;
	row.content = remote->content;
	row.serial = 0;
	row.size_bytes = remote->size_bytes;
	row.attrs = attrs;
	err = cache_owed_put(txn, &row);
	cache_owed_fini(&row);
	return err;
}

/* Are its bytes here?  Then it can be uploaded. */
static bool is_local(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode;

	return w->row.serial != 0 ||
		cache_inode_get(txn, w->row.ino, &inode) < 0 || inode.written;
}

/* Does the name still hold that file, and nobody has changed it or has it
 * open?  Nobody meant to take theirs along, or to delete it, who has removed
 * or replaced it since. */
static bool is_wanted(struct work *w, struct cache_txn *txn)
{
	struct cache_inode inode;

	return cache_resolve(txn, w->row.name, &inode) == 0 &&
		inode.ino == w->row.ino && !inode.written &&
		cache_id_eq(&inode.content, &w->row.content);
}

/* The source holds other bytes.  *ret_again: the row is another one now. */
static int source_moved(struct work *w, struct cache_txn *txn,
	const struct cache_remote *old, const struct cache_remote *remote,
	bool *ret_again)
{
	bool local = is_local(w, txn), wanted = is_wanted(w, txn);
	int err = wanted ? take_along(w, txn, old, remote) : -EBUSY;

	if (err == 0) {
		*ret_again = true;
		return cache_remote_put(txn, remote);
	}
	if (err != -EBUSY && err != -ENOENT)
		return err;
	if (local)
		return 0; /* uploaded; theirs stay where they are */
	/* A file does not go along as a symlink: its bytes are lost (S3). */
	if (wanted && remote->kind != w->row.kind) {
		log_error("%s: its bytes are neither here nor in the store "
			  "any more",
			w->row.name);
		return drop_name(w, txn);
	}
	return wanted ? err : cache_owed_fall_out(txn, w->seq);
}

static int learn(struct work *w, struct cache_txn *txn, bool *ret_again)
{
	struct cache_remote remote, old;
	struct cache_sent sent;
	struct blob_mark mark;
	int err = cache_remote_get(txn, w->source, &old);

	if (err < 0)
		return err == -ENOENT ? 0 : err;
	if (w->req.result == BLOB_NOT_FOUND) {
		cache_remote_fini(&old);
		return tier_remote_gone(w->tier, txn, w->source);
	}
	tier_remote_from_props(
		w->tier, w->source, &w->req.props, &remote, &mark);
	remote.known_seq = tier_tick(w->tier);
	if (tier_same_bytes(&old, &remote)) {
		remote.content = old.content;
		err = cache_remote_put(txn, &remote);
	} else if (tier_sent_find(txn, w->source, &remote, &mark, &sent)) {
		remote.content = sent.content;
		cache_sent_fini(&sent);
		err = cache_remote_put(txn, &remote);
	} else {
		cache_id_new(w->tier->cache, &remote.content);
		err = source_moved(w, txn, &old, &remote, ret_again);
	}
	cache_remote_fini(&remote);
	cache_remote_fini(&old);
	return err;
}

static void source_not_told(struct work *w)
{
	tier_line_pause(w->line);
	tier_work_retry(w, "waiting to learn what became of the source");
}

static void source_known(struct work *w, int err)
{
	struct cache_txn *txn;
	bool local = false, again = false;

	if (err == -EINTR) {
		w->state = WORK_WAITING;
		return;
	}
	if (err < 0) {
		source_not_told(w);
		return;
	}
	/* It was the other condition, then. */
	if (w->req.result == BLOB_OK &&
		strcmp(w->req.props.etag, w->source_etag) == 0) {
		if (w->settles++ < TIER_RESTAGE_MAX)
			tier_settle(w);
		else
			tier_work_other_way(w);
		return;
	}
	err = cache_write(w->tier->cache, &txn);
	if (err == 0) {
		local = is_local(w, txn);
		err = learn(w, txn, &again);
		err = cache_end(txn, err);
	}
	/* The kernel knows the file as it was. */
	if (err == 0 && again)
		w->tier->cfg.inode_changed(w->tier->cfg.arg, w->row.ino);
	if (err == 0 && (again || (!local && w->restages == 0)))
		tier_work_again(w, 0);
	else
		tier_work_other_way(w);
}

static void source_answered(struct work *w, int err)
{
	(void)err;
	switch (w->req.result) {
	case BLOB_OK:
		tier_work_prove(w, w->source, source_known);
		break;
	case BLOB_NOT_FOUND:
		source_known(w, 0);
		break;
	case BLOB_STOPPED:
		w->state = WORK_WAITING;
		break;
	default:
		source_not_told(w);
		break;
	}
}

void tier_source_moved(struct work *w)
{
	w->state = WORK_SETTLING;
	blob_req_fini(&w->req);
	memset(&w->req, 0, sizeof(w->req));
	w->req.op = BLOB_HEAD;
	w->req.name = w->source;
	tier_work_ask(w, source_answered);
}
