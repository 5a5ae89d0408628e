// SPDX-License-Identifier: GPL-2.0-only
#include "account.h"
#include "endpoint.h"
#include "give.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* ---- FREEZE ---- */

static int freeze(struct shmipc_attachment *att, struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	int err;

	err = shmipc_holder_lock(att);
	if (err)
		return err;
	mutex_lock(&seg->moves);
	spin_lock(&seg->lock);
	err = shmipc_segment_check_locked(seg, view);
	spin_unlock(&seg->lock);
	if (!err && !seg->frozen) {
		WRITE_ONCE(seg->frozen, true);
		shmipc_view_change(view, SHMIPC_RIGHT_READ);
		shmipc_total_inc(freezes);
	}
	mutex_unlock(&seg->moves);
	mutex_unlock(&att->ep->lock);
	return err;
}

int shmipc_seg_freeze(struct shmipc_call *call)
{
	const struct shmipc_seg_freeze *arg = call->arg;
	struct shmipc_object *obj;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->__reserved)
		return -EINVAL;
	obj = shmipc_handle_get(call->ep, arg->segment, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	err = freeze(call->att, shmipc_view_of(obj));
	shmipc_object_put(obj);
	return err;
}

/* ---- limbo ---- */

/* The owner's view, referenced; NULL when he has gone. */
static struct shmipc_view *set_given(struct shmipc_segment *seg, struct shmipc_view *given)
{
	struct shmipc_view *owner;

	lockdep_assert_held(&seg->moves);
	spin_lock(&seg->lock);
	WRITE_ONCE(seg->given, given);
	owner = seg->owner;
	/* It has its handle's reference until it is no more the owner's. */
	if (owner)
		refcount_inc(&owner->obj.ref);
	spin_unlock(&seg->lock);
	return owner;
}

static void limbo_begin(struct shmipc_segment *seg, struct shmipc_view *view)
{
	struct shmipc_view *owner = set_given(seg, view);

	atomic_inc(&seg->ep->limbo);
	shmipc_live_inc(limbo);
	if (!owner)
		return;
	shmipc_view_change(owner, 0);
	shmipc_view_put(owner);
}

void shmipc_gift_end(struct shmipc_side *giver, struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	struct shmipc_view *owner;

	lockdep_assert_held(&seg->moves);
	if (seg->given != view)
		return;
	owner = set_given(seg, NULL);
	atomic_dec(&seg->ep->limbo);
	shmipc_live_dec(limbo);
	if (!owner)
		return;
	shmipc_view_change(owner, shmipc_segment_rights(seg));
	shmipc_view_put(owner);
	shmipc_total_inc(returns);
	shmipc_ready_ring(giver->obj.ep, &giver->ready, SHMIPC_CAUSE_RETURNED, false);
}

/* ---- GIVE ---- */

static int give_check(struct shmipc_side *side, struct shmipc_view *view, u32 slot)
{
	struct shmipc_segment *seg = view->segment;
	int err = 0;

	lockdep_assert_held(&seg->moves);
	spin_lock(&seg->lock);
	/* The grant ended, or was taken, before we had the mutex; or the segment was closed. */
	if (xa_load(&side->slots, slot) != view || !seg->owner)
		err = -ENOENT;
	else if (seg->given || seg->nr_grants != 1)
		err = -EBUSY;
	spin_unlock(&seg->lock);
	return err;
}

/* No grant is made from the moment that it is given: a second one can't slip in. */
static int give(struct shmipc_attachment *att, struct shmipc_side *side, u32 slot)
{
	struct shmipc_view *view = shmipc_slot_get(side, slot);
	struct shmipc_segment *seg;
	int err;

	if (!view)
		return -ENOENT;
	seg = view->segment;
	err = shmipc_holder_lock(att);
	if (err)
		goto put;
	mutex_lock(&seg->moves);
	err = give_check(side, view, slot);
	if (!err)
		limbo_begin(seg, view);
	mutex_unlock(&seg->moves);
	mutex_unlock(&att->ep->lock);
put:
	shmipc_view_put(view);
	return err;
}

int shmipc_seg_give(struct shmipc_call *call)
{
	const struct shmipc_seg_give *arg = call->arg;
	struct shmipc_side *side, *peer;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->slot >= SHMIPC_SLOTS_MAX)
		return -EINVAL;
	side = shmipc_side_get(call->ep, arg->session);
	if (IS_ERR(side))
		return PTR_ERR(side);
	peer = shmipc_side_peer(side);
	err = shmipc_side_check(side) ?: give(call->att, side, arg->slot);
	if (!err) {
		shmipc_total_inc(gives);
		shmipc_ready_ring(peer->obj.ep, &peer->ready, SHMIPC_CAUSE_GIVEN, false);
	}
	shmipc_object_put(&side->obj);
	return err;
}

/* ---- TAKE ---- */

/**
 * struct gift - a TAKE under way
 * @att: who takes
 * @giver: the side through which it was given
 * @slot: where
 * @view: the taker's, referenced
 */
struct gift {
	struct shmipc_attachment *att;
	struct shmipc_side *giver;
	u32 slot;
	struct shmipc_view *view;
};

/* The slot's reference becomes the handle's. The view was not revoked, for it is still given. */
static int take_locked(struct gift *g, u32 handle)
{
	struct shmipc_segment *seg = g->view->segment;
	struct shmipc_endpoint *ep = g->att->ep;
	int err;

	lockdep_assert_held(&ep->lock);
	if (seg->given != g->view)
		return -ENOENT;
	err = shmipc_segment_move(g->view, g->att->user);
	if (err)
		return err;
	WRITE_ONCE(seg->frozen, false);
	shmipc_view_change(g->view, shmipc_segment_rights(seg));
	WARN_ON_ONCE(xa_cmpxchg(&g->giver->slots, g->slot, g->view, NULL, 0) != g->view);
	g->view->obj.handle = handle;
	shmipc_handle_publish_locked(ep, &g->view->obj);
	return 0;
}

static int take(struct shmipc_call *call, struct gift *g)
{
	struct shmipc_segment *seg = g->view->segment;
	struct shmipc_seg_take *arg = call->arg;
	struct shmipc_endpoint *ep = call->ep;
	int err;

	err = shmipc_handle_reserve(ep, &arg->out_handle);
	if (err)
		return err;
	arg->out_length = (u64)g->view->npages << PAGE_SHIFT;
	arg->out_offset = (u64)g->view->start << PAGE_SHIFT;
	err = shmipc_call_respond(call) ?: shmipc_holder_lock(g->att);
	if (!err) {
		mutex_lock(&seg->moves);
		err = take_locked(g, arg->out_handle);
		mutex_unlock(&seg->moves);
		mutex_unlock(&ep->lock);
	}
	if (err)
		shmipc_handle_unreserve(ep, arg->out_handle);
	else
		shmipc_total_inc(takes);
	return err;
}

/* The grant stays. */
static int refuse(struct gift *g)
{
	struct shmipc_segment *seg = g->view->segment;
	int err;

	err = shmipc_holder_lock(g->att);
	if (err)
		return err;
	mutex_lock(&seg->moves);
	if (seg->given == g->view)
		shmipc_gift_end(g->giver, g->view);
	else
		err = -ENOENT;
	mutex_unlock(&seg->moves);
	mutex_unlock(&g->att->ep->lock);
	return err;
}

int shmipc_seg_take(struct shmipc_call *call)
{
	const struct shmipc_seg_take *arg = call->arg;
	struct gift g = { .att = call->att, .slot = arg->slot };
	struct shmipc_side *side;
	int err;

	if (arg->flags & ~SHMIPC_TAKE_REFUSE)
		return -EOPNOTSUPP;
	if (arg->__reserved || arg->slot >= SHMIPC_SLOTS_MAX)
		return -EINVAL;
	side = shmipc_side_get(call->ep, arg->session);
	if (IS_ERR(side))
		return PTR_ERR(side);
	g.giver = shmipc_side_peer(side);
	err = shmipc_side_check(side);
	/* What the peer gave before it went can be taken. */
	if (err == -EPIPE)
		err = 0;
	if (!err) {
		g.view = shmipc_slot_get(g.giver, g.slot);
		err = g.view ? 0 : -ENOENT;
	}
	if (!err) {
		err = arg->flags & SHMIPC_TAKE_REFUSE ? refuse(&g) : take(call, &g);
		shmipc_view_put(g.view);
	}
	shmipc_object_put(&side->obj);
	return err;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/give_test.c"
#endif
