// SPDX-License-Identifier: GPL-2.0-only
/* Included by session.c. The states of a session, and the grants made through it. */
#include <linux/kthread.h>

#include "fixture.h"

static struct shmipc_session *session_of(struct kunit *test, struct file *file, u32 handle)
{
	struct shmipc_side *side = shmipc_side_get(shmipc_test_ep(file), handle);

	KUNIT_ASSERT_FALSE(test, IS_ERR(side));
	return shmipc_session_of(side);
}

static void session_put(struct shmipc_session *s, int side)
{
	shmipc_object_put(&s->side[side].obj);
}

static void session_states(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	struct shmipc_session *s;
	long l, sa, sb;

	l = shmipc_test_bind(test, a, "kunit.states", 1);
	sb = shmipc_test_connect(test, b, "kunit.states", 0);
	s = session_of(test, b, sb);
	KUNIT_EXPECT_EQ(test, (int)s->state, (int)SHMIPC_SESSION_PENDING);
	KUNIT_EXPECT_NULL(test, s->side[1].obj.ep);
	sa = shmipc_test_accept(test, a, l, 0);
	KUNIT_EXPECT_EQ(test, (int)s->state, (int)SHMIPC_SESSION_LIVE);
	KUNIT_EXPECT_PTR_EQ(test, s->side[1].obj.ep, shmipc_test_ep(a));
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, (int)s->state, (int)SHMIPC_SESSION_LIVE);
	KUNIT_EXPECT_TRUE(test, s->side[1].closed);
	KUNIT_EXPECT_FALSE(test, s->side[0].closed);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, b, sb, 0), 0L);
	KUNIT_EXPECT_EQ(test, (int)s->state, (int)SHMIPC_SESSION_OVER);
	session_put(s, 0);
}

/* The connector gives up before it was accepted: nobody is told, nothing is queued. */
static void session_given_up(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long l, sb;

	l = shmipc_test_bind(test, a, "kunit.given-up", 1);
	sb = shmipc_test_connect(test, b, "kunit.given-up",
				 shmipc_test_segment(test, b, PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, b, sb, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_accept(test, a, l, 0), (long)-EAGAIN);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_sessions]), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_grants]), 0L);
}

/* Both first segments arrive with the acceptance, as slot 0 each way. */
static void session_first_segments(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.first");
	KUNIT_EXPECT_GT(test, shmipc_test_slot(test, p.a, p.sa, 0), 0LL);
	KUNIT_EXPECT_GT(test, shmipc_test_slot(test, p.b, p.sb, 0), 0LL);
	KUNIT_EXPECT_EQ(test, shmipc_test_slot(test, p.a, p.sa, 1), (s64)-ENOENT);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_grants]), 2L);
}

static void session_without_segments(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long l, sa, sb;

	l = shmipc_test_bind(test, a, "kunit.bare", 1);
	sb = shmipc_test_connect(test, b, "kunit.bare", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_slot(test, b, sb, 0), (s64)-ENOTCONN);
	sa = shmipc_test_accept(test, a, l, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_slot(test, b, sb, 0), (s64)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_slot(test, a, sa, 0), (s64)-ENOENT);
}

static void session_close_tells(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.tells");
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), SHMIPC_CAUSE_PEER_CLOSED);
	/* Nobody is left to be told. */
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.b, p.sb, 0), 0L);
	KUNIT_EXPECT_TRUE(test, list_empty(&shmipc_test_ep(p.a)->ready));
}

static void session_death_tells(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.death");
	shmipc_test_release(test, p.a);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), SHMIPC_CAUSE_PEER_DIED);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.b, p.sb, p.gb, 4), (long)-EPIPE);
}

/* CLOSE of handle 0 is no death. */
static void session_endpoint_closed(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.closed0");
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, 0, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), SHMIPC_CAUSE_PEER_CLOSED);
}

/* What the closer granted stays with its peer, unless it said REVOKE. */
static void session_close_and_grants(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long addr;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.stays");
	addr = shmipc_test_mmap(p.b, shmipc_test_slot(test, p.b, p.sb, 0), PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	/* What it was granted has gone, though. */
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_grants]), 1L);
}

static void session_close_revokes(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long addr;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.revokes");
	addr = shmipc_test_mmap(p.b, shmipc_test_slot(test, p.b, p.sb, 0), PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.sa, SHMIPC_CLOSE_REVOKE), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), -EFAULT);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_grants]), 0L);
}

static void session_grant_errors(struct kunit *test)
{
	struct shmipc_test_pair p;
	long ga2, gb2, ga3;

	shmipc_test_pair(test, &p, "kunit.grants");
	ga2 = shmipc_test_segment(test, p.a, PAGE_SIZE, NULL);
	ga3 = shmipc_test_segment(test, p.a, PAGE_SIZE, NULL);
	gb2 = shmipc_test_segment(test, p.b, PAGE_SIZE, NULL);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, ga2, 0), (long)-EEXIST);
	/* The offsets of the peer are not to be used up with one segment. */
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, 1), (long)-EEXIST);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, ga2, SHMIPC_SLOTS_MAX - 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, ga3, SHMIPC_SLOTS_MAX),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.sa, 1), (long)-EBADF);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.ga, p.ga, 1), (long)-EBADF);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, 99999, ga3, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, 99999, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, SHMIPC_SLOTS_MAX),
			(long)-EINVAL);
	/* Slots are each direction's own. */
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.b, p.sb, gb2, SHMIPC_SLOTS_MAX - 1), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_grants]), 4L);
}

static void session_grant_before_accept(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	long s, g;

	shmipc_test_bind(test, file, "kunit.early", 1);
	g = shmipc_test_segment(test, file, PAGE_SIZE, NULL);
	s = shmipc_test_connect(test, file, "kunit.early", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, file, s, g, 1), (long)-ENOTCONN);
}

static void session_slot_again(struct kunit *test)
{
	struct shmipc_test_pair p;
	long seg;
	int i;

	shmipc_test_pair(test, &p, "kunit.again");
	seg = shmipc_test_segment(test, p.a, PAGE_SIZE, NULL);
	for (i = 0; i < 50; i++) {
		KUNIT_ASSERT_EQ(test, shmipc_test_grant(test, p.a, p.sa, seg, 5), 0L);
		KUNIT_ASSERT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 5), 0L);
	}
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_views]), 5L);
}

/**
 * struct dropper - a thread that ends the grant of slot 0
 * @mine: it was the one who took it out
 * @done: it did not wait, or not any more
 */
struct dropper {
	struct shmipc_side *granter;
	struct task_struct *task;
	bool mine;
	bool done;
};

static int drop_thread(void *arg)
{
	struct dropper *d = arg;

	d->mine = slot_drop(d->granter, 0);
	WRITE_ONCE(d->done, true);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* Two end one grant while a fault is in its middle: neither is done before the right is gone. */
static void session_drop_waits(struct kunit *test)
{
	struct dropper d[2];
	struct shmipc_session *s;
	struct shmipc_view *view;
	struct shmipc_test_pair p;
	int i;

	shmipc_test_pair(test, &p, "kunit.drop");
	s = session_of(test, p.a, p.sa);
	view = xa_load(&s->side[1].slots, 0);
	KUNIT_ASSERT_NOT_NULL(test, view);
	KUNIT_ASSERT_TRUE(test, shmipc_view_tryget(view));
	down_read(&view->sem);
	for (i = 0; i < 2; i++) {
		d[i] = (struct dropper){ .granter = &s->side[1] };
		d[i].task = kthread_run(drop_thread, &d[i], "shmipc-drop");
		KUNIT_ASSERT_FALSE(test, IS_ERR(d[i].task));
		while (READ_ONCE(d[i].task->__state) != TASK_UNINTERRUPTIBLE &&
		       !READ_ONCE(d[i].done))
			usleep_range(100, 200);
		KUNIT_EXPECT_FALSE(test, READ_ONCE(d[i].done));
	}
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&s->side[1].slots, 0), (void *)view);
	KUNIT_EXPECT_NE(test, view->rights, 0U);
	up_read(&view->sem);
	for (i = 0; i < 2; i++)
		kthread_stop(d[i].task);
	KUNIT_EXPECT_EQ(test, d[0].mine + d[1].mine, 1);
	KUNIT_EXPECT_EQ(test, view->rights, 0U);
	shmipc_view_put(view);
	session_put(s, 1);
}

static struct kunit_case session_cases[] = {
	KUNIT_CASE(session_states),
	KUNIT_CASE(session_given_up),
	KUNIT_CASE(session_first_segments),
	KUNIT_CASE(session_without_segments),
	KUNIT_CASE(session_close_tells),
	KUNIT_CASE(session_death_tells),
	KUNIT_CASE(session_endpoint_closed),
	KUNIT_CASE(session_close_and_grants),
	KUNIT_CASE(session_close_revokes),
	KUNIT_CASE(session_grant_errors),
	KUNIT_CASE(session_grant_before_accept),
	KUNIT_CASE(session_slot_again),
	KUNIT_CASE(session_drop_waits),
	{}
};

SHMIPC_TEST_SUITE(session);
