// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * shmipc_session_watch_peer(): what is reported of a peer that pauses, goes on and changes, in whatever
 * order that comes and whenever somebody looks. The local provider hands nothing over: what the
 * module would say of the peer is this test's to say.
 */
#include <pthread.h>
#include <unistd.h>
#include "duo.h"

#define PAUSE	SHMIPC_CAUSE_PEER_PAUSE
#define LOST	SHMIPC_CAUSE_PEER_LOST
#define CHANGED	SHMIPC_CAUSE_PEER_CHANGED

/* The peer, and how often somebody asked for it. */
static struct shmipc_peer peer;
static bool paused, watched;
static int asked, fails;

static int fake_peer(struct provider *pv, uint32_t session, struct shmipc_peer *now, bool *is_paused)
{
	(void)pv, (void)session;
	asked++;
	if (fails)
		return -ESTALE;
	*now = peer;
	*is_paused = paused;
	return 0;
}

static int fake_watch(struct provider *pv, uint32_t session, uint64_t cookie, bool on)
{
	(void)pv, (void)session;
	assert_true(cookie != 0);
	if (fails)
		return -ESTALE;
	watched = on;
	return 0;
}

static struct provider_ops ops;

static void open_faked(struct duo *d)
{
	duo_open(d, NULL);
	peer = d->b->peer;
	paused = watched = false;
	asked = fails = 0;
	ops = *d->b_ep->pv->ops;
	ops.peer = fake_peer;
	ops.peer_watch = fake_watch;
	d->b_ep->pv->ops = &ops;
}

static void open_watched(struct duo *d)
{
	open_faked(d);
	assert_int_equal(shmipc_session_watch_peer(d->b, 1), 0);
	assert_true(watched);
}

/* What the provider tells b. */
static void cause(struct duo *d, uint32_t causes)
{
	struct shmipc_ready event = { .cookie = d->b->cookie, .handle = d->b->handle,
				      .causes = causes };

	lock(&d->b_ep->poll_lock);
	endpoint_event(d->b_ep, &event);
	unlock(&d->b_ep->poll_lock);
}

static void pauses(struct duo *d, bool now)
{
	paused = now;
	cause(d, PAUSE);
}

static void changes(struct duo *d, uint32_t pid)
{
	peer.pid = pid;
	peer.generation++;
	paused = false;
	cause(d, CHANGED);
}

/* The next event is this one; 0: there is none. */
static void expect(struct duo *d, uint32_t type)
{
	struct shmipc_event event = { 0 };

	assert_int_equal(shmipc_wait(d->b_ep, &event, 1, 0), type != 0);
	assert_int_equal(event.type, type);
	assert_ptr_equal(event.object, type ? d->b : NULL);
}

static void expect_peer(struct duo *d, uint32_t pid, uint32_t generation)
{
	struct shmipc_peer_info info;

	assert_int_equal(shmipc_session_peer(d->b, &info), 0);
	assert_int_equal(info.pid, pid);
	assert_int_equal(info.generation, generation);
}

static void test_one_by_one(void **state)
{
	struct duo d;

	(void)state;
	open_watched(&d);
	expect(&d, 0);
	pauses(&d, true);
	expect(&d, SHMIPC_EV_PEER_PAUSED);
	expect(&d, 0);
	pauses(&d, false);
	expect(&d, SHMIPC_EV_PEER_RESUMED);
	expect(&d, 0);
	pauses(&d, true);
	expect(&d, SHMIPC_EV_PEER_PAUSED);
	changes(&d, 4711);
	expect(&d, SHMIPC_EV_PEER_CHANGED);
	expect_peer(&d, 4711, 1);
	expect(&d, 0);
	/* Adopted after a crash: the last one is who it was, until there is another. */
	peer.pid = 0;
	paused = true;
	cause(&d, LOST);
	expect(&d, SHMIPC_EV_PEER_PAUSED);
	expect_peer(&d, 4711, 1);
	changes(&d, 4712);
	expect(&d, SHMIPC_EV_PEER_CHANGED);
	expect_peer(&d, 4712, 2);
	expect(&d, 0);
	duo_close(&d);
}

/* What has happened when somebody looks at last. */
static void test_looked_at_late(void **state)
{
	struct duo d;

	(void)state;
	open_watched(&d);
	/* A pause that is over. */
	pauses(&d, true);
	pauses(&d, false);
	expect(&d, 0);
	/* A handover that is. */
	pauses(&d, true);
	changes(&d, 2);
	expect(&d, SHMIPC_EV_PEER_CHANGED);
	expect(&d, 0);
	/* And the next one begins: in this order, or a program that pauses would go on. */
	pauses(&d, true);
	changes(&d, 3);
	pauses(&d, true);
	expect(&d, SHMIPC_EV_PEER_CHANGED);
	expect(&d, SHMIPC_EV_PEER_PAUSED);
	expect(&d, 0);
	/* Resumed and paused again: it is told that already. */
	pauses(&d, false);
	pauses(&d, true);
	expect(&d, 0);
	/* Two handovers. */
	changes(&d, 4);
	changes(&d, 5);
	expect(&d, SHMIPC_EV_PEER_CHANGED);
	expect_peer(&d, 5, 4);
	expect(&d, 0);
	/* A cause that has nothing to say. */
	cause(&d, PAUSE | LOST | CHANGED);
	expect(&d, 0);
	duo_close(&d);
}

static void test_not_asked(void **state)
{
	struct duo d;
	int before;

	(void)state;
	open_faked(&d);
	before = asked;
	cause(&d, 1);
	assert_int_equal(asked, before);
	pauses(&d, true);
	changes(&d, 2);
	pauses(&d, true);
	expect(&d, 0);
	/* But who it is, is known. */
	expect_peer(&d, 2, 1);
	/* Asked now, it is told what is, and not what was. */
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), 0);
	expect(&d, SHMIPC_EV_PEER_PAUSED);
	/* To ask again is no news. */
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), 0);
	expect(&d, 0);
	assert_int_equal(shmipc_session_watch_peer(d.b, 0), 0);
	assert_false(watched);
	pauses(&d, false);
	changes(&d, 3);
	expect(&d, 0);
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), 0);
	expect(&d, 0);
	duo_close(&d);
}

/* After its end nothing but that is told. */
static void test_ended(void **state)
{
	struct duo d;

	(void)state;
	open_watched(&d);
	pauses(&d, true);
	cause(&d, SHMIPC_CAUSE_PEER_DIED);
	expect(&d, SHMIPC_EV_CLOSED);
	pauses(&d, false);
	changes(&d, 2);
	expect(&d, 0);
	duo_close(&d);
}

static void test_errors(void **state)
{
	struct duo d;

	(void)state;
	open_faked(&d);
	fails = 1;
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), -ESTALE);
	pauses(&d, true);
	changes(&d, 2);
	expect(&d, 0);
	expect_peer(&d, d.b->peer.pid, 0);
	duo_close(&d);
	/* A provider that hands nothing over takes the wish, and has nothing to report. */
	duo_open(&d, NULL);
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), 0);
	cause(&d, PAUSE | LOST | CHANGED);
	expect(&d, 0);
	expect_peer(&d, d.b->peer.pid, 0);
	duo_close(&d);
}

static void *wait_for_one(void *arg)
{
	struct duo *d = arg;
	struct shmipc_event event = { 0 };

	assert_int_equal(shmipc_wait(d->b_ep, &event, 1, SHMIPC_FOREVER), 1);
	assert_int_equal(event.type, SHMIPC_EV_PEER_PAUSED);
	return NULL;
}

/* A thread that sleeps in shmipc_wait() is told what another finds by asking. */
static void test_wakes(void **state)
{
	pthread_t thread;
	struct duo d;

	(void)state;
	open_faked(&d);
	paused = true;
	alarm(30);
	pthread_create(&thread, NULL, wait_for_one, &d);
	while (!atomic_load(&d.b_ep->asleep))
		;
	assert_int_equal(shmipc_session_watch_peer(d.b, 1), 0);
	pthread_join(thread, NULL);
	alarm(0);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_by_one),
		cmocka_unit_test(test_looked_at_late),
		cmocka_unit_test(test_not_asked),
		cmocka_unit_test(test_ended),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_wakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
