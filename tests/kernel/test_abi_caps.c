// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Each cap is met, answers with its errno, leaves nothing half-made, and room again afterwards. */
#define _GNU_SOURCE
#include "abi.h"

#include <sys/resource.h>

#define NAME	"test:caps"
#define NOBODY	65534

/* Lowers a parameter for as long as a test runs; restored by the teardown. */
static struct {
	const char *name;
	unsigned long old;
} lowered[8];
static int nr_lowered;

static void lower(const char *name, unsigned long value)
{
	lowered[nr_lowered].name = name;
	abi_param(name, value, &lowered[nr_lowered++].old);
}

static int restore(void **state)
{
	while (nr_lowered) {
		nr_lowered--;
		abi_param(lowered[nr_lowered].name, lowered[nr_lowered].old, NULL);
	}
	return abi_nothing_left(state);
}

/* Runs fn in a child that is nobody. */
static void as_nobody(void (*fn)(void *))
{
	pid_t pid = abi_fork();

	if (!pid) {
		assert_int_equal(setgid(NOBODY), 0);
		assert_int_equal(setuid(NOBODY), 0);
		fn(NULL);
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
}

/* ---- pages ---- */

static void fill_user(void *unused)
{
	struct abi_ep ep = abi_ep_open(), other = abi_ep_open();
	struct abi_seg seg, more;
	struct shmipc_query q;
	(void)unused;

	must(abi_query(ep.fd, &q));
	assert_true(q.out_user_pages_max == 10);
	fails(abi_seg_create(ep.fd, 11 * ABI_PAGE, &seg), EDQUOT);
	must(abi_seg_create(ep.fd, 8 * ABI_PAGE, &seg));
	fails(abi_seg_create(ep.fd, 3 * ABI_PAGE, &more), EDQUOT);
	fails(abi_seg_create(other.fd, 3 * ABI_PAGE, &more), EDQUOT);
	must(abi_query(ep.fd, &q));
	assert_true(q.out_user_pages == 8);
	must(abi_seg_create(other.fd, 2 * ABI_PAGE, &more));
	fails(abi_seg_create(ep.fd, 1, &more), EDQUOT);
	must(abi_close(ep.fd, seg.handle, 0));
	must(abi_seg_create(other.fd, 8 * ABI_PAGE, &more));
	fails(abi_seg_create(ep.fd, 1, &more), EDQUOT);
}

static void test_user_pages(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;

	(void)state;
	lower("user_pages_max", 10);
	as_nobody(fill_user);
	/* Root is exempt from this cap, not from the next. */
	must(abi_seg_create(ep.fd, 11 * ABI_PAGE, &seg));
	abi_ep_close(&ep);
}

static void fill_machine(void *unused)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;

	(void)unused;
	fails(abi_seg_create(ep.fd, 13 * ABI_PAGE, &seg), ENOSPC);
	must(abi_seg_create(ep.fd, 12 * ABI_PAGE, &seg));
	fails(abi_seg_create(ep.fd, 1, &seg), ENOSPC);
}

static void test_total_pages(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;

	(void)state;
	lower("total_pages_max", 16);
	lower("reserve_pages", 4);
	as_nobody(fill_machine);
	expect_alive(3);	/* our endpoint, its attachment, its user */
	must(abi_seg_create(ep.fd, 16 * ABI_PAGE, &seg));
	fails(abi_seg_create(ep.fd, 1, &seg), ENOSPC);
	assert_int_equal(abi_counter("pages"), 16);
	abi_ep_close(&ep);
}

/* More than there is: an error, no killing, and it all comes back. */
static void test_out_of_memory(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query q;
	struct abi_seg seg;
	long pages = sysconf(_SC_PHYS_PAGES);

	(void)state;
	lower("total_pages_max", 1UL << 40);
	fails(abi_seg_create(ep.fd, pages * ABI_PAGE, &seg), ENOMEM);
	assert_int_equal(abi_counter("pages"), 0);
	assert_int_equal(abi_counter("segments_live"), 0);
	must(abi_query(ep.fd, &q));
	assert_true(q.out_user_pages == 0);
	/* The positive control: half of it is there. */
	must(abi_seg_create(ep.fd, pages / 2 * ABI_PAGE, &seg));
	abi_ep_close(&ep);
}

/* A kill is heeded in the middle of it. */
static void test_killed_allocating(void **state)
{
	pid_t pid;
	int i;

	(void)state;
	lower("total_pages_max", 1UL << 40);
	for (i = 0; i < 5; i++) {
		pid = abi_fork();
		if (!pid) {
			struct abi_ep ep = abi_ep_open();
			struct abi_seg seg;

			for (;;) {
				must(abi_seg_create(ep.fd, sysconf(_SC_PHYS_PAGES) / 2 * ABI_PAGE,
						    &seg));
				must(abi_close(ep.fd, seg.handle, 0));
			}
		}
		abi_sleep_ms(50 + 37 * i);
		kill(pid, SIGKILL);
		assert_int_equal(abi_reap(pid), 128 + SIGKILL);
		expect_alive(0);
	}
}

/* ---- objects ---- */

static void fill_endpoints(void *unused)
{
	int fd[6], i;

	(void)unused;
	for (i = 0; i < 5; i++) {
		fd[i] = abi_open_raw();
		must(fd[i]);
	}
	fails(abi_open_raw(), EDQUOT);
	close(fd[0]);
	fd[0] = abi_open_raw();
	must(fd[0]);
	fails(abi_open_raw(), EDQUOT);
}

static void test_endpoints(void **state)
{
	int fd[16], i;

	(void)state;
	lower("endpoints_max", 8);
	lower("user_share", 63);	/* 5 of 8 */
	as_nobody(fill_endpoints);
	expect_alive(0);
	for (i = 0; i < 8; i++) {
		fd[i] = abi_open_raw();
		must(fd[i]);
	}
	fails(abi_open_raw(), ENOSPC);
	assert_int_equal(abi_counter("endpoints_live"), 8);
	close(fd[3]);
	fd[3] = abi_open_raw();
	must(fd[3]);
	for (i = 0; i < 8; i++)
		close(fd[i]);
}

static void test_sessions(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(abi_bind(ep.fd, NAME));
	struct shmipc_query q;
	uint32_t first;
	long before;

	(void)state;
	lower("sessions_max", 2);
	must(abi_query(ep.fd, &q));
	assert_int_equal(q.out_sessions_max, 2);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	first = c.out_session;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	before = abi_alive();
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c), ENOSPC);
	assert_int_equal(abi_alive(), before);
	must(abi_close(ep.fd, first, 0));
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c), ENOSPC);
	must(abi_close(ep.fd, a.out_session, 0));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	abi_ep_close(&ep);
}

static void test_listeners(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind b = abi_bind_arg("test:third");
	uint32_t first = abi_bind(ep.fd, "test:first");

	(void)state;
	lower("listeners_max", 2);
	abi_bind(ep.fd, "test:second");
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b), ENOSPC);
	must(abi_close(ep.fd, first, 0));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	abi_ep_close(&ep);
}

static void fill_shares(void *unused)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_bind b = abi_bind_arg("test:more");

	(void)unused;
	abi_bind(ep.fd, NAME);
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b), EDQUOT);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c), EDQUOT);
	must(abi_close(ep.fd, c.out_session, 0));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
}

/* A user can't take all that there is; root can. */
static void test_user_share(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect c = abi_connect_arg(NAME);

	(void)state;
	lower("user_share", 50);
	lower("sessions_max", 2);
	lower("listeners_max", 2);
	as_nobody(fill_shares);
	expect_alive(3);
	abi_bind(ep.fd, NAME);
	abi_bind(ep.fd, "test:more");
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c));
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &c), ENOSPC);
	abi_ep_close(&ep);
}

/* Failing does not wear anything out. */
static void test_failures_cost_nothing(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;
	int i;

	(void)state;
	lower("total_pages_max", 4);
	lower("reserve_pages", 1);
	for (i = 0; i < abi_rounds(2000); i++)
		fails(abi_seg_create(ep.fd, 5 * ABI_PAGE, &seg), ENOSPC);
	must(abi_seg_create(ep.fd, 4 * ABI_PAGE, &seg));
	abi_ep_close(&ep);
}

#define cap_test(fn)	cmocka_unit_test_teardown(fn, restore)

static const struct CMUnitTest tests[] = {
	cap_test(test_user_pages),
	cap_test(test_total_pages),
	cap_test(test_out_of_memory),
	cap_test(test_killed_allocating),
	cap_test(test_endpoints),
	cap_test(test_sessions),
	cap_test(test_listeners),
	cap_test(test_user_share),
	cap_test(test_failures_cost_nothing),
};

abi_main(tests)
