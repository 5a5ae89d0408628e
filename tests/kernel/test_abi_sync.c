// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* SYNC: what is rung is taken once, by one; who sleeps is woken; what fails says so. */
#define _GNU_SOURCE
#include "abi.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>

#define NAME	"test:sync"

static int sync_call(int fd, struct shmipc_sync *s)
{
	return abi_ioctl(fd, SHMIPC_IOC_SYNC, s);
}

static void test_arguments(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_sync good = { .size = sizeof(good) }, s;
	struct shmipc_ready ev[2];

	(void)state;
	s = good;
	must(sync_call(p.client.fd, &s));
	assert_int_equal(s.out_flags, 0);
	s = good, s.flags = 2;
	fails(sync_call(p.client.fd, &s), EOPNOTSUPP);
	s = good, s.__reserved = 1;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.flags = SHMIPC_SYNC_WAIT;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.nr_notify = 2;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.nr_notify = SHMIPC_NOTIFY_MAX + 1, s.notify = (uintptr_t)ev;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.nr_notify = 1, s.notify = 8;
	fails(sync_call(p.client.fd, &s), EFAULT);
	s = good, s.max_events = 2;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.max_events = SHMIPC_EVENTS_MAX + 1, s.events = (uintptr_t)ev;
	fails(sync_call(p.client.fd, &s), EINVAL);
	s = good, s.max_events = 1, s.wait_on = 4711;
	fails(sync_call(p.client.fd, &s), ENOENT);
	s.wait_on = p.client_seg.handle;
	fails(sync_call(p.client.fd, &s), EBADF);
	s.wait_on = p.at_client;
	must(sync_call(p.client.fd, &s));
	assert_int_equal(s.out_nr_events, 0);
	abi_pair_close(&p);
}

/* Bits are OR-ed until they are taken, and come once, with their cookie. */
static void test_causes(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	uint32_t ready = p.client.anchor->ready;
	struct shmipc_ready ev;

	(void)state;
	must(abi_ring(p.server.fd, p.at_server, 0x0001));
	assert_int_equal(p.client.anchor->ready, ready + 1);
	must(abi_ring(p.server.fd, p.at_server, 0x8000));
	must(abi_ring(p.server.fd, p.at_server, 0x0001));
	assert_int_equal(p.client.anchor->ready, ready + 1);
	must(abi_event(p.client.fd, 0, &ev));
	assert_int_equal(ev.handle, p.at_client);
	assert_int_equal(ev.causes, 0x8001);
	assert_int_equal(ev.cookie, 0xc0);
	abi_expect_quiet(p.client.fd);
	abi_expect_quiet(p.server.fd);
	must(abi_ring(p.server.fd, p.at_server, 2));
	expect_event(p.client.fd, p.at_client, 2);
	assert_int_equal(p.client.anchor->ready, ready + 2);
	/* Only what was enabled: a session without PEER_CLOSED does not get it. */
	abi_pair_close(&p);
}

static void test_causes_not_enabled(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;

	(void)state;
	b.causes = 0;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	a = abi_accept_arg(b.out_handle);
	a.causes = 0;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.causes = 0;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	abi_expect_quiet(ep.fd);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	abi_expect_quiet(ep.fd);
	must(abi_ring(ep.fd, c.out_session, 4));
	expect_event(ep.fd, a.out_session, 4);
	must(abi_close(ep.fd, c.out_session, 0));
	abi_expect_quiet(ep.fd);
	abi_ep_close(&ep);
}

static void test_bad_entries(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_notify n[] = {
		{ p.at_server, 1 }, { p.at_server, 2 }, { 999, 1 }, { p.listener, 1 },
		{ p.at_server, 1 << 16 }, { p.at_server, 0 }, { p.at_server, 8 },
	};
	struct shmipc_sync s = abi_wait_arg();

	(void)state;
	s.nr_notify = 7;
	s.notify = (uintptr_t)n;
	s.timeout_ns = SHMIPC_TIMEOUT_NONE;
	must(sync_call(p.server.fd, &s));	/* a bad entry: it does not wait */
	assert_int_equal(s.out_flags, SHMIPC_SYNC_NOTIFY_FAILED);
	assert_int_equal(s.out_errno, ENOENT);
	assert_int_equal(s.out_index, 2);
	expect_event(p.client.fd, p.at_client, 1 | 2 | 8);
	fails(abi_ring(p.server.fd, p.listener, 1), EBADF);
	fails(abi_ring(p.server.fd, p.at_server, 1 << 16), EINVAL);
	fails(abi_ring(p.server.fd, p.at_server, 0), EINVAL);
	fails(abi_ring(p.server.fd, 0, 1), ENOENT);
	/* A peer that is gone is no error. */
	must(abi_close(p.client.fd, p.at_client, 0));
	must(abi_ring(p.server.fd, p.at_server, 1));
	abi_pair_close(&p);
}

static void test_ring_before_accept(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_seg_info info;
	struct abi_seg seg;

	(void)state;
	abi_bind(ep.fd, NAME);
	must(abi_seg_create(ep.fd, 1, &seg));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	fails(abi_ring(ep.fd, c.out_session, 1), ENOTCONN);
	fails(abi_grant(ep.fd, c.out_session, seg.handle, 1), ENOTCONN);
	fails(abi_peer_info(ep.fd, c.out_session, 0, &info), ENOTCONN);
	abi_ep_close(&ep);
}

/* ---- time and signals ---- */

static void test_timeout(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_sync s = abi_wait_arg();
	uint64_t start = abi_now_ns();

	(void)state;
	s.timeout_ns = 50 * 1000000;
	must(sync_call(ep.fd, &s));
	assert_true(abi_now_ns() - start >= 50 * 1000000);
	assert_int_equal(s.out_flags, SHMIPC_SYNC_TIMED_OUT);
	assert_int_equal(s.out_nr_events, 0);
	assert_true(s.timeout_ns == 0);
	must(sync_call(ep.fd, &s));
	assert_int_equal(s.out_flags, SHMIPC_SYNC_TIMED_OUT);
	print_message("50 ms took %llu us\n", (unsigned long long)(abi_now_ns() - start) / 1000);
	abi_ep_close(&ep);
}

static void on_signal(int sig)
{
	(void)sig;
}

/* A helper that interrupts this thread soon, and again, in case the first came too early. */
static void *interrupt(void *arg)
{
	volatile bool *done = arg;
	union sigval none = {};

	while (!*done) {
		abi_sleep_ms(20);
		sigqueue(getpid(), SIGUSR1, none);
	}
	return NULL;
}

static void block_usr1(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(how, &set, NULL);
}

static void test_signal(void **state)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct abi_ep ep = abi_ep_open();
	struct shmipc_sync s = abi_wait_arg();
	volatile bool done = false;
	pthread_t thread;

	(void)state;
	sigaction(SIGUSR1, &sa, NULL);
	block_usr1(SIG_BLOCK);
	pthread_create(&thread, NULL, interrupt, (void *)&done);
	block_usr1(SIG_UNBLOCK);
	must(sync_call(ep.fd, &s));
	assert_int_equal(s.out_flags, SHMIPC_SYNC_INTERRUPTED);
	assert_true(s.timeout_ns > 0 && s.timeout_ns < ABI_LIMIT);
	s.timeout_ns = SHMIPC_TIMEOUT_NONE;
	must(sync_call(ep.fd, &s));
	assert_int_equal(s.out_flags, SHMIPC_SYNC_INTERRUPTED);
	assert_true(s.timeout_ns == SHMIPC_TIMEOUT_NONE);
	done = true;
	pthread_join(thread, NULL);
	signal(SIGUSR1, SIG_DFL);
	abi_ep_close(&ep);
}

/* ---- taking ---- */

#define MANY	64

struct many {
	struct abi_ep server, client;
	uint32_t at_server[MANY], at_client[MANY];
};

/* Sessions between two endpoints; the cookie is the number. */
static struct many many_open(int nr)
{
	struct many m = { .server = abi_ep_open(), .client = abi_ep_open() };
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;
	int i;

	b.causes = 0;
	b.backlog = MANY;
	must(abi_ioctl(m.server.fd, SHMIPC_IOC_BIND, &b));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.causes = 0;
	a = abi_accept_arg(b.out_handle);
	for (i = 0; i < nr; i++) {
		c.cookie = i;
		must(abi_ioctl(m.client.fd, SHMIPC_IOC_CONNECT, &c));
		m.at_client[i] = c.out_session;
		must(abi_ioctl(m.server.fd, SHMIPC_IOC_ACCEPT, &a));
		m.at_server[i] = a.out_session;
	}
	return m;
}

static void many_close(struct many *m)
{
	abi_ep_close(&m->server);
	abi_ep_close(&m->client);
}

static void many_ring(struct many *m, int nr)
{
	struct shmipc_notify n[MANY];
	struct shmipc_sync s = { .size = sizeof(s), .nr_notify = nr, .notify = (uintptr_t)n };
	int i;

	for (i = 0; i < nr; i++)
		n[i] = (struct shmipc_notify){ m->at_server[i], i + 1 };
	must(sync_call(m->server.fd, &s));
	assert_int_equal(s.out_flags, 0);
}

/* 64 bells in one call, taken in order, in pieces and at once. */
static void test_many(void **state)
{
	struct many m = many_open(MANY);
	struct shmipc_ready ev[MANY + 1];
	struct shmipc_sync s;
	int i, max, got;

	(void)state;
	for (max = 1; max <= MANY + 1; max += 7) {
		many_ring(&m, MANY);
		for (got = 0; got < MANY; got += s.out_nr_events) {
			s = abi_wait_arg();
			s.max_events = max;
			s.events = (uintptr_t)(ev + got);
			if (max > MANY + 1 - got)
				s.max_events = MANY + 1 - got;
			must(sync_call(m.client.fd, &s));
			assert_true(s.out_nr_events > 0);
		}
		assert_int_equal(got, MANY);
		for (i = 0; i < MANY; i++) {
			assert_int_equal(ev[i].cookie, i);
			assert_int_equal(ev[i].handle, m.at_client[i]);
			assert_int_equal(ev[i].causes, i + 1);
		}
		abi_expect_quiet(m.client.fd);
	}
	many_close(&m);
}

/* Events that cannot be handed over are not lost, keep their order, and take in what came since. */
static void test_fault_returns(void **state)
{
	struct many m = many_open(32);
	uint8_t *page = mmap(NULL, ABI_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct shmipc_sync *s = (void *)page;
	struct shmipc_ready ev[32];
	int max, i;

	(void)state;
	for (max = 3; max <= 32; max += 29) {
		many_ring(&m, 32);
		*s = abi_wait_arg();
		s->max_events = max;
		s->events = 8;
		fails(sync_call(m.client.fd, s), EFAULT);
		s->events = (uintptr_t)ev;
		mprotect(page, ABI_PAGE, PROT_READ);
		fails(sync_call(m.client.fd, s), EFAULT);
		mprotect(page, ABI_PAGE, PROT_READ | PROT_WRITE);
		s->max_events = 1;
		s->events = 0;
		mprotect(page, ABI_PAGE, PROT_READ);
		fails(sync_call(m.client.fd, s), EFAULT);
		mprotect(page, ABI_PAGE, PROT_READ | PROT_WRITE);
		must(abi_ring(m.server.fd, m.at_server[0], 0x4000));
		s->max_events = 32;
		s->events = (uintptr_t)ev;
		must(sync_call(m.client.fd, s));
		assert_int_equal(s->out_nr_events, 32);
		for (i = 0; i < 32; i++) {
			assert_int_equal(ev[i].handle, m.at_client[i]);
			assert_int_equal(ev[i].causes, (i + 1) | (i ? 0 : 0x4000));
		}
		abi_expect_quiet(m.client.fd);
	}
	munmap(page, ABI_PAGE);
	many_close(&m);
}

static void test_wait_on(void **state)
{
	struct many m = many_open(3);
	struct shmipc_sync s = abi_wait_arg();

	(void)state;
	many_ring(&m, 2);
	s.wait_on = m.at_client[2];
	s.timeout_ns = 20 * 1000000;
	must(sync_call(m.client.fd, &s));
	assert_int_equal(s.out_flags, SHMIPC_SYNC_TIMED_OUT);
	s.wait_on = m.at_client[1];
	s.timeout_ns = SHMIPC_TIMEOUT_NONE;
	must(sync_call(m.client.fd, &s));
	assert_int_equal(s.out_one.handle, m.at_client[1]);
	expect_event(m.client.fd, m.at_client[0], 1);
	abi_expect_quiet(m.client.fd);
	many_close(&m);
}

/* ---- several waiters ---- */

struct waiter {
	struct many *m;
	pthread_t thread;
	uint32_t wait_on;
	volatile int woken;
	volatile bool asleep;
	int result;
	struct shmipc_sync s;
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	w->s = abi_wait_arg();
	w->s.wait_on = w->wait_on;
	w->asleep = true;
	w->result = sync_call(w->m->client.fd, &w->s);
	w->woken = 1;
	return NULL;
}

static void waiter_start(struct waiter *w, struct many *m, uint32_t wait_on)
{
	*w = (struct waiter){ .m = m, .wait_on = wait_on };
	assert_int_equal(pthread_create(&w->thread, NULL, waiter_run, w), 0);
	while (!w->asleep)
		sched_yield();
}

static int count_woken(struct waiter *w, int nr)
{
	int i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += w[i].woken;
	return sum;
}

/* Until @want of them are awake; more must not be. */
static void expect_woken(struct waiter *w, int nr, int want)
{
	int tries;

	for (tries = 0; tries < 3000 && count_woken(w, nr) < want; tries++)
		abi_sleep_ms(10);
	abi_sleep_ms(30);
	assert_int_equal(count_woken(w, nr), want);
}

static void test_wake_one(void **state)
{
	struct many m = many_open(4);
	struct waiter w[4];
	long sleeps;
	int i;

	(void)state;
	for (i = 0; i < 4; i++)
		waiter_start(&w[i], &m, 0);
	abi_sleep_ms(100);
	sleeps = abi_counter("sleeps_total");
	for (i = 0; i < 4; i++) {
		must(abi_ring(m.server.fd, m.at_server[i], 1));
		expect_woken(w, 4, i + 1);
	}
	/* Nobody was woken for nothing, and slept again. */
	assert_int_equal(abi_counter("sleeps_total"), sleeps);
	for (i = 0; i < 4; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].result, 0);
		assert_int_equal(w[i].s.out_nr_events, 1);
	}
	many_close(&m);
}

/* Each waits for a session of its own; a bell wakes the one that it is for. */
static void test_wake_the_right_one(void **state)
{
	struct many m = many_open(4);
	struct waiter w[4];
	long sleeps;
	int i, order[] = { 2, 0, 3, 1 };

	(void)state;
	for (i = 0; i < 4; i++)
		waiter_start(&w[i], &m, m.at_client[i]);
	abi_sleep_ms(100);
	sleeps = abi_counter("sleeps_total");
	for (i = 0; i < 4; i++) {
		must(abi_ring(m.server.fd, m.at_server[order[i]], 1));
		expect_woken(w, 4, i + 1);
		assert_int_equal(w[order[i]].woken, 1);
	}
	assert_int_equal(abi_counter("sleeps_total"), sleeps);
	for (i = 0; i < 4; i++)
		pthread_join(w[i].thread, NULL);
	/* One who waits for a session that is closed under it learns so. */
	waiter_start(&w[0], &m, m.at_client[0]);
	abi_sleep_ms(50);
	must(abi_close(m.client.fd, m.at_client[0], 0));
	pthread_join(w[0].thread, NULL);
	assert_int_equal(w[0].result, -ENOENT);
	many_close(&m);
}

/* The endpoint ends under a sleeper. */
static void test_end_wakes(void **state)
{
	struct many m = many_open(1);
	struct waiter w;

	(void)state;
	waiter_start(&w, &m, 0);
	abi_sleep_ms(50);
	must(abi_close(m.client.fd, 0, 0));
	pthread_join(w.thread, NULL);
	assert_int_equal(w.result, -ESTALE);
	many_close(&m);
}

/* One CPU, in the order of waking; the caller before all others. */
static void schedule_fifo(bool on)
{
	struct sched_param param = { .sched_priority = on ? 20 : 0 };
	cpu_set_t cpus;
	long cpu;

	CPU_ZERO(&cpus);
	for (cpu = 0; cpu < (on ? 1 : sysconf(_SC_NPROCESSORS_ONLN)); cpu++)
		CPU_SET(cpu, &cpus);
	assert_int_equal(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	assert_int_equal(sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param), 0);
}

static void waiter_start_fifo(struct waiter *w, struct many *m, uint32_t wait_on)
{
	struct sched_param param = { .sched_priority = 10 };
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &param);
	*w = (struct waiter){ .m = m, .wait_on = wait_on };
	assert_int_equal(pthread_create(&w->thread, &attr, waiter_run, w), 0);
	pthread_attr_destroy(&attr);
	abi_sleep_ms(30);
	assert_true(w->asleep);
}

/*
 * Two bells in one call. The first wakes w[0]; the second falls to w[1], who waits for the first
 * session alone. w[0] takes the first event: the second is left on the list, and w[2] must hear of it.
 */
static void test_pass_on(void **state)
{
	struct many m = many_open(2);
	struct waiter w[3];

	(void)state;
	schedule_fifo(true);
	waiter_start_fifo(&w[0], &m, 0);
	waiter_start_fifo(&w[1], &m, m.at_client[0]);
	waiter_start_fifo(&w[2], &m, 0);
	many_ring(&m, 2);
	expect_woken(w, 3, 2);
	assert_int_equal(w[0].s.out_one.handle, m.at_client[0]);
	assert_int_equal(w[2].s.out_one.handle, m.at_client[1]);
	must(abi_ring(m.server.fd, m.at_server[0], 1));
	expect_woken(w, 3, 3);
	pthread_join(w[0].thread, NULL);
	pthread_join(w[1].thread, NULL);
	pthread_join(w[2].thread, NULL);
	schedule_fifo(false);
	many_close(&m);
}

#define STORM	abi_rounds(4000)

struct storm {
	struct many m;
	volatile bool stop;
	volatile long got[3];
};

struct storm_thread {
	struct storm *s;
	int index;
};

static void *storm_taker(void *arg)
{
	struct storm_thread *t = arg;
	struct shmipc_sync s;

	while (!t->s->stop) {
		s = abi_wait_arg();
		s.timeout_ns = t->index ? 300000 : ABI_SECOND;
		must(sync_call(t->s->m.client.fd, &s));
		if (s.out_nr_events)
			__atomic_fetch_add(&t->s->got[t->index], 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static long storm_got(struct storm *s)
{
	return __atomic_load_n(&s->got[0], __ATOMIC_SEQ_CST) +
	       __atomic_load_n(&s->got[1], __ATOMIC_SEQ_CST) +
	       __atomic_load_n(&s->got[2], __ATOMIC_SEQ_CST);
}

/* Waiters that time out and are signalled all the time: no bell may stay with one that has left. */
static void test_no_lost_wake(void **state)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct storm s = { .m = many_open(1) };
	struct storm_thread t[3];
	pthread_t thread[3];
	uint64_t start;
	int i;

	(void)state;
	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < 3; i++) {
		t[i] = (struct storm_thread){ &s, i };
		pthread_create(&thread[i], NULL, storm_taker, &t[i]);
	}
	for (i = 1; i <= STORM; i++) {
		must(abi_ring(s.m.server.fd, s.m.at_server[0], 1));
		if (i % 3 == 0)
			pthread_kill(thread[i % 2 + 1], SIGUSR1);
		start = abi_now_ns();
		while (storm_got(&s) < i && abi_now_ns() - start < ABI_LIMIT)
			sched_yield();
		assert_int_equal(storm_got(&s), i);
	}
	s.stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	print_message("taken by each: %ld %ld %ld\n", s.got[0], s.got[1], s.got[2]);
	signal(SIGUSR1, SIG_DFL);
	many_close(&s.m);
}

/* ---- poll ---- */

static void test_poll(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct pollfd pfd = { .fd = p.client.fd, .events = POLLIN };

	(void)state;
	assert_int_equal(poll(&pfd, 1, 0), 0);
	must(abi_ring(p.server.fd, p.at_server, 1));
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(pfd.revents, POLLIN);
	expect_event(p.client.fd, p.at_client, 1);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	/* The peer's end is an event, not a hang-up of ours. */
	abi_ep_close(&p.server);
	assert_int_equal(poll(&pfd, 1, 30000), 1);
	assert_int_equal(pfd.revents, POLLIN);
	p.server = abi_ep_open();
	abi_pair_close(&p);
}

static void *ring_later(void *arg)
{
	struct abi_pair *p = arg;

	abi_sleep_ms(100);
	must(abi_ring(p->server.fd, p->at_server, 1));
	return NULL;
}

/* A sleeper in epoll is woken, edge-triggered as well, and beside a sleeper in SYNC. */
static void test_epoll(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET }, out;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_t thread;

	(void)state;
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, p.client.fd, &ev), 0);
	assert_int_equal(epoll_wait(ep, &out, 1, 0), 0);
	pthread_create(&thread, NULL, ring_later, &p);
	assert_int_equal(epoll_wait(ep, &out, 1, 30000), 1);
	pthread_join(thread, NULL);
	assert_int_equal(epoll_wait(ep, &out, 1, 0), 0);
	expect_event(p.client.fd, p.at_client, 1);
	must(abi_ring(p.server.fd, p.at_server, 1));
	assert_int_equal(epoll_wait(ep, &out, 1, 30000), 1);
	expect_event(p.client.fd, p.at_client, 1);
	/* Removed by closing the file, with the endpoint dead before. */
	must(abi_close(p.client.fd, 0, 0));
	assert_int_equal(epoll_wait(ep, &out, 1, 30000), 1);
	assert_true(out.events & EPOLLHUP);
	abi_pair_close(&p);
	close(ep);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_arguments),
	abi_test(test_causes),
	abi_test(test_causes_not_enabled),
	abi_test(test_bad_entries),
	abi_test(test_ring_before_accept),
	abi_test(test_timeout),
	abi_test(test_signal),
	abi_test(test_many),
	abi_test(test_fault_returns),
	abi_test(test_wait_on),
	abi_test(test_wake_one),
	abi_test(test_wake_the_right_one),
	abi_test(test_pass_on),
	abi_test(test_end_wakes),
	abi_test(test_no_lost_wake),
	abi_test(test_poll),
	abi_test(test_epoll),
};

abi_main(tests)
