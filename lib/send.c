// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* send.c - the calls that send: reserve and commit, write, flush */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "clock.h"
#include "error.h"
#include "session.h"

/* May it send? tx.lock held. */
int stream_sendable(const struct shmipc_stream *st)
{
	if (session_error(st->session))
		return session_error(st->session) == -EBADMSG ? -EBADMSG : -EPIPE;
	if (st->reset_received || st->reset_sent)
		return -ECONNRESET;
	return st->fin_sent ? -ESHUTDOWN : 0;
}

static bool send_ready(void *arg)
{
	struct shmipc_stream *st = arg;
	struct shmipc_session *s = st->session;
	bool ready;

	lock(&s->tx.lock);
	ready = stream_sendable(st) || list_empty(&st->blocked);
	unlock(&s->tx.lock);
	return ready;
}

/* Asks the peer to ring when there is room, unless there is. No lock held. */
static int ask_for_room(struct shmipc_session *s)
{
	uint64_t before;
	bool ring;
	int err;

	lock(&s->tx.lock);
	before = s->tx.next;
	err = tx_rearm(s);
	/* What was owed may have gone out. */
	ring = s->tx.next != before && tx_bell_due(s);
	unlock(&s->tx.lock);
	if (ring)
		session_ring(s, BELL_DATA);
	if (err)
		session_fail(s, err);
	return err;
}

/* Waits for the window, or leaves word that it wants EV_WRITE. No lock held. */
static int wait_window(struct shmipc_stream *st, uint64_t need, bool outside,
		       const struct budget *budget)
{
	struct shmipc_session *s = st->session;
	struct waiter w = { .key = st, .ready = send_ready, .arg = st };
	int err;

	lock(&s->tx.lock);
	st->need = need;
	st->need_outside = outside;
	if (list_empty(&st->blocked))
		list_add_tail(&st->blocked, &s->tx.blocked);
	unlock(&s->tx.lock);
	/* Who leads looks for it, and asks only before it sleeps. */
	if (!budget->timeout || !endpoint_heat_for_wait(s->ep, s)) {
		err = ask_for_room(s);
		if (err)
			return err;
	}
	/* Nobody polls while a program only tries: frames are taken here, as returns were above. */
	if (!budget->timeout && !send_ready(st)) {
		session_drain(s);
		w.looked = !send_ready(st);
	}
	err = endpoint_wait(s->ep, &w, budget_left(budget));
	if (err && err != -EAGAIN) {
		lock(&s->tx.lock);
		list_del(&st->blocked);
		unlock(&s->tx.lock);
	}
	return err;
}

int stream_reserve(struct shmipc_stream *st, uint64_t len, bool outside,
		   const struct budget *budget)
{
	struct shmipc_session *s = st->session;
	bool stalled = false;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	for (;;) {
		lock(&s->tx.lock);
		err = stream_sendable(st);
		if (!err)
			err = st->reservation ? -EBUSY : tx_reserve(s, st, len, outside);
		if (!err) {
			list_del(&st->blocked);
			return 0;
		}
		/* Once a send, however often it waits. */
		if (err == -EAGAIN && !stalled && tx_stalled(s, st, len, outside)) {
			stalled = true;
			count(&s->ep->stalls, 1);
		}
		unlock(&s->tx.lock);
		if (err == -EBADMSG)
			session_fail(s, err);
		else if (err == -ENOBUFS)
			err = tx_grow(s, len);
		else if (err == -EAGAIN)
			err = wait_window(st, len, outside, budget);
		if (err)
			return err;
	}
}

/* Rings if somebody sleeps, or leaves it to the next flush. tx.lock held; released here. */
void stream_bell_and_unlock(struct shmipc_stream *st, unsigned int flags)
{
	struct shmipc_session *s = st->session;
	bool ring = false;

	if (flags & SHMIPC_CORK)
		session_cork(s);
	else
		ring = tx_bell_due(s);
	unlock(&s->tx.lock);
	if (ring)
		session_ring(s, BELL_DATA);
}

int shmipc_reserve(struct shmipc_stream *st, size_t len, void **data, int64_t timeout_ns)
{
	struct budget budget = budget_start(timeout_ns);
	int err;

	if (!len)
		return -EINVAL;
	if (len > st->session->tx.max_memory)
		return error_set(-EMSGSIZE, "a message of %zu bytes is more than max_memory (%llu): "
				 "raise it in struct shmipc_options, or send it in parts", len,
				 (unsigned long long)st->session->tx.max_memory);
	err = stream_reserve(st, len, false, &budget);
	if (err)
		return err;
	*data = tx_reserved_data(st->session, st);
	unlock(&st->session->tx.lock);
	return 0;
}

int shmipc_commit(struct shmipc_stream *st, size_t len, unsigned int flags)
{
	struct shmipc_session *s = st->session;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->tx.lock);
	if (!st->reservation || !len || len > st->reserve.len ||
	    flags & ~(SHMIPC_MORE | SHMIPC_CORK)) {
		unlock(&s->tx.lock);
		return -EINVAL;
	}
	err = stream_sendable(st);
	if (err) {
		tx_unreserve(s, st);
		stream_bell_and_unlock(st, 0);
		return err;
	}
	tx_commit(s, st, len, NULL, flags & SHMIPC_MORE ? FRAME_F_MORE : 0);
	stream_bell_and_unlock(st, flags);
	return 0;
}

int shmipc_cancel(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	int err = -EINVAL;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->tx.lock);
	if (st->reservation) {
		tx_unreserve(s, st);
		err = 0;
	}
	/* The slot that was promised may have gone to a control frame that was owed. */
	stream_bell_and_unlock(st, 0);
	return err;
}

/* One frame. The copy of what does not fit into the frame itself is made without the lock. */
static int write_frame(struct shmipc_stream *st, const void *buf, size_t len, unsigned int flags,
		       const struct budget *budget)
{
	struct shmipc_session *s = st->session;
	int err = stream_reserve(st, len, false, budget);
	void *data;

	if (err)
		return err;
	data = tx_reserved_data(s, st);
	if (len > INLINE_MAX) {
		unlock(&s->tx.lock);
		memcpy(data, buf, len);
		return shmipc_commit(st, len, flags);
	}
	memcpy(data, buf, len);
	tx_commit(s, st, len, NULL, flags & SHMIPC_MORE ? FRAME_F_MORE : 0);
	stream_bell_and_unlock(st, flags);
	return 0;
}

ssize_t shmipc_write(struct shmipc_stream *st, const void *buf, size_t len, unsigned int flags,
		     int64_t timeout_ns)
{
	struct budget budget = budget_start(timeout_ns);
	size_t most = st->session->tx.window / 4, done = 0;
	int err = 0;

	if (!len || flags & ~(SHMIPC_MORE | SHMIPC_CORK) || len > SSIZE_MAX)
		return -EINVAL;
	while (done < len && !err) {
		size_t part = len - done < most ? len - done : most;
		unsigned int more = done + part < len ? SHMIPC_MORE : 0;

		err = write_frame(st, (const char *)buf + done, part, flags | more, &budget);
		if (!err)
			done += part;
	}
	return done ? (ssize_t)done : err;
}

int shmipc_flush(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	uint32_t bits;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->tx.lock);
	if (!st->opened && (st->slot & 1) == s->role && list_empty(&st->owing) && !stream_sendable(st))
		tx_control(s, st, FRAME_OPEN);
	unlock(&s->tx.lock);
	bits = session_take_bells(s);
	if (bits)
		session_ring(s, bits);
	return 0;
}
