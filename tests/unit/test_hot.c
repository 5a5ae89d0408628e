// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Hot and idle sessions, and the turn that each gets. */
#include "heat.h"

static void test_idle_after_empty_polls(void **state)
{
	struct shmipc_stream *a, *b;
	unsigned int polls = 0;
	uint64_t bells;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	heat(d.a);
	store_relaxed(&d.a->rx.control->rx_event, (uint32_t)d.a->rx.next - 1);
	for (; is_hot(d.a) && polls < 100000; polls++) {
		assert_int_equal(shmipc_read(a, &c, 1, 0), -EAGAIN);
		no_sync_yet(d.a_ep);
	}
	print_message("idle after %u empty polls\n", polls);
	/* A program that asks on and on would not hear the bell before it asks for events. */
	assert_in_range(polls, 1000, 70000);
	/* Armed: the very next frame rings. */
	assert_int_equal(load_relaxed(&d.a->rx.control->rx_event), (uint32_t)d.a->rx.next);
	bells = duo_stats(d.b_ep).doorbells;
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(duo_stats(d.b_ep).doorbells, bells + 1);
	/* Its bell is taken, and it is hot again. */
	assert_false(is_hot(d.a));
	assert_int_equal(take_bells(d.a_ep), 1);
	assert_true(is_hot(d.a));
	assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
	duo_close(&d);
}

/* What polls find keeps it hot, so nobody rings for it. */
static void test_busy_stays_hot(void **state)
{
	struct shmipc_stream *a, *b, *none;
	uint64_t bells = 0;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	heat(d.a);
	for (int i = 0; i < 1000; i++) {
		if (i % 16 == 0)
			assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
		assert_int_equal(shmipc_stream_accept(d.a, &none, 0), -EAGAIN);
		no_sync_yet(d.a_ep);
		assert_true(is_hot(d.a));
		/* The first may find it armed from before. */
		if (!i)
			bells = duo_stats(d.b_ep).doorbells;
	}
	assert_int_equal(d.a->rx.messages, 1 + 1000 / 16 + 1);
	assert_int_equal(duo_stats(d.b_ep).doorbells, bells);
	duo_close(&d);
}

struct rival {
	struct shmipc_session *a, *b;
	struct shmipc_stream *from, *to;
};

static void rival_open(struct duo *d, struct rival *r)
{
	char c;

	duo_connect(d->a_ep, d->b_ep, NULL, &r->a, &r->b);
	assert_int_equal(shmipc_stream_open(r->b, &r->from), 0);
	assert_int_equal(shmipc_write(r->from, "!", 1, 0, LIMIT), 1);
	assert_int_equal(shmipc_stream_accept(r->a, &r->to, LIMIT), 0);
	assert_int_equal(shmipc_read(r->to, &c, 1, LIMIT), 1);
}

/* ---- asks -------------------------------------------------------------------------- */

/* Who looks for its own frame each time looks at the rest once in 16 asks: no more, and no less. */
static void test_asks_look_now_and_then(void **state)
{
	struct shmipc_stream *a, *b;
	struct rival other;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	rival_open(&d, &other);
	take_bells(d.a_ep);
	heat(d.a);
	heat(other.a);
	no_sync_yet(d.a_ep);
	for (int i = 0; i < 160; i++)
		assert_int_equal(shmipc_read(a, &c, 1, 0), -EAGAIN);
	assert_int_equal(d.a->empty_polls, 10);
	/* What another session's peer sent is seen soon, and its own at once. */
	assert_int_equal(shmipc_write(other.from, "o", 1, 0, 0), 1);
	for (int i = 0; i < 16; i++)
		assert_int_equal(shmipc_read(a, &c, 1, 0), -EAGAIN);
	assert_int_equal(other.a->rx.messages, 2);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
	duo_close(&d);
}

/* What it takes off the ring itself keeps a session hot, too. */
static void test_asks_stay_hot(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	heat(d.a);
	no_sync_yet(d.a_ep);
	for (int i = 0; i < 200000; i++) {
		if (i % 100 == 0) {
			assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
			assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
		}
		assert_int_equal(shmipc_read(a, &c, 1, 0), -EAGAIN);
		assert_true(is_hot(d.a));
	}
	duo_close(&d);
}

/* ---- a turn ------------------------------------------------------------------------ */

static unsigned int send_all_it_may(struct shmipc_stream *st)
{
	unsigned int n = 0;

	while (shmipc_write(st, "x", 1, 0, 0) == 1)
		n++;
	return n;
}

/* Polled in this order, from now on. */
static void heat_both(struct shmipc_session *first, struct shmipc_session *second)
{
	struct shmipc_endpoint *ep = first->ep;

	lock(&ep->poll_lock);
	list_del(&first->hot);
	list_del(&second->hot);
	endpoint_heat(ep, first);
	endpoint_heat(ep, second);
	unlock(&ep->poll_lock);
}

/* Of a full ring a turn takes 64 frames; then it is the next session's turn. */
static void one_turn(bool busy_first)
{
	struct rival busy, quiet;
	struct duo d;

	duo_open(&d, NULL);
	rival_open(&d, &busy);
	rival_open(&d, &quiet);
	assert_true(send_all_it_may(busy.from) > DRAIN_BUDGET);
	assert_int_equal(shmipc_write(quiet.from, "q", 1, 0, 0), 1);
	heat_both(busy_first ? busy.a : quiet.a, busy_first ? quiet.a : busy.a);
	/* The first thing that a call with no time does is one turn. */
	no_sync_yet(d.a_ep);
	assert_true(shmipc_wait(d.a_ep, (struct shmipc_event[4]){ 0 }, 4, 0) >= 2);
	assert_int_equal(busy.a->rx.messages, 1 + DRAIN_BUDGET);
	assert_int_equal(quiet.a->rx.messages, 1 + 1);
	duo_close(&d);
}

static void test_budget(void **state)
{
	(void)state;
	one_turn(true);
	one_turn(false);
}

/*
 * However much one sends, and all the time: what another sends is there in the next turn if it is
 * hot, and when its bell has to be taken first, after so many turns as the library does without asking.
 */
static void starve(bool hot, unsigned int limit)
{
	unsigned int waited = 0, worst = 0, heard = 0;
	struct rival busy, quiet;
	struct shmipc_event events[8];
	uint64_t taken = 1;
	struct duo d;
	char c;

	duo_open(&d, NULL);
	rival_open(&d, &busy);
	rival_open(&d, &quiet);
	for (int turn = 0; turn < 2000; turn++) {
		bool reported = false;
		int n;

		send_all_it_may(busy.from);
		if (!waited)
			assert_int_equal(shmipc_write(quiet.from, "q", 1, 0, 0), 1);
		if (hot)
			heat_both(busy.a, quiet.a);
		n = shmipc_wait(d.a_ep, events, 8, 0);
		for (int i = 0; i < n; i++)
			reported |= events[i].object == quiet.to;
		worst = ++waited > worst ? waited : worst;
		assert_in_range(waited, 1, limit);
		if (reported) {
			assert_int_equal(shmipc_read(quiet.to, &c, 1, 0), 1);
			waited = 0;
			heard++;
		}
		for (; taken < busy.a->rx.messages; taken++)
			assert_int_equal(shmipc_read(busy.to, &c, 1, 0), 1);
	}
	print_message("%u heard in 2000 turns, after %u at most, beside %lu\n", heard, worst,
		      taken);
	/* And the busy one lost nothing by it. */
	assert_true(taken > 2000 * DRAIN_BUDGET / 2);
	duo_close(&d);
}

static void test_nobody_starves(void **state)
{
	(void)state;
	starve(true, 1);
	starve(false, 70);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_after_empty_polls), cmocka_unit_test(test_busy_stays_hot),
		cmocka_unit_test(test_asks_look_now_and_then), cmocka_unit_test(test_asks_stay_hot),
		cmocka_unit_test(test_budget), cmocka_unit_test(test_nobody_starves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
