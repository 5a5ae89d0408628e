// SPDX-License-Identifier: GPL-2.0-only
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "endpoint.h"
#include "handover.h"
#include "list.h"
#include "listener.h"
#include "offer.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* ---- items ---- */

static void item_segment(struct shmipc_item *item, struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	struct shmipc_endpoint *ep = view->obj.ep;

	item->kind = SHMIPC_ITEM_SEGMENT;
	item->length = (u64)view->npages << PAGE_SHIFT;
	item->offset = (u64)view->start << PAGE_SHIFT;
	spin_lock(&seg->lock);
	if (seg->owner != view)
		item->flags |= SHMIPC_ITEM_TAKEN;
	else if (seg->given)
		item->flags |= SHMIPC_ITEM_GIVEN;
	else if (READ_ONCE(seg->frozen))
		item->flags |= SHMIPC_ITEM_FROZEN;
	item->count = seg->nr_grants;
	spin_unlock(&seg->lock);
	spin_lock(&ep->ready_lock);
	if (ep->blob && ep->blob == view->obj.handle)
		item->flags |= SHMIPC_ITEM_BLOB;
	spin_unlock(&ep->ready_lock);
}

static void item_listener(struct shmipc_item *item, struct shmipc_listener *l)
{
	item->kind = SHMIPC_ITEM_LISTENER;
	item->count = READ_ONCE(l->queued);
	item->name_len = l->name_len;
	memcpy(item->name, l->name, l->name_len);
}

static u32 count_slots(struct shmipc_side *side)
{
	unsigned long slot;
	void *entry;
	u32 n = 0;

	xa_for_each(&side->slots, slot, entry)
		n++;
	return n;
}

static void item_session(struct shmipc_item *item, struct shmipc_side *side)
{
	struct shmipc_session *s = shmipc_session_of(side);
	struct shmipc_side *peer = shmipc_side_peer(side);
	bool paused;

	item->kind = SHMIPC_ITEM_SESSION;
	if (!side->index)
		item->flags |= SHMIPC_ITEM_CONNECTOR;
	if (side->zero)
		item->flags |= SHMIPC_ITEM_ZERO;
	spin_lock(&s->lock);
	if (s->state == SHMIPC_SESSION_PENDING)
		item->flags |= SHMIPC_ITEM_PENDING;
	if (peer->closed)
		item->flags |= SHMIPC_ITEM_PEER_CLOSED;
	if (peer->died)
		item->flags |= SHMIPC_ITEM_PEER_DIED;
	item->slot = peer->reason;
	spin_unlock(&s->lock);
	item->count = count_slots(side) + count_slots(peer);
	/* Only a listener may be known of who has not accepted; an acceptor's handle tells all. */
	paused = shmipc_endpoint_describe(READ_ONCE(peer->obj.ep) ?: s->listener->obj.ep,
					  &item->peer);
	if (paused && !(item->flags & (SHMIPC_ITEM_PENDING | SHMIPC_ITEM_PEER_CLOSED)))
		item->flags |= SHMIPC_ITEM_PEER_PAUSED;
}

static void item_of(struct shmipc_item *item, struct shmipc_object *obj)
{
	struct shmipc_source *source = shmipc_ready_of(obj);

	memset(item, 0, sizeof(*item));
	item->handle = obj->handle;
	/* First: what a cause tells of is there before the cause is. */
	if (source) {
		spin_lock(&obj->ep->ready_lock);
		item->causes = source->causes;
		item->enabled = source->enabled;
		spin_unlock(&obj->ep->ready_lock);
	}
	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		item_segment(item, shmipc_view_of(obj));
		break;
	case SHMIPC_KIND_LISTENER:
		item_listener(item, shmipc_listener_of(obj));
		break;
	case SHMIPC_KIND_SESSION:
		item_session(item, shmipc_side_of(obj));
		break;
	}
}

/* ---- LIST ---- */

/* The next object from @cursor on, which then is past it. False: none. Offers are no items. */
static bool next_object(struct shmipc_endpoint *ep, u32 *cursor, struct shmipc_item *item)
{
	unsigned long handle = *cursor;
	struct shmipc_object *obj;

	for (obj = xa_find(&ep->handles, &handle, ULONG_MAX, XA_PRESENT); obj;
	     obj = xa_find_after(&ep->handles, &handle, ULONG_MAX, XA_PRESENT)) {
		obj = shmipc_handle_get_any(ep, handle);
		if (IS_ERR(obj))
			continue;
		item_of(item, obj);
		shmipc_object_put(obj);
		if (item->kind) {
			*cursor = handle + 1;
			return true;
		}
	}
	return false;
}

/* The first from @slot on: a view, referenced, or the handle that is left of one, or NULL. */
static void *grant_from(struct shmipc_side *granter, unsigned long *slot)
{
	void *entry;

	rcu_read_lock();
	entry = xa_find(&granter->slots, slot, SHMIPC_SLOTS_MAX - 1, XA_PRESENT);
	while (entry && !xa_is_value(entry) && !shmipc_view_tryget(entry))
		entry = xa_find_after(&granter->slots, slot, SHMIPC_SLOTS_MAX - 1, XA_PRESENT);
	rcu_read_unlock();
	return entry;
}

static void item_view(struct shmipc_item *item, struct shmipc_view *view, bool own)
{
	item->length = (u64)view->npages << PAGE_SHIFT;
	if (READ_ONCE(view->segment->given) == view)
		item->flags |= SHMIPC_ITEM_GIVEN;
	if (own)
		item->handle = shmipc_segment_handle(view->segment);
	else
		item->offset = (u64)view->start << PAGE_SHIFT;
}

/* Of one direction; @base is where its numbers begin among the cursors. */
static bool next_slot(struct shmipc_side *granter, struct shmipc_side *side, u32 base, u32 *cursor,
		      struct shmipc_item *item)
{
	unsigned long slot = *cursor - base;
	void *entry = grant_from(granter, &slot);
	bool own = granter == side;

	if (!entry)
		return false;
	memset(item, 0, sizeof(*item));
	item->kind = own ? SHMIPC_ITEM_GRANT : SHMIPC_ITEM_SLOT;
	item->slot = slot;
	item->handle = own && xa_is_value(entry) ? xa_to_value(entry) : side->obj.handle;
	if (!xa_is_value(entry)) {
		item_view(item, entry, own);
		shmipc_view_put(entry);
	}
	*cursor = base + slot + 1;
	return true;
}

static bool next_of_session(struct shmipc_side *side, u32 *cursor, struct shmipc_item *item)
{
	if (*cursor < SHMIPC_SLOTS_MAX && next_slot(side, side, 0, cursor, item))
		return true;
	*cursor = max_t(u32, *cursor, SHMIPC_SLOTS_MAX);
	return *cursor < 2 * SHMIPC_SLOTS_MAX &&
	       next_slot(shmipc_side_peer(side), side, SHMIPC_SLOTS_MAX, cursor, item);
}

static int list_fill(struct shmipc_endpoint *ep, struct shmipc_side *side, struct shmipc_list *arg)
{
	struct shmipc_item __user *to = u64_to_user_ptr(arg->items);
	struct shmipc_item item;

	for (arg->out_nr = 0; arg->out_nr < arg->max; arg->out_nr++) {
		if (!(side ? next_of_session(side, &arg->cursor, &item) :
			     next_object(ep, &arg->cursor, &item))) {
			arg->cursor = 0;
			return 0;
		}
		if (copy_to_user(to + arg->out_nr, &item, sizeof(item)))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

static void list_state(struct shmipc_endpoint *ep, struct shmipc_list *arg)
{
	u64 now = get_jiffies_64(), until;

	mutex_lock(&ep->lock);
	until = ep->offer ? ep->offer->until : shmipc_orphan_until_locked(ep);
	arg->out_flags = ep->orphan.is ? SHMIPC_LIST_ORPHAN : 0;
	spin_lock(&ep->ready_lock);
	if (ep->att && ep->att->hold == SHMIPC_HOLD_YIELDED)
		arg->out_flags |= SHMIPC_LIST_YIELDED;
	spin_unlock(&ep->ready_lock);
	mutex_unlock(&ep->lock);
	arg->out_remaining_ns = until > now ? jiffies64_to_nsecs(until - now) : 0;
}

int shmipc_list(struct shmipc_call *call)
{
	struct shmipc_list *arg = call->arg;
	struct shmipc_object *obj = NULL;
	int err;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->item_size != sizeof(struct shmipc_item) || !arg->max ||
	    arg->max > SHMIPC_EVENTS_MAX)
		return -EINVAL;
	if (arg->session) {
		obj = shmipc_handle_get(call->ep, arg->session, SHMIPC_KIND_SESSION);
		if (IS_ERR(obj))
			return PTR_ERR(obj);
	}
	list_state(call->ep, arg);
	err = list_fill(call->ep, obj ? shmipc_side_of(obj) : NULL, arg);
	if (obj)
		shmipc_object_put(obj);
	return err ?: shmipc_call_respond(call);
}

/* ---- WATCH ---- */

int shmipc_watch(struct shmipc_call *call)
{
	const struct shmipc_watch *arg = call->arg;
	struct shmipc_object *obj;
	u32 may, always = 0;
	int err = -EBADF;

	if (arg->flags)
		return -EOPNOTSUPP;
	obj = shmipc_handle_get_any(call->ep, arg->handle);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	switch (obj->kind) {
	case SHMIPC_KIND_SESSION:
		may = SHMIPC_SESSION_CAUSES;
		always = SHMIPC_CAUSE_USER;
		break;
	case SHMIPC_KIND_LISTENER:
		may = SHMIPC_CAUSE_ACCEPT;
		break;
	default:
		goto out;
	}
	err = arg->causes & ~may ? -EOPNOTSUPP :
				   shmipc_ready_watch(call->att, shmipc_ready_of(obj),
						      arg->cookie, arg->causes | always);
out:
	shmipc_object_put(obj);
	return err;
}
