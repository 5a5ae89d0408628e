/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * cmocka.h - as much of cmocka as abi.h and the tests compiled for 32 bits use
 *
 * Debian's cmocka is for the machine's own word. The output is the TAP that the suite reads.
 */
#ifndef SHMIPC_TESTS_M32_CMOCKA_H
#define SHMIPC_TESTS_M32_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*test)(void **state);
	int (*teardown)(void **state);
};

#define cmocka_unit_test_teardown(fn, down)	{ #fn, (fn), (down) }

static sigjmp_buf m32_failed;

static inline void _fail(const char *file, int line)
{
	printf("# %s:%d: failed\n", file, line);
	fflush(stdout);
	if (getenv("CMOCKA_TEST_ABORT"))
		abort();	/* a child: the tests that follow are its parent's */
	siglongjmp(m32_failed, 1);
}

#define fail()			_fail(__FILE__, __LINE__)
#define print_message		printf
#define print_error		printf
#define assert_true(c)		((c) ? (void)0 : fail())
#define assert_non_null(p)	assert_true((p) != NULL)
#define assert_null(p)		assert_true((p) == NULL)
#define assert_int_equal(a, b)	assert_true((long long)(a) == (long long)(b))
#define assert_ptr_equal(a, b)	assert_true((const void *)(a) == (const void *)(b))
#define assert_ptr_not_equal(a, b) assert_true((const void *)(a) != (const void *)(b))
#define assert_string_equal(a, b) assert_true(!strcmp((a), (b)))
#define assert_memory_equal(a, b, n) assert_true(!memcmp((a), (b), (n)))

static inline int m32_run(const struct CMUnitTest *t)
{
	void *state = NULL;
	volatile int failed = 1;

	if (!sigsetjmp(m32_failed, 1)) {
		t->test(&state);
		failed = 0;
	}
	if (!sigsetjmp(m32_failed, 1))
		t->teardown(&state);
	else
		failed = 1;
	return failed;
}

static inline int m32_run_all(const struct CMUnitTest *t, int nr)
{
	int i, failed, sum = 0;

	printf("1..%d\n", nr);
	for (i = 0; i < nr; i++) {
		failed = m32_run(&t[i]);
		sum += failed;
		printf("%sok %d - %s\n", failed ? "not " : "", i + 1, t[i].name);
		fflush(stdout);
	}
	return sum;
}

#define cmocka_run_group_tests(tests, up, down) \
	((void)(down), m32_run_all((tests), sizeof(tests) / sizeof(*(tests))))

#endif
