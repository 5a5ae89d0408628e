// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* buf.c - the calls for big buffers, and what becomes of them; buf.h tells how */
#include <errno.h>
#include <stdlib.h>
#include "barrier.h"
#include "clock.h"
#include "error.h"
#include "session.h"

/* ---- grants; all with endpoint.buf_lock held ---------------------------- */

static struct buf_grant *find_grant(struct shmipc_buf *buf, const struct shmipc_session *s)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &buf->grants) {
		struct buf_grant *grant = container_of(pos, struct buf_grant, node);

		if (grant->session == s)
			return grant;
	}
	return NULL;
}

static struct buf_slot *slot_of(const struct buf_grant *grant)
{
	return &grant->session->tx.bufs[grant->slot - BUF_SLOT_FIRST];
}

/* A free slot, or NULL. */
static struct buf_slot *find_slot(struct tx *tx)
{
	for (uint32_t i = 0; i < BUF_SLOTS; i++)
		if (!tx->bufs[i].grant && !tx->bufs[i].used_up)
			return &tx->bufs[i];
	return NULL;
}

/*
 * What no frame of the session has named yet; stored before one does, for a successor. Where a grant
 * can't be ended each slot is used once, in their order, which makes its serial: the same one also
 * with a successor, to which the largest says how many slots are used up.
 */
static uint32_t next_serial(struct shmipc_session *s, uint32_t at)
{
	struct segment_header *header = s->tx.segments[0].addr;
	uint32_t last = load_relaxed(&header->buf_serial), serial = last + 1;

	serial += !serial;
	if (!s->ep->pv->ops->segment_revoke)
		serial = at + 1;
	if (s->ep->pv->ops->segment_revoke || serial > last)
		store_relaxed(&header->buf_serial, serial);
	return serial;
}

static int make_grant(struct shmipc_buf *buf, struct shmipc_session *s, struct buf_grant **made)
{
	struct provider *pv = s->ep->pv;
	struct tx *tx = &s->tx;
	struct buf_grant *grant;
	struct buf_slot *slot;
	int err;

	if (!tx->bufs)
		tx->bufs = calloc(BUF_SLOTS, sizeof(*tx->bufs));
	grant = tx->bufs ? calloc(1, sizeof(*grant)) : NULL;
	if (!grant)
		return -ENOMEM;
	slot = find_slot(tx);
	if (!slot) {
		free(grant);
		return error_set(-ENOSPC, "a session can't have more than %u buffers: use those again "
				 "that have come back", BUF_SLOTS);
	}
	grant->buf = buf;
	grant->session = s;
	grant->slot = BUF_SLOT_FIRST + (slot - tx->bufs);
	grant->serial = next_serial(s, slot - tx->bufs);
	err = pv->ops->segment_grant(pv, s->handle, &buf->segment, grant->slot);
	if (err) {
		free(grant);
		return err;
	}
	slot->grant = grant;
	list_add_tail(&grant->node, &buf->grants);
	*made = grant;
	return 0;
}

/* No frame names it. */
static void end_grant(struct buf_grant *grant)
{
	const struct provider_ops *ops = grant->session->ep->pv->ops;
	struct buf_slot *slot = slot_of(grant);

	if (ops->segment_revoke)
		ops->segment_revoke(grant->session->ep->pv, grant->session->handle, grant->slot);
	else
		slot->used_up = true;
	slot->grant = NULL;
	list_del(&grant->node);
	free(grant);
}

static void end_grants(struct shmipc_buf *buf, const struct shmipc_session *but)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &buf->grants) {
		struct buf_grant *grant = container_of(pos, struct buf_grant, node);

		if (grant->session != but)
			end_grant(grant);
	}
}

/* ---- life --------------------------------------------------------------- */

static struct shmipc_buf *buf_new(struct shmipc_endpoint *ep)
{
	struct shmipc_buf *buf = calloc(1, sizeof(*buf));

	if (!buf)
		return NULL;
	buf->ep = ep;
	list_init(&buf->node);
	list_init(&buf->grants);
	return buf;
}

static void buf_list(struct shmipc_buf *buf)
{
	lock(&buf->ep->buf_lock);
	list_add_tail(&buf->node, &buf->ep->bufs);
	unlock(&buf->ep->buf_lock);
}

/*
 * What became of what was given, once the frame is back. 0: it is ours. A peer that has ended, and
 * whose end the provider has not come to yet, must not keep it: then it is taken back here.
 * buf_lock held.
 */
static int settle(struct shmipc_buf *buf)
{
	struct provider *pv = buf->ep->pv;
	int err;

	if (buf->gone)
		return -ESTALE;
	if (!buf->given || atomic_load(&buf->out))
		return buf->given ? -EBUSY : 0;
	err = pv->ops->segment_state(pv, &buf->segment);
	if (err == -EBUSY && !list_empty(&buf->grants)) {
		end_grants(buf, NULL);
		err = pv->ops->segment_state(pv, &buf->segment);
	}
	if (err == -EBUSY)
		return err;
	buf->given = false;
	buf->gone = err == -ESTALE;
	if (buf->gone)
		end_grants(buf, NULL);
	return err;
}

/* buf_lock held, or nobody else is there. */
static void destroy(struct shmipc_buf *buf)
{
	struct provider *pv = buf->ep->pv;

	/* What is given in a session that was closed is left to its peer: only our handle goes. */
	settle(buf);
	end_grants(buf, NULL);
	list_del(&buf->node);
	pv->ops->segment_destroy(pv, &buf->segment);
	free(buf);
}

void buf_sweep(struct shmipc_endpoint *ep)
{
	struct list *pos, *n;

	lock(&ep->buf_lock);
	atomic_store(&ep->bufs_litter, false);
	list_for_each_safe(pos, n, &ep->bufs) {
		struct shmipc_buf *buf = container_of(pos, struct shmipc_buf, node);

		/* Who frees it says so, then looks whether it is out; who returns it likewise. */
		if (atomic_load(&buf->freed) && !atomic_load(&buf->out)) {
			atomic_fetch_sub(&ep->bufs_freed, 1);
			destroy(buf);
		}
	}
	unlock(&ep->buf_lock);
}

void buf_destroy_all(struct shmipc_endpoint *ep)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &ep->bufs)
		destroy(container_of(pos, struct shmipc_buf, node));
}

/* With the last one it may be gone: who waits goes on and frees it, or has freed it. */
void buf_returned(struct shmipc_buf *buf)
{
	struct shmipc_endpoint *ep = buf->ep;

	if (atomic_fetch_sub(&buf->out, 1) != 1)
		return;
	if (atomic_load(&ep->bufs_freed))
		atomic_store(&ep->bufs_litter, true);
	endpoint_poke(ep, buf);
}

void buf_forget_session(struct shmipc_session *s)
{
	struct shmipc_endpoint *ep = s->ep;

	lock(&ep->buf_lock);
	lock(&s->tx.lock);
	tx_release_bufs(s);
	unlock(&s->tx.lock);
	buf_free_slots(s->tx.bufs);
	s->tx.bufs = NULL;
	unlock(&ep->buf_lock);
	if (atomic_load(&ep->bufs_litter))
		buf_sweep(ep);
}

int shmipc_buf_new(struct shmipc_endpoint *ep, size_t len, struct shmipc_buf **out)
{
	struct shmipc_buf *buf;
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!len)
		return error_set(-EINVAL, "a buffer has a byte at least");
	buf = buf_new(ep);
	if (!buf)
		return -ENOMEM;
	err = ep->pv->ops->segment_create(ep->pv, len, false, &buf->segment);
	if (err) {
		free(buf);
		return err;
	}
	count(&ep->segments, 1);
	buf_list(buf);
	*out = buf;
	return 0;
}

void shmipc_buf_free(struct shmipc_buf *buf)
{
	struct shmipc_endpoint *ep;

	if (!buf || endpoint_foreign(buf->ep))
		return;
	ep = buf->ep;
	atomic_store(&buf->freed, true);
	atomic_fetch_add(&ep->bufs_freed, 1);
	buf_sweep(ep);
}

uint64_t shmipc_buf_id(const struct shmipc_buf *buf)
{
	return buf->segment.handle;
}

void *shmipc_buf_data(const struct shmipc_buf *buf)
{
	return buf->segment.addr;
}

size_t shmipc_buf_size(const struct shmipc_buf *buf)
{
	return buf->segment.len;
}

/* ---- a successor --------------------------------------------------------- */

struct shmipc_buf *buf_inherit(struct shmipc_endpoint *ep, const struct pv_segment *segment,
			       bool given)
{
	struct shmipc_buf *buf = buf_new(ep);

	if (!buf)
		return NULL;
	buf->segment = *segment;
	buf->given = given;
	buf_list(buf);
	return buf;
}

int buf_inherit_grant(struct shmipc_buf *buf, struct buf_slot **slots, uint32_t slot)
{
	struct buf_grant *grant = calloc(1, sizeof(*grant));

	if (!*slots)
		*slots = calloc(BUF_SLOTS, sizeof(**slots));
	if (!grant || !*slots) {
		free(grant);
		return -ENOMEM;
	}
	grant->buf = buf;
	grant->slot = slot;
	list_add_tail(&grant->node, &buf->grants);
	(*slots)[slot - BUF_SLOT_FIRST].grant = grant;
	return 0;
}

int buf_inherit_slots(struct shmipc_session *s, struct buf_slot *slots)
{
	const struct segment_header *header = s->tx.segments[0].addr;
	uint32_t used = load_relaxed(&header->buf_serial);

	/* A slot can be used again. */
	if (s->ep->pv->ops->segment_revoke)
		used = 0;
	s->tx.bufs = slots;
	if (used && !slots)
		s->tx.bufs = calloc(BUF_SLOTS, sizeof(*slots));
	if (used && !s->tx.bufs)
		return -ENOMEM;
	for (uint32_t i = 0; s->tx.bufs && i < BUF_SLOTS; i++) {
		struct buf_slot *slot = &s->tx.bufs[i];

		slot->used_up = i < used && !slot->grant;
		if (slot->grant)
			slot->grant->session = s;
	}
	return 0;
}

void buf_free_slots(struct buf_slot *slots)
{
	for (uint32_t i = 0; slots && i < BUF_SLOTS; i++) {
		if (!slots[i].grant)
			continue;
		list_del(&slots[i].grant->node);
		free(slots[i].grant);
	}
	free(slots);
}

/*
 * A slot without a grant can't be used again: the frame comes back some day, and until then its
 * reader keeps what it has mapped there.
 */
int buf_claim_out(struct shmipc_session *s, uint32_t slot, uint32_t serial,
		  struct buf_grant **grant)
{
	struct buf_slot *at;

	if (slot < BUF_SLOT_FIRST || slot >= SHMIPC_SLOTS_MAX || !serial)
		return -EBADMSG;
	if (!s->tx.bufs)
		s->tx.bufs = calloc(BUF_SLOTS, sizeof(*s->tx.bufs));
	if (!s->tx.bufs)
		return -ENOMEM;
	at = &s->tx.bufs[slot - BUF_SLOT_FIRST];
	*grant = at->grant;
	if (!at->grant) {
		at->used_up = true;
		return 0;
	}
	if (at->grant->serial && at->grant->serial != serial)
		return -EBADMSG;
	at->grant->serial = serial;
	atomic_fetch_add(&at->grant->buf->out, 1);
	return 0;
}

/* ---- sending ------------------------------------------------------------ */

/* buf_lock held. */
static int sendable(struct shmipc_buf *buf, bool give)
{
	int err = settle(buf);

	return !err && give && atomic_load(&buf->out) ? -EBUSY : err;
}

/* Between reservation and commit: what the peer needs before it sees the frame. buf_lock held. */
static int prepare(struct shmipc_buf *buf, struct shmipc_session *s, bool give,
		   struct buf_grant **grant)
{
	struct provider *pv = s->ep->pv;
	int err = sendable(buf, give);

	if (err)
		return err;
	*grant = find_grant(buf, s);
	if (!*grant)
		err = make_grant(buf, s, grant);
	else if (!(*grant)->serial)
		(*grant)->serial = next_serial(s, (*grant)->slot - BUF_SLOT_FIRST);
	if (!*grant || !give)
		return err;
	/* They have returned it, and must not read what is another's. */
	end_grants(buf, s);
	err = pv->ops->segment_give(pv, s->handle, (*grant)->slot);
	buf->given = !err;
	return err;
}

/* The stream ended in between. buf_lock held. */
static void unprepare(struct shmipc_buf *buf, struct buf_grant *grant, bool give)
{
	if (give) {
		end_grant(grant);
		settle(buf);
	}
}

static int publish(struct shmipc_stream *st, struct shmipc_buf *buf, size_t len,
		   unsigned int flags, bool give)
{
	struct shmipc_session *s = st->session;
	unsigned int frame = (flags & SHMIPC_MORE ? FRAME_F_MORE : 0) | (give ? FRAME_F_GIVEN : 0);
	struct buf_grant *grant = NULL;
	bool prepared;
	int err;

	lock(&s->ep->buf_lock);
	err = prepare(buf, s, give, &grant);
	prepared = !err;
	lock(&s->tx.lock);
	if (!err)
		err = stream_sendable(st);
	if (!err) {
		tx_commit(s, st, len, grant, frame);
		stream_bell_and_unlock(st, flags);
	} else {
		tx_unreserve(s, st);
		stream_bell_and_unlock(st, 0);
		if (prepared)
			unprepare(buf, grant, give);
	}
	unlock(&s->ep->buf_lock);
	return err;
}

static int send(struct shmipc_stream *st, struct shmipc_buf *buf, size_t len, unsigned int flags,
		int64_t timeout_ns, bool give)
{
	struct budget budget = budget_start(timeout_ns);
	struct shmipc_session *s = st->session;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	if (flags & ~(SHMIPC_MORE | SHMIPC_CORK) || !len || len > buf->segment.len)
		return -EINVAL;
	if (buf->ep != s->ep)
		return error_set(-EINVAL, "the buffer and the stream are of two endpoints");
	if (give && !s->ep->pv->ops->segment_give)
		return error_set(-EOPNOTSUPP, "the %s provider can't give a buffer away: load the "
				 "module, or send it", s->ep->pv->ops->name);
	/* Before it waits for what would not help. */
	lock(&s->ep->buf_lock);
	err = sendable(buf, give);
	unlock(&s->ep->buf_lock);
	if (!err)
		err = stream_reserve(st, len, true, &budget);
	if (err)
		return err;
	unlock(&s->tx.lock);
	return publish(st, buf, len, flags, give);
}

int shmipc_buf_send(struct shmipc_stream *st, struct shmipc_buf *buf, size_t len,
		    unsigned int flags, int64_t timeout_ns)
{
	return send(st, buf, len, flags, timeout_ns, false);
}

int shmipc_buf_give(struct shmipc_stream *st, struct shmipc_buf *buf, size_t len,
		    unsigned int flags, int64_t timeout_ns)
{
	return send(st, buf, len, flags, timeout_ns, true);
}

/* ---- waiting ------------------------------------------------------------ */

static bool all_returned(void *arg)
{
	struct shmipc_buf *buf = arg;

	return !atomic_load(&buf->out);
}

/* Takes returns in, and asks for a bell at the next one, wherever it is out. buf_lock held. */
static void watch(struct shmipc_buf *buf)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &buf->grants) {
		struct buf_grant *grant = container_of(pos, struct buf_grant, node);
		struct shmipc_session *s = grant->session;

		lock(&s->tx.lock);
		grant->waited = true;
		s->tx.buf_waiters++;
		/* A peer that lies is found out by who polls. */
		if (!tx_reap(s))
			tx_rearm(s);
		unlock(&s->tx.lock);
	}
}

static void unwatch(struct shmipc_buf *buf)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &buf->grants) {
		struct buf_grant *grant = container_of(pos, struct buf_grant, node);
		struct shmipc_session *s = grant->session;

		lock(&s->tx.lock);
		if (grant->waited)
			s->tx.buf_waiters--;
		grant->waited = false;
		unlock(&s->tx.lock);
	}
}

int shmipc_buf_wait(struct shmipc_buf *buf, int64_t timeout_ns)
{
	struct waiter w = { .key = buf, .ready = all_returned, .arg = buf };
	struct shmipc_endpoint *ep = buf->ep;
	int err = 0;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	lock(&ep->buf_lock);
	watch(buf);
	unlock(&ep->buf_lock);
	if (!all_returned(buf))
		err = endpoint_wait(ep, &w, timeout_ns);
	lock(&ep->buf_lock);
	unwatch(buf);
	if (!err)
		err = settle(buf);
	unlock(&ep->buf_lock);
	return err;
}

/* ---- ownership ---------------------------------------------------------- */

int shmipc_buf_freeze(struct shmipc_buf *buf)
{
	struct provider *pv = buf->ep->pv;
	int err;

	if (endpoint_foreign(buf->ep))
		return endpoint_refusal(buf->ep);
	if (!pv->ops->segment_freeze)
		return error_set(-EOPNOTSUPP, "the %s provider can't take the right to write: load "
				 "the module", pv->ops->name);
	lock(&buf->ep->buf_lock);
	err = settle(buf);
	if (!err)
		err = pv->ops->segment_freeze(pv, &buf->segment);
	unlock(&buf->ep->buf_lock);
	return err;
}

/* The message is the caller's and no other's: 0, and the node. No frame may name it from now on. rx.lock held. */
static int begin_take(struct shmipc_stream *st, const struct shmipc_message *message,
		      struct rx_node **node)
{
	struct rx *rx = &st->session->rx;
	struct rx_buf *buf;

	if (message->nspans != 1)
		return -EINVAL;
	*node = message->lease[0];
	if (!(*node)->leased || (*node)->stream != st || !(*node)->slot ||
	    !((*node)->flags & FRAME_F_GIVEN))
		return -EINVAL;
	buf = &rx->bufs[(*node)->slot - BUF_SLOT_FIRST];
	buf->taking = buf->nodes == 1;
	return buf->taking ? 0 : -EBUSY;
}

/* It is @taken, or not there any more: its mapping is the session's no longer. Else all is as it was. */
static void end_take(struct shmipc_stream *st, struct rx_node *node, struct shmipc_message *message,
		     bool taken)
{
	struct shmipc_session *s = st->session;
	bool ring = false;

	lock(&s->rx.lock);
	s->rx.bufs[node->slot - BUF_SLOT_FIRST].taking = false;
	if (taken) {
		s->rx.mappings[node->slot] = (struct pv_mapping){ 0 };
		node->flags &= ~FRAME_F_GIVEN;
		node->leased = false;
		message->nspans = 0;
		ring = rx_return(s, node);
	}
	unlock(&s->rx.lock);
	if (ring)
		session_ring(s, BELL_SPACE);
}

int shmipc_buf_take(struct shmipc_stream *st, struct shmipc_message *message,
		    struct shmipc_buf **out)
{
	struct shmipc_session *s = st->session;
	struct provider *pv = s->ep->pv;
	struct pv_mapping mapping;
	struct shmipc_buf *buf;
	struct rx_node *node;
	int err;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	if (!pv->ops->segment_take)
		return error_set(-EOPNOTSUPP, "the %s provider can't move ownership: load the module",
				 pv->ops->name);
	buf = buf_new(s->ep);
	if (!buf)
		return -ENOMEM;
	lock(&s->rx.lock);
	err = begin_take(st, message, &node);
	if (!err)
		mapping = s->rx.mappings[node->slot];
	unlock(&s->rx.lock);
	/* As long as the message is held nobody else touches its slot. */
	if (!err) {
		err = pv->ops->segment_take(pv, s->handle, node->slot, &mapping, &buf->segment);
		end_take(st, node, message, !err || err == -ESTALE);
	} else if (err == -EINVAL) {
		error_set(err, "only a message that was given, whole and not returned, can be taken");
	}
	if (err) {
		free(buf);
		return err;
	}
	buf_list(buf);
	*out = buf;
	return 0;
}
