// SPDX-License-Identifier: GPL-2.0-only
#include <linux/hrtimer.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "account.h"
#include "endpoint.h"
#include "handover.h"
#include "ready.h"
#include "session.h"
#include "sync.h"

#define STACK_EVENTS	16
#define NOTIFY_CHUNK	32

/**
 * struct sync - a SYNC under way
 * @call: the request
 * @arg: the caller's struct
 * @only: with wait_on: the side, referenced
 * @ev: events that were taken
 * @max: room in @ev
 * @nr: how many are there
 * @one: room for the form with one event
 */
struct sync {
	struct shmipc_call call;
	struct shmipc_sync arg;
	struct shmipc_side *only;
	struct shmipc_ready *ev;
	u32 max;
	u32 nr;
	struct shmipc_ready one;
};

/**
 * struct waiter - on the attachment's queue
 * @wqe: exclusive
 * @att: who waits
 * @only: NULL, or the one object that is waited for
 */
struct waiter {
	struct wait_queue_entry wqe;
	struct shmipc_attachment *att;
	struct shmipc_source *only;
};

/* ---- notify ---- */

static void notify_failed(struct shmipc_sync *arg, u32 index, int err)
{
	if (arg->out_flags & SHMIPC_SYNC_NOTIFY_FAILED)
		return;
	arg->out_flags |= SHMIPC_SYNC_NOTIFY_FAILED;
	arg->out_errno = -err;
	arg->out_index = index;
}

/* No reference: RCU keeps both sides and the peer's endpoint. */
static int notify_one(struct shmipc_endpoint *ep, const struct shmipc_notify *n, bool sync,
		      bool *woke)
{
	struct shmipc_object *obj;
	struct shmipc_side *peer;
	int err = 0;

	if (!n->bits || n->bits & ~SHMIPC_CAUSE_USER)
		return -EINVAL;
	rcu_read_lock();
	obj = xa_load(&ep->handles, n->handle);
	if (!obj) {
		err = -ENOENT;
		goto out;
	}
	if (obj->kind != SHMIPC_KIND_SESSION) {
		err = -EBADF;
		goto out;
	}
	peer = shmipc_side_peer(shmipc_side_of(obj));
	/* Pairs with the release when it was accepted: the peer's endpoint is set. */
	switch (smp_load_acquire(&shmipc_session_of(peer)->state)) {
	case SHMIPC_SESSION_LIVE:
		shmipc_total_inc(doorbells);
		*woke |= shmipc_ready_ring(peer->obj.ep, &peer->ready, n->bits, sync);
		break;
	case SHMIPC_SESSION_PENDING:
		err = -ENOTCONN;
		break;
	}
out:
	rcu_read_unlock();
	return err;
}

/* Apart, because kernels that clear their stack frames would clear the chunk for every SYNC. */
static noinline_for_stack int notify_many(struct shmipc_endpoint *ep, struct shmipc_sync *arg,
					  bool *woke)
{
	struct shmipc_notify __user *from = u64_to_user_ptr(arg->notify);
	struct shmipc_notify chunk[NOTIFY_CHUNK];
	u32 i, n, at;
	int err;

	for (at = 0; at < arg->nr_notify; at += n) {
		n = min_t(u32, arg->nr_notify - at, NOTIFY_CHUNK);
		if (copy_from_user(chunk, from + at, n * sizeof(*chunk))) {
			if (!at)
				return -EFAULT;
			notify_failed(arg, at, -EFAULT);
			return 0;
		}
		for (i = 0; i < n; i++) {
			err = notify_one(ep, &chunk[i], false, woke);
			if (unlikely(err))
				notify_failed(arg, at + i, err);
		}
	}
	return 0;
}

static bool will_sleep(struct shmipc_endpoint *ep, const struct shmipc_sync *arg)
{
	return arg->flags & SHMIPC_SYNC_WAIT && arg->timeout_ns &&
	       list_empty_careful(&ep->ready);
}

static int notify(struct shmipc_endpoint *ep, struct shmipc_sync *arg, bool *woke)
{
	int err;

	if (!arg->nr_notify)
		return 0;
	if (arg->notify)
		return notify_many(ep, arg, woke);
	err = notify_one(ep, &arg->one, will_sleep(ep, arg), woke);
	if (unlikely(err))
		notify_failed(arg, 0, err);
	return 0;
}

/* ---- wait ---- */

/* Something that this waiter wants, or must learn of. Unlocked; who takes looks again. */
static bool pending(struct shmipc_attachment *att, struct shmipc_source *only)
{
	if (only ? READ_ONCE(only->causes) || READ_ONCE(only->off) :
		   !list_empty_careful(&att->ep->ready))
		return true;
	return shmipc_attachment_status(att);
}

/* One who waits for a single session lets the wakes for others pass to the next. */
static int waiter_wake(struct wait_queue_entry *wqe, unsigned int mode, int flags, void *key)
{
	struct waiter *w = container_of(wqe, struct waiter, wqe);

	if (w->only && !pending(w->att, w->only))
		return 0;
	return autoremove_wake_function(wqe, mode, flags, key);
}

/* False: the time is up. */
static bool sleep_until(ktime_t *expires)
{
	shmipc_total_inc(sleeps);
	if (*expires == KTIME_MAX) {
		schedule();
		return true;
	}
	return schedule_hrtimeout_range(expires, current->timer_slack_ns, HRTIMER_MODE_ABS);
}

static ktime_t deadline(const struct shmipc_sync *arg)
{
	if (arg->timeout_ns >= KTIME_MAX)
		return KTIME_MAX;
	return ktime_add_safe(ktime_get(), arg->timeout_ns);
}

static void set_remaining(struct shmipc_sync *arg, ktime_t expires)
{
	ktime_t now;

	if (expires == KTIME_MAX)
		return;
	now = ktime_get();
	arg->timeout_ns = ktime_before(now, expires) ? ktime_sub(expires, now) : 0;
}

static void take(struct shmipc_attachment *att, struct sync *s)
{
	s->nr = shmipc_ready_take(att, s->only ? &s->only->ready : NULL, s->ev, s->max);
}

/* What was rung can't be undone: that is told first, and the error at the next call. */
static int wait_ended(struct sync *s, int err)
{
	if (!s->arg.nr_notify)
		return err;
	s->arg.out_flags |= SHMIPC_SYNC_ENDED;
	return 0;
}

/*
 * Queue, look, sleep, leave the queue, take: a ring after the look finds the entry on the queue.
 * A wake that comes while this one leaves is for what stays on the list: pass_on() follows.
 */
static int wait(struct shmipc_attachment *att, struct sync *s)
{
	struct waiter w = { .att = att, .only = s->only ? &s->only->ready : NULL };
	bool in_time = s->arg.timeout_ns;
	ktime_t expires;
	int sig = 0, err;

	take(att, s);
	if (s->nr || !in_time)
		goto out;
	init_wait_entry(&w.wqe, WQ_FLAG_EXCLUSIVE);
	w.wqe.func = waiter_wake;
	expires = deadline(&s->arg);
	while (!s->nr && !sig && in_time && !shmipc_attachment_status(att) &&
	       !(w.only && READ_ONCE(w.only->off))) {
		sig = prepare_to_wait_event(&att->wq, &w.wqe, TASK_INTERRUPTIBLE);
		if (!sig && !pending(att, w.only))
			in_time = sleep_until(&expires);
		finish_wait(&att->wq, &w.wqe);
		take(att, s);
	}
	set_remaining(&s->arg, expires);
out:
	if (s->nr)
		return 0;
	err = shmipc_attachment_status(att);
	if (err)
		return wait_ended(s, err);
	if (w.only && READ_ONCE(w.only->off))
		return wait_ended(s, -ENOENT);
	if (sig)
		s->arg.out_flags |= SHMIPC_SYNC_INTERRUPTED;
	else if (!in_time)
		s->arg.out_flags |= SHMIPC_SYNC_TIMED_OUT;
	return 0;
}

/* ---- the request ---- */

#define SYNC_WORDS	(sizeof(struct shmipc_sync) / sizeof(u64))
#define SYNC_FIRST_OUT	(offsetof(struct shmipc_sync, wait_on) / sizeof(u64))

static_assert(sizeof(struct shmipc_sync) % sizeof(u64) == 0);
static_assert(offsetof(struct shmipc_sync, wait_on) % sizeof(u64) == 0);

/* Word by word: cheaper than copy_from_user for so little. Other sizes go the long way. */
static int sync_read(struct sync *s)
{
	const u64 __user *from = s->call.uarg;
	u64 *to = (u64 *)&s->arg;
	int i;

	if (!user_read_access_begin(from, sizeof(s->arg)))
		goto other;
#pragma GCC unroll 16
	for (i = 0; i < SYNC_WORDS; i++)
		unsafe_get_user(to[i], from + i, slow);
	user_read_access_end();
	s->call.usize = s->arg.size;
	if (likely(s->call.usize == sizeof(s->arg)))
		return 0;
	goto other;
slow:
	/* A shorter struct may end where the memory does. */
	user_read_access_end();
other:
	return shmipc_call_read(&s->call, offsetofend(struct shmipc_sync, __reserved));
}

/* What comes before the outputs is the caller's own. */
static int sync_write(struct sync *s)
{
	u64 __user *to = s->call.uarg;
	const u64 *from = (const u64 *)&s->arg;
	int i;

	if (unlikely(s->call.usize != sizeof(s->arg)))
		return shmipc_call_respond(&s->call);
	if (!user_write_access_begin(to, sizeof(s->arg)))
		return -EFAULT;
#pragma GCC unroll 16
	for (i = SYNC_FIRST_OUT; i < SYNC_WORDS; i++)
		unsafe_put_user(from[i], to + i, fault);
	user_write_access_end();
	return 0;
fault:
	user_write_access_end();
	return -EFAULT;
}

static int sync_check(const struct shmipc_sync *arg)
{
	if (arg->flags & ~SHMIPC_SYNC_WAIT)
		return -EOPNOTSUPP;
	if (arg->__reserved || arg->nr_notify > SHMIPC_NOTIFY_MAX ||
	    arg->max_events > SHMIPC_EVENTS_MAX)
		return -EINVAL;
	if (arg->nr_notify > 1 && !arg->notify)
		return -EINVAL;
	if (arg->max_events > 1 && !arg->events)
		return -EINVAL;
	if (arg->flags & SHMIPC_SYNC_WAIT && !arg->max_events)
		return -EINVAL;
	return 0;
}

static int sync_prepare(struct shmipc_endpoint *ep, struct sync *s)
{
	struct shmipc_object *obj;

	s->arg.out_flags = 0;
	s->arg.out_errno = 0;
	s->arg.out_index = 0;
	s->nr = 0;
	s->only = NULL;
	s->ev = &s->one;
	s->max = s->arg.max_events;
	if (likely(!s->arg.wait_on))
		return 0;
	obj = shmipc_handle_get(ep, s->arg.wait_on, SHMIPC_KIND_SESSION);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	s->only = shmipc_side_of(obj);
	return 0;
}

static int sync_respond(struct sync *s)
{
	s->arg.out_nr_events = s->nr;
	if (s->nr && !s->arg.events)
		s->arg.out_one = s->ev[0];
	else if (s->nr && copy_to_user(u64_to_user_ptr(s->arg.events), s->ev,
				       s->nr * sizeof(*s->ev)))
		return -EFAULT;
	return sync_write(s);
}

static int sync_run(struct shmipc_attachment *att, struct sync *s)
{
	struct shmipc_endpoint *ep = att->ep;
	bool woke = false;
	int err;

	err = notify(ep, &s->arg, &woke);
	if (err)
		return err;
	/*
	 * If who was woken waits for this CPU let it run before we queue up: it often answers at
	 * once, and then this call does not sleep and needs no wake. Left to the wake, that is so
	 * or not for thousands of calls on end, by which of the two has had a millisecond more of
	 * the CPU.
	 */
	if (woke && will_sleep(ep, &s->arg) && !single_task_running())
		schedule();
	if (s->arg.flags & SHMIPC_SYNC_WAIT && !(s->arg.out_flags & SHMIPC_SYNC_NOTIFY_FAILED))
		err = wait(att, s);
	else if (s->max)
		take(att, s);
	if (!err)
		err = sync_respond(s);
	if (err && s->nr)
		shmipc_ready_untake(ep, s->ev, s->nr);
	else if (s->max)
		shmipc_ready_pass_on(ep);
	return err;
}

/*
 * Room for many events: of the stack, apart as in notify_many(), or allocated. Fewer at a time
 * will do.
 */
static noinline_for_stack int sync_many(struct shmipc_attachment *att, struct sync *s)
{
	struct shmipc_ready stack[STACK_EVENTS];
	struct shmipc_ready *large = NULL;
	int err;

	if (s->max > STACK_EVENTS)
		large = kmalloc_array(s->max, sizeof(*large), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!large)
		s->max = min_t(u32, s->max, STACK_EVENTS);
	s->ev = large ?: stack;
	err = sync_run(att, s);
	kfree(large);
	return err;
}

long shmipc_sync(struct shmipc_attachment *att, void __user *uarg)
{
	struct sync s;
	int err;

	err = shmipc_attachment_check(att);
	if (unlikely(err))
		return err;
	s.call.att = att;
	s.call.uarg = uarg;
	s.call.size = sizeof(s.arg);
	s.call.arg = &s.arg;
	err = sync_read(&s) ?: sync_check(&s.arg) ?: sync_prepare(att->ep, &s);
	if (unlikely(err))
		return err;
	shmipc_total_inc(syncs);
	err = likely(s.max <= 1) ? sync_run(att, &s) : sync_many(att, &s);
	if (unlikely(s.only))
		shmipc_object_put(&s.only->obj);
	return err;
}

__poll_t shmipc_poll(struct file *file, struct poll_table_struct *wait)
{
	struct shmipc_attachment *att = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &att->wq, wait);
	/* Orders our place on the queue before the look at the list, as prepare_to_wait() does. */
	smp_mb();
	switch (READ_ONCE(att->hold)) {
	case SHMIPC_HOLD_ACTIVE:
		if (!list_empty_careful(&att->ep->ready))
			mask = EPOLLIN | EPOLLRDNORM;
		break;
	case SHMIPC_HOLD_ADOPTING:
		if (shmipc_may_commit(att))
			mask = EPOLLIN | EPOLLRDNORM;
		break;
	case SHMIPC_HOLD_GONE:
		mask = EPOLLHUP;
		/* Who looks at the list does so to the end. */
		if (shmipc_endpoint_ending(att->ep) && !list_empty_careful(&att->ep->ready))
			mask |= EPOLLIN | EPOLLRDNORM;
		break;
	}
	return mask;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/sync_test.c"
#endif
