/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * offer.h - an endpoint on its way to another attachment: see handover.h for what follows
 *
 *	new --OFFER--> open --COMMIT, cancel, deadline, end of its adoption--> over
 *
 * A file that can be passed on, and a handle by which the holder takes it back. The file's last
 * close takes it back as well.
 */
#ifndef _SHMIPC_OFFER_H
#define _SHMIPC_OFFER_H

#include <linux/wait.h>

#include "handle.h"
#include "main.h"
#include "ready.h"

struct file;

/**
 * struct shmipc_offering - an open offer, or one that is over
 * @obj: its head; one reference is the file's
 * @ready: its cause
 * @adopt: SHMIPC_ADOPT_* (invariant)
 * @keep: it outlives its maker (invariant)
 * @blob: handle of the segment with the state, or 0 (invariant)
 * @until: in jiffies (written under ep->lock)
 * @over: (set once, under ep->lock)
 * @wq: pollers of the file
 */
struct shmipc_offering {
	struct shmipc_object obj;
	struct shmipc_source ready;
	u32 adopt;
	bool keep;
	u32 blob;
	u64 until;
	bool over;
	wait_queue_head_t wq;
	struct rcu_head rcu;
};

static inline struct shmipc_offering *shmipc_offer_of(struct shmipc_object *obj)
{
	return container_of(obj, struct shmipc_offering, obj);
}

void shmipc_offer_free(struct shmipc_offering *offer);
/* Called by who took the handle off the table. */
void shmipc_offer_close(struct shmipc_offering *offer);
/* What @fd is an offer's file of, referenced; -EBADF. */
struct shmipc_offering *shmipc_offer_get(int fd);
/* The endpoint's, if it has one. With ep->lock held. */
void shmipc_offer_over_locked(struct shmipc_endpoint *ep);

int shmipc_offer(struct shmipc_call *call);

#endif
