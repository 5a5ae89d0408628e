// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Both ends of a session are replaced at the same time, again and again, with traffic both ways. Each
 * sends the next number whenever it can, and expects the next of the other's, whoever that is now.
 */
#include "pair.h"

#include <sys/mman.h>

#define EVENTS	8
#define SECOND	((int64_t)1000000000)
#define LAST	((uint64_t)1 << 63)	/* in a number: no more come */
#define TAIL	1000			/* numbers that the last two still send */

/* What a program tells its successor. */
struct state {
	uint64_t sent, received;
};

static const struct shmipc_offer_options by_name = {
	.size = sizeof(by_name), .flags = SHMIPC_OFFER_BY_NAME, .timeout_ns = 30 * SECOND,
	.state_max = sizeof(struct state),
};

/* One of the two ends; in memory that its programs and the test share. */
struct end {
	char name[64], peer[64];	/* @peer: who connects to whom, or "" */
	bool adopts, last;		/* what the program that is forked next does */
	int64_t yielded, adopted;	/* pair_now() of the last handover */
};

static void connect_end(struct pair *p, const struct end *end, struct shmipc_endpoint **ep,
			struct shmipc_stream **st, struct state *state)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;

	check_eq(shmipc_open(ep, 0), 0);
	check_eq(shmipc_listen(*ep, end->name, NULL, &listener), 0);
	pair_tell(p);
	if (end->peer[0]) {
		check_eq(shmipc_connect(*ep, end->peer, NULL, &session, LIMIT), 0);
		check_eq(shmipc_stream_open(session, st), 0);
		/* A stream is there for the other side once something was sent. */
		check_eq(shmipc_write(*st, &state->sent, sizeof(state->sent), 0, LIMIT),
			 sizeof(state->sent));
		state->sent++;
	} else {
		check_eq(shmipc_accept(listener, &session, LIMIT), 0);
		check_eq(shmipc_stream_accept(session, st, LIMIT), 0);
	}
}

static void adopt_end(struct end *end, struct shmipc_endpoint **ep, struct shmipc_stream **st,
		      struct state *state)
{
	struct shmipc_adopted item;
	const void *blob;
	size_t len;

	check_eq(shmipc_adopt(end->name, -1, NULL, ep, LIMIT), 0);
	end->adopted = pair_now();
	check_eq(shmipc_adopted_state(*ep, &blob, &len), 0);
	check_eq(len, sizeof(*state));
	memcpy(state, blob, len);
	*st = NULL;
	while (shmipc_adopted_next(*ep, &item))
		if (item.type == SHMIPC_ADOPTED_STREAM)
			*st = item.object;
	check(*st);
}

/* Sends the next, if there is room. */
static void send_one(struct shmipc_stream *st, struct state *state, uint64_t mark)
{
	uint64_t number = state->sent | mark;
	ssize_t n = shmipc_write(st, &number, sizeof(number), 0, 0);

	check(n == sizeof(number) || n == -EAGAIN);
	state->sent += n > 0;
}

/* Takes what is there. Returns true with the last. */
static bool receive(struct shmipc_stream *st, struct state *state)
{
	uint64_t number;
	ssize_t n;

	while ((n = shmipc_read(st, &number, sizeof(number), 0)) != -EAGAIN) {
		check_eq(n, sizeof(number));
		check_eq(number & ~LAST, state->received);
		state->received++;
		if (number & LAST)
			return true;
	}
	return false;
}

/* Until a successor is ready, or, in the last, until both have said all. */
static void run_end(struct pair *p, struct end *end, bool last, struct shmipc_endpoint *ep,
		    struct shmipc_stream *st, struct state *state)
{
	uint64_t until = state->sent + TAIL;
	bool ready = false, ended = false;
	struct shmipc_event events[EVENTS];
	int n, fd;

	if (!last)
		check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	pair_tell(p);
	while (!ready && !(ended && state->sent == until)) {
		if (!last || state->sent < until)
			send_one(st, state, last && state->sent + 1 == until ? LAST : 0);
		ended |= receive(st, state);
		n = shmipc_wait(ep, events, EVENTS, MS);
		check(n >= 0);
		for (int i = 0; i < n; i++) {
			ready |= events[i].type == SHMIPC_EV_OFFER;
			check(events[i].type != SHMIPC_EV_CLOSED);
		}
	}
	if (last)
		return;
	end->yielded = pair_now();
	check_eq(shmipc_yield(ep, state, sizeof(*state)), 0);
}

static void program(struct pair *p, void *arg)
{
	struct state state = { 0 };
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct end *end = arg;
	bool last = end->last;

	if (end->adopts)
		adopt_end(end, &ep, &st, &state);
	else
		connect_end(p, end, &ep, &st, &state);
	run_end(p, end, last, ep, st, &state);
	/* The other one may not have read the last yet: it says when it has. */
	if (last) {
		pair_tell(p);
		pair_hear(p);
	}
	shmipc_close(ep);
}

/* Both ends' next programs at once; those before must end well. True: the two handovers overlapped. */
static bool replace_both(struct end *end, struct pair *p, size_t round)
{
	struct pair old[2] = { p[0], p[1] };

	for (int i = 0; i < 2; i++)
		end[i].adopts = true;
	pair_fork(&p[round % 2], program, &end[round % 2]);
	pair_fork(&p[!(round % 2)], program, &end[!(round % 2)]);
	for (int i = 0; i < 2; i++) {
		pair_wait(&old[i]);
		pair_close(&old[i]);
	}
	for (int i = 0; i < 2; i++)
		pair_hear(&p[i]);
	return end[0].yielded < end[1].adopted && end[1].yielded < end[0].adopted;
}

static void test_both_at_once(void **unused)
{
	/* What goes wrong in one order of two messages alone shows in one round of six or so. */
	size_t rounds = pair_is_kernel() ? pair_scale(10, 50, 500) : pair_scale(100, 200, 1000);
	size_t i, met = 0;
	struct end *end = mmap(NULL, 2 * sizeof(*end), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct pair p[2];

	(void)unused;
	check(end != MAP_FAILED);
	pair_unique(end[0].name);
	pair_unique(end[1].name);
	strcpy(end[1].peer, end[0].name);
	pair_fork(&p[0], program, &end[0]);
	pair_hear(&p[0]);	/* its name is there */
	pair_fork(&p[1], program, &end[1]);
	pair_hear(&p[1]);
	for (int n = 0; n < 2; n++)
		pair_hear(&p[n]);
	for (i = 0; i < rounds || (!met && i < 10 * rounds); i++)
		met += replace_both(end, p, i);
	print_message("%zu times both at once, overlapping in %zu\n", i, met);
	check(met);
	end[0].last = end[1].last = true;
	replace_both(end, p, i);
	for (int n = 0; n < 2; n++)
		pair_hear(&p[n]);
	for (int n = 0; n < 2; n++) {
		pair_tell(&p[n]);
		pair_end(&p[n]);
	}
	munmap(end, 2 * sizeof(*end));
}

int main(void)
{
	const struct CMUnitTest tests[] = { pair_test(test_both_at_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
