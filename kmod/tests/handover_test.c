// SPDX-License-Identifier: GPL-2.0-only
/* Included by handover.c. The states of a handover, what is charged when, and who wins a race. */
#include <linux/fdtable.h>
#include <linux/kthread.h>

#include "fixture.h"

#define ROUNDS	60

/**
 * struct handover - a pair whose a is handed over
 * @p: the pair
 * @by: who asks for the ADOPT
 * @offer: the offer's file
 * @next: the successor's
 * @ep: a's endpoint
 * @old: its attachment at first
 */
struct handover {
	struct shmipc_test_pair p;
	struct file *by, *offer, *next;
	struct shmipc_endpoint *ep;
	struct shmipc_attachment *old;
};

static long commit(struct kunit *test, struct file *file)
{
	struct shmipc_commit arg = { .size = sizeof(arg) };

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_COMMIT, &arg);
}

static long yield_holder(struct kunit *test, struct handover *h)
{
	struct shmipc_yield arg = { .size = sizeof(arg) };

	return shmipc_test_ioctl(test, h->p.a, SHMIPC_IOC_YIELD, &arg);
}

static void offer(struct kunit *test, struct handover *h, u32 flags)
{
	struct shmipc_offer arg = {
		.size = sizeof(arg),
		.flags = flags,
		.adopt = SHMIPC_ADOPT_HOLDER,
		.timeout_ns = 30ULL * NSEC_PER_SEC,
	};

	h->ep = shmipc_test_ep(h->p.a);
	h->old = shmipc_test_att(h->p.a);
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, h->p.a, SHMIPC_IOC_OFFER, &arg), 0L);
	h->offer = shmipc_test_file(test, arg.out_fd);
}

static long adopt(struct kunit *test, struct file *by, struct file *offer_file,
		  const char *name, struct file **next)
{
	int fd = get_unused_fd_flags(O_CLOEXEC);
	struct shmipc_adopt arg = { .size = sizeof(arg) };
	long err;

	KUNIT_ASSERT_GE(test, fd, 0);
	if (offer_file) {
		arg.offer_fd = fd;
		fd_install(fd, get_file(offer_file));
	} else {
		put_unused_fd(fd);
		fd = -1;
		arg.name = shmipc_test_user(test, name, strlen(name));
		arg.name_len = strlen(name);
	}
	err = shmipc_test_ioctl(test, by, SHMIPC_IOC_ADOPT, &arg);
	if (fd >= 0)
		close_fd(fd);
	if (err)
		return err;
	*next = shmipc_test_file(test, arg.out_fd);
	KUNIT_ASSERT_GT(test, shmipc_test_mmap(*next, 0, PAGE_SIZE, PROT_READ), 0L);
	return 0;
}

static void handover_adopted(struct kunit *test, struct handover *h, const char *name)
{
	shmipc_test_pair(test, &h->p, name);
	h->by = shmipc_test_open(test);
	offer(test, h, 0);
	KUNIT_ASSERT_EQ(test, adopt(test, h->by, h->offer, NULL, &h->next), 0L);
}

#define HOLD(file)	((int)READ_ONCE(shmipc_test_att(file)->hold))
#define BOTH		(SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE)

static void handover_states(struct kunit *test)
{
	struct handover h;
	struct shmipc_attachment *next;

	handover_adopted(test, &h, "kunit.states");
	next = shmipc_test_att(h.next);
	KUNIT_EXPECT_PTR_EQ(test, h.ep->att, h.old);
	KUNIT_EXPECT_PTR_EQ(test, h.ep->next, next);
	KUNIT_EXPECT_PTR_EQ(test, next->ep, h.ep);
	KUNIT_EXPECT_EQ(test, HOLD(h.p.a), (int)SHMIPC_HOLD_ACTIVE);
	KUNIT_EXPECT_EQ(test, HOLD(h.next), (int)SHMIPC_HOLD_ADOPTING);
	KUNIT_EXPECT_EQ(test, next->rights, SHMIPC_RIGHT_READ);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), (long)-EAGAIN);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, HOLD(h.p.a), (int)SHMIPC_HOLD_YIELDED);
	KUNIT_EXPECT_EQ(test, h.old->rights, BOTH);
	KUNIT_EXPECT_TRUE(test, shmipc_may_commit(next));
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_PTR_EQ(test, h.ep->att, next);
	KUNIT_EXPECT_NULL(test, h.ep->next);
	KUNIT_EXPECT_NULL(test, h.ep->offer);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&h.ep->timer));
	KUNIT_EXPECT_EQ(test, HOLD(h.p.a), (int)SHMIPC_HOLD_GONE);
	KUNIT_EXPECT_EQ(test, HOLD(h.next), (int)SHMIPC_HOLD_ACTIVE);
	KUNIT_EXPECT_EQ(test, h.old->rights, 0U);
	KUNIT_EXPECT_EQ(test, next->rights, BOTH);
	KUNIT_EXPECT_EQ(test, h.old->anchor->state, SHMIPC_STATE_MOVED);
	KUNIT_EXPECT_EQ(test, next->anchor->state, SHMIPC_STATE_LIVE);
}

static void handover_thaws(struct kunit *test)
{
	struct handover h;

	handover_adopted(test, &h, "kunit.thaws");
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	shmipc_test_release(test, h.offer);
	KUNIT_EXPECT_EQ(test, HOLD(h.p.a), (int)SHMIPC_HOLD_ACTIVE);
	KUNIT_EXPECT_EQ(test, HOLD(h.next), (int)SHMIPC_HOLD_GONE);
	KUNIT_EXPECT_NULL(test, h.ep->next);
	KUNIT_EXPECT_EQ(test, shmipc_test_att(h.next)->rights, 0U);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), (long)-ESTALE);
	KUNIT_EXPECT_GT(test, shmipc_test_segment(test, h.p.a, PAGE_SIZE, NULL), 0L);
}

#define PAUSES(h, generation)	pauses(test, (h), (generation), __LINE__)

/* Does the endpoint pause, as its peers are told? */
static bool pauses(struct kunit *test, struct handover *h, u32 generation, int line)
{
	struct shmipc_peer peer;
	bool paused = shmipc_endpoint_describe(h->ep, &peer);

	KUNIT_EXPECT_EQ_MSG(test, peer.generation, generation, "line %d", line);
	return paused;
}

/* From YIELD to COMMIT, or to the end of the offer; an end is no pause. */
static void handover_pauses(struct kunit *test)
{
	struct handover h;

	handover_adopted(test, &h, "kunit.pauses");
	KUNIT_EXPECT_FALSE(test, PAUSES(&h, 0));
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_TRUE(test, PAUSES(&h, 0));
	shmipc_test_release(test, h.offer);
	KUNIT_EXPECT_FALSE(test, PAUSES(&h, 0));
	offer(test, &h, 0);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_FALSE(test, PAUSES(&h, 1));
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.next, 0, 0), 0L);
	KUNIT_EXPECT_FALSE(test, PAUSES(&h, 1));
}

/* What a request under way publishes comes before YIELD, or not at all. */
static void handover_publishes_nothing(struct kunit *test)
{
	struct shmipc_object obj;
	struct handover h;

	handover_adopted(test, &h, "kunit.publish");
	shmipc_object_init(&obj, SHMIPC_KIND_OFFER, h.ep);
	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(h.ep, &obj.handle), 0);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_handle_publish(h.old, &obj), -EBUSY);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_handle_publish(h.old, &obj), -ESTALE);
	shmipc_handle_unreserve(h.ep, obj.handle);
	shmipc_endpoint_put(h.ep);
}

/**
 * struct racer - a thread that does one thing
 * @att: whose COMMIT
 * @ep: whose deadline, if @att is NULL
 * @withdraws: ends @ep's offer instead
 * @done: it has
 * @err: of it
 */
struct racer {
	struct shmipc_attachment *att;
	struct shmipc_endpoint *ep;
	bool withdraws;
	struct task_struct *task;
	struct completion done;
	long err;
};

static int race(void *arg)
{
	struct racer *r = arg;
	struct shmipc_commit commit_arg = { .size = sizeof(commit_arg) };
	struct shmipc_call call = { .att = r->att, .ep = r->ep, .arg = &commit_arg };

	if (r->att) {
		r->err = shmipc_commit(&call);
	} else if (r->withdraws) {
		mutex_lock(&r->ep->lock);
		shmipc_withdraw_locked(r->ep);
		mutex_unlock(&r->ep->lock);
	} else {
		shmipc_endpoint_get(r->ep);
		deadline(&r->ep->timer.work);
	}
	complete(&r->done);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static void racer_start(struct kunit *test, struct racer *r)
{
	init_completion(&r->done);
	r->task = kthread_run(race, r, "shmipc-race");
	KUNIT_ASSERT_FALSE(test, IS_ERR(r->task));
}

/* A thread that is stopped before it has begun would never begin. */
static void racer_end(struct kunit *test, struct racer *r)
{
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&r->done, SHMIPC_TEST_LIMIT), 0UL);
	kthread_stop(r->task);
}

/* A fault in its middle keeps COMMIT from giving anybody else the right to write. */
static void handover_waits_for_faults(struct kunit *test)
{
	struct racer r = {};
	struct handover h;

	handover_adopted(test, &h, "kunit.faults");
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	r.att = shmipc_test_att(h.next);
	r.ep = h.ep;
	down_read(&h.old->sem);
	racer_start(test, &r);
	while (READ_ONCE(r.task->__state) != TASK_UNINTERRUPTIBLE)
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, h.old->rights, BOTH);
	KUNIT_EXPECT_EQ(test, r.att->rights, SHMIPC_RIGHT_READ);
	KUNIT_EXPECT_EQ(test, HOLD(h.p.a), (int)SHMIPC_HOLD_GONE);
	up_read(&h.old->sem);
	racer_end(test, &r);
	KUNIT_EXPECT_EQ(test, r.err, 0L);
	KUNIT_EXPECT_EQ(test, h.old->rights, 0U);
	KUNIT_EXPECT_EQ(test, r.att->rights, BOTH);
}

/* Cancel and COMMIT: one of them, and all of it. */
static void handover_commit_or_cancel(struct kunit *test)
{
	int i, committed = 0;
	struct handover h;

	for (i = 0; i < ROUNDS; i++) {
		struct racer r = {};

		handover_adopted(test, &h, "kunit.cancel");
		KUNIT_ASSERT_EQ(test, yield_holder(test, &h), 0L);
		r.att = shmipc_test_att(h.next);
		r.ep = h.ep;
		racer_start(test, &r);
		if (i & 1)
			usleep_range(1, 200);
		shmipc_offer_close(h.offer->private_data);
		racer_end(test, &r);
		KUNIT_ASSERT_PTR_EQ(test, h.ep->att, r.err ? h.old : r.att);
		KUNIT_ASSERT_EQ(test, h.old->rights, r.err ? BOTH : 0U);
		KUNIT_ASSERT_EQ(test, r.att->rights, r.err ? 0U : BOTH);
		if (r.err)
			KUNIT_ASSERT_EQ(test, r.err, (long)-ESTALE);
		committed += !r.err;
		shmipc_test_release(test, h.next);
		shmipc_test_release(test, h.p.a);
		shmipc_test_release(test, h.p.b);
		shmipc_test_release(test, h.by);
		shmipc_test_release(test, h.offer);
	}
	kunit_info(test, "committed %d of %d", committed, ROUNDS);
}

/* A successor that is out may have pages mapped until it is zapped: so long others zap it, too. */
static void handover_zapped_first(struct kunit *test)
{
	struct racer r = {};
	struct shmipc_attachment *next;
	struct handover h;

	handover_adopted(test, &h, "kunit.zapped");
	next = shmipc_test_att(h.next);
	r.ep = h.ep;
	r.withdraws = true;
	down_read(&next->sem);
	racer_start(test, &r);
	while (READ_ONCE(r.task->__state) != TASK_UNINTERRUPTIBLE)
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, HOLD(h.next), (int)SHMIPC_HOLD_GONE);
	KUNIT_EXPECT_PTR_EQ(test, READ_ONCE(h.ep->next), next);
	up_read(&next->sem);
	racer_end(test, &r);
	KUNIT_EXPECT_NULL(test, h.ep->next);
}

/* A holder that is lost is no orphan yet: COMMIT waits for that, and says nothing of its own. */
static void handover_lost_before_commit(struct kunit *test)
{
	struct racer r = {};
	struct handover h;

	shmipc_test_pair(test, &h.p, "kunit.lost-before");
	h.by = shmipc_test_open(test);
	offer(test, &h, SHMIPC_OFFER_KEEP);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_ASSERT_EQ(test, yield_holder(test, &h), 0L);
	r.att = shmipc_test_att(h.next);
	r.ep = h.ep;
	/* First in the row for the lock; who makes it an orphan comes after it. */
	mutex_lock(&h.ep->lock);
	racer_start(test, &r);
	while (READ_ONCE(r.task->__state) != TASK_UNINTERRUPTIBLE)
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, shmipc_attachment_end(h.old, SHMIPC_ENDING_DIED), 0);
	usleep_range(1000, 2000);
	mutex_unlock(&h.ep->lock);
	racer_end(test, &r);
	KUNIT_EXPECT_EQ(test, r.err, 0L);
	KUNIT_EXPECT_PTR_EQ(test, h.ep->att, r.att);
}

/* ---- charges ---- */

#define PAGES(user)	atomic_long_read(&(user)->pages)

static void handover_charges(struct kunit *test)
{
	struct shmipc_user *from, *to;
	struct handover h;

	shmipc_test_become(test, 1000, 1000);
	shmipc_test_pair(test, &h.p, "kunit.charges");
	offer(test, &h, 0);
	from = h.ep->user;
	shmipc_test_become(test, 1001, 1001);
	h.by = shmipc_test_open(test);
	to = shmipc_test_att(h.by)->user;
	KUNIT_EXPECT_EQ(test, PAGES(from), 2L);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(from), 2L);
	KUNIT_EXPECT_EQ(test, PAGES(to), 1L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->endpoints), 2L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->listeners), 1L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->sessions), 0L);
	/* Made since, and gone since. */
	KUNIT_EXPECT_GT(test, shmipc_test_segment(test, h.p.a, 3 * PAGE_SIZE, NULL), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.p.a, h.p.listener, 0), 0L);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(to), 4L);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(from), 1L);
	KUNIT_EXPECT_EQ(test, PAGES(to), 4L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->listeners), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->endpoints), 2L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&from->endpoints), 1L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&from->sessions), 1L);
	KUNIT_EXPECT_PTR_EQ(test, h.ep->user, to);
	KUNIT_EXPECT_TRUE(test, uid_eq(h.ep->cred->euid, make_kuid(&init_user_ns, 1001)));
}

/* What was made by a holder that was lost before it came to YIELD. */
static void handover_charges_kept(struct kunit *test)
{
	struct shmipc_user *from, *to;
	struct handover h;

	shmipc_test_become(test, 1000, 1000);
	shmipc_test_pair(test, &h.p, "kunit.kept");
	offer(test, &h, SHMIPC_OFFER_KEEP);
	from = h.ep->user;
	shmipc_test_become(test, 1001, 1001);
	h.by = shmipc_test_open(test);
	to = shmipc_test_att(h.by)->user;
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_segment(test, h.p.a, 3 * PAGE_SIZE, NULL), 0L);
	shmipc_test_release(test, h.p.a);
	KUNIT_EXPECT_TRUE(test, h.ep->orphan.is);
	KUNIT_EXPECT_EQ(test, PAGES(to), 1L);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(from), 1L);
	KUNIT_EXPECT_EQ(test, PAGES(to), 4L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.next, 0, 0), 0L);
	/* But for what the peer still has. */
	KUNIT_EXPECT_EQ(test, PAGES(to), 1L);
	shmipc_test_release(test, h.p.b);
	KUNIT_EXPECT_EQ(test, PAGES(to), 0L);
}

static void handover_charges_given_back(struct kunit *test)
{
	struct shmipc_user *to;
	struct handover h;

	shmipc_test_become(test, 1000, 1000);
	shmipc_test_pair(test, &h.p, "kunit.given-back");
	offer(test, &h, 0);
	shmipc_test_become(test, 1001, 1001);
	h.by = shmipc_test_open(test);
	to = shmipc_test_att(h.by)->user;
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.next, 0, 0), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(to), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->endpoints), 1L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->listeners), 0L);
	KUNIT_EXPECT_EQ(test, PAGES(h.ep->user), 2L);
}

/* A session is its connector's to pay: it moves with that end, and with no other. */
static void handover_session_charge(struct kunit *test)
{
	struct handover h;

	shmipc_test_become(test, 1000, 1000);
	shmipc_test_pair(test, &h.p, "kunit.session");
	swap(h.p.a, h.p.b);
	offer(test, &h, 0);
	shmipc_test_become(test, 1001, 1001);
	h.by = shmipc_test_open(test);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&h.ep->user->sessions), 1L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&h.old->user->sessions), 0L);
	/* Closed by both, it is given back where it is now. */
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.next, h.p.sb, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.p.b, h.p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&h.ep->user->sessions), 0L);
}

/* ---- orphans ---- */

#define ORPHAN	"kunit.orphan"

/* p.a listens once more, with an orphan's time. */
static struct shmipc_listener *orphan_listener(struct kunit *test, struct handover *h)
{
	struct shmipc_bind arg = {
		.size = sizeof(arg),
		.name = shmipc_test_user(test, ORPHAN, strlen(ORPHAN)),
		.name_len = strlen(ORPHAN),
		.mode = 0222,
		.backlog = 1,
		.adopt = SHMIPC_ADOPT_EUID,
		.orphan_ms = 30000,
	};
	struct shmipc_object *obj;

	shmipc_test_pair(test, &h->p, "kunit.orphan-pair");
	h->by = shmipc_test_open(test);
	h->ep = shmipc_test_ep(h->p.a);
	h->old = shmipc_test_att(h->p.a);
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, h->p.a, SHMIPC_IOC_BIND, &arg), 0L);
	obj = shmipc_handle_get(h->ep, arg.out_handle, SHMIPC_KIND_LISTENER);
	KUNIT_ASSERT_FALSE(test, IS_ERR(obj));
	return shmipc_listener_of(obj);
}

static void handover_orphan(struct kunit *test)
{
	struct shmipc_listener *l;
	struct handover h;

	l = orphan_listener(test, &h);
	KUNIT_EXPECT_TRUE(test, l->keeps_net);
	shmipc_test_release(test, h.p.a);
	KUNIT_EXPECT_TRUE(test, h.ep->orphan.is);
	KUNIT_EXPECT_NULL(test, h.ep->att);
	KUNIT_EXPECT_TRUE(test, PAUSES(&h, 0));
	KUNIT_EXPECT_FALSE(test, l->keeps_net);
	KUNIT_EXPECT_TRUE(test, delayed_work_pending(&h.ep->timer));
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, h.p.b, h.p.sb), SHMIPC_CAUSE_PEER_LOST);
	/* Given up, it waits as before. */
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, NULL, ORPHAN, &h.next), 0L);
	KUNIT_EXPECT_TRUE(test, l->keeps_net);
	shmipc_test_release(test, h.next);
	KUNIT_EXPECT_FALSE(test, l->keeps_net);
	KUNIT_EXPECT_TRUE(test, h.ep->orphan.is);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, NULL, ORPHAN, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, commit(test, h.next), 0L);
	KUNIT_EXPECT_FALSE(test, h.ep->orphan.is);
	KUNIT_EXPECT_FALSE(test, PAUSES(&h, 1));
	KUNIT_EXPECT_TRUE(test, l->keeps_net);
	KUNIT_EXPECT_FALSE(test, delayed_work_pending(&h.ep->timer));
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, h.next, 0, 0), 0L);
	shmipc_object_put(&l->obj);
}

/* Expiry and COMMIT: one of them. The other finds that it is too late. */
static void handover_commit_or_expiry(struct kunit *test)
{
	struct shmipc_listener *l;
	int i, committed = 0;
	struct handover h;

	for (i = 0; i < ROUNDS; i++) {
		struct racer c = {}, d = {};

		l = orphan_listener(test, &h);
		shmipc_test_release(test, h.p.a);
		KUNIT_ASSERT_EQ(test, adopt(test, h.by, NULL, ORPHAN, &h.next), 0L);
		c.att = shmipc_test_att(h.next);
		c.ep = h.ep;
		d.ep = h.ep;
		mutex_lock(&h.ep->lock);
		h.ep->orphan.until = 0;
		mutex_unlock(&h.ep->lock);
		racer_start(test, i & 1 ? &c : &d);
		racer_start(test, i & 1 ? &d : &c);
		racer_end(test, &c);
		racer_end(test, &d);
		if (c.err) {
			KUNIT_ASSERT_EQ(test, c.err, (long)-ESTALE);
			wait_for_completion(&h.ep->over);
			KUNIT_ASSERT_TRUE(test, shmipc_endpoint_died(h.ep));
		} else {
			KUNIT_ASSERT_FALSE(test, shmipc_endpoint_ending(h.ep));
			KUNIT_ASSERT_EQ(test, shmipc_test_close(test, h.next, 0, 0), 0L);
		}
		committed += !c.err;
		shmipc_object_put(&l->obj);
		shmipc_test_release(test, h.next);
		shmipc_test_release(test, h.p.b);
		shmipc_test_release(test, h.by);
	}
	kunit_info(test, "committed %d of %d", committed, ROUNDS);
}

/* An anchor that goes in the middle of its COMMIT: the endpoint is its, and so an orphan. */
static void handover_lost_while_committing(struct kunit *test)
{
	struct shmipc_listener *l;
	struct racer r = {};
	struct handover h;

	l = orphan_listener(test, &h);
	offer(test, &h, 0);
	KUNIT_ASSERT_EQ(test, adopt(test, h.by, h.offer, NULL, &h.next), 0L);
	KUNIT_EXPECT_EQ(test, yield_holder(test, &h), 0L);
	r.att = shmipc_test_att(h.next);
	r.ep = h.ep;
	down_read(&h.old->sem);
	racer_start(test, &r);
	while (READ_ONCE(r.task->__state) != TASK_UNINTERRUPTIBLE)
		usleep_range(100, 200);
	shmipc_attachment_end(r.att, SHMIPC_ENDING_DIED);
	up_read(&h.old->sem);
	racer_end(test, &r);
	KUNIT_EXPECT_EQ(test, r.err, 0L);
	flush_work(&h.ep->settle);
	KUNIT_EXPECT_TRUE(test, h.ep->orphan.is);
	KUNIT_EXPECT_EQ(test, h.old->rights | r.att->rights, 0U);
	KUNIT_EXPECT_EQ(test, shmipc_orphan_expire(h.ep), 0);
	shmipc_object_put(&l->obj);
}

static struct kunit_case handover_cases[] = {
	KUNIT_CASE(handover_states),
	KUNIT_CASE(handover_thaws),
	KUNIT_CASE(handover_pauses),
	KUNIT_CASE(handover_publishes_nothing),
	KUNIT_CASE(handover_waits_for_faults),
	KUNIT_CASE(handover_commit_or_cancel),
	KUNIT_CASE(handover_zapped_first),
	KUNIT_CASE(handover_lost_before_commit),
	KUNIT_CASE(handover_charges),
	KUNIT_CASE(handover_charges_kept),
	KUNIT_CASE(handover_charges_given_back),
	KUNIT_CASE(handover_session_charge),
	KUNIT_CASE(handover_orphan),
	KUNIT_CASE(handover_commit_or_expiry),
	KUNIT_CASE(handover_lost_while_committing),
	{}
};

SHMIPC_TEST_SUITE(handover);
