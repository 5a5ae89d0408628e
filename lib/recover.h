/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * recover.h - a session goes on in another process, from what lies in its segments
 *
 * All that a side of a session knows is in the segments: its own, which only it wrote, and the
 * peer's. A successor makes the private part anew from them, in two steps:
 *
 *	recover_session()	looks, and stores nothing in shared memory: the segments may still
 *				be mapped read-only, and their owner may yet come back
 *	recover_resume()	the segments are this process's to write: ends what was half done,
 *				delivers what was not returned, goes on
 *
 * The owner is dead, and its memory a prefix of its stores in program order; or it lives and has
 * stopped between two calls. The peer goes on all the while. docs/layout.md tells why each prefix
 * has a meaning. A second successor may find what the first one left in the midst of
 * recover_resume(): it too stores in an order of which each prefix can be recovered.
 *
 * Nothing is believed, neither the peer's memory nor the own: who died may have been broken.
 */
#ifndef SHMIPC_RECOVER_H
#define SHMIPC_RECOVER_H

#include "session.h"

/* What the provider tells of a session that changes hands. */
struct recovery {
	unsigned int role;		/* 0 connected, 1 accepted */
	uint32_t handle;
	uint64_t cookie;		/* endpoint_cookie(); the provider is told by the caller */
	struct shmipc_peer peer;
	bool crashed;			/* the owner died; else it stopped, and nothing is marked */
	bool sealed;
	const struct pv_segment *own;	/* by the slot that they were granted as; addr NULL: none */
	uint32_t nr_own;		/* up to ARENA_EXTENTS: buffers are not among them */
	const struct pv_mapping *peers;	/* granted by the peer, by slot; addr NULL: not mapped */
	uint32_t nr_peers;
	struct buf_slot *bufs;		/* buffers that were granted to the peer; NULL: none */
};

/*
 * Makes a session that nobody knows yet. On success all of @from's segments, mappings and buffers, its
 * handle and its cookie are the session's, and session_destroy() ends them; else they stay the caller's.
 *
 * Return: 0; -EPROTO the own first segment has a layout of another version: nothing can be said of
 * it; -EBADMSG what lies in the segments can't be: this session can't go on; -ENOMEM.
 */
int recover_session(struct shmipc_endpoint *ep, const struct recovery *from,
		    struct shmipc_session **session);
/*
 * The own segments can be written, at the addresses that recover_session() was given. The session
 * goes on; if the peer's frames make no sense it ends with -EBADMSG, as it would otherwise.
 * @causes: what was pending for it, SHMIPC_CAUSE_*.
 */
void recover_resume(struct shmipc_session *s, uint32_t causes);
/* It will not be resumed: only private memory is freed. */
void recover_forget(struct shmipc_session *s);

/* ---- between recover.c and recover_rings.c ------------------------------- */

/* What recover_session() leaves for recover_resume(). */
struct recovered {
	bool crashed;
	struct frame *frames;		/* the peer's that were not returned, copied, in order */
	uint32_t nr_frames;
	uint16_t *stale;		/* live entries whose frame was returned */
	uint32_t nr_stale;
};

/* The stream that a live frame of our own is of; NULL: none that there can be, or no memory. */
struct shmipc_stream *recover_owner(struct shmipc_session *s, uint16_t slot, uint32_t generation);

/* recover_rings.c: the next frame's number; what is out; what came. 0, -EBADMSG or -ENOMEM. */
int recover_next(struct shmipc_session *s);
int recover_sent(struct shmipc_session *s, struct recovered *r);
int recover_received(struct shmipc_session *s, struct recovered *r);

#endif
