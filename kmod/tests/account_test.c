// SPDX-License-Identifier: GPL-2.0-only
/* Included by account.c. Users, charges and caps. */
#include "fixture.h"

/* Caps for one case: they are the module's parameters. */
struct caps {
	ulong user_pages, total_pages, reserve, endpoints;
	uint share;
};

static struct caps caps_set(ulong user_pages, ulong total, ulong reserve)
{
	struct caps old = {
		user_pages_max, total_pages_max, reserve_pages, endpoints_max, user_share,
	};

	user_pages_max = user_pages;
	total_pages_max = total;
	reserve_pages = reserve;
	return old;
}

static void caps_restore(const struct caps *old)
{
	user_pages_max = old->user_pages;
	total_pages_max = old->total_pages;
	reserve_pages = old->reserve;
	endpoints_max = old->endpoints;
	user_share = old->share;
}

static void account_same_user(struct kunit *test)
{
	struct shmipc_user *a = shmipc_user_find(KUIDT_INIT(1000));
	struct shmipc_user *b = shmipc_user_find(KUIDT_INIT(1000));
	struct shmipc_user *c = shmipc_user_find(KUIDT_INIT(1001));

	KUNIT_EXPECT_PTR_EQ(test, a, b);
	KUNIT_EXPECT_PTR_NE(test, a, c);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_live[SHMIPC_LIVE_users]), 2L);
	shmipc_user_put(c);
	shmipc_user_put(b);
	/* Kept by the other reference. */
	b = shmipc_user_find(KUIDT_INIT(1000));
	KUNIT_EXPECT_PTR_EQ(test, a, b);
	shmipc_user_put(b);
	shmipc_user_put(a);
}

static void account_user_cap(struct kunit *test)
{
	struct caps old = caps_set(10, 1000, 0);
	struct shmipc_user *user = shmipc_user_find(KUIDT_INIT(1000));

	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 11), -EDQUOT);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&total_pages), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 10), 0);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 1), -EDQUOT);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&user->pages), 10L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&total_pages), 10L);
	shmipc_uncharge(user, 10);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&user->pages), 0L);
	shmipc_user_put(user);
	caps_restore(&old);
}

static void account_total_cap(struct kunit *test)
{
	struct caps old = caps_set(1000, 20, 5);
	struct shmipc_user *user = shmipc_user_find(KUIDT_INIT(1000));
	struct shmipc_user *other = shmipc_user_find(KUIDT_INIT(1001));

	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 10), 0);
	/* 15 for everybody, 5 in reserve. */
	KUNIT_EXPECT_EQ(test, shmipc_charge(other, 6), -ENOSPC);
	KUNIT_EXPECT_EQ(test, shmipc_charge(other, 5), 0);
	KUNIT_EXPECT_EQ(test, shmipc_charge(other, 1), -ENOSPC);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&other->pages), 5L);
	shmipc_test_restore(test);
	KUNIT_EXPECT_EQ(test, shmipc_charge(other, 6), -ENOSPC);
	KUNIT_EXPECT_EQ(test, shmipc_charge(other, 5), 0);
	shmipc_uncharge(other, 10);
	shmipc_uncharge(user, 10);
	shmipc_user_put(other);
	shmipc_user_put(user);
	caps_restore(&old);
}

/* CAP_SYS_RESOURCE is over its user's cap, and not over the machine's. */
static void account_exempt(struct kunit *test)
{
	struct caps old = caps_set(10, 100, 0);
	struct shmipc_user *user = shmipc_user_find(KUIDT_INIT(0));

	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 50), 0);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 51), -ENOSPC);
	shmipc_uncharge(user, 50);
	shmipc_user_put(user);
	caps_restore(&old);
}

/* A cap that is lowered below what is charged refuses more, and overflows nothing. */
static void account_lowered_cap(struct kunit *test)
{
	struct caps old = caps_set(100, 100, 0);
	struct shmipc_user *user = shmipc_user_find(KUIDT_INIT(1000));

	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 60), 0);
	user_pages_max = 10;
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 1), -EDQUOT);
	total_pages_max = 10;
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, 1), -ENOSPC);
	KUNIT_EXPECT_EQ(test, shmipc_charge(user, ULONG_MAX), -ENOSPC);
	shmipc_uncharge(user, 60);
	shmipc_user_put(user);
	caps_restore(&old);
}

static void account_move(struct kunit *test)
{
	struct caps old = caps_set(10, 100, 0);
	struct shmipc_user *from = shmipc_user_find(KUIDT_INIT(1000));
	struct shmipc_user *to = shmipc_user_find(KUIDT_INIT(1001));

	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_EQ(test, shmipc_charge(from, 10), 0);
	KUNIT_EXPECT_EQ(test, shmipc_charge(to, 5), 0);
	/* Nobody can fill another's cap. */
	KUNIT_EXPECT_FALSE(test, shmipc_charge_move(from, to, 6, false));
	KUNIT_EXPECT_EQ(test, atomic_long_read(&from->pages), 10L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->pages), 5L);
	KUNIT_EXPECT_TRUE(test, shmipc_charge_move(from, to, 5, false));
	KUNIT_EXPECT_EQ(test, atomic_long_read(&from->pages), 5L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&to->pages), 10L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&total_pages), 15L);
	KUNIT_EXPECT_EQ(test, shmipc_charge(to, 1), -EDQUOT);
	shmipc_uncharge(from, 5);
	shmipc_uncharge(to, 10);
	shmipc_user_put(to);
	shmipc_user_put(from);
	caps_restore(&old);
}

/* A user has three quarters of what is counted and not paged. */
static void account_share(struct kunit *test)
{
	struct caps old = caps_set(1000, 1000, 0);
	struct shmipc_user *user = shmipc_user_find(KUIDT_INIT(1000));
	struct shmipc_user *other = shmipc_user_find(KUIDT_INIT(1001));
	int i;

	endpoints_max = 8;
	user_share = 75;
	shmipc_test_become(test, 1000, 1000);
	for (i = 0; i < 6; i++)
		KUNIT_EXPECT_EQ(test, shmipc_endpoint_charge(user), 0);
	KUNIT_EXPECT_EQ(test, shmipc_endpoint_charge(user), -EDQUOT);
	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, shmipc_endpoint_charge(other), 0);
	KUNIT_EXPECT_EQ(test, shmipc_endpoint_charge(other), -ENOSPC);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&total_endpoints), 8L);
	for (i = 0; i < 6; i++)
		shmipc_endpoint_uncharge(user);
	for (i = 0; i < 2; i++)
		shmipc_endpoint_uncharge(other);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&total_endpoints), 0L);
	shmipc_user_put(other);
	shmipc_user_put(user);
	caps_restore(&old);
}

/* An open that is refused leaves nothing behind; the fixture looks. */
static void account_open_refused(struct kunit *test)
{
	struct caps old = caps_set(1000, 1000, 0);
	struct file *file;

	endpoints_max = 0;
	file = shmipc_test_open_unbound(test);
	KUNIT_EXPECT_TRUE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(file), -ENOSPC);
	endpoints_max = 1;
	KUNIT_EXPECT_FALSE(test, IS_ERR(shmipc_test_open_unbound(test)));
	KUNIT_EXPECT_TRUE(test, IS_ERR(shmipc_test_open_unbound(test)));
	caps_restore(&old);
}

static void account_query(struct kunit *test)
{
	struct caps old = caps_set(10, 100, 0);
	struct shmipc_query q = { .size = sizeof(q) };
	struct file *file = shmipc_test_open(test);

	KUNIT_EXPECT_GT(test, shmipc_test_segment(test, file, 3 * PAGE_SIZE, NULL), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_QUERY, &q), 0L);
	KUNIT_EXPECT_EQ(test, q.out_user_pages, 3ULL);
	KUNIT_EXPECT_EQ(test, q.out_user_pages_max, 10ULL);
	KUNIT_EXPECT_EQ(test, q.out_total_pages, 3ULL);
	KUNIT_EXPECT_EQ(test, q.out_total_pages_max, 100ULL);
	KUNIT_EXPECT_STREQ(test, (char *)q.out_version, SHMIPC_VERSION);
	caps_restore(&old);
}

static struct kunit_case account_cases[] = {
	KUNIT_CASE(account_same_user),
	KUNIT_CASE(account_user_cap),
	KUNIT_CASE(account_total_cap),
	KUNIT_CASE(account_exempt),
	KUNIT_CASE(account_lowered_cap),
	KUNIT_CASE(account_move),
	KUNIT_CASE(account_share),
	KUNIT_CASE(account_open_refused),
	KUNIT_CASE(account_query),
	{}
};

SHMIPC_TEST_SUITE(account);
