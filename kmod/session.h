/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session.h - a link between two endpoints
 *
 * Side 0 is the connector's, side 1 the acceptor's. Each has a handle, causes, and the grants that
 * it made, by slot.
 *
 *	PENDING --ACCEPT--> LIVE --both sides closed--> OVER
 *	    \--connector leaves, or listener closes-----^
 *
 * A side that closes loses the views that the peer granted it at once; those that it made itself
 * stay until the peer closes too, unless it asked to revoke. The reference of side 1 belongs to the
 * listener's queue, then to the ACCEPT under way, then to the acceptor's handle table.
 */
#ifndef _SHMIPC_SESSION_H
#define _SHMIPC_SESSION_H

#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "handle.h"
#include "main.h"
#include "ready.h"

struct shmipc_listener;
struct shmipc_quota;
struct shmipc_segment;
struct shmipc_user;
struct shmipc_view;

enum shmipc_session_state {
	SHMIPC_SESSION_PENDING,
	SHMIPC_SESSION_LIVE,
	SHMIPC_SESSION_OVER,
};

/**
 * struct shmipc_side - one end of a session
 * @obj: its head; side 1's obj.ep is set when the session becomes LIVE
 * @ready: its causes
 * @slots: grants that it made, views of the peer's endpoint, and where the peer's close ended them
 *	the segments' handles as values (stored under session->lock)
 * @reason: why it was closed (protected by session->lock)
 * @died: it was closed by the death of its endpoint (protected by session->lock)
 * @zero: what the peer revokes reads as zeros (invariant once the session is LIVE)
 * @closed: (protected by session->lock)
 * @index: 0 connector, 1 acceptor (invariant)
 */
struct shmipc_side {
	struct shmipc_object obj;
	struct shmipc_source ready;
	struct xarray slots;
	u32 reason;
	bool zero;
	bool closed;
	bool died;
	u8 index;
};

/**
 * struct shmipc_session - a link between two endpoints
 * @lock: see main.h
 * @state: enum shmipc_session_state (written under @lock)
 * @blocking: a CONNECT waits for the answer: it gets it, and not an event (invariant)
 * @sides_left: sides whose memory is still used
 * @side: the two ends
 * @first: the connector's segment, until it is granted or dropped (protected by @lock)
 * @user: the connector's, charged for it, referenced (written under the lock of side 0's endpoint,
 *	while it has the handle)
 * @expect_uid: whom the connector wants to be served by, or INVALID_UID (invariant)
 * @listener: through which it came, referenced (invariant)
 * @quota: the connector's on that listener (invariant)
 * @queued: in listener->queue (protected by listener->lock)
 * @answered: CONNECT waits here
 * @meta_len: length of @meta (invariant)
 * @meta: what the connector sent along (invariant)
 */
struct shmipc_session {
	spinlock_t lock;
	u8 state;
	bool blocking;
	refcount_t sides_left;
	struct shmipc_side side[2];
	struct shmipc_view *first;
	struct shmipc_user *user;
	kuid_t expect_uid;
	struct shmipc_listener *listener;
	struct shmipc_quota *quota;
	struct list_head queued;
	wait_queue_head_t answered;
	struct rcu_head rcu;
	u32 meta_len;
	u8 meta[];
};

/* Causes that a session may enable; the low half always is. */
#define SHMIPC_SESSION_CAUSES	(SHMIPC_CAUSE_USER | SHMIPC_CAUSE_CONNECTED | \
				 SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED | \
				 SHMIPC_CAUSE_PEER_CHANGED | SHMIPC_CAUSE_PEER_LOST | \
				 SHMIPC_CAUSE_PEER_PAUSE | SHMIPC_CAUSE_GIVEN | \
				 SHMIPC_CAUSE_RETURNED)

static inline struct shmipc_side *shmipc_side_of(struct shmipc_object *obj)
{
	return container_of(obj, struct shmipc_side, obj);
}

static inline struct shmipc_session *shmipc_session_of(struct shmipc_side *side)
{
	return container_of(side - side->index, struct shmipc_session, side[0]);
}

static inline struct shmipc_side *shmipc_side_peer(struct shmipc_side *side)
{
	return side->index ? side - 1 : side + 1;
}

/* Counted against the machine's cap. The references of both sides are the caller's. */
struct shmipc_session *shmipc_session_new(struct shmipc_attachment *att,
					  const struct shmipc_connect *arg, u32 meta_len);
/* Another than the connector has demanded? */
static inline bool shmipc_session_unwanted(const struct shmipc_session *s, kuid_t uid)
{
	return uid_valid(s->expect_uid) && !uid_eq(s->expect_uid, uid);
}

void shmipc_side_free(struct shmipc_side *side);
/* Called by who took the handle off the table. */
void shmipc_side_close(struct shmipc_side *side, u32 flags, u32 reason, bool died);

/*
 * With home->lock held; publishes side 1. -EPIPE: the connector has left, or what it grants does
 * not fit. -ESTALE: @home has ended.
 */
int shmipc_session_accept_locked(struct shmipc_session *s, struct shmipc_endpoint *home,
				 struct shmipc_view *view);
/* Rings the peers of all sessions that @ep has; who did not enable @cause is not woken. */
void shmipc_sessions_tell_locked(struct shmipc_endpoint *ep, u32 cause);
/* Ends a PENDING session from the listener's side; takes the reference of side 1. */
void shmipc_session_refuse(struct shmipc_session *s, bool died);

/* The side that @handle names, with a reference, or -ENOENT, -EBADF. */
struct shmipc_side *shmipc_side_get(struct shmipc_endpoint *ep, u32 handle);
/* Are both sides there? -ENOTCONN: not accepted, -ENOENT: closed, -EPIPE: closed by the peer. */
int shmipc_side_check(struct shmipc_side *side);
/* The grant in @slot, with a reference, or NULL. */
struct shmipc_view *shmipc_slot_get(struct shmipc_side *granter, unsigned long slot);

int shmipc_side_info(struct shmipc_call *call, struct shmipc_seg_info *arg);
int shmipc_seg_grant(struct shmipc_call *call);
int shmipc_seg_revoke(struct shmipc_call *call);

#endif
