/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* served.h - a session with a server in another process, which offers itself or dies */
#ifndef SHMIPC_TESTS_SERVED_H
#define SHMIPC_TESTS_SERVED_H

#include "abi.h"

#include <sys/socket.h>

#define NAME	"test:served"
#define NOBODY	65534
#define OTHER	65533
#define LONG_MS	30000	/* no test that works lets it pass */
#define RW	(PROT_READ | PROT_WRITE)

/**
 * struct server - a process that listens, accepts one session, and then is told to end
 * @orphan_ms: of its listener
 * @adopt: of its listener
 * @offer_adopt: of an offer that it makes then, unless 0
 * @keep: of that offer
 * @yields: when it is told first it grows, can't yield, and shrinks again, and can
 * @uid: it runs as
 * @pid: of the process
 * @to: it is told through
 * @from: it tells through; the offer comes that way, too
 * @offer: its file, in the test
 */
struct server {
	uint32_t orphan_ms, adopt, offer_adopt;
	bool keep, yields;
	uid_t uid;
	pid_t pid;
	int to[2], from[2];
	int offer;
};

static inline void send_fd(int socket, int fd)
{
	char byte = 'x', space[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		msg.msg_control = space;
		msg.msg_controllen = sizeof(space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	assert_int_equal(sendmsg(socket, &msg, 0), 1);
}

/* -1: none came along. */
static inline int receive_fd(int socket)
{
	char byte, space[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
			      .msg_controllen = sizeof(space) };
	struct pollfd p = { .fd = socket, .events = POLLIN };
	struct cmsghdr *c;
	int fd = -1;

	assert_int_equal(poll(&p, 1, ABI_LIMIT / 1000000), 1);
	assert_int_equal(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC), 1);
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static inline void become(uid_t uid)
{
	if (uid) {
		assert_int_equal(setgid(uid), 0);
		assert_int_equal(setuid(uid), 0);
	}
}

/* To 4 pages, of 5 that a user may have; the successor has 2 of its own. */
static inline void grow_and_yield(int fd)
{
	struct abi_seg more;

	must(abi_seg_create(fd, 2 * ABI_PAGE, &more));
	fails(abi_yield(fd), EDQUOT);
	must(abi_close(fd, more.handle, 0));
	must(abi_yield(fd));
}

static inline void serve(void *arg)
{
	struct server *s = arg;
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_offer o = abi_offer_arg();
	struct shmipc_accept a;
	struct shmipc_ready ev;
	struct abi_seg seg;
	struct abi_ep ep;

	become(s->uid);
	ep = abi_ep_open();
	seg = abi_seg_new(ep.fd, 2 * ABI_PAGE);
	b.orphan_ms = s->orphan_ms;
	b.adopt = s->adopt;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	send_fd(s->from[1], -1);
	must(abi_event(ep.fd, ABI_LIMIT, &ev));
	a = abi_accept_arg(b.out_handle);
	a.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	seg.map[3] = 33;
	must(abi_ring(ep.fd, a.out_session, 1));
	if (s->offer_adopt) {
		o.adopt = s->offer_adopt;
		o.flags = s->keep ? SHMIPC_OFFER_KEEP : 0;
		must(abi_ioctl(ep.fd, SHMIPC_IOC_OFFER, &o));
	}
	send_fd(s->from[1], s->offer_adopt ? o.out_fd : -1);
	abi_hear(s->to[0]);
	if (s->yields) {
		grow_and_yield(ep.fd);
		send_fd(s->from[1], -1);
		abi_hear(s->to[0]);
	}
	_exit(0);
}

/**
 * struct scene - the test's end of it: the peer
 * @ep: its endpoint
 * @session: with the server
 * @peer: the server's segment
 */
struct scene {
	struct server s;
	struct abi_ep ep;
	uint32_t session;
	struct abi_seg peer;
};

static inline struct scene scene_open(struct server s)
{
	struct scene sc = { .s = s, .ep = abi_ep_open() };
	struct shmipc_connect c = abi_connect_arg(NAME);

	assert_int_equal(pipe(sc.s.to), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sc.s.from), 0);
	sc.s.pid = abi_spawn(serve, &sc.s);
	receive_fd(sc.s.from[0]);
	must(abi_ioctl(sc.ep.fd, SHMIPC_IOC_CONNECT, &c));
	sc.session = c.out_session;
	sc.peer = abi_peer_map(sc.ep.fd, sc.session, 0);
	sc.s.offer = receive_fd(sc.s.from[0]);
	expect_event(sc.ep.fd, sc.session, 1);
	return sc;
}

static inline void server_ends(struct scene *sc)
{
	abi_tell(sc->s.to[1]);
	assert_int_equal(abi_reap(sc->s.pid), 0);
	sc->s.pid = 0;
}

static inline void server_killed(struct scene *sc)
{
	kill(sc->s.pid, SIGKILL);
	assert_int_equal(abi_reap(sc->s.pid), 128 + SIGKILL);
	sc->s.pid = 0;
}

static inline void scene_close(struct scene *sc)
{
	if (sc->s.pid)
		server_killed(sc);
	abi_unmap(&sc->peer);
	abi_ep_close(&sc->ep);
	close(sc->s.to[0]), close(sc->s.to[1]), close(sc->s.from[0]), close(sc->s.from[1]);
	if (sc->s.offer >= 0)
		close(sc->s.offer);
}

static inline struct server orphaned(uint32_t ms)
{
	return (struct server){ .orphan_ms = ms, .adopt = SHMIPC_ADOPT_EUID };
}

/* The peer is told that it has to wait, and that is all. */
static inline void expect_waiting(struct scene *sc)
{
	expect_event(sc->ep.fd, sc->session, SHMIPC_CAUSE_PEER_LOST);
	assert_int_equal(sc->peer.map[3], 33);
	must(abi_ring(sc->ep.fd, sc->session, 4));
	abi_expect_quiet(sc->ep.fd);
	assert_int_equal(abi_counter("orphans_live"), 1);
}

static inline struct abi_ep adopt_by_name(int by)
{
	struct abi_ep ep = { .fd = abi_adopt_name(by, NAME) };

	must(ep.fd);
	ep.anchor = abi_anchor(ep.fd);
	assert_non_null(ep.anchor);
	return ep;
}

static const struct shmipc_item *item_of(struct abi_ep *next, uint32_t kind,
					 struct shmipc_item items[16], uint32_t *flags)
{
	int n = abi_list(next->fd, 0, items, 16, flags), i;

	for (i = 0; i < n; i++) {
		if (items[i].kind == kind)
			return &items[i];
	}
	fail();
	return NULL;
}

/* Takes it over, and goes on where the dead one was. */
static inline void expect_adopted(struct scene *sc, struct abi_ep *next)
{
	struct shmipc_item items[16];
	uint32_t flags, session;
	const struct shmipc_item *seg;
	volatile uint8_t *map;

	session = item_of(next, SHMIPC_ITEM_SESSION, items, &flags)->handle;
	assert_int_equal(flags, SHMIPC_LIST_ORPHAN);
	seg = item_of(next, SHMIPC_ITEM_SEGMENT, items, NULL);
	must(abi_map(next->fd, seg->offset, seg->length, PROT_READ, &map));
	assert_int_equal(map[3], 33);
	assert_int_equal(abi_poll(next->fd, 0), POLLIN);
	must(abi_commit(next->fd));
	assert_ptr_equal(mmap((void *)map, seg->length, RW, MAP_SHARED | MAP_FIXED, next->fd,
			      seg->offset), (void *)map);
	map[3]++;
	assert_int_equal(sc->peer.map[3], 34);
	assert_int_equal(abi_counter("orphans_live"), 0);
	expect_event(sc->ep.fd, sc->session, SHMIPC_CAUSE_PEER_CHANGED);
	expect_event(next->fd, session, 4 | SHMIPC_CAUSE_PEER_CHANGED);
	must(abi_ring(next->fd, session, 8));
	expect_event(sc->ep.fd, sc->session, 8);
	munmap((void *)map, seg->length);
}

static inline void expect_expired(struct scene *sc)
{
	struct abi_ep by = abi_ep_open();

	expect_event(sc->ep.fd, sc->session, SHMIPC_CAUSE_PEER_DIED);
	fails(abi_adopt_name(by.fd, NAME), ENOENT);
	abi_ep_close(&by);
	/* The peer knows before all is given back. */
	while (abi_counter("orphans_live"))
		abi_sleep_ms(1);
}

static unsigned long old_max;

static inline int restore(void **state)
{
	abi_param("orphan_max_ms", old_max, NULL);
	return abi_nothing_left(state);
}

#define with_parameter(fn)	cmocka_unit_test_teardown(fn, restore)

#endif
