// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * wait.c - leading and following: how threads wait on an endpoint
 *
 * endpoint.h tells the idea. A wait that is over is learnt by its ready() alone: events and
 * pokes only say that it is worth asking.
 */
#include <errno.h>
#include <sched.h>
#include <time.h>
#include "barrier.h"
#include "clock.h"
#include "error.h"
#include "session.h"

#define IDLE_POLLS	32	/* polls without a find, after which a session is armed */
#define IDLE_SPINS	4096	/* likewise, of who asks again and again without sleeping */
#define LOOK_TURN	16	/* asks to one look at all, of who looked for its own frame each time */
#define SYNC_TURN	16	/* polls between two looks at the clock, where no anchor page tells of events */
#define SYNC_AGE_NS	20000	/* likewise: a sync may be so old, of who asks again and again */
#define LOOK_ROUNDS	64	/* of a call that may not block, while its peers don't stop */
#define SPIN_TURN	16	/* polls between two looks at the clock */
#define SPIN_PACE_NS	1000	/* between two polls of who has not asked for anything */
#define EVENTS_MAX	64
#define COOKIES_MIN	4	/* so few objects hardly ever have two events at once */

/* ---- pokes -------------------------------------------------------------- */

static void poke(struct waiter *w)
{
	atomic_store(&w->poked, 1);
	futex_wake(&w->poked);
}

/*
 * The leader says that it sleeps, then looks a last time; our caller changed something, then we
 * look whether it sleeps. One of the two sees the other (see sync_events()). One kick a sleep.
 */
static void kick_if(struct shmipc_endpoint *ep, const void *key)
{
	const void *asleep = atomic_load(&ep->asleep);

	if (asleep && (!key || asleep == key || asleep == ep) &&
	    atomic_compare_exchange_strong(&ep->asleep, &asleep, NULL))
		ep->pv->ops->kick(ep->pv);
}

void endpoint_kick(struct shmipc_endpoint *ep)
{
	kick_if(ep, NULL);
	endpoint_tell_poller(ep);
}

void endpoint_poke_waiters(struct shmipc_endpoint *ep, const void *key)
{
	struct list *pos, *n;

	kick_if(ep, key);
	/*
	 * A follower counts itself, then asks ready() under the lock that our caller changed the
	 * object with: it sees the change, or we see its count.
	 */
	if (!atomic_load(&ep->nr_followers))
		return;
	lock(&ep->lock);
	list_for_each_safe(pos, n, &ep->followers) {
		struct waiter *w = container_of(pos, struct waiter, node);

		/* shmipc_wait() has the endpoint for its key: it waits for every object. */
		if (!key || w->key == key || w->key == ep)
			poke(w);
	}
	unlock(&ep->lock);
}

/* ---- polling ------------------------------------------------------------ */

void endpoint_heat(struct shmipc_endpoint *ep, struct shmipc_session *s)
{
	s->empty_polls = s->empty_bells < EMPTY_BELLS ? 0 : IDLE_SPINS;
	if (list_empty(&s->hot))
		list_add_tail(&s->hot, &ep->hot);
}

static bool is_led(struct shmipc_endpoint *ep)
{
	bool leading;

	lock(&ep->lock);
	leading = ep->leading;
	unlock(&ep->lock);
	return leading;
}

/*
 * One who leads already may have armed all that was hot, and sleep. Asked before poll_lock, too, which
 * that one may hold for longer than the caller has time.
 */
bool endpoint_heat_for_wait(struct shmipc_endpoint *ep, struct shmipc_session *s)
{
	if (is_led(ep))
		return false;
	lock(&ep->poll_lock);
	endpoint_heat(ep, s);
	unlock(&ep->poll_lock);
	return !is_led(ep);
}

/*
 * Returns how much was done. What has been empty for more than @idle polls is armed: late by who goes on
 * looking, for what it waits for would have to ring, and could not be seen without that. poll_lock held.
 */
static unsigned int poll_hot_locked(struct shmipc_endpoint *ep, unsigned int idle)
{
	struct list *pos, *next;
	unsigned int done = 0;

	list_for_each_safe(pos, next, &ep->hot) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, hot);
		unsigned int n = session_error(s) ? 0 : session_poll(s);
		uint32_t bits = 0;

		done += n;
		/* What a thread drained for itself says as much as what is found here. */
		if (n || load_relaxed(&s->drained)) {
			store_relaxed(&s->drained, false);
			s->empty_polls = 0;
		} else {
			s->empty_polls++;
		}
		if (session_error(s) || s->empty_polls > idle)
			session_arm(s, &bits);
		if (bits)
			session_ring(s, bits);
	}
	store_relaxed(&ep->found, ep->found + done);
	return done;
}

static unsigned int poll_hot(struct shmipc_endpoint *ep, unsigned int idle)
{
	unsigned int done;

	lock(&ep->poll_lock);
	done = poll_hot_locked(ep, idle);
	unlock(&ep->poll_lock);
	return done;
}

/*
 * Arms all that is hot; whom to ring goes to @sync, which has room for EVENTS_MAX. True: found
 * something, don't sleep.
 */
static bool arm_hot(struct shmipc_endpoint *ep, struct shmipc_notify *notify, struct pv_sync *sync)
{
	struct list *pos, *next;
	bool found = false;

	list_for_each_safe(pos, next, &ep->hot) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, hot);
		uint32_t bits = 0;

		found |= session_arm(s, &bits);
		if (bits && sync->nr_notify == EVENTS_MAX)
			session_ring(s, bits);
		else if (bits)
			notify[sync->nr_notify++] =
				(struct shmipc_notify){ .handle = s->handle, .bits = bits };
	}
	return found;
}

/* ---- spinning, and giving way ------------------------------------------- */

/* Where those who may answer ran when they last waited. */
enum partners { NOBODY, HERE, ELSEWHERE };

/* Of the hot sessions. ELSEWHERE: at least one. Tells the partners where this one runs. */
static enum partners find_partners(struct shmipc_endpoint *ep)
{
	uint32_t cpu = sched_getcpu();
	enum partners found = NOBODY;
	struct list *pos, *next;

	lock(&ep->poll_lock);
	list_for_each_safe(pos, next, &ep->hot) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, hot);
		uint32_t peer = load_relaxed(&s->tx.peer->cpu);

		session_tell_cpu(s, cpu);
		if (peer != cpu)
			found = ELSEWHERE;
		else if (found == NOBODY)
			found = HERE;
	}
	unlock(&ep->poll_lock);
	return found;
}

/*
 * May it have events? Without an anchor it has to be asked, by a system call, which takes as long as many
 * polls. Who polls without end does it by the clock; who does much between two polls, at each tick.
 */
static bool provider_calls(const struct shmipc_endpoint *ep)
{
	if (!ep->pv->anchor)
		return coarse_ns() > ep->synced || (ep->since_sync % SYNC_TURN == 0 &&
						    now_ns() - ep->synced >= SYNC_AGE_NS);
	return __atomic_load_n(&ep->pv->anchor->ready, __ATOMIC_ACQUIRE) != ep->seen_ready;
}

/*
 * Until it found something, or the time that it is worth is over. Who has sent something may be
 * answered at once, and looks as often as it can. Who only receives would take each message by itself
 * out of the sender's hands, and slow it down: it looks once in a while, and finds several.
 * True: found something. What is hot stays hot.
 */
static bool spin(struct shmipc_endpoint *ep, uint64_t begun)
{
	uint32_t budget = spin_budget(&ep->spin);
	bool asked = atomic_exchange_explicit(&ep->asked, false, memory_order_relaxed);
	uint64_t last = begun, now = begun;

	if (!budget)
		return false;
	/* A partner that sleeps would have us spin for nothing. */
	endpoint_flush(ep);
	do {
		for (int i = 0; i < (asked ? SPIN_TURN : 1); i++) {
			if (poll_hot(ep, IDLE_SPINS))
				return true;
			cpu_relax();
		}
		if (ep->pv->anchor && provider_calls(ep))
			return false;
		do
			now = now_ns();
		while (!asked && now - last < SPIN_PACE_NS);
		if (now - last > SPIN_JUMP_NS) {
			spin_preempted(&ep->spin);
			return false;
		}
		last = now;
	} while (now - begun < budget);
	return false;
}

/*
 * The partners are all on this CPU, and can't answer before they have it. Those that sleep are rung for;
 * the others come to run by the yield, and what they then send is found without a bell, a wake or a
 * sleep. True: found something.
 */
static bool give_way(struct shmipc_endpoint *ep, int64_t timeout_ns)
{
	/* It may take longer than who has so little time wants to wait. */
	bool hasty = timeout_ns >= 0 && timeout_ns < YIELD_LONG_NS;
	enum spin_yield yield = hasty ? YIELD_NOT :
					spin_may_yield(&ep->spin, load_relaxed(&ep->found));
	unsigned int found = 0;
	uint64_t took = 0;

	if (yield == YIELD_NOT)
		return false;
	endpoint_flush(ep);
	for (int i = 0; i < YIELD_TRIES && !found && took <= YIELD_LONG_NS; i++) {
		uint64_t begun = yield == YIELD_TIMED ? now_ns() : 0;

		sched_yield();
		if (yield == YIELD_TIMED)
			took += now_ns() - begun;
		found = poll_hot(ep, IDLE_POLLS);
	}
	spin_yielded(&ep->spin, found, took);
	return found;
}

/* ---- leading ------------------------------------------------------------ */

/*
 * The anchor's word counts events put on the ready list; @ready is what it was before @n were taken.
 * Those that had no room are still to be called for: nobody bumps the word for them again.
 */
static void see_ready(struct shmipc_endpoint *ep, uint32_t ready, int n, unsigned int room)
{
	if (n == (int)room && ready - ep->seen_ready > room)
		ep->seen_ready += room;
	else
		ep->seen_ready = ready;
}

/* Returns how many events came, or -errno. */
static int call_provider(struct shmipc_endpoint *ep, struct pv_sync *sync)
{
	uint32_t ready = 0;
	int n;

	count(&ep->doorbells, sync->nr_notify);
	count(&ep->sleeps, sync->wait);
	if (ep->pv->anchor)
		ready = __atomic_load_n(&ep->pv->anchor->ready, __ATOMIC_ACQUIRE);
	else
		ep->synced = now_ns();
	ep->since_sync = 0;
	n = ep->pv->ops->sync(ep->pv, sync);
	atomic_store_explicit(&ep->asleep, NULL, memory_order_relaxed);
	see_ready(ep, ready, n, sync->max_events);
	count(&ep->wakeups, sync->wait && n > 0);
	return n;
}

/* Takes in what the provider told, and polls. True: there may be more. */
static bool handle(struct shmipc_endpoint *ep, const struct shmipc_ready *events, int n,
		   unsigned int idle)
{
	bool more = false;

	lock(&ep->poll_lock);
	for (int i = 0; i < n; i++)
		more |= endpoint_event(ep, &events[i]);
	more |= poll_hot_locked(ep, idle) > 0;
	unlock(&ep->poll_lock);
	return more;
}

/*
 * One turn of a leader. Arms what is hot, rings what is corked, takes the provider's events, sleeping for
 * them if @timeout_ns says so and nothing was found, and polls. Returns whether there is more to be
 * found in another turn, or -errno.
 *
 * The last look at @w is after the arming. What another thread drained before it, perhaps for
 * us, is seen by that look; what it drains later was published at or after the armed event, so
 * the peer rings. Without that look we could sleep on what is in our own queue.
 *
 * Other threads also make news for which no peer rings: a session that they made, a window that
 * they gave back, a stream that they resumed. @asleep is set before the last looks: in poll_lock,
 * under which sessions become hot; and before ready(), whose locks are those that news is made
 * under, or which reads what was stored seq_cst, as @asleep is. Who makes news after our look
 * therefore finds @asleep, and kicks.
 */
static int take_turn(struct shmipc_endpoint *ep, struct waiter *w, int64_t timeout_ns)
{
	struct shmipc_notify notify[EVENTS_MAX];
	struct shmipc_ready events[EVENTS_MAX];
	struct pv_sync sync = {
		.notify = notify,
		.events = events,
		.max_events = ep->nr_cookies <= COOKIES_MIN ? 1 : EVENTS_MAX,
		.timeout_ns = timeout_ns,
	};
	bool more = false;
	int n = 0;

	lock(&ep->poll_lock);
	/* All of the corked first: nobody may sleep on what we owe a ring for. */
	sync.nr_notify = endpoint_bells(ep, notify, EVENTS_MAX, &more);
	if (!list_empty(&ep->hot))
		more |= arm_hot(ep, notify, &sync);
	if (!more && timeout_ns)
		atomic_store(&ep->asleep, w->key);
	unlock(&ep->poll_lock);
	sync.wait = !more && timeout_ns && sync.nr_notify < EVENTS_MAX && !w->ready(w->arg);
	if (!sync.wait)
		atomic_store_explicit(&ep->asleep, NULL, memory_order_relaxed);
	if (sync.wait || sync.nr_notify || (!timeout_ns && !more) || provider_calls(ep)) {
		n = call_provider(ep, &sync);
		if (n < 0)
			return n;
	}
	more |= handle(ep, events, n, IDLE_POLLS);
	ep->since_sync++;
	return more;
}

/* For who looks without sleeping: rings for nobody, and arms late. Returns as take_turn(). */
static int take_events(struct shmipc_endpoint *ep)
{
	struct shmipc_ready events[EVENTS_MAX];
	struct pv_sync sync = { .events = events, .max_events = EVENTS_MAX };
	int n = call_provider(ep, &sync);

	return n < 0 ? n : handle(ep, events, n, IDLE_SPINS);
}

static int64_t time_left(int64_t timeout_ns, uint64_t deadline)
{
	int64_t left;

	if (timeout_ns <= 0)
		return timeout_ns;
	left = deadline - now_ns();
	return left > 0 ? left : 0;
}

/*
 * One look at what is there, for a call that may not wait. Who has looked for its own frame leaves the
 * rest to one ask in some, or until the provider calls. A peer that sends without end what nobody waits
 * for keeps it for so many rounds. Its session is not armed then: see leave_to_poller().
 */
static int look_once(struct shmipc_endpoint *ep, struct waiter *w)
{
	unsigned int rounds = 0;
	int more;

	ep->since_sync++;
	if (w->looked && ep->since_sync % LOOK_TURN && !provider_calls(ep))
		return -EAGAIN;
	poll_hot(ep, w->arm ? IDLE_POLLS : IDLE_SPINS);
	do {
		if (!w->arm && !provider_calls(ep))
			break;
		more = w->arm ? take_turn(ep, w, 0) : take_events(ep);
		if (more < 0)
			return more;
	} while (more && !w->ready(w->arg) && ++rounds < LOOK_ROUNDS);
	return w->ready(w->arg) ? 0 : -EAGAIN;
}

static int lead(struct shmipc_endpoint *ep, struct waiter *w, int64_t timeout_ns,
		uint64_t deadline)
{
	enum partners partners = w->ready(w->arg) ? NOBODY : find_partners(ep);
	uint64_t begun = partners == ELSEWHERE ? now_ns() : 0;
	bool over = false;
	int err;

	/* What is found so is not armed for: it would be cold, and the next wait would sleep. */
	if ((partners == ELSEWHERE && spin(ep, begun)) ||
	    (partners == HERE && give_way(ep, time_left(timeout_ns, deadline)))) {
		ep->since_sync++;
		err = provider_calls(ep) ? take_events(ep) : 0;
		if (err < 0)
			return err;
		over = w->ready(w->arg);
	}
	while (!over) {
		int64_t left = time_left(timeout_ns, deadline);

		/* Also when the time is up: short timeouts must not keep events from being taken. */
		err = take_turn(ep, w, left);
		if (err < 0)
			return err;
		over = w->ready(w->arg);
		if (timeout_ns > 0 && !left && !over)
			return -ETIMEDOUT;
	}
	if (partners == ELSEWHERE)
		spin_learn(&ep->spin, now_ns() - begun);
	return 0;
}

/* ---- following ---------------------------------------------------------- */

/* endpoint.lock held. Whoever leaves while nobody leads sees to it that somebody does. */
static void pass_the_lead(struct shmipc_endpoint *ep)
{
	if (!ep->leading && !list_empty(&ep->followers))
		poke(container_of(ep->followers.next, struct waiter, node));
}

/* Until poked, or nobody leads. endpoint.lock held. False: the time was over. */
static bool follow(struct shmipc_endpoint *ep, struct waiter *w, int64_t timeout_ns,
		   uint64_t deadline)
{
	struct timespec until = { deadline / 1000000000, deadline % 1000000000 };
	bool in_time = true;

	atomic_store(&w->poked, 0);
	list_add_tail(&w->node, &ep->followers);
	atomic_fetch_add(&ep->nr_followers, 1);
	unlock(&ep->lock);
	/* Whoever changes what it waits for, or stops leading, pokes all who are on the list by then. */
	if (!w->ready(w->arg))
		while (!atomic_load(&w->poked) && in_time)
			in_time = futex_wait(&w->poked, 0, timeout_ns < 0 ? NULL : &until);
	lock(&ep->lock);
	list_del(&w->node);
	atomic_fetch_sub(&ep->nr_followers, 1);
	return in_time;
}

static void ring(struct shmipc_endpoint *ep, struct pv_sync *sync)
{
	if (!sync->nr_notify)
		return;
	count(&ep->doorbells, sync->nr_notify);
	ep->pv->ops->sync(ep->pv, sync);
}

/*
 * What is hot here nobody would poll while a thread of the program sleeps in poll(). @polled was
 * set before its thread saw us lead (endpoint.lock), or its own look arms what we left.
 */
static void leave_to_poller(struct shmipc_endpoint *ep)
{
	struct shmipc_notify notify[EVENTS_MAX];
	struct pv_sync sync = { .notify = notify };
	bool found;

	lock(&ep->poll_lock);
	found = arm_hot(ep, notify, &sync);
	unlock(&ep->poll_lock);
	ring(ep, &sync);
	if (found)
		endpoint_tell_poller(ep);
}

void endpoint_flush(struct shmipc_endpoint *ep)
{
	struct shmipc_notify notify[EVENTS_MAX];
	struct pv_sync sync = { .notify = notify };

	do {
		lock(&ep->poll_lock);
		sync.nr_notify = endpoint_bells(ep, notify, EVENTS_MAX, NULL);
		unlock(&ep->poll_lock);
		ring(ep, &sync);
	} while (sync.nr_notify == EVENTS_MAX);
}

int endpoint_wait(struct shmipc_endpoint *ep, struct waiter *w, int64_t timeout_ns)
{
	uint64_t deadline = timeout_ns > 0 ? deadline_after(timeout_ns) : 0;
	bool in_time = true, led = false;
	int err;

	for (;;) {
		err = atomic_load_explicit(&ep->dead, memory_order_relaxed);
		lock(&ep->lock);
		if (err)
			break;
		if (!ep->leading) {
			ep->leading = true;
			unlock(&ep->lock);
			err = timeout_ns ? lead(ep, w, timeout_ns, deadline) : look_once(ep, w);
			if (err < 0 && err != -EAGAIN && err != -ETIMEDOUT)
				atomic_store(&ep->dead, err);
			lock(&ep->lock);
			ep->leading = false;
			led = true;
			break;
		}
		/* The leader may sleep, and will not ring for us until it wakes. */
		if (timeout_ns && !list_empty(&ep->corked)) {
			unlock(&ep->lock);
			endpoint_flush(ep);
			continue;
		}
		if (timeout_ns)
			in_time = follow(ep, w, timeout_ns, deadline);
		unlock(&ep->lock);
		if (w->ready(w->arg))
			err = 0;
		else if (!timeout_ns)
			err = -EAGAIN;
		else if (in_time)
			continue;
		else
			err = -ETIMEDOUT;
		lock(&ep->lock);
		break;
	}
	pass_the_lead(ep);
	unlock(&ep->lock);
	if (led && atomic_load(&ep->polled))
		leave_to_poller(ep);
	return err;
}
