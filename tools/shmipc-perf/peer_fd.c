// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* peer_fd.c - what is written to and read from a descriptor: Unix sockets, TCP, pipes */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "perf.h"
#include "transport.h"

/* Longer seqpacket messages than a socket's default buffer holds are cut; so is everything. */
#define PIECE	((size_t)128 << 10)
#define VISIT	64

/* Each end's own: [channel][CLIENT] is the client's until attach() has kept what is ours. */
static struct ends {
	int in[2], out[2];
} ends[CHANNELS_MAX];
static int in[CHANNELS_MAX], out[CHANNELS_MAX];
static void *private;
static int listener, poller;

static void put(int fd, const char *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		size_t left = size - done;
		ssize_t n = write(fd, data + done, left < PIECE ? left : PIECE);

		if (n > 0)
			done += n;
		else if (n == 0 || errno != EAGAIN)
			die("write", 0);
	}
}

static bool get(int fd, char *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, data + done, size - done);

		if (n > 0)
			done += n;
		else if (n == 0 || errno != EAGAIN)
			return false;
	}
	return true;
}

static void socketpairs(int type)
{
	for (unsigned int i = 0; i < setup.channels; i++) {
		int fds[2];

		if (socketpair(AF_UNIX, type, 0, fds))
			die("socketpair", 0);
		ends[i] = (struct ends){ { fds[0], fds[1] }, { fds[0], fds[1] } };
	}
}

static void listen_on(int family, const struct sockaddr *address, socklen_t len)
{
	listener = socket(family, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, address, len) || listen(listener, SOMAXCONN))
		die("listen", 0);
}

static struct sockaddr_un unix_address;
static socklen_t unix_len;

static void unix_make(void)
{
	int n;

	socketpairs(SOCK_STREAM);
	/* Abstract: nothing to unlink. */
	unix_address.sun_family = AF_UNIX;
	n = snprintf(unix_address.sun_path + 1, sizeof(unix_address.sun_path) - 1,
		     "shmipc-perf/%d", getpid());
	unix_len = offsetof(struct sockaddr_un, sun_path) + 1 + n;
	listen_on(AF_UNIX, (struct sockaddr *)&unix_address, unix_len);
}

static void seqpacket_make(void)
{
	socketpairs(SOCK_SEQPACKET);
}

static struct sockaddr_in tcp_address;

static int tcp_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    connect(fd, (struct sockaddr *)&tcp_address, sizeof(tcp_address)))
		die("connect", 0);
	return fd;
}

static int take_connection(void)
{
	int fd = accept(listener, NULL, NULL), one = 1;

	if (fd < 0)
		die("accept", 0);
	/* A Unix socket refuses that, and does not need it. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void tcp_make(void)
{
	socklen_t len = sizeof(tcp_address);

	tcp_address = (struct sockaddr_in){ .sin_family = AF_INET,
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	listen_on(AF_INET, (struct sockaddr *)&tcp_address, len);
	if (getsockname(listener, (struct sockaddr *)&tcp_address, &len))
		die("getsockname", 0);
	for (unsigned int i = 0; i < setup.channels; i++) {
		int client = tcp_connect(), server = take_connection();

		ends[i] = (struct ends){ { client, server }, { client, server } };
	}
}

static void pipe_make(void)
{
	int there[2], back[2];

	if (pipe(there) || pipe(back))
		die("pipe", 0);
	ends[0] = (struct ends){ { back[0], there[0] }, { there[1], back[1] } };
}

static void fd_attach(enum end end)
{
	size_t most = setup.size > setup.reply ? setup.size : setup.reply;

	private = aligned_alloc(4096, (most + 4095) / 4096 * 4096);
	if (!private)
		die("attach", 0);
	for (unsigned int i = 0; i < setup.channels; i++) {
		in[i] = ends[i].in[end];
		out[i] = ends[i].out[end];
		/* The other's must go, or the end of its process is not seen. */
		close(ends[i].in[!end]);
		if (ends[i].out[!end] != ends[i].in[!end])
			close(ends[i].out[!end]);
		if (setup.spin && (fcntl(in[i], F_SETFL, O_NONBLOCK) ||
				   fcntl(out[i], F_SETFL, O_NONBLOCK)))
			die("fcntl", 0);
	}
}

static void *fd_reserve(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	return private;
}

static void fd_commit(unsigned int channel, size_t size, bool answered)
{
	(void)answered;
	put(out[channel], private, size);
}

static const void *fd_receive(unsigned int channel, size_t size)
{
	return get(in[channel], private, size) ? private : NULL;
}

static void fd_release(unsigned int channel)
{
	(void)channel;
}

/* Not before it is asked for: a socket in an epoll makes more work when it is written to. */
static void make_poller(void)
{
	poller = epoll_create1(0);
	if (poller < 0)
		die("epoll", 0);
	for (unsigned int i = 0; i < setup.channels; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		if (epoll_ctl(poller, EPOLL_CTL_ADD, in[i], &event))
			die("epoll", 0);
	}
}

static unsigned int fd_ready(unsigned int *channels, unsigned int max)
{
	struct epoll_event events[64];
	int n;

	if (!poller)
		make_poller();
	n = epoll_wait(poller, events, max < 64 ? max : 64, -1);
	if (n < 0)
		die("epoll", 0);
	for (int i = 0; i < n; i++)
		channels[i] = events[i].data.u32;
	return n;
}

static void fd_serve(void)
{
	char data[VISIT];

	for (;;) {
		int fd = take_connection();

		if (get(fd, data, sizeof(data)))
			put(fd, data, sizeof(data));
		close(fd);
	}
}

static void visit(int fd, uint64_t word)
{
	uint64_t data[VISIT / sizeof(uint64_t)] = { word };

	put(fd, (char *)data, sizeof(data));
	data[0] = 0;
	if (!get(fd, (char *)data, sizeof(data)) || data[0] != word)
		die("visit", 0);
	close(fd);
}

static void unix_visit(uint64_t word)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&unix_address, unix_len))
		die("connect", 0);
	visit(fd, word);
}

static void tcp_visit(uint64_t word)
{
	visit(tcp_connect(), word);
}

#define FD_OPS								\
	.attach = fd_attach, .reserve = fd_reserve, .commit = fd_commit,	\
	.receive = fd_receive, .release = fd_release

const struct transport peer_unix = {
	.name = "unix",
	.flags = ECHOES | STREAMS | SPINS | SLEEPS | BUFFERS,
	.make = unix_make,
	FD_OPS,
	.ready = fd_ready,
	.serve = fd_serve,
	.visit = unix_visit,
};

const struct transport peer_seqpacket = {
	.name = "seqpacket",
	.flags = ECHOES | STREAMS | SPINS | SLEEPS,
	.make = seqpacket_make,
	FD_OPS,
};

const struct transport peer_tcp = {
	.name = "tcp", .flags = ECHOES | STREAMS | SPINS | SLEEPS, .make = tcp_make, FD_OPS,
	.ready = fd_ready, .serve = fd_serve, .visit = tcp_visit,
};

const struct transport peer_pipe = {
	.name = "pipe", .flags = ECHOES | STREAMS | SPINS | SLEEPS, .make = pipe_make, FD_OPS,
};
