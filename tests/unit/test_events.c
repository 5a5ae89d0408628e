// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* shmipc_wait(): what is reported, how often, and when it stops. And the counters. */
#include <poll.h>
#include <pthread.h>
#include <unistd.h>
#include "duo.h"

static const struct shmipc_options small = {
	.size = sizeof(small), .window = 4096, .max_memory = 65536,
};

/* Exactly these events, in any order. */
struct want {
	uint32_t type;
	void *object;
	void *user;
};

static void expect(struct shmipc_endpoint *ep, const struct want *want, int nr)
{
	struct shmipc_event events[16];
	int n = shmipc_wait(ep, events, 16, 0);

	assert_int_equal(n, nr);
	for (int i = 0; i < nr; i++) {
		int found = 0;

		for (int j = 0; j < n; j++)
			found += events[j].type == want[i].type &&
				 events[j].object == want[i].object &&
				 events[j].user == want[i].user;
		assert_int_equal(found, 1);
	}
}

#define EXPECT(ep, ...) do { \
	const struct want want[] = { __VA_ARGS__ }; \
	expect(ep, want, sizeof(want) / sizeof(want[0])); \
} while (0)
#define EXPECT_NONE(ep) expect(ep, NULL, 0)

static void test_read_level(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	EXPECT_NONE(d.a_ep);
	shmipc_stream_set_user(a, &d);
	assert_int_equal(shmipc_write(b, "xy", 2, 0, 0), 2);
	for (int i = 0; i < 3; i++)
		EXPECT(d.a_ep, { SHMIPC_EV_READ, a, &d });
	assert_int_equal(shmipc_read(a, buf, 1, 0), 1);
	EXPECT(d.a_ep, { SHMIPC_EV_READ, a, &d });
	assert_int_equal(shmipc_read(a, buf, 1, 0), 1);
	EXPECT_NONE(d.a_ep);
	assert_int_equal(shmipc_finish(b), 0);
	EXPECT(d.a_ep, { SHMIPC_EV_READ, a, &d });
	assert_int_equal(shmipc_read(a, buf, 1, 0), 0);
	shmipc_stream_close(a);
	EXPECT_NONE(d.a_ep);
	duo_close(&d);
}

/* Of a stream that nobody accepted, only the session is reported. */
static void test_new_stream(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	EXPECT_NONE(d.a_ep);
	shmipc_session_set_user(d.a, &d);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	EXPECT_NONE(d.a_ep);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	for (int i = 0; i < 2; i++)
		EXPECT(d.a_ep, { SHMIPC_EV_STREAM, d.a, &d });
	assert_int_equal(shmipc_stream_accept(d.a, &a, 0), 0);
	EXPECT(d.a_ep, { SHMIPC_EV_READ, a, NULL });
	assert_int_equal(shmipc_read(a, buf, 1, 0), 1);
	EXPECT_NONE(d.a_ep);
	duo_close(&d);
}

/* Once for each send that was told to come again. */
static void test_write_once(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[1024] = { 0 };

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	EXPECT_NONE(d.b_ep);
	while (shmipc_write(b, buf, sizeof(buf), 0, 0) > 0)
		;
	assert_int_equal(shmipc_write(b, buf, sizeof(buf), 0, 0), -EAGAIN);
	EXPECT_NONE(d.b_ep);
	for (int i = 0; i < 3; i++)
		assert_true(shmipc_read(a, buf, sizeof(buf), 0) > 0);
	EXPECT(d.b_ep, { SHMIPC_EV_WRITE, b, NULL });
	EXPECT_NONE(d.b_ep);
	assert_int_equal(shmipc_write(b, buf, sizeof(buf), 0, 0), sizeof(buf));
	duo_close(&d);
}

static void test_closed_once(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	EXPECT_NONE(d.a_ep);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	shmipc_session_close(d.b);
	/* The end is news only after all that was sent before it. */
	struct shmipc_event events[8];
	int closed = 0, n;

	for (int i = 0; i < 5; i++) {
		n = shmipc_wait(d.a_ep, events, 8, 0);
		for (int j = 0; j < n; j++) {
			if (events[j].type != SHMIPC_EV_CLOSED)
				continue;
			closed++;
			assert_ptr_equal(events[j].object, d.a);
			assert_int_equal(shmipc_session_error(d.a), -EPIPE);
		}
	}
	assert_int_equal(closed, 1);
	assert_int_equal(shmipc_read(a, buf, 8, 0), 1);
	assert_int_equal(shmipc_read(a, buf, 8, 0), -EPIPE);
	duo_close(&d);
}

/* What there was before the first call is reported by it. */
static void test_old_news(void **state)
{
	struct shmipc_stream *a, *b, *b2;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_stream_open(d.b, &b2), 0);
	assert_int_equal(shmipc_write(b2, "x", 1, 0, 0), 1);
	duo_drain(d.a);
	EXPECT(d.a_ep, { SHMIPC_EV_READ, a, NULL }, { SHMIPC_EV_STREAM, d.a, NULL });
	duo_close(&d);
}

/*
 * A program that always has something to do, and takes its time for it, learns of what is new elsewhere
 * at one of its next looks, and not after many of them.
 */
static void test_busy_program(void **state)
{
	const struct timespec tick = { .tv_nsec = 20 * MS };
	struct shmipc_stream *a, *b, *news;
	struct shmipc_session *a2, *b2;
	struct shmipc_event events[8];
	struct duo d;
	int looks = 0, n;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	duo_connect(d.a_ep, d.b_ep, NULL, &a2, &b2);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	/* Nothing is left to be told but that there is something to read. */
	for (int i = 0; i < 200; i++)
		(void)shmipc_wait(d.a_ep, events, 8, 0);
	EXPECT(d.a_ep, { SHMIPC_EV_READ, a, NULL });
	assert_int_equal(shmipc_stream_open(b2, &news), 0);
	assert_int_equal(shmipc_write(news, "x", 1, 0, 0), 1);
	do {
		nanosleep(&tick, NULL);
		n = shmipc_wait(d.a_ep, events, 8, 0);
	} while (n == 1 && ++looks < 32);
	print_message("seen after %d looks\n", looks);
	assert_in_range(looks, 0, 2);
	duo_close(&d);
}

/* With room for one at a time, everybody has a turn. */
static void test_fair(void **state)
{
	struct shmipc_stream *a[10], *b[10];
	struct shmipc_event event;
	int seen[10] = { 0 };
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 10; i++) {
		duo_stream(&d, &b[i], &a[i]);
		assert_int_equal(shmipc_write(b[i], "x", 1, 0, 0), 1);
	}
	/* All of them before the first turn: one that comes later has one turn less. */
	duo_drain(d.a);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(shmipc_wait(d.a_ep, &event, 1, LIMIT), 1);
		for (int j = 0; j < 10; j++)
			seen[j] += event.object == a[j];
	}
	for (int j = 0; j < 10; j++)
		assert_int_equal(seen[j], 10);
	duo_close(&d);
}

static void *connect_and_close(void *arg)
{
	struct shmipc_endpoint *ep;
	struct shmipc_session *s;
	int err = shmipc_open(&ep, 0);

	if (!err)
		err = shmipc_connect(ep, arg, NULL, &s, LIMIT);
	shmipc_close(ep);
	return (void *)(intptr_t)err;
}

static void test_accept_event(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;
	struct shmipc_session *s;
	struct shmipc_event event;
	pthread_t thread;
	void *err;

	(void)state;
	setenv("SHMIPC_PROVIDER", "local", 1);
	assert_int_equal(shmipc_open(&ep, 0), 0);
	assert_int_equal(shmipc_listen(ep, "test.events", NULL, &listener), 0);
	shmipc_listener_set_user(listener, &event);
	EXPECT_NONE(ep);
	pthread_create(&thread, NULL, connect_and_close, "test.events");
	assert_int_equal(shmipc_wait(ep, &event, 1, LIMIT), 1);
	assert_int_equal(event.type, SHMIPC_EV_ACCEPT);
	assert_ptr_equal(event.object, listener);
	assert_ptr_equal(event.user, &event);
	assert_int_equal(shmipc_accept(listener, &s, 0), 0);
	pthread_join(thread, &err);
	assert_null(err);
	assert_int_equal(shmipc_accept(listener, &s, 0), -EAGAIN);
	shmipc_close(ep);
}

/* The descriptor is readable when, after a wait that found nothing, there is something. */
static void test_fd(void **state)
{
	struct shmipc_stream *a, *b;
	struct pollfd pfd = { .events = POLLIN };
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	pfd.fd = shmipc_fd(d.a_ep);
	for (int i = 0; i < 100; i++) {
		EXPECT_NONE(d.a_ep);
		assert_int_equal(poll(&pfd, 1, 0), 0);
		assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
		assert_int_equal(poll(&pfd, 1, LIMIT / MS), 1);
		EXPECT(d.a_ep, { SHMIPC_EV_READ, a, NULL });
		assert_int_equal(shmipc_read(a, buf, 1, 0), 1);
	}
	duo_close(&d);
}

static void test_arguments(void **state)
{
	struct shmipc_event event;
	struct shmipc_stats stats;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 0, 0), -EINVAL);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 20 * MS), 0);
	/* A caller of another size gets what it has room for, and zeroes beyond what there is. */
	memset(&stats, 0xff, sizeof(stats));
	assert_int_equal(shmipc_get_stats(d.a_ep, &stats, 8), 0);
	assert_int_equal(stats.messages_sent, 0);
	assert_true(stats.messages_received == UINT64_MAX);
	duo_close(&d);
}

static void test_counters(void **state)
{
	struct shmipc_stats a, b;
	struct shmipc_stream *sa, *sb;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &sb, &sa);
	for (int i = 0; i < 100; i++) {
		duo_send(sb, sa, 1000);
		duo_send(sa, sb, 10);
	}
	a = duo_stats(d.a_ep);
	b = duo_stats(d.b_ep);
	assert_int_equal(b.messages_sent, 101);
	assert_int_equal(b.bytes_sent, 100001);
	assert_int_equal(a.messages_received, 101);
	assert_int_equal(a.bytes_received, 100001);
	assert_int_equal(a.messages_sent, 100);
	assert_int_equal(a.bytes_sent, 1000);
	assert_int_equal(b.bytes_received, 1000);
	assert_int_equal(a.segments, 1);
	assert_int_equal(a.stalls + b.stalls, 0);
	/* What a session counted stays when it is closed. */
	shmipc_session_close(d.b);
	b = duo_stats(d.b_ep);
	assert_int_equal(b.messages_sent, 101);
	assert_int_equal(b.bytes_received, 1000);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_level), cmocka_unit_test(test_new_stream),
		cmocka_unit_test(test_write_once), cmocka_unit_test(test_closed_once),
		cmocka_unit_test(test_old_news), cmocka_unit_test(test_busy_program),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_accept_event), cmocka_unit_test(test_fd),
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_counters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
