// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Arguments that can't be, and limits that are reached: the errno, and that nothing is half made. After
 * each refusal the same objects do what they are for.
 */
#include "pair.h"

#include <sys/resource.h>

/* Answers each message until the end of the stream, stream by stream. */
static void echo_child(struct pair *p, void *arg)
{
	static char buf[1 << 20];
	struct shmipc_stream *st;
	ssize_t n;

	(void)arg;
	while (!shmipc_stream_accept(p->session, &st, LIMIT)) {
		while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
			send_all(st, buf, n);
		shmipc_stream_close(st);
	}
}

static struct shmipc_stream *opened(struct pair *p)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_open(p->session, &st), 0);
	return st;
}

/* That one more may wait to be accepted is news, until somebody looked. */
static void nobody_else(struct pair *p)
{
	struct shmipc_session *session;

	check_eq(shmipc_accept(p->listener, &session, 0), -EAGAIN);
}

/* What was refused left it as it was. */
static void works(struct shmipc_stream *st)
{
	static uint64_t key;
	char out[300], in[300];

	fill(out, sizeof(out), ++key, 0);
	send_all(st, out, sizeof(out));
	read_all(st, in, sizeof(in));
	check(same(in, sizeof(in), key, 0));
}

/* ---- arguments ------------------------------------------------------------------ */

static void test_lengths(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 65536, .max_memory = 1 << 17 };
	struct shmipc_stream *st;
	struct pair p;
	char buf[8];
	void *data;

	(void)state;
	pair_start(&p, &opt, 0, echo_child, NULL);
	st = opened(&p);
	works(st);
	check_eq(shmipc_write(st, buf, 0, 0, LIMIT), -EINVAL);
	check_eq(shmipc_write(st, buf, SIZE_MAX, 0, LIMIT), -EINVAL);
	check_eq(shmipc_write(st, buf, (size_t)1 << 63, 0, 0), -EINVAL);
	check_eq(shmipc_read(st, buf, 0, LIMIT), -EINVAL);
	works(st);
	check_eq(shmipc_reserve(st, 0, &data, LIMIT), -EINVAL);
	check_eq(shmipc_reserve(st, SIZE_MAX, &data, LIMIT), -EMSGSIZE);
	check_eq(shmipc_reserve(st, (1 << 17) + 1, &data, LIMIT), -EMSGSIZE);
	check(strstr(shmipc_last_error(), "max_memory") != NULL);
	works(st);
	/* All of it is allowed, and so is a read with more room than there is memory. */
	check_eq(shmipc_reserve(st, 1 << 17, &data, LIMIT), 0);
	memcpy(data, "whole", 5);
	check_eq(shmipc_commit(st, 5, 0), 0);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 5);
	check(!memcmp(buf, "whole", 5));
	shmipc_stream_close(st);
	pair_end(&p);
}

static void test_flags(void **state)
{
	static const unsigned int bad[] = { 4, 1U << 31, UINT32_MAX, SHMIPC_MORE | 8 };
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct pair p;
	void *data;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	st = opened(&p);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_eq(shmipc_open(&ep, bad[i]), -EINVAL);
		check_eq(shmipc_write(st, "x", 1, bad[i], LIMIT), -EINVAL);
		check_eq(shmipc_reserve(st, 100, &data, LIMIT), 0);
		check_eq(shmipc_commit(st, 100, bad[i]), -EINVAL);
		/* The reservation is still there. */
		memset(data, 'x', 100);
		check_eq(shmipc_commit(st, 1, 0), 0);
		check_eq(shmipc_read(st, &(char){ 0 }, 1, LIMIT), 1);
	}
	works(st);
	shmipc_stream_close(st);
	pair_end(&p);
}

static void test_reservation(void **state)
{
	struct shmipc_stream *st;
	struct pair p;
	void *data, *second;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	st = opened(&p);
	check_eq(shmipc_commit(st, 1, 0), -EINVAL);
	check_eq(shmipc_cancel(st), -EINVAL);
	check_eq(shmipc_reserve(st, 50, &data, LIMIT), 0);
	check_eq(shmipc_reserve(st, 50, &second, LIMIT), -EBUSY);
	check_eq(shmipc_write(st, "x", 1, 0, LIMIT), -EBUSY);
	check_eq(shmipc_finish(st), -EBUSY);
	check_eq(shmipc_commit(st, 0, 0), -EINVAL);
	check_eq(shmipc_commit(st, 51, 0), -EINVAL);
	check_eq(shmipc_commit(st, SIZE_MAX, 0), -EINVAL);
	check_eq(shmipc_cancel(st), 0);
	check_eq(shmipc_cancel(st), -EINVAL);
	check_eq(shmipc_commit(st, 50, 0), -EINVAL);
	works(st);
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_finish(st), -ESHUTDOWN);
	check_eq(shmipc_reserve(st, 1, &data, LIMIT), -ESHUTDOWN);
	shmipc_stream_close(st);
	pair_end(&p);
}

static void test_message(void **state)
{
	struct shmipc_message m, again;
	struct shmipc_stream *st, *other;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	st = opened(&p);
	other = opened(&p);
	send_all(st, "held", 4);
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	again = m;
	/* Not by another stream, and not twice. */
	check_eq(shmipc_return(other, &again), -EINVAL);
	check(!memcmp(m.spans[0].data, "held", 4));
	again = m;
	check_eq(shmipc_return(st, &m), 0);
	check_eq(shmipc_return(st, &again), -EINVAL);
	works(st);
	shmipc_stream_close(st);
	works(other);
	shmipc_stream_close(other);
	pair_end(&p);
}

static void test_wait(void **state)
{
	struct shmipc_event events[2];
	struct shmipc_session *session;
	struct shmipc_stream *st;
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	nobody_else(&p);
	st = opened(&p);
	check_eq(shmipc_wait(p.ep, events, 0, LIMIT), -EINVAL);
	check_eq(shmipc_wait(p.ep, events, 2, 0), 0);
	send_all(st, "x", 1);
	check_eq(shmipc_wait(p.ep, events, 0, LIMIT), -EINVAL);
	check_eq(shmipc_wait(p.ep, events, 2, LIMIT), 1);
	check_eq(events[0].type, SHMIPC_EV_READ);
	check(events[0].object == st);
	check_eq(shmipc_read(st, &c, 1, LIMIT), 1);
	/* The other calls that wait: at once, and after a while. */
	nobody_else(&p);
	check_eq(shmipc_accept(p.listener, &session, MS), -ETIMEDOUT);
	check_eq(shmipc_read(st, &c, 1, 0), -EAGAIN);
	check_eq(shmipc_read(st, &c, 1, MS), -ETIMEDOUT);
	check_eq(shmipc_stream_accept(p.session, &st, 0), -EAGAIN);
	check_eq(shmipc_stream_accept(p.session, &st, MS), -ETIMEDOUT);
	pair_end(&p);
}

static void connect_child(struct pair *p, void *arg)
{
	struct shmipc_options bad = { .size = sizeof(bad), .flags = 1U << 30 };
	struct shmipc_session *s;
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_connect(p->ep, NULL, NULL, &s, LIMIT), -EINVAL);
	check_eq(shmipc_connect(p->ep, p->name, NULL, &s, 0), -EINVAL);
	check(strlen(shmipc_last_error()) > 0);
	check_eq(shmipc_connect(p->ep, p->name, &bad, &s, LIMIT), -EINVAL);
	bad = (struct shmipc_options){ .size = 1 };
	check_eq(shmipc_connect(p->ep, p->name, &bad, &s, LIMIT), -EINVAL);
	check_eq(shmipc_connect(p->ep, "no/such.name", NULL, &s, LIMIT), -ENOENT);
	check_eq(shmipc_connect(p->ep, p->name, NULL, &s, LIMIT), 0);
	check_eq(shmipc_stream_open(s, &st), 0);
	check(shmipc_stream_session(st) == s);
	works(st);
	shmipc_stream_close(st);
	shmipc_session_close(s);
}

static void test_connect(void **state)
{
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, connect_child, NULL);
	/* Of all that it tried, one arrives. */
	check_eq(shmipc_accept(p.listener, &p.session, LIMIT), 0);
	echo_child(&p, NULL);
	nobody_else(&p);
	pair_end(&p);
}

/* ---- pausing ---------------------------------------------------------------------- */

static void test_pause(void **state)
{
	struct shmipc_event events[4];
	struct shmipc_stream *st, *other;
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	nobody_else(&p);
	st = opened(&p);
	check(shmipc_stream_session(st) == p.session);
	check_eq(shmipc_stream_pause(st, 1), 0);
	send_all(st, "ab", 2);
	/* It comes, for who asks; nobody is told. */
	check_eq(shmipc_read(st, &c, 1, LIMIT), 1);
	check_eq(c, 'a');
	check_eq(shmipc_wait(p.ep, events, 4, 20 * MS), 0);
	check_eq(shmipc_stream_pause(st, 0), 0);
	check_eq(shmipc_wait(p.ep, events, 4, LIMIT), 1);
	check_eq(events[0].type, SHMIPC_EV_READ);
	check(events[0].object == st);
	/* Paused while it is reported, and twice. */
	check_eq(shmipc_stream_pause(st, 1), 0);
	check_eq(shmipc_stream_pause(st, 1), 0);
	check_eq(shmipc_wait(p.ep, events, 4, 0), 0);
	check_eq(shmipc_read(st, &c, 1, 0), 1);
	check_eq(c, 'b');
	check_eq(shmipc_stream_pause(st, 0), 0);
	check_eq(shmipc_wait(p.ep, events, 4, 0), 0);
	works(st);
	shmipc_stream_close(st);
	/* It is a matter of the stream alone: one that is opened after it is told of. */
	other = opened(&p);
	send_all(other, "x", 1);
	check_eq(shmipc_wait(p.ep, events, 4, LIMIT), 1);
	check(events[0].object == other);
	check_eq(shmipc_read(other, &c, 1, LIMIT), 1);
	shmipc_stream_close(other);
	pair_end(&p);
}

/* ---- limits ------------------------------------------------------------------------ */

static void test_max_streams(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .max_streams = 6 };
	struct shmipc_stream *st[3], *more;
	struct pair p;

	(void)state;
	pair_start(&p, &opt, 0, echo_child, NULL);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 3; i++)
			st[i] = opened(&p);
		check_eq(shmipc_stream_open(p.session, &more), -EMFILE);
		check(strstr(shmipc_last_error(), "max_streams") != NULL);
		for (int i = 0; i < 3; i++) {
			works(st[i]);
			shmipc_finish(st[i]);
			check_eq(shmipc_read(st[i], &(char){ 0 }, 1, LIMIT), 0);
			shmipc_stream_close(st[i]);
		}
		/* Until the peer has returned the last of it; that it has, a new one shows. */
		while (shmipc_stream_open(p.session, &more) == -EMFILE)
			check_eq(shmipc_stream_accept(p.session, &more, MS), -ETIMEDOUT);
		works(more);
		shmipc_stream_close(more);
		for (int i = 0; i < 3; i++)
			while (shmipc_stream_open(p.session, &st[i]) == -EMFILE)
				check_eq(shmipc_stream_accept(p.session, &more, MS), -ETIMEDOUT);
		for (int i = 0; i < 3; i++)
			shmipc_stream_close(st[i]);
	}
	pair_end(&p);
}

enum { PER_UID = 3 };

static void per_uid_child(struct pair *p, void *arg)
{
	struct shmipc_session *s[PER_UID], *more;
	struct shmipc_stream *st;
	int64_t until = pair_now() + LIMIT;
	int err;

	(void)arg;
	for (int i = 1; i < PER_UID; i++)
		check_eq(shmipc_connect(p->ep, p->name, NULL, &s[i], LIMIT), 0);
	for (int i = 0; i < 5; i++)
		check_eq(shmipc_connect(p->ep, p->name, NULL, &more, LIMIT), -EDQUOT);
	check(strlen(shmipc_last_error()) > 0);
	/* The others don't mind. */
	check_eq(shmipc_stream_open(s[1], &st), 0);
	check_eq(shmipc_flush(st), 0);
	/* One that is over makes room, as soon as the other side let go of it too. */
	shmipc_session_close(s[1]);
	do {
		err = shmipc_connect(p->ep, p->name, NULL, &more, LIMIT);
	} while (err == -EDQUOT && pair_now() < until);
	check_eq(err, 0);
	check_eq(shmipc_connect(p->ep, p->name, NULL, &s[1], LIMIT), -EDQUOT);
	pair_tell(p);
	pair_hear(p);
}

static void test_max_per_uid(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .max_per_uid = PER_UID };
	struct shmipc_event events[4];
	struct shmipc_session *s;
	unsigned int accepted = 1, closed = 0;
	struct pair p;

	(void)state;
	pair_start(&p, &opt, 0, per_uid_child, NULL);
	/* Without the module it is the listener who refuses, when it looks. */
	while (accepted < PER_UID + 1) {
		int n = shmipc_wait(p.ep, events, 4, LIMIT);

		check(n > 0);
		for (int i = 0; i < n; i++) {
			if (events[i].type == SHMIPC_EV_ACCEPT)
				accepted += !shmipc_accept(p.listener, &s, 0);
			if (events[i].type != SHMIPC_EV_CLOSED)
				continue;
			shmipc_session_close(events[i].object);
			closed++;
		}
	}
	check_eq(closed, 1);
	/* And once more, in vain. */
	check_eq(shmipc_accept(p.listener, &s, 300 * MS), -ETIMEDOUT);
	pair_hear(&p);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- without descriptors -------------------------------------------------------------- */

static int open_and_listen(const char *name)
{
	struct shmipc_endpoint *ep;
	struct shmipc_listener *listener;
	int err = shmipc_open(&ep, 0);

	if (err)
		return err;
	err = shmipc_listen(ep, name, NULL, &listener);
	shmipc_close(ep);
	return err;
}

/* With one more each time, until it works. What each try left behind, the teardown would find. */
static void test_descriptors(void **state)
{
	struct rlimit old, few;
	unsigned int refused = 0;
	char name[64];
	int err;

	(void)state;
	pair_unique(name);
	check_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	for (few.rlim_cur = 3;; few.rlim_cur++) {
		check_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		err = open_and_listen(name);
		if (!err)
			break;
		check_eq(err, -EMFILE);
		refused++;
	}
	check_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	print_message("refused %u times, for want of descriptors\n", refused);
	check(refused > 0);
	check_eq(open_and_listen(name), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_lengths), pair_test(test_flags), pair_test(test_reservation),
		pair_test(test_message), pair_test(test_wait), pair_test(test_connect),
		pair_test(test_pause), pair_test(test_max_streams), pair_test(test_max_per_uid),
		pair_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
