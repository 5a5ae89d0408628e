// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The allocator of payload blocks against a map of who has which byte. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "arena.h"

#define KIB	1024ULL

static struct arena arena;

static void *pretend(uint64_t n)
{
	return (void *)(uintptr_t)(0x100000000ULL * (n + 1));
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(arena_size(1), 128);
	assert_int_equal(arena_size(128), 128);
	assert_int_equal(arena_size(129), 256);
	assert_int_equal(arena_size(257), 512);
	assert_int_equal(arena_size(1 << 20), 1 << 20);
	assert_int_equal(arena_size((1 << 20) + 1), 2 << 20);
	assert_int_equal(arena_size(UINT64_MAX), 0);
	assert_int_equal(arena_size((128ULL << 35) + 1), 0);
	assert_true(arena_size(128ULL << 35) == 128ULL << 35);
}

static void test_addresses(void **state)
{
	struct arena_block block;

	(void)state;
	arena_init(&arena);
	assert_false(arena_alloc(&arena, 1, &block));
	assert_int_equal(arena_add(&arena, 5, pretend(0), 4096, 64 * KIB), 0);
	assert_true(arena_alloc(&arena, 64 * KIB, &block));
	assert_int_equal(arena_slot(&arena, block), 5);
	assert_int_equal(arena_offset(&arena, block), 4096);
	assert_ptr_equal(arena_address(&arena, block), (char *)pretend(0) + 4096);
	assert_false(arena_alloc(&arena, 1, &block));
	arena_free(&arena, block);
	arena_destroy(&arena);
}

/* What was freed last is given first: it is in the cache. */
static void test_last_freed_first(void **state)
{
	struct arena_block a, b, c;

	(void)state;
	arena_init(&arena);
	assert_int_equal(arena_add(&arena, 0, pretend(0), 0, 64 * KIB), 0);
	assert_true(arena_alloc(&arena, 1000, &a));
	assert_true(arena_alloc(&arena, 1000, &b));
	arena_free(&arena, a);
	arena_free(&arena, b);
	assert_true(arena_alloc(&arena, 1000, &c));
	assert_int_equal(c.unit, b.unit);
	assert_true(arena_alloc(&arena, 1000, &c));
	assert_int_equal(c.unit, a.unit);
	arena_destroy(&arena);
}

/* Every unit is used up, one block at a time; then all of it is one block again. */
static void test_exhaust_and_merge(void **state)
{
	struct arena_block blocks[512], block;

	(void)state;
	arena_init(&arena);
	assert_int_equal(arena_add(&arena, 0, pretend(0), 0, 64 * KIB), 0);
	for (int i = 0; i < 512; i++)
		assert_true(arena_alloc(&arena, 1, &blocks[i]));
	assert_false(arena_alloc(&arena, 1, &block));
	for (int i = 0; i < 512; i += 2)
		arena_free(&arena, blocks[i]);
	/* Half is free, but no two neighbours. */
	assert_false(arena_alloc(&arena, 129, &block));
	for (int i = 1; i < 512; i += 2)
		arena_free(&arena, blocks[i]);
	assert_true(arena_alloc(&arena, 64 * KIB, &block));
	arena_destroy(&arena);
}

static void test_extents_full(void **state)
{
	(void)state;
	arena_init(&arena);
	for (int i = 0; i < ARENA_EXTENTS; i++)
		assert_int_equal(arena_add(&arena, i, pretend(i), 0, 4 * KIB), 0);
	assert_int_equal(arena_add(&arena, 0, pretend(0), 0, 4 * KIB), -ENOSPC);
	assert_int_equal(arena.bytes, ARENA_EXTENTS * 4 * KIB);
	arena_destroy(&arena);
}

/* ---- the model -------------------------------------------------------------- */

enum { EXTENTS = 3, BLOCKS = 600 };

/* Sizes that are no powers of two, at an offset that is none. */
static const uint64_t extent_units[EXTENTS] = { 1000, 2048, 777 };
static uint8_t owned[EXTENTS][2048];

struct held {
	struct arena_block block;
	uint32_t units;
};

static void mark(const struct held *h, uint8_t from, uint8_t to)
{
	assert_in_range(h->block.extent, 0, EXTENTS - 1);
	assert_true(h->block.unit + h->units <= extent_units[h->block.extent]);
	for (uint32_t i = 0; i < h->units; i++) {
		assert_int_equal(owned[h->block.extent][h->block.unit + i], from);
		owned[h->block.extent][h->block.unit + i] = to;
	}
}

/* Is there a run of free units that the block would fit into, aligned as buddies are? */
static bool model_fits(uint32_t units)
{
	for (int e = 0; e < EXTENTS; e++)
		for (uint32_t u = 0; u + units <= extent_units[e]; u += units) {
			uint32_t n = 0;

			while (n < units && !owned[e][u + n])
				n++;
			if (n == units)
				return true;
		}
	return false;
}

static void test_model(void **state)
{
	static struct held held[BLOCKS];
	unsigned int n = 0, refused = 0;

	(void)state;
	srandom(1);
	arena_init(&arena);
	for (int e = 0; e < EXTENTS; e++)
		assert_int_equal(arena_add(&arena, e, pretend(e), 4096, extent_units[e] * 128), 0);
	for (int step = 0; step < 60000; step++) {
		/* Fill up, then run down, and so on. */
		bool grow = random() % 100 < (step / 5000 % 2 ? 40 : 60);

		if (grow && n < BLOCKS) {
			uint64_t len = 1 + random() % (1 << random() % 17);
			struct held *h = &held[n];
			uint32_t units = arena_size(len) / 128;
			bool fits = model_fits(units);

			assert_int_equal(arena_alloc(&arena, len, &h->block), fits);
			h->units = units;
			refused += !fits;
			if (fits)
				mark(&held[n++], 0, 1);
		} else if (n) {
			unsigned int i = random() % n;

			mark(&held[i], 1, 0);
			arena_free(&arena, held[i].block);
			held[i] = held[--n];
		}
	}
	assert_true(refused > 100);
	while (n)
		arena_free(&arena, held[--n].block);
	/* All that was cut is whole again: the largest block of each extent, largest first. */
	for (int e = 0; e < EXTENTS; e++) {
		struct arena_block block;

		assert_true(arena_alloc(&arena, (e == 0 ? 2048 : 512) * 128, &block));
	}
	arena_destroy(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_last_freed_first), cmocka_unit_test(test_exhaust_and_merge),
		cmocka_unit_test(test_extents_full), cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
