// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a successor makes of each state that a session and its streams can be in. */
#include "barrier.h"
#include "reborn.h"

static const struct shmipc_options small = {
	.size = sizeof(small), .max_streams = 8, .window = 65536, .max_memory = 1 << 18,
};

static struct shmipc_stream *renew(struct shmipc_session **s, struct shmipc_stream *st, bool crashed)
{
	uint32_t generation = st->generation;
	uint16_t slot = st->slot;

	assert_int_equal(reborn(s, crashed), 0);
	return reborn_stream(*s, slot, generation);
}

static void send_text(struct shmipc_stream *st, const char *text, unsigned int flags)
{
	assert_int_equal(shmipc_write(st, text, strlen(text), flags, 0), strlen(text));
}

static void expect(struct shmipc_stream *st, const char *text, uint64_t position, uint32_t flags)
{
	struct shmipc_message m;

	assert_int_equal(shmipc_peek(st, &m, 0), 1);
	assert_int_equal(m.len, strlen(text));
	assert_memory_equal(m.spans[0].data, text, m.spans[0].len);
	assert_int_equal(m.position, position);
	assert_int_equal(m.flags, flags);
	assert_int_equal(shmipc_return(st, &m), 0);
}

static int64_t read_one(struct shmipc_stream *st)
{
	char c;
	int64_t n = shmipc_read(st, &c, 1, 0);

	return n == 1 ? c : n;
}

/* Each side is replaced before each message; long ones come from a second segment. */
static void test_goes_on(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (unsigned int i = 0; i < 600; i++) {
		duo_send(b, a, 1 + i * 977 % 100000);
		if (i % 2)
			a = renew(&d.a, a, i % 3);
		duo_send(a, b, 1 + i % 200);
		if (i % 5)
			b = renew(&d.b, b, i % 3);
	}
	assert_int_equal(d.b->tx.nr_segments > 1, 1);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* What was seen and not returned comes again, marked; what was not seen comes unmarked. */
static void test_redelivered(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m[3];
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 4; i++)
		send_text(b, (const char *[]){ "one", "two", "three", "four" }[i], 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(shmipc_peek(a, &m[i], 0), 1);
	assert_int_equal(shmipc_return(a, &m[1]), 0);
	/* Again and again: until it is returned. */
	for (int i = 0; i < 3; i++)
		a = renew(&d.a, a, true);
	expect(a, "one", 1, SHMIPC_MSG_REDELIVERED);
	a = renew(&d.a, a, true);
	expect(a, "three", 7, SHMIPC_MSG_REDELIVERED);
	expect(a, "four", 12, 0);
	assert_int_equal(read_one(a), -EAGAIN);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/*
 * It died after the frame was published, and before its stream's record counted it. Its successor knows
 * by the frame, and goes on with another; the next one can't know by that any more.
 */
static void test_counted_late(void **state)
{
	struct shmipc_stream *a, *b, *a2, *b2;
	struct duo d;

	(void)state;
	for (int finishes = 0; finishes < 2; finishes++) {
		struct stream_record *record;
		uint16_t other;
		uint64_t before;

		duo_open(&d, &small);
		duo_stream(&d, &b, &a);
		duo_stream(&d, &b2, &a2);
		other = b2->slot;
		record = &d.b->tx.records[b->slot];
		before = record->sent;
		send_text(b, "last", 0);
		store_relaxed(&record->sent, before);
		b = renew(&d.b, b, true);
		b2 = d.b->streams[other];
		if (finishes)
			assert_int_equal(shmipc_finish(b), 0);
		else
			send_text(b2, "other", 0);
		b = renew(&d.b, b, finishes);
		if (!finishes)
			send_text(b, "next", 0);
		expect(a, "last", 1, 0);
		if (finishes)
			assert_int_equal(read_one(a), 0);
		else
			expect(a, "next", 5, 0);
		duo_close(&d);
	}
}

/* A buffer that is out stays where it is, whichever side goes. */
static void test_buffer(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct shmipc_buf *buf;
	struct duo d;
	int round;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_buf_new(d.b_ep, 1 << 20, &buf), 0);
	duo_fill(shmipc_buf_data(buf), 1 << 20, 3);
	assert_int_equal(shmipc_buf_send(b, buf, 1 << 20, 0, 0), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	for (round = 0; round < 3; round++) {
		a = renew(&d.a, a, true);
		assert_int_equal(shmipc_peek(a, &m, 0), 1);
		assert_int_equal(m.flags, SHMIPC_MSG_REDELIVERED);
		assert_int_equal(m.len, 1 << 20);
		assert_memory_equal(m.spans[0].data, shmipc_buf_data(buf), 1 << 20);
		b = renew(&d.b, b, true);
		/* It is out, and its share of the window is, and no memory. */
		assert_int_equal(b->out_bytes, 1 << 20);
		assert_int_equal(d.b->tx.bytes, 0);
		assert_int_equal(shmipc_write(b, "x", 1, 0, 0), -EAGAIN);
	}
	assert_int_equal(shmipc_return(a, &m), 0);
	/* Its slot is not used again: what was read there may still be mapped. */
	assert_int_equal(shmipc_buf_send(b, buf, 1 << 20, 0, 0), 0);
	assert_int_equal(d.b->tx.bufs[0].used_up, true);
	assert_ptr_equal(d.b->tx.bufs[1].grant->buf, buf);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_memory_equal(m.spans[0].data, shmipc_buf_data(buf), 1 << 20);
	assert_int_equal(shmipc_return(a, &m), 0);
	duo_send(b, a, 100);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* One that stopped in good order left nothing to be marked, or to be read twice. */
static void test_handed_over(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "held", 0);
	send_text(b, "half", 0);
	send_text(b, "rest", 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	a = renew(&d.a, a, false);
	expect(a, "held", 1, 0);
	assert_int_equal(read_one(a), 'h');
	assert_int_equal(read_one(a), 'a');
	a = renew(&d.a, a, false);
	expect(a, "lf", 7, 0);
	expect(a, "rest", 9, 0);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* After a crash the whole of a message comes again of which a part was read. */
static void test_half_read(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "half", 0);
	assert_int_equal(read_one(a), 'h');
	a = renew(&d.a, a, true);
	expect(a, "half", 1, SHMIPC_MSG_REDELIVERED);
	duo_close(&d);
}

/* One that a dead program held of a stream that was reset meanwhile: nobody can have it. */
static void test_buffer_of_reset(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct shmipc_buf *buf;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_buf_new(d.b_ep, 20000, &buf), 0);
	assert_int_equal(shmipc_buf_send(b, buf, 20000, 0, 0), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(shmipc_reset(b, 1), 0);
	duo_drain(d.a);
	a = renew(&d.a, a, true);
	assert_int_equal(read_one(a), -ECONNRESET);
	assert_int_equal(shmipc_buf_wait(buf, LIMIT), 0);
	shmipc_buf_free(buf);
	duo_close(&d);
}

/* As if so many returns had gone by. The words are of frames that nobody can mean. */
static void set_returned(struct shmipc_session *from, struct shmipc_session *to, uint32_t returned)
{
	uint32_t n = from->rx.nr_returns;
	uint64_t lap = returned / n + 1;

	assert_int_equal(duo_reap(to), 0);
	from->rx.returned = returned;
	to->tx.reaped = returned;
	from->rx.return_lap = lap - !(returned % n);
	from->rx.control->return_lap = from->rx.return_lap;
	for (uint32_t i = 0; i < n; i++)
		from->rx.returns[i] = RETURN_WORD(i < returned % n ? lap : lap - 1, 0xffff,
						  0x80000000);
}

/* Seqs and counts of 32 bits pass their end, laps of 16 bits theirs, with a successor every time. */
static void test_wraps(void **state)
{
	static const uint32_t counts[] = { -60U, 65535 * 512U - 60, 65536 * 512U - 60, 512 - 60 };
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		duo_open_at(&d, &small, (1ULL << 32) - 300);
		assert_int_equal(d.a->rx.nr_returns, 512);
		set_returned(d.a, d.b, counts[i]);
		set_returned(d.b, d.a, counts[i]);
		duo_stream(&d, &b, &a);
		/* What the ring was filled with was no frame. */
		for (unsigned int k = 0; k < 400; k++) {
			duo_send(b, a, 1 + k);
			duo_send(a, b, 1 + 2 * k);
			if (k < d.a->tx.slots)
				continue;
			a = renew(&d.a, a, k % 2);
			b = renew(&d.b, b, k % 3);
		}
		assert_int_equal(d.a->rx.returned, counts[i] + 401);
		assert_true(d.b->tx.next > 1ULL << 32);
		reborn_expect_quiet(&d);
		duo_close(&d);
	}
}

/* A reservation is gone, its memory is not. */
static void test_reserved(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(shmipc_reserve(b, 10000, &data, 0), 0);
		memset(data, i, 10000);
		b = renew(&d.b, b, i % 2);
	}
	duo_send(b, a, 10000);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* ---- how streams end ------------------------------------------------------------- */

static void test_finished(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "last", 0);
	assert_int_equal(shmipc_finish(b), 0);
	b = renew(&d.b, b, true);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), -ESHUTDOWN);
	a = renew(&d.a, a, true);
	expect(a, "last", 1, 0);
	assert_int_equal(read_one(a), 0);
	a = renew(&d.a, a, true);
	assert_int_equal(read_one(a), 0);
	send_text(a, "answer", 0);
	expect(b, "answer", 0, 0);
	shmipc_stream_close(a);
	shmipc_stream_close(b);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* The end was seen, a message before it is still held. */
static void test_end_before_return(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "last", 0);
	assert_int_equal(shmipc_finish(b), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(read_one(a), 0);
	a = renew(&d.a, a, true);
	expect(a, "last", 1, SHMIPC_MSG_REDELIVERED);
	assert_int_equal(read_one(a), 0);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* By the first wait of a new endpoint, which is what a successor has. */
static bool told_to_read(struct shmipc_endpoint *ep, struct shmipc_stream *st)
{
	struct shmipc_event events[8];
	bool told = false;
	int n;

	atomic_store(&ep->want_events, false);
	n = shmipc_wait(ep, events, 8, 0);
	for (int i = 0; i < n; i++)
		told |= events[i].type == SHMIPC_EV_READ && events[i].object == st;
	return told;
}

/* Who had read it died before it did anything about it: the next one is told, or who comes then. */
static void test_end_told_again(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_finish(b), 0);
	assert_true(told_to_read(d.a_ep, a));
	assert_int_equal(read_one(a), 0);
	assert_false(told_to_read(d.a_ep, a));
	a = renew(&d.a, a, false);
	assert_false(told_to_read(d.a_ep, a));
	for (int i = 0; i < 2; i++) {
		a = renew(&d.a, a, !i);
		assert_true(told_to_read(d.a_ep, a));
	}
	assert_int_equal(read_one(a), 0);
	assert_false(told_to_read(d.a_ep, a));
	shmipc_stream_close(a);
	shmipc_stream_close(b);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

static void test_reset(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "held", 0);
	send_text(b, "not read", 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(shmipc_reset(b, 77), 0);
	b = renew(&d.b, b, true);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), -ECONNRESET);
	duo_drain(d.a);
	assert_int_equal(read_one(a), -ECONNRESET);
	/* Its program is gone: nobody can return the message that it held. */
	a = renew(&d.a, a, true);
	assert_int_equal(read_one(a), -ECONNRESET);
	assert_int_equal(shmipc_stream_reset_code(a), 77);
	assert_int_equal(shmipc_write(a, "x", 1, 0, 0), -ECONNRESET);
	shmipc_stream_close(a);
	shmipc_stream_close(b);
	reborn_expect_quiet(&d);
	duo_stream(&d, &b, &a);
	duo_send(b, a, 5000);
	duo_close(&d);
}

static void renew_all(struct shmipc_session **s, struct shmipc_stream **st, unsigned int n,
		      bool crashed)
{
	uint32_t generation[8];
	uint16_t slot[8];

	for (unsigned int i = 0; i < n; i++) {
		slot[i] = st[i]->slot;
		generation[i] = st[i]->generation;
	}
	assert_int_equal(reborn(s, crashed), 0);
	for (unsigned int i = 0; i < n; i++)
		st[i] = reborn_stream(*s, slot[i], generation[i]);
}

/* Ends that a full ring put off are not forgotten, nor taken for what was sent in their place. */
static void test_owed(void **state)
{
	struct shmipc_stream *a[4], *b[4];
	struct duo d;
	int n = 0;

	(void)state;
	for (int crashed = 0; crashed < 2; crashed++) {
		duo_open(&d, &small);
		for (int i = 0; i < 4; i++)
			duo_stream(&d, &b[i], &a[i]);
		duo_drain(d.a);
		/* To the last slot of the ring, which a program that sends and resets can reach. */
		lock(&d.b->tx.lock);
		while (tx_control(d.b, b[0], FRAME_OPEN))
			n++;
		unlock(&d.b->tx.lock);
		assert_in_range(n, 1, 1000);
		assert_int_equal(shmipc_finish(b[1]), 0);
		assert_int_equal(shmipc_reset(b[2], 9), 0);
		for (int turn = 0; turn < 2; turn++)
			renew_all(&d.b, b, 4, crashed);
		assert_false(list_empty(&d.b->tx.owing));
		duo_drain(d.a);
		send_text(b[3], "first", 0);
		renew_all(&d.b, b, 4, crashed);
		assert_true(list_empty(&d.b->tx.owing));
		expect(a[3], "first", 1, 0);
		assert_int_equal(read_one(a[1]), 0);
		assert_int_equal(read_one(a[2]), -ECONNRESET);
		assert_int_equal(shmipc_stream_reset_code(a[2]), 9);
		assert_int_equal(shmipc_write(b[1], "x", 1, 0, 0), -ESHUTDOWN);
		duo_send(b[3], a[3], 100);
		duo_close(&d);
	}
}

/* ---- who has them ------------------------------------------------------------------ */

static void test_waiting(void **state)
{
	struct shmipc_stream *a, *b[3];
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	for (int i = 0; i < 3; i++)
		assert_int_equal(shmipc_stream_open(d.b, &b[i]), 0);
	for (int i = 2; i >= 0; i--) {
		send_text(b[i], "hello", 0);
		assert_int_equal(shmipc_finish(b[i]), 0);
	}
	duo_drain(d.a);
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(reborn(&d.a, i % 2), 0);
		assert_null(reborn_stream(d.a, b[i]->slot, b[i]->generation));
		assert_int_equal(shmipc_stream_accept(d.a, &a, 0), 0);
		assert_int_equal(a->slot, b[i]->slot);
		a = renew(&d.a, a, true);
		expect(a, "hello", 0, 0);
		assert_int_equal(read_one(a), 0);
	}
	assert_int_equal(shmipc_stream_accept(d.a, &a, 0), -EAGAIN);
	duo_close(&d);
}

/* Opened and flushed, or only opened, or closed with frames out: each as it was. */
static void test_opened_and_closed(void **state)
{
	struct shmipc_stream *a, *b, *quiet;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	assert_int_equal(shmipc_stream_open(d.b, &quiet), 0);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	assert_int_equal(shmipc_flush(b), 0);
	assert_int_equal(shmipc_stream_accept(d.a, &a, 0), 0);
	b = renew(&d.b, b, true);
	quiet = reborn_stream(d.b, 0, 1);
	assert_non_null(quiet);
	duo_send(b, a, 10);
	duo_send(a, b, 10);
	send_text(b, "kept", 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	shmipc_stream_close(b);
	assert_int_equal(reborn(&d.b, true), 0);
	assert_null(reborn_stream(d.b, 2, 1));
	assert_int_equal(d.b->tx.nr_free, d.b->tx.nr_live - 2);
	assert_int_equal(read_one(a), 0);
	assert_int_equal(shmipc_return(a, &m), 0);
	/* Its slot is free when a has finished too. */
	shmipc_stream_close(a);
	reborn_expect_quiet(&d);
	stream_sweep(d.b);
	assert_null(d.b->streams[2]);
	quiet = reborn_stream(d.b, 0, 1);
	send_text(quiet, "at last", 0);
	assert_int_equal(shmipc_stream_accept(d.a, &a, 0), 0);
	expect(a, "at last", 0, 0);
	duo_close(&d);
}

/* ---- messages in parts --------------------------------------------------------------- */

/* Nobody saw a part: it is as if it had never begun. */
static void test_cut_unseen(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "whole", 0);
	send_text(b, "be", SHMIPC_MORE);
	send_text(b, "gun", SHMIPC_MORE);
	duo_drain(d.a);
	b = renew(&d.b, b, true);
	send_text(b, "next", 0);
	duo_drain(d.a);
	expect(a, "whole", 1, 0);
	expect(a, "next", 11, 0);
	reborn_expect_quiet(&d);
	duo_close(&d);
}

/* The reader has a part: it is told, once. */
static void test_cut_seen(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	for (int finish = 0; finish < 2; finish++) {
		duo_open(&d, &small);
		duo_stream(&d, &b, &a);
		send_text(b, "be", SHMIPC_MORE);
		expect(a, "be", 1, SHMIPC_MSG_MORE);
		send_text(b, "gun", SHMIPC_MORE);
		b = renew(&d.b, b, true);
		if (finish)
			assert_int_equal(shmipc_finish(b), 0);
		else
			send_text(b, "next", 0);
		duo_drain(d.a);
		assert_int_equal(read_one(a), -ECANCELED);
		if (finish)
			assert_int_equal(read_one(a), 0);
		else
			expect(a, "next", 6, 0);
		reborn_expect_quiet(&d);
		duo_close(&d);
	}
}

/* A program that stopped in good order goes on with its message. */
static void test_parts_handed_over(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	send_text(b, "be", SHMIPC_MORE);
	b = renew(&d.b, b, false);
	send_text(b, "gun", 0);
	duo_drain(d.a);
	struct shmipc_message m;

	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(m.len, 5);
	assert_int_equal(m.flags, 0);
	assert_int_equal(shmipc_return(a, &m), 0);
	duo_close(&d);
}

/* Parts between which others were returned are not put together. */
static void test_gap(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m[3];
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 3; i++) {
		send_text(b, (const char *[]){ "1", "2", "3" }[i], i < 2 ? SHMIPC_MORE : 0);
		assert_int_equal(shmipc_peek(a, &m[i], 0), 1);
	}
	assert_int_equal(shmipc_return(a, &m[1]), 0);
	a = renew(&d.a, a, true);
	expect(a, "1", 1, SHMIPC_MSG_MORE | SHMIPC_MSG_REDELIVERED);
	expect(a, "3", 3, SHMIPC_MSG_REDELIVERED);
	duo_close(&d);
}

/* Both ends ring once: the successor by itself, its peer when it hears of it. */
static void test_both_ring(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	uint64_t rung;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	rung = duo_stats(d.b_ep).doorbells;
	assert_int_equal(reborn(&d.b, true), 0);
	assert_int_equal(duo_stats(d.b_ep).doorbells, rung + 1);
	rung = duo_stats(d.a_ep).doorbells;
	lock(&d.a_ep->poll_lock);
	assert_true(session_event(d.a, SHMIPC_CAUSE_PEER_CHANGED));
	unlock(&d.a_ep->poll_lock);
	assert_int_equal(duo_stats(d.a_ep).doorbells, rung + 1);
	assert_false(list_empty(&d.a->hot));
	duo_close(&d);
}

/* ---- what is refused ------------------------------------------------------------------ */

static void test_refused(void **state)
{
	struct segment_header *own, *peer;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	own = d.b->tx.segments[0].addr;
	peer = d.a->tx.segments[0].addr;
	own->version++;
	assert_int_equal(reborn(&d.b, true), -EPROTO);
	own->version--;
	own->magic++;
	assert_int_equal(reborn(&d.b, true), -EBADMSG);
	own->magic--;
	own->window = 0;
	assert_int_equal(reborn(&d.b, true), -EBADMSG);
	own->window = 65536;
	peer->version++;
	assert_int_equal(reborn(&d.b, true), -EBADMSG);
	peer->version--;
	/* Unharmed by all of it. */
	duo_send(b, a, 3000);
	b = renew(&d.b, b, true);
	duo_send(b, a, 3000);
	duo_close(&d);
}

/* Two frames that are out can't have the same bytes of an arena. */
static void test_overlap(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, (char [1000]){ 0 }, 1000, 0, 0), 1000);
	assert_int_equal(shmipc_write(b, (char [1000]){ 0 }, 1000, 0, 0), 1000);
	d.b->tx.ring[3].block.offset = d.b->tx.ring[2].block.offset + 128;
	assert_int_equal(reborn(&d.b, true), -EBADMSG);
	d.b->tx.ring[3].block.offset = d.b->tx.ring[2].block.offset;
	assert_int_equal(reborn(&d.b, true), -EBADMSG);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goes_on), cmocka_unit_test(test_counted_late), cmocka_unit_test(test_buffer),
		cmocka_unit_test(test_redelivered),
		cmocka_unit_test(test_handed_over), cmocka_unit_test(test_half_read),
		cmocka_unit_test(test_reserved), cmocka_unit_test(test_finished),
		cmocka_unit_test(test_end_before_return),
		cmocka_unit_test(test_end_told_again), cmocka_unit_test(test_reset),
		cmocka_unit_test(test_owed), cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_opened_and_closed), cmocka_unit_test(test_cut_unseen),
		cmocka_unit_test(test_cut_seen), cmocka_unit_test(test_parts_handed_over),
		cmocka_unit_test(test_gap), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_overlap), cmocka_unit_test(test_wraps),
		cmocka_unit_test(test_buffer_of_reset), cmocka_unit_test(test_both_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
