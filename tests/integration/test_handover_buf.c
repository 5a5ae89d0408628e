// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Buffers move with their endpoint: those at rest, those that are out, and with the module those that were given. The
 * test is the client, which sees none of it; an old server and its successor are its children.
 */
#include "pair.h"

#include <signal.h>
#include <sys/mman.h>

#define SIZE	300000
#define SECOND	((int64_t)1000000000)

/* The old server's, in the order in which it makes and sends them. */
enum which {
	NEVER_SENT,
	RETURNED,	/* sent, read and returned */
	HELD,		/* out twice: the client has one message and not read the other */
	FREED,		/* held as well, and freed by the old server */
	GIVEN,		/* from here on: with the module, which can move ownership */
	TAKEN = GIVEN,	/* given, and taken before the handover */
	TAKEN_LATE,	/* given, and taken after it */
	REFUSED,	/* given, and returned after it */
	FROZEN,
	NR,
};

/* What the servers know of each other. */
struct shared {
	char name[64];
	uint64_t id[NR], stream;
	bool crash;
};

/* How many of them there are here. */
static int nr(void)
{
	return pair_is_kernel() ? NR : GIVEN;
}

static void make(struct shmipc_endpoint *ep, struct shared *shared, struct shmipc_buf **buf)
{
	for (int i = 0; i < nr(); i++) {
		check_eq(shmipc_buf_new(ep, SIZE, &buf[i]), 0);
		fill(shmipc_buf_data(buf[i]), SIZE, i, 0);
		shared->id[i] = shmipc_buf_id(buf[i]);
		for (int before = 0; before < i; before++)
			check(shared->id[before] != shared->id[i]);
	}
}

static sigjmp_buf touched;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(touched, 1);
}

/* What it may not write raises @want. */
static bool raises(volatile char *byte, int want)
{
	struct sigaction fault = { .sa_handler = on_fault }, before;
	volatile bool raised = true;

	check_eq(sigaction(want, &fault, &before), 0);
	if (!sigsetjmp(touched, 1)) {
		*byte = 1;
		raised = false;
	}
	check_eq(sigaction(want, &before, NULL), 0);
	return raised;
}

static void old_server(struct pair *p, void *arg)
{
	struct shmipc_options options = { .size = sizeof(options), .window = 4 << 20,
					  .max_memory = 8 << 20 };
	struct shmipc_offer_options offer = { .size = sizeof(offer), .timeout_ns = 30 * SECOND,
					      .flags = SHMIPC_OFFER_BY_NAME };
	struct shmipc_listener *listener;
	struct shared *shared = arg;
	struct shmipc_session *session;
	struct shmipc_buf *buf[NR];
	struct shmipc_stream *st;
	struct shmipc_endpoint *ep;
	struct shmipc_event event;
	int fd;

	if (shared->crash)
		options.orphan_ms = 30000;
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, shared->name, &options, &listener), 0);
	pair_tell(p);
	check_eq(shmipc_accept(listener, &session, LIMIT), 0);
	check_eq(shmipc_stream_accept(session, &st, LIMIT), 0);
	shared->stream = shmipc_stream_id(st);
	make(ep, shared, buf);
	check_eq(shmipc_buf_send(st, buf[RETURNED], SIZE, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf[RETURNED], LIMIT), 0);
	check_eq(shmipc_buf_send(st, buf[HELD], SIZE, 0, LIMIT), 0);
	check_eq(shmipc_buf_send(st, buf[FREED], SIZE, 0, LIMIT), 0);
	if (pair_is_kernel()) {
		check_eq(shmipc_buf_give(st, buf[TAKEN], SIZE, 0, LIMIT), 0);
		check_eq(shmipc_buf_wait(buf[TAKEN], LIMIT), -ESTALE);
		check_eq(shmipc_buf_give(st, buf[TAKEN_LATE], SIZE, 0, LIMIT), 0);
		check_eq(shmipc_buf_give(st, buf[REFUSED], SIZE, 0, LIMIT), 0);
		check_eq(shmipc_buf_freeze(buf[FROZEN]), 0);
	}
	check_eq(shmipc_buf_send(st, buf[HELD], SIZE, 0, LIMIT), 0);
	shmipc_buf_free(buf[FREED]);
	pair_tell(p);
	pair_hear(p);
	check_eq(shmipc_offer(ep, &offer, &fd), 0);
	pair_tell(p);
	do {
		check(shmipc_wait(ep, &event, 1, LIMIT) >= 0);
	} while (event.type != SHMIPC_EV_OFFER);
	check_eq(shmipc_yield(ep, NULL, 0), 0);
	for (int i = 0; i < nr(); i++)
		if (i != FREED)
			check(raises(shmipc_buf_data(buf[i]), SIGBUS));
	check_eq(shmipc_buf_send(st, buf[NEVER_SENT], SIZE, 0, LIMIT), -ESTALE);
	check_eq(shmipc_buf_wait(buf[HELD], LIMIT), -ESTALE);
	if (pair_is_kernel())
		check_eq(shmipc_buf_freeze(buf[NEVER_SENT]), -ESTALE);
	shmipc_buf_free(buf[NEVER_SENT]);
	shmipc_close(ep);
	pair_tell(p);
}

static void find_all(struct shmipc_endpoint *ep, const struct shared *shared,
		     struct shmipc_stream **st, struct shmipc_buf **buf)
{
	struct shmipc_adopted item;

	while (shmipc_adopted_next(ep, &item)) {
		int i = 0;

		if (item.type == SHMIPC_ADOPTED_STREAM) {
			check_eq(item.id, shared->stream);
			*st = item.object;
		}
		if (item.type != SHMIPC_ADOPTED_BUFFER)
			continue;
		while (i < nr() && shared->id[i] != item.id)
			i++;
		check(i < nr());
		check(!buf[i]);
		buf[i] = item.object;
		check_eq(shmipc_buf_id(buf[i]), item.id);
		check(shmipc_buf_size(buf[i]) >= SIZE);
	}
	check(*st);
	for (int i = 0; i < nr(); i++)
		check(!buf[i] == (i == TAKEN));
}

/* What the client sent, and gave, before: read, taken and sent back. */
static void take_back(struct shmipc_stream *st)
{
	struct shmipc_message m;
	struct shmipc_buf *buf;

	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check_eq(m.len, SIZE);
	check(same(m.spans[0].data, SIZE, 100, 0));
	check_eq(shmipc_return(st, &m), 0);
	if (!pair_is_kernel())
		return;
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	check(m.flags & SHMIPC_MSG_GIVEN);
	check(same(m.spans[0].data, SIZE, 101, 0));
	check_eq(shmipc_buf_take(st, &m, &buf), 0);
	fill(shmipc_buf_data(buf), SIZE, 102, 0);
	check_eq(shmipc_buf_give(st, buf, SIZE, 0, LIMIT), 0);
	check_eq(shmipc_buf_wait(buf, LIMIT), -ESTALE);
	shmipc_buf_free(buf);
}

static void expect_as_given(struct shmipc_stream *st, struct shmipc_buf **buf)
{
	check(same(shmipc_buf_data(buf[FROZEN]), SIZE, FROZEN, 0));
	check(raises(shmipc_buf_data(buf[FROZEN]), SIGSEGV));
	check_eq(shmipc_buf_give(st, buf[HELD], SIZE, 0, LIMIT), -EBUSY);
	check_eq(shmipc_buf_wait(buf[TAKEN_LATE], 0), -EAGAIN);
	check_eq(shmipc_buf_send(st, buf[REFUSED], SIZE, 0, LIMIT), -EBUSY);
}

/* The client has taken the one, and returned the other. */
static void give_again(struct shmipc_stream *st, struct shmipc_buf **buf)
{
	check_eq(shmipc_buf_wait(buf[TAKEN_LATE], LIMIT), -ESTALE);
	check_eq(shmipc_buf_wait(buf[REFUSED], LIMIT), 0);
	shmipc_buf_free(buf[TAKEN_LATE]);
	fill(shmipc_buf_data(buf[REFUSED]), SIZE, 51, 0);
	check_eq(shmipc_buf_send(st, buf[REFUSED], SIZE, 0, LIMIT), 0);
	check_eq(shmipc_buf_give(st, buf[HELD], SIZE, 0, LIMIT), 0);
}

static void successor(struct pair *p, void *arg)
{
	struct shmipc_buf *buf[NR] = { NULL };
	struct shmipc_stream *st = NULL;
	struct shared *shared = arg;
	struct shmipc_endpoint *ep;

	pair_hear(p);
	check_eq(shmipc_adopt(shared->name, -1, NULL, &ep, LIMIT), 0);
	find_all(ep, shared, &st, buf);
	pair_tell(p);

	/* At rest: as they were left, and to be written. */
	check(same(shmipc_buf_data(buf[NEVER_SENT]), SIZE, NEVER_SENT, 0));
	check(same(shmipc_buf_data(buf[RETURNED]), SIZE, RETURNED, 0));
	fill(shmipc_buf_data(buf[RETURNED]), SIZE, 50, 0);
	/* Out: not back before the client has returned all. */
	check_eq(shmipc_buf_wait(buf[HELD], 0), -EAGAIN);
	if (pair_is_kernel())
		expect_as_given(st, buf);
	pair_tell(p);
	check_eq(shmipc_buf_wait(buf[HELD], LIMIT), 0);
	check_eq(shmipc_buf_wait(buf[FREED], LIMIT), 0);
	shmipc_buf_free(buf[FREED]);
	fill(shmipc_buf_data(buf[HELD]), SIZE, 52, 0);

	check_eq(shmipc_buf_send(st, buf[RETURNED], SIZE, 0, LIMIT), 0);
	if (pair_is_kernel())
		give_again(st, buf);
	check_eq(shmipc_buf_send(st, buf[NEVER_SENT], SIZE, 0, LIMIT), 0);
	take_back(st);
	check_eq(shmipc_buf_wait(buf[NEVER_SENT], LIMIT), 0);
	if (pair_is_kernel())
		check_eq(shmipc_buf_wait(buf[HELD], LIMIT), -ESTALE);
	shmipc_close(ep);
}

static void expect(struct shmipc_stream *st, struct shmipc_message *m, uint64_t key)
{
	check_eq(shmipc_peek(st, m, LIMIT), 1);
	check_eq(m->len, SIZE);
	check_eq(m->nspans, 1);
	check(same(m->spans[0].data, SIZE, key, 0));
}

static void expect_and_return(struct shmipc_stream *st, uint64_t key)
{
	struct shmipc_message m;

	expect(st, &m, key);
	check_eq(shmipc_return(st, &m), 0);
}

static void expect_and_take(struct shmipc_stream *st, uint64_t key)
{
	struct shmipc_message m;
	struct shmipc_buf *buf;

	expect(st, &m, key);
	check_eq(shmipc_buf_take(st, &m, &buf), 0);
	check(same(shmipc_buf_data(buf), SIZE, key, 0));
	memset(shmipc_buf_data(buf), 0, SIZE);
	shmipc_buf_free(buf);
}

static void send_two(struct shmipc_endpoint *ep, struct shmipc_stream *st, struct shmipc_buf **buf)
{
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_buf_new(ep, SIZE, &buf[i]), 0);
		fill(shmipc_buf_data(buf[i]), SIZE, 100 + i, 0);
	}
	check_eq(shmipc_buf_send(st, buf[0], SIZE, 0, LIMIT), 0);
	if (pair_is_kernel())
		check_eq(shmipc_buf_give(st, buf[1], SIZE, 0, LIMIT), 0);
}

static void move(bool crash)
{
	struct shmipc_options options = { .size = sizeof(options), .window = 4 << 20,
					  .max_memory = 8 << 20 };
	struct shmipc_buf *own[2];
	struct shmipc_message held, freed, late;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct shared *shared;
	struct pair p[2];

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	check(shared != MAP_FAILED);
	pair_unique(shared->name);
	shared->crash = crash;
	pair_fork(&p[0], old_server, shared);
	pair_fork(&p[1], successor, shared);
	pair_hear(&p[0]);
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_connect(ep, shared->name, &options, &session, LIMIT), 0);
	check_eq(shmipc_stream_open(session, &st), 0);
	send_two(ep, st, own);

	expect_and_return(st, RETURNED);
	expect(st, &held, HELD);
	expect(st, &freed, FREED);
	if (pair_is_kernel()) {
		expect_and_take(st, TAKEN);
		expect(st, &late, TAKEN_LATE);
	}
	pair_hear(&p[0]);
	if (crash) {
		pair_kill(&p[0]);
	} else {
		pair_tell(&p[0]);
		pair_hear(&p[0]);
	}
	pair_tell(&p[1]);
	pair_hear(&p[1]);
	/* Nothing has moved under the reader. */
	check(same(held.spans[0].data, SIZE, HELD, 0));
	check(same(freed.spans[0].data, SIZE, FREED, 0));
	pair_hear(&p[1]);
	check_eq(shmipc_return(st, &held), 0);
	check_eq(shmipc_return(st, &freed), 0);
	if (pair_is_kernel()) {
		check_eq(shmipc_buf_take(st, &late, &own[1]), 0);
		check(same(shmipc_buf_data(own[1]), SIZE, TAKEN_LATE, 0));
		shmipc_buf_free(own[1]);
		expect_and_return(st, REFUSED);
	}
	expect_and_return(st, HELD);
	/* The successor's. */
	expect_and_return(st, 50);
	if (pair_is_kernel()) {
		expect_and_return(st, 51);
		expect_and_take(st, 52);
	}
	expect_and_return(st, NEVER_SENT);
	if (pair_is_kernel())
		expect_and_take(st, 102);
	check_eq(shmipc_buf_wait(own[0], LIMIT), 0);
	shmipc_close(ep);
	if (!crash) {
		pair_hear(&p[0]);
		pair_wait(&p[0]);
	}
	pair_close(&p[0]);
	pair_end(&p[1]);
	munmap(shared, sizeof(*shared));
}

static void test_planned(void **state)
{
	(void)state;
	move(false);
}

static void test_crash(void **state)
{
	(void)state;
	move(true);
}

int main(void)
{
	const struct CMUnitTest kernel[] = {
		pair_test(test_planned),
		pair_test(test_crash),
	};
	const struct CMUnitTest embedded[] = {
		pair_test(test_planned),
	};

	return pair_is_kernel() ? cmocka_run_group_tests(kernel, NULL, NULL) :
				  cmocka_run_group_tests(embedded, NULL, NULL);
}
