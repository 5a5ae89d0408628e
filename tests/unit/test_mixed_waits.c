// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* One thread in shmipc_wait(), or in poll() on shmipc_fd(), and others beside it that block. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include "duo.h"

/* ---- states to wait for ------------------------------------------------------------ */

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* One leads and sleeps, having slept @sleeps times and more; @followers follow. */
static bool settled(struct shmipc_endpoint *ep, uint64_t sleeps, unsigned int followers)
{
	bool leading;

	lock(&ep->lock);
	leading = ep->leading;
	unlock(&ep->lock);
	return leading && duo_stats(ep).sleeps >= sleeps &&
	       atomic_load(&ep->nr_followers) == followers;
}

static void await_settled(struct shmipc_endpoint *ep, uint64_t sleeps, unsigned int followers)
{
	int64_t until = now() + LIMIT;

	while (!settled(ep, sleeps, followers) && now() < until)
		usleep(100);
	assert_true(settled(ep, sleeps, followers));
}

/* ---- threads ----------------------------------------------------------------------- */

struct thread {
	pthread_t id;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct shmipc_event event;
	ssize_t result;
};

/* Long enough for any machine, short enough for the test to end and say that nothing came. */
#define IN_TIME	(LIMIT / 3)

static void *wait_thread(void *arg)
{
	struct thread *t = arg;

	t->result = shmipc_wait(t->ep, &t->event, 1, IN_TIME);
	return NULL;
}

static void *read_thread(void *arg)
{
	struct thread *t = arg;
	char c;

	t->result = shmipc_read(t->st, &c, 1, IN_TIME);
	return NULL;
}

static void spawn(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
		  struct shmipc_stream *st)
{
	*t = (struct thread){ .ep = ep, .st = st };
	assert_int_equal(pthread_create(&t->id, NULL, run, t), 0);
}

/* Until it leads and sleeps: nothing but the provider wakes it then. */
static void spawn_leader(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
			 struct shmipc_stream *st)
{
	uint64_t sleeps = duo_stats(ep).sleeps;

	spawn(t, run, ep, st);
	await_settled(ep, sleeps + 1, 0);
}

static void spawn_follower(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
			   struct shmipc_stream *st)
{
	spawn(t, run, ep, st);
	await_settled(ep, 1, 1);
}

static void join_event(struct thread *t, uint32_t type, void *object)
{
	pthread_join(t->id, NULL);
	assert_int_equal(t->result, 1);
	assert_int_equal(t->event.type, type);
	assert_ptr_equal(t->event.object, object);
}

/* ---- a provider that does something in between ------------------------------------ */

static struct provider_ops hooked;
static const struct provider_ops *real_ops;

/* Its calls but for those that a test replaces in @hooked. */
static void hook(struct shmipc_endpoint *ep)
{
	real_ops = ep->pv->ops;
	hooked = *real_ops;
	ep->pv->ops = &hooked;
}

/* ---- a session that ends ------------------------------------------------------------ */

static struct shmipc_endpoint *dropping;
static int seen_at_drop;

/* As another thread's shmipc_wait() may come while the session is closed. */
static void wait_then_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct shmipc_event events[4];

	seen_at_drop = shmipc_wait(dropping, events, 4, 0);
	real_ops->drop(pv, handle, reason);
}

static void test_close_beside_wait(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, LIMIT), 1);
	assert_ptr_equal(event.object, a);
	dropping = d.a_ep;
	hook(d.a_ep);
	hooked.drop = wait_then_drop;
	seen_at_drop = -1;
	shmipc_session_close(d.a);
	/* The stream that had data is gone, and no event speaks of it. */
	assert_int_equal(seen_at_drop, 0);
	duo_close(&d);
}

/* ---- shmipc_wait() follows ------------------------------------------------------------ */

/* A blocked reader leads; what it takes off the ring for others is the event loop's news. */
static void test_wait_follows(void **state)
{
	struct shmipc_stream *ax, *bx, *ay, *by;
	struct thread reader, loop;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &bx, &ax);
	duo_stream(&d, &by, &ay);
	spawn_leader(&reader, read_thread, d.a_ep, ax);
	spawn_follower(&loop, wait_thread, d.a_ep, NULL);
	assert_int_equal(shmipc_write(by, "y", 1, 0, 0), 1);
	join_event(&loop, SHMIPC_EV_READ, ay);
	assert_int_equal(shmipc_write(bx, "x", 1, 0, 0), 1);
	pthread_join(reader.id, NULL);
	assert_int_equal(reader.result, 1);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_beside_wait), cmocka_unit_test(test_wait_follows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
