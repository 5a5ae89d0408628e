// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rx.c - receiving: frames off the peer's ring into their streams' queues, and returns
 *
 * Nothing that the peer wrote is trusted. A frame's header is copied to a local once, checked,
 * and only then used; inline payload is copied before anyone looks at it. What no honest
 * library would write ends the session with -EBADMSG.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "barrier.h"
#include "log.h"
#include "session.h"
#include "table.h"

#define SLOT_TABLES	(SHMIPC_SLOTS_MAX * sizeof(struct pv_mapping) + BUF_SLOTS * sizeof(struct rx_buf))

int rx_init(struct shmipc_session *s)
{
	struct rx *rx = &s->rx;

	list_init(&rx->accept);
	list_init(&rx->closed);
	list_init(&rx->detached);
	rx->next = 1;
	rx->published = 1;
	/* One of the kernel's mappings for both: a process may not have endlessly many. */
	rx->mappings = table_alloc(1, SLOT_TABLES);
	if (!rx->mappings)
		return -ENOMEM;
	rx->bufs = (struct rx_buf *)(rx->mappings + SHMIPC_SLOTS_MAX);
	return 0;
}

/* @peer is checked. @mapping is the peer's first segment, and rx's to unmap from now on. */
int rx_connect(struct shmipc_session *s, const struct geometry *peer,
	       const struct pv_mapping *mapping)
{
	struct rx *rx = &s->rx;
	const char *segment = mapping->addr;
	struct geometry both;

	geometry_for(&both, s->nr_streams);
	rx->slots = both.slots;
	rx->nr_live = both.live;
	rx->nr_returns = both.returns;
	rx->arena_offset = peer->arena;
	rx->ring = (const void *)(segment + peer->ring);
	rx->peer_live_table = (const void *)(segment + peer->live_table);
	rx->peer = (const void *)(segment + peer->control);
	rx->nodes = table_alloc(rx->nr_live, sizeof(*rx->nodes));
	return rx->nodes ? 0 : -ENOMEM;
}

void rx_destroy(struct shmipc_session *s)
{
	struct rx *rx = &s->rx;

	for (uint32_t i = 0; rx->mappings && i < SHMIPC_SLOTS_MAX; i++)
		if (rx->mappings[i].addr)
			s->ep->pv->ops->segment_unmap(s->ep->pv, &rx->mappings[i]);
	table_free(rx->mappings, 1, SLOT_TABLES);
	table_free(rx->nodes, rx->nr_live, sizeof(*rx->nodes));
}

/* ---- one frame ---------------------------------------------------------- */

/* Not honest: ends the session, which then says what. Under the lock it is only noted. */
static int bad(struct shmipc_session *s, const struct frame *frame, const char *what)
{
	s->rx.wrong = what;
	memcpy(&s->rx.bad, frame, offsetof(struct frame, data));
	return -EBADMSG;
}

/* Which stream is it for? NULL without error: of an older generation, to be returned silently. */
static int find_stream(struct shmipc_session *s, const struct frame *frame,
		       struct shmipc_stream **found)
{
	struct shmipc_stream *st = s->streams[frame->stream];
	uint32_t newest = st ? st->generation : s->generations[frame->stream];
	int32_t newer = frame->generation - newest;

	*found = NULL;
	if (newer < 0 || (!newer && !st))
		return 0;
	if (!newer) {
		if (frame->flags & FRAME_F_OPEN)
			return bad(s, frame, "opened twice");
		*found = st;
		return 0;
	}
	if (!(frame->flags & FRAME_F_OPEN))
		return bad(s, frame, "stream was never opened");
	if ((frame->stream & 1) == s->role)
		return bad(s, frame, "opened a slot of this side");
	if (st) {
		/* Our own FIN's return may be there and not looked at. */
		if (!stream_over(st) && !stream_terminated(st))
			return bad(s, frame, "opened a slot in use");
		/* Over before anybody had it: nobody shall, or the peer could pile them up. */
		if (st->handle && !st->visible) {
			list_del(&st->accept);
			st->handle = false;
		}
		stream_detach(st);
		stream_put(st);
	}
	st = stream_new(s, frame->stream, frame->generation);
	if (!st)
		return -ENOMEM;
	list_add_tail(&st->accept, &s->rx.accept);
	endpoint_post(s->ep, &s->source, 0);
	endpoint_poke(s->ep, s);
	*found = st;
	return 0;
}

static struct rx_buf *rx_buf(struct rx *rx, uint32_t slot)
{
	return &rx->bufs[slot - BUF_SLOT_FIRST];
}

/* -EAGAIN: it has to be mapped first, perhaps instead of the one that had the slot before. */
static int find_buffer(struct shmipc_session *s, const struct frame *frame, struct rx_node *node)
{
	struct rx *rx = &s->rx;
	const struct pv_mapping *map;
	struct rx_buf *buf;

	if (frame->block.slot < BUF_SLOT_FIRST || frame->block.slot >= SHMIPC_SLOTS_MAX)
		return bad(s, frame, "no buffer has that segment slot");
	if (!frame->block.serial || frame->block.offset)
		return bad(s, frame, "a buffer without a serial, or a part of one");
	map = &rx->mappings[frame->block.slot];
	buf = rx_buf(rx, frame->block.slot);
	if (buf->taking)
		return bad(s, frame, "a buffer that was given");
	/* A predecessor's mapping: its frames tell what it is of, for none is out of another. */
	if (map->addr && !buf->serial)
		buf->serial = frame->block.serial;
	if (!map->addr || buf->serial != frame->block.serial) {
		if (buf->nodes)
			return bad(s, frame, "another buffer in the slot of one that is out");
		rx->want_slot = frame->block.slot;
		rx->want_serial = frame->block.serial;
		return -EAGAIN;
	}
	if (!frame->block.length || frame->block.length > map->len)
		return bad(s, frame, "payload outside of its segment");
	node->data = map->addr;
	node->length = frame->block.length;
	return 0;
}

/* Where the payload is. -EAGAIN: its segment has to be mapped first. */
static int find_payload(struct shmipc_session *s, const struct frame *frame,
			struct rx_node *node)
{
	struct rx *rx = &s->rx;
	const struct pv_mapping *map;
	uint64_t first;

	if (frame->kind == FRAME_BUFFER)
		return find_buffer(s, frame, node);
	if (frame->kind != FRAME_BLOCK) {
		node->data = node->copy;
		node->length = frame->kind == FRAME_INLINE ? frame->length : 0;
		return 0;
	}
	if (frame->block.slot >= BUF_SLOT_FIRST)
		return bad(s, frame, "segment slot out of range");
	map = &rx->mappings[frame->block.slot];
	if (!map->addr) {
		rx->want_slot = frame->block.slot;
		return -EAGAIN;
	}
	first = frame->block.slot ? 0 : rx->arena_offset;
	if (frame->block.offset % PAYLOAD_ALIGN)
		return bad(s, frame, "payload that is not aligned");
	if (!frame->block.length || frame->block.offset < first ||
	    frame->block.offset > map->len || frame->block.length > map->len - frame->block.offset)
		return bad(s, frame, "payload outside of its segment");
	node->data = (const uint8_t *)map->addr + frame->block.offset;
	node->length = frame->block.length;
	return 0;
}

static int check_frame(struct shmipc_session *s, const struct frame *frame)
{
	if (frame->kind < FRAME_INLINE || frame->kind > FRAME_BUFFER)
		return bad(s, frame, "unknown kind");
	if (frame->flags & ~(FRAME_F_OPEN | FRAME_F_MORE | FRAME_F_ABORT | FRAME_F_GIVEN) ||
	    (frame->flags & FRAME_F_GIVEN && frame->kind != FRAME_BUFFER))
		return bad(s, frame, "unknown flag");
	if (frame->type || frame->returns || (frame->kind == FRAME_BLOCK && frame->block.serial))
		return bad(s, frame, "reserved field in use");
	if (frame->stream >= s->nr_streams)
		return bad(s, frame, "stream slot out of range");
	if (frame->live >= s->rx.nr_live || s->rx.nodes[frame->live].stream)
		return bad(s, frame, "live entry out of range or in use");
	if (frame->kind == FRAME_INLINE ? !frame->length || frame->length > INLINE_MAX :
	    frame->length)
		return bad(s, frame, "bad length");
	return 0;
}

static void enqueue(struct shmipc_stream *st, struct rx_node *node)
{
	node->next = NULL;
	*st->tail = node;
	st->tail = &node->next;
	stream_post(st, 0);
	endpoint_poke(st->session->ep, st);
}

/*
 * Returns a frame that the application did not take. What a successor has to know of it is stored
 * before: how far the stream has come, and how it ended. One that shmipc_read() is copying out of right
 * now is returned by that: until then its memory has to stay.
 */
static bool drop_node(struct shmipc_session *s, struct shmipc_stream *st, struct rx_node *node,
		      uint32_t code)
{
	struct stream_record *record = &s->tx.records[st->slot];
	uint64_t end = node->position + node->length;

	/* One that is delivered again may lie behind. */
	if ((int64_t)(end - record->consumed) > 0)
		store_relaxed(&record->consumed, end);
	if (node->kind == FRAME_FIN || node->kind == FRAME_RESET)
		store_relaxed(&record->end, RECORD_END(node->kind, code));
	return !node->leased && rx_return(s, node);
}

/* Returns what is queued and was not taken. True: ring the peer. */
static bool drop_queue(struct shmipc_session *s, struct shmipc_stream *st)
{
	bool ring = false;

	while (st->head) {
		struct rx_node *node = st->head;

		st->head = node->next;
		ring |= drop_node(s, st, node, 0);
	}
	st->tail = &st->head;
	return ring;
}

/*
 * The message that ends at @position will have no end: its parts are not to be read. One of another
 * message, whose rest a predecessor returned, does not reach it.
 */
static __attribute__((cold, noinline)) void mark_cut(struct shmipc_stream *st, uint64_t position)
{
	struct rx_node *from = st->head;

	for (struct rx_node *node = st->head; node; node = node->next) {
		uint64_t next = node->next ? node->next->position : position;

		if (!(node->flags & FRAME_F_MORE) || node->position + node->length != next)
			from = node->next;
	}
	for (; from; from = from->next)
		from->flags |= NODE_CUT;
}

/* Only where the reader has come, for a successor could not tell what was dropped ahead of it. */
bool rx_pass_cut(struct shmipc_session *s, struct shmipc_stream *st, bool *told)
{
	bool part = st->mid, ring = false;
	struct rx_node *node;

	while ((node = st->head) && node->flags & NODE_CUT) {
		part |= node->taken || node->flags & (NODE_BEHIND | NODE_REDELIVERED) ||
			(st->resumed && node->position == st->resumed);
		st->head = node->next;
		ring |= drop_node(s, st, node, 0);
	}
	if (node) {
		part |= st->resumed && node->position == st->resumed;
		if (node->position == st->resumed)
			st->resumed = 0;
		/* What it brings itself, if it brings anything, is to be read. */
		node->flags &= ~FRAME_F_ABORT;
		if (node->kind == FRAME_OPEN) {
			st->head = node->next;
			ring |= drop_node(s, st, node, 0);
		}
	}
	if (!st->head)
		st->tail = &st->head;
	st->mid = false;
	*told = part;
	return ring;
}

bool rx_discard(struct shmipc_session *s, struct shmipc_stream *st)
{
	if (st->fin_received)
		st->fin_consumed = true;
	return drop_queue(s, st);
}

static bool deliver_reset(struct shmipc_session *s, struct shmipc_stream *st,
			  struct rx_node *node, uint32_t code)
{
	bool ring = drop_queue(s, st);

	ring |= drop_node(s, st, node, code);

	lock(&s->tx.lock);
	st->reset_received = true;
	stream_post_end(st);
	unlock(&s->tx.lock);
	st->reset_code = code;
	endpoint_poke(s->ep, st);
	return ring;
}

/* The application closed the stream and the peer still sends: tell it, once. True: ring it. */
static bool refuse_data(struct shmipc_session *s, struct shmipc_stream *st)
{
	bool ring = false;

	lock(&s->tx.lock);
	if (!st->reset_sent) {
		tx_control(s, st, FRAME_RESET);
		ring = tx_bell_due(s);
	}
	unlock(&s->tx.lock);
	return ring;
}

static int deliver(struct shmipc_session *s, struct shmipc_stream *st, const struct frame *frame,
		   struct rx_node *node, bool *ring)
{
	if (st->reset_received || (st->fin_received && frame->kind != FRAME_RESET))
		return bad(s, frame, "frame after the end of its stream");
	if (frame->position != st->rx_position)
		return bad(s, frame, "wrong stream position");
	st->rx_position += node->length;
	node->stream = st;
	st->held++;
	if (frame->flags & FRAME_F_ABORT)
		mark_cut(st, frame->position);
	if (frame->kind == FRAME_OPEN && !(frame->flags & FRAME_F_ABORT)) {
		*ring |= rx_return(s, node);
	} else if (frame->kind == FRAME_RESET) {
		*ring |= deliver_reset(s, st, node, frame->code);
	} else if (!st->handle || st->reset_sent) {
		st->fin_received = st->fin_consumed = frame->kind == FRAME_FIN;
		*ring |= drop_node(s, st, node, 0);
		if (node->length)
			*ring |= refuse_data(s, st);
	} else {
		st->fin_received = frame->kind == FRAME_FIN;
		enqueue(st, node);
	}
	return 0;
}

/* Takes one frame that is published. 0, -EAGAIN (map want_slot first) or another -errno. */
static int take_frame(struct shmipc_session *s, const struct frame *shared, bool *ring)
{
	struct rx *rx = &s->rx;
	struct shmipc_stream *st;
	struct rx_node *node;
	struct frame frame;
	int err;

	/* The one copy. The second cache line is read only when it is used. */
	memcpy(&frame, shared, offsetof(struct frame, data) + sizeof(frame.block));
	frame.seq = rx->next;
	err = check_frame(s, &frame);
	if (err)
		return err;
	node = &rx->nodes[frame.live];
	err = find_payload(s, &frame, node);
	if (err)
		return err;
	if (frame.kind == FRAME_INLINE)
		copy_inline(node->copy, shared->data, frame.length);
	err = find_stream(s, &frame, &st);
	if (err)
		return err;
	node->seq = frame.seq;
	node->live = frame.live;
	node->kind = frame.kind;
	node->flags = frame.flags;
	node->position = frame.position;
	node->taken = 0;
	node->leased = false;
	node->slot = 0;
	if (frame.kind == FRAME_BUFFER) {
		node->slot = frame.block.slot;
		rx_buf(rx, node->slot)->nodes++;
	}
	if (!st) {
		*ring |= rx_return(s, node);
		return 0;
	}
	if (frame.kind == FRAME_INLINE || frame.kind == FRAME_BLOCK || frame.kind == FRAME_BUFFER) {
		rx->messages++;
		rx->bytes += node->length;
	}
	return deliver(s, st, &frame, node, ring);
}

/* Is the next frame there? A slot holds its last lap's seq, or 0, until then: all else is a lie. */
static inline int frame_ready(const struct rx *rx)
{
	const struct frame *shared = &rx->ring[rx->next & (rx->slots - 1)];
	uint64_t seq = load_acquire(&shared->seq);	/* pairs with frame_publish() */

	if (seq == rx->next) {
		/* Its second line comes from another CPU, too: asked for now, it is here when it is copied. */
		if (load_relaxed(&shared->length) > FRAME_FIRST)
			__builtin_prefetch((const char *)shared + CACHE_LINE);
		return 1;
	}
	if (seq == (rx->next > rx->slots ? rx->next - rx->slots : 0))
		return 0;
	return -EBADMSG;
}

static int drain_locked(struct shmipc_session *s, unsigned int budget, bool *ring)
{
	struct rx *rx = &s->rx;
	unsigned int n = 0;
	int err = 0;

	while (n < budget) {
		err = frame_ready(rx);
		if (err <= 0)
			break;
		err = take_frame(s, &rx->ring[rx->next & (rx->slots - 1)], ring);
		if (err)
			break;
		rx->next++;
		n++;
	}
	/* The sender can do with three quarters of a ring; the rest is told before we sleep. */
	if ((uint32_t)rx->next - rx->published >= rx->slots / 4)
		*ring |= rx_publish_cursor(s);
	return n ? (int)n : err;
}

/*
 * True: another thread mapped it since, or even another buffer, which is in use: the frame that wanted this
 * one is gone, or is looked at again. Else the slot is empty; @old is what was in it: a buffer that is
 * not used any more.
 */
static bool is_mapped(struct shmipc_session *s, uint32_t slot, uint32_t serial,
		      struct pv_mapping *old)
{
	struct rx *rx = &s->rx;
	bool mapped;

	lock(&rx->lock);
	*old = rx->mappings[slot];
	mapped = old->addr && (slot < BUF_SLOT_FIRST || rx_buf(rx, slot)->serial == serial ||
			       rx_buf(rx, slot)->nodes);
	if (!mapped)
		rx->mappings[slot] = (struct pv_mapping){ 0 };
	unlock(&rx->lock);
	return mapped;
}

/* A segment that the peer added since. map_lock held: a provider may hand out a grant only once. */
static int map_wanted(struct shmipc_session *s, uint32_t slot, uint32_t serial)
{
	struct provider *pv = s->ep->pv;
	struct pv_mapping map;
	int err;

	if (is_mapped(s, slot, serial, &map))
		return 0;
	if (map.addr)
		pv->ops->segment_unmap(pv, &map);
	err = pv->ops->segment_map(pv, s->handle, slot, &map);
	if (err) {
		log_warn("session with pid %u: segment %u can't be mapped: %s", session_pid(s),
			 slot, strerror(-err));
		return err == -ENOMEM ? err : -EBADMSG;
	}
	lock(&s->rx.lock);
	s->rx.mappings[slot] = map;
	if (slot >= BUF_SLOT_FIRST)
		rx_buf(&s->rx, slot)->serial = serial;
	unlock(&s->rx.lock);
	return 0;
}

bool rx_pending(const struct shmipc_session *s)
{
	return frame_ready(&s->rx) != 0;
}

int rx_drain(struct shmipc_session *s, unsigned int budget)
{
	struct rx *rx = &s->rx;
	uint32_t want, serial;
	bool ring = false;
	int n;

	do {
		lock(&rx->lock);
		n = drain_locked(s, budget, &ring);
		want = rx->want_slot;
		serial = rx->want_serial;
		rx->want_slot = 0;
		unlock(&rx->lock);
		if (n == -EAGAIN) {
			lock(&rx->map_lock);
			n = map_wanted(s, want, serial);
			unlock(&rx->map_lock);
			if (!n)
				n = -EAGAIN;
		}
	} while (n == -EAGAIN);
	if (ring)
		session_ring(s, BELL_SPACE);
	return n;
}

/* ---- what the peer is told ---------------------------------------------- */

/* Is a return that the peer armed for still to come? An event of the past is not awaited. */
static bool returns_awaited(const struct rx *rx)
{
	return (uint32_t)(load_relaxed(&rx->peer->tx_event) - rx->returned) < rx->nr_live;
}

/* What was given and not taken is the giver's again before it is told so. */
static void drop_buffer(struct shmipc_session *s, struct rx_node *node)
{
	struct provider *pv = s->ep->pv;

	if (node->flags & FRAME_F_GIVEN && pv->ops->segment_refuse)
		pv->ops->segment_refuse(pv, s->handle, node->slot);
	rx_buf(&s->rx, node->slot)->nodes--;
	node->slot = 0;
}

/*
 * One store returns a frame. Release: our reads of the payload are before it; pairs with
 * next_return(). Then the look at the peer's event: it armed (store, fence, look), we
 * returned (store, fence, look).
 */
bool rx_return(struct shmipc_session *s, struct rx_node *node)
{
	struct rx *rx = &s->rx;
	uint32_t index = rx->returned & (rx->nr_returns - 1);
	uint16_t lap = return_lap(rx->returned, rx->nr_returns);
	uint32_t before = rx->returned++;
	struct shmipc_stream *st = node->stream;
	bool awaited;

	if (node->slot)
		drop_buffer(s, node);
	if (!index)
		store_relaxed(&rx->control->return_lap, ++rx->return_lap);
	store_release(&rx->returns[index], RETURN_WORD(lap, node->live, node->seq));
	if (st) {
		if (node->kind == FRAME_FIN)
			st->fin_consumed = true;
		st->held--;
		node->stream = NULL;
	}
	full_fence();
	awaited = returns_awaited(rx);
	/* The peer hopes for more at once. With nothing left to read there may be no more. */
	if (event_due(load_relaxed(&rx->peer->tx_event), before, rx->returned) ||
	    (awaited && (!st || !st->head))) {
		rx->unrung = false;
		return true;
	}
	if (awaited && !rx->unrung) {
		rx->unrung = true;
		session_cork(s);
	}
	return false;
}

bool rx_bell_due(struct shmipc_session *s)
{
	bool due = s->rx.unrung && returns_awaited(&s->rx);

	s->rx.unrung = false;
	return due;
}

/* Returns the cursor before. */
static uint32_t store_cursor(struct rx *rx)
{
	uint32_t before = rx->published;

	rx->published = rx->next;
	store_release(&rx->control->rx_cursor, rx->published);	/* pairs with cursor_take() */
	return before;
}

static bool cursor_bell_due(const struct rx *rx, uint32_t before)
{
	return event_due(load_relaxed(&rx->peer->slot_event), before, rx->published);
}

bool rx_publish_cursor(struct shmipc_session *s)
{
	uint32_t before = store_cursor(&s->rx);

	full_fence();	/* pairs with those of tx_arm() and session_arm() */
	return cursor_bell_due(&s->rx, before);
}

uint32_t rx_ask(struct shmipc_session *s)
{
	struct rx *rx = &s->rx;

	store_relaxed(&rx->control->rx_event, (uint32_t)rx->next);
	return rx->published == (uint32_t)rx->next ? rx->published : store_cursor(rx);
}

bool rx_look(struct shmipc_session *s, uint32_t before, uint32_t *bits)
{
	if (rx_bell_due(s) || cursor_bell_due(&s->rx, before))
		*bits |= BELL_SPACE;
	return frame_ready(&s->rx) != 0;
}
