// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Every call that can block: without time it answers at once, with some it takes that long. */
#include "pair.h"

#include <pthread.h>
#include <signal.h>

#define SOME	(50 * MS)

static int64_t begun;

static void begin(void)
{
	begun = pair_now();
}

/* Not sooner than it was told; how much later is the machine's business, within reason. */
static void took(const char *call, int64_t least, int64_t most)
{
	int64_t ns = pair_now() - begun;

	print_message("%s: %lld us\n", call, (long long)(ns / 1000));
	check(ns >= least);
	check(ns < most);
}

#define AT_ONCE(call, answer) do { \
	begin(); \
	check_eq(call, answer); \
	took(#call, 0, LIMIT); \
} while (0)

#define IN_TIME(call, answer) do { \
	begin(); \
	check_eq(call, answer); \
	took(#call, SOME, LIMIT); \
} while (0)

static void idle_child(struct pair *p, void *arg)
{
	(void)arg;
	pair_hear(p);
}

static const struct shmipc_options small = {
	.size = sizeof(small), .window = 4096, .max_memory = 65536,
};

static void test_session(void **state)
{
	struct shmipc_session *session;
	struct shmipc_stream *st;
	struct shmipc_event event;
	struct shmipc_message m;
	char buf[1024] = { 0 };
	struct pair p;
	void *data;

	(void)state;
	pair_start(&p, &small, 0, idle_child, NULL);
	AT_ONCE(shmipc_accept(p.listener, &session, 0), -EAGAIN);
	IN_TIME(shmipc_accept(p.listener, &session, SOME), -ETIMEDOUT);
	AT_ONCE(shmipc_stream_accept(p.session, &st, 0), -EAGAIN);
	IN_TIME(shmipc_stream_accept(p.session, &st, SOME), -ETIMEDOUT);
	AT_ONCE(shmipc_wait(p.ep, &event, 1, 0) >= 0, 1);
	while (shmipc_wait(p.ep, &event, 1, 0))
		shmipc_accept(p.listener, &session, 0);
	IN_TIME(shmipc_wait(p.ep, &event, 1, SOME), 0);

	check_eq(shmipc_stream_open(p.session, &st), 0);
	AT_ONCE(shmipc_read(st, buf, 1, 0), -EAGAIN);
	IN_TIME(shmipc_read(st, buf, 1, SOME), -ETIMEDOUT);
	AT_ONCE(shmipc_peek(st, &m, 0), -EAGAIN);
	IN_TIME(shmipc_peek(st, &m, SOME), -ETIMEDOUT);
	while (shmipc_write(st, buf, sizeof(buf), 0, 0) > 0)
		;
	AT_ONCE(shmipc_write(st, buf, sizeof(buf), 0, 0), -EAGAIN);
	IN_TIME(shmipc_write(st, buf, sizeof(buf), 0, SOME), -ETIMEDOUT);
	AT_ONCE(shmipc_reserve(st, sizeof(buf), &data, 0), -EAGAIN);
	IN_TIME(shmipc_reserve(st, sizeof(buf), &data, SOME), -ETIMEDOUT);
	pair_tell(&p);
	pair_end(&p);
}

/* The time was over in the middle: what was sent is counted, and the message goes on. */
static void half_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	char buf[12000];

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	pair_hear(p);
	read_all(st, buf, sizeof(buf));
	check(same(buf, sizeof(buf), 1, 0));
	pair_tell(p);
	pair_hear(p);
}

static void test_in_the_middle(void **state)
{
	struct shmipc_stream *st;
	char buf[12000];
	struct pair p;
	ssize_t n;

	(void)state;
	fill(buf, sizeof(buf), 1, 0);
	pair_start(&p, &small, 0, half_child, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	begin();
	n = shmipc_write(st, buf, sizeof(buf), 0, SOME);
	took("shmipc_write of three windows", SOME, LIMIT);
	check_eq(n, 4096);
	pair_tell(&p);
	check_eq(shmipc_write(st, buf + n, sizeof(buf) - n, 0, LIMIT), sizeof(buf) - n);
	pair_hear(&p);
	pair_tell(&p);
	pair_end(&p);
}

/* Nobody accepts. */
static void test_connect(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep, *other;
	struct shmipc_session *session;
	char name[64];

	(void)state;
	pair_unique(name);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_open(&other, 0), 0);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	check_eq(shmipc_connect(other, name, NULL, &session, 0), -EINVAL);
	IN_TIME(shmipc_connect(other, name, NULL, &session, SOME), -ETIMEDOUT);
	shmipc_close(other);
	shmipc_close(ep);
}

/* ---- signals don't end a wait ------------------------------------------------- */

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void *pester(void *arg)
{
	for (int i = 0; i < 20; i++) {
		usleep(5000);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

static void test_signals(void **state)
{
	struct sigaction action = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), thread;
	struct shmipc_stream *st;
	struct pair p;
	char c;

	(void)state;
	sigaction(SIGUSR1, &action, NULL);
	pair_start(&p, NULL, 0, idle_child, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	signals = 0;
	pthread_create(&thread, NULL, pester, &self);
	begin();
	check_eq(shmipc_read(st, &c, 1, 200 * MS), -ETIMEDOUT);
	took("a read under 20 signals", 200 * MS, LIMIT);
	pthread_join(thread, NULL);
	check(signals > 5);
	pair_tell(&p);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_session), pair_test(test_in_the_middle), pair_test(test_connect),
		pair_test(test_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
