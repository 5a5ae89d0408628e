/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * give.h - ownership that is given up: FREEZE, GIVE, TAKE
 *
 *	owned --GIVE--> in limbo --TAKE--> owned, by the receiver
 *	  ^                 |
 *	  \--refused, or the grant ends--
 *
 * A gift goes where a grant is: GIVE names the grant of one session, which must be the only one. In
 * limbo nobody may write; the receiver reads on, the giver has no right at all and still pays. TAKE
 * makes the receiver's view the owner's as it stands, so that nothing is allocated after GIVE but a
 * handle, and what is mapped stays mapped. The giver's handle names what he does not own any more:
 * ESTALE, until he closes it.
 *
 * A gift lasts as long as its grant, and comes back when that ends first: by REVOKE, by a CLOSE of
 * the session with REVOKE, when the receiver closes the session or dies. To a giver who has died or
 * closed the segment it can't come back: then it stays to be taken, like any grant, until the
 * receiver closes the session too; he pays for it from then on if he has it mapped.
 *
 * All of this, and the end of any grant, is under segment->moves: one of those who race is first.
 */
#ifndef _SHMIPC_GIVE_H
#define _SHMIPC_GIVE_H

#include "main.h"

struct shmipc_side;
struct shmipc_view;

/* With segment->moves held, before the grant @view ends: what was given through it comes back. */
void shmipc_gift_end(struct shmipc_side *giver, struct shmipc_view *view);

int shmipc_seg_freeze(struct shmipc_call *call);
int shmipc_seg_give(struct shmipc_call *call);
int shmipc_seg_take(struct shmipc_call *call);

#endif
