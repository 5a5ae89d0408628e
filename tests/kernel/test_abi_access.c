// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What the memory manager and debuggers may do with a mapping: they read, and change nothing of who
 * may write, who inherits and how long. Each refusal has its control on ordinary memory.
 */
#define _GNU_SOURCE
#include "abi.h"

#include <linux/userfaultfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define NAME	"test:access"
#define RW	(PROT_READ | PROT_WRITE)

static volatile uint8_t *anon_new(uint64_t length)
{
	void *p = mmap(NULL, length, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static int advise(volatile void *p, int advice)
{
	return madvise((void *)p, ABI_PAGE, advice) ? -errno : 0;
}

static int protect(volatile void *p, int prot)
{
	return mprotect((void *)p, ABI_PAGE, prot) ? -errno : 0;
}

/* ---- /proc/PID/mem ---- */

static int mem_read(int fd, volatile uint8_t *at, uint8_t *value)
{
	return pread(fd, value, 1, (uintptr_t)at) < 0 ? -errno : 0;
}

static int mem_write(int fd, volatile uint8_t *at)
{
	return pwrite(fd, "!", 1, (uintptr_t)at) < 0 ? -errno : 0;
}

static void test_proc_mem(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);
	volatile uint8_t *anon = anon_new(ABI_PAGE);
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t value;
	char both[8];

	(void)state;
	assert_true(fd >= 0);
	anon[5] = 1;
	must(mem_read(fd, anon + 5, &value));
	assert_int_equal(value, 1);
	must(mem_write(fd, anon + 5));
	assert_int_equal(anon[5], '!');

	/* The peer's mapping has not been touched: there is no page table to look at. */
	p.server_seg.map[5] = 2;
	must(mem_read(fd, peer.map + 5, &value));
	assert_int_equal(value, 2);
	must(mem_read(fd, p.server_seg.map + 5, &value));
	assert_int_equal(value, 2);
	/* Over the border of two pages. */
	memcpy((void *)(p.server_seg.map + ABI_PAGE - 4), "abcdefgh", 8);
	assert_int_equal(pread(fd, both, 8, (uintptr_t)peer.map + ABI_PAGE - 4), 8);
	assert_memory_equal(both, "abcdefgh", 8);
	fails(mem_write(fd, p.server_seg.map + 5), EIO);
	fails(mem_write(fd, peer.map + 5), EIO);
	fails(mem_write(fd, (void *)p.server.anchor), EIO);
	assert_int_equal(p.server_seg.map[5], 2);
	assert_int_equal(abi_touch(peer.map, false), 0);
	fails(mem_write(fd, peer.map + 5), EIO);

	/* Nor what was revoked. */
	must(abi_revoke(p.server.fd, p.at_server, 0));
	fails(mem_read(fd, peer.map + 5, &value), EIO);
	must(mem_read(fd, p.server_seg.map + 5, &value));
	must(abi_close(p.server.fd, p.server_seg.handle, 0));
	fails(mem_read(fd, p.server_seg.map + 5, &value), EIO);
	close(fd);
	munmap((void *)anon, ABI_PAGE);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* ---- ptrace ---- */

struct traced {
	volatile long *anon, *own, *peer;
};

static void traced_run(struct traced *t, int out)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);

	t->anon = (void *)anon_new(ABI_PAGE);
	t->own = (void *)p.server_seg.map;
	t->peer = (void *)peer.map;
	*t->anon = 1;
	*t->own = 2;
	assert_int_equal(write(out, t, sizeof(*t)), sizeof(*t));
	assert_int_equal(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
	raise(SIGSTOP);
	_exit(*t->own == 2 && *t->peer == 2 && *t->anon == 4 ? 0 : 1);
}

static void expect_peek(pid_t pid, volatile long *at, long value)
{
	long got;

	errno = 0;
	got = ptrace(PTRACE_PEEKDATA, pid, at, NULL);
	assert_int_equal(errno, 0);
	assert_int_equal(got, value);
}

static int poke(pid_t pid, volatile long *at, long value)
{
	return ptrace(PTRACE_POKEDATA, pid, at, value) < 0 ? -errno : 0;
}

static void test_ptrace(void **state)
{
	struct traced t;
	int out[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(out), 0);
	pid = abi_fork();
	if (!pid)
		traced_run(&t, out[1]);
	close(out[1]);	/* a child that fails is the end of it */
	assert_int_equal(read(out[0], &t, sizeof(t)), sizeof(t));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	expect_peek(pid, t.anon, 1);
	must(poke(pid, t.anon, 4));
	expect_peek(pid, t.own, 2);
	expect_peek(pid, t.peer, 2);
	fails(poke(pid, t.own, 5), EIO);
	fails(poke(pid, t.peer, 5), EIO);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	assert_int_equal(abi_reap(pid), 0);
	close(out[0]);
}

/* ---- userfaultfd ---- */

static int uffd_register(int fd, volatile void *at)
{
	struct uffdio_register r = { .range = { (uintptr_t)at, ABI_PAGE },
				     .mode = UFFDIO_REGISTER_MODE_MISSING };

	return ioctl(fd, UFFDIO_REGISTER, &r) < 0 ? -errno : 0;
}

/* Who serves a mapping's faults would decide what its owner reads. */
static void test_userfaultfd(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);
	volatile uint8_t *anon = anon_new(ABI_PAGE);
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	(void)state;
	must(fd < 0 ? -errno : 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	must(uffd_register(fd, anon));
	fails(uffd_register(fd, p.server_seg.map), EINVAL);
	fails(uffd_register(fd, peer.map), EINVAL);
	fails(uffd_register(fd, p.server.anchor), EINVAL);
	close(fd);
	munmap((void *)anon, ABI_PAGE);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* ---- madvise and fork ---- */

/* The signal that a child gets from reading @p. */
static int touch_in_child(volatile uint8_t *p)
{
	pid_t pid = abi_fork();

	if (!pid)
		_exit(abi_touch(p, false));
	return abi_reap(pid);
}

static void test_fork(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);
	volatile uint8_t *anon = anon_new(ABI_PAGE);

	(void)state;
	must(advise(anon, MADV_DONTFORK));
	assert_int_equal(touch_in_child(anon), SIGSEGV);
	must(advise(anon, MADV_DOFORK));
	assert_int_equal(touch_in_child(anon), 0);
	must(advise(anon, MADV_DONTDUMP));
	must(advise(anon, MADV_DODUMP));
	fails(advise(p.server_seg.map, MADV_DOFORK), EINVAL);
	fails(advise(peer.map, MADV_DOFORK), EINVAL);
	fails(advise(p.server.anchor, MADV_DOFORK), EINVAL);
	fails(advise(p.server_seg.map, MADV_DODUMP), EINVAL);
	fails(advise(peer.map, MADV_DODUMP), EINVAL);
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(touch_in_child(p.server_seg.map), SIGSEGV);
	assert_int_equal(touch_in_child(peer.map), SIGSEGV);
	assert_int_equal(touch_in_child((void *)p.server.anchor), SIGSEGV);
	munmap((void *)anon, ABI_PAGE);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* ---- mremap ---- */

/* The new address, or the errno. */
static long remap(volatile void *p, uint64_t from, uint64_t to)
{
	void *q = mremap((void *)p, from, to, MREMAP_MAYMOVE);

	return q == MAP_FAILED ? -errno : (long)q;
}

static volatile void *move(volatile void *p, uint64_t length)
{
	void *to = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_equal(mremap((void *)p, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	return to;
}

/* Neither longer nor twice; the last form doubles ordinary shared memory. */
static void test_remap_grow(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);
	volatile uint8_t *anon = anon_new(2 * ABI_PAGE), *twin;

	(void)state;
	munmap((void *)(anon + ABI_PAGE), ABI_PAGE);
	anon[0] = 3;
	twin = (void *)remap(anon, 0, ABI_PAGE);
	assert_int_equal(twin[0], 3);
	munmap((void *)twin, ABI_PAGE);
	anon = (void *)remap(anon, ABI_PAGE, 2 * ABI_PAGE);
	must((long)anon);

	fails(remap(p.server_seg.map, p.server_seg.length, 2 * p.server_seg.length), EFAULT);
	fails(remap(peer.map, peer.length, 2 * peer.length), EFAULT);
	fails(remap(p.server.anchor, ABI_PAGE, 2 * ABI_PAGE), EFAULT);
	fails(remap(p.server_seg.map, 0, ABI_PAGE), EFAULT);
	fails(remap(peer.map, 0, ABI_PAGE), EFAULT);
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	munmap((void *)anon, 2 * ABI_PAGE);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* A mapping elsewhere is the same mapping: the same rights, and the same end. */
static void test_remap_move(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);

	(void)state;
	p.server_seg.map[0] = 1;
	assert_int_equal(abi_touch(peer.map, false), 0);
	p.server_seg.map = move(p.server_seg.map, p.server_seg.length);
	peer.map = move(peer.map, peer.length);
	p.client.anchor = move(p.client.anchor, ABI_PAGE);
	p.server_seg.map[0] = 2;
	assert_int_equal(peer.map[0], 2);
	assert_int_equal(peer.map[ABI_PAGE], 0);	/* a page that comes in by a fault there */
	fails(protect(peer.map, RW), EACCES);
	assert_int_equal(abi_touch(peer.map, true), SIGSEGV);
	must(abi_ring(p.server.fd, p.at_server, 1));
	expect_event(p.client.fd, p.at_client, 1);
	must(abi_revoke(p.server.fd, p.at_server, 0));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	must(abi_close(p.server.fd, p.server_seg.handle, 0));
	assert_int_equal(abi_touch(p.server_seg.map, true), SIGBUS);
	/* The anchor there is the anchor: with it the endpoint goes. */
	munmap((void *)p.client.anchor, ABI_PAGE);
	expect_event(p.server.fd, p.at_server, SHMIPC_CAUSE_PEER_DIED);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_proc_mem),
	abi_test(test_ptrace),
	abi_test(test_userfaultfd),
	abi_test(test_fork),
	abi_test(test_remap_grow),
	abi_test(test_remap_move),
};

abi_main(tests)
