// SPDX-License-Identifier: GPL-2.0-only
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "account.h"
#include "endpoint.h"
#include "handover.h"
#include "holdings.h"
#include "listener.h"
#include "offer.h"
#include "session.h"

/* ---- the end before COMMIT ---- */

/* The successor is no more than an open file then, and the holder goes on. */
static void adoption_over_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *next = ep->next;
	bool thaws;

	lockdep_assert_held(&ep->lock);
	if (!next)
		return;
	spin_lock(&ep->ready_lock);
	shmipc_attachment_gone_locked(next, SHMIPC_STATE_DEAD);
	spin_unlock(&ep->ready_lock);
	/* Until nothing is mapped there any more, who ends a right finds it by ep->next. */
	shmipc_attachment_revoke(next);
	spin_lock(&ep->ready_lock);
	WRITE_ONCE(ep->next, NULL);
	thaws = ep->att && ep->att->hold == SHMIPC_HOLD_YIELDED;
	if (thaws)
		WRITE_ONCE(ep->att->hold, SHMIPC_HOLD_ACTIVE);
	spin_unlock(&ep->ready_lock);
	wake_up_all(&next->wq);
	shmipc_unreserve_locked(ep, next->user);
	if (ep->orphan.is)
		shmipc_orphan_drop_nets_locked(ep);
	shmipc_attachment_put(next);
	/* What came in the pause. */
	shmipc_ready_pass_on(ep);
	if (thaws)
		shmipc_sessions_tell_locked(ep, SHMIPC_CAUSE_PEER_PAUSE);
}

void shmipc_withdraw_locked(struct shmipc_endpoint *ep)
{
	adoption_over_locked(ep);
	/* Last: who sees that it is over finds all as it was. */
	shmipc_offer_over_locked(ep);
	shmipc_deadline_arm_locked(ep);
}

/* ---- works ---- */

void shmipc_deadline_arm_locked(struct shmipc_endpoint *ep)
{
	u64 now = get_jiffies_64();
	u64 at = ep->offer ? ep->offer->until : shmipc_orphan_until_locked(ep);

	lockdep_assert_held(&ep->lock);
	if (!at || ep->dead) {
		if (cancel_delayed_work(&ep->timer))
			shmipc_endpoint_put(ep);
		return;
	}
	shmipc_endpoint_get(ep);
	if (mod_delayed_work(shmipc_wq, &ep->timer, at > now ? at - now : 0))
		shmipc_endpoint_put(ep);
}

static void deadline(struct work_struct *work)
{
	struct shmipc_endpoint *ep = container_of(to_delayed_work(work), struct shmipc_endpoint,
						  timer);
	u64 now = get_jiffies_64();

	mutex_lock(&ep->lock);
	if (ep->offer && ep->offer->until <= now)
		shmipc_withdraw_locked(ep);
	if (!ep->offer && ep->orphan.is && !ep->dead && ep->orphan.until <= now) {
		shmipc_total_inc(expiries);
		shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
	}
	mutex_unlock(&ep->lock);
	shmipc_endpoint_put(ep);
}

static bool is_lost(struct shmipc_endpoint *ep, struct shmipc_attachment *const *att)
{
	bool lost;

	spin_lock(&ep->ready_lock);
	lost = *att && (*att)->hold == SHMIPC_HOLD_GONE && !shmipc_endpoint_ending(ep);
	spin_unlock(&ep->ready_lock);
	return lost;
}

static void settle(struct work_struct *work)
{
	struct shmipc_endpoint *ep = container_of(work, struct shmipc_endpoint, settle);

	mutex_lock(&ep->lock);
	if (is_lost(ep, &ep->next))
		shmipc_withdraw_locked(ep);
	if (is_lost(ep, &ep->att))
		shmipc_orphan_begin_locked(ep);
	mutex_unlock(&ep->lock);
	shmipc_endpoint_put(ep);
}

void shmipc_settle(struct shmipc_endpoint *ep)
{
	shmipc_endpoint_get(ep);
	if (!queue_work(shmipc_wq, &ep->settle))
		shmipc_endpoint_put(ep);
}

void shmipc_handover_init(struct shmipc_endpoint *ep)
{
	INIT_WORK(&ep->settle, settle);
	INIT_DELAYED_WORK(&ep->timer, deadline);
	INIT_LIST_HEAD(&ep->orphan.link);
}

/* ---- ADOPT ---- */

/**
 * struct adoption - an ADOPT under way
 * @ep: what is adopted, referenced
 * @offer: through whose file, or NULL; referenced
 * @listener: by whose name, or NULL; referenced
 */
struct adoption {
	struct shmipc_endpoint *ep;
	struct shmipc_offering *offer;
	struct shmipc_listener *listener;
};

bool shmipc_same_user(struct shmipc_attachment *att, struct shmipc_endpoint *ep)
{
	const struct cred *cred = att->file->f_cred;
	bool same;

	spin_lock(&ep->ready_lock);
	same = cred->user_ns == ep->cred->user_ns && uid_eq(cred->euid, ep->cred->euid);
	spin_unlock(&ep->ready_lock);
	return same;
}

static bool adopt_permitted(const struct adoption *a, struct shmipc_attachment *att)
{
	const struct shmipc_offering *offer = a->offer ?: a->ep->offer;

	lockdep_assert_held(&a->ep->lock);
	if (a->offer && offer->adopt == SHMIPC_ADOPT_HOLDER)
		return true;
	if (offer && offer->adopt == SHMIPC_ADOPT_EUID && shmipc_same_user(att, a->ep))
		return true;
	if (a->listener)
		return shmipc_orphan_permits(a->listener, att);
	return file_ns_capable(att->file, &init_user_ns, CAP_SYS_ADMIN);
}

static int adopt_find(struct shmipc_call *call, struct adoption *a)
{
	const struct shmipc_adopt *arg = call->arg;
	char name[SHMIPC_NAME_MAX];
	int err;

	if (arg->name_len) {
		if (arg->offer_fd)
			return -EINVAL;
		err = shmipc_name_read(name, arg->name, arg->name_len);
		if (err)
			return err;
		a->listener = shmipc_listener_find(name, arg->name_len);
		if (!a->listener)
			return -ENOENT;
		a->ep = shmipc_endpoint_get(a->listener->obj.ep);
		return 0;
	}
	if (arg->name)
		return -EINVAL;
	a->offer = shmipc_offer_get(arg->offer_fd);
	if (IS_ERR(a->offer)) {
		err = PTR_ERR(a->offer);
		a->offer = NULL;
		return err;
	}
	a->ep = shmipc_endpoint_get(a->offer->obj.ep);
	return 0;
}

/* May it be adopted now? */
static int adopt_check_locked(const struct adoption *a, struct shmipc_attachment *by)
{
	struct shmipc_endpoint *ep = a->ep;

	if (!adopt_permitted(a, by))
		return -EACCES;
	if (ep->dead || shmipc_endpoint_ending(ep) || (a->offer && a->offer->over))
		return -ESTALE;
	if (ep->next)
		return -EBUSY;
	/* A holder that has not offered; one that was lost a moment ago is an orphan soon. */
	return ep->offer || ep->orphan.is ? 0 : -EBUSY;
}

/* All that COMMIT needs, and then the first sight of it. */
static int adopt_locked(const struct adoption *a, struct shmipc_attachment *by,
			struct shmipc_attachment *att)
{
	struct shmipc_endpoint *ep = a->ep;
	int err;

	err = adopt_check_locked(a, by);
	if (err)
		return err;
	err = shmipc_reserve_locked(ep, att->user);
	if (err)
		return err;
	err = ep->orphan.is ? shmipc_orphan_keep_nets_locked(ep) : 0;
	if (err) {
		shmipc_unreserve_locked(ep, att->user);
		return err;
	}
	shmipc_attachment_set_rights(att, SHMIPC_RIGHT_READ);
	refcount_inc(&att->ref);
	spin_lock(&ep->ready_lock);
	att->hold = SHMIPC_HOLD_ADOPTING;
	att->anchor->state = SHMIPC_STATE_ADOPTING;
	WRITE_ONCE(ep->next, att);
	spin_unlock(&ep->ready_lock);
	shmipc_total_inc(adoptions);
	if (ep->offer) {
		wake_up_poll(&ep->offer->wq, EPOLLIN | EPOLLRDNORM);
		shmipc_ready_ring(ep, &ep->offer->ready, SHMIPC_CAUSE_OFFER, false);
	}
	return 0;
}

/* An open file with the credentials that count, for an attachment that holds nothing yet. */
static struct file *adopt_file(struct shmipc_call *call, struct shmipc_endpoint *ep)
{
	const struct cred *cred = call->att->file->f_cred, *former;
	struct shmipc_attachment *att = shmipc_attachment_new(cred);
	struct file *file;

	if (IS_ERR(att))
		return ERR_CAST(att);
	att->ep = shmipc_endpoint_get(ep);
	att->hold = SHMIPC_HOLD_GONE;
	former = override_creds(cred);
	file = anon_inode_getfile("[shmipc]", &shmipc_fops, NULL, O_RDWR);
	revert_creds(former);
	if (IS_ERR(file))
		shmipc_attachment_put(att);
	else
		shmipc_attachment_install(att, file);
	return file;
}

static int adopt_tell(struct shmipc_call *call, const struct adoption *a, struct file *file)
{
	struct shmipc_adopt *arg = call->arg;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	arg->out_fd = fd;
	err = shmipc_call_respond(call);
	if (!err) {
		/* A holder that is dead is an orphan after this. */
		flush_work(&a->ep->settle);
		mutex_lock(&a->ep->lock);
		err = adopt_locked(a, call->att, file->private_data);
		mutex_unlock(&a->ep->lock);
	}
	if (err)
		put_unused_fd(fd);
	else
		fd_install(fd, file);
	return err;
}

int shmipc_adopt(struct shmipc_call *call)
{
	const struct shmipc_adopt *arg = call->arg;
	struct adoption a = {};
	struct file *file;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->__reserved)
		return -EINVAL;
	err = adopt_find(call, &a);
	if (err)
		return err;
	file = adopt_file(call, a.ep);
	err = PTR_ERR_OR_ZERO(file);
	if (!err)
		err = adopt_tell(call, &a, file);
	if (err && !IS_ERR(file))
		fput(file);
	if (a.offer)
		shmipc_object_put(&a.offer->obj);
	if (a.listener)
		shmipc_object_put(&a.listener->obj);
	shmipc_endpoint_put(a.ep);
	return err;
}

/* ---- YIELD ---- */

static int yield_locked(struct shmipc_attachment *att)
{
	struct shmipc_endpoint *ep = att->ep;
	int err;

	err = ep->dead ? -ESTALE : shmipc_attachment_status(att);
	if (!err && !ep->next)
		err = ep->offer ? -EAGAIN : -ENOENT;
	if (!err)
		err = shmipc_reserve_locked(ep, ep->next->user);
	if (err)
		return err;
	spin_lock(&ep->ready_lock);
	err = shmipc_attachment_status(att);
	if (!err)
		WRITE_ONCE(att->hold, SHMIPC_HOLD_YIELDED);
	spin_unlock(&ep->ready_lock);
	if (!err) {
		wake_up_all(&att->wq);
		wake_up_all(&ep->next->wq);
		shmipc_sessions_tell_locked(ep, SHMIPC_CAUSE_PEER_PAUSE);
	}
	return err;
}

int shmipc_yield(struct shmipc_call *call)
{
	const struct shmipc_yield *arg = call->arg;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	mutex_lock(&call->ep->lock);
	err = yield_locked(call->att);
	mutex_unlock(&call->ep->lock);
	return err;
}

/* ---- COMMIT ---- */

bool shmipc_may_commit(struct shmipc_attachment *att)
{
	struct shmipc_endpoint *ep = att->ep;
	bool may;

	spin_lock(&ep->ready_lock);
	may = ep->next == att && (!ep->att || ep->att->hold == SHMIPC_HOLD_YIELDED);
	spin_unlock(&ep->ready_lock);
	return may;
}

/* What a holder made who was lost after ADOPT, and never came to YIELD, is not reserved yet. */
static int commit_reserve_locked(struct shmipc_attachment *att)
{
	if (READ_ONCE(att->hold) != SHMIPC_HOLD_ADOPTING || att->ep->next != att)
		return 0;
	return shmipc_reserve_locked(att->ep, att->user);
}

/* The last step that may fail: from here on the former holder's loss or end is none of ep's. */
static int commit_begin_locked(struct shmipc_attachment *att, struct shmipc_attachment **old)
{
	struct shmipc_endpoint *ep = att->ep;
	u32 hold = READ_ONCE(att->hold);
	int err = 0;

	if (hold != SHMIPC_HOLD_ADOPTING)
		return hold == SHMIPC_HOLD_GONE ? -ESTALE : -ENOENT;
	spin_lock(&ep->ready_lock);
	if (shmipc_endpoint_ending(ep) || att->hold == SHMIPC_HOLD_GONE) {
		err = -ESTALE;
	} else if (ep->att && ep->att->hold != SHMIPC_HOLD_YIELDED) {
		err = -EAGAIN;
	} else if (ep->att) {
		*old = ep->att;
		refcount_inc(&(*old)->ref);
		shmipc_attachment_gone_locked(*old, SHMIPC_STATE_MOVED);
	}
	spin_unlock(&ep->ready_lock);
	return err;
}

static void charges_move_locked(struct shmipc_endpoint *ep, struct shmipc_attachment *att)
{
	struct shmipc_user *user = shmipc_user_get(att->user);

	shmipc_recharge_locked(ep, user);
	spin_lock(&ep->ready_lock);
	swap(user, ep->user);
	spin_unlock(&ep->ready_lock);
	shmipc_user_put(user);
}

/* With its handle gone nobody has any use of it; closing it takes locks that go before ep->lock. */
static void session_doom_locked(struct shmipc_endpoint *ep, struct shmipc_side *side,
				struct list_head *doomed)
{
	if (!shmipc_handle_take(ep, &side->obj))
		return;
	shmipc_ready_off(ep, &side->ready);
	/* Free from here on, for it is off for ever. */
	list_add(&side->ready.link, doomed);
}

static void session_moved_locked(struct shmipc_endpoint *ep, struct shmipc_side *side, kuid_t uid,
				 struct list_head *doomed)
{
	if (side->index && shmipc_session_unwanted(shmipc_session_of(side), uid))
		session_doom_locked(ep, side, doomed);
	else
		shmipc_ready_renew(ep, &side->ready, SHMIPC_CAUSE_PEER_CHANGED);
}

static void objects_moved_locked(struct shmipc_endpoint *ep, kuid_t uid, struct list_head *doomed)
{
	struct shmipc_listener *l;
	struct shmipc_object *obj;
	unsigned long handle;

	xa_for_each(&ep->handles, handle, obj) {
		switch (obj->kind) {
		case SHMIPC_KIND_LISTENER:
			l = shmipc_listener_of(obj);
			shmipc_ready_renew(ep, &l->ready,
					   READ_ONCE(l->queued) ? SHMIPC_CAUSE_ACCEPT : 0);
			break;
		case SHMIPC_KIND_SESSION:
			session_moved_locked(ep, shmipc_side_of(obj), uid, doomed);
			break;
		case SHMIPC_KIND_OFFER:
			/* The former holder's news, and with his cookie. */
			shmipc_ready_off(ep, &shmipc_offer_of(obj)->ready);
			break;
		}
		cond_resched();
	}
}

/*
 * Nobody can have lost it for good: its ioctl is under way. But its anchor may be gone by now. The
 * credentials go with it in one step: who looks finds the former holder, or this one.
 */
static void commit_attach_locked(struct shmipc_endpoint *ep, struct shmipc_attachment *att)
{
	const struct cred *cred = get_cred(att->file->f_cred);

	shmipc_attachment_set_rights(att, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	spin_lock(&ep->ready_lock);
	swap(cred, ep->cred);
	ep->generation++;
	ep->att = att;
	WRITE_ONCE(ep->next, NULL);
	if (att->hold == SHMIPC_HOLD_ADOPTING) {
		WRITE_ONCE(att->hold, SHMIPC_HOLD_ACTIVE);
		/* Pairs with the acquire of who polls the anchor. */
		smp_store_release(&att->anchor->state, SHMIPC_STATE_LIVE);
		/* What came in the pause is on the list. */
		smp_store_release(&att->anchor->ready, att->anchor->ready + 1);
	}
	spin_unlock(&ep->ready_lock);
	put_cred(cred);
}

static void commit_locked(struct shmipc_endpoint *ep, struct shmipc_attachment *att,
			  struct shmipc_attachment *old, struct list_head *doomed)
{
	lockdep_assert_held(&ep->lock);
	/* In this order: nobody may write, all is for the other, it may, peers are told. */
	if (old)
		shmipc_attachment_revoke(old);
	charges_move_locked(ep, att);
	objects_moved_locked(ep, att->file->f_cred->euid, doomed);
	commit_attach_locked(ep, att);
	shmipc_sessions_tell_locked(ep, SHMIPC_CAUSE_PEER_CHANGED);
	shmipc_orphan_end(ep);
	shmipc_offer_over_locked(ep);
	shmipc_deadline_arm_locked(ep);
	shmipc_total_inc(commits);
}

static void sessions_close(struct list_head *doomed)
{
	struct shmipc_side *side, *next;

	list_for_each_entry_safe(side, next, doomed, ready.link) {
		list_del_init(&side->ready.link);
		shmipc_side_close(side, 0, 0, false);
		shmipc_object_put(&side->obj);
		cond_resched();
	}
}

int shmipc_commit(struct shmipc_call *call)
{
	const struct shmipc_commit *arg = call->arg;
	struct shmipc_attachment *att = call->att, *old = NULL;
	LIST_HEAD(doomed);
	bool lost;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
again:
	mutex_lock(&call->ep->lock);
	err = commit_reserve_locked(att) ?: commit_begin_locked(att, &old);
	lost = err == -EAGAIN && is_lost(call->ep, &call->ep->att);
	if (!err)
		commit_locked(call->ep, att, old, &doomed);
	mutex_unlock(&call->ep->lock);
	if (lost) {
		/* A holder that died since YIELD: what becomes of the endpoint is on its way. */
		flush_work(&call->ep->settle);
		goto again;
	}
	if (err)
		return err;
	sessions_close(&doomed);
	if (old) {
		wake_up_all(&old->wq);
		shmipc_attachment_put(old);
	}
	wake_up_all(&att->wq);
	/* ep->next's. */
	shmipc_attachment_put(att);
	return 0;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/handover_test.c"
#endif
