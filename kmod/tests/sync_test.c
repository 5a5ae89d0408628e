// SPDX-License-Identifier: GPL-2.0-only
/* Included by sync.c. What SYNC rings, takes, waits for, and how a wait ends. */
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "fixture.h"

#define SECOND	1000000000ULL

/* An array in the third page of user memory. */
static unsigned long array_at(struct kunit *test)
{
	return ((struct shmipc_test *)test->priv)->user + 2 * PAGE_SIZE;
}

static struct shmipc_sync waiting(u64 timeout_ns)
{
	return (struct shmipc_sync){
		.size = sizeof(struct shmipc_sync),
		.flags = SHMIPC_SYNC_WAIT,
		.max_events = 1,
		.timeout_ns = timeout_ns,
	};
}

static u64 wakeups(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(shmipc_totals, cpu).v[SHMIPC_TOTAL_wakeups];
	return sum;
}

static void sync_times_out(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_sync arg = waiting(2000000);
	ktime_t begun = ktime_get();

	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_flags, SHMIPC_SYNC_TIMED_OUT);
	KUNIT_EXPECT_EQ(test, arg.out_nr_events, 0U);
	KUNIT_EXPECT_EQ(test, arg.timeout_ns, 0ULL);
	KUNIT_EXPECT_GE(test, ktime_to_ns(ktime_sub(ktime_get(), begun)), 2000000LL);
}

/* A timeout of 0 is a look. */
static void sync_never_sleeps(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_sync arg = waiting(0);

	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_flags, SHMIPC_SYNC_TIMED_OUT);
}

/* Rung before the sleep: returns at once, with the time that is left. */
static void sync_rung_before(struct kunit *test)
{
	struct shmipc_sync arg = waiting(30 * SECOND);
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.before");
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 6), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_flags, 0U);
	KUNIT_EXPECT_EQ(test, arg.out_nr_events, 1U);
	KUNIT_EXPECT_EQ(test, arg.out_one.handle, p.sb);
	KUNIT_EXPECT_EQ(test, arg.out_one.causes, 6U);
	KUNIT_EXPECT_EQ(test, arg.timeout_ns, 30 * SECOND);
}

/* Both in one call, to itself: a session whose ends are one endpoint's. */
static void sync_rings_itself(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_sync arg = waiting(30 * SECOND);
	long l, a, b;

	l = shmipc_test_bind(test, file, "kunit.self", 1);
	b = shmipc_test_connect(test, file, "kunit.self", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, file, l), SHMIPC_CAUSE_ACCEPT);
	a = shmipc_test_accept(test, file, l, 0);
	KUNIT_ASSERT_GT(test, a, 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, file, b), SHMIPC_CAUSE_CONNECTED);
	arg.nr_notify = 1;
	arg.one.handle = a;
	arg.one.bits = 1;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_nr_events, 1U);
	KUNIT_EXPECT_EQ(test, arg.out_one.handle, (u32)b);
}

static void sync_interrupted(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_sync arg = waiting(30 * SECOND);

	allow_signal(SIGUSR1);
	send_sig(SIGUSR1, current, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	flush_signals(current);
	disallow_signal(SIGUSR1);
	KUNIT_EXPECT_EQ(test, arg.out_flags, SHMIPC_SYNC_INTERRUPTED);
	KUNIT_EXPECT_LE(test, arg.timeout_ns, 30 * SECOND);
	KUNIT_EXPECT_GT(test, arg.timeout_ns, 0ULL);
}

/* An event that is there counts, signal or not. */
static void sync_event_before_signal(struct kunit *test)
{
	struct shmipc_sync arg = waiting(30 * SECOND);
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.signal");
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	allow_signal(SIGUSR1);
	send_sig(SIGUSR1, current, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), 0L);
	flush_signals(current);
	disallow_signal(SIGUSR1);
	KUNIT_EXPECT_EQ(test, arg.out_flags, 0U);
	KUNIT_EXPECT_EQ(test, arg.out_nr_events, 1U);
}

/* A bad entry is named, stops no other, and ends the wait before it begins. */
static void sync_bad_entries(struct kunit *test)
{
	struct shmipc_sync arg = waiting(SHMIPC_TIMEOUT_NONE);
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.bad");
	const struct shmipc_notify list[] = {
		{ p.sa, 1 }, { p.listener, 1 }, { 99999, 1 }, { p.sa, 0 }, { p.sa, 0x10000 },
		{ p.sa, 8 },
	};

	arg.notify = array_at(test);
	arg.nr_notify = ARRAY_SIZE(list);
	KUNIT_ASSERT_EQ(test, copy_to_user(u64_to_user_ptr(arg.notify), list, sizeof(list)), 0UL);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.a, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_flags, SHMIPC_SYNC_NOTIFY_FAILED);
	KUNIT_EXPECT_EQ(test, arg.out_errno, (u32)EBADF);
	KUNIT_EXPECT_EQ(test, arg.out_index, 1U);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), 9U);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, 99999, 1), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 0), (long)-EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, SHMIPC_CAUSE_PEER_DIED),
			(long)-EINVAL);
}

static void sync_not_accepted(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	long s;

	shmipc_test_bind(test, file, "kunit.pending", 1);
	s = shmipc_test_connect(test, file, "kunit.pending", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, file, s, 1), (long)-ENOTCONN);
}

/* A peer that is gone is no error: its end is an event. */
static void sync_peer_gone(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.gone");
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.b, p.sb, 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), SHMIPC_CAUSE_PEER_CLOSED);
}

static void sync_wait_on(struct kunit *test)
{
	struct shmipc_sync arg = waiting(1000000);
	struct shmipc_test_pair p;
	long s2, t2;

	shmipc_test_pair(test, &p, "kunit.waiton");
	s2 = shmipc_test_connect(test, p.b, "kunit.waiton", 0);
	t2 = shmipc_test_accept(test, p.a, p.listener, 0);
	KUNIT_ASSERT_GT(test, t2, 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	/* Something is there, but of the other session. */
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.a, p.listener), SHMIPC_CAUSE_ACCEPT);
	arg.wait_on = p.sb;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_one.handle, p.sb);
	arg = waiting(1000000);
	arg.wait_on = p.sb;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_flags, SHMIPC_SYNC_TIMED_OUT);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, s2), SHMIPC_CAUSE_CONNECTED);
	arg.wait_on = 99999;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), (long)-ENOENT);
}

static void sync_arguments(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	static const struct {
		struct shmipc_sync arg;
		int err;
	} rows[] = {
		{ { .flags = 2 }, -EOPNOTSUPP },
		{ { .__reserved = 1 }, -EINVAL },
		{ { .nr_notify = 2 }, -EINVAL },
		{ { .nr_notify = SHMIPC_NOTIFY_MAX + 1, .notify = 8 }, -EINVAL },
		{ { .max_events = 2 }, -EINVAL },
		{ { .max_events = SHMIPC_EVENTS_MAX + 1, .events = 8 }, -EINVAL },
		{ { .flags = SHMIPC_SYNC_WAIT }, -EINVAL },
		{ { .nr_notify = 1, .notify = 8 }, -EFAULT },
		{ {}, 0 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shmipc_sync arg = rows[i].arg;

		arg.size = sizeof(arg);
		KUNIT_EXPECT_EQ_MSG(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg),
				    (long)rows[i].err, "row %d", i);
	}
}

static void sync_many_events(struct kunit *test)
{
	struct shmipc_sync arg = { .size = sizeof(arg), .max_events = 64 };
	struct file *file = shmipc_test_open(test);
	struct shmipc_ready ev[64];
	long l, s[20];
	int i;

	l = shmipc_test_bind(test, file, "kunit.many", 32);
	for (i = 0; i < 20; i++) {
		s[i] = shmipc_test_connect(test, file, "kunit.many", 0);
		KUNIT_ASSERT_GT(test, s[i], 0L);
	}
	for (i = 0; i < 20; i++)
		KUNIT_ASSERT_GT(test, shmipc_test_accept(test, file, l, 0), 0L);
	arg.events = array_at(test);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	KUNIT_ASSERT_EQ(test, arg.out_nr_events, 21U);
	KUNIT_ASSERT_EQ(test, copy_from_user(ev, u64_to_user_ptr(arg.events), sizeof(ev)), 0UL);
	KUNIT_EXPECT_EQ(test, ev[0].handle, (u32)l);
	for (i = 0; i < 20; i++)
		KUNIT_EXPECT_EQ(test, ev[i + 1].handle, (u32)s[i]);
}

/* They go back when they can't be told. */
static void sync_events_fault(struct kunit *test)
{
	struct shmipc_sync arg = { .size = sizeof(arg), .max_events = 4, .events = 8 };
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.fault");
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, p.b, SHMIPC_IOC_SYNC, &arg), (long)-EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, p.sb), 1U);
}

/* ---- with another thread ---- */

/**
 * struct other - a thread that waits in SYNC on @file
 * @user: a page of its own for the request
 */
struct other {
	struct mm_struct *mm;
	struct file *file;
	unsigned long user;
	u32 wait_on;
	long ret;
	struct shmipc_sync arg;
	struct completion done;
};

static int wait_in_sync(void *arg)
{
	struct other *o = arg;

	kthread_use_mm(o->mm);
	o->arg = waiting(30 * SECOND);
	o->arg.wait_on = o->wait_on;
	o->ret = -EFAULT;
	if (!copy_to_user((void __user *)o->user, &o->arg, sizeof(o->arg)))
		o->ret = shmipc_fops.unlocked_ioctl(o->file, SHMIPC_IOC_SYNC, o->user);
	if (copy_from_user(&o->arg, (void __user *)o->user, sizeof(o->arg)))
		o->ret = -EFAULT;
	kthread_unuse_mm(o->mm);
	complete(&o->done);
	return 0;
}

/* How many are queued; asked until it is @n. */
static void wait_for_sleepers(struct kunit *test, struct file *file, int n)
{
	wait_queue_head_t *wq = &shmipc_test_att(file)->wq;
	unsigned long limit = jiffies + SHMIPC_TEST_LIMIT;
	struct wait_queue_entry *pos;
	int queued;

	do {
		usleep_range(100, 200);
		queued = 0;
		spin_lock_irq(&wq->lock);
		list_for_each_entry(pos, &wq->head, entry)
			queued++;
		spin_unlock_irq(&wq->lock);
	} while (queued != n && time_before(jiffies, limit));
	KUNIT_EXPECT_EQ(test, queued, n);
}

static void other_start(struct kunit *test, struct other *o, struct file *file, int index,
			u32 wait_on)
{
	*o = (struct other){
		.mm = current->mm,
		.file = file,
		.user = array_at(test) + index * 256,
		.wait_on = wait_on,
	};
	init_completion(&o->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(wait_in_sync, o, "shmipc-wait")));
	wait_for_sleepers(test, file, index + 1);
}

static void other_end(struct kunit *test, struct other *o)
{
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&o->done, 2 * SHMIPC_TEST_LIMIT), 0UL);
}

static void sync_woken(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct other o;

	shmipc_test_pair(test, &p, "kunit.woken");
	other_start(test, &o, p.b, 0, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 2), 0L);
	other_end(test, &o);
	KUNIT_EXPECT_EQ(test, o.ret, 0L);
	KUNIT_EXPECT_EQ(test, o.arg.out_one.causes, 2U);
	KUNIT_EXPECT_EQ(test, o.arg.out_flags, 0U);
}

/* One ring, one waiter; the other sleeps on until its own. */
static void sync_wakes_one(struct kunit *test)
{
	unsigned long limit = jiffies + SHMIPC_TEST_LIMIT;
	struct shmipc_test_pair p;
	struct other o[2];

	shmipc_test_pair(test, &p, "kunit.one");
	other_start(test, &o[0], p.b, 0, 0);
	other_start(test, &o[1], p.b, 1, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	/* Off the queue when it is woken, it has yet to run. */
	while (!completion_done(&o[0].done) && !completion_done(&o[1].done) &&
	       time_before(jiffies, limit))
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, completion_done(&o[0].done) + completion_done(&o[1].done), 1);
	wait_for_sleepers(test, p.b, 1);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 2), 0L);
	other_end(test, &o[0]);
	other_end(test, &o[1]);
	KUNIT_EXPECT_EQ(test, o[0].arg.out_one.causes | o[1].arg.out_one.causes, 3U);
}

/* One who waits for another session lets the wake pass to who wants it. */
static void sync_wake_is_not_eaten(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct other o[2];
	long s2, t2;

	shmipc_test_pair(test, &p, "kunit.eaten");
	s2 = shmipc_test_connect(test, p.b, "kunit.eaten", 0);
	t2 = shmipc_test_accept(test, p.a, p.listener, 0);
	KUNIT_ASSERT_GT(test, t2, 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, p.b, s2), SHMIPC_CAUSE_CONNECTED);
	other_start(test, &o[0], p.b, 0, s2);
	other_start(test, &o[1], p.b, 1, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	other_end(test, &o[1]);
	KUNIT_EXPECT_EQ(test, o[1].arg.out_one.handle, p.sb);
	KUNIT_EXPECT_FALSE(test, completion_done(&o[0].done));
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, t2, 1), 0L);
	other_end(test, &o[0]);
	KUNIT_EXPECT_EQ(test, o[0].arg.out_one.handle, (u32)s2);
}

static void sync_session_closed(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct other o;

	shmipc_test_pair(test, &p, "kunit.closed");
	other_start(test, &o, p.b, 0, p.sb);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.b, p.sb, 0), 0L);
	other_end(test, &o);
	KUNIT_EXPECT_EQ(test, o.ret, (long)-ENOENT);
}

static void sync_endpoint_ends(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct other o[2];

	shmipc_test_pair(test, &p, "kunit.ends");
	other_start(test, &o[0], p.b, 0, 0);
	other_start(test, &o[1], p.b, 1, p.sb);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.b, 0, 0), 0L);
	other_end(test, &o[0]);
	other_end(test, &o[1]);
	KUNIT_EXPECT_EQ(test, o[0].ret, (long)-ESTALE);
	KUNIT_EXPECT_EQ(test, o[1].ret, (long)-ESTALE);
}

/* What was rung is told, and why the wait ended at the next call. */
static void sync_ends_after_ring(struct kunit *test)
{
	struct shmipc_sync arg = waiting(30 * SECOND);
	struct shmipc_test_pair p;
	struct sync s = {};

	shmipc_test_pair(test, &p, "kunit.after");
	arg.nr_notify = 1;
	s.arg = arg;
	KUNIT_EXPECT_EQ(test, wait_ended(&s, -ESTALE), 0);
	KUNIT_EXPECT_EQ(test, s.arg.out_flags, SHMIPC_SYNC_ENDED);
	s.arg.nr_notify = 0;
	KUNIT_EXPECT_EQ(test, wait_ended(&s, -ENOENT), -ENOENT);
}

/* A call that only rings wakes nobody of its own endpoint. */
static void sync_ring_passes_nothing_on(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct other o;
	u64 before;

	shmipc_test_pair(test, &p, "kunit.passes");
	other_start(test, &o, p.b, 0, p.sb);
	/* Something is there that the waiter does not want. */
	KUNIT_ASSERT_GT(test, shmipc_test_bind(test, p.b, "kunit.passes2", 1), 0L);
	KUNIT_ASSERT_GT(test, shmipc_test_connect(test, p.b, "kunit.passes2", 0), 0L);
	before = wakeups();
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.b, p.sb, 1), 0L);
	KUNIT_EXPECT_EQ(test, wakeups(), before);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.a, p.sa, 1), 0L);
	other_end(test, &o);
}

static struct kunit_case sync_cases[] = {
	KUNIT_CASE(sync_times_out),
	KUNIT_CASE(sync_never_sleeps),
	KUNIT_CASE(sync_rung_before),
	KUNIT_CASE(sync_rings_itself),
	KUNIT_CASE(sync_interrupted),
	KUNIT_CASE(sync_event_before_signal),
	KUNIT_CASE(sync_bad_entries),
	KUNIT_CASE(sync_not_accepted),
	KUNIT_CASE(sync_peer_gone),
	KUNIT_CASE(sync_wait_on),
	KUNIT_CASE(sync_arguments),
	KUNIT_CASE(sync_many_events),
	KUNIT_CASE(sync_events_fault),
	KUNIT_CASE(sync_woken),
	KUNIT_CASE(sync_wakes_one),
	KUNIT_CASE(sync_wake_is_not_eaten),
	KUNIT_CASE(sync_session_closed),
	KUNIT_CASE(sync_endpoint_ends),
	KUNIT_CASE(sync_ends_after_ring),
	KUNIT_CASE(sync_ring_passes_nothing_on),
	{}
};

SHMIPC_TEST_SUITE(sync);
