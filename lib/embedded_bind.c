// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Taking a name for a listener of the embedded provider. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "embedded.h"
#include "error.h"
#include "log.h"
#include "provider_error.h"

#define LEFT_OVER_MS	200

static int open_socket(const char *name, unsigned int backlog)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, NAME_LISTENER, name);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&address, len) && !listen(fd, (int)backlog))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Is who listens there dead, and the socket only a copy in a child of his? */
static bool is_left_over(const char *name)
{
	struct sockaddr_un address;
	socklen_t len = name_address(&address, NAME_LISTENER, name), size;
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), pidfd = -1;
	struct pollfd end = { .events = POLLIN };
	struct ucred owner;
	bool dead = false;

	if (sock < 0)
		return false;
	size = sizeof(owner);
	if (connect(sock, (struct sockaddr *)&address, len))
		dead = errno == ECONNREFUSED;	/* gone meanwhile */
	else if (!getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &owner, &size))
		dead = session_pidfd(sock, owner.pid, &pidfd) == -ESRCH;
	end.fd = pidfd;
	if (pidfd >= 0) {
		dead = poll(&end, 1, 0) == 1;
		close(pidfd);
	}
	close(sock);
	return dead;
}

/*
 * A child that was forked just before its parent was killed closes its copy when it first runs:
 * that is worth a moment, so that a restarted server does not stumble over it.
 */
static int claim_socket(const char *name, unsigned int backlog)
{
	int sock = open_socket(name, backlog);

	for (int i = 0; i < LEFT_OVER_MS && sock == -EADDRINUSE && is_left_over(name); i++) {
		usleep(1000);
		sock = open_socket(name, backlog);
	}
	return sock;
}

static int check_bind(const struct pv_bind *bind)
{
	uint32_t uid;
	int err = provider_check_name(bind->name);

	if (err)
		return err;
	if (bind->orphan_ms)
		return error_set(-EOPNOTSUPP, "orphan_ms needs the shmipc module, which keeps what a "
				 "program leaves that dies: load it, and use SHMIPC_PROVIDER=kernel");
	if (bind->backlog < 1 || bind->backlog > SHMIPC_BACKLOG_MAX)
		return error_set(-EINVAL, "a backlog is 1 to %d", SHMIPC_BACKLOG_MAX);
	if (!name_reserved(bind->name, &uid))
		return name_marked(NAME_KERNEL, bind->name)
			       ? error_set(-EADDRINUSE,
					   "a listener that uses the kernel provider has the name "
					   "\"%s\": stop it, or choose another name",
					   bind->name)
			       : 0;
	if (uid != geteuid())
		return provider_bind_error(-EACCES, bind->name);
	return 0;
}

static struct listener *new_listener(const struct pv_bind *bind, int sock)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int marker;

	if (!listener)
		return NULL;
	list_init(&listener->guests);
	list_init(&listener->object.ready);
	listener->object.cookie = bind->cookie;
	listener->mode = bind->mode;
	listener->uid = geteuid();
	listener->gid = getegid();
	listener->backlog = bind->backlog;
	listener->max_per_uid = bind->max_per_uid ? bind->max_per_uid : 64;
	snprintf(listener->name, sizeof(listener->name), "%s", bind->name);
	/* It only makes a message better; anybody could squat on it. */
	marker = name_mark(NAME_EMBEDDED, bind->name);
	if (marker < 0)
		log_warn("clients of \"%s\" will not be told to use the embedded provider",
			 bind->name);
	if (!held_init(&listener->marker, marker < 0 ? -1 : marker) &&
	    !held_init(&listener->socket, sock))
		return listener;
	held_close(&listener->marker);
	free(listener);
	return NULL;
}

static int add_listener(struct embedded *e, struct listener *listener)
{
	int err;

	lock(&e->lock);
	err = object_add_locked(e, &listener->object, OBJECT_LISTENER);
	if (!err) {
		err = watch_add(e, listener->socket.fd, listener->object.handle, WATCH_LISTENER);
		if (err) {
			atomic_fetch_add_explicit(&listener->object.refs, 1, memory_order_relaxed);
			object_remove_locked(e, &listener->object);
		}
	}
	unlock(&e->lock);
	return err;
}

int embedded_bind(struct provider *pv, const struct pv_bind *bind, uint32_t *listener)
{
	struct listener *l;
	int sock, err;

	err = check_bind(bind);
	if (err)
		return err;
	sock = claim_socket(bind->name, bind->backlog);
	if (sock < 0)
		return provider_bind_error(sock, bind->name);
	l = new_listener(bind, sock);
	if (!l) {
		close(sock);
		return provider_bind_error(-ENOMEM, bind->name);
	}
	err = add_listener(embedded(pv), l);
	if (err) {
		listener_free(l);
		return provider_bind_error(err, bind->name);
	}
	*listener = l->object.handle;
	return 0;
}
