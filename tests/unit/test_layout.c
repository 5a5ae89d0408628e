// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Geometry: what is written is read back, and no other header is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "arena.h"
#include "barrier.h"
#include "layout.h"

static const uint32_t stream_counts[] = { 2, 4, 64, 128, 130, 1000, 1024, 1026, 16384 };

#define NCOUNTS (sizeof(stream_counts) / sizeof(stream_counts[0]))

static void test_parts_do_not_overlap(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NCOUNTS; i++) {
		struct geometry g;

		geometry_for(&g, stream_counts[i]);
		assert_int_equal(g.slots & (g.slots - 1), 0);
		assert_int_equal(g.returns & (g.returns - 1), 0);
		assert_in_range(g.slots, SLOTS_MIN, SLOTS_MAX);
		/* Live ids are 16 bits, and one return of each must fit. */
		assert_in_range(g.live, g.slots, UINT16_MAX);
		assert_true(g.returns >= g.live);
		assert_true(g.control >= sizeof(struct segment_header));
		assert_true(g.ring >= g.control + sizeof(struct control));
		assert_int_equal(g.ring % sizeof(struct frame), 0);
		assert_true(g.live_table >= g.ring + g.slots * sizeof(struct frame));
		assert_true(g.return_ring >= g.live_table + g.live * sizeof(struct frame));
		assert_true(g.stream_table >= g.return_ring + g.returns * sizeof(uint64_t));
		assert_int_equal(g.stream_table % 64, 0);
		assert_true(g.arena >= g.stream_table + g.streams * sizeof(struct stream_record));
		assert_int_equal(g.arena % 4096, 0);
	}
}

static void test_honest(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NCOUNTS; i++) {
		struct geometry g, back;
		char *segment;

		geometry_for(&g, stream_counts[i]);
		segment = calloc(1, g.arena);
		geometry_write(&g, segment);
		assert_true(geometry_read(&back, segment, g.arena));
		assert_memory_equal(&g, &back, sizeof(g));
		/* One page short of its own parts. */
		assert_false(geometry_read(&back, segment, g.arena - 4096));
		assert_false(geometry_read(&back, segment, 63));
		assert_false(geometry_read(&back, segment, 0));
		free(segment);
	}
}

static const struct lie {
	const char *field;
	size_t offset, size;
	uint64_t value;
} lies[] = {
#define LIE(f, v) { #f " = " #v, offsetof(struct segment_header, f), \
		    sizeof(((struct segment_header *)0)->f), v }
	LIE(magic, 0), LIE(magic, UINT64_MAX), LIE(version, 0), LIE(version, 2),
	LIE(slots, 0), LIE(slots, 1), LIE(slots, 64), LIE(slots, 127), LIE(slots, 256),
	LIE(slots, UINT32_MAX), LIE(slots, 0x80000000), LIE(live, 0), LIE(live, 383),
	LIE(live, 385), LIE(live, UINT32_MAX), LIE(returns, 0), LIE(returns, 256),
	LIE(returns, 1024), LIE(returns, UINT32_MAX), LIE(streams, 0), LIE(streams, 1),
	LIE(streams, 127), LIE(streams, 16385), LIE(streams, UINT32_MAX),
};

static void test_liars(void **state)
{
	struct geometry g, back;
	char *segment;

	(void)state;
	geometry_for(&g, 128);
	segment = calloc(1, 1 << 20);
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		geometry_write(&g, segment);
		assert_true(geometry_read(&back, segment, 1 << 20));
		memcpy(segment + lies[i].offset, &lies[i].value, lies[i].size);
		if (geometry_read(&back, segment, 1 << 20))
			fail_msg("believed %s", lies[i].field);
	}
	free(segment);
}

/* The rule, spelled out with 64 bits: due iff before <= event < now. */
static void test_event_due(void **state)
{
	static const uint32_t starts[] = { 0, 1, 1000, 0x7ffffff0, 0x80000000, 0xfffffff0,
					   0xffffffff };

	(void)state;
	for (unsigned int s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
		for (uint32_t step = 0; step < 20; step++)
			for (int32_t event = -20; event < 40; event++) {
				uint32_t before = starts[s];
				bool due = event >= 0 && (uint32_t)event < step;

				assert_int_equal(event_due(before + event, before, before + step),
						 due);
			}
	/* Whatever nonsense a peer writes: at most one in a window is due. */
	assert_false(event_due(5, 5, 5));
	assert_true(event_due(0, 0, UINT32_MAX));
	assert_false(event_due(UINT32_MAX, 0, UINT32_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_do_not_overlap), cmocka_unit_test(test_honest),
		cmocka_unit_test(test_liars), cmocka_unit_test(test_event_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
