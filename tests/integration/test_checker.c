// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The checker of the other tests: each fault that it is there for, planted in a real stream. */
#include "checker.h"
#include "pair.h"

enum { MESSAGES = 40, KEY = 9, VICTIM = 17 };
enum plant { NOTHING, LOST, DOUBLED, REORDERED, FIRST_BYTE, MIDDLE_BYTE, LAST_BYTE };

static size_t length_of(int i)
{
	return 16 + i * 37 % 500;
}

static uint64_t position_of(int message)
{
	uint64_t position = 0;

	for (int i = 0; i < message; i++)
		position += length_of(i);
	return position;
}

static void send_message(struct shmipc_stream *st, int i, int wrong)
{
	char buf[600];

	fill(buf, length_of(i), KEY, position_of(i));
	if (wrong >= 0)
		buf[wrong] ^= 0x10;
	send_all(st, buf, length_of(i));
}

/* What stands for message @i, where the fault is. */
static void send_planted(struct shmipc_stream *st, int i, enum plant plant)
{
	size_t len = length_of(i);

	if (plant == LOST)
		return;
	if (plant == REORDERED)
		send_message(st, i + 1, -1);
	send_message(st, i, plant == FIRST_BYTE ? 0 : plant == MIDDLE_BYTE ? (int)len / 2 :
		     plant == LAST_BYTE ? (int)len - 1 : -1);
	if (plant == DOUBLED)
		send_message(st, i, -1);
}

static void sender(struct pair *p, void *arg)
{
	enum plant plant = *(enum plant *)arg;
	struct shmipc_stream *st;

	check_eq(shmipc_stream_open(p->session, &st), 0);
	for (int i = 0; i < MESSAGES; i++) {
		if (i == VICTIM)
			send_planted(st, i, plant);
		else if (i != VICTIM + 1 || plant != REORDERED)
			send_message(st, i, -1);
	}
	check_eq(shmipc_finish(st), 0);
	pair_hear(p);
}

/* Read as the other tests do. Returns the first fault, and where it was seen. */
static enum fault first_fault(enum plant plant, uint64_t *position)
{
	struct checker c = { .key = KEY };
	enum fault fault = FAULT_NONE, f;
	struct shmipc_stream *st;
	struct pair p;
	char buf[600];
	ssize_t n;

	pair_start(&p, NULL, 0, sender, &plant);
	check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
	while ((n = shmipc_read(st, buf, sizeof(buf), LIMIT)) > 0) {
		*position = fault ? *position : c.position;
		f = checker_take(&c, buf, n);
		fault = fault ? fault : f;
	}
	check_eq(n, 0);
	if (!fault)
		*position = c.position;
	pair_tell(&p);
	pair_end(&p);
	return fault;
}

static void planted(enum plant plant, int message, enum fault expected)
{
	uint64_t position;

	check_eq(first_fault(plant, &position), expected);
	check_eq(position, position_of(message));
}

static void test_no_fault(void **state)
{
	(void)state;
	planted(NOTHING, MESSAGES, FAULT_NONE);
}

static void test_lost(void **state)
{
	(void)state;
	planted(LOST, VICTIM, FAULT_MISSING);
}

static void test_doubled(void **state)
{
	(void)state;
	planted(DOUBLED, VICTIM + 1, FAULT_AGAIN);
}

static void test_reordered(void **state)
{
	(void)state;
	planted(REORDERED, VICTIM, FAULT_MISSING);
}

static void test_wrong_byte(void **state)
{
	(void)state;
	planted(FIRST_BYTE, VICTIM, FAULT_WRONG);
	planted(MIDDLE_BYTE, VICTIM, FAULT_WRONG);
	planted(LAST_BYTE, VICTIM, FAULT_WRONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_no_fault), pair_test(test_lost), pair_test(test_doubled),
		pair_test(test_reordered), pair_test(test_wrong_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
