// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a program leaves that it had not taken up itself, successors that die as well, and strangers.
 * The test is the client; servers are its children. The embedded provider has no orphans.
 */
#include "pair.h"

#include <poll.h>
#include <signal.h>

#define SECOND	((int64_t)1000000000)
#define NOBODY	65534

static const struct shmipc_offer_options by_name = {
	.size = sizeof(by_name), .flags = SHMIPC_OFFER_BY_NAME, .timeout_ns = 30 * SECOND,
	.state_max = 1000,
};

static const struct shmipc_options orphan = { .size = sizeof(orphan), .orphan_ms = 30000 };

/* Waits for a successor and yields, or waits for its death. */
static void leave(struct pair *p, struct shmipc_endpoint *ep, bool crash)
{
	struct shmipc_event event;
	int fd;

	if (!crash)
		check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	pair_tell(p);
	if (crash)
		pause();
	do {
		check(shmipc_wait(ep, &event, 1, LIMIT) >= 0);
	} while (event.type != SHMIPC_EV_OFFER);
	check_eq(shmipc_yield(ep, NULL, 0), 0);
	shmipc_close(ep);
}

static void expect_text(struct shmipc_stream *st, const char *text)
{
	char buf[32];

	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), strlen(text));
	check(!memcmp(buf, text, strlen(text)));
}

static void send_text(struct shmipc_stream *st, const char *text)
{
	send_all(st, text, strlen(text));
}

/* ---- not accepted yet ------------------------------------------------------ */

struct plan {
	char name[64];
	bool crash;
};

static void accepts_one(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, plan->name, plan->crash ? &orphan : NULL, &listener), 0);
	pair_tell(p);
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
	expect_text(st, "one");
	/* The others are there, too: known to the library, not to the program. */
	pair_hear(p);
	check_eq(shmipc_wait(ep, &(struct shmipc_event){ 0 }, 1, 0) >= 0, true);
	leave(p, ep, plan->crash);
}

static void accepts_the_rest(struct pair *p, void *arg)
{
	struct shmipc_session *session = NULL;
	struct shmipc_stream *st, *first = NULL;
	struct plan *plan = arg;
	struct shmipc_adopted item;
	struct shmipc_endpoint *ep;

	pair_hear(p);
	check_eq(shmipc_adopt(plan->name, -1, NULL, &ep, LIMIT), 0);
	while (shmipc_adopted_next(ep, &item)) {
		if (item.type == SHMIPC_ADOPTED_SESSION)
			session = item.object;
		if (item.type != SHMIPC_ADOPTED_STREAM)
			continue;
		check(!first);
		first = item.object;
	}
	check(session && first);
	check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
	expect_text(st, "two");
	send_text(st, "2");
	shmipc_stream_close(st);
	check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
	expect_text(st, "three");
	check_eq(shmipc_read(st, &(char){ 0 }, 1, LIMIT), 0);
	send_text(st, "3");
	shmipc_stream_close(st);
	send_text(first, "1");
	pair_hear(p);
	shmipc_close(ep);
}

static void not_accepted(bool crash)
{
	struct plan plan = { .crash = crash };
	struct shmipc_session *session;
	struct shmipc_stream *st[3];
	struct shmipc_endpoint *ep;
	struct pair p[2];

	pair_unique(plan.name);
	pair_fork(&p[0], accepts_one, &plan);
	pair_fork(&p[1], accepts_the_rest, &plan);
	pair_hear(&p[0]);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_connect(ep, plan.name, NULL, &session, LIMIT), 0);
	for (int i = 0; i < 3; i++) {
		check_eq(shmipc_stream_open(session, &st[i]), 0);
		send_text(st[i], (const char *[]){ "one", "two", "three" }[i]);
	}
	check_eq(shmipc_finish(st[2]), 0);
	pair_tell(&p[0]);
	pair_hear(&p[0]);
	if (crash)
		pair_kill(&p[0]);
	pair_tell(&p[1]);
	for (int i = 0; i < 3; i++)
		expect_text(st[i], (const char *[]){ "1", "2", "3" }[i]);
	shmipc_close(ep);
	pair_tell(&p[1]);
	if (!crash)
		pair_wait(&p[0]);
	pair_close(&p[0]);
	pair_end(&p[1]);
}

static void test_not_accepted(void **state)
{
	(void)state;
	not_accepted(false);
}

static void test_not_accepted_crash(void **state)
{
	(void)state;
	not_accepted(true);
}

/* ---- successors that die, too ----------------------------------------------- */

/* Takes some messages, returns fewer, and is killed. */
static void first_victim(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_message m[3];
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, plan->name, &orphan, &listener), 0);
	pair_tell(p);
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
	for (int i = 0; i < 3; i++)
		check_eq(shmipc_peek(st, &m[i], LIMIT), 1);
	check_eq(shmipc_return(st, &m[0]), 0);
	leave(p, ep, true);
}

static struct shmipc_stream *adopt_stream(const char *name, struct shmipc_endpoint **ep)
{
	struct shmipc_stream *st = NULL;
	struct shmipc_adopted item;

	check_eq(shmipc_adopt(name, -1, NULL, ep, LIMIT), 0);
	while (shmipc_adopted_next(*ep, &item))
		if (item.type == SHMIPC_ADOPTED_STREAM)
			st = item.object;
	check(st);
	return st;
}

/* At any moment of an adoption, or after it; it takes no message. */
static void dies_some_time(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_endpoint *ep;

	pair_tell(p);
	adopt_stream(plan->name, &ep);
	pause();
}

static void second_victim(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_endpoint *ep;
	struct shmipc_message m;
	struct shmipc_stream *st = adopt_stream(plan->name, &ep);

	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check(!memcmp(m.spans[0].data, "two", 3));
	check_eq(m.flags, SHMIPC_MSG_REDELIVERED);
	check_eq(shmipc_return(st, &m), 0);
	leave(p, ep, true);
}

static void survivor(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_endpoint *ep;
	struct shmipc_message m;
	struct shmipc_stream *st = adopt_stream(plan->name, &ep);

	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check(!memcmp(m.spans[0].data, "three", 5));
	check_eq(m.flags, SHMIPC_MSG_REDELIVERED);
	check_eq(shmipc_return(st, &m), 0);
	/* Nobody had taken this one. */
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check(!memcmp(m.spans[0].data, "four", 4));
	check_eq(m.flags, 0);
	check_eq(shmipc_return(st, &m), 0);
	send_text(st, "all");
	pair_hear(p);
	shmipc_close(ep);
}

static void test_successors_die(void **state)
{
	size_t rounds = pair_scale(10, 40, 400);
	struct plan plan = { .crash = true };
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct pair p;

	(void)state;
	pair_unique(plan.name);
	pair_fork(&p, first_victim, &plan);
	pair_hear(&p);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_connect(ep, plan.name, NULL, &session, LIMIT), 0);
	check_eq(shmipc_stream_open(session, &st), 0);
	for (int i = 0; i < 4; i++)
		send_text(st, (const char *[]){ "one", "two", "three", "four" }[i]);
	pair_hear(&p);
	pair_kill(&p);
	pair_close(&p);
	for (size_t i = 0; i < rounds; i++) {
		pair_fork(&p, dies_some_time, &plan);
		pair_hear(&p);
		usleep(i * 7919 % 3000);
		pair_kill(&p);
		pair_close(&p);
	}
	pair_fork(&p, second_victim, &plan);
	pair_hear(&p);
	pair_kill(&p);
	pair_close(&p);
	pair_fork(&p, survivor, &plan);
	expect_text(st, "all");
	pair_tell(&p);
	pair_end(&p);
	shmipc_close(ep);
}

/* ---- strangers ---------------------------------------------------------------- */

/* Knows the name, and is nobody: neither while it is offered, nor once it is an orphan. */
static void stranger(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_endpoint *ep;

	pair_hear(p);
	check_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
	check_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_adopt(plan->name, -1, NULL, &ep, LIMIT), -EACCES);
		check_eq(shmipc_adopt("org.shmipc.no-such-name", -1, NULL, &ep, LIMIT), -ENOENT);
		pair_tell(p);
		pair_hear(p);
	}
}

static void offers_and_dies(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;
	int fd;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, plan->name, &orphan, &listener), 0);
	check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	pair_tell(p);
	pause();
}

static void test_stranger(void **state)
{
	struct shmipc_adopted item;
	struct shmipc_endpoint *ep;
	struct plan plan = { 0 };
	struct pair p[2];

	(void)state;
	if (geteuid()) {
		print_message("skip: only root can become another user\n");
		skip();
	}
	pair_unique(plan.name);
	pair_fork(&p[0], offers_and_dies, &plan);
	pair_fork(&p[1], stranger, &plan);
	pair_hear(&p[0]);
	pair_tell(&p[1]);
	pair_hear(&p[1]);
	pair_kill(&p[0]);
	pair_close(&p[0]);
	pair_tell(&p[1]);
	pair_hear(&p[1]);
	/* Who is no stranger may. The state that nobody had written yet is no buffer. */
	check_eq(shmipc_adopt(plan.name, -1, NULL, &ep, LIMIT), 0);
	check_eq(shmipc_adopted_next(ep, &item), 1);
	check_eq(item.type, SHMIPC_ADOPTED_LISTENER);
	check_eq(shmipc_adopted_next(ep, &item), 0);
	shmipc_close(ep);
	pair_tell(&p[1]);
	pair_end(&p[1]);
}

/* ---- the embedded provider alone ---------------------------------------------- */

/* Who comes while an endpoint moves waits for the successor, and does not mind that the old one ends. */
static void connector(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;

	check_eq(shmipc_open(&ep, 0), 0);
	pair_tell(p);
	check_eq(shmipc_connect(ep, plan->name, NULL, &session, LIMIT), 0);
	check_eq(shmipc_stream_open(session, &st), 0);
	send_text(st, "hello");
	expect_text(st, "served");
	shmipc_close(ep);
}

static void offers_one(struct pair *p, void *arg)
{
	struct plan *plan = arg;
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;

	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, plan->name, NULL, &listener), 0);
	pair_tell(p);
	pair_hear(p);
	leave(p, ep, false);
}

/* One was seen by the old server, one lies in its socket, one comes later. */
static void test_connecting(void **state)
{
	struct shmipc_listener *listener = NULL;
	struct shmipc_adopted item;
	struct shmipc_endpoint *ep;
	struct plan plan = { 0 };
	struct pair server, client[3];
	struct shmipc_session *session;
	struct shmipc_stream *st;

	(void)state;
	pair_unique(plan.name);
	pair_fork(&server, offers_one, &plan);
	pair_hear(&server);
	for (int i = 0; i < 2; i++) {
		pair_fork(&client[i], connector, &plan);
		pair_hear(&client[i]);
	}
	pair_tell(&server);
	pair_hear(&server);
	check_eq(shmipc_adopt(plan.name, -1, NULL, &ep, LIMIT), 0);
	while (shmipc_adopted_next(ep, &item))
		if (item.type == SHMIPC_ADOPTED_LISTENER)
			listener = item.object;
	check(listener);
	/* The server has ended before anybody was accepted. */
	pair_wait(&server);
	pair_close(&server);
	pair_fork(&client[2], connector, &plan);
	pair_hear(&client[2]);
	for (int i = 0; i < 3; i++) {
		check_eq(shmipc_accept(listener, &session, LIMIT), 0);
		check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
		expect_text(st, "hello");
		send_text(st, "served");
	}
	for (int i = 0; i < 3; i++)
		pair_end(&client[i]);
	shmipc_close(ep);
}

struct visit {
	const char *name;
	int want;
	uid_t uid;
};

static void visitor(struct pair *p, void *arg)
{
	const struct visit *visit = arg;
	struct shmipc_endpoint *ep;

	if (visit->uid != geteuid())
		check_eq(setresuid(visit->uid, visit->uid, visit->uid), 0);
	check_eq(shmipc_adopt(visit->name, -1, NULL, &ep, LIMIT), visit->want);
	pair_tell(p);
}

/* The owner answers in its calls. */
static void refused_from_outside(struct pair *p, const struct plan *plan, struct shmipc_endpoint *ep,
				 int want, uid_t uid)
{
	struct visit visit = { plan->name, want, uid };
	struct shmipc_event event;

	pair_fork(p, visitor, &visit);
	while (!poll(&(struct pollfd){ .fd = p->wire, .events = POLLIN }, 1, 0))
		check_eq(shmipc_wait(ep, &event, 1, 10 * MS), 0);
	pair_hear(p);
	pair_end(p);
}

/* A name alone gives nobody anything. */
static void test_strange_names(void **state)
{
	struct shmipc_offer_options by_fd = { .size = sizeof(by_fd), .timeout_ns = 30 * SECOND };
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep, *next;
	struct plan plan = { 0 };
	struct pair p;
	int fd;

	(void)state;
	pair_unique(plan.name);
	check_eq(shmipc_adopt("org.shmipc.no-such-name", -1, NULL, &next, LIMIT), -ENOENT);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, plan.name, NULL, &listener), 0);
	refused_from_outside(&p, &plan, ep, -EBUSY, geteuid());
	check_eq(shmipc_offer(ep, &by_fd, &fd), 0);
	refused_from_outside(&p, &plan, ep, -EACCES, geteuid());
	check_eq(shmipc_offer_cancel(ep), 0);
	check_eq(shmipc_offer(ep, &by_name, &fd), 0);
	if (!geteuid())
		refused_from_outside(&p, &plan, ep, -EACCES, NOBODY);
	check_eq(shmipc_yield(ep, NULL, 0), -EAGAIN);
	shmipc_close(ep);
}

int main(void)
{
	const struct CMUnitTest kernel[] = {
		pair_test(test_not_accepted),
		pair_test(test_not_accepted_crash),
		pair_test(test_successors_die),
		pair_test(test_stranger),
	};
	const struct CMUnitTest embedded[] = {
		pair_test(test_not_accepted),
		pair_test(test_connecting),
		pair_test(test_strange_names),
	};

	return pair_is_kernel() ? cmocka_run_group_tests(kernel, NULL, NULL) :
				  cmocka_run_group_tests(embedded, NULL, NULL);
}
