// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The policy of adaptive spinning: it learns both ways, and stops after a preemption; and of yields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "spin.h"

static void test_first(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	assert_int_equal(spin_budget(&spin), 2 * SPIN_WAKE_NS);
}

static void test_short_waits(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	for (int i = 0; i < 100; i++)
		spin_learn(&spin, 1000);
	/* Also for a wait that will be longer than all these. */
	assert_int_equal(spin_budget(&spin), SPIN_MAX_NS);
	/* One long one is no reason to stop; a few are. */
	spin_learn(&spin, 2 * SPIN_MAX_NS);
	assert_int_equal(spin_budget(&spin), SPIN_MAX_NS);
	spin_learn(&spin, UINT64_MAX);
	assert_int_equal(spin_budget(&spin), 0);
	for (int i = 0; i < 50; i++)
		spin_learn(&spin, 1000);
	assert_int_equal(spin_budget(&spin), SPIN_MAX_NS);
}

static void test_long_waits(void **state)
{
	unsigned int tried = 0;
	struct spin spin;

	(void)state;
	spin_init(&spin);
	for (int i = 0; i < 100; i++)
		spin_learn(&spin, 10000000);
	for (int i = 0; i < 10 * SPIN_RETRY; i++)
		tried += spin_budget(&spin) > 0;
	assert_int_equal(tried, 10);
	/* And it finds back. */
	for (int i = 0; i < 100; i++)
		spin_learn(&spin, 1000);
	assert_true(spin_budget(&spin) > 0);
}

static void test_never_too_long(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	for (uint64_t wait = 1; wait < 1ULL << 40; wait *= 3) {
		spin_learn(&spin, wait);
		assert_in_range(spin_budget(&spin), 0, SPIN_MAX_NS);
	}
}

static void test_preempted(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	spin_preempted(&spin);
	for (int i = 0; i < SPIN_SKIP; i++)
		assert_int_equal(spin_budget(&spin), 0);
	assert_int_equal(spin_budget(&spin), SPIN_MAX_NS / 2);
	/* It grows back to all of it. */
	for (int i = 0; i < 200; i++)
		spin_learn(&spin, SPIN_WAKE_NS);
	assert_true(spin.limit_ns == SPIN_MAX_NS);
}

/* ---- giving way ------------------------------------------------------------------ */

/* @waits that end so, if they yield. Returns how many did. No wait is longer for its frames. */
static unsigned int yields(struct spin *spin, unsigned int waits, unsigned int found, uint64_t took_ns)
{
	unsigned int done = 0;

	while (waits--) {
		enum spin_yield yield = spin_may_yield(spin, 0);

		if (yield == YIELD_NOT)
			continue;
		spin_yielded(spin, found, yield == YIELD_TIMED ? took_ns : 0);
		done++;
	}
	return done;
}

/* As long as it pays each wait yields, and one in some is timed, the first among them. */
static void test_yields(void **state)
{
	unsigned int timed = 0;
	struct spin spin;

	(void)state;
	spin_init(&spin);
	for (int i = 0; i < 10 * YIELD_SAMPLE; i++) {
		enum spin_yield yield = spin_may_yield(&spin, 0);

		assert_int_not_equal(yield, YIELD_NOT);
		timed += yield == YIELD_TIMED;
		if (!i)
			assert_int_equal(timed, 1);
		spin_yielded(&spin, 1, yield == YIELD_TIMED ? YIELD_LONG_NS + YIELD_FOUND_NS : 0);
	}
	assert_int_equal(timed, 10);
}

/* A partner that is never done in time. */
static void test_yields_for_nothing(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	/* 1, 2, 4, ... waits without one. */
	assert_int_equal(yields(&spin, 1 + 2 + 3 + 5 + 9 + 17 + 33, 0, 1000), 7);
	assert_int_equal(yields(&spin, 100 * (YIELD_SKIP + 1), 0, 1000), 100);
	/* One that is found, and it is half as long; soon it is as before. */
	assert_int_equal(yields(&spin, 3 * YIELD_SKIP, 1, 1000), 3 * YIELD_SKIP - (2 * YIELD_SKIP - 1));
	assert_int_equal(yields(&spin, 1000, 1, 1000), 1000);
}

/* Somebody else wants the CPU: what a yield costs is then shared by thousands of waits. */
static void test_yields_that_are_long(void **state)
{
	struct spin spin;

	(void)state;
	spin_init(&spin);
	assert_int_equal(yields(&spin, 1 + YIELD_REST, 1, YIELD_LONG_NS + YIELD_FOUND_NS + 1), 1);
	assert_in_range(yields(&spin, 100 * YIELD_REST_MAX, 1, 3000000), 95, 102);
	/* What finds nothing makes it no shorter. */
	assert_in_range(yields(&spin, 10 * YIELD_REST_MAX, 0, 1000), 9, 11);
	/* It is alone again. */
	(void)yields(&spin, 3 * YIELD_REST_MAX, 1, 1000);
	assert_int_equal(yields(&spin, 1000, 1, 1000), 1000);
}

/* A partner that had much to do is no third program; and who finds much in each wait rests for fewer. */
static void test_yields_for_many(void **state)
{
	uint64_t may_take = YIELD_LONG_NS + 256 * YIELD_FOUND_NS;
	unsigned int waits = 0;
	struct spin spin;

	(void)state;
	spin_init(&spin);
	assert_int_equal(yields(&spin, 1000, 256, may_take), 1000);
	spin_init(&spin);
	assert_int_equal(yields(&spin, 1, 256, may_take + 1), 1);
	for (uint32_t found = 256; spin_may_yield(&spin, found) == YIELD_NOT; found += 256)
		waits++;
	assert_int_equal(waits, YIELD_REST / 256);
	/* Also where one wait finds more than is left. */
	assert_int_equal(yields(&spin, 1, 1, may_take), 1);
	assert_int_equal(spin_may_yield(&spin, UINT32_MAX), YIELD_NOT);
	assert_int_not_equal(spin_may_yield(&spin, 0), YIELD_NOT);
}

/* However seldom they are long, those that are don't take more than a microsecond or two of each wait. */
static void test_yields_that_may_be_long(void **state)
{
	(void)state;
	for (unsigned int one_in = 1; one_in <= 100000; one_in *= 3) {
		unsigned int done = 0, longs = 0, waits = 2000000;
		struct spin spin;

		spin_init(&spin);
		for (unsigned int i = 0; i < waits; i++) {
			enum spin_yield yield = spin_may_yield(&spin, 0);
			bool is_long;

			if (yield == YIELD_NOT)
				continue;
			is_long = (++done * 2654435761U >> 8) % one_in == 0;
			longs += is_long;
			spin_yielded(&spin, 1, is_long && yield == YIELD_TIMED ? 1400000 : 0);
		}
		print_message("one in %u long: %u yields, %u long\n", one_in, done, longs);
		/* 1.4 ms each. */
		assert_true(longs * 1400ULL < 2ULL * waits);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first), cmocka_unit_test(test_short_waits),
		cmocka_unit_test(test_long_waits), cmocka_unit_test(test_never_too_long),
		cmocka_unit_test(test_preempted), cmocka_unit_test(test_yields),
		cmocka_unit_test(test_yields_for_nothing), cmocka_unit_test(test_yields_that_are_long),
		cmocka_unit_test(test_yields_for_many), cmocka_unit_test(test_yields_that_may_be_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
