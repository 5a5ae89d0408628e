// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The connecting side of the embedded provider. Holds no lock while it waits. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "embedded.h"
#include "error.h"
#include "provider_error.h"

/* A socket connected to the listener's, or -errno as the caller shall see it. */
int embedded_dial(const char *name)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, NAME_LISTENER, name);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	do
		err = connect(fd, (struct sockaddr *)&address, len) ? -errno : 0;
	while (err == -EINTR);
	if (!err)
		return fd;
	close(fd);
	/* Of an abstract name "refused" says that nobody has it. */
	if (err == -ECONNREFUSED)
		return name_marked(NAME_KERNEL, name) ? -EPROTONOSUPPORT : -ENOENT;
	return err;
}

static int explain(int err, const char *name)
{
	if (err == -EPROTONOSUPPORT)
		return error_set(
			err,
			"\"%s\" is served by the kernel provider or another version: "
			"load the module here as well, or use SHMIPC_PROVIDER=embedded there",
			name);
	return provider_connect_error(err, name);
}

/* Anybody can take an abstract name, so that a reserved one is believed only of its owner. */
static int check_server(const struct pv_connect *connect, const struct ucred *server)
{
	uint32_t uid;

	if (connect->check_uid && server->uid != connect->expect_uid)
		return -EACCES;
	return name_reserved(connect->name, &uid) && server->uid != uid ? -EACCES : 0;
}

static int start(const struct pv_connect *connect, struct session **out)
{
	int sock = embedded_dial(connect->name), err;
	struct ucred server;
	socklen_t len = sizeof(server);

	if (sock < 0)
		return sock;
	err = getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &server, &len) ? -errno :
	      check_server(connect, &server);
	if (err) {
		close(sock);
		return err;
	}
	*out = session_new(sock, &server, &err);
	if (!*out)
		return err == -ESRCH ? -ECONNREFUSED : err;
	(*out)->state = SESSION_LIVE;
	if (connect->check_uid)
		(*out)->expect_uid = connect->expect_uid;
	(*out)->object.cookie = connect->cookie;
	return 0;
}

static int say_hello(const struct embedded *e, struct session *session, const struct segment *segment)
{
	int fds[LINK_FDS] = { segment->fd, -1 };
	int err = link_make_bell(session->foreign, &session->bell_in, &fds[1]);

	if (err)
		return err;
	session->datagram_in = session->foreign;
	session->bytes_out = segment->len;
	err = segment_given(session, segment, 0);
	if (!err)
		err = link_send(session->link.fd, LINK_HELLO, e->handovers, fds, LINK_FDS);
	if (session->foreign)
		close(fds[1]);
	/* It closed already; what it said before, why, is still to be heard. */
	return err == -EPIPE ? 0 : err;
}

/* What an acceptor may answer; anything else would be a lie of its own making. */
static int refusal(uint32_t value)
{
	static const int may[] = { EACCES, EDQUOT, EAGAIN, EPROTONOSUPPORT, ETIMEDOUT, EBADMSG };

	for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++)
		if (value == (uint32_t)may[i])
			return -may[i];
	return -ECONNREFUSED;
}

/* Returns 1 when nothing came yet; else the verdict: 0 for WELCOME, -EAGAIN for a full backlog. */
static int hear_answer(struct embedded *e, struct session *session)
{
	struct link_message message = { 0 };
	struct ucred who;
	int fds[LINK_FDS];
	int ret = link_receive_from(session->link.fd, &message, fds, &who);

	if (!ret)
		return -ECONNREFUSED;
	if (ret < 0)
		return ret == -EAGAIN ? 1 : ret;
	if (message.type == LINK_WELCOME) {
		lock(&e->lock);
		ret = session_take_hello_locked(e, session, &message, fds);
		unlock(&e->lock);
		return ret;
	}
	/* Who listened has a successor, which will answer, and tells how often it was handed over then. */
	ret = -EBADMSG;
	if (message.type == LINK_MOVED)
		ret = session_moved(session, fds[0]);
	if (message.type == LINK_CHANGED)
		ret = session_changed(session, &who, fds[0]);
	if (!ret)
		return 1;
	link_close(fds, LINK_FDS);
	return message.type == LINK_REFUSE ? refusal(message.value) : ret;
}

static int wait_answer(struct embedded *e, struct session *session, int64_t timeout_ns)
{
	int64_t deadline = timeout_ns < 0 ? 0 : deadline_after(timeout_ns);
	struct pollfd fds[2] = {
		{ .fd = session->link.fd, .events = POLLIN },
		{ .fd = session->pidfd, .events = POLLIN },	/* -1 is skipped */
	};

	for (;;) {
		int64_t left = timeout_ns < 0 ? 0 : deadline - now_ns();
		struct timespec ts = { left / 1000000000, left % 1000000000 };
		/* Seen before the last answer is taken, so that an answer before death counts. */
		bool died = fds[1].revents;
		int err = hear_answer(e, session);

		if (err <= 0)
			return err;
		if (died && fds[1].fd == session->pidfd)
			return -ECONNREFUSED;
		fds[1].fd = session->pidfd;
		if (left < 0 || (!left && timeout_ns >= 0))
			return -ETIMEDOUT;
		if (ppoll(fds, 2, timeout_ns < 0 ? NULL : &ts, NULL) < 0 && errno != EINTR)
			return -errno;
	}
}

static int add_session(struct embedded *e, struct session *session, uint32_t *handle,
		       struct shmipc_peer *peer)
{
	int err;

	lock(&e->lock);
	err = session_add_locked(e, session);
	if (!err) {
		*handle = session->object.handle;
		*peer = session->now;
	}
	unlock(&e->lock);
	return err;
}

int embedded_connect(struct provider *pv, const struct pv_connect *connect, uint32_t *session,
		     struct shmipc_peer *peer)
{
	struct embedded *e = embedded(pv);
	struct session *s = NULL;
	struct segment *own;
	int err;

	err = provider_check_name(connect->name);
	if (err)
		return err;
	own = segment_get(e, connect->segment->handle);
	if (!own)
		return error_set(-ENOENT, "the segment to connect with is not this endpoint's");
	err = start(connect, &s);
	if (!err)
		err = say_hello(e, s, own);
	object_put(&own->object);
	if (!err)
		err = wait_answer(e, s, connect->timeout_ns);
	if (!err)
		err = add_session(e, s, session, peer);
	if (!err)
		return 0;
	if (s) {
		/* If the other side accepted just now, it was closed and did not die. */
		link_send(s->link.fd, LINK_BYE, 0, NULL, 0);
		session_free(s);
	}
	return explain(err, connect->name);
}
