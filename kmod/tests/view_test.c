// SPDX-License-Identifier: GPL-2.0-only
/* Included by view.c. The place of views among an endpoint's offsets. */
#include <linux/prandom.h>

#include "fixture.h"

static void view_offsets(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	u64 a, b, c;
	long h;

	shmipc_test_segment(test, file, PAGE_SIZE, &a);
	h = shmipc_test_segment(test, file, PAGE_SIZE, &b);
	KUNIT_EXPECT_EQ(test, b, a + PAGE_SIZE);
	KUNIT_EXPECT_GE(test, a, (u64)OFFSET_FIRST << PAGE_SHIFT);
	/* Not used again at once. */
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, h, 0), 0L);
	shmipc_test_segment(test, file, PAGE_SIZE, &c);
	KUNIT_EXPECT_EQ(test, c, b + PAGE_SIZE);
	/* Large ones begin where a page table does. */
	shmipc_test_segment(test, file, 2 << 20, &c);
	KUNIT_EXPECT_EQ(test, c & ((2 << 20) - 1), 0ULL);
	/* At the end of all offsets the search goes round, past what is in use. */
	ep->view_cursor = OFFSET_END - 1;
	shmipc_test_segment(test, file, 2 * PAGE_SIZE, &c);
	KUNIT_EXPECT_EQ(test, c, a + PAGE_SIZE * 3);
	KUNIT_EXPECT_EQ(test, find_gap(ep, OFFSET_END), 0UL);
}

static void view_no_room(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	u64 off;

	shmipc_test_segment(test, file, PAGE_SIZE, &off);
	/* All that is left lies before or behind it. */
	KUNIT_EXPECT_EQ(test, find_gap(ep, OFFSET_END - OFFSET_FIRST), 0UL);
	KUNIT_EXPECT_NE(test, find_gap(ep, (OFFSET_END - OFFSET_FIRST) / 2), 0UL);
}

/* The tree against a search from left to right. */
#define MANY	200

static unsigned long gap_by_hand(struct shmipc_endpoint *ep, unsigned long npages,
				 unsigned long low)
{
	struct rb_node *n;

	for (n = rb_first(&ep->views); n; n = rb_next(n)) {
		if (view_end(view_at(n)) <= low)
			continue;
		if (view_at(n)->start > low && view_at(n)->start - low >= npages)
			return low;
		low = view_end(view_at(n));
	}
	return low;
}

static void check_tree(struct kunit *test, struct shmipc_endpoint *ep)
{
	struct shmipc_view *before = NULL;
	struct rb_node *n;

	for (n = rb_first(&ep->views); n; n = rb_next(n)) {
		struct shmipc_view *view = view_at(n);
		unsigned long most = view->gap;

		KUNIT_ASSERT_GE(test, view->start, view_end(before));
		KUNIT_ASSERT_EQ(test, view->gap, view->start - view_end(before));
		if (n->rb_left)
			most = max(most, view_at(n->rb_left)->max_gap);
		if (n->rb_right)
			most = max(most, view_at(n->rb_right)->max_gap);
		KUNIT_ASSERT_EQ(test, view->max_gap, most);
		before = view;
	}
}

static void view_tree(struct kunit *test)
{
	struct shmipc_endpoint *ep = shmipc_test_ep(shmipc_test_open(test));
	struct shmipc_view *views = kunit_kcalloc(test, MANY, sizeof(*views), GFP_KERNEL);
	struct rnd_state rnd;
	int i, round;

	KUNIT_ASSERT_NOT_NULL(test, views);
	prandom_seed_state(&rnd, 4711);
	for (round = 0; round < 4000; round++) {
		struct shmipc_view *view = &views[prandom_u32_state(&rnd) % MANY];
		u32 r = prandom_u32_state(&rnd);

		if (view->obj.ep) {
			view_unplace(view);
			shmipc_endpoint_put(view->obj.ep);
			view->obj.ep = NULL;
		} else {
			view->npages = 1 + (r & 0x1000 ? r % 1000 : r % 4);
			if (r & 0x2000)
				ep->view_cursor = OFFSET_FIRST + (r >> 16) % 5000;
			KUNIT_ASSERT_EQ(test, shmipc_view_place(view, ep), 0);
		}
		KUNIT_ASSERT_EQ(test, gap_from(ep, r % 50 + 1, OFFSET_FIRST + (r >> 16) % 9000),
				gap_by_hand(ep, r % 50 + 1, OFFSET_FIRST + (r >> 16) % 9000));
		if (round % 50 == 0)
			check_tree(test, ep);
	}
	for (i = 0; i < MANY; i++) {
		if (!views[i].obj.ep)
			continue;
		view_unplace(&views[i]);
		shmipc_endpoint_put(views[i].obj.ep);
	}
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&ep->views));
}

static struct kunit_case view_cases[] = {
	KUNIT_CASE(view_offsets),
	KUNIT_CASE(view_no_room),
	KUNIT_CASE(view_tree),
	{}
};

SHMIPC_TEST_SUITE(view);
