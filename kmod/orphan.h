/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * orphan.h - endpoints that nobody holds
 *
 *	held --anchor lost--> lost --ep->settle--> ORPHAN --ADOPT, COMMIT--> held
 *	   \                     \                    \
 *	    \--CLOSE, no reason   \--no reason left    \--expiry--> dead
 *	     to outlive it--> dead     any more--> dead
 *
 * A reason is a listener with an orphan time, or an open offer with KEEP. The holder's mappings are
 * zapped before the endpoint is an orphan, so that what a successor sees can't change any more.
 *
 * An orphan keeps its charges, sessions, segments and names, and the module. It keeps no network
 * namespace: whose namespace ends, expires at once; who adopts it takes the namespaces again.
 *
 * Expiry is that the endpoint ends as by death, from ep->timer, at the latest of the times of its
 * listeners and of its offer. It has ep->lock, and so comes before or after a COMMIT.
 */
#ifndef _SHMIPC_ORPHAN_H
#define _SHMIPC_ORPHAN_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/types.h>

struct shmipc_attachment;
struct shmipc_endpoint;
struct shmipc_listener;
struct net;

/**
 * struct shmipc_orphan - the part of an endpoint that is used while nobody holds it
 * @reasons: listeners with an orphan time
 * @is: nobody holds it (protected by ep->lock)
 * @until: when its listeners' time is over, in jiffies (protected by ep->lock)
 * @link: among all orphans (protected by the list's mutex)
 */
struct shmipc_orphan {
	atomic_t reasons;
	bool is;
	u64 until;
	struct list_head link;
};

/* Has the endpoint a reason to outlive its holder? With ep->ready_lock held. */
bool shmipc_outlives_locked(struct shmipc_endpoint *ep);
/* Its holder was lost. With ep->lock held. */
void shmipc_orphan_begin_locked(struct shmipc_endpoint *ep);
/* Its namespaces for a successor; -ENOENT: one has ended. And back again. With ep->lock held. */
int shmipc_orphan_keep_nets_locked(struct shmipc_endpoint *ep);
void shmipc_orphan_drop_nets_locked(struct shmipc_endpoint *ep);
/* It is held again, or over. */
void shmipc_orphan_end(struct shmipc_endpoint *ep);
/* In jiffies; 0: it is no orphan. With ep->lock held. */
u64 shmipc_orphan_until_locked(struct shmipc_endpoint *ep);

/* Ends it if it is one, and returns when it is gone; -EBUSY: it is being adopted. */
int shmipc_orphan_expire(struct shmipc_endpoint *ep);
/*
 * @att's process wants the name of @l. 0: let it try again, -EADDRINUSE, -EOWNERDEAD: without
 * @fresh; -EBUSY: with it, for somebody adopts.
 */
int shmipc_orphan_give_way(struct shmipc_listener *l, struct shmipc_attachment *att, bool fresh);
/* May @att's process adopt by the name of @l? */
bool shmipc_orphan_permits(struct shmipc_listener *l, struct shmipc_attachment *att);

#endif
