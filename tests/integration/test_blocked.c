// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Both sides send before they read. A send that waits takes in what comes, so the two rings never wait
 * for each other; and a window that is full holds its own stream's sender, and nobody else.
 */
#include "checker.h"
#include "pair.h"

#include <pthread.h>

/* Side 0 is the parent. Each opens its own streams, and reads those of the other. */
struct side {
	struct pair *p;
	uint64_t key, theirs;
};

static void open_streams(struct pair *p, struct shmipc_stream **out, struct shmipc_stream **in, int n)
{
	for (int i = 0; i < n; i++) {
		check_eq(shmipc_stream_open(p->session, &out[i]), 0);
		check_eq(shmipc_flush(out[i]), 0);
	}
	for (int i = 0; i < n; i++)
		check_eq(shmipc_stream_accept(p->session, &in[i], LIMIT), 0);
}

static void meet(struct pair *p)
{
	pair_tell(p);
	pair_hear(p);
}

/* ---- the ring ---------------------------------------------------------------------- */

enum { RING_STREAMS = 64, EACH = 2, LEN = 40 };

/* More frames than a ring has slots, fewer than the windows allow, and not one read before the last. */
static void fill_ring_then_read(struct side *me)
{
	struct shmipc_stream *out[RING_STREAMS], *in[RING_STREAMS];
	char buf[LEN];

	open_streams(me->p, out, in, RING_STREAMS);
	for (int round = 0; round < 20; round++) {
		meet(me->p);
		for (int i = 0; i < RING_STREAMS * EACH; i++) {
			fill(buf, LEN, me->key + i % RING_STREAMS, round * EACH * LEN);
			check_eq(shmipc_write(out[i % RING_STREAMS], buf, LEN, 0, LIMIT), LEN);
		}
		for (int i = 0; i < RING_STREAMS * EACH; i++) {
			struct checker c = { me->theirs + i % RING_STREAMS, round * EACH * LEN };

			read_all(in[i % RING_STREAMS], buf, LEN);
			check(!checker_take(&c, buf, LEN));
		}
	}
	meet(me->p);
}

static void ring_child(struct pair *p, void *arg)
{
	struct side me = { p, 1000, 2000 };

	(void)arg;
	fill_ring_then_read(&me);
}

static void test_rings(void **state)
{
	struct side me = { .key = 2000, .theirs = 1000 };
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, ring_child, NULL);
	me.p = &p;
	fill_ring_then_read(&me);
	pair_end(&p);
}

/* ---- a reader beside the writer ------------------------------------------------------ */

enum { TOTAL = 6 << 20, CHUNK = 50000 };

static const struct shmipc_options small = {
	.size = sizeof(small), .window = 65536, .max_memory = 1 << 20,
};

struct flow {
	struct shmipc_stream *st;
	uint64_t key;
};

static void *write_total(void *arg)
{
	struct flow *f = arg;
	char *buf = malloc(CHUNK);

	for (uint64_t at = 0; at < TOTAL; at += CHUNK) {
		size_t len = TOTAL - at < CHUNK ? TOTAL - at : CHUNK;

		fill(buf, len, f->key, at);
		check_eq(shmipc_write(f->st, buf, len, 0, LIMIT), len);
	}
	free(buf);
	return NULL;
}

static void read_total(struct shmipc_stream *st, uint64_t key)
{
	struct checker c = { .key = key };
	char *buf = malloc(CHUNK);

	while (c.position < TOTAL) {
		ssize_t n = shmipc_read(st, buf, CHUNK, LIMIT);

		check(n > 0);
		check(!checker_take(&c, buf, n));
	}
	free(buf);
}

/* Far more than all windows, in both directions; the writer waits, and leads, while the other reads. */
static void write_and_read(struct side *me)
{
	struct shmipc_stream *out, *in;
	struct flow f = { .key = me->key };
	pthread_t thread;

	open_streams(me->p, &out, &in, 1);
	f.st = out;
	pthread_create(&thread, NULL, write_total, &f);
	read_total(in, me->theirs);
	pthread_join(thread, NULL);
	meet(me->p);
}

static void threads_child(struct pair *p, void *arg)
{
	struct side me = { p, 1, 2 };

	(void)arg;
	write_and_read(&me);
}

static void test_two_threads(void **state)
{
	struct side me = { .key = 2, .theirs = 1 };
	struct pair p;

	(void)state;
	pair_start(&p, &small, 0, threads_child, NULL);
	me.p = &p;
	write_and_read(&me);
	pair_end(&p);
}

/* ---- windows, full both ways ---------------------------------------------------------- */

/*
 * One thread a side, no reader: here both must wait, that is what a window is for. Each is told so in
 * time, nothing is lost, and all goes on when they read. Beside it another stream works all the while.
 */
static void full_both_ways(struct side *me)
{
	struct shmipc_stream *out[2], *in[2];
	size_t len = 1 << 20, sent = 0;
	char *buf = malloc(len), small_buf[64];
	struct checker c = { .key = me->theirs };
	ssize_t n;

	open_streams(me->p, out, in, 2);
	fill(buf, len, me->key, 0);
	n = shmipc_write(out[0], buf, len, 0, 100 * MS);
	check(n > 0 && n < (ssize_t)len);
	check(n <= (ssize_t)small.window);
	sent = n;
	check_eq(shmipc_write(out[0], buf + sent, len - sent, 0, 20 * MS), -ETIMEDOUT);
	/* Both are full now. A neighbour is not. */
	meet(me->p);
	for (int i = 0; i < 200; i++) {
		send_all(out[1], buf, sizeof(small_buf));
		read_all(in[1], small_buf, sizeof(small_buf));
		check(same(small_buf, sizeof(small_buf), me->theirs, 0));
	}
	meet(me->p);
	while (sent < len || c.position < len) {
		char part[5000];

		if (sent < len) {
			n = shmipc_write(out[0], buf + sent, len - sent, 0, 0);
			check(n > 0 || n == -EAGAIN);
			sent += n > 0 ? n : 0;
		}
		if (c.position == len)
			continue;
		n = shmipc_read(in[0], part, sizeof(part), sent < len ? MS : LIMIT);
		check(n > 0 || n == -ETIMEDOUT);
		if (n > 0)
			check(!checker_take(&c, part, n));
	}
	meet(me->p);
	free(buf);
}

static void full_child(struct pair *p, void *arg)
{
	struct side me = { p, 3, 4 };

	(void)arg;
	full_both_ways(&me);
}

static void test_windows(void **state)
{
	struct side me = { .key = 4, .theirs = 3 };
	struct pair p;

	(void)state;
	pair_start(&p, &small, 0, full_child, NULL);
	me.p = &p;
	full_both_ways(&me);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_rings), pair_test(test_two_threads), pair_test(test_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
