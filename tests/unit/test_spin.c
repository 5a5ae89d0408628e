// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The policy of adaptive spinning: it learns both ways, and stops after a preemption. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first), cmocka_unit_test(test_short_waits),
		cmocka_unit_test(test_long_waits), cmocka_unit_test(test_never_too_long),
		cmocka_unit_test(test_preempted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
