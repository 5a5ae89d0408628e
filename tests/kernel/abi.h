/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * abi.h - the requests of /dev/shmipc, called raw, for the tests of the module alone
 *
 * Every call answers 0 or -errno. What a test expects to work goes through must(), which
 * names the line.
 */
#ifndef SHMIPC_TESTS_ABI_H
#define SHMIPC_TESTS_ABI_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../uapi/shmipc.h"

#define ABI_DEVICE	"/dev/shmipc"
#define ABI_COUNTERS	"/sys/kernel/debug/shmipc/counters"
#define ABI_PARAMS	"/sys/module/shmipc/parameters/"
#define ABI_PAGE	4096UL
#define ABI_SECOND	1000000000ULL
#define ABI_LIMIT	(30 * ABI_SECOND)	/* no wait of a test that works takes as long */

/* Every cause that a session may enable, but PEER_PAUSE: only test_abi_peer wants to hear of that. */
#define ABI_CAUSES	(SHMIPC_CAUSE_CONNECTED | SHMIPC_CAUSE_PEER_CLOSED | \
			 SHMIPC_CAUSE_PEER_DIED | SHMIPC_CAUSE_PEER_CHANGED | \
			 SHMIPC_CAUSE_PEER_LOST | SHMIPC_CAUSE_GIVEN | SHMIPC_CAUSE_RETURNED)

#define must(call)	abi_must((call), #call, __FILE__, __LINE__)
#define fails(call, err) abi_fails((call), (err), #call, __FILE__, __LINE__)

static inline void abi_must(long ret, const char *what, const char *file, int line)
{
	if (ret < 0) {
		print_error("%s: %s\n", what, strerror(-ret));
		_fail(file, line);
	}
}

static inline void abi_fails(long ret, int err, const char *what, const char *file, int line)
{
	if (ret != -err) {
		print_error("%s: %s, expected %s\n", what, strerror(ret < 0 ? -ret : 0),
			    strerror(err));
		_fail(file, line);
	}
}

static inline int abi_ioctl(int fd, unsigned long nr, void *arg)
{
	return ioctl(fd, nr, arg) < 0 ? -errno : 0;
}

/* SHMIPC_TEST_SLOW=1 is for kernels that check all they do: a call takes 30 times as long. */
static inline bool abi_slow(void)
{
	const char *slow = getenv("SHMIPC_TEST_SLOW");

	return slow && !strcmp(slow, "1");
}

/* How often a loop turns. */
static inline int abi_rounds(int stock)
{
	return abi_slow() ? (stock + 19) / 20 : stock;
}

/* Skips a test, and says why where the suite looks for it. */
#define abi_skip(reason) do {							\
	printf("skip: %s\n", (reason));						\
	skip();									\
} while (0)

/* ---- endpoints ---- */

static inline int abi_open_raw(void)
{
	int fd = open(ABI_DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline volatile struct shmipc_anchor *abi_anchor(int fd)
{
	void *p = mmap(NULL, ABI_PAGE, PROT_READ, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/**
 * struct abi_ep - an endpoint of this process
 * @fd: its file
 * @anchor: its anchor page
 */
struct abi_ep {
	int fd;
	volatile struct shmipc_anchor *anchor;
};

static inline struct abi_ep abi_ep_open(void)
{
	struct abi_ep ep;

	ep.fd = abi_open_raw();
	must(ep.fd);
	ep.anchor = abi_anchor(ep.fd);
	assert_non_null(ep.anchor);
	return ep;
}

static inline void abi_ep_close(struct abi_ep *ep)
{
	munmap((void *)ep->anchor, ABI_PAGE);
	close(ep->fd);
}

static inline int abi_query(int fd, struct shmipc_query *q)
{
	memset(q, 0, sizeof(*q));
	q->size = sizeof(*q);
	return abi_ioctl(fd, SHMIPC_IOC_QUERY, q);
}

static inline int abi_close(int fd, uint32_t handle, uint32_t flags)
{
	struct shmipc_close a = { .size = sizeof(a), .handle = handle, .flags = flags };

	return abi_ioctl(fd, SHMIPC_IOC_CLOSE, &a);
}

/* ---- segments ---- */

/**
 * struct abi_seg - a segment, and where it is mapped
 */
struct abi_seg {
	uint32_t handle;
	uint64_t offset;
	uint64_t length;
	volatile uint8_t *map;
};

static inline int abi_seg_create(int fd, uint64_t length, struct abi_seg *seg)
{
	struct shmipc_seg_create a = { .size = sizeof(a), .length = length };
	int ret = abi_ioctl(fd, SHMIPC_IOC_SEG_CREATE, &a);

	memset(seg, 0, sizeof(*seg));
	seg->handle = a.out_handle;
	seg->offset = a.out_offset;
	seg->length = a.out_length;
	return ret;
}

static inline int abi_map(int fd, uint64_t offset, uint64_t length, int prot,
			  volatile uint8_t **map)
{
	void *p = mmap(NULL, length, prot, MAP_SHARED, fd, offset);

	*map = p == MAP_FAILED ? NULL : p;
	return p == MAP_FAILED ? -errno : 0;
}

static inline struct abi_seg abi_seg_new(int fd, uint64_t length)
{
	struct abi_seg seg;

	must(abi_seg_create(fd, length, &seg));
	must(abi_map(fd, seg.offset, seg.length, PROT_READ | PROT_WRITE, &seg.map));
	return seg;
}

static inline int abi_seg_info(int fd, uint32_t handle, struct shmipc_seg_info *a)
{
	*a = (struct shmipc_seg_info){ .size = sizeof(*a), .handle = handle };
	return abi_ioctl(fd, SHMIPC_IOC_SEG_INFO, a);
}

static inline int abi_peer_info(int fd, uint32_t session, uint32_t slot, struct shmipc_seg_info *a)
{
	*a = (struct shmipc_seg_info){ .size = sizeof(*a), .flags = SHMIPC_SEG_OF_PEER,
				       .handle = session, .slot = slot };
	return abi_ioctl(fd, SHMIPC_IOC_SEG_INFO, a);
}

/* Maps what the peer granted under @slot. */
static inline struct abi_seg abi_peer_map(int fd, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_info a;
	struct abi_seg seg = {};

	must(abi_peer_info(fd, session, slot, &a));
	assert_int_equal(a.out_rights, SHMIPC_RIGHT_READ);
	seg.offset = a.out_offset;
	seg.length = a.out_length;
	must(abi_map(fd, seg.offset, seg.length, PROT_READ, &seg.map));
	return seg;
}

static inline void abi_unmap(struct abi_seg *seg)
{
	if (seg->map)
		munmap((void *)seg->map, seg->length);
	seg->map = NULL;
}

static inline int abi_grant(int fd, uint32_t session, uint32_t segment, uint32_t slot)
{
	struct shmipc_seg_grant a = { .size = sizeof(a), .session = session, .segment = segment,
				      .slot = slot };

	return abi_ioctl(fd, SHMIPC_IOC_SEG_GRANT, &a);
}

static inline int abi_revoke(int fd, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_revoke a = { .size = sizeof(a), .session = session, .slot = slot };

	return abi_ioctl(fd, SHMIPC_IOC_SEG_REVOKE, &a);
}

static inline int abi_freeze(int fd, uint32_t segment)
{
	struct shmipc_seg_freeze a = { .size = sizeof(a), .segment = segment };

	return abi_ioctl(fd, SHMIPC_IOC_SEG_FREEZE, &a);
}

static inline int abi_give(int fd, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_give a = { .size = sizeof(a), .session = session, .slot = slot };

	return abi_ioctl(fd, SHMIPC_IOC_SEG_GIVE, &a);
}

/* Not mapped: that is abi_map()'s. */
static inline int abi_take(int fd, uint32_t session, uint32_t slot, struct abi_seg *seg)
{
	struct shmipc_seg_take a = { .size = sizeof(a), .session = session, .slot = slot };
	int ret = abi_ioctl(fd, SHMIPC_IOC_SEG_TAKE, &a);

	*seg = (struct abi_seg){ .handle = a.out_handle, .offset = a.out_offset,
				 .length = a.out_length };
	return ret;
}

static inline int abi_refuse(int fd, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_take a = { .size = sizeof(a), .flags = SHMIPC_TAKE_REFUSE,
				     .session = session, .slot = slot };

	return abi_ioctl(fd, SHMIPC_IOC_SEG_TAKE, &a);
}

/* ---- names and sessions ---- */

static inline struct shmipc_bind abi_bind_arg(const char *name)
{
	return (struct shmipc_bind){ .size = sizeof(struct shmipc_bind),
		.name = (uintptr_t)name, .name_len = strlen(name), .mode = 0222, .backlog = 16,
		.causes = SHMIPC_CAUSE_ACCEPT };
}

static inline uint32_t abi_bind(int fd, const char *name)
{
	struct shmipc_bind a = abi_bind_arg(name);

	a.cookie = 0xb1d;
	must(abi_ioctl(fd, SHMIPC_IOC_BIND, &a));
	return a.out_handle;
}

static inline struct shmipc_connect abi_connect_arg(const char *name)
{
	return (struct shmipc_connect){ .size = sizeof(struct shmipc_connect),
		.name = (uintptr_t)name, .name_len = strlen(name), .causes = ABI_CAUSES,
		.cookie = 0xc0, .timeout_ns = ABI_LIMIT };
}

static inline struct shmipc_accept abi_accept_arg(uint32_t listener)
{
	return (struct shmipc_accept){ .size = sizeof(struct shmipc_accept), .listener = listener,
		.causes = ABI_CAUSES, .cookie = 0xac };
}

/* ---- handover ---- */

static inline struct shmipc_offer abi_offer_arg(void)
{
	return (struct shmipc_offer){ .size = sizeof(struct shmipc_offer),
		.adopt = SHMIPC_ADOPT_HOLDER, .timeout_ns = ABI_LIMIT, .cookie = 0x0ffe };
}

/* The offer's fd, or -errno; with @handle, its handle too. */
static inline int abi_offer(int fd, uint32_t flags, uint32_t *handle)
{
	struct shmipc_offer a = abi_offer_arg();
	int ret;

	a.flags = flags;
	ret = abi_ioctl(fd, SHMIPC_IOC_OFFER, &a);
	if (handle)
		*handle = a.out_handle;
	return ret ? ret : a.out_fd;
}

/* The successor's fd, or -errno. */
static inline int abi_adopt(int fd, int offer)
{
	struct shmipc_adopt a = { .size = sizeof(a), .offer_fd = offer };
	int ret = abi_ioctl(fd, SHMIPC_IOC_ADOPT, &a);

	return ret ? ret : a.out_fd;
}

static inline int abi_adopt_name(int fd, const char *name)
{
	struct shmipc_adopt a = { .size = sizeof(a), .name = (uintptr_t)name,
				  .name_len = strlen(name) };
	int ret = abi_ioctl(fd, SHMIPC_IOC_ADOPT, &a);

	return ret ? ret : a.out_fd;
}

/* With its anchor; @by is any endpoint of the caller. */
static inline struct abi_ep abi_ep_adopt(int by, int offer)
{
	struct abi_ep ep = { .fd = abi_adopt(by, offer) };

	must(ep.fd);
	ep.anchor = abi_anchor(ep.fd);
	assert_non_null(ep.anchor);
	return ep;
}

static inline int abi_yield(int fd)
{
	struct shmipc_yield a = { .size = sizeof(a) };

	return abi_ioctl(fd, SHMIPC_IOC_YIELD, &a);
}

static inline int abi_commit(int fd)
{
	struct shmipc_commit a = { .size = sizeof(a) };

	return abi_ioctl(fd, SHMIPC_IOC_COMMIT, &a);
}

static inline int abi_watch(int fd, uint32_t handle, uint32_t causes, uint64_t cookie)
{
	struct shmipc_watch a = { .size = sizeof(a), .handle = handle, .causes = causes,
				  .cookie = cookie };

	return abi_ioctl(fd, SHMIPC_IOC_WATCH, &a);
}

static inline struct shmipc_list abi_list_arg(struct shmipc_item *items, uint32_t max)
{
	return (struct shmipc_list){ .size = sizeof(struct shmipc_list),
		.item_size = sizeof(*items), .items = (uintptr_t)items, .max = max };
}

/* All items of the endpoint, or of @session, asked for three at a time. How many. */
static inline int abi_list(int fd, uint32_t session, struct shmipc_item *items, int max,
			   uint32_t *flags)
{
	struct shmipc_list a = abi_list_arg(items, 3);
	int n = 0, ret;

	a.session = session;
	do {
		assert_true(n + 3 <= max);
		a.items = (uintptr_t)(items + n);
		ret = abi_ioctl(fd, SHMIPC_IOC_LIST, &a);
		if (ret)
			return ret;
		n += a.out_nr;
	} while (a.cursor);
	if (flags)
		*flags = a.out_flags;
	return n;
}

/* What poll says of @fd within @ms. */
static inline int abi_poll(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) < 0 ? -errno : p.revents;
}

/* It hangs up, sooner or later, whatever there is to read. */
static inline void abi_wait_hup(int fd)
{
	struct pollfd p = { .fd = fd };

	assert_int_equal(poll(&p, 1, ABI_LIMIT / 1000000), 1);
	assert_int_equal(p.revents, POLLHUP);
}

/* ---- SYNC ---- */

static inline struct shmipc_sync abi_wait_arg(void)
{
	return (struct shmipc_sync){ .size = sizeof(struct shmipc_sync),
		.flags = SHMIPC_SYNC_WAIT, .max_events = 1, .timeout_ns = ABI_LIMIT };
}

static inline int abi_ring(int fd, uint32_t session, uint32_t bits)
{
	struct shmipc_sync a = { .size = sizeof(a), .nr_notify = 1,
				 .one = { .handle = session, .bits = bits } };
	int ret = abi_ioctl(fd, SHMIPC_IOC_SYNC, &a);

	if (!ret && a.out_flags & SHMIPC_SYNC_NOTIFY_FAILED)
		return -(int)a.out_errno;
	return ret;
}

/* One event within @timeout, or -ETIMEDOUT, or -EINTR. */
static inline int abi_event(int fd, uint64_t timeout, struct shmipc_ready *ev)
{
	struct shmipc_sync a = abi_wait_arg();
	int ret;

	a.timeout_ns = timeout;
	ret = abi_ioctl(fd, SHMIPC_IOC_SYNC, &a);
	memset(ev, 0, sizeof(*ev));
	if (ret)
		return ret;
	if (a.out_nr_events) {
		*ev = a.out_one;
		return 0;
	}
	return a.out_flags & SHMIPC_SYNC_TIMED_OUT ? -ETIMEDOUT : -EINTR;
}

/* Waits for an event of @handle with exactly these causes. */
#define expect_event(fd, handle, causes) \
	abi_expect_event((fd), (handle), (causes), __FILE__, __LINE__)
static inline void abi_expect_event(int fd, uint32_t handle, uint32_t causes, const char *file,
				    int line)
{
	struct shmipc_ready ev;

	abi_must(abi_event(fd, ABI_LIMIT, &ev), "event", file, line);
	if (ev.handle != handle || ev.causes != causes) {
		print_error("event of %u: %#x, expected %u: %#x\n", ev.handle, ev.causes, handle,
			    causes);
		_fail(file, line);
	}
}

static inline void abi_expect_quiet(int fd)
{
	struct shmipc_ready ev;

	fails(abi_event(fd, 0, &ev), ETIMEDOUT);
}

/**
 * struct abi_pair - a session whose two sides are endpoints of this process
 * @server: who accepted
 * @client: who connected
 * @listener: on @server
 * @at_server: the session there
 * @at_client: the session here
 * @server_seg: slot 0 of the server's side
 * @client_seg: slot 0 of the client's side
 */
struct abi_pair {
	struct abi_ep server, client;
	uint32_t listener, at_server, at_client;
	struct abi_seg server_seg, client_seg;
};

static inline struct abi_pair abi_pair_open(const char *name)
{
	struct abi_pair p = { .server = abi_ep_open(), .client = abi_ep_open() };
	struct shmipc_connect c = abi_connect_arg(name);
	struct shmipc_accept a;

	p.server_seg = abi_seg_new(p.server.fd, 2 * ABI_PAGE);
	p.client_seg = abi_seg_new(p.client.fd, 3 * ABI_PAGE);
	p.listener = abi_bind(p.server.fd, name);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = p.client_seg.handle;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_CONNECT, &c));
	p.at_client = c.out_session;
	expect_event(p.server.fd, p.listener, SHMIPC_CAUSE_ACCEPT);
	a = abi_accept_arg(p.listener);
	a.segment = p.server_seg.handle;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_ACCEPT, &a));
	p.at_server = a.out_session;
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_CONNECTED);
	return p;
}

static inline void abi_pair_close(struct abi_pair *p)
{
	abi_unmap(&p->server_seg);
	abi_unmap(&p->client_seg);
	abi_ep_close(&p->server);
	abi_ep_close(&p->client);
}

/* ---- faults ---- */

static __thread sigjmp_buf abi_jump;

static inline void abi_on_fault(int sig)
{
	siglongjmp(abi_jump, sig);
}

/* The signal that reading @p, or writing @write to it, gives; 0 if none. */
static inline int abi_touch(volatile uint8_t *p, bool write)
{
	struct sigaction sa = { .sa_handler = abi_on_fault, .sa_flags = SA_NODEFER }, bus, segv;
	int sig;

	sigaction(SIGBUS, &sa, &bus);
	sigaction(SIGSEGV, &sa, &segv);
	sig = sigsetjmp(abi_jump, 1);
	if (!sig) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

/* ---- counters ---- */

/* The module's own count of @name; -1 without such a line. */
static inline long abi_counter(const char *name)
{
	char line[64];
	long value = -1;
	size_t len = strlen(name);
	FILE *f = fopen(ABI_COUNTERS, "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, len) && line[len] == ' ')
			value = strtol(line + len, NULL, 10);
	}
	fclose(f);
	return value;
}

/* The sum of all live objects and charged pages, for "nothing was left behind". */
static inline long abi_alive(void)
{
	char line[64], *value;
	long sum = 0;
	FILE *f = fopen(ABI_COUNTERS, "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		value = strchr(line, ' ');
		if (value && (strstr(line, "_live ") || !strncmp(line, "pages ", 6)))
			sum += strtol(value, NULL, 10);
	}
	fclose(f);
	return sum;
}

/* All of those, a line each, to tell which one has changed. */
struct abi_counts {
	char text[512];
};

static inline struct abi_counts abi_counts(void)
{
	struct abi_counts c = {};
	FILE *f = fopen(ABI_COUNTERS, "r");
	char line[64];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, "_total "))
			strncat(c.text, line, sizeof(c.text) - strlen(c.text) - 1);
	}
	fclose(f);
	return c;
}

static inline uint64_t abi_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * ABI_SECOND + ts.tv_nsec;
}

static inline void abi_sleep_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* Sleeps up to @us microseconds, so that two who race meet in all ways. */
static inline void abi_nap(unsigned int *seed, int us)
{
	struct timespec ts = { .tv_nsec = rand_r(seed) % (us * 1000) };

	nanosleep(&ts, NULL);
}

/* Death is work of the kernel's own threads: waits until as much is alive as @want. */
#define expect_alive(want)	abi_expect_alive((want), __FILE__, __LINE__)
static inline void abi_expect_alive(long want, const char *file, int line)
{
	static bool given_up;	/* what one test has left is there for the next as well */
	int tries, limit = given_up ? 10 : 3000;

	for (tries = 0; abi_alive() != want && tries < limit; tries++)
		abi_sleep_ms(10);
	if (abi_alive() != want) {
		given_up = true;
		print_error("alive: %ld, expected %ld\n", abi_alive(), want);
		if (system("cat " ABI_COUNTERS " >&2"))
			print_error("cannot show them\n");
		_fail(file, line);
	}
}

static inline int abi_nothing_left(void **state)
{
	(void)state;
	expect_alive(0);
	return 0;
}

/* Sets a parameter of the module; @old gets what it was. */
static inline void abi_param(const char *name, unsigned long value, unsigned long *old)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), ABI_PARAMS "%s", name);
	f = fopen(path, "r+");
	assert_non_null(f);
	if (old)
		assert_int_equal(fscanf(f, "%lu", old), 1);
	rewind(f);
	assert_true(fprintf(f, "%lu\n", value) > 0);
	assert_int_equal(fclose(f), 0);
}

/* ---- processes ---- */

/* A child in which a failed assertion aborts, and does not run the tests that follow. */
static inline pid_t abi_fork(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		setenv("CMOCKA_TEST_ABORT", "1", 1);
	return pid;
}

/* Runs fn(arg) in a child. */
static inline pid_t abi_spawn(void (*fn)(void *), void *arg)
{
	pid_t pid = abi_fork();

	if (!pid) {
		fn(arg);
		fflush(NULL);
		_exit(0);
	}
	return pid;
}

/* The exit status, or 128 + the signal. */
static inline int abi_reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* One byte through a pipe, from process to process. */
static inline void abi_tell(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

static inline void abi_hear(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	assert_int_equal(poll(&p, 1, ABI_LIMIT / 1000000), 1);
	assert_int_equal(read(fd, &c, 1), 1);
}

/* Skips the whole program where the module is not. */
#define abi_main(tests)								\
	int main(void)								\
	{									\
		if (access(ABI_DEVICE, F_OK)) {					\
			puts("no " ABI_DEVICE);					\
			return 77;						\
		}								\
		return cmocka_run_group_tests(tests, NULL, abi_nothing_left);	\
	}

/* Each test must leave nothing. */
#define abi_test(fn)	cmocka_unit_test_teardown(fn, abi_nothing_left)

#endif
