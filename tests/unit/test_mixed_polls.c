// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* poll() on shmipc_fd() in one thread, and calls of others that take its bells. */
#include <poll.h>
#include "waiters.h"

static struct peer peer;

static int readable(struct shmipc_endpoint *ep)
{
	struct pollfd pfd = { .fd = shmipc_fd(ep), .events = POLLIN };

	return poll(&pfd, 1, 0);
}

/* From now on the thread that polls sleeps. */
static void poll_begins(struct shmipc_endpoint *ep)
{
	struct shmipc_event event;

	assert_true(shmipc_fd(ep) >= 0);
	assert_int_equal(shmipc_wait(ep, &event, 1, 0), 0);
	assert_int_equal(readable(ep), 0);
}

/* Who asks for the descriptor late has to look again, once. */
static void test_poll_late(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 0);
	assert_int_equal(readable(d.a_ep), 1);
	poll_begins(d.a_ep);
	duo_close(&d);
}

static void test_poll_beside_reader(void **state)
{
	struct shmipc_stream *ax, *bx, *ay, *by;
	struct shmipc_event event;
	struct thread reader;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &bx, &ax);
	duo_stream(&d, &by, &ay);
	for (int i = 0; i < 20; i++) {
		poll_begins(d.a_ep);
		spawn_leader(&reader, read_thread, d.a_ep, ax);
		assert_int_equal(shmipc_write(by, "y", 1, 0, 0), 1);
		assert_int_equal(shmipc_write(bx, "x", 1, 0, 0), 1);
		join(&reader, 1);
		assert_int_equal(readable(d.a_ep), 1);
		assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 1);
		assert_int_equal(event.type, SHMIPC_EV_READ);
		assert_ptr_equal(event.object, ay);
		assert_int_equal(shmipc_read(ay, &c, 1, 0), 1);
	}
	/* And what comes when nobody else is there any more. */
	poll_begins(d.a_ep);
	assert_int_equal(shmipc_write(by, "y", 1, 0, 0), 1);
	assert_int_equal(readable(d.a_ep), 1);
	duo_close(&d);
}

/* A call that took a bell, and made nothing of it that is worth an event, leaves all armed. */
static void test_poll_beside_try(void **state)
{
	static const struct shmipc_options small = {
		.size = sizeof(small), .window = 4096, .max_memory = 65536,
	};
	struct shmipc_stream *ax, *bx, *ay, *by;
	struct shmipc_event event;
	char buf[3000] = { 0 };
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &bx, &ax);
	duo_stream(&d, &by, &ay);
	duo_elsewhere(d.a);
	for (int i = 0; i < 4; i++)
		assert_int_equal(shmipc_write(bx, buf, 1000, 0, 0), 1000);
	assert_int_equal(shmipc_reserve(bx, 3000, &(void *){ NULL }, 0), -EAGAIN);
	poll_begins(d.b_ep);
	/* One return rings, and does not do. */
	assert_int_equal(shmipc_read(ax, buf, sizeof(buf), 0), 1000);
	assert_int_equal(readable(d.b_ep), 1);
	for (int i = 0; i < 1000 && readable(d.b_ep); i++)
		assert_int_equal(shmipc_read(by, buf, 1, 0), -EAGAIN);
	assert_int_equal(readable(d.b_ep), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(shmipc_read(ax, buf, sizeof(buf), 0), 1000);
	assert_int_equal(readable(d.b_ep), 1);
	assert_int_equal(shmipc_wait(d.b_ep, &event, 1, 0), 1);
	assert_int_equal(event.type, SHMIPC_EV_WRITE);
	duo_close(&d);
}

/* The bell of a session that is not known yet, heard by the thread that polls. */
static int connect_beside_poll(struct provider *pv, const struct pv_connect *connect,
			       uint32_t *handle, struct shmipc_peer *who)
{
	int err = real_ops->connect(pv, connect, handle, who);

	pthread_join(peer.id, NULL);
	assert_int_equal(readable(hooked_ep), 1);
	poll_begins(hooked_ep);
	return err;
}

static void test_poll_beside_connect(void **state)
{
	struct shmipc_session *s;
	struct shmipc_event event;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	peer = (struct peer){ .close = false };
	assert_int_equal(shmipc_listen(d.a_ep, "test.polled", NULL, &peer.listener), 0);
	hook(d.b_ep);
	hooked.connect = connect_beside_poll;
	poll_begins(d.b_ep);
	pthread_create(&peer.id, NULL, peer_thread, &peer);
	assert_int_equal(shmipc_connect(d.b_ep, "test.polled", NULL, &s, LIMIT), 0);
	assert_int_equal(readable(d.b_ep), 1);
	assert_int_equal(shmipc_wait(d.b_ep, &event, 1, 0), 1);
	assert_int_equal(event.type, SHMIPC_EV_STREAM);
	assert_ptr_equal(event.object, s);
	duo_close(&d);
}

/* A loop of one thread finds its news itself, and pays no system calls to be told of it. */
static void test_poll_alone(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 20; i++) {
		poll_begins(d.a_ep);
		assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
		assert_int_equal(readable(d.a_ep), 1);
		assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 1);
		assert_false(d.a_ep->news_rung);
		/* Nor while it is busy with what it found. */
		assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
		assert_int_equal(shmipc_write(b, "y", 1, 0, 0), 1);
		assert_int_equal(shmipc_read(a, &c, 1, LIMIT), 1);
		assert_false(d.a_ep->news_rung);
	}
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_poll_late), cmocka_unit_test(test_poll_alone),
		cmocka_unit_test(test_poll_beside_reader),
		cmocka_unit_test(test_poll_beside_try), cmocka_unit_test(test_poll_beside_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
