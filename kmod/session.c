// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cred.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "account.h"
#include "endpoint.h"
#include "give.h"
#include "listener.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* ---- life ---- */

static void side_init(struct shmipc_session *s, int index, struct shmipc_endpoint *ep)
{
	struct shmipc_side *side = &s->side[index];

	shmipc_object_init(&side->obj, SHMIPC_KIND_SESSION, ep);
	shmipc_ready_init(&side->ready, 0, SHMIPC_CAUSE_USER);
	xa_init_flags(&side->slots, XA_FLAGS_ACCOUNT);
	side->index = index;
	shmipc_live_inc(sides);
}

struct shmipc_session *shmipc_session_new(struct shmipc_attachment *att,
					  const struct shmipc_connect *arg, u32 meta_len)
{
	struct shmipc_session *s;
	int err;

	err = shmipc_session_charge(att->user);
	if (err)
		return ERR_PTR(err);
	s = kzalloc(struct_size(s, meta, meta_len), GFP_KERNEL_ACCOUNT);
	if (!s) {
		shmipc_session_uncharge(att->user);
		return ERR_PTR(-ENOMEM);
	}
	spin_lock_init(&s->lock);
	s->state = SHMIPC_SESSION_PENDING;
	s->blocking = !(arg->flags & SHMIPC_CONNECT_NONBLOCK);
	refcount_set(&s->sides_left, 2);
	s->user = shmipc_user_get(att->user);
	s->expect_uid = INVALID_UID;
	if (arg->flags & SHMIPC_CONNECT_EXPECT_UID)
		s->expect_uid = make_kuid(current_user_ns(), arg->expect_uid);
	side_init(s, 0, att->ep);
	side_init(s, 1, NULL);
	s->side[0].ready.cookie = arg->cookie;
	s->side[0].ready.enabled |= arg->causes;
	s->side[0].zero = arg->flags & SHMIPC_CONNECT_ZERO_REVOKED;
	INIT_LIST_HEAD(&s->queued);
	init_waitqueue_head(&s->answered);
	s->meta_len = meta_len;
	shmipc_live_inc(sessions);
	shmipc_total_inc(sessions);
	return s;
}

static void session_free(struct shmipc_session *s)
{
	unsigned long slot = 0;
	int i;

	for (i = 0; i < 2; i++) {
		WARN_ON_ONCE(xa_find(&s->side[i].slots, &slot, ULONG_MAX, XA_PRESENT));
		/* What is left are empty reservations. */
		xa_destroy(&s->side[i].slots);
		if (s->side[i].obj.ep)
			shmipc_endpoint_put(s->side[i].obj.ep);
	}
	WARN_ON_ONCE(s->first);
	if (s->listener)
		shmipc_object_put(&s->listener->obj);
	shmipc_user_put(s->user);
	kfree_rcu(s, rcu);
	shmipc_live_dec(sessions);
}

void shmipc_side_free(struct shmipc_side *side)
{
	struct shmipc_session *s = shmipc_session_of(side);

	shmipc_live_dec(sides);
	if (refcount_dec_and_test(&s->sides_left))
		session_free(s);
}

/* Called once, by who closed the second side. */
static void session_over(struct shmipc_session *s)
{
	if (s->quota)
		shmipc_quota_put(s->listener, s->quota);
	shmipc_session_uncharge(s->user);
}

struct shmipc_view *shmipc_slot_get(struct shmipc_side *granter, unsigned long slot)
{
	struct shmipc_view *view;

	rcu_read_lock();
	view = xa_load(&granter->slots, slot);
	if (xa_is_value(view) || (view && !shmipc_view_tryget(view)))
		view = NULL;
	rcu_read_unlock();
	return view;
}

/*
 * A grant ends with the receiver's close, and what was sent before it may still be read: who adopts
 * the granter has to learn which segments the session lived in. So the owner's handle stays, for
 * LIST, until the granter closes, too.
 */
static void slot_clear(struct shmipc_side *granter, unsigned long slot, struct shmipc_view *view)
{
	struct shmipc_session *s = shmipc_session_of(granter);
	u32 handle = shmipc_segment_handle(view->segment);
	void *left = NULL;

	spin_lock(&s->lock);
	if (handle && shmipc_side_peer(granter)->closed && !granter->closed)
		left = xa_mk_value(handle);
	xa_cmpxchg(&granter->slots, slot, view, left, 0);
	spin_unlock(&s->lock);
}

/* False: another was first, who has ended the grant or taken what was given through it. */
static bool slot_empty(struct shmipc_side *granter, unsigned long slot, struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	bool mine;

	mutex_lock(&seg->moves);
	mine = xa_load(&granter->slots, slot) == view;
	if (mine) {
		shmipc_gift_end(granter, view);
		shmipc_view_revoke(view);
		slot_clear(granter, slot, view);
	}
	mutex_unlock(&seg->moves);
	return mine;
}

/*
 * Ends one grant. It is revoked before its slot is empty, and who comes meanwhile waits: who finds
 * a slot empty knows that nobody has it mapped any more. False: it was empty, or another was first.
 */
static bool slot_drop(struct shmipc_side *granter, unsigned long slot)
{
	struct shmipc_view *view = shmipc_slot_get(granter, slot);
	bool mine;

	if (!view)
		return false;
	mine = slot_empty(granter, slot, view);
	if (mine)
		shmipc_view_drop(view);
	shmipc_view_put(view);
	return mine;
}

static void drop_slots(struct shmipc_side *granter)
{
	unsigned long slot;
	void *entry;

	xa_for_each(&granter->slots, slot, entry) {
		if (xa_is_value(entry))
			xa_erase(&granter->slots, slot);
		else
			slot_drop(granter, slot);
		cond_resched();
	}
}

/* ---- close ---- */

/* Marks @side closed. True: it was the second. Takes the connector's segment if nobody got it. */
static bool close_locked(struct shmipc_session *s, struct shmipc_side *side,
			 struct shmipc_view **first)
{
	lockdep_assert_held(&s->lock);
	side->closed = true;
	*first = s->first;
	s->first = NULL;
	if (s->state == SHMIPC_SESSION_PENDING) {
		/* Nobody holds the other side's handle. */
		shmipc_side_peer(side)->closed = true;
	} else if (!shmipc_side_peer(side)->closed) {
		return false;
	}
	WRITE_ONCE(s->state, SHMIPC_SESSION_OVER);
	return true;
}

void shmipc_side_close(struct shmipc_side *side, u32 flags, u32 reason, bool died)
{
	struct shmipc_session *s = shmipc_session_of(side);
	struct shmipc_side *peer = shmipc_side_peer(side);
	struct shmipc_view *first;
	bool pending, over;

	spin_lock(&s->lock);
	pending = s->state == SHMIPC_SESSION_PENDING;
	side->reason = reason;
	side->died = died;
	over = close_locked(s, side, &first);
	spin_unlock(&s->lock);

	shmipc_ready_off(side->obj.ep, &side->ready);
	if (pending) {
		if (s->blocking)
			wake_up_all(&s->answered);
		if (shmipc_listener_unqueue(s->listener, s))
			shmipc_object_put(&peer->obj);
	} else if (!over) {
		shmipc_ready_ring(peer->obj.ep, &peer->ready,
				  died ? SHMIPC_CAUSE_PEER_DIED : SHMIPC_CAUSE_PEER_CLOSED, false);
	}
	if (first)
		shmipc_view_drop(first);
	drop_slots(peer);
	if (over || flags & SHMIPC_CLOSE_REVOKE)
		drop_slots(side);
	if (over)
		session_over(s);
}

void shmipc_session_refuse(struct shmipc_session *s, bool died)
{
	struct shmipc_side *connector = &s->side[0];
	struct shmipc_view *first = NULL;
	bool refused;

	spin_lock(&s->lock);
	refused = s->state == SHMIPC_SESSION_PENDING;
	if (refused) {
		first = s->first;
		s->first = NULL;
		s->side[1].closed = true;
		s->side[1].died = died;
		WRITE_ONCE(s->state, SHMIPC_SESSION_OVER);
	}
	spin_unlock(&s->lock);
	if (refused && s->blocking)
		wake_up_all(&s->answered);
	else if (refused)
		shmipc_ready_ring(connector->obj.ep, &connector->ready,
				  died ? SHMIPC_CAUSE_PEER_DIED : SHMIPC_CAUSE_PEER_CLOSED, false);
	if (first)
		shmipc_view_drop(first);
	shmipc_object_put(&s->side[1].obj);
}

/* ---- handover ---- */

void shmipc_sessions_tell_locked(struct shmipc_endpoint *ep, u32 cause)
{
	struct shmipc_object *obj;
	struct shmipc_side *peer;
	unsigned long handle;

	lockdep_assert_held(&ep->lock);
	xa_for_each(&ep->handles, handle, obj) {
		if (obj->kind != SHMIPC_KIND_SESSION)
			continue;
		peer = shmipc_side_peer(shmipc_side_of(obj));
		/* Pairs with the release when it was accepted: the peer's endpoint is set. */
		if (smp_load_acquire(&shmipc_session_of(peer)->state) == SHMIPC_SESSION_LIVE)
			shmipc_ready_ring(peer->obj.ep, &peer->ready, cause, false);
		cond_resched();
	}
}

/* ---- acceptance ---- */

/* Both grants or none. @view is the acceptor's segment, or NULL. */
static int grant_both_locked(struct shmipc_session *s, struct shmipc_endpoint *home,
			     struct shmipc_view *view)
{
	int err;

	lockdep_assert_held(&s->lock);
	if (s->first) {
		s->first->granter = &s->side[0];
		s->first->zero = s->side[1].zero;
		err = shmipc_view_place(s->first, home);
		/* Not to come back to the head of the queue for ever. */
		if (err)
			return err == -ESTALE ? err : -EPIPE;
	}
	if (view) {
		view->granter = &s->side[1];
		view->zero = s->side[0].zero;
		/* The session is refused then, and that drops what was placed. */
		if (shmipc_view_place(view, s->side[0].obj.ep))
			return -EPIPE;
	}
	/* Room was made when the session was. */
	if (s->first)
		WARN_ON_ONCE(xa_err(xa_store(&s->side[0].slots, 0, s->first, GFP_NOWAIT)));
	if (view)
		WARN_ON_ONCE(xa_err(xa_store(&s->side[1].slots, 0, view, GFP_NOWAIT)));
	s->first = NULL;
	return 0;
}

int shmipc_session_accept_locked(struct shmipc_session *s, struct shmipc_endpoint *home,
				 struct shmipc_view *view)
{
	struct shmipc_side *side = &s->side[1];
	int err = -EPIPE;

	spin_lock(&s->lock);
	if (s->state == SHMIPC_SESSION_PENDING &&
	    !shmipc_session_unwanted(s, shmipc_endpoint_uid(home)))
		err = grant_both_locked(s, home, view);
	if (!err) {
		side->obj.ep = shmipc_endpoint_get(home);
		/* The connector may ring as soon as it is LIVE: then the handle has to be there. */
		shmipc_handle_publish_locked(home, &side->obj);
		/* Pairs with the acquire of who rings without the lock. */
		smp_store_release(&s->state, SHMIPC_SESSION_LIVE);
	}
	spin_unlock(&s->lock);
	return err;
}

/* ---- grants ---- */

struct shmipc_side *shmipc_side_get(struct shmipc_endpoint *ep, u32 handle)
{
	struct shmipc_object *obj = shmipc_handle_get(ep, handle, SHMIPC_KIND_SESSION);

	return IS_ERR(obj) ? ERR_CAST(obj) : shmipc_side_of(obj);
}

static int side_check_locked(struct shmipc_session *s, struct shmipc_side *side)
{
	lockdep_assert_held(&s->lock);
	if (s->state == SHMIPC_SESSION_PENDING)
		return -ENOTCONN;
	if (side->closed)
		return -ENOENT;
	return shmipc_side_peer(side)->closed ? -EPIPE : 0;
}

int shmipc_side_check(struct shmipc_side *side)
{
	struct shmipc_session *s = shmipc_session_of(side);
	int err;

	spin_lock(&s->lock);
	err = side_check_locked(s, side);
	spin_unlock(&s->lock);
	return err;
}

static int info_granted(struct shmipc_side *granter, struct shmipc_seg_info *arg)
{
	struct shmipc_view *view = shmipc_slot_get(granter, arg->slot);
	int err = -ENOENT;

	if (!view)
		return -ENOENT;
	if (READ_ONCE(view->rights)) {
		arg->out_length = (u64)view->npages << PAGE_SHIFT;
		arg->out_offset = (u64)view->start << PAGE_SHIFT;
		arg->out_rights = SHMIPC_RIGHT_READ;
		if (READ_ONCE(view->segment->given) == view)
			arg->out_rights |= SHMIPC_RIGHT_TAKE;
		arg->out_grants = 0;
		err = 0;
	}
	shmipc_view_put(view);
	return err;
}

int shmipc_side_info(struct shmipc_call *call, struct shmipc_seg_info *arg)
{
	struct shmipc_side *side = shmipc_side_get(call->ep, arg->handle);
	int err;

	if (IS_ERR(side))
		return PTR_ERR(side);
	err = shmipc_side_check(side);
	/* Of a peer that is gone there is what it granted. */
	if (!err || err == -EPIPE)
		err = info_granted(shmipc_side_peer(side), arg);
	shmipc_object_put(&side->obj);
	return err;
}

static int grant_place(struct shmipc_view *view, struct shmipc_side *granter)
{
	struct shmipc_side *peer = shmipc_side_peer(granter);

	view->granter = granter;
	view->zero = peer->zero;
	return shmipc_view_place(view, peer->obj.ep);
}

/* The last step of a grant: nothing here allocates, the slot has been reserved. */
static int grant_commit_locked(struct shmipc_side *side, struct shmipc_view *view, u32 slot)
{
	struct shmipc_session *s = shmipc_session_of(side);
	int err;

	spin_lock(&s->lock);
	err = side_check_locked(s, side);
	if (!err && (xa_load(&side->slots, slot) || shmipc_segment_granted(view->segment, side)))
		err = -EEXIST;
	if (!err)
		err = grant_place(view, side);
	if (err == -ESTALE)
		err = -EPIPE;
	if (!err)
		err = xa_err(xa_store(&side->slots, slot, view, GFP_NOWAIT));
	spin_unlock(&s->lock);
	return err;
}

/* Under the lock: who has taken the endpoint over finds what was granted, and no more comes. */
static int grant_commit(struct shmipc_attachment *att, struct shmipc_side *side,
			struct shmipc_view *view, u32 slot)
{
	int err;

	mutex_lock(&att->ep->lock);
	err = shmipc_attachment_status(att) ?: grant_commit_locked(side, view, slot);
	mutex_unlock(&att->ep->lock);
	return err;
}

static int grant(struct shmipc_attachment *att, struct shmipc_side *side,
		 struct shmipc_view *owner, u32 slot)
{
	struct shmipc_view *view;
	int err;

	view = shmipc_view_grant(owner);
	if (IS_ERR(view))
		return PTR_ERR(view);
	err = xa_reserve(&side->slots, slot, GFP_KERNEL_ACCOUNT);
	if (!err)
		err = grant_commit(att, side, view, slot);
	if (err)
		shmipc_view_drop(view);
	return err;
}

int shmipc_seg_grant(struct shmipc_call *call)
{
	const struct shmipc_seg_grant *arg = call->arg;
	struct shmipc_object *seg;
	struct shmipc_side *side;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->__reserved || arg->slot >= SHMIPC_SLOTS_MAX)
		return -EINVAL;
	side = shmipc_side_get(call->ep, arg->session);
	if (IS_ERR(side))
		return PTR_ERR(side);
	seg = shmipc_handle_get(call->ep, arg->segment, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(seg)) {
		err = PTR_ERR(seg);
	} else {
		err = grant(call->att, side, shmipc_view_of(seg), arg->slot);
		shmipc_object_put(seg);
	}
	shmipc_object_put(&side->obj);
	return err;
}

int shmipc_seg_revoke(struct shmipc_call *call)
{
	const struct shmipc_seg_revoke *arg = call->arg;
	struct shmipc_side *side;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->slot >= SHMIPC_SLOTS_MAX)
		return -EINVAL;
	side = shmipc_side_get(call->ep, arg->session);
	if (IS_ERR(side))
		return PTR_ERR(side);
	err = shmipc_holder_lock(call->att);
	if (!err) {
		err = slot_drop(side, arg->slot) ? 0 : -ENOENT;
		mutex_unlock(&call->ep->lock);
	}
	if (!err)
		shmipc_total_inc(revokes);
	shmipc_object_put(&side->obj);
	return err;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/session_test.c"
#endif
