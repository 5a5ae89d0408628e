/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * transport.h - what a message travels by: the one interface of shmipc and of all its peers
 *
 * A pair is two processes. What both need is made before the fork; each then attaches. A message is
 * reserved, written and committed by its sender, received, read and released by its receiver:
 * where a transport copies, the reserved memory is the sender's own, and so is the received one.
 */
#ifndef SHMIPC_PERF_TRANSPORT_H
#define SHMIPC_PERF_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum end { CLIENT, SERVER };

#define CHANNELS_MAX	1024
#define PAYLOAD_MAX	((size_t)1 << 30)

/* What a pair is made for. The same for each transport. */
struct setup {
	size_t size;		/* bytes of the client's messages */
	size_t reply;		/* and of the server's */
	size_t written, read;	/* of @size, by client and by server; the rest is let alone */
	unsigned int depth;	/* messages of @size that may be under way; slots of the ring */
	unsigned int channels;	/* 1, but for a transport with ready() */
	unsigned int busy;	/* channels that have traffic, the first ones */
	bool sessions;		/* each channel is a connection, else a stream of one connection */
	bool buffer;		/* the client's message lies in one big buffer, used again */
	bool spin;		/* whoever waits looks again and again; else it may sleep */
};

extern struct setup setup;

/* Workloads that a transport can't do, or where it would say nothing. */
#define ECHOES		(1U << 0)	/* one message, one answer */
#define STREAMS		(1U << 1)	/* many messages, one answer */
#define SPINS		(1U << 2)	/* can wait without sleeping */
#define SLEEPS		(1U << 3)	/* can wait without spinning */
#define BUFFERS		(1U << 4)	/* knows setup.buffer */
#define COPIES		(1U << 5)	/* no transport: memcpy() */

struct transport {
	const char *name;
	unsigned int flags;
	/* Why it can't be had here for this setup, or NULL: it can. May be NULL. */
	const char *(*absent)(void);
	void (*make)(void);
	void (*attach)(enum end end);
	/* Memory for a message of @size. */
	void *(*reserve)(unsigned int channel, size_t size);
	/* @answered: the sender waits for the answer next, so that a doorbell may wait for that. */
	void (*commit)(unsigned int channel, size_t size, bool answered);
	/* Waits for a message of @size. NULL: the other end is gone. */
	const void *(*receive)(unsigned int channel, size_t size);
	void (*release)(unsigned int channel);
	/* Waits for messages, tells on which channels; receive() then does not wait. Or NULL. */
	unsigned int (*ready)(unsigned int *channels, unsigned int max);
	/* A server of connections, one after the other; a visit: connect, ask, close. Or NULL. */
	void (*serve)(void);
	void (*visit)(uint64_t word);
};

extern const struct transport peer_shmipc, peer_unix, peer_seqpacket, peer_tcp, peer_pipe, peer_mq,
	peer_eventfd, peer_futex, peer_spin, peer_ring, peer_qb, peer_zmq, peer_nng, peer_memcpy;

/* All of them, ended by NULL. */
extern const struct transport *const transports[];
const struct transport *transport_find(const char *name);

#endif
