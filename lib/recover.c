// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* recover.c - a session made anew from its segments: streams, and what was half done */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "barrier.h"
#include "log.h"
#include "recover.h"
#include "table.h"

/* ---- streams, as their records say --------------------------------------- */

/* Asked for, and no frame has told the peer: @next is the first number that none has. */
static bool is_owed(uint64_t change, uint64_t next)
{
	return RECORD_STATE(change) != RECORD_FREE && RECORD_SEQ(change) >= next;
}

static bool record_sane(const struct shmipc_session *s, const struct stream_record *record,
			uint32_t slot)
{
	uint64_t seq = RECORD_SEQ(record->change);
	unsigned int holder = RECORD_STATE(record->holder);
	uint32_t end = RECORD_END_KIND(record->end);

	return RECORD_STATE(record->change) <= RECORD_RESET &&
	       (seq <= s->tx.next || seq == RECORD_OWED) &&
	       holder >= RECORD_WAITING && holder <= RECORD_CLOSED &&
	       (holder != RECORD_WAITING || (slot & 1) != s->role) &&
	       (!end || end == FRAME_FIN || end == FRAME_RESET) && record->unfinished <= RECORD_CUT;
}

/* Streams wait for accept in the order in which the peer opened them. */
static void wait_for_accept(struct shmipc_session *s, struct shmipc_stream *st)
{
	uint64_t seq = RECORD_SEQ(s->tx.records[st->slot].holder);
	struct list *at = s->rx.accept.prev;

	for (; at != &s->rx.accept; at = at->prev) {
		struct shmipc_stream *before = container_of(at, struct shmipc_stream, accept);

		if (RECORD_SEQ(s->tx.records[before->slot].holder) < seq)
			break;
	}
	list_add_tail(&st->accept, at->next);
}

static void rebuild_stream(struct shmipc_session *s, struct shmipc_stream *st,
			   const struct stream_record *record)
{
	unsigned int state = RECORD_STATE(record->change), holder = RECORD_STATE(record->holder);
	bool owed = is_owed(record->change, s->tx.next);

	st->attached = true;
	st->handle = holder != RECORD_CLOSED;
	st->visible = holder == RECORD_HELD;
	if (holder == RECORD_CLOSED)
		list_add_tail(&st->accept, &s->rx.closed);
	else if (holder == RECORD_WAITING)
		wait_for_accept(s, st);
	st->rx_position = record->consumed;
	st->resumed = record->consumed;
	st->tx_position = record->sent;
	st->opened = record->sent || (RECORD_SEQ(record->change) && !owed);
	st->fin_sent = state == RECORD_FINISHED;
	st->reset_sent = state == RECORD_RESET;
	st->send_reset_code = st->reset_sent ? record->code : 0;
	if (owed)
		list_add_tail(&st->owing, &s->tx.owing);
	if (RECORD_END_KIND(record->end) == FRAME_RESET) {
		st->reset_received = true;
		st->reset_code = RECORD_END_CODE(record->end);
	}
}

static int rebuild_streams(struct shmipc_session *s)
{
	for (uint32_t slot = 0; slot < s->nr_streams; slot++) {
		struct stream_record record;
		struct shmipc_stream *st;

		memcpy(&record, &s->tx.records[slot], sizeof(record));
		s->generations[slot] = record.generation;
		if (RECORD_STATE(record.change) == RECORD_FREE)
			continue;
		if (!record_sane(s, &record, slot))
			return -EBADMSG;
		st = stream_alloc(s, slot, record.generation);
		if (!st)
			return -ENOMEM;
		s->streams[slot] = st;
		rebuild_stream(s, st, &record);
	}
	return 0;
}

/*
 * A frame may be out whose stream is over, because it was reset, and whose slot is used again.
 * It is of a stream that nobody has, which is freed when the frame comes back.
 */
struct shmipc_stream *recover_owner(struct shmipc_session *s, uint16_t slot, uint32_t generation)
{
	struct shmipc_stream *st = s->streams[slot];
	struct list *pos, *n;

	if (st && st->generation == generation)
		return st;
	if ((int32_t)(generation - s->generations[slot]) > 0)
		return NULL;
	list_for_each_safe(pos, n, &s->rx.closed) {
		st = container_of(pos, struct shmipc_stream, accept);
		if (st->slot == slot && st->generation == generation)
			return st;
	}
	st = stream_alloc(s, slot, generation);
	if (st) {
		st->reset_sent = true;
		list_add_tail(&st->accept, &s->rx.closed);
	}
	return st;
}

/* What the frames say that the records can't, or not yet. */
static int compare_with_frames(struct shmipc_session *s, const struct recovered *re)
{
	bool *seen = calloc(s->nr_streams, sizeof(*seen));

	if (!seen)
		return -ENOMEM;
	for (uint32_t i = re->nr_frames; i-- > 0;) {
		const struct frame *frame = &re->frames[i];
		struct shmipc_stream *st = s->streams[frame->stream];

		/* Its record was being made: the stream is to be made again. */
		if (frame->flags & FRAME_F_OPEN && !seen[frame->stream]) {
			seen[frame->stream] = true;
			if (!st && frame->generation == s->generations[frame->stream] &&
			    (frame->stream & 1) != s->role)
				s->generations[frame->stream]--;
		}
		/* It comes again, and then says so itself. */
		if (st && frame->generation == st->generation && frame->kind == FRAME_RESET)
			st->reset_received = false;
	}
	free(seen);
	for (uint32_t slot = 0; slot < s->nr_streams; slot++) {
		struct shmipc_stream *st = s->streams[slot];

		if (st)
			st->first = !st->opened && (slot & 1) == s->role ? FRAME_F_OPEN : 0;
	}
	return 0;
}

/* ---- looking ------------------------------------------------------------ */

static int take_segments(struct shmipc_session *s, const struct recovery *from)
{
	const struct pv_segment *first = &from->own[0];
	struct geometry own, peer;
	int err = 0;

	if (!from->nr_own || !first->addr || !from->nr_peers || !from->peers[0].addr ||
	    from->nr_own > ARENA_EXTENTS || from->nr_peers > SHMIPC_SLOTS_MAX)
		return -EBADMSG;
	if (!geometry_known(first->addr, first->len))
		return -EPROTO;
	if (!geometry_read(&own, first->addr, first->len) ||
	    !geometry_read(&peer, from->peers[0].addr, from->peers[0].len))
		return -EBADMSG;
	memcpy(s->tx.segments, from->own, from->nr_own * sizeof(*from->own));
	s->tx.nr_segments = from->nr_own;
	memcpy(s->rx.mappings, from->peers, from->nr_peers * sizeof(*from->peers));
	session_place(s, &own);
	err = buf_inherit_slots(s, from->bufs);
	for (uint32_t i = 0; i < from->nr_own && !err; i++) {
		size_t offset = i ? 0 : own.arena;

		if (from->own[i].addr)
			err = arena_add(&s->tx.arena, i, from->own[i].addr, offset,
					from->own[i].len - offset);
	}
	return err ? err : session_connect(s, &peer);
}

static int look(struct shmipc_session *s, const struct recovery *from)
{
	struct recovered *re = calloc(1, sizeof(*re));
	int err;

	if (!re)
		return -ENOMEM;
	s->recovered = re;
	re->crashed = from->crashed;
	err = take_segments(s, from);
	if (!err)
		err = recover_next(s);
	if (!err)
		err = rebuild_streams(s);
	if (!err)
		err = recover_sent(s, re);
	if (!err)
		err = recover_received(s, re);
	if (!err)
		err = compare_with_frames(s, re);
	return err;
}

/* What the dead owner had asked for. */
static int read_options(const struct recovery *from, struct shmipc_options *options)
{
	const struct segment_header *header = from->nr_own ? from->own[0].addr : NULL;

	if (!header || from->own[0].len < sizeof(*header))
		return -EBADMSG;
	*options = (struct shmipc_options){
		.flags = from->sealed ? SHMIPC_SEALED : 0,
		.window = load_relaxed(&header->window),
		.max_memory = load_relaxed(&header->max_memory),
	};
	return 0;
}

int recover_session(struct shmipc_endpoint *ep, const struct recovery *from,
		    struct shmipc_session **session)
{
	struct shmipc_options options;
	struct shmipc_session *s;
	int err = read_options(from, &options);

	if (err)
		return err;
	s = session_alloc(ep, &options, from->role);
	if (!s)
		return -ENOMEM;
	err = look(s, from);
	if (!err && (!options.window || options.max_memory < options.window))
		err = -EBADMSG;
	if (err) {
		/* The caller keeps them. */
		tx_release_bufs(s);
		if (s->tx.bufs == from->bufs)
			s->tx.bufs = NULL;
		s->tx.nr_segments = 0;
		memset(s->rx.mappings, 0, SHMIPC_SLOTS_MAX * sizeof(*s->rx.mappings));
		session_destroy(s);
		return err;
	}
	s->handle = from->handle;
	s->cookie = from->cookie;
	s->peer = from->peer;
	*session = s;
	return 0;
}

void recover_forget(struct shmipc_session *s)
{
	if (!s->recovered)
		return;
	table_free(s->recovered->frames, s->rx.nr_live, sizeof(*s->recovered->frames));
	free(s->recovered->stale);
	free(s->recovered);
	s->recovered = NULL;
}

/* ---- going on ----------------------------------------------------------- */

/*
 * Before anything is published: an entry whose frame was returned may be written anew, and a number
 * that no frame had when a change was announced with it may become that of another frame.
 */
static void settle_own(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	struct list *pos, *n;

	for (uint32_t i = 0; i < s->recovered->nr_stale; i++)
		store_relaxed(&tx->live_table[s->recovered->stale[i]].seq, 0);
	for (uint32_t slot = 0; slot < s->nr_streams; slot++) {
		struct stream_record *record = &tx->records[slot];
		struct shmipc_stream *st = s->streams[slot];

		if (!st)
			continue;
		if (s->recovered->crashed && st->visible)
			store_relaxed(&record->holder,
				      RECORD_CHANGE(RECORD_HELD, record->consumed));
		/* The last frame of all tells what its record lacks, as long as it is the last. */
		if (record->sent != st->tx_position)
			store_relaxed(&record->sent, st->tx_position);
	}
	list_for_each_safe(pos, n, &tx->owing) {
		struct shmipc_stream *st = container_of(pos, struct shmipc_stream, owing);

		tx_announce(s, st, st->reset_sent ? FRAME_RESET : st->fin_sent ? FRAME_FIN :
			    FRAME_OPEN, RECORD_OWED);
	}
	program_order();
}

/* Where a stream's first frame may lie, and where a gap may be: in what was consumed alone. */
static bool in_order(const struct shmipc_stream *st, uint64_t position, uint64_t consumed,
		     bool first)
{
	if (position == st->rx_position)
		return true;
	return (int64_t)(position - consumed) <= 0 &&
	       (first || (int64_t)(position - st->rx_position) > 0);
}

/*
 * What the predecessors' programs had of it. Of one that died it may be anything that was taken,
 * and what such a one had is marked until it is returned, whoever hands it on.
 */
static void mark(struct shmipc_session *s, struct shmipc_stream *st, struct rx_node *node,
		 uint64_t consumed)
{
	uint64_t died_at = RECORD_SEQ(s->tx.records[st->slot].holder);
	int64_t had = consumed - node->position;

	if (node->stream != st || had <= 0)
		return;
	if ((uint64_t)had >= node->length)
		node->flags |= NODE_BEHIND;
	/* The record has 56 bits of a position. */
	if (st->visible && (int64_t)((node->position - died_at) << 8) < 0)
		node->flags |= NODE_REDELIVERED;
	else if ((uint64_t)had < node->length)
		node->taken = had;
}

/*
 * The peer's end was consumed and returned: said only when no frame of the stream comes again, for
 * those are before it. A program that died may have read it and done no more. So it is told again
 * as long as nothing was consumed since a death; also of a stream without a byte, of which the
 * record can't tell.
 */
static void restore_fin(struct shmipc_session *s, struct shmipc_stream *st)
{
	struct stream_record *record = &s->tx.records[st->slot];
	uint64_t end = load_relaxed(&record->end);

	if (RECORD_END_KIND(end) != FRAME_FIN || st->fin_received)
		return;
	st->fin_received = st->fin_consumed = true;
	st->end_again = st->visible &&
			RECORD_SEQ(record->holder) == RECORD_SEQ(record->consumed);
}

/* Takes it as any other, off a ring of our own. */
static int take_again(struct shmipc_session *s, struct frame *ring, const struct frame *frame)
{
	struct rx *rx = &s->rx;
	const struct frame *peers = rx->ring;
	uint32_t published = rx->published;
	int n;

	ring[frame->seq & (rx->slots - 1)] = *frame;
	rx->ring = ring;
	rx->next = frame->seq;
	rx->published = frame->seq;	/* so that none of it is passed to the peer */
	n = rx_drain(s, 1);
	rx->ring = peers;
	rx->published = published;
	return n > 0 ? 0 : n ? n : -EBADMSG;
}

static int deliver_again(struct shmipc_session *s, struct frame *ring, struct frame *frame,
			 uint64_t *consumed, bool first)
{
	struct shmipc_stream *st = s->streams[frame->stream];
	int err;

	if (st && (int32_t)(frame->generation - st->generation) > 0)
		restore_fin(s, st);
	if (st && frame->generation != st->generation)
		st = NULL;
	if (st && st->reset_received) {
		/* Nobody is left who could have it: it goes back as one of an older life does. */
		frame->generation = st->generation - 1;
		return take_again(s, ring, frame);
	}
	if (st) {
		if (!in_order(st, frame->position, *consumed, first))
			return -EBADMSG;
		st->rx_position = frame->position;
		frame->flags &= ~FRAME_F_OPEN;
	}
	err = take_again(s, ring, frame);
	if (!err && st)
		mark(s, st, &s->rx.nodes[frame->live], *consumed);
	else if (!err && s->streams[frame->stream] &&
		 s->streams[frame->stream]->generation == frame->generation)
		*consumed = 0;	/* that was its first frame */
	return err;
}

/* The positions up to which the predecessor's program had taken each stream. */
static uint64_t *all_consumed(const struct shmipc_session *s)
{
	uint64_t *consumed = calloc(s->nr_streams, sizeof(*consumed));

	for (uint32_t slot = 0; consumed && slot < s->nr_streams; slot++)
		consumed[slot] = load_relaxed(&s->tx.records[slot].consumed);
	return consumed;
}

static int deliver_all(struct shmipc_session *s)
{
	struct recovered *re = s->recovered;
	uint64_t next = s->rx.next, *consumed = all_consumed(s);
	bool *begun = calloc(s->nr_streams, sizeof(*begun));
	struct frame *ring = malloc(s->rx.slots * sizeof(*ring));
	int err = consumed && begun && ring ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < re->nr_frames && !err; i++) {
		struct frame *frame = &re->frames[i];

		err = deliver_again(s, ring, frame, &consumed[frame->stream],
				    !begun[frame->stream]);
		begun[frame->stream] = true;
	}
	s->rx.next = next;
	free(begun);
	free(ring);
	for (uint32_t slot = 0; slot < s->nr_streams && !err; slot++) {
		struct shmipc_stream *st = s->streams[slot];

		if (!st)
			continue;
		/* What came last was consumed and returned. */
		if ((int64_t)(consumed[slot] - st->rx_position) > 0)
			st->rx_position = consumed[slot];
		restore_fin(s, st);
	}
	free(consumed);
	return err;
}

/*
 * The rest of its message died with the owner. The peer is told now, and again by the frame that
 * begins the next message: then also a successor of the peer sees where that is.
 */
static void cut_message(struct shmipc_session *s, struct shmipc_stream *st,
			struct stream_record *record)
{
	st->first |= FRAME_F_ABORT;
	/* A FIN that is owed tells it itself. */
	if (record->unfinished == RECORD_CUT || st->fin_sent || !tx_control(s, st, FRAME_OPEN))
		return;
	st->first |= FRAME_F_ABORT;
	store_release(&record->unfinished, RECORD_CUT);
}

/* Messages whose rest died with the owner are closed; so are streams that it was closing. */
static void end_halves(struct shmipc_session *s)
{
	for (uint32_t slot = 0; slot < s->nr_streams; slot++) {
		struct shmipc_stream *st = s->streams[slot];
		struct stream_record *record = &s->tx.records[slot];
		bool over;

		if (!st)
			continue;
		over = st->reset_sent || st->reset_received ||
		       (st->fin_sent && list_empty(&st->owing));
		if (st->opened && !over && (record->unfinished == RECORD_CUT ||
		    (record->unfinished == RECORD_PART && s->recovered->crashed)))
			cut_message(s, st, record);
		if (!st->handle && !over && !st->fin_sent &&
		    (st->opened || (slot & 1) != s->role))
			tx_control(s, st, FRAME_FIN);
	}
	tx_unblock(s);
}

static void finish_recovery(struct shmipc_session *s)
{
	lock(&s->rx.lock);
	lock(&s->tx.lock);
	end_halves(s);
	s->tx.flushed = s->tx.next;
	unlock(&s->tx.lock);
	rx_publish_cursor(s);
	stream_sweep(s);
	unlock(&s->rx.lock);
}

void recover_resume(struct shmipc_session *s, uint32_t causes)
{
	int err;

	settle_own(s);
	err = deliver_all(s);
	if (!err)
		finish_recovery(s);
	recover_forget(s);
	session_begin(s, causes);
	if (err == -EBADMSG)
		log_warn("session with pid %u: what it sent does not go on from what was returned",
			 session_pid(s));
	if (err)
		session_fail(s, err);
	/* Both ends ring once: whatever either waited for may have come in between. */
	session_ring(s, BELL_DATA | BELL_SPACE);
}
