// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Messages between two processes: every size, both directions, each way to send and to receive. */
#include "checker.h"
#include "pair.h"

#define LARGEST	(8U << 20)

static const size_t sizes[] = {
	1, 2, 7, 8, 63, 64, 95, 96, 97, 127, 128, 129, 4095, 4096, 4097, 32767, 65536, 100000,
	262143, 262144, 262145, 1 << 20, (1 << 20) + 1, 3000001, LARGEST,
};

#define NSIZES	(sizeof(sizes) / sizeof(sizes[0]))

static struct shmipc_stream *opened(struct pair *p)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_open(p->session, &st), 0);
	return st;
}

static struct shmipc_stream *accepted(struct pair *p)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	return st;
}

/* Sends back what comes, until the end, in pieces of its own choosing. */
static void echo_stream(struct shmipc_stream *st)
{
	static char buf[300000];
	ssize_t n;

	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0)
		send_all(st, buf, n);
	check_eq(n, 0);
	check_eq(shmipc_finish(st), 0);
	shmipc_stream_close(st);
}

static void echo_child(struct pair *p, void *arg)
{
	(void)arg;
	echo_stream(accepted(p));
	pair_hear(p);
}

/* Sends and reads at once: what is larger than both windows must not wait for itself. */
static void one_size(struct shmipc_stream *st, size_t len, struct checker *c, char *out, char *in)
{
	size_t sent = 0, got = 0;

	fill(out, len, c->key, c->position);
	while (got < len) {
		ssize_t n;

		if (sent < len) {
			n = shmipc_write(st, out + sent, len - sent, 0, 0);
			check(n > 0 || n == -EAGAIN);
			sent += n > 0 ? n : 0;
		}
		n = shmipc_read(st, in + got, len - got, sent < len ? 0 : LIMIT);
		check(n > 0 || (n == -EAGAIN && sent < len));
		got += n > 0 ? n : 0;
	}
	check(!checker_take(c, in, len));
}

static void echo_sizes(unsigned int flags)
{
	char *out = malloc(LARGEST), *in = malloc(LARGEST);
	struct checker c = { .key = 1 };
	struct pair p;

	pair_start(&p, NULL, flags, echo_child, NULL);
	struct shmipc_stream *st = opened(&p);

	for (unsigned int i = 0; i < NSIZES; i++)
		one_size(st, sizes[i], &c, out, in);
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_read(st, in, 1, LIMIT), 0);
	check_eq(shmipc_read(st, in, 1, 0), 0);
	shmipc_stream_close(st);
	pair_tell(&p);
	pair_end(&p);
	free(out);
	free(in);
}

static void test_sizes(void **state)
{
	(void)state;
	echo_sizes(0);
}

static void test_sizes_child_listens(void **state)
{
	(void)state;
	echo_sizes(CHILD_LISTENS);
}

/* ---- boundaries of messages ---------------------------------------------- */

static void peek_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st = accepted(p);
	struct checker c = { .key = 2 };

	(void)arg;
	for (unsigned int i = 0; i < NSIZES; i++) {
		struct shmipc_message m;
		size_t got = 0;

		do {
			check_eq(shmipc_peek(st, &m, LIMIT), 1);
			check_eq(m.position, c.position);
			for (uint32_t s = 0; s < m.nspans; s++) {
				check(!checker_take(&c, m.spans[s].data, m.spans[s].len));
				got += m.spans[s].len;
			}
			check(!(m.flags & ~SHMIPC_MSG_MORE));
			/* A quarter of the default window comes in one piece. */
			check(sizes[i] > 262144 || (m.nspans == 1 && !m.flags));
			check_eq(shmipc_return(st, &m), 0);
		} while (m.flags & SHMIPC_MSG_MORE);
		check_eq(got, sizes[i]);
	}
	check_eq(shmipc_finish(st), 0);
	pair_hear(p);
	shmipc_stream_close(st);
}

/* A message's end is where its sender put it, however it was cut. */
static void test_messages(void **state)
{
	char *out = malloc(LARGEST);
	uint64_t position = 0;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, peek_child, NULL);
	struct shmipc_stream *st = opened(&p);

	for (unsigned int i = 0; i < NSIZES; i++) {
		fill(out, sizes[i], 2, position);
		send_all(st, out, sizes[i]);
		position += sizes[i];
	}
	check_eq(shmipc_read(st, out, 1, LIMIT), 0);
	pair_tell(&p);
	shmipc_stream_close(st);
	pair_end(&p);
	free(out);
}

/* ---- in place ------------------------------------------------------------- */

static void expect(struct shmipc_stream *st, const char *text, uint32_t flags)
{
	struct shmipc_message m;
	char buf[256];
	size_t n = 0;

	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	for (uint32_t i = 0; i < m.nspans; i++) {
		memcpy(buf + n, m.spans[i].data, m.spans[i].len);
		n += m.spans[i].len;
	}
	check_eq(n, m.len);
	check_eq(n, strlen(text));
	check(!memcmp(buf, text, n));
	check_eq(m.flags, flags);
	check_eq(shmipc_return(st, &m), 0);
	/* Twice is refused, and does nothing. */
	check_eq(m.nspans, 0);
}

static void place_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st = accepted(p);

	(void)arg;
	expect(st, "small", 0);
	expect(st, "part", 0);
	expect(st, "large at first", 0);
	pair_hear(p);
	expect(st, "one two three", 0);
	expect(st, "last", 0);
	check_eq(shmipc_finish(st), 0);
	pair_hear(p);
	shmipc_stream_close(st);
}

static void put(struct shmipc_stream *st, size_t room, const char *text, unsigned int flags)
{
	void *data;

	check_eq(shmipc_reserve(st, room, &data, LIMIT), 0);
	memset(data, 'x', room);
	memcpy(data, text, strlen(text));
	check_eq(shmipc_commit(st, strlen(text), flags), 0);
}

static void test_in_place(void **state)
{
	struct pair p;
	void *data, *other;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, place_child, NULL);
	struct shmipc_stream *st = opened(&p);

	check_eq(shmipc_commit(st, 1, 0), -EINVAL);
	check_eq(shmipc_cancel(st), -EINVAL);
	put(st, 5, "small", 0);
	put(st, 90, "part", 0);
	check_eq(shmipc_reserve(st, 50, &data, LIMIT), 0);
	check_eq(shmipc_reserve(st, 50, &other, LIMIT), -EBUSY);
	check_eq(shmipc_finish(st), -EBUSY);
	memset(data, 'c', 50);
	check_eq(shmipc_cancel(st), 0);
	check_eq(shmipc_cancel(st), -EINVAL);
	put(st, 200000, "large at first", 0);
	check_eq(shmipc_reserve(st, 100000, &data, LIMIT), 0);
	check_eq(shmipc_commit(st, 0, 0), -EINVAL);
	check_eq(shmipc_commit(st, 100001, 0), -EINVAL);
	check_eq(shmipc_commit(st, 1, 1U << 31), -EINVAL);
	check_eq(shmipc_cancel(st), 0);
	put(st, 10, "one ", SHMIPC_MORE);
	put(st, 1000, "two ", SHMIPC_MORE);
	put(st, 10, "three", 0);
	pair_tell(&p);
	put(st, 4, "last", SHMIPC_CORK);
	check_eq(shmipc_flush(st), 0);
	check_eq(shmipc_read(st, &c, 1, LIMIT), 0);
	pair_tell(&p);
	shmipc_stream_close(st);
	pair_end(&p);
}

/* ---- more ------------------------------------------------------------------ */

static void more_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st = accepted(p);
	struct shmipc_message m;
	char rest[6];

	(void)arg;
	/* Only the first part is there: so it says that more will come. */
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check_eq(m.flags, SHMIPC_MSG_MORE);
	check_eq(m.len, 3);
	check_eq(shmipc_return(st, &m), 0);
	pair_tell(p);
	/* In one piece or in two: corking keeps bells back, not frames. */
	read_all(st, rest, sizeof(rest));
	check(!memcmp(rest, "defghi", sizeof(rest)));
	/*
	 * Of more parts than a message has spans, the rest comes with the next peek. All are there
	 * before this side looks: of those that it took meanwhile it would get these alone.
	 */
	pair_tell(p);
	pair_hear(p);
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check_eq(m.nspans, SHMIPC_SPANS_MAX);
	check_eq(m.flags, SHMIPC_MSG_MORE);
	check_eq(shmipc_return(st, &m), 0);
	expect(st, "89", 0);
	pair_tell(p);
	shmipc_stream_close(st);
}

static void test_more(void **state)
{
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, more_child, NULL);
	struct shmipc_stream *st = opened(&p);

	check_eq(shmipc_write(st, "abc", 3, SHMIPC_MORE, LIMIT), 3);
	pair_hear(&p);
	check_eq(shmipc_write(st, "def", 3, SHMIPC_MORE | SHMIPC_CORK, LIMIT), 3);
	check_eq(shmipc_write(st, "ghi", 3, 0, LIMIT), 3);
	pair_hear(&p);
	for (int i = 0; i < 10; i++) {
		char c = '0' + i;

		check_eq(shmipc_write(st, &c, 1, i < 9 ? SHMIPC_MORE : 0, LIMIT), 1);
	}
	pair_tell(&p);
	pair_hear(&p);
	shmipc_stream_close(st);
	pair_end(&p);
}

/* ---- ends -------------------------------------------------------------------- */

static void half_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st = accepted(p);
	char buf[8];

	(void)arg;
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 3);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 0);
	/* The other direction is open for as long as one likes. */
	for (int i = 0; i < 1000; i++)
		send_all(st, "answer", 6);
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_finish(st), -ESHUTDOWN);
	check_eq(shmipc_write(st, "x", 1, 0, LIMIT), -ESHUTDOWN);
	shmipc_stream_close(st);
	pair_hear(p);
}

static void test_half_close(void **state)
{
	struct pair p;
	char buf[8];

	(void)state;
	pair_start(&p, NULL, 0, half_child, NULL);
	struct shmipc_stream *st = opened(&p);

	send_all(st, "abc", 3);
	check_eq(shmipc_finish(st), 0);
	for (int i = 0; i < 1000; i++) {
		check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 6);
		check(!memcmp(buf, "answer", 6));
	}
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 0);
	shmipc_stream_close(st);
	pair_tell(&p);
	pair_end(&p);
}

/* A stream whose first frame is its end. */
static void test_finish_alone(void **state)
{
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, echo_child, NULL);
	struct shmipc_stream *st = opened(&p);

	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_read(st, &c, 1, LIMIT), 0);
	shmipc_stream_close(st);
	pair_tell(&p);
	pair_end(&p);
}

static void reset_child(struct pair *p, void *arg)
{
	struct shmipc_stream *st = accepted(p), *second;
	struct shmipc_message m;
	char buf[200];

	(void)arg;
	/* What is held stays readable after the reset; what was not taken is gone. */
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check_eq(m.len, 150);
	pair_tell(p);
	pair_hear(p);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), -ECONNRESET);
	check_eq(shmipc_stream_reset_code(st), 4711);
	check_eq(shmipc_write(st, "x", 1, 0, LIMIT), -ECONNRESET);
	check(same(m.spans[0].data, m.len, 3, 0));
	check_eq(shmipc_return(st, &m), 0);
	shmipc_stream_close(st);
	/* The other way. */
	second = accepted(p);
	check_eq(shmipc_read(second, buf, 1, LIMIT), 1);
	check_eq(shmipc_reset(second, 42), 0);
	check_eq(shmipc_read(second, buf, 1, 0), -ECONNRESET);
	pair_hear(p);
	shmipc_stream_close(second);
}

static void test_reset(void **state)
{
	struct pair p;
	char buf[200];

	(void)state;
	pair_start(&p, NULL, 0, reset_child, NULL);
	struct shmipc_stream *st = opened(&p);

	fill(buf, 150, 3, 0);
	send_all(st, buf, 150);
	pair_hear(&p);
	send_all(st, "never read", 10);
	check_eq(shmipc_reset(st, 4711), 0);
	check_eq(shmipc_write(st, "x", 1, 0, LIMIT), -ECONNRESET);
	pair_tell(&p);
	shmipc_stream_close(st);
	st = opened(&p);
	send_all(st, "y", 1);
	check_eq(shmipc_read(st, buf, 1, LIMIT), -ECONNRESET);
	check_eq(shmipc_stream_reset_code(st), 42);
	shmipc_stream_close(st);
	pair_tell(&p);
	pair_end(&p);
}

/* Closing with data unread tells the sender, as TCP does. */
static void unread_child(struct pair *p, void *arg)
{
	(void)arg;
	struct shmipc_stream *st = accepted(p);

	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	shmipc_stream_close(st);
	pair_hear(p);
}

static void test_close_unread(void **state)
{
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, unread_child, NULL);
	struct shmipc_stream *first = opened(&p), *st = opened(&p);

	send_all(first, "a", 1);
	send_all(st, "b", 1);
	check_eq(shmipc_read(st, &c, 1, LIMIT), -ECONNRESET);
	pair_tell(&p);
	check_eq(shmipc_read(first, &c, 1, LIMIT), -EPIPE);
	check_eq(shmipc_session_error(p.session), -EPIPE);
	check_eq(shmipc_write(first, "x", 1, 0, LIMIT), -EPIPE);
	pair_end(&p);
}

/* All that was sent before a close is read, then the end of what was finished, EPIPE of the rest. */
static void leave_child(struct pair *p, void *arg)
{
	struct shmipc_stream *done = opened(p), *open = opened(p);
	char buf[1000];

	(void)arg;
	/* Less than the ring holds: nobody reads yet. */
	for (int i = 0; i < 40; i++) {
		fill(buf, sizeof(buf), 5, i * sizeof(buf));
		send_all(done, buf, sizeof(buf));
		send_all(open, buf, sizeof(buf));
	}
	check_eq(shmipc_finish(done), 0);
}

static void test_close_session(void **state)
{
	struct shmipc_stream *done, *open;
	char *buf = malloc(40000), c;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, leave_child, NULL);
	pair_wait(&p);
	done = accepted(&p);
	open = accepted(&p);
	read_all(done, buf, 40000);
	check(same(buf, 40000, 5, 0));
	read_all(open, buf, 40000);
	check(same(buf, 40000, 5, 0));
	check_eq(shmipc_read(done, &c, 1, LIMIT), 0);
	check_eq(shmipc_read(open, &c, 1, LIMIT), -EPIPE);
	check_eq(shmipc_session_error(p.session), -EPIPE);
	check_eq(shmipc_stream_accept(p.session, &open, LIMIT), -EPIPE);
	check_eq(shmipc_stream_open(p.session, &open), -EPIPE);
	pair_close(&p);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_sizes), pair_test(test_sizes_child_listens),
		pair_test(test_messages), pair_test(test_in_place), pair_test(test_more),
		pair_test(test_half_close), pair_test(test_finish_alone), pair_test(test_reset),
		pair_test(test_close_unread), pair_test(test_close_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
