// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Endpoints that outlive their process, by a listener's orphan time or by an offer with KEEP, and how
 * they end.
 */
#define _GNU_SOURCE
#include "served.h"

#include <sched.h>

/* ---- by a listener's time ---- */

static void test_crash_and_restart(void **state)
{
	struct scene sc = scene_open(orphaned(LONG_MS));
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct abi_ep by = abi_ep_open(), next;
	struct shmipc_ready ev;

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	/* Who connects meanwhile waits in the queue. */
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(sc.ep.fd, SHMIPC_IOC_CONNECT, &c));
	next = adopt_by_name(by.fd);
	fails(abi_adopt_name(by.fd, NAME), EBUSY);
	must(abi_close(sc.ep.fd, c.out_session, 0));
	expect_adopted(&sc, &next);
	/* It is held again: by name there is nothing to adopt, and its own death makes it an orphan. */
	fails(abi_adopt_name(by.fd, NAME), EBUSY);
	abi_ep_close(&next);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_LOST);
	next = adopt_by_name(by.fd);
	must(abi_commit(next.fd));
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_CHANGED);
	/* An end that is meant is one. */
	must(abi_close(next.fd, 0, 0));
	must(abi_event(sc.ep.fd, ABI_LIMIT, &ev));
	assert_int_equal(ev.causes, SHMIPC_CAUSE_PEER_CLOSED);
	fails(abi_adopt_name(by.fd, NAME), ENOENT);
	abi_ep_close(&next);
	abi_ep_close(&by);
	scene_close(&sc);
}

static void test_connection_of_the_pause(void **state)
{
	struct scene sc = scene_open(orphaned(LONG_MS));
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_item items[16];
	struct shmipc_accept a;
	struct abi_ep by = abi_ep_open(), next;
	struct shmipc_ready ev;
	int i;

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(sc.ep.fd, SHMIPC_IOC_CONNECT, &c));
	next = adopt_by_name(by.fd);
	a = abi_accept_arg(item_of(&next, SHMIPC_ITEM_LISTENER, items, NULL)->handle);
	must(abi_commit(next.fd));
	for (i = 0; i < 2; i++) {
		must(abi_event(next.fd, 0, &ev));
		assert_int_equal(ev.causes, ev.handle == a.listener ? SHMIPC_CAUSE_ACCEPT :
				 4 | SHMIPC_CAUSE_PEER_CHANGED);
	}
	must(abi_ioctl(next.fd, SHMIPC_IOC_ACCEPT, &a));
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_CHANGED);
	expect_event(sc.ep.fd, c.out_session, SHMIPC_CAUSE_CONNECTED);
	must(abi_close(next.fd, 0, 0));
	abi_ep_close(&next);
	abi_ep_close(&by);
	scene_close(&sc);
}

/* munmap of the anchor by a process that lives on, with what it has mapped: that is taken away. */
static void test_living_orphan_maker(void **state)
{
	struct abi_pair p = abi_pair_open("test:orphan:other");
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct abi_ep by = abi_ep_open(), next;
	volatile uint8_t *map;

	(void)state;
	b.orphan_ms = LONG_MS;
	b.adopt = SHMIPC_ADOPT_EUID;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_BIND, &b));
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	munmap((void *)p.server.anchor, ABI_PAGE);
	fails(abi_ring(p.server.fd, p.at_server, 1), ESTALE);
	next = adopt_by_name(by.fd);
	assert_int_equal(abi_touch(p.server_seg.map, true), SIGBUS);
	fails(abi_map(p.server.fd, p.server_seg.offset, ABI_PAGE, PROT_READ, &map), ESTALE);
	must(abi_commit(next.fd));
	/* Its other name came along. */
	fails(abi_adopt_name(by.fd, "test:orphan:other"), EBUSY);
	must(abi_close(next.fd, b.out_handle, 0));
	/* With the last listener that has a time, the reason is gone. */
	abi_ep_close(&next);
	expect_event(p.client.fd, p.at_client,
		     SHMIPC_CAUSE_PEER_LOST | SHMIPC_CAUSE_PEER_CHANGED | SHMIPC_CAUSE_PEER_DIED);
	close(p.server.fd);
	abi_unmap(&p.server_seg);
	abi_unmap(&p.client_seg);
	abi_ep_close(&p.client);
	abi_ep_close(&by);
}

/* A second crash, while it is adopted: it is an orphan still, and the next one has its turn. */
static void adopt_and_sleep(void *unused)
{
	struct abi_ep by = abi_ep_open(), next = adopt_by_name(by.fd);
	(void)unused, (void)next;

	abi_sleep_ms(ABI_LIMIT / 1000000);
}

static void test_second_crash(void **state)
{
	struct scene sc = scene_open(orphaned(LONG_MS));
	struct abi_ep by = abi_ep_open(), next;
	long adoptions = abi_counter("adoptions_total");
	pid_t pid;

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	pid = abi_spawn(adopt_and_sleep, NULL);
	while (abi_counter("adoptions_total") == adoptions)
		abi_sleep_ms(1);
	fails(abi_adopt_name(by.fd, NAME), EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	abi_expect_quiet(sc.ep.fd);
	next = adopt_by_name(by.fd);
	expect_adopted(&sc, &next);
	must(abi_close(next.fd, 0, 0));
	abi_ep_close(&next);
	abi_ep_close(&by);
	scene_close(&sc);
}

/* ---- its end ---- */

static void test_expiry(void **state)
{
	struct scene sc = scene_open(orphaned(500));
	long expiries = abi_counter("expiries_total");

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	expect_expired(&sc);
	assert_int_equal(abi_counter("expiries_total"), expiries + 1);
	scene_close(&sc);
}

/* Also while it is adopted: the successor is told so. */
static void test_expiry_of_the_adopted(void **state)
{
	struct scene sc = scene_open(orphaned(500));
	struct abi_ep by = abi_ep_open(), next;

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	next = adopt_by_name(by.fd);
	expect_expired(&sc);
	abi_wait_hup(next.fd);
	assert_int_equal(next.anchor->state, SHMIPC_STATE_DEAD);
	fails(abi_commit(next.fd), ESTALE);
	abi_ep_close(&next);
	abi_ep_close(&by);
	scene_close(&sc);
}

static void test_parameter(void **state)
{
	struct scene sc = scene_open(orphaned(~0U));

	(void)state;
	/* It cuts what was asked for. */
	abi_param("orphan_max_ms", 500, &old_max);
	server_killed(&sc);
	expect_waiting(&sc);
	expect_expired(&sc);
	scene_close(&sc);
	/* 0 ends all that there are, and they are gone when it is written. */
	abi_param("orphan_max_ms", old_max, NULL);
	sc = scene_open(orphaned(LONG_MS));
	server_killed(&sc);
	expect_waiting(&sc);
	abi_param("orphan_max_ms", 0, NULL);
	assert_int_equal(abi_counter("orphans_live"), 0);
	expect_expired(&sc);
	scene_close(&sc);
	/* And makes no more. */
	sc = scene_open(orphaned(LONG_MS));
	server_killed(&sc);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	scene_close(&sc);
}

static void test_bind(void **state)
{
	struct scene sc = scene_open(orphaned(LONG_MS));
	struct shmipc_bind good = abi_bind_arg(NAME), b = good;
	struct abi_ep by = abi_ep_open(), next;

	(void)state;
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EADDRINUSE);
	b.flags = SHMIPC_BIND_FRESH;
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EADDRINUSE);
	server_killed(&sc);
	expect_waiting(&sc);
	b = good;
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EOWNERDEAD);
	next = adopt_by_name(by.fd);
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EOWNERDEAD);
	b.flags = SHMIPC_BIND_FRESH;
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EBUSY);
	abi_ep_close(&next);
	must(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b));
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	assert_int_equal(abi_counter("orphans_live"), 0);
	abi_ep_close(&by);
	scene_close(&sc);
}

/* It keeps no namespace, and ends with it. */
static void in_new_namespace(void *arg)
{
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct abi_ep ep, by;

	(void)arg;
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	by = abi_ep_open();
	fails(abi_adopt_name(by.fd, NAME), ENOENT);
	ep = abi_ep_open();
	b.orphan_ms = LONG_MS;
	b.adopt = SHMIPC_ADOPT_EUID;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	/* As long as anybody is in it, it stays; as here. */
	munmap((void *)ep.anchor, ABI_PAGE);
	fails(abi_ioctl(by.fd, SHMIPC_IOC_BIND, &b), EOWNERDEAD);
	assert_int_equal(abi_counter("orphans_live"), 2);
	_exit(0);
}

static void test_namespace(void **state)
{
	struct scene sc = scene_open(orphaned(LONG_MS));
	struct abi_ep by = abi_ep_open();
	pid_t pid;

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	pid = abi_spawn(in_new_namespace, NULL);
	assert_int_equal(abi_reap(pid), 0);
	/* The namespace's end is a worker's. */
	while (abi_counter("orphans_live") != 1)
		abi_sleep_ms(10);
	abi_param("orphan_max_ms", 0, &old_max);
	expect_expired(&sc);
	abi_ep_close(&by);
	scene_close(&sc);
}

/* ---- by an offer ---- */

/* The maker exits right after its offer. */
static void test_offer_and_exit(void **state)
{
	struct scene sc = scene_open((struct server){ .offer_adopt = SHMIPC_ADOPT_HOLDER,
						      .keep = true });
	struct abi_ep by = abi_ep_open(), next;

	(void)state;
	server_ends(&sc);
	expect_waiting(&sc);
	assert_int_equal(abi_poll(sc.s.offer, 0), 0);
	next = abi_ep_adopt(by.fd, sc.s.offer);
	expect_adopted(&sc, &next);
	abi_ep_close(&next);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	abi_ep_close(&by);
	scene_close(&sc);
}

static void test_offer_and_exit_without_keep(void **state)
{
	struct scene sc = scene_open((struct server){ .offer_adopt = SHMIPC_ADOPT_HOLDER });
	struct abi_ep by = abi_ep_open();

	(void)state;
	server_ends(&sc);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	abi_wait_hup(sc.s.offer);
	fails(abi_adopt(by.fd, sc.s.offer), ESTALE);
	abi_ep_close(&by);
	scene_close(&sc);
}

/* The offer's fd goes: nobody can adopt any more. */
static void test_kept_and_closed(void **state)
{
	struct scene sc = scene_open((struct server){ .offer_adopt = SHMIPC_ADOPT_HOLDER,
						      .keep = true });

	(void)state;
	server_ends(&sc);
	expect_waiting(&sc);
	close(sc.s.offer);
	sc.s.offer = -1;
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	scene_close(&sc);
}

/* The holder dies between ADOPT and YIELD: with KEEP the successor goes on. */
static void test_dies_adopted(void **state)
{
	struct scene sc = scene_open((struct server){ .offer_adopt = SHMIPC_ADOPT_HOLDER,
						      .keep = true });
	struct abi_ep by = abi_ep_open(), next;

	(void)state;
	next = abi_ep_adopt(by.fd, sc.s.offer);
	fails(abi_commit(next.fd), EAGAIN);
	server_killed(&sc);
	assert_int_equal(abi_poll(next.fd, ABI_LIMIT / 1000000), POLLIN);
	expect_waiting(&sc);
	expect_adopted(&sc, &next);
	abi_ep_close(&next);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	abi_ep_close(&by);
	scene_close(&sc);
}

#define EXECED	"SHMIPC_TEST_OFFER"

/* The program again, in place: the offer's fd is all that it has. */
static void execed(void)
{
	int offer = atoi(getenv(EXECED));
	struct abi_ep by = abi_ep_open(), next = abi_ep_adopt(by.fd, offer);
	struct shmipc_item items[16];
	const struct shmipc_item *seg = item_of(&next, SHMIPC_ITEM_SEGMENT, items, NULL);
	volatile uint8_t *map;

	must(abi_commit(next.fd));
	must(abi_map(next.fd, seg->offset, seg->length, RW, &map));
	assert_int_equal(map[0], 77);
	_exit(0);
}

static void exec_in_place(void *unused)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, ABI_PAGE);
	int offer = abi_offer(ep.fd, SHMIPC_OFFER_KEEP, NULL);
	char text[16];

	(void)unused;
	must(offer);
	seg.map[0] = 77;
	fcntl(offer, F_SETFD, 0);
	snprintf(text, sizeof(text), "%d", offer);
	setenv(EXECED, text, 1);
	execl("/proc/self/exe", "execed", NULL);
	_exit(1);
}

static void test_exec_in_place(void **state)
{
	(void)state;
	assert_int_equal(abi_reap(abi_spawn(exec_in_place, NULL)), 0);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_crash_and_restart),
	abi_test(test_connection_of_the_pause),
	abi_test(test_living_orphan_maker),
	abi_test(test_second_crash),
	abi_test(test_expiry),
	abi_test(test_expiry_of_the_adopted),
	with_parameter(test_parameter),
	abi_test(test_bind),
	with_parameter(test_namespace),
	abi_test(test_offer_and_exit),
	abi_test(test_offer_and_exit_without_keep),
	abi_test(test_kept_and_closed),
	abi_test(test_dies_adopted),
	abi_test(test_exec_in_place),
};

int main(void)
{
	if (access(ABI_DEVICE, F_OK)) {
		puts("no " ABI_DEVICE);
		return 77;
	}
	if (getenv(EXECED))
		execed();
	return cmocka_run_group_tests(tests, NULL, abi_nothing_left);
}
