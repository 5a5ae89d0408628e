/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * buf.h - big buffers: segments that the program fills and sends as a whole
 *
 *	ours --send--> out (frames name it) --all returned--> ours
 *	ours --give--> given --returned without a take--> ours
 *	                  \--the peer takes it--> gone
 *
 * A buffer is granted to a session's peer when it is first sent there, and stays granted until it is
 * freed or given elsewhere. The grant has a slot, and a serial that no other grant of the session
 * had, so that the receiver knows when what it has mapped in the slot is not what is meant.
 *
 * A successor finds segments, grants and the frames that are out; the rest is made of these. Which
 * buffers the program had freed it can't see.
 */
#ifndef SHMIPC_BUF_H
#define SHMIPC_BUF_H

#include <shmipc/shmipc.h>
#include <stdatomic.h>
#include "layout.h"
#include "list.h"
#include "provider.h"

#define BUF_SLOTS	(SHMIPC_SLOTS_MAX - BUF_SLOT_FIRST)

struct shmipc_buf {
	struct shmipc_endpoint *ep;	/* (invariant) */
	struct list node;		/* in endpoint.bufs (endpoint.buf_lock) */
	struct pv_segment segment;	/* (invariant) */
	struct list grants;		/* (endpoint.buf_lock) */
	atomic_uint out;		/* frames that name it and are not returned, in all sessions */
	atomic_bool freed;		/* by the program */
	bool given, gone;		/* (endpoint.buf_lock) */
};

/* A buffer as the peer of one session knows it. */
struct buf_grant {
	struct list node;		/* in buf.grants (endpoint.buf_lock) */
	struct shmipc_buf *buf;		/* (invariant) */
	struct shmipc_session *session;	/* (invariant) */
	uint32_t slot;			/* (invariant) */
	uint32_t serial;		/* (endpoint.buf_lock) 0: inherited, and none known */
	bool waited;			/* counts in tx.buf_waiters (tx.lock) */
};

struct buf_slot {
	struct buf_grant *grant;	/* or NULL: free */
	bool used_up;			/* a peer may have what it was used for, for good */
};

/* A frame that named it came back. Any lock of the session's may be held. */
void buf_returned(struct shmipc_buf *buf);
/* The session ends: its grants are none any more. No lock held but poll_lock. */
void buf_forget_session(struct shmipc_session *s);
/* Destroys what was freed and has come back since. Likewise. */
void buf_sweep(struct shmipc_endpoint *ep);
/* Destroys all. The endpoint has no session any more. */
void buf_destroy_all(struct shmipc_endpoint *ep);

/* ---- a successor; nobody else knows the endpoint yet ---------------------- */

/* The predecessor's, which is destroyed as any other. NULL: no memory. */
struct shmipc_buf *buf_inherit(struct shmipc_endpoint *ep, const struct pv_segment *segment,
			       bool given);
/* It is granted in @slot of a session that has @slots, and will be made. 0 or -ENOMEM. */
int buf_inherit_grant(struct shmipc_buf *buf, struct buf_slot **slots, uint32_t slot);
/* These slots are the session's now, whose first segment is known. 0 or -ENOMEM. */
int buf_inherit_slots(struct shmipc_session *s, struct buf_slot *slots);
/* No session has them: their grants are forgotten. */
void buf_free_slots(struct buf_slot *slots);
/*
 * A frame that is out names @slot with @serial. @grant: counted as out; or NULL, the peer took it
 * meanwhile. 0, -EBADMSG no honest owner published that, -ENOMEM.
 */
int buf_claim_out(struct shmipc_session *s, uint32_t slot, uint32_t serial,
		  struct buf_grant **grant);

#endif
