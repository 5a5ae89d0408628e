// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a client that asked is told of its server's handover, cancelled handover, crash and end; and that
 * one that did not ask is told nothing. The test is the client, with two sessions, one of which asked.
 * Servers and successors are its children. What a crash leaves is kept by the module alone.
 */
#include "pair.h"

#include <poll.h>
#include <signal.h>
#include "provider.h"

#define SECOND	((int64_t)1000000000)

static const struct shmipc_offer_options by_name = {
	.size = sizeof(by_name), .flags = SHMIPC_OFFER_BY_NAME, .timeout_ns = 30 * SECOND,
};

static const struct shmipc_options orphan = { .size = sizeof(orphan), .orphan_ms = 30000 };

/* ---- servers ---------------------------------------------------------------- */

/* Answers one message on each of two streams. */
static void answer(struct shmipc_stream *st[2])
{
	char byte;

	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_read(st[i], &byte, 1, LIMIT), 1);
		send_all(st[i], &byte, 1);
	}
}

static void serve_two(struct pair *p, const char *name, struct shmipc_endpoint **ep,
		      struct shmipc_stream *st[2])
{
	struct shmipc_listener *listener;
	struct shmipc_session *session[2];

	check_eq(shmipc_open(ep, 0), 0);
	check_eq(shmipc_listen(*ep, name, pair_is_kernel() ? &orphan : NULL, &listener), 0);
	pair_tell(p);
	for (int i = 0; i < 2; i++)
		check_eq(shmipc_accept(listener, &session[i], LIMIT), 0);
	for (int i = 0; i < 2; i++)
		check_eq(shmipc_stream_accept(session[i], &st[i], LIMIT), 0);
	answer(st);
}

/* Offers, and yields when asked to; returns what that said. */
static int offer_and_yield(struct pair *p, struct shmipc_endpoint *ep)
{
	struct shmipc_event event = { 0 };
	int fd;

	check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	pair_tell(p);
	while (event.type != SHMIPC_EV_OFFER)
		check(shmipc_wait(ep, &event, 1, LIMIT) == 1);
	pair_hear(p);
	return shmipc_yield(ep, NULL, 0);
}

static void server_hands_over(struct pair *p, void *name)
{
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st[2];

	serve_two(p, name, &ep, st);
	check_eq(offer_and_yield(p, ep), 0);
	shmipc_close(ep);
}

static void server_goes_on(struct pair *p, void *name)
{
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st[2];

	serve_two(p, name, &ep, st);
	check_eq(offer_and_yield(p, ep), -ECANCELED);
	answer(st);
	pair_hear(p);
	shmipc_close(ep);
}

static void server_dies(struct pair *p, void *name)
{
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st[2];

	serve_two(p, name, &ep, st);
	pair_tell(p);
	pause();
}

/* ---- successors -------------------------------------------------------------- */

/* Of its own peers, who have not changed, it is told nothing, though it asked. */
static void serve_on(struct shmipc_endpoint *ep)
{
	struct shmipc_stream *st[2];
	struct shmipc_adopted item;
	struct shmipc_event event[8];
	int n = 0;

	while (shmipc_adopted_next(ep, &item)) {
		if (item.type == SHMIPC_ADOPTED_SESSION)
			check_eq(shmipc_session_watch_peer(item.object, 1), 0);
		if (item.type == SHMIPC_ADOPTED_STREAM)
			st[n++] = item.object;
	}
	check_eq(n, 2);
	answer(st);
	/* The listener, at which somebody might wait. */
	check_eq(shmipc_wait(ep, event, 8, 0), 1);
	check_eq(event[0].type, SHMIPC_EV_ACCEPT);
}

static void successor(struct pair *p, void *name)
{
	struct shmipc_endpoint *ep;

	pair_hear(p);
	check_eq(shmipc_adopt(name, -1, NULL, &ep, LIMIT), 0);
	serve_on(ep);
	pair_hear(p);
	shmipc_close(ep);
}

/* As the library does it, step by step; and so far as it is told to. */
static void raw_successor(struct pair *p, void *name)
{
	const struct handover_ops *hand;
	struct provider *by, *pv;
	struct pv_list list;

	pair_hear(p);
	check_eq(provider_open(&by), 0);
	hand = by->ops->handover;
	check_eq(hand->adopt(by, name, -1, &pv), 0);
	pair_tell(p);
	check_eq(hand->pause(pv, LIMIT), 0);
	check_eq(hand->list(pv, 0, &list), 0);
	free(list.items);
	pair_hear(p);
	check_eq(hand->commit(pv), 0);
	pair_hear(p);
	/* In good order, or it would wait as an orphan for longer than the test takes. */
	pv->ops->close(pv, false);
	by->ops->close(by, false);
}

/* ---- the client --------------------------------------------------------------- */

struct client {
	char name[64];
	struct shmipc_endpoint *ep;
	struct shmipc_session *asked, *silent;
	struct shmipc_stream *st[2];
	struct pair server, next;
};

static void talk(struct client *c)
{
	char byte = 0;

	for (int i = 0; i < 2; i++)
		send_all(c->st[i], "x", 1);
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_read(c->st[i], &byte, 1, LIMIT), 1);
		check_eq(byte, 'x');
	}
}

/* The next event, and the only one. */
static void expect(struct client *c, uint32_t type)
{
	struct shmipc_event event[2];

	check_eq(shmipc_wait(c->ep, event, 2, LIMIT), 1);
	check_eq(event[0].type, type);
	check(event[0].object == c->asked);
	check(event[0].user == c);
}

static void expect_quiet(struct client *c)
{
	struct shmipc_event event;

	check_eq(shmipc_wait(c->ep, &event, 1, 0), 0);
}

static void expect_peer(struct shmipc_session *s, pid_t pid, uint32_t generation)
{
	struct shmipc_peer_info peer;

	check_eq(shmipc_session_peer(s, &peer), 0);
	check_eq(peer.pid, pid);
	check_eq(peer.uid, geteuid());
	check_eq(peer.generation, generation);
}

/* The other session is told of it as well, if perhaps a moment later. */
static void both_changed(struct client *c, pid_t pid)
{
	int64_t last = pair_now() + LIMIT;
	struct shmipc_peer_info peer;

	do {
		struct shmipc_event event;

		check_eq(shmipc_wait(c->ep, &event, 1, MS), 0);
		check_eq(shmipc_session_peer(c->silent, &peer), 0);
		check(pair_now() < last);
	} while (!peer.generation);
	expect_peer(c->silent, pid, 1);
	expect_peer(c->asked, pid, 1);
	expect_quiet(c);
}

static void client_start(struct client *c, pair_child server, pair_child next)
{
	*c = (struct client){ 0 };
	pair_unique(c->name);
	pair_fork(&c->server, server, c->name);
	pair_fork(&c->next, next, c->name);
	pair_hear(&c->server);
	check_eq(shmipc_open(&c->ep, 0), 0);
	check_eq(shmipc_connect(c->ep, c->name, NULL, &c->asked, LIMIT), 0);
	check_eq(shmipc_connect(c->ep, c->name, NULL, &c->silent, LIMIT), 0);
	check_eq(shmipc_stream_open(c->asked, &c->st[0]), 0);
	check_eq(shmipc_stream_open(c->silent, &c->st[1]), 0);
	shmipc_session_set_user(c->asked, c);
	check_eq(shmipc_session_watch_peer(c->asked, 1), 0);
	talk(c);
	expect_peer(c->asked, c->server.child, 0);
	expect_quiet(c);
	pair_hear(&c->server);
}

/* Up to the pause, which lasts as long as the test wants. */
static void until_paused(struct client *c)
{
	struct pollfd readable = { .fd = shmipc_fd(c->ep), .events = POLLIN };

	pair_tell(&c->next);
	pair_hear(&c->next);
	expect_quiet(c);
	pair_tell(&c->server);
	check_eq(poll(&readable, 1, 30000), 1);
	expect(c, SHMIPC_EV_PEER_PAUSED);
	expect_peer(c->asked, c->server.child, 0);
	expect_quiet(c);
}

/* ---- tests ------------------------------------------------------------------ */

static void test_paused_then_changed(void **state)
{
	struct client c;

	(void)state;
	client_start(&c, server_hands_over, raw_successor);
	until_paused(&c);
	pair_tell(&c.next);
	expect(&c, SHMIPC_EV_PEER_CHANGED);
	both_changed(&c, c.next.child);
	pair_end(&c.server);
	pair_tell(&c.next);
	pair_end(&c.next);
	shmipc_close(c.ep);
}

static void test_paused_then_resumed(void **state)
{
	struct client c;

	(void)state;
	client_start(&c, server_goes_on, raw_successor);
	until_paused(&c);
	pair_kill(&c.next);
	pair_close(&c.next);
	expect(&c, SHMIPC_EV_PEER_RESUMED);
	expect_peer(c.asked, c.server.child, 0);
	talk(&c);
	expect_quiet(&c);
	pair_tell(&c.server);
	pair_end(&c.server);
	shmipc_close(c.ep);
}

/* The pause of two libraries may be over before it is seen. */
static void test_library_hands_over(void **state)
{
	struct client c;
	struct shmipc_event event = { 0 };

	(void)state;
	client_start(&c, server_hands_over, successor);
	pair_tell(&c.server);
	pair_tell(&c.next);
	check_eq(shmipc_wait(c.ep, &event, 1, LIMIT), 1);
	check(event.object == c.asked);
	if (event.type == SHMIPC_EV_PEER_PAUSED)
		expect(&c, SHMIPC_EV_PEER_CHANGED);
	else
		check_eq(event.type, SHMIPC_EV_PEER_CHANGED);
	talk(&c);
	both_changed(&c, c.next.child);
	pair_end(&c.server);
	pair_tell(&c.next);
	pair_end(&c.next);
	shmipc_close(c.ep);
}

static void test_crash_then_changed(void **state)
{
	struct client c;

	(void)state;
	client_start(&c, server_dies, successor);
	pair_kill(&c.server);
	pair_close(&c.server);
	expect(&c, SHMIPC_EV_PEER_PAUSED);
	expect_peer(c.asked, c.server.child, 0);
	expect_quiet(&c);
	pair_tell(&c.next);
	expect(&c, SHMIPC_EV_PEER_CHANGED);
	talk(&c);
	both_changed(&c, c.next.child);
	pair_tell(&c.next);
	pair_end(&c.next);
	shmipc_close(c.ep);
}

static void buries(struct pair *p, void *name)
{
	struct shmipc_options fresh = { .size = sizeof(fresh), .flags = SHMIPC_FRESH };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;

	pair_hear(p);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, name, &fresh, &listener), 0);
	shmipc_close(ep);
}

/* Nobody adopts it: the pause ends with the session. */
static void test_crash_then_closed(void **state)
{
	struct shmipc_event event;
	bool closed[2] = { false };
	struct client c;

	(void)state;
	client_start(&c, server_dies, buries);
	pair_kill(&c.server);
	pair_close(&c.server);
	expect(&c, SHMIPC_EV_PEER_PAUSED);
	pair_tell(&c.next);
	while (shmipc_wait(c.ep, &event, 1, closed[0] && closed[1] ? 0 : LIMIT) == 1) {
		if (event.type == SHMIPC_EV_READ) {
			shmipc_stream_close(event.object);
			continue;
		}
		check_eq(event.type, SHMIPC_EV_CLOSED);
		closed[event.object == c.asked] = true;
	}
	check(closed[0] && closed[1]);
	check_eq(shmipc_session_error(c.asked), -EOWNERDEAD);
	pair_end(&c.next);
	shmipc_close(c.ep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_paused_then_changed),
		pair_test(test_paused_then_resumed),
		pair_test(test_library_hands_over),
	};
	const struct CMUnitTest crashes[] = {
		pair_test(test_crash_then_changed),
		pair_test(test_crash_then_closed),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (!failed && pair_is_kernel())
		failed = cmocka_run_group_tests(crashes, NULL, NULL);
	return failed;
}
