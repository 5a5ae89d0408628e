// SPDX-License-Identifier: GPL-2.0-only
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "account.h"
#include "endpoint.h"
#include "handle.h"
#include "handover.h"
#include "listener.h"
#include "offer.h"
#include "segment.h"
#include "session.h"
#include "view.h"

struct workqueue_struct *shmipc_wq;

/* ---- endpoint ---- */

static void endpoint_die(struct work_struct *work);

struct shmipc_endpoint *shmipc_endpoint_new(const struct cred *cred, struct shmipc_user *user)
{
	struct shmipc_endpoint *ep;
	int err;

	ep = kzalloc(sizeof(*ep), GFP_KERNEL_ACCOUNT);
	if (!ep)
		return ERR_PTR(-ENOMEM);
	err = shmipc_endpoint_charge(user);
	if (err) {
		kfree(ep);
		return ERR_PTR(err);
	}
	kref_init(&ep->ref);
	ep->cred = get_cred(cred);
	ep->user = shmipc_user_get(user);
	mutex_init(&ep->lock);
	xa_init_flags(&ep->handles, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	spin_lock_init(&ep->ready_lock);
	INIT_LIST_HEAD(&ep->ready);
	spin_lock_init(&ep->view_lock);
	ep->views = RB_ROOT;
	INIT_WORK(&ep->death, endpoint_die);
	init_completion(&ep->over);
	shmipc_handover_init(ep);
	shmipc_live_inc(endpoints);
	shmipc_total_inc(endpoints);
	return ep;
}

static void endpoint_free(struct kref *ref)
{
	struct shmipc_endpoint *ep = container_of(ref, struct shmipc_endpoint, ref);

	WARN_ON_ONCE(!RB_EMPTY_ROOT(&ep->views) || !list_empty(&ep->ready) || ep->att ||
		     ep->next || ep->offer);
	xa_destroy(&ep->handles);
	put_cred(ep->cred);
	shmipc_user_put(ep->user);
	kfree_rcu(ep, rcu);
	shmipc_live_dec(endpoints);
}

void shmipc_endpoint_put(struct shmipc_endpoint *ep)
{
	kref_put(&ep->ref, endpoint_free);
}

void shmipc_endpoint_end_locked(struct shmipc_endpoint *ep, enum shmipc_ending how)
{
	lockdep_assert_held(&ep->ready_lock);
	if (atomic_cmpxchg(&ep->ending, SHMIPC_ENDING_NOT, how) != SHMIPC_ENDING_NOT)
		return;
	if (ep->att)
		shmipc_attachment_gone_locked(ep->att, SHMIPC_STATE_DEAD);
	shmipc_endpoint_get(ep);
	queue_work(shmipc_wq, &ep->death);
}

void shmipc_endpoint_end(struct shmipc_endpoint *ep, enum shmipc_ending how)
{
	struct shmipc_attachment *att;

	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	shmipc_endpoint_end_locked(ep, how);
	att = ep->att;
	spin_unlock(&ep->ready_lock);
	if (att)
		wake_up_all(&att->wq);
	rcu_read_unlock();
}

kuid_t shmipc_endpoint_uid(struct shmipc_endpoint *ep)
{
	kuid_t uid;

	spin_lock(&ep->ready_lock);
	uid = ep->cred->euid;
	spin_unlock(&ep->ready_lock);
	return uid;
}

/* Uses up the table's reference. */
static void close_object(struct shmipc_object *obj, u32 flags, u32 reason, bool died)
{
	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		shmipc_view_drop(shmipc_view_of(obj));
		return;
	case SHMIPC_KIND_LISTENER:
		shmipc_listener_close(shmipc_listener_of(obj), died);
		break;
	case SHMIPC_KIND_SESSION:
		shmipc_side_close(shmipc_side_of(obj), flags, reason, died);
		break;
	case SHMIPC_KIND_OFFER:
		shmipc_offer_close(shmipc_offer_of(obj));
		break;
	}
	shmipc_object_put(obj);
}

static void close_all(struct shmipc_endpoint *ep, enum shmipc_kind kind, bool died)
{
	struct shmipc_object *obj;
	unsigned long handle;

	/*
	 * Another thread's CLOSE may take an object and free it while we look: it is read again,
	 * with a reference, before it is touched.
	 */
	xa_for_each(&ep->handles, handle, obj) {
		cond_resched();
		obj = shmipc_handle_get(ep, handle, kind);
		if (IS_ERR(obj))
			continue;
		if (shmipc_handle_take(ep, obj))
			close_object(obj, 0, 0, died);
		shmipc_object_put(obj);
	}
}

/* In this order: nobody new comes, the memory is out of reach, peers know, memory is given back. */
static void endpoint_die(struct work_struct *work)
{
	struct shmipc_endpoint *ep = container_of(work, struct shmipc_endpoint, death);
	bool died = shmipc_endpoint_died(ep);
	struct shmipc_attachment *att[2];

	mutex_lock(&ep->lock);
	ep->dead = true;
	shmipc_withdraw_locked(ep);
	mutex_unlock(&ep->lock);

	close_all(ep, SHMIPC_KIND_LISTENER, died);
	shmipc_views_close(ep);
	close_all(ep, SHMIPC_KIND_SESSION, died);
	shmipc_attachments_get(ep, att);
	if (att[0]) {
		wake_up_all(&att[0]->wq);
		shmipc_attachment_put(att[0]);
	}
	close_all(ep, SHMIPC_KIND_SEGMENT, died);
	shmipc_endpoint_uncharge(ep->user);
	if (died)
		shmipc_total_inc(deaths);
	/* With the last of them the module may go; what is left of this work is waited for then. */
	shmipc_orphan_end(ep);
	complete_all(&ep->over);
	shmipc_endpoint_put(ep);
}

bool shmipc_endpoint_describe(struct shmipc_endpoint *ep, struct shmipc_peer *peer)
{
	struct user_namespace *ns = current_user_ns();
	bool paused;

	/* The number may be another process's by now, when ours is gone and its memory lives on. */
	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	peer->uid = from_kuid_munged(ns, ep->cred->euid);
	peer->gid = from_kgid_munged(ns, ep->cred->egid);
	if (ep->att && pid_task(ep->att->pid, PIDTYPE_TGID))
		peer->pid = pid_vnr(ep->att->pid);
	else
		peer->pid = 0;
	peer->generation = ep->generation;
	/* Also from a loss to what follows from it, and in the middle of a COMMIT. */
	paused = (!ep->att || ep->att->hold != SHMIPC_HOLD_ACTIVE) && !shmipc_endpoint_ending(ep);
	spin_unlock(&ep->ready_lock);
	rcu_read_unlock();
	return paused;
}

static const char *state_name(const struct shmipc_attachment *att)
{
	static const char *const endings[] = { "moved", "died", "closed" };

	switch (READ_ONCE(att->hold)) {
	case SHMIPC_HOLD_YIELDED:
		return "yielded";
	case SHMIPC_HOLD_ADOPTING:
		return "adopting";
	case SHMIPC_HOLD_GONE:
		if (READ_ONCE(att->anchor->state) == SHMIPC_STATE_MOVED)
			return "moved";
		return endings[atomic_read(&att->ep->ending)];
	default:
		return READ_ONCE(att->ep->offer) ? "offered" : "live";
	}
}

void shmipc_attachment_show(struct shmipc_attachment *att, struct seq_file *m)
{
	struct shmipc_endpoint *ep = att->ep;

	seq_printf(m, "shmipc-state:\t%s\n", state_name(att));
	seq_printf(m, "shmipc-segments:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_SEGMENT]));
	seq_printf(m, "shmipc-listeners:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_LISTENER]));
	seq_printf(m, "shmipc-sessions:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_SESSION]));
	seq_printf(m, "shmipc-limbo:\t%d\n", atomic_read(&ep->limbo));
	seq_printf(m, "shmipc-pages:\t%ld\n", atomic_long_read(&ep->pages));
	seq_printf(m, "shmipc-user-pages:\t%ld\n", atomic_long_read(&att->user->pages));
}

/* ---- CLOSE ---- */

/*
 * Returns when everything has been given back; peers learn that it was meant. A successor gives up
 * its adoption, and nothing else.
 */
static int close_endpoint(struct shmipc_attachment *att, const struct shmipc_close *arg)
{
	struct shmipc_endpoint *ep = att->ep;
	int err;

	if (arg->flags || arg->reason)
		return -EINVAL;
	err = shmipc_attachment_end(att, SHMIPC_ENDING_CLOSED);
	if (err)
		return err;
	flush_work(&ep->settle);
	if (shmipc_endpoint_ending(ep))
		wait_for_completion(&ep->over);
	return 0;
}

/* The table's reference is ours then. A holder that has yielded may only take back its offer. */
static int take_handle(struct shmipc_attachment *att, struct shmipc_object *obj)
{
	struct shmipc_endpoint *ep = att->ep;
	u32 hold;
	int err;

	mutex_lock(&ep->lock);
	hold = READ_ONCE(att->hold);
	err = shmipc_hold_status(hold);
	if (hold == SHMIPC_HOLD_YIELDED && obj->kind == SHMIPC_KIND_OFFER)
		err = 0;
	if (!err && !shmipc_handle_take(ep, obj))
		err = -ENOENT;
	/* Here, not in the close that follows: between the two a COMMIT could win as well. */
	if (!err && obj->kind == SHMIPC_KIND_OFFER && ep->offer == shmipc_offer_of(obj))
		shmipc_withdraw_locked(ep);
	mutex_unlock(&ep->lock);
	return err;
}

int shmipc_close(struct shmipc_call *call)
{
	const struct shmipc_close *arg = call->arg;
	struct shmipc_object *obj;
	int err;

	if (arg->flags & ~SHMIPC_CLOSE_REVOKE)
		return -EOPNOTSUPP;
	if (!arg->handle)
		return close_endpoint(call->att, arg);
	obj = shmipc_handle_get_any(call->ep, arg->handle);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	if (obj->kind != SHMIPC_KIND_SESSION && (arg->flags || arg->reason))
		err = -EINVAL;
	else
		err = take_handle(call->att, obj);
	if (!err)
		close_object(obj, arg->flags, arg->reason, false);
	shmipc_object_put(obj);
	return err;
}

int shmipc_endpoint_init(void)
{
	shmipc_wq = alloc_workqueue("shmipc", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return shmipc_wq ? 0 : -ENOMEM;
}

/* The last death may still be at work. */
void shmipc_endpoint_exit(void)
{
	destroy_workqueue(shmipc_wq);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/endpoint_test.c"
#endif
