// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* recover_rings.c - which frames are out, and which came and were not returned */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "barrier.h"
#include "recover.h"
#include "table.h"

/* ---- returns ------------------------------------------------------------ */

/* What a return ring says, of the last frames that were returned. */
struct returns {
	uint64_t *words;	/* by rising seq */
	uint32_t nr;
	uint32_t count;		/* returns stored, modulo 2^32 */
	uint64_t lap;		/* of the ring's first word */
};

static int compare_words(const void *left, const void *right)
{
	uint32_t a = RETURN_SEQ(*(const uint64_t *)left), b = RETURN_SEQ(*(const uint64_t *)right);

	return a < b ? -1 : a > b;
}

/* Who returned frames as they came has them in order, and sorting takes longer than all else here. */
static void sort_words(struct returns *r)
{
	uint32_t i = 1;

	while (i < r->nr && compare_words(&r->words[i - 1], &r->words[i]) < 0)
		i++;
	if (i < r->nr)
		qsort(r->words, r->nr, sizeof(*r->words), compare_words);
}

#define LOOKS	3

/*
 * The words are of one lap up to where the ring is, and of the lap before behind it; those of lap 0
 * were never written. Its owner may be running, and go on meanwhile: what it adds behind the place
 * where the lap changed is left for tx_reap(). It overwrites no word of a frame that is still to be
 * found: the ring has room for the returns of all that can be out and of all that is in the frame
 * ring.
 *
 * -EAGAIN: it came round, and what is read now is of a lap that had not begun.
 */
static int returns_look(struct returns *r, const uint64_t *ring, uint32_t n,
			const struct control *control)
{
	uint64_t word = load_acquire(&ring[0]);
	/* Stored before the first word is: of the same lap, or it just begins. */
	uint64_t lap = load_relaxed(&control->return_lap);
	uint16_t behind = lap - RETURN_LAP(word);
	uint32_t here = 0, before = 0;

	if (behind > 1 || behind > lap)
		return -EBADMSG;
	lap -= behind;
	/* As they were returned: those of the lap before, then those of this lap, moved there at last. */
	r->words = malloc(2ULL * n * sizeof(*r->words));
	if (!r->words)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (i)
			word = load_acquire(&ring[i]);
		if (RETURN_LAP(word) == (uint16_t)lap) {
			if (here != i)
				continue;
			r->words[n + here++] = word;
		} else if (RETURN_LAP(word) == (uint16_t)(lap - 1)) {
			if (lap > 1)
				r->words[before++] = word;
		} else {
			free(r->words);
			return RETURN_LAP(word) == (uint16_t)(lap + 1) ? -EAGAIN : -EBADMSG;
		}
	}
	r->lap = lap;
	r->count = (uint32_t)(lap - 1) * n + here;
	r->nr = before;
	if (lap) {
		memmove(&r->words[before], &r->words[n], here * sizeof(*r->words));
		r->nr += here;
	}
	sort_words(r);
	return 0;
}

/* Less than a lap is out while nothing is sent, so that an honest owner comes round once. */
static int returns_read(struct returns *r, const uint64_t *ring, uint32_t n,
			const struct control *control)
{
	int err = -EAGAIN;

	for (int look = 0; look < LOOKS && err == -EAGAIN; look++)
		err = returns_look(r, ring, n, control);
	return err == -EAGAIN ? -EBADMSG : err;
}

/* The live entry of the frame as it was returned, or -1: it was not. */
static int returned_as(const struct returns *r, uint64_t seq)
{
	uint64_t key = RETURN_WORD(0, 0, seq);
	const uint64_t *word = bsearch(&key, r->words, r->nr, sizeof(key), compare_words);

	return word ? RETURN_LIVE(*word) : -1;
}

/* ---- what is out -------------------------------------------------------- */

/* The oldest frame that can be in the ring when @next is the number of the next one. */
static uint64_t first_in_ring(uint64_t next, uint32_t slots)
{
	return next > slots ? next - slots : 1;
}

/* What was published is consecutive: each slot has the newest number that belongs there. */
int recover_next(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	uint32_t mask = tx->slots - 1;
	uint64_t newest = 0;

	for (uint32_t i = 0; i < tx->slots; i++)
		if (load_relaxed(&tx->ring[i].seq) > newest)
			newest = load_relaxed(&tx->ring[i].seq);
	if (newest >= RECORD_OWED - 1)
		return -EBADMSG;
	for (uint32_t i = 0; i < tx->slots; i++) {
		uint64_t back = (newest - i) & mask;

		if (load_relaxed(&tx->ring[i].seq) != (newest > back ? newest - back : 0))
			return -EBADMSG;
	}
	tx->next = newest + 1;
	tx->flushed = tx->next;
	return 0;
}

static bool is_control(const struct frame *frame)
{
	return frame->kind != FRAME_INLINE && frame->kind != FRAME_BLOCK &&
	       frame->kind != FRAME_BUFFER;
}

static uint64_t length_of(const struct frame *frame)
{
	if (frame->kind == FRAME_BLOCK || frame->kind == FRAME_BUFFER)
		return frame->block.length;
	return frame->kind == FRAME_INLINE ? frame->length : 0;
}

/* All but inline payload that lies behind the first cache line: it says nothing here. */
static void read_header(struct frame *to, const struct frame *from)
{
	_Static_assert(offsetof(struct frame, block) + sizeof(from->block) <= CACHE_LINE,
		       "a block is in the header");
	memcpy(to, from, CACHE_LINE);
}

/* A frame of our own that is not returned: it has its entry, its share and its block. */
static int add_out(struct shmipc_session *s, const struct frame *frame, bool parked)
{
	struct tx *tx = &s->tx;
	struct live live = { .seq = frame->seq, .control = is_control(frame), .parked = parked };
	uint64_t len = length_of(frame);
	struct shmipc_stream *st;
	int err = 0;

	if (frame->live >= tx->nr_live || tx->live[frame->live].stream ||
	    frame->stream >= s->nr_streams || frame->kind < FRAME_INLINE ||
	    frame->kind > FRAME_BUFFER || (!live.control && !len) ||
	    (frame->kind == FRAME_INLINE && len > INLINE_MAX))
		return -EBADMSG;
	/* A block is as large as its payload now, whatever was reserved. */
	live.has_block = frame->kind == FRAME_BLOCK;
	live.outside = frame->kind == FRAME_BUFFER;
	if (live.has_block && !arena_claim(&tx->arena, frame->block.slot, frame->block.offset, len,
					   &live.block))
		return -EBADMSG;
	st = recover_owner(s, frame->stream, frame->generation);
	if (!st)
		return -EBADMSG;
	live.stream = st;
	live.share = live.control ? 0 : tx_share(len);
	if (live.outside)
		err = buf_claim_out(s, frame->block.slot, frame->block.serial, &live.grant);
	if (err)
		return err;
	tx->live[frame->live] = live;
	st->opened = true;
	if (live.control) {
		st->out_control++;
		return 0;
	}
	if (st->out_data++)
		tx->shared_entries++;
	st->out_bytes += live.share;
	if (!live.outside)
		tx->bytes += live.share;
	return 0;
}

/* Frames that stayed out when their slots were used again. */
static int add_parked(struct shmipc_session *s, const struct returns *r, struct recovered *re)
{
	struct tx *tx = &s->tx;
	struct frame frame;
	int err;

	for (uint32_t id = 0; id < tx->nr_live; id++) {
		read_header(&frame, &tx->live_table[id]);
		if (!frame.seq)
			continue;
		if (frame.seq >= tx->next)
			return -EBADMSG;
		if (returned_as(r, frame.seq) >= 0) {
			re->stale[re->nr_stale++] = id;
			continue;
		}
		err = frame.live == id ? add_out(s, &frame, true) : -EBADMSG;
		if (err)
			return err;
	}
	return 0;
}

static bool is_parked(const struct tx *tx, uint64_t seq)
{
	for (uint32_t id = 0; id < tx->nr_live; id++)
		if (tx->live[id].stream && tx->live[id].seq == seq)
			return true;
	return false;
}

/*
 * The frames in the ring. The slot of the next one may be half written: then its old frame was
 * returned, or parked before, so that nothing of the slot but its seq is looked at.
 */
static int add_ring(struct shmipc_session *s, const struct returns *r)
{
	struct tx *tx = &s->tx;
	struct frame frame;
	int err, id;

	for (uint64_t seq = first_in_ring(tx->next, tx->slots); seq < tx->next; seq++) {
		bool torn = seq + tx->slots == tx->next;

		read_header(&frame, &tx->ring[seq & (tx->slots - 1)]);
		frame.seq = seq;
		id = returned_as(r, seq);
		tx->slot_ids[seq & (tx->slots - 1)] = frame.live < tx->nr_live ? frame.live : 0;
		if (id >= 0 && !torn && id != frame.live)
			return -EBADMSG;
		if (id >= 0 || (torn && is_parked(tx, seq)))
			continue;
		err = add_out(s, &frame, false);
		if (err)
			return err;
	}
	return 0;
}

/* The last frame of all: a stream's record may not count it yet. */
static int count_last(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	struct shmipc_stream *st;
	struct frame frame;
	uint64_t end;

	if (tx->next == 1)
		return 0;
	read_header(&frame, &tx->ring[(tx->next - 1) & (tx->slots - 1)]);
	st = frame.stream < s->nr_streams ? s->streams[frame.stream] : NULL;
	if (!st || st->generation != frame.generation)
		return 0;
	st->opened = true;
	end = frame.position + length_of(&frame);
	if (st->tx_position != end && st->tx_position != frame.position)
		return -EBADMSG;
	st->tx_position = end;
	return 0;
}

int recover_sent(struct shmipc_session *s, struct recovered *re)
{
	struct tx *tx = &s->tx;
	struct returns r = { 0 };
	int err;

	tx->cursor = load_acquire(&tx->peer->rx_cursor);
	if ((uint32_t)tx->next - tx->cursor > tx->slots)
		return -EBADMSG;
	re->stale = calloc(tx->nr_live, sizeof(*re->stale));
	if (!re->stale)
		return -ENOMEM;
	err = returns_read(&r, tx->peer_returns, tx->peer_nr_returns, tx->peer);
	if (err)
		return err;
	tx->reaped = r.count;
	err = add_parked(s, &r, re);
	if (!err)
		err = add_ring(s, &r);
	if (!err)
		err = count_last(s);
	free(r.words);
	if (err)
		return err;
	arena_merge(&tx->arena);
	tx->nr_free = 0;
	for (uint32_t id = tx->nr_live; id-- > 0;)
		if (!tx->live[id].stream)
			tx->free_ids[tx->nr_free++] = id;
	return 0;
}

/* ---- what came ---------------------------------------------------------- */

static int add_came(struct shmipc_session *s, struct recovered *re, const struct frame *frame,
		    uint64_t seq)
{
	struct frame *to = &re->frames[re->nr_frames];

	if (re->nr_frames == s->rx.nr_live)
		return -EBADMSG;
	memcpy(to, frame, sizeof(*to));
	to->seq = seq;
	re->nr_frames++;
	return 0;
}

/*
 * Slots that our cursor has passed: the peer may use them again at any moment. What it overwrites
 * it parked before, so the table, which is read later, has it, and is the one to believe.
 */
static int scan_passed(struct shmipc_session *s, const struct returns *r, struct recovered *re,
		       uint64_t cursor)
{
	struct rx *rx = &s->rx;
	int err = 0;

	for (uint64_t seq = first_in_ring(cursor, rx->slots); seq < cursor && !err; seq++) {
		const struct frame *shared = &rx->ring[seq & (rx->slots - 1)];

		if (load_acquire(&shared->seq) == seq && returned_as(r, seq) < 0)
			err = add_came(s, re, shared, seq);
	}
	load_fence();	/* pairs with the store_fence() of park() */
	return err;
}

static int scan_table(struct shmipc_session *s, const struct returns *r, struct recovered *re,
		      uint64_t cursor, const struct frame *table)
{
	uint32_t in_ring = re->nr_frames;
	int err = 0;

	for (uint32_t id = 0; id < s->rx.nr_live && !err; id++) {
		uint64_t seq = load_acquire(&table[id].seq), i = 0;

		if (!seq || returned_as(r, seq) >= 0)
			continue;
		/* Rising, and found there in the order of the ring. */
		while (i < in_ring && re->frames[i].seq != seq)
			i++;
		if (seq >= cursor)
			err = -EBADMSG;
		else if (i == in_ring)
			err = add_came(s, re, &table[id], seq);
		else
			memcpy((char *)&re->frames[i] + sizeof(seq),
			       (const char *)&table[id] + sizeof(seq),
			       sizeof(re->frames[i]) - sizeof(seq));
	}
	return err;
}

/* Slots that were not passed stay as they are. All that is there by now is taken. */
static int scan_ahead(struct shmipc_session *s, const struct returns *r, struct recovered *re,
		      uint64_t cursor)
{
	struct rx *rx = &s->rx;
	uint64_t seq = cursor;
	int err = 0;

	for (; seq < cursor + rx->slots && !err; seq++) {
		const struct frame *shared = &rx->ring[seq & (rx->slots - 1)];

		if (load_acquire(&shared->seq) != seq)
			break;
		if (returned_as(r, seq) < 0)
			err = add_came(s, re, shared, seq);
	}
	rx->next = seq;
	return err;
}

static int compare_frames(const void *left, const void *right)
{
	uint64_t a = ((const struct frame *)left)->seq, b = ((const struct frame *)right)->seq;

	return a < b ? -1 : a > b;
}

/* All 64 bits of the own cursor: the slot that it is at has that number, or the lap before's. */
static uint64_t own_cursor(const struct rx *rx)
{
	uint32_t cursor = load_relaxed(&rx->control->rx_cursor);
	uint64_t seq = load_acquire(&rx->ring[cursor & (rx->slots - 1)].seq);

	if (!seq && cursor <= rx->slots)
		return cursor;
	if ((uint32_t)seq == cursor)
		return seq;
	return (uint32_t)(seq + rx->slots) == cursor ? seq + rx->slots : 0;
}

static int scan(struct shmipc_session *s, const struct returns *r, struct recovered *re)
{
	struct rx *rx = &s->rx;
	uint64_t cursor = own_cursor(rx);
	int err;

	if (!cursor || cursor >= RECORD_OWED)
		return -EBADMSG;
	rx->published = cursor;
	err = scan_passed(s, r, re, cursor);
	if (!err)
		err = scan_table(s, r, re, cursor, rx->peer_live_table);
	if (!err)
		err = scan_ahead(s, r, re, cursor);
	if (err)
		return err;
	qsort(re->frames, re->nr_frames, sizeof(*re->frames), compare_frames);
	for (uint32_t i = 0; i < re->nr_frames; i++)
		if (re->frames[i].stream >= s->nr_streams ||
		    (i && re->frames[i].seq == re->frames[i - 1].seq))
			return -EBADMSG;
	return 0;
}

int recover_received(struct shmipc_session *s, struct recovered *re)
{
	struct rx *rx = &s->rx;
	struct returns r = { 0 };
	int err;

	re->frames = table_alloc(rx->nr_live, sizeof(*re->frames));
	err = re->frames ? returns_read(&r, rx->returns, rx->nr_returns, rx->control) : -ENOMEM;
	if (err)
		return err;
	rx->returned = r.count;
	rx->return_lap = r.lap;
	err = scan(s, &r, re);
	free(r.words);
	return err;
}
