// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* One thread in shmipc_wait() and others beside it that block: who has news wakes who waits. */
#include "waiters.h"

/* ---- a session that ends ------------------------------------------------------------ */

static int seen_at_drop;

/* As another thread's shmipc_wait() may come while the session is closed. */
static void wait_then_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct shmipc_event events[4];

	seen_at_drop = shmipc_wait(hooked_ep, events, 4, 0);
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
	hook(d.a_ep);
	hooked.drop = wait_then_drop;
	seen_at_drop = -1;
	shmipc_session_close(d.a);
	/* The stream that had data is gone, and no event speaks of it. */
	assert_int_equal(seen_at_drop, 0);
	duo_close(&d);
}

/* ---- a stream that another thread resets ----------------------------------------------- */

static void *send_thread(void *arg)
{
	struct thread *t = arg;
	int64_t begun = now();

	t->result = shmipc_write(t->st, "x", 1, 0, IN_TIME);
	t->took = now() - begun;
	return NULL;
}

static void test_reset_beside_wait(void **state)
{
	struct shmipc_stream *a, *b, *a2, *b2, *a3, *b3;
	struct thread reader, follower;
	static char full[65536];
	struct shmipc_options options = { .size = sizeof(options), .window = sizeof(full) };
	struct duo d;

	(void)state;
	duo_open(&d, &options);
	duo_stream(&d, &b, &a);
	duo_stream(&d, &b2, &a2);
	duo_stream(&d, &b3, &a3);
	spawn_leader(&reader, read_thread, d.a_ep, a);
	assert_int_equal(shmipc_write(a2, full, sizeof(full), 0, 0), sizeof(full));
	spawn_follower(&follower, send_thread, d.a_ep, a2);
	assert_int_equal(shmipc_reset(a2, 1), 0);
	join(&follower, -ECONNRESET);
	spawn_follower(&follower, read_thread, d.a_ep, a3);
	assert_int_equal(shmipc_reset(a3, 1), 0);
	join(&follower, -ECONNRESET);
	assert_int_equal(shmipc_reset(a, 1), 0);
	join(&reader, -ECONNRESET);
	duo_close(&d);
}

/* ---- a send that waits beside a leader that sleeps ------------------------------------ */

static char full[65536];

/* It asks for room itself, if its session is idle. */
static void test_send_leads(void **state)
{
	struct shmipc_options options = { .size = sizeof(options), .window = sizeof(full) };
	struct shmipc_stream *a, *b;
	struct thread sender;
	struct duo d;

	(void)state;
	duo_open(&d, &options);
	duo_stream(&d, &b, &a);
	/* Until no bell of its making is left. */
	do
		assert_int_equal(shmipc_read(a, full, 1, MS), -ETIMEDOUT);
	while (!list_empty(&d.a->hot));
	assert_int_equal(shmipc_write(a, full, sizeof(full), 0, 0), sizeof(full));
	spawn_leader(&sender, send_thread, d.a_ep, a);
	for (int i = 0; i < 4; i++)
		assert_int_equal(shmipc_read(b, full, sizeof(full), 0), sizeof(full) / 4);
	join(&sender, 1);
	duo_close(&d);
}

/* The leader armed before there was anybody who waits for room. */
static void test_send_follows(void **state)
{
	struct shmipc_options options = { .size = sizeof(options), .window = sizeof(full) };
	struct shmipc_stream *a, *b, *a2, *b2;
	struct thread reader, follower;
	struct duo d;

	(void)state;
	duo_open(&d, &options);
	duo_stream(&d, &b, &a);
	duo_stream(&d, &b2, &a2);
	spawn_leader(&reader, read_thread, d.a_ep, a);
	for (int i = 0; i < 4; i++)
		assert_int_equal(shmipc_write(a2, full, sizeof(full) / 4, 0, 0), sizeof(full) / 4);
	spawn_follower(&follower, send_thread, d.a_ep, a2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(shmipc_read(b2, full, sizeof(full), 0), sizeof(full) / 4);
	join(&follower, 1);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	join(&reader, 1);
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
	join(&reader, 1);
	duo_close(&d);
}

/* ---- shmipc_wait() leads and sleeps, another thread has news that nobody rings for ------- */

static struct peer peer;

/* The connect of a session whose bell the leader takes before anybody knows the session. */
static int connect_late(struct provider *pv, const struct pv_connect *connect, uint32_t *handle,
			struct shmipc_peer *who)
{
	uint64_t sleeps = duo_stats(hooked_ep).sleeps;
	int err = real_ops->connect(pv, connect, handle, who);

	pthread_join(peer.id, NULL);
	await_settled(hooked_ep, sleeps + 1, 0);
	return err;
}

static void early_news(bool close, uint32_t type)
{
	const char *name = close ? "test.early.end" : "test.early.stream";
	struct shmipc_session *s;
	struct thread loop;
	struct duo d;

	duo_open(&d, NULL);
	peer = (struct peer){ .close = close };
	assert_int_equal(shmipc_listen(d.a_ep, name, NULL, &peer.listener), 0);
	hook(d.b_ep);
	hooked.connect = connect_late;
	spawn_leader(&loop, wait_thread, d.b_ep, NULL);
	pthread_create(&peer.id, NULL, peer_thread, &peer);
	assert_int_equal(shmipc_connect(d.b_ep, name, NULL, &s, LIMIT), 0);
	assert_int_equal(peer.err, 0);
	join_event(&loop, type, s);
	duo_close(&d);
}

static void test_early_stream(void **state)
{
	(void)state;
	early_news(false, SHMIPC_EV_STREAM);
}

static void test_early_end(void **state)
{
	(void)state;
	early_news(true, SHMIPC_EV_CLOSED);
}

static void test_resumed(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct thread loop;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_stream_pause(a, 1), 0);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 0);
	spawn_leader(&loop, wait_thread, d.a_ep, NULL);
	assert_int_equal(shmipc_stream_pause(a, 0), 0);
	join_event(&loop, SHMIPC_EV_READ, a);
	duo_close(&d);
}

/* The peer's lie is found by another thread's drain; no bell came with it. */
static void test_failed_elsewhere(void **state)
{
	struct shmipc_stream *a, *b;
	struct frame frame;
	struct thread loop;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	frame = duo_frame(b);
	frame.kind = 99;
	spawn_leader(&loop, wait_thread, d.a_ep, NULL);
	duo_inject(d.b, &frame);
	assert_int_equal(shmipc_read(a, &c, 1, 0), -EBADMSG);
	join_event(&loop, SHMIPC_EV_CLOSED, d.a);
	duo_close(&d);
}

static void *write_thread(void *arg)
{
	static const char buf[1000];
	struct thread *t = arg;
	int64_t begun = now();

	t->result = shmipc_write(t->st, buf, sizeof(buf), 0, IN_TIME);
	t->took = now() - begun;
	return NULL;
}

/* A blocked sender leads; what another thread gives back is what it waits for. */
static void test_room_from_elsewhere(void **state)
{
	static const struct shmipc_options small = {
		.size = sizeof(small), .window = 4096, .max_memory = 65536,
	};
	struct shmipc_stream *ax, *bx, *ay, *by;
	struct thread writer;
	void *data;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &bx, &ax);
	duo_stream(&d, &by, &ay);
	assert_int_equal(shmipc_write(bx, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_reserve(by, 65000, &data, 0), 0);
	spawn_leader(&writer, write_thread, d.b_ep, bx);
	assert_int_equal(shmipc_cancel(by), 0);
	join(&writer, 1000);
	duo_close(&d);
}

/* ---- what was corked is rung for before a thread sleeps ----------------------------------- */

static void *cork_and_read(void *arg)
{
	struct thread *t = arg;

	if (shmipc_write(t->st, "x", 1, SHMIPC_CORK, 0) == 1)
		read_thread(arg);
	return NULL;
}

static void test_follower_flushes(void **state)
{
	struct shmipc_stream *a, *b;
	struct thread loop, asker, answerer;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	spawn_leader(&loop, wait_thread, d.a_ep, NULL);
	spawn_leader(&answerer, read_thread, d.b_ep, b);
	spawn_follower(&asker, cork_and_read, d.a_ep, a);
	join(&answerer, 1);
	assert_int_equal(shmipc_write(b, "y", 1, 0, 0), 1);
	join(&asker, 1);
	assert_int_equal(shmipc_write(b, "z", 1, 0, 0), 1);
	join_event(&loop, SHMIPC_EV_READ, a);
	duo_close(&d);
}

static struct thread rung_reader;

static int connect_after_reader(struct provider *pv, const struct pv_connect *connect,
				uint32_t *handle, struct shmipc_peer *who)
{
	(void)pv;
	(void)connect;
	(void)handle;
	(void)who;
	join(&rung_reader, 1);
	return -ECONNREFUSED;
}

static void test_connect_flushes(void **state)
{
	struct shmipc_session *s;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	hook(d.a_ep);
	hooked.connect = connect_after_reader;
	spawn_leader(&rung_reader, read_thread, d.b_ep, b);
	assert_int_equal(shmipc_write(a, "x", 1, SHMIPC_CORK, 0), 1);
	assert_int_equal(shmipc_connect(d.a_ep, "any", NULL, &s, LIMIT), -ECONNREFUSED);
	duo_close(&d);
}

/* The library's own RESET, for data that nobody wants, made by a call that does not wait. */
static void test_refusal_is_rung(void **state)
{
	struct shmipc_stream *a, *b, *a2, *b2;
	struct thread loop;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	duo_stream(&d, &b2, &a2);
	shmipc_stream_close(a);
	assert_int_equal(shmipc_read(b, &c, 1, LIMIT), 0);
	assert_int_equal(shmipc_write(b, "unwanted", 8, 0, 0), 8);
	assert_int_equal(shmipc_wait(d.b_ep, &loop.event, 1, 0), 0);
	spawn_leader(&loop, wait_thread, d.b_ep, NULL);
	assert_int_equal(shmipc_read(a2, &c, 1, 0), -EAGAIN);
	join(&loop, 1);
	assert_ptr_equal(loop.event.object, b);
	assert_int_equal(shmipc_read(b, &c, 1, 0), -ECONNRESET);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_beside_wait), cmocka_unit_test(test_reset_beside_wait),
		cmocka_unit_test(test_wait_follows), cmocka_unit_test(test_send_leads), cmocka_unit_test(test_send_follows),
		cmocka_unit_test(test_early_stream), cmocka_unit_test(test_early_end),
		cmocka_unit_test(test_resumed), cmocka_unit_test(test_failed_elsewhere),
		cmocka_unit_test(test_room_from_elsewhere),
		cmocka_unit_test(test_follower_flushes), cmocka_unit_test(test_connect_flushes),
		cmocka_unit_test(test_refusal_is_rung),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
