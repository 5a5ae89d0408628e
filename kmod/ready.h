/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ready.h - causes and the ready list
 *
 * Every object that can have events embeds a struct shmipc_source: a word of causes and a
 * place on its endpoint's ready list.
 *
 *	idle --ring--> queued (causes != 0, on the list) --take--> idle
 *	any --off--> off (for ever; ringing does nothing)
 *
 * The list, the causes and the wake are one critical section of ep->ready_lock, so an
 * object with causes is always on the list, and nothing is lost or doubled.
 *
 * Ringing is a release and fully ordered, taking an acquire. Waiters are exclusive: one
 * is woken for an object put on the list. Whoever leaves while the list has entries wakes the
 * next, which also covers a waiter that was chosen and then went by signal or timeout.
 */
#ifndef _SHMIPC_READY_H
#define _SHMIPC_READY_H

#include <linux/list.h>
#include <linux/types.h>

#include "main.h"

struct shmipc_object;

/**
 * struct shmipc_source - the part of an object that can be waited for
 * @link: on ep->ready while causes are pending (protected by ep->ready_lock)
 * @cookie: the holder's (protected by ep->ready_lock after publication)
 * @causes: pending (protected by ep->ready_lock)
 * @enabled: those that may be rung (like @cookie)
 * @handle: the object's (invariant after publication)
 * @off: the object is closed (protected by ep->ready_lock)
 */
struct shmipc_source {
	struct list_head link;
	u64 cookie;
	u32 causes;
	u32 enabled;
	u32 handle;
	bool off;
};

/* NULL: it has no events. */
struct shmipc_source *shmipc_ready_of(struct shmipc_object *obj);
void shmipc_ready_init(struct shmipc_source *r, u64 cookie, u32 enabled);
/*
 * Under rcu_read_lock, or with a reference to @ep. @sync: the caller is about to sleep. True: there
 * was somebody to wake.
 */
bool shmipc_ready_ring(struct shmipc_endpoint *ep, struct shmipc_source *r, u32 bits, bool sync);
/* For a new holder: no cookie, and @bits whether they are enabled or not. */
void shmipc_ready_renew(struct shmipc_endpoint *ep, struct shmipc_source *r, u32 bits);
/* -ESTALE, -EBUSY: @att does not hold it. */
int shmipc_ready_watch(struct shmipc_attachment *att, struct shmipc_source *r, u64 cookie,
		       u32 enabled);
void shmipc_ready_off(struct shmipc_endpoint *ep, struct shmipc_source *r);
/* Takes up to @max events, only those of @only if that is set. */
/* Of @att's endpoint, while @att holds it. */
u32 shmipc_ready_take(struct shmipc_attachment *att, struct shmipc_source *only,
		      struct shmipc_ready *ev, u32 max);
void shmipc_ready_untake(struct shmipc_endpoint *ep, const struct shmipc_ready *ev, u32 nr);
/* Wakes one waiter if the list is not empty. */
void shmipc_ready_pass_on(struct shmipc_endpoint *ep);

#endif
