// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A server is replaced under its clients. What they get back is what they sent, byte for byte, whoever
 * serves; and where the replacement fails the old one serves on.
 */
#include "checker.h"
#include "pair.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SESSIONS	3
#define STREAMS		2	/* of each session */
#define CHUNK		6000
#define EVENTS		16
#define SECOND		((int64_t)1000000000)

/* What one server tells the next. */
struct state {
	uint32_t sessions;		/* not closed yet */
	uint32_t accepted;
	uint32_t hops;			/* handovers that are still to be */
	uint64_t echoed;
};

static const struct shmipc_offer_options usual = {
	.size = sizeof(usual), .timeout_ns = 30 * SECOND, .state_max = sizeof(struct state),
};

/* ---- the server ------------------------------------------------------------ */

static void echo(struct shmipc_stream *st, struct state *state)
{
	char buf[CHUNK];
	ssize_t n = shmipc_read(st, buf, sizeof(buf), 0);

	if (n == -EAGAIN)
		return;
	check(n >= 0);
	if (!n) {
		shmipc_stream_close(st);
		return;
	}
	check_eq(shmipc_write(st, buf, n, 0, LIMIT), n);
	state->echoed += n;
}

static void accept_all(struct shmipc_listener *listener, struct state *state)
{
	struct shmipc_session *session;

	while (!shmipc_accept(listener, &session, 0)) {
		state->sessions++;
		state->accepted++;
	}
}

static void serve_event(const struct shmipc_event *event, struct state *state)
{
	struct shmipc_stream *st;

	switch (event->type) {
	case SHMIPC_EV_ACCEPT:
		accept_all(event->object, state);
		break;
	case SHMIPC_EV_STREAM:
		while (!shmipc_stream_accept(event->object, &st, 0))
			;
		break;
	case SHMIPC_EV_READ:
		echo(event->object, state);
		break;
	case SHMIPC_EV_CLOSED:
		shmipc_session_close(event->object);
		state->sessions--;
		break;
	}
}

/* Until all who came have left, or (true) a successor is ready. */
static bool serve(struct shmipc_endpoint *ep, struct state *state, uint64_t until)
{
	while (!state->accepted || state->sessions) {
		struct shmipc_event events[EVENTS];
		int n = shmipc_wait(ep, events, EVENTS, LIMIT);
		bool ready = false;

		check(n > 0);
		for (int i = 0; i < n; i++) {
			ready |= events[i].type == SHMIPC_EV_OFFER;
			serve_event(&events[i], state);
		}
		if (ready || state->echoed >= until)
			return ready;
	}
	return false;
}

static void adopt(const char *name, int fd, struct shmipc_endpoint **ep, struct state *state)
{
	struct shmipc_adopted item;
	const void *blob;
	uint32_t sessions = 0;
	size_t len;

	check_eq(shmipc_adopt(name, fd, NULL, ep, LIMIT), 0);
	check_eq(shmipc_adopted_state(*ep, &blob, &len), 0);
	check_eq(len, sizeof(*state));
	memcpy(state, blob, len);
	while (shmipc_adopted_next(*ep, &item))
		sessions += item.type == SHMIPC_ADOPTED_SESSION;
	check_eq(sessions, state->sessions);
}

static void wait_for(pid_t pid, int want)
{
	int status;

	check_eq(waitpid(pid, &status, 0), pid);
	check_eq(status, want);
}

static void serve_hops(struct shmipc_endpoint *ep, struct state *state, uint64_t every);

/* Its successor serves to the end; then this one ends, too. */
static void replace(struct shmipc_endpoint *ep, struct state *state, uint64_t every)
{
	struct shmipc_endpoint *next;
	pid_t pid;
	int fd;

	check_eq(shmipc_offer(ep, &usual, &fd), 0);
	pid = fork();
	check(pid >= 0);
	if (!pid) {
		adopt(NULL, fd, &next, state);
		shmipc_close(ep);
		serve_hops(next, state, every);
		_exit(0);
	}
	/* Some may have left before it came: it takes what is left. */
	if (!serve(ep, state, UINT64_MAX)) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };

		check_eq(poll(&ready, 1, 30000), 1);
	}
	state->hops--;
	check_eq(shmipc_yield(ep, state, sizeof(*state)), 0);
	shmipc_close(ep);
	wait_for(pid, 0);
}

static void serve_hops(struct shmipc_endpoint *ep, struct state *state, uint64_t every)
{
	serve(ep, state, state->hops ? state->echoed + every : UINT64_MAX);
	if (state->hops)
		replace(ep, state, every);
	else
		shmipc_close(ep);
}

struct plan {
	uint32_t hops;
	uint64_t every;			/* bytes between two handovers */
};

static void hopping_server(struct pair *p, void *arg)
{
	const struct plan *plan = arg;
	struct state state = { .hops = plan->hops };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, p->name, NULL, &listener), 0);
	pair_tell(p);
	serve_hops(ep, &state, plan->every);
}

/* ---- the clients ------------------------------------------------------------ */

struct client {
	struct shmipc_session *session[SESSIONS];
	struct shmipc_stream *st[SESSIONS * STREAMS];
	struct checker back[SESSIONS * STREAMS];
	uint64_t sent[SESSIONS * STREAMS];
};

static void connect_all(struct client *c, struct shmipc_endpoint *ep, const char *name)
{
	*c = (struct client){ 0 };
	for (int i = 0; i < SESSIONS; i++)
		check_eq(shmipc_connect(ep, name, NULL, &c->session[i], LIMIT), 0);
	for (int i = 0; i < SESSIONS * STREAMS; i++) {
		c->back[i].key = 100 + i;
		check_eq(shmipc_stream_open(c->session[i / STREAMS], &c->st[i]), 0);
	}
}

/* Sends a message of any length up to what is to be sent, and reads what came back. */
static bool step(struct client *c, int i, uint64_t total)
{
	size_t len = 1 + c->sent[i] * 2654435761U % CHUNK;
	char buf[CHUNK];
	ssize_t n;

	if (len > total - c->sent[i])
		len = total - c->sent[i];
	fill(buf, len, c->back[i].key, c->sent[i]);
	n = len ? shmipc_write(c->st[i], buf, len, 0, 0) : 0;
	check(n >= 0 || n == -EAGAIN);
	c->sent[i] += n > 0 ? n : 0;
	n = shmipc_read(c->st[i], buf, sizeof(buf), 0);
	check(n > 0 || n == -EAGAIN);
	if (n > 0)
		check(!checker_take(&c->back[i], buf, n));
	return c->back[i].position < total;
}

static void echo_all(struct client *c, struct shmipc_endpoint *ep, uint64_t total)
{
	int64_t last = pair_now() + LIMIT;
	struct shmipc_event events[EVENTS];
	bool more = true;

	while (more) {
		more = false;
		for (int i = 0; i < SESSIONS * STREAMS; i++)
			more |= step(c, i, total);
		check(shmipc_wait(ep, events, EVENTS, more ? MS : 0) >= 0);
		check(pair_now() < last);
	}
}

static void leave(struct client *c)
{
	char byte;

	for (int i = 0; i < SESSIONS * STREAMS; i++) {
		check_eq(shmipc_finish(c->st[i]), 0);
		check_eq(shmipc_read(c->st[i], &byte, 1, LIMIT), 0);
	}
	for (int i = 0; i < SESSIONS; i++)
		shmipc_session_close(c->session[i]);
}

static void echo_through(struct pair *p, uint64_t total)
{
	struct shmipc_endpoint *ep;
	struct client c;

	check_eq(shmipc_open(&ep, 0), 0);
	connect_all(&c, ep, p->name);
	echo_all(&c, ep, total);
	leave(&c);
	shmipc_close(ep);
}

/* ---- tests ------------------------------------------------------------------ */

static void test_planned_by_fd(void **state)
{
	struct plan plan = { .hops = pair_scale(4, 10, 50), .every = 100000 };
	struct pair p;

	(void)state;
	if (!pair_is_kernel())
		return;
	pair_fork(&p, hopping_server, &plan);
	pair_hear(&p);
	echo_through(&p, plan.every * (plan.hops + 2) / (SESSIONS * STREAMS));
	pair_end(&p);
}

/* The provider has nobody who could keep the endpoint meanwhile, and says so. */
static void test_embedded_cannot(void **state)
{
	struct shmipc_options orphan = { .size = sizeof(orphan), .orphan_ms = 1000 };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep, *next;
	char name[64];
	int fd;

	(void)state;
	if (pair_is_kernel())
		return;
	pair_unique(name);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_offer(ep, &usual, &fd), -EOPNOTSUPP);
	check(strstr(shmipc_last_error(), "module"));
	check_eq(shmipc_yield(ep, NULL, 0), -ENOENT);
	check_eq(shmipc_listen(ep, name, &orphan, &listener), -EOPNOTSUPP);
	check_eq(shmipc_adopt(name, -1, NULL, &next, LIMIT), -EOPNOTSUPP);
	check(strstr(shmipc_last_error(), "module"));
	shmipc_close(ep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_planned_by_fd),
		pair_test(test_embedded_cannot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
