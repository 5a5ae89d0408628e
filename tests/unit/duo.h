/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * duo.h - a session whose two ends are in this process, over one mapping
 *
 * The provider is the local one, so a test can look into both ends, and write into either end's
 * segment what no honest library would. Side a listens (role 1), side b connects (role 0).
 */
#ifndef TESTS_DUO_H
#define TESTS_DUO_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <shmipc/shmipc.h>
#include "session.h"

#define LIMIT	((int64_t)30 * 1000000000)
#define MS	((int64_t)1000000)

struct duo {
	struct shmipc_endpoint *a_ep, *b_ep;
	struct shmipc_session *a, *b;
};

void duo_open(struct duo *d, const struct shmipc_options *options);
/* As if @seq frames had been sent and taken each way. */
void duo_open_at(struct duo *d, const struct shmipc_options *options, uint64_t seq);
void duo_close(struct duo *d);
/* One more session: @a_ep listens, @b_ep connects. */
void duo_connect(struct shmipc_endpoint *a_ep, struct shmipc_endpoint *b_ep,
		 const struct shmipc_options *options, struct shmipc_session **a,
		 struct shmipc_session **b);

/* Opened by b, with a first byte, accepted by a. */
void duo_stream(struct duo *d, struct shmipc_stream **b, struct shmipc_stream **a);
/* Sends one message and reads it at the other end; content checked. */
void duo_send(struct shmipc_stream *from, struct shmipc_stream *to, size_t len);
/* As if @position bytes had been sent and read on it. Nothing of it may be out. */
void duo_stream_at(struct shmipc_stream *from, struct shmipc_stream *to, uint64_t position);
void duo_fill(uint8_t *buf, size_t len, unsigned int key);

/* As if @s ran on a CPU that its peer does not run on, until it arms the next time. */
void duo_elsewhere(struct shmipc_session *s);

/* Takes all frames off the ring, and tells the sender. */
void duo_drain(struct shmipc_session *s);
/* tx_reap() with its lock. */
int duo_reap(struct shmipc_session *s);

/*
 * Publishes a frame that no library made: as @frame says, but for its seq, which is the next one.
 * duo_frame() makes an honest one: a message of one byte on @st.
 */
struct frame duo_frame(struct shmipc_stream *st);
void duo_inject(struct shmipc_session *from, const struct frame *frame);

/* Counters of an endpoint. */
struct shmipc_stats duo_stats(struct shmipc_endpoint *ep);

#endif
