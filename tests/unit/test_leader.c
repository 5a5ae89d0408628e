// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Many threads that wait on one endpoint: one leads, each gets what is its own, whoever leaves. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include "duo.h"

enum { THREADS = 8, ROUNDS = 200 };

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct reader {
	pthread_t thread;
	struct shmipc_stream *a, *b;
	int64_t timeout;
	int rounds;
	unsigned int bad;
	ssize_t result;
};

static void *read_own(void *arg)
{
	struct reader *r = arg;
	uint32_t word;

	for (int i = 0; i < r->rounds; i++) {
		r->result = shmipc_read(r->a, &word, sizeof(word), r->timeout);
		if (r->result != sizeof(word) || word != (uint32_t)(r->a->slot << 16 | i)) {
			r->bad++;
			break;
		}
		/* The other end goes on when it heard. */
		if (shmipc_write(r->a, &word, sizeof(word), 0, LIMIT) != sizeof(word))
			r->bad++;
	}
	return NULL;
}

static void start(struct reader *r, struct duo *d, int rounds, int64_t timeout)
{
	duo_stream(d, &r->b, &r->a);
	r->rounds = rounds;
	r->timeout = timeout;
	r->bad = 0;
}

static void spawn(struct reader *r)
{
	pthread_create(&r->thread, NULL, read_own, r);
}

/* How many threads wait on it now, leader and all. */
static unsigned int waiting(struct shmipc_endpoint *ep)
{
	unsigned int n;

	lock(&ep->lock);
	n = atomic_load(&ep->nr_followers) + ep->leading;
	unlock(&ep->lock);
	return n;
}

static void await_waiting(struct shmipc_endpoint *ep, unsigned int n)
{
	int64_t until = now() + LIMIT;

	while (waiting(ep) != n && now() < until)
		usleep(100);
	assert_int_equal(waiting(ep), n);
}

static void send_word(struct reader *r, int i)
{
	uint32_t word = r->b->slot << 16 | i;

	assert_int_equal(shmipc_write(r->b, &word, sizeof(word), 0, LIMIT), sizeof(word));
}

static void hear_word(struct reader *r, int i)
{
	uint32_t word;

	assert_int_equal(shmipc_read(r->b, &word, sizeof(word), LIMIT), sizeof(word));
	assert_int_equal(word, r->b->slot << 16 | i);
}

static void test_each_its_own(void **state)
{
	struct reader r[THREADS];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < THREADS; i++)
		start(&r[i], &d, ROUNDS, LIMIT);
	for (int i = 0; i < THREADS; i++)
		spawn(&r[i]);
	srandom(3);
	/* One at a time, so that everybody else sleeps; and all at once. */
	for (int round = 0; round < ROUNDS; round++) {
		int first = random() % THREADS;

		for (int i = 0; i < THREADS; i++) {
			send_word(&r[(first + i) % THREADS], round);
			if (round % 2)
				hear_word(&r[(first + i) % THREADS], round);
		}
		for (int i = 0; i < THREADS && round % 2 == 0; i++)
			hear_word(&r[i], round);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].bad, 0);
	}
	assert_int_equal(waiting(d.a_ep), 0);
	duo_close(&d);
}

/* The leader's time is over: another leads, and hears the bell that nobody else would. */
static void test_leader_leaves(void **state)
{
	struct reader leader, others[3];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	start(&leader, &d, 1, 500 * MS);
	for (int i = 0; i < 3; i++)
		start(&others[i], &d, 1, LIMIT);
	spawn(&leader);
	await_waiting(d.a_ep, 1);
	for (int i = 0; i < 3; i++) {
		spawn(&others[i]);
		await_waiting(d.a_ep, 2 + i);
	}
	pthread_join(leader.thread, NULL);
	assert_int_equal(leader.result, -ETIMEDOUT);
	await_waiting(d.a_ep, 3);
	for (int i = 2; i >= 0; i--) {
		send_word(&others[i], 0);
		hear_word(&others[i], 0);
		pthread_join(others[i].thread, NULL);
		assert_int_equal(others[i].bad, 0);
	}
	duo_close(&d);
}

/* A follower's time is over while the leader sleeps for ever. */
static void test_follower_leaves(void **state)
{
	struct reader leader, follower;
	struct duo d;
	int64_t begun;

	(void)state;
	duo_open(&d, NULL);
	start(&leader, &d, 1, LIMIT);
	start(&follower, &d, 1, 30 * MS);
	spawn(&leader);
	await_waiting(d.a_ep, 1);
	begun = now();
	spawn(&follower);
	pthread_join(follower.thread, NULL);
	assert_int_equal(follower.result, -ETIMEDOUT);
	assert_true(now() - begun >= 30 * MS);
	assert_int_equal(waiting(d.a_ep), 1);
	/* And who asks without time is answered at once. */
	assert_int_equal(shmipc_read(follower.a, &(int){ 0 }, 4, 0), -EAGAIN);
	send_word(&leader, 0);
	hear_word(&leader, 0);
	pthread_join(leader.thread, NULL);
	duo_close(&d);
}

/* What ends the session ends every wait. */
static void test_all_leave(void **state)
{
	struct reader r[THREADS];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < THREADS; i++)
		start(&r[i], &d, 1, LIMIT);
	for (int i = 0; i < THREADS; i++)
		spawn(&r[i]);
	await_waiting(d.a_ep, THREADS);
	shmipc_session_close(d.b);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].result, -EPIPE);
	}
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_its_own), cmocka_unit_test(test_leader_leaves),
		cmocka_unit_test(test_follower_leaves), cmocka_unit_test(test_all_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
