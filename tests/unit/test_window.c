// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Admission: how much of bytes, entries and ring slots a stream may take, and what is always left. */
#include <poll.h>
#include "clock.h"
#include "duo.h"

static const struct shmipc_options small = {
	.size = sizeof(small), .window = 4096, .max_memory = 65536,
};

static const struct shmipc_options shared = {
	.size = sizeof(shared), .window = 65536, .max_memory = 65536,
};

/* By a peer: shmipc_fd() would also be readable for nothing, or for what this side did. */
static bool rung(struct shmipc_endpoint *ep)
{
	struct pollfd pfd = { .fd = ep->pv->fd, .events = POLLIN };

	return poll(&pfd, 1, 0);
}

static struct shmipc_stream *opened(struct shmipc_session *s)
{
	struct shmipc_stream *st;

	assert_int_equal(shmipc_stream_open(s, &st), 0);
	return st;
}

/* Sends without waiting until told no; the other side takes frames off the ring all the while. */
static unsigned int send_until_full(struct duo *d, struct shmipc_stream *st, size_t len)
{
	static char buf[100000];
	unsigned int n = 0;

	while (shmipc_write(st, buf, len, 0, 0) == (ssize_t)len) {
		n++;
		duo_drain(d->a);
	}
	return n;
}

static void read_n(struct shmipc_stream *st, unsigned int n)
{
	char buf[100000];

	while (n--)
		assert_true(shmipc_read(st, buf, sizeof(buf), LIMIT) > 0);
}

static struct shmipc_stream *accepted(struct shmipc_session *s)
{
	struct shmipc_stream *st;

	assert_int_equal(shmipc_stream_accept(s, &st, LIMIT), 0);
	return st;
}

/* The window in bytes, where the smallest message counts 128; what is returned can be sent again. */
static void test_bytes(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	b = opened(d.b);
	assert_int_equal(send_until_full(&d, b, 1024), 4);
	a = accepted(d.a);
	assert_int_equal(b->out_bytes, 4096);
	read_n(a, 1);
	assert_int_equal(send_until_full(&d, b, 1024), 1);
	read_n(a, 4);
	assert_int_equal(send_until_full(&d, b, 1), 4096 / FRAME_SHARE);
	read_n(a, 32);
	assert_int_equal(send_until_full(&d, b, 129), 4096 / 129);
	read_n(a, 31);
	assert_int_equal(duo_reap(d.b), 0);
	assert_int_equal(b->out_bytes, 0);
	assert_int_equal(d.b->tx.bytes, 0);
	/* What its own window held back did not stall. */
	assert_int_equal(duo_stats(d.b_ep).stalls, 0);
	duo_close(&d);
}

/* A message larger than the window goes alone. */
static void test_larger_than_window(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &small);
	b = opened(d.b);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(shmipc_reserve(b, 50000, &data, 0), 0);
		memset(data, i, 50000);
		assert_int_equal(shmipc_commit(b, 50000, 0), 0);
		assert_int_equal(shmipc_reserve(b, 1, &data, 0), -EAGAIN);
		assert_int_equal(shmipc_reserve(b, 1, &data, 5 * MS), -ETIMEDOUT);
		if (!i)
			a = accepted(d.a);
		assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
		assert_int_equal(m.len, 50000);
		assert_int_equal(((const char *)m.spans[0].data)[49999], i);
		assert_int_equal(shmipc_return(a, &m), 0);
	}
	assert_int_equal(shmipc_reserve(b, 65537, &data, 0), -EMSGSIZE);
	duo_close(&d);
}

/* out < min(window, free): each takes half of what the ones before left, so some always is. */
static void test_shared_memory(void **state)
{
	struct shmipc_stream *b;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &shared);
	for (unsigned int want = 32; want >= 1; want /= 2) {
		b = opened(d.b);
		assert_int_equal(send_until_full(&d, b, 1024), want);
	}
	/* And one of any length for who has nothing out. */
	b = opened(d.b);
	assert_int_equal(shmipc_reserve(b, 60000, &data, 0), 0);
	assert_int_equal(shmipc_commit(b, 60000, 0), 0);
	assert_int_equal(shmipc_reserve(b, 1, &data, 0), -EAGAIN);
	assert_int_equal(duo_stats(d.b_ep).stalls, 0);
	duo_close(&d);
}

/* A peer that asks for a large answer on each of many streams: they don't all go at once. */
static void test_many_large(void **state)
{
	static const char buf[60000];
	struct shmipc_stream *a, *b[64];
	unsigned int large = 0;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &small);
	for (int i = 0; i < 64; i++) {
		b[i] = opened(d.b);
		if (!shmipc_reserve(b[i], sizeof(buf), &data, 0)) {
			memcpy(data, buf, sizeof(buf));
			assert_int_equal(shmipc_commit(b[i], sizeof(buf), 0), 0);
			large++;
		}
		duo_drain(d.a);
	}
	assert_int_equal(large, 2);
	assert_in_range(d.b->tx.bytes, small.max_memory, 2 * small.max_memory);
	/* Each may still send what its window has room for. */
	for (int i = 2; i < 64; i++) {
		assert_int_equal(shmipc_reserve(b[i], small.window + 1, &data, 0), -EAGAIN);
		assert_int_equal(shmipc_reserve(b[i], small.window, &data, 0), 0);
		assert_int_equal(shmipc_cancel(b[i]), 0);
	}
	/* And the next large one when one is back. */
	assert_int_equal(shmipc_reserve(b[63], sizeof(buf), &data, 0), -EAGAIN);
	a = accepted(d.a);
	read_n(a, 1);
	assert_int_equal(shmipc_reserve(b[63], sizeof(buf), &data, LIMIT), 0);
	duo_close(&d);
}

/* Entries alike: half of the pool for the first, and the first of each stream for nothing. */
static void test_shared_entries(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int slots, used = 0;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	slots = d.b->tx.slots;
	b[0] = opened(d.b);
	assert_int_equal(send_until_full(&d, b[0], 1), slots / 2 + 1);
	b[1] = opened(d.b);
	assert_int_equal(send_until_full(&d, b[1], 1), slots / 4 + 1);
	for (int i = 2; i < 64; i++) {
		b[i] = opened(d.b);
		assert_true(send_until_full(&d, b[i], 1) >= 1);
	}
	for (int i = 0; i < 64; i++)
		used += b[i]->out_data;
	assert_int_equal(used, d.b->tx.nr_live - d.b->tx.nr_free);
	assert_int_equal(d.b->tx.shared_entries, used - 64);
	/* Nobody read anything: all can still say that they end. */
	for (int i = 0; i < 64; i++) {
		assert_int_equal(shmipc_finish(b[i]), 0);
		duo_drain(d.a);
		assert_int_equal(b[i]->out_control, 1);
	}
	assert_int_equal(duo_stats(d.b_ep).stalls, 0);
	duo_close(&d);
}

/* Nobody drains: data leaves an eighth of the ring to control frames; the rest of those is owed. */
static void test_control_reserve(void **state)
{
	struct shmipc_stream *b[64], *a;
	unsigned int n = 0, slots;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	slots = d.b->tx.slots;
	for (int i = 0; i < 64; i++)
		b[i] = opened(d.b);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	assert_int_equal(n, slots - slots / 8);
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_finish(b[i]), 0);
	assert_int_equal(d.b->tx.next - 1, slots);
	/* As the other reads, what is owed comes, and every stream ends. */
	for (int i = 0; i < 64; i++) {
		a = accepted(d.a);
		while (shmipc_read(a, buf, 1, 20 * MS) == 1)
			;
		shmipc_wait(d.b_ep, &(struct shmipc_event){ 0 }, 1, 0);
	}
	shmipc_wait(d.a_ep, &(struct shmipc_event){ 0 }, 1, 0);
	assert_int_equal(d.b->tx.next - 1, n + 64);
	assert_int_equal(shmipc_session_error(d.a), 0);
	duo_close(&d);
}

/* A send that a full ring holds back is a stall, once, however it waits; no other one is. */
static void test_stalls(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int n = 0;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &small);
	for (int i = 0; i < 64; i++)
		b[i] = opened(d.b);
	while (shmipc_write(b[n % 63], "x", 1, 0, 0) == 1)
		n++;
	assert_int_equal(n, d.b->tx.slots - d.b->tx.slots / 8);
	assert_int_equal(duo_stats(d.b_ep).stalls, 1);
	assert_int_equal(shmipc_write(b[63], "x", 1, 0, 5 * MS), -ETIMEDOUT);
	assert_int_equal(duo_stats(d.b_ep).stalls, 2);
	/* The ring is full and so is its window: the window comes first. */
	assert_int_equal(shmipc_reserve(b[0], 4096, &data, 0), -EAGAIN);
	assert_int_equal(duo_stats(d.b_ep).stalls, 2);
	/* Drained, and read by nobody. */
	duo_drain(d.a);
	assert_int_equal(shmipc_write(b[63], "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_reserve(b[0], 4096, &data, 0), -EAGAIN);
	assert_int_equal(duo_stats(d.b_ep).stalls, 2);
	duo_close(&d);
}

/* What is owed is sent by whoever polls next, and rung for: the peer sleeps by then. */
static void test_owed_rings(void **state)
{
	struct shmipc_event event;
	struct shmipc_stream *b[64], *a;
	unsigned int n = 0;
	uint64_t before;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++)
		b[i] = opened(d.b);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_finish(b[i]), 0);
	for (int i = 0; i < 64; i++)
		accepted(d.a);
	before = d.b->tx.next;
	/* All that was in the ring is taken; now it sleeps for the next frame. */
	assert_int_equal(shmipc_stream_accept(d.a, &a, 5 * MS), -ETIMEDOUT);
	assert_true(d.a->rx.next == before);
	assert_false(rung(d.a_ep));
	shmipc_wait(d.b_ep, &event, 1, 0);
	assert_true(d.b->tx.next > before);
	assert_true(rung(d.a_ep));
	duo_close(&d);
}

/* A reservation is promised its ring slot: commits never wait, whatever others do meanwhile. */
static void test_promised_slots(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int promised = 0;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++) {
		b[i] = opened(d.b);
		assert_int_equal(shmipc_reserve(b[i], 1, &data, 0), 0);
	}
	assert_int_equal(d.b->tx.reserved, 64);
	for (int i = 0; i < 48; i++) {
		memset(b[i]->reserve.staging, i, 1);
		assert_int_equal(shmipc_commit(b[i], 1, 0), 0);
	}
	while (shmipc_write(b[promised % 48], "x", 1, 0, 0) == 1)
		promised++;
	assert_int_equal(promised + 64, d.b->tx.slots - d.b->tx.slots / 8);
	for (int i = 48; i < 56; i++)
		assert_int_equal(shmipc_commit(b[i], 1, 0), 0);
	for (int i = 56; i < 64; i++)
		assert_int_equal(shmipc_cancel(b[i]), 0);
	assert_int_equal(d.b->tx.reserved, 0);
	duo_close(&d);
}

/* Committing less gives the rest of the window back. */
static void test_partial_commit(void **state)
{
	struct shmipc_stream *b;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &small);
	b = opened(d.b);
	assert_int_equal(shmipc_reserve(b, 4000, &data, 0), 0);
	assert_int_equal(b->out_bytes, 4000);
	assert_int_equal(shmipc_commit(b, 10, 0), 0);
	assert_int_equal(b->out_bytes, FRAME_SHARE);
	assert_int_equal(shmipc_reserve(b, 3000, &data, 0), 0);
	assert_int_equal(shmipc_cancel(b), 0);
	assert_int_equal(b->out_bytes, FRAME_SHARE);
	assert_int_equal(d.b->tx.bytes, FRAME_SHARE);
	assert_int_equal(b->out_data, 1);
	duo_close(&d);
}

/* ---- a sender that sleeps is told in time ---------------------------------- */

/* Sends until told no, and sleeps for EV_WRITE. */
static unsigned int block(struct duo *d, struct shmipc_stream *b, size_t len)
{
	struct shmipc_event event;
	unsigned int n;

	duo_elsewhere(d->a);
	n = send_until_full(d, b, len);
	while (shmipc_wait(d->b_ep, &event, 1, 0))
		assert_int_not_equal(event.type, SHMIPC_EV_WRITE);
	assert_false(rung(d->b_ep));
	return n;
}

static void expect_write(struct duo *d, struct shmipc_stream *b, size_t len)
{
	static const char buf[1024];
	struct shmipc_event event;

	assert_true(rung(d->b_ep));
	assert_int_equal(shmipc_wait(d->b_ep, &event, 1, 0), 1);
	assert_int_equal(event.type, SHMIPC_EV_WRITE);
	assert_ptr_equal(event.object, b);
	assert_int_equal(shmipc_write(b, buf, len, 0, 0), len);
}

/* Who keeps most of what he took returns less than a quarter, and then waits for more. */
static void test_few_returns(void **state)
{
	struct shmipc_message m[65];
	struct shmipc_stream *a, *b;
	unsigned int n;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	n = block(&d, b, 1);
	assert_int_equal(n, 65);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(shmipc_peek(a, &m[i], 0), 1);
	assert_int_equal(shmipc_return(a, &m[7]), 0);
	expect_write(&d, b, 1);
	duo_close(&d);
}

/* While there is more to read a quarter is one bell, but not beyond the reader's next sleep. */
static void test_returns_before_a_sleep(void **state)
{
	struct shmipc_stream *a, *b, *none;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(block(&d, b, 1), 65);
	read_n(a, 15);
	assert_false(rung(d.b_ep));
	read_n(a, 1);
	expect_write(&d, b, 1);
	block(&d, b, 1);
	read_n(a, 5);
	assert_false(rung(d.b_ep));
	assert_int_equal(shmipc_stream_accept(d.a, &none, MS), -ETIMEDOUT);
	expect_write(&d, b, 1);
	block(&d, b, 1);
	read_n(a, 5);
	assert_false(rung(d.b_ep));
	assert_int_equal(shmipc_flush(a), 0);
	expect_write(&d, b, 1);
	/* A bell tells of all returns before it: they need no other. */
	block(&d, b, 1);
	read_n(a, 5);
	assert_false(rung(d.b_ep));
	read_n(a, 11);
	expect_write(&d, b, 1);
	block(&d, b, 1);
	assert_int_equal(shmipc_flush(a), 0);
	assert_false(rung(d.b_ep));
	duo_close(&d);
}

/* A return of one stream makes room for another, which has much out itself. */
static void test_room_of_another(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, &shared);
	for (int i = 0; i < 2; i++)
		duo_stream(&d, &b[i], &a[i]);
	assert_int_equal(shmipc_reserve(b[0], 60000, &data, 0), 0);
	memset(data, 0, 60000);
	assert_int_equal(shmipc_commit(b[0], 60000, 0), 0);
	assert_in_range(block(&d, b[1], 128), 8, 60);
	read_n(a[0], 1);
	expect_write(&d, b[1], 128);
	duo_close(&d);
}

/* Another stream's send takes the returns in: then it must let the one go on that waits for them. */
static void test_returns_taken_by_another(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	static const char buf[1024];
	struct shmipc_event event;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 2; i++)
		duo_stream(&d, &b[i], &a[i]);
	block(&d, b[0], 1);
	read_n(a[0], 10);
	assert_false(list_empty(&b[0]->blocked));
	assert_int_equal(shmipc_write(b[1], buf, sizeof(buf), 0, 0), sizeof(buf));
	assert_true(list_empty(&b[0]->blocked));
	assert_int_equal(shmipc_wait(d.b_ep, &event, 1, 0), 1);
	assert_ptr_equal(event.object, b[0]);
	block(&d, b[0], 1);
	read_n(a[0], 10);
	assert_int_equal(duo_reap(d.b), 0);
	/* Nobody may sleep on that. */
	lock(&d.b->tx.lock);
	assert_true(tx_arm(d.b));
	unlock(&d.b->tx.lock);
	duo_close(&d);
}

/* Room in the ring that was seen while arming is news for what is owed. */
static void test_arm_sees_room(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int n = 0;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++)
		b[i] = opened(d.b);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_finish(b[i]), 0);
	assert_false(list_empty(&d.b->tx.owing));
	lock(&d.b->tx.lock);
	list_del(&b[n % 64]->blocked);
	assert_false(tx_arm(d.b));
	unlock(&d.b->tx.lock);
	duo_drain(d.a);
	lock(&d.b->tx.lock);
	assert_true(tx_arm(d.b));
	assert_int_equal(tx_rearm(d.b), 0);
	assert_true(list_empty(&d.b->tx.owing));
	unlock(&d.b->tx.lock);
	duo_close(&d);
}

/* What was owed and went out by itself, or with a RESET, is not sent a second time. */
static void test_owed_once(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int n = 0;
	uint64_t sent;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++)
		b[i] = opened(d.b);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_finish(b[i]), 0);
	assert_false(list_empty(&d.b->tx.owing));
	duo_drain(d.a);
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_reset(b[i], 1), 0);
	sent = d.b->tx.next;
	lock(&d.b->tx.lock);
	tx_unblock(d.b);
	unlock(&d.b->tx.lock);
	assert_true(d.b->tx.next == sent);
	duo_drain(d.a);
	assert_int_equal(shmipc_session_error(d.a), 0);
	duo_close(&d);
}

/* A program that only tries hears that its peer has closed, too. */
static void test_end_while_trying(void **state)
{
	struct shmipc_stream *st;
	uint64_t begun = now_ns();
	ssize_t n;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	st = opened(d.b);
	assert_true(send_until_full(&d, st, 1000) > 0);
	shmipc_session_close(d.a);
	do
		n = shmipc_write(st, "x", 1, 0, 0);
	while (n == -EAGAIN && now_ns() - begun < LIMIT);
	assert_int_equal(n, -EPIPE);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes), cmocka_unit_test(test_larger_than_window),
		cmocka_unit_test(test_shared_memory), cmocka_unit_test(test_many_large),
		cmocka_unit_test(test_shared_entries),
		cmocka_unit_test(test_control_reserve), cmocka_unit_test(test_owed_rings),
		cmocka_unit_test(test_stalls),
		cmocka_unit_test(test_promised_slots),
		cmocka_unit_test(test_partial_commit), cmocka_unit_test(test_few_returns),
		cmocka_unit_test(test_returns_before_a_sleep),
		cmocka_unit_test(test_room_of_another),
		cmocka_unit_test(test_returns_taken_by_another),
		cmocka_unit_test(test_arm_sees_room), cmocka_unit_test(test_owed_once),
		cmocka_unit_test(test_end_while_trying),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
