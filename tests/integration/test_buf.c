// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Big buffers between two processes: sent in place, used again, read on many sessions at once, in
 * order with other messages; given, taken and given back where the provider can move ownership.
 */
#include "checker.h"
#include "pair.h"

#include <fcntl.h>

enum { KEY = 7, ROUNDS = 8 };

static uint64_t segments(struct shmipc_endpoint *ep)
{
	struct shmipc_stats stats;

	check_eq(shmipc_get_stats(ep, &stats, sizeof(stats)), 0);
	return stats.segments;
}

static struct shmipc_buf *new_buf(struct pair *p, size_t len)
{
	struct shmipc_buf *buf;

	check_eq(shmipc_buf_new(p->ep, len, &buf), 0);
	check(shmipc_buf_size(buf) >= len);
	return buf;
}

/* Reads one message of one span, whole, and holds it. */
static void peek_buf(struct shmipc_stream *st, struct shmipc_message *m, size_t len, uint64_t key)
{
	check_eq(shmipc_peek(st, m, LIMIT), 1);
	check_eq(m->nspans, 1);
	check_eq(m->len, len);
	check(same(m->spans[0].data, len, key, 0));
}

/* ---- used again ---------------------------------------------------------- */

static void read_rounds(struct pair *p, void *arg)
{
	size_t len = *(size_t *)arg;
	struct shmipc_stream *st;
	struct shmipc_message m;
	const void *at = NULL;

	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	for (int i = 0; i < ROUNDS; i++) {
		peek_buf(st, &m, len, KEY + i);
		check_eq(m.position, i * len);
		check(!m.flags);
		/* Mapped once. */
		check(!at || at == m.spans[0].data);
		at = m.spans[0].data;
		check_eq(shmipc_return(st, &m), 0);
	}
	check_eq(shmipc_read(st, &(char){ 0 }, 1, LIMIT), 0);
	pair_hear(p);
}

static void test_reuse(void **state)
{
	size_t len = pair_scale(16, pair_is_kernel() ? 128 : 256, 256) << 20;
	struct shmipc_options opt = { .size = sizeof(opt), .max_memory = 1 << 20 };
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;
	uint64_t before;

	(void)state;
	pair_start(&p, &opt, 0, read_rounds, &len);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	before = segments(p.ep);
	buf = new_buf(&p, len);
	check_eq(shmipc_buf_wait(buf, 0), 0);
	for (int i = 0; i < ROUNDS; i++) {
		fill(shmipc_buf_data(buf), len, KEY + i, 0);
		check_eq(shmipc_buf_send(st, buf, len, 0, LIMIT), 0);
		check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	}
	check_eq(segments(p.ep), before + 1);
	shmipc_buf_free(buf);
	check_eq(shmipc_finish(st), 0);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- one after the other ------------------------------------------------- */

enum { SLOTS = 768 };

static void read_many(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	uint64_t key = KEY;
	int n;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	while ((n = shmipc_peek(st, &m, LIMIT)) == 1) {
		check_eq(m.len, 5000);
		check(same(m.spans[0].data, 5000, key++, 0));
		check_eq(shmipc_return(st, &m), 0);
	}
	check_eq(n, 0);
	pair_hear(p);
}

/* New ones for ever, if the provider can end a grant: then slots are used again. Else so many. */
static void test_many_buffers(void **state)
{
	int many = pair_is_kernel() ? SLOTS + 100 : SLOTS;
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, read_many, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	for (int i = 0; i < many; i++) {
		buf = new_buf(&p, 5000);
		fill(shmipc_buf_data(buf), 5000, KEY + i, 0);
		check_eq(shmipc_buf_send(st, buf, 5000, 0, LIMIT), 0);
		/* Some are freed while they are out. */
		if (i % 4)
			check_eq(shmipc_buf_wait(buf, LIMIT), 0);
		shmipc_buf_free(buf);
	}
	buf = new_buf(&p, 5000);
	if (!pair_is_kernel()) {
		check_eq(shmipc_buf_send(st, buf, 5000, 0, LIMIT), -ENOSPC);
		/* The stream goes on. */
		fill(shmipc_buf_data(buf), 5000, KEY + many, 0);
		send_all(st, shmipc_buf_data(buf), 5000);
	}
	shmipc_buf_free(buf);
	check_eq(shmipc_finish(st), 0);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- order, position, other messages ------------------------------------- */

static void read_mixed(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	char buf[64];

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	/* The first message is there whole, the others may be seen while they are being sent. */
	pair_hear(p);
	for (int i = 0; i < 20; i++) {
		uint64_t at = i * (6 + 4 + 100000 + 5) + 6;

		check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 6);
		check(!memcmp(buf, "before", 6));
		/* "head" and a buffer are one message of two spans. */
		check_eq(shmipc_peek(st, &m, LIMIT), 1);
		check_eq(m.position, at);
		check(!memcmp(m.spans[0].data, "head", 4));
		if (i && m.nspans == 1) {
			check_eq(m.len, 4);
			check_eq(m.flags, SHMIPC_MSG_MORE);
			check_eq(shmipc_return(st, &m), 0);
			check_eq(shmipc_peek(st, &m, LIMIT), 1);
			check_eq(m.position, at + 4);
			check_eq(m.len, 100000);
		} else {
			check_eq(m.nspans, 2);
			check_eq(m.len, 100004);
		}
		check_eq(m.flags, 0);
		check(same(m.spans[m.nspans - 1].data, 100000, i, 0));
		check_eq(shmipc_return(st, &m), 0);
		check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 5);
		check(!memcmp(buf, "after", 5));
	}
	pair_hear(p);
}

static void test_order(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf[2];
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, read_mixed, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	buf[0] = new_buf(&p, 100000);
	buf[1] = new_buf(&p, 100000);
	for (int i = 0; i < 20; i++) {
		check_eq(shmipc_buf_wait(buf[i % 2], LIMIT), 0);
		fill(shmipc_buf_data(buf[i % 2]), 100000, i, 0);
		check_eq(shmipc_write(st, "before", 6, SHMIPC_CORK, LIMIT), 6);
		check_eq(shmipc_write(st, "head", 4, SHMIPC_MORE | SHMIPC_CORK, LIMIT), 4);
		check_eq(shmipc_buf_send(st, buf[i % 2], 100000, SHMIPC_CORK, LIMIT), 0);
		check_eq(shmipc_write(st, "after", 5, 0, LIMIT), 5);
		if (!i)
			pair_tell(&p);
	}
	check_eq(shmipc_buf_wait(buf[0], LIMIT), 0);
	/* Freed while it may be out: its reader is not hurt. */
	shmipc_buf_free(buf[1]);
	shmipc_buf_free(buf[0]);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- windows ------------------------------------------------------------- */

static void read_late(struct pair *p, void *arg)
{
	struct shmipc_stream *st[2];
	struct shmipc_message m[3];

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st[0], LIMIT), 0);
	check_eq(shmipc_stream_accept(p->session, &st[1], LIMIT), 0);
	pair_hear(p);
	peek_buf(st[0], &m[0], 1 << 20, KEY);
	peek_buf(st[1], &m[1], 1 << 20, KEY);
	check_eq(shmipc_peek(st[0], &m[2], 0), -EAGAIN);
	check_eq(shmipc_return(st[0], &m[0]), 0);
	check_eq(shmipc_return(st[1], &m[1]), 0);
	peek_buf(st[0], &m[2], 1 << 20, KEY);
	check_eq(shmipc_return(st[0], &m[2]), 0);
	pair_hear(p);
}

/* More than the window: one, with nothing else out; and not a second one before it is back. */
static void test_window(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 64 << 10,
				      .max_memory = 128 << 10 };
	struct shmipc_stream *st[2];
	struct shmipc_buf *buf;
	struct pair p;
	void *data;

	(void)state;
	pair_start(&p, &opt, 0, read_late, NULL);
	buf = new_buf(&p, 1 << 20);
	fill(shmipc_buf_data(buf), 1 << 20, KEY, 0);
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_stream_open(p.session, &st[i]), 0);
		check_eq(shmipc_buf_send(st[i], buf, 1 << 20, 0, LIMIT), 0);
		check_eq(shmipc_buf_send(st[i], buf, 1 << 20, 0, 0), -EAGAIN);
		check_eq(shmipc_write(st[i], "x", 1, 0, 0), -EAGAIN);
	}
	check_eq(shmipc_buf_wait(buf, 0), -EAGAIN);
	check_eq(shmipc_buf_wait(buf, 10 * MS), -ETIMEDOUT);
	/* Nothing of it counts for max_memory: another stream has all of its window. */
	check_eq(shmipc_stream_open(p.session, &st[1]), 0);
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_reserve(st[1], 32 << 10, &data, 0), 0);
		check_eq(shmipc_buf_send(st[1], buf, 1, 0, 0), -EBUSY);
		check_eq(shmipc_commit(st[1], 32 << 10, 0), 0);
	}
	check_eq(shmipc_buf_send(st[1], buf, 1, 0, 0), -EAGAIN);
	pair_tell(&p);
	check_eq(shmipc_buf_send(st[0], buf, 1 << 20, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	shmipc_buf_free(buf);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- many sessions ------------------------------------------------------- */

enum { READERS = 6 };

static void read_one(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;

	pair_hear(p);
	check_eq(shmipc_open(&p->ep, 0), 0);
	check_eq(shmipc_connect(p->ep, arg, NULL, &p->session, LIMIT), 0);
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	for (int i = 0; i < 3; i++) {
		peek_buf(st, &m, 1 << 20, KEY + i);
		pair_tell(p);
		pair_hear(p);
		check_eq(shmipc_return(st, &m), 0);
	}
	pair_hear(p);
}

/* One endpoint, sessions with as many processes: it is free when the last has returned it. */
static void test_many_sessions(void **state)
{
	struct shmipc_stream *st[READERS];
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct pair p[READERS];
	struct shmipc_endpoint *ep, *other;
	struct shmipc_buf *buf;
	char name[64];
	uint64_t before;

	(void)state;
	pair_unique(name);
	for (int i = 0; i < READERS; i++)
		pair_fork(&p[i], read_one, name);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	for (int i = 0; i < READERS; i++) {
		pair_tell(&p[i]);
		check_eq(shmipc_accept(listener, &session, LIMIT), 0);
		check_eq(shmipc_stream_open(session, &st[i]), 0);
	}
	before = segments(ep);
	check_eq(shmipc_buf_new(ep, 1 << 20, &buf), 0);
	for (int round = 0; round < 3; round++) {
		fill(shmipc_buf_data(buf), 1 << 20, KEY + round, 0);
		for (int i = 0; i < READERS; i++)
			check_eq(shmipc_buf_send(st[i], buf, 1 << 20, 0, LIMIT), 0);
		for (int i = 0; i < READERS; i++)
			pair_hear(&p[i]);
		check_eq(shmipc_buf_wait(buf, 0), -EAGAIN);
		for (int i = 0; i < READERS - 1; i++)
			pair_tell(&p[i]);
		check_eq(shmipc_buf_wait(buf, 20 * MS), -ETIMEDOUT);
		pair_tell(&p[READERS - 1]);
		check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	}
	check_eq(segments(ep), before + 1);
	/* Of another endpoint. */
	check_eq(shmipc_open(&other, 0), 0);
	shmipc_buf_free(buf);
	check_eq(shmipc_buf_new(other, 1, &buf), 0);
	check_eq(shmipc_buf_send(st[0], buf, 1, 0, LIMIT), -EINVAL);
	shmipc_close(other);
	for (int i = 0; i < READERS; i++) {
		pair_tell(&p[i]);
		pair_wait(&p[i]);
		close(p[i].wire);
	}
	shmipc_close(ep);
}

/* ---- one of the two goes ------------------------------------------------- */

static void hold(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	peek_buf(st, &m, 1 << 20, KEY);
	pair_tell(p);
	pair_hear(p);
	pair_hear(p);
}

static void test_reader_dies(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, hold, NULL);
	buf = new_buf(&p, 1 << 20);
	fill(shmipc_buf_data(buf), 1 << 20, KEY, 0);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_buf_send(st, buf, 1 << 20, 0, LIMIT), 0);
	pair_hear(&p);
	check_eq(shmipc_buf_wait(buf, 0), -EAGAIN);
	pair_kill(&p);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	check_eq(shmipc_buf_send(st, buf, 1, 0, LIMIT), -EPIPE);
	fill(shmipc_buf_data(buf), 1 << 20, KEY + 1, 0);
	shmipc_buf_free(buf);
	pair_close(&p);
}

static void read_after_close(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	pair_hear(p);
	peek_buf(st, &m, 1 << 20, KEY);
	check_eq(shmipc_return(st, &m), 0);
	check_eq(shmipc_read(st, &(char){ 0 }, 1, LIMIT), 0);
}

static void test_sender_closes(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, read_after_close, NULL);
	buf = new_buf(&p, 1 << 20);
	fill(shmipc_buf_data(buf), 1 << 20, KEY, 0);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_buf_send(st, buf, 1 << 20, 0, LIMIT), 0);
	check_eq(shmipc_finish(st), 0);
	shmipc_buf_free(buf);
	shmipc_session_close(p.session);
	p.session = NULL;
	pair_tell(&p);
	pair_wait(&p);
	pair_close(&p);
}

/* ---- freeze, give, take -------------------------------------------------- */

static void take_and_give_back(struct pair *p, void *arg)
{
	size_t len = *(size_t *)arg;
	struct shmipc_stream *st;
	struct shmipc_message m;
	struct shmipc_buf *buf;
	const void *at;

	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	for (int i = 0; i < 3; i++) {
		peek_buf(st, &m, len, KEY + i);
		check_eq(m.flags, SHMIPC_MSG_GIVEN);
		at = m.spans[0].data;
		check_eq(shmipc_buf_take(st, &m, &buf), 0);
		check_eq(m.nspans, 0);
		check_eq(shmipc_buf_take(st, &m, &buf), -EINVAL);
		/* In place, and now writable. */
		check(shmipc_buf_data(buf) == at);
		check_eq(shmipc_buf_size(buf), len);
		check(same(at, len, KEY + i, 0));
		fill(shmipc_buf_data(buf), len, KEY + 100 + i, 0);
		check_eq(shmipc_buf_give(st, buf, len, 0, LIMIT), 0);
		check_eq(shmipc_buf_give(st, buf, len, 0, LIMIT), -EBUSY);
		check_eq(shmipc_buf_send(st, buf, len, 0, LIMIT), -EBUSY);
		check_eq(shmipc_buf_freeze(buf), -EBUSY);
		check_eq(shmipc_buf_wait(buf, 0), -EAGAIN);
		pair_tell(p);
		check_eq(shmipc_buf_wait(buf, LIMIT), -ESTALE);
		check_eq(shmipc_buf_send(st, buf, len, 0, LIMIT), -ESTALE);
		shmipc_buf_free(buf);
	}
	pair_hear(p);
}

static void test_give(void **state)
{
	size_t len = pair_scale(16, pair_is_kernel() ? 128 : 256, 256) << 20;
	struct shmipc_stream *st;
	struct shmipc_message m;
	struct shmipc_buf *buf;
	struct pair p;
	uint64_t before;

	(void)state;
	pair_start(&p, NULL, 0, take_and_give_back, &len);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	buf = new_buf(&p, len);
	before = segments(p.ep);
	for (int i = 0; i < 3; i++) {
		fill(shmipc_buf_data(buf), len, KEY + i, 0);
		check_eq(shmipc_buf_give(st, buf, len, 0, LIMIT), 0);
		check_eq(shmipc_buf_wait(buf, LIMIT), -ESTALE);
		shmipc_buf_free(buf);
		pair_hear(&p);
		peek_buf(st, &m, len, KEY + 100 + i);
		check_eq(shmipc_buf_take(st, &m, &buf), 0);
	}
	check_eq(segments(p.ep), before);
	shmipc_buf_free(buf);
	pair_tell(&p);
	pair_end(&p);
}

/* Reads what was given, and returns it: it is the giver's again, and may be given another time. */
static void return_gifts(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	char all[4096];

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	peek_buf(st, &m, 4096, KEY);
	pair_tell(p);
	pair_hear(p);
	check_eq(shmipc_return(st, &m), 0);
	/* shmipc_read() returns it as well. */
	check_eq(shmipc_read(st, all, sizeof(all), LIMIT), sizeof(all));
	check(same(all, sizeof(all), KEY + 1, 0));
	/* Closed unread. */
	pair_hear(p);
	shmipc_stream_close(st);
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	peek_buf(st, &m, 4096, KEY + 3);
	pair_tell(p);
	pair_hear(p);
}

static void test_returned(void **state)
{
	struct shmipc_stream *st, *second;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, return_gifts, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	buf = new_buf(&p, 4096);
	fill(shmipc_buf_data(buf), 4096, KEY, 0);
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), 0);
	pair_hear(&p);
	check_eq(shmipc_buf_wait(buf, 0), -EAGAIN);
	pair_tell(&p);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	fill(shmipc_buf_data(buf), 4096, KEY + 1, 0);
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	fill(shmipc_buf_data(buf), 4096, KEY + 2, 0);
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), 0);
	pair_tell(&p);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	/* Its receiver dies with it. */
	fill(shmipc_buf_data(buf), 4096, KEY + 3, 0);
	check_eq(shmipc_stream_open(p.session, &second), 0);
	check_eq(shmipc_buf_give(second, buf, 4096, 0, LIMIT), 0);
	pair_hear(&p);
	pair_kill(&p);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	fill(shmipc_buf_data(buf), 4096, KEY + 4, 0);
	shmipc_buf_free(buf);
	pair_close(&p);
}

static void read_frozen(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	struct shmipc_buf *buf;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	peek_buf(st, &m, 4096, KEY);
	check_eq(shmipc_buf_take(st, &m, &buf), -EINVAL);
	pair_tell(p);
	pair_hear(p);
	check(same(m.spans[0].data, 4096, KEY, 0));
	check_eq(shmipc_return(st, &m), 0);
	peek_buf(st, &m, 4096, KEY);
	check_eq(shmipc_buf_take(st, &m, &buf), 0);
	memset(shmipc_buf_data(buf), 1, 4096);
	pair_hear(p);
}

/* The kernel writes for us: an errno, and no signal. */
static void write_faults(struct shmipc_buf *buf)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	check_eq(read(zero, shmipc_buf_data(buf), 8), -1);
	check_eq(errno, EFAULT);
	close(zero);
}

static void test_freeze(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, read_frozen, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	buf = new_buf(&p, 4096);
	fill(shmipc_buf_data(buf), 4096, KEY, 0);
	check_eq(shmipc_buf_send(st, buf, 4096, 0, LIMIT), 0);
	pair_hear(&p);
	check_eq(shmipc_buf_freeze(buf), 0);
	check_eq(shmipc_buf_freeze(buf), 0);
	write_faults(buf);
	check(same(shmipc_buf_data(buf), 4096, KEY, 0));
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), -EBUSY);
	pair_tell(&p);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf, LIMIT), -ESTALE);
	write_faults(buf);
	shmipc_buf_free(buf);
	pair_tell(&p);
	pair_end(&p);
}

/* What can't be done says so, and harms nothing. */
static void read_plain(struct pair *p, void *arg)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	struct shmipc_buf *buf;

	(void)arg;
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	peek_buf(st, &m, 4096, KEY);
	check_eq(shmipc_buf_take(st, &m, &buf), -EOPNOTSUPP);
	check_eq(shmipc_return(st, &m), 0);
}

static void test_not_supported(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, read_plain, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	buf = new_buf(&p, 4096);
	fill(shmipc_buf_data(buf), 4096, KEY, 0);
	check_eq(shmipc_buf_freeze(buf), -EOPNOTSUPP);
	check_eq(shmipc_buf_give(st, buf, 4096, 0, LIMIT), -EOPNOTSUPP);
	check_eq(shmipc_buf_send(st, buf, 4096, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf, LIMIT), 0);
	shmipc_buf_free(buf);
	pair_end(&p);
}

static void wait_for_end(struct pair *p, void *arg)
{
	(void)arg;
	pair_hear(p);
}

static void test_arguments(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, wait_for_end, NULL);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_buf_new(p.ep, 0, &buf), -EINVAL);
	check_eq(shmipc_buf_new(p.ep, 5000, &buf), 0);
	check_eq(shmipc_buf_size(buf), 8192);
	check(!((uintptr_t)shmipc_buf_data(buf) % 4096));
	check_eq(shmipc_buf_send(st, buf, 0, 0, LIMIT), -EINVAL);
	check_eq(shmipc_buf_send(st, buf, 8193, 0, LIMIT), -EINVAL);
	check_eq(shmipc_buf_send(st, buf, SIZE_MAX, 0, LIMIT), -EINVAL);
	check_eq(shmipc_buf_send(st, buf, 1, 4, LIMIT), -EINVAL);
	shmipc_buf_free(NULL);
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_buf_send(st, buf, 1, 0, LIMIT), -ESHUTDOWN);
	pair_tell(&p);
	/* The endpoint's close frees it. */
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_arguments),
		pair_test(test_reuse),
		pair_test(test_many_buffers),
		pair_test(test_order),
		pair_test(test_window),
		pair_test(test_many_sessions),
		pair_test(test_reader_dies),
		pair_test(test_sender_closes),
	};
	const struct CMUnitTest kernel[] = {
		pair_test(test_give),
		pair_test(test_returned),
		pair_test(test_freeze),
	};
	const struct CMUnitTest embedded[] = {
		pair_test(test_not_supported),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (pair_is_kernel())
		failed += cmocka_run_group_tests(kernel, NULL, NULL);
	else
		failed += cmocka_run_group_tests(embedded, NULL, NULL);
	return failed;
}
