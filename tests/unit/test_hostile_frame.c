// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Every field of a frame, told wrong: the session ends with -EBADMSG and the process lives. Each row
 * changes one thing in a frame that is accepted otherwise.
 */
#include <pthread.h>
#include "barrier.h"
#include "duo.h"

enum base { INLINE, BLOCK, FIN, RESET, BUFFER };

struct row {
	const char *what;
	enum base base;
	void (*change)(struct duo *d, struct frame *f, struct shmipc_stream *st);
	int expected;			/* of the read that meets it */
};

#define CHANGE(name, ...) \
	static void name(struct duo *d, struct frame *f, struct shmipc_stream *st) \
	{ \
		(void)d; \
		(void)f; \
		(void)st; \
		__VA_ARGS__; \
	}

CHANGE(nothing, (void)0)
CHANGE(kind_0, f->kind = 0)
CHANGE(kind_5, f->kind = 5)
CHANGE(kind_255, f->kind = 255)
CHANGE(flag_8, f->flags |= 8)
CHANGE(flag_80, f->flags |= 0x80)
CHANGE(type, f->type = 1)
CHANGE(returns, f->returns = 1)
CHANGE(block_reserved, f->block.serial = 1)
CHANGE(returns_high, f->returns = 1U << 31)
CHANGE(stream_count, f->stream = d->a->nr_streams)
CHANGE(stream_max, f->stream = 0xffff)
CHANGE(stream_unopened, f->stream += 2)
CHANGE(stream_parity, f->stream = 1; f->flags |= FRAME_F_OPEN; f->generation = 1; f->position = 0)
CHANGE(live_count, f->live = d->a->rx.nr_live)
CHANGE(live_max, f->live = 0xffff)
CHANGE(live_used, f->live = d->b->tx.slot_ids[(d->b->tx.next - 1) & (d->b->tx.slots - 1)])
CHANGE(generation_newer, f->generation++)
CHANGE(generation_far, f->generation += 0x7fffffff)
CHANGE(opened_twice, f->flags |= FRAME_F_OPEN)
CHANGE(slot_in_use, f->flags |= FRAME_F_OPEN; f->generation++; f->position = 0)
CHANGE(position_more, f->position++)
CHANGE(position_less, f->position--)
CHANGE(position_0, f->position = 0)
CHANGE(position_max, f->position = UINT64_MAX)
CHANGE(length_0, f->length = 0)
CHANGE(length_97, f->length = INLINE_MAX + 1)
CHANGE(length_max, f->length = UINT8_MAX)
CHANGE(length_some, f->length = 1)
CHANGE(slot_none, f->block.slot = 7)
CHANGE(slot_out, f->block.slot = SHMIPC_SLOTS_MAX)
CHANGE(slot_max, f->block.slot = UINT32_MAX)
CHANGE(offset_0, f->block.offset = 0)
CHANGE(offset_ring, f->block.offset = d->a->rx.arena_offset - PAYLOAD_ALIGN)
CHANGE(offset_end, f->block.offset = d->b->tx.segments[0].len - 4096; f->block.length = 4097)
CHANGE(offset_odd, f->block.offset += 8; f->block.length -= 8)
CHANGE(offset_out, f->block.offset = d->b->tx.segments[0].len)
CHANGE(offset_far, f->block.offset = 1ULL << 40)
CHANGE(offset_wraps, f->block.offset = UINT64_MAX - 10)
CHANGE(block_length_0, f->block.length = 0)
CHANGE(block_length_far, f->block.length = d->b->tx.segments[0].len)
CHANGE(block_length_max, f->block.length = UINT64_MAX)
CHANGE(block_length_wraps, f->block.length = -f->block.offset)
CHANGE(block_last_byte, f->block.offset = d->b->tx.segments[0].len - 4096; f->block.length = 4096)

CHANGE(slot_buffer, f->block.slot = BUF_SLOT_FIRST)
CHANGE(slot_arena, f->block.slot = BUF_SLOT_FIRST - 1)
CHANGE(slot_0, f->block.slot = 0)
CHANGE(slot_other, f->block.slot = BUF_SLOT_FIRST + 1)
CHANGE(serial_0, f->block.serial = 0)
CHANGE(serial_2, f->block.serial = 2)
CHANGE(given, f->flags |= FRAME_F_GIVEN)
CHANGE(offset_1, f->block.offset = 1)
CHANGE(offset_page, f->block.offset = 4096; f->block.length = 4096)
CHANGE(buffer_all, f->block.length = 8192)
CHANGE(buffer_more, f->block.length = 8193)

static const struct row rows[] = {
	{ "nothing", INLINE, nothing, 1 },
	{ "nothing", BLOCK, nothing, 1000 },
	{ "nothing", FIN, nothing, 0 },
	{ "nothing", RESET, nothing, -ECONNRESET },
	{ "a block at the segment's end", BLOCK, block_last_byte, 1000 },
	{ "kind 0", INLINE, kind_0, -EBADMSG },
	{ "kind 5", INLINE, kind_5, -EBADMSG },
	{ "kind 255", BLOCK, kind_255, -EBADMSG },
	{ "flag 8", INLINE, flag_8, -EBADMSG },
	{ "flag 0x80", FIN, flag_80, -EBADMSG },
	{ "type", INLINE, type, -EBADMSG },
	{ "type of a block", BLOCK, type, -EBADMSG },
	{ "returns, inline", INLINE, returns, -EBADMSG },
	{ "returns, in a block", BLOCK, returns, -EBADMSG },
	{ "the reserved word of a block", BLOCK, block_reserved, -EBADMSG },
	{ "returns, in a FIN", FIN, returns_high, -EBADMSG },
	{ "stream = count", INLINE, stream_count, -EBADMSG },
	{ "stream = 65535", INLINE, stream_max, -EBADMSG },
	{ "stream that was never opened", INLINE, stream_unopened, -EBADMSG },
	{ "FIN of a stream that was never opened", FIN, stream_unopened, -EBADMSG },
	{ "RESET of a stream that was never opened", RESET, stream_unopened, -EBADMSG },
	{ "opens a slot of the other parity", INLINE, stream_parity, -EBADMSG },
	{ "live = count", INLINE, live_count, -EBADMSG },
	{ "live = 65535", BLOCK, live_max, -EBADMSG },
	{ "live entry of an unreturned frame", INLINE, live_used, -EBADMSG },
	{ "newer generation without OPEN", INLINE, generation_newer, -EBADMSG },
	{ "far newer generation without OPEN", FIN, generation_far, -EBADMSG },
	{ "OPEN of the same generation", INLINE, opened_twice, -EBADMSG },
	{ "OPEN on a slot in use", INLINE, slot_in_use, -EBADMSG },
	{ "position + 1", INLINE, position_more, -EBADMSG },
	{ "position - 1", BLOCK, position_less, -EBADMSG },
	{ "position 0", FIN, position_0, -EBADMSG },
	{ "position 2^64 - 1", RESET, position_max, -EBADMSG },
	{ "inline length 0", INLINE, length_0, -EBADMSG },
	{ "inline length 97", INLINE, length_97, -EBADMSG },
	{ "inline length 255", INLINE, length_max, -EBADMSG },
	{ "length of a FIN", FIN, length_some, -EBADMSG },
	{ "length of a RESET", RESET, length_some, -EBADMSG },
	{ "inline length of a block", BLOCK, length_some, -EBADMSG },
	{ "segment that was not granted", BLOCK, slot_none, -EBADMSG },
	{ "segment out of range", BLOCK, slot_out, -EBADMSG },
	{ "segment 2^32 - 1", BLOCK, slot_max, -EBADMSG },
	{ "offset 0: the header", BLOCK, offset_0, -EBADMSG },
	{ "offset in the stream table", BLOCK, offset_ring, -EBADMSG },
	{ "one byte too far", BLOCK, offset_end, -EBADMSG },
	{ "offset that is not aligned", BLOCK, offset_odd, -EBADMSG },
	{ "offset at the end", BLOCK, offset_out, -EBADMSG },
	{ "offset far away", BLOCK, offset_far, -EBADMSG },
	{ "offset that wraps", BLOCK, offset_wraps, -EBADMSG },
	{ "block length 0", BLOCK, block_length_0, -EBADMSG },
	{ "block length beyond the end", BLOCK, block_length_far, -EBADMSG },
	{ "block length 2^64 - 1", BLOCK, block_length_max, -EBADMSG },
	{ "block length that wraps", BLOCK, block_length_wraps, -EBADMSG },
	{ "a block in a buffer", BLOCK, slot_buffer, -EBADMSG },
	{ "given, and no buffer", BLOCK, given, -EBADMSG },
	{ "given, and a FIN", FIN, given, -EBADMSG },
	{ "nothing", BUFFER, nothing, 1000 },
	{ "given", BUFFER, given, 1000 },
	{ "all of a buffer", BUFFER, buffer_all, 1000 },
	{ "the next serial", BUFFER, serial_2, 1000 },
	{ "serial 0", BUFFER, serial_0, -EBADMSG },
	{ "a buffer in an arena's slot", BUFFER, slot_arena, -EBADMSG },
	{ "a buffer in slot 0", BUFFER, slot_0, -EBADMSG },
	{ "a buffer that was not granted", BUFFER, slot_other, -EBADMSG },
	{ "a buffer out of range", BUFFER, slot_out, -EBADMSG },
	{ "a buffer 2^32 - 1", BUFFER, slot_max, -EBADMSG },
	{ "a buffer from its second byte", BUFFER, offset_1, -EBADMSG },
	{ "a buffer from its second page", BUFFER, offset_page, -EBADMSG },
	{ "a buffer's offset far away", BUFFER, offset_far, -EBADMSG },
	{ "a buffer's length 0", BUFFER, block_length_0, -EBADMSG },
	{ "a buffer's length beyond its end", BUFFER, buffer_more, -EBADMSG },
	{ "a buffer's length 2^64 - 1", BUFFER, block_length_max, -EBADMSG },
	{ "inline length of a buffer", BUFFER, length_some, -EBADMSG },
	{ "type of a buffer", BUFFER, type, -EBADMSG },
	{ "returns, in a buffer", BUFFER, returns, -EBADMSG },
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))

/* A message before it, so that position and entries are not those of a beginning. */
static void begin(struct duo *d, struct shmipc_stream **b, struct shmipc_stream **a,
		  struct shmipc_message *held)
{
	struct shmipc_buf *buf;

	duo_open(d, NULL);
	duo_stream(d, b, a);
	/* One of two pages in the first slot that a buffer can have. */
	assert_int_equal(shmipc_buf_new(d->b_ep, 8192, &buf), 0);
	assert_int_equal(shmipc_buf_send(*b, buf, 8192, 0, LIMIT), 0);
	assert_int_equal(shmipc_peek(*a, held, LIMIT), 1);
	assert_int_equal(shmipc_return(*a, held), 0);
	assert_int_equal(shmipc_buf_wait(buf, LIMIT), 0);
	assert_int_equal(shmipc_write(*b, "held", 4, 0, LIMIT), 4);
	assert_int_equal(shmipc_peek(*a, held, LIMIT), 1);
}

static struct frame make(struct duo *d, struct shmipc_stream *b, enum base base)
{
	struct frame f = duo_frame(b);

	if (base == INLINE)
		return f;
	f.length = 0;
	f.kind = base == BLOCK ? FRAME_BLOCK : base == BUFFER ? FRAME_BUFFER :
		 base == FIN ? FRAME_FIN : FRAME_RESET;
	if (base == BUFFER)
		f.block = (typeof(f.block)){ .slot = BUF_SLOT_FIRST, .serial = 1,
					     .length = 1000 };
	if (base == BLOCK)
		f.block = (typeof(f.block)){ .slot = 0, .offset = d->a->rx.arena_offset + 4096,
					     .length = 1000 };
	return f;
}

static void test_each_field(void **state)
{
	char buf[1000];

	(void)state;
	for (unsigned int i = 0; i < NROWS; i++) {
		struct shmipc_stream *a, *b;
		struct shmipc_message held;
		struct frame f;
		struct duo d;
		ssize_t n;

		begin(&d, &b, &a, &held);
		f = make(&d, b, rows[i].base);
		rows[i].change(&d, &f, b);
		duo_inject(d.b, &f);
		n = shmipc_read(a, buf, sizeof(buf), MS);
		if (n != rows[i].expected)
			fail_msg("row %u, %s: %zd instead of %d", i, rows[i].what, n,
				 rows[i].expected);
		assert_int_equal(shmipc_session_error(d.a), n == -EBADMSG ? n : 0);
		/* What was held before is still there. */
		assert_memory_equal(held.spans[0].data, "held", 4);
		assert_int_equal(shmipc_return(a, &held), 0);
		if (n == -EBADMSG) {
			struct shmipc_stream *other;

			assert_int_equal(shmipc_write(a, "x", 1, 0, LIMIT), -EBADMSG);
			assert_int_equal(shmipc_stream_open(d.a, &other), -EBADMSG);
			assert_int_equal(shmipc_stream_accept(d.a, &other, LIMIT), -EBADMSG);
		}
		duo_close(&d);
	}
}

/* Of a buffer that is held, the slot can't be another's. */
static void test_buffer_held(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message held, buffer;
	struct frame f;
	struct duo d;

	(void)state;
	begin(&d, &b, &a, &held);
	f = make(&d, b, BUFFER);
	duo_inject(d.b, &f);
	assert_int_equal(shmipc_peek(a, &buffer, LIMIT), 1);
	assert_int_equal(buffer.len, 1000);
	f.position += 1000;
	f.live--;
	f.block.serial++;
	duo_inject(d.b, &f);
	assert_int_equal(shmipc_peek(a, &buffer, MS), -EBADMSG);
	assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
	duo_close(&d);
}

/* ---- the word that publishes -------------------------------------------------- */

static void put_seq(struct duo *d, uint64_t seq, int expected, const char *what)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message held;
	struct tx *tx;
	struct frame f;
	char buf[8];
	ssize_t n;

	begin(d, &b, &a, &held);
	f = duo_frame(b);
	tx = &d->b->tx;
	seq += tx->next;
	duo_inject(d->b, &f);
	store_release(&tx->ring[(tx->next - 1) & (tx->slots - 1)].seq, seq);
	n = shmipc_read(a, buf, sizeof(buf), MS);
	if (n != expected)
		fail_msg("seq %s: %zd instead of %d", what, n, expected);
	duo_close(d);
}

static void test_seq(void **state)
{
	struct duo d;

	(void)state;
	put_seq(&d, 0, 1, "right");
	put_seq(&d, 1, -EBADMSG, "+ 1");
	put_seq(&d, -1ULL, -EBADMSG, "- 1");
	put_seq(&d, 128, -EBADMSG, "of the next lap");
	put_seq(&d, -128ULL, -EBADMSG, "of the last lap, when there was none");
	put_seq(&d, 1ULL << 32, -EBADMSG, "+ 2^32");
	put_seq(&d, 1ULL << 63, -EBADMSG, "+ 2^63");
	put_seq(&d, -4ULL, -ETIMEDOUT, "0: not there yet");
}

/* ---- the ends of streams --------------------------------------------------------- */

static void after(enum base first, enum base second, int expected)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message held;
	struct frame f;
	struct duo d;
	char buf[8];
	ssize_t n;

	begin(&d, &b, &a, &held);
	f = make(&d, b, first);
	duo_inject(d.b, &f);
	f = make(&d, b, second);
	f.live--;
	duo_inject(d.b, &f);
	n = shmipc_read(a, buf, sizeof(buf), MS);
	assert_int_equal(n, first == FIN ? 0 : -ECONNRESET);
	/* Seen at the latest by who waits. */
	assert_int_equal(shmipc_stream_accept(d.a, &a, LIMIT), expected);
	assert_int_equal(shmipc_session_error(d.a), expected);
	duo_close(&d);
}

static void test_after_the_end(void **state)
{
	(void)state;
	after(FIN, INLINE, -EBADMSG);
	after(FIN, FIN, -EBADMSG);
	after(RESET, INLINE, -EBADMSG);
	after(RESET, FIN, -EBADMSG);
	after(RESET, RESET, -EBADMSG);
}

/* Of an older generation: the peer can't know yet. Back at once, and nothing comes of it. */
static void test_older_generation(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message held;
	uint32_t returned;
	struct frame f;
	struct duo d;
	char buf[8];

	(void)state;
	begin(&d, &b, &a, &held);
	f = duo_frame(b);
	f.generation--;
	returned = d.a->rx.returned;
	duo_inject(d.b, &f);
	assert_int_equal(shmipc_read(a, buf, sizeof(buf), MS), -ETIMEDOUT);
	assert_int_equal(d.a->rx.returned, returned + 1);
	assert_int_equal(shmipc_session_error(d.a), 0);
	/* The same entry can be used again. */
	f.generation++;
	duo_inject(d.b, &f);
	assert_int_equal(shmipc_read(a, buf, sizeof(buf), MS), 1);
	duo_close(&d);
}

/* ---- words that only the liar suffers from ------------------------------------------- */

static uint32_t noise(void)
{
	return (uint32_t)random() << 1 ^ random();
}

static void test_control_words(void **state)
{
	struct shmipc_stream *a, *b;
	struct control *c;
	struct duo d;
	uint64_t bells;

	(void)state;
	srandom(2);
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	c = d.b->rx.control;
	bells = duo_stats(d.a_ep).doorbells;
	for (int i = 0; i < 5000; i++) {
		store_relaxed(&c->rx_event, random() % 3 ? (uint32_t)d.b->rx.next : noise());
		store_relaxed(&c->tx_event, random() % 3 ? d.a->rx.returned : noise());
		store_relaxed(&c->slot_event, noise());
		store_relaxed(&c->cpu, noise());
		duo_send(b, a, 1 + i % 300);
		duo_send(a, b, 1 + i % 300);
		assert_int_equal(shmipc_session_error(d.a), 0);
	}
	/* A bell for each frame and each return at most, however often it seems due. */
	bells = duo_stats(d.a_ep).doorbells - bells;
	print_message("%lu bells for 10,000 frames and returns\n", bells);
	assert_in_range(bells, 1000, 10100);
	duo_close(&d);
}

/* A cursor beyond what was sent, or going back, is not believed: the ring is never overrun. */
static void test_cursor(void **state)
{
	static const uint32_t lies[] = { 1000, 0x80000000, UINT32_MAX, 0 };
	struct shmipc_stream *a, *b;
	struct duo d;
	int sent;

	(void)state;
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		duo_open(&d, NULL);
		duo_stream(&d, &a, &b);
		/* a sends; nobody drains; b says that it took more than there was. */
		for (sent = 0; shmipc_write(b, "x", 1, 0, 0) == 1; sent++)
			store_relaxed(&d.b->rx.control->rx_cursor, lies[i]);
		assert_in_range(sent, 1, d.a->tx.slots);
		assert_true((uint32_t)d.a->tx.next - d.a->tx.cursor <= d.a->tx.slots);
		/* The first that had to wait was told. */
		assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
		duo_close(&d);
	}
}

/* ---- a connector's segment --------------------------------------------------------------- */

struct knock {
	const char *name;
	size_t len, offset;
	uint32_t value;
	int err;
};

static void *knock_thread(void *arg)
{
	struct knock *k = arg;
	struct provider *pv;
	struct pv_segment segment;
	struct shmipc_peer peer;
	struct geometry geo;
	uint32_t handle;

	assert_int_equal(provider_local.open(&pv), 0);
	assert_int_equal(pv->ops->segment_create(pv, k->len, false, &segment), 0);
	geometry_for(&geo, 128);
	if (k->len >= geo.arena)
		geometry_write(&geo, segment.addr);
	memcpy((char *)segment.addr + k->offset, &k->value, k->value ? sizeof(k->value) : 0);

	struct pv_connect connect = { .name = k->name, .segment = &segment, .timeout_ns = LIMIT };

	k->err = pv->ops->connect(pv, &connect, &handle, &peer);
	pv->ops->close(pv, false);
	return NULL;
}

static void test_first_segment(void **state)
{
	static struct knock knocks[] = {
		{ .len = 1 << 17 },
		{ .len = 1 << 17, .offset = offsetof(struct segment_header, magic), .value = 1 },
		{ .len = 1 << 17, .offset = offsetof(struct segment_header, version), .value = 9 },
		{ .len = 1 << 17, .offset = offsetof(struct segment_header, slots), .value = 3 },
		{ .len = 1 << 17, .offset = offsetof(struct segment_header, streams),
		  .value = 16384 },
		{ .len = 4096 },
	};
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;

	(void)state;
	setenv("SHMIPC_PROVIDER", "local", 1);
	assert_int_equal(shmipc_open(&ep, 0), 0);
	assert_int_equal(shmipc_listen(ep, "test.knock", NULL, &listener), 0);
	for (unsigned int i = 0; i < sizeof(knocks) / sizeof(knocks[0]); i++) {
		struct shmipc_session *s;
		pthread_t thread;
		int err;

		knocks[i].name = "test.knock";
		pthread_create(&thread, NULL, knock_thread, &knocks[i]);
		err = shmipc_accept(listener, &s, LIMIT);
		pthread_join(thread, NULL);
		assert_int_equal(knocks[i].err, 0);
		if (err != (i ? -EBADMSG : 0))
			fail_msg("segment %u: accept answers %d", i, err);
	}
	shmipc_close(ep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_field), cmocka_unit_test(test_seq),
		cmocka_unit_test(test_buffer_held),
		cmocka_unit_test(test_after_the_end), cmocka_unit_test(test_older_generation),
		cmocka_unit_test(test_control_words), cmocka_unit_test(test_cursor),
		cmocka_unit_test(test_first_segment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
