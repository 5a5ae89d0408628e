// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Each request once, doing its work, with every field that it has: what a first program would do.
 * Also compiled for 32 bits, for which the layouts are the same.
 */
#define _GNU_SOURCE
#include "abi.h"

#define NAME	"test:each"

/* A pointer-sized word is no field of the ABI, and 64-bit fields are aligned everywhere. */
static void test_layout(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct shmipc_sync), 88);
	assert_int_equal(offsetof(struct shmipc_sync, timeout_ns), 40);
	assert_int_equal(offsetof(struct shmipc_accept, cookie), 24);
	assert_int_equal(offsetof(struct shmipc_bind, cookie), 48);
	assert_int_equal(sizeof(struct { char c; struct shmipc_ready r; }), 24);
}

static void test_query(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query q;

	(void)state;
	must(abi_query(ep.fd, &q));
	assert_int_equal(q.out_abi, SHMIPC_ABI);
	assert_int_equal(q.out_page_size, ABI_PAGE);
	assert_true(q.out_max_segment > 1ULL << 32);
	abi_ep_close(&ep);
}

static void test_segments(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_seg_info info;
	struct abi_seg seg = abi_seg_new(p.server.fd, 5 * ABI_PAGE), peer;

	(void)state;
	must(abi_seg_info(p.server.fd, seg.handle, &info));
	assert_true(info.out_length == 5 * ABI_PAGE && info.out_offset == seg.offset);
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	must(abi_grant(p.server.fd, p.at_server, seg.handle, 3));
	peer = abi_peer_map(p.client.fd, p.at_client, 3);
	seg.map[5 * ABI_PAGE - 1] = 42;
	assert_int_equal(peer.map[5 * ABI_PAGE - 1], 42);
	assert_int_equal(abi_touch(peer.map, true), SIGSEGV);
	must(abi_revoke(p.server.fd, p.at_server, 3));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	must(abi_close(p.server.fd, seg.handle, 0));
	abi_unmap(&peer);
	abi_unmap(&seg);
	abi_pair_close(&p);
}

static void test_give(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg seg = abi_seg_new(p.server.fd, 2 * ABI_PAGE), taken;
	struct shmipc_seg_info info;

	(void)state;
	seg.map[ABI_PAGE] = 17;
	must(abi_freeze(p.server.fd, seg.handle));
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	must(abi_grant(p.server.fd, p.at_server, seg.handle, 3));
	must(abi_give(p.server.fd, p.at_server, 3));
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_GIVEN);
	must(abi_refuse(p.client.fd, p.at_client, 3));
	expect_event(p.server.fd, p.at_server, SHMIPC_CAUSE_RETURNED);
	must(abi_give(p.server.fd, p.at_server, 3));
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_GIVEN);
	must(abi_take(p.client.fd, p.at_client, 3, &taken));
	assert_true(taken.length == 2 * ABI_PAGE);
	must(abi_map(p.client.fd, taken.offset, taken.length, PROT_READ | PROT_WRITE, &taken.map));
	assert_int_equal(taken.map[ABI_PAGE], 17);
	assert_int_equal(abi_touch(taken.map, true), 0);
	fails(abi_seg_info(p.server.fd, seg.handle, &info), ESTALE);
	must(abi_close(p.server.fd, seg.handle, 0));
	must(abi_close(p.client.fd, taken.handle, 0));
	abi_unmap(&taken);
	abi_unmap(&seg);
	abi_pair_close(&p);
}

static void test_names(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a;
	char meta[8] = {};

	(void)state;
	b.cookie = 0x1122334455667788;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	c.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_EXPECT_UID;
	c.expect_uid = getuid();
	c.meta = (uintptr_t)"connect";
	c.meta_len = 7;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	assert_int_equal(c.out_peer.pid, getpid());
	a = abi_accept_arg(b.out_handle);
	a.meta = (uintptr_t)meta;
	a.meta_len = sizeof(meta);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_int_equal(a.out_meta_len, 7);
	assert_string_equal(meta, "connect");
	assert_int_equal(a.out_peer.pid, getpid());
	must(abi_close(ep.fd, b.out_handle, 0));
	abi_ep_close(&ep);
}

/* By pointers and by the struct alone, and a wait of a time that has 64 bits. */
static void test_sync(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_notify n[2] = { { p.at_server, 1 }, { p.at_server, 4 } };
	struct shmipc_ready ev[2];
	struct shmipc_sync s = { .size = sizeof(s), .nr_notify = 2, .notify = (uintptr_t)n };

	(void)state;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_SYNC, &s));
	s = abi_wait_arg();
	s.max_events = 2;
	s.events = (uintptr_t)ev;
	s.wait_on = p.at_client;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_SYNC, &s));
	assert_int_equal(s.out_nr_events, 1);
	assert_int_equal(ev[0].causes, 5);
	assert_true(ev[0].cookie == 0xc0);
	must(abi_ring(p.server.fd, p.at_server, 2));
	expect_event(p.client.fd, p.at_client, 2);
	s = abi_wait_arg();
	s.timeout_ns = 5000000;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_SYNC, &s));
	assert_int_equal(s.out_flags, SHMIPC_SYNC_TIMED_OUT);
	must(abi_close(p.server.fd, p.at_server, SHMIPC_CLOSE_REVOKE));
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	abi_pair_close(&p);
}

static void test_close(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);

	(void)state;
	must(abi_close(p.server.fd, 0, 0));
	assert_int_equal(p.server.anchor->state, SHMIPC_STATE_DEAD);
	fails(abi_ring(p.server.fd, p.at_server, 1), ESTALE);
	abi_pair_close(&p);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_layout),
	abi_test(test_query),
	abi_test(test_segments),
	abi_test(test_give),
	abi_test(test_names),
	abi_test(test_sync),
	abi_test(test_close),
};

abi_main(tests)
