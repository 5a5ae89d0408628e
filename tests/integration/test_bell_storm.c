// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A peer that does nothing but ring. Its victim hears each bell, and still serves its other peers
 * and comes back from a call that may not wait.
 */
#include "pair.h"

#include <poll.h>
#include <signal.h>
#include "session.h"

/* Until the other process has said something. */
static void ring_all_the_time(struct pair *p, void *arg)
{
	struct pollfd said = { .fd = p->wire, .events = POLLIN };
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "!", 1, 0, LIMIT), 1);
	pair_tell(p);
	while (!poll(&said, 1, 0))
		for (int i = 0; i < 200; i++)
			session_ring(p->session, BELL_DATA | BELL_SPACE);
	/* Heard again, as anybody, when it has something to say. */
	check_eq(shmipc_write(st, "after all", 9, 0, LIMIT), 9);
	pair_hear(p);
	pair_hear(p);
}

static void echo(struct pair *p, void *name)
{
	struct shmipc_session *s;
	struct shmipc_stream *st;
	char buf[3000];
	ssize_t n;

	check_eq(shmipc_open(&p->ep, 0), 0);
	check_eq(shmipc_connect(p->ep, name, NULL, &s, LIMIT), 0);
	check_eq(shmipc_stream_open(s, &st), 0);
	check_eq(shmipc_write(st, "!", 1, 0, LIMIT), 1);
	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
		send_all(st, buf, n);
	check_eq(n, 0);
	shmipc_stream_close(st);
}

static uint64_t empty_bells(struct pair *p)
{
	struct shmipc_stats stats;

	check_eq(shmipc_get_stats(p->ep, &stats, sizeof(stats)), 0);
	return stats.empty_bells;
}

static struct shmipc_stream *greeted(struct shmipc_session *s)
{
	struct shmipc_stream *st;
	char c;

	check_eq(shmipc_stream_accept(s, &st, LIMIT), 0);
	check_eq(shmipc_read(st, &c, 1, LIMIT), 1);
	return st;
}

static void test_storm(void **state)
{
	unsigned int trips = pair_scale(500, 500, 5000), looks = trips;
	struct shmipc_stream *bad, *good;
	struct shmipc_session *session;
	struct shmipc_event event;
	struct pair p, neighbour;
	char out[3000], in[3000];
	uint64_t bells;
	int64_t start;

	(void)state;
	/* Who never comes back from a call is told by the clock. */
	alarm(4 * LIMIT / 1000000000);
	pair_start(&p, NULL, 0, ring_all_the_time, NULL);
	pair_fork(&neighbour, echo, p.name);
	check_eq(shmipc_accept(p.listener, &session, LIMIT), 0);
	good = greeted(session);
	bad = greeted(p.session);
	pair_hear(&p);
	start = pair_now();
	while (empty_bells(&p) < 2 * EMPTY_BELLS) {
		check(pair_now() - start < LIMIT);
		shmipc_wait(p.ep, &event, 1, MS);
	}
	bells = empty_bells(&p);
	start = pair_now();
	/* Nobody else has anything: a look finds nothing, and ends. */
	check_eq(shmipc_accept(p.listener, &(struct shmipc_session *){ NULL }, 0), -EAGAIN);
	for (unsigned int i = 0; i < looks || empty_bells(&p) < bells + 100; i++) {
		check(pair_now() - start < LIMIT);
		check_eq(shmipc_wait(p.ep, &event, 1, 0), 0);
	}
	for (unsigned int i = 0; i < trips; i++) {
		fill(out, sizeof(out), 3, i);
		send_all(good, out, 1 + i % sizeof(out));
		read_all(good, in, 1 + i % sizeof(out));
		check(same(in, 1 + i % sizeof(out), 3, i));
	}
	print_message("%llu empty bells, %u looks, %u round trips beside them\n",
		      (unsigned long long)(empty_bells(&p) - bells), looks, trips);
	check_eq(shmipc_session_error(p.session), 0);
	pair_tell(&p);
	check_eq(shmipc_read(bad, in, sizeof(in), LIMIT), 9);
	pair_tell(&p);
	check_eq(shmipc_finish(good), 0);
	check_eq(shmipc_read(good, in, 1, LIMIT), 0);
	pair_wait(&neighbour);
	close(neighbour.wire);
	pair_end(&p);
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { pair_test(test_storm) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
