// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What provider.h promises, of each provider that runs here; and the requests of the kernel one. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <shmipc/shmipc.h>

#include "embedded_name.h"
#include "error.h"
#include "provider.h"

#define LIMIT	((int64_t)30000000000)	/* a wait that must end */
#define MS	((int64_t)1000000)

static const struct provider_ops *ops;

static const char *unique_name(void)
{
	static char name[SHMIPC_NAME_MAX + 1];
	static int n;

	snprintf(name, sizeof(name), "test.provider.%d.%d", getpid(), n++);
	return name;
}

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* An endpoint that listens or connects, with one segment. */
struct end {
	struct provider *pv;
	struct pv_segment segment;
	uint32_t listener, session;
	struct shmipc_peer peer;
	const char *name;
	uint64_t cookie;
	int64_t timeout;
	int err;
	pthread_t thread;
};

static void end_open(struct end *end, const char *name, uint64_t cookie)
{
	memset(end, 0, sizeof(*end));
	end->name = name;
	end->cookie = cookie;
	end->timeout = LIMIT;
	assert_int_equal(ops->open(&end->pv), 0);
	assert_int_equal(ops->segment_create(end->pv, 5000, false, &end->segment), 0);
}

static void end_close(struct end *end)
{
	ops->segment_destroy(end->pv, &end->segment);
	ops->close(end->pv, false);
}

static int end_bind(struct end *end, uint32_t backlog)
{
	struct pv_bind bind = { .name = end->name, .mode = 0600, .backlog = backlog,
				.cookie = end->cookie + 1000 };

	return ops->bind(end->pv, &bind, &end->listener);
}

static int end_connect(struct end *end)
{
	struct pv_connect connect = { .name = end->name, .segment = &end->segment,
				      .cookie = end->cookie, .timeout_ns = end->timeout };

	return ops->connect(end->pv, &connect, &end->session, &end->peer);
}

static void *connect_thread(void *arg)
{
	struct end *end = arg;

	end->err = end_connect(end);
	return NULL;
}

static int wait_one(struct end *end, struct shmipc_ready *event, int64_t timeout)
{
	struct pv_sync sync = { .events = event, .max_events = 1, .wait = true,
				.timeout_ns = timeout };

	return ops->sync(end->pv, &sync);
}

static void end_ring(struct end *end, uint32_t bits)
{
	struct shmipc_notify notify = { end->session, bits };
	struct pv_sync sync = { .notify = &notify, .nr_notify = 1 };

	assert_int_equal(ops->sync(end->pv, &sync), 0);
}

static int end_accept(struct end *end)
{
	struct shmipc_ready event;
	int err;

	while ((err = ops->accept(end->pv, end->listener, &end->segment, end->cookie,
				  &end->session, &end->peer)) == -EAGAIN)
		assert_int_not_equal(wait_one(end, &event, LIMIT), 0);
	return err;
}

static void pair(struct end *server, struct end *client)
{
	const char *name = unique_name();

	end_open(server, name, 11);
	end_open(client, name, 22);
	assert_int_equal(end_bind(server, 4), 0);
	assert_int_equal(pthread_create(&client->thread, NULL, connect_thread, client), 0);
	assert_int_equal(end_accept(server), 0);
	pthread_join(client->thread, NULL);
	assert_int_equal(client->err, 0);
}

static void unpair(struct end *server, struct end *client)
{
	end_close(client);
	end_close(server);
}

/* The next event that has one of these causes; others of that object may come before. */
static uint32_t await_cause(struct end *end, uint64_t cookie, uint32_t causes)
{
	struct shmipc_ready event;
	int n;

	do {
		n = wait_one(end, &event, LIMIT);
		assert_int_equal(n, 1);
	} while (event.cookie != cookie || !(event.causes & causes));
	return event.causes;
}

static void drain(struct end *end)
{
	struct shmipc_ready event;

	while (wait_one(end, &event, 0) > 0)
		;
}

/* ---- the contract ------------------------------------------------------------- */

static void test_segment(void **state)
{
	struct end end;
	unsigned char *bytes;

	(void)state;
	end_open(&end, "", 0);
	assert_true(end.segment.len == 8192);
	assert_int_not_equal(end.segment.handle, 0);
	bytes = end.segment.addr;
	for (size_t i = 0; i < end.segment.len; i++)
		assert_int_equal(bytes[i], 0);
	memset(bytes, 0xff, end.segment.len);
	end_close(&end);
}

static void test_pair(void **state)
{
	struct end server, client;
	struct pv_mapping at_server, at_client;

	(void)state;
	pair(&server, &client);
	assert_int_equal(server.peer.pid, getpid());
	assert_int_equal(server.peer.uid, geteuid());
	assert_int_equal(client.peer.pid, getpid());
	assert_int_equal(client.peer.gid, getegid());
	assert_int_equal(ops->segment_map(server.pv, server.session, 0, &at_server), 0);
	assert_int_equal(ops->segment_map(client.pv, client.session, 0, &at_client), 0);
	assert_true(at_server.len == client.segment.len);
	strcpy(server.segment.addr, "from the server");
	strcpy(client.segment.addr, "from the client");
	assert_string_equal(at_server.addr, "from the client");
	assert_string_equal(at_client.addr, "from the server");
	/* What is mapped outlives its owner's session. */
	ops->drop(server.pv, server.session, 0);
	assert_string_equal(at_client.addr, "from the server");
	ops->segment_unmap(server.pv, &at_server);
	ops->segment_unmap(client.pv, &at_client);
	unpair(&server, &client);
}

static void test_grant(void **state)
{
	struct end server, client;
	struct pv_segment more[3];
	struct pv_mapping mapping;

	(void)state;
	pair(&server, &client);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(ops->segment_create(server.pv, 4096 * (i + 1), false, &more[i]), 0);
		*(uint32_t *)more[i].addr = 100 + i;
		assert_int_equal(ops->segment_grant(server.pv, server.session, &more[i], i + 1), 0);
	}
	/* In another order than granted. */
	for (uint32_t i = 3; i-- > 0;) {
		assert_int_equal(ops->segment_map(client.pv, client.session, i + 1, &mapping), 0);
		assert_int_equal(*(const uint32_t *)mapping.addr, 100 + i);
		assert_true(mapping.len == 4096 * (i + 1));
		ops->segment_unmap(client.pv, &mapping);
	}
	assert_int_equal(ops->segment_map(client.pv, client.session, 9, &mapping), -ENOENT);
	assert_int_equal(ops->segment_map(client.pv, 0x7777, 1, &mapping), -ENOENT);
	assert_int_equal(ops->segment_grant(server.pv, server.session, &more[0], SHMIPC_SLOTS_MAX),
			 -EINVAL);
	assert_int_equal(ops->segment_grant(server.pv, 0x7777, &more[0], 4), -ENOENT);
	for (int i = 0; i < 3; i++)
		ops->segment_destroy(server.pv, &more[i]);
	unpair(&server, &client);
}

static void test_bells(void **state)
{
	struct end server, client;

	(void)state;
	pair(&server, &client);
	drain(&server);
	drain(&client);
	/* Before the wait, and many for one. */
	for (int i = 0; i < 5; i++)
		end_ring(&client, BELL_DATA);
	assert_true(await_cause(&server, 11, BELL_DATA) & BELL_DATA);
	drain(&server);
	for (int i = 0; i < 100; i++) {
		end_ring(&server, BELL_DATA);
		await_cause(&client, 22, BELL_DATA);
		end_ring(&client, BELL_SPACE);
		await_cause(&server, 11, BELL_SPACE);
	}
	unpair(&server, &client);
}

static void test_sync_times(void **state)
{
	struct shmipc_ready event;
	struct end end;
	int64_t start, took;

	(void)state;
	end_open(&end, "", 0);
	assert_int_equal(wait_one(&end, &event, 0), 0);
	start = now();
	assert_int_equal(wait_one(&end, &event, 30 * MS), 0);
	took = now() - start;
	print_message("a wait of 30 ms took %lld us\n", (long long)took / 1000);
	assert_true(took >= 30 * MS);
	assert_true(took < LIMIT);
	end_close(&end);
}

static void *wait_thread(void *arg)
{
	struct end *end = arg;
	struct shmipc_ready event = { .cookie = 1 };

	end->err = wait_one(end, &event, LIMIT);
	end->cookie = event.cookie;
	return NULL;
}

/* It ends a wait that is on, or else the next one, and a bell beside it is not lost. */
static void test_kick(void **state)
{
	struct shmipc_ready event;
	struct end server, client;
	struct pollfd pfd = { .events = POLLIN };
	bool kicked = false, rang = false;

	(void)state;
	pair(&server, &client);
	drain(&server);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&server.thread, NULL, wait_thread, &server), 0);
		if (i % 2)
			usleep(1000);
		ops->kick(server.pv);
		pthread_join(server.thread, NULL);
		assert_int_equal(server.err, 1);
		assert_int_equal(server.cookie, 0);
		assert_int_equal(wait_one(&server, &event, 0), 0);
	}
	pfd.fd = server.pv->fd;
	ops->kick(server.pv);
	ops->kick(server.pv);
	end_ring(&client, BELL_DATA);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(poll(&pfd, 1, 0), 1);
		assert_int_equal(wait_one(&server, &event, LIMIT), 1);
		kicked |= event.cookie == 0;
		rang |= event.cookie == 11;
	}
	assert_true(kicked && rang);
	assert_int_equal(wait_one(&server, &event, 0), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	unpair(&server, &client);
}

static void test_bad_handles(void **state)
{
	struct shmipc_notify notify[3];
	struct end server, client;
	struct pv_sync sync = { .notify = notify, .nr_notify = 3 };

	(void)state;
	pair(&server, &client);
	drain(&server);
	notify[0] = (struct shmipc_notify){ 0, BELL_DATA };
	notify[1] = (struct shmipc_notify){ 0xdead, BELL_DATA };
	notify[2] = (struct shmipc_notify){ client.session, BELL_DATA };
	assert_int_equal(ops->sync(client.pv, &sync), 0);
	await_cause(&server, 11, BELL_DATA);
	ops->drop(client.pv, 0xdead, 0);
	ops->drop(client.pv, 0, 0);
	unpair(&server, &client);
}

static void test_closed(void **state)
{
	struct shmipc_ready event;
	struct end server, client;

	(void)state;
	pair(&server, &client);
	ops->drop(client.pv, client.session, 3);
	assert_true(await_cause(&server, 11, SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED) &
		    SHMIPC_CAUSE_PEER_CLOSED);
	/* Once. */
	assert_int_equal(wait_one(&server, &event, 20 * MS), 0);
	end_ring(&server, BELL_DATA);
	unpair(&server, &client);
}

static void test_close_endpoint(void **state)
{
	struct end server, client;

	(void)state;
	pair(&server, &client);
	end_close(&server);
	assert_true(await_cause(&client, 22, SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED) &
		    SHMIPC_CAUSE_PEER_CLOSED);
	end_close(&client);
}

static void test_poll(void **state)
{
	struct end server, client;
	struct pollfd fd;

	(void)state;
	pair(&server, &client);
	drain(&server);
	fd = (struct pollfd){ .fd = server.pv->fd, .events = POLLIN };
	assert_int_equal(poll(&fd, 1, 0), 0);
	end_ring(&client, BELL_DATA);
	assert_int_equal(poll(&fd, 1, 30000), 1);
	drain(&server);
	assert_int_equal(poll(&fd, 1, 0), 0);
	unpair(&server, &client);
}

/* More is ready than there is room for: the rest stays, and poll() says so. */
static void test_leftovers(void **state)
{
	enum { CLIENTS = 5 };
	const char *name = unique_name();
	struct end server, client[CLIENTS];
	struct shmipc_ready event;
	uint32_t seen = 0;
	struct pollfd fd;

	(void)state;
	end_open(&server, name, 0);
	assert_int_equal(end_bind(&server, CLIENTS), 0);
	fd = (struct pollfd){ .fd = server.pv->fd, .events = POLLIN };
	for (int i = 0; i < CLIENTS; i++) {
		end_open(&client[i], name, 500);
		server.cookie = (uint64_t)i;
		pthread_create(&client[i].thread, NULL, connect_thread, &client[i]);
		assert_int_equal(end_accept(&server), 0);
		pthread_join(client[i].thread, NULL);
		assert_int_equal(client[i].err, 0);
	}
	drain(&server);
	for (int i = 0; i < CLIENTS; i++)
		end_ring(&client[i], BELL_DATA);
	for (int i = 0; i < CLIENTS; i++) {
		assert_int_equal(poll(&fd, 1, 30000), 1);
		assert_int_equal(wait_one(&server, &event, LIMIT), 1);
		seen |= 1U << event.cookie;
	}
	assert_int_equal(seen, (1U << CLIENTS) - 1);
	assert_int_equal(poll(&fd, 1, 0), 0);
	for (int i = 0; i < CLIENTS; i++)
		end_close(&client[i]);
	end_close(&server);
}

/* ---- the rendezvous's errors ----------------------------------------------------- */

static void test_nobody(void **state)
{
	struct end client;

	(void)state;
	end_open(&client, unique_name(), 0);
	assert_int_equal(end_connect(&client), -ENOENT);
	assert_non_null(strstr(shmipc_last_error(), client.name));
	client.name = "no spaces";
	assert_int_equal(end_connect(&client), -EINVAL);
	end_close(&client);
}

static void test_in_use(void **state)
{
	struct end first, second;

	(void)state;
	end_open(&first, unique_name(), 0);
	end_open(&second, first.name, 0);
	assert_int_equal(end_bind(&first, 1), 0);
	assert_int_equal(end_bind(&second, 1), -EADDRINUSE);
	ops->drop(first.pv, first.listener, 0);
	assert_int_equal(end_bind(&second, 1), 0);
	end_close(&first);
	end_close(&second);
}

static void test_timeout(void **state)
{
	struct end server, client;
	int64_t start;

	(void)state;
	end_open(&server, unique_name(), 0);
	end_open(&client, server.name, 0);
	assert_int_equal(end_bind(&server, 4), 0);
	client.timeout = 30 * MS;
	start = now();
	assert_int_equal(end_connect(&client), -ETIMEDOUT);
	assert_true(now() - start >= 30 * MS);
	/* It left nothing behind: there is nothing to accept. */
	assert_int_equal(ops->accept(server.pv, server.listener, &server.segment, 0,
				     &server.session, &server.peer), -EAGAIN);
	end_close(&client);
	end_close(&server);
}

static void test_backlog(void **state)
{
	enum { BACKLOG = 2, MANY = 12 };
	struct end server, client;
	int full = 0;

	(void)state;
	end_open(&server, unique_name(), 0);
	end_open(&client, server.name, 0);
	assert_int_equal(end_bind(&server, BACKLOG), 0);
	client.timeout = 1 * MS;
	/* Those that gave up still stand in the queue, as nobody looks at it. */
	for (int i = 0; i < MANY; i++) {
		int err = end_connect(&client);

		assert_true(err == -ETIMEDOUT || err == -EAGAIN);
		full += err == -EAGAIN;
	}
	print_message("backlog %d: %d of %d refused\n", BACKLOG, full, MANY);
	if (ops == &provider_embedded)
		assert_in_range(full, MANY - BACKLOG - 2, MANY - BACKLOG);
	end_close(&client);
	end_close(&server);
}

/* A listener that is awake says it, too, and is told apart from one that closed. */
static void test_backlog_told(void **state)
{
	struct end server, first, second;
	struct shmipc_ready event;
	int64_t until = now() + LIMIT;

	(void)state;
	end_open(&server, unique_name(), 0);
	end_open(&first, server.name, 0);
	end_open(&second, server.name, 0);
	assert_int_equal(end_bind(&server, 1), 0);
	pthread_create(&first.thread, NULL, connect_thread, &first);
	assert_int_equal(wait_one(&server, &event, LIMIT), 1);
	assert_true(event.causes & SHMIPC_CAUSE_ACCEPT);
	pthread_create(&second.thread, NULL, connect_thread, &second);
	while (pthread_tryjoin_np(second.thread, NULL) && now() < until)
		wait_one(&server, &event, 10 * MS);
	assert_true(now() < until);
	assert_int_equal(second.err, -EAGAIN);
	ops->drop(server.pv, server.listener, 0);
	pthread_join(first.thread, NULL);
	assert_int_equal(first.err, -ECONNREFUSED);
	end_close(&first);
	end_close(&second);
	end_close(&server);
}

static void test_refused(void **state)
{
	struct end server, client;
	struct shmipc_ready event;

	(void)state;
	end_open(&server, unique_name(), 0);
	end_open(&client, server.name, 0);
	assert_int_equal(end_bind(&server, 4), 0);
	pthread_create(&client.thread, NULL, connect_thread, &client);
	assert_int_equal(wait_one(&server, &event, LIMIT), 1);
	assert_true(event.causes & SHMIPC_CAUSE_ACCEPT);
	assert_true(event.cookie == 1000);
	ops->drop(server.pv, server.listener, 0);
	pthread_join(client.thread, NULL);
	assert_int_equal(client.err, -ECONNREFUSED);
	assert_int_equal(end_connect(&client), -ENOENT);
	end_close(&client);
	end_close(&server);
}

static void test_expect_uid(void **state)
{
	struct end server, client;
	struct pv_connect connect;

	(void)state;
	end_open(&server, unique_name(), 0);
	end_open(&client, server.name, 0);
	assert_int_equal(end_bind(&server, 4), 0);
	connect = (struct pv_connect){ .name = server.name, .segment = &client.segment,
				       .check_uid = true, .expect_uid = geteuid() + 1,
				       .timeout_ns = 20 * MS };
	assert_int_equal(ops->connect(client.pv, &connect, &client.session, &client.peer), -EACCES);
	connect.expect_uid = geteuid();
	assert_int_equal(ops->connect(client.pv, &connect, &client.session, &client.peer),
			 -ETIMEDOUT);
	end_close(&client);
	end_close(&server);
}

/* ---- threads ------------------------------------------------------------------------ */

enum { RINGERS = 3, RINGS = 2000 };

static void *ringer(void *arg)
{
	for (int i = 0; i < RINGS; i++)
		end_ring(arg, BELL_DATA);
	return NULL;
}

static void test_many_ringers(void **state)
{
	struct end server, client;
	pthread_t threads[RINGERS];
	struct shmipc_ready event;
	int bells = 0;

	(void)state;
	pair(&server, &client);
	drain(&server);
	for (int i = 0; i < RINGERS; i++)
		pthread_create(&threads[i], NULL, ringer, &client);
	while (wait_one(&server, &event, 200 * MS))
		bells += event.cookie == 11;
	for (int i = 0; i < RINGERS; i++)
		pthread_join(threads[i], NULL);
	/* The last one after all others: however few the bells were, it must be heard. */
	drain(&server);
	end_ring(&client, BELL_DATA);
	await_cause(&server, 11, BELL_DATA);
	print_message("%d rings, %d wake-ups\n", RINGERS * RINGS, bells);
	assert_in_range(bells, 1, RINGERS * RINGS);
	unpair(&server, &client);
}

static void *churn(void *arg)
{
	struct end client;

	for (int i = 0; i < 50; i++) {
		end_open(&client, arg, 7);
		if (!end_connect(&client)) {
			end_ring(&client, BELL_DATA);
			ops->drop(client.pv, client.session, 0);
		}
		end_close(&client);
	}
	return NULL;
}

/* accept, drop and sync at once, against peers that come and go. */
static void test_churn(void **state)
{
	struct end server;
	pthread_t threads[2];
	struct shmipc_ready event[4];
	struct pv_sync sync = { .events = event, .max_events = 4, .wait = true,
				.timeout_ns = LIMIT };
	int closed = 0;

	(void)state;
	end_open(&server, unique_name(), 0);
	assert_int_equal(end_bind(&server, 16), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)server.name);
	while (closed < 100) {
		int n = ops->sync(server.pv, &sync);

		assert_in_range(n, 1, 4);
		for (int i = 0; i < n; i++) {
			if (event[i].causes & SHMIPC_CAUSE_PEER_CLOSED) {
				ops->drop(server.pv, event[i].handle, 0);
				closed++;
			}
			assert_false(event[i].causes & SHMIPC_CAUSE_PEER_DIED);
		}
		while (!ops->accept(server.pv, server.listener, &server.segment, 5,
				    &server.session, &server.peer))
			;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	end_close(&server);
}

/* ---- which provider -------------------------------------------------------------------- */

static void test_choice(void **state)
{
	const char *before = getenv("SHMIPC_PROVIDER");
	char *keep = before ? strdup(before) : NULL;
	struct provider *pv;

	(void)state;
	setenv("SHMIPC_PROVIDER", "embedded", 1);
	assert_int_equal(provider_open(&pv), 0);
	assert_string_equal(pv->ops->name, "embedded");
	pv->ops->close(pv, false);
	setenv("SHMIPC_PROVIDER", "local", 1);
	assert_int_equal(provider_open(&pv), 0);
	assert_string_equal(pv->ops->name, "local");
	pv->ops->close(pv, false);
	setenv("SHMIPC_PROVIDER", "other", 1);
	assert_int_equal(provider_open(&pv), -EINVAL);
	assert_non_null(strstr(shmipc_last_error(), "other"));
	if (keep)
		setenv("SHMIPC_PROVIDER", keep, 1);
	else
		unsetenv("SHMIPC_PROVIDER");
	free(keep);
}

#define CONTRACT() \
	cmocka_unit_test(test_segment), cmocka_unit_test(test_pair), \
	cmocka_unit_test(test_grant), cmocka_unit_test(test_bells), \
	cmocka_unit_test(test_kick), cmocka_unit_test(test_sync_times), cmocka_unit_test(test_bad_handles), \
	cmocka_unit_test(test_closed), cmocka_unit_test(test_close_endpoint), \
	cmocka_unit_test(test_poll), cmocka_unit_test(test_leftovers), \
	cmocka_unit_test(test_nobody), cmocka_unit_test(test_in_use), \
	cmocka_unit_test(test_timeout), cmocka_unit_test(test_backlog), \
	cmocka_unit_test(test_backlog_told), \
	cmocka_unit_test(test_refused), cmocka_unit_test(test_expect_uid), \
	cmocka_unit_test(test_many_ringers), cmocka_unit_test(test_churn)

int main(void)
{
	const struct CMUnitTest contract[] = { CONTRACT() };
	const struct CMUnitTest others[] = { cmocka_unit_test(test_choice) };
	int bad = 0;

	ops = &provider_embedded;
	bad += cmocka_run_group_tests_name("embedded", contract, NULL, NULL);
	ops = &provider_local;
	bad += cmocka_run_group_tests_name("local", contract, NULL, NULL);
	bad += cmocka_run_group_tests_name("choice", others, NULL, NULL);
	return bad;
}
