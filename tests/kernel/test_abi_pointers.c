// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a request points to: names, metadata, bells and events that lie across two pages, of which
 * the second may be missing or read-only. What could not be delivered is delivered later, in order.
 */
#define _GNU_SOURCE
#include "abi.h"

#include <pthread.h>

#define NAME	"test:pointers"
#define RW	(PROT_READ | PROT_WRITE)
#define MANY	40	/* more than the module takes in one piece, of bells and of events */

/* Two pages, of which the second gets protection @prot; its end is the border. */
struct border {
	uint8_t *two;
};

static struct border border_new(void)
{
	struct border b = { mmap(NULL, 2 * ABI_PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };

	assert_ptr_not_equal(b.two, MAP_FAILED);
	return b;
}

/* Where something lies of which @before bytes are in the first page. */
static void *border_at(struct border *b, size_t before)
{
	return b->two + ABI_PAGE - before;
}

static void border_set(struct border *b, int prot)
{
	assert_int_equal(mprotect(b->two + ABI_PAGE, ABI_PAGE, prot), 0);
}

static void border_free(struct border *b)
{
	munmap(b->two, 2 * ABI_PAGE);
}

#define refuse(fd, nr, arg, err) do {						\
	typeof(arg) copy = (arg);						\
	struct abi_counts before = abi_counts();				\
	fails(abi_ioctl((fd), (nr), &copy), (err));				\
	assert_string_equal(abi_counts().text, before.text);			\
} while (0)

/* ---- names and metadata ---- */

static void test_name(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct border b = border_new();
	struct shmipc_bind bind;
	struct shmipc_connect c;
	size_t len = strlen(NAME), before;

	(void)state;
	for (before = 0; before <= len; before++) {
		border_set(&b, RW);
		memcpy(border_at(&b, before), NAME, len);
		border_set(&b, before < len ? PROT_NONE : RW);
		bind = abi_bind_arg(NAME);
		bind.name = (uintptr_t)border_at(&b, before);
		c = abi_connect_arg(NAME);
		c.name = bind.name;
		c.flags = SHMIPC_CONNECT_NONBLOCK;
		if (before < len) {
			refuse(ep.fd, SHMIPC_IOC_BIND, bind, EFAULT);
			refuse(ep.fd, SHMIPC_IOC_CONNECT, c, EFAULT);
			border_set(&b, PROT_READ);
		}
		must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &bind));
		must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
		must(abi_close(ep.fd, c.out_session, 0));
		must(abi_close(ep.fd, bind.out_handle, 0));
	}
	border_free(&b);
	abi_ep_close(&ep);
}

static void test_metadata(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct border from = border_new(), to = border_new();
	struct shmipc_accept a = abi_accept_arg(abi_bind(ep.fd, NAME));
	struct shmipc_connect c = abi_connect_arg(NAME);
	size_t before;

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.meta_len = a.meta_len = SHMIPC_META_MAX;
	for (before = 0; before < SHMIPC_META_MAX; before += 51) {
		c.meta = (uintptr_t)border_at(&from, before);
		a.meta = (uintptr_t)border_at(&to, before);
		border_set(&from, RW);
		memset(border_at(&from, before), before + 1, SHMIPC_META_MAX);
		border_set(&from, PROT_NONE);
		refuse(ep.fd, SHMIPC_IOC_CONNECT, c, EFAULT);
		border_set(&from, PROT_READ);
		must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
		border_set(&to, PROT_NONE);
		refuse(ep.fd, SHMIPC_IOC_ACCEPT, a, EFAULT);
		border_set(&to, PROT_READ);
		refuse(ep.fd, SHMIPC_IOC_ACCEPT, a, EFAULT);
		border_set(&to, RW);
		must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
		assert_int_equal(a.out_meta_len, SHMIPC_META_MAX);
		assert_memory_equal(border_at(&to, before), border_at(&from, before),
				    SHMIPC_META_MAX);
		must(abi_close(ep.fd, a.out_session, 0));
		must(abi_close(ep.fd, c.out_session, 0));
	}
	border_free(&from);
	border_free(&to);
	abi_ep_close(&ep);
}

/* ---- bells and events ---- */

struct many {
	struct abi_ep server, client;
	uint32_t at_server[MANY], at_client[MANY];
};

static struct many many_open(void)
{
	struct many m = { .server = abi_ep_open(), .client = abi_ep_open() };
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;
	int i;

	b.causes = 0;
	b.backlog = MANY;
	must(abi_ioctl(m.server.fd, SHMIPC_IOC_BIND, &b));
	a = abi_accept_arg(b.out_handle);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.causes = 0;
	for (i = 0; i < MANY; i++) {
		c.cookie = i;
		must(abi_ioctl(m.client.fd, SHMIPC_IOC_CONNECT, &c));
		must(abi_ioctl(m.server.fd, SHMIPC_IOC_ACCEPT, &a));
		m.at_client[i] = c.out_session;
		m.at_server[i] = a.out_session;
	}
	return m;
}

static void many_close(struct many *m)
{
	abi_ep_close(&m->server);
	abi_ep_close(&m->client);
}

static int many_ring(struct many *m, struct shmipc_notify *n, struct shmipc_sync *s)
{
	*s = (struct shmipc_sync){ .size = sizeof(*s), .nr_notify = MANY,
				   .notify = (uintptr_t)n };
	return abi_ioctl(m->server.fd, SHMIPC_IOC_SYNC, s);
}

/* All that were rung, from the first to the @nr-th, come in order and once. */
static void many_expect(struct many *m, int nr)
{
	struct shmipc_ready ev[MANY + 1];
	struct shmipc_sync s = { .size = sizeof(s), .max_events = MANY + 1,
				 .events = (uintptr_t)ev };
	int i;

	must(abi_ioctl(m->client.fd, SHMIPC_IOC_SYNC, &s));
	assert_int_equal(s.out_nr_events, nr);
	for (i = 0; i < nr; i++) {
		assert_int_equal(ev[i].handle, m->at_client[i]);
		assert_int_equal(ev[i].cookie, i);
		assert_int_equal(ev[i].causes, i + 1);
	}
	abi_expect_quiet(m->client.fd);
}

/* Bells that can't be read: none was rung, or those before, and SYNC tells which one was bad. */
static void test_notify(void **state)
{
	struct many m = many_open();
	struct border b = border_new();
	struct shmipc_notify *n;
	struct shmipc_sync s;
	int i, before, rung;

	(void)state;
	for (before = 0; before <= MANY; before += 4) {
		n = border_at(&b, before * sizeof(*n));
		border_set(&b, RW);
		for (i = 0; i < MANY; i++)
			n[i] = (struct shmipc_notify){ m.at_server[i], i + 1 };
		border_set(&b, before < MANY ? PROT_NONE : RW);
		rung = 0;
		if (before < MANY) {
			i = many_ring(&m, n, &s);
			if (!i) {
				assert_int_equal(s.out_flags, SHMIPC_SYNC_NOTIFY_FAILED);
				assert_int_equal(s.out_errno, EFAULT);
				rung = s.out_index;
				assert_true(rung > 0 && rung <= before);
			} else {
				fails(i, EFAULT);
			}
			many_expect(&m, rung);
		}
		border_set(&b, PROT_READ);
		must(many_ring(&m, n, &s));
		assert_int_equal(s.out_flags, 0);
		many_expect(&m, MANY);
	}
	border_free(&b);
	many_close(&m);
}

/* Room for events that ends early, on the module's stack and in what it allocates. */
static void test_events(void **state)
{
	static const int maxes[] = { 2, 15, 16, 17, MANY };
	struct many m = many_open();
	struct border b = border_new();
	struct shmipc_notify n[MANY];
	struct shmipc_sync s;
	int before, prot;
	size_t i;

	(void)state;
	for (i = 0; i < MANY; i++)
		n[i] = (struct shmipc_notify){ m.at_server[i], i + 1 };
	for (i = 0; i < 2 * sizeof(maxes) / sizeof(*maxes); i++) {
		prot = i % 2 ? PROT_READ : PROT_NONE;
		border_set(&b, prot);
		for (before = 0; before < maxes[i / 2]; before += before < 3 ? 1 : 5) {
			must(many_ring(&m, n, &s));
			s = abi_wait_arg();
			s.max_events = maxes[i / 2];
			/* The last may lie half on either page. */
			s.events = (uintptr_t)border_at(&b, before * sizeof(struct shmipc_ready) +
							    (before ? 0 : 8));
			fails(abi_ioctl(m.client.fd, SHMIPC_IOC_SYNC, &s), EFAULT);
			fails(abi_ioctl(m.client.fd, SHMIPC_IOC_SYNC, &s), EFAULT);
			many_expect(&m, MANY);
		}
	}
	border_free(&b);
	many_close(&m);
}

/* Two waiters; the one that is woken can't be told: the other is. */
struct waiter {
	int fd;
	uint64_t events;
	int result;
	struct shmipc_sync s;
};

static void waiter_run(struct waiter *w)
{
	w->s = abi_wait_arg();
	w->s.events = w->events;
	w->result = abi_ioctl(w->fd, SHMIPC_IOC_SYNC, &w->s);
}

static void *waiter_thread(void *arg)
{
	waiter_run(arg);
	return NULL;
}

static void test_event_passes_on(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct waiter w[2] = { { .fd = p.client.fd, .events = 8 }, { .fd = p.client.fd } };
	long sleeps = abi_counter("sleeps_total");
	pthread_t thread[2];
	int i, tries;

	(void)state;
	for (i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, waiter_thread, &w[i]), 0);
		for (tries = 0; abi_counter("sleeps_total") <= sleeps + i && tries < 3000; tries++)
			abi_sleep_ms(10);
		assert_int_equal(abi_counter("sleeps_total"), sleeps + i + 1);
	}
	must(abi_ring(p.server.fd, p.at_server, 4));
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	fails(w[0].result, EFAULT);
	must(w[1].result);
	assert_int_equal(w[1].s.out_nr_events, 1);
	assert_int_equal(w[1].s.out_one.handle, p.at_client);
	assert_int_equal(w[1].s.out_one.causes, 4);
	abi_expect_quiet(p.client.fd);
	abi_pair_close(&p);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_name),
	abi_test(test_metadata),
	abi_test(test_notify),
	abi_test(test_events),
	abi_test(test_event_passes_on),
};

abi_main(tests)
