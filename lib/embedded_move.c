// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "embedded_move.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "embedded.h"

#define RETRY_NS	((int64_t)1000000)

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(MOVE_FDS * sizeof(int))];
};

/* -ETIMEDOUT once @until has passed. */
static int wait_for(int sock, short events, int64_t until)
{
	int64_t left = until - now_ns();
	struct timespec ts = { left / 1000000000, left % 1000000000 };
	struct pollfd ready = { .fd = sock, .events = events };

	if (left <= 0)
		return -ETIMEDOUT;
	return ppoll(&ready, 1, &ts, NULL) < 0 && errno != EINTR ? -errno : 0;
}

static void add_fds(struct msghdr *msg, union control *control, struct move *move,
		    const int fds[MOVE_FDS])
{
	int present[MOVE_FDS];
	size_t nr = 0;

	move->fds = 0;
	for (unsigned int i = 0; fds && i < MOVE_FDS; i++) {
		if (fds[i] < 0)
			continue;
		present[nr++] = fds[i];
		move->fds |= 1U << i;
	}
	if (!nr)
		return;
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(nr * sizeof(int));
	control->header.cmsg_level = SOL_SOCKET;
	control->header.cmsg_type = SCM_RIGHTS;
	control->header.cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(&control->header), present, nr * sizeof(int));
}

int move_send(int sock, struct move *move, const int fds[MOVE_FDS], int64_t until)
{
	struct iovec iov = { move, sizeof(*move) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { 0 };
	int err = 0;

	move->magic = MOVE_MAGIC;
	move->version = MOVE_VERSION;
	add_fds(&msg, &control, move, fds);
	while (!err && sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN)
			err = wait_for(sock, POLLOUT, until);
		/* As many as this user may have are under way; no event tells when that changes. */
		else if (errno == ETOOMANYREFS && now_ns() < until)
			wait_for(-1, 0, now_ns() + RETRY_NS);
		else if (errno != EINTR)
			err = errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
	}
	return err;
}

void move_close(const int fds[MOVE_FDS])
{
	for (unsigned int i = 0; i < MOVE_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Each to the place that the message says. -EBADMSG: not as many as it says. */
static int take_fds(struct msghdr *msg, uint32_t mask, int fds[MOVE_FDS])
{
	unsigned int at = 0;
	int fd, err = mask >> MOVE_FDS ? -EBADMSG : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			while (at < MOVE_FDS && !(mask & 1U << at))
				at++;
			if (at < MOVE_FDS) {
				fds[at++] = fd;
				continue;
			}
			close(fd);
			err = -EBADMSG;
		}
	}
	for (; at < MOVE_FDS; at++)
		if (mask & 1U << at)
			err = -EBADMSG;
	return err;
}

int move_receive(int sock, struct move *move, int fds[MOVE_FDS], int64_t until)
{
	struct iovec iov = { move, sizeof(*move) };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t bytes;
	int err = 0;

	for (unsigned int i = 0; i < MOVE_FDS; i++)
		fds[i] = -1;
	do {
		bytes = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (bytes < 0 && errno == EAGAIN)
			err = wait_for(sock, POLLIN, until);
		else if (bytes < 0 && errno != EINTR && errno != ECONNRESET)
			err = -errno;
	} while (bytes < 0 && !err);
	if (err)
		return err;
	/* The end, or an empty message, with which nothing may come. */
	if (!bytes) {
		take_fds(&msg, 0, fds);
		return -EPIPE;
	}
	if (bytes != sizeof(*move))
		move->fds = 0;
	err = take_fds(&msg, move->fds, fds);
	if (err || bytes != sizeof(*move) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    move->magic != MOVE_MAGIC || move->version != MOVE_VERSION) {
		move_close(fds);
		return msg.msg_flags & MSG_CTRUNC ? -EMFILE : -EBADMSG;
	}
	if (move->type != MOVE_REFUSE)
		return 0;
	move_close(fds);
	return move->error < 0 && move->error >= -4095 ? move->error : -EBADMSG;
}
