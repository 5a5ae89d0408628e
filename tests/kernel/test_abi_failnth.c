// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Each allocation of a call fails: the N-th alone, for N from 1 until the call works without having
 * come so far; then all from the N-th byte on, for there are those that try twice. A call that met
 * a fault answers ENOMEM, or EFAULT where the fault was in a copy, or does without; it leaves all
 * counters as they were, and works when it is made again.
 *
 * For kernels with fault injection, which injects nothing by default: whoever may sleep, highmem
 * and single pages are spared.
 */
#define _GNU_SOURCE
#include "abi.h"

#include <sys/epoll.h>

#define NAME		"test:failnth"
#define DEBUGFS		"/sys/kernel/debug/"
#define NTH		"/proc/thread-self/fail-nth"
#define NTH_MAX		2000	/* no call has as many points that may fail */
#define STEP		32	/* bytes; no allocation that matters is shorter */
#define EVENTS		64	/* more than the module has room for without allocating */

/* ---- the injector ---- */

enum kind { SLAB, PAGE, COPY, KINDS };

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
static int nth_fd = -1, starve_fd = -1;

/* False where the kernel does not have it. */
static bool knob(enum kind kind, const char *name, const char *value)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", kinds[kind], name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	assert_int_equal(write(fd, value, strlen(value)), (ssize_t)strlen(value));
	close(fd);
	return true;
}

/* Each fault takes one off this number, of its kind. */
static long times_left(enum kind kind)
{
	char path[96];
	long value = 0;
	FILE *f;

	snprintf(path, sizeof(path), DEBUGFS "%s/times", kinds[kind]);
	f = fopen(path, "r");
	if (f && fscanf(f, "%ld", &value) != 1)
		value = 0;
	if (f)
		fclose(f);
	return value;
}

/* Not verbose, for a trace in the log looks like a warning. */
static int injector_on(void **state)
{
	int kind;

	(void)state;
	if (nth_fd >= 0 || access(NTH, W_OK))
		return 0;
	for (kind = 0; kind < KINDS; kind++) {
		if (!knob(kind, "times", "1000000000") && kind != COPY)
			return -1;
		knob(kind, "verbose", "0");
	}
	/* For whoever asks for it, see starve_from(). */
	if (!knob(SLAB, "task-filter", "Y") || !knob(SLAB, "probability", "100"))
		return -1;
	if (!knob(SLAB, "ignore-gfp-wait", "N") || !knob(PAGE, "ignore-gfp-wait", "N") ||
	    !knob(PAGE, "ignore-gfp-highmem", "N") || !knob(PAGE, "min-order", "0"))
		return -1;
	starve_fd = open("/proc/thread-self/make-it-fail", O_WRONLY | O_CLOEXEC);
	nth_fd = open(NTH, O_RDWR | O_CLOEXEC);
	return nth_fd < 0 || starve_fd < 0 ? -1 : 0;
}

/* The @n-th point from here on fails; 0: none. Writing it is a copy, which may be that point. */
static void nth_set(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n), tries;

	for (tries = 0; pwrite(nth_fd, text, len, 0) != len; tries++)
		assert_true(errno == EFAULT && tries < 3);
}

/* Has it? Reading that is a copy as well: if it fails, the call before came to an end without. */
static bool nth_fired(void)
{
	char text[16] = {};
	bool fired = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	nth_set(0);
	return fired;
}

/* After so many bytes no object is to be had. What ends it is open, for opening takes some. */
static void starve_from(long bytes)
{
	char text[16];

	snprintf(text, sizeof(text), "%ld", bytes);
	assert_true(knob(SLAB, "space", text));
	assert_int_equal(pwrite(starve_fd, "1", 1, 0), 1);
}

static void starve_end(void)
{
	assert_int_equal(pwrite(starve_fd, "0", 1, 0), 1);
}

/* ---- the calls ---- */

struct scene {
	struct abi_pair p;
	struct abi_seg spare;	/* of the server, granted to nobody */
	uint32_t handle;	/* what was prepared */
	int fd;
	int offer;		/* an offer's file */
	struct abi_ep next;	/* who adopts */
	struct abi_ep other;	/* whom, if not the server */
	struct shmipc_item items[8];
	void *map;
	union {
		struct shmipc_query query;
		struct shmipc_seg_info info;
		struct shmipc_seg_create create;
		struct shmipc_bind bind;
		struct shmipc_connect connect;
		struct shmipc_accept accept;
		struct shmipc_sync sync;
	} a;
	struct shmipc_ready ev[EVENTS];
};

/**
 * struct call - one that may allocate
 * @prepare: before each attempt, or NULL
 * @run: the call: 0 or -errno
 * @undo: takes back what was made and prepared, or NULL
 * @allocates: it is known to: a fault must be met
 * @alone: no endpoint is open before it
 * @retried: the kernel tries again until it works, so that it can't be starved
 */
struct call {
	const char *name;
	void (*prepare)(struct scene *s);
	int (*run)(struct scene *s);
	void (*undo)(struct scene *s, int ret);
	bool allocates, alone, retried;
};

static int run_open(struct scene *s)
{
	s->fd = abi_open_raw();
	return s->fd < 0 ? s->fd : 0;
}

static void undo_open(struct scene *s, int ret)
{
	if (!ret)
		close(s->fd);
}

static void prepare_file(struct scene *s)
{
	s->fd = abi_open_raw();
	must(s->fd);
}

static int run_anchor(struct scene *s)
{
	s->map = mmap(NULL, ABI_PAGE, PROT_READ, MAP_SHARED, s->fd, 0);
	return s->map == MAP_FAILED ? -errno : 0;
}

static void undo_anchor(struct scene *s, int ret)
{
	if (!ret)
		munmap(s->map, ABI_PAGE);
	close(s->fd);
}

static int run_query(struct scene *s)
{
	return abi_query(s->p.server.fd, &s->a.query);
}

static int run_create(struct scene *s)
{
	s->a.create = (struct shmipc_seg_create){ .size = sizeof(s->a.create),
						  .length = 5 * ABI_PAGE };
	return abi_ioctl(s->p.server.fd, SHMIPC_IOC_SEG_CREATE, &s->a.create);
}

static void undo_create(struct scene *s, int ret)
{
	if (!ret)
		must(abi_close(s->p.server.fd, s->a.create.out_handle, 0));
}

static int run_info(struct scene *s)
{
	return abi_seg_info(s->p.server.fd, s->p.server_seg.handle, &s->a.info);
}

/* A slot far from the others, for which their table must grow. */
static int run_grant(struct scene *s)
{
	return abi_grant(s->p.server.fd, s->p.at_server, s->spare.handle, 777);
}

static void prepare_grant(struct scene *s)
{
	must(run_grant(s));
}

static int run_revoke(struct scene *s)
{
	return abi_revoke(s->p.server.fd, s->p.at_server, 777);
}

static void undo_grant(struct scene *s, int ret)
{
	if (!ret)
		must(run_revoke(s));
}

static void undo_revoke(struct scene *s, int ret)
{
	if (ret)
		must(run_revoke(s));
}

static void prepare_freeze(struct scene *s)
{
	must(run_create(s));
}

static int run_freeze(struct scene *s)
{
	return abi_freeze(s->p.server.fd, s->a.create.out_handle);
}

static void undo_freeze(struct scene *s, int ret)
{
	if (ret)
		must(run_freeze(s));
	must(abi_close(s->p.server.fd, s->a.create.out_handle, 0));
}

static int run_give(struct scene *s)
{
	return abi_give(s->p.server.fd, s->p.at_server, 777);
}

static void drain(int fd)
{
	struct shmipc_ready ev;

	while (!abi_event(fd, 0, &ev))
		;
}

static void undo_give(struct scene *s, int ret)
{
	if (ret)
		must(run_give(s));
	must(run_revoke(s));
	drain(s->p.server.fd);
	drain(s->p.client.fd);
}

/* The next handle of the client's is one for which its table must grow: it has 64 to a node. */
static void at_end_of_node(struct scene *s)
{
	struct abi_seg seg;

	do {
		must(abi_seg_create(s->p.client.fd, 1, &seg));
		must(abi_close(s->p.client.fd, seg.handle, 0));
	} while (seg.handle % 64 != 63);
}

static void prepare_take(struct scene *s)
{
	at_end_of_node(s);
	must(run_create(s));
	must(abi_grant(s->p.server.fd, s->p.at_server, s->a.create.out_handle, 777));
	must(run_give(s));
}

static int run_take(struct scene *s)
{
	struct abi_seg seg;
	int ret = abi_take(s->p.client.fd, s->p.at_client, 777, &seg);

	s->handle = seg.handle;
	return ret;
}

/* What was not taken is still to be taken. */
static void undo_take(struct scene *s, int ret)
{
	if (ret)
		must(run_take(s));
	must(abi_close(s->p.client.fd, s->handle, 0));
	must(abi_close(s->p.server.fd, s->a.create.out_handle, 0));
	drain(s->p.client.fd);
}

static int run_bind(struct scene *s)
{
	s->a.bind = abi_bind_arg("test:failnth:other");
	return abi_ioctl(s->p.server.fd, SHMIPC_IOC_BIND, &s->a.bind);
}

static void undo_bind(struct scene *s, int ret)
{
	if (!ret)
		must(abi_close(s->p.server.fd, s->a.bind.out_handle, 0));
}

static int run_connect(struct scene *s)
{
	s->a.connect = abi_connect_arg(NAME);
	s->a.connect.flags = SHMIPC_CONNECT_NONBLOCK;
	s->a.connect.segment = s->p.client_seg.handle;
	s->a.connect.meta = (uintptr_t)NAME;
	s->a.connect.meta_len = sizeof(NAME);
	return abi_ioctl(s->p.client.fd, SHMIPC_IOC_CONNECT, &s->a.connect);
}

static void undo_connect(struct scene *s, int ret)
{
	if (!ret)
		must(abi_close(s->p.client.fd, s->a.connect.out_session, 0));
}

static void prepare_accept(struct scene *s)
{
	must(run_connect(s));
	s->handle = s->a.connect.out_session;
}

static int run_accept(struct scene *s)
{
	s->a.accept = abi_accept_arg(s->p.listener);
	s->a.accept.segment = s->p.server_seg.handle;
	s->a.accept.meta = (uintptr_t)s->ev;
	s->a.accept.meta_len = sizeof(s->ev);
	return abi_ioctl(s->p.server.fd, SHMIPC_IOC_ACCEPT, &s->a.accept);
}

/* The connection that was not accepted still waits. */
static void undo_accept(struct scene *s, int ret)
{
	if (ret)
		must(run_accept(s));
	must(abi_close(s->p.server.fd, s->a.accept.out_session, 0));
	must(abi_close(s->p.client.fd, s->handle, 0));
}

static void prepare_sync(struct scene *s)
{
	must(abi_ring(s->p.server.fd, s->p.at_server, 1));
}

static int run_sync(struct scene *s)
{
	s->a.sync = (struct shmipc_sync){ .size = sizeof(s->a.sync), .max_events = EVENTS,
					  .events = (uintptr_t)s->ev };
	return abi_ioctl(s->p.client.fd, SHMIPC_IOC_SYNC, &s->a.sync);
}

/* The event was told, or is still there. */
static void undo_sync(struct scene *s, int ret)
{
	if (ret)
		must(run_sync(s));
	assert_int_equal(s->a.sync.out_nr_events, 1);
	assert_int_equal(s->ev[0].causes, 1);
	abi_expect_quiet(s->p.client.fd);
}

static void prepare_close(struct scene *s)
{
	must(run_create(s));
	s->handle = s->a.create.out_handle;
}

static int run_close(struct scene *s)
{
	return abi_close(s->p.server.fd, s->handle, 0);
}

static void undo_close(struct scene *s, int ret)
{
	if (ret)
		must(run_close(s));
}

static int run_offer(struct scene *s)
{
	s->offer = abi_offer(s->p.server.fd, 0, NULL);
	return s->offer < 0 ? s->offer : 0;
}

static void undo_offer(struct scene *s, int ret)
{
	if (!ret)
		close(s->offer);
}

static void prepare_adopt(struct scene *s)
{
	must(run_offer(s));
}

static int run_adopt(struct scene *s)
{
	s->fd = abi_adopt(s->p.client.fd, s->offer);
	return s->fd < 0 ? s->fd : 0;
}

static void undo_adopt(struct scene *s, int ret)
{
	if (!ret)
		close(s->fd);
	close(s->offer);
}

static int run_list(struct scene *s)
{
	struct shmipc_list a = abi_list_arg(s->items, 8);

	return abi_ioctl(s->p.server.fd, SHMIPC_IOC_LIST, &a);
}

static void prepare_yield(struct scene *s)
{
	must(run_offer(s));
	must(run_adopt(s));
}

static int run_yield(struct scene *s)
{
	return abi_yield(s->p.server.fd);
}

static void undo_yield(struct scene *s, int ret)
{
	(void)ret;
	undo_adopt(s, 0);
}

static void prepare_commit(struct scene *s)
{
	s->other = abi_ep_open();
	s->offer = abi_offer(s->other.fd, 0, NULL);
	must(s->offer);
	s->next = abi_ep_adopt(s->p.client.fd, s->offer);
	must(abi_yield(s->other.fd));
}

static int run_commit(struct scene *s)
{
	return abi_commit(s->next.fd);
}

static void undo_commit(struct scene *s, int ret)
{
	/* What was refused can be asked again: nothing had begun. */
	if (ret)
		must(run_commit(s));
	abi_ep_close(&s->next);
	abi_ep_close(&s->other);
	close(s->offer);
}

static int run_watch(struct scene *s)
{
	return abi_watch(s->p.server.fd, s->p.at_server, ABI_CAUSES, 0xac);
}

static int run_map(struct scene *s)
{
	s->map = mmap(NULL, s->p.server_seg.length, PROT_READ | PROT_WRITE, MAP_SHARED,
		      s->p.server.fd, s->p.server_seg.offset);
	return s->map == MAP_FAILED ? -errno : 0;
}

static void undo_map(struct scene *s, int ret)
{
	if (!ret)
		munmap(s->map, s->p.server_seg.length);
}

/* Where no other mapping is near, so that the fault makes the page tables. */
static void prepare_fault(struct scene *s)
{
	void *at = (void *)(64UL << 40);

	s->map = mmap(at, s->p.server_seg.length, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, s->p.server.fd, s->p.server_seg.offset);
	assert_ptr_equal(s->map, at);
}

/* Out of memory in a fault: the kernel tries again. */
static int run_fault(struct scene *s)
{
	*(volatile uint8_t *)s->map = 1;
	return 0;
}

static void undo_fault(struct scene *s, int ret)
{
	undo_map(s, 0);
	assert_int_equal(ret, 0);
}

static int run_poll(struct scene *s)
{
	struct pollfd p[64];
	int i;

	for (i = 0; i < 64; i++)
		p[i] = (struct pollfd){ .fd = s->p.client.fd, .events = POLLIN };
	return poll(p, 64, 0) < 0 ? -errno : 0;
}

static void prepare_epoll(struct scene *s)
{
	s->fd = epoll_create1(EPOLL_CLOEXEC);
	assert_true(s->fd >= 0);
}

static int run_epoll(struct scene *s)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(s->fd, EPOLL_CTL_ADD, s->p.client.fd, &ev) ? -errno : 0;
}

static void undo_epoll(struct scene *s, int ret)
{
	(void)ret;
	close(s->fd);
}

static const struct call calls[] = {
	{ "open_first", NULL, run_open, undo_open, .allocates = true, .alone = true },
	{ "open", NULL, run_open, undo_open, .allocates = true },
	{ "mmap_anchor", prepare_file, run_anchor, undo_anchor, .allocates = true },
	{ "QUERY", NULL, run_query, NULL, .allocates = false },
	{ "SEG_CREATE", NULL, run_create, undo_create, .allocates = true },
	{ "SEG_INFO", NULL, run_info, NULL, .allocates = false },
	{ "SEG_GRANT", NULL, run_grant, undo_grant, .allocates = true },
	{ "SEG_REVOKE", prepare_grant, run_revoke, undo_revoke, .allocates = false },
	{ "SEG_FREEZE", prepare_freeze, run_freeze, undo_freeze, .allocates = false },
	{ "SEG_GIVE", prepare_grant, run_give, undo_give, .allocates = false },
	{ "SEG_TAKE", prepare_take, run_take, undo_take, .allocates = true },
	{ "BIND", NULL, run_bind, undo_bind, .allocates = true },
	{ "CONNECT", NULL, run_connect, undo_connect, .allocates = true },
	{ "ACCEPT", prepare_accept, run_accept, undo_accept, .allocates = true },
	{ "SYNC", prepare_sync, run_sync, undo_sync, .allocates = true },
	{ "CLOSE", prepare_close, run_close, undo_close, .allocates = false },
	{ "OFFER", NULL, run_offer, undo_offer, .allocates = true },
	{ "ADOPT", prepare_adopt, run_adopt, undo_adopt, .allocates = true },
	{ "LIST", NULL, run_list, NULL, .allocates = false },
	{ "YIELD", prepare_yield, run_yield, undo_yield, .allocates = false },
	{ "COMMIT", prepare_commit, run_commit, undo_commit, .allocates = false },
	{ "WATCH", NULL, run_watch, NULL, .allocates = false },
	{ "mmap", NULL, run_map, undo_map, .allocates = true },
	{ "fault", prepare_fault, run_fault, undo_fault, .allocates = true, .retried = true },
	{ "poll", NULL, run_poll, NULL, .allocates = false },
	{ "epoll_ctl", prepare_epoll, run_epoll, undo_epoll, .allocates = true },
};

#define NR_CALLS	((int)(sizeof(calls) / sizeof(*calls)))

/* ---- the sweep ---- */

/* Objects that a call has made and dropped may be given back by a worker. */
static void expect_counts(const struct call *c, int n, const struct abi_counts *before)
{
	struct abi_counts now = abi_counts();
	int tries;

	for (tries = 0; strcmp(now.text, before->text) && tries < 3000; tries++) {
		abi_sleep_ms(10);
		now = abi_counts();
	}
	if (strcmp(now.text, before->text)) {
		print_error("%s, fault %d left:\n%s", c->name, n, now.text);
		assert_string_equal(now.text, before->text);
	}
}

static int run_nth(const struct call *c, struct scene *s, int n, bool *fired)
{
	int ret;

	nth_set(n);
	ret = c->run(s);
	*fired = nth_fired();
	return ret;
}

static int run_starved(const struct call *c, struct scene *s, int n, bool *fired)
{
	long left = times_left(SLAB);
	int ret;

	starve_from((long)n * STEP);
	ret = c->run(s);
	starve_end();
	*fired = times_left(SLAB) != left;
	return ret;
}

/* One attempt. True: the fault was met. */
static bool attempt(const struct call *c, struct scene *s, int n, long met[KINDS],
		    int (*run)(const struct call *c, struct scene *s, int n, bool *fired))
{
	struct abi_counts before = abi_counts(), prepared;
	long left[KINDS];
	int kind, ret;
	bool fired;

	if (c->prepare)
		c->prepare(s);
	prepared = abi_counts();
	for (kind = 0; kind < KINDS; kind++)
		left[kind] = times_left(kind);
	ret = run(c, s, n, &fired);
	for (kind = 0; fired && kind < KINDS && left[kind] == times_left(kind); kind++)
		;
	if (fired) {
		assert_true(kind < KINDS);
		met[kind]++;
	}
	if (ret) {
		if (!fired || ret != (kind == COPY ? -EFAULT : -ENOMEM)) {
			print_error("%s, fault %d, %s: %s\n", c->name, n,
				    fired ? kinds[kind] : "not met", strerror(-ret));
			fail();
		}
		expect_counts(c, n, &prepared);
	}
	if (c->undo)
		c->undo(s, ret);
	expect_counts(c, n, &before);
	return fired;
}

static void test_call(void **state)
{
	const struct call *c = *state;
	struct scene s = {};
	long met[KINDS] = {}, starved[KINDS] = {};
	int n = 1, bytes = 0;

	if (nth_fd < 0)
		abi_skip("no fault injection in this kernel");
	if (!c->alone) {
		s.p = abi_pair_open(NAME);
		must(abi_seg_create(s.p.server.fd, 1, &s.spare));
	}
	while (attempt(c, &s, n, met, run_nth))
		assert_true(n++ < NTH_MAX);
	while (!c->retried && attempt(c, &s, bytes, starved, run_starved))
		assert_true(bytes++ < NTH_MAX);
	print_message("%-12s %d calls, %ld allocations (%ld slab, %ld page), %ld copies failed; "
		      "starved %ld times\n", c->name, n + bytes, met[SLAB] + met[PAGE], met[SLAB],
		      met[PAGE], met[COPY], starved[SLAB]);
	if (c->allocates)
		assert_true(met[SLAB] + met[PAGE] > 0 && (c->retried || starved[SLAB] > 0));
	if (!c->alone)
		abi_pair_close(&s.p);
}

static struct CMUnitTest tests[NR_CALLS];

static void __attribute__((constructor)) fill_tests(void)
{
	int i;

	for (i = 0; i < NR_CALLS; i++)
		tests[i] = (struct CMUnitTest){ calls[i].name, test_call, injector_on,
						abi_nothing_left, (void *)&calls[i] };
}

abi_main(tests)
