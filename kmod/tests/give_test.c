// SPDX-License-Identifier: GPL-2.0-only
/* Included by give.c. Ownership on its way: who has it at each step, and who waits for whom. */
#include <linux/kthread.h>

#include "fixture.h"

#define RW	(PROT_READ | PROT_WRITE)
#define RIGHTS_ALL	(SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE)

static long test_freeze(struct kunit *test, struct file *file, u32 segment)
{
	struct shmipc_seg_freeze arg = { .size = sizeof(arg), .segment = segment };

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_FREEZE, &arg);
}

static long test_give(struct kunit *test, struct file *file, u32 session, u32 slot)
{
	struct shmipc_seg_give arg = { .size = sizeof(arg), .session = session, .slot = slot };

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_GIVE, &arg);
}

/* A handle, or -errno; 0 for a refusal. */
static long test_take(struct kunit *test, struct file *file, u32 session, u32 slot, u32 flags)
{
	struct shmipc_seg_take arg = { .size = sizeof(arg), .flags = flags, .session = session,
				       .slot = slot };
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_TAKE, &arg);

	return err ?: arg.out_handle;
}

/**
 * struct scene - uid 1000 gives slot 0 to uid 1001
 * @mine: where the giver has it mapped
 * @theirs: where the receiver has it mapped, to read
 * @seg: kept by @owner
 * @owner: the giver's view, referenced
 * @grant: the receiver's, referenced
 */
struct scene {
	struct shmipc_test_pair p;
	unsigned long mine, theirs;
	struct shmipc_segment *seg;
	struct shmipc_view *owner, *grant;
	struct shmipc_user *giver, *taker;
};

static void scene_open(struct kunit *test, struct scene *s, const char *name)
{
	struct shmipc_test_pair *p = &s->p;
	struct shmipc_object *obj;
	struct shmipc_side *side;
	u64 offset;

	shmipc_test_become(test, 1000, 1000);
	p->a = shmipc_test_open(test);
	p->listener = shmipc_test_bind(test, p->a, name, 1);
	p->ga = shmipc_test_segment(test, p->a, 3 * PAGE_SIZE, &offset);
	s->mine = shmipc_test_mmap(p->a, offset, PAGE_SIZE, RW);
	KUNIT_ASSERT_EQ(test, shmipc_test_poke(s->mine, 77), 0);
	shmipc_test_become(test, 1001, 1001);
	p->b = shmipc_test_open(test);
	p->sb = shmipc_test_connect(test, p->b, name, 0);
	p->sa = shmipc_test_accept(test, p->a, p->listener, p->ga);
	KUNIT_ASSERT_GT(test, (s32)p->sa, 0);
	KUNIT_ASSERT_EQ(test, shmipc_test_causes(test, p->b, p->sb), SHMIPC_CAUSE_CONNECTED);
	KUNIT_ASSERT_EQ(test, shmipc_test_causes(test, p->a, p->listener), SHMIPC_CAUSE_ACCEPT);
	s->theirs = shmipc_test_mmap(p->b, shmipc_test_slot(test, p->b, p->sb, 0), PAGE_SIZE,
				     PROT_READ);
	obj = shmipc_handle_get(shmipc_test_ep(p->a), p->ga, SHMIPC_KIND_SEGMENT);
	KUNIT_ASSERT_FALSE(test, IS_ERR(obj));
	s->owner = shmipc_view_of(obj);
	s->seg = s->owner->segment;
	side = shmipc_side_get(shmipc_test_ep(p->a), p->sa);
	KUNIT_ASSERT_FALSE(test, IS_ERR(side));
	s->grant = shmipc_slot_get(side, 0);
	KUNIT_ASSERT_NOT_NULL(test, s->grant);
	shmipc_object_put(&side->obj);
	s->giver = shmipc_test_ep(p->a)->user;
	s->taker = shmipc_test_ep(p->b)->user;
}

static void scene_close(struct scene *s)
{
	shmipc_view_put(s->grant);
	shmipc_view_put(s->owner);
}

static void expect_pages(struct kunit *test, struct scene *s, long giver, long taker)
{
	KUNIT_EXPECT_EQ(test, atomic_long_read(&s->giver->pages), giver);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&s->taker->pages), taker);
}

static void give_freeze(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	unsigned long addr;
	u64 offset;
	u32 seg = shmipc_test_segment(test, file, PAGE_SIZE, &offset), v;

	addr = shmipc_test_mmap(file, offset, PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr, 5), 0);
	KUNIT_EXPECT_EQ(test, test_freeze(test, file, seg), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr, 6), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 5U);
	/* The entry that the read made is not made writable. */
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr, 6), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, offset, PAGE_SIZE, RW), (long)-EACCES);
}

static void give_states(struct kunit *test)
{
	struct scene s;
	long taken;
	u32 v;

	scene_open(test, &s, "kunit.gift");
	KUNIT_EXPECT_EQ(test, test_take(test, s.p.b, s.p.sb, 0, 0), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, test_give(test, s.p.a, s.p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, s.p.b, s.p.sb), SHMIPC_CAUSE_GIVEN);
	KUNIT_EXPECT_PTR_EQ(test, s.seg->owner, s.owner);
	KUNIT_EXPECT_PTR_EQ(test, s.seg->given, s.grant);
	KUNIT_EXPECT_EQ(test, s.owner->rights, 0U);
	KUNIT_EXPECT_EQ(test, s.grant->rights, SHMIPC_RIGHT_READ);
	KUNIT_EXPECT_EQ(test, atomic_read(&shmipc_test_ep(s.p.a)->limbo), 1);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(s.mine, &v), -EFAULT);
	expect_pages(test, &s, 3, 0);
	taken = test_take(test, s.p.b, s.p.sb, 0, 0);
	KUNIT_ASSERT_GT(test, taken, 0L);
	KUNIT_EXPECT_PTR_EQ(test, s.seg->owner, s.grant);
	KUNIT_EXPECT_NULL(test, s.seg->given);
	KUNIT_EXPECT_EQ(test, s.seg->nr_grants, 0U);
	KUNIT_EXPECT_EQ(test, s.grant->rights, RIGHTS_ALL);
	KUNIT_EXPECT_EQ(test, s.owner->rights, 0U);
	KUNIT_EXPECT_FALSE(test, s.owner->revoked);
	KUNIT_EXPECT_EQ(test, (long)s.grant->obj.handle, taken);
	KUNIT_EXPECT_EQ(test, atomic_read(&shmipc_test_ep(s.p.a)->limbo), 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_test_ep(s.p.a)->pages), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_test_ep(s.p.b)->pages), 3L);
	expect_pages(test, &s, 0, 3);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(s.theirs, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 77U);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(s.mine, &v), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, s.p.b, taken, 0), 0L);
	/* The pages are gone, though the former owner's handle is there. */
	KUNIT_EXPECT_NULL(test, s.seg->pages);
	expect_pages(test, &s, 0, 0);
	scene_close(&s);
}

static void give_refused(struct kunit *test)
{
	unsigned long again;
	struct scene s;

	scene_open(test, &s, "kunit.refused");
	KUNIT_EXPECT_EQ(test, test_give(test, s.p.a, s.p.sa, 0), 0L);
	/* Mapped as it is when it comes back. */
	again = shmipc_test_mmap(s.p.a, (u64)s.owner->start << PAGE_SHIFT, PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(again, 78), -EFAULT);
	KUNIT_EXPECT_EQ(test, test_take(test, s.p.b, s.p.sb, 0, SHMIPC_TAKE_REFUSE), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, s.p.a, s.p.sa), SHMIPC_CAUSE_RETURNED);
	KUNIT_EXPECT_NULL(test, s.seg->given);
	KUNIT_EXPECT_EQ(test, s.owner->rights, RIGHTS_ALL);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(s.mine, 78), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(again, 78), 0);
	/* Frozen, it comes back frozen. */
	KUNIT_EXPECT_EQ(test, test_freeze(test, s.p.a, s.p.ga), 0L);
	KUNIT_EXPECT_EQ(test, test_give(test, s.p.a, s.p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, s.p.a, s.p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, s.owner->rights, SHMIPC_RIGHT_READ);
	KUNIT_EXPECT_TRUE(test, s.grant->revoked);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(s.mine, 79), -EFAULT);
	scene_close(&s);
}

static void give_over_cap(struct kunit *test)
{
	struct scene s;

	scene_open(test, &s, "kunit.over");
	KUNIT_EXPECT_EQ(test, test_give(test, s.p.a, s.p.sa, 0), 0L);
	atomic_long_add(1L << 62, &s.taker->pages);
	KUNIT_EXPECT_EQ(test, test_take(test, s.p.b, s.p.sb, 0, 0), (long)-EDQUOT);
	atomic_long_sub(1L << 62, &s.taker->pages);
	KUNIT_EXPECT_PTR_EQ(test, s.seg->given, s.grant);
	KUNIT_EXPECT_EQ(test, s.grant->rights, SHMIPC_RIGHT_READ);
	expect_pages(test, &s, 3, 0);
	KUNIT_EXPECT_GT(test, test_take(test, s.p.b, s.p.sb, 0, 0), 0L);
	expect_pages(test, &s, 0, 3);
	scene_close(&s);
}

/* Of the owner to another payer, as a handover to another user does it. */
static void give_move_owner(struct kunit *test)
{
	struct scene s;

	scene_open(test, &s, "kunit.move");
	mutex_lock(&s.seg->moves);
	KUNIT_EXPECT_EQ(test, shmipc_segment_move(s.owner, s.taker), 0);
	expect_pages(test, &s, 0, 3);
	KUNIT_EXPECT_EQ(test, shmipc_segment_move(s.owner, s.taker), 0);
	expect_pages(test, &s, 0, 3);
	KUNIT_EXPECT_EQ(test, shmipc_segment_move(s.owner, s.giver), 0);
	mutex_unlock(&s.seg->moves);
	expect_pages(test, &s, 3, 0);
	KUNIT_EXPECT_PTR_EQ(test, s.seg->owner, s.owner);
	KUNIT_EXPECT_EQ(test, s.seg->nr_grants, 1U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_test_ep(s.p.a)->pages), 3L);
	scene_close(&s);
}

/**
 * struct mover - a thread that gives, or takes
 * @err: of it
 * @done: it has come back
 */
struct mover {
	struct gift g;
	struct shmipc_side *side;
	struct task_struct *task;
	int err;
	bool done;
};

static int mover_end(struct mover *m, int err)
{
	m->err = err;
	WRITE_ONCE(m->done, true);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int give_thread(void *arg)
{
	struct mover *m = arg;

	return mover_end(m, give(m->g.att, m->side, 0));
}

static int refuse_thread(void *arg)
{
	struct mover *m = arg;

	return mover_end(m, refuse(&m->g));
}

static void mover_start(struct kunit *test, struct mover *m, int (*fn)(void *))
{
	m->task = kthread_run(fn, m, "shmipc-mover");
	KUNIT_ASSERT_FALSE(test, IS_ERR(m->task));
	while (READ_ONCE(m->task->__state) != TASK_UNINTERRUPTIBLE && !READ_ONCE(m->done))
		usleep_range(100, 200);
}

/* A fault of the owner is in its middle: nobody gets to the gift before it is out, and zapped. */
static void give_waits(struct kunit *test)
{
	struct mover giver = {}, other = {};
	struct scene s;

	scene_open(test, &s, "kunit.waits");
	giver.side = shmipc_side_get(shmipc_test_ep(s.p.a), s.p.sa);
	KUNIT_ASSERT_FALSE(test, IS_ERR(giver.side));
	giver.g.att = shmipc_test_att(s.p.a);
	other.g.att = shmipc_test_att(s.p.b);
	other.g.giver = giver.side;
	other.g.view = s.grant;
	down_read(&s.owner->sem);
	mover_start(test, &giver, give_thread);
	mover_start(test, &other, refuse_thread);
	KUNIT_EXPECT_EQ(test, s.owner->rights, RIGHTS_ALL);
	KUNIT_EXPECT_FALSE(test, READ_ONCE(giver.done) || READ_ONCE(other.done));
	up_read(&s.owner->sem);
	kthread_stop(giver.task);
	kthread_stop(other.task);
	KUNIT_EXPECT_EQ(test, giver.err, 0);
	KUNIT_EXPECT_EQ(test, other.err, 0);
	KUNIT_EXPECT_EQ(test, s.owner->rights, RIGHTS_ALL);
	shmipc_object_put(&giver.side->obj);
	scene_close(&s);
}

static struct kunit_case give_cases[] = {
	KUNIT_CASE(give_freeze),
	KUNIT_CASE(give_states),
	KUNIT_CASE(give_refused),
	KUNIT_CASE(give_over_cap),
	KUNIT_CASE(give_move_owner),
	KUNIT_CASE(give_waits),
	{}
};

SHMIPC_TEST_SUITE(give);
