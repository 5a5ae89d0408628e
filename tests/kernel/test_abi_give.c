// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Ownership that is given up: a freeze can't be undone, a gift takes the right away at once, goes
 * to the taker or comes back, whatever ends, and is paid for by one user at any time.
 */
#define _GNU_SOURCE
#include "abi.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#define NAME	"test:give"
#define RW	(PROT_READ | PROT_WRITE)
#define SLOT	5
#define LENGTH	(3 * ABI_PAGE)

static int try_map(int fd, uint64_t offset, int prot)
{
	volatile uint8_t *map;
	int ret = abi_map(fd, offset, ABI_PAGE, prot, &map);

	if (!ret)
		munmap((void *)map, ABI_PAGE);
	return ret;
}

static int protect(struct abi_seg *seg, int prot)
{
	return mprotect((void *)seg->map, seg->length, prot) ? -errno : 0;
}

static uint32_t rights(int fd, uint32_t handle)
{
	struct shmipc_seg_info info;

	must(abi_seg_info(fd, handle, &info));
	return info.out_rights;
}

/* ---- freeze ---- */

/* Another process's way to write: for a debugger. */
static int write_by_proc(volatile uint8_t *at)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	int ret = pwrite(fd, "x", 1, (off_t)(uintptr_t)at) < 0 ? -errno : 0;

	close(fd);
	return ret;
}

/* The kernel's own way: it copies to user memory. */
static int write_by_read(volatile uint8_t *at)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int ret = read(fd, (void *)at, 1) < 0 ? -errno : 0;

	close(fd);
	return ret;
}

static void test_freeze(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, LENGTH), other = abi_seg_new(ep.fd, LENGTH), again;

	(void)state;
	/* The positive control: all of this works until then. */
	seg.map[0] = 42;
	must(protect(&seg, PROT_READ));
	must(protect(&seg, RW));
	assert_int_equal(abi_touch(seg.map + ABI_PAGE, true), 0);
	must(write_by_read(seg.map));
	seg.map[0] = 42;
	must(try_map(ep.fd, seg.offset, RW));

	must(abi_freeze(ep.fd, seg.handle));
	assert_int_equal(rights(ep.fd, seg.handle), SHMIPC_RIGHT_READ);
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	assert_int_equal(seg.map[0], 42);
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	assert_int_equal(abi_touch(seg.map + 2 * ABI_PAGE, true), SIGBUS);
	must(protect(&seg, PROT_READ));
	assert_int_equal(seg.map[ABI_PAGE], 1);
	must(protect(&seg, RW));
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	assert_int_equal(abi_touch(seg.map + ABI_PAGE, true), SIGBUS);
	fails(write_by_read(seg.map), EFAULT);
	assert_true(write_by_proc(seg.map) < 0);
	fails(try_map(ep.fd, seg.offset, RW), EACCES);
	again.length = seg.length;
	must(abi_map(ep.fd, seg.offset, seg.length, PROT_READ, &again.map));
	assert_int_equal(again.map[0], 42);
	fails(protect(&again, RW), EACCES);
	must(abi_freeze(ep.fd, seg.handle));
	assert_int_equal(seg.map[0], 42);
	/* Only that one. */
	assert_int_equal(abi_touch(other.map, true), 0);
	abi_unmap(&again), abi_unmap(&other), abi_unmap(&seg);
	abi_ep_close(&ep);
}

/* Mapped, and never touched before; and for reading at first. */
static void test_freeze_untouched(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, LENGTH), reader = seg;

	(void)state;
	must(abi_map(ep.fd, seg.offset, seg.length, PROT_READ, &reader.map));
	must(abi_freeze(ep.fd, seg.handle));
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	assert_int_equal(abi_touch(seg.map, false), 0);
	assert_int_equal(abi_touch(reader.map, false), 0);
	must(protect(&reader, RW));	/* it was mapped when that was allowed */
	assert_int_equal(abi_touch(reader.map, true), SIGBUS);
	assert_int_equal(abi_touch(reader.map, false), 0);
	abi_unmap(&reader), abi_unmap(&seg);
	abi_ep_close(&ep);
}

/* A peer reads on, and can be granted it. */
static void test_freeze_granted(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0), late, more;

	(void)state;
	p.server_seg.map[3] = 9;
	assert_int_equal(peer.map[3], 9);
	must(abi_freeze(p.server.fd, p.server_seg.handle));
	assert_int_equal(peer.map[3], 9);
	more = abi_seg_new(p.server.fd, 1);
	more.map[0] = 8;
	must(abi_freeze(p.server.fd, more.handle));
	must(abi_grant(p.server.fd, p.at_server, more.handle, SLOT));
	late = abi_peer_map(p.client.fd, p.at_client, SLOT);
	assert_int_equal(late.map[0], 8);
	abi_unmap(&late), abi_unmap(&more), abi_unmap(&peer);
	abi_pair_close(&p);
}

/* ---- give and take ---- */

/* A segment of the server, filled, granted and mapped at the client. */
struct gift {
	struct abi_pair p;
	struct abi_seg seg, peer, taken;
};

static struct gift gift_granted(void)
{
	struct gift g = { .p = abi_pair_open(NAME) };

	g.seg = abi_seg_new(g.p.server.fd, LENGTH);
	memset((void *)g.seg.map, 0x5a, LENGTH);
	must(abi_grant(g.p.server.fd, g.p.at_server, g.seg.handle, SLOT));
	g.peer = abi_peer_map(g.p.client.fd, g.p.at_client, SLOT);
	return g;
}

static void gift_give(struct gift *g)
{
	must(abi_give(g->p.server.fd, g->p.at_server, SLOT));
	expect_event(g->p.client.fd, g->p.at_client, SHMIPC_CAUSE_GIVEN);
}

static struct gift gift_given(void)
{
	struct gift g = gift_granted();

	gift_give(&g);
	return g;
}

static void gift_take(struct gift *g)
{
	must(abi_take(g->p.client.fd, g->p.at_client, SLOT, &g->taken));
	assert_true(g->taken.length == LENGTH && g->taken.offset == g->peer.offset);
	must(abi_map(g->p.client.fd, g->taken.offset, LENGTH, RW, &g->taken.map));
}

static void gift_close(struct gift *g)
{
	abi_unmap(&g->seg);
	abi_unmap(&g->peer);
	abi_unmap(&g->taken);
	abi_pair_close(&g->p);
}

/* It is the server's again, as before. */
static void expect_back(struct gift *g)
{
	assert_int_equal(rights(g->p.server.fd, g->seg.handle),
			 SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	assert_int_equal(abi_touch(g->seg.map, false), 0);
	assert_int_equal(g->seg.map[LENGTH - 1], 0x5a);
	assert_int_equal(abi_touch(g->seg.map + ABI_PAGE, true), 0);
	must(try_map(g->p.server.fd, g->seg.offset, RW));
	assert_int_equal(abi_counter("limbo_live"), 0);
}

static void test_limbo(void **state)
{
	struct gift g = gift_granted();
	struct shmipc_seg_info info;
	volatile uint8_t *again;

	(void)state;
	must(abi_peer_info(g.p.client.fd, g.p.at_client, SLOT, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ);
	gift_give(&g);
	assert_int_equal(abi_counter("limbo_live"), 1);
	assert_int_equal(abi_touch(g.seg.map, false), SIGBUS);
	assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	/* It may come back, so that it may be mapped; not touched. */
	must(abi_map(g.p.server.fd, g.seg.offset, LENGTH, RW, &again));
	assert_int_equal(abi_touch(again, false), SIGBUS);
	assert_int_equal(abi_touch(again, true), SIGBUS);
	fails(write_by_read(g.seg.map), EFAULT);
	assert_int_equal(rights(g.p.server.fd, g.seg.handle), 0);
	/* The peer reads on, and may not write yet. */
	assert_int_equal(g.peer.map[LENGTH - 1], 0x5a);
	fails(try_map(g.p.client.fd, g.peer.offset, RW), EACCES);
	must(abi_peer_info(g.p.client.fd, g.p.at_client, SLOT, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_TAKE);
	must(abi_refuse(g.p.client.fd, g.p.at_client, SLOT));
	assert_int_equal(again[LENGTH - 1], 0x5a);
	assert_int_equal(abi_touch(again, true), 0);
	must(munmap((void *)again, LENGTH));
	gift_close(&g);
}

static void test_take(void **state)
{
	struct gift g = gift_given();
	struct shmipc_seg_info info;
	struct abi_seg other;

	(void)state;
	gift_take(&g);
	assert_int_equal(abi_counter("limbo_live"), 0);
	assert_int_equal(rights(g.p.client.fd, g.taken.handle),
			 SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	assert_int_equal(g.taken.map[LENGTH - 1], 0x5a);
	g.taken.map[0] = 1;
	/* What it had mapped stayed mapped, for reading. */
	assert_int_equal(g.peer.map[0], 1);
	assert_int_equal(abi_touch(g.peer.map, true), SIGSEGV);
	/* The giver kept a pointer. */
	assert_int_equal(abi_touch(g.seg.map, false), SIGBUS);
	assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	assert_int_equal(g.taken.map[0], 1);
	fails(abi_seg_info(g.p.server.fd, g.seg.handle, &info), ESTALE);
	/* The slot is free, for each of them. */
	fails(abi_peer_info(g.p.client.fd, g.p.at_client, SLOT, &info), ENOENT);
	must(abi_seg_create(g.p.server.fd, 1, &other));
	must(abi_grant(g.p.server.fd, g.p.at_server, other.handle, SLOT));
	must(abi_grant(g.p.client.fd, g.p.at_client, g.taken.handle, SLOT));
	abi_expect_quiet(g.p.server.fd);
	abi_expect_quiet(g.p.client.fd);
	gift_close(&g);
}

/* The taker may do with it what an owner may: freeze it, grant it, give it back. */
static void test_give_back(void **state)
{
	struct gift g = gift_given();
	struct abi_seg back;
	int round;

	(void)state;
	gift_take(&g);
	for (round = 0; round < 3; round++) {
		must(abi_grant(g.p.client.fd, g.p.at_client, g.taken.handle, SLOT));
		g.taken.map[1] = round;
		must(abi_give(g.p.client.fd, g.p.at_client, SLOT));
		expect_event(g.p.server.fd, g.p.at_server, SHMIPC_CAUSE_GIVEN);
		must(abi_close(g.p.client.fd, g.taken.handle, 0));
		must(abi_take(g.p.server.fd, g.p.at_server, SLOT, &back));
		must(abi_map(g.p.server.fd, back.offset, LENGTH, RW, &back.map));
		assert_int_equal(back.map[1], round);
		abi_unmap(&g.taken);
		must(abi_grant(g.p.server.fd, g.p.at_server, back.handle, SLOT));
		abi_unmap(&g.peer);
		g.peer = abi_peer_map(g.p.client.fd, g.p.at_client, SLOT);
		must(abi_give(g.p.server.fd, g.p.at_server, SLOT));
		expect_event(g.p.client.fd, g.p.at_client, SHMIPC_CAUSE_GIVEN);
		gift_take(&g);
		assert_int_equal(g.taken.map[1], round);
		must(abi_close(g.p.server.fd, back.handle, 0));
		abi_unmap(&back);
	}
	gift_close(&g);
	assert_int_equal(abi_counter("limbo_live"), 0);
}

/* The pages are freed by their owner's CLOSE, though the giver still has its handle and mapping. */
static void test_stale_handle_keeps_nothing(void **state)
{
	struct gift g = gift_given();
	long pages;

	(void)state;
	gift_take(&g);
	pages = abi_counter("pages");
	must(abi_close(g.p.client.fd, g.taken.handle, 0));
	assert_int_equal(abi_counter("pages"), pages - 3);
	assert_int_equal(abi_touch(g.seg.map, false), SIGBUS);
	assert_int_equal(abi_touch(g.peer.map, false), SIGBUS);
	assert_int_equal(abi_touch(g.taken.map, false), SIGBUS);
	must(abi_close(g.p.server.fd, g.seg.handle, 0));
	fails(abi_close(g.p.server.fd, g.seg.handle, 0), ENOENT);
	gift_close(&g);
}

static void test_frozen(void **state)
{
	struct gift g = gift_granted();

	(void)state;
	must(abi_freeze(g.p.server.fd, g.seg.handle));
	gift_give(&g);
	assert_int_equal(abi_touch(g.seg.map, false), SIGBUS);
	/* Comes back as it was. */
	must(abi_refuse(g.p.client.fd, g.p.at_client, SLOT));
	expect_event(g.p.server.fd, g.p.at_server, SHMIPC_CAUSE_RETURNED);
	assert_int_equal(rights(g.p.server.fd, g.seg.handle), SHMIPC_RIGHT_READ);
	assert_int_equal(g.seg.map[0], 0x5a);
	assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	/* Who takes it may write. */
	gift_give(&g);
	gift_take(&g);
	g.taken.map[0] = 2;
	assert_int_equal(g.peer.map[0], 2);
	gift_close(&g);
}

/* ---- what is refused ---- */

static void test_errors(void **state)
{
	struct gift g = gift_granted();
	int fd = g.p.server.fd;
	struct abi_seg seg;

	(void)state;
	fails(abi_give(fd, g.p.at_server, SLOT + 1), ENOENT);
	fails(abi_give(fd, g.p.at_server, SHMIPC_SLOTS_MAX), EINVAL);
	fails(abi_give(fd, g.p.at_server, ~0U), EINVAL);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT, &seg), ENOENT);	/* only granted */
	fails(abi_refuse(g.p.client.fd, g.p.at_client, SLOT), ENOENT);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT + 1, &seg), ENOENT);
	fails(abi_take(g.p.client.fd, g.p.at_client, SHMIPC_SLOTS_MAX, &seg), EINVAL);
	/* A slot of the other direction. */
	fails(abi_give(g.p.client.fd, g.p.at_client, SLOT), ENOENT);
	gift_give(&g);
	fails(abi_take(fd, g.p.at_server, SLOT, &seg), ENOENT);
	fails(abi_give(fd, g.p.at_server, SLOT), EBUSY);
	fails(abi_freeze(fd, g.seg.handle), EBUSY);
	fails(abi_grant(fd, g.p.at_server, g.seg.handle, SLOT + 1), EBUSY);
	gift_take(&g);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT, &seg), ENOENT);
	fails(abi_refuse(g.p.client.fd, g.p.at_client, SLOT), ENOENT);
	fails(abi_give(fd, g.p.at_server, SLOT), ENOENT);
	fails(abi_revoke(fd, g.p.at_server, SLOT), ENOENT);
	fails(abi_freeze(fd, g.seg.handle), ESTALE);
	fails(abi_grant(fd, g.p.at_server, g.seg.handle, SLOT), ESTALE);
	gift_close(&g);
}

/* Every request that takes a segment: while it is given, and when it was taken. */
static void expect_unusable(struct gift *g, int err)
{
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(g->p.listener);

	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = g->seg.handle;
	fails(abi_ioctl(g->p.server.fd, SHMIPC_IOC_CONNECT, &c), err);
	c.segment = 0;
	must(abi_ioctl(g->p.client.fd, SHMIPC_IOC_CONNECT, &c));
	a.segment = g->seg.handle;
	fails(abi_ioctl(g->p.server.fd, SHMIPC_IOC_ACCEPT, &a), err);
	must(abi_close(g->p.client.fd, c.out_session, 0));
	fails(abi_grant(g->p.server.fd, g->p.at_server, g->seg.handle, 9), err);
	fails(abi_freeze(g->p.server.fd, g->seg.handle), err);
}

static void test_unusable(void **state)
{
	struct gift g = gift_given();

	(void)state;
	expect_unusable(&g, EBUSY);
	gift_take(&g);
	expect_unusable(&g, ESTALE);
	gift_close(&g);
}

/* Another grant: in a second session, or of a CONNECT that waits. */
static void test_other_grants(void **state)
{
	struct gift g = gift_granted();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(g.p.listener);

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = g.seg.handle;
	must(abi_ioctl(g.p.server.fd, SHMIPC_IOC_CONNECT, &c));
	fails(abi_give(g.p.server.fd, g.p.at_server, SLOT), EBUSY);
	must(abi_ioctl(g.p.server.fd, SHMIPC_IOC_ACCEPT, &a));
	fails(abi_give(g.p.server.fd, g.p.at_server, SLOT), EBUSY);
	fails(abi_give(g.p.server.fd, c.out_session, 0), EBUSY);
	assert_int_equal(abi_touch(g.seg.map, true), 0);
	must(abi_revoke(g.p.server.fd, c.out_session, 0));
	must(abi_give(g.p.server.fd, g.p.at_server, SLOT));
	gift_close(&g);
}

static void test_not_connected(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct abi_seg seg;

	(void)state;
	abi_bind(ep.fd, NAME);
	must(abi_seg_create(ep.fd, 1, &seg));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	fails(abi_give(ep.fd, c.out_session, 0), ENOTCONN);
	fails(abi_take(ep.fd, c.out_session, 0, &seg), ENOTCONN);
	abi_ep_close(&ep);
}

static void test_closed(void **state)
{
	struct gift g = gift_granted();

	(void)state;
	must(abi_close(g.p.server.fd, g.seg.handle, 0));
	fails(abi_give(g.p.server.fd, g.p.at_server, SLOT), ENOENT);
	must(abi_close(g.p.client.fd, g.p.at_client, 0));
	fails(abi_give(g.p.server.fd, g.p.at_server, SLOT), EPIPE);
	must(abi_close(g.p.server.fd, g.p.at_server, 0));
	fails(abi_give(g.p.server.fd, g.p.at_server, SLOT), ENOENT);
	gift_close(&g);
}

/* ---- it comes back ---- */

static void test_refuse(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_refuse(g.p.client.fd, g.p.at_client, SLOT));
	expect_event(g.p.server.fd, g.p.at_server, SHMIPC_CAUSE_RETURNED);
	expect_back(&g);
	/* The grant is as it was, and it can be given again. */
	assert_int_equal(g.peer.map[ABI_PAGE], 1);
	fails(abi_refuse(g.p.client.fd, g.p.at_client, SLOT), ENOENT);
	gift_give(&g);
	assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	gift_take(&g);
	gift_close(&g);
}

static void test_revoke(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_revoke(g.p.server.fd, g.p.at_server, SLOT));
	expect_event(g.p.server.fd, g.p.at_server, SHMIPC_CAUSE_RETURNED);
	expect_back(&g);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT, &g.taken), ENOENT);
	assert_int_equal(abi_touch(g.peer.map, false), SIGBUS);
	gift_close(&g);
}

static void test_receiver_closes(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.client.fd, g.p.at_client, 0));
	expect_event(g.p.server.fd, g.p.at_server,
		     SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_RETURNED);
	expect_back(&g);
	gift_close(&g);
}

static void test_receiver_ends(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.client.fd, 0, 0));
	expect_event(g.p.server.fd, g.p.at_server,
		     SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_RETURNED);
	expect_back(&g);
	gift_close(&g);
}

static void test_giver_closes_revoking(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.server.fd, g.p.at_server, SHMIPC_CLOSE_REVOKE));
	expect_back(&g);
	expect_event(g.p.client.fd, g.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT, &g.taken), ENOENT);
	gift_close(&g);
}

/* A receiver of its own process, which is killed while it could take. */
struct receiver {
	int ready[2];
	bool takes;
};

static void receive(void *arg)
{
	struct receiver *r = arg;
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_seg_info info;
	struct abi_seg taken;

	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	expect_event(ep.fd, c.out_session, SHMIPC_CAUSE_GIVEN);
	must(abi_peer_info(ep.fd, c.out_session, SLOT, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_TAKE);
	if (r->takes) {
		must(abi_take(ep.fd, c.out_session, SLOT, &taken));
		must(abi_map(ep.fd, taken.offset, taken.length, RW, &taken.map));
		taken.map[0] = 7;
	}
	abi_tell(r->ready[1]);
	pause();
}

static void receiver_killed(bool takes)
{
	struct receiver r = { .takes = takes };
	struct gift g = {};
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct shmipc_seg_info info;
	pid_t pid;

	assert_int_equal(pipe(r.ready), 0);
	pid = abi_spawn(receive, &r);
	expect_event(ep.fd, listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	g.p.server = ep;
	g.seg = abi_seg_new(ep.fd, LENGTH);
	memset((void *)g.seg.map, 0x5a, LENGTH);
	must(abi_grant(ep.fd, a.out_session, g.seg.handle, SLOT));
	must(abi_give(ep.fd, a.out_session, SLOT));
	abi_hear(r.ready[0]);
	assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	kill(pid, SIGKILL);
	abi_reap(pid);
	if (takes) {
		expect_event(ep.fd, a.out_session, SHMIPC_CAUSE_PEER_DIED);
		fails(abi_seg_info(ep.fd, g.seg.handle, &info), ESTALE);
		assert_int_equal(abi_touch(g.seg.map, true), SIGBUS);
	} else {
		struct shmipc_ready ev;
		uint32_t causes = 0;

		/* Two causes, which may come apart. */
		while (causes != (SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_RETURNED)) {
			must(abi_event(ep.fd, ABI_LIMIT, &ev));
			causes |= ev.causes;
		}
		expect_back(&g);
	}
	close(r.ready[0]), close(r.ready[1]);
	abi_unmap(&g.seg);
	abi_ep_close(&ep);
}

static void test_receiver_killed(void **state)
{
	(void)state;
	receiver_killed(false);
}

static void test_owner_killed(void **state)
{
	(void)state;
	receiver_killed(true);
}

/* ---- the giver goes ---- */

static void expect_takes(struct gift *g)
{
	assert_int_equal(abi_counter("limbo_live"), 1);
	assert_int_equal(g->peer.map[LENGTH - 1], 0x5a);
	gift_take(g);
	g->taken.map[0] = 3;
	assert_int_equal(g->peer.map[0], 3);
	assert_int_equal(abi_counter("limbo_live"), 0);
}

static void test_giver_closes_segment(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.server.fd, g.seg.handle, 0));
	expect_takes(&g);
	gift_close(&g);
}

static void test_giver_closes_session(void **state)
{
	struct gift g = gift_given();
	struct shmipc_seg_info info;

	(void)state;
	must(abi_close(g.p.server.fd, g.p.at_server, 0));
	expect_event(g.p.client.fd, g.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	expect_takes(&g);
	fails(abi_seg_info(g.p.server.fd, g.seg.handle, &info), ESTALE);
	gift_close(&g);
}

static void test_giver_ends(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.server.fd, 0, 0));
	expect_event(g.p.client.fd, g.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(abi_touch(g.seg.map, false), SIGBUS);
	expect_takes(&g);
	gift_close(&g);
}

/* Nobody is left to have it back: it stays granted, for reading, and goes with the session. */
static void test_nobody_left(void **state)
{
	struct gift g = gift_given();
	long pages = abi_counter("pages");

	(void)state;
	must(abi_close(g.p.server.fd, g.seg.handle, 0));
	must(abi_refuse(g.p.client.fd, g.p.at_client, SLOT));
	assert_int_equal(abi_counter("limbo_live"), 0);
	fails(abi_take(g.p.client.fd, g.p.at_client, SLOT, &g.taken), ENOENT);
	assert_int_equal(g.peer.map[0], 0x5a);
	abi_expect_quiet(g.p.server.fd);
	must(abi_close(g.p.client.fd, g.p.at_client, 0));
	assert_int_equal(abi_counter("pages"), pages - 3);
	gift_close(&g);
}

/* Both gone without a TAKE. */
static void test_never_taken(void **state)
{
	struct gift g = gift_given();

	(void)state;
	must(abi_close(g.p.server.fd, 0, 0));
	must(abi_close(g.p.client.fd, 0, 0));
	assert_int_equal(abi_counter("limbo_live"), 0);
	assert_int_equal(abi_counter("pages"), 0);
	gift_close(&g);
}

/* ---- pins ---- */

static int splice_in(volatile uint8_t *page)
{
	struct iovec iov = { (void *)page, ABI_PAGE };
	int fd[2], ret;

	assert_int_equal(pipe(fd), 0);
	ret = vmsplice(fd[1], &iov, 1, 0) < 0 ? -errno : 0;
	close(fd[0]), close(fd[1]);
	return ret;
}

/*
 * A giver who tries to keep a way to write: io_uring's fixed buffers, into which the kernel would
 * read at any later time.
 */
static int ring_register(volatile uint8_t *page)
{
	uint8_t params[120] = {};
	struct iovec iov = { (void *)page, ABI_PAGE };
	int ring = syscall(SYS_io_uring_setup, 1, params), ret;

	if (ring < 0)
		return -errno;
	ret = syscall(SYS_io_uring_register, ring, 0 /* IORING_REGISTER_BUFFERS */, &iov, 1);
	ret = ret < 0 ? -errno : 0;
	close(ring);
	return ret;
}

static void test_pins(void **state)
{
	volatile uint8_t *anon = mmap(NULL, ABI_PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct gift g = gift_granted();

	(void)state;
	must(splice_in(anon));
	must(ring_register(anon));
	fails(splice_in(g.seg.map), EFAULT);
	fails(ring_register(g.seg.map), EFAULT);
	gift_give(&g);
	fails(splice_in(g.seg.map), EFAULT);
	gift_take(&g);
	fails(ring_register(g.taken.map), EFAULT);
	assert_int_equal(g.taken.map[0], 0x5a);
	munmap((void *)anon, ABI_PAGE);
	gift_close(&g);
}

/* ---- zeros instead of a signal ---- */

/* Who gave away what it had taken finds zeros where it mapped the grant, and then its own again. */
static void test_zero(void **state)
{
	struct abi_ep server = abi_ep_open(), client = abi_ep_open();
	uint32_t listener = abi_bind(server.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg = abi_seg_new(server.fd, LENGTH), peer, taken;

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_ZERO_REVOKED;
	must(abi_ioctl(client.fd, SHMIPC_IOC_CONNECT, &c));
	a.segment = seg.handle;
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	peer = abi_peer_map(client.fd, c.out_session, 0);
	seg.map[0] = 0x77;
	must(abi_give(server.fd, a.out_session, 0));
	must(abi_take(client.fd, c.out_session, 0, &taken));
	must(abi_map(client.fd, taken.offset, taken.length, RW, &taken.map));
	taken.map[1] = 0x78;
	must(abi_grant(client.fd, c.out_session, taken.handle, 3));
	must(abi_give(client.fd, c.out_session, 3));
	/* The grant's mapping has zeros, the owner's a signal: neither can be written. */
	assert_int_equal(peer.map[0], 0);
	assert_int_equal(abi_touch(taken.map, false), SIGBUS);
	assert_int_equal(abi_touch(taken.map, true), SIGBUS);
	must(abi_refuse(server.fd, a.out_session, 3));
	assert_int_equal(peer.map[0], 0x77);
	assert_int_equal(peer.map[1], 0x78);
	assert_int_equal(abi_touch(taken.map, true), 0);
	abi_unmap(&taken), abi_unmap(&peer), abi_unmap(&seg);
	abi_ep_close(&client);
	abi_ep_close(&server);
}

/* ---- both ends are one ---- */

static void test_to_itself(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg = abi_seg_new(ep.fd, LENGTH), taken;
	struct shmipc_seg_info info;

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	seg.map[0] = 5;
	must(abi_give(ep.fd, c.out_session, 0));
	assert_int_equal(abi_touch(seg.map, true), SIGBUS);
	must(abi_take(ep.fd, a.out_session, 0, &taken));
	assert_int_not_equal(taken.handle, seg.handle);
	must(abi_map(ep.fd, taken.offset, LENGTH, RW, &taken.map));
	assert_int_equal(taken.map[0], 5);
	taken.map[0] = 6;
	assert_int_equal(abi_touch(seg.map, false), SIGBUS);
	fails(abi_seg_info(ep.fd, seg.handle, &info), ESTALE);
	assert_int_equal(abi_counter("pages"), 3);
	abi_unmap(&taken), abi_unmap(&seg);
	abi_ep_close(&ep);
}

/* ---- who pays ---- */

/* An endpoint of another user: credentials count at the open. */
static struct abi_ep open_as(uid_t uid)
{
	struct abi_ep ep;

	assert_int_equal(seteuid(uid), 0);
	ep = abi_ep_open();
	assert_int_equal(seteuid(0), 0);
	return ep;
}

static long user_pages(const struct abi_ep *ep)
{
	struct shmipc_query q;

	must(abi_query(ep->fd, &q));
	return q.out_user_pages;
}

struct payers {
	struct abi_ep giver, taker;
	struct abi_seg seg;
	uint32_t at_giver, at_taker;
};

static struct payers payers_open(uid_t giver, uid_t taker)
{
	struct payers p = { .giver = open_as(giver), .taker = open_as(taker) };
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(abi_bind(p.giver.fd, NAME));

	must(abi_seg_create(p.giver.fd, LENGTH, &p.seg));
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(p.taker.fd, SHMIPC_IOC_CONNECT, &c));
	a.segment = p.seg.handle;
	must(abi_ioctl(p.giver.fd, SHMIPC_IOC_ACCEPT, &a));
	p.at_taker = c.out_session;
	p.at_giver = a.out_session;
	must(abi_give(p.giver.fd, p.at_giver, 0));
	return p;
}

static void payers_close(struct payers *p)
{
	abi_ep_close(&p->giver);
	abi_ep_close(&p->taker);
}

static void expect_pages(struct payers *p, long giver, long taker)
{
	assert_int_equal(user_pages(&p->giver), giver);
	assert_int_equal(user_pages(&p->taker), taker);
}

static void test_charge(void **state)
{
	struct payers p = payers_open(1001, 1002);
	struct abi_seg taken;

	(void)state;
	expect_pages(&p, 3, 0);
	must(abi_take(p.taker.fd, p.at_taker, 0, &taken));
	expect_pages(&p, 0, 3);
	assert_int_equal(abi_counter("pages"), 3);
	must(abi_close(p.giver.fd, p.seg.handle, 0));
	expect_pages(&p, 0, 3);
	must(abi_close(p.taker.fd, taken.handle, 0));
	expect_pages(&p, 0, 0);
	assert_int_equal(abi_counter("pages"), 0);
	payers_close(&p);
}

/* At the cap of a user, the same user's segment is not counted twice; another's is too much. */
static void test_charge_cap(void **state)
{
	unsigned long old;
	struct payers p;
	struct abi_seg taken, more;
	pid_t pid;

	(void)state;
	abi_param("user_pages_max", 4, &old);
	p = payers_open(1001, 1001);
	expect_pages(&p, 3, 3);
	must(abi_take(p.taker.fd, p.at_taker, 0, &taken));
	expect_pages(&p, 3, 3);
	payers_close(&p);
	expect_alive(0);
	/* Of who has the capability only the endpoint's user counts, and it may be exceeded. */
	pid = abi_fork();
	if (!pid) {
		p = payers_open(1001, 1002);
		must(abi_seg_create(p.taker.fd, 2 * ABI_PAGE, &more));
		assert_int_equal(seteuid(1002), 0);
		fails(abi_take(p.taker.fd, p.at_taker, 0, &taken), EDQUOT);
		expect_pages(&p, 3, 2);
		/* It is still there to be taken. */
		must(abi_close(p.taker.fd, more.handle, 0));
		must(abi_take(p.taker.fd, p.at_taker, 0, &taken));
		expect_pages(&p, 0, 3);
		assert_int_equal(seteuid(0), 0);
		must(abi_seg_create(p.giver.fd, 3 * ABI_PAGE, &more));
		must(abi_grant(p.giver.fd, p.at_giver, more.handle, 2));
		must(abi_give(p.giver.fd, p.at_giver, 2));
		must(abi_take(p.taker.fd, p.at_taker, 2, &taken));
		expect_pages(&p, 0, 6);
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
	abi_param("user_pages_max", old, NULL);
}

/* The giver dies: who has it mapped pays; who has not, when he takes it. */
static void test_charge_orphan(void **state)
{
	struct payers p = payers_open(1001, 1002);
	struct abi_ep other = open_as(1001);
	struct abi_seg taken;

	(void)state;
	must(abi_close(p.giver.fd, 0, 0));
	assert_int_equal(user_pages(&other), 3);
	assert_int_equal(user_pages(&p.taker), 0);
	must(abi_take(p.taker.fd, p.at_taker, 0, &taken));
	assert_int_equal(user_pages(&other), 0);
	assert_int_equal(user_pages(&p.taker), 3);
	abi_ep_close(&other);
	payers_close(&p);
}

static long fdinfo(int fd, const char *name)
{
	char path[64], line[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)))
			value = atol(line + strlen(name));
	}
	fclose(f);
	return value;
}

static void test_fdinfo(void **state)
{
	struct payers p = payers_open(0, 0);
	struct abi_seg taken;

	(void)state;
	assert_int_equal(fdinfo(p.giver.fd, "shmipc-limbo:"), 1);
	assert_int_equal(fdinfo(p.giver.fd, "shmipc-pages:"), 3);
	must(abi_take(p.taker.fd, p.at_taker, 0, &taken));
	assert_int_equal(fdinfo(p.giver.fd, "shmipc-limbo:"), 0);
	assert_int_equal(fdinfo(p.giver.fd, "shmipc-pages:"), 0);
	assert_int_equal(fdinfo(p.giver.fd, "shmipc-segments:"), 1);
	assert_int_equal(fdinfo(p.taker.fd, "shmipc-pages:"), 3);
	payers_close(&p);
}

static void test_feature(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query q;

	(void)state;
	must(abi_query(ep.fd, &q));
	assert_true(q.out_features & SHMIPC_FEATURE_GIVE);
	abi_ep_close(&ep);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_feature),
	abi_test(test_freeze),
	abi_test(test_freeze_untouched),
	abi_test(test_freeze_granted),
	abi_test(test_limbo),
	abi_test(test_take),
	abi_test(test_give_back),
	abi_test(test_stale_handle_keeps_nothing),
	abi_test(test_frozen),
	abi_test(test_errors),
	abi_test(test_unusable),
	abi_test(test_other_grants),
	abi_test(test_not_connected),
	abi_test(test_closed),
	abi_test(test_refuse),
	abi_test(test_revoke),
	abi_test(test_receiver_closes),
	abi_test(test_receiver_ends),
	abi_test(test_giver_closes_revoking),
	abi_test(test_receiver_killed),
	abi_test(test_owner_killed),
	abi_test(test_giver_closes_segment),
	abi_test(test_giver_closes_session),
	abi_test(test_giver_ends),
	abi_test(test_nobody_left),
	abi_test(test_never_taken),
	abi_test(test_pins),
	abi_test(test_zero),
	abi_test(test_to_itself),
	abi_test(test_charge),
	abi_test(test_charge_cap),
	abi_test(test_charge_orphan),
	abi_test(test_fdinfo),
};

abi_main(tests)
