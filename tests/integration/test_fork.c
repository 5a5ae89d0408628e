// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A fork in the middle of traffic: the child can do nothing with what it inherited, and no harm. */
#include "pair.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include "session.h"

static void echo_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	char buf[4000];
	ssize_t n;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
		send_all(st, buf, n);
	check_eq(n, 0);
	shmipc_stream_close(st);
	pair_hear(p);
}

static void round_trips(struct shmipc_stream *st, int n)
{
	char out[1500], in[1500];

	for (int i = 0; i < n; i++) {
		size_t len = 1 + i * 7 % sizeof(out);

		fill(out, len, 9, i);
		send_all(st, out, len);
		read_all(st, in, len);
		check(same(in, len, 9, i));
	}
}

/* Its own pair, inside of the forked child. */
static int own_endpoint(void)
{
	struct shmipc_listener *listener;
	struct shmipc_endpoint *ep;
	char name[64];

	snprintf(name, sizeof(name), "test.forked.%d", getpid());
	if (shmipc_open(&ep, 0) || shmipc_listen(ep, name, NULL, &listener))
		return 40;
	shmipc_listener_close(listener);
	shmipc_close(ep);
	return 0;
}

/* Returns the number of the first line that is not as it should be. */
static int in_fork(struct pair *p, struct shmipc_stream *st, struct shmipc_buf *buf)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_stream *other;
	struct shmipc_message m = { 0 };
	struct shmipc_peer_info peer;
	struct shmipc_event event;
	struct shmipc_stats stats;
	struct shmipc_buf *none;
	void *data;
	char c;

	const int answers[] = {
		shmipc_wait(p->ep, &event, 1, 0),
		shmipc_get_stats(p->ep, &stats, sizeof(stats)),
		shmipc_fd(p->ep),
		shmipc_listen(p->ep, "other", NULL, &listener),
		shmipc_accept(p->listener, &session, 0),
		shmipc_connect(p->ep, p->name, NULL, &session, MS),
		shmipc_stream_open(p->session, &other),
		shmipc_stream_accept(p->session, &other, 0),
		shmipc_reserve(st, 10, &data, 0),
		shmipc_reserve(st, 10000, &data, 0),
		shmipc_commit(st, 10, 0),
		shmipc_cancel(st),
		shmipc_write(st, "x", 1, 0, 0),
		shmipc_peek(st, &m, 0),
		shmipc_return(st, &m),
		shmipc_read(st, &c, 1, 0),
		shmipc_flush(st),
		shmipc_finish(st),
		shmipc_reset(st, 1),
		shmipc_session_error(p->session),
		shmipc_session_peer(p->session, &peer),
		shmipc_stream_pause(st, 1),
		shmipc_buf_new(p->ep, 1, &none),
		shmipc_buf_send(st, buf, 1, 0, 0),
		shmipc_buf_give(st, buf, 1, 0, 0),
		shmipc_buf_wait(buf, 0),
		shmipc_buf_freeze(buf),
		shmipc_buf_take(st, &m, &none),
	};

	for (unsigned int i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (answers[i] != -EPERM)
			return i + 1;
	/* These have no error to answer; they read what never changes, or do nothing. */
	if (!shmipc_provider(p->ep) || shmipc_stream_session(st) != p->session ||
	    shmipc_stream_reset_code(st))
		return 30;
	shmipc_listener_set_user(p->listener, &c);
	shmipc_session_set_user(p->session, &c);
	shmipc_stream_set_user(st, &c);
	if (p->listener->source.user || p->session->source.user || st->source.user)
		return 31;
	if (!shmipc_buf_data(buf) || shmipc_buf_size(buf) < 100)
		return 32;
	shmipc_buf_free(buf);
	shmipc_stream_close(st);
	shmipc_session_close(p->session);
	shmipc_listener_close(p->listener);
	shmipc_close(p->ep);
	return own_endpoint();
}

/*
 * A fork while other threads are inside of the library: the locks that they hold are held for ever
 * in the child.
 */
static pid_t fork_locked(struct pair *p)
{
	struct lock *locks[] = {
		&p->ep->poll_lock, &p->ep->buf_lock, &p->session->rx.map_lock,
		&p->session->rx.lock, &p->session->tx.lock, &p->ep->lock,
	};
	pid_t pid;

	for (unsigned int i = 0; i < sizeof(locks) / sizeof(locks[0]); i++)
		lock(locks[i]);
	pid = fork();
	for (unsigned int i = 0; pid && i < sizeof(locks) / sizeof(locks[0]); i++)
		unlock(locks[i]);
	/* What waits for one of them never ends by itself. */
	if (!pid)
		alarm(LIMIT / 1000000000);
	return pid;
}

static void test_fork(void **state)
{
	struct shmipc_peer_info peer;
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;
	int status;
	pid_t pid;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_buf_new(p.ep, 100, &buf), 0);
	round_trips(st, 100);
	for (int i = 0; i < 5; i++) {
		pid = i % 2 ? fork_locked(&p) : fork();
		check(pid >= 0);
		if (!pid)
			_exit(in_fork(&p, st, buf));
		round_trips(st, 300);
		check_eq(waitpid(pid, &status, 0), pid);
		check(WIFEXITED(status));
		check_eq(WEXITSTATUS(status), 0);
	}
	round_trips(st, 100);
	/* Here the same calls do what they say. */
	check_eq(shmipc_session_error(p.session), 0);
	check_eq(shmipc_session_peer(p.session, &peer), 0);
	check_eq(peer.pid, p.child);
	check_eq(shmipc_stream_pause(st, 0), 0);
	shmipc_stream_set_user(st, &p);
	check(st->source.user == &p);
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_read(st, (char[1]){ 0 }, 1, LIMIT), 0);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- exec ------------------------------------------------------------------------ */

static void exec_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "before", 6, 0, LIMIT), 6);
	/* The wire stays, to tell that the new program runs. */
	check_eq(fcntl(p->wire, F_SETFD, 0), 0);
	check_eq(dup2(p->wire, 0), 0);
	execl("/bin/cat", "cat", (char *)NULL);
	check(!"exec");
}

/* The process lives, the program that had the endpoint does not. */
static void test_exec(void **state)
{
	struct shmipc_stream *st;
	struct pair p;
	char buf[8];

	(void)state;
	pair_start(&p, NULL, 0, exec_child, NULL);
	check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 6);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), -EPIPE);
	print_message("session_error after exec: %s\n",
		      shmipc_strerror(shmipc_session_error(p.session)));
	check(shmipc_session_error(p.session) == -EOWNERDEAD ||
	      shmipc_session_error(p.session) == -EPIPE);
	check_eq(kill(p.child, 0), 0);
	pair_kill(&p);
	pair_close(&p);
}

/* ---- a child with its parent's pid -------------------------------------------------- */

/* As the first process of a PID namespace below. Returns what it found, or 77. */
static int below(int (*run)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWUSER | CLONE_NEWPID))
		return 77;
	pid = fork();
	if (!pid)
		_exit(getpid() == 1 ? run(arg) : 10);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 11;
	return WEXITSTATUS(status);
}

static int same_pid(void *inherited)
{
	struct shmipc_endpoint *own;
	struct shmipc_event event;

	if (shmipc_fd(inherited) != -EPERM)
		return 12;
	if (shmipc_open(&own, 0) || shmipc_fd(own) < 0 || shmipc_wait(own, &event, 1, 0))
		return 13;
	/* Its own mark is written now, and is none that it inherited. */
	if (shmipc_fd(inherited) != -EPERM || shmipc_wait(inherited, &event, 1, 0) != -EPERM)
		return 14;
	shmipc_close(own);
	return 0;
}

static int first_process(void *arg)
{
	struct shmipc_endpoint *ep;
	int found;

	(void)arg;
	if (shmipc_open(&ep, 0))
		return 15;
	found = below(same_pid, ep);
	if (!found && shmipc_fd(ep) < 0)
		found = 16;
	shmipc_close(ep);
	return found;
}

static void test_same_pid(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	check(pid >= 0);
	if (!pid)
		_exit(below(first_process, NULL));
	check_eq(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("skip: no PID namespaces here\n");
		skip();
	}
	check_eq(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { pair_test(test_fork), pair_test(test_exec),
					     pair_test(test_same_pid) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
