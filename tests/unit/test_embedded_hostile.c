// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a peer that lies can do to the embedded provider: a socket driven by hand against it. Each
 * refusal is checked beside a greeting that differs in nothing else and is accepted.
 */
#include <dlfcn.h>
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
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "embedded.h"
#include "provider.h"

#define LIMIT	((int64_t)30000000000)
#define MS	((int64_t)1000000)

static const struct provider_ops *const ops = &provider_embedded;
static struct provider *pv;
static struct pv_segment segment;
static uint32_t listener;
static char name[SHMIPC_NAME_MAX + 1];

static bool no_memory;

/* The library's as well: it is linked in. */
void *realloc(void *old, size_t len)
{
	static void *(*real)(void *old, size_t len);

	if (!real)
		real = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	return no_memory ? NULL : real(old, len);
}

static int setup(void **state)
{
	struct pv_bind bind = { .name = name, .mode = 0600, .backlog = 64, .max_per_uid = 1000 };
	static int n;

	(void)state;
	snprintf(name, sizeof(name), "test.hostile.%d.%d", getpid(), n++);
	if (ops->open(&pv) || ops->segment_create(pv, 4096, false, &segment))
		return -1;
	return ops->bind(pv, &bind, &listener);
}

static int teardown(void **state)
{
	(void)state;
	ops->close(pv, false);
	return 0;
}

static int try_accept(uint32_t *session)
{
	struct shmipc_peer peer;

	return ops->accept(pv, listener, &segment, 7, session, &peer);
}

static int wait_event(struct shmipc_ready *event, int64_t timeout)
{
	struct pv_sync sync = { .events = event, .max_events = 1, .wait = true,
				.timeout_ns = timeout };

	return ops->sync(pv, &sync);
}

/* ---- a peer by hand ------------------------------------------------------------- */

static int dial(void)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, NAME_LISTENER, name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	return fd;
}

static void send_raw(int sock, const void *bytes, size_t len, const int *fds, size_t nr)
{
	char control[CMSG_SPACE(32 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	assert_true(nr <= 32);
	if (nr) {
		struct cmsghdr *c = (struct cmsghdr *)control;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr * sizeof(int));
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), len);
}

static struct link_message hello(void)
{
	return (struct link_message){ .magic = LINK_MAGIC, .version = LINK_VERSION,
				      .type = LINK_HELLO, .nr_fds = 2 };
}

enum memory {
	SEALED, NO_SEALS, NO_SHRINK_SEAL, NO_GROW_SEAL, NO_SEAL_SEAL, WRITABLE, EMPTY, ODD_SIZE,
};

static int sized_memory(enum memory how, off_t len)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING), ro;
	char path[32];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, len), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, (how == WRITABLE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	assert_true(ro >= 0);
	seals &= how == NO_SHRINK_SEAL ? ~F_SEAL_SHRINK : how == NO_GROW_SEAL ? ~F_SEAL_GROW :
		 how == NO_SEAL_SEAL ? ~F_SEAL_SEAL : ~0;
	if (how != NO_SEALS)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	close(fd);
	return ro;
}

static int memory(enum memory how)
{
	return sized_memory(how, how == EMPTY ? 0 : how == ODD_SIZE ? 5000 : 4096);
}

static int bell(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

/* The errno of a REFUSE, 0 for WELCOME, -1 when the socket was closed without a word. */
static int answer(int sock)
{
	struct pollfd fd = { .fd = sock, .events = POLLIN };
	struct link_message message;
	int fds[LINK_FDS], ret;

	assert_int_equal(poll(&fd, 1, 30000), 1);
	ret = link_receive(sock, &message, fds);
	for (int i = 0; i < LINK_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (ret != 1)
		return -1;
	return message.type == LINK_WELCOME ? 0 : message.type == LINK_REFUSE ? (int)message.value :
	       -2;
}

/* What the listener makes of a greeting. Closes the descriptors. */
static int greet(const void *bytes, size_t len, int *fds, size_t nr)
{
	int sock = dial(), err;
	uint32_t session;

	send_raw(sock, bytes, len, fds, nr);
	err = try_accept(&session);
	assert_true(err == 0 || err == -EAGAIN);
	err = answer(sock);
	close(sock);
	for (size_t i = 0; i < nr; i++)
		close(fds[i]);
	return err;
}

static int greet_with(int memory_fd, int bell_fd)
{
	struct link_message message = hello();
	int fds[] = { memory_fd, bell_fd };

	return greet(&message, sizeof(message), fds, 2);
}

static void test_control(void **state)
{
	(void)state;
	assert_int_equal(greet_with(memory(SEALED), bell()), 0);
}

static void test_bad_memory(void **state)
{
	(void)state;
	for (enum memory how = NO_SEALS; how <= ODD_SIZE; how++) {
		int err = greet_with(memory(how), bell());

		if (err != EBADMSG)
			fail_msg("kind %d of memory: %d", how, err);
	}
	assert_int_equal(greet_with(bell(), bell()), EBADMSG);
	assert_int_equal(greet_with(open("/dev/zero", O_RDONLY), bell()), EBADMSG);
	assert_int_equal(greet_with(open("/etc/passwd", O_RDONLY), bell()), EBADMSG);
	assert_int_equal(greet_with(memory(SEALED), bell()), 0);
}

/* What will be written to must be a bell: not a file that the peer could not write itself. */
static void test_bad_bell(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(greet_with(memory(SEALED), open("/dev/null", O_WRONLY)), EBADMSG);
	assert_int_equal(greet_with(memory(SEALED), memory(SEALED)), EBADMSG);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(greet_with(memory(SEALED), fds[1]), EBADMSG);
	close(fds[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(greet_with(memory(SEALED), fds[1]), EBADMSG);
	close(fds[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	assert_int_equal(greet_with(memory(SEALED), fds[1]), 0);
	close(fds[0]);
}

static void test_bad_hello(void **state)
{
	struct link_message message;
	char garbage[300];
	int fds[20];

	(void)state;
	memset(garbage, 0xa5, sizeof(garbage));
	for (size_t len = 1; len <= sizeof(garbage); len += 23)
		assert_int_equal(greet(garbage, len, NULL, 0), EBADMSG);
	message = hello();
	assert_int_equal(greet(&message, sizeof(message), NULL, 0), EBADMSG);
	fds[0] = memory(SEALED);
	assert_int_equal(greet(&message, sizeof(message), fds, 1), EBADMSG);
	for (int i = 0; i < 20; i++)
		fds[i] = memory(SEALED);
	assert_int_equal(greet(&message, sizeof(message), fds, 20), EBADMSG);
	fds[0] = memory(SEALED);
	fds[1] = bell();
	assert_int_equal(greet(&message, sizeof(message) - 1, fds, 2), EBADMSG);
	message.version++;
	fds[0] = memory(SEALED);
	fds[1] = bell();
	assert_int_equal(greet(&message, sizeof(message), fds, 2), EPROTONOSUPPORT);
	message = hello();
	message.type = LINK_WELCOME;
	fds[0] = memory(SEALED);
	fds[1] = bell();
	assert_int_equal(greet(&message, sizeof(message), fds, 2), EBADMSG);
	test_control(NULL);
}

/* Who stands in the backlog was taken off the socket: the limit counts all the same. */
static void test_backlog(void **state)
{
	struct pv_bind request = { .name = name, .mode = 0600, .backlog = 3 };
	int socks[5], results[5];
	struct shmipc_ready event;

	(void)state;
	ops->drop(pv, listener, 0);
	assert_int_equal(ops->bind(pv, &request, &listener), 0);
	for (int i = 0; i < 5; i++) {
		struct link_message message = hello();
		int fds[] = { memory(SEALED), bell() };
		struct pollfd fd = { .fd = socks[i] = dial(), .events = POLLIN };

		send_raw(fd.fd, &message, sizeof(message), fds, 2);
		close(fds[0]);
		close(fds[1]);
		wait_event(&event, 0);
		results[i] = poll(&fd, 1, 0) ? answer(fd.fd) : 0;
	}
	for (int i = 0; i < 5; i++) {
		close(socks[i]);
		assert_int_equal(results[i], i < 3 ? 0 : EAGAIN);
	}
}

/* ---- those that say nothing --------------------------------------------------------- */

static bool is_answered(int sock)
{
	struct pollfd fd = { .fd = sock, .events = POLLIN };

	return poll(&fd, 1, 0);
}

static void age_guests(int64_t by)
{
	for (unsigned int i = 0; i < embedded(pv)->table_size; i++) {
		struct object *object = embedded(pv)->table[i];

		if (object && object->kind == OBJECT_SESSION)
			container_of(object, struct session, object)->since -= by;
	}
	embedded(pv)->tend_at = 0;
}

static void test_silent(void **state)
{
	int silent[SILENT_PER_UID + 2];
	struct shmipc_ready event;
	uint32_t session;

	(void)state;
	for (int i = 0; i < SILENT_PER_UID + 1; i++) {
		silent[i] = dial();
		assert_int_equal(try_accept(&session), -EAGAIN);
	}
	/* One too many, while the others came just now: they may only not have run yet. */
	assert_int_equal(answer(silent[SILENT_PER_UID]), EAGAIN);
	/* Who speaks is served at once, all the same. */
	test_control(NULL);
	for (int i = 0; i < SILENT_PER_UID; i++)
		assert_false(is_answered(silent[i]));
	/* Later the oldest has to go for a new one. */
	age_guests(SILENT_GRACE_NS);
	silent[SILENT_PER_UID + 1] = dial();
	assert_int_equal(try_accept(&session), -EAGAIN);
	assert_int_equal(answer(silent[0]), ETIMEDOUT);
	for (int i = 1; i < SILENT_PER_UID; i++)
		assert_false(is_answered(silent[i]));
	test_control(NULL);
	/* And in time all of them. */
	age_guests(SILENT_NS);
	while (wait_event(&event, 0) > 0)
		;
	for (int i = 0; i < SILENT_PER_UID + 2; i++) {
		assert_true(is_answered(silent[i]));
		close(silent[i]);
	}
	assert_int_equal(embedded(pv)->silent, 0);
}

/* Nobody needs to come for a silent one to be dropped: a sleeping server sees to it by itself. */
static void test_silent_asleep(void **state)
{
	struct shmipc_ready event;
	uint32_t session;
	int sock = dial();

	(void)state;
	assert_int_equal(try_accept(&session), -EAGAIN);
	age_guests(SILENT_NS - 50 * MS);
	assert_int_equal(wait_event(&event, 600 * MS), 0);
	assert_true(is_answered(sock));
	close(sock);
}

/* A silent client's HELLO in the end makes a session like any other. */
static void test_slow(void **state)
{
	struct link_message message = hello();
	int sock = dial(), fds[] = { memory(SEALED), bell() };
	struct shmipc_ready event;
	uint32_t session;

	(void)state;
	assert_int_equal(wait_event(&event, 50 * MS), 0);
	send_raw(sock, &message, sizeof(message), fds, 2);
	assert_int_equal(wait_event(&event, LIMIT), 1);
	assert_int_equal(event.causes, SHMIPC_CAUSE_ACCEPT);
	assert_int_equal(try_accept(&session), 0);
	assert_int_equal(answer(sock), 0);
	close(sock);
	close(fds[0]);
	close(fds[1]);
}

/* ---- a session's peer ----------------------------------------------------------------- */

static int open_session(uint32_t *session)
{
	struct link_message message = hello();
	int sock = dial(), fds[] = { memory(SEALED), bell() };

	send_raw(sock, &message, sizeof(message), fds, 2);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(try_accept(session), 0);
	assert_int_equal(answer(sock), 0);
	return sock;
}

static void send_grant(int sock, uint32_t slot, int fd)
{
	struct link_message message = { .magic = LINK_MAGIC, .version = LINK_VERSION,
					.type = LINK_GRANT, .value = slot, .nr_fds = 1 };

	send_raw(sock, &message, sizeof(message), &fd, 1);
	close(fd);
}

static uint32_t next_cause(uint32_t session)
{
	struct shmipc_ready event;

	while (wait_event(&event, LIMIT) == 1)
		if (event.handle == session)
			return event.causes;
	return 0;
}

static void test_bad_messages(void **state)
{
	static const uint16_t types[] = { 0, LINK_HELLO, LINK_WELCOME, LINK_REFUSE, 77 };
	uint32_t session;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct link_message message = { .magic = LINK_MAGIC, .version = LINK_VERSION,
						.type = types[i] };
		int sock = open_session(&session);

		send_raw(sock, &message, sizeof(message), NULL, 0);
		assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
		ops->drop(pv, session, 0);
		close(sock);
	}
}

static void test_bad_grants(void **state)
{
	static const struct {
		uint32_t slot;
		enum memory how;
	} cases[] = {
		{ 0, SEALED }, { SHMIPC_SLOTS_MAX, SEALED }, { ~0U, SEALED }, { 1, NO_SEALS },
		{ 1, WRITABLE }, { 1, ODD_SIZE },
	};
	struct pv_mapping mapping;
	uint32_t session;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int sock = open_session(&session);

		send_grant(sock, 5, memory(SEALED));
		send_grant(sock, cases[i].slot, memory(cases[i].how));
		if (next_cause(session) != SHMIPC_CAUSE_PEER_CLOSED)
			fail_msg("case %zu", i);
		/* What came before was good, and stays so. */
		assert_int_equal(ops->segment_map(pv, session, 5, &mapping), 0);
		ops->segment_unmap(pv, &mapping);
		assert_int_equal(ops->segment_map(pv, session, 1, &mapping), -ENOENT);
		ops->drop(pv, session, 0);
		close(sock);
	}
}

static void test_twice(void **state)
{
	struct pv_mapping mapping;
	uint32_t session;
	int sock = open_session(&session);

	(void)state;
	send_grant(sock, 1, memory(SEALED));
	assert_int_equal(ops->segment_map(pv, session, 1, &mapping), 0);
	ops->segment_unmap(pv, &mapping);
	/* Also after it was mapped: the slot is taken for the session's life. */
	send_grant(sock, 1, memory(SEALED));
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
	close(sock);
}

static unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static struct session *find_session(uint32_t handle)
{
	struct object *object = object_find_locked(embedded(pv), handle, OBJECT_SESSION);

	assert_non_null(object);
	return container_of(object, struct session, object);
}

/*
 * Grants that nobody maps: only so many are taken, and yet none is lost; and of another user's only a few
 * descriptors are kept.
 */
static void flood(bool foreign, unsigned int kept)
{
	struct shmipc_ready event;
	struct pv_mapping mapping;
	unsigned int before;
	uint32_t session;
	int sock = open_session(&session);

	find_session(session)->foreign = foreign;
	before = open_descriptors();
	for (uint32_t slot = 1; slot <= 2 * GRANTS_AHEAD; slot++)
		send_grant(sock, slot, memory(SEALED));
	assert_int_equal(wait_event(&event, 20 * MS), 0);
	/* The first segment's is among them. */
	assert_int_equal(open_descriptors(), before + kept - 1);
	assert_int_equal(find_session(session)->nr_grants, GRANTS_AHEAD);
	assert_int_equal(find_session(session)->stuck, foreign);
	for (uint32_t slot = 2 * GRANTS_AHEAD + 1; slot--;) {
		assert_int_equal(ops->segment_map(pv, session, slot, &mapping), 0);
		ops->segment_unmap(pv, &mapping);
	}
	assert_int_equal(open_descriptors(), before - 1);
	close(sock);
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_DIED);
	ops->drop(pv, session, 0);
}

static void test_flood(void **state)
{
	(void)state;
	flood(false, GRANTS_AHEAD);
	flood(true, KEPT_FOREIGN);
}

/* What was left in the socket when there were as many as may be is read when there is room again. */
static void test_goes_behind_a_flood(void **state)
{
	struct shmipc_ready event;
	struct pv_mapping mapping;
	uint32_t session;
	int sock = open_session(&session);

	(void)state;
	/* With the first segment as many as may be. */
	for (uint32_t slot = 1; slot < GRANTS_AHEAD; slot++)
		send_grant(sock, slot, memory(SEALED));
	assert_int_equal(link_send(sock, LINK_BYE, 0, NULL, 0), 0);
	assert_int_equal(wait_event(&event, 20 * MS), 0);
	for (uint32_t slot = 0; slot < GRANTS_AHEAD; slot++) {
		assert_int_equal(ops->segment_map(pv, session, slot, &mapping), 0);
		ops->segment_unmap(pv, &mapping);
	}
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
	close(sock);
	ops->drop(pv, session, 0);
}

/* Nor may another user have a few in each of many sessions. */
static void test_many_small_floods(void **state)
{
	enum { SESSIONS = 8, FILES = 256 };
	uint32_t session[SESSIONS];
	struct rlimit before, few;
	unsigned int kept = 0;
	int sock[SESSIONS];

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ FILES, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < SESSIONS; i++) {
		struct shmipc_ready event;

		sock[i] = open_session(&session[i]);
		find_session(session[i])->foreign = true;
		for (uint32_t slot = 1; slot <= KEPT_FOREIGN; slot++)
			send_grant(sock[i], slot, memory(SEALED));
		assert_int_equal(wait_event(&event, 20 * MS), 0);
		for (unsigned int at = 0; at < find_session(session[i])->nr_grants; at++)
			kept += find_session(session[i])->grants[at].fd >= 0;
	}
	/* Each session's first one may come on top, for it was made before this was another user's. */
	assert_in_range(kept, FILES / KEPT_SHARE / 2, FILES / KEPT_SHARE + SESSIONS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (int i = 0; i < SESSIONS; i++) {
		close(sock[i]);
		ops->drop(pv, session[i], 0);
	}
}

/* ---- a peer that is handed over ------------------------------------------------------- */

static int pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_true(fd >= 0);
	return fd;
}

/* As the library says it, @who included if that is to be said. */
static void say(int sock, enum link_type type, uint32_t value, int fd)
{
	assert_int_equal(link_send(sock, type, value, &fd, fd >= 0), 0);
	if (fd >= 0)
		close(fd);
}

/* A program that took over: says so, and stays until it is killed. */
static pid_t successor(int sock, uid_t uid, uint32_t count)
{
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0 || setresuid(uid, uid, uid) || link_send(sock, LINK_CHANGED, count, &fd, 1))
		_exit(1);
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void expect_peer(uint32_t session, pid_t pid, uid_t uid, uint32_t generation)
{
	struct shmipc_peer peer;
	bool paused;

	assert_int_equal(ops->peer(pv, session, &peer, &paused), 0);
	assert_int_equal(peer.pid, pid);
	assert_int_equal(peer.uid, uid);
	assert_int_equal(peer.generation, generation);
	assert_false(paused);
}

static void test_changed(void **state)
{
	uint32_t session;
	int sock = open_session(&session);
	pid_t pid;

	(void)state;
	expect_peer(session, getpid(), geteuid(), 0);
	say(sock, LINK_MOVED, 0, pidfd(getpid()));
	pid = successor(sock, geteuid(), 1);
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CHANGED);
	expect_peer(session, pid, geteuid(), 1);
	/* It is watched from now on. */
	end(pid);
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_DIED);
	ops->drop(pv, session, 0);
	close(sock);
}

/* The uid is the kernel's word; who counts against the listener's limit stays who came. */
static void test_changed_uid(void **state)
{
	uint32_t session;
	int sock, expect;
	pid_t pid;

	(void)state;
	if (geteuid()) {
		print_message("skip: only root can become another user\n");
		skip();
	}
	for (expect = 0; expect < 2; expect++) {
		sock = open_session(&session);
		if (expect)
			find_session(session)->expect_uid = geteuid();
		say(sock, LINK_MOVED, 0, pidfd(getpid()));
		pid = successor(sock, 12345, 1);
		assert_int_equal(next_cause(session), expect ? SHMIPC_CAUSE_PEER_CLOSED :
							       SHMIPC_CAUSE_PEER_CHANGED);
		expect_peer(session, expect ? getpid() : pid, expect ? geteuid() : 12345, !expect);
		assert_int_equal(find_session(session)->peer.uid, geteuid());
		end(pid);
		ops->drop(pv, session, 0);
		close(sock);
	}
}

/* No CHANGED without MOVED, of another count, of a descriptor that is no process; and none unsigned. */
static void test_bad_changes(void **state)
{
	enum { GOOD, NO_MOVED, COUNT_SAME, COUNT_NEXT, MOVED_NOBODY, NOBODY, UNSIGNED, CASES };
	unsigned int before = open_descriptors();
	uint32_t session;

	(void)state;
	for (int how = GOOD; how < CASES; how++) {
		struct link_message message = { .magic = LINK_MAGIC, .version = LINK_VERSION,
						.type = LINK_CHANGED, .value = 1, .nr_fds = 1 };
		int sock = open_session(&session), me = pidfd(getpid());

		if (how != NO_MOVED)
			say(sock, LINK_MOVED, 0, how == MOVED_NOBODY ? bell() : pidfd(getpid()));
		if (how == UNSIGNED)
			send_raw(sock, &message, sizeof(message), &me, 1);
		else
			say(sock, LINK_CHANGED, how == COUNT_SAME ? 0 : how == COUNT_NEXT ? 2 : 1,
			    how == NOBODY ? bell() : dup(me));
		close(me);
		if (next_cause(session) !=
		    (how ? SHMIPC_CAUSE_PEER_CLOSED : SHMIPC_CAUSE_PEER_CHANGED))
			fail_msg("case %d", how);
		expect_peer(session, getpid(), geteuid(), !how);
		ops->drop(pv, session, 0);
		close(sock);
		assert_int_equal(open_descriptors(), before);
	}
}

/* Only who asked is woken for it. */
static void test_pauses(void **state)
{
	struct shmipc_ready event;
	struct shmipc_peer peer;
	uint32_t session;
	int sock = open_session(&session);
	bool paused;

	(void)state;
	for (int asked = 0; asked < 2; asked++) {
		assert_int_equal(ops->peer_watch(pv, session, 0, asked), 0);
		for (int type = LINK_PAUSED; type <= LINK_RESUMED; type++) {
			say(sock, type, 0, -1);
			if (asked)
				assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_PAUSE);
			assert_int_equal(wait_event(&event, 20 * MS), 0);
			assert_int_equal(ops->peer(pv, session, &peer, &paused), 0);
			assert_int_equal(paused, type == LINK_PAUSED);
		}
	}
	ops->drop(pv, session, 0);
	assert_int_equal(ops->peer(pv, session, &peer, &paused), -ENOENT);
	assert_int_equal(ops->peer_watch(pv, session, 0, true), -ENOENT);
	close(sock);
}

/* Who never stops talking keeps nobody: so many messages in one go end the session, one less does not. */
static void test_endless(void **state)
{
	enum { BYTES = 8 << 20 };	/* all of it fits */
	struct shmipc_ready event;
	uint32_t session;

	(void)state;
	for (unsigned int more = 0; more < 2; more++) {
		int sock = open_session(&session), me = pidfd(getpid());

		if (setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &(int){ BYTES }, sizeof(int))) {
			print_message("skip: only root may fill a socket with so much\n");
			skip();
		}
		for (unsigned int i = 0; i < MESSAGES_MAX - 1 + more; i++)
			assert_int_equal(link_send(sock, LINK_MOVED, 0, &me, 1), 0);
		close(me);
		if (more)
			assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
		else
			assert_int_equal(wait_event(&event, 20 * MS), 0);
		ops->drop(pv, session, 0);
		close(sock);
	}
}

/* No memory for one grant: it and its session are lost, what came before is not. */
static void test_no_memory_for_a_grant(void **state)
{
	struct shmipc_ready event;
	struct pv_mapping mapping;
	uint32_t session;
	int sock = open_session(&session);

	(void)state;
	for (uint32_t slot = 1; slot <= 4; slot++)
		send_grant(sock, slot, memory(SEALED));
	no_memory = true;
	assert_int_equal(wait_event(&event, LIMIT), 1);
	no_memory = false;
	assert_int_equal(event.causes, SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(find_session(session)->nr_grants, find_session(session)->max_grants);
	for (uint32_t slot = 5; slot <= 20; slot++)
		send_grant(sock, slot, memory(SEALED));
	assert_int_equal(ops->segment_map(pv, session, 20, &mapping), 0);
	ops->segment_unmap(pv, &mapping);
	assert_int_equal(ops->segment_map(pv, session, 1, &mapping), 0);
	ops->segment_unmap(pv, &mapping);
	close(sock);
	ops->drop(pv, session, 0);
}

/* Holes cost the peer nothing, but this process its address space: only so much of it. */
static void test_sizes(void **state)
{
	const off_t gib = 1 << 30;
	struct pv_mapping mapping;
	uint32_t session;
	int sock;

	(void)state;
	sock = open_session(&session);
	send_grant(sock, 1, sized_memory(SEALED, SESSION_BYTES_MAX));
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
	ops->drop(pv, session, 0);
	close(sock);

	/* The first segment's page counts as well. */
	sock = open_session(&session);
	send_grant(sock, 1, sized_memory(SEALED, SESSION_BYTES_MAX - gib));
	send_grant(sock, 2, sized_memory(SEALED, gib - 4096));
	for (uint32_t slot = 1; slot <= 2; slot++)
		assert_int_equal(ops->segment_map(pv, session, slot, &mapping), 0);
	send_grant(sock, 3, sized_memory(SEALED, 4096));
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(ops->segment_map(pv, session, 3, &mapping), -ENOENT);
	ops->drop(pv, session, 0);
	close(sock);
	assert_int_equal(greet_with(sized_memory(SEALED, gib), bell()), 0);
	assert_int_equal(greet_with(sized_memory(SEALED, SESSION_BYTES_MAX + 4096), bell()),
			 EBADMSG);
}

/* Who asks for more than a peer would take is told so, and keeps the session. */
static void test_own_sizes(void **state)
{
	struct pv_segment large, small;
	uint32_t session;
	int sock = open_session(&session);

	(void)state;
	assert_int_equal(ops->segment_create(pv, SESSION_BYTES_MAX + 1, false, &large), -EINVAL);
	assert_int_equal(ops->segment_create(pv, SESSION_BYTES_MAX / 2, false, &large), 0);
	assert_int_equal(ops->segment_create(pv, SESSION_BYTES_MAX / 2 - 4096, false, &small), 0);
	assert_int_equal(ops->segment_grant(pv, session, &large, 1), 0);
	assert_int_equal(ops->segment_grant(pv, session, &large, 2), -ENOSPC);
	assert_int_equal(ops->segment_grant(pv, session, &small, 2), 0);
	assert_int_equal(ops->segment_grant(pv, session, &segment, 3), -ENOSPC);
	close(sock);
}

/* In a child nothing of it is mapped: what lies there instead is left alone. */
static void test_grants_in_a_child(void **state)
{
	struct shmipc_ready event;
	uint32_t session;
	int sock = open_session(&session), status;
	const void *at;
	pid_t pid;

	(void)state;
	send_grant(sock, 1, memory(SEALED));
	assert_int_equal(wait_event(&event, 20 * MS), 0);
	at = find_session(session)->grants[0].mapping.addr;
	pid = fork();
	if (!pid) {
		int *own = mmap((void *)(uintptr_t)at, 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (own != at)
			_exit(2);
		*own = 1;
		ops->close(pv, true);
		_exit(*own != 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(sock);
}

/* What was granted before the end is there after it, also what was still in the socket. */
static void test_grants_then_end(void **state)
{
	struct pv_mapping mapping;
	uint32_t session;
	int sock = open_session(&session);

	(void)state;
	for (uint32_t slot = 1; slot <= 2 * GRANTS_AHEAD; slot++)
		send_grant(sock, slot, memory(SEALED));
	/* Something of ours that it has not read, so that its end is a reset. */
	assert_int_equal(ops->segment_grant(pv, session, &segment, 3), 0);
	close(sock);
	for (uint32_t slot = 1; slot <= 2 * GRANTS_AHEAD; slot++) {
		assert_int_equal(ops->segment_map(pv, session, slot, &mapping), 0);
		ops->segment_unmap(pv, &mapping);
	}
	assert_int_equal(next_cause(session), SHMIPC_CAUSE_PEER_DIED);
	ops->drop(pv, session, 0);
}

/* A peer that never reads gets no more grants at some point, and still is told BYE. */
static void test_deaf(void **state)
{
	struct link_message message;
	int fds[LINK_FDS], last = 0, err;
	uint32_t session, slot;
	int sock = open_session(&session);

	(void)state;
	for (slot = 1; slot < SHMIPC_SLOTS_MAX; slot++) {
		err = ops->segment_grant(pv, session, &segment, slot);
		if (err)
			break;
	}
	print_message("%u grants fit\n", slot - 1);
	assert_int_equal(err, -ENOSPC);
	assert_in_range(slot, 64, SHMIPC_SLOTS_MAX - 1);
	ops->drop(pv, session, 9);
	while (link_receive(sock, &message, fds) == 1) {
		last = message.type;
		for (int i = 0; i < LINK_FDS; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	assert_int_equal(last, LINK_BYE);
	assert_int_equal(message.value, 9);
	close(sock);
}

/* ---- a listener that lies --------------------------------------------------------------- */

struct liar {
	int sock;
	enum memory how;
	bool version;
	bool silent;
	bool moved;
	struct shmipc_peer peer;	/* what is made of it */
};

static void *lie(void *arg)
{
	struct liar *liar = arg;
	struct link_message message = hello();
	int sock = accept(liar->sock, NULL, NULL), fds[] = { memory(liar->how), bell() };

	message.type = LINK_WELCOME;
	message.version += liar->version;
	message.value = 5;
	if (liar->moved) {
		say(sock, LINK_MOVED, 0, pidfd(getpid()));
		say(sock, LINK_MOVED, 0, pidfd(getpid()));
		say(sock, LINK_CHANGED, 77, pidfd(getpid()));
	}
	if (!liar->silent)
		send_raw(sock, &message, sizeof(message), fds, 2);
	close(fds[0]);
	close(fds[1]);
	/* Until the other side has left. */
	while (recv(sock, &message, sizeof(message), 0) > 0 && message.type != LINK_BYE)
		;
	close(sock);
	return NULL;
}

static int connect_to_liar(struct liar *liar)
{
	struct pv_connect request = { .name = name, .segment = &segment, .timeout_ns = LIMIT };
	pthread_t thread;
	uint32_t session;
	int err;

	request.timeout_ns = liar->silent ? 20 * MS : LIMIT;
	pthread_create(&thread, NULL, lie, liar);
	err = ops->connect(pv, &request, &session, &liar->peer);
	if (!err)
		ops->drop(pv, session, 0);
	pthread_join(thread, NULL);
	return err;
}

static void test_liar(void **state)
{
	struct liar liar = { 0 };
	struct sockaddr_un address;
	socklen_t len;

	(void)state;
	ops->drop(pv, listener, 0);
	len = name_address(&address, NAME_LISTENER, name);
	liar.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(liar.sock, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(liar.sock, 4), 0);
	assert_int_equal(connect_to_liar(&liar), 0);
	/* No lie: who listened was handed over meanwhile, for the fifth time. */
	liar.moved = true;
	assert_int_equal(connect_to_liar(&liar), 0);
	assert_int_equal(liar.peer.generation, 5);
	assert_int_equal(liar.peer.pid, getpid());
	liar.moved = false;
	liar.how = NO_SEALS;
	assert_int_equal(connect_to_liar(&liar), -EBADMSG);
	liar.how = WRITABLE;
	assert_int_equal(connect_to_liar(&liar), -EBADMSG);
	liar.how = SEALED;
	liar.version = true;
	assert_int_equal(connect_to_liar(&liar), -EPROTONOSUPPORT);
	liar.version = false;
	liar.silent = true;
	assert_int_equal(connect_to_liar(&liar), -ETIMEDOUT);
	close(liar.sock);
}

/* A name that is reserved for a user, taken by another: anybody can, so that nobody believes it. */
static void test_squatter(void **state)
{
	struct liar liar = { 0 };
	struct sockaddr_un address;
	struct pv_connect request = { .name = name, .segment = &segment, .timeout_ns = LIMIT };
	struct shmipc_peer peer;
	uint32_t session;
	socklen_t len;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "u%u/test.%d", geteuid() + i, getpid());
		len = name_address(&address, NAME_LISTENER, name);
		liar.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(liar.sock, (struct sockaddr *)&address, len), 0);
		assert_int_equal(listen(liar.sock, 4), 0);
		if (!i)
			assert_int_equal(connect_to_liar(&liar), 0);
		else
			assert_int_equal(ops->connect(pv, &request, &session, &peer), -EACCES);
		close(liar.sock);
	}
}

/* No descriptors left: the connection waits and is taken when there are some again. */
static void test_no_descriptors(void **state)
{
	struct link_message message = hello();
	int sock = dial(), fds[] = { memory(SEALED), bell() };
	struct rlimit before, none;
	struct shmipc_ready event;
	uint32_t session;

	(void)state;
	send_raw(sock, &message, sizeof(message), fds, 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(wait_event(&event, 20 * MS), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(wait_event(&event, LIMIT), 1);
	assert_int_equal(event.causes, SHMIPC_CAUSE_ACCEPT);
	assert_int_equal(try_accept(&session), 0);
	assert_int_equal(answer(sock), 0);
	close(sock);
	close(fds[0]);
	close(fds[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_control), TEST(test_bad_memory), TEST(test_bad_bell),
		TEST(test_bad_hello), TEST(test_silent), TEST(test_silent_asleep), TEST(test_slow),
		TEST(test_bad_messages), TEST(test_bad_grants), TEST(test_twice),
		TEST(test_flood), TEST(test_goes_behind_a_flood),
		TEST(test_many_small_floods), TEST(test_changed), TEST(test_changed_uid), TEST(test_bad_changes),
		TEST(test_pauses), TEST(test_endless), TEST(test_no_memory_for_a_grant), TEST(test_sizes), TEST(test_own_sizes),
		TEST(test_grants_in_a_child), TEST(test_grants_then_end), TEST(test_deaf),
		TEST(test_liar), TEST(test_squatter), TEST(test_backlog), TEST(test_no_descriptors),
	};

	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
