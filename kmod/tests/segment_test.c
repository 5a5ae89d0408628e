// SPDX-License-Identifier: GPL-2.0-only
/* Included by segment.c. Pages: how they are had, who pays for them, who keeps them. */
#include <linux/fault-inject.h>

#include "fixture.h"

/* The owner's view, referenced. */
static struct shmipc_view *owner_of(struct file *file, u32 handle)
{
	struct shmipc_object *obj = shmipc_handle_get(shmipc_test_ep(file), handle,
						      SHMIPC_KIND_SEGMENT);

	return IS_ERR(obj) ? NULL : shmipc_view_of(obj);
}

static void expect_zero(struct kunit *test, struct page **pages, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n; i++) {
		KUNIT_ASSERT_NULL(test, memchr_inv(page_address(pages[i]), 0, PAGE_SIZE));
		/* Of its own, so that it can be freed by itself. */
		KUNIT_ASSERT_EQ(test, page_count(pages[i]), 1);
		KUNIT_ASSERT_FALSE(test, PageCompound(pages[i]));
	}
}

static void segment_lengths(struct kunit *test)
{
	static const struct {
		u64 length;
		int err;
		unsigned long npages;
	} rows[] = {
		{ 0, -EINVAL },
		{ 1, 0, 1 },
		{ PAGE_SIZE, 0, 1 },
		{ PAGE_SIZE + 1, 0, 2 },
		{ (u64)SHMIPC_SEGMENT_PAGES_MAX << PAGE_SHIFT, 0, SHMIPC_SEGMENT_PAGES_MAX },
		{ ((u64)SHMIPC_SEGMENT_PAGES_MAX << PAGE_SHIFT) + 1, -EINVAL },
		{ U64_MAX - PAGE_SIZE + 2, -EOVERFLOW },
		{ U64_MAX, -EOVERFLOW },
	};
	unsigned long npages;
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shmipc_seg_create arg = { .length = rows[i].length };

		KUNIT_EXPECT_EQ_MSG(test, create_check(&arg, &npages), rows[i].err, "row %d", i);
		if (!rows[i].err)
			KUNIT_EXPECT_EQ_MSG(test, npages, rows[i].npages, "row %d", i);
	}
}

static void segment_flags(struct kunit *test)
{
	struct shmipc_seg_create arg = { .length = 1, .flags = SHMIPC_SEG_PINNABLE };
	unsigned long npages;

	KUNIT_EXPECT_EQ(test, create_check(&arg, &npages), -EOPNOTSUPP);
	arg.flags = 0;
	arg.__reserved = 1;
	KUNIT_EXPECT_EQ(test, create_check(&arg, &npages), -EINVAL);
}

/* Dirtied pages are given back, taken again, and are zero. */
static void segment_zeroed(struct kunit *test)
{
	struct page **pages;
	int round, i;

	for (round = 0; round < 3; round++) {
		pages = pages_alloc(700);
		KUNIT_ASSERT_FALSE(test, IS_ERR(pages));
		expect_zero(test, pages, 700);
		for (i = 0; i < 700; i++)
			memset(page_address(pages[i]), 0xa5, PAGE_SIZE);
		pages_free(pages, 700);
	}
}

/* The first chunk comes in one piece where there is memory. */
static void segment_large_chunks(struct kunit *test)
{
	struct page **pages = pages_alloc(512);
	int i, breaks = 0;

	KUNIT_ASSERT_FALSE(test, IS_ERR(pages));
	for (i = 1; i < 512; i++)
		breaks += page_to_pfn(pages[i]) != page_to_pfn(pages[i - 1]) + 1;
	KUNIT_EXPECT_LT(test, breaks, 64);
	pages_free(pages, 512);
}

#ifdef CONFIG_FAIL_PAGE_ALLOC
/* The n-th try for a large chunk fails: a smaller one is taken, and nothing is lost. */
static void segment_fallback(struct kunit *test)
{
	struct page **pages;
	int n;

	for (n = 1; n <= 4; n++) {
		unsigned int order = CHUNK_ORDER;
		struct page *page;

		current->fail_nth = n;
		for (int k = 1; k <= n; k++) {
			page = alloc_chunk(&order);
			KUNIT_ASSERT_NOT_NULL(test, page);
			KUNIT_EXPECT_EQ(test, order, k < n ? CHUNK_ORDER : CHUNK_ORDER - 1);
			for (int i = 0; i < 1 << order; i++)
				__free_page(page + i);
		}
		KUNIT_EXPECT_EQ(test, current->fail_nth, 0U);
		current->fail_nth = n;
		pages = pages_alloc(2048);
		current->fail_nth = 0;
		KUNIT_ASSERT_FALSE(test, IS_ERR(pages));
		expect_zero(test, pages, 2048);
		pages_free(pages, 2048);
	}
}
#else
static void segment_fallback(struct kunit *test)
{
	/* Goes on: what kunit_skip() ends is the thread that has the address space. */
	kunit_mark_skipped(test, "no fault injection in this kernel");
}
#endif

/* Single pages from the start. */
static void segment_single_pages(struct kunit *test)
{
	unsigned int order = 0;
	struct page *page = alloc_chunk(&order);

	KUNIT_ASSERT_NOT_NULL(test, page);
	expect_zero(test, &page, 1);
	KUNIT_EXPECT_EQ(test, order, 0U);
	__free_page(page);
}

static void segment_charged(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	struct shmipc_user *user = shmipc_test_ep(file)->user;
	long seg = shmipc_test_segment(test, file, 5 * PAGE_SIZE, NULL);

	KUNIT_ASSERT_GT(test, seg, 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&user->pages), 5L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, seg, 0), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&user->pages), 0L);
}

/* The owner is uid 1000, whose segment of 3 pages uid 1001 is granted. */
struct inherit {
	struct shmipc_test_pair p;
	struct shmipc_user *giver, *heir;
	long seg;
};

static void inherit_init(struct kunit *test, struct inherit *in, const char *name)
{
	struct shmipc_test_pair *p = &in->p;
	unsigned long addr;
	u64 offset;

	shmipc_test_become(test, 1000, 1000);
	p->a = shmipc_test_open(test);
	in->giver = shmipc_test_ep(p->a)->user;
	p->listener = shmipc_test_bind(test, p->a, name, 1);
	in->seg = shmipc_test_segment(test, p->a, 3 * PAGE_SIZE, &offset);
	addr = shmipc_test_mmap(p->a, offset, PAGE_SIZE, PROT_READ | PROT_WRITE);
	KUNIT_EXPECT_EQ(test, shmipc_test_poke(addr, 77), 0);
	shmipc_test_become(test, 1001, 1001);
	p->b = shmipc_test_open(test);
	in->heir = shmipc_test_ep(p->b)->user;
	p->sb = shmipc_test_connect(test, p->b, name, 0);
	p->sa = shmipc_test_accept(test, p->a, p->listener, in->seg);
	KUNIT_ASSERT_GT(test, (s32)p->sa, 0);
}

static unsigned long inherit_map(struct kunit *test, struct inherit *in)
{
	return shmipc_test_mmap(in->p.b, shmipc_test_slot(test, in->p.b, in->p.sb, 0), PAGE_SIZE,
				PROT_READ);
}

static void expect_pages(struct kunit *test, struct inherit *in, long giver, long heir)
{
	KUNIT_EXPECT_EQ(test, atomic_long_read(&in->giver->pages), giver);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&in->heir->pages), heir);
}

/* The owner goes; the peer that mapped it keeps it, and pays from then on. */
static void segment_heir_pays(struct kunit *test)
{
	struct inherit in;
	unsigned long addr;
	u32 v;

	inherit_init(test, &in, "kunit.heir");
	addr = inherit_map(test, &in);
	expect_pages(test, &in, 3, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, in.p.a, in.seg, 0), 0L);
	expect_pages(test, &in, 0, 3);
	KUNIT_EXPECT_EQ(test, shmipc_test_peek(addr, &v), 0);
	KUNIT_EXPECT_EQ(test, v, 77U);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, in.p.b, in.p.sb, 0), 0L);
	expect_pages(test, &in, 0, 0);
}

/* Nobody can refuse a grant: what was never mapped is not paid for. */
static void segment_unmapped_heir(struct kunit *test)
{
	struct inherit in;

	inherit_init(test, &in, "kunit.unmapped");
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, in.p.a, in.seg, 0), 0L);
	expect_pages(test, &in, 3, 0);
	/* Late is not too late. */
	KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(inherit_map(test, &in)));
	expect_pages(test, &in, 0, 3);
}

static void segment_heir_at_cap(struct kunit *test)
{
	struct inherit in;

	inherit_init(test, &in, "kunit.cap");
	inherit_map(test, &in);
	/* As much as a cap below 2^62 pages can be exceeded by. */
	atomic_long_add(1L << 62, &in.heir->pages);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, in.p.a, in.seg, 0), 0L);
	expect_pages(test, &in, 3, 1L << 62);
	atomic_long_sub(1L << 62, &in.heir->pages);
}

/* Granted in two sessions: freed with the last grant, and not before. */
static void segment_last_grant(struct kunit *test)
{
	struct shmipc_test_pair p;
	struct shmipc_view *owner;
	long s2, t2;

	shmipc_test_pair(test, &p, "kunit.last");
	s2 = shmipc_test_connect(test, p.b, "kunit.last", 0);
	t2 = shmipc_test_accept(test, p.a, p.listener, p.ga);
	KUNIT_ASSERT_GT(test, s2, 0L);
	KUNIT_ASSERT_GT(test, t2, 0L);
	owner = owner_of(p.a, p.ga);
	KUNIT_ASSERT_NOT_NULL(test, owner);
	KUNIT_EXPECT_EQ(test, owner->segment->nr_grants, 2U);
	shmipc_view_put(owner);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.ga, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, p.sa, 0), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_segments]), 2L);
	KUNIT_EXPECT_EQ(test, shmipc_test_revoke(test, p.a, t2, 0), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_segments]), 1L);
}

static void segment_info(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	u64 offset;
	u32 seg = shmipc_test_segment(test, file, PAGE_SIZE + 1, &offset);
	struct shmipc_seg_info arg = { .size = sizeof(arg), .handle = seg };

	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_INFO, &arg), 0L);
	KUNIT_EXPECT_EQ(test, arg.out_length, 2ULL * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, arg.out_offset, offset);
	KUNIT_EXPECT_EQ(test, arg.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	KUNIT_EXPECT_EQ(test, arg.out_grants, 0U);
	arg.slot = 1;
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_INFO, &arg),
			(long)-EINVAL);
}

static struct kunit_case segment_cases[] = {
	KUNIT_CASE(segment_lengths),
	KUNIT_CASE(segment_flags),
	KUNIT_CASE(segment_zeroed),
	KUNIT_CASE(segment_large_chunks),
	KUNIT_CASE(segment_fallback),
	KUNIT_CASE(segment_single_pages),
	KUNIT_CASE(segment_charged),
	KUNIT_CASE(segment_heir_pays),
	KUNIT_CASE(segment_unmapped_heir),
	KUNIT_CASE(segment_heir_at_cap),
	KUNIT_CASE(segment_last_grant),
	KUNIT_CASE(segment_info),
	{}
};

SHMIPC_TEST_SUITE(segment);
