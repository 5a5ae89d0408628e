// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Who may adopt, by file or by name; who pays then; and whom a change of uid costs its session. */
#define _GNU_SOURCE
#include "served.h"

/* ---- who may ---- */

struct attempt {
	struct scene *sc;
	uid_t uid;
	bool by_name;
	int expected;
};

static void attempt(void *arg)
{
	struct attempt *a = arg;
	struct abi_ep by;
	int ret;

	become(a->uid);
	by = abi_ep_open();
	ret = a->by_name ? abi_adopt_name(by.fd, NAME) : abi_adopt(by.fd, a->sc->s.offer);
	if (a->expected)
		fails(ret, a->expected);
	else
		must(ret);
	_exit(0);
}

/* In a process of its own, as @uid; what it adopts it gives up by ending. */
static void try_as(struct scene *sc, uid_t uid, bool by_name, int expected)
{
	struct attempt a = { sc, uid, by_name, expected };

	assert_int_equal(abi_reap(abi_spawn(attempt, &a)), 0);
}

static void test_rights_of_orphans(void **state)
{
	struct scene sc = scene_open((struct server){ .orphan_ms = LONG_MS, .uid = NOBODY,
						      .adopt = SHMIPC_ADOPT_EUID });

	(void)state;
	/* Held, and not offered. */
	try_as(&sc, NOBODY, true, EBUSY);
	try_as(&sc, OTHER, true, EACCES);
	server_killed(&sc);
	expect_waiting(&sc);
	try_as(&sc, OTHER, true, EACCES);
	try_as(&sc, NOBODY, true, 0);
	try_as(&sc, 0, true, 0);
	abi_param("orphan_max_ms", 0, &old_max);
	expect_expired(&sc);
	scene_close(&sc);
}

static void bind_as_other(void *arg)
{
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct abi_ep ep;

	(void)arg;
	become(OTHER);
	ep = abi_ep_open();
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b), EADDRINUSE);
	b.flags = SHMIPC_BIND_FRESH;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b), EADDRINUSE);
	_exit(0);
}

/* By default nobody may, and an orphan of that kind is there for root alone. */
static void test_nobody_may(void **state)
{
	struct scene sc = scene_open((struct server){ .orphan_ms = LONG_MS, .uid = NOBODY });

	(void)state;
	server_killed(&sc);
	expect_waiting(&sc);
	try_as(&sc, NOBODY, true, EACCES);
	assert_int_equal(abi_reap(abi_spawn(bind_as_other, NULL)), 0);
	try_as(&sc, 0, true, 0);
	abi_param("orphan_max_ms", 0, &old_max);
	expect_expired(&sc);
	scene_close(&sc);
}

/* An offer that NOBODY has made, adopted by what succeeds in the end. */
static void test_rights_by_file(void **state)
{
	struct scene sc = scene_open((struct server){ .uid = NOBODY,
						      .offer_adopt = SHMIPC_ADOPT_HOLDER });

	(void)state;
	try_as(&sc, OTHER, true, EACCES);
	try_as(&sc, NOBODY, true, EACCES);
	assert_int_equal(abi_poll(sc.s.offer, 0), 0);
	try_as(&sc, OTHER, false, 0);
	abi_wait_hup(sc.s.offer);
	scene_close(&sc);
}

static void test_rights_by_uid(void **state)
{
	struct server s = { .uid = NOBODY, .offer_adopt = SHMIPC_ADOPT_EUID };
	struct scene sc;
	int by_name;

	(void)state;
	for (by_name = 0; by_name < 2; by_name++) {
		sc = scene_open(s);
		try_as(&sc, OTHER, true, EACCES);
		try_as(&sc, OTHER, false, EACCES);
		assert_int_equal(abi_poll(sc.s.offer, 0), 0);
		try_as(&sc, NOBODY, by_name, 0);
		abi_wait_hup(sc.s.offer);
		scene_close(&sc);
	}
}

/* ---- who pays ---- */

static uint64_t pages_of(uid_t uid)
{
	int pipes[2];
	uint64_t pages = 0;
	struct shmipc_query q;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = abi_fork();
	if (!pid) {
		become(uid);
		must(abi_query(abi_open_raw(), &q));
		_exit(write(pipes[1], &q.out_user_pages, 8) != 8);
	}
	assert_int_equal(abi_reap(pid), 0);
	assert_int_equal(read(pipes[0], &pages, 8), 8);
	close(pipes[0]);
	close(pipes[1]);
	return pages;
}

static void as_other(struct scene *sc, void (*fn)(void *))
{
	assert_int_equal(abi_reap(abi_spawn(fn, sc)), 0);
}

/* The holder was NOBODY's, with 2 pages. */
static void other_takes(void *arg)
{
	struct scene *sc = arg;
	struct abi_ep by, next;
	struct shmipc_query q;

	become(OTHER);
	by = abi_ep_open();
	next = abi_ep_adopt(by.fd, sc->s.offer);
	must(abi_query(by.fd, &q));
	assert_int_equal(q.out_user_pages, 2);
	must(abi_commit(next.fd));
	must(abi_query(by.fd, &q));
	assert_int_equal(q.out_user_pages, 2);
	/* The test looks now who pays. */
	send_fd(sc->s.from[1], -1);
	abi_hear(sc->s.to[0]);
	_exit(0);
}

static void test_charge_moves(void **state)
{
	struct scene sc = scene_open((struct server){ .uid = NOBODY, .keep = true,
						      .offer_adopt = SHMIPC_ADOPT_HOLDER });
	struct shmipc_item items[16];
	pid_t pid;

	(void)state;
	assert_int_equal(pages_of(NOBODY), 2);
	assert_int_equal(pages_of(OTHER), 0);
	server_ends(&sc);
	expect_waiting(&sc);
	pid = abi_spawn(other_takes, &sc);
	receive_fd(sc.s.from[0]);
	assert_int_equal(pages_of(NOBODY), 0);
	assert_int_equal(pages_of(OTHER), 2);
	/* The peer is told, and can ask who it is now. */
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_CHANGED);
	assert_int_equal(item_of(&sc.ep, SHMIPC_ITEM_SESSION, items, NULL)->peer.uid, OTHER);
	assert_int_equal(items[0].peer.pid, pid);
	abi_tell(sc.s.to[1]);
	assert_int_equal(abi_reap(pid), 0);
	expect_event(sc.ep.fd, sc.session, SHMIPC_CAUSE_PEER_DIED);
	scene_close(&sc);
}

static void other_is_over(void *arg)
{
	struct scene *sc = arg;
	struct abi_ep by;
	struct abi_seg seg;

	become(OTHER);
	by = abi_ep_open();
	must(abi_seg_create(by.fd, 2 * ABI_PAGE, &seg));
	fails(abi_adopt(by.fd, sc->s.offer), EDQUOT);
	must(abi_close(by.fd, seg.handle, 0));
	must(abi_seg_create(by.fd, ABI_PAGE, &seg));
	must(abi_adopt(by.fd, sc->s.offer));
	/* It is charged from now on, whatever becomes of it. */
	fails(abi_seg_create(by.fd, 1, &seg), EDQUOT);
	_exit(0);
}

static unsigned long old_pages;

static int restore_pages(void **state)
{
	abi_param("user_pages_max", old_pages, NULL);
	return abi_nothing_left(state);
}

/* Over a cap nothing has moved; and what was reserved is given back. */
static void test_over_the_cap(void **state)
{
	struct scene sc = scene_open((struct server){ .uid = NOBODY,
						      .offer_adopt = SHMIPC_ADOPT_HOLDER });

	(void)state;
	abi_param("user_pages_max", 3, &old_pages);
	as_other(&sc, other_is_over);
	abi_wait_hup(sc.s.offer);
	assert_int_equal(pages_of(OTHER), 0);
	assert_int_equal(pages_of(NOBODY), 2);
	scene_close(&sc);
}

/* The same user at its cap: it pays once. */
static void same_user(void *arg)
{
	struct abi_pair p;
	struct abi_ep next;
	struct abi_seg more;
	int offer;

	(void)arg;
	become(NOBODY);
	p = abi_pair_open(NAME);
	must(abi_seg_create(p.server.fd, 3 * ABI_PAGE, &more));
	fails(abi_seg_create(p.server.fd, 1, &more), EDQUOT);
	offer = abi_offer(p.server.fd, 0, NULL);
	must(offer);
	next = abi_ep_adopt(p.client.fd, offer);
	must(abi_yield(p.server.fd));
	must(abi_commit(next.fd));
	fails(abi_seg_create(next.fd, 1, &more), EDQUOT);
	must(abi_close(next.fd, p.server_seg.handle, 0));
	fails(abi_seg_create(next.fd, 1, &more), EDQUOT);
	_exit(0);
}

static void test_same_user_pays_once(void **state)
{
	(void)state;
	abi_param("user_pages_max", 8, &old_pages);
	as_other(NULL, same_user);
	assert_int_equal(pages_of(NOBODY), 0);
}

static void other_adopts(void *arg)
{
	struct scene *sc = arg;
	struct abi_ep by, next;
	struct abi_seg mine;

	become(OTHER);
	by = abi_ep_open();
	must(abi_seg_create(by.fd, 2 * ABI_PAGE, &mine));
	next = abi_ep_adopt(by.fd, sc->s.offer);
	/* The holder grows, and then yields. */
	abi_tell(sc->s.to[1]);
	while (abi_poll(next.fd, ABI_LIMIT / 1000000) != POLLIN)
		abi_sleep_ms(1);
	must(abi_commit(next.fd));
	_exit(0);
}

/* What the holder makes after the ADOPT is the successor's to pay as well: YIELD says if it can't. */
static void test_grown_since(void **state)
{
	struct scene sc = scene_open((struct server){ .uid = NOBODY, .yields = true,
						      .offer_adopt = SHMIPC_ADOPT_HOLDER });

	(void)state;
	abi_param("user_pages_max", 5, &old_pages);
	as_other(&sc, other_adopts);
	receive_fd(sc.s.from[0]);
	server_ends(&sc);
	assert_int_equal(pages_of(OTHER) + pages_of(NOBODY), 0);
	scene_close(&sc);
}

/* ---- EXPECT_UID ---- */

/* Who wanted to be served by one uid is not served by another. */
static void expects_nobody(void *arg)
{
	struct scene *sc = arg;
	struct abi_ep by, next;
	struct shmipc_accept a;
	struct shmipc_item items[16];
	struct shmipc_ready ev;

	become(OTHER);
	by = abi_ep_open();
	next = abi_ep_adopt(by.fd, sc->s.offer);
	a = abi_accept_arg(item_of(&next, SHMIPC_ITEM_LISTENER, items, NULL)->handle);
	must(abi_commit(next.fd));
	/* One session is left, and who waited is refused. */
	must(abi_event(next.fd, 0, &ev));
	fails(abi_ioctl(next.fd, SHMIPC_IOC_ACCEPT, &a), EAGAIN);
	_exit(0);
}

static void test_expect_uid(void **state)
{
	struct scene sc = scene_open((struct server){ .uid = NOBODY, .keep = true,
						      .offer_adopt = SHMIPC_ADOPT_HOLDER });
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct abi_ep ep = abi_ep_open();

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_EXPECT_UID;
	c.expect_uid = NOBODY;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	server_ends(&sc);
	expect_waiting(&sc);
	as_other(&sc, expects_nobody);
	expect_event(ep.fd, c.out_session, SHMIPC_CAUSE_PEER_CLOSED);
	abi_ep_close(&ep);
	scene_close(&sc);
}

/* An accepted one is closed; one without the demand stays. */
static void session_expects(void *arg)
{
	struct pair_fds {
		int offer, to, from;
	} *f = arg;
	struct abi_ep by, next;

	become(OTHER);
	by = abi_ep_open();
	next = abi_ep_adopt(by.fd, f->offer);
	abi_tell(f->from);
	abi_hear(f->to);
	must(abi_commit(next.fd));
	abi_tell(f->from);
	abi_hear(f->to);
	_exit(0);
}

static void test_expect_uid_session(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(p.listener);
	struct { int offer, to, from; } f;
	struct shmipc_ready ev;
	int to[2], from[2];
	pid_t pid;

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_EXPECT_UID;
	c.expect_uid = 0;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_ACCEPT, &a));
	expect_event(p.client.fd, c.out_session, SHMIPC_CAUSE_CONNECTED);
	must(abi_event(p.server.fd, 0, &ev));
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	f.offer = abi_offer(p.server.fd, 0, NULL);
	f.to = to[0], f.from = from[1];
	must(f.offer);
	pid = abi_spawn(session_expects, &f);
	abi_hear(from[0]);
	must(abi_yield(p.server.fd));
	abi_tell(to[1]);
	abi_hear(from[0]);
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	expect_event(p.client.fd, c.out_session, SHMIPC_CAUSE_PEER_CLOSED);
	abi_tell(to[1]);
	assert_int_equal(abi_reap(pid), 0);
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_DIED);
	close(f.offer);
	close(to[0]), close(to[1]), close(from[0]), close(from[1]);
	abi_pair_close(&p);
}

#define with_pages(fn)		cmocka_unit_test_teardown(fn, restore_pages)

static const struct CMUnitTest tests[] = {
	with_parameter(test_rights_of_orphans),
	with_parameter(test_nobody_may),
	abi_test(test_rights_by_file),
	abi_test(test_rights_by_uid),
	abi_test(test_charge_moves),
	with_pages(test_over_the_cap),
	with_pages(test_same_user_pays_once),
	with_pages(test_grown_since),
	abi_test(test_expect_uid),
	abi_test(test_expect_uid_session),
};

abi_main(tests)
