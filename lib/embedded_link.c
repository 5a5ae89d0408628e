// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "embedded_link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <uapi/shmipc.h>

#define SEGMENT_SEALS	(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* Share of the send buffer that grants may fill, so that a BYE always fits. */
#define GRANT_SHARE(buffer)	((buffer) / 4 * 3)

/*
 * A socket that lingers would keep this process in close() until its peer reads. What a file system of the
 * sender's own does there can't be helped: only who may connect gets so far.
 */
void link_close(const int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (fds[i] < 0)
			continue;
		setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &(struct linger){ 0 }, sizeof(struct linger));
		close(fds[i]);
	}
}

static unsigned int wanted_fds(uint16_t type)
{
	switch (type) {
	case LINK_HELLO:
	case LINK_WELCOME:
		return 2;
	case LINK_GRANT:
	case LINK_MOVED:
	case LINK_ADOPT:
	case LINK_CHANGED:
		return 1;
	default:
		return 0;
	}
}

/* Of these a peer may be sent any number that it doesn't read. */
static bool leaves_room(enum link_type type)
{
	return type == LINK_GRANT || type == LINK_PAUSED;
}

static bool room_for_more(int sock)
{
	int queued, buffer;
	socklen_t len = sizeof(buffer);

	if (ioctl(sock, TIOCOUTQ, &queued) ||
	    getsockopt(sock, SOL_SOCKET, SO_SNDBUF, &buffer, &len))
		return true;
	return queued < GRANT_SHARE(buffer);
}

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(LINK_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/* Behind what is there already. */
static void add_control(struct msghdr *msg, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (void *)((char *)msg->msg_control + msg->msg_controllen);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

int link_send(int sock, enum link_type type, uint32_t value, const int *fds, unsigned int nr)
{
	struct link_message message = {
		.magic = LINK_MAGIC,
		.version = LINK_VERSION,
		.type = (uint16_t)type,
		.value = value,
		.nr_fds = nr,
	};
	union control control = { 0 };
	struct iovec iov = { &message, sizeof(message) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };

	if (leaves_room(type) && !room_for_more(sock))
		return -EAGAIN;
	if (nr)
		add_control(&msg, SCM_RIGHTS, fds, nr * sizeof(int));
	if (type == LINK_CHANGED)
		add_control(&msg, SCM_CREDENTIALS,
			    &(struct ucred){ .pid = getpid(), .uid = geteuid(), .gid = getegid() },
			    sizeof(struct ucred));
	if (!msg.msg_controllen)
		msg.msg_control = NULL;
	if (sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

/* Those beyond LINK_FDS, for which there may be room where no credentials came, are closed. */
static unsigned int take_fds(const struct cmsghdr *c, int fds[LINK_FDS])
{
	size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (size_t i = 0; i < nr; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		if (i < LINK_FDS)
			fds[i] = fd;
		else
			link_close(&fd, 1);
	}
	return (unsigned int)nr;
}

static unsigned int take_control(struct msghdr *msg, int fds[LINK_FDS], struct ucred *who)
{
	unsigned int nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			nr = take_fds(c, fds);
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(who, CMSG_DATA(c), sizeof(*who));
	}
	return nr;
}

static int check_message(const struct link_message *m, ssize_t bytes, int flags, unsigned int nr)
{
	if (bytes != sizeof(*m) || (flags & (MSG_TRUNC | MSG_CTRUNC)) || m->magic != LINK_MAGIC)
		return -EBADMSG;
	if (m->version != LINK_VERSION)
		return m->type == LINK_HELLO || m->type == LINK_WELCOME ? -EPROTONOSUPPORT
									: -EBADMSG;
	if (m->type < LINK_HELLO || m->type > LINK_CHANGED)
		return -EBADMSG;
	return nr == wanted_fds(m->type) && nr == m->nr_fds ? 1 : -EBADMSG;
}

int link_receive(int sock, struct link_message *message, int fds[LINK_FDS])
{
	struct ucred who;

	return link_receive_from(sock, message, fds, &who);
}

int link_ask_who(int sock)
{
	return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) ? -errno : 0;
}

int link_receive_from(int sock, struct link_message *message, int fds[LINK_FDS],
		      struct ucred *who)
{
	union control control;
	struct iovec iov = { message, sizeof(*message) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	unsigned int nr;
	ssize_t bytes;
	int ret;

	for (int i = 0; i < LINK_FDS; i++)
		fds[i] = -1;
	*who = (struct ucred){ .uid = SHMIPC_UID_ANY, .gid = SHMIPC_UID_ANY };
	do
		bytes = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	/* RESET is said once, when the peer closed with messages unread; ours are still there. */
	while (bytes < 0 && (errno == EINTR || errno == ECONNRESET));
	if (bytes < 0)
		return -errno;
	nr = take_control(&msg, fds, who);
	/* An empty message and the end look alike; nobody of ours sends empty ones. */
	if (!bytes && !nr)
		return 0;
	ret = check_message(message, bytes, msg.msg_flags, nr);
	if (ret < 0)
		link_close(fds, LINK_FDS);
	for (unsigned int i = 0; ret < 0 && i < LINK_FDS; i++)
		fds[i] = -1;
	return ret;
}

int link_check_segment(int fd, size_t *len)
{
	int seals = fcntl(fd, F_GET_SEALS);
	int flags = fcntl(fd, F_GETFL);
	struct statfs fs;
	struct stat st;

	/* Only memfds have seals; of those, huge pages could end a read with SIGBUS. */
	if (seals < 0 || (seals & SEGMENT_SEALS) != SEGMENT_SEALS)
		return -EBADMSG;
	if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY)
		return -EBADMSG;
	if (fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC || fstat(fd, &st))
		return -EBADMSG;
	if (st.st_size <= 0 || st.st_size % sysconf(_SC_PAGESIZE))
		return -EBADMSG;
	*len = (size_t)st.st_size;
	return 0;
}

int link_make_bell(bool foreign, int *mine, int *theirs)
{
	int pair[2];

	if (!foreign) {
		*mine = *theirs = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		return *mine < 0 ? -errno : 0;
	}
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	*mine = pair[0];
	*theirs = pair[1];
	return 0;
}

static bool is_unix(int fd, int want)
{
	socklen_t len = sizeof(int);
	int domain, type;

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == want;
}

/* What the kernel calls an object that has no path. */
static bool is_anonymous(int fd, const char *want)
{
	char path[32], link[32];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, link, sizeof(link));
	return len >= (ssize_t)strlen(want) && !memcmp(link, want, strlen(want));
}

int link_check_pidfd(int fd)
{
	/* Since Linux 6.9 they have inodes. */
	return is_anonymous(fd, "anon_inode:[pidfd]") || is_anonymous(fd, "pidfd:[") ? 0 : -EBADMSG;
}

int link_check_channel(int fd)
{
	return is_unix(fd, SOCK_SEQPACKET) ? 0 : -EBADMSG;
}

int link_check_bell(int fd, bool foreign, bool *datagram)
{
	*datagram = is_unix(fd, SOCK_DGRAM);
	if (*datagram)
		return 0;
	/* It will be written to: a file that the peer may open but not write must not be smuggled in. */
	return !foreign && is_anonymous(fd, "anon_inode:[eventfd]") ? 0 : -EBADMSG;
}

void link_ring(int bell, bool datagram)
{
	static const uint64_t one = 1;
	ssize_t done;

	/* Full means rung and not heard yet; anything else means that nobody is there to hear. */
	if (datagram)
		done = send(bell, &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		done = write(bell, &one, sizeof(one));
	(void)done;
}

void link_quiet(int bell)
{
	char byte;

	/* More than a queue holds: who never stops ringing gets no thread of ours for it. */
	for (int i = 0; i < 1024 && recv(bell, &byte, sizeof(byte), MSG_DONTWAIT) >= 0; i++)
		;
}
