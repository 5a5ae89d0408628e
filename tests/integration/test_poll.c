// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* shmipc_fd() in a program's own poll or epoll loop, and one wait for hundreds of streams. */
#include "pair.h"

#include <poll.h>
#include <sys/epoll.h>

/* Sends as told: the wire carries one byte for each message wanted. */
static void sender(struct pair *p, void *arg)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_open(p->session, &st), 0);
	for (unsigned int i = 0; i < *(unsigned int *)arg; i++) {
		pair_hear(p);
		if (i % 3 == 2)
			usleep(1000);
		check_eq(shmipc_write(st, &i, sizeof(i), 0, LIMIT), sizeof(i));
	}
	pair_hear(p);
}

/* Nothing left, and so the doorbells are armed: what comes from now on makes it readable. */
static void settle(struct pair *p)
{
	struct shmipc_event events[8];
	struct shmipc_session *session;

	while (shmipc_wait(p->ep, events, 8, 0))
		shmipc_accept(p->listener, &session, 0);
}

/* The same, when there is one stream that always has something. */
static void settle_but(struct pair *p, const struct shmipc_stream *st)
{
	struct shmipc_event event;
	int n;

	do {
		n = shmipc_wait(p->ep, &event, 1, LIMIT);
		check_eq(n, 1);
		if (event.type == SHMIPC_EV_ACCEPT)
			shmipc_accept(p->listener, &(struct shmipc_session *){ NULL }, 0);
	} while (event.object != st);
}

static void test_poll(void **state)
{
	unsigned int n = 500, got;
	struct shmipc_stream *st = NULL;
	struct pollfd pfd = { .events = POLLIN };
	struct shmipc_event event;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, sender, &n);
	pfd.fd = shmipc_fd(p.ep);
	check(pfd.fd >= 0);
	for (unsigned int i = 0; i < n; i++) {
		settle(&p);
		check_eq(poll(&pfd, 1, 0), 0);
		pair_tell(&p);
		check_eq(poll(&pfd, 1, LIMIT / MS), 1);
		check_eq(pfd.revents, POLLIN);
		if (!st)
			check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
		do {
			check_eq(shmipc_wait(p.ep, &event, 1, LIMIT), 1);
		} while (event.type != SHMIPC_EV_READ);
		check(event.object == st);
		check_eq(shmipc_read(st, &got, sizeof(got), 0), sizeof(got));
		check_eq(got, i);
	}
	/* The end is something, too. */
	settle(&p);
	pair_tell(&p);
	pair_wait(&p);
	check_eq(poll(&pfd, 1, LIMIT / MS), 1);
	do {
		check(shmipc_wait(p.ep, &event, 1, LIMIT) == 1);
	} while (event.type != SHMIPC_EV_CLOSED);
	check(event.object == p.session);
	pair_close(&p);
}

static void test_epoll(void **state)
{
	struct epoll_event watch = { .events = EPOLLIN }, seen;
	struct shmipc_stream *st = NULL;
	struct shmipc_event event;
	unsigned int n = 200, got;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, sender, &n);
	check_eq(epoll_ctl(ep, EPOLL_CTL_ADD, shmipc_fd(p.ep), &watch), 0);
	for (unsigned int i = 0; i < n; i++) {
		settle(&p);
		pair_tell(&p);
		check_eq(epoll_wait(ep, &seen, 1, LIMIT / MS), 1);
		if (!st)
			check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
		do {
			check_eq(shmipc_wait(p.ep, &event, 1, LIMIT), 1);
		} while (event.type != SHMIPC_EV_READ);
		check_eq(shmipc_read(st, &got, sizeof(got), 0), sizeof(got));
		check_eq(got, i);
	}
	pair_tell(&p);
	pair_end(&p);
	close(ep);
}

/* ---- news beside what stays ------------------------------------------------------------ */

static void leaving_child(struct pair *p, void *arg)
{
	struct shmipc_session *second;
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_connect(p->ep, p->name, NULL, &second, LIMIT), 0);
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "unread", 6, 0, LIMIT), 6);
	pair_hear(p);
	shmipc_session_close(second);
	shmipc_session_close(p->session);
	p->session = NULL;
	pair_tell(p);
}

/* A stream that is never read is reported each time; both ends of sessions must be all the same. */
static void test_all_news(void **state)
{
	struct shmipc_session *second;
	struct shmipc_stream *st;
	struct shmipc_event events[8];
	int64_t until;
	int closed = 0;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, leaving_child, NULL);
	check_eq(shmipc_accept(p.listener, &second, LIMIT), 0);
	check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
	settle_but(&p, st);
	pair_tell(&p);
	pair_hear(&p);
	for (until = pair_now() + LIMIT / 3; closed < 2 && pair_now() < until;) {
		int n = shmipc_wait(p.ep, events, 8, LIMIT);

		check(n > 0);
		for (int i = 0; i < n; i++)
			closed += events[i].type == SHMIPC_EV_CLOSED;
	}
	check_eq(closed, 2);
	pair_end(&p);
}

/* ---- hundreds of streams ------------------------------------------------------------- */

enum { STREAMS = 500, ROUNDS = 4 };

static void many_child(struct pair *p, void *arg)
{
	struct pollfd pfd = { .fd = p->wire, .events = POLLIN };
	struct shmipc_stream *st[STREAMS];
	struct shmipc_event event;

	(void)arg;
	for (int i = 0; i < STREAMS; i++)
		check_eq(shmipc_stream_open(p->session, &st[i]), 0);
	for (unsigned int round = 0; round < ROUNDS; round++)
		for (unsigned int i = 0; i < STREAMS; i++) {
			uint32_t word = i << 8 | round;

			check_eq(shmipc_write(st[i * 7 % STREAMS], &word, sizeof(word), 0, LIMIT),
				 sizeof(word));
		}
	for (int i = 0; i < STREAMS; i++)
		shmipc_stream_close(st[i]);
	/* An end that found the ring full is sent by a later call: the library has no thread. */
	while (!poll(&pfd, 1, 0))
		shmipc_wait(p->ep, &event, 1, 10 * MS);
}

struct seen {
	unsigned int rounds, index;
};

static void test_many_streams(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .max_streams = 2 * STREAMS };
	static struct seen seen[STREAMS];
	struct shmipc_event events[64];
	unsigned int accepted = 0, ended = 0;
	struct pair p;

	(void)state;
	memset(seen, 0, sizeof(seen));
	pair_start(&p, &opt, 0, many_child, NULL);
	/* It would be reported each time, and a wait that stalls go unseen. */
	shmipc_listener_close(p.listener);
	p.listener = NULL;
	while (ended < STREAMS) {
		int n = shmipc_wait(p.ep, events, 64, LIMIT);

		check(n > 0);
		for (int i = 0; i < n; i++) {
			struct shmipc_stream *st = events[i].object;
			struct seen *s = events[i].user;
			uint32_t word;
			ssize_t len;

			if (events[i].type == SHMIPC_EV_STREAM) {
				check_eq(shmipc_stream_accept(p.session, &st, 0), 0);
				shmipc_stream_set_user(st, &seen[accepted++]);
			}
			if (events[i].type != SHMIPC_EV_READ)
				continue;
			check(s >= seen && s < seen + STREAMS);
			len = shmipc_read(st, &word, sizeof(word), 0);
			if (!len) {
				check_eq(s->rounds, ROUNDS);
				shmipc_stream_close(st);
				ended++;
				continue;
			}
			check_eq(len, sizeof(word));
			check_eq(word & 0xff, s->rounds);
			if (s->rounds++)
				check_eq(word >> 8, s->index);
			s->index = word >> 8;
		}
	}
	check_eq(accepted, STREAMS);
	pair_tell(&p);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_poll), pair_test(test_epoll), pair_test(test_all_news),
		pair_test(test_many_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
