// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* An endpoint lives as long as its address space; its death gives all back and is told to peers. */
#define _GNU_SOURCE
#include "abi.h"

#include <sys/mman.h>
#include <sys/socket.h>

#define NAME	"test:life"

/* What the child does before it is killed. */
enum stage {
	STAGE_OPENED,		/* file open, no anchor */
	STAGE_ANCHORED,
	STAGE_SEGMENT,		/* a mapped, dirty segment */
	STAGE_BOUND,
	STAGE_CONNECTING,	/* in a blocking CONNECT that nobody accepts */
	STAGE_QUEUED,		/* connected without waiting, not accepted */
	STAGE_LIVE,		/* a session, both segments mapped */
	STAGE_SLEEPING,		/* the same, in SYNC */
	STAGE_CLOSED,		/* the session closed again */
	STAGES
};

struct victim {
	enum stage stage;
	int told[2];
	int go[2];
	bool forks;		/* leaves a child that sleeps on the descriptor */
};

static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

static void victim_connect(struct victim *v, int fd)
{
	struct abi_seg seg = abi_seg_new(fd, 4 * ABI_PAGE), peer;
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_ready ev;

	seg.map[0] = 1;
	c.segment = seg.handle;
	c.timeout_ns = SHMIPC_TIMEOUT_NONE;
	if (v->stage == STAGE_QUEUED)
		c.flags = SHMIPC_CONNECT_NONBLOCK;
	if (v->stage == STAGE_CONNECTING)
		abi_tell(v->told[1]);
	must(abi_ioctl(fd, SHMIPC_IOC_CONNECT, &c));
	if (v->stage == STAGE_QUEUED)
		return;
	peer = abi_peer_map(fd, c.out_session, 0);
	assert_int_equal(abi_touch(peer.map, false), 0);
	if (v->stage == STAGE_CLOSED)
		must(abi_close(fd, c.out_session, 0));
	abi_tell(v->told[1]);
	if (v->stage == STAGE_SLEEPING)
		abi_event(fd, SHMIPC_TIMEOUT_NONE, &ev);
}

static void victim_run(void *arg)
{
	struct victim *v = arg;
	int fd = abi_open_raw();
	struct abi_seg seg;

	must(fd);
	if (v->stage >= STAGE_ANCHORED)
		assert_non_null((void *)abi_anchor(fd));
	if (v->stage == STAGE_SEGMENT) {
		seg = abi_seg_new(fd, 1 << 20);
		memset((void *)seg.map, 1, seg.length);
	}
	if (v->stage == STAGE_BOUND)
		abi_bind(fd, "test:life:victim");
	if (v->forks && !abi_fork())
		sleep_for_ever();
	if (v->stage >= STAGE_CONNECTING)
		victim_connect(v, fd);
	abi_tell(v->told[1]);
	sleep_for_ever();
}

/* The server's half: accepts where the stage has a session. */
struct server {
	struct abi_ep ep;
	struct abi_seg seg;
	uint32_t listener, session;
};

static struct server server_open(void)
{
	struct server s = { .ep = abi_ep_open() };

	s.seg = abi_seg_new(s.ep.fd, 2 * ABI_PAGE);
	s.listener = abi_bind(s.ep.fd, NAME);
	return s;
}

static void server_accept(struct server *s)
{
	struct shmipc_accept a = abi_accept_arg(s->listener);

	expect_event(s->ep.fd, s->listener, SHMIPC_CAUSE_ACCEPT);
	a.segment = s->seg.handle;
	must(abi_ioctl(s->ep.fd, SHMIPC_IOC_ACCEPT, &a));
	s->session = a.out_session;
}

static void server_close(struct server *s)
{
	abi_unmap(&s->seg);
	abi_ep_close(&s->ep);
}

/* What the survivor sees of a victim in each stage. */
static void server_survives(struct server *s, struct victim *v)
{
	struct shmipc_accept a = abi_accept_arg(s->listener);

	if (v->stage == STAGE_LIVE || v->stage == STAGE_SLEEPING)
		expect_event(s->ep.fd, s->session, SHMIPC_CAUSE_PEER_DIED);
	if (v->stage == STAGE_CLOSED)
		expect_event(s->ep.fd, s->session, SHMIPC_CAUSE_PEER_CLOSED);
	if (s->session) {
		must(abi_close(s->ep.fd, s->session, 0));
	} else if (v->stage >= STAGE_CONNECTING) {
		expect_event(s->ep.fd, s->listener, SHMIPC_CAUSE_ACCEPT);
		fails(abi_ioctl(s->ep.fd, SHMIPC_IOC_ACCEPT, &a), EAGAIN);
	}
	s->session = 0;
}

/* Who is killed takes nothing with it and leaves nothing. */
static void kill_client(enum stage stage)
{
	struct victim v = { .stage = stage };
	struct server s;
	long before;
	pid_t pid;

	print_message("stage %d\n", stage);
	expect_alive(0);	/* the last stage's endpoints may be let go after their files */
	s = server_open();
	before = abi_alive();
	assert_int_equal(pipe(v.told), 0);
	pid = abi_spawn(victim_run, &v);
	if (stage >= STAGE_LIVE)
		server_accept(&s);
	abi_hear(v.told[0]);
	if (stage == STAGE_CONNECTING)
		abi_sleep_ms(100);
	assert_true(abi_alive() > before);
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	server_survives(&s, &v);
	expect_alive(before);
	server_close(&s);
	close(v.told[0]);
	close(v.told[1]);
}

static void test_client_killed(void **state)
{
	enum stage stage;

	(void)state;
	for (stage = 0; stage < STAGES; stage++)
		kill_client(stage);
}

/*
 * The fork keeps the file open, asleep for ever: the endpoint is dead all the same. Only the
 * file's own struct is left, and it goes with the fork.
 */
static void test_client_killed_with_child(void **state)
{
	struct victim v = { .stage = STAGE_LIVE, .forks = true };
	struct server s = server_open();
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(v.told), 0);
	/* A session leader has a group of its own, and may not make one. */
	if (getpgrp() != getpid())
		assert_int_equal(setpgid(0, 0), 0);
	pid = abi_spawn(victim_run, &v);
	server_accept(&s);
	abi_hear(v.told[0]);
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	expect_event(s.ep.fd, s.session, SHMIPC_CAUSE_PEER_DIED);
	must(abi_close(s.ep.fd, s.session, 0));
	abi_sleep_ms(50);
	assert_int_equal(abi_counter("attachments_live"), 2);
	assert_int_equal(abi_counter("pages"), 2);
	assert_int_equal(abi_counter("segments_live"), 1);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	signal(SIGTERM, SIG_DFL);
	server_close(&s);
	close(v.told[0]);
	close(v.told[1]);
}

/* ---- the server's death ---- */

static void dying_server(void *arg)
{
	struct victim *v = arg;
	struct server s = server_open();

	abi_tell(v->told[1]);
	if (v->stage >= STAGE_LIVE)
		server_accept(&s);
	if (v->stage == STAGE_LIVE)
		abi_tell(v->told[1]);
	else
		abi_hear(v->go[0]);
	if (v->stage == STAGE_CLOSED) {
		must(abi_close(s.ep.fd, 0, 0));
		abi_tell(v->told[1]);
	}
	sleep_for_ever();
}

static void expect_dead_server(struct victim *v, int fd, struct shmipc_connect *c, pid_t pid)
{
	struct abi_seg peer;

	if (v->stage == STAGE_LIVE || v->stage == STAGE_CLOSED) {
		peer = abi_peer_map(fd, c->out_session, 0);
		expect_event(fd, c->out_session, SHMIPC_CAUSE_CONNECTED);
		if (v->stage == STAGE_CLOSED)
			abi_tell(v->go[1]);
		abi_hear(v->told[0]);
		if (v->stage == STAGE_LIVE)
			kill(pid, SIGKILL);
		expect_event(fd, c->out_session, v->stage == STAGE_LIVE ?
			     SHMIPC_CAUSE_PEER_DIED : SHMIPC_CAUSE_PEER_CLOSED);
		/* What it granted can still be read. */
		assert_int_equal(abi_touch(peer.map, false), 0);
		must(abi_ring(fd, c->out_session, 1));
		must(abi_close(fd, c->out_session, 0));
		assert_int_equal(abi_touch(peer.map, false), SIGBUS);
		abi_unmap(&peer);
		kill(pid, SIGKILL);
		return;
	}
	kill(pid, SIGKILL);
	expect_event(fd, c->out_session, SHMIPC_CAUSE_PEER_DIED);
	must(abi_close(fd, c->out_session, 0));
}

static void test_server_killed(void **state)
{
	static const enum stage stages[] = { STAGE_BOUND, STAGE_LIVE, STAGE_CLOSED };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		struct victim v = { .stage = stages[i] };
		struct shmipc_connect c = abi_connect_arg(NAME);
		struct abi_ep ep;
		pid_t pid;

		print_message("stage %d\n", v.stage);
		assert_int_equal(pipe(v.told), 0);
		assert_int_equal(pipe(v.go), 0);
		pid = abi_spawn(dying_server, &v);
		abi_hear(v.told[0]);
		ep = abi_ep_open();
		c.flags = SHMIPC_CONNECT_NONBLOCK;
		must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
		assert_int_equal(c.out_peer.pid, pid);
		if (v.stage >= STAGE_LIVE) {
			struct pollfd p = { .fd = ep.fd, .events = POLLIN };

			assert_int_equal(poll(&p, 1, 30000), 1);
		}
		expect_dead_server(&v, ep.fd, &c, pid);
		assert_int_equal(abi_reap(pid), 128 + SIGKILL);
		abi_ep_close(&ep);
		expect_alive(0);
		close(v.told[0]), close(v.told[1]), close(v.go[0]), close(v.go[1]);
	}
}

/* A CONNECT that waits learns of it. */
static void test_server_killed_while_connecting(void **state)
{
	struct victim v = { .stage = STAGE_BOUND };
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct abi_ep ep = abi_ep_open();
	long before = abi_alive();
	pid_t pid, killer;

	(void)state;
	assert_int_equal(pipe(v.told), 0);
	assert_int_equal(pipe(v.go), 0);
	pid = abi_spawn(dying_server, &v);
	abi_hear(v.told[0]);
	killer = abi_fork();
	if (!killer) {
		abi_sleep_ms(200);
		kill(pid, SIGKILL);
		_exit(0);
	}
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c), ECONNREFUSED);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	assert_int_equal(abi_reap(killer), 0);
	expect_alive(before);
	abi_expect_quiet(ep.fd);
	abi_ep_close(&ep);
	close(v.told[0]), close(v.told[1]), close(v.go[0]), close(v.go[1]);
}

/* ---- whose endpoint it is ---- */

static void test_fork(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_query q;
	struct abi_seg seg;
	pid_t pid;

	(void)state;
	must(abi_seg_create(p.server.fd, 1, &seg));
	pid = abi_fork();
	if (!pid) {
		volatile uint8_t *map;

		fails(abi_seg_create(p.server.fd, 1, &seg), EPERM);
		fails(abi_query(p.server.fd, &q), EPERM);
		fails(abi_ring(p.server.fd, p.at_server, 1), EPERM);
		fails(abi_close(p.server.fd, 0, 0), EPERM);
		fails(abi_map(p.server.fd, seg.offset, ABI_PAGE, PROT_READ, &map), EPERM);
		fails(abi_map(p.server.fd, 0, ABI_PAGE, PROT_READ, &map), EPERM);
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
	/* Its end is not ours. */
	must(abi_ring(p.server.fd, p.at_server, 1));
	expect_event(p.client.fd, p.at_client, 1);
	abi_pair_close(&p);
}

/* Before the anchor, who maps it first owns it. */
static void test_fork_before_anchor(void **state)
{
	int fd = abi_open_raw(), go[2];
	struct abi_seg seg;
	pid_t pid;

	(void)state;
	must(fd);
	assert_int_equal(pipe(go), 0);
	pid = abi_fork();
	if (!pid) {
		assert_non_null((void *)abi_anchor(fd));
		must(abi_seg_create(fd, 1, &seg));
		abi_tell(go[1]);
		sleep_for_ever();
	}
	abi_hear(go[0]);
	fails(abi_seg_create(fd, 1, &seg), EPERM);
	assert_null((void *)abi_anchor(fd));
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	fails(abi_seg_create(fd, 1, &seg), EPERM);
	close(fd), close(go[0]), close(go[1]);
}

static void send_file(int socket, int fd)
{
	char space[CMSG_SPACE(sizeof(fd))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
			      .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	assert_int_equal(sendmsg(socket, &msg, 0), 1);
}

static int receive_file(int socket)
{
	char space[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
			      .msg_controllen = sizeof(space) };
	int fd;

	assert_int_equal(recvmsg(socket, &msg, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* An endpoint sent through a socket is of no use to who gets it, and dies with its maker. */
static void test_passed_file(void **state)
{
	struct abi_seg seg;
	int pair[2], fd;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = abi_fork();
	if (!pid) {
		struct abi_ep ep = abi_ep_open();

		abi_seg_new(ep.fd, ABI_PAGE);
		send_file(pair[1], ep.fd);
		sleep_for_ever();
	}
	fd = receive_file(pair[0]);
	fails(abi_seg_create(fd, 1, &seg), EPERM);
	assert_int_equal(abi_counter("pages"), 1);
	kill(pid, SIGKILL);
	abi_reap(pid);
	fails(abi_seg_create(fd, 1, &seg), EPERM);
	abi_sleep_ms(50);
	assert_int_equal(abi_counter("pages"), 0);
	close(fd), close(pair[0]), close(pair[1]);
}

/* Opened anew through /proc, the device gives an endpoint of one's own, not the other's. */
static void test_reopened(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	char path[64];
	struct abi_seg seg;
	pid_t pid;

	(void)state;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), p.server.fd);
	pid = abi_fork();
	if (!pid) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		must(fd < 0 ? -errno : 0);
		assert_non_null((void *)abi_anchor(fd));
		must(abi_seg_create(fd, 1, &seg));
		fails(abi_ring(fd, p.at_server, 1), ENOENT);
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
	must(abi_ring(p.server.fd, p.at_server, 1));
	abi_pair_close(&p);
}

/* exec ends the address space: the inherited file is dead, and the peer knows. */
static void test_exec(void **state)
{
	struct server s = server_open();
	struct victim v = { .stage = STAGE_LIVE };
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(v.told, O_CLOEXEC), 0);
	pid = abi_fork();
	if (!pid) {
		struct abi_ep ep = abi_ep_open();
		struct shmipc_connect c = abi_connect_arg(NAME);

		fcntl(ep.fd, F_SETFD, 0);
		must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
		execl("/bin/sleep", "sleep", "1000", NULL);
		_exit(1);
	}
	server_accept(&s);
	expect_event(s.ep.fd, s.session, SHMIPC_CAUSE_PEER_DIED);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);	/* it lives */
	kill(pid, SIGKILL);
	abi_reap(pid);
	server_close(&s);
	close(v.told[0]), close(v.told[1]);
}

/* ---- ends on purpose ---- */

static void test_munmap_anchor(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct pollfd pfd = { .fd = p.server.fd, .events = POLLIN };
	struct abi_seg peer = abi_peer_map(p.server.fd, p.at_server, 0), seg;
	volatile uint8_t *map;

	(void)state;
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	munmap((void *)p.server.anchor, ABI_PAGE);
	fails(abi_seg_create(p.server.fd, 1, &seg), ESTALE);
	fails(abi_map(p.server.fd, 0, ABI_PAGE, PROT_READ, &map), ESTALE);
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_DIED);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_true(pfd.revents & POLLHUP);
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	assert_int_equal(abi_touch(p.server_seg.map, true), SIGBUS);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* Closed in good order: everything is given back when it returns, peers see a close. */
static void test_close_endpoint(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct pollfd pfd = { .fd = p.server.fd, .events = POLLIN };
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0), seg;

	(void)state;
	assert_int_equal(p.server.anchor->state, SHMIPC_STATE_LIVE);
	must(abi_close(p.server.fd, 0, 0));
	assert_int_equal(p.server.anchor->state, SHMIPC_STATE_DEAD);
	fails(abi_close(p.server.fd, 0, 0), ESTALE);
	fails(abi_seg_create(p.server.fd, 1, &seg), ESTALE);
	assert_int_equal(abi_counter("listeners_live"), 1);	/* the session still counts on it */
	assert_int_equal(abi_counter("names_live"), 0);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_true(pfd.revents & POLLHUP);
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	abi_expect_quiet(p.client.fd);
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(abi_touch(p.server_seg.map, false), SIGBUS);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* A dead program's pages are the reader's to pay for, until it lets go. */
static void check_charge_moves(bool map)
{
	uint64_t moved = map ? 4 : 0;
	struct server s = server_open();
	struct shmipc_query before, after;
	struct victim v = { .stage = STAGE_LIVE };
	struct abi_seg theirs = {};
	pid_t pid;

	assert_int_equal(pipe(v.told), 0);
	must(abi_query(s.ep.fd, &before));
	pid = abi_fork();
	if (!pid) {
		if (setuid(65534))
			_exit(1);
		victim_run(&v);
	}
	server_accept(&s);
	abi_hear(v.told[0]);
	if (map)
		theirs = abi_peer_map(s.ep.fd, s.session, 0);
	must(abi_query(s.ep.fd, &after));
	assert_true(after.out_user_pages == before.out_user_pages);
	assert_true(after.out_total_pages == before.out_total_pages + 4);
	kill(pid, SIGKILL);
	abi_reap(pid);
	expect_event(s.ep.fd, s.session, SHMIPC_CAUSE_PEER_DIED);
	/* The event comes before the memory is given back. */
	for (int i = 0; i < 3000 && abi_counter("attachments_live") > 1; i++)
		abi_sleep_ms(10);
	must(abi_query(s.ep.fd, &after));
	assert_true(after.out_user_pages == before.out_user_pages + moved);
	assert_true(after.out_total_pages == before.out_total_pages + 4);
	must(abi_close(s.ep.fd, s.session, 0));
	must(abi_query(s.ep.fd, &after));
	assert_true(after.out_user_pages == before.out_user_pages);
	assert_true(after.out_total_pages == before.out_total_pages);
	abi_unmap(&theirs);
	server_close(&s);
	close(v.told[0]), close(v.told[1]);
}

static void test_charge_moves(void **state)
{
	(void)state;
	check_charge_moves(true);
}

/* Who was merely granted it pays for nothing: nobody can refuse a grant. */
static void test_charge_stays(void **state)
{
	(void)state;
	check_charge_moves(false);
}

/* The same when its owner dropped it before anybody had mapped it: until then he pays. */
static void test_charge_moves_late(void **state)
{
	struct server s = server_open();
	struct shmipc_query before, after;
	struct abi_seg theirs;
	int told[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(told), 0);
	must(abi_query(s.ep.fd, &before));
	pid = abi_fork();
	if (!pid) {
		struct shmipc_connect c = abi_connect_arg(NAME);
		struct abi_seg seg;
		struct abi_ep ep;

		if (setuid(65534))
			_exit(1);
		ep = abi_ep_open();
		must(abi_seg_create(ep.fd, 4 * ABI_PAGE, &seg));
		c.segment = seg.handle;
		c.flags = SHMIPC_CONNECT_NONBLOCK;
		must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
		must(abi_close(ep.fd, seg.handle, 0));
		must(abi_query(ep.fd, &after));
		assert_true(after.out_user_pages == 4);
		abi_tell(told[1]);
		sleep_for_ever();
	}
	abi_hear(told[0]);
	server_accept(&s);
	must(abi_query(s.ep.fd, &after));
	assert_true(after.out_user_pages == before.out_user_pages);
	assert_true(after.out_total_pages == before.out_total_pages + 4);
	theirs = abi_peer_map(s.ep.fd, s.session, 0);
	must(abi_query(s.ep.fd, &after));
	assert_true(after.out_user_pages == before.out_user_pages + 4);
	assert_true(after.out_total_pages == before.out_total_pages + 4);
	kill(pid, SIGKILL);
	abi_reap(pid);
	abi_unmap(&theirs);
	server_close(&s);
	close(told[0]), close(told[1]);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_client_killed),
	abi_test(test_client_killed_with_child),
	abi_test(test_server_killed),
	abi_test(test_server_killed_while_connecting),
	abi_test(test_fork),
	abi_test(test_fork_before_anchor),
	abi_test(test_passed_file),
	abi_test(test_reopened),
	abi_test(test_exec),
	abi_test(test_munmap_anchor),
	abi_test(test_close_endpoint),
	abi_test(test_charge_moves),
	abi_test(test_charge_stays),
	abi_test(test_charge_moves_late),
};

abi_main(tests)
