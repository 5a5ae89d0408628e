// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A session's private tables: all zero, and all given back. */
#include <unistd.h>
#include "duo.h"
#include "reborn.h"
#include "table.h"

/* KiB of address space. A sanitizer's tables are the C library's, and its leak check looks at them. */
static long size_of_this(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_zero(void **state)
{
	uint64_t *table;

	(void)state;
	for (int round = 0; round < 3; round++) {
		table = table_alloc(1000, 13 * sizeof(*table));
		assert_non_null(table);
		for (int i = 0; i < 13000; i++) {
			assert_int_equal(table[i], 0);
			table[i] = i + 1;
		}
		table_free(table, 1000, 13 * sizeof(*table));
	}
	table_free(NULL, 1000, 8);
}

static void round_of_sessions(struct duo *d)
{
	struct shmipc_session *a, *b;

	duo_connect(d->a_ep, d->b_ep, NULL, &a, &b);
	shmipc_session_close(a);
	shmipc_session_close(b);
	assert_int_equal(reborn(&d->a, true), 0);
}

/* Sessions that end, and those that go on in another process, leave none behind. */
static void test_given_back(void **state)
{
	long before;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 20; i++)
		round_of_sessions(&d);
	before = size_of_this();
	for (int i = 0; i < 100; i++)
		round_of_sessions(&d);
#ifndef __SANITIZE_ADDRESS__
	/* The least of them would be 2,000. */
	assert_in_range(size_of_this() - before + 1000, 0, 2000);
#endif
	(void)before;
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero), cmocka_unit_test(test_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
