// SPDX-License-Identifier: GPL-2.0-only
/* Included by listener.c. Names and their checks, who may connect, quotas, the queue. */
#include "fixture.h"

static int read_name(struct kunit *test, const char *from, u32 len)
{
	char name[SHMIPC_NAME_MAX];

	return shmipc_name_read(name, shmipc_test_user(test, from, len), len);
}

static void listener_name_bytes(struct kunit *test)
{
	static const char good[] = "AZaz09._:/-";
	char one;
	int c;

	for (c = 0; c < 256; c++) {
		one = c;
		KUNIT_EXPECT_EQ_MSG(test, read_name(test, &one, 1),
				    c && strchr(good, c) ? 0 : isascii(c) && isalnum(c) ? 0 :
				    -EINVAL, "byte %d", c);
	}
	/* A bad byte counts wherever it is. */
	KUNIT_EXPECT_EQ(test, read_name(test, "ab c", 4), -EINVAL);
	KUNIT_EXPECT_EQ(test, read_name(test, "abc\0", 4), -EINVAL);
	KUNIT_EXPECT_EQ(test, read_name(test, "abc", 3), 0);
}

static void listener_name_length(struct kunit *test)
{
	char name[SHMIPC_NAME_MAX + 1];

	memset(name, 'x', sizeof(name));
	KUNIT_EXPECT_EQ(test, read_name(test, name, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, read_name(test, name, 1), 0);
	KUNIT_EXPECT_EQ(test, read_name(test, name, SHMIPC_NAME_MAX), 0);
	KUNIT_EXPECT_EQ(test, read_name(test, name, SHMIPC_NAME_MAX + 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, shmipc_name_read(name, 8, 4), -EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_name_read(name, U64_MAX - 1, 4), -EFAULT);
}

static void listener_name_taken(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long l = shmipc_test_bind(test, a, "kunit.name", 1);

	KUNIT_ASSERT_GT(test, l, 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_bind(test, a, "kunit.name", 1), (long)-EADDRINUSE);
	KUNIT_EXPECT_EQ(test, shmipc_test_bind(test, b, "kunit.name", 1), (long)-EADDRINUSE);
	/* Another name is one that differs anywhere. */
	KUNIT_EXPECT_GT(test, shmipc_test_bind(test, b, "kunit.nam", 1), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_bind(test, b, "kunit.names", 1), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_bind(test, b, "Kunit.name", 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, l, 0), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_bind(test, b, "kunit.name", 1), 0L);
}

static void listener_name_freed_by_death(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);

	KUNIT_ASSERT_GT(test, shmipc_test_bind(test, a, "kunit.dies", 1), 0L);
	shmipc_test_release(test, a);
	KUNIT_EXPECT_GT(test, shmipc_test_bind(test, b, "kunit.dies", 1), 0L);
}

static bool permitted(const char *name, uid_t uid)
{
	struct shmipc_listener l = { .name_len = strlen(name) };
	struct cred cred = { .euid = KUIDT_INIT(uid) };

	memcpy(l.name, name, l.name_len);
	return name_permitted(&l, &cred);
}

static void listener_reserved_names(struct kunit *test)
{
	KUNIT_EXPECT_TRUE(test, permitted("u1000/x", 1000));
	KUNIT_EXPECT_FALSE(test, permitted("u1000/x", 1001));
	KUNIT_EXPECT_FALSE(test, permitted("u1000/x", 0));
	KUNIT_EXPECT_TRUE(test, permitted("u0/x", 0));
	KUNIT_EXPECT_FALSE(test, permitted("u0/x", 1));
	KUNIT_EXPECT_TRUE(test, permitted("u01000/x", 1000));
	/* Reserved only as a whole. */
	KUNIT_EXPECT_TRUE(test, permitted("u/x", 5));
	KUNIT_EXPECT_TRUE(test, permitted("u7", 5));
	KUNIT_EXPECT_TRUE(test, permitted("u7x/", 5));
	KUNIT_EXPECT_TRUE(test, permitted("user7/x", 5));
	KUNIT_EXPECT_TRUE(test, permitted("7/x", 5));
	/* Numbers that no uid has are nobody's, also where they would wrap around to one. */
	KUNIT_EXPECT_FALSE(test, permitted("u4294967295/x", 0));
	KUNIT_EXPECT_FALSE(test, permitted("u4294968296/x", 1000));
	KUNIT_EXPECT_FALSE(test, permitted("u18446744073709552616/x", 1000));
}

static bool may_connect(struct kunit *test, struct shmipc_listener *l, uid_t uid, gid_t gid)
{
	struct file *file;
	bool may;

	shmipc_test_become(test, uid, gid);
	file = shmipc_test_open(test);
	may = shmipc_listener_permits(l, shmipc_test_att(file));
	shmipc_test_release(test, file);
	shmipc_test_restore(test);
	return may;
}

static void listener_modes(struct kunit *test)
{
	static const struct {
		u16 mode;
		bool owner, group, other;
	} rows[] = {
		{ 0000 }, { 0200, true }, { 0020, false, true }, { 0002, false, false, true },
		{ 0220, true, true }, { 0222, true, true, true },
	};
	struct shmipc_listener l = { .uid = KUIDT_INIT(1000), .gid = KGIDT_INIT(2000) };
	struct file *root = shmipc_test_open(test);
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		l.mode = rows[i].mode;
		KUNIT_EXPECT_EQ_MSG(test, may_connect(test, &l, 1000, 1), rows[i].owner,
				    "row %d", i);
		/* The owner is asked by his bit alone, whatever group he is in. */
		KUNIT_EXPECT_EQ_MSG(test, may_connect(test, &l, 1000, 2000), rows[i].owner,
				    "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, may_connect(test, &l, 1001, 2000), rows[i].group,
				    "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, may_connect(test, &l, 1001, 1), rows[i].other,
				    "row %d", i);
		KUNIT_EXPECT_TRUE(test, shmipc_listener_permits(&l, shmipc_test_att(root)));
	}
}

static void listener_owner(struct kunit *test)
{
	struct shmipc_bind arg = { .flags = SHMIPC_BIND_OWNER, .uid = 1000, .gid = 1000 };
	struct shmipc_listener l;

	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), 0);
	arg.uid = 1001;
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), -EACCES);
	arg.uid = 1000;
	arg.gid = 5;
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), -EACCES);
	arg.uid = (uid_t)-1;
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), -EINVAL);
	arg.flags = 0;
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), -EINVAL);
	shmipc_test_restore(test);
	arg = (struct shmipc_bind){ .flags = SHMIPC_BIND_OWNER, .uid = 1001, .gid = 5 };
	KUNIT_EXPECT_EQ(test, set_owner(&l, &arg, current_cred()), 0);
	KUNIT_EXPECT_TRUE(test, uid_eq(l.uid, KUIDT_INIT(1001)));
}

static void listener_bind_arguments(struct kunit *test)
{
	static const struct {
		struct shmipc_bind arg;
		int err;
	} rows[] = {
		{ { .mode = 0222, .backlog = 1 }, 0 },
		{ { .mode = 0222, .backlog = SHMIPC_BACKLOG_MAX }, 0 },
		{ { .mode = 0222, .backlog = 0 }, -EINVAL },
		{ { .mode = 0222, .backlog = SHMIPC_BACKLOG_MAX + 1 }, -EINVAL },
		{ { .mode = 0600, .backlog = 1 }, -EINVAL },
		{ { .mode = 0222, .backlog = 1, .flags = 4 }, -EOPNOTSUPP },
		{ { .mode = 0222, .backlog = 1, .adopt = SHMIPC_ADOPT_EUID }, 0 },
		{ { .mode = 0222, .backlog = 1, .adopt = SHMIPC_ADOPT_HOLDER }, -EOPNOTSUPP },
		{ { .mode = 0222, .backlog = 1, .causes = 1 }, -EOPNOTSUPP },
		{ { .mode = 0222, .backlog = 1, .causes = SHMIPC_CAUSE_ACCEPT }, 0 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		KUNIT_EXPECT_EQ_MSG(test, bind_check(&rows[i].arg), rows[i].err, "row %d", i);
}

static void listener_backlog(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	long l, s;

	l = shmipc_test_bind(test, file, "kunit.backlog", 2);
	s = shmipc_test_connect(test, file, "kunit.backlog", 0);
	KUNIT_EXPECT_GT(test, s, 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_connect(test, file, "kunit.backlog", 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_connect(test, file, "kunit.backlog", 0), (long)-EAGAIN);
	/* Room again, by one who gives up and by one who is accepted. */
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, s, 0), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_connect(test, file, "kunit.backlog", 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_connect(test, file, "kunit.backlog", 0), (long)-EAGAIN);
	KUNIT_EXPECT_GT(test, shmipc_test_accept(test, file, l, 0), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_connect(test, file, "kunit.backlog", 0), 0L);
}

static void listener_in_order(struct kunit *test)
{
	struct file *file = shmipc_test_open(test);
	long l, s[3], a;
	int i;

	l = shmipc_test_bind(test, file, "kunit.order", 3);
	for (i = 0; i < 3; i++)
		s[i] = shmipc_test_connect(test, file, "kunit.order", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, file, l), SHMIPC_CAUSE_ACCEPT);
	for (i = 0; i < 3; i++) {
		a = shmipc_test_accept(test, file, l, 0);
		KUNIT_EXPECT_GT(test, a, 0L);
		KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, file, s[i]),
				SHMIPC_CAUSE_CONNECTED);
	}
	KUNIT_EXPECT_EQ(test, shmipc_test_accept(test, file, l, 0), (long)-EAGAIN);
}

/* Sessions of one uid, counted from CONNECT until both sides have closed. */
static void listener_quota(struct kunit *test)
{
	struct shmipc_bind arg = {
		.size = sizeof(arg), .name_len = 11, .mode = 0222, .backlog = 8, .max_per_uid = 2,
	};
	struct file *file = shmipc_test_open(test);
	long s[2], a;

	arg.name = shmipc_test_user(test, "kunit.quota", 11);
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_BIND, &arg), 0L);
	s[0] = shmipc_test_connect(test, file, "kunit.quota", 0);
	s[1] = shmipc_test_connect(test, file, "kunit.quota", 0);
	KUNIT_EXPECT_GT(test, s[1], 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_connect(test, file, "kunit.quota", 0), (long)-EDQUOT);
	a = shmipc_test_accept(test, file, arg.out_handle, 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, s[0], 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_connect(test, file, "kunit.quota", 0), (long)-EDQUOT);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, file, a, 0), 0L);
	KUNIT_EXPECT_GT(test, shmipc_test_connect(test, file, "kunit.quota", 0), 0L);
	/* Another user has his own. */
	shmipc_test_become(test, 1000, 1000);
	KUNIT_EXPECT_GT(test, shmipc_test_connect(test, shmipc_test_open(test), "kunit.quota", 0),
			0L);
}

/* A listener that closes refuses those who wait, and lets live those it accepted. */
static void listener_close_refuses(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	long l, waits, lives;

	l = shmipc_test_bind(test, a, "kunit.refuse", 8);
	lives = shmipc_test_connect(test, b, "kunit.refuse", 0);
	KUNIT_EXPECT_GT(test, shmipc_test_accept(test, a, l, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, b, lives), SHMIPC_CAUSE_CONNECTED);
	waits = shmipc_test_connect(test, b, "kunit.refuse", 0);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, a, l, 0), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, b, waits), SHMIPC_CAUSE_PEER_CLOSED);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, b, lives, 1), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_connect(test, b, "kunit.refuse", 0), (long)-ENOENT);
}

/* A closed listener is nobody's share, however long its sessions last. */
static void listener_close_uncharges(struct kunit *test)
{
	struct shmipc_test_pair p;

	shmipc_test_pair(test, &p, "kunit.share");
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_test_ep(p.a)->user->listeners), 1L);
	KUNIT_EXPECT_EQ(test, shmipc_test_close(test, p.a, p.listener, 0), 0L);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&shmipc_test_ep(p.a)->user->listeners), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_ring(test, p.b, p.sb, 1), 0L);
}

/* A connection that could not be accepted just now is told of again. */
static void listener_requeue_rings(struct kunit *test)
{
	struct file *a = shmipc_test_open(test), *b = shmipc_test_open(test);
	struct shmipc_accept arg = { .size = sizeof(arg), .meta = 8, .meta_len = 4 };
	struct shmipc_connect c = {
		.size = sizeof(c), .flags = SHMIPC_CONNECT_NONBLOCK, .name_len = 10, .meta_len = 4,
	};

	arg.listener = shmipc_test_bind(test, a, "kunit.ring", 2);
	c.name = shmipc_test_user(test, "kunit.ring", 10);
	c.meta = c.name;
	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, b, SHMIPC_IOC_CONNECT, &c), 0L);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, a, arg.listener), SHMIPC_CAUSE_ACCEPT);
	KUNIT_EXPECT_EQ(test, shmipc_test_ioctl(test, a, SHMIPC_IOC_ACCEPT, &arg), (long)-EFAULT);
	KUNIT_EXPECT_EQ(test, shmipc_test_causes(test, a, arg.listener), SHMIPC_CAUSE_ACCEPT);
	KUNIT_EXPECT_GT(test, shmipc_test_accept(test, a, arg.listener, 0), 0L);
}

static struct kunit_case listener_cases[] = {
	KUNIT_CASE(listener_name_bytes),
	KUNIT_CASE(listener_name_length),
	KUNIT_CASE(listener_name_taken),
	KUNIT_CASE(listener_name_freed_by_death),
	KUNIT_CASE(listener_reserved_names),
	KUNIT_CASE(listener_modes),
	KUNIT_CASE(listener_owner),
	KUNIT_CASE(listener_bind_arguments),
	KUNIT_CASE(listener_backlog),
	KUNIT_CASE(listener_in_order),
	KUNIT_CASE(listener_quota),
	KUNIT_CASE(listener_close_refuses),
	KUNIT_CASE(listener_close_uncharges),
	KUNIT_CASE(listener_requeue_rings),
	{}
};

SHMIPC_TEST_SUITE(listener);
