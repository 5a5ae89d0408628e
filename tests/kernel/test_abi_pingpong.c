// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Two processes ring each other; nothing is lost, and the memory carries what was said. */
#include "abi.h"

#define NAME	"test:pingpong"

struct plan {
	uint32_t rounds;
	int ready[2];
};

static struct shmipc_sync ring_and_wait(uint32_t session)
{
	struct shmipc_sync s = abi_wait_arg();

	s.nr_notify = 1;
	s.one = (struct shmipc_notify){ .handle = session, .bits = 1 };
	return s;
}

/* Writes the round to the own segment, rings, and waits for the peer to have written it too. */
static void play(int fd, uint32_t session, volatile uint32_t *mine, volatile uint32_t *theirs,
		 uint32_t rounds, bool first)
{
	struct shmipc_sync s;
	uint32_t i;

	for (i = 1; i <= rounds; i++) {
		if (!first)
			expect_event(fd, session, 1);
		if (!first)
			assert_int_equal(*theirs, i);
		*mine = i;
		if (!first) {
			must(abi_ring(fd, session, 1));
			continue;
		}
		s = ring_and_wait(session);
		must(abi_ioctl(fd, SHMIPC_IOC_SYNC, &s));
		assert_int_equal(s.out_flags, 0);
		assert_int_equal(s.out_nr_events, 1);
		assert_int_equal(s.out_one.causes, 1);
		assert_int_equal(*theirs, i);
	}
}

static void client(void *arg)
{
	struct plan *plan = arg;
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, ABI_PAGE), peer;
	struct shmipc_connect c = abi_connect_arg(NAME);

	abi_hear(plan->ready[0]);
	c.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	peer = abi_peer_map(ep.fd, c.out_session, 0);
	play(ep.fd, c.out_session, (void *)seg.map, (void *)peer.map, plan->rounds, true);
	must(abi_close(ep.fd, c.out_session, 0));
}

static void test_two_processes(void **state)
{
	struct plan plan = { .rounds = abi_rounds(10000) };
	struct abi_seg seg, peer;
	struct shmipc_accept a;
	struct abi_ep ep;
	uint32_t listener;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(plan.ready), 0);
	pid = abi_spawn(client, &plan);
	ep = abi_ep_open();
	seg = abi_seg_new(ep.fd, ABI_PAGE);
	listener = abi_bind(ep.fd, NAME);
	abi_tell(plan.ready[1]);
	expect_event(ep.fd, listener, SHMIPC_CAUSE_ACCEPT);
	a = abi_accept_arg(listener);
	a.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_int_equal(a.out_peer.pid, pid);
	peer = abi_peer_map(ep.fd, a.out_session, 0);
	play(ep.fd, a.out_session, (void *)seg.map, (void *)peer.map, plan.rounds, false);
	expect_event(ep.fd, a.out_session, SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(abi_reap(pid), 0);
	abi_unmap(&seg);
	abi_unmap(&peer);
	abi_ep_close(&ep);
	close(plan.ready[0]);
	close(plan.ready[1]);
}

/* Both sides on one endpoint: the ringer finds its own event. */
static void test_self(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a;
	struct shmipc_sync s;

	(void)state;
	a = abi_accept_arg(abi_bind(ep.fd, NAME));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	expect_event(ep.fd, a.listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	expect_event(ep.fd, c.out_session, SHMIPC_CAUSE_CONNECTED);
	s = ring_and_wait(c.out_session);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_SYNC, &s));
	assert_int_equal(s.out_one.handle, a.out_session);
	assert_int_equal(s.out_one.causes, 1);
	assert_int_equal(s.out_one.cookie, 0xac);
	must(abi_close(ep.fd, a.out_session, 0));
	expect_event(ep.fd, c.out_session, SHMIPC_CAUSE_PEER_CLOSED);
	abi_ep_close(&ep);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_two_processes),
	abi_test(test_self),
};

abi_main(tests)
