// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * For ThreadSanitizer: both ends in one process over one mapping, a thread or more each. Every
 * ordering of the shared memory is used: frames, payload in place, returns, cursors, bells.
 */
#include <pthread.h>
#include <unistd.h>
#include "duo.h"

enum { ROUNDS = 400, STREAMS = 3, LARGEST = 6000 };

struct end {
	struct shmipc_stream *st;
	unsigned int rounds, key;
	bool first;
	const char *wrong;
};

static size_t length_at(unsigned int i)
{
	return i % 3 ? 1 + i * 7 % 90 : 1 + i * 131 % LARGEST;
}

/* In place on both sides: it is the program's own accesses that the library has to order. */
static const char *send_one(struct end *end, unsigned int i)
{
	size_t len = length_at(i);
	void *data;

	if (shmipc_reserve(end->st, len, &data, LIMIT))
		return "reserve";
	duo_fill(data, len, end->key + i);
	return shmipc_commit(end->st, len, 0) ? "commit" : NULL;
}

static const char *take_one(struct end *end, unsigned int i)
{
	static __thread uint8_t expected[LARGEST];
	struct shmipc_message m;
	const char *wrong = NULL;

	if (shmipc_peek(end->st, &m, LIMIT) != 1)
		return "peek";
	duo_fill(expected, length_at(i), end->key + i);
	if (m.nspans != 1 || m.len != length_at(i) ||
	    memcmp(m.spans[0].data, expected, m.len))
		wrong = "content";
	if (shmipc_return(end->st, &m))
		wrong = "return";
	return wrong;
}

/* Each waits for the other's answer: both sleep most of the time. */
static void *ping_pong(void *arg)
{
	struct end *end = arg;

	for (unsigned int i = 0; i < end->rounds && !end->wrong; i++) {
		if (end->first)
			end->wrong = send_one(end, i);
		if (!end->wrong)
			end->wrong = take_one(end, i);
		if (!end->wrong && !end->first)
			end->wrong = send_one(end, i);
	}
	return NULL;
}

static void *push(void *arg)
{
	struct end *end = arg;

	for (unsigned int i = 0; i < end->rounds && !end->wrong; i++)
		end->wrong = send_one(end, i);
	return NULL;
}

static void *pull(void *arg)
{
	struct end *end = arg;

	for (unsigned int i = 0; i < end->rounds && !end->wrong; i++) {
		end->wrong = take_one(end, i);
		/* Now and then the window fills, and the sender sleeps. */
		if (i % 64 == 63)
			usleep(1000);
	}
	return NULL;
}

static void run(struct end *a, struct end *b, unsigned int n, void *(*fa)(void *),
		void *(*fb)(void *))
{
	pthread_t ta[STREAMS], tb[STREAMS];

	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(pthread_create(&ta[i], NULL, fa, &a[i]), 0);
		assert_int_equal(pthread_create(&tb[i], NULL, fb, &b[i]), 0);
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(ta[i], NULL);
		pthread_join(tb[i], NULL);
	}
	for (unsigned int i = 0; i < n; i++)
		if (a[i].wrong || b[i].wrong)
			fail_msg("stream %u: %s %s", i, a[i].wrong ? a[i].wrong : "-",
				 b[i].wrong ? b[i].wrong : "-");
}

static void pair(struct duo *d, struct end *a, struct end *b, unsigned int n, unsigned int rounds)
{
	for (unsigned int i = 0; i < n; i++) {
		a[i] = (struct end){ .rounds = rounds, .key = i * 1000 };
		b[i] = (struct end){ .rounds = rounds, .key = i * 1000, .first = true };
		duo_stream(d, &b[i].st, &a[i].st);
	}
}

static void test_ping_pong(void **state)
{
	struct end a[1], b[1];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	pair(&d, a, b, 1, ROUNDS);
	run(a, b, 1, ping_pong, ping_pong);
	duo_close(&d);
}

static void test_flood(void **state)
{
	struct shmipc_options small = { .size = sizeof(small), .window = 16384 };
	struct end a[1], b[1];
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	pair(&d, a, b, 1, 5 * ROUNDS);
	run(a, b, 1, pull, push);
	run(a, b, 1, push, pull);
	duo_close(&d);
}

static void test_many_threads(void **state)
{
	struct end a[STREAMS], b[STREAMS];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	pair(&d, a, b, STREAMS, ROUNDS);
	run(a, b, STREAMS, ping_pong, ping_pong);
	duo_close(&d);
}

/* ---- buffers ---------------------------------------------------------------------- */

enum { BUF_LEN = 3 * LARGEST, BUF_LIFE = 8 };

/* Each sends one of its own, which it fills again when it is back, and one that all send. */
struct buf_end {
	struct end end;
	struct shmipc_buf *shared;
};

/* A new one now and then: the old one is freed while it is out. */
static const char *send_own(struct buf_end *e, struct shmipc_buf **buf, unsigned int i)
{
	struct shmipc_endpoint *ep = e->end.st->session->ep;

	if (i % BUF_LIFE == 0) {
		shmipc_buf_free(*buf);
		if (shmipc_buf_new(ep, BUF_LEN, buf))
			return "new";
	}
	if (shmipc_buf_wait(*buf, LIMIT))
		return "wait";
	duo_fill(shmipc_buf_data(*buf), BUF_LEN, e->end.key + i);
	return shmipc_buf_send(e->end.st, *buf, BUF_LEN, 0, LIMIT) ? "send" : NULL;
}

static void *push_bufs(void *arg)
{
	struct shmipc_buf *buf = NULL;
	struct buf_end *e = arg;

	for (unsigned int i = 0; i < e->end.rounds && !e->end.wrong; i++) {
		e->end.wrong = send_own(e, &buf, i);
		if (!e->end.wrong && shmipc_buf_send(e->end.st, e->shared, BUF_LEN, 0, LIMIT))
			e->end.wrong = "send shared";
	}
	shmipc_buf_free(buf);
	return NULL;
}

static const char *take_buf(struct end *end, unsigned int key)
{
	static __thread uint8_t expected[BUF_LEN];
	struct shmipc_message m;
	const char *wrong = NULL;

	if (shmipc_peek(end->st, &m, LIMIT) != 1)
		return "peek";
	duo_fill(expected, BUF_LEN, key);
	if (m.nspans != 1 || m.len != BUF_LEN || memcmp(m.spans[0].data, expected, BUF_LEN))
		wrong = "content";
	return shmipc_return(end->st, &m) ? "return" : wrong;
}

static void *pull_bufs(void *arg)
{
	struct end *end = arg;

	for (unsigned int i = 0; i < end->rounds && !end->wrong; i++) {
		end->wrong = take_buf(end, end->key + i);
		if (!end->wrong)
			end->wrong = take_buf(end, 0);
	}
	return NULL;
}

static void test_buffers(void **state)
{
	pthread_t senders[STREAMS], readers[STREAMS];
	struct end a[STREAMS], b[STREAMS];
	struct buf_end e[STREAMS];
	struct shmipc_buf *shared;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	pair(&d, a, b, STREAMS, ROUNDS / 4);
	assert_int_equal(shmipc_buf_new(d.b_ep, BUF_LEN, &shared), 0);
	duo_fill(shmipc_buf_data(shared), BUF_LEN, 0);
	for (int i = 0; i < STREAMS; i++) {
		e[i] = (struct buf_end){ b[i], shared };
		assert_int_equal(pthread_create(&senders[i], NULL, push_bufs, &e[i]), 0);
		assert_int_equal(pthread_create(&readers[i], NULL, pull_bufs, &a[i]), 0);
	}
	for (int i = 0; i < STREAMS; i++) {
		pthread_join(senders[i], NULL);
		pthread_join(readers[i], NULL);
	}
	for (int i = 0; i < STREAMS; i++)
		if (a[i].wrong || e[i].end.wrong)
			fail_msg("stream %d: %s %s", i, a[i].wrong ? a[i].wrong : "-",
				 e[i].end.wrong ? e[i].end.wrong : "-");
	assert_int_equal(shmipc_buf_wait(shared, LIMIT), 0);
	shmipc_buf_free(shared);
	duo_close(&d);
}

/* ---- opening and closing under traffic ------------------------------------------- */

struct opener {
	struct shmipc_session *s;
	const char *wrong;
};

static void *open_streams(void *arg)
{
	struct opener *o = arg;

	for (unsigned int i = 0; i < ROUNDS / 4 && !o->wrong; i++) {
		struct end end = { .key = i };
		char c;

		if (shmipc_stream_open(o->s, &end.st)) {
			o->wrong = "open";
			break;
		}
		o->wrong = send_one(&end, i);
		if (shmipc_finish(end.st) || shmipc_read(end.st, &c, 1, LIMIT))
			o->wrong = "end";
		shmipc_stream_close(end.st);
	}
	return NULL;
}

static void *accept_streams(void *arg)
{
	struct opener *o = arg;

	for (unsigned int i = 0; i < ROUNDS / 4 && !o->wrong; i++) {
		struct end end = { .key = i };
		char c;

		if (shmipc_stream_accept(o->s, &end.st, LIMIT)) {
			o->wrong = "accept";
			break;
		}
		o->wrong = take_one(&end, i);
		if (shmipc_read(end.st, &c, 1, LIMIT))
			o->wrong = "end";
		shmipc_stream_close(end.st);
	}
	return NULL;
}

/* Both sides open and accept, a thread for each. */
static void test_churn(void **state)
{
	struct opener o[4] = { 0 };
	pthread_t threads[4];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 4; i++) {
		o[i].s = i < 2 ? d.a : d.b;
		pthread_create(&threads[i], NULL, i % 2 ? accept_streams : open_streams, &o[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 4; i++)
		if (o[i].wrong)
			fail_msg("thread %d: %s", i, o[i].wrong);
	duo_close(&d);
}

/* One thread sleeps in shmipc_wait() and does all that it tells. */
static void *serve(void *arg)
{
	struct end *end = arg;
	struct shmipc_event events[8];
	unsigned int got[STREAMS] = { 0 }, left = STREAMS * ROUNDS;

	while (left && !end[0].wrong) {
		int n = shmipc_wait(end[0].st->session->ep, events, 8, LIMIT);

		if (n <= 0)
			end[0].wrong = "wait";
		for (int i = 0; i < n; i++) {
			for (unsigned int s = 0; s < STREAMS; s++) {
				if (events[i].object != end[s].st ||
				    events[i].type != SHMIPC_EV_READ)
					continue;
				end[s].wrong = take_one(&end[s], got[s]++);
				left--;
			}
		}
	}
	return NULL;
}

static void test_event_loop(void **state)
{
	struct end a[STREAMS], b[STREAMS];
	pthread_t server, threads[STREAMS];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	pair(&d, a, b, STREAMS, ROUNDS);
	pthread_create(&server, NULL, serve, a);
	for (int i = 0; i < STREAMS; i++)
		pthread_create(&threads[i], NULL, push, &b[i]);
	for (int i = 0; i < STREAMS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(server, NULL);
	for (int i = 0; i < STREAMS; i++) {
		assert_null(a[i].wrong);
		assert_null(b[i].wrong);
	}
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ping_pong), cmocka_unit_test(test_flood),
		cmocka_unit_test(test_many_threads), cmocka_unit_test(test_buffers),
		cmocka_unit_test(test_churn), cmocka_unit_test(test_event_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
