// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Random requests from threads that share endpoints, in processes that are killed at any moment.
 * Nothing is expected of an answer; the kernel must not complain, every process must be able to
 * end, and nothing may be left.
 *
 * SHMIPC_FUZZ_SEED and SHMIPC_FUZZ_SECONDS choose another run.
 */
#define _GNU_SOURCE
#include "abi.h"

#include <pthread.h>

#define PROCESSES	3
#define THREADS		3
#define HANDLES		6	/* of a kind that are remembered: few, so that requests meet */
#define MAPS		8

enum kind { SEGMENT, LISTENER, SESSION, KINDS };

static const char *const names[] = { "fuzz:a", "fuzz:b" };

/* What the threads of a process share, without a lock: what they spoil is the module's to stand. */
static struct {
	int fd[2];
	void *anchor[2];
	volatile int offer, next;	/* of a handover under way, or -1 */
	volatile uint32_t recent[2][KINDS][HANDLES];
	volatile uint32_t calls, good;
} my;

struct state {
	unsigned int seed;
	int ep;			/* of the request under way */
	struct {
		void *at;
		size_t length;
	} map[MAPS];
};

static uint32_t pick(struct state *s, uint32_t below)
{
	return rand_r(&s->seed) % below;
}

static int any_fd(struct state *s)
{
	s->ep = pick(s, 2);
	return my.fd[s->ep];
}

/* Mostly one of the right kind, of the endpoint that any_fd() chose. */
static uint32_t any(struct state *s, enum kind kind)
{
	if (!pick(s, 16))
		return pick(s, 64);
	if (!pick(s, 16))
		kind = pick(s, KINDS);
	return my.recent[s->ep][kind][pick(s, HANDLES)];
}

/* Passes an answer on, and remembers the handle if it was good. */
static int remember(struct state *s, int ret, enum kind kind, uint32_t handle)
{
	if (!ret)
		my.recent[s->ep][kind][pick(s, HANDLES)] = handle;
	return ret;
}

static int fuzz_create(struct state *s)
{
	struct abi_seg seg;
	int ret = abi_seg_create(any_fd(s), 1 + pick(s, 64) * ABI_PAGE, &seg);

	return remember(s, ret, SEGMENT, seg.handle);
}

static int fuzz_close(struct state *s)
{
	int fd = any_fd(s);
	enum kind kind = pick(s, KINDS);

	if (!pick(s, 100))
		return abi_close(fd, 0, 0);
	if (pick(s, 3))
		return 0;
	return abi_close(fd, any(s, kind), kind == SESSION ? pick(s, 2) : 0);
}

static int fuzz_bind(struct state *s)
{
	struct shmipc_bind a = abi_bind_arg(names[pick(s, 2)]);
	int fd = any_fd(s), ret;

	a.backlog = 1 + pick(s, 4);
	ret = abi_ioctl(fd, SHMIPC_IOC_BIND, &a);
	return remember(s, ret, LISTENER, a.out_handle);
}

static int fuzz_connect(struct state *s)
{
	struct shmipc_connect a = abi_connect_arg(names[pick(s, 2)]);
	int fd = any_fd(s), ret;

	a.flags = pick(s, 2);
	a.timeout_ns = pick(s, 2000000);
	a.segment = pick(s, 2) ? any(s, SEGMENT) : 0;
	a.meta = (uintptr_t)names;
	a.meta_len = pick(s, 16);
	ret = abi_ioctl(fd, SHMIPC_IOC_CONNECT, &a);
	return remember(s, ret, SESSION, a.out_session);
}

static int fuzz_accept(struct state *s)
{
	int fd = any_fd(s), home, ret;
	struct shmipc_accept a = abi_accept_arg(any(s, LISTENER));

	if (pick(s, 2)) {
		home = any_fd(s);
		a.flags = SHMIPC_ACCEPT_HOME;
		a.home_fd = home;
	}
	a.segment = pick(s, 2) ? any(s, SEGMENT) : 0;
	ret = abi_ioctl(fd, SHMIPC_IOC_ACCEPT, &a);
	return remember(s, ret, SESSION, a.out_session);
}

static int fuzz_grant(struct state *s)
{
	int fd = any_fd(s);

	return abi_grant(fd, any(s, SESSION), any(s, SEGMENT), pick(s, 4));
}

static int fuzz_revoke(struct state *s)
{
	int fd = any_fd(s);

	return abi_revoke(fd, any(s, SESSION), pick(s, 4));
}

static int fuzz_freeze(struct state *s)
{
	int fd = any_fd(s);

	return pick(s, 8) ? 0 : abi_freeze(fd, any(s, SEGMENT));
}

static int fuzz_give(struct state *s)
{
	int fd = any_fd(s);

	return abi_give(fd, any(s, SESSION), pick(s, 4));
}

static int fuzz_take(struct state *s)
{
	int fd = any_fd(s), ret;
	struct abi_seg seg;

	if (!pick(s, 4))
		return abi_refuse(fd, any(s, SESSION), pick(s, 4));
	ret = abi_take(fd, any(s, SESSION), pick(s, 4), &seg);
	return remember(s, ret, SEGMENT, seg.handle);
}

static int fuzz_sync(struct state *s)
{
	int fd = any_fd(s), i;
	struct shmipc_notify n[8];
	struct shmipc_ready ev[24];
	struct shmipc_sync a = { .size = sizeof(a), .flags = pick(s, 2), .nr_notify = pick(s, 8),
		.notify = (uintptr_t)n, .events = pick(s, 8) ? (uintptr_t)ev : 8,
		.max_events = pick(s, 24), .timeout_ns = pick(s, 2000000),
		.wait_on = pick(s, 3) ? 0 : any(s, SESSION) };

	for (i = 0; i < 8; i++)
		n[i] = (struct shmipc_notify){ any(s, SESSION), 1 + pick(s, 0x10001) };
	return abi_ioctl(fd, SHMIPC_IOC_SYNC, &a);
}

static int fuzz_map(struct state *s)
{
	struct shmipc_seg_info info;
	int fd = any_fd(s), i = pick(s, MAPS), ret;
	volatile uint8_t *at;

	ret = pick(s, 2) ? abi_seg_info(fd, any(s, SEGMENT), &info) :
			   abi_peer_info(fd, any(s, SESSION), pick(s, 4), &info);
	if (ret || s->map[i].at)
		return ret;
	ret = abi_map(fd, info.out_offset, info.out_length,
		      pick(s, 2) ? PROT_READ : PROT_READ | PROT_WRITE, &at);
	if (!ret) {
		s->map[i].at = (void *)at;
		s->map[i].length = info.out_length;
	}
	return ret;
}

static int fuzz_unmap(struct state *s)
{
	int i = pick(s, MAPS);

	if (s->map[i].at)
		munmap(s->map[i].at, s->map[i].length);
	s->map[i].at = NULL;
	return 0;
}

/* Lets the kernel touch it: a fault is an errno here, and no signal. */
static int fuzz_touch(struct state *s)
{
	int i = pick(s, MAPS), pipes[2], ret;

	if (!s->map[i].at || pipe(pipes))
		return -1;
	ret = write(pipes[1], s->map[i].at, 64);
	if (ret == 64)
		ret = read(pipes[0], s->map[i].at, 64);
	close(pipes[0]);
	close(pipes[1]);
	return ret;
}

/* A step of a handover between the two, in whatever state it is. */
static int fuzz_handover(struct state *s)
{
	struct shmipc_bind b = abi_bind_arg(names[pick(s, 2)]);
	struct shmipc_item items[4];
	struct shmipc_list l = abi_list_arg(items, 4);
	int fd = any_fd(s), ret = 0, i = s->ep;

	switch (pick(s, 8)) {
	case 0:
		ret = abi_offer(fd, pick(s, 2), NULL);
		if (ret >= 0 && my.offer >= 0)
			close(ret);
		else if (ret >= 0)
			my.offer = ret;
		return ret;
	case 1:
		ret = pick(s, 2) ? abi_adopt(fd, my.offer) : abi_adopt_name(fd, names[pick(s, 2)]);
		if (ret < 0)
			return ret;
		if (my.next >= 0)
			close(my.next);
		my.next = ret;
		abi_anchor(ret);
		return ret;
	case 2:
		return abi_yield(fd);
	case 3:
		ret = abi_commit(my.next);
		if (!ret && pick(s, 2))
			dup3(my.next, my.fd[i], O_CLOEXEC);
		return ret;
	case 4:
		i = my.offer;
		my.offer = -1;
		return close(i);
	case 5:
		l.session = pick(s, 2) ? any(s, SESSION) : 0;
		return abi_ioctl(pick(s, 2) ? fd : my.next, SHMIPC_IOC_LIST, &l);
	case 6:
		return abi_watch(fd, any(s, SESSION), ABI_CAUSES | SHMIPC_CAUSE_PEER_PAUSE, 1);
	default:
		b.adopt = SHMIPC_ADOPT_EUID;
		b.orphan_ms = pick(s, 300);
		b.flags = pick(s, 2) * SHMIPC_BIND_FRESH;
		ret = abi_ioctl(fd, SHMIPC_IOC_BIND, &b);
		return remember(s, ret, LISTENER, b.out_handle);
	}
}

static int fuzz_reopen(struct state *s)
{
	int i = pick(s, 2), fd;

	if (pick(s, 40))
		return 0;
	if (pick(s, 2))
		munmap(my.anchor[i], ABI_PAGE);
	fd = abi_open_raw();
	if (fd < 0)
		return fd;
	dup3(fd, my.fd[i], O_CLOEXEC);
	close(fd);
	my.anchor[i] = (void *)abi_anchor(my.fd[i]);
	return 0;
}

static int (*const steps[])(struct state *s) = {
	fuzz_create, fuzz_create, fuzz_close, fuzz_bind, fuzz_connect, fuzz_connect, fuzz_accept,
	fuzz_accept, fuzz_grant, fuzz_revoke, fuzz_sync, fuzz_sync, fuzz_map, fuzz_map, fuzz_unmap,
	fuzz_touch, fuzz_reopen, fuzz_freeze, fuzz_give, fuzz_give, fuzz_take, fuzz_take,
	fuzz_handover, fuzz_handover,
};

static void *fuzz_thread(void *arg)
{
	struct state s = { .seed = (uintptr_t)arg };

	for (;;) {
		my.good += steps[pick(&s, sizeof(steps) / sizeof(*steps))](&s) >= 0;
		my.calls++;
	}
	return NULL;
}

/* Long enough for a hundred requests, also where each takes its time. */
static long life_ms(void)
{
	return abi_slow() ? 6000 : 300;
}

/* Lives until it is killed, or for a while, and then says how much it did. */
static void fuzz_process(void *arg)
{
	uintptr_t seed = (uintptr_t)arg, i;
	pthread_t thread;

	my.offer = my.next = -1;
	for (i = 0; i < 2; i++) {
		my.fd[i] = abi_open_raw();
		if (my.fd[i] < 0)
			_exit(2);
		my.anchor[i] = (void *)abi_anchor(my.fd[i]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_create(&thread, NULL, fuzz_thread, (void *)(seed * THREADS + i));
	abi_sleep_ms(2 * life_ms());
	/* Some requests succeed, else nothing was tried. */
	_exit(my.good > my.calls / 100 && my.calls > 100 ? 0 : 1);
}

static unsigned long setting(const char *name, unsigned long value)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : value;
}

/* On each of three kernels: ten minutes in all in the long check. */
static unsigned long seconds(void)
{
	const char *scale = getenv("SHMIPC_TEST_SCALE");

	if (scale && !strcmp(scale, "long"))
		return 200;
	return abi_slow() || (scale && !strcmp(scale, "check")) ? 30 : 10;
}

static void test_fuzz(void **state)
{
	unsigned long seed = setting("SHMIPC_FUZZ_SEED", 1);
	time_t end = time(NULL) + setting("SHMIPC_FUZZ_SECONDS", seconds());
	unsigned int mine = seed, slot, killed = 0, ended = 0;
	pid_t pid[PROCESSES];
	int status;

	(void)state;
	print_message("seed %lu\n", seed);
	for (slot = 0; slot < PROCESSES; slot++)
		pid[slot] = abi_spawn(fuzz_process, (void *)(++seed));
	while (time(NULL) < end) {
		abi_sleep_ms(rand_r(&mine) % life_ms());
		slot = rand_r(&mine) % PROCESSES;
		kill(pid[slot], SIGKILL);
		status = abi_reap(pid[slot]);
		killed += status == 128 + SIGKILL;
		ended += status == 0;
		assert_true(status == 0 || status == 128 + SIGKILL);
		pid[slot] = abi_spawn(fuzz_process, (void *)(++seed));
	}
	for (slot = 0; slot < PROCESSES; slot++)
		abi_reap(pid[slot]);
	print_message("killed %u, ended %u\n", killed, ended);
	print_message("sessions %ld, grants %ld, revokes %ld, faults %ld, doorbells %ld\n",
		      abi_counter("sessions_total"), abi_counter("grants_total"),
		      abi_counter("revokes_total"), abi_counter("faults_total"),
		      abi_counter("doorbells_total"));
	print_message("offers %ld, adoptions %ld, commits %ld, orphans %ld, expiries %ld\n",
		      abi_counter("offers_total"), abi_counter("adoptions_total"),
		      abi_counter("commits_total"), abi_counter("orphans_total"),
		      abi_counter("expiries_total"));
	assert_true(killed > 0);
	assert_true(abi_counter("revokes_total") > 0 && abi_counter("doorbells_total") > 0);
	assert_true(abi_counter("faults_total") > 0);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_fuzz),
};

abi_main(tests)
