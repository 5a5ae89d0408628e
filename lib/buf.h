/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * buf.h - big buffers: segments that the program fills and sends as a whole
 *
 *	ours --send--> out (frames name it) --all returned--> ours
 *	ours --give--> given --returned without a take--> ours
 *	                  \--the peer takes it--> gone
 *
 * A buffer is granted to a session's peer when it is first sent there, and stays granted until it is
 * freed or given elsewhere. The grant has a slot; when that is used again, for another buffer, its
 * serial is the next, so that the receiver knows that what it has mapped is not what is meant.
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
	uint32_t slot, serial;		/* (invariant) */
	bool waited;			/* counts in tx.buf_waiters (tx.lock) */
};

struct buf_slot {
	struct buf_grant *grant;	/* or NULL: free */
	uint32_t serial;		/* of the last one */
	bool used_up;			/* the provider can't end a grant */
};

/* A frame that named it came back. Any lock of the session's may be held. */
void buf_returned(struct shmipc_buf *buf);
/* The session ends: its grants are none any more. No lock held but poll_lock. */
void buf_forget_session(struct shmipc_session *s);
/* Destroys what was freed and has come back since. Likewise. */
void buf_sweep(struct shmipc_endpoint *ep);
/* Destroys all. The endpoint has no session any more. */
void buf_destroy_all(struct shmipc_endpoint *ep);

#endif
