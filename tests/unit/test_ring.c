// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The frame ring, the live table and the return ring, each round more than once. */
#include "barrier.h"
#include "duo.h"

static void test_both_ways(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (unsigned int i = 0; i < 3000; i++) {
		duo_send(b, a, 1 + i % 300);
		duo_send(a, b, 1 + (i * 7) % 5000);
	}
	assert_int_equal(duo_stats(d.b_ep).messages_sent, 3001);
	assert_int_equal(duo_stats(d.a_ep).messages_received, 3001);
	assert_int_equal(duo_stats(d.b_ep).bytes_received, duo_stats(d.a_ep).bytes_sent);
	assert_int_equal(duo_stats(d.b_ep).parked, 0);
	duo_close(&d);
}

/* All that is counted modulo 2^32 passes it, on both sides. */
static void test_past_2_to_32(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	for (uint64_t before = 0; before < 5; before++) {
		duo_open_at(&d, NULL, (1ULL << 32) - before * 61);
		duo_stream(&d, &b, &a);
		for (unsigned int i = 0; i < 500; i++) {
			duo_send(b, a, 1 + i);
			duo_send(a, b, 1 + 2 * i);
		}
		assert_true(d.b->tx.next > 1ULL << 32);
		assert_int_equal(shmipc_session_error(d.a), 0);
		duo_close(&d);
	}
}

/* ---- positions ---------------------------------------------------------------- */

/* The next message in one piece or in parts, with its position, and what a successor would read. */
static void send_and_peek(struct shmipc_stream *b, struct shmipc_stream *a, size_t len, uint64_t at)
{
	uint8_t *out = malloc(len);
	struct shmipc_message m;
	size_t got = 0;

	duo_fill(out, len, at);
	assert_int_equal(shmipc_write(b, out, len, 0, LIMIT), len);
	assert_true(b->session->tx.records[b->slot].sent == at + len);
	do {
		assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
		assert_true(m.position == at + got);
		for (uint32_t i = 0; i < m.nspans; i++) {
			assert_memory_equal(m.spans[i].data, out + got, m.spans[i].len);
			got += m.spans[i].len;
		}
		assert_true(a->session->tx.records[a->slot].consumed == at + got);
		assert_int_equal(shmipc_return(a, &m), 0);
	} while (m.flags & SHMIPC_MSG_MORE);
	assert_int_equal(got, len);
	free(out);
}

/* Byte by byte reads of a message that lies across @edge. */
static void read_across(struct shmipc_stream *b, struct shmipc_stream *a, uint64_t edge)
{
	uint8_t out[200], in[200];

	duo_stream_at(b, a, edge - 100);
	duo_fill(out, sizeof(out), 1);
	assert_int_equal(shmipc_write(b, out, sizeof(out), 0, LIMIT), sizeof(out));
	for (unsigned int i = 0; i < sizeof(in); i++)
		assert_int_equal(shmipc_read(a, &in[i], 1, LIMIT), 1);
	assert_memory_equal(in, out, sizeof(out));
	assert_true(a->rx_position == edge + 100);
}

/* Of 64 bits: 2^32 is a position like any other, and after 2^64 - 1 comes 0, on both sides. */
static void test_positions(void **state)
{
	static const uint64_t edges[] = { 1ULL << 32, 1ULL << 63, 0 };
	static const size_t lens[] = { 1, 5, 96, 97, 4096, 300000, 900000 };
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	for (unsigned int e = 0; e < 3; e++) {
		duo_open(&d, NULL);
		duo_stream(&d, &b, &a);
		for (unsigned int i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			/* Ends before it, at it, one beyond, and lies across. */
			static const int before[] = { 1, 0, -1 };

			for (int j = 0; j < 4; j++) {
				uint64_t at = j < 3 ? edges[e] - lens[i] - before[j] :
					      edges[e] - lens[i] / 2;

				duo_stream_at(b, a, at);
				send_and_peek(b, a, lens[i], at);
				send_and_peek(b, a, 3, at + lens[i]);
			}
		}
		read_across(b, a, edges[e]);
		duo_close(&d);
	}
}

/* Beyond an edge, only the position that comes there is believed. */
static void test_position_refused(void **state)
{
	static const uint64_t edges[] = { 1ULL << 32, 0 };
	struct shmipc_stream *a, *b;
	struct frame f;
	struct duo d;
	char buf[8];

	(void)state;
	for (unsigned int i = 0; i < 6; i++) {
		uint64_t edge = edges[i / 3], lie[] = { edge, edge ^ 1ULL << 32, edge - 1 };

		duo_open(&d, NULL);
		duo_stream(&d, &b, &a);
		duo_stream_at(b, a, edge - 4);
		assert_int_equal(shmipc_write(b, "four", 4, 0, LIMIT), 4);
		assert_int_equal(shmipc_read(a, buf, 4, LIMIT), 4);
		f = duo_frame(b);
		f.position = lie[i % 3];
		duo_inject(d.b, &f);
		assert_int_equal(shmipc_read(a, buf, 1, MS), i % 3 ? -EBADMSG : 1);
		duo_close(&d);
	}
}

/* ---- parking ------------------------------------------------------------------ */

enum { KEPT = 9 };

static void keep_and_pass(struct duo *d)
{
	struct shmipc_stream *a, *b, *a2, *b2;
	struct shmipc_message kept[KEPT];
	uint8_t buf[400];
	uint16_t ids[KEPT];

	duo_stream(d, &b, &a);
	duo_stream(d, &b2, &a2);
	for (int i = 0; i < KEPT; i++) {
		/* Some in the frame, some in the arena; some time between them. */
		duo_fill(buf, 40 * (i + 1), i);
		assert_int_equal(shmipc_write(b, buf, 40 * (i + 1), 0, LIMIT), 40 * (i + 1));
		assert_int_equal(shmipc_peek(a, &kept[i], LIMIT), 1);
		ids[i] = ((struct rx_node *)kept[i].lease[0])->live;
		for (int j = 0; j < 20 * i; j++)
			duo_send(b2, a2, 1 + j);
	}
	for (int i = 0; i < 1000; i++)
		duo_send(b2, a2, 1 + i % 200);
	/* The ring went round: each is in the live table, once, with its seq, and still as it was. */
	assert_int_equal(duo_stats(d->b_ep).parked, KEPT);
	for (int i = 0; i < KEPT; i++) {
		const struct frame *entry = &d->b->tx.live_table[ids[i]];
		const struct rx_node *node = kept[i].lease[0];

		assert_true(entry->seq == node->seq);
		assert_int_equal(entry->stream, b->slot);
		assert_int_equal(entry->live, ids[i]);
		assert_true(entry->position == kept[i].position);
		duo_fill(buf, 40 * (i + 1), i);
		assert_int_equal(kept[i].len, 40 * (i + 1));
		assert_memory_equal(kept[i].spans[0].data, buf, kept[i].len);
		if (kept[i].len <= INLINE_MAX)
			assert_memory_equal(entry->data, buf, kept[i].len);
	}
	/* In an order of their own; the sender then forgets them. */
	for (int i = 0; i < KEPT; i++)
		assert_int_equal(shmipc_return(a, &kept[(i * 4 + 2) % KEPT]), 0);
	duo_send(b2, a2, 300);
	duo_send(b2, a2, 300);
	for (int i = 0; i < KEPT; i++)
		assert_true(d->b->tx.live_table[ids[i]].seq == 0);
	assert_int_equal(b->out_data, 0);
	assert_int_equal(b->out_bytes, 0);
}

static void test_parked(void **state)
{
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	keep_and_pass(&d);
	duo_close(&d);
}

static void test_parked_past_2_to_32(void **state)
{
	struct duo d;

	(void)state;
	duo_open_at(&d, NULL, (1ULL << 32) - 200);
	keep_and_pass(&d);
	duo_close(&d);
}

/* ---- returns ---------------------------------------------------------------------- */

/* The ring then holds words of the lap that it is in, and of the one before. */
static void set_returned(struct duo *d, uint32_t returned)
{
	uint32_t n = d->a->rx.nr_returns, lap = returned / n + 1;

	assert_int_equal(duo_reap(d->b), 0);
	d->a->rx.returned = returned;
	d->b->tx.reaped = returned;
	for (uint32_t i = 0; i < n; i++)
		d->a->rx.returns[i] = RETURN_WORD(i < returned % n ? lap : lap - 1, 0xffff, 7);
}

/* Laps have 16 bits: the ring is set as if many had gone by, and passes their end. */
static void test_laps(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (uint32_t lap = 65534; lap < 65538; lap++) {
		if (lap == 65534)
			duo_stream(&d, &b, &a);
		set_returned(&d, lap * d.a->rx.nr_returns + d.a->rx.nr_returns - 3);
		for (int i = 0; i < 10; i++)
			duo_send(b, a, 500);
		assert_int_equal(shmipc_session_error(d.b), 0);
		assert_int_equal(b->out_data, 1);
	}
	duo_close(&d);
}

/* The count of returns itself has 32 bits. */
static void test_returned_past_2_to_32(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	set_returned(&d, -20U);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 2000; i++)
		duo_send(b, a, 1 + i);
	assert_int_equal(d.a->rx.returned, 1981);
	duo_close(&d);
}

/* The one return whose word would be 0: lap, entry and seq all wrapped. */
static void test_word_of_zeroes(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open_at(&d, NULL, (1ULL << 32) - 1);
	duo_stream(&d, &b, &a);
	duo_send(b, a, 1);
	set_returned(&d, 65535 * d.a->rx.nr_returns);
	d.b->tx.next = 1ULL << 32;
	d.a->rx.next = 1ULL << 32;
	d.b->tx.ring[0].seq = (1ULL << 32) - d.b->tx.slots;
	/* Of entry 0, whatever had it. */
	d.b->tx.nr_free = d.b->tx.nr_live;
	for (uint32_t i = 0; i < d.b->tx.nr_live; i++) {
		d.b->tx.live[i].stream = NULL;
		d.b->tx.free_ids[i] = i + 1 < d.b->tx.nr_live ? i + 1 : 0;
	}
	b->out_data = 0;
	b->out_bytes = 0;
	d.b->tx.bytes = d.b->tx.shared_entries = 0;
	duo_send(b, a, 1);
	assert_true(d.a->rx.returns[0] == 0);
	assert_int_equal(duo_reap(d.b), 0);
	assert_int_equal(b->out_data, 0);
	duo_close(&d);
}

/* ---- lying about returns -------------------------------------------------------------- */

struct lie {
	const char *what;
	int lap, id, seq;	/* added to the honest ones */
	bool twice;
	int expected;
};

static const struct lie lies[] = {
	{ "nothing (positive control)", 0, 0, 0, false, 1000 },
	{ "the lap: seen as not written yet", 1, 0, 0, false, 1000 },
	{ "the entry: one never sent", 0, -1, 0, false, -EBADMSG },
	{ "the entry: far out of range", 0, 40000, 0, false, -EBADMSG },
	{ "the seq: one more", 0, 0, 1, false, -EBADMSG },
	{ "the seq: one less", 0, 0, -1, false, -EBADMSG },
	{ "it twice", 0, 0, 0, true, -EBADMSG },
};

static void store_return(struct duo *d, int lap, int id, int seq)
{
	struct rx *rx = &d->a->rx;
	uint32_t n = rx->returned++;

	store_release(&rx->returns[n & (rx->nr_returns - 1)],
		      RETURN_WORD(n / rx->nr_returns + 1 + lap, id, seq));
}

static void test_lying_returns(void **state)
{
	uint8_t buf[1000] = { 0 };

	(void)state;
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct shmipc_stream *a, *b;
		struct shmipc_message m;
		struct rx_node *node;
		struct duo d;
		ssize_t n;

		duo_open(&d, NULL);
		duo_stream(&d, &b, &a);
		assert_int_equal(shmipc_write(b, buf, sizeof(buf), 0, LIMIT), sizeof(buf));
		assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
		node = m.lease[0];
		store_return(&d, lies[i].lap, node->live + lies[i].id, node->seq + lies[i].seq);
		if (lies[i].twice)
			store_return(&d, 0, node->live, node->seq);
		n = shmipc_write(b, buf, sizeof(buf), 0, 0);
		if (n != lies[i].expected)
			fail_msg("a lie about %s: write answers %zd", lies[i].what, n);
		if (n < 0) {
			assert_int_equal(shmipc_session_error(d.b), -EBADMSG);
			assert_int_equal(shmipc_read(b, buf, 1, LIMIT), -EBADMSG);
			assert_int_equal(shmipc_write(b, buf, 1, 0, LIMIT), -EBADMSG);
		}
		duo_close(&d);
	}
}

/* An entry that is reserved and not sent can't be returned either. */
static void test_return_of_reserved(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_reserve(b, 1000, &data, LIMIT), 0);
	store_return(&d, 0, b->reserve.live, 0);
	assert_int_equal(duo_reap(d.b), -EBADMSG);
	duo_close(&d);
}

/* ---- handing back ------------------------------------------------------------------------ */

static void test_return_twice(void **state)
{
	struct shmipc_message m, again;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, 0, LIMIT), 1);
	assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
	again = m;
	assert_int_equal(shmipc_return(a, &m), 0);
	assert_int_equal(shmipc_return(a, &again), -EINVAL);
	duo_send(b, a, 10);
	assert_int_equal(shmipc_session_error(d.b), 0);
	duo_close(&d);
}

/* Whatever the length: a struct can be written, and read, where it lies. */
static void test_aligned(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (size_t len = 1; len < 1000; len += 13) {
		assert_int_equal(shmipc_reserve(b, len, &data, 0), 0);
		assert_int_equal((uintptr_t)data % 16, 0);
		memset(data, 1, len);
		assert_int_equal(shmipc_commit(b, len, 0), 0);
		assert_int_equal(shmipc_peek(a, &m, 0), 1);
		assert_int_equal((uintptr_t)m.spans[0].data % 16, 0);
		assert_int_equal(shmipc_return(a, &m), 0);
	}
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aligned),
		cmocka_unit_test(test_both_ways), cmocka_unit_test(test_past_2_to_32),
		cmocka_unit_test(test_positions), cmocka_unit_test(test_position_refused),
		cmocka_unit_test(test_parked), cmocka_unit_test(test_parked_past_2_to_32),
		cmocka_unit_test(test_laps), cmocka_unit_test(test_returned_past_2_to_32),
		cmocka_unit_test(test_word_of_zeroes), cmocka_unit_test(test_lying_returns),
		cmocka_unit_test(test_return_of_reserved), cmocka_unit_test(test_return_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
