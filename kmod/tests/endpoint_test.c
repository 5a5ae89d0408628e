// SPDX-License-Identifier: GPL-2.0-only
/* Included by endpoint.c. The anchor, the address space, and the order of an end. */
#include <linux/kthread.h>

#include "../account.h"
#include "fixture.h"

#define LIVE(name)	atomic_long_read(&shmipc_live[SHMIPC_LIVE_##name])

static void endpoint_needs_anchor(struct kunit *test)
{
	struct file *file = shmipc_test_open_unbound(test);
	struct shmipc_query q = { .size = sizeof(q) };

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, shmipc_test_segment(test, file, PAGE_SIZE, NULL), (long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_QUERY, &q), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_segment(test, file, PAGE_SIZE, NULL), 0L);
}

static void endpoint_anchor_policy(struct kunit *test)
{
	struct file *file = shmipc_test_open_unbound(test);

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, 0, 2 * PAGE_SIZE, PROT_READ), (long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE),
			(long)-EACCES);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ | PROT_EXEC),
			(long)-EACCES);
	KUNIT_EXPECT_EQ(test, (long)vm_mmap(file, 0, PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0),
			(long)-EINVAL);
	/* None of these has bound it. */
	KUNIT_EXPECT_NULL(test, shmipc_test_att(file)->mm);
	KUNIT_EXPECT_GT(test, shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ), (long)-EBUSY);
}

/* Of another address space, a kernel thread's here: none. */
static int ask_from_elsewhere(void *arg)
{
	struct file *file = arg;

	return shmipc_attachment_check(file->private_data);
}

static void endpoint_of_its_mm(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct task_struct *task = kthread_create(ask_from_elsewhere, file, "shmipc-else");

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	KUNIT_EXPECT_EQ(test, shmipc_attachment_check(shmipc_test_att(file)), 0);
	get_task_struct(task);
	wake_up_process(task);
	/* Ended by itself or not begun at all: either way it is asked what it returned. */
	while (!READ_ONCE(task->exit_state) && READ_ONCE(task->__state) != TASK_DEAD)
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, kthread_stop(task), -EPERM);
	put_task_struct(task);
}

static unsigned long anchor_of(struct file *file)
{
	struct vm_area_struct *vma;
	unsigned long at = 0;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, 0);
	while (vma && (vma->vm_file != file || vma->vm_pgoff))
		vma = find_vma(current->mm, vma->vm_end);
	if (vma)
		at = vma->vm_start;
	mmap_read_unlock(current->mm);
	return at;
}

/* The anchor goes: dead, though the file is open. */
static void endpoint_dies_with_anchor(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.anchor");
	vm_munmap(anchor_of(p.a), PAGE_SIZE);
	wait_for_completion(&shmipc_test_ep(p.a)->over);
	KUNIT_EXPECT_TRUE(test, shmipc_endpoint_died(shmipc_test_ep(p.a)));
	KUNIT_EXPECT_EQ(test, shmipc_test_att(p.a)->anchor->state, SHMIPC_STATE_DEAD);
	KUNIT_EXPECT_EQ(test, shmipc_test_segment(test, p.a, PAGE_SIZE, NULL), (long)-ESTALE);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), SHMIPC_CAUSE_PEER_DIED);
	KUNIT_EXPECT_EQ(test, LIVE(names), 0L);
	/* Its segment lives by the grant that the peer has; the peer's own by its owner. */
	KUNIT_EXPECT_EQ(test, LIVE(segments), 2L);
	KUNIT_EXPECT_EQ(test, LIVE(grants), 1L);
	KUNIT_EXPECT_EQ(test, LIVE(endpoints), 2L);
}

/* After the end each mapping is a signal, whatever right it had. */
static void endpoint_end_zaps(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	unsigned long addr;
	u64 off;
	u32 v;

	shmipc_test_segment(test, file, PAGE_SIZE, &off);
	addr = shmipc_test_mmap(file, off, PAGE_SIZE, PROT_READ | PROT_WRITE);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr, 1), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, 0, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off, PAGE_SIZE, PROT_READ), (long)-ESTALE);
	/* But the anchor still tells of it. */
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(anchor_of(file) +
					       offsetof(struct shmipc_anchor, state), &v), 0);
	KUNIT_EXPECT_EQ(test, v, SHMIPC_STATE_DEAD);
}

static void endpoint_ends_once(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);

	shmipc_endpoint_end(ep, SHMIPC_ENDING_CLOSED);
	shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
	wait_for_completion(&ep->over);
	KUNIT_EXPECT_FALSE(test, shmipc_endpoint_died(ep));
	KUNIT_EXPECT_TRUE(test, shmipc_endpoint_ending(ep));
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ep->user->endpoints), 0L);
}

/* Whatever state it was in, all that it held is given back. */
static void endpoint_dies_holding(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long l, seg;
	int i;

	l = shmipc_test_bind(test, a, "kunit.holding", 8);
	for (i = 0; i < 4; i++) {
		seg = shmipc_test_segment(test, a, 3 * PAGE_SIZE, NULL);
		/* One accepted, one waiting, at each of the two. */
		KUNIT_EXPECT_GT(test, shmipc_test_connect(test, i & 1 ? a : b, "kunit.holding",
							  i & 1 ? seg : 0), 0L);
		if (i < 2)
			KUNIT_EXPECT_GT(test, shmipc_test_accept(test, a, l, seg), 0L);
	}
	shmipc_test_release(test, a);
	KUNIT_EXPECT_EQ(test, LIVE(names), 0L);
	/* The one that the other endpoint was granted. */
	KUNIT_EXPECT_EQ(test, LIVE(segments), 1L);
	shmipc_test_release(test, b);
	KUNIT_EXPECT_EQ(test, LIVE(sessions), 0L);
	KUNIT_EXPECT_EQ(test, LIVE(endpoints), 0L);
}

/* An open that was never bound ends with its file. */
static void endpoint_unbound_release(struct kunit *test)
{
	struct file *file = shmipc_test_open_unbound(test);

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, LIVE(endpoints), 1L);
	shmipc_test_release(test, file);
	KUNIT_EXPECT_EQ(test, LIVE(endpoints), 0L);
}

static void endpoint_describe(struct kunit *test)
{
	struct shmipc_peer peer;
	struct file *file;

	shmipc_test_become(test, 1234, 5678);
	file = shmipc_test_open(test);
	shmipc_endpoint_describe(shmipc_test_ep(file), &peer);
	KUNIT_EXPECT_EQ(test, peer.uid, 1234U);
	KUNIT_EXPECT_EQ(test, peer.gid, 5678U);
	KUNIT_EXPECT_EQ(test, peer.pid, (u32)task_tgid_vnr(current));
}

static void endpoint_close_arguments(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_close arg = { .size = sizeof(arg), .flags = SHMIPC_CLOSE_REVOKE };
	long seg = shmipc_test_segment(test, file, PAGE_SIZE, NULL);

	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_CLOSE, &arg),
			(long)-EINVAL);
	arg.flags = 2;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_CLOSE, &arg),
			(long)-EOPNOTSUPP);
	arg.flags = SHMIPC_CLOSE_REVOKE;
	arg.handle = seg;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_CLOSE, &arg),
			(long)-EINVAL);
	arg.flags = 0;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_CLOSE, &arg), 0L);
}

static struct kunit_case endpoint_cases[] = {
	KUNIT_CASE(endpoint_needs_anchor),
	KUNIT_CASE(endpoint_anchor_policy),
	KUNIT_CASE(endpoint_of_its_mm),
	KUNIT_CASE(endpoint_dies_with_anchor),
	KUNIT_CASE(endpoint_end_zaps),
	KUNIT_CASE(endpoint_ends_once),
	KUNIT_CASE(endpoint_dies_holding),
	KUNIT_CASE(endpoint_unbound_release),
	KUNIT_CASE(endpoint_describe),
	KUNIT_CASE(endpoint_close_arguments),
	{}
};

SHMIPC_TEST_SUITE(endpoint);
