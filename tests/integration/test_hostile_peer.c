// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A peer that connects honestly, then writes noise over its own segment while the victim works. The
 * victim lives, its session ends with -EBADMSG or goes silent, and its other session is unharmed.
 */
#include "pair.h"

#include <pthread.h>
#include "session.h"

enum mode { ALL_OF_IT, CONTROL, RING, RETURNS, MODES };

struct attack {
	enum mode mode;
	unsigned int seed;
};

/* The next returns, of the right lap, of any frame. Bytes alone hit that in every other attack at most. */
static void lie(struct shmipc_session *s)
{
	volatile uint64_t *words = s->rx.returns;
	uint32_t next = s->rx.returned;

	for (uint32_t i = 0; i < 4; i++, next++)
		words[next & (s->rx.nr_returns - 1)] =
			RETURN_WORD(return_lap(next, s->rx.nr_returns), random(), random());
}

static void scribble(struct shmipc_session *s, enum mode mode)
{
	uint8_t *base = s->tx.segments[0].addr;
	size_t from = 0, len = s->tx.segments[0].len;

	if (mode == CONTROL) {
		from = (uint8_t *)s->tx.control - base;
		len = sizeof(struct control);
	} else if (mode == RING) {
		from = (uint8_t *)s->tx.ring - base;
		len = s->tx.slots * sizeof(struct frame);
	} else if (mode == RETURNS) {
		from = (uint8_t *)s->rx.returns - base;
		len = s->rx.nr_returns * sizeof(uint64_t);
	}
	for (int i = 0; i < 200; i++) {
		volatile uint8_t *p = base + from + random() % len;

		/* Small numbers, as they are nearly right, and any. */
		*p = random() % 2 ? random() % 4 : random();
	}
}

static void attacker(struct pair *p, void *arg)
{
	const struct attack *attack = arg;
	struct shmipc_stream *st;
	char buf[1000];

	srandom(attack->seed);
	check_eq(shmipc_stream_open(p->session, &st), 0);
	/* As honest as can be, at first. */
	for (int i = 0; i < 20; i++) {
		send_all(st, buf, 1 + i * 40);
		read_all(st, buf, 1 + i * 40);
	}
	for (int i = 0; i < 150; i++) {
		scribble(p->session, attack->mode);
		if (attack->mode == RETURNS && attack->seed % 2)
			lie(p->session);
		shmipc_write(st, buf, 1 + random() % 500, 0, 0);
		shmipc_read(st, buf, sizeof(buf), 0);
		session_ring(p->session, BELL_DATA | BELL_SPACE);
		if (i % 50 == 0)
			usleep(500);
	}
	/* Its own library may have been led astray too: leave without it. */
	_exit(0);
}

/* A neighbour of the attacker, in the same process as it; connects to the same listener. */
static void honest(struct pair *p, void *arg)
{
	struct shmipc_session *s;
	struct shmipc_stream *st;
	char buf[3000];
	ssize_t n;

	check_eq(shmipc_open(&p->ep, 0), 0);
	check_eq(shmipc_connect(p->ep, arg, NULL, &s, LIMIT), 0);
	check_eq(shmipc_stream_open(s, &st), 0);
	check_eq(shmipc_write(st, "!", 1, 0, LIMIT), 1);
	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
		send_all(st, buf, n);
	check_eq(n, 0);
	shmipc_stream_close(st);
}

/* Echoes until the session ends. What comes is noise; how it ends is what counts. */
static void *suffer(void *arg)
{
	struct shmipc_stream *st = arg;
	char buf[2000];
	ssize_t n;

	for (;;) {
		n = shmipc_read(st, buf, sizeof(buf), 200 * MS);
		if (n == 0 || n == -ETIMEDOUT)
			break;
		if (n > 0)
			n = shmipc_write(st, buf, n, 0, 200 * MS);
		if (n < 0 && n != -ETIMEDOUT)
			break;
	}
	return (void *)(intptr_t)n;
}

static int one_attack(enum mode mode, unsigned int seed)
{
	struct attack attack = { mode, seed };
	struct shmipc_stream *good, *bad;
	struct shmipc_session *session;
	struct pair p, neighbour;
	pthread_t thread;
	char out[3000], in[3000];
	void *result;
	int error;

	pair_start(&p, NULL, 0, attacker, &attack);
	pair_fork(&neighbour, honest, p.name);
	check_eq(shmipc_accept(p.listener, &session, LIMIT), 0);
	check_eq(shmipc_stream_accept(session, &good, LIMIT), 0);
	read_all(good, in, 1);
	check_eq(shmipc_stream_accept(p.session, &bad, LIMIT), 0);
	pthread_create(&thread, NULL, suffer, bad);
	for (int i = 0; i < 100; i++) {
		size_t len = 1 + i * 29;

		fill(out, len, seed, i);
		send_all(good, out, len);
		read_all(good, in, len);
		check(same(in, len, seed, i));
	}
	pthread_join(thread, &result);
	error = shmipc_session_error(p.session);
	check(error == -EBADMSG || error == -EOWNERDEAD || error == 0);
	check((intptr_t)result == error || !error || (intptr_t)result == -EPIPE ||
	      (intptr_t)result == 0 || (intptr_t)result == -ETIMEDOUT ||
	      (intptr_t)result == -ECONNRESET);
	check_eq(shmipc_session_error(session), 0);
	check_eq(shmipc_finish(good), 0);
	check_eq(shmipc_read(good, in, 1, LIMIT), 0);
	pair_wait(&neighbour);
	close(neighbour.wire);
	pair_wait(&p);
	pair_close(&p);
	return error;
}

static void attacks(enum mode mode)
{
	unsigned int n = pair_scale(6, 25, 200), caught = 0;

	for (unsigned int i = 0; i < n; i++)
		caught += one_attack(mode, 100 * mode + i) == -EBADMSG;
	print_message("%u of %u ended with -EBADMSG\n", caught, n);
	/* Noise in the ring or among returns can't go unseen every time. */
	if (mode == RING || mode == RETURNS)
		check(caught > 0);
}

static void test_everywhere(void **state)
{
	(void)state;
	attacks(ALL_OF_IT);
}

static void test_control(void **state)
{
	(void)state;
	attacks(CONTROL);
}

static void test_ring(void **state)
{
	(void)state;
	attacks(RING);
}

static void test_returns(void **state)
{
	(void)state;
	attacks(RETURNS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_everywhere), pair_test(test_control), pair_test(test_ring),
		pair_test(test_returns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
