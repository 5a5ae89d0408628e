// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The embedded provider between processes: death, forks, other users. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <shmipc/shmipc.h>

#include "embedded.h"
#include "embedded_name.h"
#include "provider.h"

#define LIMIT	((int64_t)30000000000)
#define MS	((int64_t)1000000)
#define MANY_GRANTS 150
#define OTHER	65534			/* another uid and gid: nobody */

static const struct provider_ops *const ops = &provider_embedded;

struct end {
	struct provider *pv;
	struct pv_segment segment;
	uint32_t listener, session;
	struct shmipc_peer peer;
	char name[SHMIPC_NAME_MAX + 1];
	struct pv_bind bind;
	struct pv_connect connect;
};

/* Returns 0 or -errno, so that children can use it, where cmocka can't fail. */
static int end_open(struct end *end, const char *name)
{
	int err;

	memset(end, 0, sizeof(*end));
	snprintf(end->name, sizeof(end->name), "%s", name);
	end->bind = (struct pv_bind){ .name = end->name, .mode = 0600, .backlog = 8, .cookie = 1 };
	end->connect = (struct pv_connect){ .name = end->name, .segment = &end->segment,
					    .cookie = 2, .timeout_ns = LIMIT };
	err = ops->open(&end->pv);
	return err ? err : ops->segment_create(end->pv, 4096, false, &end->segment);
}

static int end_connect(struct end *end)
{
	return ops->connect(end->pv, &end->connect, &end->session, &end->peer);
}

static void server_open(struct end *end, const char *what)
{
	char name[SHMIPC_NAME_MAX + 1];

	snprintf(name, sizeof(name), "test.%s.%d", what, getpid());
	assert_int_equal(end_open(end, name), 0);
}

static int try_accept(struct end *end)
{
	return ops->accept(end->pv, end->listener, &end->segment, 3, &end->session, &end->peer);
}

static int wait_events(struct end *end, struct shmipc_ready *events, unsigned int max,
		       int64_t timeout)
{
	struct pv_sync sync = { .events = events, .max_events = max, .wait = true,
				.timeout_ns = timeout };

	return ops->sync(end->pv, &sync);
}

static int end_accept(struct end *end)
{
	struct shmipc_ready event;
	int err;

	while ((err = try_accept(end)) == -EAGAIN)
		if (wait_events(end, &event, 1, LIMIT) < 1)
			return -ETIMEDOUT;
	return err;
}

/* The causes of the session, until one of @causes is among them. */
static uint32_t await_cause(struct end *end, uint32_t causes)
{
	struct shmipc_ready event;
	uint32_t seen = 0;

	/* Being stopped and continued ends a wait as a signal does, with no event: then again. */
	for (int i = 0; i < 3 && !(seen & causes); i++) {
		if (wait_events(end, &event, 1, LIMIT) < 1)
			continue;
		i = -1;
		if (event.handle == end->session)
			seen |= event.causes;
	}
	return seen;
}

static void end_ring(struct end *end)
{
	struct shmipc_notify notify = { end->session, BELL_DATA };
	struct pv_sync sync = { .notify = &notify, .nr_notify = 1 };

	ops->sync(end->pv, &sync);
}

static void end_close(struct end *end)
{
	ops->close(end->pv, false);
}

/* ---- children ------------------------------------------------------------------ */

struct child {
	pid_t pid;
	int to, from;		/* pipes */
};

/* In the child @run's result is the exit code; @to and @from are its stdin and stdout. */
static struct child spawn(int (*run)(const char *name), const char *name, uid_t uid)
{
	struct child child;
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	fflush(NULL);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (!child.pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]);
		close(in[1]);
		close(out[0]);
		close(out[1]);
		if (uid && (setgroups(0, NULL) || setgid(uid) || setuid(uid)))
			_exit(99);
		_exit(run(name) & 0xff);
	}
	close(in[0]);
	close(out[1]);
	child.to = in[1];
	child.from = out[0];
	return child;
}

static void child_said(struct child *child, char what)
{
	struct pollfd fd = { .fd = child->from, .events = POLLIN };
	char byte = 0;

	assert_int_equal(poll(&fd, 1, 30000), 1);
	assert_int_equal(read(child->from, &byte, 1), 1);
	assert_int_equal(byte, what);
}

static int child_end(struct child *child)
{
	int status;

	close(child->to);
	close(child->from);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void child_kill(struct child *child)
{
	kill(child->pid, SIGKILL);
	assert_int_equal(child_end(child), 1000 + SIGKILL);
}

static void say(char what)
{
	ssize_t done = write(1, &what, 1);
	(void)done;
}

/* Until the parent closes or says something. */
static void listen_up(void)
{
	char byte;
	ssize_t done = read(0, &byte, 1);
	(void)done;
}

/* ---- clients that run in a child ------------------------------------------------- */

static int connect_only(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	return err ? -err : -end_connect(&end);
}

static int connect_briefly(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	end.connect.timeout_ns = 1000 * MS;
	return err ? -err : -end_connect(&end);
}

static int connect_and_stay(const char *name)
{
	int err = connect_only(name);

	if (err)
		return err;
	say('c');
	listen_up();
	return 0;
}

/* A child of its own outlives it; one that was made without the fork handlers keeps its sockets. */
static int connect_and_have_child(const char *name, pid_t (*make)(void))
{
	int err = connect_only(name);

	if (err)
		return err;
	if (!make()) {
		listen_up();
		_exit(0);
	}
	say('c');
	pause();
	return 0;
}

static int connect_and_fork(const char *name)
{
	return connect_and_have_child(name, fork);
}

static int connect_and_clone(const char *name)
{
	return connect_and_have_child(name, _Fork);
}

/* So many grants before the end that they are not all taken off the socket at once. */
static int connect_grant_close(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	err = err ? err : end_connect(&end);
	for (uint32_t slot = 1; !err && slot <= MANY_GRANTS; slot++)
		err = ops->segment_grant(end.pv, end.session, &end.segment, slot);
	if (err)
		return -err;
	end_close(&end);
	return 0;
}

static int connect_and_close(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	err = err ? err : end_connect(&end);
	if (err)
		return -err;
	end_close(&end);
	return 0;
}

/* Answers each bell with one. */
static int echo(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	err = err ? err : end_connect(&end);
	if (err)
		return -err;
	while (await_cause(&end, BELL_DATA | SHMIPC_CAUSE_PEER_CLOSED) == (BELL_DATA | BELL_SPACE))
		end_ring(&end);
	return 0;
}

static int serve(const char *name, bool with_child)
{
	struct end end;
	int err = end_open(&end, name);

	err = err ? err : ops->bind(end.pv, &end.bind, &end.listener);
	if (err)
		return -err;
	if (with_child && !fork()) {
		listen_up();
		_exit(0);
	}
	say('b');
	pause();
	return 0;
}

static int serve_alone(const char *name)
{
	return serve(name, false);
}

/* Has taken the connection but does not accept it; a child keeps the socket. */
static int serve_and_clone(const char *name)
{
	struct shmipc_ready event;
	struct end end;
	int err = end_open(&end, name);

	err = err ? err : ops->bind(end.pv, &end.bind, &end.listener);
	if (err)
		return -err;
	say('b');
	if (wait_events(&end, &event, 1, LIMIT) != 1)
		return 1;
	if (!_Fork()) {
		listen_up();
		_exit(0);
	}
	say('c');
	pause();
	return 0;
}

static int serve_and_fork(const char *name)
{
	return serve(name, true);
}

/* ---- death ----------------------------------------------------------------------- */

static void accept_from(struct end *server, struct child *child, int (*run)(const char *),
			const char *what)
{
	server_open(server, what);
	assert_int_equal(ops->bind(server->pv, &server->bind, &server->listener), 0);
	*child = spawn(run, server->name, 0);
	assert_int_equal(end_accept(server), 0);
	assert_int_equal(server->peer.pid, child->pid);
}

static void test_killed(void **state)
{
	struct end server;
	struct child child;

	(void)state;
	accept_from(&server, &child, connect_and_stay, "killed");
	child_said(&child, 'c');
	child_kill(&child);
	assert_int_equal(await_cause(&server, SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_PEER_CLOSED),
			 SHMIPC_CAUSE_PEER_DIED);
	end_close(&server);
}

static void killed_with_child(int (*run)(const char *))
{
	struct end server;
	struct child child;

	accept_from(&server, &child, run, "killed-with-child");
	child_said(&child, 'c');
	kill(child.pid, SIGKILL);
	assert_int_equal(await_cause(&server, SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_PEER_CLOSED),
			 SHMIPC_CAUSE_PEER_DIED);
	child_end(&child);
	end_close(&server);
}

static void test_killed_with_child(void **state)
{
	(void)state;
	killed_with_child(connect_and_fork);
	killed_with_child(connect_and_clone);
}

/* An orderly end that is followed by the process's is not a death. */
static void test_closed_then_gone(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct shmipc_ready event;
		struct end server;
		struct child child;

		accept_from(&server, &child, connect_and_close, "closed");
		assert_int_equal(child_end(&child), 0);
		assert_int_equal(await_cause(&server, SHMIPC_CAUSE_PEER_DIED |
					     SHMIPC_CAUSE_PEER_CLOSED), SHMIPC_CAUSE_PEER_CLOSED);
		assert_int_equal(wait_events(&server, &event, 1, 5 * MS), 0);
		end_close(&server);
	}
}

static void test_grants_then_closed(void **state)
{
	struct pv_mapping mapping;
	struct end server;
	struct child child;

	(void)state;
	accept_from(&server, &child, connect_grant_close, "grants-closed");
	assert_int_equal(child_end(&child), 0);
	assert_int_equal(await_cause(&server, SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_PEER_CLOSED),
			 SHMIPC_CAUSE_PEER_CLOSED);
	for (uint32_t slot = 0; slot <= MANY_GRANTS; slot++) {
		assert_int_equal(ops->segment_map(server.pv, server.session, slot, &mapping), 0);
		ops->segment_unmap(server.pv, &mapping);
	}
	end_close(&server);
}

static void test_name_is_free(void **state)
{
	struct end next;
	struct child child;

	(void)state;
	server_open(&next, "free");
	child = spawn(serve_and_fork, next.name, 0);
	child_said(&child, 'b');
	assert_int_equal(ops->bind(next.pv, &next.bind, &next.listener), -EADDRINUSE);
	kill(child.pid, SIGKILL);
	assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
	assert_int_equal(ops->bind(next.pv, &next.bind, &next.listener), 0);
	close(child.to);
	close(child.from);
	end_close(&next);
}

static void *kill_soon(void *arg)
{
	struct child *child = arg;
	struct pollfd fd = { .fd = child->from, .events = POLLIN };

	/* Sooner if it says that it has the connection. */
	poll(&fd, 1, 50);
	kill(child->pid, SIGKILL);
	return NULL;
}

static void killed_while_waiting(int (*run)(const char *), const char *what)
{
	struct end client;
	struct child child;
	pthread_t thread;

	server_open(&client, what);
	child = spawn(run, client.name, 0);
	child_said(&child, 'b');
	client.connect.timeout_ns = 5000 * MS;
	pthread_create(&thread, NULL, kill_soon, &child);
	assert_int_equal(end_connect(&client), -ECONNREFUSED);
	pthread_join(thread, NULL);
	if (run != serve_and_clone) {
		child_end(&child);
		assert_int_equal(end_connect(&client), -ENOENT);
	} else {
		/* What a raw clone keeps: the name, for as long as it lives. */
		assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
		client.connect.timeout_ns = 20 * MS;
		assert_int_not_equal(end_connect(&client), -ENOENT);
		close(child.to);
		close(child.from);
	}
	end_close(&client);
}

static void test_server_killed(void **state)
{
	(void)state;
	killed_while_waiting(serve_alone, "server-killed");
	killed_while_waiting(serve_and_fork, "server-killed-with-child");
	killed_while_waiting(serve_and_clone, "server-killed-with-clone");
}

/* ---- forks ------------------------------------------------------------------------ */

/* A child that frees its copy takes nothing away from its parent. */
static void test_child_closes(void **state)
{
	struct end server;
	struct child child;
	int status;
	pid_t pid;

	(void)state;
	accept_from(&server, &child, echo, "child-closes");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		int fd = open("/dev/null", O_RDONLY);

		/* The number of a socket closed at the fork may be another file's by now. */
		ops->close(server.pv, true);
		_exit(fcntl(fd, F_GETFD) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 10; i++) {
		end_ring(&server);
		assert_int_equal(await_cause(&server, ~0U), BELL_DATA | BELL_SPACE);
	}
	/* Its listener serves on, too. */
	ops->drop(server.pv, server.session, 0);
	assert_int_equal(child_end(&child), 0);
	child = spawn(connect_only, server.name, 0);
	assert_int_equal(end_accept(&server), 0);
	assert_int_equal(child_end(&child), 0);
	end_close(&server);
}

static int touch(volatile char *byte)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		*byte = 1;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? 0 : WTERMSIG(status);
}

static void test_not_forked(void **state)
{
	char *ordinary = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct end end;

	(void)state;
	server_open(&end, "not-forked");
	assert_int_equal(touch(ordinary), 0);
	assert_int_not_equal(touch(end.segment.addr), 0);
	end_close(&end);
	munmap(ordinary, 4096);
}

static void on_alarm(int signal)
{
	(void)signal;
}

static void test_signal(void **state)
{
	struct itimerval soon = { .it_value = { .tv_usec = 30000 } };
	struct shmipc_ready event;
	struct end end;

	(void)state;
	server_open(&end, "signal");
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(wait_events(&end, &event, 1, LIMIT), 0);
	signal(SIGALRM, SIG_DFL);
	end_close(&end);
}

/* ---- memory ----------------------------------------------------------------------- */

/* A descriptor of a memfd that this process did not make: the peer's segment. */
static int find_received(void)
{
	for (int fd = 3; fd < 256; fd++) {
		char *p = fcntl(fd, F_GET_SEALS) > 0 ?
			  mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
		bool received = p != MAP_FAILED && !strcmp(p, "mine");

		if (p != MAP_FAILED)
			munmap(p, 4096);
		if (received)
			return fd;
	}
	return -1;
}

/* Returns what is wrong; runs as another user. */
static int attack(const char *name)
{
	struct end end;
	int err = end_open(&end, name), fd;
	struct pv_mapping mapping;
	char path[64];

	err = err ? err : end_connect(&end);
	if (err)
		return -err;
	fd = find_received();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0)
		return 119;
	if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
		return 118;
	/* Within one uid the mode does not keep anybody out, nor is it meant to. */
	if (geteuid() != end.peer.uid && open(path, O_RDWR) >= 0)
		return 117;
	if (ops->segment_map(end.pv, end.session, 0, &mapping))
		return 120;
	if (strcmp(mapping.addr, "mine"))
		return 121;
	if (!mprotect((void *)(uintptr_t)mapping.addr, mapping.len, PROT_READ | PROT_WRITE))
		return 122;
	return 0;
}

static void test_read_only(void **state)
{
	struct end server;
	struct child child;

	(void)state;
	server_open(&server, "read-only");
	strcpy(server.segment.addr, "mine");
	/* The same calls on memory of one's own work. */
	assert_int_equal(mprotect(server.segment.addr, 4096, PROT_READ), 0);
	assert_int_equal(mprotect(server.segment.addr, 4096, PROT_READ | PROT_WRITE), 0);
	server.bind.mode = 0666;
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	child = spawn(attack, server.name, geteuid() ? 0 : OTHER);
	assert_int_equal(end_accept(&server), 0);
	assert_int_equal(child_end(&child), 0);
	end_close(&server);
}

/* ---- other users -------------------------------------------------------------------- */

static void need_root(void)
{
	if (!geteuid())
		return;
	print_message("skip: only root can become another user\n");
	skip();
}

static void *accept_all(void *arg)
{
	struct end *end = arg;
	struct shmipc_ready event[4];

	while (wait_events(end, event, 4, LIMIT) > 0)
		for (;;) {
			int err = try_accept(end);

			if (err == -EAGAIN)
				break;
			if (err)
				return NULL;
			/* The test's own last connection. */
			if (end->peer.pid == (uint32_t)getpid())
				return NULL;
		}
	return NULL;
}

static int result_as(struct end *server, uid_t uid)
{
	struct child child = spawn(connect_briefly, server->name, uid);

	return child_end(&child);
}

static int serve_mode(const char *what, uint32_t mode, uid_t uid)
{
	struct end server, last;
	pthread_t thread;
	int result;

	server_open(&server, what);
	server.bind.mode = mode;
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	assert_int_equal(pthread_create(&thread, NULL, accept_all, &server), 0);
	result = result_as(&server, uid);
	assert_int_equal(end_open(&last, server.name), 0);
	assert_int_equal(end_connect(&last), 0);
	pthread_join(thread, NULL);
	end_close(&last);
	end_close(&server);
	return result;
}

static void test_mode(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(serve_mode("mode-other", 0602, OTHER), 0);
	assert_int_equal(serve_mode("mode-none", 0600, OTHER), EACCES);
	assert_int_equal(serve_mode("mode-read", 0664, OTHER), EACCES);
	assert_int_equal(serve_mode("mode-self", 0600, 0), 0);
}

/* Says nothing, and what it is told. */
static int knock_silently(const char *name)
{
	int sock = embedded_dial(name), fds[LINK_FDS];
	struct pollfd fd = { .fd = sock, .events = POLLIN };
	struct link_message message;

	if (sock < 0)
		return 99;
	say('k');
	if (poll(&fd, 1, 30000) != 1 || link_receive(sock, &message, fds) != 1)
		return 98;
	return message.type == LINK_REFUSE ? (int)message.value : 97;
}

/* Who may not connect is told so before it is listened to: what it could send would be open here. */
static void test_unheard(void **state)
{
	struct child child;
	struct end server;

	(void)state;
	need_root();
	server_open(&server, "unheard");
	server.bind.mode = 0600;
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	child = spawn(knock_silently, server.name, OTHER);
	child_said(&child, 'k');
	assert_int_equal(try_accept(&server), -EAGAIN);
	assert_int_equal(child_end(&child), EACCES);
	end_close(&server);
}

/* Between users bells are datagrams: rung both ways, and many without loss of the last. */
static void test_foreign_bells(void **state)
{
	struct end server;
	struct child child;

	(void)state;
	need_root();
	server_open(&server, "foreign");
	server.bind.mode = 0666;
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	child = spawn(echo, server.name, OTHER);
	assert_int_equal(end_accept(&server), 0);
	assert_int_equal(server.peer.uid, OTHER);
	for (int i = 0; i < 200; i++) {
		end_ring(&server);
		assert_int_equal(await_cause(&server, ~0U), BELL_DATA | BELL_SPACE);
	}
	/* More than its queue holds, while it may be asleep. */
	kill(child.pid, SIGSTOP);
	for (int i = 0; i < 2000; i++)
		end_ring(&server);
	kill(child.pid, SIGCONT);
	assert_int_equal(await_cause(&server, ~0U), BELL_DATA | BELL_SPACE);
	ops->drop(server.pv, server.session, 0);
	assert_int_equal(child_end(&child), 0);
	end_close(&server);
}

/* Listens as root, serves as a user. */
static int serve_dropped(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	end.bind.mode = 0666;
	err = err ? err : ops->bind(end.pv, &end.bind, &end.listener);
	if (err || setgroups(0, NULL) || setgid(OTHER) || setuid(OTHER))
		return 99;
	say('b');
	err = end_accept(&end);
	if (err)
		return -err;
	if (end.peer.uid && end.peer.uid != OTHER)
		return 98;
	for (int i = 0; i < 20; i++) {
		end_ring(&end);
		if (await_cause(&end, ~0U) != (BELL_DATA | BELL_SPACE))
			return 97;
	}
	end_close(&end);
	return 0;
}

/*
 * The socket's owner stays who listened: to a client of the user that the server became it is a
 * stranger, while the server sees its own user; and root takes it for root. They ring each other all the same.
 */
static void test_dropped(void **state)
{
	static const uid_t clients[] = { OTHER, 0 };
	char name[SHMIPC_NAME_MAX + 1];

	(void)state;
	need_root();
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
		struct child server, client;

		snprintf(name, sizeof(name), "test.dropped.%d.%zu", getpid(), i);
		server = spawn(serve_dropped, name, 0);
		child_said(&server, 'b');
		client = spawn(echo, name, clients[i]);
		assert_int_equal(child_end(&client), 0);
		assert_int_equal(child_end(&server), 0);
	}
}

static int bind_only(const char *name)
{
	struct end end;
	int err = end_open(&end, name);

	return err ? -err : -ops->bind(end.pv, &end.bind, &end.listener);
}

static void test_reserved(void **state)
{
	char name[SHMIPC_NAME_MAX + 1];
	struct child child;
	struct end end;

	(void)state;
	snprintf(name, sizeof(name), "u%u/test.%d", geteuid(), getpid());
	assert_int_equal(end_open(&end, name), 0);
	assert_int_equal(ops->bind(end.pv, &end.bind, &end.listener), 0);
	snprintf(end.name, sizeof(end.name), "u%u/test.%d", geteuid() + 1, getpid());
	assert_int_equal(ops->bind(end.pv, &end.bind, &end.listener), -EACCES);
	end_close(&end);
	need_root();
	child = spawn(bind_only, name, OTHER);
	assert_int_equal(child_end(&child), EACCES);
	snprintf(name, sizeof(name), "u%u/test.%d", OTHER, getpid());
	child = spawn(bind_only, name, OTHER);
	assert_int_equal(child_end(&child), 0);
}

/* ---- limits -------------------------------------------------------------------------- */

static void *connect_later(void *arg)
{
	struct end *client = arg;

	client->listener = (uint32_t)-end_connect(client);
	return NULL;
}

static void test_per_uid(void **state)
{
	struct end server, client[3];
	pthread_t thread;

	(void)state;
	server_open(&server, "per-uid");
	server.bind.max_per_uid = 2;
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	for (int i = 0; i < 3; i++) {
		struct shmipc_ready event;
		assert_int_equal(end_open(&client[i], server.name), 0);
		pthread_create(&thread, NULL, connect_later, &client[i]);
		if (i < 2) {
			assert_int_equal(end_accept(&server), 0);
		} else {
			assert_int_equal(wait_events(&server, &event, 1, 200 * MS), 0);
			assert_int_equal(try_accept(&server), -EAGAIN);
		}
		pthread_join(thread, NULL);
		assert_int_equal(client[i].listener, i < 2 ? 0 : EDQUOT);
	}
	/* One leaves, and its place is free. */
	ops->drop(server.pv, server.session, 0);
	pthread_create(&thread, NULL, connect_later, &client[2]);
	assert_int_equal(end_accept(&server), 0);
	pthread_join(thread, NULL);
	assert_int_equal(client[2].listener, 0);
	for (int i = 0; i < 3; i++)
		end_close(&client[i]);
	end_close(&server);
}

static void test_other_provider(void **state)
{
	struct end end;
	int fd;

	(void)state;
	server_open(&end, "other-provider");
	assert_int_equal(end_connect(&end), -ENOENT);
	fd = name_mark(NAME_KERNEL, end.name);
	assert_true(fd >= 0);
	assert_int_equal(end_connect(&end), -EPROTONOSUPPORT);
	assert_non_null(strstr(shmipc_last_error(), "kernel provider"));
	assert_int_equal(ops->bind(end.pv, &end.bind, &end.listener), -EADDRINUSE);
	close(fd);
	assert_int_equal(ops->bind(end.pv, &end.bind, &end.listener), 0);
	assert_true(name_marked(NAME_EMBEDDED, end.name));
	ops->drop(end.pv, end.listener, 0);
	assert_false(name_marked(NAME_EMBEDDED, end.name));
	end_close(&end);
}

static unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Every way to end gives all descriptors back; all of them are close-on-exec. */
static void test_descriptors(void **state)
{
	unsigned int before = open_descriptors();
	struct end server, client;
	pthread_t thread;

	(void)state;
	server_open(&server, "descriptors");
	assert_int_equal(end_open(&client, server.name), 0);
	assert_int_equal(ops->bind(server.pv, &server.bind, &server.listener), 0);
	pthread_create(&thread, NULL, connect_later, &client);
	assert_int_equal(end_accept(&server), 0);
	pthread_join(thread, NULL);
	assert_true(open_descriptors() > before + 10);
	for (int fd = 3; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) == 0 && fcntl(fd, F_GET_SEALS) > 0)
			fail_msg("descriptor %d would survive an exec", fd);
	client.connect.timeout_ns = 1 * MS;
	assert_int_equal(end_connect(&client), -ETIMEDOUT);
	end_close(&client);
	end_close(&server);
	assert_int_equal(open_descriptors(), before);
}

/* What segment_create answers while @resource has the limit @max. */
static int create_limited(struct end *end, int resource, rlim_t max, size_t len)
{
	struct rlimit before, less;
	struct pv_segment segment;
	int err;

	assert_int_equal(getrlimit(resource, &before), 0);
	less = (struct rlimit){ max, before.rlim_max };
	assert_int_equal(setrlimit(resource, &less), 0);
	err = ops->segment_create(end->pv, len, false, &segment);
	assert_int_equal(setrlimit(resource, &before), 0);
	if (!err)
		ops->segment_destroy(end->pv, &segment);
	return err;
}

/* A segment is refused at each of its steps in turn, and leaves nothing behind. */
static void test_no_segment(void **state)
{
	unsigned int before;
	struct end server;
	int first, second;

	(void)state;
	server_open(&server, "no-segment");
	before = open_descriptors();
	/* The two descriptors that a segment takes. */
	first = dup(0);
	second = dup(0);
	assert_true(first >= 0 && second > first);
	close(first), close(second);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(create_limited(&server, RLIMIT_NOFILE, first, 4096), -EMFILE);
	assert_int_equal(create_limited(&server, RLIMIT_NOFILE, second, 4096), -EMFILE);
	assert_int_equal(create_limited(&server, RLIMIT_NOFILE, second + 1, 4096), 0);
	assert_int_equal(create_limited(&server, RLIMIT_FSIZE, 4096, 8192), -EFBIG);
	assert_int_equal(create_limited(&server, RLIMIT_FSIZE, 8192, 8192), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(open_descriptors(), before);
	end_close(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_killed_with_child),
		cmocka_unit_test(test_closed_then_gone),
		cmocka_unit_test(test_grants_then_closed),
		cmocka_unit_test(test_name_is_free),
		cmocka_unit_test(test_server_killed),
		cmocka_unit_test(test_child_closes),
		cmocka_unit_test(test_not_forked),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_unheard),
		cmocka_unit_test(test_foreign_bells),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_per_uid),
		cmocka_unit_test(test_other_provider),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_no_segment),
	};

	return cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
}
