// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A server is replaced under its clients. What they get back is what they sent, byte for byte,
 * whoever serves; and where the replacement fails the old one serves on.
 */
#include "checker.h"
#include "pair.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

/* Takes a part of a longer message, so that a successor has the rest of some. */
static void echo(struct shmipc_stream *st, struct state *state)
{
	char buf[CHUNK / 3];
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

/* Who takes care of an embedded offer are the calls on its endpoint. */
static void wait_offer(struct shmipc_endpoint *ep, int fd, short want)
{
	struct pollfd offer = { .fd = fd, .events = POLLIN };
	int limit = pair_is_kernel() ? 30000 : 1, tries = pair_is_kernel() ? 1 : 30000;
	struct shmipc_event event;

	while (!poll(&offer, 1, limit) && --tries)
		check(shmipc_wait(ep, &event, 1, 0) >= 0);
	check(offer.revents & want);
}

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
	if (!serve(ep, state, UINT64_MAX))
		wait_offer(ep, fd, POLLIN);
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

/* Goes on until @moved (or NULL), so that there is traffic when that happens. */
static void echo_all(struct client *c, struct shmipc_endpoint *ep, uint64_t total,
		     atomic_bool *moved)
{
	int64_t last = pair_now() + LIMIT;
	struct shmipc_event events[EVENTS];
	bool more = true;

	while (more) {
		more = moved && !atomic_load(moved);
		if (more && total < c->sent[0] + CHUNK)
			total = c->sent[0] + CHUNK;
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

static void echo_through(struct pair *p, uint64_t total, atomic_bool *moved)
{
	struct shmipc_endpoint *ep;
	struct client c;

	check_eq(shmipc_open(&ep, 0), 0);
	connect_all(&c, ep, p->name);
	echo_all(&c, ep, total, moved);
	leave(&c);
	shmipc_close(ep);
}

/* ---- tests ------------------------------------------------------------------ */

static void test_planned_by_fd(void **state)
{
	struct plan plan = { .hops = pair_scale(4, 10, 50), .every = 100000 };
	struct pair p;

	(void)state;
	pair_fork(&p, hopping_server, &plan);
	pair_hear(&p);
	echo_through(&p, plan.every * (plan.hops + 2) / (SESSIONS * STREAMS), NULL);
	pair_end(&p);
}

/* An unrelated process, which only knows the name. */
static void named_successor(struct pair *p, void *arg)
{
	struct shmipc_endpoint *ep;
	struct state state;

	pair_hear(p);
	adopt(arg, -1, &ep, &state);
	check_eq(state.sessions, SESSIONS);
	pair_tell(p);
	check(serve(ep, &state, UINT64_MAX) == false);
	check_eq(state.accepted, SESSIONS);
	shmipc_close(ep);
}

static void named_server(struct pair *p, void *arg)
{
	struct shmipc_offer_options by_name = usual;
	struct state state = { .hops = 1 };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;
	int fd;

	by_name.flags = SHMIPC_OFFER_BY_NAME;
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, p->name, NULL, &listener), 0);
	pair_tell(p);
	check(serve(ep, &state, *(uint64_t *)arg) == false);
	check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	pair_tell(p);
	check(serve(ep, &state, UINT64_MAX));
	check_eq(shmipc_yield(ep, &state, sizeof(state)), 0);
	shmipc_close(ep);
}

struct named {
	struct pair p[2];		/* the server, its successor */
	atomic_bool moved;
};

static void *tell_successor(void *arg)
{
	struct named *n = arg;

	pair_hear(&n->p[0]);
	pair_tell(&n->p[1]);
	pair_hear(&n->p[1]);
	atomic_store(&n->moved, true);
	return NULL;
}

static void test_planned_by_name(void **state)
{
	struct named n = { .moved = false };
	uint64_t half = 300000;
	pthread_t thread;

	(void)state;
	pair_fork(&n.p[0], named_server, &half);
	pair_fork(&n.p[1], named_successor, n.p[0].name);
	pair_hear(&n.p[0]);
	check_eq(pthread_create(&thread, NULL, tell_successor, &n), 0);
	echo_through(&n.p[0], 2 * half / (SESSIONS * STREAMS), &n.moved);
	pthread_join(thread, NULL);
	pair_end(&n.p[0]);
	pair_end(&n.p[1]);
}

/* ---- a server and its client in one process ---------------------------------- */

/* A server and a client in this process, and a stream that both have spoken on. */
struct rig {
	char name[64];
	struct shmipc_endpoint *ep, *client;
	struct shmipc_listener *listener;
	struct shmipc_session *session, *at_client;
	struct shmipc_stream *st, *st_client;
	int fd;
};

static void *rig_connect(void *arg)
{
	struct rig *r = arg;

	check_eq(shmipc_connect(r->client, r->name, NULL, &r->at_client, LIMIT), 0);
	return NULL;
}

static void expect_serves(struct rig *r)
{
	char buf[4];

	send_all(r->st_client, "ping", 4);
	read_all(r->st, buf, 4);
	check(!memcmp(buf, "ping", 4));
	send_all(r->st, "pong", 4);
	read_all(r->st_client, buf, 4);
	check(!memcmp(buf, "pong", 4));
}

static void rig_open(struct rig *r)
{
	pthread_t thread;

	memset(r, 0, sizeof(*r));
	pair_unique(r->name);
	check_eq(shmipc_open(&r->ep, 0), 0);
	check_eq(shmipc_open(&r->client, 0), 0);
	check_eq(shmipc_listen(r->ep, r->name, NULL, &r->listener), 0);
	check_eq(pthread_create(&thread, NULL, rig_connect, r), 0);
	check_eq(shmipc_accept(r->listener, &r->session, LIMIT), 0);
	pthread_join(thread, NULL);
	check_eq(shmipc_stream_open(r->at_client, &r->st_client), 0);
	send_all(r->st_client, "!", 1);
	check_eq(shmipc_stream_accept(r->session, &r->st, LIMIT), 0);
	read_all(r->st, (char[1]){ 0 }, 1);
	expect_serves(r);
}

static void rig_offer(struct rig *r, int64_t timeout_ns)
{
	struct shmipc_offer_options options = usual;

	options.timeout_ns = timeout_ns;
	check_eq(shmipc_offer(r->ep, &options, &r->fd), 0);
}

/*
 * Until an offer of 20 ms is over, without a call on its endpoint. The module says so, when its
 * worker gets to it; with the embedded provider it is a matter of the clock alone.
 */
static void outlast_offer(struct rig *r)
{
	struct pollfd offer = { .fd = r->fd };

	if (!pair_is_kernel()) {
		usleep(30000);
		return;
	}
	check_eq(poll(&offer, 1, 30000), 1);
	check_eq(offer.revents, POLLHUP);
}

static void rig_close(struct rig *r)
{
	shmipc_close(r->client);
	shmipc_close(r->ep);
}

static void expect_offer_event(struct rig *r)
{
	struct shmipc_event event;

	do
		check_eq(shmipc_wait(r->ep, &event, 1, LIMIT), 1);
	while (event.type != SHMIPC_EV_OFFER);
	check(event.object == r->ep);
}

/* Takes it, says so, and ends in good order when it is told to. */
static void plain_successor(struct pair *p, void *arg)
{
	struct rig *r = arg;
	struct shmipc_endpoint *ep;

	check_eq(shmipc_adopt(NULL, r->fd, NULL, &ep, LIMIT), 0);
	pair_tell(p);
	pair_hear(p);
	shmipc_close(ep);
}

static void hopeless_successor(struct pair *p, void *arg)
{
	struct rig *r = arg;
	struct shmipc_endpoint *ep;

	(void)p;
	check_eq(shmipc_adopt(NULL, r->fd, NULL, &ep, LIMIT), -ECANCELED);
}

/* ---- a peer that has gone ---------------------------------------------------- */

#define LEFT	20000	/* bytes, more than one message */

static void legatee(struct pair *p, void *arg)
{
	struct checker left = { .key = 7 };
	struct shmipc_endpoint *ep;
	struct shmipc_adopted item;
	struct shmipc_stream *st = NULL;
	struct shmipc_event event;
	struct rig *r = arg;
	char buf[CHUNK];
	ssize_t n;

	(void)p;
	check_eq(shmipc_adopt(NULL, r->fd, NULL, &ep, LIMIT), 0);
	while (shmipc_adopted_next(ep, &item))
		if (item.type == SHMIPC_ADOPTED_STREAM)
			st = item.object;
	check(st);
	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
		check(!checker_take(&left, buf, n));
	check_eq(n, 0);
	check_eq(left.position, LEFT);
	do
		check_eq(shmipc_wait(ep, &event, 1, LIMIT), 1);
	while (event.type != SHMIPC_EV_CLOSED);
	shmipc_session_close(event.object);
	shmipc_close(ep);
}

/* What it sent before it closed is the successor's to read, and that it closed to be told. */
static void test_peer_has_gone(void **state)
{
	struct shmipc_event event;
	char buf[CHUNK];
	struct rig r;
	struct pair p;

	(void)state;
	/* Before the holder has seen that, or after. */
	for (int seen = 0; seen < 2; seen++) {
		rig_open(&r);
		for (size_t at = 0; at < LEFT; at += sizeof(buf)) {
			size_t len = LEFT - at < sizeof(buf) ? LEFT - at : sizeof(buf);

			fill(buf, len, 7, at);
			send_all(r.st_client, buf, len);
		}
		check_eq(shmipc_finish(r.st_client), 0);
		shmipc_session_close(r.at_client);
		while (seen && !shmipc_session_error(r.session))
			check_eq(shmipc_wait(r.ep, &event, 1, LIMIT), 1);
		rig_offer(&r, 30 * SECOND);
		pair_fork(&p, legatee, &r);
		expect_offer_event(&r);
		check_eq(shmipc_yield(r.ep, NULL, 0), 0);
		pair_end(&p);
		rig_close(&r);
	}
}

/* ---- where it fails ---------------------------------------------------------- */

static void test_successor_dies(void **state)
{
	struct rig r;
	struct pair p;

	(void)state;
	rig_open(&r);
	check_eq(shmipc_yield(r.ep, NULL, 0), -ENOENT);
	for (int i = 0; i < 3; i++) {
		rig_offer(&r, 30 * SECOND);
		check_eq(shmipc_yield(r.ep, NULL, 0), -EAGAIN);
		pair_fork(&p, plain_successor, &r);
		expect_offer_event(&r);
		expect_serves(&r);
		pair_kill(&p);
		pair_close(&p);
		check_eq(shmipc_yield(r.ep, NULL, 0), -ECANCELED);
		expect_serves(&r);
	}
	rig_close(&r);
}

static void test_too_late(void **state)
{
	struct rig r;
	struct pair p;
	int fd;

	(void)state;
	rig_open(&r);
	/* Nobody comes. */
	rig_offer(&r, 20 * MS);
	check_eq(shmipc_offer(r.ep, &usual, &fd), -EBUSY);
	wait_offer(r.ep, r.fd, POLLHUP);
	check_eq(shmipc_yield(r.ep, NULL, 0), -ECANCELED);
	expect_serves(&r);
	/* Nobody comes, and the next call of all is another offer. */
	rig_offer(&r, 20 * MS);
	outlast_offer(&r);
	rig_offer(&r, 30 * SECOND);
	check_eq(shmipc_offer_cancel(r.ep), 0);
	/* The successor comes, and stands still while this side waits for it. */
	rig_offer(&r, 2 * SECOND);
	pair_fork(&p, hopeless_successor, &r);
	expect_offer_event(&r);
	check_eq(kill(p.child, SIGSTOP), 0);
	check_eq(waitpid(p.child, NULL, WUNTRACED), p.child);
	check_eq(shmipc_yield(r.ep, NULL, 0), -ECANCELED);
	check_eq(kill(p.child, SIGCONT), 0);
	expect_serves(&r);
	pair_end(&p);
	expect_serves(&r);
	rig_close(&r);
}

static void test_something_is_out(void **state)
{
	struct shmipc_message message;
	struct rig r;
	struct pair p;
	void *data;

	(void)state;
	rig_open(&r);
	rig_offer(&r, 30 * SECOND);
	pair_fork(&p, plain_successor, &r);
	expect_offer_event(&r);

	check_eq(shmipc_reserve(r.st, 5000, &data, LIMIT), 0);
	check_eq(shmipc_yield(r.ep, NULL, 0), -EBUSY);
	check_eq(shmipc_cancel(r.st), 0);

	send_all(r.st_client, "held", 4);
	check_eq(shmipc_peek(r.st, &message, LIMIT), 1);
	check_eq(shmipc_yield(r.ep, NULL, 0), -EBUSY);
	check_eq(shmipc_return(r.st, &message), 0);

	expect_serves(&r);
	check_eq(shmipc_yield(r.ep, NULL, usual.state_max + 5000), -EMSGSIZE);
	check_eq(shmipc_yield(r.ep, NULL, 0), 0);
	pair_hear(&p);
	pair_tell(&p);
	pair_end(&p);
	rig_close(&r);
}

/* Each is refused before it touches what is another's now: a touch would be SIGBUS. */
static void expect_stale(struct rig *r)
{
	struct shmipc_peer_info peer;
	struct shmipc_message message;
	struct shmipc_session *session;
	struct shmipc_stream *st;
	struct shmipc_event event;
	struct shmipc_stats stats;
	struct shmipc_listener *listener;
	struct shmipc_buf *buf;
	char byte = 0;
	void *data;
	int fd;

	check_eq(shmipc_write(r->st, &byte, 1, 0, LIMIT), -ESTALE);
	check_eq(shmipc_read(r->st, &byte, 1, LIMIT), -ESTALE);
	check_eq(shmipc_peek(r->st, &message, LIMIT), -ESTALE);
	check_eq(shmipc_reserve(r->st, 1, &data, LIMIT), -ESTALE);
	check_eq(shmipc_commit(r->st, 1, 0), -ESTALE);
	check_eq(shmipc_cancel(r->st), -ESTALE);
	check_eq(shmipc_flush(r->st), -ESTALE);
	check_eq(shmipc_finish(r->st), -ESTALE);
	check_eq(shmipc_reset(r->st, 1), -ESTALE);
	check_eq(shmipc_stream_pause(r->st, 1), -ESTALE);
	check_eq(shmipc_stream_open(r->session, &st), -ESTALE);
	check_eq(shmipc_stream_accept(r->session, &st, LIMIT), -ESTALE);
	check_eq(shmipc_session_error(r->session), -ESTALE);
	check_eq(shmipc_session_peer(r->session, &peer), -ESTALE);
	check_eq(shmipc_accept(r->listener, &session, LIMIT), -ESTALE);
	check_eq(shmipc_listen(r->ep, "other", NULL, &listener), -ESTALE);
	check_eq(shmipc_connect(r->ep, r->name, NULL, &session, LIMIT), -ESTALE);
	check_eq(shmipc_buf_new(r->ep, 1, &buf), -ESTALE);
	check_eq(shmipc_wait(r->ep, &event, 1, LIMIT), -ESTALE);
	check_eq(shmipc_fd(r->ep), -ESTALE);
	check_eq(shmipc_get_stats(r->ep, &stats, sizeof(stats)), -ESTALE);
	check_eq(shmipc_offer(r->ep, &usual, &fd), -ESTALE);
	check_eq(shmipc_yield(r->ep, NULL, 0), -ESTALE);
	check(shmipc_stream_session(r->st) == r->session);
	check(shmipc_stream_id(r->st) == shmipc_stream_id(r->st_client));
	shmipc_stream_close(r->st);
	shmipc_session_close(r->session);
	shmipc_listener_close(r->listener);
}

static void test_stale(void **state)
{
	struct rig r;
	struct pair p;

	(void)state;
	rig_open(&r);
	send_all(r.st_client, "not read", 8);
	rig_offer(&r, 30 * SECOND);
	pair_fork(&p, plain_successor, &r);
	expect_offer_event(&r);
	check_eq(shmipc_yield(r.ep, NULL, 0), 0);
	expect_stale(&r);
	pair_hear(&p);
	expect_stale(&r);
	pair_tell(&p);
	pair_end(&p);
	rig_close(&r);
}

/* ---- a crash ------------------------------------------------------------------ */

#define LINES	2	/* sessions of one stream, data both ways */
#define HELD	3	/* messages that the victim has in its hands */

/* How far the victim came, where its death can't take it away. */
struct deeds {
	volatile uint64_t session;	/* its id */
	volatile uint64_t peeked;	/* bytes taken, at least */
	volatile uint64_t returning;	/* bytes returned, at most; and at least: */
	volatile uint64_t returned;
};

struct line {
	struct shmipc_stream *st;
	struct checker in;
	uint64_t sent;
	bool begun, finished, ended;
	struct shmipc_message held[HELD];	/* the victim's */
	unsigned int nr_held;
};

struct crash {
	char name[64];
	uint64_t total;			/* bytes of each line and direction */
	struct deeds deeds[LINES];
};

static void send_some(struct line *line, uint64_t key, uint64_t total)
{
	size_t len = 1 + line->sent * 2654435761U % CHUNK;
	char buf[CHUNK];
	ssize_t n;

	if (line->finished)
		return;
	/* The victim has no total: it may have sent more than its successor would. */
	if (line->sent >= total)
		len = 0;
	else if (len > total - line->sent)
		len = total - line->sent;
	fill(buf, len, key, line->sent);
	n = len ? shmipc_write(line->st, buf, len, 0, 0) : 0;
	check(n >= 0 || n == -EAGAIN);
	line->sent += n > 0 ? n : 0;
	if (line->sent >= total) {
		check_eq(shmipc_finish(line->st), 0);
		line->finished = true;
	}
}

/* The successor's first: nothing that was not returned is missing, nothing that was comes again. */
static void check_first(struct line *line, const struct shmipc_message *m,
			const struct deeds *deeds)
{
	check(m->position >= deeds->returned);
	check(m->position <= deeds->returning);
	check(m->position < deeds->peeked);
	line->in.position = m->position;
	line->begun = true;
}

/* So that some of what it took is always out when it dies. */
static void hold(struct line *line, struct deeds *mine, const struct shmipc_message *m)
{
	struct shmipc_message *oldest = &line->held[line->nr_held % HELD];
	uint64_t end = oldest->position + oldest->len;

	mine->peeked = line->in.position;
	if (line->nr_held >= HELD) {
		mine->returning = end;
		check_eq(shmipc_return(line->st, oldest), 0);
		mine->returned = end;
	}
	*oldest = *m;
	line->nr_held++;
}

static void take_some(struct line *line, struct deeds *mine, const struct deeds *dead)
{
	struct shmipc_message m;
	int n = line->ended ? -EAGAIN : shmipc_peek(line->st, &m, 0);

	if (n == -EAGAIN)
		return;
	check(n >= 0);
	if (!n) {
		line->ended = true;
		return;
	}
	if (dead && !line->begun)
		check_first(line, &m, dead);
	if (dead && m.position < dead->peeked)
		check(m.flags & SHMIPC_MSG_REDELIVERED);
	check_eq(m.position, line->in.position);
	for (uint32_t i = 0; i < m.nspans; i++)
		check(!checker_take(&line->in, m.spans[i].data, m.spans[i].len));
	if (mine)
		hold(line, mine, &m);
	else
		check_eq(shmipc_return(line->st, &m), 0);
}

/* Both directions of all lines, until they ended. */
static void run_lines(struct shmipc_endpoint *ep, struct line *lines, struct deeds *mine,
		      const struct deeds *dead, uint64_t key, uint64_t total)
{
	int64_t last = pair_now() + LIMIT;
	struct shmipc_event events[EVENTS];
	bool more = true;

	while (more) {
		more = false;
		for (int i = 0; i < LINES; i++) {
			send_some(&lines[i], key + i, total);
			take_some(&lines[i], mine ? &mine[i] : NULL, dead ? &dead[i] : NULL);
			more |= !lines[i].finished || !lines[i].ended;
		}
		check(shmipc_wait(ep, events, EVENTS, more ? MS : 0) >= 0);
		check(pair_now() < last);
	}
}

static void victim(struct pair *p, void *arg)
{
	struct shmipc_options options = { .size = sizeof(options), .orphan_ms = 30000 };
	struct line lines[LINES] = { 0 };
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct crash *crash = arg;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, crash->name, &options, &listener), 0);
	pair_tell(p);
	for (int i = 0; i < LINES; i++) {
		check_eq(shmipc_accept(listener, &session, LIMIT), 0);
		crash->deeds[i].session = shmipc_session_id(session);
		check_eq(shmipc_stream_accept(session, &lines[i].st, LIMIT), 0);
		lines[i].in.key = 10 + i;
		read_all(lines[i].st, (char[1]){ 0 }, 1);
		lines[i].in.position = 1;
		crash->deeds[i].returning = 1;
	}
	run_lines(ep, lines, crash->deeds, NULL, 20, UINT64_MAX);
	check(!"it was to be killed");
}

static void heir(struct pair *p, void *arg)
{
	struct line lines[LINES] = { 0 };
	struct shmipc_endpoint *ep;
	struct shmipc_adopted item;
	struct crash *crash = arg;
	const void *blob;
	size_t len;
	int n = 0;

	pair_hear(p);
	check_eq(shmipc_adopt(crash->name, -1, NULL, &ep, LIMIT), 0);
	check_eq(shmipc_adopted_state(ep, &blob, &len), 1);
	check(!blob && !len);
	while (shmipc_adopted_next(ep, &item)) {
		uint64_t id;
		int i = 0;

		if (item.type != SHMIPC_ADOPTED_STREAM)
			continue;
		id = shmipc_session_id(shmipc_stream_session(item.object));
		while (i < LINES && crash->deeds[i].session != id)
			i++;
		check(i < LINES);
		lines[i] = (struct line){ .st = item.object, .sent = item.sent, .in.key = 10 + i };
		n++;
	}
	check_eq(n, LINES);
	run_lines(ep, lines, NULL, crash->deeds, 20, crash->total);
	shmipc_close(ep);
}

/* Until the victim has taken so much of each line; then it is killed, and the successor told. */
struct killer {
	struct crash *crash;
	struct pair *victim, *heir;
	uint64_t after;
};

static void *kill_it(void *arg)
{
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;
	struct killer *k = arg;

	for (int i = 0; i < LINES; i++)
		while (k->crash->deeds[i].returned < k->after)
			usleep(100);
	pair_kill(k->victim);
	/* The name is the successor's, and told to be. */
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, k->crash->name, NULL, &listener), -EOWNERDEAD);
	check(strstr(shmipc_last_error(), "shmipc_adopt"));
	shmipc_close(ep);
	pair_tell(k->heir);
	return NULL;
}

static void crash_once(struct crash *crash, uint64_t after)
{
	struct line lines[LINES] = { 0 };
	struct shmipc_session *session[LINES];
	struct shmipc_endpoint *ep;
	struct pair p[2];
	struct killer killer = { crash, &p[0], &p[1], after };
	pthread_t thread;

	memset(crash, 0, sizeof(*crash));
	pair_unique(crash->name);
	crash->total = 1000000;
	pair_fork(&p[0], victim, crash);
	pair_fork(&p[1], heir, crash);
	pair_hear(&p[0]);
	check_eq(shmipc_open(&ep, 0), 0);
	for (int i = 0; i < LINES; i++) {
		char first;

		check_eq(shmipc_connect(ep, crash->name, NULL, &session[i], LIMIT), 0);
		check_eq(shmipc_stream_open(session[i], &lines[i].st), 0);
		fill(&first, 1, 10 + i, 0);
		send_all(lines[i].st, &first, 1);
		lines[i].sent = 1;
		lines[i].in.key = 20 + i;
	}
	check_eq(pthread_create(&thread, NULL, kill_it, &killer), 0);
	run_lines(ep, lines, NULL, NULL, 10, crash->total);
	pthread_join(thread, NULL);
	shmipc_close(ep);
	pair_close(&p[0]);
	pair_end(&p[1]);
}

static void test_crash(void **state)
{
	struct crash *crash;
	size_t rounds = pair_scale(4, 12, 100);

	(void)state;
	crash = mmap(NULL, sizeof(*crash), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(crash != MAP_FAILED);
	for (size_t i = 0; i < rounds; i++)
		crash_once(crash, 1 + i * 7919 % 200000);
	munmap(crash, sizeof(*crash));
}

/* ---- withdrawn, or not wanted ------------------------------------------------ */

/* Waits for a yield that does not come; then there is nothing left to adopt. */
static void refused_successor(struct pair *p, void *arg)
{
	struct shmipc_endpoint *ep;

	(void)p;
	check_eq(shmipc_adopt(NULL, *(int *)arg, NULL, &ep, LIMIT), -ECANCELED);
}

static void test_cancel(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct shmipc_event event;
	struct pair p;
	int fd, held;

	(void)state;
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_offer_cancel(ep), -ENOENT);
	check_eq(shmipc_offer(ep, &usual, &fd), 0);
	pair_fork(&p, refused_successor, &fd);
	do
		check(shmipc_wait(ep, &event, 1, LIMIT) == 1);
	while (event.type != SHMIPC_EV_OFFER);
	held = dup(fd);
	check(held >= 0);
	check_eq(shmipc_offer_cancel(ep), 0);
	pair_end(&p);

	/* Also for who comes later, and twice is once; the holder goes on, and may offer again. */
	check_eq(shmipc_offer_cancel(ep), -ENOENT);
	check_eq(shmipc_yield(ep, NULL, 0), -ENOENT);
	pair_fork(&p, refused_successor, &held);
	pair_end(&p);
	close(held);
	check_eq(shmipc_listen(ep, p.name, NULL, &listener), 0);
	check_eq(shmipc_accept(listener, &session, 0), -EAGAIN);
	check_eq(shmipc_offer(ep, &usual, &fd), 0);
	check_eq(shmipc_offer_cancel(ep), 0);
	shmipc_close(ep);
}

static void left_behind(struct pair *p, void *arg)
{
	struct shmipc_options orphan = { .size = sizeof(orphan), .orphan_ms = 60000 };
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;

	(void)arg;
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, p->name, &orphan, &listener), 0);
	pair_tell(p);
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	pair_tell(p);
	pair_hear(p);
	_exit(0);
}

/* The peer sees a death, and the name is a new server's. */
static void test_fresh(void **state)
{
	struct shmipc_options fresh = { .size = sizeof(fresh), .flags = SHMIPC_FRESH };
	struct shmipc_endpoint *client, *server;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_event event;
	struct pair p;

	(void)state;
	check_eq(shmipc_open(&client, 0), 0);
	check_eq(shmipc_open(&server, 0), 0);
	pair_fork(&p, left_behind, NULL);
	pair_hear(&p);
	check_eq(shmipc_connect(client, p.name, NULL, &session, LIMIT), 0);
	pair_hear(&p);
	/* Who lives keeps the name. */
	check_eq(shmipc_listen(server, p.name, &fresh, &listener), -EADDRINUSE);
	pair_tell(&p);
	pair_end(&p);
	check_eq(shmipc_listen(server, p.name, NULL, &listener), -EOWNERDEAD);
	check_eq(shmipc_session_error(session), 0);
	check_eq(shmipc_listen(server, p.name, &fresh, &listener), 0);
	do
		check(shmipc_wait(client, &event, 1, LIMIT) == 1);
	while (event.type != SHMIPC_EV_CLOSED);
	check_eq(shmipc_session_error(session), -EOWNERDEAD);
	shmipc_close(client);
	shmipc_close(server);
}

/* Nobody keeps what a program leaves that dies, and the provider says so. */
static void test_embedded_no_orphans(void **state)
{
	struct shmipc_options orphan = { .size = sizeof(orphan), .orphan_ms = 1000 };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep, *next;
	char name[64];

	(void)state;
	pair_unique(name);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, name, &orphan, &listener), -EOPNOTSUPP);
	check(strstr(shmipc_last_error(), "module"));
	/* The other failure's sentence is there for the next one to replace. */
	check_eq(shmipc_yield(ep, NULL, 0), -ENOENT);
	check(!strstr(shmipc_last_error(), "module"));
	/* The refused name was not taken. */
	check_eq(shmipc_adopt(name, -1, NULL, &next, LIMIT), -ENOENT);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	shmipc_close(ep);
}

int main(void)
{
	const struct CMUnitTest kernel[] = {
		pair_test(test_planned_by_fd),
		pair_test(test_planned_by_name),
		pair_test(test_peer_has_gone),
		pair_test(test_successor_dies),
		pair_test(test_too_late),
		pair_test(test_something_is_out),
		pair_test(test_stale),
		pair_test(test_cancel),
		pair_test(test_crash),
		pair_test(test_fresh),
	};
	const struct CMUnitTest embedded[] = {
		pair_test(test_planned_by_fd),
		pair_test(test_planned_by_name),
		pair_test(test_peer_has_gone),
		pair_test(test_successor_dies),
		pair_test(test_too_late),
		pair_test(test_something_is_out),
		pair_test(test_stale),
		pair_test(test_cancel),
		pair_test(test_embedded_no_orphans),
	};

	return pair_is_kernel() ? cmocka_run_group_tests(kernel, NULL, NULL) :
				  cmocka_run_group_tests(embedded, NULL, NULL);
}
