// SPDX-License-Identifier: GPL-2.0-only
/* Included by handle.c. The handle table: kinds, generations, who gets the reference. */
#include "fixture.h"

static void handle_kinds(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	u32 seg = shmipc_test_segment(test, file, PAGE_SIZE, NULL);
	u32 listener = shmipc_test_bind(test, file, "kunit.kinds", 1);
	struct shmipc_object *obj;

	obj = shmipc_handle_get(ep, seg, SHMIPC_KIND_SEGMENT);
	KUNIT_ASSERT_FALSE(test, IS_ERR(obj));
	KUNIT_EXPECT_EQ(test, obj->handle, seg);
	shmipc_object_put(obj);
	obj = shmipc_handle_get(ep, seg, SHMIPC_KIND_SESSION);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), -EBADF);
	obj = shmipc_handle_get(ep, listener, SHMIPC_KIND_SEGMENT);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), -EBADF);
	obj = shmipc_handle_get(ep, listener + 1000, SHMIPC_KIND_LISTENER);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), -ENOENT);
	obj = shmipc_handle_get_any(ep, 0);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), -ENOENT);
}

/* A reservation names nothing yet. */
static void handle_reserved(struct kunit *test)
{
	struct shmipc_endpoint *ep = shmipc_test_ep(shmipc_test_open(test));
	struct shmipc_object *obj;
	u32 a, b;

	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &a), 0);
	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &b), 0);
	KUNIT_EXPECT_NE(test, a, b);
	KUNIT_EXPECT_NE(test, a, 0U);
	obj = shmipc_handle_get_any(ep, a);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), -ENOENT);
	shmipc_handle_unreserve(ep, a);
	shmipc_handle_unreserve(ep, b);
	KUNIT_EXPECT_TRUE(test, xa_empty(&ep->handles));
}

static void handle_not_reused_soon(struct kunit *test)
{
	struct shmipc_endpoint *ep = shmipc_test_ep(shmipc_test_open(test));
	u32 first, h, i;

	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &first), 0);
	shmipc_handle_unreserve(ep, first);
	for (i = 0; i < 1000; i++) {
		if (shmipc_handle_reserve(ep, &h))
			break;
		shmipc_handle_unreserve(ep, h);
		if (h == first)
			break;
		cond_resched();
	}
	KUNIT_EXPECT_EQ(test, i, 1000U);
}

/* At the table's end it begins anew, and passes over what is in use. */
static void handle_wraps(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	u32 seg = shmipc_test_segment(test, file, PAGE_SIZE, NULL);
	u32 h, k;

	KUNIT_ASSERT_EQ(test, seg, 1U);
	ep->next_handle = (1 << 24) - 1;
	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &h), 0);
	KUNIT_EXPECT_EQ(test, h, (1U << 24) - 1);
	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &k), 0);
	KUNIT_EXPECT_EQ(test, k, 2U);
	shmipc_handle_unreserve(ep, h);
	shmipc_handle_unreserve(ep, k);
}

static void handle_taken_once(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	u32 seg = shmipc_test_segment(test, file, PAGE_SIZE, NULL);
	struct shmipc_object *obj = shmipc_handle_get_any(ep, seg);

	KUNIT_ASSERT_FALSE(test, IS_ERR(obj));
	KUNIT_EXPECT_TRUE(test, shmipc_handle_take(ep, obj));
	KUNIT_EXPECT_FALSE(test, shmipc_handle_take(ep, obj));
	KUNIT_EXPECT_TRUE(test, IS_ERR(shmipc_handle_get_any(ep, seg)));
	/* Our reference still keeps it. */
	KUNIT_EXPECT_EQ(test, shmipc_segment_of(obj)->npages, 1UL);
	shmipc_view_drop(shmipc_view_of(obj));
	shmipc_object_put(obj);
}

static void handle_of_another_endpoint(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long seg = shmipc_test_segment(test, a, PAGE_SIZE, NULL);

	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, b, seg, 0), (long)-ENOENT);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, seg, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, seg, 0), (long)-ENOENT);
}

/* What comes after the end of its endpoint is not published. */
static void handle_after_the_end(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_endpoint *ep = shmipc_test_ep(file);
	struct shmipc_object obj = {};

	KUNIT_ASSERT_EQ(test, shmipc_handle_reserve(ep, &obj.handle), 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, 0, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_handle_publish(ep->att, &obj), -ESTALE);
	shmipc_handle_unreserve(ep, obj.handle);
	KUNIT_EXPECT_EQ(test, shmipc_test_segment(test, file, PAGE_SIZE, NULL), (long)-ESTALE);
}

static struct kunit_case handle_cases[] = {
	KUNIT_CASE(handle_kinds),
	KUNIT_CASE(handle_reserved),
	KUNIT_CASE(handle_not_reused_soon),
	KUNIT_CASE(handle_wraps),
	KUNIT_CASE(handle_taken_once),
	KUNIT_CASE(handle_of_another_endpoint),
	KUNIT_CASE(handle_after_the_end),
	{}
};

SHMIPC_TEST_SUITE(handle);
