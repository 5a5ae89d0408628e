/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * session.h - a link between two endpoints, and the streams in it
 *
 * session.c makes and ends sessions, tx.c sends (ring, live table, windows), rx.c receives
 * (ring, queues, returns). On them stand the public calls: stream.c, send.c, receive.c, buf.c.
 */
#ifndef SHMIPC_SESSION_H
#define SHMIPC_SESSION_H

#include "arena.h"
#include "barrier.h"
#include "buf.h"
#include "endpoint.h"
#include "layout.h"
#include "listener.h"

#define DRAIN_BUDGET	64	/* frames a session and turn, so that none starves */
#define EMPTY_BELLS	64	/* in a row, and a session's bells get one look each */

/* ---- sending ------------------------------------------------------------ */

/* A live entry: a frame that was reserved or published and is not returned yet. */
struct live {
	uint64_t seq;			/* 0: reserved, not published */
	struct shmipc_stream *stream;	/* NULL: free */
	uint64_t share;			/* bytes it takes of its stream's window */
	struct arena_block block;
	bool has_block;
	bool outside;			/* a buffer's: takes nothing of max_memory */
	struct buf_grant *grant;	/* the buffer that it names, once published; or NULL */
	bool control;			/* FIN or RESET: outside the data's share of entries */
	bool parked;			/* copied to the live table */
};

struct tx {
	struct lock lock;
	struct lock grow_lock;		/* serialises the making of segments */
	struct frame *ring;		/* own segment */
	struct frame *live_table;	/* own segment */
	struct control *control;	/* own segment */
	struct stream_record *records;	/* own segment */
	const struct control *peer;	/* peer's segment */
	const uint64_t *peer_returns;	/* peer's segment */
	uint32_t slots, nr_live, peer_nr_returns;	/* (invariant) */
	bool sealed;			/* (invariant) SHMIPC_SEALED */

	/* (lock) */
	uint64_t next;			/* seq of the next frame */
	uint32_t cursor;		/* peer's rx_cursor as last seen */
	uint32_t reserved;		/* ring slots promised to reservations */
	uint64_t flushed;		/* frames before it were checked for a sleeper */
	uint32_t reaped;		/* returns taken from the peer's ring */
	struct live *live;
	uint16_t *free_ids;
	uint32_t nr_free;
	uint16_t *slot_ids;		/* the live entry that a ring slot's frame has */
	uint64_t shared_entries;	/* data entries beyond each stream's first */
	uint64_t bytes;			/* shares of all streams */
	struct list blocked;		/* streams with a send that waits */
	struct list owing;		/* streams whose FIN or RESET found the ring full */
	struct arena arena;
	uint64_t max_memory;
	uint32_t window;
	struct pv_segment segments[ARENA_EXTENTS];
	uint32_t nr_segments;
	struct buf_slot *bufs;		/* BUF_SLOTS of them; NULL until the first (endpoint.buf_lock) */
	uint32_t buf_waiters;		/* threads that wait for a buffer's return */
	uint64_t messages, payload, parked;	/* for shmipc_stats */
	uint64_t bad_return;		/* a return of what is not out, for the log; 0: none */
	bool bad_cursor;		/* its cursor is no honest one, for the log */
};

/* ---- receiving ---------------------------------------------------------- */

/* Of a node alone; no frame has them. */
#define NODE_REDELIVERED	(1U << 7)	/* a predecessor that died may have seen it */
#define NODE_CUT	(1U << 5)	/* part of a message that will have no end */
#define NODE_BEHIND		(1U << 6)	/* ends where its stream was consumed, or before */

/* A frame that was taken off the ring, until its return. One for each live entry of the peer. */
struct rx_node {
	struct rx_node *next;
	struct shmipc_stream *stream;	/* NULL: free */
	uint64_t seq, position;
	const uint8_t *data;
	uint64_t length;
	uint64_t taken;			/* bytes that shmipc_read() copied out */
	uint16_t live;
	uint16_t slot;			/* FRAME_BUFFER: of its segment; else 0 */
	uint8_t kind;
	uint8_t flags;			/* FRAME_F_*, NODE_* */
	bool leased;			/* the application holds it */
	/* Inline payload, private before it is checked; aligned as all payload is. */
	_Alignas(PAYLOAD_ALIGN) uint8_t copy[INLINE_MAX];
};

/* What a slot is mapped for. */
struct rx_buf {
	uint32_t serial;
	uint32_t nodes;			/* frames that name it and are not returned */
	bool taking;			/* shmipc_buf_take() is about to make it this side's */
};

struct rx {
	struct lock lock;
	struct lock map_lock;		/* serialises the mapping of new segments */
	const struct frame *ring;	/* peer's segment */
	struct control *control;	/* own segment */
	const struct frame *peer_live_table;	/* peer's segment, for recovery alone */
	const struct control *peer;	/* peer's segment */
	uint64_t *returns;		/* own segment */
	uint32_t slots, nr_live, nr_returns, arena_offset;	/* (invariant) the peer's, but nr_returns */

	/* (lock) */
	uint64_t next;			/* seq that the ring shall hold next */
	uint32_t published;		/* rx_cursor as the peer can see it */
	uint32_t returned;		/* returns stored */
	uint64_t return_lap;		/* laps of the return ring begun */
	bool unrung;			/* the peer waits for some, and was not rung for these yet */
	struct rx_node *nodes;
	struct pv_mapping *mappings;	/* by the peer's slot */
	struct rx_buf *bufs;		/* by the peer's slot, from BUF_SLOT_FIRST on */
	uint32_t want_slot;		/* the next frame needs this segment mapped first; 0 none */
	uint32_t want_serial;		/* of a buffer's slot */
	struct list accept;		/* streams that wait for shmipc_stream_accept() */
	struct list closed;		/* streams that the application let go of, not yet over */
	struct list detached;		/* streams that it still has, whose slot was used again */
	uint64_t messages, bytes;	/* for shmipc_stats */
	const char *wrong;		/* what is wrong with the frame @bad, for the log */
	struct frame bad;
};

/* ---- streams ------------------------------------------------------------ */

struct shmipc_stream {
	struct shmipc_session *session;	/* (invariant) */
	uint16_t slot;			/* (invariant) */
	uint32_t generation;		/* (invariant) */
	struct source source;

	/* (rx.lock) */
	struct list accept;		/* in rx.accept, .closed or .detached */
	struct rx_node *head, **tail;	/* frames to read */
	uint64_t rx_position;		/* of the next frame off the ring */
	uint64_t resumed;		/* so far a predecessor took it; perhaps a part at last */
	uint32_t held;			/* nodes of this stream: queued or leased */
	bool handle;			/* the application has it, or will accept it */
	bool visible;			/* the application has it: only then it has events */
	bool attached;			/* it is session.streams[slot] */
	bool paused;			/* no EV_READ */
	bool mid;			/* the last frame that was taken had FRAME_F_MORE */
	bool fin_received;
	bool fin_consumed;
	bool end_again;			/* a program that died had read the end: it is news again */
	bool reset_received;		/* (written with both locks, read with either) */
	uint32_t reset_code;

	/* (tx.lock) */
	struct list blocked;		/* in tx.blocked */
	struct list owing;		/* in tx.owing */
	uint64_t need;			/* bytes that the blocked send wants */
	uint64_t tx_position;		/* of the next frame */
	uint64_t out_bytes;		/* shares not returned */
	uint32_t out_data;		/* data frames not returned */
	uint32_t out_control;		/* FIN, RESET not returned */
	bool opened;			/* the peer knows it: a frame was published */
	uint8_t first;			/* FRAME_F_* of the next frame alone */
	bool need_outside;		/* @need is for a buffer */
	bool fin_sent;
	bool reset_sent;		/* (written with both locks, read with either) */
	uint32_t send_reset_code;
	bool reservation;
	struct shmipc_reservation {
		_Alignas(PAYLOAD_ALIGN) uint8_t staging[INLINE_MAX];
		uint64_t len;
		uint16_t live;
	} reserve;
};

struct shmipc_session {
	struct shmipc_endpoint *ep;	/* (invariant) */
	struct list node;		/* in endpoint.sessions (endpoint.lock) */
	struct list hot;		/* in endpoint.hot (endpoint.poll_lock) */
	struct list corked;		/* in endpoint.corked (endpoint.lock) */
	struct source source;
	uint64_t cookie;		/* (invariant) */
	uint32_t handle;		/* (invariant) */
	unsigned int role;		/* (invariant) parity of the slots that this side opens */
	uint32_t nr_streams;		/* (invariant) the smaller of both sides */
	struct shmipc_peer peer;	/* (endpoint.lock; written with poll_lock, too) */
	bool peer_watched;		/* (poll_lock) peer.c: shmipc_session_watch_peer() */
	bool peer_paused;		/* (poll_lock) as last asked for */
	bool peer_told_paused;		/* (poll_lock) as shmipc_wait() has told */
	uint32_t peer_told;		/* (poll_lock) the generation that it has told */
	atomic_int error;		/* -errno once it ended */
	int ending;			/* (poll_lock) the peer left: fail after the last frame */
	unsigned int empty_polls;	/* (poll_lock) */
	bool drained;			/* frames were taken by session_drain() since the last poll; a hint */
	bool rung;			/* (poll_lock) a bell was taken and not looked for yet */
	unsigned int empty_bells;	/* (poll_lock) in a row that found nothing */
	uint64_t heard;			/* (poll_lock) progress when the last bell was taken */

	struct shmipc_stream **streams;	/* (rx.lock) by slot */
	uint32_t *generations;		/* (rx.lock) last one used of each slot */
	uint32_t next_slot;		/* (rx.lock) where the search for a free one begins */
	struct tx tx;
	struct rx rx;
	struct recovered *recovered;	/* (invariant) between recover_session() and _resume() */
};

static inline int session_error(const struct shmipc_session *s)
{
	return atomic_load_explicit(&s->error, memory_order_acquire);
}

/* Tells the peer where this side runs: it spins or yields by that. */
static inline void session_tell_cpu(struct shmipc_session *s, uint32_t cpu)
{
	if (load_relaxed(&s->rx.control->cpu) != cpu)
		store_relaxed(&s->rx.control->cpu, cpu);
}

/* session.c */
/* One without memory, known to nobody. */
struct shmipc_session *session_alloc(struct shmipc_endpoint *ep,
				     const struct shmipc_options *options, unsigned int role);
/* Where the parts of its own first segment lie. */
void session_place(struct shmipc_session *s, const struct geometry *geo);
/* Tables for as many streams as both sides have, with the peer's first segment mapped. */
int session_connect(struct shmipc_session *s, const struct geometry *peer);
/* It can be used from now on; @causes came before. */
void session_begin(struct shmipc_session *s, uint32_t causes);
int session_prepare(struct shmipc_endpoint *ep, const struct shmipc_options *options,
		    unsigned int role, struct shmipc_session **session);
/* The provider has made it: map the peer's side and begin. */
int session_complete(struct shmipc_session *s, uint32_t handle, const struct shmipc_peer *peer);
void session_destroy(struct shmipc_session *s);
/* Ends it: every call on it and its streams answers @error from now on. No lock held. */
void session_fail(struct shmipc_session *s, int error);
/* Takes frames in without waiting for the leader. No lock held. */
void session_drain(struct shmipc_session *s);
/* Frames, returns, blocked sends: all that there is to do. Returns what it did. poll_lock held. */
unsigned int session_poll(struct shmipc_session *s);
/*
 * Asks the peer to ring, and takes it off the hot list. True: there is something after all, and it
 * stays there. @bits: + what the peer has to be rung for, also for what was corked. poll_lock held.
 */
bool session_arm(struct shmipc_session *s, uint32_t *bits);
/*
 * Takes causes that the provider reported. False: nothing but a bell that is not worth another
 * turn, because the session ended or has rung for nothing all the time. poll_lock held.
 */
bool session_event(struct shmipc_session *s, uint32_t causes);
/* Rings the peer. No lock held. */
void session_ring(struct shmipc_session *s, uint32_t bits);
/* What it must ring for what was corked. No lock held. */
uint32_t session_take_bells(struct shmipc_session *s);
void session_cork(struct shmipc_session *s);

/* peer.c */
/* For the log. */
uint32_t session_pid(const struct shmipc_session *s);
/* The following with poll_lock held. */
/* The provider says that something is new about it. */
void peer_event(struct shmipc_session *s);
/* What shmipc_wait() has to report: one bit of 1 << SHMIPC_EV_PEER_*, or 0. */
uint32_t peer_level(const struct shmipc_session *s);
/* That was reported. */
void peer_told(struct shmipc_session *s, uint32_t bits);

/* What a message of @len bytes takes of its stream's window. */
static inline uint64_t tx_share(uint64_t len)
{
	return len > FRAME_SHARE ? len : FRAME_SHARE;
}

/* tx.c */
int tx_init(struct shmipc_session *s, const struct shmipc_options *options);
int tx_connect(struct shmipc_session *s, const struct geometry *peer, const void *segment);
void tx_destroy(struct shmipc_session *s);
/* The following with tx.lock held. */
int tx_reserve(struct shmipc_session *s, struct shmipc_stream *st, uint64_t len, bool outside);
bool tx_stalled(struct shmipc_session *s, const struct shmipc_stream *st, uint64_t len,
		bool outside);
void tx_unreserve(struct shmipc_session *s, struct shmipc_stream *st);
void *tx_reserved_data(struct shmipc_session *s, struct shmipc_stream *st);
/* @grant: of the buffer that was reserved for, else NULL. @flags: FRAME_F_MORE, FRAME_F_GIVEN. */
void tx_commit(struct shmipc_session *s, struct shmipc_stream *st, uint64_t len,
	       struct buf_grant *grant, unsigned int flags);
void tx_announce(struct shmipc_session *s, struct shmipc_stream *st, unsigned int kind,
		 uint64_t seq);
/* Nobody will return them any more: what buffers are out are free. */
void tx_release_bufs(struct shmipc_session *s);
/* Is there anybody who waits for returns? */
bool tx_waited_for(const struct shmipc_session *s);
bool tx_control(struct shmipc_session *s, struct shmipc_stream *st, unsigned int kind);
bool tx_bell_due(struct shmipc_session *s);
int tx_reap(struct shmipc_session *s);
/*
 * Asks the peer to ring for what a send waits for. True: found something meanwhile. session_arm(),
 * which asks for frames, too, has one fence for both between tx_ask() and tx_look().
 */
bool tx_arm(struct shmipc_session *s);
bool tx_ask(struct shmipc_session *s);
/* @bits: + BELL_DATA if the peer has to be rung for what was published. */
bool tx_look(struct shmipc_session *s, uint32_t *bits);
/* Changes with each return reaped and each ring slot passed. */
uint32_t tx_progress(struct shmipc_session *s);
int tx_rearm(struct shmipc_session *s);		/* -EBADMSG as tx_reap() */
unsigned int tx_unblock(struct shmipc_session *s);
/* Without locks: makes room for @len bytes by a new segment. */
int tx_grow(struct shmipc_session *s, uint64_t len);

/* rx.c */
int rx_init(struct shmipc_session *s);
int rx_connect(struct shmipc_session *s, const struct geometry *peer,
	       const struct pv_mapping *mapping);
void rx_destroy(struct shmipc_session *s);
/* Takes up to @budget frames off the ring. Returns how many, or -EBADMSG. No lock held. */
int rx_drain(struct shmipc_session *s, unsigned int budget);
/* The following with rx.lock held. */
/* Would rx_drain() find a frame, or a lie? */
bool rx_pending(const struct shmipc_session *s);
bool rx_return(struct shmipc_session *s, struct rx_node *node);	/* true: ring the peer */
/* Has the peer to be rung for returns that rx_return() left to the next sleep or flush? */
bool rx_bell_due(struct shmipc_session *s);
/* Asks the peer to ring for the next frame, and tells it how far the ring was read. Returns how far before. */
uint32_t rx_ask(struct shmipc_session *s);
/*
 * After a fence, which pairs with those of tx_bell_due() and tx_arm(). True: a frame came meanwhile.
 * @bits: + BELL_SPACE if the peer has to be rung for what was read or returned.
 */
bool rx_look(struct shmipc_session *s, uint32_t before, uint32_t *bits);
/*
 * Drops what is at the head of the queue of a message that is cut, which ends with the frame that
 * has FRAME_F_ABORT. @told: the application has, or may have, a part of it. True: ring the peer.
 */
bool rx_pass_cut(struct shmipc_session *s, struct shmipc_stream *st, bool *told);
bool rx_discard(struct shmipc_session *s, struct shmipc_stream *st);	/* true: ring the peer */
bool rx_publish_cursor(struct shmipc_session *s);		/* true: ring the peer */

/* send.c */
struct budget;
/*
 * Reserves, waiting for the window and making memory as needed. @outside: for a buffer. Returns
 * with tx.lock held on 0.
 */
int stream_reserve(struct shmipc_stream *st, uint64_t len, bool outside,
		   const struct budget *budget);

/* send.c; with tx.lock held */
/* 0, or why nothing can be sent on it any more. */
int stream_sendable(const struct shmipc_stream *st);
/* Rings if the peer sleeps, or leaves it to the next flush (SHMIPC_CORK). Releases tx.lock. */
void stream_bell_and_unlock(struct shmipc_stream *st, unsigned int flags);

/* receive.c; takes rx.lock: data, an end or an error that the application has not seen */
bool stream_readable(struct shmipc_stream *st);

/* stream.c; with rx.lock held */
/* One that is in no list and no table yet. */
struct shmipc_stream *stream_alloc(struct shmipc_session *s, uint16_t slot, uint32_t generation);
struct shmipc_stream *stream_new(struct shmipc_session *s, uint16_t slot, uint32_t generation);
/* endpoint_post(), if the application has the stream: nobody else may hear of it, or free it then. */
void stream_post(struct shmipc_stream *st, uint32_t event);
/* Nothing can be sent any more: what is to be reported. tx.lock held as well. */
void stream_post_end(struct shmipc_stream *st);
/* Has all that was sent and received in it been returned, both ways? Reaps returns first. */
bool stream_over(struct shmipc_stream *st);
/* Was it reset by either side? Then its slot may be opened anew before all is returned. */
bool stream_terminated(struct shmipc_stream *st);
void stream_detach(struct shmipc_stream *st);
/* Frees it when neither the application, the slot nor a frame refers to it any more. */
void stream_put(struct shmipc_stream *st);
/* Frees what was closed and is over by now. */
void stream_sweep(struct shmipc_session *s);
void stream_free(struct shmipc_stream *st);

#endif
