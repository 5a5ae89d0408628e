// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* How shmipc-perf compares rows: classes, medians, and what a floor that is not sane makes void. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "tools/shmipc-perf/rows.c"
#include "tools/shmipc-perf/verdict.c"

static struct row *add_row(const struct key *key, double ns)
{
	struct row *row = &rows[nr_rows++];

	*row = (struct row){ .workload = key->workload, .variant = key->variant,
			     .transport = key->transport, .place = key->place, .spin = key->spin,
			     .size = key->size, .channels = key->channels, .nr = 5 };
	for (int i = 0; i < 5; i++)
		row->samples[i] = (struct sample){ .ns = ns + i - 2, .probe = 100, .cpu = 1 };
	return row;
}

/* Target 1 and its floor: rows of so many nanoseconds. */
static struct row *one_cpu(double shmipc, double socket, double eventfd)
{
	const struct key a = PING_PONG("shmipc", ONE_CPU, 64), b = PING_PONG("unix", ONE_CPU, 64),
			 c = PING_PONG("eventfd", ONE_CPU, 64);

	nr_rows = 0;
	add_row(&a, shmipc);
	add_row(&b, socket);
	return add_row(&c, eventfd);
}

/* The two lines of target 1, and the floor's. */
static void states(enum state *floor, enum state *first, enum state *second)
{
	struct verdict verdicts[VERDICTS_MAX];
	unsigned int n = judge(verdicts, 3), seen = 0;

	*floor = verdicts[EVENTFD].state;
	for (unsigned int i = FLOORS; i < n; i++) {
		if (strcmp(verdicts[i].number, "1"))
			continue;
		*(seen++ ? second : first) = verdicts[i].state;
	}
	assert_int_equal(seen, 2);
}

static void test_reached(void **state)
{
	enum state floor, first, second;

	(void)state;
	one_cpu(5000, 10000, 4000);
	states(&floor, &first, &second);
	assert_int_equal(floor, REACHED);
	assert_int_equal(first, REACHED);
	assert_int_equal(second, REACHED);
}

static void test_missed(void **state)
{
	enum state floor, first, second;

	(void)state;
	one_cpu(5400, 10000, 4000);
	states(&floor, &first, &second);
	assert_int_equal(first, MISSED);
	assert_int_equal(second, REACHED);
}

/* The floor is slower than it can be: what beats it has beaten nothing. */
static void test_void(void **state)
{
	enum state floor, first, second;

	(void)state;
	one_cpu(5000, 10000, 6100);
	states(&floor, &first, &second);
	assert_int_equal(floor, MISSED);
	assert_int_equal(first, VOID);
	assert_int_equal(second, VOID);
	/* And so is what misses. */
	one_cpu(9000, 10000, 6100);
	states(&floor, &first, &second);
	assert_int_equal(first, VOID);
}

static void test_absent(void **state)
{
	enum state floor, first, second;

	(void)state;
	one_cpu(5000, 10000, 4000)->nr = 2;
	states(&floor, &first, &second);
	assert_int_equal(floor, ABSENT);
	assert_int_equal(first, ABSENT);
	/* It could be computed, but nothing vouches for it. */
	assert_int_equal(second, VOID);
	nr_rows = 0;
	states(&floor, &first, &second);
	assert_int_equal(first, ABSENT);
	assert_int_equal(second, ABSENT);
}

/* Runs that the host had on near CPUs are not compared with those on far ones. */
static void test_classes(void **state)
{
	const struct key a = PING_PONG("shmipc", TWO_CPUS, 64), b = PING_PONG("unix", TWO_CPUS, 64);
	struct row *x, *y;

	(void)state;
	nr_rows = 0;
	x = add_row(&a, 1000);
	y = add_row(&b, 10000);
	assert_true(row_ratio(x, y, FIELD(ns), 3) > 0.09);
	for (int i = 0; i < 5; i++)
		y->samples[i].probe = 900;
	assert_true(row_ratio(x, y, FIELD(ns), 3) < 0);
	/* Three of them meet: their medians count, 1001 (1000, 1001, 1002) by 10001. */
	for (int i = 2; i < 5; i++)
		x->samples[i].probe = 930;
	assert_true(row_ratio(x, y, FIELD(ns), 3) == 1001.0 / 10000.0);
	assert_int_equal(row_class(x), row_class(y));
	/* On one CPU there is no distance. */
	x->place = y->place = ONE_CPU;
	assert_true(row_ratio(x, y, FIELD(ns), 3) == 1000.0 / 10000.0);
}

static void test_medians(void **state)
{
	const struct key a = PING_PONG("shmipc", ONE_CPU, 64);
	struct row *row;
	double least, most;

	(void)state;
	nr_rows = 0;
	row = add_row(&a, 100);
	row->samples[0].ns = 1e9;
	assert_true(row_median(row, FIELD(ns), 0) == 101);
	row_range(row, FIELD(ns), &least, &most);
	assert_true(least == 99 && most == 1e9);
	row->nr = 4;
	assert_true(row_median(row, FIELD(ns), 0) == 100.5);
	row->nr = 0;
	assert_true(row_median(row, FIELD(ns), 0) == 0);
}

/* A rate is the other way round: the more the better. */
static void test_rates(void **state)
{
	const struct key a = ONE_WAY("shmipc", TWO_CPUS, 64), b = ONE_WAY("ring", TWO_CPUS, 64),
			 c = ONE_WAY("unix", TWO_CPUS, 64);
	struct verdict verdicts[VERDICTS_MAX];
	unsigned int n;

	(void)state;
	nr_rows = 0;
	add_row(&a, 80);
	add_row(&b, 100);
	add_row(&c, 900);
	n = judge(verdicts, 3);
	assert_int_equal(verdicts[RING_TWO].state, REACHED);
	for (unsigned int i = FLOORS; i < n; i++)
		if (strstr(verdicts[i].what, "64 B one-way, two CPUs: to futex ring")) {
			assert_true(verdicts[i].least && verdicts[i].value == 100.0 / 80.0);
			assert_int_equal(verdicts[i].state, REACHED);
			return;
		}
	fail();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reached), cmocka_unit_test(test_missed),
		cmocka_unit_test(test_void), cmocka_unit_test(test_absent),
		cmocka_unit_test(test_classes), cmocka_unit_test(test_medians),
		cmocka_unit_test(test_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
