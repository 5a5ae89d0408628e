/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * handover.h - an endpoint passes from one attachment to another
 *
 * What moves is ep->att and nothing else: handles, sessions, causes and offsets are the endpoint's.
 *
 * An attachment, by att->hold:
 *
 *	open ------> ACTIVE --YIELD--> YIELDED --COMMIT of the other, loss--> GONE
 *	               ^ ^ \              |                                    ^ ^
 *	               |  \-\---thaw------/                                   / /
 *	            COMMIT   \---loss, CLOSE of handle 0, expiry-------------/ /
 *	               |                                                      /
 *	ADOPT ------> ADOPTING --loss, CLOSE, the offer is over--------------/
 *
 * An endpoint has a holder (ep->att: ACTIVE or YIELDED) or is an orphan (NULL), and at most one
 * successor (ep->next: ADOPTING) and one open offer (ep->offer). An offer is open until it is
 * cancelled, its time is up, or its one adoption ends, by COMMIT or otherwise: it is then over,
 * and a holder that had yielded goes on. Nobody adopts a holder that has not offered.
 *
 * Who changes what: hold under ep->ready_lock; all but a loss and an end with ep->lock too. A loss
 * (the anchor's VMA goes, under mmap_lock) only marks GONE, and queues ep->settle, which with
 * ep->lock draws the conclusion; an end marks, and queues ep->death. So with ep->lock held nothing
 * changes but that somebody may be GONE, and of COMMIT, cancel, deadline and expiry, which all have
 * ep->lock, the first one wins.
 *
 * COMMIT: the holder is marked GONE; its rights are taken, and its mappings zapped with one call;
 * charges, cookies, causes; the successor gets the right to write; ep->att is set, and with it who
 * the endpoint is; peers are told. What fails, fails before: the successor's user was charged by
 * ADOPT, and what was made after that by YIELD.
 */
#ifndef _SHMIPC_HANDOVER_H
#define _SHMIPC_HANDOVER_H

#include "main.h"

void shmipc_handover_init(struct shmipc_endpoint *ep);
/*
 * Ends what there is of an offer and an adoption: the successor's view goes, the holder thaws. With
 * ep->lock held.
 */
void shmipc_withdraw_locked(struct shmipc_endpoint *ep);
/* Sets the timer to the next deadline. With ep->lock held. */
void shmipc_deadline_arm_locked(struct shmipc_endpoint *ep);
/* Queues ep->settle. With ep->ready_lock held. */
void shmipc_settle(struct shmipc_endpoint *ep);
/* The holder has yielded, or is dead. A hint. */
bool shmipc_may_commit(struct shmipc_attachment *att);
/* The same euid in the same user namespace? */
bool shmipc_same_user(struct shmipc_attachment *att, struct shmipc_endpoint *ep);

int shmipc_adopt(struct shmipc_call *call);
int shmipc_yield(struct shmipc_call *call);
int shmipc_commit(struct shmipc_call *call);

#endif
