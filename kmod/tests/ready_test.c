// SPDX-License-Identifier: GPL-2.0-only
/* Included by ready.c. Causes, the list, and who is woken. */
#include <linux/kthread.h>

#include "fixture.h"

#define SOURCES	4

/* Sources that belong to no object: the list does not care. */
struct bench {
	struct file *file;
	struct shmipc_endpoint *ep;
	struct shmipc_source source[SOURCES];
};

static void bench_init(struct kunit *test, struct bench *b)
{
	int i;

	b->file = shmipc_test_open(test);
	b->ep = shmipc_test_ep(b->file);
	for (i = 0; i < SOURCES; i++) {
		shmipc_ready_init(&b->source[i], 100 + i, SHMIPC_CAUSE_USER);
		b->source[i].handle = 1000 + i;
	}
}

static void bench_end(struct bench *b)
{
	int i;

	for (i = 0; i < SOURCES; i++)
		shmipc_ready_off(b->ep, &b->source[i]);
}

static void ready_causes(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	shmipc_ready_ring(b.ep, &b.source[0], 4, false);
	shmipc_ready_ring(b.ep, &b.source[0], 4, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 1U);
	KUNIT_EXPECT_EQ(test, ev[0].causes, 5U);
	KUNIT_EXPECT_EQ(test, ev[0].cookie, 100ULL);
	KUNIT_EXPECT_EQ(test, ev[0].handle, 1000U);
	/* Taken is gone. */
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 0U);
	bench_end(&b);
}

static void ready_order(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[2], 1, false);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	shmipc_ready_ring(b.ep, &b.source[2], 2, false);
	shmipc_ready_ring(b.ep, &b.source[1], 1, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, 2), 2U);
	KUNIT_EXPECT_EQ(test, ev[0].handle, 1002U);
	KUNIT_EXPECT_EQ(test, ev[0].causes, 3U);
	KUNIT_EXPECT_EQ(test, ev[1].handle, 1000U);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, 2), 1U);
	KUNIT_EXPECT_EQ(test, ev[0].handle, 1001U);
	bench_end(&b);
}

static void ready_only(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	shmipc_ready_ring(b.ep, &b.source[1], 2, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, &b.source[2], ev, 1), 0U);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, &b.source[1], ev, 1), 1U);
	KUNIT_EXPECT_EQ(test, ev[0].causes, 2U);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, &b.source[1], ev, 1), 0U);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 1U);
	bench_end(&b);
}

static void ready_enabled(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[0], SHMIPC_CAUSE_PEER_DIED, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 0U);
	b.source[1].enabled |= SHMIPC_CAUSE_PEER_DIED;
	shmipc_ready_ring(b.ep, &b.source[1], SHMIPC_CAUSE_PEER_DIED, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 1U);
	KUNIT_EXPECT_EQ(test, ev[0].causes, SHMIPC_CAUSE_PEER_DIED);
	bench_end(&b);
}

static void ready_off(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	shmipc_ready_off(b.ep, &b.source[0]);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 0U);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(b.ep->att, NULL, ev, SOURCES), 0U);
	bench_end(&b);
}

/* The word that a spinning program reads changes with each object put on the list. */
static void ready_anchor(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	const struct shmipc_anchor *anchor;
	struct bench b;
	u32 before;

	bench_init(test, &b);
	anchor = shmipc_test_att(b.file)->anchor;
	before = anchor->ready;
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	KUNIT_EXPECT_EQ(test, anchor->ready, before + 1);
	/* It is on the list already. */
	shmipc_ready_ring(b.ep, &b.source[0], 2, false);
	KUNIT_EXPECT_EQ(test, anchor->ready, before + 1);
	shmipc_ready_ring(b.ep, &b.source[1], 1, false);
	KUNIT_EXPECT_EQ(test, anchor->ready, before + 2);
	shmipc_ready_take(b.ep->att, NULL, ev, SOURCES);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	KUNIT_EXPECT_EQ(test, anchor->ready, before + 3);
	bench_end(&b);
}

/* Events that could not be told go back to the head in their order, joined with what came since. */
static void ready_untake(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES], again[SOURCES];
	struct shmipc_test_pair p;
	struct shmipc_endpoint *ep;
	u32 before;
	long s2;

	shmipc_test_pair(test, &p, "kunit.untake");
	ep = shmipc_test_ep(p.b);
	s2 = shmipc_test_connect(test, p.b, "kunit.untake", 0);
	KUNIT_ASSERT_GT(test, s2, 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	KUNIT_ASSERT_GT(test, shmipc_test_accept(test, p.a, p.listener, 0), 0L);
	KUNIT_ASSERT_EQ(test, shmipc_ready_take(ep->att, NULL, ev, SOURCES), 2U);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 2), 0L);
	before = shmipc_test_att(p.b)->anchor->ready;
	shmipc_ready_untake(ep, ev, 2);
	KUNIT_EXPECT_NE(test, shmipc_test_att(p.b)->anchor->ready, before);
	KUNIT_ASSERT_EQ(test, shmipc_ready_take(ep->att, NULL, again, SOURCES), 2U);
	KUNIT_EXPECT_EQ(test, again[0].handle, p.sb);
	KUNIT_EXPECT_EQ(test, again[0].causes, 3U);
	KUNIT_EXPECT_EQ(test, again[1].handle, (u32)s2);
	KUNIT_EXPECT_EQ(test, again[1].causes, SHMIPC_CAUSE_CONNECTED);
	/* What was closed in between needs no event. */
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.b, s2, 0), 0L);
	shmipc_ready_untake(ep, again, 2);
	KUNIT_EXPECT_EQ(test, shmipc_ready_take(ep->att, NULL, again, SOURCES), 1U);
	KUNIT_EXPECT_EQ(test, again[0].handle, p.sb);
}

/* ---- waking ---- */

/**
 * struct sleeper - a thread on the attachment's queue, as SYNC's are
 * @wqe: its entry
 * @woken: how often it was
 */
struct sleeper {
	struct wait_queue_entry wqe;
	unsigned int woken;
};

static int count_wake(struct wait_queue_entry *wqe, unsigned int mode, int flags, void *key)
{
	container_of(wqe, struct sleeper, wqe)->woken++;
	return 1;
}

static void sleeper_add(struct bench *b, struct sleeper *s, bool exclusive)
{
	memset(s, 0, sizeof(*s));
	init_waitqueue_func_entry(&s->wqe, count_wake);
	if (exclusive)
		add_wait_queue_exclusive(&shmipc_test_att(b->file)->wq, &s->wqe);
	else
		add_wait_queue(&shmipc_test_att(b->file)->wq, &s->wqe);
}

static void sleeper_remove(struct bench *b, struct sleeper *s)
{
	remove_wait_queue(&shmipc_test_att(b->file)->wq, &s->wqe);
}

static void ready_wakes_one(struct kunit *test)
{
	struct sleeper s[2], poller;
	struct bench b;

	bench_init(test, &b);
	KUNIT_EXPECT_FALSE(test, shmipc_ready_ring(b.ep, &b.source[2], 1, false));
	sleeper_add(&b, &s[0], true);
	sleeper_add(&b, &s[1], true);
	sleeper_add(&b, &poller, false);
	KUNIT_EXPECT_TRUE(test, shmipc_ready_ring(b.ep, &b.source[0], 1, false));
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 1U);
	/* Who polls sees them all. */
	KUNIT_EXPECT_EQ(test, poller.woken, 1U);
	/* Still on the list: whoever was woken for it takes this too. */
	KUNIT_EXPECT_FALSE(test, shmipc_ready_ring(b.ep, &b.source[0], 2, false));
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 1U);
	KUNIT_EXPECT_TRUE(test, shmipc_ready_ring(b.ep, &b.source[1], 1, true));
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 2U);
	KUNIT_EXPECT_EQ(test, poller.woken, 2U);
	sleeper_remove(&b, &s[0]);
	sleeper_remove(&b, &s[1]);
	sleeper_remove(&b, &poller);
	bench_end(&b);
}

/* Whoever leaves while something is there wakes the next. */
static void ready_passes_on(struct kunit *test)
{
	struct shmipc_ready ev[SOURCES];
	struct sleeper s[2];
	struct bench b;

	bench_init(test, &b);
	shmipc_ready_ring(b.ep, &b.source[0], 1, false);
	shmipc_ready_ring(b.ep, &b.source[1], 1, false);
	sleeper_add(&b, &s[0], true);
	sleeper_add(&b, &s[1], true);
	shmipc_ready_pass_on(b.ep);
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 1U);
	shmipc_ready_take(b.ep->att, NULL, ev, 1);
	shmipc_ready_pass_on(b.ep);
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 2U);
	shmipc_ready_take(b.ep->att, NULL, ev, 1);
	shmipc_ready_pass_on(b.ep);
	KUNIT_EXPECT_EQ(test, s[0].woken + s[1].woken, 2U);
	sleeper_remove(&b, &s[0]);
	sleeper_remove(&b, &s[1]);
	bench_end(&b);
}

static void ready_off_wakes_all(struct kunit *test)
{
	struct sleeper s[2];
	struct bench b;

	bench_init(test, &b);
	sleeper_add(&b, &s[0], true);
	sleeper_add(&b, &s[1], true);
	shmipc_ready_off(b.ep, &b.source[0]);
	KUNIT_EXPECT_EQ(test, s[0].woken, 1U);
	KUNIT_EXPECT_EQ(test, s[1].woken, 1U);
	sleeper_remove(&b, &s[0]);
	sleeper_remove(&b, &s[1]);
	bench_end(&b);
}

/* Many ring one object while one takes: no cause is lost, none comes twice. */
struct ringer {
	struct bench *b;
	u32 bit;
	unsigned int rounds;
	atomic_t *seen;
	struct completion done;
};

static int ring_bits(void *arg)
{
	struct ringer *r = arg;
	unsigned int i;

	for (i = 0; i < r->rounds; i++) {
		shmipc_ready_ring(r->b->ep, &r->b->source[0], r->bit, false);
		/* Taken before the next, so that each ring is a cause of its own. */
		while (atomic_read(r->seen) <= i)
			usleep_range(20, 50);
	}
	complete(&r->done);
	return 0;
}

static void ready_concurrent(struct kunit *test)
{
	atomic_t seen[2] = { ATOMIC_INIT(0), ATOMIC_INIT(0) };
	unsigned long limit = jiffies + SHMIPC_TEST_LIMIT;
	struct ringer r[2];
	struct bench b;
	int i;

	bench_init(test, &b);
	for (i = 0; i < 2; i++) {
		r[i] = (struct ringer){ .b = &b, .bit = 1 << i, .rounds = 200, .seen = &seen[i] };
		init_completion(&r[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(ring_bits, &r[i], "shmipc-ring")));
	}
	while (atomic_read(&seen[0]) + atomic_read(&seen[1]) < 400 && time_before(jiffies, limit)) {
		struct shmipc_ready ev;

		if (!shmipc_ready_take(b.ep->att, NULL, &ev, 1)) {
			cond_resched();
			continue;
		}
		for (i = 0; i < 2; i++)
			if (ev.causes & 1 << i)
				atomic_inc(&seen[i]);
	}
	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, atomic_read(&seen[i]), 200);
	/* Lets them go whatever happened. */
	for (i = 0; i < 2; i++) {
		atomic_set(&seen[i], INT_MAX);
		wait_for_completion(&r[i].done);
	}
	bench_end(&b);
}

static struct kunit_case ready_cases[] = {
	KUNIT_CASE(ready_causes),
	KUNIT_CASE(ready_order),
	KUNIT_CASE(ready_only),
	KUNIT_CASE(ready_enabled),
	KUNIT_CASE(ready_off),
	KUNIT_CASE(ready_anchor),
	KUNIT_CASE(ready_untake),
	KUNIT_CASE(ready_wakes_one),
	KUNIT_CASE(ready_passes_on),
	KUNIT_CASE(ready_off_wakes_all),
	KUNIT_CASE(ready_concurrent),
	{}
};

SHMIPC_TEST_SUITE(ready);
