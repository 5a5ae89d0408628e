// SPDX-License-Identifier: GPL-2.0-only
/* holdings.c - what a whole endpoint is charged for, and who */
#include <linux/sched.h>
#include <linux/string.h>

#include "account.h"
#include "endpoint.h"
#include "holdings.h"
#include "listener.h"
#include "segment.h"
#include "session.h"

/* Of a segment that another has taken there is a handle left, and nothing to pay. */
static unsigned long pages_of(struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	unsigned long pages;

	spin_lock(&seg->lock);
	pages = seg->owner == view ? seg->npages : 0;
	spin_unlock(&seg->lock);
	return pages;
}

/* What of @obj the endpoint's user is charged for. */
static void holdings_add(struct shmipc_holdings *h, struct shmipc_object *obj)
{
	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		h->pages += pages_of(shmipc_view_of(obj));
		break;
	case SHMIPC_KIND_LISTENER:
		h->listeners++;
		break;
	case SHMIPC_KIND_SESSION:
		h->sessions += !shmipc_side_of(obj)->index;
		break;
	}
}

static void holdings_less(struct shmipc_holdings *h, const struct shmipc_holdings *by)
{
	h->pages -= min(h->pages, by->pages);
	h->endpoints -= min(h->endpoints, by->endpoints);
	h->sessions -= min(h->sessions, by->sessions);
	h->listeners -= min(h->listeners, by->listeners);
}

static void holdings_plus(struct shmipc_holdings *h, const struct shmipc_holdings *by)
{
	h->pages += by->pages;
	h->endpoints += by->endpoints;
	h->sessions += by->sessions;
	h->listeners += by->listeners;
}

int shmipc_reserve_locked(struct shmipc_endpoint *ep, struct shmipc_user *user)
{
	struct shmipc_holdings more = { .endpoints = 1 };
	struct shmipc_object *obj;
	unsigned long handle;
	int err;

	lockdep_assert_held(&ep->lock);
	if (user == ep->user)
		return 0;
	xa_for_each(&ep->handles, handle, obj) {
		holdings_add(&more, obj);
		cond_resched();
	}
	holdings_less(&more, &ep->reserve);
	err = shmipc_holdings_reserve(user, &more);
	if (!err)
		holdings_plus(&ep->reserve, &more);
	return err;
}

void shmipc_unreserve_locked(struct shmipc_endpoint *ep, struct shmipc_user *user)
{
	if (user != ep->user)
		shmipc_holdings_release(user, &ep->reserve);
	memset(&ep->reserve, 0, sizeof(ep->reserve));
}

static void recharge(struct shmipc_user **where, struct shmipc_user *to)
{
	struct shmipc_user *from = *where;

	*where = shmipc_user_get(to);
	shmipc_user_put(from);
}

/* How many pages: 0 when a peer has taken it before we had the lock. */
static unsigned long recharge_pages(struct shmipc_view *view, struct shmipc_user *to)
{
	struct shmipc_segment *seg = view->segment;
	struct shmipc_user *from = NULL;

	spin_lock(&seg->lock);
	if (seg->owner == view) {
		from = seg->user;
		seg->user = shmipc_user_get(to);
	}
	spin_unlock(&seg->lock);
	if (!from)
		return 0;
	shmipc_user_put(from);
	return seg->npages;
}

static void recharge_object(struct shmipc_object *obj, struct shmipc_user *to,
			    struct shmipc_holdings *moved)
{
	struct shmipc_side *side;

	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		moved->pages += recharge_pages(shmipc_view_of(obj), to);
		break;
	case SHMIPC_KIND_LISTENER:
		recharge(&shmipc_listener_of(obj)->user, to);
		moved->listeners++;
		break;
	case SHMIPC_KIND_SESSION:
		side = shmipc_side_of(obj);
		if (side->index)
			break;
		recharge(&shmipc_session_of(side)->user, to);
		moved->sessions++;
		break;
	}
}

void shmipc_recharge_locked(struct shmipc_endpoint *ep, struct shmipc_user *to)
{
	struct shmipc_holdings moved = { .endpoints = 1 };
	struct shmipc_user *from = ep->user;
	struct shmipc_object *obj;
	unsigned long handle;

	if (from == to)
		return;
	xa_for_each(&ep->handles, handle, obj) {
		recharge_object(obj, to, &moved);
		cond_resched();
	}
	shmipc_holdings_release(from, &moved);
	/* What has gone since it was reserved. */
	holdings_less(&ep->reserve, &moved);
	shmipc_unreserve_locked(ep, to);
}
