// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Segments are charged to the memory cgroup of who made them, and bounded by it. */
#include "abi.h"

#include <sys/stat.h>

#define ROOT	"/sys/fs/cgroup"
#define GROUP	ROOT "/shmipc-test"
#define MIB	(1L << 20)
#define SLACK	(2 * MIB)	/* what the kernel charges in advance, a stock a CPU */

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

static long get(const char *path)
{
	FILE *f = fopen(path, "r");
	long value = -1;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld", &value), 1);
	fclose(f);
	return value;
}

/* The line @name of memory.events. */
static long event(const char *name)
{
	FILE *f = fopen(GROUP "/memory.events", "r");
	char word[32];
	long value, found = -1;

	assert_non_null(f);
	while (fscanf(f, "%31s %ld", word, &value) == 2) {
		if (!strcmp(word, name))
			found = value;
	}
	fclose(f);
	return found;
}

static long current_bytes(void)
{
	return get(GROUP "/memory.current");
}

static int group_make(void **state)
{
	(void)state;
	if (!put(ROOT "/cgroup.subtree_control", "+memory"))
		return 0;	/* each test says so */
	return mkdir(GROUP, 0755) && errno != EEXIST ? -1 : 0;
}

static int group_remove(void **state)
{
	int tries;

	(void)state;
	for (tries = 0; rmdir(GROUP) && errno == EBUSY && tries < 3000; tries++)
		abi_sleep_ms(10);
	return abi_nothing_left(state);
}

static void need_group(void)
{
	if (access(GROUP "/memory.max", W_OK))
		abi_skip("no memory cgroup");
}

/* Runs @fn in the group, which allows @max. */
static void in_group(const char *max, void (*fn)(void))
{
	pid_t pid;

	assert_true(put(GROUP "/memory.max", max));
	pid = abi_fork();
	if (!pid) {
		assert_true(put(GROUP "/cgroup.procs", "0"));
		fn();
		_exit(0);
	}
	assert_int_equal(abi_reap(pid), 0);
}

/* It comes back within a moment: the kernel keeps some for the next one. */
static void expect_returned(long before)
{
	int tries;

	for (tries = 0; current_bytes() > before + SLACK && tries < 3000; tries++)
		abi_sleep_ms(10);
	print_message("memory.current %ld, before %ld\n", current_bytes(), before);
	assert_true(current_bytes() <= before + SLACK);
}

static void charge(void)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;
	long before = current_bytes(), with;

	must(abi_seg_create(ep.fd, 16 * MIB, &seg));
	with = current_bytes();
	print_message("16 MiB are charged as %ld\n", with - before);
	assert_true(with - before >= 16 * MIB - SLACK && with - before <= 16 * MIB + SLACK);
	must(abi_close(ep.fd, seg.handle, 0));
	expect_returned(before);
	/* And by the end of the endpoint. */
	must(abi_seg_create(ep.fd, 16 * MIB, &seg));
	assert_true(current_bytes() - before >= 16 * MIB - SLACK);
	abi_ep_close(&ep);
	expect_returned(before);
}

static void test_charged(void **state)
{
	(void)state;
	need_group();
	in_group("max", charge);
}

static void exceed(void)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_counts before = abi_counts();
	struct shmipc_query q;
	struct abi_seg seg;
	long bytes = current_bytes();
	int i;

	/* Again and again: a failure that kept a page of its own would show. */
	for (i = 0; i < abi_rounds(20); i++) {
		fails(abi_seg_create(ep.fd, 32 * MIB, &seg), ENOMEM);
		assert_string_equal(abi_counts().text, before.text);
	}
	must(abi_query(ep.fd, &q));
	assert_true(q.out_user_pages == 0 && q.out_total_pages == 0);
	expect_returned(bytes);
	/* What fits still fits. */
	must(abi_seg_create(ep.fd, 8 * MIB, &seg));
	abi_ep_close(&ep);
}

/* Over the group's limit: an errno, nobody is killed, nothing is left. */
static void test_limit(void **state)
{
	long kills, limited;

	(void)state;
	need_group();
	kills = event("oom_kill");
	limited = event("max");
	in_group("16777216", exceed);
	assert_int_equal(event("oom_kill"), kills);
	assert_true(event("max") > limited);
}

/* The charge stays with who made it, also while only a peer of another group still maps it. */
static void test_stays_with_maker(void **state)
{
	struct abi_ep ep;
	struct shmipc_accept a;
	struct abi_seg peer;
	int told[2];
	pid_t pid;

	(void)state;
	need_group();
	ep = abi_ep_open();
	a = abi_accept_arg(abi_bind(ep.fd, "test:memcg"));
	assert_int_equal(pipe(told), 0);
	assert_true(put(GROUP "/memory.max", "max"));
	pid = abi_fork();
	if (!pid) {
		struct shmipc_connect c = abi_connect_arg("test:memcg");
		struct abi_ep mine;
		struct abi_seg seg;

		assert_true(put(GROUP "/cgroup.procs", "0"));
		mine = abi_ep_open();
		must(abi_seg_create(mine.fd, 16 * MIB, &seg));
		c.segment = seg.handle;
		c.flags = SHMIPC_CONNECT_NONBLOCK;
		must(abi_ioctl(mine.fd, SHMIPC_IOC_CONNECT, &c));
		abi_tell(told[1]);
		expect_event(mine.fd, c.out_session, SHMIPC_CAUSE_CONNECTED);
		_exit(0);
	}
	abi_hear(told[0]);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, &a));
	peer = abi_peer_map(ep.fd, a.out_session, 0);
	assert_int_equal(abi_reap(pid), 0);
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_true(current_bytes() >= 16 * MIB - SLACK);
	must(abi_close(ep.fd, a.out_session, 0));
	expect_returned(0);
	abi_unmap(&peer);
	abi_ep_close(&ep);
	close(told[0]), close(told[1]);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(test_charged, group_make, group_remove),
	cmocka_unit_test_setup_teardown(test_limit, group_make, group_remove),
	cmocka_unit_test_setup_teardown(test_stays_with_maker, group_make, group_remove),
};

abi_main(tests)
