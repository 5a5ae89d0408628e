// SPDX-License-Identifier: GPL-2.0-only
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/wait.h>

#include "account.h"
#include "endpoint.h"
#include "handle.h"
#include "listener.h"
#include "offer.h"
#include "ready.h"
#include "session.h"

void shmipc_ready_init(struct shmipc_source *r, u64 cookie, u32 enabled)
{
	INIT_LIST_HEAD(&r->link);
	r->cookie = cookie;
	r->enabled = enabled;
}

/*
 * The caller is in an RCU section, which keeps @att. What there is to see was stored before; the
 * barrier in wq_has_sleeper() pairs with that between a sleeper's queueing and its look.
 */
static bool wake_one(struct shmipc_attachment *att, bool sync)
{
	if (!wq_has_sleeper(&att->wq))
		return false;
	shmipc_total_inc(wakeups);
	if (sync)
		__wake_up_sync_key(&att->wq, TASK_INTERRUPTIBLE,
				   poll_to_key(EPOLLIN | EPOLLRDNORM));
	else
		wake_up_interruptible_poll(&att->wq, EPOLLIN | EPOLLRDNORM);
	return true;
}

/* The sequence changes before anyone is woken, with the list's lock held. */
static struct shmipc_attachment *bump_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *att = ep->att;

	lockdep_assert_held(&ep->ready_lock);
	if (!att)
		return NULL;
	/* Pairs with the acquire of who polls the anchor: what it then takes is on the list. */
	smp_store_release(&att->anchor->ready, att->anchor->ready + 1);
	return att;
}

bool shmipc_ready_ring(struct shmipc_endpoint *ep, struct shmipc_source *r, u32 bits, bool sync)
{
	struct shmipc_attachment *att = NULL;
	bool woke;

	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	/* The ringer's earlier stores and later loads stay on their sides, bit set or not. */
	smp_mb__after_spinlock();
	bits &= r->enabled;
	if (bits && !r->off) {
		WRITE_ONCE(r->causes, r->causes | bits);
		if (list_empty(&r->link)) {
			list_add_tail(&r->link, &ep->ready);
			att = bump_locked(ep);
		}
	}
	spin_unlock(&ep->ready_lock);
	woke = att && wake_one(att, sync);
	rcu_read_unlock();
	return woke;
}

void shmipc_ready_renew(struct shmipc_endpoint *ep, struct shmipc_source *r, u32 bits)
{
	spin_lock(&ep->ready_lock);
	r->cookie = 0;
	if (bits && !r->off) {
		WRITE_ONCE(r->causes, r->causes | bits);
		if (list_empty(&r->link))
			list_add_tail(&r->link, &ep->ready);
	}
	spin_unlock(&ep->ready_lock);
}

int shmipc_ready_watch(struct shmipc_attachment *att, struct shmipc_source *r, u64 cookie,
		       u32 enabled)
{
	struct shmipc_endpoint *ep = att->ep;
	int err;

	spin_lock(&ep->ready_lock);
	err = shmipc_attachment_status(att);
	if (!err) {
		r->cookie = cookie;
		r->enabled = enabled;
	}
	spin_unlock(&ep->ready_lock);
	return err;
}

/* Who waits for this object alone must look again. */
void shmipc_ready_off(struct shmipc_endpoint *ep, struct shmipc_source *r)
{
	struct shmipc_attachment *att;

	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	WRITE_ONCE(r->off, true);
	r->causes = 0;
	list_del_init(&r->link);
	att = ep->att;
	spin_unlock(&ep->ready_lock);
	if (att && wq_has_sleeper(&att->wq))
		wake_up_all(&att->wq);
	rcu_read_unlock();
}

static void take_locked(struct shmipc_source *r, struct shmipc_ready *ev)
{
	list_del_init(&r->link);
	ev->cookie = r->cookie;
	ev->handle = r->handle;
	ev->causes = r->causes;
	WRITE_ONCE(r->causes, 0);
}

u32 shmipc_ready_take(struct shmipc_attachment *att, struct shmipc_source *only,
		      struct shmipc_ready *ev, u32 max)
{
	struct shmipc_endpoint *ep = att->ep;
	u32 n = 0;

	/* A hint; who sleeps looks again after it has queued itself. */
	if (list_empty_careful(&ep->ready))
		return 0;
	spin_lock(&ep->ready_lock);
	/* What comes during a pause is for who goes on after it. */
	if (unlikely(att->hold != SHMIPC_HOLD_ACTIVE))
		max = 0;
	if (only && max) {
		if (!list_empty(&only->link))
			take_locked(only, &ev[n++]);
	} else {
		while (n < max && !list_empty(&ep->ready))
			take_locked(list_first_entry(&ep->ready, struct shmipc_source, link),
				    &ev[n++]);
	}
	spin_unlock(&ep->ready_lock);
	return n;
}

struct shmipc_source *shmipc_ready_of(struct shmipc_object *obj)
{
	switch (obj->kind) {
	case SHMIPC_KIND_SESSION:
		return &shmipc_side_of(obj)->ready;
	case SHMIPC_KIND_LISTENER:
		return &shmipc_listener_of(obj)->ready;
	case SHMIPC_KIND_OFFER:
		return &shmipc_offer_of(obj)->ready;
	default:
		return NULL;
	}
}

/* Back to the head, in their order. An object that was closed meanwhile needs no event. */
void shmipc_ready_untake(struct shmipc_endpoint *ep, const struct shmipc_ready *ev, u32 nr)
{
	struct shmipc_object *obj;
	struct shmipc_source *r;

	rcu_read_lock();
	while (nr--) {
		obj = xa_load(&ep->handles, ev[nr].handle);
		r = obj ? shmipc_ready_of(obj) : NULL;
		if (!r)
			continue;
		spin_lock(&ep->ready_lock);
		if (!r->off) {
			WRITE_ONCE(r->causes, r->causes | ev[nr].causes);
			list_move(&r->link, &ep->ready);
			bump_locked(ep);
		}
		spin_unlock(&ep->ready_lock);
	}
	rcu_read_unlock();
	shmipc_ready_pass_on(ep);
}

void shmipc_ready_pass_on(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *att;

	if (list_empty_careful(&ep->ready))
		return;
	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	att = list_empty(&ep->ready) ? NULL : ep->att;
	spin_unlock(&ep->ready_lock);
	if (att)
		wake_one(att, false);
	rcu_read_unlock();
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/ready_test.c"
#endif
