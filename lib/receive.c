// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* receive.c - the calls that receive: peek and return, read */
#include <errno.h>
#include <string.h>
#include "barrier.h"
#include "session.h"

static int receive_error(const struct shmipc_stream *st)
{
	int err = session_error(st->session);

	if (st->reset_received || st->reset_sent)
		return -ECONNRESET;
	if (err && !st->fin_received)
		return err == -EBADMSG ? err : -EPIPE;
	return 0;
}

bool stream_readable(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	bool ready;

	lock(&s->rx.lock);
	ready = st->head || (st->fin_received && !st->fin_consumed) || st->end_again ||
		receive_error(st);
	unlock(&s->rx.lock);
	return ready;
}

static bool read_ready(void *arg)
{
	return stream_readable(arg);
}

static inline struct rx_node *take_head(struct shmipc_stream *st)
{
	struct rx_node *node = st->head;

	st->head = node->next;
	if (!st->head)
		st->tail = &st->head;
	st->mid = node->flags & FRAME_F_MORE;
	/* What is delivered again may lie behind what was consumed. */
	if (!(node->flags & NODE_BEHIND))
		store_release(&st->session->tx.records[st->slot].consumed,
			      node->position + node->length);
	return node;
}

/*
 * Passes what is at the head of a message that was cut. The application is told, once, if it has a
 * part: -ECANCELED, else 0. Releases rx.lock.
 */
static __attribute__((cold, noinline)) int pass_cut(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	bool told, ring = rx_pass_cut(s, st, &told);

	unlock(&s->rx.lock);
	if (ring)
		session_ring(s, BELL_SPACE);
	return told ? -ECANCELED : 0;
}

/* Waits until there is a frame (1, rx.lock held), or the end (0) or an error (no lock held). */
static int wait_frame(struct shmipc_stream *st, int64_t timeout_ns)
{
	struct shmipc_session *s = st->session;
	struct waiter w = { .key = st, .ready = read_ready, .arg = st };
	bool ring = false, drain, drained = false;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	for (;;) {
		lock(&s->rx.lock);
		if (st->head && st->head->flags & (FRAME_F_ABORT | NODE_CUT)) {
			err = pass_cut(st);
			if (err)
				return err;
			continue;
		}
		if (st->head && st->head->kind != FRAME_FIN)
			return 1;
		if (st->head) {
			ring = rx_discard(s, st);
			unlock(&s->rx.lock);
			if (ring)
				session_ring(s, BELL_SPACE);
			return 0;
		}
		err = receive_error(st);
		if (!err && st->fin_consumed) {
			st->end_again = false;
			unlock(&s->rx.lock);
			return 0;
		}
		/* Once by itself: what is in the ring need not wait for the leader. */
		w.looked = !err && !rx_pending(s);
		drain = !err && !drained && !w.looked;
		unlock(&s->rx.lock);
		if (drain) {
			drained = true;
			session_drain(s);
			continue;
		}
		if (!err)
			err = endpoint_wait(s->ep, &w, timeout_ns);
		if (err)
			return err;
	}
}

/* Is the next frame in the queue the next part? After an adoption some may have been returned. */
static bool goes_on(const struct shmipc_stream *st, const struct rx_node *node)
{
	return st->head && st->head->kind != FRAME_FIN &&
	       !(st->head->flags & (FRAME_F_ABORT | NODE_CUT)) &&
	       st->head->position == node->position + node->length && !st->head->taken;
}

int shmipc_peek(struct shmipc_stream *st, struct shmipc_message *message, int64_t timeout_ns)
{
	bool looked = false;
	struct rx_node *node;
	int err;

	for (;;) {
		err = wait_frame(st, timeout_ns);
		if (err <= 0)
			return err;
		if (looked || !(st->head->flags & FRAME_F_MORE) || st->head->next)
			break;
		/* More parts may be in the ring. */
		looked = true;
		unlock(&st->session->rx.lock);
		session_drain(st->session);
	}
	message->len = 0;
	message->nspans = 0;
	message->position = st->head->position + st->head->taken;
	message->flags = 0;
	do {
		node = take_head(st);
		node->leased = true;
		message->spans[message->nspans].data = node->data + node->taken;
		message->spans[message->nspans].len = node->length - node->taken;
		message->lease[message->nspans] = node;
		message->len += node->length - node->taken;
		message->nspans++;
		if (node->flags & NODE_REDELIVERED)
			message->flags = SHMIPC_MSG_REDELIVERED;
	} while (node->flags & FRAME_F_MORE && message->nspans < SHMIPC_SPANS_MAX &&
		 goes_on(st, node));
	if (node->flags & FRAME_F_MORE)
		message->flags |= SHMIPC_MSG_MORE;
	if (message->nspans == 1 && node->flags & FRAME_F_GIVEN)
		message->flags |= SHMIPC_MSG_GIVEN;
	unlock(&st->session->rx.lock);
	return 1;
}

int shmipc_return(struct shmipc_stream *st, struct shmipc_message *message)
{
	struct shmipc_session *s = st->session;
	bool ring = false;
	int err = 0;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	if (!message->nspans)
		return -EINVAL;
	lock(&s->rx.lock);
	for (uint32_t i = 0; i < message->nspans; i++) {
		struct rx_node *node = message->lease[i];

		if (!node->leased || node->stream != st) {
			err = -EINVAL;
			break;
		}
		node->leased = false;
		ring |= rx_return(s, node);
	}
	message->nspans = 0;
	unlock(&s->rx.lock);
	if (ring)
		session_ring(s, BELL_SPACE);
	return err;
}

ssize_t shmipc_read(struct shmipc_stream *st, void *buf, size_t len, int64_t timeout_ns)
{
	struct shmipc_session *s = st->session;
	struct rx_node *node;
	bool ring = false;
	size_t n;
	int err;

	if (!len)
		return -EINVAL;
again:
	err = wait_frame(st, timeout_ns);
	if (err <= 0)
		return err;
	node = st->head;
	n = node->length - node->taken < len ? node->length - node->taken : len;
	if (n > INLINE_MAX) {
		/* The frame stays at the head: one thread reads a stream. Leased: see drop_node(). */
		node->leased = true;
		unlock(&s->rx.lock);
		memcpy(buf, node->data + node->taken, n);
		lock(&s->rx.lock);
		node->leased = false;
	} else {
		memcpy(buf, node->data + node->taken, n);
	}
	/* A RESET during the copy dropped the frame. */
	if (st->head != node) {
		ring = rx_return(s, node);
		unlock(&s->rx.lock);
		if (ring)
			session_ring(s, BELL_SPACE);
		goto again;
	}
	node->taken += n;
	if (node->taken == node->length)
		ring = rx_return(s, take_head(st));
	else if (!(node->flags & NODE_BEHIND))
		store_relaxed(&s->tx.records[st->slot].consumed, node->position + node->taken);
	unlock(&s->rx.lock);
	if (ring)
		session_ring(s, BELL_SPACE);
	return n;
}
