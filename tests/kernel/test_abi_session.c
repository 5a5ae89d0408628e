// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Who may connect to whom, what waits, and what a CONNECT that comes to nothing leaves. */
#define _GNU_SOURCE
#include "abi.h"

#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#define NAME	"test:session"
#define NOBODY	65534

static int connect_call(int fd, struct shmipc_connect *c)
{
	return abi_ioctl(fd, SHMIPC_IOC_CONNECT, c);
}

static int connect_nowait(int fd, uint32_t *session)
{
	struct shmipc_connect c = abi_connect_arg(NAME);
	int ret;

	c.flags = SHMIPC_CONNECT_NONBLOCK;
	ret = connect_call(fd, &c);
	*session = c.out_session;
	return ret;
}

/* ---- waiting ---- */

static void test_timeout(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg;
	long before;

	(void)state;
	must(abi_seg_create(ep.fd, 1, &seg));
	before = abi_alive();
	c.segment = seg.handle;
	c.timeout_ns = 30 * 1000000;
	fails(connect_call(ep.fd, &c), ETIMEDOUT);
	assert_int_equal(abi_alive(), before);
	c.timeout_ns = 0;
	fails(connect_call(ep.fd, &c), ETIMEDOUT);
	assert_int_equal(abi_alive(), before);
	expect_event(ep.fd, listener, SHMIPC_CAUSE_ACCEPT);
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a), EAGAIN);
	abi_expect_quiet(ep.fd);
	abi_ep_close(&ep);
}

struct connector {
	pthread_t thread;
	int fd;
	volatile int result;
	struct shmipc_connect c;
};

static void *connector_run(void *arg)
{
	struct connector *k = arg;

	k->result = connect_call(k->fd, &k->c);
	return NULL;
}

static void connector_start(struct connector *k, int fd)
{
	*k = (struct connector){ .fd = fd, .result = 1, .c = abi_connect_arg(NAME) };
	k->c.timeout_ns = SHMIPC_TIMEOUT_NONE;
	assert_int_equal(pthread_create(&k->thread, NULL, connector_run, k), 0);
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_interrupted(void **state)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	struct connector k;
	long before;

	(void)state;
	abi_bind(server.fd, NAME);
	before = abi_alive();
	sigaction(SIGUSR1, &sa, NULL);
	connector_start(&k, ep.fd);
	abi_sleep_ms(100);
	assert_int_equal(k.result, 1);
	pthread_kill(k.thread, SIGUSR1);
	pthread_join(k.thread, NULL);
	assert_int_equal(k.result, -EINTR);
	assert_int_equal(abi_alive(), before);
	signal(SIGUSR1, SIG_DFL);
	abi_ep_close(&server);
	abi_ep_close(&ep);
}

static void test_listener_closes(void **state)
{
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	uint32_t listener = abi_bind(server.fd, NAME), session;
	struct connector k;

	(void)state;
	must(connect_nowait(ep.fd, &session));
	connector_start(&k, ep.fd);
	abi_sleep_ms(100);
	assert_int_equal(k.result, 1);
	must(abi_close(server.fd, listener, 0));
	pthread_join(k.thread, NULL);
	assert_int_equal(k.result, -ECONNREFUSED);
	expect_event(ep.fd, session, SHMIPC_CAUSE_PEER_CLOSED);
	fails(connect_nowait(ep.fd, &session), ENOENT);
	abi_ep_close(&server);
	abi_ep_close(&ep);
}

/* Its own end, from another thread, while it waits. */
static void test_end_while_connecting(void **state)
{
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	struct connector k;

	(void)state;
	abi_bind(server.fd, NAME);
	connector_start(&k, ep.fd);
	abi_sleep_ms(100);
	must(abi_close(ep.fd, 0, 0));
	pthread_join(k.thread, NULL);
	assert_int_equal(k.result, -ESTALE);
	abi_ep_close(&ep);
	expect_event(server.fd, 1, SHMIPC_CAUSE_ACCEPT);
	abi_ep_close(&server);
}

static void test_blocking(void **state)
{
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	uint32_t listener = abi_bind(server.fd, NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct connector k;

	(void)state;
	connector_start(&k, ep.fd);
	expect_event(server.fd, listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	pthread_join(k.thread, NULL);
	assert_int_equal(k.result, 0);
	abi_expect_quiet(ep.fd);	/* the answer was the call's, no event as well */
	must(abi_ring(server.fd, a.out_session, 1));
	expect_event(ep.fd, k.c.out_session, 1);
	abi_ep_close(&server);
	abi_ep_close(&ep);
}

/* ---- queue and quotas ---- */

static void test_backlog(void **state)
{
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;
	uint32_t s[4];
	long before;

	(void)state;
	b.backlog = 2;
	must(abi_ioctl(server.fd, SHMIPC_IOC_BIND, &b));
	a = abi_accept_arg(b.out_handle);
	must(connect_nowait(ep.fd, &s[0]));
	must(connect_nowait(ep.fd, &s[1]));
	before = abi_alive();
	fails(connect_nowait(ep.fd, &s[2]), EAGAIN);
	assert_int_equal(abi_alive(), before);
	must(abi_close(ep.fd, s[0], 0));
	must(connect_nowait(ep.fd, &s[2]));
	fails(connect_nowait(ep.fd, &s[3]), EAGAIN);
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	must(abi_ring(server.fd, a.out_session, 1));
	expect_event(ep.fd, s[1], SHMIPC_CAUSE_CONNECTED | 1);	/* the oldest that stayed */
	must(connect_nowait(ep.fd, &s[3]));
	abi_ep_close(&server);
	abi_ep_close(&ep);
}

static void test_per_uid(void **state)
{
	struct abi_ep server = abi_ep_open(), ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;
	uint32_t s[3];

	(void)state;
	b.max_per_uid = 2;
	must(abi_ioctl(server.fd, SHMIPC_IOC_BIND, &b));
	a = abi_accept_arg(b.out_handle);
	must(connect_nowait(ep.fd, &s[0]));
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	must(connect_nowait(ep.fd, &s[1]));
	fails(connect_nowait(ep.fd, &s[2]), EDQUOT);
	/* It counts until both sides have closed. */
	must(abi_close(ep.fd, s[0], 0));
	fails(connect_nowait(ep.fd, &s[2]), EDQUOT);
	must(abi_close(server.fd, a.out_session, 0));
	must(connect_nowait(ep.fd, &s[2]));
	fails(connect_nowait(ep.fd, &s[0]), EDQUOT);
	must(abi_close(ep.fd, s[1], 0));	/* never accepted: at once */
	must(connect_nowait(ep.fd, &s[0]));
	abi_ep_close(&server);
	abi_ep_close(&ep);
}

/* Without a number, 64. */
static void test_per_uid_default(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	uint32_t s;
	int i;

	(void)state;
	b.backlog = 100;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	for (i = 0; i < 64; i++)
		must(connect_nowait(ep.fd, &s));
	fails(connect_nowait(ep.fd, &s), EDQUOT);
	abi_ep_close(&ep);
}

/* ---- what comes along ---- */

static void test_metadata(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	char out[SHMIPC_META_MAX], in[SHMIPC_META_MAX + 8];
	uint32_t len, room, i;

	(void)state;
	for (i = 0; i < sizeof(out); i++)
		out[i] = i + 1;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.meta = (uintptr_t)out;
	a.meta = (uintptr_t)in;
	for (len = 0; len <= SHMIPC_META_MAX; len += 64) {
		for (room = 0; room <= SHMIPC_META_MAX; room += 128) {
			memset(in, 0, sizeof(in));
			c.meta_len = len;
			a.meta_len = room;
			must(connect_call(ep.fd, &c));
			must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
			assert_int_equal(a.out_meta_len, len);
			assert_memory_equal(in, out, len < room ? len : room);
			assert_int_equal(in[len < room ? len : room], 0);
			must(abi_close(ep.fd, a.out_session, 0));
			must(abi_close(ep.fd, c.out_session, 0));
		}
	}
	abi_ep_close(&ep);
}

/* The metadata can't be delivered: the connection stays in the queue. */
static void test_metadata_faults(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.meta = (uintptr_t)"abc";
	c.meta_len = 3;
	must(connect_call(ep.fd, &c));
	a.meta = 8;
	a.meta_len = 3;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a), EFAULT);
	a.meta = 0;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_int_equal(a.out_meta_len, 3);
	abi_ep_close(&ep);
}

/* One listener, another endpoint of the process as the session's home. */
static void test_home(void **state)
{
	struct abi_ep front = abi_ep_open(), home = abi_ep_open(), client = abi_ep_open();
	uint32_t listener = abi_bind(front.fd, NAME), session;
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg, peer;

	(void)state;
	must(connect_nowait(client.fd, &session));
	a.flags = SHMIPC_ACCEPT_HOME;
	a.home_fd = home.fd;
	must(abi_seg_create(front.fd, 1, &seg));
	must(abi_seg_create(home.fd, 1, &seg));
	must(abi_close(home.fd, seg.handle, 0));
	must(abi_seg_create(home.fd, 3 * ABI_PAGE, &seg));
	a.segment = seg.handle;	/* home's, not front's */
	must(abi_ioctl(front.fd, SHMIPC_IOC_ACCEPT, &a));
	peer = abi_peer_map(client.fd, session, 0);
	assert_true(peer.length == 3 * ABI_PAGE);
	abi_unmap(&peer);
	expect_event(client.fd, session, SHMIPC_CAUSE_CONNECTED);
	must(abi_ring(client.fd, session, 1));
	expect_event(home.fd, a.out_session, 1);
	abi_ep_close(&front);	/* the session outlives its listener */
	must(abi_ring(client.fd, session, 1));
	expect_event(home.fd, a.out_session, 1);
	abi_ep_close(&home);
	expect_event(client.fd, session, SHMIPC_CAUSE_PEER_DIED);
	abi_ep_close(&client);
}

/* A home of another uid would not be whom the connector was told of. */
static void test_home_of_another_uid(void **state)
{
	struct abi_ep front = abi_ep_open(), home;
	struct shmipc_accept a = abi_accept_arg(abi_bind(front.fd, NAME));
	uint32_t session;

	(void)state;
	assert_int_equal(seteuid(NOBODY), 0);
	home = abi_ep_open();
	assert_int_equal(seteuid(0), 0);
	must(connect_nowait(front.fd, &session));
	a.flags = SHMIPC_ACCEPT_HOME;
	a.home_fd = home.fd;
	fails(abi_ioctl(front.fd, SHMIPC_IOC_ACCEPT, &a), EACCES);
	a.home_fd = front.fd;
	must(abi_ioctl(front.fd, SHMIPC_IOC_ACCEPT, &a));
	abi_ep_close(&front);
	abi_ep_close(&home);
}

/* No segments at all: a session of doorbells alone. */
static void test_without_segments(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME), session;
	struct shmipc_accept a = abi_accept_arg(listener);
	struct shmipc_seg_info info;

	(void)state;
	must(connect_nowait(ep.fd, &session));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	fails(abi_peer_info(ep.fd, session, 0, &info), ENOENT);
	fails(abi_peer_info(ep.fd, a.out_session, 0, &info), ENOENT);
	abi_ep_close(&ep);
}

/* The connector drops its segment before anybody accepted: granted is granted. */
static void test_segment_closed_early(void **state)
{
	struct abi_ep ep = abi_ep_open(), server = abi_ep_open();
	uint32_t listener = abi_bind(server.fd, NAME);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg = abi_seg_new(ep.fd, 1), peer;

	(void)state;
	seg.map[0] = 77;
	abi_unmap(&seg);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = seg.handle;
	must(connect_call(ep.fd, &c));
	must(abi_close(ep.fd, seg.handle, 0));
	assert_int_equal(abi_counter("pages"), 1);
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	peer = abi_peer_map(server.fd, a.out_session, 0);
	assert_int_equal(peer.map[0], 77);
	abi_unmap(&peer);
	must(abi_close(server.fd, a.out_session, 0));
	assert_int_equal(abi_counter("pages"), 0);
	abi_ep_close(&ep);
	abi_ep_close(&server);
}

/* ---- rights ---- */

/**
 * struct right - may a caller connect?
 */
struct right {
	uint32_t mode, uid, gid;	/* the listener's */
	uint32_t caller, group;
	int expect;
};

static const struct right rights[] = {
	{ 0222, 0, 0, NOBODY, NOBODY, 0 },
	{ 0220, 0, 0, NOBODY, NOBODY, EACCES },
	{ 0002, 0, 0, NOBODY, NOBODY, 0 },
	{ 0200, NOBODY, 0, NOBODY, NOBODY, 0 },
	{ 0022, NOBODY, 0, NOBODY, NOBODY, EACCES },	/* the owner's bits alone count for it */
	{ 0020, 0, NOBODY, NOBODY, NOBODY, 0 },
	{ 0202, 0, NOBODY, NOBODY, NOBODY, EACCES },	/* and so for the group */
	{ 0020, 0, 4242, NOBODY, NOBODY, 0 },		/* a supplementary group */
	{ 0020, 0, 4243, NOBODY, NOBODY, EACCES },
	{ 0000, 0, 0, NOBODY, NOBODY, EACCES },
	{ 0000, NOBODY, NOBODY, 0, 0, 0 },		/* root, as with files */
};

static void become(uint32_t uid, uint32_t gid)
{
	gid_t groups[] = { 17, 4242, 100000 };

	if (!uid)
		return;
	assert_int_equal(setgroups(3, groups), 0);
	assert_int_equal(setgid(gid), 0);
	assert_int_equal(setuid(uid), 0);
}

static void check_right(const struct right *r)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	pid_t pid;

	print_message("%03o %u:%u by %u:%u\n", r->mode, r->uid, r->gid, r->caller, r->group);
	b.mode = r->mode;
	b.flags = SHMIPC_BIND_OWNER;
	b.uid = r->uid;
	b.gid = r->gid;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	pid = abi_fork();
	if (!pid) {
		struct abi_ep mine;
		uint32_t session;
		int ret;

		become(r->caller, r->group);
		mine = abi_ep_open();
		ret = connect_nowait(mine.fd, &session);
		if (ret != -r->expect)
			print_error("got %s\n", strerror(-ret));
		_exit(ret != -r->expect);
	}
	assert_int_equal(abi_reap(pid), 0);
	abi_ep_close(&ep);
}

static void test_rights(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rights) / sizeof(*rights); i++)
		check_right(&rights[i]);
}

/* The identity is that at open, whatever the process becomes. */
static void test_identity(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct shmipc_accept a;
	pid_t pid;

	(void)state;
	b.mode = 0200;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	pid = abi_fork();
	if (!pid) {
		struct abi_ep root = abi_ep_open(), nobody;
		struct shmipc_connect c = abi_connect_arg(NAME);
		struct shmipc_bind mine = abi_bind_arg("u65534/x");
		uint32_t session;

		fails(abi_ioctl(root.fd, SHMIPC_IOC_BIND, &mine), EACCES);
		become(NOBODY, 4711);
		nobody = abi_ep_open();
		fails(connect_nowait(nobody.fd, &session), EACCES);
		must(abi_ioctl(nobody.fd, SHMIPC_IOC_BIND, &mine));
		mine = abi_bind_arg("owned");
		mine.flags = SHMIPC_BIND_OWNER;
		mine.uid = 0;
		mine.gid = 4711;
		fails(abi_ioctl(nobody.fd, SHMIPC_IOC_BIND, &mine), EACCES);
		mine.uid = NOBODY;
		mine.gid = 0;
		fails(abi_ioctl(nobody.fd, SHMIPC_IOC_BIND, &mine), EACCES);
		mine.gid = 4242;
		must(abi_ioctl(nobody.fd, SHMIPC_IOC_BIND, &mine));
		c.flags = SHMIPC_CONNECT_EXPECT_UID;
		c.expect_uid = NOBODY;
		fails(connect_call(root.fd, &c), EACCES);
		c.expect_uid = 0;
		must(connect_call(root.fd, &c));
		assert_int_equal(c.out_peer.uid, 0);
		assert_int_equal(c.out_peer.pid, getppid());
		_exit(0);
	}
	expect_event(ep.fd, b.out_handle, SHMIPC_CAUSE_ACCEPT);
	a = abi_accept_arg(b.out_handle);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_int_equal(a.out_peer.uid, 0);
	assert_int_equal(a.out_peer.gid, 0);
	assert_int_equal(a.out_peer.pid, pid);
	assert_int_equal(abi_reap(pid), 0);
	abi_ep_close(&ep);
}

/* ---- namespaces ---- */

static void test_network_namespace(void **state)
{
	struct abi_ep ep = abi_ep_open();
	pid_t pid;

	(void)state;
	abi_bind(ep.fd, NAME);
	pid = abi_fork();
	if (!pid) {
		struct abi_ep mine = abi_ep_open();
		uint32_t session;

		must(connect_nowait(mine.fd, &session));
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		fails(connect_nowait(mine.fd, &session), ENOENT);
		abi_bind(mine.fd, NAME);	/* the same name, another one */
		must(connect_nowait(mine.fd, &session));
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
	abi_ep_close(&ep);
}

/* In another pid namespace the pid is that of the reader's, or none. */
static void test_pid_namespace(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint32_t listener = abi_bind(ep.fd, NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	pid_t pid;

	(void)state;
	pid = abi_fork();
	if (!pid) {
		pid_t inner;

		assert_int_equal(unshare(CLONE_NEWPID), 0);
		inner = abi_fork();
		if (!inner) {
			struct abi_ep mine = abi_ep_open();
			struct shmipc_connect c = abi_connect_arg(NAME);

			must(connect_call(mine.fd, &c));
			assert_int_equal(c.out_peer.pid, 0);
			_exit(getpid() == 1 ? 0 : 1);
		}
		_exit(abi_reap(inner));
	}
	expect_event(ep.fd, listener, SHMIPC_CAUSE_ACCEPT);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	assert_true(a.out_peer.pid > (uint32_t)pid);
	assert_int_equal(abi_reap(pid), 0);
	abi_ep_close(&ep);
}

/* ---- races ---- */

struct churn {
	struct abi_ep ep;
	volatile bool stop;
	volatile long done, refused;
};

/* Connects with the shortest timeouts, so that acceptance and departure meet. */
static void *churn_connect(void *arg)
{
	struct churn *k = arg;
	struct shmipc_connect c = abi_connect_arg(NAME);
	unsigned int seed = 3;
	int ret;

	while (!k->stop) {
		c.timeout_ns = rand_r(&seed) % 200000;
		ret = connect_call(k->ep.fd, &c);
		if (!ret) {
			k->done++;
			must(abi_close(k->ep.fd, c.out_session, 0));
		} else if (ret == -ETIMEDOUT || ret == -ENOENT || ret == -ECONNREFUSED) {
			k->refused++;
		} else {
			must(ret);
		}
	}
	return NULL;
}

static void churn_accept(struct abi_ep *server)
{
	uint32_t listener = abi_bind(server->fd, NAME);
	struct shmipc_accept a = abi_accept_arg(listener);
	struct abi_seg seg;
	int i, ret;

	must(abi_seg_create(server->fd, 1, &seg));
	a.segment = seg.handle;
	a.causes = 0;
	for (i = 0; i < 100; i++) {
		ret = abi_ioctl(server->fd, SHMIPC_IOC_ACCEPT, &a);
		if (ret == -EAGAIN) {
			sched_yield();
			continue;
		}
		must(ret);
		must(abi_close(server->fd, a.out_session, 0));
	}
	must(abi_close(server->fd, listener, 0));
	must(abi_close(server->fd, seg.handle, 0));
}

static void test_race_connect(void **state)
{
	static struct churn k;	/* the thread's also when an assertion fails here */
	struct abi_ep server = abi_ep_open();
	pthread_t thread;
	int i;

	(void)state;
	k.ep = abi_ep_open();
	pthread_create(&thread, NULL, churn_connect, &k);
	for (i = 0; i < 40 || ((!k.done || !k.refused) && i < 4000); i++)
		churn_accept(&server);
	k.stop = true;
	pthread_join(thread, NULL);
	print_message("connected %ld, refused %ld\n", k.done, k.refused);
	assert_true(k.done > 0 && k.refused > 0);
	abi_ep_close(&server);
	abi_ep_close(&k.ep);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_timeout),
	abi_test(test_interrupted),
	abi_test(test_listener_closes),
	abi_test(test_end_while_connecting),
	abi_test(test_blocking),
	abi_test(test_backlog),
	abi_test(test_per_uid),
	abi_test(test_per_uid_default),
	abi_test(test_metadata),
	abi_test(test_metadata_faults),
	abi_test(test_home),
	abi_test(test_home_of_another_uid),
	abi_test(test_without_segments),
	abi_test(test_segment_closed_early),
	abi_test(test_rights),
	abi_test(test_identity),
	abi_test(test_network_namespace),
	abi_test(test_pid_namespace),
	abi_test(test_race_connect),
};

abi_main(tests)
