// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stream.c - the life of a stream: opening, finishing, resetting, closing
 *
 * A stream's identity is {slot, generation}. Each side opens slots of its own parity, so both can
 * open at once. A slot is used again, with the next generation, when all that was sent in either
 * direction has been returned.
 */
#include <errno.h>
#include <stdlib.h>
#include "barrier.h"
#include "error.h"
#include "session.h"

/* ---- life --------------------------------------------------------------- */

struct shmipc_stream *stream_alloc(struct shmipc_session *s, uint16_t slot, uint32_t generation)
{
	struct shmipc_stream *st = calloc(1, sizeof(*st));

	if (!st)
		return NULL;
	st->session = s;
	st->slot = slot;
	st->generation = generation;
	source_init(&st->source, SOURCE_STREAM, st);
	list_init(&st->accept);
	list_init(&st->blocked);
	list_init(&st->owing);
	st->tail = &st->head;
	return st;
}

struct shmipc_stream *stream_new(struct shmipc_session *s, uint16_t slot, uint32_t generation)
{
	struct shmipc_stream *st = stream_alloc(s, slot, generation);
	struct stream_record *record = &s->tx.records[slot];

	if (!st)
		return NULL;
	st->handle = st->attached = true;
	st->visible = (slot & 1) == s->role;
	st->first = st->visible ? FRAME_F_OPEN : 0;
	s->streams[slot] = st;
	s->generations[slot] = generation;

	/* Free until the rest is there. For a successor, never for the peer. */
	store_relaxed(&record->change, RECORD_CHANGE(RECORD_FREE, 0));
	program_order();
	store_relaxed(&record->generation, generation);
	store_relaxed(&record->sent, 0);
	store_relaxed(&record->consumed, 0);
	store_relaxed(&record->window, s->tx.window);
	store_relaxed(&record->unfinished, RECORD_WHOLE);
	store_relaxed(&record->end, 0);
	store_relaxed(&record->holder, st->visible ? RECORD_CHANGE(RECORD_HELD, 0) :
		      RECORD_CHANGE(RECORD_WAITING, s->rx.next));
	store_release(&record->change, RECORD_CHANGE(RECORD_OPEN, 0));
	return st;
}

void stream_post(struct shmipc_stream *st, uint32_t event)
{
	if (st->visible)
		endpoint_post(st->session->ep, &st->source, event);
}

void stream_post_end(struct shmipc_stream *st)
{
	bool owed = !list_empty(&st->blocked);

	list_del(&st->blocked);
	stream_post(st, owed ? SHMIPC_EV_WRITE : 0);
}

bool stream_over(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	bool over;

	if (st->held)
		return false;
	lock(&s->tx.lock);
	if (st->out_data || st->out_control)
		tx_reap(s);
	over = !st->out_data && !st->out_control && list_empty(&st->owing) &&
	       (st->reset_sent || st->reset_received ||
		(st->fin_sent && st->fin_consumed) || (!st->opened && !st->rx_position &&
		 !st->fin_received && (st->slot & 1) == s->role));
	unlock(&s->tx.lock);
	return over;
}

bool stream_terminated(struct shmipc_stream *st)
{
	bool sent;

	lock(&st->session->tx.lock);
	sent = st->reset_sent;
	unlock(&st->session->tx.lock);
	return sent || st->reset_received;
}

void stream_detach(struct shmipc_stream *st)
{
	st->session->streams[st->slot] = NULL;
	st->attached = false;
	if (st->handle)
		list_add_tail(&st->accept, &st->session->rx.detached);
	/* A RESET that is still owed has come too late, and the record is another stream's soon. */
	lock(&st->session->tx.lock);
	list_del(&st->owing);
	unlock(&st->session->tx.lock);
	store_release(&st->session->tx.records[st->slot].change, RECORD_CHANGE(RECORD_FREE, 0));
}

void stream_free(struct shmipc_stream *st)
{
	list_del(&st->accept);
	list_del(&st->blocked);
	list_del(&st->owing);
	source_remove(st->session->ep, &st->source);
	free(st);
}

void stream_put(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	bool out;

	lock(&s->tx.lock);
	out = st->out_data || st->out_control || !list_empty(&st->owing);
	unlock(&s->tx.lock);
	if (!st->handle && !st->attached && !st->held && !out)
		stream_free(st);
}

void stream_sweep(struct shmipc_session *s)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &s->rx.closed) {
		struct shmipc_stream *st = container_of(pos, struct shmipc_stream, accept);

		if (!stream_over(st))
			continue;
		if (st->attached)
			stream_detach(st);
		stream_put(st);
	}
}

/* ---- opening ------------------------------------------------------------ */

/* What the call has to answer before it does anything. */
static int usable(const struct shmipc_session *s)
{
	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	return session_error(s);
}

static int find_slot(struct shmipc_session *s)
{
	uint32_t slot = s->next_slot;

	do {
		if (!s->streams[slot]) {
			s->next_slot = slot;
			return slot;
		}
		slot += 2;
		if (slot >= s->nr_streams)
			slot = s->role;
	} while (slot != s->next_slot);
	return -EMFILE;
}

int shmipc_stream_open(struct shmipc_session *s, struct shmipc_stream **stream)
{
	int slot, err = usable(s);

	if (err)
		return err;
	lock(&s->rx.lock);
	slot = find_slot(s);
	if (slot < 0) {
		stream_sweep(s);
		slot = find_slot(s);
	}
	if (slot >= 0)
		*stream = stream_new(s, slot, s->generations[slot] + 1);
	unlock(&s->rx.lock);
	if (slot < 0)
		return error_set(slot, "all %u streams that this side may open are in use: close "
				 "some, or raise max_streams on both sides", s->nr_streams / 2);
	return *stream ? 0 : -ENOMEM;
}

static bool accept_ready(void *arg)
{
	struct shmipc_session *s = arg;
	bool ready;

	if (session_error(s))
		return true;
	lock(&s->rx.lock);
	ready = !list_empty(&s->rx.accept);
	unlock(&s->rx.lock);
	return ready;
}

int shmipc_stream_accept(struct shmipc_session *s, struct shmipc_stream **stream,
			 int64_t timeout_ns)
{
	struct waiter w = { .key = s, .ready = accept_ready, .arg = s };
	struct shmipc_stream *st = NULL;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	for (;;) {
		err = endpoint_wait(s->ep, &w, timeout_ns);
		if (err)
			return err;
		lock(&s->rx.lock);
		if (!list_empty(&s->rx.accept)) {
			st = container_of(s->rx.accept.next, struct shmipc_stream, accept);
			list_del(&st->accept);
			st->visible = true;
			store_release(&s->tx.records[st->slot].holder,
				      RECORD_CHANGE(RECORD_HELD, 0));
			stream_post(st, 0);
		}
		unlock(&s->rx.lock);
		if (st) {
			*stream = st;
			endpoint_poke(s->ep, st);
			return 0;
		}
		if (session_error(s))
			return session_error(s);
	}
}

void shmipc_stream_set_user(struct shmipc_stream *st, void *user)
{
	struct shmipc_endpoint *ep = st->session->ep;

	if (endpoint_foreign(ep))
		return;
	lock(&ep->lock);
	st->source.user = user;
	unlock(&ep->lock);
}

int shmipc_stream_pause(struct shmipc_stream *st, int paused)
{
	struct shmipc_session *s = st->session;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->rx.lock);
	st->paused = paused;
	unlock(&s->rx.lock);
	endpoint_post(s->ep, &st->source, 0);
	if (!paused)
		endpoint_poke(s->ep, st);
	return 0;
}

uint64_t shmipc_stream_id(const struct shmipc_stream *st)
{
	return (uint64_t)st->generation << 16 | st->slot;
}

struct shmipc_session *shmipc_stream_session(const struct shmipc_stream *st)
{
	return st->session;
}

/* ---- ending ------------------------------------------------------------- */

int shmipc_finish(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->tx.lock);
	err = stream_sendable(st);
	if (!err && st->reservation)
		err = -EBUSY;
	if (err) {
		unlock(&s->tx.lock);
		return err;
	}
	tx_control(s, st, FRAME_FIN);
	stream_bell_and_unlock(st, 0);
	return 0;
}

/* Nobody is to be told, but for a successor; nor that, if the slot and its record are another stream's. */
static void stream_reset_unheard(struct shmipc_stream *st)
{
	st->reset_sent = true;
	if (st->attached)
		tx_announce(st->session, st, FRAME_RESET, 0);
}

/* Drops what was not read and what is reserved; sends RESET if the peer knows the stream. */
static void reset_locked(struct shmipc_stream *st, uint32_t code, bool *ring)
{
	struct shmipc_session *s = st->session;

	lock(&s->tx.lock);
	if (st->reservation)
		tx_unreserve(s, st);
	list_del(&st->blocked);
	if (!st->reset_sent && !st->reset_received && !session_error(s)) {
		st->send_reset_code = code;
		if (st->attached && (st->opened || st->rx_position || st->fin_received ||
				     (st->slot & 1) != s->role))
			tx_control(s, st, FRAME_RESET);
		else
			stream_reset_unheard(st);
	}
	unlock(&s->tx.lock);
	/* After the RESET: a successor that has no more of the data must know why. */
	*ring |= rx_discard(s, st);
}

int shmipc_reset(struct shmipc_stream *st, uint32_t code)
{
	struct shmipc_session *s = st->session;
	bool ring = false;
	int err = usable(s);

	if (err)
		return err;
	lock(&s->rx.lock);
	reset_locked(st, code, &ring);
	unlock(&s->rx.lock);
	/* Another thread may read it or send on it. */
	stream_post(st, 0);
	endpoint_poke(s->ep, st);
	if (ring)
		session_ring(s, BELL_SPACE);
	return shmipc_flush(st);
}

uint32_t shmipc_stream_reset_code(const struct shmipc_stream *st)
{
	uint32_t code;

	if (endpoint_foreign(st->session->ep))
		return 0;
	lock(&st->session->rx.lock);
	code = st->reset_code;
	unlock(&st->session->rx.lock);
	return code;
}

/* Everything that the application still holds of this stream goes back. rx.lock held. */
static bool return_leases(struct shmipc_stream *st)
{
	struct rx *rx = &st->session->rx;
	bool ring = false;

	for (uint32_t i = 0; st->held && i < rx->nr_live; i++)
		if (rx->nodes[i].stream == st && rx->nodes[i].leased)
			ring |= rx_return(st->session, &rx->nodes[i]);
	return ring;
}

void shmipc_stream_close(struct shmipc_stream *st)
{
	struct shmipc_session *s;
	uint32_t bits = 0;
	bool ring = false;

	if (!st)
		return;
	s = st->session;
	if (endpoint_foreign(s->ep))
		return;
	/* poll_lock: shmipc_wait() looks at sources of streams under it. */
	lock(&s->ep->poll_lock);
	lock(&s->rx.lock);
	/* First: a successor then closes it to the end. */
	if (st->attached)
		store_release(&s->tx.records[st->slot].holder, RECORD_CHANGE(RECORD_CLOSED, 0));
	if (st->head && st->head->kind != FRAME_FIN)
		reset_locked(st, 0, &ring);
	else
		ring |= rx_discard(s, st);
	ring |= return_leases(st);
	st->handle = st->visible = false;
	list_del(&st->accept);
	list_add_tail(&st->accept, &s->rx.closed);
	lock(&s->tx.lock);
	if (st->reservation)
		tx_unreserve(s, st);
	list_del(&st->blocked);
	if (!stream_sendable(st) && (st->opened || (st->slot & 1) != s->role))
		tx_control(s, st, FRAME_FIN);
	unlock(&s->tx.lock);
	/* Neither visible nor blocked: nobody posts it again. */
	source_remove(s->ep, &st->source);
	stream_sweep(s);
	unlock(&s->rx.lock);
	unlock(&s->ep->poll_lock);

	bits = session_take_bells(s) | (ring ? BELL_SPACE : 0);
	if (bits)
		session_ring(s, bits);
}
