// SPDX-License-Identifier: GPL-2.0-only
/* Included by mapping.c. What may be mapped, by whom, and that a revoked right is gone. */
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>

#include "fixture.h"

#define RW	(PROT_READ | PROT_WRITE)

static vm_flags_t flags_at(unsigned long addr)
{
	struct vm_area_struct *vma;
	vm_flags_t flags;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, addr);
	flags = vma && vma->vm_start <= addr ? vma->vm_flags : 0;
	mmap_read_unlock(current->mm);
	return flags;
}

static void mapping_mmap_policy(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	u64 off;
	long seg = shmipc_test_segment(test, file, 4 * PAGE_SIZE, &off);

	KUNIT_ASSERT_GT(test, seg, 0L);
	KUNIT_EXPECT_EQ(test, (long)vm_mmap(file, 0, PAGE_SIZE, RW, MAP_PRIVATE, off),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off, PAGE_SIZE, PROT_READ | PROT_EXEC),
			(long)-EACCES);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off + 4 * PAGE_SIZE, PAGE_SIZE, RW),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off, 5 * PAGE_SIZE, RW), (long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off + PAGE_SIZE, 4 * PAGE_SIZE, RW),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, off - PAGE_SIZE, 2 * PAGE_SIZE, RW),
			(long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(file, PAGE_SIZE, PAGE_SIZE, PROT_READ),
			(long)-EINVAL);
	KUNIT_EXPECT_GT(test, shmipc_test_mmap(file, off, 4 * PAGE_SIZE, RW), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_mmap(file, off + PAGE_SIZE, 3 * PAGE_SIZE, RW), 0L);
}

static void mapping_owner_flags(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	unsigned long addr;
	u64 off;

	shmipc_test_segment(test, file, PAGE_SIZE, &off);
	addr = shmipc_test_mmap(file, off, PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, flags_at(addr) & SHMIPC_VM_FLAGS, SHMIPC_VM_FLAGS);
	KUNIT_EXPECT_EQ(test, flags_at(addr) & VM_MAYEXEC, 0UL);
	KUNIT_EXPECT_NE(test, flags_at(addr) & VM_MAYWRITE, 0UL);
}

static u64 faults(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(shmipc_totals, cpu).v[SHMIPC_TOTAL_faults];
	return sum;
}

/* Nothing is in the page table before it is touched. */
static void mapping_lazy(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	unsigned long addr, last;
	u64 off, before;
	u32 v;

	shmipc_test_segment(test, file, 4 * PAGE_SIZE, &off);
	before = faults();
	addr = shmipc_test_mmap(file, off, 4 * PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, faults(), before);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0U);
	KUNIT_EXPECT_EQ(test, faults(), before + 1);
	/* One fault fills the whole window; the address may have been chosen where two meet. */
	last = addr + 3 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(last, 5), 0);
	KUNIT_EXPECT_EQ(test, faults(), before + 1 + (addr >> PMD_SHIFT != last >> PMD_SHIFT));
}

static void mapping_peer_reads(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct shmipc_seg_info info = { .size = sizeof(info) };
	unsigned long mine, theirs;
	s64 off;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.reads");
	info.handle = p.ga;
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, p.a, SHMIPC_IOC_SEG_INFO, &info), 0L);
	mine = shmipc_test_mmap(p.a, info.out_offset, PAGE_SIZE, RW);
	off = shmipc_test_slot(test, p.b, p.sb, 0);
	KUNIT_ASSERT_GT(test, off, 0LL);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(p.b, off, PAGE_SIZE, RW), (long)-EACCES);
	theirs = shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, flags_at(theirs) & (VM_MAYWRITE | VM_MAYEXEC), 0UL);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(mine, 0xabcd), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(theirs, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0xabcdU);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(theirs, 1), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(mine, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0xabcdU);
}

/* Offsets are an endpoint's own: the owner's mean nothing to its peer. */
static void mapping_of_another(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	u64 off;

	shmipc_test_segment(test, a, PAGE_SIZE, &off);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(b, off, PAGE_SIZE, PROT_READ), (long)-EINVAL);
}

static void mapping_revoke_zaps(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long addr;
	s64 off;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.zap");
	off = shmipc_test_slot(test, p.b, p.sb, 0);
	addr = shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_slot(test, p.b, p.sb, 0), (s64)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ), (long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), (long)-ENOENT);
}

/* A mapping made before, touched for the first time after the revoke. */
static void mapping_revoke_before_touch(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long addr;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.late");
	addr = shmipc_test_mmap(p.b, shmipc_test_slot(test, p.b, p.sb, 0), PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), -EFAULT);
}

/* An old mapping does not come to life with another segment at its offset. */
static void mapping_offset_reused(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long old, fresh;
	s64 off;
	u32 v;

	shmipc_test_pair(test, &p, "kunit.reuse");
	off = shmipc_test_slot(test, p.b, p.sb, 0);
	old = shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(old, &v), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), 0L);
	shmipc_test_ep(p.b)->view_cursor = off >> PAGE_SHIFT;
	KUNIT_EXPECT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, 3), 0L);
	KUNIT_ASSERT_EQ(test, shmipc_test_slot(test, p.b, p.sb, 3), off);
	fresh = shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(fresh, &v), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(old, &v), -EFAULT);
}

/* Whoever asked for it finds zeros where its peer took the right away, and is not killed. */
static void mapping_zero_revoked(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	struct shmipc_connect arg = {
		.size = sizeof(arg),
		.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_ZERO_REVOKED,
		.name_len = 10,
	};
	unsigned long mine, theirs;
	long l, seg;
	u64 off;
	u32 v;

	l = shmipc_test_bind(test, a, "kunit.zero", 1);
	seg = shmipc_test_segment(test, a, 2 * PAGE_SIZE, &off);
	mine = shmipc_test_mmap(a, off, PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(mine, 0x1234), 0);
	arg.name = shmipc_test_user(test, "kunit.zero", 10);
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, b, SHMIPC_IOC_CONNECT, &arg), 0L);
	KUNIT_ASSERT_GT(test, shmipc_test_accept(test, a, l, seg), 0L);
	theirs = shmipc_test_mmap(b, shmipc_test_slot(test, b, arg.out_session, 0), 2 * PAGE_SIZE,
				  PROT_READ);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(theirs, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0x1234U);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, 0, 0), 0L);
	/* Its owner's end leaves it; the grant goes with the session. */
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(theirs, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0x1234U);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, b, arg.out_session, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(theirs, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0U);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(theirs + PAGE_SIZE, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 0U);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(theirs, 1), -EFAULT);
}

/* What a revoke has to undo is not the peer's choice. */
static void mapping_so_many(struct kunit *test)
{
	struct shmipc_test_pair p;
	unsigned long addr[SHMIPC_VIEW_VMAS_MAX];
	s64 off;
	int i;

	shmipc_test_pair(test, &p, "kunit.vmas");
	off = shmipc_test_slot(test, p.b, p.sb, 0);
	for (i = 0; i < SHMIPC_VIEW_VMAS_MAX; i++) {
		addr[i] = shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ);
		KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr[i]));
	}
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ), (long)-ENOSPC);
	vm_munmap(addr[3], PAGE_SIZE);
	KUNIT_EXPECT_GT(test, shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_mmap(p.b, off, PAGE_SIZE, PROT_READ), (long)-ENOSPC);
}

/* Parts of a mapping count, as long as there are any. */
static void mapping_split(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_view *view;
	unsigned long addr;
	u64 off;

	shmipc_test_segment(test, file, 4 * PAGE_SIZE, &off);
	addr = shmipc_test_mmap(file, off, 4 * PAGE_SIZE, RW);
	view = shmipc_view_find(shmipc_test_ep(file), off >> PAGE_SHIFT);
	KUNIT_ASSERT_NOT_NULL(test, view);
	KUNIT_EXPECT_EQ(test, atomic_read(&view->vmas), 1);
	vm_munmap(addr + PAGE_SIZE, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, atomic_read(&view->vmas), 2);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr + 3 * PAGE_SIZE, 1), 0);
	vm_munmap(addr, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, atomic_read(&view->vmas), 1);
	vm_munmap(addr + 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, atomic_read(&view->vmas), 0);
	shmipc_view_put(view);
}

/* ---- revocation against faults ---- */

/**
 * struct toucher - a thread that maps, touches and unmaps without end
 * @mm: in this address space
 * @file: the peer's
 * @offset: of what is granted and revoked
 * @begun: a touch succeeded
 * @touched: how often
 * @refused: how often there was no right, at mmap or at the touch
 * @after: touches that succeeded though they began after the revoke had returned
 * @revoked: it has
 */
struct toucher {
	struct mm_struct *mm;
	struct file *file;
	s64 offset;
	struct completion begun;
	unsigned long touched, refused, after;
	bool revoked;
};

static void touch_once(struct toucher *t)
{
	/* Pairs with the release after the revoke. */
	bool late = smp_load_acquire(&t->revoked);
	long addr = shmipc_test_mmap(t->file, t->offset, PAGE_SIZE, PROT_READ);
	u32 v;

	if (IS_ERR_VALUE(addr)) {
		t->refused++;
		return;
	}
	if (shmipc_test_peek(addr, &v)) {
		t->refused++;
	} else {
		t->touched++;
		t->after += late;
		complete(&t->begun);
	}
	vm_munmap(addr, PAGE_SIZE);
}

static int touch(void *arg)
{
	struct toucher *t = arg;

	kthread_use_mm(t->mm);
	while (!kthread_should_stop()) {
		touch_once(t);
		cond_resched();
	}
	kthread_unuse_mm(t->mm);
	return 0;
}

static void mapping_revoke_against_faults(struct kunit *test)
{
	struct toucher t = { .mm = current->mm };
	struct shmipc_test_pair p;
	struct task_struct *task;
	int round;

	shmipc_test_pair(test, &p, "kunit.race");
	KUNIT_ASSERT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), 0L);
	t.file = p.b;
	for (round = 1; round <= 20; round++) {
		KUNIT_ASSERT_EQ(test, shmipc_test_grant(test, p.a, p.sa, p.ga, round), 0L);
		t.offset = shmipc_test_slot(test, p.b, p.sb, round);
		t.revoked = false;
		init_completion(&t.begun);
		task = kthread_run(touch, &t, "shmipc-touch");
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
		KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&t.begun, SHMIPC_TEST_LIMIT),
				0UL);
		KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, round), 0L);
		/* Pairs with the acquire before each touch. */
		smp_store_release(&t.revoked, true);
		usleep_range(1000, 2000);
		kthread_stop(task);
	}
	kunit_info(test, "%lu touches, %lu refused", t.touched, t.refused);
	KUNIT_EXPECT_EQ(test, t.after, 0UL);
	KUNIT_EXPECT_GT(test, t.refused, 0UL);
	/* The mappings held the file; their fput() comes later in kernel threads. */
	flush_delayed_fput();
}

static int revoke_thread(void *arg)
{
	shmipc_view_revoke(arg);
	return 0;
}

/* A fault in its middle holds the revoke up, whose zap then finds what the fault has made. */
static void mapping_revoke_waits_for_fault(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct task_struct *task;
	struct shmipc_view *view;
	u64 off;

	shmipc_test_segment(test, file, PAGE_SIZE, &off);
	view = shmipc_view_find(shmipc_test_ep(file), off >> PAGE_SHIFT);
	KUNIT_ASSERT_NOT_NULL(test, view);
	down_read(&view->sem);
	task = kthread_run(revoke_thread, view, "shmipc-revoke");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	while (READ_ONCE(task->__state) != TASK_UNINTERRUPTIBLE)
		usleep_range(100, 200);
	KUNIT_EXPECT_NE(test, view->rights, 0U);
	up_read(&view->sem);
	kthread_stop(task);
	put_task_struct(task);
	KUNIT_EXPECT_EQ(test, view->rights, 0U);
	shmipc_view_put(view);
}

/* A debugger may read what is mapped, and write nothing. */
static void mapping_access(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct vm_area_struct *vma;
	unsigned long addr;
	u32 v = 0;
	u64 off;

	shmipc_test_segment(test, file, PAGE_SIZE, &off);
	addr = shmipc_test_mmap(file, off, PAGE_SIZE, RW);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr + 8, 4711), 0);
	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, addr);
	KUNIT_EXPECT_EQ(test, view_vm_access(vma, addr + 8, &v, 4, 0), 4);
	KUNIT_EXPECT_EQ(test, v, 4711U);
	KUNIT_EXPECT_EQ(test, view_vm_access(vma, addr + 8, &v, 4, FOLL_WRITE), -EACCES);
	/* It stops at the page's end. */
	KUNIT_EXPECT_EQ(test, view_vm_access(vma, addr + PAGE_SIZE - 2, &v, 4, 0), 2);
	mmap_read_unlock(current->mm);
}

static struct kunit_case mapping_cases[] = {
	KUNIT_CASE(mapping_mmap_policy),
	KUNIT_CASE(mapping_owner_flags),
	KUNIT_CASE(mapping_lazy),
	KUNIT_CASE(mapping_peer_reads),
	KUNIT_CASE(mapping_of_another),
	KUNIT_CASE(mapping_revoke_zaps),
	KUNIT_CASE(mapping_revoke_before_touch),
	KUNIT_CASE(mapping_offset_reused),
	KUNIT_CASE(mapping_zero_revoked),
	KUNIT_CASE(mapping_so_many),
	KUNIT_CASE(mapping_split),
	KUNIT_CASE(mapping_revoke_against_faults),
	KUNIT_CASE(mapping_revoke_waits_for_fault),
	KUNIT_CASE(mapping_access),
	{}
};

SHMIPC_TEST_SUITE(mapping);
