// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a peer is told of a handover: that it pauses, that it goes on, who it is then; what LIST shows
 * of it meanwhile; and that who did not ask hears of COMMIT and of death alone.
 */
#define _GNU_SOURCE
#include "handover.h"

#include <pthread.h>

#define ASKED	(ABI_CAUSES | SHMIPC_CAUSE_PEER_PAUSE)
#define NOBODY	65534

/* The client wants to know. */
static struct scene scene_asked(void)
{
	struct scene s = scene_adopted();

	must(abi_watch(s.p.client.fd, s.p.at_client, ASKED, 0xc0));
	return s;
}

/* LIST of one session. */
static struct shmipc_item look(int fd, uint32_t session)
{
	struct shmipc_item item;
	struct shmipc_list l = abi_list_arg(&item, 1);

	l.cursor = session;
	must(abi_ioctl(fd, SHMIPC_IOC_LIST, &l));
	assert_int_equal(l.out_nr, 1);
	assert_int_equal(item.handle, session);
	return item;
}

#define expect_peer(s, paused, pid, generation) \
	peer_is((s), (paused), (pid), (generation), __FILE__, __LINE__)
static void peer_is(struct scene *s, bool paused, uint32_t pid, uint32_t generation,
		    const char *file, int line)
{
	struct shmipc_item at = look(s->p.client.fd, s->p.at_client);
	uint32_t flags = SHMIPC_ITEM_CONNECTOR | (paused ? SHMIPC_ITEM_PEER_PAUSED : 0);

	if (at.flags != flags || at.peer.pid != pid || at.peer.generation != generation) {
		print_error("flags %#x, pid %u, generation %u\n", at.flags, at.peer.pid,
			    at.peer.generation);
		_fail(file, line);
	}
}

static void test_pause_then_commit(void **state)
{
	struct scene s = scene_asked();

	(void)state;
	expect_peer(&s, false, getpid(), 0);
	abi_expect_quiet(s.p.client.fd);
	must(abi_yield(s.p.server.fd));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_PAUSE);
	expect_peer(&s, true, getpid(), 0);
	must(abi_commit(s.next.fd));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	expect_peer(&s, false, getpid(), 1);
	/* Of the peer's own peer nothing has changed. */
	assert_int_equal(look(s.next.fd, s.p.at_server).peer.generation, 0);
	abi_expect_quiet(s.p.client.fd);
	scene_close(&s);
}

static void test_pause_then_thaw(void **state)
{
	struct scene s = scene_asked();

	(void)state;
	must(abi_yield(s.p.server.fd));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_PAUSE);
	must(abi_close(s.p.server.fd, s.handle, 0));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_PAUSE);
	expect_peer(&s, false, getpid(), 0);
	expect_held(&s);
	scene_close(&s);
}

/* By the deadline, which is a worker's, and with nothing taken meanwhile: one cause for both. */
static void test_pause_unseen(void **state)
{
	struct scene s = { .p = abi_pair_open(NAME), .by = abi_ep_open() };
	struct shmipc_offer a = abi_offer_arg();

	(void)state;
	a.timeout_ns = ABI_SECOND / 10;
	must(abi_ioctl(s.p.server.fd, SHMIPC_IOC_OFFER, &a));
	s.offer = a.out_fd;
	must(abi_watch(s.p.client.fd, s.p.at_client, ASKED, 0xc0));
	s.next = abi_ep_adopt(s.by.fd, s.offer);
	expect_event(s.p.server.fd, a.out_handle, SHMIPC_CAUSE_OFFER);
	map_view(&s);
	must(abi_yield(s.p.server.fd));
	abi_wait_hup(s.offer);
	/* Who sees that it is over finds all as it was, and the peers told. */
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_PAUSE);
	expect_peer(&s, false, getpid(), 0);
	expect_held(&s);
	scene_close(&s);
}

/* Nobody paused: there is nothing to tell. */
static void test_given_up_before(void **state)
{
	struct scene s = scene_asked();

	(void)state;
	must(abi_close(s.next.fd, 0, 0));
	abi_expect_quiet(s.p.client.fd);
	expect_held(&s);
	scene_close(&s);
}

/* What came before it was enabled does not come again; LIST tells. */
static void test_asked_late(void **state)
{
	struct scene s = scene_yielded();

	(void)state;
	abi_expect_quiet(s.p.client.fd);
	must(abi_watch(s.p.client.fd, s.p.at_client, ASKED, 0xc0));
	abi_expect_quiet(s.p.client.fd);
	expect_peer(&s, true, getpid(), 0);
	must(abi_watch(s.p.client.fd, s.p.at_client, 0, 0xc0));
	must(abi_commit(s.next.fd));
	abi_expect_quiet(s.p.client.fd);
	expect_peer(&s, false, getpid(), 1);
	scene_close(&s);
}

/* Of a session that the peer has closed nothing goes on, whatever its endpoint does. */
static void test_closed_before(void **state)
{
	struct scene s = scene_asked();

	(void)state;
	must(abi_close(s.p.server.fd, s.p.at_server, 0));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	must(abi_yield(s.p.server.fd));
	assert_int_equal(look(s.p.client.fd, s.p.at_client).flags,
			 SHMIPC_ITEM_CONNECTOR | SHMIPC_ITEM_PEER_CLOSED);
	must(abi_commit(s.next.fd));
	abi_expect_quiet(s.p.client.fd);
	scene_close(&s);
}

static void test_orphan(void **state)
{
	struct scene s = { .p = abi_pair_open("test:peer:other"), .by = abi_ep_open(), .offer = -1 };
	struct shmipc_bind b = abi_bind_arg(NAME);

	(void)state;
	b.orphan_ms = 60000;
	b.adopt = SHMIPC_ADOPT_EUID;
	must(abi_ioctl(s.p.server.fd, SHMIPC_IOC_BIND, &b));
	must(abi_watch(s.p.client.fd, s.p.at_client, ASKED, 0xc0));
	munmap((void *)s.p.server.anchor, ABI_PAGE);
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_LOST);
	expect_peer(&s, true, 0, 0);
	/* A successor that gives up changes nothing. */
	s.next.fd = abi_adopt_name(s.by.fd, NAME);
	must(s.next.fd);
	close(s.next.fd);
	abi_expect_quiet(s.p.client.fd);
	expect_peer(&s, true, 0, 0);
	s.next.fd = abi_adopt_name(s.by.fd, NAME);
	must(s.next.fd);
	s.next.anchor = abi_anchor(s.next.fd);
	must(abi_commit(s.next.fd));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	expect_peer(&s, false, getpid(), 1);
	/* An end is no pause. */
	must(abi_close(s.next.fd, 0, 0));
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(look(s.p.client.fd, s.p.at_client).flags,
			 SHMIPC_ITEM_CONNECTOR | SHMIPC_ITEM_PEER_CLOSED);
	close(s.p.server.fd);
	s.p.server = abi_ep_open();
	scene_close(&s);
}

/* The successor's credentials are told, to peers of old and to who comes. */
static void test_credentials(void **state)
{
	struct scene s = scene_offered(0);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(s.p.listener);
	struct shmipc_item item;

	(void)state;
	if (geteuid())
		abi_skip("only root can become another user");
	abi_ep_close(&s.by);
	assert_int_equal(setegid(NOBODY), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	s.by = abi_ep_open();
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setegid(0), 0);
	s.next = abi_ep_adopt(s.by.fd, s.offer);
	must(abi_yield(s.p.server.fd));
	assert_int_equal(look(s.p.client.fd, s.p.at_client).peer.uid, 0);
	must(abi_commit(s.next.fd));
	item = look(s.p.client.fd, s.p.at_client);
	assert_int_equal(item.peer.uid, NOBODY);
	assert_int_equal(item.peer.gid, NOBODY);
	assert_int_equal(item.peer.generation, 1);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(s.p.client.fd, SHMIPC_IOC_CONNECT, &c));
	assert_int_equal(c.out_peer.uid, NOBODY);
	assert_int_equal(c.out_peer.generation, 1);
	must(abi_ioctl(s.next.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_int_equal(a.out_peer.generation, 0);
	scene_close(&s);
}

static struct shmipc_connect connecting;

static void *connects(void *arg)
{
	return (void *)(intptr_t)abi_ioctl(((struct scene *)arg)->p.client.fd, SHMIPC_IOC_CONNECT,
					   &connecting);
}

/* Who accepts at last is whom a CONNECT names that waited meanwhile. */
static void test_connect_over_it(void **state)
{
	struct scene s = scene_adopted();
	struct shmipc_accept a = abi_accept_arg(s.p.listener);
	pthread_t thread;
	void *ret;

	(void)state;
	connecting = abi_connect_arg(NAME);
	assert_int_equal(pthread_create(&thread, NULL, connects, &s), 0);
	expect_event(s.p.server.fd, s.p.listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_yield(s.p.server.fd));
	must(abi_commit(s.next.fd));
	must(abi_ioctl(s.next.fd, SHMIPC_IOC_ACCEPT, &a));
	pthread_join(thread, &ret);
	assert_int_equal((intptr_t)ret, 0);
	assert_int_equal(connecting.out_peer.generation, 1);
	scene_close(&s);
}

/* ---- the cause comes after what it tells of ---- */

struct watcher {
	int fd;
	uint32_t session;
	int rounds;
	int early;	/* causes that came before */
};

static void *look_at_once(void *arg)
{
	struct watcher *w = arg;
	struct shmipc_ready ev;
	struct shmipc_item item;

	for (int i = 1; i <= w->rounds; i++) {
		do
			must(abi_event(w->fd, ABI_LIMIT, &ev));
		while (!(ev.causes & SHMIPC_CAUSE_PEER_CHANGED));
		item = look(w->fd, w->session);
		w->early += (int)item.peer.generation != i ||
			    item.flags & SHMIPC_ITEM_PEER_PAUSED;
		must(abi_ring(w->fd, w->session, 1));
	}
	return NULL;
}

static void test_told_after(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_ep by = abi_ep_open(), now = p.server, next;
	struct watcher w = { p.client.fd, p.at_client, abi_rounds(200), 0 };
	struct shmipc_ready ev;
	pthread_t thread;
	int offer;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, look_at_once, &w), 0);
	for (int i = 0; i < w.rounds; i++) {
		offer = abi_offer(now.fd, 0, NULL);
		must(offer);
		next = abi_ep_adopt(by.fd, offer);
		must(abi_yield(now.fd));
		must(abi_commit(next.fd));
		close(offer);
		abi_ep_close(&now);
		now = next;
		do
			must(abi_event(now.fd, ABI_LIMIT, &ev));
		while (!(ev.causes & 1));
	}
	pthread_join(thread, NULL);
	assert_int_equal(w.early, 0);
	abi_ep_close(&now);
	abi_ep_close(&by);
	p.server = abi_ep_open();
	abi_pair_close(&p);
}

/* ---- why it closed ---- */

static void test_reason(void **state)
{
	struct abi_pair p = abi_pair_open(NAME), q = abi_pair_open("test:peer:other");
	struct shmipc_close end = { .size = sizeof(end), .handle = p.at_server,
				    .reason = 0xdeadbeef };
	struct shmipc_item item = look(p.client.fd, p.at_client);

	(void)state;
	assert_int_equal(item.slot, 0);
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_CLOSE, &end));
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	item = look(p.client.fd, p.at_client);
	assert_int_equal(item.flags, SHMIPC_ITEM_CONNECTOR | SHMIPC_ITEM_PEER_CLOSED);
	assert_int_equal(item.slot, 0xdeadbeef);
	/* A death has none. */
	abi_ep_close(&q.server);
	expect_event(q.client.fd, q.at_client, SHMIPC_CAUSE_PEER_DIED);
	assert_int_equal(look(q.client.fd, q.at_client).slot, 0);
	q.server = abi_ep_open();
	abi_pair_close(&p);
	abi_pair_close(&q);
}

/* ---- LIST of one ---- */

static void test_look_at_one(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_item item;
	struct shmipc_list l = abi_list_arg(&item, 1);
	struct abi_seg seg;

	(void)state;
	must(abi_seg_create(p.client.fd, 1, &seg));
	assert_int_equal(look(p.client.fd, p.at_client).kind, SHMIPC_ITEM_SESSION);
	assert_int_equal(look(p.client.fd, seg.handle).kind, SHMIPC_ITEM_SEGMENT);
	/* Of one that is gone another is told, or nothing. */
	must(abi_close(p.client.fd, p.at_client, 0));
	l.cursor = p.at_client;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_LIST, &l));
	assert_true(!l.out_nr || item.handle != p.at_client);
	abi_pair_close(&p);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_pause_then_commit),
	abi_test(test_pause_then_thaw),
	abi_test(test_pause_unseen),
	abi_test(test_given_up_before),
	abi_test(test_asked_late),
	abi_test(test_closed_before),
	abi_test(test_orphan),
	abi_test(test_credentials),
	abi_test(test_connect_over_it),
	abi_test(test_told_after),
	abi_test(test_reason),
	abi_test(test_look_at_one),
};

abi_main(tests)
