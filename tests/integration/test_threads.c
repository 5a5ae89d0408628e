// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* An event loop in one thread, and other threads of its process that use the same endpoint. */
#include "pair.h"

#include <poll.h>
#include <pthread.h>

/* When it is over the library looks once more: who finds something only then was not woken. */
#define IN_TIME	(LIMIT / 3)

struct loop {
	pthread_t thread;
	struct shmipc_endpoint *ep;
	struct shmipc_event event;
	int64_t took;
	int n;
};

static void *loop_thread(void *arg)
{
	struct loop *l = arg;
	int64_t begun = pair_now();

	l->n = shmipc_wait(l->ep, &l->event, 1, IN_TIME);
	l->took = pair_now() - begun;
	return NULL;
}

static uint64_t sleeps(struct shmipc_endpoint *ep)
{
	struct shmipc_stats stats;

	check_eq(shmipc_get_stats(ep, &stats, sizeof(stats)), 0);
	return stats.sleeps;
}

/* Until it sleeps in the provider. */
static void loop_start(struct loop *l, struct shmipc_endpoint *ep)
{
	uint64_t before = sleeps(ep);
	int64_t until = pair_now() + LIMIT;

	l->ep = ep;
	check_eq(pthread_create(&l->thread, NULL, loop_thread, l), 0);
	while (sleeps(ep) == before && pair_now() < until)
		usleep(100);
	check(sleeps(ep) > before);
}

static void loop_end(struct loop *l, uint32_t type, void *object)
{
	pthread_join(l->thread, NULL);
	check_eq(l->n, 1);
	check_eq(l->event.type, type);
	check(l->event.object == object);
	check(l->took < IN_TIME);
}

/* Takes what is old news, of the listener and of sessions. */
static void settle(struct pair *p)
{
	struct shmipc_session *session;
	struct shmipc_event event;

	while (shmipc_wait(p->ep, &event, 1, 0))
		shmipc_accept(p->listener, &session, 0);
}

static void writer(struct pair *p, void *arg)
{
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "x", 1, 0, LIMIT), 1);
	pair_tell(p);
	pair_hear(p);
}

/* What another thread changes on this side alone: no peer rings for it. */
static void test_resumed(void **state)
{
	struct shmipc_stream *st;
	struct loop loop;
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, writer, NULL);
	pair_hear(&p);
	check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
	for (int i = 0; i < 50; i++) {
		check_eq(shmipc_stream_pause(st, 1), 0);
		settle(&p);
		loop_start(&loop, p.ep);
		check_eq(shmipc_stream_pause(st, 0), 0);
		loop_end(&loop, SHMIPC_EV_READ, st);
	}
	check_eq(shmipc_read(st, &c, 1, 0), 1);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- poll() in one thread, a blocking read in another ------------------------------------ */

static void two_streams(struct pair *p, void *arg)
{
	struct shmipc_stream *x, *y;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &x), 0);
	check_eq(shmipc_flush(x), 0);
	pair_hear(p);
	check_eq(shmipc_stream_open(p->session, &y), 0);
	check_eq(shmipc_flush(y), 0);
	for (int i = 0; i < 100; i++) {
		pair_hear(p);
		check_eq(shmipc_write(y, "y", 1, 0, LIMIT), 1);
		check_eq(shmipc_write(x, "x", 1, 0, LIMIT), 1);
	}
	pair_hear(p);
}

static void *read_thread(void *arg)
{
	char c;

	check_eq(shmipc_read(arg, &c, 1, LIMIT), 1);
	return NULL;
}

/* The reader takes the bell; the one that polls hears of what was its own. */
static void test_poll_beside_reader(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	struct shmipc_stream *x, *y;
	struct shmipc_event event;
	pthread_t reader;
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, two_streams, NULL);
	pfd.fd = shmipc_fd(p.ep);
	check(pfd.fd >= 0);
	check_eq(shmipc_stream_accept(p.session, &x, LIMIT), 0);
	pair_tell(&p);
	check_eq(shmipc_stream_accept(p.session, &y, LIMIT), 0);
	for (int i = 0; i < 100; i++) {
		settle(&p);
		check_eq(poll(&pfd, 1, 0), 0);
		check_eq(pthread_create(&reader, NULL, read_thread, x), 0);
		pair_tell(&p);
		/* Not settled here: what is reported may be the byte that is waited for. */
		while (shmipc_read(y, &c, 1, 0) != 1)
			if (!shmipc_wait(p.ep, &event, 1, 0))
				check_eq(poll(&pfd, 1, IN_TIME / MS), 1);
		pthread_join(reader, NULL);
	}
	pair_tell(&p);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_resumed), pair_test(test_poll_beside_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
