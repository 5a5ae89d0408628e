// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* An endpoint of the embedded provider moves: between processes, under hostile hands, from a lying holder. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "embedded.h"
#include "embedded_move.h"

#define LIMIT	((int64_t)30000000000)
#define MS	((int64_t)1000000)
#define OTHER	65534			/* another uid: nobody */

static const struct provider_ops *const ops = &provider_embedded;
#define hand	(provider_embedded.handover)
static char name[64];

/* In children as well, where cmocka can't fail. */
#define must(cond)	must_(!!(cond), #cond, __LINE__)
static void must_(bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: process %d: not %s (errno %d)\n", __FILE__, line, getpid(), what,
		errno);
	_exit(1);
}

/* ---- two wires to each child, one each way ------------------------------------ */

struct child {
	pid_t pid;
	int wire;
};

static struct child spawn(void (*run)(int wire))
{
	struct child child;
	int pair[2];

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	child.pid = fork();
	must(child.pid >= 0);
	if (!child.pid) {
		close(pair[0]);
		run(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	child.wire = pair[0];
	return child;
}

static void tell(int wire)
{
	must(send(wire, "", 1, MSG_NOSIGNAL) == 1);
}

static void hear(int wire)
{
	struct pollfd fd = { .fd = wire, .events = POLLIN };
	char byte;

	must(poll(&fd, 1, 30000) == 1);
	must(read(wire, &byte, 1) == 1);
}

static void reap(struct child *child, int want)
{
	int status;

	must(waitpid(child->pid, &status, 0) == child->pid);
	must(status == want);
	close(child->wire);
}

/* ---- ends ----------------------------------------------------------------------- */

static void must_open(struct provider **pv, struct pv_segment *segment)
{
	must(!ops->open(pv));
	must(!ops->segment_create(*pv, 4096, false, segment));
}

static uint32_t must_listen(struct provider *pv)
{
	struct pv_bind bind = { .name = name, .mode = 0666, .backlog = 8, .cookie = 1 };
	uint32_t listener;

	must(!ops->bind(pv, &bind, &listener));
	return listener;
}

static int try_connect(struct provider *pv, const struct pv_segment *segment, uint32_t *session)
{
	struct pv_connect connect = { .name = name, .segment = segment, .cookie = 2,
				      .timeout_ns = LIMIT };
	struct shmipc_peer peer;

	return ops->connect(pv, &connect, session, &peer);
}

static int wait_event(struct provider *pv, struct shmipc_ready *event, int64_t timeout)
{
	struct pv_sync sync = { .events = event, .max_events = 1, .wait = true,
				.timeout_ns = timeout };

	return ops->sync(pv, &sync);
}

static uint32_t must_accept(struct provider *pv, uint32_t listener, const struct pv_segment *segment)
{
	struct shmipc_ready event;
	struct shmipc_peer peer;
	uint32_t session;
	int err;

	while ((err = ops->accept(pv, listener, segment, 3, &session, &peer)) == -EAGAIN)
		must(wait_event(pv, &event, LIMIT) == 1);
	must(!err);
	return session;
}

static void must_ring(struct provider *pv, uint32_t session)
{
	struct shmipc_notify notify = { session, BELL_DATA };
	struct pv_sync sync = { .notify = &notify, .nr_notify = 1 };

	ops->sync(pv, &sync);
}

static int must_offer(struct provider *pv, bool by_name)
{
	struct pv_offer offer = { .by_name = by_name, .timeout_ns = LIMIT };

	must(!hand->offer(pv, &offer));
	return offer.fd;
}

static void must_hand_over(struct provider *pv)
{
	struct shmipc_ready event;

	do
		must(wait_event(pv, &event, LIMIT) == 1);
	while (!(event.causes & SHMIPC_CAUSE_OFFER));
	must(!hand->yield(pv, -1));
}

/* Up to the last moment before COMMIT. */
static struct provider *must_adopt(int fd, uint32_t *listener, uint32_t *session)
{
	struct provider *pv;
	struct pv_list list, grants;
	struct pv_mapping view;

	must(!hand->adopt(NULL, fd < 0 ? name : NULL, fd, &pv));
	must(!hand->pause(pv, LIMIT));
	must(!hand->list(pv, 0, &list));
	for (uint32_t i = 0; i < list.nr; i++) {
		if (list.items[i].kind == SHMIPC_ITEM_LISTENER)
			*listener = list.items[i].handle;
		if (list.items[i].kind != SHMIPC_ITEM_SESSION)
			continue;
		*session = list.items[i].handle;
		must(!hand->list(pv, *session, &grants));
		for (uint32_t k = 0; k < grants.nr; k++)
			if (grants.items[k].kind == SHMIPC_ITEM_SLOT)
				must(!hand->view(pv, grants.items[k].offset, grants.items[k].length,
						 &view));
		free(grants.items);
	}
	free(list.items);
	return pv;
}

/* ---- between processes ---------------------------------------------------------- */

/* Serves one session, and hands it to a child of its own; both tell when they are done. */
static void holder(int wire)
{
	struct pv_segment segment;
	struct provider *pv, *next;
	uint32_t listener, session;
	int fd;

	must_open(&pv, &segment);
	listener = must_listen(pv);
	tell(wire);
	session = must_accept(pv, listener, &segment);
	hear(wire);
	fd = must_offer(pv, false);
	if (fork()) {
		must_hand_over(pv);
		ops->close(pv, false);
		return;
	}
	next = must_adopt(fd, &listener, &session);
	must(!hand->commit(next));
	must(!hand->watch(next, session, NULL, 4));
	ops->close(pv, true);
	hear(wire);
	must_ring(next, session);
	/* Until nobody holds the other end of the wire; then without a word to the peer. */
	must(read(wire, &(char){ 0 }, 1) == 0);
}

/*
 * A peer that is busy elsewhere meanwhile finds MOVED and the old process's end at once: the one tells
 * that the other means nothing. The end of the new process does.
 */
static void test_peer_is_busy(void **state)
{
	struct child old = spawn(holder);
	struct pv_segment segment;
	struct shmipc_ready event;
	struct provider *pv;
	struct shmipc_peer peer;
	uint32_t session;
	bool paused;

	(void)state;
	hear(old.wire);
	must_open(&pv, &segment);
	assert_int_equal(try_connect(pv, &segment, &session), 0);
	tell(old.wire);
	assert_int_equal(waitpid(old.pid, NULL, 0), old.pid);
	assert_int_equal(wait_event(pv, &event, LIMIT), 1);
	assert_int_equal(event.causes, SHMIPC_CAUSE_PEER_CHANGED);
	assert_int_equal(ops->peer(pv, session, &peer, &paused), 0);
	assert_int_equal(peer.generation, 1);
	assert_true(peer.pid && peer.pid != (uint32_t)old.pid);
	assert_false(paused);
	assert_int_equal(wait_event(pv, &event, 20 * MS), 0);
	tell(old.wire);
	assert_int_equal(wait_event(pv, &event, LIMIT), 1);
	assert_int_equal(event.causes & ~(BELL_DATA | BELL_SPACE), 0);
	assert_int_equal(wait_event(pv, &event, 20 * MS), 0);
	close(old.wire);
	assert_int_equal(wait_event(pv, &event, LIMIT), 1);
	assert_int_equal(event.causes, SHMIPC_CAUSE_PEER_DIED);
	ops->close(pv, false);
}

static void connector(int wire)
{
	struct pv_segment segment;
	struct provider *pv;
	uint32_t session;

	must_open(&pv, &segment);
	tell(wire);
	must(!try_connect(pv, &segment, &session));
	ops->close(pv, false);
}

static void just_yields(int wire)
{
	struct pv_segment segment;
	struct provider *pv;

	must_open(&pv, &segment);
	must_listen(pv);
	must_offer(pv, true);
	tell(wire);
	must_hand_over(pv);
	ops->close(pv, false);
}

/* Who knocked in the pause, when nobody listened, watches a process that is about to end. */
static void test_connects_in_the_pause(void **state)
{
	struct child old = spawn(just_yields), client;
	uint32_t listener = 0, session = 0;
	struct pv_segment segment;
	struct listener *l;
	struct provider *pv;
	struct pollfd door = { .events = POLLIN };

	(void)state;
	hear(old.wire);
	pv = must_adopt(-1, &listener, &session);
	assert_int_equal(session, 0);
	client = spawn(connector);
	hear(client.wire);
	l = container_of(object_find_locked(embedded(pv), listener, OBJECT_LISTENER), struct listener,
			 object);
	door.fd = l->socket.fd;
	assert_int_equal(poll(&door, 1, 30000), 1);
	/* It hears that who listens has moved, and sees that who listened has ended, at once. */
	assert_int_equal(kill(client.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(client.pid, NULL, WUNTRACED), client.pid);
	assert_int_equal(hand->commit(pv), 0);
	reap(&old, 0);
	assert_int_equal(kill(client.pid, SIGCONT), 0);
	assert_int_equal(ops->segment_create(pv, 4096, false, &segment), 0);
	must_accept(pv, listener, &segment);
	reap(&client, 0);
	ops->close(pv, false);
}

/* ---- hostile hands --------------------------------------------------------------- */

static unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void look(struct provider *pv)
{
	struct shmipc_ready event;

	assert_int_equal(wait_event(pv, &event, 5 * MS), 0);
}

/* Brings @fd, or a socket if it is -1; returns this end of that. */
static int ask(int door, int fd)
{
	int pair[2] = { -1, fd };

	if (fd < 0)
		must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	must(!link_send(door, LINK_ADOPT, 0, &pair[1], 1));
	close(pair[1]);
	return pair[0];
}

static int answer(int channel)
{
	int fds[MOVE_FDS], err;
	struct move move;

	err = move_receive(channel, &move, fds, now_ns() + LIMIT);
	close(channel);
	return err;
}

/* Knows the name, has a right to connect, and is somebody else. */
static void stranger(int wire)
{
	int door, channel;

	must(!setgroups(0, NULL) && !setresgid(OTHER, OTHER, OTHER) &&
	     !setresuid(OTHER, OTHER, OTHER));
	door = embedded_dial(name);
	must(door >= 0);
	channel = ask(door, -1);
	tell(wire);
	must(answer(channel) == -EACCES);
}

static void test_stranger(void **state)
{
	struct pv_segment segment;
	struct provider *pv;
	struct child child;

	(void)state;
	if (geteuid()) {
		print_message("skip: only root can become another user\n");
		skip();
	}
	must_open(&pv, &segment);
	must_listen(pv);
	must_offer(pv, true);
	child = spawn(stranger);
	hear(child.wire);
	look(pv);
	reap(&child, 0);
	assert_int_equal(hand->yield(pv, -1), -EAGAIN);
	ops->close(pv, false);
}

/* None of it ends the offer, and it is taken by the first who may. */
static void test_bad_candidates(void **state)
{
	struct pv_segment segment;
	struct provider *pv;
	unsigned int before;
	int fd, door, first, second;

	(void)state;
	must_open(&pv, &segment);
	must_listen(pv);
	before = open_descriptors();
	door = embedded_dial(name);
	second = ask(door, -1);
	look(pv);
	assert_int_equal(answer(second), -EBUSY);
	close(door);
	fd = must_offer(pv, false);
	door = embedded_dial(name);
	second = ask(door, -1);
	look(pv);
	assert_int_equal(answer(second), -EACCES);
	close(door);
	ask(fd, eventfd(0, EFD_CLOEXEC));
	assert_int_equal(send(fd, "garbage", 7, 0), 7);
	assert_int_equal(link_send(fd, LINK_BYE, 0, NULL, 0), 0);
	assert_int_equal(link_send(fd, LINK_GRANT, 0, &fd, 1), 0);
	look(pv);
	assert_int_equal(hand->yield(pv, fd), -EAGAIN);
	first = ask(fd, -1);
	second = ask(fd, -1);
	assert_int_equal(wait_event(pv, &(struct shmipc_ready){ 0 }, LIMIT), 1);
	assert_int_equal(answer(second), -EBUSY);
	/* It goes; then the offer is over, and all that belonged to it is closed. */
	close(first);
	look(pv);
	assert_int_equal(hand->yield(pv, fd), -ECANCELED);
	close(fd);
	assert_int_equal(open_descriptors(), before);
	ops->close(pv, false);
}

/* Who never stops asking ends the offer, not the program. */
static void test_flood(void **state)
{
	struct pv_segment segment;
	struct provider *pv;
	struct pollfd over = { .events = POLLIN };

	(void)state;
	must_open(&pv, &segment);
	over.fd = must_offer(pv, false);
	fcntl(over.fd, F_SETFL, O_NONBLOCK);
	while (send(over.fd, "x", 1, MSG_NOSIGNAL) == 1)
		;
	look(pv);
	assert_int_equal(poll(&over, 1, 0), 1);
	assert_true(over.revents & POLLHUP);
	close(over.fd);
	ops->close(pv, false);
}

/* ---- a holder that lies ------------------------------------------------------------ */

static int segment_fd(bool sealed)
{
	int fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING), ro;
	char path[32];

	must(fd >= 0 && !ftruncate(fd, 4096));
	if (sealed)
		must(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	must(ro >= 0);
	close(fd);
	return ro;
}

static int seqpacket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	must(fd >= 0);
	return fd;
}

#define SEGMENT		0x00010001U
#define LISTENER	0x00020002U
#define SESSION		0x00030003U

/* A truth, which each case spoils in one place. */
enum lie {
	TRUTH, NO_SEALS, SAME_HANDLE, HANDLE_ZERO, NO_SOCKET, LONG_NAME, BAD_STATE, NO_LISTENER, NO_BELL,
	TOO_LARGE, BAD_SLOT, NO_SESSION, GRANT_UNSEALED, BAD_TYPE, BAD_MAGIC, BAD_VERSION, FD_MISSING,
	EARLY_DONE, FDS_UNSAID, END_WITH_FDS, CUT_SHORT, LIES,
};

static void say(int channel, struct move *move, int a, int b, int c)
{
	int fds[MOVE_FDS] = { a, b, c, -1 };

	must(!move_send(channel, move, fds, now_ns() + LIMIT));
	move_close(fds);
}

static void send_listener(int channel, enum lie lie)
{
	struct move move = { .type = MOVE_LISTENER, .handle = LISTENER };

	if (lie == SAME_HANDLE)
		move.handle = SEGMENT;
	if (lie == HANDLE_ZERO)
		move.handle = 0;
	move.listener.backlog = 8;
	memset(move.listener.name, 'n', lie == LONG_NAME ? sizeof(move.listener.name) : 5);
	say(channel, &move, lie == NO_SOCKET ? eventfd(0, EFD_CLOEXEC) : seqpacket(), -1, -1);
}

static void send_session(int channel, enum lie lie, uint32_t handle, bool guest)
{
	struct move move = { .type = MOVE_SESSION, .handle = handle };
	int bell = eventfd(0, EFD_CLOEXEC);

	move.session.state = lie == BAD_STATE ? 7 : guest ? SESSION_WAITING : SESSION_LIVE;
	move.session.listener = lie == NO_LISTENER ? SESSION : LISTENER;
	move.session.bytes_in = lie == TOO_LARGE ? SESSION_BYTES_MAX + 1 : 4096;
	say(channel, &move, seqpacket(), bell, lie == NO_BELL ? -1 : dup(bell));
}

static void send_grant(int channel, enum lie lie)
{
	struct move move = { .type = MOVE_GIVEN, .handle = SESSION };

	move.grant.segment = SEGMENT;
	say(channel, &move, -1, -1, -1);
	move = (struct move){ .type = MOVE_GRANTED, .handle = lie == NO_SESSION ? LISTENER : SESSION };
	move.grant.slot = lie == BAD_SLOT ? SHMIPC_SLOTS_MAX : 5;
	say(channel, &move, segment_fd(lie != GRANT_UNSEALED), -1, -1);
}

/* As move_send() does not: the end, and perhaps four descriptors with it. */
static void send_spoilt(int channel, enum lie lie)
{
	struct move move = { .magic = MOVE_MAGIC, .version = MOVE_VERSION, .type = MOVE_END };
	char control[CMSG_SPACE(4 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { &move, lie == CUT_SHORT ? 10 : sizeof(move) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (lie == BAD_TYPE)
		move.type = 99;
	if (lie == EARLY_DONE)
		move.type = MOVE_DONE;
	if (lie == BAD_MAGIC)
		move.magic++;
	if (lie == BAD_VERSION)
		move.version++;
	if (lie == FD_MISSING)
		move.fds = 1;
	if (lie == END_WITH_FDS)
		move.fds = 15;
	if (lie == FDS_UNSAID || lie == END_WITH_FDS || lie == CUT_SHORT) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(4 * sizeof(int));
		memcpy(CMSG_DATA(c), (int[]){ channel, channel, channel, channel }, 4 * sizeof(int));
	}
	must(sendmsg(channel, &msg, 0) == (ssize_t)iov.iov_len);
}

static void send_lie(int channel, enum lie lie)
{
	struct move move = { .type = MOVE_BEGIN };

	say(channel, &move, -1, -1, -1);
	move = (struct move){ .type = MOVE_SEGMENT, .handle = SEGMENT };
	say(channel, &move, segment_fd(lie != NO_SEALS), -1, -1);
	send_listener(channel, lie);
	send_session(channel, lie, SESSION, false);
	send_session(channel, lie, SESSION + 0x10001, true);
	send_grant(channel, lie);
	send_spoilt(channel, lie);
}

/* Each is refused, and leaves nothing behind; the truth is believed. */
static void test_lies(void **state)
{
	unsigned int before = open_descriptors();

	(void)state;
	for (enum lie lie = TRUTH; lie < LIES; lie++) {
		struct link_message message;
		struct pv_list list;
		struct provider *pv;
		int door[2], fds[LINK_FDS], err;

		must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door));
		assert_int_equal(hand->adopt(NULL, NULL, door[1], &pv), 0);
		assert_int_equal(link_receive(door[0], &message, fds), 1);
		assert_int_equal(message.type, LINK_ADOPT);
		send_lie(fds[0], lie);
		assert_int_equal(hand->pause(pv, LIMIT), 0);
		err = hand->list(pv, 0, &list);
		if (err != (lie == TRUTH ? 0 : -EBADMSG))
			fail_msg("lie %d: %d", lie, err);
		if (!err) {
			assert_int_equal(list.nr, 3);
			free(list.items);
			assert_int_equal(hand->list(pv, SESSION, &list), 0);
			assert_int_equal(list.nr, 2);
		}
		free(list.items);
		ops->close(pv, false);
		close(fds[0]);
		close(door[0]);
		close(door[1]);
		if (open_descriptors() != before)
			fail_msg("lie %d: descriptors left", lie);
	}
}

/* Has all, and then says what is no COMMIT. */
static void bad_successor(int wire)
{
	uint32_t listener, session = 0;
	struct provider *pv;
	struct move move;

	for (int i = 0; i < 2; i++) {
		hear(wire);
		pv = must_adopt(-1, &listener, &session);
		move = (struct move){ .type = i ? MOVE_DONE : MOVE_COMMIT };
		say(embedded(pv)->predecessor.fd, &move, eventfd(0, EFD_CLOEXEC), -1, -1);
		must(answer(dup(embedded(pv)->predecessor.fd)) == -ECANCELED);
		ops->close(pv, false);
	}
}

/* It does not get it, and nothing is left of it. */
static void test_bad_successors(void **state)
{
	struct pv_offer offer = { .by_name = true, .timeout_ns = LIMIT };
	struct child child = spawn(bad_successor);
	struct pv_segment segment;
	struct shmipc_ready event;
	struct provider *pv;
	unsigned int before;

	(void)state;
	must_open(&pv, &segment);
	must_listen(pv);
	before = open_descriptors();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(hand->offer(pv, &offer), 0);
		tell(child.wire);
		do
			assert_int_equal(wait_event(pv, &event, LIMIT), 1);
		while (!(event.causes & SHMIPC_CAUSE_OFFER));
		assert_int_equal(hand->yield(pv, -1), -ECANCELED);
		*(volatile char *)segment.addr = 1;
		close(offer.fd);
		ops->drop(pv, offer.handle, 0);
		assert_int_equal(open_descriptors(), before);
	}
	reap(&child, 0);
	ops->close(pv, false);
}

static void test_no_door(void **state)
{
	struct provider *pv;
	int pair[2];

	(void)state;
	assert_int_equal(hand->adopt(NULL, NULL, 0, &pv), -EBADF);
	assert_int_equal(hand->adopt(NULL, NULL, 1000, &pv), -EBADF);
	assert_int_equal(hand->adopt(NULL, name, -1, &pv), -ENOENT);
	assert_int_equal(hand->adopt(NULL, "", -1, &pv), -EINVAL);
	must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	close(pair[0]);
	assert_int_equal(hand->adopt(NULL, NULL, pair[1], &pv), -ESTALE);
	close(pair[1]);
}

/* ---- what a successor inherits ---------------------------------------------------- */

/* Takes over without looking at what was granted, and hears that the peer closes. */
static void patron(int wire)
{
	struct pv_segment segment;
	struct provider *pv, *next;
	struct shmipc_ready event;
	struct pv_list list;
	uint32_t listener, session;
	int fd;

	must_open(&pv, &segment);
	listener = must_listen(pv);
	tell(wire);
	session = must_accept(pv, listener, &segment);
	tell(wire);
	hear(wire);
	fd = must_offer(pv, false);
	if (fork()) {
		must_hand_over(pv);
		ops->close(pv, false);
		return;
	}
	must(!hand->adopt(NULL, NULL, fd, &next));
	must(!hand->pause(next, LIMIT));
	must(!hand->list(next, 0, &list));
	free(list.items);
	must(!hand->commit(next));
	must(!hand->watch(next, session, NULL, 4));
	ops->close(pv, true);
	tell(wire);
	do
		must(wait_event(next, &event, LIMIT) == 1);
	while (!(event.causes & SHMIPC_CAUSE_PEER_CLOSED));
	tell(wire);
}

/* More than is taken ahead for nobody's asking: they are no reason not to hear the peer any more. */
static void test_many_grants(void **state)
{
	struct child old = spawn(patron);
	struct pv_segment segment;
	struct provider *pv;
	uint32_t session;

	(void)state;
	hear(old.wire);
	must_open(&pv, &segment);
	assert_int_equal(try_connect(pv, &segment, &session), 0);
	hear(old.wire);
	for (uint32_t slot = 1; slot <= GRANTS_AHEAD + 6; slot++)
		assert_int_equal(ops->segment_grant(pv, session, &segment, slot), 0);
	tell(old.wire);
	hear(old.wire);
	ops->drop(pv, session, 0);
	hear(old.wire);
	ops->close(pv, false);
	reap(&old, 0);
}

/* After COMMIT nothing may fail for want of a descriptor. */
static void heir(struct provider *old, int fd)
{
	struct rlimit none = { 0, 0 };
	struct pv_segment segment = { 0 };
	struct pv_mapping view;
	struct provider *next;
	struct pv_list list;
	uint64_t offset = 0;

	must(!hand->adopt(NULL, NULL, fd, &next));
	must(!hand->pause(next, LIMIT));
	must(!hand->list(next, 0, &list));
	for (uint32_t i = 0; i < list.nr; i++)
		if (list.items[i].kind == SHMIPC_ITEM_SEGMENT) {
			offset = list.items[i].offset;
			segment.handle = list.items[i].handle;
			segment.len = list.items[i].length;
		}
	free(list.items);
	must(segment.handle);
	must(!hand->view(next, offset, segment.len, &view));
	segment.addr = (void *)(uintptr_t)view.addr;
	must(!hand->commit(next));
	ops->close(old, true);
	must(!setrlimit(RLIMIT_NOFILE, &none));
	must(!hand->own(next, &segment, offset));
	memset(segment.addr, 1, segment.len);
}

static void test_no_descriptor_left(void **state)
{
	struct pv_segment segment;
	struct provider *pv;
	int fd, status;
	pid_t child;

	(void)state;
	must_open(&pv, &segment);
	must_listen(pv);
	fd = must_offer(pv, false);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		heir(pv, fd);
		_exit(0);
	}
	must_hand_over(pv);
	ops->close(pv, false);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* A child of the last test may still be ending. */
static int new_name(void **state)
{
	static int count;

	(void)state;
	snprintf(name, sizeof(name), "test.embedded-handover.%d.%d", getpid(), count++);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_peer_is_busy, new_name),
		cmocka_unit_test_setup(test_connects_in_the_pause, new_name),
		cmocka_unit_test_setup(test_stranger, new_name),
		cmocka_unit_test_setup(test_bad_candidates, new_name),
		cmocka_unit_test_setup(test_flood, new_name),
		cmocka_unit_test_setup(test_lies, new_name),
		cmocka_unit_test_setup(test_bad_successors, new_name),
		cmocka_unit_test_setup(test_no_door, new_name),
		cmocka_unit_test_setup(test_many_grants, new_name),
		cmocka_unit_test_setup(test_no_descriptor_left, new_name),
	};

	return cmocka_run_group_tests_name("embedded handover", tests, NULL, NULL);
}
