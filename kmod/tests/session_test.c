// SPDX-License-Identifier: GPL-2.0-only
/* Included by session.c. The states of a session, and the grants made through it. */
#include "fixture.h"

static struct shmipc_session *session_of(struct kunit *test, struct file *file, u32 handle)
{
	struct shmipc_side *side = side_get(shmipc_test_ep(file), handle);

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

	shmipc_test_pair(test, &p, "kunit.grants");
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, 0), (long)-EEXIST);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, SHMIPC_SLOTS_MAX - 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, SHMIPC_SLOTS_MAX),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.sa, 1), (long)-EBADF);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.ga, p.ga, 1), (long)-EBADF);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, 99999, p.ga, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, 99999, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, SHMIPC_SLOTS_MAX),
			(long)-EINVAL);
	/* Slots are each direction's own. */
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.b, p.sb, p.gb, SHMIPC_SLOTS_MAX - 1), 0L);
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
	int i;

	shmipc_test_pair(test, &p, "kunit.again");
	for (i = 0; i < 50; i++) {
		KUNIT_ASSERT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, 5), 0L);
		KUNIT_ASSERT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 5), 0L);
	}
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_views]), 4L);
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
	{}
};

SHMIPC_TEST_SUITE(session_suite, "shmipc-session", session_cases);
