// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Who is rung, and how rarely: event indices, their hysteresis, and what SHMIPC_CORK keeps back. */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#include "barrier.h"
#include "duo.h"

static uint64_t bells(struct shmipc_endpoint *ep)
{
	return duo_stats(ep).doorbells;
}

/* As shmipc_fd() has it: ask until there is nothing, and the doorbells are armed. */
static void arm(struct shmipc_endpoint *ep)
{
	struct shmipc_event events[8];

	while (shmipc_wait(ep, events, 8, 0))
		;
}

static void send_n(struct shmipc_stream *st, unsigned int n, unsigned int flags)
{
	while (n--)
		assert_int_equal(shmipc_write(st, "x", 1, flags, 0), 1);
}

static void read_n(struct shmipc_stream *st, unsigned int n)
{
	char c;

	while (n--)
		assert_int_equal(shmipc_read(st, &c, 1, 0), 1);
}

/* ---- data ------------------------------------------------------------------------ */

static void test_one_for_a_sleeper(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (uint64_t round = 0; round < 20; round++) {
		uint64_t before;

		arm(d.a_ep);
		before = bells(d.b_ep);
		/* Rung by the first; the others find that done. */
		send_n(b, 1, 0);
		assert_int_equal(bells(d.b_ep), before + 1);
		send_n(b, 49, 0);
		assert_int_equal(bells(d.b_ep), before + 1);
		read_n(a, 50);
		/* It took them and did not say that it sleeps. */
		for (int i = 0; i < 100; i++) {
			send_n(b, 1, 0);
			read_n(a, 1);
		}
		assert_int_equal(bells(d.b_ep), before + 1);
	}
	/* Nobody waited for a return in all of this. */
	assert_int_equal(bells(d.a_ep), 0);
	duo_close(&d);
}

enum { STREAMED = 40000, LEN = 200 };

static void *stream_all(void *arg)
{
	char buf[LEN] = { 0 };

	for (int i = 0; i < STREAMED; i++)
		if (shmipc_write(arg, buf, sizeof(buf), 0, LIMIT) != sizeof(buf))
			return "short";
	return NULL;
}

/* Two threads, both blocking: bells and sleeps are for few of the messages, in each direction. */
static void test_few_for_a_stream(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 65536 };
	struct shmipc_stream *a, *b;
	uint64_t data, space;
	pthread_t thread;
	struct duo d;
	void *result;
	char buf[LEN];

	(void)state;
	duo_open(&d, &opt);
	duo_stream(&d, &b, &a);
	data = bells(d.b_ep);
	space = bells(d.a_ep);
	pthread_create(&thread, NULL, stream_all, b);
	for (int i = 0; i < STREAMED; i++) {
		assert_int_equal(shmipc_read(a, buf, sizeof(buf), LIMIT), sizeof(buf));
		/* Busy with each for a while: the sender is never far behind. */
		for (volatile int work = 0; work < 300; work++)
			;
	}
	pthread_join(thread, &result);
	assert_null(result);
	data = bells(d.b_ep) - data;
	space = bells(d.a_ep) - space;
	print_message("%d messages, %lu bells for data, %lu for space\n", STREAMED, data, space);
	assert_true(data < STREAMED / 4);
	assert_true(space < STREAMED / 4);
	duo_close(&d);
}

/* ---- space ------------------------------------------------------------------------ */

/* When a sender whose window is full is rung: then, and not again. */
static void full_window(bool one_cpu, unsigned int wanted)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 65536 };
	struct shmipc_stream *a, *b;
	char buf[1024] = { 0 };
	unsigned int out = 0;
	struct duo d;

	duo_open(&d, &opt);
	duo_stream(&d, &b, &a);
	store_relaxed(&d.b->rx.control->cpu, 7);
	store_relaxed(&d.a->rx.control->cpu, one_cpu ? 7 : 8);
	while (shmipc_write(b, buf, sizeof(buf), 0, 0) > 0) {
		out++;
		duo_drain(d.a);
	}
	assert_int_equal(out, 64);
	assert_int_equal(b->out_data, 64);
	for (unsigned int i = 1; i <= out; i++) {
		assert_int_equal(shmipc_read(a, buf, sizeof(buf), 0), sizeof(buf));
		if (bells(d.a_ep) != (i >= wanted))
			fail_msg("after %u returns: %lu bells", i, bells(d.a_ep));
	}
	assert_int_equal(shmipc_write(b, buf, sizeof(buf), 0, 0), sizeof(buf));
	duo_close(&d);
}

/* A quarter, for there is as much again to do for the receiver meanwhile. */
static void test_quarter_of_window(void **state)
{
	(void)state;
	full_window(false, 16);
}

/* Where only one of them can run, most of it: each turn of the two is two switches. */
static void test_most_of_window(void **state)
{
	(void)state;
	full_window(true, 48);
}

static bool pass_one(struct shmipc_session *s)
{
	bool ring;

	assert_int_equal(rx_drain(s, 1), 1);
	lock(&s->rx.lock);
	ring = rx_publish_cursor(s);
	unlock(&s->rx.lock);
	return ring;
}

/* One that waits for ring slots, alike: a quarter of the ring. */
static void test_quarter_of_ring(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int n = 0, quarter;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_elsewhere(d.a);
	quarter = d.b->tx.slots / 4;
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_stream_open(d.b, &b[i]), 0);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	assert_int_equal(n, d.b->tx.slots - d.b->tx.slots / 8);
	for (unsigned int i = 1; i <= n; i++)
		if (pass_one(d.a) != (i == quarter))
			fail_msg("passing slot %u of %u: wrong about the bell", i, n);
	duo_close(&d);
}

/*
 * The peer passed all slots between the send that found the ring full and its arming: nothing is left
 * that it could ring for, so the look that comes with the arming has to find it.
 */
static void test_passed_before_armed(void **state)
{
	struct shmipc_stream *b[64];
	unsigned int n = 0;
	struct duo d;
	bool found;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++)
		assert_int_equal(shmipc_stream_open(d.b, &b[i]), 0);
	while (shmipc_write(b[n % 64], "x", 1, 0, 0) == 1)
		n++;
	lock(&d.b->tx.lock);
	assert_false(list_empty(&d.b->tx.blocked));
	assert_false(tx_arm(d.b));
	unlock(&d.b->tx.lock);
	duo_drain(d.a);
	lock(&d.b->tx.lock);
	found = tx_arm(d.b);
	unlock(&d.b->tx.lock);
	assert_true(found);
	/* Until those who wait were let go on: then it may sleep for the next. */
	lock(&d.b->tx.lock);
	tx_unblock(d.b);
	found = tx_arm(d.b);
	unlock(&d.b->tx.lock);
	assert_false(found);
	duo_close(&d);
}

/* ---- SHMIPC_CORK ------------------------------------------------------------------- */

static const struct provider_ops *real;
static unsigned int syncs_that_rang, rang_and_slept;

static int watched_sync(struct provider *pv, struct pv_sync *sync)
{
	syncs_that_rang += sync->nr_notify > 0;
	rang_and_slept += sync->wait && sync->nr_notify;
	return real->sync(pv, sync);
}

static void watch(struct shmipc_endpoint *ep)
{
	static struct provider_ops ops;

	real = ep->pv->ops;
	ops = *real;
	ops.sync = watched_sync;
	ep->pv->ops = &ops;
	syncs_that_rang = rang_and_slept = 0;
}

static void test_cork_flush(void **state)
{
	struct shmipc_stream *a, *b;
	uint64_t before;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	arm(d.a_ep);
	before = bells(d.b_ep);
	send_n(b, 20, SHMIPC_CORK);
	assert_int_equal(shmipc_reserve(b, 1, &data, 0), 0);
	memcpy(data, "y", 1);
	assert_int_equal(shmipc_commit(b, 1, SHMIPC_CORK), 0);
	assert_int_equal(bells(d.b_ep), before);
	assert_int_equal(shmipc_flush(b), 0);
	assert_int_equal(bells(d.b_ep), before + 1);
	/* There is nothing left to ring for. */
	assert_int_equal(shmipc_flush(b), 0);
	send_n(b, 1, 0);
	assert_int_equal(bells(d.b_ep), before + 1);
	read_n(a, 22);
	duo_close(&d);
}

/* The cork holds bells back, not data: who looks sees it. */
static void test_cork_is_published(void **state)
{
	struct shmipc_stream *a, *b;
	uint64_t before;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	arm(d.a_ep);
	before = bells(d.b_ep);
	for (int i = 0; i < 10; i++) {
		send_n(b, 3, SHMIPC_CORK);
		read_n(a, 3);
	}
	assert_int_equal(bells(d.b_ep), before);
	duo_close(&d);
}

/* A send without the cork rings for those before it, once. */
static void test_cork_ends(void **state)
{
	struct shmipc_stream *a, *b;
	uint64_t before;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	arm(d.a_ep);
	before = bells(d.b_ep);
	send_n(b, 5, SHMIPC_CORK);
	assert_int_equal(bells(d.b_ep), before);
	send_n(b, 1, 0);
	assert_int_equal(bells(d.b_ep), before + 1);
	duo_close(&d);
}

static void *answer(void *arg)
{
	char buf[8];

	for (int i = 0; i < 5; i++)
		if (shmipc_read(arg, buf, 1, LIMIT) != 1)
			return "no question";
	return shmipc_write(arg, "a", 1, 0, LIMIT) == 1 ? NULL : "no answer";
}

/* Before it spins, and for all at once: a partner on another CPU may sleep as well. */
static void test_cork_then_spin(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	struct shmipc_session *sa, *sb;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b[0], &a[0]);
	duo_connect(d.a_ep, d.b_ep, NULL, &sa, &sb);
	assert_int_equal(shmipc_stream_open(sb, &b[1]), 0);
	send_n(b[1], 1, 0);
	assert_int_equal(shmipc_stream_accept(sa, &a[1], LIMIT), 0);
	read_n(a[1], 1);
	arm(d.a_ep);
	watch(d.b_ep);
	d.a->rx.control->cpu = UINT32_MAX - 1;
	for (int i = 0; i < 2; i++)
		send_n(b[i], 5, SHMIPC_CORK);
	assert_int_equal(shmipc_read(b[0], &c, 1, 5 * MS), -ETIMEDOUT);
	assert_int_equal(syncs_that_rang, 1);
	assert_int_equal(rang_and_slept, 0);
	for (int i = 0; i < 2; i++)
		read_n(a[i], 5);
	d.b_ep->pv->ops = real;
	duo_close(&d);
}

/* A sleeper tells how far it has read, and rings for that. */
static void test_passed_before_asleep(void **state)
{
	struct shmipc_stream *a, *b;
	unsigned int quarter;
	uint64_t before;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	quarter = d.a->rx.slots / 4;
	/* Fewer than are told by the way. */
	send_n(b, quarter - 10, 0);
	read_n(a, quarter - 10);
	assert_int_not_equal((uint32_t)d.a->rx.next, d.a->rx.published);
	d.b->tx.control->slot_event = d.a->rx.published + 1;
	before = bells(d.a_ep);
	arm(d.a_ep);
	assert_int_equal((uint32_t)d.a->rx.next, d.a->rx.published);
	assert_int_equal(bells(d.a_ep), before + 1);
	duo_close(&d);
}

/* Ends that share a CPU don't spin; and this one does not yield, for which it would ring first. */
static void sleep_at_once(struct shmipc_endpoint *ep)
{
	cpu_set_t set;

	ep->spin.yield_skip = UINT32_MAX;
	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

/* A call that sleeps rings in the system call that it sleeps in. Else both would sleep. */
static void test_cork_then_block(void **state)
{
	struct shmipc_stream *a, *b;
	uint64_t before, armed;
	pthread_t thread;
	struct duo d;
	void *result;
	char c;

	(void)state;
	duo_open(&d, NULL);
	sleep_at_once(d.b_ep);
	duo_stream(&d, &b, &a);
	arm(d.a_ep);
	watch(d.b_ep);
	before = bells(d.b_ep);
	send_n(b, 5, SHMIPC_CORK);
	assert_int_equal(syncs_that_rang, 0);
	assert_int_equal(shmipc_read(b, &c, 1, 5 * MS), -ETIMEDOUT);
	assert_int_equal(bells(d.b_ep), before + 1);
	assert_int_equal(syncs_that_rang, 1);
	assert_int_equal(rang_and_slept, 1);
	read_n(a, 5);

	/* And with somebody who does sleep. */
	armed = duo_stats(d.a_ep).sleeps;
	pthread_create(&thread, NULL, answer, a);
	while (duo_stats(d.a_ep).sleeps == armed)
		usleep(100);
	send_n(b, 5, SHMIPC_CORK);
	assert_int_equal(shmipc_read(b, &c, 1, LIMIT), 1);
	pthread_join(thread, &result);
	assert_null(result);
	d.b_ep->pv->ops = real;
	duo_close(&d);
}

/* Several sessions: each call that sleeps rings for all of them. */
static void test_cork_of_many(void **state)
{
	struct shmipc_stream *b[6], *a[6];
	struct shmipc_session *sa[6], *sb[6];
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 6; i++) {
		duo_connect(d.a_ep, d.b_ep, NULL, &sa[i], &sb[i]);
		assert_int_equal(shmipc_stream_open(sb[i], &b[i]), 0);
		send_n(b[i], 1, 0);
		assert_int_equal(shmipc_stream_accept(sa[i], &a[i], LIMIT), 0);
		read_n(a[i], 1);
	}
	arm(d.a_ep);
	watch(d.b_ep);
	for (int i = 0; i < 6; i++)
		send_n(b[i], 3, SHMIPC_CORK);
	assert_int_equal(syncs_that_rang, 0);
	assert_int_equal(shmipc_read(b[2], &c, 1, 5 * MS), -ETIMEDOUT);
	/* One system call for six bells. */
	assert_int_equal(syncs_that_rang, 1);
	for (int i = 0; i < 6; i++)
		assert_false(tx_bell_due(sb[i]));
	/* Heard by all: each is reported without anybody looking into its ring. */
	assert_int_equal(shmipc_wait(d.a_ep, (struct shmipc_event[8]){ 0 }, 8, 0), 6);
	d.b_ep->pv->ops = real;
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_for_a_sleeper), cmocka_unit_test(test_few_for_a_stream),
		cmocka_unit_test(test_quarter_of_window), cmocka_unit_test(test_most_of_window),
		cmocka_unit_test(test_quarter_of_ring),
		cmocka_unit_test(test_passed_before_armed), cmocka_unit_test(test_cork_flush),
		cmocka_unit_test(test_cork_then_spin), cmocka_unit_test(test_cork_is_published),
		cmocka_unit_test(test_passed_before_asleep),
		cmocka_unit_test(test_cork_ends), cmocka_unit_test(test_cork_then_block),
		cmocka_unit_test(test_cork_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
