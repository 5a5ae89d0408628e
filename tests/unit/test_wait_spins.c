// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* When a thread that waits spins or gives way. */
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "barrier.h"
#include "heat.h"

/* ---- the clock, as the library sees it ------------------------------------------ */

#define TICK	(4 * MS)

/*
 * So many calls get this clock, which steps by so much at each; then it is the real one again. The coarse
 * one shows its last tick.
 */
static unsigned int fake_calls;
static int64_t fake_ns, fake_step;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t ret = syscall(SYS_clock_gettime, id, ts), shown;

	if (ret || (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE) || !fake_calls)
		return ret;
	if (id == CLOCK_MONOTONIC) {
		fake_calls--;
		fake_ns += fake_step;
	}
	shown = id == CLOCK_MONOTONIC ? fake_ns : fake_ns - fake_ns % TICK;
	ts->tv_sec = shown / 1000000000;
	ts->tv_nsec = shown % 1000000000;
	return 0;
}

static void fake_clock(unsigned int calls, int64_t step)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	fake_ns = ts.tv_sec * 1000000000LL + ts.tv_nsec;
	fake_step = step;
	fake_calls = calls;
}

/* ---- yields, likewise ------------------------------------------------------------- */

static unsigned int yields;
/* What the partner does while it has the CPU. */
static void (*in_yield)(void *arg);
static void *in_yield_arg;

int sched_yield(void)
{
	yields++;
	if (!in_yield)
		return syscall(SYS_sched_yield);
	in_yield(in_yield_arg);
	return 0;
}

/* As at first, but that the next yield is none of those that are timed: other work may run beside this. */
static void begin_untimed(struct shmipc_endpoint *ep)
{
	spin_init(&ep->spin);
	ep->spin.yields = 1;
}

/* ---- spinning ------------------------------------------------------------------------ */

/* On one CPU for the time of a test, so that it is known which. */
static int pin(cpu_set_t *before)
{
	cpu_set_t one;
	int cpu;

	assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
	for (cpu = 0; !CPU_ISSET(cpu, before); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(sched_getcpu(), cpu);
	return cpu;
}

static void unpin(const cpu_set_t *before)
{
	assert_int_equal(sched_setaffinity(0, sizeof(*before), before), 0);
}

/* One wait of a that nothing ends. Returns how often it polled the hot session before it slept. */
static unsigned int polls_of_a_wait(struct duo *d, struct shmipc_stream *a, uint32_t peer_cpu)
{
	char c;

	take_bells(d->a_ep);
	heat(d->a);
	begin_untimed(d->a_ep);
	store_relaxed(&d->b->rx.control->cpu, peer_cpu);
	store_relaxed(&d->a->rx.control->cpu, CPU_UNKNOWN);
	assert_int_equal(shmipc_read(a, &c, 1, 3 * MS), -ETIMEDOUT);
	return d->a->empty_polls;
}

static void test_where_it_spins(void **state)
{
	struct shmipc_stream *a, *b;
	unsigned int polls = 0;
	cpu_set_t before;
	struct duo d;
	uint32_t cpu;

	(void)state;
	cpu = pin(&before);
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	yields = 0;
	/* The peer is on this one: it does not even ask how long. */
	assert_int_equal(polls_of_a_wait(&d, a, cpu), YIELD_TRIES);
	assert_int_equal(d.a_ep->spin.waits, 0);
	/* Where it runs is told all the same. */
	assert_int_equal(load_relaxed(&d.a->rx.control->cpu), cpu);
	/* The peer is on another: worth it. A spin that another process interrupts ends early. */
	for (int tries = 0; tries < 50 && polls < 16; tries++)
		polls = polls_of_a_wait(&d, a, cpu + 1);
	assert_true(polls >= 16);
	assert_int_equal(yields, YIELD_TRIES);
	assert_int_equal(d.a_ep->spin.waits, 1);
	assert_int_equal(load_relaxed(&d.a->rx.control->cpu), cpu);
	duo_close(&d);
	unpin(&before);
}

/* A session that is idle has its bell armed: there is nothing to spin on. */
static void test_no_spin_when_idle(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	store_relaxed(&d.b->rx.control->cpu, sched_getcpu() + 1000);
	while (is_hot(d.a))
		assert_int_equal(shmipc_read(a, &c, 1, 0), -EAGAIN);
	d.a->empty_polls = 0;
	assert_int_equal(shmipc_read(a, &c, 1, 3 * MS), -ETIMEDOUT);
	assert_int_equal(d.a->empty_polls, 0);
	duo_close(&d);
}

static struct spin spin_with_clock(struct duo *d, struct shmipc_stream *a, unsigned int calls,
				   int64_t step)
{
	char c;

	heat(d->a);
	spin_init(&d->a_ep->spin);
	store_relaxed(&d->b->rx.control->cpu, sched_getcpu() + 1000);
	fake_clock(calls, step);
	assert_int_equal(shmipc_read(a, &c, 1, 30 * MS), -ETIMEDOUT);
	assert_int_equal(fake_calls, 0);
	return d->a_ep->spin;
}

/* The clock jumps in a spin: it was preempted, or the partner waits for this CPU. */
static void test_clock_jump(void **state)
{
	struct shmipc_stream *a, *b;
	struct spin spin;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	/* Even steps: two looks before it spins, then its time in peace. */
	spin = spin_with_clock(&d, a, 2 + SPIN_MAX_NS / 1000, 1000);
	assert_int_equal(spin.skip, 0);
	assert_int_equal(spin.limit_ns, SPIN_MAX_NS);
	/* A millisecond each: before the spin they mean nothing, at its first look they are a jump. */
	spin = spin_with_clock(&d, a, 3, MS);
	assert_int_equal(spin.skip, SPIN_SKIP);
	assert_in_range(spin.limit_ns, SPIN_MAX_NS / 2, SPIN_MAX_NS * 3 / 4);
	/* The next waits don't spin. */
	for (int i = SPIN_SKIP; i > 0; i--) {
		assert_int_equal(d.a_ep->spin.skip, i);
		heat(d.a);
		assert_int_equal(shmipc_read(a, &(char){ 0 }, 1, MS / 2), -ETIMEDOUT);
		assert_int_equal(d.a->empty_polls, 0);
	}
	assert_int_equal(d.a_ep->spin.skip, 0);
	duo_close(&d);
}

/* Who has sent something since its last wait looks as often as it can, who only receives now and then. */
static void test_pace(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (int asks = 0; asks < 2; asks++) {
		take_bells(d.a_ep);
		if (asks)
			assert_int_equal(shmipc_write(a, "x", 1, 0, 0), 1);
		spin_with_clock(&d, a, 2 + SPIN_MAX_NS / 1000, 1000);
		if (asks)
			assert_in_range(d.a->empty_polls, 10 * SPIN_MAX_NS / 1000, UINT32_MAX);
		else
			assert_in_range(d.a->empty_polls, SPIN_MAX_NS / 1000, SPIN_MAX_NS / 1000 + 2);
	}
	duo_close(&d);
}

static unsigned int syncs;
static const struct provider_ops *real;

static int counted_sync(struct provider *pv, struct pv_sync *sync)
{
	syncs++;
	return real->sync(pv, sync);
}

/* So many asks with no time to wait. Returns how often the provider was asked. */
static unsigned int syncs_of(struct shmipc_stream *a, unsigned int asks)
{
	unsigned int before = syncs;

	while (asks--)
		assert_int_equal(shmipc_read(a, &(char){ 0 }, 1, 0), -EAGAIN);
	return syncs - before;
}

/* Who asks on and on takes events by the clock, and not by a system call for each few asks. */
static void test_syncs_by_the_clock(void **state)
{
	struct provider_ops ops;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	real = d.a_ep->pv->ops;
	ops = *real;
	ops.sync = counted_sync;
	d.a_ep->pv->ops = &ops;
	fake_clock(UINT_MAX, 0);
	fake_ns += TICK - fake_ns % TICK;
	(void)syncs_of(a, 1);
	/* No time passes. */
	assert_int_equal(syncs_of(a, 2000), 0);
	/* Not a tick, but too long: among the next asks. */
	fake_ns += 25000;
	assert_int_equal(syncs_of(a, 32), 1);
	/* Asks that take long. */
	for (int i = 0; i < 8; i++) {
		fake_ns += TICK;
		assert_int_equal(syncs_of(a, 1), 1);
	}
	fake_calls = 0;
	d.a_ep->pv->ops = real;
	duo_close(&d);
}

struct answer {
	struct shmipc_stream *from, *to;
	unsigned int looks;
};

/* Not there at the first look; by the next it is. */
static bool comes_meanwhile(void *arg)
{
	struct answer *answer = arg;

	if (!answer->looks++)
		assert_int_equal(shmipc_write(answer->from, "x", 1, 0, 0), 1);
	return stream_readable(answer->to);
}

/* What was found by spinning was not slept for: no call, no bell asked for, and the next wait spins. */
static void test_spun_stays_hot(void **state)
{
	struct provider_ops ops;
	struct shmipc_stream *a, *b;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	take_bells(d.a_ep);
	heat(d.a);
	no_sync_yet(d.a_ep);
	real = d.a_ep->pv->ops;
	ops = *real;
	ops.sync = counted_sync;
	d.a_ep->pv->ops = &ops;
	syncs = 0;
	for (int i = 0; i < 20; i++) {
		struct answer answer = { .from = b, .to = a };
		struct waiter w = { .key = a, .ready = comes_meanwhile, .arg = &answer };

		store_relaxed(&d.b->rx.control->cpu, sched_getcpu() + 1000);
		spin_init(&d.a_ep->spin);
		assert_int_equal(endpoint_wait(d.a_ep, &w, -1), 0);
		assert_true(is_hot(d.a));
		assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
	}
	assert_int_equal(syncs, 0);
	d.a_ep->pv->ops = real;
	duo_close(&d);
}

/* ---- giving way ---------------------------------------------------------------------- */

struct partner {
	struct duo *d;
	struct shmipc_stream *asked, *asks;
	unsigned int late;	/* yields before that in which it answers */
};

/* Takes what there is, and answers, as one who is on the same CPU and does not sleep. */
static void have_cpu(void *arg)
{
	struct partner *partner = arg;
	char c;

	if (yields % (partner->late + 1))
		return;
	assert_int_equal(shmipc_read(partner->asked, &c, 1, 0), 1);
	assert_int_equal(shmipc_write(partner->asked, "a", 1, 0, 0), 1);
}

static void partner_begin(struct partner *partner, struct duo *d)
{
	duo_open(d, NULL);
	duo_stream(d, &partner->asks, &partner->asked);
	partner->d = d;
	take_bells(d->a_ep);
	take_bells(d->b_ep);
	heat(d->a);
	heat(d->b);
	no_sync_yet(d->b_ep);
	in_yield = have_cpu;
	in_yield_arg = partner;
	yields = 0;
}

static void partner_end(struct partner *partner)
{
	in_yield = NULL;
	duo_close(partner->d);
}

static void ask(struct partner *partner, unsigned int flags)
{
	char c = 0;

	/* Where both ran last. */
	begin_untimed(partner->d->b_ep);
	store_relaxed(&partner->d->a->rx.control->cpu, sched_getcpu());
	assert_int_equal(shmipc_write(partner->asks, "q", 1, flags, 0), 1);
	assert_int_equal(shmipc_read(partner->asks, &c, 1, LIMIT), 1);
	assert_int_equal(c, 'a');
}

/* Its partner answers while it has the CPU: nobody sleeps, nobody rings, at the first yield or the second. */
static void test_answer_in_a_yield(void **state)
{
	struct partner partner = { 0 };
	cpu_set_t before;
	struct duo d;

	(void)state;
	pin(&before);
	for (partner.late = 0; partner.late < YIELD_TRIES; partner.late++) {
		uint64_t bells, sleeps;

		partner_begin(&partner, &d);
		bells = duo_stats(d.a_ep).doorbells + duo_stats(d.b_ep).doorbells;
		sleeps = duo_stats(d.b_ep).sleeps;
		for (int i = 0; i < 100; i++)
			ask(&partner, i % 2 ? SHMIPC_CORK : 0);
		assert_int_equal(yields, 100 * (partner.late + 1));
		assert_int_equal(duo_stats(d.b_ep).sleeps, sleeps);
		assert_true(is_hot(d.b));
		/* The first may find it armed from before. */
		assert_in_range(duo_stats(d.a_ep).doorbells + duo_stats(d.b_ep).doorbells - bells, 0, 1);
		partner_end(&partner);
	}
	unpin(&before);
}

/* Room that a send waits for is found in a yield, too: the receiver need not ring. */
static void take_all(void *arg)
{
	struct partner *partner = arg;
	static char buf[65536];

	while (shmipc_read(partner->asked, buf, sizeof(buf), 0) > 0)
		;
}

static void test_room_in_a_yield(void **state)
{
	struct partner partner = { 0 };
	cpu_set_t before;
	struct duo d;
	uint64_t bells;

	(void)state;
	pin(&before);
	partner_begin(&partner, &d);
	in_yield = take_all;
	bells = duo_stats(d.a_ep).doorbells;
	store_relaxed(&d.a->rx.control->cpu, sched_getcpu());
	for (int i = 0; i < 10000; i++) {
		begin_untimed(d.b_ep);
		assert_int_equal(shmipc_write(partner.asks, "x", 1, 0, LIMIT), 1);
	}
	assert_true(yields > 10);
	assert_int_equal(duo_stats(d.a_ep).doorbells, bells);
	partner_end(&partner);
	unpin(&before);
}

/* Who only sends never waits: it tells where it runs when it rings. */
static void test_sender_tells_where(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	store_relaxed(&d.b->rx.control->cpu, CPU_UNKNOWN);
	store_relaxed(&d.a->rx.control->rx_event, (uint32_t)d.b->tx.next);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_not_equal(load_relaxed(&d.b->rx.control->cpu), CPU_UNKNOWN);
	duo_close(&d);
}

/* One that sleeps can't answer before it was rung for. */
static void test_corked_before_a_yield(void **state)
{
	struct partner partner = { 0 };
	cpu_set_t before;
	struct duo d;
	uint64_t bells;

	(void)state;
	pin(&before);
	partner_begin(&partner, &d);
	store_relaxed(&d.a->rx.control->rx_event, (uint32_t)d.b->tx.next);
	bells = duo_stats(d.b_ep).doorbells;
	ask(&partner, SHMIPC_CORK);
	assert_int_equal(yields, 1);
	assert_int_equal(duo_stats(d.b_ep).doorbells, bells + 1);
	partner_end(&partner);
	unpin(&before);
}

static void time_passes(void *arg)
{
	fake_ns += *(int64_t *)arg;
}

/* A wait that yields, if it may, and has what it waits for before it would sleep. */
static bool second_time(void *arg)
{
	unsigned int *asked = arg;

	return (*asked)++ > 0;
}

/*
 * So many waits in which nobody answers in the yields, and each of these takes so long, by the clock; each wait
 * finds so many frames.
 */
static unsigned int yields_of(struct duo *d, struct shmipc_stream *a, struct shmipc_stream *b, unsigned int waits,
			      int64_t takes_ns, unsigned int frames)
{
	char c;

	yields = 0;
	spin_init(&d->b_ep->spin);
	in_yield = time_passes;
	in_yield_arg = &takes_ns;
	fake_clock(UINT_MAX, 0);
	while (waits--) {
		unsigned int asked = 0;
		struct waiter w = { .key = b, .ready = second_time, .arg = &asked };

		for (unsigned int i = 0; i < frames; i++)
			assert_int_equal(shmipc_write(a, "x", 1, SHMIPC_CORK, 0), 1);
		store_relaxed(&d->a->rx.control->cpu, sched_getcpu());
		heat(d->b);
		assert_int_equal(endpoint_wait(d->b_ep, &w, -1), 0);
		while (shmipc_read(b, &c, 1, 0) == 1)
			;
	}
	fake_calls = 0;
	in_yield = NULL;
	return yields;
}

/* Where a third program takes the CPU for milliseconds each time, there are hardly any. */
static void test_yields_are_timed(void **state)
{
	struct shmipc_stream *a, *b;
	cpu_set_t before;
	struct duo d;

	(void)state;
	pin(&before);
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	/* 1, 2, 4, ... 64, 64, ... waits apart; and a thousand. */
	assert_in_range(yields_of(&d, a, b, 1000, 0, 0), YIELD_TRIES * 18, YIELD_TRIES * 22);
	/* The second yield of a wait is not made after a long one, if it is timed. */
	assert_int_equal(yields_of(&d, a, b, 1000, 3 * MS, 0), 1);
	/* Sooner where waits find many frames. */
	assert_int_equal(yields_of(&d, a, b, 1 + YIELD_REST / 64, 3 * MS, 64), 1);
	assert_int_equal(yields_of(&d, a, b, 2 + YIELD_REST / 64, 3 * MS, 64), 2);
	/* Nor any by who has less time than one may take. */
	spin_init(&d.b_ep->spin);
	heat(d.b);
	yields = 0;
	assert_int_equal(shmipc_read(b, &(char){ 0 }, 1, 1), -ETIMEDOUT);
	assert_int_equal(yields, 0);
	duo_close(&d);
	unpin(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_where_it_spins), cmocka_unit_test(test_no_spin_when_idle),
		cmocka_unit_test(test_clock_jump), cmocka_unit_test(test_pace),
		cmocka_unit_test(test_syncs_by_the_clock), cmocka_unit_test(test_spun_stays_hot),
		cmocka_unit_test(test_answer_in_a_yield), cmocka_unit_test(test_room_in_a_yield),
		cmocka_unit_test(test_sender_tells_where), cmocka_unit_test(test_corked_before_a_yield),
		cmocka_unit_test(test_yields_are_timed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
