// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * tx.c - sending: the frame ring, the live table, windows, and returns coming in
 *
 * A send is reserve (admission, a live entry, a promise of a ring slot, memory) and commit (fill
 * the slot, store its seq). All that can fail or wait is in reserve.
 *
 * Admission keeps streams apart. Each stream owns one live entry for data and one for control;
 * the other entries, and the bytes, are a pool from which a stream may hold less than
 * what is free. However many streams stall, another can send.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "barrier.h"
#include "error.h"
#include "session.h"
#include "table.h"

/* On the way of each message, and long enough that the compiler would call them: 2 of 88 ns. */
#define HOT	static inline __attribute__((always_inline))

int tx_init(struct shmipc_session *s, const struct shmipc_options *options)
{
	struct tx *tx = &s->tx;

	list_init(&tx->blocked);
	list_init(&tx->owing);
	arena_init(&tx->arena);
	tx->next = tx->flushed = 1;
	tx->cursor = 1;
	tx->window = options->window;
	tx->max_memory = options->max_memory;
	tx->sealed = options->flags & SHMIPC_SEALED;
	return 0;
}

/* @peer is checked; counts are those that both sides agreed on, offsets the peer's. */
int tx_connect(struct shmipc_session *s, const struct geometry *peer, const void *segment)
{
	struct tx *tx = &s->tx;
	struct geometry both;

	geometry_for(&both, s->nr_streams);
	tx->slots = both.slots;
	tx->nr_live = both.live;
	tx->peer_nr_returns = both.returns;
	tx->peer = (const void *)((const char *)segment + peer->control);
	tx->peer_returns = (const void *)((const char *)segment + peer->return_ring);
	tx->live = table_alloc(tx->nr_live, sizeof(*tx->live));
	tx->free_ids = calloc(tx->nr_live, sizeof(*tx->free_ids));
	tx->slot_ids = calloc(tx->slots, sizeof(*tx->slot_ids));
	if (!tx->live || !tx->free_ids || !tx->slot_ids)
		return -ENOMEM;
	for (uint32_t i = 0; i < tx->nr_live; i++)
		tx->free_ids[i] = tx->nr_live - 1 - i;
	tx->nr_free = tx->nr_live;
	return 0;
}

void tx_destroy(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;

	table_free(tx->live, tx->nr_live, sizeof(*tx->live));
	free(tx->free_ids);
	free(tx->slot_ids);
	arena_destroy(&tx->arena);
}

/* ---- admission ---------------------------------------------------------- */

/*
 * Only forward, and not beyond what was sent: else the peer lies (false). Acquire pairs with
 * rx_publish_cursor().
 */
static bool cursor_take(struct tx *tx)
{
	uint32_t cursor = load_acquire(&tx->peer->rx_cursor);

	if ((uint32_t)(cursor - tx->cursor) > (uint32_t)tx->next - tx->cursor)
		return false;
	tx->cursor = cursor;
	return true;
}

/* Ring slots that nothing has been promised. A lie makes no room; tx_reap() tells of it. */
static uint32_t ring_room(struct shmipc_session *s, uint32_t enough)
{
	struct tx *tx = &s->tx;
	uint32_t used = (uint32_t)tx->next - tx->cursor + tx->reserved;

	if (tx->slots - used < enough) {
		cursor_take(tx);
		used = (uint32_t)tx->next - tx->cursor + tx->reserved;
	}
	return tx->slots - used;
}

/* Data leaves an eighth of the ring to FIN and RESET. */
static bool ring_admits(struct shmipc_session *s)
{
	uint32_t enough = s->tx.slots / 8 + 1;

	return ring_room(s, enough) >= enough;
}

/* A buffer's memory is the program's own, and none of the pool; but its stream's window counts. */
HOT bool window_admits(struct shmipc_session *s, const struct shmipc_stream *st, uint64_t share,
		       bool outside)
{
	struct tx *tx = &s->tx;
	uint64_t pool = tx->slots - tx->shared_entries;	/* live entries are 2 x streams + slots */
	uint64_t memory = outside ? UINT64_MAX :
			  tx->max_memory > tx->bytes ? tx->max_memory - tx->bytes : 0;
	uint64_t limit = tx->window < memory ? tx->window : memory;

	/*
	 * A stream with nothing out may always send a window's worth, so that a message too large
	 * for what is left can't deadlock; more than that only while there is memory left.
	 */
	if (!st->out_data)
		return share <= tx->window || memory;
	return st->out_data - 1 < pool && st->out_bytes + share <= limit;
}

HOT bool admits(struct shmipc_session *s, const struct shmipc_stream *st, uint64_t share,
		bool outside)
{
	return s->tx.nr_free && window_admits(s, st, share, outside) && ring_admits(s);
}

/*
 * Is a send of @len refused for what other streams, or a peer that does not drain, took? What the
 * stream itself took of its window and of the shared bytes and entries is no stall.
 */
bool tx_stalled(struct shmipc_session *s, const struct shmipc_stream *st, uint64_t len,
		bool outside)
{
	return window_admits(s, st, tx_share(len), outside) &&
	       !(s->tx.nr_free && ring_admits(s));
}

static uint16_t live_new(struct shmipc_session *s, struct shmipc_stream *st)
{
	struct tx *tx = &s->tx;
	uint16_t id = tx->free_ids[--tx->nr_free];

	tx->live[id] = (struct live){ .stream = st };
	return id;
}

static uint16_t live_take_control(struct shmipc_session *s, struct shmipc_stream *st)
{
	uint16_t id = live_new(s, st);

	st->out_control++;
	s->tx.live[id].control = true;
	return id;
}

static uint16_t live_take(struct shmipc_session *s, struct shmipc_stream *st, uint64_t share,
			  bool outside)
{
	uint16_t id = live_new(s, st);

	s->tx.live[id].share = share;
	s->tx.live[id].outside = outside;
	if (st->out_data++)
		s->tx.shared_entries++;
	st->out_bytes += share;
	if (!outside)
		s->tx.bytes += share;
	return id;
}

HOT void live_drop(struct shmipc_session *s, uint16_t id)
{
	struct tx *tx = &s->tx;
	struct live *live = &tx->live[id];
	struct shmipc_stream *st = live->stream;

	if (live->has_block)
		arena_free(&tx->arena, live->block);
	if (live->grant)
		buf_returned(live->grant->buf);
	if (live->parked) {
		store_relaxed(&tx->live_table[id].seq, 0);
		/* Before the entry is written anew: no half of that may stand under an old seq. */
		program_order();
	}
	if (live->control) {
		st->out_control--;
	} else {
		if (--st->out_data)
			tx->shared_entries--;
		st->out_bytes -= live->share;
		if (!live->outside)
			tx->bytes -= live->share;
	}
	live->stream = NULL;
	tx->free_ids[tx->nr_free++] = id;
}

/*
 * Returns 0; -EAGAIN the window or the ring is full; -ENOBUFS no memory of that size: call
 * tx_grow(), then again.
 */
int tx_reserve(struct shmipc_session *s, struct shmipc_stream *st, uint64_t len, bool outside)
{
	struct tx *tx = &s->tx;
	uint64_t share = tx_share(len);
	bool in_arena = len > INLINE_MAX && !outside;
	struct arena_block block;
	int err;

	/* Payload blocks are taken back first, so that the one in the cache is used again. */
	if (in_arena || !admits(s, st, share, outside)) {
		err = tx_reap(s);
		if (err)
			return err;
		if (!admits(s, st, share, outside))
			return -EAGAIN;
	}
	if (in_arena && !arena_alloc(&tx->arena, len, &block))
		return -ENOBUFS;
	st->reserve.live = live_take(s, st, share, outside);
	st->reserve.len = len;
	st->reservation = true;
	tx->reserved++;
	if (in_arena) {
		tx->live[st->reserve.live].block = block;
		tx->live[st->reserve.live].has_block = true;
	}
	return 0;
}

void tx_unreserve(struct shmipc_session *s, struct shmipc_stream *st)
{
	live_drop(s, st->reserve.live);
	s->tx.reserved--;
	st->reservation = false;
	tx_unblock(s);
}

void *tx_reserved_data(struct shmipc_session *s, struct shmipc_stream *st)
{
	const struct live *live = &s->tx.live[st->reserve.live];

	return live->has_block ? arena_address(&s->tx.arena, live->block) : st->reserve.staging;
}

/* ---- publishing --------------------------------------------------------- */

/* Is the frame of a lap ago not returned? Its live entry may be another frame's by now. */
static bool slot_occupied(const struct tx *tx, uint32_t index)
{
	const struct live *live = &tx->live[tx->slot_ids[index]];

	return tx->next > tx->slots && live->stream && live->seq == tx->next - tx->slots;
}

/*
 * The slot is about to be used again. If its last frame was not returned, keep the frame in the
 * live table: entry first, then its seq, then the slot, so that a successor of this process
 * finds it in one of the two, whenever this process died; and so does a successor of the peer,
 * which reads them while this one lives.
 */
static void park(struct shmipc_session *s, uint32_t index)
{
	struct tx *tx = &s->tx;
	uint16_t id = tx->slot_ids[index];
	struct live *live = &tx->live[id];
	const struct frame *from = &tx->ring[index];
	struct frame *to = &tx->live_table[id];

	/* By a predecessor, which then died in the midst of the slot's next frame. */
	if (!slot_occupied(tx, index) || live->parked)
		return;
	memcpy((char *)to + sizeof(to->seq), (const char *)from + sizeof(from->seq),
	       sizeof(*to) - sizeof(to->seq));
	store_release(&to->seq, live->seq);
	store_fence();
	live->parked = true;
	tx->parked++;
}

/* The slot for the next frame, all of it but what depends on the kind filled in. */
HOT struct frame *frame_begin(struct shmipc_session *s, struct shmipc_stream *st, uint16_t id)
{
	struct tx *tx = &s->tx;
	uint32_t index = tx->next & (tx->slots - 1);
	struct frame *frame = &tx->ring[index];

	if (slot_occupied(tx, index)) {
		/* Many returns may wait unread: then there is nothing to park. */
		tx_reap(s);
		park(s, index);
	}
	tx->slot_ids[index] = id;
	tx->live[id].seq = tx->next;
	frame->stream = st->slot;
	frame->live = id;
	frame->generation = st->generation;
	frame->position = st->tx_position;
	frame->flags = st->first;
	frame->length = 0;
	frame->type = 0;
	frame->returns = 0;
	return frame;
}

/*
 * Release: the frame, its payload and the record's state before it; pairs with rx_drain(). The slots
 * ahead are still in the cache of the peer, who read them a lap ago. Fetched now, the one after the next
 * is here when it is written; else the fence of each bell would wait for it. The next one was fetched a
 * frame ago, and to fetch it again would take it from a peer that looks whether it is there.
 */
HOT void frame_publish(struct shmipc_session *s, struct shmipc_stream *st, struct frame *frame)
{
	struct tx *tx = &s->tx;
	const struct frame *ahead;

	store_release(&frame->seq, tx->next++);
	ahead = &tx->ring[(tx->next + 1) & (tx->slots - 1)];
	prefetch_write(ahead);
	prefetch_write((const char *)ahead + CACHE_LINE);
	atomic_store_explicit(&s->ep->asked, true, memory_order_relaxed);
	st->opened = true;
	st->first = 0;
}

/* Where the payload is. */
static void frame_payload(struct shmipc_session *s, struct shmipc_stream *st, struct frame *frame,
			  const struct live *live, uint64_t len)
{
	const struct arena *arena = &s->tx.arena;

	if (live->grant) {
		frame->kind = FRAME_BUFFER;
		frame->block.slot = live->grant->slot;
		frame->block.serial = live->grant->serial;
		frame->block.offset = 0;
		frame->block.length = len;
	} else if (live->has_block) {
		frame->kind = FRAME_BLOCK;
		frame->block.slot = arena_slot(arena, live->block);
		frame->block.serial = 0;
		frame->block.offset = arena_offset(arena, live->block);
		frame->block.length = len;
	} else {
		frame->kind = FRAME_INLINE;
		frame->length = len;
		copy_inline(frame->data, st->reserve.staging, len);
	}
}

void tx_commit(struct shmipc_session *s, struct shmipc_stream *st, uint64_t len,
	       struct buf_grant *grant, unsigned int flags)
{
	struct tx *tx = &s->tx;
	struct live *live = &tx->live[st->reserve.live];
	struct stream_record *record = &tx->records[st->slot];
	struct frame *frame = frame_begin(s, st, st->reserve.live);
	uint64_t less = live->share - tx_share(len);
	bool more = flags & FRAME_F_MORE;

	live->share -= less;
	st->out_bytes -= less;
	if (!live->outside)
		tx->bytes -= less;
	live->grant = grant;
	if (grant)
		atomic_fetch_add(&grant->buf->out, 1);
	frame_payload(s, st, frame, live, len);
	frame->flags |= flags;
	if (more && record->unfinished != RECORD_PART)
		store_relaxed(&record->unfinished, RECORD_PART);
	st->tx_position += len;
	tx->reserved--;
	st->reservation = false;
	frame_publish(s, st, frame);
	store_release(&record->sent, st->tx_position);
	if (!more && record->unfinished)
		store_release(&record->unfinished, RECORD_WHOLE);
	/* Others wait for the ring: what they armed was reckoned without this frame. */
	if (!list_empty(&tx->blocked))
		tx_rearm(s);
	tx->messages++;
	tx->payload += len;
}

/* What a successor has to know before the frame @seq tells the peer, or if it never does. */
void tx_announce(struct shmipc_session *s, struct shmipc_stream *st, unsigned int kind,
		 uint64_t seq)
{
	struct stream_record *record = &s->tx.records[st->slot];
	unsigned int state = kind == FRAME_RESET ? RECORD_RESET :
			     kind == FRAME_FIN ? RECORD_FINISHED : RECORD_OPEN;

	if (kind == FRAME_RESET) {
		store_relaxed(&record->code, st->send_reset_code);
		program_order();
	}
	store_relaxed(&record->change, RECORD_CHANGE(state, seq));
	program_order();
}

/*
 * Sends FRAME_FIN, FRAME_RESET or FRAME_OPEN. False: the ring is full even for those; it is owed, and
 * tx_unblock() sends it later.
 */
bool tx_control(struct shmipc_session *s, struct shmipc_stream *st, unsigned int kind)
{
	struct tx *tx = &s->tx;
	struct frame *frame;

	if (kind == FRAME_FIN)
		st->fin_sent = true;
	else if (kind == FRAME_RESET && !st->reset_sent)
		st->reset_sent = true;	/* never here when it was owed: then rx.lock is not held */
	if (!ring_room(s, 1) || !tx->nr_free) {
		tx_announce(s, st, kind, RECORD_OWED);
		if (list_empty(&st->owing))
			list_add_tail(&st->owing, &tx->owing);
		return false;
	}
	list_del(&st->owing);
	tx_announce(s, st, kind, tx->next);
	frame = frame_begin(s, st, live_take_control(s, st));
	frame->kind = kind;
	if (kind == FRAME_RESET)
		frame->code = st->send_reset_code;
	frame_publish(s, st, frame);
	return true;
}

/* After the fence. */
static bool data_bell_due(struct tx *tx)
{
	uint32_t before = tx->flushed;

	tx->flushed = tx->next;
	return event_due(load_relaxed(&tx->peer->rx_event), before, tx->next);
}

/*
 * Must the peer be rung for what was published since the last call? Its rx_event is written
 * before it sleeps: store event, fence, look at the ring. Here: store seq, fence, look at the event.
 * One of the two sees the other.
 */
bool tx_bell_due(struct shmipc_session *s)
{
	if (s->tx.flushed == s->tx.next)
		return false;
	full_fence();
	return data_bell_due(&s->tx);
}

/* ---- returns ------------------------------------------------------------ */

/* Acquire pairs with rx_return(): the peer's reads of the payload come before our next write. */
static bool next_return(const struct tx *tx, uint64_t *word)
{
	uint32_t index = tx->reaped & (tx->peer_nr_returns - 1);

	*word = load_acquire(&tx->peer_returns[index]);
	/* Empty is lap 0, and the first is 1: no need to ask for a word that is not 0, which a
	 * return of lap 65536 may well be. */
	return RETURN_LAP(*word) == return_lap(tx->reaped, tx->peer_nr_returns);
}

static bool anybody_waits(const struct tx *tx)
{
	return !list_empty(&tx->blocked) || !list_empty(&tx->owing) || tx->buf_waiters;
}

bool tx_waited_for(const struct shmipc_session *s)
{
	return anybody_waits(&s->tx);
}

void tx_release_bufs(struct shmipc_session *s)
{
	for (uint32_t i = 0; s->tx.live && i < s->tx.nr_live; i++) {
		struct live *live = &s->tx.live[i];

		/* Not written for nothing: after a fork each page of it would be copied. */
		if (!live->grant)
			continue;
		if (live->stream)
			buf_returned(live->grant->buf);
		live->grant = NULL;
	}
}

/*
 * Takes back what the peer returned. -EBADMSG: it returned what was not out, or its cursor is a lie,
 * which would be news to whoever arms, for ever.
 */
int tx_reap(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	uint64_t word;

	if (anybody_waits(tx) && !cursor_take(tx)) {
		tx->bad_cursor = true;
		return -EBADMSG;
	}
	while (next_return(tx, &word)) {
		uint16_t id = RETURN_LIVE(word);

		if (id >= tx->nr_live || !tx->live[id].stream || !tx->live[id].seq ||
		    (uint32_t)tx->live[id].seq != RETURN_SEQ(word)) {
			tx->bad_return = word;
			return -EBADMSG;
		}
		live_drop(s, id);
		tx->reaped++;
	}
	return 0;
}

/* Of @n that are to come back: how many before a sender is woken. At least one. */
static uint32_t enough(uint32_t n, bool one_cpu)
{
	n = one_cpu ? n - n / 4 : n / 4;
	return n ? n : 1;
}

/*
 * Asks the peer to ring a blocked sender: after a quarter of the returns that the stream can
 * still get, or a quarter of the ring, so that both work at the same time; where they share a CPU and
 * can't, after three quarters. Earlier if no more may come (rx_return(), rx_bell_due()).
 * True: somebody could go on.
 */
bool tx_ask(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	struct list *pos, *n;
	bool one_cpu = load_relaxed(&tx->peer->cpu) == load_relaxed(&tx->control->cpu), found;
	uint32_t returns = tx->nr_live, passed;

	if (!anybody_waits(tx))
		return false;
	/* A cursor that was passed long ago is no news, and would keep us from sleeping. */
	cursor_take(tx);
	passed = (uint32_t)tx->next - tx->cursor;
	found = !list_empty(&tx->owing) && tx->nr_free && ring_room(s, 1);
	list_for_each_safe(pos, n, &tx->blocked) {
		struct shmipc_stream *st = container_of(pos, struct shmipc_stream, blocked);

		if (enough(st->out_data, one_cpu) < returns)
			returns = enough(st->out_data, one_cpu);
		/* Another stream's send may have taken the returns that it waited for. */
		found |= admits(s, st, tx_share(st->need), st->need_outside);
	}
	if (tx->buf_waiters)
		returns = 1;
	if (passed > enough(tx->slots, one_cpu))
		passed = enough(tx->slots, one_cpu);
	store_relaxed(&tx->control->tx_event, tx->reaped + returns - 1);
	store_relaxed(&tx->control->slot_event, tx->cursor + (passed ? passed : 1) - 1);
	return found;
}

/* After the fence. */
static bool answered(const struct tx *tx)
{
	uint64_t word;

	return anybody_waits(tx) &&
	       (next_return(tx, &word) || load_relaxed(&tx->peer->rx_cursor) != tx->cursor);
}

bool tx_look(struct shmipc_session *s, uint32_t *bits)
{
	if (data_bell_due(&s->tx))
		*bits |= BELL_DATA;
	return answered(&s->tx);
}

bool tx_arm(struct shmipc_session *s)
{
	bool found = tx_ask(s);

	full_fence();	/* pairs with that of rx_return() and rx_publish_cursor() */
	return found || answered(&s->tx);
}

uint32_t tx_progress(struct shmipc_session *s)
{
	ring_room(s, s->tx.slots + 1);	/* takes the peer's cursor, as far as it is believed */
	return s->tx.cursor + s->tx.reaped;
}

/* Lets blocked sends and owed control frames go on. Returns how many could. */
unsigned int tx_unblock(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	struct list *pos, *n;
	unsigned int done = 0;

	list_for_each_safe(pos, n, &tx->owing) {
		struct shmipc_stream *st = container_of(pos, struct shmipc_stream, owing);

		list_del(&st->owing);
		if (!tx_control(s, st, st->reset_sent ? FRAME_RESET :
				st->fin_sent ? FRAME_FIN : FRAME_OPEN))
			break;
		done++;
	}
	list_for_each_safe(pos, n, &tx->blocked) {
		struct shmipc_stream *st = container_of(pos, struct shmipc_stream, blocked);

		if (!admits(s, st, tx_share(st->need), st->need_outside))
			continue;
		list_del(&st->blocked);
		endpoint_post(s->ep, &st->source, SHMIPC_EV_WRITE);
		endpoint_poke(s->ep, st);
		done++;
	}
	return done;
}

/*
 * Arms for those that wait. What came meanwhile is taken in, and armed for anew: the event may
 * be behind it, and then nobody would ring.
 */
int tx_rearm(struct shmipc_session *s)
{
	int err = 0;

	while (!err && tx_arm(s)) {
		err = tx_reap(s);
		tx_unblock(s);
	}
	return err;
}

/* ---- memory ------------------------------------------------------------- */

#define GROW_MIN	(256 << 10)

/* grow_lock held. The slot is used up when the peer was granted it. */
static int add_segment(struct shmipc_session *s, uint64_t len)
{
	struct tx *tx = &s->tx;
	struct provider *pv = s->ep->pv;
	struct pv_segment segment;
	uint64_t size = arena_size(len), have;
	uint32_t slot;
	int err;

	lock(&tx->lock);
	have = tx->arena.bytes;
	slot = tx->nr_segments;
	unlock(&tx->lock);
	if (slot == ARENA_EXTENTS)
		return error_set(-ENOSPC, "a session can't have more than %u segments: raise the "
				 "size of what is sent, or lower max_memory", ARENA_EXTENTS);
	if (size < GROW_MIN)
		size = GROW_MIN;
	if (size < have && have * 2 <= tx->max_memory)
		size = arena_size(have);

	err = pv->ops->segment_create(pv, size, tx->sealed, &segment);
	if (err)
		return err;
	err = pv->ops->segment_grant(pv, s->handle, &segment, slot);
	lock(&tx->lock);
	if (!err) {
		tx->nr_segments++;
		err = arena_add(&tx->arena, slot, segment.addr, 0, size);
	}
	if (!err)
		tx->segments[slot] = segment;
	unlock(&tx->lock);
	if (err)
		pv->ops->segment_destroy(pv, &segment);
	else
		count(&s->ep->segments, 1);
	return err;
}

/*
 * What may be sent is bounded by admission: max_memory, one message beyond it, and a window for
 * each stream. Segments follow what was admitted, and hold up to twice that, as blocks are rounded
 * up to powers of two.
 */
int tx_grow(struct shmipc_session *s, uint64_t len)
{
	int err;

	lock(&s->tx.grow_lock);
	err = add_segment(s, len);
	unlock(&s->tx.grow_lock);
	return err;
}
