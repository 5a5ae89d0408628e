// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What is refused, and with which errno; each refusal beside the same thing where it is allowed. */
#include "pair.h"

#include <grp.h>
#include <poll.h>
#include <pthread.h>

static struct shmipc_endpoint *ep_open(void)
{
	struct shmipc_endpoint *ep;

	check_eq(shmipc_open(&ep, 0), 0);
	return ep;
}

static void test_open(void **state)
{
	struct shmipc_endpoint *ep;

	(void)state;
	check_eq(shmipc_open(&ep, 1), -EINVAL);
	check(strlen(shmipc_last_error()) > 0);
	ep = ep_open();
	check_eq(strlen(shmipc_last_error()), 0);
	check(!strcmp(shmipc_provider(ep), pair_is_kernel() ? "kernel" : "embedded"));
	check(strlen(shmipc_version()) >= 5);
	shmipc_close(ep);
	shmipc_close(NULL);
	shmipc_session_close(NULL);
	shmipc_listener_close(NULL);
	shmipc_stream_close(NULL);
	for (int e = -200; e <= 0; e++)
		check(shmipc_strerror(e) && *shmipc_strerror(e));
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"", " ", "a b", "a\n", "\xc3\xa4", "a*", "a\\",
		"0123456789012345678901234567890123456789012345678901234567890123",
	};
	struct shmipc_endpoint *ep = ep_open();
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	char longest[64], own[64];

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_eq(shmipc_listen(ep, bad[i], NULL, &listener), -EINVAL);
		check_eq(shmipc_connect(ep, bad[i], NULL, &session, MS), -EINVAL);
	}
	check_eq(shmipc_listen(ep, NULL, NULL, &listener), -EINVAL);
	snprintf(longest, sizeof(longest), "Az09._:/-%054d", getpid());
	check_eq(strlen(longest), 63);
	check_eq(shmipc_listen(ep, longest, NULL, &listener), 0);
	shmipc_listener_close(listener);
	/* A name of one's own uid, and of another. */
	snprintf(own, sizeof(own), "u%u/test.%d", geteuid(), getpid());
	check_eq(shmipc_listen(ep, own, NULL, &listener), 0);
	shmipc_listener_close(listener);
	snprintf(own, sizeof(own), "u%u/test.%d", geteuid() + 1, getpid());
	check_eq(shmipc_listen(ep, own, NULL, &listener), -EACCES);
	shmipc_close(ep);
}

static void *connects(void *name)
{
	struct shmipc_endpoint *ep = ep_open();
	struct shmipc_session *session;

	check_eq(shmipc_connect(ep, name, NULL, &session, LIMIT), 0);
	check_eq(strlen(shmipc_last_error()), 0);
	shmipc_close(ep);
	return NULL;
}

/* What once failed is not said of a later failure that has nothing to say. */
static void test_last_error(void **state)
{
	struct shmipc_endpoint *ep = ep_open();
	struct shmipc_listener *listener, *second;
	struct shmipc_session *session;
	pthread_t thread;
	char name[64];

	(void)state;
	pair_unique(name);
	check_eq(shmipc_connect(ep, name, NULL, &session, MS), -ENOENT);
	check(strstr(shmipc_last_error(), name) != NULL);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	check_eq(strlen(shmipc_last_error()), 0);
	check_eq(shmipc_listen(ep, name, NULL, &second), -EADDRINUSE);
	check(strlen(shmipc_last_error()) > 0);
	check_eq(pthread_create(&thread, NULL, connects, name), 0);
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	check_eq(strlen(shmipc_last_error()), 0);
	check_eq(pthread_join(thread, NULL), 0);
	shmipc_close(ep);
}

static void test_options(void **state)
{
	static const struct shmipc_options bad[] = {
		{ .size = 0 }, { .size = 39 },
		{ .size = sizeof(bad[0]), .flags = 8 }, { .size = sizeof(bad[0]), .mode = 01777 },
		{ .size = sizeof(bad[0]), .max_streams = 1 },
		{ .size = sizeof(bad[0]), .max_streams = 16386 },
		{ .size = sizeof(bad[0]), .window = 100 },
		{ .size = sizeof(bad[0]), .window = 65536, .max_memory = 4096 },
		{ .size = sizeof(bad[0]), .backlog = 1U << 30 },
	};
	static const struct shmipc_options good[] = {
		{ .size = 40 }, { .size = sizeof(good[0]) },
		{ .size = sizeof(good[0]), .flags = SHMIPC_SEALED },
		{ .size = sizeof(good[0]), .flags = SHMIPC_FRESH },
		{ .size = sizeof(good[0]), .mode = 0777, .max_streams = 2, .window = 4096 },
		{ .size = sizeof(good[0]), .max_streams = 16384, .window = 1 << 30 },
	};
	struct shmipc_endpoint *ep = ep_open();
	struct shmipc_listener *listener;
	char name[64];

	(void)state;
	for (unsigned int i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		pair_unique(name);
		check_eq(shmipc_listen(ep, name, &good[i], &listener), 0);
		shmipc_listener_close(listener);
	}
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		pair_unique(name);
		check_eq(shmipc_listen(ep, name, &bad[i], &listener), -EINVAL);
		check(strlen(shmipc_last_error()) > 0);
	}
	shmipc_close(ep);
}

static void test_in_use(void **state)
{
	struct shmipc_endpoint *ep = ep_open(), *other = ep_open();
	struct shmipc_listener *listener, *second;
	struct shmipc_session *session;
	char name[64];

	(void)state;
	pair_unique(name);
	check_eq(shmipc_connect(other, name, NULL, &session, MS), -ENOENT);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	check_eq(shmipc_listen(ep, name, NULL, &second), -EADDRINUSE);
	check_eq(shmipc_listen(other, name, NULL, &second), -EADDRINUSE);
	shmipc_listener_close(listener);
	check_eq(shmipc_connect(other, name, NULL, &session, MS), -ENOENT);
	check_eq(shmipc_listen(other, name, NULL, &second), 0);
	shmipc_close(other);
	shmipc_close(ep);
}

/* ---- who may connect -------------------------------------------------------------- */

static void become_nobody(void)
{
	check_eq(setgroups(0, NULL), 0);
	check_eq(setgid(65534), 0);
	check_eq(setuid(65534), 0);
}

struct visit {
	char name[64];
	int expected;
};

static void visitor(struct pair *p, void *arg)
{
	struct visit *v = arg;
	struct shmipc_session *session;

	pair_hear(p);
	become_nobody();
	check_eq(shmipc_open(&p->ep, 0), 0);
	check_eq(shmipc_connect(p->ep, v->name, NULL, &session, LIMIT), v->expected);
	pair_tell(p);
}

static void visit(uint32_t mode, int expected)
{
	struct shmipc_options opt = { .size = sizeof(opt), .mode = mode };
	struct shmipc_endpoint *ep;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_peer_info peer;
	struct visit v = { .expected = expected };
	struct pollfd pfd = { .events = POLLIN };
	struct pair p;

	pair_unique(v.name);
	pair_fork(&p, visitor, &v);
	pfd.fd = p.wire;
	ep = ep_open();
	check_eq(shmipc_listen(ep, v.name, &opt, &listener), 0);
	pair_tell(&p);
	if (!expected) {
		check_eq(shmipc_accept(listener, &session, LIMIT), 0);
		check_eq(shmipc_session_peer(session, &peer), 0);
		check_eq(peer.uid, 65534);
		check_eq(peer.gid, 65534);
		check_eq(peer.pid, p.child);
	}
	/* Without the module it is the listener who refuses, when it looks. */
	while (expected && !poll(&pfd, 1, 0))
		check_eq(shmipc_accept(listener, &session, MS), -ETIMEDOUT);
	pair_hear(&p);
	pair_wait(&p);
	shmipc_close(ep);
	close(p.wire);
}

static void test_mode(void **state)
{
	(void)state;
	if (geteuid()) {
		print_message("skip: only root can become another user\n");
		skip();
	}
	visit(0666, 0);
	visit(0602, 0);
	visit(0600, -EACCES);
	visit(0660, -EACCES);
	visit(0664, -EACCES);
}

static void uid_child(struct pair *p, void *arg)
{
	struct shmipc_options opt = { .size = sizeof(opt), .flags = SHMIPC_EXPECT_UID };
	struct shmipc_session *session;

	(void)arg;
	opt.expect_uid = geteuid() + 1;
	check_eq(shmipc_connect(p->ep, p->name, &opt, &session, LIMIT), -EACCES);
	opt.expect_uid = geteuid();
	check_eq(shmipc_connect(p->ep, p->name, &opt, &session, LIMIT), 0);
	pair_hear(p);
}

static void test_expect_uid(void **state)
{
	struct shmipc_session *session;
	struct shmipc_peer_info peer;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, uid_child, NULL);
	check_eq(shmipc_accept(p.listener, &session, LIMIT), 0);
	check_eq(shmipc_session_peer(session, &peer), 0);
	check_eq(peer.uid, geteuid());
	check_eq(peer.pid, p.child);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- not accepted ------------------------------------------------------------------ */

static void refused_child(struct pair *p, void *arg)
{
	struct shmipc_session *session;

	check_eq(shmipc_open(&p->ep, 0), 0);
	pair_hear(p);
	pair_tell(p);
	check_eq(shmipc_connect(p->ep, arg, NULL, &session, LIMIT), -ECONNREFUSED);
}

static void test_refused(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_event event;
	struct shmipc_endpoint *ep;
	struct pair p;
	char name[64];

	(void)state;
	pair_unique(name);
	pair_fork(&p, refused_child, name);
	ep = ep_open();
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	pair_tell(&p);
	pair_hear(&p);
	check_eq(shmipc_wait(ep, &event, 1, LIMIT), 1);
	check_eq(event.type, SHMIPC_EV_ACCEPT);
	shmipc_listener_close(listener);
	pair_wait(&p);
	shmipc_close(ep);
	close(p.wire);
}

static void *connect_blocked(void *arg)
{
	struct shmipc_endpoint *ep = ep_open();
	struct shmipc_session *session;
	int err = shmipc_connect(ep, arg, NULL, &session, LIMIT);

	shmipc_close(ep);
	return (void *)(intptr_t)err;
}

/* One waits; the next is told that there is no room, at once. */
static void test_backlog(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .backlog = 1 };
	struct shmipc_endpoint *ep = ep_open(), *other = ep_open();
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_event event;
	pthread_t thread;
	char name[64];
	void *result;
	int full = 0;

	(void)state;
	pair_unique(name);
	check_eq(shmipc_listen(ep, name, &opt, &listener), 0);
	pthread_create(&thread, NULL, connect_blocked, name);
	check_eq(shmipc_wait(ep, &event, 1, LIMIT), 1);
	/* The embedded one's queue is the socket's, which has room for a little more. */
	for (int i = 0; i < 8; i++)
		full += shmipc_connect(other, name, NULL, &session, 20 * MS) == -EAGAIN;
	print_message("%d of 8 found the backlog full\n", full);
	check(full >= (pair_is_kernel() ? 8 : 4));
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	pthread_join(thread, &result);
	check_eq((intptr_t)result, 0);
	shmipc_close(other);
	shmipc_close(ep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_open), pair_test(test_names), pair_test(test_last_error),
		pair_test(test_options),
		pair_test(test_in_use), pair_test(test_mode), pair_test(test_expect_uid),
		pair_test(test_refused), pair_test(test_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
