// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What happens between YIELD and COMMIT, and that the peer notices nothing but PEER_CHANGED; then with
 * a process each.
 */
#define _GNU_SOURCE
#include "handover.h"

#include <pthread.h>

/* ---- the pause ---- */

static void *sleeper(void *arg)
{
	struct abi_ep *ep = arg;
	struct shmipc_ready ev;

	return (void *)(intptr_t)abi_event(ep->fd, ABI_LIMIT, &ev);
}

/* Who sleeps in SYNC is let go. */
static void test_sleepers(void **state)
{
	struct scene s = scene_adopted();
	long sleeps = abi_counter("sleeps_total");
	pthread_t thread[3];
	void *ret;
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sleeper, &s.p.server), 0);
	while (abi_counter("sleeps_total") < sleeps + 3)
		abi_sleep_ms(1);
	must(abi_yield(s.p.server.fd));
	for (i = 0; i < 3; i++) {
		pthread_join(thread[i], &ret);
		assert_int_equal((intptr_t)ret, -EBUSY);
	}
	must(abi_commit(s.next.fd));
	scene_close(&s);
}

/* Bells and connections of the pause are for who goes on after it, each once. */
static void pause_events(bool commit)
{
	struct scene s = scene_yielded();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(s.p.listener);
	uint32_t changed = commit ? SHMIPC_CAUSE_PEER_CHANGED : 0;
	struct shmipc_ready ev;
	int fd;

	must(abi_ring(s.p.client.fd, s.p.at_client, 0x10));
	must(abi_ring(s.p.client.fd, s.p.at_client, 0x20));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(s.p.client.fd, SHMIPC_IOC_CONNECT, &c));
	assert_int_equal(abi_poll(s.p.server.fd, 0), 0);
	if (commit)
		must(abi_commit(s.next.fd));
	else
		must(abi_close(s.next.fd, 0, 0));
	fd = commit ? s.next.fd : s.p.server.fd;
	assert_int_equal(abi_poll(fd, 0), POLLIN);
	if (commit) {
		assert_true(s.next.anchor->ready > 0);
		must(abi_watch(fd, s.p.at_server, ABI_CAUSES, 0x1234));
	}
	must(abi_event(fd, 0, &ev));
	assert_int_equal(ev.handle, s.p.at_server);
	assert_int_equal(ev.causes, 0x30 | changed);
	assert_int_equal(ev.cookie, commit ? 0x1234 : 0xac);
	/* No cookie is not somebody's cookie. */
	must(abi_event(fd, 0, &ev));
	assert_int_equal(ev.handle, s.p.listener);
	assert_int_equal(ev.causes, SHMIPC_CAUSE_ACCEPT);
	assert_int_equal(ev.cookie, commit ? 0 : 0xb1d);
	abi_expect_quiet(fd);
	must(abi_ioctl(fd, SHMIPC_IOC_ACCEPT, &a));
	scene_close(&s);
}

static void test_pause_then_commit(void **state)
{
	(void)state;
	pause_events(true);
}

static void test_pause_then_thaw(void **state)
{
	(void)state;
	pause_events(false);
}

/* Who had taken the event of a connection, and not the connection, leaves it to the successor. */
static void test_connection_told_before(void **state)
{
	struct scene s = scene_adopted();
	struct shmipc_connect c = abi_connect_arg(NAME);

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(s.p.client.fd, SHMIPC_IOC_CONNECT, &c));
	expect_event(s.p.server.fd, s.p.listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_yield(s.p.server.fd));
	must(abi_commit(s.next.fd));
	expect_event(s.next.fd, s.p.listener, SHMIPC_CAUSE_ACCEPT);
	scene_close(&s);
}

/* A peer's grants and revokes of the pause; a revoke takes it from the successor's view, too. */
static void test_grants_in_the_pause(void **state)
{
	struct scene s = scene_yielded();
	struct abi_seg extra = abi_seg_new(s.p.client.fd, ABI_PAGE), old, new;

	(void)state;
	must(abi_grant(s.p.client.fd, s.p.at_client, extra.handle, 9));
	extra.map[0] = 5;
	old = abi_peer_map(s.p.server.fd, s.p.at_server, 9);
	new = abi_peer_map(s.next.fd, s.p.at_server, 9);
	assert_int_equal(new.map[0], 5);
	assert_int_equal(old.map[0], 5);
	must(abi_revoke(s.p.client.fd, s.p.at_client, 9));
	assert_int_equal(abi_touch(old.map, false), SIGBUS);
	assert_int_equal(new.map[0], 0);
	abi_unmap(&old);
	abi_unmap(&new);

	must(abi_grant(s.p.client.fd, s.p.at_client, extra.handle, 9));
	new = abi_peer_map(s.next.fd, s.p.at_server, 9);
	assert_int_equal(new.map[0], 5);
	must(abi_commit(s.next.fd));
	assert_int_equal(new.map[0], 5);
	old = abi_peer_map(s.next.fd, s.p.at_server, 9);
	must(abi_revoke(s.p.client.fd, s.p.at_client, 9));
	/* As it was when it was mapped: before COMMIT, after it. */
	assert_int_equal(new.map[0], 0);
	assert_int_equal(abi_touch(old.map, false), SIGBUS);
	abi_unmap(&old);
	abi_unmap(&new);
	abi_unmap(&extra);
	scene_close(&s);
}

/* What was given stays given, whoever holds either end: it is taken, or comes back, afterwards. */
static void test_gift_of_the_holder(void **state)
{
	struct scene s = scene_adopted();
	struct shmipc_item items[ITEMS];
	struct abi_seg take;
	int n;

	(void)state;
	must(abi_give(s.p.server.fd, s.p.at_server, 0));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_GIVEN);
	/* The successor's view is of what is nobody's to write now. */
	expect_blank(&s.view);
	must(abi_yield(s.p.server.fd));
	n = abi_list(s.next.fd, 0, items, ITEMS, NULL);
	assert_int_equal(find(items, n, SHMIPC_ITEM_SEGMENT, s.p.server_seg.handle)->flags,
			 SHMIPC_ITEM_GIVEN);
	must(abi_commit(s.next.fd));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	must(abi_take(s.p.client.fd, s.p.at_client, 0, &take));
	n = abi_list(s.next.fd, 0, items, ITEMS, NULL);
	assert_int_equal(find(items, n, SHMIPC_ITEM_SEGMENT, s.p.server_seg.handle)->flags,
			 SHMIPC_ITEM_TAKEN);
	fails(abi_revoke(s.next.fd, s.p.at_server, 0), ENOENT);
	must(abi_close(s.next.fd, s.p.server_seg.handle, 0));
	scene_close(&s);
}

static void test_gift_to_the_holder(void **state)
{
	struct scene s = scene_yielded();
	struct shmipc_item items[ITEMS];
	struct abi_seg take;
	volatile uint8_t *map;
	int n;

	(void)state;
	s.p.client_seg.map[1] = 9;
	must(abi_give(s.p.client.fd, s.p.at_client, 0));
	fails(abi_take(s.p.server.fd, s.p.at_server, 0, &take), EBUSY);
	fails(abi_take(s.next.fd, s.p.at_server, 0, &take), EBUSY);
	n = abi_list(s.next.fd, s.p.at_server, items, ITEMS, NULL);
	assert_int_equal(find(items, n, SHMIPC_ITEM_SLOT, s.p.at_server)->flags,
			 SHMIPC_ITEM_GIVEN);
	must(abi_commit(s.next.fd));
	expect_event(s.next.fd, s.p.at_server, SHMIPC_CAUSE_GIVEN | SHMIPC_CAUSE_PEER_CHANGED);
	must(abi_take(s.next.fd, s.p.at_server, 0, &take));
	must(abi_map(s.next.fd, take.offset, take.length, RW, &map));
	assert_int_equal(map[1], 9);
	map[1] = 10;
	munmap((void *)map, take.length);
	scene_close(&s);
}

static void peer_dies_in_the_pause(void)
{
	struct scene s = scene_yielded();
	struct shmipc_item items[ITEMS];
	int n;

	abi_ep_close(&s.p.client);
	assert_int_equal(abi_poll(s.next.fd, 0), POLLIN);
	do {
		n = abi_list(s.next.fd, 0, items, ITEMS, NULL);
		must(n);
	} while (!(find(items, n, SHMIPC_ITEM_SESSION, s.p.at_server)->causes));
	assert_int_equal(find(items, n, SHMIPC_ITEM_SESSION, s.p.at_server)->flags,
			 SHMIPC_ITEM_PEER_CLOSED | SHMIPC_ITEM_PEER_DIED);
	must(abi_commit(s.next.fd));
	expect_event(s.next.fd, s.p.at_server,
		     SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_PEER_CHANGED);
	s.p.client = abi_ep_open();
	scene_close(&s);
}

/* Death is the work of another thread: LIST meets it at any point, and shows its cause never before it. */
static void test_peer_dies_in_the_pause(void **state)
{
	int round;

	(void)state;
	for (round = 0; round < 10; round++)
		peer_dies_in_the_pause();
}

/* Both ends of a session at once, in both orders. */
static void test_both_at_once(void **state)
{
	struct scene s = scene_yielded();
	struct abi_ep next;
	int offer, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		offer = abi_offer(s.p.client.fd, 0, NULL);
		must(offer);
		next = abi_ep_adopt(s.by.fd, offer);
		must(abi_yield(s.p.client.fd));
		if (!round) {
			must(abi_commit(s.next.fd));
			must(abi_commit(next.fd));
			expect_event(s.next.fd, s.p.at_server, SHMIPC_CAUSE_PEER_CHANGED);
		} else {
			must(abi_commit(next.fd));
			expect_event(s.next.fd, s.p.at_server, SHMIPC_CAUSE_PEER_CHANGED);
		}
		expect_event(next.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
		must(abi_ring(next.fd, s.p.at_client, 1));
		expect_event(s.next.fd, s.p.at_server, 1);
		must(abi_ring(s.next.fd, s.p.at_server, 2));
		expect_event(next.fd, s.p.at_client, 2);
		abi_expect_quiet(next.fd);
		abi_expect_quiet(s.next.fd);
		close(offer);
		abi_ep_close(&s.p.client);
		s.p.client = next;
	}
	scene_close(&s);
}

/* A session that connects an endpoint with itself goes along whole. */
static void test_session_with_itself(void **state)
{
	struct abi_ep ep = abi_ep_open(), by = abi_ep_open(), next;
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(abi_bind(ep.fd, NAME));
	struct shmipc_ready ev[2];
	int offer, i;

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	while (!abi_event(ep.fd, 0, &ev[0]))
		;
	offer = abi_offer(ep.fd, 0, NULL);
	must(offer);
	next = abi_ep_adopt(by.fd, offer);
	must(abi_event(ep.fd, 0, &ev[0]));
	must(abi_yield(ep.fd));
	must(abi_commit(next.fd));
	for (i = 0; i < 2; i++) {
		must(abi_event(next.fd, 0, &ev[i]));
		assert_int_equal(ev[i].causes, SHMIPC_CAUSE_PEER_CHANGED);
	}
	assert_int_not_equal(ev[0].handle, ev[1].handle);
	must(abi_ring(next.fd, c.out_session, 8));
	expect_event(next.fd, a.out_session, 8);
	close(offer);
	abi_ep_close(&next);
	abi_ep_close(&by);
	abi_ep_close(&ep);
}

/* ---- processes ---- */

/* Exactly these, in one event or in several. */
static void expect_causes(int fd, uint32_t handle, uint32_t causes)
{
	struct shmipc_ready ev;
	uint32_t seen = 0;

	while (seen != causes) {
		must(abi_event(fd, ABI_LIMIT, &ev));
		assert_int_equal(ev.handle, handle);
		assert_int_equal(ev.causes & (~causes | seen), 0);
		seen |= ev.causes;
	}
}

/* Between the holder's process and the test. */
struct pipes {
	int to[2], from[2];
};

static void successor_process(int offer, const struct shmipc_seg_info *seg, uint32_t session,
			      uint32_t handle)
{
	struct abi_ep by = abi_ep_open(), next = abi_ep_adopt(by.fd, offer);
	struct pollfd p = { .fd = next.fd, .events = POLLIN };
	volatile uint8_t *map;

	must(abi_map(next.fd, seg->out_offset, seg->out_length, PROT_READ, &map));
	assert_int_equal(poll(&p, 1, ABI_LIMIT / 1000000), 1);
	assert_int_equal(p.revents, POLLIN);
	assert_int_equal(map[0], 11);
	must(abi_commit(next.fd));
	assert_ptr_equal(mmap((void *)map, seg->out_length, RW, MAP_SHARED | MAP_FIXED, next.fd,
			      seg->out_offset), (void *)map);
	map[0]++;
	expect_causes(next.fd, session, 1 | SHMIPC_CAUSE_PEER_CHANGED);
	must(abi_ring(next.fd, session, 2));
	/* The peer closes: the end. */
	expect_event(next.fd, session, SHMIPC_CAUSE_PEER_CLOSED);
	must(abi_close(next.fd, handle, 0));
	_exit(0);
}

static void holder_process(void *arg)
{
	struct pipes *pipes = arg;
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, 2 * ABI_PAGE);
	struct shmipc_accept a = abi_accept_arg(abi_bind(ep.fd, NAME));
	struct shmipc_seg_info info;
	struct shmipc_ready ev;
	uint32_t handle;
	int offer;
	pid_t pid;

	seg.map[0] = 10;
	abi_tell(pipes->from[1]);
	must(abi_event(ep.fd, ABI_LIMIT, &ev));
	a.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	must(abi_seg_info(ep.fd, seg.handle, &info));
	offer = abi_offer(ep.fd, 0, &handle);
	must(offer);
	pid = abi_fork();
	if (!pid)
		successor_process(offer, &info, a.out_session, seg.handle);
	expect_event(ep.fd, handle, SHMIPC_CAUSE_OFFER);
	seg.map[0]++;
	must(abi_yield(ep.fd));
	abi_tell(pipes->from[1]);
	/* The peer rings in the pause, or after it. */
	abi_hear(pipes->to[0]);
	abi_wait_hup(offer);
	/* A pointer that was good a moment ago. */
	assert_int_equal(abi_touch(seg.map, false), SIGBUS);
	assert_int_equal(ep.anchor->state, SHMIPC_STATE_MOVED);
	assert_int_equal(abi_reap(pid), 0);
	_exit(0);
}

/* Three processes: this one is the peer, and sees data, bells and PEER_CHANGED, nothing else. */
static void test_processes(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg peer;
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct pipes pipes;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(pipes.to), 0);
	assert_int_equal(pipe(pipes.from), 0);
	pid = abi_spawn(holder_process, &pipes);
	abi_hear(pipes.from[0]);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	peer = abi_peer_map(ep.fd, c.out_session, 0);
	abi_hear(pipes.from[0]);
	must(abi_ring(ep.fd, c.out_session, 1));
	abi_tell(pipes.to[1]);
	expect_causes(ep.fd, c.out_session, 2 | SHMIPC_CAUSE_PEER_CHANGED);
	assert_int_equal(peer.map[0], 12);
	abi_expect_quiet(ep.fd);
	must(abi_close(ep.fd, c.out_session, 0));
	assert_int_equal(abi_reap(pid), 0);
	abi_unmap(&peer);
	abi_ep_close(&ep);
	close(pipes.to[0]), close(pipes.to[1]), close(pipes.from[0]), close(pipes.from[1]);
}

/* The successor's file, as any, is of its address space alone. */
static void test_successor_of_its_mm(void **state)
{
	struct scene s = scene_yielded();
	pid_t pid = abi_fork();

	(void)state;
	if (!pid) {
		fails(abi_commit(s.next.fd), EPERM);
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
	must(abi_commit(s.next.fd));
	scene_close(&s);
}

static void kill_successor(void *arg)
{
	struct scene *s = arg;
	struct abi_ep by = abi_ep_open(), next = abi_ep_adopt(by.fd, s->offer);

	(void)next;
	abi_sleep_ms(ABI_LIMIT / 1000000);
}

static void test_successor_killed(void **state)
{
	struct scene s = scene_offered(0);
	pid_t pid = abi_spawn(kill_successor, &s);

	(void)state;
	expect_event(s.p.server.fd, s.handle, SHMIPC_CAUSE_OFFER);
	must(abi_yield(s.p.server.fd));
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	abi_wait_hup(s.offer);
	expect_held(&s);
	scene_close(&s);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_sleepers),
	abi_test(test_pause_then_commit),
	abi_test(test_pause_then_thaw),
	abi_test(test_connection_told_before),
	abi_test(test_grants_in_the_pause),
	abi_test(test_gift_of_the_holder),
	abi_test(test_gift_to_the_holder),
	abi_test(test_peer_dies_in_the_pause),
	abi_test(test_both_at_once),
	abi_test(test_session_with_itself),
	abi_test(test_processes),
	abi_test(test_successor_of_its_mm),
	abi_test(test_successor_killed),
};

abi_main(tests)
