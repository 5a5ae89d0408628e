// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * No way to pin the pages, for a pin would outlive a revoke. Each way is first taken with ordinary
 * memory, where it must work; then with a segment that was not touched yet, one that was, a peer's,
 * a successor's view, and what was handed over.
 */
#define _GNU_SOURCE
#include "handover.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- O_DIRECT ---- */

/* A block device: what some file systems call O_DIRECT goes through the page cache. */
static int open_direct(void)
{
	static const char *const paths[] = { "/dev/nvme0n1", "/dev/ram0" };
	size_t i;
	int fd;

	for (i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		fd = open(paths[i], O_RDWR | O_DIRECT | O_CLOEXEC);
		if (fd >= 0)
			return fd;
	}
	abi_skip("no block device for O_DIRECT");
	return -1;
}

static int direct(volatile uint8_t *page, bool to_disk)
{
	int fd = open_direct(), ret;

	if (to_disk)
		ret = pwrite(fd, (void *)page, ABI_PAGE, 0) < 0 ? -errno : 0;
	else
		ret = pread(fd, (void *)page, ABI_PAGE, 0) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int direct_write(volatile uint8_t *page)
{
	return direct(page, true);
}

static int direct_read(volatile uint8_t *page)
{
	return direct(page, false);
}

/* ---- what else pins ---- */

static int splice_page(volatile uint8_t *page, unsigned int flags)
{
	struct iovec iov = { (void *)page, ABI_PAGE };
	char buf[ABI_PAGE];
	int fd[2], ret = 0;
	ssize_t n;

	assert_int_equal(pipe(fd), 0);
	n = vmsplice(fd[1], &iov, 1, flags);
	if (n < 0)
		ret = -errno;
	else
		assert_int_equal(read(fd[0], buf, n), n);
	close(fd[0]), close(fd[1]);
	return ret;
}

static int splice_in(volatile uint8_t *page)
{
	return splice_page(page, 0);
}

/* A page that is given away, for whoever reads the pipe to keep. */
static int splice_gift(volatile uint8_t *page)
{
	return splice_page(page, SPLICE_F_GIFT);
}

/* io_uring's fixed buffers: a pin for as long as the ring lives. */
static int ring_register(volatile uint8_t *page)
{
	uint8_t params[120] = {};
	struct iovec iov = { (void *)page, ABI_PAGE };
	int ring = syscall(SYS_io_uring_setup, 1, params), ret;

	if (ring < 0)
		return -errno;
	ret = syscall(SYS_io_uring_register, ring, 0 /* IORING_REGISTER_BUFFERS */, &iov, 1);
	ret = ret < 0 ? -errno : 0;
	close(ring);
	return ret;
}

/* A connected TCP socket; @other is its peer. */
static int tcp_pair(int *other)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(listener, (void *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&addr, &len), 0);
	assert_int_equal(connect(fd, (void *)&addr, len), 0);
	*other = accept(listener, NULL, NULL);
	assert_true(*other >= 0);
	close(listener);
	return fd;
}

/* Sent by reference: the socket tells on its error queue when it has let go of the pages. */
static void expect_completion(int fd)
{
	struct pollfd pfd = { .fd = fd };
	char control[128];
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct sock_extended_err *err;

	assert_int_equal(poll(&pfd, 1, 30000), 1);
	assert_true(pfd.revents & POLLERR);
	assert_int_equal(recvmsg(fd, &msg, MSG_ERRQUEUE), 0);
	err = (void *)CMSG_DATA(CMSG_FIRSTHDR(&msg));
	assert_int_equal(err->ee_origin, SO_EE_ORIGIN_ZEROCOPY);
}

static int send_zerocopy(volatile uint8_t *page)
{
	int other, fd = tcp_pair(&other), one = 1, ret = 0;
	char buf[ABI_PAGE];

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), 0);
	if (send(fd, (void *)page, ABI_PAGE, MSG_ZEROCOPY) < 0) {
		ret = -errno;
	} else {
		assert_int_equal(recv(other, buf, sizeof(buf), MSG_WAITALL), ABI_PAGE);
		expect_completion(fd);
	}
	close(fd), close(other);
	return ret;
}

static int vm_readv(volatile uint8_t *page)
{
	char buf[64];
	struct iovec local = { buf, sizeof(buf) }, remote = { (void *)page, sizeof(buf) };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0 ? -errno : 0;
}

static int vm_writev(volatile uint8_t *page)
{
	char buf[64] = {};
	struct iovec local = { buf, sizeof(buf) }, remote = { (void *)page, sizeof(buf) };

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) < 0 ? -errno : 0;
}

/* A shared futex is found by its page, which it must get hold of. The value is another one. */
static int shared_futex(volatile uint8_t *page)
{
	if (!syscall(SYS_futex, page, 0 /* FUTEX_WAIT */, 0x55, NULL, NULL, 0))
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

/* ---- the tests ---- */

/**
 * struct pin - a way to get hold of pages
 */
struct pin {
	const char *name;
	int (*way)(volatile uint8_t *page);
};

static const struct pin pins[] = {
	{ "test_direct_write", direct_write },
	{ "test_direct_read", direct_read },
	{ "test_vmsplice", splice_in },
	{ "test_vmsplice_gift", splice_gift },
	{ "test_io_uring", ring_register },
	{ "test_zerocopy", send_zerocopy },
	{ "test_vm_readv", vm_readv },
	{ "test_vm_writev", vm_writev },
	{ "test_futex", shared_futex },
};

#define NR_PINS	(sizeof(pins) / sizeof(*pins))

static void test_pin(void **state)
{
	const struct pin *pin = *state;
	volatile uint8_t *anon = mmap(NULL, ABI_PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct abi_seg peer, own;
	struct scene s;

	if (pin->way == direct_write || pin->way == direct_read)
		close(open_direct());	/* skips before anything is open */
	must(pin->way(anon));
	s = scene_adopted();
	peer = abi_peer_map(s.p.client.fd, s.p.at_client, 0);
	fails(pin->way(s.p.server_seg.map), EFAULT);
	fails(pin->way(peer.map), EFAULT);
	fails(pin->way(s.view.map), EFAULT);
	memset((void *)s.p.server_seg.map, 0, ABI_PAGE);
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(abi_touch(s.view.map, false), 0);
	fails(pin->way(s.p.server_seg.map), EFAULT);
	fails(pin->way(peer.map), EFAULT);
	fails(pin->way(s.view.map), EFAULT);
	fails(pin->way((void *)s.p.server.anchor), EFAULT);
	/* Who tried before COMMIT has nothing after it, and who comes can't either. */
	must(abi_yield(s.p.server.fd));
	must(abi_commit(s.next.fd));
	assert_int_equal(abi_touch(s.p.server_seg.map, true), SIGBUS);
	fails(pin->way(s.p.server_seg.map), EFAULT);
	own = s.view;
	must(abi_map(s.next.fd, own.offset, own.length, RW, &own.map));
	assert_int_equal(abi_touch(own.map, true), 0);
	fails(pin->way(own.map), EFAULT);
	/* It was the memory, and not that the way no longer works. */
	must(pin->way(anon));
	abi_unmap(&peer);
	abi_unmap(&own);
	scene_close(&s);
	munmap((void *)anon, ABI_PAGE);
}

/* What copies is allowed: read, write, send and recv. */
static void test_plain(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);
	int pair[2], fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	p.server_seg.map[0] = 1;
	assert_int_equal(write(fds[1], (void *)p.server_seg.map, 512), 512);
	assert_int_equal(read(fds[0], (void *)(p.server_seg.map + 512), 512), 512);
	assert_int_equal(peer.map[512], 1);
	assert_int_equal(send(pair[0], (void *)peer.map, 512, 0), 512);
	assert_int_equal(recv(pair[1], (void *)(p.server_seg.map + 1024), 512, 0), 512);
	assert_int_equal(peer.map[1024], 1);
	/* Into a peer's there is nothing to write. */
	assert_int_equal(send(pair[0], (void *)peer.map, 512, 0), 512);
	fails(recv(pair[1], (void *)peer.map, 512, 0) < 0 ? -errno : 0, EFAULT);
	close(pair[0]), close(pair[1]), close(fds[0]), close(fds[1]);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

static struct CMUnitTest tests[NR_PINS + 1] = {
	[NR_PINS] = abi_test(test_plain),
};

static void __attribute__((constructor)) fill_tests(void)
{
	size_t i;

	for (i = 0; i < NR_PINS; i++)
		tests[i] = (struct CMUnitTest){ pins[i].name, test_pin, NULL, abi_nothing_left,
						(void *)&pins[i] };
}

abi_main(tests)
